"""The command ``logs``: prints the logs of all processes, or of one."""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import IO

from localcloud.command_line.terminal import escape
from localcloud.processes.state_file import log_files
from localcloud.running_cloud import RunningCloud

_FOLLOW_POLL_SECONDS = 0.2


def print_logs(options: argparse.Namespace) -> int:
    """Print what was logged, and with ``--follow`` what is being logged."""
    files = log_files(RunningCloud(options.state).state)
    if options.name is not None:
        if options.name not in files:
            names = ", ".join(files)
            raise ValueError(f"Nothing here is called {options.name}. There are: {names}.")
        files = {options.name: files[options.name]}
    width = max(map(len, files)) if len(files) > 1 else 0
    with contextlib.ExitStack() as stack:
        logs = [
            LogPrinter(stack.enter_context(path.open("rb")), f"{name:{width}} | " if width else "")
            for name, path in files.items()
        ]
        while True:
            for log in logs:
                log.print_new_lines(unfinished=not options.follow)
            if not options.follow:
                return 0
            time.sleep(_FOLLOW_POLL_SECONDS)


class LogPrinter:
    """Prints a log while it is written. Only a line feed ends one of its lines."""

    def __init__(self, file: IO[bytes], prefix: str) -> None:
        self._file = file
        self._prefix = prefix
        self._line = b""

    def print_new_lines(self, *, unfinished: bool) -> None:
        """Print what was written since the last call; an unfinished line only if ``unfinished``."""
        for piece in self._file:
            self._line += piece
            if piece.endswith(b"\n"):
                self._print()
        if unfinished and self._line:
            self._print()

    def _print(self) -> None:
        line = self._line.decode("utf-8", errors="replace").removesuffix("\n").removesuffix("\r")
        self._line = b""
        print(self._prefix + escape(line), flush=True)
