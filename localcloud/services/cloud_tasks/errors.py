"""Why a call is refused. ``code`` is the name of the gRPC status that the caller gets."""

from typing import ClassVar


class CloudTasksError(Exception):
    """A call is refused; its message is for the caller to read."""

    code: ClassVar[str]


class InvalidArgumentError(CloudTasksError):
    """The request is malformed or exceeds a limit: correct it; sending it again does not help."""

    code = "INVALID_ARGUMENT"


class NotFoundError(CloudTasksError):
    """The queue or the task does not exist, or no longer exists."""

    code = "NOT_FOUND"


class AlreadyExistsError(CloudTasksError):
    """The name is taken, or a task had it until too recently: choose another."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(CloudTasksError):
    """A queue of this name was deleted too recently: choose another name or wait."""

    code = "FAILED_PRECONDITION"


class UnimplementedError(CloudTasksError):
    """The request uses a part of Cloud Tasks that this server lacks."""

    code = "UNIMPLEMENTED"
