"""A function's process that is told to end, as Cloud Run tells one at every deployment: what it has only counted is written."""

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
from localcloud.processes.functions import program
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually
from tests.system.records import Records

TEN_SECONDS = 10  # that Cloud Run gives from SIGTERM to SIGKILL
SERVED = "served@example.com"


class Running:
    """A function's process: gunicorn's master, and the worker that it has forked."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text(encoding="utf-8")

    def ask(self, method: str, path: str, token: str) -> int:
        """Send a request and return the answer's status."""
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(method, self.url + path, headers=headers, timeout=30).status_code

    def end(self) -> float:
        """Tell it to end, wait until it has, and return how many seconds that took."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)  # the first process of the container only
        assert self._process.wait(TEN_SECONDS) == 0, self.log
        return time.monotonic() - began


Start = Callable[..., Running]


@pytest.fixture
def start(shipped: Path, tmp_path: Path, cloud: RunningCloud) -> Iterator[Start]:
    """Start a function of a Hub that serves one person, with other settings if they are given."""
    with contextlib.ExitStack() as ended:

        def started(name: str, **settings: str) -> Running:
            [port] = free_ports(1)
            what = program(
                read_catalogue()[name],
                port=port,
                shipped=shipped,
                folder=tmp_path,
                log=tmp_path / "log",
                settings={**cloud.state["environment"], "HUB_ALLOWED_EMAILS": SERVED, **settings},
            )
            log = ended.enter_context(what.log.open("wb"))
            process = ended.enter_context(
                subprocess.Popen(
                    what.command,
                    env=dict(what.environment),
                    cwd=what.folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
            ended.callback(_kill, process)
            running = Running(process, f"http://127.0.0.1:{port}", what.log)
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


def test_what_was_only_counted_is_written_when_a_process_is_told_to_end(
    start: Start, cloud: RunningCloud
) -> None:
    """Of a stranger, and of somebody whom the Hub serves and who asks for what is not theirs; each once, and one line for the rest."""
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

    def told() -> Counter[tuple[str, int]]:
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

    assert told() == {("EntryRequested", 1): 1, ("StopRequested", 1): 1}

    process.end()

    assert told() == {
        ("EntryRequested", 1): 1,
        ("EntryRequested", 39): 1,
        ("StopRequested", 1): 1,
        ("StopRequested", 5): 1,
    }
    assert "WARNING" not in process.log, process.log


def test_a_process_ends_in_time_though_the_database_is_away(
    start: Start, cloud: RunningCloud
) -> None:
    """What it has counted is lost then; its log says how much."""
    process = start("list_workspaces", FIRESTORE_EMULATOR_HOST=f"127.0.0.1:{free_ports(1)[0]}")
    token = cloud.token(f"{uuid.uuid4()}@example.com")
    assert [process.ask("GET", "/workspaces", token) for _ in range(3)] == [403] * 3

    assert process.end() < TEN_SECONDS

    assert '"RefusalsLost"' in process.log
    assert '"times": 3' in process.log


def test_a_first_refusal_is_written_before_it_is_answered(
    start: Start, cloud: RunningCloud
) -> None:
    """A process that is killed afterwards does not take it along."""
    stranger = f"{uuid.uuid4()}@example.com"
    process = start("list_workspaces")
    token = cloud.token(stranger)
    assert process.ask("GET", "/workspaces", token) == 403

    events = [each for each in Records(cloud).every_event() if each["who_email"] == stranger]

    assert [(each["what"], each["times"]) for each in events] == [("EntryRequested", 1)]
