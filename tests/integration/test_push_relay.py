"""The relay between the Pub/Sub emulator and a front; each test takes the place of both."""

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
from localcloud.services.pubsub.push_relay import PushRelay


class Receiver:
    """A front that accepts every push and answers with the status that it is given."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[str, bytes]] = []
        self.server = HttpServer(catch_all_routes(self._answer))

    async def _answer(self, request: web.Request) -> web.Response:
        self.received.append((request.headers["Authorization"], await request.read()))
        return web.Response(status=self.status)


def run_with_relay(
    steps: Callable[[PushRelay, Receiver, Callable[[], Awaitable[int]]], Awaitable[None]],
) -> None:
    """Run a test's steps with a relay, a receiver, and a function that pushes a new message."""

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
                    url, json=pushed_message(datetime.now(UTC)), headers=headers
                ) as answer:
                    return answer.status

            await steps(relay, receiver, push)

    asyncio.run(perform())


def pushed_message(at: datetime) -> dict[str, Any]:
    """Return a message as the emulator pushes it."""
    return {
        "message": {"data": "e30=", "publishTime": at.isoformat().replace("+00:00", "Z")},
        "subscription": "s",
    }


@pytest.mark.parametrize(
    ("answered", "told"), [(200, 200), (202, 200), (204, 200), (403, 403), (500, 500)]
)
def test_the_relay_adds_a_token_and_acknowledges_every_success(answered: int, told: int) -> None:
    """The emulator sends no token, and takes 202 for a failure."""

    async def steps(_: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]) -> None:
        receiver.status = answered
        assert await push() == told
        [(authorization, body)] = receiver.received
        assert authorization == f"Bearer for {receiver.server.url}"
        assert json.loads(body)["message"]["data"] == "e30="

    run_with_relay(steps)


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
def test_the_relay_refuses_a_push_from_a_web_page(headers: dict[str, str], status: int) -> None:
    """It would otherwise add the token that functions trust."""

    async def steps(relay: PushRelay, receiver: Receiver, _: Callable[[], Awaitable[int]]) -> None:
        sent = {"Content-Type": "application/json", **headers}
        async with (
            ClientSession() as page,
            page.post(
                f"{relay.url}/provision_workspace",
                json=pushed_message(datetime.now(UTC)),
                headers=sent,
            ) as answer,
        ):
            assert answer.status == status
        assert receiver.received == []

    run_with_relay(steps)


def test_a_push_to_a_stopped_front_is_answered_with_503() -> None:
    """The emulator then delivers the message again."""

    async def steps(_: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]) -> None:
        await receiver.server.stop()
        assert await push() == 503

    run_with_relay(steps)


def test_the_duplicate_fault_delivers_every_push_twice() -> None:
    """Both requests carry the same message."""

    async def steps(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.faults.duplicate = True
        assert await push() == 200
        assert len(receiver.received) == 2
        assert receiver.received[0] == receiver.received[1]

    run_with_relay(steps)


def test_the_delay_fault_delivers_every_push_late() -> None:
    """The relay holds the push for that time before it forwards it."""

    async def steps(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.faults.delay_seconds = 0.3
        pushing = asyncio.ensure_future(push())
        done, _ = await asyncio.wait([pushing], timeout=0.1)
        assert (done, receiver.received) == (set(), [])
        assert await pushing == 200
        assert len(receiver.received) == 1

    run_with_relay(steps)


def test_messages_from_before_a_reset_are_dropped() -> None:
    """The relay acknowledges them without delivery; it delivers messages from after the reset."""

    async def steps(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.forget_messages()
        async with ClientSession() as session:
            before = pushed_message(datetime.now(UTC) - timedelta(seconds=1))
            async with session.post(f"{relay.url}/provision_workspace", json=before) as answer:
                assert answer.status == 200
        assert receiver.received == []
        assert await push() == 200
        assert len(receiver.received) == 1

    run_with_relay(steps)


def test_a_lost_message_is_acknowledged_but_not_delivered() -> None:
    """The publisher cannot see the loss."""

    async def steps(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.faults.outcomes = DeliveryOutcomes(Unreliability(lost=1))
        assert await push() == 200
        assert receiver.received == []

    run_with_relay(steps)


def test_a_message_with_the_outcome_twice_is_delivered_twice() -> None:
    """The relay sends one push as two requests."""

    async def steps(
        relay: PushRelay, receiver: Receiver, push: Callable[[], Awaitable[int]]
    ) -> None:
        relay.faults.outcomes = DeliveryOutcomes(Unreliability(twice=1))
        assert await push() == 200
        assert len(receiver.received) == 2

    run_with_relay(steps)
