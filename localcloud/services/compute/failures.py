"""How an operation fails after Compute has accepted its call.

The wording is Compute's, from the same sources as in ``errors.py``. What only a fault causes is in
``faults.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from localcloud.services.compute.errors import ComputeError, in_use_message


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an accepted operation failed: the ``error`` of an operation that is DONE.

    Attributes:
        details: the entry's ``errorDetails``.
        summary: code and message of another entry that comes first and says less.
    """

    code: str
    message: str
    http_status: int
    http_message: str
    details: Sequence[dict[str, Any]] = field(default=())
    summary: tuple[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the members that the failure adds to the operation's JSON."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["errorDetails"] = list(self.details)
        first = [{"code": self.summary[0], "message": self.summary[1]}] if self.summary else []
        return {
            "error": {"errors": [*first, error]},
            "httpErrorStatusCode": self.http_status,
            "httpErrorMessage": self.http_message,
        }


def disk_in_use(disk_path: str, user_path: str) -> Failure:
    """Return the failure to attach a disk that another instance has."""
    return Failure(
        code="RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
        message=in_use_message(disk_path, user_path),
        http_status=400,
        http_message="BAD REQUEST",
    )


def overtaken(user: str) -> Failure:
    """Return the failure of an operation whose instance was deleted before it was done."""
    return Failure(
        code="OPERATION_CANCELED_BY_USER",
        message=f"Operation was canceled by user '{user}'.",
        http_status=409,
        http_message="CONFLICT",
    )


def gone(path: str) -> Failure:
    """Return the failure of an operation whose resource no longer exists."""
    return Failure(
        code="RESOURCE_NOT_FOUND",
        message=f"The resource '{path}' was not found",
        http_status=404,
        http_message="NOT FOUND",
    )


def rate_exceeded(path: str) -> Failure:
    """Return the failure of too many operations on what something is made from.

    Of a disk there can be one snapshot every ten minutes, from a snapshot six disks an hour. Which
    HTTP status goes with it is not published.
    """
    return Failure(
        code="RESOURCE_OPERATION_RATE_EXCEEDED",
        message=f"Operation rate exceeded for resource '{path}'. "
        "Too frequent operations from the source resource.",
        http_status=429,
        http_message="TOO MANY REQUESTS",
    )


def internal_error() -> Failure:
    """Return the failure of an operation for a reason of Compute's own."""
    return Failure(
        code="INTERNAL_ERROR",
        message="Internal error. Please try again or contact Google Support. "
        "(Code: '-7310284539123041652')",
        http_status=500,
        http_message="INTERNAL SERVER ERROR",
    )


def changed_meanwhile(refusal: ComputeError) -> Failure:
    """Return the failure of an accepted change that lost the race against another change.

    Args:
        refusal: what a call with the old fingerprint gets now.
    """
    return Failure(
        code="CONDITION_NOT_MET",
        message=refusal.message,
        http_status=412,
        http_message="PRECONDITION FAILED",
    )
