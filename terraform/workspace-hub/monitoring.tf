# What somebody has to look at, and a page that shows how the Hub is.

locals {
  # Metrics from the functions' structured logs: name → which lines count. A test holds the names of events to the code.
  log_metrics = {
    errors            = "severity>=ERROR"
    operations_failed = "jsonPayload.message=(\"CreateFailed\" OR \"DeleteFailed\" OR \"MachineFailed\" OR \"StartFailed\" OR \"StopFailed\")"
    operations_stuck  = "jsonPayload.message=\"JobResent\""
  }

  # By its whole names: another Hub's name may begin with this one's.
  own_services = "^(${join("|", values(local.services))})$"
  of_functions = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"${local.own_services}\" AND resource.labels.location=\"${var.region}\""

  # PromQL's names of them. Source: Cloud Monitoring's mapping of metrics to PromQL.
  log_series = { for name, _ in local.log_metrics : name => "logging_googleapis_com:user_${replace(local.installation, "-", "_")}_${name}" }

  # Alerts: name → what is counted in five minutes, how many are too many, and what to do.
  alerts = {
    "dead letters" = {
      series    = "pubsub_googleapis_com:subscription_dead_letter_message_count{monitored_resource=\"pubsub_subscription\",subscription_id=~\"${local.installation}-.*\"}"
      threshold = 0
      todo      = "A message was given up. Its workspace is in ERROR with the reason; search the log for DeadLetter, then start or delete the workspace."
    }
    "errors" = {
      series    = "${local.log_series["errors"]}{monitored_resource=\"cloud_run_revision\"}"
      threshold = 5
      todo      = "Functions log errors. Read them: severity>=ERROR, by request_id the whole story of each."
    }
    "stuck operations" = {
      series    = "${local.log_series["operations_stuck"]}{monitored_resource=\"cloud_run_revision\"}"
      threshold = 10
      todo      = "Jobs get lost, or workers are too slow: reconcile sends many again. Look at the queue and at the workers' errors."
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

  depends_on = [google_project_service.this]
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
      disable_metric_validation = true # a new metric can be asked for only minutes after it was made
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
      columns = "2" # as the service gives it back
      widgets = [
        for title, filter in local.charts : {
          title = title
          xyChart = {
            dataSets = [{
              plotType = "LINE"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = filter
                  aggregation = {
                    alignmentPeriod    = "300s"
                    crossSeriesReducer = title == "Running machines" ? "REDUCE_COUNT" : "REDUCE_SUM"
                    perSeriesAligner   = title == "Tasks waiting" ? "ALIGN_MEAN" : "ALIGN_DELTA"
                    groupByFields      = title == "Requests by function" ? ["resource.labels.service_name"] : []
                  }
                }
              }
            }]
          }
        }
      ]
    }
  })

  depends_on = [google_project_service.this]
}
