"""Many people at once while everything around the Hub fails: a run is planned by a seed, so that it can be had again.

The plan is the same each time: who asks for what after which pause, and what is broken when. What
comes of it depends on how the processes take turns, which no seed decides.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import requests

from localcloud.api_client import ApiClient, RefusedError, Workspace
from localcloud.running_cloud import RunningCloud
from localcloud.services.compute.faults import FAULTS
from localcloud.settings import ADMIN_EMAIL, LocalSettings
from tests.system.records import (
    call_scheduled,
    delete_by_hand,
    detach_by_hand,
    hold_disk_by_hand,
    in_compute,
    move_by_hand,
    release_disk_by_hand,
    stop_by_hand,
    unlabel_by_hand,
)

WORKSPACES_EACH = 11  # the quota; each begins with ten
RUNNING_EACH = 10
IDLE_SECONDS = 30
WORKER_SECONDS = 8
DEADLINE_SECONDS = 45
# By then an operation, its clean-up after a failure included, is seen to be over by whoever looks,
# on however slow a machine.
OPERATION_SECONDS = 2 * DEADLINE_SECONDS + 120
CLOUD = LocalSettings(
    times="fast",
    schedule_seconds=2,
    heartbeat_seconds=2,
    write_requests=True,
    overrides={
        "HUB_WORKSPACES_PER_OWNER": str(WORKSPACES_EACH),
        "HUB_RUNNING_PER_OWNER": str(RUNNING_EACH),
        "HUB_CHANGES_PER_MINUTE": "1000",
        "HUB_REQUESTS_PER_MINUTE": "100000",
        "HUB_IDLE_SECONDS": str(IDLE_SECONDS),
        "HUB_CREATE_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_START_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_STOP_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_DELETE_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_ATTEND_SECONDS": "12",
        "HUB_WORKER_TIMEOUT_SECONDS": str(WORKER_SECONDS),
        "HUB_ORPHAN_GRACE_SECONDS": "10",
    },
)

_STRIKES_AT_MOST = {
    "unavailable": 50,
    "rate_limited": 50,
    "lost_operation": 4,
    "slow_operation": 4,
    "stock_out": 6,
    "quota_exceeded": 1,
    "suspend_unsupported": 6,
    "preempted": 2,
    "fails_at_boot": 1,
    "never_ready": 1,
}
_AWAY = (
    RefusedError,
    requests.RequestException,
)  # the database is, or the function was killed
_DELIVERY = "unreliable_delivery"
_FIRST_CREATES = 10
_VERBS = {
    "create": 2,
    "stop": 5,
    "start": 5,
    "start bigger": 2,
    "delete": 2,
    "look": 3,
    "connect": 3,
    "leave": 2,
}
_MACHINE_TYPES = ("e2-standard-2", "e2-standard-8")
_PERSISTENCE = 60  # tries of a create, with the same key
_QUIET_WITHIN_SECONDS = 600.0  # only a run that fails takes so long
_TRIES_BY_HAND = 30
_MOST_SECONDS = 600.0  # that a slow machine gets beyond the plan to do at least once what is in it
_POLL_SECONDS = 2.0
_LAST_LOOKS_AT_ONCE = 8
_OUR_LABELS = {"hub", "workspace", "owner", "managed-by"}
_AS_THEY_ARE = 3  # looks at the whole that are the same: then it is quiet


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much chaos there is to be, and which."""

    seed: int
    seconds: float
    people: int = 30


@dataclass(frozen=True)
class Asked:
    """What one person asked for once, and the answer: status 0 where none came."""

    request_id: str
    owner: int
    verb: str
    workspace_id: str
    began: datetime
    ended: datetime
    status: int
    answer: dict[str, Any]


@dataclass
class Outcome:
    """What is there when everything is quiet again, as people, the administrator and Compute's owner see it.

    Attributes:
        homes: by workspace, the numbers of the home disks that it was seen to be READY on.
        moved: the workspaces whose machine and home somebody moved to another zone.
    """

    plan: Plan
    asked: list[Asked]
    broken: list[str]
    deliveries: dict[str, int]
    looks: list[list[Workspace]]
    homes: dict[str, set[str]]
    moved: set[str]
    workspaces: list[Workspace]
    events: list[dict[str, Any]]
    machines: list[dict[str, Any]]
    disks: list[dict[str, Any]]
    connected: set[str]
    seconds_to_quiet: float

    def figures(self) -> str:
        """Return what happened, in numbers."""
        answers = Counter(f"{asked.verb} {asked.status or 'unanswered'}" for asked in self.asked)
        ends = Counter(event["result"] for event in self.events if event["who"] == "hub")
        most, left = (
            max(map(len, self.looks), default=0),
            Counter(ws["status"] for ws in self.workspaces),
        )
        return "\n".join(
            [
                f"seed {self.plan.seed}, {self.plan.seconds:g} s, {self.plan.people} people",
                f"asked {len(self.asked)}: {_listed(answers)}",
                f"messages and tasks: {', '.join(f'{count} {what}' for what, count in self.deliveries.items())}",
                f"broken {len(self.broken)}: {_listed(Counter(self.broken))}",
                f"ends {sum(ends.values())}: {_listed(ends)}",
                f"most workspaces at once: {most}; at the end {_listed(left)}",
                f"quiet after {self.seconds_to_quiet:.0f} s",
            ]
        )


def run(cloud: RunningCloud, plan: Plan) -> Outcome:
    """Let it happen, then wait until nothing is under way any more.

    Raises:
        TimeoutError: it does not become quiet; with what is still under way.
    """
    ends_at = time.monotonic() + plan.seconds
    people = [_Someone(cloud, plan, number, ends_at) for number in range(plan.people)]
    trouble = _Trouble(cloud, plan, ends_at, people)
    admin = ApiClient(cloud.address, cloud.token(ADMIN_EMAIL))
    looks: list[list[Workspace]] = []
    homes: dict[str, set[str]] = defaultdict(set)
    with ThreadPoolExecutor(plan.people + 1) as pool:
        living = [pool.submit(one.live) for one in people]
        breaking = pool.submit(trouble.make)
        while not all(each.done() for each in [*living, breaking]):
            time.sleep(2 * _POLL_SECONDS)
            with contextlib.suppress(*_AWAY):
                looks.append(admin.workspaces(all="true"))
                _see_homes(cloud, looks[-1], homes)
        for each in [*living, breaking]:
            each.result()
    connected = {name for one in people for name in one.connected}
    began = time.monotonic()
    workspaces = _quiet(cloud, admin, connected)
    seconds_to_quiet = time.monotonic() - began
    _see_homes(cloud, workspaces, homes)
    events = admin.every_event()
    with ThreadPoolExecutor(_LAST_LOOKS_AT_ONCE) as pool:
        list(pool.map(_Someone.look_at_all, people))
    return Outcome(
        plan=plan,
        asked=[asked for one in people for asked in one.asked],
        broken=trouble.broken,
        deliveries=trouble.deliveries,
        looks=looks,
        homes=homes,
        moved=trouble.moved,
        workspaces=workspaces,
        events=events,
        machines=in_compute(cloud, "instances", ""),
        disks=in_compute(cloud, "disks", ""),
        connected=connected,
        seconds_to_quiet=seconds_to_quiet,
    )


def _quiet(cloud: RunningCloud, admin: ApiClient, connected: set[str]) -> list[Workspace]:
    """Return all workspaces once nothing is under way, idle machines are asleep, and what has no record has gone."""
    deadline = time.monotonic() + _QUIET_WITHIN_SECONDS
    same = 0
    last: list[tuple[str, str]] = []
    restless: list[str] = []
    while same < _AS_THEY_ARE:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not quiet: {restless}")
        time.sleep(_POLL_SECONDS)
        try:
            call_scheduled(cloud, "reconcile_fleet")
            workspaces = admin.workspaces(all="true")
        except _AWAY:
            continue
        machines, disks = in_compute(cloud, "instances", ""), in_compute(cloud, "disks", "")
        restless = [ws["id"] for ws in workspaces if ws["operation"]]
        running = {machine["name"] for machine in machines if machine["status"] == "RUNNING"}
        awake = {ws["instance_name"] for ws in workspaces if ws["status"] == "READY"} | running
        restless += [ws["id"] for ws in workspaces if ws["instance_name"] in awake - connected]
        restless += [
            *left_over(workspaces, machines, disks),
            *unlabelled(workspaces, machines, disks),
        ]
        now = sorted((ws["id"], ws["status"]) for ws in workspaces)
        same, last = (same + 1 if now == last and not restless else 0), now
    return workspaces


def left_over(
    workspaces: list[Workspace], machines: list[dict[str, Any]], disks: list[dict[str, Any]]
) -> list[str]:
    """Return the names of machines and disks that are nobody's: a boot disk is its machine's, a home disk a workspace's."""
    names = {ws["instance_name"] for ws in workspaces}
    homes = {f"home-{ws['id']}" for ws in workspaces}
    attached = {disk["source"] for machine in machines for disk in machine["disks"]}
    nobodys = [machine["name"] for machine in machines if machine["name"] not in names]
    return nobodys + [
        disk["name"]
        for disk in disks
        if disk["name"] not in homes and disk["selfLink"] not in attached
    ]


def unlabelled(
    workspaces: list[Workspace], machines: list[dict[str, Any]], disks: list[dict[str, Any]]
) -> list[str]:
    """Return the names of the workspaces' machines and home disks that lack a label of the Hub's, or have another workspace's."""
    owned = {
        name: ws["id"] for ws in workspaces for name in (ws["instance_name"], f"home-{ws['id']}")
    }
    return [
        each["name"]
        for each in [*machines, *disks]
        if (workspace_id := owned.get(each["name"]))
        and not (
            each.get("labels", {}).get("workspace") == workspace_id
            and each["labels"].keys() >= _OUR_LABELS
        )
    ]


def _see_homes(
    cloud: RunningCloud, workspaces: list[Workspace], homes: dict[str, set[str]]
) -> None:
    """Take note of the disk that each READY workspace has for its home."""
    numbers = {disk["name"]: str(disk["id"]) for disk in in_compute(cloud, "disks", "")}
    for ws in workspaces:
        number = numbers.get(f"home-{ws['id']}")
        if number and ws["status"] == "READY":
            homes[ws["id"]].add(number)


@dataclass
class _Someone:
    """One person: asks for one thing after another, whatever the answers."""

    cloud: RunningCloud
    plan: Plan
    number: int
    ends_at: float
    asked: list[Asked] = field(default_factory=list)
    connected: set[str] = field(default_factory=set)
    asks_of: str = ""  # the workspace that is being asked about
    keeps_off: str = ""  # the one that must not be
    _known: dict[str, str] = field(default_factory=dict)  # a workspace's id → its machine's name

    def live(self) -> None:
        """Ask until it is over. Each turn draws the same chances, whatever came before."""
        chances = random.Random(f"{self.plan.seed}/person/{self.number}")
        self._person = ApiClient(
            self.cloud.address, self.cloud.token(f"person-{self.number}@example.com")
        )
        turn = 0
        most = self.ends_at + _MOST_SECONDS
        while time.monotonic() < (most if turn < _FIRST_CREATES else self.ends_at):
            first = turn < _FIRST_CREATES
            pause = chances.uniform(0, 4) if first else chances.uniform(0.5, 6)
            verb = chances.choices(list(_VERBS), list(_VERBS.values()))[0]
            spot = chances.random()
            time.sleep(min(pause, max(0.0, self.ends_at - time.monotonic())))
            self._do("create" if first else verb, spot, turn)
            turn += 1

    def look_at_all(self) -> None:
        """Ask once more for everything that this person was ever told of, so that there is a last answer about it."""
        for workspace_id in {
            asked.workspace_id: None for asked in self.asked if asked.status == 201
        }:
            for _ in range(_PERSISTENCE):
                if (
                    self._person.request("GET", f"/workspaces/{workspace_id}/status").status_code
                    < 500
                ):
                    break
                time.sleep(1)

    def _do(self, verb: str, spot: float, turn: int) -> None:
        if verb == "create":
            self._create(turn)
            return
        if not self._known:
            return
        workspace_id = self.asks_of = list(self._known)[int(spot * len(self._known))]
        try:
            if workspace_id != self.keeps_off:
                self._do_to(workspace_id, verb, spot, turn)
        finally:
            self.asks_of = ""

    def _do_to(self, workspace_id: str, verb: str, spot: float, turn: int) -> None:
        path = f"/workspaces/{workspace_id}"
        match verb:
            case "stop":
                self._ask(turn, verb, workspace_id, "POST", f"{path}/stop")
            case "start":
                self._ask(turn, verb, workspace_id, "POST", f"{path}/start")
            case "start bigger":
                body = {"machine_type": _MACHINE_TYPES[int(spot * 100) % 2]}
                self._ask(turn, verb, workspace_id, "POST", f"{path}/start", json=body)
            case "delete":
                # Whoever is connected stays so until the machine is gone: a DELETE that fails
                # leaves it, in use.
                if self._ask(turn, verb, workspace_id, "DELETE", path).status in {202, 404}:
                    self._known.pop(workspace_id)
            case "look":
                if self._ask(turn, verb, workspace_id, "GET", f"{path}/status").status == 404:
                    self.connected.discard(self._known.pop(workspace_id))
            case _:
                self._connect(self._known[workspace_id], connected=verb == "connect")

    def _create(self, turn: int) -> None:
        """Ask for a workspace, again with the same key while no definite answer comes."""
        headers = {"Idempotency-Key": f"{self.plan.seed}/{self.number}/{turn}"}
        for _ in range(_PERSISTENCE):
            asked = self._ask(
                turn,
                "create",
                "",
                "POST",
                "/workspaces",
                json={"name": f"w{turn}"},
                headers=headers,
            )
            if asked.status == 201:
                self._known[asked.workspace_id] = asked.answer["instance_name"]
            if 0 < asked.status < 500:
                return
            time.sleep(1)

    def _ask(
        self, turn: int, verb: str, workspace_id: str, method: str, path: str, **kwargs: Any
    ) -> Asked:
        request_id = f"chaos-{self.plan.seed}-{self.number}-{turn}"
        headers = {**kwargs.pop("headers", {}), "X-Request-Id": request_id}
        began = datetime.now(UTC)
        status, answer = 0, {}
        with contextlib.suppress(requests.RequestException):  # nothing, or half of an answer
            response = self._person.request(method, path, headers=headers, **kwargs)
            status, answer = response.status_code, _object(response)
        asked = Asked(
            request_id,
            self.number,
            verb,
            workspace_id or answer.get("id", ""),
            began,
            datetime.now(UTC),
            status,
            answer,
        )
        self.asked.append(asked)
        return asked

    def _connect(self, instance_name: str, *, connected: bool) -> None:
        """Open or end an SSH session, where there is a machine."""
        with contextlib.suppress(ValueError):
            self.cloud.connected(instance_name, connected=connected)
            (self.connected.add if connected else self.connected.discard)(instance_name)


@dataclass
class _Trouble:
    """Everything that breaks, one thing after another, and somebody with rights in Compute who does as they like."""

    cloud: RunningCloud
    plan: Plan
    ends_at: float
    people: list[_Someone]
    broken: list[str] = field(default_factory=list)
    deliveries: dict[str, int] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    _held: Workspace | None = None

    def make(self) -> None:
        """Break things until it is over and each has been broken, then mend them all."""
        chances = random.Random(f"{self.plan.seed}/trouble")
        self.cloud.fault(_DELIVERY, lost=0.03, twice=0.1, seconds=2.0, seed=self.plan.seed)
        acts: dict[str, Callable[[float], bool]] = {
            "firestore away": self._firestore_away,
            "pubsub away": self._pubsub_away,
            "process killed": self._kill,
            "machine deleted by hand": partial(self._by_hand, delete_by_hand),
            "machine stopped by hand": partial(self._by_hand, stop_by_hand),
            "labels taken off by hand": partial(self._by_hand, self._unlabel),
            "disk detached by hand": partial(self._by_hand, detach_by_hand),
            "disk held by hand": self._hold,
            "machine moved by hand": self._move,
            **{name: partial(self._strike, name, most) for name, most in _STRIKES_AT_MOST.items()},
        }
        try:
            while not self._is_over(acts):
                for kind in chances.sample(
                    list(acts), len(acts)
                ):  # each once before any comes again
                    pause, chance = chances.uniform(1, 4), chances.random()
                    if self._is_over(acts, pause):
                        return
                    time.sleep(pause)
                    if acts[kind](chance):
                        self.broken.append(kind)
        finally:
            [delivery] = [fault for fault in self.cloud.faults() if fault["name"] == _DELIVERY]
            self.deliveries = delivery["so_far"]
            self.cloud.clear_faults()
            self._let_go()

    def _is_over(self, acts: Collection[str], pause: float = 0.0) -> bool:
        """Say whether the time is up, and nothing is left that has not been broken; or that a very slow machine must leave out."""
        late = time.monotonic() + pause - self.ends_at
        return late > (0 if set(self.broken) >= set(acts) else _MOST_SECONDS)

    def _firestore_away(self, chance: float) -> bool:
        return self._away("firestore", 1 + 11 * chance)  # a request waits for 5 s

    def _pubsub_away(self, chance: float) -> bool:
        return self._away("pubsub", 1 + 9 * chance)

    def _away(self, name: str, seconds: float) -> bool:
        self.cloud.signal_emulator(name, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.cloud.signal_emulator(name, signal.SIGCONT)
        return True

    def _kill(self, chance: float) -> bool:
        functions = sorted(self.cloud.state["functions"])
        with contextlib.suppress(ProcessLookupError):
            self.cloud.kill_function(functions[int(chance * len(functions))])
        return True

    def _by_hand(self, act: Callable[[RunningCloud, Workspace], object], chance: float) -> bool:
        """Do something to the first machine to which it can be done: Compute may be away, or the machine; or not to be interrupted."""
        for workspace in self._some_machines(chance):
            with contextlib.suppress(requests.RequestException):
                act(self.cloud, workspace)
                return True
        return False

    def _some_machines(self, chance: float) -> Iterator[Workspace]:
        """Yield workspaces that have machines, beginning somewhere, in the form in which hands take them."""
        try:
            found = in_compute(self.cloud, "instances", "")
        except (
            requests.RequestException
        ):  # Compute is away, to those who look at it from outside too
            return
        machines = [each for each in found if each["name"].startswith("workspace-")]
        first = int(chance * len(machines))
        for machine in [*machines[first:], *machines[:first]][:_TRIES_BY_HAND]:
            yield {
                "id": machine["name"].removeprefix("workspace-"),
                "project_id": self.cloud.state["project_id"],
                "zone": machine["zone"].rsplit("/", 1)[-1],
                "instance_name": machine["name"],
            }

    def _unlabel(self, cloud: RunningCloud, workspace: Workspace) -> None:
        """Take from a machine whose it is, and from its disks that they are the Hub's at all."""
        unlabel_by_hand(cloud, workspace, "instances", ("workspace", "owner"))
        unlabel_by_hand(cloud, workspace, "disks", ("workspace", "hub"))

    def _hold(self, chance: float) -> bool:
        """Have somebody else's machine hold a home, and let go of the one that it held before."""
        self._let_go()
        for workspace in self._some_machines(chance):
            self._held = workspace
            with contextlib.suppress(requests.RequestException):
                hold_disk_by_hand(self.cloud, workspace)
                return True
            self._let_go()
        return False

    def _let_go(self) -> None:
        """Have the home that somebody holds given back, if there is one: what fails is tried again, as a person would."""
        deadline = time.monotonic() + _MOST_SECONDS
        while self._held is not None and time.monotonic() < deadline:
            try:
                release_disk_by_hand(self.cloud, self._held)
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code == 404:
                    self._held = None
                time.sleep(1)
            else:
                self._held = None

    def _move(self, chance: float) -> bool:
        """Move a machine that nobody is doing anything to, undisturbed: what is left of half a move would be nobody's fault."""
        admin = ApiClient(self.cloud.address, self.cloud.token(ADMIN_EMAIL))
        for workspace in self._some_machines(chance):
            with self._left_alone(workspace["id"]), contextlib.suppress(requests.RequestException):
                shown = admin.request("GET", f"/workspaces/{workspace['id']}/status").json()
                quiet = shown.get("operation", "unknown") is None and (
                    shown["status"] == "SUSPENDED"
                    or (shown["status"] == "READY" and self._is_connected(workspace))
                )
                if not quiet or (self._held is not None and self._held["id"] == workspace["id"]):
                    continue
                for fault in FAULTS:
                    self.cloud.fault(fault, off=True)
                self.moved.add(workspace["id"])
                zone = next(each for each in LocalSettings.zones if each != workspace["zone"])
                move_by_hand(self.cloud, workspace, zone)
                return True
        return False

    @contextlib.contextmanager
    def _left_alone(self, workspace_id: str) -> Iterator[None]:
        """Have nobody ask for anything of a workspace for as long as the context lasts."""
        for one in self.people:
            one.keeps_off = workspace_id
        try:
            while any(one.asks_of == workspace_id for one in self.people):
                time.sleep(0.1)
            yield
        finally:
            for one in self.people:
                one.keeps_off = ""

    def _is_connected(self, workspace: Workspace) -> bool:
        return any(workspace["instance_name"] in one.connected for one in self.people)

    def _strike(self, name: str, most: int, chance: float) -> bool:
        self.cloud.fault(name, count=1 + int(chance * most))
        return True


def _object(response: requests.Response) -> dict[str, Any]:
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())
