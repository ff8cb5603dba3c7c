"""Runs the boot scripts with real bash, coreutils, e2fsprogs, blkid and curl, on a fake machine.

Each tool that would change the real machine is a fake, first in PATH, which records its calls. The
home disk is a plain file, and the metadata server and the Hub listen on loopback. Nothing outside
of the test's own folder is touched.
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
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from localcloud.api_client import ApiClient
from localcloud.catalogue import ROOT
from localcloud.running_cloud import RunningCloud
from tests.boot.test_user_data import BASH_PATH, BOOT, needed, source
from tests.guests.nspawn import metadata_handler

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


@pytest.fixture
def outside() -> Iterator[Outside]:
    """The metadata server and the Hub."""
    outside = Outside()
    yield outside
    outside.close()


@pytest.fixture
def machine(tmp_path: Path, outside: Outside) -> Iterator[Machine]:
    """A machine at its boot, without a disk.

    No token may appear on it, and each token is used for one report.
    """
    machine = Machine(tmp_path, outside)
    yield machine
    machine.end()
    machine.disk.unlink(missing_ok=True)  # pytest keeps the folders of its last runs
    seen = json.dumps(machine.records()) + (machine.said() if machine.output.exists() else "")
    assert not [token for token in outside.tokens if token in seen]
    assert len(set(outside.bearers)) == len(outside.bearers)
    assert set(outside.bearers) <= {f"Bearer {token}" for token in outside.tokens}


# ---- disk.sh -------------------------------------------------------------------------------------


def attach(machine: Machine, **contents: bytes) -> None:
    """Attach a home disk with nothing on it but what is given: ``at_510=...``."""
    with machine.disk.open("wb") as disk:
        disk.truncate(DISK_BYTES)
        for place, content in contents.items():
            disk.seek(int(place.removeprefix("at_")))
            disk.write(content)


def attach_ext4(machine: Machine, **files: str) -> None:
    """Attach a home disk with the Hub's file system and these files on it."""
    attach(machine)
    contents = machine.folder / "contents"
    contents.mkdir()
    for name, text in files.items():
        (contents / name).write_text(text)
    mkfs = needed("mkfs.ext4", "e2fsprogs")
    subprocess.run(
        [mkfs, "-q", "-d", str(contents), str(machine.disk)], check=True, capture_output=True
    )


def read(machine: Machine, name: str) -> str:
    """Return a file's text from the home disk."""
    command = [needed("debugfs", "e2fsprogs"), "-R", f"cat {name}", str(machine.disk)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def digest(machine: Machine) -> str:
    """Return a hash of everything on the home disk."""
    with machine.disk.open("rb") as disk:
        return hashlib.file_digest(disk, "sha256").hexdigest()


def check_home_mounted(machine: Machine) -> None:
    """Check that the home disk was mounted once, with nosuid and nodev."""
    [mount] = machine.calls("mount", "-t", "ext4")
    assert mount == [
        "mount",
        "-t",
        "ext4",
        "-o",
        "rw,nosuid,nodev,discard",
        str(machine.disk),
        str(machine.mount),
    ]
    [install] = machine.calls("install")
    assert install[1:] == ["-d", "-o", "1000", "-g", "1000", "-m", "0750", f"{machine.mount}/home"]


def test_a_blank_disk_is_formatted_and_mounted(machine: Machine) -> None:
    """The real mkfs formats it, and the real blkid recognises the result."""
    attach(machine)

    assert machine.run("disk.sh") == 0, machine.said()

    check_home_mounted(machine)
    command = [needed("blkid", "util-linux"), "--probe", "-o", "export", str(machine.disk)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert {"TYPE=ext4", "LABEL=workspace-home"} <= set(found.splitlines())
    assert machine.outside.reports == []


def test_a_kernel_that_panics_boots_again(machine: Machine) -> None:
    """Otherwise it would stop and look like a running machine.

    If the setting fails, the home is still mounted.
    """
    attach(machine)
    assert machine.run("disk.sh") == 0, machine.said()
    assert (machine.folder / "kernel_panic").read_text() == "10\n"

    machine.environment["KERNEL_PANIC"] = str(machine.folder / "nowhere" / "panic")
    assert machine.run("disk.sh") == 0, machine.said()
    assert "<4>After a panic" in machine.said()


def test_running_it_again_changes_nothing(machine: Machine) -> None:
    """Given everything is mounted, a second run neither formats nor mounts anything."""
    attach(machine)
    machine.run("disk.sh")
    before = digest(machine)

    assert machine.run("disk.sh") == 0, machine.said()

    check = len(machine.calls("install"))
    assert (len(machine.calls("mkfs.ext4")), len(machine.calls("mount")), check) == (1, 2, 2)
    assert digest(machine) == before


def test_at_the_next_boot_the_disk_is_not_formatted_again(machine: Machine) -> None:
    """After a boot nothing is mounted.

    The file system is checked, and files written since are still there.
    """
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


def test_files_on_an_existing_home_disk_stay(machine: Machine) -> None:
    """Given a person's files from a former machine, the disk is mounted with them."""
    attach_ext4(machine, work="all of it")

    assert machine.run("disk.sh") == 0, machine.said()

    check_home_mounted(machine)
    assert machine.calls("mkfs.ext4") == []
    assert read(machine, "work") == "all of it"


def test_a_disk_that_appears_late_is_waited_for(machine: Machine) -> None:
    """Its name comes from udev some time into the boot."""
    attach_ext4(machine)
    elsewhere = machine.disk.rename(machine.folder / "elsewhere")
    machine.fake(
        "sleep",
        f'[ ! -e {machine.folder}/soon ] || mv {elsewhere} "${{DISK}}"\n'
        f"touch {machine.folder}/soon",
    )

    assert machine.run("disk.sh") == 0, machine.said()

    assert machine.calls("sleep") == [["sleep", "1"]] * 2
    check_home_mounted(machine)


def check_left_alone(machine: Machine, code: str) -> None:
    """Check that the disk is reported and unchanged.

    It is neither mounted nor formatted, and there are no secrets.
    """
    before = digest(machine)

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == [code]
    [report] = machine.outside.reports
    assert report.keys() == {"event", "generation", "code", "message"}
    assert (report["event"], report["generation"]) == ("failed", 3)
    assert report["message"].endswith(".")
    assert machine.calls("mount", "-t") == machine.calls("resize2fs") == []
    assert digest(machine) == before


def mbr() -> dict[str, bytes]:
    """Return a partition table with one empty partition."""
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
def test_foreign_contents_are_reported_and_left_alone(machine: Machine, what: str) -> None:
    """Only zeros are blank: this holds for contents that blkid knows and for those it does not."""
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
    """Given a file system that its own tool has made, the disk is not changed."""
    attach(machine)
    if tool == "mkfs.xfs":
        os.truncate(machine.disk, 320 * 1024 * 1024)  # it makes none that is smaller
    subprocess.run(
        [needed(tool, package), *options, str(machine.disk)], check=True, capture_output=True
    )

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


def test_a_home_disk_with_an_overwritten_beginning_is_not_blank(machine: Machine) -> None:
    """To blkid it is empty, but its files can still be rescued."""
    attach_ext4(machine, work="all of it")
    with machine.disk.open("r+b") as disk:
        disk.write(bytes(4096))

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


def test_a_disk_that_fails_while_it_is_read_is_not_blank(machine: Machine) -> None:
    """Given zeros and then a read error, the rest of the disk is unknown."""
    attach(machine)
    broken = "printf '\\0'; echo 'head: error reading: Input/output error' >&2; exit 1"
    machine.fake("head", f'case "$*" in *16M*) {broken} ;; esac; exec /usr/bin/head "$@"')

    check_left_alone(machine, "DISK_UNREADABLE")
    assert machine.calls("mkfs.ext4") == []


def test_a_disk_that_cannot_be_read_at_all_is_not_blank(machine: Machine) -> None:
    """The kernel's own input/output error is reported."""
    attach(machine)
    machine.environment["DISK"] = "/proc/self/mem"
    machine.fake("mkfs.ext4", ":")

    check_left_alone(machine, "DISK_UNREADABLE")
    assert machine.calls("mkfs.ext4") == []


def test_a_missing_disk_is_reported(machine: Machine) -> None:
    """It is reported after a minute, and nothing is created in its place."""
    machine.fake("sleep", ":")

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["DISK_MISSING"]
    assert machine.calls("sleep") == [["sleep", "1"]] * 60
    assert not machine.disk.exists()
    assert machine.calls("mount") == []


IO_ERROR = "Input/output error"
WRITE_PROTECTED = (
    "/dev/sdb: Read-only file system;"
    " Disk write-protected; use the -n option to do a read-only check"
)
SHORT_READ = (
    "Attempt to read block from filesystem resulted in short read while trying to open /dev/sdb"
)
BAD_SUPERBLOCK = "Bad magic number in super-block while trying to open /dev/sdb"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("", "DISK_NOT_FORMATTED"),
        (IO_ERROR, "DISK_UNREADABLE"),
        (WRITE_PROTECTED, "DISK_READ_ONLY"),
    ],
)
def test_a_disk_that_cannot_be_formatted_is_reported(
    machine: Machine, said: str, code: str
) -> None:
    """It is not mounted. If mkfs names the disk as the cause, the reason says so."""
    attach(machine)
    machine.fake("mkfs.ext4", f"echo '{said}' >&2; exit 1")

    check_left_alone(machine, code)


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (4, "UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.", "DISK_DAMAGED"),
        (5, "", "DISK_DAMAGED"),
        (12, "", "DISK_DAMAGED"),
        (8, BAD_SUPERBLOCK, "DISK_DAMAGED"),
        (8, SHORT_READ, "DISK_UNREADABLE"),
        (8, f"Error reading block 33 ({IO_ERROR}).", "DISK_UNREADABLE"),
        (4, f"Error reading block 33 ({IO_ERROR}).", "DISK_UNREADABLE"),
        (8, WRITE_PROTECTED, "DISK_READ_ONLY"),
        (8, "/dev/sdb is in use.", "DISK_NOT_CHECKED"),
        (16, "Usage: fsck.ext4", "DISK_NOT_CHECKED"),
        (32, "", "DISK_NOT_CHECKED"),
        (127, "fsck.ext4: command not found", "DISK_NOT_CHECKED"),
        (134, "Aborted", "DISK_NOT_CHECKED"),
    ],
)
def test_a_file_system_that_fails_its_check_is_not_mounted(
    machine: Machine, status: int, said: str, code: str
) -> None:
    """Damage, an unreadable disk and a check that could not run have different codes."""
    attach_ext4(machine)
    machine.fake("fsck.ext4", f"echo '{said}'; exit {status}")

    check_left_alone(machine, code)


def test_a_file_system_larger_than_its_disk_is_damaged(machine: Machine) -> None:
    """Given a truncated copy of a disk, the real fsck finds damage."""
    attach_ext4(machine)
    os.truncate(machine.disk, DISK_BYTES // 2)

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["DISK_DAMAGED"]
    assert machine.calls("mount", "-t") == machine.calls("resize2fs") == []


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_a_repaired_file_system_is_mounted(machine: Machine, status: int) -> None:
    """The fsck statuses 1 and 2 mean that errors were corrected, and 3 means both."""
    attach_ext4(machine)
    machine.fake("fsck.ext4", f"exit {status}")

    assert machine.run("disk.sh") == 0, machine.said()
    check_home_mounted(machine)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("mount: wrong fs type, bad option, bad superblock on /dev/sdb", "DISK_UNMOUNTABLE"),
        (f"mount: can't read superblock: {IO_ERROR}.", "DISK_UNREADABLE"),
        (
            "mount: /dev/sdb is write-protected but explicit read-write mode requested.",
            "DISK_READ_ONLY",
        ),
    ],
)
def test_a_disk_that_cannot_be_mounted_is_reported(machine: Machine, said: str, code: str) -> None:
    """Nothing is written to the mount point: it would be lost with the machine."""
    attach_ext4(machine, work="all of it")
    machine.fake("mount", f'case "$*" in *ext4*) echo "{said}" >&2; exit 32 ;; esac')

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == [code]
    assert (
        machine.calls("install")
        == machine.calls("mount", "-t", "tmpfs")
        == machine.calls("resize2fs")
        == []
    )
    assert read(machine, "work") == "all of it"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("install: cannot create directory 'home': No space left on device", "DISK_FULL"),
        ("install: cannot change permissions of 'home': Read-only file system", "DISK_READ_ONLY"),
        (f"install: cannot stat 'home': {IO_ERROR}", "DISK_UNREADABLE"),
        ("install: cannot create directory 'home': File exists", "DISK_UNUSABLE"),
    ],
)
def test_a_home_folder_that_cannot_be_created_is_reported(
    machine: Machine, said: str, code: str
) -> None:
    """Given the disk is mounted but something else is in the folder's place, the boot fails."""
    attach_ext4(machine)
    machine.fake("install", f'echo "{said}" >&2; exit 1')

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == [code]
    assert machine.calls("mount", "-t", "tmpfs") == []


def size(machine: Machine) -> int:
    """Return the size of the home disk's file system in bytes."""
    command = [needed("dumpe2fs", "e2fsprogs"), "-h", str(machine.disk)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    of = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in said.splitlines())
    }
    return int(of["Block count"]) * int(of["Block size"])


def test_a_file_system_grows_with_its_disk(machine: Machine) -> None:
    """The real resize2fs grows it at the next boot, and its files stay."""
    attach_ext4(machine, work="all of it")
    os.truncate(machine.disk, 4 * DISK_BYTES)

    assert machine.run("disk.sh") == 0, machine.said()

    assert size(machine) == 4 * DISK_BYTES
    assert read(machine, "work") == "all of it"
    assert disk_calls(machine) == ["mount -t", "resize2fs"]


def disk_calls(machine: Machine) -> list[str]:
    """Return the calls that touched the home disk after its check, in order."""
    done = [
        call
        for call in machine.calls()
        if call[0] in {"resize2fs", "umount", "fsck.ext4"} or "ext4" in call
    ]
    return [" ".join(call[:2] if call[0] == "mount" else call[:-1]) for call in done][1:]


def test_a_file_system_that_does_not_grow_while_mounted_grows_unmounted(machine: Machine) -> None:
    """The real resize2fs requires a full check first. Then the disk is mounted again."""
    attach_ext4(machine, work="all of it")
    os.truncate(machine.disk, 4 * DISK_BYTES)
    real = needed("resize2fs", "e2fsprogs")
    machine.fake(
        "resize2fs",
        f'[ -e "${{FAKES}}/tried" ] && exec {real} "$@"; touch "${{FAKES}}/tried"; exit 1',
    )

    assert machine.run("disk.sh") == 0, machine.said()

    assert disk_calls(machine) == [
        "mount -t",
        "resize2fs",
        "umount",
        "fsck.ext4 -f -p",
        "resize2fs",
        "mount -t",
    ]
    assert size(machine) == 4 * DISK_BYTES
    assert read(machine, "work") == "all of it"
    assert "<4>" not in machine.said()


@pytest.mark.parametrize(
    ("status", "tried"),
    [(1, ["umount", "fsck.ext4 -f -p", "resize2fs", "mount -t"]), (127, [])],
    ids=["refused", "no such tool"],
)
def test_a_file_system_that_cannot_grow_is_still_used(
    machine: Machine, status: int, tried: list[str]
) -> None:
    """The log has a warning, and the boot continues."""
    attach_ext4(machine)
    machine.fake("resize2fs", f"echo 'Permission denied to resize' >&2; exit {status}")

    assert machine.run("disk.sh") == 0, machine.said()

    assert disk_calls(machine) == ["mount -t", "resize2fs", *tried]
    assert str(machine.mount) in (machine.fakes / "mounted").read_text()
    assert (
        "<4>The file system of the home does not grow with its disk: Permission denied"
        in machine.said()
    )
    assert machine.outside.reports == []


def test_errors_of_the_full_check_do_not_prevent_the_mount(machine: Machine) -> None:
    """The file system was good enough to be mounted. It only does not grow."""
    attach_ext4(machine)
    machine.fake("resize2fs", "exit 1")
    machine.fake("fsck.ext4", '[ "$1" != -f ] || exit 4')

    assert machine.run("disk.sh") == 0, machine.said()

    assert disk_calls(machine) == ["mount -t", "resize2fs", "umount", "fsck.ext4 -f -p", "mount -t"]
    assert machine.outside.reports == []


SECRETS_OPTIONS = "size=16m,mode=0700,uid=1000,gid=1000,noexec,nosuid,nodev"
NO_NOSWAP = 'case "$*" in *noswap*) exit 32 ;; esac; echo "${@: -1}" >>"${FAKES}/mounted"'


def swapping(machine: Machine, swaps: int) -> None:
    """Have /proc/swaps list this many swap areas, under its heading."""
    machine.fake("wc", f'[ "$1" != --lines ] || exec echo {swaps + 1}; exec /usr/bin/wc "$@"')


@pytest.mark.parametrize("swaps", [0, 1])
def test_secrets_are_in_memory_and_never_in_swap(machine: Machine, swaps: int) -> None:
    """Given a kernel with noswap, secrets are safe even if the machine swaps."""
    attach_ext4(machine)
    swapping(machine, swaps)

    assert machine.run("disk.sh") == 0, machine.said()

    assert machine.calls("mount", "-t", "tmpfs") == [
        ["mount", "-t", "tmpfs", "-o", f"{SECRETS_OPTIONS},noswap", "tmpfs", str(machine.secrets)]
    ]


def test_an_older_kernel_without_swap_gets_secrets(machine: Machine) -> None:
    """It refuses the option noswap, but there is no swap."""
    attach_ext4(machine)
    machine.fake("mount", NO_NOSWAP)
    swapping(machine, 0)

    assert machine.run("disk.sh") == 0, machine.said()

    options = [mount[4] for mount in machine.calls("mount", "-t", "tmpfs")]
    assert options == [f"{SECRETS_OPTIONS},noswap", SECRETS_OPTIONS]


def test_an_older_kernel_that_swaps_gets_no_secrets(machine: Machine) -> None:
    """Its secrets would be written to the boot disk."""
    attach_ext4(machine)
    machine.fake("mount", NO_NOSWAP)
    swapping(machine, 1)

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["SECRETS_NOT_SAFE"]
    assert len(machine.calls("mount", "-t", "tmpfs")) == 1


def test_without_a_folder_for_secrets_the_boot_fails(machine: Machine) -> None:
    """This holds for each reason why the folder cannot be created."""
    attach_ext4(machine)
    machine.fake("mount", 'case "$*" in *tmpfs*) exit 32 ;; esac')
    swapping(machine, 0)

    assert machine.run("disk.sh") == 1
    assert machine.outside.events() == ["SECRETS_NOT_SAFE"]


# ---- container.sh --------------------------------------------------------------------------------

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
MISSING = (
    "Error response from daemon: manifest for x:v2 not found: manifest unknown: Failed to fetch v2"
)
TIMED_OUT = (
    "Error response from daemon: Get https://x/v2/: net/http:"
    " request canceled while waiting for connection"
)


def create_arguments(machine: Machine, **changes: str) -> list[str]:
    """Return the arguments of ``docker create``."""
    told = {**ATTRIBUTES, **changes}
    return [
        *(
            "docker",
            "create",
            "--name",
            "workspace",
            "--init",
            "--user",
            "1000:1000",
            "--network",
            "host",
        ),
        *("--security-opt", "no-new-privileges", "--shm-size", "2048m", "--pids-limit", "4000"),
        *("--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=3"),
        *("--volume", f"{machine.mount}/home:/home/workspace"),
        *(
            "--volume",
            f"{machine.secrets}:/run/secrets",
            "--volume",
            f"{machine.secrets}:/dev/shm/secrets",
        ),
        *("--volume", f"{machine.folder}/run/agents:/run/ssh-agents:rslave"),
        *("--env", "HOME=/home/workspace"),
        *("--env", f"WORKSPACE_ID={told['hub-workspace-id']}"),
        *("--env", f"WORKSPACE_NAME={told['hub-workspace-name']}"),
        *("--env", f"WORKSPACE_REPO={told['hub-repo']}"),
        *("--env", f"WORKSPACE_BRANCH={told['hub-branch']}"),
        *("--env", "WORKSPACE_SECRETS=/run/secrets"),
        *("--workdir", "/home/workspace"),
        told["hub-image"],
    ]


def test_the_container_is_run_as_user_1000_without_privileges(machine: Machine) -> None:
    """The image is pulled, the last container removed, and the new one runs in the foreground."""
    machine.fake("docker", '[ "$1" != start ] || exit 42')

    assert machine.run("container.sh") == 42

    pull, remove, create, start = [
        call for call in machine.calls("docker") if call[1] not in {"inspect", "image", "version"}
    ]
    assert pull == ["docker", "pull", "--quiet", IMAGE]
    assert remove == ["docker", "rm", "--force", "workspace"]
    assert create == create_arguments(machine)
    assert start == ["docker", "start", "--attach", "workspace"]
    assert "--privileged" not in create
    assert machine.outside.reports == []


@pytest.mark.parametrize("what", HOSTILE)
def test_text_that_a_person_wrote_is_one_argument(machine: Machine, what: str) -> None:
    """None of it is executed, and none of it becomes an option."""
    changes = dict.fromkeys(
        ("hub-workspace-name", "hub-repo", "hub-branch", "hub-workspace-id"), HOSTILE[what]
    )
    machine.outside.attributes |= changes

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker", "create") == [create_arguments(machine, **changes)]
    assert not list(machine.folder.rglob("x"))


GUARD = (
    "OUTPUT --destination {} --protocol tcp ! --dport 53"
    " --match owner --uid-owner 1000 --jump REJECT"
)
GUARDS = {"iptables": GUARD.format("169.254.169.254"), "ip6tables": GUARD.format("fd20:ce::254")}


def rules(machine: Machine) -> dict[str, list[str]]:
    """Return the present firewall rules, by tool."""
    return {file.stem: file.read_text().splitlines() for file in machine.fakes.glob("ip*.rules")}


@pytest.mark.parametrize(
    "tools", [["iptables"], ["iptables", "ip6tables"]], ids=["IPv4", "IPv4 and IPv6"]
)
def test_the_metadata_server_is_closed_to_the_container(machine: Machine, tools: list[str]) -> None:
    """The rules exist before it runs, once each, for every address.

    The server gives out the machine's identity.
    """
    machine.fake("docker", '[ "$1" != create ] || cp "${FAKES}/iptables.rules" "${FAKES}/before"')
    if "ip6tables" in tools:
        machine.fake("ip6tables", RULES)
        (machine.folder / "if_inet6").touch()

    assert machine.run("container.sh") == machine.run("container.sh") == 0, machine.said()

    assert rules(machine) == {tool: [GUARDS[tool]] for tool in tools}
    assert (machine.fakes / "before").read_text().splitlines() == [GUARDS["iptables"]]


def test_an_allowed_container_reaches_the_metadata_server(machine: Machine) -> None:
    """The rules are removed at the next boot, or when the container is started again."""
    assert machine.run("container.sh") == 0, machine.said()
    machine.outside.attributes["hub-container-metadata"] = "true"

    assert machine.run("container.sh") == 0, machine.said()
    assert rules(machine) == {"iptables": []}


def test_a_container_that_cannot_be_guarded_is_not_run(
    machine: Machine,
) -> None:
    """Otherwise nobody would notice that the metadata server is open to it."""
    machine.fake("iptables", "echo No chain/target/match by that name. >&2; exit 1")

    assert machine.run("container.sh") == 1

    assert machine.outside.events() == ["METADATA_NOT_GUARDED"]
    assert machine.calls("docker") == []


def test_without_a_folder_for_agents_the_container_still_runs(machine: Machine) -> None:
    """Agents are a convenience, and their folder must not prevent the workspace."""
    machine.fake("mount", "exit 32")

    assert machine.run("container.sh") == 0, machine.said()

    assert not [
        argument for argument in machine.calls("docker", "create")[0] if "agents" in argument
    ]
    assert "<4>SSH agents" in machine.said()


def test_an_image_with_a_hostile_name_is_one_argument(machine: Machine) -> None:
    """This holds for the registry's credential helper, too."""
    image = "$(touch x).pkg.dev/`touch x`:v2; touch x"
    machine.outside.attributes["hub-image"] = image

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker", "pull") == [["docker", "pull", "--quiet", image]]
    assert machine.calls("docker", "create")[0][-1] == image
    assert machine.calls("docker-credential-gcr")[0][-1] == "--registries=$(touch x).pkg.dev"
    assert not list(machine.folder.rglob("x"))


@pytest.mark.parametrize("registry", ["us-west1-docker.pkg.dev", "gcr.io", "eu.gcr.io"])
def test_googles_registries_get_the_machines_credentials(machine: Machine, registry: str) -> None:
    """The credential helper's configuration is in a writable folder: root's home is read-only."""
    machine.outside.attributes["hub-image"] = f"{registry}/a-project/workspace:v2"

    assert machine.run("container.sh") == 0, machine.said()

    configure = ["docker-credential-gcr", "configure-docker", f"--registries={registry}"]
    assert machine.calls("docker-credential-gcr") == [configure]
    kept = {record[0] for record in machine.records() if record[1].startswith("docker")}
    assert kept == {f"{machine.state}/docker"}


@pytest.mark.parametrize(
    "image", ["docker.io/library/debian:12", "debian", "pkg.dev.example.com/a:v2", "gcr.io.x/a"]
)
def test_other_registries_never_see_the_machines_credentials(machine: Machine, image: str) -> None:
    """The credential helper is not configured for them."""
    machine.outside.attributes["hub-image"] = image

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker-credential-gcr") == []
    assert {record[0] for record in machine.records() if record[1] == "docker"} == {""}


NO_DAEMON = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    " Is the docker daemon running?"
)
NO_SPACE = "write /var/lib/docker/tmp/GetImageBlob1: no space left on device"
DEFINITE = {
    DENIED: "IMAGE_DENIED",
    "unauthorized: authentication required": "IMAGE_DENIED",
    "error pulling image: received unexpected HTTP status: 403 Forbidden": "IMAGE_DENIED",
    "denied: Unauthenticated request. Unauthenticated requests have no permission": "IMAGE_DENIED",
    "pull access denied for x, repository does not exist or may need docker login": "IMAGE_DENIED",
    "repository x not found: does not exist or no pull access": "IMAGE_DENIED",
    MISSING: "IMAGE_MISSING",
    "invalid reference format": "IMAGE_MISSING",
    "name unknown: Repository x not found": "IMAGE_MISSING",
    f"failed to register layer: {NO_SPACE}": "BOOT_DISK_FULL",
    "no matching manifest for linux/amd64 in the manifest list entries": "IMAGE_WRONG_PLATFORM",
    "no match for platform in manifest: not found": "IMAGE_WRONG_PLATFORM",
    "image operating system windows cannot be used on this platform": "IMAGE_WRONG_PLATFORM",
    "unsupported media type application/vnd.oci.empty.v1+json": "CONTAINER_REFUSED",
}
PASSING = {
    TIMED_OUT: ("IMAGE_PULL_FAILED", "reached"),
    "dial tcp 10.0.0.1:443: connect: connection refused": ("IMAGE_PULL_FAILED", "reached"),
    "net/http: TLS handshake timeout": ("IMAGE_PULL_FAILED", "reached"),
    "unexpected EOF": ("IMAGE_PULL_FAILED", "reached"),
    "toomanyrequests: You have reached your pull rate limit": (
        "IMAGE_PULL_FAILED",
        "too many requests",
    ),
    "error: 429 Too Many Requests, access denied": ("IMAGE_PULL_FAILED", "too many requests"),
    "dial tcp: lookup registry.example.com: no such host": ("IMAGE_PULL_FAILED", "DNS"),
    "lookup x on 169.254.169.254:53: server misbehaving": ("IMAGE_PULL_FAILED", "DNS"),
    "x509: certificate signed by unknown authority": ("IMAGE_PULL_FAILED", "certificate"),
    "x509: certificate has expired or is not yet valid": ("IMAGE_PULL_FAILED", "certificate"),
    "received unexpected HTTP status: 503 Service Unavailable": (
        "IMAGE_PULL_FAILED",
        "an error of its own",
    ),
    "received unexpected HTTP status: 504 Gateway Timeout": (
        "IMAGE_PULL_FAILED",
        "an error of its own",
    ),
    "filesystem layer verification failed for digest": ("IMAGE_PULL_FAILED", "layer verification"),
    NO_DAEMON: ("DOCKER_NOT_RUNNING", "Docker does not run"),
    "permission denied while trying to connect to the Docker daemon socket": (
        "DOCKER_NOT_RUNNING",
        "does not run",
    ),
    "failed to connect to the docker API at unix:///run/docker.sock": (
        "DOCKER_NOT_RUNNING",
        "does not run",
    ),
    "error getting credentials - err: exec: docker-credential-gcr: executable file not found": (
        "REGISTRY_LOGIN_FAILED",
        "credentials",
    ),
}


def ends(machine: Machine) -> list[str]:
    """Return the recorded reasons of the container's ends, without their times."""
    file = machine.state / "ends"
    return (
        [line.partition(" ")[2] for line in file.read_text().splitlines()] if file.exists() else []
    )


def check_not_pulled(machine: Machine, code: str, pulls: int) -> str:
    """Check that the pull failed after this many tries, for this reason; return the message."""
    assert machine.run("container.sh") == 1

    [report] = machine.outside.reports
    assert (report["event"], report["code"]) == ("failed", code)
    assert len(machine.calls("docker", "pull")) == pulls
    assert machine.calls("docker", "create") == []
    assert ends(machine) == [f"{code} {report['message']}"]
    return str(report["message"])


@pytest.mark.parametrize("said", DEFINITE)
def test_a_definite_pull_failure_is_reported_at_once(machine: Machine, said: str) -> None:
    """Each cause has its own code, whatever other words Docker prints."""
    machine.fake("docker", PULL_SAYS.format(said=said, local=1))

    check_not_pulled(machine, DEFINITE[said], 1)
    assert said in machine.said()


@pytest.mark.parametrize(
    "said", [said for said, code in DEFINITE.items() if code == "IMAGE_DENIED"]
)
def test_at_a_machines_first_boot_a_denied_pull_is_retried(machine: Machine, said: str) -> None:
    """The rights of a new account may take some minutes to take effect."""
    (machine.fakes / "first-boot").touch()
    late = '[ "$1" = pull ] && [ "$(($(cat "${FAKES}/pulls" || echo 0) + 1))" -gt 7 ] && exit'
    count = (
        '[ "$1" != pull ] || echo "$(($(cat "${FAKES}/pulls" || echo 0) + 1))" >"${FAKES}/pulls"'
    )
    machine.fake("docker", f"{late}; {count}; {PULL_SAYS.format(said=said, local=1)}")

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("sleep") == [["sleep", "10"]] * 7
    assert len(machine.calls("docker", "create")) == 1
    assert machine.outside.reports == []


def test_at_a_machines_first_boot_a_pull_that_stays_denied_is_reported(machine: Machine) -> None:
    """It is reported after two minutes."""
    (machine.fakes / "first-boot").touch()
    machine.environment["DENIED_SECONDS"] = "4"
    machine.fake("docker", PULL_SAYS.format(said=DENIED, local=1))

    assert machine.run("container.sh") == 1

    assert machine.outside.events() == ["IMAGE_DENIED"]
    assert len(machine.calls("docker", "pull")) > 2
    assert '"${DENIED_SECONDS:=120}"' in source("container.sh")


def test_unused_images_are_removed_before_and_after_a_pull(machine: Machine) -> None:
    """Before the pull, the last container still holds its image, in case the registry is away."""
    assert machine.run("container.sh") == 0, machine.said()

    done = [
        call[1] if call[1] != "image" else " ".join(call[1:3]) for call in machine.calls("docker")
    ]
    done = [each for each in done if each in {"image prune", "pull", "rm", "create", "start"}]
    assert done == ["image prune", "pull", "rm", "create", "image prune", "start"]
    assert machine.calls("docker", "image", "prune")[0][3:] == ["--all", "--force"]


def test_unused_images_that_cannot_be_removed_do_not_stop_the_boot(machine: Machine) -> None:
    """They only take space."""
    machine.fake("docker", '[ "$2" != prune ] || exit 1')

    assert machine.run("container.sh") == 0, machine.said()
    assert "<4>Old images" in machine.said()


def test_a_running_container_is_left_alone(machine: Machine) -> None:
    """Given a restart of Docker and of the script, the container runs on.

    Its later end is recorded.
    """
    machine.fake(
        "docker",
        'case "$1 $3" in "inspect {{.State.Running}}") [ -e "${FAKES}/ended" ] || echo true ;;'
        ' attach*) touch "${FAKES}/ended"; exit 3 ;; inspect*) echo false false ;; esac',
    )

    assert machine.run("container.sh") == 3

    assert machine.calls("docker", "attach") == [
        ["docker", "attach", "--no-stdin", "--sig-proxy=false", "workspace"]
    ]
    assert not [
        call
        for call in machine.calls("docker")
        if call[1] in {"pull", "rm", "create", "start", "stop"}
    ]
    assert [end.split()[0] for end in ends(machine)] == ["CONTAINER_ENDS"]


@pytest.mark.parametrize("said", PASSING)
def test_a_passing_pull_failure_is_reported_after_retries(machine: Machine, said: str) -> None:
    """The message names the cause, since the image is not at fault."""
    machine.fake("docker", PULL_SAYS.format(said=said.replace("$", "\\$"), local=1))
    code, words = PASSING[said]

    assert words in check_not_pulled(machine, code, 5)
    assert said in machine.said()


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        (
            "Pulling fs layer\\nerror one\\nError response from daemon: two\\n \\n",
            "Error response from daemon: two",
        ),
        ('a \\"quoted\\" \\\\\\\\ word\\t and \\033[31mred', "a 'quoted' ' word  and  [31mred"),
        ("x" * 500, "x" * 160),
    ],
)
def test_the_reason_quotes_dockers_last_line(machine: Machine, said: str, quoted: str) -> None:
    """The reader cannot look into the machine.

    The serial console and Cloud Logging have it as a warning.
    """
    machine.fake(
        "docker",
        PULL_SAYS.replace('echo "{said}"', "printf '%b\\n' \"{said}\"").format(said=said, local=1),
    )

    message = check_not_pulled(machine, "IMAGE_PULL_FAILED", 5)

    assert message == f"The container image could not be pulled. Docker said: {quoted}"
    assert f"<4>IMAGE_PULL_FAILED {message}\n" in machine.said()
    assert machine.said().count("<4>IMAGE_PULL_FAILED") == 1


def test_a_containers_output_goes_to_the_journal_only(machine: Machine) -> None:
    """The container cannot set the priority of its lines."""
    assert machine.run("container.sh") == 0, machine.said()
    assert machine.calls("systemd-cat") == [
        [
            "systemd-cat",
            "--identifier=workspace",
            "--level-prefix=false",
            "docker",
            "start",
            "--attach",
            "workspace",
        ]
    ]


@pytest.mark.parametrize(
    "name", ["denied", "not-found/x509", "too/toomanyrequests:forbidden", "no-such-host:timeout"]
)
def test_an_images_name_is_not_taken_for_the_reason(machine: Machine, name: str) -> None:
    """Docker repeats the name in its messages, alone and in addresses."""
    machine.outside.attributes["hub-image"] = name
    address = f"https://registry.example.com/v2/{name.replace(':', '/manifests/')}"
    said = f"manifest for {name} not found, Head {address}: manifest unknown"
    machine.fake("docker", PULL_SAYS.format(said=said, local=1))

    check_not_pulled(machine, "IMAGE_MISSING", 1)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Error response from daemon: no command specified", "CONTAINER_REFUSED"),
        (
            "invalid mount config for type bind: bind source path does not exist",
            "CONTAINER_REFUSED",
        ),
        (f"Error response from daemon: {NO_SPACE}", "BOOT_DISK_FULL"),
        (NO_DAEMON, "DOCKER_NOT_RUNNING"),
    ],
)
def test_why_docker_cannot_create_the_container_is_recorded(
    machine: Machine, said: str, code: str
) -> None:
    """ready.sh reports it to the Hub when it happens again and again."""
    machine.fake("docker", f'[ "$1" != create ] || {{ echo "{said}" >&2; exit 125; }}')

    assert machine.run("container.sh") == 125

    assert [end.split()[0] for end in ends(machine)] == [code]
    assert machine.calls("docker", "start") == []
    assert machine.outside.reports == []
    assert said in machine.said()


ENDED = """
case "$1 $2" in
  "start --attach") exit {status} ;;
  "inspect --format") echo '{state}' ;;
  "image inspect") echo linux/{its} ;;
  "version --format") echo linux/amd64 ;;
esac
"""


@pytest.mark.parametrize(
    ("status", "docker_state", "reason"),
    [
        (3, ("false false", "amd64"), ("CONTAINER_ENDS", "ends with status 3.")),
        (0, ("false false", "amd64"), ("CONTAINER_ENDS", "by itself")),
        (0, ("false false", "arm64"), ("CONTAINER_ENDS", "by itself")),
        (126, ("false false", "amd64"), ("CONTAINER_ENDS", "cannot execute its command")),
        (127, ("false false", "amd64"), ("CONTAINER_ENDS", "not in the image")),
        (137, ("false false", "amd64"), ("CONTAINER_ENDS", "killed by signal 9")),
        (137, ("false true", "amd64"), ("CONTAINER_OUT_OF_MEMORY", "ran out of memory")),
        (3, ("false true", "amd64"), ("CONTAINER_ENDS", "ends with status 3.")),
        (1, ("false false", "arm64"), ("IMAGE_WRONG_PLATFORM", "processor architecture")),
        (1, ("false false", ""), ("CONTAINER_ENDS", "ends with status 1.")),
        (
            1,
            ("false false OCI runtime create failed: exec format error", "amd64"),
            ("IMAGE_WRONG_PLATFORM", "architecture"),
        ),
        (
            1,
            ("false false OCI runtime create failed: mkdir: not a directory", "amd64"),
            ("CONTAINER_REFUSED", "mkdir: not a directory"),
        ),
        (1, (f"false false mkdir overlay2: {NO_SPACE}", "amd64"), ("BOOT_DISK_FULL", "boot disk")),
    ],
)
def test_why_a_container_ended_is_recorded(
    machine: Machine, status: int, docker_state: tuple[str, str], reason: tuple[str, str]
) -> None:
    """Docker knows more than the status, which does not tell who killed the container."""
    state, architecture = docker_state
    code, words = reason
    machine.fake("docker", ENDED.format(status=status, state=state, its=architecture))

    assert machine.run("container.sh") == status

    [end] = ends(machine)
    assert end.startswith(f"{code} ")
    assert words in end
    assert machine.outside.reports == []


@pytest.mark.parametrize(
    ("where", "statistics", "code"),
    [
        ("mnt", "0 500 1000", "DISK_FULL"),
        ("mnt", "500 0 1000", "DISK_FULL"),
        ("docker", "0 500 1000", "BOOT_DISK_FULL"),
        ("docker", "500 0 0", "CONTAINER_ENDS"),  # btrfs and the like count no inodes
    ],
)
def test_a_container_that_ends_on_a_full_disk_is_recorded_so(
    machine: Machine, where: str, statistics: str, code: str
) -> None:
    """Given either disk has no free blocks or no free inodes, the reason names that disk."""
    machine.environment["DOCKER_ROOT"] = str(machine.folder / "docker")
    machine.fake("docker", ENDED.format(status=1, state="false false", its="amd64"))
    machine.fake(
        "stat",
        f'[ "${{@: -1}}" = {machine.folder / where} ] && echo {statistics} || echo 500 500 1000',
    )

    assert machine.run("container.sh") == 1
    assert [end.split()[0] for end in ends(machine)] == [code]


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        ('[ "$1" != inspect ] || echo true false', []),
        ('case "$1" in inspect | version) exit 1 ;; start) exit 1 ;; esac', ["DOCKER_NOT_RUNNING"]),
        ('case "$1" in inspect) exit 1 ;; esac', []),
    ],
    ids=["the container runs on", "Docker is away", "somebody removed it"],
)
def test_an_end_of_docker_or_its_client_is_not_the_containers(
    machine: Machine, answer: str, ended: list[str]
) -> None:
    """The container may still run."""
    machine.fake("docker", answer)

    machine.run("container.sh")
    assert [end.split()[0] for end in ends(machine)] == ended


def test_only_the_last_ends_are_recorded(machine: Machine) -> None:
    """They are kept in memory, and a container may restart for days."""
    machine.state.mkdir(parents=True)
    (machine.state / "ends").write_text("1 CONTAINER_ENDS Long ago.\n" * 50)
    machine.fake("docker", ENDED.format(status=3, state="false false", its="amd64"))

    machine.run("container.sh")
    assert len(ends(machine)) == 20
    assert "status 3" in ends(machine)[-1]


def test_a_registry_that_comes_back_is_used(machine: Machine) -> None:
    """Given a pull that fails and then succeeds, nothing is reported."""
    machine.fake(
        "docker",
        f'[ "$1" != image ] || exit 1\n[ "$1" != pull ] || [ -e "${{FAKES}}/back" ] ||'
        f' {{ echo "{TIMED_OUT}"; exit 1; }}',
    )
    machine.fake("sleep", 'touch "${FAKES}/back"')

    assert machine.run("container.sh") == 0, machine.said()

    assert len(machine.calls("docker", "pull")) == 2
    assert len(machine.calls("docker", "create")) == 1
    assert machine.outside.reports == []


@pytest.mark.parametrize("said", [TIMED_OUT, DENIED, MISSING])
def test_a_local_image_is_used_without_its_registry(machine: Machine, said: str) -> None:
    """The registry may be away, or may have lost the image."""
    machine.fake("docker", PULL_SAYS.format(said=said, local=0))

    assert machine.run("container.sh") == 0, machine.said()

    assert len(machine.calls("docker", "pull")) == 1
    assert machine.calls("docker", "create") == [create_arguments(machine)]
    assert machine.outside.reports == []


def test_a_metadata_server_that_fails_briefly_is_asked_again(machine: Machine) -> None:
    """It does so early in a boot."""
    machine.outside.metadata_answers = [503]

    assert machine.run("container.sh") == 0, machine.said()
    assert machine.calls("docker", "create") == [create_arguments(machine)]


def test_without_metadata_no_container_is_run(machine: Machine) -> None:
    """Its settings would be missing.

    The script is started again, and ready.sh can report what is missing.
    """
    del machine.outside.attributes["hub-branch"]

    assert machine.run("container.sh") != 0
    assert machine.calls("docker") == []
    assert (machine.state / "doing").read_text().startswith("METADATA_AWAY ")


# ---- ready.sh ------------------------------------------------------------------------------------

# A fake docker with one container. It runs while the file `running` exists, which has the result of
# its image's health check. While the file `restless` exists, it is a new container at each look.
# The Hub's health command succeeds while the file `well` exists, and otherwise ends with the status
# in the file `unwell`.
CONTAINER = """
case "$1" in
  inspect)
    since=2026-11-25
    [ ! -e "${FAKES}/restless" ] || since=${EPOCHREALTIME}
    [ -e "${FAKES}/running" ] && printf 'true %s%s\\n' "${since}" "$(<"${FAKES}/running")" ;;
  exec) [ -e "${FAKES}/well" ] || exit "$(cat "${FAKES}/unwell" || echo 1)" ;;
esac
"""


def is_now(machine: Machine, name: str, content: str = "") -> None:
    """Create a file that the fake tools check."""
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


def test_ready_is_reported_when_the_container_runs_and_is_healthy(machine: Machine) -> None:
    """It is not reported earlier, because a person connects at once."""
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
    assert machine.calls("docker", "exec")[0] == [
        "docker",
        "exec",
        "workspace",
        "/bin/sh",
        "-c",
        HEALTH,
    ]


def test_an_images_own_health_check_counts_too(machine: Machine) -> None:
    """While it is starting or unhealthy, the Hub's command is not run.

    Without a command it alone decides.
    """
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


def check_unhealthy(machine: Machine, words: str) -> None:
    """Check that the container is reported as unhealthy in time, for this reason."""
    machine.outside.attributes["hub-health-seconds"] = "1"

    assert machine.run("ready.sh") == 1
    [report] = machine.outside.reports
    assert report["code"] == "CONTAINER_UNHEALTHY"
    assert words in report["message"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "health command fails with status 1"),
        (126, "cannot be executed"),
        (127, "cannot be executed"),
        (124, "did not end within 30 seconds"),
    ],
)
def test_a_container_that_is_not_healthy_in_time_is_reported(
    machine: Machine, status: int, words: str
) -> None:
    """A command that does not exist is told apart from one that fails."""
    a_container(machine, "running")
    is_now(machine, "unwell", str(status))

    check_unhealthy(machine, words)


def test_a_health_command_that_hangs_is_ended(machine: Machine) -> None:
    """The reason says that it did not end in time."""
    machine.environment["HEALTH_PATIENCE_SECONDS"] = "0.2"
    a_container(machine, "running")
    machine.fake("docker", CONTAINER.replace("exec)", "exec) exec /bin/sleep 600;;\n  never)"))

    check_unhealthy(machine, "did not end within 0.2 seconds")


@pytest.mark.parametrize(
    ("health", "words"),
    [("starting", "not succeeded yet"), ("unhealthy", "image's health check fails")],
)
def test_an_images_failing_health_check_is_named_as_the_reason(
    machine: Machine, health: str, words: str
) -> None:
    """The Hub's own health command is not at fault."""
    a_container(machine, "well")
    is_now(machine, "running", f" {health}")

    check_unhealthy(machine, words)
    assert machine.calls("docker", "exec") == []


def did(machine: Machine, doing: str) -> None:
    """Record what container.sh is doing."""
    machine.state.mkdir(parents=True, exist_ok=True)
    (machine.state / "doing").write_text(f"{doing}\n")


def ended(machine: Machine, *reasons: str, ago_seconds: float = 0) -> None:
    """Record why and when the container has ended, as container.sh does."""
    machine.state.mkdir(parents=True, exist_ok=True)
    at = int(time.time() - ago_seconds)
    (machine.state / "new").write_text("".join(f"{at} {reason}\n" for reason in reasons))
    (machine.state / "new").replace(machine.state / "ends")


ENDS = "CONTAINER_ENDS The container ends with status 3."
NO_MEMORY = "CONTAINER_OUT_OF_MEMORY The container was killed."


@pytest.mark.parametrize(
    ("doing", "docker", "code", "words"),
    [
        ("", CONTAINER, "CONTAINER_NOT_RUNNING", "not started in time"),
        (
            "CONTAINER_NOT_RUNNING The image was still being pulled.",
            CONTAINER,
            "CONTAINER_NOT_RUNNING",
            "being pulled",
        ),
        ("METADATA_AWAY No settings.", CONTAINER, "METADATA_AWAY", "No settings."),
        ("CONTAINER_NOT_RUNNING Pulled.", "exit 1", "DOCKER_NOT_RUNNING", "Docker does not run"),
    ],
    ids=["nothing was done", "a slow pull", "no metadata", "no Docker"],
)
def test_a_container_that_does_not_start_in_time_is_reported(
    machine: Machine, doing: str, docker: str, code: str, words: str
) -> None:
    """The reason is what container.sh was doing when the time was over."""
    machine.environment["START_SECONDS"] = "1"
    machine.fake("docker", docker)
    if doing:
        did(machine, doing)

    assert machine.run("ready.sh") == 1
    [report] = machine.outside.reports
    assert report["code"] == code
    assert words in report["message"]


@pytest.mark.parametrize(
    ("states", "last"),
    [
        ([], ENDS),
        (["running", "well"], NO_MEMORY),
        (["running", "well", "restless"], "CONTAINER_REFUSED Docker cannot."),
        (["running"], "BOOT_DISK_FULL The disk is full."),
    ],
)
def test_a_container_that_keeps_ending_is_reported_and_never_ready(
    machine: Machine, states: list[str], last: str
) -> None:
    """While systemd restarts it again and again, the reason is that of its last end.

    It may run just then.
    """
    machine.environment["STEADY_SECONDS"] = "600"
    a_container(machine, *states)
    ended(machine, *[ENDS] * 4)
    machine.start("ready.sh")
    machine.until(lambda: len(machine.calls("docker", "inspect")) > 3)
    assert machine.outside.reports == []

    ended(machine, *[ENDS] * 4, last)
    machine.until(machine.outside.reports.copy)

    [report] = machine.outside.reports
    assert f"{report['code']} {report['message']}" == last


def test_a_restart_by_systemd_does_not_report_a_second_time(machine: Machine) -> None:
    """The Hub knows the failure already."""
    a_container(machine)
    ended(machine, *[ENDS] * 5)

    assert machine.run("ready.sh") == machine.run("ready.sh") == 1
    assert machine.outside.events() == ["CONTAINER_ENDS"]


def test_ready_is_reported_only_after_the_container_has_kept_running(machine: Machine) -> None:
    """Given a container that is a new one at each look, and healthy each time, it is not ready."""
    machine.environment["STEADY_SECONDS"] = "1"
    a_container(machine, "running", "well", "restless")
    machine.start("ready.sh")
    begun = time.monotonic()
    machine.until(
        lambda: time.monotonic() > begun + 2.5 and len(machine.calls("docker", "exec")) > 3
    )
    assert machine.outside.reports == []

    (machine.fakes / "restless").unlink()
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]


def test_ready_is_reported_only_after_the_container_has_stayed_healthy(machine: Machine) -> None:
    """One healthy look is not enough."""
    machine.environment["STEADY_SECONDS"] = "600"
    a_container(machine, "running", "well")
    machine.start("ready.sh")
    machine.until(lambda: len(machine.calls("docker", "exec")) > 10)

    assert machine.outside.reports == []


@pytest.mark.parametrize(
    ("ends_written", "code"),
    [
        ([], "CONTAINER_UNHEALTHY"),
        ([ENDS], "CONTAINER_UNHEALTHY"),
        ([NO_MEMORY] * 2, "CONTAINER_OUT_OF_MEMORY"),
    ],
)
def test_a_container_that_never_becomes_steady_is_given_up_in_time(
    machine: Machine, ends_written: list[str], code: str
) -> None:
    """The wait always ends. If the container has ended more than once, that is the reason."""
    machine.environment["STEADY_SECONDS"] = "1"
    machine.outside.attributes["hub-health-seconds"] = "0"
    a_container(machine, "running", "well", "restless")
    machine.start("ready.sh")
    machine.until(lambda: machine.calls("docker", "exec"))
    ended(machine, *ends_written, ago_seconds=-1)

    machine.until(machine.outside.events)
    assert machine.outside.events() == [code]


def test_a_container_that_keeps_ending_later_is_reported_once(machine: Machine) -> None:
    """Heartbeats continue, since somebody may be there to save their work."""
    ready(machine)
    machine.fake("pgrep", "echo 812")
    ended(machine, *[ENDS] * 4, NO_MEMORY)
    machine.until(lambda: "CONTAINER_OUT_OF_MEMORY" in machine.outside.events())
    machine.rounds(4)

    assert machine.outside.events().count("CONTAINER_OUT_OF_MEMORY") == 1
    assert machine.outside.events()[-2:] == ["heartbeat", "heartbeat"]


def test_a_container_that_ran_again_may_be_reported_again(machine: Machine) -> None:
    """Its recovery is not reported, but a second failure is."""
    ready(machine)
    ended(machine, *[ENDS] * 5)
    machine.until(lambda: len(machine.outside.reports) > 1)
    ended(machine, *[ENDS] * 5, ago_seconds=900)
    machine.rounds(2)
    assert machine.outside.events() == ["ready", "CONTAINER_ENDS"]

    ended(machine, *[NO_MEMORY] * 5)
    machine.until(lambda: len(machine.outside.reports) > 2)
    assert machine.outside.events() == ["ready", "CONTAINER_ENDS", "CONTAINER_OUT_OF_MEMORY"]


def test_a_container_that_ends_now_and_then_is_not_reported(machine: Machine) -> None:
    """A person may restart it, and ends of long ago do not count."""
    ended(machine, *[ENDS] * 5, ago_seconds=700)
    ready(machine)
    machine.rounds(2)
    ended(machine, *[ENDS] * 4)
    machine.rounds(2)

    assert machine.outside.events() == ["ready"]


@pytest.mark.parametrize(
    ("reasons", "code"),
    [([NO_MEMORY], "CONTAINER_OUT_OF_MEMORY"), ([], "CONTAINER_NOT_RUNNING")],
    ids=["after an end", "without one"],
)
def test_a_container_that_is_gone_for_good_is_reported_once(
    machine: Machine, reasons: list[str], code: str
) -> None:
    """It is reported after the time that a start may take."""
    machine.environment["START_SECONDS"] = "600"
    ready(machine)
    did(machine, "CONTAINER_NOT_RUNNING Docker did not start it.")
    (machine.fakes / "running").unlink()
    machine.rounds(2)
    assert machine.outside.events() == ["ready"]

    ended(machine, *reasons)
    machine.until(lambda: len(machine.outside.reports) > 1)
    machine.rounds(6)
    assert machine.outside.events() == ["ready", code]


def test_a_container_that_is_away_for_a_moment_is_not_gone(machine: Machine) -> None:
    """The time is counted anew when it is back."""
    machine.environment["START_SECONDS"] = "600"
    ready(machine)
    for _ in range(4):
        (machine.fakes / "running").unlink()
        machine.rounds(2)
        is_now(machine, "running")
        machine.rounds(1)

    assert machine.outside.events() == ["ready"]


def test_a_removed_firewall_rule_is_added_again(machine: Machine) -> None:
    """This happens while the container runs."""
    ready(machine)
    machine.rounds(1)
    (machine.fakes / "iptables.rules").write_text("")
    machine.until(lambda: rules(machine) == {"iptables": [GUARDS["iptables"]]})


def test_the_container_is_observed_more_often_than_heartbeats_are_due(machine: Machine) -> None:
    """This holds for heartbeats that are more frequent than the usual looks, too."""
    del machine.environment["WATCH_SECONDS"]
    machine.outside.attributes["hub-heartbeat-seconds"] = "10"
    machine.fake("pgrep", "echo 812")
    ready(machine)
    machine.until(lambda: len(machine.outside.reports) > 3)

    pauses = [call[1] for call in machine.calls("sleep")]
    assert set(pauses) == {"5"}


def test_heartbeats_are_as_far_apart_as_the_hub_answers(machine: Machine) -> None:
    """If the interval is no multiple of the pause, the last pause is shorter."""
    machine.outside.attributes["hub-heartbeat-seconds"] = "100"
    ready(machine)
    machine.until(lambda: len(machine.calls("sleep")) > 3)

    assert [call[1] for call in machine.calls("sleep")][:4] == ["60", "40"] * 2


def test_without_anybody_there_is_no_heartbeat(machine: Machine) -> None:
    """Otherwise no workspace would ever become idle."""
    ready(machine)
    machine.rounds(5)

    assert machine.outside.events() == ["ready"]


# The titles of sshd's processes, as `ps` shows them with OpenSSH 9.2 and 10.0 on Debian, and as
# session.c and monitor.c of OpenSSH's sources set them. Spaces at the end are the rest of the
# command line.
LOGGED_IN = [
    *(
        "sshd: dev@pts/0",
        "sshd: dev@notty",
        "sshd: dev@pts/0,pts/1",
        "sshd: dev",
        "sshd: dev@internal-sftp",
        "sshd: root",
    ),
    *(
        "sshd-session: alice_example_com@pts/0",
        "sshd-session: dev@notty",
        "sshd-session: dev",
        "sshd: dev@notty      ",
    ),
]
NOT_LOGGED_IN = [
    *(
        "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
        "/usr/sbin/sshd -D",
        "sshd: [accepted]",
        "sshd: [net]",
    ),
    *(
        "sshd: dev [priv]",
        "sshd: dev [net]",
        "sshd: dev [pam]",
        "sshd: unknown [priv]",
        "sshd: unknown [net]",
    ),
    *(
        "sshd-session: dev [priv]",
        "sshd-session: [accepted]",
        "sshd-auth: dev [net]",
        "sshd-auth: dev",
        "ssh: dev@pts/0",
    ),
    *(
        "docker exec --interactive --tty workspace /bin/sh -c bash",
        "bash sshd: dev",
        "not-sshd: dev",
    ),
]


def processes(machine: Machine, *titles: str) -> None:
    """Put these processes on the machine. A real tool matches the script's pattern."""
    (machine.fakes / "titles").write_text("".join(f"{title}\n" for title in titles))
    machine.fake("pgrep", 'grep --extended-regexp -e "${@: -1}" "${FAKES}/titles"')


@pytest.mark.parametrize("title", ["sshd: dev@pts/0", "sshd-session: dev"])
def test_heartbeats_are_sent_while_somebody_is_logged_in(machine: Machine, title: str) -> None:
    """They may have a shell or not. Each report has this boot's generation."""
    ready(machine)
    processes(machine, *NOT_LOGGED_IN, title)
    machine.until(lambda: len(machine.outside.reports) > 3)

    processes(machine, *NOT_LOGGED_IN)
    machine.rounds(2)
    so_far = len(machine.outside.reports)
    machine.rounds(4)

    assert len(machine.outside.reports) == so_far
    heartbeat = {"event": "heartbeat", "generation": 3, "because": "session"}
    assert machine.outside.reports[1:] == [heartbeat] * (so_far - 1)
    assert machine.calls("pgrep")[0][1:2] == ["--ns"]
    assert machine.calls("pgrep")[0][3:6] == ["--nslist", "pid", "--full"]


def test_processes_without_a_login_do_not_count(machine: Machine) -> None:
    """These are an unauthenticated connection, its monitor, and a command without a connection."""
    ready(machine)
    processes(machine, *NOT_LOGGED_IN)
    machine.rounds(3)

    assert len(machine.calls("pgrep")) > 3
    assert machine.outside.events() == ["ready"]
    pattern = machine.calls("pgrep")[0][-1]
    for title in LOGGED_IN:
        processes(machine, *NOT_LOGGED_IN, title)
        titles = str(machine.fakes / "titles")
        found = subprocess.run(
            ["grep", "-E", "-e", pattern, titles], check=False, capture_output=True, text=True
        )
        assert found.stdout == f"{title}\n"


def test_a_login_between_two_heartbeats_counts(machine: Machine) -> None:
    """The script looks more often than it reports."""
    machine.environment["WATCH_SECONDS"] = "10"
    ready(machine)
    machine.fake("pgrep", '[ ! -e "${FAKES}/came" ] || exit 1; touch "${FAKES}/came"')

    machine.until(lambda: len(machine.outside.reports) > 1)
    so_far = len(machine.calls("sleep"))
    machine.until(lambda: len(machine.calls("sleep")) > so_far + 30)
    assert machine.outside.events() == ["ready", "heartbeat"]


@pytest.mark.parametrize("status", [2, 3, 127])
def test_if_logins_cannot_be_read_somebody_is_assumed_to_be_there(
    machine: Machine, status: int
) -> None:
    """A machine in use must not be stopped because a tool has changed."""
    machine.fake("pgrep", f"exit {status}")
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 1)
    assert machine.outside.events()[1] == "heartbeat"
    assert "<4>Cannot find out whether somebody is logged in" in machine.said()


def test_a_hub_that_does_not_know_the_reason_gets_heartbeats_without_it(machine: Machine) -> None:
    """An older revision beside a newer one refuses the field."""
    machine.outside.hub_answers = [204, 400, 204]
    machine.fake("pgrep", "echo 812")
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 2)
    _, refused, taken = machine.outside.reports[:3]
    assert refused == {"event": "heartbeat", "generation": 3, "because": "session"}
    assert taken == {"event": "heartbeat", "generation": 3}


def test_a_refused_heartbeat_or_failure_changes_nothing(machine: Machine) -> None:
    """The log says so. A failure is reported again, since it may count for the next operation."""
    machine.outside.hub_answers = [204, 409, 409]
    machine.fake("pgrep", "echo 812")
    ready(machine)
    machine.until(lambda: len(machine.outside.reports) > 1)
    ended(machine, *[ENDS] * 5)
    machine.until(lambda: len(machine.outside.reports) > 4)

    assert sorted(set(machine.outside.events())) == ["CONTAINER_ENDS", "heartbeat", "ready"]
    assert machine.outside.events().count("CONTAINER_ENDS") == 2
    assert "The Hub refused the report" in machine.said()


def keep_awake(machine: Machine, age_seconds: float) -> None:
    """Touch ~/.keep-awake this many seconds ago."""
    file = machine.mount / "home" / ".keep-awake"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    at = time.time() - age_seconds
    os.utime(file, (at, at))


@pytest.mark.parametrize(
    "age_seconds", [5, 3500, -30], ids=["just now", "within the hour", "a clock that differs"]
)
def test_a_touched_file_keeps_the_workspace_awake(machine: Machine, age_seconds: float) -> None:
    """It counts for as long as the Hub allows after the last touch."""
    keep_awake(machine, age_seconds)
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 2)
    heartbeat = {"event": "heartbeat", "generation": 3, "because": "keep_awake"}
    assert machine.outside.reports[1:3] == [heartbeat] * 2


def test_a_login_is_the_reason_before_the_file(machine: Machine) -> None:
    """There is no limit on how long people may work."""
    keep_awake(machine, 5)
    machine.fake("pgrep", "echo 812")
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 1)
    assert machine.outside.reports[1]["because"] == "session"


@pytest.mark.parametrize("age_seconds", [3700, -3600], ids=["too long ago", "from the future"])
def test_no_workspace_is_kept_awake_for_ever(machine: Machine, age_seconds: float) -> None:
    """Neither a forgotten file nor one with a time in the future counts."""
    keep_awake(machine, age_seconds)
    ready(machine)
    machine.rounds(5)

    assert machine.outside.events() == ["ready"]


def test_a_boot_keeps_its_generation(machine: Machine) -> None:
    """The Hub writes the next generation before a restart, and this boot must not report for it."""
    ready(machine)
    machine.outside.attributes["hub-generation"] = "4"
    machine.fake("pgrep", "echo 812")
    machine.until(lambda: len(machine.outside.reports) > 2)
    machine.fake("docker", PULL_SAYS.format(said=DENIED, local=1))
    machine.run("container.sh")

    assert {report["generation"] for report in machine.outside.reports} == {3}
    assert "IMAGE_DENIED" in machine.outside.events()


def test_the_next_boot_has_the_next_generation(machine: Machine) -> None:
    """The last generation was kept in memory only."""
    ready(machine)
    machine.end()
    shutil.rmtree(machine.state)
    machine.outside.attributes["hub-generation"] = "4"

    machine.start("ready.sh")
    machine.until(lambda: len(machine.outside.reports) > 1)
    assert [report["generation"] for report in machine.outside.reports] == [3, 4]


@pytest.mark.parametrize("says", [NO_ANSWER, 401, 408, 429, 500, 503])
def test_a_report_is_retried_after_a_passing_error(machine: Machine, says: int) -> None:
    """No answer, 5xx, 401 (a clock that is late after a suspend): each retry has a fresh token."""
    machine.outside.hub_answers = [says, says]
    a_container(machine, "running", "well")
    machine.start("ready.sh")

    machine.until(lambda: machine.calls("sleep", "60"))
    assert machine.outside.events() == ["ready"] * 3
    assert machine.calls("sleep")[:2] == [["sleep", "1"], ["sleep", "2"]]


def test_a_report_is_retried_while_the_hub_cannot_be_reached(machine: Machine) -> None:
    """The Hub's address is read again each time."""
    right = machine.outside.attributes["hub-reports-url"]
    machine.outside.attributes["hub-reports-url"] = "http://127.0.0.1:9/workspaces/x/reports"
    a_container(machine, "running", "well")
    machine.start("ready.sh")
    machine.until(lambda: len(machine.outside.tokens) > 1)

    machine.outside.attributes["hub-reports-url"] = right
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]


def test_a_token_that_cannot_be_fetched_is_asked_for_again(machine: Machine) -> None:
    """The metadata server may be away for a moment, too."""
    machine.outside.tokens_refused = 2
    ready(machine)

    assert len(machine.outside.tokens) == 1


@pytest.mark.parametrize("says", [400, 403, 404, 409, 410])
def test_a_refused_ready_report_ends_the_script(machine: Machine, says: int) -> None:
    """Another generation counts, or the workspace is gone.

    There are no heartbeats, and systemd does not retry.
    """
    machine.outside.hub_answers = [says]
    a_container(machine, "running", "well")
    machine.fake("pgrep", "echo 812")

    assert machine.run("ready.sh") == 0
    assert machine.outside.events() == ["ready"]


def test_a_report_is_given_up_when_the_hub_stays_away(machine: Machine) -> None:
    """The exit status is a failure, so systemd starts the script again, which reports again."""
    machine.environment["PATIENCE_SECONDS"] = "0"
    machine.outside.hub_answers = [503] * 100
    a_container(machine)
    ended(machine, *[ENDS] * 5)

    assert machine.run("ready.sh") == machine.run("ready.sh") == 1
    assert machine.outside.events() == ["CONTAINER_ENDS"] * 2


def test_after_a_lost_ready_report_the_next_start_reports_again(machine: Machine) -> None:
    """The Hub was away for longer than the patience.

    The exit status makes systemd start the script again.
    """
    machine.environment["PATIENCE_SECONDS"] = "0"
    machine.outside.hub_answers = [503]
    a_container(machine, "running", "well")

    assert machine.run("ready.sh") == 1
    ready_again = machine.start("ready.sh")
    machine.until(lambda: len(machine.outside.reports) > 1)
    assert machine.outside.events() == ["ready"] * 2
    assert ready_again.poll() is None


# ---- ssh.sh and shell.sh -------------------------------------------------------------------------

USUAL_SSHD_CONFIG = "PermitRootLogin no\nMatch User x\n  X11Forwarding no\n"


def test_sshd_is_configured_once(machine: Machine) -> None:
    """However often the script runs, the former configuration stays before the block."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)

    assert machine.run("ssh.sh") == 0, machine.said()
    once = machine.sshd_config.read_text()
    assert machine.run("ssh.sh") == 0, machine.said()

    assert machine.sshd_config.read_text() == once
    assert once.startswith(f"{USUAL_SSHD_CONFIG}\n# workspace-hub\nMatch all\n")
    assert once.count("ForceCommand") == 1
    check, reload = (
        ["sshd", "-t", "-f", str(machine.sshd_config)],
        ["systemctl", "reload-or-restart", "sshd.service"],
    )
    assert [call for _, *call in machine.records() if call[0] in {"sshd", "systemctl"}] == [
        check,
        reload,
    ]


def test_sshd_is_not_reloaded_when_it_would_not_start(machine: Machine) -> None:
    """Nobody could connect any more. When the configuration is valid again, sshd is reloaded."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)
    machine.fake("sshd", "exit 255")

    assert machine.run("ssh.sh") != 0
    assert machine.calls("systemctl") == []
    machine.fake("sshd", ":")
    assert machine.run("ssh.sh") == 0, machine.said()
    assert len(machine.calls("systemctl")) == 1
    assert machine.sshd_config.read_text().count("ForceCommand") == 1


def before_the_end(text: str) -> str:
    """Return a text without its last two lines."""
    return "".join(text.splitlines(keepends=True)[:-2])


LOST: dict[str, Callable[[str], str]] = {
    "all of it": lambda text: text.partition("# workspace-hub")[0],
    "but for its first lines": before_the_end,
    "the whole file": lambda text: text[:0],
}


@pytest.mark.parametrize("lost", LOST)
def test_a_lost_block_is_added_again(machine: Machine, lost: str) -> None:
    """The guest agent reads the file, empties it and writes it again."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)
    machine.run("ssh.sh")
    ours = machine.sshd_config.read_text().removeprefix(USUAL_SSHD_CONFIG)
    machine.sshd_config.write_text(LOST[lost](machine.sshd_config.read_text()))

    assert machine.run("ssh.sh") == 0, machine.said()

    assert machine.sshd_config.read_text().endswith(ours)
    assert len(machine.calls("systemctl")) == 2


def test_a_block_that_is_lost_during_the_run_is_added_again(machine: Machine) -> None:
    """The same run adds it: a change during the run does not start another."""
    machine.sshd_config.write_text(USUAL_SSHD_CONFIG)
    lose = (
        f'[ -e "${{FAKES}}/lost" ] || echo "PermitRootLogin no" >{machine.sshd_config}\n'
        'touch "${FAKES}/lost"'
    )
    machine.fake("systemctl", lose)

    assert machine.run("ssh.sh") == 0, machine.said()

    assert machine.sshd_config.read_text().count("ForceCommand") == 1
    assert len(machine.calls("systemctl")) == 2


COMMANDS = {
    "several words": "ls -l '/a b' | wc -l",
    "quotes": "\"; touch x; ' -x",
    "a command": "$(touch x)`touch x`",
    "lines": "one\ntwo",
    "an option": "--privileged",
    "10 KB": "x'\"$(" * 2000,
}
RUNNING = '[ "$1" != inspect ] || echo true'


def asked_of_the_container(machine: Machine) -> tuple[list[str], list[str]]:
    """Return with which options the container was asked for what: a script and its arguments.

    What marks the session, and the language of these tests, are left out.
    """
    [run] = machine.calls("docker", "exec")
    at = run.index("workspace")
    options, (*shell, session, name), asked = run[2:at], run[at + 1 : at + 5], run[at + 5 :]
    assert (shell, name) == (["/bin/sh", "-c"], "sh")
    assert 'sh -c "$@"' in session
    ours = [
        option
        for option in options
        if option.startswith("WORKSPACE_SESSION=") or option == "LC_ALL=C.UTF-8"
    ]
    assert len(ours) == 2
    for each in ours:
        del options[options.index(each) - 1 : options.index(each) + 1]
    return options, asked


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_is_one_argument_to_the_container(machine: Machine, what: str) -> None:
    """Only the shell in the container reads it."""
    machine.fake("docker", RUNNING)

    assert machine.run("shell.sh", COMMANDS[what]) == 0, machine.said()

    assert asked_of_the_container(machine) == (["--interactive"], [COMMANDS[what]])
    assert not list(machine.folder.rglob("x"))


SFTP = (
    "internal-sftp",
    "internal-sftp -l INFO -u 0077",
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/sftp-server -e",
)
# A fake docker. The container has an sftp-server if the file `server` exists: its path is in that
# file. User 1000 has a name if the file `name` exists. A shell on the machine runs the commands,
# without the paths that begin with /usr.
SHELL = """
[ "$1" != inspect ] || echo true
[ "$1" = exec ] || exit 0
id() { [ -e "${FAKES}/name" ]; }
export -f id
while [ "$1" != /bin/sh ]; do shift; done
exec bash "${@:2:1}" "${3//\\/usr\\//\\/nowhere\\/}" "${@:4}"
"""


def sftp_session(machine: Machine, asked: str, requests: bytes) -> tuple[int, bytes]:
    """Run a command with this input; return its status and its answer."""
    machine.fake("docker", SHELL)
    done = subprocess.run(
        ["/bin/bash", str(BOOT / "shell.sh"), asked],
        env=machine.environment,
        cwd=machine.folder,
        input=requests,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("asked", SFTP)
def test_sftp_uses_the_containers_server(machine: Machine, asked: str) -> None:
    """Its options are passed on. sshd's internal server would serve the machine's files."""
    (machine.fakes / "name").touch()
    server = machine.fakes / "bin" / "sftp-server"
    server.write_text('#!/bin/bash\necho "options: $*"\ncat\n')
    server.chmod(0o755)
    options = asked.split()[1:]

    answer = f"options: {' '.join(options)}\npackets\n".encode()
    assert sftp_session(machine, asked, b"packets\n") == (0, answer)


def packet(*parts: bytes) -> bytes:
    """Return a packet of the sftp protocol."""
    content = b"".join(parts)
    return len(content).to_bytes(4, "big") + content


INIT = packet(b"\x01", b"\0\0\0\3")
VERSION = packet(b"\x02", b"\0\0\0\3")


@pytest.mark.parametrize("asked", SFTP)
@pytest.mark.parametrize(("name", "lacks"), [(True, "sftp-server"), (False, "name for user 1000")])
def test_without_an_sftp_server_each_request_is_answered_with_the_reason(
    machine: Machine, asked: str, name: bool, lacks: str
) -> None:
    """People see nothing else that a subsystem prints."""
    if name:
        (machine.fakes / "name").touch()
    requests = [
        packet(b"\x10", b"\0\0\0\1", b"\0\0\0\1."),
        packet(b"\x05", b"\xfe\x0a\x00\xff", os.urandom(3000)),
    ]

    status, answer = sftp_session(machine, asked, INIT + b"".join(requests))

    assert status == 127
    assert answer.startswith(VERSION)
    answer = answer.removeprefix(VERSION)
    for number in (b"\0\0\0\1", b"\xfe\x0a\x00\xff"):
        length, answer = int.from_bytes(answer[:4], "big"), answer[4:]
        told, answer = answer[:length], answer[length:]
        assert told[:9] == b"\x65" + number + b"\0\0\0\x08"
        reason = told[13:-4]
        assert reason.startswith(f"The image of this workspace has no {lacks}".encode())
        assert told[9:13] + told[-4:] == len(reason).to_bytes(4, "big") + bytes(4)
    assert answer == b""


@pytest.mark.parametrize(
    "asked", ["echo internal-sftp", "/x/sftp-server; ls", "internal-sftp $(ls)", "sftp-server.py"]
)
def test_what_only_looks_like_sftp_is_a_command_like_any_other(
    machine: Machine, asked: str
) -> None:
    """The shell in the container reads it."""
    machine.fake("docker", RUNNING)

    assert machine.run("shell.sh", asked) == 0, machine.said()

    assert asked_of_the_container(machine) == (["--interactive"], [asked])


@pytest.mark.parametrize("asked", ["rsync --server -e.iLsfxCIvu . there", "scp -t there"])
def test_an_image_without_a_copy_tool_says_so(machine: Machine, asked: str) -> None:
    """Otherwise people would only see a closed connection."""
    machine.fake("docker", SHELL.replace("exec bash", "PATH=/nowhere exec /bin/bash"))

    assert machine.run("shell.sh", asked) == 127
    assert machine.said().startswith(
        f"The image of this workspace has no {asked.split(maxsplit=1)[0]}. Add it"
    )


@pytest.mark.parametrize("what", [*COMMANDS, "a login"])
def test_a_command_by_ssh_reaches_the_container_unchanged(machine: Machine, what: str) -> None:
    """It passes sshd's line, a person's shell, sudo and the script."""
    command = COMMANDS.get(what, "")
    machine.fake("docker", RUNNING)
    run_it = (
        '[ "$1 $2 $3" = "--non-interactive /bin/bash /etc/workspace-hub/shell.sh" ] &&'
        f' exec bash {BOOT}/shell.sh "${{@:4}}"'
    )
    machine.fake("sudo", run_it)
    forced = source("ssh.sh").partition("ForceCommand ")[2].splitlines()[0]
    environment = {**machine.environment, **({"SSH_ORIGINAL_COMMAND": command} if command else {})}

    subprocess.run(
        ["/bin/bash", "-c", forced],
        env=environment,
        cwd=machine.folder,
        check=True,
        stdin=subprocess.DEVNULL,
    )

    options, [asked_for] = asked_of_the_container(machine)
    assert options == ["--interactive"]
    assert asked_for == command or (not command and "bash --login" in asked_for)
    assert not list(machine.folder.rglob("x"))


@pytest.mark.parametrize("arguments", [[], [""]])
def test_without_a_command_there_is_a_login_shell(machine: Machine, arguments: list[str]) -> None:
    """It has the person's terminal, and is bash if the image has it."""
    machine.fake("docker", RUNNING)
    machine.environment["TERM"] = "xterm-256color"
    ours, theirs = pty.openpty()
    try:
        assert machine.run("shell.sh", *arguments, stdin=theirs) == 0, machine.said()
    finally:
        os.close(ours)
        os.close(theirs)

    options, [asked_for] = asked_of_the_container(machine)
    assert options == ["--interactive", "--tty", "--env", "TERM=xterm-256color"]
    assert "exec bash --login" in asked_for


def test_a_persons_language_is_passed_on(machine: Machine) -> None:
    """The variables pass sshd and sudo, each as one argument."""
    machine.fake("docker", RUNNING)
    machine.environment |= {
        "LANG": "de_DE.UTF-8",
        "LC_TIME": "$(touch x) --privileged",
        "COLORTERM": "truecolor",
        "EDITOR": "vi",
    }

    assert machine.run("shell.sh", "ls") == 0, machine.said()

    options, _ = asked_of_the_container(machine)
    given = {"LANG=de_DE.UTF-8", "LC_TIME=$(touch x) --privileged", "COLORTERM=truecolor"}
    assert options[1::2] == ["--env"] * 3
    assert set(options[2::2]) == given
    assert not list(machine.folder.rglob("x"))


@contextlib.contextmanager
def agent(machine: Machine, owner: str) -> Iterator[str]:
    """Make an agent's socket with an owner, as sshd does; yield its path."""
    path = f"/tmp/agent-{os.urandom(6).hex()}"
    machine.fake("docker", RUNNING)
    machine.fake(
        "stat",
        f'[ "${{@: -1}}" != {path} ] || {{ echo "socket of {owner}"; exit; }}\n'
        'exec /usr/bin/stat "$@"',
    )
    machine.environment |= {"SSH_AUTH_SOCK": path, "SUDO_UID": "4711"}
    (machine.folder / "run" / "agents").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        try:
            yield path
        finally:
            Path(path).unlink()


@pytest.mark.parametrize("owner", ["4711", "1000"], ids=["first", "second session of a connection"])
def test_an_agent_is_shared_while_the_session_lasts(machine: Machine, owner: str) -> None:
    """The socket belongs to user 1000: with sshd's owner nobody in the container could use it."""
    with agent(machine, owner) as path:
        assert machine.run("shell.sh", "ls") == 0, machine.said()

    (_, flag, given), _ = asked_of_the_container(machine)
    assert flag == "--env"
    shared = f"{machine.folder}/run/agents/{given.removeprefix('SSH_AUTH_SOCK=/run/ssh-agents/')}"
    assert machine.calls("mount") == [["mount", "--bind", path, shared]]
    assert machine.calls("chown") == [["chown", "1000:1000", shared]]
    assert machine.calls("umount")[0] == ["umount", "--lazy", shared]
    assert not Path(shared).exists()


def test_a_socket_that_is_not_the_persons_agent_is_not_shared(machine: Machine) -> None:
    """A socket of the machine, such as Docker's, would give root access."""
    with agent(machine, "0"):
        assert machine.run("shell.sh", "ls") == 0, machine.said()

    assert asked_of_the_container(machine) == (["--interactive"], ["ls"])
    assert machine.calls("mount") == machine.calls("chown") == []


def test_an_agent_that_cannot_be_shared_does_not_prevent_the_session(machine: Machine) -> None:
    """The person is told."""
    machine.fake("mount", "exit 32")
    with agent(machine, "4711"):
        assert machine.run("shell.sh", "ls") == 0

    assert asked_of_the_container(machine) == (["--interactive"], ["ls"])
    assert "Your agent is not forwarded" in machine.said()


HANGS = """
[ "$1" != inspect ] || echo true
[ "$1" = exec ] || exit 0
session=NONE=
while [ "$1" != workspace ]; do
  [[ $1 != WORKSPACE_SESSION=* ]] || session=$1
  shift
done
shift
setsid env "${session}" "$@" &
touch "${FAKES}/asked"
[ -e "${FAKES}/restarts" ] || { wait; exit; }
until [ -e "$(cat "${FAKES}/restarts")" ]; do sleep 1; done
"""


@pytest.mark.parametrize("what", ["the connection", "Docker"])
def test_a_command_ends_with_its_connection(machine: Machine, what: str) -> None:
    """The SSH connection may be lost, or Docker's own when Docker restarts.

    Docker would leave the command running.
    """
    machine.fake("pgrep", f'exec {needed("pgrep", "procps")} "$@"')
    machine.fake("docker", HANGS)
    machine.fake("sleep", "/bin/sleep 0.5")
    begun, ended = machine.folder / "begun", machine.folder / "ended"
    if what == "Docker":
        (machine.fakes / "restarts").write_text(str(begun))

    shell = machine.start(
        "shell.sh",
        f"trap 'touch {ended}; exit' HUP; touch {begun};"
        " for _ in $(seq 300); do /bin/sleep 0.1; done",
    )
    machine.until(begun.exists)
    if what == "the connection":
        shell.send_signal(signal.SIGHUP)
    machine.until(ended.exists)
    machine.until(lambda: shell.poll() is not None)


@pytest.mark.parametrize(
    "answer", ['[ "$1" != inspect ] || echo false', "exit 1"], ids=["stopped", "not there"]
)
def test_a_person_who_connects_too_early_is_told_what_to_do(machine: Machine, answer: str) -> None:
    """The message is the script's, and not Docker's."""
    machine.fake("docker", answer)

    assert machine.run("shell.sh", "ls") == 1

    assert "not running. Wait a moment" in machine.said()
    assert machine.calls("docker", "exec") == []


# ---- the local cloud -----------------------------------------------------------------------------


def test_the_local_hub_accepts_a_report(machine: Machine, cloud: RunningCloud) -> None:
    """Given a real workspace's metadata and a token, both from the local metadata server."""
    alice = ApiClient(cloud.address, cloud.token("scripted@example.com"))
    workspace = alice.wait_until_settled(alice.create("scripted")["id"], "READY")
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
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "report heartbeat of generation 1: the Hub answered 204",
    ), done.stderr
