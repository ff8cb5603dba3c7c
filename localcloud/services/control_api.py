"""What tests and the command line, but no web page, switch about a running local cloud as a whole, on a port of its own, all JSON.

    GET    /localcloud/faults   what is on
    POST   /localcloud/faults   {name, …}: on; {name, off: true}: off
    DELETE /localcloud/faults   all off
    POST   /localcloud/reset    no records, no tasks, no messages, no machines, no faults
    POST   /localcloud/admins   {email}: one more administrator, known to every function for people when this answers

Three faults are the platform's, and are switched here: `duplicate_delivery`, every message and task
is delivered twice at the same moment; `late_delivery {seconds}`, every one comes so much later (2
s); `unreliable_delivery {lost, twice, seconds, seed}`, some are lost (0.05 of them), some come
twice (0.1), and each comes later by a random time (up to 2 s), see `localcloud.services.delivery_faults`. The other
ones are Compute's, whose server is asked.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from localcloud.processes.children import LocalCloudError
from localcloud.services.compute.faults import FAULTS
from localcloud.services.delivery_faults import Fates, Unreliability
from localcloud.services.proxy import PortServer
from shared.config import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import aiohttp

DUPLICATE_DELIVERY: Final = "duplicate_delivery"
LATE_DELIVERY: Final = "late_delivery"
UNRELIABLE_DELIVERY: Final = "unreliable_delivery"

_DEFAULT_LATENESS_SECONDS: Final = 2.0
_DEFAULT_SHARES: Final = {"lost": 0.05, "twice": 0.1}
_FAULTS: Final = "/localcloud/faults"
_DOES: Final = {
    DUPLICATE_DELIVERY: "every message and every task is delivered twice at the same moment",
    LATE_DELIVERY: "every message and every task comes later than it is due",
    UNRELIABLE_DELIVERY: "messages and tasks are lost, come twice, and come in any order",
}


class Delivery(Protocol):
    """Something that delivers, and can be made to do it badly."""

    duplicate: bool
    delay_seconds: float
    fates: Fates


class ControlServer:
    """The port.

    Args:
        deliveries: all that deliver.
        compute_url: the local Compute Engine, for its faults.
        reset: makes everything as new.
        make_admin: makes whoever has this e-mail address an administrator.
        session: the connections to Compute.
    """

    def __init__(
        self,
        *,
        deliveries: Sequence[Delivery],
        compute_url: str,
        reset: Callable[[], Awaitable[None]],
        make_admin: Callable[[str], Awaitable[None]],
        session: aiohttp.ClientSession,
    ) -> None:
        self._deliveries = deliveries
        self._compute_url = compute_url
        self._reset = reset
        self._make_admin = make_admin
        self._session = session
        self._unreliability = Unreliability()
        self._server = PortServer(
            [
                web.get(_FAULTS, self._list_faults),
                web.post(_FAULTS, self._switch_fault),
                web.delete(_FAULTS, self._clear_faults),
                web.post("/localcloud/reset", self._serve_reset),
                web.post("/localcloud/admins", self._serve_admin),
            ],
            refuse=lambda _, status, text: _refusal(text, status),
        )

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return self._server.url

    async def start(self) -> None:
        """Serve; from now on `url` is known."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._server.stop()

    def _deliver_well(self) -> None:
        """Switch the faults of delivery off."""
        self._be_unreliable(Unreliability())
        for delivery in self._deliveries:
            delivery.duplicate = False
            delivery.delay_seconds = 0.0

    def _be_unreliable(self, how: Unreliability) -> None:
        self._unreliability = how
        for delivery in self._deliveries:
            delivery.fates = Fates(how)

    async def _list_faults(self, _: web.Request) -> web.Response:
        return await self._compute("GET")

    async def _switch_fault(self, request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.text())
            name = str(body["name"])
            on, seconds = (
                not body.get("off", False),
                float(body.get("seconds", _DEFAULT_LATENESS_SECONDS)),
            )
            shares = {
                share: float(body.get(share, usual)) for share, usual in _DEFAULT_SHARES.items()
            }
            seed = int(body.get("seed", 0))
        except (ValueError, TypeError, KeyError, AttributeError):
            return _refusal("The body is a JSON object with a name.")
        if name in FAULTS:
            return await self._compute("POST", body)
        if name not in _DOES:
            return _refusal(
                f"There is no fault '{name}'. There are: {', '.join([*FAULTS, *_DOES])}."
            )
        try:
            how = Unreliability(**shares, seconds=seconds, seed=seed)
        except ValueError as error:
            return _refusal(str(error))
        if name == UNRELIABLE_DELIVERY:
            self._be_unreliable(how if on else Unreliability())
        for delivery in self._deliveries:
            if name == DUPLICATE_DELIVERY:
                delivery.duplicate = on
            elif name == LATE_DELIVERY:
                delivery.delay_seconds = seconds if on else 0.0
        return await self._compute("GET")

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._deliver_well()
        return await self._compute("DELETE")

    async def _serve_reset(self, _: web.Request) -> web.Response:
        self._deliver_well()
        await self._reset()
        return web.json_response({})

    async def _serve_admin(self, request: web.Request) -> web.Response:
        try:
            email = json.loads(await request.text())["email"].strip()
        except (ValueError, TypeError, KeyError, AttributeError):
            return _refusal("The body is a JSON object with an email.")
        try:
            await self._make_admin(email)
        except ConfigurationError as error:
            return _refusal(str(error))
        except LocalCloudError as error:
            return _refusal(str(error), 500)
        return web.json_response({})

    async def _compute(self, method: str, body: Any = None) -> web.Response:
        """Have Compute do its part, and answer with all that is on."""
        headers = {"Content-Type": "application/json"}  # the session adds none
        async with self._session.request(
            method, self._compute_url + _FAULTS, json=body, headers=headers
        ) as answer:
            content = await answer.json()
            if answer.status == 200:
                content["faults"] += self._faults_of_delivery()
            return web.json_response(content, status=answer.status)

    def _faults_of_delivery(self) -> list[dict[str, Any]]:
        delivery = self._deliveries[0]
        on: list[dict[str, Any]] = []
        if delivery.duplicate:
            on.append({"name": DUPLICATE_DELIVERY})
        if delivery.delay_seconds:
            on.append({"name": LATE_DELIVERY, "seconds": delivery.delay_seconds})
        if self._unreliability != Unreliability():
            fates = [delivery.fates for delivery in self._deliveries]
            so_far = {
                name: sum(getattr(each, name) for each in fates)
                for name in ("deliveries", "lost", "twice")
            }
            on.append(
                {"name": UNRELIABLE_DELIVERY, **asdict(self._unreliability), "so_far": so_far}
            )
        return [{**fault, "does": _DOES[fault["name"]]} for fault in on]


def _refusal(message: str, status: int = 400) -> web.Response:
    """Answer in the form in which Compute's control port refuses."""
    return web.json_response({"error": {"message": message}}, status=status)
