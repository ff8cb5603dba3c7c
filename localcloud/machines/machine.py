"""One machine that people can enter, from its power-on to its power-off.

It listens on an address of its own. The first connection starts its first process
(``ssh_server.py``), which gets every connection from here. All work on its processes is done one
after the other, in the order in which it was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud.processes import process_tree
from localcloud.processes.children import Child

_LOG = logging.getLogger(__name__)

_BACKLOG = 64
_GRACE_SECONDS = 1.0
_CLOCK_SECONDS = 60.0  # that the time of a file may be ahead
_MESSAGE_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class MachinePlan:
    """What a machine is made of.

    Attributes:
        name: the instance's name.
        mark: the mark of its processes, see ``process_tree.py``; no other boot has the same.
        host: its address.
        port: its port.
        host_key: its private key, in OpenSSH's format.
        home: the home folder, which outlives it.
        temporary: folders that are empty at its start and gone after its end.
        environment: the variables of every program.
        keep_awake_seconds: how long ``~/.keep-awake`` counts after it was touched.
        look_seconds: the pause between two looks at it.
    """

    name: str
    mark: str
    host: str
    port: int
    host_key: str
    home: Path
    temporary: tuple[Path, ...]
    environment: Mapping[str, str]
    keep_awake_seconds: float
    look_seconds: float


@dataclass(frozen=True, kw_only=True)
class MachineSurroundings:
    """What a machine needs of the local cloud.

    Attributes:
        start: starts the first process of a machine, with this socket.
        keys: returns the public keys that may log in to it now, ``<type> <base64>``.
        before: is awaited before its first process starts: until nobody else uses its home.
        changed: is called when its first process, ``logged_in`` or ``is_kept_awake`` has changed.
        make_folders: makes its folders.
        remove: removes a folder; it may take long.
    """

    start: Callable[[MachinePlan, socket.socket], Awaitable[Child]]
    keys: Callable[[], list[str]]
    before: Callable[[], Awaitable[None]]
    changed: Callable[[], None]
    make_folders: Callable[[], None]
    remove: Callable[[Path], None]


class Machine:
    """One machine.

    Attributes:
        plan: what it is made of.
        logged_in: by how many connections somebody is logged in.
        is_kept_awake: whether somebody has touched ``~/.keep-awake`` lately.
        child: its first process; None if it has none.
    """

    def __init__(self, plan: MachinePlan, surroundings: MachineSurroundings) -> None:
        self.plan = plan
        self.logged_in = 0
        self.is_kept_awake = False
        self.child: Child | None = None
        self._surroundings = surroundings
        self._listener: socket.socket | None = None
        self._cloud: socket.socket | None = None  # the cloud's end of the pair
        self._frozen: list[process_tree.Process] | None = None
        self._is_open = self._is_still = self._has_ended = self._has_leftovers = False
        self._work: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether everything that was asked for has happened."""
        return self._work is None or self._work.done()

    async def settle(self) -> None:
        """Wait until everything that was asked for has happened."""
        while self._work and not self._work.done():
            await asyncio.wait([self._work])

    def open(self) -> None:
        """Listen: the machine has booted."""
        self._is_open = True
        self._listen()
        if self.plan.home.exists():
            self._look_at_home()

    def freeze(self) -> None:
        """Stop all processes. Connections stand still, and new ones are refused."""
        self._is_still = True
        self._stop_listening()
        self._then(self._freeze)

    def thaw(self) -> None:
        """Let all processes go on, and listen again."""
        self._is_still = False
        self._then(self._thaw)

    def end(self) -> None:
        """End all processes; the home stays."""
        self._has_ended = True
        self._stop_listening()
        if self._looking:
            self._looking.cancel()
        self._then(self._end)

    def _then(self, work: Callable[[], Awaitable[None]]) -> None:
        previous = self._work

        async def do() -> None:
            if previous:
                await asyncio.wait([previous])
            try:
                await work()
            except Exception:  # noqa: BLE001  # what was asked for next is done all the same
                _LOG.exception("the machine %s", self.plan.name)

        self._work = asyncio.create_task(do())

    def _listen(self) -> None:
        if not self._is_open or self._is_still or self._has_ended or self._listener:
            return
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.plan.host, self.plan.port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            _LOG.warning("nobody can enter %s: %s", self.plan.name, error)
            return
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _stop_listening(self) -> None:
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # whoever wanted in is gone again
            connection, _ = listener.accept()
            self._then(lambda: self._hand_over(connection))

    async def _hand_over(self, connection: socket.socket) -> None:
        """Give a connection to the first process, which is started if there is none."""
        with connection:
            if self._has_ended:
                return
            cloud = self._cloud or await self._start()
            message = json.dumps({"keys": self._surroundings.keys()}).encode()
            try:
                socket.send_fds(cloud, [message], [connection.fileno()])
            except OSError as error:  # it has just ended, or is too slow
                _LOG.warning("a connection to %s is lost: %s", self.plan.name, error)

    async def _start(self) -> socket.socket:
        if self._watching:
            await self._watching  # the one before has been killed
            await self._end_leftovers()
        await self._surroundings.before()
        self._surroundings.make_folders()
        cloud, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inside:
            cloud.setblocking(False)
            settings = {
                "environment": dict(self.plan.environment),
                "host_key": self.plan.host_key,
            }
            cloud.send(json.dumps(settings).encode())
            self.child = await self._surroundings.start(self.plan, inside)
        self._cloud = cloud
        asyncio.get_running_loop().add_reader(cloud, self._receive, cloud)
        self._watching = asyncio.create_task(self._watch(self.child))
        self._surroundings.changed()
        self._look_at_home()
        return cloud

    def _receive(self, cloud: socket.socket) -> None:
        try:
            message = cloud.recv(_MESSAGE_BYTES)
        except OSError:
            message = b""
        if message:
            self._set_logged_in(int(json.loads(message)["logged_in"]))
        else:
            self._forget_cloud()

    def _forget_cloud(self) -> None:
        if self._cloud:
            asyncio.get_running_loop().remove_reader(self._cloud)
            self._cloud.close()
            self._cloud = None
        self._set_logged_in(0)

    def _set_logged_in(self, count: int) -> None:
        if count != self.logged_in:
            self.logged_in = count
            self._surroundings.changed()

    def _look_at_home(self) -> None:
        """Begin to look at ``~/.keep-awake`` again and again, until the machine ends.

        Before somebody has entered a machine on this home, there is nothing to look at.
        """
        if not self._looking:
            self._looking = asyncio.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        while True:
            is_kept_awake = self._is_kept_awake()
            if is_kept_awake != self.is_kept_awake:
                self.is_kept_awake = is_kept_awake
                self._surroundings.changed()
            await asyncio.sleep(self.plan.look_seconds)

    def _is_kept_awake(self) -> bool:
        """Return whether the file counts, as a real machine decides (``shared/boot/ready.sh``)."""
        try:
            age = time.time() - (self.plan.home / ".keep-awake").stat().st_mtime
        except OSError:
            return False
        return -_CLOCK_SECONDS < age < self.plan.keep_awake_seconds

    async def _watch(self, child: Child) -> None:
        """Wait for the first process to end. If somebody has killed it, end what is left.

        The next connection starts another one.
        """
        await child.wait()
        self._forget_cloud()
        self.child = None
        self._surroundings.changed()
        self._has_leftovers = True
        self._then(self._end_leftovers)

    async def _freeze(self) -> None:
        if self.child and not self._has_ended:
            self._frozen = await asyncio.to_thread(process_tree.freeze, self.plan.mark)

    async def _thaw(self) -> None:
        if self._frozen and not self._has_ended:
            await asyncio.to_thread(process_tree.thaw, self._frozen)
        self._frozen = None
        self._listen()

    async def _end(self) -> None:
        if self._watching:
            await self._end_processes()
            await self._watching
            self._has_leftovers = False
        for folder in self.plan.temporary:
            await asyncio.to_thread(self._surroundings.remove, folder)

    async def _end_leftovers(self) -> None:
        if self._has_leftovers:
            self._has_leftovers = False
            await self._end_processes()

    async def _end_processes(self) -> None:
        grace = 0 if self._frozen else _GRACE_SECONDS
        await asyncio.to_thread(process_tree.end, self.plan.mark, grace_seconds=grace)
        self._frozen = None
