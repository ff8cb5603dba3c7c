"""The faults of the local Compute Engine, one object each.

A new fault is one more entry of ``_ALL``: its kind says what it affects, and the entry says which
methods it affects and what happens. Where several faults could affect the same call, the first one
of the list that is on does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from localcloud.services.compute.errors import (
    ComputeError,
    ConditionNotMetError,
    HtmlError,
    bad_policy,
    in_use,
    invalid_value,
    not_found,
    not_ready,
)
from localcloud.services.compute.failures import (
    Failure,
    gone,
    internal_error,
    rate_exceeded,
)
from localcloud.services.compute.fault_kinds import (
    CallFault,
    DiskCallFault,
    Fault,
    GuestFault,
    InstanceCallFault,
    InstanceOperationFault,
    MachineFault,
    OperationFault,
    PolicyRace,
    SnapshotFault,
    Source,
    SourceFault,
    Strike,
)
from localcloud.services.compute.methods import LONG_METHODS, METHODS
from localcloud.services.compute.resources import Disk, Instance, Snapshot, region_of

_EVERY_METHOD = frozenset(METHODS)
_POLICY_METHODS = frozenset({"instances.getIamPolicy", "instances.setIamPolicy"})
_START_METHODS = frozenset({"instances.insert", "instances.start", "instances.resume"})
_SNAPSHOT_METHODS = frozenset({"snapshots.insert", "disks.createSnapshot"})
_SOURCE_METHODS = _SNAPSHOT_METHODS | {"instances.insert", "disks.insert"}


def _rate_limited(strike: Strike[None]) -> ComputeError:
    """Return Compute's older 403 and its newer 429 in turn."""
    message = (
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service "
        f"'compute.googleapis.com' for consumer 'project_number:{strike.project.number}'."
    )
    code, status = (403, "PERMISSION_DENIED") if strike.number % 2 else (429, "RESOURCE_EXHAUSTED")
    return ComputeError(code, "rateLimitExceeded", message, domain="usageLimits", status=status)


def _unavailable() -> ComputeError:
    return ComputeError(
        503, "backendError", "The service is currently unavailable.", status="UNAVAILABLE"
    )


def _bad_gateway() -> ComputeError:
    """Return what a Google front end answers if it gets nothing from the API behind it."""
    return HtmlError(
        502,
        "Server Error",
        "The server encountered a temporary error and could not complete your request.<p>Please "
        "try again in 30 seconds.",
    )


def _console_away(strike: Strike[Instance]) -> ComputeError:
    """Return a 503, a 400 and a 403 in turn."""
    path = strike.target.path
    permission = "compute.instances.getSerialPortOutput"
    refusals = (
        _unavailable(),
        not_ready(path),
        ComputeError(403, "forbidden", f"Required '{permission}' permission for '{path}'"),
    )
    return refusals[(strike.number - 1) % len(refusals)]


def _policy_forbidden(strike: Strike[Instance]) -> ComputeError:
    permission = "compute.instances.setIamPolicy"
    message = f"Required '{permission}' permission for '{strike.target.path}'"
    return ComputeError(403, "forbidden", message)


def _sharing_limited(strike: Strike[Instance]) -> ComputeError:
    """Return a 400 and a 412 in turn: the account is not of a permitted organisation."""
    message = "One or more users named in the policy do not belong to a permitted customer"
    if strike.number % 2:
        return ComputeError(400, "failedPrecondition", f"{message}.", status="FAILED_PRECONDITION")
    return ConditionNotMetError(f"{message},  perhaps due to an organization policy.")


def _held_by_another(strike: Strike[Disk]) -> ComputeError:
    disk = strike.target
    return in_use(disk.path, strike.project.path_of(disk.zone, "instances", "holder"))


def _disk_quota_exceeded(strike: Strike[Disk]) -> ComputeError:
    """Return the refusal in a region of which the disks have all the space that they may have.

    Compute's words are quoted in GoogleCloudPlatform/compute-image-tools, pull request 1390, its
    reason in googlecodelabs/feedback, issue 440.
    """
    region = region_of(strike.target.zone)
    message = f"Quota 'SSD_TOTAL_GB' exceeded.  Limit: 500.0 in region {region}."
    return ComputeError(403, "quotaExceeded", message)


def _policy_forbids(strike: Strike[Instance]) -> ComputeError | Failure:
    """Return a refusal and a failed operation in turn."""
    message = (
        "Constraint constraints/compute.vmExternalIpAccess violated for project "
        f"{strike.project.number}. Add instance {strike.target.path} to the constraint to use "
        "external IP with it."
    )
    if strike.number % 2:
        return ConditionNotMetError(message)
    return Failure(
        code="CONDITION_NOT_MET",
        message=message,
        http_status=412,
        http_message="PRECONDITION FAILED",
    )


def _account_unknown(strike: Strike[Instance]) -> ComputeError | Failure:
    """Return a refusal and a failed operation in turn: the account is not known everywhere yet."""
    accounts = strike.target.resource.get("serviceAccounts") or [{}]
    email = str(accounts[0].get("email", "default"))
    message = f"The resource '{email}' of type 'serviceAccount' was not found."
    if strike.number % 2:
        return ComputeError(404, "notFound", message)
    return Failure(
        code="EXTERNAL_RESOURCE_NOT_FOUND",
        message=message,
        http_status=404,
        http_message="NOT FOUND",
    )


def _ip_space_exhausted(strike: Strike[Instance]) -> Failure:
    """Return the failure; which HTTP status goes with it is not published."""
    subnetwork = strike.project.subnetwork_path(region_of(strike.target.zone))
    return Failure(
        code="IP_SPACE_EXHAUSTED_WITH_DETAILS",
        message=f"IP space of '{subnetwork}' is exhausted. Insufficient free IP addresses in the "
        "IP range '10.128.0.0/20'. Consider expanding the current IP range or selecting an "
        "alternative IP range. If this is a secondary range, consider adding an additional "
        "secondary range",
        http_status=400,
        http_message="BAD REQUEST",
    )


def _quota_exceeded(strike: Strike[Instance]) -> Failure:
    """Return the failure of a project whose processors in the region are used up."""
    region = region_of(strike.target.zone)
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


def _stock_out(strike: Strike[Instance]) -> Failure:
    """Return the stock-out of a zone; every second one names what is short and who has more."""
    instance = strike.target
    zone, machine_type = instance.zone, instance.machine_type
    code = "ZONE_RESOURCE_POOL_EXHAUSTED"
    advice = "Try a different zone, or try again later."
    zones_available = ""
    if strike.number % 2 == 0:
        code = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
        advice = "'(resource type:compute)'."
        zones_available = ",".join(each for each in strike.project.zones if each != zone)
    spoken = (
        f"A {machine_type} VM instance is currently unavailable in the {zone} zone. Alternatively, "
        "you can try your request again with a different VM hardware configuration or at a later "
        "time."
    )
    metadatas = {
        "vmType": machine_type,
        "attachment": "",
        "zone": zone,
        "zonesAvailable": zones_available,
    }
    return Failure(
        code=code,
        message=f"The zone '{strike.project.path}/zones/{zone}' does not have enough resources "
        f"available to fulfill the request.  {advice}",
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


def _second_error(strike: Strike[Instance]) -> Failure:
    """Return a stock-out after an entry that says only that there is no machine.

    Such pairs are reported of ``bulkInsert``, with this code and message and as a 400.
    """
    summary = ("VM_MIN_COUNT_NOT_REACHED", "Requested minimum count of 1 VMs could not be created.")
    return replace(_stock_out(strike), summary=summary, http_status=400, http_message="BAD REQUEST")


def _suspend_unsupported(strike: Strike[Instance]) -> Failure:
    """Return the failure of a suspend to which the guest did not respond.

    The code is that of Compute's page on suspend problems. What Compute says of a silent guest is
    not published.
    """
    return Failure(
        code="UNSUPPORTED_OPERATION",
        message=f"Instance '{strike.target.name}' cannot be suspended: the guest did not respond "
        "to the suspend request.",
        http_status=400,
        http_message="BAD REQUEST",
    )


def _source_gone(strike: Strike[Source]) -> ComputeError | Failure:
    """Return a 404, a failed operation and a 400 in turn.

    The 400 is quoted in binary-com/gce-manager#8, of a snapshot.
    """
    path = strike.target.path
    kind = path.split("/")[-2].removesuffix("s")
    why = f"The referenced {kind} resource cannot be found."
    field = f"resource.source{kind.capitalize()}"
    outcomes = (not_found(path), gone(path), invalid_value(field, path, why))
    return outcomes[(strike.number - 1) % len(outcomes)]


def _snapshot_location_forbidden(strike: Strike[Snapshot]) -> ComputeError | Failure:
    """Return a refusal and a failed operation in turn.

    The 412 is quoted in a test of Trident's, of a snapshot in a multi-region.
    """
    message = (
        "Location US violates constraint constraints/gcp.resourceLocations on the resource "
        f"{strike.target.path}."
    )
    if strike.number % 2:
        return ConditionNotMetError(message)
    return Failure(
        code="CONDITION_NOT_MET",
        message=message,
        http_status=412,
        http_message="PRECONDITION FAILED",
    )


def _snapshot_quota_exceeded(_: Strike[Snapshot]) -> Failure:
    """Return the failure of a project that has as many snapshots as it may have.

    Source: Backup for GKE, "Quotas", for its beginning.
    """
    info = {
        "metricName": "compute.googleapis.com/snapshots",
        "limitName": "SNAPSHOTS-per-project",
        "dimensions": {"global": "global"},
        "limit": 1000.0,
    }
    return Failure(
        code="QUOTA_EXCEEDED",
        message="Quota 'SNAPSHOTS' exceeded.  Limit: 1000.0 globally.",
        http_status=403,
        http_message="FORBIDDEN",
        details=({"quotaInfo": info},),
    )


_ALL: tuple[Fault, ...] = (
    CallFault(
        name="unavailable",
        does="any call is refused with 503; nothing has changed",
        methods=_EVERY_METHOD,
        refusal=lambda _: _unavailable(),
    ),
    CallFault(
        name="html_502",
        does="any call is answered 502 with an HTML page, as by a Google front end; nothing has "
        "changed",
        methods=_EVERY_METHOD,
        refusal=lambda _: _bad_gateway(),
    ),
    CallFault(
        name="rate_limited",
        does="any call is refused with rateLimitExceeded, as 403 and 429 in turn; nothing has "
        "changed",
        methods=_EVERY_METHOD,
        refusal=_rate_limited,
    ),
    InstanceCallFault(
        name="not_ready",
        does="start, stop, suspend, resume and delete of an instance are refused with "
        "resourceNotReady; nothing has changed",
        methods=frozenset(
            f"instances.{verb}" for verb in ("start", "stop", "suspend", "resume", "delete")
        ),
        refusal=lambda strike: not_ready(strike.target.path),
    ),
    InstanceCallFault(
        name="console_away",
        does="getSerialPortOutput is refused, as 503, 400 and 403 in turn",
        methods=frozenset({"instances.getSerialPortOutput"}),
        refusal=_console_away,
    ),
    DiskCallFault(
        name="in_use",
        does="disks.delete is refused with resourceInUseByAnotherResource: an instance called "
        "`holder` has the disk",
        methods=frozenset({"disks.delete"}),
        refusal=_held_by_another,
    ),
    DiskCallFault(
        name="disk_quota_exceeded",
        does="disks.resize is refused with quotaExceeded; the disk is as before",
        methods=frozenset({"disks.resize"}),
        refusal=_disk_quota_exceeded,
    ),
    InstanceCallFault(
        name="access_forbidden",
        does="getIamPolicy and setIamPolicy of an instance are refused with forbidden",
        methods=_POLICY_METHODS,
        refusal=_policy_forbidden,
    ),
    InstanceCallFault(
        name="sharing_limited",
        does="setIamPolicy of an instance is refused by domain restricted sharing, as 400 and 412 "
        "in turn",
        methods=frozenset({"instances.setIamPolicy"}),
        refusal=_sharing_limited,
    ),
    InstanceCallFault(
        name="account_deleted",
        does="setIamPolicy of an instance is refused with badRequest: the account does not exist",
        methods=frozenset({"instances.setIamPolicy"}),
        refusal=lambda _: bad_policy("User alice@example.com does not exist."),
    ),
    PolicyRace(
        name="policy_race",
        does="right after getIamPolicy of an instance, somebody else changes the policy",
        methods=frozenset({"instances.getIamPolicy"}),
    ),
    InstanceOperationFault(
        name="policy_forbids",
        does="instances.insert: an organisation policy forbids it; as 412 conditionNotMet and as "
        "an operation that ends with CONDITION_NOT_MET in turn",
        methods=frozenset({"instances.insert"}),
        outcome=_policy_forbids,
    ),
    InstanceOperationFault(
        name="account_unknown",
        does="instances.insert: the service account is not known yet; as 404 and as an operation "
        "that ends with EXTERNAL_RESOURCE_NOT_FOUND in turn",
        methods=frozenset({"instances.insert"}),
        outcome=_account_unknown,
    ),
    InstanceOperationFault(
        name="ip_space_exhausted",
        does="instances.insert: the operation ends with IP_SPACE_EXHAUSTED_WITH_DETAILS",
        methods=frozenset({"instances.insert"}),
        outcome=_ip_space_exhausted,
    ),
    InstanceOperationFault(
        name="quota_exceeded",
        does="insert, start and resume: the operation ends with QUOTA_EXCEEDED; the instance is as "
        "before",
        methods=_START_METHODS,
        outcome=_quota_exceeded,
    ),
    InstanceOperationFault(
        name="stock_out",
        does="insert, start and resume: the operation ends with ZONE_RESOURCE_POOL_EXHAUSTED and "
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS in turn; the instance is as before",
        methods=_START_METHODS,
        outcome=_stock_out,
    ),
    InstanceOperationFault(
        name="second_error",
        does="insert, start and resume: the operation ends with two errors, a stock-out after one "
        "that says less; the instance is as before",
        methods=_START_METHODS,
        outcome=_second_error,
    ),
    InstanceOperationFault(
        name="suspend_unsupported",
        does="the instance is SUSPENDING, then RUNNING again; the operation ends with an error",
        methods=frozenset({"instances.suspend"}),
        outcome=_suspend_unsupported,
    ),
    SourceFault(
        name="source_gone",
        does="what a snapshot or a disk is to be made from does not exist any more; as 404, as an "
        "operation that ends with RESOURCE_NOT_FOUND, and as 400 in turn",
        methods=_SOURCE_METHODS,
        outcome=_source_gone,
    ),
    SourceFault(
        name="source_not_ready",
        does="what a snapshot or a disk is to be made from is refused with resourceNotReady",
        methods=_SOURCE_METHODS,
        outcome=lambda strike: not_ready(strike.target.path),
    ),
    SourceFault(
        name="source_busy",
        does="the operation that makes a snapshot of a disk, or a disk from a snapshot, ends with "
        "RESOURCE_OPERATION_RATE_EXCEEDED",
        methods=_SOURCE_METHODS,
        outcome=lambda strike: rate_exceeded(strike.target.path),
    ),
    SnapshotFault(
        name="snapshot_quota_exceeded",
        does="the operation that takes a snapshot ends with QUOTA_EXCEEDED",
        methods=_SNAPSHOT_METHODS,
        outcome=_snapshot_quota_exceeded,
    ),
    SnapshotFault(
        name="snapshot_location_forbidden",
        does="an organisation policy forbids a snapshot where it is stored; as 412 conditionNotMet "
        "and as an operation that ends with CONDITION_NOT_MET in turn",
        methods=_SNAPSHOT_METHODS,
        outcome=_snapshot_location_forbidden,
    ),
    SnapshotFault(
        name="capture_fails",
        does="a snapshot is FAILED before its content is captured; the operation ends with "
        "INTERNAL_ERROR",
        methods=_SNAPSHOT_METHODS,
        outcome=lambda _: internal_error(),
        remains=True,
    ),
    SnapshotFault(
        name="upload_fails",
        does="a snapshot is UPLOADING, then FAILED; the operation ends with INTERNAL_ERROR",
        methods=_SNAPSHOT_METHODS,
        outcome=lambda _: internal_error(),
        after_capture=True,
        remains=True,
    ),
    OperationFault(
        name="slow_upload",
        does="a snapshot is UPLOADING for 20 times as long",
        methods=_SNAPSHOT_METHODS,
        upload_factor=20.0,
    ),
    OperationFault(
        name="slow_operation",
        does="the operation, and the states of the instance on the way, take 20 times as long",
        methods=LONG_METHODS,
        time_factor=20.0,
    ),
    OperationFault(
        name="lost_operation",
        does="the operation happens, but its record is lost: 404, and its requestId is unknown",
        methods=LONG_METHODS,
        loses_record=True,
    ),
    GuestFault(
        name="never_ready",
        does="the machine boots, but its container never comes up: it reports nothing",
        becomes_ready=False,
        failure=None,
    ),
    GuestFault(
        name="fails_at_boot",
        does="the machine boots and reports that it failed (IMAGE_PULL_FAILED)",
        becomes_ready=False,
        failure=(
            "IMAGE_PULL_FAILED",
            (
                "The image could not be pulled: manifest unknown. "
                "Start the workspace with an image that exists."
            ),
        ),
    ),
    GuestFault(
        name="fails_later",
        does="the machine boots and reports ready; after as long as a boot takes it reports that "
        "it failed (CONTAINER_ENDS)",
        becomes_ready=True,
        failure=(
            "CONTAINER_ENDS",
            "The container keeps ending. Start the workspace with another image.",
        ),
    ),
    MachineFault(
        name="vanished",
        does="a running machine is deleted by hand, with its autoDelete disks",
        event=lambda machines, instance: machines.delete_by_hand(instance),
    ),
    MachineFault(
        name="preempted",
        does="a running machine is reclaimed: TERMINATED by a compute.instances.preempted system "
        "operation",
        event=lambda machines, instance: machines.preempt(instance),
    ),
)

FAULTS: Mapping[str, Fault] = MappingProxyType({fault.name: fault for fault in _ALL})
