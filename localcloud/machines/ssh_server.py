"""The first process of a machine that somebody has entered: it serves SSH.

The local cloud starts it at the first connection, with its end of a socket pair as the only
argument. Each message there is a JSON object, from the cloud:

    {"environment", "host_key"}  the first one: the variables of every program, and the private key
    {"keys"}                     with one file descriptor: a connection, and the public keys that
                                 may log in by it, ``<type> <base64>``

and to the cloud: ``{"logged_in": N}``, how many connections somebody is logged in by, whenever that
changes. When the socket ends, the cloud has ended: so does the machine.

It serves shells, commands, SFTP, the agent, and ports of the loopback address, as a real machine
does (``shared/boot/ssh.sh``). Logging in takes a key, whatever the user's name is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from typing import Any

import asyncssh

from localcloud.machines.programs import Programs, become_subreaper
from localcloud.machines.session import Session
from localcloud.processes import process_tree

_LOG = logging.getLogger(__name__)

_MESSAGE_BYTES = 1024 * 1024
_KEEPALIVE_SECONDS = 60
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_END_SECONDS = 1.0


class Login(asyncssh.SSHServer):
    """What one connection may do.

    Args:
        keys: the public keys that may log in.
        machine: counts who is logged in.
    """

    def __init__(self, keys: frozenset[bytes], machine: Machine) -> None:
        self._keys = keys
        self._machine = machine
        self._is_logged_in = False

    def connection_lost(self, _exc: Exception | None) -> None:
        """Nobody is logged in by it any more."""
        if self._is_logged_in:
            self._machine.count(-1)

    def begin_auth(self, _username: str) -> bool:
        """Everybody has to prove who they are."""
        return True

    def auth_completed(self) -> None:
        """Somebody is logged in, even if they never ask for a shell."""
        self._is_logged_in = True
        self._machine.count(1)

    def public_key_auth_supported(self) -> bool:
        """Keys are the only proof."""
        return True

    def validate_public_key(self, _username: str, key: asyncssh.SSHKey) -> bool:
        """Accept the keys of the people who may enter."""
        return key.public_data in self._keys

    def connection_requested(
        self, dest_host: str, _dest_port: int, _orig_host: str, _orig_port: int
    ) -> bool:
        """Let ports of the loopback address be reached, and nothing else."""
        return dest_host.lower() in _LOOPBACK

    def server_requested(self, listen_host: str, _listen_port: int) -> bool:
        """Let ports be opened on the loopback address, and nowhere else."""
        return listen_host.lower() in _LOOPBACK


class Sftp(asyncssh.SFTPServer):
    """Serves files. Paths that do not begin with a slash begin at the home."""

    def exit(self) -> None:
        """Say that all went well, as OpenSSH's server does: without that, scp fails."""
        self.channel.exit(0)


class Machine:
    """This machine.

    Args:
        cloud: this process's end of the socket pair.
        settings: the first message.
    """

    def __init__(self, cloud: socket.socket, settings: dict[str, Any]) -> None:
        self._cloud = cloud
        self._logged_in = 0
        self._session = Session(Programs(), settings["environment"])
        self._host_key = asyncssh.import_private_key(settings["host_key"])
        self._connections: set[asyncio.Task[None]] = set()

    def count(self, change: int) -> None:
        """Tell the cloud how many connections somebody is logged in by."""
        self._logged_in += change
        with contextlib.suppress(OSError):  # it has ended, or does not read: this is the newest
            self._cloud.send(json.dumps({"logged_in": self._logged_in}).encode())

    async def serve(self) -> None:
        """Serve until the cloud has ended."""
        over = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._cloud, self._receive, over)
        await over.wait()

    def _receive(self, over: asyncio.Event) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._cloud, _MESSAGE_BYTES, 1)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            keys = frozenset(
                base64.b64decode(key.split()[1]) for key in json.loads(message)["keys"]
            )
            task = asyncio.create_task(
                self._serve_connection(socket.socket(fileno=descriptor), keys)
            )
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        if not message:
            asyncio.get_running_loop().remove_reader(self._cloud)
            over.set()

    async def _serve_connection(self, connection: socket.socket, keys: frozenset[bytes]) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError, asyncssh.Error):
            serving = await asyncssh.run_server(
                connection,
                server_factory=lambda: Login(keys, self),
                server_host_keys=[self._host_key],
                process_factory=self._session.serve,
                sftp_factory=Sftp,
                encoding=None,
                line_editor=False,
                gss_host=None,
                keepalive_interval=_KEEPALIVE_SECONDS,
            )
            await serving.wait_closed()


async def main(cloud: socket.socket) -> None:
    """Serve SSH until the cloud has ended, then end everything here."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    become_subreaper()
    settings = json.loads(cloud.recv(_MESSAGE_BYTES))
    cloud.setblocking(False)
    await Machine(cloud, settings).serve()
    mark = os.environ[process_tree.MARK]
    await asyncio.to_thread(process_tree.end, mark, grace_seconds=_END_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(socket.socket(fileno=int(sys.argv[1]))))
    os._exit(0)
