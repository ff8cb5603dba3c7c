"""Reads requests: checks each field, and reports all wrong fields at once."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from flask import Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from shared.domain.access import MachineIdentity
from shared.domain.credentials import holds_credentials, holds_credentials_without_scheme
from shared.domain.errors import FieldProblem, InvalidRequestError
from shared.domain.idleness import HeartbeatReason
from shared.domain.lifecycle import NewConnection, NewMachine, NewWorkspace
from shared.domain.owner_limits import Key
from shared.domain.policy import Policy
from shared.domain.reports import Report, ReportEvent
from shared.domain.workspace import Metadata, Status
from shared.ports import WorkspaceFilter
from shared.usecases.manage_workspaces import ListQuery, ListScope

LONGEST_TEXT = 1024  # characters
MOST_LISTED = 100
MOST_PARAMETERS = 20
MOST_PROBLEMS = 20  # in one answer
_NAME = re.compile(r"[A-Za-z0-9._-]{1,48}")
# Source: the OCI specifications' grammars of tags and of digests.
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64}")
# At most 255 ASCII characters (source: OpenID Connect Core, section 2).
_OWNER_ID = re.compile(r"[!-~]{1,255}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# The message does not repeat the value, because it is answered, logged and shown.
_NO_CREDENTIALS = "must not hold credentials: no user name or password before '@', and no token"
# A key is its type's name, its parts and their lengths (source: RFC 4253, section 6.6; RFC 5656;
# RFC 8709), so what its base64 begins with is fixed.
_HOST_KEY = re.compile(
    r"(ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}"
    r"|ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBB[A-Za-z0-9+/]{86}="
    r"|ssh-rsa AAAAB3NzaC1yc2EAAAAD(?:[A-Za-z0-9+/]{4}){80,240}"
    r"(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)(?: [ -~]*)?"
)
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

Check = Callable[[Any], Any]


class _InvalidValueError(ValueError):
    """A field's value is not valid; the message says what it must be."""


def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request's body; an empty body is an empty object.

    Raises:
        BadRequest, UnsupportedMediaType, RequestEntityTooLarge: the body is not one JSON object of
            at most 64 KiB.
    """
    body = request.get_data()
    if not body:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as application/json.")
    try:
        text = body.decode()  # UTF-8 only: the parser itself would also accept UTF-16 and UTF-32
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except UnicodeDecodeError:
        raise BadRequest("The body is not JSON in UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body is not a JSON object.")
    return value


def read_new_workspace(request: Request, policy: Policy) -> NewWorkspace:
    """Return the new workspace of a ``POST /workspaces``. What the body leaves out is None.

    Raises:
        InvalidRequestError: some fields are wrong. It has all of them.
    """
    fields = _new_workspace_fields(request, policy)
    return NewWorkspace(
        name=fields["name"],
        machine_type=fields.get("machine_type"),
        image_tag=fields.get("image_tag"),
        zone=fields.get("zone"),
        metadata=fields.get("metadata"),
        from_snapshot=fields.get("from"),
    )


def _new_workspace_fields(request: Request, policy: Policy) -> dict[str, Any]:
    fields = _checked(
        read_object(request),
        {
            "name": _name,
            "machine_type": _one_of(policy.machine_types),
            "image_tag": _image_tag(policy),
            "zone": _one_of(policy.zones),
            "metadata": _metadata,
            "from": _from,
            **_DRY_RUN,
        },
        required="name",
    )
    fields.pop("dry_run", None)  # see read_dry_run; a key's dry run and request are the same
    return fields


def read_new_machine(request: Request, policy: Policy) -> NewMachine:
    """Return the changes that a ``POST /workspaces/:id/start`` asks for."""
    fields = _checked(
        read_object(request),
        {
            "image_tag": _image_tag(policy),
            "machine_type": _one_of(policy.machine_types),
            "name": _name,
            "empty_home": _boolean,
            "rebuild": _boolean,
            "may_move": _boolean,
            "zone": _one_of(policy.zones),
            "home_disk_gb": _whole_number,
            **_DRY_RUN,
        },
    )
    fields.pop("dry_run", None)  # see read_dry_run
    return NewMachine(**fields)


def read_new_snapshot(request: Request) -> str | None:
    """Return the name that a ``POST /workspaces/:id/snapshots`` gives; None if it gives none."""
    name: str | None = _checked(read_object(request), {"name": _name}).get("name")
    return name


def read_restore(request: Request) -> str:
    """Return the id of the snapshot that a ``POST /workspaces/:id/restore`` asks for."""
    fields = _checked(
        read_object(request), {"snapshot_id": _snapshot_id, **_DRY_RUN}, required="snapshot_id"
    )
    return str(fields["snapshot_id"])  # see read_dry_run for the other field


def read_new_connection(request: Request) -> NewConnection:
    """Return what a ``POST /workspaces/:id/connect`` says; without a body, a person asks."""
    fields = _checked(read_object(request), {"device_id": _public_text, "start": _boolean})
    return NewConnection(**fields)


def read_kept_awake(request: Request) -> datetime | None:
    """Return until when a ``POST /workspaces/:id/keep-awake`` asks for; None takes it back.

    ``until`` must be there, since a body that lacks it by mistake would take it back.
    """
    given = read_object(request)
    fields = _checked(given, {"until": _moment})
    if "until" not in given:
        message = "is required: a time, or null to take it back"
        raise InvalidRequestError([FieldProblem("until", message)])
    until: datetime | None = fields.get("until")
    return until


def read_nothing(request: Request) -> None:
    """Refuse a body with fields: the request has none."""
    _checked(read_object(request), {})


def read_only_dry_run(request: Request) -> None:
    """Refuse a body with other fields than ``dry_run``, which ``read_dry_run`` returns."""
    _checked(read_object(request), _DRY_RUN)


@dataclass(frozen=True, slots=True)
class Deletion:
    """How a workspace is to be deleted. ``purge``: it cannot be taken back."""

    purge: bool
    dry_run: bool


def read_delete(request: Request) -> Deletion:
    """Return what a deletion asks for. A POST that is not a dry run is refused.

    A DELETE has no body: load balancers may refuse one. So the dry run that an older Hub cannot
    take for a deletion has a path that it does not know, and deletes nothing. Such a Hub ignores
    ``purge``, and keeps nothing anyway.
    """
    reads = read_nothing if request.method == "DELETE" else read_only_dry_run
    reads(request)
    purge = bool(_query(request, _DELETE_QUERY).get("purge"))
    dry_run = read_dry_run(request, _DELETE_QUERY)
    if request.method != "DELETE" and not dry_run:
        message = "must be true here; to delete the workspace, send DELETE /workspaces/{id}"
        raise InvalidRequestError([FieldProblem("dry_run", message)])
    return Deletion(purge, dry_run)


def read_undelete(request: Request) -> str | None:
    """Return the name that a ``POST /workspaces/:id/undelete`` gives; None to keep the old one."""
    name: str | None = _checked(read_object(request), {"name": _name}).get("name")
    return name


def read_report(request: Request, machine: MachineIdentity) -> Report:
    """Return a machine's report."""
    fields = _checked(
        read_object(request),
        {
            "event": _one_of(tuple(event.value for event in ReportEvent)),
            "generation": _whole_number,
            "because": _one_of(tuple(reason.value for reason in HeartbeatReason)),
            "code": _matching(_CODE, "must be upper snake case, at most 64 characters"),
            "message": _text,
            "host_key": _host_key,
        },
        required="event generation",
    )
    return Report(
        event=ReportEvent(fields["event"]),
        generation=fields["generation"],
        instance_name=machine.instance_name,
        instance_id=machine.instance_id,
        zone=machine.zone,
        project_id=machine.project_id,
        code=fields.get("code"),
        message=fields.get("message"),
        because=HeartbeatReason(fields["because"]) if "because" in fields else None,
        host_key=fields.get("host_key"),
    )


def read_list_query(request: Request) -> ListQuery:
    """Return which workspaces ``GET /workspaces`` asks for."""
    fields = _query(
        request,
        {
            "status": _one_of(tuple(Status)),
            "name": _name,
            "owner_id": _owner_id,
            "all": _flag,
            **_PAGE,
        },
    )
    status = fields.get("status")
    scope = ListScope(fields.get("owner_id"), everybody=fields.get("all", False))
    if scope.owner_id and scope.everybody:
        raise InvalidRequestError([FieldProblem("owner_id", "cannot be given with all")])
    return ListQuery(
        scope=scope,
        wanted=WorkspaceFilter(Status(status) if status else None, fields.get("name")),
        limit=fields.get("limit", MOST_LISTED),
        page_token=fields.get("page_token"),
    )


def read_deleted_query(request: Request) -> str | None:
    """Return whose deleted workspaces ``GET /deleted-workspaces`` asks for; None for one's own."""
    owner_id: str | None = _query(request, {"owner_id": _owner_id}).get("owner_id")
    return owner_id


def read_page_query(request: Request) -> tuple[int, str | None]:
    """Return the limit and the page token of a list."""
    fields = _query(request, _PAGE)
    return fields.get("limit", MOST_LISTED), fields.get("page_token")


def read_dry_run(request: Request, query: Mapping[str, Check] | None = None) -> bool:
    """Return whether a request only asks what it would do: by its query, its body, or both.

    A version before 0.2 ignores the query, and refuses the field of a body. Read the rest of the
    body first: the other readers refuse unknown fields. ``query`` has all parameters that the
    request may have; None if that is only ``dry_run``.

    Raises:
        InvalidRequestError: the query has anything else, or ``dry_run`` more than once, or neither
            ``true`` nor ``false``; or the body's ``dry_run`` is no boolean, or says otherwise than
            the query.
    """
    asked = _query(request, query or {"dry_run": _flag}).get("dry_run")
    body = read_object(request)
    fields = {name: value for name, value in body.items() if name in {"dry_run", "dryRun"}}
    said = _checked(fields, _DRY_RUN).get("dry_run")
    if None not in (asked, said) and asked != said:
        message = "must be the same in the query and in the body"
        raise InvalidRequestError([FieldProblem("dry_run", message)])
    return bool(asked or said)


def _query(request: Request, checks: Mapping[str, Check]) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            request.query_string.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(request.query_string),
            errors="strict",
            max_num_fields=MOST_PARAMETERS,
        )
    except ValueError:
        message = (
            f"must be at most {MOST_PARAMETERS} parameters, name=value, percent-encoded from UTF-8"
        )
        raise InvalidRequestError([FieldProblem("query", message)]) from None
    times = Counter(name for name, _ in pairs)
    problems = [
        FieldProblem(name[:100], "may be given once") for name, count in times.items() if count > 1
    ]
    if problems:
        raise InvalidRequestError(problems)
    return _checked(dict(pairs), checks)


def read_idempotency_key(request: Request, policy: Policy) -> Key | None:
    """Return the ``Idempotency-Key`` of a ``POST /workspaces`` as it is stored; None without one.

    The hash covers the meaning of the body, not its bytes: the same fields in another order or
    spelling are the same request. It does not cover defaults, so that a changed default does not
    break a retry.
    """
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(given):
        raise InvalidRequestError(
            [FieldProblem("Idempotency-Key", "must be 1 to 255 printable ASCII characters")]
        )
    fields = _new_workspace_fields(request, policy)
    return Key(_sha256(given), _sha256(json.dumps(fields, sort_keys=True, default=asdict)))


def _checked(
    given: Mapping[str, Any], checks: Mapping[str, Check], required: str = "", within: str = ""
) -> dict[str, Any]:
    """Return an object's fields, checked. camelCase names are accepted too; null means absent.

    Raises:
        InvalidRequestError: some fields are unknown, missing or wrong. It has all of them.
    """
    names = {_camel_case(name): name for name in checks} | {name: name for name in checks}
    values: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    wrong: set[str] = set()
    for spelling, value in given.items():
        name = names.get(spelling)
        path = f"{within}{spelling}"[:100]
        if name is None:
            known = ", ".join(checks) or "none"
            problems.append(FieldProblem(path, f"is not a field; there are: {known}"))
        elif spelling != name and name in given:
            problems.append(
                FieldProblem(path, f"is {within}{name} in another spelling; give it once")
            )
        elif value is not None:
            try:
                values[name] = checks[name](value)
            except _InvalidValueError as invalid:
                wrong.add(name)
                problems.append(FieldProblem(path, str(invalid)))
            except InvalidRequestError as nested:
                wrong.add(name)
                problems.extend(nested.problems)
    problems += [
        FieldProblem(f"{within}{name}", "is required")
        for name in required.split()
        if name not in values and name not in wrong
    ]
    if problems:
        raise InvalidRequestError(problems if within else _at_most(MOST_PROBLEMS, problems))
    return values


def _at_most(most: int, problems: list[FieldProblem]) -> list[FieldProblem]:
    """Return the first problems, and how many more there are.

    A body of 64 KiB can have thousands of wrong fields.
    """
    if len(problems) <= most:
        return problems
    more = len(problems) - (most - 1)
    return [*problems[: most - 1], FieldProblem("", f"and {more} more fields are wrong")]


def _metadata(value: Any) -> Metadata:
    if not isinstance(value, dict):
        raise _InvalidValueError("must be an object")
    return Metadata(
        **_checked(
            value,
            {"repo": _repository, "branch": _public_text, "device_id": _public_text},
            within="metadata.",
        )
    )


def _from(value: Any) -> str:
    """Check what a workspace is made from, and return the snapshot's id."""
    if not isinstance(value, dict):
        raise _InvalidValueError("must be an object with a snapshot_id")
    fields = _checked(value, {"snapshot_id": _snapshot_id}, required="snapshot_id", within="from.")
    return str(fields["snapshot_id"])


def _snapshot_id(value: Any) -> str:
    return str(_matching(_UUID, "must be a snapshot's id: a UUID in lower case")(value))


def _text(value: Any) -> str:
    """Check a line of text, without control characters.

    Text that is not valid Unicode is refused, because it cannot be stored.
    """
    if not isinstance(value, str):
        raise _InvalidValueError("must be a string")
    if len(value) > LONGEST_TEXT:
        raise _InvalidValueError(f"must be at most {LONGEST_TEXT} characters")
    if any(
        ord(character) < 32 or 0x7F <= ord(character) < 0xA0 or 0xD800 <= ord(character) < 0xE000
        for character in value
    ):
        raise _InvalidValueError("must be one line of text without control characters")
    return value


def _public_text(value: Any) -> str:
    """Check a line of text without credentials.

    Everybody who sees the workspace or its machine's metadata sees this text.
    """
    text = _text(value)
    if holds_credentials(text):
        raise _InvalidValueError(_NO_CREDENTIALS)
    return text


def _repository(value: Any) -> str:
    """Check a repository: a URL, ``git@host:path``, or a name that only the image understands."""
    text = _public_text(value)
    if holds_credentials_without_scheme(text):
        raise _InvalidValueError(_NO_CREDENTIALS)
    return text


def _host_key(value: Any) -> str:
    """Check a public SSH host key, and return it as ``<type> <base64>``, without its comment.

    People's clients write it into a file with a key on each line.
    """
    match = _HOST_KEY.fullmatch(value) if isinstance(value, str) else None
    if match is None or len(value) > LONGEST_TEXT:
        raise _InvalidValueError(
            f"must be an SSH host key (ed25519, ecdsa, rsa) of at most {LONGEST_TEXT} characters"
        )
    return match[1]


def _matching(pattern: re.Pattern[str], message: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _InvalidValueError(message)
        return value

    return check


def _name(value: Any) -> str:
    return str(_matching(_NAME, "must be 1 to 48 letters, digits, '-', '_' or '.'")(value))


def _owner_id(value: Any) -> str:
    return str(_matching(_OWNER_ID, "must be an owner_id")(value))


def _image_tag(policy: Policy) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not _TAG.fullmatch(value):
            raise _InvalidValueError("must be a container image's tag, or its digest: sha256:…")
        if not policy.allows_image_tag(value):
            raise _InvalidValueError(f"must be one of {', '.join(policy.image_tags)}")
        return value

    return check


def _one_of(allowed: tuple[str, ...]) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise _InvalidValueError(f"must be one of {', '.join(allowed)}")
        return value

    return check


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _InvalidValueError("must be true or false")
    return value


def _moment(value: Any) -> datetime:
    """Check a time in RFC 3339, with its offset from UTC."""
    problem = _InvalidValueError("must be a time in RFC 3339, like 2026-11-26T18:00:00Z")
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise problem
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise problem from None


def _whole_number(value: Any) -> int:
    """Check a positive whole number. JSON has one type of number, so ``2.0`` is accepted as 2."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise _InvalidValueError(f"must be a whole number from 1 to {2**31 - 1}")
    return value


def _limit(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= 100:
        raise _InvalidValueError("must be a whole number from 1 to 100")
    return int(value)


def _flag(value: str) -> bool:
    if value not in {"true", "false"}:
        raise _InvalidValueError("must be true or false")
    return value == "true"


_DRY_RUN: Mapping[str, Check] = {"dry_run": _boolean}
_DELETE_QUERY: Mapping[str, Check] = {"dry_run": _flag, "purge": _flag}
_PAGE: Mapping[str, Check] = {"limit": _limit, "page_token": _text}


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a duplicate field, because it is not known which value is meant."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a field is given twice")
    return value


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
