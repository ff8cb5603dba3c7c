"""The Hub with fakes: use cases, queues and machines in virtual time, without a cloud."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared import logs
from shared.domain.access import Actor
from shared.domain.errors import (
    InstanceNotRecordedError,
    NotAllowedError,
    ReportNotTakenError,
    TooManyRequestsError,
    UnavailableError,
    WorkspaceNotFoundError,
)
from shared.domain.instance import Place
from shared.domain.job_messages import read_job, write_job
from shared.domain.jobs import Job
from shared.domain.lifecycle import NewConnection, NewMachine, NewWorkspace
from shared.domain.owner_limits import Key
from shared.domain.policy import Policy
from shared.domain.reports import Report
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Metadata, Workspace
from shared.ports import Jobs, Machines, WorkspaceStore
from shared.usecases import deleted_workspaces, manage_snapshots, manage_workspaces
from shared.usecases.advance_operation import advance_operation
from shared.usecases.audit import AuditTrail
from shared.usecases.clean_up import clean_up
from shared.usecases.create_workspace import create_workspace
from shared.usecases.receive_report import receive_report
from shared.usecases.reconcile_fleet import reconcile_fleet
from shared.usecases.records import Records
from shared.usecases.resend_lost_jobs import resend_lost_jobs
from shared.usecases.restore_workspace import restore_workspace
from shared.usecases.seen_machines import SeenMachines
from shared.usecases.sweeping import SweepReport
from tests.fakes.clock import SettableClock
from tests.fakes.interruptions import ProcessDiedError
from tests.fakes.jobs import FakeJobs
from tests.fakes.machines import PROJECT, Durations, FakeInstance, FakeMachines
from tests.fakes.store import MemoryWorkspaceStore

SWEEP_EVERY = timedelta(minutes=2)
REPORTED_FOR = timedelta(minutes=5)  # how long a machine repeats a report that is refused
MOST_EVENTS = 5_000


@dataclass
class World:
    """One Hub.

    A delivery that fails is repeated after ``retry_after``. ``store``, ``machines`` and the queues
    are the fakes; the attributes ``…_port`` are what the use cases get, and may wrap the fakes.
    """

    policy: Policy = field(default_factory=Policy)
    retry_after: timedelta = timedelta(seconds=10)
    clock: SettableClock = field(default_factory=SettableClock)
    store: MemoryWorkspaceStore = field(default_factory=MemoryWorkspaceStore)
    durations: Durations = field(default_factory=Durations)

    def __post_init__(self) -> None:
        """Build the parts that use the clock."""
        self.machines = FakeMachines(self.clock, self.durations)
        self.provisioning = FakeJobs(self.clock, named=False)
        self.operations = FakeJobs(self.clock)
        self.store_port: WorkspaceStore = self.store
        self.machines_port: Machines = self.machines
        self.provisioning_port: Jobs = self.provisioning
        self.operations_port: Jobs = self.operations
        self.pauses: list[float] = []  # the pauses that sweeps made
        self._reports_to_repeat: list[tuple[datetime, datetime, Report]] = []
        self._swept_at = self.clock()

    @property
    def audit(self) -> AuditTrail:
        """The audit trail of a process that has just begun."""
        return AuditTrail(self.store_port, self.clock)

    @property
    def records(self) -> Records:
        """The unit of work of a process that has just begun."""
        return Records(
            self.store_port, lambda: self.operations_port, self.clock, self.audit, self.policy
        )

    # ---- people ----

    def create(
        self,
        owner: str,
        name: str,
        *,
        zone: str | None = None,
        key: Key | None = None,
        from_snapshot: str | None = None,
    ) -> Workspace:
        """Create a workspace, with an empty home or one from a snapshot."""
        new = NewWorkspace(
            name=name,
            machine_type=self.policy.default_machine_type,
            image_tag=self.policy.default_image_tag,
            zone=zone or self.policy.zones[0],
            metadata=Metadata(repo="https://example.com/repo.git"),
            from_snapshot=from_snapshot,
        )
        records = Records(
            self.store_port, lambda: self.provisioning_port, self.clock, self.audit, self.policy
        )
        policy = replace(self.policy, project_id=PROJECT)
        return create_workspace(records, policy, actor(owner), new, key)

    def stop(self, owner: str, workspace_id: str) -> tuple[Workspace, bool]:
        """Ask that it be stopped."""
        return manage_workspaces.stop_workspace(
            self.records, self.policy, actor(owner), workspace_id
        )

    def start(
        self, owner: str, workspace_id: str, machine: NewMachine | None = None
    ) -> tuple[Workspace, bool]:
        """Ask that it be started."""
        return manage_workspaces.start_workspace(
            self.records, self.policy, actor(owner), workspace_id, machine or NewMachine()
        )

    def archive(self, owner: str, workspace_id: str) -> tuple[Workspace, bool]:
        """Ask that it be archived."""
        return manage_workspaces.archive_workspace(
            self.records, self.policy, actor(owner), workspace_id
        )

    def connect(
        self, owner: str, workspace_id: str, connection: NewConnection | None = None
    ) -> manage_workspaces.Reached:
        """Say that they connect, through IAP."""
        connecting = manage_workspaces.Connecting(
            actor(owner), workspace_id, connection or NewConnection()
        )
        return manage_workspaces.connect_workspace(self.records, self.policy, None, connecting)

    def keep_awake(self, owner: str, workspace_id: str, until: datetime | None) -> Workspace:
        """Ask that it be kept awake until a time, or no longer."""
        asked = manage_workspaces.KeepAwake(actor(owner), workspace_id, until)
        return manage_workspaces.keep_workspace_awake(self.records, self.policy, asked)

    def delete(self, owner: str, workspace_id: str, *, purge: bool = False) -> Workspace:
        """Ask that it be deleted, or that nothing of it be kept."""
        return manage_workspaces.delete_workspace(
            self.records, self.policy, actor(owner), workspace_id, purge=purge
        )

    def undelete(self, owner: str, workspace_id: str, name: str | None = None) -> Workspace:
        """Take it back."""
        return deleted_workspaces.undelete(
            self.records, self.policy, actor(owner), workspace_id, name
        )

    def snapshot(
        self, owner: str, workspace_id: str, name: str | None = None
    ) -> tuple[Workspace, bool]:
        """Ask for a snapshot of its home."""
        return manage_snapshots.take_snapshot(
            self.records, self.policy, actor(owner), workspace_id, name
        )

    def restore(self, owner: str, workspace_id: str, snapshot_id: str) -> Workspace:
        """Ask that its home be again what a snapshot has."""
        return restore_workspace(self.records, self.policy, actor(owner), workspace_id, snapshot_id)

    def delete_snapshot(self, owner: str, workspace_id: str, snapshot_id: str) -> Snapshot:
        """Ask that a snapshot be deleted."""
        return manage_snapshots.delete_snapshot(
            self.records, self.policy, actor(owner), workspace_id, snapshot_id
        )

    def look(self, workspace: Workspace) -> manage_workspaces.RealTimeStatus:
        """Ask for its real-time status, of a process that has just begun."""
        seen = SeenMachines(lambda: self.machines_port, self.clock)
        return manage_workspaces.get_workspace_status(
            self.records, seen, actor(workspace.owner_id), workspace.id
        )

    # ---- the platform ----

    def do(self, job: Job) -> None:
        """Deliver a job to the worker, by way of its message."""
        message = read_job(write_job(job))
        with requested_as(message.request_id):
            advance_operation(self.records, self.machines_port, self.policy, message)

    def report(self, report: Report) -> None:
        """Deliver a machine's report to the callback."""
        workspace_id = report.instance_name.removeprefix("workspace-")
        receive_report(self.records, self.policy, workspace_id, report)

    def reconcile(self) -> SweepReport:
        """Run the sweep that resends lost jobs."""
        with requested_as("reconcile"):
            return resend_lost_jobs(self.records, self.policy, self.pauses.append)

    def clean_up(self) -> SweepReport:
        """Run the idle sweep."""
        with requested_as("cleanup"):
            return clean_up(self.records, self.policy, self.pauses.append)

    def reconcile_fleet(self) -> SweepReport:
        """Run the sweep that compares all records with Compute."""
        with requested_as("reconcile-fleet"):
            return reconcile_fleet(
                self.records, self.machines_port, self.policy, pause=self.pauses.append
            )

    # ---- time ----

    def run(
        self, until: Callable[[], bool] | None = None, *, or_until_at_rest: bool = False
    ) -> None:
        """Let time pass until nothing more is to come, or until ``until`` holds.

        Jobs are done when they are due and repeated when they fail, machines repeat their reports,
        and the reconciler runs every two minutes. The clean-up does not run. If nothing more is to
        come before ``until`` holds, that is an error, except with ``or_until_at_rest``.
        """
        for _ in range(MOST_EVENTS):
            if until and until():
                return
            if self._do_something():
                continue
            moment = self._next_moment()
            if moment is None:
                if until and not or_until_at_rest:
                    raise AssertionError(
                        "nothing more is to come, and what the test waits for has not happened"
                    )
                return
            self.clock.advance_to(moment)
        raise AssertionError("the Hub does not come to rest")

    def pass_time(self, by: timedelta) -> None:
        """Let an amount of time pass, with everything that happens in it."""
        end = self.clock() + by
        for _ in range(MOST_EVENTS):
            if self._do_something():
                continue
            moment = self._next_moment()
            if moment is None or moment > end:
                self.clock.advance_to(end)
                return
            self.clock.advance_to(moment)
        raise AssertionError("the Hub does not come to rest")

    def take_reports(self) -> list[Report]:
        """Return the reports of machines since the last call."""
        self.machines.next_event_at()
        taken, self.machines.reports = self.machines.reports, []
        return taken

    def _do_something(self) -> bool:
        """Do one thing that is due now, or return False."""
        now = self.clock()
        for report in self.take_reports():
            self._reports_to_repeat.append((now, now + REPORTED_FOR, report))
        due = [waiting for waiting in self._reports_to_repeat if waiting[0] <= now]
        if due:
            self._reports_to_repeat.remove(due[0])
            self._report(due[0][2], due[0][1])
            return True
        for queue in (self.provisioning, self.operations):
            job = queue.take_due()
            if job is not None:
                self._do(queue, job)
                return True
        if self._sweep_at() is not None and now >= self._swept_at + SWEEP_EVERY:
            self._swept_at = now
            with contextlib.suppress(UnavailableError, ProcessDiedError):
                self.reconcile()
            return True
        return False

    def _do(self, queue: FakeJobs, job: Job) -> None:
        try:
            self.do(job)
        except (UnavailableError, ProcessDiedError):
            queue.bring_again(job, self.retry_after)

    def _report(self, report: Report, give_up_at: datetime) -> None:
        """Report as a machine does: a report that may be accepted later is repeated for a while."""
        try:
            with contextlib.suppress(ReportNotTakenError):
                self.report(report)
        except (
            *(InstanceNotRecordedError, NotAllowedError, TooManyRequestsError, UnavailableError),
            *(WorkspaceNotFoundError, ProcessDiedError),
        ):
            there = self.machines.find(report.instance_id)
            again_at = self.clock() + self.retry_after
            if there is not None and again_at < give_up_at:
                self._reports_to_repeat.append(
                    (again_at, give_up_at, replace(report, generation=there.generation))
                )

    def _next_moment(self) -> datetime | None:
        """Return when the next thing happens, or None if nothing more is to come."""
        moments = [at for at, _, _ in self._reports_to_repeat]
        moments += [
            at for at in (self.provisioning.next_due_at(), self.operations.next_due_at()) if at
        ]
        sweep_at = self._sweep_at()
        if sweep_at:
            moments.append(max(sweep_at, self._swept_at + SWEEP_EVERY))
        event_at = self.machines.next_event_at()
        if event_at and (moments or self.machines.moving):
            moments.append(event_at)
        return min(moments, default=None)

    def _sweep_at(self) -> datetime | None:
        due = [ws.attend_at for ws in self.store.workspaces.values()]
        due += [snapshot.attend_at for snapshot in self.store.snapshots.values()]
        return min((at for at in due if at), default=None)

    @property
    def at_rest(self) -> bool:
        """Whether no job, report or sweep is to come, and no machine is changing."""
        return self._next_moment() is None and not self.machines.reports

    # ---- state ----

    def workspace(self, workspace_id: str) -> Workspace:
        """Return the record, which must exist."""
        return self.store.workspaces[workspace_id]

    def machine(self, workspace: Workspace) -> FakeInstance | None:
        """Return the workspace's machine in its zone, or None."""
        return self.machines.instances.get(place_of(workspace))

    def ready(self, owner: str = "alice", name: str = "one") -> Workspace:
        """Return a new workspace that has become READY."""
        made = self.create(owner, name)
        self.run()
        return self.workspace(made.id)


@contextlib.contextmanager
def requested_as(request_id: str) -> Iterator[None]:
    """Run the block as a request with this id, as the HTTP edge does."""
    token = logs.request_id.set(request_id)
    try:
        yield
    finally:
        logs.request_id.reset(token)


def actor(owner: str) -> Actor:
    """Return a person as an actor."""
    return Actor(owner, "a-request", f"{owner}@example.com")


def suspended(world: World) -> Workspace:
    """Return a suspended workspace of alice's."""
    workspace = world.ready()
    world.stop("alice", workspace.id)
    world.run()
    return world.workspace(workspace.id)


def shut_down_by_hand(world: World) -> Workspace:
    """Return a workspace that has adopted that its machine was shut down outside the Hub."""
    workspace = world.ready()
    world.machines.stop_by_hand(place_of(workspace))
    world.pass_time(timedelta(minutes=5))
    world.look(workspace)
    world.run()
    return world.workspace(workspace.id)


def place_of(workspace: Workspace) -> Place:
    """Return the place of a workspace's machine."""
    return Place(workspace.zone, workspace.instance_name)
