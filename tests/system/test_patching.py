"""Machines that are too old, over HTTP against the whole local cloud: made anew by a START that boots, never by one that resumes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually
from tests.system.records import Records, in_compute, stop_by_hand

PATIENCE_SECONDS = 90
AGE = timedelta(days=40)


def machine_and_home(cloud: RunningCloud, workspace_id: str) -> tuple[str, str]:
    """Return the ids that Compute gave the workspace's machine and its home disk."""
    [machine] = in_compute(cloud, "instances", workspace_id)
    [home] = [
        disk
        for disk in in_compute(cloud, "disks", workspace_id)
        if disk["name"].startswith("home-")
    ]
    return machine["id"], home["id"]


def made_old(cloud: RunningCloud, person: ApiClient, workspace: dict[str, Any]) -> dict[str, Any]:
    """Let a machine have been made long ago by a version that did not write that down, and return what its owner is told."""
    cloud.make_old(workspace["instance_name"], AGE)
    Records(cloud).write(workspace["id"], machine_made_at=None)
    told: dict[str, Any] = person.wait(
        workspace["id"], lambda ws: ws["renewal"] is not None, seconds=PATIENCE_SECONDS
    )
    return told


def test_a_machine_that_is_off_and_too_old_is_made_anew_on_its_home(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """Another instance, the same home disk; its owner was told before, and can read why afterwards."""
    workspace_id = alice.create("api")["id"]
    ready = alice.wait_until_settled(workspace_id, "READY", seconds=PATIENCE_SECONDS)
    machine, home = machine_and_home(cloud, workspace_id)
    stop_by_hand(cloud, ready)
    alice.wait_until_settled(workspace_id, "SUSPENDED", seconds=PATIENCE_SECONDS)
    told = made_old(cloud, alice, ready)["renewal"]
    assert datetime.fromisoformat(told["at"]) < datetime.now(UTC) - timedelta(days=9)

    alice.start(workspace_id)
    again = alice.wait_until_settled(workspace_id, "READY", seconds=PATIENCE_SECONDS)

    new_machine, same_home = machine_and_home(cloud, workspace_id)
    assert (new_machine == machine, same_home) == (False, home)
    assert datetime.fromisoformat(again["renewal"]["at"]) > datetime.now(UTC) + timedelta(days=29)
    [why] = [
        event["result"] for event in alice.events(workspace_id) if event["what"] == "MachineRemade"
    ]
    assert "40 days old, more than 30 days" in why


def test_a_suspended_machine_is_resumed_however_old_and_made_anew_by_request(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """The START that resumes says what does not happen; the one that rebuilds loses the memory and says so."""
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY", seconds=PATIENCE_SECONDS)
    machine, home = machine_and_home(cloud, workspace_id)
    alice.stop(workspace_id)
    asleep = alice.wait_until_settled(workspace_id, "SUSPENDED", seconds=PATIENCE_SECONDS)
    made_old(cloud, alice, asleep)

    said = alice.start(workspace_id)["renewal"]
    resumed = alice.wait_until_settled(workspace_id, "READY", seconds=PATIENCE_SECONDS)
    assert "as the next start does" in said["unless"]
    assert (machine_and_home(cloud, workspace_id), resumed["memory_kept"]) == (
        (machine, home),
        True,
    )

    begun = alice.start(workspace_id, rebuild=True)
    assert (begun["status"], begun["operation"]["kind"]) == ("PROVISIONING", "START")
    rebuilt = alice.wait_until_settled(workspace_id, "READY", seconds=PATIENCE_SECONDS)
    new_machine, same_home = machine_and_home(cloud, workspace_id)
    assert (new_machine == machine, same_home) == (False, home)
    assert (rebuilt["memory_kept"], rebuilt["generation"]) == (False, resumed["generation"] + 1)
    assert eventually(
        lambda: "MemoryLost" in {event["what"] for event in alice.events(workspace_id)}
    )
