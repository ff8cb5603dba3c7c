"""What people may ask for, by the workspace's status and its operation."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain import lifecycle
from shared.domain.access import Actor
from shared.domain.changes import Updated
from shared.domain.errors import OperationUnderWayError
from shared.domain.lifecycle import NewMachine, NewWorkspace
from shared.domain.policy import Policy
from shared.domain.snapshot_room import KnownSnapshots
from shared.domain.snapshots import source_of
from shared.domain.workspace import (
    Activity,
    Metadata,
    OldHome,
    OperationKind,
    Phase,
    Status,
    Workspace,
)
from tests.fakes.records import A_PROBLEM, NOW, POLICY, a_snapshot, a_workspace, an_operation

ALICE = Actor("alice", "request-1", "alice@example.com")
SAME = NewMachine()
OTHER = NewMachine(image_tag="v2")
REBUILT = NewMachine(rebuild=True)
KINDS = tuple(OperationKind)


def ask(verb: str, workspace: Workspace) -> Updated | None:
    """Ask for a verb on a workspace."""
    match verb:
        case "stop":
            return lifecycle.stop(
                workspace, lifecycle.NewOperation("new-operation", ALICE, NOW), POLICY
            )
        case "start":
            return lifecycle.start(
                workspace, lifecycle.NewOperation("new-operation", ALICE, NOW), SAME, POLICY
            )
        case "start another":
            return lifecycle.start(
                workspace, lifecycle.NewOperation("new-operation", ALICE, NOW), OTHER, POLICY
            )
        case "rebuild":
            return lifecycle.start(
                workspace, lifecycle.NewOperation("new-operation", ALICE, NOW), REBUILT, POLICY
            )
        case "restore" | "restore another":
            source = a_snapshot(workspace, id=verb)
            return lifecycle.restore(
                workspace,
                lifecycle.NewOperation("new-operation", ALICE, NOW),
                source,
                KnownSnapshots([source]),
                POLICY,
            )
        case "archive":
            return lifecycle.archive(
                workspace, lifecycle.NewOperation("new-operation", ALICE, NOW), POLICY
            )
        case _:
            return lifecycle.delete(
                workspace, lifecycle.NewOperation("new-operation", ALICE, NOW), POLICY
            )


def changed(change: Updated | None) -> Workspace:
    """Return the workspace of a change that must be one."""
    assert change is not None
    assert change.workspace is not None
    return change.workspace


# The operation that a verb starts if none is under way, or None if there is nothing to do.
STARTED_OPERATIONS = {
    ("stop", Status.READY): (OperationKind.STOP, Phase.SUSPEND, Status.READY),
    ("stop", Status.SUSPENDED): None,
    ("stop", Status.ERROR): (OperationKind.STOP, Phase.SUSPEND, Status.ERROR),
    ("start", Status.READY): None,
    ("start", Status.SUSPENDED): (OperationKind.START, Phase.SURVEY, Status.SUSPENDED),
    ("start", Status.ERROR): (OperationKind.START, Phase.SURVEY, Status.ERROR),
    ("start another", Status.READY): (
        OperationKind.START,
        Phase.DELETE_INSTANCE,
        Status.PROVISIONING,
    ),
    ("start another", Status.SUSPENDED): (
        OperationKind.START,
        Phase.DELETE_INSTANCE,
        Status.PROVISIONING,
    ),
    ("start another", Status.ERROR): (
        OperationKind.START,
        Phase.DELETE_INSTANCE,
        Status.PROVISIONING,
    ),
    ("rebuild", Status.READY): (OperationKind.START, Phase.DELETE_INSTANCE, Status.PROVISIONING),
    ("rebuild", Status.SUSPENDED): (
        OperationKind.START,
        Phase.DELETE_INSTANCE,
        Status.PROVISIONING,
    ),
    ("rebuild", Status.ERROR): (OperationKind.START, Phase.DELETE_INSTANCE, Status.PROVISIONING),
    ("restore", Status.READY): (OperationKind.RESTORE, Phase.STOP, Status.READY),
    ("restore", Status.SUSPENDED): (OperationKind.RESTORE, Phase.STOP, Status.SUSPENDED),
    ("restore", Status.ERROR): (OperationKind.RESTORE, Phase.STOP, Status.ERROR),
    ("archive", Status.READY): (OperationKind.ARCHIVE, Phase.STOP, Status.READY),
    ("archive", Status.SUSPENDED): (OperationKind.ARCHIVE, Phase.STOP, Status.SUSPENDED),
    ("archive", Status.ERROR): (OperationKind.ARCHIVE, Phase.STOP, Status.ERROR),
    ("delete", Status.READY): (OperationKind.DELETE, Phase.DELETE_INSTANCE, Status.READY),
    ("delete", Status.SUSPENDED): (OperationKind.DELETE, Phase.DELETE_INSTANCE, Status.SUSPENDED),
    ("delete", Status.ERROR): (OperationKind.DELETE, Phase.DELETE_INSTANCE, Status.ERROR),
}


@pytest.mark.parametrize(("verb", "status"), STARTED_OPERATIONS)
def test_a_verb_starts_its_operation_if_none_is_under_way(verb: str, status: Status) -> None:
    """The table has what each verb does in each status."""
    workspace = a_workspace(status)
    expected = STARTED_OPERATIONS[verb, status]

    change = ask(verb, workspace)

    if expected is None:
        assert change is None
        return
    after = changed(change)
    operation = after.operation
    assert operation is not None
    assert (operation.kind, operation.phase, after.status) == expected
    assert (operation.id, operation.step, operation.requested_by) == ("new-operation", 0, "alice")
    assert (operation.requested_at, operation.request_id, operation.automatic) == (
        NOW,
        "request-1",
        False,
    )
    assert operation.deadline_at == NOW + POLICY.deadlines.of(operation.kind)
    assert after.attend_at == NOW + POLICY.attend_after
    assert change is not None
    assert change.job is not None
    assert (change.job.workspace_id, change.job.operation_id, change.job.step) == (
        workspace.id,
        "new-operation",
        0,
    )


SAME_VERB = {
    "stop": OperationKind.STOP,
    "start": OperationKind.START,
    "restore": OperationKind.RESTORE,
    "archive": OperationKind.ARCHIVE,
    "delete": OperationKind.DELETE,
}
MAKE_MACHINES = {OperationKind.CREATE, OperationKind.START, OperationKind.RESTORE}
VERBS = (
    *("stop", "start", "start another", "rebuild"),
    *("restore", "restore another", "archive", "delete"),
)
UNDER_WAY = [(verb, kind) for verb in VERBS for kind in KINDS]


@pytest.mark.parametrize(("verb", "kind"), UNDER_WAY)
@pytest.mark.parametrize("status", Status)
def test_a_verb_during_an_operation_joins_supersedes_or_is_refused(
    verb: str, kind: OperationKind, status: Status
) -> None:
    """The same verb joins the operation, DELETE supersedes it, all else is refused with it.

    While a snapshot is taken, the workspace is what it is, so nobody is refused what is so already.
    """
    workspace = a_workspace(status, an_operation(kind))
    if kind is OperationKind.RESTORE:
        source = source_of(a_snapshot(workspace, id="restore"))
        workspace = replace(workspace, operation=an_operation(kind, restores=source))

    is_so_already = kind is OperationKind.SNAPSHOT and (verb, status) in {
        ("start", Status.READY),
        ("stop", Status.SUSPENDED),
    }
    if SAME_VERB.get(verb) is kind or is_so_already:
        assert ask(verb, workspace) is None
    elif verb == "delete":
        assert changed(ask(verb, workspace)).operation == replace(
            an_operation(OperationKind.DELETE),
            id="new-operation",
            step=0,
            requested_at=NOW,
            phase_since=NOW,
            request_id="request-1",
            deadline_at=NOW + POLICY.deadlines.delete,
            forget_after=NOW + POLICY.worker_timeout if kind in MAKE_MACHINES else None,
        )
    else:
        with pytest.raises(OperationUnderWayError) as refused:
            ask(verb, workspace)
        assert refused.value.operation == workspace.operation
        assert kind.value in str(refused.value)


def test_a_start_for_the_machine_that_is_being_made_joins_the_operation() -> None:
    """A START that names the image of the running START changes nothing."""
    workspace = a_workspace(
        Status.PROVISIONING, an_operation(OperationKind.START, Phase.INSERT), image_tag="v2"
    )

    assert (
        lifecycle.start(workspace, lifecycle.NewOperation("new", ALICE, NOW), OTHER, POLICY) is None
    )


@pytest.mark.parametrize("asked", [REBUILT, NewMachine("v2", rebuild=True)])
def test_a_rebuild_while_a_new_machine_is_made_joins_the_operation(
    asked: NewMachine,
) -> None:
    """A repeated request creates no second machine, whatever the reason for the first."""
    remaking = an_operation(OperationKind.START, Phase.AWAIT_ABSENT, remade=True)
    workspace = a_workspace(Status.PROVISIONING, remaking, image_tag="v2")

    assert (
        lifecycle.start(workspace, lifecycle.NewOperation("new", ALICE, NOW), asked, POLICY) is None
    )


def test_a_rebuild_replaces_the_machine_and_nothing_else() -> None:
    """The memory is lost only when the old machine is deleted; the trail has the request."""
    workspace = a_workspace(Status.READY)

    change = lifecycle.start(workspace, lifecycle.NewOperation("new", ALICE, NOW), REBUILT, POLICY)

    after = changed(change)
    assert (after.image_tag, after.machine_type) == (workspace.image_tag, workspace.machine_type)
    assert (after.instance_id, after.home_disk, after.has_memory) == (
        None,
        workspace.home_disk,
        True,
    )
    assert after.operation is not None
    assert after.operation.remade
    assert change is not None
    assert [note.what for note in change.notes] == ["MachineRemade"]


@pytest.mark.parametrize("verb", ["start", "restore"])
def test_what_cleans_up_after_its_failure_refuses_another(verb: str) -> None:
    """A person cannot join a START or a RESTORE that has already failed."""
    workspace = a_workspace(Status.PROVISIONING)
    source = source_of(a_snapshot(workspace, id=verb))
    failed = an_operation(
        OperationKind(verb.upper()), Phase.STOP, failure=A_PROBLEM, restores=source
    )

    with pytest.raises(OperationUnderWayError):
        ask(verb, replace(workspace, operation=failed))


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_a_person_takes_over_what_a_sweep_has_begun(verb: str) -> None:
    """A heartbeat no longer cancels the STOP, nor a running machine the DELETE.

    Its job waits among the sweep's, so it is sent to the queue for people too.
    """
    kind = OperationKind(verb.upper())
    automatic = an_operation(kind, automatic=True, requested_by=lifecycle.CLEANUP)
    workspace = a_workspace(Status.READY, automatic)

    change = ask(verb, workspace)

    own = replace(automatic, automatic=False, requested_by="alice")
    assert changed(change).operation == own
    assert change is not None
    assert change.event == f"{verb.capitalize()}Confirmed"
    assert change.job is not None
    assert (change.job.operation_id, change.job.step, change.job.can_wait) == (
        own.id,
        own.step,
        False,
    )
    assert ask(verb, replace(workspace, operation=own)) is None


def test_a_start_with_another_machine_drops_the_old_one() -> None:
    """Home disk and generation stay; the memory is lost only when the machine is deleted."""
    workspace = a_workspace(Status.SUSPENDED)

    after = changed(
        lifecycle.start(
            workspace,
            lifecycle.NewOperation("new", ALICE, NOW),
            NewMachine("v2", "e2-standard-8"),
            POLICY,
        )
    )

    assert (after.image_tag, after.machine_type) == ("v2", "e2-standard-8")
    assert (after.ready_generation, after.instance_id) == (workspace.ready_generation, None)
    assert (after.suspended_at, after.machine_running) == (None, False)
    assert (after.home_disk, after.generation) == (workspace.home_disk, workspace.generation)


def test_a_start_with_the_existing_machine_changes_nothing() -> None:
    """A START of a READY workspace with its own image and type has nothing to do."""
    workspace = a_workspace(Status.READY)
    same = NewMachine(workspace.image_tag, workspace.machine_type)

    assert (
        lifecycle.start(workspace, lifecycle.NewOperation("new", ALICE, NOW), same, POLICY) is None
    )


def test_a_restore_names_its_source_and_writes_the_sources_record() -> None:
    """So whoever has read that before must read it again, and cannot delete it meanwhile."""
    workspace = a_workspace(Status.SUSPENDED)

    change = ask("restore", workspace)

    after = changed(change)
    assert change is not None
    [written] = change.snapshots
    assert (written.id, written.updated_at) == ("restore", NOW)
    assert after.operation is not None
    assert after.operation.restores == source_of(written)
    assert after.sources == (source_of(written),)
    assert (after.home_disk, after.home_source) == (workspace.home_disk, None)
    assert after.counts_as_running


def test_a_delete_during_a_restore_is_about_the_home_that_there_was() -> None:
    """What the RESTORE has made is an old home until it is deleted."""
    former = a_workspace(Status.READY)
    source = source_of(a_snapshot(former))
    operation = an_operation(
        OperationKind.RESTORE, Phase.INSERTING, restores=source, former_home=former.home_disk
    )
    made = replace(source, new_disk=f"{former.disk_name}-4")
    workspace = replace(
        former, operation=operation, home_disk=None, home_source=made, zone="us-west1-b"
    )

    after = changed(ask("delete", workspace))

    assert (after.home_disk, after.zone, after.home_source) == (former.home_disk, former.zone, None)
    until = NOW + POLICY.worker_timeout
    assert after.old_homes == (
        OldHome(f"{former.disk_name}-4", "us-west1-b", source.snapshot_id, kept_until=until),
    )
    assert (after.instance_id, after.sources) == (None, ())


def test_a_create_makes_a_workspace_in_provisioning() -> None:
    """The record has what was asked for, the machine's fixed name, and the CREATE."""
    workspace_id = str(uuid.uuid4())
    new = NewWorkspace(
        name="mine",
        machine_type="e2-standard-8",
        image_tag="v3",
        zone="us-west1-b",
        metadata=Metadata("repo", "branch", "device"),
    )

    change = lifecycle.create(
        workspace_id,
        new,
        lifecycle.NewOperation("operation", ALICE, NOW),
        Policy(project_id="project"),
    )

    after = changed(change)
    assert (after.id, after.name, after.instance_name) == (
        workspace_id,
        "mine",
        f"workspace-{workspace_id}",
    )
    assert (after.owner_id, after.owner_email, after.project_id) == (
        "alice",
        "alice@example.com",
        "project",
    )
    assert (after.machine_type, after.image_tag, after.zone) == (
        "e2-standard-8",
        "v3",
        "us-west1-b",
    )
    assert (after.metadata, after.status) == (new.metadata, Status.PROVISIONING)
    assert (after.generation, after.ready_generation, after.instance_id, after.home_disk) == (
        1,
        None,
        None,
        None,
    )
    assert after.created_at == after.updated_at == after.last_connected_at == NOW
    assert (after.last_activity, after.machine_running) == (Activity.CREATED, False)
    assert after.operation is not None
    assert (after.operation.kind, after.operation.phase) == (OperationKind.CREATE, Phase.INSERT)
    assert after.operation.deadline_at == NOW + timedelta(minutes=15)
    assert after.attend_at == NOW + POLICY.attend_after
    assert change.job is not None
    assert (change.job.operation_id, change.job.step, change.job.request_id) == (
        "operation",
        0,
        "request-1",
    )
    assert len(after.instance_name) == 46
