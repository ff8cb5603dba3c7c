"""Runs functions and floors beside services that answer at once, and measures their processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.catalogue import ROOT, Function, read_catalogue
from localcloud.processes.children import free_ports
from localcloud.processes.functions import Deployment, function_program
from localcloud.services.identity.tokens import TokenIssuer, UserToken
from localcloud.services.project import Project
from localcloud.settings import Addresses, LocalSettings, environment
from tests.bench.instant_services import PERSON, instant_services
from tests.processes import running_function

_START_SECONDS = 60
_POLL_SECONDS = 0.005
_AUDIENCE, _REPORTS_URL = "http://127.0.0.1:1", "http://127.0.0.1:2"
_LIMITS = (
    "HUB_WORKSPACES_PER_OWNER",
    "HUB_RUNNING_PER_OWNER",
    "HUB_CHANGES_PER_MINUTE",
    "HUB_REQUESTS_PER_MINUTE",
)


@dataclass(frozen=True, kw_only=True)
class Process:
    """A function that answers: its process group, its port, and when it was started."""

    group: int
    port: int
    started_at: float

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes have used."""
        tick = os.sysconf("SC_CLK_TCK")
        return sum(sum(map(int, stat[13:15])) / tick for _, stat in self._processes())

    def proportional_mib(self) -> float:
        """Return the memory of its processes together, without counting a shared page twice."""
        sizes = [(folder / "smaps_rollup").read_text() for folder, _ in self._processes()]
        found = [re.search(r"^Pss:\s+(\d+) kB$", size, re.MULTILINE) for size in sizes]
        return sum(int(size[1]) for size in found if size) / 1024

    def _processes(self) -> Iterator[tuple[Path, list[str]]]:
        """Yield the folder in ``/proc`` of each process, with the fields of its ``stat``."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                before, _, after = (folder / "stat").read_text().rpartition(")")
                stat = [folder.name, before, *after.split()]
                if int(stat[4]) == self.group:
                    yield folder, stat


class Bench:
    """Functions and floors, as the local cloud runs them, with services that answer at once."""

    def __init__(self, issuer: TokenIssuer, services: Mapping[str, Any]) -> None:
        self.workspaces: list[str] = services["workspaces"]
        self._issuer = issuer
        self._grpc = services["grpc"]
        self._settings = environment(
            LocalSettings(overrides=dict.fromkeys(_LIMITS, "1000000")),
            Addresses(
                gateway=_AUDIENCE,
                firestore=self._grpc,
                pubsub=self._grpc,
                tasks=self._grpc,
                compute=services["http"],
                keys=f"http://{services['http']}/keys",
                advance_operation="http://127.0.0.1:3",
                report_workspace=_REPORTS_URL,
            ),
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """The settings of the functions."""
        return self._settings

    def token(self, email: str = PERSON) -> str:
        """Return a person's ID token."""
        return self._issuer.user_token(UserToken(email=email, audience=_AUDIENCE))

    @contextlib.contextmanager
    def function(self, function: Function) -> Iterator[Process]:
        """Run a function of the Hub from its start to its end."""
        deployment = Deployment(shipped=ROOT, settings=self._settings)
        with tempfile.TemporaryDirectory() as folder:
            [port] = free_ports(1)
            program = function_program(
                function, deployment, port=port, folder=Path(folder), log=Path(folder, "log")
            )
            with _running(program.environment, Path(folder), port) as process:
                yield process

    @contextlib.contextmanager
    def floor(self, name: str, *, like: str) -> Iterator[Process]:
        """Run a floor, with as many threads as the function ``like``."""
        with tempfile.TemporaryDirectory() as folder:
            [port] = free_ports(1)
            variables = {
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "FUNCTION_TARGET": name,
                "FUNCTION_SOURCE": str(Path(__file__).parent / "floor" / f"{name}.py"),
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "THREADS": read_catalogue()[like].environment(str(ROOT))["THREADS"],
                "GOOGLE_CLOUD_PROJECT": self._settings["GOOGLE_CLOUD_PROJECT"],
                "FIRESTORE_EMULATOR_HOST": self._grpc,
                "PUBSUB_EMULATOR_HOST": self._grpc,
            }
            with _running(variables, Path(folder), port) as process:
                yield process


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Run the services that answer at once."""
    settings = LocalSettings()
    issuer = TokenIssuer(
        Project(id=settings.project_id, number=settings.project_number, zones=settings.zones)
    )
    with instant_services(issuer.key_set()) as services:
        yield Bench(issuer, services)


@contextlib.contextmanager
def _running(environment: Mapping[str, str], folder: Path, port: int) -> Iterator[Process]:
    started_at = time.perf_counter()
    with running_function(environment, folder) as child:
        yield Process(group=child.pid, port=port, started_at=started_at)


def first_answer(process: Process, method: str, path: str, **sent: Any) -> http.client.HTTPResponse:
    """Send a request as soon as the process accepts connections, and return its answer, read."""
    give_up_at = time.monotonic() + _START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=_START_SECONDS)
        try:
            connection.connect()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(_POLL_SECONDS)
            continue
        with contextlib.closing(connection):
            connection.request(method, path, **sent)
            answer = connection.getresponse()
            answer.read()
            return answer
