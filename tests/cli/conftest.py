"""The command `workspace`, run as a process with a home of its own, and Hubs for it."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT
from localcloud.running_cloud import RunningCloud
from tests.cli.cli_process import Cli
from tests.cli.scripted_home import Home
from tests.cli.scripted_hub import ScriptedHub


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command with an empty home, in an environment that has nothing of this machine's."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "cli" / "src"),
        "LANG": "C.UTF-8",
        "TERM": "xterm",
        "TZ": "UTC",
        "WORKSPACE_DEVICE": "laptop",
        # Nothing here may reach a metadata server or an account of whoever runs the tests.
        "NO_GCE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(home / "gcloud"),
    }
    return Cli([sys.executable, "-m", "workspace_cli"], environment, tmp_path)


@pytest.fixture
def email() -> str:
    """The address of a person whom no other test uses."""
    return f"{uuid.uuid4()}@example.com"


@pytest.fixture
def signed_in(cli: Cli, cloud: RunningCloud, email: str) -> Cli:
    """The command, of a person who has signed in to the local cloud."""
    cli.environment["LOCALCLOUD_STATE"] = str(cloud.state_file)
    cli.succeed("login", "--local", "--email", email)
    return cli


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    """A Hub that answers what a test says."""
    with ScriptedHub() as scripted:
        yield scripted


@pytest.fixture
def at_hub(cli: Cli, hub: ScriptedHub) -> Cli:
    """The command, of a program that has a token for the scripted Hub."""
    cli.environment["WORKSPACE_HUB"] = hub.address
    cli.environment["WORKSPACE_TOKEN"] = "a.token.of-a-program"
    return cli


@pytest.fixture
def home(hub: ScriptedHub) -> Home:
    """A workspace ``api`` without snapshots, at a scripted Hub."""
    return Home(hub)
