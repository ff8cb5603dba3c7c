"""All errors that a use case can raise. ``shared/entry/problems.py`` turns them into HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.instance import Fault
from shared.domain.workspace import Operation, OperationKind, Status


class HubError(Exception):
    """The base of all errors that the Hub raises. The message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field of a request; ``field`` is its path in the body or its name in the query."""

    field: str
    message: str


class InvalidRequestError(HubError):
    """The request has wrong or unknown fields. ``problems`` names them."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" for p in problems))
        self.problems = tuple(problems)


class NotAuthenticatedError(HubError):
    """The caller has not proved who they are. They get a new token and try again."""


class NotAllowedError(HubError):
    """The caller is known and may not do this, and that is no secret."""


class WorkspaceNotFoundError(HubError):
    """The workspace does not exist or belongs to somebody else; both get the same answer."""

    def __init__(self, workspace_id: str) -> None:
        super().__init__(f"There is no workspace {workspace_id}. GET /workspaces lists yours.")


class DeletedWorkspaceNotFoundError(WorkspaceNotFoundError):
    """There is no deleted workspace of this id to take back, or it belongs to somebody else."""

    def __init__(self, workspace_id: str) -> None:
        HubError.__init__(
            self,
            f"There is no deleted workspace {workspace_id} that you could take back. "
            "GET /deleted-workspaces lists yours.",
        )


class LastCopyGoneError(HubError):
    """The snapshot by which a deleted workspace could be taken back was deleted outside the Hub.

    The person makes a new workspace. If there is an older snapshot of the workspace, whoever runs
    the Hub can make a disk of it by hand until the workspace is purged.
    """

    def __init__(self, workspace_id: str, until: datetime) -> None:
        super().__init__(
            f"Workspace {workspace_id} cannot be taken back: the last snapshot of its home was "
            "deleted outside the Hub, or is damaged. Make a new workspace. If you need an older "
            "snapshot of it, whoever runs this Hub can make a disk of that by hand until "
            f"{until:%Y-%m-%d %H:%M} UTC."
        )


class NotDeletedError(HubError):
    """A workspace that was to be taken back under a name exists, under another one.

    Nothing is to be taken back. A start can give it the other name.

    Attributes:
        name: what it is called.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The workspace exists, and is called {name!r}. It need not be taken back. "
            "To give it another name, start it with that name."
        )
        self.name = name


class OperationUnderWayError(HubError):
    """Another operation is under way. The person waits for its end, or deletes the workspace.

    To get past a SNAPSHOT or a RESTORE nobody deletes a workspace. To get past an ARCHIVE they
    start it, until its home disk is being deleted.
    """

    def __init__(self, operation: Operation) -> None:
        wait = "Wait until its operation is null"
        ways_out = f"{wait}, or delete the workspace."
        if operation.kind is OperationKind.SNAPSHOT:
            ways_out = f"{wait}: it lasts some seconds."
        elif operation.kind is OperationKind.RESTORE:
            ways_out = f"{wait}: it may last some minutes."
        elif operation.kind is OperationKind.ARCHIVE:
            ways_out = (
                "Start the workspace, which calls it off if no other zone is named and its home "
                "disk is not being deleted by then, or wait until its operation is null: an upload "
                "may take hours."
                if operation.yields_to_start
                else f"{wait}: this part of it lasts some minutes."
            )
        elif operation.kind is OperationKind.DELETE:
            ways_out = "Wait until it has ended."
            if not operation.purge:
                ways_out += " GET /deleted-workspaces lists what can be taken back then."
        a = "An" if operation.kind is OperationKind.ARCHIVE else "A"
        super().__init__(f"{a} {operation.kind} is under way on this workspace. {ways_out}")
        self.operation = operation


class NotAwakeError(HubError):
    """There is no running machine to keep awake. The person starts the workspace first."""

    def __init__(self, status: Status) -> None:
        super().__init__(
            f"The workspace is {status} and no machine of it runs, so nothing can be kept awake. "
            "Start it first."
        )


class NameTakenError(HubError):
    """The owner has a workspace of this name. They choose another name or use that workspace."""


class NoHomeError(HubError):
    """The workspace has no home disk, so there is nothing to take a snapshot of, or to replace.

    No machine has used it yet, or it is archived. The person waits until it is READY, or starts it.
    """


class SnapshotNotFoundError(HubError):
    """The snapshot does not exist, or the caller may not have it; both get the same answer."""

    def __init__(self, snapshot_id: str) -> None:
        super().__init__(
            f"There is no snapshot {snapshot_id}. "
            "Look for it in the list of its workspace's snapshots."
        )


class SnapshotNotReadyError(HubError):
    """The snapshot cannot be used: not yet, or never.

    The person tries again when it is READY, or takes another one. The message says which.
    """


class SnapshotInUseError(HubError):
    """A workspace is about to get its home from the snapshot, so it cannot be deleted.

    The person tries again when that workspace is READY, or deletes it.
    """


class QuotaExceededError(HubError):
    """The owner has reached a quota. They delete or stop a workspace, or ask for a higher quota."""


class TooManyRequestsError(HubError):
    """The caller has asked too often in the last minute. They try again after ``retry_after``."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdempotencyKeyReusedError(HubError):
    """The idempotency key was used with another body. The client uses a new key."""


class WorkspaceGoneError(HubError):
    """The workspace of this idempotency key has been deleted. The client uses a new key."""


class InstanceNotRecordedError(HubError):
    """A machine reports before the record has its id, or that it runs. It reports again."""


class ReportNotTakenError(HubError):
    """A report comes from an earlier boot, or too late. The machine does not repeat it."""


class UnavailableError(HubError):
    """Something that the Hub needs did not answer, or too many changed the same record at once.

    Nothing is half done. The caller tries again after ``retry_after``.
    """

    def __init__(self, message: str, retry_after: timedelta = timedelta(seconds=2)) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MachineFaultError(HubError):
    """Compute refused a call. ``fault`` says what that means; the step decides on it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class ConflictError(HubError):
    """A document changed between its read and the commit. Read and decide again.

    It never leaves a use case.
    """
