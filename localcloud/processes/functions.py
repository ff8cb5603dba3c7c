"""The functions, each in a process of its own, started as in production from a copy of what is deployed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from localcloud.processes.children import Child, LocalCloudError, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.catalogue import Function
    from localcloud.processes.reaper import Reaper

_LOG = logging.getLogger(__name__)

_CONSOLE_SCRIPT: Final = "functions-framework"
_INHERITED: Final = ("PATH", "LANG")
_START_SECONDS: Final = 60.0
_FIRST_BACKOFF_SECONDS: Final = 0.1
_LONGEST_BACKOFF_SECONDS: Final = 5.0
_STABLE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05


def console_script() -> str:
    """Return the path of functions-framework, the one that belongs to this Python.

    Raises:
        LocalCloudError: it is not installed.
    """
    script = shutil.which(_CONSOLE_SCRIPT, path=str(Path(sys.executable).parent)) or shutil.which(
        _CONSOLE_SCRIPT
    )
    if script is None:
        raise LocalCloudError(
            f"{_CONSOLE_SCRIPT} is missing. Install it with: pip install -r requirements.txt"
        )
    return script


def program(
    function: Function,
    *,
    port: int,
    shipped: Path,
    folder: Path,
    log: Path,
    settings: Mapping[str, str],
    python_path: Path | None = None,
) -> Program:
    """Return how a function is run: as the buildpack runs it, with the complete environment that the deployment gives it.

    Args:
        function: the catalogue's entry.
        port: where it is to listen.
        shipped: the copy of the files that are deployed.
        folder: an empty folder; the function's working and home folder, since gunicorn keeps a
            socket at home.
        log: where its output goes.
        settings: the Hub's settings.
        python_path: a folder where its Python looks before anywhere else.
    """
    environment = {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_EXECUTION_ID": "true",  # as functions of the Functions API are given it without being asked
        **function.environment(str(shipped)),
        **settings,
    }
    if python_path:
        environment["PYTHONPATH"] = f"{python_path}{os.pathsep}{shipped}"
    return Program(
        name=function.name,
        command=[console_script()],
        environment=environment,
        folder=folder,
        log=log,
    )


class FunctionProcess:
    """A function that is kept running, as Cloud Run keeps one.

    Args:
        program: what to run.
        url: its own address, a URL without a path.
        reaper: ends it at the latest.
        session: the connections by which it is asked whether it is ready.
        changed: called whenever `pid` is another one.
    """

    def __init__(
        self,
        program: Program,
        *,
        url: str,
        reaper: Reaper,
        session: aiohttp.ClientSession,
        changed: Callable[[], None],
    ) -> None:
        self.url = url
        self.pid = 0
        self._program = program
        self._reaper = reaper
        self._session = session
        self._changed = changed
        self._keeping: asyncio.Task[None] | None = None
        self._child: Child

    async def start(self) -> None:
        """Start it, wait until it answers, and from then on start it again whenever it ends.

        Raises:
            LocalCloudError: it does not come up.
        """
        await self._start_child()
        await self._child.wait_until_ready(self._answers, _START_SECONDS)
        self._keeping = asyncio.create_task(self._keep_running())

    async def restart(self, program: Program) -> None:
        """Run another program in its place, as a new revision follows an old one, and wait until that answers.

        The old one ends what it has begun; who comes in between waits at the front.

        Raises:
            LocalCloudError: the new one does not come up; it is tried again and again all the same.
        """
        self._program = program
        told: Child | None = None
        try:
            async with asyncio.timeout(_START_SECONDS):
                while (child := self._child).program is not program or not await self._answers():
                    if child.program is not program and child is not told:
                        told = child
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(child.pid, signal.SIGTERM)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise LocalCloudError(
                f"{program.name} does not answer after its restart; see {program.log}"
            ) from None

    async def stop(self) -> None:
        """Leave it alone from now on; the reaper ends it."""
        if self._keeping:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _start_child(self) -> None:
        self._child = await Child.start(self._program, self._reaper)
        self.pid = self._child.pid

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            started_at = loop.time()
            code = await self._child.wait()
            if self._child.program is self._program:
                if loop.time() - started_at > _STABLE_SECONDS:
                    backoff = _FIRST_BACKOFF_SECONDS
                _LOG.warning(
                    "%s ended with %d; starting it again in %g s", self._program.name, code, backoff
                )
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, _LONGEST_BACKOFF_SECONDS)
            await self._start_child()
            self._changed()

    async def _answers(self) -> bool:
        # functions-framework answers this path by itself: the function is loaded, and is not
        # called.
        return await answers(f"{self.url}/favicon.ico", self._session)


async def answers(url: str, session: aiohttp.ClientSession) -> bool:
    """Return whether there is somebody at a URL who answers anything."""
    try:
        async with session.get(url):
            return True
    except aiohttp.ClientError:
        return False
