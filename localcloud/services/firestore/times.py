"""Times as whole microseconds since 1970, which is how precise Firestore is."""

import time
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp


def now_us() -> int:
    """Return the time."""
    return time.time_ns() // 1000


def fill(timestamp: Any, at_us: int) -> None:
    """Write a time into a ``Timestamp`` message."""
    timestamp.seconds, micros = divmod(at_us, 1_000_000)
    timestamp.nanos = micros * 1000


def as_timestamp(at_us: int) -> Any:
    """Return a ``Timestamp`` message."""
    timestamp = Timestamp()
    fill(timestamp, at_us)
    return timestamp


def as_us(timestamp: Any) -> int:
    """Return the time of a ``Timestamp`` message; what is below a microsecond is cut off."""
    return int(timestamp.seconds) * 1_000_000 + int(timestamp.nanos) // 1000
