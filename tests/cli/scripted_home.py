"""A workspace at a scripted Hub, with snapshots that are taken, deleted and restored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.cli.scripted_hub import (
    SIGN_IN,
    Reply,
    ScriptedHub,
    Seen,
    operation,
    snapshot,
    snapshots,
    workspace,
)

NEW_ID = "11111111-2222-4333-8444-555555555555"


def ago(**span: float) -> str:
    """Return a time before now, as the API has it."""
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


class Home:
    """A workspace with snapshots at a scripted Hub.

    Attributes:
        listed: its snapshots.
        looks: how many reads its SNAPSHOT or RESTORE takes.
        at_the_end: is called at the last of them.
        next_at: from when on another may be asked for.
        loses: what the dry run of a RESTORE says that it loses.
    """

    def __init__(self, hub: ScriptedHub) -> None:
        self.hub = hub
        self.listed: list[Any] = []
        self.looks = 2
        self.at_the_end: Callable[[], None] = lambda: None
        self.next_at: str | None = None
        self.loses: list[Any] = [{"what": "boot_disk", "why": "It is made anew."}]
        self.workspace = workspace("api")
        hub.workspaces = [self.workspace]
        hub.sign_in = {**SIGN_IN, "features": ["dry_run", "snapshots", "restore"]}
        hub.answers = self.answer

    @property
    def path(self) -> str:
        """Where its snapshots are."""
        return f"/workspaces/{self.workspace['id']}/snapshots"

    def changes(self) -> list[Seen]:
        """Return what was sent to the Hub, besides reads."""
        return [each for each in self.hub.seen if each.method != "GET"]

    def answer(self, seen: Seen) -> Reply | None:
        """Answer as a Hub does."""
        if seen.path == self.path and seen.method == "POST":
            self.workspace["operation"] = self.under_way()
            return Reply(202, self.workspace)
        if seen.path == self.path:
            return Reply(body=snapshots(*self.listed, next_at=self.next_at))
        if seen.path.startswith(self.path):
            gone = [one for one in self.listed if seen.path.endswith(one["id"])]
            return Reply(202, {**gone[0], "state": "DELETING"})
        if seen.path.endswith("/restore") and "dry_run" in seen.query:
            told = {"dry_run": True, "decision": "begin", "kind": "RESTORE", "loses": self.loses}
            return Reply(body=told)
        if seen.path.endswith("/restore"):
            self.workspace["operation"] = self.restoring(seen.body["snapshot_id"])
            return Reply(202, self.workspace)
        if seen.path == f"/workspaces/{self.workspace['id']}" and self.workspace["operation"]:
            self.looks -= 1
            if self.looks <= 0:
                self.workspace["operation"] = None
                self.at_the_end()
        return None

    @staticmethod
    def under_way() -> dict[str, Any]:
        """Return the operation that takes a snapshot."""
        return {**operation("SNAPSHOT", "await_snapshot"), "id": NEW_ID, "snapshot_name": None}

    @staticmethod
    def restoring(snapshot_id: str, phase: str = "await_stored") -> dict[str, Any]:
        """Return the operation that restores a snapshot."""
        return {**operation("RESTORE", phase), "id": NEW_ID, "snapshot_id": snapshot_id}

    def will_have(self, **fields: Any) -> dict[str, Any]:
        """Have the SNAPSHOT end with this snapshot, and return it."""
        taken = snapshot(**{"id": NEW_ID, "state": "UPLOADING", "stored_bytes": None, **fields})
        self.at_the_end = lambda: self.listed.insert(0, taken)
        return taken

    def will_fail(self, code: str, kind: str = "SNAPSHOT", **fields: Any) -> None:
        """Have the operation end with an error, and these fields of the workspace."""
        error = {"code": code, "message": "No luck.", "operation_kind": kind}
        self.at_the_end = lambda: self.workspace.update(error=error, **fields)
