"""What must hold after a chaos run: of the answers, the audit trail, and the rest in Compute."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.faults.chaos import (
    GRACE_SECONDS,
    MAX_DELETED,
    MAX_RUNNING,
    MAX_SNAPSHOTS,
    MAX_WORKSPACES,
    OPERATION_SECONDS,
    Exchange,
    Outcome,
    former_machines,
    lasting_resources,
    left_over,
    name_of_snapshot,
    unlabelled,
    unrecorded,
    without_lasting,
)

Event = dict[str, Any]

_REQUESTED = {
    "create": "WorkspaceRequested",
    "stop": "StopRequested",
    "start": "StartRequested",
    "start bigger": "StartRequested",
    "start larger": "StartRequested",
    "start elsewhere": "StartRequested",
    "start that may move": "StartRequested",
    "delete": "DeleteRequested",
    "fork": "WorkspaceRequested",
    "snapshot": "SnapshotRequested",
    "restore": "RestoreRequested",
    "archive": "ArchiveRequested",
    "purge": "DeleteRequested",
    "undelete": "WorkspaceUndeleted",
}
_NOT_THEIRS = {
    *("fork another's", "fork as administrator"),
    *("restore another's", "restore as administrator", "undelete another's"),
}
_DELETES = {"delete", "delete during a snapshot", "delete during a restore"}
_MOVES = {"start elsewhere", "start that may move"}
_WORKSPACE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# A status or a code. The result of an event that only notes something is a sentence.
_RESULT_CODE = re.compile(r"[A-Z_]+")
_ORPHAN_EVENTS = {"OrphanStopped", "OrphanDeleted", "OrphanDiskDeleted"}
# Between the decision and its event: the longest that a request may take.
_MAX_DELAY_OF_EVENT = timedelta(seconds=30)
_SHORTEST_REASON = 20
_ARCHIVED = "Its home is a snapshot now"  # why an ARCHIVE has deleted a home disk
_STATUSES = {"READY", "SUSPENDED"}
_MACHINES = {"READY": {"RUNNING"}, "SUSPENDED": {"SUSPENDED", "TERMINATED"}}


def violations(outcome: Outcome) -> list[str]:
    """Return a sentence for each rule that is broken."""
    trails = _trails(outcome.events)
    return [
        *_lost_requests(outcome, trails),
        *_unfinished_operations(trails),
        *_overlong_operations(trails),
        *_wrong_final_states(outcome, trails),
        *_errors_without_reason(outcome),
        *_wrong_machines_and_homes(outcome, trails),
        *_mistaken_for_orphans(outcome, trails),
        *_missing_labels(outcome),
        *_replaced_homes(outcome),
        *_homes_that_shrank(outcome),
        *_over_quota(outcome),
        *_names_had_twice(outcome, trails),
        *_wrong_snapshots(outcome),
        *_unrecorded_snapshots(outcome),
        *_too_many_snapshots(outcome),
        *_homes_of_others(outcome),
        *_wrong_entries(outcome),
    ]


def _trails(events: list[Event]) -> dict[str, list[Event]]:
    """Return each workspace's accepted requests and their results, the oldest first.

    Events that only note something are left out.
    """
    trails: dict[str, list[Event]] = defaultdict(list)
    for event in reversed(events):
        accepted = event["result"] == "ACCEPTED" and event["what"] in _REQUESTED.values()
        if accepted or (event["who"] == "hub" and _RESULT_CODE.fullmatch(event["result"])):
            trails[event["workspace_id"]].append(event)
    return trails


def _results(trail: list[Event]) -> list[Event]:
    """Return the Hub's events that say what became of a workspace, not of one of its snapshots."""
    return [
        event
        for event in trail
        if event["who"] == "hub"
        and (not event.get("snapshot_id") or event.get("operation_kind") == "RESTORE")
    ]


def _lost_requests(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """Each operation in an answer was begun at the time that the answer says.

    It was begun by that request, or by an earlier one.
    """
    lost = []
    for exchange in outcome.exchanges:
        operation = exchange.answer.get("operation")
        if not (200 <= exchange.status < 300 and exchange.verb in _REQUESTED and operation):
            continue
        begun = [
            event
            for event in trails[exchange.workspace_id]
            if event["what"] in {_REQUESTED[exchange.verb], _begins(operation["kind"])}
        ]
        began_at = _time(operation["requested_at"])
        own = any(event["request_id"] == exchange.request_id for event in begun)
        if not own and not any(
            abs(_time(event["at"]) - began_at) < _MAX_DELAY_OF_EVENT for event in begun
        ):
            lost.append(
                f"{exchange.request_id} ({exchange.verb}) was accepted, "
                f"but has no event of {exchange.workspace_id}"
            )
    return lost


def _begins(kind: str) -> str:
    """Return the event of a request that begins an operation of this kind.

    A START of a READY workspace is answered with the SNAPSHOT that is under way.
    """
    return "WorkspaceRequested" if kind == "CREATE" else f"{kind.capitalize()}Requested"


def _unfinished_operations(trails: dict[str, list[Event]]) -> list[str]:
    """Each operation that was begun has a result, or was superseded: by a DELETE, or by a START."""
    unfinished = []
    for workspace_id, trail in trails.items():
        for index, event in enumerate(trail):
            if event["who"] == "hub" or event["what"] == "WorkspaceUndeleted":
                continue
            later = trail[index + 1 :]
            ended = any(
                each["who"] == "hub" and each["request_id"] == event["request_id"] for each in later
            )
            supersede = {"DeleteRequested"}
            if event["what"] == "ArchiveRequested":
                supersede.add("StartRequested")  # it calls the ARCHIVE off
            superseded = any(each["what"] in supersede for each in later)
            if not ended and not superseded:
                unfinished.append(
                    f"{workspace_id}: {event['what']} {event['request_id']} has no result"
                )
    return unfinished


def _overlong_operations(trails: dict[str, list[Event]]) -> list[str]:
    """Each operation ended within ``OPERATION_SECONDS``: its deadline, its clean-up and a look."""
    slow = []
    for workspace_id, trail in trails.items():
        begun = {
            event["request_id"]: _time(event["at"]) for event in trail if event["who"] != "hub"
        }
        for event in trail:
            # What becomes of a snapshot after the end of its SNAPSHOT may take any time.
            if event["who"] == "hub" and (began_at := begun.pop(event["request_id"], None)):
                seconds = (_time(event["at"]) - began_at).total_seconds()
                if seconds > OPERATION_SECONDS:
                    slow.append(
                        f"{workspace_id}: {event['what']} {event['result']} "
                        f"came after {seconds:.0f} s"
                    )
    return slow


def _wrong_final_states(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """Each workspace is as its last event says: in that status, with that error, or deleted.

    The error of a SNAPSHOT that fails comes in the place of another one, and goes with the next
    SNAPSHOT.
    """
    wrong = []
    current = {ws["id"]: ws for ws in outcome.workspaces}
    made = {exchange.workspace_id for exchange in outcome.exchanges if exchange.status == 201}
    for workspace_id in made | set(trails):
        if not workspace_id:
            continue
        trail = trails[workspace_id]
        end = next(reversed(_results(trail)), None)
        last = end["result"] if end else "nothing"
        since = trail[trail.index(end) :] if end else []
        if any(event["what"] == "WorkspaceUndeleted" for event in since):
            last = "SUSPENDED"
        now = current.get(workspace_id)
        said = (
            {"DELETED"}
            if now is None
            else {now["status"] if last in _STATUSES else (now["error"] or {}).get("code")}
        )
        replaced = any(event["what"] == "SnapshotFailed" for event in since)
        if last not in said and not (now is not None and replaced and last not in _STATUSES):
            wrong.append(
                f"{workspace_id} ended with {last}, and is {now and (now['status'], now['error'])}"
            )
    return wrong


def _errors_without_reason(outcome: Outcome) -> list[str]:
    """Each workspace in ERROR says why, and what to do."""
    return [
        f"{ws['id']} is in ERROR without a reason: {ws['error']}"
        for ws in outcome.workspaces
        if ws["status"] == "ERROR" and not _is_reason(ws["error"] or {})
    ]


def _is_reason(error: dict[str, Any]) -> bool:
    return bool(error.get("code")) and len(error["message"]) > _SHORTEST_REASON


def _wrong_machines_and_homes(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """Each workspace has one machine in the state that its status implies, and one home.

    There are no other machines and disks, but those that stay after a move
    (``lasting_resources``). A workspace that was never READY may have no home. One
    that got no capacity for another machine, or of which a RESTORE or an ARCHIVE failed, may have
    no machine, and one whose DELETE failed may have lost its home. What is archived, or was taken
    back, has neither. In ERROR a machine may run while somebody is
    connected to it, as when a DELETE has not reached it in time.
    """
    lasting = lasting_resources(
        outcome.former, outcome.machines, outcome.disks, outcome.snapshots, outcome.stored
    )
    all_machines = without_lasting(outcome.machines, lasting)
    all_disks = without_lasting(outcome.disks, lasting)
    machines, disks = _by_name(all_machines), _by_name(all_disks)
    may_lack_home = {
        event["workspace_id"]
        for event in outcome.events
        if event["what"] == "DeleteFailed"
        or (event["what"] == "HomeDeleted" and not event["result"].startswith(_ARCHIVED))
    }
    # A START that fails before the home has grown leaves all as it was: there may be no machine.
    to_grow = {each.workspace_id for each in outcome.exchanges if each.verb == "start larger"}
    wrong = [
        f"{name} is left over"
        for name in [
            *left_over(outcome.workspaces, all_machines, all_disks, outcome.home_of),
            *former_machines(outcome.former, all_machines),
        ]
    ]
    for ws in outcome.workspaces:
        states = [machine["status"] for machine in machines[ws["id"]]]
        home, _ = outcome.home_of.get(ws["id"], (f"home-{ws['id']}", {}))
        homes = [disk["name"] for disk in disks[ws["id"]] if disk["name"] == home]
        code = (ws["error"] or {}).get("code")
        ends = [event for event in _results(trails[ws["id"]]) if event["what"] != "SnapshotFailed"]
        is_copy = ws["id"] in outcome.waiting  # its home is its last copy
        lacks_machine = ws["status"] == "SUSPENDED" and any(
            is_copy
            or end["result"] == "NO_CAPACITY"
            or end["what"] in {"RestoreFailed", "ArchiveFailed"}
            or (end["what"] == "StartFailed" and ws["id"] in to_grow)
            for end in ends[-1:]
        )
        if ws["status"] in _MACHINES and not (lacks_machine and not states):
            fits = len(states) == 1 and states[0] in _MACHINES[ws["status"]]
        else:
            fits = len(states) <= 1 and (
                "RUNNING" not in states or ws["instance_name"] in outcome.connected
            )
        was_ready = any(event["result"] == "READY" for event in _results(trails[ws["id"]]))
        if (
            not fits
            or len(homes) > 1
            or (was_ready and not homes and not is_copy and ws["id"] not in may_lack_home)
        ):
            wrong.append(
                f"{ws['id']} is {ws['status']} ({code}) with machines {states} and homes {homes}"
            )
        if ws["status"] == "READY" and ws["instance_name"] not in outcome.connected:
            wrong.append(f"{ws['id']} is READY, but nobody is connected")
    return wrong


def _mistaken_for_orphans(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """No sweep stopped or deleted what belongs to a workspace, unless a DELETE was requested."""
    made = {exchange.workspace_id for exchange in outcome.exchanges if exchange.status == 201}
    wrong = []
    for event in outcome.events:
        workspace_id = event["workspace_id"]
        deleted = any(
            each["what"] == "DeleteRequested" and each["at"] <= event["at"]
            for each in trails.get(workspace_id, [])
        )
        if event["what"] in _ORPHAN_EVENTS and workspace_id in made and not deleted:
            wrong.append(
                f"{workspace_id}: {event['what']} at {event['at']}, but no DELETE was requested"
            )
    return wrong


def _missing_labels(outcome: Outcome) -> list[str]:
    """Each machine and each home has the Hub's labels, even if somebody removed them by hand.

    Those of before a move stay without them.
    """
    lasting = lasting_resources(
        outcome.former, outcome.machines, outcome.disks, outcome.snapshots, outcome.stored
    )
    machines = without_lasting(outcome.machines, lasting)
    disks = without_lasting(outcome.disks, lasting)
    return [
        f"labels of {name}"
        for name in unlabelled(outcome.workspaces, machines, disks, outcome.home_of)
    ]


def _replaced_homes(outcome: Outcome) -> list[str]:
    """No workspace was READY on one home and then on another, as nobody asked for an empty one.

    Moving a home to another zone copies it, so a workspace moved by hand may have had two. Each
    RESTORE and each move makes another one, and so does the START of what was taken back or
    archived.
    """
    restores = Counter(
        exchange.workspace_id
        for exchange in outcome.exchanges
        if exchange.verb in {"restore", "undelete", *_MOVES}
        and (exchange.status in {200, 202} or _may_be_accepted(exchange))
    )
    archives = Counter(
        event["workspace_id"]
        for event in outcome.events
        if event["what"] == "HomeDeleted" and event["result"].startswith(_ARCHIVED)
    )
    noted = [event for event in outcome.events if event["what"] == "HomeReplaced"]
    return [f"{event['workspace_id']}: {event['result']}" for event in noted] + [
        f"{workspace_id} was READY on {len(numbers)} homes"
        for workspace_id, numbers in outcome.homes.items()
        if len(numbers)
        > 1 + (workspace_id in outcome.moved) + restores[workspace_id] + archives[workspace_id]
    ]


def _homes_that_shrank(outcome: Outcome) -> list[str]:
    """Each home is at least as large as its workspace ever said.

    So a START with a larger home that ended READY has made it so, and nothing has made it smaller.
    One that somebody moves to another zone may grow there too late.
    """
    said: dict[str, int] = defaultdict(int)
    for ws in [*(ws for listing in outcome.listings for ws in listing), *outcome.workspaces]:
        said[ws["id"]] = max(said[ws["id"]], ws.get("home_disk_gb") or 0)
    homes = {
        home: workspace_id
        for workspace_id, (home, _) in outcome.home_of.items()
        if workspace_id not in outcome.moved
    }
    return [
        f"{disk['name']} has {disk['sizeGb']} GB, of {said[homes[disk['name']]]} GB"
        for disk in outcome.disks
        if disk["name"] in homes and int(disk["sizeGb"]) < said[homes[disk["name"]]]
    ]


def _may_be_accepted(exchange: Exchange) -> bool:
    """Say whether the answer leaves open if the request was accepted."""
    return exchange.status == 0 or exchange.status >= 500


def _by_name(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return machines or disks by the workspace that their name contains; labels do not count."""
    by_workspace: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in found:
        if named := _WORKSPACE.search(each["name"]):
            by_workspace[named[0]].append(each)
    return by_workspace


def _over_quota(outcome: Outcome) -> list[str]:
    """Nobody has more workspaces, or more running ones, than their quota at the end of the run.

    The observer checks this during the run: a list of several pages would mix several moments.
    """
    held = Counter(ws["owner_id"] for ws in outcome.workspaces)
    running = Counter(
        ws["owner_id"] for ws in outcome.workspaces if ws["status"] in {"PROVISIONING", "READY"}
    )
    over = [
        f"{owner} has {count} workspaces" for owner, count in held.items() if count > MAX_WORKSPACES
    ]
    return over + [
        f"{owner} has {count} running" for owner, count in running.items() if count > MAX_RUNNING
    ]


def _names_had_twice(outcome: Outcome, trails: dict[str, list[Event]]) -> list[str]:
    """No two workspaces of one user had a name at the same time.

    A workspace has its name from its CREATE to the request for its DELETE, and again from a START
    after a DELETE that failed. An event's time is that of the decision, and whoever takes a name
    decides after the commit that freed it.
    """
    had: dict[tuple[int, str], list[tuple[datetime, datetime, str]]] = defaultdict(list)
    for exchange in outcome.exchanges:
        if exchange.status == 201:
            its_name = (exchange.user, exchange.answer["name"])
            periods = _periods_outside_delete(trails[exchange.workspace_id])
            had[its_name] += {(*period, exchange.workspace_id) for period in periods}
    wrong = []
    for (user, name), its_periods in had.items():
        in_order = sorted(set(its_periods))
        for (_, until, one), (since, _, other) in itertools.pairwise(in_order):
            if since < until:
                wrong.append(f"user {user} had {name} twice at {since}: {one} and {other}")
    return wrong


def _periods_outside_delete(trail: list[Event]) -> list[tuple[datetime, datetime]]:
    """Return when a workspace was there and no DELETE had been requested, by its events."""
    periods: list[tuple[datetime, datetime]] = []
    since: datetime | None = None
    for event in trail:
        if event["what"] in {"WorkspaceRequested", "StartRequested"}:
            since = since or _time(event["at"])
        elif event["what"] == "DeleteRequested" and since is not None:
            periods.append((since, _time(event["at"])))
            since = None
        elif event["what"] == "WorkspaceUndeleted":  # it has another name from now on
            break
    if since is not None:
        periods.append((since, datetime.max.replace(tzinfo=UTC)))
    return periods


def _wrong_snapshots(outcome: Outcome) -> list[str]:
    """Each recorded snapshot is READY in Compute, of its workspace's home, or says why not.

    It belongs to a workspace and to its owner. One that is to be deleted, perhaps with its
    workspace, stays only for a home that is yet to be made from it.
    """
    stored = {each["name"]: each for each in outcome.stored}
    owners = {each["id"]: each["owner_id"] for each in outcome.workspaces}
    owners |= {workspace_id: each["owner_id"] for workspace_id, each in outcome.deleted.items()}
    wrong = []
    for snapshot_id, each in outcome.snapshots.items():
        there, owner_id = stored.get(name_of_snapshot(each)), owners.get(each["workspace_id"])
        error = each["error"] or {}
        fits = owner_id == each["owner_id"]
        if each["state"] == "READY":
            fits = fits and there is not None and _is_whole(there, each)
        elif each["state"] == "FAILED":
            fits = fits and _is_reason(error)
        else:
            fits = each["state"] == "DELETING" and snapshot_id in outcome.waiting.values()
        if not fits:
            wrong.append(
                f"snapshot {snapshot_id} of {each['workspace_id']} is {each['state']} ({error}), "
                f"and in Compute {there and there['status']}"
            )
    return wrong


def _is_whole(there: dict[str, Any], recorded: dict[str, Any]) -> bool:
    """Say whether a snapshot in Compute is READY, of the home, and labelled with its owner."""
    workspace_id = recorded["workspace_id"]
    return bool(
        there.get("status") == "READY"
        and re.search(f"/disks/home-{workspace_id}(-[0-9]+)?$", there["sourceDisk"])
        and there.get("labels", {}).get("workspace") == workspace_id
    )


def _unrecorded_snapshots(outcome: Outcome) -> list[str]:
    """Each snapshot of the Hub's in Compute has a record, or is younger than the grace time."""
    created = {each["name"]: _time(each["creationTimestamp"]) for each in outcome.stored}
    grace = timedelta(seconds=GRACE_SECONDS)
    return [
        f"{name} has no record"
        for name in unrecorded(outcome.snapshots, outcome.stored)
        if outcome.ended - created[name] >= grace
    ]


def _too_many_snapshots(outcome: Outcome) -> list[str]:
    """No workspace has more snapshots than it may have, in no answer and not at the end.

    A last copy is taken even if there are as many.
    """
    answers = [
        (f"{exchange.workspace_id} at {exchange.ended}", exchange.answer["snapshots"])
        for exchange in outcome.exchanges
        if exchange.verb == "snapshots" and exchange.status == 200
    ]
    by_workspace: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in outcome.snapshots.values():
        by_workspace[each["workspace_id"]].append(each)
    return [
        f"{whose} has {count} snapshots"
        for whose, listed in [*answers, *by_workspace.items()]
        if (count := sum(each["state"] in {"READY", "UPLOADING"} for each in listed))
        > MAX_SNAPSHOTS + any(each.get("automatic") for each in listed)
    ]


def _wrong_entries(outcome: Outcome) -> list[str]:
    """What was deleted has a READY last copy, is not there any more, and was asked to be deleted.

    Nobody has more of it than may be kept.
    """
    stored = {each["name"]: each for each in outcome.stored}
    there = {ws["id"] for ws in outcome.workspaces}
    asked = {each.workspace_id for each in outcome.exchanges if each.verb in _DELETES}
    wrong = []
    for workspace_id, entry in outcome.deleted.items():
        copy = outcome.snapshots.get(entry["snapshot_id"])
        if copy is None or not _is_whole(stored.get(name_of_snapshot(copy), {}), copy):
            wrong.append(f"{workspace_id} was deleted, and its last copy is {copy}")
        if workspace_id in there or workspace_id not in asked:
            wrong.append(f"{workspace_id} is among the deleted, but it was not deleted")
    held = Counter(entry["owner_id"] for entry in outcome.deleted.values())
    return wrong + [
        f"{owner} has {count} deleted" for owner, count in held.items() if count > MAX_DELETED
    ]


def _homes_of_others(outcome: Outcome) -> list[str]:
    """Nobody has the content of another's home: a workspace from their snapshot, or its listing.

    Nor has an administrator. What does not exist is answered as what is another's.
    """
    wrong = [
        f"{exchange.request_id} ({exchange.verb}) was answered {exchange.status}"
        for exchange in outcome.exchanges
        if exchange.verb in _NOT_THEIRS and 0 < exchange.status < 500 and exchange.status != 404
    ]
    wrong += [
        f"{exchange.request_id} has a snapshot of {each['workspace_id']}"
        for exchange in outcome.exchanges
        if exchange.verb == "snapshots" and exchange.status == 200
        for each in exchange.answer["snapshots"]
        if each["workspace_id"] != exchange.workspace_id
    ]
    maker = {each.workspace_id: each.user for each in outcome.exchanges if each.status == 201}
    for disk in outcome.disks:
        source = disk.get("sourceSnapshot", "").rpartition("/")[2]
        home, of = _WORKSPACE.search(disk["name"]), _WORKSPACE.search(source)
        if source.startswith("home-snapshot-") and (home and maker.get(home[0])) != (
            of and maker.get(of[0])
        ):
            wrong.append(f"{disk['name']} is made from another's home: {source}")
    return wrong


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
