"""A function's process that gets SIGTERM, as at every deployment, writes its counted refusals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from localcloud.catalogue import read_catalogue
from localcloud.processes.children import free_ports
from localcloud.processes.functions import Deployment, function_program
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually
from tests.system.records import Records

GRACE_SECONDS = 10  # from SIGTERM to SIGKILL on Cloud Run
SERVED = "served@example.com"


class RunningFunction:
    """A running function: gunicorn's master process and its worker."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        """The log so far."""
        return self._log.read_text(encoding="utf-8")

    def ask(self, method: str, path: str, token: str) -> int:
        """Send a request and return the answer's status."""
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(method, self.url + path, headers=headers, timeout=30).status_code

    def end(self) -> float:
        """Send SIGTERM, wait for the end, and return how many seconds that took."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)  # to the first process only, as Cloud Run does
        assert self._process.wait(GRACE_SECONDS) == 0, self.log
        return time.monotonic() - began


Start = Callable[..., RunningFunction]


@pytest.fixture
def start(shipped: Path, tmp_path: Path, cloud: RunningCloud) -> Iterator[Start]:
    """Start a function of a Hub that serves one person; settings can be added."""
    with contextlib.ExitStack() as ended:

        def started(name: str, **settings: str) -> RunningFunction:
            [port] = free_ports(1)
            started_program = function_program(
                read_catalogue()[name],
                Deployment(
                    shipped=shipped,
                    settings={
                        **cloud.state["environment"],
                        "HUB_ALLOWED_EMAILS": SERVED,
                        **settings,
                    },
                ),
                port=port,
                folder=tmp_path,
                log=tmp_path / "log",
            )
            log = ended.enter_context(started_program.log.open("wb"))
            process = ended.enter_context(
                subprocess.Popen(
                    started_program.command,
                    env=dict(started_program.environment),
                    cwd=started_program.folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
            ended.callback(_kill, process)
            running = RunningFunction(process, f"http://127.0.0.1:{port}", started_program.log)
            assert eventually(lambda: process.poll() is not None or _answers(running.url), 60)
            assert process.poll() is None, running.log
            return running

        yield started


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{url}/favicon.ico", timeout=5).status_code in {404, 405}
    return False


def test_counted_refusals_are_written_when_a_process_gets_sigterm(
    start: Start, cloud: RunningCloud
) -> None:
    """The first refusal of each person is an event at once; one more event counts the others."""
    stranger = f"{uuid.uuid4()}@example.com"
    wanted = [str(uuid.uuid4()) for _ in range(3)]
    process = start("stop_workspace")
    tokens = cloud.token(stranger), cloud.token(SERVED)
    assert [process.ask("POST", f"/workspaces/{wanted[0]}/stop", tokens[0]) for _ in range(40)] == [
        403
    ] * 40
    assert [
        process.ask("POST", f"/workspaces/{each}/stop", tokens[1])
        for each in wanted
        for _ in range(2)
    ] == [404] * 6
    records = Records(cloud)

    def written() -> Counter[tuple[str, int]]:
        events = records.every_event()
        mine = [
            each
            for each in events
            if each["who_email"] == stranger or each["workspace_id"] in {*wanted}
        ]
        mine += [
            each for each in events if each["who_email"] == SERVED and each["workspace_id"] == ""
        ]
        return Counter((each["what"], each["times"]) for each in mine)

    assert written() == {("EntryRequested", 1): 1, ("StopRequested", 1): 1}

    process.end()

    assert written() == {
        ("EntryRequested", 1): 1,
        ("EntryRequested", 39): 1,
        ("StopRequested", 1): 1,
        ("StopRequested", 5): 1,
    }
    assert "WARNING" not in process.log, process.log


def test_a_process_ends_in_time_though_the_database_is_down(
    start: Start, cloud: RunningCloud
) -> None:
    """The counted refusals are lost; the log says how many."""
    process = start("list_workspaces", FIRESTORE_EMULATOR_HOST=f"127.0.0.1:{free_ports(1)[0]}")
    token = cloud.token(f"{uuid.uuid4()}@example.com")
    assert [process.ask("GET", "/workspaces", token) for _ in range(3)] == [403] * 3

    assert process.end() < GRACE_SECONDS

    assert '"RefusalsLost"' in process.log
    assert '"times": 3' in process.log


def test_a_first_refusal_is_written_before_it_is_answered(
    start: Start, cloud: RunningCloud
) -> None:
    """So it is not lost if the process is killed afterwards."""
    stranger = f"{uuid.uuid4()}@example.com"
    process = start("list_workspaces")
    token = cloud.token(stranger)
    assert process.ask("GET", "/workspaces", token) == 403

    events = [each for each in Records(cloud).every_event() if each["who_email"] == stranger]

    assert [(each["what"], each["times"]) for each in events] == [("EntryRequested", 1)]
