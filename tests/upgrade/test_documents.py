"""Today's code reads what earlier versions wrote, and they read what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.firestore_records import (
    event_document,
    event_record,
    owner_document,
    owner_record,
    workspace_document,
    workspace_record,
)
from shared.domain import steps
from shared.domain.changes import Change, Updated
from shared.domain.idleness import HeartbeatReason, take_heartbeat
from shared.domain.instance import Fault, FaultKind, StartedCall
from shared.domain.job_messages import read_job, write_job
from shared.domain.jobs import Job
from shared.domain.owner_limits import Key
from shared.domain.steps import Call
from shared.domain.workspace import HomeSource, OldHome, OperationKind, Owner, Phase, Workspace
from tests.fakes.machines import fault
from tests.fakes.records import A_PROBLEM, NOW, POLICY, a_step, a_workspace, an_operation
from tests.fakes.store import MemoryWorkspaceStore
from tests.fakes.world import World
from tests.unit.domain.state_table import PHASES, observations, situation
from tests.upgrade.stories import STORIES, tell
from tests.upgrade.versions import SITUATIONS, VERSIONS, Document, Version, named


@pytest.fixture(params=VERSIONS, ids=named)
def version(request: pytest.FixtureRequest) -> Version:
    """Each earlier version."""
    found: Version = request.param
    return found


# ---- what they wrote ----


@pytest.mark.parametrize(("version", "name"), SITUATIONS, ids=named)
def test_a_stored_workspace_and_its_owner_keep_all_fields(version: Version, name: str) -> None:
    """To read and write them back changes none of their fields, except a DELETE's form.

    It keeps a last copy of the home from now on, which the version must not go on without.
    """
    stored = version.situations[name]
    operation = stored["workspace"]["operation"] or {}

    workspace = workspace_document(workspace_record(stored["workspace"]))
    owner = owner_document(owner_record(stored["owner"]))

    expected = {
        field: value for field, value in stored["workspace"].items() if field != "operation"
    }
    if operation.get("kind") == "DELETE" and stored["workspace"]["home_disk"]:
        expected["schema_version"] = 2
    assert {field: workspace[field] for field in expected} == expected
    assert {field: workspace["operation"][field] for field in operation} == operation
    assert {field: owner[field] for field in stored["owner"]} == stored["owner"]


def test_stored_events_are_read(version: Version) -> None:
    """Each keeps all its fields."""
    for stored in version.events.values():
        read = event_document(event_record(stored))
        assert stored.get("times", 1) == read["times"]
        assert {field: read[field] for field in stored if field != "expire_at"} == {
            field: value for field, value in stored.items() if field != "expire_at"
        }


def test_waiting_messages_are_read_and_keep_their_names(version: Version) -> None:
    """A job that both versions send is one task, and is done once."""
    waiting = [
        *version.jobs.values(),
        *filter(None, (each["job"] for each in version.situations.values())),
    ]
    for message in waiting:
        job = read_job(json.dumps(message["body"]).encode())
        assert json.loads(write_job(job)) == message["body"]
        assert message.get("name", job.name) == job.name


# ---- what they read ----


def test_the_version_can_read_what_every_decision_writes(version: Version) -> None:
    """Every decision is tried: phases, observed states, refusals by Compute, and deadlines."""
    changes = [change for change in _every_change() if isinstance(change, Updated)]
    phases = {change.workspace.operation.phase for change in changes if change.workspace.operation}
    assert phases == set(Phase)

    for workspace in {change.workspace for change in changes}:
        _assert_readable_or_refused(version, workspace)
    for job in {change.job for change in changes if change.job}:
        assert version.complaints(json.loads(write_job(job)), "Job") == []


def _every_change() -> Iterator[Change]:
    for kind, failed, phases in PHASES.values():
        for phase in phases:
            for memory in (True, False):
                workspace = situation(kind, phase, failed=failed, memory_is_ready=memory)
                yield from _changes_of(workspace)


def _changes_of(workspace: Workspace) -> Iterator[Change]:
    assert workspace.operation is not None
    too_late = workspace.operation.deadline_at + timedelta(seconds=1)
    for _, seen in observations(workspace):
        situations = [(seen, NOW), (seen, too_late)]
        situations += [
            (replace(seen, fault=fault(kind, "disks/something")), NOW) for kind in FaultKind
        ]
        for what, at in situations:
            decision = steps.plan(a_step(workspace, what, now=at))
            if isinstance(decision, Change):
                yield decision
            else:
                yield from _outcomes(workspace, what, decision)
    yield steps.overdue_unseen(a_step(workspace))


def _outcomes(workspace: Workspace, seen: steps.StepInput, call: Call) -> Iterator[Change]:
    outcomes: list[StartedCall | Fault] = [
        StartedCall("an-operation", "1"),
        *(fault(kind, "disks/something") for kind in FaultKind),
    ]
    for outcome in outcomes:
        yield steps.record_outcome(a_step(workspace, seen), call, outcome)


def test_the_version_can_read_what_a_heartbeat_writes(version: Version) -> None:
    """This holds for each reason and for none."""
    for reason in (*HeartbeatReason, None):
        moved = take_heartbeat(a_workspace(), reason, NOW, POLICY)
        assert moved is not None
        _assert_readable(version, moved)


@pytest.mark.parametrize("story", STORIES, ids=named)
def test_the_version_can_read_all_that_a_story_stores_and_sends(
    version: Version, story: str
) -> None:
    """This covers every record, owner, event and job of a story with faults."""
    written: list[Workspace] = []
    world = World(
        store=MemoryWorkspaceStore(lambda _, after: written.append(after) if after else None)
    )

    tell(world, story)

    assert len(written) > 5
    for workspace in written:
        _assert_readable_or_refused(version, workspace)
    for owner in world.store.owners.values():
        assert version.complaints(owner_document(owner), "Owner") == []
    for event in world.store.events:
        assert version.complaints(event_document(event), "Event") == []
    for job in (*world.provisioning.sent, *world.operations.sent):
        assert version.complaints(json.loads(write_job(job)), "Job") == []


def test_the_version_can_read_an_owner_with_all_fields(version: Version) -> None:
    """It does not know organisations, so it drops the domain when it writes."""
    world = World()
    world.create("alice", "one", key=Key("a" * 64, "b" * 64))
    (owner,) = world.store.owners.values()

    assert owner.keys
    assert owner.recent
    document = owner_document(replace(owner, domain="example.com"))
    assert version.complaints(document, "Owner") == []
    assert owner_record(version.as_rewritten(document, "Owner")) == owner


@pytest.mark.parametrize(
    "workspace",
    [
        a_workspace(home_source=HomeSource("a-snapshot", "home-snapshot-1", 50, "home-1")),
        a_workspace(operation=an_operation(OperationKind.SNAPSHOT)),
        a_workspace(error=replace(A_PROBLEM, operation_kind=OperationKind.SNAPSHOT)),
        a_workspace(operation=an_operation(OperationKind.RESTORE)),
        a_workspace(error=replace(A_PROBLEM, operation_kind=OperationKind.RESTORE)),
        a_workspace(old_homes=(OldHome("home-1", "us-west1-a", "a-snapshot"),)),
        a_workspace(operation=an_operation(OperationKind.DELETE)),
        a_workspace(operation=an_operation(OperationKind.DELETE, Phase.AWAIT_STORED)),
        a_workspace(
            operation=an_operation(
                OperationKind.DELETE,
                Phase.DELETE_DISK,
                last_copy=HomeSource("a-snapshot", "home-snapshot-1", 50, "home-1"),
            )
        ),
        a_workspace(operation=an_operation(OperationKind.ARCHIVE)),
        a_workspace(error=replace(A_PROBLEM, operation_kind=OperationKind.ARCHIVE)),
        a_workspace(operation=an_operation(OperationKind.START, Phase.STOP, moves=True)),
        a_workspace(operation=an_operation(OperationKind.START, Phase.RESIZE_DISK)),
        a_workspace(operation=an_operation(OperationKind.START, Phase.AWAIT_RESIZED)),
    ],
    ids=[
        *("home to be made from one", "under way", "failed"),
        *("restore under way", "restore failed", "old home"),
        *("last copy to come", "last copy under way", "last copy taken"),
        *("archive under way", "archive failed", "moves", "to grow", "grows"),
    ],
)
def test_the_version_refuses_a_record_that_it_would_spoil(
    version: Version, workspace: Workspace
) -> None:
    """It would make an empty home, forget an old one or a machine, or delete one without a copy.

    It does not know the operations and phases. It changes nothing.
    """
    assert "Workspace is of a newer schema" in version.complaints(
        workspace_document(workspace), "Workspace"
    )


@pytest.mark.parametrize(
    "changes", [{"purge": True}, {"home_disk": None}], ids=["purge", "without a home"]
)
def test_the_version_can_go_on_with_a_deletion_that_keeps_nothing(
    version: Version, changes: dict[str, Any]
) -> None:
    """It ends in either version with nothing left."""
    purge = changes.pop("purge", False)
    deleting = replace(an_operation(OperationKind.DELETE), purge=purge)

    _assert_readable(version, a_workspace(operation=deleting, **changes))


def test_the_version_can_read_a_workspace_that_has_snapshots(version: Version) -> None:
    """Nothing is under way with them. When the last was asked for is in a field of its own."""
    _assert_readable(version, a_workspace(snapshot_asked_at=NOW))


def test_the_version_takes_a_snapshots_job_as_a_look_at_its_workspace(version: Version) -> None:
    """That does no harm. Today's version resends the job after the next upgrade."""
    message = json.loads(write_job(Job("a", None, 1, snapshot_id="c")))
    assert version.complaints(message, "Job") == []
    fields = version.schema["records"]["Job"]
    known = {name: value for name, value in message.items() if name in fields}
    assert read_job(json.dumps(known).encode()) == Job("a", None, 1)


def _assert_readable_or_refused(version: Version, workspace: Workspace) -> None:
    """Check that the version can use a record, unless that needs a newer form."""
    if workspace.schema_version <= version.schema["schema_version"]:
        _assert_readable(version, workspace)


def _assert_readable(version: Version, workspace: Workspace) -> None:
    """Check that the version reads a record, and that its rewriting loses nothing it needs."""
    document = workspace_document(workspace)
    assert version.complaints(document, "Workspace") == []
    rewritten = version.as_rewritten(document, "Workspace")
    assert version.complaints(rewritten, "Workspace") == []
    workspace_record(rewritten)


# ---- the checks notice incompatible documents ----


def _changed(change: Callable[[Document], Any]) -> Document:
    document = workspace_document(a_workspace(operation=an_operation(OperationKind.STOP)))
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda document: document.update(status="PAUSED"), "Workspace.status is 'PAUSED'"),
        (
            lambda document: document["operation"].update(phase="unheard_of"),
            "Workspace.operation.phase is 'unheard_of'",
        ),
        (lambda document: document.pop("zone"), "Workspace.zone is missing"),
        (lambda document: document["operation"].pop("step"), "Workspace.operation.step is missing"),
        (lambda document: document.update(generation="1"), "Workspace.generation is '1'"),
        (
            lambda document: document["metadata"].update(colour="red"),
            "Workspace.metadata.colour is not known",
        ),
        (
            lambda document: document["home_disk"].update(size=1),
            "Workspace.home_disk.size is not known",
        ),
        (lambda document: document.update(schema_version=2), "Workspace is of a newer schema"),
    ],
)
def test_a_document_that_the_version_cannot_read_is_noticed(
    version: Version, change: Callable[[Document], Any], said: str
) -> None:
    """Examples are an unknown status, a missing field, and a field that the version rejects."""
    complaints = version.complaints(_changed(change), "Workspace")

    assert [complaint for complaint in complaints if complaint.startswith(said)] != []


def test_a_field_that_the_version_ignores_is_accepted(version: Version) -> None:
    """The version drops such a field, and nothing else."""
    document = _changed(lambda document: document["operation"].update(colour="red"))

    assert version.complaints(document, "Workspace") == []
    assert "colour" not in version.as_rewritten(document, "Workspace")["operation"]


def test_an_unknown_field_of_what_an_owner_holds_is_noticed(version: Version) -> None:
    """The version would refuse to read the owner, and so every request of theirs."""
    document = owner_document(Owner("alice"))
    document["workspaces"] = {"an-id": {"name": "one", "running": False, "colour": "red"}}

    assert version.complaints(document, "Owner") == ["Owner.workspaces[an-id].colour is not known"]


def test_a_job_without_its_step_is_noticed(version: Version) -> None:
    """It would become a dead letter."""
    message = json.loads(write_job(Job("a", "b", 1)))
    del message["step"]

    assert version.complaints(message, "Job") == ["Job.step is missing"]
