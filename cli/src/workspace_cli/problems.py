"""A Hub's problem+json (RFC 9457), and any other refusal, as an error of this command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workspace_cli import errors
from workspace_cli.config import Hub
from workspace_cli.text import one_line

NAME = "NAME"  # stands in a hint for what names the workspace in a command
# Which option, or argument, sets a field of a request.
OPTIONS = {
    "name": "NAME",
    "machine_type": "--machine-type",
    "machineType": "--machine-type",
    "image_tag": "--image-tag",
    "imageTag": "--image-tag",
    "zone": "--zone",
    "metadata.repo": "--repo",
    "metadata.branch": "--branch",
    "metadata.device_id": "WORKSPACE_DEVICE",
    "device_id": "WORKSPACE_DEVICE",
    "status": "--status",
    "all": "--all",
    "empty_home": "--empty-home",
    "rebuild": "--rebuild",
    "may_move": "--may-move",
    "home_disk_gb": "--home-disk-gb",
    "until": "--for, --until",
}
# Where it is another one.
_OPTIONS_OF = {
    "start": {"name": "--name"},
    "snapshots": {"name": "--name"},
    "fork": {"name": "NEW", "from": "--snapshot", "from.snapshot_id": "--snapshot"},
    "restore": {"snapshot_id": "SNAPSHOT"},
    "undelete": {"name": "--name"},
    "deleted-workspaces": {"owner_id": "--owner"},
}
_DELETE_SNAPSHOT = f"workspace snapshots {NAME} --delete SNAPSHOT"
_HINTS_OF = {
    "snapshots": {"QUOTA_EXCEEDED": f"delete one: {_DELETE_SNAPSHOT}"},
    "restore": {
        "QUOTA_EXCEEDED": f"delete a snapshot, or stop another workspace: {_DELETE_SNAPSHOT}",
        "NAME_TAKEN": "start it by its id, under another name: workspace start ID --name OTHER",
        "SNAPSHOT_NOT_READY": f"to see when it is: workspace snapshots {NAME}",
    },
    "undelete": {
        "NAME_TAKEN": f"give it another name: workspace undelete {NAME} --name OTHER",
        "QUOTA_EXCEEDED": "delete another workspace, or ask whoever runs the Hub for more",
    },
}
_MOST_FIELDS = 20
_HINTS = {
    "OPERATION_UNDER_WAY": f"wait until it has ended: workspace show {NAME} --watch",
    "NOT_AWAKE": f"workspace start {NAME}",
    "QUOTA_EXCEEDED": "stop or delete a workspace, or ask whoever runs the Hub for more",
    "NOT_ALLOWED": "ask whoever runs this Hub",
    "WORKSPACE_GONE": "run the command again: it then is another request",
    "IDEMPOTENCY_KEY_REUSED": "run the command again: it then is another request",
    "TOO_MANY_REQUESTS": "try again later",
    "UNAVAILABLE": "nothing is half done: try again",
    "NO_HOME": f"it has a home disk once it has been ready: workspace start {NAME}",
    "SNAPSHOT_IN_USE": "wait until the workspace whose home is made from it is ready, or start it",
    "INTERNAL": "try again; if it stays, give whoever runs the Hub the request's id",
}


def error_of(
    status: int, problem: Mapping[str, Any], request_id: str, hub: Hub, verb: str
) -> errors.CommandError:
    """Return the error that an answer is. ``NAME`` in its hint is for the caller to fill in.

    Args:
        status: of HTTP, not 2xx.
        problem: the answer's JSON object; empty if it had none. Nothing in it is trusted.
        request_id: checked already.
        hub: who answered.
        verb: of the request, as ``client.Request`` has it.
    """
    code = one_line(problem.get("code") or "", 64)
    said = problem.get("detail") or problem.get("title") or ""
    detail = one_line(said).rstrip(".") or f"{hub.address} answers {status}"
    hint = {**_HINTS, **_HINTS_OF.get(verb, {})}.get(code)
    options = {**OPTIONS, **_OPTIONS_OF.get(verb, {})}
    fields = _fields(problem.get("errors"), options)
    if status == 400 and fields:
        return errors.WrongUsageError("; ".join(fields), request_id=request_id)
    if status == 401:
        return errors.SignInError(
            f"{hub.address} does not believe who you are: {detail}", request_id=request_id
        )
    if code == "SNAPSHOT_NOT_FOUND":
        hint = f"workspace snapshots {NAME}"
        return errors.SnapshotNotFoundError(detail, hint=hint, request_id=request_id)
    if status == 404:
        hint = "workspace deleted" if verb == "undelete" else "workspace ls"
        return errors.WorkspaceNotFoundError(detail, hint=hint, request_id=request_id)
    if status in {403, 409, 429}:
        return errors.RefusedError(detail, hint=hint, request_id=request_id, code=code or None)
    if status >= 500 or status < 200:
        return errors.NoAnswerError(detail, hint=hint, request_id=request_id)
    return errors.CommandError(detail, hint=hint, request_id=request_id)


def _fields(given: object, options: Mapping[str, str]) -> list[str]:
    """Return a line for each wrong field, named as what the person has typed."""
    if not isinstance(given, list):
        return []
    lines = []
    for one in given[:_MOST_FIELDS]:
        if isinstance(one, dict):
            field = str(one.get("field", ""))
            option = options.get(field) or one_line(field, 100)
            lines.append(f"{option}: {one_line(one.get('message', ''))}".removeprefix(": "))
    return lines
