"""How tests, the demo and the command line use a running local cloud, and start their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from localcloud.catalogue import ROOT
from localcloud.processes.children import LocalCloudError
from localcloud.processes.state_file import NoCloudError, log_files, read_state
from localcloud.settings import LocalSettings

_START_SECONDS = 90.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05
_REQUEST_SECONDS = 30.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RunningCloud:
    """A running local cloud, found by its state file.

    Raises:
        NoCloudError: from everything here, if the cloud is not running, or no longer.
    """

    def __init__(self, state_file: Path) -> None:
        self.state_file = state_file
        self.address: str = self.state["address"]

    @property
    def state(self) -> dict[str, Any]:
        """The present content of the state file, see ``processes/state_file.py``."""
        return read_state(self.state_file)

    def function_url(self, name: str) -> str:
        """Return a function's own URL, without a path: that of its front."""
        return str(self.state["functions"][name]["url"])

    def token(self, email: str, *, audience: str | None = None, **more: Any) -> str:
        """Return an ID token of a made-up person or service account.

        Args:
            email: their e-mail address.
            audience: whom the token is for; by default the Hub.
            more: ``sub``, ``email_verified``, ``hosted_domain``, ``lifetime_seconds`` or
                ``claims``, see ``services/identity/server.py``.
        """
        body = {"email": email, "audience": audience or self.address, **more}
        return str(self._call("POST", "identity", "/tokens", body)["token"])

    def import_ssh_key(self, email: str, key: str) -> None:
        """Tell the local OS Login that a public SSH key is a person's.

        Args:
            email: their e-mail address.
            key: ``<type> <base64>``.
        """
        self._call("POST", "identity", f"/v1/users/{email}:importSshPublicKey", {"key": key})

    def fault(self, name: str, *, off: bool = False, **more: Any) -> list[dict[str, Any]]:
        """Switch a fault on or off, and return the faults that are on.

        Args:
            name: a fault of ``services/compute/faults.py`` or ``services/delivery_faults.py``.
            off: whether to switch it off.
            more: ``count``, ``zone``, ``method`` and ``instance`` of a fault of Compute; for those
                of delivery see ``services/control_api.py``.
        """
        given = {key: value for key, value in more.items() if value is not None}
        return self._faults("POST", {"name": name, "off": off, **given})

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults that are on."""
        return self._faults("GET")

    def clear_faults(self) -> None:
        """Switch every fault off."""
        self._faults("DELETE")

    def reset(self) -> None:
        """Delete all records, tasks, messages, machines and faults, and end all pauses."""
        self._call("POST", "control", "/localcloud/reset", {})

    def make_admin(self, email: str) -> None:
        """Make whoever has this e-mail address an administrator.

        If they are none yet, further requests wait for new processes of the functions for people.

        Raises:
            ValueError: it is not an address, or this cloud has no administrators.
        """
        self._call("POST", "control", "/localcloud/admins", {"email": email})

    def machines(self) -> list[dict[str, Any]]:
        """Return every machine: its state, its guest, its reports."""
        machines: list[dict[str, Any]] = self._call("GET", "compute", "/localcloud/machines")[
            "machines"
        ]
        return machines

    def compute_calls(self) -> list[dict[str, Any]]:
        """Return the last calls to Compute that change something, oldest first."""
        return self.compute_history()["calls"]

    def compute_history(self) -> dict[str, list[dict[str, Any]]]:
        """Return what happened in Compute, each oldest first.

        ``calls``, ``states`` of instances, ``contents`` (the states of disks and snapshots), and
        ``reports`` of guests.
        """
        return self._call("GET", "compute", "/localcloud/history")

    def connected(self, instance_name: str, *, connected: bool = True) -> None:
        """Set whether somebody is connected to a machine, so that it sends heartbeats."""
        self._call(
            "POST",
            "compute",
            f"/localcloud/machines/{instance_name}/connected",
            {"connected": connected},
        )

    def keep_awake(self, instance_name: str, *, awake: bool = True) -> None:
        """Set whether somebody keeps touching ``~/.keep-awake`` on a machine.

        It sends heartbeats then, even if nobody is connected.
        """
        self._call(
            "POST", "compute", f"/localcloud/machines/{instance_name}/keep-awake", {"awake": awake}
        )

    def make_old(self, instance_name: str, age: timedelta) -> None:
        """Make it look as if a machine and its boot disk were created this long ago."""
        seconds = round(age.total_seconds())
        self._call(
            "POST", "compute", f"/localcloud/machines/{instance_name}/age", {"seconds": seconds}
        )

    def function_pid(self, name: str) -> int:
        """Return the id of a function's first process, which is started if it does not run.

        Raises:
            ValueError: it does not start; with the end of its log.
        """
        path = f"/localcloud/functions/{name}/process"
        return int(self._call("POST", "control", path, {}, seconds=_START_SECONDS)["pid"])

    def kill_function(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to all processes of a function; one that does not run is started first.

        If it ends, the next request starts it again.
        """
        os.killpg(self.function_pid(name), number)

    def pause(self, service: str) -> None:
        """Have ``firestore`` or ``pubsub`` stop answering; calls to it wait."""
        self._call("POST", "control", "/localcloud/pause", {"service": service, "paused": True})

    def resume(self, service: str) -> None:
        """Have a paused service answer again."""
        self._call("POST", "control", "/localcloud/pause", {"service": service, "paused": False})

    @contextlib.contextmanager
    def paused(self, service: str) -> Iterator[None]:
        """Pause a service for as long as the context lasts."""
        self.pause(service)
        try:
            yield
        finally:
            self.resume(service)

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests at the public address and their answers, oldest first.

        The setting ``write_requests`` has to be on.
        """
        lines = Path(self.state["requests"]).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def log(self, name: str) -> str:
        """Return the log of a function, of an emulator, or of the ``cloud`` itself."""
        return log_files(self.state)[name].read_text(encoding="utf-8", errors="replace")

    def _faults(self, method: str, body: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        faults: list[dict[str, Any]] = self._call(method, "control", "/localcloud/faults", body)[
            "faults"
        ]
        return faults

    def _call(
        self,
        method: str,
        service: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float = _REQUEST_SECONDS,
    ) -> dict[str, Any]:
        """Make one request to a service of the cloud.

        Raises:
            ValueError: it was refused, in the words of the service.
        """
        state = self.state
        request = urllib.request.Request(  # noqa: S310  # the address is the local cloud's
            state["services"][service] + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {state['secret']}",
                "Content-Type": "application/json",
            },
            method=method,
        )
        try:
            with _OPENER.open(request, timeout=seconds) as answer:
                content: dict[str, Any] = json.load(answer)
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(_refusal(error.read())) from None


def _refusal(body: bytes) -> str:
    """Return the message of a refusal."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
    return str(error["message"] if isinstance(error, dict) else error)


def run_command(settings: LocalSettings, state_file: Path, *, port: int = 0) -> list[str]:
    """Return the command line of a local cloud that ends when its standard input ends."""
    options = {
        "--port": port,
        "--state": state_file,
        "--times": settings.times,
        "--schedule-seconds": settings.schedule_seconds,
        "--emulators": settings.emulators,
    }
    if settings.heartbeat_seconds is not None:
        options["--heartbeat-seconds"] = settings.heartbeat_seconds
    command = [sys.executable, "-m", "localcloud", "run", "--attached"]
    for name, value in options.items():
        command += [name, str(value)]
    if settings.warm:
        command.append("--warm")
    if settings.write_requests:
        command.append("--write-requests")
    if settings.python_path:
        command += ["--python-path", str(settings.python_path)]
    for name, value in settings.overrides.items():
        command += ["--set", f"{name}={value}"]
    return command


def wait_for_cloud(state_file: Path, has_ended: Callable[[], bool], output: Path) -> RunningCloud:
    """Wait until a local cloud that is starting is ready.

    Args:
        state_file: its state file.
        has_ended: returns whether its process has ended.
        output: the file of its output.

    Raises:
        LocalCloudError: it has ended, or takes longer than 90 s; with its output.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and not has_ended():
        with contextlib.suppress(NoCloudError):
            return RunningCloud(state_file)
        time.sleep(_POLL_SECONDS)
    raise LocalCloudError(f"The local cloud does not start:\n{output.read_text(encoding='utf-8')}")


@contextlib.contextmanager
def start_cloud(settings: LocalSettings, *, port: int = 0) -> Iterator[RunningCloud]:
    """Run a local cloud while the context lasts. It ends with this process in any case.

    Raises:
        LocalCloudError: it does not start; with its output.
    """
    with tempfile.TemporaryDirectory(prefix="workspace-hub-") as folder:
        state_file, output = Path(folder, "state.json"), Path(folder, "output.txt")
        with (
            output.open("w", encoding="utf-8") as printed,
            subprocess.Popen(
                run_command(settings, state_file, port=port),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield wait_for_cloud(state_file, lambda: process.poll() is not None, output)
            finally:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # its reaper removes the rest
