"""What people and the clock may ask of a workspace, and what follows.

Each function takes the record and the time, and returns an ``Updated``; None if nothing changes,
as when the same operation is under way already. ``steps`` has the table of what an operation then
does, ``reports`` what machines may say.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.domain.access import Actor
from shared.domain.changes import Note, Updated, due_look_job, job_of, with_former_home
from shared.domain.durations import phases_until
from shared.domain.errors import (
    FieldProblem,
    InvalidRequestError,
    NameTakenError,
    NoHomeError,
    NotAwakeError,
    OperationUnderWayError,
    TooManyRequestsError,
)
from shared.domain.forks import forked
from shared.domain.idleness import awake_until
from shared.domain.jobs import MOST_DOUBLINGS, Job
from shared.domain.policy import Policy
from shared.domain.snapshot_room import KnownSnapshots, check_room
from shared.domain.snapshots import Snapshot, SnapshotState, source_of, unwanted
from shared.domain.steps import ARCHIVED, SNAPSHOT_PHASES, Step, fail, problem_of, way_out
from shared.domain.workspace import (
    MAKING,
    Activity,
    Metadata,
    Operation,
    OperationKind,
    Phase,
    Status,
    Workspace,
)

ARCHIVED_AGAIN_AFTER = timedelta(days=1)  # after an automatic ARCHIVE that failed
CLEANUP = "cleanup"  # the id of the actor that stands for the scheduled clean-up
_NONE_KNOWN = KnownSnapshots()
_NOT_STOPPED_YET = {Phase.SUSPEND, Phase.STOP}  # the phases of a STOP before Compute is called


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkspace:
    """What a person asks for; the values are allowed. None stands for a default (``create``).

    ``from_snapshot`` is the id of the snapshot that its home is made from; None if it is empty.
    """

    name: str
    machine_type: str | None = None
    image_tag: str | None = None
    zone: str | None = None
    metadata: Metadata | None = None
    from_snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class NewMachine:
    """What a START is to change. None leaves it as it is.

    ``empty_home``: if the recorded home disk is gone, go on with an empty one instead of failing.
    ``rebuild``: make a new machine on the same home, even if nothing else is to change and the
    present one could be resumed or is in use. ``name`` is the workspace's name from now on: its own
    may be another's, if a DELETE of this one has failed. ``may_move``: if its zone has no capacity,
    move it to another one. ``zone``: move it to this one; with both, to any other if this one has
    no capacity. A move loses its memory. ``home_disk_gb`` is the size to which its home is to grow;
    that takes a new machine.
    """

    image_tag: str | None = None
    machine_type: str | None = None
    empty_home: bool = False
    rebuild: bool = False
    name: str | None = None
    may_move: bool = False
    zone: str | None = None
    home_disk_gb: int | None = None


@dataclass(frozen=True, slots=True)
class NewConnection:
    """What the owner says when they connect.

    ``device_id`` is from where. ``start``: True if a person wants in now, False if something
    reconnects by itself, None if a person asked how to connect.
    """

    device_id: str | None = None
    start: bool | None = None


@dataclass(frozen=True, slots=True)
class NewOperation:
    """The operation that a request may begin: its id, who asks for it, and when."""

    id: str
    actor: Actor
    now: datetime


# ---- people --------------------------------------------------------------------------------------


def create(
    workspace_id: str,
    wanted: NewWorkspace,
    new: NewOperation,
    policy: Policy,
    source: Snapshot | None = None,
) -> Updated:
    """Begin a workspace. ``owner_limits.add_workspace`` decides first whether it is allowed.

    ``source`` is the snapshot that its home is made from. What the person does not say is as it was
    there, as far as the configuration still allows it, and else as the configuration has it.
    """
    operation = _operation(OperationKind.CREATE, Phase.INSERT, new, policy)
    workspace = Workspace(
        id=workspace_id,
        name=wanted.name,
        owner_id=new.actor.id,
        owner_email=new.actor.email,
        project_id=policy.project_id,
        instance_name=f"workspace-{workspace_id}",
        zone=wanted.zone or policy.zones[0],
        image_tag=wanted.image_tag or _image_tag(source, policy),
        machine_type=wanted.machine_type or _machine_type(source, policy),
        status=Status.PROVISIONING,
        created_at=new.now,
        updated_at=new.now,
        last_connected_at=new.now,
        last_activity=Activity.CREATED,
        metadata=_metadata(wanted.metadata or Metadata(), source),
        operation=operation,
        attend_at=new.now + policy.attend_after,
        home_source=source_of(source) if source else None,
    )
    return Updated(workspace, "WorkspaceRequested", job_of(workspace, operation))


def _image_tag(source: Snapshot | None, policy: Policy) -> str:
    if source is not None and policy.allows_image_tag(source.image_tag):
        return source.image_tag
    return policy.default_image_tag


def _machine_type(source: Snapshot | None, policy: Policy) -> str:
    if source is not None and source.machine_type in policy.machine_types:
        return source.machine_type
    return policy.default_machine_type


def _metadata(said: Metadata, source: Snapshot | None) -> Metadata:
    """Return what a workspace is for. The device is always that of the person who asks now."""
    if source is None:
        return said
    there = source.metadata
    return replace(said, repo=said.repo or there.repo, branch=said.branch or there.branch)


def stop(workspace: Workspace, new: NewOperation, policy: Policy) -> Updated | None:
    """Ask that a workspace be suspended. None if it is, or if a STOP is under way.

    Raises:
        OperationUnderWayError: another operation is under way.
    """
    under_way = workspace.operation
    if under_way is not None and under_way.kind is OperationKind.STOP:
        return _confirmed(workspace, under_way, new)
    if workspace.machine_operation is None and workspace.status is Status.SUSPENDED:
        return None
    if under_way is not None:
        raise OperationUnderWayError(under_way)
    return _begin(workspace, _operation(OperationKind.STOP, Phase.SUSPEND, new, policy), policy)


def start(
    workspace: Workspace,
    new: NewOperation,
    machine: NewMachine,
    policy: Policy,
    known: KnownSnapshots = _NONE_KNOWN,
) -> Updated | None:
    """Ask that a workspace be usable.

    It gets a new machine on the same home disk if its image or machine type is to change, if its
    home is to grow, or if it is to be rebuilt; in another zone, on a new disk there. Another name
    changes nothing else. None if it is ready and nothing is to change, or if the same START is
    under way. A START that makes a new machine anyway is the same as a rebuild; once it has ended,
    another rebuild is another START. If the same START is under way and has not heard that it may
    move, or may go on with an empty home, that is noted. An ARCHIVE that has not begun to delete
    the home disk is called off (``_start_instead``). ``known`` are the workspace's snapshots; they
    count only if it is to move to another zone.

    Raises:
        InvalidRequestError: it cannot move to this zone, or its home cannot get this size.
        OperationUnderWayError: another operation is under way, or a START with another machine,
            zone or name. A READY workspace of which a snapshot is taken is ready all the same.
        TooManyRequestsError: it runs and is to move, and another snapshot was asked for too short a
            time ago.
        QuotaExceededError: it is to move, and there will be no room for the snapshot of its home.
    """
    archiving = workspace.operation
    if archiving is not None and archiving.yields_to_start and workspace.home_disk is not None:
        return _start_instead(workspace, new, machine, policy, known)
    name = machine.name or workspace.name
    image_tag = machine.image_tag or workspace.image_tag
    machine_type = machine.machine_type or workspace.machine_type
    moves = machine.zone is not None and machine.zone != workspace.zone
    grows = _grows(workspace, machine, policy)
    other_machine = (image_tag, machine_type) != (workspace.image_tag, workspace.machine_type)
    changed = other_machine or moves or grows
    under_way = workspace.operation
    stays = workspace.status is Status.READY and not changed and not machine.rebuild
    if under_way is not None and not (workspace.machine_operation is None and stays):
        if _is_same_start(workspace, under_way, machine):
            return _allowing(workspace, under_way, new, machine)
        raise OperationUnderWayError(under_way)
    renamed = replace(workspace, name=name)
    if grows and workspace.home_disk is None:
        renamed = replace(renamed, home_gb=machine.home_disk_gb)  # its disk is made so
        grows = False
    if moves:
        return _start_elsewhere(renamed, new, machine, policy, known)
    if grows:
        return _begin(renamed, _growing(renamed, new, machine, policy), policy)
    if other_machine or machine.rebuild:
        return _start_anew(
            replace(renamed, image_tag=image_tag, machine_type=machine_type), new, machine, policy
        )
    if workspace.status is Status.READY:
        if renamed == workspace:
            return None
        return Updated(replace(renamed, updated_at=new.now), "WorkspaceRenamed")
    survey = _operation(OperationKind.START, Phase.SURVEY, new, policy)
    operation = replace(survey, empty_home=machine.empty_home, may_move=machine.may_move)
    return _begin(renamed, _in_its_zone(operation, workspace, machine), policy)


def _in_its_zone(operation: Operation, workspace: Workspace, machine: NewMachine) -> Operation:
    """Return a START that stays in the zone that was named, as one whose home is a disk does."""
    return operation if workspace.home_disk else replace(operation, to_zone=machine.zone)


def _start_instead(
    workspace: Workspace,
    new: NewOperation,
    machine: NewMachine,
    policy: Policy,
    known: KnownSnapshots,
) -> Updated | None:
    """Call an ARCHIVE off and begin a START. The home disk is there, and nothing deletes it.

    Before it calls Compute to delete a disk, an ARCHIVE commits that phase. So none of its workers
    can be deleting the disk now, and none will: each finds its operation over. A snapshot that it
    may be taking gets a record by which it is deleted. One that is taken stays, like any automatic
    one. If the machine may be going, the START goes on from there, and makes another one: Compute
    would take a machine away that was resumed meanwhile.

    Raises:
        OperationUnderWayError: the machine is going, and the START is to move the workspace.
    """
    archiving = workspace.operation
    assert archiving is not None  # noqa: S101 -- that is what is called off
    deletes = archiving.phase is Phase.DELETE_INSTANCE and archiving.attempt > 0
    is_going = deletes or archiving.phase is Phase.AWAIT_ABSENT
    if is_going and machine.zone not in {None, workspace.zone}:
        raise OperationUnderWayError(archiving)
    free = _without_archive(workspace, archiving)
    begun = start(free, new, machine, policy, known)
    if begun is None or begun.workspace.operation is None:  # it has a machine that can be used
        return begun
    operation = begun.workspace.operation
    if is_going and operation.phase is Phase.SURVEY:
        operation = replace(operation, phase=archiving.phase, gce_operation=archiving.gce_operation)
        begun = replace(begun, workspace=replace(begun.workspace, operation=operation))
    why = "The workspace was started, so it was not archived."
    left = archiving.phase in {Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT}
    return replace(
        begun,
        notes=(Note("ArchiveCalledOff", why), *begun.notes),
        snapshots=(unwanted(workspace, None, new.now, policy),) if left else (),
    )


def _without_archive(workspace: Workspace, archiving: Operation) -> Workspace:
    """Return a workspace whose ARCHIVE is called off, as it is found by a START."""
    free = replace(workspace, operation=None)
    if archiving.phase in SNAPSHOT_PHASES:
        free = replace(free, instance_id=None, machine_made_at=None)
    if free.memory_lost_because == ARCHIVED:
        why = "It was to be archived, so its machine was deleted or shut down."
        free = replace(free, memory_lost_because=why)
    return free


def _is_same_start(workspace: Workspace, under_way: Operation, machine: NewMachine) -> bool:
    """Say whether what is under way is the START that is asked for."""
    there = (
        workspace.name,
        under_way.image_tag or workspace.image_tag,
        under_way.machine_type or workspace.machine_type,
        under_way.to_zone or workspace.zone,
        under_way.home_gb or workspace.home_gb,
    )
    wanted = (
        machine.name,
        machine.image_tag,
        machine.machine_type,
        machine.zone,
        machine.home_disk_gb,
    )
    same = all(each in {None, is_} for each, is_ in zip(wanted, there, strict=True))
    makes = under_way.remade or under_way.moves
    goes_well = under_way.kind is OperationKind.START and under_way.failure is None
    return goes_well and same and (makes or not machine.rebuild)


def _growing(
    workspace: Workspace, new: NewOperation, machine: NewMachine, policy: Policy
) -> Operation:
    """Return a START that makes the home larger, and then a new machine on it.

    The present machine is recorded until the disk has grown: if that is refused, it stays.
    """
    growing = _operation(OperationKind.START, Phase.RESIZE_DISK, new, policy)
    operation = replace(
        growing,
        home_gb=machine.home_disk_gb,
        empty_home=machine.empty_home,
        remade=True,
        may_move=machine.may_move,
    )
    return _with_wanted(operation, workspace, machine)


def _with_wanted(operation: Operation, workspace: Workspace, machine: NewMachine) -> Operation:
    """Return a START that has yet to record another image and machine type."""
    image_tag, machine_type = machine.image_tag, machine.machine_type
    return replace(
        operation,
        image_tag=image_tag if image_tag != workspace.image_tag else None,
        machine_type=machine_type if machine_type != workspace.machine_type else None,
    )


def _start_elsewhere(
    workspace: Workspace,
    new: NewOperation,
    machine: NewMachine,
    policy: Policy,
    known: KnownSnapshots,
) -> Updated:
    """Begin a START that moves the workspace to a zone.

    The machine is shut down if it runs, and stays until the new one is READY. If the home is not a
    disk yet, nothing has to be moved.

    Raises:
        InvalidRequestError: the machine that the workspace had there before it moved still has the
            name.
        TooManyRequestsError, QuotaExceededError: as ``_check_can_be_kept`` raises them.
    """
    assert machine.zone is not None  # noqa: S101 -- that is why
    if any(old.zone == machine.zone and old.instance_id for old in workspace.old_homes):
        message = (
            "still has the machine that the workspace had there before. It is deleted within three "
            "hours, unless somebody has used it since. Choose another zone, or try again later"
        )
        raise InvalidRequestError([FieldProblem("zone", message)])
    if workspace.home_disk is None:
        survey = _operation(OperationKind.START, Phase.SURVEY, new, policy)
        there = replace(
            workspace,
            zone=machine.zone,
            instance_id=None,
            machine_made_at=None,
            image_tag=machine.image_tag or workspace.image_tag,
            machine_type=machine.machine_type or workspace.machine_type,
        )
        operation = replace(
            survey,
            to_zone=machine.zone,
            may_move=machine.may_move,
            empty_home=machine.empty_home,
        )
        return _begin(there, operation, policy)
    _check_can_be_kept(workspace, new, known, policy)
    moving = _operation(OperationKind.START, Phase.STOP, new, policy)
    operation = replace(
        moving,
        to_zone=machine.zone,
        moves=True,
        may_move=machine.may_move,
        empty_home=machine.empty_home,
        home_gb=machine.home_disk_gb,
        deadline_at=new.now + policy.deadlines.restore,
    )
    return _begin(workspace, _with_wanted(operation, workspace, machine), policy)


def _check_can_be_kept(
    workspace: Workspace, new: NewOperation, known: KnownSnapshots, policy: Policy
) -> None:
    """Refuse a move of whose home no snapshot can be taken now.

    If only the pause between two is not over, a machine that is off loses nothing by waiting for it
    in the operation. One that runs would be shut down, and its workspace could not be used.

    Raises:
        TooManyRequestsError: another snapshot was asked for too short a time ago.
        QuotaExceededError: there will be no room for it (``snapshot_room``).
    """
    next_at = next_snapshot_at(workspace, policy)
    if workspace.machine_running and next_at is not None and new.now < next_at:
        raise TooManyRequestsError(
            "A move takes a snapshot of the home, and another one was asked for a short time ago. "
            f"The workspace can move from {next_at:%Y-%m-%dT%H:%M:%SZ} on.",
            next_at - new.now,
        )
    check_room(known, policy)


def _allowing(
    workspace: Workspace, under_way: Operation, new: NewOperation, machine: NewMachine
) -> Updated | None:
    """Note what the person agrees to, for the START that is under way. None if it is noted."""
    allowed = replace(
        under_way,
        may_move=under_way.may_move or machine.may_move,
        empty_home=under_way.empty_home or machine.empty_home,
    )
    if allowed == under_way:
        return None
    return Updated(replace(workspace, operation=allowed, updated_at=new.now), "AgreementNoted")


def _grows(workspace: Workspace, machine: NewMachine, policy: Policy) -> bool:
    """Say whether a START is to make the home larger, or gives one that is not a disk another size.

    A size that an earlier START asked for, and could not make, is no lower limit.

    Raises:
        InvalidRequestError: it would be smaller than what is in it, or larger than it may be.
    """
    wanted, known = machine.home_disk_gb, workspace.home_gb
    least = known
    if workspace.home_disk is None:
        source_gb = workspace.home_source.disk_gb if workspace.home_source else 0
        least = max(source_gb, policy.home_disk_gb)
        known = max(known or 0, least)
    if wanted is None or wanted == known:
        return False
    if wanted > policy.home_disk_max_gb:
        message = f"is too large; a home may have {policy.home_disk_max_gb} GB at most"
        raise InvalidRequestError([FieldProblem("home_disk_gb", message)])
    if least is not None and wanted < least:
        message = f"is too small; the home has {least} GB, and can only grow"
        raise InvalidRequestError([FieldProblem("home_disk_gb", message)])
    return True


def _start_anew(
    wanted: Workspace, new: NewOperation, machine: NewMachine, policy: Policy
) -> Updated:
    """Begin a START that makes a new machine.

    The present machine will not do, even if this START fails before it is deleted: so the record
    does not name it any more.
    """
    remake = _operation(OperationKind.START, Phase.DELETE_INSTANCE, new, policy)
    unmade = replace(
        wanted,
        status=Status.PROVISIONING,
        instance_id=None,
        machine_made_at=None,
        suspended_at=None,
        machine_running=False,
    )
    operation = replace(
        remake, empty_home=machine.empty_home, remade=True, may_move=machine.may_move
    )
    begun = _begin(unmade, _in_its_zone(operation, wanted, machine), policy)
    note = Note("MachineRemade", "A new machine was asked for.")
    return replace(begun, notes=(note,)) if machine.rebuild else begun


def connect(
    workspace: Workspace, new: NewOperation, connection: NewConnection, policy: Policy
) -> Updated | None:
    """Note that the owner connects, and begin a START if they want in. None if nothing changes.

    Only a person moves ``last_connected_at``, and outside a START at most once in
    ``heartbeat_write_interval``: that is also what calls off an automatic STOP that has not reached
    the machine yet. During a DELETE nothing is noted.

    Raises:
        OperationUnderWayError: they want in, and ``start`` refuses.
    """
    begun = start(workspace, new, NewMachine(), policy) if connection.start else None
    if workspace.is_being_deleted:
        return None
    noted = begun.workspace if begun else workspace
    since = new.now - workspace.last_connected_at
    moves = begun is not None or since > policy.heartbeat_write_interval
    if moves and connection.start is not False:
        noted = replace(
            noted,
            last_connected_at=max(new.now, workspace.last_connected_at),
            last_activity=Activity.STARTED,
        )
    if connection.device_id is not None:
        noted = replace(noted, last_device_id=connection.device_id)
    if begun is not None:
        return replace(begun, workspace=noted)
    if noted == workspace:
        return None
    return Updated(replace(noted, updated_at=new.now), "ConnectRequested")


def keep_awake(
    workspace: Workspace, until: datetime | None, now: datetime, policy: Policy
) -> Updated | None:
    """Note until when a person wants the machine left alone; None takes it back. None: as it is.

    An automatic STOP that has not reached the machine yet is called off by its next step, as by a
    heartbeat. While a CREATE or START is under way, it counts for the machine that this makes.

    Raises:
        InvalidRequestError: ``until`` is over, or further ahead than ``keep_awake_most``.
        OperationUnderWayError: the machine is being stopped, archived or deleted, or what is under
            way has failed and cleans up.
        NotAwakeError: no machine runs, and none is about to.
    """
    if until is None:
        if workspace.kept_awake_until is None:
            return None
        ended = replace(workspace, kept_awake_until=None, updated_at=now)
        return Updated(ended, "KeepAwakeEnded")
    _check_kept_awake(until, now, policy)
    operation = workspace.machine_operation
    if operation is None:
        if not workspace.machine_running:
            raise NotAwakeError(workspace.status)
    elif (
        operation.kind in {OperationKind.DELETE, OperationKind.ARCHIVE}
        or operation.failure is not None  # what is left of it only cleans up
        or (
            operation.kind is OperationKind.STOP
            and not (operation.automatic and operation.phase in _NOT_STOPPED_YET)
        )
    ):
        raise OperationUnderWayError(operation)
    if workspace.kept_awake_until == until:
        return None
    kept = replace(workspace, kept_awake_until=until, updated_at=now)
    return Updated(kept, "KeepAwakeRequested")


def _check_kept_awake(until: datetime, now: datetime, policy: Policy) -> None:
    latest = (now + policy.keep_awake_most).replace(microsecond=0)
    if until > now + policy.keep_awake_most:
        message = f"is too far ahead; now it may be {latest:%Y-%m-%dT%H:%M:%SZ} at the latest"
    elif until <= now:
        message = f"is over; it must be ahead, {latest:%Y-%m-%dT%H:%M:%SZ} at the latest"
    else:
        return
    raise InvalidRequestError([FieldProblem("until", message)])


def delete(
    workspace: Workspace, new: NewOperation, policy: Policy, *, purge: bool = False
) -> Updated | None:
    """Ask that a workspace and all its resources be deleted. None if a DELETE is under way.

    With ``purge`` nothing of it is kept: it cannot be taken back. If a DELETE is under way that
    keeps a last copy, it goes on without one.

    It supersedes any other operation. If that one makes machines, one of its workers may be about
    to insert: the record is kept until no such worker can be running. If it takes a snapshot, that
    gets a record of its own by which it is deleted. What a RESTORE has made is not the home.
    """
    under_way = workspace.operation
    if under_way is not None and under_way.kind is OperationKind.DELETE:
        if purge and not under_way.purge:
            return _purged(workspace, under_way, new, policy)
        return _confirmed(workspace, under_way, new)
    begun_now = _operation(OperationKind.DELETE, Phase.DELETE_INSTANCE, new, policy)
    operation = replace(begun_now, purge=purge or policy.undelete_for is None)
    if under_way is not None and under_way.kind in MAKING:
        operation = replace(operation, forget_after=new.now + policy.worker_timeout)
    back = with_former_home(workspace, new.now + policy.worker_timeout)
    begun = _begin(back, operation, policy)
    if under_way is not None and under_way.phase in {Phase.SNAPSHOT, Phase.AWAIT_SNAPSHOT}:
        return replace(begun, snapshots=(unwanted(workspace, None, new.now, policy),))
    return begun


def _purged(
    workspace: Workspace, under_way: Operation, new: NewOperation, policy: Policy
) -> Updated:
    """Have the DELETE that is under way keep nothing. A last copy that it takes is deleted, too."""
    purging = replace(
        under_way, purge=True, last_copy=None, automatic=False, requested_by=new.actor.id
    )
    left: tuple[Snapshot, ...] = ()
    if under_way.phase in SNAPSHOT_PHASES:
        if under_way.phase is not Phase.AWAIT_STORED:
            left = (unwanted(workspace, None, new.now, policy),)
        purging = replace(
            purging,
            phase=Phase.DELETE_DISK,
            phase_since=new.now,
            phases=phases_until(under_way, new.now),
            step=under_way.step + 1,
            attempt=0,
            resends=0,
            gce_operation=None,
        )
    changed = replace(
        workspace, operation=purging, updated_at=new.now, attend_at=new.now + policy.attend_after
    )
    return Updated(changed, "DeletePurges", job_of(changed, purging), snapshots=left)


def snapshot(
    workspace: Workspace,
    new: NewOperation,
    name: str | None,
    known: KnownSnapshots,
    policy: Policy,
) -> Updated | None:
    """Ask for a snapshot of a workspace's home. None if one of this name is being taken.

    ``known`` are the snapshots that the workspace has. The workspace stays what it is, whatever its
    status, and so does its machine. ``snapshot_asked_at`` moves when the operation ends, unless
    Compute refuses it at once.

    Raises:
        OperationUnderWayError: another operation is under way, or a SNAPSHOT of another name.
        NoHomeError: no machine has used its home yet.
        NameTakenError: another snapshot of the workspace has the name.
        TooManyRequestsError: the last one was asked for too short a time ago.
        QuotaExceededError: there will be no room for it (``snapshot_room``).
    """
    under_way = workspace.operation
    if under_way is not None:
        if under_way.kind is OperationKind.SNAPSHOT and under_way.snapshot_name == name:
            return None
        raise OperationUnderWayError(under_way)
    if workspace.home_disk is None:
        raise _no_disk(
            workspace,
            archived="its home is a snapshot already. Start it to take another one.",
            otherwise="no snapshot of it can be taken. Wait until it is READY, or start it.",
        )
    kept = [each for each in known.snapshots if each.state is not SnapshotState.DELETING]
    if name is not None and any(each.name == name for each in kept):
        raise NameTakenError(
            f"The workspace has a snapshot called {name!r} already. "
            "Choose another name, or delete that one."
        )
    next_at = next_snapshot_at(workspace, policy)
    if next_at is not None and new.now < next_at:
        raise TooManyRequestsError(
            "Another snapshot of this workspace was asked for a short time ago. "
            f"The next one can be taken from {next_at:%Y-%m-%dT%H:%M:%SZ} on.",
            next_at - new.now,
        )
    check_room(known, policy)
    taking = _operation(OperationKind.SNAPSHOT, Phase.SNAPSHOT, new, policy)
    return _begin(workspace, replace(taking, snapshot_name=name), policy)


def restore(
    workspace: Workspace,
    new: NewOperation,
    source: Snapshot,
    known: KnownSnapshots,
    policy: Policy,
) -> Updated | None:
    """Ask that a workspace's home be again what ``source`` has. None if that is under way.

    ``source`` is one of its snapshots, READY (``forks.restorable``); ``known`` are all that it
    has. What is in the home by then is kept as another snapshot, which needs room. The commit
    writes the source's record, too (``forks.forked``).

    Raises:
        OperationUnderWayError: another operation is under way, or a RESTORE of another snapshot.
        NoHomeError: no machine has used its home yet.
        QuotaExceededError: there will be no room for the snapshot of what is there now.
    """
    under_way = workspace.operation
    if under_way is not None:
        restores = under_way.restores
        same = restores is not None and restores.snapshot_id == source.id
        if under_way.kind is OperationKind.RESTORE and under_way.failure is None and same:
            return None
        raise OperationUnderWayError(under_way)
    if workspace.home_disk is None:
        raise _no_disk(
            workspace,
            archived="there is no disk to keep first. Start it, then restore; or make another "
            "workspace from the snapshot.",
            otherwise="nothing can be replaced. Wait until it is READY, or start it.",
        )
    check_room(known, policy, kept=source.id)
    restoring = _operation(OperationKind.RESTORE, Phase.STOP, new, policy)
    begun = _begin(workspace, replace(restoring, restores=source_of(source)), policy)
    return replace(begun, snapshots=(forked(source, new.now),))


def _no_disk(workspace: Workspace, *, archived: str, otherwise: str) -> NoHomeError:
    """Return the error of a request that needs a home disk; each text says the way out."""
    if workspace.archived_at is not None:
        return NoHomeError(f"The workspace is archived: {archived}")
    return NoHomeError(f"The workspace has no home yet, so {otherwise}")


def archive(workspace: Workspace, new: NewOperation, policy: Policy) -> Updated | None:
    """Ask that a workspace's home be kept as a snapshot, without a machine and without a disk.

    None if it is, or if that is under way. Its machine is shut down if it runs; its memory is lost.
    A START makes machine and disk again.

    Raises:
        OperationUnderWayError: another operation is under way.
        NoHomeError: no machine has used its home yet.
    """
    under_way = workspace.operation
    if under_way is not None and under_way.kind is OperationKind.ARCHIVE:
        return _confirmed(workspace, under_way, new)
    if under_way is not None:
        raise OperationUnderWayError(under_way)
    if workspace.archived_at is not None:
        return None
    if not workspace.has_archivable_home:
        raise NoHomeError(
            "The workspace has no home yet that could be archived. Start it, or delete it."
        )
    return _begin(workspace, _operation(OperationKind.ARCHIVE, Phase.STOP, new, policy), policy)


def next_snapshot_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return from when on another snapshot may be asked for. None if none ever was."""
    under_way = workspace.operation
    asked_at = workspace.snapshot_asked_at
    if under_way is not None and under_way.kind is OperationKind.SNAPSHOT:
        asked_at = under_way.requested_at
    return asked_at + policy.snapshot_pause if asked_at is not None else None


def _confirmed(workspace: Workspace, under_way: Operation, new: NewOperation) -> Updated | None:
    """Make what a sweep has begun a person's own operation. None if it is a person's already.

    Then nothing calls it off, as a heartbeat does with an idle stop. Its job waits in the queue of
    the sweeps, perhaps behind many others, so it is sent to the queue for people too.
    """
    if not under_way.automatic:
        return None
    own = replace(under_way, automatic=False, requested_by=new.actor.id)
    confirmed = replace(workspace, operation=own, updated_at=new.now)
    event = f"{under_way.kind.capitalize()}Confirmed"
    return Updated(confirmed, event, job_of(confirmed, own))


def _operation(kind: OperationKind, phase: Phase, new: NewOperation, policy: Policy) -> Operation:
    return Operation(
        id=new.id,
        kind=kind,
        phase=phase,
        step=0,
        requested_by=new.actor.id,
        requested_at=new.now,
        deadline_at=new.now + policy.deadlines.of(kind),
        phase_since=new.now,
        request_id=new.actor.request_id,
    )


def _begin(workspace: Workspace, operation: Operation, policy: Policy) -> Updated:
    """Begin an operation on a workspace that exists."""
    now = operation.requested_at
    begun = replace(
        workspace, operation=operation, updated_at=now, attend_at=now + policy.attend_after
    )
    return Updated(begun, f"{operation.kind.capitalize()}Requested", job_of(begun, operation))


# ---- the clock -----------------------------------------------------------------------------------


def stops_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return when the idle sweep stops the machine if nobody connects. None if it does not."""
    return awake_until(workspace, policy) if workspace.machine_running else None


def deletes_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return when a suspended workspace is deleted if nobody starts it. None if it is not.

    It is not as long as it has an old home: somebody may have used that, and nothing else has what
    they have written. Otherwise the hourly sweep deletes it soon.
    """
    suspended_at = workspace.suspended_at
    if policy.retention is None or workspace.status is not Status.SUSPENDED or not suspended_at:
        return None
    return None if workspace.old_homes else suspended_at + policy.retention


def archives_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return when a suspended workspace is archived if nobody starts it. None if it is not.

    That is announced before (``archive_announced_at``); as long as it was not, the announcement is
    due ``archive_notice`` earlier. After an ARCHIVE that failed it is a day later. What is deleted
    before is not archived.
    """
    suspended_at = workspace.suspended_at
    if policy.archive_after is None or workspace.status is not Status.SUSPENDED or not suspended_at:
        return None
    if not workspace.has_archivable_home or workspace.archived_at is not None:
        return None
    at = suspended_at + policy.archive_after
    if announced_at := archive_announced(workspace):
        at = max(at, announced_at + policy.archive_notice)
    error = workspace.error
    if error is not None and error.operation_kind is OperationKind.ARCHIVE:
        at = max(at, error.at + ARCHIVED_AGAIN_AFTER)
    deleted_at = deletes_at(workspace, policy)
    return at if deleted_at is None or at < deleted_at else None


def archive_announced(workspace: Workspace) -> datetime | None:
    """Return when it was announced that a workspace will be archived; None if it was not.

    What was announced of an earlier suspension does not count.
    """
    announced_at, suspended_at = workspace.archive_announced_at, workspace.suspended_at
    if announced_at is None or suspended_at is None or announced_at < suspended_at:
        return None
    return announced_at


def _archive_due_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return when the clean-up must archive a workspace, or announce that."""
    at = archives_at(workspace, policy)
    if at is None or archive_announced(workspace) is not None:
        return at
    return at - policy.archive_notice


def sweeps_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return from when on ``expire`` changes the workspace as it is. None if it never does.

    So the clean-up need not read it before. It is part of the record (``sweep_at``), and set at
    every write of it: what ``expire`` decides by changes only by a write, or with the policy.
    """
    if workspace.operation is not None:
        return None
    due = [stops_at(workspace, policy)]
    if workspace.attend_at is None:
        due += [deletes_at(workspace, policy), _archive_due_at(workspace, policy)]
    return min(filter(None, due), default=None)


def with_sweep(workspace: Workspace, policy: Policy) -> Workspace:
    """Return the workspace with its ``sweep_at``, as every write has it."""
    return replace(workspace, sweep_at=sweeps_at(workspace, policy))


def sweep_again(workspace: Workspace, policy: Policy) -> Updated | None:
    """Put a workspace's ``sweep_at`` right. None if it is right.

    It is missing after a write by a version that does not know it, and wrong after a change of the
    policy.
    """
    right = with_sweep(workspace, policy)
    return None if right == workspace else Updated(right, "SweepTimed")


def expire(workspace: Workspace, new: NewOperation, policy: Policy) -> Updated | None:
    """Stop an idle machine; delete a forgotten workspace, archive it, or announce its archive.

    None if nothing of this is due, and while an operation is under way. The sweep's query may be
    older than the record, so this decides again on the record. A workspace that a worker is to look
    at is not deleted before the look: its machine may have been started by hand.
    """
    if workspace.operation is not None:
        return None
    idle_since = stops_at(workspace, policy)
    if idle_since is not None and idle_since <= new.now:
        stopping = _operation(OperationKind.STOP, Phase.SUSPEND, new, policy)
        return _begin(workspace, replace(stopping, automatic=True), policy)
    forgotten_at = deletes_at(workspace, policy)
    if workspace.attend_at is None and forgotten_at is not None and forgotten_at <= new.now:
        deleting = _operation(OperationKind.DELETE, Phase.DELETE_INSTANCE, new, policy)
        return _begin(workspace, replace(deleting, automatic=True), policy)
    due_at = _archive_due_at(workspace, policy)
    if workspace.attend_at is None and due_at is not None and due_at <= new.now:
        return _archive_or_announce(workspace, new, policy)
    return None


def _archive_or_announce(workspace: Workspace, new: NewOperation, policy: Policy) -> Updated | None:
    """Archive a workspace if that was announced; else announce it.

    None if it is deleted before the notice is over, as when archiving has just been switched on.
    """
    if archive_announced(workspace) is not None:
        archiving = _operation(OperationKind.ARCHIVE, Phase.STOP, new, policy)
        return _begin(workspace, replace(archiving, automatic=True), policy)
    announced = replace(workspace, archive_announced_at=new.now, updated_at=new.now)
    at = archives_at(announced, policy)
    if at is None:
        return None
    why = f"It will be archived at {at:%Y-%m-%dT%H:%M:%SZ} unless somebody starts it."
    return Updated(announced, "ArchiveAnnounced", notes=(Note("ArchiveAnnounced", why),))


def attend(workspace: Workspace, request_id: str, now: datetime, policy: Policy) -> Updated | None:
    """Resend the job of a workspace that has not changed by ``attend_at``. None if that is later.

    The same step waits twice as long each time, up to eight times, but not beyond the operation's
    deadline. Many jobs that seem lost are only late because a queue is full, and each additional
    job fills it more.
    """
    if workspace.attend_at is None or workspace.attend_at > now:
        return None
    soonest = now + policy.attend_after
    attended = replace(workspace, attend_at=soonest, updated_at=now)
    if workspace.operation is None:
        return Updated(attended, "LookRequested", due_look_job(workspace, now, request_id))
    resent = replace(workspace.operation, resends=workspace.operation.resends + 1)
    patient = now + policy.attend_after * 2 ** min(resent.resends - 1, MOST_DOUBLINGS)
    if now < resent.deadline_at:
        patient = min(patient, max(soonest, resent.deadline_at))
    attended = replace(attended, operation=resent, attend_at=patient)
    return Updated(attended, "JobResent", job_of(attended, resent))


def give_up(
    workspace: Workspace, job: Job, reason: str, now: datetime, policy: Policy
) -> Updated | None:
    """Fail an operation whose job could not be delivered. None if it has ended or gone on."""
    operation = workspace.operation
    if operation is None or operation.failure is not None:
        return None
    if (operation.id, operation.step) != (job.operation_id, job.step):
        return None
    message = (
        f"The Hub could not carry out the {operation.kind}: {reason.rstrip('.')}. "
        f"{way_out(operation)}"
    )
    step = Step(workspace=workspace, operation=operation, now=now, policy=policy)
    return fail(step, problem_of(step, "NOT_CARRIED_OUT", message, retryable=True))
