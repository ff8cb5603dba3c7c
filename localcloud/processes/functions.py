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
        # Without it macOS is asked for its proxies, which crashes in a process that was forked
        # (bpo-30385).
        "no_proxy": "*",
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
    """A function whose process is started by the first request, as on Cloud Run.

    A process that has ended is not started again by itself: the next request does so.

    Args:
        program: what to run.
        url: its own address, a URL without a path.
        reaper: ends it when the cloud ends.
        session: the connections for checks whether it is ready.
        changed: is called whenever ``pid`` has changed.

    Attributes:
        pid: the id of its process, which may still be starting, or ending; None if there is none.
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
        self.pid: int | None = None
        self._program = program
        self._reaper = reaper
        self._session = session
        self._changed = changed
        self._is_stopped = False
        self._serving: Child | None = None  # it has answered, and was not told to end from here
        self._watching: asyncio.Task[None] | None = None  # until the last process has ended
        self._starting: asyncio.Task[None] | None = None

    async def ensure_running(self) -> str:
        """Start it if it does not run, and return its address when it has answered.

        Concurrent callers wait for the same start, which goes on if they give up. A process that
        was just killed may still count as running.

        Raises:
            LocalCloudError: it does not start; the next call tries again.
        """
        if self._is_stopped:
            raise LocalCloudError(f"{self._program.name} is not started: the local cloud is ending")
        if self._serving is None:
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
                self._starting.add_done_callback(self._note_start)
            await asyncio.shield(self._starting)
        return self.url

    def replace(self, program: Program) -> None:
        """Serve all further requests by another program, as a new revision does.

        A process that runs finishes its requests and ends.
        """
        self._program = program
        if self._serving is not None:
            child, self._serving = self._serving, None
            _end(child, signal.SIGTERM)

    async def stop(self) -> None:
        """Start it no more; the reaper ends it."""
        self._is_stopped = True
        tasks = [task for task in (self._starting, self._watching) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self) -> None:
        while True:
            if self._watching is not None:
                await asyncio.shield(self._watching)  # two processes cannot have the same port
            child = await Child.start(self._program, self._reaper)
            self.pid = child.pid
            self._watching = watching = asyncio.create_task(self._watch(child))
            self._changed()
            try:
                await child.wait_until_ready(self._answers, _START_SECONDS)
            except LocalCloudError:
                _end(child, signal.SIGKILL)
                raise
            if child.program is self._program:
                break
            _end(child, signal.SIGTERM)  # it was replaced meanwhile
        if not watching.done():  # otherwise it has ended since it answered
            self._serving = child

    def _note_start(self, start: asyncio.Task[None]) -> None:
        self._starting = None
        if not start.cancelled() and (error := start.exception()):
            _LOG.error("%s was not started: %s", self._program.name, error)

    async def _watch(self, child: Child) -> None:
        code = await child.wait()
        if child is self._serving:
            self._serving = None
            _LOG.warning("%s ended with %d; a request starts it again", child.program.name, code)
        self.pid = None
        self._changed()

    async def _answers(self) -> bool:
        # functions-framework answers this path itself: the function is loaded, but not called.
        return await answers(f"{self.url}/favicon.ico", self._session)


def _end(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


async def answers(url: str, session: aiohttp.ClientSession) -> bool:
    """Return whether a URL gets any answer."""
    try:
        async with session.get(url):
            return True
    except aiohttp.ClientError:
        return False
