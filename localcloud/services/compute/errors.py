"""What Compute says when it refuses a call, and what an operation carries when it fails.

The JSON shape and the wording are Compute's, taken from answers quoted in public issue reports and
in its documentation. Compute's own errors carry no `status`; those of the API front end before it
(rates, unavailability) do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class ComputeError(Exception):
    """Raised when a call is refused; nothing has changed. `body()` is the JSON that the client reads."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        status: str | None = None,
        location: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.domain = domain
        self.status = status
        self.location = location

    def body(self) -> dict[str, Any]:
        """Return the error document: `{"error": {"code", "message", "errors": [{"message", "domain", "reason"}]}}`."""
        item = {"message": self.message, "domain": self.domain, "reason": self.reason}
        if self.location:
            item["location"], item["locationType"] = self.location
        error: dict[str, Any] = {"code": self.code, "message": self.message, "errors": [item]}
        if self.status:
            error["status"] = self.status
        return {"error": error}


class HtmlError(ComputeError):
    """Raised when the front end before the API answers by itself: a page for people instead of the JSON. Nothing has changed."""

    @property
    def page(self) -> str:
        """The HTML page."""
        return _PAGE.format(code=self.code, title=self.reason, message=self.message)


def not_found(path: str) -> ComputeError:
    """Build the 404; `path` as in `projects/p/zones/z/instances/i`."""
    return ComputeError(404, "notFound", f"The resource '{path}' was not found")


def already_exists(path: str) -> ComputeError:
    """Build the 409: the name is taken, also while its holder is still being deleted."""
    return ComputeError(409, "alreadyExists", f"The resource '{path}' already exists")


def invalid_value(name: str, value: object, why: str) -> ComputeError:
    """Build the 400 for one field or query parameter."""
    return ComputeError(400, "invalid", f"Invalid value for field '{name}': '{value}'. {why}")


def too_large(name: str, limit: int, actual: int) -> ComputeError:
    """Build the 413 for a text that is longer than Compute takes."""
    message = f"Value for field '{name}' is too large: maximum size {limit} character(s); actual size {actual}."
    return ComputeError(413, "fieldSizeTooLarge", message)


def not_ready(path: str, why: str | None = None) -> ComputeError:
    """Build the 400: the resource's present state does not allow this call; another one may later."""
    return ComputeError(400, "resourceNotReady", why or f"The resource '{path}' is not ready")


def must_be_stopped() -> ComputeError:
    """Build the 400 for what Compute changes on stopped instances only."""
    return ComputeError(
        400,
        "invalidResourceUsage",
        "Invalid resource usage: 'Instance should be in the STOPPED state.'.",
    )


def boot_disk_missing() -> ComputeError:
    """Build the 400: an instance without its boot disk does not start. How Compute words it is not published."""
    return ComputeError(
        400,
        "invalidResourceUsage",
        "Invalid resource usage: 'Instance does not have a boot disk.'.",
    )


def local_ssd_undecided() -> ComputeError:
    """Build the 400: what is to become of the local SSD has to be said when its instance is stopped or suspended."""
    return ComputeError(
        400,
        "badRequest",
        "VM has a Local SSD attached but an undefined value for `discard-local-ssd`. If using gcloud, please add "
        "`--discard-local-ssd=false` or `--discard-local-ssd=true` to your command.",
    )


def incompatible(features: Sequence[str]) -> ComputeError:
    """Build the 400: the machine type does not go with the disk type, or another feature; `features` are their names."""
    message = f"[{', '.join(features)}] features are not compatible for creating instance."
    return ComputeError(400, "badRequest", message)


def policy_forbids(project_number: str, instance_path: str) -> ComputeError:
    """Build the 412: an organisation policy forbids the instance."""
    message = _policy_message(project_number, instance_path)
    return ComputeError(412, "conditionNotMet", message, location=("If-Match", "header"))


def account_unknown(email: str) -> ComputeError:
    """Build the 404: the service account was made a moment ago, and is not known everywhere yet."""
    return ComputeError(404, "notFound", _account_message(email))


def console_away(path: str, nth: int) -> ComputeError:
    """Build the refusal to show a serial console: a 503, a 400 and a 403, in turn."""
    permission = "compute.instances.getSerialPortOutput"
    refusals = (
        unavailable(),
        not_ready(path),
        ComputeError(403, "forbidden", f"Required '{permission}' permission for '{path}'"),
    )
    return refusals[(nth - 1) % len(refusals)]


def bad_gateway() -> HtmlError:
    """Build the 502 that a Google front end answers where it got nothing from the API behind it."""
    why = "The server encountered a temporary error and could not complete your request.<p>Please try again in 30 seconds."
    return HtmlError(502, "Server Error", why)


def in_use(disk_path: str, user_path: str) -> ComputeError:
    """Build the 400: a disk that an instance still holds cannot be deleted."""
    return ComputeError(
        400, "resourceInUseByAnotherResource", _in_use_message(disk_path, user_path)
    )


def stale_metadata() -> ComputeError:
    """Build the 412: somebody else changed the metadata since the caller read its fingerprint."""
    return ComputeError(412, "conditionNotMet", _STALE_METADATA, location=("If-Match", "header"))


def stale_labels() -> ComputeError:
    """Build the 412: somebody else changed the labels since the caller read their fingerprint."""
    return ComputeError(412, "conditionNotMet", _STALE_LABELS, location=("If-Match", "header"))


def rate_limited(project_number: str, nth: int) -> ComputeError:
    """Build the refusal of a caller that is too fast: Compute's older 403 and its newer 429, in turn."""
    message = (
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'compute.googleapis.com' "
        f"for consumer 'project_number:{project_number}'."
    )
    code, status = (403, "PERMISSION_DENIED") if nth % 2 else (429, "RESOURCE_EXHAUSTED")
    return ComputeError(code, "rateLimitExceeded", message, domain="usageLimits", status=status)


def unavailable() -> ComputeError:
    """Build the 503: nothing is wrong with the call; it may be made again."""
    return ComputeError(
        503, "backendError", "The service is currently unavailable.", status="UNAVAILABLE"
    )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an accepted operation came to nothing: the `error` of an operation that is DONE."""

    code: str
    message: str
    http_status: int
    http_message: str
    details: Sequence[dict[str, Any]] = field(default=())
    summary: tuple[str, str] | None = (
        None  # code and message of an entry before this one that says less
    )

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


def stock_out(
    zone_path: str, machine_type: str, *, other_zones: Sequence[str], nth: int
) -> Failure:
    """Build the stock-out of one zone; every second one names what is short and where there is more of it."""
    zone = zone_path.rsplit("/", 1)[-1]
    with_details = nth % 2 == 0
    metadatas = {"vmType": machine_type, "attachment": "", "zone": zone, "zonesAvailable": ""}
    message = (
        f"The zone '{zone_path}' does not have enough resources available to fulfill the request.  "
    )
    if with_details:
        metadatas["zonesAvailable"] = ",".join(other_zones)
        message += "'(resource type:compute)'."
    else:
        message += "Try a different zone, or try again later."
    spoken = (
        f"A {machine_type} VM instance is currently unavailable in the {zone} zone. Alternatively, you can try your request "
        "again with a different VM hardware configuration or at a later time."
    )
    return Failure(
        code="ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
        if with_details
        else "ZONE_RESOURCE_POOL_EXHAUSTED",
        message=message,
        http_status=503,
        http_message="SERVICE UNAVAILABLE",
        details=(
            {"localizedMessage": {"locale": "en-US", "message": spoken}},
            {
                "errorInfo": {
                    "reason": "resource_availability",
                    "domain": "compute.googleapis.com",
                    "metadatas": metadatas,
                }
            },
        ),
    )


def second_error(stock_out: Failure) -> Failure:
    """Build a stock-out that stands second: before it is an entry that says only that there is no machine.

    Such pairs are reported of `bulkInsert`, with this code and message and as a 400.
    """
    summary = ("VM_MIN_COUNT_NOT_REACHED", "Requested minimum count of 1 VMs could not be created.")
    return replace(stock_out, summary=summary, http_status=400, http_message="BAD REQUEST")


def policy_forbade(project_number: str, instance_path: str) -> Failure:
    """Build the failure of an insert that was accepted, and then forbidden by an organisation policy."""
    return Failure(
        code="CONDITION_NOT_MET",
        message=_policy_message(project_number, instance_path),
        http_status=412,
        http_message="PRECONDITION FAILED",
    )


def account_was_unknown(email: str) -> Failure:
    """Build the failure of an insert that was accepted, but whose service account is not known everywhere yet."""
    return Failure(
        code="EXTERNAL_RESOURCE_NOT_FOUND",
        message=_account_message(email),
        http_status=404,
        http_message="NOT FOUND",
    )


def ip_space_exhausted(project_id: str, region: str) -> Failure:
    """Build the failure of an insert into a subnetwork that has no free address. Which HTTP status goes with it is not published."""
    subnetwork = f"projects/{project_id}/regions/{region}/subnetworks/default"
    return Failure(
        code="IP_SPACE_EXHAUSTED_WITH_DETAILS",
        message=f"IP space of '{subnetwork}' is exhausted. Insufficient free IP addresses in the IP range '10.128.0.0/20'. "
        "Consider expanding the current IP range or selecting an alternative IP range. If this is a secondary range, "
        "consider adding an additional secondary range",
        http_status=400,
        http_message="BAD REQUEST",
    )


def quota_exceeded(region: str) -> Failure:
    """Build the failure of a project whose processors in the region are used up."""
    info = {
        "metricName": "compute.googleapis.com/cpus",
        "limitName": "CPUS-per-project-region",
        "dimensions": {"region": region},
        "limit": 24.0,
    }
    return Failure(
        code="QUOTA_EXCEEDED",
        message=f"Quota 'CPUS' exceeded.  Limit: 24.0 in region {region}.",
        http_status=403,
        http_message="FORBIDDEN",
        details=({"quotaInfo": info},),
    )


def disk_in_use(disk_path: str, user_path: str) -> Failure:
    """Build the failure of an insert or an attachDisk that wants a disk which another instance holds."""
    return Failure(
        code="RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
        message=_in_use_message(disk_path, user_path),
        http_status=400,
        http_message="BAD REQUEST",
    )


def suspend_unsupported(name: str) -> Failure:
    """Build the failure of a suspend that the guest did not follow.

    The code is the one Compute's page on suspend problems gives; what it says for a silent guest is
    not published.
    """
    return Failure(
        code="UNSUPPORTED_OPERATION",
        message=f"Instance '{name}' cannot be suspended: the guest did not respond to the suspend request.",
        http_status=400,
        http_message="BAD REQUEST",
    )


def overtaken(user: str) -> Failure:
    """Build the failure of an operation whose instance was deleted before it was done."""
    return Failure(
        code="OPERATION_CANCELED_BY_USER",
        message=f"Operation was canceled by user '{user}'.",
        http_status=409,
        http_message="CONFLICT",
    )


def gone(path: str) -> Failure:
    """Build the failure of an operation whose instance was no longer there."""
    return Failure(
        code="RESOURCE_NOT_FOUND",
        message=f"The resource '{path}' was not found",
        http_status=404,
        http_message="NOT FOUND",
    )


def changed_meanwhile(refusal: ComputeError) -> Failure:
    """Build the failure of a change that was accepted but lost the race against another with the same fingerprint."""
    return Failure(
        code="CONDITION_NOT_MET",
        message=refusal.message,
        http_status=412,
        http_message="PRECONDITION FAILED",
    )


_PAGE = """<!DOCTYPE html>
<html lang=en>
  <meta charset=utf-8>
  <meta name=viewport content="initial-scale=1, minimum-scale=1, width=device-width">
  <title>Error {code} ({title})!!1</title>
  <style>
    *{{margin:0;padding:0}}html,code{{font:15px/22px arial,sans-serif}}html{{background:#fff;color:#222;padding:15px}}
  </style>
  <a href=//www.google.com/><span id=logo aria-label=Google></span></a>
  <p><b>{code}.</b> <ins>That\u2019s an error.</ins>
  <p>{message}  <ins>That\u2019s all we know.</ins>
"""
_STALE_METADATA = "Supplied fingerprint does not match current metadata fingerprint."
_STALE_LABELS = "Labels fingerprint either invalid or resource labels have changed"


def _in_use_message(disk_path: str, user_path: str) -> str:
    return f"The disk resource '{disk_path}' is already being used by '{user_path}'"


def _policy_message(project_number: str, instance_path: str) -> str:
    return (
        f"Constraint constraints/compute.vmExternalIpAccess violated for project {project_number}. Add instance "
        f"{instance_path} to the constraint to use external IP with it."
    )


def _account_message(email: str) -> str:
    return f"The resource '{email}' of type 'serviceAccount' was not found."
