"""Many users at once while everything around the Hub fails, as planned by a seed.

The same seed gives the same plan: who asks for what after which pause, and what fails when. The
results still differ from run to run, because they depend on how the processes interleave.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import requests

from localcloud.api_client import ApiClient, RefusedError, Workspace
from localcloud.running_cloud import RunningCloud
from localcloud.services.compute.faults import FAULTS
from localcloud.settings import ADMIN_EMAIL, LocalSettings
from tests.system.records import (
    Records,
    call_scheduled,
    delete_by_hand,
    detach_by_hand,
    hold_disk_by_hand,
    in_compute,
    move_by_hand,
    release_disk_by_hand,
    snapshots_in_compute,
    stop_by_hand,
    unlabel_by_hand,
)

MAX_WORKSPACES = 11  # of one user: the quota; each user begins with ten
MAX_RUNNING = 10
MAX_SNAPSHOTS = 3  # of one workspace
MAX_DELETED = 3  # of one user, that can be taken back
IDLE_SECONDS = 30
WORKER_SECONDS = 8
GRACE_SECONDS = 10  # for which what has no record is kept
DEADLINE_SECONDS = 45
# By then every operation has ended, its clean-up after a failure included, and any reader sees
# that, even on a slow machine. The boot of a RESTORE has a deadline of its own.
OPERATION_SECONDS = 3 * DEADLINE_SECONDS + 120
CLOUD = LocalSettings(
    times="fast",
    schedule_seconds=2,
    heartbeat_seconds=2,
    write_requests=True,
    overrides={
        "HUB_WORKSPACES_PER_OWNER": str(MAX_WORKSPACES),
        "HUB_RUNNING_PER_OWNER": str(MAX_RUNNING),
        "HUB_CHANGES_PER_MINUTE": "1000",
        "HUB_REQUESTS_PER_MINUTE": "100000",
        "HUB_IDLE_SECONDS": str(IDLE_SECONDS),
        "HUB_CREATE_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_START_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_STOP_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_DELETE_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_SNAPSHOT_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_RESTORE_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_ARCHIVE_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
        "HUB_ARCHIVE_SECONDS": str(14 * 24 * 3600),  # see ``Records.forget``
        "HUB_SNAPSHOTS_PER_WORKSPACE": str(MAX_SNAPSHOTS),
        "HUB_DELETED_PER_OWNER": str(MAX_DELETED),
        "HUB_ATTEND_SECONDS": "12",
        "HUB_WORKER_TIMEOUT_SECONDS": str(WORKER_SECONDS),
        "HUB_ORPHAN_GRACE_SECONDS": str(GRACE_SECONDS),
    },
)

_MAX_STRIKES = {
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
    "source_gone": 4,
    "source_not_ready": 4,
    "source_busy": 4,
    "snapshot_quota_exceeded": 1,
    "snapshot_location_forbidden": 1,
    "capture_fails": 1,
    "upload_fails": 1,
    "slow_upload": 4,
}
# The database is down, or the function was killed.
_UNAVAILABLE = (RefusedError, requests.RequestException)
_DELIVERY = "unreliable_delivery"
_FIRST_CREATES = 10
_VERBS = {
    "create": 2,
    "stop": 5,
    "start": 5,
    "start bigger": 2,
    "start larger": 2,
    "start elsewhere": 3,
    "start that may move": 2,
    "delete": 2,
    "look": 3,
    "connect": 3,
    "leave": 2,
    "snapshot": 4,
    "snapshot during another": 2,
    "delete during a snapshot": 1,
    "snapshots": 2,
    "delete snapshot": 1,
    "fork": 2,
    "fork another's": 1,
    "restore": 3,
    "restore another's": 1,
    "delete during a restore": 1,
    "delete during a move": 1,
    "archive": 3,
    "start over an archive": 1,
    "purge": 1,
    "undelete": 3,
    "undelete another's": 1,
}
# What each run gets at least once, however slow the machine is: a verb, and the answer's status.
WANTED = frozenset(
    {
        *(("snapshot", 202), ("snapshots", 200), ("delete snapshot", 202)),
        *(("fork", 201), ("fork another's", 404), ("fork as administrator", 404)),
        *(("restore", 202), ("restore another's", 404), ("restore as administrator", 404)),
        *(("archive", 202), ("start larger", 202)),
        *(("start elsewhere", 202), ("start that may move", 202)),
        *(("purge", 202), ("undelete", 200), ("undelete another's", 404)),
    }
)
# Requests during which a snapshot is asked for, most often in vain.
_DURING = ("stop", "start", "start bigger", "start larger", "start elsewhere")
_NEED_A_SNAPSHOT = {"restore", "delete during a restore"}
_SIZES_GB = (60, 80, 100)  # to which a home may grow; one that is larger by then is refused
_MACHINE_TYPES = ("e2-standard-2", "e2-standard-8")
_MAX_TRIES = 60  # of a create with the same key, or of a start
_QUIET_TIMEOUT_SECONDS = 600.0  # only a run that fails takes so long
_MAX_MACHINES_TRIED = 30
_FORGOTTEN_AT_ONCE = 4
_DELETION = timedelta(minutes=10)  # in which a machine is gone that the Hub has deleted
# How much longer than planned a run may take, so that a slow machine does everything at least once.
_MAX_EXTRA_SECONDS = 600.0
_POLL_SECONDS = 2.0
_LONG_WAIT = timedelta(seconds=30)
_LAST_LOOK_WORKERS = 8
_HUB_LABELS = {"hub", "workspace", "owner", "managed-by"}
_STABLE_LOOKS = 3  # equal looks in a row after which the run counts as quiet


Homes = dict[str, tuple[str, dict[str, bool]]]  # see ``Records.homes``
Former = dict[str, list[dict[str, Any]]]  # see ``Records.old_homes``


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much chaos there is, and which."""

    seed: int
    seconds: float
    users: int = 30


@dataclass(frozen=True)
class Exchange:
    """A user's request and its answer; the status is 0 if no answer came."""

    request_id: str
    user: int
    verb: str
    workspace_id: str
    began: datetime
    ended: datetime
    status: int
    answer: dict[str, Any]


@dataclass
class Outcome:
    """What users, the administrator and Compute see once everything is quiet again.

    Attributes:
        injected: the names of the faults, in the order in which they were injected.
        listings: the administrator's lists of all workspaces during the run.
        homes: by workspace, the ids of the home disks with which it was seen READY.
        moved: the workspaces whose machine and home somebody moved to another zone.
        connected: the names of the machines to which a user is still connected.
        snapshots: the snapshots that are recorded, by id.
        stored: those in Compute that the Hub has made, by their names.
        waiting: by workspace, the id of the snapshot that its home is yet to be made from.
        deleted: the entries of the deleted workspaces that can be taken back, by id.
        home_of: by workspace, the name of its home disk, and whether each old one is to go.
        former: by workspace, the old homes that are recorded, with their machines.
        ended: when that was read.
    """

    plan: Plan
    exchanges: list[Exchange]
    injected: list[str]
    deliveries: dict[str, int]
    listings: list[list[Workspace]]
    homes: dict[str, set[str]]
    moved: set[str]
    workspaces: list[Workspace]
    events: list[dict[str, Any]]
    machines: list[dict[str, Any]]
    disks: list[dict[str, Any]]
    connected: set[str]
    snapshots: dict[str, dict[str, Any]]
    stored: list[dict[str, Any]]
    waiting: dict[str, str]
    deleted: dict[str, dict[str, Any]]
    home_of: Homes
    former: Former
    ended: datetime
    seconds_to_quiet: float

    def summary(self) -> str:
        """Return what happened, in numbers."""
        answers = Counter(f"{each.verb} {each.status or 'unanswered'}" for each in self.exchanges)
        results = Counter(event["result"] for event in self.events if event["who"] == "hub")
        most = max(map(len, self.listings), default=0)
        left = Counter(ws["status"] for ws in self.workspaces)
        kept = Counter(each["state"] for each in self.snapshots.values())
        deliveries = ", ".join(f"{count} {what}" for what, count in self.deliveries.items())
        return "\n".join(
            [
                f"seed {self.plan.seed}, {self.plan.seconds:g} s, {self.plan.users} users",
                f"requests {len(self.exchanges)}: {_listed(answers)}",
                f"messages and tasks: {deliveries}",
                f"faults {len(self.injected)}: {_listed(Counter(self.injected))}",
                f"results {sum(results.values())}: {_listed(results)}",
                f"most workspaces at once: {most}; at the end {_listed(left)}",
                f"snapshots at the end: {_listed(kept)}",
                f"quiet after {self.seconds_to_quiet:.0f} s",
            ]
        )


def run(cloud: RunningCloud, plan: Plan) -> Outcome:
    """Carry out a plan, then wait until no operation is under way.

    Raises:
        TimeoutError: it does not become quiet; the message says what is still under way.
    """
    ends_at = time.monotonic() + plan.seconds
    users = [_User(cloud, plan, number, ends_at) for number in range(plan.users)]
    for user in users:
        user.everybody = users
    injector = _FaultInjector(cloud, plan, ends_at, users)
    admin = ApiClient(cloud.address, cloud.token(ADMIN_EMAIL))
    listings: list[list[Workspace]] = []
    homes: dict[str, set[str]] = defaultdict(set)
    with ThreadPoolExecutor(plan.users + 1) as pool:
        tasks = [*(pool.submit(user.run) for user in users), pool.submit(injector.run)]
        while not all(task.done() for task in tasks):
            time.sleep(2 * _POLL_SECONDS)
            with contextlib.suppress(*_UNAVAILABLE):
                listings.append(admin.workspaces(all="true"))
                _record_homes(cloud, listings[-1], homes)
        for task in tasks:
            task.result()
    connected = {name for user in users for name in user.connected}
    began = time.monotonic()
    workspaces = _wait_until_quiet(cloud, admin, connected)
    seconds_to_quiet = time.monotonic() - began
    _record_homes(cloud, workspaces, homes)
    events = admin.every_event()
    with ThreadPoolExecutor(_LAST_LOOK_WORKERS) as pool:
        list(pool.map(_User.ask_for_every_status, users))
    records = Records(cloud)
    return Outcome(
        plan=plan,
        exchanges=[exchange for user in users for exchange in user.exchanges],
        injected=injector.injected,
        deliveries=injector.deliveries,
        listings=listings,
        homes=homes,
        moved=injector.moved,
        workspaces=workspaces,
        events=events,
        machines=in_compute(cloud, "instances", ""),
        disks=in_compute(cloud, "disks", ""),
        connected=connected,
        snapshots=records.snapshots(),
        stored=_stored(cloud),
        waiting=records.home_sources(),
        deleted=records.deleted(),
        home_of=records.homes(),
        former=records.old_homes(),
        ended=datetime.now(UTC),
        seconds_to_quiet=seconds_to_quiet,
    )


def _wait_until_quiet(
    cloud: RunningCloud, admin: ApiClient, connected: set[str]
) -> list[Workspace]:
    """Return all workspaces once nothing is left to do.

    Then no operation is under way, idle machines are suspended, snapshots are stored or gone, and
    so is what has no record.
    """
    records = Records(cloud)
    deadline = time.monotonic() + _QUIET_TIMEOUT_SECONDS
    same = 0
    last: list[tuple[str, str]] = []
    busy: list[str] = []
    while same < _STABLE_LOOKS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not quiet: {busy}")
        time.sleep(_POLL_SECONDS)
        try:
            call_scheduled(cloud, "reconcile_fleet")
            workspaces = admin.workspaces(all="true")
        except _UNAVAILABLE:
            continue
        machines, disks = in_compute(cloud, "instances", ""), in_compute(cloud, "disks", "")
        busy = [ws["id"] for ws in workspaces if ws["operation"]]
        running = {machine["name"] for machine in machines if machine["status"] == "RUNNING"}
        awake = {ws["instance_name"] for ws in workspaces if ws["status"] == "READY"} | running
        busy += [ws["id"] for ws in workspaces if ws["instance_name"] in awake - connected]
        homes, former = records.homes(), records.old_homes()
        stored = _stored(cloud)
        lasting = lasting_resources(former, machines, disks, records.snapshots(), stored)
        present = without_lasting(machines, lasting)
        busy += [
            *left_over(workspaces, present, without_lasting(disks, lasting), homes),
            *former_machines(former, present),
            *unlabelled(workspaces, present, without_lasting(disks, lasting), homes),
            *_unsettled_snapshots(cloud, records),
        ]
        now = sorted((ws["id"], ws["status"]) for ws in workspaces)
        same, last = (same + 1 if now == last and not busy else 0), now
    return workspaces


def _unsettled_snapshots(cloud: RunningCloud, records: Records) -> list[str]:
    """Return what is not settled of snapshots, and have ``reconcile`` see soon to what waits long.

    A snapshot that is to be deleted stays for as long as a home is yet to be made from it.
    """
    known, awaited = records.snapshots(), set(records.home_sources().values())
    unsettled = []
    for snapshot_id, each in known.items():
        deleting = each["state"] == "DELETING" and snapshot_id not in awaited
        if each["state"] == "UPLOADING" or deleting:
            unsettled.append(f"snapshot {snapshot_id} {each['state']}")
            records.hasten_snapshot(snapshot_id, if_later_than=_LONG_WAIT)
    return unsettled + unrecorded(known, _stored(cloud))


def _stored(cloud: RunningCloud) -> list[dict[str, Any]]:
    """Return the snapshots in Compute that have names as the Hub gives them."""
    return [
        each for each in snapshots_in_compute(cloud) if each["name"].startswith("home-snapshot-")
    ]


def name_of_snapshot(snapshot: dict[str, Any]) -> str:
    """Return the name in Compute of a recorded snapshot."""
    return f"home-snapshot-{snapshot['workspace_id']}-{snapshot['id'][-12:]}"


def unrecorded(known: dict[str, dict[str, Any]], stored: list[dict[str, Any]]) -> list[str]:
    """Return the names of the snapshots in Compute that no record has."""
    names = {name_of_snapshot(each) for each in known.values()}
    return [each["name"] for each in stored if each["name"] not in names]


def lasting_resources(
    former: Former,
    machines: list[dict[str, Any]],
    disks: list[dict[str, Any]],
    known: dict[str, dict[str, Any]],
    stored: list[dict[str, Any]],
) -> set[str]:
    """Return the ids of the machines and disks of before a move that stay until a person comes.

    Somebody has used the machine since the snapshot was taken, or has deleted it, or it or its disk
    lacks its labels, or the snapshot is gone.
    """
    created = {each["name"]: each["creationTimestamp"] for each in stored}
    lasting = set[str]()
    for workspace_id, old_homes in former.items():
        for old in old_homes:
            mine = [
                *(each for each in machines if str(each["id"]) == old.get("instance_id")),
                *(
                    each
                    for each in disks
                    if each["name"] == old["name"] and _is_in(each, old["zone"])
                ),
            ]
            recorded = known.get(old["snapshot_id"] or "")
            copied_at = old.get("copied_at")
            if recorded is not None and name_of_snapshot(recorded) in created:
                copied_at = datetime.fromisoformat(created[name_of_snapshot(recorded)])
            if (
                any(_lacks_labels(each, workspace_id) for each in mine)
                or old["snapshot_id"] is None
                or (recorded is not None and recorded["state"] == "FAILED")
                or (old.get("outlived") and any(_is_used(each, old, copied_at) for each in mine))
            ):
                lasting |= _with_boot_disks(mine, disks)
    return lasting


def _is_used(resource: dict[str, Any], old: dict[str, Any], copied_at: datetime | None) -> bool:
    """Say whether a machine of before a move, or its disk, was used since its snapshot was taken.

    If the disk was detached since, another machine may have had it, unless the Hub itself has
    deleted its own.
    """
    if "machineType" in resource:
        ends = [resource.get("lastStopTimestamp"), resource.get("lastSuspendedTimestamp")]
    elif resource.get("users"):
        return False
    else:
        ends = [resource.get("lastDetachTimestamp")]
        if old.get("deleting_since"):
            copied_at = old["deleting_since"] + _DELETION
    return any(
        end and (copied_at is None or datetime.fromisoformat(end) > copied_at) for end in ends
    )


def _lacks_labels(resource: dict[str, Any], workspace_id: str) -> bool:
    labels = resource.get("labels", {})
    return labels.get("workspace") != workspace_id or not labels.keys() >= _HUB_LABELS


def _is_in(resource: dict[str, Any], zone: str) -> bool:
    return bool(resource["zone"].rsplit("/", 1)[-1] == zone)


def _with_boot_disks(resources: list[dict[str, Any]], disks: list[dict[str, Any]]) -> set[str]:
    """Return the ids of machines and disks, and of the disks that are attached to the machines."""
    attached = {disk["source"] for each in resources for disk in each.get("disks", ())}
    return {str(each["id"]) for each in resources} | {
        str(disk["id"]) for disk in disks if disk["selfLink"] in attached
    }


def without_lasting(found: list[dict[str, Any]], lasting: set[str]) -> list[dict[str, Any]]:
    """Return the machines or disks that are not among those that stay."""
    return [each for each in found if str(each["id"]) not in lasting]


def former_machines(former: Former, machines: list[dict[str, Any]]) -> list[str]:
    """Return the machines of before a move, and of one that has failed, which are to go."""
    ids = {old.get("instance_id") for old_homes in former.values() for old in old_homes}
    return [
        f"{machine['name']} in {machine['zone'].rsplit('/', 1)[-1]}"
        for machine in machines
        if str(machine["id"]) in ids
    ]


def left_over(
    workspaces: list[Workspace],
    machines: list[dict[str, Any]],
    disks: list[dict[str, Any]],
    homes: Homes,
) -> list[str]:
    """Return the names of the machines and disks that belong to no workspace.

    A boot disk belongs to its machine, a home disk to its workspace.
    """
    names = {ws["instance_name"] for ws in workspaces}
    attached = {disk["source"] for machine in machines for disk in machine["disks"]}
    left_machines = [machine["name"] for machine in machines if machine["name"] not in names]
    return left_machines + [
        disk["name"]
        for disk in disks
        if disk["selfLink"] not in attached
        and not any(_belongs(disk, ws, homes) for ws in workspaces)
    ]


def _belongs(disk: dict[str, Any], ws: Workspace, homes: Homes) -> bool:
    """Say whether a disk is a workspace's home, or an old one that is not to go.

    The Hub does not delete one that lacks its labels, as it may have been made by somebody else.
    """
    present, old = homes.get(ws["id"], (f"home-{ws['id']}", {}))
    stays = not old.get(disk["name"], True) or not disk.get("labels", {}).keys() >= _HUB_LABELS
    return disk["name"] == present or (disk["name"] in old and stays)


def unlabelled(
    workspaces: list[Workspace],
    machines: list[dict[str, Any]],
    disks: list[dict[str, Any]],
    homes: Homes,
) -> list[str]:
    """Return the names of the workspaces' machines and home disks whose labels are wrong.

    They lack a label of the Hub, or have another workspace's.
    """
    workspace_ids = {ws["instance_name"]: ws["id"] for ws in workspaces}
    workspace_ids |= {homes[ws["id"]][0]: ws["id"] for ws in workspaces if ws["id"] in homes}
    return [
        each["name"]
        for each in [*machines, *disks]
        if (workspace_id := workspace_ids.get(each["name"]))
        and not (
            each.get("labels", {}).get("workspace") == workspace_id
            and each["labels"].keys() >= _HUB_LABELS
        )
    ]


def _record_homes(
    cloud: RunningCloud, workspaces: list[Workspace], homes: dict[str, set[str]]
) -> None:
    """Add to ``homes`` the id of the home disk that the machine of each READY workspace has."""
    disk_ids = {disk["selfLink"]: str(disk["id"]) for disk in in_compute(cloud, "disks", "")}
    machines = {
        (machine["name"], machine["zone"].rsplit("/", 1)[-1]): machine
        for machine in in_compute(cloud, "instances", "")
    }
    for ws in workspaces:
        machine = machines.get((ws["instance_name"], ws["zone"]))
        if machine is None or ws["status"] != "READY" or ws["operation"] is not None:
            continue
        for disk in machine["disks"]:
            if disk["deviceName"] == "home" and disk["source"] in disk_ids:
                homes[ws["id"]].add(disk_ids[disk["source"]])


@dataclass
class _User:
    """A user who sends one request after another, regardless of the answers.

    Attributes:
        busy_with: the id of the workspace that a request is about at the moment; empty: of none.
        avoids: the id of the workspace about which no request may be sent; empty: any may.
        snapshots: by the id of each snapshot that the user has asked for, its workspace.
        deleted: by the id of each workspace that the user has deleted, its machine's name.
        everybody: all users.
    """

    cloud: RunningCloud
    plan: Plan
    number: int
    ends_at: float
    exchanges: list[Exchange] = field(default_factory=list)
    connected: set[str] = field(default_factory=set)
    busy_with: str = ""
    avoids: str = ""
    snapshots: dict[str, str] = field(default_factory=dict)
    deleted: dict[str, str] = field(default_factory=dict)
    everybody: list[_User] = field(default_factory=list, repr=False)
    _known: dict[str, str] = field(default_factory=dict)  # a workspace's id → its machine's name
    _names: dict[str, str] = field(default_factory=dict)  # a workspace's id → its name
    _free: list[str] = field(default_factory=list)  # names of workspaces that were deleted

    def run(self) -> None:
        """Send requests until the time is up and the users have got all that is wanted.

        Each turn draws the same random numbers, so earlier answers do not change the plan.
        """
        chances = random.Random(f"{self.plan.seed}/person/{self.number}")
        self._client = ApiClient(
            self.cloud.address, self.cloud.token(f"person-{self.number}@example.com")
        )
        turn = 0
        latest_end = self.ends_at + _MAX_EXTRA_SECONDS
        while time.monotonic() < self.ends_at or (
            time.monotonic() < latest_end and (turn < _FIRST_CREATES or self._lacks_something())
        ):
            first = turn < _FIRST_CREATES
            pause = chances.uniform(0, 4) if first else chances.uniform(0.5, 6)
            verb = chances.choices(list(_VERBS), list(_VERBS.values()))[0]
            chance = chances.random()
            time.sleep(min(pause, max(0.0, self.ends_at - time.monotonic())) if first else pause)
            self._do("create" if first else verb, chance, turn)
            turn += 1

    def _lacks_something(self) -> bool:
        got = {(each.verb, each.status) for user in self.everybody for each in list(user.exchanges)}
        return not got >= WANTED

    def ask_for_every_status(self) -> None:
        """Ask once more for every workspace that was made, so that there is a last answer."""
        made = {each.workspace_id: None for each in self.exchanges if each.status == 201}
        for workspace_id in made:
            for _ in range(_MAX_TRIES):
                if (
                    self._client.request("GET", f"/workspaces/{workspace_id}/status").status_code
                    < 500
                ):
                    break
                time.sleep(1)

    def _do(self, verb: str, chance: float, turn: int) -> None:
        if verb == "create":
            self._create(turn)
            return
        if verb == "fork":
            self._fork(chance, turn)
            return
        if verb == "fork another's":
            self._fork_another_s(chance, turn)
            return
        if verb == "restore another's":
            self._restore_another_s(chance, turn)
            return
        if verb == "undelete":
            self._undelete(chance, turn)
            return
        if verb == "undelete another's":
            self._undelete_another_s(chance, turn)
            return
        if not self._known:
            return
        chosen = list(self._known)
        if verb in _NEED_A_SNAPSHOT:
            chosen = [each for each in self.snapshots.values() if each in self._known] or chosen
        workspace_id = self.busy_with = chosen[int(chance * len(chosen))]
        try:
            if workspace_id != self.avoids:
                self._do_to(workspace_id, verb, chance, turn)
        finally:
            self.busy_with = ""

    def _do_to(self, workspace_id: str, verb: str, chance: float, turn: int) -> None:
        path = f"/workspaces/{workspace_id}"
        match verb:
            case "stop":
                self._ask(turn, verb, workspace_id, "POST", f"{path}/stop")
            case "start" | "start bigger" | "start larger":
                self._start(workspace_id, verb, chance, turn)
            case "start elsewhere" | "start that may move":
                self._start(workspace_id, verb, chance, turn)
            case "delete during a move":
                self._do_to(workspace_id, "start elsewhere", chance, turn)
                self._do_to(workspace_id, "delete", chance, turn)
            case "snapshot":
                self._take_snapshot(workspace_id, chance, turn)
            case "snapshot during another":
                other = _DURING[int(chance * 100) % len(_DURING)]
                self._do_to(workspace_id, other, chance, turn)
                self._take_snapshot(workspace_id, chance, turn)
            case "delete during a snapshot":
                self._take_snapshot(workspace_id, chance, turn)
                self._do_to(workspace_id, "delete", chance, turn)
            case "restore":
                self._restore(workspace_id, chance, turn)
            case "delete during a restore":
                self._restore(workspace_id, chance, turn)
                self._do_to(workspace_id, "delete", chance, turn)
            case "archive":
                self._ask(turn, verb, workspace_id, "POST", f"{path}/archive")
            case "start over an archive":
                self._start_over_archive(workspace_id, chance, turn)
            case "snapshots":
                self._ask(turn, verb, workspace_id, "GET", f"{path}/snapshots")
            case "delete snapshot":
                mine = [each for each, of in self.snapshots.items() if of == workspace_id]
                if mine:
                    which = mine[int(chance * 1000) % len(mine)]
                    self._ask(turn, verb, workspace_id, "DELETE", f"{path}/snapshots/{which}")
            case "delete" | "purge":
                # A user who is connected stays so until the machine is gone: after a DELETE that
                # fails, the machine is still in use.
                query = "?purge=true" if verb == "purge" else ""
                asked = self._ask(turn, verb, workspace_id, "DELETE", f"{path}{query}")
                if asked.status in {202, 404}:
                    self.deleted[workspace_id] = self._known.pop(workspace_id)
                    self._free.append(self._names[workspace_id])
            case "look":
                if self._ask(turn, verb, workspace_id, "GET", f"{path}/status").status == 404:
                    self.connected.discard(self._known.pop(workspace_id))
            case _:
                self._connect(self._known[workspace_id], connected=verb == "connect")

    def _start(self, workspace_id: str, verb: str, chance: float, turn: int) -> None:
        """Ask for a START, of another machine, a larger home or in another zone as ``verb`` says.

        The zone may be the one that the workspace is in.
        """
        number = int(chance * 100)
        bodies: dict[str, dict[str, Any]] = {
            "start bigger": {"machine_type": _MACHINE_TYPES[number % len(_MACHINE_TYPES)]},
            "start larger": {"home_disk_gb": _SIZES_GB[number % len(_SIZES_GB)]},
            "start elsewhere": {"zone": LocalSettings.zones[number % len(LocalSettings.zones)]},
            "start that may move": {"may_move": True},
        }
        path = f"/workspaces/{workspace_id}/start"
        self._ask(turn, verb, workspace_id, "POST", path, json=bodies.get(verb))

    def _start_over_archive(self, workspace_id: str, chance: float, turn: int) -> None:
        """Ask for an ARCHIVE, and then for a START until that is accepted.

        It is refused while the machine is shut down, and while the disk is deleted.
        """
        path = f"/workspaces/{workspace_id}"
        self._ask(turn, "archive", workspace_id, "POST", f"{path}/archive")
        for _ in range(_MAX_TRIES):
            asked = self._ask(turn, "start", workspace_id, "POST", f"{path}/start")
            if asked.status != 409:
                break
            time.sleep(chance)

    def _take_snapshot(self, workspace_id: str, chance: float, turn: int) -> None:
        """Ask for a snapshot, with a name every other time."""
        body = {"name": f"s{turn}"} if int(chance * 1000) % 2 else {}
        path = f"/workspaces/{workspace_id}/snapshots"
        exchange = self._ask(turn, "snapshot", workspace_id, "POST", path, json=body)
        if exchange.status == 202:
            self.snapshots[exchange.answer["operation"]["id"]] = workspace_id

    def _restore(self, workspace_id: str, chance: float, turn: int) -> None:
        """Ask for a RESTORE of a snapshot of the workspace, which may be gone or not be READY."""
        mine = [each for each, of in self.snapshots.items() if of == workspace_id]
        if mine:
            body = {"snapshot_id": mine[int(chance * 1000) % len(mine)]}
            path = f"/workspaces/{workspace_id}/restore"
            self._ask(turn, "restore", workspace_id, "POST", path, json=body)

    def _restore_another_s(self, chance: float, turn: int) -> None:
        """Ask for a RESTORE of another user's workspace, and do so as an administrator."""
        theirs = [
            each
            for user in self.everybody
            if user is not self
            for each in list(user.snapshots.items())
        ]
        if theirs:
            snapshot_id, workspace_id = theirs[int(chance * len(theirs))]
            body, path = {"snapshot_id": snapshot_id}, f"/workspaces/{workspace_id}/restore"
            self._ask(turn, "restore another's", workspace_id, "POST", path, json=body)
            admin = {"Authorization": f"Bearer {self.cloud.token(ADMIN_EMAIL)}"}
            verb = "restore as administrator"
            self._ask(turn, verb, workspace_id, "POST", path, json=body, headers=admin)

    def _undelete(self, chance: float, turn: int) -> None:
        """Ask for a deleted workspace back, which may be there still, or gone, with a new name.

        What was snapshotted of it can be restored then.
        """
        if not self.deleted:
            return
        which = list(self.deleted)[int(chance * len(self.deleted))]
        name = f"u{turn}"
        path = f"/workspaces/{which}/undelete"
        if self._ask(turn, "undelete", which, "POST", path, json={"name": name}).status == 200:
            self._known[which] = self.deleted.pop(which)
            self._names[which] = name

    def _undelete_another_s(self, chance: float, turn: int) -> None:
        """Ask for another user's deleted workspace."""
        theirs = [
            workspace_id
            for user in self.everybody
            if user is not self
            for workspace_id in list(user.deleted)
        ]
        if theirs:
            which = theirs[int(chance * len(theirs))]
            path = f"/workspaces/{which}/undelete"
            self._ask(turn, "undelete another's", which, "POST", path, json={})

    def _fork(self, chance: float, turn: int) -> None:
        """Ask for a workspace from a snapshot of the user's, which may be gone or not be READY."""
        mine = list(self.snapshots)
        if mine:
            self._create(turn, {"from": {"snapshot_id": mine[int(chance * len(mine))]}})

    def _fork_another_s(self, chance: float, turn: int) -> None:
        """Ask for a workspace from a snapshot of another user, and do so as an administrator."""
        theirs = [
            snapshot_id
            for user in self.everybody
            if user is not self
            for snapshot_id in list(user.snapshots)
        ]
        if theirs:
            source = {"snapshot_id": theirs[int(chance * len(theirs))]}
            body = {"name": f"x{turn}", "from": source}
            self._ask(turn, "fork another's", "", "POST", "/workspaces", json=body)
            admin = {"Authorization": f"Bearer {self.cloud.token(ADMIN_EMAIL)}"}
            verb = "fork as administrator"
            self._ask(turn, verb, "", "POST", "/workspaces", json=body, headers=admin)

    def _create(self, turn: int, source: dict[str, Any] | None = None) -> None:
        """Ask for a workspace, and repeat with the same key until a definite answer comes.

        It gets the name of the one that was deleted last, which may still be there. ``source`` says
        which snapshot it is made from; None: from none.
        """
        headers = {"Idempotency-Key": f"{self.plan.seed}/{self.number}/{turn}"}
        body = {"name": self._free.pop() if self._free else f"w{turn}", **(source or {})}
        verb = "fork" if source else "create"
        for _ in range(_MAX_TRIES):
            exchange = self._ask(turn, verb, "", "POST", "/workspaces", json=body, headers=headers)
            if exchange.status == 201:
                self._known[exchange.workspace_id] = exchange.answer["instance_name"]
                self._names[exchange.workspace_id] = body["name"]
            if 0 < exchange.status < 500:
                if source and exchange.status != 201:
                    self._free.append(body["name"])
                return
            time.sleep(1)

    def _ask(
        self, turn: int, verb: str, workspace_id: str, method: str, path: str, **kwargs: Any
    ) -> Exchange:
        request_id = f"chaos-{self.plan.seed}-{self.number}-{turn}-{verb[:8].strip()}"
        request_id = request_id.replace(" ", "-")
        headers = {**kwargs.pop("headers", {}), "X-Request-Id": request_id}
        began = datetime.now(UTC)
        status, answer = 0, {}
        with contextlib.suppress(requests.RequestException):  # no answer, or half of one
            response = self._client.request(method, path, headers=headers, **kwargs)
            status, answer = response.status_code, _json_object(response)
        exchange = Exchange(
            request_id,
            self.number,
            verb,
            workspace_id or answer.get("id", ""),
            began,
            datetime.now(UTC),
            status,
            answer,
        )
        self.exchanges.append(exchange)
        return exchange

    def _connect(self, instance_name: str, *, connected: bool) -> None:
        """Open or end an SSH session, if the machine exists."""
        with contextlib.suppress(ValueError):
            self.cloud.connected(instance_name, connected=connected)
            (self.connected.add if connected else self.connected.discard)(instance_name)


@dataclass
class _FaultInjector:
    """Injects one fault after another, among them changes that somebody makes in Compute by hand.

    Attributes:
        injected: the names of the faults so far.
        moved: the workspaces whose machine and home it has moved to another zone.
    """

    cloud: RunningCloud
    plan: Plan
    ends_at: float
    users: list[_User]
    injected: list[str] = field(default_factory=list)
    deliveries: dict[str, int] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    _disk_held_of: Workspace | None = None

    def run(self) -> None:
        """Inject faults until the time is up and each was injected, then clear them all."""
        chances = random.Random(f"{self.plan.seed}/trouble")
        self.cloud.fault(_DELIVERY, lost=0.03, twice=0.1, seconds=2.0, seed=self.plan.seed)
        faults: dict[str, Callable[[float], bool]] = {
            "firestore down": self._pause_firestore,
            "pubsub down": self._pause_pubsub,
            "process killed": self._kill_process,
            "machine deleted by hand": partial(self._change_by_hand, delete_by_hand),
            "machine stopped by hand": partial(self._change_by_hand, stop_by_hand),
            "labels removed by hand": partial(self._change_by_hand, self._remove_labels),
            "disk detached by hand": partial(self._change_by_hand, detach_by_hand),
            "disk held by hand": self._hold_disk,
            "machine moved by hand": self._move_machine,
            "forgotten": self._forget,
            **{name: partial(self._switch_on, name, most) for name, most in _MAX_STRIKES.items()},
        }
        try:
            while not self._is_over(faults):
                # Each once before any comes again.
                for name in chances.sample(list(faults), len(faults)):
                    pause, chance = chances.uniform(1, 4), chances.random()
                    if self._is_over(faults, pause):
                        return
                    time.sleep(pause)
                    if faults[name](chance):
                        self.injected.append(name)
        finally:
            [delivery] = [fault for fault in self.cloud.faults() if fault["name"] == _DELIVERY]
            self.deliveries = delivery["so_far"]
            self.cloud.clear_faults()
            self._release_disk()

    def _is_over(self, faults: Collection[str], pause: float = 0.0) -> bool:
        """Say whether the time is up and each fault was injected.

        After ``_MAX_EXTRA_SECONDS``, which only a very slow machine needs, it is over in any case.
        """
        late = time.monotonic() + pause - self.ends_at
        return late > (0 if set(self.injected) >= set(faults) else _MAX_EXTRA_SECONDS)

    def _pause_firestore(self, chance: float) -> bool:
        return self._pause_service("firestore", 1 + 11 * chance)  # a request waits for 5 s

    def _pause_pubsub(self, chance: float) -> bool:
        return self._pause_service("pubsub", 1 + 9 * chance)

    def _pause_service(self, name: str, seconds: float) -> bool:
        with self.cloud.paused(name):
            time.sleep(seconds)
        return True

    def _kill_process(self, chance: float) -> bool:
        functions = sorted(self.cloud.state["functions"])
        with contextlib.suppress(ProcessLookupError):
            self.cloud.kill_function(functions[int(chance * len(functions))])
        return True

    def _change_by_hand(
        self, change: Callable[[RunningCloud, Workspace], object], chance: float
    ) -> bool:
        """Make a change to the first machine that allows it.

        Compute may be down, the machine may be gone, or its state may not allow the change.
        """
        for workspace in self._machines_from(chance):
            with contextlib.suppress(requests.RequestException):
                change(self.cloud, workspace)
                return True
        return False

    def _machines_from(self, chance: float) -> Iterator[Workspace]:
        """Yield workspaces that have machines, in the form that the ``…_by_hand`` functions take.

        ``chance`` says with which machine to begin.
        """
        try:
            found = in_compute(self.cloud, "instances", "")
        except requests.RequestException:  # Compute is down for callers other than the Hub, too
            return
        machines = [each for each in found if each["name"].startswith("workspace-")]
        first = int(chance * len(machines))
        for machine in [*machines[first:], *machines[:first]][:_MAX_MACHINES_TRIED]:
            yield {
                "id": machine["name"].removeprefix("workspace-"),
                "project_id": self.cloud.state["project_id"],
                "zone": machine["zone"].rsplit("/", 1)[-1],
                "instance_name": machine["name"],
            }

    def _remove_labels(self, cloud: RunningCloud, workspace: Workspace) -> None:
        """Remove two labels of the machine, and two of its disks."""
        unlabel_by_hand(cloud, workspace, "instances", ("workspace", "owner"))
        unlabel_by_hand(cloud, workspace, "disks", ("workspace", "hub"))

    def _hold_disk(self, chance: float) -> bool:
        """Attach a home disk to a foreign machine, and release the one that was held before."""
        self._release_disk()
        for workspace in self._machines_from(chance):
            self._disk_held_of = workspace
            with contextlib.suppress(requests.RequestException):
                hold_disk_by_hand(self.cloud, workspace)
                return True
            self._release_disk()
        return False

    def _release_disk(self) -> None:
        """Release the home disk that is held, if any; what fails is tried again."""
        deadline = time.monotonic() + _MAX_EXTRA_SECONDS
        while self._disk_held_of is not None and time.monotonic() < deadline:
            try:
                release_disk_by_hand(self.cloud, self._disk_held_of)
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code == 404:
                    self._disk_held_of = None
                time.sleep(1)
            else:
                self._disk_held_of = None

    def _move_machine(self, chance: float) -> bool:
        """Move a machine to another zone while no user and no fault touches it.

        A move that breaks off half-way leaves machines and disks for which the Hub is not to blame.
        """
        admin = ApiClient(self.cloud.address, self.cloud.token(ADMIN_EMAIL))
        for workspace in self._machines_from(chance):
            with (
                self._without_requests_about(workspace["id"]),
                contextlib.suppress(requests.RequestException),
            ):
                shown = admin.request("GET", f"/workspaces/{workspace['id']}/status").json()
                quiet = shown.get("operation", "unknown") is None and (
                    shown["status"] == "SUSPENDED"
                    or (shown["status"] == "READY" and self._is_connected(workspace))
                )
                # One of before a move stays, and keeps its name in its zone.
                taken = {
                    each["zone"].rsplit("/", 1)[-1]
                    for each in in_compute(self.cloud, "instances", workspace["id"])
                }
                free = [zone for zone in LocalSettings.zones if zone not in taken]
                quiet = quiet and shown["zone"] == workspace["zone"] and bool(free)
                held = self._disk_held_of
                if not quiet or (held is not None and held["id"] == workspace["id"]):
                    continue
                for fault in FAULTS:
                    self.cloud.fault(fault, off=True)
                self.moved.add(workspace["id"])
                move_by_hand(self.cloud, workspace, free[0])
                return True
        return False

    def _forget(self, chance: float) -> bool:
        """Have the clean-up archive suspended workspaces, as if nobody had started them for weeks.

        Users go on asking for what they like, and may start one before the clean-up comes to it.
        """
        records = Records(self.cloud)
        forgotten = (each for each in self._machines_from(chance) if records.forget(each["id"]))
        return bool([*itertools.islice(forgotten, _FORGOTTEN_AT_ONCE)])

    @contextlib.contextmanager
    def _without_requests_about(self, workspace_id: str) -> Iterator[None]:
        """Keep all users from requests about a workspace for as long as the context lasts."""
        for user in self.users:
            user.avoids = workspace_id
        try:
            while any(user.busy_with == workspace_id for user in self.users):
                time.sleep(0.1)
            yield
        finally:
            for user in self.users:
                user.avoids = ""

    def _is_connected(self, workspace: Workspace) -> bool:
        return any(workspace["instance_name"] in user.connected for user in self.users)

    def _switch_on(self, name: str, most: int, chance: float) -> bool:
        """Switch on a fault of Compute that strikes at most ``most`` times."""
        self.cloud.fault(name, count=1 + int(chance * most))
        return True


def _json_object(response: requests.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())
