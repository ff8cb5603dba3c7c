"""The HTTP edge of a function: routes, request ids, limits, errors as problems, one log line an answer."""

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import functions_framework
from flask import Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from shared import logs
from shared.domain.errors import HubError
from shared.domain.lifecycle import Asker
from shared.entry.problems import problem_of_fault, problem_of_http_error, problem_of_hub_error
from shared.ports import Identity

MOST_BODY_BYTES = 64 * 1024
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answers: a status, a JSON value (None: no body) and headers."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def endpoint(*routes: str) -> Callable[[Callable[..., Answer]], Callable[[Request], Response]]:
    """Make an HTTP function of a handler: it takes the request and the path's parameters, and returns an ``Answer``.

    ``routes`` are ``METHOD /path/{parameter}``, as the catalogue has them. Every answer carries ``X-Request-Id``. A
    ``HubError`` becomes its problem; anything unforeseen is logged with its stack and answered 500 without it.
    """
    urls = _url_map(routes)

    def decorate(handler: Callable[..., Answer]) -> Callable[[Request], Response]:
        @wraps(handler)
        def function(request: Request) -> Response:
            began = time.monotonic()
            request_id = _request_id(request)
            token = logs.request_id.set(request_id)
            try:
                response = _answer(urls, handler, request)
                response.headers["X-Request-Id"] = request_id
                response.headers["Cache-Control"] = "no-store"
                response.headers["X-Content-Type-Options"] = "nosniff"
                logs.info(
                    "RequestAnswered",
                    function=handler.__name__,
                    method=request.method,
                    status=response.status_code,
                    latency_ms=round((time.monotonic() - began) * 1000, 1),
                )
                return response
            finally:
                logs.request_id.reset(token)

        functions_framework.http(function)
        return function

    return decorate


def asker(request: Request, identity: Identity) -> Asker:
    """Return the person who calls, and the request that they call with.

    Raises:
        NotAuthenticatedError: they have not proved who they are.
    """
    person = identity.person(request.headers.get("Authorization"))
    return Asker(person.owner_id, logs.request_id.get(), person.email)


def _answer(urls: Map, handler: Callable[..., Answer], request: Request) -> Response:
    try:
        request.max_content_length = MOST_BODY_BYTES
        _, parameters = urls.bind("hub").match(request.path, request.method)
        answer = handler(request, **parameters)
    except HubError as error:
        response = problem_of_hub_error(error)
        if response.status_code >= 500:
            logs.warning("RequestNotServed", function=handler.__name__, reason=str(error))
        return response
    except HTTPException as error:
        return problem_of_http_error(error)
    except Exception as error:  # noqa: BLE001 -- the edge: whatever happens, the caller gets a problem and we get the stack
        logs.error("RequestFailed", error, function=handler.__name__)
        return problem_of_fault()
    finally:
        request.max_content_length = (
            None  # functions-framework reads what is left of a body, and must not stumble over it
        )
    if answer.body is None:
        return Response(status=answer.status, headers=dict(answer.headers))
    return Response(
        json.dumps(answer.body), status=answer.status, headers=dict(answer.headers), content_type="application/json"
    )


def _request_id(request: Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _url_map(routes: tuple[str, ...]) -> Map:
    rules = []
    for route in routes:
        method, path = route.split(" ")
        rules.append(Rule(re.sub(r"\{(\w+)\}", r"<\1>", path), methods=[method], endpoint=route))
    return Map(rules, strict_slashes=True, merge_slashes=False)
