"""Runs the command `workspace` as a process, with and without a terminal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect

_SECONDS = 60
WIDE = (40, 160)  # lines and columns of a terminal


@dataclass
class Done:
    """What came of a run: exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote to stdout, as JSON."""
        return json.loads(self.out)


@dataclass
class Cli:
    """The command.

    Attributes:
        program: how it is started.
        environment: all of its environment.
        folder: where it runs; its home and what a test puts in its way are below.
    """

    program: Sequence[str]
    environment: dict[str, str]
    folder: Path
    _fakes: Path = field(init=False)

    def __post_init__(self) -> None:
        self._fakes = self.folder / "bin"
        self._fakes.mkdir(exist_ok=True)

    @property
    def config(self) -> Path:
        """The configuration folder."""
        return Path(self.environment["XDG_CONFIG_HOME"]) / "workspace-hub"

    def run(
        self, *arguments: str, given: str | None = None, more: Mapping[str, str] | None = None
    ) -> Done:
        """Run it without a terminal, and return what came of it.

        Args:
            arguments: of the command.
            given: what it can read; None: nothing.
            more: further variables.
        """
        done = subprocess.run(
            [*self.program, *arguments],
            env={**self.environment, **(more or {})},
            cwd=self.folder,
            input=given.encode() if given is not None else b"",
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def succeed(self, *arguments: str) -> Done:
        """Run it, and return what came of it, which is success."""
        done = self.run(*arguments)
        assert done.code == 0, done
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it without a terminal, and return the process."""
        return subprocess.Popen(
            [*self.program, *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def terminal(
        self, *arguments: str, more: Mapping[str, str] | None = None
    ) -> pexpect.spawn[str]:
        """Start it in a terminal, and return that."""
        return pexpect.spawn(
            self.program[0],
            [*self.program[1:], *arguments],
            env={**self.environment, **(more or {})},
            cwd=str(self.folder),
            dimensions=WIDE,
            timeout=_SECONDS,
            encoding="utf-8",
        )

    def put(self, name: str, script: str) -> Path:
        """Put a program of this name before all others, and return its path."""
        path = self._fakes / name
        path.write_text(script)
        path.chmod(0o755)
        return path


def ended(terminal: pexpect.spawn[str]) -> int:
    """Return the exit code of what runs in a terminal, once it has ended."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.signalstatus is None
    return int(terminal.exitstatus or 0)
