"""The command ``run``: starts a local cloud and serves until it is interrupted."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

from localcloud.processes.process_tree import can_hold_machines
from localcloud.settings import LocalSettings

_BY_THE_COMMAND = "  workspace login --local && workspace create first --ssh\n\n"
_NOT_ENTERED = "Nobody can enter its machines: that needs Linux. They are simulated.\n"
_STDIN = 0
_OPEN_FILES = 4096  # for several hundred requests at once; macOS allows 256 if nobody asks


def run(options: argparse.Namespace) -> int:
    """Run a local cloud."""
    _allow_open_files()
    settings = LocalSettings(
        times=options.times,
        overrides=dict(options.overrides),
        emulators=options.emulators,
        warm=options.warm,
        schedule_seconds=options.schedule_seconds,
        heartbeat_seconds=options.heartbeat_seconds,
        write_requests=options.write_requests,
        python_path=options.python_path,
    )
    asyncio.run(
        _serve(settings, port=options.port, state_file=options.state, attached=options.attached)
    )
    return 0


async def _serve(settings: LocalSettings, *, port: int, state_file: Path, attached: bool) -> None:
    """Run a local cloud until a signal, or until standard input ends if it is attached."""
    began = time.monotonic()
    # It takes a while to import, and the other commands do not need it.
    from localcloud.processes.supervisor import Supervisor  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    supervisor = Supervisor(settings, port=port, state_file=state_file, began=began)
    serving = asyncio.create_task(supervisor.run(_print_ready))
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    if attached:
        loop.add_reader(_STDIN, _end_with_stdin, ended)
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    if attached:
        loop.remove_reader(_STDIN)
    waiting.cancel()
    serving.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        print("The local cloud has ended.")


def _allow_open_files() -> None:
    """Raise this process's limit of open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end_with_stdin(ended: asyncio.Event) -> None:
    if not os.read(_STDIN, 1024):
        ended.set()


def _print_ready(state: dict[str, Any]) -> None:
    # As above: by now it has been imported.
    from localcloud.services.page_sign_in import page_secret  # noqa: PLC0415

    url = f"{state['address']}/workspaces"
    is_proxied = "http" in getproxies() and not proxy_bypass(state["address"].rpartition("/")[2])
    curl = "curl -sS --noproxy 127.0.0.1" if is_proxied else "curl -sS"
    newest = f"$({curl} {url} | grep -o 'workspace-[0-9a-f-]\\{{36\\}}' | head -n 1 | cut -c 11-)"
    print(
        f"The local cloud is ready after {state['ready_seconds']:.1f} s: {state['address']}\n\n"
        f"  The page: {state['address']}/#local={page_secret(state['secret'])}\n\n"
        f"{_BY_THE_COMMAND if can_hold_machines() else ''}"
        f"""  {curl} {url} -H 'Content-Type: application/json' -d '{{"name": "first"}}'\n"""
        f"  {curl} {url}\n"
        f"""  {curl} "{url}/{newest}/status"\n\n"""
        f"{_NOT_ENTERED if not can_hold_machines() else ''}"
        "Ctrl-C ends it.",
        flush=True,
    )
