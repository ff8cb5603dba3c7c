"""Every function as functions-framework serves it, in this process, on fakes."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from functions_framework import create_app

from localcloud.catalogue import ROOT, read_catalogue
from shared import bootstrap
from shared.config import read_settings
from shared.domain.job_messages import write_job
from shared.domain.people import Person
from shared.entry.limits import CallerLimit
from shared.ports import Machine
from shared.usecases.trail import Trail
from tests.fakes.identity import FakeIdentity
from tests.fakes.machines import PROJECT, FakeInstance
from tests.fakes.world import World

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from shared.domain.jobs import Job
    from shared.domain.workspace import Workspace

CATALOGUE = read_catalogue()
ENVIRONMENT = {
    "GOOGLE_CLOUD_PROJECT": PROJECT,
    "HUB_REGION": "us-west1",
    "HUB_REPORT_WORKSPACE_URL": "https://report.example.com",
    "HUB_ADVANCE_OPERATION_URL": "https://advance.example.com/operations",
    "HUB_OPERATIONS_SERVICE_ACCOUNT": "operations@example.com",
    "HUB_USER_AUDIENCES": "https://hub.example.com",
    "HUB_INSTALLATION": "hub-1a2b",
    "HUB_IMAGE_REPOSITORY": "example.com/workspace",
    "HUB_MACHINE_SERVICE_ACCOUNT": "machine@example.com",
    "HUB_MODE": "team",
    "HUB_ALLOWED_EMAILS": "alice@example.com",
    "HUB_ALLOWED_DOMAINS": "example.org",
    "HUB_ADMIN_EMAILS": "grace@example.com",
}


@cache
def client_of(name: str) -> FlaskClient:
    """Return a client of a function, which is loaded once for all tests as its process loads it."""
    function = CATALOGUE[name]
    app = create_app(name, str(ROOT / function.source), function.signature_type)  # type: ignore[no-untyped-call]
    client: FlaskClient = app.test_client()
    return client


@dataclass
class Functions:
    """All functions of one Hub on fakes."""

    patch: pytest.MonkeyPatch
    world: World = field(default_factory=World)
    identity: FakeIdentity = field(default_factory=FakeIdentity)

    def __post_init__(self) -> None:
        """Let there be two people whom the Hub serves, an administrator, and one whom it does not serve."""
        self.identity.people |= {
            "alice": Person("alice", "alice@example.com"),
            "bob": Person("bob", "bob@example.org", "example.org"),
            "grace": Person("grace", "grace@example.com", "example.com"),
            "mallory": Person("mallory", "mallory@example.net"),
        }
        self.configure()

    def configure(self, **changes: str) -> None:
        """Configure the Hub anew, with these settings changed."""
        settings = read_settings(ENVIRONMENT | changes)
        self.world.policy = settings.policy
        self.have("settings", settings)
        self.have("caller_limit", CallerLimit(settings.edge.requests_per_minute))

    def have(self, name: str, part: object) -> None:
        """Put something in the place of a part of the process's hub; production code knows nothing of it."""
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
        """Call an HTTP function by its own method, as somebody, with a JSON body if there is one."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        method = options.pop("method", None) or CATALOGUE[name].routes[0].method
        if body is not None:
            options |= {"data": json.dumps(body), "content_type": "application/json"}
        return client_of(name).open(path, method=method, headers=headers, **options)

    def create(self, body: object, **options: Any) -> TestResponse:
        """Ask for a workspace."""
        return self.call("create_workspace", "/workspaces", body, **options)

    def listed(self, query: str = "", **options: Any) -> TestResponse:
        """Ask for the list."""
        return self.call("list_workspaces", f"/workspaces{query}", **options)

    def status(self, workspace_id: str, **options: Any) -> TestResponse:
        """Ask for the real-time status."""
        return self.call("get_workspace_status", f"/workspaces/{workspace_id}/status", **options)

    def events(self, workspace_id: str, query: str = "", **options: Any) -> TestResponse:
        """Ask for the audit trail."""
        return self.call("list_events", f"/workspaces/{workspace_id}/events{query}", **options)

    def all_events(self, query: str = "", **options: Any) -> TestResponse:
        """Ask for everybody's audit trail."""
        return self.call("list_events", f"/events{query}", **options)

    def stop(self, workspace_id: str, **options: Any) -> TestResponse:
        """Ask for a stop."""
        return self.call("stop_workspace", f"/workspaces/{workspace_id}/stop", **options)

    def start(self, workspace_id: str, body: object = None, **options: Any) -> TestResponse:
        """Ask for a start."""
        return self.call("start_workspace", f"/workspaces/{workspace_id}/start", body, **options)

    def delete(self, workspace_id: str, **options: Any) -> TestResponse:
        """Ask for a deletion."""
        return self.call("delete_workspace", f"/workspaces/{workspace_id}", **options)

    def report(
        self, workspace: Workspace, body: object, *, machine: FakeInstance | None = None
    ) -> TestResponse:
        """Report as the workspace's machine, or as another one."""
        sender = machine or self.world.machine(workspace)
        assert sender is not None
        self.identity.machines["machine"] = Machine(
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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Put fakes in the place of the process's ports."""
    functions = Functions(monkeypatch)
    world = functions.world
    ports = {
        "store": world.store,
        "identity": functions.identity,
        "provision_jobs": world.provisioning,
        "operation_jobs": world.operations,
        "machines": world.machines,
        "clock": world.clock,
        "trail": Trail(world.store, world.clock),
    }
    for name, port in ports.items():
        functions.have(name, port)
    monkeypatch.setattr("shared.usecases.change_workspace.PAUSE_SECONDS", 0)
    return functions
