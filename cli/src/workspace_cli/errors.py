"""What can go wrong, as one tree; each class has the exit code that ``docs/command.md`` lists.

A message says what happened. ``hint`` says what to do, ``request_id`` finds the request in the
Hub's log. Text of a server must have gone through ``text.one_line`` before.
"""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
SIGN_IN = 4
REFUSED = 5
NOT_IN_TIME = 6
NO_ANSWER = 7
INTERRUPTED = 130


class CommandError(Exception):
    """What was asked for failed (exit code 1)."""

    exit_code = FAILED

    def __init__(
        self, message: str, *, hint: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.request_id = request_id


class WrongUsageError(CommandError):
    """The Hub found a field wrong that an option has set, or the options do not fit together."""

    exit_code = USAGE


class NeedsTerminalError(WrongUsageError):
    """A question would have to be asked, but nobody is there to answer: give the option instead."""


class WorkspaceNotFoundError(CommandError):
    """No workspace, or no Hub, has this name."""

    exit_code = NOT_FOUND


class SnapshotNotFoundError(CommandError):
    """The workspace has no such snapshot."""

    exit_code = NOT_FOUND


class SignInError(CommandError):
    """There is no valid proof of who the person is: sign in again."""

    exit_code = SIGN_IN


class RefusedError(CommandError):
    """The Hub, or this command for the person's safety, refuses: quota, rights, policy, state.

    ``code`` is the Hub's own code, or None.
    """

    exit_code = REFUSED

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        request_id: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, request_id=request_id)
        self.code = code


class NotInTimeError(CommandError):
    """It did not happen within the time given; it may still."""

    exit_code = NOT_IN_TIME


class NoAnswerError(CommandError):
    """The Hub cannot be reached, does not answer in time, or has a fault."""

    exit_code = NO_ANSWER


class NotUnderstoodError(CommandError):
    """The answer is none of this contract: something else answers there, or a newer Hub."""


class PathUnknownError(CommandError):
    """The Hub does not know the path: it is older than this command. Callers fall back."""


class QueryUnknownError(CommandError):
    """The Hub does not know a parameter of the query: it is older than this command."""
