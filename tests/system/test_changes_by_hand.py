"""Changes that people make in Compute by hand: nothing is lost, and a START or DELETE goes on."""

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

TIMEOUT_SECONDS = 90


def make_suspended(person: ApiClient) -> dict[str, Any]:
    """Return a suspended workspace."""
    workspace_id = person.create("api")["id"]
    person.wait_until_settled(workspace_id, "READY", seconds=TIMEOUT_SECONDS)
    person.stop(workspace_id)
    return person.wait_until_settled(workspace_id, "SUSPENDED", seconds=TIMEOUT_SECONDS)


def start(
    person: ApiClient, workspace_id: str, status: str = "READY", **fields: Any
) -> dict[str, Any]:
    """Start a workspace, and return it once it has this status."""
    person.start(workspace_id, **fields)
    return person.wait_until_settled(workspace_id, status, seconds=TIMEOUT_SECONDS)


def delete(cloud: RunningCloud, person: ApiClient, workspace_id: str) -> None:
    """Delete a workspace, and check that nothing of it is left in Compute."""
    person.delete(workspace_id)
    person.wait_until_gone(workspace_id, seconds=TIMEOUT_SECONDS)
    assert [in_compute(cloud, kind, workspace_id) for kind in ("instances", "disks")] == [[], []]


def hub_events(person: ApiClient, workspace_id: str) -> set[str]:
    """Return the names of the events that the Hub itself has written."""
    return {
        event["what"]
        for event in person.events(workspace_id)
        if event["who"] in {"hub", "reconcile"}
    }


def test_a_deleted_home_makes_a_start_fail_unless_it_asks_for_an_empty_home(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """START fails with a code of its own; with ``empty_home`` it makes a new home."""
    workspace = make_suspended(alice)
    delete_by_hand(cloud, workspace)
    assert eventually(lambda: in_compute(cloud, "instances", workspace["id"]) == [])
    delete_home_by_hand(cloud, workspace)

    failed = start(alice, workspace["id"], "ERROR")

    assert failed["error"]["code"] == "HOME_DISK_GONE"
    assert in_compute(cloud, "disks", workspace["id"]) == []
    assert failed["memory_kept"] is False
    assert start(alice, workspace["id"], empty_home=True)["error"] is None
    assert {"HomeReplaced", "MemoryLost"} <= hub_events(alice, workspace["id"])


def test_a_moved_machine_is_followed_with_its_home(cloud: RunningCloud, alice: ApiClient) -> None:
    """A look finds it in its new zone, a START makes it READY there, a DELETE leaves nothing."""
    workspace = make_suspended(alice)
    zone = "us-west1-b" if workspace["zone"] != "us-west1-b" else "us-west1-c"
    move_by_hand(cloud, workspace, zone)

    alice.wait(
        workspace["id"],
        lambda ws: ws["zone"] == zone and not ws["operation"],
        seconds=TIMEOUT_SECONDS,
    )

    ready = start(alice, workspace["id"])
    assert (ready["zone"], ready["error"]) == (zone, None)
    assert "MachineFollowed" in hub_events(alice, workspace["id"])
    assert not {"OrphanStopped", "OrphanDeleted"} & hub_events(alice, workspace["id"])
    delete(cloud, alice, workspace["id"])


def test_a_delete_fails_while_another_machine_holds_the_home_and_succeeds_afterwards(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """The error names the machine; the workspace still exists, and a second DELETE finishes."""
    workspace = make_suspended(alice)
    holder = hold_disk_by_hand(cloud, workspace)
    alice.delete(workspace["id"])
    records = Records(cloud)

    def over() -> bool:
        records.expire_deadline(
            workspace["id"], lambda operation: operation["last_fault_kind"] == "in_use"
        )
        call_scheduled(cloud, "reconcile")
        return alice.status(workspace["id"])["operation"] is None

    assert eventually(over, TIMEOUT_SECONDS)
    error = alice.status(workspace["id"])["error"]
    assert (error["code"], holder in error["message"]) == ("LAST_COPY_NOT_MADE", True)
    release_disk_by_hand(cloud, workspace)
    delete(cloud, alice, workspace["id"])


def test_a_start_succeeds_despite_a_kept_boot_disk_or_a_detached_home(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """The new boot disk has another name; the home is attached to a new machine, with an event."""
    workspace = make_suspended(alice)
    delete_keeping_boot_disk_by_hand(cloud, workspace)
    ready = start(alice, workspace["id"])
    set_machine_type_by_hand(cloud, ready, "e2-standard-8")
    detach_by_hand(cloud, ready)
    alice.wait(
        workspace["id"], lambda ws: ws["machine_type"] == "e2-standard-8", seconds=TIMEOUT_SECONDS
    )

    assert start(alice, workspace["id"])["error"] is None

    assert {"MachineRemade", "MachineTypeFollowed"} <= hub_events(alice, workspace["id"])
    delete(cloud, alice, workspace["id"])


def test_lost_labels_are_put_back_by_the_hourly_sweep(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """It restores those of the machine and of both disks, and treats nothing as an orphan."""
    workspace_id = alice.create("api")["id"]
    ready = alice.wait_until_settled(workspace_id, "READY", seconds=TIMEOUT_SECONDS)
    unlabel_by_hand(cloud, ready, "instances", ("hub", "workspace"))
    unlabel_by_hand(cloud, ready, "disks", ("workspace",))

    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not all(
        each["labels"].get("workspace") == workspace_id and "hub" in each["labels"]
        for kind in ("instances", "disks")
        for each in in_compute(cloud, kind, workspace_id)
    ):
        assert time.monotonic() < deadline
        call_scheduled(cloud, "reconcile_fleet")

    assert "LabelsRestored" in hub_events(alice, workspace_id)
    assert alice.status(workspace_id)["status"] == "READY"
