"""Functions that get SIGTERM, as at every deployment: requests are finished or refused, none lost.

A refused request or job is one that the caller or the platform repeats.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import requests

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually, is_gone
from tests.system.records import in_compute

pytestmark = pytest.mark.xdist_group("fault_cloud")

# Three times the time from SIGTERM to SIGKILL on Cloud Run, as a busy machine needs longer for the
# same work. A process that waits forever, as for a call without a deadline, takes longer still.
GRACE_SECONDS = 30.0
_UNAVAILABLE = {502, 503, 504}
HEADERS = {"Idempotency-Key": "once"}


def send_sigterm(cloud: RunningCloud, function: str) -> int:
    """Send SIGTERM to a function's process and return its id."""
    pid = cloud.function_pid(function)
    _end(pid)
    return pid


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(pid, signal.SIGTERM)


def start(person: ApiClient) -> None:
    """Have the process of ``create_workspace`` started, which refuses this request."""
    assert person.request("POST", "/workspaces", json={}).status_code == 400


def start_create(pool: ThreadPoolExecutor, person: ApiClient) -> Future[requests.Response]:
    """Send a create, and return its future answer once the function, which runs, works on it."""
    answer = pool.submit(
        person.request, "POST", "/workspaces", json={"name": "api"}, headers=HEADERS
    )
    time.sleep(0.5)
    assert not answer.done()
    return answer


def test_a_function_that_gets_sigterm_finishes_the_request_under_way(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The process waits for the slow database, answers, and ends."""
    start(bob)
    with ThreadPoolExecutor() as pool:
        with fault_cloud.paused("firestore"):
            answer = start_create(pool, bob)
            pid = send_sigterm(fault_cloud, "create_workspace")
            time.sleep(1)
            assert not is_gone(pid)
        assert answer.result().status_code == 201
    assert eventually(lambda: is_gone(pid), GRACE_SECONDS)
    bob.wait_until_settled(answer.result().json()["id"], "READY")


def test_a_function_that_gets_sigterm_answers_503_in_time_if_it_cannot_finish(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The database is down for longer; the same request afterwards makes only one workspace."""
    start(bob)
    with ThreadPoolExecutor() as pool, fault_cloud.paused("firestore"):
        answer = start_create(pool, bob)
        sent_at, pid = time.monotonic(), send_sigterm(fault_cloud, "create_workspace")
        assert answer.result().status_code == 503
        assert answer.result().headers["Retry-After"]
        assert eventually(lambda: is_gone(pid), GRACE_SECONDS - (time.monotonic() - sent_at))

    again = bob.request("POST", "/workspaces", json={"name": "api"}, headers=HEADERS)

    assert again.status_code == 201
    bob.wait_until_settled(again.json()["id"], "READY")
    assert len(in_compute(fault_cloud, "instances", "")) == 1


def test_a_job_that_a_worker_cannot_finish_after_sigterm_is_delivered_again(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The worker ends in time though the database is down, and the STOP succeeds later."""
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    bob.stop(workspace_id)
    with fault_cloud.paused("firestore"):
        time.sleep(1)  # until a job is under way
        pid = send_sigterm(fault_cloud, "advance_operation")
        assert eventually(lambda: is_gone(pid), GRACE_SECONDS)
    bob.wait_until_settled(workspace_id, "SUSPENDED", seconds=60)


def test_a_deployment_during_requests_and_jobs_loses_nothing(fault_cloud: RunningCloud) -> None:
    """Every process gets SIGTERM three times while workspaces are made, stopped and started."""
    people = [
        ApiClient(fault_cloud.address, fault_cloud.token(f"person-{number}@example.com"))
        for number in range(6)
    ]
    with ThreadPoolExecutor(8) as pool:
        uses = [pool.submit(_use_workspace, person) for person in people]
        for _ in range(3):
            functions = fault_cloud.state["functions"].values()
            pids = [function["pid"] for function in functions if function["pid"] is not None]
            for pid in pids:
                _end(pid)
            assert eventually(
                partial(_all_gone, pids), 60
            )  # thirty processes end and start at once
            time.sleep(1)
        for use in uses:
            use.result()
    assert [person.workspaces() for person in people] == [[]] * 6
    assert eventually(
        lambda: (
            in_compute(fault_cloud, "instances", "") == in_compute(fault_cloud, "disks", "") == []
        )
    )


def _all_gone(pids: list[int]) -> bool:
    return all(is_gone(pid) for pid in pids)


def _use_workspace(person: ApiClient) -> None:
    """Create, stop, start and delete a workspace, and repeat requests that get no answer or 5xx."""
    workspace_id = _request_until_accepted(
        person, "POST", "/workspaces", json={"name": "api"}, headers=HEADERS
    )["id"]
    for verb, status in (("stop", "SUSPENDED"), ("start", "READY")):
        _wait_for_status(person, "READY" if verb == "stop" else "SUSPENDED")
        _request_until_accepted(person, "POST", f"/workspaces/{workspace_id}/{verb}")
        _wait_for_status(person, status)
    _request_until_accepted(person, "DELETE", f"/workspaces/{workspace_id}")
    assert eventually(lambda: _listed(person) == [], 60)


def _request_until_accepted(
    person: ApiClient, method: str, path: str, **kwargs: Any
) -> dict[str, Any]:
    """Repeat a request until it is accepted."""
    content: dict[str, Any] = {}

    def is_accepted() -> bool:
        with suppress(requests.RequestException):  # no answer, or half of one
            answer = person.request(method, path, **kwargs)
            assert answer.ok or answer.status_code in _UNAVAILABLE, answer.text
            if answer.ok:
                content.update(answer.json())
        return bool(content)

    assert eventually(is_accepted, 60)
    return content


def _wait_for_status(person: ApiClient, status: str) -> None:
    assert eventually(
        lambda: (
            [(ws["status"], ws["operation"]) for ws in _listed(person) or []] == [(status, None)]
        ),
        60,
    )


def _listed(person: ApiClient) -> list[dict[str, Any]] | None:
    """Return a person's workspaces; None if the Hub does not answer."""
    with suppress(requests.RequestException):
        answer = person.request("GET", "/workspaces")
        if answer.ok:
            return list(answer.json())
    return None
