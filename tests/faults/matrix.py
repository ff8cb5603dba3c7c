"""Every fault of Compute in every verb, once, three times and for ever: run on one local cloud, each on a workspace of its own."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from localcloud.compute.faults import FAULTS
from localcloud.person import Person, RefusedError, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localcloud.client import RunningCloud

VERBS: Final = ("CREATE", "STOP", "START", "DELETE")
TIMES: Final = {"once": 1, "three times": 3, "for ever": None}
SETTINGS: Final = {
    "HUB_CREATE_DEADLINE_SECONDS": "40",
    "HUB_START_DEADLINE_SECONDS": "40",
    "HUB_STOP_DEADLINE_SECONDS": "40",
    "HUB_DELETE_DEADLINE_SECONDS": "40",
    "HUB_LOOK_MIN_SECONDS": "0.4",
    "HUB_ATTEND_SECONDS": "10",
    "HUB_WORKER_TIMEOUT_SECONDS": "4",
    "HUB_CHANGES_PER_MINUTE": "1000",
}
_SETTLES_WITHIN_SECONDS: Final = 130.0
_PEOPLE: Final = 11
_POLL_SECONDS: Final = 0.5
_QUIET_SECONDS: Final = 50.0  # longer than any deadline


@dataclass(frozen=True)
class Case:
    """A fault that strikes one workspace's machine while one verb is carried out."""

    fault: str
    verb: str
    times: str

    @property
    def name(self) -> str:
        """What its workspace is called."""
        return f"{self.fault}-{self.verb}-{self.times}".replace(" ", "-").replace("_", "-").lower()


@dataclass(frozen=True)
class End:
    """How a case ended: the status (GONE: the id answers 404), the error's code and message."""

    status: str
    code: str = ""
    message: str = ""


CASES: Final = tuple(Case(*parts) for parts in product(FAULTS, VERBS, TIMES))


def run(cloud: RunningCloud, cases: Iterable[Case] = CASES) -> dict[Case, End]:
    """Carry out all cases at once and return how each ended.

    The faults are narrowed down to a machine by its name, which the answer to the create tells: until they are on, nothing
    is provisioned.
    """
    chosen = list(cases)
    people = people_of(cloud)
    of = {case: people[index % _PEOPLE] for index, case in enumerate(chosen)}
    creates = [case for case in chosen if case.verb == "CREATE"]
    others = [case for case in chosen if case.verb != "CREATE"]
    with ThreadPoolExecutor(_PEOPLE) as pool:
        made = dict(zip(others, pool.map(lambda case: of[case].create(case.name), others), strict=True))
        _wait_for(people, {made[case]["id"]: "READY" for case in others})
        starts = [case for case in others if case.verb == "START"]
        list(pool.map(lambda case: of[case].stop(made[case]["id"]), starts))
        _wait_for(people, {made[case]["id"]: "SUSPENDED" for case in starts})
        cloud.kill_function("provision_workspace", signal.SIGSTOP)
        try:
            made |= dict(zip(creates, pool.map(lambda case: of[case].create(case.name), creates), strict=True))
            for case in chosen:
                cloud.fault(case.fault, count=TIMES[case.times], instance=made[case]["instance_name"])
        finally:
            cloud.kill_function("provision_workspace", signal.SIGCONT)
        list(pool.map(lambda case: _ask(of[case], case, made[case]), others))
    ends = _ends(people, {made[case]["id"] for case in chosen})
    return {case: ends[made[case]["id"]] for case in chosen}


def people_of(cloud: RunningCloud) -> list[Person]:
    """Return those whose workspaces they are."""
    return [Person(cloud.address, cloud.token(f"person-{number}@example.com")) for number in range(_PEOPLE)]


def _listed(people: list[Person]) -> dict[str, Workspace]:
    """Return everybody's workspaces. Lists ask nothing of Compute, so they use up no strike of a fault."""
    return {workspace["id"]: workspace for person in people for workspace in person.workspaces()}


def _wait_for(people: list[Person], wanted: dict[str, str]) -> None:
    deadline = time.monotonic() + _SETTLES_WITHIN_SECONDS
    while True:
        seen = _listed(people)
        if all(seen[each]["operation"] is None and seen[each]["status"] == status for each, status in wanted.items()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the workspaces do not get into the state that the verbs are for")
        time.sleep(_POLL_SECONDS)


def _ask(person: Person, case: Case, workspace: Workspace) -> None:
    """Ask for the verb, again while something else is still under way, as a person would."""
    verb = {"STOP": person.stop, "START": person.start, "DELETE": person.delete}[case.verb]
    deadline = time.monotonic() + _SETTLES_WITHIN_SECONDS
    while True:
        try:
            verb(workspace["id"])
        except RefusedError as refused:
            if refused.answer.status_code not in {409, 503} or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def _ends(people: list[Person], ids: set[str]) -> dict[str, End]:
    """Wait until nothing is under way on any of them, and stays so."""
    deadline = time.monotonic() + _SETTLES_WITHIN_SECONDS
    last: dict[str, End] = {}
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < _QUIET_SECONDS:
        seen = _listed(people)
        now = {each: _end_of(seen.get(each)) for each in ids}
        if now != last:
            quiet_since, last = time.monotonic(), now
        time.sleep(_POLL_SECONDS)
    return last


def _end_of(workspace: Workspace | None) -> End:
    if workspace is None:
        return End("GONE")
    error = workspace["error"] or {}
    status = workspace["status"] if workspace["operation"] is None else f"still {workspace['operation']['kind']}"
    return End(status, error.get("code", ""), error.get("message", ""))
