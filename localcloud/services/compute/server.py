"""The HTTP side of the local Compute Engine: REST v1 as the stock clients speak it, and the switches of its faults.

Under `/compute/v1/projects/{project}/…` are the methods that `faults.METHODS` lists. Nobody has to
prove anything here, so web pages are kept off, and what a POST has in it has to be JSON. Beside
them, for tests and the command line:

    GET    /localcloud/faults                     what is on
    POST   /localcloud/faults                     {name, count, zone, method, instance}: on; {name, off: true, zone}: off
    DELETE /localcloud/faults                     all off
    POST   /localcloud/reset                      every instance, disk, operation and fault gone
    GET    /localcloud/history                    what happened, each oldest first: calls that were to change something, states of
                                                  instances, reports of guests
    GET    /localcloud/machines                   every machine: its state, its guest, its reports
    POST   /localcloud/machines/{name}/connected  {connected}: whether someone is connected, so that it sends heartbeats
    POST   /localcloud/machines/{name}/keep-awake {awake}: whether somebody keeps touching `~/.keep-awake`, which does so, too
    POST   /localcloud/machines/{name}/host-error the host under it fails: REPAIRING
    POST   /localcloud/machines/{name}/age        {seconds}: it was made so long ago, with its boot disk
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

from localcloud.services.compute import errors
from localcloud.services.compute.errors import ComputeError, HtmlError
from localcloud.services.compute.faults import Faults
from localcloud.services.compute.filters import compile_filter
from localcloud.services.compute.fleet import Fleet, Times
from localcloud.services.compute.machine_types import MACHINE_TYPES
from localcloud.services.compute.resources import Json, Operation, link, region_of, timestamp
from localcloud.services.proxy import LOOPBACK, guard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from localcloud.services.compute.guests import SimulatedGuests
    from localcloud.services.compute.resources import Disk, Instance

__all__ = ["ComputeServer", "Times"]

_Resource = TypeVar("_Resource", bound="Instance | Disk | Operation")

_BODY_LIMIT: Final = 4 * 1024 * 1024
_HISTORY_KEPT: Final = 100_000
_OLDEST_SECONDS: Final = 10 * 365 * 24 * 3600
_PAGE_LIMIT: Final = 500
_WAIT_LIMIT_SECONDS: Final = 120.0  # as zoneOperations.wait is documented


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of a Compute method, its address checked and its body read."""

    method: str
    zone: str
    name: str
    query: Mapping[str, str]
    body: Json

    @property
    def request_id(self) -> str | None:
        return self.query.get("requestId") or None


class ComputeServer:
    """A Compute Engine for one project, on one port of this machine.

    The stock clients reach it with `client_options={"api_endpoint": server.url}` and anonymous
    credentials.

    Args:
        project_id: the only project there is.
        project_number: its number.
        zones: the names of its zones.
        times: how long everything takes.
        machines: the guests; without them instances run with nothing inside. The server starts and
            stops them.
        port: 0 picks a free one.
    """

    def __init__(
        self,
        *,
        project_id: str,
        project_number: str,
        zones: Sequence[str],
        times: Times,
        machines: SimulatedGuests | None = None,
        port: int = 0,
    ) -> None:
        self.faults = Faults()
        self.fleet = Fleet(
            project_id=project_id,
            project_number=project_number,
            zones=zones,
            times=times,
            faults=self.faults,
            guests=machines,
        )
        self._project_id = project_id
        self._project_number = project_number
        self._machines = machines
        self._port = port
        self._history: deque[Json] = deque(maxlen=_HISTORY_KEPT)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Serve; from now on `url` and `port` are known."""
        if self._machines:
            await self._machines.start()
        checks = [guard(lambda: self._port, _refuse, empty_posts=True), _refusals_as_answers]
        app = web.Application(middlewares=checks, client_max_size=_BODY_LIMIT)
        app.add_routes([*self._compute_routes(), *self._control_routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop serving; every machine ends."""
        self.reset()
        if self._runner:
            await self._runner.cleanup()
        if self._machines:
            await self._machines.stop()

    def reset(self) -> None:
        """Forget every instance, disk, operation, fault and call; machines end."""
        self.fleet.reset()
        self.faults.clear()
        self._history.clear()
        if self._machines:
            self._machines.reports.clear()

    @property
    def port(self) -> int:
        """The port that is served."""
        return self._port

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{LOOPBACK}:{self._port}"

    # Compute's methods

    def _compute_routes(self) -> list[web.RouteDef]:
        project = "/compute/v1/projects/{project}"
        zone = project + "/zones/{zone}"
        instance, disk, operation = (
            zone + "/instances/{name}",
            zone + "/disks/{name}",
            zone + "/operations/{name}",
        )
        fleet = self.fleet
        table: list[tuple[str, str, str, Callable[[_Call], Json | Operation | Awaitable[Json]]]] = [
            ("POST", zone + "/instances", "instances.insert", _on_zone(fleet.insert_instance)),
            ("GET", zone + "/instances", "instances.list", self._list_instances),
            (
                "GET",
                project + "/aggregated/instances",
                "instances.aggregatedList",
                self._list_instances_of_all_zones,
            ),
            (
                "GET",
                instance,
                "instances.get",
                lambda call: fleet.instance(call.zone, call.name).resource,
            ),
            ("DELETE", instance, "instances.delete", _on_name(fleet.delete_instance)),
            ("POST", instance + "/start", "instances.start", _on_name(fleet.start)),
            ("POST", instance + "/stop", "instances.stop", _on_name_and_local_ssd(fleet.stop)),
            (
                "POST",
                instance + "/suspend",
                "instances.suspend",
                _on_name_and_local_ssd(fleet.suspend),
            ),
            ("POST", instance + "/resume", "instances.resume", _on_name(fleet.resume)),
            (
                "POST",
                instance + "/setMetadata",
                "instances.setMetadata",
                _on_name_and_body(fleet.set_metadata),
            ),
            (
                "POST",
                instance + "/setLabels",
                "instances.setLabels",
                _on_name_and_body(fleet.set_labels),
            ),
            (
                "POST",
                instance + "/setMachineType",
                "instances.setMachineType",
                _on_name_and_body(fleet.set_machine_type),
            ),
            (
                "POST",
                instance + "/attachDisk",
                "instances.attachDisk",
                _on_name_and_body(fleet.attach_disk),
            ),
            ("POST", instance + "/detachDisk", "instances.detachDisk", self._detach_disk),
            (
                "POST",
                instance + "/setDiskAutoDelete",
                "instances.setDiskAutoDelete",
                self._set_disk_auto_delete,
            ),
            ("GET", instance + "/serialPort", "instances.getSerialPortOutput", self._serial_port),
            ("POST", zone + "/disks", "disks.insert", _on_zone(fleet.insert_disk)),
            ("GET", zone + "/disks", "disks.list", self._list_disks),
            (
                "GET",
                project + "/aggregated/disks",
                "disks.aggregatedList",
                self._list_disks_of_all_zones,
            ),
            ("GET", disk, "disks.get", lambda call: fleet.disk(call.zone, call.name).resource),
            ("DELETE", disk, "disks.delete", _on_name(fleet.delete_disk)),
            (
                "POST",
                disk + "/setLabels",
                "disks.setLabels",
                _on_name_and_body(fleet.set_disk_labels),
            ),
            ("POST", disk + "/resize", "disks.resize", _on_name_and_body(fleet.resize_disk)),
            (
                "POST",
                disk + "/createSnapshot",
                "disks.createSnapshot",
                _on_name_and_body(fleet.create_snapshot),
            ),
            (
                "GET",
                project + "/global/snapshots/{name}",
                "snapshots.get",
                lambda call: fleet.snapshot(call.name).resource,
            ),
            ("GET", zone + "/operations", "zoneOperations.list", self._list_operations),
            (
                "GET",
                operation,
                "zoneOperations.get",
                lambda call: fleet.operation(call.zone, call.name).resource,
            ),
            ("POST", operation + "/wait", "zoneOperations.wait", self._wait),
            ("GET", project + "/zones", "zones.list", self._list_zones),
            ("GET", project + "/zones/{name}", "zones.get", self._get_zone),
            ("GET", zone + "/machineTypes/{name}", "machineTypes.get", self._get_machine_type),
        ]
        return [
            web.route(verb, path, self._handler(method, answer))
            for verb, path, method, answer in table
        ]

    def _handler(
        self, method: str, answer: Callable[[_Call], Json | Operation | Awaitable[Json]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            call = await self._read(method, request)
            operation: Operation | None = None
            status = 200
            try:
                self._strike(call)
                result = self._replayed(call) or answer(call)
                if isinstance(result, Operation):
                    operation = result
                    return web.json_response(operation.resource)
                return web.json_response(result if isinstance(result, dict) else await result)
            except ComputeError as error:
                status = error.code
                raise
            finally:
                if request.method != "GET" and answer != self._wait:
                    self._record(call, status, operation)

        return handle

    async def _read(self, method: str, request: web.Request) -> _Call:
        project, zone = request.match_info["project"], request.match_info.get("zone", "")
        if project != self._project_id:
            raise errors.not_found(f"projects/{project}")
        if zone and zone not in self.fleet.zones:
            raise errors.invalid_value("zone", zone, "Unknown zone.")
        body = await _object(request) if request.method == "POST" and request.can_read_body else {}
        name = request.match_info.get("name") or str(body.get("name", ""))
        call = _Call(method=method, zone=zone, name=name, query=request.query, body=body)
        if call.request_id and not _is_request_id(call.request_id):
            why = "The request ID must be a valid UUID with the exception that zero UUID is not supported."
            raise errors.invalid_value("requestId", call.request_id, why)
        return call

    def _strike(self, call: _Call) -> None:
        where = {"zone": call.zone, "method": call.method}
        instance = call.name if call.method.startswith("instances.") else None
        if self.faults.strike("unavailable", instance=instance, **where):
            raise errors.unavailable()
        if self.faults.strike("html_502", instance=instance, **where):
            raise errors.bad_gateway()
        if nth := self.faults.strike("rate_limited", instance=instance, **where):
            raise errors.rate_limited(self._project_number, nth)

    def _replayed(self, call: _Call) -> Operation | None:
        """Return the operation that this very call began before.

        A requestId that was used for another call is refused: how Compute answers that is not
        published, and it is always a mistake of the caller.
        """
        earlier = self.fleet.operation_of_request(call.request_id) if call.request_id else None
        if earlier:
            target = str(earlier.resource["targetLink"]).rsplit("/", 1)[-1]
            if (earlier.method, earlier.zone, target) != (call.method, call.zone, call.name):
                why = f"It was used for {earlier.method} of '{target}'."
                raise errors.invalid_value("requestId", call.request_id, why)
        return earlier

    def _record(self, call: _Call, status: int, operation: Operation | None) -> None:
        of_instance = call.method.startswith("instances.")
        self._history.append(
            {
                "time": timestamp(datetime.now(UTC)),
                "method": call.method,
                "zone": call.zone,
                "instance": call.name if of_instance else None,
                "disk": None if of_instance else call.name,
                "requestId": call.request_id,
                "status": status,
                "operation": operation.name if operation else None,
            }
        )

    def _list_instances(self, call: _Call) -> Json:
        return self._list(call, "compute#instanceList", self.fleet.instances())

    def _list_disks(self, call: _Call) -> Json:
        return self._list(call, "compute#diskList", self.fleet.disks())

    def _list_operations(self, call: _Call) -> Json:
        return self._list(call, "compute#operationList", self.fleet.operations())

    def _list_instances_of_all_zones(self, call: _Call) -> Json:
        return self._list_all_zones(
            call, "instances", "compute#instanceAggregatedList", self.fleet.instances()
        )

    def _list_disks_of_all_zones(self, call: _Call) -> Json:
        return self._list_all_zones(call, "disks", "compute#diskAggregatedList", self.fleet.disks())

    def _list(
        self, call: _Call, kind: str, resources: Sequence[Instance | Disk | Operation]
    ) -> Json:
        rows, further = _page(
            call, [resource for resource in resources if resource.zone == call.zone]
        )
        return self._listing(call, kind, [row.resource for row in rows], further)

    def _list_all_zones(
        self, call: _Call, member: str, kind: str, resources: Sequence[Instance | Disk]
    ) -> Json:
        rows, further = _page(call, resources)
        scopes: Json = {}
        for zone in self.fleet.zones:
            scope = f"zones/{zone}"
            found = [row.resource for row in rows if row.zone == zone]
            scopes[scope] = {member: found} if found else {"warning": _no_results(scope)}
        return self._listing(call, kind, scopes, further)

    def _listing(
        self, call: _Call, kind: str, items: list[Json] | Json, further: str | None
    ) -> Json:
        collection = call.method.split(".")[0].removeprefix("zone").lower()
        scope = f"zones/{call.zone}" if call.zone else "aggregated"
        path = f"projects/{self._project_id}/{scope}/{collection}"
        listing: Json = {"kind": kind, "id": path, "items": items, "selfLink": link(path)}
        if further:
            listing["nextPageToken"] = further
        return listing

    def _detach_disk(self, call: _Call) -> Operation:
        device = call.query.get("deviceName", "")
        return self.fleet.detach_disk(call.zone, call.name, device, request_id=call.request_id)

    def _set_disk_auto_delete(self, call: _Call) -> Operation:
        device, auto_delete = call.query.get("deviceName", ""), _flag(call, "autoDelete")
        if auto_delete is None:
            raise errors.invalid_value("autoDelete", "", "It must be given.")
        return self.fleet.set_disk_auto_delete(
            call.zone, call.name, device, auto_delete, request_id=call.request_id
        )

    def _serial_port(self, call: _Call) -> Json:
        instance = self.fleet.instance(call.zone, call.name)
        if nth := self.faults.strike(
            "console_away", zone=call.zone, instance=call.name, method=call.method
        ):
            raise errors.console_away(instance.path, nth)
        start = _number(call, "start", default=0, low=-(2**63), high=2**63)
        contents, begin, end = instance.serial.read(start)
        return {
            "kind": "compute#serialPortOutput",
            "selfLink": link(f"{instance.path}/serialPort"),
            "contents": contents,
            "start": str(begin),
            "next": str(end),
        }

    async def _wait(self, call: _Call) -> Json:
        operation = self.fleet.operation(call.zone, call.name)
        try:
            async with asyncio.timeout(_WAIT_LIMIT_SECONDS):
                await operation.done.wait()
        except TimeoutError:
            pass  # the caller gets the operation as it is, and may wait again
        return self.fleet.operation(call.zone, call.name).resource

    def _list_zones(self, call: _Call) -> Json:
        path = f"projects/{self._project_id}/zones"
        matches = compile_filter(call.query.get("filter", ""))
        zones = [zone for zone in map(self._zone, self.fleet.zones) if matches(zone)]
        return {"kind": "compute#zoneList", "id": path, "items": zones, "selfLink": link(path)}

    def _get_zone(self, call: _Call) -> Json:
        if call.name not in self.fleet.zones:
            raise errors.not_found(f"projects/{self._project_id}/zones/{call.name}")
        return self._zone(call.name)

    def _zone(self, name: str) -> Json:
        project = f"projects/{self._project_id}"
        return {
            "kind": "compute#zone",
            "id": str(2000 + self.fleet.zones.index(name)),
            "name": name,
            "description": name,
            "status": "UP",
            "region": link(f"{project}/regions/{region_of(name)}"),
            "selfLink": link(f"{project}/zones/{name}"),
        }

    def _get_machine_type(self, call: _Call) -> Json:
        path = f"projects/{self._project_id}/zones/{call.zone}/machineTypes/{call.name}"
        shape = MACHINE_TYPES.get(call.name)
        if not shape:
            raise errors.not_found(path)
        return {
            "kind": "compute#machineType",
            "id": str(3000 + list(MACHINE_TYPES).index(call.name)),
            "name": call.name,
            "description": f"{shape.cpus} vCPUs, {shape.memory_mib / 1024:g} GB RAM",
            "guestCpus": shape.cpus,
            "memoryMb": shape.memory_mib,
            "zone": call.zone,
            "selfLink": link(path),
        }

    # The switches

    def _control_routes(self) -> list[web.RouteDef]:
        machine = "/localcloud/machines/{name}"
        return [
            web.get("/localcloud/faults", self._serve_faults),
            web.post("/localcloud/faults", self._switch_fault),
            web.delete("/localcloud/faults", self._clear_faults),
            web.post("/localcloud/reset", self._reset),
            web.get("/localcloud/history", self._serve_history),
            web.get("/localcloud/machines", self._serve_machines),
            web.post(machine + "/connected", self._set_connected),
            web.post(machine + "/keep-awake", self._keep_awake),
            web.post(machine + "/host-error", self._host_error),
            web.post(machine + "/age", self._make_old),
        ]

    async def _serve_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"faults": self.faults.describe()})

    async def _switch_fault(self, request: web.Request) -> web.Response:
        body = _fault_switch(await _object(request))
        try:
            if body.pop("off"):
                self.faults.switch_off(body["name"], zone=body["zone"])
            else:
                self.faults.switch_on(**body)
        except ValueError as error:
            raise ComputeError(400, "invalid", str(error)) from error
        self.fleet.strike_running()
        return await self._serve_faults(request)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self.faults.clear()
        return await self._serve_faults(request)

    async def _reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})

    async def _serve_history(self, _: web.Request) -> web.Response:
        reports = list(self._machines.reports) if self._machines else []
        return web.json_response(
            {"calls": list(self._history), "states": list(self.fleet.states), "reports": reports}
        )

    async def _serve_machines(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"machines": [self._machine(instance) for instance in self.fleet.instances()]}
        )

    async def _set_connected(self, request: web.Request) -> web.Response:
        instance = self._instance_called(request.match_info["name"])
        connected = await _truth(request, "connected")
        if self._machines:
            self._machines.set_connected(instance, connected=connected)
        return web.json_response(self._machine(instance))

    async def _keep_awake(self, request: web.Request) -> web.Response:
        instance = self._instance_called(request.match_info["name"])
        awake = await _truth(request, "awake")
        if self._machines:
            self._machines.keep_awake(instance, awake=awake)
        return web.json_response(self._machine(instance))

    async def _host_error(self, request: web.Request) -> web.Response:
        instance = self._instance_called(request.match_info["name"])
        self.fleet.host_error(instance.zone, instance.name)
        return web.json_response(self._machine(instance))

    async def _make_old(self, request: web.Request) -> web.Response:
        instance = self._instance_called(request.match_info["name"])
        age = timedelta(seconds=await _whole_seconds(request, "seconds"))
        self.fleet.make_old(instance.zone, instance.name, age)
        return web.json_response(self._machine(instance))

    def _instance_called(self, name: str) -> Instance:
        for instance in self.fleet.instances():
            if instance.name == name:
                return instance
        raise errors.not_found(f"machines/{name}")

    def _machine(self, instance: Instance) -> Json:
        guest = self._machines.describe(instance) if self._machines else {}
        return {
            "name": instance.name,
            "zone": instance.zone,
            "id": instance.id,
            "status": instance.status,
            **guest,
        }


@web.middleware
async def _refusals_as_answers(
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


def _refuse(_: web.Request, status: int, text: str) -> web.Response:
    return web.json_response(ComputeError(status, "forbidden", text).body(), status=status)


async def _object(request: web.Request) -> Json:
    """Return a request's JSON object; an empty body is an empty one.

    Raises:
        ComputeError: 400 when it is something else.
    """
    try:
        body = json.loads(await request.text() or "{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ComputeError(400, "parseError", "Parse Error")
    return body


async def _truth(request: web.Request, member: str) -> bool:
    """Return a member of a request's JSON object that is true or false.

    Raises:
        ComputeError: 400 when it is something else.
    """
    value = (await _object(request)).get(member)
    if not isinstance(value, bool):
        raise errors.invalid_value(member, value, "It is true or false.")
    return value


async def _whole_seconds(request: web.Request, member: str) -> int:
    """Return a member of a request's JSON object that is a whole number of seconds, of at most ten years.

    Raises:
        ComputeError: 400 when it is something else.
    """
    value = (await _object(request)).get(member)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _OLDEST_SECONDS:
        raise errors.invalid_value(
            member, value, f"It is a whole number from 0 to {_OLDEST_SECONDS}."
        )
    return value


def _fault_switch(body: Json) -> Json:
    """Return what a request to switch a fault says, every member of it: name, count, zone, method, instance, off.

    Raises:
        ComputeError: 400 for an unknown member or a wrong type.
    """
    kinds = {
        "name": str,
        "count": int | None,
        "zone": str | None,
        "method": str | None,
        "instance": str | None,
        "off": bool,
    }
    switch = {
        "name": "",
        "count": None,
        "zone": None,
        "method": None,
        "instance": None,
        "off": False,
    } | body
    for member, value in switch.items():
        if member not in kinds:
            raise errors.invalid_value(member, value, f"There are: {', '.join(kinds)}.")
        if not isinstance(value, kinds[member]) or (member == "count" and isinstance(value, bool)):
            raise errors.invalid_value(member, value, "The value has the wrong type.")
    return switch


def _on_zone(verb: Callable[..., Operation]) -> Callable[[_Call], Operation]:
    return lambda call: verb(call.zone, call.body, request_id=call.request_id)


def _on_name(verb: Callable[..., Operation]) -> Callable[[_Call], Operation]:
    return lambda call: verb(call.zone, call.name, request_id=call.request_id)


def _on_name_and_body(verb: Callable[..., Operation]) -> Callable[[_Call], Operation]:
    return lambda call: verb(call.zone, call.name, call.body, request_id=call.request_id)


def _on_name_and_local_ssd(verb: Callable[..., Operation]) -> Callable[[_Call], Operation]:
    def act(call: _Call) -> Operation:
        discard = _flag(call, "discardLocalSsd")
        return verb(call.zone, call.name, discard_local_ssd=discard, request_id=call.request_id)

    return act


def _flag(call: _Call, name: str) -> bool | None:
    """Return a query parameter that is `true` or `false`; None where it is missing.

    Raises:
        ComputeError: 400 when it is something else.
    """
    text = call.query.get(name)
    if text is not None and text.lower() not in {"true", "false"}:
        raise errors.invalid_value(name, text, "It is true or false.")
    return None if text is None else text.lower() == "true"


def _is_request_id(text: str) -> bool:
    try:
        return uuid.UUID(text).int != 0
    except ValueError:
        return False


def _number(call: _Call, name: str, *, default: int, low: int, high: int) -> int:
    text = call.query.get(name) or str(default)
    try:
        number = int(text)
    except ValueError:
        number = high + 1
    if not low <= number <= high:
        raise errors.invalid_value(name, text, f"The value must be a number from {low} to {high}.")
    return number


def _page(call: _Call, resources: Sequence[_Resource]) -> tuple[list[_Resource], str | None]:
    """Return those resources that the call's filter takes and its page holds, and the token of the next page, if any.

    A token names the last resource that was shown, so what comes and goes between two pages moves
    nothing.
    """
    matches = compile_filter(call.query.get("filter", ""))
    limit = _number(call, "maxResults", default=_PAGE_LIMIT, low=0, high=_PAGE_LIMIT) or _PAGE_LIMIT
    after = _read_page_token(call.query.get("pageToken", ""))
    rest = [row for row in resources if [row.zone, row.name] > after and matches(row.resource)]
    page = rest[:limit]
    further = len(rest) > limit
    return page, _page_token([page[-1].zone, page[-1].name]) if further else None


def _page_token(last: list[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(last).encode()).decode()


def _read_page_token(token: str) -> list[str]:
    try:
        last = json.loads(base64.urlsafe_b64decode(token)) if token else []
    except ValueError:
        last = None
    if not isinstance(last, list) or not all(isinstance(part, str) for part in last):
        raise errors.invalid_value("pageToken", token, "The page token is not one of this list.")
    return last


def _no_results(scope: str) -> Json:
    return {
        "code": "NO_RESULTS_ON_PAGE",
        "message": f"There are no results for scope '{scope}' on this page.",
        "data": [{"key": "scope", "value": scope}],
    }
