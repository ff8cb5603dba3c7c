"""Homes that are put back to what one of their snapshots holds, by HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared.domain.snapshots import Snapshot, SnapshotState
from shared.domain.workspace import NO_NAME, OperationKind, OwnedWorkspace, Owner, Status, Workspace
from tests.fakes.records import a_snapshot, a_workspace, an_operation
from tests.fakes.store import Counts
from tests.functions.conftest import Functions

DRY = "dry_run=true"


def with_a_snapshot(hub: Functions, **changes: Any) -> tuple[Workspace, Snapshot]:
    """Return a workspace of Alice's that is READY, and a snapshot of its home."""
    workspace = hub.world.ready()
    snapshot = a_snapshot(workspace, **changes)
    hub.world.store.put_snapshots(snapshot)
    return workspace, snapshot


def refused(answer: TestResponse) -> tuple[int, str]:
    """Return the status and the code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


def test_a_restore_is_an_operation_that_names_its_source(hub: Functions) -> None:
    """So does its event. It costs two reads, a query, a commit and a job."""
    workspace, snapshot = with_a_snapshot(hub)
    hub.world.operations.sent.clear()
    hub.world.store.counts = counts = Counts()

    answer = hub.restore(workspace.id, snapshot.id, headers={"X-Request-Id": "request-7"})

    body = answer.get_json()
    assert (answer.status_code, body["id"], body["status"]) == (202, workspace.id, "READY")
    assert (counts.reads, counts.queries, counts.commits) == (2, 1, 1)
    assert body["operation"] == body["operation"] | {
        "kind": "RESTORE",
        "requested_by": "alice",
        "automatic": False,
        "snapshot_name": None,
        "snapshot_id": snapshot.id,
    }
    [job] = hub.world.operations.sent
    assert (job.operation_id, job.request_id) == (body["operation"]["id"], "request-7")
    [event, *_] = hub.events(workspace.id).get_json()
    assert (event["what"], event["who"], event["result"]) == (
        "RestoreRequested",
        "alice",
        "ACCEPTED",
    )
    assert event["snapshot_id"] == snapshot.id


def test_other_operations_name_no_source(hub: Functions) -> None:
    """The member is there, as in the contract; a SNAPSHOT's own id is the operation's."""
    workspace = hub.world.ready()

    assert hub.snapshot(workspace.id).get_json()["operation"]["snapshot_id"] is None


def test_the_same_restore_again_is_the_same_operation(hub: Functions) -> None:
    """Another snapshot, and another verb, are refused meanwhile, with the RESTORE."""
    workspace, snapshot = with_a_snapshot(hub)
    other = a_snapshot(workspace)
    hub.world.store.put_snapshots(other)
    first = hub.restore(workspace.id, snapshot.id).get_json()["operation"]
    before = hub.world.workspace(workspace.id)

    again = hub.restore(workspace.id, snapshot.id)
    refusals = [
        hub.restore(workspace.id, other.id),
        *(hub.snapshot(workspace.id), hub.stop(workspace.id), hub.start(workspace.id)),
    ]

    assert (again.status_code, again.get_json()["operation"]) == (202, first)
    assert hub.world.workspace(workspace.id) == before
    assert {refused(answer) for answer in refusals} == {(409, "OPERATION_UNDER_WAY")}
    assert {answer.get_json()["operation"]["id"] for answer in refusals} == {first["id"]}


def test_at_its_end_the_workspace_is_ready_and_what_was_there_is_a_snapshot(
    hub: Functions,
) -> None:
    """Its trail has the end of the RESTORE; the new snapshot is the Hub's own."""
    workspace = hub.world.ready()
    source_id = hub.snapshot(workspace.id).get_json()["operation"]["id"]
    hub.world.run()

    hub.restore(workspace.id, source_id)
    hub.world.run()

    after = hub.get(workspace.id).get_json()
    assert (after["status"], after["operation"], after["error"]) == ("READY", None, None)
    listed = hub.snapshots(workspace.id).get_json()["snapshots"]
    [new] = [each for each in listed if each["id"] != source_id]
    assert (new["state"], new["automatic"], new["name"]) == ("READY", True, None)
    [end] = [
        each for each in hub.events(workspace.id).get_json() if each["operation_kind"] == "RESTORE"
    ]
    assert (end["result"], end["snapshot_id"]) == ("READY", source_id)


@pytest.mark.parametrize("dry", ["", DRY])
@pytest.mark.parametrize("state", SnapshotState)
def test_only_a_ready_snapshot_is_restored(hub: Functions, state: SnapshotState, dry: str) -> None:
    """A dry run is refused alike. One that is about to be gone counts as gone."""
    workspace, snapshot = with_a_snapshot(hub, state=state)

    answer = hub.restore(workspace.id, snapshot.id, query_string=dry)

    if state is SnapshotState.READY:
        assert answer.status_code == (200 if dry else 202)
    elif state is SnapshotState.DELETING:
        assert refused(answer) == (404, "SNAPSHOT_NOT_FOUND")
    else:
        assert refused(answer) == (409, "SNAPSHOT_NOT_READY")


def test_a_snapshot_that_only_a_newer_version_can_read_is_503(hub: Functions) -> None:
    """It is not said to be missing; any other one of the workspace can be restored."""
    workspace, snapshot = with_a_snapshot(hub)
    newer = a_snapshot(workspace)
    hub.world.store.put_snapshots(newer)
    hub.world.store.unreadable.add(newer.id)

    assert refused(hub.restore(workspace.id, newer.id)) == (503, "UNAVAILABLE")
    assert hub.restore(workspace.id, snapshot.id).status_code == 202


def test_a_workspace_without_a_home_has_nothing_to_replace(hub: Functions) -> None:
    """Its CREATE has failed before its machine was READY."""
    workspace = a_workspace(Status.ERROR, home_disk=None)
    snapshot = a_snapshot(workspace)
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(snapshot)

    assert refused(hub.restore(workspace.id, snapshot.id)) == (409, "NO_HOME")


@pytest.mark.parametrize("automatic", [False, True])
def test_what_is_there_needs_room_that_its_source_never_makes(
    hub: Functions, automatic: bool
) -> None:
    """Another automatic one makes room for it, when it is taken."""
    hub.configure(HUB_SNAPSHOTS_PER_WORKSPACE="2")
    workspace, source = with_a_snapshot(hub, automatic=True)
    hub.world.store.put_snapshots(a_snapshot(workspace, automatic=automatic))

    answer = hub.restore(workspace.id, source.id)

    if automatic:
        assert answer.status_code == 202
    else:
        assert refused(answer) == (403, "QUOTA_EXCEEDED")
        assert "2 of at most 2 snapshots" in answer.get_json()["detail"]


def test_a_restore_needs_a_running_machine_of_the_quota(hub: Functions) -> None:
    """One that runs already counts; one that sleeps is refused at the limit, as its START is."""
    awake, of_awake = with_a_snapshot(hub)
    asleep = a_workspace(Status.SUSPENDED, name="two")
    of_asleep = a_snapshot(asleep)
    hub.world.store.put(asleep)
    hub.world.store.put_snapshots(of_asleep)
    hub.configure(HUB_RUNNING_PER_OWNER="1")

    sleeper = hub.restore(asleep.id, of_asleep.id)

    assert refused(sleeper) == (403, "QUOTA_EXCEEDED")
    assert "running" in sleeper.get_json()["detail"]
    assert hub.restore(awake.id, of_awake.id).status_code == 202


def test_a_workspace_whose_name_was_given_away_is_not_restored_under_it(hub: Functions) -> None:
    """Its DELETE has failed. If nobody has the name, it has it again."""
    workspace = a_workspace(Status.ERROR, name="api")
    snapshot = a_snapshot(workspace)
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(snapshot)
    nameless = {workspace.id: OwnedWorkspace(NO_NAME)}

    hub.world.store.put_owner(Owner("alice", {**nameless, "other": OwnedWorkspace("api")}))
    taken = hub.restore(workspace.id, snapshot.id)
    hub.world.store.put_owner(Owner("alice", nameless))
    free = hub.restore(workspace.id, snapshot.id)

    assert refused(taken) == (409, "NAME_TAKEN")
    assert free.status_code == 202
    assert hub.world.store.owners["alice"].workspaces[workspace.id].name == "api"


def test_restores_count_among_their_owners_changes(hub: Functions) -> None:
    """One that is refused, or is under way, does not."""
    hub.configure(HUB_CHANGES_PER_MINUTE="1")
    one, two = a_workspace(), a_workspace(name="two")
    of_one, of_two = a_snapshot(one), a_snapshot(two)
    hub.world.store.put(one, two)
    hub.world.store.put_snapshots(of_one, of_two)

    answers = [
        hub.restore(one.id, of_two.id),
        hub.restore(one.id, of_one.id),
        hub.restore(one.id, of_one.id),
        hub.restore(two.id, of_two.id),
    ]

    assert [answer.status_code for answer in answers] == [404, 202, 202, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0


@pytest.mark.parametrize("dry", ["", DRY])
@pytest.mark.parametrize("token", ["bob", "grace"])
def test_nobody_but_its_owner_restores_a_home(hub: Functions, token: str, dry: str) -> None:
    """What is in it is never an administrator's. That they asked is in the trail."""
    workspace, snapshot = with_a_snapshot(hub)

    answer = hub.restore(workspace.id, snapshot.id, token=token, query_string=dry)

    assert refused(answer) == (404, "WORKSPACE_NOT_FOUND")
    assert hub.world.workspace(workspace.id) == workspace
    [event, *_] = hub.events(workspace.id).get_json()
    what = "DryRunRequested" if dry else "RestoreRequested"
    assert (event["who"], event["what"], event["result"]) == (token, what, "REFUSED")


def test_a_snapshot_stays_while_a_home_is_restored_from_it(hub: Functions) -> None:
    """Its deletion is refused until then."""
    workspace = hub.world.ready()
    snapshot_id = hub.snapshot(workspace.id).get_json()["operation"]["id"]
    hub.world.run()
    hub.restore(workspace.id, snapshot_id)

    early = hub.delete_snapshot(workspace.id, snapshot_id)
    hub.world.run()
    later = hub.delete_snapshot(workspace.id, snapshot_id)

    assert refused(early) == (409, "SNAPSHOT_IN_USE")
    assert repr(workspace.name) in early.get_json()["detail"]
    assert later.status_code == 202


class Overtaken:
    """A store in which something else is committed just before the first commit."""

    def __init__(self, store: object, first: Callable[[], object]) -> None:
        self._store = store
        self._first: Callable[[], object] | None = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, **writes: Any) -> None:
        """Commit, after the other request was answered."""
        first, self._first = self._first, None
        if first:
            first()
        self._store.commit(**writes)  # type: ignore[attr-defined]


@pytest.mark.parametrize("faster", ["deletion", "restore"])
def test_of_a_restore_and_a_deletion_of_its_source_at_once_one_is_refused(
    hub: Functions, faster: str
) -> None:
    """Each was decided when the other was not committed yet, and is decided again.

    What an administrator deletes does not write the owner's record: only the snapshot's has both.
    """
    workspace, snapshot = with_a_snapshot(hub)
    requests: dict[str, Callable[[], TestResponse]] = {
        "deletion": lambda: hub.delete_snapshot(workspace.id, snapshot.id, token="grace"),
        "restore": lambda: hub.restore(workspace.id, snapshot.id),
    }
    first, second = requests.pop(faster), requests.popitem()[1]
    answers: list[TestResponse] = []
    hub.replace_part("store", Overtaken(hub.world.store, lambda: answers.append(first())))

    late = second()

    assert answers[0].status_code == 202
    assert refused(late) == (
        (404, "SNAPSHOT_NOT_FOUND") if faster == "deletion" else (409, "SNAPSHOT_IN_USE")
    )
    deleting = hub.world.store.snapshots[snapshot.id].state is SnapshotState.DELETING
    restoring = hub.world.workspace(workspace.id).operation is not None
    assert (deleting, restoring) == (faster == "deletion", faster == "restore")


@pytest.mark.parametrize("status", [Status.READY, Status.SUSPENDED, Status.ERROR])
def test_a_dry_run_says_what_is_lost_and_does_nothing(hub: Functions, status: Status) -> None:
    """Memory, and what was changed outside the home. A workspace without a machine has neither."""
    workspace = a_workspace(status, instance_id=None if status is Status.ERROR else "4711")
    snapshot = a_snapshot(workspace)
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(snapshot)
    stored, sent = hub.world.workspace(workspace.id), list(hub.world.operations.sent)

    dry = hub.restore(workspace.id, snapshot.id, query_string=DRY).get_json()

    assert hub.world.workspace(workspace.id) == stored
    assert hub.world.operations.sent == sent
    assert hub.world.store.snapshots == {snapshot.id: snapshot}
    assert (dry["decision"], dry["kind"], dry["cost"]["runs"]) == ("begin", "RESTORE", True)
    assert dry["steps"][-3:] == ["insert", "inserting", "await_ready"]
    operation = dry["workspace"]["operation"]
    assert (operation["id"], operation["snapshot_id"]) == (None, snapshot.id)
    lost = [each["what"] for each in dry["loses"]]
    assert lost == ([] if status is Status.ERROR else ["memory", "boot_disk"])


def test_another_operation_is_waited_for(hub: Functions) -> None:
    """As for every verb but a DELETE."""
    workspace = a_workspace(Status.READY, an_operation(OperationKind.STOP))
    snapshot = a_snapshot(workspace)
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(snapshot)

    answer = hub.restore(workspace.id, snapshot.id)

    assert refused(answer) == (409, "OPERATION_UNDER_WAY")
    assert answer.get_json()["operation"]["kind"] == "STOP"
