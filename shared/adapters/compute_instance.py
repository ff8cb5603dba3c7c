"""The resources that Compute is asked to make: instances with their disks, and snapshots of homes.

An instance is "Container-on-VM" on Container-Optimized OS. Systemd units run the container;
cloud-init writes them at every boot (``shared/boot``). The user-data is the same for every
workspace. Everything that belongs to one workspace or that a person wrote is metadata, which the
boot scripts read as data.
"""

from datetime import timedelta

from google.cloud.compute_v1 import types

from shared.boot.user_data import user_data
from shared.config import MachineSettings
from shared.domain.instance import CreateSnapshot, InsertInstance, RefreshMetadata
from shared.domain.machine_types import disk_type
from shared.domain.ownership import labels_of

IAP_TAG = "workspace-hub"  # the firewall opens machines with this network tag to IAP's range


def labels(workspace_id: str, owner_id: str, settings: MachineSettings) -> dict[str, str]:
    """Return the labels of every resource of a workspace of this installation."""
    return {**labels_of(workspace_id, owner_id), "hub": settings.installation}


def metadata_items(
    command: InsertInstance | RefreshMetadata, settings: MachineSettings, report_url: str
) -> dict[str, str]:
    """Return all of the Hub's metadata items by key, the boot files included.

    A new machine and the refresh of an existing one get the same items. So every boot gets today's
    configuration.

    ``cos-update-strategy`` is ``update_enabled`` or ``update_disabled``. Its default depends on the
    image (enabled before milestone 117) and on the project's metadata. With Secure Boot, which
    every machine has, updates are not carried out. So updates are disabled explicitly: a machine
    keeps the system that it was made with (source: Container-Optimized OS, "Automatic updates").
    """
    return {
        "user-data": user_data(),
        "cos-update-strategy": "update_disabled",
        "enable-oslogin": "TRUE",
        "block-project-ssh-keys": "TRUE",
        "google-logging-enabled": "true",
        "hub-workspace-id": command.workspace_id,
        "hub-workspace-name": command.workspace_name,
        "hub-generation": str(command.generation),
        "hub-reports-url": f"{report_url}/workspaces/{command.workspace_id}/reports",
        "hub-audience": report_url,
        "hub-image": _image_reference(settings.image_repository, command.image_tag),
        "hub-repo": command.repo or "",
        "hub-branch": command.branch or "",
        "hub-health-command": settings.health_command,
        "hub-health-seconds": _seconds(settings.health_within),
        "hub-heartbeat-seconds": _seconds(settings.heartbeat_interval),
        "hub-keep-awake-seconds": _seconds(settings.keep_awake_most),
        "hub-container-metadata": "true" if settings.container_metadata else "false",
        "hub-container-shared-memory-mb": str(settings.container_shared_memory_mb),
        "hub-container-processes": str(settings.container_processes),
    }


def instance_resource(
    command: InsertInstance, project_id: str, settings: MachineSettings, report_url: str
) -> types.Instance:
    """Return the instance to insert.

    The home disk is created with the instance, empty or from a snapshot, or attached if it exists.
    It outlives the instance.
    """
    zone = command.place.zone
    resource_labels = labels(command.workspace_id, command.owner_id, settings)
    metadata = metadata_items(command, settings, report_url)
    interface = types.NetworkInterface(
        network=settings.network, subnetwork=settings.subnetwork or None
    )
    if settings.external_address:
        interface.access_configs = [types.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")]
    return types.Instance(
        name=command.place.name,
        machine_type=f"zones/{zone}/machineTypes/{command.machine_type}",
        labels=resource_labels,
        tags=types.Tags(items=[IAP_TAG]),
        metadata=types.Metadata(
            items=[types.Items(key=key, value=value) for key, value in metadata.items()]
        ),
        disks=[
            _boot_disk(command, resource_labels, settings),
            _home_disk(command, project_id, resource_labels, settings),
        ],
        network_interfaces=[interface],
        service_accounts=[
            types.ServiceAccount(
                email=settings.service_account,
                scopes=["https://www.googleapis.com/auth/cloud-platform"],
            )
        ],
        shielded_instance_config=types.ShieldedInstanceConfig(
            enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
        ),
        scheduling=_scheduling(settings),
    )


def snapshot_resource(
    command: CreateSnapshot, project_id: str, settings: MachineSettings
) -> types.Snapshot:
    """Return the snapshot to insert.

    It is stored in the disk's region. By default Compute takes the project's snapshot settings, and
    without any the nearest multi-region, which costs more, may be outside of the locations that an
    organisation policy allows, and takes the content out of its region (sources: "Set default
    storage location using snapshot settings"; jenkinsci/google-compute-engine-plugin, issue 393;
    velero-io/velero, issue 1361). Compute takes one location only (velero-io/velero, pull request
    1375).
    """
    disk = command.disk
    return types.Snapshot(
        name=command.place.name,
        source_disk=f"projects/{project_id}/zones/{disk.zone}/disks/{disk.name}",
        snapshot_type="STANDARD",
        storage_locations=[disk.zone.rpartition("-")[0]],
        labels=labels(command.workspace_id, command.owner_id, settings),
    )


def _image_reference(repository: str, tag: str) -> str:
    return f"{repository}@{tag}" if tag.startswith("sha256:") else f"{repository}:{tag}"


def _seconds(duration: timedelta) -> str:
    """Return whole seconds, at least one, because the boot scripts count in whole seconds."""
    return str(max(1, round(duration.total_seconds())))


def _scheduling(settings: MachineSettings) -> types.Scheduling:
    """Return how Compute may treat the machine.

    A preemption or the end of the run time stops the machine, so the home disk and the record stay.
    Both need a termination action, and a Spot VM is neither restarted nor migrated (source:
    Compute's documentation of Spot VMs and of limits to a VM's run time).
    """
    scheduling = types.Scheduling(provisioning_model="STANDARD", automatic_restart=True)
    if settings.spot:
        scheduling = types.Scheduling(
            provisioning_model="SPOT", automatic_restart=False, on_host_maintenance="TERMINATE"
        )
    if settings.most_run:
        scheduling.max_run_duration = types.Duration(
            seconds=round(settings.most_run.total_seconds())
        )
    if settings.spot or settings.most_run:
        scheduling.instance_termination_action = "STOP"
    return scheduling


def _boot_disk(
    command: InsertInstance, resource_labels: dict[str, str], settings: MachineSettings
) -> types.AttachedDisk:
    """Return the boot disk to create.

    Its name contains the generation. Compute's default is the machine's name, which a boot disk
    that outlived an earlier machine of the workspace would still hold.
    """
    return types.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=types.AttachedDiskInitializeParams(
            disk_name=f"{command.place.name}-{command.generation}",
            source_image=settings.boot_image,
            disk_size_gb=settings.boot_disk_gb,
            disk_type=_disk_type(command, settings),
            labels=resource_labels,
        ),
    )


def _home_disk(
    command: InsertInstance,
    project_id: str,
    resource_labels: dict[str, str],
    settings: MachineSettings,
) -> types.AttachedDisk:
    disk = types.AttachedDisk(auto_delete=False, device_name="home")
    if command.attach_home:
        disk.source = f"projects/{project_id}/zones/{command.place.zone}/disks/{command.home_disk}"
    else:
        disk.initialize_params = types.AttachedDiskInitializeParams(
            disk_name=command.home_disk,
            # Compute refuses a disk that is smaller than the snapshot's.
            disk_size_gb=max(settings.home_disk_gb, command.home_gb or 0),
            disk_type=_disk_type(command, settings),
            labels=resource_labels,
        )
        if command.home_snapshot:
            disk.initialize_params.source_snapshot = (
                f"projects/{project_id}/global/snapshots/{command.home_snapshot}"
            )
    return disk


def _disk_type(command: InsertInstance, settings: MachineSettings) -> str:
    """Return the type of both disks.

    The configuration is checked so that every allowed machine type can use it.
    """
    name = disk_type(command.machine_type, settings.disk_types)
    return f"zones/{command.place.zone}/diskTypes/{name}"
