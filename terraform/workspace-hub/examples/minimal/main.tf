module "hub" {
  source = "../.."

  project_id = var.project_id
  region     = "us-central1"
  access     = { emails = [var.email] }
  audiences  = ["32555940559.apps.googleusercontent.com"] # of gcloud auth print-identity-token

  connect_members = ["user:${var.email}"]
}

variable "email" { type = string }
variable "project_id" { type = string }

output "address" { value = module.hub.address }
output "build_image" { value = module.hub.build_image }
output "list_workspaces" { value = module.hub.list_workspaces }
