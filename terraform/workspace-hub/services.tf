locals {
  apis = toset(concat(
    [
      "artifactregistry", "cloudbuild", "cloudfunctions", "cloudresourcemanager", "cloudscheduler", "cloudtasks", "compute",
      # SSH goes through iap.
      "firestore", "iam", "iap", "logging", "monitoring", "oslogin", "pubsub", "run", "storage",
    ],
    var.domain == null ? ["apigateway", "servicecontrol", "servicemanagement"] : [],
  ))
}

resource "google_project_service" "this" {
  for_each = local.apis

  project            = var.project_id
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false # others in the project may use the service
}

# A change takes a minute to reach all of Google Cloud: until then, requests that use a new service,
# account or right may be refused. Each wait happens once, and again when what it waits for changes.
# Source of the 60 s: the provider's own example of google_cloudfunctions2_function, half of whose
# runs without a wait failed.

resource "time_sleep" "services" {
  create_duration = "60s"
  triggers        = { services = join(" ", sort([for service in google_project_service.this : service.service])) }
}

resource "time_sleep" "identities" {
  create_duration = "60s"
  triggers = {
    identities = join(" ", sort(concat(
      [for account in google_service_account.group : account.id],
      [for account in google_service_account.invoker : account.id],
      [
        google_project_service_identity.pubsub.id,
        google_service_account.build.id,
        google_service_account.image.id,
        google_service_account.machine.id,
      ],
      google_project_service_identity.iap[*].id,
    )))
  }
}

# The build fails if one of its rights is missing.
resource "time_sleep" "rights" {
  create_duration = "60s"
  triggers = {
    rights = join(" ", sort(concat(
      [for binding in google_project_iam_member.build : binding.id],
      [
        google_artifact_registry_repository_iam_member.build.id,
        google_project_iam_member.build_source.id,
        google_storage_bucket_iam_member.build.id,
      ],
    )))
  }
}

# Google makes a service's own account at first use. It is made here, in time to get its rights.
resource "google_project_service_identity" "pubsub" {
  provider = google-beta

  project = var.project_id
  service = google_project_service.this["pubsub"].service

  depends_on = [time_sleep.services]
}

# The account that Identity-Aware Proxy calls Cloud Run with. Without it, the proxy refuses every
# request.
resource "google_project_service_identity" "iap" {
  count    = var.domain == null ? 0 : 1
  provider = google-beta

  project = var.project_id
  service = google_project_service.this["iap"].service

  depends_on = [time_sleep.services]
}
