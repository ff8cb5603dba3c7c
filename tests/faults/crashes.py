"""Stories in each of which a function's process is killed once, at one of its calls to the outside: many at once on one cloud."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import requests

from localcloud.api_client import ApiClient, Workspace
from localcloud.running_cloud import RunningCloud
from tests.faults.killer import KEYS, MOMENTS, Call, Killer, OnceAtEachCall, Point, Watched
from tests.processes import descendants, eventually
from tests.system.records import (
    Records,
    by_workspace,
    call_scheduled,
    in_compute,
    publish,
    stop_by_hand,
)

SETTINGS = {
    "HUB_ORPHAN_GRACE_SECONDS": "1",
    "HUB_LOOK_MIN_SECONDS": "0.45",  # longer than Compute takes: no look finds it still at work
    "HUB_ATTEND_SECONDS": "4",
    "HUB_WORKER_TIMEOUT_SECONDS": "30",  # a step that takes half of it to begin is not done: that is for a hung machine only
    "HUB_CHANGES_PER_MINUTE": "1000",
}
OTHER_MACHINE_TYPE = "e2-standard-8"

_AT_ONCE = 20
_POLL_SECONDS = 0.3
# Only a run that fails waits for so long: what is waited for is always something that is seen, on
# however slow a machine.
_PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Story:
    """What is asked for, of what.

    Attributes:
        asks: method, path below the workspace's, and body; None: it is to be created.
        ends: the status that its workspace then gets; None: it is gone.
        asleep: the workspace is suspended first.
        unsuspendable: Compute cannot suspend its machine.
        stopped_by_hand: its machine has been switched off behind the Hub's back.
    """

    asks: tuple[str, str, dict[str, Any] | None] | None
    ends: str | None
    asleep: bool = False
    unsuspendable: bool = False
    stopped_by_hand: bool = False


STORIES = {
    "create": Story(None, "READY"),
    "stop": Story(("POST", "/stop", None), "SUSPENDED"),
    "stop of what cannot be suspended": Story(
        ("POST", "/stop", None), "SUSPENDED", unsuspendable=True
    ),
    "start that thaws": Story(("POST", "/start", None), "READY", asleep=True),
    "start that boots": Story(("POST", "/start", None), "READY", asleep=True, unsuspendable=True),
    "start with another machine type": Story(
        ("POST", "/start", {"machine_type": OTHER_MACHINE_TYPE}), "READY"
    ),
    "look at what was stopped by hand": Story(
        ("GET", "/status", None), "SUSPENDED", stopped_by_hand=True
    ),
    "delete": Story(("DELETE", "", None), None),
}


@dataclass
class Play:
    """One story, played by one person on one workspace; a process is killed at one of the calls that are about it."""

    story: str
    person: ApiClient
    point: Point | None
    name: str = field(default_factory=lambda: f"w-{uuid.uuid4()}")
    workspace: Workspace = field(default_factory=dict)
    watched: Watched = field(init=False)

    def __post_init__(self) -> None:
        """Watch for the point."""
        self.watched = Watched(frozenset({self.point} if self.point else ()))


class Theatre:
    """A cloud, the killer of its processes, and the plays that were played on it."""

    def __init__(self, cloud: RunningCloud, killer: Killer) -> None:
        self.cloud = cloud
        self.killer = killer
        self.records = Records(cloud)

    def play(self, points: Iterable[tuple[str, Point | None]]) -> list[Play]:
        """Play stories, as many at once as there is room for, until what the platform does by itself has been done."""
        plays = [Play(story, self._somebody(), point) for story, point in points]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self._prepare(pool, plays)
            list(pool.map(self._perform, plays))
            list(pool.map(self._watch, plays))
        return plays

    def reconcile_until(self, seen: Callable[[], bool]) -> int:
        """Have `reconcile` called whenever somebody may be due again, until something is seen; return how often it was called.

        It returns, too, when that is not seen for minutes: to complain is up to the test.
        """
        calls = 0
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not seen() and time.monotonic() < deadline:
            time.sleep(float(SETTINGS["HUB_ATTEND_SECONDS"]) / 2)
            with contextlib.suppress(requests.RequestException):
                call_scheduled(self.cloud, "reconcile")
            calls += 1
        return calls

    def ready(self, count: int) -> list[Play]:
        """Return workspaces that are READY, each of somebody else."""
        plays = [Play("stop", self._somebody(), None) for _ in range(count)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self._prepare(pool, plays)
        return plays

    def lose_a_stop(self, play: Play) -> None:
        """Have a workspace's STOP accepted by a process that dies before it sends the job; it is due for `reconcile` at once."""
        sends = Point(Call("stop_workspace", "CloudTasks/CreateTask"), "before")
        dying = self.killer.watch(play.workspace["id"], Watched(frozenset({sends})))
        answer = play.person.request("POST", f"/workspaces/{play.workspace['id']}/stop")
        if answer.status_code != 503 or dying.killed is None:
            raise RuntimeError(f"the process has not died: {answer.text}")
        self.records.age(play.workspace["id"], "attend_at", timedelta(minutes=1))

    def never_ready(self, count: int) -> list[Play]:
        """Return workspaces whose CREATE waits for a machine that will never report."""
        self.cloud.fault("never_ready", count=count)
        plays = [Play("create", self._somebody(), None) for _ in range(count)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for play in plays:
                play.workspace = play.person.create(play.name)
            _all(pool, plays, self._waits_for_its_report)
        return plays

    def _waits_for_its_report(self, play: Play) -> bool:
        [ws] = play.person.workspaces()
        return bool(ws["operation"] and ws["operation"]["phase"] == "await_ready")

    @contextlib.contextmanager
    def without_workers(self) -> Iterator[None]:
        """Have no operation advance for as long as the context lasts."""
        self.cloud.kill_function("advance_operation", signal.SIGSTOP)
        try:
            yield
        finally:
            self.cloud.kill_function("advance_operation", signal.SIGCONT)

    def give_up(self, play: Play, watched: OnceAtEachCall) -> None:
        """Publish a workspace's current job as a dead letter, and again whenever its recorder has died of that."""
        operation = self.records.workspace(play.workspace["id"])["operation"]
        job = {
            "workspace_id": play.workspace["id"],
            "operation_id": operation["id"],
            "step": operation["step"],
        }
        while True:
            watched.killed = None
            known = self._dead_letters(play)
            publish(self.cloud, "workspace-provision-dead", json.dumps(job).encode())
            if not eventually(partial(self._has_come_of, play, watched, known), _PATIENCE_SECONDS):
                raise TimeoutError("nothing has come of a dead letter")
            if watched.killed is None:
                return

    def _has_come_of(self, play: Play, watched: Watched, known: int) -> bool:
        """Say whether a dead letter's recorder has died, or recorded one more than are known."""
        return watched.killed is not None or self._dead_letters(play) > known

    def _dead_letters(self, play: Play) -> int:
        return sum(
            event["what"] == "DeadLetterRecorded"
            for event in self.records.events(play.workspace["id"])
        )

    def interrupt(self, function: str, watched: OnceAtEachCall) -> None:
        """Have a scheduled function called, and again whenever its process has died of that, until it has answered."""
        self.killer.watch_function(function, watched)
        while True:
            watched.killed = None
            try:
                call_scheduled(self.cloud, function)
            except requests.RequestException:
                if watched.killed is None:
                    raise
            else:
                return

    def outcomes(self, plays: list[Play]) -> list[dict[str, Any]]:
        """Return of each play what people, Compute's owner and its bill see at the end."""
        machines = by_workspace(in_compute(self.cloud, "instances", ""))
        disks = by_workspace(in_compute(self.cloud, "disks", ""))
        owners = self.records.owners()
        return [self._outcome(play, machines, disks, owners) for play in plays]

    def _outcome(
        self,
        play: Play,
        machines: dict[str, list[Any]],
        disks: dict[str, list[Any]],
        owners: dict[str, Any],
    ) -> dict[str, Any]:
        listed = play.person.workspaces()
        kept = (
            "status",
            "operation",
            "machine_type",
            "zone",
            "image_tag",
            "generation",
            "last_activity",
        )
        ids = {ws["id"] for ws in [*listed, play.workspace] if ws}
        mine = [machine for each in sorted(ids) for machine in machines[each]]
        recorded = {self.records.workspace(each).get("instance_id") for each in ids}
        return {
            "workspaces": [
                {key: ws[key] for key in kept} | {"error": ws["error"] and ws["error"]["code"]}
                for ws in listed
            ],
            "machines": [(each["status"], each["machineType"].rsplit("/", 1)[-1]) for each in mine],
            "machines unknown to the record": len({str(each["id"]) for each in mine} - recorded),
            "disks": sorted(disk["name"].split("-")[0] for each in ids for disk in disks[each]),
            "held": [
                held["running"]
                for owner in owners.values()
                for each, held in owner.items()
                if each in ids
            ],
        }

    def _somebody(self) -> ApiClient:
        return ApiClient(self.cloud.address, self.cloud.token(f"{uuid.uuid4()}@example.com"))

    def _prepare(self, pool: ThreadPoolExecutor, plays: list[Play]) -> None:
        """Have everything there that the stories begin with."""
        others = [play for play in plays if STORIES[play.story].asks]
        for play, made in zip(
            others, pool.map(lambda play: play.person.create(play.name), others), strict=True
        ):
            play.workspace = made
        _all(pool, others, lambda play: self._has(play, "READY"))
        for play in others:
            if STORIES[play.story].unsuspendable:
                self.cloud.fault("suspend_unsupported", instance=play.workspace["instance_name"])
        sleepers = [play for play in others if STORIES[play.story].asleep]
        list(pool.map(lambda play: play.person.stop(play.workspace["id"]), sleepers))
        _all(pool, sleepers, lambda play: self._has(play, "SUSPENDED"))
        for play in others:
            if STORIES[play.story].stopped_by_hand:
                stop_by_hand(self.cloud, play.workspace)

    def _has(self, play: Play, status: str) -> bool:
        return [(ws["status"], ws["operation"]) for ws in play.person.workspaces()] == [
            (status, None)
        ]

    def _perform(self, play: Play) -> None:
        """Ask for what the story is about, again while no answer comes, as a client does; then watch until the process has died."""
        self._renew(play)
        word = play.workspace.get("id", play.name)
        self.killer.watch(word, play.watched)
        asks = STORIES[play.story].asks
        if asks is None:
            headers = {"Idempotency-Key": play.name, "X-Request-Id": play.name}
            play.workspace = _persist(
                play.person, "POST", "/workspaces", json={"name": play.name}, headers=headers
            )
        else:
            method, path, body = asks
            _persist(play.person, method, f"/workspaces/{word}{path}", json=body)
        self._watch(play, until_killed=True)

    def _renew(self, play: Play) -> None:
        """Have requests served by a new process, where a play is about what only such a one does: fetch keys."""
        if play.point is None or play.point.call.what != KEYS:
            return
        for pid in descendants(self.cloud.state["functions"][play.point.call.function]["pid"]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _watch(self, play: Play, *, until_killed: bool = False) -> None:
        """Wait until a play has ended, or waits for `reconcile`; or until its process has been killed."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._is_over(play) and time.monotonic() < deadline:
            if until_killed and play.watched.killed:
                return
            if until_killed:
                self._renew(play)  # another play's request may have been first
            time.sleep(_POLL_SECONDS)

    def _is_over(self, play: Play) -> bool:
        """Say whether a play has ended as its story does, or nothing goes on any more before `reconcile` comes.

        A look is no operation: nobody can see that one is on its way, only what comes of it.
        """
        record = self.records.workspace(play.workspace["id"])
        due_at = record.get("attend_at")
        ended = record.get("operation") is None and record.get("status") == STORIES[play.story].ends
        return ended or (
            play.point is not None and due_at is not None and due_at < datetime.now(UTC)
        )


def every_point(undisturbed: Iterable[Play]) -> list[tuple[str, Point | None]]:
    """Return each call that was made at all, with each moment, and a story that made it; mixed, so that all are at it.

    Rather any story than that of a create: what is called there depends on whether the machine
    reports before somebody looks.
    """
    first: dict[Call, str] = {}
    for play in sorted(undisturbed, key=lambda play: play.story == "create"):
        for call in play.watched.calls:
            first.setdefault(call, play.story)
    points: list[tuple[str, Point | None]] = [
        (story, Point(call, moment)) for call, story in first.items() for moment in MOMENTS
    ]
    random.Random(0).shuffle(points)
    return points


def _persist(person: ApiClient, method: str, path: str, **kwargs: Any) -> Workspace:
    """Ask until an answer comes that is not for now only; what is gone by then was what was asked for."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            answer = person.request(method, path, **kwargs)
        except requests.RequestException:  # no answer, or half of one
            answer = None
        if answer is not None and (answer.ok or (method == "DELETE" and answer.status_code == 404)):
            said: Workspace = answer.json()
            return said
        if time.monotonic() > deadline:
            raise TimeoutError(f"{method} {path}: {answer is not None and answer.text}")
        time.sleep(_POLL_SECONDS)


def _all(pool: ThreadPoolExecutor, plays: list[Play], condition: Callable[[Play], bool]) -> None:
    """Wait until something is so in all plays."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    left = plays
    while left := [
        play for play, so in zip(left, pool.map(condition, left), strict=True) if not so
    ]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(left)} workspaces do not become what the stories begin with")
        time.sleep(_POLL_SECONDS)
