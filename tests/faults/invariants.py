"""What must hold after a chaos run, by what people were answered, the audit trail, and what is left in Compute."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

from tests.faults.chaos import (
    OPERATION_SECONDS,
    RUNNING_EACH,
    WORKSPACES_EACH,
    Outcome,
    left_over,
    unlabelled,
)

Event = dict[str, Any]

_REQUESTED = {
    "create": "WorkspaceRequested",
    "stop": "StopRequested",
    "start": "StartRequested",
    "start bigger": "StartRequested",
    "delete": "DeleteRequested",
}
_WORKSPACE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CAME_TO = re.compile(r"[A-Z_]+")  # a status or a code: what only notes something says so in words
_DONE_TO_ORPHANS = {"OrphanStopped", "OrphanDeleted", "OrphanDiskDeleted"}
_FROM_DECISION_TO_EVENT = timedelta(seconds=30)  # the longest that a request may take
_STATUSES = {"READY", "SUSPENDED"}
_MACHINES = {"READY": {"RUNNING"}, "SUSPENDED": {"SUSPENDED", "TERMINATED"}}


def violations(outcome: Outcome) -> list[str]:
    """Return, in words, what does not hold."""
    trails = _trails(outcome.events)
    return [
        *_requests_lost(outcome, trails),
        *_operations_without_end(trails),
        *_operations_too_long(trails),
        *_ends_that_are_not_so(outcome, trails),
        *_errors_without_reason(outcome),
        *_not_one_to_one(outcome, trails),
        *_taken_for_nobodys(outcome, trails),
        *_labels_not_back(outcome),
        *_homes_replaced(outcome),
        *_over_quota(outcome),
    ]


def _trails(events: list[Event]) -> dict[str, list[Event]]:
    """Return each workspace's accepted requests and ends, the oldest first; not what was noted in between."""
    trails: dict[str, list[Event]] = defaultdict(list)
    for event in reversed(events):
        told = event["result"] == "ACCEPTED" and event["what"] in _REQUESTED.values()
        if told or (event["who"] == "hub" and _CAME_TO.fullmatch(event["result"])):
            trails[event["workspace_id"]].append(event)
    return trails


def _requests_lost(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """Each operation that somebody was answered with was begun when the answer says: by that request, or by one before it."""
    lost = []
    for asked in outcome.asked:
        operation = asked.answer.get("operation")
        if not (200 <= asked.status < 300 and asked.verb in _REQUESTED and operation):
            continue
        begun = [
            event for event in trails[asked.workspace_id] if event["what"] == _REQUESTED[asked.verb]
        ]
        began_at = _time(operation["requested_at"])
        own = any(event["request_id"] == asked.request_id for event in begun)
        if not own and not any(
            abs(_time(event["at"]) - began_at) < _FROM_DECISION_TO_EVENT for event in begun
        ):
            lost.append(
                f"{asked.request_id} ({asked.verb}) was accepted, and {asked.workspace_id} knows nothing of it"
            )
    return lost


def _operations_without_end(trails: dict[str, list[Event]]) -> list[str]:
    """Each operation that was begun has ended with a result, or a DELETE has taken its place."""
    endless = []
    for workspace_id, trail in trails.items():
        for index, event in enumerate(trail):
            if event["who"] == "hub":
                continue
            later = trail[index + 1 :]
            ended = any(
                each["who"] == "hub" and each["request_id"] == event["request_id"] for each in later
            )
            superseded = any(each["what"] == "DeleteRequested" for each in later)
            if not ended and not superseded:
                endless.append(
                    f"{workspace_id}: {event['what']} {event['request_id']} has neither ended nor failed"
                )
    return endless


def _operations_too_long(trails: dict[str, list[Event]]) -> list[str]:
    """Each operation was over by its deadline, that of its clean-up included, and a look."""
    slow = []
    for workspace_id, trail in trails.items():
        begun = {
            event["request_id"]: _time(event["at"]) for event in trail if event["who"] != "hub"
        }
        for event in trail:
            if event["who"] == "hub" and event["request_id"] in begun:
                seconds = (_time(event["at"]) - begun[event["request_id"]]).total_seconds()
                if seconds > OPERATION_SECONDS:
                    slow.append(
                        f"{workspace_id}: {event['what']} {event['result']} came after {seconds:.0f} s"
                    )
    return slow


def _ends_that_are_not_so(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """Each workspace is what the last thing said of it says: in that status, with that error, or gone."""
    wrong = []
    there = {ws["id"]: ws for ws in outcome.workspaces}
    made = {
        asked.workspace_id
        for asked in outcome.asked
        if asked.verb == "create" and asked.status == 201
    }
    for workspace_id in made | set(trails):
        ends = [event["result"] for event in trails[workspace_id] if event["who"] == "hub"]
        if not workspace_id:
            continue
        last = ends[-1] if ends else "nothing"
        now = there.get(workspace_id)
        said = (
            {"DELETED"}
            if now is None
            else {now["status"] if last in _STATUSES else (now["error"] or {}).get("code")}
        )
        if last not in said:
            wrong.append(
                f"{workspace_id} ended with {last}, and is {now and (now['status'], now['error'])}"
            )
    return wrong


def _errors_without_reason(outcome: Outcome) -> list[str]:
    """Whoever is in ERROR is told why, and what to do."""
    return [
        f"{ws['id']} is in ERROR without a reason: {ws['error']}"
        for ws in outcome.workspaces
        if ws["status"] == "ERROR"
        and not (ws["error"] and ws["error"]["code"] and len(ws["error"]["message"]) > 20)
    ]


def _not_one_to_one(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """Each workspace has the one machine that its status says, and once it was ever READY its one home; there is nothing else.

    One that got no capacity for another machine may have none, and one whose DELETE failed may have
    lost its home. In ERROR a machine may run for as long as somebody is connected to it, as when a
    DELETE has not come to it in time.
    """
    machines, disks = _named_after(outcome.machines), _named_after(outcome.disks)
    may_be_homeless = {
        event["workspace_id"]
        for event in outcome.events
        if event["what"] in {"HomeDeleted", "DeleteFailed"}
    }
    wrong = [
        f"{name} is left over"
        for name in left_over(outcome.workspaces, outcome.machines, outcome.disks)
    ]
    for ws in outcome.workspaces:
        states = [machine["status"] for machine in machines[ws["id"]]]
        homes = [disk["name"] for disk in disks[ws["id"]] if disk["name"].startswith("home-")]
        code = (ws["error"] or {}).get("code")
        if ws["status"] in _MACHINES and (ws["status"], code) != ("SUSPENDED", "NO_CAPACITY"):
            fits = len(states) == 1 and states[0] in _MACHINES[ws["status"]]
        else:
            fits = len(states) <= 1 and (
                "RUNNING" not in states or ws["instance_name"] in outcome.connected
            )
        was_ready = any(event["result"] == "READY" for event in trails[ws["id"]])
        if (
            not fits
            or len(homes) > 1
            or (was_ready and not homes and ws["id"] not in may_be_homeless)
        ):
            wrong.append(
                f"{ws['id']} is {ws['status']} ({code}) with machines {states} and homes {homes}"
            )
        if ws["status"] == "READY" and ws["instance_name"] not in outcome.connected:
            wrong.append(f"{ws['id']} is READY, and nobody is connected")
    return wrong


def _taken_for_nobodys(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """No sweep has stopped or deleted what is a workspace's, unless somebody had asked that it be deleted."""
    made = {
        asked.workspace_id
        for asked in outcome.asked
        if asked.verb == "create" and asked.status == 201
    }
    wrong = []
    for event in outcome.events:
        workspace_id = event["workspace_id"]
        deleted = any(
            each["what"] == "DeleteRequested" and each["at"] <= event["at"]
            for each in trails.get(workspace_id, [])
        )
        if event["what"] in _DONE_TO_ORPHANS and workspace_id in made and not deleted:
            wrong.append(
                f"{workspace_id}: {event['what']} at {event['at']}, though nobody had asked for a DELETE"
            )
    return wrong


def _labels_not_back(outcome: Outcome) -> list[str]:
    """Each machine and each home says by its labels whose it is, whatever somebody has done to them."""
    return [
        f"labels of {name}"
        for name in unlabelled(outcome.workspaces, outcome.machines, outcome.disks)
    ]


def _homes_replaced(outcome: Outcome) -> list[str]:
    """Nobody was READY on one home and then on another: nobody has asked for an empty one. Moving a home copies it."""
    noted = [event for event in outcome.events if event["what"] == "HomeReplaced"]
    return [f"{event['workspace_id']}: {event['result']}" for event in noted] + [
        f"{workspace_id} was READY on {len(numbers)} homes"
        for workspace_id, numbers in outcome.homes.items()
        if len(numbers) > 1 + (workspace_id in outcome.moved)
    ]


def _named_after(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return machines or disks by the workspace that they are named after, whatever their labels say."""
    sorted_out: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in found:
        if named := _WORKSPACE.search(each["name"]):
            sorted_out[named[0]].append(each)
    return sorted_out


def _over_quota(outcome: Outcome) -> list[str]:
    """Nobody has more workspaces, or more of them running, than they may.

    Meanwhile it is the observer who counts: a list that has several pages is of several moments.
    """
    held = Counter(ws["owner_id"] for ws in outcome.workspaces)
    running = Counter(
        ws["owner_id"] for ws in outcome.workspaces if ws["status"] in {"PROVISIONING", "READY"}
    )
    over = [
        f"{owner} has {count} workspaces"
        for owner, count in held.items()
        if count > WORKSPACES_EACH
    ]
    return over + [
        f"{owner} has {count} running" for owner, count in running.items() if count > RUNNING_EACH
    ]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
