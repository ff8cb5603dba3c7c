"""Pub/Sub's topics and push subscriptions, as the deployment creates them, on Google's emulator.

The emulator pushes without an identity token, and does not accept 202 as an acknowledgement. So it
pushes to a relay, which adds the token that the real Pub/Sub adds, forwards the message to the
function's front, and answers 200 for every success.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from localcloud.catalogue import Function
from localcloud.services.delivery_faults import DeliveryFaults
from localcloud.services.http_server import HttpServer

_LOG = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=600)  # the longest acknowledgement deadline of Pub/Sub


async def create_topology(
    emulator: str,
    project_id: str,
    functions: tuple[Function, ...],
    relay_url: str,
    session: aiohttp.ClientSession,
) -> None:
    """Create the topics and push subscriptions of the functions that Pub/Sub triggers.

    Args:
        emulator: ``host:port`` of the emulator.
        project_id: the project of the topics.
        functions: the catalogue's entries.
        relay_url: where the relay listens.
        session: the connections.
    """
    projects = f"http://{emulator}/v1/projects/{project_id}"
    triggered = [function for function in functions if function.topic]
    topics = {function.topic for function in triggered}
    topics |= {function.dead_letter["topic"] for function in triggered if function.dead_letter}
    for topic in sorted(filter(None, topics)):
        await _put(session, f"{projects}/topics/{topic}", {})
    for function in triggered:
        body = _subscription(function, project_id, f"{relay_url}/{function.name}")
        await _put(session, f"{projects}/subscriptions/{function.service}", body)


def _subscription(function: Function, project_id: str, endpoint: str) -> dict[str, Any]:
    topics = f"projects/{project_id}/topics"
    body: dict[str, Any] = {
        "topic": f"{topics}/{function.topic}",
        "ackDeadlineSeconds": function.ack_deadline_seconds,
        "pushConfig": {"pushEndpoint": endpoint},
    }
    if function.retry:
        body["retryPolicy"] = {
            "minimumBackoff": f"{function.retry['min_backoff_seconds']}s",
            "maximumBackoff": f"{function.retry['max_backoff_seconds']}s",
        }
    if function.dead_letter:
        body["deadLetterPolicy"] = {
            "deadLetterTopic": f"{topics}/{function.dead_letter['topic']}",
            "maxDeliveryAttempts": function.dead_letter["max_attempts"],
        }
    return body


async def _put(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
    async with session.put(url, json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"The Pub/Sub emulator refused {url}: {await answer.text()}")


class PushRelay(HttpServer):
    """Forwards the emulator's pushes to the functions' fronts.

    The push endpoint of a function is ``/{function}`` on this server.

    Args:
        urls: the URL of each function by its name; may be filled until the first message comes.
        mint_token: returns the token with which a message is pushed to a URL.
        session: the connections to the fronts.

    Attributes:
        faults: the faults of delivery; a lost message is acknowledged.
    """

    def __init__(
        self,
        *,
        urls: Mapping[str, str],
        mint_token: Callable[[str], str],
        session: aiohttp.ClientSession,
    ) -> None:
        self.faults = DeliveryFaults()
        self._urls = urls
        self._mint_token = mint_token
        self._session = session
        self._forgotten_until = datetime.min.replace(tzinfo=UTC)
        super().__init__([web.post("/{function}", self._answer)])

    def forget_messages(self) -> None:
        """Acknowledge every message that was published before now, without delivering it."""
        self._forgotten_until = datetime.now(UTC)

    async def _answer(self, request: web.Request) -> web.Response:
        url = self._urls[request.match_info["function"]]
        body = await request.read()
        published_at = (await request.json())["message"]["publishTime"]
        outcome = self.faults.outcomes.draw()
        await asyncio.sleep(self.faults.delay_seconds + outcome.late_seconds)
        if outcome.lost or datetime.fromisoformat(published_at) < self._forgotten_until:
            return web.Response()
        copies = 2 if self.faults.duplicate or outcome.twice else 1
        statuses = await asyncio.gather(*(self._deliver(url, body) for _ in range(copies)))
        return web.Response(status=200 if 200 <= statuses[0] < 300 else statuses[0])

    async def _deliver(self, url: str, body: bytes) -> int:
        headers = {
            "Authorization": f"Bearer {self._mint_token(url)}",
            "Content-Type": "application/json",
            "User-Agent": "CloudPubSub-Google",
        }
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=_TIMEOUT
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            _LOG.warning("%s: a push broke off: %r", url, error)
            return 503
        if not 200 <= status < 300:
            _LOG.warning("%s answered a push with %d: it comes again", url, status)
        return status
