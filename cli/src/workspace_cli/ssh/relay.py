"""Standard input and output as a TCP connection, for OpenSSH's ProxyCommand."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

from workspace_cli.errors import NoAnswerError

_CHUNK = 64 * 1024
_CONNECT_SECONDS = 20.0


def connect(host: str, port: int) -> socket.socket:
    """Return a connection to a machine.

    Raises:
        NoAnswerError: there is none to be had.
    """
    try:
        connection = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
    except OSError as error:
        raise NoAnswerError(
            f"the machine does not answer at {host} port {port}: {error.strerror or error}"
        ) from None
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def relay(connection: socket.socket) -> None:
    """Carry what comes in to the connection, and back, until the connection ends."""
    # A daemon: it may wait for input for ever.
    threading.Thread(target=_upwards, args=(connection,), daemon=True).start()
    with contextlib.suppress(OSError):  # either side has gone: that is its end
        while chunk := connection.recv(_CHUNK):
            _write(1, chunk)


def _upwards(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(0, _CHUNK):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
