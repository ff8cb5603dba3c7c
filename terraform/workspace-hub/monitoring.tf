# Alerts for what somebody has to look at, and a dashboard.

locals {
  # Each operation ends with one log line with these fields. A test compares their names and types
  # with the code.
  operation_ended   = "jsonPayload.message=\"OperationEnded\""
  operation_failed  = "${local.operation_ended} AND NOT jsonPayload.result=(\"DELETED\" OR \"READY\" OR \"SUPERSEDED\" OR \"SUSPENDED\")"
  operation_refused = "${local.operation_ended} AND jsonPayload.result=(\"COMPUTE_PERMISSION_DENIED\" OR \"COMPUTE_POLICY_FORBIDS\")"
  operation_labels = {
    automatic      = { type = "BOOL", description = "Whether the idle sweep asked for it" }
    operation_kind = { type = "STRING", description = "CREATE, START, STOP or DELETE" }
    result         = { type = "STRING", description = "The status that it ended in, DELETED, SUPERSEDED, or the error's code" }
  }

  # Metrics from the functions' structured logs: name → which lines count. A test compares the
  # events' names with the code.
  log_metrics = {
    # Cloud Run's own log is left out: it has each 5xx as an error, also a 503 that is meant.
    errors = "severity>=ERROR AND NOT log_id(\"run.googleapis.com/requests\")"

    # None of this goes away by itself.
    needs_owner = "(jsonPayload.message=\"AccessRefused\" OR jsonPayload.message=\"HomeDiskGone\" OR jsonPayload.message=\"LastCopyLost\" OR jsonPayload.message=\"SnapshotNotDeleted\" OR jsonPayload.message=\"TooManyOrphans\" OR (${local.operation_refused}))"

    # A failure with a clean-up has two events, but one end. A START without capacity counts too.
    operations_failed = "(jsonPayload.message=\"MachineFailed\" OR (${local.operation_failed}))"

    operations_stuck = "jsonPayload.message=\"JobResent\""
  }

  # Matches whole names: another Hub's name may begin with this one's.
  own_services = "^(${join("|", values(local.services))})$"
  of_functions = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"${local.own_services}\" AND resource.labels.location=\"${var.region}\""

  # The metrics' names in PromQL; those of a distribution end in _count, _sum and _bucket. Source:
  # Cloud Monitoring's mapping of metrics to PromQL.
  log_series = { for name in concat(keys(local.log_metrics), ["operations"]) : name => "logging_googleapis_com:user_${replace(local.installation, "-", "_")}_${name}" }

  # Alerts: name → what is counted in five minutes, the threshold, and what to do.
  # docs/operations.md lists them.
  alerts = {
    "dead letters" = {
      series    = "pubsub_googleapis_com:subscription_dead_letter_message_count{monitored_resource=\"pubsub_subscription\",subscription_id=~\"${local.installation}-.*\"}"
      threshold = 0
      todo      = "A message was given up. Its workspace is in ERROR with the reason. Search the log for DeadLetter, then start or delete the workspace."
    }
    "errors" = {
      series    = "${local.log_series["errors"]}{monitored_resource=\"cloud_run_revision\"}"
      threshold = 5
      todo      = "Functions log errors. Read them with `${local.log_metrics["errors"]}`, and follow each by its request_id."
    }
    "needs its owner" = {
      series    = "${local.log_series["needs_owner"]}{monitored_resource=\"cloud_run_revision\"}"
      threshold = 0
      todo      = "A right is missing, a policy forbids a machine, an owner cannot be let in to theirs, a home disk is gone, a snapshot cannot be deleted, or too many machines, disks or snapshots have no record. Search the log for COMPUTE_PERMISSION_DENIED, COMPUTE_POLICY_FORBIDS, AccessRefused, HomeDiskGone, SnapshotNotDeleted and TooManyOrphans: each line says which it is."
    }
    "stuck operations" = {
      series    = "${local.log_series["operations_stuck"]}{monitored_resource=\"cloud_run_revision\"}"
      threshold = 10
      todo      = "Jobs get lost, or workers are too slow: reconcile resends many. Look at both queues, and at the workers' errors."
    }
  }

  logged = { for name, _ in local.log_metrics : name => "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${local.installation}/${name}\"" }
  charts = {
    "Dead letters"         = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/dead_letter_message_count\" AND resource.labels.subscription_id=monitoring.regex.full_match(\"${local.installation}-.*\")"
    "Errors"               = local.logged["errors"]
    "Jobs sent again"      = local.logged["operations_stuck"]
    "Operations failed"    = local.logged["operations_failed"]
    "Requests by function" = "resource.type=\"cloud_run_revision\" AND metric.type=\"run.googleapis.com/request_count\" AND resource.labels.service_name=monitoring.regex.full_match(\"${local.own_services}\")"
    "Running machines"     = "resource.type=\"gce_instance\" AND metric.type=\"compute.googleapis.com/instance/uptime\" AND metadata.user_labels.hub=\"${local.installation}\""
    "Tasks waiting"        = "resource.type=\"cloud_tasks_queue\" AND metric.type=\"cloudtasks.googleapis.com/queue/depth\" AND resource.labels.queue_id=monitoring.regex.full_match(\"${local.installation}-.*\")"
  }

  # Charts in PromQL, since no aligner counts the values of a distribution. The dashboard fills in
  # the interval.
  queries = {
    "Operations by kind and result"                    = "sum by (operation_kind, result) (increase(${local.log_series["operations"]}_count{monitored_resource=\"cloud_run_revision\"}[$${__interval}]))"
    "Seconds of an operation, 95th percentile by kind" = "histogram_quantile(0.95, sum by (operation_kind, le) (increase(${local.log_series["operations"]}_bucket{monitored_resource=\"cloud_run_revision\"}[$${__interval}])))"
  }
}

resource "google_logging_metric" "operations" {
  project     = var.project_id
  name        = "${local.installation}/operations"
  filter      = "${local.of_functions} AND ${local.operation_ended}"
  description = "Workspace Hub ${local.installation}: operations that ended, and the seconds that each took since it was asked for"

  value_extractor  = "EXTRACT(jsonPayload.seconds)"
  label_extractors = { for label, _ in local.operation_labels : label => "EXTRACT(jsonPayload.${label})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "s"

    dynamic "labels" {
      for_each = local.operation_labels
      content {
        key         = labels.key
        value_type  = labels.value.type
        description = labels.value.description
      }
    }
  }

  bucket_options {
    exponential_buckets { # from 0.1 s to 65 minutes, each a fifth wider than the one before
      scale              = 0.1
      growth_factor      = 1.2
      num_finite_buckets = 58
    }
  }

  depends_on = [time_sleep.services]
}

resource "google_logging_metric" "this" {
  for_each = local.log_metrics

  project     = var.project_id
  name        = "${local.installation}/${each.key}"
  filter      = "${local.of_functions} AND ${each.value}"
  description = "Workspace Hub ${local.installation}: ${replace(each.key, "_", " ")}"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [time_sleep.services]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  project               = var.project_id
  display_name          = "Workspace Hub ${local.installation}: ${each.key}"
  combiner              = "OR"
  notification_channels = var.alert_channels

  conditions {
    display_name = each.key

    condition_prometheus_query_language {
      query                     = "sum(increase(${each.value.series}[5m])) > ${each.value.threshold}"
      disable_metric_validation = true # a new metric can be queried only minutes after it was made
      duration                  = "0s"
      evaluation_interval       = "60s"
    }
  }

  documentation {
    content   = each.value.todo
    mime_type = "text/markdown"
  }

  depends_on = [google_logging_metric.this]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id
  dashboard_json = jsonencode({
    displayName = "Workspace Hub ${local.installation}"
    gridLayout = {
      columns = "2" # a string, as the service returns it
      widgets = concat([
        for title, filter in local.charts : {
          title = title
          xyChart = {
            dataSets = [{
              plotType = "LINE"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = filter
                  aggregation = merge(
                    {
                      alignmentPeriod    = "300s"
                      crossSeriesReducer = title == "Running machines" ? "REDUCE_COUNT" : "REDUCE_SUM"
                      perSeriesAligner   = title == "Tasks waiting" ? "ALIGN_MEAN" : "ALIGN_DELTA"
                    },
                    # No empty values: the service does not return them, so every plan would have a
                    # change. Source: issue 16173 of hashicorp/terraform-provider-google.
                    { for field, of in { groupByFields = ["resource.labels.service_name"] } : field => of if title == "Requests by function" },
                  )
                }
              }
            }]
          }
        }
        ], [
        for title, query in local.queries : {
          title = title
          xyChart = {
            dataSets = [{
              plotType        = "LINE"
              timeSeriesQuery = { prometheusQuery = query }
            }]
          }
        }
      ])
    }
  })

  depends_on = [time_sleep.services]
}
