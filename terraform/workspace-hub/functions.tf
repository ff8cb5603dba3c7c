locals {
  # As many as the catalogue says, but no more than a project's quota of CPUs lets one function have.
  max_instances = { for name, function in local.functions : name => min(function.max_instances, var.max_instances) }

  # From where a function can be reached at all. Pub/Sub, Cloud Tasks and the Scheduler of the same project count as internal, at
  # run.app addresses. Source: Cloud Run's "Restrict network ingress".
  ingress = {
    for name, function in local.functions : name => (
      function.invoker != "everyone" ? "ALLOW_INTERNAL_ONLY" :
      var.domain != null && contains(keys(local.public), name) ? "ALLOW_INTERNAL_AND_GCLB" : "ALLOW_ALL"
    )
  }
}

resource "google_cloudfunctions2_function" "this" {
  for_each = local.functions

  project     = var.project_id
  location    = var.region
  name        = local.services[each.key]
  description = "Workspace Hub ${local.installation}: ${each.key}"

  build_config {
    runtime           = "python312"
    entry_point       = each.key
    docker_repository = google_artifact_registry_repository.functions.id
    service_account   = google_service_account.build.id

    environment_variables = {
      GOOGLE_FUNCTION_SOURCE = each.value.source
    }

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    all_traffic_on_latest_revision   = true
    available_cpu                    = "1" # more than one request at once needs a whole one
    available_memory                 = "${each.value.memory_mib}Mi"
    environment_variables            = merge(local.environment, { PYTHONPATH = "/workspace", THREADS = tostring(each.value.concurrency) })
    ingress_settings                 = local.ingress[each.key]
    max_instance_count               = local.max_instances[each.key]
    max_instance_request_concurrency = each.value.concurrency
    min_instance_count               = contains(keys(local.public), each.key) ? min(var.min_instances, local.max_instances[each.key]) : 0
    service_account_email            = google_service_account.group[each.value.runs_as].email
    timeout_seconds                  = each.value.timeout_seconds
  }

  depends_on = [time_sleep.rights]
}

# Who gets through the platform's check: everybody where the code checks the caller, else exactly one service account.
resource "google_cloud_run_service_iam_member" "invoker" {
  for_each = local.functions

  project  = var.project_id
  location = var.region
  service  = google_cloudfunctions2_function.this[each.key].name
  role     = "roles/run.invoker"
  member   = each.value.invoker == "everyone" ? "allUsers" : google_service_account.invoker[each.value.invoker].member
}
