"""Google's services that this process serves, put together."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from localcloud.catalogue import EVERYONE, Catalogue, Function
from localcloud.machines.access import who_may_enter
from localcloud.machines.machines import Machines, MachinesOptions
from localcloud.processes.process_tree import can_hold_machines
from localcloud.services.api_gateway import ApiGateway, Backends, Routes
from localcloud.services.cloud_run_front import (
    ActiveRequests,
    CloudRun,
    CloudRunFront,
    TokenVerifier,
)
from localcloud.services.cloud_tasks.create_queues import create_queues
from localcloud.services.cloud_tasks.server import CloudTasksServer
from localcloud.services.compute.guests import SimulatedGuests
from localcloud.services.compute.resources import Instance
from localcloud.services.compute.server import ComputeServer
from localcloud.services.compute.times import TIMES
from localcloud.services.control_api import PAUSABLE, ControlApi, ControlledCompute, Processes
from localcloud.services.firestore_and_pubsub import Surroundings, firestore_and_pubsub
from localcloud.services.identity.server import IdentityServer
from localcloud.services.identity.tokens import DEVELOPER_EMAIL, UserToken
from localcloud.services.page_sign_in import PageSignIn
from localcloud.services.project import Project
from localcloud.services.proxy import new_session
from localcloud.services.requests_file import RequestsFile
from localcloud.services.scheduler import Scheduler
from localcloud.settings import ADMIN_EMAIL, Addresses, LocalSettings

_LOG = logging.getLogger(__name__)

_MACHINES_NETWORK = "127.77"  # systemd and Debian use addresses in 127.0
# Whom the page offers besides the developer and the administrator.
_OTHER_PEOPLE = ("alice@example.com", "bob@example.com")
_DRAIN_SECONDS = 10.0
_RESET_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class PlatformOptions:
    """What a platform is made of.

    Attributes:
        settings: the choices.
        catalogue: the functions.
        processes: the processes of the functions and emulators.
        firestore: ``host:port`` of Firestore.
        pubsub: ``host:port`` of Google's Pub/Sub emulator.
        port: the public port; 0 picks a free one.
        secret: whoever knows it may do what the cloud's owner may.
        machines_folder: a folder of the cloud's own; it need not exist yet.
        machines_port: the port on which every machine listens, each on an address of its own.
        requests_file: where requests at the public port and their answers are written down; None:
            nowhere.
    """

    settings: LocalSettings
    catalogue: Catalogue
    processes: Processes
    firestore: str
    pubsub: str
    port: int
    secret: str
    machines_folder: Path
    machines_port: int
    requests_file: RequestsFile | None


class Platform:
    """Every service of Google's that this process serves, and the control API.

    Args:
        options: what it is made of.
        session: the connections to everything.

    Attributes:
        urls: the URL of each function by its name.
        machines: the machines that people can enter; None if this system cannot have any.
    """

    def __init__(self, options: PlatformOptions, *, session: aiohttp.ClientSession) -> None:
        settings = options.settings
        self.urls: dict[str, str] = {}
        self._options = options
        self._session = session
        self._resetting = asyncio.Lock()
        self._active_requests = ActiveRequests()
        self.machines = self._new_machines() if can_hold_machines() else None
        self._project = Project(
            id=settings.project_id,
            number=settings.project_number,
            zones=settings.zones,
            network=_MACHINES_NETWORK if self.machines else Project.network,
        )
        self._identity = IdentityServer(self._project, secret=options.secret)
        self._tasks = CloudTasksServer(mint_token=self._identity.issuer.service_account_token)
        self._gateway = ApiGateway(
            Backends(routes=Routes(options.catalogue.functions), urls=self.urls, session=session),
            sign_in=PageSignIn(self._people(), token=self._user_token, secret=options.secret),
            port=options.port,
            requests_file=options.requests_file,
        )
        self._firestore_and_pubsub = firestore_and_pubsub(
            Surroundings(
                settings=settings,
                project=self._project,
                processes=options.processes,
                issuer=self._identity.issuer,
                urls=self.urls,
                session=session,
                firestore=options.firestore,
                pubsub=options.pubsub,
            )
        )
        self._scheduler = Scheduler(
            functions=options.catalogue.functions,
            urls=self.urls,
            mint_token=self._scheduler_token,
            session=session,
            pause_seconds=settings.schedule_seconds,
        )

    async def start(self, stack: AsyncExitStack) -> None:
        """Serve everything until the stack ends. The public address still answers 503.

        Raises:
            OSError: the public port is taken.
        """
        settings = self._options.settings
        await self._gateway.start_within(stack)
        await self._identity.start_within(stack)
        await self._tasks.start_within(stack)
        self._compute = ComputeServer(
            self._project,
            times=TIMES[settings.times],
            secret=self._options.secret,
            guests=SimulatedGuests(metadata_url=self._identity.url, machines=self.machines),
        )
        self._identity.fleet = self._compute.fleet
        await self._compute.start_within(stack)
        await self._start_fronts(stack)
        await self._firestore_and_pubsub.start(stack)
        self._control_api = ControlApi(
            deliverers=[self._firestore_and_pubsub.faults, self._tasks.faults],
            compute=ControlledCompute(url=self._compute.url, session=self._session),
            data=self,
            processes=self._options.processes,
            secret=self._options.secret,
        )
        await self._control_api.start_within(stack)
        location = f"{self._project.path}/locations/{settings.region}"
        await create_queues(self._tasks.address, location, self._options.catalogue.functions)

    async def subscribe(self) -> None:
        """Create the topics and subscriptions; the processes of the services have to be ready."""
        await self._firestore_and_pubsub.subscribe(self._options.catalogue.functions)

    def open(self, stack: AsyncExitStack) -> None:
        """Let requests in at the public address, and call the scheduled functions.

        When the stack ends, this ends first.
        """
        self._scheduler.start()
        stack.push_async_callback(self._scheduler.stop)
        self._gateway.open()
        stack.callback(self._gateway.close)

    @property
    def address(self) -> str:
        """The public address, a URL."""
        return self._gateway.url

    def addresses(self) -> Addresses:
        """Return the addresses that the functions need."""
        return Addresses(
            gateway=self.address,
            firestore=self._options.firestore,
            pubsub=self._firestore_and_pubsub.pubsub_address,
            tasks=self._tasks.address,
            compute=self._compute.address,
            keys=self._identity.keys_url,
            advance_operation=self.urls["advance_operation"],
            report_workspace=self.urls["report_workspace"],
            machines_port=self._options.machines_port if self.machines else None,
        )

    def describe(self) -> dict[str, str]:
        """Return the addresses of the services, for the state file."""
        return {
            "firestore": self._options.firestore,
            "pubsub": self._firestore_and_pubsub.pubsub_address,
            "tasks": self._tasks.address,
            "compute": self._compute.url,
            "identity": self._identity.url,
            "control": self._control_api.url,
        }

    def pause(self, service: str, *, paused: bool) -> None:
        """Have ``firestore`` or ``pubsub`` stop answering, or answer again."""
        self._firestore_and_pubsub.pause(service, paused=paused)

    async def reset(self) -> None:
        """Delete all records, tasks, messages, machines and faults, and end all pauses.

        It waits for what is under way, then deletes again: a function may have just created
        something.
        """
        async with self._resetting:
            await self._scheduler.stop()
            for service in PAUSABLE:
                self.pause(service, paused=False)
            try:
                self._forget()
                await self._wait_for_requests()
                self._forget()
                async with asyncio.timeout(_RESET_SECONDS):
                    await self._firestore_and_pubsub.empty_firestore()
            finally:
                self._scheduler.start()

    async def _start_fronts(self, stack: AsyncExitStack) -> None:
        cloud_run = CloudRun(
            verifier=TokenVerifier(self._identity.keys_url, self._session),
            requests=self._active_requests,
            session=await stack.enter_async_context(new_session(reuse_connections=False)),
        )
        for function in self._options.catalogue.functions:
            front = CloudRunFront(
                function,
                find_instance=partial(self._options.processes.find_instance, function.name),
                invoker=self._invoker(function),
                cloud_run=cloud_run,
            )
            await front.start_within(stack)
            self.urls[function.name] = front.url

    def _new_machines(self) -> Machines:
        options = self._options
        return Machines(
            MachinesOptions(
                folder=options.machines_folder,
                name=options.machines_folder.name,
                port=options.machines_port,
                start=options.processes.start_machine,
                keys=self._keys,
                changed=options.processes.machines_changed,
            )
        )

    def _keys(self, instance: Instance) -> list[str]:
        """Return the public keys that may log in to an instance now."""
        people = sorted(who_may_enter(instance))
        return [key.line for email in people for key in self._identity.os_login.keys_of(email)]

    def _invoker(self, function: Function) -> str | None:
        if function.invoker == EVERYONE:
            return None
        return self._options.settings.service_account(function.invoker)

    def _people(self) -> dict[str, bool]:
        """Return the people whom the page offers, and whether they are administrators."""
        has_admin = self._options.settings.overrides.get("HUB_MODE") != "personal"
        people = dict.fromkeys((DEVELOPER_EMAIL, *_OTHER_PEOPLE), False)
        return people | ({ADMIN_EMAIL: True} if has_admin else {})

    def _user_token(self, email: str) -> str:
        return self._identity.issuer.user_token(UserToken(email=email, audience=self.address))

    def _scheduler_token(self, audience: str) -> str:
        account = self._options.settings.service_account("scheduler")
        return self._identity.issuer.service_account_token(account, audience)

    def _forget(self) -> None:
        self._firestore_and_pubsub.forget_messages()
        self._tasks.reset()
        self._compute.reset()
        self._identity.os_login.reset()

    async def _wait_for_requests(self) -> None:
        """Wait until no function has a request."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._active_requests.wait_until_none()
        except TimeoutError:
            _LOG.warning("reset: some requests have not ended")
