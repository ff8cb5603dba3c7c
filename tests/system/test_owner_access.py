"""The owner of a workspace may log in to its machine: the whole Hub, with Compute's policies."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from localcloud.api_client import ApiClient, Workspace
from localcloud.running_cloud import RunningCloud
from tests.system.records import Records, call_scheduled, logins

pytestmark = pytest.mark.xdist_group("fault_cloud")


def wait_for_access(person: ApiClient, workspace_id: str, state: str) -> dict[str, Any]:
    """Wait until a workspace's access is in a state, and return it."""
    shown: Workspace = person.wait(
        workspace_id, lambda each: each["connection"]["access"]["state"] == state
    )
    access: dict[str, Any] = shown["connection"]["access"]
    return access


@pytest.fixture
def email() -> str:
    """The address of a person whom no other test uses."""
    return f"{uuid.uuid4()}@example.com"


@pytest.fixture
def carol(fault_cloud: RunningCloud, email: str) -> ApiClient:
    """That person's client."""
    return ApiClient(fault_cloud.address, fault_cloud.token(email))


def test_the_owner_is_let_in_to_each_machine_of_theirs(
    fault_cloud: RunningCloud, carol: ApiClient, email: str
) -> None:
    """A rebuild makes another machine, with a policy of its own. Nobody else is let in."""
    made = carol.create("api")
    carol.wait_until_settled(made["id"], "READY")
    assert wait_for_access(carol, made["id"], "granted") == {"state": "granted", "why": None}
    first = carol.status(made["id"])
    assert logins(fault_cloud, first) == [f"user:{email}"]

    carol.start(made["id"], rebuild=True)
    carol.wait_until_settled(made["id"], "READY")
    wait_for_access(carol, made["id"], "granted")

    second = carol.status(made["id"])
    assert second["connection"]["instance_id"] != first["connection"]["instance_id"]
    assert logins(fault_cloud, second) == [f"user:{email}"]


def test_an_owner_is_let_in_once_the_hub_has_the_right(
    fault_cloud: RunningCloud, carol: ApiClient, email: str
) -> None:
    """Until then the workspace is READY, and says why they cannot connect."""
    fault_cloud.fault("access_forbidden")
    made = carol.create("api")
    ready = carol.wait_until_settled(made["id"], "READY")
    assert ready["error"] is None
    access = carol.status(made["id"])["connection"]["access"]
    assert access["state"] == "pending"

    fault_cloud.clear_faults()

    wait_for_access(carol, made["id"], "granted")
    assert logins(fault_cloud, ready) == [f"user:{email}"]


def test_an_owner_whom_a_policy_forbids_has_a_workspace_that_says_so(
    fault_cloud: RunningCloud, carol: ApiClient, email: str
) -> None:
    """The hourly sweep tries again, and an event tells of the refusal once."""
    fault_cloud.fault("sharing_limited")
    made = carol.create("api")
    ready = carol.wait_until_settled(made["id"], "READY")
    refused = wait_for_access(carol, made["id"], "refused")
    assert "A policy of the organisation forbids" in refused["why"]
    assert "permitted customer" in refused["why"]
    assert ready["error"] is None

    fault_cloud.clear_faults()
    records = Records(fault_cloud)
    records.age(made["id"], "access.retry_at", timedelta(0))
    call_scheduled(fault_cloud, "reconcile_fleet")

    wait_for_access(carol, made["id"], "granted")
    assert logins(fault_cloud, ready) == [f"user:{email}"]
    told = [event["what"] for event in records.events(made["id"])]
    assert told.count("AccessRefused") == 1


def test_what_others_do_to_a_policy_meanwhile_is_kept(
    fault_cloud: RunningCloud, carol: ApiClient, email: str
) -> None:
    """Somebody gives another role at the same moment."""
    fault_cloud.fault("policy_race", count=1)
    made = carol.create("api")
    ready = carol.wait_until_settled(made["id"], "READY")
    wait_for_access(carol, made["id"], "granted")
    assert logins(fault_cloud, ready) == [f"user:{email}"]
    assert logins(fault_cloud, ready, "roles/compute.viewer") == ["user:somebody-1@example.com"]


def test_nobody_is_let_in_to_a_machine_that_lost_its_workspace(
    fault_cloud: RunningCloud, carol: ApiClient
) -> None:
    """The sweep stops it, and takes its former owner's right."""
    made = carol.create("api")
    ready = carol.wait_until_settled(made["id"], "READY")
    wait_for_access(carol, made["id"], "granted")
    Records(fault_cloud).delete(made["id"])
    fault_cloud.make_old(ready["instance_name"], timedelta(hours=2))

    done = call_scheduled(fault_cloud, "reconcile_fleet")["done"]

    assert done["OrphanStopped"] == done["AccessEnded"] == [ready["instance_name"]]
    assert logins(fault_cloud, ready) == []
