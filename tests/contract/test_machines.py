"""The contract of ``Machines``, on the fake and on the adapter with the local Compute Engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any, Protocol

import pytest

from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.fleet import Fleet
from localcloud.services.compute.resources import Operation
from localcloud.services.compute.server import ComputeServer
from localcloud.services.compute.times import Times
from localcloud.services.project import Project
from shared.domain.errors import MachineFaultError, UnavailableError
from shared.domain.instance import (
    GLOBAL,
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    DeleteSnapshot,
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
from shared.domain.machine_access import LOGIN_ROLE
from shared.domain.ownership import labels_of
from shared.ports import Machines
from tests.contract.servers import (
    HURRIED_SECONDS,
    PATIENCE_SECONDS,
    Answer,
    Responder,
    assert_told_in_time,
    json_answer,
    refusal,
    unanswering,
)
from tests.fakes.clock import SettableClock
from tests.fakes.machines import FakeMachines, Mishap
from tests.fakes.machines import fault as fault_of
from tests.fakes.settings import MACHINE_SETTINGS

pytestmark = pytest.mark.xdist_group("machines")  # one worker imports the Compute library

PROJECT = "a-project"
ZONE = "us-west1-a"
OTHER_ZONE = "us-west1-b"
REPORTS = "https://report-workspace.example.com"
ALICE, BOB = "user:alice@example.com", "user:bob@example.com"
PROGRAM = "serviceAccount:builder@a-project.iam.gserviceaccount.com"
SHORT = 0.04  # twenty times as long with the fault `slow`, so that calls can come in between
S = InstanceState


class Trouble(Enum):
    """A fault that a test causes once."""

    STOCK_OUT = auto()
    QUOTA = auto()
    NO_SUCH_MACHINE_TYPE = auto()
    SUSPEND_UNSUPPORTED = auto()
    POLICY = auto()
    IN_USE = auto()
    NOT_READY = auto()
    SECOND_ERROR = auto()
    RATE_LIMITED = auto()
    UNAVAILABLE = auto()
    OPERATION_LOST = auto()
    SLOW = auto()
    FORBIDDEN = auto()
    SHARING_RESTRICTED = auto()
    NO_SUCH_ACCOUNT = auto()
    SOURCE_GONE = auto()
    SOURCE_NOT_READY = auto()
    SOURCE_BUSY = auto()
    SNAPSHOT_QUOTA = auto()
    DISK_QUOTA = auto()
    LOCATION_FORBIDDEN = auto()
    CAPTURE_FAILS = auto()
    UPLOAD_FAILS = auto()


class Compute(Protocol):
    """A Compute Engine in which a test can cause faults."""

    @property
    def machines(self) -> Machines:
        """The port under test."""

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until a condition is true."""

    def trouble(self, trouble: Trouble, command: type[Command]) -> None:
        """Have the next call of this command fail."""

    def read_trouble(self, trouble: Trouble) -> None:
        """Have each read fail."""

    def calm(self) -> None:
        """Remove all faults."""

    def generation(self, place: Place) -> int:
        """Return the generation in a machine's metadata."""

    def labels(self, place: Place) -> dict[str, str]:
        """Return a machine's labels."""

    def set_labels(self, place: Place, labels: dict[str, str]) -> None:
        """Set a machine's labels by hand, and remove all others."""

    def disk_labels(self, place: Place) -> dict[str, str]:
        """Return a disk's labels."""

    def set_disk_labels(self, place: Place, labels: dict[str, str]) -> None:
        """Set a disk's labels by hand, and remove all others."""

    def snapshot_labels(self, name: str) -> dict[str, str]:
        """Return a snapshot's labels."""

    def set_snapshot_labels(self, name: str, labels: dict[str, str]) -> None:
        """Set a snapshot's labels by hand, and remove all others."""

    def disk_gb(self, place: Place) -> int:
        """Return how large a disk is."""

    def detach_home(self, place: Place) -> None:
        """Detach a machine's home disk by hand."""

    def delete_but_keep_boot_disk(self, place: Place) -> None:
        """Delete a machine by hand, but not its boot disk."""

    def print(self, place: Place, text: str) -> None:
        """Print a text on a machine's serial console."""

    def logins(self, place: Place) -> list[str]:
        """Return who may log in to a machine."""

    def login_trouble(self, trouble: Trouble) -> None:
        """Have the next change of who may log in be refused."""


class FakeCompute:
    """The fake, in virtual time."""

    def __init__(self) -> None:
        self._clock = SettableClock()
        self._fake = FakeMachines(self._clock)
        self.machines: Machines = self._fake

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Go from one event to the next."""
        while not condition():
            moment = self._fake.next_event_at()
            assert moment, "it did not come to pass"
            self._clock.advance_to(moment)

    def pass_time(self, by: timedelta) -> None:
        """Let time pass, whatever happens in it."""
        self._clock.advance(by)

    def trouble(self, trouble: Trouble, command: type[Command]) -> None:
        """Script the next call."""
        mishap, kind = {
            Trouble.STOCK_OUT: (Mishap.FAILS_LATER, FaultKind.STOCK_OUT),
            Trouble.QUOTA: (Mishap.FAILS_LATER, FaultKind.QUOTA),
            Trouble.NO_SUCH_MACHINE_TYPE: (Mishap.REFUSED, FaultKind.INVALID),
            Trouble.SUSPEND_UNSUPPORTED: (Mishap.FAILS_LATER, FaultKind.UNSUPPORTED),
            Trouble.POLICY: (Mishap.REFUSED, FaultKind.POLICY),
            Trouble.IN_USE: (Mishap.REFUSED, FaultKind.IN_USE),
            Trouble.NOT_READY: (Mishap.REFUSED, FaultKind.NOT_READY),
            Trouble.SECOND_ERROR: (Mishap.FAILS_LATER, FaultKind.STOCK_OUT),
            Trouble.RATE_LIMITED: (Mishap.UNANSWERED, FaultKind.TRANSIENT),
            Trouble.UNAVAILABLE: (Mishap.UNANSWERED, FaultKind.TRANSIENT),
            Trouble.OPERATION_LOST: (Mishap.OPERATION_LOST, FaultKind.INVALID),
            Trouble.SLOW: (Mishap.SLOW, FaultKind.INVALID),
            Trouble.SOURCE_GONE: (Mishap.REFUSED, FaultKind.NOT_FOUND),
            Trouble.SOURCE_NOT_READY: (Mishap.REFUSED, FaultKind.NOT_READY),
            Trouble.SOURCE_BUSY: (Mishap.FAILS_LATER, FaultKind.TRANSIENT),
            Trouble.SNAPSHOT_QUOTA: (Mishap.FAILS_LATER, FaultKind.QUOTA),
            Trouble.DISK_QUOTA: (Mishap.REFUSED, FaultKind.QUOTA),
            Trouble.LOCATION_FORBIDDEN: (Mishap.REFUSED, FaultKind.POLICY),
            Trouble.CAPTURE_FAILS: (Mishap.CAPTURE_FAILS, FaultKind.INVALID),
            Trouble.UPLOAD_FAILS: (Mishap.UPLOAD_FAILS, FaultKind.INVALID),
        }[trouble]
        self._fake.script(command, mishap, kind)

    def read_trouble(self, trouble: Trouble) -> None:
        """Leave each read unanswered, whatever the fault."""
        assert trouble in {Trouble.RATE_LIMITED, Trouble.UNAVAILABLE}
        self._fake.unanswered_reads = 1_000

    def calm(self) -> None:
        """Remove the scripted faults."""
        self._fake.calm()

    def generation(self, place: Place) -> int:
        """Return it."""
        return self._fake.instances[place].generation

    def labels(self, place: Place) -> dict[str, str]:
        """Return them."""
        return self._fake.instances[place].labels

    def set_labels(self, place: Place, labels: dict[str, str]) -> None:
        """Set them."""
        self._fake.set_labels_by_hand(place, labels)

    def disk_labels(self, place: Place) -> dict[str, str]:
        """Return them."""
        return self._fake.disk_labels(place)

    def set_disk_labels(self, place: Place, labels: dict[str, str]) -> None:
        """Set them."""
        self._fake.set_disk_labels_by_hand(place, labels)

    def snapshot_labels(self, name: str) -> dict[str, str]:
        """Return them."""
        found = self._fake.peek_snapshot(name)
        assert found is not None
        return dict(found.labels)

    def set_snapshot_labels(self, name: str, labels: dict[str, str]) -> None:
        """Set them."""
        self._fake.set_snapshot_labels_by_hand(name, labels)

    def disk_gb(self, place: Place) -> int:
        """Return it."""
        return self._fake.disk_gb(place)

    def write(self, place: Place, content: str) -> None:
        """Replace what is on a disk."""
        self._fake.write(place, content)

    def content_of(self, place: Place) -> str | None:
        """Return what is on a disk, or in a snapshot."""
        return self._fake.content_of(place)

    def detach_home(self, place: Place) -> None:
        """Detach it."""
        self._fake.detach_disk_by_hand(home_of(place))

    def delete_but_keep_boot_disk(self, place: Place) -> None:
        """Delete it."""
        self._fake.delete_by_hand(place, keep_boot_disk=True)

    def print(self, place: Place, text: str) -> None:
        """Write it."""
        self._fake.consoles[place.name] = text

    def logins(self, place: Place) -> list[str]:
        """Return them."""
        return list(self._fake.instances[place].logins)

    def login_trouble(self, trouble: Trouble) -> None:
        """Script the next change."""
        kind = {
            Trouble.FORBIDDEN: FaultKind.PERMISSION,
            Trouble.SHARING_RESTRICTED: FaultKind.POLICY,
            Trouble.NO_SUCH_ACCOUNT: FaultKind.INVALID,
        }[trouble]
        self._fake.login_errors.append(MachineFaultError(fault_of(kind)))


class LocalCompute:
    """The adapter, with the local Compute Engine on an event loop in a thread.

    Its machines run nothing.
    """

    def __init__(self) -> None:
        from shared.adapters.compute_machines import ComputeMachines

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        takes = (
            *("insert", "start", "stop", "suspend", "resume", "delete"),
            *("disk_delete", "attach_disk", "set_metadata", "set_labels"),
            *("snapshot_capture", "snapshot_upload", "snapshot_delete"),
        )
        times = Times(**dict.fromkeys(takes, SHORT), snapshot_pause=0.0)
        project = Project(id=PROJECT, number="1", zones=(ZONE, OTHER_ZONE))
        self._server = ComputeServer(project, times=times, secret="of the cloud")
        self._run(self._server.start())
        address = self._server.address
        self.machines: Machines = ComputeMachines(PROJECT, MACHINE_SETTINGS, REPORTS, address)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def on_loop(self, look: Callable[[Fleet, ActiveFaults], Any]) -> Any:
        """Read or change the server on its own event loop."""

        async def made() -> Any:
            return look(self._server.fleet, self._server.faults)

        return self._run(made())

    def reset(self) -> None:
        """Empty it."""
        self.on_loop(lambda _fleet, _faults: self._server.reset())

    def close(self) -> None:
        """End the server and its loop."""
        self._run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Check again and again."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < end, "it did not come to pass"
            time.sleep(0.005)

    def trouble(self, trouble: Trouble, command: type[Command]) -> None:
        """Switch the fault on; a machine type that does not exist needs no fault."""
        methods: dict[type[Command], str] = {
            InsertInstance: "instances.insert",
            RefreshMetadata: "instances.setMetadata",
            LabelInstance: "instances.setLabels",
            LabelDisk: "disks.setLabels",
            StartInstance: "instances.start",
            ResumeInstance: "instances.resume",
            SuspendInstance: "instances.suspend",
            StopInstance: "instances.stop",
            DeleteInstance: "instances.delete",
            DeleteDisk: "disks.delete",
            ResizeDisk: "disks.resize",
            CreateSnapshot: "snapshots.insert",
            LabelSnapshot: "snapshots.setLabels",
            DeleteSnapshot: "snapshots.delete",
        }
        if trouble is not Trouble.NO_SUCH_MACHINE_TYPE:
            self._fault(trouble, methods[command], 1)

    def read_trouble(self, trouble: Trouble) -> None:
        """Switch the fault on for all calls."""
        self._fault(trouble, None, None)

    def calm(self) -> None:
        """Switch every fault off."""
        self.on_loop(lambda _, faults: faults.clear())

    def _fault(self, trouble: Trouble, method: str | None, count: int | None) -> None:
        name = {
            Trouble.STOCK_OUT: "stock_out",
            Trouble.QUOTA: "quota_exceeded",
            Trouble.SUSPEND_UNSUPPORTED: "suspend_unsupported",
            Trouble.POLICY: "policy_forbids",
            Trouble.IN_USE: "in_use",
            Trouble.NOT_READY: "not_ready",
            Trouble.SECOND_ERROR: "second_error",
            Trouble.RATE_LIMITED: "rate_limited",
            Trouble.UNAVAILABLE: "unavailable",
            Trouble.OPERATION_LOST: "lost_operation",
            Trouble.SLOW: "slow_operation",
            Trouble.FORBIDDEN: "access_forbidden",
            Trouble.SHARING_RESTRICTED: "sharing_limited",
            Trouble.NO_SUCH_ACCOUNT: "account_deleted",
            Trouble.SOURCE_GONE: "source_gone",
            Trouble.SOURCE_NOT_READY: "source_not_ready",
            Trouble.SOURCE_BUSY: "source_busy",
            Trouble.SNAPSHOT_QUOTA: "snapshot_quota_exceeded",
            Trouble.DISK_QUOTA: "disk_quota_exceeded",
            Trouble.LOCATION_FORBIDDEN: "snapshot_location_forbidden",
            Trouble.CAPTURE_FAILS: "capture_fails",
            Trouble.UPLOAD_FAILS: "upload_fails",
        }[trouble]
        self.on_loop(lambda _, faults: faults.switch_on(name, count=count, method=method))

    def generation(self, place: Place) -> int:
        """Read the metadata as the guest does."""
        return int(self.attributes(place)["hub-generation"])

    def labels(self, place: Place) -> dict[str, str]:
        """Return them."""
        labels: dict[str, str] = self.resource(place)["labels"]
        return labels

    def set_labels(self, place: Place, labels: dict[str, str]) -> None:
        """Put them into the resource."""
        self.on_loop(
            lambda fleet, _: fleet.instances.get(place.zone, place.name).resource.update(
                labels=labels
            )
        )

    def disk_labels(self, place: Place) -> dict[str, str]:
        """Return them."""
        labels: dict[str, str] = self.disk(place)["labels"]
        return labels

    def set_disk_labels(self, place: Place, labels: dict[str, str]) -> None:
        """Put them into the resource."""
        self.on_loop(
            lambda fleet, _: fleet.disks.get(place.zone, place.name).resource.update(labels=labels)
        )

    def snapshot(self, name: str) -> dict[str, Any]:
        """Return a snapshot as Compute describes it."""
        resource: dict[str, Any] = self.on_loop(
            lambda fleet, _: dict(fleet.snapshots.get(name).resource)
        )
        return resource

    def snapshot_labels(self, name: str) -> dict[str, str]:
        """Return them."""
        labels: dict[str, str] = self.snapshot(name)["labels"]
        return labels

    def set_snapshot_labels(self, name: str, labels: dict[str, str]) -> None:
        """Put them into the resource."""
        self.on_loop(lambda fleet, _: fleet.snapshots.get(name).resource.update(labels=labels))

    def disk_gb(self, place: Place) -> int:
        """Return it."""
        return int(self.disk(place)["sizeGb"])

    def detach_home(self, place: Place) -> None:
        """Detach the disk as a person does with the command line."""
        self._change(lambda fleet: fleet.attached_disks.detach(place.zone, place.name, "home"))

    def have_home_deleted_with_machine(self, place: Place) -> None:
        """Set the home disk's autoDelete, as on a machine that was created by hand."""
        self._change(
            lambda fleet: fleet.attached_disks.set_auto_delete(place.zone, place.name, "home", True)
        )

    def delete_but_keep_boot_disk(self, place: Place) -> None:
        """Clear the boot disk's autoDelete, then delete the machine."""
        name = self.resource(place)["disks"][0]["deviceName"]
        self._change(
            lambda fleet: fleet.attached_disks.set_auto_delete(place.zone, place.name, name, False)
        )
        self._change(lambda fleet: fleet.instances.delete(place.zone, place.name))

    def _change(self, begin: Callable[[Fleet], Operation]) -> None:
        operation = self.on_loop(lambda fleet, _: begin(fleet))
        self.wait_until(operation.done.is_set)

    def attributes(self, place: Place) -> dict[str, str]:
        """Return a machine's metadata."""
        attributes: dict[str, str] = self.on_loop(
            lambda fleet, _: fleet.instances.get(place.zone, place.name).attributes()
        )
        return attributes

    def resource(self, place: Place) -> dict[str, Any]:
        """Return a machine as Compute describes it."""
        resource: dict[str, Any] = self.on_loop(
            lambda fleet, _: dict(fleet.instances.get(place.zone, place.name).resource)
        )
        return resource

    def disk(self, place: Place) -> dict[str, Any]:
        """Return a disk as Compute describes it."""
        resource: dict[str, Any] = self.on_loop(
            lambda fleet, _: dict(fleet.disks.get(place.zone, place.name).resource)
        )
        return resource

    def print(self, place: Place, text: str) -> None:
        """Write on its console."""
        self.on_loop(
            lambda fleet, _: fleet.instances.get(place.zone, place.name).serial.write(text)
        )

    def policy(self, place: Place) -> dict[str, Any]:
        """Return a machine's policy, with the conditions of all bindings."""
        policy: dict[str, Any] = self.on_loop(
            lambda fleet, _: fleet.policies.get(place.zone, place.name, version=3)
        )
        return policy

    def set_policy(self, place: Place, **policy: Any) -> None:
        """Put a policy on a machine, whatever it had."""
        made = {"bindings": [], "etag": "made-by-hand", **policy}
        self.on_loop(
            lambda fleet, _: setattr(fleet.instances.get(place.zone, place.name), "policy", made)
        )

    def race(self, times: int | None) -> None:
        """Have somebody change a policy whenever the adapter has read it, so often."""
        self.on_loop(lambda _, faults: faults.switch_on("policy_race", count=times))

    def logins(self, place: Place) -> list[str]:
        """Return the members of the binding without a condition."""
        return [
            member
            for binding in self.policy(place)["bindings"]
            if binding["role"] == LOGIN_ROLE and "condition" not in binding
            for member in binding["members"]
        ]

    def login_trouble(self, trouble: Trouble) -> None:
        """Switch the fault on, once."""
        self._fault(trouble, None, 1)


@pytest.fixture(scope="module")
def only_local() -> Iterator[LocalCompute]:
    """One local Compute Engine for all tests of this file."""
    compute = LocalCompute()
    yield compute
    compute.close()


@pytest.fixture
def local(only_local: LocalCompute) -> LocalCompute:
    """The local Compute Engine, empty."""
    only_local.reset()
    return only_local


@pytest.fixture(params=["fake", "compute"])
def compute(request: pytest.FixtureRequest) -> Compute:
    """An empty Compute Engine: the fake or the local one."""
    if request.param == "fake":
        return FakeCompute()
    local: LocalCompute = request.getfixturevalue("local")
    return local


def an_insert(**changes: Any) -> InsertInstance:
    """Return the command that creates a new machine with a new home disk."""
    workspace_id = str(uuid.uuid4())
    command = InsertInstance(
        place=Place(ZONE, f"workspace-{workspace_id}"),
        workspace_id=workspace_id,
        workspace_name="one",
        owner_id="108234567890123456789",
        machine_type="e2-standard-4",
        image_tag="v2",
        generation=1,
        home_disk=f"home-{workspace_id}",
        attach_home=False,
        repo="https://example.com/repo.git",
        branch=None,
    )
    return replace(command, **changes)


def disk_of(command: InsertInstance) -> Place:
    """Return the place of a machine's home disk."""
    return Place(command.place.zone, command.home_disk)


def home_of(place: Place) -> Place:
    """Return the place of the home disk of a machine that ``an_insert`` made."""
    return Place(place.zone, place.name.replace("workspace-", "home-", 1))


def boot_disk_of(command: InsertInstance) -> Place:
    """Return the place of a machine's boot disk."""
    return Place(command.place.zone, f"{command.place.name}-{command.generation}")


def snapshot_of(insert: InsertInstance, number: int = 1) -> CreateSnapshot:
    """Return the command that takes a snapshot of a machine's home disk."""
    return CreateSnapshot(
        place=Place(GLOBAL, f"home-snapshot-{insert.workspace_id}-{number:012}"),
        disk=disk_of(insert),
        workspace_id=insert.workspace_id,
        owner_id=insert.owner_id,
    )


def refresh(insert: InsertInstance, generation: int, **changes: Any) -> RefreshMetadata:
    """Return the command that refreshes a machine's metadata for another boot."""
    command = RefreshMetadata(
        place=insert.place,
        workspace_id=insert.workspace_id,
        workspace_name=insert.workspace_name,
        image_tag=insert.image_tag,
        generation=generation,
        repo=insert.repo,
        branch=insert.branch,
    )
    return replace(command, **changes)


def begin(compute: Compute, command: Command) -> StartedCall:
    """Make a call with a new request id."""
    return compute.machines.perform(command, str(uuid.uuid4()))


def ended(compute: Compute, begun: StartedCall, zone: str = ZONE) -> OperationState:
    """Wait for the end of an operation, and return it."""
    compute.wait_until(lambda: compute.machines.operation(zone, begun.gce_operation).done)
    return compute.machines.operation(zone, begun.gce_operation)


def do(compute: Compute, *commands: Command) -> None:
    """Perform commands one after the other; all must succeed."""
    for command in commands:
        assert ended(compute, begin(compute, command), command.place.zone) == OperationState(
            done=True
        )


def outcome(compute: Compute, command: Command) -> Fault | None:
    """Return how a call fails, at once or at its operation's end."""
    try:
        return ended(compute, begin(compute, command), command.place.zone).fault
    except MachineFaultError as error:
        return error.fault


def state(compute: Compute, place: Place) -> InstanceState | None:
    """Return the state of a machine; None if it does not exist."""
    instance = compute.machines.get(place)
    return instance.state if instance else None


@dataclass(frozen=True)
class Made:
    """A machine that exists, and the command that created it."""

    insert: InsertInstance
    place: Place


def running(compute: Compute) -> Made:
    """Return a running machine."""
    insert = an_insert()
    do(compute, insert)
    return Made(insert, insert.place)


def suspended(compute: Compute) -> Made:
    """Return a suspended machine."""
    made = running(compute)
    do(compute, SuspendInstance(made.place))
    return made


def stopped(compute: Compute) -> Made:
    """Return a stopped machine."""
    made = running(compute)
    do(compute, StopInstance(made.place))
    return made


def snapshotted(compute: Compute) -> Made:
    """Return a running machine of which a snapshot is READY."""
    made = running(compute)
    do(compute, snapshot_of(made.insert))
    return made


def deleted(compute: Compute) -> Made:
    """Return a deleted machine, whose home disk exists."""
    made = running(compute)
    do(compute, DeleteInstance(made.place))
    return made


def nothing(_: Compute) -> Made:
    """Return a machine that was not created yet."""
    insert = an_insert()
    return Made(insert, insert.place)


# A machine's life


def test_an_inserted_machine_has_its_id_at_once_and_runs_later(compute: Compute) -> None:
    """The operation's target is the numeric id. The other fields are those of the command."""
    insert = an_insert(machine_type="e2-standard-8")
    begun = begin(compute, insert)
    at_once = compute.machines.get(insert.place)
    assert at_once is not None
    assert begun.target_id == at_once.id
    assert at_once.id.isdigit()
    assert compute.machines.get_disk(disk_of(insert))

    assert ended(compute, begun) == OperationState(done=True)
    found = compute.machines.get(insert.place)
    assert found is not None
    assert (found.id, found.name, found.zone) == (begun.target_id, insert.place.name, ZONE)
    assert (found.state, found.machine_type) == (S.RUNNING, "e2-standard-8")
    assert found.internal_address
    assert found.last_started_at is not None
    assert found.last_started_at.tzinfo is not None
    assert compute.generation(insert.place) == 1


def test_an_operation_that_is_under_way_is_not_done(compute: Compute) -> None:
    """The machine's state shows that it is being created."""
    compute.trouble(Trouble.SLOW, InsertInstance)
    insert = an_insert()
    begun = begin(compute, insert)
    assert compute.machines.operation(ZONE, begun.gce_operation) == OperationState(done=False)
    assert state(compute, insert.place) in {S.PROVISIONING, S.STAGING}


def test_a_machine_is_suspended_resumed_stopped_started_and_deleted(compute: Compute) -> None:
    """Its id stays the same. Its home disk exists until that is deleted, too."""
    made = running(compute)
    first = compute.machines.get(made.place)
    assert first is not None
    way: list[tuple[Command, InstanceState]] = [
        (SuspendInstance(made.place), S.SUSPENDED),
        (ResumeInstance(made.place), S.RUNNING),
        (StopInstance(made.place), S.TERMINATED),
        (refresh(made.insert, 2), S.TERMINATED),
        (StartInstance(made.place), S.RUNNING),
    ]
    for command, expected in way:
        begun = begin(compute, command)
        assert begun.target_id == first.id
        assert ended(compute, begun) == OperationState(done=True)
        now = compute.machines.get(made.place)
        assert now is not None
        assert (now.id, now.state) == (first.id, expected)
    assert compute.generation(made.place) == 2

    do(compute, DeleteInstance(made.place))
    assert compute.machines.get(made.place) is None
    assert compute.machines.get_disk(disk_of(made.insert))
    do(compute, DeleteDisk(disk_of(made.insert)))
    assert compute.machines.get_disk(disk_of(made.insert)) is None


def test_a_new_machine_takes_over_the_last_machines_home_disk(compute: Compute) -> None:
    """It has the same name and another id. Only the disk is the same."""
    made = running(compute)
    first = compute.machines.get(made.place)
    do(compute, DeleteInstance(made.place))
    do(compute, replace(made.insert, attach_home=True, generation=2))
    second = compute.machines.get(made.place)
    assert first is not None
    assert second is not None
    assert first.id != second.id
    assert compute.generation(made.place) == 2
    do(compute, DeleteInstance(made.place))
    assert compute.machines.get_disk(disk_of(made.insert))


def test_absent_resources_read_as_none(compute: Compute) -> None:
    """The console is empty then, and an unknown operation is done without a fault."""
    place = an_insert().place
    assert compute.machines.get(place) is None
    assert compute.machines.get_disk(place) is None
    assert compute.machines.console_tail(place, 100) == ""
    assert compute.machines.operation(ZONE, "operation-of-long-ago") == OperationState(done=True)


# The same call again


EVERY_COMMAND: dict[str, tuple[Callable[[Compute], Made], Callable[[Made], Command]]] = {
    "insert": (nothing, lambda made: made.insert),
    "refresh_metadata": (stopped, lambda made: refresh(made.insert, 5)),
    "label_instance": (
        running,
        lambda made: LabelInstance(
            place=made.place, workspace_id=made.insert.workspace_id, owner_id="alice"
        ),
    ),
    "label_disk": (
        running,
        lambda made: LabelDisk(
            place=disk_of(made.insert), workspace_id=made.insert.workspace_id, owner_id="alice"
        ),
    ),
    "start": (stopped, lambda made: StartInstance(made.place)),
    "resume": (suspended, lambda made: ResumeInstance(made.place)),
    "suspend": (running, lambda made: SuspendInstance(made.place)),
    "stop": (running, lambda made: StopInstance(made.place)),
    "delete": (running, lambda made: DeleteInstance(made.place)),
    "delete_disk": (deleted, lambda made: DeleteDisk(disk_of(made.insert))),
    "resize_disk": (running, lambda made: ResizeDisk(disk_of(made.insert), 80)),
    "create_snapshot": (running, lambda made: snapshot_of(made.insert)),
    "label_snapshot": (
        snapshotted,
        lambda made: LabelSnapshot(
            place=snapshot_of(made.insert).place,
            workspace_id=made.insert.workspace_id,
            owner_id="alice",
        ),
    ),
    "delete_snapshot": (
        snapshotted,
        lambda made: DeleteSnapshot(snapshot_of(made.insert).place),
    ),
}
OF_EVERY_COMMAND = pytest.mark.parametrize("name", EVERY_COMMAND)


def prepared(compute: Compute, name: str) -> Command:
    """Create what a command needs, and return the command."""
    make, command = EVERY_COMMAND[name]
    return command(make(compute))


def test_every_command_is_in_the_test_below() -> None:
    """A new command cannot be forgotten."""
    tried = {type(command(nothing(FakeCompute()))) for _, command in EVERY_COMMAND.values()}
    assert tried == set(Command.__args__)


@pytest.mark.parametrize("name", [name for name in EVERY_COMMAND if name != "label_snapshot"])
def test_the_same_request_id_is_the_same_call(compute: Compute, name: str) -> None:
    """Repeated at once or after its end, the call returns the operation that it first began."""
    command = prepared(compute, name)
    request_id = str(uuid.uuid4())
    first = compute.machines.perform(command, request_id)
    zone = command.place.zone
    assert compute.machines.perform(command, request_id) == first
    assert ended(compute, first, zone) == OperationState(done=True)
    assert compute.machines.perform(command, request_id) == first
    assert ended(compute, first, zone) == OperationState(done=True)


def test_a_snapshots_labels_are_put_back_again_by_the_same_call(compute: Compute) -> None:
    """Compute takes no request id for them. The result is the same."""
    command = prepared(compute, "label_snapshot")
    request_id = str(uuid.uuid4())
    labels = compute.snapshot_labels(command.place.name)
    for _ in range(2):
        begun = compute.machines.perform(command, request_id)
        assert ended(compute, begun, GLOBAL) == OperationState(done=True)
        assert compute.snapshot_labels(command.place.name) == labels


def test_a_forgotten_operation_counts_as_done(compute: Compute) -> None:
    """It has no fault; the machine's state shows its result."""
    compute.trouble(Trouble.OPERATION_LOST, InsertInstance)
    insert = an_insert()
    request_id = str(uuid.uuid4())
    begun = compute.machines.perform(insert, request_id)
    assert compute.machines.operation(ZONE, begun.gce_operation) == OperationState(done=True)
    compute.wait_until(lambda: state(compute, insert.place) is S.RUNNING)
    with pytest.raises(MachineFaultError) as refused:
        compute.machines.perform(insert, request_id)
    assert refused.value.fault.kind is FaultKind.ALREADY_EXISTS


# Refusals


@pytest.mark.parametrize("name", [name for name in EVERY_COMMAND if name != "insert"])
def test_a_change_of_an_absent_resource_is_not_found(compute: Compute, name: str) -> None:
    """The fault is ``NOT_FOUND``, at once."""
    _, command = EVERY_COMMAND[name]
    with pytest.raises(MachineFaultError) as refused:
        begin(compute, command(nothing(compute)))
    assert refused.value.fault.kind is FaultKind.NOT_FOUND
    assert refused.value.fault.message


@pytest.mark.parametrize(
    ("make", "command"),
    [
        (running, ResumeInstance),
        (suspended, SuspendInstance),
        (stopped, SuspendInstance),
        (stopped, ResumeInstance),
    ],
)
def test_a_machine_in_the_wrong_state_is_not_ready(
    compute: Compute, make: Callable[[Compute], Made], command: Callable[[Place], Command]
) -> None:
    """The call is refused at once, and the machine is unchanged."""
    made = make(compute)
    before = state(compute, made.place)
    with pytest.raises(MachineFaultError) as refused:
        begin(compute, command(made.place))
    assert refused.value.fault.kind is FaultKind.NOT_READY
    assert state(compute, made.place) is before


@pytest.mark.parametrize(("make", "command"), [(running, StartInstance), (stopped, StopInstance)])
def test_a_change_that_is_not_needed_succeeds_at_once(
    compute: Compute, make: Callable[[Compute], Made], command: Callable[[Place], Command]
) -> None:
    """To start a running machine, or to stop one that is off, is not a fault."""
    made = make(compute)
    before = state(compute, made.place)
    begun = begin(compute, command(made.place))
    assert compute.machines.operation(ZONE, begun.gce_operation) == OperationState(done=True)
    assert state(compute, made.place) is before


def test_a_machine_that_is_being_deleted_refuses_calls(compute: Compute) -> None:
    """Its name is taken until it is gone."""
    made = running(compute)
    compute.trouble(Trouble.SLOW, DeleteInstance)
    begin(compute, DeleteInstance(made.place))
    refused = [
        outcome(compute, command)
        for command in (SuspendInstance(made.place), DeleteInstance(made.place))
    ]
    again = outcome(compute, replace(made.insert, attach_home=True))
    assert [fault and fault.kind for fault in refused] == [FaultKind.NOT_READY, FaultKind.NOT_READY]
    assert again is not None
    assert again.kind in {FaultKind.ALREADY_EXISTS, FaultKind.NOT_READY}


def test_a_delete_overtakes_an_operation_under_way(compute: Compute) -> None:
    """The overtaken operation ends with a passing fault, and the machine is gone."""
    compute.trouble(Trouble.SLOW, InsertInstance)
    insert = an_insert()
    inserting = begin(compute, insert)
    do(compute, DeleteInstance(insert.place))
    overtaken = compute.machines.operation(ZONE, inserting.gce_operation)
    assert overtaken.done
    assert overtaken.fault is not None
    assert overtaken.fault.kind is FaultKind.TRANSIENT
    assert compute.machines.get(insert.place) is None


def test_a_second_machine_of_the_same_name_is_refused(compute: Compute) -> None:
    """So a workspace never has two machines. The first one is unchanged."""
    made = running(compute)
    first = compute.machines.get(made.place)
    fault = outcome(compute, replace(made.insert, home_disk="another-disk"))
    assert fault is not None
    assert (fault.kind, fault.resource) == (
        FaultKind.ALREADY_EXISTS,
        f"instances/{made.place.name}",
    )
    assert compute.machines.get(made.place) == first
    assert compute.machines.get_disk(Place(ZONE, "another-disk")) is None


def test_a_home_disk_is_never_created_twice_or_by_mistake(compute: Compute) -> None:
    """It is refused to create a disk that exists, or to attach one that does not.

    Nothing is created.
    """
    made = deleted(compute)
    twice = outcome(compute, made.insert)
    assert twice is not None
    assert (twice.kind, twice.resource) == (
        FaultKind.ALREADY_EXISTS,
        f"disks/{made.insert.home_disk}",
    )
    without = an_insert(attach_home=True)
    made_up = outcome(compute, without)
    assert made_up is not None
    assert made_up.kind is FaultKind.NOT_FOUND
    assert compute.machines.get(made.place) is None
    assert compute.machines.get(without.place) is None


def test_a_disk_in_use_is_left_alone(compute: Compute) -> None:
    """It is neither deleted nor attached to another machine.

    The fault names the machine that holds it.
    """
    made = running(compute)
    delete = outcome(compute, DeleteDisk(disk_of(made.insert)))
    other = an_insert(home_disk=made.insert.home_disk, attach_home=True)
    attach = outcome(compute, other)
    held = (FaultKind.IN_USE, f"instances/{made.place.name}")
    assert [fault and (fault.kind, fault.resource) for fault in (delete, attach)] == [held, held]
    assert compute.machines.get_disk(disk_of(made.insert))
    assert compute.machines.get(other.place) is None


@pytest.mark.parametrize("make", [running, suspended, stopped, deleted])
def test_a_disk_grows_whatever_its_machine_does(
    compute: Compute, make: Callable[[Compute], Made]
) -> None:
    """It is read with its new size, alone and in the lists, and so is its next snapshot."""
    made = make(compute)
    place, before = disk_of(made.insert), state(compute, made.place)
    do(compute, ResizeDisk(place, 80), snapshot_of(made.insert))

    listed = [disk for disk in compute.machines.list_disks() if disk.name == place.name]
    disks = [
        *(compute.machines.get_disk(place), *listed),
        *(d for d in compute.machines.find_disks(made.insert.workspace_id) if d.name == place.name),
    ]
    assert [disk and disk.size_gb for disk in disks] == [80, 80, 80]
    taken = compute.machines.get_snapshot(snapshot_of(made.insert).place.name)
    assert taken is not None
    assert taken.disk_gb == 80
    assert state(compute, made.place) is before


@pytest.mark.parametrize("size_gb", [50, 49])
def test_a_disk_never_becomes_smaller(compute: Compute, size_gb: int) -> None:
    """Its present size is refused, too, at once; its size stays."""
    made = running(compute)
    with pytest.raises(MachineFaultError) as refused:
        begin(compute, ResizeDisk(disk_of(made.insert), size_gb))
    assert refused.value.fault.kind is FaultKind.INVALID
    assert refused.value.fault.message
    assert compute.disk_gb(disk_of(made.insert)) == 50


def test_a_disk_that_is_being_deleted_does_not_grow(compute: Compute) -> None:
    """It is not ready for a change, and gone in a moment."""
    place = disk_of(deleted(compute).insert)
    compute.trouble(Trouble.SLOW, DeleteDisk)
    begin(compute, DeleteDisk(place))
    fault = outcome(compute, ResizeDisk(place, 80))
    assert fault is not None
    assert fault.kind is FaultKind.NOT_READY


def test_a_remaining_boot_disk_blocks_its_own_generation_only(compute: Compute) -> None:
    """The next generation's boot disk has another name.

    The fault names the old one, which is found and can be deleted.
    """
    made = running(compute)
    left = boot_disk_of(made.insert)
    compute.delete_but_keep_boot_disk(made.place)

    again = outcome(compute, replace(made.insert, attach_home=True))
    assert again is not None
    assert (again.kind, again.resource) == (FaultKind.ALREADY_EXISTS, f"disks/{left.name}")
    do(compute, replace(made.insert, attach_home=True, generation=2))
    do(compute, DeleteInstance(made.place))
    assert {disk.name for disk in compute.machines.find_disks(made.insert.workspace_id)} == {
        left.name,
        made.insert.home_disk,
    }
    do(compute, DeleteDisk(left), DeleteDisk(disk_of(made.insert)))
    assert not compute.machines.find_disks(made.insert.workspace_id)


@pytest.mark.parametrize(
    ("name", "trouble", "kind"),
    [
        ("insert", Trouble.POLICY, FaultKind.POLICY),
        ("insert", Trouble.SECOND_ERROR, FaultKind.STOCK_OUT),
        ("resume", Trouble.SECOND_ERROR, FaultKind.STOCK_OUT),
        ("suspend", Trouble.NOT_READY, FaultKind.NOT_READY),
        ("start", Trouble.NOT_READY, FaultKind.NOT_READY),
        ("delete", Trouble.NOT_READY, FaultKind.NOT_READY),
        ("delete_disk", Trouble.IN_USE, FaultKind.IN_USE),
        ("resize_disk", Trouble.DISK_QUOTA, FaultKind.QUOTA),
    ],
)
def test_a_refusal_is_classified_and_changes_nothing(
    compute: Compute, name: str, trouble: Trouble, kind: FaultKind
) -> None:
    """It comes twice, because Compute refuses at once or at the operation's end.

    Then the call succeeds.
    """
    command = prepared(compute, name)
    before = state(compute, command.place)
    for _ in range(2):
        compute.trouble(trouble, type(command))
        fault = outcome(compute, command)
        assert fault is not None
        assert (fault.kind, bool(fault.code), bool(fault.message)) == (kind, True, True)
        assert state(compute, command.place) is before
    do(compute, command)


def test_a_machine_type_that_does_not_exist_is_invalid(compute: Compute) -> None:
    """It is refused at once, in Compute's words, and nothing is created."""
    insert = an_insert(machine_type="e2-imaginary-3")
    compute.trouble(Trouble.NO_SUCH_MACHINE_TYPE, InsertInstance)
    with pytest.raises(MachineFaultError) as refused:
        begin(compute, insert)
    assert refused.value.fault.kind is FaultKind.INVALID
    assert refused.value.fault.code
    assert refused.value.fault.message
    assert compute.machines.get(insert.place) is None
    assert compute.machines.get_disk(disk_of(insert)) is None


@pytest.mark.parametrize("name", ["insert", "start", "resume"])
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [(Trouble.STOCK_OUT, FaultKind.STOCK_OUT), (Trouble.QUOTA, FaultKind.QUOTA)],
)
def test_a_call_without_capacity_fails_at_its_end_and_changes_nothing(
    compute: Compute, name: str, trouble: Trouble, kind: FaultKind
) -> None:
    """This holds for both of Compute's spellings. Given capacity again, the call succeeds."""
    command = prepared(compute, name)
    before = state(compute, command.place)
    for _ in range(2):
        compute.trouble(trouble, type(command))
        fault = ended(compute, begin(compute, command)).fault
        assert fault is not None
        assert (fault.kind, bool(fault.code), bool(fault.message)) == (kind, True, True)
        assert state(compute, command.place) is before
    if isinstance(command, InsertInstance):
        assert compute.machines.get_disk(disk_of(command)) is None
    do(compute, command)
    assert state(compute, command.place) is S.RUNNING


def test_a_machine_that_cannot_be_suspended_runs_again(compute: Compute) -> None:
    """The operation's end has the fault."""
    made = running(compute)
    compute.trouble(Trouble.SUSPEND_UNSUPPORTED, SuspendInstance)
    fault = ended(compute, begin(compute, SuspendInstance(made.place))).fault
    assert fault is not None
    assert fault.kind is FaultKind.UNSUPPORTED
    compute.wait_until(lambda: state(compute, made.place) is S.RUNNING)


# Passing faults


PASSING = pytest.mark.parametrize("trouble", [Trouble.RATE_LIMITED, Trouble.UNAVAILABLE])


@PASSING
@OF_EVERY_COMMAND
def test_a_call_with_a_passing_fault_can_be_made_again(
    compute: Compute, name: str, trouble: Trouble
) -> None:
    """After a rate limit or an outage nothing has changed, and the same call succeeds."""
    command = prepared(compute, name)
    request_id = str(uuid.uuid4())
    for _ in range(2):
        compute.trouble(trouble, type(command))
        with pytest.raises(UnavailableError):
            compute.machines.perform(command, request_id)
    begun = compute.machines.perform(command, request_id)
    assert ended(compute, begun, command.place.zone) == OperationState(done=True)


READS: dict[str, Callable[[Machines, InsertInstance, StartedCall], object]] = {
    "get": lambda machines, insert, _: machines.get(insert.place),
    "get_disk": lambda machines, insert, _: machines.get_disk(disk_of(insert)),
    "find_instances": lambda machines, insert, _: machines.find_instances(insert.workspace_id),
    "find_disks": lambda machines, insert, _: machines.find_disks(insert.workspace_id),
    "operation": lambda machines, _, begun: machines.operation(ZONE, begun.gce_operation).done,
    "console_tail": lambda machines, insert, _: machines.console_tail(insert.place, 10),
    "list_instances": lambda machines, *_: [each.name for each in machines.list_instances()],
    "list_disks": lambda machines, *_: [each.name for each in machines.list_disks()],
    "get_snapshot": lambda machines, insert, _: machines.get_snapshot(
        snapshot_of(insert).place.name
    ),
    "list_snapshots": lambda machines, *_: [each.name for each in machines.list_snapshots()],
}


# The changes of who may log in read a policy first. Each is made at once, without an operation.
LOGINS: dict[str, Callable[[Machines, Place], object]] = {
    "grant_login": lambda machines, place: machines.grant_login(place, ALICE),
    "revoke_logins": lambda machines, place: machines.revoke_logins(place),
}
OF_EVERY_LOGIN = pytest.mark.parametrize("name", LOGINS)


# This method returns an empty text instead of failing, because it is only for a message.
ALWAYS_ANSWERED = {"console_tail"}
OF_EVERY_READ = pytest.mark.parametrize("name", sorted(READS.keys() - ALWAYS_ANSWERED))


def test_the_lists_have_every_machine_and_disk_of_the_installation(compute: Compute) -> None:
    """An orphan is judged by their entries: when it was created, went off or was detached."""
    insert = an_insert()
    assert not list(compute.machines.list_instances())
    begun = begin(compute, insert)
    ended(compute, begun)

    [instance] = compute.machines.list_instances()
    [disk] = [each for each in compute.machines.list_disks() if each.name == insert.home_disk]
    alone = compute.machines.get(insert.place)
    assert alone is not None
    assert alone.heartbeat_interval == MACHINE_SETTINGS.heartbeat_interval
    # A list has everything but what is in the metadata, which is large.
    assert instance == replace(alone, heartbeat_interval=None)
    ours = {**labels_of(insert.workspace_id, insert.owner_id), "hub": MACHINE_SETTINGS.installation}
    assert instance.labels == disk.labels == ours
    assert instance.disks == (boot_disk_of(insert).name, insert.home_disk)
    assert disk == compute.machines.get_disk(disk_of(insert))
    assert (disk.zone, disk.users, disk.in_use) == (ZONE, (insert.place.name,), True)
    assert (disk.detached_at, instance.off_since) == (None, None)
    assert instance.created_at is not None
    assert disk.created_at.tzinfo is not None

    ended(compute, compute.machines.perform(StopInstance(insert.place), str(uuid.uuid4())))
    [off] = compute.machines.list_instances()
    assert off.off_since is not None
    assert off.off_since >= instance.created_at
    ended(compute, compute.machines.perform(DeleteInstance(insert.place), str(uuid.uuid4())))
    assert not list(compute.machines.list_instances())
    [left] = [each for each in compute.machines.list_disks() if each.name == insert.home_disk]
    assert (left.in_use, left.detached_at is not None) == (False, True)


def test_every_method_is_in_the_test_below() -> None:
    """A new method cannot be forgotten."""
    assert {*READS, *LOGINS, "perform"} == {
        name for name in vars(Machines) if not name.startswith("_")
    }


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the adapter give up after half a second.

    This works for its own deadlines; the library's are ten minutes.
    """
    from shared.adapters import compute_machines

    for name in ("_READ", "_LIST"):
        bounds = vars(compute_machines)[name]
        monkeypatch.setitem(bounds, "retry", bounds["retry"].with_timeout(HURRIED_SECONDS))
        monkeypatch.setitem(bounds, "timeout", HURRIED_SECONDS)
    monkeypatch.setattr(compute_machines, "CALL_SECONDS", HURRIED_SECONDS)


@PASSING
@OF_EVERY_READ
@pytest.mark.usefixtures("hurried")
def test_a_read_during_an_outage_is_an_error(compute: Compute, name: str, trouble: Trouble) -> None:
    """A resource that cannot be read is not absent. After the outage it is read again."""
    insert = an_insert()
    begun = begin(compute, insert)
    ended(compute, begun)
    do(compute, snapshot_of(insert))
    compute.read_trouble(trouble)
    with pytest.raises(UnavailableError):
        READS[name](compute.machines, insert, begun)
    compute.calm()
    assert READS[name](compute.machines, insert, begun)


# The console


@pytest.mark.parametrize(
    ("printed", "most_bytes", "tail"),
    [
        ("one\ntwo\n", 4, "two\n"),
        ("one\ntwo\n", 100, "one\ntwo\n"),
        ("", 100, ""),
        ("● läuft…", 5, "ft…"),
        ("● läuft…", 4, "t…"),
        ("● läuft…", 2, ""),
    ],
)
def test_the_consoles_end_is_returned(
    compute: Compute, printed: str, most_bytes: int, tail: str
) -> None:
    """It has at most this many bytes, and no partial characters."""
    made = running(compute)
    compute.print(made.place, printed)
    assert compute.machines.console_tail(made.place, most_bytes) == tail


@PASSING
@pytest.mark.usefixtures("hurried")
def test_a_console_that_cannot_be_read_is_empty(compute: Compute, trouble: Trouble) -> None:
    """It is only for a message, so the step continues without it."""
    made = running(compute)
    compute.print(made.place, "printed")
    compute.read_trouble(trouble)
    assert compute.machines.console_tail(made.place, 100) == ""
    compute.calm()
    assert compute.machines.console_tail(made.place, 100) == "printed"


# Snapshots


def status(compute: Compute, create: CreateSnapshot) -> SnapshotStatus | None:
    """Return the status of a snapshot; None if it does not exist."""
    snapshot = compute.machines.get_snapshot(create.place.name)
    return snapshot.status if snapshot else None


def from_snapshot(create: CreateSnapshot, **changes: Any) -> InsertInstance:
    """Return the command that makes another machine, with a home from a snapshot."""
    return an_insert(**{"home_snapshot": create.place.name, "home_gb": 50, **changes})


def test_a_snapshot_is_captured_then_uploaded_then_ready(compute: Compute) -> None:
    """Its operation ends with the upload. Its fields are those of the command and of the disk."""
    made = running(compute)
    create = snapshot_of(made.insert)
    compute.trouble(Trouble.SLOW, CreateSnapshot)
    begun = begin(compute, create)
    assert status(compute, create) is SnapshotStatus.CREATING
    for _ in range(2):
        assert not compute.machines.operation(GLOBAL, begun.gce_operation).done
        compute.wait_until(lambda: status(compute, create) is not SnapshotStatus.CREATING)
        assert status(compute, create) is SnapshotStatus.UPLOADING
    assert ended(compute, begun, GLOBAL) == OperationState(done=True)

    found = compute.machines.get_snapshot(create.place.name)
    assert found is not None
    assert (found.name, found.status) == (create.place.name, SnapshotStatus.READY)
    assert (found.source_disk, found.disk_gb) == (made.insert.home_disk, 50)
    assert found.created_at.tzinfo is not None
    assert found.stored_bytes
    ours = labels_of(made.insert.workspace_id, made.insert.owner_id)
    assert found.labels == {**ours, "hub": MACHINE_SETTINGS.installation}
    assert state(compute, made.place) is S.RUNNING


@pytest.mark.parametrize("make", [suspended, stopped, deleted])
def test_a_snapshot_does_not_need_a_running_machine(
    compute: Compute, make: Callable[[Compute], Made]
) -> None:
    """Nor any machine at all, and it changes none."""
    made = make(compute)
    before = state(compute, made.place)
    do(compute, snapshot_of(made.insert))
    assert state(compute, made.place) is before


def test_what_compute_stores_is_not_known_before_the_upload_has_ended(compute: Compute) -> None:
    """Zero would be a size."""
    create = snapshot_of(running(compute).insert)
    compute.trouble(Trouble.SLOW, CreateSnapshot)
    begun = begin(compute, create)
    compute.wait_until(lambda: status(compute, create) is SnapshotStatus.UPLOADING)
    found = compute.machines.get_snapshot(create.place.name)
    assert found is not None
    assert found.stored_bytes is None
    ended(compute, begun, GLOBAL)


def test_a_home_is_made_from_a_snapshot_in_any_zone_when_its_disk_is_gone(
    compute: Compute,
) -> None:
    """It is as large as the snapshot's disk, or larger. The snapshot stays."""
    made = snapshotted(compute)
    create = snapshot_of(made.insert)
    do(compute, DeleteInstance(made.place), DeleteDisk(disk_of(made.insert)))
    assert status(compute, create) is SnapshotStatus.READY

    first, second = from_snapshot(create), from_snapshot(create, home_gb=80)
    second = replace(second, place=Place(OTHER_ZONE, second.place.name))
    do(compute, first, second)
    assert [compute.disk_gb(disk_of(each)) for each in (first, second)] == [50, 80]
    do(compute, snapshot_of(second))
    larger = compute.machines.get_snapshot(snapshot_of(second).place.name)
    assert larger is not None
    assert larger.disk_gb == 80

    do(compute, DeleteSnapshot(create.place))
    assert status(compute, create) is None
    assert state(compute, first.place) is S.RUNNING


def test_a_home_is_not_made_smaller_than_its_snapshots_disk(compute: Compute) -> None:
    """Compute refuses, and nothing is made."""
    create = snapshot_of(snapshotted(compute).insert)
    larger = from_snapshot(create, home_gb=80)
    do(compute, larger, snapshot_of(larger))
    insert = from_snapshot(snapshot_of(larger), home_gb=60)
    fault = outcome(compute, insert)
    assert fault is not None
    assert fault.kind is FaultKind.INVALID
    assert compute.machines.get_disk(disk_of(insert)) is None


def test_a_home_is_made_only_from_a_snapshot_that_is_ready(compute: Compute) -> None:
    """Otherwise neither machine nor disk is made, and the fault says what is missing."""
    made = running(compute)
    create = snapshot_of(made.insert)
    insert = from_snapshot(create)
    gone = outcome(compute, insert)
    assert gone is not None
    assert (gone.kind, gone.resource) == (FaultKind.NOT_FOUND, f"snapshots/{create.place.name}")

    compute.trouble(Trouble.SLOW, CreateSnapshot)
    begun = begin(compute, create)
    early = outcome(compute, insert)
    compute.wait_until(lambda: status(compute, create) is SnapshotStatus.UPLOADING)
    still_early = outcome(compute, insert)
    assert [fault and fault.kind for fault in (early, still_early)] == [FaultKind.NOT_READY] * 2
    assert compute.machines.get(insert.place) is None
    assert compute.machines.get_disk(disk_of(insert)) is None

    ended(compute, begun, GLOBAL)
    do(compute, insert)


def test_a_second_snapshot_of_the_same_name_is_refused(compute: Compute) -> None:
    """The fault names the first, which is unchanged."""
    made = snapshotted(compute)
    create = snapshot_of(made.insert)
    first = compute.machines.get_snapshot(create.place.name)
    fault = outcome(compute, create)
    assert fault is not None
    name = f"snapshots/{create.place.name}"
    assert (fault.kind, fault.resource) == (FaultKind.ALREADY_EXISTS, name)
    assert compute.machines.get_snapshot(create.place.name) == first


def test_a_snapshot_of_an_absent_disk_names_the_disk(compute: Compute) -> None:
    """Nothing is made."""
    create = snapshot_of(an_insert())
    fault = outcome(compute, create)
    assert fault is not None
    assert (fault.kind, fault.resource) == (FaultKind.NOT_FOUND, f"disks/{create.disk.name}")
    assert status(compute, create) is None


def test_a_disk_and_its_snapshot_are_not_deleted_before_the_content_is_captured(
    compute: Compute,
) -> None:
    """From then on the disk can be deleted, and the snapshot once it is READY."""
    made = deleted(compute)
    create = snapshot_of(made.insert)
    compute.trouble(Trouble.SLOW, CreateSnapshot)
    begun = begin(compute, create)
    disk = outcome(compute, DeleteDisk(create.disk))
    assert disk is not None
    assert (disk.kind, disk.resource) == (FaultKind.IN_USE, f"snapshots/{create.place.name}")
    early = outcome(compute, DeleteSnapshot(create.place))
    assert early is not None
    assert early.kind is FaultKind.NOT_READY

    compute.wait_until(lambda: status(compute, create) is SnapshotStatus.UPLOADING)
    do(compute, DeleteDisk(create.disk))
    assert ended(compute, begun, GLOBAL) == OperationState(done=True)
    do(compute, DeleteSnapshot(create.place))
    assert status(compute, create) is None


def test_a_snapshot_that_is_being_deleted_is_not_deleted_again(compute: Compute) -> None:
    """It says that it is being deleted, and is gone at the operation's end."""
    create = snapshot_of(snapshotted(compute).insert)
    compute.trouble(Trouble.SLOW, DeleteSnapshot)
    begun = begin(compute, DeleteSnapshot(create.place))
    assert status(compute, create) is SnapshotStatus.DELETING
    again = outcome(compute, DeleteSnapshot(create.place))
    assert again is not None
    assert again.kind is FaultKind.NOT_READY
    assert ended(compute, begun, GLOBAL) == OperationState(done=True)
    assert status(compute, create) is None


def test_a_snapshot_is_not_deleted_while_a_home_is_made_from_it(compute: Compute) -> None:
    """The fault names the disk. Later it can be deleted."""
    create = snapshot_of(snapshotted(compute).insert)
    insert = from_snapshot(create)
    compute.trouble(Trouble.SLOW, InsertInstance)
    begun = begin(compute, insert)
    fault = outcome(compute, DeleteSnapshot(create.place))
    assert fault is not None
    assert (fault.kind, fault.resource) == (FaultKind.IN_USE, f"disks/{insert.home_disk}")
    assert ended(compute, begun) == OperationState(done=True)
    do(compute, DeleteSnapshot(create.place))


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (Trouble.SOURCE_GONE, FaultKind.NOT_FOUND),
        (Trouble.SOURCE_NOT_READY, FaultKind.NOT_READY),
        (Trouble.SOURCE_BUSY, FaultKind.TRANSIENT),
        (Trouble.SNAPSHOT_QUOTA, FaultKind.QUOTA),
        (Trouble.LOCATION_FORBIDDEN, FaultKind.POLICY),
    ],
)
def test_a_snapshot_that_cannot_be_taken_leaves_nothing(
    compute: Compute, trouble: Trouble, kind: FaultKind
) -> None:
    """It is refused as Compute words it in up to three ways, at once or later. Then it succeeds."""
    create = snapshot_of(running(compute).insert)
    for _ in range(3):
        compute.trouble(trouble, CreateSnapshot)
        fault = outcome(compute, create)
        assert fault is not None
        assert (fault.kind, bool(fault.code), bool(fault.message)) == (kind, True, True)
        assert status(compute, create) is None
    do(compute, create)


@pytest.mark.parametrize("trouble", [Trouble.CAPTURE_FAILS, Trouble.UPLOAD_FAILS])
def test_a_snapshot_that_failed_stays_until_it_is_deleted(
    compute: Compute, trouble: Trouble
) -> None:
    """No home is made from it."""
    create = snapshot_of(running(compute).insert)
    compute.trouble(trouble, CreateSnapshot)
    assert outcome(compute, create)
    assert status(compute, create) is SnapshotStatus.FAILED
    fault = outcome(compute, from_snapshot(create))
    assert fault is not None
    assert fault.kind is FaultKind.NOT_READY
    do(compute, DeleteSnapshot(create.place), create)


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (Trouble.SOURCE_GONE, FaultKind.NOT_FOUND),
        (Trouble.SOURCE_NOT_READY, FaultKind.NOT_READY),
        (Trouble.SOURCE_BUSY, FaultKind.TRANSIENT),
        (Trouble.STOCK_OUT, FaultKind.STOCK_OUT),
    ],
)
def test_a_home_that_cannot_be_made_from_its_snapshot_leaves_nothing(
    compute: Compute, trouble: Trouble, kind: FaultKind
) -> None:
    """It is refused as Compute words it in up to three ways, at once or later. Then it succeeds."""
    insert = from_snapshot(snapshot_of(snapshotted(compute).insert))
    for _ in range(3):
        compute.trouble(trouble, InsertInstance)
        fault = outcome(compute, insert)
        assert fault is not None
        assert (fault.kind, bool(fault.code), bool(fault.message)) == (kind, True, True)
        assert compute.machines.get(insert.place) is None
        assert compute.machines.get_disk(disk_of(insert)) is None
    do(compute, insert)


def test_the_list_has_every_snapshot_of_the_installation(compute: Compute) -> None:
    """One without the label is missing from it until its labels are put back; others stay."""
    made = snapshotted(compute)
    create, other = snapshot_of(made.insert), snapshot_of(made.insert, 2)
    do(compute, other)
    alone = [compute.machines.get_snapshot(each.place.name) for each in (create, other)]
    assert sorted(compute.machines.list_snapshots(), key=lambda each: each.name) == alone

    before = compute.snapshot_labels(create.place.name)
    compute.set_snapshot_labels(create.place.name, {"theirs": "stays", "workspace": "another"})
    assert [each.name for each in compute.machines.list_snapshots()] == [other.place.name]
    label = LabelSnapshot(
        place=create.place,
        workspace_id=made.insert.workspace_id,
        owner_id=made.insert.owner_id,
    )
    do(compute, label)
    assert compute.snapshot_labels(create.place.name) == {"theirs": "stays", **before}
    assert len(list(compute.machines.list_snapshots())) == 2


def test_a_snapshot_has_what_was_on_the_disk_when_it_was_captured() -> None:
    """What is written later is not in it, and a home from it begins with its content."""
    compute = FakeCompute()
    made = running(compute)
    home, create = disk_of(made.insert), snapshot_of(made.insert)
    compute.write(home, "as it was asked for")
    begun = begin(compute, create)
    compute.write(home, "as it was captured")
    compute.wait_until(lambda: status(compute, create) is SnapshotStatus.UPLOADING)
    compute.write(home, "later")
    ended(compute, begun, GLOBAL)
    assert compute.content_of(create.place) == "as it was captured"

    insert, empty = from_snapshot(create), an_insert()
    do(compute, insert, empty)
    assert compute.content_of(disk_of(insert)) == "as it was captured"
    compute.write(disk_of(insert), "of the fork")
    do(compute, DeleteInstance(insert.place), replace(insert, attach_home=True, generation=2))
    assert [compute.content_of(each) for each in (home, create.place, disk_of(insert))] == [
        *("later", "as it was captured", "of the fork")
    ]
    assert compute.content_of(disk_of(empty)) not in {None, "later", "as it was captured"}


@pytest.mark.parametrize("of", ["snapshots of a disk", "homes of a snapshot"])
def test_a_source_is_used_six_times_an_hour_at_most(of: str) -> None:
    """Then the operation ends with a passing fault, until an hour has passed."""
    compute = FakeCompute()
    made = snapshotted(compute)
    create = snapshot_of(made.insert)
    taken = 1 if of == "snapshots of a disk" else 0

    def use(number: int) -> Command:
        return snapshot_of(made.insert, number + 2) if taken else from_snapshot(create)

    do(compute, *(use(number) for number in range(6 - taken)))
    fault = ended(compute, begin(compute, last := use(7)), last.place.zone).fault
    assert fault is not None
    assert (fault.kind, fault.code) == (FaultKind.TRANSIENT, "RESOURCE_OPERATION_RATE_EXCEEDED")
    compute.pass_time(timedelta(hours=1))
    do(compute, last)


# Who may log in


def test_whoever_is_let_in_may_log_in_and_others_stay(compute: Compute) -> None:
    """People and programs may, each once however their address is written."""
    made = running(compute)
    assert compute.logins(made.place) == []
    for member in (ALICE, PROGRAM, ALICE, "user:Alice@Example.com"):
        compute.machines.grant_login(made.place, member)

    assert compute.logins(made.place) == [ALICE, PROGRAM]


def test_nobody_may_log_in_after_all_rights_were_taken(compute: Compute) -> None:
    """The answer is how many could. A machine that does not exist lets nobody in."""
    made = running(compute)
    for member in (ALICE, BOB):
        compute.machines.grant_login(made.place, member)

    assert compute.machines.revoke_logins(made.place) == 2
    assert compute.logins(made.place) == []
    assert compute.machines.revoke_logins(made.place) == 0
    assert compute.machines.revoke_logins(nothing(compute).place) == 0


def test_nobody_can_be_let_in_to_a_machine_that_does_not_exist(compute: Compute) -> None:
    """That is not an outage."""
    with pytest.raises(MachineFaultError) as refused:
        compute.machines.grant_login(nothing(compute).place, ALICE)
    assert refused.value.fault.kind is FaultKind.NOT_FOUND


@pytest.mark.parametrize("make", [suspended, stopped], ids=["suspended", "stopped"])
def test_who_may_log_in_does_not_depend_on_the_state(
    compute: Compute, make: Callable[[Compute], Made]
) -> None:
    """A machine that is off can be prepared, and keeps who may log in."""
    made = make(compute)
    compute.machines.grant_login(made.place, ALICE)
    start = ResumeInstance if make is suspended else StartInstance
    do(compute, start(made.place))
    assert compute.logins(made.place) == [ALICE]


def test_a_new_machine_of_the_same_name_lets_nobody_in(compute: Compute) -> None:
    """The policy ends with the machine."""
    made = running(compute)
    compute.machines.grant_login(made.place, ALICE)
    do(compute, DeleteInstance(made.place))
    do(compute, replace(made.insert, attach_home=True, generation=2))
    assert compute.logins(made.place) == []


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (Trouble.FORBIDDEN, FaultKind.PERMISSION),
        (Trouble.SHARING_RESTRICTED, FaultKind.POLICY),
        (Trouble.NO_SUCH_ACCOUNT, FaultKind.INVALID),
    ],
)
def test_a_refusal_to_let_somebody_in_is_classified_and_changes_nothing(
    compute: Compute, trouble: Trouble, kind: FaultKind
) -> None:
    """It comes twice, as Compute words it in two ways. Then the call succeeds."""
    made = running(compute)
    for _ in range(2):
        compute.login_trouble(trouble)
        with pytest.raises(MachineFaultError) as refused:
            compute.machines.grant_login(made.place, ALICE)
        assert (refused.value.fault.kind, bool(refused.value.fault.message)) == (kind, True)
        assert compute.logins(made.place) == []
    compute.machines.grant_login(made.place, ALICE)
    assert compute.logins(made.place) == [ALICE]


@PASSING
@OF_EVERY_LOGIN
@pytest.mark.usefixtures("hurried")
def test_who_may_log_in_can_be_changed_after_an_outage(
    compute: Compute, name: str, trouble: Trouble
) -> None:
    """During the outage it is an error, and not a refusal."""
    made = running(compute)
    compute.machines.grant_login(made.place, BOB)
    compute.read_trouble(trouble)
    with pytest.raises(UnavailableError):
        LOGINS[name](compute.machines, made.place)
    compute.calm()
    assert compute.logins(made.place) == [BOB]
    LOGINS[name](compute.machines, made.place)
    assert compute.logins(made.place) == ([BOB, ALICE] if name == "grant_login" else [])


UNTIL_2030 = {
    "title": "until 2030",
    "description": "for the audit",
    "expression": "request.time < timestamp('2030-01-01T00:00:00Z')",
}
# What others have in a policy: another role; an address as its account has it; an account that was
# deleted; a right with an end.
OF_OTHERS: list[dict[str, Any]] = [
    {"role": "roles/compute.viewer", "members": ["group:Ops@example.com", "domain:example.com"]},
    {"role": LOGIN_ROLE, "members": ["user:Bob.Builder@Example.com"]},
    {
        "role": "projects/a-project/roles/ours",
        "members": ["deleted:user:gone@example.com?uid=123456789012345678901"],
    },
    {"role": LOGIN_ROLE, "members": [ALICE], "condition": UNTIL_2030},
]
AUDITED = [{"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ"}]}]


@pytest.mark.parametrize("others", [OF_OTHERS, OF_OTHERS[3:], OF_OTHERS[:2]])
def test_a_grant_leaves_the_rest_of_a_policy_as_it_is(
    local: LocalCompute, others: list[dict[str, Any]]
) -> None:
    """Others' rights, conditions, addresses in their case, deleted accounts and audits stay.

    A right with a condition may end, so its holder gets another one.
    """
    made = running(local)
    local.set_policy(made.place, bindings=deepcopy(others), auditConfigs=AUDITED)

    local.machines.grant_login(made.place, ALICE)

    policy = local.policy(made.place)
    login = next(each for each in others if each["role"] == LOGIN_ROLE)
    if "condition" in login:
        expected = [*others, {"role": LOGIN_ROLE, "members": [ALICE]}]
    else:
        added = {**login, "members": [*login["members"], ALICE]}
        expected = [added if each is login else each for each in others]
    assert policy["bindings"] == expected
    assert policy["auditConfigs"] == AUDITED


def test_taking_all_logins_leaves_the_rest_of_a_policy_as_it_is(local: LocalCompute) -> None:
    """Only the role itself is taken, and only where it has no condition."""
    made = running(local)
    local.set_policy(made.place, bindings=deepcopy(OF_OTHERS), auditConfigs=AUDITED)

    assert local.machines.revoke_logins(made.place) == 1

    policy = local.policy(made.place)
    assert policy["bindings"] == [*OF_OTHERS[:1], *OF_OTHERS[2:]]
    assert policy["auditConfigs"] == AUDITED


def test_a_person_who_was_deleted_and_is_back_is_let_in(local: LocalCompute) -> None:
    """IAM keeps the right of the account that there was under its number."""
    made = running(local)
    gone = f"deleted:{ALICE}?uid=123456789012345678901"
    local.set_policy(made.place, bindings=[{"role": LOGIN_ROLE, "members": [gone]}])

    local.machines.grant_login(made.place, ALICE)

    assert local.logins(made.place) == [gone, ALICE]


def test_another_address_of_the_same_account_may_be_let_in_twice(local: LocalCompute) -> None:
    """IAM keeps an account's own address, so the one that was sent is not found again."""
    made = running(local)
    local.machines.grant_login(made.place, "user:alice@gmail.com")
    for _ in range(2):
        local.machines.grant_login(made.place, "user:alice@googlemail.com")
    assert local.logins(made.place) == ["user:alice@gmail.com"]


@OF_EVERY_LOGIN
def test_what_others_change_at_the_same_time_is_not_lost(local: LocalCompute, name: str) -> None:
    """The policy is read again, and both changes are in it."""
    made = running(local)
    local.set_policy(made.place, bindings=[{"role": LOGIN_ROLE, "members": [BOB]}])
    local.race(2)

    LOGINS[name](local.machines, made.place)

    assert local.logins(made.place) == ([BOB, ALICE] if name == "grant_login" else [])
    viewers = [each for each in local.policy(made.place)["bindings"] if "viewer" in each["role"]]
    assert [each["members"] for each in viewers] == [
        ["user:somebody-1@example.com"],
        ["user:somebody-2@example.com"],
    ]


def test_a_policy_that_others_change_all_the_time_is_given_up(local: LocalCompute) -> None:
    """It is tried some times, and then later again."""
    made = running(local)
    local.race(None)
    with pytest.raises(UnavailableError):
        local.machines.grant_login(made.place, ALICE)
    assert local.logins(made.place) == []


def test_many_are_let_in_at_once(local: LocalCompute) -> None:
    """None is lost, whatever the order is."""
    made = running(local)
    members = [f"user:person-{number}@example.com" for number in range(4)]

    def let_in(member: str) -> None:
        while True:
            with contextlib.suppress(UnavailableError):
                return local.machines.grant_login(made.place, member)

    with ThreadPoolExecutor(len(members)) as pool:
        list(pool.map(let_in, members))

    assert sorted(local.logins(made.place)) == members


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(409, "aborted", "There were concurrent policy changes."), None),
        (refusal(412, "conditionNotMet", "Precondition Failed"), None),
        (refusal(412, "conditionNotMet", "Constraint constraints/x violated."), FaultKind.POLICY),
        (refusal(400, "resourceNotReady"), FaultKind.NOT_READY),
        (refusal(400, "invalid", "User alice@example.com does not exist."), FaultKind.INVALID),
    ],
)
def test_only_a_stale_policy_is_read_again(
    responder: Responder, answer: Answer, kind: FaultKind | None
) -> None:
    """It is asked for with its conditions, and sent back with its etag. A refusal is not repeated.

    IAM's APIs answer 409 to a stale etag, some services 412, which may also be a policy.
    """
    binding = {"role": "roles/compute.viewer", "members": [BOB], "condition": UNTIL_2030}
    policy = {"version": 3, "etag": "BwWWja0YfJA=", "bindings": [binding]}
    responder.answers = {"GET": json_answer(policy), "POST": answer}
    with pytest.raises(MachineFaultError if kind else UnavailableError) as refused:
        adapter_at(responder.address).grant_login(an_insert().place, ALICE)
    assert kind is getattr(getattr(refused.value, "fault", None), "kind", None)
    reads = [each for each in responder.requests if each.method == "GET"]
    writes = [json.loads(each.body) for each in responder.requests if each.method == "POST"]
    assert len(reads) == len(writes)
    assert (len(writes) > 1) is (kind is None)
    assert all("optionsRequestedPolicyVersion=3" in each.path for each in reads)
    granted = {"role": LOGIN_ROLE, "members": [ALICE]}
    assert writes[0] == {"policy": {**policy, "bindings": [binding, granted]}}


# Labels and names


def test_lost_labels_are_added_again(compute: Compute) -> None:
    """This holds for the machine and its home disk. Other labels stay."""
    made = running(compute)
    home = disk_of(made.insert)
    before = compute.labels(made.place), compute.disk_labels(home)
    compute.set_labels(made.place, {"theirs": "stays"})
    compute.set_disk_labels(home, {"theirs": "stays", "workspace": "another", "owner": "a-team"})
    lost = compute.machines.get(made.place)
    assert lost is not None
    assert lost.labels == {"theirs": "stays"}
    assert not list(compute.machines.list_instances())

    owner = made.insert.owner_id
    do(
        compute,
        LabelInstance(place=made.place, workspace_id=made.insert.workspace_id, owner_id=owner),
        LabelDisk(place=home, workspace_id=made.insert.workspace_id, owner_id=owner),
    )
    assert compute.labels(made.place) == {"theirs": "stays", **before[0]}
    assert compute.disk_labels(home) == {"theirs": "stays", **before[1], "owner": "a-team"}
    assert [each.labels["workspace"] for each in compute.machines.list_instances()] == [
        made.insert.workspace_id
    ]


def test_a_workspaces_resources_are_found_by_label_or_by_name_in_any_zone(compute: Compute) -> None:
    """A name may have a suffix after the id. Another workspace's resources are not found."""
    insert = an_insert()
    name = insert.place.name
    second = replace(
        insert, place=Place(OTHER_ZONE, f"{name}-2"), home_disk=f"{insert.home_disk}-copy"
    )
    by_label = replace(insert, place=Place(OTHER_ZONE, "renamed"), home_disk="a-disk")
    others = [
        an_insert(),
        an_insert(place=Place(ZONE, f"{name}0"), home_disk=f"{insert.home_disk}0"),
    ]
    do(compute, insert, second, by_label, *others)
    for each in (insert, second):
        compute.set_labels(each.place, {})
        compute.set_disk_labels(disk_of(each), {})
        compute.set_disk_labels(boot_disk_of(each), {})

    found = [insert, second, by_label]
    instances = compute.machines.find_instances(insert.workspace_id)
    disks = compute.machines.find_disks(insert.workspace_id)
    assert sorted((each.zone, each.name) for each in instances) == sorted(
        (each.place.zone, each.place.name) for each in found
    )
    assert sorted((each.zone, each.name) for each in disks) == sorted(
        (at.zone, at.name) for each in found for at in (disk_of(each), boot_disk_of(each))
    )


def test_a_detached_disk_has_no_user_and_its_machine_no_such_disk(
    compute: Compute,
) -> None:
    """The disk says since when."""
    made = running(compute)
    compute.detach_home(made.place)
    disk, instance = (
        compute.machines.get_disk(disk_of(made.insert)),
        compute.machines.get(made.place),
    )
    assert disk is not None
    assert instance is not None
    assert (disk.users, disk.in_use, disk.detached_at is None) == ((), False, False)
    assert instance.disks == (boot_disk_of(made.insert).name,)


def test_a_zone_that_does_not_exist_has_no_machines(compute: Compute) -> None:
    """Reads return None, which is not an outage."""
    made = running(compute)
    assert compute.machines.get(Place("mars-north1-z", made.place.name)) is None
    assert compute.machines.get_disk(Place("mars-north1-z", made.insert.home_disk)) is None


# The local Compute Engine only


def test_a_machine_is_created_from_its_command_with_the_hubs_labels(local: LocalCompute) -> None:
    """Its home disk outlives it, its metadata is for the boot, and no label identifies a person."""
    made = running(local)
    labels = local.resource(made.place)["labels"]
    assert labels["managed-by"] == "workspace-hub"
    assert labels["hub"] == MACHINE_SETTINGS.installation
    assert labels["workspace"] == made.insert.workspace_id
    assert made.insert.owner_id not in str(labels)
    assert local.disk(disk_of(made.insert))["labels"] == labels

    boot, home = local.resource(made.place)["disks"]
    assert (boot["boot"], boot["autoDelete"]) == (True, True)
    assert (home["deviceName"], home["autoDelete"]) == ("home", False)

    attributes = local.attributes(made.place)
    assert (
        attributes["hub-reports-url"] == f"{REPORTS}/workspaces/{made.insert.workspace_id}/reports"
    )
    assert attributes["hub-audience"] == REPORTS
    assert attributes["hub-image"] == f"{MACHINE_SETTINGS.image_repository}:v2"


def test_an_attached_home_disk_is_the_same_disk(local: LocalCompute) -> None:
    """Compute's id of the disk does not change, so its contents stay."""
    made = running(local)
    before = local.disk(disk_of(made.insert))["id"]
    do(local, DeleteInstance(made.place), replace(made.insert, attach_home=True))
    assert local.disk(disk_of(made.insert))["id"] == before
    home = local.resource(made.place)["disks"][1]
    assert (home["deviceName"], home["autoDelete"]) == ("home", False)


def test_refreshed_metadata_is_that_of_a_new_machine(local: LocalCompute) -> None:
    """This includes boot files.

    Items of an earlier Hub are removed, and other people's items stay.
    """
    made = stopped(local)
    fresh = local.attributes(made.place)
    items = [
        {"key": key, "value": value}
        for key, value in {**OF_ANOTHER_VERSION, **OF_SOMEBODY_ELSE}.items()
    ]
    local.on_loop(
        lambda fleet, _: (
            fleet.instances.get(ZONE, made.place.name).resource["metadata"].update(items=items)
        )
    )
    do(
        local,
        refresh(made.insert, 2, image_tag="v3", workspace_name="two", repo=None, branch="main"),
    )
    assert local.attributes(made.place) == {
        **OF_SOMEBODY_ELSE,
        **fresh,
        "hub-generation": "2",
        "hub-image": f"{MACHINE_SETTINGS.image_repository}:v3",
        "hub-workspace-name": "two",
        "hub-repo": "",
        "hub-branch": "main",
    }


OF_ANOTHER_VERSION = {
    "user-data": "#cloud-config of 0.1",
    "hub-heartbeat-seconds": "1000",
    "hub-gone": "no longer set",
}
OF_SOMEBODY_ELSE = {"ssh-keys": "somebody:ssh-ed25519 AAAA", "hubble": "not ours"}


@pytest.mark.parametrize(
    "name", ["refresh_metadata", "label_instance", "label_disk", "label_snapshot"]
)
def test_of_two_changes_of_the_same_metadata_or_labels_one_is_refused(
    local: LocalCompute, name: str
) -> None:
    """Both read the same fingerprint.

    The later one gets a passing fault, and succeeds when it is repeated.
    """
    command = prepared(local, name)
    local.trouble(Trouble.SLOW, type(command))
    begun = [begin(local, command) for _ in range(2)]
    faults = [ended(local, each, command.place.zone).fault for each in begun]
    assert [fault and fault.kind for fault in faults] == [FaultKind.NOT_READY, None]
    do(local, command)


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        *((each.value, each) for each in InstanceState),
        ("PENDING", S.PROVISIONING),
        ("DEPROVISIONING", S.STOPPING),
        ("STOPPED", S.TERMINATED),
        ("A_STATE_OF_NEXT_YEAR", S.REPAIRING),
    ],
)
def test_every_state_of_compute_is_understood(
    local: LocalCompute, status: str, seen: InstanceState
) -> None:
    """An unknown state counts as a machine that is busy."""
    made = running(local)
    local.on_loop(
        lambda fleet, _: fleet.instances.get(ZONE, made.place.name).resource.update(status=status)
    )
    assert state(local, made.place) is seen


def test_a_snapshot_is_stored_in_its_disks_region(local: LocalCompute) -> None:
    """Its disk is in a zone of that region, and a home says from which snapshot it was made."""
    made = snapshotted(local)
    create = snapshot_of(made.insert)
    snapshot = local.snapshot(create.place.name)
    assert (snapshot["storageLocations"], snapshot["snapshotType"]) == (["us-west1"], "STANDARD")
    assert snapshot["sourceDisk"].endswith(f"/zones/{ZONE}/disks/{made.insert.home_disk}")
    insert = from_snapshot(create)
    do(local, insert)
    source = local.disk(disk_of(insert))["sourceSnapshot"]
    assert source.endswith(f"/projects/{PROJECT}/global/snapshots/{create.place.name}")


@pytest.mark.parametrize(
    ("compute_says", "seen"),
    [
        *((each.value, each) for each in SnapshotStatus),
        ("A_STATUS_OF_NEXT_YEAR", SnapshotStatus.CREATING),
        ("", SnapshotStatus.CREATING),
    ],
)
def test_every_status_of_a_snapshot_is_understood(
    local: LocalCompute, compute_says: str, seen: SnapshotStatus
) -> None:
    """With an unknown one it counts as not captured yet, so it is looked at again."""
    create = snapshot_of(snapshotted(local).insert)
    local.on_loop(
        lambda fleet, _: fleet.snapshots.get(create.place.name).resource.update(status=compute_says)
    )
    assert status(local, create) is seen


@pytest.fixture
def responder() -> Iterator[Responder]:
    """A server whose answers the test sets."""
    responder = Responder()
    yield responder
    responder.close()


def adapter_at(address: str) -> Machines:
    """Return the adapter, connected to this address."""
    from shared.adapters.compute_machines import ComputeMachines

    return ComputeMachines(PROJECT, MACHINE_SETTINGS, REPORTS, address)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(403, "forbidden"), FaultKind.PERMISSION),
        (refusal(403, "quotaExceeded"), FaultKind.QUOTA),
        (refusal(400, "invalid"), FaultKind.INVALID),
        (refusal(400, "a reason of next year"), FaultKind.INVALID),
        (refusal(413, "fieldSizeTooLarge"), FaultKind.INVALID),
        (refusal(404, "notFound"), FaultKind.NOT_FOUND),
        (refusal(409, "alreadyExists"), FaultKind.ALREADY_EXISTS),
        (refusal(412, "conditionNotMet"), FaultKind.POLICY),
        (refusal(503, "ZONE_RESOURCE_POOL_EXHAUSTED"), FaultKind.STOCK_OUT),
        (Answer(400, b"<html>Bad Request</html>"), FaultKind.INVALID),
        (json_answer({"error": {"errors": []}}, 409), FaultKind.NOT_READY),
    ],
)
def test_a_refusal_is_classified_by_its_reason_and_then_by_its_status(
    responder: Responder, answer: Answer, kind: FaultKind
) -> None:
    """The call is made once: a refusal is not retried."""
    responder.answer = answer
    with pytest.raises(MachineFaultError) as refused:
        adapter_at(responder.address).perform(SuspendInstance(an_insert().place), str(uuid.uuid4()))
    assert refused.value.fault.kind is kind
    assert len(responder.requests) == 1


PASSING_ANSWERS = {
    "429": refusal(429, "rateLimitExceeded"),
    "403 too fast": refusal(403, "rateLimitExceeded"),
    "500": refusal(500, "internalError"),
    "502 page": Answer(502, b"<html>Bad Gateway</html>"),
    "503": refusal(503, "backendError"),
    "503 page": Answer(503, b"<html>Service Unavailable</html>"),
    "504": Answer(504),
}


def every_call(machines: Machines) -> dict[str, Callable[[], object]]:
    """Return a call of each method, and of each command."""
    insert = an_insert()
    made = Made(insert, insert.place)
    reads = {
        name: partial(read, machines, insert, StartedCall("operation-1"))
        for name, read in READS.items()
        if name not in ALWAYS_ANSWERED
    } | {"operation of a snapshot": partial(machines.operation, GLOBAL, "operation-1")}
    commands = {
        f"perform {name}": partial(machines.perform, command(made), str(uuid.uuid4()))
        for name, (_, command) in EVERY_COMMAND.items()
    }
    logins = {name: partial(change, machines, insert.place) for name, change in LOGINS.items()}
    return {**reads, **commands, **logins}


@pytest.mark.parametrize("name", PASSING_ANSWERS)
@pytest.mark.usefixtures("hurried")
def test_an_outage_of_compute_is_an_error_in_time(responder: Responder, name: str) -> None:
    """The library would retry for ten minutes."""
    responder.answer = PASSING_ANSWERS[name]
    assert_told_in_time(every_call(adapter_at(responder.address)))


def test_a_call_that_changes_something_is_made_once(responder: Responder) -> None:
    """The queue repeats it later, so no worker waits."""
    responder.answer = PASSING_ANSWERS["503"]
    with pytest.raises(UnavailableError):
        adapter_at(responder.address).perform(SuspendInstance(an_insert().place), str(uuid.uuid4()))
    assert len(responder.requests) == 1


@OF_EVERY_READ
def test_a_forbidden_read_does_not_mean_absence(responder: Responder, name: str) -> None:
    """After a role was removed, machines must not look deleted."""
    responder.answer = refusal(403, "forbidden")
    with pytest.raises(UnavailableError):
        READS[name](adapter_at(responder.address), an_insert(), StartedCall("operation-1"))


@pytest.mark.parametrize("how", ["closed", "silent"])
@pytest.mark.usefixtures("hurried")
def test_a_compute_that_does_not_answer_is_an_error_in_time(how: str) -> None:
    """Each method and each command gives up after the adapter's own timeout."""
    with unanswering(how) as address:
        assert_told_in_time(every_call(adapter_at(address)))


def test_the_last_starts_time_is_read_with_any_offset(
    responder: Responder,
) -> None:
    """Compute writes Pacific time."""
    responder.answer = json_answer(
        {
            "id": "1234567890123456789",
            "name": "workspace-1",
            "zone": f"https://www.googleapis.com/compute/v1/projects/p/zones/{ZONE}",
            "machineType": (
                "https://www.googleapis.com/compute/v1/projects/p"
                f"/zones/{ZONE}/machineTypes/e2-standard-4"
            ),
            "status": "RUNNING",
            "lastStartTimestamp": "2026-03-01T23:30:00.123-08:00",
        }
    )
    found = adapter_at(responder.address).get(Place(ZONE, "workspace-1"))
    assert isinstance(found, Instance)
    assert found.last_started_at is not None
    assert found.last_started_at.timestamp() == pytest.approx(1772436600.123)
    assert (found.labels, found.internal_address) == ({}, None)


def test_a_home_is_never_deleted_with_its_machine(local: LocalCompute) -> None:
    """Somebody may have set ``auto_delete``.

    The disk is changed to stay first, and the delete is repeated.
    """
    made = running(local)
    local.have_home_deleted_with_machine(made.place)

    refused = outcome(local, DeleteInstance(made.place))
    assert refused is not None
    assert refused.kind is FaultKind.NOT_READY
    local.wait_until(
        lambda: not any(disk["autoDelete"] for disk in local.resource(made.place)["disks"][1:])
    )
    do(local, DeleteInstance(made.place))

    assert local.machines.get(made.place) is None
    assert local.machines.get_disk(disk_of(made.insert)) is not None
