"""The state table in words: a line for each operation, phase and observed state."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from shared.domain import steps
from shared.domain.changes import Change, Forgotten
from shared.domain.drift import ObservedState
from shared.domain.instance import Instance, InstanceState, SnapshotStatus
from shared.domain.steps import Call, PlainMove, StepInput
from shared.domain.workspace import HomeSource, OperationKind, Phase, Status, Workspace
from tests.fakes.records import (
    A_PROBLEM,
    NOW,
    a_disk_snapshot,
    a_home,
    a_step,
    a_workspace,
    an_instance,
    an_operation,
)

STATES: dict[ObservedState, InstanceState | None] = {
    ObservedState.ABSENT: None,
    ObservedState.BOOTING: InstanceState.STAGING,
    ObservedState.RUNNING: InstanceState.RUNNING,
    ObservedState.SUSPENDING: InstanceState.SUSPENDING,
    ObservedState.SUSPENDED: InstanceState.SUSPENDED,
    ObservedState.STOPPING: InstanceState.STOPPING,
    ObservedState.TERMINATED: InstanceState.TERMINATED,
}

TOO_OLD = timedelta(days=31)
_NEW_MACHINE = (Phase.INSERT, Phase.INSERTING, Phase.AWAIT_READY)
_DELETING = (Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT)
_STOPPING = (Phase.STOP, Phase.AWAIT_STOPPED)
_TAKING = (Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT)
_GROWING = (Phase.RESIZE_DISK, Phase.AWAIT_RESIZED)
_REPLACING = (*_NEW_MACHINE, Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT)

# The phases of each kind of operation, in order; "failed" means that it only cleans up.
PHASES: dict[str, tuple[OperationKind, bool, tuple[Phase, ...]]] = {
    "CREATE": (OperationKind.CREATE, False, _REPLACING),
    "CREATE, failed": (OperationKind.CREATE, True, _DELETING),
    "START": (
        OperationKind.START,
        False,
        (
            *(Phase.SURVEY, Phase.RESUME, Phase.AWAIT_RUNNING, *_STOPPING),
            *(Phase.SET_METADATA, Phase.AWAIT_METADATA, Phase.START, Phase.STARTING),
            *(Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT, *_NEW_MACHINE),
            *(Phase.DELETE_DISK, Phase.AWAIT_DISK_ABSENT),
        ),
    ),
    "START, failed": (OperationKind.START, True, _STOPPING),
    "START, moving": (OperationKind.START, False, (*_TAKING, Phase.AWAIT_STORED)),
    "START, growing": (OperationKind.START, False, _GROWING),
    "STOP": (OperationKind.STOP, False, (Phase.SUSPEND, Phase.AWAIT_SUSPENDED, *_STOPPING)),
    "DELETE": (
        OperationKind.DELETE,
        False,
        (*_DELETING[:2], *_TAKING, Phase.AWAIT_STORED, *_DELETING[2:], Phase.FORGET),
    ),
    "SNAPSHOT": (OperationKind.SNAPSHOT, False, _TAKING),
    "RESTORE": (
        OperationKind.RESTORE,
        False,
        (
            *(*_STOPPING, *_TAKING, Phase.AWAIT_STORED),
            *(Phase.DELETE_INSTANCE, Phase.AWAIT_ABSENT),
        ),
    ),
    "ARCHIVE": (
        OperationKind.ARCHIVE,
        False,
        (*_STOPPING, *_DELETING[:2], *_TAKING, Phase.AWAIT_STORED, *_DELETING[2:]),
    ),
    "RESTORE, switched": (OperationKind.RESTORE, False, _REPLACING),
    "RESTORE, failed": (OperationKind.RESTORE, True, _DELETING),
}


def situation(
    kind: OperationKind, phase: Phase, *, failed: bool, memory_is_ready: bool
) -> Workspace:
    """Return a workspace in the middle of an operation."""
    operation = an_operation(kind, phase, failure=A_PROBLEM if failed else None)
    status = Status.PROVISIONING if kind is OperationKind.CREATE else Status.READY
    workspace = a_workspace(status, operation)
    if kind is OperationKind.START and phase in steps.DISK_TABLE:
        workspace = replace(workspace, home_disk=None)  # only then is there a disk to delete
    if kind is OperationKind.START and phase in steps.SNAPSHOT_PHASES:
        copy = HomeSource("last", "the-last", 50, workspace.disk_name)
        last = copy if phase is Phase.AWAIT_STORED else None
        workspace = replace(workspace, operation=replace(operation, moves=True, last_copy=last))
    if phase in _GROWING:
        workspace = replace(workspace, operation=replace(operation, home_gb=100))
    if kind in steps.TAKING_HOME and phase in {*steps.DISK_TABLE, Phase.FORGET}:
        copied = replace(operation, last_copy=a_copy(workspace))
        workspace = replace(workspace, operation=copied)
    if kind is OperationKind.RESTORE:
        workspace = _restoring(workspace, switched=failed or phase in _REPLACING)
    return replace(workspace, ready_generation=workspace.generation if memory_is_ready else None)


def a_copy(workspace: Workspace) -> HomeSource:
    """Return the last copy of a workspace's home."""
    return HomeSource("last", "the-last", 50, workspace.disk_name)


def _restoring(workspace: Workspace, *, switched: bool) -> Workspace:
    """Return a workspace whose home is restored; ``switched``: the new home is recorded."""
    assert workspace.operation is not None
    name = workspace.disk_name
    source = HomeSource("a-snapshot", "the-snapshot", 50, name)
    copied_at = NOW - timedelta(minutes=3)
    operation = replace(workspace.operation, restores=source, copied_at=copied_at)
    if not switched:
        return replace(workspace, operation=operation)
    return replace(
        workspace,
        status=Status.PROVISIONING,
        operation=replace(operation, former_home=workspace.home_disk),
        home_disk=None,
        home_source=replace(source, new_disk=f"{name}-{workspace.generation}"),
        machine_running=False,
    )


def observations(workspace: Workspace) -> Iterator[tuple[str, StepInput]]:
    """Yield each situation that can be observed in the workspace's phase, with its name."""
    assert workspace.operation is not None
    operation, home = workspace.operation, (a_home(workspace),)
    if operation.phase in steps.SNAPSHOT_PHASES:
        yield from _snapshot_observations(workspace)
        return
    if operation.kind is OperationKind.RESTORE and operation.phase is Phase.INSERT:
        yield from _observations_before_insert(workspace)
        return
    if operation.phase in _GROWING:
        yield from _observations_of_size(workspace)
        return
    moved = an_instance(workspace, InstanceState.RUNNING, id="moved", zone="us-west1-b")
    deletes = operation.kind is OperationKind.DELETE
    if operation.phase in steps.DISK_TABLE:
        yield "disk there", StepInput(disk_exists=True)
        yield "disk gone", StepInput()
        if operation.kind in steps.TAKING_HOME:
            yield "disk copied", StepInput(disk_exists=True, has_copy=a_copy(workspace))
        if operation.kind is OperationKind.RESTORE:
            yield "foreign disk", StepInput(disk_exists=True, home_is_foreign=True)
            yield "late machine", StepInput(instance=an_instance(workspace), disk_exists=True)
        if deletes and operation.phase is Phase.DELETE_DISK:
            yield (
                "boot disk there",
                StepInput(disks=(replace(home[0], name=f"{workspace.instance_name}-2"),)),
            )
            yield "disk elsewhere", StepInput(disks=(replace(home[0], zone="us-west1-b"),))
            yield "machine elsewhere", StepInput(elsewhere=(moved,))
        return
    for name, state in STATES.items():
        instance = an_instance(workspace, state) if state else None
        yield (
            name.value,
            StepInput(instance=instance, disk_exists=operation.phase is not Phase.FORGET),
        )
    if operation.phase is Phase.FORGET:
        yield "disk there", StepInput(disk_exists=True)
    if operation.copied_at and not operation.failure and operation.phase is Phase.DELETE_INSTANCE:
        since = an_instance(workspace, InstanceState.TERMINATED, off_since=NOW)
        before = replace(since, off_since=operation.copied_at)
        yield "has run since", StepInput(instance=since)
        yield "has run before", StepInput(instance=before)
    if operation.phase is Phase.SURVEY:
        another = an_instance(workspace, InstanceState.RUNNING, id="another")
        yield "another machine", StepInput(instance=another)
    if operation.kind is OperationKind.START and operation.phase in {
        Phase.SURVEY,
        Phase.STOP,
        Phase.AWAIT_STOPPED,
    }:
        for name in (ObservedState.RUNNING, ObservedState.SUSPENDED, ObservedState.TERMINATED):
            state = STATES[name]
            assert state is not None
            yield (
                f"old, {name.value}",
                StepInput(instance=an_instance(workspace, state, created_at=NOW - TOO_OLD)),
            )
    if operation.phase in {Phase.SURVEY, Phase.SUSPEND, Phase.STOP} or (
        deletes and operation.phase is Phase.DELETE_INSTANCE
    ):
        yield "machine elsewhere", StepInput(elsewhere=(moved,))
        yield "several elsewhere", StepInput(elsewhere=(moved, replace(moved, zone="us-west1-c")))
    if operation.kind is OperationKind.START and operation.phase in {
        Phase.INSERT,
        Phase.DELETE_INSTANCE,
    }:
        instance = (
            an_instance(workspace, InstanceState.TERMINATED)
            if operation.phase is Phase.DELETE_INSTANCE
            else None
        )
        yield (
            "home elsewhere",
            StepInput(instance=instance, disks=(replace(home[0], zone="us-west1-b"),)),
        )
        yield "home gone", StepInput(instance=instance)


def _snapshot_observations(workspace: Workspace) -> Iterator[tuple[str, StepInput]]:
    """Yield what can be observed of the snapshot that is taken.

    A SNAPSHOT is shown of a running workspace. A RESTORE and a move have shut the machine down. A
    DELETE and an ARCHIVE have deleted it.
    """
    assert workspace.operation is not None
    deletes = workspace.operation.kind in steps.TAKING_HOME
    keeps = deletes or workspace.operation.kind in {OperationKind.RESTORE, OperationKind.START}
    machine: Instance | None = an_instance(
        workspace, InstanceState.TERMINATED if keeps else InstanceState.RUNNING
    )
    if deletes:
        machine = None
    seen = StepInput(instance=machine, disk_exists=True)
    yield "absent", seen
    yield "home gone", replace(seen, disk_exists=False)
    if keeps and workspace.operation.phase is Phase.SNAPSHOT:
        yield "has a copy", replace(seen, instance=None, has_copy=a_copy(workspace))
        there = a_home(workspace, zone="us-west1-b")
        gone = replace(seen, disk_exists=False)
        yield "home elsewhere", replace(gone, disks=(there,))
        if deletes:
            several = (there, replace(there, zone="us-west1-c"))
            yield "several homes", replace(gone, disks=several)
            yield "home in use", replace(seen, home_users=("another",))
            yield "machine there", replace(seen, instance=an_instance(workspace))
    yield "absent, pending", replace(seen, pending=True)
    for status in SnapshotStatus:
        yield status.value.lower(), replace(seen, snapshot=a_disk_snapshot(workspace, status))
    other = a_disk_snapshot(workspace, SnapshotStatus.READY, source_disk="another")
    yield "another disk's", replace(seen, snapshot=other)


def _observations_of_size(workspace: Workspace) -> Iterator[tuple[str, StepInput]]:
    """Yield what can be observed of a home that is to grow to 100 GB."""
    home = a_home(workspace)
    for size_gb in (50, 100, 150):
        yield (
            f"{size_gb} GB",
            StepInput(instance=an_instance(workspace), disk_exists=True, home_gb=size_gb),
        )
    yield "pending", StepInput(pending=True)
    yield "home elsewhere", StepInput(disks=(replace(home, zone="us-west1-b"),))
    yield "home gone", StepInput()


def _observations_before_insert(workspace: Workspace) -> Iterator[tuple[str, StepInput]]:
    """Yield what a RESTORE can observe before it makes the new home."""
    assert workspace.home_source is not None
    source = a_disk_snapshot(
        workspace, SnapshotStatus.READY, source_disk=workspace.home_source.disk_name
    )
    seen = StepInput(source=source)
    yield "source ready", seen
    yield "source gone", StepInput()
    for status in (SnapshotStatus.DELETING, SnapshotStatus.FAILED):
        yield f"source {status.lower()}", replace(seen, source=replace(source, status=status))
    yield "another source", replace(seen, source=replace(source, source_disk="another"))
    yield "disk there", StepInput(disk_exists=True)
    yield "foreign disk", StepInput(disk_exists=True, home_is_foreign=True)
    for name, state in STATES.items():
        if state is not None:
            yield name.value, StepInput(instance=an_instance(workspace, state), disk_exists=True)


def move_in_words(workspace: Workspace, decision: Change | Call) -> str:
    """Describe a decision in a few words."""
    operation = workspace.operation
    assert operation is not None
    if isinstance(decision, Call):
        return f"{type(decision.command).__name__}, then {decision.leads_to}"
    if isinstance(decision, Forgotten):
        return "forgotten"
    after = decision.workspace
    if after.operation is None:
        code = f" {after.error.code}" if after.error else ""
        left = "".join(f", snapshot {each.state}" for each in decision.snapshots)
        return f"ends {after.status}{code}{left}"
    said = []
    if after.operation.failure and not operation.failure:
        said.append(f"fails {after.operation.failure.code}:")
    if after.generation != workspace.generation:
        said.append("new generation,")
    if after.operation.phase is operation.phase and after.operation.attempt == operation.attempt:
        said.append("waits")
    elif after.operation.attempt > operation.attempt:
        said.append(f"again {after.operation.phase}")
    else:
        said.append(f"to {after.operation.phase}")
    return " ".join(said)


def table_in_words() -> str:
    """Return the whole table; a cell that depends on whether memory is ready has both moves.

    A plain move says itself what it does; any other is planned, and the decision described.
    """
    lines = []
    for title, (kind, failed, phases) in PHASES.items():
        lines.append(f"=== {title} ===")
        for phase in phases:
            moves: dict[str, dict[bool, str]] = {}
            for memory_is_ready in (True, False):
                workspace = situation(kind, phase, failed=failed, memory_is_ready=memory_is_ready)
                for name, seen in observations(workspace):
                    step = a_step(workspace, seen)
                    move = steps.move_of(step)
                    words = (
                        str(move)
                        if isinstance(move, PlainMove)
                        else move_in_words(workspace, steps.plan(step))
                    )
                    moves.setdefault(name, {})[memory_is_ready] = words
            lines.extend(_row(phase, name, said) for name, said in moves.items())
            lines.append("")
    return "\n".join(lines)


def _row(phase: Phase, name: str, said: dict[bool, str]) -> str:
    words = (
        said[True]
        if said[True] == said[False]
        else f"memory ready: {said[True]}; else: {said[False]}"
    )
    return f"{phase:<18} {name:<16} {words}"
