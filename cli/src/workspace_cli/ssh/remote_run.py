"""A command in a workspace that ends with its connection: what ``workspace run`` starts there.

sshd gives a command without a terminal no sign that the connection has gone: its input ends, as it
does when there is nothing more to read. So the input is a line of its own. It carries frames: a
line with a number, and that many bytes; ``0`` ends the command's input; ``INT`` is Ctrl-C. Only a
lost connection ends the line itself. Then the command and what belongs to its process group get
SIGHUP, and after some seconds SIGKILL. What a command that Ctrl-C has ended leaves behind in its
group gets SIGHUP too: a shell lets what it starts in the background ignore SIGINT.

For the same reason the command itself is in the foreground of the remote shell, in a session of its
own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from workspace_cli.ssh.programs import exit_code, handled
from workspace_cli.ssh.quoting import remote_command

_CHUNK = 32 * 1024
_INTERRUPT_SECONDS = 5.0  # for what Ctrl-C ends; then the line is closed
# It needs mktemp, mkfifo, dd (GNU's or busybox's) and setsid: coreutils and util-linux.
_SCRIPT = """
dd bs=1 count=0 iflag=fullblock </dev/null >/dev/null 2>&1 && command -v setsid >/dev/null && {
  d=$(mktemp -d "${TMPDIR:-/tmp}/workspace-run.XXXXXX") && mkfifo "$d/in"; } || {
  echo "workspace run: the workspace needs dd, setsid, mktemp, mkfifo and a folder for" \
    "temporary files; workspace exec needs none of these" >&2; exit 126; }
trap 'rm -rf "$d"' EXIT
trap : HUP INT TERM PIPE
exec 3<&0 </dev/null
send() { p=; read -r p <"$d/pid"; kill -s "$1" -- "-$p" || kill -s "$1" "$p"; } 2>/dev/null
(
  trap '' HUP INT
  exec >/dev/null 2>&1
  exec 4>"$d/in"
  while read -r n <&3; do
    case $n in
      INT) : >"$d/interrupted"; send INT ;;
      0) exec 4>&- ;;
      *[!0-9]*|'') break ;;
      *) dd bs="$n" count=1 iflag=fullblock <&3 >&4 ;;
    esac
  done
  exec 4>&-
  send HUP
  i=0
  while [ "$i" -lt 40 ] && send 0; do i=$((i + 1)); sleep 0.2; done
  send KILL
) &
w=$!
sh -c 'echo $$ >"$0/pid"; exec setsid "$@" <"$0/in"' "$d" "$@" 3<&-
r=$?
kill -s KILL "$w" 2>/dev/null
[ ! -e "$d/interrupted" ] || send HUP
exit "$r"
"""


def remote_line(words: Sequence[str]) -> str:
    """Return the remote shell's command line for a program and its arguments."""
    return remote_command(["exec", "sh", "-c", _SCRIPT, "sh", *words])


class Line:
    """The input of ``remote_line``, written frame by frame; it may be closed at any moment.

    Args:
        descriptor: where it is written to. It belongs to this object from now on.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def pump(self, source: int) -> None:
        """Send what a descriptor gives until it ends, then the end of the command's input."""
        chunk = b"-"
        with contextlib.suppress(OSError):  # the connection has gone
            while chunk:
                try:
                    chunk = os.read(source, _CHUNK)
                except OSError:  # a terminal that this process may not read in the background
                    chunk = b""
                with self._lock:
                    self._write(b"%d\n" % len(chunk) + chunk)

    def interrupt(self) -> None:
        """Send the command Ctrl-C; if the line is blocked, close it instead."""
        if not self._lock.acquire(timeout=0.5):
            self.close()
            return
        try:
            with contextlib.suppress(OSError):
                self._write(b"INT\n")
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the line, which ends the command."""
        # The number must not become another file's while somebody writes.
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, self._descriptor, inheritable=False)
        os.close(writer)

    def _write(self, content: bytes) -> None:
        left = memoryview(content)
        while left:
            left = left[os.write(self._descriptor, left) :]


def run(arguments: Sequence[str]) -> tuple[int, int]:
    """Run OpenSSH with ``remote_line``; return its exit code, and which signal came first, or 0.

    Standard output and error are this process's own. Ctrl-C, SIGTERM and SIGHUP become Ctrl-C for
    the remote command. If it goes on, or at the second one, the line is closed, which ends it in
    any case. This returns when OpenSSH has ended.

    Args:
        arguments: the program and its arguments.
    """
    with handled(
        signal.SIG_IGN, signal.SIGINT, signal.SIGTTIN
    ):  # what OpenSSH inherits: Ctrl-C is ours
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE)  # noqa: S603  # no shell
    if process.stdin is None:
        raise AssertionError  # for mypy: it is a pipe
    line = Line(os.dup(process.stdin.fileno()))
    process.stdin.close()
    closer = threading.Timer(_INTERRUPT_SECONDS, line.close)
    closer.daemon = True
    interrupts: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        interrupts.append(number)
        # In threads: a handler must not wait for a lock that what it interrupts holds.
        if len(interrupts) == 1:
            threading.Thread(target=line.interrupt, daemon=True).start()
            closer.start()
        else:
            threading.Thread(target=line.close, daemon=True).start()
        if len(interrupts) > 2:
            process.kill()

    with (
        handled(on_signal, signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
        handled(signal.SIG_IGN, signal.SIGTTIN),
    ):
        if sys.stdin is not None:
            threading.Thread(target=line.pump, args=(sys.stdin.fileno(),), daemon=True).start()
        else:
            line.pump(os.open(os.devnull, os.O_RDONLY))
        try:
            code = process.wait()
        finally:
            closer.cancel()
    return exit_code(code), interrupts[0] if interrupts else 0
