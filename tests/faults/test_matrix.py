"""What every fault of Compute does to every verb, and that START and DELETE recover from it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.faults import matrix
from tests.faults.matrix import (
    ARCHIVE,
    CASES,
    FORK,
    GROW,
    HOME_GB,
    LARGER_GB,
    MOVE,
    OTHER_ZONE,
    RESTORE,
    SNAPSHOT,
    SOURCE,
    START_OTHER_TYPE,
    TIMES,
    VERBS,
    ZONE,
    Case,
    Played,
)
from tests.faults.observer import Histories
from tests.kept_logs import keep_if_failed
from tests.system.records import call_scheduled, in_compute, snapshots_in_compute
from tests.system.token_leaks import leaks

pytestmark = [pytest.mark.xdist_group("matrix"), pytest.mark.timeout(1800)]

# How a verb ends if the Hub recovers from the fault, or if the fault does not affect the verb.
USUAL = {
    "CREATE": "READY",
    "STOP": "SUSPENDED",
    "START": "READY",
    START_OTHER_TYPE: "READY",
    "DELETE": "GONE",
    SNAPSHOT: "READY, snapshot READY",
    FORK: "READY",
    RESTORE: "READY, snapshot READY",
    GROW: "READY",
    ARCHIVE: "SUSPENDED, snapshot READY",
    MOVE: "READY, snapshot READY",
}

NO_CAPACITY, QUOTA, POLICY = "NO_CAPACITY", "COMPUTE_QUOTA_EXCEEDED", "COMPUTE_POLICY_FORBIDS"
UNAVAILABLE, TIMED_OUT, IN_USE, NOT_READY = (
    "COMPUTE_UNAVAILABLE",
    "_TIMED_OUT",
    "DISK_IN_USE",
    "NOT_READY_IN_TIME",
)
NOT_MADE = "LAST_COPY_NOT_MADE"
# The verbs that leave a workspace READY if nothing is known of its machine.
KEEPS_STATUS = {"STOP": "READY", SNAPSHOT: "READY"}
# How it ends otherwise, if the fault strikes once, three times, forever. "" stands for USUAL.
OTHERWISE = {
    # There are three zones.
    ("stock_out", "CREATE"): ("", f"ERROR {NO_CAPACITY}", f"ERROR {NO_CAPACITY}"),
    ("stock_out", "START"): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("second_error", "CREATE"): ("", f"ERROR {NO_CAPACITY}", f"ERROR {NO_CAPACITY}"),
    ("second_error", "START"): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("second_error", START_OTHER_TYPE): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("quota_exceeded", "CREATE"): (f"ERROR {QUOTA}",) * 3,
    ("quota_exceeded", "START"): (f"ERROR {QUOTA}",) * 3,
    ("policy_forbids", "CREATE"): (f"ERROR {POLICY}",) * 3,
    # A START that resumes does nothing that a policy forbids.
    ("policy_forbids", START_OTHER_TYPE): (f"ERROR {POLICY}",) * 3,
    **{
        (fault, verb): ("", "", f"{KEEPS_STATUS.get(verb, 'ERROR')} {UNAVAILABLE}")
        for fault in ("rate_limited", "unavailable", "html_502")
        for verb in (*VERBS, SNAPSHOT, FORK, GROW)
    },
    # The machine is not stopped instead, so that its memory is kept.
    ("not_ready", "STOP"): ("", "", f"READY STOP{TIMED_OUT}"),
    ("not_ready", "START"): ("", "", f"ERROR START{TIMED_OUT}"),
    ("not_ready", "DELETE"): ("", "", f"ERROR DELETE{TIMED_OUT}"),
    ("in_use", "DELETE"): ("", "", f"ERROR {IN_USE}, snapshot READY"),
    ("account_unknown", "CREATE"): ("", "", f"ERROR CREATE{TIMED_OUT}"),
    ("ip_space_exhausted", "CREATE"): ("", "", f"ERROR CREATE{TIMED_OUT}"),
    ("never_ready", "CREATE"): (f"ERROR {NOT_READY}",) * 3,
    ("never_ready+console_away", "CREATE"): (f"ERROR {NOT_READY}",) * 3,
    ("fails_at_boot", "CREATE"): ("ERROR IMAGE_PULL_FAILED",) * 3,
    ("fails_later", "CREATE"): ("ERROR CONTAINER_ENDS",) * 3,
    ("preempted", "CREATE"): ("ERROR MACHINE_STOPPED",) * 3,
    ("preempted", "START"): ("", "", f"ERROR START{TIMED_OUT}"),
    ("preempted", START_OTHER_TYPE): ("ERROR MACHINE_STOPPED",) * 3,
    ("vanished", "CREATE"): ("", "", f"ERROR CREATE{TIMED_OUT}"),
    ("vanished", "STOP"): ("ERROR MACHINE_GONE",) * 3,
    ("vanished", "START"): ("", "", f"ERROR START{TIMED_OUT}"),
    ("vanished", START_OTHER_TYPE): ("", "", f"ERROR START{TIMED_OUT}"),
    **{
        (fault, verb): ("", "", end)
        for fault in ("source_gone", "source_not_ready", "source_busy")
        for verb, end in (
            (SNAPSHOT, f"READY SNAPSHOT{TIMED_OUT}"),
            (FORK, f"ERROR CREATE{TIMED_OUT}"),
        )
    },
    # Machine, memory and home are as they were.
    ("disk_quota_exceeded", GROW): (f"SUSPENDED {QUOTA}",) * 3,
    # The home has grown, and no machine boots on it.
    ("stock_out", GROW): (f"SUSPENDED {NO_CAPACITY}",) * 3,
    ("quota_exceeded", GROW): (f"ERROR {QUOTA}",) * 3,
    ("preempted", GROW): ("ERROR MACHINE_STOPPED",) * 3,
    ("vanished", GROW): ("", "", f"ERROR START{TIMED_OUT}"),
    # The content is captured, or not: nothing is left of a snapshot that could not be taken.
    ("snapshot_quota_exceeded", SNAPSHOT): (f"READY {QUOTA}",) * 3,
    ("snapshot_location_forbidden", SNAPSHOT): (f"READY {POLICY}",) * 3,
    ("capture_fails", SNAPSHOT): ("READY SNAPSHOT_FAILED",) * 3,
    ("upload_fails+slow_upload", SNAPSHOT): ("READY, snapshot FAILED SNAPSHOT_FAILED",) * 3,
    # The home is on a disk of its own, also without a machine.
    ("preempted", SNAPSHOT): ("SUSPENDED MACHINE_STOPPED, snapshot READY",) * 3,
    ("vanished", SNAPSHOT): ("ERROR MACHINE_GONE, snapshot READY",) * 3,
    # As in a CREATE of an empty home: all zones are tried, as a snapshot is in none.
    ("stock_out", FORK): ("", f"ERROR {NO_CAPACITY}", f"ERROR {NO_CAPACITY}"),
    ("quota_exceeded", FORK): (f"ERROR {QUOTA}",) * 3,
    ("policy_forbids", FORK): (f"ERROR {POLICY}",) * 3,
    ("never_ready", FORK): (f"ERROR {NOT_READY}",) * 3,
    ("fails_at_boot", FORK): ("ERROR IMAGE_PULL_FAILED",) * 3,
    ("vanished", FORK): ("", "", f"ERROR CREATE{TIMED_OUT}"),
    # Before the new machine: the machine is off, and the home as it was. What may exist of the
    # snapshot goes.
    **{
        (fault, RESTORE): ("", "", f"SUSPENDED RESTORE{TIMED_OUT}")
        for fault in ("source_gone", "source_not_ready", "source_busy")
    },
    **{
        (fault, RESTORE): ("", "", f"ERROR {UNAVAILABLE}")
        for fault in ("rate_limited", "unavailable", "html_502")
    },
    ("not_ready", RESTORE): ("", "", f"READY RESTORE{TIMED_OUT}"),
    ("snapshot_quota_exceeded", RESTORE): (f"SUSPENDED {QUOTA}",) * 3,
    ("snapshot_location_forbidden", RESTORE): (f"SUSPENDED {POLICY}",) * 3,
    ("capture_fails", RESTORE): ("SUSPENDED SNAPSHOT_FAILED",) * 3,
    ("upload_fails+slow_upload", RESTORE): (
        "SUSPENDED SNAPSHOT_FAILED, snapshot FAILED SNAPSHOT_FAILED",
    )
    * 3,
    # Nothing is deleted without a last copy.
    **{
        (fault, "DELETE"): ("", "", f"ERROR {NOT_MADE}")
        for fault in ("source_gone", "source_not_ready", "source_busy")
    },
    **{
        (fault, "DELETE"): (f"ERROR {NOT_MADE}",) * 3
        for fault in ("snapshot_quota_exceeded", "snapshot_location_forbidden", "capture_fails")
    },
    ("upload_fails+slow_upload", "DELETE"): (f"ERROR {NOT_MADE}, snapshot FAILED SNAPSHOT_FAILED",)
    * 3,
    # The disk stays, and what may exist of the snapshot goes.
    **{
        (fault, ARCHIVE): ("", "", f"SUSPENDED ARCHIVE{TIMED_OUT}")
        for fault in ("source_gone", "source_not_ready", "source_busy")
    },
    **{
        (fault, ARCHIVE): ("", "", f"ERROR {UNAVAILABLE}")
        for fault in ("rate_limited", "unavailable", "html_502")
    },
    ("not_ready", ARCHIVE): ("", "", f"READY ARCHIVE{TIMED_OUT}"),
    ("snapshot_quota_exceeded", ARCHIVE): (f"SUSPENDED {QUOTA}",) * 3,
    ("snapshot_location_forbidden", ARCHIVE): (f"SUSPENDED {POLICY}",) * 3,
    ("capture_fails", ARCHIVE): ("SUSPENDED SNAPSHOT_FAILED",) * 3,
    ("upload_fails+slow_upload", ARCHIVE): (
        "SUSPENDED SNAPSHOT_FAILED, snapshot FAILED SNAPSHOT_FAILED",
    )
    * 3,
    ("in_use", ARCHIVE): ("", "", f"SUSPENDED {IN_USE}, snapshot READY"),
    # Before the new machine: the one of before is off, and nothing has moved.
    **{
        (fault, MOVE): ("", "", f"SUSPENDED START{TIMED_OUT}")
        for fault in ("source_gone", "source_not_ready", "source_busy")
    },
    **{
        (fault, MOVE): ("", "", f"ERROR {UNAVAILABLE}")
        for fault in ("rate_limited", "unavailable", "html_502")
    },
    ("not_ready", MOVE): ("", "", f"READY START{TIMED_OUT}"),
    ("snapshot_quota_exceeded", MOVE): (f"SUSPENDED {QUOTA}",) * 3,
    ("snapshot_location_forbidden", MOVE): (f"SUSPENDED {POLICY}",) * 3,
    ("capture_fails", MOVE): ("SUSPENDED SNAPSHOT_FAILED",) * 3,
    ("upload_fails+slow_upload", MOVE): (
        "SUSPENDED SNAPSHOT_FAILED, snapshot FAILED SNAPSHOT_FAILED",
    )
    * 3,
    # After it: the machine of before is there again.
    ("stock_out", MOVE): (f"SUSPENDED {NO_CAPACITY}, snapshot READY",) * 3,
    ("quota_exceeded", MOVE): (f"SUSPENDED {QUOTA}, snapshot READY",) * 3,
    ("policy_forbids", MOVE): (f"SUSPENDED {POLICY}, snapshot READY",) * 3,
    ("never_ready", MOVE): (f"SUSPENDED {NOT_READY}, snapshot READY",) * 3,
    ("fails_at_boot", MOVE): ("SUSPENDED IMAGE_PULL_FAILED, snapshot READY",) * 3,
    ("preempted", MOVE): ("", "", "SUSPENDED MACHINE_STOPPED, snapshot READY"),
    ("vanished", MOVE): ("", "", f"SUSPENDED START{TIMED_OUT}, snapshot READY"),
    # After it: there is no machine, and the old home is the home again.
    ("stock_out", RESTORE): ("", *(f"SUSPENDED {NO_CAPACITY}, snapshot READY",) * 2),
    ("quota_exceeded", RESTORE): (f"SUSPENDED {QUOTA}, snapshot READY",) * 3,
    ("policy_forbids", RESTORE): (f"SUSPENDED {POLICY}, snapshot READY",) * 3,
    ("never_ready", RESTORE): (f"SUSPENDED {NOT_READY}, snapshot READY",) * 3,
    ("fails_at_boot", RESTORE): ("SUSPENDED IMAGE_PULL_FAILED, snapshot READY",) * 3,
    ("preempted", RESTORE): ("", "", "SUSPENDED MACHINE_STOPPED, snapshot READY"),
    ("vanished", RESTORE): ("", "", f"SUSPENDED RESTORE{TIMED_OUT}, snapshot READY"),
}
# A machine that is reclaimed before the Hub got the request to stop it was stopped outside the Hub.
# A machine that goes after the Hub looked at it in a SNAPSHOT is noticed by the next look. A
# snapshot of which the upload has failed before the Hub sees it UPLOADING is not kept.
OR_ELSE = {
    ("preempted", "STOP"): "SUSPENDED MACHINE_STOPPED",
    ("preempted", SNAPSHOT): USUAL[SNAPSHOT],
    ("vanished", SNAPSHOT): USUAL[SNAPSHOT],
    ("upload_fails+slow_upload", SNAPSHOT): "READY SNAPSHOT_FAILED",
    ("upload_fails+slow_upload", RESTORE): "SUSPENDED SNAPSHOT_FAILED",
    ("upload_fails+slow_upload", "DELETE"): f"ERROR {NOT_MADE}",
    ("upload_fails+slow_upload", ARCHIVE): "SUSPENDED SNAPSHOT_FAILED",
    ("upload_fails+slow_upload", MOVE): "SUSPENDED SNAPSHOT_FAILED",
}
# The message of each code: what happened, and what to do next.
MESSAGES = {
    NO_CAPACITY: (
        r"(in any configured zone \(us-west1-a, us-west1-b, us-west1-c\)\. Try again later"
        r"|zone\. Start it again later, or start it with may_move"
        r"|in zone us-west1-b\. The workspace's home is in zone us-west1-a, as before\. Start it)"
    ),
    QUOTA: r"quota is used up\. Compute Engine said[^:]*: .* (Start|delete|Take a snapshot again)",
    POLICY: (
        r"policy of the organisation forbids this\. Compute Engine said.*: .*constraints/.*"
        r" Whoever runs this Hub must change that"
    ),
    UNAVAILABLE: (
        r"within 20 minutes, because Compute Engine does not answer\. "
        r"((Start|Stop|Delete) the workspace|Take a snapshot again|The home is what it was\. Start"
        r"|Nothing of the home is lost\. Start|The workspace is where it was\. Start)"
    ),
    f"CREATE{TIMED_OUT}": r"within 20 minutes\. Start the workspace to try again, or delete it",
    f"STOP{TIMED_OUT}": r"within 20 minutes\. Stop the workspace again",
    f"START{TIMED_OUT}": (
        r"within 20 minutes\. (Start the workspace again, or delete it"
        r"|The workspace is where it was\. Start it to go on there, or move it again)"
    ),
    f"DELETE{TIMED_OUT}": r"within 20 minutes\. Delete the workspace again",
    NOT_MADE: (
        r"^The home was not deleted, because no last snapshot of it could be made\. .*"
        r"Delete the workspace again, delete it with purge, which keeps no snapshot, or start it\.$"
    ),
    f"RESTORE{TIMED_OUT}": (
        r"within 20 minutes\. The home is what it was\. Start the workspace, or restore it again"
    ),
    f"ARCHIVE{TIMED_OUT}": (
        r"within 20 minutes\. Nothing of the home is lost\. "
        r"Start the workspace, or archive it again"
    ),
    f"SNAPSHOT{TIMED_OUT}": r"within 20 minutes\. Take a snapshot again",
    "SNAPSHOT_FAILED": (
        r"could not (take the snapshot\. "
        r"(Take a snapshot again"
        r"|(The home is what it was|Nothing of the home is lost|The workspace is where it was)"
        r"\. .*again)"
        r"\. Compute Engine said: |store the snapshot\. Delete it, and take another one"
        r"\. Compute Engine said: "
        r"|store the snapshot of what is in the home now, or it was deleted outside the Hub\. "
        r"(The home is what it was\. Start the workspace, or restore it again"
        r"|Nothing of the home is lost\. Start the workspace, or archive it again"
        r"|The workspace is where it was\. Start it to go on there, or move it again))"
    ),
    IN_USE: (
        r"within 20 minutes, because something else uses .*instances/holder.*"
        r" Detach it there\. (Delete the workspace again|Nothing of the home is lost)"
    ),
    NOT_READY: (
        r"did not report ready within 20 minutes\. (The home is what it was\. )?"
        r"(Start the workspace|The workspace is where it was\. Start it)"
    ),
    "IMAGE_PULL_FAILED": r"manifest unknown\. Start the workspace",
    "CONTAINER_ENDS": r"container keeps ending.* Start the workspace",
    "MACHINE_STOPPED": r"was stopped (while it booted|outside the Hub).* Start",
    "MACHINE_GONE": (
        r"was deleted outside the Hub\. Start the workspace"
        r" to get a new machine on its home disk"
    ),
}
# Codes of operations that end only by their deadline.
OF_DEADLINES = (UNAVAILABLE, TIMED_OUT, IN_USE, NOT_READY)
# The faults without end that keep a DELETE from taking its last copy until its deadline.
LASTING = {"source_gone", "source_not_ready", "source_busy"}


@dataclass(frozen=True)
class Ran:
    """The cloud on which all cases ran, what came of each, and what was wrong with the homes."""

    cloud: RunningCloud
    played: Played
    homeless: list[str]


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[Ran]:
    """All cases, run at once."""
    most = dict.fromkeys(("HUB_WORKSPACES_PER_OWNER", "HUB_RUNNING_PER_OWNER"), "200")
    overrides = {**matrix.SETTINGS, **most, "HUB_REQUESTS_PER_MINUTE": "100000"}
    settings = LocalSettings(
        times="fast", schedule_seconds=1, write_requests=True, overrides=overrides
    )
    with start_cloud(settings) as cloud:
        played = matrix.run(cloud, {case: expected(case) for case in CASES}, only_by_deadline)
        yield Ran(cloud, played, homes_without_a_copy(cloud))
        keep_if_failed(cloud, "matrix", failed=request.session.testsfailed)
        assert leaks(cloud) == []
        assert homes_without_a_copy(cloud) == []


def homes_without_a_copy(cloud: RunningCloud) -> list[str]:
    """Return what the observer finds of homes that were nowhere; its other rules do not matter."""
    nothing = timedelta(0)
    histories = Histories(
        requests=cloud.requests(),
        **cloud.compute_history(),
        idle_after=nothing,
        in_flight=nothing,
        longest_operation=nothing,
        max_workspaces=0,
        max_running=0,
        undelete_for=timedelta(days=7),
        max_deleted=10,
        archives=False,
    )
    return histories.homes_without_a_copy()


def expected(case: Case) -> tuple[str, ...]:
    """Return the status in which a case ends, with the code of its error if there is one.

    There are two if it depends on when the fault strikes.
    """
    otherwise = OTHERWISE.get((case.fault, case.verb), ("", "", ""))
    ends = otherwise[list(TIMES).index(case.times)] or USUAL[case.verb]
    return tuple(filter(None, (ends, OR_ELSE.get((case.fault, case.verb)))))


def only_by_deadline(case: Case) -> bool:
    """Say whether a case ends by its deadline only."""
    ends = expected(case)[0].partition(",")[0]
    return ends.endswith(OF_DEADLINES) or (ends.endswith(NOT_MADE) and case.fault in LASTING)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_fault_ends_as_the_table_says(ran: Ran, case: Case) -> None:
    """No operation is left; an error's message says what to do next."""
    end = ran.played.ends[case]
    assert str(end) in expected(case)
    for each in filter(None, (end, end.snapshot)):
        if each.code:
            assert re.search(MESSAGES[each.code], each.message), each.message


def test_at_no_moment_was_a_home_nowhere(ran: Ran) -> None:
    """It was on its disk, or in a READY snapshot of its last state, whatever struck."""
    assert ran.homeless == []


def test_every_workspace_can_be_kept_started_and_deleted_once_the_faults_are_over(ran: Ran) -> None:
    """A snapshot can be taken again, a START leads to READY, a purge leaves nothing in Compute.

    What was deleted can be taken back.
    """
    ran.cloud.clear_faults()
    people = matrix.people(ran.cloud)
    take_back(ran, people)
    everything = [(person, workspace) for person in people for workspace in person.workspaces()]
    call_scheduled(ran.cloud, "reconcile_fleet")
    take_snapshots_again(everything)
    for person, workspace in everything:
        person.request("POST", f"/workspaces/{workspace['id']}/start")
    wait_until(
        lambda: all(each["status"] == "READY" and not each["operation"] for each in listed(people)),
        "all are READY",
    )
    check_homes_of_forks(ran.cloud, everything)
    check_homes_of_restores(ran)
    check_sizes_of_homes(ran, everything)
    check_homes_of_archives(ran)
    check_homes_of_moves(ran)
    for person, workspace in everything:
        person.delete(workspace["id"], purge=True)
    wait_until(lambda: listed(people) == [], "all are gone")
    for kind in ("instances", "disks"):
        assert in_compute(ran.cloud, kind, "") == []
    wait_until(lambda: snapshots_in_compute(ran.cloud) == [], "all snapshots are gone")


def take_back(ran: Ran, people: list[ApiClient]) -> None:
    """Take back what the cases have deleted: all that was READY, so it has a last copy."""
    gone = {ran.played.ids[case] for case, end in ran.played.ends.items() if end.status == "GONE"}
    deleted = [(person, entry["id"]) for person in people for entry in person.deleted()]
    assert gone == {workspace_id for _, workspace_id in deleted} != set()
    for person, workspace_id in deleted:
        assert person.undelete(workspace_id)["status"] == "SUSPENDED"


def take_snapshots_again(everything: list[tuple[ApiClient, dict[str, Any]]]) -> None:
    """Delete what is left of the snapshots of the cases, and take another one of each workspace."""
    chosen = [
        (person, workspace["id"])
        for person, workspace in everything
        if workspace["name"].partition(f"-{SNAPSHOT.lower()}-")[1]
    ]
    assert chosen
    for person, workspace_id in chosen:
        for snapshot in person.snapshots(workspace_id):
            person.delete_snapshot(workspace_id, snapshot["id"])
        person.take_snapshot(workspace_id, name="again")
    wait_until(
        lambda: all(
            [(each["name"], each["state"]) for each in person.snapshots(workspace_id)]
            == [("again", "READY")]
            for person, workspace_id in chosen
        ),
        "only the other snapshots are there",
    )


def check_homes_of_forks(
    cloud: RunningCloud, everything: list[tuple[ApiClient, dict[str, Any]]]
) -> None:
    """See that the home of each fork is made from the snapshot of its owner's other workspace."""
    homes = {disk["name"]: disk for disk in in_compute(cloud, "disks", "home-")}
    sources = {person: each["id"] for person, each in everything if each["name"] == SOURCE}
    forks = [
        (person, workspace)
        for person, workspace in everything
        if workspace["name"].partition(f"-{FORK.lower()}-")[1]
    ]
    assert forks
    for person, fork in forks:
        made_from = homes[f"home-{fork['id']}"]["sourceSnapshot"]
        assert f"/home-snapshot-{sources[person]}-" in made_from, fork["name"]


def check_homes_of_restores(ran: Ran) -> None:
    """See that a home that was restored is made from its snapshot, and that no other one is left.

    The hourly sweep deletes the old one, or the one that was made in vain.
    """
    played = ran.played
    assert played.restored
    call_scheduled(ran.cloud, "reconcile_fleet")
    for case, snapshot_id in played.restored.items():
        homes = partial(in_compute, ran.cloud, "disks", f"home-{played.ids[case]}")
        wait_until(partial(has_one, homes), f"{case.name} has one home")
        [home] = homes()
        restored = str(played.ends[case]).startswith("READY, ")
        made_from = home.get("sourceSnapshot", "")
        assert made_from.endswith(snapshot_id[-12:]) if restored else not made_from, case.name


def check_sizes_of_homes(ran: Ran, everything: list[tuple[ApiClient, dict[str, Any]]]) -> None:
    """See that each home has the size that its workspace says: a larger one if it was to grow.

    It was not made larger if Compute refused that, or did not answer.
    """
    played = ran.played
    grown = {
        played.ids[case]
        for case, end in played.ends.items()
        if case.verb == GROW and case.fault != "disk_quota_exceeded" and end.code != UNAVAILABLE
    }
    assert grown
    sizes = {each["name"]: each["sizeGb"] for each in in_compute(ran.cloud, "disks", "home-")}
    for person, workspace in everything:
        now = person.status(workspace["id"])
        home_gb = LARGER_GB if now["id"] in grown else HOME_GB
        found = {int(sizes[name]) for name in sizes if name.startswith(f"home-{now['id']}")}
        assert (now["home_disk_gb"], found) == (home_gb, {home_gb}), workspace["name"]


def check_homes_of_archives(ran: Ran) -> None:
    """See that a home that was archived is made from its snapshot, and any other is the old one."""
    for case, end in ran.played.ends.items():
        if case.verb == ARCHIVE:
            its_id = ran.played.ids[case]
            [home] = in_compute(ran.cloud, "disks", f"home-{its_id}")
            made_from = home.get("sourceSnapshot", "")
            archived = str(end) == USUAL[ARCHIVE]
            assert f"/home-snapshot-{its_id}-" in made_from if archived else not made_from, (
                case.name
            )


def check_homes_of_moves(ran: Ran) -> None:
    """See that a home that was moved is made from its snapshot, and any other is the old one.

    The hourly sweep deletes the one of before with its machine, or the one that was made in vain.
    """
    for case, end in ran.played.ends.items():
        if case.verb == MOVE:
            its_id = ran.played.ids[case]
            wait_until(partial(is_swept, ran.cloud, its_id), f"{case.name} has one home")
            [home] = in_compute(ran.cloud, "disks", f"home-{its_id}")
            moved = end.status == "READY" and not end.code
            zone = OTHER_ZONE if moved else ZONE
            assert home["zone"].endswith(f"/{zone}"), case.name
            made_from = home.get("sourceSnapshot", "")
            assert f"/home-snapshot-{its_id}-" in made_from if moved else not made_from, case.name


def is_swept(cloud: RunningCloud, workspace_id: str) -> bool:
    """Run the hourly sweep; say whether a workspace has one machine and one home."""
    call_scheduled(cloud, "reconcile_fleet")
    machines = in_compute(cloud, "instances", f"workspace-{workspace_id}")
    return len(machines) == len(in_compute(cloud, "disks", f"home-{workspace_id}")) == 1


def has_one(found: Callable[[], list[dict[str, Any]]]) -> bool:
    """Say whether there is one."""
    return len(found()) == 1


def listed(people: list[ApiClient]) -> list[dict[str, Any]]:
    """Return the workspaces of all people."""
    return [workspace for person in people for workspace in person.workspaces()]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 600) -> None:
    """Wait until a condition holds; ``what`` says what was waited for if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.5)
