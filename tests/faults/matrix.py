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
VERBS = ("CREATE", "STOP", "START", "DELETE")
TIMES = {"once": 1, "three times": 3, "forever": None}
SETTINGS = {
    "HUB_CREATE_DEADLINE_SECONDS": "1200",
    "HUB_START_DEADLINE_SECONDS": "1200",
    "HUB_STOP_DEADLINE_SECONDS": "1200",
    "HUB_DELETE_DEADLINE_SECONDS": "1200",
    "HUB_LOOK_MIN_SECONDS": "0.4",
    "HUB_ATTEND_SECONDS": "10",
    "HUB_WORKER_TIMEOUT_SECONDS": "30",
    "HUB_CHANGES_PER_MINUTE": "1000",
}
OTHER_MACHINE_TYPE = "e2-standard-8"
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

    The status is GONE if the id answers 404.
    """

    status: str
    code: str = ""
    message: str = ""

    def __str__(self) -> str:
        """Return status and code."""
        return f"{self.status} {self.code}".strip()


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
)
CASES = tuple(Case(*parts) for parts in (*product(_IN_EVERY_VERB, VERBS, TIMES), *_SELECTED))


def run(
    cloud: RunningCloud,
    expected: Mapping[Case, tuple[str, ...]],
    only_by_deadline: Callable[[Case], bool],
) -> dict[Case, End]:
    """Run all cases at once and return how each ended.

    A fault is limited to one machine by its name, which is known from the answer to the create:
    ``provision_workspace`` is paused until the faults are on. ``expected`` is how each case ends;
    ``run`` returns once all have ended so for a while. ``only_by_deadline`` says whether a case
    can end by its deadline only.
    """
    chosen = list(expected)
    everybody = people(cloud)
    owner_of = {case: everybody[index % _PEOPLE] for index, case in enumerate(chosen)}
    creates = [case for case in chosen if case.verb == "CREATE"]
    others = [case for case in chosen if case.verb != "CREATE"]
    with ThreadPoolExecutor(_PEOPLE) as pool:
        made = dict(
            zip(
                others, pool.map(lambda case: owner_of[case].create(case.name), others), strict=True
            )
        )
        _wait_for(everybody, {made[case]["id"]: "READY" for case in others})
        starts = [case for case in others if case.verb in {"START", START_OTHER_TYPE}]
        list(pool.map(lambda case: owner_of[case].stop(made[case]["id"]), starts))
        _wait_for(everybody, {made[case]["id"]: "SUSPENDED" for case in starts})
        cloud.kill_function("provision_workspace", signal.SIGSTOP)
        try:
            made |= dict(
                zip(
                    creates,
                    pool.map(lambda case: owner_of[case].create(case.name), creates),
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
        list(pool.map(lambda case: _ask(owner_of[case], case, made[case]), others))
    ids = {case: made[case]["id"] for case in chosen}
    late = [case for case in chosen if only_by_deadline(case)]
    return _wait_for_ends(Records(cloud), everybody, ids, expected, late)


def people(cloud: RunningCloud) -> list[ApiClient]:
    """Return the owners of all workspaces."""
    return [
        ApiClient(cloud.address, cloud.token(f"person-{number}@example.com"))
        for number in range(_PEOPLE)
    ]


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


def _ask(person: ApiClient, case: Case, workspace: Workspace) -> None:
    """Ask for the verb, and repeat while another operation is under way, as a person would."""
    workspace_id = workspace["id"]
    verbs: dict[str, Callable[[], object]] = {
        "STOP": lambda: person.stop(workspace_id),
        "START": lambda: person.start(workspace_id),
        START_OTHER_TYPE: lambda: person.start(workspace_id, machine_type=OTHER_MACHINE_TYPE),
        "DELETE": lambda: person.delete(workspace_id),
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


def _wait_for_ends(
    records: Records,
    people: list[ApiClient],
    ids: dict[Case, str],
    expected: Mapping[Case, tuple[str, ...]],
    late: list[Case],
) -> dict[Case, End]:
    """Wait until all cases have ended as expected and stay so, and return how each ended.

    It returns after ``_TIMEOUT_SECONDS`` in any case: the test compares the ends.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    last: dict[Case, End] = {}
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < _QUIET_SECONDS:
        seen = _listed(people)
        now = {case: _end(seen.get(workspace_id)) for case, workspace_id in ids.items()}
        if now != last or any(str(end) not in expected[case] for case, end in now.items()):
            quiet_since, last = time.monotonic(), now
        others_ended = all(
            str(end) in expected[case] for case, end in now.items() if case not in late
        )
        for case in late:
            if others_ended or case.fault in _AFFECTS_EVERY_CALL:
                records.expire_deadline(ids[case], of=_stuck(case))
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


def _end(workspace: Workspace | None) -> End:
    if workspace is None:
        return End("GONE")
    error = workspace["error"] or {}
    status = (
        workspace["status"]
        if workspace["operation"] is None
        else f"still {workspace['operation']['kind']}"
    )
    return End(status, error.get("code", ""), error.get("message", ""))
