# What somebody has to look at, and a page that shows how the Hub is.

locals {
  # Metrics from the functions' structured logs: name → which lines count.
  log_metrics = {
    errors            = "severity>=ERROR"
    operations_failed = "jsonPayload.message=\"OperationFailed\""
    operations_stuck  = "jsonPayload.message=\"JobResent\""
  }

  of_functions = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"^${var.name}-\" AND resource.labels.location=\"${var.region}\""

  # Alerts: name → metric, resource, threshold in five minutes, and what to do.
  alerts = {
    "dead letters" = {
      filter    = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/dead_letter_message_count\" AND resource.labels.subscription_id=monitoring.regex.full_match(\"${local.installation}-.*\")"
      threshold = 0
      todo      = "A message was given up. Its workspace is in ERROR with the reason; search the log for DeadLetterRecorded, then start or delete the workspace."
    }
    "errors" = {
      filter    = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${local.installation}/errors\""
      threshold = 5
      todo      = "Functions log errors. Read them: severity>=ERROR, by request_id the whole story of each."
    }
    "stuck operations" = {
      filter    = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${local.installation}/operations_stuck\""
      threshold = 10
      todo      = "Jobs get lost, or workers are too slow: reconcile sends many again. Look at the queue and at the workers' errors."
    }
  }

  charts = {
    "Requests by function" = "resource.type=\"cloud_run_revision\" AND metric.type=\"run.googleapis.com/request_count\" AND resource.labels.service_name=monitoring.regex.full_match(\"${var.name}-.*\")"
    "Errors"               = local.alerts["errors"].filter
    "Jobs sent again"      = local.alerts["stuck operations"].filter
    "Dead letters"         = local.alerts["dead letters"].filter
    "Tasks waiting"        = "resource.type=\"cloud_tasks_queue\" AND metric.type=\"cloudtasks.googleapis.com/queue/depth\" AND resource.labels.queue_id=monitoring.regex.full_match(\"${local.installation}-.*\")"
    "Running machines"     = "resource.type=\"gce_instance\" AND metric.type=\"compute.googleapis.com/instance/uptime\" AND metadata.user_labels.hub=\"${local.installation}\""
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

    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      duration        = "0s"
      threshold_value = each.value.threshold

      aggregations {
        alignment_period     = "300s"
        cross_series_reducer = "REDUCE_SUM"
        per_series_aligner   = "ALIGN_DELTA"
      }
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
      columns = 2
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
