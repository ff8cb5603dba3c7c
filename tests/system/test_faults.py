"""What people see if Compute, machines or the delivery of messages fail."""

from __future__ import annotations

import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from localcloud.api_client import ApiClient, RefusedError
from localcloud.running_cloud import RunningCloud
from tests.system.records import Records, call_scheduled, in_compute, publish

pytestmark = pytest.mark.xdist_group("fault_cloud")


def test_a_create_without_capacity_goes_on_in_the_next_zone(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The workspace becomes READY in the next configured zone, and nothing is left in the first."""
    fault_cloud.fault("stock_out", zone="us-west1-a")
    workspace_id = bob.create("api")["id"]
    ready = bob.wait_until_settled(workspace_id, "READY")
    assert ready["zone"] == "us-west1-b"
    assert {
        _zone(item)
        for kind in ("instances", "disks")
        for item in in_compute(fault_cloud, kind, workspace_id)
    } == {"us-west1-b"}


def test_a_create_without_capacity_in_any_zone_fails_and_a_later_start_succeeds(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The error names every zone, and nothing is left running in any."""
    fault_cloud.fault("stock_out")
    workspace_id = bob.create("api")["id"]
    failed = bob.wait_until_settled(workspace_id, "ERROR")
    assert failed["error"]["code"] == "NO_CAPACITY"
    assert failed["error"]["retryable"]
    assert all(
        zone in failed["error"]["message"] for zone in ("us-west1-a", "us-west1-b", "us-west1-c")
    )
    assert (
        in_compute(fault_cloud, "instances", workspace_id)
        == in_compute(fault_cloud, "disks", workspace_id)
        == []
    )

    fault_cloud.fault("stock_out", off=True)
    bob.start(workspace_id)
    assert bob.wait_until_settled(workspace_id, "READY")["error"] is None


def test_a_start_without_capacity_goes_back_to_suspended_and_says_why(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The disk and the memory are in that zone, and nobody said that it may move."""
    workspace_id = _suspended(bob)
    fault_cloud.fault("stock_out")
    bob.start(workspace_id)
    asleep = bob.wait_until_settled(workspace_id, "SUSPENDED")
    assert asleep["error"]["code"] == "NO_CAPACITY"
    assert asleep["error"]["retryable"]

    fault_cloud.fault("stock_out", off=True)
    bob.start(workspace_id)
    bob.wait_until_settled(workspace_id, "READY")


def test_a_machine_that_cannot_be_suspended_is_stopped_and_booted_again(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """STOP shuts it down instead; the next START boots it with a new generation."""
    fault_cloud.fault("suspend_unsupported")
    workspace_id = _suspended(bob)
    assert bob.status(workspace_id)["instance"]["status"] == "TERMINATED"
    bob.start(workspace_id)
    assert bob.wait_until_settled(workspace_id, "READY")["generation"] == 2


def test_a_machine_that_fails_at_boot_is_deleted_and_the_error_has_its_reason(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """Nothing is left in Compute; a START tries again."""
    fault_cloud.fault("fails_at_boot", count=1)
    workspace_id = bob.create("api")["id"]
    failed = bob.wait_until_settled(workspace_id, "ERROR")
    assert failed["error"]["code"] == "IMAGE_PULL_FAILED"
    assert (
        in_compute(fault_cloud, "instances", workspace_id)
        == in_compute(fault_cloud, "disks", workspace_id)
        == []
    )
    bob.start(workspace_id)
    bob.wait_until_settled(workspace_id, "READY")


def test_a_machine_that_never_reports_ends_in_error_with_its_console_output(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """After the deadline the message has the end of the serial console."""
    fault_cloud.fault("never_ready", count=1)
    workspace_id = bob.create("api")["id"]
    bob.wait(workspace_id, lambda ws: ws["operation"]["phase"] == "await_ready")
    Records(fault_cloud).age(workspace_id, "operation.deadline_at", timedelta(seconds=1))
    failed = bob.wait_until_settled(workspace_id, "ERROR")
    assert failed["error"]["code"] == "NOT_READY_IN_TIME"
    assert "printed last" in failed["error"]["message"]
    assert in_compute(fault_cloud, "instances", workspace_id) == []


def test_a_used_up_compute_quota_ends_a_create_in_error(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """There is no retry, and nothing is left running."""
    fault_cloud.fault("quota_exceeded", count=1)
    workspace_id = bob.create("api")["id"]
    failed = bob.wait_until_settled(workspace_id, "ERROR")
    assert failed["error"]["code"] == "COMPUTE_QUOTA_EXCEEDED"
    assert (
        in_compute(fault_cloud, "instances", workspace_id)
        == in_compute(fault_cloud, "disks", workspace_id)
        == []
    )


@pytest.mark.parametrize(
    "fault", ["rate_limited", "unavailable", "lost_operation", "slow_operation"]
)
def test_a_create_succeeds_despite_temporary_faults_of_compute(
    fault_cloud: RunningCloud, bob: ApiClient, fault: str
) -> None:
    """The workspace becomes READY."""
    fault_cloud.fault(fault, count=2)
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")


def test_a_machine_deleted_by_hand_is_noticed_and_made_again_on_its_home_disk(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The record says that it is gone; a START makes another machine on the same disk."""
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    home = [
        disk["id"]
        for disk in in_compute(fault_cloud, "disks", workspace_id)
        if disk["name"].startswith("home")
    ]
    fault_cloud.fault("vanished", count=1)

    gone = bob.wait_until_settled(workspace_id, "ERROR")
    assert gone["error"]["code"] == "MACHINE_GONE"
    assert gone["instance"] is None
    assert gone["why_no_instance"]

    bob.start(workspace_id)
    bob.wait_until_settled(workspace_id, "READY")
    again = [
        disk["id"]
        for disk in in_compute(fault_cloud, "disks", workspace_id)
        if disk["name"].startswith("home")
    ]
    assert again == home


def test_a_preempted_machine_is_noticed_and_booted_again(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The record follows to SUSPENDED; the next start boots, since the memory is lost."""
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    fault_cloud.fault("preempted", count=1)
    bob.wait_until_settled(workspace_id, "SUSPENDED")
    bob.start(workspace_id)
    assert bob.wait_until_settled(workspace_id, "READY")["generation"] == 2


def test_a_message_that_is_no_job_does_not_stop_the_jobs_after_it(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """A poison message is refused until it is a dead letter; a create succeeds meanwhile."""
    publish(fault_cloud, "workspace-provision", b"poison")
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")


@pytest.mark.timeout(300)
def test_two_hundred_concurrent_creates_are_all_answered_and_none_is_lost(
    fault_cloud: RunningCloud,
) -> None:
    """50 people ask for four each: all get 201, all become READY, and nobody has more than four."""
    people = [
        ApiClient(fault_cloud.address, fault_cloud.token(f"{uuid.uuid4()}@example.com"))
        for _ in range(50)
    ]
    with ThreadPoolExecutor(40) as pool:
        asked = [(person, f"w{number}") for number in range(4) for person in people]
        made = list(pool.map(lambda each: each[0].create(each[1])["id"], asked))
    assert len(set(made)) == 200
    with ThreadPoolExecutor(8) as pool:
        listed = list(pool.map(lambda person: _all_ready(person, 4, seconds=200), people))
    assert sorted(ws["id"] for workspaces in listed for ws in workspaces) == sorted(made)


def test_concurrent_creates_of_one_person_never_exceed_the_quota(fault_cloud: RunningCloud) -> None:
    """Of twenty at once five are made, and the others are refused for the quota only."""
    token = fault_cloud.token(f"{uuid.uuid4()}@example.com")

    def ask(number: int) -> str:
        try:
            ApiClient(fault_cloud.address, token).create(f"w{number}")
        except RefusedError as refused:
            return str(refused.answer.json()["code"])
        return "made"

    with ThreadPoolExecutor(20) as pool:
        answers = sorted(pool.map(ask, range(20)))
    assert answers == ["QUOTA_EXCEEDED"] * 15 + ["made"] * 5
    assert len(ApiClient(fault_cloud.address, token).workspaces()) == 5


def test_creates_succeed_though_their_workers_are_killed(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """Both workers are killed three times while five workspaces are made."""
    made = [bob.create(f"w{number}")["id"] for number in range(5)]
    for _ in range(3):
        for worker in ("provision_workspace", "advance_operation"):
            fault_cloud.kill_function(worker, signal.SIGKILL)
    _all_ready(bob, 5)
    assert sorted(ws["id"] for ws in bob.workspaces()) == sorted(made)
    assert all(
        len(in_compute(fault_cloud, "instances", workspace_id)) == 1 for workspace_id in made
    )


@pytest.mark.parametrize("delivery", ["duplicate_delivery", "late_delivery"])
def test_every_operation_succeeds_though_messages_come_twice_or_late(
    fault_cloud: RunningCloud, bob: ApiClient, delivery: str
) -> None:
    """A workspace is created, stopped, started and deleted, always with one machine."""
    fault_cloud.fault(delivery)
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY", seconds=60)
    bob.stop(workspace_id)
    bob.wait_until_settled(workspace_id, "SUSPENDED", seconds=60)
    bob.start(workspace_id)
    bob.wait_until_settled(workspace_id, "READY", seconds=60)
    assert len(in_compute(fault_cloud, "instances", workspace_id)) == 1
    bob.delete(workspace_id)
    bob.wait_until_gone(workspace_id, seconds=60)
    assert (
        in_compute(fault_cloud, "instances", workspace_id)
        == in_compute(fault_cloud, "disks", workspace_id)
        == []
    )


def test_a_record_that_cannot_be_read_does_not_stop_the_cleanup_of_others(
    fault_cloud: RunningCloud, bob: ApiClient
) -> None:
    """The sweep suspends the idle workspace that comes after it."""
    healthy = bob.create("healthy")["id"]
    broken = bob.create("broken")["id"]
    for workspace_id in (healthy, broken):
        bob.wait_until_settled(workspace_id, "READY")
    records = Records(fault_cloud)
    records.age(broken, "last_connected_at", timedelta(minutes=90))
    records.age(healthy, "last_connected_at", timedelta(minutes=80))
    records.write(broken, schema_version=99)
    call_scheduled(fault_cloud, "cleanup")
    bob.wait_until_settled(healthy, "SUSPENDED")


def _suspended(person: ApiClient) -> str:
    workspace_id: str = person.create("api")["id"]
    person.wait_until_settled(workspace_id, "READY")
    person.stop(workspace_id)
    person.wait_until_settled(workspace_id, "SUSPENDED")
    return workspace_id


def _all_ready(person: ApiClient, count: int, seconds: float = 90) -> list[dict[str, Any]]:
    """Wait until a person's list has this many workspaces, all of them READY."""
    deadline = time.monotonic() + seconds
    while True:
        workspaces = person.workspaces()
        if [workspace["status"] for workspace in workspaces] == ["READY"] * count:
            return workspaces
        assert time.monotonic() < deadline, workspaces
        time.sleep(0.5)


def _zone(item: dict[str, str]) -> str:
    return item["zone"].rsplit("/", 1)[-1]
