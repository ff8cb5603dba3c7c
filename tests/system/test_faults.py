"""What people see when Compute, machines or the delivery of messages fail."""

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

pytestmark = pytest.mark.xdist_group("troubled_cloud")


def test_a_zone_without_capacity_is_left_for_the_next(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The workspace becomes READY in the next configured zone, and nothing is left in the first."""
    trouble.fault("stock_out", zone="us-west1-a")
    workspace_id = bob.create("api")["id"]
    ready = bob.wait_until_settled(workspace_id, "READY")
    assert ready["zone"] == "us-west1-b"
    assert {
        _zone(item)
        for kind in ("instances", "disks")
        for item in in_compute(trouble, kind, workspace_id)
    } == {"us-west1-b"}


def test_when_no_zone_has_capacity_the_error_names_them_and_a_start_gets_out(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """ERROR names every zone tried, nothing is left running, and START succeeds once there is capacity."""
    trouble.fault("stock_out")
    workspace_id = bob.create("api")["id"]
    failed = bob.wait_until_settled(workspace_id, "ERROR")
    assert failed["error"]["code"] == "NO_CAPACITY"
    assert failed["error"]["retryable"]
    assert all(
        zone in failed["error"]["message"] for zone in ("us-west1-a", "us-west1-b", "us-west1-c")
    )
    assert (
        in_compute(trouble, "instances", workspace_id)
        == in_compute(trouble, "disks", workspace_id)
        == []
    )

    trouble.fault("stock_out", off=True)
    bob.start(workspace_id)
    assert bob.wait_until_settled(workspace_id, "READY")["error"] is None


def test_a_start_without_capacity_goes_back_to_suspended_and_says_why(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The disk and the memory are in that zone, so the workspace cannot move."""
    workspace_id = _suspended(bob)
    trouble.fault("stock_out")
    bob.start(workspace_id)
    asleep = bob.wait_until_settled(workspace_id, "SUSPENDED")
    assert asleep["error"]["code"] == "NO_CAPACITY"
    assert asleep["error"]["retryable"]

    trouble.fault("stock_out", off=True)
    bob.start(workspace_id)
    bob.wait_until_settled(workspace_id, "READY")


def test_a_machine_that_cannot_be_suspended_is_stopped_and_booted_again(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """Stop falls back to a shutdown; the next start boots under a new generation."""
    trouble.fault("suspend_unsupported")
    workspace_id = _suspended(bob)
    assert bob.status(workspace_id)["instance"]["status"] == "TERMINATED"
    bob.start(workspace_id)
    assert bob.wait_until_settled(workspace_id, "READY")["generation"] == 2


def test_a_machine_that_fails_at_boot_is_deleted_and_its_reason_told(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """ERROR has the machine's own reason; nothing is left; START tries again."""
    trouble.fault("fails_at_boot", count=1)
    workspace_id = bob.create("api")["id"]
    failed = bob.wait_until_settled(workspace_id, "ERROR")
    assert failed["error"]["code"] == "IMAGE_PULL_FAILED"
    assert (
        in_compute(trouble, "instances", workspace_id)
        == in_compute(trouble, "disks", workspace_id)
        == []
    )
    bob.start(workspace_id)
    bob.wait_until_settled(workspace_id, "READY")


def test_a_machine_that_never_reports_ends_in_error_with_what_it_printed(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The deadline passes; the message has the tail of the serial console."""
    trouble.fault("never_ready", count=1)
    workspace_id = bob.create("api")["id"]
    bob.wait(workspace_id, lambda ws: ws["operation"]["phase"] == "await_ready")
    Records(trouble).age(workspace_id, "operation.deadline_at", timedelta(seconds=1))
    failed = bob.wait_until_settled(workspace_id, "ERROR")
    assert failed["error"]["code"] == "NOT_READY_IN_TIME"
    assert "printed last" in failed["error"]["message"]
    assert in_compute(trouble, "instances", workspace_id) == []


def test_a_used_up_compute_quota_is_an_error_in_words(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """No retry, nothing left running, and the person reads what Compute said."""
    trouble.fault("quota_exceeded", count=1)
    workspace_id = bob.create("api")["id"]
    failed = bob.wait_until_settled(workspace_id, "ERROR")
    assert failed["error"]["code"] == "COMPUTE_QUOTA_EXCEEDED"
    assert (
        in_compute(trouble, "instances", workspace_id)
        == in_compute(trouble, "disks", workspace_id)
        == []
    )


@pytest.mark.parametrize(
    "fault", ["rate_limited", "unavailable", "lost_operation", "slow_operation"]
)
def test_passing_faults_of_compute_are_got_over(
    trouble: RunningCloud, bob: ApiClient, fault: str
) -> None:
    """A workspace gets where it should all the same."""
    trouble.fault(fault, count=2)
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")


def test_a_machine_deleted_by_hand_is_noticed_and_made_anew_on_its_home_disk(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The status says so, the record follows, START makes another machine on the same disk."""
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    home = [
        disk["id"]
        for disk in in_compute(trouble, "disks", workspace_id)
        if disk["name"].startswith("home")
    ]
    trouble.fault("vanished", count=1)

    gone = bob.wait_until_settled(workspace_id, "ERROR")
    assert gone["error"]["code"] == "MACHINE_GONE"
    assert gone["instance"] is None
    assert gone["why_no_instance"]

    bob.start(workspace_id)
    bob.wait_until_settled(workspace_id, "READY")
    again = [
        disk["id"]
        for disk in in_compute(trouble, "disks", workspace_id)
        if disk["name"].startswith("home")
    ]
    assert again == home


def test_a_preempted_machine_is_noticed_and_booted_again(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The record follows to SUSPENDED; the next start boots, since the memory is lost."""
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")
    trouble.fault("preempted", count=1)
    bob.wait_until_settled(workspace_id, "SUSPENDED")
    bob.start(workspace_id)
    assert bob.wait_until_settled(workspace_id, "READY")["generation"] == 2


def test_a_message_that_is_no_job_of_ours_ends_in_the_dead_letters_and_stops_nobody(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """A poison message is refused until it is dead; others go on meanwhile."""
    publish(trouble, "workspace-provision", b"poison")
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY")


@pytest.mark.timeout(300)
def test_two_hundred_concurrent_creates_are_all_answered_and_none_is_lost(
    trouble: RunningCloud,
) -> None:
    """50 people ask for four each at once: each is answered 201, all are READY at the end, nobody has more than asked."""
    people = [
        ApiClient(trouble.address, trouble.token(f"{uuid.uuid4()}@example.com")) for _ in range(50)
    ]
    with ThreadPoolExecutor(40) as pool:
        asked = [(person, f"w{number}") for number in range(4) for person in people]
        made = list(pool.map(lambda each: each[0].create(each[1])["id"], asked))
    assert len(set(made)) == 200
    with ThreadPoolExecutor(8) as pool:
        listed = list(pool.map(lambda person: _all_ready(person, 4, seconds=200), people))
    assert sorted(ws["id"] for workspaces in listed for ws in workspaces) == sorted(made)


def test_concurrent_creates_of_one_person_never_exceed_the_quota(trouble: RunningCloud) -> None:
    """Twenty at once: five are made, the others are refused for the quota, none for any other reason."""
    token = trouble.token(f"{uuid.uuid4()}@example.com")

    def ask(number: int) -> str:
        try:
            ApiClient(trouble.address, token).create(f"w{number}")
        except RefusedError as refused:
            return str(refused.answer.json()["code"])
        return "made"

    with ThreadPoolExecutor(20) as pool:
        answers = sorted(pool.map(ask, range(20)))
    assert answers == ["QUOTA_EXCEEDED"] * 15 + ["made"] * 5
    assert len(ApiClient(trouble.address, token).workspaces()) == 5


def test_workspaces_survive_workers_that_are_killed(trouble: RunningCloud, bob: ApiClient) -> None:
    """Both workers are killed again and again while five workspaces are made: all become READY."""
    made = [bob.create(f"w{number}")["id"] for number in range(5)]
    for _ in range(3):
        for worker in ("provision_workspace", "advance_operation"):
            trouble.kill_function(worker, signal.SIGKILL)
    _all_ready(bob, 5)
    assert sorted(ws["id"] for ws in bob.workspaces()) == sorted(made)
    assert all(len(in_compute(trouble, "instances", workspace_id)) == 1 for workspace_id in made)


@pytest.mark.parametrize("delivery", ["duplicate_delivery", "late_delivery"])
def test_workspaces_get_where_they_should_when_messages_come_twice_or_late(
    trouble: RunningCloud, bob: ApiClient, delivery: str
) -> None:
    """The whole life of a workspace, with every message and task delivered twice, or seconds late."""
    trouble.fault(delivery)
    workspace_id = bob.create("api")["id"]
    bob.wait_until_settled(workspace_id, "READY", seconds=60)
    bob.stop(workspace_id)
    bob.wait_until_settled(workspace_id, "SUSPENDED", seconds=60)
    bob.start(workspace_id)
    bob.wait_until_settled(workspace_id, "READY", seconds=60)
    assert len(in_compute(trouble, "instances", workspace_id)) == 1
    bob.delete(workspace_id)
    bob.wait_until_gone(workspace_id, seconds=60)
    assert (
        in_compute(trouble, "instances", workspace_id)
        == in_compute(trouble, "disks", workspace_id)
        == []
    )


def test_one_workspace_that_cannot_be_stopped_does_not_keep_the_rest_awake(
    trouble: RunningCloud, bob: ApiClient
) -> None:
    """The cleanup goes on past a record that it cannot read."""
    healthy = bob.create("healthy")["id"]
    broken = bob.create("broken")["id"]
    for workspace_id in (healthy, broken):
        bob.wait_until_settled(workspace_id, "READY")
    records = Records(trouble)
    records.age(broken, "last_connected_at", timedelta(minutes=90))
    records.age(healthy, "last_connected_at", timedelta(minutes=80))
    records.write(broken, schema_version=99)
    call_scheduled(trouble, "cleanup")
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
