"""Every fault of Compute in every verb: all at once on one local cloud, each on its own workspace.

The result does not depend on the speed of the machine: deadlines are long, and a case that can only
end by its deadline gets an earlier one once all other cases have ended.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from localcloud.api_client import ApiClient, RefusedError, Workspace
from localcloud.running_cloud import RunningCloud
from tests.system.records import Records

START_OTHER_TYPE = "START START_OTHER_TYPE"  # with another machine type
FORK = "FORK"  # CREATE from a snapshot
SNAPSHOT = "SNAPSHOT"
RESTORE = "RESTORE"
GROW = "GROW"  # START of a suspended one with a larger home
ARCHIVE = "ARCHIVE"
MOVE = "MOVE"  # START in another zone
VERBS = ("CREATE", "STOP", "START", "DELETE")
TIMES = {"once": 1, "three times": 3, "forever": None}
SETTINGS = {
    "HUB_CREATE_DEADLINE_SECONDS": "1200",
    "HUB_START_DEADLINE_SECONDS": "1200",
    "HUB_STOP_DEADLINE_SECONDS": "1200",
    "HUB_DELETE_DEADLINE_SECONDS": "1200",
    "HUB_SNAPSHOT_DEADLINE_SECONDS": "1200",
    "HUB_RESTORE_DEADLINE_SECONDS": "1200",
    "HUB_ARCHIVE_DEADLINE_SECONDS": "1200",
    "HUB_LOOK_MIN_SECONDS": "0.4",
    "HUB_ATTEND_SECONDS": "10",
    "HUB_WORKER_TIMEOUT_SECONDS": "30",
    "HUB_CHANGES_PER_MINUTE": "1000",
}
OTHER_MACHINE_TYPE = "e2-standard-8"
HOME_GB, LARGER_GB = 50, 100
ZONE, OTHER_ZONE = "us-west1-a", "us-west1-b"
SOURCE = "source"  # the name of the workspace of whose snapshot a person's forks are made
_CREATES = {"CREATE", FORK}
_TIMEOUT_SECONDS = 400.0  # only a run that fails waits for so long
_PEOPLE = 11
_POLL_SECONDS = 1.0
_QUIET_SECONDS = 10.0
# These faults affect every call, so the clean-up does not end before its deadline either.
_GIVE_UP_AFTER = timedelta(seconds=10)
_AFFECTS_EVERY_CALL = {"rate_limited", "unavailable", "html_502", "not_ready"}


@dataclass(frozen=True)
class Case:
    """A fault that strikes one workspace's machine during one verb; several are joined by ``+``."""

    fault: str
    verb: str
    times: str

    @property
    def name(self) -> str:
        """The name of its workspace."""
        return (
            f"{self.fault}-{self.verb}-{self.times}".replace(" ", "-")
            .replace("_", "-")
            .replace("+", "-")
            .lower()
        )

    @property
    def faults(self) -> list[str]:
        """The names of its faults."""
        return self.fault.split("+")


@dataclass(frozen=True)
class End:
    """How a case ended: the status, and the error's code and message.

    The status is GONE if the id answers 404. ``snapshot`` is how the workspace's snapshot ended, if
    it has one; that which is restored does not count.
    """

    status: str
    code: str = ""
    message: str = ""
    snapshot: End | None = None

    def __str__(self) -> str:
        """Return status and code, and those of the snapshot."""
        kept = f", snapshot {self.snapshot}" if self.snapshot else ""
        return f"{self.status} {self.code}".strip() + kept


@dataclass(frozen=True)
class Played:
    """How each case ended, the ids of the workspaces, and of the snapshots to be restored."""

    ends: dict[Case, End]
    ids: dict[Case, str]
    restored: dict[Case, str]


# The faults that are tested in each verb, each number of times.
_IN_EVERY_VERB = (
    "stock_out",
    "quota_exceeded",
    "rate_limited",
    "unavailable",
    "slow_operation",
    "lost_operation",
    "never_ready",
    "fails_at_boot",
    "suspend_unsupported",
    "preempted",
    "vanished",
)
_ONCE, _THRICE, _FOREVER = TIMES
_SELECTED = (
    *product(("html_502",), VERBS, (_ONCE, _FOREVER)),
    *product(("not_ready",), VERBS, (_THRICE, _FOREVER)),
    *product(("in_use",), ("DELETE",), (_ONCE, _FOREVER)),
    *product(("policy_forbids", "second_error"), ("CREATE", START_OTHER_TYPE), (_ONCE, _FOREVER)),
    *product(("policy_forbids", "second_error"), ("START",), (_FOREVER,)),
    *product(("account_unknown", "ip_space_exhausted"), ("CREATE",), (_ONCE, _FOREVER)),
    *product(
        ("access_forbidden", "sharing_limited", "account_deleted", "policy_race"),
        ("CREATE", START_OTHER_TYPE),
        (_ONCE, _FOREVER),
    ),
    *product(("console_away",), VERBS, (_FOREVER,)),
    *product(("never_ready+console_away", "fails_later"), ("CREATE",), (_FOREVER,)),
    *product(("preempted", "vanished"), (START_OTHER_TYPE,), (_ONCE, _FOREVER)),
    *product(("source_gone", "source_not_ready", "source_busy"), (SNAPSHOT, FORK), TIMES),
    *product(("snapshot_quota_exceeded", "snapshot_location_forbidden"), (SNAPSHOT,), TIMES),
    *product(("capture_fails", "upload_fails+slow_upload"), (SNAPSHOT,), TIMES),
    *product(("slow_upload", "slow_operation", "html_502"), (SNAPSHOT,), (_FOREVER,)),
    *product(("unavailable", "rate_limited", "lost_operation"), (SNAPSHOT, FORK), TIMES),
    *product(("preempted", "vanished"), (SNAPSHOT,), (_ONCE, _FOREVER)),
    *product(("stock_out",), (FORK, RESTORE), TIMES),
    *product(("unavailable", "rate_limited", "lost_operation"), (RESTORE,), TIMES),
    *product(("source_gone", "source_not_ready", "source_busy"), (RESTORE,), (_THRICE, _FOREVER)),
    *product(
        (
            "snapshot_quota_exceeded",
            "snapshot_location_forbidden",
            "capture_fails",
            "quota_exceeded",
        ),
        (RESTORE,),
        (_ONCE,),
    ),
    *product(("upload_fails+slow_upload", "policy_forbids", "html_502"), (RESTORE,), (_FOREVER,)),
    *product(("slow_upload", "slow_operation", "not_ready"), (RESTORE,), (_FOREVER,)),
    *product(("never_ready", "fails_at_boot"), (RESTORE,), (_ONCE,)),
    *product(("preempted", "vanished"), (RESTORE,), (_ONCE, _FOREVER)),
    *product(
        ("disk_quota_exceeded", "unavailable", "rate_limited", "lost_operation"), (GROW,), TIMES
    ),
    *product(("slow_operation", "html_502"), (GROW,), (_FOREVER,)),
    *product(("stock_out", "quota_exceeded", "preempted", "vanished"), (GROW,), (_ONCE, _FOREVER)),
    *product(("stock_out", "preempted", "vanished"), (MOVE,), (_ONCE, _FOREVER)),
    *product(("unavailable", "rate_limited", "lost_operation"), (MOVE,), TIMES),
    *product(("source_gone", "source_not_ready", "source_busy"), (MOVE,), (_THRICE, _FOREVER)),
    *product(
        ("snapshot_quota_exceeded", "snapshot_location_forbidden", "capture_fails"),
        (MOVE,),
        (_ONCE,),
    ),
    *product(("quota_exceeded", "never_ready", "fails_at_boot"), (MOVE,), (_ONCE,)),
    *product(("upload_fails+slow_upload", "policy_forbids", "html_502"), (MOVE,), (_FOREVER,)),
    *product(("slow_upload", "slow_operation", "not_ready"), (MOVE,), (_FOREVER,)),
    # What is in the home is kept first.
    *product(("source_gone", "source_not_ready", "source_busy"), ("DELETE",), (_THRICE, _FOREVER)),
    *product(
        ("snapshot_quota_exceeded", "snapshot_location_forbidden", "capture_fails"),
        ("DELETE",),
        (_ONCE,),
    ),
    *product(("upload_fails+slow_upload", "slow_upload"), ("DELETE",), (_FOREVER,)),
    *product(("unavailable", "rate_limited", "lost_operation"), (ARCHIVE,), TIMES),
    *product(("source_gone", "source_not_ready", "source_busy"), (ARCHIVE,), (_THRICE, _FOREVER)),
    *product(
        ("snapshot_quota_exceeded", "snapshot_location_forbidden", "capture_fails"),
        (ARCHIVE,),
        (_ONCE,),
    ),
    *product(("upload_fails+slow_upload", "slow_upload"), (ARCHIVE,), (_FOREVER,)),
    *product(("slow_operation", "html_502"), (ARCHIVE,), (_FOREVER,)),
    *product(("not_ready",), (ARCHIVE,), (_THRICE, _FOREVER)),
    *product(("in_use", "preempted", "vanished"), (ARCHIVE,), (_ONCE, _FOREVER)),
    *product(("quota_exceeded", "policy_forbids", "slow_operation"), (FORK,), (_FOREVER,)),
    *product(("never_ready", "fails_at_boot", "vanished"), (FORK,), (_ONCE, _FOREVER)),
)
CASES = tuple(Case(*parts) for parts in (*product(_IN_EVERY_VERB, VERBS, TIMES), *_SELECTED))


def run(
    cloud: RunningCloud,
    expected: Mapping[Case, tuple[str, ...]],
    only_by_deadline: Callable[[Case], bool],
) -> Played:
    """Run all cases at once and return how each ended.

    A fault is limited to one machine by its name, which is known from the answer to the create:
    ``provision_workspace`` is paused until the faults are on. Forks are made from a snapshot of
    their owner's ``SOURCE``. ``expected`` is how each case ends;
    ``run`` returns once all have ended so for a while. ``only_by_deadline`` says whether a case
    can end by its deadline only.
    """
    chosen = list(expected)
    everybody = people(cloud)
    owner_of = {case: everybody[index % _PEOPLE] for index, case in enumerate(chosen)}
    creates = [case for case in chosen if case.verb in _CREATES]
    others = [case for case in chosen if case.verb not in _CREATES]
    with ThreadPoolExecutor(_PEOPLE) as pool:
        made = dict(
            zip(
                others, pool.map(lambda case: owner_of[case].create(case.name), others), strict=True
            )
        )
        sources = list(pool.map(lambda person: person.create(SOURCE), everybody))
        restores = [case for case in others if case.verb == RESTORE]
        wanted = [*(made[case]["id"] for case in others), *(each["id"] for each in sources)]
        _wait_for(everybody, dict.fromkeys(wanted, "READY"))
        snapshot_ids = list(pool.map(_stored_snapshot, everybody, sources))
        snapshot_of = dict(zip(everybody, snapshot_ids, strict=True))
        to_restore = dict(
            zip(
                restores,
                pool.map(lambda case: _stored_snapshot(owner_of[case], made[case]), restores),
                strict=True,
            )
        )
        starts = [case for case in others if case.verb in {"START", START_OTHER_TYPE, GROW}]
        list(pool.map(lambda case: owner_of[case].stop(made[case]["id"]), starts))
        _wait_for(everybody, {made[case]["id"]: "SUSPENDED" for case in starts})
        cloud.kill_function("provision_workspace", signal.SIGSTOP)
        try:
            made |= dict(
                zip(
                    creates,
                    pool.map(
                        lambda case: _create(owner_of[case], case, snapshot_of[owner_of[case]]),
                        creates,
                    ),
                    strict=True,
                )
            )
            for case in chosen:
                for fault in case.faults:
                    cloud.fault(
                        fault, count=TIMES[case.times], instance=made[case]["instance_name"]
                    )
        finally:
            cloud.kill_function("provision_workspace", signal.SIGCONT)
        list(
            pool.map(
                lambda case: _ask(owner_of[case], case, made[case], to_restore.get(case, "")),
                others,
            )
        )
    ids = {case: made[case]["id"] for case in chosen}
    late = [case for case in chosen if only_by_deadline(case)]
    ends = _Ends(Records(cloud), everybody, ids, set(to_restore.values()))
    return Played(_wait_for_ends(ends, expected, late), ids, to_restore)


def people(cloud: RunningCloud) -> list[ApiClient]:
    """Return the owners of all workspaces."""
    return [
        ApiClient(cloud.address, cloud.token(f"person-{number}@example.com"))
        for number in range(_PEOPLE)
    ]


def _stored_snapshot(person: ApiClient, workspace: Workspace) -> str:
    """Take a snapshot of a workspace, wait until it is READY, and return its id."""
    operation = person.take_snapshot(workspace["id"])["operation"]
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while [each["state"] for each in person.snapshots(workspace["id"])] != ["READY"]:
        if time.monotonic() > deadline:
            raise TimeoutError("the snapshot that the forks need is not stored")
        time.sleep(_POLL_SECONDS)
    return str(operation["id"])


def _create(person: ApiClient, case: Case, snapshot_id: str) -> Workspace:
    """Ask for the workspace of a CREATE, or of a FORK from this snapshot."""
    if case.verb == FORK:
        return person.create(case.name, key=None, **{"from": {"snapshot_id": snapshot_id}})
    return person.create(case.name)


def _listed(people: list[ApiClient]) -> dict[str, Workspace]:
    """Return all workspaces by id; a list calls no Compute, so it uses up no strike of a fault."""
    return {workspace["id"]: workspace for person in people for workspace in person.workspaces()}


def _wait_for(people: list[ApiClient], wanted: dict[str, str]) -> None:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        seen = _listed(people)
        if all(
            seen[each]["operation"] is None and seen[each]["status"] == status
            for each, status in wanted.items()
        ):
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the workspaces do not get the status that the verbs need")
        time.sleep(_POLL_SECONDS)


def _ask(person: ApiClient, case: Case, workspace: Workspace, snapshot_id: str) -> None:
    """Ask for the verb, and repeat while another operation is under way, as a person would.

    A RESTORE is of this snapshot.
    """
    workspace_id = workspace["id"]
    verbs: dict[str, Callable[[], object]] = {
        "STOP": lambda: person.stop(workspace_id),
        "START": lambda: person.start(workspace_id),
        START_OTHER_TYPE: lambda: person.start(workspace_id, machine_type=OTHER_MACHINE_TYPE),
        GROW: lambda: person.start(workspace_id, home_disk_gb=LARGER_GB),
        "DELETE": lambda: person.delete(workspace_id),
        SNAPSHOT: lambda: person.take_snapshot(workspace_id),
        RESTORE: lambda: person.restore(workspace_id, snapshot_id),
        ARCHIVE: lambda: person.archive(workspace_id),
        MOVE: lambda: person.start(workspace_id, zone=OTHER_ZONE),
    }
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        try:
            verbs[case.verb]()
        except RefusedError as refused:
            if refused.answer.status_code not in {409, 503} or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


@dataclass(frozen=True)
class _Ends:
    """How the cases have ended. ``sources`` are the ids of the snapshots that are restored."""

    records: Records
    people: list[ApiClient]
    ids: dict[Case, str]
    sources: set[str]

    def now(self) -> dict[Case, End]:
        """Return how each case has ended by now."""
        seen = _listed(self.people)
        snapshots = {
            each["workspace_id"]: each
            for snapshot_id, each in self.records.snapshots().items()
            if snapshot_id not in self.sources
        }
        return {case: _end(seen.get(each), snapshots.get(each)) for case, each in self.ids.items()}


def _wait_for_ends(
    ends: _Ends, expected: Mapping[Case, tuple[str, ...]], late: list[Case]
) -> dict[Case, End]:
    """Wait until all cases have ended as expected and stay so, and return how each ended.

    It returns after ``_TIMEOUT_SECONDS`` in any case: the test compares the ends.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    last: dict[Case, End] = {}
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < _QUIET_SECONDS:
        now = ends.now()
        if now != last or any(str(end) not in expected[case] for case, end in now.items()):
            quiet_since, last = time.monotonic(), now
        others_ended = all(
            str(end) in expected[case] for case, end in now.items() if case not in late
        )
        for case in late:
            if others_ended or case.fault in _AFFECTS_EVERY_CALL:
                ends.records.expire_deadline(ends.ids[case], of=_stuck(case))
        time.sleep(_POLL_SECONDS)
    return last


def _stuck(case: Case) -> Callable[[dict[str, Any]], bool]:
    """Return a predicate that says whether an operation of a case cannot advance any more."""

    def is_stuck(operation: dict[str, Any]) -> bool:
        if case.fault in _AFFECTS_EVERY_CALL:
            phase_since: datetime = operation["phase_since"]
            return datetime.now(UTC) - phase_since > _GIVE_UP_AFTER
        if operation["failure"]:
            return False  # its clean-up advances
        return "never_ready" not in case.faults or operation["phase"] == "await_ready"

    return is_stuck


def _end(workspace: Workspace | None, snapshot: dict[str, Any] | None) -> End:
    if workspace is None:
        return End("GONE")
    error = workspace["error"] or {}
    status = (
        workspace["status"]
        if workspace["operation"] is None
        else f"still {workspace['operation']['kind']}"
    )
    kept = None
    if snapshot is not None:
        why = snapshot["error"] or {}
        kept = End(snapshot["state"], why.get("code", ""), why.get("message", ""))
    return End(status, error.get("code", ""), error.get("message", ""), kept)
