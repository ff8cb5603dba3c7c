"""A fleet of any size beside its records, in virtual time: each call of the store takes time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

from shared.domain.instance import (
    Command,
    Disk,
    DiskSnapshot,
    Instance,
    InstanceState,
    LabelInstance,
    Place,
    StartedCall,
    StopInstance,
)
from shared.domain.ownership import labels_of
from shared.domain.policy import Policy
from shared.domain.workspace import OwnedWorkspace, Owner, Status, Workspace
from shared.usecases.audit import AuditTrail
from shared.usecases.reconcile_fleet import TIME_BUDGET, reconcile_fleet
from shared.usecases.records import Records
from shared.usecases.sweeping import SweepReport
from tests.fakes.clock import BEGINNING, SettableClock
from tests.fakes.jobs import FakeJobs
from tests.fakes.machines import INSTALLATION, FakeMachines
from tests.fakes.records import a_home, a_workspace, an_instance
from tests.fakes.store import MemoryWorkspaceStore

PER_OWNER = 4
LIST_PAGE = 500  # what Compute has in a page of a list
MADE_AT = BEGINNING - timedelta(days=2)

T = TypeVar("T")


@dataclass(frozen=True)
class Costs:
    """How long calls take: of the store, for each record in one, of Compute, for a list's page."""

    store: timedelta = timedelta(milliseconds=8)
    record: timedelta = timedelta(milliseconds=0.2)
    compute: timedelta = timedelta(milliseconds=100)
    page: timedelta = timedelta(seconds=1)


@dataclass
class Run:
    """One run: how long it took, the calls by method, and how often each record was read."""

    report: SweepReport
    seconds: float
    calls: Counter[str]
    records_read: Counter[str]


class LargeFleet:
    """Workspaces with their machines and disks, all in agreement until a test changes them.

    Half of them are ready, and half suspended.
    """

    def __init__(self, size: int, costs: Costs | None = None) -> None:
        self.costs = costs or Costs()
        self.clock = SettableClock()
        self.store = MemoryWorkspaceStore()
        self.machines = ListedMachines(self.clock, self.costs)
        self.workspaces = [
            a_workspace(
                Status.READY if number % 2 else Status.SUSPENDED,
                owner_id=f"owner-{number // PER_OWNER:06}",
                name=f"w-{number}",
                machine_made_at=MADE_AT,
            )
            for number in range(size)
        ]
        self.store.put(*self.workspaces)
        for first in range(0, size, PER_OWNER):
            self.put_owner(self.workspaces[first : first + PER_OWNER])
        for workspace in self.workspaces:
            self.machines.put(*resources_of(workspace))

    def put_owner(self, held: Sequence[Workspace]) -> None:
        """Write the record of an owner who holds these workspaces."""
        owned = {each.id: OwnedWorkspace(each.name, each.counts_as_running) for each in held}
        self.store.put_owner(Owner(held[0].owner_id, workspaces=owned))

    @property
    def ready(self) -> list[Workspace]:
        """The half that was made ready."""
        return self.workspaces[1::2]

    @property
    def suspended(self) -> list[Workspace]:
        """The half that was made suspended."""
        return self.workspaces[::2]

    def lose_records(self, workspaces: Sequence[Workspace]) -> None:
        """Delete the records of workspaces, but not what their owners hold."""
        for workspace in workspaces:
            self.store.commit(workspaces=[(self.store.get(workspace.id), None)])

    def lose_labels(self, workspaces: Sequence[Workspace]) -> None:
        """Leave machines no label but the installation's."""
        for workspace in workspaces:
            machine, *_ = resources_of(workspace)
            self.machines.put(replace(machine, labels={"hub": INSTALLATION}))

    def stop(self, workspaces: Sequence[Workspace]) -> None:
        """Shut machines down outside the Hub."""
        for workspace in workspaces:
            machine, *_ = resources_of(workspace)
            self.machines.put(replace(machine, state=InstanceState.TERMINATED))

    def reconcile(self, budget: timedelta = TIME_BUDGET, store: TimedStore | None = None) -> Run:
        """Run the reconciler once; afterwards it is an hour after its beginning."""
        store = store or TimedStore(self.store, self.clock, self.costs)
        began = self.clock()
        port: Any = store
        records = Records(
            port, lambda: FakeJobs(self.clock), self.clock, AuditTrail(port, self.clock), Policy()
        )
        before = Counter(self.machines.reads)
        report = reconcile_fleet(
            records,
            self.machines,
            Policy(),
            budget,
            lambda seconds: self.clock.advance(timedelta(seconds=seconds)),
        )
        seconds = (self.clock() - began).total_seconds()
        calls = store.calls + (self.machines.reads - before)
        self.clock.advance_to(began + timedelta(hours=1))
        return Run(report, seconds, calls, store.records_read)


def resources_of(workspace: Workspace) -> tuple[Instance, Disk, Disk]:
    """Return a workspace's machine, its home and its boot disk, as they should be."""
    labels = {**labels_of(workspace.id, workspace.owner_id), "hub": INSTALLATION}
    state = InstanceState.RUNNING if workspace.status is Status.READY else InstanceState.SUSPENDED
    machine = an_instance(workspace, state, labels=labels, created_at=MADE_AT)
    home = a_home(workspace, labels=labels, created_at=MADE_AT, users=(machine.name,))
    boot = replace(home, name=f"{machine.name}-{workspace.generation}")
    return machine, home, boot


class ListedMachines(FakeMachines):
    """Machines, disks and snapshots that are as they were put.

    Machines can be stopped, and labelled again.
    """

    def __init__(self, clock: SettableClock, costs: Costs) -> None:
        super().__init__(clock)
        self._settable, self._costs = clock, costs
        self.listed: dict[Place, Instance] = {}
        self.listed_disks: dict[Place, Disk] = {}
        self.listed_snapshots: dict[str, DiskSnapshot] = {}

    def put(self, *resources: Instance | Disk | DiskSnapshot) -> None:
        """Set machines, disks and snapshots, whether they existed before or not."""
        for each in resources:
            if isinstance(each, Instance):
                self.listed[Place(each.zone, each.name)] = each
            elif isinstance(each, DiskSnapshot):
                self.listed_snapshots[each.name] = each
            else:
                self.listed_disks[Place(each.zone, each.name)] = each

    def get(self, place: Place) -> Instance | None:
        """See the port."""
        self._spend("get", self._costs.compute)
        return self.listed.get(place)

    def get_disk(self, place: Place) -> Disk | None:
        """See the port."""
        self._spend("get_disk", self._costs.compute)
        return self.listed_disks.get(place)

    def get_snapshot(self, name: str) -> DiskSnapshot | None:
        """See the port."""
        self._spend("get_snapshot", self._costs.compute)
        return self.listed_snapshots.get(name)

    def list_snapshots(self) -> Iterator[DiskSnapshot]:
        """See the port."""
        return self._pages("list_snapshots", self.listed_snapshots)

    def list_instances(self) -> Iterator[Instance]:
        """See the port."""
        return self._pages("list_instances", self.listed)

    def list_disks(self) -> Iterator[Disk]:
        """See the port."""
        return self._pages("list_disks", self.listed_disks)

    def find_instances(self, workspace_id: str) -> Sequence[Instance]:
        """See the port."""
        self._spend("find_instances", 2 * self._costs.compute)
        name = f"workspace-{workspace_id}"
        return [each for place, each in self.listed.items() if place.name == name]

    def perform(self, command: Command, request_id: str) -> StartedCall:
        """See the port."""
        self._spend("perform", self._costs.compute)
        self.calls.append((command, request_id))
        machine = self.listed.get(command.place)
        if isinstance(command, LabelInstance) and machine is not None:
            ours = labels_of(command.workspace_id, command.owner_id)
            self.put(replace(machine, labels={**machine.labels, **ours}))
        elif isinstance(command, StopInstance) and machine is not None:
            now = self._settable()
            self.put(replace(machine, state=InstanceState.TERMINATED, off_since=now))
        return StartedCall("an-operation")

    def _pages(self, method: str, listed: Mapping[Any, T]) -> Iterator[T]:
        for number, each in enumerate(list(listed.values())):
            if number % LIST_PAGE == 0:
                self._spend(method, self._costs.page)
            yield each

    def _spend(self, method: str, cost: timedelta) -> None:
        self.reads[method] += 1
        self._settable.advance(cost)


@dataclass
class TimedStore:
    """A store of which each call takes time, and is counted with the records that it returns."""

    store: MemoryWorkspaceStore
    clock: SettableClock
    costs: Costs
    calls: Counter[str] = field(default_factory=Counter)
    records_read: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        called = getattr(self.store, method)

        def timed(*args: Any, **options: Any) -> Any:
            answer = called(*args, **options)
            found = getattr(answer, "records", answer if isinstance(answer, list) else [answer])
            records = [getattr(each, "record", each) for each in found]
            workspaces = [each.id for each in records if isinstance(each, Workspace)]
            self.calls[method] += 1
            self.records_read.update(workspaces)
            self.clock.advance(self.costs.store + self.costs.record * len(found))
            return answer

        return timed
