"""Processes that die, and answers that are lost, at any call of any port."""

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, cast

P = TypeVar("P")


class ProcessDiedError(BaseException):
    """The process ends during its work; no other code of it runs."""


class Moment(Enum):
    """The side of a call on which the interruption happens: before any effect, or after all."""

    BEFORE = "before"
    AFTER = "after"


class Interruptions:
    """Counts the calls of the ports that it wraps, and raises once, at a given call.

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
        """Cancel the interruption."""
        self._at = None

    def around(self, name: str, port: P) -> P:
        """Return the port, wrapped so that its calls are counted."""
        return cast("P", _CountedPort(name, port, self))

    def call(
        self, name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Make a call, and raise if it is the one to interrupt."""
        nth = len(self.calls)
        self.calls.append(name)
        if nth == self._at and self._moment is Moment.BEFORE:
            raise self._error()
        result = method(*args, **kwargs)
        if nth == self._at:
            raise self._error()
        return result


class _CountedPort:
    def __init__(self, name: str, port: object, interruptions: Interruptions) -> None:
        self._name = name
        self._port = port
        self._interruptions = interruptions

    def __getattr__(self, method: str) -> Any:
        called = getattr(self._port, method)
        name = f"{self._name}.{method}"
        return lambda *args, **kwargs: self._interruptions.call(name, called, args, kwargs)
