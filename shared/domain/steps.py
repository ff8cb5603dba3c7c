"""The state table: what the next step of an operation is, given its phase and what is seen of the machine.

``TABLE`` reads row by row: in this phase, when the machine is seen like that, make this move. A
move waits, goes to another phase, calls Compute, or ends the operation. Everything is pure:
``plan`` decides before a step's one Compute call, ``record_outcome`` after it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shared.domain.changes import Change, Note, enter_boot, finish, proceed, without_memory
from shared.domain.drift import (
    MACHINE_GONE,
    ObservedState,
    as_it_is,
    moved_to,
    observe,
    observed_state,
)
from shared.domain.idleness import idle_at
from shared.domain.instance import (
    Command,
    DeleteDisk,
    DeleteInstance,
    Disk,
    Fault,
    FaultKind,
    InsertInstance,
    Instance,
    Place,
    RefreshMetadata,
    ResumeInstance,
    StartedCall,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.plain_text import quoted_lines
from shared.domain.policy import Policy
from shared.domain.renewal import why_too_old
from shared.domain.workspace import (
    HomeDisk,
    Operation,
    OperationKind,
    Phase,
    Problem,
    Status,
    Workspace,
)

CONSOLE_TAIL_BYTES = 2000
SUSPENDS_UNDONE = (
    2  # so often a machine may come back to running before it is stopped instead of suspended
)

HOME_DISK_GONE = "HOME_DISK_GONE"
_WAS_OFF = "The machine was off."
_PASSING = {
    FaultKind.NOT_READY, FaultKind.TRANSIENT, FaultKind.IN_USE, FaultKind.STOCK_OUT, FaultKind.ALREADY_EXISTS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StepInput:
    """What a worker saw before it decides.

    ``pending``: the Compute operation of this phase is not done (nothing else was looked at).
    ``fault``: it is done, with an error. ``disk_exists``: the home disk is where it is recorded;
    looked at only in the phases of ``reads_disk``. ``console`` is the tail of the serial console,
    read only when a boot is overdue. ``elsewhere`` are the workspace's machines in other zones and
    ``disks`` all its disks, in any zone, read only when ``seeks_elsewhere`` says so.
    """

    pending: bool = False
    fault: Fault | None = None
    instance: Instance | None = None
    disk_exists: bool = False
    console: str = ""
    elsewhere: tuple[Instance, ...] = ()
    disks: tuple[Disk, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A decision to call Compute: the command, the phase that a successful call leads to, and what it leaves to be read."""

    command: Command
    leads_to: Phase
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class _Situation:
    """All that a move goes by."""

    workspace: Workspace
    operation: Operation
    seen: StepInput
    now: datetime
    policy: Policy

    @property
    def place(self) -> Place:
        return Place(self.workspace.zone, self.workspace.instance_name)


Move = Callable[[_Situation], Change | Call]


# ---- moves ----------------------------------------------------------------------------------------------------------


def _wait(s: _Situation) -> Change:
    """Look again after a quarter of the time that the phase has taken, within the policy's bounds."""
    pause = min(max((s.now - s.operation.phase_since) / 4, s.policy.look_min), s.policy.look_max)
    return proceed(s.workspace, "StepAwaited", s.now, s.policy, delay=pause)


def _go(phase: Phase) -> Callable[[_Situation], Change]:
    """Go to another phase at once."""
    return lambda s: proceed(s.workspace, "PhaseEntered", s.now, s.policy, phase=phase)


def _again(phase: Phase) -> Callable[[_Situation], Change]:
    """Go back to the phase that calls, as a new attempt, after a pause that doubles."""

    def move(s: _Situation) -> Change:
        attempt = s.operation.attempt + 1
        pause: timedelta = min(s.policy.look_min * 2 ** min(attempt, 10), s.policy.look_max)
        return proceed(
            s.workspace, "StepRepeated", s.now, s.policy, phase=phase, attempt=attempt, delay=pause
        )

    return move


def _call(build: Callable[[Place], Command], leads_to: Phase) -> Move:
    return lambda s: Call(build(s.place), leads_to)


_resume = _call(ResumeInstance, Phase.AWAIT_RUNNING)
_start = _call(StartInstance, Phase.STARTING)
_stop = _call(StopInstance, Phase.AWAIT_STOPPED)
_delete = _call(DeleteInstance, Phase.AWAIT_ABSENT)


def _insert(s: _Situation) -> Change | Call:
    """Make the machine, on the home disk that there is. One that is gone is never replaced unless the request says so."""
    ws = s.workspace
    notes: tuple[Note, ...] = ()
    if _lacks_home(ws, s.seen):
        if (found := _home_elsewhere(s)) is not None:
            return found
        if not s.operation.empty_home:
            return _home_is_gone(s)
        notes = (
            Note(
                "HomeReplaced",
                f"The home disk {ws.disk_name} is gone, and an empty home was asked for.",
            ),
        )
    command = InsertInstance(
        place=s.place,
        workspace_id=ws.id,
        workspace_name=ws.name,
        owner_id=ws.owner_id,
        machine_type=ws.machine_type,
        image_tag=ws.image_tag,
        generation=ws.generation,
        home_disk=ws.disk_name,
        attach_home=s.seen.disk_exists,
        repo=ws.metadata.repo,
        branch=ws.metadata.branch,
    )
    return Call(command, Phase.INSERTING, notes)


def _home_elsewhere(s: _Situation) -> Change | None:
    """Follow a home disk that somebody moved to another zone, if it is the only one of its name."""
    homes = [disk for disk in s.seen.disks if disk.name == s.workspace.disk_name]
    if len(homes) != 1:
        return None
    home = homes[0]
    followed = replace(
        s.workspace, zone=home.zone, home_disk=HomeDisk(home.name, home.zone), instance_id=None
    )
    moved = proceed(followed, "HomeFollowed", s.now, s.policy, phase=Phase.SURVEY)
    return replace(
        moved, notes=(Note("HomeFollowed", f"The home disk is in zone {home.zone} now."),)
    )


def _home_is_gone(s: _Situation) -> Change:
    homes = sorted(disk.zone for disk in s.seen.disks if disk.name == s.workspace.disk_name)
    recorded = s.workspace.home_disk
    was = f"disk {s.workspace.disk_name} in zone {recorded.zone if recorded else s.workspace.zone}"
    if homes:
        message = f"The home ({was}) is in several zones now: {', '.join(homes)}. Keep one of them, then start the workspace."
    else:
        message = (
            f"The home ({was}) was deleted outside the Hub. Restore it from a snapshot under that name and start the workspace, "
            "or start it with empty_home to go on with an empty one."
        )
    return fail(s, _problem(s, HOME_DISK_GONE, message))


def _inserted(s: _Situation) -> Change:
    """The machine exists, so an earlier delivery of this step made it: take its id and wait for its report."""
    found = s.seen.instance
    known = replace(
        _knowing_interval(s),
        instance_id=found.id if found else None,
        machine_made_at=found.created_at if found else None,
    )
    booting = observed_state(s.seen.instance) is ObservedState.BOOTING
    # A machine that boots may yet turn out to have no capacity.
    phase = Phase.INSERTING if booting else Phase.AWAIT_READY
    return proceed(known, "InstanceFound", s.now, s.policy, phase=phase)


def _refresh_metadata(s: _Situation) -> Call:
    ws = s.workspace
    command = RefreshMetadata(
        place=s.place,
        workspace_id=ws.id,
        workspace_name=ws.name,
        image_tag=ws.image_tag,
        generation=ws.generation,
        repo=ws.metadata.repo,
        branch=ws.metadata.branch,
    )
    return Call(command, Phase.AWAIT_METADATA)


def _boot_new(s: _Situation) -> Change:
    """Boot a new machine, since there is none. That is the one that a START may make."""
    remade = replace(s.operation, remade=True)
    return _boot(s, Phase.INSERT, "The machine is gone.", remade)


def _boot_off(s: _Situation) -> Change:
    """Boot a machine that is off. One that is too old is made anew instead, if this START has not made one yet."""
    made_at = (
        s.seen.instance.created_at if s.seen.instance else None
    ) or s.workspace.machine_made_at
    why = why_too_old(made_at, s.now, s.policy)
    if why is not None and not s.operation.remade:
        return _renew(s, why)
    return _boot(s, Phase.SET_METADATA, _WAS_OFF, s.operation)


def _renew(s: _Situation, why: str) -> Change:
    """Make a machine anew that could be booted, but is too old: of the type that somebody may have given it while it was off."""
    known, notes = as_it_is(s.workspace, s.seen.instance) if s.seen.instance else (s.workspace, ())
    forgetful, lost = without_memory(known, _WAS_OFF)
    change = _remake(
        replace(s, workspace=forgetful, operation=replace(s.operation, renews=True)), why
    )
    return replace(change, notes=(*notes, *lost, *change.notes))


def _boot_although_old(s: _Situation, said: str) -> Change:
    """Boot a machine that was to be made anew for its age only, since Compute does not let it be deleted."""
    kept = replace(
        s.operation,
        renews=False,
        cannot_go_on=None,
        last_fault=None,
        last_fault_kind=None,
        right_missing_since=None,
    )
    change = proceed(
        replace(s.workspace, operation=kept), "RenewalGivenUp", s.now, s.policy, phase=Phase.SURVEY
    )
    why = f"The machine is too old, but it could not be deleted, so it is booted as it is. Compute Engine said: {said}"
    return replace(change, notes=(Note("MachineNotRemade", why),))


def _boot(s: _Situation, phase: Phase, why: str, operation: Operation) -> Change:
    forgetful, notes = without_memory(replace(s.workspace, operation=operation), why)
    return replace(enter_boot(forgetful, phase, s.now, s.policy), notes=notes)


def _remake(s: _Situation, why: str) -> Change:
    """Make a new machine on the same home, since the one that there is cannot be brought to READY."""
    remade = replace(
        s.operation, remade=True, cannot_go_on=why, last_fault=None, last_fault_kind=None
    )
    change = proceed(
        replace(s.workspace, operation=remade),
        "MachineRemade",
        s.now,
        s.policy,
        phase=Phase.DELETE_INSTANCE,
    )
    return replace(change, notes=(Note("MachineRemade", why),))


def _unless_stuck(move: Move) -> Move:
    """Make the move on a machine, unless it has been tried and cannot be: then make a new machine."""

    def checked(s: _Situation) -> Change | Call:
        why = s.operation.cannot_go_on
        return move(s) if why is None or s.operation.remade else _remake(s, why)

    return checked


def _unless_homeless(move: Move) -> Move:
    """Make the move on a machine, unless its home was detached from it: only a new machine can have that attached."""

    def checked(s: _Situation) -> Change | Call:
        home = s.workspace.home_disk
        attached = s.seen.instance.disks if s.seen.instance else ()
        if home is None or home.name in attached or s.operation.remade:
            return move(s)
        return _remake(
            s, "The home disk was detached from the machine, so a new machine was made with it."
        )

    return checked


def _follow_elsewhere(s: _Situation, phase: Phase) -> Change:
    """Follow a machine that somebody moved to another zone. Which of several is meant, only a person can say."""
    if len(s.seen.elsewhere) > 1 and s.operation.kind is not OperationKind.DELETE:
        zones = ", ".join(sorted(instance.zone for instance in s.seen.elsewhere))
        message = f"There are machines of this workspace in several zones ({zones}). Delete all but one, then start the workspace."
        return fail(s, _problem(s, "MACHINE_AMBIGUOUS", message))
    machine = s.seen.elsewhere[0]
    moved, notes = moved_to(s.workspace, machine)
    return replace(proceed(moved, "MachineFollowed", s.now, s.policy, phase=phase), notes=notes)


def _survey_absent(s: _Situation) -> Change:
    return _follow_elsewhere(s, Phase.SURVEY) if s.seen.elsewhere else _boot_new(s)


def _use_or_stop(s: _Situation) -> Change | Call:
    """A running machine whose boot reported ready is READY; another one is stopped, to be booted again."""
    if s.workspace.memory_is_ready:
        return finish(s.workspace, Status.READY, "WorkspaceReady", s.now)
    return _stop(s)


def _suspend(s: _Situation) -> Change | Call:
    """Suspend, unless somebody connected since an automatic stop was decided, or the memory is not worth keeping."""
    if _in_use_after_all(s):
        return _abandon(s)
    if not s.workspace.memory_is_ready:
        return (
            _give_memory_up(s, "A new machine was asked for.")
            if s.workspace.has_memory
            else _go(Phase.STOP)(s)
        )
    return Call(SuspendInstance(s.place), Phase.AWAIT_SUSPENDED)


def _came_back(s: _Situation) -> Change:
    """A machine that runs again after it was to be suspended is asked once more; its guest may have been busy."""
    undone = s.operation.suspends_undone + 1
    if not s.workspace.memory_is_ready or undone >= SUSPENDS_UNDONE:
        why = f"The machine came back to running {undone} times instead of being suspended, so it was shut down."
        return _give_memory_up(s, why)
    counted = replace(s.workspace, operation=replace(s.operation, suspends_undone=undone))
    return proceed(
        counted, "SuspendUndone", s.now, s.policy, phase=Phase.SUSPEND, delay=s.policy.look_max
    )


def _give_memory_up(s: _Situation, why: str) -> Change:
    """Shut down what cannot be suspended, and remember why until the record says so."""
    because = replace(s.workspace, operation=replace(s.operation, memory_lost_because=why))
    return proceed(because, "SuspendGivenUp", s.now, s.policy, phase=Phase.STOP)


def _stop_if_idle(s: _Situation) -> Change | Call:
    """Stop, unless somebody connected meanwhile, or it is the clean-up after a START whose machine can be used after all."""
    if s.operation.failure is not None and _can_be_used(s):
        return finish(s.workspace, Status.READY, "WorkspaceReady", s.now)
    if s.operation.failure is not None and s.operation.attempt == 0:
        return _begin_cleanup(s)
    if s.operation.kind is OperationKind.STOP and _in_use_after_all(s):
        return _abandon(s)
    return _stop(s)


def _delete_or_clean_up(s: _Situation) -> Change | Call:
    """Delete the machine; before the first deletion of a clean-up, commit that it begins."""
    if s.operation.failure is not None and s.operation.attempt == 0:
        return _begin_cleanup(s)
    if s.operation.kind is OperationKind.START and _can_be_used(s):
        return finish(
            s.workspace, Status.READY, "WorkspaceReady", s.now
        )  # somebody resumed it by hand meanwhile
    if (
        s.operation.automatic
        and s.operation.attempt == 0
        and observed_state(s.seen.instance) not in _OFF
    ):
        return _abandon_delete(s)
    if (
        s.operation.kind is OperationKind.START
        and _lacks_home(s.workspace, s.seen)
        and not _may_go_on(s)
    ):
        return _home_is_gone(s)
    return _delete(s)


def _can_be_used(s: _Situation) -> bool:
    """Whether the recorded machine runs with the memory of a boot that reported ready."""
    ours = s.seen.instance is not None and s.seen.instance.id == s.workspace.instance_id
    return (
        ours
        and observed_state(s.seen.instance) is ObservedState.RUNNING
        and s.workspace.memory_is_ready
    )


def _abandon_delete(s: _Situation) -> Change:
    """The retention sweep deletes only what is off: somebody has started this machine, and a worker looks what it is now."""
    kept = finish(
        s.workspace, s.workspace.status, "AutomaticDeleteAbandoned", s.now, s.workspace.error
    )
    return _noting(kept, attend_at=s.now)


def _lacks_home(workspace: Workspace, seen: StepInput) -> bool:
    """Whether the home disk is not where it is recorded, as far as this phase looks."""
    return workspace.home_disk is not None and not seen.disk_exists


def _may_go_on(s: _Situation) -> bool:
    """Whether a START can make a new machine although the home is not where it is recorded."""
    return (
        s.operation.empty_home
        or sum(disk.name == s.workspace.disk_name for disk in s.seen.disks) == 1
    )


def _begin_cleanup(s: _Situation) -> Change:
    """From this commit on it is too late for a machine to report ready: see ``may_still_be_saved``."""
    return proceed(s.workspace, "CleanupBegun", s.now, s.policy, phase=s.operation.phase, attempt=1)


def _in_use_after_all(s: _Situation) -> bool:
    """Whether an automatic stop is for a machine that is in use: somebody connected since, or it reports more rarely than known."""
    if not s.operation.automatic:
        return False
    if s.workspace.last_connected_at > s.operation.requested_at:
        return True
    due = idle_at(_knowing_interval(s), s.policy)
    return due is not None and s.now < due


def _knowing_interval(s: _Situation) -> Workspace:
    """Return the workspace with the interval that its machine itself has in its metadata."""
    every = s.seen.instance.heartbeat_interval if s.seen.instance else None
    return (
        s.workspace
        if every is None
        else replace(s.workspace, heartbeat_seconds=round(every.total_seconds()))
    )


def _abandon(s: _Situation) -> Change:
    """Leave the machine running, and the workspace in the status that it had."""
    kept = finish(
        _knowing_interval(s), s.workspace.status, "AutomaticStopAbandoned", s.now, s.workspace.error
    )
    return _noting(kept, machine_running=True)


def _suspended(s: _Situation) -> Change:
    kept = s.workspace
    if kept.memory_is_ready:
        kept = replace(kept, memory_kept=True, memory_lost_because=None)
    return finish(kept, Status.SUSPENDED, "WorkspaceSuspended", s.now, _reason_kept(s))


def _reason_kept(s: _Situation) -> Problem | None:
    """Why the workspace was in ERROR stays to be read when its machine is only put to sleep."""
    return s.workspace.error if s.workspace.status is Status.ERROR else None


def _stopped(s: _Situation) -> Change:
    """A machine is off: a START that failed is over, one that restarts it boots it, a STOP is done (its memory is lost)."""
    if s.operation.failure is not None:
        forgetful, notes = without_memory(
            s.workspace, "The START failed, and its machine was shut down."
        )
        ended = _end_failed(replace(s, workspace=forgetful), s.operation.failure)
        return replace(ended, notes=notes)
    if s.operation.kind is OperationKind.START:
        return _boot_off(s)
    why = (
        s.operation.memory_lost_because
        or "The machine was shut down outside the Hub while it was to be suspended."
    )
    forgetful, notes = without_memory(s.workspace, why)
    stopped = finish(forgetful, Status.SUSPENDED, "WorkspaceStopped", s.now, _reason_kept(s))
    return replace(stopped, notes=notes)


def _thawable(s: _Situation) -> Change:
    """A machine that was to be off is suspended: that is as good, for whoever wanted it off."""
    if s.operation.failure is not None:
        return _end_failed(s, s.operation.failure)
    if s.operation.kind is OperationKind.START:
        return _go(Phase.SURVEY)(s)
    return _suspended(s)


def _instance_gone(s: _Situation) -> Change:
    if s.operation.kind is OperationKind.DELETE and s.seen.elsewhere:
        return _follow_elsewhere(s, Phase.DELETE_INSTANCE)
    leaves_zone = s.workspace.zone in s.operation.zones_tried
    if s.operation.kind is OperationKind.START and s.operation.failure is None and not leaves_zone:
        return _boot_new(s)
    return _go(Phase.DELETE_DISK)(s)


def _delete_disk(s: _Situation) -> Change | Call:
    """Delete one of the workspace's disks: first its home, then what else is left of it, those in its zone first.

    What else there is (a boot disk that outlived its machine, a copy in another zone) only a DELETE
    looks for.
    """
    if s.seen.disk_exists:
        return Call(
            DeleteDisk(Place(s.workspace.zone, s.workspace.disk_name)), Phase.AWAIT_DISK_ABSENT
        )
    disk = min(
        s.seen.disks,
        key=lambda disk: (disk.zone != s.workspace.zone, disk.in_use, disk.zone, disk.name),
    )
    if disk.zone == s.workspace.zone:
        return Call(DeleteDisk(Place(disk.zone, disk.name)), Phase.AWAIT_DISK_ABSENT)
    there = replace(s.workspace, zone=disk.zone)
    return proceed(there, "DiskFoundElsewhere", s.now, s.policy, phase=Phase.DELETE_DISK)


def _disk_gone(s: _Situation) -> Change:
    """Nothing is left in this zone: a DELETE forgets the record, a failed CREATE ends, another one goes to its next zone."""
    if s.operation.kind is OperationKind.DELETE:
        return _go(Phase.FORGET)(s)
    if s.operation.failure is not None:
        return _end_failed(s, s.operation.failure)
    zone = next(
        (zone for zone in s.policy.zones if zone not in s.operation.zones_tried), s.workspace.zone
    )
    return enter_boot(replace(s.workspace, zone=zone), Phase.INSERT, s.now, s.policy)


def _forget(s: _Situation) -> Change:
    """Forget the record, once no worker of a superseded operation can still be making a machine or a disk."""
    after = s.operation.forget_after
    if after is not None and s.now < after:
        pause = min(after - s.now, s.policy.look_max)
        return proceed(s.workspace, "StepAwaited", s.now, s.policy, delay=pause)
    if s.seen.disk_exists:
        return _go(Phase.DELETE_DISK)(s)
    return Change(None, "WorkspaceDeleted")


def _lost(s: _Situation) -> Change:
    """There is no machine. A workspace in ERROR that never had one keeps the reason for that."""
    if s.seen.elsewhere:
        return _follow_elsewhere(s, s.operation.phase)
    if s.operation.kind is OperationKind.STOP and s.workspace.error is not None:
        return fail(s, s.workspace.error)
    message = "The machine was deleted outside the Hub. Start the workspace to get a new machine on its home disk."
    return fail(s, _problem(s, MACHINE_GONE, message))


def _cut_off(s: _Situation) -> Change:
    message = (
        "The machine was stopped while it booted, by hand or because its capacity was taken back."
    )
    return fail(
        s, _problem(s, "MACHINE_STOPPED", f"{message} {_WAY_OUT[s.operation.kind]}", retryable=True)
    )


def _wait_long(s: _Situation) -> Change:
    """The machine's report ends this phase, and a failure's report too: looking only catches a machine that was lost."""
    return proceed(s.workspace, "StepAwaited", s.now, s.policy, delay=s.policy.look_max)


def _if_ours(move: Move) -> Move:
    """Make the move on the recorded machine.

    A START that was to change image or machine type, and failed before its old machine was deleted,
    has left no machine recorded: the one that there is will not do, and a new one is made. A
    machine that somebody made anew by hand at the same place is taken for ours; it has booted by
    itself, so it is booted again.
    """

    def checked(s: _Situation) -> Change | Call:
        if s.seen.instance is not None and s.seen.instance.id == s.workspace.instance_id:
            return move(s)
        if s.seen.instance is None or s.workspace.instance_id is None:
            remade = replace(s.workspace, operation=replace(s.operation, remade=True))
            return proceed(remade, "PhaseEntered", s.now, s.policy, phase=Phase.DELETE_INSTANCE)
        forgetful, notes = without_memory(s.workspace, "The machine was made anew outside the Hub.")
        known = replace(
            forgetful, instance_id=s.seen.instance.id, machine_made_at=s.seen.instance.created_at
        )
        return replace(
            proceed(known, "InstanceFound", s.now, s.policy, phase=Phase.SURVEY), notes=notes
        )

    return checked


_use_ours = _if_ours(_unless_homeless(_use_or_stop))
_resume_ours = _if_ours(_unless_stuck(_unless_homeless(_resume)))
_boot_ours = _if_ours(_unless_stuck(_unless_homeless(_boot_off)))
_OFF = {ObservedState.ABSENT, ObservedState.SUSPENDED, ObservedState.TERMINATED}
_survey = _go(Phase.SURVEY)
_booting = _go(Phase.AWAIT_READY)
_repeat_delete = _again(Phase.DELETE_INSTANCE)
_restart_delete = _go(Phase.DELETE_INSTANCE)

# ---- the table ------------------------------------------------------------------------------------------------------

_SIGHTS = (
    ObservedState.ABSENT, ObservedState.BOOTING, ObservedState.RUNNING, ObservedState.SUSPENDING, ObservedState.SUSPENDED, ObservedState.STOPPING, ObservedState.TERMINATED,
)  # fmt: skip

_ROWS: dict[Phase, tuple[Move, ...]] = {
    #                          absent                booting          running             suspending       suspended             stopping         terminated
    # a START begins: what is there decides how it gets to READY
    Phase.SURVEY:           (_survey_absent,       _wait,           _use_ours,          _wait,           _resume_ours,         _wait,           _boot_ours),
    Phase.RESUME:           (_survey,              _wait,           _use_or_stop,       _wait,           _resume,              _wait,           _survey),
    Phase.AWAIT_RUNNING:    (_survey,              _wait,           _use_or_stop,       _wait,           _again(Phase.RESUME), _wait,           _survey),
    # a boot of a machine that exists
    Phase.SET_METADATA:     (_survey,              _survey,         _survey,            _wait,           _survey,              _wait,           _refresh_metadata),
    Phase.AWAIT_METADATA:   (_survey,              _booting,        _booting,           _wait,           _survey,              _wait,           _start),
    Phase.START:            (_survey,              _booting,        _booting,           _wait,           _survey,              _wait,           _start),
    Phase.STARTING:         (_survey,              _booting,        _booting,           _wait,           _survey,              _wait,           _again(Phase.START)),
    # a boot of a new machine
    Phase.INSERT:           (_insert,              _inserted,       _inserted,          _inserted,       _inserted,            _inserted,       _inserted),
    Phase.INSERTING:        (_again(Phase.INSERT), _wait,           _booting,           _booting,        _booting,             _booting,        _booting),
    # any boot ends with the machine's own report, which does not come through here
    Phase.AWAIT_READY:      (_lost,                _wait_long,      _wait_long,         _wait,           _cut_off,             _wait,           _cut_off),
    # a STOP, and the clean-up after a START that failed
    Phase.SUSPEND:          (_lost,                _wait,           _suspend,           _wait,           _suspended,           _wait,           _stopped),
    Phase.AWAIT_SUSPENDED:  (_lost,                _wait,           _came_back,         _wait,           _suspended,           _wait,           _stopped),
    Phase.STOP:             (_lost,                _wait,           _stop_if_idle,      _wait,           _thawable,            _wait,           _stopped),
    Phase.AWAIT_STOPPED:    (_lost,                _wait,           _again(Phase.STOP), _wait,           _thawable,            _wait,           _stopped),
    # a DELETE, the clean-up after a CREATE that failed, and the first half of a START that makes a
    # new machine
    Phase.DELETE_INSTANCE:  (_instance_gone,       _delete_or_clean_up, _delete_or_clean_up, _delete_or_clean_up, _delete_or_clean_up, _delete_or_clean_up, _delete_or_clean_up),
    Phase.AWAIT_ABSENT:     (_instance_gone,       _repeat_delete,  _repeat_delete,     _repeat_delete,  _repeat_delete,       _wait,           _repeat_delete),
    Phase.FORGET:           (_forget,              _restart_delete, _restart_delete,    _restart_delete, _restart_delete,      _restart_delete, _restart_delete),
}  # fmt: skip

TABLE: dict[tuple[Phase, ObservedState], Move] = {
    (phase, seen): move
    for phase, row in _ROWS.items()
    for seen, move in zip(_SIGHTS, row, strict=True)
}

# The two phases that look at the workspace's disks instead of the machine: (when one is there, when
# none is).
DISK_TABLE: dict[Phase, tuple[Move, Move]] = {
    Phase.DELETE_DISK: (_delete_disk, _disk_gone),
    Phase.AWAIT_DISK_ABSENT: (_again(Phase.DELETE_DISK), _go(Phase.DELETE_DISK)),
}

# Where a phase goes back to when its Compute operation ended in an error that a new attempt may get
# over.
_CALLING = {
    Phase.INSERTING: Phase.INSERT,
    Phase.AWAIT_METADATA: Phase.SET_METADATA,
    Phase.STARTING: Phase.START,
    Phase.AWAIT_RUNNING: Phase.RESUME,
    Phase.AWAIT_SUSPENDED: Phase.SUSPEND,
    Phase.AWAIT_STOPPED: Phase.STOP,
    Phase.AWAIT_ABSENT: Phase.DELETE_INSTANCE,
    Phase.AWAIT_DISK_ABSENT: Phase.DELETE_DISK,
}


# ---- deciding -------------------------------------------------------------------------------------------------------


def reads_disk(operation: Operation) -> bool:
    """Say whether the next step goes by whether the home disk is where it is recorded."""
    remakes = operation.kind is OperationKind.START and operation.phase is Phase.DELETE_INSTANCE
    return remakes or operation.phase in {Phase.INSERT, Phase.FORGET, *DISK_TABLE}


def seeks_elsewhere(workspace: Workspace, seen: StepInput) -> tuple[bool, bool]:
    """Say whether the next step goes by the workspace's machines in other zones, and by its disks in any zone.

    Both cost two lists of the whole project, so they are made only where something is missing that
    should be there, and where everything is to go.
    """
    operation = workspace.operation
    if operation is None or seen.pending or seen.fault is not None:
        return False, False
    homeless = reads_disk(operation) and _lacks_home(workspace, seen)
    if seen.instance is not None:
        return False, homeless
    phase, deletes = operation.phase, operation.kind is OperationKind.DELETE
    recorded = (
        phase in {Phase.SURVEY, Phase.SUSPEND, Phase.STOP} and workspace.instance_id is not None
    )
    last_look = deletes and phase is Phase.DELETE_DISK and not seen.disk_exists
    return recorded or last_look, homeless or last_look


def reads_console(workspace: Workspace, now: datetime) -> bool:
    """Say whether the next step tells a person what the machine printed: a boot is overdue."""
    operation = workspace.operation
    return (
        operation is not None
        and operation.phase is Phase.AWAIT_READY
        and now >= operation.deadline_at
    )


def plan(workspace: Workspace, seen: StepInput, now: datetime, policy: Policy) -> Change | Call:
    """Decide the operation's next step: a change of the record, or one call to Compute that ``record_outcome`` then follows.

    A job may come after the deadline: what has succeeded by then is taken, and everything else
    ends.
    """
    s = _situation(workspace, seen, now, policy)
    decision = _decide(s)
    if now < s.operation.deadline_at or _ends(decision) or _nears_the_end(s, decision):
        return decision
    return _overdue(s)


def _decide(s: _Situation) -> Change | Call:
    """Look the move up, and make it."""
    if s.seen.pending:
        return _wait(s)
    if s.seen.fault is not None:
        return _refused(s, s.seen.fault)
    if s.operation.phase not in DISK_TABLE:
        return TABLE[s.operation.phase, observed_state(s.seen.instance)](s)
    if (
        s.seen.instance is not None
    ):  # a worker of a superseded operation made it after this one had looked
        return _restart_delete(s)
    if s.seen.elsewhere:
        return _follow_elsewhere(s, Phase.DELETE_INSTANCE)
    there, gone = DISK_TABLE[s.operation.phase]
    return there(s) if s.seen.disk_exists or s.seen.disks else gone(s)


def _ends(decision: Change | Call) -> bool:
    """Say whether a decision ends the operation, or begins to clean up after it."""
    if isinstance(decision, Call):
        return False
    operation = decision.workspace.operation if decision.workspace else None
    return operation is None or (
        operation.failure is not None and decision.event.endswith("Failed")
    )


def _nears_the_end(s: _Situation, decision: Change | Call) -> bool:
    """Say whether a DELETE finds gone what was to go, and only has to see to it that nothing else is left: without a call or a wait."""
    if (
        isinstance(decision, Call)
        or s.operation.kind is not OperationKind.DELETE
        or _sees_anything(s.seen)
    ):
        return False
    operation = decision.workspace.operation if decision.workspace else None
    return (
        s.operation.phase in DISK_TABLE
        and operation is not None
        and operation.phase is not s.operation.phase
    )


def _sees_anything(seen: StepInput) -> bool:
    return (
        seen.pending
        or seen.instance is not None
        or seen.disk_exists
        or bool(seen.elsewhere or seen.disks)
    )


def record_outcome(
    workspace: Workspace,
    seen: StepInput,
    call: Call,
    outcome: StartedCall | Fault,
    now: datetime,
    policy: Policy,
) -> Change:
    """Record what came of a call that was planned on ``seen``: Compute's operation to wait for, or what its refusal means."""
    s = _situation(workspace, seen, now, policy)
    known = _keeping_home(s, call.command)
    if isinstance(outcome, Fault):
        return _refused(replace(s, workspace=known), outcome, of=call.command)
    known, notes = _after_call(replace(s, workspace=known), call.command, outcome)
    moved = proceed(
        known,
        type(call.command).__name__,
        now,
        policy,
        delay=policy.look_min,
        phase=call.leads_to,
        attempt=s.operation.attempt,
        gce_operation=outcome.gce_operation,
    )
    return replace(moved, notes=(*call.notes, *notes))


def _keeping_home(s: _Situation, command: Command) -> Workspace:
    """Return the workspace with its home recorded, if a START attaches one: it may hold somebody's work, so it binds to the zone."""
    attaches = isinstance(command, InsertInstance) and command.attach_home
    if attaches and s.operation.kind is OperationKind.START and s.workspace.home_disk is None:
        return replace(s.workspace, home_disk=HomeDisk(s.workspace.disk_name, s.workspace.zone))
    return s.workspace


def _after_call(
    s: _Situation, command: Command, begun: StartedCall
) -> tuple[Workspace, tuple[Note, ...]]:
    """Return what the record says once Compute has accepted a call, and what to note: what is lost is lost from here on."""
    known, operation = s.workspace, s.operation
    match command:
        case InsertInstance():
            known = replace(
                known,
                instance_id=begun.target_id,
                heartbeat_seconds=_interval(s.policy),
                machine_made_at=s.now,
            )
        case RefreshMetadata():
            known = replace(known, heartbeat_seconds=_interval(s.policy))
        case DeleteInstance():
            deleted = operation.kind is OperationKind.DELETE
            why = (
                "The workspace is being deleted."
                if deleted
                else operation.cannot_go_on or "A new machine was asked for."
            )
            return without_memory(known, why)
        case DeleteDisk(place) if known.home_disk is not None and place.name == known.disk_name:
            return replace(known, home_disk=None), (
                Note("HomeDeleted", "The home disk was deleted with its workspace."),
            )
        case _:
            pass
    return known, ()


def _interval(policy: Policy) -> int:
    return round(policy.machine_heartbeat_interval.total_seconds())


def may_still_be_saved(operation: Operation) -> bool:
    """Say whether a failed operation has not begun to clean up: then a machine that reports ready has won after all.

    The worker commits the beginning of the clean-up before its first call, so that no machine is
    deleted that was believed ready.
    """
    cleaning = {Phase.DELETE_INSTANCE, Phase.STOP}
    return operation.failure is not None and operation.phase in cleaning and operation.attempt == 0


def remake_for(workspace: Workspace, why: str, now: datetime, policy: Policy) -> Change | None:
    """Have a START make a new machine on the same home, if it has not done so yet; None if it may not."""
    operation = workspace.operation
    if operation is None or operation.kind is not OperationKind.START or operation.remade:
        return None
    return _remake(_situation(workspace, StepInput(), now, policy), why)


def fail(s: "_Situation", problem: Problem) -> Change:
    """Give the operation up for good, cleaning up first what must not be left running.

    A CREATE deletes its machine and disk; a START stops its machine, which an insert that nobody
    has recorded may have made, and never deletes it; a STOP and a DELETE end at once.
    """
    if s.operation.failure is not None:
        return _end_failed(s, s.operation.failure)
    failed = replace(s.operation, failure=problem, deadline_at=s.now + s.policy.deadlines.delete)
    cleaning = replace(s.workspace, operation=failed)
    if s.operation.kind is OperationKind.CREATE:
        return proceed(cleaning, "CreateFailed", s.now, s.policy, phase=Phase.DELETE_INSTANCE)
    if s.operation.kind is OperationKind.START and problem.code != MACHINE_GONE:
        return proceed(cleaning, "StartFailed", s.now, s.policy, phase=Phase.STOP)
    return _end_failed(s, problem)


def way_out(kind: OperationKind) -> str:
    """Return what a person can do after an operation of this kind has failed."""
    return _WAY_OUT[kind]


def fail_from_outside(
    workspace: Workspace, problem: Problem, now: datetime, policy: Policy
) -> Change:
    """Give the operation up because somebody else said so: the machine itself, or a dead letter."""
    return fail(_situation(workspace, StepInput(), now, policy), problem)


def _situation(workspace: Workspace, seen: StepInput, now: datetime, policy: Policy) -> _Situation:
    if workspace.operation is None:
        raise ValueError("no operation is under way")
    return _Situation(workspace, workspace.operation, seen, now, policy)


def _end_failed(s: _Situation, problem: Problem) -> Change:
    """End the operation with a problem. A STOP leaves what is seen; everything else ends in ERROR.

    Somebody looks again later: what was seen may have been on its way.
    """
    status = Status.ERROR
    if s.operation.kind is OperationKind.STOP and s.seen.instance is not None:
        recorded = Status.READY if s.workspace.memory_is_ready else Status.ERROR
        status = observe(
            replace(s.workspace, status=recorded, error=None), s.seen.instance, s.now
        ).status
    ended = finish(s.workspace, status, f"{s.operation.kind.capitalize()}Failed", s.now, problem)
    running = observed_state(s.seen.instance) is ObservedState.RUNNING
    return _noting(ended, machine_running=running, attend_at=s.now + s.policy.attend_after)


def _noting(ended: Change, **fields: Any) -> Change:
    """Return an end with something more in its record."""
    assert ended.workspace is not None  # noqa: S101 -- finish never forgets
    return replace(ended, workspace=replace(ended.workspace, **fields))


def _overdue(s: _Situation) -> Change:
    """The deadline has passed. A boot that never reported says what the machine printed last."""
    kind = s.operation.kind
    within = _within(s)
    said = f" Compute Engine said last: {s.operation.last_fault}" if s.operation.last_fault else ""
    refused_last = (
        s.operation.phase in _CALLING.values()
    )  # otherwise Compute has accepted the call since
    if (
        s.operation.last_fault_kind == FaultKind.IN_USE
        and refused_last
        and kind is not OperationKind.STOP
    ):
        message = f"The {kind} did not end {within}, because something else uses a disk that it needs.{said} Detach it there. "
        return fail(s, _problem(s, "DISK_IN_USE", message + _WAY_OUT[kind], retryable=True))
    if s.operation.phase is not Phase.AWAIT_READY:
        message = f"The {kind} did not end {within}. {_WAY_OUT[kind]}{said}"
        return fail(s, _problem(s, f"{kind}_TIMED_OUT", message, retryable=True))
    console = quoted_lines(s.seen.console, CONSOLE_TAIL_BYTES)
    printed = f" The machine printed last:\n{console}" if console else ""
    message = f"The machine did not report ready {within}. {_WAY_OUT[kind]}{printed}"
    return fail(s, _problem(s, "NOT_READY_IN_TIME", message, retryable=True))


def overdue_unseen(workspace: Workspace, now: datetime, policy: Policy) -> Change:
    """End an operation whose deadline has passed while Compute answers nothing, so that a person can ask for something else.

    What there is stays as it is, and nobody knows it: the record says what is likelier, and
    somebody looks again soon.
    """
    s = _situation(workspace, StepInput(), now, policy)
    kind = s.operation.kind
    message = f"The {kind} did not end {_within(s)}, because Compute Engine does not answer. {_WAY_OUT[kind]}"
    problem = s.operation.failure or _problem(s, "COMPUTE_UNAVAILABLE", message, retryable=True)
    status = (
        Status.READY if kind is OperationKind.STOP and workspace.memory_is_ready else Status.ERROR
    )
    ended = finish(workspace, status, f"{kind.capitalize()}Failed", now, problem)
    boots = kind in {OperationKind.CREATE, OperationKind.START}
    return _noting(
        ended,
        machine_running=boots or workspace.machine_running,
        attend_at=now + policy.attend_after,
    )


def _within(s: _Situation) -> str:
    """Say how long the operation had."""
    seconds = s.policy.deadlines.of(s.operation.kind).total_seconds()
    return (
        f"within {seconds / 60:g} minutes" if seconds % 60 == 0 else f"within {seconds:g} seconds"
    )


def _refused(s: _Situation, fault: Fault, of: Command | None = None) -> Change:
    """Say what Compute's refusal means here. ``of`` is the call that was refused at once, None for a long operation's end.

    What passes by itself is waited for until the deadline. Only a definite "this cannot be" goes a
    step down: from suspending to shutting down, from thawing or booting to a new machine on the
    same home, and that only after another look. Where memory is at stake, an answer that nobody
    understands is not definite. Everything else leaves what there is as it is. A machine that is
    only too old, and may not be deleted, is booted.
    """
    phase = _CALLING.get(s.operation.phase, s.operation.phase)
    inserting = phase is Phase.INSERT
    if fault.kind is FaultKind.STOCK_OUT and inserting and s.workspace.home_disk is None:
        return _next_zone(s, fault)
    if fault.kind is FaultKind.STOCK_OUT and s.operation.kind is OperationKind.START:
        asleep = replace(
            s.workspace, suspended_at=None
        )  # its owner wants it: the time until it is forgotten begins anew
        without = replace(asleep, instance_id=None) if inserting else asleep
        return finish(without, Status.SUSPENDED, "StartRefused", s.now, _no_capacity_here(s, fault))
    said = fault.message
    if fault.resource and fault.resource not in said:
        said = f"{said.rstrip('.')} ({fault.resource})"
    said = said if said.endswith((".", "!", "?")) else f"{said}."
    noted = replace(s.operation, last_fault=said, last_fault_kind=fault.kind.value)
    if fault.kind is FaultKind.PERMISSION and noted.right_missing_since is None:
        noted = replace(noted, right_missing_since=s.now)
    s = replace(s, workspace=replace(s.workspace, operation=noted), operation=noted)
    if fault.kind is FaultKind.ALREADY_EXISTS and inserting:
        return _in_the_way(s, fault)
    if _may_pass(s, fault, phase, of):
        return _again(phase)(s)
    if fault.kind is FaultKind.UNSUPPORTED and phase is Phase.SUSPEND:
        return _give_memory_up(
            s, f"Compute Engine cannot suspend this machine, so it was shut down. It said: {said}"
        )
    resuming = isinstance(of, ResumeInstance) or (of is None and phase is Phase.RESUME)
    booting = isinstance(of, StartInstance | RefreshMetadata) or (
        of is None and phase in {Phase.SET_METADATA, Phase.START}
    )
    cannot_resume = resuming and fault.kind is FaultKind.UNSUPPORTED
    cannot_boot = booting and fault.kind in {FaultKind.UNSUPPORTED, FaultKind.INVALID}
    if (cannot_resume or cannot_boot) and not s.operation.remade:
        cannot = "resumed" if resuming else "started"
        why = (
            f"The machine could not be {cannot}, so a new one was made. Compute Engine said: {said}"
        )
        stuck = replace(s.workspace, operation=replace(s.operation, cannot_go_on=why))
        return proceed(stuck, "MachineStuck", s.now, s.policy, phase=Phase.SURVEY)
    if s.operation.renews and phase is Phase.DELETE_INSTANCE:
        return _boot_although_old(s, said)
    return fail(s, _refusal(s, fault, said, of))


def _may_pass(s: _Situation, fault: Fault, phase: Phase, of: Command | None) -> bool:
    """Say whether a refusal may be over by the next look. A missing right may just have been given: see ``rights_patience``."""
    if fault.kind is FaultKind.PERMISSION:
        since = s.operation.right_missing_since or s.now
        return s.now - since < s.policy.rights_patience
    if fault.kind is FaultKind.INVALID and (
        phase in {Phase.SUSPEND, Phase.RESUME} or isinstance(of, ResumeInstance)
    ):
        return (
            True  # perhaps a shape that no row of the error table knows: no reason to lose memory
        )
    return fault.kind in _PASSING or (
        fault.kind is FaultKind.NOT_FOUND and phase is not Phase.INSERT
    )


def _in_the_way(s: _Situation, fault: Fault) -> Change:
    """Something has a name that the insert needs. A machine is taken at the next look, and so is the home disk.

    A boot disk that outlived its machine is not waited for: a new generation has another name for
    its own, once.
    """
    kind, _, name = fault.resource.rpartition("/")
    if not kind.endswith("disks") or name == s.workspace.disk_name:
        return _again(Phase.INSERT)(s)
    if s.operation.renamed:
        return fail(s, _refusal(s, fault, s.operation.last_fault or fault.message, None))
    renamed = replace(s.workspace, operation=replace(s.operation, renamed=True))
    return enter_boot(renamed, Phase.INSERT, s.now, s.policy)


def _refusal(s: _Situation, fault: Fault, said: str, of: Command | None) -> Problem:
    words = {
        FaultKind.QUOTA: (
            "COMPUTE_QUOTA_EXCEEDED",
            "The project's Compute Engine quota is used up.",
            True,
        ),
        FaultKind.PERMISSION: (
            "COMPUTE_PERMISSION_DENIED",
            "The Hub may not do this in Compute Engine.",
            False,
        ),
        FaultKind.POLICY: (
            "COMPUTE_POLICY_FORBIDS",
            "A policy of the organisation forbids this.",
            False,
        ),
        FaultKind.ALREADY_EXISTS: (
            "COMPUTE_NAME_TAKEN",
            "Something else has the name that the machine needs.",
            False,
        ),
    }
    code, what, retryable = words.get(
        fault.kind, ("COMPUTE_REFUSED", "Compute Engine refused the machine.", False)
    )
    doing = f" ({type(of).__name__})" if of is not None else ""
    message = f"{what} It said{doing}: {said} {_way_out(s, fault.kind)}"
    return _problem(s, code, message, retryable=retryable)


def _way_out(s: _Situation, kind: FaultKind | None) -> str:
    """Say what a person can do that works."""
    if kind in {FaultKind.PERMISSION, FaultKind.POLICY}:
        return f"Whoever runs this Hub must change that. {_WAY_OUT[s.operation.kind]}"
    return _WAY_OUT[s.operation.kind]


def _next_zone(s: _Situation, fault: Fault) -> Change:
    """Leave a zone that is out of capacity, taking along whatever the attempt may have left there."""
    tried = (*s.operation.zones_tried, s.workspace.zone)
    operation = replace(s.operation, zones_tried=tried)
    noted = replace(s.workspace, operation=operation)
    if any(zone not in tried for zone in s.policy.zones):
        return proceed(noted, "ZoneExhausted", s.now, s.policy, phase=Phase.DELETE_DISK)
    message = (
        f"No capacity for {s.workspace.machine_type} in any configured zone ({', '.join(tried)}). "
        f"Try again later, or with another machine type. Compute said: {fault.message}"
    )
    return fail(
        replace(s, workspace=noted, operation=operation),
        _problem(s, "NO_CAPACITY", message, retryable=True),
    )


def _no_capacity_here(s: _Situation, fault: Fault) -> Problem:
    kept = "disk and memory are" if s.workspace.memory_is_ready else "disk is"
    message = (
        f"Zone {s.workspace.zone} has no capacity for {s.workspace.machine_type} now. The workspace's {kept} in "
        f"that zone, so it cannot move. Start it again later. Compute said: {fault.message}"
    )
    return _problem(s, "NO_CAPACITY", message, retryable=True)


def _problem(s: _Situation, code: str, message: str, *, retryable: bool = False) -> Problem:
    return Problem(code, message, retryable, s.now, s.operation.kind)


_WAY_OUT = {
    OperationKind.CREATE: "Start the workspace to try again, or delete it.",
    OperationKind.START: "Start the workspace again, or delete it.",
    OperationKind.STOP: "Stop the workspace again.",
    OperationKind.DELETE: "Delete the workspace again.",
}
