"""Names are free from the answer to a delete on; a person has one workspace of a name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.instance import DeleteInstance, FaultKind
from shared.domain.workspace import Status, Workspace
from tests.fakes.machines import Mishap
from tests.functions.conftest import Functions


def fail_its_delete(hub: Functions, workspace: Workspace) -> None:
    """Delete a workspace whose machine Compute does not let go until the deadline has passed."""
    hub.world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.PERMISSION, times=1000)
    assert hub.delete(workspace.id).status_code == 202
    hub.world.run()
    hub.world.machines.calm()
    assert hub.world.workspace(workspace.id).status is Status.ERROR


def names_held(hub: Functions, owner: str = "alice") -> list[str]:
    """Return the names in the owner's record; one that was given up is empty."""
    return sorted(held.name for held in hub.world.store.owners[owner].workspaces.values())


# ---- after a delete ----


@pytest.mark.parametrize("seconds", [0, 2, 20])
def test_a_name_is_free_as_soon_as_its_delete_is_accepted(hub: Functions, seconds: int) -> None:
    """Both exist side by side until the first is gone; the list by name may have two."""
    first = hub.world.ready(name="api")

    deleted = hub.delete(first.id)
    hub.world.pass_time(timedelta(seconds=seconds))
    made = hub.create({"name": "api"})

    assert (deleted.status_code, made.status_code) == (202, 201)
    listed = hub.list_workspaces("?name=api").get_json()
    assert listed[0]["id"] == made.get_json()["id"]
    assert [each["operation"]["kind"] for each in listed[1:]] == ["DELETE"] * (len(listed) - 1)
    hub.world.run()
    assert [each["id"] for each in hub.list_workspaces("?name=api").get_json()] == [
        made.get_json()["id"]
    ]
    assert hub.create({"name": "api"}).status_code == 409


def test_a_name_is_free_after_the_delete_of_a_create(hub: Functions) -> None:
    """Whatever operation the DELETE supersedes, and however often that is repeated."""
    made = []
    for _ in range(4):
        answer = hub.create({"name": "api"})
        made.append(answer.status_code)
        hub.delete(answer.get_json()["id"])
    hub.world.run()

    assert made == [201] * 4
    assert hub.world.store.workspaces == {}
    assert names_held(hub) == []


def test_a_workspace_counts_for_the_quota_until_it_is_gone(hub: Functions) -> None:
    """Its machine and disk still exist; the refusal says what to wait for."""
    hub.configure(HUB_WORKSPACES_PER_OWNER="1")
    first = hub.world.ready(name="api")
    hub.delete(first.id)

    refused = hub.create({"name": "api"})
    hub.world.run()
    made = hub.create({"name": "api"})

    assert (refused.status_code, refused.get_json()["code"]) == (403, "QUOTA_EXCEEDED")
    assert "1 of at most 1 workspaces; 1 of them not deleted yet" in refused.get_json()["detail"]
    assert made.status_code == 201


def test_a_sweep_that_deletes_frees_the_name_too(hub: Functions) -> None:
    """Retention deletes like a person."""
    workspace = hub.world.ready(name="api")
    hub.stop(workspace.id)
    hub.world.run()
    hub.world.clock.advance(timedelta(days=31))
    hub.world.clean_up()

    assert hub.get(workspace.id).get_json()["operation"]["automatic"] is True
    assert hub.create({"name": "api"}).status_code == 201
    assert names_held(hub) == ["", "api"]


def test_a_delete_by_an_administrator_frees_the_owners_name(hub: Functions) -> None:
    """The name is the owner's, whoever deletes."""
    workspace = hub.world.ready(name="api")

    hub.delete(workspace.id, token="grace")

    assert hub.create({"name": "api"}).status_code == 201


def test_a_key_stays_that_of_its_workspace_when_the_name_is_used_again(hub: Functions) -> None:
    """A repeated request never answers, or makes, the workspace that got the name afterwards."""
    key = {"headers": {"Idempotency-Key": "first"}}
    first = hub.create({"name": "api"}, **key).get_json()
    hub.world.run()
    hub.delete(first["id"])
    second = hub.create({"name": "api"}, headers={"Idempotency-Key": "second"}).get_json()

    meanwhile = hub.create({"name": "api"}, **key)
    hub.world.run()
    afterwards = hub.create({"name": "api"}, **key)

    assert meanwhile.get_json()["id"] == first["id"] != second["id"]
    assert meanwhile.get_json()["operation"]["kind"] == "DELETE"
    assert (afterwards.status_code, afterwards.get_json()["code"]) == (410, "WORKSPACE_GONE")
    assert [each["id"] for each in hub.list_workspaces().get_json()] == [second["id"]]


# ---- after a delete that failed ----


def test_a_start_takes_the_name_again(hub: Functions) -> None:
    """Until then the name is free, and from then on it is not."""
    workspace = hub.world.ready(name="api")
    fail_its_delete(hub, workspace)
    assert names_held(hub) == [""]

    started = hub.start(workspace.id)
    hub.world.run()

    assert (started.status_code, hub.get(workspace.id).get_json()["status"]) == (202, "READY")
    assert names_held(hub) == ["api"]
    assert hub.create({"name": "api"}).status_code == 409


@pytest.mark.parametrize("verb", ["start", "connect"])
@pytest.mark.parametrize("token", ["alice", "grace"])
def test_a_start_is_refused_if_another_has_the_name(hub: Functions, verb: str, token: str) -> None:
    """Nothing is begun, whoever asks in whichever way; the answer says what to send."""
    workspace = hub.world.ready(name="api")
    fail_its_delete(hub, workspace)
    hub.create({"name": "api"})
    before = hub.world.workspace(workspace.id)

    if verb == "start":
        answer = hub.start(workspace.id, token=token)
    else:
        answer = hub.connect(workspace.id, {"start": True})

    assert (answer.status_code, answer.get_json()["code"]) == (409, "NAME_TAKEN")
    assert '{"name": "api-2"}' in answer.get_json()["detail"]
    assert hub.world.workspace(workspace.id) == before


@pytest.mark.parametrize("more", [{}, {"machine_type": "e2-standard-8"}, {"rebuild": True}])
def test_a_start_can_give_another_name(hub: Functions, more: dict[str, object]) -> None:
    """The workspace has that name from then on, and its machine is told at its next boot."""
    workspace = hub.world.ready(name="api")
    fail_its_delete(hub, workspace)
    other = hub.create({"name": "api"}).get_json()

    started = hub.start(workspace.id, {"name": "api-2", **more})
    again = hub.start(workspace.id, {"name": "api-2", **more})
    third = hub.start(workspace.id, {"name": "api-3"})
    hub.world.run()

    assert (started.status_code, started.get_json()["name"]) == (202, "api-2")
    assert again.get_json() == started.get_json()
    assert (third.status_code, third.get_json()["code"]) == (409, "OPERATION_UNDER_WAY")
    assert names_held(hub) == ["api", "api-2"]
    listed = {each["name"]: each["id"] for each in hub.list_workspaces().get_json()}
    assert listed == {"api": other["id"], "api-2": workspace.id}
    assert hub.create({"name": "api-2"}).status_code == 409


def test_a_start_cannot_give_a_name_that_another_has(hub: Functions) -> None:
    """The new name is checked like the old one."""
    workspace = hub.world.ready(name="api")
    hub.world.ready(name="web")
    fail_its_delete(hub, workspace)

    answer = hub.start(workspace.id, {"name": "web"})

    assert (answer.status_code, answer.get_json()["code"]) == (409, "NAME_TAKEN")


def test_a_start_can_give_any_workspace_another_name(hub: Functions) -> None:
    """Its old one is free then. A READY workspace gets it at once, and nothing else happens."""
    ready, sleeping = hub.world.ready(name="api"), hub.world.ready(name="web")
    hub.stop(sleeping.id)
    hub.world.run()
    sent = len(hub.world.operations.sent)

    same, renamed, taken = (hub.start(ready.id, {"name": name}) for name in ("api", "one", "web"))
    assert len(hub.world.operations.sent) == sent
    started = hub.start(sleeping.id, {"name": "two"})

    assert [each.status_code for each in (same, renamed, taken, started)] == [200, 200, 409, 202]
    assert (renamed.get_json()["name"], renamed.get_json()["operation"]) == ("one", None)
    assert names_held(hub) == ["one", "two"]
    assert [hub.create({"name": name}).status_code for name in ("api", "web")] == [201, 201]
    assert "WorkspaceRenamed" in [event["what"] for event in hub.events(ready.id).get_json()]


def test_a_second_delete_ends_it_and_its_names_next_workspace_stays(hub: Functions) -> None:
    """What is deleted is told by its id, never by its name."""
    workspace = hub.world.ready(name="api")
    fail_its_delete(hub, workspace)
    other = hub.create({"name": "api"}).get_json()

    hub.delete(workspace.id)
    hub.world.run()

    assert [each["id"] for each in hub.list_workspaces().get_json()] == [other["id"]]
    assert names_held(hub) == ["api"]
