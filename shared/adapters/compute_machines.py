"""Machines in Compute Engine.

Importing this module costs seconds and a hundred megabytes (measured: the Compute library), so
``bootstrap`` imports it only where a machine is touched. Only the calls that return at once are
used: the waiting ones ignore a configured address.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import requests
from google.api_core import exceptions, retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import compute_v1
from google.protobuf.json_format import ParseError

from shared import logs
from shared.adapters.compute_errors import http_fault, operation_fault, plain
from shared.adapters.compute_instance import instance_resource, labels, metadata_items
from shared.config import MachineSettings
from shared.domain.errors import MachineFaultError, UnavailableError
from shared.domain.instance import (
    Command,
    DeleteDisk,
    DeleteInstance,
    Disk,
    Fault,
    FaultKind,
    InsertInstance,
    Instance,
    InstanceState,
    LabelDisk,
    LabelInstance,
    OperationState,
    Place,
    RefreshMetadata,
    ResumeInstance,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.ports import Machines

CALL_SECONDS = (
    8.0  # less than an instance has from SIGTERM to SIGKILL; made again, it is the same call
)
READ_SECONDS = 5.0
# The library's own retry of a read goes on for ten minutes, whatever the timeout says. This one
# gets over a blip: what lasts longer is for the queue, which waits without keeping a worker from
# others' operations.
_READ_RETRY = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable),
    initial=0.2,
    maximum=0.5,
    timeout=1.0,
)
_READ: dict[str, Any] = {"retry": _READ_RETRY, "timeout": READ_SECONDS}
# The states that the API's list has beside those of the lifecycle; one that nobody knows yet is a
# machine on its way.
_STATES = {state.value: state for state in InstanceState} | {
    "PENDING": InstanceState.PROVISIONING,
    "DEPROVISIONING": InstanceState.STOPPING,
    "STOPPED": InstanceState.TERMINATED,
}
# What Compute's API calls each command: the meaning of a refusal may depend on it.
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
}
_READING = "get"
# The warnings of a list that leave nothing out. Any other one, known or not, makes it a partial
# list.
_HARMLESS_WARNINGS = frozenset(
    {"", "NO_RESULTS_ON_PAGE", "DEPRECATED_RESOURCE_USED", "DEPRECATED_TYPE_USED"}
)
_AWAY = "Compute Engine does not answer now. Try again in a moment."
T = TypeVar("T")


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
        self._instances = compute_v1.InstancesClient(**options)
        self._disks = compute_v1.DisksClient(**options)
        self._operations = compute_v1.ZoneOperationsClient(**options)
        self._project = project_id
        self._settings = settings
        self._report_url = report_url

    def get(self, place: Place) -> Instance | None:
        """See the port."""
        found = _found(lambda: self._instances.get(**self._at(place), **_READ))
        return None if found is None else _instance(found)

    def get_disk(self, place: Place) -> Disk | None:
        """See the port."""
        found = _found(lambda: self._disks.get(**self._disk_at(place), **_READ))
        return None if found is None else _disk(found)

    def list_instances(self) -> Iterator[Instance]:
        """See the port."""
        return self._list_instances(self._ours)

    def list_disks(self) -> Iterator[Disk]:
        """See the port."""
        return self._list_disks(self._ours)

    def find_instances(self, workspace_id: str) -> Sequence[Instance]:
        """See the port."""
        filters = (f"labels.workspace={workspace_id}", f'name eq "workspace-{workspace_id}(-.*)?"')
        found = [instance for each in filters for instance in self._list_instances(each)]
        return list({(instance.zone, instance.name): instance for instance in found}.values())

    def find_disks(self, workspace_id: str) -> Sequence[Disk]:
        """See the port."""
        filters = (
            f"labels.workspace={workspace_id}",
            f'name eq "(home|workspace)-{workspace_id}(-.*)?"',
        )
        found = [disk for each in filters for disk in self._list_disks(each)]
        return list({(disk.zone, disk.name): disk for disk in found}.values())

    def operation(self, zone: str, name: str) -> OperationState:
        """See the port."""
        found = _found(
            lambda: self._operations.get(project=self._project, zone=zone, operation=name, **_READ)
        )
        if found is None:
            return OperationState(done=True)
        if found.status != compute_v1.Operation.Status.DONE:
            return OperationState(done=False)
        return OperationState(done=True, fault=operation_fault(found))

    def console_tail(self, place: Place, most_bytes: int) -> str:
        """See the port."""
        try:
            found = _found(
                lambda: self._instances.get_serial_port_output(**self._at(place), **_READ)
            )
        except UnavailableError as error:
            logs.warning("ConsoleNotRead", name=place.name, zone=place.zone, reason=str(error))
            return ""
        return found.contents.encode()[-most_bytes:].decode(errors="ignore") if found else ""

    def perform(self, command: Command, request_id: str) -> StartedCall:
        """See the port."""
        operation = _called(_VERBS[type(command)], lambda: self._call(command, request_id))
        return StartedCall(
            operation.name, str(operation.target_id) if operation.target_id else None
        )

    def _call(self, command: Command, request_id: str) -> Any:
        compute, at = self._instances, self._at(command.place)
        once = {"request_id": request_id}
        match command:
            case InsertInstance():
                resource = instance_resource(
                    command, self._project, self._settings, self._report_url
                )
                request = compute_v1.InsertInstanceRequest(
                    project=self._project,
                    zone=command.place.zone,
                    instance_resource=resource,
                    **once,
                )
                return compute.insert_unary(request, timeout=CALL_SECONDS)
            case RefreshMetadata():
                return self._refresh_metadata(command, once)
            case LabelInstance():
                return self._label_instance(command, once)
            case LabelDisk():
                return self._label_disk(command, once)
            case StartInstance():
                return compute.start_unary(
                    compute_v1.StartInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case ResumeInstance():
                return compute.resume_unary(
                    compute_v1.ResumeInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case SuspendInstance():
                return compute.suspend_unary(
                    compute_v1.SuspendInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case StopInstance():
                return compute.stop_unary(
                    compute_v1.StopInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case DeleteInstance():
                self._keep_disks(command, request_id)
                return compute.delete_unary(
                    compute_v1.DeleteInstanceRequest(**at, **once), timeout=CALL_SECONDS
                )
            case DeleteDisk():
                delete = compute_v1.DeleteDiskRequest(**self._disk_at(command.place), **once)
                return self._disks.delete_unary(delete, timeout=CALL_SECONDS)

    def _keep_disks(self, command: DeleteInstance, request_id: str) -> None:
        """See that only the boot disk goes with the machine.

        A machine that somebody made or changed by hand may have its home as a disk to be deleted
        with it. Such a disk is first made one that stays; the delete is refused as not ready, and
        comes again.
        """
        found = _found(lambda: self._instances.get(**self._at(command.place), **_READ))
        disks = (
            found.disks if found else []
        )  # gone already: the same request again is answered as the first time
        going = [disk.device_name for disk in disks if disk.auto_delete and not disk.boot]
        for device_name in going:
            request = compute_v1.SetDiskAutoDeleteInstanceRequest(
                **self._at(command.place),
                auto_delete=False,
                device_name=device_name,
                request_id=str(uuid.uuid5(uuid.UUID(request_id), device_name)),
            )
            self._instances.set_disk_auto_delete_unary(request, timeout=CALL_SECONDS)
        if going:
            message = f"The disk {going[0]} would go with the machine. It is being kept first."
            raise MachineFaultError(Fault(FaultKind.NOT_READY, "diskToBeKept", message))

    def _refresh_metadata(self, command: RefreshMetadata, once: dict[str, str]) -> Any:
        """Replace our items of the metadata as it is now; a change in between is refused (412) and done again.

        Ours are those that a new machine gets, and every other ``hub-…``: what an earlier version
        set.
        """
        metadata = self._instances.get(**self._at(command.place), **_READ).metadata
        ours = metadata_items(command, self._settings, self._report_url)
        items = [
            item
            for item in metadata.items
            if item.key not in ours and not item.key.startswith("hub-")
        ]
        items += [compute_v1.Items(key=key, value=value) for key, value in ours.items()]
        request = compute_v1.SetMetadataInstanceRequest(
            **self._at(command.place),
            metadata_resource=compute_v1.Metadata(fingerprint=metadata.fingerprint, items=items),
            **once,
        )
        return self._instances.set_metadata_unary(request, timeout=CALL_SECONDS)

    def _label_instance(self, command: LabelInstance, once: dict[str, str]) -> Any:
        """Add our labels to those that are there now; a change in between is refused (412) and done again."""
        found = self._instances.get(**self._at(command.place), **_READ)
        labelled = compute_v1.InstancesSetLabelsRequest(
            label_fingerprint=found.label_fingerprint, labels=self._with_ours(found.labels, command)
        )
        request = compute_v1.SetLabelsInstanceRequest(
            **self._at(command.place), instances_set_labels_request_resource=labelled, **once
        )
        return self._instances.set_labels_unary(request, timeout=CALL_SECONDS)

    def _label_disk(self, command: LabelDisk, once: dict[str, str]) -> Any:
        """As ``_label_instance``."""
        found = self._disks.get(**self._disk_at(command.place), **_READ)
        labelled = compute_v1.ZoneSetLabelsRequest(
            label_fingerprint=found.label_fingerprint, labels=self._with_ours(found.labels, command)
        )
        request = compute_v1.SetLabelsDiskRequest(
            project=self._project,
            zone=command.place.zone,
            resource=command.place.name,
            zone_set_labels_request_resource=labelled,
            **once,
        )
        return self._disks.set_labels_unary(request, timeout=CALL_SECONDS)

    def _with_ours(self, there: Any, command: LabelInstance | LabelDisk) -> dict[str, str]:
        """Return all labels that are to be: whose something is, only we say; others may have put a word in for the rest."""
        ours = labels(command.workspace_id, command.owner_id, self._settings)
        return {**ours, **there, "workspace": ours["workspace"], "hub": ours["hub"]}

    def _list_instances(self, which: str) -> Iterator[Instance]:
        request = compute_v1.AggregatedListInstancesRequest(project=self._project, filter=which)
        for scope in _listed(lambda: self._instances.aggregated_list(request, **_READ)):
            yield from (_instance(found) for found in scope.instances)

    def _list_disks(self, which: str) -> Iterator[Disk]:
        request = compute_v1.AggregatedListDisksRequest(project=self._project, filter=which)
        for scope in _listed(lambda: self._disks.aggregated_list(request, **_READ)):
            yield from (_disk(found) for found in scope.disks)

    @property
    def _ours(self) -> str:
        """What a list is asked for: what has our label."""
        return f"labels.hub={self._settings.installation}"

    def _at(self, place: Place) -> dict[str, Any]:
        return {"project": self._project, "zone": place.zone, "instance": place.name}

    def _disk_at(self, place: Place) -> dict[str, Any]:
        return {"project": self._project, "zone": place.zone, "disk": place.name}


def _instance(found: Any) -> Instance:
    return Instance(
        id=str(found.id),
        name=found.name,
        zone=_last(found.zone),
        state=_STATES.get(found.status, InstanceState.REPAIRING),
        machine_type=_last(found.machine_type),
        labels=dict(found.labels),
        internal_address=found.network_interfaces[0].network_i_p
        if found.network_interfaces
        else None,
        last_started_at=_moment(found.last_start_timestamp),
        created_at=_moment(found.creation_timestamp),
        off_since=max(
            filter(None, map(_moment, (found.last_stop_timestamp, found.last_suspended_timestamp))),
            default=None,
        ),
        disks=tuple(_last(disk.source) for disk in found.disks if disk.source),
        heartbeat_interval=_heartbeat(found.metadata),
    )


def _disk(found: Any) -> Disk:
    return Disk(
        name=found.name,
        zone=_last(found.zone),
        labels=dict(found.labels),
        created_at=datetime.fromisoformat(found.creation_timestamp),
        users=tuple(_last(user) for user in found.users),
        detached_at=_moment(found.last_detach_timestamp),
    )


def _heartbeat(metadata: Any) -> timedelta | None:
    """Return how often the machine's scripts report; None if nobody wrote that down as a number of seconds."""
    text = next((item.value for item in metadata.items if item.key == "hub-heartbeat-seconds"), "")
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return timedelta(seconds=seconds) if seconds else None


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _listed(call: Callable[[], Any]) -> Iterator[Any]:
    """Yield the zones' parts of an aggregated list, page by page. A zone that could not be asked fails the whole list."""
    pages = iter(_called_to_read(call).pages)
    while (page := _called_to_read(lambda: next(pages, None))) is not None:
        for warning in (page.warning, *(part.warning for part in page.items.values())):
            if warning.code not in _HARMLESS_WARNINGS:
                raise _unavailable(
                    f"Compute Engine cannot list everything now: {warning.message or warning.code}"
                )
        if page.unreachables:
            raise _unavailable(
                f"Compute Engine cannot list everything now: {', '.join(page.unreachables)}"
            )
        yield from page.items.values()


def _called_to_read(call: Callable[[], T]) -> T:
    """Make a call that reads, where every refusal is for the next delivery to get over."""
    try:
        return _called(_READING, call)
    except MachineFaultError as error:
        raise _unavailable(f"Compute Engine refused to be read: {error.fault.message}") from error


def _found(call: Callable[[], T]) -> T | None:
    """Make a call that reads. What is not there is None; any other refusal of a read is for the next delivery to get over.

    Compute says of a machine in a zone that it does not have that there is no such zone: the
    machine is not there either.
    """
    try:
        return _called(_READING, call)
    except MachineFaultError as error:
        if error.fault.kind is FaultKind.NOT_FOUND:
            return None
        raise _unavailable(f"Compute Engine refused to be read: {error.fault.message}") from error


def _called(verb: str, call: Callable[[], T]) -> T:
    """Make a call, and turn the library's errors into ours."""
    try:
        return call()
    except exceptions.GoogleAPICallError as error:
        fault = http_fault(verb, int(error.code or 500), getattr(error.response, "content", b""))
        if fault.kind is FaultKind.TRANSIENT:
            raise _unavailable(f"Compute Engine does not answer now: {fault.message}") from error
        raise MachineFaultError(fault) from error
    except (exceptions.RetryError, GoogleAuthError, ParseError, requests.RequestException) as error:
        raise UnavailableError(_AWAY) from error
    except (AttributeError, TypeError) as error:
        if not _raised_in(error, exceptions.__name__):
            raise
        raise UnavailableError(
            _AWAY
        ) from error  # the library trips over an error in JSON that is not Google's


def _raised_in(error: BaseException, module: str) -> bool:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_globals.get("__name__") == module


def _unavailable(message: str) -> UnavailableError:
    return UnavailableError(plain(message))


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]
