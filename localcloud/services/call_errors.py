"""Why a gRPC server refuses a call. ``code`` is the name of the status that the caller gets."""

from typing import ClassVar


class CallError(Exception):
    """A call is refused; its message is for the caller to read."""

    code: ClassVar[str]


class InvalidArgumentError(CallError):
    """The request is malformed or exceeds a limit: correct it; sending it again does not help."""

    code = "INVALID_ARGUMENT"


class OutOfRangeError(CallError):
    """A number is out of its range, where the service has this status for it."""

    code = "OUT_OF_RANGE"


class NotFoundError(CallError):
    """What the request names does not exist, or no longer exists."""

    code = "NOT_FOUND"


class AlreadyExistsError(CallError):
    """The name is taken, or was until too recently: choose another."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(CallError):
    """The state of what the request names does not allow it. Nothing was changed.

    A document has changed since it was read, a query has no index, or a queue of this name was
    deleted too recently.
    """

    code = "FAILED_PRECONDITION"


class AbortedError(CallError):
    """Somebody else has changed what a transaction has read: run the whole transaction again."""

    code = "ABORTED"


class UnimplementedError(CallError):
    """The service can do this, the local server cannot: use Google's emulator or the service."""

    code = "UNIMPLEMENTED"
