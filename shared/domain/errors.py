"""The one tree of errors that a use case can end in. ``shared/entry/problems.py`` turns them into HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from shared.domain.instance import Fault
from shared.domain.workspace import Operation


class HubError(Exception):
    """The root of all errors that the Hub raises on purpose; the message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field of a request; ``field`` is its path in the body or its name in the query."""

    field: str
    message: str


class InvalidRequestError(HubError):
    """The request has wrong or unknown fields. The person corrects the fields that ``problems`` names."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" for p in problems))
        self.problems = tuple(problems)


class NotAuthenticatedError(HubError):
    """The caller has not proved who they are. They get a new token and ask again."""


class NotAllowedError(HubError):
    """The caller is known and may not do this, where that is no secret."""


class WorkspaceNotFoundError(HubError):
    """There is no such workspace, or it is somebody else's: the two are not told apart."""

    def __init__(self, workspace_id: str) -> None:
        super().__init__(f"There is no workspace {workspace_id}. GET /workspaces lists yours.")


class OperationUnderWayError(HubError):
    """Another operation is under way on the workspace. The person waits for its end, or deletes the workspace."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(
            f"A {operation.kind} is under way on this workspace. Wait until its operation is null, or delete the workspace."
        )
        self.operation = operation


class NameTakenError(HubError):
    """The owner has a workspace of this name. They choose another name or use that workspace."""


class QuotaExceededError(HubError):
    """The owner has as many workspaces, or as many running ones, as they may. They delete or stop one, or ask for more."""


class TooManyRequestsError(HubError):
    """The caller has asked too often in the last minute. They wait for ``retry_after`` and go on."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdempotencyKeyReusedError(HubError):
    """The idempotency key was used with another body within a day. The client uses a new key for a new request."""


class WorkspaceGoneError(HubError):
    """The workspace that this idempotency key made has been deleted. The client uses a new key to make another."""


class InstanceNotRecordedError(HubError):
    """A machine reports before the record has its numeric id, or says that it runs. The machine tries again in a moment."""


class ReportNotTakenError(HubError):
    """A machine's report comes from a boot that does not count any more, or too late. The machine has nothing more to say."""


class UnavailableError(HubError):
    """Something the Hub needs did not answer, or too many changed the same record at once. Nothing is half done; try again.

    ``retry_after`` is how long to wait.
    """

    def __init__(self, message: str, retry_after: timedelta = timedelta(seconds=2)) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MachineFaultError(HubError):
    """Compute refused a call. ``fault`` says what that means; the operation decides what comes of it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class ConflictError(HubError):
    """A document changed between being read and being committed: read again, decide again. Never leaves a use case."""
