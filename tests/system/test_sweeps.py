"""The idle sweep and the first reconcile, over the whole local cloud."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from localcloud.api_client import ApiClient, RefusedError
from localcloud.running_cloud import RunningCloud
from shared.adapters.firestore_records import workspace_document, workspace_record
from shared.domain.lifecycle import NewMachine, start
from shared.domain.people import Actor
from shared.domain.policy import Policy
from tests.system.records import Records, call_scheduled, in_compute, stop_by_hand


def test_an_idle_workspace_is_suspended(cloud: RunningCloud, alice: ApiClient) -> None:
    """One that nobody has connected to for an hour is stopped by the cleanup; one in use is not."""
    idle, used = alice.create("idle")["id"], alice.create("used")["id"]
    for workspace_id in (idle, used):
        alice.wait_until_settled(workspace_id, "READY")
    Records(cloud).age(idle, "last_connected_at", timedelta(minutes=61))

    call_scheduled(cloud, "cleanup")

    asleep = alice.wait_until_settled(idle, "SUSPENDED")
    assert (asleep["instance"]["status"], asleep["stopped_because"]) == ("SUSPENDED", "idle")
    awake = alice.status(used)
    assert (awake["status"], awake["stopped_because"]) == ("READY", None)


def test_a_workspace_that_nobody_has_started_for_a_month_is_deleted(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """It is deleted with all that it has."""
    workspace_id = alice.create("old")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    alice.stop(workspace_id)
    alice.wait_until_settled(workspace_id, "SUSPENDED")
    Records(cloud).age(workspace_id, "suspended_at", timedelta(days=31))

    call_scheduled(cloud, "cleanup")

    alice.wait_until_gone(workspace_id)


@pytest.mark.xdist_group("troubled_cloud")
def test_a_workspace_in_use_is_not_stopped(trouble: RunningCloud, bob: ApiClient) -> None:
    """A machine that somebody is connected to says so, and its heartbeat moves last_connected_at."""
    workspace_id = bob.create("used")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    Records(trouble).age(workspace_id, "last_connected_at", timedelta(minutes=59))
    trouble.connected(f"workspace-{workspace_id}", connected=True)

    seen = bob.wait(workspace_id, lambda ws: ws["last_activity"] == "heartbeat")

    call_scheduled(trouble, "cleanup")
    assert bob.status(workspace_id)["operation"] is None
    assert seen["status"] == "READY"


@pytest.mark.xdist_group("troubled_cloud")
def test_a_heartbeat_that_comes_before_the_suspend_wins(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The cleanup has decided to stop a workspace, then somebody connects: it is not suspended."""
    workspace_id = bob.create("used")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    trouble.fault("late_delivery", seconds=4)
    Records(trouble).age(workspace_id, "last_connected_at", timedelta(minutes=61))
    call_scheduled(trouble, "cleanup")
    deciding = bob.status(workspace_id)["operation"]
    assert (deciding["kind"], deciding["automatic"]) == ("STOP", True)

    trouble.connected(f"workspace-{workspace_id}", connected=True)

    kept = bob.wait(workspace_id, lambda ws: ws["operation"] is None)
    assert (kept["status"], kept["last_activity"]) == ("READY", "heartbeat")
    assert not [
        call
        for call in trouble.compute_calls()
        if call["method"] in {"suspend", "instances.suspend"}
    ]


def test_a_job_that_was_lost_is_sent_again(cloud: RunningCloud, alice: ApiClient) -> None:
    """When nothing has come of an operation in time, reconcile sends its job again."""
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    alice.stop(workspace_id)
    alice.wait_until_settled(workspace_id, "SUSPENDED")
    records = Records(cloud)
    _begin_a_start_whose_job_is_lost(records, workspace_id)
    assert alice.status(workspace_id)["operation"]["kind"] == "START"

    call_scheduled(cloud, "reconcile")

    alice.wait_until_settled(workspace_id, "READY")


def _begin_a_start_whose_job_is_lost(records: Records, workspace_id: str) -> None:
    """Write what a start function that dies right after its commit has written."""
    workspace = workspace_record(records.workspace(workspace_id))
    now = datetime.now(UTC) - timedelta(minutes=3)
    change = start(
        workspace, "lost", Actor(workspace.owner_id, "lost"), NewMachine(), now, Policy()
    )
    assert change is not None
    assert change.workspace is not None
    records.write(workspace_id, **workspace_document(change.workspace))


def test_what_was_done_to_a_machine_by_hand_is_reflected(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """Nobody has to ask for the workspace first, and it says what happened and what to do."""
    workspace = alice.create("by-hand")
    ready = alice.wait_until_settled(workspace["id"], "READY")
    stop_by_hand(cloud, ready)
    deadline = time.monotonic() + 30
    while in_compute(cloud, "instances", ready["id"])[0]["status"] != "TERMINATED":
        assert time.monotonic() < deadline
        time.sleep(0.1)

    call_scheduled(cloud, "reconcile_fleet")  # unless the local scheduler was first

    [listed] = alice.workspaces()
    assert (listed["status"], listed["error"]["code"]) == ("SUSPENDED", "MACHINE_STOPPED")
    assert listed["stopped_because"] == "outside"
    alice.start(ready["id"])
    alice.wait_until_settled(ready["id"], "READY")


def test_an_owners_record_that_holds_what_is_not_there_is_repaired(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """A name that nothing has any more can be taken again."""
    workspace = alice.create("real")
    ghost = {"name": "ghost", "running": True}
    Records(cloud).write_owner(
        workspace["owner_id"], **{"workspaces.`00000000-0000-4000-8000-000000000000`": ghost}
    )
    with pytest.raises(RefusedError):
        alice.create("ghost")

    call_scheduled(cloud, "reconcile_fleet")

    alice.create("ghost")
    assert {each["name"] for each in alice.workspaces()} == {"real", "ghost"}


def test_a_machine_that_has_lost_its_record_is_left_alone_while_it_is_young(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """It may be one that is just being made."""
    workspace_id = alice.create("lost")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    Records(cloud).delete(workspace_id)

    call_scheduled(cloud, "reconcile_fleet")

    assert [each["status"] for each in in_compute(cloud, "instances", workspace_id)] == ["RUNNING"]
