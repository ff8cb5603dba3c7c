"""The output of a function's process: one JSON object on each line, whoever writes it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from localcloud.catalogue import ROOT

FORGED = '\\n{\\"severity\\": \\"CRITICAL\\"}'
WRITERS = {
    "our own line": 'logs.info("Happened", what="x FORGED")',
    "an error of ours, with its stack": 'logs.error("Failed", ValueError("x FORGED"))',
    "a library's logger": 'logging.getLogger("a.library").warning("x %s", "FORGED")',
    "a library's logger, with a stack": """
        try:
            raise ValueError("x FORGED")
        except ValueError:
            logging.getLogger("a.library").exception("x")
    """,
    "a logger that is used wrongly": (
        'logging.getLogger("a.library").error("x FORGED %d %s", "no number")'
    ),
    "the server's logger, with a handler of its own": """
        server = logging.getLogger("gunicorn.error")
        server.addHandler(logging.StreamHandler())
        server.propagate = False
        server.error("x\\n%s", "FORGED")
    """,
    "print": 'print("x", "FORGED")',
    "print to standard error": 'print("x FORGED", file=sys.stderr)',
    "a warning": 'warnings.warn("x FORGED", stacklevel=1)',
    "a thread that fails": """
        def fail():
            raise ValueError("x FORGED")
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    """,
    "an error in __del__": """
        class Odd:
            def __del__(self):
                raise ValueError("x FORGED")
        Odd()
    """,
    "a process that fails": 'raise ValueError("x FORGED")',
    "a traceback that is printed": """
        try:
            raise ValueError("x FORGED")
        except ValueError:
            traceback.print_exc()
    """,
    "half a line, and no end": 'sys.stderr.write("x FORGED half"); sys.stderr.flush()',
}


def written_by(code: str) -> list[dict[str, Any]]:
    """Run code in a process that writes JSON lines, and return the lines of both streams.

    Raises:
        ValueError: a line is not JSON.
    """
    head = (
        "import logging, sys, threading, traceback, warnings\n"
        "from shared import logs\n"
        "logs.write_json_lines('INFO')\n"
    )
    program = head + textwrap.dedent(code).replace("FORGED", FORGED)
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return [json.loads(line) for line in (ran.stdout + ran.stderr).splitlines()]


@pytest.mark.parametrize("who", WRITERS)
def test_every_output_becomes_a_line_of_json(who: str) -> None:
    """Each write becomes one line, and text in it cannot become a field of its own."""
    lines = written_by(WRITERS[who])
    assert len(lines) == 1 or who == "a traceback that is printed"  # it is written line by line
    assert all(
        line["severity"] in {"INFO", "WARNING", "ERROR"} or who == "a process that fails"
        for line in lines
    )
    assert any(
        '{\\"severity\\": \\"CRITICAL\\"}' in json.dumps(line).replace("\\\\", "\\")
        for line in lines
    )


def test_a_line_is_ascii_and_bounded() -> None:
    """Cloud Logging's limit is 256 KiB; a right-to-left override would garble a terminal."""
    [line] = written_by('logs.info("Happened", what="\\u202e" * 10**6)')
    assert len(line["what"]) < 20_000


def test_a_line_is_one_write() -> None:
    """Lines of several threads and processes do not mix, and a line costs one call."""
    [line] = written_by("""
        import os, socket
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        standard_error = os.dup(2)
        os.dup2(theirs.fileno(), 2)
        logs.info("Happened", what="x" * 5_000)
        logs.error("Failed", ValueError("x"))
        ours.settimeout(60)
        written = [ours.recv(1 << 16).decode() for _ in range(2)]
        ours.setblocking(False)
        try:
            written.append(ours.recv(1))
        except BlockingIOError:
            pass
        os.dup2(standard_error, 2)
        logs.info("Written", pieces=[[each.count("\\n"), each[-1]] for each in written])
    """)
    assert line["pieces"] == [[1, "\n"], [1, "\n"]]


@pytest.mark.parametrize(
    "end", ["sys.stderr.unwrapped.close()", "os.close(2); os.open('/dev/full', os.O_WRONLY)"]
)
def test_a_line_that_cannot_be_written_raises_no_error(end: str) -> None:
    """If the disk is full or the reader is gone, code between commit and job must not fail."""
    code = (
        f"import os; {end}; logs.info('Happened'); print('x', file=sys.stderr); "
        """os.write(1, b'{"went": "on"}')"""
    )
    assert written_by(code) == [{"went": "on"}]


def test_a_process_forked_during_a_write_continues() -> None:
    """The thread that holds the lock does not exist in the child process."""
    code = """
        import os
        sys.stderr._lock.acquire()
        reader = threading.Thread(target=lambda: None)
        pid = os.fork()
        if pid == 0:
            written = threading.Thread(target=lambda: print("x", file=sys.stderr), daemon=True)
            written.start()
            written.join(30)
            os._exit(written.is_alive())
        _, status = os.waitpid(pid, 0)
        logs.info("Waited", status=status)
    """
    assert [line["message"] for line in written_by(code)] == ["x", "Waited"]
    assert written_by(code)[-1]["status"] == 0


def test_endless_output_is_cut_into_lines() -> None:
    """The memory for an unfinished line is bounded."""
    lines = written_by("for _ in range(100): sys.stderr.write('x' * 1000)\nsys.stderr.flush()")
    assert 100_000 <= sum(len(line["message"]) for line in lines) < 110_000
    assert max(len(line["message"]) for line in lines) < 20_000
    [line] = written_by("logs.info('Happened', what=['x' * 100] * 10_000)")
    assert line["message"] == "Happened"
    assert "cut" in line


def test_the_frameworks_handler_writes_no_second_line() -> None:
    """functions-framework adds its own handler to the root logger if it logs execution ids."""
    code = """
        root = logging.getLogger()
        sys.stderr = sys.stderr.unwrapped
        root.addHandler(logging.StreamHandler(sys.stderr))
        logs.write_json_lines("INFO")
        logs.info("Happened")
    """
    assert [line["message"] for line in written_by(code)] == ["Happened"]


def test_the_level_applies_to_the_hubs_own_lines() -> None:
    """Libraries keep their own level, and their information messages are not shown."""
    code = (
        'logs.write_json_lines("WARNING"); logs.info("Happened"); logs.warning("Odd"); '
        'logging.getLogger("a").info("x")'
    )
    assert [line["message"] for line in written_by(code)] == ["Odd"]
