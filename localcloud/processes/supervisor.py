"""Starts all parts of the local cloud, supervises them, and ends them.

This process serves the platform (``services/platform.py``). Its children are the services that hold
data (``processes/data_services.py``), and a process for each function that was called.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from localcloud.catalogue import ROOT, Function, read_catalogue, ship
from localcloud.machines.machine import MachinePlan
from localcloud.processes.children import Child, LocalCloudError, Program, free_ports
from localcloud.processes.data_services import DataServices
from localcloud.processes.functions import Deployment, FunctionProcess, function_program
from localcloud.processes.reaper import Reaper
from localcloud.processes.state_file import NoCloudError, StateLock, read_state, write_state
from localcloud.services.control_api import PAUSABLE
from localcloud.services.platform import Platform, PlatformOptions
from localcloud.services.proxy import new_session
from localcloud.services.requests_file import RequestsFile
from localcloud.services.server import LOOPBACK
from localcloud.settings import LocalSettings, environment
from shared.config import ConfigurationError

# For accounts that no organisation runs: the local issuer has no others.
_ADMINS = "HUB_OUTSIDE_ADMIN_EMAILS"

_MACHINES = "machines"
_LOCK_SECONDS = 10.0  # longer than it takes to remove what a killed cloud has left
_POLL_SECONDS = 0.05
_EMAIL = re.compile(r"[^\s@,]+@[^\s@,]+")


class Supervisor:
    """One local cloud.

    Args:
        settings: the choices.
        port: the public port; 0 picks a free one.
        state_file: the file of the state. The logs are in a folder beside it, which is emptied
            first.
        began: when the start began, on the monotonic clock.
    """

    def __init__(
        self, settings: LocalSettings, *, port: int, state_file: Path, began: float
    ) -> None:
        self._settings = settings
        self._port = port
        self._state_file = state_file.absolute()
        self._logs = self._state_file.with_suffix(".logs")
        self._requests = self._logs / "requests.jsonl"
        self._folder = Path(
            tempfile.gettempdir(), f"workspace-hub-{secrets.token_hex(4)}"
        ).absolute()
        self._shipped = self._folder / "shipped"
        self._catalogue = read_catalogue()
        self._functions: dict[str, FunctionProcess] = {}
        self._secret = secrets.token_urlsafe(32)
        names = [
            *PAUSABLE,
            _MACHINES,
            *(each.name for each in self._catalogue.functions),
        ]
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._began = began
        self._started_at = datetime.now(UTC)
        self._ready_seconds = 0.0

    async def run(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Start everything, call ``ready`` with the state, serve until cancelled, end everything.

        Raises:
            ConfigurationError: a setting of the Hub is wrong.
            LocalCloudError: something does not start, or an emulator has ended.
        """
        async with AsyncExitStack() as stack:
            lock = await self._take_lock()
            stack.callback(lock.release)
            # What starts last ends first: the children before the servers that they use.
            session = await stack.enter_async_context(new_session())
            await self._start_platform(session, stack)
            self._reaper = Reaper(keeps=[lock.descriptor])
            stack.push_async_callback(asyncio.to_thread, self._reaper.close)
            self._data_services = DataServices(
                self._ports, folder=self._folder_of, log=self._log, reaper=self._reaper
            )
            self._make_folders(lock)
            await self._start_children(session, stack)
            self._ready_seconds = time.monotonic() - self._began
            # Nothing is served between these two: whoever finds the file can use the address, and
            # whoever gets an answer there finds the file.
            self._write_state()
            self._platform.open(stack)
            ready(self._state())
            await self._data_services.watch()

    async def _take_lock(self) -> StateLock:
        """Take the lock of the state file; wait for a cloud that is ending.

        Raises:
            LocalCloudError: another cloud has it.
        """
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            with contextlib.suppress(NoCloudError):
                state = read_state(self._state_file)
                raise LocalCloudError(
                    f"A local cloud is running already: {state['address']} ({self._state_file})"
                )
            try:
                return StateLock(self._state_file)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LocalCloudError(
                        f"Another local cloud is starting or ending ({self._state_file})."
                    ) from None
            await asyncio.sleep(_POLL_SECONDS)

    def _make_folders(self, lock: StateLock) -> None:
        """Create the folders, after the reaper knows what to remove."""
        for path in (self._folder, self._state_file, lock.path):
            self._reaper.remove(path)
        if machines := self._platform.machines:
            self._reaper.end_machines(machines.options.mark)
            self._reaper.remove(machines.options.secrets)
        self._folder.mkdir(mode=0o700)
        shutil.rmtree(self._logs, ignore_errors=True)
        self._logs.mkdir(parents=True)
        ship(self._catalogue, self._shipped)
        _log_into(self._log("cloud"))

    async def _start_platform(self, session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        options = PlatformOptions(
            settings=self._settings,
            catalogue=self._catalogue,
            processes=self,
            firestore=self._address("firestore"),
            pubsub=self._address("pubsub"),
            port=self._port,
            secret=self._secret,
            machines_folder=self._folder,
            machines_port=self._ports[_MACHINES],
            requests_file=RequestsFile(self._requests) if self._settings.write_requests else None,
        )
        self._platform = Platform(options, session=session)
        try:
            await self._platform.start(stack)
        except OSError as error:
            raise LocalCloudError(f"Port {self._port} cannot be used: {error.strerror}") from error
        self._environment = environment(self._settings, self._platform.addresses())

    async def _start_children(self, session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        for function in self._catalogue.functions:
            self._folder_of(function.name).mkdir()
            self._log(function.name).touch()
            self._functions[function.name] = FunctionProcess(
                self._program(function),
                url=self._url(function.name),
                reaper=self._reaper,
                session=session,
                changed=self._write_state,
            )
            stack.push_async_callback(self._functions[function.name].stop)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_data_services(session))
                if self._settings.warm:
                    for process in self._functions.values():
                        group.create_task(process.ensure_running())
        except ExceptionGroup as failures:
            raise _first(failures) from None

    def _program(self, function: Function) -> Program:
        deployment = Deployment(
            shipped=self._shipped,
            settings=self._environment,
            python_path=self._settings.python_path,
        )
        return function_program(
            function,
            deployment,
            port=self._ports[function.name],
            folder=self._folder_of(function.name),
            log=self._log(function.name),
        )

    async def _start_data_services(self, session: aiohttp.ClientSession) -> None:
        if self._settings.emulators == "google":
            await self._data_services.start_googles(session)
        else:
            await self._data_services.start_embedded()
        await self._platform.subscribe()

    async def make_admin(self, email: str) -> None:
        """Add an administrator. Running functions for people end, since they need to know them.

        If they are an administrator already, nothing ends.

        Raises:
            ConfigurationError: the Hub does not accept this administrator.
        """
        if not _EMAIL.fullmatch(email):
            raise ConfigurationError(f"{email!r} is not an e-mail address.")
        admins = [admin for admin in self._environment.get(_ADMINS, "").split(",") if admin]
        if email.lower() in {admin.strip().lower() for admin in admins}:
            return
        overrides = {**self._settings.overrides, _ADMINS: ",".join([*admins, email])}
        self._environment = environment(
            replace(self._settings, overrides=overrides), self._platform.addresses()
        )
        for function in self._catalogue.functions:
            if function.is_public:
                self._functions[function.name].replace(self._program(function))
        self._write_state()

    async def find_instance(self, function: str) -> str:
        """Start a function's process if it does not run, and return its address, a URL.

        Raises:
            LocalCloudError: it does not start, or the local cloud itself is still starting.
            KeyError: there is no such function.
        """
        if not self._functions:
            raise LocalCloudError("The local cloud is starting.")
        return await self._functions[function].ensure_running()

    async def start_machine(self, plan: MachinePlan, cloud: socket.socket) -> Child:
        """Start the first process of a machine, with a socket that connects it with the cloud.

        Raises:
            OSError: it does not start.
        """
        descriptor = cloud.fileno()
        program = Program(
            name=plan.name,
            command=[sys.executable, "-m", "localcloud.machines.ssh_server", str(descriptor)],
            environment={**plan.environment, "PYTHONPATH": str(ROOT)},
            folder=plan.home,
            log=self._log(_MACHINES),
            descriptors=[descriptor],
        )
        return await Child.start(program, self._reaper)

    def machines_changed(self) -> None:
        """Write the processes of the machines into the state file."""
        self._write_state()

    def function_pid(self, function: str) -> int | None:
        """Return the id of a function's process; None if it does not run."""
        return self._functions[function].pid

    def pause_process(self, service: str, *, paused: bool) -> None:
        """Stop the process of a service by SIGSTOP, or let it go on.

        Raises:
            KeyError: it has no process of its own.
        """
        self._data_services.signal(service, signal.SIGSTOP if paused else signal.SIGCONT)

    def _state(self) -> dict[str, Any]:
        return {
            "address": self._platform.address,
            "project_id": self._settings.project_id,
            "project_number": self._settings.project_number,
            "region": self._settings.region,
            "zones": self._settings.zones,
            "pid": os.getpid(),
            "reaper_pid": self._reaper.pid,
            "secret": self._secret,
            "folder": str(self._folder),
            "emulators": self._settings.emulators,
            "started_at": self._started_at.isoformat().replace("+00:00", "Z"),
            "ready_seconds": round(self._ready_seconds, 2),
            "services": self._platform.describe(),
            "functions": {
                name: {
                    "url": self._platform.urls[name],
                    "direct_url": process.url,
                    "pid": process.pid,
                    "log": str(self._log(name)),
                }
                for name, process in self._functions.items()
            },
            "processes": {
                name: {"pid": child.pid, "log": str(self._log(name))}
                for name, child in self._data_services.children.items()
            }
            | {
                name: {"pid": child.pid, "log": str(self._log(_MACHINES))}
                for name, child in self._machines().items()
            },
            "log": str(self._log("cloud")),
            "requests": str(self._requests) if self._settings.write_requests else None,
            "environment": self._environment,
        }

    def _machines(self) -> dict[str, Child]:
        return self._platform.machines.children() if self._platform.machines else {}

    def _write_state(self) -> None:
        if self._ready_seconds:
            write_state(self._state_file, self._state())

    def _address(self, name: str) -> str:
        return f"{LOOPBACK}:{self._ports[name]}"

    def _url(self, name: str) -> str:
        return f"http://{self._address(name)}"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _folder_of(self, name: str) -> Path:
        # Not its name: gunicorn makes a socket in it, whose path may have 103 characters. On macOS
        # the folder for temporary files takes 49 of them.
        return self._folder / str(list(self._ports).index(name))


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """Return the first of several failures, which mostly have the same cause."""
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def _log_into(path: Path) -> None:
    logging.basicConfig(
        filename=path,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("localcloud").setLevel(logging.INFO)
