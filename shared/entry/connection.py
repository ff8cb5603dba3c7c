"""How to connect to a workspace: data for programs, and one line for a person to paste."""

import shlex
from typing import Any

from shared.config import Connect, ConnectKind
from shared.domain.machine_access import state_and_why
from shared.domain.workspace import Workspace


def connection_json(workspace: Workspace, host: str | None, connect: Connect) -> dict[str, Any]:
    """Return how to connect, once the workspace is READY.

    ``host`` is the machine's address as far as it is known; only direct connections use it.
    ``access`` says whether the owner may log in to the machine, as far as the record knows.
    ``command`` is for people's eyes: a program makes its own from the other members.
    """
    direct = connect.kind is ConnectKind.DIRECT
    state, why = state_and_why(workspace)
    return {
        "kind": connect.kind.value,
        "project_id": workspace.project_id,
        "zone": workspace.zone,
        "instance_name": workspace.instance_name,
        "instance_id": workspace.instance_id,
        "host": host if direct else None,
        "port": connect.port,
        "jump": connect.jump or None,
        "user": connect.user or None,
        "host_key": workspace.machine_key,
        "access": {"state": state.value, "why": why},
        "command": _ssh(host, connect) if direct else _gcloud(workspace, connect),
    }


def _gcloud(workspace: Workspace, connect: Connect) -> str:
    target = workspace.instance_name
    command = [
        "gcloud", "compute", "ssh", f"{connect.user}@{target}" if connect.user else target,
        f"--project={workspace.project_id}", f"--zone={workspace.zone}", "--tunnel-through-iap",
    ]  # fmt: skip
    return shlex.join(command)


def _ssh(host: str | None, connect: Connect) -> str | None:
    """Return the command for a machine's address; None while that is not known."""
    if host is None:
        return None
    jump = ["-J", connect.jump] if connect.jump else []
    target = f"{connect.user}@{host}" if connect.user else host
    return shlex.join(["ssh", "-p", str(connect.port), *jump, target])
