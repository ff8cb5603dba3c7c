"""Two minutes of many users and every fault: the Hub keeps its promises, as two checks find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from localcloud.running_cloud import start_cloud
from tests.faults import chaos
from tests.faults.chaos import Outcome, Plan
from tests.faults.invariants import violations
from tests.faults.observer import Histories
from tests.kept_logs import keep, keep_if_failed
from tests.log_lines import not_json
from tests.system.token_leaks import leaks

# No timeout: a run lasts as long as ``--seconds`` says.
pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(0)]


@dataclass(frozen=True)
class Ran:
    """The outcome of a run, its histories, and what was wrong with the logs."""

    outcome: Outcome
    histories: Histories
    leaked: list[str]
    not_json: list[str]


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[Ran]:
    """A run; for another one: ``nox -s faults -- -k chaos --seed 7 --seconds 600``."""
    plan = Plan(seed=request.config.getoption("seed"), seconds=request.config.getoption("seconds"))
    with start_cloud(chaos.CLOUD) as cloud:
        try:
            outcome = chaos.run(cloud, plan)
        except Exception:
            keep(cloud.state_file.with_suffix(".logs"), "chaos")
            raise
        histories = Histories(
            requests=cloud.requests(),
            **cloud.compute_history(),
            # A connection is recorded at most a third of the time late.
            idle_after=timedelta(seconds=chaos.IDLE_SECONDS * 2 / 3),
            # Half of a worker's time until the call begins, then all of it for the call.
            in_flight=timedelta(seconds=1.5 * chaos.WORKER_SECONDS),
            longest_operation=timedelta(seconds=chaos.OPERATION_SECONDS),
            max_workspaces=chaos.MAX_WORKSPACES,
            max_running=chaos.MAX_RUNNING,
            undelete_for=timedelta(days=7),
            max_deleted=chaos.MAX_DELETED,
            archives=True,
        )
        print(outcome.summary())  # noqa: T201
        yield Ran(outcome, histories, leaks(cloud), not_json(cloud))
        keep_if_failed(cloud, "chaos", failed=request.session.testsfailed)


def test_every_accepted_request_took_effect_or_failed_with_a_reason_and_nothing_is_left_over(
    ran: Ran,
) -> None:
    """Records, the audit trail, owners, machines and disks agree, and quotas hold."""
    assert violations(ran.outcome) == []


def test_the_histories_show_no_violation(ran: Ran) -> None:
    """No machine was duplicated, unowned, over quota, stopped in use or deleted without request."""
    assert ran.histories.violations() == []


def test_the_histories_are_complete(ran: Ran) -> None:
    """The local cloud keeps 100,000 lines of each; a longer run cannot be judged by them."""
    histories = ran.histories
    assert max(len(histories.calls), len(histories.states), len(histories.reports)) < 100_000


def test_the_run_had_faults_refusals_and_machines_in_use(ran: Ran) -> None:
    """A run with too little of them would prove nothing."""
    outcome = ran.outcome
    made = {exchange.workspace_id for exchange in outcome.exchanges if exchange.status == 201}
    assert len(made) >= 10 * outcome.plan.users
    assert set(outcome.injected) >= {
        "firestore down",
        "pubsub down",
        "process killed",
        "machine deleted by hand",
        "machine stopped by hand",
        "labels removed by hand",
        "disk detached by hand",
        "disk held by hand",
        "machine moved by hand",
        "unavailable",
        "rate_limited",
        "lost_operation",
        "stock_out",
        "preempted",
        "source_gone",
        "capture_fails",
        "upload_fails",
    }
    assert all(outcome.deliveries[what] > 10 for what in ("lost", "twice"))
    assert {201, 202, 403, 409} <= {exchange.status for exchange in outcome.exchanges}
    assert sum(machine["status"] == "RUNNING" for machine in outcome.machines) > 0, (
        "no machine stayed in use"
    )


def test_the_run_had_snapshots_and_forks(ran: Ran) -> None:
    """Some were taken and deleted, workspaces were made from them, and from others' none."""
    outcome = ran.outcome
    answers = {(exchange.verb, exchange.status) for exchange in outcome.exchanges}
    assert answers >= chaos.WANTED
    results = {event["what"] for event in outcome.events if event["who"] == "hub"}
    assert results >= {"SnapshotTaken", "SnapshotDeleted"}


def test_the_run_had_archives_of_people_and_of_the_clean_up(ran: Ran) -> None:
    """Some ended, and some were called off by a START."""
    events = ran.outcome.events
    asked = {event["who"] == "cleanup" for event in events if event["what"] == "ArchiveRequested"}
    assert asked == {True, False}
    assert {event["what"] for event in events} >= {"WorkspaceArchived", "ArchiveCalledOff"}


def test_the_run_had_moves(ran: Ran) -> None:
    """After some, the machine of before was deleted, or what was made in vain."""
    assert "OldMachineDeleted" in {event["what"] for event in ran.outcome.events}


def test_no_log_line_event_or_request_has_a_token(ran: Ran) -> None:
    """Failures write no token either."""
    assert ran.leaked == []


def test_every_log_line_is_json(ran: Ran) -> None:
    """Processes that are killed write each line as a whole, too."""
    assert ran.not_json == []
