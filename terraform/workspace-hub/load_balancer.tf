# The public address with a domain: an external load balancer, with Identity-Aware Proxy in front of
# every function for people but the one that says how to sign in.

locals {
  balanced = { for name, function in local.public : name => function if var.domain != null }
  balancer = var.domain == null ? 0 : 1
  proxied  = { for name, function in local.balanced : name => function if !lookup(function, "without_proxy", false) }
}

resource "google_compute_global_address" "this" {
  count = local.balancer

  project = var.project_id
  name    = local.installation

  depends_on = [time_sleep.services]
}

resource "google_compute_managed_ssl_certificate" "this" {
  count = local.balancer

  project = var.project_id
  # Another domain needs another certificate.
  name = "${local.installation}-${substr(sha256(var.domain), 0, 8)}"

  managed {
    domains = [var.domain]
  }

  lifecycle {
    create_before_destroy = true # the proxy keeps the old one until the new one exists
  }

  depends_on = [time_sleep.services]
}

resource "google_compute_region_network_endpoint_group" "this" {
  for_each = local.balanced

  project               = var.project_id
  region                = var.region
  name                  = "${local.installation}-${replace(each.key, "_", "-")}"
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = local.services[each.key]
  }

  depends_on = [time_sleep.services]
}

resource "google_compute_backend_service" "this" {
  for_each = local.balanced

  project               = var.project_id
  name                  = "${local.installation}-${replace(each.key, "_", "-")}"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"

  backend {
    group = google_compute_region_network_endpoint_group.this[each.key].id
  }

  iap {
    enabled = contains(keys(local.proxied), each.key)
  }

  log_config {
    enable      = true
    sample_rate = 1
  }

  depends_on = [time_sleep.identities]
}

resource "google_iap_web_backend_service_iam_member" "this" {
  for_each = {
    for pair in setproduct(keys(local.proxied), var.iap_members) : "${pair[0]} ${pair[1]}" => { function = pair[0], member = pair[1] }
  }

  project             = var.project_id
  web_backend_service = google_compute_backend_service.this[each.value.function].name
  role                = "roles/iap.httpsResourceAccessor"
  member              = each.value.member
}

# The proxy takes tokens of people's commands only from clients that are named here. Source:
# Identity-Aware Proxy's "Programmatic authentication".
resource "google_iap_settings" "this" {
  for_each = { for name, function in local.proxied : name => function if local.desktop_client != "" }

  name = "projects/${local.number}/iap_web/compute/services/${google_compute_backend_service.this[each.key].name}"

  access_settings {
    oauth_settings {
      programmatic_clients = [local.desktop_client]
    }
  }
}

resource "google_compute_url_map" "this" {
  count = local.balancer

  project = var.project_id
  name    = local.installation
  # Answers unknown paths with 404 and a problem.
  default_service = google_compute_backend_service.this["describe_api"].id

  host_rule {
    hosts        = [var.domain]
    path_matcher = "hub"
  }

  path_matcher {
    name            = "hub"
    default_service = google_compute_backend_service.this["describe_api"].id

    dynamic "route_rules" {
      for_each = local.routes # a list, since rules must be in the order of their priorities

      content {
        priority = route_rules.key + 1
        service  = google_compute_backend_service.this[route_rules.value.function].id

        match_rules {
          full_path_match     = strcontains(route_rules.value.path, "{") ? null : route_rules.value.path
          path_template_match = strcontains(route_rules.value.path, "{") ? replace(route_rules.value.path, "/{[a-z_]+}/", "*") : null

          header_matches {
            header_name = ":method"
            exact_match = upper(route_rules.value.method)
          }
        }
      }
    }
  }
}

# Redirects requests without https://. Status 308 keeps the method. Nothing else is answered without
# TLS.
resource "google_compute_url_map" "to_https" {
  count = local.balancer

  project = var.project_id
  name    = "${local.installation}-to-https"

  default_url_redirect {
    https_redirect         = true
    redirect_response_code = "PERMANENT_REDIRECT"
    strip_query            = false
  }

  depends_on = [time_sleep.services]
}

resource "google_compute_target_http_proxy" "to_https" {
  count = local.balancer

  project = var.project_id
  name    = "${local.installation}-to-https"
  url_map = google_compute_url_map.to_https[0].id
}

resource "google_compute_global_forwarding_rule" "to_https" {
  count = local.balancer

  project               = var.project_id
  name                  = "${local.installation}-to-https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this[0].id
  port_range            = "80"
  target                = google_compute_target_http_proxy.to_https[0].id
}

resource "google_compute_target_https_proxy" "this" {
  count = local.balancer

  project          = var.project_id
  name             = local.installation
  url_map          = google_compute_url_map.this[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.this[0].id]
  ssl_policy       = google_compute_ssl_policy.this[0].id
}

resource "google_compute_ssl_policy" "this" {
  count = local.balancer

  project         = var.project_id
  name            = local.installation
  min_tls_version = "TLS_1_2"
  profile         = "MODERN"

  depends_on = [time_sleep.services]
}

resource "google_compute_global_forwarding_rule" "this" {
  count = local.balancer

  project               = var.project_id
  name                  = local.installation
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this[0].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.this[0].id
}
