# What all files use: the catalogue of functions, names, and the ids that the project gives.

data "google_project" "this" {
  project_id = var.project_id

  depends_on = [google_project_service.this]
}

data "google_compute_zones" "of_region" {
  count = var.zones == null ? 1 : 0

  project = var.project_id
  region  = var.region

  depends_on = [google_project_service.this]
}

# Marks this Hub's machines and disks. It is never changed: another id would make strangers of them.
resource "random_id" "installation" {
  byte_length = 3
}

locals {
  root      = abspath("${path.module}/../..") # of the repository
  catalogue = yamldecode(file("${local.root}/functions/catalogue.yaml"))
  functions = local.catalogue.functions

  installation = "${var.name}-${random_id.installation.hex}"
  number       = data.google_project.this.number
  zones        = var.zones == null ? data.google_compute_zones.of_region[0].names : var.zones

  # Cloud Run's deterministic addresses: known before the functions are there, so that they can know each other.
  services = { for name, _ in local.functions : name => "${var.name}-${replace(name, "_", "-")}" }
  urls     = { for name, service in local.services : name => "https://${service}-${local.number}.${var.region}.run.app" }

  # The functions that people reach at the public address: those in functions/api.
  public = { for name, function in local.functions : name => function if startswith(function.source, "functions/api/") }
}
