# The machines' own network: no way in except through IAP, no public addresses, and a way out
# through NAT. It is not made if var.network names one.

locals {
  own_network = var.network == null ? 1 : 0
  network     = var.network == null ? google_compute_network.this[0].id : var.network.network
  subnetwork  = var.network == null ? google_compute_subnetwork.this[0].id : var.network.subnetwork

  machine_tag = "workspace-hub" # the same as in shared/adapters/compute_instance.py
}

resource "google_compute_network" "this" {
  count = local.own_network

  project                 = var.project_id
  name                    = "${var.name}-workspaces"
  auto_create_subnetworks = false

  depends_on = [time_sleep.services]
}

resource "google_compute_subnetwork" "this" {
  #checkov:skip=CKV_GCP_26:Flow logs cost money for each connection, and show who works when.
  #checkov:skip=CKV_GCP_76:The network has no IPv6.
  count = local.own_network

  project = var.project_id
  region  = var.region
  name    = "${var.name}-workspaces"
  network = google_compute_network.this[0].id
  # A wider range with the same beginning is a change in place.
  ip_cidr_range            = var.subnet_range
  private_ip_google_access = true
}

resource "google_compute_router" "this" {
  count = local.own_network

  project = var.project_id
  region  = var.region
  name    = "${var.name}-workspaces"
  network = google_compute_network.this[0].id
}

resource "google_compute_router_nat" "this" {
  count = local.own_network

  project                            = var.project_id
  region                             = var.region
  router                             = google_compute_router.this[0].name
  name                               = "${var.name}-workspaces"
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"

  # A package manager opens hundreds of connections to one address, and by default a machine has
  # only 64 fixed ports. Here a machine gets more ports as it needs them. The minimum decides how
  # many machines share one address: 64,512 / 256 = 252. Both numbers must be powers of two, and
  # endpoint-independent mapping must be off. Source: Cloud NAT's "IP addresses and ports".
  enable_dynamic_port_allocation      = true
  enable_endpoint_independent_mapping = false
  max_ports_per_vm                    = 16384
  min_ports_per_vm                    = 256

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}

resource "google_compute_firewall" "iap" {
  count = local.own_network

  project       = var.project_id
  name          = "${var.name}-workspaces-iap"
  network       = google_compute_network.this[0].id
  description   = "SSH through Identity-Aware Proxy's TCP forwarding, and nothing else"
  direction     = "INGRESS"
  source_ranges = ["35.235.240.0/20"] # source: IAP's documentation of TCP forwarding
  target_tags   = [local.machine_tag]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
