"""Structured logs: one JSON object a line, with Cloud Logging's fields and the request's id.

Everything that a function's process writes becomes such a line, whoever writes it: a library's
logger, the framework, the server, a traceback. Metrics and alerts read these lines, so no stranger
may write a line of their own. The field names ``severity``, ``message`` and ``time`` are from Cloud
Logging's "Structured logging". Never log a token, a header or a body.
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
LONGEST_LINE = 200_000  # characters; Cloud Logging accepts 256 KiB for a whole entry

_logger = logging.getLogger("workspace_hub")
# It escapes everything but ASCII: no control character or right-to-left override reaches a line.
_JSON = json.JSONEncoder(default=str)


def write_json_lines(level: str | None = None) -> None:
    """Turn everything that this process writes into JSON lines on standard error.

    This is called when a function is imported, before the server starts and forks, and again when
    the settings are known. ``level`` is the level of the Hub's own lines; libraries keep
    ``WARNING``. Text that does not go through Python (a crash of the interpreter itself) is not
    changed.
    """
    if level is not None:
        _logger.setLevel(level)
    if isinstance(sys.stderr, _JsonLineStream):
        return
    stream = sys.stderr
    sys.stderr, sys.stdout = _JsonLineStream(stream, "ERROR"), _JsonLineStream(stream, "INFO")
    root = logging.getLogger()
    for handler in [*root.handlers]:
        # The framework's own handler does not write JSON.
        if isinstance(handler, _JsonHandler) or type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.addHandler(_JsonHandler(stream))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def info(event: str, **fields: object) -> None:
    """Log an event that happened. ``event`` is in the past tense, ``fields`` has the ids."""
    _logger.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """Log a failure that needs no help from a person."""
    _logger.warning(event, extra={"fields": fields})


def error(event: str, exception: BaseException | None = None, **fields: object) -> None:
    """Log a failure that a person has to look at, with the exception's stack."""
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
        return _json_line(line)


class _JsonHandler(logging.Handler):
    """Writes JSON lines to the original standard error, even after ``sys.stderr`` is replaced."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self.setFormatter(_JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 -- a library's message may not fit its arguments
            text = _json_line(
                {"severity": record.levelname, "message": f"{record.name}: {record.msg!r}"}
            )
        _write_line(self._stream, text)


class _JsonLineStream(io.TextIOBase):
    """A stream that turns text into JSON lines, each for the text up to a line's end or a flush."""

    encoding = "utf-8"

    def __init__(self, unwrapped: TextIO, severity: str) -> None:
        self.unwrapped = unwrapped
        self._severity = severity
        self._pending = ""
        self._lock = threading.RLock()
        # At the fork, another thread of the parent may hold the lock.
        os.register_at_fork(after_in_child=self._renew_lock)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            self._pending += text
            if text.endswith("\n") or len(self._pending) >= LONGEST_TEXT:
                self._write_pending()
        return len(text)

    def flush(self) -> None:
        with self._lock:
            self._write_pending()
        with contextlib.suppress(OSError, ValueError):
            self.unwrapped.flush()

    def fileno(self) -> int:
        return self.unwrapped.fileno()

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def _write_pending(self) -> None:
        text, self._pending = self._pending.strip("\n"), ""
        if text:
            now = datetime.now(UTC).isoformat()
            line = _json_line({"severity": self._severity, "time": now, "message": text})
            _write_line(self.unwrapped, line)


def _json_line(fields: dict[str, Any]) -> str:
    """Return the fields as JSON with long texts cut; a line that is still too long loses fields."""
    shortened = {
        name: f"{value[:LONGEST_TEXT]}…"
        if isinstance(value, str) and len(value) > LONGEST_TEXT
        else value
        for name, value in fields.items()
    }
    line = _JSON.encode(shortened)
    if len(line) <= LONGEST_LINE:
        return line
    plain = {
        name: value
        for name, value in shortened.items()
        if isinstance(value, str | int | float | None)
    }
    return _JSON.encode(
        {**dict(list(plain.items())[:20]), "cut": f"a line of {len(line)} characters"}
    )


def _write_line(stream: TextIO, text: str) -> None:
    """Write a line in one piece, so that lines of several threads and processes do not mix.

    A line that cannot be written is lost: the work that logs it must continue.
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
