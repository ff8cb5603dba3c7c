r"""The part of the filter language of Compute's list methods that the Hub and its tests need.

    filter     = all | regular
    all        = any { ["AND"] any }          without "AND", each part needs parentheses
    any        = term { "OR" term }           OR binds tighter than AND (AIP-160)
    term       = "(" all ")" | field ("=" | "!=") value | field ":" (value | "*")
    regular    = field ("eq" | "ne") value    or several of these, each in parentheses;
                                              the value is a regular expression
    value      = a word, or a text in single or double quotes with "\" as escape

``:`` on a text means "contains", ``:*`` means "exists". A filter that is not understood is refused
and never counts as true. This includes Compute's other operators (``<``, ``>``, NOT), a ``*`` in a
value, and fields that no resource has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from localcloud.services.compute.errors import invalid_value

Predicate = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<paren>[()])
      | (?P<operator>!=|=|:)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<word>[^\s()"'=!:<>]+)
    )""",
    re.VERBOSE,
)
_FIELD = re.compile(r"[A-Za-z]\w*(\.[\w-]+)*")
_FIELDS = frozenset(
    {
        *(
            "creationTimestamp",
            "description",
            "id",
            "labels",
            "name",
            "selfLink",
            "status",
            "statusMessage",
            "zone",
        ),
        *("lastStartTimestamp", "lastStopTimestamp", "lastSuspendedTimestamp"),  # instances
        *("disks", "machineType", "networkInterfaces", "scheduling", "tags"),
        *("sizeGb", "type", "users"),  # disks
        *("diskSizeGb", "snapshotType", "sourceDisk", "sourceDiskId", "storageBytes"),  # snapshots
        *(
            "clientOperationId",
            "endTime",
            "httpErrorStatusCode",
            "insertTime",
            "operationType",
        ),  # operations
        *("progress", "startTime", "targetId", "targetLink", "user"),
    }
)


def compile_filter(text: str) -> Predicate:
    """Return the predicate of a filter, which takes a resource as JSON.

    An empty filter is true for every resource.

    Raises:
        ComputeError: 400 ``invalid``, in Compute's words, if the text is not a filter of the
            language above.
    """
    return _Parser(text).parse() if text.strip() else lambda _: True


class _Parser:
    """A recursive descent parser of one filter."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._next = 0
        self._styles: set[str] = set()

    def parse(self) -> Predicate:
        predicate = self._all()
        if self._next < len(self._tokens) or len(self._styles) > 1:
            self._refuse()
        return predicate

    def _split(self) -> list[tuple[str, str]]:
        tokens, position, end = [], 0, len(self._text.rstrip())
        while position < end:
            match = _TOKEN.match(self._text, position)
            if not match or not match.lastgroup:
                self._refuse()
            tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        return tokens

    def _all(self) -> Predicate:
        parts = [self._any()]
        while self._next < len(self._tokens):
            if self._peek() == ("word", "AND"):
                self._next += 1
            elif self._peek() != ("paren", "(") or self._tokens[self._next - 1] != ("paren", ")"):
                break
            parts.append(self._any())
        return lambda resource: all(part(resource) for part in parts)

    def _any(self) -> Predicate:
        parts = [self._term()]
        while self._peek() == ("word", "OR"):
            self._next += 1
            parts.append(self._term())
        return lambda resource: any(part(resource) for part in parts)

    def _term(self) -> Predicate:
        if self._peek() == ("paren", "("):
            self._next += 1
            inner = self._all()
            if self._take() != ("paren", ")"):
                self._refuse()
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        kind, field = self._take()
        if kind != "word" or not _FIELD.fullmatch(field) or field.split(".")[0] not in _FIELDS:
            self._refuse()
        _, operator = self._take()
        kind, raw = self._take()
        if kind not in {"word", "quoted"}:
            self._refuse()
        value = re.sub(r"\\(.)", r"\1", raw[1:-1]) if kind == "quoted" else raw
        if operator in {"eq", "ne"}:
            self._styles.add("regular expressions")
            return self._regular(field, operator, raw[1:-1] if kind == "quoted" else raw)
        self._styles.add("AIP-160")
        if operator == ":" and value == "*":
            return lambda resource: _find(resource, field) is not None
        if operator not in {"=", "!=", ":"} or "*" in value:
            self._refuse()
        if operator == ":":
            return lambda resource: _contains(_find(resource, field), value)
        return lambda resource: (_text(_find(resource, field)) == value) is (operator == "=")

    def _regular(self, field: str, operator: str, pattern: str) -> Predicate:
        try:
            compiled = re.compile(pattern)
        except re.error:
            self._refuse()
        return lambda resource: (
            bool(compiled.fullmatch(_text(_find(resource, field)) or "")) is (operator == "eq")
        )

    def _peek(self) -> tuple[str, str] | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self) -> tuple[str, str]:
        if self._next >= len(self._tokens):
            self._refuse()
        self._next += 1
        return self._tokens[self._next - 1]

    def _refuse(self) -> NoReturn:
        raise invalid_value("filter", self._text, "Invalid list filter expression.")


def _find(resource: Mapping[str, Any], field: str) -> object:
    value: Any = resource
    for name in field.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _text(value: object) -> str | None:
    """Return a JSON value as a filter writes it; None if it is absent, or a list or object."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def _contains(value: object, wanted: str) -> bool:
    if isinstance(value, str):
        return wanted in value
    if isinstance(value, Mapping):
        return wanted in value
    if isinstance(value, list):
        return any(_contains(item, wanted) for item in value)
    return _text(value) == wanted
