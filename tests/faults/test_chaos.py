"""Two minutes of many people and everything failing: what they were promised holds, as two who look from different sides find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from localcloud.running_cloud import start_cloud
from tests.faults import chaos
from tests.faults.chaos import Outcome, Plan
from tests.faults.invariants import violations
from tests.faults.observer import Observed
from tests.kept_logs import keep, keep_if_failed
from tests.log_lines import not_json
from tests.system.secrets_kept import leaks

pytestmark = [
    pytest.mark.xdist_group("chaos"),
    pytest.mark.timeout(0),
]  # it lasts as long as was asked for


@dataclass(frozen=True)
class Ran:
    """What is left of a run, and its histories."""

    outcome: Outcome
    observed: Observed
    leaked: list[str]
    not_json: list[str]


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[Ran]:
    """A run with the seed that was asked for; `nox -s faults -- -k chaos --seed 7 --seconds 600` has another."""
    plan = Plan(seed=request.config.getoption("seed"), seconds=request.config.getoption("seconds"))
    with start_cloud(chaos.CLOUD) as cloud:
        try:
            outcome = chaos.run(cloud, plan)
        except Exception:
            keep(cloud.state_file.with_suffix(".logs"), "chaos")
            raise
        observed = Observed(
            requests=cloud.requests(),
            **cloud.compute_history(),
            idle=timedelta(
                seconds=chaos.IDLE_SECONDS * 2 / 3
            ),  # who is connected is written down every third of it
            on_its_way=timedelta(
                seconds=1.5 * chaos.WORKER_SECONDS
            ),  # half of it until the call begins, then the call
            operation=timedelta(seconds=chaos.OPERATION_SECONDS),
            workspaces_each=chaos.WORKSPACES_EACH,
            running_each=chaos.RUNNING_EACH,
        )
        print(outcome.figures())  # noqa: T201
        yield Ran(outcome, observed, leaks(cloud), not_json(cloud))
        keep_if_failed(cloud, "chaos", failed=request.session.testsfailed)


def test_every_accepted_request_took_effect_or_failed_with_a_reason_and_nothing_is_left_over(
    ran: Ran,
) -> None:
    """Records, the trail, owners, machines and disks agree, and nobody has more than they may."""
    assert violations(ran.outcome) == []


def test_who_has_only_read_the_histories_finds_nothing_either(ran: Ran) -> None:
    """Nothing was made twice, for nobody or over quota, and nothing was stopped in use or deleted unasked."""
    assert ran.observed.violations() == []


def test_the_histories_are_whole(ran: Ran) -> None:
    """The local cloud keeps so many lines; a run that is longer than that cannot be judged by them."""
    assert (
        max(len(ran.observed.calls), len(ran.observed.states), len(ran.observed.reports)) < 100_000
    )


def test_there_was_chaos(ran: Ran) -> None:
    """Three hundred workspaces, many things broken, requests that were refused, and machines that were in use all the time."""
    outcome = ran.outcome
    made = {
        asked.workspace_id
        for asked in outcome.asked
        if asked.verb == "create" and asked.status == 201
    }
    assert len(made) >= 10 * outcome.plan.people
    assert set(outcome.broken) >= {
        *(
            "firestore away",
            "pubsub away",
            "process killed",
            "machine deleted by hand",
            "machine stopped by hand",
        ),
        *(
            "labels taken off by hand",
            "disk detached by hand",
            "disk held by hand",
            "machine moved by hand",
        ),
        *("unavailable", "rate_limited", "lost_operation", "stock_out", "preempted"),
    }
    assert all(outcome.deliveries[what] > 10 for what in ("lost", "twice"))
    assert {201, 202, 403, 409} <= {asked.status for asked in outcome.asked}
    assert sum(machine["status"] == "RUNNING" for machine in outcome.machines) > 0, (
        "somebody stayed connected"
    )


def test_no_token_was_written_down(ran: Ran) -> None:
    """Neither in a log, nor in an event, nor among the requests, whatever failed."""
    assert ran.leaked == []


def test_whatever_failed_was_logged_as_json(ran: Ran) -> None:
    """Also by processes that were killed in the middle: they write each line as a whole."""
    assert ran.not_json == []
