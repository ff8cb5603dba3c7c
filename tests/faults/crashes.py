"""Scenarios in each of which one process is killed at one of its calls to other services.

Many of them run at once on one cloud.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import requests

from localcloud.api_client import ApiClient, Workspace
from localcloud.running_cloud import RunningCloud
from tests.faults.crash_injection import (
    FETCH_KEYS,
    MOMENTS,
    Call,
    CrashInjector,
    CrashOnceAtEachCall,
    CrashPlan,
    CrashPoint,
)
from tests.processes import descendants, eventually
from tests.system.records import (
    Records,
    by_workspace,
    call_scheduled,
    in_compute,
    publish,
    snapshots_in_compute,
    stop_by_hand,
)

SETTINGS = {
    "HUB_ORPHAN_GRACE_SECONDS": "1",
    # Longer than an operation of Compute takes, so that no look finds one still at work.
    "HUB_LOOK_MIN_SECONDS": "0.45",
    "HUB_ATTEND_SECONDS": "4",
    # A step that takes half of it to begin is given up, which only a hung machine should cause.
    "HUB_WORKER_TIMEOUT_SECONDS": "30",
    "HUB_CHANGES_PER_MINUTE": "1000",
}
OTHER_MACHINE_TYPE = "e2-standard-8"
OTHER_ZONE = "us-west1-b"

_WORKERS = 20
_POLL_SECONDS = 0.3
# Only a run that fails waits for so long: each wait is for a condition that becomes true on however
# slow a machine.
_TIMEOUT_SECONDS = 240.0


@dataclass(frozen=True)
class Scenario:
    """A request, and the workspace that it is about.

    Attributes:
        request: method, path below the workspace's, and body; None: the request creates it.
        final_status: the status that its workspace then gets; None: it is deleted.
        suspended_first: the workspace is suspended before the request.
        unsuspendable: Compute cannot suspend its machine.
        stopped_by_hand: its machine was stopped in Compute before the request.
        snapshot_first: a snapshot of its home is being taken when the request comes.
        restores: a snapshot of its home is stored, which the request is to restore.
        restore_first: its home is being restored when the request comes.
        archive_first: it is being archived when the request comes, and its snapshot is stored.
        deleted_first: it was deleted before the request.
        move_first: the phase that its move to another zone waits in when the request comes; empty
            if there is none.
    """

    request: tuple[str, str, dict[str, Any] | None] | None
    final_status: str | None
    suspended_first: bool = False
    unsuspendable: bool = False
    stopped_by_hand: bool = False
    snapshot_first: bool = False
    restores: bool = False
    restore_first: bool = False
    archive_first: bool = False
    deleted_first: bool = False
    move_first: str = ""


_IN_AN_HOUR = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
SCENARIOS = {
    "create": Scenario(None, "READY"),
    "stop": Scenario(("POST", "/stop", None), "SUSPENDED"),
    "stop of a machine that cannot be suspended": Scenario(
        ("POST", "/stop", None), "SUSPENDED", unsuspendable=True
    ),
    "start that resumes": Scenario(("POST", "/start", None), "READY", suspended_first=True),
    "connect that resumes": Scenario(
        ("POST", "/connect", {"device_id": "laptop", "start": True}), "READY", suspended_first=True
    ),
    "start that boots": Scenario(
        ("POST", "/start", None), "READY", suspended_first=True, unsuspendable=True
    ),
    "start with another machine type": Scenario(
        ("POST", "/start", {"machine_type": OTHER_MACHINE_TYPE}), "READY"
    ),
    "start that grows": Scenario(("POST", "/start", {"home_disk_gb": 100}), "READY"),
    "start that grows a suspended one": Scenario(
        ("POST", "/start", {"home_disk_gb": 100}), "READY", suspended_first=True
    ),
    "status of a machine that was stopped by hand": Scenario(
        ("GET", "/status", None), "SUSPENDED", stopped_by_hand=True
    ),
    "keep awake": Scenario(("POST", "/keep-awake", {"until": _IN_AN_HOUR}), "READY"),
    "snapshot": Scenario(("POST", "/snapshots", {"name": "kept"}), "READY"),
    "snapshot of a suspended one": Scenario(
        ("POST", "/snapshots", {"name": "kept"}), "SUSPENDED", suspended_first=True
    ),
    "restore": Scenario(("POST", "/restore", None), "READY", restores=True),
    "restore of a suspended one": Scenario(
        ("POST", "/restore", None), "READY", suspended_first=True, restores=True
    ),
    "delete over a restore": Scenario(("DELETE", "", None), None, restore_first=True),
    "archive": Scenario(("POST", "/archive", None), "SUSPENDED"),
    "archive of a suspended one": Scenario(
        ("POST", "/archive", None), "SUSPENDED", suspended_first=True
    ),
    "start over an archive": Scenario(("POST", "/start", None), "READY", archive_first=True),
    # It would keep the snapshot of the ARCHIVE if that is stored by then, or else its own, too.
    "delete over an archive": Scenario(("DELETE", "?purge=true", None), None, archive_first=True),
    "move": Scenario(("POST", "/start", {"zone": OTHER_ZONE}), "READY"),
    "move of a suspended one": Scenario(
        ("POST", "/start", {"zone": OTHER_ZONE}), "READY", suspended_first=True
    ),
    "delete over a move": Scenario(
        ("DELETE", "?purge=true", None), None, suspended_first=True, move_first="await_stored"
    ),
    "delete over a move that boots": Scenario(
        ("DELETE", "?purge=true", None), None, suspended_first=True, move_first="await_ready"
    ),
    "delete": Scenario(("DELETE", "", None), None),
    "delete for good": Scenario(("DELETE", "?purge=true", None), None),
    "undelete": Scenario(("POST", "/undelete", {}), "SUSPENDED", deleted_first=True),
    "delete over a snapshot": Scenario(("DELETE", "", None), None, snapshot_first=True),
}


@dataclass
class ScenarioRun:
    """A scenario, run by one person on one workspace, with a crash at one point or none.

    ``snapshot_id`` is that of the snapshot that is to be restored.
    """

    scenario: str
    person: ApiClient
    point: CrashPoint | None
    name: str = field(default_factory=lambda: f"w-{uuid.uuid4()}")
    workspace: Workspace = field(default_factory=dict)
    snapshot_id: str = ""
    plan: CrashPlan = field(init=False)

    def __post_init__(self) -> None:
        """Plan the crash."""
        self.plan = CrashPlan(frozenset({self.point} if self.point else ()))

    @property
    def definition(self) -> Scenario:
        """The scenario itself."""
        return SCENARIOS[self.scenario]


class CrashHarness:
    """Runs scenarios on a cloud whose processes an injector kills."""

    def __init__(self, cloud: RunningCloud, injector: CrashInjector) -> None:
        self.cloud = cloud
        self.injector = injector
        self.records = Records(cloud)

    def run(self, points: Iterable[tuple[str, CrashPoint | None]]) -> list[ScenarioRun]:
        """Run scenarios, many at once, until the platform has nothing left to repeat."""
        runs = [ScenarioRun(scenario, self._new_person(), point) for scenario, point in points]
        with ThreadPoolExecutor(_WORKERS) as pool:
            self._prepare(pool, runs)
            list(pool.map(self._send_request, runs))
            list(pool.map(self._wait, runs))
        return runs

    def reconcile_until(self, condition: Callable[[], bool]) -> int:
        """Call ``reconcile`` until a condition holds, and return how often it was called.

        It returns after ``_TIMEOUT_SECONDS`` in any case: the test asserts the condition.
        """
        calls = 0
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not condition() and time.monotonic() < deadline:
            time.sleep(float(SETTINGS["HUB_ATTEND_SECONDS"]) / 2)
            with contextlib.suppress(requests.RequestException):
                call_scheduled(self.cloud, "reconcile")
            calls += 1
        return calls

    def make_ready(self, count: int) -> list[ScenarioRun]:
        """Return READY workspaces, each of another person."""
        runs = [ScenarioRun("stop", self._new_person(), None) for _ in range(count)]
        with ThreadPoolExecutor(_WORKERS) as pool:
            self._prepare(pool, runs)
        return runs

    def lose_job_of_stop(self, run: ScenarioRun) -> None:
        """Have a STOP accepted by a process that is killed before it sends the job.

        The workspace is due for ``reconcile`` at once.
        """
        send = CrashPoint(Call("stop_workspace", "CloudTasks/CreateTask"), "before")
        plan = CrashPlan(frozenset({send}))
        self.injector.apply_to_requests(run.workspace["id"], plan)
        answer = run.person.request("POST", f"/workspaces/{run.workspace['id']}/stop")
        if answer.status_code != 503 or plan.crashed_at is None:
            raise RuntimeError(f"the process was not killed: {answer.text}")
        self.records.age(run.workspace["id"], "attend_at", timedelta(minutes=1))

    def make_never_ready(self, count: int) -> list[ScenarioRun]:
        """Return workspaces whose CREATE waits for a machine that never reports."""
        self.cloud.fault("never_ready", count=count)
        runs = [ScenarioRun("create", self._new_person(), None) for _ in range(count)]
        with ThreadPoolExecutor(_WORKERS) as pool:
            for run in runs:
                run.workspace = run.person.create(run.name)
            _wait_for_all(pool, runs, self._waits_for_its_report)
        return runs

    def _waits_for_its_report(self, run: ScenarioRun) -> bool:
        [ws] = run.person.workspaces()
        return bool(ws["operation"] and ws["operation"]["phase"] == "await_ready")

    @contextlib.contextmanager
    def paused_worker(self) -> Iterator[None]:
        """Pause ``advance_operation``, so that no operation advances while the context lasts."""
        self.cloud.kill_function("advance_operation", signal.SIGSTOP)
        try:
            yield
        finally:
            self.cloud.kill_function("advance_operation", signal.SIGCONT)

    def dead_letter(self, run: ScenarioRun, plan: CrashOnceAtEachCall) -> None:
        """Publish a workspace's job as a dead letter, again after each crash of its recorder."""
        operation = self.records.workspace(run.workspace["id"])["operation"]
        job = {
            "workspace_id": run.workspace["id"],
            "operation_id": operation["id"],
            "step": operation["step"],
        }
        while True:
            plan.crashed_at = None
            known = self._dead_letters(run)
            publish(self.cloud, "workspace-provision-dead", json.dumps(job).encode())
            if not eventually(partial(self._is_handled, run, plan, known), _TIMEOUT_SECONDS):
                raise TimeoutError("a dead letter is neither recorded nor does its recorder crash")
            if plan.crashed_at is None:
                return

    def _is_handled(self, run: ScenarioRun, plan: CrashPlan, known: int) -> bool:
        """Say whether the recorder has crashed, or recorded more dead letters than are known."""
        return plan.crashed_at is not None or self._dead_letters(run) > known

    def _dead_letters(self, run: ScenarioRun) -> int:
        return sum(
            event["what"] == "DeadLetterRecorded"
            for event in self.records.events(run.workspace["id"])
        )

    def call_with_crashes(self, function: str, plan: CrashOnceAtEachCall) -> None:
        """Call a scheduled function, and repeat after each crash until it answers."""
        self.injector.apply_to_function(function, plan)
        while True:
            plan.crashed_at = None
            try:
                call_scheduled(self.cloud, function)
            except requests.RequestException:
                if plan.crashed_at is None:
                    raise
            else:
                return

    def outcomes(self, runs: list[ScenarioRun]) -> list[dict[str, Any]]:
        """Return of each run what people see at the end, and what is left in Compute."""
        machines = by_workspace(in_compute(self.cloud, "instances", ""))
        disks = by_workspace(in_compute(self.cloud, "disks", ""))
        snapshots = by_workspace(snapshots_in_compute(self.cloud))
        owners = self.records.owners()
        states: dict[str, list[str]] = defaultdict(list)
        for each in self.records.snapshots().values():
            states[each["workspace_id"]].append(each["state"])
        return [
            self._outcome(run, machines, disks, owners)
            | _kept(
                run,
                sum(len(snapshots[each]) for each in self._ids(run)),
                [state for each in self._ids(run) for state in states[each]],
            )
            for run in runs
        ]

    def _ids(self, run: ScenarioRun) -> set[str]:
        return {ws["id"] for ws in [*run.person.workspaces(), run.workspace] if ws}

    def _outcome(
        self,
        run: ScenarioRun,
        machines: dict[str, list[Any]],
        disks: dict[str, list[Any]],
        owners: dict[str, Any],
    ) -> dict[str, Any]:
        listed = run.person.workspaces()
        kept = (
            "status",
            "operation",
            "machine_type",
            "zone",
            "image_tag",
            "kept_awake_until",
            "generation",
            "last_activity",
            "home_disk_gb",
        )
        ids = {ws["id"] for ws in [*listed, run.workspace] if ws}
        mine = [machine for each in sorted(ids) for machine in machines[each]]
        recorded = {self.records.workspace(each).get("instance_id") for each in ids}
        return {
            "workspaces": [
                {key: ws[key] for key in kept} | {"error": ws["error"] and ws["error"]["code"]}
                for ws in listed
            ],
            "machines": sorted(
                (each["status"], each["machineType"].rsplit("/", 1)[-1]) for each in mine
            ),
            "machines unknown to the record": len({str(each["id"]) for each in mine} - recorded),
            "disks": sorted(
                (disk["name"].split("-")[0], disk["sizeGb"]) for each in ids for disk in disks[each]
            ),
            "held": [
                held["running"]
                for owner in owners.values()
                for each, held in owner.items()
                if each in ids
            ],
        }

    def _new_person(self) -> ApiClient:
        return ApiClient(self.cloud.address, self.cloud.token(f"{uuid.uuid4()}@example.com"))

    def _prepare(self, pool: ThreadPoolExecutor, runs: list[ScenarioRun]) -> None:
        """Make the workspaces with which the scenarios begin.

        On a busy machine a job may not be sent in time. The clean-up resends it, as in production.
        """
        prepared = [run for run in runs if run.definition.request]
        for run, made in zip(
            prepared, pool.map(lambda run: run.person.create(run.name), prepared), strict=True
        ):
            run.workspace = made
        self._reconcile_until_all(pool, prepared, lambda run: self._has_status(run, "READY"))
        with_snapshot = [
            run for run in prepared if run.definition.restores or run.definition.restore_first
        ]
        for run in with_snapshot:
            taken = run.person.take_snapshot(run.workspace["id"])
            run.snapshot_id = taken["operation"]["id"]
        self._reconcile_until_all(pool, with_snapshot, self._has_snapshot)
        for run in prepared:
            if run.definition.unsuspendable:
                self.cloud.fault("suspend_unsupported", instance=run.workspace["instance_name"])
        suspended = [run for run in prepared if run.definition.suspended_first]
        list(pool.map(lambda run: run.person.stop(run.workspace["id"]), suspended))
        self._reconcile_until_all(pool, suspended, lambda run: self._has_status(run, "SUSPENDED"))
        deleted = [run for run in prepared if run.definition.deleted_first]
        list(pool.map(lambda run: run.person.delete(run.workspace["id"]), deleted))
        self._reconcile_until_all(pool, deleted, lambda run: run.person.workspaces() == [])
        archived = [run for run in prepared if run.definition.archive_first]
        for run in archived:
            self.cloud.fault("slow_upload", instance=run.workspace["instance_name"], count=1)
        list(pool.map(lambda run: run.person.archive(run.workspace["id"]), archived))
        self._reconcile_until_all(pool, archived, self._has_archive)
        moving = [run for run in prepared if run.definition.move_first]
        for run in moving:
            fault = "slow_upload" if run.definition.move_first == "await_stored" else "never_ready"
            self.cloud.fault(fault, instance=run.workspace["instance_name"], count=1)
        list(pool.map(lambda run: run.person.start(run.workspace["id"], zone=OTHER_ZONE), moving))
        self._reconcile_until_all(pool, moving, self._moves)
        for run in prepared:
            workspace_id = run.workspace["id"]
            if run.definition.snapshot_first or run in with_snapshot:
                # So a SNAPSHOT or RESTORE is under way when the next request comes, or the same
                # one again.
                self.cloud.fault("slow_operation", instance=run.workspace["instance_name"], count=1)
            if run.definition.snapshot_first:
                path = f"/workspaces/{workspace_id}/snapshots"
                run.person.request("POST", path).raise_for_status()
            if run.definition.restore_first:
                run.person.restore(workspace_id, run.snapshot_id)
            if run.definition.stopped_by_hand:
                stop_by_hand(self.cloud, run.workspace)

    def _reconcile_until_all(
        self,
        pool: ThreadPoolExecutor,
        runs: list[ScenarioRun],
        condition: Callable[[ScenarioRun], bool],
    ) -> None:
        """Wait until a condition has held once in each run, and call ``reconcile`` meanwhile."""
        with ThreadPoolExecutor(1) as sweeper:
            over = threading.Event()
            sweeper.submit(self.reconcile_until, over.is_set)
            try:
                _wait_for_all(pool, runs, condition)
            finally:
                over.set()

    def _has_snapshot(self, run: ScenarioRun) -> bool:
        [ws] = run.person.workspaces()
        states = [each["state"] for each in run.person.snapshots(ws["id"])]
        return ws["operation"] is None and states == ["READY"]

    def _moves(self, run: ScenarioRun) -> bool:
        """Say whether a move has come to its phase, or has gone past that if it may.

        A DELETE that purges ends the same way, however far the upload has come.
        """
        if run.definition.move_first == "await_stored":
            return bool(self.records.snapshots(run.workspace["id"]))
        operation = self.records.workspace(run.workspace["id"])["operation"]
        return operation is not None and operation["phase"] == run.definition.move_first

    def _has_archive(self, run: ScenarioRun) -> bool:
        """Say whether the snapshot is taken of which an ARCHIVE makes the home.

        From then on it does not matter how far that has come: a START is refused or ends the same
        way, whether it calls the ARCHIVE off or makes the home again.
        """
        return bool(self.records.snapshots(run.workspace["id"]))

    def _has_status(self, run: ScenarioRun, status: str) -> bool:
        return [(ws["status"], ws["operation"]) for ws in run.person.workspaces()] == [
            (status, None)
        ]

    def _send_request(self, run: ScenarioRun) -> None:
        """Send the scenario's request until an answer comes, then wait for the crash."""
        self._restart_function(run)
        key = run.workspace.get("id", run.name)
        self.injector.apply_to_requests(key, run.plan)
        request = run.definition.request
        if request is None:
            headers = {"Idempotency-Key": run.name, "X-Request-Id": run.name}
            run.workspace = _ask_until_answered(
                run.person, "POST", "/workspaces", json={"name": run.name}, headers=headers
            ).json()
        else:
            method, path, body = request
            if run.definition.restores:
                body = {"snapshot_id": run.snapshot_id}
            _ask_until_answered(run.person, method, f"/workspaces/{key}{path}", json=body)
        self._wait(run, until_crash=True)

    def _restart_function(self, run: ScenarioRun) -> None:
        """Kill the processes of the function if the crash is at ``FETCH_KEYS``.

        Only a new process fetches the keys.
        """
        if run.point is None or run.point.call.what != FETCH_KEYS:
            return
        for pid in descendants(self.cloud.function_pid(run.point.call.function)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _wait(self, run: ScenarioRun, *, until_crash: bool = False) -> None:
        """Wait until a run is over; or, if so asked, until its process was killed."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not self._is_over(run) and time.monotonic() < deadline:
            if run.plan.crashed_at and (until_crash or self._has_ended(run)):
                return
            if until_crash:
                self._restart_function(run)  # another run's request may have been the first one
            time.sleep(_POLL_SECONDS)

    def _is_over(self, run: ScenarioRun) -> bool:
        """Say whether a run has its final status, or does not advance without ``reconcile``.

        A look is no operation: only its result can be seen, not that it is under way. A snapshot
        has jobs of its own.
        """
        record = self.records.workspace(run.workspace["id"])
        snapshots = list(self.records.snapshots(run.workspace["id"]).values())
        due = [each["attend_at"] for each in (record, *snapshots) if each.get("attend_at")]
        settled = self._has_ended(run) and not any(each.get("attend_at") for each in snapshots)
        return settled or (run.point is not None and any(at < datetime.now(UTC) for at in due))

    def _has_ended(self, run: ScenarioRun) -> bool:
        record = self.records.workspace(run.workspace["id"])
        return (
            record.get("operation") is None and record.get("status") == run.definition.final_status
        )


def _kept(run: ScenarioRun, in_compute: int, recorded: list[str]) -> dict[str, Any]:
    """Return what is left of a run's snapshots.

    How many a DELETE leaves that has overtaken another operation is a matter of how far that had
    come: its snapshot may be there, and be the last copy or not. So only their states count.
    """
    overtakes = run.definition.snapshot_first or run.definition.restore_first
    return {
        "snapshots unknown to the record": in_compute - len(recorded),
        "snapshots": sorted(set(recorded)) if overtakes else recorded,
    }


def every_point(undisturbed: Iterable[ScenarioRun]) -> list[tuple[str, CrashPoint | None]]:
    """Return both moments of each call that was made, with a scenario that made it, shuffled.

    A call of several scenarios comes with "create" only if no other one makes it: what a create
    calls depends on whether the machine reports before somebody looks. So does in which request the
    owner is let in to the machine: those calls count whatever came before them.
    """
    first: dict[Call, str] = {}
    for run in sorted(undisturbed, key=lambda run: run.scenario == "create"):
        for call in run.plan.calls:
            of_a_policy = call.what.endswith("IamPolicy")
            first.setdefault(replace(call, before=None) if of_a_policy else call, run.scenario)
    points: list[tuple[str, CrashPoint | None]] = [
        (scenario, CrashPoint(call, moment))
        for call, scenario in first.items()
        for moment in MOMENTS
    ]
    random.Random(0).shuffle(points)
    return points


def _ask_until_answered(
    person: ApiClient, method: str, path: str, **kwargs: Any
) -> requests.Response:
    """Repeat a request until it succeeds, and return the answer.

    A DELETE has succeeded if the answer is 404. A snapshot is taken if its name is by the time that
    the request is repeated: then the answer to an earlier one was lost, and this one is a problem.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    repeated = False
    while True:
        answer = None
        with contextlib.suppress(requests.RequestException):  # no answer, or half of one
            answer = person.request(method, path, **kwargs)
        if answer is not None:
            is_taken = "NAME_TAKEN" in answer.text and path.endswith("/snapshots") and repeated
            if answer.ok or is_taken or (method == "DELETE" and answer.status_code == 404):
                return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{method} {path}: {answer is not None and answer.text}")
        repeated = True
        time.sleep(_POLL_SECONDS)


def _wait_for_all(
    pool: ThreadPoolExecutor, runs: list[ScenarioRun], condition: Callable[[ScenarioRun], bool]
) -> None:
    """Wait until a condition has held once in each run."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    left = runs
    while left := [
        run for run, holds in zip(left, pool.map(condition, left), strict=True) if not holds
    ]:
        if time.monotonic() > deadline:
            there = [(run.scenario, run.person.workspaces()) for run in left[:3]]
            raise TimeoutError(f"{len(left)} workspaces do not get there, like {there}")
        time.sleep(_POLL_SECONDS)
