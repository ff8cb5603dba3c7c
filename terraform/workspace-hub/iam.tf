# A service account for each trust group, with only the rights that the code uses.

locals {
  groups   = toset([for function in local.functions : function.runs_as])
  invokers = toset(local.catalogue.invokers)

  # Which groups do what. The catalogue says which functions each group runs. A test compares these
  # lists with the code.
  stores        = setsubtract(local.groups, ["none"]) # read and write the records
  publish       = toset(["api"])                      # new workspaces, by Pub/Sub
  enqueue       = setsubtract(local.groups, ["none"]) # all other jobs, by Cloud Tasks
  look          = toset(["api-status"])               # read machines
  operate       = toset(["workers"])                  # make, change and delete machines
  own_disks     = "(resource.name.extract(\"/disks/{name}\").startsWith(\"home-\") || resource.name.extract(\"/disks/{name}\").startsWith(\"workspace-\"))"
  login_role    = "roles/compute.osLogin" # the same as in shared/domain/machine_access.py
  own_instances = "resource.name.extract(\"/instances/{name}\").startsWith(\"workspace-\")"
  own_snapshots = "resource.name.extract(\"/snapshots/{name}\").startsWith(\"home-snapshot-\")"
}

resource "google_service_account" "group" {
  for_each = local.groups

  project      = var.project_id
  account_id   = "${var.name}-${each.key}"
  display_name = "Workspace Hub ${var.name}: functions of the group ${each.key}"

  depends_on = [time_sleep.services]
}

resource "google_service_account" "invoker" {
  for_each = local.invokers

  project      = var.project_id
  account_id   = "${var.name}-${each.key}"
  display_name = "Workspace Hub ${var.name}: calls functions as ${each.key}"

  depends_on = [time_sleep.services]
}

resource "google_service_account" "machine" {
  project      = var.project_id
  account_id   = "${var.name}-machine"
  display_name = "Workspace Hub ${var.name}: the workspaces' machines"

  depends_on = [time_sleep.services]
}

resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "${var.name}-build"
  display_name = "Workspace Hub ${var.name}: builds the functions' image"

  depends_on = [time_sleep.services]
}

resource "google_service_account" "image" {
  project      = var.project_id
  account_id   = "${var.name}-image"
  display_name = "Workspace Hub ${var.name}: builds the workspaces' image"

  depends_on = [time_sleep.services]
}

# Records

resource "google_project_iam_member" "store" {
  for_each = local.stores

  project = var.project_id
  role    = "roles/datastore.user"
  member  = google_service_account.group[each.key].member

  condition {
    title       = "only this Hub's database"
    expression  = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.this.name}\""
    description = "Workspace Hub ${local.installation}"
  }

  depends_on = [time_sleep.identities]
}

# Jobs

resource "google_pubsub_topic_iam_member" "publish" {
  for_each = local.publish

  project = var.project_id
  topic   = google_pubsub_topic.this[local.functions["provision_workspace"].topic].name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.group[each.key].member

  depends_on = [time_sleep.identities]
}

resource "google_cloud_tasks_queue_iam_member" "enqueue" {
  for_each = local.enqueue

  project  = var.project_id
  location = var.region
  name     = google_cloud_tasks_queue.this["advance_operation"].name
  role     = "roles/cloudtasks.enqueuer"
  member   = google_service_account.group[each.key].member

  depends_on = [time_sleep.identities]
}

resource "google_cloud_tasks_queue_iam_member" "enqueue_sweeps" {
  for_each = local.enqueue

  project  = var.project_id
  location = var.region
  name     = google_cloud_tasks_queue.sweeps["advance_operation"].name
  role     = "roles/cloudtasks.enqueuer"
  member   = google_service_account.group[each.key].member

  depends_on = [time_sleep.identities]
}

# A task names the account that it calls as. Whoever enqueues it needs the right to act as that
# account.
resource "google_service_account_iam_member" "enqueue_as_queue" {
  for_each = local.enqueue

  service_account_id = google_service_account.invoker["operations-queue"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.group[each.key].member

  depends_on = [time_sleep.identities]
}

resource "google_service_account_iam_member" "push_as_invoker" {
  service_account_id = google_service_account.invoker["provisioning-push"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = google_project_service_identity.pubsub.member

  depends_on = [time_sleep.identities]
}

# Machines

resource "google_project_iam_custom_role" "look" {
  project = var.project_id
  # A deleted role's id stays taken for up to 37 days.
  role_id     = "${replace(local.installation, "-", "_")}_look_at_machines"
  title       = "Workspace Hub ${var.name}: look at machines"
  description = "What the status function asks of Compute Engine"
  permissions = ["compute.instances.get"]

  depends_on = [time_sleep.services]
}

resource "google_project_iam_custom_role" "operate" {
  project     = var.project_id
  role_id     = "${replace(local.installation, "-", "_")}_operate_machines"
  title       = "Workspace Hub ${var.name}: operate machines"
  description = "What the workers ask of Compute Engine, and what that needs"
  permissions = [
    "compute.disks.create",
    "compute.disks.createSnapshot",
    "compute.disks.delete",
    "compute.disks.get",
    "compute.disks.list",
    "compute.disks.resize",
    "compute.disks.setLabels",
    "compute.disks.update",
    "compute.disks.use",
    "compute.globalOperations.get",
    "compute.images.useReadOnly",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.resume",
    "compute.instances.setDiskAutoDelete",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.instances.setTags",
    "compute.instances.start",
    "compute.instances.stop",
    "compute.instances.suspend",
    "compute.snapshots.create",
    "compute.snapshots.delete",
    "compute.snapshots.get",
    "compute.snapshots.list",
    "compute.snapshots.setLabels",
    "compute.snapshots.useReadOnly",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "compute.zoneOperations.get",
  ]

  depends_on = [time_sleep.services]
}

resource "google_project_iam_custom_role" "let_in" {
  project     = var.project_id
  role_id     = "${replace(local.installation, "-", "_")}_let_owners_in"
  title       = "Workspace Hub ${var.name}: let owners in to their machines"
  description = "What the workers need to give the owner of a workspace ${local.login_role} on its machine"
  permissions = [
    "compute.instances.getIamPolicy",
    "compute.instances.setIamPolicy",
  ]

  depends_on = [time_sleep.services]
}

resource "google_project_iam_member" "look" {
  for_each = local.look

  project = var.project_id
  role    = google_project_iam_custom_role.look.id
  member  = google_service_account.group[each.key].member

  condition {
    title       = "only workspaces"
    description = "Instances by the names that the Hub gives them"
    expression  = "resource.type == \"compute.googleapis.com/Instance\" && ${local.own_instances}"
  }

  lifecycle {
    create_before_destroy = true # grant a new role before the old one is revoked
  }

  depends_on = [time_sleep.identities]
}

resource "google_project_iam_member" "operate" {
  for_each = local.operate

  project = var.project_id
  role    = var.compute_admin ? "roles/compute.admin" : google_project_iam_custom_role.operate.id
  member  = google_service_account.group[each.key].member

  # The names of instances, disks and snapshots show that they are the Hub's, since only the Hub gives
  # such names. So the workers read nobody else's disk or snapshot, by a copy of it either. Other
  # resources that a call touches belong to no Hub. A list is a call on the project (source: IAM,
  # "Resource attributes for IAM Conditions"), so it has the names and labels of others' resources.
  dynamic "condition" {
    for_each = var.compute_admin ? [] : [true]

    content {
      title       = "only workspaces"
      description = "Instances, disks and snapshots by the names that the Hub gives them"
      expression = join(" || ", [
        "(resource.type == \"compute.googleapis.com/Instance\" && ${local.own_instances})",
        "(resource.type == \"compute.googleapis.com/Disk\" && ${local.own_disks})",
        "(resource.type == \"compute.googleapis.com/Snapshot\" && ${local.own_snapshots})",
        "(resource.type != \"compute.googleapis.com/Instance\" && resource.type != \"compute.googleapis.com/Disk\" && resource.type != \"compute.googleapis.com/Snapshot\")",
      ])
    }
  }

  lifecycle {
    # Grant a new role before the old one is revoked: the workers always have one.
    create_before_destroy = true
  }

  depends_on = [time_sleep.identities]
}

# Whoever may set a machine's policy may let anybody in to it, themselves included. So this makes the
# workers' account a way into every workspace: see SECURITY.md.
resource "google_project_iam_member" "let_in" {
  for_each = local.operate

  project = var.project_id
  role    = google_project_iam_custom_role.let_in.id
  member  = google_service_account.group[each.key].member

  # Google documents modifiedGrantsByRole for the policies of projects, folders and organisations.
  # Whether Compute Engine sends it for an instance's policy is not documented. If it does, the
  # workers can give and take no other role. If it does not, the list is empty and that half is true:
  # nothing stops working, and nothing is gained. Do not rely on it.
  condition {
    title       = "only workspaces, only OS Login"
    description = "Instances by the names that the Hub gives them, and one role"
    expression = join(" && ", [
      "resource.type == \"compute.googleapis.com/Instance\"",
      local.own_instances,
      "api.getAttribute(\"iam.googleapis.com/modifiedGrantsByRole\", []).hasOnly([\"${local.login_role}\"])",
    ])
  }

  lifecycle {
    create_before_destroy = true # grant a new role before the old one is revoked
  }

  depends_on = [time_sleep.identities]
}

resource "google_service_account_iam_member" "operate_as_machine" {
  for_each = local.operate

  service_account_id = google_service_account.machine.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.group[each.key].member

  depends_on = [time_sleep.identities]
}

resource "google_artifact_registry_repository_iam_member" "machine" {
  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.workspaces.name
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.machine.member

  depends_on = [time_sleep.identities]
}

resource "google_project_iam_member" "machine_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.machine.member

  depends_on = [time_sleep.identities]
}

# People who connect: what they need besides the right on their own machine, which the workers give.
# None of this lets anybody in to any machine.

resource "google_project_iam_custom_role" "connect" {
  count = length(var.connect_members) > 0 ? 1 : 0

  project     = var.project_id
  role_id     = "${replace(local.installation, "-", "_")}_connect"
  title       = "Workspace Hub ${var.name}: connect to machines"
  description = "`gcloud compute ssh` looks at the project first"
  permissions = ["compute.projects.get"]

  depends_on = [time_sleep.services]
}

resource "google_project_iam_member" "connect_project" {
  for_each = toset(var.connect_members)

  project = var.project_id
  role    = google_project_iam_custom_role.connect[0].id
  member  = each.key

  lifecycle {
    create_before_destroy = true # grant a new role before the old one is revoked
  }

  depends_on = [time_sleep.identities]
}

# A condition of a tunnel can name a port and an address, but no machine by its name (source: IAM,
# "Attribute reference for IAM Conditions"). Machines come and go, so it names the port.
resource "google_project_iam_member" "connect_tunnel" {
  for_each = toset(var.connect_members)

  project = var.project_id
  role    = "roles/iap.tunnelResourceAccessor"
  member  = each.key

  condition {
    title       = "only SSH"
    description = "Workspace Hub ${local.installation}"
    expression  = "destination.port == 22"
  }

  depends_on = [time_sleep.identities]
}

# OS Login asks for it on machines that run as an account.
resource "google_service_account_iam_member" "connect_as_machine" {
  for_each = toset(var.connect_members)

  service_account_id = google_service_account.machine.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.key

  depends_on = [time_sleep.identities]
}

# Builds

resource "google_project_iam_member" "build" {
  for_each = toset(["roles/logging.logWriter"])

  project = var.project_id
  role    = each.key
  member  = google_service_account.build.member

  depends_on = [time_sleep.identities]
}

# Cloud Run functions copies the source into a bucket of its own, which it makes at first use. The
# build reads the copy.
resource "google_project_iam_member" "build_source" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title       = "only sources of functions"
    description = "The bucket that Cloud Run functions keeps sources in"
    expression  = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${local.number}-${var.region}\")"
  }

  depends_on = [time_sleep.identities]
}

resource "google_storage_bucket_iam_member" "build" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.build.member

  depends_on = [time_sleep.identities]
}

resource "google_artifact_registry_repository_iam_member" "build" {
  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.functions.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member

  depends_on = [time_sleep.identities]
}

# Builds of the workspaces' image: the output build_image. An image's own steps can do all that this
# account may, so it has no right on the functions' images.
resource "google_project_iam_member" "image_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.image.member

  depends_on = [time_sleep.identities]
}

resource "google_storage_bucket_iam_member" "image" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.image.member

  depends_on = [time_sleep.identities]
}

resource "google_artifact_registry_repository_iam_member" "image" {
  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.workspaces.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.image.member

  depends_on = [time_sleep.identities]
}
