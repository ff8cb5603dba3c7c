"""Cloud Scheduler's part: calls the functions that have a schedule, with the scheduler's token.

The catalogue's cron lines are for production; here every one is called again a few seconds after it
has answered, and one that is called hourly there less often.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.catalogue import Function

_LOG = logging.getLogger(__name__)

_TIMEOUT: Final = aiohttp.ClientTimeout(total=180)  # Cloud Scheduler's default attempt deadline


_HOURLY_PAUSES: Final = 12


def _hourly(function: Function) -> bool:
    """Return whether a cron line names a minute: it comes once an hour at most."""
    return (function.schedule or "").split(" ")[0].isdigit()


class Scheduler:
    """Calls the scheduled functions, each in a loop of its own.

    Args:
        functions: the catalogue's entries; only those with a schedule count.
        urls: the URL of each function by its name.
        mint_token: makes the token with which this URL is called.
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
        """Begin; the first calls come after a pause."""
        if self._pause_seconds > 0:
            self._loops = [
                asyncio.create_task(self._keep_calling(function)) for function in self._functions
            ]

    async def stop(self) -> None:
        """Call nothing more, and wait for no answer. `start` begins again."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()

    async def _keep_calling(self, function: Function) -> None:
        while True:
            await asyncio.sleep(self._pause_seconds * (_HOURLY_PAUSES if _hourly(function) else 1))
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
