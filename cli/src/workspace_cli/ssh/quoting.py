"""Quoting for each reader: the remote shell, ``ssh_config``, and the shell of a ProxyCommand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workspace_cli.errors import WrongUsageError

# No "=": zsh takes "=ls" for the path of ls, and every shell "a=b" for a variable.
_SAFE = re.compile(r"[A-Za-z0-9_@+:,./-]+")
_SAFE_IN_PROXY_COMMAND = re.compile(r"[A-Za-z0-9_@+:,./%-][A-Za-z0-9_@+:,./%=-]*")


def remote_word(word: str) -> str:
    """Return a word that a remote shell takes as exactly this text.

    It holds for POSIX shells, zsh and fish: in fish a backslash means something even inside single
    quotes, so it stands in double quotes (https://fishshell.com/docs/current/language.html#quotes).
    """
    if _SAFE.fullmatch(word):
        return word
    pieces = re.findall(r"[^'\\]+|'|\\", word)
    specials = {"'": '"\'"', "\\": '"\\\\"'}
    return "".join(specials.get(piece, f"'{piece}'") for piece in pieces) or "''"


def remote_command(words: Sequence[str]) -> str:
    """Return the command line of a remote shell for a program and its arguments."""
    return not_an_option(" ".join(map(remote_word, words)))


def not_an_option(line: str) -> str:
    """Return a command line that OpenSSH does not take for an option, wherever it stands."""
    return f" {line}" if line.startswith("-") else line


def config_path(path: str) -> str:
    """Return a path as an argument of a keyword of ``ssh_config``.

    Raises:
        WrongUsageError: ``ssh_config`` cannot express it.
    """
    if re.search(r"[\x00-\x1f\x7f\"\\]|\$\{", path):
        raise WrongUsageError(
            f"OpenSSH's configuration cannot express this path: {path!r}",
            hint="set WORKSPACE_CONFIG_DIR to a folder with a simpler name",
        )
    return '"' + path.replace("%", "%%") + '"'


def proxy_command(words: Sequence[str]) -> str:
    """Return the value of ``ProxyCommand`` for a program and its arguments.

    OpenSSH expands ``%`` first; the person's shell, whichever it is, reads what comes of it. It is
    written with double quotes, which editors that read the file understand as well.

    Raises:
        WrongUsageError: a word has a character that no shell takes inside a line.
    """
    return " ".join(map(_proxy_word, words))


def _proxy_word(word: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", word):
        raise WrongUsageError(
            f"a path with control characters cannot be in OpenSSH's configuration: {word!r}"
        )
    doubled = word.replace("%", "%%")
    if _SAFE_IN_PROXY_COMMAND.fullmatch(word):
        return doubled
    return '"' + re.sub(r'(["$`\\])', r"\\\1", doubled) + '"'
