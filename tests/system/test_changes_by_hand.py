"""What people do in Compute behind the Hub's back, over HTTP against the whole local cloud: nothing is lost, and there is a way out."""

from __future__ import annotations

import time
from typing import Any

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually
from tests.system.records import (
    Records,
    call_scheduled,
    delete_by_hand,
    delete_home_by_hand,
    delete_keeping_boot_disk_by_hand,
    detach_by_hand,
    hold_disk_by_hand,
    in_compute,
    move_by_hand,
    release_disk_by_hand,
    set_machine_type_by_hand,
    unlabel_by_hand,
)

PATIENCE_SECONDS = 90


def asleep(person: ApiClient) -> dict[str, Any]:
    """Return a workspace that has been suspended."""
    workspace_id = person.create("api")["id"]
    person.wait_until_settled(workspace_id, "READY", seconds=PATIENCE_SECONDS)
    person.stop(workspace_id)
    return person.wait_until_settled(workspace_id, "SUSPENDED", seconds=PATIENCE_SECONDS)


def started(
    person: ApiClient, workspace_id: str, status: str = "READY", **fields: Any
) -> dict[str, Any]:
    """Start a workspace, and return what comes of it."""
    person.start(workspace_id, **fields)
    return person.wait_until_settled(workspace_id, status, seconds=PATIENCE_SECONDS)


def deleted(cloud: RunningCloud, person: ApiClient, workspace_id: str) -> None:
    """Delete a workspace, and see that nothing is left of it."""
    person.delete(workspace_id)
    person.wait_until_gone(workspace_id, seconds=PATIENCE_SECONDS)
    assert [in_compute(cloud, kind, workspace_id) for kind in ("instances", "disks")] == [[], []]


def noted(person: ApiClient, workspace_id: str) -> set[str]:
    """Return what the Hub itself has noted."""
    return {
        event["what"]
        for event in person.events(workspace_id)
        if event["who"] in {"hub", "reconcile"}
    }


def test_a_home_that_was_deleted_is_missed_and_replaced_only_if_asked(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """START fails with words of its own, and goes on with an empty home when the request says so."""
    workspace = asleep(alice)
    delete_by_hand(cloud, workspace)
    assert eventually(lambda: in_compute(cloud, "instances", workspace["id"]) == [])
    delete_home_by_hand(cloud, workspace)

    failed = started(alice, workspace["id"], "ERROR")

    assert failed["error"]["code"] == "HOME_DISK_GONE"
    assert in_compute(cloud, "disks", workspace["id"]) == []
    assert failed["memory_kept"] is False
    assert started(alice, workspace["id"], empty_home=True)["error"] is None
    assert {"HomeReplaced", "MemoryLost"} <= noted(alice, workspace["id"])


def test_a_moved_machine_is_followed_with_its_home(cloud: RunningCloud, alice: ApiClient) -> None:
    """A look finds it in its new zone; a START makes it READY there, and a DELETE leaves nothing anywhere."""
    workspace = asleep(alice)
    zone = "us-west1-b" if workspace["zone"] != "us-west1-b" else "us-west1-c"
    move_by_hand(cloud, workspace, zone)

    alice.wait(
        workspace["id"],
        lambda ws: ws["zone"] == zone and not ws["operation"],
        seconds=PATIENCE_SECONDS,
    )

    ready = started(alice, workspace["id"])
    assert (ready["zone"], ready["error"]) == (zone, None)
    assert "MachineFollowed" in noted(alice, workspace["id"])
    assert not {"OrphanStopped", "OrphanDeleted"} & noted(alice, workspace["id"])
    deleted(cloud, alice, workspace["id"])


def test_a_held_home_ends_a_delete_which_goes_on_once_it_is_free(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """The error names who holds it; the workspace is still there, and a second DELETE finishes."""
    workspace = asleep(alice)
    holder = hold_disk_by_hand(cloud, workspace)
    alice.delete(workspace["id"])
    records = Records(cloud)

    def over() -> bool:
        records.pass_deadline(
            workspace["id"], lambda operation: operation["last_fault_kind"] == "in_use"
        )
        call_scheduled(cloud, "reconcile")
        return alice.status(workspace["id"])["operation"] is None

    assert eventually(over, PATIENCE_SECONDS)
    error = alice.status(workspace["id"])["error"]
    assert (error["code"], holder in error["message"]) == ("DISK_IN_USE", True)
    release_disk_by_hand(cloud, workspace)
    deleted(cloud, alice, workspace["id"])


def test_a_kept_boot_disk_and_a_detached_home_are_in_no_starts_way(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """The first is passed by under another name; the second is attached to a new machine, as the trail says."""
    workspace = asleep(alice)
    delete_keeping_boot_disk_by_hand(cloud, workspace)
    ready = started(alice, workspace["id"])
    set_machine_type_by_hand(cloud, ready, "e2-standard-8")
    detach_by_hand(cloud, ready)
    alice.wait(
        workspace["id"], lambda ws: ws["machine_type"] == "e2-standard-8", seconds=PATIENCE_SECONDS
    )

    assert started(alice, workspace["id"])["error"] is None

    assert {"MachineRemade", "MachineTypeFollowed"} <= noted(alice, workspace["id"])
    deleted(cloud, alice, workspace["id"])


def test_lost_labels_are_put_back_by_the_hourly_sweep(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """Of the machine and of both its disks; nothing is taken for an orphan."""
    workspace_id = alice.create("api")["id"]
    ready = alice.wait_until_settled(workspace_id, "READY", seconds=PATIENCE_SECONDS)
    unlabel_by_hand(cloud, ready, "instances", ("hub", "workspace"))
    unlabel_by_hand(cloud, ready, "disks", ("workspace",))

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(
        each["labels"].get("workspace") == workspace_id and "hub" in each["labels"]
        for kind in ("instances", "disks")
        for each in in_compute(cloud, kind, workspace_id)
    ):
        assert time.monotonic() < deadline
        call_scheduled(cloud, "reconcile_fleet")

    assert "LabelsRestored" in noted(alice, workspace_id)
    assert alice.status(workspace_id)["status"] == "READY"
