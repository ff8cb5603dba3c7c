"""What tests and the command line control about the local Compute Engine, with its secret.

GET    /localcloud/faults                     the faults that are on
POST   /localcloud/faults                     {name, count, zone, method, instance}: on;
                                              {name, off: true, zone}: off
DELETE /localcloud/faults                     switch all faults off
POST   /localcloud/reset                      forget all resources, operations and faults
GET    /localcloud/history                    what happened, each oldest first: calls that
                                              change something, states of instances, of disks
                                              and snapshots, reports
GET    /localcloud/machines                   every machine: its state, its guest, its reports
POST   /localcloud/machines/{name}/connected  {connected}: whether somebody is connected, so
                                              that it sends heartbeats
POST   /localcloud/machines/{name}/keep-awake {awake}: whether somebody keeps touching
                                              `~/.keep-awake`, so that it sends heartbeats
POST   /localcloud/machines/{name}/host-error its host fails: REPAIRING
POST   /localcloud/machines/{name}/age        {seconds}: how long ago it was created, with its
                                              boot disk
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from aiohttp import web

from localcloud.services.compute import errors
from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.calls import read_object
from localcloud.services.compute.errors import ComputeError
from localcloud.services.compute.fleet import Fleet
from localcloud.services.compute.guests import SimulatedGuests
from localcloud.services.compute.resources import Instance, Json

_MACHINE = "/localcloud/machines/{name}"
_OLDEST_SECONDS = 10 * 365 * 24 * 3600

# The members of a request to switch a fault: the type of each, and its default.
_FAULT_MEMBERS: dict[str, tuple[Any, Any]] = {
    "name": (str, ""),
    "count": (int | None, None),
    "zone": (str | None, None),
    "method": (str | None, None),
    "instance": (str | None, None),
    "off": (bool, False),
}


class ComputeControlApi:
    """The control API of a local Compute Engine.

    Args:
        fleet: its resources.
        faults: its faults.
        guests: its guests, if it has some.
        calls: the calls that have changed something.
        reset: resets it.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        faults: ActiveFaults,
        guests: SimulatedGuests | None,
        calls: deque[Json],
        reset: Callable[[], None],
    ) -> None:
        self._fleet = fleet
        self._faults = faults
        self._guests = guests
        self._calls = calls
        self._reset_compute = reset

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/localcloud/faults", self._list_faults),
            web.post("/localcloud/faults", self._switch_fault),
            web.delete("/localcloud/faults", self._clear_faults),
            web.post("/localcloud/reset", self._reset),
            web.get("/localcloud/history", self._show_history),
            web.get("/localcloud/machines", self._list_machines),
            web.post(_MACHINE + "/connected", self._set_connected),
            web.post(_MACHINE + "/keep-awake", self._keep_awake),
            web.post(_MACHINE + "/host-error", self._host_error),
            web.post(_MACHINE + "/age", self._make_old),
        ]

    async def _list_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"faults": self._faults.describe()})

    async def _switch_fault(self, request: web.Request) -> web.Response:
        body = _fault_members(await read_object(request))
        try:
            if body.pop("off"):
                self._faults.switch_off(body["name"], zone=body["zone"])
            else:
                self._faults.switch_on(**body)
        except ValueError as error:
            raise ComputeError(400, "invalid", str(error)) from error
        self._fleet.lifecycle.strike_running()
        return await self._list_faults(request)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear()
        return await self._list_faults(request)

    async def _reset(self, _: web.Request) -> web.Response:
        self._reset_compute()
        return web.json_response({})

    async def _show_history(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "calls": list(self._calls),
                "states": list(self._fleet.lifecycle.history),
                "contents": list(self._fleet.contents_history),
                "reports": list(self._guests.reports) if self._guests else [],
            }
        )

    async def _list_machines(self, _: web.Request) -> web.Response:
        machines = [self._describe(instance) for instance in self._fleet.instances.all()]
        return web.json_response({"machines": machines})

    async def _set_connected(self, request: web.Request) -> web.Response:
        instance = self._instance_of(request)
        connected = await _read_boolean(request, "connected")
        if self._guests:
            self._guests.set_connected(instance, connected=connected)
        return web.json_response(self._describe(instance))

    async def _keep_awake(self, request: web.Request) -> web.Response:
        instance = self._instance_of(request)
        awake = await _read_boolean(request, "awake")
        if self._guests:
            self._guests.keep_awake(instance, awake=awake)
        return web.json_response(self._describe(instance))

    async def _host_error(self, request: web.Request) -> web.Response:
        instance = self._instance_of(request)
        self._fleet.lifecycle.host_error(instance.zone, instance.name)
        return web.json_response(self._describe(instance))

    async def _make_old(self, request: web.Request) -> web.Response:
        instance = self._instance_of(request)
        age = timedelta(seconds=await _read_seconds(request, "seconds"))
        self._fleet.instances.make_old(instance.zone, instance.name, age)
        return web.json_response(self._describe(instance))

    def _instance_of(self, request: web.Request) -> Instance:
        name = request.match_info["name"]
        for instance in self._fleet.instances.all():
            if instance.name == name:
                return instance
        raise errors.not_found(f"machines/{name}")

    def _describe(self, instance: Instance) -> Json:
        guest = self._guests.describe(instance) if self._guests else {}
        return {
            "name": instance.name,
            "zone": instance.zone,
            "id": instance.id,
            "status": instance.status,
            **guest,
        }


async def _read_boolean(request: web.Request, member: str) -> bool:
    """Return a member of a request's JSON object that is true or false.

    Raises:
        ComputeError: 400 if it is something else.
    """
    value = (await read_object(request)).get(member)
    if not isinstance(value, bool):
        raise errors.invalid_value(member, value, "It is true or false.")
    return value


async def _read_seconds(request: web.Request, member: str) -> int:
    """Return a member of a request's JSON object that is whole seconds, ten years at most.

    Raises:
        ComputeError: 400 if it is something else.
    """
    value = (await read_object(request)).get(member)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _OLDEST_SECONDS:
        why = f"It is a whole number from 0 to {_OLDEST_SECONDS}."
        raise errors.invalid_value(member, value, why)
    return value


def _fault_members(body: Json) -> Json:
    """Return every member of a request to switch a fault, with defaults.

    Raises:
        ComputeError: 400 for an unknown member or a wrong type.
    """
    members = {name: default for name, (_, default) in _FAULT_MEMBERS.items()} | body
    for name, value in members.items():
        if name not in _FAULT_MEMBERS:
            raise errors.invalid_value(name, value, f"There are: {', '.join(_FAULT_MEMBERS)}.")
        wrong_number = name == "count" and isinstance(value, bool)
        if wrong_number or not isinstance(value, _FAULT_MEMBERS[name][0]):
            raise errors.invalid_value(name, value, "The value has the wrong type.")
    return members
