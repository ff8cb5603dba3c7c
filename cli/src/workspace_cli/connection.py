"""How machines of a Hub are reached: what it wants, and what the person has agreed to.

A Hub could send people's connections through a machine of its own. So any other way than Google's
tunnel is shown whole and accepted once, at login or when it first appears, and kept with the Hub
(``config.Hub.connect``). A change is asked about again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workspace_cli import UPGRADE
from workspace_cli.config import Connect, Hub
from workspace_cli.errors import NotUnderstoodError, RefusedError
from workspace_cli.text import one_line

if TYPE_CHECKING:
    from workspace_cli.app import App

TUNNEL = Connect(kind="iap")
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-fA-F:]{2,39}")
_JUMP = re.compile(
    rf"(?:(?P<user>{USER.pattern})@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*)(?::(?P<port>[0-9]{{1,5}}))?"
)


def connect_of(value: Any) -> Connect:
    """Return how machines are reached, from ``connect`` of ``/sign-in`` or from a ``connection``.

    Raises:
        NotUnderstoodError: it is a way that this command does not know, or holds something that is
            no port, host or user name.
    """
    given: Mapping[str, Any] = value if isinstance(value, dict) else {}
    kind = given.get("kind", "iap")  # a Hub that is older than this says nothing
    if kind == "iap":
        return replace(TUNNEL, user=_user(given.get("user")))
    if kind != "direct":
        raise NotUnderstoodError(
            f"the Hub's machines are reached in a way that this command does not know: \""
            f'{one_line(kind, 40)}"',
            hint=UPGRADE,
        )
    port = given.get("port", 22)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise _wrong("port", port)
    jump = given.get("jump")
    if jump is not None and not _is_jump(jump):
        raise _wrong("bastion", jump)
    return Connect(kind="direct", port=port, jump=jump, user=_user(given.get("user")))


def agree(app: App, hub: Hub, wanted: Connect, *, yes: bool = False) -> Hub:
    """Return the Hub with the way to connect that the person agrees to; the caller stores it.

    Args:
        app: asks the person.
        hub: as it is stored, or is about to be.
        wanted: what the Hub wants now.
        yes: the person has agreed by an option.

    Raises:
        RefusedError: they do not agree.
        NeedsTerminalError: nobody can be asked.
    """
    if hub.connect == wanted:
        return hub
    is_tunnel = hub.connect is None and wanted.kind == "iap"
    # A local cloud's machines are on this machine, at another port after each start.
    is_own = hub.sign_in.kind == "local" and wanted.jump is None
    if not (is_tunnel or is_own):
        for line in _shown(hub, wanted):
            app.console.note(line)
        instead = f"accept it in a terminal: workspace login {hub.address}"
        if not yes and not app.console.confirm("Connect in this way?", instead=instead):
            raise RefusedError("not accepted, so nothing was connected or stored")
    return replace(hub, connect=wanted)


def agreed(app: App, wanted: Connect) -> Connect:
    """Return the way to connect to the Hub of this run, after the person has agreed to it.

    Commands that connect call this with what the Hub wants now. What is agreed to is stored,
    and holds for the rest of this run.

    Raises:
        RefusedError, NeedsTerminalError: see ``agree``.
    """
    hub = app.hub()
    accepted = agree(app, hub, wanted)
    if accepted is not hub:
        app.keep(accepted)  # this run asks the Hub again and again, the person once
        if hub.sign_in.kind != "token":
            app.store.put(accepted, use=False)
    return wanted


def describe(connect: Connect) -> str:
    """Return in words how machines are reached."""
    if connect.kind == "iap":
        return "Google's tunnel (Identity-Aware Proxy)"
    jump = f", through the bastion {connect.jump}" if connect.jump else ""
    user = f", as the user {connect.user}" if connect.user else ""
    return f"directly, on port {connect.port}{jump}{user}"


def _shown(hub: Hub, wanted: Connect) -> list[str]:
    lines = [f"{hub.address} has its machines reached {describe(wanted)}."]
    if hub.connect is not None:
        lines = [
            f"{hub.address} has changed how its machines are reached.",
            f"  before: {describe(hub.connect)}",
            f"  now:    {describe(wanted)}",
        ]
    if wanted.jump:
        lines.append("Whoever runs the bastion sees when you connect, and to which machine.")
    return lines


def _is_jump(value: object) -> bool:
    found = _JUMP.fullmatch(value) if isinstance(value, str) and len(value) < 400 else None
    return found is not None and int(found["port"] or 22) in range(1, 65536)


def _user(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not USER.fullmatch(value):
        raise _wrong("user name", value)
    return value


def _wrong(what: str, value: object) -> NotUnderstoodError:
    return NotUnderstoodError(f"the Hub names a {what} that is none: {one_line(value, 80)}")
