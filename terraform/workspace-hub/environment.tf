# The environment of the functions: every setting that the code declares
# (shared/config/declarations.py), and nothing else.

locals {
  # What var.settings may set. An empty value means the code's default. `nox -s docs` writes the
  # file.
  tunable = jsondecode(file("${path.module}/settings.json")).tunable

  environment = merge({ for name in local.tunable : name => lookup(var.settings, name, "") }, {
    GOOGLE_CLOUD_PROJECT           = var.project_id
    HUB_ADDRESS                    = local.address
    HUB_ADMIN_EMAILS               = join(",", var.access.admins)
    HUB_ADVANCE_OPERATION_URL      = "${local.urls["advance_operation"]}/operations"
    HUB_ALLOWED_DOMAINS            = join(",", var.access.domains)
    HUB_ALLOWED_EMAILS             = join(",", var.access.emails)
    HUB_DEFAULT_MACHINE_TYPE       = var.machine_types[0]
    HUB_DISK_TYPES                 = join(",", [for series, type in var.disk_types : "${series}=${type}"])
    HUB_FIRESTORE_DATABASE         = google_firestore_database.this.name
    HUB_IAP_AUDIENCE               = var.domain == null || var.sign_in.iap_client_id == null ? "" : var.sign_in.iap_client_id
    HUB_IAP_KEYS_URL               = "https://www.gstatic.com/iap/verify/public_key-jwk"
    HUB_IDENTITY_ISSUERS           = "https://accounts.google.com,accounts.google.com"
    HUB_IDENTITY_KEYS_URL          = "https://www.googleapis.com/oauth2/v3/certs"
    HUB_IDENTITY_SOURCE            = var.domain == null ? "id_token" : "iap"
    HUB_IMAGE_REPOSITORY           = local.image_repository
    HUB_INSTALLATION               = local.installation
    HUB_MACHINE_PRICES             = join(",", [for type, price in var.machine_prices.per_hour : "${type}=${price}"])
    HUB_MACHINE_SERVICE_ACCOUNT    = google_service_account.machine.email
    HUB_MACHINE_TYPES              = join(",", var.machine_types)
    HUB_MODE                       = var.access.mode
    HUB_NETWORK                    = local.network
    HUB_OAUTH_CLIENT_ID            = local.desktop_client
    HUB_OAUTH_CLIENT_SECRET        = var.sign_in.desktop_client_secret == null ? "" : var.sign_in.desktop_client_secret
    HUB_OAUTH_WEB_CLIENT_ID        = local.web_client
    HUB_OPERATIONS_QUEUE           = google_cloud_tasks_queue.this["advance_operation"].name
    HUB_OPERATIONS_SERVICE_ACCOUNT = google_service_account.invoker["operations-queue"].email
    HUB_OUTSIDE_ADMIN_EMAILS       = join(",", var.access.outside_admins)
    HUB_PRICE_CURRENCY             = var.machine_prices.currency
    HUB_PROVISION_TOPIC            = google_pubsub_topic.this[local.functions["provision_workspace"].topic].name
    HUB_REGION                     = var.region
    HUB_REPORT_WORKSPACE_URL       = local.urls["report_workspace"]
    HUB_SUBNETWORK                 = local.subnetwork
    HUB_SWEEPS_QUEUE               = google_cloud_tasks_queue.sweeps["advance_operation"].name
    HUB_USER_AUDIENCES             = join(",", local.audiences)
    HUB_WORKER_TIMEOUT_SECONDS     = tostring(local.functions["advance_operation"].timeout_seconds)
    HUB_ZONES                      = join(",", local.zones)
  })

  # What tells functions-framework which function to serve, and how. It is the same as
  # `Function.environment` in localcloud/catalogue.py.
  process = {
    for name, function in local.functions : name => {
      FUNCTION_SIGNATURE_TYPE = function.trigger == "event" ? "cloudevent" : "http"
      FUNCTION_SOURCE         = "/workspace/${function.source}"
      FUNCTION_TARGET         = name
      PYTHONPATH              = "/workspace" # the builder puts the source there
      THREADS                 = tostring(function.concurrency)
    }
  }

  desktop_client = var.sign_in.desktop_client_id == null ? "" : var.sign_in.desktop_client_id
  web_client     = var.sign_in.web_client_id == null ? "" : var.sign_in.web_client_id

  # Without a domain, the Hub also takes tokens of its own OAuth clients, and those that service
  # accounts get for its own address.
  audiences = var.domain == null ? distinct(compact(concat(var.audiences, [local.desktop_client, local.web_client, local.address]))) : [
    for name, _ in local.proxied : "/projects/${local.number}/global/backendServices/${google_compute_backend_service.this[name].generated_id}"
  ]
}
