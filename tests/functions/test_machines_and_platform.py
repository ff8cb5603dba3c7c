"""Callback, workers and sweeps, called as by machines, Pub/Sub, Cloud Tasks and the scheduler."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from shared import logs
from shared.domain.errors import UnavailableError
from shared.domain.events import Event
from shared.domain.instance import FaultKind, InsertInstance, StartInstance
from shared.domain.job_messages import write_job
from shared.domain.jobs import Job
from shared.domain.workspace import OperationKind, Phase, Status
from tests.fakes.machines import Mishap
from tests.fakes.records import a_workspace, an_operation
from tests.fakes.store import Counts
from tests.fakes.world import place_of
from tests.functions.conftest import Functions, client_of


def booting(hub: Functions) -> Any:
    """Return a workspace whose machine runs but has not reported yet."""
    workspace = hub.world.create("alice", "one")
    hub.world.pass_time(timedelta(seconds=30))
    assert hub.world.workspace(workspace.id).operation is not None
    return hub.world.workspace(workspace.id)


# ---- machines ----


def test_a_ready_report_makes_the_workspace_ready(hub: Functions) -> None:
    """It is 204 without a body, for a read and a commit; a repeated report changes nothing."""
    workspace = booting(hub)
    hub.world.store.counts = counts = Counts()

    answers = [
        hub.report(workspace, {"event": "ready", "generation": workspace.generation})
        for _ in range(2)
    ]

    assert [(answer.status_code, answer.data) for answer in answers] == [(204, b""), (204, b"")]
    assert (counts.reads, counts.commits) == (2, 1)
    assert hub.world.workspace(workspace.id).status is Status.READY


def test_a_report_of_an_earlier_boot_is_409(hub: Functions) -> None:
    """The machine learns from the 409 that it need not repeat the report."""
    workspace = hub.world.ready()
    hub.start(workspace.id, {"image_tag": "v2"})
    hub.world.pass_time(timedelta(seconds=60))
    booted = hub.world.workspace(workspace.id)
    assert booted.generation > workspace.generation

    answer = hub.report(booted, {"event": "ready", "generation": workspace.generation})

    assert (answer.status_code, answer.get_json()["code"]) == (409, "REPORT_NOT_TAKEN")
    assert hub.world.workspace(workspace.id) == booted


def test_a_heartbeat_is_written_at_most_once_a_minute(hub: Functions) -> None:
    """It moves the last connection, from which idle time counts."""
    workspace = hub.world.ready()
    beat = {"event": "heartbeat", "generation": workspace.generation}
    hub.world.clock.advance_to(workspace.last_connected_at + timedelta(seconds=61))
    hub.world.store.counts = counts = Counts()

    answers = [hub.report(workspace, beat) for _ in range(5)]

    assert {answer.status_code for answer in answers} == {204}
    assert (counts.reads, counts.commits) == (5, 1)
    assert hub.world.workspace(workspace.id).last_connected_at == hub.world.clock()


def test_the_owner_reads_the_machines_reason_for_a_failed_boot(hub: Functions) -> None:
    """The unusable machine is deleted, and the error has the machine's message."""
    workspace = booting(hub)
    report = {
        "event": "failed",
        "generation": workspace.generation,
        "code": "IMAGE_PULL_FAILED",
        "message": "No such tag.",
    }

    answer = hub.report(workspace, report)
    hub.world.run()

    assert answer.status_code == 204
    error = hub.status(workspace.id).get_json()["error"]
    assert (error["code"], error["operation_kind"], error["retryable"]) == (
        "IMAGE_PULL_FAILED",
        "CREATE",
        False,
    )
    assert "No such tag." in error["message"]
    assert (hub.world.machines.instances, hub.world.machines.disks) == ({}, set())


# ---- Cloud Tasks ----


def test_a_task_does_its_step_and_sends_the_next(hub: Functions) -> None:
    """It costs two reads, a commit and the next task."""
    workspace = hub.world.ready()
    hub.stop(workspace.id)
    job = hub.world.operations.take_due()
    assert job is not None
    hub.world.store.counts = counts = Counts()

    answer = hub.task(job)

    operation = hub.world.workspace(workspace.id).operation
    assert answer.status_code == 204
    assert operation is not None
    assert (operation.phase, operation.step) == (Phase.AWAIT_SUSPENDED, job.step + 1)
    assert (counts.reads, counts.commits) == (2, 1)
    assert hub.world.operations.sent[-1].step == job.step + 1


def test_a_task_that_is_delivered_again_repeats_no_call(hub: Functions) -> None:
    """Only the current job is sent again, with the name that it already has."""
    workspace = hub.world.ready()
    hub.stop(workspace.id)
    job = hub.world.operations.take_due()
    assert job is not None
    hub.task(job)
    calls, waiting = len(hub.world.machines.calls), len(hub.world.operations.waiting)

    answer = hub.task(job)

    assert answer.status_code == 204
    assert len(hub.world.machines.calls) == calls
    assert len(hub.world.operations.waiting) == waiting


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"workspace_id": 1}'])
def test_a_malformed_task_is_dropped_with_an_error_in_the_log(
    hub: Functions, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 204, since it will never be a job and must not be delivered again."""
    answer = hub.task(data)

    assert answer.status_code == 204
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR
    ] == ["MalformedJobDropped"]
    assert hub.world.store.counts.reads == 0


@pytest.mark.parametrize("operation_id", [None, "unknown"])
def test_a_task_of_a_workspace_that_is_gone_is_done(
    hub: Functions, operation_id: str | None
) -> None:
    """The answer is 204, since nothing is left to do."""
    assert hub.task(Job(a_workspace().id, operation_id, 1)).status_code == 204


def test_a_task_without_an_answer_of_compute_is_503(hub: Functions) -> None:
    """Nothing is written, so the next delivery does the same step."""
    workspace = hub.world.ready()
    hub.stop(workspace.id)
    job = hub.world.operations.take_due()
    assert job is not None
    hub.world.machines.unanswered_reads = 1
    before = hub.world.workspace(workspace.id)

    refused, done = hub.task(job), hub.task(job)

    assert (refused.status_code, done.status_code) == (503, 204)
    assert before != hub.world.workspace(workspace.id)


def test_the_workers_log_the_id_of_the_first_request(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes from the entry through the queue to each line of the workers."""
    lines: list[tuple[str, str]] = []
    info = logs.info

    def noted(event: str, **fields: object) -> None:
        lines.append((event, logs.request_id.get()))
        info(event, **fields)

    monkeypatch.setattr(logs, "info", noted)
    workspace_id = hub.create({"name": "one"}, headers={"X-Request-Id": "request-9"}).get_json()[
        "id"
    ]
    first = hub.world.provisioning.take_due()
    assert first is not None

    hub.push("provision_workspace", write_job(first))
    hub.world.clock.advance(timedelta(seconds=15))
    second = hub.world.operations.take_due()
    assert second is not None
    hub.task(second)

    assert hub.world.workspace(workspace_id).operation is not None
    assert [event for event, _ in lines] == [
        *(
            "WorkspaceRequested",
            "RequestAnswered",
            "InsertInstance",
            "StepAwaited",
            "RequestAnswered",
        )
    ]
    assert {request_id for event, request_id in lines if event != "RequestAnswered"} == {
        "request-9"
    }


def test_the_end_of_an_operation_is_one_log_line(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dashboard needs no other line for its kind, its result and its duration."""
    ended: list[dict[str, Any]] = []
    monkeypatch.setattr(
        logs,
        "info",
        lambda event, **fields: ended.append(fields) if event == "OperationEnded" else None,
    )
    workspace_id = hub.create({"name": "one"}).get_json()["id"]
    hub.world.run()
    hub.stop(workspace_id)
    hub.delete(workspace_id)
    hub.world.run()

    assert [(line["operation_kind"], line["result"], line["requested_by"]) for line in ended] == [
        ("CREATE", "READY", "alice"),
        ("STOP", "SUPERSEDED", "alice"),
        ("DELETE", "DELETED", "alice"),
    ]
    assert all(line["workspace_id"] == workspace_id and line["operation_id"] for line in ended)
    assert ended[0]["seconds"] > 40  # insert and boot of a machine, in virtual time
    assert (ended[0]["steps"] >= 2, ended[0]["last_phase"]) == (True, "await_ready")


def test_a_stop_that_succeeds_is_a_success_after_an_earlier_error(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record keeps the reason for the ERROR, but it is not the result of the STOP."""
    ended: list[dict[str, Any]] = []
    monkeypatch.setattr(
        logs,
        "info",
        lambda event, **fields: ended.append(fields) if event == "OperationEnded" else None,
    )
    workspace_id = hub.create({"name": "one"}).get_json()["id"]
    hub.world.run()
    workspace = hub.world.workspace(workspace_id)
    hub.world.machines.stop_by_hand(place_of(workspace))
    hub.world.look(workspace)
    hub.world.run()
    hub.world.machines.script(StartInstance, Mishap.REFUSED, FaultKind.QUOTA)
    hub.start(workspace_id)
    hub.world.run()
    failed = hub.world.workspace(workspace_id)

    hub.stop(workspace_id)
    hub.world.run()

    assert (hub.world.workspace(workspace_id).status, hub.world.workspace(workspace_id).error) == (
        Status.SUSPENDED,
        failed.error,
    )
    assert [(line["operation_kind"], line["result"]) for line in ended[1:]] == [
        ("START", "COMPUTE_QUOTA_EXCEEDED"),
        ("STOP", "SUSPENDED"),
    ]


# ---- Pub/Sub ----


def test_a_provisioning_message_makes_the_machine(hub: Functions) -> None:
    """A 2xx acknowledges the message; further steps use Cloud Tasks."""
    workspace_id = hub.create({"name": "one"}).get_json()["id"]
    job = hub.world.provisioning.take_due()
    assert job is not None

    answers = [hub.push("provision_workspace", write_job(job)) for _ in range(2)]

    assert all(200 <= answer.status_code < 300 for answer in answers)
    assert len(hub.world.machines.instances) == 1
    assert len(hub.world.machines.calls) == 1
    workspace = hub.world.workspace(workspace_id)
    assert workspace.operation is not None
    assert workspace.operation.phase is Phase.INSERTING
    assert not hub.world.provisioning.waiting
    assert len(hub.world.operations.waiting) == 1


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"{}", b'{"workspace_id": 7, "operation_id": null, "step": 0}']
)
def test_a_malformed_provisioning_message_becomes_a_dead_letter(
    hub: Functions, data: bytes
) -> None:
    """The answer is 5xx each time, so the subscription gives the message up after its attempts."""
    assert hub.push("provision_workspace", data).status_code == 500


def test_a_provisioning_message_is_repeated_while_compute_is_away(hub: Functions) -> None:
    """The answer is 503 without a change, and the next delivery creates the machine."""
    hub.create({"name": "one"})
    job = hub.world.provisioning.take_due()
    assert job is not None
    hub.world.machines.script(InsertInstance, Mishap.UNANSWERED)

    refused = hub.push("provision_workspace", write_job(job))
    done = hub.push("provision_workspace", write_job(job))

    assert (refused.status_code, 200 <= done.status_code < 300) == (503, True)
    assert len(hub.world.machines.instances) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnavailableError("away"), (503, logging.WARNING)),
        (KeyError("a field"), (500, logging.ERROR)),
    ],
    ids=["passes by itself", "does not"],
)
@pytest.mark.parametrize("name", ["provision_workspace", "advance_operation", "record_dead_letter"])
def test_only_a_failure_that_does_not_pass_by_itself_is_logged_as_an_error(
    hub: Functions,
    name: str,
    error: Exception,
    expected: tuple[int, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error alerts somebody, so a failure that the next delivery repairs must not be one."""

    def fails(*_: object, **__: object) -> None:
        raise error

    workspace = hub.world.ready()
    hub.patch.setattr(hub.world.store, "get", fails)
    hub.patch.setattr(hub.world.store, "commit", fails)
    caplog.clear()

    job = Job(workspace.id, "an-operation", 1)
    answer = hub.task(job) if name == "advance_operation" else hub.push(name, write_job(job))

    highest = max(
        record.levelno for record in caplog.records if record.getMessage() != "DeadLetter"
    )
    assert (answer.status_code, highest) == expected


def dead_letters(hub: Functions) -> list[Event]:
    """Return the audit trail's events about dead letters."""
    return [event for event in hub.world.store.events if event.what == "DeadLetterRecorded"]


def test_a_dead_letter_ends_its_create_with_the_reason(hub: Functions) -> None:
    """The workspace is in ERROR with a message, nothing runs, and the trail has an event."""
    body = hub.create({"name": "one"}, headers={"X-Request-Id": "request-5"}).get_json()
    job = hub.world.provisioning.take_due()
    assert job is not None
    attributes = {"CloudPubSubDeadLetterSourceDeliveryCount": "10"}

    answer = hub.push("record_dead_letter", write_job(job), attributes)
    hub.world.run()

    assert 200 <= answer.status_code < 300
    after = hub.world.workspace(body["id"])
    assert (after.status, after.operation) == (Status.ERROR, None)
    assert after.error is not None
    assert after.error.code == "NOT_CARRIED_OUT"
    assert "10 times" in after.error.message
    [event] = dead_letters(hub)
    assert (event.workspace_id, event.owner_id) == (body["id"], "alice")
    assert (event.request_id, event.result.split(":")[0]) == ("request-5", "failed")
    assert hub.world.machines.instances == {}


def test_a_dead_letter_of_a_create_that_continued_is_only_recorded(
    hub: Functions,
) -> None:
    """A copy of the message was delivered after all."""
    workspace = hub.world.ready()
    job = hub.world.provisioning.sent[0]

    answer = hub.push("record_dead_letter", write_job(job))

    assert 200 <= answer.status_code < 300
    assert hub.world.workspace(workspace.id) == workspace
    assert [event.result.split(":")[0] for event in dead_letters(hub)] == ["ignored"]


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xfe", b"{}"])
def test_a_malformed_dead_letter_is_recorded(hub: Functions, data: bytes) -> None:
    """It is acknowledged, since it would otherwise be delivered forever."""
    answer = hub.push("record_dead_letter", data)

    assert 200 <= answer.status_code < 300
    [event] = hub.world.store.events
    assert (event.workspace_id, event.owner_id) == ("", "")
    assert "not a job" in event.result


def test_a_dead_letter_of_a_deleted_workspace_is_recorded(hub: Functions) -> None:
    """There is no operation to end, but the trail has an event."""
    job = Job(a_workspace().id, "an-operation", 0)

    assert 200 <= hub.push("record_dead_letter", write_job(job)).status_code < 300
    assert [event.workspace_id for event in hub.world.store.events] == [job.workspace_id]


def test_a_dead_letter_is_repeated_while_the_database_is_away(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is 503, so the dead letter is not lost."""

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("away")

    monkeypatch.setattr(hub.world.store, "commit", away)

    assert hub.push("record_dead_letter", b"hello").status_code == 503


# ---- the scheduler ----


def sweep(name: str) -> Any:
    """Call a sweep as the scheduler does, and return its report."""
    answer = client_of(name).post(f"/{name.replace('_', '-')}")
    assert answer.status_code == 200
    return answer.get_json()


def test_a_cleanup_stops_idle_machines_and_deletes_old_workspaces(hub: Functions) -> None:
    """Only workspaces that are due are read, and a second run has nothing to do."""
    now, policy = hub.world.clock(), hub.world.policy
    assert policy.idle_after is not None
    assert policy.retention is not None
    idle = a_workspace(Status.READY, last_connected_at=now - policy.idle_after)
    busy = a_workspace(Status.READY, last_connected_at=now)
    broken = a_workspace(
        Status.ERROR, machine_running=True, last_connected_at=now - policy.idle_after
    )
    asleep = a_workspace(Status.SUSPENDED, suspended_at=now)
    forgotten = a_workspace(Status.SUSPENDED, suspended_at=now - policy.retention)
    hub.world.store.put(idle, busy, broken, asleep, forgotten)

    report, again = sweep("cleanup"), sweep("cleanup")

    assert report["looked_at"] == 3
    assert {what: set(ids) for what, ids in report["done"].items()} == {
        "stop": {idle.id, broken.id},
        "delete": {forgotten.id},
    }
    assert (report["failed"], report["unfinished"]) == ({}, False)
    assert again["done"] == {}
    kinds = {ws.id: ws.operation.kind for ws in hub.world.store.workspaces.values() if ws.operation}
    assert kinds == {
        idle.id: OperationKind.STOP,
        broken.id: OperationKind.STOP,
        forgotten.id: OperationKind.DELETE,
    }
    assert len(hub.world.operations.sent) == 3


@pytest.mark.parametrize("what", ["database", "decision"])
def test_one_bad_workspace_does_not_stop_the_rest_of_a_cleanup(
    hub: Functions, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The report has the reason; a failure that passes by itself is only logged as a warning."""
    long_ago = hub.world.clock() - timedelta(days=2)
    workspaces = [
        a_workspace(Status.READY, last_connected_at=long_ago + timedelta(hours=n)) for n in range(5)
    ]
    hub.world.store.put(*workspaces)
    bad = workspaces[1].id
    get = hub.world.store.get

    def fails(workspace_id: str) -> Any:
        if workspace_id == bad:
            raise UnavailableError("it is locked") if what == "database" else KeyError("a field")
        return get(workspace_id)

    monkeypatch.setattr(hub.world.store, "get", fails)
    caplog.clear()

    report = sweep("cleanup")

    assert list(report["failed"]) == [bad]
    [severity] = {
        record.levelname for record in caplog.records if record.getMessage() == "SweepFailed"
    }
    assert severity == ("WARNING" if what == "database" else "ERROR")
    assert set(report["done"]["stop"]) == {ws.id for ws in workspaces} - {bad}


def test_a_cleanup_goes_through_all_pages(hub: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each workspace of several pages is handled once."""
    monkeypatch.setattr("shared.usecases.sweeping.PAUSE_SECONDS", 0)
    long_ago = hub.world.clock() - timedelta(days=2)
    workspaces = [a_workspace(Status.READY, last_connected_at=long_ago) for _ in range(230)]
    hub.world.store.put(*workspaces)

    report = sweep("cleanup")

    assert report["looked_at"] == 230
    assert set(report["done"]["stop"]) == {ws.id for ws in workspaces}


def test_a_cleanup_without_time_leaves_the_rest_to_the_next_run(
    hub: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says so, and no workspace is half done."""
    long_ago = hub.world.clock() - timedelta(days=2)
    hub.world.store.put(*(a_workspace(Status.READY, last_connected_at=long_ago) for _ in range(6)))
    get = hub.world.store.get

    def slow(workspace_id: str) -> Any:
        hub.world.clock.advance(timedelta(seconds=50))
        return get(workspace_id)

    with monkeypatch.context() as patch:
        patch.setattr(hub.world.store, "get", slow)
        first = sweep("cleanup")
    hub.world.run()
    second = sweep("cleanup")

    assert (first["unfinished"], len(first["done"]["stop"])) == (True, 3)
    assert (second["unfinished"], len(second["done"]["stop"])) == (False, 3)


def test_a_heartbeat_between_decision_and_suspend_cancels_the_stop(hub: Functions) -> None:
    """A person who came back in time continues to work."""
    workspace = hub.world.ready()
    hub.world.clock.advance(timedelta(hours=2))
    assert sweep("cleanup")["done"] == {"stop": [workspace.id]}
    hub.world.clock.advance(timedelta(seconds=1))
    hub.report(workspace, {"event": "heartbeat", "generation": workspace.generation})
    hub.world.run()

    after = hub.world.workspace(workspace.id)
    assert (after.status, after.operation) == (Status.READY, None)
    machine = hub.world.machine(workspace)
    assert machine is not None
    assert machine.state == "RUNNING"
    assert sweep("cleanup")["done"] == {}


def test_a_reconcile_resends_overdue_jobs(hub: Functions) -> None:
    """Operations get their job, drifted workspaces a look; others are not even read."""
    now = hub.world.clock()
    overdue = a_workspace(Status.READY, an_operation(OperationKind.STOP), attend_at=now)
    drifted = a_workspace(Status.READY, attend_at=now - timedelta(minutes=1))
    busy = a_workspace(
        Status.READY, an_operation(OperationKind.STOP), attend_at=now + timedelta(seconds=1)
    )
    hub.world.store.put(overdue, drifted, busy, a_workspace(Status.READY))

    report = sweep("reconcile")

    assert (report["looked_at"], report["failed"]) == (2, {})
    assert report["done"] == {"stop": [overdue.id], "look": [drifted.id]}
    assert [(job.workspace_id, job.resend) for job in hub.world.operations.sent] == [
        (drifted.id, 0),
        (overdue.id, 1),
    ]
    assert sweep("reconcile")["done"] == {}


def test_a_used_up_quota_is_explained_and_leaves_nothing_running(
    hub: Functions,
) -> None:
    """This follows the request from the POST to the person's answer through every function."""
    workspace_id = hub.create({"name": "one"}).get_json()["id"]
    hub.world.machines.script(InsertInstance, Mishap.FAILS_LATER, FaultKind.QUOTA, times=9)
    hub.world.run()

    body = hub.status(workspace_id).get_json()
    assert (body["status"], body["error"]["code"]) == ("ERROR", "COMPUTE_QUOTA_EXCEEDED")
    assert "quota" in body["error"]["message"]
    assert hub.world.machines.instances == {}
    hub.world.machines.calm()
    assert hub.start(workspace_id).status_code == 202
    hub.world.run()
    assert hub.status(workspace_id).get_json()["status"] == "READY"
