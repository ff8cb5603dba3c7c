"""``nox -s demo``, the first command that a new user runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT
from localcloud.processes.children import free_ports
from localcloud.processes.process_tree import can_hold_machines


def run_demo_on_a_bare_machine(
    folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the demo with no program in its PATH, another home, and no variable but those given."""
    return subprocess.run(
        [sys.executable, "-m", "localcloud.command_line.demo", *arguments],
        cwd=ROOT,
        env={"PATH": str(folder), "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.timeout(200)
def test_the_demo_runs_to_its_end_with_python_and_nothing_else(tmp_path: Path) -> None:
    """It exits with 0 only if it has seen every step, and ends all its processes.

    Neither Java nor the SDK can be found. A proxy that the environment names, as in many offices,
    is not asked for what is on this machine.
    """
    [nobody] = free_ports(1)
    proxy = f"http://127.0.0.1:{nobody}"
    names = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
    proxies = {**dict.fromkeys(names, proxy), **{name.upper(): proxy for name in names}}
    done = run_demo_on_a_bare_machine(tmp_path, **proxies)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as an administrator" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("everything has been ended; all of it was seen")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(200)
def test_the_demo_lets_alice_work_in_her_workspace_by_the_command() -> None:
    """With OpenSSH's client she is in it: her program outlives the suspend, and keeps it awake."""
    if not can_hold_machines() or not shutil.which("ssh"):
        pytest.skip("entering a machine needs Linux and ssh")
    done = subprocess.run(
        [sys.executable, "-m", "localcloud.command_line.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for seen in (
        "she is in, by the command `workspace`; her program counts: 1 2 3",
        "her program goes on where it was",
        "her file says: from before",
        "it is not put to sleep",
        "all of it was seen",
    ):
        assert seen in done.stdout


def test_the_demo_on_googles_emulators_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    """It needs Java, which a bare machine does not have."""
    done = run_demo_on_a_bare_machine(tmp_path, "--emulators", "google")
    assert done.returncode == 1
    assert "Java 17 or newer is missing." in done.stderr.strip().splitlines()[-1]
