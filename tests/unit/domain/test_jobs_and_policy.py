"""What jobs are called, and the numbers that decisions go by."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.changes import due_look_job, job_of, look_job
from shared.domain.jobs import Job
from shared.domain.policy import Deadlines, Limits, Policy
from shared.domain.workspace import OperationKind, Phase, Status, Workspace
from tests.fakes.records import NOW, a_workspace, an_operation

JOB = Job("workspace", "operation", 3, resend=1, delay=timedelta(seconds=9), request_id="request")


@pytest.mark.parametrize(
    "changes",
    [
        {"workspace_id": "another"},
        {"operation_id": "another"},
        {"operation_id": None},
        {"step": 4},
        {"resend": 2},
    ],
)
def test_another_job_has_another_name(changes: dict[str, object]) -> None:
    """Workspace, operation, step and resend make the job."""
    assert replace(JOB, **changes).name != JOB.name  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"delay": timedelta(0)}, {"request_id": "another"}])
def test_the_same_job_has_the_same_name(changes: dict[str, object]) -> None:
    """When it is to be done, and who asked for it first, does not make it another one."""
    assert replace(JOB, **changes).name == JOB.name  # type: ignore[arg-type]


def test_names_are_legal_and_do_not_begin_alike() -> None:
    """Cloud Tasks takes letters, digits, - and _, and slows down on names with a common beginning."""
    names = [replace(JOB, step=step).name for step in range(100)]

    assert all(re.fullmatch(r"[0-9a-f]{40}", name) for name in names)
    assert len({name[:4] for name in names}) > 90


def test_the_job_of_an_operation_is_that_of_its_step() -> None:
    """It carries the request that began it all to the worker's log."""
    operation = an_operation(OperationKind.STOP, resends=2)
    workspace = a_workspace(Status.READY, operation)

    assert job_of(workspace, operation, timedelta(seconds=4)) == Job(
        workspace.id,
        operation.id,
        operation.step,
        resend=2,
        delay=timedelta(seconds=4),
        request_id="a-request",
    )


def test_looks_at_the_same_moment_are_the_same_look() -> None:
    """However often somebody asks for the status of a drifted workspace, a worker looks at most every ten seconds."""
    workspace = a_workspace()
    ten = NOW.replace(second=20)

    names = {
        look_job(workspace, ten + timedelta(seconds=second), "request").name for second in range(10)
    }
    later = look_job(workspace, ten + timedelta(seconds=10), "request").name

    assert len(names) == 1
    assert later not in names


def test_a_look_that_follows_a_commit_is_a_look_of_its_own() -> None:
    """A look of the same moment, which may have been before the commit, does not stand for it."""
    workspace = a_workspace()
    ten = NOW.replace(second=20)

    names = {
        due_look_job(workspace, ten + timedelta(seconds=second), "request").name
        for second in range(10)
    }

    assert len(names) == 10
    assert look_job(workspace, ten, "request").name not in names


def test_the_usual_policy_is_that_of_the_contract() -> None:
    """The defaults that the contract names."""
    policy = Policy()

    assert policy.zones[0] == "us-west1-a"
    assert (policy.default_machine_type, policy.default_image_tag) == ("e2-standard-4", "latest")
    assert policy.default_machine_type in policy.machine_types
    assert (policy.limits, policy.changes_per_minute) == (Limits(workspaces=5, running=5), 30)
    assert (policy.idle_after, policy.retention) == (timedelta(minutes=60), timedelta(days=30))
    assert policy.key_lifetime == timedelta(days=1)


def test_each_kind_of_operation_has_its_own_deadline() -> None:
    """CREATE, START, STOP and DELETE may take different times."""
    times = {kind: timedelta(minutes=minutes) for minutes, kind in enumerate(OperationKind, 1)}
    deadlines = Deadlines(**{kind.lower(): time for kind, time in times.items()})

    assert {kind: deadlines.of(kind) for kind in OperationKind} == times


def test_a_machine_is_usable_when_its_current_boot_has_reported() -> None:
    """``awake`` is about the generation, not about the status."""
    workspace: Workspace = a_workspace(Status.READY)

    assert workspace.memory_is_ready
    assert not replace(workspace, generation=workspace.generation + 1).memory_is_ready
    assert not replace(workspace, ready_generation=None).memory_is_ready
    assert workspace.disk_name == f"home-{workspace.id}"
    assert str(Phase.SURVEY) == "survey"
