"""A server of the local cloud on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from localcloud.services.server import Server

_T = TypeVar("_T")
_PATIENCE_SECONDS = 10.0


class ServerThread:
    """Starts a server, and stops it with ``close``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))
        self._thread.start()
        assert self._ready.wait(_PATIENCE_SECONDS)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await self._server.start()
        self._ready.set()
        await self._stopping.wait()
        await self._server.stop()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the server's own loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE_SECONDS)

    def on_loop(self, call: Callable[[], _T]) -> _T:
        """Make a call on the server's own loop and return its result."""

        async def made() -> _T:
            return call()

        return self.run(made())

    def close(self) -> None:
        """Stop the server and wait for its thread; a second call has no effect."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_PATIENCE_SECONDS)
            assert not self._thread.is_alive()
