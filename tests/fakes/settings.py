"""Settings for tests: what a deployment must set, and what the tests create machines with."""

from __future__ import annotations

from dataclasses import replace

from shared.config import read_settings

REQUIRED_SETTINGS = {
    "GOOGLE_CLOUD_PROJECT": "a-project",
    "HUB_REGION": "us-west1",
    "HUB_REPORT_WORKSPACE_URL": "https://report.example.com",
    "HUB_ADVANCE_OPERATION_URL": "https://advance.example.com/operations",
    "HUB_OPERATIONS_SERVICE_ACCOUNT": "operations@example.com",
    "HUB_USER_AUDIENCES": "https://hub.example.com",
    "HUB_INSTALLATION": "hub-1a2b",
    "HUB_IMAGE_REPOSITORY": "us-west1-docker.pkg.dev/a-project/workspaces/workspace",
    "HUB_MACHINE_SERVICE_ACCOUNT": "machine@example.com",
}

MACHINE_SETTINGS = replace(
    read_settings(REQUIRED_SETTINGS | {"HUB_ALLOWED_EMAILS": "*"}).machine,
    installation="hub-test",
    boot_disk_gb=20,
    network="projects/a-project/global/networks/workspaces",
    subnetwork="projects/a-project/regions/us-west1/subnetworks/workspaces",
    service_account="machine@a-project.iam.gserviceaccount.com",
    health_command="test -S /run/editor.sock",
)
