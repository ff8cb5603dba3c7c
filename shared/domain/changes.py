"""What every decision comes to: the record as it is to be, and the jobs that follow its commit."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.domain.jobs import PROMPTLY, Job
from shared.domain.machine_access import attended
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import (
    Activity,
    HomeDisk,
    HomeSource,
    OldHome,
    Operation,
    OperationKind,
    Problem,
    Status,
    StopReason,
    Workspace,
)


@dataclass(frozen=True, slots=True)
class Note:
    """What people must be able to read later in the audit trail: ``what`` (past tense), and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Updated:
    """A decision: commit ``workspace``, then send ``job``.

    ``event`` names the decision in the log, in the past tense. ``notes`` are committed with it as
    events of the Hub's own, and logged as warnings. ``snapshots`` are committed with it, new or
    changed; their jobs (``snapshots.next_job``) follow too. ``result`` is what came of the
    operation that ends, if the record does not say so; None if it does.
    """

    workspace: Workspace
    event: str
    job: Job | None = None
    notes: tuple[Note, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A decision: delete the record. ``event`` names it in the log, in the past tense.

    ``last_copy`` is the snapshot by which the workspace can be taken back; None if it cannot be.
    """

    event: str
    last_copy: HomeSource | None = None


Change = Updated | Forgotten


@dataclass(frozen=True, slots=True)
class Transition:
    """A change, with the record that it was decided on."""

    before: Workspace
    change: Change

    @property
    def after(self) -> Workspace | None:
        """The record as it is to be; None if it is to be deleted."""
        return self.change.workspace if isinstance(self.change, Updated) else None

    @property
    def job(self) -> Job | None:
        """The job that follows the commit."""
        return self.change.job if isinstance(self.change, Updated) else None

    @property
    def notes(self) -> tuple[Note, ...]:
        """What is committed with it as events of the Hub's own."""
        return self.change.notes if isinstance(self.change, Updated) else ()

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """The snapshots that are committed with it, as they are to be."""
        return self.change.snapshots if isinstance(self.change, Updated) else ()

    @property
    def last_copy(self) -> HomeSource | None:
        """The snapshot by which a workspace that is forgotten can be taken back; None if none."""
        return self.change.last_copy if isinstance(self.change, Forgotten) else None

    @property
    def begins(self) -> OperationKind | None:
        """The kind of operation that begins; None if none does."""
        before, after = self.before.operation, self.after.operation if self.after else None
        if after is None or (before is not None and before.id == after.id):
            return None
        return after.kind

    @property
    def counts_for_owner(self) -> bool:
        """Whether the owner's record changes.

        It has one workspace less, other running ones, or a name less, since a DELETE begins.
        """
        after = self.after
        return (
            after is None
            or after.counts_as_running != self.before.counts_as_running
            or self.begins is OperationKind.DELETE
        )


def job_of(workspace: Workspace, operation: Operation, delay: timedelta = PROMPTLY) -> Job:
    """Return the job that does the operation's current step."""
    return Job(
        workspace.id,
        operation.id,
        operation.step,
        resend=operation.resends,
        delay=delay,
        request_id=operation.request_id,
        automatic=operation.automatic,
    )


def look_job(workspace: Workspace, now: datetime, request_id: str) -> Job:
    """Return the job to look at a workspace without an operation, at most one in ten seconds."""
    return Job(workspace.id, None, int(now.timestamp()) // 10, request_id=request_id)


def due_look_job(workspace: Workspace, now: datetime, request_id: str) -> Job:
    """Return a job to look even if another look was sent in the last ten seconds.

    That look came before what has just been done. Only for callers that cannot ask often.
    """
    return Job(workspace.id, None, int(now.timestamp() * 1000), request_id=request_id)


def finish(
    workspace: Workspace, status: Status, event: str, now: datetime, problem: Problem | None = None
) -> Updated:
    """End the operation in ``status``. Becoming READY counts as a connection at ``now``.

    If the owner cannot log in yet, ``reconcile`` has a worker see to that.
    """
    ended = replace(
        workspace,
        status=status,
        operation=None,
        attend_at=None,
        error=problem,
        updated_at=now,
        machine_running=status is Status.READY,
        suspended_at=(workspace.suspended_at or now) if status is Status.SUSPENDED else None,
        stopped_because=_stopped_because(workspace) if status is Status.SUSPENDED else None,
        kept_awake_until=None if status is Status.SUSPENDED else workspace.kept_awake_until,
        running_since=_running_since(workspace) if status is Status.READY else None,
    )
    notes: tuple[Note, ...] = ()
    if status is Status.READY and workspace.status is not Status.READY:
        ended = replace(
            ended,
            last_connected_at=max(now, workspace.last_connected_at),
            last_activity=Activity.STARTED,
            kept_awake_since=None,
        )
        ended, notes = _without_former_machine(ended, workspace.operation)
        ended = _without_former_home(ended, workspace.operation)
    return Updated(attended(ended, now), event, notes=notes)


def _without_former_machine(
    ended: Workspace, operation: Operation | None
) -> tuple[Workspace, tuple[Note, ...]]:
    """Return a workspace that is READY after a move, and a note if that has cost it memory."""
    machine = operation.former_machine if operation else None
    if machine is None or machine.ready_generation != machine.generation:
        return ended, ()
    why = f"The workspace moved to zone {ended.zone}."
    lost = replace(ended, memory_kept=False, memory_lost_because=why)
    return lost, (Note("MemoryLost", why),)


def _without_former_home(ended: Workspace, operation: Operation | None) -> Workspace:
    """Return a workspace that has become READY with its present disk as its only home.

    After a RESTORE or a move, the former one is an old home.
    """
    home = HomeDisk(ended.disk_name, ended.zone)
    moved = replace(ended, home_disk=home, home_source=None, archived_at=None)
    former = operation.former_home if operation else None
    if operation is None or former is None:
        return moved
    copy, machine = operation.last_copy, operation.former_machine
    old = OldHome(
        former.name,
        former.zone,
        copy.snapshot_id if copy else None,
        machine.seen_id if machine else None,
        operation.former_detached_at,
        outlived=machine is not None,
        copied_at=operation.copied_at,
    )
    return replace(moved, old_homes=(*moved.old_homes, old))


def with_former_home(workspace: Workspace, kept_until: datetime) -> Workspace:
    """Return the workspace with the home that it had before its RESTORE or its move.

    What that has made is nobody's before it is READY. Until it is deleted it is an old home, whose
    content its snapshot has; ``kept_until`` is until when a worker may be about to make it. Its
    machine is not the workspace's any more: after a RESTORE there is none, and after a move it is
    the former one again.
    """
    operation = workspace.operation
    former = operation.former_home if operation else None
    if operation is None or former is None:
        return workspace
    source, machine = operation.restores or operation.last_copy, operation.former_machine
    made = OldHome(
        workspace.disk_name,
        workspace.zone,
        source.snapshot_id if source else None,
        workspace.instance_id if machine else None,
        kept_until=kept_until,
    )
    back = replace(
        workspace,
        zone=former.zone,
        home_disk=former,
        home_source=None,
        instance_id=None,
        machine_made_at=None,
        old_homes=(*workspace.old_homes, made),
        home_gb=(operation.last_copy.disk_gb or None) if operation.last_copy else None,
    )
    if machine is None:
        return back
    return replace(
        back,
        instance_id=machine.instance_id,
        machine_made_at=machine.made_at,
        generation=machine.generation,
        ready_generation=machine.ready_generation,
        image_tag=machine.image_tag,
        machine_type=machine.machine_type,
    )


def with_copy(workspace: Workspace, operation: Operation) -> Workspace:
    """Return the workspace whose home disk is being deleted: its home is the last copy now.

    So nothing is lost if the DELETE or the ARCHIVE fails after that.
    """
    copy = operation.last_copy
    if copy is not None:
        copy = replace(copy, new_disk=workspace.disk_name)
    return replace(workspace, home_disk=None, home_source=copy)


def with_home(workspace: Workspace) -> Workspace:
    """Return the workspace with its home disk recorded, if none is.

    From then on the disk may hold somebody's work: it binds the workspace to its zone, and nothing
    is made in its place.
    """
    if workspace.home_disk is not None:
        return workspace
    home = HomeDisk(workspace.disk_name, workspace.zone)
    return replace(workspace, home_disk=home, home_source=None, archived_at=None)


def _running_since(workspace: Workspace) -> datetime | None:
    """Return since when a machine that is READY has run: since the request for it, at most."""
    operation = workspace.operation
    if workspace.machine_running or operation is None:
        return workspace.running_since
    return operation.requested_at


def _stopped_because(workspace: Workspace) -> StopReason | None:
    """Return why the workspace is suspended now. Only a STOP changes the reason.

    One that ran until it was archived was not suspended before.
    """
    operation = workspace.operation
    if operation is not None and operation.kind is OperationKind.ARCHIVE:
        return workspace.stopped_because or StopReason.REQUESTED
    if operation is None or operation.kind is not OperationKind.STOP:
        return workspace.stopped_because
    return StopReason.IDLE if operation.automatic else StopReason.REQUESTED


def without_memory(workspace: Workspace, why: str) -> tuple[Workspace, tuple[Note, ...]]:
    """Return the workspace with its machine's memory lost, and a note if it was worth keeping.

    It was worth keeping if it was the memory of a boot that reported ready. If it was lost before,
    the first reason stays.
    """
    if not workspace.has_memory:
        return workspace, ()
    lost = replace(workspace, ready_generation=None, memory_kept=False, memory_lost_because=why)
    return lost, (Note("MemoryLost", why),)
