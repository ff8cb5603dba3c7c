"""Processes that die, and answers that get lost, at any call of any port."""

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, cast

P = TypeVar("P")


class ProcessDiedError(BaseException):
    """The process ends in the middle of what it is doing; nothing of it runs any more."""


class Moment(Enum):
    """On which side of a call it happens: nothing was done yet, or all of it was."""

    BEFORE = "before"
    AFTER = "after"


class Interruptions:
    """Counts the calls of the ports that it stands around, and raises once at the call that it was told of.

    Attributes:
        calls: the calls so far, as ``port.method``.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._at: int | None = None
        self._moment = Moment.BEFORE
        self._error: Callable[[], BaseException] = ProcessDiedError

    def interrupt(
        self, nth: int, moment: Moment, error: Callable[[], BaseException] = ProcessDiedError
    ) -> None:
        """Raise at the ``nth`` call from now, counted from 0."""
        self._at = len(self.calls) + nth
        self._moment = moment
        self._error = error

    def forget(self) -> None:
        """Raise nothing any more."""
        self._at = None

    def around(self, name: str, port: P) -> P:
        """Return the port with its calls counted."""
        return cast("P", _Around(name, port, self))

    def call(
        self, name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Make a call, interrupted if it is its turn."""
        nth = len(self.calls)
        self.calls.append(name)
        if nth == self._at and self._moment is Moment.BEFORE:
            raise self._error()
        result = method(*args, **kwargs)
        if nth == self._at:
            raise self._error()
        return result


class _Around:
    def __init__(self, name: str, port: object, interruptions: Interruptions) -> None:
        self._name = name
        self._port = port
        self._interruptions = interruptions

    def __getattr__(self, method: str) -> Any:
        called = getattr(self._port, method)
        name = f"{self._name}.{method}"
        return lambda *args, **kwargs: self._interruptions.call(name, called, args, kwargs)
