"""Structured logs: one JSON object a line, in the fields that Cloud Logging reads, with the request's id in every one.

Source of the field names: Cloud Logging's "Structured logging" (``severity``, ``message``, ``time``). Never log a token,
a header or a body.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")

_logger = logging.getLogger("workspace_hub")
_JSON = json.JSONEncoder(default=str)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return _JSON.encode(line)


def configure(level: str) -> None:
    """Send our lines to standard error as JSON, once. Libraries keep the root logger's WARNING."""
    if _logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    _logger.addHandler(handler)
    _logger.setLevel(level)
    _logger.propagate = False


def info(event: str, **fields: object) -> None:
    """Log what happened, in the past tense, with the ids that it happened to."""
    _logger.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """Log what went wrong and is got over without anybody's help."""
    _logger.warning(event, extra={"fields": fields})


def error(event: str, exception: BaseException | None = None, **fields: object) -> None:
    """Log what somebody has to look at, with the exception's stack."""
    _logger.error(event, extra={"fields": fields}, exc_info=exception)
