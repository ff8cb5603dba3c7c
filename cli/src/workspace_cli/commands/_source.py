"""What ``fork`` and ``restore`` have in common: they make a home from a snapshot."""

from __future__ import annotations

from workspace_cli import snapshots
from workspace_cli.app import App
from workspace_cli.errors import RefusedError, SnapshotNotFoundError
from workspace_cli.snapshots import Snapshot
from workspace_cli.workspaces import Workspace


def check(source: Snapshot, workspace: Workspace, again: str) -> None:
    """Refuse a snapshot that cannot be used. Of a state that is not known here the Hub decides.

    Args:
        source: the snapshot.
        workspace: whose it is.
        again: the command that uses it, once it is uploaded.

    Raises:
        RefusedError: it is being uploaded, or has failed.
        SnapshotNotFoundError: it is being deleted.
    """
    said = f"the snapshot {source.label} of {workspace.name}"
    if source.state == "UPLOADING":
        raise RefusedError(
            f"{said} is still being uploaded",
            hint=f"once `{listing(workspace)}` calls it ready: {again}",
        )
    if source.state == "FAILED":
        raise RefusedError(
            f"{said} {snapshots.how_it_is(source)}", hint=f"take another one: {listing(workspace)}"
        )
    if source.state == "DELETING":
        raise SnapshotNotFoundError(
            f"{said} {snapshots.how_it_is(source)}", hint=listing(workspace)
        )


def listing(workspace: Workspace) -> str:
    """Return the command that lists a workspace's snapshots."""
    return f"workspace snapshots {workspace.argument}"


def about(app: App, source: Snapshot) -> str:
    """Return how old a snapshot is, and what; empty if neither is known."""
    old = snapshots.age(source, app.client().now())
    what = [f"{old} old" if old else "", snapshots.consistency(source)]
    return ", ".join(filter(None, what))
