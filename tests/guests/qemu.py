"""One guest in QEMU: a whole machine with a kernel, firmware tables, disks and a network card of its own, by emulation only.

Everything that it is made of belongs to one process, which ends with the thread that booted it.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from tests.guests.image import HOST_ADDRESS, METADATA_ADDRESS, WholeMachine
from tests.guests.nspawn import metadata_handler

# Each tool, and Debian's package of it.
NEEDED: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "systemctl": "systemd",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_ANSWER_SECONDS: Final = 30.0
_RUN_SECONDS: Final = 120.0
_POWER_OFF_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.2
# Software emulation, and nothing else: where KVM seems to be there, Debian's kernel may hang on it.
_MACHINE: Final = (
    *(
        "-accel",
        "tcg,thread=multi,tb-size=512",
        "-cpu",
        "max,la57=off",
        "-machine",
        "q35,smm=off,hpet=off",
    ),
    *(
        "-smp",
        "2",
        "-m",
        "1024",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ),
    # By this cloud-init knows Compute Engine.
    *(
        "-smbios",
        "type=1,manufacturer=Google,product=Google Compute Engine,serial=GoogleCloud-0123456789ABCDEF",
    ),
)
_KERNEL_SAYS: Final = (
    "root=/dev/vda rw rootfstype=ext4 console=ttyS0 panic=-1 net.ifnames=0 "
    "mitigations=off audit=0 apparmor=0"  # slow here; Docker would want apparmor's tools, which Debian has no need of
)
# Connects its standard input and output, which QEMU makes one socket, with a port of the host.
_RELAY: Final = """\
import select, socket, sys
near, far = socket.socket(fileno=0), socket.create_connection(("127.0.0.1", int(sys.argv[1])))
goes = {near: far, far: near}
while goes:
    for source in select.select(list(goes), [], [])[0]:
        if content := source.recv(65536):
            goes[source].sendall(content)
        else:
            goes.pop(source).shutdown(socket.SHUT_WR)
"""


def missing() -> list[str]:
    """Return what this host lacks for guests: to be root, or Debian packages."""
    packages = sorted({package for tool, package in NEEDED.items() if shutil.which(tool) is None})
    return [
        *([] if os.geteuid() == 0 else ["to be root"]),
        *(f"Debian's package {name}" for name in packages),
    ]


class Guest:
    """One machine from power-on to power-off.

    Args:
        name: of the machine.
        image: what it is booted from; what it writes there is gone when it ends, as on
            Container-Optimized OS.
        folder: what is its own: the console's text, what QEMU says.
        home: its home disk, a file.
        metadata_url: where its metadata is.
        reached: addresses of the host (`127.0.0.1:port`) that it reaches at the same address.
        served: what answers it besides, by port of 127.0.0.1.

    Attributes:
        ssh_port: the port of the host's 127.0.0.1 where its own port 22 is.
        asked: the paths that it has asked its metadata server for.

    Raises:
        RuntimeError: QEMU does not start; with what it said.
    """

    def __init__(
        self,
        name: str,
        *,
        image: WholeMachine,
        folder: Path,
        home: Path,
        metadata_url: str,
        reached: list[str],
        served: dict[int, type[BaseHTTPRequestHandler]],
    ) -> None:
        self.asked: list[str] = []
        self._folder = folder
        self._stack = contextlib.ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "relay.py").write_text(_RELAY)
            metadata = self._serve(metadata_handler(metadata_url, self.asked.append))
            ports = {
                int(address.rpartition(":")[2]): int(address.rpartition(":")[2])
                for address in reached
            }
            ports |= {port: self._serve(handler) for port, handler in served.items()}
            kernel_says = " ".join(
                [_KERNEL_SAYS, *(f"systemd.wants=host@{port}.socket" for port in ports)]
            )
            monitor, monitor_options = self._channel("monitor")
            agent, agent_options = self._channel("agent")
            command = [*_MACHINE, "-name", name]
            command += [
                "-kernel",
                str(image.kernel),
                "-initrd",
                str(image.initrd),
                "-append",
                kernel_says,
            ]
            command += _disks(image.disk, home)
            command += [
                "-netdev",
                self._network(metadata, ports),
                "-device",
                "virtio-net-pci,netdev=network,romfile=",
            ]
            command += [
                "-chardev",
                f"file,id=console,path={_escaped(folder / 'console')},append=on",
            ]
            command += [
                "-serial",
                "chardev:console",
                *monitor_options,
                "-mon",
                "chardev=monitor,mode=control",
            ]
            command += ["-device", "virtio-serial-pci", *agent_options]
            command += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
            self._start(command, monitor, agent)
        except BaseException:
            self._stack.close()
            raise

    def run(self, *command: str, user_input: str | None = None, check: bool = True) -> str:
        """Run a command in the guest as root, at most two minutes, and return what it printed: by the agent there, not by SSH.

        Raises:
            RuntimeError: it failed; with what it said.
            TimeoutError: it takes too long, or the agent does not answer.
        """
        deadline = time.monotonic() + _RUN_SECONDS
        path, *arguments = command
        given = (
            {}
            if user_input is None
            else {"input-data": base64.b64encode(user_input.encode()).decode()}
        )
        asked = {"path": path, "arg": arguments, "capture-output": True, **given}
        process = self._agent.ask("guest-exec", asked)["pid"]
        while not (done := self._agent.ask("guest-exec-status", {"pid": process}))["exited"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{' '.join(command)} takes longer than {_RUN_SECONDS:g} s.")
            time.sleep(_POLL_SECONDS)
        printed, said = (
            base64.b64decode(done.get(kind, "")).decode(errors="replace")
            for kind in ("out-data", "err-data")
        )
        if check and done.get("exitcode") != 0:
            raise RuntimeError(
                f"{' '.join(command)} ended with {done.get('exitcode')}: {printed}{said}"
            )
        return printed

    def pause(self) -> None:
        """Let its processors stand still, and with them its clock."""
        self._monitor.ask("stop")

    def go_on(self) -> None:
        """Let its processors go on where they stood."""
        self._monitor.ask("cont")

    def power_off(self) -> None:
        """Press the power button, wait for the guest to shut down (at most two minutes), and clean up."""
        with contextlib.suppress(OSError, RuntimeError):
            self._monitor.ask("cont")
            self._monitor.ask("system_powerdown")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_POWER_OFF_SECONDS)
        self._stack.close()

    def _serve(self, handler: type[BaseHTTPRequestHandler]) -> int:
        """Serve on a port of the host's 127.0.0.1 and return which."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return server.server_port

    def _channel(self, name: str) -> tuple[_Channel, list[str]]:
        """Return our end of a channel to QEMU and the options that give it the other."""
        ours, theirs = (self._stack.enter_context(end) for end in socket.socketpair())
        return _Channel(ours, theirs), ["-chardev", f"socket,id={name},fd={theirs.fileno()}"]

    def _network(self, metadata: int, ports: dict[int, int]) -> str:
        """Return the network in which there is nothing but this machine, its metadata server and these ports of the host."""

        def forward(address: str, port: int) -> str:
            relay = shlex.join(
                [sys.executable, "-I", "-S", str(self._folder / "relay.py"), str(port)]
            )
            return f"guestfwd=tcp:{address}-cmd:{_escaped(relay)}"

        options = [
            "user",
            "id=network",
            "net=169.254.169.0/24",
            "host=169.254.169.2",
            "dhcpstart=169.254.169.15",
        ]
        options += [
            "restrict=on",
            "hostfwd=tcp:127.0.0.1:0-:22",
            forward(f"{METADATA_ADDRESS}:80", metadata),
        ]
        return ",".join(
            [*options, *(forward(f"{HOST_ADDRESS}:{seen}", port) for seen, port in ports.items())]
        )

    def _start(self, command: list[str], monitor: _Channel, agent: _Channel) -> None:
        said = self._folder / "qemu"
        with said.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *command],
                env={**_ENVIRONMENT, "TMPDIR": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(monitor.theirs.fileno(), agent.theirs.fileno()),
            )
        self._stack.callback(self._process.wait, timeout=20)
        self._stack.callback(self._process.kill)
        for channel in (monitor, agent):
            channel.theirs.close()  # so that ours ends with QEMU
        self._monitor, self._agent = monitor, agent
        try:
            self._monitor.ask("qmp_capabilities")
            network = self._monitor.ask("human-monitor-command", {"command-line": "info usernet"})
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"QEMU does not start: {said.read_text(errors='replace')}"
            ) from error
        found = re.search(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", network)
        if not found:
            raise RuntimeError(f"QEMU forwards no port to SSH:\n{network}")
        self.ssh_port = int(found[1])


class _Channel:
    """A conversation in lines of JSON, as QEMU's monitor and the agent in the guest hold it.

    Args:
        ours: our end.
        theirs: the other end, until QEMU has it.
    """

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.theirs = theirs
        self._ours = ours
        self._unread = b""
        self._numbers = itertools.count(1)

    def ask(self, command: str, arguments: dict[str, object] | None = None) -> Any:
        """Return the answer to a command.

        Raises:
            RuntimeError: it was refused, with the reason.
            OSError: there is no answer within 30 s (`TimeoutError`), or nobody to answer.
        """
        deadline = time.monotonic() + _ANSWER_SECONDS
        number = next(self._numbers)
        asked = {"execute": command, "arguments": arguments or {}, "id": number}
        self._ours.settimeout(_ANSWER_SECONDS)
        self._ours.sendall(json.dumps(asked).encode() + b"\n")
        while (said := self._line(command, deadline)).get("id") != number:
            pass  # an event, or the answer to what was asked too long ago
        if "error" in said:
            raise RuntimeError(f"{command}: {said['error']['desc']}")
        return said["return"]

    def _line(self, command: str, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._unread:
            self._ours.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                received = self._ours.recv(65536)
            except TimeoutError:
                raise TimeoutError(f"{command}: no answer within {_ANSWER_SECONDS:g} s") from None
            if not received:
                raise ConnectionError(f"{command}: QEMU has ended")
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said


def _disks(root: Path, home: Path) -> list[str]:
    """Return the options for the disk to boot from, to which nothing is written, and for the home disk, named as Google's are."""
    google = "vendor=Google,product=PersistentDisk,device_id=home,serial=home"
    return [
        *("-drive", f"file={_escaped(root)},format=raw,if=none,id=root,cache=unsafe,snapshot=on"),
        *("-device", "virtio-blk-pci,drive=root"),
        *("-drive", f"file={_escaped(home)},format=raw,if=none,id=home,cache=unsafe"),
        *(
            "-device",
            "virtio-scsi-pci,id=scsi",
            "-device",
            f"scsi-hd,bus=scsi.0,drive=home,{google}",
        ),
    ]


def _escaped(value: object) -> str:
    """Return a value for QEMU's options, in which a comma begins the next one."""
    return str(value).replace(",", ",,")
