"""One call of a Compute method, and how its request is read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from localcloud.services.compute import errors
from localcloud.services.compute.errors import ComputeError
from localcloud.services.compute.methods import METHODS
from localcloud.services.compute.resources import Json
from localcloud.services.project import GLOBAL, Project


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a Compute method, its address checked and its body read.

    ``zone`` is empty for a method that is about all zones, and ``GLOBAL`` for one about none.
    """

    method: str
    zone: str
    name: str
    query: Mapping[str, str]
    body: Json

    @property
    def request_id(self) -> str | None:
        """The requestId, if it has one."""
        return self.query.get("requestId") or None

    @property
    def is_on_instance(self) -> bool:
        """Whether it is a method on instances."""
        return self.kind == "instances"

    @property
    def kind(self) -> str:
        """The collection that its method is of, for example ``instances``."""
        return self.method.partition(".")[0]

    def flag(self, name: str) -> bool | None:
        """Return a query parameter that is ``true`` or ``false``; None if it is missing.

        Raises:
            ComputeError: 400 if it is something else.
        """
        text = self.query.get(name)
        if text is not None and text.lower() not in {"true", "false"}:
            raise errors.invalid_value(name, text, "It is true or false.")
        return None if text is None else text.lower() == "true"

    def number(self, name: str, *, default: int, low: int, high: int) -> int:
        """Return a query parameter that is a whole number.

        Raises:
            ComputeError: 400 if it is something else, or out of range.
        """
        text = self.query.get(name) or str(default)
        try:
            number = int(text)
        except ValueError:
            number = high + 1
        if not low <= number <= high:
            why = f"The value must be a number from {low} to {high}."
            raise errors.invalid_value(name, text, why)
        return number


async def read_call(method: str, request: web.Request, project: Project) -> Call:
    """Return the call that a request makes.

    Raises:
        ComputeError: it is for another project or an unknown zone, or its body or its requestId is
            malformed.
    """
    is_global = "/global/" in METHODS[method].path
    zone = GLOBAL if is_global else request.match_info.get("zone", "")
    if request.match_info["project"] != project.id:
        raise errors.not_found(f"projects/{request.match_info['project']}")
    if zone and not is_global and zone not in project.zones:
        raise errors.invalid_value("zone", zone, "Unknown zone.")
    body = await read_object(request) if request.method == "POST" and request.can_read_body else {}
    name = request.match_info.get("name") or str(body.get("name", ""))
    call = Call(method=method, zone=zone, name=name, query=request.query, body=body)
    if call.request_id and not _is_request_id(call.request_id):
        why = (
            "The request ID must be a valid UUID with the exception that zero UUID is not "
            "supported."
        )
        raise errors.invalid_value("requestId", call.request_id, why)
    return call


async def read_object(request: web.Request) -> Json:
    """Return the JSON object of a request; an empty body is an empty object.

    Raises:
        ComputeError: 400 if the body is something else.
    """
    try:
        body = json.loads(await request.text() or "{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ComputeError(400, "parseError", "Parse Error")
    return body


def _is_request_id(text: str) -> bool:
    try:
        return uuid.UUID(text).int != 0
    except ValueError:
        return False
