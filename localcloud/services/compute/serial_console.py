"""The first serial port of a machine."""

from __future__ import annotations

_KEPT_BYTES = 1024 * 1024


class SerialConsole:
    """What a machine has printed since it was switched on. Like Compute, it keeps the last MiB."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._dropped = 0

    def write(self, text: str) -> None:
        """Append what the machine prints."""
        self._kept += text.encode()
        excess = max(0, len(self._kept) - _KEPT_BYTES)
        del self._kept[:excess]
        self._dropped += excess

    def clear(self) -> None:
        """Start again at byte 0, as after a power-on."""
        self._kept.clear()
        self._dropped = 0

    def read(self, start: int) -> tuple[str, int, int]:
        """Return what is kept, from byte ``start`` on.

        Args:
            start: the first byte; below zero, that many of the last bytes.

        Returns:
            The text, the byte at which it really starts, and the byte to read from next time.
        """
        end = self._dropped + len(self._kept)
        begin = end + start if start < 0 else start
        begin = min(max(begin, self._dropped), end)
        return self._kept[begin - self._dropped :].decode(errors="replace"), begin, end
