"""What a workspace is, does now, and what happens to it next, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from workspace_cli.text import day_or_time, duration, one_line, parse_time
from workspace_cli.workspaces import Operation, Workspace

# What an operation does in a phase, and what it has done when the phase is over. Several phases are
# one thing to a person: a call to Compute and the wait for it, since the operation goes back and
# forth between them while Compute refuses. A phase of a newer Hub is shown as it is called.
_DOING = {
    "survey": ("checking the machine", "machine checked"),
    "insert": ("making the machine", "machine made"),
    "inserting": ("making the machine", "machine made"),
    "set_metadata": ("preparing the machine", "machine prepared"),
    "await_metadata": ("preparing the machine", "machine prepared"),
    "start": ("switching on", "switched on"),
    "starting": ("switching on", "switched on"),
    "await_ready": ("booting", "booted"),
    "resume": ("waking up", "awake"),
    "await_running": ("waking up", "awake"),
    "suspend": ("going to sleep", "asleep"),
    "await_suspended": ("going to sleep", "asleep"),
    "stop": ("shutting down", "shut down"),
    "await_stopped": ("shutting down", "shut down"),
    "delete_instance": ("deleting the machine", "machine deleted"),
    "await_absent": ("deleting the machine", "machine deleted"),
    "delete_disk": ("deleting the disk", "disk deleted"),
    "await_disk_absent": ("deleting the disk", "disk deleted"),
    "forget": ("forgetting it", "forgotten"),
    "snapshot": ("capturing the home", "home captured"),
    "await_snapshot": ("capturing the home", "home captured"),
    "await_stored": ("storing the snapshot", "snapshot stored"),
    "resize_disk": ("enlarging the disk", "disk enlarged"),
    "await_resized": ("enlarging the disk", "disk enlarged"),
}
_CAPITAL = re.compile(r"(?<=[a-z])[A-Z]")
_STOPPED_BECAUSE = {
    "requested": "somebody stopped it",
    "idle": "nobody was connected for long enough",
    "outside": "its machine was stopped outside the Hub",
}
_STATUS = {
    "PROVISIONING": "starting",
    "READY": "ready",
    "SUSPENDED": "asleep",
    "ERROR": "error",
}
_MOST_EXPECTED = 20  # lines of an outlook
_UNDER_WAY = {
    "CREATE": "starting",
    "START": "starting",
    "STOP": "stopping",
    "RESTORE": "restoring",
    "ARCHIVE": "archiving",
    "DELETE": "deleting",
}


def status(workspace: Workspace) -> str:
    """Return the status in a word: what is under way goes before what is, if it changes that."""
    if workspace.operation is not None and not workspace.is_settled:
        return _UNDER_WAY.get(workspace.operation.kind, workspace.operation.kind.lower())
    if workspace.is_archived:
        return "archived"
    return _STATUS.get(workspace.status, workspace.status)


def doing(operation: Operation) -> str:
    """Return what an operation does now."""
    return _DOING.get(operation.phase, (operation.phase, ""))[0] or "working"


def done(what: str) -> str:
    """Return what has been done, of what ``doing`` said."""
    return next((after for now, after in _DOING.values() if now == what), what)


def steps(phases: Iterable[str]) -> list[str]:
    """Return what an operation does in these phases, each thing once as long as it lasts."""
    said: list[str] = []
    for phase in phases:
        doing_then = _DOING.get(phase, (phase, ""))[0]
        if said[-1:] != [doing_then]:
            said.append(doing_then)
    return said


def upcoming(workspace: Workspace, now: datetime, usual: float | None = None) -> str:
    """Return the one thing that happens next; empty if nothing does.

    Args:
        workspace: the workspace.
        now: by the Hub's clock.
        usual: how many seconds the operation under way usually takes.
    """
    operation = workspace.operation
    if operation is not None:
        since = operation.requested_at
        elapsed = f", {duration((now - since).total_seconds())}" if since else ""
        return f"{doing(operation)}{elapsed}{usually(usual)}"
    if workspace.failure is not None:
        return workspace.failure.reason
    if workspace.status == "READY" and workspace.stops_at is not None:
        return f"sleeps {ahead(workspace.stops_at, now)}"
    if workspace.status == "SUSPENDED" and workspace.archives_at is not None:
        return f"archived {ahead(workspace.archives_at, now)}"
    if workspace.status == "SUSPENDED" and workspace.deletes_at is not None:
        return f"deleted {ahead(workspace.deletes_at, now)}"
    return ""


def outlook(workspace: Workspace, now: datetime) -> list[str]:
    """Return what happens next as the Hub says it, a line each; empty if it is too old to say."""
    given = workspace.raw.get("outlook")
    listed = given if isinstance(given, list) else []
    found = [each for each in listed if isinstance(each, dict) and each.get("what")]
    return [_expected(each, now) for each in found[:_MOST_EXPECTED]]


def _expected(each: Mapping[str, Any], now: datetime) -> str:
    at, since = parse_time(each.get("at")), parse_time(each.get("since"))
    when = ahead(at, now) if at else "at any time"
    if at and each.get("kind") == "renewal":
        when = f"from {day_or_time(at, now)} on"
    why = one_line(each.get("why", ""))
    if since:
        why += f" since {day_or_time(since, now)}"
    unless = f"; unless {one_line(each['unless'])}" if each.get("unless") else ""
    return f"{when}: {one_line(each.get('what', ''))}. Why: {why}{unless}"


def event(what: str) -> str:
    """Return an event's name in words: ``SnapshotTaken`` is ``snapshot taken``."""
    return _CAPITAL.sub(r" \g<0>", what).lower()


def not_taken(workspace: Workspace) -> str:
    """Return why its last snapshot was not taken; empty if nothing failed."""
    failure = workspace.snapshot_failure
    return "" if failure is None else f"no snapshot was taken: {failure.reason}"


def usually(seconds: float | None) -> str:
    """Return what stands behind an elapsed time."""
    return "" if seconds is None else f" (usually {duration(seconds)})"


def ahead(moment: datetime, now: datetime) -> str:
    """Return when something happens: ``in 38 min``, or ``on Dec 9`` if that is more than a day."""
    seconds = (moment - now).total_seconds()
    if seconds <= 0:
        return "any moment"
    if seconds < 86400:
        return f"in {duration(seconds)}"
    return f"on {day_or_time(moment, now)}"


def since(workspace: Workspace, now: datetime) -> str:
    """Return since when a workspace sleeps, and why; empty if it does not, or if it is unknown."""
    if workspace.status != "SUSPENDED" or workspace.suspended_at is None:
        return ""
    if workspace.is_archived and workspace.archived_at is not None:
        return f"since {day_or_time(workspace.archived_at, now)}"
    why = _STOPPED_BECAUSE.get(workspace.stopped_because or "")
    when = f"since {day_or_time(workspace.suspended_at, now)}"
    return f"{when}: {why}" if why else when


def last_connected(workspace: Workspace, now: datetime) -> str:
    """Return when somebody last used a workspace, and from where."""
    moment = workspace.last_connected_at
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    when = f"{duration(seconds)} ago" if seconds < 86400 else day_or_time(moment, now)
    return f"{when}, {workspace.last_device}" if workspace.last_device else when


def result(workspace: Workspace, now: datetime) -> tuple[str, str]:
    """Return what a workspace at rest is, and what is to be known of it: a sentence, or nothing."""
    said = f"{workspace.name} is {status(workspace)}"
    if workspace.status == "READY" and workspace.stops_at is not None:
        seconds = (workspace.stops_at - now).total_seconds()
        return said, f" It goes to sleep when nobody is connected for {duration(seconds)}."
    if workspace.is_archived:
        return said, " Its home is kept as a snapshot; a start makes disk and machine again."
    if workspace.status == "SUSPENDED" and workspace.memory_kept is not None:
        return said, " Its memory is kept." if workspace.memory_kept else " Its memory is lost."
    return said, ""
