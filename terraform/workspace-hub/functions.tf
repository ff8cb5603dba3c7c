# Every function of the catalogue is a Cloud Run service that runs the one image (Google now calls
# this a Cloud Run function).

locals {
  # The catalogue's number, but at most what the project's CPU quota allows one function.
  max_instances = { for name, function in local.functions : name => min(function.max_instances, var.max_instances) }

  # From where a function can be reached at all. Pub/Sub, Cloud Tasks and Scheduler of the same
  # project count as internal at run.app addresses. Source: Cloud Run's "Restrict network ingress".
  ingress = {
    for name, function in local.functions : name => (
      function.invoker != "everyone" ? "INGRESS_TRAFFIC_INTERNAL_ONLY" :
      var.domain != null && contains(keys(local.public), name) ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : "INGRESS_TRAFFIC_ALL"
    )
  }

  # Functions that the platform lets only one service account call.
  guarded = { for name, function in local.functions : name => function if function.invoker != "everyone" }
}

resource "google_cloud_run_v2_service" "this" {
  for_each = local.functions

  project             = var.project_id
  location            = var.region
  name                = local.services[each.key]
  description         = "Workspace Hub ${local.installation}: ${each.key}"
  deletion_protection = false # a service holds no data
  ingress             = local.ingress[each.key]

  # Where everybody may call, the code checks the caller, and the platform's check is off.
  # Organisations forbid `allUsers`, not this. Any other principal instead would break our check:
  # the platform would take the token for its own, and replace its signature with
  # SIGNATURE_REMOVED_BY_GOOGLE. Source: Cloud Run's "Allowing public (unauthenticated) access".
  invoker_iam_disabled = each.value.invoker == "everyone"

  template {
    max_instance_request_concurrency = each.value.concurrency
    service_account                  = google_service_account.group[each.value.runs_as].email
    timeout                          = "${each.value.timeout_seconds}s"

    scaling {
      max_instance_count = local.max_instances[each.key]
      min_instance_count = contains(keys(local.public), each.key) ? min(var.min_instances, local.max_instances[each.key]) : 0
    }

    containers {
      image = data.google_artifact_registry_docker_image.functions.self_link

      dynamic "env" {
        for_each = merge(local.environment, local.process[each.key])

        content {
          name  = env.key
          value = env.value
        }
      }

      resources {
        cpu_idle          = true # billed by request; the provider's default is by instance
        startup_cpu_boost = true

        limits = {
          cpu    = "1" # more than one request at once needs a whole CPU
          memory = "${each.value.memory_mib}Mi"
        }
      }
    }
  }
}

# The platform lets exactly one service account call each of the other functions.
resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = local.guarded

  project  = var.project_id
  location = var.region
  name     = google_cloud_run_v2_service.this[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.invoker[each.value.invoker].member
}
