"""The processes of a machine, with real processes: found, frozen, thawed and ended."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.processes import process_tree
from localcloud.processes.process_tree import Process
from tests.processes import eventually, is_gone

if not process_tree.can_hold_machines():
    pytest.skip("machines that one can enter need Linux", allow_module_level=True)

# A shell as far as it matters: it writes down whenever it finds its child stopped.
WATCHFUL_PARENT = """
import os, sys, time
child = os.fork()
if child == 0:
    os.setpgid(0, 0)  # as a shell does with its jobs
    while True:
        time.sleep(0.01)
print(child, flush=True)
while True:
    pid, status = os.waitpid(child, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        print("stopped", flush=True)
"""


@pytest.fixture
def mark() -> str:
    """A mark of the test's own."""
    return f"test-{secrets.token_hex(4)}"


@contextlib.contextmanager
def start(mark: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run the first process of a machine, and end the machine."""
    with subprocess.Popen(
        command,
        env={**os.environ, process_tree.MARK: mark},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process_tree.end(mark, grace_seconds=0)


def group_of(pid: int) -> int:
    """Return the process group of a process."""
    return process_tree.all_processes()[pid].group


def state_of(pid: int) -> str:
    """Return the state of a process, a letter."""
    return process_tree.all_processes()[pid].state


def test_a_parent_never_finds_its_child_stopped(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands still before its child, and goes on after it: a shell would take it for Ctrl-Z."""

    def slowly(act: object) -> object:
        def do(*arguments: object) -> object:
            result = act(*arguments)  # type: ignore[operator]
            time.sleep(0.1)
            return result

        return do

    monkeypatch.setattr(process_tree, "_signal", slowly(process_tree._signal))  # noqa: SLF001  # between two signals
    monkeypatch.setattr(os, "killpg", slowly(os.killpg))
    with start(mark, sys.executable, "-c", WATCHFUL_PARENT) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert eventually(lambda: group_of(child) == child)
        for _ in range(3):
            frozen = process_tree.freeze(mark)
            assert [each.pid for each in frozen] == [parent.pid, child]
            assert (state_of(parent.pid), state_of(child)) == ("T", "T")
            process_tree.thaw(frozen)
            assert eventually(lambda: "T" not in {state_of(parent.pid), state_of(child)})
        process_tree.end(mark, grace_seconds=0)
        assert parent.stdout.read() == ""


def test_what_stood_still_before_a_freeze_stands_still_after_it(mark: str) -> None:
    """Somebody had stopped it by Ctrl-Z, and nobody has let it go on."""
    with start(
        mark, "bash", "-c", "set -m; sleep 1000 & echo $!; while :; do sleep 0.1; done"
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert eventually(lambda: group_of(child) == child)
        os.kill(child, signal.SIGSTOP)
        assert eventually(lambda: state_of(child) == "T")
        process_tree.thaw(process_tree.freeze(mark))
        assert eventually(lambda: state_of(parent.pid) != "T")
        assert state_of(child) == "T"
        process_tree.end(mark, grace_seconds=0)
        assert is_gone(child)


def test_a_number_that_is_used_again_is_not_taken_for_the_process_that_had_it() -> None:
    """Nobody else gets a signal that was meant for a process that has ended."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as other:
        earlier = Process(
            pid=other.pid, parent=1, group=other.pid, session=other.pid, state="T", started=1
        )
        process_tree.thaw([earlier])
        os.kill(other.pid, signal.SIGSTOP)
        assert eventually(lambda: state_of(other.pid) == "T")
        process_tree.thaw([earlier])
        time.sleep(0.1)
        assert state_of(other.pid) == "T"
        other.kill()


def test_a_program_name_with_brackets_and_spaces_is_read(mark: str, tmp_path: Path) -> None:
    """It stands in brackets itself, before the numbers."""
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with start(mark, str(program), "1000") as process:
        assert eventually(lambda: [each.pid for each in process_tree.members(mark)] != [])
        [found] = process_tree.members(mark)
        assert (found.pid, found.parent, found.group) == (process.pid, os.getpid(), process.pid)
        process_tree.end(mark, grace_seconds=0)


def test_an_end_asks_first_and_does_not_wait_for_ever(mark: str, tmp_path: Path) -> None:
    """What cleans up at SIGTERM has its time; what ignores it is killed."""
    file = tmp_path / "cleaned"
    script = (
        f"""sh -c "trap 'touch {file}; exit' TERM; while :; do sleep 0.05; done" & echo $!; """
        """sh -c "trap '' TERM HUP; while :; do sleep 0.05; done" & echo $!; """
        "trap '' TERM HUP; while :; do wait; done"
    )
    with start(mark, "sh", "-c", script) as first:
        assert first.stdout
        pids = [int(first.stdout.readline()) for _ in range(2)]
        time.sleep(0.3)  # until both have set their traps
        process_tree.end(mark, grace_seconds=1)
        assert file.exists()
        assert all(map(is_gone, pids))
        assert process_tree.members(mark) == []


def test_a_mark_is_not_taken_for_one_that_begins_so(mark: str) -> None:
    """The tenth machine goes on when the first one is frozen and ended; the cloud's ends both."""
    first, tenth = f"{mark}/1", f"{mark}/10"
    with start(first, "sleep", "1000") as one, start(tenth, "sleep", "1000") as ten:
        assert eventually(lambda: len(process_tree.members(f"{mark}/")) == 2)
        assert [each.pid for each in process_tree.members(first)] == [one.pid]
        process_tree.end(first, grace_seconds=0)
        assert [each.pid for each in process_tree.members(mark)] == [ten.pid]
        process_tree.end(f"{mark}/", grace_seconds=0)
        assert process_tree.members(tenth) == []
