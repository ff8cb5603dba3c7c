"""The command is a package of its own, which `pip install ./cli` installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

from localcloud.catalogue import ROOT
from workspace_cli import VERSION

PROJECT = tomllib.loads((ROOT / "cli/pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_it_is_installed_without_the_hub(tmp_path: Path) -> None:
    """Its console script runs from another folder, with nothing of this one."""
    source, target = tmp_path / "cli", tmp_path / "installed"
    # pip builds in the folder itself, and would leave files there.
    shutil.copytree(ROOT / "cli", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, *offline, "--target", target, source], check=True, timeout=110)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(target)}
    script = target / "bin" / "workspace"
    for arguments, says in ((["--version"], VERSION), (["hubs"], ""), (["ls", "--help"], "--all")):
        done = subprocess.run(
            [script, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert says in done.stdout
    # All modules of the commands are there, and a type checker may use them.
    there = {path.name for path in (target / "workspace_cli" / "commands").glob("*.py")}
    assert there == {path.name for path in (ROOT / "cli/src/workspace_cli/commands").glob("*.py")}
    assert (target / "workspace_cli" / "py.typed").exists()


def test_its_packages_are_those_that_are_tested() -> None:
    """What it requires is what the tests have, and it says its version once."""
    assert PROJECT["version"] == VERSION
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(version(requirement.name)), text
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
