"""The scheduled sweeps on the whole local cloud."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from localcloud.api_client import ApiClient, RefusedError
from localcloud.running_cloud import RunningCloud
from shared.adapters.firestore_records import workspace_document, workspace_record
from shared.domain.access import Actor
from shared.domain.lifecycle import NewMachine, NewOperation, start
from shared.domain.policy import Policy
from tests.system.records import Records, call_scheduled, in_compute, stop_by_hand


def test_an_idle_workspace_is_suspended(cloud: RunningCloud, alice: ApiClient) -> None:
    """``cleanup`` stops one without a connection for an hour, and leaves one in use."""
    idle, used = alice.create("idle")["id"], alice.create("used")["id"]
    for workspace_id in (idle, used):
        alice.wait_until_settled(workspace_id, "READY")
    Records(cloud).age(idle, "last_connected_at", timedelta(minutes=61))

    call_scheduled(cloud, "cleanup")

    suspended = alice.wait_until_settled(idle, "SUSPENDED")
    assert (suspended["instance"]["status"], suspended["stopped_because"]) == ("SUSPENDED", "idle")
    in_use = alice.status(used)
    assert (in_use["status"], in_use["stopped_because"]) == ("READY", None)


def test_a_workspace_that_nobody_has_started_for_a_month_is_deleted(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """``cleanup`` deletes one that has been suspended for a month."""
    workspace_id = alice.create("old")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    alice.stop(workspace_id)
    alice.wait_until_settled(workspace_id, "SUSPENDED")
    Records(cloud).age(workspace_id, "suspended_at", timedelta(days=31))

    call_scheduled(cloud, "cleanup")

    alice.wait_until_gone(workspace_id)


def test_a_deleted_workspace_is_purged_when_its_time_is_over(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """Until then it can be taken back, and deleted again. Then its snapshots go, too."""
    workspace_id = alice.create("purged")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    alice.delete(workspace_id)
    alice.wait_until_gone(workspace_id)
    call_scheduled(cloud, "cleanup")
    assert [each["id"] for each in _deleted(alice)] == [workspace_id]
    again = alice.request("POST", f"/workspaces/{workspace_id}/undelete", json={"name": "kept"})
    assert (again.status_code, again.json()["status"]) == (200, "SUSPENDED")
    alice.delete(workspace_id)
    alice.wait_until_gone(workspace_id)
    assert [each["name"] for each in _deleted(alice)] == ["kept"]
    assert len(Records(cloud).snapshots(workspace_id)) == 1
    Records(cloud).write_deleted(workspace_id, until=datetime.now(UTC))

    call_scheduled(cloud, "cleanup")

    assert _deleted(alice) == []
    gone = alice.request("POST", f"/workspaces/{workspace_id}/undelete", json={})
    assert gone.status_code == 404
    deadline = time.monotonic() + 30
    while Records(cloud).snapshots(workspace_id):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _deleted(person: ApiClient) -> list[dict[str, Any]]:
    """Return a person's deleted workspaces."""
    answer = person.request("GET", "/deleted-workspaces")
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["deleted_workspaces"]
    return found


@pytest.mark.xdist_group("fault_cloud")
def test_a_workspace_in_use_is_not_stopped(fault_cloud: RunningCloud, bob: ApiClient) -> None:
    """The heartbeat of a machine with a connection moves ``last_connected_at``."""
    workspace_id = bob.create("used")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    Records(fault_cloud).age(workspace_id, "last_connected_at", timedelta(minutes=59))
    fault_cloud.connected(f"workspace-{workspace_id}", connected=True)

    seen = bob.wait(workspace_id, lambda ws: ws["last_activity"] == "heartbeat")

    call_scheduled(fault_cloud, "cleanup")
    assert bob.status(workspace_id)["operation"] is None
    assert seen["status"] == "READY"


@pytest.mark.xdist_group("fault_cloud")
def test_a_heartbeat_before_the_suspend_cancels_the_automatic_stop(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """Somebody connects after the cleanup's decision, so the machine is not suspended."""
    workspace_id = bob.create("used")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    fault_cloud.fault("late_delivery", seconds=4)
    Records(fault_cloud).age(workspace_id, "last_connected_at", timedelta(minutes=61))
    call_scheduled(fault_cloud, "cleanup")
    deciding = bob.status(workspace_id)["operation"]
    assert (deciding["kind"], deciding["automatic"]) == ("STOP", True)

    fault_cloud.connected(f"workspace-{workspace_id}", connected=True)

    kept = bob.wait(workspace_id, lambda ws: ws["operation"] is None)
    assert (kept["status"], kept["last_activity"]) == ("READY", "heartbeat")
    assert not [
        call
        for call in fault_cloud.compute_calls()
        if call["method"] in {"suspend", "instances.suspend"}
    ]


@pytest.mark.xdist_group("fault_cloud")
def test_sweeps_and_people_do_not_wait_for_each_others_jobs(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """Each has a queue: what one has to do goes on while the other's hands out nothing."""
    idle, used = bob.create("idle")["id"], bob.create("used")["id"]
    for workspace_id in (idle, used):
        bob.wait_until_settled(workspace_id, "READY")
    Records(fault_cloud).age(idle, "last_connected_at", timedelta(minutes=61))

    with paused(fault_cloud, "workspace-operations"):
        call_scheduled(fault_cloud, "cleanup")
        assert bob.wait_until_settled(idle, "SUSPENDED")["stopped_because"] == "idle"
        bob.stop(used)
        bob.start(idle)
    for workspace_id, status in ((used, "SUSPENDED"), (idle, "READY")):
        bob.wait_until_settled(workspace_id, status)

    with paused(fault_cloud, "workspace-sweeps"):
        Records(fault_cloud).age(idle, "last_connected_at", timedelta(minutes=61))
        call_scheduled(fault_cloud, "cleanup")
        bob.start(used)
        bob.wait_until_settled(used, "READY")
        assert bob.status(idle)["operation"]["automatic"]
        bob.stop(idle)  # a person asks for what waits among the sweep's jobs
        assert bob.wait_until_settled(idle, "SUSPENDED")["stopped_because"] == "requested"


@contextlib.contextmanager
def paused(cloud: RunningCloud, name: str) -> Iterator[None]:
    """Have a queue hand out nothing in the block."""
    location = f"projects/{cloud.state['project_id']}/locations/{cloud.state['region']}"
    with grpc.insecure_channel(cloud.state["services"]["tasks"]) as channel:
        client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        client.pause_queue(name=f"{location}/queues/{name}")
        try:
            yield
        finally:
            client.resume_queue(name=f"{location}/queues/{name}")


def test_a_job_that_was_lost_is_sent_again(cloud: RunningCloud, alice: ApiClient) -> None:
    """``reconcile`` resends the job of an operation that has not advanced by ``attend_at``."""
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
    """Write the record that a start function leaves if it is killed right after its commit."""
    workspace = workspace_record(records.workspace(workspace_id))
    now = datetime.now(UTC) - timedelta(minutes=3)
    lost = NewOperation("lost", Actor(workspace.owner_id, "lost"), now)
    change = start(workspace, lost, NewMachine(), Policy())
    assert change is not None
    assert change.workspace is not None
    records.write(workspace_id, **workspace_document(change.workspace))


def test_a_machine_that_was_stopped_by_hand_makes_its_workspace_suspended(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """``reconcile_fleet`` notices it without a request, and the error says what happened."""
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


def test_an_owners_entry_without_a_workspace_is_removed(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """Its name can be used again."""
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


def test_a_new_machine_without_a_record_is_not_stopped(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """Its insert may still be under way."""
    workspace_id = alice.create("lost")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    Records(cloud).delete(workspace_id)

    call_scheduled(cloud, "reconcile_fleet")

    assert [each["status"] for each in in_compute(cloud, "instances", workspace_id)] == ["RUNNING"]
