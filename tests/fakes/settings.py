"""The settings with which tests create machines."""

from __future__ import annotations

from datetime import timedelta

from shared.config import MachineSettings

MACHINE_SETTINGS = MachineSettings(
    installation="hub-test",
    image_repository="us-west1-docker.pkg.dev/a-project/workspaces/workspace",
    boot_image="projects/cos-cloud/global/images/family/cos-stable",
    boot_disk_gb=20,
    home_disk_gb=50,
    disk_types={},
    network="projects/a-project/global/networks/workspaces",
    subnetwork="projects/a-project/regions/us-west1/subnetworks/workspaces",
    service_account="machine@a-project.iam.gserviceaccount.com",
    external_address=False,
    spot=False,
    most_run=None,
    health_command="test -S /run/editor.sock",
    health_within=timedelta(minutes=3),
    heartbeat_interval=timedelta(minutes=2),
    keep_awake_most=timedelta(hours=12),
    container_metadata=False,
    container_shared_memory_mb=1024,
    container_processes=16384,
)
