"""What the use cases need from the outside, each with its contract.

Every method may raise ``UnavailableError`` when the outside does not answer in time. A read changes
nothing then; a commit or a call may have happened all the same, which is why each can be made
again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from shared.domain.access import MachineIdentity, Person
from shared.domain.events import Event
from shared.domain.instance import Command, Disk, Instance, OperationState, Place, StartedCall
from shared.domain.jobs import Job
from shared.domain.workspace import Owner, Status, Workspace

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Stored(Generic[R]):
    """A record as it was read. ``version`` is the store's own; None says that there was no document."""

    record: R
    version: Any


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some records, and a token for those that follow; None when there are no more."""

    records: Sequence[R]
    next_token: str | None


class WorkspaceStore(Protocol):
    """Where the records are. Reads are strongly consistent."""

    def get(self, workspace_id: str) -> Stored[Workspace] | None:
        """Return the workspace, or None. One read."""

    def get_owner(self, owner_id: str) -> Stored[Owner]:
        """Return the owner's record; an empty one with version None when there is none yet. One read."""

    def commit(
        self,
        *,
        workspaces: Sequence[tuple[Stored[Workspace] | None, Workspace | None]] = (),
        owners: Sequence[tuple[Stored[Owner], Owner]] = (),
        events: Sequence[Event] = (),
    ) -> None:
        """Write everything or nothing. One commit.

        A workspace is a pair of what was read and what it is to be: ``(None, new)`` makes it,
        ``(read, changed)`` changes it, ``(read, None)`` deletes it.

        Raises:
            ConflictError: a document is not what was read any more (or, to be made, exists).
                Nothing was written. After a commit whose answer was lost, this may be our own
                earlier write: read again.
        """

    def list_owned(
        self, owner_id: str, status: Status | None, limit: int, token: str | None
    ) -> Page[Workspace]:
        """Return the owner's workspaces, newest first. One query.

        Raises:
            InvalidRequestError: the token is not one of ours.
        """

    def list_all(self, status: Status | None, limit: int, token: str | None) -> Page[Workspace]:
        """Return everybody's workspaces, newest first. One query."""

    def list_events(self, workspace_id: str | None, limit: int, token: str | None) -> Page[Event]:
        """Return what happened to a workspace (None: to all), the latest first, also when it is gone. One query."""

    def list_idle(self, connected_before: datetime, limit: int, token: str | None) -> Page[str]:
        """Return the ids of workspaces whose machine runs and that nobody has connected to since, the longest idle first."""

    def list_suspended(
        self, suspended_before: datetime, limit: int, token: str | None
    ) -> Page[str]:
        """Return the ids of workspaces that have been suspended since before then, the oldest first."""

    def list_ids(self, limit: int, token: str | None) -> Page[str]:
        """Return the ids of all workspaces, the oldest first. One query."""

    def list_owner_ids(self, limit: int, token: str | None) -> Page[str]:
        """Return the ids of all owners that have a record, in their own order. One query."""

    def get_checkpoint(self, name: str) -> str | None:
        """Return what a sweep has written down of how far it came; None when it came to its end. One read."""

    def set_checkpoint(self, name: str, mark: str | None) -> None:
        """Write that down. Who writes last wins."""

    def list_due(self, now: datetime, limit: int, token: str | None) -> Page[str]:
        """Return the ids of workspaces whose ``attend_at`` has come, the most overdue first."""


class Machines(Protocol):
    """Compute Engine. Nothing here waits for a long operation."""

    def get(self, place: Place) -> Instance | None:
        """Return the instance, or None when there is none."""

    def get_disk(self, place: Place) -> Disk | None:
        """Return the disk, or None when there is none."""

    def find_instances(self, workspace_id: str) -> Sequence[Instance]:
        """Return the instances that are a workspace's by label or by name, in any zone. Two aggregated lists.

        By name: ``workspace-<id>``, with or without ``-`` and something behind it.

        Raises:
            UnavailableError: as ``list_instances`` does.
        """

    def find_disks(self, workspace_id: str) -> Sequence[Disk]:
        """Return the disks that are a workspace's by label or by name, in any zone. Two aggregated lists.

        By name: ``home-<id>`` and ``workspace-<id>`` (a boot disk), with or without ``-`` and
        something behind it.
        """

    def operation(self, zone: str, name: str) -> OperationState:
        """Return what became of a long operation; one that Compute does not know is done without a fault."""

    def list_instances(self) -> Iterator[Instance]:
        """Return this installation's machines, in all zones.

        Raises:
            UnavailableError: Compute did not answer, or left a zone out: half a list is none.
        """

    def list_disks(self) -> Iterator[Disk]:
        """Return this installation's disks, in all zones. As above."""

    def console_tail(self, place: Place, most_bytes: int) -> str:
        """Return the end of the serial console's output; empty if there is none, or if it cannot be read.

        It never raises: the console is only for a message.
        """

    def perform(self, command: Command, request_id: str) -> StartedCall:
        """Begin what the command says. The same ``request_id`` (a UUID) is the same call, however often it is made.

        ``RefreshMetadata``, ``LabelInstance`` and ``LabelDisk`` read before they write. If somebody
        else writes in between, the call or its operation ends with ``NOT_READY``, and can be made
        again.

        Raises:
            MachineFaultError: Compute refused; its ``fault`` says what that means for this call.
                Its ``resource`` is, for ``IN_USE``, what holds the resource; for ``ALREADY_EXISTS``
                what is in the way, and for ``NOT_FOUND`` what is missing, if Compute names it.
            UnavailableError: a passing fault: asked too often (429, or 403 with a reason that says
                so), 408, 499, 5xx, no answer in time, or an answer that is not Compute's.
        """


class Jobs(Protocol):
    """A way to have a job done later, at least once."""

    def send(self, job: Job) -> None:
        """Hand the job over, to be done ``job.delay`` from now. A job that was sent before is not sent twice."""


class Headers(Protocol):
    """A request's headers, by name in any case."""

    def get(self, name: str, /) -> str | None:
        """Return a header, or None when there is none."""


class Identity(Protocol):
    """Proves who calls, by the headers of a request. No header is believed unsigned. Keys are fetched rarely."""

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
