"""What stands in for Firestore and Pub/Sub in processes of their own, and how to start it.

The local cloud's own Firestore is a process, its Pub/Sub a server of the platform. Google's
emulators are two processes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp

from localcloud.catalogue import ROOT
from localcloud.processes.children import Child, LocalCloudError, Program
from localcloud.processes.emulators import EMULATORS, find_installation
from localcloud.processes.functions import answers
from localcloud.processes.reaper import Reaper
from localcloud.services.server import LOOPBACK

_START_SECONDS = 60.0
_INHERITED = ("PATH", "LANG")


class DataServices:
    """These processes. All data are in their memory, so the cloud ends when one of them ends.

    Args:
        ports: where each of them listens, by name.
        folder: gives the temporary folder of one, which does not exist yet.
        log: gives the log file of one.
        reaper: ends them when the cloud ends.

    Attributes:
        children: the processes by name: ``firestore``, and with Google's also ``pubsub``.
    """

    def __init__(
        self,
        ports: Mapping[str, int],
        *,
        folder: Callable[[str], Path],
        log: Callable[[str], Path],
        reaper: Reaper,
    ) -> None:
        self.children: dict[str, Child] = {}
        self._ports = ports
        self._folder = folder
        self._log = log
        self._reaper = reaper

    async def start_embedded(self) -> None:
        """Start the local cloud's own Firestore, and wait until it says that it is ready.

        Raises:
            LocalCloudError: it does not start.
        """
        port = self._ports["firestore"]
        command = [sys.executable, "-m", "localcloud.services.firestore", "--port", str(port)]
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        program = self._program(
            "firestore", "The local Firestore", command, {**environment, "PYTHONPATH": str(ROOT)}
        )
        await self._start("firestore", program)

        async def is_ready() -> bool:
            return program.log.read_bytes().startswith(b"ready ")

        await self.children["firestore"].wait_until_ready(is_ready, _START_SECONDS)

    async def start_googles(self, session: aiohttp.ClientSession) -> None:
        """Start Google's emulators, and wait until they answer.

        Raises:
            LocalCloudError: Java or an emulator is missing, or one does not start.
        """
        installation = await asyncio.to_thread(find_installation)
        for emulator in EMULATORS:
            command = installation.command(
                emulator,
                port=self._ports[emulator.name],
                temp_folder=self._folder(emulator.name),
            )
            await self._start(
                emulator.name, self._program(emulator.name, emulator.title, command, {})
            )
        for name, child in self.children.items():
            url = f"http://{LOOPBACK}:{self._ports[name]}"

            async def is_ready(url: str = url) -> bool:
                return await answers(url, session)

            await child.wait_until_ready(is_ready, _START_SECONDS)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the processes of a service.

        Raises:
            KeyError: it has no process.
        """
        os.killpg(self.children[name].pid, number)

    async def watch(self) -> None:
        """Wait until one of them ends.

        Raises:
            LocalCloudError: one has ended.
        """
        ends = {asyncio.ensure_future(child.wait()): child for child in self.children.values()}
        try:
            ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        for end in ended:
            program = ends[end].program
            raise LocalCloudError(
                f"{program.name} has ended with {end.result()}; see {program.log}"
            )

    def _program(
        self, name: str, title: str, command: list[str], environment: Mapping[str, str]
    ) -> Program:
        folder = self._folder(name)
        return Program(
            name=title,
            command=command,
            environment={**environment, "HOME": str(folder), "TMPDIR": str(folder)},
            folder=folder,
            log=self._log(name),
        )

    async def _start(self, name: str, program: Program) -> None:
        program.folder.mkdir()
        self.children[name] = await Child.start(program, self._reaper)
