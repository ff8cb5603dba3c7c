"""What Compute's errors mean: one table from the shape of an error to a kind of fault, and words fit for people.

An error comes as the answer to a call, or as the end of a long operation:

* HTTP: ``error.errors[].reason`` in camel case, ``error.details[]`` with an ``ErrorInfo``,
  ``error.status``, the HTTP status. An answer of the front end before Compute may be an HTML page,
  or JSON of another shape: then only its status counts.
* Operation: ``error.errors[].code`` in upper snake case with ``errorDetails[]`` (``errorInfo``,
  ``quotaInfo``), or nothing but ``httpErrorStatusCode`` and ``httpErrorMessage``.

Sources: Compute Engine's error catalogue (reference/rest/v1/errors), its pages on resource
availability, concurrent operations, rate quotas, suspend and resume, bulk creation;
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

_MOST_READ = 10_000  # characters of a message; the rest says nothing more

_INSERT = frozenset({"insert"})
_OF_WHAT_IS_THERE = frozenset(
    {"delete", "get", "resume", "setLabels", "setMetadata", "start", "stop", "suspend"}
)
_SUSPEND = frozenset({"suspend"})
_OFF = frozenset({"stop", "suspend"})
_FINGERPRINTED = frozenset({"setLabels", "setMetadata"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """One thing that an error says. ``code`` is Compute's; ``name`` is the same in upper snake case; either may be empty."""

    code: str
    message: str

    @property
    def name(self) -> str:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[ -]", "_", self.code).upper()


@dataclass(frozen=True, slots=True)
class _Row:
    """A shape: one of ``codes``, said in such words, in answer to one of ``verbs``. What is empty is not asked for."""

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


# The first row that any entry of an error matches decides, so the order is the precedence, also
# between entries. It is: what has a way out of its own (another zone, a moment's patience); what is
# final and has a reason that a person can act on; what names something in the way; what passes by
# itself; and last, what is final for no particular reason and what is Compute's own trouble. A row
# by words comes before the rows of the codes that Compute uses for more than one thing.
_ROWS: Sequence[_Row] = (
    # No capacity: another zone may have some.
    _row(
        FaultKind.STOCK_OUT,
        "ZONE_RESOURCE_POOL_EXHAUSTED ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS RESOURCE_POOL_EXHAUSTED STOCKOUT"
        " RESOURCE_AVAILABILITY",
    ),
    _row(FaultKind.STOCK_OUT, words=r"does not have enough resources available"),
    # Asked too often. HTTP says so by 403 as well as by 429, and in words where its reason is that
    # of a real quota.
    _row(
        FaultKind.TRANSIENT,
        "RATE_LIMIT_EXCEEDED USER_RATE_LIMIT_EXCEEDED RESOURCE_OPERATION_RATE_EXCEEDED CONCURRENT_OPERATIONS_QUOTA_EXCEEDED"
        " CONCURRENT_LIMIT_EXCEEDED TOO_MANY_REQUESTS RESOURCE_EXHAUSTED",
    ),
    _row(
        FaultKind.TRANSIENT,
        words=r"quota exceeded for quota metric '.*' and limit '.* per (minute|second)",
    ),
    # What an organisation forbids. It says so by a code of its own rarely, by CONDITION_NOT_MET
    # mostly, always in words.
    _row(
        FaultKind.POLICY,
        "CUSTOM_ORG_POLICY_VIOLATION LOCATION_ORG_POLICY_VIOLATED LOCATION_POLICY_VIOLATED ORG_RESTRICTION_VIOLATION"
        " RESOURCE_USAGE_RESTRICTION_VIOLATED SECURITY_POLICY_VIOLATED VM_EXTERNAL_IP_ACCESS_POLICY_CONSTRAINT",
    ),
    _row(
        FaultKind.POLICY,
        words=r"\b(custom)?constraints/|\borg(ani[sz]ation)? policy|disallowed by policy",
    ),
    # A subnetwork without a free address, and what is not known everywhere yet: a service account,
    # or the right to use it.
    _row(FaultKind.NOT_READY, "IP_SPACE_EXHAUSTED IP_SPACE_EXHAUSTED_WITH_DETAILS"),
    _row(FaultKind.NOT_READY, words=r"IP space of .* is exhausted"),
    _row(FaultKind.NOT_READY, "SERVICE_ACCOUNT_NOT_FOUND SERVICE_ACCOUNT_ACCESS_DENIED"),
    _row(FaultKind.NOT_READY, words=r"service ?accounts?\b.*(not found|does not exist)"),
    _row(
        FaultKind.QUOTA,
        "QUOTA_EXCEEDED RESOURCE_QUOTA_EXCEEDED LIMIT_EXCEEDED DAILY_LIMIT_EXCEEDED",
    ),
    # Its state, now. Compute words that of a suspend as UNSUPPORTED_OPERATION.
    _row(FaultKind.NOT_READY, words=r"\bbeing repaired\b"),
    _row(
        FaultKind.NOT_READY,
        words=r"\b(is stopped or terminated|already suspended)\b",
        verbs=_SUSPEND,
    ),
    _row(
        FaultKind.NOT_READY, "RESOURCE_NOT_READY OPERATION_IN_PROGRESS INVALID_FINGERPRINT ABORTED"
    ),
    # Labels or metadata changed since they were read. Any other condition that is not met is
    # somebody's rule.
    _row(FaultKind.NOT_READY, words=r"\bfingerprint\b"),
    _row(FaultKind.NOT_READY, "CONDITION_NOT_MET PRECONDITION_FAILED", verbs=_FINGERPRINTED),
    _row(FaultKind.POLICY, "CONDITION_NOT_MET PRECONDITION_FAILED"),
    # What this machine can never do. A stop without a word about its local SSD is refused too.
    _row(
        FaultKind.UNSUPPORTED,
        words=r"\bGPUs?\b|accelerator|\bTPUs?\b|confidential|bare.?metal|\b208 ?GB|customer.supplied|\bCSEK\b"
        r"|suspen\w*\W.*not (be )?support|not support.*suspen|cannot be suspended",
        verbs=_SUSPEND,
    ),
    _row(FaultKind.UNSUPPORTED, words=r"\blocal.?ssd", verbs=_OFF),
    # Something is in the way, and has a name.
    _row(FaultKind.IN_USE, "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE RESOURCE_IN_USE"),
    _row(FaultKind.IN_USE, words=r"\balready (being )?used by\b"),
    _row(FaultKind.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS ALREADY_EXISTS DUPLICATE"),
    # A project that cannot be seen says nothing of what is in it.
    _row(
        FaultKind.PERMISSION,
        "PROJECT_NOT_FOUND PERMISSIONS_ERROR PERMISSION_DENIED IAM_PERMISSION_DENIED FORBIDDEN INSUFFICIENT_PERMISSIONS"
        " ACCESS_DENIED ACCESS_NOT_CONFIGURED SERVICE_DISABLED BILLING_DISABLED BILLING_NOT_ENABLED CONSUMER_INVALID"
        " CONSUMER_SUSPENDED USER_PROJECT_DENIED ACCOUNT_STATE_INVALID UNAUTHENTICATED UNAUTHORIZED AUTH_ERROR"
        " CREDENTIALS_MISSING ACCESS_TOKEN_EXPIRED ACCESS_TOKEN_SCOPE_INSUFFICIENT",
    ),
    _row(
        FaultKind.PERMISSION,
        words=r"resource '(//compute\.googleapis\.com/)?projects/[^/']+' was not found",
    ),
    # A zone that Compute does not have has nothing in it either.
    _row(FaultKind.NOT_FOUND, words=r"\bunknown zone\b", verbs=_OF_WHAT_IS_THERE),
    _row(FaultKind.NOT_FOUND, "RESOURCE_NOT_FOUND EXTERNAL_RESOURCE_NOT_FOUND NOT_FOUND"),
    _row(FaultKind.UNSUPPORTED, "UNSUPPORTED_OPERATION"),
    _row(
        FaultKind.INVALID,
        "INVALID INVALID_FIELD_VALUE INVALID_ARGUMENT INVALID_USAGE INVALID_RESOURCE_USAGE BAD_REQUEST FIELD_SIZE_TOO_LARGE"
        " MISSING_REQUIRED_FIELD REQUIRED PARSE_ERROR RESOURCE_NOT_DELETABLE NETWORK_NOT_FOUND",
    ),
    _row(
        FaultKind.TRANSIENT,
        "INTERNAL_ERROR INTERNAL BACKEND_ERROR SERVICE_UNAVAILABLE SERVICE_UNAVAILABLE_FOR_LOCATION UNAVAILABLE"
        " DEADLINE_EXCEEDED TIMEOUT GATEWAY_TIMEOUT BAD_GATEWAY REQUEST_TIMEOUT CANCELLED OPERATION_CANCELED_BY_USER",
    ),
)
_CODES = frozenset().union(*(row.codes for row in _ROWS))
_BY_STATUS = {
    400: FaultKind.INVALID,
    401: FaultKind.PERMISSION,
    403: FaultKind.PERMISSION,
    404: FaultKind.NOT_FOUND,
    408: FaultKind.TRANSIENT,
    413: FaultKind.INVALID,
    429: FaultKind.TRANSIENT,
    499: FaultKind.TRANSIENT,  # the front end gave the call up
}


def http_fault(verb: str, http_status: int, body: bytes) -> Fault:
    """Say what the refusal of a call means. ``verb`` is the REST method's name (``insert``, ``setMetadata``, ``get``).

    A 404 that is not Compute's own is no absence: it is TRANSIENT.
    """
    error = _error_of(body)
    if error is None:
        kind = FaultKind.TRANSIENT if http_status == 404 else _by_status(verb, http_status)
        _log_unknown(verb, http_status, ())
        return Fault(
            kind,
            f"HTTP_{http_status}",
            f"Compute Engine answered with an error page ({http_status}).",
        )
    return _fault(verb, http_status, list(_http_entries(error)), _text(error.get("message")))


def operation_fault(operation: Any) -> Fault | None:
    """Say what the end of a long operation means; None if it ended well. ``operation`` is the Compute library's, DONE."""
    status = int(operation.http_error_status_code or 0)
    entries = list(_operation_entries(operation))
    said = str(operation.http_error_message or "")
    if not entries and not said and status < 400:
        return None
    verb = str(operation.operation_type or "").rpartition(".")[2]
    whole = (
        f"Compute Engine ended the operation with an error: {said or 'no reason given'} ({status})."
    )
    return _fault(verb, status or 400, entries or [_Entry("", whole)], whole)


def plain(text: str) -> str:
    """Return a message fit for people: plain text of at most 300 characters, without URLs, HTML and request ids.

    A resource's URL or path becomes the last part of it, ``disks/home-1``.
    """
    text = visible(html.unescape(text[:_MOST_READ]))
    text = re.sub(r"<(script|style|head)\b.*?(</\1\s*>|$)", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"<[!/?]?[a-zA-Z][^<>]*(>|$)", " ", text)
    text = _URL.sub(_shortened_url, text)
    text = _PATH.sub(lambda found: _short(found[0]), text)
    text = _REQUEST_ID.sub(" ", text)
    text = re.sub(r"\w*://|<(?=[!/?]?[a-zA-Z])|[(\[]\s*[)\]]", " ", text)  # what is left of them
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" (?=[.,;:)])", "", text).strip()
    return shortened(
        re.sub(r"([.!?])\.+(?=\s|$)", r"\1", text)
    )  # of a sentence that ended with a URL


def _fault(verb: str, http_status: int, entries: Sequence[_Entry], message: str) -> Fault:
    matched = next(
        ((row, entry) for row in _ROWS for entry in entries if row.matches(verb, entry)), None
    )
    if matched:
        kind, entry = matched[0].kind, matched[1]
    else:
        kind = _by_status(verb, http_status)
        entry = next(
            (entry for entry in entries if entry.message),
            entries[0] if entries else _Entry("", message),
        )
        _log_unknown(verb, http_status, entries)
    code = re.sub(r"[^\w.-]", "", entry.code)[:64] or f"HTTP_{http_status}"
    said = plain(entry.message or message) or f"Compute Engine gave no reason ({http_status})."
    return Fault(kind, code, said, _resource(kind, entry.message))


def _by_status(verb: str, http_status: int) -> FaultKind:
    """Say what an error means of which only the status is understood.

    Unknown 5xx are transient, unknown others invalid: what nobody understands must not be tried
    again for ever.
    """
    if http_status == 409:
        return (
            FaultKind.ALREADY_EXISTS if verb in _INSERT else FaultKind.NOT_READY
        )  # in conflict with what is under way
    if http_status == 412:
        return FaultKind.NOT_READY if verb in _FINGERPRINTED else FaultKind.POLICY
    return _BY_STATUS.get(http_status) or (
        FaultKind.TRANSIENT if http_status >= 500 else FaultKind.INVALID
    )


def _log_unknown(verb: str, http_status: int, entries: Sequence[_Entry]) -> None:
    """Log the shape of what no row knows. A message may name people, so there is none in it."""
    codes = [re.sub(r"[^\w.-]", "", entry.code)[:64] for entry in entries if entry.code][:10]
    if codes or not (http_status in {*_BY_STATUS, 409, 412} or http_status >= 500):
        logs.warning("ComputeErrorUnknown", verb=verb, http_status=http_status, codes=codes)


def _error_of(body: bytes) -> dict[str, Any] | None:
    """Return the ``error`` of Compute's JSON; None if this is something else."""
    try:
        document = json.loads(body)
    except ValueError:  # UnicodeDecodeError is one
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


def _resource(kind: FaultKind, message: str) -> str:
    """Return what a message names: the holder of what is in use, or what is in the way or missing."""
    if kind is FaultKind.IN_USE:
        named = re.search(r"used by:? '([^']+)'", message)
    elif kind in {FaultKind.ALREADY_EXISTS, FaultKind.NOT_FOUND}:
        named = re.search(r"'([^']*/[^']+)'", message)
    else:
        named = None
    return plain(_short(named[1])) if named else ""


_PATH = re.compile(r"\bprojects/[\w.:%-]*[\w%-](/[\w.:%@-]*[\w%-])*")
_URL = re.compile(
    r"(\b(see|visit|refer to|learn more( at)?|(more )?information at|by visiting|go to)\s*:?\s*)?"
    r"(\b[a-z][a-z0-9+.-]*:)?(//|\bwww\.|\b([a-z0-9-]+\.)+[a-z]{2,}/)[^\s'\"<>)\]]*[^\s'\"<>)\].,;:]"
    r"(\s+for (more|further|additional) (information|details|help))?",
    re.IGNORECASE,
)
_REQUEST_ID = re.compile(
    r"\b(x-)?(cloud-|goog-)?(request|trace|correlation)[ _-]?(id|context)\b['\"]?\s*(is|[:=#])?\s*['\"]?"
    r"(?=[\w./:;=-]*\d)[\w./:;=-]*[\w=-]['\"]?|\bCode:\s*'[^']*'",
    re.IGNORECASE,
)


def _shortened_url(found: re.Match[str]) -> str:
    path = _PATH.search(found[0])
    return _short(path[0]) if path else ""


def _short(path: str) -> str:
    """Return ``disks/d`` of ``https://…/projects/p/zones/z/disks/d``."""
    return "/".join(path.split("/")[-2:])


def _text(value: object) -> str:
    return value[:_MOST_READ] if isinstance(value, str) else ""


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
