"""Why a call is refused. ``code`` is the name of the gRPC status that the caller gets."""

from typing import ClassVar


class FirestoreError(Exception):
    """A call is refused; its message is for the caller to read."""

    code: ClassVar[str]
    number: ClassVar[int]


class InvalidArgumentError(FirestoreError):
    """The request is malformed or exceeds a limit: correct it; sending it again does not help."""

    code = "INVALID_ARGUMENT"
    number = 3


class NotFoundError(FirestoreError):
    """The document does not exist."""

    code = "NOT_FOUND"
    number = 5


class AlreadyExistsError(FirestoreError):
    """The document exists, and was to be created."""

    code = "ALREADY_EXISTS"
    number = 6


class FailedPreconditionError(FirestoreError):
    """The document has changed since it was read, or a query has no index. Nothing was changed."""

    code = "FAILED_PRECONDITION"
    number = 9


class AbortedError(FirestoreError):
    """Somebody else has changed what a transaction has read: run the whole transaction again."""

    code = "ABORTED"
    number = 10


class UnimplementedError(FirestoreError):
    """Firestore can do this, this server cannot: use Google's emulator or Firestore itself."""

    code = "UNIMPLEMENTED"
    number = 12
