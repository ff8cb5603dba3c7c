"""The hosts ``workspace.NAME`` in OpenSSH's configuration: one block, in a file of its own.

``~/.ssh/workspace-hub.config`` has the block; ``~/.ssh/config`` gets one line that includes it, at
its top: of each setting OpenSSH takes the first value that it finds, and behind a ``Host`` an
``Include`` would hold for that host only. Everything else in both files stays as it is, byte by
byte. The functions here only compute; ``commands/config_ssh.py`` asks and writes.

Nothing in the block depends on a workspace: ``workspace connect`` finds machine, address and host
key when OpenSSH connects. The names that it lists are for editors, which offer them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workspace_cli.ssh.quoting import config_path, proxy_command
from workspace_cli.ssh.way import HOST_PREFIX, Files, common_settings
from workspace_cli.workspaces import NAME

FILE_NAME = "workspace-hub.config"
BEGIN = b"# --- workspace: begin. `workspace config-ssh` has written this, and replaces it. ---"
END = b"# --- workspace: end ---"
_INCLUDE_COMMENT = (
    b"# The hosts workspace.NAME. `workspace config-ssh --remove` takes this out again."
)
_BLOCK = re.compile(
    rb"(?:^|(?<=\n))" + re.escape(BEGIN) + rb"\r?\n.*?" + re.escape(END) + rb"(?:\r?\n|\Z)",
    re.DOTALL,
)
_KEYWORD = re.compile(rb"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*?)\s*")


@dataclass(frozen=True)
class Change:
    """One file, before and after; ``before`` None: it is not there; ``after`` None: it goes."""

    path: Path
    before: bytes | None
    after: bytes | None

    @property
    def is_one(self) -> bool:
        """Whether anything changes."""
        return self.before != self.after


def block(files: Files, program: Sequence[str], user: str, names: Sequence[str]) -> bytes:
    """Return the block.

    Args:
        files: key and host keys.
        program: what OpenSSH runs to connect, without the name of the host at its end.
        user: the person's user name at the machines, checked.
        names: the workspaces that there are now.

    Raises:
        WrongUsageError: OpenSSH's configuration cannot express a path.
    """
    hosts = sorted({f"{HOST_PREFIX}{name}" for name in names if NAME.fullmatch(name)})
    # A name comes to a shell. An OpenSSH before 9.6 lets every character through
    # (CVE-2023-51385); in single quotes only the single quote means something.
    command = f"{proxy_command(program)} '%n'"
    settings = {
        "ProxyCommand": command,
        "User": user,
        **common_settings(files),
        # Under which name OpenSSH looks for the host key: what the person's configuration says of
        # all hosts must not send it past the key that ``known_hosts.remember`` has put there.
        "HostName": "%h",
        "Port": "22",
        "CanonicalizeHostname": "no",
        "ProxyUseFdpass": "no",
        # A connection that is shared outlives its machine, and then hangs; its socket's path, with
        # a long name in it, may be longer than a socket's path can be.
        "ControlMaster": "no",
        "ControlPath": "none",
    }
    lines = [
        BEGIN.decode(),
        "Host " + " ".join([*hosts, f"{HOST_PREFIX}*", '"!*\'*"']),
        *(f"    {name} {value}" for name, value in settings.items()),
        # What follows in a file that includes this one is of all hosts again.
        "Match all",
        END.decode(),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def with_block(content: bytes, new: bytes) -> bytes:
    """Return a file's content with the block in the place of an older one, or at its end."""
    if _BLOCK.search(content):
        first, *rest = _BLOCK.split(content)
        return first + new + b"".join(rest)
    gap = b"" if not content or content.endswith(b"\n") else b"\n"
    return content + gap + new


def without_block(content: bytes) -> bytes:
    """Return a file's content without the block."""
    return _BLOCK.sub(b"", content)


def with_include(content: bytes, file: Path) -> bytes:
    """Return ``~/.ssh/config`` with the line that includes a file in force for every host.

    A line that is there already stays where it is, unless it stands behind a ``Host`` or ``Match``.
    The new line ends as the file's first one does.
    """
    before_hosts = True
    for line in content.splitlines(keepends=True):
        if before_hosts and _includes(line, file):
            return content
        before_hosts = before_hosts and _word(line) not in {b"host", b"match"}
    rest = without_include(content, file)
    first = rest.partition(b"\n")[0]
    end = b"\r\n" if first.endswith(b"\r") else b"\n"
    include = f"Include {config_path(str(file))}".replace("%%", "%").encode()
    return _INCLUDE_COMMENT + end + include + end + end + rest


def without_include(content: bytes, file: Path) -> bytes:
    """Return ``~/.ssh/config`` without the lines that include a file, and what came with them."""
    lines = content.splitlines(keepends=True)
    kept: list[bytes] = []
    gone = False
    for line in lines:
        if _includes(line, file):
            was_ours = bool(kept) and kept[-1].rstrip(b"\r\n") == _INCLUDE_COMMENT
            if was_ours:
                kept.pop()
            gone = was_ours
            continue
        if gone and not line.strip():
            gone = False
            continue
        gone = False
        kept.append(line)
    return b"".join(kept)


def _word(line: bytes) -> bytes:
    found = _KEYWORD.fullmatch(line)
    return found[1].lower() if found else b""


def _includes(line: bytes, file: Path) -> bool:
    """Return whether a line includes just this file, as it is written or relative to its folder."""
    found = _KEYWORD.fullmatch(line)
    if not found or found[1].lower() != b"include":
        return False
    target = found[2].strip(b'"').decode(errors="replace")
    return target in {str(file), file.name, f"~/.ssh/{file.name}"}
