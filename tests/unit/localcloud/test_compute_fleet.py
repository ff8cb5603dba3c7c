"""The instances, disks and operations of the local Compute Engine, on a manual clock."""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from localcloud.services.compute import validation
from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.errors import ComputeError
from localcloud.services.compute.fault_kinds import GuestFault
from localcloud.services.compute.faults import FAULTS
from localcloud.services.compute.fleet import Fleet
from localcloud.services.compute.machine_types import Shape
from localcloud.services.compute.resources import Instance, Operation
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
    boot=1.0,
    suspended_limit=1000.0,
)


class _HandTimer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class _HandClock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._calls: list[tuple[datetime, int, Callable[[], None], _HandTimer]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self._now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _HandTimer:
        timer = _HandTimer()
        heapq.heappush(
            self._calls,
            (self._now + timedelta(seconds=seconds), next(self._order), callback, timer),
        )
        return timer

    def turn(self, seconds: float) -> None:
        """Let time pass, and make the calls that come due on the way."""
        end = self._now + timedelta(seconds=seconds)
        while self._calls and self._calls[0][0] <= end:
            self._now, _, callback, timer = heapq.heappop(self._calls)
            if not timer.cancelled:
                callback()
        self._now = end


class _WitnessGuests:
    """Guests that write down what the fleet tells them."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def booted(self, instance: Instance, *, boot_seconds: float, fault: GuestFault | None) -> None:
        assert boot_seconds == TIMES.boot
        self.told.append(f"booted {instance.name}" + (f" {fault.name}" if fault else ""))

    def frozen(self, instance: Instance) -> None:
        self.told.append(f"frozen {instance.name}")

    def thawed(self, instance: Instance) -> None:
        self.told.append(f"thawed {instance.name}")

    def ended(self, instance: Instance) -> None:
        self.told.append(f"ended {instance.name}")


class _World:
    """A fleet whose every operation takes 10 seconds, and everything around it."""

    def __init__(self) -> None:
        self.clock = _HandClock()
        self.faults = ActiveFaults(PROJECT)
        self.guests = _WitnessGuests()
        self.fleet = Fleet(
            PROJECT,
            times=TIMES,
            faults=self.faults,
            guests=self.guests,
            clock=self.clock,
        )

    def running(self, name: str = "one", **more: Any) -> Instance:
        """Return an instance that is RUNNING."""
        self.fleet.instances.insert(ZONE, _body(name, **more))
        self.clock.turn(10)
        return self.fleet.instances.get(ZONE, name)

    def one(self) -> Instance:
        """Return the instance that most tests have."""
        return self.fleet.instances.get(ZONE, "one")

    def in_state(self, status: str, name: str = "one") -> Instance:
        """Return an instance in this state, brought there as Compute brings it."""
        if status in {"PROVISIONING", "STAGING"}:
            self.fleet.instances.insert(ZONE, _body(name))
            self.clock.turn(6 if status == "STAGING" else 0)
            return self.fleet.instances.get(ZONE, name)
        instance = self.running(
            name, scheduling={"gracefulShutdown": {"enabled": status == "PENDING_STOP"}}
        )
        if status in {"SUSPENDING", "SUSPENDED"}:
            self.fleet.instances.suspend(ZONE, name)
        elif status in {"PENDING_STOP", "STOPPING", "TERMINATED"}:
            self.fleet.instances.stop(ZONE, name)
        elif status == "REPAIRING":
            self.fleet.lifecycle.host_error(ZONE, name)
        self.clock.turn(10 if status in {"SUSPENDED", "TERMINATED"} else 1)
        return instance


@pytest.fixture
def world() -> _World:
    """Return a world with nothing in it."""
    return _World()


def _body(name: str = "one", **more: Any) -> dict[str, Any]:
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


def _failure(operation: Operation) -> str | None:
    errors = operation.resource.get("error", {}).get("errors", [])
    return errors[0]["code"] if errors else None


def _refusal(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ComputeError) as raised:
        call()
    return raised.value.code, raised.value.reason


def _act(fleet: Fleet, verb: str, instance: Instance) -> Operation:
    """Carry out a verb that is in itself all right on an instance."""
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


# Which verb leads where from which state; what is not here is refused.
LEADS_TO = {
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
def test_each_verb_does_in_each_state_what_compute_does(
    world: _World, verb: str, status: str
) -> None:
    """A verb leads to the state of the table, or is refused and changes nothing."""
    instance = world.in_state(status)
    assert instance.status == status
    end = LEADS_TO.get((verb, status))

    if end is None:
        reason = "invalidResourceUsage" if verb == "setMachineType" else "resourceNotReady"
        assert _refusal(lambda: _act(world.fleet, verb, instance)) == (400, reason)
        assert instance.status == status
        return
    operation = _act(world.fleet, verb, instance)
    world.clock.turn(60)

    assert operation.resource["status"] == "DONE"
    assert _failure(operation) is None
    if end == "gone":
        assert _refusal(lambda: world.fleet.instances.get(ZONE, "one")) == (404, "notFound")
    elif end != "any":
        assert instance.status == end


@pytest.mark.parametrize(
    ("begin", "way"),
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
def test_an_instance_goes_through_every_state_on_its_way(
    world: _World, begin: str, way: list[str]
) -> None:
    """Who looks all the time sees each state that Compute shows."""
    before = {"start": "TERMINATED", "resume": "SUSPENDED"}.get(begin, "RUNNING")
    if begin == "insert":
        world.fleet.instances.insert(ZONE, _body())
    elif begin == "host error":
        world.running()
        world.fleet.lifecycle.host_error(ZONE, "one")
    elif begin == "graceful stop":
        world.running(scheduling={"gracefulShutdown": {"enabled": True}})
        world.fleet.instances.stop(ZONE, "one")
    else:
        _act(world.fleet, begin, world.in_state(before))

    seen: list[str] = []
    for _ in range(50):
        status = next((instance.status for instance in world.fleet.instances.all()), "gone")
        seen += [status] if status not in seen[-1:] else []
        world.clock.turn(1)

    assert seen == way


def test_an_insert_makes_the_instance_and_its_disks_at_once(world: _World) -> None:
    """The operation's target is the instance's numeric id at once, and all input is kept."""
    sent = _body(
        labels={"hub": "h"},
        tags={"items": ["workspace"]},
        serviceAccounts=[{"email": "vm@demo.iam.gserviceaccount.com", "scopes": []}],
        shieldedInstanceConfig={"enableSecureBoot": True},
    )

    operation = world.fleet.instances.insert(ZONE, sent)

    instance = world.fleet.instances.get(ZONE, "one")
    assert operation.resource["targetId"] == instance.id
    assert operation.resource["operationType"] == "insert"
    assert operation.resource["targetLink"].endswith(f"/zones/{ZONE}/instances/one")
    assert instance.id.isdigit()
    assert instance.resource["labels"] == {"hub": "h"}
    assert instance.resource["tags"]["items"] == ["workspace"]
    assert instance.resource["shieldedInstanceConfig"] == {"enableSecureBoot": True}
    assert instance.resource["serviceAccounts"][0]["email"] == "vm@demo.iam.gserviceaccount.com"
    assert instance.resource["networkInterfaces"][0]["networkIP"].startswith("10.128.")
    home = world.fleet.disks.get(ZONE, "one-home")
    assert (home.resource["sizeGb"], home.resource["labels"]) == ("50", {"hub": "h"})
    assert home.resource["users"] == [instance.resource["selfLink"]]
    assert world.fleet.instances.by_id(instance.id) is instance


def test_a_delete_takes_the_auto_delete_disks_and_leaves_the_others(world: _World) -> None:
    """The home disk survives its instance, and can be attached to the next one."""
    world.running()
    world.fleet.instances.delete(ZONE, "one")
    world.clock.turn(10)
    assert [disk.name for disk in world.fleet.disks.all()] == ["one-home"]
    assert world.fleet.disks.get(ZONE, "one-home").resource["users"] == []
    disks = _body()["disks"][:1]
    disks.append({"source": f"projects/demo/zones/{ZONE}/disks/one-home", "deviceName": "home"})

    again = world.fleet.instances.insert(ZONE, _body(disks=disks))
    world.clock.turn(10)

    assert _failure(again) is None
    assert world.one().resource["disks"][1]["deviceName"] == "home"
    assert world.fleet.disks.get(ZONE, "one-home").resource["users"] == [
        again.resource["targetLink"]
    ]


def test_an_insert_with_a_disk_of_another_instance_fails_and_leaves_that_disk_alone(
    world: _World,
) -> None:
    """The operation ends with RESOURCE_IN_USE_BY_ANOTHER_RESOURCE; no new instance stays."""
    world.running()
    disks = [
        *_body("two")["disks"][:1],
        {"source": f"zones/{ZONE}/disks/one-home", "autoDelete": True},
    ]

    operation = world.fleet.instances.insert(ZONE, _body("two", disks=disks))
    world.clock.turn(10)

    assert _failure(operation) == "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"
    assert [instance.name for instance in world.fleet.instances.all()] == ["one"]
    assert [disk.name for disk in world.fleet.disks.all()] == ["one", "one-home"]


def test_deleting_an_insert_that_waits_for_a_foreign_disk_leaves_that_disk_alone(
    world: _World,
) -> None:
    """Even autoDelete never takes a disk that another instance holds."""
    world.running()
    disks = [
        *_body("two")["disks"][:1],
        {"source": f"zones/{ZONE}/disks/one-home", "autoDelete": True},
    ]
    world.fleet.instances.insert(ZONE, _body("two", disks=disks))

    world.fleet.instances.delete(ZONE, "two")
    world.clock.turn(10)

    assert [disk.name for disk in world.fleet.disks.all()] == ["one", "one-home"]


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
def test_an_insert_that_compute_would_not_take_is_refused_and_changes_nothing(
    world: _World, change: dict[str, Any], code: int, reason: str, words: str
) -> None:
    """The answer has Compute's words; there is no new instance, disk or operation."""
    world.running("taken")
    before = [
        len(world.fleet.instances.all()),
        len(world.fleet.disks.all()),
        len(world.fleet.operations.all()),
    ]

    with pytest.raises(ComputeError) as raised:
        world.fleet.instances.insert(ZONE, _body() | change)

    assert (raised.value.code, raised.value.reason) == (code, reason)
    assert words in raised.value.message
    assert [
        len(world.fleet.instances.all()),
        len(world.fleet.disks.all()),
        len(world.fleet.operations.all()),
    ] == before


def test_an_insert_does_not_take_the_place_of_a_boot_disk_that_was_kept(world: _World) -> None:
    """The boot disk has its instance's name by default; the refusal names the other disk."""
    world.running()
    world.fleet.attached_disks.set_auto_delete(ZONE, "one", "persistent-disk-0", auto_delete=False)
    world.clock.turn(10)
    world.fleet.instances.delete(ZONE, "one")
    world.clock.turn(10)
    world.fleet.disks.delete(ZONE, "one-home")
    world.clock.turn(10)
    assert [disk.name for disk in world.fleet.disks.all()] == ["one"]

    with pytest.raises(
        ComputeError, match=f"'projects/demo/zones/{ZONE}/disks/one' already exists"
    ):
        world.fleet.instances.insert(ZONE, _body())

    disks = _body()["disks"]
    disks[0]["initializeParams"]["diskName"] = "one-2"
    world.running(disks=disks)
    assert [disk.name for disk in world.fleet.disks.all()] == ["one", "one-2", "one-home"]


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
def test_a_machine_type_takes_only_the_disk_types_of_its_series(
    world: _World, monkeypatch: pytest.MonkeyPatch, machine_type: str, disk_type: str, taken: bool
) -> None:
    """The refusal has Compute's words, with the names of what does not go together."""
    types = dict.fromkeys(("e2-standard-4", "n4-standard-4", "c4a-standard-4"), Shape(4, 16384))
    monkeypatch.setattr(validation, "MACHINE_TYPES", types)
    disks = _body()["disks"]
    disks[1]["initializeParams"]["diskType"] = disks[0]["initializeParams"]["diskType"] = (
        f"diskTypes/{disk_type}"
    )
    body = _body(machineType=f"zones/{ZONE}/machineTypes/{machine_type}", disks=disks)
    if taken:
        assert world.fleet.instances.insert(ZONE, body)
        return

    with pytest.raises(ComputeError) as raised:
        world.fleet.instances.insert(ZONE, body)

    assert (raised.value.code, raised.value.reason) == (400, "badRequest")
    assert (
        raised.value.message
        == f"[{disk_type}, {machine_type}] features are not compatible for creating instance."
    )
    assert world.fleet.disks.all() == []


@pytest.mark.parametrize("verb", ["stop", "suspend"])
def test_a_machine_with_a_local_ssd_is_stopped_only_when_that_is_decided(
    world: _World, verb: str
) -> None:
    """Without `discardLocalSsd` it is refused as Compute refuses it."""
    instance = world.running()
    instance.resource["machineType"] = f"zones/{ZONE}/machineTypes/c3-standard-4-lssd"
    with pytest.raises(ComputeError, match="undefined value for `discard-local-ssd`") as raised:
        _act(world.fleet, verb, instance)
    assert (raised.value.code, raised.value.reason, instance.status) == (
        400,
        "badRequest",
        "RUNNING",
    )

    getattr(world.fleet.instances, verb)(ZONE, "one", discard_local_ssd=True)
    world.clock.turn(10)

    assert instance.status == {"stop": "TERMINATED", "suspend": "SUSPENDED"}[verb]


@pytest.mark.parametrize(
    ("fault", "refusal", "code"),
    [
        ("policy_forbids", (412, "conditionNotMet"), "CONDITION_NOT_MET"),
        ("account_unknown", (404, "notFound"), "EXTERNAL_RESOURCE_NOT_FOUND"),
    ],
)
def test_what_forbids_an_insert_does_so_at_once_and_in_the_operation_in_turn(
    world: _World, fault: str, refusal: tuple[int, str], code: str
) -> None:
    """Both in Compute's words, and with nothing left behind; no other call is touched."""
    words = {
        "policy_forbids": "Constraint constraints/compute.vmExternalIpAccess violated for project "
        "123456789012. Add instance "
        f"projects/demo/zones/{ZONE}/instances/two to the constraint",
        "account_unknown": "The resource 'vm@demo.iam.gserviceaccount.com' of type "
        "'serviceAccount' was not found.",
    }[fault]
    instance = world.in_state("TERMINATED")
    world.faults.switch_on(fault)
    body = _body("two", serviceAccounts=[{"email": "vm@demo.iam.gserviceaccount.com"}])

    with pytest.raises(ComputeError) as raised:
        world.fleet.instances.insert(ZONE, body)
    failing = world.fleet.instances.insert(ZONE, body)
    starting = _act(world.fleet, "start", instance)
    world.clock.turn(10)

    assert (raised.value.code, raised.value.reason) == refusal
    assert words in raised.value.message
    assert _failure(failing) == code
    assert words in failing.resource["error"]["errors"][0]["message"]
    assert (failing.resource["httpErrorStatusCode"], _failure(starting)) == (refusal[0], None)
    assert [disk.name for disk in world.fleet.disks.all()] == ["one", "one-home"]


def test_an_insert_into_a_full_subnetwork_leaves_nothing(world: _World) -> None:
    """The operation names the subnetwork."""
    world.faults.switch_on("ip_space_exhausted", count=1)

    operation = world.fleet.instances.insert(ZONE, _body())
    world.clock.turn(10)

    assert _failure(operation) == "IP_SPACE_EXHAUSTED_WITH_DETAILS"
    assert "'projects/demo/regions/us-west1/subnetworks/default' is exhausted" in str(
        operation.resource["error"]
    )
    assert (world.fleet.instances.all(), world.fleet.disks.all()) == ([], [])


@pytest.mark.parametrize("verb", ["start", "stop", "suspend", "resume", "delete"])
def test_an_instance_can_be_not_ready_without_anything_to_see(world: _World, verb: str) -> None:
    """The call is refused with resourceNotReady; the next one does it."""
    instance = world.in_state({"start": "TERMINATED", "resume": "SUSPENDED"}.get(verb, "RUNNING"))
    before = instance.status
    world.faults.switch_on("not_ready", count=1)

    with pytest.raises(
        ComputeError, match=f"The resource 'projects/demo/zones/{ZONE}/instances/one' is not ready"
    ):
        _act(world.fleet, verb, instance)

    assert instance.status == before
    assert _failure(_act(world.fleet, verb, instance)) is None


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
def test_what_cannot_be_brought_up_is_what_it_was_before(
    world: _World, fault: str, codes: list[str], verb: str
) -> None:
    """The operation fails; a new instance and its disks are gone, others are as before."""
    before = {"start": "TERMINATED", "resume": "SUSPENDED"}.get(verb)
    if before:
        world.in_state(before)
    disks = [disk.name for disk in world.fleet.disks.all()]
    seen = []
    for _ in codes:
        world.faults.switch_on(fault, count=1)
        inserts = verb == "insert"
        operation = (
            world.fleet.instances.insert(ZONE, _body())
            if inserts
            else _act(world.fleet, verb, world.one())
        )
        assert world.one().status == "PROVISIONING"
        world.clock.turn(10)
        seen.append(_failure(operation))

    assert seen == codes
    assert [instance.status for instance in world.fleet.instances.all()] == (
        [before] if before else []
    )
    assert [disk.name for disk in world.fleet.disks.all()] == disks


def test_a_suspend_that_the_guest_does_not_follow_ends_running_with_an_error(world: _World) -> None:
    """SUSPENDING falls back to RUNNING, the guest goes on, and the operation says why."""
    instance = world.running()
    world.faults.switch_on("suspend_unsupported", count=1)

    operation = world.fleet.instances.suspend(ZONE, "one")
    assert instance.status == "SUSPENDING"
    world.clock.turn(10)

    assert instance.status == "RUNNING"
    assert _failure(operation) == "UNSUPPORTED_OPERATION"
    assert world.guests.told == ["booted one", "frozen one", "thawed one"]
    assert _failure(world.fleet.instances.suspend(ZONE, "one")) is None


def test_a_slow_operation_takes_twenty_times_as_long(world: _World) -> None:
    """The states it leads through last as long too."""
    world.faults.switch_on("slow_operation", count=1)

    operation = world.fleet.instances.insert(ZONE, _body())
    world.clock.turn(99)
    assert world.one().status == "PROVISIONING"
    world.clock.turn(100)
    assert operation.resource["status"] == "RUNNING"
    world.clock.turn(1)

    assert operation.resource["status"] == "DONE"


def test_a_lost_operation_happens_but_nobody_finds_it(world: _World) -> None:
    """Its name and its requestId are unknown; what it was to do is done."""
    world.faults.switch_on("lost_operation", count=1)
    request_id = str(uuid.uuid4())

    operation = world.fleet.instances.insert(ZONE, _body(), request_id=request_id)
    world.clock.turn(10)

    assert _refusal(lambda: world.fleet.operations.get(ZONE, operation.name)) == (404, "notFound")
    assert world.fleet.operations.of_request(request_id) is None
    assert world.one().status == "RUNNING"


def test_preemption_strikes_running_machines_then_the_next_that_run_until_it_is_used_up(
    world: _World,
) -> None:
    """A count of two affects the running machine and the next one, not the third."""
    first = world.running("one")
    world.faults.switch_on("preempted", count=2)

    world.fleet.lifecycle.strike_running()
    second = world.running("two")
    third = world.running("three")
    world.clock.turn(20)

    assert [first.status, second.status, third.status] == ["TERMINATED", "TERMINATED", "RUNNING"]
    reclaimed = [
        o
        for o in world.fleet.operations.all()
        if o.resource["operationType"] == "compute.instances.preempted"
    ]
    assert {(o.resource["user"], o.resource["status"]) for o in reclaimed} == {("system", "DONE")}
    assert len(reclaimed) == 2


def test_a_vanished_machine_takes_its_auto_delete_disks_with_it(world: _World) -> None:
    """The instance is gone at once, its home disk is not."""
    world.running("one")
    world.running("two")
    world.faults.switch_on("vanished", instance="one")

    world.fleet.lifecycle.strike_running()

    assert [instance.name for instance in world.fleet.instances.all()] == ["two"]
    assert [disk.name for disk in world.fleet.disks.all()] == ["one-home", "two", "two-home"]
    assert world.guests.told[-1] == "ended one"


def test_the_guest_is_told_what_happens_to_its_machine_and_boots_only_at_power_on(
    world: _World,
) -> None:
    """A resume thaws; only an insert, a start and the restart after a host failure boot."""
    instance = world.running()
    for verb in ["suspend", "resume", "stop", "start"]:
        _act(world.fleet, verb, instance)
        world.clock.turn(10)
    world.fleet.lifecycle.host_error(ZONE, "one")
    world.clock.turn(20)
    world.fleet.instances.delete(ZONE, "one")
    world.clock.turn(10)

    assert world.guests.told == [
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
def test_a_fault_of_the_guest_strikes_one_boot(world: _World, fault: str) -> None:
    """The next boot is a good one."""
    world.faults.switch_on(fault, count=1)
    instance = world.running()
    for verb in ["stop", "start"]:
        _act(world.fleet, verb, instance)
        world.clock.turn(10)

    assert world.guests.told == [f"booted one {fault}", "ended one", "booted one"]


def test_a_host_failure_without_automatic_restart_leaves_the_machine_off(world: _World) -> None:
    """Compute restarts only what is to be restarted."""
    instance = world.running(scheduling={"automaticRestart": False})

    world.fleet.lifecycle.host_error(ZONE, "one")
    world.clock.turn(10)

    assert instance.status == "TERMINATED"
    assert _refusal(lambda: world.fleet.lifecycle.host_error(ZONE, "one")) == (
        400,
        "resourceNotReady",
    )


def test_a_machine_suspended_for_too_long_is_shut_down(world: _World) -> None:
    """It is TERMINATED then, its memory is lost: it can be started, not resumed."""
    instance = world.in_state("SUSPENDED")
    world.clock.turn(999)
    assert instance.status == "SUSPENDED"

    world.clock.turn(1)

    assert instance.status == "TERMINATED"
    assert _refusal(lambda: world.fleet.instances.resume(ZONE, "one")) == (400, "resourceNotReady")
    world.fleet.instances.start(ZONE, "one")
    world.clock.turn(2000)
    assert instance.status == "RUNNING"


def test_a_delete_overtakes_what_is_under_way_and_only_a_delete_is_not_overtaken(
    world: _World,
) -> None:
    """The overtaken operation ends with an error; a second delete is refused."""
    inserting = world.fleet.instances.insert(ZONE, _body())
    world.clock.turn(2)

    deleting = world.fleet.instances.delete(ZONE, "one")

    assert _failure(inserting) == "OPERATION_CANCELED_BY_USER"
    assert _refusal(lambda: world.fleet.instances.delete(ZONE, "one")) == (400, "resourceNotReady")
    assert _refusal(lambda: world.fleet.instances.insert(ZONE, _body())) == (409, "alreadyExists")
    world.clock.turn(10)
    assert deleting.resource["status"] == "DONE"
    assert _failure(deleting) is None
    assert world.fleet.instances.all() == []
    world.clock.turn(100)
    assert world.guests.told == ["ended one", "ended one"]


@pytest.mark.parametrize(
    ("verb", "kept", "fingerprint"),
    [
        ("setMetadata", "metadata", "fingerprint"),
        ("setLabels", "labels", "labelFingerprint"),
        ("setLabels of a disk", "labels", "labelFingerprint"),
    ],
)
def test_a_change_needs_the_present_fingerprint_and_keeps_it_until_it_is_done(
    world: _World, verb: str, kept: str, fingerprint: str
) -> None:
    """A stale fingerprint is 412; of two changes with the same one, the second comes to nothing."""
    instance = world.running()
    change = {
        "setMetadata": world.fleet.instances.set_metadata,
        "setLabels": world.fleet.instances.set_labels,
        "setLabels of a disk": world.fleet.disks.set_labels,
    }[verb]
    resource = (
        world.fleet.disks.get(ZONE, "one").resource if verb.endswith("disk") else instance.resource
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
    world.clock.turn(10)

    assert [_failure(first), _failure(second)] == [None, "CONDITION_NOT_MET"]
    assert "'a'" in str(resource[kept])
    assert _refusal(lambda: change(ZONE, "one", said | content)) == (412, "conditionNotMet")
    assert _refusal(lambda: change(ZONE, "one", content)) == (412, "conditionNotMet")


def test_a_change_of_an_instance_that_is_deleted_before_it_is_done_fails(world: _World) -> None:
    """Its operation ends with RESOURCE_NOT_FOUND."""
    instance = world.running()
    world.fleet.instances.delete(ZONE, "one")
    world.clock.turn(5)
    assert _refusal(lambda: _act(world.fleet, "setLabels", instance)) == (400, "resourceNotReady")
    other = world.running("two")
    changing = _act(world.fleet, "setLabels", other)
    world.faults.switch_on("vanished")
    world.fleet.lifecycle.strike_running()

    world.clock.turn(10)

    assert _failure(changing) == "RESOURCE_NOT_FOUND"


def test_another_machine_type_is_taken_by_a_stopped_instance(world: _World) -> None:
    """The type is looked up first, and shown in full afterwards."""
    instance = world.in_state("TERMINATED")
    unknown = {"machineType": f"zones/{ZONE}/machineTypes/e2-giant"}
    assert _refusal(lambda: world.fleet.instances.set_machine_type(ZONE, "one", unknown)) == (
        400,
        "invalid",
    )

    _act(world.fleet, "setMachineType", instance)
    world.clock.turn(10)

    assert instance.machine_type == "e2-small"
    assert instance.resource["machineType"].endswith(
        f"projects/demo/zones/{ZONE}/machineTypes/e2-small"
    )


def test_a_disk_is_made_and_deleted_only_when_no_instance_holds_it(world: _World) -> None:
    """CREATING, READY, in use, free, DELETING, gone."""
    world.fleet.disks.insert(ZONE, {"name": "home", "sizeGb": "20"})
    assert world.fleet.disks.get(ZONE, "home").resource["status"] == "CREATING"
    assert _refusal(lambda: world.fleet.disks.delete(ZONE, "home")) == (400, "resourceNotReady")
    assert _refusal(lambda: world.fleet.disks.insert(ZONE, {"name": "home"})) == (
        409,
        "alreadyExists",
    )
    assert _refusal(lambda: world.fleet.disks.insert(ZONE, {"name": "Home"})) == (400, "invalid")
    disks = [*_body()["disks"][:1], {"source": f"zones/{ZONE}/disks/home"}]
    assert _refusal(lambda: world.fleet.instances.insert(ZONE, _body(disks=disks))) == (
        400,
        "resourceNotReady",
    )
    world.clock.turn(10)
    world.running(disks=disks)
    assert _refusal(lambda: world.fleet.disks.delete(ZONE, "home")) == (
        400,
        "resourceInUseByAnotherResource",
    )
    world.fleet.instances.delete(ZONE, "one")
    world.clock.turn(10)

    operation = world.fleet.disks.delete(ZONE, "home")
    assert world.fleet.disks.get(ZONE, "home").resource["status"] == "DELETING"
    world.clock.turn(10)

    assert _failure(operation) is None
    assert _refusal(lambda: world.fleet.disks.get(ZONE, "home")) == (404, "notFound")


def test_a_disk_is_in_use_where_the_fault_says_so(world: _World) -> None:
    """An invisible holder has it; the fault is narrowed by the disk's last instance."""
    world.running()
    world.fleet.instances.delete(ZONE, "one")
    world.clock.turn(10)
    world.faults.switch_on("in_use", count=1, instance="one")
    world.fleet.disks.insert(ZONE, {"name": "spare"})
    world.clock.turn(10)
    world.fleet.disks.delete(ZONE, "spare")

    with pytest.raises(ComputeError) as raised:
        world.fleet.disks.delete(ZONE, "one-home")

    assert (raised.value.code, raised.value.reason) == (400, "resourceInUseByAnotherResource")
    there = f"projects/demo/zones/{ZONE}"
    words = (
        f"The disk resource '{there}/disks/one-home' is already being used by "
        f"'{there}/instances/holder'"
    )
    assert raised.value.message == words
    assert world.fleet.disks.delete(ZONE, "one-home")


def test_a_disk_is_detached_and_given_to_another_instance(world: _World) -> None:
    """It has one user at a time, keeps device name and times, and outlives its former instance."""
    one, two = world.running(), world.running("two")
    home = world.fleet.disks.get(ZONE, "one-home")

    world.fleet.attached_disks.detach(ZONE, "one", "persistent-disk-1")
    world.clock.turn(10)
    assert (home.resource["users"], len(one.resource["disks"])) == ([], 1)
    assert home.resource["lastDetachTimestamp"]
    body = {"source": f"zones/{ZONE}/disks/one-home", "deviceName": "spare", "autoDelete": False}
    operation = world.fleet.attached_disks.attach(ZONE, "two", body)
    world.clock.turn(10)

    assert _failure(operation) is None
    assert home.resource["users"] == [two.resource["selfLink"]]
    assert (two.resource["disks"][2]["deviceName"], two.resource["disks"][2]["index"]) == (
        "spare",
        2,
    )
    assert _refusal(lambda: world.fleet.disks.delete(ZONE, "one-home")) == (
        400,
        "resourceInUseByAnotherResource",
    )
    world.fleet.instances.delete(ZONE, "one")
    world.clock.turn(10)
    assert [disk.name for disk in world.fleet.disks.all()] == ["one-home", "two", "two-home"]


@pytest.mark.parametrize(
    ("modes", "failure"),
    [
        (("READ_WRITE", "READ_WRITE"), "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
        (("READ_ONLY", "READ_WRITE"), "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
        (("READ_WRITE", "READ_ONLY"), "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
        (("READ_ONLY", "READ_ONLY"), None),
    ],
)
def test_a_disk_is_shared_only_by_those_who_read_it(
    world: _World, modes: tuple[str, str], failure: str | None
) -> None:
    """A second instance does not get it by an attachDisk or an insert, whoever wants to write."""
    world.running()
    world.running("two")
    world.fleet.disks.insert(ZONE, {"name": "spare"})
    world.clock.turn(10)
    bodies = [
        {"source": f"zones/{ZONE}/disks/spare", "deviceName": "spare", "mode": mode}
        for mode in modes
    ]
    world.fleet.attached_disks.attach(ZONE, "one", bodies[0])
    world.clock.turn(10)

    attaching = world.fleet.attached_disks.attach(ZONE, "two", bodies[1])
    inserting = world.fleet.instances.insert(
        ZONE, _body("three", disks=[_body("three")["disks"][0], bodies[1]])
    )
    world.clock.turn(10)

    assert [_failure(attaching), _failure(inserting)] == [failure, failure]
    assert len(world.fleet.disks.get(ZONE, "spare").resource["users"]) == (1 if failure else 3)


def test_a_change_of_an_instances_disks_that_makes_no_sense_is_refused(world: _World) -> None:
    """Unknown or used devices, unknown disks, the boot disk of a running machine."""
    instance = world.running()
    fleet, spare = (
        world.fleet,
        {"source": f"zones/{ZONE}/disks/spare", "deviceName": "persistent-disk-1"},
    )
    assert _refusal(lambda: fleet.attached_disks.detach(ZONE, "one", "home")) == (400, "invalid")
    assert _refusal(
        lambda: fleet.attached_disks.set_auto_delete(ZONE, "one", "home", auto_delete=True)
    ) == (
        400,
        "invalid",
    )
    assert _refusal(lambda: fleet.attached_disks.attach(ZONE, "one", spare)) == (404, "notFound")
    fleet.disks.insert(ZONE, {"name": "spare"})
    assert _refusal(lambda: fleet.attached_disks.attach(ZONE, "one", spare)) == (
        400,
        "resourceNotReady",
    )
    world.clock.turn(10)
    assert _refusal(lambda: fleet.attached_disks.attach(ZONE, "one", spare)) == (400, "invalid")
    assert _refusal(lambda: fleet.attached_disks.detach(ZONE, "one", "persistent-disk-0")) == (
        400,
        "invalidResourceUsage",
    )
    attaching = fleet.attached_disks.attach(ZONE, "one", spare | {"deviceName": "spare"})
    fleet.disks.delete(ZONE, "spare")
    world.clock.turn(10)
    assert _failure(attaching) == "RESOURCE_NOT_FOUND"
    assert len(instance.resource["disks"]) == 2

    fleet.instances.stop(ZONE, "one")
    world.clock.turn(10)
    fleet.attached_disks.detach(ZONE, "one", "persistent-disk-0")
    world.clock.turn(10)

    assert _refusal(lambda: fleet.instances.start(ZONE, "one")) == (400, "invalidResourceUsage")


def test_a_disk_is_made_again_from_a_snapshot_in_another_zone(world: _World) -> None:
    """The snapshot outlives its disk and has its size; the new disk has only given labels."""
    fleet = world.fleet
    fleet.disks.insert(
        ZONE, {"name": "home", "sizeGb": "20", "labels": {"hub": "h", "workspace": "w"}}
    )
    world.clock.turn(10)
    source = {"name": "home", "sourceSnapshot": "global/snapshots/kept", "labels": {"hub": "h"}}
    assert _refusal(lambda: fleet.disks.insert(OTHER_ZONE, source)) == (404, "notFound")
    assert _refusal(lambda: fleet.disks.create_snapshot(ZONE, "home", {"name": "Kept"})) == (
        400,
        "invalid",
    )
    fleet.disks.create_snapshot(ZONE, "home", {"name": "kept"})
    assert _refusal(lambda: fleet.disks.insert(OTHER_ZONE, source)) == (400, "resourceNotReady")
    assert _refusal(lambda: fleet.disks.create_snapshot(ZONE, "home", {"name": "kept"})) == (
        409,
        "alreadyExists",
    )
    world.clock.turn(10)
    fleet.disks.delete(ZONE, "home")
    world.clock.turn(10)

    fleet.disks.insert(OTHER_ZONE, source)
    world.clock.turn(10)

    [disk] = fleet.disks.all()
    assert (disk.zone, disk.resource["sizeGb"], disk.resource["labels"]) == (
        OTHER_ZONE,
        "20",
        {"hub": "h"},
    )
    assert disk.resource["sourceSnapshot"].endswith("/projects/demo/global/snapshots/kept")


def test_a_disk_only_grows(world: _World) -> None:
    """Its instance shows the new size; a smaller or the same one is refused in Compute's words."""
    instance = world.running()
    for size in ("50", "10", "", "many"):
        with pytest.raises(
            ComputeError,
            match=f"New disk size '{size}' GiB must be larger than existing size '50' GiB",
        ):
            world.fleet.disks.resize(ZONE, "one-home", {"sizeGb": size})

    world.fleet.disks.resize(ZONE, "one-home", {"sizeGb": 60})
    world.clock.turn(10)

    assert world.fleet.disks.get(ZONE, "one-home").resource["sizeGb"] == "60"
    assert [disk["diskSizeGb"] for disk in instance.resource["disks"]] == ["10", "60"]


def test_times_are_written_down(world: _World) -> None:
    """The last start, suspend and stop stand in the instance, in RFC 3339."""
    instance = world.running()
    assert instance.resource["lastStartTimestamp"] == "2026-01-01T00:00:10.000+00:00"
    for verb in ["suspend", "resume", "stop"]:
        _act(world.fleet, verb, instance)
        world.clock.turn(10)

    assert instance.resource["lastSuspendedTimestamp"] == "2026-01-01T00:00:20.000+00:00"
    assert instance.resource["lastStartTimestamp"] == "2026-01-01T00:00:30.000+00:00"
    assert instance.resource["lastStopTimestamp"] == "2026-01-01T00:00:40.000+00:00"


def test_a_reset_leaves_nothing_and_nothing_comes_of_what_was_under_way(world: _World) -> None:
    """Waiters are woken, guests end, timers never fire."""
    operation = world.fleet.instances.insert(ZONE, _body())

    world.fleet.reset()
    world.clock.turn(1000)

    assert operation.done.is_set()
    assert world.guests.told == ["ended one"]
    assert [world.fleet.instances.all(), world.fleet.disks.all(), world.fleet.operations.all()] == [
        [],
        [],
        [],
    ]


def test_old_operations_make_room_for_new_ones(world: _World) -> None:
    """The last 10,000 are kept, with their requestIds."""
    world.running()
    request_id = str(uuid.uuid4())
    oldest = world.fleet.instances.start(ZONE, "one", request_id=request_id)

    for _ in range(10_000):
        world.fleet.instances.start(ZONE, "one")

    assert len(world.fleet.operations.all()) == 10_000
    assert world.fleet.operations.of_request(request_id) is None
    assert _refusal(lambda: world.fleet.operations.get(ZONE, oldest.name)) == (404, "notFound")


def test_a_serial_console_is_read_on_from_where_one_was() -> None:
    """`start` is a byte; below zero it counts from the end; what was dropped is skipped."""
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
