locals {
  apis = toset(concat(
    [
      "artifactregistry", "cloudbuild", "cloudfunctions", "cloudscheduler", "cloudtasks", "compute", "firestore", "iam", "logging",
      "monitoring", "oslogin", "pubsub", "run", "storage",
    ],
    var.domain == null ? ["apigateway", "servicecontrol", "servicemanagement"] : ["iap"],
  ))
}

resource "google_project_service" "this" {
  for_each = local.apis

  project            = var.project_id
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false # others in the project may use it
}

# Google makes a service's own account when it is first used; here it is made in time to be given its rights.
resource "google_project_service_identity" "pubsub" {
  provider = google-beta

  project = var.project_id
  service = google_project_service.this["pubsub"].service
}
