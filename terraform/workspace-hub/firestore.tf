# The database, with the same index file that the tests use.

locals {
  firestore = jsondecode(file("${local.root}/firestore.indexes.json"))
}

resource "google_firestore_database" "this" {
  project                           = var.project_id
  name                              = "${var.name}-workspaces"
  location_id                       = var.region
  type                              = "FIRESTORE_NATIVE"
  concurrency_mode                  = "OPTIMISTIC"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = "DELETE"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"

  depends_on = [time_sleep.services]
}

resource "google_firestore_index" "this" {
  for_each = {
    for index in local.firestore.indexes :
    join(".", concat([index.collectionGroup], [for field in index.fields : "${field.fieldPath}-${lower(field.order)}"])) => index
  }

  project     = var.project_id
  database    = google_firestore_database.this.name
  collection  = each.value.collectionGroup
  query_scope = each.value.queryScope

  dynamic "fields" {
    for_each = each.value.fields

    content {
      field_path = fields.value.fieldPath
      order      = fields.value.order
    }
  }
}

resource "google_firestore_field" "this" {
  for_each = { for field in local.firestore.fieldOverrides : "${field.collectionGroup}.${field.fieldPath}" => field }

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.value.collectionGroup
  field      = each.value.fieldPath

  index_config {} # no index: no query uses the field

  dynamic "ttl_config" {
    for_each = each.value.ttl ? [true] : []

    content {}
  }
}
