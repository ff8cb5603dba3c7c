"""Sends requests that no HTTP library would send, and measures the memory of the receiver."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from localcloud.running_cloud import RunningCloud
from tests.processes import descendants

TIMEOUT_SECONDS = 60.0
PIECE = b"x" * 65536


@dataclass(frozen=True)
class Answer:
    """An answer; the status is 0 if none came."""

    status: int
    headers: str
    content: bytes

    @property
    def code(self) -> str:
        """The code of the problem document; empty if the content is none."""
        try:
            return str(json.loads(self.content)["code"])
        except (ValueError, KeyError, TypeError):
            return ""


def head(method: str, target: str, *lines: str, host: str = "127.0.0.1") -> bytes:
    """Return the head of a request; ``lines`` are its headers as they are sent."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def send(url: str, parts: Iterable[bytes]) -> Answer:
    """Send bytes to a server, and return its answer, even if it does not read all of them."""
    with _connected(url) as connection:
        sender = threading.Thread(target=_send_all, args=(connection, parts), daemon=True)
        sender.start()
        answer = _read(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        sender.join(TIMEOUT_SECONDS)
    return answer


def send_incomplete(url: str, request: bytes) -> Answer:
    """Send bytes to a server, close the sending side, and return the answer."""
    with _connected(url) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return _read(connection)


def send_in_turn(url: str, requests: Iterable[bytes]) -> list[Answer]:
    """Send requests on one connection, each after the answer to the one before it."""
    answers = []
    with _connected(url) as connection:
        for request in requests:
            connection.sendall(request)
            answers.append(_read(connection))
    return answers


def send_at_once(url: str, requests: list[list[bytes]]) -> list[Answer]:
    """Send several requests at the same time, each on a connection of its own."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda parts: send(url, parts), requests))


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a body in chunks, with the final empty chunk."""
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


@contextlib.contextmanager
def memory_growth(cloud: RunningCloud, function: str) -> Iterator[dict[str, float]]:
    """Measure by how many MiB a function's processes grow: ``"MiB"`` of the result, at the end.

    The kernel keeps the highest resident size of each process since its last reset (proc(5),
    clear_refs). Memory shared with other processes does not grow meanwhile, so the proportional
    size grows by the same amount.
    """
    if not Path("/proc").is_dir():
        pytest.skip("another process's memory is shown on Linux only")
    pid = cloud.function_pid(function)
    processes = sorted({pid} | descendants(pid))
    for each in processes:
        Path(f"/proc/{each}/clear_refs").write_text("5", encoding="ascii")
    before = {each: _status(each, "VmRSS") for each in processes}
    measured: dict[str, float] = {}
    yield measured
    measured["MiB"] = sum(_status(each, "VmHWM") - before[each] for each in processes) / 1024


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _connected(url: str) -> socket.socket:
    address = urlsplit(url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 80), timeout=TIMEOUT_SECONDS)


def _send_all(connection: socket.socket, parts: Iterable[bytes]) -> None:
    with contextlib.suppress(OSError):
        for part in parts:
            connection.sendall(part)


def _read(connection: socket.socket) -> Answer:
    received = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                break
            received += piece
        headers, _, content = received.partition(b"\r\n\r\n")
        length = _length(headers)
        while len(content) < length:
            piece = connection.recv(65536)
            if not piece:
                break
            content += piece
        words = headers.split()
        return (
            Answer(int(words[1]), headers.decode("latin-1"), content)
            if len(words) > 1
            else Answer(0, "", b"")
        )
    return Answer(0, "", b"")


def _length(headers: bytes) -> int:
    for line in headers.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0
