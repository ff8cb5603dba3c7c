"""Functions that are told to end, as at every deployment: what they have in hand is finished or given back, and nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
import requests

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually, is_gone
from tests.system.records import in_compute

pytestmark = pytest.mark.xdist_group("troubled_cloud")

# Three times what Cloud Run gives an instance from SIGTERM to SIGKILL: a busy machine needs longer
# for the same work, and what waits without end, as for a call without a deadline, waits longer
# still.
GRACE_SECONDS = 30.0
_AWAY = {502, 503, 504}
HEADERS = {"Idempotency-Key": "once"}


@contextmanager
def away(cloud: RunningCloud) -> Iterator[None]:
    """Have the database answer nothing for as long as the context lasts."""
    cloud.signal_emulator("firestore", signal.SIGSTOP)
    try:
        yield
    finally:
        cloud.signal_emulator("firestore", signal.SIGCONT)


def told_to_end(cloud: RunningCloud, function: str) -> int:
    """Send SIGTERM to a function's process and return its id."""
    pid: int = cloud.state["functions"][function]["pid"]
    with suppress(ProcessLookupError):  # it has just ended, and the next one is not there yet
        cloud.kill_function(function, signal.SIGTERM)
    return pid


def asked(pool: ThreadPoolExecutor, person: ApiClient) -> Future[requests.Response]:
    """Ask for a workspace, and be sure that a function is at work on it."""
    answer = pool.submit(
        person.request, "POST", "/workspaces", json={"name": "api"}, headers=HEADERS
    )
    time.sleep(0.5)
    assert not answer.done()
    return answer


def test_a_request_in_hand_is_finished_by_a_function_that_is_told_to_end(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The database is slow; the process waits for it, answers, and ends."""
    with ThreadPoolExecutor() as pool:
        with away(trouble):
            answer = asked(pool, bob)
            pid = told_to_end(trouble, "create_workspace")
            time.sleep(1)
            assert not is_gone(pid)
        assert answer.result().status_code == 201
    assert eventually(lambda: is_gone(pid), GRACE_SECONDS)
    bob.wait_until_settled(answer.result().json()["id"], "READY")


def test_a_request_that_cannot_be_finished_is_given_back_in_time(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The database is away for longer: 503 before the process would be killed, and asking again is asking once."""
    with ThreadPoolExecutor() as pool, away(trouble):
        answer = asked(pool, bob)
        told_at, pid = time.monotonic(), told_to_end(trouble, "create_workspace")
        assert answer.result().status_code == 503
        assert answer.result().headers["Retry-After"]
        assert eventually(lambda: is_gone(pid), GRACE_SECONDS - (time.monotonic() - told_at))

    again = bob.request("POST", "/workspaces", json={"name": "api"}, headers=HEADERS)

    assert again.status_code == 201
    bob.wait_until_settled(again.json()["id"], "READY")
    assert len(in_compute(trouble, "instances", "")) == 1


def test_a_job_that_cannot_be_finished_is_given_back_in_time(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """A worker that is told to end while the database is away ends in time, and the job comes again."""
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    bob.stop(workspace_id)
    with away(trouble):
        time.sleep(1)  # a job is in hand, and more come
        pid = told_to_end(trouble, "advance_operation")
        assert eventually(lambda: is_gone(pid), GRACE_SECONDS)
    bob.wait_until_settled(workspace_id, "SUSPENDED", seconds=60)


def test_a_deployment_in_the_middle_of_everything_loses_nothing(trouble: RunningCloud) -> None:
    """Every process is told to end, three times, while workspaces are made, stopped and started: all are accepted and done."""
    people = [
        ApiClient(trouble.address, trouble.token(f"person-{number}@example.com"))
        for number in range(6)
    ]
    with ThreadPoolExecutor(8) as pool:
        living = [pool.submit(_live, person) for person in people]
        for _ in range(3):
            told = [told_to_end(trouble, function) for function in trouble.state["functions"]]
            assert eventually(
                partial(_all_gone, told), 60
            )  # thirty processes end and start at once
            time.sleep(1)
        for life in living:
            life.result()
    assert [person.workspaces() for person in people] == [[]] * 6
    assert eventually(
        lambda: in_compute(trouble, "instances", "") == in_compute(trouble, "disks", "") == []
    )


def _all_gone(pids: list[int]) -> bool:
    return all(is_gone(pid) for pid in pids)


def _live(person: ApiClient) -> None:
    """Have a whole life of a workspace; a Hub that is away for the moment is asked again."""
    workspace_id = _accepted(person, "POST", "/workspaces", json={"name": "api"}, headers=HEADERS)[
        "id"
    ]
    for verb, status in (("stop", "SUSPENDED"), ("start", "READY")):
        _reaches(person, "READY" if verb == "stop" else "SUSPENDED")
        _accepted(person, "POST", f"/workspaces/{workspace_id}/{verb}")
        _reaches(person, status)
    _accepted(person, "DELETE", f"/workspaces/{workspace_id}")
    assert eventually(lambda: _listed(person) == [], 60)


def _accepted(person: ApiClient, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
    """Ask until the answer is not that the Hub is away."""
    said: dict[str, Any] = {}

    def is_accepted() -> bool:
        with suppress(requests.RequestException):  # no answer, or half of one
            answer = person.request(method, path, **kwargs)
            assert answer.ok or answer.status_code in _AWAY, answer.text
            if answer.ok:
                said.update(answer.json())
        return bool(said)

    assert eventually(is_accepted, 60)
    return said


def _reaches(person: ApiClient, status: str) -> None:
    assert eventually(
        lambda: (
            [(ws["status"], ws["operation"]) for ws in _listed(person) or []] == [(status, None)]
        ),
        60,
    )


def _listed(person: ApiClient) -> list[dict[str, Any]] | None:
    """Return a person's workspaces; None when the Hub is away."""
    with suppress(requests.RequestException):
        answer = person.request("GET", "/workspaces")
        if answer.ok:
            return list(answer.json())
    return None
