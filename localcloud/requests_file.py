"""What was asked and answered at the public address, written down: a line of JSON for each request that was answered.

Its members: began and ended, RFC 3339 with microseconds; who, the e-mail address that the token says, null without one; method and
path, with its query; request_id and status, as answered; answer, the JSON, null for anything else and for lists.
"""

from __future__ import annotations

import base64
import json
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from aiohttp import web


class RequestsFile:
    """The file, made when there is something to write, and written a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def close(self) -> None:
        """Write nothing more."""
        if self._file:
            self._file.close()

    def write(
        self,
        request: web.Request,
        headers: Mapping[str, str],
        began: datetime,
        ended: datetime,
        status: int,
        body: bytes,
    ) -> None:
        """Write down one request; `headers` are the answer's, `body` is too."""
        answer = _json(body)
        line = {
            "began": began.isoformat(),
            "ended": ended.isoformat(),
            "who": _email(request.headers.get("Authorization", "")),
            "method": request.method,
            "path": request.path_qs,
            "request_id": headers.get("X-Request-Id"),
            "status": status,
            "answer": None if isinstance(answer, list) else answer,
        }
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._file.write(json.dumps(line) + "\n")


def _email(authorization: str) -> str | None:
    """Return whose token it says it is, unproven."""
    try:
        claims = authorization.split(".")[1]
        email = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["email"]
    except (IndexError, ValueError, KeyError, TypeError):
        return None
    return str(email)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
