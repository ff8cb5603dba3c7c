"""Host keys of machines, in a file of the command's own, by the machine and not by its name.

The Hub tells a machine's key as the machine itself has reported it. Where it does not know it,
OpenSSH keeps the first one that it sees (``accept-new``), and refuses another one afterwards: a
name for which any key is known is never learned again. A new machine has a new alias, so that it
is no alarm. The hosts of ``config-ssh`` cannot have an alias, since their configuration is fixed:
for them ``remember`` puts the machine's key under the host's name before the connection begins.
OpenSSH reads the file only after the machine's first line, so that this comes in time.

Beside the file, ``hosts.json`` has the alias of the machine that each host's lines are of.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from workspace_cli.files import locked, read_object, replace_object
from workspace_cli.ssh.writing import replace_file

_MOST_LINES = 400  # those of machines that are long gone go first
# Before a name that is hashed: whose line it is cannot be read, and OpenSSH would hold it against
# the next machine of a host. A configuration that does not say ``HashKnownHosts no`` has left it.
_HASHED = "|1|"


def remember(file: Path, alias: str, host_key: str | None, *, host: str) -> None:
    """Have ``file`` name a machine's key under its alias and under the name of a host.

    Args:
        file: the known_hosts file. OpenSSH itself appends what it learns to it.
        alias: the machine, ``Connection.alias``.
        host_key: the key that the Hub knows; None: what was learned of this machine, if anything.
        host: the host of ``config-ssh`` that now is this machine.
    """
    host = host.lower()  # as OpenSSH looks it up
    states = file.with_name("hosts.json")
    with locked(file):
        lines = _read(file)
        state = read_object(states) or {}
        before = state.get(host)
        learned = [key for name, key in lines if name == alias]
        if not learned and before == alias:
            learned = [key for name, key in lines if name == host]
        keys = [host_key] if host_key else list(dict.fromkeys(learned))
        kept = [
            (name, key)
            for name, key in lines
            if name not in {alias, host} and not name.startswith(_HASHED)
        ]
        wanted = kept[-_MOST_LINES:] + [(name, key) for key in keys for name in (alias, host)]
        if sorted(wanted) != sorted(lines):
            content = "".join(f"{name} {key}\n" for name, key in wanted)
            replace_file(file, content.encode(), mode=0o600)
        if before != alias:
            replace_object(states, {**state, host: alias})


def _read(file: Path) -> list[tuple[str, str]]:
    """Return name, and type with key, of each line; comments are dropped."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            parts = line.split()
            if len(parts) >= 3 and not line.startswith(("#", "@")):
                found.append((parts[0], f"{parts[1]} {parts[2]}"))
    return found
