"""Structured logs: one JSON object a line, in the fields that Cloud Logging reads, with the request's id in every one.

All that a function's process writes goes this way, whoever writes it: a library's logger, the
framework, the server, a traceback. Metrics and alerts read these lines, so a line is never a
stranger's own. Source of the field names: Cloud Logging's "Structured logging" (``severity``,
``message``, ``time``). Never log a token, a header or a body.
"""

import contextlib
import io
import json
import logging
import os
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

request_id: ContextVar[str] = ContextVar("request_id", default="")

LONGEST_TEXT = 16_000  # characters of one value
LONGEST_LINE = 200_000  # Cloud Logging takes 256 KiB for a whole entry

_logger = logging.getLogger("workspace_hub")
_JSON = json.JSONEncoder(
    default=str
)  # everything but ASCII is escaped: no control, no right-to-left override


def write_json_lines(level: str | None = None) -> None:
    """Have everything that this process writes become JSON lines on standard error; ``level`` is for our own lines.

    Called when a function is imported, before the server starts and forks, and again once the
    settings are known. Libraries keep WARNING. What is written without Python (a crash of the
    interpreter itself) is not caught.
    """
    if level is not None:
        _logger.setLevel(level)
    if isinstance(sys.stderr, _Lines):
        return
    stream = sys.stderr
    sys.stderr, sys.stdout = _Lines(stream, "ERROR"), _Lines(stream, "INFO")
    root = logging.getLogger()
    for handler in [*root.handlers]:
        if (
            isinstance(handler, _Handler) or type(handler) is logging.StreamHandler
        ):  # the framework's own writes what it likes
            root.removeHandler(handler)
    root.addHandler(_Handler(stream))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def info(event: str, **fields: object) -> None:
    """Log what happened, in the past tense, with the ids that it happened to."""
    _logger.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """Log what went wrong and is got over without anybody's help."""
    _logger.warning(event, extra={"fields": fields})


def error(event: str, exception: BaseException | None = None, **fields: object) -> None:
    """Log what somebody has to look at, with the exception's stack."""
    _logger.error(event, extra={"fields": fields}, exc_info=exception)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        line = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **fields,
        }
        if record.name != _logger.name:
            line["logger"] = record.name
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return _line(line)


class _Handler(logging.Handler):
    """Writes to the stream that standard error was, whatever takes that name later."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self.setFormatter(_JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 -- a library's message that does not fit its arguments
            text = _line(
                {"severity": record.levelname, "message": f"{record.name}: {record.msg!r}"}
            )
        _write(self._stream, text)


class _Lines(io.TextIOBase):
    """A stream that makes each thing which is written to it a line of JSON: what comes up to a line's end, or a flush, is one."""

    encoding = "utf-8"

    def __init__(self, unwrapped: TextIO, severity: str) -> None:
        self.unwrapped = unwrapped
        self._severity = severity
        self._written = ""
        self._lock = threading.RLock()
        os.register_at_fork(
            after_in_child=self._renew_lock
        )  # a thread of the parent may have held it

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            self._written += text
            if text.endswith("\n") or len(self._written) >= LONGEST_TEXT:
                self._end()
        return len(text)

    def flush(self) -> None:
        with self._lock:
            self._end()
        with contextlib.suppress(OSError, ValueError):
            self.unwrapped.flush()

    def fileno(self) -> int:
        return self.unwrapped.fileno()

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def _end(self) -> None:
        text, self._written = self._written.strip("\n"), ""
        if text:
            now = datetime.now(UTC).isoformat()
            _write(
                self.unwrapped, _line({"severity": self._severity, "time": now, "message": text})
            )


def _line(fields: dict[str, Any]) -> str:
    cut = {
        name: f"{value[:LONGEST_TEXT]}…"
        if isinstance(value, str) and len(value) > LONGEST_TEXT
        else value
        for name, value in fields.items()
    }
    line = _JSON.encode(cut)
    if len(line) <= LONGEST_LINE:
        return line
    kept = {
        name: value for name, value in cut.items() if isinstance(value, str | int | float | None)
    }
    return _JSON.encode(
        {**dict(list(kept.items())[:20]), "cut": f"a line of {len(line)} characters"}
    )


def _write(stream: TextIO, text: str) -> None:
    """Write a line as a whole, so that those of several threads and processes do not mix.

    One that cannot be written is lost: what is being logged must go on.
    """
    with contextlib.suppress(OSError, ValueError):
        stream.write(f"{text}\n")
        stream.flush()


def _log_uncaught(
    kind: type[BaseException], exception: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("python").critical("ProcessFailed", exc_info=(kind, exception, trace))


def _log_uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_type is SystemExit or uncaught.exc_value is None:
        return
    logging.getLogger("python").error("ThreadFailed", exc_info=uncaught.exc_value)


def _log_unraisable(unraisable: Any) -> None:
    logging.getLogger("python").error("ExceptionIgnored", exc_info=unraisable.exc_value)
