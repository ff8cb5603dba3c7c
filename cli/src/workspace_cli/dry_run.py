"""``--dry-run``: what a request would do, in words.

It is sent only to a Hub that says that it knows it, and in such a way that another refuses it: a
Hub may be rolled back in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from workspace_cli import words
from workspace_cli.app import App
from workspace_cli.errors import (
    CommandError,
    NotUnderstoodError,
    PathUnknownError,
    QueryUnknownError,
    RefusedError,
)
from workspace_cli.features import UPGRADE_HUB
from workspace_cli.text import one_line
from workspace_cli.workspaces import Workspace, workspace_of

FEATURE = "dry_run"
_COLUMN = 12
_MOST_LISTED = 50
_WOULD = {
    ("begin", "CREATE"): "would be made",
    ("begin", "START"): "would be started",
    ("begin", "STOP"): "would be put to sleep",
    ("begin", "ARCHIVE"): "would be archived",
    ("begin", "RESTORE"): "would have its home restored",
    ("begin", "DELETE"): "would be deleted",
    ("confirm", "STOP"): "goes to sleep already; then that would be your own request",
    ("confirm", "ARCHIVE"): "is being archived already; then that would be your own request",
    ("confirm", "DELETE"): "is being deleted already; then that would be your own request",
    ("rename", ""): "would get another name, and nothing else",
    ("nothing", ""): "nothing would be done: it is so, or on its way",
}


def check(app: App) -> None:
    """Have the Hub say that it knows dry runs: an older one would do what it is asked for.

    Raises:
        RefusedError: it does not.
    """
    client = app.client()
    if FEATURE not in client.features():
        raise RefusedError(
            f"{client.hub.address} has no dry runs, and would do it: so it was not asked",
            hint=UPGRADE_HUB,
        )


def show_each(
    app: App,
    asked: Sequence[tuple[str, Callable[[], Any]]],
    output: str | None,
) -> None:
    """Ask for dry runs and show what the Hub answers; one that is refused stops no other.

    Args:
        app: the run.
        asked: the names of workspaces, and what sends the request to each.
        output: ``json``, or words.

    Raises:
        CommandError: the first refusal, when all are done; others were told.
        RefusedError: the Hub has no dry runs.
    """
    check(app)
    errors: list[CommandError] = []
    for name, ask in asked:
        try:
            value = _understood(ask())
        except (PathUnknownError, QueryUnknownError):
            message = f"{app.client().hub.address} has no dry runs: it refused, and did nothing"
            raise RefusedError(message, hint=UPGRADE_HUB) from None
        except CommandError as error:
            error.message = f"{name}: {error.message}" if len(asked) > 1 else error.message
            errors.append(error)
            continue
        if output == "json":
            app.console.json(value)
            continue
        for label, text in _lines(name, value):
            app.console.out(f"{label:{_COLUMN}}{text}".rstrip())
    if output != "json" and len(errors) < len(asked):
        app.console.note("This was a dry run: nothing was done.")
    for other in errors[1:]:
        app.console.note(f"workspace: {other.message}", style="bold red")
    if errors:
        raise errors[0]


def losses(value: Any) -> list[tuple[str, str]]:
    """Return what a request would lose, and why, of the dry run that a Hub answers.

    Raises:
        NotUnderstoodError: it is no dry run.
    """
    listed = [_object(each) for each in _list(_understood(value).get("loses"))]
    return [
        (one_line(each.get("what") or "", 40).replace("_", " "), one_line(each.get("why") or ""))
        for each in listed
    ]


def workspace(value: Any) -> Workspace:
    """Return the workspace as the request would answer it, of the dry run that a Hub answers.

    Raises:
        NotUnderstoodError: it is no dry run, or has no workspace.
    """
    return workspace_of(_understood(value).get("workspace"))


def _understood(value: Any) -> Mapping[str, Any]:
    """Return a dry run.

    Raises:
        NotUnderstoodError: it is something else, so the Hub may have done what it was asked for.
    """
    if not isinstance(value, dict) or value.get("dry_run") is not True:
        raise NotUnderstoodError(
            "the Hub says that it has dry runs, and did not answer one: it may have done it",
            hint="to see what there is: workspace ls",
        )
    return value


def _lines(name: str, value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    decision, kind = (one_line(value.get(each) or "", 40) for each in ("decision", "kind"))
    yield name, _WOULD.get((decision, kind)) or f"{decision} {kind}".strip()
    if steps := words.steps([one_line(each, 40) for each in _list(value.get("steps"))]):
        yield "steps", ", ".join(steps)
    lost = losses(value)
    for nth, (what, why) in enumerate(lost):
        yield "" if nth else "loses", f"{what}: {why}"
    if not lost:
        yield "loses", "nothing"
    yield "then", _quota(_object(value.get("quota")))
    yield "machine", _cost(_object(value.get("cost")))


def _quota(quota: Mapping[str, Any]) -> str:
    parts = []
    for member, unit in (("workspaces", "workspaces"), ("running", "running")):
        used, most = (_object(quota.get(member)).get(each) for each in ("used", "most"))
        parts.append(f"{_number(used)} of {_number(most)} {unit}")
    return ", ".join(parts)


def _cost(cost: Mapping[str, Any]) -> str:
    size = []
    if (cpus := _number(cost.get("cpus"))) != _UNKNOWN:
        size.append(f"{cpus} CPUs")
    if (memory := _number(cost.get("memory_gb"))) != _UNKNOWN:
        size.append(f"{memory} GB")
    name = one_line(cost.get("machine_type") or "", 64)
    described = f"{name} ({', '.join(size)})" if size else name
    price = _object(cost.get("price_per_hour"))
    amount, currency = (one_line(price.get(each) or "", 20) for each in ("amount", "currency"))
    if cost.get("runs") is not True:
        return f"{described}, does not run then"
    return f"{described}, runs then" + (f": {amount} {currency} an hour" if amount else "")


_UNKNOWN = "?"


def _number(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if is_number else _UNKNOWN


def _list(value: Any) -> list[Any]:
    return value[:_MOST_LISTED] if isinstance(value, list) else []


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
