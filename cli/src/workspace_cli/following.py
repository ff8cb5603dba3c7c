"""Follows workspaces until they are what a person waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from workspace_cli import words
from workspace_cli.errors import (
    CommandError,
    NotInTimeError,
    RefusedError,
    WorkspaceNotFoundError,
)
from workspace_cli.progress import Progress
from workspace_cli.text import duration
from workspace_cli.usual import Usual
from workspace_cli.workspaces import ARCHIVES, NAME, RESTORES, STARTS, Workspace, workspace_of

if TYPE_CHECKING:
    from workspace_cli.app import App

_T = TypeVar("_T")
DEFAULT_SECONDS = 5400  # longer than operations take, but for the upload of a large home
GONE = "gone"
_FIRST_PAUSE_SECONDS = 0.25
_PAUSE_SECONDS = 2.0
_MOST_SNAPSHOTS = 5  # that are waited for, one after the other
_FRESH_SECONDS = 3.0  # an operation that was asked for since then was asked for by us


@dataclass(frozen=True)
class Goal:
    """What is waited for.

    Attributes:
        status: ``READY``, ``SUSPENDED`` or ``GONE``.
        seconds: how long at most.
        full: what to do if the Hub finds no capacity for it, besides trying again later.
    """

    status: str
    seconds: float = DEFAULT_SECONDS
    full: str = "or let it move without its memory, by --may-move"


@dataclass(frozen=True)
class OperationGoal:
    """The end of an operation.

    Attributes:
        goes_on: what is said to a person who waits no longer: what goes on, how to come back.
        late: what is said if it does not come in time.
        seconds: how long is waited at most.
    """

    goes_on: str
    late: str
    seconds: float = DEFAULT_SECONDS


@dataclass(frozen=True)
class Outcome:
    """What came of a workspace: as it was seen last (None: it is gone), and why it is not the goal.

    ``error`` is None if it is the goal; otherwise a ``NotComeToItError`` or a ``NotInTimeError``.
    """

    workspace: Workspace | None
    error: CommandError | None


class NotComeToItError(CommandError):
    """The workspace has come to rest as something else, and nothing leads to the goal any more."""


def come_back(workspaces: Sequence[Workspace], goal: Goal) -> str:
    """Return the command that waits for a goal.

    It names them as the person does. What is being deleted it names by id: its name is free, so it
    may soon be another workspace's.
    """
    names = [
        each.name if goal.status != GONE and NAME.fullmatch(each.name) else each.id
        for each in workspaces
    ]
    return f"workspace wait {' '.join(names)} --for {goal.status}"


def follow(app: App, workspaces: list[Workspace], goal: Goal) -> list[Outcome]:
    """Wait until each workspace is what it is to be, and show the way there.

    Args:
        app: the run.
        workspaces: as the Hub has just answered them.
        goal: what they are to be.

    Returns:
        What came of each, in their order.

    Raises:
        CommandError: the Hub does not answer any more, or not this person.
    """
    several = len(workspaces) > 1
    names = " ".join(each.name for each in workspaces)
    text = (
        f"{names}: what was asked for goes on without you. To come back to it:\n"
        f"  {come_back(workspaces, goal)}"
    )
    with app.on_interrupt(text), ExitStack() as stack:
        followed = [
            _Followed(app, each, goal, stack.enter_context(_progress(app, each, several=several)))
            for each in workspaces
        ]
        looks = Looks(goal.seconds)
        while left := [each for each in followed if not each.look()]:
            if not looks.again():
                for each in left:
                    each.end_late()
                break
            for each in left:
                each.read()
    return [Outcome(each.workspace, each.error) for each in followed]


def follow_operation(app: App, workspace: Workspace, goal: OperationGoal) -> Workspace | None:
    """Wait until the operation that is under way has ended, however it does, and show the way.

    Args:
        app: the run.
        workspace: as the Hub has just answered it.
        goal: how long to wait, and what is said to a person who waits no longer.

    Returns:
        The workspace as it is then; None if it is gone.

    Raises:
        NotInTimeError: the operation has not ended.
        CommandError: the Hub does not answer any more, or not this person.
    """
    asked, looks = workspace.operation, Looks(goal.seconds)
    kind = asked.kind if asked else ""
    now: Workspace | None = workspace
    with app.on_interrupt(goal.goes_on), _progress(app, workspace, several=False) as progress:
        while now is not None and asked and now.operation and now.operation.id == asked.id:
            progress.show(words.doing(now.operation))
            if not looks.again():
                progress.end(well=False)
                late = f"{goal.late} after {duration(goal.seconds)}"
                raise NotInTimeError(late, hint=goal.goes_on)
            try:
                now = workspace_of(app.client().workspace(workspace.id))
            except WorkspaceNotFoundError:
                now = None
        failed = now is None or (now.error is not None and now.error.operation_kind == kind)
        progress.end(well=not failed)
    return now


def after_snapshot(
    app: App, workspace: Workspace, ask: Callable[[], _T], seconds: float = DEFAULT_SECONDS
) -> _T:
    """Return what ``ask`` does. If the Hub refuses it because of a SNAPSHOT, wait for its end.

    Args:
        app: the run.
        workspace: what is to be changed.
        ask: sends the request.
        seconds: how long a snapshot is waited for at most.

    Raises:
        NotInTimeError: the snapshot has not ended.
        CommandError: of ``ask``, also because of another operation; or the Hub does not answer.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return ask()
        except RefusedError as error:
            if error.code != "OPERATION_UNDER_WAY" or tries > _MOST_SNAPSHOTS:
                raise
            now = workspace_of(app.client().workspace(workspace.id))
            if not now.is_settled:
                raise
        if now.operation is not None:  # else it has just ended
            await_snapshot(app, now, seconds)


def await_snapshot(app: App, workspace: Workspace, seconds: float = DEFAULT_SECONDS) -> None:
    """Wait for the end of the SNAPSHOT that is under way, and say so.

    Raises:
        NotInTimeError: it has not ended.
        CommandError: the Hub does not answer any more, or not this person.
    """
    name = workspace.name
    app.console.note(f"A snapshot of {name} is being taken. Waiting until it is captured …")
    goes_on = f"The snapshot of {name} goes on without you. Nothing else was asked for."
    late = f"the snapshot of {name} is not captured"
    follow_operation(app, workspace, OperationGoal(goes_on, late, seconds))


class Looks:
    """The pauses between looks at something that is waited for, until the time is over."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = _FIRST_PAUSE_SECONDS

    def again(self) -> bool:
        """Pause, and return whether to look again."""
        left = self._deadline - time.monotonic()
        if left < 0:
            return False
        time.sleep(min(self._pause, left))
        self._pause = min(self._pause * 1.3, _PAUSE_SECONDS)
        return True


class _Followed:
    """One workspace that is followed."""

    def __init__(self, app: App, workspace: Workspace, goal: Goal, progress: Progress) -> None:
        self.workspace: Workspace | None = workspace
        self.error: CommandError | None = None
        self._app = app
        self._client = app.client()
        self._name = workspace.name
        self._id = workspace.id
        self._as_asked = workspace
        self._goal = goal
        self._progress = progress
        self._ended = False

    def read(self) -> None:
        """Ask the Hub how it is."""
        try:
            self.workspace = workspace_of(self._client.workspace(self._id))
        except WorkspaceNotFoundError:
            self.workspace = None

    def look(self) -> bool:
        """Return whether there is nothing more to wait for, and tell what came of it, once."""
        if self._ended:
            return True
        workspace, wanted = self.workspace, self._goal.status
        if workspace is not None and workspace.operation is not None and not workspace.is_settled:
            self._progress.show(words.doing(workspace.operation))
        if workspace is None:
            self._end(well=wanted == GONE, said=f"{self._name} is gone", more="")
        elif self._has_come(workspace):
            said, more = words.result(workspace, self._client.now())
            self._end(well=True, said=said, more=more)
        elif workspace.is_settled and self._is_called_off():
            said = f"{self._name} is {words.status(workspace)}, and it is not archived"
            self._end(well=False, said=f"{said}: somebody has started it meanwhile", more="")
        elif workspace.is_settled and not _may_come(workspace, wanted):
            self._end(well=False, said=_why_not(workspace), more="")
        return self._ended

    def _has_come(self, workspace: Workspace) -> bool:
        is_so = workspace.is_settled and workspace.status == self._goal.status
        return is_so and not self._has_failed() and not self._is_called_off()

    def _has_failed(self) -> bool:
        """Whether a RESTORE, an ARCHIVE or a START that was under way has failed.

        Each may leave the workspace with the status that it leads to: a START if a machine that
        runs was to change.
        """
        asked, now = self._as_asked.operation, self.workspace
        if asked is None or now is None:
            return False
        failed = {
            ARCHIVES: now.is_not_archived,
            RESTORES: now.is_not_restored,
            STARTS: now.is_not_changed,
        }
        return failed.get(asked.kind, False)

    def _is_called_off(self) -> bool:
        """Whether a START has replaced the ARCHIVE that was under way."""
        asked, now = self._as_asked.operation, self.workspace
        if asked is None or now is None or asked.kind != ARCHIVES:
            return False
        return not now.is_archived and now.failure is None

    def end_late(self) -> None:
        """End with the error that it did not happen in time."""
        self._progress.end(well=False)
        doing = words.status(self.workspace) if self.workspace else GONE
        self.error = NotInTimeError(
            f"{self._name} is {doing}, not {_GOALS.get(self._goal.status, self._goal.status)},"
            f" after {duration(self._goal.seconds)}",
            hint=f"it goes on: {come_back([self._as_asked], self._goal)}",
        )

    def _end(self, *, well: bool, said: str, more: str) -> None:
        self._ended = True
        after = f" after {duration(self._progress.seconds)}" if self._progress.was_shown else ""
        self._progress.end(well=well)
        if not well:
            hint = _way_out(self.workspace, self._goal.full) if self.workspace else None
            self.error = NotComeToItError(said, hint=hint)
        else:
            self._app.console.note(f"{said}{after}.{more}")


_GOALS = {"READY": "ready", "SUSPENDED": "asleep", GONE: GONE}


def _may_come(workspace: Workspace, wanted: str) -> bool:
    """Return whether a workspace at rest may become what is wanted without a person.

    What is ready goes to sleep by itself, and what sleeps is deleted. Nothing wakes by itself. What
    a failed operation has left stays as it is. A failed snapshot has left nothing.
    """
    if workspace.failure is not None:
        return False
    return wanted == GONE or (wanted == "SUSPENDED" and workspace.status == "READY")


def _why_not(workspace: Workspace) -> str:
    said = f"{workspace.name} is {words.status(workspace)}"
    if workspace.failure is None:
        return f"{said}, and nothing changes that by itself"
    if workspace.is_not_restored:
        return f"{said}, and its home is not restored: {workspace.failure.reason}"
    if workspace.is_not_archived:
        return f"{said}, and it is not archived: {workspace.failure.reason}"
    if workspace.is_not_changed:
        return f"{said}, and nothing of it was changed: {workspace.failure.reason}"
    return f"{said}: {workspace.failure.reason}"


def _way_out(workspace: Workspace, full: str) -> str:
    """Return what to do about a workspace that has come to rest as something else.

    ``full`` is what can be done without capacity, as a ``Goal`` has it.
    """
    if workspace.is_not_restored and workspace.status == "READY":
        return "its home is what it was, and it goes on"
    if workspace.is_not_restored:
        return f"its home is what it was. To go on: workspace start {workspace.argument}"
    if workspace.is_not_archived:
        return (
            f"its home is kept. To go on: workspace start or workspace archive {workspace.argument}"
        )
    code = workspace.failure.code if workspace.failure else ""
    if code == "LAST_COPY_NOT_MADE":
        return f"delete it again, or for good: workspace rm --purge {workspace.id}"
    if code == "NO_CAPACITY" and workspace.status == "SUSPENDED":
        ways = ["try again later", *([full] if full and not workspace.is_archived else [])]
        return f"{', '.join(ways)}: workspace start {workspace.argument}"
    return f"workspace show {workspace.name}"


def _progress(app: App, workspace: Workspace, *, several: bool) -> Progress:
    operation = workspace.operation
    usual = Usual(app.hub().name, operation.kind if operation else "", workspace.machine_type)
    since = operation.requested_at if operation else None
    age = (app.client().now() - since).total_seconds() if since else None
    is_whole = age is not None and abs(age) < _FRESH_SECONDS
    return Progress(app.console, usual, workspace.name if several else None, is_whole=is_whole)
