"""README's first minute with the command, run line by line."""

from __future__ import annotations

import re
import subprocess
import sys

from localcloud.catalogue import ROOT
from localcloud.running_cloud import RunningCloud
from tests.cli.cli_process import Cli

SECONDS = 100


def test_the_lines_of_the_readme_make_enter_and_suspend_a_workspace(
    cli: Cli, cloud: RunningCloud
) -> None:
    """They are pasted into a shell that ends at the first one that fails."""
    lines = lines_of_the_readme()
    assert len(lines) == 5
    installed = cli.folder / "bin" / "workspace"
    installed.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m workspace_cli "$@"\n')
    installed.chmod(0o755)
    script = "\n".join(["set -e", *lines])
    done = subprocess.run(
        ["bash", "-c", script],
        env={**cli.environment, "LOCALCLOUD_STATE": str(cloud.state_file)},
        input="touch here\n",  # typed in the shell on the machine
        text=True,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done
    assert re.search(r"^api +asleep", done.stdout, re.MULTILINE), done
    assert cli.succeed("exec", "api", "--", "ls").out == "here\n"
    cli.succeed("rm", "api", "--yes")


def lines_of_the_readme() -> list[str]:
    """Return the lines that begin with the command, of the block that signs in locally."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (block,) = [block for block in blocks if "workspace login --local" in block]
    return [line for line in block.splitlines() if line.startswith("workspace ")]
