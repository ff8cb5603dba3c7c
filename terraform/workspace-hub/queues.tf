# What triggers functions: Pub/Sub topics with push subscriptions, Cloud Tasks queues and Scheduler
# jobs, all from the catalogue.

locals {
  of_event = { for name, function in local.functions : name => function if function.trigger == "event" }
  of_task  = { for name, function in local.functions : name => function if function.trigger == "task" }
  of_time  = { for name, function in local.functions : name => function if can(function.schedule) }

  topics = toset([for function in local.of_event : function.topic])
  dead   = { for name, function in local.of_event : name => function.dead_letter if can(function.dead_letter) }
}

resource "google_pubsub_topic" "this" {
  #checkov:skip=CKV_GCP_83:Messages hold only ids, and Google's own keys encrypt them.
  for_each = local.topics

  project                    = var.project_id
  name                       = "${local.installation}-${each.key}"
  message_retention_duration = "86400s"

  depends_on = [time_sleep.services]
}

resource "google_pubsub_subscription" "this" {
  for_each = local.of_event

  project                    = var.project_id
  name                       = "${local.installation}-${replace(each.key, "_", "-")}"
  topic                      = google_pubsub_topic.this[each.value.topic].id
  ack_deadline_seconds       = each.value.ack_deadline_seconds
  message_retention_duration = "604800s"

  expiration_policy {
    ttl = "" # never
  }

  push_config {
    push_endpoint = local.urls[each.key]

    oidc_token {
      audience              = local.urls[each.key]
      service_account_email = google_service_account.invoker[each.value.invoker].email
    }
  }

  retry_policy {
    minimum_backoff = "${each.value.retry.min_backoff_seconds}s"
    maximum_backoff = "${each.value.retry.max_backoff_seconds}s"
  }

  dynamic "dead_letter_policy" {
    for_each = can(each.value.dead_letter) ? [each.value.dead_letter] : []

    content {
      dead_letter_topic     = google_pubsub_topic.this[dead_letter_policy.value.topic].id
      max_delivery_attempts = dead_letter_policy.value.max_attempts
    }
  }

  depends_on = [google_cloud_run_v2_service.this]
}

# Pub/Sub moves dead letters with its own account: it publishes them, and acknowledges them in the
# subscription that they came from.
resource "google_pubsub_topic_iam_member" "dead_letter" {
  for_each = local.dead

  project = var.project_id
  topic   = google_pubsub_topic.this[each.value.topic].name
  role    = "roles/pubsub.publisher"
  member  = google_project_service_identity.pubsub.member

  depends_on = [time_sleep.identities]
}

resource "google_pubsub_subscription_iam_member" "dead_letter" {
  for_each = local.dead

  project      = var.project_id
  subscription = google_pubsub_subscription.this[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = google_project_service_identity.pubsub.member

  depends_on = [time_sleep.identities]
}

resource "google_cloud_tasks_queue" "this" {
  for_each = local.of_task

  project  = var.project_id
  location = var.region
  # The name of a deleted queue stays taken for days.
  name = "${local.installation}-${each.value.queue}"

  rate_limits {
    max_concurrent_dispatches = each.value.dispatch.max_concurrent
    max_dispatches_per_second = coalesce(var.queue_rate, each.value.dispatch.max_per_second)
  }

  retry_config {
    max_attempts  = each.value.retry.max_attempts
    max_backoff   = "${each.value.retry.max_backoff_seconds}s"
    max_doublings = each.value.retry.max_doublings
    min_backoff   = "${each.value.retry.min_backoff_seconds}s"
  }

  depends_on = [time_sleep.services]
}

# What sweeps begin must not hold up what people ask for, so it has a queue of its own. It calls the
# same function. Its rate keeps its proportion to that of the first queue.
resource "google_cloud_tasks_queue" "sweeps" {
  for_each = { for name, function in local.of_task : name => function if can(function.sweeps) }

  project  = var.project_id
  location = var.region
  name     = "${local.installation}-${each.value.sweeps.queue}"

  rate_limits {
    max_concurrent_dispatches = each.value.sweeps.max_concurrent
    max_dispatches_per_second = ceil(coalesce(var.queue_rate, each.value.dispatch.max_per_second) * each.value.sweeps.max_per_second / each.value.dispatch.max_per_second)
  }

  retry_config {
    max_attempts  = each.value.retry.max_attempts
    max_backoff   = "${each.value.retry.max_backoff_seconds}s"
    max_doublings = each.value.retry.max_doublings
    min_backoff   = "${each.value.retry.min_backoff_seconds}s"
  }

  depends_on = [time_sleep.services]
}

resource "google_cloud_scheduler_job" "this" {
  for_each = local.of_time

  project          = var.project_id
  region           = var.region
  name             = "${local.installation}-${each.key}"
  description      = "Calls ${each.key} of Workspace Hub ${local.installation}"
  schedule         = each.value.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${each.value.timeout_seconds + 20}s"

  http_target {
    http_method = split(" ", each.value.routes[0])[0]
    uri         = "${local.urls[each.key]}${split(" ", each.value.routes[0])[1]}"

    oidc_token {
      audience              = local.urls[each.key]
      service_account_email = google_service_account.invoker[each.value.invoker].email
    }
  }

  depends_on = [google_cloud_run_v2_service.this]
}
