"""What tests and the command line control about a running local cloud, on a port of its own.

Everything is JSON, needs the local cloud's secret, and keeps web pages off.

    GET    /localcloud/faults   the faults that are on
    POST   /localcloud/faults   {name, …}: on; {name, off: true}: off
    DELETE /localcloud/faults   switch all faults off
    POST   /localcloud/reset    delete all records, tasks, messages, machines and faults
    POST   /localcloud/admins   {email}: add an administrator; when this answers, every function for
                                people knows them
    POST   /localcloud/pause    {service, paused}: have ``firestore`` or ``pubsub`` stop answering,
                                or answer again
    POST   /localcloud/functions/{name}/process
                                start a function if it does not run, and return its pid

Three faults are those of delivery, see ``delivery_faults.py``: ``duplicate_delivery``;
``late_delivery {seconds}``, by default 2 s; and ``unreliable_delivery {lost, twice, seconds,
seed}``, by default 0.05 of the deliveries are lost, 0.1 come twice, and each comes up to 2 s later.
The others are those of Compute, whose server is called.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from localcloud.machines.machine import MachinePlan
from localcloud.processes.children import Child, LocalCloudError
from localcloud.services.compute.faults import FAULTS
from localcloud.services.delivery_faults import DELIVERY_FAULTS, DeliveryFaults, Unreliability
from localcloud.services.http_server import GuardRules, HttpServer, demand_secret
from shared.config import ConfigurationError

PAUSABLE = ("firestore", "pubsub")
_DEFAULT_NUMBERS = {"lost": 0.05, "twice": 0.1, "seconds": 2.0}
_FAULTS_PATH = "/localcloud/faults"


class Processes(Protocol):
    """What the services need of the local cloud's processes."""

    async def make_admin(self, email: str) -> None:
        """Make whoever has this e-mail address an administrator.

        Raises:
            ConfigurationError: the Hub does not accept this administrator.
        """

    async def find_instance(self, function: str) -> str:
        """Start a function's process if it does not run, and return its address, a URL.

        Raises:
            LocalCloudError: it does not start.
            KeyError: there is no such function.
        """

    async def start_machine(self, plan: MachinePlan, cloud: socket.socket) -> Child:
        """Start the first process of a machine, with a socket that connects it with the cloud.

        Raises:
            OSError: it does not start.
        """

    def machines_changed(self) -> None:
        """Notice that a machine has got a first process, or lost it."""

    def function_pid(self, function: str) -> int | None:
        """Return the id of a function's process; None if it does not run."""

    def pause_process(self, service: str, *, paused: bool) -> None:
        """Stop the process of a service by SIGSTOP, or let it go on.

        Raises:
            KeyError: the service has no process of its own.
        """


class Data(Protocol):
    """What keeps data: Firestore, Pub/Sub, Cloud Tasks and Compute."""

    async def reset(self) -> None:
        """Delete everything, and end all pauses."""

    def pause(self, service: str, *, paused: bool) -> None:
        """Have a service of ``PAUSABLE`` stop answering, or answer again."""


@dataclass(frozen=True, kw_only=True)
class ControlledCompute:
    """The local Compute Engine: its address, a URL, and the connections to it."""

    url: str
    session: aiohttp.ClientSession


class ControlApi(HttpServer):
    """The control API.

    Args:
        deliverers: the faults of everything that delivers.
        compute: the local Compute Engine, for its faults.
        data: resets and pauses everything that keeps data.
        processes: the processes of the cloud.
        secret: the local cloud's.
    """

    def __init__(
        self,
        *,
        deliverers: Sequence[DeliveryFaults],
        compute: ControlledCompute,
        data: Data,
        processes: Processes,
        secret: str,
    ) -> None:
        self._deliverers = deliverers
        self._compute = compute
        self._data = data
        self._processes = processes
        self._secret = secret
        super().__init__(
            [
                web.get(_FAULTS_PATH, self._list_faults),
                web.post(_FAULTS_PATH, self._switch_fault),
                web.delete(_FAULTS_PATH, self._clear_faults),
                web.post("/localcloud/reset", self._serve_reset),
                web.post("/localcloud/admins", self._serve_admin),
                web.post("/localcloud/pause", self._serve_pause),
                web.post("/localcloud/functions/{name}/process", self._serve_process),
            ],
            rules=GuardRules(refuse=_refuse),
            middlewares=[demand_secret(secret, _refuse)],
        )

    def _clear_delivery_faults(self) -> None:
        for fault in DELIVERY_FAULTS.values():
            for deliverer in self._deliverers:
                fault.switch(deliverer, None)

    async def _list_faults(self, _: web.Request) -> web.Response:
        return await self._call_compute("GET")

    async def _switch_fault(self, request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.text())
            name = str(body["name"])
            is_on = not body.get("off", False)
            numbers = {
                member: float(body.get(member, default))
                for member, default in _DEFAULT_NUMBERS.items()
            }
            seed = int(body.get("seed", 0))
        except (ValueError, TypeError, KeyError, AttributeError):
            return _refusal("The body is a JSON object with a name.")
        if name in FAULTS:
            return await self._call_compute("POST", body)
        if name not in DELIVERY_FAULTS:
            names = ", ".join([*FAULTS, *DELIVERY_FAULTS])
            return _refusal(f"There is no fault '{name}'. There are: {names}.")
        try:
            unreliability = Unreliability(**numbers, seed=seed)
        except ValueError as error:
            return _refusal(str(error))
        for deliverer in self._deliverers:
            DELIVERY_FAULTS[name].switch(deliverer, unreliability if is_on else None)
        return await self._call_compute("GET")

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._clear_delivery_faults()
        return await self._call_compute("DELETE")

    async def _serve_reset(self, _: web.Request) -> web.Response:
        self._clear_delivery_faults()
        await self._data.reset()
        return web.json_response({})

    async def _serve_admin(self, request: web.Request) -> web.Response:
        try:
            email = json.loads(await request.text())["email"].strip()
        except (ValueError, TypeError, KeyError, AttributeError):
            return _refusal("The body is a JSON object with an email.")
        try:
            await self._processes.make_admin(email)
        except ConfigurationError as error:
            return _refusal(str(error))
        return web.json_response({})

    async def _serve_pause(self, request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.text())
            service, paused = body["service"], body["paused"]
        except (ValueError, TypeError, KeyError):
            return _refusal("The body is a JSON object with service and paused.")
        if service not in PAUSABLE or not isinstance(paused, bool):
            return _refusal(f"service is one of {', '.join(PAUSABLE)}, and paused true or false.")
        self._data.pause(service, paused=paused)
        return web.json_response({})

    async def _serve_process(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            await self._processes.find_instance(name)
        except KeyError:
            return _refusal(f"There is no function '{name}'.", 404)
        except LocalCloudError as error:
            return _refusal(str(error), 500)
        return web.json_response({"pid": self._processes.function_pid(name)})

    async def _call_compute(self, method: str, body: Any = None) -> web.Response:
        """Call Compute's control API, and answer with all faults that are on."""
        headers = {
            "Authorization": f"Bearer {self._secret}",
            "Content-Type": "application/json",  # the session adds none
        }
        async with self._compute.session.request(
            method, self._compute.url + _FAULTS_PATH, json=body, headers=headers
        ) as answer:
            content = await answer.json()
            if answer.status == 200:
                content["faults"] += self._describe_delivery_faults()
            return web.json_response(content, status=answer.status)

    def _describe_delivery_faults(self) -> list[dict[str, Any]]:
        return [
            {"name": fault.name, **members, "does": fault.does}
            for fault in DELIVERY_FAULTS.values()
            if (members := fault.describe(self._deliverers)) is not None
        ]


def _refuse(_: web.Request, status: int, text: str) -> web.Response:
    return _refusal(text, status)


def _refusal(message: str, status: int = 400) -> web.Response:
    """Answer in the form in which Compute's control API refuses."""
    return web.json_response({"error": {"message": message}}, status=status)
