"""Firestore and Pub/Sub in their two forms: the local cloud's own, and Google's emulators."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
from google.pubsub_v1 import PushConfig

from localcloud.catalogue import Function
from localcloud.services.control_api import Processes
from localcloud.services.delivery_faults import DeliveryFaults
from localcloud.services.firestore.client import clear
from localcloud.services.identity.tokens import TokenIssuer
from localcloud.services.project import Project
from localcloud.services.pubsub.push_relay import PushRelay
from localcloud.services.pubsub.server import PubSubServer
from localcloud.services.pubsub.topology import create_topology, pushed_with_token
from localcloud.settings import LocalSettings

_POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What Firestore and Pub/Sub need of a platform.

    Attributes:
        settings: the choices.
        project: the project.
        processes: the processes of the services.
        issuer: makes the tokens of pushes.
        urls: the URL of each function by its name; may be filled until ``subscribe``.
        session: the connections.
        firestore: ``host:port`` of Firestore.
        pubsub: ``host:port`` of Google's Pub/Sub emulator.
    """

    settings: LocalSettings
    project: Project
    processes: Processes
    issuer: TokenIssuer
    urls: Mapping[str, str]
    session: aiohttp.ClientSession
    firestore: str
    pubsub: str


class FirestoreAndPubSub(ABC):
    """Both services, as a platform uses them."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @property
    @abstractmethod
    def pubsub_address(self) -> str:
        """``host:port`` of Pub/Sub."""

    @property
    @abstractmethod
    def faults(self) -> DeliveryFaults:
        """The faults of Pub/Sub's delivery."""

    @abstractmethod
    async def start(self, stack: AsyncExitStack) -> None:
        """Serve what this process serves of them until the stack ends."""

    @abstractmethod
    async def subscribe(self, functions: tuple[Function, ...]) -> None:
        """Create the topics and subscriptions; the processes of the services have to be ready."""

    @abstractmethod
    def forget_messages(self) -> None:
        """Deliver no message that was published before now."""

    @abstractmethod
    async def empty_firestore(self) -> None:
        """Delete all documents; as long as that cannot be done, it tries again."""

    def pause(self, service: str, *, paused: bool) -> None:
        """Have ``firestore`` or ``pubsub`` stop answering, or answer again."""
        self._surroundings.processes.pause_process(service, paused=paused)


class Embedded(FirestoreAndPubSub):
    """The local cloud's own: Firestore is a process, and Pub/Sub a server of this process."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._pubsub = PubSubServer(mint_token=surroundings.issuer.service_account_token)

    @property
    def pubsub_address(self) -> str:
        """``host:port`` of Pub/Sub."""
        return self._pubsub.address

    @property
    def faults(self) -> DeliveryFaults:
        """The faults of Pub/Sub's delivery."""
        return self._pubsub.faults

    async def start(self, stack: AsyncExitStack) -> None:
        """Serve Pub/Sub until the stack ends."""
        await self._pubsub.start_within(stack)

    async def subscribe(self, functions: tuple[Function, ...]) -> None:
        """Create the topics and subscriptions."""
        surroundings = self._surroundings
        await create_topology(
            self.pubsub_address,
            surroundings.project.path,
            functions,
            lambda function: pushed_with_token(
                surroundings.urls[function.name],
                surroundings.settings.service_account(function.invoker),
            ),
        )

    def forget_messages(self) -> None:
        """Forget all messages."""
        self._pubsub.reset()

    async def empty_firestore(self) -> None:
        """Delete all documents of all databases."""
        await clear(self._surroundings.firestore)

    def pause(self, service: str, *, paused: bool) -> None:
        """Pause or resume the server of Pub/Sub, or the process of Firestore."""
        if service != "pubsub":
            super().pause(service, paused=paused)
        elif paused:
            self._pubsub.pause()
        else:
            self._pubsub.resume()


class GooglesEmulators(FirestoreAndPubSub):
    """Google's emulators, two processes, and the relay that the one of Pub/Sub needs."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        settings, issuer = surroundings.settings, surroundings.issuer
        account = settings.service_account("provisioning-push")
        self._relay = PushRelay(
            urls=surroundings.urls,
            mint_token=lambda audience: issuer.service_account_token(account, audience),
            session=surroundings.session,
        )

    @property
    def pubsub_address(self) -> str:
        """``host:port`` of the emulator."""
        return self._surroundings.pubsub

    @property
    def faults(self) -> DeliveryFaults:
        """The faults of the relay."""
        return self._relay.faults

    async def start(self, stack: AsyncExitStack) -> None:
        """Serve the relay until the stack ends."""
        await self._relay.start_within(stack)

    async def subscribe(self, functions: tuple[Function, ...]) -> None:
        """Create the topics and subscriptions, which push to the relay."""
        await create_topology(
            self.pubsub_address,
            self._surroundings.project.path,
            functions,
            lambda function: PushConfig(push_endpoint=f"{self._relay.url}/{function.name}"),
        )

    def forget_messages(self) -> None:
        """Have the relay drop every message that was published before now."""
        self._relay.forget_messages()

    async def empty_firestore(self) -> None:
        """Delete all documents of the default database."""
        surroundings = self._surroundings
        documents = f"{surroundings.project.path}/databases/(default)/documents"
        url = f"http://{surroundings.firestore}/emulator/v1/{documents}"
        while True:
            async with surroundings.session.delete(url) as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(_POLL_SECONDS)  # 409: a transaction is open


def firestore_and_pubsub(surroundings: Surroundings) -> FirestoreAndPubSub:
    """Return both services in the form that the settings name."""
    if surroundings.settings.emulators == "google":
        return GooglesEmulators(surroundings)
    return Embedded(surroundings)
