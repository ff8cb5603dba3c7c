"""Why a call is refused. ``code`` is the name of the gRPC status that the caller gets."""

from typing import ClassVar


class PubSubError(Exception):
    """A call is refused; its message is for the caller to read."""

    code: ClassVar[str]


class InvalidArgumentError(PubSubError):
    """The request is malformed or exceeds a limit: correct it; sending it again does not help."""

    code = "INVALID_ARGUMENT"


class OutOfRangeError(PubSubError):
    """A number of delivery attempts is out of its range, for which Pub/Sub has this status."""

    code = "OUT_OF_RANGE"


class NotFoundError(PubSubError):
    """The topic or the subscription does not exist."""

    code = "NOT_FOUND"


class AlreadyExistsError(PubSubError):
    """The name is taken: choose another."""

    code = "ALREADY_EXISTS"


class UnimplementedError(PubSubError):
    """The request uses a part of Pub/Sub that this server lacks."""

    code = "UNIMPLEMENTED"
