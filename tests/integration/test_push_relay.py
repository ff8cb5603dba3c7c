"""The relay between the Pub/Sub emulator and a front; tests take the places of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession, web

from localcloud.services.delivery_faults import DeliveryOutcomes, Unreliability
from localcloud.services.http_server import HttpServer
from localcloud.services.proxy import catch_all_routes, new_session
from localcloud.services.pubsub import PushRelay


class Receiver:
    """A front that takes everything, and answers what it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[str, bytes]] = []
        self.server = HttpServer(catch_all_routes(self._answer))

    async def _answer(self, request: web.Request) -> web.Response:
        self.received.append((request.headers["Authorization"], await request.read()))
        return web.Response(status=self.status)


def relayed(
    play: Callable[[PushRelay, Receiver, Callable[[], Awaitable[int]]], Awaitable[None]],
) -> None:
    """Run a test with a relay, a receiver, and a function that pushes a new message."""

    async def perform() -> None:
        async with AsyncExitStack() as stack:
            session: ClientSession = await stack.enter_async_context(new_session())
            receiver = Receiver()
            await receiver.server.start_within(stack)
            urls = {"provision_workspace": receiver.server.url}
            relay = PushRelay(
                urls=urls, mint_token=lambda audience: f"for {audience}", session=session
            )
            await relay.start_within(stack)

            async def push() -> int:
                url, headers = (
                    f"{relay.url}/provision_workspace",
                    {"Content-Type": "application/json"},
                )
                async with session.post(
                    url, json=message(datetime.now(UTC)), headers=headers
                ) as answer:
                    return answer.status

            await play(relay, receiver, push)

    asyncio.run(perform())


def message(at: datetime) -> dict[str, Any]:
    """Return what the emulator pushes."""
    return {
        "message": {"data": "e30=", "publishTime": at.isoformat().replace("+00:00", "Z")},
        "subscription": "s",
    }


@pytest.mark.parametrize(
    ("answered", "told"), [(200, 200), (202, 200), (204, 200), (403, 403), (500, 500)]
)
def test_a_push_goes_on_with_a_token_and_every_success_acknowledges_it(
    answered: int, told: int
) -> None:
    """The emulator would take 202 for a failure, and sends no token."""

    async def play(_: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]) -> None:
        receiver.status = answered
        assert await push() == told
        [(authorization, body)] = receiver.received
        assert authorization == f"Bearer for {receiver.server.url}"
        assert json.loads(body)["message"]["data"] == "e30="

    relayed(play)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
    ids=str,
)
def test_a_web_page_pushes_nothing(headers: dict[str, str], status: int) -> None:
    """The relay would give it the token that functions believe."""

    async def play(relay: PushRelay, receiver: Receiver, _: Callable[[], Awaitable[int]]) -> None:
        sent = {"Content-Type": "application/json", **headers}
        async with (
            ClientSession() as page,
            page.post(
                f"{relay.url}/provision_workspace", json=message(datetime.now(UTC)), headers=sent
            ) as answer,
        ):
            assert answer.status == status
        assert receiver.received == []

    relayed(play)


def test_a_push_to_nobody_is_a_failure() -> None:
    """The emulator is told 503, so that the message comes again."""

    async def play(_: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]) -> None:
        await receiver.server.stop()
        assert await push() == 503

    relayed(play)


def test_every_push_can_be_delivered_twice() -> None:
    """The same message, two requests."""

    async def play(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.faults.duplicate = True
        assert await push() == 200
        assert len(receiver.received) == 2
        assert receiver.received[0] == receiver.received[1]

    relayed(play)


def test_every_push_can_be_late() -> None:
    """It is held back before it is handed on."""

    async def play(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.faults.delay_seconds = 0.3
        pushing = asyncio.ensure_future(push())
        done, _ = await asyncio.wait([pushing], timeout=0.1)
        assert (done, receiver.received) == (set(), [])
        assert await pushing == 200
        assert len(receiver.received) == 1

    relayed(play)


def test_messages_from_before_a_reset_are_forgotten() -> None:
    """They are acknowledged and reach nobody; those that come after it do."""

    async def play(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.forget_messages()
        async with ClientSession() as session:
            before = message(datetime.now(UTC) - timedelta(seconds=1))
            async with session.post(f"{relay.url}/provision_workspace", json=before) as answer:
                assert answer.status == 200
        assert receiver.received == []
        assert await push() == 200
        assert len(receiver.received) == 1

    relayed(play)


def test_a_message_that_is_lost_is_acknowledged_and_reaches_nobody() -> None:
    """The publisher is told that all is well."""

    async def play(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.faults.outcomes = DeliveryOutcomes(Unreliability(lost=1))
        assert await push() == 200
        assert receiver.received == []

    relayed(play)


def test_a_message_whose_fate_is_to_come_twice_does() -> None:
    """At the same moment, with the same body."""

    async def play(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.faults.outcomes = DeliveryOutcomes(Unreliability(twice=1))
        assert await push() == 200
        assert len(receiver.received) == 2

    relayed(play)
