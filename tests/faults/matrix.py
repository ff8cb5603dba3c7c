"""Every fault of Compute in every verb: run on one local cloud, all at once, each on a workspace of its own.

Nothing is decided by how fast the machine is: deadlines are long, and one that a case can only end
by is made to pass once everything else has ended.
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

ANEW = "START ANEW"  # with another machine type
VERBS = ("CREATE", "STOP", "START", "DELETE")
TIMES = {"once": 1, "three times": 3, "for ever": None}
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
_PATIENCE_SECONDS = 400.0  # only a run that fails waits for so long
_PEOPLE = 11
_POLL_SECONDS = 1.0
_QUIET_SECONDS = 10.0
# What befalls any call, so that a clean-up does not end before its deadline either.
_TRIED_FOR = timedelta(seconds=10)
_BEFALLS_EVERYTHING = {"rate_limited", "unavailable", "html_502", "not_ready"}


@dataclass(frozen=True)
class Case:
    """A fault that strikes one workspace's machine while one verb is carried out; several are joined by `+`."""

    fault: str
    verb: str
    times: str

    @property
    def name(self) -> str:
        """What its workspace is called."""
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
    """How a case ended: the status (GONE: the id answers 404), the error's code and message."""

    status: str
    code: str = ""
    message: str = ""

    def __str__(self) -> str:
        """Return status and code."""
        return f"{self.status} {self.code}".strip()


# Those of which each verb, and each number of times, says something.
_EVERYWHERE = (
    *(
        "stock_out",
        "quota_exceeded",
        "rate_limited",
        "unavailable",
        "slow_operation",
        "lost_operation",
        "never_ready",
    ),
    *("fails_at_boot", "suspend_unsupported", "preempted", "vanished"),
)
_ONCE, _THRICE, _EVER = TIMES
_CHOSEN = (
    *product(("html_502",), VERBS, (_ONCE, _EVER)),
    *product(("not_ready",), VERBS, (_THRICE, _EVER)),
    *product(("in_use",), ("DELETE",), (_ONCE, _EVER)),
    *product(("policy_forbids", "second_error"), ("CREATE", ANEW), (_ONCE, _EVER)),
    *product(("policy_forbids", "second_error"), ("START",), (_EVER,)),
    *product(("account_unknown", "ip_space_exhausted"), ("CREATE",), (_ONCE, _EVER)),
    *product(("console_away",), VERBS, (_EVER,)),
    *product(("never_ready+console_away", "fails_later"), ("CREATE",), (_EVER,)),
    *product(("preempted", "vanished"), (ANEW,), (_ONCE, _EVER)),
)
CASES = tuple(Case(*parts) for parts in (*product(_EVERYWHERE, VERBS, TIMES), *_CHOSEN))


def run(
    cloud: RunningCloud, expected: Mapping[Case, str], overdue: Callable[[Case], bool]
) -> dict[Case, End]:
    """Carry out all cases at once and return how each ended.

    The faults are narrowed down to a machine by its name, which the answer to the create tells:
    until they are on, nothing is provisioned. ``expected`` is how each ends (what has ended so, and
    stays so, is waited for no longer), ``overdue`` says which can only end by its deadline.
    """
    chosen = list(expected)
    people = people_of(cloud)
    of = {case: people[index % _PEOPLE] for index, case in enumerate(chosen)}
    creates = [case for case in chosen if case.verb == "CREATE"]
    others = [case for case in chosen if case.verb != "CREATE"]
    with ThreadPoolExecutor(_PEOPLE) as pool:
        made = dict(
            zip(others, pool.map(lambda case: of[case].create(case.name), others), strict=True)
        )
        _wait_for(people, {made[case]["id"]: "READY" for case in others})
        starts = [case for case in others if case.verb in {"START", ANEW}]
        list(pool.map(lambda case: of[case].stop(made[case]["id"]), starts))
        _wait_for(people, {made[case]["id"]: "SUSPENDED" for case in starts})
        cloud.kill_function("provision_workspace", signal.SIGSTOP)
        try:
            made |= dict(
                zip(
                    creates, pool.map(lambda case: of[case].create(case.name), creates), strict=True
                )
            )
            for case in chosen:
                for fault in case.faults:
                    cloud.fault(
                        fault, count=TIMES[case.times], instance=made[case]["instance_name"]
                    )
        finally:
            cloud.kill_function("provision_workspace", signal.SIGCONT)
        list(pool.map(lambda case: _ask(of[case], case, made[case]), others))
    ids = {case: made[case]["id"] for case in chosen}
    return _ends(Records(cloud), people, ids, expected, [case for case in chosen if overdue(case)])


def people_of(cloud: RunningCloud) -> list[ApiClient]:
    """Return those whose workspaces they are."""
    return [
        ApiClient(cloud.address, cloud.token(f"person-{number}@example.com"))
        for number in range(_PEOPLE)
    ]


def _listed(people: list[ApiClient]) -> dict[str, Workspace]:
    """Return everybody's workspaces. Lists ask nothing of Compute, so they use up no strike of a fault."""
    return {workspace["id"]: workspace for person in people for workspace in person.workspaces()}


def _wait_for(people: list[ApiClient], wanted: dict[str, str]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        seen = _listed(people)
        if all(
            seen[each]["operation"] is None and seen[each]["status"] == status
            for each, status in wanted.items()
        ):
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the workspaces do not get into the state that the verbs are for")
        time.sleep(_POLL_SECONDS)


def _ask(person: ApiClient, case: Case, workspace: Workspace) -> None:
    """Ask for the verb, again while something else is still under way, as a person would."""
    workspace_id = workspace["id"]
    verbs: dict[str, Callable[[], object]] = {
        "STOP": lambda: person.stop(workspace_id),
        "START": lambda: person.start(workspace_id),
        ANEW: lambda: person.start(workspace_id, machine_type=OTHER_MACHINE_TYPE),
        "DELETE": lambda: person.delete(workspace_id),
    }
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            verbs[case.verb]()
        except RefusedError as refused:
            if refused.answer.status_code not in {409, 503} or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def _ends(
    records: Records,
    people: list[ApiClient],
    ids: dict[Case, str],
    expected: Mapping[Case, str],
    overdue: list[Case],
) -> dict[Case, End]:
    """Wait until everything has ended as it is to, and stays so; or until it will not any more, which is up to the test."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    last: dict[Case, End] = {}
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < _QUIET_SECONDS:
        seen = _listed(people)
        now = {case: _end_of(seen.get(workspace_id)) for case, workspace_id in ids.items()}
        if now != last or any(str(end) != expected[case] for case, end in now.items()):
            quiet_since, last = time.monotonic(), now
        others_ended = all(
            str(end) == expected[case] for case, end in now.items() if case not in overdue
        )
        for case in overdue:
            if others_ended or case.fault in _BEFALLS_EVERYTHING:
                records.pass_deadline(ids[case], of=_hopeless(case))
        time.sleep(_POLL_SECONDS)
    return last


def _hopeless(case: Case) -> Callable[[dict[str, Any]], bool]:
    """Return what says of an operation that it gets no further."""

    def hopeless(operation: dict[str, Any]) -> bool:
        if case.fault in _BEFALLS_EVERYTHING:
            tried_since: datetime = operation["phase_since"]
            return datetime.now(UTC) - tried_since > _TRIED_FOR
        if operation["failure"]:
            return False  # its clean-up gets on
        return "never_ready" not in case.faults or operation["phase"] == "await_ready"

    return hopeless


def _end_of(workspace: Workspace | None) -> End:
    if workspace is None:
        return End("GONE")
    error = workspace["error"] or {}
    status = (
        workspace["status"]
        if workspace["operation"] is None
        else f"still {workspace['operation']['kind']}"
    )
    return End(status, error.get("code", ""), error.get("message", ""))
