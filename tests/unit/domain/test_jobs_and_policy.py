"""The names of jobs, and the defaults of the policy."""

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
def test_different_jobs_have_different_names(changes: dict[str, object]) -> None:
    """Workspace, operation, step and resend identify a job."""
    assert replace(JOB, **changes).name != JOB.name  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"delay": timedelta(0)}, {"request_id": "another"}])
def test_the_same_job_has_the_same_name(changes: dict[str, object]) -> None:
    """The delay and the request id do not change a job's name."""
    assert replace(JOB, **changes).name == JOB.name  # type: ignore[arg-type]


def test_names_are_legal_and_do_not_begin_alike() -> None:
    """Cloud Tasks allows letters, digits, - and _, and is slow if names share a prefix."""
    names = [replace(JOB, step=step).name for step in range(100)]

    assert all(re.fullmatch(r"[0-9a-f]{40}", name) for name in names)
    assert len({name[:4] for name in names}) > 90


def test_an_operations_job_has_its_step_and_request_id() -> None:
    """The worker logs the id of the request that started the operation."""
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


def test_looks_within_ten_seconds_have_one_name() -> None:
    """However often the status of a drifted workspace is read, it gets one look in ten seconds."""
    workspace = a_workspace()
    ten = NOW.replace(second=20)

    names = {
        look_job(workspace, ten + timedelta(seconds=second), "request").name for second in range(10)
    }
    later = look_job(workspace, ten + timedelta(seconds=10), "request").name

    assert len(names) == 1
    assert later not in names


def test_a_look_after_a_commit_has_its_own_name() -> None:
    """A look of the same moment may have come before the commit, so it does not count."""
    workspace = a_workspace()
    ten = NOW.replace(second=20)

    names = {
        due_look_job(workspace, ten + timedelta(seconds=second), "request").name
        for second in range(10)
    }

    assert len(names) == 10
    assert look_job(workspace, ten, "request").name not in names


def test_the_default_policy_is_that_of_the_contract() -> None:
    """The defaults are those that the HTTP contract names."""
    policy = Policy()

    assert policy.zones[0] == "us-west1-a"
    assert (policy.default_machine_type, policy.default_image_tag) == ("e2-standard-4", "latest")
    assert policy.default_machine_type in policy.machine_types
    assert (policy.limits, policy.changes_per_minute) == (Limits(workspaces=5, running=5), 30)
    assert (policy.idle_after, policy.retention) == (timedelta(minutes=60), timedelta(days=30))
    assert policy.key_lifetime == timedelta(days=1)


def test_each_kind_of_operation_has_its_own_deadline() -> None:
    """``Deadlines.of`` returns the time of that kind of operation."""
    times = {kind: timedelta(minutes=minutes) for minutes, kind in enumerate(OperationKind, 1)}
    deadlines = Deadlines(**{kind.lower(): time for kind, time in times.items()})

    assert {kind: deadlines.of(kind) for kind in OperationKind} == times


def test_a_machine_is_usable_when_its_current_boot_has_reported() -> None:
    """``memory_is_ready`` depends on the generation, not on the status."""
    workspace: Workspace = a_workspace(Status.READY)

    assert workspace.memory_is_ready
    assert not replace(workspace, generation=workspace.generation + 1).memory_is_ready
    assert not replace(workspace, ready_generation=None).memory_is_ready
    assert workspace.disk_name == f"home-{workspace.id}"
    assert str(Phase.SURVEY) == "survey"
