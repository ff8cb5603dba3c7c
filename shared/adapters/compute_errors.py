"""Classifies Compute's errors: one table from an error's shape to a kind of fault, with a message.

An error is the answer to a call, or the result of a long operation:

* HTTP: ``error.errors[].reason`` in camel case, ``error.details[]`` with an ``ErrorInfo``,
  ``error.status``, and the HTTP status. The front end before Compute may answer with an HTML page,
  or with JSON of another shape. Then only the status counts.
* Operation: ``error.errors[].code`` in upper snake case with ``errorDetails[]`` (``errorInfo``,
  ``quotaInfo``), or only ``httpErrorStatusCode`` and ``httpErrorMessage``.

Sources: Compute Engine's error catalogue (reference/rest/v1/errors), its pages on resource
availability, concurrent operations, rate quotas, suspend and resume, bulk creation, snapshots;
``google.api.ErrorReason``; the retry rules of Google's Terraform provider and of the Kubernetes
cluster autoscaler; answers quoted in public issue reports.
"""

import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared import logs
from shared.domain.instance import Fault, FaultKind
from shared.domain.plain_text import shortened, visible

_MAX_MESSAGE_CHARACTERS = 10_000  # of a message that are read; the rest is ignored

_INSERT = frozenset({"insert"})
_ON_AN_EXISTING_RESOURCE = frozenset(
    {
        *("delete", "get", "getIamPolicy", "resize", "resume", "setIamPolicy"),
        *("setLabels", "setMetadata", "start", "stop", "suspend"),
    }
)
_SUSPEND = frozenset({"suspend"})
_STOP_OR_SUSPEND = frozenset({"stop", "suspend"})
# The calls that carry what was read before: a fingerprint, or a policy's etag.
_FINGERPRINTED = frozenset({"setIamPolicy", "setLabels", "setMetadata"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """One code and message of an error.

    ``code`` is spelt as Compute sends it, ``name`` is the same in upper snake case. Either may be
    empty.
    """

    code: str
    message: str

    @property
    def name(self) -> str:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[ -]", "_", self.code).upper()


@dataclass(frozen=True, slots=True)
class _Row:
    """The shape of an error, and the kind of fault that it means.

    An entry matches if it has one of ``codes``, its message contains ``words``, and it answers one
    of ``verbs``. A condition that is empty is not checked.
    """

    kind: FaultKind
    codes: frozenset[str]
    words: re.Pattern[str] | None
    verbs: frozenset[str]

    def matches(self, verb: str, entry: _Entry) -> bool:
        return (
            (not self.codes or entry.name in self.codes)
            and (self.words is None or self.words.search(entry.message) is not None)
            and (not self.verbs or verb in self.verbs)
        )


def _row(
    kind: FaultKind, codes: str = "", *, words: str = "", verbs: frozenset[str] = frozenset()
) -> _Row:
    return _Row(
        kind, frozenset(codes.split()), re.compile(words, re.IGNORECASE) if words else None, verbs
    )


# The first row that any entry of an error matches decides. So the order is the precedence, also
# between entries:
# 1. faults with their own remedy (another zone, a short wait);
# 2. final faults with a reason that a person can act on;
# 3. faults that name something in the way;
# 4. faults that pass by themselves;
# 5. final faults without a particular reason, and Compute's own faults.
# Compute uses some codes for more than one fault. A row with words precedes the rows of such codes.
_ROWS: Sequence[_Row] = (
    # No capacity. Another zone may have some.
    _row(
        FaultKind.STOCK_OUT,
        "ZONE_RESOURCE_POOL_EXHAUSTED ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
        " RESOURCE_POOL_EXHAUSTED STOCKOUT RESOURCE_AVAILABILITY",
    ),
    _row(FaultKind.STOCK_OUT, words=r"does not have enough resources available"),
    # Too many requests. The HTTP status is 403 or 429. If the reason is that of a real quota, only
    # the words tell the difference.
    _row(
        FaultKind.TRANSIENT,
        "RATE_LIMIT_EXCEEDED USER_RATE_LIMIT_EXCEEDED RESOURCE_OPERATION_RATE_EXCEEDED"
        " CONCURRENT_OPERATIONS_QUOTA_EXCEEDED CONCURRENT_LIMIT_EXCEEDED TOO_MANY_REQUESTS"
        " RESOURCE_EXHAUSTED",
    ),
    _row(
        FaultKind.TRANSIENT,
        words=r"quota exceeded for quota metric '.*' and limit '.* per (minute|second)",
    ),
    # A disk is snapshotted more than once in ten minutes, or a snapshot made into more than six
    # disks in an hour (sources: "Best practices for disk snapshots";
    # kubernetes-sigs/gcp-compute-persistent-disk-csi-driver, pull request 1847).
    _row(
        FaultKind.TRANSIENT,
        words=r"operation rate exceeded for resource|too frequent operations from the source",
    ),
    # An organisation's policy forbids it. The code is rarely a policy's own and mostly
    # CONDITION_NOT_MET; the words always say it.
    _row(
        FaultKind.POLICY,
        "CUSTOM_ORG_POLICY_VIOLATION LOCATION_ORG_POLICY_VIOLATED LOCATION_POLICY_VIOLATED"
        " ORG_RESTRICTION_VIOLATION RESOURCE_USAGE_RESTRICTION_VIOLATED SECURITY_POLICY_VIOLATED"
        " VM_EXTERNAL_IP_ACCESS_POLICY_CONSTRAINT",
    ),
    _row(
        FaultKind.POLICY,
        words=r"\b(custom)?constraints/|\borg(ani[sz]ation)? policy|disallowed by policy",
    ),
    # Domain restricted sharing: a policy of IAM may name people of some organisations only.
    _row(FaultKind.POLICY, words=r"\bpermitted (customer|organi[sz]ation)"),
    # A subnetwork has no free address, or something new is not known everywhere yet: a service
    # account, or the right to use it.
    _row(FaultKind.NOT_READY, "IP_SPACE_EXHAUSTED IP_SPACE_EXHAUSTED_WITH_DETAILS"),
    _row(FaultKind.NOT_READY, words=r"IP space of .* is exhausted"),
    _row(FaultKind.NOT_READY, "SERVICE_ACCOUNT_NOT_FOUND SERVICE_ACCOUNT_ACCESS_DENIED"),
    _row(FaultKind.NOT_READY, words=r"service ?accounts?\b.*(not found|does not exist)"),
    _row(
        FaultKind.QUOTA,
        "QUOTA_EXCEEDED RESOURCE_QUOTA_EXCEEDED LIMIT_EXCEEDED DAILY_LIMIT_EXCEEDED",
    ),
    # The resource's present state. For a suspend, Compute's code for it is UNSUPPORTED_OPERATION.
    _row(FaultKind.NOT_READY, words=r"\bbeing repaired\b"),
    _row(
        FaultKind.NOT_READY,
        words=r"\b(is stopped or terminated|already suspended)\b",
        verbs=_SUSPEND,
    ),
    _row(
        FaultKind.NOT_READY, "RESOURCE_NOT_READY OPERATION_IN_PROGRESS INVALID_FINGERPRINT ABORTED"
    ),
    # Labels, metadata or policy have changed since they were read. Any other unmet condition is an
    # organisation's policy.
    _row(FaultKind.NOT_READY, words=r"\bfingerprint\b"),
    _row(FaultKind.NOT_READY, "CONDITION_NOT_MET PRECONDITION_FAILED", verbs=_FINGERPRINTED),
    _row(FaultKind.POLICY, "CONDITION_NOT_MET PRECONDITION_FAILED"),
    # The machine can never do this. A stop that does not mention the machine's local SSD is refused
    # too.
    _row(
        FaultKind.UNSUPPORTED,
        words=r"\bGPUs?\b|accelerator|\bTPUs?\b|confidential|bare.?metal|\b208 ?GB"
        r"|customer.supplied|\bCSEK\b"
        r"|suspen\w*\W.*not (be )?support|not support.*suspen|cannot be suspended",
        verbs=_SUSPEND,
    ),
    _row(FaultKind.UNSUPPORTED, words=r"\blocal.?ssd", verbs=_STOP_OR_SUSPEND),
    # Something that has a name is in the way.
    _row(FaultKind.IN_USE, "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE RESOURCE_IN_USE"),
    _row(FaultKind.IN_USE, words=r"\balready (being )?used by\b"),
    _row(FaultKind.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS ALREADY_EXISTS DUPLICATE"),
    # The project cannot be seen. That does not say whether the resource exists.
    _row(
        FaultKind.PERMISSION,
        "PROJECT_NOT_FOUND PERMISSIONS_ERROR PERMISSION_DENIED IAM_PERMISSION_DENIED FORBIDDEN"
        " INSUFFICIENT_PERMISSIONS ACCESS_DENIED ACCESS_NOT_CONFIGURED SERVICE_DISABLED"
        " BILLING_DISABLED BILLING_NOT_ENABLED CONSUMER_INVALID CONSUMER_SUSPENDED"
        " USER_PROJECT_DENIED ACCOUNT_STATE_INVALID UNAUTHENTICATED UNAUTHORIZED AUTH_ERROR"
        " CREDENTIALS_MISSING ACCESS_TOKEN_EXPIRED ACCESS_TOKEN_SCOPE_INSUFFICIENT",
    ),
    _row(
        FaultKind.PERMISSION,
        words=r"resource '(//compute\.googleapis\.com/)?projects/[^/']+' was not found",
    ),
    # Compute does not have the zone. So the resource does not exist either.
    _row(FaultKind.NOT_FOUND, words=r"\bunknown zone\b", verbs=_ON_AN_EXISTING_RESOURCE),
    # What something is to be made of is gone. The code is that of an invalid field (quoted of a
    # snapshot in binary-com/gce-manager, issue 8).
    _row(FaultKind.NOT_FOUND, words=r"\breferenced (disk|snapshot) resource cannot be found"),
    _row(FaultKind.NOT_FOUND, "RESOURCE_NOT_FOUND EXTERNAL_RESOURCE_NOT_FOUND NOT_FOUND"),
    _row(FaultKind.UNSUPPORTED, "UNSUPPORTED_OPERATION"),
    _row(
        FaultKind.INVALID,
        "INVALID INVALID_FIELD_VALUE INVALID_ARGUMENT INVALID_USAGE INVALID_RESOURCE_USAGE"
        " BAD_REQUEST FIELD_SIZE_TOO_LARGE MISSING_REQUIRED_FIELD REQUIRED PARSE_ERROR"
        " RESOURCE_NOT_DELETABLE NETWORK_NOT_FOUND",
    ),
    _row(
        FaultKind.TRANSIENT,
        "INTERNAL_ERROR INTERNAL BACKEND_ERROR SERVICE_UNAVAILABLE"
        " SERVICE_UNAVAILABLE_FOR_LOCATION UNAVAILABLE DEADLINE_EXCEEDED TIMEOUT GATEWAY_TIMEOUT"
        " BAD_GATEWAY REQUEST_TIMEOUT CANCELLED OPERATION_CANCELED_BY_USER",
    ),
)
_CODES = frozenset().union(*(row.codes for row in _ROWS))
_KINDS_BY_STATUS = {
    400: FaultKind.INVALID,
    401: FaultKind.PERMISSION,
    403: FaultKind.PERMISSION,
    404: FaultKind.NOT_FOUND,
    408: FaultKind.TRANSIENT,
    413: FaultKind.INVALID,
    429: FaultKind.TRANSIENT,
    499: FaultKind.TRANSIENT,  # the front end ended the call early
}


def http_fault(verb: str, http_status: int, body: bytes) -> Fault:
    """Return the fault that the refusal of a call means.

    ``verb`` is the name of the REST method: ``insert``, ``setMetadata``, ``get``. A 404 that does
    not come from Compute itself does not mean that the resource is absent: it is ``TRANSIENT``.
    """
    error = _error_object(body)
    if error is None:
        kind = FaultKind.TRANSIENT if http_status == 404 else _kind_by_status(verb, http_status)
        _log_unknown(verb, http_status, ())
        return Fault(
            kind,
            f"HTTP_{http_status}",
            f"Compute Engine answered with an error page ({http_status}).",
        )
    return _classify(verb, http_status, list(_http_entries(error)), _text(error.get("message")))


def operation_fault(operation: Any) -> Fault | None:
    """Return the fault that a long operation ended with; None if it succeeded.

    ``operation`` is the Compute library's object, and its status is ``DONE``.
    """
    status = int(operation.http_error_status_code or 0)
    entries = list(_operation_entries(operation))
    reason = str(operation.http_error_message or "")
    if not entries and not reason and status < 400:
        return None
    verb = str(operation.operation_type or "").rpartition(".")[2]
    message = (
        "Compute Engine ended the operation with an error:"
        f" {reason or 'no reason given'} ({status})."
    )
    return _classify(verb, status or 400, entries or [_Entry("", message)], message)


def plain_message(text: str) -> str:
    """Return a message as plain text of at most 300 characters, without URLs, HTML and request ids.

    It is for people. The URL or path of a resource becomes its last two parts: ``disks/home-1``.
    """
    text = visible(html.unescape(text[:_MAX_MESSAGE_CHARACTERS]))
    text = re.sub(r"<(script|style|head)\b.*?(</\1\s*>|$)", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"<[!/?]?[a-zA-Z][^<>]*(>|$)", " ", text)
    text = _URL.sub(_resource_in_url, text)
    text = _PATH.sub(lambda found: _last_two_parts(found[0]), text)
    text = _REQUEST_ID.sub(" ", text)
    # Remove what is left of those: a scheme, the start of a tag, empty brackets.
    text = re.sub(r"\w*://|<(?=[!/?]?[a-zA-Z])|[(\[]\s*[)\]]", " ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" (?=[.,;:)])", "", text).strip()
    # A sentence that ended with a URL may now end with two full stops.
    return shortened(re.sub(r"([.!?])\.+(?=\s|$)", r"\1", text))


def _classify(verb: str, http_status: int, entries: Sequence[_Entry], message: str) -> Fault:
    matched = next(
        ((row, entry) for row in _ROWS for entry in entries if row.matches(verb, entry)), None
    )
    if matched:
        kind, entry = matched[0].kind, matched[1]
    else:
        kind = _kind_by_status(verb, http_status)
        entry = next(
            (entry for entry in entries if entry.message),
            entries[0] if entries else _Entry("", message),
        )
        _log_unknown(verb, http_status, entries)
    code = re.sub(r"[^\w.-]", "", entry.code)[:64] or f"HTTP_{http_status}"
    text = plain_message(entry.message or message)
    return Fault(
        kind,
        code,
        text or f"Compute Engine gave no reason ({http_status}).",
        _named_resource(kind, entry.message),
    )


def _kind_by_status(verb: str, http_status: int) -> FaultKind:
    """Return the kind of an error of which only the status is understood.

    An unknown 5xx is transient. Any other unknown status is invalid, so that it is not retried for
    ever.
    """
    if http_status == 409:  # outside of an insert: a conflict with an operation under way
        return FaultKind.ALREADY_EXISTS if verb in _INSERT else FaultKind.NOT_READY
    if http_status == 412:
        return FaultKind.NOT_READY if verb in _FINGERPRINTED else FaultKind.POLICY
    return _KINDS_BY_STATUS.get(http_status) or (
        FaultKind.TRANSIENT if http_status >= 500 else FaultKind.INVALID
    )


def _log_unknown(verb: str, http_status: int, entries: Sequence[_Entry]) -> None:
    """Log the shape of an error that no row matches, without its message, which may name people."""
    codes = [re.sub(r"[^\w.-]", "", entry.code)[:64] for entry in entries if entry.code][:10]
    if codes or not (http_status in {*_KINDS_BY_STATUS, 409, 412} or http_status >= 500):
        logs.warning("ComputeErrorUnknown", verb=verb, http_status=http_status, codes=codes)


def _error_object(body: bytes) -> dict[str, Any] | None:
    """Return the ``error`` object of Compute's JSON; None if the body is something else."""
    try:
        document = json.loads(body)
    except ValueError:  # UnicodeDecodeError is a subclass
        return None
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else None


def _http_entries(error: dict[str, Any]) -> Iterator[_Entry]:
    message = _text(error.get("message"))
    coded = [
        _Entry(_text(each.get("reason")), _text(each.get("message")) or message)
        for each in _objects(error.get("errors"))
    ] + [
        _Entry(_text(each.get("reason")), message)
        for each in _objects(error.get("details"))
        if _text(each.get("@type")).endswith("/google.rpc.ErrorInfo")
    ]
    yield from coded or [_Entry(_text(error.get("status")), message)]


def _operation_entries(operation: Any) -> Iterator[_Entry]:
    for error in operation.error.errors:
        yield _Entry(error.code, error.message)
        for detail in error.error_details:
            if detail.error_info.reason:
                yield _Entry(detail.error_info.reason, error.message)
            if detail.quota_info.metric_name or detail.quota_info.limit_name:
                yield _Entry("QUOTA_EXCEEDED", error.message)


def _named_resource(kind: FaultKind, message: str) -> str:
    """Return the resource that a message names; an empty text if it names none.

    That is the resource that uses another, the one that is in the way, or the missing one.
    """
    if kind is FaultKind.IN_USE:
        named = re.search(r"used by:? '([^']+)'", message)
    elif kind in {FaultKind.ALREADY_EXISTS, FaultKind.NOT_FOUND}:
        named = re.search(r"'([^']*/[^']+)'", message)
    else:
        named = None
    return plain_message(_last_two_parts(named[1])) if named else ""


_PATH = re.compile(r"\bprojects/[\w.:%-]*[\w%-](/[\w.:%@-]*[\w%-])*")
_URL = re.compile(
    r"(\b(see|visit|refer to|learn more( at)?|(more )?information at|by visiting|go to)\s*:?\s*)?"
    r"(\b[a-z][a-z0-9+.-]*:)?(//|\bwww\.|\b([a-z0-9-]+\.)+[a-z]{2,}/)"
    r"[^\s'\"<>)\]]*[^\s'\"<>)\].,;:]"
    r"(\s+for (more|further|additional) (information|details|help))?",
    re.IGNORECASE,
)
_REQUEST_ID = re.compile(
    r"\b(x-)?(cloud-|goog-)?(request|trace|correlation)[ _-]?(id|context)\b['\"]?"
    r"\s*(is|[:=#])?\s*['\"]?"
    r"(?=[\w./:;=-]*\d)[\w./:;=-]*[\w=-]['\"]?|\bCode:\s*'[^']*'",
    re.IGNORECASE,
)


def _resource_in_url(found: re.Match[str]) -> str:
    path = _PATH.search(found[0])
    return _last_two_parts(path[0]) if path else ""


def _last_two_parts(path: str) -> str:
    """Return ``disks/d`` of ``https://…/projects/p/zones/z/disks/d``."""
    return "/".join(path.split("/")[-2:])


def _text(value: object) -> str:
    return value[:_MAX_MESSAGE_CHARACTERS] if isinstance(value, str) else ""


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
