"""Every request of the matrix in docs/permissions.md, and what the audit trail says of it."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from localcloud.api_client import ApiClient, Workspace
from localcloud.catalogue import Function, read_catalogue
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import ADMIN_EMAIL, LocalSettings
from tests.documents import permissions
from tests.system.records import Records
from tests.system.token_leaks import leaks

pytestmark = pytest.mark.xdist_group("team")  # one worker starts the cloud

CATALOGUE = read_catalogue()
OWNER, ANOTHER, STRANGER = "owner@example.com", "another@example.com", "stranger@example.com"
# People who send no request of the matrix: a second refusal or look within minutes is only counted.
NEW_PERSON, NEW_STRANGER = "new@example.com", "new-stranger@example.com"
PEOPLE = {
    "stranger": STRANGER,
    "another person": ANOTHER,
    "owner": OWNER,
    "administrator": ADMIN_EMAIL,
}
# The status that a workspace needs for a request. These requests change their workspace, so each
# gets one of its own.
NEEDED_STATE = {
    "stop_workspace": "READY",
    "archive_workspace": "READY",
    "start_workspace": "SUSPENDED",
    "create_snapshot": "READY",
    "delete_snapshot": "READY",
    "restore_workspace": "READY",
    "undelete_workspace": "deleted",
    "delete_workspace": None,
}

NEED_A_SNAPSHOT = {"delete_snapshot", "restore_workspace"}

ROWS = permissions()


class Team:
    """A Hub that serves some people and an administrator, with its workspaces and all tokens."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self.owner, self.admin, self.new, self.new_stranger = (
            ApiClient(cloud.address, cloud.token(email))
            for email in (OWNER, ADMIN_EMAIL, NEW_PERSON, NEW_STRANGER)
        )
        self._made = {name: self.owner.create(name) for name in ("kept", "gone", "purged")}
        self._spare: dict[tuple[str, str], Workspace] = {
            (function, column): self.owner.create(f"{function}-{column}")
            for function in NEEDED_STATE
            for column in ("owner", "administrator")
        }
        self.owner.delete(self.gone)
        to_suspend = [
            workspace["id"]
            for key, workspace in self._spare.items()
            if NEEDED_STATE[key[0]] == "SUSPENDED"
        ]
        for workspace_id in to_suspend:
            self.owner.wait_until_settled(workspace_id, "READY")
            self.owner.stop(workspace_id)
        for key, workspace in self._spare.items():
            if NEEDED_STATE[key[0]] == "READY":
                self.owner.wait_until_settled(workspace["id"], "READY")
        to_delete = [
            workspace["id"]
            for key, workspace in self._spare.items()
            if NEEDED_STATE[key[0]] == "deleted"
        ]
        for workspace_id in (*to_delete, self.purged):  # with a home that can be kept
            self.owner.wait_until_settled(workspace_id, "READY")
            purge = "?purge=true" if workspace_id == self.purged else ""
            self.owner.request("DELETE", f"/workspaces/{workspace_id}{purge}")
        self.owner.wait_until_settled(self.kept, "READY")
        self._snapshots = self._take_snapshots(
            self.kept,
            *(
                str(workspace["id"])
                for key, workspace in self._spare.items()
                if key[0] in NEED_A_SNAPSHOT
            ),
        )
        for workspace_id in to_suspend:
            self.owner.wait_until_settled(workspace_id, "SUSPENDED")
        for workspace_id in (self.gone, self.purged, *to_delete):
            self.owner.wait_until_gone(workspace_id)

    def _take_snapshots(self, *workspace_ids: str) -> dict[str, str]:
        """Take a snapshot of each workspace, wait until all are READY, and return their ids."""
        for workspace_id in workspace_ids:
            taken = self.owner.request("POST", f"/workspaces/{workspace_id}/snapshots")
            assert taken.status_code == 202, taken.text

        def ready(workspace_id: str) -> str | None:
            path = f"/workspaces/{workspace_id}/snapshots"
            listed = self.owner.request("GET", path).json()["snapshots"]
            return next((each["id"] for each in listed if each["state"] == "READY"), None)

        found: dict[str, str] = {}
        end = time.monotonic() + 60
        while len(found) < len(workspace_ids):
            assert time.monotonic() < end, "the snapshots do not become READY"
            time.sleep(0.2)
            taken_of = {each: ready(each) for each in workspace_ids}
            found = {each: snapshot for each, snapshot in taken_of.items() if snapshot}
        return found

    @property
    def kept(self) -> str:
        """The id of a workspace that stays READY."""
        return str(self._made["kept"]["id"])

    @property
    def gone(self) -> str:
        """The id of a workspace that has been deleted."""
        return str(self._made["gone"]["id"])

    @property
    def purged(self) -> str:
        """The id of a workspace that has been deleted for good."""
        return str(self._made["purged"]["id"])

    def token(self, column: str, function: Function) -> str | None:
        """Return the token of a column of the matrix; None for the column ``nobody``."""
        if column == "nobody":
            return None
        if column in PEOPLE:
            return self.cloud.token(PEOPLE[column])
        if column == "machine":
            return self.machine_token(self._made["kept"]["instance_name"])
        account = f"{column}@{self.cloud.state['project_id']}.iam.gserviceaccount.com"
        return self.cloud.token(account, audience=self.cloud.function_url(function.name))

    def machine_token(self, instance_name: str) -> str:
        """Return the token that a machine gets from its metadata server."""
        [machine] = [each for each in self.cloud.machines() if each["name"] == instance_name]
        service = f"{self.cloud.state['services']['identity']}/machines/{machine['id']}"
        query = {
            "audience": self.cloud.state["environment"]["HUB_REPORT_WORKSPACE_URL"],
            "format": "full",
        }
        answer = requests.get(
            f"{service}/computeMetadata/v1/instance/service-accounts/default/identity",
            params=query,
            headers={"Metadata-Flavor": "Google"},
            timeout=10,
        )
        answer.raise_for_status()
        return answer.text

    def ask(self, row: dict[str, str], column: str) -> requests.Response:
        """Send a row's request to the function's own URL, with a column's token."""
        function = CATALOGUE[row["function"]]
        request, _, field = row["request"].partition(" with ")
        method, path, *source = request.split(" ")
        workspace = self._spare.get((function.name, column), self._made["kept"])
        known = {
            "workspace_id": workspace["id"],
            "gone_id": self.gone,
            "purged_id": self.purged,
            "owner_id": workspace["owner_id"],
            "snapshot_id": self._snapshots.get(str(workspace["id"])),
            "other_snapshot_id": self._snapshots[self.kept],
            "name": "google-sign-in",
        }
        path = path.format(**known)
        caller = ApiClient(self.cloud.function_url(function.name), self.token(column, function))
        if source or function.name == "restore_workspace":
            named = source[-1] if source else "{snapshot_id}"
            snapshot = {"snapshot_id": named.format(**known)}
            fork = {"name": f"from-{column.replace(' ', '-')}", "from": snapshot}
            body = fork if function.name == "create_workspace" else snapshot
            return caller.request(method, path, json=body)
        if field:
            name, _, value = field.partition("=")
            return caller.request(method, path, json={name: json.loads(value)})
        return caller.request(method, path, **self._body(function, column))

    def _body(self, function: Function, column: str) -> dict[str, Any]:
        """Return a body that the function accepts, as an argument of a request."""
        if function.name == "create_workspace":
            return {"json": {"name": column.replace(" ", "-")}}
        if function.name == "keep_workspace_awake":
            until = datetime.now(UTC) + timedelta(hours=1)
            return {"json": {"until": until.isoformat()}}
        if function.name == "report_workspace":
            return {"json": {"event": "heartbeat", "generation": 1}}
        job = {"workspace_id": self.gone, "operation_id": str(uuid.uuid4()), "step": 1}
        if function.trigger == "task":
            return {"json": job}
        if function.trigger == "event":
            data = base64.b64encode(json.dumps(job).encode()).decode()
            message = {
                "data": data,
                "messageId": "1",
                "publishTime": "2026-01-01T00:00:00Z",
                "attributes": {},
            }
            project = self.cloud.state["project_id"]
            return {
                "json": {
                    "message": message,
                    "subscription": f"projects/{project}/subscriptions/{function.service}",
                }
            }
        return {}


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    """A Hub that serves only some people."""
    settings = LocalSettings(
        times="fast",
        schedule_seconds=0,
        overrides={
            "HUB_ALLOWED_EMAILS": f"{OWNER},{ANOTHER},{NEW_PERSON}",
            "HUB_WORKSPACES_PER_OWNER": "30",
            "HUB_RUNNING_PER_OWNER": "30",
            "HUB_CHANGES_PER_MINUTE": "1000",
        },
    )
    with start_cloud(settings) as cloud:
        yield Team(cloud)
        assert leaks(cloud) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['function']} {row['request']}")
def test_every_caller_gets_the_answer_of_the_matrix(row: dict[str, str], team: Team) -> None:
    """Each caller sends the request to the function's own URL with their own token."""
    expected = {
        column: int(cell) for column, cell in row.items() if column not in {"function", "request"}
    }
    assert {column: team.ask(row, column).status_code for column in expected} == expected


def test_a_machine_reports_for_its_own_workspace_only(team: Team) -> None:
    """For another workspace it gets 403, and that workspace's event names the machine."""
    other = team.owner.create("other")
    team.owner.wait_until_settled(other["id"], "READY")
    machine = ApiClient(
        team.cloud.function_url("report_workspace"), team.machine_token(other["instance_name"])
    )
    report = {"event": "heartbeat", "generation": 1}
    assert (
        machine.request("POST", f"/workspaces/{team.kept}/reports", json=report).status_code == 403
    )
    assert (
        machine.request("POST", f"/workspaces/{other['id']}/reports", json=report).status_code
        == 204
    )
    [refused] = [
        event
        for event in team.owner.events(team.kept)
        if event["who"].endswith(f"/{other['instance_name']}")
    ]
    assert (refused["what"], refused["result"]) == ("ReportSent", "REFUSED")


def test_an_administrators_change_of_anothers_workspace_is_in_its_trail(team: Team) -> None:
    """The event has the person, the verb, ``as_admin`` and the request id; owners' are unmarked."""
    workspace_id = team.owner.create("administered")["id"]
    team.owner.wait_until_settled(workspace_id, "READY")
    request_id = str(uuid.uuid4())
    asked = team.admin.request(
        "POST", f"/workspaces/{workspace_id}/stop", headers={"X-Request-Id": request_id}
    )
    assert asked.status_code == 202
    team.owner.wait_until_settled(workspace_id, "SUSPENDED")
    team.owner.start(workspace_id)
    events = team.owner.events(workspace_id)
    [stop] = [event for event in events if event["what"] == "StopRequested"]
    assert (stop["who_email"], stop["as_admin"], stop["result"]) == (ADMIN_EMAIL, True, "ACCEPTED")
    assert stop["request_id"] == request_id
    assert {event["as_admin"] for event in events if event["who_email"] == OWNER} == {False}


def test_an_administrators_reads_are_in_the_trail(team: Team) -> None:
    """The owner sees those of a workspace, administrators those of all workspaces; each once."""
    seen_workspace = team.owner.create("seen")["id"]
    for path in (
        f"/workspaces/{seen_workspace}/status",
        f"/workspaces/{seen_workspace}/events",
        "/workspaces?all=true",
        "/events",
    ):
        assert [team.admin.request("GET", path).status_code for _ in range(3)] == [200] * 3
    shown = [event for event in team.owner.events(seen_workspace) if event["as_admin"]]
    assert [(event["what"], event["who_email"]) for event in shown] == [
        ("EventsRequested", ADMIN_EMAIL),
        ("StatusRequested", ADMIN_EMAIL),
    ]
    whole = [
        event
        for event in team.admin.every_event()
        if event["as_admin"] and not event["workspace_id"]
    ]
    owners = {event["owner_id"] for event in whole} - {""}  # whose lists the matrix asks for
    assert sorted((event["what"], event["owner_id"]) for event in whole) == [
        *(("DeletedListRequested", owner) for owner in sorted(owners)),
        ("EventsRequested", ""),
        ("ListRequested", ""),
        *(("ListRequested", owner) for owner in sorted(owners)),
    ]


def test_an_owner_reads_events_in_pages(team: Team) -> None:
    """Pages of any size have the same events, the latest first."""
    workspace_id = team.owner.create("paged")["id"]
    team.owner.wait_until_settled(workspace_id, "READY")
    team.owner.stop(workspace_id)
    team.owner.wait_until_settled(workspace_id, "SUSPENDED")
    whole = team.owner.events(workspace_id)
    whats = [event["what"] for event in whole]
    assert whats == ["WorkspaceSuspended", "StopRequested", "WorkspaceReady", "WorkspaceRequested"]
    first = team.owner.request("GET", f"/workspaces/{workspace_id}/events", params={"limit": 3})
    assert (len(first.json()), "next" in first.links) == (3, True)
    assert (
        team.owner.events(workspace_id, limit=1)
        == team.owner.events(workspace_id, limit=3)
        == whole
    )


def test_an_administrator_reads_the_events_of_a_deleted_workspace(team: Team) -> None:
    """They begin with the create and have the DELETE's result; its owner gets 404."""
    events = team.admin.events(team.gone)
    assert [(event["what"], event["result"]) for event in events][-1] == (
        "WorkspaceRequested",
        "ACCEPTED",
    )
    assert "DELETED" in {event["result"] for event in events}
    assert team.owner.request("GET", f"/workspaces/{team.gone}/events").status_code == 404


def test_a_refusal_is_in_the_trail(team: Team) -> None:
    """So are another's workspace, a stranger's request, and a list for administrators only."""
    wanted = str(uuid.uuid4())
    for person, method, path, headers in (
        (team.new, "DELETE", f"/workspaces/{team.kept}", {"X-Request-Id": f"delete-{wanted}"}),
        (team.new_stranger, "GET", "/workspaces", {"X-Request-Id": f"enter-{wanted}"}),
        (team.new, "GET", "/workspaces?all=true", {"X-Request-Id": f"list-{wanted}"}),
    ):
        assert person.request(method, path, headers=headers).status_code in {403, 404}
    written = {
        event["request_id"]: (
            event["who_email"],
            event["what"],
            event["result"],
            event["workspace_id"],
        )
        for event in Records(team.cloud).every_event()
        if wanted in event["request_id"]
    }
    assert written == {
        f"delete-{wanted}": (NEW_PERSON, "DeleteRequested", "REFUSED", team.kept),
        f"enter-{wanted}": (NEW_STRANGER, "EntryRequested", "REFUSED", ""),
        f"list-{wanted}": (NEW_PERSON, "ListRequested", "REFUSED", ""),
    }
    shown = [
        event for event in team.owner.events(team.kept) if event["request_id"] == f"delete-{wanted}"
    ]
    assert [(event["who_email"], event["result"]) for event in shown] == [(NEW_PERSON, "REFUSED")]
