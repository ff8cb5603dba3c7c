"""The hourly reconciler on fleets that one run can and cannot see to, in virtual time.

Reconcilers of others have failed at scale by a call for each machine (kubernetes issue 75016), by
what many machines cause at once (kubernetes issue 21563), by work that always begins at the front
and never comes to the end, and by one item that stops the rest (jupyterhub issue 449).
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from localcloud.catalogue import read_catalogue
from shared.domain.errors import UnavailableError
from shared.domain.instance import LabelInstance, StopInstance
from shared.domain.workspace import Owner, Status, Workspace
from shared.usecases import reconcile_fleet as usecase
from tests.fakes.large_fleet import Costs, LargeFleet, Run, TimedStore

LIMIT_SECONDS = read_catalogue()["reconcile_fleet"].timeout_seconds
QUICK_LISTS = Costs(page=timedelta(milliseconds=20))


def run_until_done(
    fleet: LargeFleet, most: int, budget: timedelta = usecase.TIME_BUDGET
) -> list[Run]:
    """Run the reconciler every hour until a run comes to its end; at most so often."""
    runs: list[Run] = []
    while not runs or runs[-1].report.unfinished:
        assert len(runs) < most
        runs.append(fleet.reconcile(budget))
        assert not runs[-1].report.failed
    return runs


def status_of(fleet: LargeFleet, workspace: Workspace) -> Status:
    """Return what the record says now."""
    return fleet.store.workspaces[workspace.id].status


def commands(fleet: LargeFleet, kind: type) -> list[str]:
    """Return the names of the machines to which a command went."""
    return [command.place.name for command, _ in fleet.machines.calls if isinstance(command, kind)]


@pytest.mark.timeout(600)  # half a minute of processor time, more on a busy machine
def test_forty_thousand_machines_are_seen_to_in_time() -> None:
    """In agreement they cost a read each, and calls by the page only; with much amiss, a few runs.

    Each run ends within its budget, and all is seen to: states, orphans, labels, owners.
    """
    fleet = LargeFleet(40_000)
    [run] = run_until_done(fleet, most=1)
    assert run.seconds < usecase.TIME_BUDGET.total_seconds() < LIMIT_SECONDS
    assert set(run.records_read.values()) == {1}
    assert len(run.records_read) == 40_000
    assert run.calls == {
        "list_instances": 80,
        "list_disks": 160,
        "list_workspaces_by_id": 134,
        "list_owners_by_id": 34,
        "list_snapshots_by_id": 1,
        "get_checkpoint": 3,
        "set_checkpoint": 2,
    }

    stopped, lost = fleet.ready[::20], fleet.suspended[::400]
    unlabelled, damaged = fleet.suspended[1::400], fleet.ready[1::400]
    fleet.stop(stopped)
    fleet.lose_records(lost)
    fleet.lose_labels(unlabelled)
    for workspace in damaged:
        fleet.store.put_owner(Owner(workspace.owner_id))

    runs = run_until_done(fleet, most=4)

    assert len(runs) > 1
    assert all(run.seconds < LIMIT_SECONDS for run in runs)
    assert {status_of(fleet, each) for each in stopped} == {Status.SUSPENDED}
    assert set(commands(fleet, LabelInstance)) == {each.instance_name for each in unlabelled}
    found = {name for run in runs for name in run.report.done.get("OrphanFound", ())}
    assert found == {each.instance_name for each in lost}
    kept = Counter(each.owner_id for each in fleet.store.workspaces.values())
    assert {each.id: len(each.workspaces) for each in fleet.store.owners.values()} == kept


def test_every_phase_advances_in_every_run() -> None:
    """However much there is to do in one, the others are not left until it is done.

    Each run starts where the last one stopped, so all is done in a bounded number of runs.
    """
    costs = Costs(page=timedelta(milliseconds=20), store=timedelta(milliseconds=100))
    fleet = LargeFleet(2_000, costs)
    fleet.stop(fleet.ready)
    fleet.lose_labels(fleet.suspended[::2])
    for workspace in fleet.workspaces[::4]:
        fleet.store.put_owner(Owner(workspace.owner_id))

    budget = timedelta(seconds=60)
    runs = [fleet.reconcile(budget) for _ in range(5)]

    for run in runs:
        assert run.report.unfinished
        assert run.seconds < 1.2 * budget.total_seconds()
        assert {"suspended", "LabelsRestored", "owner_repaired"} <= run.report.done.keys()
    for what in ("suspended", "LabelsRestored", "owner_repaired"):
        names = [name for run in runs for name in run.report.done[what]]
        assert len(names) == len(set(names)), what  # no run began at the front again
    run_until_done(fleet, most=60, budget=budget)
    assert {each.status for each in fleet.store.workspaces.values()} == {Status.SUSPENDED}
    assert {len(each.workspaces) for each in fleet.store.owners.values()} == {4}


def test_a_run_without_any_time_does_one_of_each() -> None:
    """Even lists that take nearly all of the time leave some progress."""
    fleet = LargeFleet(40, Costs(page=timedelta()))
    fleet.store.put_owner(Owner("owner-000000"))
    fleet.stop(fleet.ready)
    runs = [fleet.reconcile(timedelta()) for _ in range(40)]
    assert {run.report.looked_at for run in runs} == {1}
    assert {each.status for each in fleet.store.workspaces.values()} == {Status.SUSPENDED}
    assert len(fleet.store.owners["owner-000000"].workspaces) == 4


def test_actions_that_time_did_not_allow_are_done_by_the_next_runs() -> None:
    """What was decided is not forgotten when the place has moved on."""
    fleet = LargeFleet(400, QUICK_LISTS)
    orphans = fleet.ready[:50]
    fleet.lose_records(orphans)
    first = fleet.reconcile(timedelta(seconds=10))
    assert first.report.unfinished
    reached = fleet.store.get_checkpoint(usecase.WORKSPACES)
    assert reached is not None
    undone = {each.instance_name for each in orphans} - set(commands(fleet, StopInstance))
    assert undone == {each.instance_name for each in orphans if each.id > reached}
    assert 0 < len(undone) < 50
    run_until_done(fleet, most=10)
    stopped = commands(fleet, StopInstance)
    assert sorted(set(stopped)) == sorted(each.instance_name for each in orphans)


def test_when_a_zone_fails_its_machines_are_adopted_at_a_pace() -> None:
    """Compute's quota of reads, 1,500 a minute, is for people's operations too."""
    fleet = LargeFleet(4_000, Costs(compute=timedelta(), store=timedelta(), record=timedelta()))
    fleet.stop(fleet.ready)
    run = fleet.reconcile()
    assert len(run.report.done["suspended"]) > 1000
    assert run.calls["get"] / run.seconds * 60 < 750


@pytest.mark.parametrize(
    "checkpoint", ["", "0", "workspaces:MTIz", "~", "/", "00000000-0000-4000-8000-000000000000"]
)
def test_any_checkpoint_is_harmless(checkpoint: str) -> None:
    """It may be lost, of another version, or of something that is gone: a run goes round."""
    fleet = LargeFleet(30, QUICK_LISTS)
    fleet.stop(fleet.ready)
    for name in (usecase.WORKSPACES, usecase.OWNERS):
        fleet.store.set_checkpoint(name, checkpoint)
    fleet.store.put_owner(Owner("owner-000000"))
    [run] = run_until_done(fleet, most=1)
    assert run.report.looked_at == 30
    assert len(run.report.done["suspended"]) == 15
    assert run.report.done["owner_repaired"] == ["owner-000000"]


def test_a_run_goes_round_from_where_the_last_one_stopped() -> None:
    """Then it has read everything, and needs no further read to check the owners."""
    fleet = LargeFleet(1_000, QUICK_LISTS)
    middle = sorted(fleet.store.workspaces)[500]
    fleet.store.set_checkpoint(usecase.WORKSPACES, middle)
    run = fleet.reconcile()
    assert len(run.records_read) == 1_000
    assert run.records_read.total() < 1_000 + usecase.BATCH  # the last page may go past the end
    assert (run.calls["list_owned"], run.report.unfinished) == (0, False)


def test_two_runs_at_once_do_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads again before it changes something, so the second finds it done."""
    monkeypatch.setattr(usecase, "BATCH", 50)
    fleet = LargeFleet(400, QUICK_LISTS)
    fleet.stop(fleet.ready)
    fleet.lose_labels(fleet.suspended[::10])
    for workspace in fleet.workspaces[::40]:
        fleet.store.put_owner(Owner(workspace.owner_id))
    store = TimedStore(fleet.store, fleet.clock, fleet.costs)
    others: list[Run] = []
    pages: list[str] = []
    listed = fleet.store.list_workspaces_by_id

    def overtake(*args: Any) -> Any:
        page = listed(*args)
        pages.append("read")
        if len(pages) == 2:
            others.append(fleet.reconcile(timedelta(seconds=90)))
        return page

    monkeypatch.setattr(fleet.store, "list_workspaces_by_id", overtake)
    run = fleet.reconcile(timedelta(hours=3), store)

    assert (run.report.failed, others[0].report.failed) == ({}, {})
    adopted = [*run.report.done["suspended"], *others[0].report.done["suspended"]]
    assert sorted(adopted) == sorted(each.id for each in fleet.ready)
    assert {each.status for each in fleet.store.workspaces.values()} == {Status.SUSPENDED}
    assert {len(each.workspaces) for each in fleet.store.owners.values()} == {4}
    run_until_done(fleet, most=2)


def test_lists_that_take_too_long_do_not_hold_up_the_owners() -> None:
    """The run says so in time, before the platform ends it, and repairs owners' records."""
    fleet = LargeFleet(2_000, Costs(page=timedelta(minutes=2)))
    fleet.store.put_owner(Owner("owner-000000"))
    began = fleet.clock()
    with pytest.raises(UnavailableError, match="took longer"):
        fleet.reconcile()
    assert (fleet.clock() - began).total_seconds() < LIMIT_SECONDS
    assert len(fleet.store.owners["owner-000000"].workspaces) == 4


def test_a_store_that_fails_in_the_middle_keeps_what_was_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was decided before is done, and the next run goes on there."""
    monkeypatch.setattr(usecase, "BATCH", 10)
    fleet = LargeFleet(40, QUICK_LISTS)
    fleet.lose_labels(fleet.workspaces)
    listed = fleet.store.list_workspaces_by_id

    def fail(*args: Any) -> Any:
        if args[1] is not None:
            raise UnavailableError("The database does not answer.")
        return listed(*args)

    monkeypatch.setattr(fleet.store, "list_workspaces_by_id", fail)
    with pytest.raises(UnavailableError):
        fleet.reconcile()
    assert fleet.store.get_checkpoint(usecase.WORKSPACES) == sorted(fleet.store.workspaces)[9]
    assert len(commands(fleet, LabelInstance)) == 10


def test_if_all_records_are_lost_nothing_is_touched() -> None:
    """However many runs look at however small a part of the fleet."""
    fleet = LargeFleet(3_000, QUICK_LISTS)
    fleet.lose_records(fleet.workspaces)
    for _ in range(4):
        run = fleet.reconcile(timedelta(seconds=5))
        assert "too many" in run.report.failed["orphans"]
    assert fleet.machines.calls == []
