"""Shows what an operation does: a line for each phase, with its time and what is usual.

In a terminal the line of the present phase moves. Otherwise each phase is one line when it ends.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from workspace_cli import words
from workspace_cli.console import Console
from workspace_cli.usual import WHOLE, Usual

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

_COLUMN = 24


class Progress:
    """The phases of one workspace's operation; a context.

    ``was_shown`` says whether there was any.

    Args:
        console: where it is shown.
        usual: what is usual.
        name: the workspace, if several are shown: then no line moves. None if it is the only one.
        is_whole: whether the operation has just begun, so that its first phase is seen whole.
    """

    def __init__(
        self, console: Console, usual: Usual, name: str | None = None, *, is_whole: bool
    ) -> None:
        self._console = console
        self._usual = usual
        self._name = f"{name}: " if name else ""
        self._moves = name is None and console.is_lively
        self.was_shown = False
        self._began = self._phase_began = time.monotonic()
        self._phase: str | None = None
        self._took: dict[str, float] = {}
        self._is_whole = is_whole
        self._phase_is_whole = is_whole
        self._live: Live | None = None
        self._spinner: Spinner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def seconds(self) -> float:
        """How long it has taken until now."""
        return time.monotonic() - self._began

    def show(self, phase: str) -> None:
        """Show that this is done now; what was done before has ended, if it is another thing."""
        if phase != self._phase:
            self._end_phase()
            self._phase, self._phase_began = phase, time.monotonic()
        self.was_shown = True
        if self._moves:
            self._move()

    def end(self, *, well: bool) -> None:
        """End the last phase. What it took counts as usual only if all went well."""
        self._end_phase(sign="✓" if well else "✗")
        self.__exit__(None, None, None)
        if well:
            whole = {WHOLE: self.seconds} if self._is_whole and self._took else {}
            self._usual.keep({**self._took, **whole})

    def _end_phase(self, sign: str = "✓") -> None:
        if self._phase is None:
            return
        seconds = time.monotonic() - self._phase_began
        if self._phase_is_whole:
            self._took[self._phase] = self._took.get(self._phase, 0.0) + seconds
        self._phase_is_whole = True  # the next one begins now
        what = words.done(self._phase) if sign == "✓" else self._phase
        self.__exit__(None, None, None)
        line = f" {sign} {self._name}{what}".ljust(_COLUMN + len(self._name))
        self._console.note(f"{line} {seconds:5.1f} s", style="" if sign == "✓" else "red")
        self._phase = None

    def _move(self) -> None:
        """Have the line of the present phase shown: it then moves by itself."""
        if self._live is None:
            from rich.live import Live  # noqa: PLC0415  # only a lively console loads rich
            from rich.spinner import Spinner  # noqa: PLC0415

            signs = "dots" if self._console.rich.encoding.startswith("utf") else "line"
            self._spinner = Spinner(signs)
            self._live = Live(
                get_renderable=self._picture,
                console=self._console.rich,
                refresh_per_second=10,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()

    def _picture(self) -> RenderableType:
        from rich.text import Text  # noqa: PLC0415

        phase = self._phase or ""
        seconds = time.monotonic() - self._phase_began
        line = f"{self._name}{phase}".ljust(_COLUMN - 3 + len(self._name))
        usual = words.usually(self._usual.seconds(phase))
        text = Text(f"{line} {seconds:5.1f} s {usual}", no_wrap=True, overflow="ellipsis")
        if self._spinner is None:
            return text
        self._spinner.update(text=text)
        return self._spinner
