"""The functions, each in its own process, started as in production from the deployed files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from localcloud.catalogue import Function
from localcloud.processes.children import Child, LocalCloudError, Program
from localcloud.processes.reaper import Reaper

_LOG = logging.getLogger(__name__)

_CONSOLE_SCRIPT = "functions-framework"
_INHERITED = ("PATH", "LANG")
_START_SECONDS = 60.0
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0
_STABLE_SECONDS = 10.0
_POLL_SECONDS = 0.05


def console_script() -> str:
    """Return the path of the functions-framework that belongs to this Python.

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


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What all functions of a local cloud have in common.

    Attributes:
        shipped: the copy of the deployed files.
        settings: the Hub's settings.
        python_path: a folder where their Pythons look before anywhere else.
    """

    shipped: Path
    settings: Mapping[str, str]
    python_path: Path | None = None


def function_program(
    function: Function, deployment: Deployment, *, port: int, folder: Path, log: Path
) -> Program:
    """Return how to run a function: as the buildpack runs it, with the deployed environment.

    Args:
        function: the catalogue's entry.
        deployment: what it has in common with the other functions.
        port: where it listens.
        folder: an empty folder, which is its working and home folder: gunicorn keeps a socket in
            its home.
        log: the file of its output.
    """
    shipped = deployment.shipped
    environment = {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_EXECUTION_ID": "true",  # functions of the Functions API have it by default
        **function.environment(str(shipped)),
        **deployment.settings,
    }
    if deployment.python_path:
        environment["PYTHONPATH"] = f"{deployment.python_path}{os.pathsep}{shipped}"
    return Program(
        name=function.name,
        command=[console_script()],
        environment=environment,
        folder=folder,
        log=log,
    )


class FunctionProcess:
    """A function that is kept running, as Cloud Run does.

    Args:
        program: what to run.
        url: its own address, a URL without a path.
        reaper: ends it when the cloud ends.
        session: the connections for checks whether it is ready.
        changed: is called whenever ``pid`` has changed.
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
        """Start it, wait until it answers, and restart it from then on whenever it ends.

        Raises:
            LocalCloudError: it does not start.
        """
        await self._start_child()
        await self._child.wait_until_ready(self._answers, _START_SECONDS)
        self._keeping = asyncio.create_task(self._keep_running())

    async def restart(self, program: Program) -> None:
        """Replace it by another program, as a new revision replaces an old one.

        The old program finishes its requests. New requests wait at the front until the new program
        answers, and so does this call.

        Raises:
            LocalCloudError: the new program does not start in time; it is still retried.
        """
        self._program = program
        terminated: Child | None = None
        try:
            async with asyncio.timeout(_START_SECONDS):
                while (child := self._child).program is not program or not await self._answers():
                    if child.program is not program and child is not terminated:
                        terminated = child
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(child.pid, signal.SIGTERM)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise LocalCloudError(
                f"{program.name} does not answer after its restart; see {program.log}"
            ) from None

    async def stop(self) -> None:
        """Stop restarting it; the reaper ends it."""
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
        # functions-framework answers this path itself: the function is loaded, but not called.
        return await answers(f"{self.url}/favicon.ico", self._session)


async def answers(url: str, session: aiohttp.ClientSession) -> bool:
    """Return whether a URL gets any answer."""
    try:
        async with session.get(url):
            return True
    except aiohttp.ClientError:
        return False
