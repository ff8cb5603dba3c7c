"""The services of the platform that this process serves itself, and how they are put together."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from localcloud.catalogue import EVERYONE
from localcloud.services.api_gateway import Gateway, Routes
from localcloud.services.cloud_run_front import CloudRunFront, TokenVerifier, Traffic
from localcloud.services.cloud_tasks import CloudTasksServer
from localcloud.services.cloud_tasks.create_queues import create_queues
from localcloud.services.compute.guests import SimulatedGuests
from localcloud.services.compute.server import ComputeServer
from localcloud.services.control_api import ControlServer
from localcloud.services.identity import DEVELOPER_EMAIL, IdentityService
from localcloud.services.proxy import new_session
from localcloud.services.pubsub import PushRelay, create_topology
from localcloud.services.scheduler import Scheduler
from localcloud.settings import TIMES, Addresses, LocalSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AsyncExitStack

    import aiohttp

    from localcloud.catalogue import Catalogue, Function
    from localcloud.services.requests_file import RequestsFile

_LOG = logging.getLogger(__name__)

_DRAIN_SECONDS: Final = 10.0
_RESET_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02


class Platform:
    """Cloud Tasks, Compute, identity and metadata, the fronts, the push relay, the scheduler, the gateway, and the control port.

    Args:
        settings: the choices.
        catalogue: the functions.
        targets: each function's own address by its name.
        firestore: `host:port` of the emulator.
        pubsub: `host:port` of the emulator.
        port: the public one; 0 picks a free one.
        make_admin: makes whoever has this e-mail address an administrator.
        session: the connections to everything.
        requests_file: where what is asked and answered at the public port is written down; None:
            nowhere.
    """

    def __init__(
        self,
        settings: LocalSettings,
        *,
        catalogue: Catalogue,
        targets: Mapping[str, str],
        firestore: str,
        pubsub: str,
        port: int,
        make_admin: Callable[[str], Awaitable[None]],
        session: aiohttp.ClientSession,
        requests_file: RequestsFile | None = None,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._targets = targets
        self._firestore = firestore
        self._pubsub = pubsub
        self._make_admin = make_admin
        self._session = session
        self._resetting = asyncio.Lock()
        self.urls: dict[str, str] = {}
        self._traffic = Traffic()
        self._identity = IdentityService(
            project_id=settings.project_id, project_number=settings.project_number
        )
        self._tasks = CloudTasksServer(mint_token=self._token)
        self._gateway = Gateway(
            routes=Routes(catalogue.functions),
            urls=self.urls,
            session=session,
            developer_token=lambda: self._identity.user_token(
                email=DEVELOPER_EMAIL, audience=self.address
            ),
            port=port,
            requests_file=requests_file,
        )
        self._relay = PushRelay(
            urls=self.urls, mint_token=self._token_of("provisioning-push"), session=session
        )
        self._scheduler = Scheduler(
            functions=catalogue.functions,
            urls=self.urls,
            mint_token=self._token_of("scheduler"),
            session=session,
            pause_seconds=settings.schedule_seconds,
        )

    async def start(self, stack: AsyncExitStack) -> None:
        """Serve everything; `stack` gets the end of it. Nothing calls a function yet.

        Raises:
            OSError: the public port is taken.
        """
        await self._gateway.start()
        stack.push_async_callback(self._gateway.stop)
        await self._identity.start()
        stack.push_async_callback(self._identity.stop)
        await self._tasks.start()
        stack.push_async_callback(self._tasks.stop)
        await self._start_compute(stack)
        await self._start_fronts(stack)
        await self._relay.start()
        stack.push_async_callback(self._relay.stop)
        self._control = ControlServer(
            deliveries=[self._relay, self._tasks.delivery],
            compute_url=self._compute.url,
            reset=self.reset,
            make_admin=self._make_admin,
            session=self._session,
        )
        await self._control.start()
        stack.push_async_callback(self._control.stop)
        location = f"projects/{self._settings.project_id}/locations/{self._settings.region}"
        await create_queues(self._tasks.address, location, self._catalogue.functions)

    async def subscribe(self) -> None:
        """Make the topics and subscriptions, once the Pub/Sub emulator is ready."""
        await create_topology(
            self._pubsub,
            self._settings.project_id,
            self._catalogue.functions,
            self._relay.url,
            self._session,
        )

    def start_schedule(self, stack: AsyncExitStack) -> None:
        """Begin to call the scheduled functions."""
        self._scheduler.start()
        stack.push_async_callback(self._scheduler.stop)

    @property
    def address(self) -> str:
        """The public address."""
        return self._gateway.url

    def addresses(self) -> Addresses:
        """Return where everything is that the functions have to know."""
        return Addresses(
            gateway=self.address,
            firestore=self._firestore,
            pubsub=self._pubsub,
            tasks=self._tasks.address,
            compute=self._compute.url.removeprefix("http://"),
            keys=self._identity.keys_url,
            advance_operation=self.urls["advance_operation"],
            report_workspace=self.urls["report_workspace"],
        )

    def describe(self) -> dict[str, str]:
        """Return the addresses of the services, for the state file."""
        return {
            "firestore": self._firestore,
            "pubsub": self._pubsub,
            "tasks": self._tasks.address,
            "compute": self._compute.url,
            "identity": self._identity.url,
            "control": self._control.url,
        }

    async def reset(self) -> None:
        """Make everything as new: no records, no tasks, no messages, no machines, no faults.

        What is under way is waited for, then everything is emptied again: a function may just have
        made something.
        """
        async with self._resetting:
            await self._scheduler.stop()
            try:
                self._forget()
                await self._drain()
                self._forget()
                await self._empty_firestore()
            finally:
                self._scheduler.start()

    async def _start_compute(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        machines = SimulatedGuests(metadata_url=self._identity.url)
        self._compute = ComputeServer(
            project_id=settings.project_id,
            project_number=settings.project_number,
            zones=settings.zones,
            times=TIMES[settings.times],
            machines=machines,
        )
        self._identity.fleet = self._compute.fleet
        await self._compute.start()
        stack.push_async_callback(self._compute.stop)

    async def _start_fronts(self, stack: AsyncExitStack) -> None:
        verifier = TokenVerifier(self._identity.keys_url, self._session)
        session = await stack.enter_async_context(new_session(reuse_connections=False))
        for function in self._catalogue.functions:
            front = CloudRunFront(
                function,
                target=self._targets[function.name],
                invoker=self._invoker(function),
                verifier=verifier,
                traffic=self._traffic,
                session=session,
            )
            await front.start()
            stack.push_async_callback(front.stop)
            self.urls[function.name] = front.url

    def _invoker(self, function: Function) -> str | None:
        return (
            None
            if function.invoker == EVERYONE
            else self._settings.service_account(function.invoker)
        )

    def _token(self, email: str, audience: str) -> str:
        return self._identity.service_account_token(email=email, audience=audience)

    def _token_of(self, name: str) -> Callable[[str], str]:
        email = self._settings.service_account(name)
        return lambda audience: self._token(email, audience)

    def _forget(self) -> None:
        self._relay.forget_messages()
        self._tasks.reset()
        self._compute.reset()

    async def _drain(self) -> None:
        """Wait until no function has anything to do."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._traffic.rest()
        except TimeoutError:
            _LOG.warning("reset: some requests did not come to an end")

    async def _empty_firestore(self) -> None:
        project = f"projects/{self._settings.project_id}"
        url = f"http://{self._firestore}/emulator/v1/{project}/databases/(default)/documents"
        async with asyncio.timeout(_RESET_SECONDS):
            while True:
                async with self._session.delete(url) as answer:
                    if answer.status == 200:
                        return
                await asyncio.sleep(_POLL_SECONDS)  # 409: a transaction is open
