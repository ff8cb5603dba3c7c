"""The checks of a chaos run know what an ARCHIVE may do, and find what it may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults import invariants
from tests.faults.chaos import Exchange, Outcome
from tests.faults.observer import Histories
from tests.faults.test_chaos_checks import (
    FIRST,
    KEPT,
    NOON,
    at,
    call,
    clean_outcome,
    home,
    machine,
    request,
    snapshot,
    under_way,
)
from tests.faults.test_chaos_checks import histories as histories  # noqa: PLC0414 -- a fixture

Break = Callable[[Histories], object]
ARCHIVE = f"/workspaces/{FIRST}/archive"


def archive_first(histories: Histories, *, asked: bool = True) -> None:
    """Archive the first workspace, which is suspended, because somebody asks or by itself."""
    if asked:
        accepted = request(82, "POST", ARCHIVE, 202, under_way(FIRST, "ARCHIVE", 82))
        histories.requests.insert(3, accepted)
    histories.calls.extend([call(83, "instances.delete", FIRST), call(87, "disks.delete", FIRST)])
    histories.states.append(machine(FIRST, 84, "GONE"))
    histories.contents.extend(
        [
            *(snapshot(85, FIRST, "CREATING"), snapshot(86, FIRST, "READY")),
            home(88, FIRST, "GONE"),
        ]
    )
    histories.requests[-2]["answer"].update(archived_at=at(89))


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_archived_has_neither_machine_nor_disk(histories: Histories, asked: bool) -> None:
    """Somebody has asked for it, or the Hub has done it by itself, as it may."""
    archive_first(histories, asked=asked)
    assert replace(histories, archives=not asked).violations() == []


def without_request(histories: Histories) -> None:
    """Let nobody have asked for it."""
    histories.requests.pop(3)


def without_snapshot(histories: Histories) -> None:
    """Take no snapshot."""
    histories.contents[:] = [each for each in histories.contents if each["kind"] == "disks"]


def snapshot_not_stored(histories: Histories) -> None:
    """Delete the disk before the snapshot is READY."""
    ready = next(
        each for each in histories.contents if each["status"] == "READY" and each["source"]
    )
    ready["time"] = at(89)


def snapshot_gone(histories: Histories) -> None:
    """Delete the snapshot after the disk."""
    histories.contents.append(snapshot(89, FIRST, "GONE"))


def run_since(histories: Histories) -> None:
    """Let a machine have run on the disk after the snapshot."""
    histories.states.extend([machine(FIRST, 86.5, "RUNNING"), machine(FIRST, 86.8, "GONE")])


def not_said(histories: Histories) -> None:
    """Do not say in the last answer that it is archived."""
    histories.requests[-2]["answer"].update(archived_at=None)


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (without_request, f"{FIRST}'s machine was deleted at {NOON.replace(minute=1, second=23)}"),
        (without_request, f"{FIRST}'s home was deleted"),
        (without_snapshot, f"{FIRST}'s home was nowhere at {at(88)}"),
        (snapshot_not_stored, f"{FIRST}'s home was nowhere at {at(88)}"),
        (snapshot_gone, f"{FIRST}'s home was nowhere at {at(89)}"),
        (run_since, f"{FIRST}'s home was nowhere at {at(88)}"),
        (not_said, "answers 200 SUSPENDED None, and its machine is GONE"),
    ],
)
def test_the_observer_finds_what_goes_wrong_with_an_archived_home(
    histories: Histories, breaks: Break, complaint: str
) -> None:
    """It was not asked for, or its content is nowhere for a moment, or nobody is told."""
    archive_first(histories)
    breaks(histories)
    assert any(complaint in each for each in histories.violations()), histories.violations()


def test_the_hub_archives_no_machine_that_runs_by_itself(histories: Histories) -> None:
    """It deletes only what is off."""
    histories.states.pop(3)
    histories.calls.append(call(83, "instances.delete", FIRST))
    [found] = replace(histories, archives=True).machines_deleted_without_request()
    assert found.startswith(f"{FIRST}'s machine was deleted")


def archived_outcome() -> Outcome:
    """Return the outcome of a run in which the first workspace was archived at last."""
    run = clean_outcome()
    about = {"workspace_id": FIRST, "request_id": "r6"}
    deleted = "Its home is a snapshot now, so the disk was deleted."
    run.events[:0] = [
        {"at": at(13), "who": "hub", "what": "WorkspaceArchived", "result": "SUSPENDED", **about},
        {"at": at(12), "who": "hub", "what": "HomeDeleted", "result": deleted, **about},
        {"at": at(10), "who": "anna", "what": "ArchiveRequested", "result": "ACCEPTED", **about},
    ]
    operation = {"kind": "ARCHIVE", "requested_at": at(10)}
    answer = {"id": FIRST, "name": "w1", "operation": operation}
    run.exchanges.append(Exchange("r6", 0, "archive", FIRST, NOON, NOON, 202, answer))
    run.machines.clear()
    run.disks.clear()
    run.waiting[FIRST] = KEPT
    return run


def start_again(run: Outcome, homes: set[str]) -> None:
    """Have started it again, as it was READY on these homes."""
    about = {"workspace_id": FIRST, "request_id": "r7"}
    run.events[:0] = [
        {"at": at(15), "who": "hub", "what": "WorkspaceReady", "result": "READY", **about},
        {"at": at(14), "who": "anna", "what": "StartRequested", "result": "ACCEPTED", **about},
    ]
    run.homes[FIRST] |= homes
    before = clean_outcome()
    run.machines[:], run.disks[:] = before.machines, before.disks
    run.machines[0].update(status="RUNNING")
    run.connected.add(run.machines[0]["name"])
    run.workspaces[0].update(status="READY")
    run.waiting.clear()


def call_off(run: Outcome) -> None:
    """Have a START call the ARCHIVE off, so it has no result."""
    run.events[:2] = []
    start_again(run, set())


def stay(run: Outcome) -> None:
    """Let it stay archived."""
    assert run.waiting == {FIRST: KEPT}


@pytest.mark.parametrize(
    ("happens", "complaints"),
    [
        (stay, []),
        (lambda run: start_again(run, {"2"}), []),
        (lambda run: start_again(run, {"2", "3"}), ["READY on 3 homes"]),
        (call_off, []),
        (lambda run: run.events.__delitem__(slice(0, 2)), ["has no result"]),
        (lambda run: run.waiting.clear(), ["with machines [] and homes []"]),
        (lambda run: run.events.pop(2), ["(archive) was accepted, but"]),
    ],
)
def test_the_invariants_know_what_an_archive_leaves(
    happens: Callable[[Outcome], object], complaints: list[str]
) -> None:
    """No machine and no disk, another home after a START, and no result if a START came before."""
    run = archived_outcome()
    happens(run)
    found = invariants.violations(run)
    assert [each for each in complaints if not any(each in said for said in found)] == []
    assert bool(found) == bool(complaints), found
