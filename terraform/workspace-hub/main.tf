# What all files use: the catalogue of functions, names, and the ids that the project gives.

# No data source has depends_on: with it, any change of a dependency would put off the reading to the apply, and everything that is
# made of it would be "known after apply" in that plan. A value that is not known yet does so only until it is known.

data "google_project" "this" {
  project_id = var.project_id # the service that it is read from is enabled before the first plan: README's step 1
}

data "google_compute_zones" "of_region" {
  count = var.zones == null ? 1 : 0

  project = google_project_service.this["compute"].id == "" ? null : var.project_id # once the service is enabled
  region  = var.region
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
