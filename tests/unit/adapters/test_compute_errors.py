"""The kinds of Compute's errors by their shape, and their messages for people."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import logs
from shared.adapters import compute_errors
from shared.adapters.compute_errors import http_fault, plain_message
from shared.domain.instance import Fault, FaultKind

K = FaultKind
IN_ZONE = "projects/a-project/zones/us-west1-a"
SNAPSHOT = "projects/a-project/global/snapshots/home-snapshot-1"
GONE_SNAPSHOT = (
    f"Invalid value for field 'resource.disks[1].initializeParams.sourceSnapshot': '{SNAPSHOT}'."
)


def answered(
    status: int,
    *reasons: str,
    message: str = "Compute says no.",
    infos: tuple[str, ...] = (),
    verb: str = "insert",
) -> Fault:
    """Return the fault of an HTTP error with these reasons and ``ErrorInfo`` entries."""
    error: dict[str, Any] = {"code": status, "message": message}
    error["errors"] = [
        {"message": message, "domain": "global", "reason": reason} for reason in reasons
    ]
    error["details"] = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": info} for info in infos
    ]
    return http_fault(verb, status, json.dumps({"error": error}).encode())


# HTTP status, reason: what it means at an insert
CODES = [
    (503, "ZONE_RESOURCE_POOL_EXHAUSTED", K.STOCK_OUT),
    (400, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", K.STOCK_OUT),
    (400, "stockout", K.STOCK_OUT),
    (400, "resource_availability", K.STOCK_OUT),
    (403, "QUOTA_EXCEEDED", K.QUOTA),
    (403, "quotaExceeded", K.QUOTA),
    (403, "rateLimitExceeded", K.TRANSIENT),
    (403, "userRateLimitExceeded", K.TRANSIENT),
    (429, "rateLimitExceeded", K.TRANSIENT),
    (403, "concurrentOperationsQuotaExceeded", K.TRANSIENT),
    (400, "RESOURCE_OPERATION_RATE_EXCEEDED", K.TRANSIENT),
    (400, "resourceNotReady", K.NOT_READY),
    (400, "RESOURCE_NOT_READY", K.NOT_READY),
    (409, "operationInProgress", K.NOT_READY),
    (400, "IP_SPACE_EXHAUSTED", K.NOT_READY),
    (400, "IP_SPACE_EXHAUSTED_WITH_DETAILS", K.NOT_READY),
    (400, "SERVICE_ACCOUNT_ACCESS_DENIED", K.NOT_READY),
    (412, "conditionNotMet", K.POLICY),
    (412, "CONDITION_NOT_MET", K.POLICY),
    (400, "CUSTOM_ORG_POLICY_VIOLATION", K.POLICY),
    (400, "resourceInUseByAnotherResource", K.IN_USE),
    (400, "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", K.IN_USE),
    (409, "alreadyExists", K.ALREADY_EXISTS),
    (409, "RESOURCE_ALREADY_EXISTS", K.ALREADY_EXISTS),
    (404, "notFound", K.NOT_FOUND),
    (404, "RESOURCE_NOT_FOUND", K.NOT_FOUND),
    (404, "PROJECT_NOT_FOUND", K.PERMISSION),
    (404, "NETWORK_NOT_FOUND", K.INVALID),
    (400, "UNSUPPORTED_OPERATION", K.UNSUPPORTED),
    (403, "PERMISSIONS_ERROR", K.PERMISSION),
    (403, "forbidden", K.PERMISSION),
    (403, "accessNotConfigured", K.PERMISSION),
    (400, "INVALID_FIELD_VALUE", K.INVALID),
    (413, "fieldSizeTooLarge", K.INVALID),
    (500, "INTERNAL_ERROR", K.TRANSIENT),
    (500, "SERVICE_UNAVAILABLE_FOR_LOCATION", K.TRANSIENT),
    (503, "backendError", K.TRANSIENT),
    (409, "OPERATION_CANCELED_BY_USER", K.TRANSIENT),
]


@pytest.mark.parametrize(("status", "reason", "kind"), CODES)
def test_a_code_means_the_same_in_an_entry_and_in_an_error_info(
    status: int, reason: str, kind: FaultKind
) -> None:
    """Google is moving from entries to ``ErrorInfo``, and an error may have either."""
    assert (answered(status, reason).kind, answered(status, reason).code) == (kind, reason)
    assert (answered(status, infos=(reason,)).kind, answered(status, infos=(reason,)).code) == (
        kind,
        reason,
    )


@pytest.mark.parametrize("name", sorted(compute_errors._CODES))  # noqa: SLF001 -- each row
def test_both_spellings_of_a_code_mean_the_same(name: str) -> None:
    """An operation has ``RESOURCE_NOT_READY`` where HTTP has ``resourceNotReady``."""
    first, *rest = name.split("_")
    camel = first.lower() + "".join(part.capitalize() for part in rest)
    assert answered(400, name).kind is answered(400, camel).kind


# verb, HTTP status, reason, message: what it means
WORDS = [
    ("setMetadata", 412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.", K.NOT_READY),
    ("setMetadata", 412, "conditionNotMet", "Precondition Failed", K.NOT_READY),
    ("setLabels", 412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed", K.NOT_READY),
    ("setMetadata", 412, "conditionNotMet", "Constraint constraints/compute.requireOsLogin violated.", K.POLICY),
    ("start", 412, "conditionNotMet", "Constraint constraints/compute.vmExternalIpAccess violated for project 1.", K.POLICY),
    ("resume", 412, "conditionNotMet", "Precondition Failed", K.POLICY),
    ("insert", 403, "forbidden", "Operation denied by org policy: [customConstraints/custom.e2only]", K.POLICY),
    ("insert", 400, "invalid", "Organization Policy constraint is violated.", K.POLICY),
    ("insert", 404, "notFound", "The resource 'a@p.iam' of type 'serviceAccount' was not found.", K.NOT_READY),
    ("insert", 404, "notFound", "The resource 'projects/p/serviceAccounts/a@p.iam' was not found", K.NOT_READY),
    ("insert", 400, "invalid", "Service account a@p.iam.gserviceaccount.com does not exist.", K.NOT_READY),
    ("insert", 403, "forbidden", "Required 'iam.serviceAccounts.actAs' permission for 'a@p.iam'", K.PERMISSION),
    ("insert", 400, "badRequest", "IP space of 'projects/p/regions/r/subnetworks/s' is exhausted.", K.NOT_READY),
    ("insert", 503, "", "The zone 'projects/p/zones/z' does not have enough resources available.", K.STOCK_OUT),
    (
        *("get", 403, "quotaExceeded"),
        "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of service 'c'.",
        K.TRANSIENT,
    ),
    ("suspend", 400, "UNSUPPORTED_OPERATION", "You cannot suspend an instance that is being repaired.", K.NOT_READY),
    ("delete", 400, "invalid", "The instance is being repaired.", K.NOT_READY),
    ("suspend", 400, "UNSUPPORTED_OPERATION", "You cannot suspend an already suspended instance.", K.NOT_READY),
    (
        *("suspend", 400, "UNSUPPORTED_OPERATION"),
        "You cannot suspend an instance that is stopped or terminated.",
        K.NOT_READY,
    ),
    ("suspend", 400, "invalid", "Confidential VM is not supported.", K.UNSUPPORTED),
    ("suspend", 400, "badRequest", "Suspending instances with GPUs attached is not supported.", K.UNSUPPORTED),
    ("suspend", 400, "invalid", "Instances with more than 208 GB of memory cannot be suspended.", K.UNSUPPORTED),
    ("suspend", 400, "badRequest", "VM has a Local SSD attached but an undefined value for `discard-local-ssd`.", K.UNSUPPORTED),
    ("stop", 400, "badRequest", "VM has a Local SSD attached but an undefined value for `discard-local-ssd`.", K.UNSUPPORTED),
    ("insert", 400, "invalid", "The machine type takes no GPUs.", K.INVALID),
    ("delete", 400, "invalid", "The disk resource 'd' is already being used by 'i'", K.IN_USE),
    ("get", 404, "notFound", f"The resource '{IN_ZONE}/instances/i' was not found", K.NOT_FOUND),
    ("get", 404, "notFound", "The resource 'projects/a-project' was not found", K.PERMISSION),
    ("get", 400, "invalid", "Invalid value for field 'zone': 'mars-z'. Unknown zone.", K.NOT_FOUND),
    ("insert", 400, "invalid", "Invalid value for field 'zone': 'mars-z'. Unknown zone.", K.INVALID),
    (
        *("insert", 403, "forbidden"),
        f"Operation rate exceeded for resource '{IN_ZONE}/disks/d'. Too frequent operations from the source resource.",
        K.TRANSIENT,
    ),
    ("insert", 400, "invalid", f"{GONE_SNAPSHOT} The referenced snapshot resource cannot be found.", K.NOT_FOUND),
    ("insert", 400, "invalid", f"{GONE_SNAPSHOT} The referenced image resource cannot be found.", K.INVALID),
    (
        *("insert", 412, "conditionNotMet"),
        f"Location us violates constraint constraints/gcp.resourceLocations on the resource {SNAPSHOT}.",
        K.POLICY,
    ),
    ("insert", 400, "resourceNotReady", f"The resource '{SNAPSHOT}' is not ready", K.NOT_READY),
    ("insert", 403, "quotaExceeded", "Quota 'SNAPSHOTS' exceeded.  Limit: 1000.0 globally.", K.QUOTA),
    ("insert", 403, "forbidden", f"Required 'compute.snapshots.useReadOnly' permission for '{SNAPSHOT}'", K.PERMISSION),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "status", "reason", "message", "kind"), WORDS)
def test_words_and_the_call_decide_about_an_ambiguous_code(
    verb: str, status: int, reason: str, message: str, kind: FaultKind
) -> None:
    """Compute uses the same code for different faults of different calls."""
    assert answered(status, reason, message=message, verb=verb).kind is kind


# HTTP status, reasons, reasons of `ErrorInfo`s: kind of them together
TOGETHER = [
    (400, ("VM_MIN_COUNT_NOT_REACHED", "ZONE_RESOURCE_POOL_EXHAUSTED"), (), K.STOCK_OUT),
    (403, ("forbidden",), ("RATE_LIMIT_EXCEEDED",), K.TRANSIENT),
    (403, ("rateLimitExceeded",), ("CONCURRENT_OPERATIONS_QUOTA_EXCEEDED",), K.TRANSIENT),
    (403, ("quotaExceeded",), ("RATE_LIMIT_EXCEEDED",), K.TRANSIENT),
    (400, ("invalid",), ("CUSTOM_ORG_POLICY_VIOLATION",), K.POLICY),
    (500, ("internalError", "quotaExceeded"), (), K.QUOTA),
    (503, ("backendError", "invalid"), (), K.INVALID),
    (400, ("notFound", "resourceInUseByAnotherResource"), (), K.IN_USE),
    (400, ("somethingNew", "resourceNotReady"), (), K.NOT_READY),
    (403, ("forbidden",), ("SOMETHING_NEW",), K.PERMISSION),
]


@pytest.mark.parametrize(("status", "reasons", "infos", "kind"), TOGETHER)
def test_of_several_entries_the_most_specific_decides(
    status: int, reasons: tuple[str, ...], infos: tuple[str, ...], kind: FaultKind
) -> None:
    """Their order makes no difference."""
    assert answered(status, *reasons, infos=infos).kind is kind
    assert answered(status, *reversed(reasons), infos=infos).kind is kind


# verb, HTTP status: kind if nothing else is understood
STATUSES = [
    ("insert", 400, K.INVALID),
    ("insert", 401, K.PERMISSION),
    ("insert", 403, K.PERMISSION),
    ("insert", 404, K.NOT_FOUND),
    ("insert", 408, K.TRANSIENT),
    ("insert", 409, K.ALREADY_EXISTS),
    ("delete", 409, K.NOT_READY),
    ("insert", 412, K.POLICY),
    ("setLabels", 412, K.NOT_READY),
    ("insert", 413, K.INVALID),
    ("insert", 418, K.INVALID),
    ("insert", 429, K.TRANSIENT),
    ("insert", 499, K.TRANSIENT),
    ("insert", 500, K.TRANSIENT),
    ("insert", 599, K.TRANSIENT),
]


@pytest.mark.parametrize(("verb", "status", "kind"), STATUSES)
def test_the_status_decides_if_nothing_else_is_understood(
    verb: str, status: int, kind: FaultKind
) -> None:
    """An unknown error is not retried for ever, unless it is Compute's own fault (5xx)."""
    for fault in (answered(status, verb=verb), answered(status, "somethingNew", verb=verb)):
        assert fault.kind is kind
        assert fault.code
        assert fault.message


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Not Found</html>", b'{"message": "no route"}', b"[]", b"\xff", b'{"error": "x"}'],
)
def test_of_an_answer_that_is_not_computes_only_the_status_counts(body: bytes) -> None:
    """Given a page of the front end, its text is not shown, and its 404 does not mean absence."""
    assert http_fault("get", 404, body).kind is K.TRANSIENT
    assert http_fault("insert", 400, body).kind is K.INVALID
    assert http_fault("get", 502, body) == Fault(
        K.TRANSIENT, "HTTP_502", "Compute Engine answered with an error page (502)."
    )


@pytest.mark.parametrize(
    "error",
    [
        {"errors": "no list", "details": {}},
        {
            "errors": [None, "text", {"reason": 7, "message": ["list"]}],
            "details": [{"@type": 1}],
            "message": None,
        },
        {"errors": None, "details": None, "status": 3},
    ],
)
def test_an_error_of_an_unexpected_shape_is_classified_by_its_status(error: dict[str, Any]) -> None:
    """The entries may be any JSON."""
    fault = http_fault("insert", 503, json.dumps({"error": error}).encode())
    assert (fault.kind, fault.code, fault.message) == (
        K.TRANSIENT,
        "HTTP_503",
        "Compute Engine gave no reason (503).",
    )


# reason, message: which resource it names
RESOURCES = [
    ("alreadyExists", f"The resource '{IN_ZONE}/disks/home-1' already exists", "disks/home-1"),
    ("alreadyExists", "It already exists.", ""),
    (
        "notFound",
        f"The resource 'https://www.googleapis.com/compute/v1/{IN_ZONE}/disks/d' was not found",
        "disks/d",
    ),
    (
        "resourceInUseByAnotherResource",
        (
            f"The disk resource '{IN_ZONE}/disks/home-1'"
            f" is already being used by '{IN_ZONE}/instances/other'"
        ),
        "instances/other",
    ),
    ("resourceNotReady", f"The resource '{IN_ZONE}/disks/home-1' is not ready", ""),
    ("notFound", f"The resource '{SNAPSHOT}' was not found", "snapshots/home-snapshot-1"),
    (
        "invalid",
        f"{GONE_SNAPSHOT} The referenced snapshot resource cannot be found.",
        "snapshots/home-snapshot-1",
    ),
]


@pytest.mark.parametrize(("reason", "message", "resource"), RESOURCES)
def test_a_resource_in_the_way_or_missing_is_named(
    reason: str, message: str, resource: str
) -> None:
    """The fault has its kind and name."""
    assert answered(400, reason, message=message).resource == resource


def test_the_shape_of_an_unknown_error_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is call, status and codes.

    The message is not logged, as it may name people, nor are known errors.
    """
    lines: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(logs, "warning", lambda event, **fields: lines.append((event, fields)))
    answered(403, "quotaExceeded")
    answered(502)
    http_fault("get", 502, b"<html></html>")
    answered(400, "somethingNew", "resourceNotReady")
    assert lines == []
    answered(
        400,
        "somethingNew",
        message="alice@example.com did it",
        infos=("A NEW\x1b[31m ONE", "x" * 500),
    )
    answered(418)
    assert lines == [
        (
            "ComputeErrorUnknown",
            {
                "verb": "insert",
                "http_status": 400,
                "codes": ["somethingNew", "ANEW31mONE", "x" * 64],
            },
        ),
        ("ComputeErrorUnknown", {"verb": "insert", "http_status": 418, "codes": []}),
    ]


SAID = [
    ("The resource 'disk' is not ready", "The resource 'disk' is not ready"),
    (
        f"The resource '{IN_ZONE}/disks/home-1' is not ready.",
        "The resource 'disks/home-1' is not ready.",
    ),
    (f"See {IN_ZONE}/instances/i.", "See instances/i."),
    (
        (
            "Secure Boot is not enabled."
            " See https://cloud.google.com/resource-manager/docs for more information."
        ),
        "Secure Boot is not enabled.",
    ),
    (f"At https://compute.googleapis.com/compute/v1/{IN_ZONE}/disks/d, now", "At disks/d, now"),
    ("No (https://example.com/a?b=c#d) here", "No here"),
    ("Visit console.cloud.google.com/iam to go on", "to go on"),
    ("<html><head><title>502</title></head><body><b>Bad</b> Gateway</body></html>", "Bad Gateway"),
    ("an <a href='https://x.example/'>answer</a> &lt;script&gt;x&lt;/script&gt;", "an answer"),
    ("an unclosed <a href=", "an unclosed"),
    ("3 < 4 and 300 > 208", "3 < 4 and 300 > 208"),
    ("Try again. (Code: '5A2B3C4D5E6F7.89ABCDE.0123456')", "Try again."),
    ("Failed, request id: 8f3a-11b2.", "Failed,."),
    ("Failed [x-goog-request-id=77ab]", "Failed"),
    ("one\r\n\ttwo\x00\x1b[31m", "one two"),
    ("\u202eevil\u2066\u200b \ufefftext\u2028end", "evil text end"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "words"), SAID)
def test_a_message_becomes_plain_text_for_people(text: str, words: str) -> None:
    """Names of resources stay, without their paths. URLs, HTML and request ids are removed."""
    assert plain_message(text) == words


@pytest.mark.parametrize(
    "text", ["word " * 200, "x" * 1000, "<" * 1000, "projects/" * 200, "é" * 400]
)
def test_a_long_message_is_cut_at_a_word(text: str) -> None:
    """The limit is 300 characters."""
    words = plain_message(text)
    assert len(words) <= 300
    assert words == words.strip()


_PIECES = st.sampled_from(
    ["https://", "//", "www.a.b/", "projects/p/", "<b>", "<", ">", "&lt;", "request id: 1", "\u202e", "\x00", " ", "\n", "'", "."]
) | st.text(max_size=8)  # fmt: skip


@given(st.lists(_PIECES, max_size=40).map("".join))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_message_becomes_plain_text(text: str) -> None:
    """Given any mix of markup, addresses and invisible characters, only plain text remains."""
    words = plain_message(text)
    assert len(words) <= 300
    assert "://" not in words
    assert not re.search(r"<[!/?]?[a-zA-Z]", words)
    assert not [each for each in words if unicodedata.category(each)[0] == "C"]
