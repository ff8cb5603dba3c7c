"""When a workspace's machine counts as idle."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.domain.policy import Policy
from shared.domain.workspace import Activity, Workspace

LONGEST_INTERVAL = timedelta(days=1)  # a longer one in the metadata counts as this
MISSED_HEARTBEATS = 3  # how many must be missing before a machine counts as idle


class HeartbeatReason(StrEnum):
    """Why a machine is in use: somebody is logged in, or only ``~/.keep-awake`` holds it."""

    SESSION = "session"
    KEEP_AWAKE = "keep_awake"


def idle_at(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return when a machine counts as idle if nobody connects. None if that is never.

    A machine that reports rarely gets more time: it keeps the interval that it booted with, even if
    another one is configured now.
    """
    if policy.idle_after is None:
        return None
    interval = min(timedelta(seconds=workspace.heartbeat_seconds or 0), LONGEST_INTERVAL)
    return workspace.last_connected_at + max(policy.idle_after, MISSED_HEARTBEATS * interval)


def awake_until(workspace: Workspace, policy: Policy) -> datetime | None:
    """Return until when a machine is left alone if nobody connects. None if that is for ever.

    A person's own word (``kept_awake_until``) holds it beyond the idle time, and never shortens
    that.
    """
    at = idle_at(workspace, policy)
    if at is None or workspace.kept_awake_until is None:
        return at
    return max(at, workspace.kept_awake_until)


def take_heartbeat(
    workspace: Workspace, reason: HeartbeatReason | None, now: datetime, policy: Policy
) -> Workspace | None:
    """Return the workspace with a heartbeat taken. None if it changes nothing.

    ``last_connected_at`` never moves backwards, and moves at most once in
    ``heartbeat_write_interval``, unless an automatic STOP waits for a heartbeat. ``~/.keep-awake``
    alone holds a machine for at most ``keep_awake_most`` since the last session, because a program
    can renew the file. A heartbeat without a reason comes from boot scripts of version 0.1 and
    counts as a session.
    """
    operation = workspace.operation
    awaited = (
        operation is not None
        and operation.automatic
        and workspace.last_connected_at <= operation.requested_at
    )
    since = now - workspace.last_connected_at
    kept_awake_since = None
    if reason is HeartbeatReason.KEEP_AWAKE:
        kept_awake_since = workspace.kept_awake_since or now
        if now - kept_awake_since > policy.keep_awake_most:
            return None
    if since <= timedelta(0) or (since <= policy.heartbeat_write_interval and not awaited):
        return None
    return replace(
        workspace,
        last_connected_at=now,
        last_activity=Activity.HEARTBEAT,
        kept_awake_since=kept_awake_since,
        updated_at=now,
    )
