"""Reported shapes of Compute's errors, through the stock Compute client: calls, operations, lists."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from shared import logs
from shared.domain.errors import MachineFaultError, UnavailableError
from shared.domain.instance import (
    GLOBAL,
    Command,
    CreateSnapshot,
    DeleteDisk,
    DeleteInstance,
    DeleteSnapshot,
    Fault,
    FaultKind,
    InsertInstance,
    LabelDisk,
    LabelInstance,
    LabelSnapshot,
    OperationState,
    Place,
    RefreshMetadata,
    ResizeDisk,
    ResumeInstance,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.ports import Machines
from tests.contract.servers import Answer, Responder, json_answer, refusal
from tests.fakes.settings import MACHINE_SETTINGS

pytestmark = pytest.mark.xdist_group("machines")  # one worker imports the Compute library

K = FaultKind
ID = "769ec6d4-dcfe-4afd-a792-a3e9062ed11a"
IN_ZONE = "projects/a-project/zones/us-west1-a"
PLACE, HOME = Place("us-west1-a", f"workspace-{ID}"), Place("us-west1-a", f"home-{ID}")
INSERT = InsertInstance(
    place=PLACE,
    workspace_id=ID,
    workspace_name="one",
    owner_id="alice",
    machine_type="e2-standard-4",
    image_tag="v2",
    generation=1,
    home_disk=HOME.name,
    attach_home=False,
    repo=None,
    branch=None,
)
SNAPSHOT = Place(GLOBAL, f"home-snapshot-{ID}-a3e9062ed11a")
SNAPSHOT_PATH = f"projects/a-project/global/snapshots/{SNAPSHOT.name}"
CREATE = CreateSnapshot(place=SNAPSHOT, disk=HOME, workspace_id=ID, owner_id="alice")
REFRESH = RefreshMetadata(
    place=PLACE,
    workspace_id=ID,
    workspace_name="one",
    image_tag="v2",
    generation=2,
    repo=None,
    branch=None,
)
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
POLICY = "Constraint constraints/compute.vmExternalIpAccess violated for project 123456789."
PAGE = (
    b"<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title>"
    b"<p>That\xe2\x80\x99s all we know.</html>"
)
STOCK_OUT = f"The zone '{IN_ZONE}' does not have enough resources available to fulfill the request."
IN_USE = (
    f"The disk resource '{IN_ZONE}/disks/{HOME.name}'"
    f" is already being used by '{IN_ZONE}/instances/other'"
)
TOO_OFTEN = (
    "Operation rate exceeded for resource '{}'. Too frequent operations from the source resource."
)
LOCATION = f"Location us violates constraint constraints/gcp.resourceLocations on the resource {SNAPSHOT_PATH}."
NO_ADDRESS = (
    "IP space of 'projects/a-project/regions/us-west1/subnetworks/default' is exhausted."
    " Insufficient free IP addresses in the IP range '10.0.1.0/24'."
    " Consider expanding the current IP range or selecting an alternative IP range."
)


@pytest.fixture
def responder() -> Iterator[Responder]:
    """A server whose answers the test sets."""
    responder = Responder()
    yield responder
    responder.close()


@pytest.fixture
def machines(responder: Responder) -> Machines:
    """The adapter, connected to that server."""
    from shared.adapters.compute_machines import ComputeMachines

    return ComputeMachines(
        "a-project", MACHINE_SETTINGS, "https://reports.example.com", responder.address
    )


def error(code: int, message: str, *errors: dict[str, Any], **more: Any) -> Answer:
    """Return an error document."""
    return json_answer(
        {"error": {"code": code, "message": message, "errors": errors, **more}}, code
    )


def error_info(reason: str) -> dict[str, Any]:
    """Return an error document's detail with its own reason."""
    return {
        "@type": ERROR_INFO,
        "reason": reason,
        "domain": "compute.googleapis.com",
        "metadata": {"a": "b"},
    }


def perform(machines: Machines, command: Command) -> Fault:
    """Return how a call is refused. A passing fault has no code and no resource."""
    try:
        machines.perform(command, str(uuid.uuid4()))
    except MachineFaultError as refused:
        return refused.fault
    except UnavailableError as away:
        return Fault(K.TRANSIENT, "", str(away))
    raise AssertionError("it was not refused")


CALLS: dict[str, tuple[Command, Answer, FaultKind, str]] = {
    "a rate, only in an ErrorInfo": (
        *(INSERT, error(403, "Quota exceeded.", status="PERMISSION_DENIED", details=[error_info("RATE_LIMIT_EXCEEDED")])),
        *(K.TRANSIENT, ""),
    ),
    "too many operations at once": (INSERT, refusal(403, "concurrentOperationsQuotaExceeded"), K.TRANSIENT, ""),
    "too many operations at once, in an ErrorInfo": (
        INSERT,
        error(
            *(403, "Rate Limit Exceeded", {"domain": "usageLimits", "reason": "rateLimitExceeded"}),
            details=[error_info("CONCURRENT_OPERATIONS_QUOTA_EXCEEDED"), {"@type": "type.googleapis.com/google.rpc.Help"}],
        ),
        *(K.TRANSIENT, ""),
    ),
    "a timeout of the request": (INSERT, refusal(408, "requestTimeout"), K.TRANSIENT, ""),
    "a request that the front end gave up": (INSERT, error(499, "The operation was cancelled."), K.TRANSIENT, ""),
    "a page": (INSERT, Answer(502, PAGE), K.TRANSIENT, ""),
    "a page that says not found": (DeleteInstance(PLACE), Answer(404, PAGE), K.TRANSIENT, ""),
    "JSON of another API": (INSERT, json_answer({"error": "invalid_grant", "error_description": "x"}, 400), K.TRANSIENT, ""),
    "JSON that is no object": (INSERT, json_answer([1], 500), K.TRANSIENT, ""),
    "success that is a page": (INSERT, Answer(200, PAGE), K.TRANSIENT, ""),
    "a stock-out in second place": (
        INSERT,
        error(503, "x", {"reason": "backendError", "message": "x"}, {"reason": "stockout", "message": STOCK_OUT}),
        *(K.STOCK_OUT, ""),
    ),
    "another operation under way": (INSERT, refusal(409, "operationInProgress"), K.NOT_READY, ""),
    "a policy": (INSERT, refusal(412, "conditionNotMet", POLICY), K.POLICY, ""),
    "a policy at a start": (StartInstance(PLACE), refusal(412, "conditionNotMet", POLICY), K.POLICY, ""),
    "a condition at a resume": (ResumeInstance(PLACE), refusal(412, "conditionNotMet"), K.POLICY, ""),
    "no free address": (INSERT, refusal(400, "IP_SPACE_EXHAUSTED_WITH_DETAILS", NO_ADDRESS), K.NOT_READY, ""),
    "a service account of a moment ago": (
        *(INSERT, refusal(404, "notFound", "The resource 'projects/a-project/serviceAccounts/m@p.iam' was not found")),
        *(K.NOT_READY, ""),
    ),
    "a machine that is there": (
        *(INSERT, refusal(409, "alreadyExists", f"The resource '{IN_ZONE}/instances/{PLACE.name}' already exists")),
        *(K.ALREADY_EXISTS, f"instances/{PLACE.name}"),
    ),
    "a boot disk that is there": (
        *(INSERT, refusal(409, "alreadyExists", f"The resource '{IN_ZONE}/disks/{PLACE.name}-1' already exists")),
        *(K.ALREADY_EXISTS, f"disks/{PLACE.name}-1"),
    ),
    "a disk in use": (DeleteDisk(HOME), refusal(400, "resourceInUseByAnotherResource", IN_USE), K.IN_USE, "instances/other"),
    "a disk that is as large": (
        ResizeDisk(HOME, 50),
        refusal(
            *(400, "invalid"),
            "Invalid value for field 'sizeGb': '50'. New disk size '50' GiB must be larger than existing size '50' GiB.",
        ),
        *(K.INVALID, ""),
    ),
    "a disk that is too large for any": (
        *(ResizeDisk(HOME, 99_999), refusal(400, "invalid", "Invalid value for field 'sizeGb': '99999'. Must be less than or equal to 65536")),
        *(K.INVALID, ""),
    ),
    "no quota for a larger disk": (
        *(ResizeDisk(HOME, 80), refusal(403, "quotaExceeded", "Quota 'SSD_TOTAL_GB' exceeded.  Limit: 500.0 in region us-west1.")),
        *(K.QUOTA, ""),
    ),
    "a disk to be made larger that is gone": (
        *(ResizeDisk(HOME, 80), refusal(404, "notFound", f"The resource '{IN_ZONE}/disks/{HOME.name}' was not found")),
        *(K.NOT_FOUND, f"disks/{HOME.name}"),
    ),
    "a disk to be made larger in a zone that is not there": (
        *(ResizeDisk(HOME, 80), refusal(400, "invalid", "Invalid value for field 'zone': 'us-west1-a'. Unknown zone.")),
        *(K.NOT_FOUND, ""),
    ),
    "a disk that grows too often": (
        *(ResizeDisk(HOME, 80), refusal(429, "resourceOperationRateExceeded", TOO_OFTEN.format(f"{IN_ZONE}/disks/{HOME.name}"))),
        *(K.TRANSIENT, ""),
    ),
    "not ready": (SuspendInstance(PLACE), refusal(400, "resourceNotReady"), K.NOT_READY, ""),
    "being repaired": (
        *(SuspendInstance(PLACE), refusal(400, "UNSUPPORTED_OPERATION", "You cannot suspend an instance that is being repaired.")),
        *(K.NOT_READY, ""),
    ),
    "a missing right": (SuspendInstance(PLACE), refusal(403, "forbidden"), K.PERMISSION, ""),
    "a snapshot of a disk that is gone": (
        *(CREATE, refusal(404, "notFound", f"The resource '{IN_ZONE}/disks/{HOME.name}' was not found")),
        *(K.NOT_FOUND, f"disks/{HOME.name}"),
    ),
    "a home from a snapshot that is gone": (
        *(INSERT, refusal(404, "notFound", f"The resource '{SNAPSHOT_PATH}' was not found")),
        *(K.NOT_FOUND, f"snapshots/{SNAPSHOT.name}"),
    ),
    "a home from a snapshot that is gone, as an invalid field": (
        INSERT,
        refusal(
            *(400, "invalid"),
            f"Invalid value for field 'resource.disks[1].initializeParams.sourceSnapshot': '{SNAPSHOT_PATH}'."
            " The referenced snapshot resource cannot be found.",
        ),
        *(K.NOT_FOUND, f"snapshots/{SNAPSHOT.name}"),
    ),
    "a snapshot that is not ready": (
        *(INSERT, refusal(400, "resourceNotReady", f"The resource '{SNAPSHOT_PATH}' is not ready")),
        *(K.NOT_READY, ""),
    ),
    "a snapshot that is there": (
        *(CREATE, refusal(409, "alreadyExists", f"The resource '{SNAPSHOT_PATH}' already exists")),
        *(K.ALREADY_EXISTS, f"snapshots/{SNAPSHOT.name}"),
    ),
    "a location that is forbidden": (CREATE, refusal(412, "conditionNotMet", LOCATION), K.POLICY, ""),
    "a snapshot in use": (
        *(DeleteSnapshot(SNAPSHOT), refusal(400, "resourceInUseByAnotherResource", f"The snapshot resource '{SNAPSHOT_PATH}' is already being used by '{IN_ZONE}/disks/other'")),
        *(K.IN_USE, "disks/other"),
    ),
    "a project that is not seen": (
        *(StopInstance(PLACE), refusal(404, "notFound", "The resource 'projects/a-project' was not found")),
        *(K.PERMISSION, ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_refused_call_is_classified_by_computes_answer(
    machines: Machines, responder: Responder, name: str
) -> None:
    """The call is made once: the queue repeats it after a passing fault."""
    command, responder.answer, kind, resource = CALLS[name]
    fault = perform(machines, command)
    assert (fault.kind, fault.resource) == (kind, resource)
    assert len(responder.requests) == 1
    assert_fit_for_people(fault.message)


def assert_fit_for_people(message: str) -> None:
    """Assert that a message is short plain text."""
    assert 0 < len(message) <= 300
    for machinery in (
        "http",
        "//",
        "<",
        ">",
        "127.0.0.1",
        "projects/a-project/",
        "POST",
        "requestId",
    ):
        assert machinery not in message


def test_a_long_message_with_an_address_is_short_and_plain(
    machines: Machines, responder: Responder
) -> None:
    """The library's prefix, the call's URL with its request id, is not in it either."""
    message = (
        f"The resource '{IN_ZONE}/disks/d' is not ready. See https://cloud.google.com/x. "
        + "Wait. " * 200
    )
    responder.answer = refusal(400, "resourceNotReady", message)
    assert_fit_for_people(perform(machines, INSERT).message)
    responder.answer = refusal(503, "backendError", message)
    assert_fit_for_people(perform(machines, INSERT).message)


FINGERPRINTED: list[Command] = [
    REFRESH,
    LabelInstance(place=PLACE, workspace_id=ID, owner_id="alice"),
    LabelDisk(place=HOME, workspace_id=ID, owner_id="alice"),
    LabelSnapshot(place=SNAPSHOT, workspace_id=ID, owner_id="alice"),
]


@pytest.mark.parametrize("command", FINGERPRINTED, ids=lambda command: type(command).__name__)
def test_a_stale_fingerprint_is_not_ready_for_calls_that_send_one(
    machines: Machines, responder: Responder, command: Command
) -> None:
    """A 412 means that somebody else changed the resource first. A policy's 412 stays a policy."""
    responder.answers["GET"] = json_answer(
        {"name": "x", "zone": IN_ZONE, "labelFingerprint": "abc="}
    )
    responder.answer = refusal(412, "conditionNotMet", "Supplied fingerprint does not match.")
    assert perform(machines, command).kind is K.NOT_READY
    responder.answer = refusal(412, "conditionNotMet")
    assert perform(machines, command).kind is K.NOT_READY
    responder.answer = refusal(412, "conditionNotMet", POLICY)
    assert perform(machines, command).kind is K.POLICY


# Refusals to let somebody log in, as public issue reports quote them
NOT_PERMITTED = "One or more users named in the policy do not belong to a permitted customer"
SHARING = "constraints/iam.allowedPolicyMemberDomains"
LOGINS: dict[str, tuple[Answer, FaultKind]] = {
    "domain restricted sharing": (
        error(
            400,
            f"{NOT_PERMITTED}.",
            {"message": f"{NOT_PERMITTED}.", "domain": "global", "reason": "failedPrecondition"},
            status="FAILED_PRECONDITION",
            details=[
                {
                    "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
                    "violations": [{"type": SHARING, "subject": "orgpolicy:projects/a-project"}],
                }
            ],
        ),
        K.POLICY,
    ),
    "the same in other words": (
        refusal(400, "badRequest", f"{NOT_PERMITTED},  perhaps due to an organization policy."),
        K.POLICY,
    ),
    "the same as a condition": (refusal(412, "conditionNotMet", f"{NOT_PERMITTED}."), K.POLICY),
    "a person who does not exist": (
        refusal(400, "badRequest", "User alice@example.com does not exist."),
        K.INVALID,
    ),
    "an invalid argument": (
        refusal(400, "badRequest", "Request contains an invalid argument."),
        K.INVALID,
    ),
    "a program that is not known everywhere": (
        refusal(400, "badRequest", "Service account p@a.iam.gserviceaccount.com does not exist."),
        K.NOT_READY,
    ),
    "an account that is not known everywhere": (
        refusal(404, "notFound", "Not found; Gaia id not found for email p@example.com"),
        K.NOT_FOUND,
    ),
    "a missing right": (
        refusal(403, "forbidden", "Required 'compute.instances.setIamPolicy' permission for 'x'"),
        K.PERMISSION,
    ),
    "too many requests": (refusal(403, "rateLimitExceeded"), K.TRANSIENT),
    "an outage": (refusal(503, "backendError"), K.TRANSIENT),
    "a machine that is being changed": (refusal(400, "resourceNotReady"), K.NOT_READY),
}


@pytest.mark.parametrize("shape", LOGINS)
def test_a_refusal_to_let_somebody_in_is_classified_by_computes_answer(
    machines: Machines, responder: Responder, shape: str
) -> None:
    """The call is made once, and the message is for people."""
    answer, kind = LOGINS[shape]
    responder.answers = {"GET": json_answer({"version": 1, "etag": "abc="}), "POST": answer}
    with pytest.raises((MachineFaultError, UnavailableError)) as refused:
        machines.grant_login(PLACE, "user:alice@example.com")
    if kind is K.TRANSIENT:
        assert isinstance(refused.value, UnavailableError)
    else:
        assert isinstance(refused.value, MachineFaultError)
        assert refused.value.fault.kind is kind
    assert_fit_for_people(str(refused.value))
    assert [each.method for each in responder.requests] == ["GET", "POST"]


# Operations


def operation(machines: Machines, responder: Responder, **members: Any) -> OperationState:
    """Return an operation with these fields."""
    responder.answer = json_answer(
        {"name": "operation-1", "status": "DONE", "operationType": "insert", **members}
    )
    return machines.operation("us-west1-a", "operation-1")


def one_error(code: str, message: str = "Compute says no.", **more: Any) -> dict[str, Any]:
    """Return the ``error`` of an operation, with one entry."""
    return {"errors": [{"code": code, "message": message, **more}]}


OPERATIONS: dict[str, tuple[dict[str, Any], FaultKind, str]] = {
    "only a 503": ({"httpErrorStatusCode": 503, "httpErrorMessage": "SERVICE UNAVAILABLE"}, K.TRANSIENT, ""),
    "only a status": ({"httpErrorStatusCode": 403}, K.PERMISSION, ""),
    "only a message": ({"httpErrorMessage": "BAD REQUEST"}, K.INVALID, ""),
    "no words": ({"error": one_error("INTERNAL_ERROR", ""), "httpErrorStatusCode": 500}, K.TRANSIENT, ""),
    "a stock-out in second place": (
        {
            "error": {
                "errors": [
                    {"code": "VM_MIN_COUNT_NOT_REACHED", "message": "Requested minimum count of 1 VMs could not be created."},
                    {"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": STOCK_OUT},
                ]
            },
            "httpErrorStatusCode": 400,
        },
        *(K.STOCK_OUT, ""),
    ),
    "a stock-out, only in an errorInfo": (
        {"error": one_error("SOMETHING_NEW", errorDetails=[{"errorInfo": {"reason": "resource_availability"}}])},
        *(K.STOCK_OUT, ""),
    ),
    "a quota, only in a quotaInfo": (
        {"error": one_error("SOMETHING_NEW", errorDetails=[{"quotaInfo": {"metricName": "compute.googleapis.com/cpus"}}])},
        *(K.QUOTA, ""),
    ),
    "a policy": ({"error": one_error("CONDITION_NOT_MET", POLICY), "httpErrorStatusCode": 412}, K.POLICY, ""),
    "a condition without words": ({"error": one_error("CONDITION_NOT_MET"), "httpErrorStatusCode": 412}, K.POLICY, ""),
    "a stale fingerprint": (
        {"error": one_error("CONDITION_NOT_MET"), "httpErrorStatusCode": 412, "operationType": "setMetadata"},
        *(K.NOT_READY, ""),
    ),
    "stale labels": (
        {"error": one_error("CONDITION_NOT_MET"), "operationType": "compute.instances.setLabels"},
        *(K.NOT_READY, ""),
    ),
    "no free address": ({"error": one_error("IP_SPACE_EXHAUSTED_WITH_DETAILS", NO_ADDRESS)}, K.NOT_READY, ""),
    "a service account of a moment ago": (
        {"error": one_error("EXTERNAL_RESOURCE_NOT_FOUND", "The resource 'm@p.iam' of type 'serviceAccount' was not found.")},
        *(K.NOT_READY, ""),
    ),
    "a right of a moment ago": ({"error": one_error("SERVICE_ACCOUNT_ACCESS_DENIED")}, K.NOT_READY, ""),
    "a disk in use": ({"error": one_error("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", IN_USE)}, K.IN_USE, "instances/other"),
    "a disk that is there": (
        {"error": one_error("RESOURCE_ALREADY_EXISTS", f"The resource '{IN_ZONE}/disks/d' already exists")},
        *(K.ALREADY_EXISTS, "disks/d"),
    ),
    "being repaired": (
        {
            "error": one_error("UNSUPPORTED_OPERATION", "You cannot suspend an instance that is being repaired."),
            "operationType": "suspend",
        },
        *(K.NOT_READY, ""),
    ),
    "a disk snapshotted too often": (
        {"error": one_error("RESOURCE_OPERATION_RATE_EXCEEDED", TOO_OFTEN.format(f"{IN_ZONE}/disks/d"))},
        *(K.TRANSIENT, ""),
    ),
    "a snapshot used too often, in words": (
        {"error": one_error("FORBIDDEN", TOO_OFTEN.format(SNAPSHOT_PATH)), "httpErrorStatusCode": 403},
        *(K.TRANSIENT, ""),
    ),
    "a quota of snapshots": (
        {
            "error": one_error("QUOTA_EXCEEDED", "Quota 'SNAPSHOTS' exceeded.  Limit: 1000.0 globally."),
            "httpErrorStatusCode": 403,
        },
        *(K.QUOTA, ""),
    ),
    "a location that is forbidden": ({"error": one_error("CONDITION_NOT_MET", LOCATION)}, K.POLICY, ""),
    "a disk that is gone": (
        {"error": one_error("RESOURCE_NOT_FOUND", f"The resource '{IN_ZONE}/disks/d' was not found")},
        *(K.NOT_FOUND, "disks/d"),
    ),
    "overtaken": ({"error": one_error("OPERATION_CANCELED_BY_USER"), "httpErrorStatusCode": 409}, K.TRANSIENT, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operations_end_is_classified_by_its_most_specific_field(
    machines: Machines, responder: Responder, name: str
) -> None:
    """Given an operation's error fields, the fault has this kind, code and resource."""
    members, kind, resource = OPERATIONS[name]
    fault = operation(machines, responder, **members).fault
    assert fault is not None
    assert (fault.kind, fault.resource, bool(fault.code)) == (kind, resource, True)
    assert_fit_for_people(fault.message)


def test_an_operation_that_ended_well_has_no_fault(
    machines: Machines, responder: Responder
) -> None:
    """An operation under way has no fault either, whatever it has in its fields."""
    assert operation(machines, responder) == OperationState(done=True)
    assert operation(machines, responder, httpErrorStatusCode=200) == OperationState(done=True)
    assert operation(
        machines, responder, status="RUNNING", error=one_error("QUOTA_EXCEEDED")
    ) == OperationState(False)


# Reads


READS: dict[str, Callable[[Machines], object]] = {
    "get": lambda machines: machines.get(PLACE),
    "get_disk": lambda machines: machines.get_disk(HOME),
    "operation": lambda machines: machines.operation("us-west1-a", "operation-1"),
    "operation of a snapshot": lambda machines: machines.operation(GLOBAL, "operation-1"),
    "get_snapshot": lambda machines: machines.get_snapshot(SNAPSHOT.name),
    "list_snapshots": lambda machines: list(machines.list_snapshots()),
    "list_instances": lambda machines: list(machines.list_instances()),
    "find_disks": lambda machines: machines.find_disks(ID),
}
NO_ABSENCE = {
    "a page": Answer(404, PAGE),
    "nothing": Answer(404),
    "a project that is not seen": refusal(
        404, "notFound", "The resource 'projects/a-project' was not found"
    ),
    "a gateway": json_answer({"message": "no Route matched with those values"}, 404),
    "success that is a page": Answer(200, PAGE),
    "a page of a 502": Answer(502, PAGE),
    "a missing right": refusal(403, "forbidden"),
}


@pytest.mark.parametrize("answer", NO_ABSENCE)
@pytest.mark.parametrize("name", READS)
def test_an_answer_that_is_not_computes_does_not_mean_absence(
    machines: Machines, responder: Responder, name: str, answer: str
) -> None:
    """A machine or a home is absent only if Compute itself says so."""
    responder.answer = NO_ABSENCE[answer]
    with pytest.raises(UnavailableError) as away:
        READS[name](machines)
    assert_fit_for_people(str(away.value))


CONSOLES = {
    "503": refusal(503, "backendError"),
    "400": refusal(400, "resourceNotReady"),
    "403": refusal(403, "forbidden"),
    "429": refusal(429, "rateLimitExceeded"),
    "a page": Answer(502, PAGE),
    "success that is a page": Answer(200, PAGE),
}


@pytest.mark.parametrize("answer", CONSOLES)
def test_a_console_that_cannot_be_read_is_empty_and_logged(
    machines: Machines, responder: Responder, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for every reason, because the console is only for a message."""
    lines: list[str] = []
    monkeypatch.setattr(logs, "warning", lambda event, **_: lines.append(event))
    responder.answer = CONSOLES[answer]
    assert machines.console_tail(PLACE, 100) == ""
    assert lines == ["ConsoleNotRead"]


def an_instance(name: str, **members: Any) -> dict[str, Any]:
    """Return an instance as Compute lists it."""
    return {
        "id": "1",
        "name": name,
        "zone": IN_ZONE,
        "status": "RUNNING",
        "machineType": "e2",
        **members,
    }


def listed(warning: str | None = None, **members: Any) -> Answer:
    """Return an aggregated list of one machine, with a warning for another zone."""
    scopes: dict[str, Any] = {"zones/us-west1-a": {"instances": [an_instance("one")]}}
    if warning:
        scopes["zones/us-west1-b"] = {
            "warning": {"code": warning, "message": "See https://example.com."}
        }
    return json_answer({"items": scopes, **members})


def test_a_zone_without_results_is_an_empty_zone(machines: Machines, responder: Responder) -> None:
    """That warning, and the one about deprecated resources, leave nothing out."""
    for warning in (None, "NO_RESULTS_ON_PAGE", "DEPRECATED_TYPE_USED"):
        responder.answer = listed(warning)
        assert [each.name for each in machines.list_instances()] == ["one"]


@pytest.mark.parametrize("name", ["list_instances", "list_disks"])
def test_every_page_of_a_list_asks_for_some_fields_only(
    machines: Machines, responder: Responder, name: str
) -> None:
    """A list that asks for everything has every machine's metadata, tens of kilobytes each."""
    disk = {"name": "one", "zone": IN_ZONE, "creationTimestamp": "2026-03-02T09:00:00.000-08:00"}
    scopes = {"zones/us-west1-a": {"instances": [an_instance("one")], "disks": [disk]}}
    responder.answer = json_answer({"items": scopes, "nextPageToken": "next"})
    found = getattr(machines, name)()
    first = next(found)
    responder.answer = json_answer({"items": scopes})
    assert list(found) == [first]
    queries = [parse_qs(urlsplit(each.path).query) for each in responder.requests]
    assert [each.get("pageToken") for each in queries] == [None, ["next"]]
    for query in queries:
        [fields] = query["fields"]
        assert "labels" in fields
        assert "metadata" not in fields
        assert query["filter"] == [f"labels.hub={MACHINE_SETTINGS.installation}"]


@pytest.mark.parametrize(
    "answer",
    [
        *(
            listed(warning)
            for warning in (
                "UNREACHABLE",
                "PARTIAL_SUCCESS",
                "LIST_OVERHEAD_QUOTA_EXCEED",
                "NEXT_YEARS",
            )
        ),
        listed(unreachables=["zones/us-west1-b"]),
        json_answer({"items": {}, "warning": {"code": "UNREACHABLE", "message": "x"}}),
    ],
)
def test_a_partial_list_is_never_returned(
    machines: Machines, responder: Responder, answer: Answer
) -> None:
    """This holds for all four lists: a missing machine or disk would look deleted."""
    responder.answer = answer
    for read in (
        lambda: list(machines.list_instances()),
        lambda: list(machines.list_disks()),
        lambda: machines.find_instances(ID),
        lambda: machines.find_disks(ID),
    ):
        with pytest.raises(UnavailableError) as away:
            read()
        assert_fit_for_people(str(away.value))


A_SNAPSHOT = {
    "name": SNAPSHOT.name,
    "status": "READY",
    "diskSizeGb": "50",
    "sourceDisk": f"https://www.googleapis.com/compute/v1/{IN_ZONE}/disks/{HOME.name}",
    "creationTimestamp": "2026-03-02T09:00:00.000-08:00",
    "storageBytes": "123456789",
}


def test_every_page_of_the_snapshots_asks_for_some_fields_only(
    machines: Machines, responder: Responder
) -> None:
    """It is one list for all zones. Snapshots without labels have none."""
    responder.answer = json_answer({"items": [A_SNAPSHOT], "nextPageToken": "next"})
    found = machines.list_snapshots()
    first = next(found)
    responder.answer = json_answer({"items": [{**A_SNAPSHOT, "name": "two"}]})
    assert [each.name for each in found] == ["two"]
    assert (first.source_disk, first.disk_gb, first.labels) == (HOME.name, 50, {})
    assert first.stored_bytes == 123456789

    urls = [urlsplit(each.path) for each in responder.requests]
    assert {url.path for url in urls} == {"/compute/v1/projects/a-project/global/snapshots"}
    queries = [parse_qs(url.query) for url in urls]
    assert [each.get("pageToken") for each in queries] == [None, ["next"]]
    for query in queries:
        assert "labels" in query["fields"][0]
        assert query["filter"] == [f"labels.hub={MACHINE_SETTINGS.installation}"]


@pytest.mark.parametrize("warning", ["UNREACHABLE", "PARTIAL_SUCCESS", "NEXT_YEARS"])
def test_a_partial_list_of_snapshots_is_never_returned(
    machines: Machines, responder: Responder, warning: str
) -> None:
    """A snapshot that is missing would look deleted. A harmless warning leaves nothing out."""
    harmless = {"code": "NO_RESULTS_ON_PAGE", "message": "x"}
    responder.answer = json_answer({"items": [A_SNAPSHOT], "warning": harmless})
    assert len(list(machines.list_snapshots())) == 1
    of = {"code": warning, "message": "See https://example.com."}
    responder.answer = json_answer({"items": [A_SNAPSHOT], "warning": of})
    with pytest.raises(UnavailableError) as away:
        list(machines.list_snapshots())
    assert_fit_for_people(str(away.value))


@pytest.mark.parametrize("command", [CREATE, DeleteSnapshot(SNAPSHOT)], ids=["create", "delete"])
def test_a_change_of_a_snapshot_is_a_global_call_with_its_request_id(
    machines: Machines, responder: Responder, command: Command
) -> None:
    """So it is made once, however often it is repeated."""
    responder.answer = json_answer({"name": "operation-1", "targetId": "7"})
    request_id = str(uuid.uuid4())
    assert machines.perform(command, request_id).gce_operation == "operation-1"
    url = urlsplit(responder.requests[-1].path)
    last = "" if command is CREATE else f"/{SNAPSHOT.name}"
    assert url.path == f"/compute/v1/projects/a-project/global/snapshots{last}"
    assert parse_qs(url.query)["requestId"] == [request_id]


def test_an_operation_of_a_snapshot_is_a_global_one(
    machines: Machines, responder: Responder
) -> None:
    """It is in no zone."""
    responder.answer = json_answer({"name": "operation-1", "status": "DONE"})
    assert machines.operation(GLOBAL, "operation-1") == OperationState(done=True)
    path = "/compute/v1/projects/a-project/global/operations/operation-1"
    assert urlsplit(responder.requests[-1].path).path == path


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("1", 1),
        ("0", None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("two", None),
        ("9" * 400, None),
        ("²", None),
    ],
)
def test_the_heartbeat_interval_is_read_from_the_metadata(
    machines: Machines, responder: Responder, value: str, seconds: int | None
) -> None:
    """A value that is not a number of seconds means that it is not known."""
    items = [{"key": "other", "value": "7"}, {"key": "hub-heartbeat-seconds", "value": value}]
    responder.answer = json_answer(an_instance("one", metadata={"items": items}))
    found = machines.get(PLACE)
    assert found is not None
    assert found.heartbeat_interval == (timedelta(seconds=seconds) if seconds else None)


def test_an_instance_without_labels_disks_and_interval_can_be_read(
    machines: Machines, responder: Responder
) -> None:
    """Somebody created it by hand, and its local SSD has no disk resource."""
    disks = [
        {"source": f"https://www.googleapis.com/compute/v1/{IN_ZONE}/disks/home-1"},
        {"type": "SCRATCH"},
    ]
    responder.answer = json_answer(an_instance("one", disks=disks))
    found = machines.get(PLACE)
    assert found is not None
    assert (found.labels, found.heartbeat_interval) == ({}, None)
    assert found.disks == ("home-1",)


@pytest.mark.parametrize("command", FINGERPRINTED[1:], ids=lambda command: type(command).__name__)
def test_a_change_of_labels_sends_the_fingerprint_that_was_read(
    machines: Machines, responder: Responder, command: Command
) -> None:
    """All labels are sent with it, also those that others have set."""
    responder.answer = json_answer(
        {
            "name": "operation-1",
            "labelFingerprint": "abc=",
            "labels": {"theirs": "stays", "workspace": "lost"},
        }
    )
    machines.perform(command, str(uuid.uuid4()))
    sent = json.loads(responder.requests[-1].body)
    assert sent["labelFingerprint"] == "abc="
    assert (
        sent["labels"].items()
        >= {"theirs": "stays", "workspace": ID, "hub": MACHINE_SETTINGS.installation}.items()
    )
