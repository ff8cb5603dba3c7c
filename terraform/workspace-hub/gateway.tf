# The public address if there is no domain: API Gateway, with the catalogue's paths and methods.

locals {
  gateway = var.domain == null ? 1 : 0

  # In the order of a search, as the local cloud has it: a literal segment comes before a parameter,
  # since "~" follows every character of a literal segment, and Terraform sorts the keys of a map.
  routes = values(merge([
    for name, function in local.public : {
      for route in function.routes : join(" ", reverse(split(" ", replace(route, "/{[a-z_]+}/", "~")))) => {
        function = name
        method   = lower(split(" ", route)[0])
        path     = split(" ", route)[1]
      }
    }
  ]...))

  address = var.domain == null ? "https://${one(google_api_gateway_gateway.this[*].default_hostname)}" : "https://${var.domain}"

  # API Gateway is not in every region. Elsewhere one on the same continent is used: it only
  # forwards requests.
  gateway_regions = [
    "asia-northeast1", "australia-southeast1", "europe-west1", "europe-west2", "us-central1", "us-east1",
    "us-east4", "us-west2", "us-west3", "us-west4",
  ]
  gateway_region = contains(local.gateway_regions, var.region) ? var.region : lookup({
    asia      = "asia-northeast1"
    australia = "australia-southeast1"
    europe    = "europe-west1"
    us        = "us-west2"
  }, split("-", var.region)[0], "us-central1")

  # API Gateway reads OpenAPI 2. It forwards the bearer token to the function, which checks it.
  gateway_document = {
    swagger  = "2.0"
    info     = { title = "Workspace Hub", version = "1" }
    schemes  = ["https"]
    produces = ["application/json"]
    paths = {
      for path in distinct([for route in local.routes : route.path]) : path => {
        for route in local.routes : route.method => {
          operationId = "${route.function}_${route.method}${replace(path, "/[^a-z]+/", "_")}"
          parameters = [
            for parameter in regexall("{([a-z_]+)}", path) : { name = parameter[0], in = "path", required = true, type = "string" }
          ]
          responses = { default = { description = "The function's answer" } }
          "x-google-backend" = {
            address          = local.urls[route.function]
            deadline         = local.functions[route.function].timeout_seconds + 5
            disable_auth     = true
            path_translation = "APPEND_PATH_TO_ADDRESS"
          }
        } if route.path == path
      }
    }
  }
}

resource "google_api_gateway_api" "this" {
  count    = local.gateway
  provider = google-beta

  project      = var.project_id
  api_id       = local.installation
  display_name = "Workspace Hub ${var.name}"

  depends_on = [time_sleep.services]
}

resource "google_api_gateway_api_config" "this" {
  count    = local.gateway
  provider = google-beta

  project              = var.project_id
  api                  = google_api_gateway_api.this[0].api_id
  api_config_id_prefix = "${local.installation}-"
  display_name         = "Workspace Hub ${var.name}"

  openapi_documents {
    document {
      path     = "workspace-hub.json"
      contents = base64encode(jsonencode(local.gateway_document))
    }
  }

  gateway_config {
    backend_config {
      # The default is Compute Engine's account, which has many rights.
      google_service_account = google_service_account.group["none"].email
    }
  }

  lifecycle {
    create_before_destroy = true # the gateway goes on with the old one until there is a new one
  }
}

resource "google_api_gateway_gateway" "this" {
  count    = local.gateway
  provider = google-beta

  project      = var.project_id
  region       = local.gateway_region
  api_config   = google_api_gateway_api_config.this[0].id
  gateway_id   = local.installation
  display_name = "Workspace Hub ${var.name}"
}
