"""Keep a workspace awake while nobody is connected."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from workspace_cli import words
from workspace_cli.app import App
from workspace_cli.errors import PathUnknownError, RefusedError
from workspace_cli.main import WORKSPACE, Command
from workspace_cli.text import day_or_time, parse_time
from workspace_cli.workspaces import Workspace, workspace_of

if TYPE_CHECKING:
    _SpanType = click.ParamType[timedelta]
    _MomentType = click.ParamType[str]
else:
    _SpanType = _MomentType = click.ParamType  # it has no parameters before click 8.5

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_SPAN = re.compile(r"(?:[0-9]{1,4}[dhm])+")
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


class _Span(_SpanType):
    """A time span, as ``3h``, ``90m`` or ``1h30m``."""

    name = "span"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the time span."""
        if isinstance(value, timedelta):
            return value
        if not _SPAN.fullmatch(value):
            self.fail("must be days, hours and minutes, like 3h, 90m or 1h30m.", param, ctx)
        parts = re.findall(r"([0-9]+)([dhm])", value)
        return sum((timedelta(**{_UNITS[unit]: int(many)}) for many, unit in parts), timedelta())


class _Moment(_MomentType):
    """A time of the day, or a time with its offset; it stays as it was written."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is neither."""
        if not _CLOCK.fullmatch(value) and parse_time(value) is None:
            self.fail("must be like 18:00, or like 2026-11-26T18:00:00Z.", param, ctx)
        return str(value)


@click.command(cls=Command)
@click.argument("name", type=WORKSPACE)
@click.option("--for", "span", metavar="SPAN", type=_Span(), help="From now: 3h, 90m, 1h30m.")
@click.option(
    "--until",
    "moment",
    metavar="TIME",
    type=_Moment(),
    help="The next 18:00 by this machine's clock, or a whole time with its offset.",
)
@click.option("--off", is_flag=True, help="No longer: the usual idle time counts again.")
@click.pass_obj
def command(app: App, name: str, span: timedelta | None, moment: str | None, off: bool) -> None:
    """Keep the workspace NAME awake for a while, or until a time, though nobody is connected.

    A stop ends it. It says when the workspace goes to sleep then.
    """
    if [span is not None, moment is not None, off].count(True) != 1:
        raise click.UsageError("Say one of --for, --until and --off.")
    client = app.client()
    found = app.find(name)
    now = client.now()
    until = None
    if span is not None:
        until = now + span
    elif moment is not None:
        until = _moment(moment, now)
    try:
        value = client.keep_awake(found.id, until)
    except PathUnknownError:
        raise RefusedError(
            f"{client.hub.address} cannot keep a workspace awake because you say so",
            hint="in the workspace: touch ~/.keep-awake",
        ) from None
    app.console.note(_said(workspace_of(value), client.now()))


def _moment(text: str, now: datetime) -> datetime | None:
    """Return a whole time as it is, and a time of the day as the next such time."""
    if clock := _CLOCK.fullmatch(text):
        # Without an offset, since tomorrow may have another: the clocks are changed in some nights.
        here = now.astimezone().replace(tzinfo=None)
        at = here.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (at if at > here else at + timedelta(days=1)).astimezone()
    return parse_time(text)


def _said(workspace: Workspace, now: datetime) -> str:
    until = workspace.kept_awake_until
    said = (
        f"{workspace.name} is kept awake until {day_or_time(until, now)}."
        if until
        else f"{workspace.name} is not kept awake."
    )
    if workspace.stops_at is None:
        return said
    return f"{said} It goes to sleep {words.ahead(workspace.stops_at, now)} if nobody connects."
