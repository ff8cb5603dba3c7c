"""The ports: what the use cases need from outside, each with its contract.

Every method may raise ``UnavailableError`` if the outside does not answer in time. A commit or a
call may have happened all the same, so each can be repeated safely.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from shared.domain.access import MachineIdentity, Person
from shared.domain.deleted import DeletedWorkspace
from shared.domain.events import Event
from shared.domain.instance import (
    Command,
    Disk,
    DiskSnapshot,
    Instance,
    OperationState,
    Place,
    StartedCall,
)
from shared.domain.jobs import Job
from shared.domain.snapshots import Snapshot
from shared.domain.workspace import Owner, Status, Workspace

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Stored(Generic[R]):
    """A record as it was read. ``version`` is the store's own; None if there was no document."""

    record: R
    version: Any


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some records, and a token for the next page; None if there are no more."""

    records: Sequence[R]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class WorkspaceFilter:
    """Which workspaces a list has: those of a status, of a name, of both; None: of any."""

    status: Status | None = None
    name: str | None = None


EVERY_WORKSPACE = WorkspaceFilter()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that exists and cannot be read, with the reason.

    For example, a newer version of the Hub wrote it. It stands in its record's place, so that it
    does not hide the others that were read with it.
    """

    id: str
    reason: str


class WorkspaceStore(Protocol):
    """Where the records are. Reads are strongly consistent."""

    def get(self, workspace_id: str) -> Stored[Workspace] | None:
        """Return the workspace, or None if it does not exist. One read."""

    def get_many(self, workspace_ids: Sequence[str]) -> Sequence[Stored[Workspace] | Unreadable]:
        """Return those of these workspaces that exist, in any order.

        One call, whatever their number, and a read of each. Send at most some hundreds: all must be
        answered within the time of one call.
        """

    def get_owner(self, owner_id: str) -> Stored[Owner]:
        """Return the owner's record, or an empty one with version None if it does not exist yet.

        One read.
        """

    def commit(
        self,
        *,
        workspaces: Sequence[tuple[Stored[Workspace] | None, Workspace | None]] = (),
        owners: Sequence[tuple[Stored[Owner], Owner]] = (),
        snapshots: Sequence[tuple[Stored[Snapshot] | None, Snapshot | None]] = (),
        deleted: Sequence[tuple[Stored[DeletedWorkspace] | None, DeletedWorkspace | None]] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """Write everything or nothing. One commit.

        A workspace is a pair of the record that was read and the record to write: ``(None, new)``
        creates it, ``(read, changed)`` changes it, ``(read, None)`` deletes it. So is a snapshot,
        and the entry of a deleted workspace.

        Raises:
            ConflictError: a document has changed since it was read (or exists, and was to be
                created). Nothing was written. The conflict may be our own earlier commit, whose
                answer was lost: read again. Events alone conflict with nothing.
        """

    def list_owned(
        self, owner_id: str, wanted: WorkspaceFilter, limit: int, token: str | None
    ) -> Page[Workspace]:
        """Return the owner's workspaces that are wanted, newest first. One query.

        Raises:
            InvalidRequestError: the token is not one of ours.
        """

    def list_all(self, wanted: WorkspaceFilter, limit: int, token: str | None) -> Page[Workspace]:
        """Return everybody's workspaces that are wanted, newest first. One query."""

    def list_events(self, workspace_id: str | None, limit: int, token: str | None) -> Page[Event]:
        """Return the events of a workspace (None: of all), the latest first. One query.

        Events outlive their workspace.
        """

    def list_to_sweep(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """Return the ids of workspaces whose ``sweep_at`` is due, the most overdue first."""

    def list_workspaces_by_id(
        self, limit: int, token: str | None
    ) -> Page[Stored[Workspace] | Unreadable]:
        """Return all workspaces in the order of their ids. One query.

        The token is the last id of a page: any text is one, whether a workspace has it or not. A
        page has every workspace whose id is above the token and at most the next token, as of one
        moment.
        """

    def list_owners_by_id(self, limit: int, token: str | None) -> Page[Stored[Owner] | Unreadable]:
        """Return all owners that have a record; as ``list_workspaces_by_id`` does."""

    def get_checkpoint(self, name: str) -> str | None:
        """Return the checkpoint of a sweep; None if its last run came to the end. One read."""

    def set_checkpoint(self, name: str, checkpoint: str | None) -> None:
        """Write the checkpoint. The last write wins."""

    def list_due(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """Return the ids of workspaces whose ``attend_at`` is due, the most overdue first."""

    def get_snapshot(self, snapshot_id: str) -> Stored[Snapshot] | None:
        """Return the snapshot, or None if it does not exist. One read."""

    def list_snapshots(self, workspace_id: str) -> Sequence[Stored[Snapshot] | Unreadable]:
        """Return a workspace's snapshots, the one that was asked for last first. One query.

        All of them, at once: there are some dozens at most, since their number is limited. One that
        cannot be read keeps its place. It exists in Compute and costs money, so it counts towards
        the limit. People see the others.
        """

    def list_due_snapshots(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """Return the ids of snapshots whose ``attend_at`` is due, the most overdue first."""

    def list_snapshots_by_id(
        self, limit: int, token: str | None
    ) -> Page[Stored[Snapshot] | Unreadable]:
        """Return all snapshots in the order of their ids; as ``list_workspaces_by_id`` does."""

    def get_deleted(self, workspace_id: str) -> Stored[DeletedWorkspace] | None:
        """Return the entry of a deleted workspace, or None if there is none. One read."""

    def get_many_deleted(
        self, workspace_ids: Sequence[str]
    ) -> Sequence[Stored[DeletedWorkspace] | Unreadable]:
        """Return those of these entries that exist; as ``get_many`` does."""

    def list_deleted(self, owner_id: str) -> Sequence[Stored[DeletedWorkspace] | Unreadable]:
        """Return an owner's deleted workspaces, the one that was deleted last first. One query.

        All of them, at once, since their number is limited. One that cannot be read keeps its
        place, and counts towards the limit.
        """

    def list_deleted_until(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """Return the ids of the deleted workspaces whose ``until`` is due, the oldest first."""


class Machines(Protocol):
    """Compute Engine. Nothing here waits for a long operation."""

    def get(self, place: Place) -> Instance | None:
        """Return the instance, or None if it does not exist."""

    def get_disk(self, place: Place) -> Disk | None:
        """Return the disk, or None if it does not exist."""

    def find_instances(self, workspace_id: str) -> Sequence[Instance]:
        """Return the instances that belong to a workspace by label or by name, in any zone.

        By name: ``workspace-<id>``, or ``workspace-<id>-`` and anything after it. Costs two
        aggregated lists.

        Raises:
            UnavailableError: as ``list_instances`` does.
        """

    def find_disks(self, workspace_id: str) -> Sequence[Disk]:
        """Return the disks that belong to a workspace by label or by name, in any zone.

        By name: ``home-<id>`` or ``workspace-<id>`` (a boot disk), or one of these with ``-`` and
        anything after it. Costs two aggregated lists.
        """

    def operation(self, zone: str, name: str) -> OperationState:
        """Return the state of a long operation. Its zone is ``GLOBAL`` if it is a snapshot's.

        An operation that Compute does not know counts as done without a fault.
        """

    def get_snapshot(self, name: str) -> DiskSnapshot | None:
        """Return the snapshot, or None if it does not exist."""

    def list_snapshots(self) -> Iterator[DiskSnapshot]:
        """Return this installation's snapshots; as ``list_instances`` does."""

    def list_instances(self) -> Iterator[Instance]:
        """Return this installation's machines, in all zones, without their ``heartbeat_interval``.

        That is in the metadata, which is large, so lists do not ask for it. Costs a call for each
        500 machines.

        Raises:
            UnavailableError: Compute did not answer, or left out a zone. A partial list is never
                returned.
        """

    def list_disks(self) -> Iterator[Disk]:
        """Return this installation's disks, in all zones; as ``list_instances`` does."""

    def console_tail(self, place: Place, most_bytes: int) -> str:
        """Return the end of the serial console's output; empty if there is none.

        Also empty if it cannot be read: it only adds to a message, so this never raises.
        """

    def grant_login(self, place: Place, member: str) -> None:
        """Let an IAM member (``user:…``, ``serviceAccount:…``) log in to an instance.

        They get ``LOGIN_ROLE`` in the instance's own policy, unless they have it there without a
        condition. Everything else in the policy stays as it is. If somebody else changes the policy
        meanwhile, both changes are made. Costs a read, and a call if something is to be changed;
        more if others change it at the same time. Google Cloud may take minutes to heed it.

        Raises:
            MachineFaultError: Compute refused. For example, ``POLICY``: an organisation lets in
                people of its own only. ``INVALID``: there is no such account.
            UnavailableError: as ``perform`` does; or others change the policy all the time.
        """

    def revoke_logins(self, place: Place) -> int:
        """Take ``LOGIN_ROLE`` from all who have it in an instance's policy without a condition.

        Returns how many had it. For a machine that nobody owns any more. Whoever is logged in
        stays so. Otherwise as ``grant_login``. An instance that does not exist has no policy: 0.
        """

    def perform(self, command: Command, request_id: str) -> StartedCall:
        """Start what the command says.

        Calls with the same ``request_id`` (a UUID) are one call, however often it is repeated. Only
        ``LabelSnapshot`` is made again each time, with the same result: Compute takes no request id
        for it. ``RefreshMetadata`` and the commands that label read before they write. If somebody
        else writes in between, the call or its operation ends with ``NOT_READY``, and can be
        repeated. ``ResizeDisk`` to a size that the disk has, or more, is refused (``INVALID``).

        Raises:
            MachineFaultError: Compute refused. The error's ``fault`` says what that means for this
                call. If Compute names it, the fault's ``resource`` is what holds the resource
                (``IN_USE``), what has the name (``ALREADY_EXISTS``), or what is missing
                (``NOT_FOUND``).
            UnavailableError: a passing fault: rate limited (429, or 403 with a reason that says
                so), 408, 499, 5xx, no answer in time, or an answer that is not Compute's.
        """


class Jobs(Protocol):
    """A way to have a job done later, at least once."""

    def send(self, job: Job) -> None:
        """Send the job, to be done ``job.delay`` from now.

        Jobs of the same name are one job, where the queue can tell.
        """


class Headers(Protocol):
    """A request's headers, by name in any case."""

    def get(self, name: str, /) -> str | None:
        """Return a header, or None if it does not exist."""


class Identity(Protocol):
    """Proves who calls, by signed headers of a request. Keys are fetched rarely."""

    def person(self, headers: Headers) -> Person:
        """Return which person a request's headers prove to be calling.

        Raises:
            NotAuthenticatedError: there is no token, or not one for us, with the reason in words.
        """

    def machine(self, headers: Headers) -> MachineIdentity:
        """Return which instance a report's headers prove to be calling.

        Raises:
            NotAuthenticatedError: there is no instance identity token for us, with the reason in
                words.
        """


class Clock(Protocol):
    """The time, aware and in UTC."""

    def __call__(self) -> datetime:
        """Return the time now."""
