"""Every function as functions-framework serves it, in this process, with fakes."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from flask.testing import FlaskClient
from functions_framework import create_app
from werkzeug.test import TestResponse

from localcloud.catalogue import ROOT, read_catalogue
from shared import bootstrap
from shared.caller_limit import CallerLimit
from shared.config import read_settings
from shared.domain.access import MachineIdentity, Person
from shared.domain.instance import InsertInstance, Place
from shared.domain.job_messages import write_job
from shared.domain.jobs import Job
from shared.domain.workspace import Workspace
from shared.usecases.audit import AuditTrail
from shared.usecases.seen_machines import SeenMachines
from tests.fakes.identity import FakeIdentity
from tests.fakes.machines import PROJECT, FakeInstance
from tests.fakes.records import INSTANCE_ID
from tests.fakes.settings import REQUIRED_SETTINGS
from tests.fakes.world import World

CATALOGUE = read_catalogue()
ENVIRONMENT = {
    **REQUIRED_SETTINGS,
    "GOOGLE_CLOUD_PROJECT": PROJECT,
    "HUB_MODE": "team",
    "HUB_ALLOWED_EMAILS": "alice@example.com",
    "HUB_ALLOWED_DOMAINS": "example.org",
    "HUB_ADMIN_EMAILS": "grace@example.com",
}


@cache
def client_of(name: str) -> FlaskClient:
    """Return a client of a function, which is loaded once for all tests, as its process does it."""
    function = CATALOGUE[name]
    source = str(ROOT / function.source)
    app = create_app(name, source, function.signature_type)  # type: ignore[no-untyped-call]
    client: FlaskClient = app.test_client()
    return client


@dataclass
class Functions:
    """All functions of one Hub with fakes."""

    patch: pytest.MonkeyPatch
    world: World = field(default_factory=World)
    identity: FakeIdentity = field(default_factory=FakeIdentity)

    def __post_init__(self) -> None:
        """Add two people whom the Hub serves, an administrator, and one whom it does not serve."""
        self.identity.people |= {
            "alice": Person("alice", "alice@example.com"),
            "bob": Person("bob", "bob@example.org", "example.org"),
            "grace": Person("grace", "grace@example.com", "example.com"),
            "mallory": Person("mallory", "mallory@example.net"),
        }
        self.configure()

    def configure(self, **changes: str) -> None:
        """Configure the Hub again, with these settings changed."""
        settings = read_settings(ENVIRONMENT | changes)
        self.world.policy = settings.policy
        self.replace_part("settings", settings)
        self.replace_part("caller_limit", CallerLimit(settings.edge.requests_per_minute))

    def replace_part(self, name: str, part: object) -> None:
        """Replace a part of the process's hub; production code has no hook for it."""
        self.patch.setitem(bootstrap.hub().__dict__, name, part)

    def call(
        self,
        name: str,
        path: str,
        body: object = None,
        *,
        token: str | None = "alice",
        **options: Any,
    ) -> TestResponse:
        """Call an HTTP function with its own method, a person's token, and perhaps a JSON body."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        method = options.pop("method", None) or CATALOGUE[name].routes[0].method
        if body is not None:
            options |= {"data": json.dumps(body), "content_type": "application/json"}
        return client_of(name).open(path, method=method, headers=headers, **options)

    def create(self, body: object, **options: Any) -> TestResponse:
        """Create a workspace."""
        return self.call("create_workspace", "/workspaces", body, **options)

    def list_workspaces(self, query: str = "", **options: Any) -> TestResponse:
        """List workspaces."""
        return self.call("list_workspaces", f"/workspaces{query}", **options)

    def get(self, workspace_id: str, **options: Any) -> TestResponse:
        """Get a workspace as it is recorded."""
        return self.call("get_workspace", f"/workspaces/{workspace_id}", **options)

    def connect(self, workspace_id: str, body: object = None, **options: Any) -> TestResponse:
        """Say that one connects."""
        path = f"/workspaces/{workspace_id}/connect"
        return self.call("connect_workspace", path, body, **options)

    def status(self, workspace_id: str, **options: Any) -> TestResponse:
        """Get the status in real time."""
        return self.call("get_workspace_status", f"/workspaces/{workspace_id}/status", **options)

    def events(self, workspace_id: str, query: str = "", **options: Any) -> TestResponse:
        """List a workspace's events."""
        return self.call("list_events", f"/workspaces/{workspace_id}/events{query}", **options)

    def all_events(self, query: str = "", **options: Any) -> TestResponse:
        """List all events."""
        return self.call("list_events", f"/events{query}", **options)

    def stop(self, workspace_id: str, **options: Any) -> TestResponse:
        """Stop a workspace."""
        return self.call("stop_workspace", f"/workspaces/{workspace_id}/stop", **options)

    def start(self, workspace_id: str, body: object = None, **options: Any) -> TestResponse:
        """Start a workspace."""
        return self.call("start_workspace", f"/workspaces/{workspace_id}/start", body, **options)

    def me(self, **options: Any) -> TestResponse:
        """Ask who one is."""
        return self.call("describe_me", "/me", **options)

    def keep_awake(self, workspace_id: str, until: str | None, **options: Any) -> TestResponse:
        """Keep a workspace awake until a time, or no longer."""
        path = f"/workspaces/{workspace_id}/keep-awake"
        return self.call("keep_workspace_awake", path, {"until": until}, **options)

    def archive(self, workspace_id: str, body: object = None, **options: Any) -> TestResponse:
        """Archive a workspace."""
        path = f"/workspaces/{workspace_id}/archive"
        return self.call("archive_workspace", path, body, **options)

    def delete(self, workspace_id: str, **options: Any) -> TestResponse:
        """Delete a workspace."""
        return self.call("delete_workspace", f"/workspaces/{workspace_id}", **options)

    def deleted(self, query: str = "", **options: Any) -> TestResponse:
        """List the deleted workspaces that can be taken back."""
        return self.call("list_deleted_workspaces", f"/deleted-workspaces{query}", **options)

    def undelete(self, workspace_id: str, body: object = None, **options: Any) -> TestResponse:
        """Take a deleted workspace back."""
        path = f"/workspaces/{workspace_id}/undelete"
        return self.call("undelete_workspace", path, body, **options)

    def snapshot(self, workspace_id: str, body: object = None, **options: Any) -> TestResponse:
        """Take a snapshot."""
        path = f"/workspaces/{workspace_id}/snapshots"
        return self.call("create_snapshot", path, body, **options)

    def snapshots(self, workspace_id: str, **options: Any) -> TestResponse:
        """List snapshots."""
        return self.call("list_snapshots", f"/workspaces/{workspace_id}/snapshots", **options)

    def delete_snapshot(self, workspace_id: str, snapshot_id: str, **options: Any) -> TestResponse:
        """Delete a snapshot."""
        path = f"/workspaces/{workspace_id}/snapshots/{snapshot_id}"
        return self.call("delete_snapshot", path, **options)

    def restore(self, workspace_id: str, snapshot_id: str, **options: Any) -> TestResponse:
        """Restore a home from a snapshot."""
        path, body = f"/workspaces/{workspace_id}/restore", {"snapshot_id": snapshot_id}
        return self.call("restore_workspace", path, body, **options)

    def fork(self, snapshot_id: str, name: str = "fork", **options: Any) -> TestResponse:
        """Create a workspace from a snapshot."""
        return self.create({"name": name, "from": {"snapshot_id": snapshot_id}}, **options)

    def report(
        self, workspace: Workspace, body: object, *, machine: FakeInstance | None = None
    ) -> TestResponse:
        """Send a report from the workspace's machine, or from another."""
        sender = machine or self.world.machine(workspace)
        assert sender is not None
        self.identity.machines["machine"] = MachineIdentity(
            PROJECT, sender.place.zone, sender.place.name, sender.id
        )
        return self.call(
            "report_workspace", f"/workspaces/{workspace.id}/reports", body, token="machine"
        )

    def push(
        self, name: str, data: bytes, attributes: dict[str, str] | None = None
    ) -> TestResponse:
        """Push a message to an event function, as a Pub/Sub subscription does."""
        message = {
            "data": base64.b64encode(data).decode(),
            "attributes": attributes or {},
            "messageId": "1",
            "publishTime": "2026-03-02T09:00:00Z",
        }
        body = {"message": message, "subscription": "projects/p/subscriptions/s"}
        return client_of(name).post("/", json=body)

    def task(self, job: Job | bytes) -> TestResponse:
        """Call the worker as Cloud Tasks does."""
        data = job if isinstance(job, bytes) else write_job(job)
        return client_of("advance_operation").post(
            "/operations", data=data, content_type="application/json"
        )


def a_machine_named(name: str) -> FakeInstance:
    """Return a machine of this name, in its third boot, that no workspace has."""
    place = Place("us-west1-a", name)
    command = InsertInstance(
        place=place,
        workspace_id="",
        workspace_name="",
        owner_id="",
        machine_type="",
        image_tag="",
        generation=3,
        home_disk="",
        attach_home=False,
        repo=None,
        branch=None,
    )
    return FakeInstance(INSTANCE_ID, place, command, 3, labels={}, heartbeat_interval=None)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Replace the ports of the process by fakes."""
    functions = Functions(monkeypatch)
    world = functions.world
    ports = {
        "store": world.store,
        "identity": functions.identity,
        "provision_jobs": world.provisioning,
        "operation_jobs": world.operations,
        "machines": world.machines,
        "clock": world.clock,
        "audit": AuditTrail(world.store, world.clock),
        "seen_machines": SeenMachines(lambda: bootstrap.hub().machines, world.clock),
    }
    for name, port in ports.items():
        functions.replace_part(name, port)
    monkeypatch.setattr("shared.usecases.records.PAUSE_SECONDS", 0)
    return functions
