"""The group ``workspace``: finds a command's module by its name, and ends with its exit code."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click
from click.shell_completion import CompletionItem

from workspace_cli import VERSION, errors
from workspace_cli.app import App
from workspace_cli.text import visible

if TYPE_CHECKING:
    _TextType = click.ParamType[str]
else:
    _TextType = click.ParamType  # it has no parameters before click 8.5

COMPLETE = "_WORKSPACE_COMPLETE"  # what the shell sets when it asks for completions
_COMMANDS = Path(__file__).parent / "commands"
# What `workspace --help` lists together, in this order. A command that is not here is listed last.
_SECTIONS = {
    "Workspaces": (
        "create",
        "ls",
        "show",
        "start",
        "stop",
        "archive",
        "keep-awake",
        "snapshot",
        "snapshots",
        "fork",
        "restore",
        "rm",
        "undelete",
        "deleted",
        "wait",
        "events",
    ),
    "Work in them": (
        "ssh",
        "exec",
        "run",
        "open",
        "cp",
        "forward",
        "config-ssh",
        "connect",
    ),
    "Hubs": ("login", "logout", "whoami", "hubs", "use"),
    "More": ("completion",),
}


def _set_hub(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(App).hub_name = value


def _set_plain(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(App).console.plain = True


def _show_help(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        _write(context, context.get_help())


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        _write(context, f"workspace {VERSION}")


def _write(context: click.Context, text: str) -> NoReturn:
    """Write a text as all data are written, and end: click's own way has another exit code."""
    context.ensure_object(App).console.out(text)
    context.exit()


def _eager(*names: str, callback: Callable[..., None], text: str) -> click.Option:
    """Return an option that does something else than the command."""
    return click.Option(
        names, is_flag=True, is_eager=True, expose_value=False, callback=callback, help=text
    )


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--hub"],
            metavar="NAME",
            expose_value=False,
            callback=_set_hub,
            help="The Hub, by name or address, instead of the one in use.",
        ),
        click.Option(
            ["--plain"],
            is_flag=True,
            expose_value=False,
            callback=_set_plain,
            help="Plain lines: no colours, no animation.",
        ),
        _eager("-h", "--help", callback=_show_help, text="Show this message and exit."),
    ]


class Command(click.Command):
    """A command of ``workspace``: with ``--hub`` and ``--plain``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "add_help_option": False})
        self.params += _common_options()


class WorkspaceName(_TextType):
    """A workspace's name, its id, or the beginning of its id."""

    name = "workspace"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is no name and no id, before anything is sent."""
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
            text = f"{visible(value)!r} is neither a {self.name}'s name nor an id."
            self.fail(text, param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the person's workspaces; nothing if they cannot be had at once."""
        del param
        from workspace_cli.workspaces import names_for_completion  # noqa: PLC0415

        return [CompletionItem(name) for name in names_for_completion(ctx, incomplete)]


class SnapshotName(WorkspaceName):
    """A name, an id, or the beginning of an id, of a snapshot of the command's workspace NAME."""

    name = "snapshot"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return its snapshots; nothing if NAME comes later, or they cannot be had at once."""
        del param
        from workspace_cli.snapshots import arguments_for_completion  # noqa: PLC0415

        return [CompletionItem(each) for each in arguments_for_completion(ctx, incomplete)]


class DeletedName(WorkspaceName):
    """A name, an id, or the beginning of an id, of a deleted workspace that can be taken back."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the person's deleted workspaces; nothing if they cannot be had at once."""
        del param
        from workspace_cli.deleted import names_for_completion  # noqa: PLC0415

        return [CompletionItem(each) for each in names_for_completion(ctx, incomplete)]


WORKSPACE = WorkspaceName()
DELETED = DeletedName()
SNAPSHOT = SnapshotName()


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_summaries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _summaries():
            return None
        name = f"workspace_cli.commands.{cmd_name.replace('-', '_')}"
        command: click.Command = importlib.import_module(name).command
        command.name = cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, [visible(args[0]), *args[1:]])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        left = dict(_summaries())
        for title, names in _SECTIONS.items():
            rows = [(name, left.pop(name)) for name in names if name in left]
            if title == "More":
                rows += sorted(left.items())
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


@cache
def _summaries() -> dict[str, str]:
    """Return each command's name and summary: the first line of its module's docstring."""
    found = {}
    for path in sorted(_COMMANDS.glob("[!_]*.py")):
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        found[path.stem.replace("_", "-")] = first.strip().strip('"').rstrip(".")
    return found


@click.group(
    cls=_Group,
    params=[
        *_common_options(),
        _eager("--version", callback=_show_version, text="Show the version and exit."),
    ],
    add_help_option=False,
    context_settings={"max_content_width": 100},
    epilog="workspace COMMAND --help says more. Exit codes: 1 failed, 2 usage, 3 not found, "
    "4 sign in, 5 refused, 6 not in time, 7 the Hub does not answer.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Create, start, watch and enter the workspaces of a Workspace Hub."""
    context.ensure_object(App)


def main() -> NoReturn:
    """Run the command of ``sys.argv``, and end with its exit code."""
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # a second one, while the first was told
        code = errors.INTERRUPTED
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; whatever goes wrong is said on stderr."""
    app = App()
    try:
        code = _invoke(app, arguments)
        app.console.flush()
    except OSError as error:
        code = _not_written(app, error)
    finally:
        app.close()
        _flush_messages()
    return code


def _not_written(app: App, error: OSError) -> int:
    """Return the exit code of a run that ended with this error, most likely stdout's."""
    if not app.console.is_lost:
        return _report_fault(app, error)
    _discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return errors.OK  # whoever read it, as `head`, has got what they wanted
    app.console.note(f"workspace: cannot write the output: {error.strerror or error}")
    return errors.FAILED


def _invoke(app: App, arguments: list[str]) -> int:
    # Not by `cli.main`, which has exit codes of its own for a reader that has gone. Only it answers
    # a shell that asks for completions.
    if COMPLETE in os.environ:
        cli.main(arguments, prog_name="workspace", complete_var=COMPLETE, obj=app)
    try:
        with cli.make_context("workspace", arguments, obj=app) as context:
            cli.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except errors.CommandError as error:
        _report(app, error)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted(app)
    except click.exceptions.NoArgsIsHelpError as error:
        app.console.note(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        app.console.note(f"workspace: {error.format_message()}", style="bold red")
        if isinstance(error, click.UsageError) and error.ctx is not None:
            app.console.note(f"  {error.ctx.command_path} --help says what there is")
        return error.exit_code
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # so that the exit code is one that is documented
        return _report_fault(app, error)
    return errors.OK


def _report(app: App, error: errors.CommandError) -> None:
    app.console.note(f"workspace: {error.message}", style="bold red")
    if error.hint:
        app.console.note(f"  {error.hint}")
    if error.request_id:
        app.console.note(f"  request {error.request_id}")


def _report_fault(app: App, error: Exception) -> int:
    """Show a fault of this command; its text may be a server's, so it is escaped, too."""
    app.console.note("".join(traceback.format_exception(error)))
    app.console.note("workspace: this command has a fault; please report the lines above")
    return errors.FAILED


def _interrupted(app: App) -> int:
    app.console.note(f"\n{app.goes_on}" if app.goes_on else "\ninterrupted")
    return errors.INTERRUPTED


def _flush_messages() -> None:
    """Write out what is left for stderr. If nobody reads it any more, that is no failure."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _discard(sys.stderr)


def _discard(stream: TextIO | None) -> None:
    """Let what is still buffered for a stream go nowhere: the interpreter flushes it at its end."""
    if stream is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
