"""Workspaces that are archived, by HTTP: what is begun, what is refused, and what is said."""

from __future__ import annotations

from datetime import timedelta

import pytest
from werkzeug.test import TestResponse

from shared.domain.snapshots import SnapshotState
from shared.domain.workspace import OperationKind, Status, Workspace
from tests.fakes.records import a_workspace, an_operation
from tests.fakes.store import Counts
from tests.fakes.world import place_of
from tests.functions.conftest import Functions

DRY = "dry_run=true"


def refused(answer: TestResponse) -> tuple[int, str]:
    """Return the status and the code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


def archived(hub: Functions, token: str = "alice") -> Workspace:
    """Return a workspace of Alice's that somebody has archived."""
    workspace = hub.world.ready()
    assert hub.archive(workspace.id, token=token).status_code == 202
    hub.world.run()
    return hub.world.workspace(workspace.id)


@pytest.mark.parametrize("token", ["alice", "grace"])
def test_an_archive_is_an_operation_that_its_owner_or_an_administrator_begins(
    hub: Functions, token: str
) -> None:
    """It costs two reads, a commit and a job. The same request again is the same operation."""
    workspace = hub.world.ready()
    hub.world.operations.sent.clear()
    hub.world.store.counts = counts = Counts()

    answer = hub.archive(workspace.id, token=token, headers={"X-Request-Id": "request-7"})
    costs = (counts.reads, counts.queries, counts.commits)
    [job] = hub.world.operations.sent
    again = hub.archive(workspace.id, token=token)

    body = answer.get_json()
    assert (answer.status_code, body["status"], body["archived_at"]) == (202, "READY", None)
    assert costs == (2, 0, 1)
    assert body["operation"] == body["operation"] | {
        "kind": "ARCHIVE",
        "requested_by": token,
        "automatic": False,
        "snapshot_name": None,
        "snapshot_id": None,
    }
    assert (job.operation_id, job.request_id) == (body["operation"]["id"], "request-7")
    assert (again.status_code, again.get_json()["operation"]) == (202, body["operation"])
    asked = [
        each
        for each in hub.events(workspace.id).get_json()
        if each["what"] == "ArchiveRequested" and each["request_id"] == "request-7"
    ]
    assert [(each["who"], each["result"], each["as_admin"]) for each in asked] == [
        (token, "ACCEPTED", token == "grace")
    ]


def test_at_its_end_the_workspace_is_suspended_and_its_home_is_a_snapshot(hub: Functions) -> None:
    """The list and the record say since when. Asking again is 200 and does nothing."""
    workspace = archived(hub)
    stored, sent = hub.world.workspace(workspace.id), list(hub.world.operations.sent)

    again = hub.archive(workspace.id)

    body = again.get_json()
    assert (again.status_code, body["status"], body["operation"]) == (200, "SUSPENDED", None)
    assert (body["memory_kept"], body["archives_at"]) == (False, None)
    assert body["archived_at"] == hub.list_workspaces().get_json()[0]["archived_at"] is not None
    assert (hub.world.workspace(workspace.id), hub.world.operations.sent) == (stored, sent)
    [snapshot] = hub.snapshots(workspace.id).get_json()["snapshots"]
    assert (snapshot["state"], snapshot["automatic"]) == ("READY", True)
    [end] = [
        each for each in hub.events(workspace.id).get_json() if each["operation_kind"] == "ARCHIVE"
    ]
    assert end["result"] == "SUSPENDED"


def test_the_snapshot_that_an_archive_has_taken_cannot_be_deleted(hub: Functions) -> None:
    """From when it is known on: the disk may be gone at any moment."""
    workspace = hub.world.ready()
    hub.archive(workspace.id)
    hub.world.run(lambda: hub.world.workspace(workspace.id).operation.last_copy is not None)  # type: ignore[union-attr]
    [snapshot] = hub.snapshots(workspace.id).get_json()["snapshots"]

    answer = hub.delete_snapshot(workspace.id, snapshot["id"])

    assert refused(answer) == (409, "SNAPSHOT_IN_USE")
    assert "archived" in answer.get_json()["detail"]


def test_a_workspace_without_a_machine_is_archived_too(hub: Functions) -> None:
    """Somebody has deleted the machine by hand: the home is what is kept."""
    workspace = hub.world.ready()
    hub.world.machines.delete_by_hand(place_of(workspace))

    hub.archive(workspace.id)
    hub.world.run()

    after = hub.get(workspace.id).get_json()
    assert (after["status"], after["error"]) == ("SUSPENDED", None)
    assert after["archived_at"] is not None
    assert hub.world.machines.disks == set()
    [gone] = [each for each in hub.events(workspace.id).get_json() if each["what"] == "HomeDeleted"]
    assert gone["result"] == "Its home is a snapshot now, so the disk was deleted."


def test_a_start_takes_a_workspace_out_of_its_archive(hub: Functions) -> None:
    """It has a disk again, so it can be archived again."""
    workspace = archived(hub)

    assert hub.start(workspace.id).status_code == 202
    hub.world.run()

    after = hub.get(workspace.id).get_json()
    assert (after["status"], after["archived_at"], after["error"]) == ("READY", None, None)
    assert hub.archive(workspace.id).status_code == 202


def test_a_workspace_that_was_taken_back_counts_as_archived(hub: Functions) -> None:
    """All there is of it is its last copy, so there is nothing to do."""
    workspace = hub.world.ready()
    hub.delete(workspace.id)
    hub.world.run()
    back = hub.undelete(workspace.id).get_json()

    answer = hub.archive(workspace.id)

    assert back["archived_at"] == back["suspended_at"] is not None
    assert (answer.status_code, answer.get_json()) == (200, back)


@pytest.mark.parametrize("dry", ["", DRY])
def test_a_workspace_without_a_home_cannot_be_archived(hub: Functions, dry: str) -> None:
    """Its CREATE has failed before its machine was READY."""
    workspace = a_workspace(Status.ERROR, home_disk=None)
    hub.world.store.put(workspace)

    assert refused(hub.archive(workspace.id, query_string=dry)) == (409, "NO_HOME")


@pytest.mark.parametrize("dry", ["", DRY])
@pytest.mark.parametrize("kind", sorted(set(OperationKind) - {OperationKind.ARCHIVE}))
def test_another_operation_is_waited_for(hub: Functions, kind: OperationKind, dry: str) -> None:
    """As for every verb but a DELETE."""
    workspace = a_workspace(Status.READY, an_operation(kind))
    hub.world.store.put(workspace)

    answer = hub.archive(workspace.id, query_string=dry)

    assert refused(answer) == (409, "OPERATION_UNDER_WAY")
    assert answer.get_json()["operation"]["kind"] == kind


def test_other_verbs_wait_for_an_archive(hub: Functions) -> None:
    """A START does while that shuts the machine down; a DELETE never does."""
    workspace = hub.world.ready()
    its_id = hub.archive(workspace.id).get_json()["operation"]["id"]

    refusals = [
        *(verb(workspace.id) for verb in (hub.stop, hub.start, hub.snapshot)),
        hub.connect(workspace.id, {"start": True}),
    ]

    assert {refused(answer) for answer in refusals} == {(409, "OPERATION_UNDER_WAY")}
    assert {answer.get_json()["operation"]["id"] for answer in refusals} == {its_id}
    assert hub.delete(workspace.id).status_code == 202


@pytest.mark.parametrize("dry", ["", DRY])
def test_another_person_s_workspace_is_not_archived(hub: Functions, dry: str) -> None:
    """It is answered like one that never was; that they asked is in the trail."""
    workspace = hub.world.ready()

    answer = hub.archive(workspace.id, token="bob", query_string=dry)

    assert refused(answer) == (404, "WORKSPACE_NOT_FOUND")
    assert hub.world.workspace(workspace.id) == workspace
    [event, *_] = hub.events(workspace.id).get_json()
    what = "DryRunRequested" if dry else "ArchiveRequested"
    assert (event["who"], event["what"], event["result"]) == ("bob", what, "REFUSED")


def test_archives_count_among_their_owners_changes(hub: Functions) -> None:
    """One that is under way, or is over, does not."""
    hub.configure(HUB_CHANGES_PER_MINUTE="1")
    one, two = a_workspace(), a_workspace(name="two")
    hub.world.store.put(one, two)

    answers = [hub.archive(one.id), hub.archive(one.id), hub.archive(two.id)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_what_needs_a_disk_is_refused_for_an_archived_workspace(hub: Functions) -> None:
    """A snapshot, a restore, and whatever keeps a machine awake. A fork needs only the snapshot."""
    workspace = archived(hub)
    [snapshot] = hub.snapshots(workspace.id).get_json()["snapshots"]
    until = (hub.world.clock() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    refusals = {
        "snapshot": hub.snapshot(workspace.id),
        "restore": hub.restore(workspace.id, snapshot["id"]),
        "awake": hub.keep_awake(workspace.id, until),
        "snapshot's deletion": hub.delete_snapshot(workspace.id, snapshot["id"]),
    }

    assert {what: refused(answer) for what, answer in refusals.items()} == {
        "snapshot": (409, "NO_HOME"),
        "restore": (409, "NO_HOME"),
        "awake": (409, "NOT_AWAKE"),
        "snapshot's deletion": (409, "SNAPSHOT_IN_USE"),
    }
    assert hub.stop(workspace.id).status_code == 200
    assert hub.fork(snapshot["id"]).status_code == 201
    assert hub.world.store.snapshots[snapshot["id"]].state is SnapshotState.READY


@pytest.mark.parametrize("status", [Status.READY, Status.SUSPENDED, Status.ERROR])
def test_a_dry_run_says_what_is_lost_and_does_nothing(hub: Functions, status: Status) -> None:
    """Memory, and what was changed outside the home; never the home. It frees a running machine."""
    workspace = a_workspace(status, instance_id=None if status is Status.ERROR else "4711")
    hub.world.store.put(workspace)
    stored, sent = hub.world.workspace(workspace.id), list(hub.world.operations.sent)

    dry = hub.archive(workspace.id, query_string=DRY).get_json()

    assert (hub.world.workspace(workspace.id), hub.world.operations.sent) == (stored, sent)
    assert (dry["decision"], dry["kind"], dry["cost"]["runs"]) == ("begin", "ARCHIVE", False)
    assert dry["steps"][-6:] == [
        *("snapshot", "await_snapshot", "await_stored"),
        *("delete_disk", "await_disk_absent", "delete_disk"),
    ]
    assert dry["workspace"]["operation"]["id"] is None
    lost = [each["what"] for each in dry["loses"]]
    assert lost == ([] if status is Status.ERROR else ["memory", "boot_disk"])


def test_a_dry_run_of_what_is_archived_says_that_nothing_happens(hub: Functions) -> None:
    """A client then need not ask its person."""
    workspace = archived(hub)

    dry = hub.archive(workspace.id, query_string=DRY).get_json()

    assert (dry["decision"], dry["kind"], dry["loses"]) == ("nothing", None, [])


def test_it_is_said_when_a_suspended_workspace_will_be_archived(hub: Functions) -> None:
    """As long as the setting is off, never. The outlook has it too."""
    asleep = hub.world.ready()
    hub.stop(asleep.id)
    hub.world.run()
    off = hub.get(asleep.id).get_json()
    hub.configure(HUB_ARCHIVE_SECONDS=str(14 * 86400))

    on = hub.get(asleep.id).get_json()

    suspended_at = hub.world.workspace(asleep.id).suspended_at
    assert suspended_at is not None
    expected = (suspended_at + timedelta(days=14)).isoformat()
    assert off["archives_at"] is None
    assert on["archives_at"].replace("Z", "+00:00")[:19] == expected[:19]
    assert [each["at"] for each in on["outlook"] if each["kind"] == "archive"] == [
        on["archives_at"]
    ]
