"""The resources and operations of the local Compute Engine, on a manual clock."""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from localcloud.machines.homes import NOTHING_TO_COPY, Copy
from localcloud.services.compute import validation
from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.errors import ComputeError
from localcloud.services.compute.fault_kinds import GuestFault
from localcloud.services.compute.faults import FAULTS
from localcloud.services.compute.fleet import Fleet
from localcloud.services.compute.guest import Boot
from localcloud.services.compute.machine_types import Shape
from localcloud.services.compute.resources import Disk, Instance, Operation, Snapshot
from localcloud.services.compute.serial_console import SerialConsole
from localcloud.services.compute.times import Times
from localcloud.services.project import Project

ZONE = "us-west1-a"
OTHER_ZONE = "us-west1-b"
PROJECT = Project(id="demo", number="123456789012", zones=(ZONE, OTHER_ZONE))
STATES = [
    *("PROVISIONING", "STAGING", "RUNNING", "PENDING_STOP", "STOPPING"),
    *("TERMINATED", "SUSPENDING", "SUSPENDED", "REPAIRING"),
]
TIMES = Times(
    **dict.fromkeys(
        ("insert", "start", "stop", "suspend", "resume", "delete", "disk_insert", "disk_delete"),
        10.0,
    ),
    **dict.fromkeys(
        ("set_metadata", "set_labels", "set_machine_type", "attach_disk", "pending_stop", "repair"),
        10.0,
    ),
    **dict.fromkeys(("snapshot_capture", "snapshot_upload", "snapshot_delete"), 10.0),
    snapshot_pause=600.0,
    boot=1.0,
    suspended_limit=1000.0,
)


class _ManualTimer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class _ManualClock:
    """A clock that stands still until a test advances it."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._calls: list[tuple[datetime, int, Callable[[], None], _ManualTimer]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self._now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _ManualTimer:
        timer = _ManualTimer()
        heapq.heappush(
            self._calls,
            (self._now + timedelta(seconds=seconds), next(self._order), callback, timer),
        )
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, and make the calls that become due."""
        end = self._now + timedelta(seconds=seconds)
        while self._calls and self._calls[0][0] <= end:
            self._now, _, callback, timer = heapq.heappop(self._calls)
            if not timer.cancelled:
                callback()
        self._now = end


class _RecordingGuests:
    """Guests that record what the fleet tells them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.deleted_disks: list[str] = []
        self.homes: list[str | None] = []
        self.settled = True
        self.copies: dict[str, Copy | None] = {}

    def booted(self, instance: Instance, boot: Boot, home: Disk | None) -> None:
        assert boot.seconds == TIMES.boot
        self.homes.append(home.name if home else None)
        fault = f" {boot.fault.name}" if boot.fault else ""
        self.events.append(f"booted {instance.name}{fault}")

    def frozen(self, instance: Instance) -> None:
        self.events.append(f"frozen {instance.name}")

    def thawed(self, instance: Instance) -> None:
        self.events.append(f"thawed {instance.name}")

    def ended(self, instance: Instance) -> None:
        self.events.append(f"ended {instance.name}")

    def is_settled(self, instance: Instance) -> bool:
        del instance
        return self.settled

    def captured(self, disk: Disk, snapshot: Snapshot) -> None:
        self.events.append(f"captured {disk.name} as {snapshot.name}")

    def restored(self, snapshot: Snapshot, disk: Disk) -> None:
        self.events.append(f"restored {snapshot.name} as {disk.name}")

    def copy_to(self, resource: Disk | Snapshot) -> Copy | None:
        return self.copies.get(resource.name, NOTHING_TO_COPY)

    def disk_deleted(self, disk: Disk) -> None:
        self.deleted_disks.append(disk.name)

    def snapshot_deleted(self, snapshot: Snapshot) -> None:
        self.events.append(f"deleted {snapshot.name}")


class _FleetBench:
    """A fleet whose operations take 10 seconds each, with its clock, faults and guests."""

    def __init__(self) -> None:
        self.clock = _ManualClock()
        self.faults = ActiveFaults(PROJECT)
        self.guests = _RecordingGuests()
        self.fleet = Fleet(
            PROJECT,
            times=TIMES,
            faults=self.faults,
            guests=self.guests,
            clock=self.clock,
        )

    def insert_running(self, name: str = "one", **more: Any) -> Instance:
        """Insert an instance, wait until it runs, and return it."""
        self.fleet.instances.insert(ZONE, _instance_body(name, **more))
        self.clock.advance(10)
        return self.fleet.instances.get(ZONE, name)

    def default_instance(self) -> Instance:
        """Return the instance with the default name."""
        return self.fleet.instances.get(ZONE, "one")

    def insert_in_state(self, status: str, name: str = "one") -> Instance:
        """Insert an instance and bring it into this state by calls, as Compute Engine would."""
        if status in {"PROVISIONING", "STAGING"}:
            self.fleet.instances.insert(ZONE, _instance_body(name))
            self.clock.advance(6 if status == "STAGING" else 0)
            return self.fleet.instances.get(ZONE, name)
        instance = self.insert_running(
            name, scheduling={"gracefulShutdown": {"enabled": status == "PENDING_STOP"}}
        )
        if status in {"SUSPENDING", "SUSPENDED"}:
            self.fleet.instances.suspend(ZONE, name)
        elif status in {"PENDING_STOP", "STOPPING", "TERMINATED"}:
            self.fleet.instances.stop(ZONE, name)
        elif status == "REPAIRING":
            self.fleet.lifecycle.host_error(ZONE, name)
        self.clock.advance(10 if status in {"SUSPENDED", "TERMINATED"} else 1)
        return instance


@pytest.fixture
def bench() -> _FleetBench:
    """Return a bench with an empty fleet."""
    return _FleetBench()


def _instance_body(name: str = "one", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/e2-standard-4",
        "networkInterfaces": [{"network": "global/networks/default"}],
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {"sourceImage": "projects/cos-cloud/global/images/x"},
            },
            {
                "initializeParams": {
                    "diskName": f"{name}-home",
                    "diskSizeGb": "50",
                    "labels": {"hub": "h"},
                }
            },
        ],
    } | more


def _error_code(operation: Operation) -> str | None:
    errors = operation.resource.get("error", {}).get("errors", [])
    return errors[0]["code"] if errors else None


def _refused_with(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ComputeError) as raised:
        call()
    return raised.value.code, raised.value.reason


def _call_method(fleet: Fleet, verb: str, instance: Instance) -> Operation:
    """Call a method on an instance with a valid request."""
    where = (instance.zone, instance.name)
    if verb == "setMetadata":
        return fleet.instances.set_metadata(
            *where, {"fingerprint": instance.resource["metadata"]["fingerprint"]}
        )
    if verb == "setLabels":
        return fleet.instances.set_labels(
            *where, {"labelFingerprint": instance.resource["labelFingerprint"]}
        )
    if verb == "setMachineType":
        return fleet.instances.set_machine_type(
            *where, {"machineType": f"zones/{ZONE}/machineTypes/e2-small"}
        )
    if verb == "attachDisk":
        fleet.disks.insert(ZONE, {"name": "spare"})
        fleet.disks.get(ZONE, "spare").resource["status"] = "READY"
        return fleet.attached_disks.attach(
            *where, {"source": f"zones/{ZONE}/disks/spare", "deviceName": "spare"}
        )
    if verb == "detachDisk":
        return fleet.attached_disks.detach(*where, "persistent-disk-1")
    if verb == "setDiskAutoDelete":
        return fleet.attached_disks.set_auto_delete(*where, "persistent-disk-1", auto_delete=True)
    plain = {
        "start": fleet.instances.start,
        "stop": fleet.instances.stop,
        "suspend": fleet.instances.suspend,
        "resume": fleet.instances.resume,
        "delete": fleet.instances.delete,
    }
    return plain[verb](*where)


# The state after each call in each state; every other call is refused.
STATE_AFTER = {
    ("start", "TERMINATED"): "RUNNING",
    ("start", "RUNNING"): "RUNNING",
    ("stop", "RUNNING"): "TERMINATED",
    ("stop", "TERMINATED"): "TERMINATED",
    ("suspend", "RUNNING"): "SUSPENDED",
    ("resume", "SUSPENDED"): "RUNNING",
    ("setMachineType", "TERMINATED"): "TERMINATED",
    **{("delete", status): "gone" for status in STATES},
    **{("setMetadata", status): "any" for status in STATES},
    **{("setLabels", status): "any" for status in STATES},
    **{("setDiskAutoDelete", status): "any" for status in STATES},
    **{
        (verb, status): "any"
        for verb in ("attachDisk", "detachDisk")
        for status in ("RUNNING", "SUSPENDED", "TERMINATED")
    },
}


@pytest.mark.parametrize("status", STATES)
@pytest.mark.parametrize(
    "verb",
    [
        *(
            "start",
            "stop",
            "suspend",
            "resume",
            "setMetadata",
            "setLabels",
            "setMachineType",
            "delete",
        ),
        *("attachDisk", "detachDisk", "setDiskAutoDelete"),
    ],
)
def test_each_method_leads_to_the_same_state_as_in_compute_engine(
    bench: _FleetBench, verb: str, status: str
) -> None:
    """A method that the table does not have for a state is refused and changes nothing."""
    instance = bench.insert_in_state(status)
    assert instance.status == status
    end = STATE_AFTER.get((verb, status))

    if end is None:
        reason = "invalidResourceUsage" if verb == "setMachineType" else "resourceNotReady"
        assert _refused_with(lambda: _call_method(bench.fleet, verb, instance)) == (400, reason)
        assert instance.status == status
        return
    operation = _call_method(bench.fleet, verb, instance)
    bench.clock.advance(60)

    assert operation.resource["status"] == "DONE"
    assert _error_code(operation) is None
    if end == "gone":
        assert _refused_with(lambda: bench.fleet.instances.get(ZONE, "one")) == (404, "notFound")
    elif end != "any":
        assert instance.status == end


@pytest.mark.parametrize(
    ("begin", "states"),
    [
        ("insert", ["PROVISIONING", "STAGING", "RUNNING"]),
        ("start", ["PROVISIONING", "STAGING", "RUNNING"]),
        ("resume", ["PROVISIONING", "STAGING", "RUNNING"]),
        ("stop", ["STOPPING", "TERMINATED"]),
        ("suspend", ["SUSPENDING", "SUSPENDED"]),
        ("delete", ["STOPPING", "gone"]),
        ("host error", ["REPAIRING", "PROVISIONING", "STAGING", "RUNNING"]),
        ("graceful stop", ["PENDING_STOP", "STOPPING", "TERMINATED"]),
    ],
)
def test_an_instance_passes_through_every_state_that_compute_engine_shows(
    bench: _FleetBench, begin: str, states: list[str]
) -> None:
    """The test reads the state once a second."""
    before = {"start": "TERMINATED", "resume": "SUSPENDED"}.get(begin, "RUNNING")
    if begin == "insert":
        bench.fleet.instances.insert(ZONE, _instance_body())
    elif begin == "host error":
        bench.insert_running()
        bench.fleet.lifecycle.host_error(ZONE, "one")
    elif begin == "graceful stop":
        bench.insert_running(scheduling={"gracefulShutdown": {"enabled": True}})
        bench.fleet.instances.stop(ZONE, "one")
    else:
        _call_method(bench.fleet, begin, bench.insert_in_state(before))

    seen: list[str] = []
    for _ in range(50):
        status = next((instance.status for instance in bench.fleet.instances.all()), "gone")
        seen += [status] if status not in seen[-1:] else []
        bench.clock.advance(1)

    assert seen == states


def test_an_insert_creates_the_instance_and_its_disks_at_once(bench: _FleetBench) -> None:
    """The operation's target is the instance's numeric id, and the instance has all input."""
    sent = _instance_body(
        labels={"hub": "h"},
        tags={"items": ["workspace"]},
        serviceAccounts=[{"email": "vm@demo.iam.gserviceaccount.com", "scopes": []}],
        shieldedInstanceConfig={"enableSecureBoot": True},
    )

    operation = bench.fleet.instances.insert(ZONE, sent)

    instance = bench.fleet.instances.get(ZONE, "one")
    assert operation.resource["targetId"] == instance.id
    assert operation.resource["operationType"] == "insert"
    assert operation.resource["targetLink"].endswith(f"/zones/{ZONE}/instances/one")
    assert instance.id.isdigit()
    assert instance.resource["labels"] == {"hub": "h"}
    assert instance.resource["tags"]["items"] == ["workspace"]
    assert instance.resource["shieldedInstanceConfig"] == {"enableSecureBoot": True}
    assert instance.resource["serviceAccounts"][0]["email"] == "vm@demo.iam.gserviceaccount.com"
    assert instance.resource["networkInterfaces"][0]["networkIP"].startswith("10.128.")
    home = bench.fleet.disks.get(ZONE, "one-home")
    assert (home.resource["sizeGb"], home.resource["labels"]) == ("50", {"hub": "h"})
    assert home.resource["users"] == [instance.resource["selfLink"]]
    assert bench.fleet.instances.by_id(instance.id) is instance


def test_a_delete_removes_only_the_disks_with_auto_delete(bench: _FleetBench) -> None:
    """The home disk remains, and can be attached to the next instance."""
    bench.insert_running()
    bench.fleet.instances.delete(ZONE, "one")
    bench.clock.advance(10)
    assert [disk.name for disk in bench.fleet.disks.all()] == ["one-home"]
    assert bench.fleet.disks.get(ZONE, "one-home").resource["users"] == []
    disks = _instance_body()["disks"][:1]
    disks.append({"source": f"projects/demo/zones/{ZONE}/disks/one-home", "deviceName": "home"})

    again = bench.fleet.instances.insert(ZONE, _instance_body(disks=disks))
    bench.clock.advance(10)

    assert _error_code(again) is None
    assert bench.default_instance().resource["disks"][1]["deviceName"] == "home"
    assert bench.fleet.disks.get(ZONE, "one-home").resource["users"] == [
        again.resource["targetLink"]
    ]


def test_an_insert_with_a_disk_of_another_instance_fails(
    bench: _FleetBench,
) -> None:
    """Its operation has an error, no new instance remains, and the other keeps its disk."""
    bench.insert_running()
    disks = [
        *_instance_body("two")["disks"][:1],
        {"source": f"zones/{ZONE}/disks/one-home", "autoDelete": True},
    ]

    operation = bench.fleet.instances.insert(ZONE, _instance_body("two", disks=disks))
    bench.clock.advance(10)

    assert _error_code(operation) == "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"
    assert [instance.name for instance in bench.fleet.instances.all()] == ["one"]
    assert [disk.name for disk in bench.fleet.disks.all()] == ["one", "one-home"]


def test_a_delete_during_an_insert_keeps_another_instances_disk(
    bench: _FleetBench,
) -> None:
    """``autoDelete`` never deletes a disk that another instance uses."""
    bench.insert_running()
    disks = [
        *_instance_body("two")["disks"][:1],
        {"source": f"zones/{ZONE}/disks/one-home", "autoDelete": True},
    ]
    bench.fleet.instances.insert(ZONE, _instance_body("two", disks=disks))

    bench.fleet.instances.delete(ZONE, "two")
    bench.clock.advance(10)

    assert [disk.name for disk in bench.fleet.disks.all()] == ["one", "one-home"]


@pytest.mark.parametrize(
    ("change", "code", "reason", "words"),
    [
        ({"name": "Big"}, 400, "invalid", "resource.name"),
        ({"name": "x" * 64}, 400, "invalid", "resource.name"),
        ({"name": "ends-"}, 400, "invalid", "resource.name"),
        ({"name": None}, 400, "invalid", "resource.name"),
        (
            {"name": "taken"},
            409,
            "alreadyExists",
            f"'projects/demo/zones/{ZONE}/instances/taken' already exists",
        ),
        (
            {"machineType": f"zones/{ZONE}/machineTypes/e2-giant"},
            400,
            "invalid",
            f"Machine type with name 'e2-giant' does not exist in zone '{ZONE}'.",
        ),
        (
            {"machineType": f"zones/{OTHER_ZONE}/machineTypes/e2-small"},
            400,
            "invalid",
            "resource.machineType",
        ),
        ({"machineType": None}, 400, "invalid", "resource.machineType"),
        ({"networkInterfaces": []}, 400, "invalid", "At least one network interface is required."),
        ({"disks": []}, 400, "invalid", "No disks are specified."),
        ({"disks": [{"initializeParams": {}}]}, 400, "invalid", "Boot disk must be the first disk"),
        ({"disks": [{"boot": True}]}, 400, "invalid", "resource.disks[0]"),
        ({"disks": "none"}, 400, "invalid", "resource.disks"),
        ({"disks": ["none"]}, 400, "invalid", "resource.disks[0]"),
        (
            {"disks": [{"boot": True, "source": f"zones/{ZONE}/disks/no"}]},
            404,
            "notFound",
            "disks/no' was not found",
        ),
        (
            {"disks": [{"boot": True, "source": f"zones/{OTHER_ZONE}/disks/no"}]},
            400,
            "invalid",
            "resource.disks[0]",
        ),
        ({"disks": [{"boot": True, "source": "no"}]}, 400, "invalid", "resource.disks[0].source"),
        (
            {"disks": [{"boot": True, "initializeParams": {"diskName": "taken-home"}}]},
            409,
            "alreadyExists",
            "disks/taken-home' already exists",
        ),
        ({"labels": {"Hub": "x"}}, 400, "invalid", "Label key 'Hub' violates format constraints."),
        ({"labels": {"hub": "X"}}, 400, "invalid", "Label value 'X' violates format constraints."),
        ({"labels": {f"l{n}": "" for n in range(65)}}, 400, "invalid", "must not exceed 64"),
        (
            {"metadata": {"items": [{"key": "a b", "value": ""}]}},
            400,
            "invalid",
            "resource.metadata.items[0].key",
        ),
        ({"metadata": {"items": [{"key": "a"}, {"key": "a"}]}}, 400, "invalid", "duplicate keys"),
        (
            {"metadata": {"items": [{"key": "a", "value": "x" * 262145}]}},
            413,
            "fieldSizeTooLarge",
            "maximum size 262144 character(s); actual size 262145",
        ),
        (
            {"metadata": {"items": [{"key": f"a{n}", "value": "x" * 200000} for n in range(3)]}},
            413,
            "fieldSizeTooLarge",
            "resource.metadata.items",
        ),
    ],
)
def test_an_insert_that_compute_engine_would_refuse_changes_nothing(
    bench: _FleetBench, change: dict[str, Any], code: int, reason: str, words: str
) -> None:
    """The error has Compute Engine's message; no instance, disk or operation is created."""
    bench.insert_running("taken")
    before = [
        len(bench.fleet.instances.all()),
        len(bench.fleet.disks.all()),
        len(bench.fleet.operations.all()),
    ]

    with pytest.raises(ComputeError) as raised:
        bench.fleet.instances.insert(ZONE, _instance_body() | change)

    assert (raised.value.code, raised.value.reason) == (code, reason)
    assert words in raised.value.message
    assert [
        len(bench.fleet.instances.all()),
        len(bench.fleet.disks.all()),
        len(bench.fleet.operations.all()),
    ] == before


def test_an_insert_does_not_replace_a_boot_disk_of_the_same_name(bench: _FleetBench) -> None:
    """By default, a boot disk has its instance's name; the error names the existing disk."""
    bench.insert_running()
    bench.fleet.attached_disks.set_auto_delete(ZONE, "one", "persistent-disk-0", auto_delete=False)
    bench.clock.advance(10)
    bench.fleet.instances.delete(ZONE, "one")
    bench.clock.advance(10)
    bench.fleet.disks.delete(ZONE, "one-home")
    bench.clock.advance(10)
    assert [disk.name for disk in bench.fleet.disks.all()] == ["one"]

    with pytest.raises(
        ComputeError, match=f"'projects/demo/zones/{ZONE}/disks/one' already exists"
    ):
        bench.fleet.instances.insert(ZONE, _instance_body())

    disks = _instance_body()["disks"]
    disks[0]["initializeParams"]["diskName"] = "one-2"
    bench.insert_running(disks=disks)
    assert [disk.name for disk in bench.fleet.disks.all()] == ["one", "one-2", "one-home"]


@pytest.mark.parametrize(
    ("machine_type", "disk_type", "taken"),
    [
        ("e2-standard-4", "pd-balanced", True),
        ("n4-standard-4", "hyperdisk-balanced", True),
        ("n4-standard-4", "pd-balanced", False),
        ("c4a-standard-4", "pd-ssd", False),
        ("e2-standard-4", "hyperdisk-balanced", False),
    ],
)
def test_a_machine_type_accepts_only_the_disk_types_of_its_series(
    bench: _FleetBench,
    monkeypatch: pytest.MonkeyPatch,
    machine_type: str,
    disk_type: str,
    taken: bool,
) -> None:
    """The error has Compute Engine's message with the disk type and the machine type."""
    types = dict.fromkeys(("e2-standard-4", "n4-standard-4", "c4a-standard-4"), Shape(4, 16384))
    monkeypatch.setattr(validation, "MACHINE_TYPES", types)
    disks = _instance_body()["disks"]
    disks[1]["initializeParams"]["diskType"] = disks[0]["initializeParams"]["diskType"] = (
        f"diskTypes/{disk_type}"
    )
    body = _instance_body(machineType=f"zones/{ZONE}/machineTypes/{machine_type}", disks=disks)
    if taken:
        assert bench.fleet.instances.insert(ZONE, body)
        return

    with pytest.raises(ComputeError) as raised:
        bench.fleet.instances.insert(ZONE, body)

    assert (raised.value.code, raised.value.reason) == (400, "badRequest")
    assert (
        raised.value.message
        == f"[{disk_type}, {machine_type}] features are not compatible for creating instance."
    )
    assert bench.fleet.disks.all() == []


@pytest.mark.parametrize("verb", ["stop", "suspend"])
def test_a_machine_with_a_local_ssd_needs_discard_local_ssd_to_stop_or_suspend(
    bench: _FleetBench, verb: str
) -> None:
    """Without ``discardLocalSsd``, the call is refused with Compute Engine's error."""
    instance = bench.insert_running()
    instance.resource["machineType"] = f"zones/{ZONE}/machineTypes/c3-standard-4-lssd"
    with pytest.raises(ComputeError, match="undefined value for `discard-local-ssd`") as raised:
        _call_method(bench.fleet, verb, instance)
    assert (raised.value.code, raised.value.reason, instance.status) == (
        400,
        "badRequest",
        "RUNNING",
    )

    getattr(bench.fleet.instances, verb)(ZONE, "one", discard_local_ssd=True)
    bench.clock.advance(10)

    assert instance.status == {"stop": "TERMINATED", "suspend": "SUSPENDED"}[verb]


@pytest.mark.parametrize(
    ("fault", "refusal", "code"),
    [
        ("policy_forbids", (412, "conditionNotMet"), "CONDITION_NOT_MET"),
        ("account_unknown", (404, "notFound"), "EXTERNAL_RESOURCE_NOT_FOUND"),
    ],
)
def test_a_fault_refuses_an_insert_or_fails_its_operation_in_turn(
    bench: _FleetBench, fault: str, refusal: tuple[int, str], code: str
) -> None:
    """Both have Compute Engine's message, nothing is created, and other calls are not affected."""
    words = {
        "policy_forbids": "Constraint constraints/compute.vmExternalIpAccess violated for project "
        "123456789012. Add instance "
        f"projects/demo/zones/{ZONE}/instances/two to the constraint",
        "account_unknown": "The resource 'vm@demo.iam.gserviceaccount.com' of type "
        "'serviceAccount' was not found.",
    }[fault]
    instance = bench.insert_in_state("TERMINATED")
    bench.faults.switch_on(fault)
    body = _instance_body("two", serviceAccounts=[{"email": "vm@demo.iam.gserviceaccount.com"}])

    with pytest.raises(ComputeError) as raised:
        bench.fleet.instances.insert(ZONE, body)
    failing = bench.fleet.instances.insert(ZONE, body)
    starting = _call_method(bench.fleet, "start", instance)
    bench.clock.advance(10)

    assert (raised.value.code, raised.value.reason) == refusal
    assert words in raised.value.message
    assert _error_code(failing) == code
    assert words in failing.resource["error"]["errors"][0]["message"]
    assert (failing.resource["httpErrorStatusCode"], _error_code(starting)) == (refusal[0], None)
    assert [disk.name for disk in bench.fleet.disks.all()] == ["one", "one-home"]


def test_an_insert_into_a_full_subnetwork_fails_and_creates_nothing(bench: _FleetBench) -> None:
    """The operation names the subnetwork."""
    bench.faults.switch_on("ip_space_exhausted", count=1)

    operation = bench.fleet.instances.insert(ZONE, _instance_body())
    bench.clock.advance(10)

    assert _error_code(operation) == "IP_SPACE_EXHAUSTED_WITH_DETAILS"
    assert "'projects/demo/regions/us-west1/subnetworks/default' is exhausted" in str(
        operation.resource["error"]
    )
    assert (bench.fleet.instances.all(), bench.fleet.disks.all()) == ([], [])


@pytest.mark.parametrize("verb", ["start", "stop", "suspend", "resume", "delete"])
def test_an_instance_can_be_not_ready_although_its_state_allows_the_call(
    bench: _FleetBench, verb: str
) -> None:
    """The call is refused with ``resourceNotReady``, and the next one succeeds."""
    instance = bench.insert_in_state(
        {"start": "TERMINATED", "resume": "SUSPENDED"}.get(verb, "RUNNING")
    )
    before = instance.status
    bench.faults.switch_on("not_ready", count=1)

    with pytest.raises(
        ComputeError, match=f"The resource 'projects/demo/zones/{ZONE}/instances/one' is not ready"
    ):
        _call_method(bench.fleet, verb, instance)

    assert instance.status == before
    assert _error_code(_call_method(bench.fleet, verb, instance)) is None


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (
            "stock_out",
            ["ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"],
        ),
        ("second_error", ["VM_MIN_COUNT_NOT_REACHED", "VM_MIN_COUNT_NOT_REACHED"]),
        ("quota_exceeded", ["QUOTA_EXCEEDED", "QUOTA_EXCEEDED"]),
    ],
)
@pytest.mark.parametrize("verb", ["insert", "start", "resume"])
def test_an_instance_that_cannot_be_brought_up_returns_to_its_previous_state(
    bench: _FleetBench, fault: str, codes: list[str], verb: str
) -> None:
    """The operation fails; a new instance and its disks are deleted."""
    before = {"start": "TERMINATED", "resume": "SUSPENDED"}.get(verb)
    if before:
        bench.insert_in_state(before)
    disks = [disk.name for disk in bench.fleet.disks.all()]
    seen = []
    for _ in codes:
        bench.faults.switch_on(fault, count=1)
        inserts = verb == "insert"
        operation = (
            bench.fleet.instances.insert(ZONE, _instance_body())
            if inserts
            else _call_method(bench.fleet, verb, bench.default_instance())
        )
        assert bench.default_instance().status == "PROVISIONING"
        bench.clock.advance(10)
        seen.append(_error_code(operation))

    assert seen == codes
    assert [instance.status for instance in bench.fleet.instances.all()] == (
        [before] if before else []
    )
    assert [disk.name for disk in bench.fleet.disks.all()] == disks


def test_an_unsupported_suspend_returns_the_instance_to_running(bench: _FleetBench) -> None:
    """It is ``SUSPENDING`` first, the guest continues, and the operation has the error."""
    instance = bench.insert_running()
    bench.faults.switch_on("suspend_unsupported", count=1)

    operation = bench.fleet.instances.suspend(ZONE, "one")
    assert instance.status == "SUSPENDING"
    bench.clock.advance(10)

    assert instance.status == "RUNNING"
    assert _error_code(operation) == "UNSUPPORTED_OPERATION"
    assert bench.guests.events == ["booted one", "frozen one", "thawed one"]
    assert _error_code(bench.fleet.instances.suspend(ZONE, "one")) is None


def test_an_instance_is_suspended_only_when_its_guest_stands_still(bench: _FleetBench) -> None:
    """Whoever sees it SUSPENDED can rely on that nothing in it runs, however long that takes."""
    instance = bench.insert_running()
    bench.guests.settled = False
    operation = bench.fleet.instances.suspend(ZONE, "one")

    bench.clock.advance(100)
    assert (instance.status, operation.done.is_set()) == ("SUSPENDING", False)
    bench.guests.settled = True
    bench.clock.advance(1)
    assert (instance.status, operation.done.is_set()) == ("SUSPENDED", True)


def test_an_instance_is_off_only_when_its_guest_has_ended(bench: _FleetBench) -> None:
    """A new boot never shares its home with what the last one has left running."""
    instance = bench.insert_running()
    bench.guests.settled = False
    bench.fleet.instances.stop(ZONE, "one")

    bench.clock.advance(100)
    assert instance.status == "STOPPING"
    bench.guests.settled = True
    bench.clock.advance(1)
    assert instance.status == "TERMINATED"


def test_the_guests_hear_of_home_disks_and_of_every_disk_that_is_gone(bench: _FleetBench) -> None:
    """They get a machine's home disk at its boot, and lose a disk whichever way it goes."""
    body = _instance_body()
    body["disks"][1]["deviceName"] = "home"
    bench.fleet.instances.insert(ZONE, body)
    bench.clock.advance(10)
    bench.fleet.instances.delete(ZONE, "one")
    bench.clock.advance(20)
    assert bench.guests.deleted_disks == ["one"]

    bench.insert_running("two")
    bench.fleet.reset()
    assert bench.guests.deleted_disks == ["one", "one-home", "two", "two-home"]
    assert bench.guests.homes == ["one-home", None]


def test_a_slow_operation_takes_twenty_times_as_long(bench: _FleetBench) -> None:
    """The states before its end last longer, too."""
    bench.faults.switch_on("slow_operation", count=1)

    operation = bench.fleet.instances.insert(ZONE, _instance_body())
    bench.clock.advance(99)
    assert bench.default_instance().status == "PROVISIONING"
    bench.clock.advance(100)
    assert operation.resource["status"] == "RUNNING"
    bench.clock.advance(1)

    assert operation.resource["status"] == "DONE"


def test_a_lost_operation_takes_effect_but_cannot_be_found(bench: _FleetBench) -> None:
    """Its name and its ``requestId`` are unknown."""
    bench.faults.switch_on("lost_operation", count=1)
    request_id = str(uuid.uuid4())

    operation = bench.fleet.instances.insert(ZONE, _instance_body(), request_id=request_id)
    bench.clock.advance(10)

    assert _refused_with(lambda: bench.fleet.operations.get(ZONE, operation.name)) == (
        404,
        "notFound",
    )
    assert bench.fleet.operations.of_request(request_id) is None
    assert bench.default_instance().status == "RUNNING"


def test_preemption_terminates_as_many_machines_as_its_count(
    bench: _FleetBench,
) -> None:
    """With a count of two, these are the running machine and the next one, but not the third."""
    first = bench.insert_running("one")
    bench.faults.switch_on("preempted", count=2)

    bench.fleet.lifecycle.strike_running()
    second = bench.insert_running("two")
    third = bench.insert_running("three")
    bench.clock.advance(20)

    assert [first.status, second.status, third.status] == ["TERMINATED", "TERMINATED", "RUNNING"]
    reclaimed = [
        o
        for o in bench.fleet.operations.all()
        if o.resource["operationType"] == "compute.instances.preempted"
    ]
    assert {(o.resource["user"], o.resource["status"]) for o in reclaimed} == {("system", "DONE")}
    assert len(reclaimed) == 2


def test_the_vanished_fault_deletes_a_machine_and_its_auto_delete_disks(bench: _FleetBench) -> None:
    """They are gone at once, and the home disk remains."""
    bench.insert_running("one")
    bench.insert_running("two")
    bench.faults.switch_on("vanished", instance="one")

    bench.fleet.lifecycle.strike_running()

    assert [instance.name for instance in bench.fleet.instances.all()] == ["two"]
    assert [disk.name for disk in bench.fleet.disks.all()] == ["one-home", "two", "two-home"]
    assert bench.guests.events[-1] == "ended one"


def test_a_guest_boots_only_when_its_machine_is_powered_on(
    bench: _FleetBench,
) -> None:
    """An insert, a start and the restart after a host error boot it; a resume only thaws it."""
    instance = bench.insert_running()
    for verb in ["suspend", "resume", "stop", "start"]:
        _call_method(bench.fleet, verb, instance)
        bench.clock.advance(10)
    bench.fleet.lifecycle.host_error(ZONE, "one")
    bench.clock.advance(20)
    bench.fleet.instances.delete(ZONE, "one")
    bench.clock.advance(10)

    assert bench.guests.events == [
        "booted one",
        "frozen one",
        "thawed one",
        "ended one",  # stop
        "booted one",
        "ended one",  # host error
        "booted one",
        "ended one",  # power off
        "ended one",  # gone
    ]


@pytest.mark.parametrize(
    "fault", [name for name, fault in FAULTS.items() if isinstance(fault, GuestFault)]
)
def test_a_guest_fault_with_a_count_of_one_affects_one_boot(bench: _FleetBench, fault: str) -> None:
    """The next boot has no fault."""
    bench.faults.switch_on(fault, count=1)
    instance = bench.insert_running()
    for verb in ["stop", "start"]:
        _call_method(bench.fleet, verb, instance)
        bench.clock.advance(10)

    assert bench.guests.events == [f"booted one {fault}", "ended one", "booted one"]


def test_a_host_error_without_automatic_restart_terminates_the_machine(bench: _FleetBench) -> None:
    """A stopped machine cannot have another host error."""
    instance = bench.insert_running(scheduling={"automaticRestart": False})

    bench.fleet.lifecycle.host_error(ZONE, "one")
    bench.clock.advance(10)

    assert instance.status == "TERMINATED"
    assert _refused_with(lambda: bench.fleet.lifecycle.host_error(ZONE, "one")) == (
        400,
        "resourceNotReady",
    )


def test_a_machine_that_is_suspended_for_too_long_is_terminated(bench: _FleetBench) -> None:
    """Its memory is lost, so it can be started but not resumed."""
    instance = bench.insert_in_state("SUSPENDED")
    bench.clock.advance(999)
    assert instance.status == "SUSPENDED"

    bench.clock.advance(1)

    assert instance.status == "TERMINATED"
    assert _refused_with(lambda: bench.fleet.instances.resume(ZONE, "one")) == (
        400,
        "resourceNotReady",
    )
    bench.fleet.instances.start(ZONE, "one")
    bench.clock.advance(2000)
    assert instance.status == "RUNNING"


def test_a_delete_cancels_every_running_operation_except_a_delete(
    bench: _FleetBench,
) -> None:
    """The cancelled operation has an error, and a second delete is refused."""
    inserting = bench.fleet.instances.insert(ZONE, _instance_body())
    bench.clock.advance(2)

    deleting = bench.fleet.instances.delete(ZONE, "one")

    assert _error_code(inserting) == "OPERATION_CANCELED_BY_USER"
    assert _refused_with(lambda: bench.fleet.instances.delete(ZONE, "one")) == (
        400,
        "resourceNotReady",
    )
    assert _refused_with(lambda: bench.fleet.instances.insert(ZONE, _instance_body())) == (
        409,
        "alreadyExists",
    )
    bench.clock.advance(10)
    assert deleting.resource["status"] == "DONE"
    assert _error_code(deleting) is None
    assert bench.fleet.instances.all() == []
    bench.clock.advance(100)
    assert bench.guests.events == ["ended one", "ended one"]


@pytest.mark.parametrize(
    ("verb", "kept", "fingerprint"),
    [
        ("setMetadata", "metadata", "fingerprint"),
        ("setLabels", "labels", "labelFingerprint"),
        ("setLabels of a disk", "labels", "labelFingerprint"),
    ],
)
def test_a_change_needs_the_current_fingerprint_when_it_begins_and_ends(
    bench: _FleetBench, verb: str, kept: str, fingerprint: str
) -> None:
    """An old one is refused with 412; of two changes with the same one, the second fails."""
    instance = bench.insert_running()
    change = {
        "setMetadata": bench.fleet.instances.set_metadata,
        "setLabels": bench.fleet.instances.set_labels,
        "setLabels of a disk": bench.fleet.disks.set_labels,
    }[verb]
    resource = (
        bench.fleet.disks.get(ZONE, "one").resource if verb.endswith("disk") else instance.resource
    )
    holder = resource["metadata"] if verb == "setMetadata" else resource
    said = {fingerprint: holder[fingerprint]}
    content = (
        {"items": [{"key": "a", "value": "1"}]} if verb == "setMetadata" else {"labels": {"a": "1"}}
    )
    other = (
        {"items": [{"key": "b", "value": "2"}]} if verb == "setMetadata" else {"labels": {"b": "2"}}
    )

    first = change(ZONE, "one", said | content)
    second = change(ZONE, "one", said | other)
    bench.clock.advance(10)

    assert [_error_code(first), _error_code(second)] == [None, "CONDITION_NOT_MET"]
    assert "'a'" in str(resource[kept])
    assert _refused_with(lambda: change(ZONE, "one", said | content)) == (412, "conditionNotMet")
    assert _refused_with(lambda: change(ZONE, "one", content)) == (412, "conditionNotMet")


def test_a_change_fails_if_its_instance_is_deleted_first(bench: _FleetBench) -> None:
    """Its operation has the error ``RESOURCE_NOT_FOUND``."""
    instance = bench.insert_running()
    bench.fleet.instances.delete(ZONE, "one")
    bench.clock.advance(5)
    assert _refused_with(lambda: _call_method(bench.fleet, "setLabels", instance)) == (
        400,
        "resourceNotReady",
    )
    other = bench.insert_running("two")
    changing = _call_method(bench.fleet, "setLabels", other)
    bench.faults.switch_on("vanished")
    bench.fleet.lifecycle.strike_running()

    bench.clock.advance(10)

    assert _error_code(changing) == "RESOURCE_NOT_FOUND"


def test_a_stopped_instance_accepts_another_machine_type(bench: _FleetBench) -> None:
    """An unknown type is refused, and the instance shows its type as a full URL."""
    instance = bench.insert_in_state("TERMINATED")
    unknown = {"machineType": f"zones/{ZONE}/machineTypes/e2-giant"}
    assert _refused_with(lambda: bench.fleet.instances.set_machine_type(ZONE, "one", unknown)) == (
        400,
        "invalid",
    )

    _call_method(bench.fleet, "setMachineType", instance)
    bench.clock.advance(10)

    assert instance.machine_type == "e2-small"
    assert instance.resource["machineType"].endswith(
        f"projects/demo/zones/{ZONE}/machineTypes/e2-small"
    )


def test_a_disk_can_be_deleted_only_while_no_instance_uses_it(bench: _FleetBench) -> None:
    """It is ``CREATING``, ready, in use, free, ``DELETING``, and then gone."""
    bench.fleet.disks.insert(ZONE, {"name": "home", "sizeGb": "20"})
    assert bench.fleet.disks.get(ZONE, "home").resource["status"] == "CREATING"
    assert _refused_with(lambda: bench.fleet.disks.delete(ZONE, "home")) == (
        400,
        "resourceNotReady",
    )
    assert _refused_with(lambda: bench.fleet.disks.insert(ZONE, {"name": "home"})) == (
        409,
        "alreadyExists",
    )
    assert _refused_with(lambda: bench.fleet.disks.insert(ZONE, {"name": "Home"})) == (
        400,
        "invalid",
    )
    disks = [*_instance_body()["disks"][:1], {"source": f"zones/{ZONE}/disks/home"}]
    assert _refused_with(
        lambda: bench.fleet.instances.insert(ZONE, _instance_body(disks=disks))
    ) == (
        400,
        "resourceNotReady",
    )
    bench.clock.advance(10)
    bench.insert_running(disks=disks)
    assert _refused_with(lambda: bench.fleet.disks.delete(ZONE, "home")) == (
        400,
        "resourceInUseByAnotherResource",
    )
    bench.fleet.instances.delete(ZONE, "one")
    bench.clock.advance(10)

    operation = bench.fleet.disks.delete(ZONE, "home")
    assert bench.fleet.disks.get(ZONE, "home").resource["status"] == "DELETING"
    bench.clock.advance(10)

    assert _error_code(operation) is None
    assert _refused_with(lambda: bench.fleet.disks.get(ZONE, "home")) == (404, "notFound")


def test_the_in_use_fault_makes_a_disk_undeletable(bench: _FleetBench) -> None:
    """The user is an invisible instance; the fault is limited to the disk's last instance."""
    bench.insert_running()
    bench.fleet.instances.delete(ZONE, "one")
    bench.clock.advance(10)
    bench.faults.switch_on("in_use", count=1, instance="one")
    bench.fleet.disks.insert(ZONE, {"name": "spare"})
    bench.clock.advance(10)
    bench.fleet.disks.delete(ZONE, "spare")

    with pytest.raises(ComputeError) as raised:
        bench.fleet.disks.delete(ZONE, "one-home")

    assert (raised.value.code, raised.value.reason) == (400, "resourceInUseByAnotherResource")
    there = f"projects/demo/zones/{ZONE}"
    words = (
        f"The disk resource '{there}/disks/one-home' is already being used by "
        f"'{there}/instances/holder'"
    )
    assert raised.value.message == words
    assert bench.fleet.disks.delete(ZONE, "one-home")


def test_a_disk_can_be_detached_and_attached_to_another_instance(bench: _FleetBench) -> None:
    """It has one user at a time, keeps its name and times, and outlives its former instance."""
    one, two = bench.insert_running(), bench.insert_running("two")
    home = bench.fleet.disks.get(ZONE, "one-home")

    bench.fleet.attached_disks.detach(ZONE, "one", "persistent-disk-1")
    bench.clock.advance(10)
    assert (home.resource["users"], len(one.resource["disks"])) == ([], 1)
    assert home.resource["lastDetachTimestamp"]
    body = {"source": f"zones/{ZONE}/disks/one-home", "deviceName": "spare", "autoDelete": False}
    operation = bench.fleet.attached_disks.attach(ZONE, "two", body)
    bench.clock.advance(10)

    assert _error_code(operation) is None
    assert home.resource["users"] == [two.resource["selfLink"]]
    assert (two.resource["disks"][2]["deviceName"], two.resource["disks"][2]["index"]) == (
        "spare",
        2,
    )
    assert _refused_with(lambda: bench.fleet.disks.delete(ZONE, "one-home")) == (
        400,
        "resourceInUseByAnotherResource",
    )
    bench.fleet.instances.delete(ZONE, "one")
    bench.clock.advance(10)
    assert [disk.name for disk in bench.fleet.disks.all()] == ["one-home", "two", "two-home"]


@pytest.mark.parametrize(
    ("modes", "failure"),
    [
        (("READ_WRITE", "READ_WRITE"), "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
        (("READ_ONLY", "READ_WRITE"), "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
        (("READ_WRITE", "READ_ONLY"), "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
        (("READ_ONLY", "READ_ONLY"), None),
    ],
)
def test_instances_can_share_a_disk_only_if_all_of_them_only_read_it(
    bench: _FleetBench, modes: tuple[str, str], failure: str | None
) -> None:
    """Otherwise a second instance gets it by neither attachDisk nor insert."""
    bench.insert_running()
    bench.insert_running("two")
    bench.fleet.disks.insert(ZONE, {"name": "spare"})
    bench.clock.advance(10)
    bodies = [
        {"source": f"zones/{ZONE}/disks/spare", "deviceName": "spare", "mode": mode}
        for mode in modes
    ]
    bench.fleet.attached_disks.attach(ZONE, "one", bodies[0])
    bench.clock.advance(10)

    attaching = bench.fleet.attached_disks.attach(ZONE, "two", bodies[1])
    inserting = bench.fleet.instances.insert(
        ZONE, _instance_body("three", disks=[_instance_body("three")["disks"][0], bodies[1]])
    )
    bench.clock.advance(10)

    assert [_error_code(attaching), _error_code(inserting)] == [failure, failure]
    assert len(bench.fleet.disks.get(ZONE, "spare").resource["users"]) == (1 if failure else 3)


def test_an_invalid_change_of_an_instances_disks_is_refused(bench: _FleetBench) -> None:
    """It has unknown or used devices, unknown disks, or the boot disk of a running machine."""
    instance = bench.insert_running()
    fleet, spare = (
        bench.fleet,
        {"source": f"zones/{ZONE}/disks/spare", "deviceName": "persistent-disk-1"},
    )
    assert _refused_with(lambda: fleet.attached_disks.detach(ZONE, "one", "home")) == (
        400,
        "invalid",
    )
    assert _refused_with(
        lambda: fleet.attached_disks.set_auto_delete(ZONE, "one", "home", auto_delete=True)
    ) == (
        400,
        "invalid",
    )
    assert _refused_with(lambda: fleet.attached_disks.attach(ZONE, "one", spare)) == (
        404,
        "notFound",
    )
    fleet.disks.insert(ZONE, {"name": "spare"})
    assert _refused_with(lambda: fleet.attached_disks.attach(ZONE, "one", spare)) == (
        400,
        "resourceNotReady",
    )
    bench.clock.advance(10)
    assert _refused_with(lambda: fleet.attached_disks.attach(ZONE, "one", spare)) == (
        400,
        "invalid",
    )
    assert _refused_with(lambda: fleet.attached_disks.detach(ZONE, "one", "persistent-disk-0")) == (
        400,
        "invalidResourceUsage",
    )
    attaching = fleet.attached_disks.attach(ZONE, "one", spare | {"deviceName": "spare"})
    fleet.disks.delete(ZONE, "spare")
    bench.clock.advance(10)
    assert _error_code(attaching) == "RESOURCE_NOT_FOUND"
    assert len(instance.resource["disks"]) == 2

    fleet.instances.stop(ZONE, "one")
    bench.clock.advance(10)
    fleet.attached_disks.detach(ZONE, "one", "persistent-disk-0")
    bench.clock.advance(10)

    assert _refused_with(lambda: fleet.instances.start(ZONE, "one")) == (
        400,
        "invalidResourceUsage",
    )


def test_a_disk_can_be_restored_from_a_snapshot_in_another_zone(bench: _FleetBench) -> None:
    """The snapshot outlives its disk and has its size; the new disk has only the given labels."""
    fleet = bench.fleet
    fleet.disks.insert(
        ZONE, {"name": "home", "sizeGb": "20", "labels": {"hub": "h", "workspace": "w"}}
    )
    bench.clock.advance(10)
    source = {"name": "home", "sourceSnapshot": "global/snapshots/kept", "labels": {"hub": "h"}}
    assert _refused_with(lambda: fleet.disks.insert(OTHER_ZONE, source)) == (404, "notFound")
    assert _refused_with(lambda: fleet.disks.create_snapshot(ZONE, "home", {"name": "Kept"})) == (
        400,
        "invalid",
    )
    fleet.disks.create_snapshot(ZONE, "home", {"name": "kept"})
    assert _refused_with(lambda: fleet.disks.insert(OTHER_ZONE, source)) == (
        400,
        "resourceNotReady",
    )
    assert _refused_with(lambda: fleet.disks.create_snapshot(ZONE, "home", {"name": "kept"})) == (
        409,
        "alreadyExists",
    )
    bench.clock.advance(20)
    fleet.disks.delete(ZONE, "home")
    bench.clock.advance(10)

    fleet.disks.insert(OTHER_ZONE, source)
    bench.clock.advance(10)

    [disk] = fleet.disks.all()
    assert (disk.zone, disk.resource["sizeGb"], disk.resource["labels"]) == (
        OTHER_ZONE,
        "20",
        {"hub": "h"},
    )
    assert disk.resource["sourceSnapshot"].endswith("/projects/demo/global/snapshots/kept")


def _insert_disk(bench: _FleetBench, name: str = "home", **more: Any) -> Disk:
    bench.fleet.disks.insert(ZONE, {"name": name, "sizeGb": "20", **more})
    bench.clock.advance(10)
    return bench.fleet.disks.get(ZONE, name)


def _insert_snapshot(bench: _FleetBench, name: str = "kept", disk: str = "home") -> Operation:
    source = f"zones/{ZONE}/disks/{disk}"
    return bench.fleet.snapshots.insert({"name": name, "sourceDisk": source})


def test_a_snapshot_is_captured_then_uploaded_then_ready(bench: _FleetBench) -> None:
    """Its disk can be deleted from the capture on, the snapshot itself when it is ready."""
    fleet = bench.fleet
    _insert_disk(bench)
    operation = _insert_snapshot(bench)
    snapshot = fleet.snapshots.get("kept")

    def is_in_use() -> bool:
        refused = (400, "resourceInUseByAnotherResource")
        return _refused_with(lambda: fleet.disks.delete(ZONE, "home")) == refused

    assert (snapshot.status, "storageBytes" in snapshot.resource) == ("CREATING", False)
    assert is_in_use()
    bench.guests.copies["kept"] = None
    bench.clock.advance(10)
    assert bench.guests.events == ["captured home as kept"]
    assert (snapshot.status, is_in_use()) == ("CREATING", True)
    bench.guests.copies["kept"] = Copy(is_whole=True, stored_bytes=7)
    bench.clock.advance(1)
    assert (snapshot.status, operation.done.is_set()) == ("UPLOADING", False)
    fleet.disks.delete(ZONE, "home")
    not_ready = (400, "resourceNotReady")
    assert _refused_with(lambda: fleet.snapshots.delete("kept")) == not_ready
    bench.clock.advance(10)
    assert (snapshot.status, operation.done.is_set()) == ("READY", True)
    assert int(snapshot.resource["storageBytes"]) % 1024 == 7

    fleet.snapshots.delete("kept")
    assert snapshot.status == "DELETING"
    assert _refused_with(lambda: fleet.snapshots.delete("kept")) == not_ready
    bench.clock.advance(10)
    assert fleet.snapshots.all() == []
    assert bench.guests.events == ["captured home as kept", "deleted kept"]


def test_a_disk_has_one_snapshot_in_ten_minutes(bench: _FleetBench) -> None:
    """The operation of one that comes earlier fails, and no snapshot is left of it."""
    _insert_disk(bench)
    _insert_disk(bench, "other")
    _insert_snapshot(bench, "first")
    bench.clock.advance(590)
    early = _insert_snapshot(bench, "early")
    _insert_snapshot(bench, "others", disk="other")
    bench.clock.advance(10)
    assert _error_code(early) == "RESOURCE_OPERATION_RATE_EXCEEDED"
    _insert_snapshot(bench, "late")
    bench.clock.advance(20)
    states = {each.name: each.status for each in bench.fleet.snapshots.all()}
    assert states == dict.fromkeys(["first", "late", "others"], "READY")


def test_a_snapshot_fails_if_its_content_cannot_be_copied(bench: _FleetBench) -> None:
    """It is FAILED then; a disk or a machine that is made from one does not remain."""
    fleet = bench.fleet
    _insert_disk(bench)
    bench.guests.copies["kept"] = Copy(is_whole=False, stored_bytes=0)
    operation = _insert_snapshot(bench)
    bench.clock.advance(10)
    assert _error_code(operation) == "INTERNAL_ERROR"
    assert fleet.snapshots.get("kept").status == "FAILED"
    fleet.snapshots.delete("kept")
    bench.clock.advance(600)

    bench.guests.copies = {}
    _insert_snapshot(bench)
    bench.clock.advance(20)
    bench.guests.copies["copy"] = Copy(is_whole=False, stored_bytes=0)
    source = {"sourceSnapshot": "global/snapshots/kept"}
    operation = fleet.disks.insert(ZONE, {"name": "copy", **source})
    bench.clock.advance(10)
    assert _error_code(operation) == "INTERNAL_ERROR"
    home = {"deviceName": "home", "initializeParams": {"diskName": "copy", **source}}
    boot = {"boot": True, "initializeParams": {}}
    operation = fleet.instances.insert(ZONE, _instance_body(disks=[boot, home]))
    bench.clock.advance(10)
    assert _error_code(operation) == "INTERNAL_ERROR"
    assert [disk.name for disk in fleet.disks.all()] == ["home"]
    assert fleet.instances.all() == []


def test_a_machine_boots_only_when_its_home_has_been_copied(bench: _FleetBench) -> None:
    """Until then the snapshot cannot be deleted."""
    fleet = bench.fleet
    _insert_disk(bench)
    _insert_snapshot(bench)
    bench.clock.advance(20)
    bench.guests.events.clear()
    bench.guests.copies["copy"] = None
    source = {"sourceSnapshot": "global/snapshots/kept"}
    home = {"deviceName": "home", "initializeParams": {"diskName": "copy", **source}}
    boot = {"boot": True, "initializeParams": {}}
    fleet.instances.insert(ZONE, _instance_body(disks=[boot, home]))
    bench.clock.advance(100)
    assert bench.guests.events == ["restored kept as copy"]
    assert bench.default_instance().status == "STAGING"
    in_use = (400, "resourceInUseByAnotherResource")
    assert _refused_with(lambda: fleet.snapshots.delete("kept")) == in_use
    del bench.guests.copies["copy"]
    bench.clock.advance(1)
    assert bench.guests.events == ["restored kept as copy", "booted one"]
    fleet.snapshots.delete("kept")


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"name": "copy", "sourceSnapshot": "kept"}, (400, "invalid")),
        ({"name": "copy", "sourceSnapshot": "global/snapshots/none"}, (404, "notFound")),
        (
            {"name": "copy", "sourceSnapshot": "projects/other/global/snapshots/kept"},
            (404, "notFound"),
        ),
        (
            {"name": "copy", "sourceSnapshot": "global/snapshots/kept", "sizeGb": "19"},
            (400, "invalid"),
        ),
    ],
)
def test_a_disk_that_compute_engine_would_not_make_is_refused(
    bench: _FleetBench, body: dict[str, Any], refusal: tuple[int, str]
) -> None:
    """Nothing is left of it."""
    _insert_disk(bench)
    _insert_snapshot(bench)
    bench.clock.advance(20)
    assert _refused_with(lambda: bench.fleet.disks.insert(ZONE, body)) == refusal
    assert [disk.name for disk in bench.fleet.disks.all()] == ["home"]


@pytest.mark.parametrize(
    ("source", "refusal"),
    [
        (None, (400, "invalid")),
        ("home", (400, "invalid")),
        (f"zones/{ZONE}/disks/none", (404, "notFound")),
        (f"projects/other/zones/{ZONE}/disks/home", (404, "notFound")),
    ],
)
def test_a_snapshot_of_no_disk_is_refused(
    bench: _FleetBench, source: str | None, refusal: tuple[int, str]
) -> None:
    """A disk that is being deleted is not ready for one either."""
    _insert_disk(bench)
    body = {"name": "kept", "sourceDisk": source}
    assert _refused_with(lambda: bench.fleet.snapshots.insert(body)) == refusal
    bench.fleet.disks.delete(ZONE, "home")
    assert _refused_with(lambda: _insert_snapshot(bench)) == (400, "resourceNotReady")
    assert bench.fleet.snapshots.all() == []


@pytest.mark.parametrize("fault", ["source_gone", "source_not_ready", "source_busy"])
def test_a_fault_of_the_snapshot_makes_no_disk_of_it(bench: _FleetBench, fault: str) -> None:
    """Neither alone nor with a machine, whether the call is refused or its operation fails."""
    fleet = bench.fleet
    _insert_disk(bench)
    _insert_snapshot(bench)
    bench.clock.advance(20)
    source = {"sourceSnapshot": "global/snapshots/kept"}
    home = {"deviceName": "home", "initializeParams": {"diskName": "copy", **source}}
    boot = {"boot": True, "initializeParams": {}}
    bench.faults.switch_on(fault)
    makes: list[Callable[[], Operation]] = [
        lambda: fleet.disks.insert(ZONE, {"name": "copy", **source}),
        lambda: fleet.instances.insert(ZONE, _instance_body(disks=[boot, home])),
    ]
    for _ in range(3):
        for make in makes:
            try:
                operation = make()
            except ComputeError:
                pass
            else:
                bench.clock.advance(10)
                assert _error_code(operation)
            assert [disk.name for disk in fleet.disks.all()] == ["home"]
    assert fleet.instances.all() == []


def test_a_disk_can_only_grow(bench: _FleetBench) -> None:
    """Its instance shows the new size; the same or a smaller size is refused."""
    instance = bench.insert_running()
    for size in ("50", "10", "", "many"):
        with pytest.raises(
            ComputeError,
            match=f"New disk size '{size}' GiB must be larger than existing size '50' GiB",
        ):
            bench.fleet.disks.resize(ZONE, "one-home", {"sizeGb": size})

    bench.fleet.disks.resize(ZONE, "one-home", {"sizeGb": 60})
    bench.clock.advance(10)

    assert bench.fleet.disks.get(ZONE, "one-home").resource["sizeGb"] == "60"
    assert [disk["diskSizeGb"] for disk in instance.resource["disks"]] == ["10", "60"]


def test_an_instance_has_the_times_of_its_last_start_suspend_and_stop(bench: _FleetBench) -> None:
    """They are in RFC 3339."""
    instance = bench.insert_running()
    assert instance.resource["lastStartTimestamp"] == "2026-01-01T00:00:10.000+00:00"
    for verb in ["suspend", "resume", "stop"]:
        _call_method(bench.fleet, verb, instance)
        bench.clock.advance(10)

    assert instance.resource["lastSuspendedTimestamp"] == "2026-01-01T00:00:20.000+00:00"
    assert instance.resource["lastStartTimestamp"] == "2026-01-01T00:00:30.000+00:00"
    assert instance.resource["lastStopTimestamp"] == "2026-01-01T00:00:40.000+00:00"


def test_a_reset_deletes_everything_and_cancels_running_operations(bench: _FleetBench) -> None:
    """It wakes waiters, ends guests, and cancels timers."""
    operation = bench.fleet.instances.insert(ZONE, _instance_body())

    bench.fleet.reset()
    bench.clock.advance(1000)

    assert operation.done.is_set()
    assert bench.guests.events == ["ended one"]
    assert [bench.fleet.instances.all(), bench.fleet.disks.all(), bench.fleet.operations.all()] == [
        [],
        [],
        [],
    ]


def test_only_the_last_ten_thousand_operations_are_kept(bench: _FleetBench) -> None:
    """The ``requestId`` of an older one is forgotten, too."""
    bench.insert_running()
    request_id = str(uuid.uuid4())
    oldest = bench.fleet.instances.start(ZONE, "one", request_id=request_id)

    for _ in range(10_000):
        bench.fleet.instances.start(ZONE, "one")

    assert len(bench.fleet.operations.all()) == 10_000
    assert bench.fleet.operations.of_request(request_id) is None
    assert _refused_with(lambda: bench.fleet.operations.get(ZONE, oldest.name)) == (404, "notFound")


def test_a_serial_console_can_be_read_from_the_last_position() -> None:
    """``start`` is in bytes, counts from the end if negative, and skips text that was dropped."""
    console = SerialConsole()
    console.write("hello ")
    text, begin, end = console.read(0)
    assert (text, begin, end) == ("hello ", 0, 6)
    console.write("world")

    assert console.read(end) == ("world", 6, 11)
    assert console.read(-3) == ("rld", 8, 11)
    assert console.read(500) == ("", 11, 11)

    console.write("x" * 1024 * 1024)
    text, begin, end = console.read(0)
    assert (len(text), begin, end) == (1024 * 1024, 11, 11 + 1024 * 1024)
