"""Options that several commands have."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workspace_cli.following import DEFAULT_SECONDS

if TYPE_CHECKING:
    _NumberType = click.ParamType[float]
else:
    _NumberType = click.ParamType  # it has no parameters before click 8.5

_F = TypeVar("_F", bound=Callable[..., Any])


class Number(_NumberType):
    """A number in a range; its help and its errors say that in words.

    Args:
        kind: ``int`` or ``float``.
        least: the least that is allowed.
        most: the most.
        unit: what stands behind the numbers in an error.
    """

    name = "number"

    def __init__(self, kind: type[float], least: int, most: int, unit: str = "") -> None:
        self._kind = kind
        self._least = least
        self._most = most
        self._unit = unit

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number. What is not a number, as nan, is in no range."""
        try:
            number = self._kind(value)
        except ValueError:
            number = math.nan
        if not self._least <= number <= self._most:
            self.fail(f"must be {self._least} to {self._most}{self._unit}.", param, ctx)
        return number


no_wait = click.option("--no-wait", is_flag=True, help="End as soon as the Hub has accepted it.")
timeout = click.option(
    "--timeout",
    "seconds",
    metavar="SECONDS",
    type=Number(float, 0, 86400, " seconds"),
    default=DEFAULT_SECONDS,
    show_default=True,
    help="How long to wait; then it ends with 6.",
)
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def output(*forms: str, json: str = "the API's own objects") -> Callable[[_F], _F]:
    """Return the option ``-o`` with these forms, the first by default, and what json is."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help=f"json: {json}.",
    )


dry_run = click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")


def dry_run_output(command: _F) -> _F:
    """Add ``--dry-run``, and ``-o`` for what it says, to a command that has no ``-o`` without."""
    given = click.option(
        "-o",
        "--output",
        type=click.Choice(("text", "json")),
        help="With --dry-run. json: the API's own objects.",
    )
    return dry_run(given(command))


def is_dry_run(given: Mapping[str, Any]) -> bool:
    """Return whether a command with ``dry_run_output`` is only to say what it would do.

    Raises:
        click.UsageError: it has an ``-o`` without.
    """
    if given["output"] is not None and not given["dry_run"]:
        raise click.UsageError("-o goes with --dry-run only.")
    return bool(given["dry_run"])


def device() -> str:
    """Return what this machine is called: ``WORKSPACE_DEVICE``, or the host's name.

    The owner, and administrators, see it as where somebody last connected from.
    """
    return os.environ.get("WORKSPACE_DEVICE") or socket.gethostname().partition(".")[0] or "unknown"
