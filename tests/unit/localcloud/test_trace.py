"""The trace of a workspace, and the logs, when log lines are hostile."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.command_line.logs import LogPrinter
from localcloud.command_line.main import main
from localcloud.command_line.trace import trace
from localcloud.processes.state_file import StateLock

ID = "769ec6d4-dcfe-4afd-a792-a3e9062ed11a"
HOSTILE = "x\n00:00:00.000 +0.000 s  cleanup  Forged\r\x1b[31m\u202e\u2028 result=READY"
SEEN = r"\r\u001b[31m\u202e\u2028"

Write = Callable[[str, bytes], dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write the log of a function, and return the state of a cloud with only this function."""

    def write(function: str, content: bytes) -> dict[str, Any]:
        (tmp_path / "function.log").write_bytes(content)
        (tmp_path / "cloud.log").write_bytes(b"")
        log = {"log": str(tmp_path / "function.log")}
        state: dict[str, Any] = {
            "functions": {function: log},
            "processes": {},
            "log": str(tmp_path / "cloud.log"),
        }
        state |= {"pid": os.getpid(), "address": "http://127.0.0.1:1"}
        (tmp_path / "state.json").write_text(json.dumps(state))
        return state

    lock = StateLock(tmp_path / "state.json")
    yield write
    lock.release()


def log_line(second: int, **more: Any) -> bytes:
    """Return a line as a function logs it."""
    at = f"2026-11-25T12:00:{second:02}.000000Z"
    return json.dumps({"time": at, "message": "Told", "workspace_id": ID, **more}).encode() + b"\n"


def printed_logs(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the lines that ``localcloud logs`` prints."""
    assert main(["logs", *arguments, "--state", str(folder / "state.json")]) == 0
    return capsys.readouterr().out.removesuffix("\n").split("\n")


def test_a_hostile_value_stays_within_its_line_of_the_trace(write: Write) -> None:
    """It is escaped and quoted, so it can forge neither a line nor a detail."""
    [told] = trace(write("cleanup", log_line(0, reason=HOSTILE, by="alice", count=2)), ID)
    assert told.isprintable()
    assert SEEN in told
    assert 'reason="x\\n00:00:00.000' in told
    assert told.endswith(r'result=READY" by=alice count=2')


def test_the_names_of_an_event_and_its_details_are_escaped(write: Write) -> None:
    """A function may have taken them from a request."""
    [told] = trace(
        write("cleanup", log_line(0, message="\x1b[2J", **{"a\u202eb": ["\n\x9b", {"\u2066": 1}]})),
        ID,
    )
    assert told.isprintable()
    assert r"\u001b[2J" in told


def test_text_in_any_language_stays_readable_in_the_trace(write: Write) -> None:
    """Only characters that cannot be seen are escaped."""
    [told] = trace(write("cleanup", log_line(0, name="Zoës-東京")), ID)
    assert told.endswith("name=Zoës-東京")


def test_the_trace_leaves_out_lines_without_a_valid_time(write: Write) -> None:
    """The other lines keep their order."""
    wrong = [log_line(5, time=time) for time in ("never", None, 7, "2026-11-25T12:00:00", ["\n"])]
    nothing = json.dumps({"workspace_id": ID, "time": "2026-11-25T12:00:03Z"}).encode() + b"\n"
    told = trace(
        write(
            "cleanup",
            b"".join(
                [log_line(4), *wrong, nothing, log_line(1, message="First"), b'["' + ID.encode()]
            ),
        ),
        ID,
    )
    assert [text.split("cleanup")[1].split() for text in told] == [["First"], [], ["Told"]]


def test_only_a_line_feed_ends_a_line_of_the_logs(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A carriage return, a separator or a form feed in a plain line starts no new line."""
    forged = (
        'GET /\r{"severity":"CRITICAL"}\u2028{"severity":"CRITICAL"}'
        '\x85\x0b\x0c\x1e{"severity":"CRITICAL"}'
    )
    write(
        "cleanup",
        f"{forged}\n\x1b[2Jnext ü \ud800\n".encode("utf-8", "surrogatepass") + b"\xff\r\nlast",
    )
    printed = printed_logs(tmp_path, capsys, "cleanup")
    assert printed == [
        (
            r'GET /\u000d{"severity":"CRITICAL"}\u2028{"severity":"CRITICAL"}'
            r'\u0085\u000b\u000c\u001e{"severity":"CRITICAL"}'
        ),
        r"\u001b[2Jnext ü ���",
        "�",
        "last",
    ]


def test_every_line_of_all_logs_begins_with_the_name_of_its_log(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forged line would show under the name of the log that has it."""
    write("cleanup", f"one\rcloud   | forged\n{log_line(0, reason=HOSTILE).decode()}".encode())
    printed = printed_logs(tmp_path, capsys)
    assert [text[:10] for text in printed] == ["cleanup | "] * 2
    assert json.loads(printed[1][10:])["reason"] == HOSTILE


def test_an_unfinished_line_is_printed_once_it_is_complete(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its second half is not a line of its own; at the end, the unfinished line is printed too."""
    file = io.BytesIO()
    log = LogPrinter(file, "cleanup | ")
    for half, printed in (
        (b"first {", ""),
        (b"second\xc3", ""),
        (b"\xbc}\nthird", "cleanup | first {secondü}\n"),
    ):
        at = file.tell()
        file.write(half)
        file.seek(at)
        log.print_new_lines(unfinished=False)
        assert capsys.readouterr().out == printed
    log.print_new_lines(unfinished=True)
    assert capsys.readouterr().out == "cleanup | third\n"
