"""Print the shell completion script."""

import click
from click.shell_completion import get_completion_class

from workspace_cli.app import App
from workspace_cli.main import COMPLETE, Command

# Not the function's docstring: click takes the backspaces for lines that stay as they are.
_HELP = """Print the completion script of SHELL: for commands, options and workspaces.

\b
bash, in ~/.bashrc:                     eval "$(workspace completion bash)"
zsh, in ~/.zshrc:                       eval "$(workspace completion zsh)"
fish, in ~/.config/fish/config.fish:    workspace completion fish | source
"""


@click.command(cls=Command, help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print click's own script for a shell."""
    app = context.find_object(App)
    kind = get_completion_class(shell)
    assert app is not None  # noqa: S101  # the group has made it
    assert kind is not None  # noqa: S101  # click has these three
    group = context.find_root().command
    app.console.out(kind(group, {}, "workspace", COMPLETE).source())
