"""The OpenAPI document agrees with the code: paths, inputs, answers and problems."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from flask import Request, Response
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.test import EnvironBuilder

from localcloud.catalogue import EVERYONE, ROOT, read_catalogue
from shared.config import Connect, ConnectKind
from shared.domain import errors, events, lifecycle
from shared.domain.access import Actor, MachineIdentity, authorize_undelete
from shared.domain.changes import Change, Forgotten, Transition, Updated, finish
from shared.domain.course import Lost
from shared.domain.deleted import DeletedWorkspace
from shared.domain.errors import FieldProblem, HubError
from shared.domain.events import Event, hub_events
from shared.domain.forks import check_unused, restorable
from shared.domain.idleness import HeartbeatReason
from shared.domain.instance import Instance, InstanceState
from shared.domain.lifecycle import CLEANUP, NewMachine, NewWorkspace
from shared.domain.owner_limits import take_back
from shared.domain.policy import Policy
from shared.domain.reports import ReportEvent
from shared.domain.snapshot_room import KnownSnapshots
from shared.domain.snapshots import Consistency, Snapshot, SnapshotState, source_of
from shared.domain.workspace import (
    Activity,
    HomeDisk,
    Metadata,
    OperationKind,
    OwnedWorkspace,
    Owner,
    Problem,
    Status,
    StopReason,
    Workspace,
)
from shared.entry import problems
from shared.entry.bodies import (
    read_delete,
    read_deleted_query,
    read_kept_awake,
    read_list_query,
    read_new_connection,
    read_new_machine,
    read_new_snapshot,
    read_new_workspace,
    read_only_dry_run,
    read_page_query,
    read_report,
    read_restore,
    read_undelete,
)
from shared.entry.description import description
from shared.entry.http import SECURITY_HEADERS
from shared.entry.representation import (
    deleted_json,
    event_json,
    reached_json,
    snapshot_json,
    snapshots_json,
    status_json,
    workspace_json,
)
from shared.usecases.deleted_workspaces import ListedDeleted
from shared.usecases.manage_snapshots import SnapshotList
from shared.usecases.manage_workspaces import Reached, RealTimeStatus
from tests.endpoints import ANYBODY, MACHINES, checks

DOCUMENT = description()
POLICY = Policy()
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")


def assert_fits(schema: Mapping[str, Any], value: object) -> None:
    """Check a value against a schema of the document, including formats."""
    whole = {"$ref": "#/schema", "schema": schema, "components": DOCUMENT["components"]}
    found = [
        f"{error.json_path}: {error.message}"
        for error in OAS31Validator(
            whole, format_checker=OAS31Validator.FORMAT_CHECKER
        ).iter_errors(value)
    ]
    assert not found, found


def resolved(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the component that a reference points to, or the node itself."""
    while "$ref" in node:
        _, kind, name = node["$ref"].removeprefix("#/").split("/")
        node = DOCUMENT["components"][kind][name]
    return node


def operations() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ``METHOD /path`` and the operation for each."""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {path}", item[method]


def problem_responses() -> dict[str, Mapping[str, Any]]:
    """Return the problem responses by name."""
    responses: dict[str, Mapping[str, Any]] = DOCUMENT["components"]["responses"]
    return {name: response for name, response in responses.items() if "content" in response}


def problem_of(response: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return the status and the codes of a problem response."""
    properties = response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]
    return properties["status"]["const"], properties["code"]["enum"]


def pairs_in_the_document() -> set[tuple[int, str]]:
    """Return each pair of status and code in the document."""
    return {
        (status, code)
        for status, codes in map(problem_of, problem_responses().values())
        for code in codes
    }


# ---- records in every state ----

ACTOR = Actor("108234567890123456789", "laptop-42", "ada@example.com")


def new_workspace() -> Workspace:
    """Return a workspace that was just created."""
    new = NewWorkspace(
        name="api",
        machine_type="e2-standard-4",
        image_tag="latest",
        zone="us-west1-a",
        metadata=Metadata(branch="main"),
    )
    return workspace_of(
        lifecycle.create(
            UUID, new, lifecycle.NewOperation(OPERATION, ACTOR, NOW), Policy(project_id="example")
        ).workspace
    )


UUID, OPERATION = "0b0e6c3c-6f0e-4c37-9d2b-1f7f8c3c9b52", "5d1c9a2e-7b64-4f0d-8a35-2c9e1f7b6d01"


def workspace_of(workspace: Workspace | None) -> Workspace:
    """Return the workspace of a decision, which must have one."""
    assert workspace is not None
    return workspace


def ready_workspace() -> Workspace:
    """Return a workspace whose machine has reported READY."""
    return workspace_of(
        finish(new_workspace(), Status.READY, "", NOW + timedelta(microseconds=1)).workspace
    )


def suspended_workspace() -> Workspace:
    """Return a workspace that was stopped."""
    return workspace_of(finish(stopping_workspace(), Status.SUSPENDED, "", NOW).workspace)


def stopping_workspace() -> Workspace:
    """Return a workspace that the clean-up is stopping."""
    later = NOW + timedelta(days=1)
    change = lifecycle.expire(
        ready_workspace(),
        lifecycle.NewOperation(OPERATION, Actor(CLEANUP, "laptop-42"), later),
        POLICY,
    )
    return workspace_of(change.workspace if change else None)


def starting_workspace() -> Workspace:
    """Return a workspace that is getting another machine."""
    wanted = NewMachine(machine_type="e2-standard-8")
    change = lifecycle.start(
        suspended_workspace(), lifecycle.NewOperation(OPERATION, ACTOR, NOW), wanted, POLICY
    )
    return workspace_of(change.workspace if change else None)


def deleting_workspace() -> Workspace:
    """Return a workspace deleted during its CREATE, after two zones had no capacity."""
    made = new_workspace()
    assert made.operation is not None
    tried = replace(
        made, operation=replace(made.operation, zones_tried=("us-west1-a", "us-west1-b"))
    )
    change = lifecycle.delete(tried, lifecycle.NewOperation(OPERATION, ACTOR, NOW), POLICY)
    return workspace_of(change.workspace if change else None)


def failed_workspace(kind: OperationKind | None) -> Workspace:
    """Return a workspace in ERROR."""
    problem = Problem(
        "MACHINE_GONE", "The machine is gone.", retryable=False, at=NOW, operation_kind=kind
    )
    return workspace_of(finish(new_workspace(), Status.ERROR, "", NOW, problem).workspace)


WORKSPACES = {
    "new": new_workspace(),
    "ready": ready_workspace(),
    "stopping": stopping_workspace(),
    "suspended": suspended_workspace(),
    "starting": starting_workspace(),
    "deleting": deleting_workspace(),
    "create failed": failed_workspace(OperationKind.CREATE),
    "machine vanished": failed_workspace(None),
}
ADMIN = Actor("115987654321098765432", "phone-7", "grace@example.com", admin=True)


def end_event(before: Workspace, change: Change) -> Event:
    """Return the event of the end that a change is."""
    return hub_events(Transition(before, change), NOW)[-1]


EVENTS = {
    "asked by the owner": events.request_event(ACTOR, ready_workspace(), "StopRequested", NOW),
    "asked by an administrator": events.request_event(
        ADMIN, ready_workspace(), "StopRequested", NOW
    ),
    "asked by the sweep": events.request_event(
        Actor(CLEANUP, "laptop-42"), ready_workspace(), "StopRequested", NOW
    ),
    "refused to another": events.refusal_event(ACTOR, UUID, ADMIN.id, "StatusRequested", NOW),
    "refused where nothing is": events.refusal_event(
        ACTOR, "no uuid at all", "", "StatusRequested", NOW
    ),
    "refused at the door": events.refusal_event(
        Actor(ACTOR.id, "laptop-42"), "", "", "EntryRequested", NOW
    ),
    "ended well": end_event(new_workspace(), Updated(ready_workspace(), "WorkspaceReady")),
    "ended in an error": end_event(
        new_workspace(), Updated(failed_workspace(None), "CreateFailed")
    ),
    "followed": end_event(ready_workspace(), Updated(failed_workspace(None), "MachineGone")),
    "deleted": end_event(deleting_workspace(), Forgotten("WorkspaceDeleted")),
}
HUB_ERRORS: list[HubError] = [
    errors.InvalidRequestError([FieldProblem("name", "is required")]),
    errors.NotAuthenticatedError("The token has expired."),
    errors.QuotaExceededError("You have 5 of at most 5."),
    errors.NotAllowedError("This token is not that of the workspace's machine."),
    errors.WorkspaceNotFoundError(UUID),
    errors.OperationUnderWayError(new_workspace().operation),  # type: ignore[arg-type]
    errors.NotAwakeError(Status.SUSPENDED),
    errors.NameTakenError("You have that."),
    errors.NoHomeError("There is none yet."),
    errors.SnapshotNotFoundError(UUID),
    errors.SnapshotNotReadyError("Try again."),
    errors.SnapshotInUseError("A workspace is made from it."),
    errors.LastCopyGoneError(UUID, NOW),
    errors.NotDeletedError("api"),
    errors.ReportNotTakenError("It is about another boot."),
    errors.WorkspaceGoneError("It has been deleted."),
    errors.IdempotencyKeyReusedError("It was used."),
    errors.TooManyRequestsError("You ask too often.", timedelta(seconds=1.2)),
    errors.InstanceNotRecordedError("Not yet."),
    errors.UnavailableError("Not now."),
]


# ---- the document ----


def test_the_document_is_valid_openapi() -> None:
    """The specification's own schema accepts the document."""
    validate(DOCUMENT)


def test_its_version_is_the_projects() -> None:
    """The contract has the project's version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert DOCUMENT["info"]["version"] == project["version"]


def test_its_operations_are_the_routes_for_everyone() -> None:
    """The document describes every public route of the platform, and no other."""
    functions = [
        function for function in read_catalogue().functions if function.invoker == EVERYONE
    ]
    routes = {f"{route.method} {route.path}" for function in functions for route in function.routes}
    assert {name for name, _ in operations()} == routes


def routes_for(callers: str) -> set[str]:
    """Return the routes of the functions that check these callers."""
    return {
        f"{route.method} {route.path}"
        for function in read_catalogue().functions
        if checks(function) == callers
        for route in function.routes
    }


def test_the_document_says_who_may_call() -> None:
    """The tag marks the machines' routes, and exactly the routes for anybody need no token."""
    tagged = {name for name, operation in operations() if operation["tags"] == ["machines"]}
    unguarded = {name for name, operation in operations() if operation.get("security") == []}
    assert tagged == routes_for(MACHINES)
    assert unguarded == routes_for(ANYBODY)


def codes_of(operation: Mapping[str, Any]) -> set[tuple[int, str]]:
    """Return each pair of status and code that an operation's description has."""
    refusals = [
        resolved(response)
        for status, response in operation["responses"].items()
        if int(status) >= 400
    ]
    return {(status, code) for status, codes in map(problem_of, refusals) for code in codes}


@pytest.mark.parametrize(
    ("name", "operation"), list(operations()), ids=[name for name, _ in operations()]
)
def test_every_operation_has_the_common_refusals(name: str, operation: Mapping[str, Any]) -> None:
    """Checks before the function: size, token, rate, and whether the person is served."""
    everywhere = {(414, "URI_TOO_LONG"), (431, "HEADERS_TOO_LARGE"), (500, "INTERNAL")}
    caller = {
        (401, "NOT_AUTHENTICATED"),
        (403, "NOT_ALLOWED"),
        (429, "TOO_MANY_REQUESTS"),
        (503, "UNAVAILABLE"),
    }
    assert codes_of(operation) >= everywhere, name
    assert codes_of(operation) & caller == (set() if operation.get("security") == [] else caller), (
        name
    )


@pytest.mark.parametrize(
    "operation_id",
    ["create_workspace", "start_workspace", "connect_workspace", "restore_workspace"],
)
def test_an_operation_that_needs_a_running_machine_has_a_quota(operation_id: str) -> None:
    """A create and a start are refused alike at the limit of running workspaces."""
    operation = next(one for _, one in operations() if one["operationId"] == operation_id)
    assert (403, "QUOTA_EXCEEDED") in codes_of(operation)


def test_the_security_headers_are_described() -> None:
    """The introduction names each security header that every answer has."""
    assert [name for name in SECURITY_HEADERS if name not in DOCUMENT["info"]["description"]] == []


def test_every_response_has_the_request_id() -> None:
    """Each answer's description has the header, whether it succeeds or fails."""
    for _, operation in operations():
        for response in operation["responses"].values():
            assert "X-Request-Id" in resolved(response)["headers"]


def test_every_problem_response_has_its_own_status() -> None:
    """A response that an operation refers to has the status under which it stands there."""
    for _, operation in operations():
        for status, response in operation["responses"].items():
            if int(status) >= 400 and "$ref" in response:
                assert problem_of(resolved(response))[0] == int(status)


def test_the_problems_in_the_document_are_those_in_the_code() -> None:
    """The document has exactly the pairs of status and code that the code can answer."""
    hub = {(status, code) for status, code, _ in problems._STATUSES.values()}  # noqa: SLF001
    http = set(problems._HTTP_CODES.items())  # noqa: SLF001
    assert pairs_in_the_document() == hub | http | {(500, "INTERNAL")}


@pytest.mark.parametrize("name", problem_responses())
def test_the_example_of_a_problem_has_its_own_type_and_title(name: str) -> None:
    """Type, title and status of the example are those that the code gives to its problem code."""
    example = problem_responses()[name]["content"]["application/problem+json"]["example"]
    titles = {code: title for _, code, title in problems._STATUSES.values()}  # noqa: SLF001
    titles |= {
        code: default_exceptions[status]().name
        for status, code in problems._HTTP_CODES.items()  # noqa: SLF001
    }
    titles["INTERNAL"] = json.loads(problems.problem_of_fault().get_data())["title"]
    status, codes = problem_of(problem_responses()[name])
    assert example["code"] in codes
    told = problems.problem(status, example["code"], titles[example["code"]], "")
    assert {**example, "detail": ""}.items() >= json.loads(told.get_data()).items()


def contents() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every body that the document describes, and its place."""
    for name, operation in operations():
        for where, node in [
            ("request", operation.get("requestBody", {})),
            *operation["responses"].items(),
        ]:
            for media in resolved(node).get("content", {}).values():
                yield f"{name} {where}", media


@pytest.mark.parametrize(
    ("where", "media"), list(contents()), ids=[where for where, _ in contents()]
)
def test_every_example_fits_its_schema(where: str, media: Mapping[str, Any]) -> None:
    """An example that does not fit would mislead a client's author."""
    examples = (
        [media["example"]]
        if "example" in media
        else [one["value"] for one in media.get("examples", {}).values()]
    )
    assert examples or where == "GET /openapi.json 200"
    for example in examples:
        assert_fits(media["schema"], example)


@pytest.mark.parametrize("kind", ["parameters", "headers"])
def test_every_example_of_a_header_or_parameter_fits_its_schema(kind: str) -> None:
    """An example that does not fit would mislead a client's author."""
    for node in DOCUMENT["components"][kind].values():
        if "example" in node:
            assert_fits(node["schema"], node["example"])


@pytest.mark.parametrize(
    ("schema", "known"),
    [
        (("Status",), Status),
        (("Operation", "kind"), OperationKind),
        (("Instance", "status"), InstanceState),
        (("WorkspaceFields", "last_activity"), Activity),
        (("WorkspaceFields", "stopped_because"), StopReason),
        (("WorkspaceError", "operation_kind"), OperationKind),
        (("DryRun", "loses", "what"), Lost),
        (("Snapshot", "state"), SnapshotState),
        (("Snapshot", "consistency"), Consistency),
        (("Report", "event"), ReportEvent),
        (("Report", "because"), HeartbeatReason),
    ],
)
def test_its_enumerations_are_those_of_the_code(
    schema: tuple[str, ...], known: type[StrEnum]
) -> None:
    """The document has exactly the values that the code has."""
    node = DOCUMENT["components"]["schemas"][schema[0]]
    for name in schema[1:]:
        node = node.get("items", node)["properties"][name]
    assert [value for value in node["enum"] if value is not None] == [
        member.value for member in known
    ]


# ---- answers of the code ----


def schema_named(name: str) -> dict[str, str]:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


@pytest.mark.parametrize("name", WORKSPACES)
def test_a_workspace_in_any_state_fits_its_schema(name: str) -> None:
    """The answer of the endpoints has exactly the members of the schema."""
    assert_fits(schema_named("Workspace"), workspace_json(WORKSPACES[name], POLICY))


WAYS = {
    "iap": Connect(ConnectKind.IAP, 22, "", ""),
    "direct": Connect(ConnectKind.DIRECT, 2222, "ada@bastion.example.com:22", "workspace"),
}


@pytest.mark.parametrize("name", WORKSPACES)
@pytest.mark.parametrize("state", [*InstanceState, None])
@pytest.mark.parametrize("connect", WAYS.values(), ids=WAYS)
def test_a_status_in_any_state_fits_its_schema(
    name: str, state: InstanceState | None, connect: Connect
) -> None:
    """This holds for every state of Compute, and for every way to connect."""
    workspace = WORKSPACES[name]
    instance = (
        Instance(
            id="4711",
            name=workspace.instance_name,
            zone=workspace.zone,
            state=state,
            machine_type=workspace.machine_type,
        )
        if state
        else None
    )
    if state is InstanceState.RUNNING and instance:
        instance = replace(instance, internal_address="10.138.0.7", last_started_at=NOW)
    why = None if instance else "The machine does not exist in Compute Engine."
    assert_fits(
        schema_named("WorkspaceInRealTime"),
        status_json(RealTimeStatus(workspace, instance, why), POLICY, connect),
    )


@pytest.mark.parametrize("name", WORKSPACES)
@pytest.mark.parametrize("connect", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("host", [None, "10.138.0.7"])
def test_a_workspace_that_is_connected_to_fits_its_schema(
    name: str, connect: Connect, host: str | None
) -> None:
    """This holds for every state, whether the machine's address is known or not."""
    assert_fits(
        schema_named("WorkspaceReached"),
        reached_json(Reached(WORKSPACES[name], host), POLICY, connect),
    )


SNAPSHOTS = {
    "uploading": Snapshot(
        id=OPERATION,
        workspace_id=UUID,
        owner_id=ACTOR.id,
        name=None,
        automatic=False,
        state=SnapshotState.UPLOADING,
        consistency=Consistency.CRASH,
        requested_by=ACTOR.id,
        request_id="laptop-42",
        asked_at=NOW,
        captured_at=NOW,
        updated_at=NOW,
        disk_name=f"home-{UUID}",
        zone="us-west1-a",
        machine_type="e2-standard-4",
        image_tag="latest",
        metadata=Metadata(branch="main"),
    )
}
SNAPSHOTS["ready"] = replace(
    SNAPSHOTS["uploading"],
    name="before",
    state=SnapshotState.READY,
    consistency=Consistency.CLEAN,
    ready_at=NOW + timedelta(minutes=3),
    disk_gb=50,
    stored_bytes=0,
)
SNAPSHOTS["failed"] = replace(
    SNAPSHOTS["uploading"],
    state=SnapshotState.FAILED,
    captured_at=None,
    error=Problem("COMPUTE_REFUSED", "It says no.", retryable=False, at=NOW),
)
SNAPSHOTS["deleting"] = replace(SNAPSHOTS["ready"], state=SnapshotState.DELETING)


def ask_for_a_snapshot(workspace: Workspace, kept: int = 0) -> Workspace:
    """Ask for another snapshot of a workspace that has some."""
    known = [replace(SNAPSHOTS["ready"], id=str(number)) for number in range(kept)]
    new = lifecycle.NewOperation(OPERATION, ACTOR, NOW)
    change = lifecycle.snapshot(workspace, new, None, KnownSnapshots(known), POLICY)
    return workspace_of(change.workspace if change else None)


def ask_for_a_restore(state: str, kept: int = 0) -> Workspace:
    """Ask to restore a home from a snapshot; there are others, if so many are kept."""
    source = restorable(OPERATION, SNAPSHOTS[state], UUID, ACTOR)
    known = [replace(source, id=str(number)) for number in range(kept)]
    new = lifecycle.NewOperation(OPERATION, ACTOR, NOW)
    change = lifecycle.restore(with_a_home(), new, source, KnownSnapshots(known), POLICY)
    return workspace_of(change.workspace if change else None)


def ask_for_an_archive(workspace: Workspace) -> Workspace:
    """Ask to archive a workspace."""
    new = lifecycle.NewOperation(OPERATION, ACTOR, NOW)
    change = lifecycle.archive(workspace, new, POLICY)
    return workspace_of(change.workspace if change else None)


def with_a_home() -> Workspace:
    """Return a workspace of which a snapshot can be taken."""
    return replace(ready_workspace(), home_disk=HomeDisk(f"home-{UUID}", "us-west1-a"))


def delete_a_fork_s_source() -> None:
    """Ask to delete a snapshot that a workspace waits for."""
    fork = replace(new_workspace(), name="api-copy", home_source=source_of(SNAPSHOTS["ready"]))
    check_unused(OPERATION, [fork])


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        (
            "SnapshotQuota",
            lambda: ask_for_a_snapshot(with_a_home(), POLICY.snapshots_per_workspace),
        ),
        ("SnapshotRefused", lambda: ask_for_a_snapshot(new_settled_workspace())),
        ("SnapshotInUse", delete_a_fork_s_source),
        ("ArchiveRefused", lambda: ask_for_an_archive(new_settled_workspace())),
        ("RestoreQuota", lambda: ask_for_a_restore("ready", POLICY.snapshots_per_workspace)),
        ("RestoreRefused", lambda: ask_for_a_restore("uploading")),
        (
            "UndeleteRefused",
            lambda: take_back(holding("api-server"), undeleted_workspace(), POLICY),
        ),
        ("DeletedNotFound", lambda: authorize_undelete(ACTOR, UUID, None)),
    ],
)
def test_the_example_of_a_refusal_is_what_the_hub_says(
    name: str, refused: Callable[[], object]
) -> None:
    """People search for these texts."""
    with pytest.raises(HubError) as refusal:
        refused()
    example = problem_responses()[name]["content"]["application/problem+json"]["example"]
    assert example["detail"] == str(refusal.value)


def undeleted_workspace() -> Workspace:
    """Return a workspace that is to be taken back."""
    return replace(suspended_workspace(), name="api-server")


def holding(name: str) -> Owner:
    """Return an owner who has another workspace of this name."""
    return Owner(ACTOR.id, {"another": OwnedWorkspace(name)})


def new_settled_workspace() -> Workspace:
    """Return a workspace that has no home, and no operation under way."""
    return failed_workspace(OperationKind.CREATE)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("snapshots", lambda: ask_for_a_snapshot(with_a_home())),
        ("restore", lambda: ask_for_a_restore("ready")),
        ("archive", lambda: ask_for_an_archive(with_a_home())),
    ],
)
def test_the_example_of_an_operation_on_snapshots_says_what_the_hub_expects(
    path: str, asked: Callable[[], Workspace]
) -> None:
    """Its outlook is the deadline, in the Hub's words; the Hub's answer fits the schema."""
    [answer] = [
        media
        for where, media in contents()
        if where == f"POST /workspaces/{{workspace_id}}/{path} 202"
    ]
    told = workspace_json(asked(), POLICY)
    assert_fits(answer["schema"], told)
    [example], [expected] = answer["example"]["outlook"], told["outlook"]
    words = ("kind", "since", "what", "why", "unless")
    assert [example[each] for each in words] == [expected[each] for each in words]


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_in_any_state_fits_its_schema(name: str) -> None:
    """The answer of the endpoints has exactly the members of the schema."""
    assert_fits(schema_named("Snapshot"), snapshot_json(SNAPSHOTS[name]))


@pytest.mark.parametrize("next_at", [None, NOW])
def test_a_list_of_snapshots_fits_its_schema(next_at: datetime | None) -> None:
    """Of a workspace with all kinds of snapshots, and of one that never had any."""
    listed = SnapshotList(list(SNAPSHOTS.values()) if next_at else [], 5, next_at)
    assert_fits(schema_named("Snapshots"), snapshots_json(listed))


@pytest.mark.parametrize("automatic", [False, True])
def test_a_deleted_workspace_fits_its_schema(automatic: bool) -> None:
    """One that a person has deleted, and one that the sweep has, whose owner had no address."""
    last = suspended_workspace()
    entry = DeletedWorkspace(
        id=UUID,
        owner_id=ACTOR.id,
        workspace=replace(last, owner_email=None) if automatic else last,
        snapshot_id=OPERATION,
        deleted_at=NOW,
        deleted_by=CLEANUP if automatic else ACTOR.id,
        automatic=automatic,
        until=NOW + timedelta(days=7),
    )
    listed = ListedDeleted(entry, snapshots=2, disk_gb=0 if automatic else 50)
    assert_fits(schema_named("DeletedWorkspace"), deleted_json(listed))


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_of_any_kind_fits_its_schema(name: str) -> None:
    """The answer of the audit trail has exactly the members of the schema."""
    assert_fits(schema_named("Event"), event_json(EVENTS[name]))


def test_the_members_of_an_event_are_its_fields() -> None:
    """Each field of an event is answered, and nothing else."""
    assert list(DOCUMENT["components"]["schemas"]["Event"]["properties"]) == list(
        event_json(EVENTS["deleted"])
    )
    assert set(event_json(EVENTS["deleted"])) == set(Event.__dataclass_fields__)


def check_problem(answer: Response) -> None:
    """Check a problem and its headers against a response of the document with its code."""
    body = json.loads(answer.get_data())
    described = [
        response
        for response in problem_responses().values()
        if problem_of(response)[0] == answer.status_code and body["code"] in problem_of(response)[1]
    ]
    assert answer.content_type == "application/problem+json"
    assert described
    for response in described:
        assert_fits(response["content"]["application/problem+json"]["schema"], body)
        for name, header in response["headers"].items():
            if name != "X-Request-Id" and resolved(header)["required"]:
                value: str | int = answer.headers[name]
                assert_fits(
                    resolved(header)["schema"],
                    int(value) if resolved(header)["schema"]["type"] == "integer" else value,
                )


@pytest.mark.parametrize("error", HUB_ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_of_the_hub_is_answered_as_described(error: HubError) -> None:
    """Each error becomes a problem that the document has, with the described headers."""
    check_problem(problems.problem_of_hub_error(error))


def test_every_error_of_the_hub_is_tested() -> None:
    """``HUB_ERRORS`` has every error that has a status."""
    assert {type(error) for error in HUB_ERRORS} == set(problems._STATUSES)  # noqa: SLF001


@pytest.mark.parametrize("status", problems._HTTP_CODES)  # noqa: SLF001
def test_every_refusal_of_http_is_answered_as_described(status: int) -> None:
    """A refusal by HTTP itself becomes a problem that the document has."""
    error: HTTPException = default_exceptions[status]()
    error.valid_methods = ["GET"]  # type: ignore[attr-defined]  # only MethodNotAllowed has it
    check_problem(problems.problem_of_http_error(error))


def test_an_unforeseen_error_is_answered_as_described() -> None:
    """An unforeseen error becomes a problem that the document has."""
    check_problem(problems.problem_of_fault())


# ---- requests that the code reads ----

MACHINE = MachineIdentity("example", "us-west1-a", f"workspace-{UUID}", "4711")
READERS: dict[str, Callable[[Request], object]] = {
    "NewWorkspace": lambda request: read_new_workspace(request, POLICY),
    "NewMachine": lambda request: read_new_machine(request, POLICY),
    "NewConnection": read_new_connection,
    "NewSnapshot": read_new_snapshot,
    "NewRestore": read_restore,
    "Undelete": read_undelete,
    "KeepAwake": read_kept_awake,
    "OnlyDryRun": read_only_dry_run,
    "Report": lambda request: read_report(request, MACHINE),
}


def request_with(body: Any) -> Request:
    """Return a request with a JSON body."""
    return Request(EnvironBuilder(method="POST", json=body).get_environ())


def request_bodies() -> Iterator[tuple[str, Any]]:
    """Yield every example of a request's body, with the name of its schema."""
    for _, operation in operations():
        for media in operation.get("requestBody", {}).get("content", {}).values():
            examples = media.get("examples", {"the": {"value": media.get("example")}})
            for example in examples.values():
                yield media["schema"]["$ref"].rpartition("/")[2], example["value"]


@pytest.mark.parametrize(("schema", "body"), list(request_bodies()))
def test_the_code_reads_every_example_of_a_request(schema: str, body: object) -> None:
    """The code accepts each example without changes."""
    READERS[schema](request_with(body))


@pytest.mark.parametrize(
    "within",
    [
        *("NewWorkspace", "NewMachine", "NewConnection", "NewSnapshot", "KeepAwake", "OnlyDryRun"),
        *("NewRestore", "Undelete", "Report", "NewMetadata", "NewFrom"),
    ],
)
def test_the_fields_of_a_request_are_those_of_the_code(within: str) -> None:
    """The code's message about an unknown field lists the fields that the document has."""
    unknown: Any = {"unknown": 1}
    nested = {"NewMetadata": {"metadata": unknown}, "NewFrom": {"from": unknown}}
    reader = "NewWorkspace" if within in nested else within
    body = nested.get(within, unknown)
    with pytest.raises(errors.InvalidRequestError) as refusal:
        READERS[reader](request_with(body))
    told = next(
        problem.message for problem in refusal.value.problems if problem.field.endswith("unknown")
    )
    known = set(told.rpartition("there are: ")[2].split(", "))
    aliases = {
        first + "".join(map(str.capitalize, rest))
        for first, *rest in (name.split("_") for name in known)
    }
    assert set(DOCUMENT["components"]["schemas"][within]["properties"]) == known | aliases


@pytest.mark.parametrize(
    "values", [("e2-standard-2", "e2-standard-4"), (None, "e2-standard-4"), ("e2-standard-4", None)]
)
def test_a_field_in_two_spellings_is_refused(values: tuple[str | None, str | None]) -> None:
    """It is unclear which spelling was meant, also if one of them is null."""
    snake, camel = values
    with pytest.raises(errors.InvalidRequestError) as refusal:
        read_new_workspace(
            request_with({"name": "api", "machine_type": snake, "machineType": camel}), POLICY
        )
    assert [problem.field for problem in refusal.value.problems] == ["machineType"]


QUERIES: dict[str, Callable[[Request], object]] = {
    "list_workspaces": read_list_query,
    "list_deleted_workspaces": read_deleted_query,
    "delete_workspace": read_delete,
    "list_workspace_events": read_page_query,
    "list_all_events": read_page_query,
}


@pytest.mark.parametrize("operation_id", QUERIES)
def test_the_parameters_of_a_query_are_those_of_the_code(operation_id: str) -> None:
    """The code's message about an unknown parameter lists the parameters of the document."""
    operation = next(one for _, one in operations() if one["operationId"] == operation_id)
    described = {
        parameter["name"]
        for parameter in map(resolved, operation["parameters"])
        if parameter["in"] == "query"
    }
    with pytest.raises(errors.InvalidRequestError) as refusal:
        QUERIES[operation_id](request_asking({"unknown": "1"}))
    assert (
        set(refusal.value.problems[0].message.rpartition("there are: ")[2].split(", ")) == described
    )


def request_asking(query: Mapping[str, str]) -> Request:
    """Return a request with a query."""
    return Request(EnvironBuilder(query_string=query).get_environ())


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"all": "yes"}, "all"),
        ({"owner_id": ""}, "owner_id"),
        ({"owner_id": "x" * 256}, "owner_id"),
        ({"owner_id": ACTOR.id, "all": "true"}, "owner_id"),
        ({"status": "STOPPED"}, "status"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"limit": "101"}, "limit"),
    ],
)
def test_an_invalid_query_is_refused_with_its_parameter(
    query: Mapping[str, str], field: str
) -> None:
    """A person is never answered a list other than the one they wanted."""
    with pytest.raises(errors.InvalidRequestError) as refusal:
        read_list_query(request_asking(query))
    assert [problem.field for problem in refusal.value.problems] == [field]


@pytest.mark.parametrize("schema", ["NewWorkspace", "NewMachine"])
def test_the_refusal_of_an_image_tag_lists_the_allowed_ones(schema: str) -> None:
    """The message has the allowed patterns, and a tag that matches one is accepted."""
    policy = replace(POLICY, image_tags=("latest", "v1.*"))
    body = {"image_tag": "v2.0"} | ({"name": "api"} if schema == "NewWorkspace" else {})
    read = {"NewWorkspace": read_new_workspace, "NewMachine": read_new_machine}[schema]
    with pytest.raises(errors.InvalidRequestError) as refusal:
        read(request_with(body), policy)
    assert refusal.value.problems == (FieldProblem("image_tag", "must be one of latest, v1.*"),)
    read(request_with({**body, "image_tag": "v1.7"}), policy)
