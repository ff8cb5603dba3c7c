# The source of all functions: one archive of exactly the files that the catalogue lists. The local
# cloud runs the same files.

locals {
  shipped = toset(flatten([for pattern in local.catalogue.ship : fileset(local.root, pattern)]))
}

data "archive_file" "source" {
  type        = "zip"
  output_path = "${path.root}/.terraform/${var.name}-source.zip"

  dynamic "source" {
    for_each = local.shipped

    content {
      content  = file("${local.root}/${source.value}")
      filename = source.value
    }
  }
}

resource "google_storage_bucket" "source" {
  #checkov:skip=CKV_GCP_62:Only the build reads the bucket, so access logs would only log builds.
  #checkov:skip=CKV_GCP_78:An object's name is its hash, so no object has versions.
  project                     = var.project_id
  name                        = "${var.project_id}-${local.installation}-source"
  location                    = var.region
  force_destroy               = true # everything in it can be made again
  public_access_prevention    = "enforced"
  uniform_bucket_level_access = true

  depends_on = [time_sleep.services]
}

resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  # Another content makes another object, and a deployment.
  name   = "source-${data.archive_file.source.output_sha256}.zip"
  source = data.archive_file.source.output_path
}
