"""Snapshots and workspaces that are made from them, by HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared.domain.snapshots import SnapshotState
from shared.domain.workspace import Status, Workspace
from tests.fakes.records import a_snapshot, a_workspace
from tests.fakes.store import Counts
from tests.functions.conftest import Functions

SNAPSHOT_FIELDS = {
    *("id", "workspace_id", "name", "state", "automatic", "consistency"),
    *("asked_at", "captured_at", "ready_at", "disk_gb", "stored_bytes"),
    *("zone", "machine_type", "image_tag", "metadata", "error"),
}
PAUSE = timedelta(minutes=10)


def taken(hub: Functions, workspace: Workspace, name: str | None = None) -> dict[str, Any]:
    """Return a new snapshot that has become READY, as it is listed."""
    answer = hub.snapshot(workspace.id, {"name": name})
    assert answer.status_code == 202, answer.data
    hub.world.run()
    [snapshot] = [
        each
        for each in hub.snapshots(workspace.id).get_json()["snapshots"]
        if each["id"] == answer.get_json()["operation"]["id"]
    ]
    return dict(snapshot)


def refused(answer: TestResponse) -> tuple[int, str]:
    """Return the status and the code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


# ---- take, list, delete ----


def test_a_snapshot_is_an_operation_and_then_in_the_list(hub: Functions) -> None:
    """The operation's id is the snapshot's; workspace and machine stay as they are."""
    workspace = hub.world.ready()

    answer = hub.snapshot(workspace.id, {"name": "before"}, headers={"X-Request-Id": "request-7"})
    under_way = hub.snapshots(workspace.id).get_json()
    hub.world.run()

    body = answer.get_json()
    assert answer.status_code == 202
    assert (body["status"], body["operation"]["kind"]) == ("READY", "SNAPSHOT")
    assert body["operation"]["snapshot_name"] == "before"
    assert under_way["snapshots"] == []
    after = hub.world.workspace(workspace.id)
    assert (after.status, after.operation, after.error) == (Status.READY, None, None)
    assert (after.generation, after.instance_id) == (workspace.generation, workspace.instance_id)
    listed = hub.snapshots(workspace.id).get_json()
    [snapshot] = listed["snapshots"]
    assert set(snapshot) == SNAPSHOT_FIELDS
    assert snapshot == snapshot | {
        "id": body["operation"]["id"],
        "workspace_id": workspace.id,
        "name": "before",
        "state": "READY",
        "automatic": False,
        "consistency": "crash",
        "zone": workspace.zone,
        "machine_type": workspace.machine_type,
        "image_tag": workspace.image_tag,
        "metadata": {"repo": workspace.metadata.repo, "branch": workspace.metadata.branch},
        "error": None,
    }
    assert snapshot["asked_at"] <= snapshot["captured_at"] <= snapshot["ready_at"]
    assert (listed["most"], listed["next_at"] > snapshot["asked_at"]) == (5, True)


def test_a_workspace_without_snapshots_has_an_empty_list(hub: Functions) -> None:
    """It costs a read and a query, and says that one may be taken at any time."""
    workspace = hub.world.ready()
    hub.world.store.counts = counts = Counts()

    answer = hub.snapshots(workspace.id)

    assert answer.get_json() == {"snapshots": [], "most": 5, "next_at": None}
    assert (counts.reads, counts.queries, counts.commits) == (1, 1, 0)


def test_the_list_has_every_state_the_newest_first(hub: Functions) -> None:
    """FAILED and DELETING ones too."""
    workspace = a_workspace()
    now = hub.world.clock()
    snapshots = [
        a_snapshot(workspace, state=state, asked_at=now - timedelta(hours=number))
        for number, state in enumerate(SnapshotState)
    ]
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(*reversed(snapshots))

    listed = hub.snapshots(workspace.id).get_json()["snapshots"]

    assert [each["id"] for each in listed] == [each.id for each in snapshots]


def test_the_same_snapshot_again_is_the_same_operation(hub: Functions) -> None:
    """As for every verb; with another name it is another one, and refused."""
    workspace = hub.world.ready()
    first = hub.snapshot(workspace.id, {"name": "one"})

    again = hub.snapshot(workspace.id, {"name": "one"})
    other = hub.snapshot(workspace.id, {"name": "two"})
    stop = hub.stop(workspace.id)

    assert (again.status_code, again.get_json()["operation"]["id"]) == (
        202,
        first.get_json()["operation"]["id"],
    )
    assert refused(other) == refused(stop) == (409, "OPERATION_UNDER_WAY")
    assert stop.get_json()["operation"]["kind"] == "SNAPSHOT"


def test_a_second_snapshot_within_ten_minutes_is_429_with_the_time(hub: Functions) -> None:
    """``Retry-After`` and ``next_at`` of the list agree, and it is allowed then."""
    workspace = hub.world.ready()
    taken(hub, workspace)

    early = hub.snapshot(workspace.id)
    hub.world.clock.advance(timedelta(seconds=int(early.headers["Retry-After"])))
    due = hub.snapshots(workspace.id).get_json()["next_at"]
    later = hub.snapshot(workspace.id)

    assert refused(early) == (429, "TOO_MANY_REQUESTS")
    assert 0 < int(early.headers["Retry-After"]) <= PAUSE.total_seconds()
    assert due <= hub.world.clock().isoformat().replace("+00:00", "Z")
    assert later.status_code == 202


def test_a_workspace_without_a_home_has_nothing_to_take(hub: Functions) -> None:
    """Its CREATE has failed before its machine was READY."""
    workspace = a_workspace(Status.ERROR, home_disk=None)
    hub.world.store.put(workspace)

    assert refused(hub.snapshot(workspace.id)) == (409, "NO_HOME")


def test_the_name_of_a_snapshot_is_unique_in_its_workspace(hub: Functions) -> None:
    """Another workspace's snapshot may have the same."""
    workspace, other = a_workspace(), a_workspace(name="two")
    hub.world.store.put(workspace, other)
    hub.world.store.put_snapshots(a_snapshot(workspace, name="one"))

    assert refused(hub.snapshot(workspace.id, {"name": "one"})) == (409, "NAME_TAKEN")
    assert hub.snapshot(other.id, {"name": "one"}).status_code == 202


@pytest.mark.parametrize("automatic", [False, True])
def test_at_the_limit_only_an_automatic_one_makes_room(hub: Functions, automatic: bool) -> None:
    """Those that are about to be gone count, too. It stays until the new one is taken."""
    hub.configure(HUB_SNAPSHOTS_PER_WORKSPACE="3")
    workspace = a_workspace()
    old, new = (
        a_snapshot(workspace, asked_at=hub.world.clock() - timedelta(days=days)) for days in (2, 1)
    )
    old = replace(old, automatic=automatic)
    going = a_snapshot(workspace, state=SnapshotState.DELETING)
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(old, new, going)

    answer = hub.snapshot(workspace.id)

    states = {each.id: each.state for each in hub.world.store.snapshots.values()}
    if automatic:
        assert answer.status_code == 202
    else:
        assert refused(answer) == (403, "QUOTA_EXCEEDED")
    assert states[old.id] is states[new.id] is SnapshotState.READY


def test_a_deleted_snapshot_is_gone_after_a_while(hub: Functions) -> None:
    """Until then it is DELETING, and asking again is the same; afterwards it is 404."""
    workspace = hub.world.ready()
    snapshot = taken(hub, workspace)

    first = hub.delete_snapshot(workspace.id, snapshot["id"])
    again = hub.delete_snapshot(workspace.id, snapshot["id"])
    hub.world.run()

    assert (first.status_code, first.get_json()) == (202, snapshot | {"state": "DELETING"})
    assert (again.status_code, again.get_json()) == (202, first.get_json())
    assert hub.snapshots(workspace.id).get_json()["snapshots"] == []
    assert hub.world.machines.snapshots == {}
    assert refused(hub.delete_snapshot(workspace.id, snapshot["id"])) == (404, "SNAPSHOT_NOT_FOUND")


@pytest.mark.parametrize("snapshot_id", ["1", "null", "%00", "x" * 3000, "a%20b", "ü", "__x__"])
def test_a_malformed_snapshot_id_is_404(hub: Functions, snapshot_id: str) -> None:
    """This holds for every text in the path's place of an id."""
    workspace = hub.world.ready()

    assert hub.delete_snapshot(workspace.id, snapshot_id).status_code == 404


def test_snapshots_count_among_their_owners_changes(hub: Functions) -> None:
    """Taking and deleting one do; a request that is refused or changes nothing does not."""
    hub.configure(HUB_CHANGES_PER_MINUTE="2")
    one, two = a_workspace(), a_workspace(name="two")
    snapshot = a_snapshot(two)
    hub.world.store.put(one, two)
    hub.world.store.put_snapshots(snapshot)

    answers = [
        hub.snapshot(one.id),
        hub.snapshot(one.id),
        hub.delete_snapshot(two.id, snapshot.id),
        hub.delete_snapshot(two.id, snapshot.id),
        hub.snapshot(two.id),
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 202, 429]


# ---- administrators ----


def test_an_administrator_takes_lists_and_deletes_anybodys_snapshots(hub: Functions) -> None:
    """Each is in the workspace's trail, as an administrator's."""
    workspace = hub.world.ready()
    answers = [hub.snapshot(workspace.id, token="grace")]
    hub.world.run()
    answers.append(hub.snapshots(workspace.id, token="grace"))
    [snapshot] = answers[-1].get_json()["snapshots"]
    answers.append(hub.delete_snapshot(workspace.id, snapshot["id"], token="grace"))

    assert [answer.status_code for answer in answers] == [202, 200, 202]
    done = [event for event in hub.events(workspace.id).get_json() if event["who"] == "grace"]
    assert len(done) == 3
    assert {"SnapshotRequested", "SnapshotDeleteRequested"} <= {event["what"] for event in done}
    assert {event["as_admin"] for event in done} == {True}


def test_nobody_but_the_owner_makes_a_workspace_from_a_snapshot(hub: Functions) -> None:
    """What is in a home is its owner's, whoever took the snapshot."""
    workspace = hub.world.ready()
    hub.snapshot(workspace.id, token="grace")
    hub.world.run()
    [snapshot] = hub.snapshots(workspace.id).get_json()["snapshots"]

    answers = {token: hub.fork(snapshot["id"], token=token) for token in ("grace", "bob", "alice")}

    assert {token: answer.status_code for token, answer in answers.items()} == {
        "grace": 404,
        "bob": 404,
        "alice": 201,
    }
    assert refused(answers["grace"]) == (404, "SNAPSHOT_NOT_FOUND")


# ---- a workspace from a snapshot ----


def test_a_workspace_from_a_snapshot_is_as_that_was_unless_the_body_says_otherwise(
    hub: Functions,
) -> None:
    """Machine type, image, repository and branch; the device is that of who asks."""
    made = hub.create(
        {
            "name": "one",
            "machine_type": "e2-standard-8",
            "image_tag": "v2",
            "metadata": {"repo": "org/r", "branch": "main", "device_id": "laptop"},
        }
    ).get_json()
    hub.world.run()
    snapshot = taken(hub, hub.world.workspace(made["id"]))

    fork = hub.fork(snapshot["id"]).get_json()
    own = hub.create(
        {
            "name": "own",
            "from": {"snapshotId": snapshot["id"]},
            "machine_type": "e2-standard-2",
            "metadata": {"branch": "other", "device_id": "phone"},
        }
    ).get_json()

    assert (fork["machine_type"], fork["image_tag"]) == ("e2-standard-8", "v2")
    assert fork["metadata"] == {"repo": "org/r", "branch": "main", "device_id": None}
    assert (own["machine_type"], own["image_tag"]) == ("e2-standard-2", "v2")
    assert own["metadata"] == {"repo": "org/r", "branch": "other", "device_id": "phone"}
    hub.world.run()
    for each in (fork, own):
        assert hub.world.workspace(each["id"]).status is Status.READY


@pytest.mark.parametrize("dry", ["", "dry_run=true"])
@pytest.mark.parametrize("state", SnapshotState)
def test_only_a_ready_snapshot_is_a_source(hub: Functions, state: SnapshotState, dry: str) -> None:
    """A dry run is refused alike. One that is about to be gone counts as gone."""
    workspace = a_workspace()
    snapshot = a_snapshot(workspace, state=state)
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(snapshot)

    answer = hub.fork(snapshot.id, query_string=dry)

    if state is SnapshotState.READY:
        assert answer.status_code == (200 if dry else 201)
    elif state is SnapshotState.DELETING:
        assert refused(answer) == (404, "SNAPSHOT_NOT_FOUND")
    else:
        assert refused(answer) == (409, "SNAPSHOT_NOT_READY")


def test_a_dry_run_with_a_source_does_nothing_and_says_the_same(hub: Functions) -> None:
    """Its workspace is that of the request, which a snapshot has filled in."""
    workspace = a_workspace(machine_type="e2-standard-8", image_tag="v2")
    snapshot = a_snapshot(workspace)
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(snapshot)

    dry = hub.fork(snapshot.id, query_string="dry_run=true").get_json()

    assert len(hub.world.store.workspaces) == 1
    assert not hub.world.provisioning.sent
    made = hub.fork(snapshot.id).get_json()
    assert (dry["kind"], dry["loses"]) == ("CREATE", [])
    told = dry["workspace"]
    for name in ("machine_type", "image_tag", "zone", "metadata", "status"):
        assert told[name] == made[name], name


def test_a_key_covers_the_source(hub: Functions) -> None:
    """The same key with another snapshot, or with none, is another request."""
    workspace = a_workspace()
    snapshots = [a_snapshot(workspace) for _ in range(2)]
    hub.world.store.put(workspace)
    hub.world.store.put_snapshots(*snapshots)
    key: dict[str, Any] = {"headers": {"Idempotency-Key": "a-key"}}

    first = hub.fork(snapshots[0].id, **key)
    again = hub.fork(snapshots[0].id, **key)
    other = hub.fork(snapshots[1].id, **key)
    empty = hub.create({"name": "fork"}, **key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.get_json()["id"] == again.get_json()["id"]
    assert refused(other) == refused(empty) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_snapshot_that_a_workspace_needs_is_not_deleted(hub: Functions) -> None:
    """It is, once that workspace has its home."""
    workspace = hub.world.ready()
    snapshot = taken(hub, workspace)
    hub.fork(snapshot["id"])

    early = hub.delete_snapshot(workspace.id, snapshot["id"])
    hub.world.run()
    later = hub.delete_snapshot(workspace.id, snapshot["id"])

    assert refused(early) == (409, "SNAPSHOT_IN_USE")
    assert later.status_code == 202


def test_a_dry_run_of_a_deletion_for_good_says_that_the_snapshots_go(hub: Functions) -> None:
    """They are lost with the workspace; without any, nothing is said of them."""
    workspace = hub.world.ready()
    before = hub.delete(workspace.id, query_string="dry_run=true&purge=true").get_json()["loses"]
    taken(hub, workspace)

    after = hub.delete(workspace.id, query_string="dry_run=true&purge=true").get_json()["loses"]
    kept = hub.delete(workspace.id, query_string="dry_run=true").get_json()["loses"]

    assert "snapshots" not in [each["what"] for each in before]
    assert [each["what"] for each in after][:2] == ["home", "snapshots"]
    assert "snapshots" not in [each["what"] for each in kept]
