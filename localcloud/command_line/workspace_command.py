"""The command ``workspace`` of a person at a local cloud, for the demo."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from localcloud.catalogue import ROOT
from localcloud.running_cloud import RunningCloud

_SECONDS = 60.0
_END_SECONDS = 5.0
_POLL_SECONDS = 0.05


class CommandFailedError(Exception):
    """The command has failed; the message has what it wrote."""


class WorkspaceCommand:
    """The command ``workspace``, with a home of its own.

    Args:
        cloud: the local cloud.
        home: an empty folder.
    """

    def __init__(self, cloud: RunningCloud, home: Path) -> None:
        self._program = [sys.executable, "-m", "workspace_cli"]
        self._environment = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_STATE_HOME": str(home / ".local" / "state"),
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(ROOT / "cli" / "src"),
            "LANG": "C.UTF-8",
            "LOCALCLOUD_STATE": str(cloud.state_file),
            "WORKSPACE_DEVICE": "laptop",
            # Neither a proxy nor an account of this machine's is meant for the local cloud.
            "NO_PROXY": "127.0.0.1,localhost",
            "NO_GCE_CHECK": "true",
            "CLOUDSDK_CONFIG": str(home / "gcloud"),
        }

    def run(self, *arguments: str) -> str:
        """Run it to its end, and return its output.

        Raises:
            CommandFailedError: it has failed, or takes longer than a minute.
        """
        try:
            done = subprocess.run(
                [*self._program, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=True,
            )
        except subprocess.SubprocessError as error:
            words = getattr(error, "stderr", None) or error
            raise CommandFailedError(f"workspace {' '.join(arguments)}: {words}") from None
        return done.stdout

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[RunningCommand]:
        """Run it as long as the context lasts."""
        with subprocess.Popen(
            [*self._program, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield RunningCommand(process)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_SECONDS)
                process.kill()


class RunningCommand:
    """A command that runs, and prints one line after the other.

    Attributes:
        lines: what it has printed.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._process = process
        self._errors: list[str] = []
        for stream, lines in ((process.stdout, self.lines), (process.stderr, self._errors)):
            threading.Thread(target=_collect, args=(stream, lines), daemon=True).start()

    def wait_for_lines(self, count: int) -> None:
        """Wait until it has printed this many lines.

        Raises:
            CommandFailedError: it has ended, or takes longer than a minute.
        """
        deadline = time.monotonic() + _SECONDS
        while len(self.lines) < count:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise CommandFailedError(f"no further line: {self.lines[-1:]} {self._errors}")
            time.sleep(_POLL_SECONDS)


def _collect(stream: Iterator[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))  # noqa: PERF401  # others read the list meanwhile
