"""What the command says: data on stdout, all else on stderr, nothing that acts on a terminal.

Lines are plain without a terminal, with ``NO_COLOR``, with ``TERM=dumb`` or with ``--plain``.
Otherwise rich draws them; it is loaded only then.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from workspace_cli.errors import NeedsTerminalError, WrongUsageError
from workspace_cli.text import one_line, visible, width

if TYPE_CHECKING:
    import rich.console

# What the command itself writes, for a terminal that has only ASCII.
_ASCII = {"✓": "ok", "✗": "failed", "…": "...", "\u2013": "-"}
_NOTHING = "\u2013"  # what stands in an empty cell
_GAP = "   "


class Console:
    """Standard output, standard error and the person at the terminal, if there is one.

    Args:
        plain: what ``--plain`` says; it may be set later.

    ``is_lost`` says that stdout cannot be written any more: the error is raised, too.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self.plain = plain
        self.is_lost = False
        self._rich: rich.console.Console | None = None
        for stream in (sys.stdout, sys.stderr):
            # What the terminal's character set lacks is written as its number. It is no reason to
            # end with a traceback.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    @property
    def is_interactive(self) -> bool:
        """Whether a person can be asked: they see stderr, and what they type comes in."""
        return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)

    @property
    def is_lively(self) -> bool:
        """Whether stderr shows colours and moves."""
        return (
            not self.plain
            and _is_terminal(sys.stderr)
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM", "dumb") != "dumb"
        )

    @property
    def rich(self) -> rich.console.Console:
        """The console of rich on stderr: it takes no markup and no emoji codes."""
        if self._rich is None:
            from rich.console import Console as RichConsole  # noqa: PLC0415  # 0.1 s

            self._rich = RichConsole(stderr=True, markup=False, emoji=False, highlight=False)
        return self._rich

    def out(self, line: str = "") -> None:
        """Write a line of data to stdout."""
        self._write(self._fit(visible(line, keep="\n\t"), sys.stdout) + "\n")

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """Write a value as JSON to stdout, in ASCII, so that no character acts on a terminal."""
        self._write(json.dumps(value, indent=indent) + "\n")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write aligned columns to stdout; a cell is one line. An empty cell is a dash."""
        cells = [[one_line(cell) or _NOTHING for cell in row] for row in (head, *rows)]
        fitted = [[self._fit(cell, sys.stdout) for cell in row] for row in cells]
        widths = [max(map(width, column)) for column in zip(*fitted, strict=True)]
        for row in fitted:
            padded = (
                cell + " " * (most - width(cell)) for cell, most in zip(row, widths, strict=True)
            )
            self.out(_GAP.join(padded).rstrip())

    def note(self, line: str = "", *, style: str = "") -> None:
        """Write a line for people to stderr.

        Args:
            line: what it says.
            style: how rich shows it; a line must say everything without.
        """
        if sys.stderr is None:
            return
        safe = self._fit(visible(line, keep="\n"), sys.stderr)
        if style and self.is_lively:
            from rich.text import Text  # noqa: PLC0415  # only a lively console loads rich

            self.rich.print(Text(safe, style=style), soft_wrap=True)
        else:
            # Whoever read it may have gone; that changes neither what is done nor the exit code.
            with contextlib.suppress(OSError):
                sys.stderr.write(safe + "\n")
                sys.stderr.flush()

    def warn(self, line: str) -> None:
        """Write a warning to stderr."""
        self.note(f"workspace: warning: {line}", style="yellow")

    def ask(self, question: str, *, instead: str) -> str:
        """Return what the person answers, without spaces around.

        Args:
            question: ends with a colon or a question mark.
            instead: the option or command that makes the question unnecessary.

        Raises:
            NeedsTerminalError: nobody is there to answer.
            WrongUsageError: the input ended.
        """
        if not self.is_interactive:
            raise NeedsTerminalError(
                f"this needs an answer, and there is no terminal to ask at: {question}",
                hint=instead,
            )
        sys.stderr.write(self._fit(visible(question, keep="\n"), sys.stderr) + " ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:
            raise WrongUsageError("nothing was answered, so nothing was done", hint=instead)
        return answer.strip()

    def confirm(self, question: str, *, instead: str) -> bool:
        """Return whether the person says yes; an empty answer is no. Raises as ``ask`` does."""
        return self.ask(f"{question} [y/N]", instead=instead).lower() in {"y", "yes"}

    def flush(self) -> None:
        """Write out what is buffered.

        Raises:
            OSError: the reader of stdout has gone, or the disk is full.
        """
        self._write("", then_flush=True)

    def _write(self, text: str, *, then_flush: bool = False) -> None:
        if sys.stdout is None:
            return
        try:
            sys.stdout.write(text)
            if then_flush:
                sys.stdout.flush()
        except OSError:
            self.is_lost = True
            raise

    @staticmethod
    def _fit(text: str, stream: TextIO | None) -> str:
        """Return a text with signs that a stream's character set has."""
        try:
            text.encode(getattr(stream, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            for sign, instead in _ASCII.items():
                text = text.replace(sign, instead)
        return text


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False
