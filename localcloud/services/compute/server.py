"""The HTTP side of the local Compute Engine: REST v1 as Google's clients speak it.

It serves the methods of ``methods.py`` and the control API of ``control_api.py``, which needs the
local cloud's secret. Callers need no token, so the server keeps web pages off, and the body of a
POST has to be JSON.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web

from localcloud.services.compute import errors
from localcloud.services.compute.active_faults import ActiveFaults, Place
from localcloud.services.compute.calls import Call, read_call
from localcloud.services.compute.control_api import ComputeControlApi
from localcloud.services.compute.errors import ComputeError, HtmlError
from localcloud.services.compute.fleet import Fleet
from localcloud.services.compute.guests import SimulatedGuests
from localcloud.services.compute.handlers import Handler, Handlers
from localcloud.services.compute.methods import CHANGING_METHODS, METHODS
from localcloud.services.compute.partial_response import read_fields, select
from localcloud.services.compute.resources import Json, Operation, last_part, timestamp
from localcloud.services.compute.times import Times
from localcloud.services.http_server import GuardRules, HttpServer, demand_secret
from localcloud.services.project import Project

_BODY_LIMIT_BYTES = 4 * 1024 * 1024
_CALLS_KEPT = 100_000


class ComputeServer(HttpServer):
    """A Compute Engine for one project.

    Google's clients reach it with ``client_options={"api_endpoint": server.url}`` and anonymous
    credentials.

    Args:
        project: the only project.
        times: how long everything takes.
        secret: the local cloud's.
        guests: what runs inside the instances; nothing by default. The server starts and stops it.
        port: 0 picks a free one.
    """

    def __init__(
        self,
        project: Project,
        *,
        times: Times,
        secret: str,
        guests: SimulatedGuests | None = None,
        port: int = 0,
    ) -> None:
        self.faults = ActiveFaults(project)
        self.fleet = Fleet(project, times=times, faults=self.faults, guests=guests)
        self._project = project
        self._guests = guests
        self._calls: deque[Json] = deque(maxlen=_CALLS_KEPT)
        control_api = ComputeControlApi(
            self.fleet, faults=self.faults, guests=guests, calls=self._calls, reset=self.reset
        )
        super().__init__(
            [*self._compute_routes(), *control_api.routes()],
            port=port,
            rules=GuardRules(refuse=_refuse, empty_posts=True),
            middlewares=[demand_secret(secret, _refuse, _needs_secret), _answer_refusals],
            body_limit=_BODY_LIMIT_BYTES,
        )

    async def start(self) -> None:
        """Serve, and start the guests."""
        if self._guests:
            await self._guests.start()
        await super().start()

    async def stop(self) -> None:
        """Stop serving; every machine ends."""
        self.reset()
        await super().stop()
        if self._guests:
            await self._guests.stop()

    def reset(self) -> None:
        """Forget every instance, disk, snapshot, operation, fault and call; machines end."""
        self.fleet.reset()
        self.faults.clear()
        self._calls.clear()
        if self._guests:
            self._guests.reports.clear()

    def _compute_routes(self) -> list[web.RouteDef]:
        handlers = Handlers(self._project, self.fleet, self.faults).by_method
        return [
            web.route(rule.verb, rule.path, self._serve(method, handlers[method]))
            for method, rule in METHODS.items()
        ]

    def _serve(
        self, method: str, answer: Handler
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            call = await read_call(method, request, self._project)
            operation: Operation | None = None
            status = 200
            try:
                fields = call.query.get("fields")
                selection = read_fields(fields) if fields else {}
                name = call.name if call.is_on_instance else None
                self.faults.refuse_call(Place(call.zone, name, method))
                result = self._operation_of_same_call(call) or answer(call)
                if isinstance(result, Operation):
                    operation = result
                    return web.json_response(select(operation.resource, selection))
                document = result if isinstance(result, dict) else await result
                return web.json_response(select(document, selection))
            except ComputeError as error:
                status = error.code
                raise
            finally:
                if method in CHANGING_METHODS:
                    self._record(call, status, operation)

        return handle

    def _operation_of_same_call(self, call: Call) -> Operation | None:
        """Return the operation that the same call has started before, by its requestId.

        Raises:
            ComputeError: the requestId was used for another call. How Compute answers that is not
                published; it is always a mistake of the caller.
        """
        earlier = self.fleet.operations.of_request(call.request_id) if call.request_id else None
        if earlier:
            target = last_part(str(earlier.resource["targetLink"]))
            if (earlier.method, earlier.zone, target) != (call.method, call.zone, call.name):
                why = f"It was used for {earlier.method} of '{target}'."
                raise errors.invalid_value("requestId", call.request_id, why)
        return earlier

    def _record(self, call: Call, status: int, operation: Operation | None) -> None:
        self._calls.append(
            {
                "time": timestamp(datetime.now(UTC)),
                "method": call.method,
                "zone": call.zone,
                "instance": call.name if call.is_on_instance else None,
                "disk": call.name if call.kind == "disks" else None,
                "snapshot": call.name if call.kind == "snapshots" else None,
                "requestId": call.request_id,
                "status": status,
                "operation": operation.name if operation else None,
            }
        )


@web.middleware
async def _answer_refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ComputeError as error:
        refusal = error
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        refusal = ComputeError(404, "notFound", f"There is no {request.method} {request.path}.")
    except web.HTTPRequestEntityTooLarge as error:
        refusal = ComputeError(413, "requestTooLarge", error.text or "Request Entity Too Large")
    if isinstance(refusal, HtmlError):
        return web.Response(
            text=refusal.page, status=refusal.code, content_type="text/html", charset="UTF-8"
        )
    return web.json_response(refusal.body(), status=refusal.code)


def _needs_secret(request: web.Request) -> bool:
    return request.path.startswith("/localcloud/")


def _refuse(_: web.Request, status: int, text: str) -> web.Response:
    return web.json_response(ComputeError(status, "forbidden", text).body(), status=status)
