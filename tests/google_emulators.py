"""Google's Firestore and Pub/Sub emulators for tests: one of each for all tests of a run.

The workers of pytest-xdist share them. The first test that needs one starts it, through this file
as a program. It ends with the run, however that ends: the program's standard input is a pipe that
only pytest's main process holds open, and its reaper ends the emulator even if the program is
killed. Where Java or the SDK is missing, the tests are skipped, and nothing is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT
from localcloud.processes.children import Child, LocalCloudError, Program, free_ports
from localcloud.processes.emulators import EMULATORS, FIRESTORE, PUBSUB, Emulator, find_installation
from localcloud.processes.reaper import Reaper
from tests.shared_folder import locked

_START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="session")
def google_firestore(run_folder: Path) -> str:
    """``host:port`` of Google's Firestore emulator. All tests share it: use your own project."""
    return _address(FIRESTORE, run_folder)


@pytest.fixture(scope="session")
def google_pubsub(run_folder: Path) -> str:
    """``host:port`` of Google's Pub/Sub emulator. All tests share it: use your own project."""
    return _address(PUBSUB, run_folder)


def _address(emulator: Emulator, run_folder: Path) -> str:
    """Return where the run's emulator serves, and start it if no worker has done so."""
    try:
        find_installation(installs=False)
    except LocalCloudError as error:
        pytest.skip(f"Google's emulators are not here: {error}")
    with locked(run_folder / f"google-{emulator.name}.lock"):
        state = _state_file(run_folder, emulator)
        if not state.exists():
            _start(emulator, run_folder)
        return str(json.loads(state.read_text())["address"])


def _start(emulator: Emulator, run_folder: Path) -> None:
    output = run_folder / f"google-{emulator.name}.txt"
    # Not by `subprocess`, which warns of a process that outlives its parent: this one must outlive
    # the worker.
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "tests.google_emulators", emulator.name, str(run_folder)],
        {**os.environ, "PYTHONPATH": str(ROOT)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, run_folder / "lifeline", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    deadline = time.monotonic() + _START_SECONDS
    while not _state_file(run_folder, emulator).exists():
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            raise LocalCloudError(f"{emulator.title} does not start:\n{output.read_text()}")
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise LocalCloudError(f"{emulator.title} is not ready:\n{output.read_text()}")
        time.sleep(_POLL_SECONDS)


def _state_file(run_folder: Path, emulator: Emulator) -> Path:
    """Return the file that exists while the emulator serves; the run's end waits for its end."""
    return run_folder / f"google-{emulator.name}.json"


async def serve(emulator: Emulator, run_folder: Path) -> None:
    """Run an emulator until standard input ends."""
    reaper = Reaper()
    state = _state_file(run_folder, emulator)
    try:
        folder = run_folder / f"google-{emulator.name}"
        folder.mkdir()
        [port] = free_ports(1)
        installation = find_installation(installs=False)
        child = await Child.start(
            Program(
                name=emulator.title,
                command=installation.command(emulator, port=port, temp_folder=folder),
                environment={"HOME": str(folder)},
                folder=folder,
                log=folder / "log",
            ),
            reaper,
        )
        await child.wait_until_ready(lambda: _accepts(port), _START_SECONDS)
        new = state.with_suffix(".new")
        new.write_text(json.dumps({"address": f"{_LOOPBACK}:{port}", "pid": child.pid}))
        new.rename(state)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        reaper.close()
        state.unlink(missing_ok=True)


async def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((_LOOPBACK, port), timeout=1):
        return True
    return False


if __name__ == "__main__":
    # Ctrl-C reaches every process of the terminal; the pipe says when the run is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = {emulator.name: emulator for emulator in EMULATORS}[sys.argv[1]]
    asyncio.run(serve(asked, Path(sys.argv[2])))
