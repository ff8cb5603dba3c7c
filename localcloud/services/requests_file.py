"""The file of all requests at the public address: one line of JSON for each request and its answer.

Its members are ``began`` and ``ended``, RFC 3339 with microseconds; ``who``, the e-mail address in
the token, or null; ``method``; ``path``, with its query; ``key``, the Idempotency-Key; ``asked``,
the JSON that was sent; ``status``, 0 if no complete answer came, in which case the function may not
know of the request; ``request_id``, as answered; ``answer``, the JSON, null for anything else and
for lists.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from aiohttp import web


@dataclass
class Exchange:
    """A request and its answer, filled in as they arrive."""

    request: web.Request
    began: datetime
    asked: bytearray = field(default_factory=bytearray)
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    answered: bytearray = field(default_factory=bytearray)


class RequestsFile:
    """The file. It is created with the first line, and written a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def write(self, exchange: Exchange) -> None:
        """Write a line for a request that has ended."""
        answer = _json(exchange.answered)
        line = {
            "began": exchange.began.isoformat(),
            "ended": datetime.now(UTC).isoformat(),
            "who": _email(exchange.request.headers.get("Authorization", "")),
            "method": exchange.request.method,
            "path": exchange.request.path_qs,
            "key": exchange.request.headers.get("Idempotency-Key"),
            "asked": _json(exchange.asked),
            "status": exchange.status,
            "request_id": exchange.headers.get("X-Request-Id"),
            "answer": None if isinstance(answer, list) else answer,
        }
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._file.write(json.dumps(line) + "\n")


def _email(authorization: str) -> str | None:
    """Return the e-mail address in a token, which is not verified."""
    try:
        claims = authorization.split(".")[1]
        email = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["email"]
    except (IndexError, ValueError, KeyError, TypeError):
        return None
    return str(email)


def _json(body: bytearray) -> Any:
    try:
        return json.loads(bytes(body))
    except ValueError:
        return None
