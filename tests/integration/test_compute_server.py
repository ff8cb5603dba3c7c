"""The local Compute Engine, through Google's own client library, and the machines in it."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import requests
from aiohttp import web
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from localcloud.machines.machines import Machines, MachinesOptions
from localcloud.processes.process_tree import can_hold_machines
from localcloud.running_cloud import RunningCloud
from localcloud.services.compute.faults import FAULTS
from localcloud.services.compute.guests import SimulatedGuests
from localcloud.services.compute.methods import METHODS
from localcloud.services.compute.server import ComputeServer
from localcloud.services.compute.times import Times
from localcloud.services.identity.server import IdentityServer
from localcloud.services.project import Project
from tests.system import records

SECRET = "the-secret-of-a-local-cloud"
PROJECT = "demo-project"
NUMBER = "123456789012"
ZONE = "us-west1-a"
OTHER_ZONE = "us-west1-b"
EMPTY_ZONE = "us-west1-c"
SERVICE_ACCOUNT = "workspace-vm@demo-project.iam.gserviceaccount.com"
HERE: Any = {"project": PROJECT, "zone": ZONE}
AUDIENCE = "https://hub.example.com"
SHORT_SECONDS = 0.04
HEARTBEAT_SECONDS = 0.05


class _Hub:
    """A small Hub: it records reports, verifies their tokens, and answers as a test says."""

    def __init__(self, keys_url: str) -> None:
        self.reports: list[dict[str, Any]] = []
        self.answers: deque[int] = deque()
        # The prefix of the current test's machine names; reports of other machines are ignored.
        self.expected = ""
        self._keys_url = keys_url
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/workspaces/{workspace_id}/reports", self._receive_report)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _receive_report(self, request: web.Request) -> web.Response:
        if not request.match_info["workspace_id"].startswith(self.expected):
            return web.Response(status=204)
        scheme, _, token = request.headers["Authorization"].partition(" ")
        answered = self.answers.popleft() if self.answers else 204
        report = {
            "body": await request.json(),
            "scheme": scheme,
            "token": token,
            "answered": answered,
        }
        self.reports.append(report | {"at": time.monotonic()})
        return web.Response(status=answered)

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token, which is verified as a Hub verifies it."""
        keys = requests.get(self._keys_url, timeout=5).json()["keys"]
        key = next(key for key in keys if key["kid"] == jwt.get_unverified_header(token)["kid"])
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(key).key,
            algorithms=["RS256"],
            audience=AUDIENCE,
            issuer="https://accounts.google.com",
        )
        return claims

    def events(self) -> list[str]:
        """Return the events of the reports so far."""
        return [report["body"]["event"] for report in self.reports]


class _Cloud:
    """A local cloud on an event loop in its own thread, with Google's own clients of it."""

    def __init__(
        self,
        *,
        boot: float = SHORT_SECONDS,
        heartbeat: float = HEARTBEAT_SECONDS,
        machines: Machines | None = None,
    ) -> None:
        self.heartbeat = heartbeat
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        project = Project(id=PROJECT, number=NUMBER, zones=(ZONE, OTHER_ZONE, EMPTY_ZONE))
        self.identity = IdentityServer(project, secret=SECRET)
        self.run(self.identity.start())
        self.hub = _Hub(self.identity.keys_url)
        self.run(self.hub.start())
        names = (
            "insert",
            "start",
            "stop",
            "suspend",
            "resume",
            "delete",
            "disk_insert",
            "disk_delete",
            "snapshot_capture",
            "snapshot_upload",
            "snapshot_delete",
            "snapshot_pause",
        )
        more = (
            "set_metadata",
            "set_labels",
            "set_machine_type",
            "attach_disk",
            "pending_stop",
            "repair",
        )
        self.server = ComputeServer(
            project,
            times=Times(**dict.fromkeys((*names, *more), SHORT_SECONDS), boot=boot),
            secret=SECRET,
            guests=SimulatedGuests(metadata_url=self.identity.url, machines=machines),
        )
        self.identity.fleet = self.server.fleet
        self.run(self.server.start())
        options: dict[str, Any] = {
            "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
            "client_options": {"api_endpoint": self.server.url},
        }
        self.instances = compute_v1.InstancesClient(**options)
        self.disks = compute_v1.DisksClient(**options)
        self.operations = compute_v1.ZoneOperationsClient(**options)
        self.snapshots = compute_v1.SnapshotsClient(**options)
        self.global_operations = compute_v1.GlobalOperationsClient(**options)
        self.zones = compute_v1.ZonesClient(**options)
        self.machine_types = compute_v1.MachineTypesClient(**options)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the cloud's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        clients: tuple[Any, ...] = (
            self.instances,
            self.disks,
            self.operations,
            self.snapshots,
            self.global_operations,
            self.zones,
            self.machine_types,
        )
        for client in clients:
            client.transport.close()
        for part in (self.server, self.hub, self.identity):
            self.run(part.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # The cloud's own endpoints

    def call(self, method: str, path: str, json: object = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {SECRET}"}
        return requests.request(
            method, f"{self.server.url}{path}", json=json, headers=headers, timeout=10
        )

    def fault(self, name: str, **more: Any) -> None:
        self.call("POST", "/localcloud/faults", {"name": name, **more}).raise_for_status()

    def machine(self, name: str) -> dict[str, Any]:
        machines = self.call("GET", "/localcloud/machines").json()["machines"]
        found: dict[str, Any] = next(machine for machine in machines if machine["name"] == name)
        return found

    def set_status(self, status: str, name: str) -> None:
        """Set the status of an instance directly."""

        async def put() -> None:
            self.server.fleet.instances.get(ZONE, name).resource["status"] = status

        self.run(put())

    # Shorthands for calls of the clients

    def insert(
        self, name: str, *, zone: str = ZONE, request_id: str | None = None, **more: Any
    ) -> compute_v1.Operation:
        request = compute_v1.InsertInstanceRequest(
            project=PROJECT,
            zone=zone,
            instance_resource=_instance(
                name, zone, self.hub.url, **({"heartbeat": self.heartbeat} | more)
            ),
            request_id=request_id,
        )
        return self.instances.insert_unary(request)

    def wait_for(
        self, operation: compute_v1.Operation, *, zone: str = ZONE
    ) -> compute_v1.Operation:
        return self.operations.wait(project=PROJECT, zone=zone, operation=operation.name)

    def insert_and_wait(self, name: str, **more: Any) -> compute_v1.Instance:
        self.wait_for(self.insert(name, **more))
        return self.get(name)

    def get(self, name: str, *, zone: str = ZONE) -> compute_v1.Instance:
        return self.instances.get(project=PROJECT, zone=zone, instance=name)

    def insert_disk(self, name: str = "spare", **more: Any) -> compute_v1.Operation:
        """Insert a disk and wait until it is there."""
        disk = compute_v1.Disk(**{"name": name, "size_gb": 20} | more)
        return self.wait_for(self.disks.insert_unary(**HERE, disk_resource=disk))

    def insert_snapshot(
        self, name: str = "kept", *, request_id: str | None = None, **more: Any
    ) -> compute_v1.Operation:
        """Begin to take a snapshot, of the disk ``spare`` by default."""
        snapshot = compute_v1.Snapshot(
            **{"name": name, "source_disk": f"zones/{ZONE}/disks/spare"} | more
        )
        request = compute_v1.InsertSnapshotRequest(
            project=PROJECT, snapshot_resource=snapshot, request_id=request_id
        )
        return self.snapshots.insert_unary(request)

    def wait_for_global(self, operation: compute_v1.Operation) -> compute_v1.Operation:
        return self.global_operations.wait(project=PROJECT, operation=operation.name)

    def snapshot(self, name: str = "kept") -> compute_v1.Snapshot:
        return self.snapshots.get(project=PROJECT, snapshot=name)

    def call_method(self, verb: str, name: str) -> compute_v1.Operation:
        operation: compute_v1.Operation = getattr(self.instances, f"{verb}_unary")(
            **HERE, instance=name
        )
        return operation

    def serial_output(self, name: str) -> str:
        output = self.instances.get_serial_port_output(**HERE, instance=name)
        return str(output.contents)


def _instance(
    name: str,
    zone: str,
    hub_url: str,
    *,
    heartbeat: float = HEARTBEAT_SECONDS,
    **more: Any,
) -> compute_v1.Instance:
    generation = more.pop("generation", 1)
    attributes = {
        "hub-reports-url": f"{hub_url}/workspaces/{name}/reports",
        "hub-audience": AUDIENCE,
        "hub-workspace-id": name,
        "hub-generation": str(generation),
        "hub-heartbeat-seconds": str(heartbeat),
    }
    return compute_v1.Instance(
        **{
            "name": name,
            "machine_type": f"zones/{zone}/machineTypes/e2-standard-4",
            "labels": {"managed-by": "workspace-hub", "hub": "test"},
            "disks": [
                {"boot": True, "auto_delete": True, "initialize_params": {"disk_size_gb": 10}},
                {
                    "device_name": "home",
                    "initialize_params": {"disk_name": f"{name}-home", "labels": {"hub": "test"}},
                },
            ],
            "network_interfaces": [{"network": "global/networks/default"}],
            "service_accounts": [{"email": SERVICE_ACCOUNT, "scopes": []}],
            "metadata": {
                "items": [{"key": key, "value": value} for key, value in attributes.items()]
            },
        }
        | more
    )


def _wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Poll until the condition holds, and fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.005)


def _error_codes(operation: compute_v1.Operation) -> list[str]:
    return [str(error.code) for error in operation.error.errors]


@pytest.fixture(scope="module")
def shared_cloud() -> Iterator[_Cloud]:
    """Start one cloud for all tests of this file."""
    cloud = _Cloud()
    yield cloud
    cloud.close()


@pytest.fixture
def cloud(shared_cloud: _Cloud, name: str) -> _Cloud:
    """Return the empty cloud, with a Hub that records only the reports of this test's machines."""
    shared_cloud.call("POST", "/localcloud/reset").raise_for_status()
    shared_cloud.hub.expected = name
    shared_cloud.hub.reports.clear()
    shared_cloud.hub.answers.clear()
    return shared_cloud


@pytest.fixture
def name() -> str:
    """Return a name that no other machine has."""
    return f"workspace-{uuid.uuid4()}"


# Instances


def test_a_client_sees_the_state_after_each_call_on_an_instance(cloud: _Cloud, name: str) -> None:
    """Google's client inserts, suspends, resumes, stops, starts and deletes it."""
    operation = cloud.insert(name)
    assert operation.status == compute_v1.Operation.Status.RUNNING
    assert str(operation.target_id) == str(cloud.get(name).id)
    assert cloud.get(name).status in {"PROVISIONING", "STAGING", "RUNNING"}
    assert cloud.wait_for(operation).status == compute_v1.Operation.Status.DONE

    statuses = [cloud.get(name).status]
    for verb in ("suspend", "resume", "stop", "start"):
        assert not _error_codes(cloud.wait_for(cloud.call_method(verb, name)))
        statuses.append(cloud.get(name).status)
    cloud.wait_for(cloud.call_method("delete", name))

    assert statuses == ["RUNNING", "SUSPENDED", "RUNNING", "TERMINATED", "RUNNING"]
    with pytest.raises(
        exceptions.NotFound,
        match=f"projects/{PROJECT}/zones/{ZONE}/instances/{name}' was not found",
    ):
        cloud.get(name)
    assert [disk.name for disk in cloud.disks.list(**HERE)] == [f"{name}-home"]


# Whether each call is accepted in each state. The test sets a transitional state, which then stays.
_OK, _REFUSED = "ok", "refused"
_ACCEPTED = {
    #               start     stop      suspend   resume    setMachineType
    "PROVISIONING": (_REFUSED, _REFUSED, _REFUSED, _REFUSED, _REFUSED),
    "STAGING": (_REFUSED, _REFUSED, _REFUSED, _REFUSED, _REFUSED),
    "RUNNING": (_OK, _OK, _OK, _REFUSED, _REFUSED),
    "PENDING_STOP": (_REFUSED, _REFUSED, _REFUSED, _REFUSED, _REFUSED),
    "STOPPING": (_REFUSED, _REFUSED, _REFUSED, _REFUSED, _REFUSED),
    "TERMINATED": (_OK, _OK, _REFUSED, _REFUSED, _OK),
    "SUSPENDING": (_REFUSED, _REFUSED, _REFUSED, _REFUSED, _REFUSED),
    "SUSPENDED": (_REFUSED, _REFUSED, _REFUSED, _OK, _REFUSED),
    "REPAIRING": (_REFUSED, _REFUSED, _REFUSED, _REFUSED, _REFUSED),
}


@pytest.mark.parametrize("status", _ACCEPTED)
def test_the_state_decides_which_calls_an_instance_accepts(
    cloud: _Cloud, name: str, status: str
) -> None:
    """A refused call is answered with 400 and leaves the state as it was."""
    cloud.insert_and_wait(name)
    small = compute_v1.InstancesSetMachineTypeRequest(
        machine_type=f"zones/{ZONE}/machineTypes/e2-small"
    )
    verbs: list[Callable[[], compute_v1.Operation]] = [
        lambda: cloud.call_method("start", name),
        lambda: cloud.call_method("stop", name),
        lambda: cloud.call_method("suspend", name),
        lambda: cloud.call_method("resume", name),
        lambda: cloud.instances.set_machine_type_unary(
            **HERE, instance=name, instances_set_machine_type_request_resource=small
        ),
    ]
    seen = []
    for verb in verbs:
        cloud.set_status(status, name)
        try:
            cloud.wait_for(verb())
            seen.append(_OK)
        except exceptions.BadRequest:
            assert cloud.get(name).status == status
            seen.append(_REFUSED)

    assert tuple(seen) == _ACCEPTED[status]
    cloud.set_status(status, name)
    cloud.wait_for(cloud.call_method("delete", name))
    with pytest.raises(exceptions.NotFound):
        cloud.get(name)


def test_an_error_has_the_same_json_and_messages_as_compute_engines(
    cloud: _Cloud, name: str
) -> None:
    """Each has code, message, and errors with message, domain and reason."""
    cloud.insert_and_wait(name)
    instances = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"
    path = f"projects/{PROJECT}/zones/{ZONE}/instances"

    answers = {
        "missing": cloud.call("GET", f"{instances}/nobody"),
        "state": cloud.call("POST", f"{instances}/{name}/resume"),
        "stale": cloud.call(
            "POST", f"{instances}/{name}/setLabels", {"labels": {}, "labelFingerprint": "x"}
        ),
    }

    missing, state = (
        f"The resource '{path}/nobody' was not found",
        f"The resource '{path}/{name}' is not ready",
    )
    stale = "Labels fingerprint either invalid or resource labels have changed"
    assert {case: (answer.status_code, answer.json()) for case, answer in answers.items()} == {
        "missing": (404, {"error": _error(404, missing, "notFound")}),
        "state": (400, {"error": _error(400, state, "resourceNotReady")}),
        "stale": (
            412,
            {
                "error": _error(
                    412, stale, "conditionNotMet", location="If-Match", locationType="header"
                )
            },
        ),
    }


def _error(code: int, message: str, reason: str, **more: str) -> dict[str, Any]:
    item = {"message": message, "domain": "global", "reason": reason, **more}
    return {"code": code, "message": message, "errors": [item]}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "Not-A-Name"}, exceptions.BadRequest, "Must be a match of regex"),
        (
            {"machine_type": f"zones/{ZONE}/machineTypes/e2-giant"},
            exceptions.BadRequest,
            "'e2-giant' does not exist in",
        ),
        ({"labels": {"hub": "Upper"}}, exceptions.BadRequest, "violates format constraints"),
        (
            {"disks": [{"boot": True, "source": f"zones/{ZONE}/disks/none"}]},
            exceptions.NotFound,
            "disks/none",
        ),
        (
            {"metadata": {"items": [{"key": "k", "value": "x" * 300_000}]}},
            exceptions.GoogleAPICallError,
            "262144",
        ),
    ],
)
def test_a_refused_insert_raises_the_clients_exception(
    cloud: _Cloud, name: str, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    """It is the exception that production raises, and has Compute Engine's message."""
    with pytest.raises(error, match=words):
        cloud.insert(change.pop("name", name), **change)
    assert list(cloud.disks.list(**HERE)) == []


def test_a_second_insert_with_the_same_name_is_a_conflict(cloud: _Cloud, name: str) -> None:
    """The name prevents a second machine."""
    cloud.insert(name)

    with pytest.raises(exceptions.Conflict, match="already exists"):
        cloud.insert(name)


def test_metadata_and_labels_can_be_changed_with_the_current_fingerprint(
    cloud: _Cloud, name: str
) -> None:
    """A change with an old fingerprint is answered with 412."""
    before = cloud.insert_and_wait(name)
    metadata = compute_v1.Metadata(
        fingerprint=before.metadata.fingerprint, items=[{"key": "k", "value": "v"}]
    )
    labels = compute_v1.InstancesSetLabelsRequest(
        label_fingerprint=before.label_fingerprint, labels={"hub": "new"}
    )

    def set_metadata() -> compute_v1.Operation:
        return cloud.instances.set_metadata_unary(**HERE, instance=name, metadata_resource=metadata)

    def set_labels() -> compute_v1.Operation:
        return cloud.instances.set_labels_unary(
            **HERE, instance=name, instances_set_labels_request_resource=labels
        )

    cloud.wait_for(set_metadata())
    cloud.wait_for(set_labels())

    after = cloud.get(name)
    assert [(item.key, item.value) for item in after.metadata.items] == [("k", "v")]
    assert dict(after.labels) == {"hub": "new"}
    for change in (set_metadata, set_labels):
        with pytest.raises(exceptions.PreconditionFailed):
            change()


LOGIN, VIEW = "roles/compute.osLogin", "roles/compute.viewer"
ALICE, BOB = "user:alice@example.com", "user:bob@example.com"
ENDS = {"title": "ends", "expression": "request.time < timestamp('2030-01-01T00:00:00Z')"}


def _policy(cloud: _Cloud, name: str, version: int = 3) -> compute_v1.Policy:
    return cloud.instances.get_iam_policy(
        compute_v1.GetIamPolicyInstanceRequest(
            **HERE, resource=name, options_requested_policy_version=version
        )
    )


def _set_policy(cloud: _Cloud, name: str, **policy: Any) -> compute_v1.Policy:
    return cloud.instances.set_iam_policy(
        **HERE,
        resource=name,
        zone_set_policy_request_resource=compute_v1.ZoneSetPolicyRequest(
            policy=compute_v1.Policy(**policy)
        ),
    )


def _members(policy: compute_v1.Policy) -> dict[str, list[str]]:
    return {binding.role: list(binding.members) for binding in policy.bindings}


def test_an_instances_policy_is_replaced_if_its_etag_is_current(cloud: _Cloud, name: str) -> None:
    """A new one lets nobody in. An old etag is a conflict, and without one it is replaced."""
    cloud.insert_and_wait(name)
    first = _policy(cloud, name)
    assert (_members(first), first.version, bool(first.etag)) == ({}, 1, True)
    bindings = [{"role": LOGIN, "members": [ALICE]}]

    second = _set_policy(cloud, name, etag=first.etag, bindings=bindings)

    assert _members(second) == _members(_policy(cloud, name)) == {LOGIN: [ALICE]}
    assert second.etag != first.etag
    with pytest.raises(exceptions.Conflict, match="concurrent policy changes"):
        _set_policy(cloud, name, etag=first.etag, bindings=[])
    assert _members(_policy(cloud, name)) == {LOGIN: [ALICE]}
    assert _members(_set_policy(cloud, name, bindings=[])) == {}


def test_conditions_are_kept_by_callers_that_know_the_version(cloud: _Cloud, name: str) -> None:
    """Others see a role that does not exist, and may not replace the policy by its etag."""
    cloud.insert_and_wait(name)
    binding = {"role": LOGIN, "members": [ALICE], "condition": ENDS}
    with pytest.raises(exceptions.BadRequest, match="version must be set to 3"):
        _set_policy(cloud, name, bindings=[binding])
    _set_policy(cloud, name, version=3, bindings=[binding])

    known, unknown = _policy(cloud, name), _policy(cloud, name, version=1)

    assert (known.version, known.bindings[0].condition.title) == (3, "ends")
    assert (unknown.version, unknown.bindings[0].condition.title) == (1, "")
    assert unknown.bindings[0].role.startswith(f"{LOGIN}_withcond_")
    with pytest.raises(exceptions.BadRequest, match="version must be set to 3"):
        _set_policy(cloud, name, etag=known.etag, bindings=[{"role": VIEW, "members": [BOB]}])
    replaced = _set_policy(cloud, name, bindings=[{"role": VIEW, "members": [BOB]}])
    assert (_members(replaced), replaced.version) == ({VIEW: [BOB]}, 1)


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ({"role": "osLogin", "members": [ALICE]}, "Role osLogin is not supported"),
        ({"role": LOGIN, "members": ["alice@example.com"]}, "must be of the form"),
        ({"role": LOGIN, "members": ["user:alice"]}, "must be of the form"),
        ({"role": LOGIN, "members": [f"deleted:{ALICE}?uid=1"]}, "cannot be added"),
        ({"role": LOGIN, "members": [ALICE], "condition": {"title": "x"}}, "an expression"),
        ({"role": LOGIN, "members": [f"user:{n}@example.com" for n in range(1501)]}, "1,500"),
    ],
)
def test_a_policy_that_iam_does_not_accept_is_refused(
    cloud: _Cloud, name: str, binding: dict[str, Any], words: str
) -> None:
    """Nothing has changed then."""
    cloud.insert_and_wait(name)
    with pytest.raises(exceptions.BadRequest, match=words):
        _set_policy(cloud, name, version=3, bindings=[binding])
    assert _members(_policy(cloud, name)) == {}


def test_a_policy_ends_with_its_instance(cloud: _Cloud, name: str) -> None:
    """An instance that does not exist has none, and the next one of that name a new one."""
    cloud.insert_and_wait(name)
    _set_policy(cloud, name, bindings=[{"role": LOGIN, "members": [ALICE]}])
    cloud.wait_for(cloud.call_method("delete", name))
    with pytest.raises(exceptions.NotFound):
        _policy(cloud, name)
    with pytest.raises(exceptions.NotFound):
        _set_policy(cloud, name, bindings=[])
    cloud.wait_for(
        cloud.insert(name, disks=[{"boot": True, "initialize_params": {"disk_name": "another"}}])
    )
    assert _members(_policy(cloud, name)) == {}


@pytest.mark.parametrize(
    ("fault", "answers"),
    [
        ("access_forbidden", [(403, "forbidden"), (403, "forbidden")]),
        ("sharing_limited", [(400, "failedPrecondition"), (412, "conditionNotMet")]),
        ("account_deleted", [(400, "badRequest"), (400, "badRequest")]),
    ],
)
def test_a_refused_policy_has_the_words_of_compute(
    cloud: _Cloud, name: str, fault: str, answers: list[tuple[int, str]]
) -> None:
    """Then the policy is as it was, and can be set."""
    cloud.insert_and_wait(name)
    cloud.fault(fault, count=2)
    for code, reason in answers:
        with pytest.raises(exceptions.GoogleAPICallError) as refused:
            _set_policy(cloud, name, bindings=[{"role": LOGIN, "members": [ALICE]}])
        assert (refused.value.code, refused.value.errors[0]["reason"]) == (code, reason)
    assert _members(_policy(cloud, name)) == {}


def test_somebody_else_may_change_a_policy_right_after_it_was_read(
    cloud: _Cloud, name: str
) -> None:
    """So its etag is old already."""
    cloud.insert_and_wait(name)
    cloud.fault("policy_race", count=1)
    read = _policy(cloud, name)
    with pytest.raises(exceptions.Conflict):
        _set_policy(cloud, name, etag=read.etag, bindings=[])
    assert _members(_policy(cloud, name)) == {VIEW: ["user:somebody-1@example.com"]}


def test_the_home_disk_outlives_its_machine_and_can_be_attached_to_the_next(
    cloud: _Cloud, name: str
) -> None:
    """A deleted instance keeps disks without ``autoDelete``; a disk in use cannot be deleted."""
    cloud.insert_and_wait(name)
    home = f"{name}-home"
    with pytest.raises(exceptions.BadRequest, match="is already being used by"):
        cloud.disks.delete_unary(**HERE, disk=home)
    disks: list[dict[str, Any]] = [
        {"boot": True, "auto_delete": True, "initialize_params": {}},
        {"source": f"projects/{PROJECT}/zones/{ZONE}/disks/{home}", "device_name": "home"},
    ]
    refused = cloud.wait_for(cloud.insert(f"{name}-2", disks=disks))
    assert _error_codes(refused) == ["RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"]
    cloud.wait_for(cloud.call_method("delete", name))

    again = cloud.insert_and_wait(name, disks=disks)

    assert [disk.source.rsplit("/", 1)[-1] for disk in again.disks] == [name, home]
    assert list(cloud.disks.get(**HERE, disk=home).users) == [again.self_link]
    cloud.wait_for(cloud.call_method("delete", name))
    cloud.wait_for(cloud.disks.delete_unary(**HERE, disk=home))
    with pytest.raises(exceptions.NotFound):
        cloud.disks.get(**HERE, disk=home)


def test_a_disk_can_be_created_listed_and_deleted_without_an_instance(cloud: _Cloud) -> None:
    """The list is the aggregated one, of all zones."""
    disk = compute_v1.Disk(name="spare", size_gb=20, labels={"hub": "test"})
    cloud.wait_for(cloud.disks.insert_unary(**HERE, disk_resource=disk))

    assert cloud.disks.get(**HERE, disk="spare").size_gb == 20
    listed = cloud.disks.aggregated_list(
        request=compute_v1.AggregatedListDisksRequest(project=PROJECT, filter="labels.hub = test")
    )
    assert {zone: [disk.name for disk in scope.disks] for zone, scope in listed if scope.disks} == {
        f"zones/{ZONE}": ["spare"]
    }
    cloud.wait_for(cloud.disks.delete_unary(**HERE, disk="spare"))
    assert list(cloud.disks.list(**HERE)) == []


def test_a_disk_can_be_labelled_resized_and_restored_from_a_snapshot(cloud: _Cloud) -> None:
    """An old label fingerprint is refused, and another zone can use the snapshot."""
    cloud.wait_for(
        cloud.disks.insert_unary(**HERE, disk_resource=compute_v1.Disk(name="spare", size_gb=20))
    )
    before = cloud.disks.get(**HERE, disk="spare")
    labels = compute_v1.ZoneSetLabelsRequest(
        label_fingerprint=before.label_fingerprint, labels={"hub": "test"}
    )

    def set_labels() -> compute_v1.Operation:
        return cloud.disks.set_labels_unary(
            **HERE, resource="spare", zone_set_labels_request_resource=labels
        )

    cloud.wait_for(set_labels())
    with pytest.raises(exceptions.PreconditionFailed, match="Labels fingerprint either invalid"):
        set_labels()
    larger = compute_v1.DisksResizeRequest(size_gb=30)
    cloud.wait_for(
        cloud.disks.resize_unary(**HERE, disk="spare", disks_resize_request_resource=larger)
    )
    cloud.wait_for(
        cloud.disks.create_snapshot_unary(
            **HERE, disk="spare", snapshot_resource=compute_v1.Snapshot(name="kept")
        )
    )
    there: Any = {"project": PROJECT, "zone": OTHER_ZONE}
    again = compute_v1.Disk(
        name="spare", source_snapshot=f"projects/{PROJECT}/global/snapshots/kept"
    )
    cloud.wait_for(cloud.disks.insert_unary(**there, disk_resource=again), zone=OTHER_ZONE)

    made = cloud.disks.get(**there, disk="spare")
    assert (made.size_gb, dict(made.labels)) == (30, {})
    assert dict(cloud.disks.get(**HERE, disk="spare").labels) == {"hub": "test"}


@pytest.mark.parametrize(
    "source",
    [
        f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{ZONE}/disks/spare",
        f"projects/{PROJECT}/zones/{ZONE}/disks/spare",
        f"zones/{ZONE}/disks/spare",
    ],
)
def test_a_snapshot_is_ready_when_its_operation_is_done(cloud: _Cloud, source: str) -> None:
    """The operation belongs to no zone."""
    cloud.insert_disk()
    operation = cloud.insert_snapshot(source_disk=source, labels={"hub": "test"})
    assert (operation.status, operation.zone) == (compute_v1.Operation.Status.RUNNING, "")
    assert operation.target_link.endswith(f"/projects/{PROJECT}/global/snapshots/kept")
    assert cloud.snapshot().status in {"CREATING", "UPLOADING", "READY"}
    assert not _error_codes(cloud.wait_for_global(operation))
    found = cloud.global_operations.get(project=PROJECT, operation=operation.name)
    assert found.status == compute_v1.Operation.Status.DONE

    made = cloud.snapshot()
    assert (made.status, dict(made.labels)) == ("READY", {"hub": "test"})
    assert (made.disk_size_gb, made.storage_bytes > 0) == (20, True)
    assert made.source_disk.endswith(f"/projects/{PROJECT}/zones/{ZONE}/disks/spare")
    assert [each.name for each in cloud.global_operations.list(project=PROJECT)] == [operation.name]


def test_a_snapshot_with_a_repeated_request_id_is_the_same_call(cloud: _Cloud) -> None:
    """Without one, the name is taken."""
    cloud.insert_disk()
    request_id = str(uuid.uuid4())
    operation = cloud.insert_snapshot(request_id=request_id)
    assert cloud.insert_snapshot(request_id=request_id).name == operation.name
    cloud.wait_for_global(operation)
    assert cloud.insert_snapshot(request_id=request_id).name == operation.name
    with pytest.raises(exceptions.Conflict, match=r"snapshots/kept' already exists"):
        cloud.insert_snapshot()
    with pytest.raises(exceptions.BadRequest, match=r"used for snapshots\.insert of 'kept'"):
        cloud.insert_snapshot("another", request_id=request_id)


def test_snapshots_are_listed_labelled_and_deleted(cloud: _Cloud) -> None:
    """As other resources: by label, by page, by field, and with the current fingerprint."""
    cloud.insert_disk()
    for number in range(3):
        cloud.insert_disk(f"disk-{number}")
        cloud.insert_snapshot(
            f"kept-{number}",
            source_disk=f"zones/{ZONE}/disks/disk-{number}",
            labels={"hub": "test" if number else "other"},
        )

    def listed(text: str) -> list[str]:
        request = compute_v1.ListSnapshotsRequest(project=PROJECT, filter=text, max_results=1)
        return [each.name for each in cloud.snapshots.list(request)]

    assert listed("labels.hub=test") == ["kept-1", "kept-2"]
    assert listed("") == ["kept-0", "kept-1", "kept-2"]
    path = f"/compute/v1/projects/{PROJECT}/global/snapshots?fields=items/name,kind"
    assert cloud.call("GET", path).json() == {
        "kind": "compute#snapshotList",
        "items": [{"name": f"kept-{number}"} for number in range(3)],
    }

    labels = compute_v1.GlobalSetLabelsRequest(
        label_fingerprint=cloud.snapshot("kept-0").label_fingerprint, labels={"hub": "test"}
    )

    def set_labels() -> compute_v1.Operation:
        return cloud.snapshots.set_labels_unary(
            project=PROJECT, resource="kept-0", global_set_labels_request_resource=labels
        )

    assert not _error_codes(cloud.wait_for_global(set_labels()))
    with pytest.raises(exceptions.PreconditionFailed, match="Labels fingerprint either invalid"):
        set_labels()
    _wait_until(lambda: cloud.snapshot("kept-0").status == "READY")
    cloud.wait_for_global(cloud.snapshots.delete_unary(project=PROJECT, snapshot="kept-0"))
    assert listed("labels.hub=test") == ["kept-1", "kept-2"]
    with pytest.raises(exceptions.NotFound, match="global/snapshots/kept-0' was not found"):
        cloud.snapshot("kept-0")


def test_a_machine_can_be_made_with_a_home_from_a_snapshot(cloud: _Cloud, name: str) -> None:
    """The disk is at least as large as the snapshot, which may be deleted afterwards."""
    cloud.insert_disk()
    cloud.wait_for_global(cloud.insert_snapshot())

    def insert(**more: Any) -> compute_v1.Operation:
        home = {
            "disk_name": f"{name}-home",
            "source_snapshot": f"projects/{PROJECT}/global/snapshots/kept",
        }
        disks = [
            {"boot": True, "auto_delete": True, "initialize_params": {"disk_size_gb": 10}},
            {"device_name": "home", "initialize_params": home | more},
        ]
        return cloud.insert(name, disks=disks)

    why = r"cannot be smaller than the snapshot size \(20 GB\)"
    with pytest.raises(exceptions.BadRequest, match=why):
        insert(disk_size_gb=10)
    with pytest.raises(exceptions.NotFound, match="global/snapshots/none' was not found"):
        insert(source_snapshot="global/snapshots/none")
    with pytest.raises(exceptions.NotFound):
        cloud.get(name)

    assert not _error_codes(cloud.wait_for(insert()))
    cloud.wait_for_global(cloud.snapshots.delete_unary(project=PROJECT, snapshot="kept"))
    made = cloud.disks.get(**HERE, disk=f"{name}-home")
    assert (made.size_gb, made.source_snapshot.rpartition("/")[2]) == (20, "kept")


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[_Cloud, Path]]:
    """A cloud whose machines people can enter, though nobody does here, and its folder."""
    if not can_hold_machines():
        pytest.skip("machines that one can enter need Linux")

    async def start(*_: Any) -> Any:
        raise AssertionError

    options = MachinesOptions(
        folder=tmp_path, name="cloud", port=1, start=start, keys=lambda _: [], changed=lambda: None
    )
    cloud = _Cloud(machines=Machines(options))
    yield cloud, tmp_path
    cloud.close()


def test_a_disk_from_a_snapshot_has_the_home_of_the_moment_of_capture(
    homes: tuple[_Cloud, Path], name: str
) -> None:
    """Before its machine boots; folders end with their snapshot and their disk."""
    cloud, folder = homes

    def home_of(disk: str) -> Path:
        return folder / "homes" / str(cloud.disks.get(**HERE, disk=disk).id)

    def insert(machine: str, **home: str) -> None:
        disks = [
            {"boot": True, "auto_delete": True, "initialize_params": {"disk_size_gb": 10}},
            {
                "device_name": "home",
                "initialize_params": {"disk_name": f"{machine}-home", **home},
            },
        ]
        assert not _error_codes(cloud.wait_for(cloud.insert(machine, disks=disks)))

    insert(name)
    home_of(f"{name}-home").mkdir(parents=True)
    (home_of(f"{name}-home") / "note").write_text("before")
    source = f"zones/{ZONE}/disks/{name}-home"
    assert not _error_codes(cloud.wait_for_global(cloud.insert_snapshot(source_disk=source)))
    (home_of(f"{name}-home") / "note").write_text("after")
    stored = cloud.snapshot().storage_bytes

    insert(f"fork-{name}", source_snapshot="global/snapshots/kept")
    forked = home_of(f"fork-{name}-home")
    assert (forked / "note").read_text() == "before"
    cloud.insert_disk(source_snapshot="global/snapshots/kept")
    assert (home_of("spare") / "note").read_text() == "before"
    (home_of("spare") / "note").write_text("longer than before")
    _wait_until(lambda: not _error_codes(cloud.wait_for_global(cloud.insert_snapshot("longer"))))
    assert cloud.snapshot("longer").storage_bytes - stored == len("longer than ")

    spare = home_of("spare")
    cloud.wait_for(cloud.disks.delete_unary(**HERE, disk="spare"))
    cloud.wait_for_global(cloud.snapshots.delete_unary(project=PROJECT, snapshot="kept"))
    _wait_until(lambda: not spare.exists() and len(list((folder / "snapshots").iterdir())) == 1)
    assert (forked / "note").read_text() == "before"
    cloud.call("POST", "/localcloud/reset").raise_for_status()
    _wait_until(lambda: not [*folder.glob("homes/*"), *folder.glob("snapshots/*")])


def test_a_disk_can_be_moved_from_one_machine_to_another(cloud: _Cloud, name: str) -> None:
    """It must be detached first; ``autoDelete`` decides which disks a deleted machine keeps."""
    cloud.insert_and_wait(name)
    cloud.insert_and_wait(f"{name}-2")
    home = f"{name}-home"
    source = f"projects/{PROJECT}/zones/{ZONE}/disks/{home}"

    def attach() -> compute_v1.Operation:
        disk = compute_v1.AttachedDisk(source=source, device_name="second", mode="READ_WRITE")
        return cloud.instances.attach_disk_unary(
            **HERE, instance=f"{name}-2", attached_disk_resource=disk
        )

    assert _error_codes(cloud.wait_for(attach())) == ["RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"]
    cloud.wait_for(cloud.instances.detach_disk_unary(**HERE, instance=name, device_name="home"))
    assert not _error_codes(cloud.wait_for(attach()))
    assert [user.rsplit("/", 1)[-1] for user in cloud.disks.get(**HERE, disk=home).users] == [
        f"{name}-2"
    ]
    for device, auto_delete in (("second", True), ("persistent-disk-0", False)):
        setting = compute_v1.SetDiskAutoDeleteInstanceRequest(
            **HERE, instance=f"{name}-2", device_name=device, auto_delete=auto_delete
        )
        cloud.wait_for(cloud.instances.set_disk_auto_delete_unary(setting))
    cloud.wait_for(cloud.call_method("delete", f"{name}-2"))

    assert [disk.name for disk in cloud.disks.list(**HERE)] == [name, f"{name}-2", f"{name}-2-home"]


def test_a_machine_with_a_local_ssd_stops_only_with_discard_local_ssd(
    cloud: _Cloud, name: str
) -> None:
    """``discardLocalSsd`` must be true or false."""
    cloud.insert_and_wait(name)

    async def give_local_ssd() -> None:
        instance = cloud.server.fleet.instances.get(ZONE, name)
        instance.resource["machineType"] += "-lssd"

    cloud.run(give_local_ssd())
    path = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances/{name}"
    assert cloud.call("POST", f"{path}/suspend?discardLocalSsd=perhaps").status_code == 400
    with pytest.raises(exceptions.BadRequest, match="undefined value for `discard-local-ssd`"):
        cloud.call_method("stop", name)

    request = compute_v1.StopInstanceRequest(**HERE, instance=name, discard_local_ssd=True)
    cloud.wait_for(cloud.instances.stop_unary(request))

    assert cloud.get(name).status == "TERMINATED"


# Lists


def test_the_hubs_two_filters_find_a_workspaces_instances_and_disks(cloud: _Cloud) -> None:
    """They search all zones by name and by label; a longer id with the same start is not found."""
    workspace = str(uuid.uuid4())
    for each in (
        f"workspace-{workspace}",
        f"workspace-{workspace}-3",
        f"workspace-{workspace}3",
        "other",
    ):
        cloud.insert(
            each, zone=OTHER_ZONE, labels={"workspace": workspace} if each == "other" else {}
        )

    def listed(client: Any, kind: str, text: str) -> list[str]:
        request = {"project": PROJECT, "filter": text}
        return [
            row.name
            for _, scope in client.aggregated_list(request=request)
            for row in getattr(scope, kind)
        ]

    by_name = f'name eq "(workspace|home)-{workspace}(-.*)?"'
    mine = [f"workspace-{workspace}", f"workspace-{workspace}-3"]
    assert listed(cloud.instances, "instances", by_name) == mine
    assert listed(cloud.instances, "instances", f"labels.workspace={workspace}") == ["other"]
    disks = sorted(f"{each}{end}" for each in mine for end in ("", "-home"))
    assert listed(cloud.disks, "disks", by_name) == disks
    assert listed(cloud.disks, "disks", f"labels.workspace={workspace}") == []


def test_lists_are_filtered_and_paged(cloud: _Cloud) -> None:
    """The client reads page after page; each match is on one page, and a bad filter is refused."""
    names = sorted(f"machine-{n}" for n in range(5))
    for name in names:
        cloud.insert(name, labels={"hub": "odd" if int(name[-1]) % 2 else "even"})
    for name in names:
        cloud.insert(name, zone=OTHER_ZONE)

    def listed(**more: Any) -> list[str]:
        return [
            i.name
            for i in cloud.instances.list(request=compute_v1.ListInstancesRequest(**HERE, **more))
        ]

    assert listed() == names
    assert listed(max_results=2) == names
    assert listed(filter='(labels.hub = "odd") (status != "TERMINATED")') == [
        "machine-1",
        "machine-3",
    ]
    assert listed(filter="labels.hub = even", max_results=1) == [
        "machine-0",
        "machine-2",
        "machine-4",
    ]
    assert listed(filter="name eq machine-[12]") == ["machine-1", "machine-2"]
    with pytest.raises(exceptions.BadRequest, match="Invalid list filter expression"):
        listed(filter="labels.hub like even")


def test_a_page_token_stays_valid_when_an_instance_is_deleted(cloud: _Cloud) -> None:
    """The next page starts where the last one ended; an invalid token or page size is refused."""
    for number in range(4):
        cloud.wait_for(cloud.insert(f"machine-{number}"))
    instances = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"
    first = cloud.call("GET", f"{instances}?maxResults=2").json()
    cloud.wait_for(cloud.call_method("delete", "machine-0"))

    second = cloud.call(
        "GET", f"{instances}?maxResults=2&pageToken={first['nextPageToken']}"
    ).json()

    assert [item["name"] for item in second["items"]] == ["machine-2", "machine-3"]
    assert "nextPageToken" not in second
    for wrong in ("pageToken=x", "pageToken=e30=", "maxResults=501", "maxResults=many"):
        answer = cloud.call("GET", f"{instances}?{wrong}")
        assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (
            400,
            "invalid",
        )


def test_an_answer_has_only_the_fields_that_are_asked_for(cloud: _Cloud) -> None:
    """This holds for every method, and pages go on as before."""
    for number in range(2):
        cloud.insert(f"machine-{number}")
    fields = "items/*/instances(name,disks/boot),nextPageToken"
    everywhere = f"/compute/v1/projects/{PROJECT}/aggregated/instances"
    first = cloud.call("GET", f"{everywhere}?fields={fields}&maxResults=1").json()
    assert set(first) == {"items", "nextPageToken"}
    [machine] = first["items"][f"zones/{ZONE}"]["instances"]
    assert machine == {"name": "machine-0", "disks": [{"boot": True}, {}]}
    assert set(first["items"]) == {f"zones/{zone}" for zone in (ZONE, OTHER_ZONE, EMPTY_ZONE)}
    token = first["nextPageToken"]
    last = cloud.call("GET", f"{everywhere}?fields={fields}&pageToken={token}").json()
    assert [each["name"] for each in last["items"][f"zones/{ZONE}"]["instances"]] == ["machine-1"]
    one = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances/machine-0"
    assert cloud.call("GET", f"{one}?fields=name").json() == {"name": "machine-0"}
    refused = cloud.call("GET", f"{everywhere}?fields=items(")
    assert (refused.status_code, refused.json()["error"]["errors"][0]["reason"]) == (
        400,
        "invalidParameter",
    )


def test_the_aggregated_list_has_every_zone_and_a_warning_for_empty_ones(cloud: _Cloud) -> None:
    """Its pages run through all zones."""
    for zone in (ZONE, OTHER_ZONE):
        for number in range(2):
            cloud.insert(f"machine-{number}", zone=zone)

    def listed(**more: Any) -> dict[str, list[str]]:
        request = compute_v1.AggregatedListInstancesRequest(project=PROJECT, **more)
        found: dict[str, list[str]] = {}
        scopes: Any = cloud.instances.aggregated_list(request=request)
        for zone, scope in scopes:
            found.setdefault(zone, []).extend(instance.name for instance in scope.instances)
            assert bool(scope.instances) != bool(scope.warning)
            assert scope.warning.code in {"", "NO_RESULTS_ON_PAGE"}
        return found

    everything = {
        f"zones/{ZONE}": ["machine-0", "machine-1"],
        f"zones/{OTHER_ZONE}": ["machine-0", "machine-1"],
        f"zones/{EMPTY_ZONE}": [],
    }
    assert listed() == everything
    assert listed(max_results=1) == everything
    assert listed(filter="name = machine-1") == {
        f"zones/{ZONE}": ["machine-1"],
        f"zones/{OTHER_ZONE}": ["machine-1"],
        f"zones/{EMPTY_ZONE}": [],
    }


# Operations, zones, machine types


def test_an_operation_can_be_read_listed_and_waited_for(cloud: _Cloud, name: str) -> None:
    """``wait`` returns when it is done, a list takes a filter, and an unknown one is 404."""
    operation = cloud.insert(name)
    assert operation.progress == 0
    assert cloud.operations.get(**HERE, operation=operation.name).target_id == operation.target_id

    waited = cloud.wait_for(operation)

    assert (waited.status, waited.progress) == (compute_v1.Operation.Status.DONE, 100)
    cloud.wait_for(cloud.call_method("stop", name))
    request = compute_v1.ListZoneOperationsRequest(**HERE, filter="operationType = insert")
    assert [found.name for found in cloud.operations.list(request=request)] == [operation.name]
    for ask in (cloud.operations.get, cloud.operations.wait):
        with pytest.raises(exceptions.NotFound):
            ask(**HERE, operation="operation-unknown")


def test_zones_and_machine_types_can_be_read(cloud: _Cloud) -> None:
    """A zone has its region, a machine type its processors and memory; unknown ones are 404."""
    assert [zone.name for zone in cloud.zones.list(project=PROJECT)] == [
        ZONE,
        OTHER_ZONE,
        EMPTY_ZONE,
    ]
    assert cloud.zones.get(project=PROJECT, zone=ZONE).region.endswith(
        f"projects/{PROJECT}/regions/us-west1"
    )
    found = cloud.machine_types.get(**HERE, machine_type="e2-standard-4")
    assert (found.guest_cpus, found.memory_mb) == (4, 16384)
    with pytest.raises(exceptions.NotFound):
        cloud.machine_types.get(**HERE, machine_type="e2-giant")
    with pytest.raises(exceptions.NotFound):
        cloud.zones.get(project=PROJECT, zone="mars-1a")


# requestId


def test_a_repeated_request_id_returns_the_same_operation(cloud: _Cloud, name: str) -> None:
    """The repeated call changes nothing, even after the state has changed again."""
    request_id = str(uuid.uuid4())
    first = cloud.insert(name, request_id=request_id)
    assert cloud.insert(name, request_id=request_id).name == first.name
    cloud.wait_for(first)
    stop_id = str(uuid.uuid4())

    def stop() -> compute_v1.Operation:
        return cloud.instances.stop_unary(
            compute_v1.StopInstanceRequest(**HERE, instance=name, request_id=stop_id)
        )

    stopped = stop()
    cloud.wait_for(stopped)
    cloud.wait_for(cloud.call_method("start", name))

    assert stop().name == stopped.name
    assert cloud.get(name).status == "RUNNING"
    assert cloud.insert(name, request_id=request_id).status == compute_v1.Operation.Status.DONE


@pytest.mark.parametrize("request_id", [str(uuid.UUID(int=0)), "not-a-uuid"])
def test_a_request_id_must_be_a_uuid_other_than_zero(
    cloud: _Cloud, name: str, request_id: str
) -> None:
    """The call is refused and no instance is created."""
    with pytest.raises(exceptions.BadRequest, match="requestId"):
        cloud.insert(name, request_id=request_id)
    with pytest.raises(exceptions.NotFound):
        cloud.get(name)


def test_a_request_id_cannot_be_used_for_another_instance(cloud: _Cloud, name: str) -> None:
    """Only a mistake of the caller could do that."""
    request_id = str(uuid.uuid4())
    cloud.insert(name, request_id=request_id)

    with pytest.raises(exceptions.BadRequest, match=r"It was used for instances\.insert"):
        cloud.insert(f"{name}-2", request_id=request_id)


# Requests that are refused


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/compute/v1/projects/demo-project/zones/us-west1-a/snapshots", 404),
        ("PATCH", "/compute/v1/projects/demo-project/zones/us-west1-a/instances/one", 404),
        ("POST", "/compute/v1/projects/demo-project/zones/us-west1-a/instances/one/explode", 404),
        ("GET", "/", 404),
        ("GET", "/compute/v1/projects/other/zones/us-west1-a/instances", 404),
        ("GET", "/compute/v1/projects/demo-project/zones/mars-1a/instances", 400),
    ],
)
def test_an_unknown_path_is_answered_with_an_error_in_json(
    cloud: _Cloud, method: str, path: str, code: int
) -> None:
    """An unknown path, method or project is 404, and an unknown zone is 400."""
    answer = cloud.call(method, path)

    assert answer.status_code == code
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize("body", ["{", "[]", '"text"'])
def test_a_body_that_is_not_a_json_object_is_refused(cloud: _Cloud, body: str) -> None:
    """The answer is 400 with the reason ``parseError``."""
    url = f"{cloud.server.url}/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"

    answer = requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=5)

    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (
        400,
        "parseError",
    )


def test_a_web_page_can_neither_read_nor_change_anything(cloud: _Cloud, name: str) -> None:
    """The server needs no token, so it refuses web pages by their headers."""
    cloud.insert_and_wait(name)
    url = f"{cloud.server.url}/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances/{name}"
    pages: list[tuple[dict[str, str], int]] = [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ]
    for method in ("GET", "DELETE"):
        for headers, status in pages:
            answer = requests.request(method, url, headers=headers, timeout=5)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    form = requests.post(f"{cloud.server.url}/localcloud/reset", data={"a": "b"}, timeout=5)
    assert (form.status_code, cloud.get(name).status) == (415, "RUNNING")


def test_the_control_api_needs_the_secret(cloud: _Cloud) -> None:
    """Compute's own methods do not: the Hub's functions have no secret."""
    url = f"{cloud.server.url}/localcloud/machines"
    for headers in ({}, {"Authorization": SECRET}, {"Authorization": "Bearer wrong"}):
        answer = requests.get(url, headers=headers, timeout=5)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, 401)
    assert cloud.call("GET", "/localcloud/machines").status_code == 200


# Faults


def test_a_stock_out_fails_the_operation_and_creates_nothing(cloud: _Cloud, name: str) -> None:
    """The operation has one of two error codes in turn, and another zone is not affected."""
    cloud.fault("stock_out", zone=ZONE)

    failed = [cloud.wait_for(cloud.insert(name)) for _ in range(2)]

    assert [_error_codes(operation) for operation in failed] == [
        ["ZONE_RESOURCE_POOL_EXHAUSTED"],
        ["ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"],
    ]
    assert "does not have enough resources available" in failed[0].error.errors[0].message
    assert failed[0].http_error_status_code == 503
    assert (list(cloud.instances.list(**HERE)), list(cloud.disks.list(**HERE))) == ([], [])
    assert not _error_codes(cloud.wait_for(cloud.insert(name, zone=OTHER_ZONE), zone=OTHER_ZONE))


def test_a_stock_out_during_a_resume_leaves_the_machine_suspended(cloud: _Cloud, name: str) -> None:
    """It can be resumed once the zone has capacity."""
    cloud.insert_and_wait(name)
    cloud.wait_for(cloud.call_method("suspend", name))
    cloud.fault("stock_out", count=1, method="resume")

    assert _error_codes(cloud.wait_for(cloud.call_method("resume", name))) == [
        "ZONE_RESOURCE_POOL_EXHAUSTED"
    ]

    assert cloud.get(name).status == "SUSPENDED"
    assert not _error_codes(cloud.wait_for(cloud.call_method("resume", name)))


def test_an_exceeded_quota_fails_the_operation(cloud: _Cloud, name: str) -> None:
    """The operation has status code 403 and names the quota."""
    cloud.fault("quota_exceeded", count=1)

    failed = cloud.wait_for(cloud.insert(name))

    assert (_error_codes(failed), failed.http_error_status_code) == (["QUOTA_EXCEEDED"], 403)
    assert "Quota 'CPUS' exceeded." in failed.error.errors[0].message
    with pytest.raises(exceptions.NotFound):
        cloud.get(name)


def test_a_rate_limit_refuses_calls_with_403_and_429_in_turn(cloud: _Cloud, name: str) -> None:
    """Both have the reason ``rateLimitExceeded``, and no instance is created."""
    cloud.fault("rate_limited", count=2, method="instances.insert")

    with pytest.raises(exceptions.Forbidden) as forbidden:
        cloud.insert(name)
    with pytest.raises(exceptions.TooManyRequests) as too_many:
        cloud.insert(name)

    for refused in (forbidden, too_many):
        assert refused.value.errors[0]["reason"] == "rateLimitExceeded"
        assert refused.value.errors[0]["domain"] == "usageLimits"
    assert cloud.insert(name)


def test_the_client_repeats_a_read_but_not_a_change_after_503(cloud: _Cloud, name: str) -> None:
    """A refused insert raises ``ServiceUnavailable``."""
    cloud.fault("unavailable", count=1)
    with pytest.raises(exceptions.ServiceUnavailable):
        cloud.insert(name)
    cloud.insert_and_wait(name)
    cloud.fault("unavailable", count=1, method="get")

    assert cloud.get(name).name == name
    assert cloud.call("GET", "/localcloud/faults").json() == {"faults": []}


def test_a_slow_operation_takes_twenty_times_as_long(cloud: _Cloud, name: str) -> None:
    """The fault applies to the next operation of the instance."""
    cloud.fault("slow_operation", count=1, instance=name)
    began = time.monotonic()

    cloud.wait_for(cloud.insert(name))

    assert time.monotonic() - began >= 20 * SHORT_SECONDS


def test_a_lost_operation_takes_effect_but_cannot_be_read(cloud: _Cloud, name: str) -> None:
    """Its ``requestId`` starts a new call, which meets what the first one created."""
    cloud.fault("lost_operation", count=1)
    request_id = str(uuid.uuid4())

    operation = cloud.insert(name, request_id=request_id)

    for ask in (cloud.operations.get, cloud.operations.wait):
        with pytest.raises(exceptions.NotFound):
            ask(**HERE, operation=operation.name)
    with pytest.raises(exceptions.Conflict):
        cloud.insert(name, request_id=request_id)
    _wait_until(lambda: cloud.get(name).status == "RUNNING")


def test_a_machine_with_never_ready_runs_but_sends_no_report(cloud: _Cloud, name: str) -> None:
    """It boots as far as its container; the next machine is not affected."""
    cloud.fault("never_ready", count=1)
    cloud.insert_and_wait(name)
    _wait_until(lambda: cloud.machine(name)["guest"] == "silent")
    cloud.insert_and_wait(f"{name}-2")
    _wait_until(lambda: cloud.machine(f"{name}-2")["guest"] == "up")

    assert cloud.machine(name)["reports"] == []
    assert "waiting for the container" in cloud.serial_output(name)
    assert len(cloud.hub.reports) == 1


def test_a_machine_that_fails_at_boot_reports_the_reason(cloud: _Cloud, name: str) -> None:
    """Its report has a code and a message, and it sends no ready report."""
    cloud.fault("fails_at_boot", count=1)

    cloud.insert_and_wait(name, generation=3)

    _wait_until(lambda: cloud.hub.reports)
    report = cloud.hub.reports[0]["body"]
    assert (report["event"], report["generation"], report["code"]) == (
        "failed",
        3,
        "IMAGE_PULL_FAILED",
    )
    assert report["message"] in cloud.serial_output(name)
    assert cloud.machine(name)["guest"] == "failed"


def test_a_machine_with_fails_later_reports_ready_and_then_failed(cloud: _Cloud, name: str) -> None:
    """Its container keeps ending; it sends no heartbeat after that."""
    cloud.fault("fails_later", count=1)

    cloud.insert_and_wait(name)

    _wait_until(lambda: cloud.hub.events() == ["ready", "failed"])
    assert cloud.hub.reports[-1]["body"]["code"] == "CONTAINER_ENDS"
    cloud.call(
        "POST", f"/localcloud/machines/{name}/connected", {"connected": True}
    ).raise_for_status()
    assert _stays_the_same(lambda: len(cloud.hub.reports))


def test_the_html_502_fault_answers_with_googles_error_page(cloud: _Cloud, name: str) -> None:
    """It has no error document for a program, and no instance is created."""
    cloud.fault("html_502", count=2, method="instances.insert")
    path = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"

    page = cloud.call("POST", path, {"name": name})
    with pytest.raises(exceptions.BadGateway, match="<title>Error 502"):
        cloud.insert(name)

    assert (page.status_code, page.headers["Content-Type"]) == (502, "text/html; charset=UTF-8")
    assert page.text.startswith("<!DOCTYPE html>\n<html lang=en>")
    assert "<b>502.</b> <ins>That’s an error.</ins>" in page.text  # noqa: RUF001  # Google's text
    assert cloud.insert(name)


def test_an_unavailable_serial_console_is_refused_in_three_ways(cloud: _Cloud, name: str) -> None:
    """It answers 503, 400 and 403 in turn; the instance can still be read."""
    cloud.insert_and_wait(name)
    cloud.fault("console_away", count=3)
    path = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances/{name}"

    answers = [cloud.call("GET", f"{path}/serialPort") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 400, 403, 200]
    reasons = [answer.json()["error"]["errors"][0]["reason"] for answer in answers[:3]]
    assert reasons == ["backendError", "resourceNotReady", "forbidden"]
    assert cloud.get(name).name == name


def test_a_policy_refuses_an_insert_with_412_or_fails_its_operation(
    cloud: _Cloud, name: str
) -> None:
    """The call and the operation name the violated constraint in their own ways."""
    cloud.fault("policy_forbids")
    words = f"Constraint constraints/compute.vmExternalIpAccess violated for project {NUMBER}"

    with pytest.raises(exceptions.PreconditionFailed, match=words) as refused:
        cloud.insert(name)
    failed = cloud.wait_for(cloud.insert(name))

    assert refused.value.errors[0]["reason"] == "conditionNotMet"
    assert (_error_codes(failed), failed.http_error_status_code) == (["CONDITION_NOT_MET"], 412)


def test_an_operation_can_have_two_errors(cloud: _Cloud, name: str) -> None:
    """The second error is the precise one; the status code is that of the first."""
    cloud.fault("second_error", count=1)

    failed = cloud.wait_for(cloud.insert(name))

    assert _error_codes(failed) == ["VM_MIN_COUNT_NOT_REACHED", "ZONE_RESOURCE_POOL_EXHAUSTED"]
    assert failed.http_error_status_code == 400


def test_a_disk_in_use_is_refused_with_the_name_of_its_user(cloud: _Cloud) -> None:
    """The user is an instance that cannot be seen."""
    cloud.wait_for(cloud.disks.insert_unary(**HERE, disk_resource=compute_v1.Disk(name="spare")))
    cloud.fault("in_use", count=1)
    there = f"projects/{PROJECT}/zones/{ZONE}"

    with pytest.raises(exceptions.BadRequest, match=f"'{there}/instances/holder'") as refused:
        cloud.disks.delete_unary(**HERE, disk="spare")

    assert refused.value.errors[0]["reason"] == "resourceInUseByAnotherResource"
    assert not _error_codes(cloud.wait_for(cloud.disks.delete_unary(**HERE, disk="spare")))


@pytest.mark.parametrize(
    ("fault", "codes", "status"),
    [
        ("source_busy", ["RESOURCE_OPERATION_RATE_EXCEEDED"], None),
        ("snapshot_quota_exceeded", ["QUOTA_EXCEEDED"], None),
        ("capture_fails", ["INTERNAL_ERROR"], "FAILED"),
        ("upload_fails", ["INTERNAL_ERROR"], "FAILED"),
    ],
)
def test_the_operation_of_a_snapshot_can_fail(
    cloud: _Cloud, fault: str, codes: list[str], status: str | None
) -> None:
    """The snapshot does not exist then, or is FAILED and can be deleted; the next one succeeds."""
    cloud.insert_disk()
    cloud.fault(fault, count=1)
    assert _error_codes(cloud.wait_for_global(cloud.insert_snapshot())) == codes
    if status is None:
        with pytest.raises(exceptions.NotFound):
            cloud.snapshot()
    else:
        assert cloud.snapshot().status == status
        cloud.wait_for_global(cloud.snapshots.delete_unary(project=PROJECT, snapshot="kept"))
    _wait_until(lambda: not _error_codes(cloud.wait_for_global(cloud.insert_snapshot())))
    assert cloud.snapshot().status == "READY"


def test_a_policy_or_a_missing_disk_refuses_a_snapshot_or_fails_its_operation(
    cloud: _Cloud,
) -> None:
    """The answers alternate, and leave no snapshot."""
    cloud.insert_disk()
    cloud.fault("snapshot_location_forbidden", count=2)
    why = "Location US violates constraint constraints/gcp.resourceLocations"
    with pytest.raises(exceptions.PreconditionFailed, match=why):
        cloud.insert_snapshot()
    assert _error_codes(cloud.wait_for_global(cloud.insert_snapshot())) == ["CONDITION_NOT_MET"]

    cloud.fault("source_gone", count=3)
    with pytest.raises(exceptions.NotFound, match="disks/spare' was not found"):
        cloud.insert_snapshot()
    assert _error_codes(cloud.wait_for_global(cloud.insert_snapshot())) == ["RESOURCE_NOT_FOUND"]
    with pytest.raises(exceptions.BadRequest, match="referenced disk resource cannot be found"):
        cloud.insert_snapshot()
    assert list(cloud.snapshots.list(project=PROJECT)) == []


def test_an_unsupported_suspend_returns_the_machine_to_running(cloud: _Cloud, name: str) -> None:
    """It is ``SUSPENDING`` first, and its operation is done with an error."""
    cloud.insert_and_wait(name)
    cloud.fault("suspend_unsupported", count=1)
    cloud.fault("slow_operation", count=1)

    operation = cloud.call_method("suspend", name)
    assert cloud.get(name).status == "SUSPENDING"

    assert _error_codes(cloud.wait_for(operation)) == ["UNSUPPORTED_OPERATION"]
    assert cloud.get(name).status == "RUNNING"
    assert not _error_codes(cloud.wait_for(cloud.call_method("suspend", name)))


def test_the_preempted_fault_terminates_as_many_machines_as_its_count(
    cloud: _Cloud, name: str
) -> None:
    """One runs already, another is terminated when it starts to run, and a third keeps running."""
    cloud.insert_and_wait(name)
    cloud.fault("preempted", count=2)

    _wait_until(lambda: cloud.get(name).status == "TERMINATED")
    cloud.insert_and_wait(f"{name}-2")
    _wait_until(lambda: cloud.get(f"{name}-2").status == "TERMINATED")
    cloud.insert_and_wait(f"{name}-3")

    assert cloud.get(f"{name}-3").status == "RUNNING"
    request = compute_v1.ListZoneOperationsRequest(
        **HERE, filter='operationType = "compute.instances.preempted"'
    )
    system = list(cloud.operations.list(request=request))
    assert [(o.user, o.status_message) for o in system] == [
        ("system", "Instance was preempted.")
    ] * 2
    assert cloud.machine(name)["guest"] == "off"


def test_the_vanished_fault_deletes_a_machine_and_its_boot_disk(cloud: _Cloud, name: str) -> None:
    """The home disk stays, as after a deletion by hand."""
    cloud.insert_and_wait(name)

    cloud.fault("vanished", count=1, instance=name)

    with pytest.raises(exceptions.NotFound):
        cloud.get(name)
    assert [disk.name for disk in cloud.disks.list(**HERE)] == [f"{name}-home"]


@pytest.mark.parametrize(
    ("switch", "words"),
    [
        ({"name": "gremlins"}, ", ".join(FAULTS)),
        ({"name": "gremlins", "off": True}, ", ".join(FAULTS)),
        ({}, "There is no fault"),
        ({"name": "stock_out", "count": 0}, "count"),
        ({"name": "stock_out", "count": "two"}, "count"),
        ({"name": "stock_out", "count": True}, "count"),
        ({"name": "stock_out", "off": 1}, "off"),
        ({"name": "stock_out", "zones": []}, "zones"),
        ({"name": "stock_out", "zone": 1}, "zone"),
        ({"name": "stock_out", "method": "explode"}, "instances.insert"),
        ({"name": "vanished", "method": "insert"}, "method"),
    ],
)
def test_an_invalid_fault_is_refused_with_the_valid_choices(
    cloud: _Cloud, switch: dict[str, Any], words: str
) -> None:
    """An unknown name is answered with all names, and no fault is switched on."""
    answer = cloud.call("POST", "/localcloud/faults", switch)

    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert cloud.call("GET", "/localcloud/faults").json() == {"faults": []}


def test_faults_can_be_listed_and_switched_off_by_name_or_all_at_once(cloud: _Cloud) -> None:
    """Each fault in the list says what it does."""
    cloud.fault("stock_out", zone=ZONE)
    cloud.fault("unavailable", count=3, method="instances.get")
    on = cloud.call("GET", "/localcloud/faults").json()["faults"]
    assert on[0] == {
        "name": "stock_out",
        "count": None,
        "zone": ZONE,
        "method": None,
        "instance": None,
        "does": FAULTS["stock_out"].does,
    }

    cloud.fault("stock_out", off=True)
    assert [
        fault["name"] for fault in cloud.call("GET", "/localcloud/faults").json()["faults"]
    ] == ["unavailable"]

    assert cloud.call("DELETE", "/localcloud/faults").json() == {"faults": []}


def test_a_fault_can_be_limited_to_each_method_of_the_server(cloud: _Cloud, name: str) -> None:
    """The methods in ``METHODS`` are exactly those that the server has."""
    operation = cloud.insert(name).name
    home = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}"
    everywhere = f"/compute/v1/projects/{PROJECT}/global"
    one = f"{home}/instances/{name}"
    calls = {
        "disks.aggregatedList": ("GET", f"/compute/v1/projects/{PROJECT}/aggregated/disks"),
        "disks.createSnapshot": ("POST", f"{home}/disks/{name}/createSnapshot"),
        "disks.delete": ("DELETE", f"{home}/disks/{name}"),
        "disks.get": ("GET", f"{home}/disks/{name}"),
        "disks.insert": ("POST", f"{home}/disks"),
        "disks.list": ("GET", f"{home}/disks"),
        "disks.resize": ("POST", f"{home}/disks/{name}/resize"),
        "disks.setLabels": ("POST", f"{home}/disks/{name}/setLabels"),
        "instances.aggregatedList": ("GET", f"/compute/v1/projects/{PROJECT}/aggregated/instances"),
        "instances.delete": ("DELETE", one),
        "instances.get": ("GET", one),
        "instances.getIamPolicy": ("GET", f"{one}/getIamPolicy"),
        "instances.getSerialPortOutput": ("GET", f"{one}/serialPort"),
        "instances.insert": ("POST", f"{home}/instances"),
        "instances.list": ("GET", f"{home}/instances"),
        "machineTypes.get": ("GET", f"{home}/machineTypes/e2-small"),
        "globalOperations.get": ("GET", f"{everywhere}/operations/any"),
        "globalOperations.list": ("GET", f"{everywhere}/operations"),
        "globalOperations.wait": ("POST", f"{everywhere}/operations/any/wait"),
        "snapshots.delete": ("DELETE", f"{everywhere}/snapshots/any"),
        "snapshots.get": ("GET", f"{everywhere}/snapshots/any"),
        "snapshots.insert": ("POST", f"{everywhere}/snapshots"),
        "snapshots.list": ("GET", f"{everywhere}/snapshots"),
        "snapshots.setLabels": ("POST", f"{everywhere}/snapshots/any/setLabels"),
        "zoneOperations.get": ("GET", f"{home}/operations/{operation}"),
        "zoneOperations.list": ("GET", f"{home}/operations"),
        "zoneOperations.wait": ("POST", f"{home}/operations/{operation}/wait"),
        "zones.get": ("GET", home),
        "zones.list": ("GET", f"/compute/v1/projects/{PROJECT}/zones"),
        **{
            f"instances.{verb}": ("POST", f"{one}/{verb}")
            for verb in (
                *(
                    "attachDisk",
                    "detachDisk",
                    "resume",
                    "setDiskAutoDelete",
                    "setIamPolicy",
                    "setLabels",
                    "setMachineType",
                ),
                *("setMetadata", "start", "stop", "suspend"),
            )
        },
    }
    assert sorted(calls) == sorted(METHODS)

    for method, (verb, path) in calls.items():
        cloud.fault("unavailable", count=1, method=method)
        assert cloud.call(verb, path, {} if verb == "POST" else None).status_code == 503, method
    assert cloud.call("GET", "/localcloud/faults").json() == {"faults": []}


# Machines


def test_a_booted_machine_reports_with_a_valid_token(cloud: _Cloud, name: str) -> None:
    """The report has the generation, and the token describes the machine."""
    instance = cloud.insert_and_wait(name, generation=7)

    _wait_until(lambda: cloud.hub.reports)

    report = cloud.hub.reports[0]
    assert (report["body"], report["scheme"]) == ({"event": "ready", "generation": 7}, "Bearer")
    claims = cloud.hub.claims(report["token"])
    created = claims["google"]["compute_engine"].pop("instance_creation_timestamp")
    assert claims["google"]["compute_engine"] == {
        "project_id": PROJECT,
        "project_number": int(NUMBER),
        "zone": ZONE,
        "instance_id": str(instance.id),
        "instance_name": name,
    }
    assert abs(created - time.time()) < 60
    assert claims["email"] == SERVICE_ACCOUNT


def test_the_serial_console_shows_the_boot_but_no_token(cloud: _Cloud, name: str) -> None:
    """It can be read from its start or from a later position."""
    cloud.insert_and_wait(name)
    _wait_until(lambda: "was answered 204" in cloud.serial_output(name))

    whole = cloud.instances.get_serial_port_output(**HERE, instance=name)
    request = compute_v1.GetSerialPortOutputInstanceRequest(**HERE, instance=name, start=10)
    rest = cloud.instances.get_serial_port_output(request)

    assert "Linux version" in whole.contents
    assert f"Hostname set to <{name}>" in whole.contents
    assert "the ready report of generation 1 was answered 204" in whole.contents
    assert (rest.start, rest.next_, rest.contents) == (10, whole.next_, whole.contents[10:])
    assert cloud.hub.reports[0]["token"] not in whole.contents
    assert "eyJ" not in whole.contents


def test_only_a_boot_sends_a_ready_report(cloud: _Cloud, name: str) -> None:
    """A resumed machine sends none; the generation is the one in the metadata at boot."""
    cloud.insert_and_wait(name)
    _wait_until(lambda: cloud.machine(name)["guest"] == "up")
    for verb in ("suspend", "resume"):
        cloud.wait_for(cloud.call_method(verb, name))
    metadata = cloud.get(name).metadata
    for item in metadata.items:
        item.value = "2" if item.key == "hub-generation" else item.value
    cloud.wait_for(
        cloud.instances.set_metadata_unary(**HERE, instance=name, metadata_resource=metadata)
    )

    for verb in ("stop", "start"):
        cloud.wait_for(cloud.call_method(verb, name))
    _wait_until(lambda: len(cloud.hub.reports) == 2)

    assert [report["body"]["generation"] for report in cloud.hub.reports] == [1, 2]
    assert cloud.serial_output(name).count("Linux version") == 1


@pytest.fixture
def slow_guests() -> Iterator[_Cloud]:
    """Start a cloud whose machines take longer to boot or send a heartbeat than to be suspended."""
    cloud = _Cloud(boot=0.6, heartbeat=0.6)
    yield cloud
    cloud.close()


def test_a_machine_that_is_suspended_during_its_boot_finishes_it_after_the_resume(
    slow_guests: _Cloud, name: str
) -> None:
    """It is suspended for longer than a boot takes, and reports only after the resume."""
    cloud = slow_guests
    cloud.insert_and_wait(name)
    cloud.fault("slow_operation", count=1, method="suspend")
    suspending = cloud.call_method("suspend", name)
    assert cloud.machine(name)["frozen"]
    cloud.wait_for(suspending)
    assert (cloud.hub.reports, cloud.machine(name)["guest"]) == ([], "booting")

    cloud.wait_for(cloud.call_method("resume", name))

    _wait_until(lambda: cloud.hub.reports)
    assert cloud.hub.reports[0]["body"] == {"event": "ready", "generation": 1}


def test_the_heartbeat_timer_stops_while_a_machine_is_suspended(
    slow_guests: _Cloud, name: str
) -> None:
    """After the resume, the machine waits for the rest of the time."""
    cloud = slow_guests
    cloud.insert_and_wait(name)
    cloud.call("POST", f"/localcloud/machines/{name}/connected", {"connected": True})
    _wait_until(lambda: cloud.hub.events() == ["ready", "heartbeat"])
    cloud.fault("slow_operation", count=1, method="suspend")
    suspending = cloud.call_method("suspend", name)
    awake = time.monotonic() - cloud.hub.reports[-1]["at"]
    cloud.wait_for(suspending)  # this takes longer than the time between two heartbeats
    resumed = time.monotonic()
    cloud.call_method("resume", name)

    _wait_until(lambda: cloud.hub.events().count("heartbeat") == 2)

    assert awake + cloud.hub.reports[-1]["at"] - resumed >= 0.6


def test_a_machine_sends_heartbeats_while_somebody_is_connected(cloud: _Cloud, name: str) -> None:
    """They have its generation, pause while it is suspended, and end with the connection."""
    cloud.insert_and_wait(name, generation=4)
    _wait_until(lambda: cloud.machine(name)["guest"] == "up")

    def connect(connected: bool) -> None:
        cloud.call(
            "POST", f"/localcloud/machines/{name}/connected", {"connected": connected}
        ).raise_for_status()

    def heartbeats() -> int:
        return cloud.hub.events().count("heartbeat")

    assert heartbeats() == 0
    connect(connected=True)
    _wait_until(lambda: heartbeats() >= 3)
    assert cloud.hub.reports[-1]["body"] == {
        "event": "heartbeat",
        "generation": 4,
        "because": "session",
    }

    cloud.wait_for(cloud.call_method("suspend", name))
    frozen = heartbeats()
    cloud.fault("slow_operation", count=1, method="setLabels")
    labels = compute_v1.InstancesSetLabelsRequest(
        label_fingerprint=cloud.get(name).label_fingerprint
    )
    cloud.wait_for(
        cloud.instances.set_labels_unary(
            **HERE, instance=name, instances_set_labels_request_resource=labels
        )
    )  # this takes as long as many heartbeats
    assert heartbeats() == frozen

    cloud.wait_for(cloud.call_method("resume", name))
    _wait_until(lambda: heartbeats() >= frozen + 2)
    connect(connected=False)
    assert not cloud.machine(name)["connected"]
    _wait_until(lambda: _stays_the_same(heartbeats))
    assert cloud.hub.events().count("ready") == 1


def _stays_the_same(count: Callable[[], int]) -> bool:
    """Return whether a count stays the same for the time of several heartbeats."""
    before, end = count(), time.monotonic() + 5 * HEARTBEAT_SECONDS
    while time.monotonic() < end:
        if count() != before:
            return False
        time.sleep(0.005)
    return True


def test_a_stopped_machine_sends_no_heartbeats(cloud: _Cloud, name: str) -> None:
    """The connection ends with the guest."""
    cloud.insert_and_wait(name)
    cloud.call("POST", f"/localcloud/machines/{name}/connected", {"connected": True})
    _wait_until(lambda: "heartbeat" in cloud.hub.events())

    cloud.wait_for(cloud.call_method("stop", name))

    assert cloud.machine(name)["guest"] == "off"
    assert not cloud.machine(name)["connected"]
    assert _stays_the_same(lambda: len(cloud.hub.reports))


def test_a_heartbeat_says_why_the_machine_is_kept_awake(cloud: _Cloud, name: str) -> None:
    """A session takes precedence; only the file in the home persists across a stop."""
    cloud.insert_and_wait(name)
    _wait_until(lambda: cloud.machine(name)["guest"] == "up")

    def switch(what: str, **to: bool) -> None:
        cloud.call("POST", f"/localcloud/machines/{name}/{what}", to).raise_for_status()

    def reasons() -> set[str | None]:
        return {
            report["body"].get("because")
            for report in cloud.hub.reports
            if report["body"]["event"] == "heartbeat"
        }

    switch("keep-awake", awake=True)
    _wait_until(lambda: reasons() == {"keep_awake"})
    switch("connected", connected=True)
    _wait_until(lambda: reasons() == {"keep_awake", "session"})
    for verb in ("stop", "start"):
        cloud.wait_for(cloud.call_method(verb, name))
    cloud.hub.reports.clear()
    _wait_until(lambda: reasons() == {"keep_awake"})
    switch("keep-awake", awake=False)

    _wait_until(lambda: _stays_the_same(lambda: len(cloud.hub.reports)))
    assert (cloud.machine(name)["connected"], cloud.machine(name)["keptAwake"]) == (False, False)


def test_a_machine_uses_the_heartbeat_interval_in_its_metadata_at_boot(
    cloud: _Cloud, name: str
) -> None:
    """A later change applies from the next boot on."""
    cloud.insert_and_wait(name, heartbeat=1000)
    _wait_until(lambda: cloud.machine(name)["guest"] == "up")
    metadata = cloud.get(name).metadata
    for item in metadata.items:
        item.value = str(HEARTBEAT_SECONDS) if item.key == "hub-heartbeat-seconds" else item.value
    cloud.wait_for(
        cloud.instances.set_metadata_unary(**HERE, instance=name, metadata_resource=metadata)
    )
    cloud.call(
        "POST", f"/localcloud/machines/{name}/connected", {"connected": True}
    ).raise_for_status()
    _wait_until(lambda: cloud.hub.events() == ["ready", "heartbeat"])
    assert _stays_the_same(lambda: len(cloud.hub.reports))

    for verb in ("stop", "start"):
        cloud.wait_for(cloud.call_method(verb, name))
    cloud.call(
        "POST", f"/localcloud/machines/{name}/connected", {"connected": True}
    ).raise_for_status()

    _wait_until(lambda: cloud.hub.events().count("heartbeat") >= 4)


def test_a_machine_that_boots_without_its_home_disk_reports_the_failure(
    cloud: _Cloud, name: str
) -> None:
    """It looks for the device ``home`` at boot only."""
    cloud.insert_and_wait(name)
    _wait_until(lambda: cloud.machine(name)["guest"] == "up")
    cloud.wait_for(cloud.instances.detach_disk_unary(**HERE, instance=name, device_name="home"))
    assert cloud.machine(name)["guest"] == "up"

    for verb in ("stop", "start"):
        cloud.wait_for(cloud.call_method(verb, name))

    _wait_until(lambda: cloud.hub.events() == ["ready", "failed"])
    assert cloud.hub.reports[-1]["body"]["code"] == "DISK_MISSING"
    assert cloud.machine(name)["guest"] == "failed"


@pytest.mark.parametrize("answers", [[503, 503], [429], [500]])
def test_a_machine_reports_again_after_429_and_5xx(
    cloud: _Cloud, name: str, answers: list[int]
) -> None:
    """It sends each attempt with a token until the Hub accepts the report."""
    cloud.hub.answers.extend(answers)

    cloud.insert_and_wait(name)

    _wait_until(lambda: cloud.machine(name)["guest"] == "up")
    assert [report["answered"] for report in cloud.hub.reports] == [*answers, 204]
    assert all(cloud.hub.claims(report["token"]) for report in cloud.hub.reports)
    assert [report["status"] for report in cloud.machine(name)["reports"]] == [*answers, 204]


def test_a_machine_reports_again_when_the_hub_cannot_be_reached(cloud: _Cloud, name: str) -> None:
    """The console says that the report was not answered."""
    metadata = {"items": [{"key": "hub-reports-url", "value": "http://127.0.0.1:9/"}]}
    rest = _instance(name, ZONE, cloud.hub.url).metadata.items[1:]
    metadata["items"] += [{"key": item.key, "value": item.value} for item in rest]

    cloud.insert_and_wait(name, metadata=metadata)

    _wait_until(lambda: len(cloud.machine(name)["reports"]) >= 2)
    assert {report["status"] for report in cloud.machine(name)["reports"]} == {None}
    assert "was not answered" in cloud.serial_output(name)


@pytest.mark.parametrize("answer", [400, 401, 404, 409])
def test_a_machine_sends_nothing_more_after_a_4xx_to_its_ready_report(
    cloud: _Cloud, name: str, answer: int
) -> None:
    """A connection causes no heartbeat in this boot."""
    cloud.hub.answers.append(answer)

    cloud.insert_and_wait(name)
    cloud.call(
        "POST", f"/localcloud/machines/{name}/connected", {"connected": True}
    ).raise_for_status()

    _wait_until(lambda: cloud.machine(name)["guest"] == "over")
    assert _stays_the_same(lambda: len(cloud.hub.reports))
    assert [report["answered"] for report in cloud.hub.reports] == [answer]


def test_a_machine_without_a_hub_in_its_metadata_sends_no_report(cloud: _Cloud, name: str) -> None:
    """It runs, and its console says why."""
    cloud.insert_and_wait(name, metadata={"items": []})

    _wait_until(lambda: cloud.machine(name)["guest"] == "up")
    assert "no hub-reports-url" in cloud.serial_output(name)


def test_a_machine_boots_again_after_a_host_error(cloud: _Cloud, name: str) -> None:
    """Its status is ``REPAIRING`` until then, and it reports ready with the same generation."""
    cloud.insert_and_wait(name)
    _wait_until(lambda: cloud.hub.reports)

    assert (
        cloud.call("POST", f"/localcloud/machines/{name}/host-error").json()["status"]
        == "REPAIRING"
    )

    _wait_until(lambda: len(cloud.hub.reports) == 2)
    assert cloud.get(name).status == "RUNNING"
    assert cloud.hub.events() == ["ready", "ready"]


def test_the_age_endpoint_makes_a_machine_and_its_boot_disk_older(cloud: _Cloud, name: str) -> None:
    """A test cannot wait for that time; the age of the home disk does not change."""
    cloud.insert_and_wait(name)

    cloud.call("POST", f"/localcloud/machines/{name}/age", {"seconds": 3600}).raise_for_status()

    machine = cloud.get(name)
    boot, home = (
        cloud.disks.get(**HERE, disk=disk.source.rsplit("/", 1)[-1]).creation_timestamp
        for disk in machine.disks
    )
    assert boot == machine.creation_timestamp
    an_hour = datetime.fromisoformat(home) - datetime.fromisoformat(boot)
    assert timedelta(minutes=59) < an_hour < timedelta(minutes=61)


def test_the_endpoints_for_a_machine_refuse_unknown_machines_and_wrong_types(cloud: _Cloud) -> None:
    """They answer 404 to the first and 400 to the second."""
    assert (
        cloud.call("POST", "/localcloud/machines/nobody/connected", {"connected": True}).status_code
        == 404
    )
    assert cloud.call("POST", "/localcloud/machines/nobody/host-error").status_code == 404
    cloud.insert_and_wait("somebody")
    assert (
        cloud.call(
            "POST", "/localcloud/machines/somebody/connected", {"connected": "yes"}
        ).status_code
        == 400
    )
    assert (
        cloud.call("POST", "/localcloud/machines/nobody/keep-awake", {"awake": True}).status_code
        == 404
    )
    assert (
        cloud.call("POST", "/localcloud/machines/somebody/keep-awake", {"awake": 1}).status_code
        == 400
    )
    assert cloud.call("POST", "/localcloud/machines/nobody/age", {"seconds": 1}).status_code == 404
    assert (
        cloud.call("POST", "/localcloud/machines/somebody/age", {"seconds": "1"}).status_code == 400
    )


# Changes by hand, which the tests of the whole Hub make with these helpers


@pytest.fixture
def workspace_in_compute(cloud: _Cloud) -> tuple[RunningCloud, dict[str, Any]]:
    """Return the part of a running cloud that the helpers use, and a workspace with a machine."""
    workspace_id = str(uuid.uuid4())
    name = f"workspace-{workspace_id}"
    labels = {"hub": "test", "workspace": workspace_id, "owner": "alice"}
    disks = [
        {
            "boot": True,
            "auto_delete": True,
            "initialize_params": {"disk_name": f"{name}-1", "labels": labels},
        },
        {
            "device_name": "home",
            "initialize_params": {"disk_name": f"home-{workspace_id}", "labels": labels},
        },
    ]
    cloud.insert_and_wait(name, labels=labels, disks=disks)
    workspace = {"id": workspace_id, "project_id": PROJECT, "zone": ZONE, "instance_name": name}
    running: Any = SimpleNamespace(
        state={"services": {"compute": cloud.server.url}, "project_id": PROJECT}
    )
    return running, workspace


def _zones_and_labels(
    cloud: RunningCloud, workspace: dict[str, Any], kind: str
) -> dict[str, tuple[str, dict[str, str]]]:
    """Return zone and labels of a workspace's instances or disks, by name without its id."""
    return {
        each["name"].replace(workspace["id"], "*"): (
            each["zone"].rsplit("/", 1)[-1],
            each["labels"],
        )
        for each in records.in_compute(cloud, kind, workspace["id"])
    }


def test_unlabel_by_hand_removes_the_given_labels(
    workspace_in_compute: tuple[RunningCloud, dict[str, Any]],
) -> None:
    """It removes them from a workspace's instances or disks, and keeps the others."""
    cloud, workspace = workspace_in_compute
    records.unlabel_by_hand(cloud, workspace)
    records.unlabel_by_hand(cloud, workspace, "disks", labels=("workspace", "owner"))

    assert _zones_and_labels(cloud, workspace, "instances") == {
        "workspace-*": (ZONE, {"hub": "test", "owner": "alice"})
    }
    assert [labels for _, labels in _zones_and_labels(cloud, workspace, "disks").values()] == [
        {"hub": "test"}
    ] * 2


def test_hold_disk_by_hand_attaches_a_home_disk_to_another_machine(
    cloud: _Cloud, workspace_in_compute: tuple[RunningCloud, dict[str, Any]]
) -> None:
    """Until the helper releases it, the disk cannot be deleted."""
    running, workspace = workspace_in_compute
    home = f"home-{workspace['id']}"
    holder = records.hold_disk_by_hand(running, workspace)

    assert [user.rsplit("/", 1)[-1] for user in cloud.disks.get(**HERE, disk=home).users] == [
        holder
    ]
    with pytest.raises(exceptions.BadRequest, match=f"instances/{holder}'"):
        cloud.disks.delete_unary(**HERE, disk=home)
    records.release_disk_by_hand(running, workspace)
    assert list(cloud.disks.get(**HERE, disk=home).users) == []


def test_move_by_hand_recreates_a_machine_and_its_disks_in_another_zone(
    workspace_in_compute: tuple[RunningCloud, dict[str, Any]],
) -> None:
    """Names, labels and metadata stay the same, and the first zone keeps nothing."""
    cloud, workspace = workspace_in_compute
    [before] = records.in_compute(cloud, "instances", workspace["id"])
    disks = _zones_and_labels(cloud, workspace, "disks")

    records.move_by_hand(cloud, workspace, OTHER_ZONE)

    [after] = records.in_compute(cloud, "instances", workspace["id"])
    assert (after["zone"].rsplit("/", 1)[-1], after["status"]) == (OTHER_ZONE, "RUNNING")
    same = ("name", "labels", "serviceAccounts")
    assert [after[key] for key in same] == [before[key] for key in same]
    assert after["metadata"]["items"] == before["metadata"]["items"]
    assert _zones_and_labels(cloud, workspace, "disks") == {
        name: (OTHER_ZONE, labels) for name, (_, labels) in disks.items()
    }


@pytest.mark.parametrize(
    "before", [[], ["suspend"], ["stop"]], ids=["running", "suspended", "stopped"]
)
def test_set_machine_type_by_hand_leaves_a_stopped_machine_of_that_type(
    cloud: _Cloud, workspace_in_compute: tuple[RunningCloud, dict[str, Any]], before: list[str]
) -> None:
    """The machine may run, be suspended, or be stopped before."""
    running, workspace = workspace_in_compute
    for verb in before:
        cloud.wait_for(cloud.call_method(verb, workspace["instance_name"]))

    records.set_machine_type_by_hand(running, workspace, "e2-standard-8")

    machine = cloud.get(workspace["instance_name"])
    assert (machine.status, machine.machine_type.rsplit("/", 1)[-1]) == (
        "TERMINATED",
        "e2-standard-8",
    )


def test_a_home_can_be_restored_or_deleted_by_hand(
    workspace_in_compute: tuple[RunningCloud, dict[str, Any]],
) -> None:
    """A restored disk keeps its name, has only the given labels, and is not attached."""
    cloud, workspace = workspace_in_compute
    records.restore_home_by_hand(cloud, workspace)
    assert _zones_and_labels(cloud, workspace, "disks")["home-*"] == (ZONE, {"hub": "test"})

    records.delete_home_by_hand(cloud, workspace)

    assert list(_zones_and_labels(cloud, workspace, "disks")) == ["workspace-*-1"]
    assert list(_zones_and_labels(cloud, workspace, "instances")) == ["workspace-*"]


def test_delete_keeping_boot_disk_by_hand_keeps_both_disks(
    workspace_in_compute: tuple[RunningCloud, dict[str, Any]],
) -> None:
    """The home disk stays as well."""
    cloud, workspace = workspace_in_compute

    records.delete_keeping_boot_disk_by_hand(cloud, workspace)

    assert sorted(_zones_and_labels(cloud, workspace, "disks")) == ["home-*", "workspace-*-1"]
    assert _zones_and_labels(cloud, workspace, "instances") == {}


# History and reset


def test_the_history_has_every_call_that_tries_to_change_something(
    cloud: _Cloud, name: str
) -> None:
    """It has refused calls but no reads; each has method, resource, id, status and operation."""
    request_id = str(uuid.uuid4())
    operation = cloud.insert(name, request_id=request_id)
    cloud.wait_for(operation)
    cloud.get(name)
    with pytest.raises(exceptions.BadRequest):
        cloud.call_method("resume", name)
    with pytest.raises(exceptions.NotFound):
        cloud.disks.delete_unary(**HERE, disk="none")
    _set_policy(cloud, name, bindings=[])

    calls = cloud.call("GET", "/localcloud/history").json()["calls"]

    assert all(call.pop("time") for call in calls)
    nothing = dict.fromkeys(["disk", "snapshot", "requestId", "operation"])
    common = {"zone": ZONE, "instance": name, **nothing}
    assert calls == [
        common
        | {
            "method": "instances.insert",
            "requestId": request_id,
            "status": 200,
            "operation": operation.name,
        },
        common | {"method": "instances.resume", "status": 400},
        common | {"method": "disks.delete", "instance": None, "disk": "none", "status": 404},
        common | {"method": "instances.setIamPolicy", "status": 200},
    ]


def test_the_history_has_every_state_of_each_machine(cloud: _Cloud, name: str) -> None:
    """Each state has its time, from the insert to the deletion."""
    cloud.wait_for(cloud.insert(name))
    cloud.wait_for(cloud.call_method("delete", name))

    states = cloud.call("GET", "/localcloud/history").json()["states"]

    mine = [state for state in states if state["instance"] == name]
    assert [state["status"] for state in mine] == [
        "PROVISIONING",
        "STAGING",
        "RUNNING",
        "STOPPING",
        "GONE",
    ]
    assert [state["time"] for state in mine] == sorted(state["time"] for state in mine)
    assert {(state["zone"], len(state["id"]) > 10) for state in mine} == {(ZONE, True)}


def test_the_history_has_every_state_of_each_disk_and_snapshot(cloud: _Cloud) -> None:
    """With what each was made from, until it is gone."""
    cloud.insert_disk()
    cloud.wait_for_global(cloud.insert_snapshot())
    cloud.insert_disk("copy", source_snapshot=f"projects/{PROJECT}/global/snapshots/kept")
    cloud.wait_for(cloud.disks.delete_unary(**HERE, disk="spare"))
    cloud.wait_for_global(cloud.snapshots.delete_unary(project=PROJECT, snapshot="kept"))

    contents = cloud.call("GET", "/localcloud/history").json()["contents"]

    assert [(each["name"], each["source"], each["status"]) for each in contents] == [
        *(("spare", None, status) for status in ("CREATING", "READY")),
        *(("kept", "spare", status) for status in ("CREATING", "UPLOADING", "READY")),
        *(("copy", "kept", status) for status in ("CREATING", "READY")),
        *(("spare", None, status) for status in ("DELETING", "GONE")),
        *(("kept", "spare", status) for status in ("DELETING", "GONE")),
    ]
    assert [each["time"] for each in contents] == sorted(each["time"] for each in contents)


def test_a_reset_deletes_machines_disks_operations_faults_and_history(
    cloud: _Cloud, name: str
) -> None:
    """A call that waits for an operation is answered with 404."""
    cloud.fault("slow_operation", count=1)
    operation = cloud.insert(name)
    cloud.fault("stock_out")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cloud.wait_for, operation)
        cloud.call("POST", "/localcloud/reset").raise_for_status()
        with pytest.raises(exceptions.NotFound):
            waiting.result(5)

    assert list(cloud.instances.list(**HERE)) == []
    assert list(cloud.disks.list(**HERE)) == []
    assert list(cloud.operations.list(**HERE)) == []
    assert cloud.call("GET", "/localcloud/faults").json() == {"faults": []}
    assert cloud.call("GET", "/localcloud/history").json() == {
        "calls": [],
        "states": [],
        "contents": [],
        "reports": [],
    }
    assert cloud.call("GET", "/localcloud/machines").json() == {"machines": []}


def test_two_hundred_machines_can_be_inserted_concurrently(cloud: _Cloud, name: str) -> None:
    """Sixteen clients insert them; each machine exists once, runs, and reports ready."""
    names = [f"{name}-{n}" for n in range(200)]

    with ThreadPoolExecutor(16) as pool:
        operations = list(pool.map(cloud.insert, names))

    assert len({operation.target_id for operation in operations}) == len(names)
    _wait_until(lambda: len(cloud.hub.reports) >= len(names), seconds=20)
    machines = cloud.call("GET", "/localcloud/machines").json()["machines"]
    assert sorted(machine["name"] for machine in machines) == sorted(names)
    assert {machine["status"] for machine in machines} == {"RUNNING"}
