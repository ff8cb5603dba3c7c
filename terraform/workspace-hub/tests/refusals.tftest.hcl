# What is refused before anything is made. Each run is named after what is wrong.

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

run "a_name_that_is_too_long" {
  command = plan

  variables {
    name = "a-name-too-long-for-it"
  }

  expect_failures = [var.name]
}

run "a_name_that_ends_with_a_hyphen" {
  command = plan

  variables {
    name = "hub-"
  }

  expect_failures = [var.name]
}

run "nobody" {
  command = plan

  variables {
    access = {}
  }

  expect_failures = [var.access]
}

run "administrators_alone" {
  command = plan

  variables {
    access = { admins = ["ada@example.com"] }
  }

  expect_failures = [var.access]
}

run "everybody_an_administrator" {
  command = plan

  variables {
    access = { admins = ["*"], domains = ["example.com"] }
  }

  expect_failures = [var.access]
}

run "a_domain_in_personal_mode" {
  command = plan

  variables {
    access = { domains = ["example.com"], emails = ["alice@example.com"], mode = "personal" }
  }

  expect_failures = [var.access]
}

run "an_outside_administrator_in_personal_mode" {
  command = plan

  variables {
    access = { emails = ["alice@example.com"], mode = "personal", outside_admins = ["heidi@gmail.com"] }
  }

  expect_failures = [var.access]
}

run "an_administrator_of_no_organisation" {
  command = plan

  variables {
    access = { admins = ["Heidi@Gmail.com"], domains = ["example.com"] }
  }

  expect_failures = [var.access]
}

run "a_service_account_as_the_organisations_administrator" {
  command = plan

  variables {
    access = { admins = ["ci@demo-project.iam.gserviceaccount.com"], domains = ["example.com"] }
  }

  expect_failures = [var.access]
}

run "an_address_with_another_letter" {
  command = plan

  variables {
    access = { emails = ["\u0430da@example.com"] }
  }

  expect_failures = [var.access]
}

run "two_addresses_in_one" {
  command = plan

  variables {
    access = { domains = ["example.com"], outside_admins = ["heidi@gmail.com,eve@gmail.com"] }
  }

  expect_failures = [var.access]
}

run "an_address_for_an_organisation" {
  command = plan

  variables {
    access = { domains = ["@example.com"] }
  }

  expect_failures = [var.access]
}

run "another_mode" {
  command = plan

  variables {
    access = { emails = ["alice@example.com"], mode = "public" }
  }

  expect_failures = [var.access]
}

run "no_audience" {
  command = plan

  variables {
    audiences = []
  }

  expect_failures = [var.audiences]
}

run "a_domain_without_iap_members" {
  command = plan

  variables {
    domain = "hub.example.com"
  }

  expect_failures = [var.iap_members]
}

run "iap_members_without_a_domain" {
  command = plan

  variables {
    iap_members = ["domain:example.com"]
  }

  expect_failures = [var.iap_members]
}

run "an_address_for_a_domain" {
  command = plan

  variables {
    domain      = "https://hub.example.com"
    iap_members = ["domain:example.com"]
  }

  expect_failures = [var.domain]
}

run "an_unknown_setting" {
  command = plan

  variables {
    settings = { HUB_COLOUR = "blue" }
  }

  expect_failures = [var.settings]
}

run "homes_that_are_larger_than_their_limit" {
  command = plan

  variables {
    settings = { HUB_HOME_DISK_GB = "200", HUB_HOME_DISK_MAX_GB = "100" }
  }

  expect_failures = [var.settings]
}

run "homes_that_are_larger_than_the_usual_limit" {
  command = plan

  variables {
    settings = { HUB_HOME_DISK_GB = "501" }
  }

  expect_failures = [var.settings]
}

run "a_limit_below_the_usual_home" {
  command = plan

  variables {
    settings = { HUB_HOME_DISK_MAX_GB = "40" }
  }

  expect_failures = [var.settings]
}

run "a_setting_that_the_module_decides" {
  command = plan

  variables {
    settings = { HUB_MODE = "personal" }
  }

  expect_failures = [var.settings]
}

run "a_zone_for_a_region" {
  command = plan

  variables {
    region = "us-west1-a"
  }

  expect_failures = [var.region]
}

run "a_zone_of_another_region" {
  command = plan

  variables {
    zones = ["europe-west1-b"]
  }

  expect_failures = [var.zones]
}

run "no_zone" {
  command = plan

  variables {
    zones = []
  }

  expect_failures = [var.zones]
}

run "no_machine_type" {
  command = plan

  variables {
    machine_types = []
  }

  expect_failures = [var.machine_types]
}

run "a_machine_type_that_is_none" {
  command = plan

  variables {
    machine_types = ["big"]
  }

  expect_failures = [var.machine_types]
}

run "a_machine_type_with_local_ssd" {
  command = plan

  variables {
    machine_types = ["e2-standard-4", "c3-standard-4-lssd"]
  }

  expect_failures = [var.machine_types]
}

run "a_machine_type_with_a_gpu" {
  command = plan

  variables {
    machine_types = ["g2-standard-4"]
  }

  expect_failures = [var.machine_types]
}

run "a_machine_type_of_bare_metal" {
  command = plan

  variables {
    machine_types = ["c3-standard-192-metal"]
  }

  expect_failures = [var.machine_types]
}

run "arm_beside_x86" {
  command = plan

  variables {
    machine_types = ["n4-standard-4", "n4a-standard-4"]
  }

  expect_failures = [var.machine_types]
}

run "a_price_with_its_currency" {
  command = plan

  variables {
    machine_prices = { per_hour = { e2-standard-4 = "0.134 USD" } }
  }

  expect_failures = [var.machine_prices]
}

run "a_price_of_no_machine_type" {
  command = plan

  variables {
    machine_prices = { per_hour = { "e2=standard" = 0.134 } }
  }

  expect_failures = [var.machine_prices]
}

run "a_currency_by_its_sign" {
  command = plan

  variables {
    machine_prices = { currency = "€" }
  }

  expect_failures = [var.machine_prices]
}

run "a_disk_type_by_machine_type" {
  command = plan

  variables {
    disk_types = { e2-standard-4 = "pd-ssd" }
  }

  expect_failures = [var.disk_types]
}

run "a_disk_that_is_no_boot_disk" {
  command = plan

  variables {
    disk_types = { n4 = "hyperdisk-throughput" }
  }

  expect_failures = [var.disk_types]
}

run "a_part_of_an_instance" {
  command = plan

  variables {
    min_instances = 0.5
  }

  expect_failures = [var.min_instances]
}

run "an_image_with_a_tag" {
  command = plan

  variables {
    image = "workspace:latest"
  }

  expect_failures = [var.image]
}

run "a_project_number" {
  command = plan

  variables {
    project_id = "123456789012"
  }

  expect_failures = [var.project_id]
}

run "a_channel_by_its_address" {
  command = plan

  variables {
    alert_channels = ["ada@example.com"]
  }

  expect_failures = [var.alert_channels]
}

run "a_network_by_its_bare_name" {
  command = plan

  variables {
    network = { network = "default", subnetwork = "default" }
  }

  expect_failures = [var.network]
}

run "a_range_that_does_not_begin_at_its_first_address" {
  command = plan

  variables {
    subnet_range = "10.64.1.0/18"
  }

  expect_failures = [var.subnet_range]
}

run "an_address_for_a_range" {
  command = plan

  variables {
    subnet_range = "10.64.0.0"
  }

  expect_failures = [var.subnet_range]
}

run "a_range_for_no_machine" {
  command = plan

  variables {
    subnet_range = "10.64.0.0/30"
  }

  expect_failures = [var.subnet_range]
}

run "a_queue_that_stands" {
  command = plan

  variables {
    queue_rate = 0
  }

  expect_failures = [var.queue_rate]
}

run "more_instances_than_any_function_has" {
  command = plan

  variables {
    max_instances = 21
  }

  expect_failures = [var.max_instances]
}

run "more_instances_kept_than_allowed" {
  command = plan

  variables {
    max_instances = 2
    min_instances = 3
  }

  expect_failures = [var.min_instances]
}

run "a_name_for_an_oauth_client" {
  command = plan

  variables {
    sign_in = { desktop_client_id = "the-client" }
  }

  expect_failures = [var.sign_in]
}

run "a_secret_without_its_client" {
  command = plan

  variables {
    sign_in = { desktop_client_secret = "GOCSPX-none" }
  }

  expect_failures = [var.sign_in]
}

run "a_web_client_whose_secret_would_be_told" {
  command = plan

  variables {
    sign_in = {
      desktop_client_id = "123456789012-web.apps.googleusercontent.com"
      web_client_id     = "123456789012-web.apps.googleusercontent.com"
    }
  }

  expect_failures = [var.sign_in]
}

run "a_client_of_a_proxy_that_is_not_there" {
  command = plan

  variables {
    sign_in = { iap_client_id = "123456789012-proxy.apps.googleusercontent.com" }
  }

  expect_failures = [var.sign_in]
}

run "everybody_connects" {
  command = plan

  variables {
    connect_members = ["allAuthenticatedUsers"]
  }

  expect_failures = [var.connect_members]
}

run "a_member_without_its_kind" {
  command = plan

  variables {
    connect_members = ["alice@example.com"]
  }

  expect_failures = [var.connect_members]
}

run "a_member_with_another_letter" {
  command = plan

  variables {
    connect_members = ["user:älice@example.com"]
  }

  expect_failures = [var.connect_members]
}

run "a_member_that_was_deleted" {
  command = plan

  variables {
    connect_members = ["deleted:user:alice@example.com?uid=123456789012345678901"]
  }

  expect_failures = [var.connect_members]
}

run "a_member_twice" {
  command = plan

  variables {
    connect_members = ["user:alice@example.com", "user:Alice@example.com"]
  }

  expect_failures = [var.connect_members]
}
