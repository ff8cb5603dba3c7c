# One build for all functions: Google's builder makes an image of the source, and every function
# starts from that image.
#
# Only Cloud Functions starts a build for Terraform: build_config of google_cloud_run_v2_service
# starts none (issues 22263 and 23057 of hashicorp/terraform-provider-google). So one function
# exists only for its build, and nobody may call it. The environment decides which function the
# image serves: the builder sets FUNCTION_TARGET and FUNCTION_SOURCE in it only as defaults. Source:
# SetFunctionsEnvVars in pkg/gcpbuildpack/env.go of GoogleCloudPlatform/buildpacks.

resource "google_cloudfunctions2_function" "build" {
  project     = var.project_id
  location    = var.region
  name        = "${var.name}-build"
  description = "Workspace Hub ${local.installation}: builds the image of all functions; nobody may call it"

  build_config {
    runtime           = "python312"
    entry_point       = "describe_api" # any function would do; this one needs the fewest rights
    docker_repository = google_artifact_registry_repository.functions.id
    service_account   = google_service_account.build.id

    environment_variables = {
      GOOGLE_FUNCTION_SOURCE = local.functions["describe_api"].source
    }

    # An image for automatic updates has no system layer, and runs only where the platform adds one.
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

# Replaced with each build. Its id is then not known before the apply, so the build's result is read
# after the build. Otherwise the functions would keep the old image until a second apply.
resource "terraform_data" "build" {
  triggers_replace = {
    function = google_cloudfunctions2_function.build.id
    runtime  = google_cloudfunctions2_function.build.build_config[0].runtime
    source   = google_storage_bucket_object.source.name
  }
}

# The build's Cloud Run service names the image by a tag that each build moves (`…:version_1`).
# Source of the form: the service in src/gcp/runv2.ts of firebase/firebase-tools.
data "google_cloud_run_v2_service" "build" {
  project  = var.project_id
  location = var.region
  name     = terraform_data.build.id == "" ? null : google_cloudfunctions2_function.build.name
}

# The registry has the digest of the image that the tag names. With a digest, another build makes a
# new revision of each function.
data "google_artifact_registry_docker_image" "functions" {
  project       = var.project_id
  location      = var.region
  repository_id = google_artifact_registry_repository.functions.repository_id
  image_name    = regex("[^/]+$", data.google_cloud_run_v2_service.build.template[0].containers[0].image)
}
