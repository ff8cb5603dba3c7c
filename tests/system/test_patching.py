"""Machines that are too old: a START that boots makes them again, a START that resumes does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually
from tests.system.records import Records, in_compute, stop_by_hand

TIMEOUT_SECONDS = 90
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


def make_old(cloud: RunningCloud, person: ApiClient, workspace: dict[str, Any]) -> dict[str, Any]:
    """Make a machine old, as if a version that did not record its age had made it long ago.

    Returns:
        The workspace once its ``renewal`` is set.
    """
    cloud.make_old(workspace["instance_name"], AGE)
    Records(cloud).write(workspace["id"], machine_made_at=None)
    shown: dict[str, Any] = person.wait(
        workspace["id"], lambda ws: ws["renewal"] is not None, seconds=TIMEOUT_SECONDS
    )
    return shown


def test_a_machine_that_is_off_and_too_old_is_made_again_on_its_home(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """``renewal`` announces it before, and an event gives the reason afterwards."""
    workspace_id = alice.create("api")["id"]
    ready = alice.wait_until_settled(workspace_id, "READY", seconds=TIMEOUT_SECONDS)
    machine, home = machine_and_home(cloud, workspace_id)
    stop_by_hand(cloud, ready)
    alice.wait_until_settled(workspace_id, "SUSPENDED", seconds=TIMEOUT_SECONDS)
    renewal = make_old(cloud, alice, ready)["renewal"]
    assert datetime.fromisoformat(renewal["at"]) < datetime.now(UTC) - timedelta(days=9)

    alice.start(workspace_id)
    again = alice.wait_until_settled(workspace_id, "READY", seconds=TIMEOUT_SECONDS)

    new_machine, same_home = machine_and_home(cloud, workspace_id)
    assert (new_machine == machine, same_home) == (False, home)
    assert datetime.fromisoformat(again["renewal"]["at"]) > datetime.now(UTC) + timedelta(days=29)
    [why] = [
        event["result"] for event in alice.events(workspace_id) if event["what"] == "MachineRemade"
    ]
    assert "40 days old, more than 30 days" in why


def test_a_suspended_machine_is_resumed_at_any_age_and_made_again_only_by_request(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """A START that resumes leaves ``renewal`` set; one that rebuilds loses the memory."""
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY", seconds=TIMEOUT_SECONDS)
    machine, home = machine_and_home(cloud, workspace_id)
    alice.stop(workspace_id)
    suspended = alice.wait_until_settled(workspace_id, "SUSPENDED", seconds=TIMEOUT_SECONDS)
    make_old(cloud, alice, suspended)

    renewal = alice.start(workspace_id)["renewal"]
    resumed = alice.wait_until_settled(workspace_id, "READY", seconds=TIMEOUT_SECONDS)
    assert "as the next start does" in renewal["unless"]
    assert (machine_and_home(cloud, workspace_id), resumed["memory_kept"]) == (
        (machine, home),
        True,
    )

    begun = alice.start(workspace_id, rebuild=True)
    assert (begun["status"], begun["operation"]["kind"]) == ("PROVISIONING", "START")
    rebuilt = alice.wait_until_settled(workspace_id, "READY", seconds=TIMEOUT_SECONDS)
    new_machine, same_home = machine_and_home(cloud, workspace_id)
    assert (new_machine == machine, same_home) == (False, home)
    assert (rebuilt["memory_kept"], rebuilt["generation"]) == (False, resumed["generation"] + 1)
    assert eventually(
        lambda: "MemoryLost" in {event["what"] for event in alice.events(workspace_id)}
    )
