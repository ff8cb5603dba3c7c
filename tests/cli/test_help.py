"""`workspace --help`: of all commands as it was last looked at, and without loading any."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from localcloud.catalogue import ROOT
from tests.cli.cli_process import Cli
from workspace_cli import UPGRADE
from workspace_cli.app import App
from workspace_cli.main import cli as group

_LOAD = """
import sys
from workspace_cli.main import run
run(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
"""
_APPROVED = Path(__file__).parent / "help.txt"
CONTEXT = click.Context(group)
NAMES = group.list_commands(CONTEXT)


def pages() -> str:
    """Return the help of the group and of each command."""
    runner = CliRunner(env={"COLUMNS": "100"})
    texts = []
    for arguments in ([], *([name] for name in NAMES)):
        done = runner.invoke(group, [*arguments, "--help"], prog_name="workspace", obj=App())
        assert done.exit_code == 0, done.output
        texts.append(f"$ workspace {' '.join([*arguments, '--help'])}\n{done.output}")
    return "\n".join(texts)


def test_the_help_is_as_it_was_approved() -> None:
    """To approve a change, remove `help.txt`, run this test, and read what it has written."""
    if not _APPROVED.exists():
        _APPROVED.write_text(pages(), encoding="utf-8")
    assert pages() == _APPROVED.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_list_says_what_each_command_says_of_itself(name: str) -> None:
    """A command's module has a summary on its first line, and the command its own words."""
    command = group.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert command.help
    assert {"hub", "plain"} <= {option.name for option in command.params}


@pytest.mark.parametrize("name", NAMES)
def test_each_option_is_explained_in_words(name: str) -> None:
    """It has a text, its default is one of its choices, and no range is written as a formula."""
    command = group.get_command(CONTEXT, name)
    assert command is not None
    context = click.Context(command)
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        text = " ".join(option.get_help_record(context) or ())
        assert option.help, option.name
        assert not re.search(r"RANGE|<=|[0-9]\.[0-9]", text)
        if isinstance(option.type, click.Choice) and option.default in option.type.choices:
            assert re.search(rf"[\[|]{option.default}[\]|]", text), option.name


def test_nothing_is_upgraded_by_its_name_from_a_public_index() -> None:
    """Whoever registers that name there would have their program run."""
    cli = ROOT / "cli"
    pages = [*cli.rglob("*.py"), *cli.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    told = [
        line
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip\S* install|pipx|uv tool", line)
    ]
    assert told
    assert [line for line in told if "workspace-hub-cli" in line] == []
    assert "pip install --upgrade ./cli" in UPGRADE


def test_help_loads_no_command_and_nothing_heavy(cli: Cli) -> None:
    """A module that is loaded costs time, at each completion too."""
    cli.program = [
        cli.program[0],
        "-c",
        _LOAD,
    ]
    loaded = set(cli.succeed("--help").err.split())
    assert "workspace_cli.main" in loaded
    assert not loaded & {"requests", "rich", "google.auth", "urllib3", "asyncssh"}
    assert not [name for name in loaded if name.startswith("workspace_cli.commands.")]


def test_a_word_that_is_no_command_is_a_wrong_usage(cli: Cli) -> None:
    """It ends with 2, and names what lists the commands."""
    done = cli.run("\x1b[31mlst")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "workspace --help" in done.err
    assert cli.run().code == 2
    assert "Usage: workspace" in cli.run().err
