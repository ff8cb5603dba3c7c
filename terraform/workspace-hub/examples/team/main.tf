# For a team: its whole organisation, administrators, a domain of its own behind Identity-Aware
# Proxy, and alerts by e-mail.

module "hub" {
  source = "../.."

  project_id = var.project_id
  region     = "europe-west1"
  name       = "team"

  access = {
    admins  = ["ada@example.com"]
    domains = ["example.com"]
  }
  domain          = "hub.example.com"
  connect_members = ["domain:example.com"]
  iap_members     = ["domain:example.com"]

  machine_types = ["e2-standard-4", "e2-standard-8", "n2-standard-16"]
  min_instances = 1
  settings = {
    HUB_HEALTH_COMMAND    = "test -x /usr/bin/git"
    HUB_IDLE_SECONDS      = "7200"
    HUB_LIMITS_OF         = "ada@example.com=10:10"
    HUB_SPOT              = "true"
    HUB_MAX_RUN_SECONDS   = "172800"
    HUB_HOME_DISK_GB      = "100"
    HUB_DEFAULT_IMAGE_TAG = "stable"
  }

  alert_channels = [google_monitoring_notification_channel.email.id]
}

resource "google_monitoring_notification_channel" "email" {
  project      = var.project_id
  display_name = "Workspace Hub"
  type         = "email"
  labels       = { email_address = "ada@example.com" }
}

variable "project_id" {
  description = "The project that the Hub is in."
  type        = string
}

output "hub" {
  description = "All outputs of the module."
  value       = module.hub
}
