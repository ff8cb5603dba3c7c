"""Deleted workspaces that can be taken back, and deletions for good, by HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared.domain.workspace import Status, Workspace
from tests.functions.conftest import Functions

WEEK = timedelta(days=7)
FIELDS = {
    *("id", "name", "owner_id", "owner_email", "deleted_at", "deleted_by", "automatic", "until"),
    *("machine_type", "image_tag", "metadata", "snapshots", "disk_gb"),
}
PURGE = {"query_string": "purge=true"}


def deleted(hub: Functions, name: str = "one", owner: str = "alice") -> Workspace:
    """Return a workspace that was READY, and whose DELETE has ended."""
    workspace = hub.world.ready(owner, name)
    assert hub.delete(workspace.id, token=owner).status_code == 202
    hub.world.run()
    return workspace


def listed(hub: Functions, query: str = "", **options: Any) -> list[dict[str, Any]]:
    """Return the entries that a person is answered."""
    answer = hub.deleted(query, **options)
    assert answer.status_code == 200, answer.data
    body = answer.get_json()
    assert set(body) == {"deleted_workspaces"}
    return list(body["deleted_workspaces"])


def refused(answer: TestResponse) -> tuple[int, str]:
    """Return the status and the code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


def test_a_deleted_workspace_is_listed_until_it_is_taken_back(hub: Functions) -> None:
    """The answer to the DELETE says until when, and the entry says the same."""
    workspace = hub.world.ready()
    hub.snapshot(workspace.id)
    hub.world.run()
    asked = hub.delete(workspace.id).get_json()
    meanwhile = listed(hub)
    hub.world.run()

    [entry] = listed(hub)

    assert meanwhile == []
    assert set(entry) == FIELDS
    assert entry == entry | {
        "id": workspace.id,
        "name": "one",
        "owner_id": "alice",
        "owner_email": workspace.owner_email,
        "deleted_by": "alice",
        "automatic": False,
        "until": asked["undelete_until"],
        "machine_type": workspace.machine_type,
        "image_tag": workspace.image_tag,
        "metadata": {"repo": workspace.metadata.repo, "branch": workspace.metadata.branch},
        "snapshots": 2,
    }
    assert entry["disk_gb"] > 0
    assert asked["operation"]["requested_at"] < entry["deleted_at"] < entry["until"]
    assert hub.get(workspace.id).status_code == 404
    assert hub.undelete(workspace.id).status_code == 200
    assert listed(hub) == []


def test_the_last_deleted_comes_first(hub: Functions) -> None:
    """Whenever they were made."""
    names = ["two", "one", "three"]
    for name in names:
        deleted(hub, name)

    assert [entry["name"] for entry in listed(hub)] == names[::-1]


def test_an_undeleted_workspace_sleeps_with_its_snapshots_and_can_be_started(
    hub: Functions,
) -> None:
    """Its id and name are as before; asking again changes nothing."""
    workspace = deleted(hub)

    answer = hub.undelete(workspace.id)
    again = hub.undelete(workspace.id)

    body = answer.get_json()
    assert answer.status_code == 200
    assert (body["id"], body["name"], body["status"]) == (workspace.id, "one", "SUSPENDED")
    assert (body["operation"], body["error"], body["undelete_until"]) == (None, None, None)
    assert (body["memory_kept"], body["stops_at"]) == (False, None)
    assert (again.status_code, again.get_json()) == (200, body)
    assert hub.get(workspace.id).get_json() == body
    [copy] = hub.snapshots(workspace.id).get_json()["snapshots"]
    assert (copy["state"], copy["automatic"]) == ("READY", True)
    assert hub.start(workspace.id).status_code == 202
    hub.world.run()
    assert hub.world.workspace(workspace.id).status is Status.READY


def test_a_name_that_was_given_away_needs_another(hub: Functions) -> None:
    """The refusal says how; the name is free as soon as the workspace is deleted."""
    workspace = deleted(hub)
    hub.create({"name": "one"})

    taken = hub.undelete(workspace.id)
    renamed = hub.undelete(workspace.id, {"name": "two"})

    assert refused(taken) == (409, "NAME_TAKEN")
    assert '{"name": "' in taken.get_json()["detail"]
    assert (renamed.status_code, renamed.get_json()["name"]) == (200, "two")


def test_a_workspace_that_exists_gets_no_other_name_by_an_undelete(hub: Functions) -> None:
    """It gets one by a start, as the answer says. Then the undelete has nothing to refuse."""
    workspace = hub.world.ready()
    answer = hub.undelete(workspace.id, {"name": "two"})
    assert refused(answer) == (409, "NOT_DELETED")
    assert "start it with that name" in answer.get_json()["detail"]
    assert hub.start(workspace.id, {"name": "two"}).status_code == 200
    assert hub.undelete(workspace.id, {"name": "two"}).get_json()["name"] == "two"


@pytest.mark.parametrize("purge", [False, True])
def test_a_deletion_of_what_is_deleted_is_not_found_and_takes_nothing(
    hub: Functions, *, purge: bool
) -> None:
    """It can still be taken back, though the name is another workspace's by now."""
    workspace = deleted(hub)
    hub.world.ready("alice", "one")
    again = hub.delete(workspace.id, **(PURGE if purge else {}))
    assert refused(again) == (404, "WORKSPACE_NOT_FOUND")
    assert [each["id"] for each in listed(hub)] == [workspace.id]
    assert hub.undelete(workspace.id, {"name": "two"}).status_code == 200


def test_an_undelete_needs_room_among_the_owners_workspaces(hub: Functions) -> None:
    """One more counts as a new one does. It does not run, so that limit is not asked."""
    workspace = deleted(hub)
    hub.create({"name": "two"})
    hub.configure(HUB_WORKSPACES_PER_OWNER="1", HUB_RUNNING_PER_OWNER="0")
    full = hub.undelete(workspace.id)
    hub.configure(HUB_WORKSPACES_PER_OWNER="2", HUB_RUNNING_PER_OWNER="0")

    assert refused(full) == (403, "QUOTA_EXCEEDED")
    assert hub.undelete(workspace.id).status_code == 200


def test_undeletes_count_among_their_owners_changes(hub: Functions) -> None:
    """An administrator's does not count for the owner."""
    one, two = deleted(hub, "one"), deleted(hub, "two")
    hub.world.clock.advance(timedelta(minutes=2))
    hub.configure(HUB_CHANGES_PER_MINUTE="1")

    answers = [
        hub.undelete(one.id),
        hub.undelete(one.id),
        hub.undelete(two.id),
        hub.undelete(two.id, token="grace"),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]


def test_it_is_waited_for_the_end_of_the_deletion(hub: Functions) -> None:
    """Until then there is nothing to take back."""
    workspace = hub.world.ready()
    hub.delete(workspace.id)

    answer = hub.undelete(workspace.id)

    assert refused(answer) == (409, "OPERATION_UNDER_WAY")
    assert answer.get_json()["operation"]["kind"] == "DELETE"


# ---- for good ----


@pytest.mark.parametrize("when", ["at once", "while a last copy is being made", "by the Hub"])
def test_what_is_deleted_for_good_is_not_kept(hub: Functions, when: str) -> None:
    """Neither the home nor its snapshots, from the answer on; and ``0`` switches all of it off."""
    if when == "by the Hub":
        hub.configure(HUB_UNDELETE_SECONDS="0")
    workspace = hub.world.ready()
    hub.snapshot(workspace.id)
    hub.world.run()
    if when == "while a last copy is being made":
        kept = hub.delete(workspace.id).get_json()
        assert kept["undelete_until"] is not None
        hub.world.run(lambda: len(hub.world.machines.snapshots) == 2)

    answer = hub.delete(workspace.id, **({} if when == "by the Hub" else PURGE))
    hub.world.run()

    assert (answer.status_code, answer.get_json()["undelete_until"]) == (202, None)
    assert listed(hub) == []
    assert refused(hub.undelete(workspace.id)) == (404, "WORKSPACE_NOT_FOUND")
    assert (dict(hub.world.store.snapshots), hub.world.machines.snapshots) == ({}, {})


def test_a_workspace_without_a_home_cannot_be_taken_back(hub: Functions) -> None:
    """Its CREATE is not over, so there is nothing to keep, and the answer says so."""
    workspace = hub.world.create("alice", "one")

    answer = hub.delete(workspace.id)
    hub.world.run()

    assert answer.get_json()["undelete_until"] is None
    assert listed(hub) == []


@pytest.mark.parametrize("purge", [False, True])
def test_a_dry_run_of_a_deletion_says_whether_it_can_be_taken_back(
    hub: Functions, purge: bool
) -> None:
    """As the request itself does, in the query of both paths."""
    workspace = hub.world.ready()
    query = f"dry_run=true&purge={str(purge).lower()}"

    answers = [
        hub.delete(workspace.id, query_string=query),
        hub.call(
            "delete_workspace",
            f"/workspaces/{workspace.id}/delete",
            {"dry_run": True},
            method="POST",
            query_string=query,
        ),
    ]

    assert [answer.status_code for answer in answers] == [200, 200]
    dry = answers[0].get_json()
    assert answers[1].get_json() == dry
    assert (dry["workspace"]["undelete_until"] is None) == purge
    assert ("snapshot" in dry["steps"]) == (not purge)


def test_a_dry_run_says_that_a_deletion_under_way_would_keep_nothing(hub: Functions) -> None:
    """The same purge again is nothing new."""
    workspace = hub.world.ready()
    hub.delete(workspace.id)

    dry = hub.delete(workspace.id, query_string="dry_run=true&purge=true").get_json()
    hub.delete(workspace.id, **PURGE)
    again = hub.delete(workspace.id, query_string="dry_run=true&purge=true").get_json()

    assert (dry["decision"], dry["workspace"]["undelete_until"]) == ("confirm", None)
    assert again["decision"] == "nothing"


# ---- others ----


def test_an_administrator_lists_and_takes_back_what_others_have_deleted(hub: Functions) -> None:
    """Each is in the trail; it is the owner's again."""
    workspace = deleted(hub)

    [entry] = listed(hub, "?owner_id=alice", token="grace")
    answer = hub.undelete(workspace.id, token="grace")

    assert entry["id"] == workspace.id
    assert (answer.status_code, answer.get_json()["owner_id"]) == (200, "alice")
    noted = [event for event in hub.world.store.events if event.who == "grace"]
    assert [(event.what, event.owner_id, event.as_admin) for event in noted] == [
        ("DeletedListRequested", "alice", True),
        ("WorkspaceUndeleted", "alice", True),
    ]


def test_nobody_else_learns_of_a_deleted_workspace(hub: Functions) -> None:
    """Their own list lacks it, Alice's is refused, and its id is as an unknown one."""
    workspace = deleted(hub)

    answer = hub.undelete(workspace.id, token="bob")

    assert listed(hub, token="bob") == []
    assert refused(hub.deleted("?owner_id=alice", token="bob")) == (403, "NOT_ALLOWED")
    assert refused(answer) == (404, "WORKSPACE_NOT_FOUND")
    assert len(listed(hub)) == 1
