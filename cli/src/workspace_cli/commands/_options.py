"""Options that several commands have."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click

from workspace_cli.following import DEFAULT_SECONDS

_F = TypeVar("_F", bound=Callable[..., Any])

no_wait = click.option("--no-wait", is_flag=True, help="End as soon as the Hub has accepted it.")
timeout = click.option(
    "--timeout",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, max=86400),
    default=DEFAULT_SECONDS,
    show_default=True,
    help="How long to wait; then it ends with 6.",
)
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def output(*forms: str) -> Callable[[_F], _F]:
    """Return the option ``-o`` with these forms, the first by default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="json: the API's own objects.",
    )


def device() -> str:
    """Return what this machine is called: ``WORKSPACE_DEVICE``, or the host's name.

    The owner, and administrators, see it as where somebody last connected from.
    """
    return os.environ.get("WORKSPACE_DEVICE") or socket.gethostname().partition(".")[0] or "unknown"
