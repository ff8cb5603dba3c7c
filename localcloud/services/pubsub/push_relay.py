"""The relay between Google's Pub/Sub emulator and the functions' fronts.

The emulator sends no token with its pushes, and does not take 202 for a success (see Pub/Sub's docs
for push: 102, 200, 201, 202 and 204 are). So it pushes to a relay, which adds the token that the
real Pub/Sub adds, forwards the message to the function's front, and answers 200 for every success.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import aiohttp
from aiohttp import web

from localcloud.services.delivery_faults import DeliveryFaults
from localcloud.services.http_server import HttpServer
from localcloud.services.pubsub.push_request import ACKNOWLEDGING, HEADERS

_LOG = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=600)  # the longest acknowledgement deadline of Pub/Sub


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
        return web.Response(status=200 if statuses[0] in ACKNOWLEDGING else statuses[0])

    async def _deliver(self, url: str, body: bytes) -> int:
        headers = {**HEADERS, "Authorization": f"Bearer {self._mint_token(url)}"}
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=_TIMEOUT
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            _LOG.warning("%s: a push broke off: %r", url, error)
            return 503
        if status not in ACKNOWLEDGING:
            _LOG.warning("%s answered a push with %d: it comes again", url, status)
        return status
