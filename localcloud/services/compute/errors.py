"""How Compute refuses a call.

The JSON and the wording are Compute's, taken from answers quoted in public issue reports and from
its documentation. Compute's own errors carry no ``status``; those of the API front end before it
(rate limits, unavailability) do. What only a fault causes is in ``faults.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ComputeError(Exception):
    """Raised when a call is refused; nothing has changed. ``body()`` is the JSON that is sent.

    Args:
        code: the HTTP status.
        reason: Compute's word for it, for example ``notFound``.
        message: the text for people.
        domain: ``global``, or ``usageLimits`` for a rate limit.
        status: the gRPC status of an error of the API front end.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        status: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.domain = domain
        self.status = status

    def body(self) -> dict[str, Any]:
        """Return the document: ``{"error": {"code", "message", "errors": [{…}], "status"?}}``."""
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "errors": [self.details()],
        }
        if self.status:
            error["status"] = self.status
        return {"error": error}

    def details(self) -> dict[str, str]:
        """Return the document's one entry of ``errors``."""
        return {"message": self.message, "domain": self.domain, "reason": self.reason}


class ConditionNotMetError(ComputeError):
    """Raised as 412: a condition of the call does not hold, for example its fingerprint is old."""

    def __init__(self, message: str) -> None:
        super().__init__(412, "conditionNotMet", message)

    def details(self) -> dict[str, str]:
        """Return the entry, which names the header of the condition."""
        return super().details() | {"location": "If-Match", "locationType": "header"}


class HtmlError(ComputeError):
    """Raised when the front end before the API answers: an HTML page instead of JSON."""

    @property
    def page(self) -> str:
        """The HTML page."""
        return _PAGE.format(code=self.code, title=self.reason, message=self.message)


def not_found(path: str) -> ComputeError:
    """Return the 404; ``path`` as in ``projects/p/zones/z/instances/i``."""
    return ComputeError(404, "notFound", f"The resource '{path}' was not found")


def already_exists(path: str) -> ComputeError:
    """Return the 409: the name is taken, which it also is while its owner is being deleted."""
    return ComputeError(409, "alreadyExists", f"The resource '{path}' already exists")


def invalid_value(name: str, value: object, why: str) -> ComputeError:
    """Return the 400 for one field or query parameter."""
    return ComputeError(400, "invalid", f"Invalid value for field '{name}': '{value}'. {why}")


def too_large(name: str, limit: int, actual: int) -> ComputeError:
    """Return the 413 for a text that is longer than Compute accepts."""
    message = (
        f"Value for field '{name}' is too large: maximum size {limit} character(s); "
        f"actual size {actual}."
    )
    return ComputeError(413, "fieldSizeTooLarge", message)


def not_ready(path: str, why: str | None = None) -> ComputeError:
    """Return the 400: the resource's state does not allow this call now, but may do so later."""
    return ComputeError(400, "resourceNotReady", why or f"The resource '{path}' is not ready")


def must_be_stopped() -> ComputeError:
    """Return the 400 for what Compute changes on stopped instances only."""
    return ComputeError(
        400,
        "invalidResourceUsage",
        "Invalid resource usage: 'Instance should be in the STOPPED state.'.",
    )


def boot_disk_missing() -> ComputeError:
    """Return the 400 for the start of an instance without a boot disk.

    How Compute words it is not published.
    """
    return ComputeError(
        400,
        "invalidResourceUsage",
        "Invalid resource usage: 'Instance does not have a boot disk.'.",
    )


def local_ssd_undecided() -> ComputeError:
    """Return the 400 for a stop or suspend that does not say whether to discard the local SSD."""
    return ComputeError(
        400,
        "badRequest",
        "VM has a Local SSD attached but an undefined value for `discard-local-ssd`. If using "
        "gcloud, please add `--discard-local-ssd=false` or `--discard-local-ssd=true` to your "
        "command.",
    )


def incompatible(features: Sequence[str]) -> ComputeError:
    """Return the 400 for features that do not go together, such as machine type and disk type."""
    message = f"[{', '.join(features)}] features are not compatible for creating instance."
    return ComputeError(400, "badRequest", message)


def in_use(path: str, user_path: str) -> ComputeError:
    """Return the 400: what is in use cannot be deleted.

    A disk is in use by an instance that has it, or by a snapshot of which the content is not
    captured yet; a snapshot is by a disk that is being made from it.
    """
    return ComputeError(400, "resourceInUseByAnotherResource", in_use_message(path, user_path))


def in_use_message(path: str, user_path: str) -> str:
    """Return what Compute says of a disk or a snapshot that something uses."""
    kind = path.split("/")[-2].removesuffix("s")
    return f"The {kind} resource '{path}' is already being used by '{user_path}'"


def stale_metadata() -> ComputeError:
    """Return the 412: the metadata has changed since the caller read its fingerprint."""
    return ConditionNotMetError("Supplied fingerprint does not match current metadata fingerprint.")


def stale_labels() -> ComputeError:
    """Return the 412: the labels have changed since the caller read their fingerprint."""
    return ConditionNotMetError("Labels fingerprint either invalid or resource labels have changed")


def stale_policy() -> ComputeError:
    """Return the 409: the policy has changed since the caller read its etag."""
    message = (
        "There were concurrent policy changes. Please retry the whole read-modify-write with "
        "exponential backoff."
    )
    return ComputeError(409, "aborted", message, status="ABORTED")


def old_policy_version() -> ComputeError:
    """Return the 400: a policy with conditions has to be set in version 3."""
    return bad_policy(
        "Specified policy has conditions or replaces one that has; "
        "its version must be set to 3 by the caller."
    )


def bad_policy(message: str) -> ComputeError:
    """Return the 400 for a policy that IAM does not accept."""
    return ComputeError(400, "badRequest", message, status="INVALID_ARGUMENT")


_PAGE = """<!DOCTYPE html>
<html lang=en>
  <meta charset=utf-8>
  <meta name=viewport content="initial-scale=1, minimum-scale=1, width=device-width">
  <title>Error {code} ({title})!!1</title>
  <style>
    *{{margin:0;padding:0}}html,code{{font:15px/22px arial,sans-serif}}html{{background:#fff;\
color:#222;padding:15px}}
  </style>
  <a href=//www.google.com/><span id=logo aria-label=Google></span></a>
  <p><b>{code}.</b> <ins>That\u2019s an error.</ins>
  <p>{message}  <ins>That\u2019s all we know.</ins>
"""
