"""What a dry run says is what then happens, from every state that a workspace can be in.

Each story is told once for each state that it leads through, is paused there, and goes on with a
request, in virtual time and without faults from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from shared.domain.course import Lost
from shared.domain.dry_run import Decision, DryRun, quota_of
from shared.domain.errors import HubError
from shared.domain.instance import (
    DeleteInstance,
    FaultKind,
    InsertInstance,
    Place,
    ResumeInstance,
    StartInstance,
    SuspendInstance,
)
from shared.domain.lifecycle import NewMachine, NewWorkspace
from shared.domain.ownership import labels_of
from shared.domain.policy import Policy
from shared.domain.workspace import Metadata, Workspace
from shared.usecases import manage_workspaces
from shared.usecases.create_workspace import dry_run_create
from shared.usecases.restore_workspace import dry_run_restore
from tests.fakes.machines import PROJECT, GuestMishap, Mishap
from tests.fakes.records import a_snapshot
from tests.fakes.store import MemoryWorkspaceStore
from tests.fakes.world import World, actor, place_of

DAY = timedelta(days=1)
POLICY = Policy(changes_per_minute=10**6)
OWNER = "alice"


class PausedError(Exception):
    """The story has come to the state in which it is to be paused."""


@dataclass
class PausingWorld(World):
    """A world that pauses its story in the n-th state that is new in it."""

    policy: Policy = POLICY
    pause_at: int = 0
    states: list[tuple[object, ...]] = field(default_factory=list)
    phases: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Watch each commit."""
        self.store = MemoryWorkspaceStore(self._note)
        super().__post_init__()

    def _note(self, _: Workspace | None, after: Workspace | None) -> None:
        if after is not None and after.operation is not None:
            self.phases.append((after.operation.id, after.operation.phase.value))

    def run(
        self, until: Callable[[], bool] | None = None, *, or_until_at_rest: bool = False
    ) -> None:
        """Let time pass as ever, up to the state to pause in."""

        def paused() -> bool:
            self.pause()
            return until is not None and until()

        super().run(paused, or_until_at_rest=until is None or or_until_at_rest)
        self.pause()

    def pause(self) -> None:
        """Pause if this is the state to pause in."""
        workspace = self.the_one
        state = None if workspace is None else state_of(workspace)
        if self.pause_at < 0 or state is None or state in self.states:
            return
        self.states.append(state)
        if len(self.states) > self.pause_at:
            self.pause_at = -1
            raise PausedError

    @property
    def the_one(self) -> Workspace | None:
        """The one workspace; None once it is gone."""
        return next(iter(self.store.workspaces.values()), None)

    @property
    def its_id(self) -> str:
        """The id of the one workspace."""
        assert self.the_one is not None
        return self.the_one.id


def state_of(workspace: Workspace) -> tuple[object, ...]:
    """Return what tells states apart."""
    operation = workspace.operation
    under_way = operation and (
        operation.kind,
        operation.phase,
        operation.automatic,
        operation.failure is not None,
    )
    return (workspace.status, under_way, workspace.instance_id is None, workspace.memory_is_ready)


# ---- the stories ----


def life(world: PausingWorld) -> None:
    """Tell of a workspace that is made, sleeps, wakes up and is deleted."""
    world.create(OWNER, "one")
    world.run()
    world.stop(OWNER, world.its_id)
    world.run()
    world.start(OWNER, world.its_id)
    world.run()
    world.delete(OWNER, world.its_id)
    world.run()


def ready(world: PausingWorld) -> Workspace:
    """Return a workspace that is READY."""
    world.create(OWNER, "one")
    world.run()
    return world.workspace(world.its_id)


def off(world: PausingWorld) -> Workspace:
    """Return a workspace whose machine was shut down by hand."""
    workspace = ready(world)
    world.machines.stop_by_hand(place_of(workspace))
    world.pass_time(timedelta(minutes=5))
    world.look(workspace)
    world.run()
    return world.workspace(workspace.id)


def asleep(world: PausingWorld) -> Workspace:
    """Return a workspace that is suspended."""
    workspace = ready(world)
    world.stop(OWNER, workspace.id)
    world.run()
    return world.workspace(workspace.id)


def boot(world: PausingWorld) -> None:
    """Tell of a machine that is booted again."""
    world.start(OWNER, off(world).id)
    world.run()


def renewal(world: PausingWorld) -> None:
    """Tell of a machine that is off and too old."""
    workspace = off(world)
    world.clock.advance(40 * DAY)
    world.states.clear()
    world.pause()
    world.start(OWNER, workspace.id)
    world.run()


def rebuild(world: PausingWorld) -> None:
    """Tell of a machine in use that is made anew."""
    world.start(OWNER, ready(world).id, NewMachine(rebuild=True))
    world.run()


def another_type(world: PausingWorld) -> None:
    """Tell of a sleeping machine that becomes a larger one."""
    world.start(OWNER, asleep(world).id, NewMachine(machine_type="e2-standard-8"))
    world.run()


def idle(world: PausingWorld) -> None:
    """Tell of a machine that nobody uses."""
    ready(world)
    world.clock.advance(timedelta(minutes=61))
    world.clean_up()
    world.run()


def forgotten(world: PausingWorld) -> None:
    """Tell of a workspace that nobody starts for a month."""
    asleep(world)
    world.clock.advance(31 * DAY)
    world.clean_up()
    world.run()


def archived(world: PausingWorld) -> None:
    """Tell of a workspace that is archived and started again."""
    world.archive(OWNER, ready(world).id)
    world.run()
    world.start(OWNER, world.its_id)
    world.run()


def failed_create(world: PausingWorld) -> None:
    """Tell of a first boot that fails."""
    world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    ready(world)
    world.start(OWNER, world.its_id)
    world.run()


def no_capacity_here(world: PausingWorld) -> None:
    """Tell of a CREATE that goes to another zone."""
    world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.STOCK_OUT)
    ready(world)


def no_capacity_to_wake_up(world: PausingWorld) -> None:
    """Tell of a START for which there is no capacity, then of one for which there is."""
    workspace = asleep(world)
    world.machines.script(ResumeInstance, Mishap.REFUSED, FaultKind.STOCK_OUT)
    world.start(OWNER, workspace.id)
    world.run()


def no_capacity_for_another(world: PausingWorld) -> None:
    """Tell of a START that deletes the old machine, and gets no new one."""
    workspace = asleep(world)
    world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.STOCK_OUT)
    world.start(OWNER, workspace.id, NewMachine(rebuild=True))
    world.run()


def deleted_by_hand(world: PausingWorld) -> None:
    """Tell of a machine that somebody deletes."""
    workspace = ready(world)
    world.machines.delete_by_hand(place_of(workspace))
    world.pass_time(timedelta(minutes=5))
    world.look(workspace)
    world.run()
    world.start(OWNER, workspace.id)
    world.run()


def booted_by_hand(world: PausingWorld) -> None:
    """Tell of a machine that somebody boots, and that never reports ready."""
    workspace = off(world)
    world.machines.script_boot(GuestMishap.NEVER_READY)
    world.machines.start_by_hand(place_of(workspace))
    world.pass_time(timedelta(minutes=5))
    world.look(workspace)
    world.run()


def failed_boot(world: PausingWorld) -> None:
    """Tell of a START that fails, and stops its machine."""
    workspace = off(world)
    world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    world.start(OWNER, workspace.id)
    world.run()


def refused_boot(world: PausingWorld) -> None:
    """Tell of a START that Compute refuses for good."""
    workspace = off(world)
    world.machines.script(StartInstance, Mishap.REFUSED, FaultKind.POLICY)
    world.start(OWNER, workspace.id)
    world.run()


def refused_suspend(world: PausingWorld) -> None:
    """Tell of a STOP that Compute refuses for good."""
    workspace = ready(world)
    world.machines.script(SuspendInstance, Mishap.REFUSED, FaultKind.POLICY)
    world.stop(OWNER, workspace.id)
    world.run()


def no_suspend(world: PausingWorld) -> None:
    """Tell of a machine that Compute cannot suspend, as its type says."""
    world.policy = replace(world.policy, default_machine_type="c3-standard-4-lssd")
    world.machines.script(SuspendInstance, Mishap.REFUSED, FaultKind.UNSUPPORTED, times=9)
    ready(world)


def refused_delete(world: PausingWorld) -> None:
    """Tell of a DELETE that Compute refuses for good."""
    workspace = asleep(world)
    world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.POLICY)
    world.delete(OWNER, workspace.id)
    world.run()


def restored(world: PausingWorld) -> None:
    """Tell of a home that is restored."""
    workspace = ready(world)
    world.restore(OWNER, workspace.id, snapshot_of(world, workspace))
    world.run()


def refused_restore(world: PausingWorld) -> None:
    """Tell of a home of which the restored one gets no machine."""
    workspace = asleep(world)
    world.machines.script(InsertInstance, Mishap.REFUSED, FaultKind.POLICY)
    world.restore(OWNER, workspace.id, snapshot_of(world, workspace))
    world.run()


STORIES = (
    *(life, boot, renewal, rebuild, another_type, idle, forgotten, archived),
    *(failed_create, no_capacity_here, no_capacity_to_wake_up, no_capacity_for_another),
    *(deleted_by_hand, booted_by_hand, failed_boot, refused_boot),
    *(refused_suspend, no_suspend, refused_delete, restored, refused_restore),
)


def pauses(story: Callable[[PausingWorld], None]) -> Iterator[PausingWorld]:
    """Tell a story once for each of its states, and yield the world in that state, calmed."""
    for pause_at in range(100):
        world = PausingWorld(pause_at=pause_at)
        try:
            story(world)
        except PausedError:
            if story is not no_suspend:
                world.machines.calm()
            yield world
        else:
            return


# ---- the requests ----


def snapshot_of(world: PausingWorld, workspace: Workspace) -> str:
    """Return the id of a READY snapshot of the home, if it has one; it is made at the first call.

    Any other id is that of no snapshot.
    """
    known = [each.id for each in world.store.snapshots.values() if not each.automatic]
    home = workspace.home_disk
    if known or home is None:
        return known[0] if known else "none"
    snapshot, labels = a_snapshot(workspace), {**labels_of(workspace.id, OWNER)}
    place = Place(home.zone, home.name)
    world.machines.make_snapshot_by_hand(snapshot.place.name, place, labels)
    world.store.put_snapshots(snapshot)
    return snapshot.id


def told(world: PausingWorld, request: str) -> DryRun:
    """Return what a dry run of a request says."""
    asked = (world.records, world.policy, actor(OWNER), world.its_id)
    if request == "stop":
        return manage_workspaces.dry_run_stop(*asked)
    if request == "delete":
        return manage_workspaces.dry_run_delete(*asked)
    if request == "archive":
        return manage_workspaces.dry_run_archive(*asked)
    if request == "restore":
        return dry_run_restore(*asked, snapshot_of(world, world.workspace(world.its_id)))
    return manage_workspaces.dry_run_start(*asked, STARTS[request])


def asked(world: PausingWorld, request: str) -> Workspace:
    """Make a request, and return the workspace as it is answered."""
    if request == "stop":
        return world.stop(OWNER, world.its_id)[0]
    if request == "delete":
        return world.delete(OWNER, world.its_id)
    if request == "archive":
        return world.archive(OWNER, world.its_id)[0]
    if request == "restore":
        workspace = world.workspace(world.its_id)
        return world.restore(OWNER, workspace.id, snapshot_of(world, workspace))
    return world.start(OWNER, world.its_id, STARTS[request])[0]


STARTS = {
    "start": NewMachine(),
    "rebuild": NewMachine(rebuild=True),
    "start larger": NewMachine(machine_type="e2-standard-16"),
    "rename": NewMachine(name="two"),
}
REQUESTS = ("stop", "delete", "restore", "archive", *STARTS)


def without_id(workspace: Workspace) -> Workspace:
    """Return the workspace without the id of its operation."""
    operation = workspace.operation
    return replace(workspace, operation=operation and replace(operation, id=""))


def once_each(phases: list[str]) -> list[str]:
    """Return the phases, each once as long as it lasts."""
    return [phase for nth, phase in enumerate(phases) if phases[nth - 1 : nth] != [phase]]


def refusal_of(ask: Callable[[], object]) -> tuple[object, ...] | None:
    """Return as what a request is refused; None if it is not."""
    try:
        ask()
    except HubError as error:
        return (type(error), str(error))
    return None


def check(world: PausingWorld, request: str) -> None:
    """Compare a dry run with what then happens."""
    refusal = refusal_of(lambda: told(world, request))
    if refusal is not None:
        assert refusal_of(lambda: asked(world, request)) == refusal
        return
    run = told(world, request)
    before = world.the_one
    assert before is not None
    machine = world.machine(before)
    had_machine = machine is not None and not machine.deleting
    world.phases.clear()
    world.store.events.clear()
    world.machines.calls.clear()
    workspace = asked(world, request)
    assert without_id(run.workspace) == without_id(workspace)
    world.run()
    after = world.the_one
    if run.decision is Decision.NOTHING and after is not None and after.error != before.error:
        return  # what is under way met its fault before the pause
    operation = workspace.operation
    if run.decision is not Decision.NOTHING:
        own = [phase for of, phase in world.phases if operation and of == operation.id]
        assert [phase.value for phase in run.phases] == once_each(own)
        check_losses(world, run, before, had_machine=had_machine)
    assert run.kind is (operation.kind if operation and run.phases else None)
    assert after is None or after.operation is None
    assert after is None or after.error is None or after.error == before.error
    assert run.quota == quota_of(world.store.owners[OWNER], workspace.owner_email, world.policy)
    assert run.runs == (after is not None and after.machine_running)


def check_losses(world: PausingWorld, run: DryRun, before: Workspace, *, had_machine: bool) -> None:
    """Compare what was said to be lost with what is lost."""
    after = world.the_one
    lost = {loss.what for loss in run.losses}
    happened = {event.what for event in world.store.events}
    assert (Lost.MEMORY in lost) == ("MemoryLost" in happened)
    under_way = before.operation
    had_home = before.home_disk or (under_way.former_home if under_way else None)
    assert (Lost.HOME in lost) == (had_home is not None and after is None)
    begins_delete = run.decision is Decision.BEGIN and after is None
    assert (Lost.NAME in lost) == (begins_delete or (after or before).name != before.name)
    deleted = DeleteInstance in {type(command) for command, _ in world.machines.calls}
    worth_it = had_machine and had_home is not None
    assert (Lost.BOOT_DISK in lost) == (deleted and worth_it)


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_what_a_dry_run_says_is_what_then_happens(
    story: Callable[[PausingWorld], None], request_: str
) -> None:
    """Decision, record, phases, quota, cost and losses are right from every state of a story."""
    for world in pauses(story):
        state = world.states[-1]
        try:
            check(world, request_)
        except AssertionError as error:
            raise AssertionError(f"{request_} in {state}: {error}") from error


def test_a_dry_run_of_a_create_says_what_then_happens() -> None:
    """The phases, the quota and the record are right; no id is given out."""
    world = PausingWorld(pause_at=-1)
    new = NewWorkspace(
        name="one",
        machine_type="e2-standard-4",
        image_tag="latest",
        zone="us-west1-a",
        metadata=Metadata(repo="https://example.com/repo.git"),
    )
    policy = replace(world.policy, project_id=PROJECT)

    run = dry_run_create(world.records, policy, actor(OWNER), new, None)
    made = world.create(OWNER, "one")
    world.run()

    assert run.workspace == replace(without_id(made), id="", instance_name="workspace-")
    assert [phase.value for phase in run.phases] == once_each([phase for _, phase in world.phases])
    assert (run.decision, run.runs, run.losses) == (Decision.BEGIN, True, ())
    assert run.quota == quota_of(world.store.owners[OWNER], made.owner_email, policy)
