"""One local cloud for all tests of a run, shared by the workers of pytest-xdist.

The first worker that needs it starts it. It ends with the run, however that ends: its standard
input is a pipe that only pytest's main process holds open. After a run that failed, its logs are in
``.localcloud/tests.logs/shared``.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localcloud.catalogue import ROOT
from localcloud.processes.children import LocalCloudError
from localcloud.processes.emulators import find_installation
from localcloud.processes.state_file import NoCloudError
from localcloud.running_cloud import RunningCloud, run_command, wait_for_cloud
from localcloud.settings import EMULATORS, LocalSettings
from tests import kept_logs
from tests.firestore_servers import embedded_firestore
from tests.google_emulators import google_firestore, google_pubsub
from tests.shared_folder import locked

# The fixtures of other files.
__all__ = ("embedded_firestore", "google_firestore", "google_pubsub")

SETTINGS = LocalSettings(times="fast", schedule_seconds=2, heartbeat_seconds=1)

# Why a test may be skipped in CI, too: installing a package would not help.
ALLOWED_SKIPS = (
    # tests/guests/test_vm.py: emulating a whole machine takes too long for every run.
    "opt-in: nox -s vm",
    # tests/terraform/test_terraform.py: the providers come from the network.
    "terraform is not installed",
    "terraform init did not get the providers",
    "terraform init could not get the providers",
    # tests/guests/test_nspawn.py: the machine that runs the tests is itself a container.
    "booting needs loop devices",
    "booting needs the right to make namespaces",
    # tests/google_emulators.py: the SDK comes from the network. The same tests run on the local
    # cloud's own servers.
    "Google's emulators are not here",
)

_FOLDER = pytest.StashKey[Path]()
_LIFELINE = pytest.StashKey[int]()
_END_SECONDS = 20.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for tests that an ordinary run leaves out or limits."""
    parser.addoption(
        "--whole-machine", action="store_true", help="boot a whole machine in QEMU: some minutes"
    )
    parser.addoption(
        "--seed",
        type=int,
        default=1,
        help="the seed of the chaos and of random calls of Firestore; the same gives the same",
    )
    parser.addoption(
        "--no-skips", action="store_true", help="fail a skipped test, except for ALLOWED_SKIPS"
    )
    parser.addoption("--seconds", type=float, default=120, help="how long the chaos lasts")
    parser.addoption(
        "--emulators",
        choices=EMULATORS,
        default=LocalSettings.emulators,
        help="Firestore and Pub/Sub of the clouds of tests/system and tests/integration",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of the shared cloud, and open its pipe.

    No test reaches a server on this machine by a proxy that the environment names. What tests start
    ends by Ctrl-C, also where the tests themselves run in the background: a shell makes what it
    starts there ignore it, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
    if hasattr(config, "workerinput"):
        config.stash[_FOLDER] = Path(config.workerinput["cloud_folder"])
        return
    folder = Path(tempfile.mkdtemp(prefix="workspace-hub-tests-"))
    os.mkfifo(folder / "lifeline")
    config.stash[_FOLDER] = folder
    config.stash[_LIFELINE] = os.open(folder / "lifeline", os.O_RDWR)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where the folder is."""
    node.workerinput["cloud_folder"] = str(node.config.stash[_FOLDER])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``--no-skips``, make a failure of a skip whose reason is not in ``ALLOWED_SKIPS``."""
    report = yield
    _forbid_skip(item, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a file that is skipped as a whole."""
    report = yield
    _forbid_skip(collector, report)
    return report


def _forbid_skip(node: pytest.Item | pytest.Collector, report: Any) -> None:
    if not (
        node.config.getoption("--no-skips")
        and report.skipped
        and isinstance(report.longrepr, tuple)
    ):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if not reason.startswith(ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"{node.nodeid} is skipped, which --no-skips forbids: {reason}"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the logs of a run that failed."""
    logs = session.config.stash[_FOLDER] / "state.logs"
    if (
        _LIFELINE in session.config.stash
        and exitstatus == pytest.ExitCode.TESTS_FAILED
        and logs.exists()
    ):
        kept_logs.keep(logs, "shared")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the pipe, which ends the shared cloud and emulators, and wait for that."""
    if _LIFELINE not in config.stash:
        return
    os.close(config.stash[_LIFELINE])
    folder = config.stash[_FOLDER]
    deadline = time.monotonic() + _END_SECONDS
    while any(folder.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def run_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of this run, with the pipe: for what the workers share."""
    return request.config.stash[_FOLDER]


@pytest.fixture(scope="session")
def emulators(request: pytest.FixtureRequest) -> str:
    """What stands in for Firestore and Pub/Sub, see ``LocalSettings``."""
    chosen: str = request.config.getoption("--emulators")
    if chosen == "google":
        try:
            find_installation(installs=False)
        except LocalCloudError as error:
            pytest.skip(f"Google's emulators are not here: {error}")
    return chosen


@pytest.fixture(scope="session")
def cloud(run_folder: Path, emulators: str) -> RunningCloud:
    """The local cloud of this run. All tests share it: use your own people, and never reset it."""
    with locked(run_folder / "lock"):
        try:
            return RunningCloud(run_folder / "state.json")
        except NoCloudError:
            return _start_shared_cloud(run_folder, emulators)


def _start_shared_cloud(folder: Path, emulators: str) -> RunningCloud:
    state_file, output = folder / "state.json", folder / "output.txt"
    command = run_command(replace(SETTINGS, emulators=emulators), state_file)
    # Not by `subprocess`, which warns of a process that outlives its parent: this one must outlive
    # the worker.
    pid = os.posix_spawn(
        command[0],
        command,
        {**os.environ, "PYTHONPATH": str(ROOT)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, folder / "lifeline", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    return wait_for_cloud(state_file, lambda: os.waitpid(pid, os.WNOHANG) != (0, 0), output)
