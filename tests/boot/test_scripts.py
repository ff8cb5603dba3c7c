"""The boot scripts, run: real bash, coreutils, e2fsprogs, blkid and curl; the machine around them is made up.

What would change the real machine is a fake tool, first in PATH, which notes how it was called. The home disk is a plain file,
and the metadata server and the Hub listen on loopback. Nothing is touched outside of the test's own folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from localcloud.catalogue import ROOT
from localcloud.client import RunningCloud
from localcloud.person import Person
from tests.boot.test_user_data import BASH_PATH, BOOT, needed, source
from tests.guests.nspawn import metadata_handler

PATIENCE_SECONDS = 20.0  # for what takes a part of one
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
}
AWAY = 0  # not a status: the connection is closed without a word
REAL = ("blkid", "curl", "fsck.ext4", "head", "mkfs.ext4", "wc")  # noted, then run, unless a test says otherwise
FAKES: dict[str, str] = {  # what each answers unless a test says otherwise, in bash
    "docker": ":",
    "docker-credential-gcr": ":",
    "install": 'mkdir -p "${@: -1}"',
    "mount": 'echo "${@: -1}" >>"${FAKES}/mounted"',
    "mountpoint": 'grep --quiet --line-regexp --fixed-strings -e "$2" "${FAKES}/mounted"',
    "pgrep": "exit 1",
    "sleep": "/bin/sleep 0.02",
    "ss": ":",
    "sshd": ":",
    "sudo": "exit 1",
    "systemctl": "echo 0",
}
END = "\x1e"
FAKE = """#!/bin/bash
printf '%s\\0' "${{DOCKER_CONFIG:-}}" "${{0##*/}}" "$@" $'\\x1e' >>"${{FAKES}}/calls"
{answer}
"""


class Outside:
    """The metadata server and the Hub, at one address.

    ``attributes`` and ``hub_says`` may be changed at any time; ``hub_says`` is used up from its start, and then it is 204.
    ``tokens_refused`` is how many more times nobody answers who asks for a token.
    """

    def __init__(self) -> None:
        self.attributes = dict(ATTRIBUTES)
        self.hub_says: list[int] = []
        self.metadata_says: list[int] = []
        self.tokens_refused = 0
        self.tokens: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.bearers: list[str] = []
        outside = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, text: str = "") -> None:
                if status == AWAY:
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
                self.answer(outside.hub_says.pop(0) if outside.hub_says else 204)

            def log_message(self, *args: Any) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.attributes["hub-reports-url"] = f"http://{self.host}/workspaces/x/reports"

    def metadata(self, path: str, flavor: str | None) -> tuple[int, str]:
        """Return a status and what is served."""
        if self.metadata_says:
            return self.metadata_says.pop(0), ""
        parts = urlsplit(path)
        below = parts.path.removeprefix("/computeMetadata/v1/instance/")
        if flavor != "Google":
            return 403, ""
        if below == "service-accounts/default/identity":
            if self.tokens_refused:
                self.tokens_refused -= 1
                return AWAY, ""
            assert parse_qs(parts.query) == {"audience": [self.attributes["hub-audience"]], "format": ["full"]}
            self.tokens.append(f"token-{len(self.tokens)}-{os.urandom(8).hex()}")
            return 200, self.tokens[-1]
        name = below.removeprefix("attributes/")
        return (200, self.attributes[name]) if name in self.attributes else (404, "")

    def events(self) -> list[str]:
        """Return what was reported, in order: events, and codes of failures."""
        return [report.get("code", report["event"]) for report in self.reports]

    def close(self) -> None:
        """Serve nothing any more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Machine:
    """A machine that is made up around the scripts."""

    def __init__(self, folder: Path, outside: Outside) -> None:
        self.folder, self.outside = folder, outside
        self.fakes = folder / "fakes"
        self.disk, self.mount, self.secrets = folder / "disk", folder / "mnt", folder / "run" / "secrets"
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
        }

    def fake(self, name: str, answer: str) -> None:
        """Have a tool do this, in bash, from now on."""
        tool, new = self.fakes / "bin" / name, self.fakes / "new"
        new.write_text(FAKE.format(answer=answer))
        new.chmod(0o755)
        new.replace(tool)  # whoever reads the old one reads it to its end

    def start(self, script: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a script as its unit does."""
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                ["/bin/bash", str(BOOT / script), *arguments],
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
        ended = os.pidfd_open(process.pid)  # Popen.wait() with a timeout looks but twenty times a second
        try:
            assert select.select([ended], [], [], PATIENCE_SECONDS)[0], self.said()
        finally:
            os.close(ended)
        return process.wait()

    def said(self) -> str:
        """Return what the scripts wrote."""
        return self.output.read_text()

    def records(self) -> list[list[str]]:
        """Return all calls of fake and noted tools, each after the DOCKER_CONFIG that it had."""
        try:
            text = (self.fakes / "calls").read_bytes().decode()
        except FileNotFoundError:
            return []
        return [record.split("\0")[:-1] for record in text.split(f"{END}\0")[:-1]]

    def calls(self, *beginning: str) -> list[list[str]]:
        """Return the calls that begin with these words."""
        return [call for _, *call in self.records() if call[: len(beginning)] == list(beginning)]

    def until(self, true: Callable[[], object]) -> None:
        """Wait until it is so."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < give_up_at, (self.outside.reports, self.said())
            time.sleep(0.01)

    def rounds(self, count: int) -> None:
        """Wait until ready.sh has looked as often again whether it is in use."""
        before = len(self.calls("sleep", "120"))
        self.until(lambda: len(self.calls("sleep", "120")) > before + count)

    def end(self) -> None:
        """End whatever still runs."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def outside() -> Iterator[Outside]:
    """The metadata server and the Hub."""
    outside = Outside()
    yield outside
    outside.close()


@pytest.fixture
def machine(tmp_path: Path, outside: Outside) -> Iterator[Machine]:
    """A machine at its boot; no disk is attached yet. No token may be seen on it, and a report is made with each only once."""
    machine = Machine(tmp_path, outside)
    yield machine
    machine.end()
    machine.disk.unlink(missing_ok=True)  # pytest keeps the folders of its last runs
    seen = json.dumps(machine.records()) + (machine.said() if machine.output.exists() else "")
    assert not [token for token in outside.tokens if token in seen]
    assert len(set(outside.bearers)) == len(outside.bearers)
    assert set(outside.bearers) <= {f"Bearer {token}" for token in outside.tokens}


# ---- disk.sh --------------------------------------------------------------------------------------------------------


def attach(machine: Machine, **contents: bytes) -> None:
    """Attach a home disk with nothing on it but what is given: ``at_510=...``."""
    with machine.disk.open("wb") as disk:
        disk.truncate(DISK_BYTES)
        for place, content in contents.items():
            disk.seek(int(place.removeprefix("at_")))
            disk.write(content)


def attach_ext4(machine: Machine, **files: str) -> None:
    """Attach a home disk of ours with files on it."""
    attach(machine)
    contents = machine.folder / "contents"
    contents.mkdir()
    for name, text in files.items():
        (contents / name).write_text(text)
    mkfs = needed("mkfs.ext4", "e2fsprogs")
    subprocess.run([mkfs, "-q", "-d", str(contents), str(machine.disk)], check=True, capture_output=True)


def read(machine: Machine, name: str) -> str:
    """Return a file's text from the home disk."""
    command = [needed("debugfs", "e2fsprogs"), "-R", f"cat {name}", str(machine.disk)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def digest(machine: Machine) -> str:
    """Return a hash of everything on the home disk."""
    with machine.disk.open("rb") as disk:
        return hashlib.file_digest(disk, "sha256").hexdigest()


def check_home_mounted(machine: Machine) -> None:
    """See that the home disk was mounted once, so that nobody becomes root or reaches a device by what is on it."""
    [mount] = machine.calls("mount", "-t", "ext4")
    assert mount == ["mount", "-t", "ext4", "-o", "nosuid,nodev,discard", str(machine.disk), str(machine.mount)]
    [install] = machine.calls("install")
    assert install[1:] == ["-d", "-o", "1000", "-g", "1000", "-m", "0750", f"{machine.mount}/home"]


def test_a_blank_disk_is_formatted_and_mounted(machine: Machine) -> None:
    """By the real mkfs, which the real blkid then knows."""
    attach(machine)

    assert machine.run("disk.sh") == 0, machine.said()

    check_home_mounted(machine)
    command = [needed("blkid", "util-linux"), "--probe", "-o", "export", str(machine.disk)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert {"TYPE=ext4", "LABEL=workspace-home"} <= set(found.splitlines())
    assert machine.outside.reports == []


def test_run_again_it_changes_nothing(machine: Machine) -> None:
    """While all is mounted."""
    attach(machine)
    machine.run("disk.sh")
    before = digest(machine)

    assert machine.run("disk.sh") == 0, machine.said()

    check = len(machine.calls("install"))
    assert (len(machine.calls("mkfs.ext4")), len(machine.calls("mount")), check) == (1, 2, 2)
    assert digest(machine) == before


def test_at_the_next_boot_the_disk_is_not_formatted_again(machine: Machine) -> None:
    """Nothing is mounted then; the file system is checked, and what was put there since is still there."""
    attach(machine)
    machine.run("disk.sh")
    (machine.fakes / "mounted").write_text("")
    work = machine.folder / "work"
    work.write_text("all of it")
    write = [needed("debugfs", "e2fsprogs"), "-w", "-R", f"write {work} work", str(machine.disk)]
    subprocess.run(write, check=True, capture_output=True)

    assert machine.run("disk.sh") == 0, machine.said()

    assert (len(machine.calls("mkfs.ext4")), len(machine.calls("mount", "-t", "ext4"))) == (1, 2)
    assert len(machine.calls("fsck.ext4", "-p")) == 2
    assert read(machine, "work") == "all of it"


def test_what_is_on_a_disk_of_ours_stays(machine: Machine) -> None:
    """A person's work, from a machine that is gone."""
    attach_ext4(machine, work="all of it")

    assert machine.run("disk.sh") == 0, machine.said()

    check_home_mounted(machine)
    assert machine.calls("mkfs.ext4") == []
    assert read(machine, "work") == "all of it"


def test_a_disk_that_comes_late_is_waited_for(machine: Machine) -> None:
    """It gets its name from udev some time into the boot."""
    attach_ext4(machine)
    elsewhere = machine.disk.rename(machine.folder / "elsewhere")
    machine.fake("sleep", f'[ ! -e {machine.folder}/soon ] || mv {elsewhere} "${{DISK}}"; touch {machine.folder}/soon')

    assert machine.run("disk.sh") == 0, machine.said()

    assert machine.calls("sleep") == [["sleep", "1"]] * 2
    check_home_mounted(machine)


def check_left_alone(machine: Machine, code: str) -> None:
    """See that the disk is reported, neither mounted nor formatted nor changed by a bit, and that there are no secrets."""
    before = digest(machine)

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == [code]
    [report] = machine.outside.reports
    assert report.keys() == {"event", "generation", "code", "message"}
    assert (report["event"], report["generation"]) == ("failed", 3)
    assert report["message"].endswith(".")
    assert machine.calls("mount", "-t") == []
    assert digest(machine) == before


def mbr() -> dict[str, bytes]:
    """Return a partition table with one partition, that holds nothing yet."""
    return {"at_446": bytes.fromhex("80 202100 83 dd1e3f 00080000 00f80000"), "at_510": b"\x55\xaa"}


FOREIGN: dict[str, Callable[[], dict[str, bytes]]] = {
    "a partition table": mbr,
    "encryption": lambda: {"at_0": b"LUKS\xba\xbe\x00\x02" + bytes(8) + b"\x40"},
    "xfs": lambda: {"at_0": b"XFSB\x00\x00\x10\x00"},
    "btrfs": lambda: {"at_65600": b"_BHRfS_M"},
    "squashfs": lambda: {"at_0": b"hsqs"},
    "what nobody knows": lambda: {"at_0": os.urandom(65536)},
    "what nobody knows, behind zeros": lambda: {"at_16000000": os.urandom(100)},
    "a single byte": lambda: {"at_1000000": b"\x01"},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_not_ours_is_reported_and_left_alone(machine: Machine, what: str) -> None:
    """Whether blkid knows it or not: only zeros are nothing."""
    attach(machine, **FOREIGN[what]())

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


@pytest.mark.parametrize(
    ("tool", "package", "options"),
    [
        ("mkswap", "util-linux", []),
        ("mkfs.ext3", "e2fsprogs", ["-q"]),
        ("mkfs.vfat", "dosfstools", []),
        ("mkfs.xfs", "xfsprogs", ["-q"]),
    ],
)
def test_another_file_system_is_reported_and_left_alone(
    machine: Machine, tool: str, package: str, options: list[str]
) -> None:
    """As its own tool makes it."""
    attach(machine)
    if tool == "mkfs.xfs":
        os.truncate(machine.disk, 320 * 1024 * 1024)  # it makes none that is smaller
    subprocess.run([needed(tool, package), *options, str(machine.disk)], check=True, capture_output=True)

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


def test_a_disk_of_ours_that_lost_its_beginning_is_not_blank(machine: Machine) -> None:
    """To blkid there is nothing any more; what it holds can still be rescued."""
    attach_ext4(machine, work="all of it")
    with machine.disk.open("r+b") as disk:
        disk.write(bytes(4096))

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


def test_a_disk_that_breaks_off_while_it_is_read_is_not_blank(machine: Machine) -> None:
    """Zeros as far as they came, and then an error: the rest may be anything."""
    attach(machine)
    broken = "printf '\\0'; echo 'head: error reading: Input/output error' >&2; exit 1"
    machine.fake("head", f'case "$*" in *16M*) {broken} ;; esac; exec /usr/bin/head "$@"')

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


def test_a_disk_that_cannot_be_read_at_all_is_not_blank(machine: Machine) -> None:
    """The kernel's own input/output error: nothing is mapped where this begins."""
    attach(machine)
    machine.environment["DISK"] = "/proc/self/mem"
    machine.fake("mkfs.ext4", ":")

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


def test_a_disk_that_is_not_there_is_reported(machine: Machine) -> None:
    """After a minute; nothing is made in its place."""
    machine.fake("sleep", ":")

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["DISK_MISSING"]
    assert machine.calls("sleep") == [["sleep", "1"]] * 60
    assert not machine.disk.exists()
    assert machine.calls("mount") == []


def test_a_disk_that_cannot_be_formatted_is_reported(machine: Machine) -> None:
    """It is not mounted then."""
    attach(machine)
    machine.fake("mkfs.ext4", "exit 1")

    check_left_alone(machine, "DISK_NOT_FORMATTED")


@pytest.mark.parametrize("status", [4, 8, 12, 127])
def test_a_damaged_file_system_is_reported_and_not_mounted(machine: Machine, status: int) -> None:
    """With 4 fsck says that errors are left, with 8 and above that it could not do its work."""
    attach_ext4(machine)
    machine.fake("fsck.ext4", f"exit {status}")

    check_left_alone(machine, "DISK_DAMAGED")


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_repaired_file_system_is_mounted(machine: Machine, status: int) -> None:
    """With 1 and 2 fsck says that errors were corrected."""
    attach_ext4(machine)
    machine.fake("fsck.ext4", f"exit {status}")

    assert machine.run("disk.sh") == 0, machine.said()
    check_home_mounted(machine)


def test_a_disk_that_does_not_mount_is_reported(machine: Machine) -> None:
    """Nothing is put into the folder where it should be: it would be lost with the machine."""
    attach_ext4(machine, work="all of it")
    machine.fake("mount", 'case "$*" in *ext4*) exit 32 ;; esac')

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["DISK_UNMOUNTABLE"]
    assert machine.calls("install") == machine.calls("mount", "-t", "tmpfs") == []
    assert read(machine, "work") == "all of it"


SECRETS_OPTIONS = "size=16m,mode=0700,uid=1000,gid=1000,noexec,nosuid,nodev"
NO_NOSWAP = 'case "$*" in *noswap*) exit 32 ;; esac; echo "${@: -1}" >>"${FAKES}/mounted"'


def swapping(machine: Machine, swaps: int) -> None:
    """Have /proc/swaps list so many, under its heading."""
    machine.fake("wc", f'[ "$1" != --lines ] || exec echo {swaps + 1}; exec /usr/bin/wc "$@"')


@pytest.mark.parametrize("swaps", [0, 1])
def test_secrets_are_in_memory_and_never_in_swap(machine: Machine, swaps: int) -> None:
    """On a kernel that can promise it, it may swap as it likes."""
    attach_ext4(machine)
    swapping(machine, swaps)

    assert machine.run("disk.sh") == 0, machine.said()

    assert machine.calls("mount", "-t", "tmpfs") == [
        ["mount", "-t", "tmpfs", "-o", f"{SECRETS_OPTIONS},noswap", "tmpfs", str(machine.secrets)]
    ]


def test_an_older_kernel_without_swap_will_do(machine: Machine) -> None:
    """It refuses the option; there is nowhere to swap to."""
    attach_ext4(machine)
    machine.fake("mount", NO_NOSWAP)
    swapping(machine, 0)

    assert machine.run("disk.sh") == 0, machine.said()

    options = [mount[4] for mount in machine.calls("mount", "-t", "tmpfs")]
    assert options == [f"{SECRETS_OPTIONS},noswap", SECRETS_OPTIONS]


def test_an_older_kernel_that_swaps_gets_no_secrets(machine: Machine) -> None:
    """They would end up on its boot disk."""
    attach_ext4(machine)
    machine.fake("mount", NO_NOSWAP)
    swapping(machine, 1)

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["SECRETS_NOT_SAFE"]
    assert len(machine.calls("mount", "-t", "tmpfs")) == 1


def test_without_a_place_for_secrets_there_is_no_workspace(machine: Machine) -> None:
    """Whatever the reason."""
    attach_ext4(machine)
    machine.fake("mount", 'case "$*" in *tmpfs*) exit 32 ;; esac')
    swapping(machine, 0)

    assert machine.run("disk.sh") == 1
    assert machine.outside.events() == ["SECRETS_NOT_SAFE"]


# ---- container.sh ---------------------------------------------------------------------------------------------------

HOSTILE = {
    "quotes": "\"; touch x; ' -x",
    "a command": "$(touch x)`touch x`",
    "lines": "one\n--privileged\ntwo",
    "an option": "--privileged",
    "a pattern": "* ? [a] ~ {a,b}",
    "spaces": "  two  words  ",
    "a backslash": "\\n%s\\",
    "beyond ASCII": "größe \U0001f600",
    "10 KB": "x'\"$(" * 2000,
    "nothing": "",
}
PULL_SAYS = 'case "$1 $2" in "pull "*) echo "{said}" >&2; exit 1 ;; "image inspect") exit {local} ;; esac'
DENIED = "Error response from daemon: Head https://x/v2/y: denied: Permission artifactregistry.repositories.downloadArtifacts"
MISSING = "Error response from daemon: manifest for x:v2 not found: manifest unknown: Failed to fetch v2"
TIMED_OUT = "Error response from daemon: Get https://x/v2/: net/http: request canceled while waiting for connection"


def run_arguments(machine: Machine, **changes: str) -> list[str]:
    """Return how the container is to be run."""
    told = {**ATTRIBUTES, **changes}
    return [
        *("docker", "run", "--rm", "--name", "workspace", "--init", "--user", "1000:1000", "--network", "host"),
        *("--security-opt", "no-new-privileges"),
        *("--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=3"),
        *("--volume", f"{machine.mount}/home:/home/workspace"),
        *("--volume", f"{machine.secrets}:/run/secrets", "--volume", f"{machine.secrets}:/dev/shm/secrets"),
        *("--env", "HOME=/home/workspace"),
        *("--env", f"WORKSPACE_ID={told['hub-workspace-id']}"),
        *("--env", f"WORKSPACE_NAME={told['hub-workspace-name']}"),
        *("--env", f"WORKSPACE_REPO={told['hub-repo']}"),
        *("--env", f"WORKSPACE_BRANCH={told['hub-branch']}"),
        *("--env", "WORKSPACE_SECRETS=/run/secrets"),
        *("--workdir", "/home/workspace"),
        told["hub-image"],
    ]


def test_the_container_is_run_as_nobody_special(machine: Machine) -> None:
    """Pulled, what was left of the last one taken away, then run in the foreground: not privileged, as user 1000."""
    machine.fake("docker", '[ "$1" != run ] || exit 42')

    assert machine.run("container.sh") == 42

    pull, remove, run = machine.calls("docker")
    assert pull == ["docker", "pull", "--quiet", IMAGE]
    assert remove == ["docker", "rm", "--force", "workspace"]
    assert run == run_arguments(machine)
    assert "--privileged" not in run
    assert machine.outside.reports == []


@pytest.mark.parametrize("what", HOSTILE)
def test_what_a_person_wrote_is_one_argument(machine: Machine, what: str) -> None:
    """Nothing in it is run, and nothing of it becomes an option."""
    changes = dict.fromkeys(("hub-workspace-name", "hub-repo", "hub-branch", "hub-workspace-id"), HOSTILE[what])
    machine.outside.attributes |= changes

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker", "run") == [run_arguments(machine, **changes)]
    assert not list(machine.folder.rglob("x"))


def test_an_image_of_a_hostile_name_is_one_argument(machine: Machine) -> None:
    """To the registry's helper too."""
    image = "$(touch x).pkg.dev/`touch x`:v2; touch x"
    machine.outside.attributes["hub-image"] = image

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker", "pull") == [["docker", "pull", "--quiet", image]]
    assert machine.calls("docker", "run")[0][-1] == image
    assert machine.calls("docker-credential-gcr")[0][-1] == "--registries=$(touch x).pkg.dev"
    assert not list(machine.folder.rglob("x"))


@pytest.mark.parametrize("registry", ["us-west1-docker.pkg.dev", "gcr.io", "eu.gcr.io"])
def test_googles_registries_are_asked_as_the_machine(machine: Machine, registry: str) -> None:
    """By the credential helper, configured where it can be written: root's home cannot be."""
    machine.outside.attributes["hub-image"] = f"{registry}/a-project/workspace:v2"

    assert machine.run("container.sh") == 0, machine.said()

    configure = ["docker-credential-gcr", "configure-docker", f"--registries={registry}"]
    assert machine.calls("docker-credential-gcr") == [configure]
    kept = {record[0] for record in machine.records() if record[1].startswith("docker")}
    assert kept == {f"{machine.state}/docker"}


@pytest.mark.parametrize("image", ["docker.io/library/debian:12", "debian", "pkg.dev.example.com/a:v2", "gcr.io.x/a"])
def test_other_registries_never_see_the_machines_credentials(machine: Machine, image: str) -> None:
    """The helper is not even set up."""
    machine.outside.attributes["hub-image"] = image

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker-credential-gcr") == []
    assert {record[0] for record in machine.records() if record[1] == "docker"} == {""}


@pytest.mark.parametrize(
    ("said", "code", "pulls"),
    [
        (DENIED, "IMAGE_DENIED", 1),
        ("unauthorized: authentication required", "IMAGE_DENIED", 1),
        ("error pulling image: received unexpected HTTP status: 403 Forbidden", "IMAGE_DENIED", 1),
        (MISSING, "IMAGE_MISSING", 1),
        ("invalid reference format", "IMAGE_MISSING", 1),
        ("name unknown: Repository x", "IMAGE_MISSING", 1),
        (TIMED_OUT, "IMAGE_PULL_FAILED", 5),
        ("toomanyrequests: You have reached your pull rate limit", "IMAGE_PULL_FAILED", 5),
    ],
)
def test_why_an_image_cannot_be_pulled_is_reported(machine: Machine, said: str, code: str, pulls: int) -> None:
    """What is definite at once; what may pass after it was tried again."""
    machine.fake("docker", PULL_SAYS.format(said=said, local=1))

    assert machine.run("container.sh") == 1

    assert machine.outside.events() == [code]
    assert len(machine.calls("docker", "pull")) == pulls
    assert machine.calls("docker", "run") == []
    assert said in machine.said()


def test_a_registry_that_comes_back_is_used(machine: Machine) -> None:
    """Nothing is reported."""
    machine.fake(
        "docker",
        f'[ "$1" != image ] || exit 1; [ "$1" != pull ] || [ -e "${{FAKES}}/back" ] || {{ echo "{TIMED_OUT}"; exit 1; }}',
    )
    machine.fake("sleep", 'touch "${FAKES}/back"')

    assert machine.run("container.sh") == 0, machine.said()

    assert len(machine.calls("docker", "pull")) == 2
    assert len(machine.calls("docker", "run")) == 1
    assert machine.outside.reports == []


@pytest.mark.parametrize("said", [TIMED_OUT, DENIED, MISSING])
def test_an_image_that_is_here_does_without_its_registry(machine: Machine, said: str) -> None:
    """Nobody is kept from their workspace by a registry that is away or has forgotten."""
    machine.fake("docker", PULL_SAYS.format(said=said, local=0))

    assert machine.run("container.sh") == 0, machine.said()

    assert len(machine.calls("docker", "pull")) == 1
    assert machine.calls("docker", "run") == [run_arguments(machine)]
    assert machine.outside.reports == []


def test_a_metadata_server_that_stumbles_is_asked_again(machine: Machine) -> None:
    """It does so early in a boot."""
    machine.outside.metadata_says = [503]

    assert machine.run("container.sh") == 0, machine.said()
    assert machine.calls("docker", "run") == [run_arguments(machine)]


def test_without_its_metadata_no_container_is_run(machine: Machine) -> None:
    """One without its settings would be somebody else's; systemd starts the script again."""
    del machine.outside.attributes["hub-branch"]

    assert machine.run("container.sh") != 0
    assert machine.calls("docker") == []


# ---- ready.sh -------------------------------------------------------------------------------------------------------

# A container that runs while there is a file `running`, which says what its image's health check says; it is healthy to
# the Hub's command while there is a file `well`.
CONTAINER = """
case "$1" in
  inspect) [ -e "${FAKES}/running" ] && printf 'true%s\\n' "$(<"${FAKES}/running")" ;;
  exec) [ -e "${FAKES}/well" ] ;;
esac
"""


def is_now(machine: Machine, name: str, content: str = "") -> None:
    """Make a file that the fakes look at."""
    (machine.fakes / "new").write_text(content)
    (machine.fakes / "new").replace(machine.fakes / name)


def a_container(machine: Machine, *states: str) -> None:
    """Put a container on the machine."""
    machine.fake("docker", CONTAINER)
    for state in states:
        is_now(machine, state)


def ready(machine: Machine) -> None:
    """Have a machine report that it is ready."""
    a_container(machine, "running", "well")
    machine.start("ready.sh")
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]


def test_ready_is_reported_once_the_container_runs_and_is_healthy(machine: Machine) -> None:
    """Not before: a person who is told so comes at once."""
    a_container(machine)
    machine.start("ready.sh")
    machine.until(lambda: len(machine.calls("docker", "inspect")) > 3)
    assert machine.calls("docker", "exec") == []

    is_now(machine, "running")
    machine.until(lambda: len(machine.calls("docker", "exec")) > 3)
    assert machine.outside.reports == []

    is_now(machine, "well")
    machine.until(machine.outside.events)
    assert machine.outside.reports == [{"event": "ready", "generation": 3}]
    assert machine.calls("docker", "exec")[0] == ["docker", "exec", "workspace", "/bin/sh", "-c", HEALTH]


def test_an_images_own_health_check_counts_too(machine: Machine) -> None:
    """While it is starting or unhealthy the Hub's command is not asked; without a command it alone decides."""
    machine.outside.attributes["hub-health-command"] = ""
    a_container(machine)
    is_now(machine, "running", " starting")
    machine.start("ready.sh")
    machine.until(lambda: len(machine.calls("docker", "inspect")) > 4)
    is_now(machine, "running", " unhealthy")
    so_far = len(machine.calls("docker", "inspect"))
    machine.until(lambda: len(machine.calls("docker", "inspect")) > so_far + 3)
    assert machine.outside.reports == []

    is_now(machine, "running", " healthy")
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]
    assert machine.calls("docker", "exec") == []


def test_a_container_that_is_not_healthy_in_time_is_reported(machine: Machine) -> None:
    """It runs, but nobody could work in it."""
    machine.outside.attributes["hub-health-seconds"] = "1"
    a_container(machine, "running")

    assert machine.run("ready.sh") == 1
    assert machine.outside.events() == ["CONTAINER_UNHEALTHY"]


def test_a_container_that_does_not_start_in_time_is_reported(machine: Machine) -> None:
    """Its image is being pulled, perhaps, and the Hub has given up by then."""
    machine.environment["START_SECONDS"] = "1"
    a_container(machine)

    assert machine.run("ready.sh") == 1
    assert machine.outside.events() == ["CONTAINER_NOT_RUNNING"]


@pytest.mark.parametrize("states", [[], ["running"]])
def test_a_container_that_ends_at_once_is_reported(machine: Machine, states: list[str]) -> None:
    """Started again and again by systemd, whether it is caught running or not."""
    a_container(machine, *states)
    machine.fake("systemctl", "echo 5")

    assert machine.run("ready.sh") == 1

    assert machine.outside.events() == ["CONTAINER_ENDS"]
    (machine.state / "container-ended").write_text("125\n")
    assert machine.run("ready.sh") == 1
    assert machine.outside.events()[-1] == "CONTAINER_REFUSED"  # Docker's own status: the image is innocent
    show = ["systemctl", "show", "--property", "NRestarts", "--value", "workspace-container.service"]
    assert machine.calls("systemctl")[0] == show


def test_nobody_there_is_no_heartbeat(machine: Machine) -> None:
    """Or no workspace would ever be idle."""
    ready(machine)
    machine.rounds(5)

    assert machine.outside.events() == ["ready"]
    established = ["ss", "--no-header", "--tcp", "state", "established", "( sport = :22 )"]
    assert machine.calls("ss")[0] == established
    assert machine.calls("pgrep")[0] == ["pgrep", "--euid", "0", "--full", "^docker (exec --interactive --tty|attach) "]


@pytest.mark.parametrize(
    ("tool", "answer"),
    [("ss", "echo '0 0 10.0.0.2:22 35.235.240.9:41234'"), ("pgrep", "echo 812")],
    ids=["an SSH session", "a docker exec"],
)
def test_somebody_there_is_a_heartbeat_for_as_long_as_they_stay(machine: Machine, tool: str, answer: str) -> None:
    """It begins when they come and ends when they go; each report is of this boot."""
    ready(machine)
    machine.fake(tool, answer)
    machine.until(lambda: len(machine.outside.reports) > 3)

    machine.fake(tool, FAKES[tool])
    machine.rounds(2)
    so_far = len(machine.outside.reports)
    machine.rounds(4)

    assert len(machine.outside.reports) == so_far
    assert machine.outside.reports[1:] == [{"event": "heartbeat", "generation": 3}] * (so_far - 1)


def keep_awake(machine: Machine, age_seconds: float) -> None:
    """Touch the file that asks for it, so long ago."""
    file = machine.mount / "home" / ".keep-awake"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    at = time.time() - age_seconds
    os.utime(file, (at, at))


@pytest.mark.parametrize("age_seconds", [5, 3500, -30], ids=["just now", "within the hour", "a clock that differs"])
def test_who_asks_for_it_is_kept_awake(machine: Machine, age_seconds: float) -> None:
    """For as long as the Hub allows since the file was last touched."""
    keep_awake(machine, age_seconds)
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 2)
    assert machine.outside.events()[:3] == ["ready", "heartbeat", "heartbeat"]


@pytest.mark.parametrize("age_seconds", [3700, -3600], ids=["too long ago", "from the future"])
def test_nobody_is_kept_awake_for_ever(machine: Machine, age_seconds: float) -> None:
    """Neither by a file that was forgotten nor by one that claims to be newer than can be."""
    keep_awake(machine, age_seconds)
    ready(machine)
    machine.rounds(5)

    assert machine.outside.events() == ["ready"]


def test_a_boot_keeps_its_generation(machine: Machine) -> None:
    """The Hub writes the next one into the metadata before it restarts the machine: this boot must not report for that one."""
    ready(machine)
    machine.outside.attributes["hub-generation"] = "4"
    machine.fake("pgrep", "echo 812")
    machine.until(lambda: len(machine.outside.reports) > 2)
    machine.fake("docker", PULL_SAYS.format(said=DENIED, local=1))
    machine.run("container.sh")

    assert {report["generation"] for report in machine.outside.reports} == {3}
    assert "IMAGE_DENIED" in machine.outside.events()


def test_the_next_boot_has_the_next_generation(machine: Machine) -> None:
    """What kept the last one is in memory only."""
    ready(machine)
    machine.end()
    shutil.rmtree(machine.state)
    machine.outside.attributes["hub-generation"] = "4"

    machine.start("ready.sh")
    machine.until(lambda: len(machine.outside.reports) > 1)
    assert [report["generation"] for report in machine.outside.reports] == [3, 4]


@pytest.mark.parametrize("says", [AWAY, 401, 408, 429, 500, 503])
def test_a_hub_that_may_answer_later_is_told_again(machine: Machine, says: int) -> None:
    """Away, or not able to say; 401, for a clock that lags after a suspend. Each time with a fresh token."""
    machine.outside.hub_says = [says, says]
    a_container(machine, "running", "well")
    machine.start("ready.sh")

    machine.until(lambda: machine.calls("sleep", "120"))
    assert machine.outside.events() == ["ready"] * 3
    assert machine.calls("sleep")[:2] == [["sleep", "1"], ["sleep", "2"]]


def test_a_hub_that_nobody_can_reach_is_told_later(machine: Machine) -> None:
    """Its address is read anew each time."""
    right = machine.outside.attributes["hub-reports-url"]
    machine.outside.attributes["hub-reports-url"] = "http://127.0.0.1:9/workspaces/x/reports"
    a_container(machine, "running", "well")
    machine.start("ready.sh")
    machine.until(lambda: len(machine.outside.tokens) > 1)

    machine.outside.attributes["hub-reports-url"] = right
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]


def test_a_token_that_cannot_be_had_is_asked_for_again(machine: Machine) -> None:
    """The metadata server may be away for a moment, too."""
    machine.outside.tokens_refused = 2
    ready(machine)

    assert len(machine.outside.tokens) == 1


@pytest.mark.parametrize("says", [400, 403, 404, 409, 410])
def test_a_hub_that_refuses_ends_it(machine: Machine, says: int) -> None:
    """Another generation counts, or the workspace is gone: there will be no heartbeats, and systemd need not try again."""
    machine.outside.hub_says = [says]
    a_container(machine, "running", "well")
    machine.fake("pgrep", "echo 812")

    assert machine.run("ready.sh") == 0
    assert machine.outside.events() == ["ready"]


def test_a_hub_that_stays_away_is_given_up(machine: Machine) -> None:
    """In the end, and the failure stands: the exit status says so to systemd."""
    machine.environment["PATIENCE_SECONDS"] = "0"
    machine.outside.hub_says = [503] * 100
    machine.fake("systemctl", "echo 5")

    assert machine.run("ready.sh") == 1
    assert machine.outside.events() == ["CONTAINER_ENDS"]


# ---- ssh.sh and shell.sh --------------------------------------------------------------------------------------------

USUAL_SSHD_CONFIG = "PermitRootLogin no\nMatch User x\n  X11Forwarding no\n"


def test_sshd_is_told_once(machine: Machine) -> None:
    """However often the script runs; what was there stays before it."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)

    assert machine.run("ssh.sh") == 0, machine.said()
    once = machine.sshd_config.read_text()
    assert machine.run("ssh.sh") == 0, machine.said()

    assert machine.sshd_config.read_text() == once
    assert once.startswith(f"{USUAL_SSHD_CONFIG}\n# workspace-hub\nMatch all\n")
    assert once.count("ForceCommand") == 1
    check, reload = ["sshd", "-t", "-f", str(machine.sshd_config)], ["systemctl", "reload-or-restart", "sshd.service"]
    assert [call for _, *call in machine.records() if call[0] in {"sshd", "systemctl"}] == [check, reload]


def test_sshd_is_not_reloaded_when_it_would_not_start(machine: Machine) -> None:
    """Nobody could come in any more."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)
    machine.fake("sshd", "exit 255")

    assert machine.run("ssh.sh") != 0
    assert machine.calls("systemctl") == []


COMMANDS = {
    "several words": "ls -l '/a b' | wc -l",
    "quotes": "\"; touch x; ' -x",
    "a command": "$(touch x)`touch x`",
    "lines": "one\ntwo",
    "an option": "--privileged",
    "10 KB": "x'\"$(" * 2000,
}
RUNNING = '[ "$1" != inspect ] || echo true'


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_is_one_argument_to_the_container(machine: Machine, what: str) -> None:
    """It is read by the shell in the container, never by one on the machine."""
    machine.fake("docker", RUNNING)

    assert machine.run("shell.sh", COMMANDS[what]) == 0, machine.said()

    run = ["docker", "exec", "--interactive", "workspace", "/bin/sh", "-c", COMMANDS[what]]
    assert machine.calls("docker", "exec") == [run]
    assert not list(machine.folder.rglob("x"))


@pytest.mark.parametrize("what", [*COMMANDS, "a login"])
def test_what_came_by_ssh_reaches_the_container_as_it_is(machine: Machine, what: str) -> None:
    """Through sshd's line, a person's shell, sudo, and ours."""
    command = COMMANDS.get(what, "")
    machine.fake("docker", RUNNING)
    run_it = f'[ "$1 $2 $3" = "--non-interactive /bin/bash /etc/workspace-hub/shell.sh" ] && exec bash {BOOT}/shell.sh "${{@:4}}"'
    machine.fake("sudo", run_it)
    forced = source("ssh.sh").partition("ForceCommand ")[2].splitlines()[0]
    environment = {**machine.environment, **({"SSH_ORIGINAL_COMMAND": command} if command else {})}

    subprocess.run(
        ["/bin/bash", "-c", forced], env=environment, cwd=machine.folder, check=True, stdin=subprocess.DEVNULL
    )

    [run] = machine.calls("docker", "exec")
    assert run[:-1] == ["docker", "exec", "--interactive", "workspace", "/bin/sh", "-c"]
    assert run[-1] == command or (not command and "bash --login" in run[-1])
    assert not list(machine.folder.rglob("x"))


@pytest.mark.parametrize("arguments", [[], [""]])
def test_without_a_command_there_is_a_login_shell(machine: Machine, arguments: list[str]) -> None:
    """With the terminal that somebody sits at; bash, where the image has it."""
    machine.fake("docker", RUNNING)
    machine.environment["TERM"] = "xterm-256color"
    ours, theirs = pty.openpty()
    try:
        assert machine.run("shell.sh", *arguments, stdin=theirs) == 0, machine.said()
    finally:
        os.close(ours)
        os.close(theirs)

    [run] = machine.calls("docker", "exec")
    assert run[2:-1] == ["--interactive", "--tty", "--env", "TERM=xterm-256color", "workspace", "/bin/sh", "-c"]
    assert "exec bash --login" in run[-1]


@pytest.mark.parametrize("answer", ['[ "$1" != inspect ] || echo false', "exit 1"], ids=["stopped", "not there"])
def test_who_comes_too_early_is_told_what_to_do(machine: Machine, answer: str) -> None:
    """Rather than what docker says."""
    machine.fake("docker", answer)

    assert machine.run("shell.sh", "ls") == 1

    assert "not running. Wait a moment" in machine.said()
    assert machine.calls("docker", "exec") == []


# ---- the local cloud ------------------------------------------------------------------------------------------------


def test_a_report_is_taken_by_the_local_hub(machine: Machine, cloud: RunningCloud) -> None:
    """With what the local metadata server says of a real workspace's machine, and with the token that it signs."""
    alice = Person(cloud.address, cloud.token("scripted@example.com"))
    workspace = alice.settled(alice.create("scripted")["id"], "READY")
    [its] = [each for each in cloud.machines() if each["name"] == workspace["instance_name"]]
    url = f"{cloud.state['services']['identity']}/machines/{its['id']}"
    server = ThreadingHTTPServer(("127.0.0.1", 0), metadata_handler(url))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            ["bash", "-c", ". shared/boot/settings.sh; report heartbeat"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "STATE": str(machine.state),
                "GCE_METADATA_HOST": f"127.0.0.1:{server.server_port}",
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert (done.returncode, done.stdout.strip()) == (0, "report heartbeat of generation 1: the Hub answered 204"), (
        done.stderr
    )
