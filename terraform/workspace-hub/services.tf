locals {
  apis = toset(concat(
    [
      "artifactregistry", "cloudbuild", "cloudfunctions", "cloudresourcemanager", "cloudscheduler", "cloudtasks", "compute",
      "firestore", "iam", "iap", "logging", "monitoring", "oslogin", "pubsub", "run", "storage", # iap: SSH goes through it
    ],
    var.domain == null ? ["apigateway", "servicecontrol", "servicemanagement"] : [],
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

# As whom Identity-Aware Proxy calls Cloud Run; where it was never made, IAP refuses every request.
resource "google_project_service_identity" "iap" {
  count    = var.domain == null ? 0 : 1
  provider = google-beta

  project = var.project_id
  service = google_project_service.this["iap"].service
}
