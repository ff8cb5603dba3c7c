"""What every fault of Compute does to every verb, and that there is a way out of all of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.faults import matrix
from tests.faults.matrix import ANEW, CASES, TIMES, VERBS, Case, End
from tests.kept_logs import keep_if_failed
from tests.system.records import call_scheduled, in_compute
from tests.system.secrets_kept import leaks

pytestmark = [pytest.mark.xdist_group("matrix"), pytest.mark.timeout(1800)]

# How a verb ends where its fault is got over, or does not concern it.
USUAL = {
    "CREATE": "READY",
    "STOP": "SUSPENDED",
    "START": "READY",
    ANEW: "READY",
    "DELETE": "GONE",
}

NO_CAPACITY, QUOTA, POLICY = "NO_CAPACITY", "COMPUTE_QUOTA_EXCEEDED", "COMPUTE_POLICY_FORBIDS"
AWAY, TIMED_OUT, IN_USE, NOT_READY = (
    "COMPUTE_UNAVAILABLE",
    "_TIMED_OUT",
    "DISK_IN_USE",
    "NOT_READY_IN_TIME",
)
# And how it ends otherwise: once, three times, for ever. "" is as usual.
OTHERWISE = {
    ("stock_out", "CREATE"): (
        "",
        f"ERROR {NO_CAPACITY}",
        f"ERROR {NO_CAPACITY}",
    ),  # there are three zones
    ("stock_out", "START"): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("second_error", "CREATE"): ("", f"ERROR {NO_CAPACITY}", f"ERROR {NO_CAPACITY}"),
    ("second_error", "START"): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("second_error", ANEW): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("quota_exceeded", "CREATE"): (f"ERROR {QUOTA}",) * 3,
    ("quota_exceeded", "START"): (f"ERROR {QUOTA}",) * 3,
    ("policy_forbids", "CREATE"): (f"ERROR {POLICY}",) * 3,
    ("policy_forbids", ANEW): (f"ERROR {POLICY}",)
    * 3,  # a START that thaws asks for nothing that a policy forbids
    **{
        (fault, verb): ("", "", f"{'READY' if verb == 'STOP' else 'ERROR'} {AWAY}")
        for fault in ("rate_limited", "unavailable", "html_502")
        for verb in VERBS
    },
    ("not_ready", "STOP"): (
        "",
        "",
        f"READY STOP{TIMED_OUT}",
    ),  # it is not powered off: its memory is kept
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
    ("preempted", ANEW): ("ERROR MACHINE_STOPPED",) * 3,
    ("vanished", "CREATE"): ("", "", f"ERROR CREATE{TIMED_OUT}"),
    ("vanished", "STOP"): ("ERROR MACHINE_GONE",) * 3,
    ("vanished", "START"): ("", "", f"ERROR START{TIMED_OUT}"),
    ("vanished", ANEW): ("", "", f"ERROR START{TIMED_OUT}"),
}
# What a person is told with each code: what happened, and what to do next.
MESSAGES = {
    NO_CAPACITY: r"(in any configured zone \(us-west1-a, us-west1-b, us-west1-c\)\. Try again later|it cannot move\. Start it again later)",
    QUOTA: r"quota is used up\. It said: .* (Start|delete)",
    POLICY: r"policy of the organisation forbids this\. It said.*: .*constraints/.* Whoever runs this Hub must change that",
    AWAY: r"within 20 minutes, because Compute Engine does not answer\. (Start|Stop|Delete) the workspace",
    f"CREATE{TIMED_OUT}": r"within 20 minutes\. Start the workspace to try again, or delete it",
    f"STOP{TIMED_OUT}": r"within 20 minutes\. Stop the workspace again",
    f"START{TIMED_OUT}": r"within 20 minutes\. Start the workspace again, or delete it",
    f"DELETE{TIMED_OUT}": r"within 20 minutes\. Delete the workspace again",
    IN_USE: r"within 20 minutes, because something else uses .*instances/holder.* Detach it there\. Delete the workspace again",
    NOT_READY: r"did not report ready within 20 minutes\. Start the workspace",
    "IMAGE_PULL_FAILED": r"manifest unknown\. Start the workspace",
    "CONTAINER_ENDS": r"container keeps ending.* Start the workspace",
    "MACHINE_STOPPED": r"was stopped while it booted.* Start",
    "MACHINE_GONE": r"was deleted outside the Hub\. Start the workspace to get a new machine on its home disk",
}
# Codes that only a deadline leads to.
OF_DEADLINES = (AWAY, TIMED_OUT, IN_USE, NOT_READY)


@dataclass(frozen=True)
class Ran:
    """The cloud on which all cases ran, and how each ended."""

    cloud: RunningCloud
    ends: dict[Case, End]


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[Ran]:
    """All cases, at once."""
    most = dict.fromkeys(("HUB_WORKSPACES_PER_OWNER", "HUB_RUNNING_PER_OWNER"), "200")
    overrides = {**matrix.SETTINGS, **most, "HUB_REQUESTS_PER_MINUTE": "100000"}
    with start_cloud(LocalSettings(times="fast", schedule_seconds=1, overrides=overrides)) as cloud:
        yield Ran(cloud, matrix.run(cloud, {case: expected(case) for case in CASES}, overdue))
        keep_if_failed(cloud, "matrix", failed=request.session.testsfailed)
        assert leaks(cloud) == []


def expected(case: Case) -> str:
    """Return the status that a case ends in, and the code of the error if there is one."""
    otherwise = OTHERWISE.get((case.fault, case.verb), ("", "", ""))
    return otherwise[list(TIMES).index(case.times)] or USUAL[case.verb]


def overdue(case: Case) -> bool:
    """Say whether a case ends by its deadline only."""
    return expected(case).endswith(OF_DEADLINES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_fault_ends_as_the_table_says(ran: Ran, case: Case) -> None:
    """In a status without an operation, and with a message that says what to do next where it is not what was asked for."""
    end = ran.ends[case]
    assert str(end) == expected(case)
    if end.code:
        assert re.search(MESSAGES[end.code], end.message), end.message


def test_there_is_a_way_out_of_all_of_it(ran: Ran) -> None:
    """Once the faults are over: a START from where it is not READY, then a DELETE; nothing is left in Compute."""
    ran.cloud.clear_faults()
    people = matrix.people_of(ran.cloud)
    everything = [(person, workspace) for person in people for workspace in person.workspaces()]
    call_scheduled(ran.cloud, "reconcile_fleet")
    for person, workspace in everything:
        person.request("POST", f"/workspaces/{workspace['id']}/start")
    until(
        lambda: all(each["status"] == "READY" and not each["operation"] for each in listed(people)),
        "all are READY",
    )
    for person, workspace in everything:
        person.delete(workspace["id"])
    until(lambda: listed(people) == [], "all are gone")
    for kind in ("instances", "disks"):
        assert in_compute(ran.cloud, kind, "") == []


def listed(people: list[ApiClient]) -> list[dict[str, Any]]:
    """Return everybody's workspaces."""
    return [workspace for person in people for workspace in person.workspaces()]


def until(seen: Any, what: str, seconds: float = 600) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)
