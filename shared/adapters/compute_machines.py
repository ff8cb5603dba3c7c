"""Machines in Compute Engine.

Importing this module costs seconds and a hundred megabytes (measured: the Compute library), so ``bootstrap`` imports it
only where a machine is touched. Only the calls that return at once are used: the waiting ones ignore a configured address.
"""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import requests
from google.api_core import exceptions, retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import compute_v1

from shared.adapters.compute_instance import instance_resource
from shared.config import MachineSettings
from shared.domain.errors import MachineFaultError, UnavailableError
from shared.domain.instance import (
    Begun,
    Command,
    DeleteDisk,
    DeleteInstance,
    Disk,
    FaultKind,
    InsertInstance,
    Instance,
    InstanceState,
    OperationState,
    Place,
    ResumeInstance,
    SetGeneration,
    StartInstance,
    StopInstance,
    SuspendInstance,
    classify,
)
from shared.ports import Machines

CALL_SECONDS = 8.0  # less than an instance has from SIGTERM to SIGKILL; made again, it is the same call
READ_SECONDS = 5.0
# The library's own retry of a read goes on for ten minutes, whatever the timeout says. This one gets over a blip: what lasts
# longer is for the queue, which waits without keeping a worker from others' operations.
_READ_RETRY = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable), initial=0.2, maximum=0.5, timeout=1.0
)
_READ: dict[str, Any] = {"retry": _READ_RETRY, "timeout": READ_SECONDS}
# The states that the API's list has beside those of the lifecycle; one that nobody knows yet is a machine on its way.
_STATES = {state.value: state for state in InstanceState} | {
    "PENDING": InstanceState.PROVISIONING,
    "DEPROVISIONING": InstanceState.STOPPING,
    "STOPPED": InstanceState.TERMINATED,
}
T = TypeVar("T")


class ComputeMachines(Machines):
    """``Machines`` on Compute Engine's REST API."""

    def __init__(self, project_id: str, settings: MachineSettings, report_url: str, emulator: str | None) -> None:
        options: dict[str, Any] = {}
        if emulator:
            options = {"credentials": AnonymousCredentials(), "client_options": {"api_endpoint": f"http://{emulator}"}}  # type: ignore[no-untyped-call]
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

    def list_instances(self) -> Iterator[Instance]:
        """See the port."""
        request = compute_v1.AggregatedListInstancesRequest(**self._ours())
        for scope in _listed(lambda: self._instances.aggregated_list(request, **_READ)):
            yield from (_instance(found) for found in scope.instances)

    def list_disks(self) -> Iterator[Disk]:
        """See the port."""
        request = compute_v1.AggregatedListDisksRequest(**self._ours())
        for scope in _listed(lambda: self._disks.aggregated_list(request, **_READ)):
            for found in scope.disks:
                yield Disk(
                    name=found.name,
                    zone=_last(found.zone),
                    workspace_id=found.labels.get("workspace"),
                    created_at=datetime.fromisoformat(found.creation_timestamp),
                    in_use=bool(found.users),
                    detached_at=_moment(found.last_detach_timestamp),
                )

    def disk_exists(self, place: Place) -> bool:
        """See the port."""
        return (
            _found(lambda: self._disks.get(project=self._project, zone=place.zone, disk=place.name, **_READ))
            is not None
        )

    def operation(self, zone: str, name: str) -> OperationState:
        """See the port."""
        found = _found(lambda: self._operations.get(project=self._project, zone=zone, operation=name, **_READ))
        if found is None:
            return OperationState(done=True)
        if found.status != compute_v1.Operation.Status.DONE:
            return OperationState(done=False)
        if not found.error.errors:
            return OperationState(done=True)
        error = found.error.errors[0]
        return OperationState(done=True, fault=classify(found.http_error_status_code or 400, error.code, error.message))

    def console_tail(self, place: Place, most_bytes: int) -> str:
        """See the port."""
        found = _found(lambda: self._instances.get_serial_port_output(**self._at(place), **_READ))
        return found.contents.encode()[-most_bytes:].decode(errors="ignore") if found else ""

    def perform(self, command: Command, request_id: str) -> Begun:
        """See the port."""
        operation = _called(lambda: self._call(command, request_id))
        return Begun(operation.name, str(operation.target_id) if operation.target_id else None)

    def _call(self, command: Command, request_id: str) -> Any:
        compute, at = self._instances, self._at(command.place)
        once = {"request_id": request_id}
        match command:
            case InsertInstance():
                resource = instance_resource(command, self._project, self._settings, self._report_url)
                request = compute_v1.InsertInstanceRequest(
                    project=self._project, zone=command.place.zone, instance_resource=resource, **once
                )
                return compute.insert_unary(request, timeout=CALL_SECONDS)
            case SetGeneration():
                return self._set_generation(command, once)
            case StartInstance():
                return compute.start_unary(compute_v1.StartInstanceRequest(**at, **once), timeout=CALL_SECONDS)
            case ResumeInstance():
                return compute.resume_unary(compute_v1.ResumeInstanceRequest(**at, **once), timeout=CALL_SECONDS)
            case SuspendInstance():
                return compute.suspend_unary(compute_v1.SuspendInstanceRequest(**at, **once), timeout=CALL_SECONDS)
            case StopInstance():
                return compute.stop_unary(compute_v1.StopInstanceRequest(**at, **once), timeout=CALL_SECONDS)
            case DeleteInstance():
                return compute.delete_unary(compute_v1.DeleteInstanceRequest(**at, **once), timeout=CALL_SECONDS)
            case DeleteDisk():
                delete = compute_v1.DeleteDiskRequest(
                    project=self._project, zone=command.place.zone, disk=command.place.name, **once
                )
                return self._disks.delete_unary(delete, timeout=CALL_SECONDS)

    def _set_generation(self, command: SetGeneration, once: dict[str, str]) -> Any:
        """Change one item of the metadata as it is now; a change in between is refused (412) and done again."""
        metadata = self._instances.get(**self._at(command.place), **_READ).metadata
        items = [item for item in metadata.items if item.key != "hub-generation"]
        items.append(compute_v1.Items(key="hub-generation", value=str(command.generation)))
        request = compute_v1.SetMetadataInstanceRequest(
            **self._at(command.place),
            metadata_resource=compute_v1.Metadata(fingerprint=metadata.fingerprint, items=items),
            **once,
        )
        return self._instances.set_metadata_unary(request, timeout=CALL_SECONDS)

    def _ours(self) -> dict[str, Any]:
        """Return what a list is asked for: what has our label."""
        return {"project": self._project, "filter": f"labels.hub={self._settings.installation}"}

    def _at(self, place: Place) -> dict[str, Any]:
        return {"project": self._project, "zone": place.zone, "instance": place.name}


def _instance(found: Any) -> Instance:
    return Instance(
        id=str(found.id),
        name=found.name,
        zone=_last(found.zone),
        state=_STATES.get(found.status, InstanceState.REPAIRING),
        machine_type=_last(found.machine_type),
        workspace_id=found.labels.get("workspace"),
        internal_address=found.network_interfaces[0].network_i_p if found.network_interfaces else None,
        last_started_at=_moment(found.last_start_timestamp),
        created_at=_moment(found.creation_timestamp),
        off_since=max(
            filter(None, map(_moment, (found.last_stop_timestamp, found.last_suspended_timestamp))), default=None
        ),
    )


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _listed(call: Callable[[], Any]) -> Iterator[Any]:
    """Yield the zones' parts of an aggregated list, page by page. A zone that could not be asked fails the whole list."""
    scopes = iter(_called_to_read(call))
    while (scope := _called_to_read(lambda: next(scopes, None))) is not None:
        _, part = scope
        if part.warning.code == "UNREACHABLE":
            raise UnavailableError(f"Compute Engine cannot list everything now: {part.warning.message}")
        yield part


def _called_to_read(call: Callable[[], T]) -> T:
    """Make a call that reads, where every refusal is for the next delivery to get over."""
    try:
        return _called(call)
    except MachineFaultError as error:
        raise UnavailableError(f"Compute Engine refused to be read: {error.fault.message}") from error


def _found(call: Callable[[], T]) -> T | None:
    """Make a call that reads. What is not there is None; any other refusal of a read is for the next delivery to get over."""
    try:
        return _called(call)
    except MachineFaultError as error:
        if error.fault.kind is FaultKind.NOT_FOUND:
            return None
        raise UnavailableError(f"Compute Engine refused to be read: {error.fault.message}") from error


def _called(call: Callable[[], T]) -> T:
    """Make a call, and turn the library's errors into ours."""
    try:
        return call()
    except exceptions.GoogleAPICallError as error:
        fault = classify(int(error.code or 500), _reason(error), error.message or str(error))
        if fault.kind is FaultKind.TRANSIENT:
            raise UnavailableError(f"Compute Engine does not answer now: {fault.message}") from error
        raise MachineFaultError(fault) from error
    except (exceptions.RetryError, GoogleAuthError, requests.RequestException) as error:
        raise UnavailableError("Compute Engine does not answer now. Try again in a moment.") from error


def _reason(error: exceptions.GoogleAPICallError) -> str:
    """Return the ``reason`` of Compute's JSON error, which the library keeps only in the raw answer."""
    response = error.response
    try:
        return str(json.loads(response.content)["error"]["errors"][0]["reason"])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return ""


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]
