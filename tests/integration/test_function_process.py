"""When a function's process starts and ends; a small server takes the place of the function."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from localcloud.processes.children import LocalCloudError, Program, free_ports
from localcloud.processes.functions import FunctionProcess
from localcloud.processes.reaper import Reaper
from tests.processes import eventually, is_gone

# Notes each start in a file, then serves; one that is broken ends instead. A slow one starts when
# its file `slow` is gone, and one that is busy ends when its file `busy` is gone.
_SERVER = """
import http.server, os, pathlib, signal, sys, time

def wait_for_end_of(name):
    while pathlib.Path(name).exists():
        time.sleep(0.02)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["VERSION"].encode())

def end(*_):
    server.socket.close()
    wait_for_end_of("busy")
    os._exit(0)

with open("starts", "a") as starts:
    starts.write(os.environ["VERSION"])
wait_for_end_of("slow")
if pathlib.Path("broken").exists():
    sys.exit("It is broken.")
signal.signal(signal.SIGTERM, end)
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.serve_forever()
"""


class Bench:
    """A function whose program is the small server."""

    def __init__(self, folder: Path, reaper: Reaper, session: aiohttp.ClientSession) -> None:
        [port] = free_ports(1)
        self.folder = folder
        self.session = session
        self.pids: list[int | None] = []
        self.program = Program(
            name="a_function",
            command=[sys.executable, "-c", _SERVER],
            environment={"PORT": str(port), "VERSION": "1"},
            folder=folder,
            log=folder / "log",
        )
        self.process = FunctionProcess(
            self.program,
            url=f"http://127.0.0.1:{port}",
            reaper=reaper,
            session=session,
            changed=lambda: self.pids.append(self.process.pid),
        )

    @property
    def starts(self) -> str:
        """The versions that were started."""
        file = self.folder / "starts"
        return file.read_text() if file.exists() else ""

    @property
    def newer(self) -> Program:
        """The same program in its second version."""
        return replace(self.program, environment={**self.program.environment, "VERSION": "2"})

    async def ask(self) -> str:
        """Return the version that answers a request."""
        async with self.session.get(await self.process.ensure_running()) as answer:
            return await answer.text()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        assert await asyncio.to_thread(eventually, condition)


def run_on_bench(folder: Path, steps: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a test's steps with a new bench."""

    async def perform() -> None:
        reaper = Reaper()
        try:
            async with aiohttp.ClientSession() as session:
                bench = Bench(folder, reaper, session)
                try:
                    await steps(bench)
                finally:
                    await bench.process.stop()
        finally:
            await asyncio.to_thread(reaper.close)

    asyncio.run(perform())


def test_concurrent_first_requests_start_one_process(tmp_path: Path) -> None:
    """They all wait for it; before them there is none."""

    async def steps(bench: Bench) -> None:
        assert (bench.process.pid, bench.starts) == (None, "")
        answers = await asyncio.gather(*(bench.ask() for _ in range(20)))
        assert answers == ["1"] * 20
        assert bench.starts == "1"
        assert bench.pids == [bench.process.pid]

    run_on_bench(tmp_path, steps)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_has_ended_is_started_by_the_next_request(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Until then there is none, and its id is None."""

    async def steps(bench: Bench) -> None:
        await bench.ask()
        first = bench.process.pid
        assert first is not None
        os.killpg(first, number)
        await bench.wait_for(lambda: is_gone(first))
        await bench.wait_for(lambda: bench.process.pid is None)
        assert bench.starts == "1"
        assert await bench.ask() == "1"
        assert bench.starts == "11"
        assert bench.pids == [first, None, bench.process.pid]

    run_on_bench(tmp_path, steps)


def test_a_start_that_fails_is_told_to_all_who_wait_and_tried_again_by_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The message has the end of the function's log."""

    async def steps(bench: Bench) -> None:
        broken = bench.folder / "broken"
        broken.touch()
        failures = await asyncio.gather(*(bench.ask() for _ in range(3)), return_exceptions=True)
        assert [type(failure) for failure in failures] == [LocalCloudError] * 3
        assert "It is broken." in str(failures[0])
        assert "a_function was not started" in caplog.text
        assert bench.starts == "1"
        broken.unlink()
        assert await bench.ask() == "1"
        assert bench.starts == "11"

    run_on_bench(tmp_path, steps)


def test_a_start_goes_on_when_the_request_that_caused_it_is_given_up(tmp_path: Path) -> None:
    """The next request waits for the same process."""

    async def steps(bench: Bench) -> None:
        slow = bench.folder / "slow"
        slow.touch()
        asking = asyncio.create_task(bench.ask())
        await bench.wait_for(lambda: bench.starts == "1")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        slow.unlink()
        assert await bench.ask() == "1"
        assert bench.starts == "1"

    run_on_bench(tmp_path, steps)


def test_a_replaced_program_finishes_its_requests_before_the_next_request_is_served(
    tmp_path: Path,
) -> None:
    """Requests wait for the new program, and none reaches the old one."""

    async def steps(bench: Bench) -> None:
        busy = bench.folder / "busy"
        busy.touch()
        assert await bench.ask() == "1"
        bench.process.replace(bench.newer)
        asking = asyncio.create_task(bench.ask())
        done, _ = await asyncio.wait([asking], timeout=0.5)
        assert (done, bench.starts) == (set(), "1")
        busy.unlink()
        assert await asking == "2"

    run_on_bench(tmp_path, steps)


def test_a_program_that_is_replaced_while_it_starts_serves_no_request(tmp_path: Path) -> None:
    """The request that started it is served by the new program."""

    async def steps(bench: Bench) -> None:
        slow = bench.folder / "slow"
        slow.touch()
        asking = asyncio.create_task(bench.ask())
        await bench.wait_for(lambda: bench.starts == "1")
        bench.process.replace(bench.newer)
        slow.unlink()
        assert await asking == "2"
        assert bench.starts == "12"

    run_on_bench(tmp_path, steps)


def test_a_program_that_does_not_run_is_replaced_without_a_start(tmp_path: Path) -> None:
    """Only the next request starts it."""

    async def steps(bench: Bench) -> None:
        bench.process.replace(bench.newer)
        await asyncio.sleep(0.2)
        assert (bench.process.pid, bench.starts) == (None, "")
        assert await bench.ask() == "2"

    run_on_bench(tmp_path, steps)


def test_nothing_is_started_once_the_cloud_is_ending(tmp_path: Path) -> None:
    """A start that is under way is given up, its process ends, and a request is refused."""
    pids: list[int | None] = []

    async def steps(bench: Bench) -> None:
        (bench.folder / "slow").touch()
        asking = asyncio.create_task(bench.ask())
        await bench.wait_for(lambda: bench.starts == "1")
        await bench.process.stop()
        pids.append(bench.process.pid)
        with pytest.raises((asyncio.CancelledError, LocalCloudError)):
            await asking
        with pytest.raises(LocalCloudError, match="is ending"):
            await bench.ask()

    run_on_bench(tmp_path, steps)
    [pid] = pids
    assert pid is not None
    assert is_gone(pid)
