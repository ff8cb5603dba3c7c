locals {
  image_repository = "${var.region}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.workspaces.repository_id}/${var.image}"
  image_source     = "${path.module}/../../images/workspace" # not absolute: the same in every clone
  image_tag        = coalesce(lookup(var.settings, "HUB_DEFAULT_IMAGE_TAG", ""), "latest")
}

# The workspaces' images. An image without a tag is deleted after a month, except the latest ten,
# which somebody may name by digest.
resource "google_artifact_registry_repository" "workspaces" {
  #checkov:skip=CKV_GCP_84:Images are encrypted with Google's own keys.
  project       = var.project_id
  location      = var.region
  repository_id = "${var.name}-workspaces"
  description   = "Container images of the workspaces of Workspace Hub ${var.name}"
  format        = "DOCKER"

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"

    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete-untagged"
    action = "DELETE"

    condition {
      tag_state  = "UNTAGGED"
      older_than = "2592000s"
    }
  }

  depends_on = [time_sleep.services]
}

# The images that Cloud Build makes. Cloud Run keeps its own copies of the images that run.
resource "google_artifact_registry_repository" "functions" {
  #checkov:skip=CKV_GCP_84:Images are encrypted with Google's own keys.
  project       = var.project_id
  location      = var.region
  repository_id = "${var.name}-functions"
  description   = "Built functions of Workspace Hub ${var.name}"
  format        = "DOCKER"

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"

    most_recent_versions {
      keep_count = 5
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"

    condition {
      older_than = "2592000s"
    }
  }

  depends_on = [time_sleep.services]
}
