# The machines' own network: no way in but IAP's, no public addresses, a way out through NAT. Not made where var.network names one.

locals {
  own_network = var.network == null ? 1 : 0
  network     = var.network == null ? google_compute_network.this[0].id : var.network.network
  subnetwork  = var.network == null ? google_compute_subnetwork.this[0].id : var.network.subnetwork

  machine_tag = "workspace-hub" # as shared/adapters/compute_instance.py has it
}

resource "google_compute_network" "this" {
  count = local.own_network

  project                 = var.project_id
  name                    = "${var.name}-workspaces"
  auto_create_subnetworks = false

  depends_on = [time_sleep.services]
}

resource "google_compute_subnetwork" "this" {
  #checkov:skip=CKV_GCP_26:Flow logs cost by the connection and tell who works when.
  #checkov:skip=CKV_GCP_76:The network has no IPv6.
  count = local.own_network

  project                  = var.project_id
  region                   = var.region
  name                     = "${var.name}-workspaces"
  network                  = google_compute_network.this[0].id
  ip_cidr_range            = var.subnet_range # wider at the same beginning is a change in place
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

  # A package manager opens hundreds of connections to one address, and 64 fixed ports were all that a machine had. A machine gets
  # more as it needs them; the least it has is what an address is shared by: 64,512 / 256 = 252 machines.
  # Source: Cloud NAT's "IP addresses and ports"; powers of two, and not together with endpoint-independent mapping.
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
