# What all files use: the catalogue of functions, names, and the ids that the project gives.

# No data source has depends_on. With it, any change of a dependency would defer the read to the
# apply, and everything made from it would be "known after apply" in that plan. A reference to a
# value that is not known yet defers the read only until the value is known.

data "google_project" "this" {
  project_id = var.project_id # step 1 of README.md enables the service that this is read from
}

data "google_compute_zones" "of_region" {
  count = var.zones == null ? 1 : 0

  # Read once the service is enabled.
  project = google_project_service.this["compute"].id == "" ? null : var.project_id
  region  = var.region
}

# Marks this Hub's machines and disks. Never change it: with another id, the Hub would not recognise
# them.
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

  # Cloud Run's deterministic addresses are known before the functions exist, so functions can be
  # told each other's addresses.
  services = { for name, _ in local.functions : name => "${var.name}-${replace(name, "_", "-")}" }
  urls     = { for name, service in local.services : name => "https://${service}-${local.number}.${var.region}.run.app" }

  # The functions that people reach at the public address: those in functions/api.
  public = { for name, function in local.functions : name => function if startswith(function.source, "functions/api/") }
}
