"""One guest in systemd-nspawn: real systemd, cloud-init and Docker, on the host's kernel.

It has its own network. All its mounts, networks and processes belong to one process, and end with
it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.guests.image import METADATA_ADDRESS

NEEDED = ("systemd-nspawn", "mmdebstrap", "unshare", "losetup", "nsenter", "ip")
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_POWER_OFF = signal.SIGRTMIN + 4
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    "SYSTEMD_SECCOMP": "0",
}
# cloud-init must not check the platform: a container has no DMI that says "Google Compute Engine".
_SKIP_PLATFORM_CHECK = (
    "sed -i s/platform_check=True/platform_check=False/"
    " usr/lib/python3/dist-packages/cloudinit/sources/DataSourceGCE.py"
)
# live-restore is as on Container-Optimized OS: there containers survive a restart of Docker.
_DOCKER = '{"storage-driver": "$STORAGE_DRIVER", "live-restore": true}'
# The scripts wait less for a steady container and for a right that takes effect late.
_SHORT_WAITS = "[Service]\\nEnvironment=STEADY_SECONDS=4 DENIED_SECONDS=5\\n"
_LAUNCH = (
    """
set -e
ip link set lo up
ip address add "$METADATA_ADDRESS/32" dev lo
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/work" "$WORK/root"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
[ -z "$BOOT_DISK_BYTES" ] || mount -t tmpfs -o "size=$BOOT_DISK_BYTES" tmpfs "$DOCKER"
cd "$WORK/root"
{skip_platform_check}
mkdir -p etc/docker
cat > etc/docker/daemon.json << END
{docker}
END
for unit in container ready; do
  mkdir -p etc/systemd/system/workspace-$unit.service.d
  printf '{short_waits}' > etc/systemd/system/workspace-$unit.service.d/short-waits.conf
done
echo ready
read -r _
exec systemd-nspawn --quiet --register=no --keep-unit --directory="$WORK/root" \
  --machine="$NAME" --boot --capability=all \
  --bind="$LOOP:/dev/disk/by-id/google-home" --bind="$DOCKER:/var/lib/docker" \
  --console=read-only --resolv-conf=off
""".replace("{skip_platform_check}", _SKIP_PLATFORM_CHECK)
    .replace("{docker}", _DOCKER)
    .replace("{short_waits}", _SHORT_WAITS)
)


def missing() -> list[str]:
    """Return what this host lacks for guests: root, tools, loop devices or namespaces."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0:
        return ["root", *lacking]
    if (
        not lacking
        and subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode != 0
    ):
        return ["loop devices"]
    if (
        not lacking
        and subprocess.run(["unshare", "--mount", "--net", "true"], check=False).returncode != 0
    ):
        return ["the right to make namespaces"]
    return lacking


def storage_driver(folder: Path) -> str:
    """Return the driver that Docker can use in a folder.

    It is ``overlay2`` if the folder can be the upper layer of an overlay, which it cannot be on
    another overlay.
    """
    tried = """
    cd "$0" && mkdir lower upper work both
    mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work both
    """
    trial = folder / "overlay"
    trial.mkdir(parents=True)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", tried, trial], capture_output=True, check=False
    )
    shutil.rmtree(trial)
    return "overlay2" if done.returncode == 0 else "vfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSettings:
    """One guest: its name, its files, and the addresses that it reaches.

    Attributes:
        name: the machine's name.
        folder: for the guest's own files: the console's text, Docker's data, a tool's output.
        home: the home disk, a file.
        metadata_url: the address of the machine's metadata.
        reached: addresses of the host (``127.0.0.1:port``) that the guest reaches at the same
            address.
        served: handlers that answer the guest, by port of 127.0.0.1.
        boot_disk_bytes: the space for Docker in nspawn; None: as much as the host has.
    """

    name: str
    folder: Path
    home: Path
    metadata_url: str
    reached: tuple[str, ...]
    served: Mapping[int, type[BaseHTTPRequestHandler]]
    boot_disk_bytes: int | None = None


class Guest:
    """One machine from power-on to power-off.

    Args:
        settings: of this guest.
        root: the root file system. As on Container-Optimized OS, all changes to it are lost when
            the guest ends.
        storage_driver: Docker's. ``vfs`` works everywhere, and copies every file of an image twice;
            see ``storage_driver``.
    """

    def __init__(self, settings: GuestSettings, *, root: Path, storage_driver: str = "vfs") -> None:
        self._storage_driver = storage_driver
        self._stack = contextlib.ExitStack()
        try:
            self._boot(settings, root)
            self._listen(METADATA_ADDRESS, 80, metadata_handler(settings.metadata_url))
            for port, handler in settings.served.items():
                self._listen("127.0.0.1", port, handler)
            for address in settings.reached:
                host, _, port_text = address.rpartition(":")
                self._relay(host, int(port_text))
            self._tell.write(b"\n")
            self._tell.flush()
        except BaseException:
            self._stack.close()
            raise

    def run(self, *command: str, user_input: str | None = None, check: bool = True) -> str:
        """Run a command in the guest and return what it printed.

        Raises:
            RuntimeError: it failed. The message has its output.
        """
        done = subprocess.run(
            self.entered(*command),
            capture_output=True,
            text=True,
            input=user_input,
            check=False,
            timeout=60,
            env={"PATH": _ENVIRONMENT["PATH"]},
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def entered(self, *command: str) -> list[str]:
        """Return the command by which the host runs a command in the guest, as root."""
        [init] = (
            Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        )
        return ["nsenter", f"--target={init}", "--all", *command]

    def power_off(self) -> None:
        """Press the power button, wait for the guest to shut down (at most 20 s), and clean up."""
        with contextlib.suppress(OSError, ValueError):
            [init] = (
                Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
                .read_text()
                .split()
            )
            os.kill(int(init), _POWER_OFF)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        self._stack.close()

    def _boot(self, settings: GuestSettings, root: Path) -> None:
        folder = settings.folder
        work, docker = folder / "work", folder / "docker"
        work.mkdir(parents=True, exist_ok=True)
        docker.mkdir(exist_ok=True)
        loop = subprocess.run(
            ["losetup", "--find", "--show", settings.home],
            check=True,
            capture_output=True,
            text=True,
        )
        self._stack.callback(
            subprocess.run, ["losetup", "--detach", loop.stdout.strip()], check=False
        )
        environment = {
            **_ENVIRONMENT,
            "NAME": settings.name,
            "LOWER": str(root),
            "WORK": str(work),
            "DOCKER": str(docker),
            "LOOP": loop.stdout.strip(),
            "BOOT_DISK_BYTES": str(settings.boot_disk_bytes or ""),
            "METADATA_ADDRESS": METADATA_ADDRESS,
            "STORAGE_DRIVER": self._storage_driver,
        }
        console = self._stack.enter_context((folder / "console").open("ab"))
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--net", "bash", "-c", _LAUNCH],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=console,
            preexec_fn=partial(  # noqa: PLW1509 -- no other threads fork here
                ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL
            ),
        )
        self._stack.callback(self._end)
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("unreachable: both are pipes")
        self._tell = self._process.stdin
        if self._process.stdout.readline() != b"ready\n":
            said = (folder / "console").read_text()
            raise RuntimeError(f"The guest's file system or network cannot be made: {said}")
        self._copying = threading.Thread(target=_copy, args=(self._process.stdout, console))
        self._copying.start()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(timeout=20)
        self._copying.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def _listen(self, address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        server = ThreadingHTTPServer((address, port), handler, bind_and_activate=False)
        server.socket.close()
        server.socket = self._socket(address, port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)

    def _relay(self, host: str, port: int) -> None:
        """Let the guest reach a port of the host at the same address."""
        listening = self._socket(host, port)
        self._stack.callback(listening.close)
        self._stack.callback(_wake, listening)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listening.accept()
                    threading.Thread(target=_join, args=(near, host, port)).start()

        threading.Thread(target=accept, daemon=True).start()

    def _socket(self, address: str, port: int) -> socket.socket:
        """Return a socket that listens in the guest's network.

        A socket stays in the network in which it was created.
        """
        made: list[socket.socket] = []

        def make() -> None:
            with Path(f"/proc/{self._process.pid}/ns/net").open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    return  # the thread ends, in either network
            made.append(socket.create_server((address, port)))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            raise RuntimeError(f"Nothing can listen at {address}:{port} in the guest's network.")
        return made[0]


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in source:
            target.write(line)
            target.flush()


def _wake(listening: socket.socket) -> None:
    """Wake the thread that accepts connections; closing the socket alone would not."""
    with contextlib.suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)


def _join(near: socket.socket, host: str, port: int) -> None:
    """Connect to an address, and pass everything on in both directions until both have ended."""
    with near, contextlib.suppress(OSError), socket.create_connection((host, port)) as far:
        back = threading.Thread(target=_pump, args=(far, near))
        back.start()
        _pump(near, far)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)


def metadata_handler(
    url: str, hear: Callable[[str], None] = lambda _: None
) -> type[BaseHTTPRequestHandler]:
    """Return a handler that acts as a machine's metadata server.

    It passes requests on to the local cloud, which has each machine's metadata under its id.

    Args:
        url: the address of the machine's metadata in the local cloud.
        hear: called with each path that the machine requests.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Pass the request on."""
            hear(self.path)
            flavor = self.headers.get("Metadata-Flavor", "")
            request = Request(url + self.path, headers={"Metadata-Flavor": flavor})
            try:
                with urlopen(request, timeout=10) as answer:
                    status, content, headers = answer.status, answer.read(), answer.headers
            except HTTPError as error:
                status, content, headers = error.code, error.read(), error.headers
            self.send_response(status)
            for name in ("Content-Type", "Metadata-Flavor"):
                if name in headers:
                    self.send_header(name, headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    return Handler
