"""A machine whose tools are fakes, on which the boot scripts run with real bash and coreutils.

Each tool that would change the real machine is a fake, first in PATH, which records its calls. The
home disk is a plain file, and the metadata server and the Hub listen on loopback. Nothing outside
of the test's own folder is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.boot.test_user_data import BASH_PATH, BOOT, needed

PATIENCE_SECONDS = 20.0  # for events that take less than a second

DISK_BYTES = 20 * 1024 * 1024

IMAGE = "us-west1-docker.pkg.dev/a-project/workspaces/workspace:v2"

HEALTH = "test -e /run/ready && echo 'it is'"

ATTRIBUTES = {
    "hub-workspace-id": "0d7b1b3e-3c53-4cf9-8b0c-0f4b1c0a9f11",
    "hub-workspace-name": "one",
    "hub-generation": "3",
    "hub-audience": "https://report-workspace.example.com/?a=b&c=d",
    "hub-image": IMAGE,
    "hub-repo": "https://example.com/repo.git",
    "hub-branch": "main",
    "hub-health-command": HEALTH,
    "hub-health-seconds": "180",
    "hub-heartbeat-seconds": "120",
    "hub-keep-awake-seconds": "3600",
    "hub-container-metadata": "false",
    "hub-container-shared-memory-mb": "2048",
    "hub-container-processes": "4000",
}

NO_ANSWER = 0  # not a status: the connection is closed without an answer

# Real tools: their calls are recorded, then they run, unless a test replaces them.
REAL = ("blkid", "curl", "fsck.ext4", "head", "mkfs.ext4", "resize2fs", "stat", "wc")

# A fake iptables that keeps its rules in a file.
RULES = """
[ "$1" = --wait ] || exit 2
rules="${FAKES}/${0##*/}.rules"
touch "${rules}"
case "$2" in
  --check) grep --quiet --line-regexp --fixed-strings -e "${*:3}" "${rules}" ;;
  --insert) echo "${*:3}" >>"${rules}" ;;
  --delete)
    grep --invert-match --line-regexp --fixed-strings -e "${*:3}" "${rules}" >"${rules}.new"
    mv "${rules}.new" "${rules}" ;;
esac
"""

FAKES: dict[str, str] = {  # the bash code of each fake, unless a test replaces it
    "docker": ":",
    "chown": ":",
    "docker-credential-gcr": ":",
    "ip6tables": "exit 1",
    "iptables": RULES,
    "install": 'mkdir -p "${@: -1}"',
    "mount": 'echo "${@: -1}" >>"${FAKES}/mounted"',
    "mountpoint": 'grep --quiet --line-regexp --fixed-strings -e "$2" "${FAKES}/mounted"',
    "pgrep": "exit 1",
    "sleep": "/bin/sleep 0.02",
    "sshd": ":",
    "sudo": "exit 1",
    "systemd-cat": 'shift 2; exec "$@"',
    "umount": "sed --in-place --expression '$d' \"${FAKES}/mounted\"",
    "systemctl": ":",
}

END = "\x1e"

FAKE = """#!/bin/bash
printf '%s\\0' "${{DOCKER_CONFIG:-}}" "${{0##*/}}" "$@" $'\\x1e' >>"${{FAKES}}/calls"
{answer}
"""


class Outside:
    """The metadata server and the Hub, at one address.

    A test may change the fields at any time.

    Attributes:
        attributes: the machine's metadata.
        hub_answers: the statuses of the Hub's next answers; after the last one, 204.
        metadata_answers: the statuses of the metadata server's next answers, without a body.
        tokens_refused: how many more requests for a token get no answer.
    """

    def __init__(self) -> None:
        self.attributes = dict(ATTRIBUTES)
        self.hub_answers: list[int] = []
        self.metadata_answers: list[int] = []
        self.tokens_refused = 0
        self.tokens: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.bearers: list[str] = []
        outside = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, text: str = "") -> None:
                if status == NO_ANSWER:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self) -> None:
                self.answer(*outside.metadata(self.path, self.headers.get("Metadata-Flavor")))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Content-Type"] == "application/json"
                outside.bearers.append(self.headers["Authorization"])
                outside.reports.append(body)
                self.answer(outside.hub_answers.pop(0) if outside.hub_answers else 204)

            def log_message(self, *args: Any) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.attributes["hub-reports-url"] = f"http://{self.host}/workspaces/x/reports"

    def metadata(self, path: str, flavor: str | None) -> tuple[int, str]:
        """Return the status and the text for a request of the metadata server."""
        if self.metadata_answers:
            return self.metadata_answers.pop(0), ""
        parts = urlsplit(path)
        below = parts.path.removeprefix("/computeMetadata/v1/instance/")
        if flavor != "Google":
            return 403, ""
        if below == "service-accounts/default/identity":
            if self.tokens_refused:
                self.tokens_refused -= 1
                return NO_ANSWER, ""
            assert parse_qs(parts.query) == {
                "audience": [self.attributes["hub-audience"]],
                "format": ["full"],
            }
            self.tokens.append(f"token-{len(self.tokens)}-{os.urandom(8).hex()}")
            return 200, self.tokens[-1]
        name = below.removeprefix("attributes/")
        return (200, self.attributes[name]) if name in self.attributes else (404, "")

    def events(self) -> list[str]:
        """Return the reported events in order; for a failure its code."""
        return [report.get("code", report["event"]) for report in self.reports]

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Machine:
    """A machine of fake tools, around the real scripts."""

    def __init__(self, folder: Path, outside: Outside) -> None:
        self.folder, self.outside = folder, outside
        self.fakes = folder / "fakes"
        self.disk, self.mount, self.secrets = (
            folder / "disk",
            folder / "mnt",
            folder / "run" / "secrets",
        )
        self.state, self.sshd_config = folder / "run" / "hub", folder / "sshd_config"
        self.output = folder / "output.txt"
        self._running: list[subprocess.Popen[bytes]] = []
        (self.fakes / "bin").mkdir(parents=True)
        (self.fakes / "mounted").touch()
        for name, answer in FAKES.items():
            self.fake(name, answer)
        for name in REAL:
            self.fake(name, f'exec {needed(name, "curl e2fsprogs util-linux")} "$@"')
        self.environment = {
            "PATH": f"{self.fakes / 'bin'}:{BASH_PATH}",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "FAKES": str(self.fakes),
            "DISK": str(self.disk),
            "MOUNT": str(self.mount),
            "SECRETS": str(self.secrets),
            "STATE": str(self.state),
            "SSHD_CONFIG": str(self.sshd_config),
            "GCE_METADATA_HOST": outside.host,
            "INET6": str(folder / "if_inet6"),
            "KERNEL_PANIC": str(folder / "kernel_panic"),
            "AGENTS": str(folder / "run" / "agents"),
            "STEADY_SECONDS": "0",
            "WATCH_SECONDS": "60",
        }

    def fake(self, name: str, answer: str) -> None:
        """Replace a tool by this bash code from now on."""
        tool, new = self.fakes / "bin" / name, self.fakes / "new"
        new.write_text(FAKE.format(answer=answer))
        new.chmod(0o755)
        new.replace(tool)  # a running process still reads the old file to its end

    def start(
        self, script: str, *arguments: str, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Start a script as its unit does, with no signal ignored.

        The tests themselves may run under nohup, which ignores one.
        """
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                ["/usr/bin/env", "--default-signal", "/bin/bash", str(BOOT / script), *arguments],
                env=self.environment,
                cwd=self.folder,
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def run(self, script: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> int:
        """Run a script to its end and return its exit status."""
        process = self.start(script, *arguments, stdin=stdin)
        # Popen.wait() with a timeout would look only twenty times a second.
        ended = os.pidfd_open(process.pid)
        try:
            assert select.select([ended], [], [], PATIENCE_SECONDS)[0], self.said()
        finally:
            os.close(ended)
        return process.wait()

    def said(self) -> str:
        """Return the output of the scripts."""
        return self.output.read_text()

    def records(self) -> list[list[str]]:
        """Return all calls of fake and recorded tools, each with its DOCKER_CONFIG first."""
        try:
            text = (self.fakes / "calls").read_bytes().decode()
        except FileNotFoundError:
            return []
        return [record.split("\0")[:-1] for record in text.split(f"{END}\0")[:-1]]

    def calls(self, *beginning: str) -> list[list[str]]:
        """Return the calls that begin with these words."""
        return [call for _, *call in self.records() if call[: len(beginning)] == list(beginning)]

    def until(self, true: Callable[[], object]) -> None:
        """Wait until a condition is true."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < give_up_at, (self.outside.reports, self.said())
            time.sleep(0.01)

    def rounds(self, count: int) -> None:
        """Wait until ready.sh has looked this many more times whether the workspace is in use."""
        before = len(self.calls("sleep", "60"))
        self.until(lambda: len(self.calls("sleep", "60")) > before + 2 * count)

    def end(self) -> None:
        """Kill all processes that still run."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


PULL_SAYS = """
case "$1 $2" in
  "pull "*) echo "{said}" >&2; exit 1 ;;
  "image inspect") exit {local} ;;
  "image ls") [ -e "${{FAKES}}/first-boot" ] || echo 1234567890ab ;;
esac
"""

DENIED = (
    "Error response from daemon: Head https://x/v2/y: denied:"
    " Permission artifactregistry.repositories.downloadArtifacts"
)

GUARD = (
    "OUTPUT --destination {} --protocol tcp ! --dport 53"
    " --match owner --uid-owner 1000 --jump REJECT"
)

GUARDS = {"iptables": GUARD.format("169.254.169.254"), "ip6tables": GUARD.format("fd20:ce::254")}


def rules(machine: Machine) -> dict[str, list[str]]:
    """Return the present firewall rules, by tool."""
    return {file.stem: file.read_text().splitlines() for file in machine.fakes.glob("ip*.rules")}
