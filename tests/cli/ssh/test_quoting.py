from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workspace_cli.errors import WrongUsageError
from workspace_cli.ssh.quoting import config_path, proxy_command, remote_command

WORDS = [
    "", " ", "a b", "a'b", 'a"b', "\\", "\\\\", "a\\'b", "$HOME", "`id`", "$(id)", "a\nb", "*", "?",
    "[a]", "{a,b}", "~", "!!", "#x", ";", "&", "|", "<", ">", "(", ")", "=ls", "A=b", "-n", "--",
    "%d", "ä€😀", "\t", "'", "''", "a\\", "'\\''", "^x", "\x01\x7f",
]  # fmt: skip
PRINTS = "import sys; sys.stdout.write(repr(sys.argv[1:]))"
SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "fish") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_remote_shell_gives_a_program_exactly_its_words(shell: str) -> None:
    """No character of a word means anything to the shell."""
    line = remote_command([sys.executable, "-c", PRINTS, *WORDS])
    done = subprocess.run([shell, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == repr(WORDS)


def test_a_command_line_is_never_an_option_of_ssh() -> None:
    """A program whose name begins with a hyphen is still no option."""
    assert not remote_command(["-oProxyCommand=x"]).startswith("-")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_proxy_command_survives_its_shell(shell: str) -> None:
    """OpenSSH replaces %, then a shell reads the line: the words are what they were."""
    words = [word for word in WORDS if word.isprintable()]
    value = proxy_command([sys.executable, "-c", PRINTS, *words])
    line = f"exec {value.replace('%%', '%')}"
    done = subprocess.run([shell, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == repr(words)


@pytest.mark.parametrize("word", ["a\nb", "a\0b", "a\x7fb"])
def test_a_proxy_command_is_one_line(word: str) -> None:
    """A control character in a path is refused: it could begin a line of its own."""
    with pytest.raises(WrongUsageError):
        proxy_command([word])


@pytest.mark.parametrize("path", ["/a b/c", "/50% off", "/it's", "/a#b", "/a=b", "/ä"])
def test_openssh_reads_a_path_as_it_was(path: str, tmp_path: Path) -> None:
    """Spaces and percent signs of a home do not break the configuration."""
    config = tmp_path / "config"
    config.write_text(f"Host x\n  UserKnownHostsFile {config_path(path)}\n")
    done = subprocess.run(
        ["ssh", "-G", "-F", config, "x"], capture_output=True, text=True, check=True
    )
    [line] = [one for one in done.stdout.splitlines() if one.startswith("userknownhostsfile ")]
    assert line.removeprefix("userknownhostsfile ").replace("%%", "%") == path


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", "/${HOME}", "/a\nb"])
def test_a_path_that_openssh_cannot_express_is_refused(path: str) -> None:
    """It is said, rather than written wrong."""
    with pytest.raises(WrongUsageError):
        config_path(path)
