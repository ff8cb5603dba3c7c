"""The HTTP edge of a function: routes, request ids, limits, errors as problems, and the log.

Each answer is one log line.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import flask
import functions_framework
from flask import Request, Response
from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    RequestHeaderFieldsTooLarge,
    RequestURITooLarge,
)
from werkzeug.routing import Map, Rule

from shared import logs
from shared.bootstrap import Hub
from shared.config import IdentitySource
from shared.domain.access import Actor, MachineIdentity
from shared.domain.errors import FieldProblem, HubError, InvalidRequestError
from shared.entry.conditional import entity_tag, is_known
from shared.entry.problems import problem_of_fault, problem_of_http_error, problem_of_hub_error
from shared.entry.wsgi import body_of, guard
from shared.usecases.admit_person import admit_person

MOST_HEADER_BYTES = 16 * 1024
LONGEST_TARGET = 4096
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answers: a status, a body and headers.

    The body is a JSON value, or None for none, or bytes, whose ``Content-Type`` the headers have.
    A ``conditional`` answer may be kept by the client, which asks each time whether it is still
    true: it has an ``ETag``, and is answered 304 without a body to who has it already. Nothing in
    it may depend on the time of the answer.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    conditional: bool = False


def endpoint(
    hub: Hub, *routes: str, query: bool = False, same_for_everybody: bool = False
) -> Callable[[Callable[..., Answer]], Callable[[Request], Response]]:
    """Make an HTTP function of a handler.

    The handler takes the request and the path's parameters, and returns an ``Answer``.
    ``routes`` are ``METHOD /path/{parameter}``, as the catalogue has them. Every answer carries
    ``X-Request-Id`` and the security headers. A ``HubError`` becomes its problem; anything
    unforeseen is logged with its stack and answered 500 without it. Web pages of other origins may
    call only where ``HUB_CORS_ORIGINS`` lists them. A query is refused unless the handler reads one
    (``query``): who asks with ``?dry_run=true`` expects something else than what would be done.
    ``same_for_everybody``: the answers are constants, so links of other sites and Identity-Aware
    Proxy's redirections may lead here, with a query of whatever kind, which changes nothing.
    """
    guard(flask.current_app)
    urls = _url_map(routes)

    def decorate(handler: Callable[..., Answer]) -> Callable[[Request], Response]:
        served = _Served(urls, handler, query or same_for_everybody, same_for_everybody)

        @wraps(handler)
        def function(request: Request) -> Response:
            began = time.monotonic()
            request_id = _request_id(request)
            token = logs.request_id.set(request_id)
            try:
                response = _answer(hub, served, request)
                _complete(response, request_id)
                logs.info(
                    "RequestAnswered",
                    function=handler.__name__,
                    method=request.method,
                    status=response.status_code,
                    latency_ms=round((time.monotonic() - began) * 1000, 1),
                )
                return response
            finally:
                body_of(request).close_to_readers()
                logs.request_id.reset(token)

        functions_framework.http(function)
        functions_framework.errorhandler(HTTPException)(refused_by_the_framework)
        return function

    return decorate


def actor_of(request: Request, hub: Hub) -> Actor:
    """Return the person who calls, and the request that they call with.

    Raises:
        NotAuthenticatedError: they have not proved who they are.
        NotAllowedError: the Hub does not serve them; that is noted.
        TooManyRequestsError: they ask this instance too often.
    """
    person = hub.identity.person(request.headers)
    hub.caller_limit.count(person.owner_id)
    return admit_person(hub.audit, person, hub.settings.access, logs.request_id.get())


def machine_of(request: Request, hub: Hub) -> MachineIdentity:
    """Return the machine that calls.

    Raises:
        NotAuthenticatedError: it has not proved which one it is.
        TooManyRequestsError: it reports to this instance too often.
    """
    machine = hub.identity.machine(request.headers)
    hub.caller_limit.count(f"{machine.project_id}/{machine.instance_id}")
    return machine


def next_link(request: Request, token: str | None) -> dict[str, str]:
    """Return the ``Link`` header of the next page: the same request with that page's token."""
    if token is None:
        return {}
    asked = {
        name: value
        for name, value in request.args.items()
        if name not in {"page_token", "pageToken"}
    }
    query = urlencode({**asked, "page_token": token})
    return {"Link": f'<{quote(request.path)}?{query}>; rel="next"'}


@dataclass(frozen=True, slots=True)
class _Served:
    """A handler, its routes, and what it lets in; see ``endpoint``."""

    urls: Map
    handler: Callable[..., Answer]
    query: bool
    same_for_everybody: bool


def _answer(hub: Hub, served: _Served, request: Request) -> Response:
    try:
        _check_size(request)
        origins = hub.settings.edge.cors_origins
        if origins and request.method == "OPTIONS":
            return _with_cors(_preflight(served.urls, request), request, origins)
        if hub.settings.identity.source is IdentitySource.IAP and not served.same_for_everybody:
            _check_site(request, origins)
        response = _handled(hub, served, request)
        return _with_cors(response, request, origins)
    except HTTPException as error:
        return problem_of_http_error(error)
    except Exception as error:  # noqa: BLE001 -- the caller gets a problem, the log the stack
        logs.error("RequestFailed", error, function=served.handler.__name__)
        return problem_of_fault()


def refused_by_the_framework(error: HTTPException) -> Response:
    """Answer in our form what the framework refuses, such as a path with a line feed in it."""
    body_of(flask.request).close_to_readers()
    response = problem_of_http_error(error)
    _complete(response, _request_id(flask.request))
    return response


def _complete(response: Response, request_id: str) -> None:
    """Add what every answer has; headers that the answer has of its own stay."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-Id"] = request_id


def _handled(hub: Hub, served: _Served, request: Request) -> Response:
    """Route the request and call the handler; an error becomes a problem, with CORS headers too."""
    try:
        _, parameters = served.urls.bind("hub").match(request.path, request.method)
        if request.query_string and not served.query:
            raise InvalidRequestError(
                [FieldProblem("query", "must be empty: there are no parameters here")]
            )
        answer = served.handler(request, **parameters)
    except HubError as error:
        response = problem_of_hub_error(error)
        if response.status_code >= 500:
            logs.warning("RequestNotServed", function=served.handler.__name__, reason=str(error))
        return response
    except HTTPException as error:
        return problem_of_http_error(error)
    if answer.body is None or isinstance(answer.body, bytes):
        return Response(answer.body, status=answer.status, headers=dict(answer.headers))
    body = json.dumps(answer.body).encode()
    headers = dict(answer.headers)
    if answer.conditional:
        headers |= {
            "Cache-Control": "private, no-cache",
            "ETag": entity_tag(body, headers.get("Link", "")),
            "Vary": _identity_headers(hub.settings.identity.source),
        }
        if is_known(request.headers.get("If-None-Match"), headers["ETag"]):
            return Response(status=304, headers=headers)
    return Response(body, status=answer.status, headers=headers, content_type="application/json")


def _identity_headers(source: IdentitySource) -> str:
    """Return the names of the headers that say who a caller is."""
    proxied = source is IdentitySource.IAP
    return "Authorization, X-Goog-IAP-JWT-Assertion" if proxied else "Authorization"


def _check_size(request: Request) -> None:
    if len(request.full_path) > LONGEST_TARGET:
        raise RequestURITooLarge(f"Path and query may have {LONGEST_TARGET} characters.")
    if sum(len(name) + len(value) for name, value in request.headers.items()) > MOST_HEADER_BYTES:
        raise RequestHeaderFieldsTooLarge(
            f"All headers together may have {MOST_HEADER_BYTES} bytes."
        )


def _check_site(request: Request, origins: tuple[str, ...]) -> None:
    """Refuse requests that a page of another site makes.

    Behind IAP the proof is a cookie, and browsers send it with such requests too. Reads are refused
    as well, because an administrator's read and every refusal write an audit event. A request with
    neither header does not come from a browser, or comes from one that is years old. Source: the
    Fetch Metadata Request Headers specification, and OWASP on cross-site request forgery.
    """
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin in origins:
        return
    if (
        (site not in {"same-origin", "none"})
        if site is not None
        else not _is_own(origin, request.host)
    ):
        raise Forbidden(
            "This request comes from a page of another site. Use the Hub's own address."
        )


def _is_own(origin: str | None, host: str) -> bool:
    try:
        return origin is None or urlsplit(origin).netloc == host
    except ValueError:  # no address at all
        return False


def _preflight(urls: Map, request: Request) -> Response:
    """Answer a browser that asks whether a page of another origin may send a request."""
    method = request.headers.get("Access-Control-Request-Method", "")
    urls.bind("hub").match(request.path, method)
    return Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": method,
            "Access-Control-Allow-Headers": (
                "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Request-Id"
            ),
            "Access-Control-Max-Age": "600",
        },
    )


def _with_cors(response: Response, request: Request, origins: tuple[str, ...]) -> Response:
    if not origins:
        return response
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin in origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = (
            "ETag, Link, Location, Retry-After, X-Request-Id"
        )
    return response


def _request_id(request: Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _url_map(routes: tuple[str, ...]) -> Map:
    rules = []
    for route in routes:
        method, path = route.split(" ")
        rules.append(Rule(re.sub(r"\{(\w+)\}", r"<\1>", path), methods=[method], endpoint=route))
    return Map(rules, strict_slashes=True, merge_slashes=False)
