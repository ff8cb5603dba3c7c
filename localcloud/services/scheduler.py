"""Cloud Scheduler: calls the functions that have a schedule, with the scheduler's token.

The cron lines of the catalogue are for production. Here each function is called again a few seconds
after its answer; one that is called hourly in production is called less often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp

from localcloud.catalogue import Function

_LOG = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=180)  # the default attempt deadline of Cloud Scheduler
_HOURLY_PAUSES = 12


class Scheduler:
    """Calls the scheduled functions, each in a loop of its own.

    Args:
        functions: the catalogue's entries; only those with a schedule count.
        urls: the URL of each function by its name.
        mint_token: returns the token with which a URL is called.
        session: the connections to the fronts.
        pause_seconds: from an answer to the next call; 0: nothing is ever called.
    """

    def __init__(
        self,
        *,
        functions: tuple[Function, ...],
        urls: Mapping[str, str],
        mint_token: Callable[[str], str],
        session: aiohttp.ClientSession,
        pause_seconds: float,
    ) -> None:
        self._functions = [function for function in functions if function.schedule]
        self._urls = urls
        self._mint_token = mint_token
        self._session = session
        self._pause_seconds = pause_seconds
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start; the first calls come after a pause."""
        if self._pause_seconds > 0:
            self._loops = [
                asyncio.create_task(self._keep_calling(function)) for function in self._functions
            ]

    async def stop(self) -> None:
        """Stop calling, without waiting for answers. ``start`` starts again."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()

    async def _keep_calling(self, function: Function) -> None:
        pauses = _HOURLY_PAUSES if _is_hourly(function) else 1
        while True:
            await asyncio.sleep(self._pause_seconds * pauses)
            await self._call(function)

    async def _call(self, function: Function) -> None:
        url = self._urls[function.name]
        headers = {
            "Authorization": f"Bearer {self._mint_token(url)}",
            "User-Agent": "Google-Cloud-Scheduler",
        }
        for route in function.routes:
            try:
                async with self._session.request(
                    route.method, url + route.path, headers=headers, timeout=_TIMEOUT
                ) as answer:
                    text = await answer.text()
            except (aiohttp.ClientError, TimeoutError) as error:
                _LOG.warning("%s could not be called: %r", function.name, error)
            else:
                level = logging.INFO if answer.status == 200 else logging.WARNING
                _LOG.log(level, "%s answered %d: %s", function.name, answer.status, text.strip())


def _is_hourly(function: Function) -> bool:
    """Return whether a function's cron line names a minute, so it runs once an hour at most."""
    return (function.schedule or "").split(" ")[0].isdigit()
