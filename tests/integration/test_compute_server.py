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
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import requests
from aiohttp import web
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from localcloud.running_cloud import RunningCloud
from localcloud.services.compute.faults import FAULTS
from localcloud.services.compute.guests import SimulatedGuests
from localcloud.services.compute.methods import METHODS
from localcloud.services.compute.server import ComputeServer
from localcloud.services.compute.times import Times
from localcloud.services.identity.server import IdentityServer
from localcloud.services.project import Project
from tests.system import records

PROJECT = "demo-project"
NUMBER = "123456789012"
ZONE = "us-west1-a"
OTHER_ZONE = "us-west1-b"
EMPTY_ZONE = "us-west1-c"
SERVICE_ACCOUNT = "workspace-vm@demo-project.iam.gserviceaccount.com"
HERE: Any = {"project": PROJECT, "zone": ZONE}
AUDIENCE = "https://hub.example.com"
SHORT = 0.04
HEARTBEAT = 0.05


class _Hub:
    """A tiny Hub: accepts reports, verifies their tokens with the served keys, answers as set."""

    def __init__(self, keys_url: str) -> None:
        self.reports: list[dict[str, Any]] = []
        self.answers: deque[int] = deque()
        # The prefix of the present test's machines: late reports of other machines do not count.
        self.expected = ""
        self._keys_url = keys_url
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/workspaces/{workspace_id}/reports", self._take)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
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
        """Return what a token says, verified as a Hub verifies it."""
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
        """Return the events that were reported."""
        return [report["body"]["event"] for report in self.reports]


class _Cloud:
    """A local cloud on an event loop in a thread, and the stock clients that use it."""

    def __init__(self, *, boot: float = SHORT, heartbeat: float = HEARTBEAT) -> None:
        self.heartbeat = heartbeat
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        project = Project(id=PROJECT, number=NUMBER, zones=(ZONE, OTHER_ZONE, EMPTY_ZONE))
        self.identity = IdentityServer(project)
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
            times=Times(**dict.fromkeys((*names, *more), SHORT), boot=boot),
            guests=SimulatedGuests(metadata_url=self.identity.url),
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
        self.zones = compute_v1.ZonesClient(**options)
        self.machine_types = compute_v1.MachineTypesClient(**options)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something on the cloud's event loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        clients: tuple[Any, ...] = (
            self.instances,
            self.disks,
            self.operations,
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

    # The switches

    def call(self, method: str, path: str, json: object = None) -> requests.Response:
        return requests.request(method, f"{self.server.url}{path}", json=json, timeout=10)

    def fault(self, name: str, **more: Any) -> None:
        self.call("POST", "/localcloud/faults", {"name": name, **more}).raise_for_status()

    def machine(self, name: str) -> dict[str, Any]:
        machines = self.call("GET", "/localcloud/machines").json()["machines"]
        found: dict[str, Any] = next(machine for machine in machines if machine["name"] == name)
        return found

    def put_into(self, status: str, name: str) -> None:
        """Put an instance into a state, however it would get there."""

        async def put() -> None:
            self.server.fleet.instances.get(ZONE, name).resource["status"] = status

        self.run(put())

    # What the tests do again and again

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

    def done(self, operation: compute_v1.Operation, *, zone: str = ZONE) -> compute_v1.Operation:
        return self.operations.wait(project=PROJECT, zone=zone, operation=operation.name)

    def running(self, name: str, **more: Any) -> compute_v1.Instance:
        self.done(self.insert(name, **more))
        return self.get(name)

    def get(self, name: str, *, zone: str = ZONE) -> compute_v1.Instance:
        return self.instances.get(project=PROJECT, zone=zone, instance=name)

    def act(self, verb: str, name: str) -> compute_v1.Operation:
        operation: compute_v1.Operation = getattr(self.instances, f"{verb}_unary")(
            **HERE, instance=name
        )
        return operation

    def serial(self, name: str) -> str:
        output = self.instances.get_serial_port_output(**HERE, instance=name)
        return str(output.contents)


def _instance(
    name: str,
    zone: str,
    hub_url: str,
    *,
    heartbeat: float = HEARTBEAT,
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


def _until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
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
    """Return the cloud with nothing in it, and a Hub that listens to the machines of this test."""
    shared_cloud.call("POST", "/localcloud/reset").raise_for_status()
    shared_cloud.hub.expected = name
    shared_cloud.hub.reports.clear()
    shared_cloud.hub.answers.clear()
    return shared_cloud


@pytest.fixture
def name() -> str:
    """Return a name that no machine had before."""
    return f"workspace-{uuid.uuid4()}"


# Instances


def test_an_instance_lives_from_insert_to_delete(cloud: _Cloud, name: str) -> None:
    """Google's client inserts, suspends, resumes, stops, starts, deletes, and sees each state."""
    operation = cloud.insert(name)
    assert operation.status == compute_v1.Operation.Status.RUNNING
    assert str(operation.target_id) == str(cloud.get(name).id)
    assert cloud.get(name).status in {"PROVISIONING", "STAGING", "RUNNING"}
    assert cloud.done(operation).status == compute_v1.Operation.Status.DONE

    statuses = [cloud.get(name).status]
    for verb in ("suspend", "resume", "stop", "start"):
        assert not _error_codes(cloud.done(cloud.act(verb, name)))
        statuses.append(cloud.get(name).status)
    cloud.done(cloud.act("delete", name))

    assert statuses == ["RUNNING", "SUSPENDED", "RUNNING", "TERMINATED", "RUNNING"]
    with pytest.raises(
        exceptions.NotFound,
        match=f"projects/{PROJECT}/zones/{ZONE}/instances/{name}' was not found",
    ):
        cloud.get(name)
    assert [disk.name for disk in cloud.disks.list(**HERE)] == [f"{name}-home"]


# What each verb does in each state: ok, or the refusal. A transitional state is put in place and
# never left.
_OK, _REFUSED = "ok", "refused"
_TABLE = {
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


@pytest.mark.parametrize("status", _TABLE)
def test_each_verb_is_taken_or_refused_by_the_state(cloud: _Cloud, name: str, status: str) -> None:
    """Over the wire: an operation, or 400 and the state as it was."""
    cloud.running(name)
    small = compute_v1.InstancesSetMachineTypeRequest(
        machine_type=f"zones/{ZONE}/machineTypes/e2-small"
    )
    verbs: list[Callable[[], compute_v1.Operation]] = [
        lambda: cloud.act("start", name),
        lambda: cloud.act("stop", name),
        lambda: cloud.act("suspend", name),
        lambda: cloud.act("resume", name),
        lambda: cloud.instances.set_machine_type_unary(
            **HERE, instance=name, instances_set_machine_type_request_resource=small
        ),
    ]
    seen = []
    for verb in verbs:
        cloud.put_into(status, name)
        try:
            cloud.done(verb())
            seen.append(_OK)
        except exceptions.BadRequest:
            assert cloud.get(name).status == status
            seen.append(_REFUSED)

    assert tuple(seen) == _TABLE[status]
    cloud.put_into(status, name)
    cloud.done(cloud.act("delete", name))
    with pytest.raises(exceptions.NotFound):
        cloud.get(name)


def test_a_refusal_has_the_shape_and_the_words_of_compute(cloud: _Cloud, name: str) -> None:
    """The JSON error document: code, message, errors with message, domain and reason."""
    cloud.running(name)
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
def test_the_client_reads_why_an_insert_is_refused(
    cloud: _Cloud, name: str, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Each refusal is the exception that production raises, with Compute's message in it."""
    with pytest.raises(error, match=words):
        cloud.insert(change.pop("name", name), **change)
    assert list(cloud.disks.list(**HERE)) == []


def test_a_second_insert_of_the_same_name_is_a_conflict(cloud: _Cloud, name: str) -> None:
    """The name is the guard against a second machine."""
    cloud.insert(name)

    with pytest.raises(exceptions.Conflict, match="already exists"):
        cloud.insert(name)


def test_metadata_and_labels_are_changed_under_their_fingerprints(cloud: _Cloud, name: str) -> None:
    """The present fingerprint changes them; an old one is 412."""
    before = cloud.running(name)
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

    cloud.done(set_metadata())
    cloud.done(set_labels())

    after = cloud.get(name)
    assert [(item.key, item.value) for item in after.metadata.items] == [("k", "v")]
    assert dict(after.labels) == {"hub": "new"}
    for change in (set_metadata, set_labels):
        with pytest.raises(exceptions.PreconditionFailed):
            change()


def test_the_home_disk_survives_and_is_given_to_the_next_machine(cloud: _Cloud, name: str) -> None:
    """Deleting an instance detaches what is not autoDelete; nobody deletes a disk in use."""
    cloud.running(name)
    home = f"{name}-home"
    with pytest.raises(exceptions.BadRequest, match="is already being used by"):
        cloud.disks.delete_unary(**HERE, disk=home)
    disks: list[dict[str, Any]] = [
        {"boot": True, "auto_delete": True, "initialize_params": {}},
        {"source": f"projects/{PROJECT}/zones/{ZONE}/disks/{home}", "device_name": "home"},
    ]
    refused = cloud.done(cloud.insert(f"{name}-2", disks=disks))
    assert _error_codes(refused) == ["RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"]
    cloud.done(cloud.act("delete", name))

    again = cloud.running(name, disks=disks)

    assert [disk.source.rsplit("/", 1)[-1] for disk in again.disks] == [name, home]
    assert list(cloud.disks.get(**HERE, disk=home).users) == [again.self_link]
    cloud.done(cloud.act("delete", name))
    cloud.done(cloud.disks.delete_unary(**HERE, disk=home))
    with pytest.raises(exceptions.NotFound):
        cloud.disks.get(**HERE, disk=home)


def test_a_disk_is_made_listed_and_deleted_on_its_own(cloud: _Cloud) -> None:
    """Disks have their own methods, also across all zones."""
    disk = compute_v1.Disk(name="spare", size_gb=20, labels={"hub": "test"})
    cloud.done(cloud.disks.insert_unary(**HERE, disk_resource=disk))

    assert cloud.disks.get(**HERE, disk="spare").size_gb == 20
    listed = cloud.disks.aggregated_list(
        request=compute_v1.AggregatedListDisksRequest(project=PROJECT, filter="labels.hub = test")
    )
    assert {zone: [disk.name for disk in scope.disks] for zone, scope in listed if scope.disks} == {
        f"zones/{ZONE}": ["spare"]
    }
    cloud.done(cloud.disks.delete_unary(**HERE, disk="spare"))
    assert list(cloud.disks.list(**HERE)) == []


def test_a_disk_is_labelled_resized_and_made_again_from_a_snapshot(cloud: _Cloud) -> None:
    """Labels go by their fingerprint, sizes only up, and a snapshot is for every zone."""
    cloud.done(
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

    cloud.done(set_labels())
    with pytest.raises(exceptions.PreconditionFailed, match="Labels fingerprint either invalid"):
        set_labels()
    larger = compute_v1.DisksResizeRequest(size_gb=30)
    cloud.done(cloud.disks.resize_unary(**HERE, disk="spare", disks_resize_request_resource=larger))
    cloud.done(
        cloud.disks.create_snapshot_unary(
            **HERE, disk="spare", snapshot_resource=compute_v1.Snapshot(name="kept")
        )
    )
    there: Any = {"project": PROJECT, "zone": OTHER_ZONE}
    again = compute_v1.Disk(
        name="spare", source_snapshot=f"projects/{PROJECT}/global/snapshots/kept"
    )
    cloud.done(cloud.disks.insert_unary(**there, disk_resource=again), zone=OTHER_ZONE)

    made = cloud.disks.get(**there, disk="spare")
    assert (made.size_gb, dict(made.labels)) == (30, {})
    assert dict(cloud.disks.get(**HERE, disk="spare").labels) == {"hub": "test"}


def test_a_disk_goes_from_one_machine_to_another(cloud: _Cloud, name: str) -> None:
    """Over the wire: detached, attached, kept or deleted with its machine as was said."""
    cloud.running(name)
    cloud.running(f"{name}-2")
    home = f"{name}-home"
    source = f"projects/{PROJECT}/zones/{ZONE}/disks/{home}"

    def attach() -> compute_v1.Operation:
        disk = compute_v1.AttachedDisk(source=source, device_name="second", mode="READ_WRITE")
        return cloud.instances.attach_disk_unary(
            **HERE, instance=f"{name}-2", attached_disk_resource=disk
        )

    assert _error_codes(cloud.done(attach())) == ["RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"]
    cloud.done(cloud.instances.detach_disk_unary(**HERE, instance=name, device_name="home"))
    assert not _error_codes(cloud.done(attach()))
    assert [user.rsplit("/", 1)[-1] for user in cloud.disks.get(**HERE, disk=home).users] == [
        f"{name}-2"
    ]
    for device, auto_delete in (("second", True), ("persistent-disk-0", False)):
        setting = compute_v1.SetDiskAutoDeleteInstanceRequest(
            **HERE, instance=f"{name}-2", device_name=device, auto_delete=auto_delete
        )
        cloud.done(cloud.instances.set_disk_auto_delete_unary(setting))
    cloud.done(cloud.act("delete", f"{name}-2"))

    assert [disk.name for disk in cloud.disks.list(**HERE)] == [name, f"{name}-2", f"{name}-2-home"]


def test_a_local_ssd_is_discarded_only_when_that_is_asked_for(cloud: _Cloud, name: str) -> None:
    """`discardLocalSsd` goes with the call; it is true or false."""
    cloud.running(name)

    async def give_local_ssd() -> None:
        instance = cloud.server.fleet.instances.get(ZONE, name)
        instance.resource["machineType"] += "-lssd"

    cloud.run(give_local_ssd())
    path = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances/{name}"
    assert cloud.call("POST", f"{path}/suspend?discardLocalSsd=perhaps").status_code == 400
    with pytest.raises(exceptions.BadRequest, match="undefined value for `discard-local-ssd`"):
        cloud.act("stop", name)

    request = compute_v1.StopInstanceRequest(**HERE, instance=name, discard_local_ssd=True)
    cloud.done(cloud.instances.stop_unary(request))

    assert cloud.get(name).status == "TERMINATED"


# Lists


def test_what_belongs_to_a_workspace_is_found_by_label_and_by_name(cloud: _Cloud) -> None:
    """In every zone, by the two filters of the Hub; a name with the same start is not found."""
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
    """Pages hold what the filter takes, each once; the next page is asked for by the client."""
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


def test_a_page_token_stays_right_when_instances_go(cloud: _Cloud) -> None:
    """What is deleted between two pages moves nothing; a made-up token or size is refused."""
    for number in range(4):
        cloud.done(cloud.insert(f"machine-{number}"))
    instances = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"
    first = cloud.call("GET", f"{instances}?maxResults=2").json()
    cloud.done(cloud.act("delete", "machine-0"))

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


def test_the_aggregated_list_has_every_zone_and_warns_of_empty_ones(cloud: _Cloud) -> None:
    """Scopes are zones; one without results says so; pages run through all zones."""
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


def test_an_operation_is_got_listed_and_waited_for(cloud: _Cloud, name: str) -> None:
    """`wait` comes back when it is done; a list takes filters; an unknown one is 404."""
    operation = cloud.insert(name)
    assert operation.progress == 0
    assert cloud.operations.get(**HERE, operation=operation.name).target_id == operation.target_id

    waited = cloud.done(operation)

    assert (waited.status, waited.progress) == (compute_v1.Operation.Status.DONE, 100)
    cloud.done(cloud.act("stop", name))
    request = compute_v1.ListZoneOperationsRequest(**HERE, filter="operationType = insert")
    assert [found.name for found in cloud.operations.list(request=request)] == [operation.name]
    for ask in (cloud.operations.get, cloud.operations.wait):
        with pytest.raises(exceptions.NotFound):
            ask(**HERE, operation="operation-unknown")


def test_zones_and_machine_types_are_there(cloud: _Cloud) -> None:
    """A zone is in its region; a machine type has its processors and memory; others are 404."""
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


def test_the_same_request_id_is_the_same_operation(cloud: _Cloud, name: str) -> None:
    """A repeated call begins nothing, whatever has become of the first one."""
    request_id = str(uuid.uuid4())
    first = cloud.insert(name, request_id=request_id)
    assert cloud.insert(name, request_id=request_id).name == first.name
    cloud.done(first)
    stop_id = str(uuid.uuid4())

    def stop() -> compute_v1.Operation:
        return cloud.instances.stop_unary(
            compute_v1.StopInstanceRequest(**HERE, instance=name, request_id=stop_id)
        )

    stopped = stop()
    cloud.done(stopped)
    cloud.done(cloud.act("start", name))

    assert stop().name == stopped.name
    assert cloud.get(name).status == "RUNNING"
    assert cloud.insert(name, request_id=request_id).status == compute_v1.Operation.Status.DONE


@pytest.mark.parametrize("request_id", [str(uuid.UUID(int=0)), "not-a-uuid"])
def test_a_request_id_must_be_a_uuid_that_is_not_zero(
    cloud: _Cloud, name: str, request_id: str
) -> None:
    """Anything else is refused, and nothing happens."""
    with pytest.raises(exceptions.BadRequest, match="requestId"):
        cloud.insert(name, request_id=request_id)
    with pytest.raises(exceptions.NotFound):
        cloud.get(name)


def test_a_request_id_belongs_to_one_call(cloud: _Cloud, name: str) -> None:
    """Used for another machine, it is refused: it can only be a mistake."""
    request_id = str(uuid.uuid4())
    cloud.insert(name, request_id=request_id)

    with pytest.raises(exceptions.BadRequest, match=r"It was used for instances\.insert"):
        cloud.insert(f"{name}-2", request_id=request_id)


# What is not there


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
def test_what_there_is_not_is_answered_in_json(
    cloud: _Cloud, method: str, path: str, code: int
) -> None:
    """An unknown path, method or project is 404, an unknown zone 400, as an error document."""
    answer = cloud.call(method, path)

    assert answer.status_code == code
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize("body", ["{", "[]", '"text"'])
def test_a_body_that_is_no_json_object_is_refused(cloud: _Cloud, body: str) -> None:
    """It is 400 parseError, not a crash."""
    url = f"{cloud.server.url}/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"

    answer = requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=5)

    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (
        400,
        "parseError",
    )


def test_a_web_page_neither_reads_nor_changes_anything(cloud: _Cloud, name: str) -> None:
    """It needs no token, so pages must not use it: they get errors, and the machine stays."""
    cloud.running(name)
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


# Faults


def test_a_stock_out_ends_the_operation_and_leaves_nothing(cloud: _Cloud, name: str) -> None:
    """Both codes come in turn; another zone has what this one has not."""
    cloud.fault("stock_out", zone=ZONE)

    failed = [cloud.done(cloud.insert(name)) for _ in range(2)]

    assert [_error_codes(operation) for operation in failed] == [
        ["ZONE_RESOURCE_POOL_EXHAUSTED"],
        ["ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"],
    ]
    assert "does not have enough resources available" in failed[0].error.errors[0].message
    assert failed[0].http_error_status_code == 503
    assert (list(cloud.instances.list(**HERE)), list(cloud.disks.list(**HERE))) == ([], [])
    assert not _error_codes(cloud.done(cloud.insert(name, zone=OTHER_ZONE), zone=OTHER_ZONE))


def test_a_stock_out_of_a_resume_leaves_the_machine_suspended(cloud: _Cloud, name: str) -> None:
    """Its memory is in that zone: it can be resumed once there is room."""
    cloud.running(name)
    cloud.done(cloud.act("suspend", name))
    cloud.fault("stock_out", count=1, method="resume")

    assert _error_codes(cloud.done(cloud.act("resume", name))) == ["ZONE_RESOURCE_POOL_EXHAUSTED"]

    assert cloud.get(name).status == "SUSPENDED"
    assert not _error_codes(cloud.done(cloud.act("resume", name)))


def test_quota_exceeded_ends_the_operation(cloud: _Cloud, name: str) -> None:
    """The operation says which quota, as 403."""
    cloud.fault("quota_exceeded", count=1)

    failed = cloud.done(cloud.insert(name))

    assert (_error_codes(failed), failed.http_error_status_code) == (["QUOTA_EXCEEDED"], 403)
    assert "Quota 'CPUS' exceeded." in failed.error.errors[0].message
    with pytest.raises(exceptions.NotFound):
        cloud.get(name)


def test_a_rate_limit_refuses_the_call_as_403_and_429_in_turn(cloud: _Cloud, name: str) -> None:
    """Both carry rateLimitExceeded, and nothing has happened."""
    cloud.fault("rate_limited", count=2, method="instances.insert")

    with pytest.raises(exceptions.Forbidden) as forbidden:
        cloud.insert(name)
    with pytest.raises(exceptions.TooManyRequests) as too_many:
        cloud.insert(name)

    for refused in (forbidden, too_many):
        assert refused.value.errors[0]["reason"] == "rateLimitExceeded"
        assert refused.value.errors[0]["domain"] == "usageLimits"
    assert cloud.insert(name)


def test_unavailability_refuses_the_call_and_the_client_repeats_what_it_may(
    cloud: _Cloud, name: str
) -> None:
    """A change fails with 503; a get is repeated by the stock client itself."""
    cloud.fault("unavailable", count=1)
    with pytest.raises(exceptions.ServiceUnavailable):
        cloud.insert(name)
    cloud.running(name)
    cloud.fault("unavailable", count=1, method="get")

    assert cloud.get(name).name == name
    assert cloud.call("GET", "/localcloud/faults").json() == {"faults": []}


def test_a_slow_operation_takes_longer(cloud: _Cloud, name: str) -> None:
    """Twenty times as long as usual."""
    cloud.fault("slow_operation", count=1, instance=name)
    began = time.monotonic()

    cloud.done(cloud.insert(name))

    assert time.monotonic() - began >= 20 * SHORT


def test_a_lost_operation_is_not_found_but_happens(cloud: _Cloud, name: str) -> None:
    """Its record is 404; its requestId starts a new call, which finds what the first created."""
    cloud.fault("lost_operation", count=1)
    request_id = str(uuid.uuid4())

    operation = cloud.insert(name, request_id=request_id)

    for ask in (cloud.operations.get, cloud.operations.wait):
        with pytest.raises(exceptions.NotFound):
            ask(**HERE, operation=operation.name)
    with pytest.raises(exceptions.Conflict):
        cloud.insert(name, request_id=request_id)
    _until(lambda: cloud.get(name).status == "RUNNING")


def test_a_machine_that_is_never_ready_runs_and_says_nothing(cloud: _Cloud, name: str) -> None:
    """It boots as far as its container; the next machine is a good one."""
    cloud.fault("never_ready", count=1)
    cloud.running(name)
    _until(lambda: cloud.machine(name)["guest"] == "silent")
    cloud.running(f"{name}-2")
    _until(lambda: cloud.machine(f"{name}-2")["guest"] == "up")

    assert cloud.machine(name)["reports"] == []
    assert "waiting for the container" in cloud.serial(name)
    assert len(cloud.hub.reports) == 1


def test_a_machine_that_fails_at_boot_reports_why(cloud: _Cloud, name: str) -> None:
    """The report carries a code and a message; no ready report comes."""
    cloud.fault("fails_at_boot", count=1)

    cloud.running(name, generation=3)

    _until(lambda: cloud.hub.reports)
    report = cloud.hub.reports[0]["body"]
    assert (report["event"], report["generation"], report["code"]) == (
        "failed",
        3,
        "IMAGE_PULL_FAILED",
    )
    assert report["message"] in cloud.serial(name)
    assert cloud.machine(name)["guest"] == "failed"


def test_a_machine_can_fail_after_it_was_ready(cloud: _Cloud, name: str) -> None:
    """Its container keeps ending: `failed` comes after `ready`, and no heartbeat after that."""
    cloud.fault("fails_later", count=1)

    cloud.running(name)

    _until(lambda: cloud.hub.events() == ["ready", "failed"])
    assert cloud.hub.reports[-1]["body"]["code"] == "CONTAINER_ENDS"
    cloud.call(
        "POST", f"/localcloud/machines/{name}/connected", {"connected": True}
    ).raise_for_status()
    assert _is_still(lambda: len(cloud.hub.reports))


def test_a_front_end_answers_any_call_with_a_page_of_html(cloud: _Cloud, name: str) -> None:
    """502, and nothing in it that a program could read; nothing has happened."""
    cloud.fault("html_502", count=2, method="instances.insert")
    path = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances"

    page = cloud.call("POST", path, {"name": name})
    with pytest.raises(exceptions.BadGateway, match="<title>Error 502"):
        cloud.insert(name)

    assert (page.status_code, page.headers["Content-Type"]) == (502, "text/html; charset=UTF-8")
    assert page.text.startswith("<!DOCTYPE html>\n<html lang=en>")
    assert "<b>502.</b> <ins>That’s an error.</ins>" in page.text  # noqa: RUF001  # as Google has it
    assert cloud.insert(name)


def test_a_serial_console_that_is_away_refuses_in_three_ways(cloud: _Cloud, name: str) -> None:
    """503, 400 and 403 in turn; the machine itself can be read."""
    cloud.running(name)
    cloud.fault("console_away", count=3)
    path = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instances/{name}"

    answers = [cloud.call("GET", f"{path}/serialPort") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 400, 403, 200]
    reasons = [answer.json()["error"]["errors"][0]["reason"] for answer in answers[:3]]
    assert reasons == ["backendError", "resourceNotReady", "forbidden"]
    assert cloud.get(name).name == name


def test_the_client_reads_what_forbids_an_insert(cloud: _Cloud, name: str) -> None:
    """412 as at any other precondition, and an operation that says 412 in its own way."""
    cloud.fault("policy_forbids")
    words = f"Constraint constraints/compute.vmExternalIpAccess violated for project {NUMBER}"

    with pytest.raises(exceptions.PreconditionFailed, match=words) as refused:
        cloud.insert(name)
    failed = cloud.done(cloud.insert(name))

    assert refused.value.errors[0]["reason"] == "conditionNotMet"
    assert (_error_codes(failed), failed.http_error_status_code) == (["CONDITION_NOT_MET"], 412)


def test_the_client_reads_both_errors_of_an_operation(cloud: _Cloud, name: str) -> None:
    """The first one says less than the second; the status is the first one's."""
    cloud.fault("second_error", count=1)

    failed = cloud.done(cloud.insert(name))

    assert _error_codes(failed) == ["VM_MIN_COUNT_NOT_REACHED", "ZONE_RESOURCE_POOL_EXHAUSTED"]
    assert failed.http_error_status_code == 400


def test_the_client_reads_who_holds_a_disk(cloud: _Cloud) -> None:
    """An instance that nobody else sees."""
    cloud.done(cloud.disks.insert_unary(**HERE, disk_resource=compute_v1.Disk(name="spare")))
    cloud.fault("in_use", count=1)
    there = f"projects/{PROJECT}/zones/{ZONE}"

    with pytest.raises(exceptions.BadRequest, match=f"'{there}/instances/holder'") as refused:
        cloud.disks.delete_unary(**HERE, disk="spare")

    assert refused.value.errors[0]["reason"] == "resourceInUseByAnotherResource"
    assert not _error_codes(cloud.done(cloud.disks.delete_unary(**HERE, disk="spare")))


def test_a_suspend_that_is_not_supported_falls_back_to_running(cloud: _Cloud, name: str) -> None:
    """SUSPENDING, RUNNING again, and an operation that is DONE with an error."""
    cloud.running(name)
    cloud.fault("suspend_unsupported", count=1)
    cloud.fault("slow_operation", count=1)

    operation = cloud.act("suspend", name)
    assert cloud.get(name).status == "SUSPENDING"

    assert _error_codes(cloud.done(operation)) == ["UNSUPPORTED_OPERATION"]
    assert cloud.get(name).status == "RUNNING"
    assert not _error_codes(cloud.done(cloud.act("suspend", name)))


def test_a_preempted_machine_is_terminated_by_the_system(cloud: _Cloud, name: str) -> None:
    """One that runs is struck at once, another when it comes to run, a third is spared."""
    cloud.running(name)
    cloud.fault("preempted", count=2)

    _until(lambda: cloud.get(name).status == "TERMINATED")
    cloud.running(f"{name}-2")
    _until(lambda: cloud.get(f"{name}-2").status == "TERMINATED")
    cloud.running(f"{name}-3")

    assert cloud.get(f"{name}-3").status == "RUNNING"
    request = compute_v1.ListZoneOperationsRequest(
        **HERE, filter='operationType = "compute.instances.preempted"'
    )
    system = list(cloud.operations.list(request=request))
    assert [(o.user, o.status_message) for o in system] == [
        ("system", "Instance was preempted.")
    ] * 2
    assert cloud.machine(name)["guest"] == "off"


def test_a_vanished_machine_is_gone_with_its_boot_disk(cloud: _Cloud, name: str) -> None:
    """As when somebody deletes it by hand: the home disk stays."""
    cloud.running(name)

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
def test_a_switch_that_makes_no_sense_is_refused_with_what_there_is(
    cloud: _Cloud, switch: dict[str, Any], words: str
) -> None:
    """An unknown fault is answered with the names of all; nothing is switched on."""
    answer = cloud.call("POST", "/localcloud/faults", switch)

    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert cloud.call("GET", "/localcloud/faults").json() == {"faults": []}


def test_faults_are_shown_and_switched_off_by_name_or_all_at_once(cloud: _Cloud) -> None:
    """What is on says what it does."""
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


def test_a_fault_can_be_narrowed_to_every_method_that_is_served(cloud: _Cloud, name: str) -> None:
    """The methods one can name are the methods there are: each of them can be made to fail."""
    operation = cloud.insert(name).name
    home = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}"
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
        "instances.getSerialPortOutput": ("GET", f"{one}/serialPort"),
        "instances.insert": ("POST", f"{home}/instances"),
        "instances.list": ("GET", f"{home}/instances"),
        "machineTypes.get": ("GET", f"{home}/machineTypes/e2-small"),
        "snapshots.get": ("GET", f"/compute/v1/projects/{PROJECT}/global/snapshots/any"),
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


def test_a_machine_boots_and_reports_with_a_token_that_verifies(cloud: _Cloud, name: str) -> None:
    """The report has the generation and a token of the machine, signed by a served key."""
    instance = cloud.running(name, generation=7)

    _until(lambda: cloud.hub.reports)

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


def test_the_serial_console_tells_of_the_boot_and_never_a_token(cloud: _Cloud, name: str) -> None:
    """It is read from the start, or on from where one was."""
    cloud.running(name)
    _until(lambda: "was answered 204" in cloud.serial(name))

    whole = cloud.instances.get_serial_port_output(**HERE, instance=name)
    request = compute_v1.GetSerialPortOutputInstanceRequest(**HERE, instance=name, start=10)
    rest = cloud.instances.get_serial_port_output(request)

    assert "Linux version" in whole.contents
    assert f"Hostname set to <{name}>" in whole.contents
    assert "the ready report of generation 1 was answered 204" in whole.contents
    assert (rest.start, rest.next_, rest.contents) == (10, whole.next_, whole.contents[10:])
    assert cloud.hub.reports[0]["token"] not in whole.contents
    assert "eyJ" not in whole.contents


def test_a_thawed_machine_goes_on_and_reports_nothing(cloud: _Cloud, name: str) -> None:
    """Only a boot makes a ready report, with the generation that stands in the metadata then."""
    cloud.running(name)
    _until(lambda: cloud.machine(name)["guest"] == "up")
    for verb in ("suspend", "resume"):
        cloud.done(cloud.act(verb, name))
    metadata = cloud.get(name).metadata
    for item in metadata.items:
        item.value = "2" if item.key == "hub-generation" else item.value
    cloud.done(
        cloud.instances.set_metadata_unary(**HERE, instance=name, metadata_resource=metadata)
    )

    for verb in ("stop", "start"):
        cloud.done(cloud.act(verb, name))
    _until(lambda: len(cloud.hub.reports) == 2)

    assert [report["body"]["generation"] for report in cloud.hub.reports] == [1, 2]
    assert cloud.serial(name).count("Linux version") == 1


@pytest.fixture
def slow_guests() -> Iterator[_Cloud]:
    """Start a cloud whose guests boot, and report again, slower than a test suspends them."""
    cloud = _Cloud(boot=0.6, heartbeat=0.6)
    yield cloud
    cloud.close()


def test_a_machine_that_is_suspended_while_it_boots_finishes_its_boot_after_the_thaw(
    slow_guests: _Cloud, name: str
) -> None:
    """It is frozen during its boot, for longer than a boot takes, and reports after the rest."""
    cloud = slow_guests
    cloud.running(name)
    cloud.fault("slow_operation", count=1, method="suspend")
    suspending = cloud.act("suspend", name)
    assert cloud.machine(name)["frozen"]
    cloud.done(suspending)
    assert (cloud.hub.reports, cloud.machine(name)["guest"]) == ([], "booting")

    cloud.done(cloud.act("resume", name))

    _until(lambda: cloud.hub.reports)
    assert cloud.hub.reports[0]["body"] == {"event": "ready", "generation": 1}


def test_the_time_between_two_heartbeats_does_not_pass_while_the_machine_is_suspended(
    slow_guests: _Cloud, name: str
) -> None:
    """A guest's timers stand still: it waits for the rest of the time after the thaw."""
    cloud = slow_guests
    cloud.running(name)
    cloud.call("POST", f"/localcloud/machines/{name}/connected", {"connected": True})
    _until(lambda: cloud.hub.events() == ["ready", "heartbeat"])
    cloud.fault("slow_operation", count=1, method="suspend")
    suspending = cloud.act("suspend", name)
    awake = time.monotonic() - cloud.hub.reports[-1]["at"]
    cloud.done(suspending)  # longer than it is from one heartbeat to the next
    resumed = time.monotonic()
    cloud.act("resume", name)

    _until(lambda: cloud.hub.events().count("heartbeat") == 2)

    assert awake + cloud.hub.reports[-1]["at"] - resumed >= 0.6


def test_a_machine_sends_heartbeats_while_someone_is_connected(cloud: _Cloud, name: str) -> None:
    """They carry the generation, stand still while it is suspended, and end with the connection."""
    cloud.running(name, generation=4)
    _until(lambda: cloud.machine(name)["guest"] == "up")

    def connect(connected: bool) -> None:
        cloud.call(
            "POST", f"/localcloud/machines/{name}/connected", {"connected": connected}
        ).raise_for_status()

    def heartbeats() -> int:
        return cloud.hub.events().count("heartbeat")

    assert heartbeats() == 0
    connect(connected=True)
    _until(lambda: heartbeats() >= 3)
    assert cloud.hub.reports[-1]["body"] == {
        "event": "heartbeat",
        "generation": 4,
        "because": "session",
    }

    cloud.done(cloud.act("suspend", name))
    frozen = heartbeats()
    cloud.fault("slow_operation", count=1, method="setLabels")
    labels = compute_v1.InstancesSetLabelsRequest(
        label_fingerprint=cloud.get(name).label_fingerprint
    )
    cloud.done(
        cloud.instances.set_labels_unary(
            **HERE, instance=name, instances_set_labels_request_resource=labels
        )
    )  # many heartbeats later
    assert heartbeats() == frozen

    cloud.done(cloud.act("resume", name))
    _until(lambda: heartbeats() >= frozen + 2)
    connect(connected=False)
    assert not cloud.machine(name)["connected"]
    _until(lambda: _is_still(heartbeats))
    assert cloud.hub.events().count("ready") == 1


def _is_still(count: Callable[[], int]) -> bool:
    """Watch for the time of several heartbeats, and return whether nothing was added."""
    before, end = count(), time.monotonic() + 5 * HEARTBEAT
    while time.monotonic() < end:
        if count() != before:
            return False
        time.sleep(0.005)
    return True


def test_a_machine_that_is_stopped_sends_no_more_heartbeats(cloud: _Cloud, name: str) -> None:
    """Power off ends the guest, and whoever was connected is not any more."""
    cloud.running(name)
    cloud.call("POST", f"/localcloud/machines/{name}/connected", {"connected": True})
    _until(lambda: "heartbeat" in cloud.hub.events())

    cloud.done(cloud.act("stop", name))

    assert cloud.machine(name)["guest"] == "off"
    assert not cloud.machine(name)["connected"]
    assert _is_still(lambda: len(cloud.hub.reports))


def test_a_machine_that_is_kept_awake_says_so(cloud: _Cloud, name: str) -> None:
    """A session goes before; the file in the home holds over a stop, a session does not."""
    cloud.running(name)
    _until(lambda: cloud.machine(name)["guest"] == "up")

    def switch(what: str, **to: bool) -> None:
        cloud.call("POST", f"/localcloud/machines/{name}/{what}", to).raise_for_status()

    def reasons() -> set[str | None]:
        return {
            report["body"].get("because")
            for report in cloud.hub.reports
            if report["body"]["event"] == "heartbeat"
        }

    switch("keep-awake", awake=True)
    _until(lambda: reasons() == {"keep_awake"})
    switch("connected", connected=True)
    _until(lambda: reasons() == {"keep_awake", "session"})
    for verb in ("stop", "start"):
        cloud.done(cloud.act(verb, name))
    cloud.hub.reports.clear()
    _until(lambda: reasons() == {"keep_awake"})
    switch("keep-awake", awake=False)

    _until(lambda: _is_still(lambda: len(cloud.hub.reports)))
    assert (cloud.machine(name)["connected"], cloud.machine(name)["keptAwake"]) == (False, False)


def test_a_machine_reports_as_often_as_its_metadata_said_when_it_booted(
    cloud: _Cloud, name: str
) -> None:
    """What is changed afterwards holds from the next boot on."""
    cloud.running(name, heartbeat=1000)
    _until(lambda: cloud.machine(name)["guest"] == "up")
    metadata = cloud.get(name).metadata
    for item in metadata.items:
        item.value = str(HEARTBEAT) if item.key == "hub-heartbeat-seconds" else item.value
    cloud.done(
        cloud.instances.set_metadata_unary(**HERE, instance=name, metadata_resource=metadata)
    )
    cloud.call(
        "POST", f"/localcloud/machines/{name}/connected", {"connected": True}
    ).raise_for_status()
    _until(lambda: cloud.hub.events() == ["ready", "heartbeat"])
    assert _is_still(lambda: len(cloud.hub.reports))

    for verb in ("stop", "start"):
        cloud.done(cloud.act(verb, name))
    cloud.call(
        "POST", f"/localcloud/machines/{name}/connected", {"connected": True}
    ).raise_for_status()

    _until(lambda: cloud.hub.events().count("heartbeat") >= 4)


def test_a_machine_without_its_home_disk_reports_that(cloud: _Cloud, name: str) -> None:
    """`home` is the device that it looks for, when it boots; one that runs does not notice."""
    cloud.running(name)
    _until(lambda: cloud.machine(name)["guest"] == "up")
    cloud.done(cloud.instances.detach_disk_unary(**HERE, instance=name, device_name="home"))
    assert cloud.machine(name)["guest"] == "up"

    for verb in ("stop", "start"):
        cloud.done(cloud.act(verb, name))

    _until(lambda: cloud.hub.events() == ["ready", "failed"])
    assert cloud.hub.reports[-1]["body"]["code"] == "DISK_MISSING"
    assert cloud.machine(name)["guest"] == "failed"


@pytest.mark.parametrize("answers", [[503, 503], [429], [500]])
def test_a_machine_reports_again_until_the_hub_takes_it(
    cloud: _Cloud, name: str, answers: list[int]
) -> None:
    """429 and 5xx are tried again, with a token each."""
    cloud.hub.answers.extend(answers)

    cloud.running(name)

    _until(lambda: cloud.machine(name)["guest"] == "up")
    assert [report["answered"] for report in cloud.hub.reports] == [*answers, 204]
    assert all(cloud.hub.claims(report["token"]) for report in cloud.hub.reports)
    assert [report["status"] for report in cloud.machine(name)["reports"]] == [*answers, 204]


def test_a_machine_reports_again_when_nobody_answers(cloud: _Cloud, name: str) -> None:
    """A Hub that is not there yet is tried again."""
    nobody = {"items": [{"key": "hub-reports-url", "value": "http://127.0.0.1:9/"}]}
    rest = _instance(name, ZONE, cloud.hub.url).metadata.items[1:]
    nobody["items"] += [{"key": item.key, "value": item.value} for item in rest]

    cloud.running(name, metadata=nobody)

    _until(lambda: len(cloud.machine(name)["reports"]) >= 2)
    assert {report["status"] for report in cloud.machine(name)["reports"]} == {None}
    assert "was not answered" in cloud.serial(name)


@pytest.mark.parametrize("answer", [400, 401, 404, 409])
def test_a_machine_gives_up_what_the_hub_refuses(cloud: _Cloud, name: str, answer: int) -> None:
    """A 4xx is final: after one to ``ready``, connecting causes no heartbeat in this boot."""
    cloud.hub.answers.append(answer)

    cloud.running(name)
    cloud.call(
        "POST", f"/localcloud/machines/{name}/connected", {"connected": True}
    ).raise_for_status()

    _until(lambda: cloud.machine(name)["guest"] == "over")
    assert _is_still(lambda: len(cloud.hub.reports))
    assert [report["answered"] for report in cloud.hub.reports] == [answer]


def test_a_machine_without_a_hub_in_its_metadata_just_runs(cloud: _Cloud, name: str) -> None:
    """It has nobody to report to, and says so on its console."""
    cloud.running(name, metadata={"items": []})

    _until(lambda: cloud.machine(name)["guest"] == "up")
    assert "no hub-reports-url" in cloud.serial(name)


def test_a_host_failure_repairs_and_boots_again(cloud: _Cloud, name: str) -> None:
    """REPAIRING, and then a second ready report of the same generation."""
    cloud.running(name)
    _until(lambda: cloud.hub.reports)

    assert (
        cloud.call("POST", f"/localcloud/machines/{name}/host-error").json()["status"]
        == "REPAIRING"
    )

    _until(lambda: len(cloud.hub.reports) == 2)
    assert cloud.get(name).status == "RUNNING"
    assert cloud.hub.events() == ["ready", "ready"]


def test_a_machine_can_be_made_old_with_its_boot_disk(cloud: _Cloud, name: str) -> None:
    """Nobody can wait for that; its home is as old as it was."""
    cloud.running(name)

    cloud.call("POST", f"/localcloud/machines/{name}/age", {"seconds": 3600}).raise_for_status()

    machine = cloud.get(name)
    boot, home = (
        cloud.disks.get(**HERE, disk=disk.source.rsplit("/", 1)[-1]).creation_timestamp
        for disk in machine.disks
    )
    assert boot == machine.creation_timestamp
    an_hour = datetime.fromisoformat(home) - datetime.fromisoformat(boot)
    assert timedelta(minutes=59) < an_hour < timedelta(minutes=61)


def test_an_unknown_machine_is_not_found_by_the_switches(cloud: _Cloud) -> None:
    """Neither connected nor broken; and connected is true or false."""
    assert (
        cloud.call("POST", "/localcloud/machines/nobody/connected", {"connected": True}).status_code
        == 404
    )
    assert cloud.call("POST", "/localcloud/machines/nobody/host-error").status_code == 404
    cloud.running("somebody")
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


# Changes by hand, as the tests of the whole Hub make them


@pytest.fixture
def hand(cloud: _Cloud) -> tuple[RunningCloud, dict[str, Any]]:
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
    cloud.running(name, labels=labels, disks=disks)
    workspace = {"id": workspace_id, "project_id": PROJECT, "zone": ZONE, "instance_name": name}
    running: Any = SimpleNamespace(
        state={"services": {"compute": cloud.server.url}, "project_id": PROJECT}
    )
    return running, workspace


def _left(
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


def test_a_hand_takes_labels_off(hand: tuple[RunningCloud, dict[str, Any]]) -> None:
    """Those named, off a machine or its disks; the others stay."""
    cloud, workspace = hand
    records.unlabel_by_hand(cloud, workspace)
    records.unlabel_by_hand(cloud, workspace, "disks", labels=("workspace", "owner"))

    assert _left(cloud, workspace, "instances") == {
        "workspace-*": (ZONE, {"hub": "test", "owner": "alice"})
    }
    assert [labels for _, labels in _left(cloud, workspace, "disks").values()] == [
        {"hub": "test"}
    ] * 2


def test_a_hand_holds_a_home_disk_and_releases_it(
    cloud: _Cloud, hand: tuple[RunningCloud, dict[str, Any]]
) -> None:
    """Another machine has it, so nobody can delete it; afterwards it is nobody's."""
    running, workspace = hand
    home = f"home-{workspace['id']}"
    holder = records.hold_disk_by_hand(running, workspace)

    assert [user.rsplit("/", 1)[-1] for user in cloud.disks.get(**HERE, disk=home).users] == [
        holder
    ]
    with pytest.raises(exceptions.BadRequest, match=f"instances/{holder}'"):
        cloud.disks.delete_unary(**HERE, disk=home)
    records.release_disk_by_hand(running, workspace)
    assert list(cloud.disks.get(**HERE, disk=home).users) == []


def test_a_hand_moves_a_machine_to_another_zone(hand: tuple[RunningCloud, dict[str, Any]]) -> None:
    """Names, labels and metadata are the same; in the first zone nothing is left."""
    cloud, workspace = hand
    [before] = records.in_compute(cloud, "instances", workspace["id"])
    disks = _left(cloud, workspace, "disks")

    records.move_by_hand(cloud, workspace, OTHER_ZONE)

    [after] = records.in_compute(cloud, "instances", workspace["id"])
    assert (after["zone"].rsplit("/", 1)[-1], after["status"]) == (OTHER_ZONE, "RUNNING")
    same = ("name", "labels", "serviceAccounts")
    assert [after[key] for key in same] == [before[key] for key in same]
    assert after["metadata"]["items"] == before["metadata"]["items"]
    assert _left(cloud, workspace, "disks") == {
        name: (OTHER_ZONE, labels) for name, (_, labels) in disks.items()
    }


@pytest.mark.parametrize(
    "before", [[], ["suspend"], ["stop"]], ids=["running", "suspended", "stopped"]
)
def test_a_hand_gives_a_machine_another_type(
    cloud: _Cloud, hand: tuple[RunningCloud, dict[str, Any]], before: list[str]
) -> None:
    """From whatever state; it is stopped then."""
    running, workspace = hand
    for verb in before:
        cloud.done(cloud.act(verb, workspace["instance_name"]))

    records.set_machine_type_by_hand(running, workspace, "e2-standard-8")

    machine = cloud.get(workspace["instance_name"])
    assert (machine.status, machine.machine_type.rsplit("/", 1)[-1]) == (
        "TERMINATED",
        "e2-standard-8",
    )


def test_a_hand_deletes_a_home_or_restores_it(hand: tuple[RunningCloud, dict[str, Any]]) -> None:
    """A restored disk has its name and only the given labels, and is not attached."""
    cloud, workspace = hand
    records.restore_home_by_hand(cloud, workspace)
    assert _left(cloud, workspace, "disks")["home-*"] == (ZONE, {"hub": "test"})

    records.delete_home_by_hand(cloud, workspace)

    assert list(_left(cloud, workspace, "disks")) == ["workspace-*-1"]
    assert list(_left(cloud, workspace, "instances")) == ["workspace-*"]


def test_a_hand_deletes_a_machine_and_keeps_its_boot_disk(
    hand: tuple[RunningCloud, dict[str, Any]],
) -> None:
    """Both disks are left."""
    cloud, workspace = hand

    records.delete_keeping_boot_disk_by_hand(cloud, workspace)

    assert sorted(_left(cloud, workspace, "disks")) == ["home-*", "workspace-*-1"]
    assert _left(cloud, workspace, "instances") == {}


# History and reset


def test_the_history_tells_every_call_that_was_to_change_something(
    cloud: _Cloud, name: str
) -> None:
    """Method, resource, requestId, status and operation, refused calls too; reads are not in it."""
    request_id = str(uuid.uuid4())
    operation = cloud.insert(name, request_id=request_id)
    cloud.done(operation)
    cloud.get(name)
    with pytest.raises(exceptions.BadRequest):
        cloud.act("resume", name)
    with pytest.raises(exceptions.NotFound):
        cloud.disks.delete_unary(**HERE, disk="none")

    calls = cloud.call("GET", "/localcloud/history").json()["calls"]

    assert all(call.pop("time") for call in calls)
    common = {"zone": ZONE, "instance": name, "disk": None, "requestId": None, "operation": None}
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
    ]


def test_the_history_tells_what_every_machine_became(cloud: _Cloud, name: str) -> None:
    """Each state with its time and labels, from the insert to the end."""
    cloud.done(cloud.insert(name))
    cloud.done(cloud.act("delete", name))

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


def test_a_reset_leaves_nothing(cloud: _Cloud, name: str) -> None:
    """Machines, disks, operations, faults and history are gone; a wait for an operation ends."""
    cloud.fault("slow_operation", count=1)
    operation = cloud.insert(name)
    cloud.fault("stock_out")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cloud.done, operation)
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
        "reports": [],
    }
    assert cloud.call("GET", "/localcloud/machines").json() == {"machines": []}


def test_two_hundred_machines_are_made_at_once(cloud: _Cloud, name: str) -> None:
    """Sixteen clients insert together; each machine is there once, runs, and reports ready."""
    names = [f"{name}-{n}" for n in range(200)]

    with ThreadPoolExecutor(16) as pool:
        operations = list(pool.map(cloud.insert, names))

    assert len({operation.target_id for operation in operations}) == len(names)
    _until(lambda: len(cloud.hub.reports) >= len(names), seconds=20)
    machines = cloud.call("GET", "/localcloud/machines").json()["machines"]
    assert sorted(machine["name"] for machine in machines) == sorted(names)
    assert {machine["status"] for machine in machines} == {"RUNNING"}
