"""Random people, machines, deliveries and faults: the invariants, and the ways out.

The use cases run on the fakes. By default the same few hundred stories are played each time;
``LIFECYCLE_EXAMPLES=5000`` plays that many new ones.
"""

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.domain.drift import has_drifted
from shared.domain.errors import HubError, NameTakenError
from shared.domain.instance import (
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    FaultKind,
    InsertInstance,
    Place,
    RefreshMetadata,
    ResizeDisk,
    ResumeInstance,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.jobs import Job
from shared.domain.lifecycle import NewConnection, NewMachine
from shared.domain.owner_limits import Key
from shared.domain.policy import Limits, Policy
from shared.domain.reports import Report, ReportEvent
from shared.domain.workspace import NO_NAME, OperationKind, Phase, Status, Workspace
from shared.usecases import records
from tests.fakes.interruptions import Interruptions, Moment, ProcessDiedError
from tests.fakes.machines import HOME_GB, FakeInstance, GuestMishap, Mishap
from tests.fakes.records import a_snapshot
from tests.fakes.store import MemoryWorkspaceStore
from tests.fakes.world import World, place_of

MORE_EXAMPLES = int(os.environ.get("LIFECYCLE_EXAMPLES", "0"))
POLICY = Policy(
    limits=Limits(workspaces=3, running=2),
    archive_after=timedelta(minutes=20),
    archive_notice=timedelta(minutes=5),
)
NO_LIMITS = replace(POLICY, limits=Limits(workspaces=3, running=3), changes_per_minute=1000)
OWNERS = ("alice", "bob")
NAMES = ("one", "two", "three", "four")
Calls = list[tuple[type[Command], ...]]
_SUSPENDS: Calls = [(SuspendInstance,), (SuspendInstance, StopInstance)]
_BOOTS: Calls = [
    (RefreshMetadata, StartInstance, ResumeInstance),
    (StopInstance,),
    (InsertInstance,),
]
_DELETES: Calls = [(DeleteInstance, DeleteDisk)]
# The calls that may fail when a person asks for something, grouped if they fail together.
CALLS: dict[str, Calls] = {
    "look": [(InsertInstance,)],
    "stop": _SUSPENDS,
    "start": _BOOTS,
    "start as two": _BOOTS,
    "get in": _BOOTS,
    "ask the way": [(InsertInstance,)],
    "change image": [*_DELETES, (InsertInstance,)],
    "change type": [*_DELETES, (InsertInstance,)],
    "grow": [(ResizeDisk,), *_DELETES, (InsertInstance,)],
    "restore": [(CreateSnapshot,), *_DELETES, (InsertInstance,)],
    "archive": [(StopInstance,), (CreateSnapshot,), *_DELETES],
    "delete": _DELETES,
    "purge": _DELETES,
}
FAULTS = [
    FaultKind.STOCK_OUT,
    FaultKind.QUOTA,
    FaultKind.PERMISSION,
    FaultKind.INVALID,
    FaultKind.UNSUPPORTED,
    FaultKind.NOT_READY,
    FaultKind.TRANSIENT,
]
OF_CAPACITY = {FaultKind.STOCK_OUT, FaultKind.QUOTA}  # only calls that need capacity get these
NEED_CAPACITY = {InsertInstance, StartInstance, ResumeInstance}
VERBS = (
    *("stop", "stop", "start", "start", "start as two", "get in", "ask the way"),
    *("change image", "change type", "look", "delete", "restore", "archive", "archive", "purge"),
    "grow",
)
PAUSES = (0, 2, 15, 60, 60, 300, 1000)
indexes = st.integers(0, 50)


class Lifecycle(RuleBasedStateMachine):
    """Two people with up to three workspaces each, of which two may run, and random events."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: dict[str, str] = {}  # of every workspace that ever existed
        self.forgotten: set[str] = set()
        self.nameless: set[str] = set()  # whose name a DELETE has freed, and no START taken again
        self.by_hand: set[str] = set()
        self.sizes: dict[str, int] = {}  # of every home at the last rest, in GB
        self.violation: AssertionError | None = None
        self.reporting: Report | None = None
        self.reported: list[Report] = []
        self.interruptions = Interruptions()
        self.world = World(policy=POLICY, store=MemoryWorkspaceStore(watch=self.watch))
        self.world.store_port = self.interruptions.around("store", self.world.store)
        self.world.machines_port = self.interruptions.around("machines", self.world.machines)
        self.world.provisioning_port = self.interruptions.around(
            "provisioning", self.world.provisioning
        )
        self.world.operations_port = self.interruptions.around("operations", self.world.operations)
        numbers = itertools.count(1)
        self.patches: list[Any] = [
            mock.patch.object(records, "PAUSE_SECONDS", 0),
            # A story must go the same way each time it is played. Both halves of an id differ from
            # any other's: a snapshot's name has only the second one of its operation.
            mock.patch.object(
                uuid,
                "uuid4",
                side_effect=lambda: uuid.UUID(int=next(numbers) * (2**64 + 1), version=4),
            ),
            mock.patch.object(self.world, "report", self.record_reports(self.world.report)),
        ]
        for patch in self.patches:
            patch.start()

    # ---- what must hold at every commit ----

    def watch(self, before: Workspace | None, after: Workspace | None) -> None:
        """Check a change of a record and keep the error: a sweep catches what is raised here."""
        try:
            self.check_change(before, after)
        except AssertionError as error:
            self.violation = error
            raise

    @invariant()
    def every_change_is_legal(self) -> None:
        """Raise the error that ``watch`` has kept."""
        if self.violation:
            raise self.violation

    def check_change(self, before: Workspace | None, after: Workspace | None) -> None:
        """Check a change of a record against the rules for every change."""
        if before is None:
            assert after is not None
            assert after.id not in self.forgotten, "a forgotten workspace came back"
            assert after.status is Status.PROVISIONING
            self.owners[after.id] = after.owner_id
            return
        was = before.operation
        if after is None:
            assert was is not None
            assert (was.kind, was.phase) == (OperationKind.DELETE, Phase.FORGET), (
                "it was forgotten before it was deleted"
            )
            self.forgotten.add(before.id)
            return
        now = after.operation
        for unchanging in ("id", "owner_id", "instance_name", "created_at", "project_id"):
            assert getattr(after, unchanging) == getattr(before, unchanging)
        begins = now.kind if now is not None and (was is None or was.id != now.id) else None
        if after.name != before.name:
            assert begins is OperationKind.START or now is None, "no START, and another name"
        if begins is OperationKind.DELETE:
            self.nameless.add(before.id)
        elif begins in {OperationKind.START, OperationKind.RESTORE} or after.name != before.name:
            self.nameless.discard(before.id)
        assert after.status in set(Status)
        assert after.generation >= before.generation, "the generation went down"
        assert after.last_connected_at >= before.last_connected_at
        assert after.updated_at >= before.updated_at
        deleting = after.operation is not None and after.operation.kind is OperationKind.DELETE
        if after.status is Status.READY and not deleting:
            assert after.memory_is_ready, "READY without the current boot's report"
        if after.ready_generation not in {before.ready_generation, None}:
            assert self.reporting is not None, "ready_generation changed without a report"
            assert self.reporting.event is ReportEvent.READY
            assert self.reporting.generation == after.generation == after.ready_generation
            assert self.reporting.instance_id == after.instance_id
        if now is not None:
            assert after.attend_at is not None, "nobody would ever resend this operation's job"
        if was is not None and now is not None:
            if was.id == now.id:
                assert now.step >= was.step, "the step went down"
                assert now.kind is was.kind
            else:
                called_off = (was.kind, now.kind) == (OperationKind.ARCHIVE, OperationKind.START)
                assert called_off or now.kind is OperationKind.DELETE, (
                    "only a DELETE may supersede an operation, and a START an ARCHIVE"
                )
                assert was.kind is not OperationKind.DELETE
        if was is not None and was.kind is OperationKind.DELETE and now is None:
            assert after.status is Status.ERROR, "a DELETE ended without deletion and without error"

    @invariant()
    def owners_agree_with_the_workspaces(self) -> None:
        """Compare the owners' documents with the workspaces: quota, rate, names and what runs."""
        existing = self.world.store.workspaces
        for owner_id, owner in self.world.store.owners.items():
            theirs = {
                ws.id: NO_NAME if ws.id in self.nameless else ws.name
                for ws in existing.values()
                if ws.owner_id == owner_id
            }
            assert {held_id: held.name for held_id, held in owner.workspaces.items()} == theirs
            runs = {
                ws.id: ws.counts_as_running for ws in existing.values() if ws.owner_id == owner_id
            }
            assert {held_id: held.running for held_id, held in owner.workspaces.items()} == runs
            assert len(owner.recent) <= self.world.policy.changes_per_minute
            assert len(theirs) <= POLICY.limits.workspaces
            names = [name for name in theirs.values() if name != NO_NAME]
            assert len(set(names)) == len(names), "two workspaces of one owner have one name"

    @invariant()
    def records_and_machines_agree_at_rest(self) -> None:
        """When nothing is queued or changing, records and machines agree and nothing is left."""
        if self.world.at_rest:
            self.check_rest()

    # ---- what happens ----

    @initialize(seconds=st.sampled_from([0, 60]), stopped=st.booleans())
    def have_one(self, seconds: int, stopped: bool) -> None:
        """Start with a new, ready or suspended workspace, so that most rules can apply."""
        workspace = self.world.create("alice", "one")
        self.world.pass_time(timedelta(seconds=seconds))
        if seconds and stopped:
            self.world.stop("alice", workspace.id)
            self.world.pass_time(timedelta(seconds=seconds))

    @precondition(lambda self: len(self.world.store.workspaces) < 4)
    @rule(
        owner=st.sampled_from(OWNERS),
        name=st.sampled_from(NAMES),
        key=st.sampled_from([None, "k1", "k2"]),
        seconds=st.sampled_from(PAUSES),
    )
    def create(self, owner: str, name: str, key: str | None, seconds: int) -> None:
        """A person creates a workspace, perhaps with a key used before, and perhaps waits."""
        with suppress(HubError), self.within_running_limit(owner):
            self.world.create(owner, name, key=Key(key, name) if key else None)
        self.let_time_pass(seconds)

    @precondition(lambda self: self.world.store.workspaces)
    @rule(nth=indexes, verb=st.sampled_from(VERBS), seconds=st.sampled_from(PAUSES))
    def ask_for(self, nth: int, verb: str, seconds: int) -> None:
        """A person stops, starts, changes or deletes a workspace, and perhaps waits."""
        self.ask(nth, verb)
        self.let_time_pass(seconds)

    @precondition(lambda self: self.world.store.workspaces)
    @rule(
        nth=indexes,
        verb=st.sampled_from(VERBS),
        seconds=st.sampled_from(PAUSES),
        nth_calls=indexes,
        fault=st.tuples(
            st.sampled_from([*Mishap, Mishap.REFUSED, Mishap.FAILS_LATER]),
            st.sampled_from(FAULTS),
            st.sampled_from([1, 2, 30]),
        ),
    )
    def ask_while_calls_go_wrong(
        self,
        nth: int,
        verb: str,
        seconds: int,
        nth_calls: int,
        fault: tuple[Mishap, FaultKind, int],
    ) -> None:
        """A person asks for something, and Compute's calls for it fail."""
        mishap, kind, times = fault
        if mishap is Mishap.REFUSED and kind is FaultKind.TRANSIENT:
            mishap = Mishap.UNANSWERED  # this is how the adapter reports it
        for command in CALLS[verb][nth_calls % len(CALLS[verb])]:
            said = (
                kind
                if command in NEED_CAPACITY or kind not in OF_CAPACITY
                else FaultKind.PERMISSION
            )
            self.world.machines.script(command, mishap, said, times=times)
        self.ask(nth, verb)
        self.let_time_pass(seconds)

    @rule(seconds=st.sampled_from(PAUSES))
    def let_time_pass(self, seconds: int) -> None:
        """Everything that is due within a while happens."""
        self.world.pass_time(timedelta(seconds=seconds))

    @rule(seconds=st.sampled_from([5, 30, 300, 1000, 5000]), sweeps=st.booleans())
    def pass_time_without_deliveries(self, seconds: int, sweeps: bool) -> None:
        """Time passes without deliveries; then perhaps the sweeps run before anything else."""
        self.world.clock.advance(timedelta(seconds=seconds))
        if sweeps:
            self.world.reconcile()
            self.world.clean_up()

    @precondition(lambda self: self.queue)
    @rule(nth=indexes)
    def deliver(self, nth: int) -> None:
        """A job is delivered, in its turn or not."""
        self.deliver_job(self.take(nth))

    @precondition(lambda self: self.world.operations.delivered or self.world.provisioning.delivered)
    @rule(nth=indexes)
    def deliver_again(self, nth: int) -> None:
        """A job that was delivered before is delivered again, perhaps much later."""
        delivered = [
            *reversed(self.world.operations.delivered),
            *reversed(self.world.provisioning.delivered),
        ]
        self.deliver_job(delivered[nth % len(delivered)])

    @precondition(lambda self: self.queue)
    @rule(nth=indexes)
    def lose_job(self, nth: int) -> None:
        """A job is lost for good."""
        self.take(nth)

    @precondition(lambda self: self.queue)
    @rule(nth=indexes, call=st.integers(0, 6), moment=st.sampled_from(Moment), lost=st.booleans())
    def deliver_to_a_dying_process(self, nth: int, call: int, moment: Moment, lost: bool) -> None:
        """The worker dies during a job, which is delivered again unless it was the last attempt."""
        job = self.take(nth)
        self.interruptions.interrupt(call, moment)
        try:
            self.deliver_job(job)
        except ProcessDiedError:
            if not lost:
                self.world.operations.bring_again(job, timedelta(seconds=30))
        self.interruptions.forget()

    @precondition(lambda self: self.queue)
    @rule(
        nth=indexes,
        early=st.booleans(),
        meanwhile=st.sampled_from(
            ["same job", "delete", "start", "stop", "heartbeat", "archive", "nothing"]
        ),
        seconds=st.sampled_from([0, 3, 20]),
    )
    def deliver_while_something_else_happens(
        self, nth: int, early: bool, meanwhile: str, seconds: int
    ) -> None:
        """While the worker calls Compute, something happens to the workspace and time passes."""
        job = self.take(nth)

        def happens() -> None:
            workspace = self.world.store.workspaces.get(job.workspace_id)
            if meanwhile == "same job":
                self.deliver_job(job)
            elif workspace:
                self.ask_of(workspace, meanwhile)
            self.let_time_pass(seconds)

        if early:
            self.world.machines.before_call = happens
        else:
            self.world.machines.after_call = happens
        self.deliver_job(job)
        self.world.machines.before_call = self.world.machines.after_call = None

    @precondition(lambda self: self.machines)
    @rule(nth=indexes, event=st.sampled_from(ReportEvent), behind=st.sampled_from([0, 0, 0, 1]))
    def report(self, nth: int, event: ReportEvent, behind: int) -> None:
        """A machine that is up reports, perhaps about an earlier boot."""
        machine = self.machines[nth % len(self.machines)]
        if machine.reported and machine.state.value == "RUNNING":
            report = machine.report(
                event, *(("BROKEN", "It broke.") if event is ReportEvent.FAILED else ())
            )
            if event is not ReportEvent.READY or behind:  # the world sends each machine's own READY
                self.send_report(replace(report, generation=report.generation - behind))

    @precondition(lambda self: self.reported)
    @rule(nth=indexes)
    def report_again(self, nth: int) -> None:
        """A report that was delivered before is delivered again."""
        self.send_report(self.reported[-1 - nth % len(self.reported)])

    @precondition(lambda self: self.world.store.workspaces)
    @rule(
        what=st.sampled_from(
            ["never ready", "fails at boot", "compute away", "no tasks", "no messages"]
        ),
        nth=indexes,
        verb=st.sampled_from(VERBS),
        seconds=st.sampled_from(PAUSES),
    )
    def ask_during_an_outage(self, what: str, nth: int, verb: str, seconds: int) -> None:
        """A person asks while a boot fails, Compute does not answer, or a queue refuses jobs."""
        match what:
            case "never ready":
                self.world.machines.script_boot(GuestMishap.NEVER_READY)
            case "fails at boot":
                self.world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
            case "compute away":
                self.world.machines.unanswered_reads += 3
            case "no tasks":
                self.world.operations.refusals += 1
            case "no messages":
                self.world.provisioning.refusals += 1
        self.ask(nth, verb)
        self.let_time_pass(seconds)

    @precondition(lambda self: self.machines)
    @rule(
        nth=indexes,
        what=st.sampled_from(["delete", "stop", "suspend", "start", "fail"]),
        pause=st.sampled_from(PAUSES),
        verb=st.sampled_from(["nothing", *VERBS]),
        seconds=st.sampled_from(PAUSES),
    )
    def somebody_else_touches_the_machine(
        self, nth: int, what: str, pause: int, verb: str, seconds: int
    ) -> None:
        """Somebody changes a machine outside the Hub, or its host fails; then its owner asks."""
        machine = self.machines[nth % len(self.machines)]
        workspace_id = machine.command.workspace_id
        self.by_hand.add(workspace_id)
        fleet = self.world.machines
        {
            "delete": fleet.delete_by_hand,
            "stop": fleet.stop_by_hand,
            "suspend": fleet.suspend_by_hand,
            "start": fleet.start_by_hand,
            "fail": fleet.fail_host,
        }[what](machine.place)
        self.let_time_pass(pause)
        workspace = self.world.store.workspaces.get(workspace_id)
        if workspace:
            self.ask_of(workspace, "look")
            self.let_time_pass(2)
            self.ask_of(workspace, verb)
            self.let_time_pass(seconds)

    @precondition(lambda self: self.world.store.workspaces)
    @rule(
        nth=indexes,
        seconds=st.sampled_from(PAUSES),
        again=st.booleans(),
        verb=st.sampled_from(VERBS),
    )
    def fail_to_delete(self, nth: int, seconds: int, again: bool, verb: str) -> None:
        """A DELETE fails, somebody may take its name, and then its owner asks for something."""
        existing = list(self.world.store.workspaces.values())
        workspace = existing[nth % len(existing)]
        self.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.PERMISSION, times=1000)
        self.ask_of(workspace, "delete")
        self.let_time_pass(2000)
        self.world.machines.calm()
        if again:
            with suppress(HubError), self.within_running_limit(workspace.owner_id):
                self.world.create(workspace.owner_id, workspace.name)
        if workspace.id in self.world.store.workspaces:
            self.ask_of(self.world.workspace(workspace.id), verb)
        self.let_time_pass(seconds)

    # ---- the end ----

    def teardown(self) -> None:
        """Without faults, check the state at rest, then start and delete each workspace."""
        try:
            self.world.machines.calm()
            self.world.operations.refusals = self.world.provisioning.refusals = 0
            self.world.run()
            self.check_rest()
            for workspace in self.world.store.workspaces.values():
                self.world.look(workspace)
            self.world.run()
            for workspace in self.world.store.workspaces.values():
                assert not self.has_drifted(workspace), "the record does not agree with the machine"
            self.check_way_out_by_start()
            self.check_way_out_by_delete()
            self.owners_agree_with_the_workspaces()
        finally:
            for patch in self.patches:
                patch.stop()

    def check_rest(self) -> None:
        """Check that no operation runs, and that records agree with untouched machines."""
        for workspace in self.world.store.workspaces.values():
            assert workspace.operation is None
            assert workspace.machine_key in {None, f"ssh-ed25519 {workspace.instance_id}"}
            assert workspace.machine_key or not workspace.memory_is_ready
            held = self.world.store.owners[workspace.owner_id].workspaces[workspace.id]
            assert held.running == workspace.counts_as_running
            assert workspace.status is not Status.PROVISIONING
            if workspace.id not in self.by_hand:
                assert not self.has_drifted(workspace), "the record does not agree with the machine"
        self.check_sizes()
        self.check_nothing_left()

    def check_sizes(self) -> None:
        """Check that no home is smaller than before, or than its workspace says."""
        for workspace in self.world.store.workspaces.values():
            home = Place(workspace.zone, workspace.disk_name)
            if self.world.machines.peek_disk(home) is None:
                continue
            size = self.world.machines.disk_gb(home)
            said = workspace.home_gb or 0
            assert size >= max(said, self.sizes.get(workspace.id, 0)), "a home has become smaller"
            self.sizes[workspace.id] = size

    def check_nothing_left(self) -> None:
        """Check that each machine and disk belongs to a workspace and is in its place."""
        existing = self.world.store.workspaces.values()
        assert set(self.world.machines.instances) <= {place_of(ws) for ws in existing}, (
            "a machine was left over"
        )
        assert self.world.machines.disks <= {
            *(replace(place_of(ws), name=ws.disk_name) for ws in existing),
            *(Place(old.zone, old.name) for ws in existing for old in ws.old_homes),
        }, "a disk was left over"

    def check_way_out_by_start(self) -> None:
        """Check that each workspace, without limits, can be started and is then as recorded."""
        self.world.policy = NO_LIMITS
        for workspace in self.world.store.workspaces.values():
            try:
                self.world.start(workspace.owner_id, workspace.id)
            except NameTakenError:
                assert workspace.id in self.nameless
                another = NewMachine(name=f"not-{workspace.id}")
                self.world.start(workspace.owner_id, workspace.id, another)
        self.world.run()
        for workspace in self.world.store.workspaces.values():
            assert (workspace.status, workspace.operation) == (Status.READY, None)
            # A STOP, a RESTORE, an ARCHIVE or a growth that failed left the machine usable: START
            # changes nothing, also not the error.
            failed = workspace.error.operation_kind if workspace.error else None
            leave = {OperationKind.START, OperationKind.STOP, OperationKind.RESTORE}
            leave |= {OperationKind.ARCHIVE}
            assert failed in {None, *leave}
            machine = self.world.machine(workspace)
            assert machine is not None
            assert machine.reported
            assert not self.has_drifted(workspace)
            made_of = (machine.command.image_tag, machine.command.machine_type)
            assert made_of == (workspace.image_tag, workspace.machine_type), (
                "the machine is not the one that was asked for"
            )
            assert machine.id == workspace.instance_id

    def check_way_out_by_delete(self) -> None:
        """Check that each workspace can be deleted, and that nothing of it is left.

        Compute takes six snapshots of a disk in an hour, and an ARCHIVE may have used them up.
        """
        self.world.clock.advance(timedelta(hours=1))
        for workspace in self.world.store.workspaces.values():
            self.world.delete(workspace.owner_id, workspace.id)
        self.world.run()
        assert not self.world.store.workspaces
        assert not any(owner.workspaces for owner in self.world.store.owners.values())
        self.check_nothing_left()

    # ---- helpers ----

    @property
    def queue(self) -> list[Any]:
        """All deliveries to come, the next one first."""
        waiting = [*self.world.provisioning.waiting, *self.world.operations.waiting]
        return sorted(waiting, key=lambda delivery: delivery.due_at)

    @property
    def machines(self) -> list[FakeInstance]:
        """All machines that exist."""
        return list(self.world.machines.instances.values())

    def ask(self, nth: int, verb: str) -> None:
        """Ask for something on one of the workspaces; the Hub may refuse it."""
        existing = list(self.world.store.workspaces.values())
        self.ask_of(existing[nth % len(existing)], verb)

    def ask_of(self, workspace: Workspace, verb: str) -> None:
        """Ask for something on a workspace, or let its machine report a connection."""
        owner, workspace_id = workspace.owner_id, workspace.id
        machine = self.world.machine(workspace)
        with suppress(HubError), self.within_running_limit(owner):
            match verb:
                case "look":
                    self.world.look(workspace)
                case "stop":
                    self.world.stop(owner, workspace_id)
                case "start":
                    self.world.start(owner, workspace_id)
                case "start as two":
                    self.world.start(owner, workspace_id, NewMachine(name=NAMES[1]))
                case "get in":
                    self.world.connect(owner, workspace_id, NewConnection("phone", start=True))
                case "ask the way":
                    self.world.connect(owner, workspace_id, NewConnection("desk"))
                case "change image":
                    self.world.start(
                        owner, workspace_id, NewMachine(image_tag=f"v{workspace.generation}")
                    )
                case "change type":
                    machine_type = POLICY.machine_types[
                        workspace.machine_type == POLICY.machine_types[0]
                    ]
                    self.world.start(owner, workspace_id, NewMachine(machine_type=machine_type))
                case "grow":
                    larger = NewMachine(home_disk_gb=(workspace.home_gb or HOME_GB) + 10)
                    self.world.start(owner, workspace_id, larger)
                case "restore":
                    self.restore(workspace)
                case "archive":
                    self.world.archive(owner, workspace_id)
                case "delete" | "purge":
                    self.world.delete(owner, workspace_id, purge=verb == "purge")
                case "heartbeat" if machine is not None and machine.reported:
                    self.world.report(machine.report(ReportEvent.HEARTBEAT))

    def restore(self, workspace: Workspace) -> None:
        """Ask that a home be what it is now, as a snapshot of this moment has it."""
        disk = workspace.home_disk
        home = Place(disk.zone, disk.name) if disk else None
        if home is None or self.world.machines.peek_disk(home) is None:
            return
        snapshot = a_snapshot(workspace)
        self.world.machines.make_snapshot_by_hand(snapshot.place.name, home, {})
        self.world.store.put_snapshots(snapshot)
        self.world.restore(workspace.owner_id, workspace.id, snapshot.id)

    def running(self, owner_id: str) -> int:
        """Return how many of an owner's workspaces count as running."""
        existing = self.world.store.workspaces.values()
        return sum(ws.counts_as_running for ws in existing if ws.owner_id == owner_id)

    @contextmanager
    def within_running_limit(self, owner_id: str) -> Iterator[None]:
        """Check that a request does not exceed the limit; machines started by hand may."""
        before = self.running(owner_id)
        yield
        after = self.running(owner_id)
        assert after <= max(before, self.world.policy.limits.running), "more run than may"

    def take(self, nth: int) -> Job:
        """Take a job out of its queue."""
        delivery = self.queue[nth % len(self.queue)]
        queue = (
            self.world.provisioning
            if delivery in self.world.provisioning.waiting
            else self.world.operations
        )
        return queue.take(delivery)

    def deliver_job(self, job: Job) -> None:
        """Deliver a job; if it fails, it is delivered again."""
        try:
            self.world.do(job)
        except HubError:
            self.world.operations.bring_again(job, timedelta(seconds=5))

    def send_report(self, report: Report) -> None:
        """Deliver a report, once, also if it is refused."""
        with suppress(HubError):
            self.world.report(report)

    def record_reports(self, deliver: Callable[[Report], None]) -> Callable[[Report], None]:
        """Wrap ``World.report`` so that each report is kept and known while it is handled."""

        def noted(report: Report) -> None:
            outer, self.reporting = self.reporting, report
            self.reported.append(report)
            try:
                deliver(report)
            finally:
                self.reporting = outer

        return noted

    def has_drifted(self, workspace: Workspace) -> bool:
        """Return whether the record disagrees with Compute."""
        return has_drifted(
            workspace, self.world.machines.peek(place_of(workspace)), self.world.clock()
        )


TestLifecycle = pytest.mark.timeout(0 if MORE_EXAMPLES else 300)(Lifecycle.TestCase)
TestLifecycle.settings = settings(
    max_examples=MORE_EXAMPLES or 600,
    stateful_step_count=30,
    deadline=None,
    derandomize=not MORE_EXAMPLES,
    database=None,
    phases=(Stage.generate, Stage.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
