"""The reaper, with real processes: it cleans up, whichever way the cloud ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT
from localcloud.processes.children import Child, LocalCloudError, Program
from localcloud.processes.reaper import Reaper
from tests.processes import eventually, is_gone

# A cloud with one child, which has a child of its own; both children ignore SIGTERM.
CLOUD = """
import asyncio, pathlib, sys
from localcloud.processes.children import Child, Program
from localcloud.processes.reaper import Reaper

async def main():
    folder = pathlib.Path(sys.argv[1])
    reaper = Reaper()
    reaper.remove(folder / "temporary")
    reaper.remove(folder / "state.json")
    (folder / "temporary" / "deep").mkdir(parents=True)
    (folder / "state.json").touch()
    pids = folder / "temporary" / "pids"
    script = f"trap '' TERM; sleep 300 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait; wait"
    program = Program(
        name="deaf",
        command=["/bin/sh", "-c", script],
        environment={},
        folder=folder,
        log=folder / "log",
    )
    await Child.start(program, reaper)
    print(reaper.pid, flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


def test_the_reaper_cleans_up_after_a_killed_cloud(tmp_path: Path) -> None:
    """It ends process groups that ignore SIGTERM, and removes the files and folders."""
    cloud = subprocess.Popen(
        [sys.executable, "-c", CLOUD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    with cloud:
        assert cloud.stdout
        reaper = int(cloud.stdout.readline())
        pids = tmp_path / "temporary" / "pids"
        assert eventually(pids.exists)
        running = [reaper, *map(int, pids.read_text().split())]
        assert not any(map(is_gone, running))
        cloud.kill()
    assert eventually(lambda: all(map(is_gone, running)))
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_the_reaper_ignores_signals(tmp_path: Path) -> None:
    """SIGINT, SIGTERM and SIGHUP do not make it clean up before the cloud ends."""
    reaper = Reaper()
    reaper.remove(tmp_path / "folder")
    (tmp_path / "folder").mkdir()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(reaper.pid, number)
    assert (tmp_path / "folder").exists()
    reaper.close()
    assert not (tmp_path / "folder").exists()


def test_a_cloud_cleans_up_itself_if_its_reaper_was_killed(tmp_path: Path) -> None:
    """It starts no more children, since no reaper would end them."""
    program = Program(
        name="child",
        command=["sleep", "300"],
        environment={},
        folder=tmp_path,
        log=tmp_path / "log",
    )

    async def steps() -> tuple[Child, int]:
        reaper = Reaper()
        reaper.remove(tmp_path / "folder")
        (tmp_path / "folder").mkdir()
        first = await Child.start(program, reaper)
        os.kill(reaper.pid, signal.SIGKILL)
        assert eventually(lambda: is_gone(reaper.pid))
        second = await (await Child.start(program, reaper)).wait()
        await asyncio.to_thread(reaper.close)
        return first, second

    first, second = asyncio.run(steps())
    assert second != 0
    assert eventually(lambda: is_gone(first.pid))
    assert not (tmp_path / "folder").exists()


def test_the_reaper_does_not_signal_a_group_that_has_ended() -> None:
    """Another process may have the group's number by then."""
    bystander = subprocess.Popen(["sleep", "300"], start_new_session=True)
    reaper = Reaper()
    reaper.started(bystander.pid)
    os.write(reaper.pipe, f"group {bystander.pid}\n".encode())
    reaper.ended(bystander.pid)
    reaper.close()
    assert not is_gone(bystander.pid)
    bystander.kill()
    bystander.wait()


def test_a_child_that_does_not_start_raises_an_error_with_the_end_of_its_log(
    tmp_path: Path,
) -> None:
    """The child has either ended or never answered."""

    async def never() -> bool:
        return False

    async def steps(name: str, script: str, expected: str) -> None:
        command = ["/bin/sh", "-c", script]
        program = Program(
            name=name, command=command, environment={}, folder=tmp_path, log=tmp_path / name
        )
        reaper = Reaper()
        child = await Child.start(program, reaper)
        try:
            with pytest.raises(LocalCloudError, match=expected):
                await child.wait_until_ready(never, 1)
        finally:
            await asyncio.to_thread(reaper.close)

    asyncio.run(steps("one", "echo no such module; exit 3", "^one ended with 3:\nno such module$"))
    asyncio.run(
        steps("two", "echo still thinking; sleep 300", "^two does not answer:\nstill thinking$")
    )


def test_the_rest_of_a_childs_process_group_ends_with_the_child(tmp_path: Path) -> None:
    """Otherwise a worker process would outlive its master and keep the port."""
    pid_file = tmp_path / "pid"
    script = f"sleep 300 & echo $! > {pid_file}"
    program = Program(
        name="master",
        command=["/bin/sh", "-c", script],
        environment={},
        folder=tmp_path,
        log=tmp_path / "log",
    )

    async def steps() -> None:
        reaper = Reaper()
        child = await Child.start(program, reaper)
        assert await child.wait() == 0
        await asyncio.to_thread(reaper.close)

    asyncio.run(steps())
    assert eventually(lambda: is_gone(int(pid_file.read_text())))
