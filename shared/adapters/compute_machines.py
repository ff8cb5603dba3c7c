"""Machines in Compute Engine.

Importing this module takes seconds and a hundred megabytes (measured: the Compute library). So
``bootstrap`` imports it only where a machine is touched. This module uses only calls that return at
once, because the calls that wait ignore a configured address.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

import requests
from google.api_core import exceptions, retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud.compute_v1 import types
from google.cloud.compute_v1.services.disks import DisksClient
from google.cloud.compute_v1.services.instances import InstancesClient
from google.cloud.compute_v1.services.zone_operations import ZoneOperationsClient
from google.protobuf.json_format import ParseError
from requests.adapters import HTTPAdapter

from shared import logs
from shared.adapters.compute_errors import http_fault, operation_fault, plain_message
from shared.adapters.compute_instance import (
    instance_resource,
    labels,
    metadata_items,
    snapshot_resource,
)
from shared.adapters.compute_policies import POLICY_VERSION, with_login, without_logins
from shared.config import MachineSettings
from shared.domain.errors import MachineFaultError, UnavailableError
from shared.domain.instance import (
    GLOBAL,
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    DeleteSnapshot,
    Disk,
    DiskSnapshot,
    Fault,
    FaultKind,
    InsertInstance,
    Instance,
    InstanceState,
    LabelDisk,
    LabelInstance,
    LabelSnapshot,
    OperationState,
    Place,
    RefreshMetadata,
    ResizeDisk,
    ResumeInstance,
    SnapshotStatus,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.ports import Machines

# Less than a function instance has between SIGTERM and SIGKILL. A repeated call is the same call.
CALL_SECONDS = 8.0
READ_SECONDS = 5.0
# The library's own retry of a read continues for ten minutes and ignores the timeout. This retry
# covers a short failure only. For a longer one the queue waits, and the worker is free for other
# operations.
_READ_RETRY = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable),
    initial=0.2,
    maximum=0.5,
    timeout=1.0,
)
_READ: dict[str, Any] = {"retry": _READ_RETRY, "timeout": READ_SECONDS}
# A list of many pages is made by the hourly sweep only, which may wait, and does not begin again
# because of one page.
LIST_SECONDS = 30.0
_LIST: dict[str, Any] = {"retry": _READ_RETRY.with_timeout(LIST_SECONDS), "timeout": LIST_SECONDS}
# The API lists a few states that the documented lifecycle does not have. A state that is not listed
# here is treated as ``REPAIRING``: the machine is about to change.
_STATES = {state.value: state for state in InstanceState} | {
    "PENDING": InstanceState.PROVISIONING,
    "DEPROVISIONING": InstanceState.STOPPING,
    "STOPPED": InstanceState.TERMINATED,
}
# A status that is not listed here is treated as ``CREATING``: the snapshot is looked at again.
_SNAPSHOT_STATUSES = {status.value: status for status in SnapshotStatus}
# The REST method of each command: the meaning of a refusal may depend on it.
_VERBS: dict[type[Command], str] = {
    InsertInstance: "insert",
    RefreshMetadata: "setMetadata",
    LabelInstance: "setLabels",
    LabelDisk: "setLabels",
    StartInstance: "start",
    ResumeInstance: "resume",
    SuspendInstance: "suspend",
    StopInstance: "stop",
    DeleteInstance: "delete",
    DeleteDisk: "delete",
    ResizeDisk: "resize",
    CreateSnapshot: "insert",
    LabelSnapshot: "setLabels",
    DeleteSnapshot: "delete",
}
_READ_VERB = "get"
# The warnings that a complete list may have. Any other warning, known or not, means that the list
# is partial.
_HARMLESS_WARNINGS = frozenset(
    {"", "NO_RESULTS_ON_PAGE", "DEPRECATED_RESOURCE_USED", "DEPRECATED_TYPE_USED"}
)
# What a list asks of each machine, disk and snapshot. Without it every machine comes with its
# metadata, which has the boot files: some 60 kB each. A name that Compute does not know would fail
# every list, so a test compares them with the library's messages.
_INSTANCE_FIELDS = (
    "id,name,zone,status,machineType,labels,networkInterfaces/networkIP,disks/source,"
    "creationTimestamp,lastStartTimestamp,lastStopTimestamp,lastSuspendedTimestamp"
)
_DISK_FIELDS = "name,zone,labels,sizeGb,users,creationTimestamp,lastDetachTimestamp"
LISTED_INSTANCES = (
    f"items/*/instances({_INSTANCE_FIELDS}),items/*/warning,warning,unreachables,nextPageToken"
)
LISTED_DISKS = f"items/*/disks({_DISK_FIELDS}),items/*/warning,warning,unreachables,nextPageToken"
_SNAPSHOT_FIELDS = "name,status,labels,sourceDisk,diskSizeGb,creationTimestamp,storageBytes"
LISTED_SNAPSHOTS = f"items({_SNAPSHOT_FIELDS}),warning,nextPageToken"
# How often a policy is read again because somebody else has changed it, and how long after the
# first read no other attempt begins.
_POLICY_ATTEMPTS = 5
_POLICY_SECONDS = 5.0
_NO_ANSWER = "Compute Engine does not answer now. Try again in a moment."
_CHANGED_BY_OTHERS = "Others change the machine's policy all the time. Try again in a moment."
T = TypeVar("T")


class _PartialAnswers(HTTPAdapter):
    """Sends requests that ask for some fields of the answer only.

    The parameter is common to all methods of Compute. The library's requests do not have it, and
    its calls drop what a session adds to the parameters.
    """

    def __init__(self, fields: str) -> None:
        super().__init__()
        self._fields = fields

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
        """Add ``fields`` to the URL, and send the request."""
        request.prepare_url(request.url, {"fields": self._fields})
        return super().send(request, *args, **options)


class ComputeMachines(Machines):
    """``Machines`` on Compute Engine's REST API."""

    def __init__(
        self, project_id: str, settings: MachineSettings, report_url: str, emulator: str | None
    ) -> None:
        options: dict[str, Any] = {}
        if emulator:
            options = {
                "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
                "client_options": {"api_endpoint": f"http://{emulator}"},
            }
        self._instances = _read(lambda: InstancesClient(**options))
        self._disks = _read(lambda: DisksClient(**options))
        self._operations = _read(lambda: ZoneOperationsClient(**options))
        self._options = options
        self._project = project_id
        self._settings = settings
        self._report_url = report_url

    @cached_property
    def _snapshots(self) -> Any:
        return _read(self._snapshots_client)

    def _snapshots_client(self) -> Any:
        # Few processes ever see a snapshot, so the others do not import what is needed for them.
        from google.cloud.compute_v1.services.snapshots import SnapshotsClient  # noqa: PLC0415

        return SnapshotsClient(**self._options)

    @cached_property
    def _global_operations(self) -> Any:
        from google.cloud.compute_v1.services.global_operations import (  # noqa: PLC0415 -- as above
            GlobalOperationsClient,
        )

        return _read(lambda: GlobalOperationsClient(**self._options))

    def get(self, place: Place) -> Instance | None:
        """See the port."""
        found = _read_or_none(lambda: self._instances.get(**self._instance_at(place), **_READ))
        return None if found is None else _instance(found)

    def get_disk(self, place: Place) -> Disk | None:
        """See the port."""
        found = _read_or_none(lambda: self._disks.get(**self._disk_at(place), **_READ))
        return None if found is None else _disk(found)

    def get_snapshot(self, name: str) -> DiskSnapshot | None:
        """See the port."""
        found = _read_or_none(lambda: self._snapshots.get(**self._snapshot_at(name), **_READ))
        return None if found is None else _snapshot(found)

    def list_instances(self) -> Iterator[Instance]:
        """See the port."""
        instances = _read(lambda: InstancesClient(**self._options))
        with _partial(instances, LISTED_INSTANCES):
            ours = self._installation_filter
            yield from self._instances_in(instances.aggregated_list, ours, _LIST)

    def list_disks(self) -> Iterator[Disk]:
        """See the port."""
        disks = _read(lambda: DisksClient(**self._options))
        with _partial(disks, LISTED_DISKS):
            yield from self._disks_in(disks.aggregated_list, self._installation_filter, _LIST)

    def list_snapshots(self) -> Iterator[DiskSnapshot]:
        """See the port. Compute has one list of them for all zones."""
        snapshots = _read(self._snapshots_client)
        request = types.ListSnapshotsRequest(
            project=self._project, filter=self._installation_filter
        )
        with _partial(snapshots, LISTED_SNAPSHOTS):
            for page in _whole_pages(lambda: snapshots.list(request, **_LIST)):
                yield from map(_snapshot, page.items)

    def find_instances(self, workspace_id: str) -> Sequence[Instance]:
        """See the port."""
        filters = (f"labels.workspace={workspace_id}", f'name eq "workspace-{workspace_id}(-.*)?"')
        list_ = self._instances.aggregated_list
        found = [each for by in filters for each in self._instances_in(list_, by, _READ)]
        return list({(instance.zone, instance.name): instance for instance in found}.values())

    def find_disks(self, workspace_id: str) -> Sequence[Disk]:
        """See the port."""
        filters = (
            f"labels.workspace={workspace_id}",
            f'name eq "(home|workspace)-{workspace_id}(-.*)?"',
        )
        list_ = self._disks.aggregated_list
        found = [disk for by in filters for disk in self._disks_in(list_, by, _READ)]
        return list({(disk.zone, disk.name): disk for disk in found}.values())

    def operation(self, zone: str, name: str) -> OperationState:
        """See the port."""
        at: dict[str, Any] = {"project": self._project, "operation": name}
        found = _read_or_none(
            lambda: (
                self._global_operations.get(**at, **_READ)
                if zone == GLOBAL
                else self._operations.get(**at, zone=zone, **_READ)
            )
        )
        if found is None:
            return OperationState(done=True)
        if found.status != types.Operation.Status.DONE:
            return OperationState(done=False)
        return OperationState(done=True, fault=operation_fault(found))

    def console_tail(self, place: Place, most_bytes: int) -> str:
        """See the port."""
        try:
            found = _read_or_none(
                lambda: self._instances.get_serial_port_output(**self._instance_at(place), **_READ)
            )
        except UnavailableError as error:
            logs.warning("ConsoleNotRead", name=place.name, zone=place.zone, reason=str(error))
            return ""
        return found.contents.encode()[-most_bytes:].decode(errors="ignore") if found else ""

    def grant_login(self, place: Place, member: str) -> None:
        """See the port."""
        self._change_policy(place, lambda policy: with_login(policy, member))

    def revoke_logins(self, place: Place) -> int:
        """See the port."""
        try:
            return self._change_policy(place, without_logins)
        except MachineFaultError as error:
            if error.fault.kind is FaultKind.NOT_FOUND:
                return 0
            raise

    def _change_policy(self, place: Place, change: Callable[[types.Policy], int]) -> int:
        """Change an instance's policy as it is now; again if somebody else changes it meanwhile.

        ``change`` changes the policy that it gets, and returns how many members it has added or
        removed. The policy is sent back as it came but for that: with its etag, so that nobody's
        change is lost, and in the version that has conditions, without which IAM drops them.
        """
        began = time.monotonic()
        for attempt in range(_POLICY_ATTEMPTS):
            policy = self._read_policy(place)
            changed = change(policy)
            if not changed or self._write_policy(place, policy):
                return changed
            if time.monotonic() - began > _POLICY_SECONDS:
                break
            time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 -- jitter, not a secret
        raise UnavailableError(_CHANGED_BY_OTHERS)

    def _read_policy(self, place: Place) -> types.Policy:
        request = types.GetIamPolicyInstanceRequest(
            **self._policy_at(place), options_requested_policy_version=POLICY_VERSION
        )
        return _call("getIamPolicy", lambda: self._instances.get_iam_policy(request, **_READ))

    def _write_policy(self, place: Place, policy: types.Policy) -> bool:
        """Replace a policy. Returns False if somebody has changed it since it was read.

        IAM's APIs answer 409 (``ABORTED``) then, and some services 412 (``conditionNotMet``).
        """
        request = types.SetIamPolicyInstanceRequest(
            **self._policy_at(place),
            zone_set_policy_request_resource=types.ZoneSetPolicyRequest(policy=policy),
        )
        try:
            _call(
                "setIamPolicy",
                lambda: self._instances.set_iam_policy(request, timeout=CALL_SECONDS),
            )
        except MachineFaultError as error:
            stale = isinstance(error.__cause__, exceptions.Conflict | exceptions.PreconditionFailed)
            if stale and error.fault.kind is FaultKind.NOT_READY:
                return False
            raise
        return True

    def perform(self, command: Command, request_id: str) -> StartedCall:
        """See the port."""
        operation = _call(_VERBS[type(command)], lambda: self._begin(command, request_id))
        return StartedCall(
            operation.name, str(operation.target_id) if operation.target_id else None
        )

    def _begin(self, command: Command, request_id: str) -> Any:
        compute, at = self._instances, self._instance_at(command.place)
        once = {"request_id": request_id}
        match command:
            case InsertInstance():
                return self._insert(command, once)
            case RefreshMetadata():
                return self._refresh_metadata(command, once)
            case LabelInstance():
                return self._label_instance(command, once)
            case LabelDisk():
                return self._label_disk(command, once)
            case StartInstance():
                return compute.start_unary(
                    types.StartInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case ResumeInstance():
                return compute.resume_unary(
                    types.ResumeInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case SuspendInstance():
                return compute.suspend_unary(
                    types.SuspendInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case StopInstance():
                return compute.stop_unary(
                    types.StopInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case DeleteInstance():
                self._keep_home_disks(command, request_id)
                return compute.delete_unary(
                    types.DeleteInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case DeleteDisk():
                delete = types.DeleteDiskRequest(**self._disk_at(command.place), **once)
                return self._disks.delete_unary(delete, timeout=CALL_SECONDS)
            case ResizeDisk():
                larger = types.ResizeDiskRequest(
                    **self._disk_at(command.place),
                    disks_resize_request_resource=types.DisksResizeRequest(size_gb=command.size_gb),
                    **once,
                )
                return self._disks.resize_unary(larger, timeout=CALL_SECONDS)
            case CreateSnapshot():
                return self._create_snapshot(command, once)
            case LabelSnapshot():
                return self._label_snapshot(command)
            case DeleteSnapshot():
                gone = types.DeleteSnapshotRequest(**self._snapshot_at(command.place.name), **once)
                return self._snapshots.delete_unary(gone, timeout=CALL_SECONDS)

    def _insert(self, command: InsertInstance, once: dict[str, str]) -> Any:
        resource = instance_resource(command, self._project, self._settings, self._report_url)
        request = types.InsertInstanceRequest(
            project=self._project, zone=command.place.zone, instance_resource=resource, **once
        )
        return self._instances.insert_unary(request, timeout=CALL_SECONDS)

    def _keep_home_disks(self, command: DeleteInstance, request_id: str) -> None:
        """Ensure that only the boot disk is deleted with the machine.

        If somebody created or changed the machine by hand, its home disk may have ``auto_delete``
        set. This clears it and raises ``NOT_READY``, so the delete is tried again later.
        """
        found = _read_or_none(
            lambda: self._instances.get(**self._instance_at(command.place), **_READ)
        )
        # If the machine is gone already, Compute answers the repeated delete as it did the first.
        disks = found.disks if found else []
        deleted_too = [disk.device_name for disk in disks if disk.auto_delete and not disk.boot]
        for device_name in deleted_too:
            request = types.SetDiskAutoDeleteInstanceRequest(
                **self._instance_at(command.place),
                auto_delete=False,
                device_name=device_name,
                request_id=str(uuid.uuid5(uuid.UUID(request_id), device_name)),
            )
            self._instances.set_disk_auto_delete_unary(request, timeout=CALL_SECONDS)
        if deleted_too:
            message = (
                f"The disk {deleted_too[0]} would be deleted with the machine."
                " It is being changed to stay."
            )
            raise MachineFaultError(Fault(FaultKind.NOT_READY, "diskToBeKept", message))

    def _refresh_metadata(self, command: RefreshMetadata, once: dict[str, str]) -> Any:
        """Replace the Hub's items in the machine's present metadata.

        If somebody changes the metadata in between, Compute refuses the call (412), and it is made
        again. The Hub's items are those that a new machine gets, and every other ``hub-…`` item,
        which an earlier version set.
        """
        metadata = self._instances.get(**self._instance_at(command.place), **_READ).metadata
        ours = metadata_items(command, self._settings, self._report_url)
        items = [
            item
            for item in metadata.items
            if item.key not in ours and not item.key.startswith("hub-")
        ]
        items += [types.Items(key=key, value=value) for key, value in ours.items()]
        request = types.SetMetadataInstanceRequest(
            **self._instance_at(command.place),
            metadata_resource=types.Metadata(fingerprint=metadata.fingerprint, items=items),
            **once,
        )
        return self._instances.set_metadata_unary(request, timeout=CALL_SECONDS)

    def _label_instance(self, command: LabelInstance, once: dict[str, str]) -> Any:
        """Add the Hub's labels to the instance's present labels.

        If somebody changes them in between, Compute refuses the call (412), and it is made again.
        """
        found = self._instances.get(**self._instance_at(command.place), **_READ)
        change = types.InstancesSetLabelsRequest(
            label_fingerprint=found.label_fingerprint,
            labels=self._merged_labels(found.labels, command),
        )
        request = types.SetLabelsInstanceRequest(
            **self._instance_at(command.place), instances_set_labels_request_resource=change, **once
        )
        return self._instances.set_labels_unary(request, timeout=CALL_SECONDS)

    def _label_disk(self, command: LabelDisk, once: dict[str, str]) -> Any:
        """Add the Hub's labels to the disk's present labels, as ``_label_instance`` does."""
        found = self._disks.get(**self._disk_at(command.place), **_READ)
        change = types.ZoneSetLabelsRequest(
            label_fingerprint=found.label_fingerprint,
            labels=self._merged_labels(found.labels, command),
        )
        request = types.SetLabelsDiskRequest(
            project=self._project,
            zone=command.place.zone,
            resource=command.place.name,
            zone_set_labels_request_resource=change,
            **once,
        )
        return self._disks.set_labels_unary(request, timeout=CALL_SECONDS)

    def _create_snapshot(self, command: CreateSnapshot, once: dict[str, str]) -> Any:
        request = types.InsertSnapshotRequest(
            project=self._project,
            snapshot_resource=snapshot_resource(command, self._project, self._settings),
            **once,
        )
        return self._snapshots.insert_unary(request, timeout=CALL_SECONDS)

    def _label_snapshot(self, command: LabelSnapshot) -> Any:
        """Add the Hub's labels to the snapshot's present labels, as ``_label_instance`` does.

        Compute takes no request id for this call. The fingerprint makes a second one harmless.
        """
        name = command.place.name
        found = self._snapshots.get(**self._snapshot_at(name), **_READ)
        change = types.GlobalSetLabelsRequest(
            label_fingerprint=found.label_fingerprint,
            labels=self._merged_labels(found.labels, command),
        )
        request = types.SetLabelsSnapshotRequest(
            project=self._project, resource=name, global_set_labels_request_resource=change
        )
        return self._snapshots.set_labels_unary(request, timeout=CALL_SECONDS)

    def _merged_labels(
        self, present: Any, command: LabelInstance | LabelDisk | LabelSnapshot
    ) -> dict[str, str]:
        """Return a resource's present labels with the Hub's added.

        The Hub's values for ``workspace`` and ``hub`` always win, since they say whose the resource
        is. For the other labels, a present value wins.
        """
        ours = labels(command.workspace_id, command.owner_id, self._settings)
        return {**ours, **present, "workspace": ours["workspace"], "hub": ours["hub"]}

    def _instances_in(
        self, list_: Callable[..., Any], filter_: str, bounds: Mapping[str, Any]
    ) -> Iterator[Instance]:
        request = types.AggregatedListInstancesRequest(project=self._project, filter=filter_)
        for zone in _aggregated_list(lambda: list_(request, **bounds)):
            yield from (_instance(found) for found in zone.instances)

    def _disks_in(
        self, list_: Callable[..., Any], filter_: str, bounds: Mapping[str, Any]
    ) -> Iterator[Disk]:
        request = types.AggregatedListDisksRequest(project=self._project, filter=filter_)
        for zone in _aggregated_list(lambda: list_(request, **bounds)):
            yield from (_disk(found) for found in zone.disks)

    @property
    def _installation_filter(self) -> str:
        """The filter of a list for this installation's label."""
        return f"labels.hub={self._settings.installation}"

    def _instance_at(self, place: Place) -> dict[str, Any]:
        return {"project": self._project, "zone": place.zone, "instance": place.name}

    def _policy_at(self, place: Place) -> dict[str, Any]:
        return {"project": self._project, "zone": place.zone, "resource": place.name}

    def _disk_at(self, place: Place) -> dict[str, Any]:
        return {"project": self._project, "zone": place.zone, "disk": place.name}

    def _snapshot_at(self, name: str) -> dict[str, Any]:
        return {"project": self._project, "snapshot": name}


def _partial(client: Any, fields: str) -> Any:
    """Return the client, of which every answer has only these fields."""
    session = client.transport._session  # noqa: SLF001 -- the library has no other way in
    for scheme in ("https://", "http://"):
        session.mount(scheme, _PartialAnswers(fields))
    return client


def _instance(found: Any) -> Instance:
    return Instance(
        id=str(found.id),
        name=found.name,
        zone=_last_part(found.zone),
        state=_STATES.get(found.status, InstanceState.REPAIRING),
        machine_type=_last_part(found.machine_type),
        labels=dict(found.labels),
        internal_address=found.network_interfaces[0].network_i_p
        if found.network_interfaces
        else None,
        last_started_at=_time_or_none(found.last_start_timestamp),
        created_at=_time_or_none(found.creation_timestamp),
        off_since=max(
            filter(
                None,
                map(_time_or_none, (found.last_stop_timestamp, found.last_suspended_timestamp)),
            ),
            default=None,
        ),
        disks=tuple(_last_part(disk.source) for disk in found.disks if disk.source),
        heartbeat_interval=_heartbeat_interval(found.metadata),
    )


def _disk(found: Any) -> Disk:
    return Disk(
        name=found.name,
        zone=_last_part(found.zone),
        labels=dict(found.labels),
        created_at=datetime.fromisoformat(found.creation_timestamp),
        size_gb=found.size_gb,
        users=tuple(_last_part(user) for user in found.users),
        detached_at=_time_or_none(found.last_detach_timestamp),
    )


def _snapshot(found: Any) -> DiskSnapshot:
    status = _SNAPSHOT_STATUSES.get(found.status, SnapshotStatus.CREATING)
    return DiskSnapshot(
        name=found.name,
        status=status,
        labels=dict(found.labels),
        source_disk=_last_part(found.source_disk),
        disk_gb=found.disk_size_gb,
        created_at=datetime.fromisoformat(found.creation_timestamp),
        # Compute counts when the upload has ended: 0 before that is no size.
        stored_bytes=found.storage_bytes if status is SnapshotStatus.READY else None,
    )


def _heartbeat_interval(metadata: Any) -> timedelta | None:
    """Return how often the machine's scripts report; None if the metadata has no valid interval."""
    text = next((item.value for item in metadata.items if item.key == "hub-heartbeat-seconds"), "")
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return timedelta(seconds=seconds) if seconds else None


def _time_or_none(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _aggregated_list(call: Callable[[], Any]) -> Iterator[Any]:
    """Yield each zone's part of an aggregated list, page by page.

    Raises:
        UnavailableError: a zone could not be read; so the list would be partial.
    """
    for page in _whole_pages(call):
        for part in page.items.values():
            _require_whole(part.warning)
        if page.unreachables:
            raise _unavailable(
                f"Compute Engine cannot list everything now: {', '.join(page.unreachables)}"
            )
        yield from page.items.values()


def _whole_pages(call: Callable[[], Any]) -> Iterator[Any]:
    """Yield a list's pages. A page with a warning that something is missing is an error."""
    pages = iter(_read(call).pages)
    while (page := _read(lambda: next(pages, None))) is not None:
        _require_whole(page.warning)
        yield page


def _require_whole(warning: Any) -> None:
    if warning.code not in _HARMLESS_WARNINGS:
        raise _unavailable(
            f"Compute Engine cannot list everything now: {warning.message or warning.code}"
        )


def _read(call: Callable[[], T]) -> T:
    """Make a call that reads; every refusal is an ``UnavailableError``, so the job is retried."""
    try:
        return _call(_READ_VERB, call)
    except MachineFaultError as error:
        raise _unavailable(f"Compute Engine refused a read: {error.fault.message}") from error


def _read_or_none(call: Callable[[], T]) -> T | None:
    """Make a call that reads one resource; return None if the resource does not exist.

    Any other refusal is an ``UnavailableError``, so the job is retried. For a zone that Compute
    does not have, Compute answers that the zone is unknown: the resource does not exist either.
    """
    try:
        return _call(_READ_VERB, call)
    except MachineFaultError as error:
        if error.fault.kind is FaultKind.NOT_FOUND:
            return None
        raise _unavailable(f"Compute Engine refused a read: {error.fault.message}") from error


def _call(verb: str, call: Callable[[], T]) -> T:
    """Make a call, and turn the library's errors into the Hub's."""
    try:
        return call()
    except exceptions.GoogleAPICallError as error:
        fault = http_fault(verb, int(error.code or 500), getattr(error.response, "content", b""))
        if fault.kind is FaultKind.TRANSIENT:
            raise _unavailable(f"Compute Engine does not answer now: {fault.message}") from error
        raise MachineFaultError(fault) from error
    except (exceptions.RetryError, GoogleAuthError, ParseError, requests.RequestException) as error:
        raise UnavailableError(_NO_ANSWER) from error
    except (AttributeError, TypeError) as error:
        # The library raises these itself for an error answer in JSON that is not Google's.
        if not _raised_in(error, exceptions.__name__):
            raise
        raise UnavailableError(_NO_ANSWER) from error


def _raised_in(error: BaseException, module: str) -> bool:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_globals.get("__name__") == module


def _unavailable(message: str) -> UnavailableError:
    return UnavailableError(plain_message(message))


def _last_part(url: str) -> str:
    return url.rsplit("/", 1)[-1]
