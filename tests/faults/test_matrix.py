"""What every fault of Compute does to every verb, and that START and DELETE recover from it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.faults import matrix
from tests.faults.matrix import CASES, START_OTHER_TYPE, TIMES, VERBS, Case, End
from tests.kept_logs import keep_if_failed
from tests.system.records import call_scheduled, in_compute
from tests.system.token_leaks import leaks

pytestmark = [pytest.mark.xdist_group("matrix"), pytest.mark.timeout(1800)]

# How a verb ends if the Hub recovers from the fault, or if the fault does not affect the verb.
USUAL = {
    "CREATE": "READY",
    "STOP": "SUSPENDED",
    "START": "READY",
    START_OTHER_TYPE: "READY",
    "DELETE": "GONE",
}

NO_CAPACITY, QUOTA, POLICY = "NO_CAPACITY", "COMPUTE_QUOTA_EXCEEDED", "COMPUTE_POLICY_FORBIDS"
UNAVAILABLE, TIMED_OUT, IN_USE, NOT_READY = (
    "COMPUTE_UNAVAILABLE",
    "_TIMED_OUT",
    "DISK_IN_USE",
    "NOT_READY_IN_TIME",
)
# How it ends otherwise, if the fault strikes once, three times, forever. "" stands for USUAL.
OTHERWISE = {
    # There are three zones.
    ("stock_out", "CREATE"): ("", f"ERROR {NO_CAPACITY}", f"ERROR {NO_CAPACITY}"),
    ("stock_out", "START"): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("second_error", "CREATE"): ("", f"ERROR {NO_CAPACITY}", f"ERROR {NO_CAPACITY}"),
    ("second_error", "START"): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("second_error", START_OTHER_TYPE): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("quota_exceeded", "CREATE"): (f"ERROR {QUOTA}",) * 3,
    ("quota_exceeded", "START"): (f"ERROR {QUOTA}",) * 3,
    ("policy_forbids", "CREATE"): (f"ERROR {POLICY}",) * 3,
    # A START that resumes does nothing that a policy forbids.
    ("policy_forbids", START_OTHER_TYPE): (f"ERROR {POLICY}",) * 3,
    **{
        (fault, verb): ("", "", f"{'READY' if verb == 'STOP' else 'ERROR'} {UNAVAILABLE}")
        for fault in ("rate_limited", "unavailable", "html_502")
        for verb in VERBS
    },
    # The machine is not stopped instead, so that its memory is kept.
    ("not_ready", "STOP"): ("", "", f"READY STOP{TIMED_OUT}"),
    ("not_ready", "START"): ("", "", f"ERROR START{TIMED_OUT}"),
    ("not_ready", "DELETE"): ("", "", f"ERROR DELETE{TIMED_OUT}"),
    ("in_use", "DELETE"): ("", "", f"ERROR {IN_USE}"),
    ("account_unknown", "CREATE"): ("", "", f"ERROR CREATE{TIMED_OUT}"),
    ("ip_space_exhausted", "CREATE"): ("", "", f"ERROR CREATE{TIMED_OUT}"),
    ("never_ready", "CREATE"): (f"ERROR {NOT_READY}",) * 3,
    ("never_ready+console_away", "CREATE"): (f"ERROR {NOT_READY}",) * 3,
    ("fails_at_boot", "CREATE"): ("ERROR IMAGE_PULL_FAILED",) * 3,
    ("fails_later", "CREATE"): ("ERROR CONTAINER_ENDS",) * 3,
    ("preempted", "CREATE"): ("ERROR MACHINE_STOPPED",) * 3,
    ("preempted", "START"): ("", "", f"ERROR START{TIMED_OUT}"),
    ("preempted", START_OTHER_TYPE): ("ERROR MACHINE_STOPPED",) * 3,
    ("vanished", "CREATE"): ("", "", f"ERROR CREATE{TIMED_OUT}"),
    ("vanished", "STOP"): ("ERROR MACHINE_GONE",) * 3,
    ("vanished", "START"): ("", "", f"ERROR START{TIMED_OUT}"),
    ("vanished", START_OTHER_TYPE): ("", "", f"ERROR START{TIMED_OUT}"),
}
# A machine that is reclaimed before the Hub got the request to stop it was stopped outside the Hub.
NOTICED_BEFORE = {("preempted", "STOP"): "SUSPENDED MACHINE_STOPPED"}
# The message of each code: what happened, and what to do next.
MESSAGES = {
    NO_CAPACITY: (
        r"(in any configured zone \(us-west1-a, us-west1-b, us-west1-c\)\. Try again later"
        r"|it cannot move\. Start it again later)"
    ),
    QUOTA: r"quota is used up\. Compute Engine said[^:]*: .* (Start|delete)",
    POLICY: (
        r"policy of the organisation forbids this\. Compute Engine said.*: .*constraints/.*"
        r" Whoever runs this Hub must change that"
    ),
    UNAVAILABLE: (
        r"within 20 minutes, because Compute Engine does not answer\. "
        r"(Start|Stop|Delete) the workspace"
    ),
    f"CREATE{TIMED_OUT}": r"within 20 minutes\. Start the workspace to try again, or delete it",
    f"STOP{TIMED_OUT}": r"within 20 minutes\. Stop the workspace again",
    f"START{TIMED_OUT}": r"within 20 minutes\. Start the workspace again, or delete it",
    f"DELETE{TIMED_OUT}": r"within 20 minutes\. Delete the workspace again",
    IN_USE: (
        r"within 20 minutes, because something else uses .*instances/holder.*"
        r" Detach it there\. Delete the workspace again"
    ),
    NOT_READY: r"did not report ready within 20 minutes\. Start the workspace",
    "IMAGE_PULL_FAILED": r"manifest unknown\. Start the workspace",
    "CONTAINER_ENDS": r"container keeps ending.* Start the workspace",
    "MACHINE_STOPPED": r"was stopped (while it booted|outside the Hub).* Start",
    "MACHINE_GONE": (
        r"was deleted outside the Hub\. Start the workspace"
        r" to get a new machine on its home disk"
    ),
}
# Codes of operations that end only by their deadline.
OF_DEADLINES = (UNAVAILABLE, TIMED_OUT, IN_USE, NOT_READY)


@dataclass(frozen=True)
class Ran:
    """The cloud on which all cases ran, and how each ended."""

    cloud: RunningCloud
    ends: dict[Case, End]


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[Ran]:
    """All cases, run at once."""
    most = dict.fromkeys(("HUB_WORKSPACES_PER_OWNER", "HUB_RUNNING_PER_OWNER"), "200")
    overrides = {**matrix.SETTINGS, **most, "HUB_REQUESTS_PER_MINUTE": "100000"}
    with start_cloud(LocalSettings(times="fast", schedule_seconds=1, overrides=overrides)) as cloud:
        yield Ran(
            cloud, matrix.run(cloud, {case: expected(case) for case in CASES}, only_by_deadline)
        )
        keep_if_failed(cloud, "matrix", failed=request.session.testsfailed)
        assert leaks(cloud) == []


def expected(case: Case) -> tuple[str, ...]:
    """Return the status in which a case ends, with the code of its error if there is one.

    There are two if the fault may strike before the request comes.
    """
    otherwise = OTHERWISE.get((case.fault, case.verb), ("", "", ""))
    ends = otherwise[list(TIMES).index(case.times)] or USUAL[case.verb]
    return tuple(filter(None, (ends, NOTICED_BEFORE.get((case.fault, case.verb)))))


def only_by_deadline(case: Case) -> bool:
    """Say whether a case ends by its deadline only."""
    return expected(case)[0].endswith(OF_DEADLINES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_fault_ends_as_the_table_says(ran: Ran, case: Case) -> None:
    """No operation is left; an error's message says what to do next."""
    end = ran.ends[case]
    assert str(end) in expected(case)
    if end.code:
        assert re.search(MESSAGES[end.code], end.message), end.message


def test_every_workspace_can_be_started_and_deleted_once_the_faults_are_over(ran: Ran) -> None:
    """After a START all are READY; after a DELETE nothing is left in Compute."""
    ran.cloud.clear_faults()
    people = matrix.people(ran.cloud)
    everything = [(person, workspace) for person in people for workspace in person.workspaces()]
    call_scheduled(ran.cloud, "reconcile_fleet")
    for person, workspace in everything:
        person.request("POST", f"/workspaces/{workspace['id']}/start")
    wait_until(
        lambda: all(each["status"] == "READY" and not each["operation"] for each in listed(people)),
        "all are READY",
    )
    for person, workspace in everything:
        person.delete(workspace["id"])
    wait_until(lambda: listed(people) == [], "all are gone")
    for kind in ("instances", "disks"):
        assert in_compute(ran.cloud, kind, "") == []


def listed(people: list[ApiClient]) -> list[dict[str, Any]]:
    """Return the workspaces of all people."""
    return [workspace for person in people for workspace in person.workspaces()]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 600) -> None:
    """Wait until a condition holds; ``what`` says what was waited for if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.5)
