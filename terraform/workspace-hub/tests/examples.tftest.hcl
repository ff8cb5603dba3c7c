# What the examples say, on mocked providers: how much there is of what, and who may do what.

mock_provider "archive" {}

mock_provider "google" {
  mock_data "google_artifact_registry_docker_image" {
    defaults = { self_link = "us-west1-docker.pkg.dev/demo-project/hub-functions/demo--project__us--west1__hub--build@sha256:5f2c" }
  }

  mock_data "google_cloud_run_v2_service" {
    defaults = {
      template = [{ containers = [{ image = "us-west1-docker.pkg.dev/demo-project/hub-functions/demo--project__us--west1__hub--build:version_1" }] }]
    }
  }

  mock_data "google_compute_zones" {
    defaults = { names = ["us-west1-a", "us-west1-b"] }
  }

  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}

mock_provider "google-beta" {
  mock_resource "google_project_service_identity" {
    defaults = { member = "serviceAccount:agent@example.iam.gserviceaccount.com" }
  }
}

mock_provider "random" {
  mock_resource "random_id" {
    defaults = { hex = "c0ffee" }
  }
}

mock_provider "time" {}

variables {
  project_id = "demo-project"
  region     = "us-west1"
  access     = { emails = ["alice@example.com"] }
  audiences  = ["32555940559.apps.googleusercontent.com"]
}

run "the_minimal_example_is_planned" {
  command = plan

  variables { email = "alice@example.com" }

  module { source = "./examples/minimal" }
}

run "the_team_example_is_planned" {
  command = plan

  module { source = "./examples/team" }
}

run "minimal" {
  assert {
    condition     = toset(keys(google_cloud_run_v2_service.this)) == toset(keys(local.functions)) && length(local.functions) > 10
    error_message = "Every function of the catalogue is deployed, and no other."
  }
  assert {
    condition = alltrue([
      for name, env in { for name, function in google_cloud_run_v2_service.this : name => { for each in function.template[0].containers[0].env : each.name => each.value } } :
      env["HUB_MODE"] == "team"
      && env["HUB_INSTALLATION"] == "hub-c0ffee"
      && env["HUB_ZONES"] == "us-west1-a,us-west1-b"
      && env["HUB_REPORT_WORKSPACE_URL"] == "https://hub-report-workspace-123456789012.us-west1.run.app"
      && env["FUNCTION_TARGET"] == name
      && env["FUNCTION_SOURCE"] == "/workspace/${local.functions[name].source}"
      && env["FUNCTION_SIGNATURE_TYPE"] == (contains(["provision_workspace", "record_dead_letter"], name) ? "cloudevent" : "http")
      && env["THREADS"] == tostring(google_cloud_run_v2_service.this[name].template[0].max_instance_request_concurrency)
    ])
    error_message = "Every function has the same settings, knows the others by their own addresses, and is told which one it is."
  }
  assert {
    condition = alltrue([
      for name, function in google_cloud_run_v2_service.this :
      function.ingress == (contains(["api", "callbacks"], split("/", local.functions[name].source)[1]) ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_ONLY")
    ])
    error_message = "Workers and scheduled functions cannot be reached from outside."
  }
  assert {
    condition = alltrue([
      for function in google_cloud_run_v2_service.this : endswith(function.template[0].containers[0].image, "hub--build@sha256:5f2c") && function.template[0].containers[0].resources[0].cpu_idle
    ]) && google_cloudfunctions2_function.build.service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "All functions run the image of the one build, by its digest, and are paid by the request."
  }
  assert {
    condition = alltrue([
      length(google_cloud_scheduler_job.this) == length(local.of_time), length(local.of_time) >= 2,
      length(google_cloud_tasks_queue.sweeps) == 1,
      length(google_cloud_tasks_queue.this) == 1,
      length(google_firestore_field.this) == 1,
      length(google_firestore_index.this) == 9,
      length(google_pubsub_subscription.this) == 2,
      length(google_pubsub_topic.this) == 2,
      length(google_monitoring_alert_policy.this) == 4,
    ])
    error_message = "There are as many jobs, queues, fields, indexes, subscriptions, topics and alerts as the catalogue and the index file have."
  }
  assert {
    condition = alltrue([
      length(google_cloud_run_v2_service_iam_member.invoker) == 6,
      length(google_cloud_tasks_queue_iam_member.enqueue) == 5,
      length(google_cloud_tasks_queue_iam_member.enqueue_sweeps) == 5,
      length(google_iap_web_backend_service_iam_member.this) == 0,
      length(google_project_iam_custom_role.connect) == 0,
      length(google_project_iam_member.connect_project) == 0,
      length(google_project_iam_member.connect_tunnel) == 0,
      length(google_project_iam_member.let_in) == 1,
      length(google_project_iam_member.look) == 1,
      length(google_project_iam_member.operate) == 1,
      length(google_project_iam_member.store) == 5,
      length(google_pubsub_subscription_iam_member.dead_letter) == 1,
      length(google_pubsub_topic_iam_member.dead_letter) == 1,
      length(google_pubsub_topic_iam_member.publish) == 1,
      length(google_service_account.group) == 6,
      length(google_service_account.invoker) == 3,
      length(google_service_account_iam_member.connect_as_machine) == 0,
      length(google_service_account_iam_member.enqueue_as_queue) == 5,
      length(google_service_account_iam_member.operate_as_machine) == 1,
    ])
    error_message = "A service account or a binding of one was lost or has been added."
  }
  assert {
    condition = alltrue([
      join(" ", keys(google_service_account_iam_member.operate_as_machine)) == "workers",
      google_service_account_iam_member.operate_as_machine["workers"].member == google_service_account.group["workers"].member,
      google_service_account_iam_member.operate_as_machine["workers"].service_account_id == google_service_account.machine.name,
      google_project_iam_member.operate["workers"].role == google_project_iam_custom_role.operate.id,
      length(google_project_iam_member.operate["workers"].condition) == 1,
      strcontains(google_project_iam_member.operate["workers"].condition[0].expression, "(resource.type == \"compute.googleapis.com/Snapshot\" && resource.name.extract(\"/snapshots/{name}\").startsWith(\"home-snapshot-\"))"),
    ])
    error_message = "Only the workers act as the machines' account, and operate machines by the custom role and its condition."
  }
  assert {
    condition = alltrue([
      join(" ", keys(google_project_iam_member.let_in)) == "workers",
      google_project_iam_member.let_in["workers"].role == google_project_iam_custom_role.let_in.id,
      google_project_iam_member.let_in["workers"].condition[0].expression == "resource.type == \"compute.googleapis.com/Instance\" && resource.name.extract(\"/instances/{name}\").startsWith(\"workspace-\") && api.getAttribute(\"iam.googleapis.com/modifiedGrantsByRole\", []).hasOnly([\"roles/compute.osLogin\"])",
    ])
    error_message = "Only the workers let people in, by one role, and to machines with the Hub's names."
  }
  assert {
    condition = alltrue([
      for name, function in google_cloud_run_v2_service.this :
      function.invoker_iam_disabled == (local.functions[name].invoker == "everyone") && function.invoker_iam_disabled != contains(keys(google_cloud_run_v2_service_iam_member.invoker), name)
    ])
    error_message = "A function is either for everybody, and checks its callers itself, or for one service account."
  }
  assert {
    condition = alltrue([
      for name, binding in google_cloud_run_v2_service_iam_member.invoker : binding.member == google_service_account.invoker[local.functions[name].invoker].member
    ])
    error_message = "Each guarded function is called by whom the catalogue says, and by nobody else."
  }
  assert {
    condition     = !google_cloud_run_v2_service.this["advance_operation"].invoker_iam_disabled && !google_cloud_run_v2_service.this["cleanup"].invoker_iam_disabled
    error_message = "Workers and scheduled functions are not for everybody."
  }
  assert {
    condition     = output.build_image == "gcloud builds submit \"./../../images/workspace\" --config \"./../../images/workspace/cloudbuild.yaml\" --project demo-project --region us-west1 --service-account ${google_service_account.image.id} --gcs-source-staging-dir gs://demo-project-hub-c0ffee-source/image --substitutions _IMAGE=us-west1-docker.pkg.dev/demo-project/hub-workspaces/workspace:latest"
    error_message = "The command builds the image from this repository, as the image's own account, to where the Hub looks for it."
  }
  assert {
    condition = alltrue([
      google_artifact_registry_repository_iam_member.image.repository == google_artifact_registry_repository.workspaces.name,
      google_artifact_registry_repository_iam_member.image.member == google_service_account.image.member,
      google_storage_bucket_iam_member.image.role == "roles/storage.objectViewer",
    ])
    error_message = "The image's account writes to the workspaces' registry only."
  }
  assert {
    condition = alltrue([
      length(google_api_gateway_gateway.this) == 1,
      length(google_compute_backend_service.this) == 0,
      toset(keys(local.gateway_document.paths)) == toset([for route in local.routes : route.path]),
      local.gateway_document.paths["/workspaces/{workspace_id}/status"].get.parameters[0].name == "workspace_id",
      local.gateway_document.paths["/workspaces"].post["x-google-backend"].address == local.urls["create_workspace"],
      !can(local.gateway_document.paths["/workspaces/{workspace_id}/reports"]),
    ])
    error_message = "Without a domain the public address is API Gateway's, with the catalogue's paths for people."
  }
  assert {
    condition = alltrue([
      length(google_compute_network.this) == 1,
      length(google_compute_firewall.iap) == 1,
      length(google_compute_router_nat.this) == 1,
      google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED",
    ])
    error_message = "By default the Hub has a network of its own, and protects its records."
  }
  assert {
    condition = alltrue([
      google_compute_subnetwork.this[0].ip_cidr_range == "10.64.0.0/18",
      google_compute_router_nat.this[0].enable_dynamic_port_allocation,
      google_cloud_tasks_queue.this["advance_operation"].rate_limits[0].max_dispatches_per_second == local.functions["advance_operation"].dispatch.max_per_second,
      google_cloud_tasks_queue.sweeps["advance_operation"].rate_limits[0].max_dispatches_per_second == local.functions["advance_operation"].sweeps.max_per_second,
    ])
    error_message = "By default there are addresses for 16,000 machines, ports as they need them, and the catalogue's rate of jobs."
  }
  assert {
    condition = alltrue([
      for name, function in google_cloud_run_v2_service.this : function.template[0].scaling[0].max_instance_count == min(10, local.functions[name].max_instances)
    ]) && google_cloud_run_v2_service.this["cleanup"].template[0].scaling[0].max_instance_count == 1
    error_message = "No function asks for more CPUs than a new project has."
  }
  assert {
    condition     = google_project_iam_custom_role.look.role_id == "hub_c0ffee_look_at_machines" && google_project_iam_custom_role.operate.role_id == "hub_c0ffee_operate_machines"
    error_message = "The roles are this installation's: the ids of deleted ones stay taken."
  }
  assert {
    condition     = !can(regex("\\[\\]|\\{\\}|:\"\"|null|:false", google_monitoring_dashboard.this.dashboard_json)) && strcontains(google_monitoring_dashboard.this.dashboard_json, "\"groupByFields\":[\"resource.labels.service_name\"]")
    error_message = "The dashboard has nothing empty in it, which would be a change in every plan."
  }
}

run "a_larger_hub" {
  variables {
    max_instances = 20
    min_instances = 10
    queue_rate    = 40
    subnet_range  = "10.64.0.0/16"
  }

  assert {
    condition = alltrue([
      for name, function in google_cloud_run_v2_service.this : function.template[0].scaling[0].max_instance_count == local.functions[name].max_instances
      && function.template[0].scaling[0].min_instance_count <= function.template[0].scaling[0].max_instance_count
    ])
    error_message = "All that the catalogue allows can be had, and no function keeps more instances than it may have."
  }
  assert {
    condition     = google_cloud_tasks_queue.this["advance_operation"].rate_limits[0].max_dispatches_per_second == 40 && google_cloud_tasks_queue.sweeps["advance_operation"].rate_limits[0].max_dispatches_per_second == 10 && google_compute_subnetwork.this[0].ip_cidr_range == "10.64.0.0/16"
    error_message = "Rate and addresses can be raised."
  }
}

run "another_tag" {
  variables {
    settings = { HUB_DEFAULT_IMAGE_TAG = "stable" }
  }

  assert {
    condition     = endswith(output.build_image, "/hub-workspaces/workspace:stable")
    error_message = "The image is built with the tag that new workspaces get."
  }
}

run "team" {
  variables {
    access        = { admins = ["ada@example.com"], domains = ["example.com"] }
    domain        = "hub.example.com"
    iap_members   = ["domain:example.com", "user:guest@example.org"]
    min_instances = 1
    name          = "team"
    region        = "europe-west1"
    zones         = ["europe-west1-b"]

    connect_members = ["domain:example.com", "user:guest@example.org"]
  }

  assert {
    condition = alltrue([
      length(google_project_iam_custom_role.connect) == 1,
      jsonencode(google_project_iam_custom_role.connect[0].permissions) == jsonencode(toset(["compute.projects.get"])),
      jsonencode(keys(google_project_iam_member.connect_project)) == jsonencode(sort(var.connect_members)),
      alltrue([for member, binding in google_project_iam_member.connect_project : binding.member == member && binding.role == google_project_iam_custom_role.connect[0].id]),
      jsonencode(keys(google_project_iam_member.connect_tunnel)) == jsonencode(sort(var.connect_members)),
      alltrue([for member, binding in google_project_iam_member.connect_tunnel : binding.member == member && binding.role == "roles/iap.tunnelResourceAccessor" && binding.condition[0].expression == "destination.port == 22"]),
      jsonencode(keys(google_service_account_iam_member.connect_as_machine)) == jsonencode(sort(var.connect_members)),
      alltrue([for member, binding in google_service_account_iam_member.connect_as_machine : binding.member == member && binding.service_account_id == google_service_account.machine.name]),
    ])
    error_message = "Each member gets the tunnel to port 22, a look at the project, and the use of the machines' account."
  }

  assert {
    condition = alltrue([
      length(google_api_gateway_gateway.this) == 0,
      length(google_compute_backend_service.this) == length(local.public),
      length(google_compute_url_map.this[0].path_matcher[0].route_rules) == length(local.routes),
      length(google_iap_settings.this) == 0,
      length(google_iap_web_backend_service_iam_member.this) == 2 * (length(local.public) - 1),
      length(google_project_service_identity.iap) == 1,
      alltrue([for name, backend in google_compute_backend_service.this : backend.iap[0].enabled == (name != "describe_sign_in")]),
    ])
    error_message = "With a domain there is a load balancer with Identity-Aware Proxy before every function for people, except what says how to sign in."
  }
  assert {
    condition = jsonencode(google_compute_url_map.this[0].path_matcher[0].route_rules[*].priority) == jsonencode(range(1, length(local.routes) + 1)) && contains(
      [for rule in google_compute_url_map.this[0].path_matcher[0].route_rules : rule.match_rules[0].path_template_match], "/workspaces/*/status"
    )
    error_message = "Its rules come in the order of their priorities, with a star for each parameter."
  }
  assert {
    condition = jsonencode(flatten([
      for rule in google_compute_url_map.this[0].path_matcher[0].route_rules : rule.match_rules[0].full_path_match == null ? [] : [rule.match_rules[0].full_path_match]
    ])) == jsonencode([for route in local.routes : route.path if !strcontains(route.path, "{")])
    error_message = "A path without a parameter is matched whole, the page's among them."
  }
  assert {
    condition = alltrue([
      for at, route in local.routes : alltrue([
        # No rule before it takes its path, but those of the same path.
        for before in slice(local.routes, 0, at) :
        before.path == route.path || length(regexall("^${replace(before.path, "/{[a-z_]+}/", "[^/]+")}$", route.path)) == 0
      ])
    ]) && local.routes[0].path == "/" && contains([for route in local.routes : "${route.function} ${route.path}"], "show_page /assets/{name}")
    error_message = "A literal segment wins over a parameter."
  }
  assert {
    condition = alltrue([
      google_compute_global_forwarding_rule.to_https[0].port_range == "80",
      google_compute_global_forwarding_rule.to_https[0].ip_address == google_compute_global_forwarding_rule.this[0].ip_address,
      google_compute_url_map.to_https[0].default_url_redirect[0].https_redirect,
      google_compute_url_map.to_https[0].default_service == null,
    ])
    error_message = "Without TLS there is a redirect to https:// at the same address, and nothing else."
  }
  assert {
    condition = alltrue([
      for name, function in google_cloud_run_v2_service.this :
      function.ingress == (contains(keys(local.public), name) ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : name == "report_workspace" ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_ONLY")
      && function.template[0].scaling[0].min_instance_count == (contains(keys(local.public), name) ? 1 : 0)
      && contains([for each in function.template[0].containers[0].env : "${each.name}=${each.value}"], "HUB_IDENTITY_SOURCE=iap")
      && contains([for each in function.template[0].containers[0].env : "${each.name}=${each.value}"], "HUB_ZONES=europe-west1-b")
    ])
    error_message = "Nobody gets past Identity-Aware Proxy to the functions for people, and they are kept warm."
  }
  assert {
    condition     = length(local.audiences) == length(local.public) - 1 && alltrue([for audience in local.audiences : startswith(audience, "/projects/123456789012/global/backendServices/")])
    error_message = "The audiences are the backend services of Identity-Aware Proxy."
  }
}

run "commands_that_sign_in_with_the_hubs_own_client" {
  variables {
    audiences = []
    sign_in = {
      desktop_client_id     = "123456789012-desktop.apps.googleusercontent.com"
      desktop_client_secret = "GOCSPX-none"
      web_client_id         = "123456789012-web.apps.googleusercontent.com"
    }
  }

  assert {
    condition = alltrue([
      local.environment["HUB_OAUTH_CLIENT_ID"] == "123456789012-desktop.apps.googleusercontent.com",
      local.environment["HUB_OAUTH_CLIENT_SECRET"] == "GOCSPX-none",
      local.environment["HUB_OAUTH_WEB_CLIENT_ID"] == "123456789012-web.apps.googleusercontent.com",
      local.environment["HUB_ADDRESS"] == local.address,
      toset(local.audiences) == toset([local.environment["HUB_OAUTH_CLIENT_ID"], local.environment["HUB_OAUTH_WEB_CLIENT_ID"], local.address]),
    ])
    error_message = "The Hub tells its own clients and address, and takes tokens for them."
  }
}

run "commands_behind_identity_aware_proxy" {
  variables {
    domain      = "hub.example.com"
    iap_members = ["domain:example.com"]
    sign_in = {
      desktop_client_id = "123456789012-desktop.apps.googleusercontent.com"
      iap_client_id     = "123456789012-proxy.apps.googleusercontent.com"
    }
  }

  assert {
    condition = alltrue([
      length(google_iap_settings.this) == length(local.public) - 1,
      alltrue([for settings in google_iap_settings.this : settings.access_settings[0].oauth_settings[0].programmatic_clients == tolist(["123456789012-desktop.apps.googleusercontent.com"])]),
      local.environment["HUB_IAP_AUDIENCE"] == "123456789012-proxy.apps.googleusercontent.com",
      local.environment["HUB_ADDRESS"] == "https://hub.example.com",
    ])
    error_message = "The proxy takes tokens of the Hub's own client before every function that it guards."
  }
}

run "compute_admin_and_a_network_of_ones_own" {
  variables {
    compute_admin       = true
    deletion_protection = false
    network = {
      network    = "projects/demo-project/global/networks/ours"
      subnetwork = "projects/demo-project/regions/us-west1/subnetworks/ours"
    }
  }

  assert {
    condition     = google_project_iam_member.operate["workers"].role == "roles/compute.admin" && length(google_project_iam_member.operate["workers"].condition) == 0
    error_message = "The switch gives the workers Compute Admin."
  }
  assert {
    condition     = length(google_compute_network.this) == 0 && length(google_compute_firewall.iap) == 0 && local.environment["HUB_SUBNETWORK"] == var.network.subnetwork
    error_message = "Where a network is given, none is made."
  }
  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_DISABLED"
    error_message = "The protection of the records can be taken off."
  }
}
