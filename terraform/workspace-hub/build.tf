# One build for all functions: Google's builder makes an image of the source, which every function starts from.
#
# Only Cloud Functions starts a build for Terraform (build_config of google_cloud_run_v2_service starts none: issues 22263 and 23057
# of hashicorp/terraform-provider-google), so there is one function that is there for its build, and that nobody may call. What the
# image serves is up to the environment: the builder puts FUNCTION_TARGET and FUNCTION_SOURCE into it as defaults only. Source:
# SetFunctionsEnvVars in pkg/gcpbuildpack/env.go of GoogleCloudPlatform/buildpacks.

resource "google_cloudfunctions2_function" "build" {
  project     = var.project_id
  location    = var.region
  name        = "${var.name}-build"
  description = "Workspace Hub ${local.installation}: builds the image of all functions; nobody may call it"

  build_config {
    runtime           = "python312"
    entry_point       = "describe_api" # any of them, with the fewest rights
    docker_repository = google_artifact_registry_repository.functions.id
    service_account   = google_service_account.build.id

    environment_variables = {
      GOOGLE_FUNCTION_SOURCE = local.functions["describe_api"].source
    }

    # Images for automatic updates lack their system layer, and run only where the platform puts it under them.
    on_deploy_update_policy {}

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    all_traffic_on_latest_revision = true
    available_memory               = "256Mi"
    environment_variables          = { PYTHONPATH = "/workspace" }
    ingress_settings               = "ALLOW_INTERNAL_ONLY"
    max_instance_count             = 1
    service_account_email          = google_service_account.group["none"].email
  }

  depends_on = [time_sleep.rights]
}

# Made anew with each build, so that its id is not known before the apply, and what comes of the build is read after it. Otherwise the
# functions would keep the old image until a second apply.
resource "terraform_data" "build" {
  triggers_replace = {
    function = google_cloudfunctions2_function.build.id
    runtime  = google_cloudfunctions2_function.build.build_config[0].runtime
    source   = google_storage_bucket_object.source.name
  }
}

# Its Cloud Run service says what the image is called, by a tag that each build moves (`…:version_1`). Source of the form: the service
# in src/gcp/runv2.ts of firebase/firebase-tools.
data "google_cloud_run_v2_service" "build" {
  project  = var.project_id
  location = var.region
  name     = terraform_data.build.id == "" ? null : google_cloudfunctions2_function.build.name
}

# The registry says which image the tag is at: by its digest, so that another build is another revision of each function.
data "google_artifact_registry_docker_image" "functions" {
  project       = var.project_id
  location      = var.region
  repository_id = google_artifact_registry_repository.functions.repository_id
  image_name    = regex("[^/]+$", data.google_cloud_run_v2_service.build.template[0].containers[0].image)
}
