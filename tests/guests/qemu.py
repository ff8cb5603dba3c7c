"""One guest in QEMU: a whole emulated machine with kernel, firmware tables, disks and network card.

All of it belongs to one process, which ends with the thread that booted it.
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
from typing import Any

from tests.guests.image import HOST_ADDRESS, METADATA_ADDRESS, WholeMachine
from tests.guests.nspawn import GuestSettings, metadata_handler

# Each tool, and the Debian package that has it.
NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "systemctl": "systemd",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_ANSWER_SECONDS = 30.0
_RUN_SECONDS = 120.0
_POWER_OFF_SECONDS = 120.0
_POLL_SECONDS = 0.2
# Software emulation only: Debian's kernel may hang on a KVM that seems to work.
_MACHINE = (
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
    # cloud-init recognises Compute Engine by this.
    *(
        "-smbios",
        (
            "type=1,manufacturer=Google,product=Google Compute Engine,"
            "serial=GoogleCloud-0123456789ABCDEF"
        ),
    ),
)
# Mitigations and audit are slow in an emulation. With AppArmor, Docker would need its tools, which
# Debian installs only as a recommendation.
_KERNEL_OPTIONS = (
    "root=/dev/vda rw rootfstype=ext4 console=ttyS0 panic=-1 net.ifnames=0 "
    "mitigations=off audit=0 apparmor=0"
)
# A program that connects its standard input and output, which are one socket of QEMU, with a port
# of the host.
_RELAY = """\
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
    """Return what this host lacks for guests: root, or Debian packages."""
    packages = sorted({package for tool, package in NEEDED.items() if shutil.which(tool) is None})
    return [
        *([] if os.geteuid() == 0 else ["to be root"]),
        *(f"Debian's package {name}" for name in packages),
    ]


class Guest:
    """One machine from power-on to power-off.

    Args:
        settings: of this guest; ``boot_disk_bytes`` has no effect.
        image: the machine's disk and kernel. As on Container-Optimized OS, all changes to the disk
            are lost when the guest ends.

    Attributes:
        ssh_port: the port of the host's 127.0.0.1 that leads to the guest's port 22.
        asked: the paths that the guest has requested from its metadata server.

    Raises:
        RuntimeError: QEMU does not start. The message has its output.
    """

    def __init__(self, settings: GuestSettings, *, image: WholeMachine) -> None:
        self.asked: list[str] = []
        self._folder = settings.folder
        self._stack = contextlib.ExitStack()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "relay.py").write_text(_RELAY)
            metadata = self._serve(metadata_handler(settings.metadata_url, self.asked.append))
            ports = {
                int(address.rpartition(":")[2]): int(address.rpartition(":")[2])
                for address in settings.reached
            }
            ports |= {port: self._serve(handler) for port, handler in settings.served.items()}
            kernel_options = " ".join(
                [_KERNEL_OPTIONS, *(f"systemd.wants=host@{port}.socket" for port in ports)]
            )
            monitor, monitor_options = self._channel("monitor")
            agent, agent_options = self._channel("agent")
            console = _escaped(self._folder / "console")
            command = [
                *_MACHINE,
                *("-name", settings.name),
                *("-kernel", str(image.kernel)),
                *("-initrd", str(image.initrd)),
                *("-append", kernel_options),
                *_disks(image.disk, settings.home),
                *("-netdev", self._network(metadata, ports)),
                *("-device", "virtio-net-pci,netdev=network,romfile="),
                *("-chardev", f"file,id=console,path={console},append=on"),
                *("-serial", "chardev:console"),
                *monitor_options,
                *("-mon", "chardev=monitor,mode=control"),
                *("-device", "virtio-serial-pci"),
                *agent_options,
                *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            ]
            self._start(command, monitor, agent)
        except BaseException:
            self._stack.close()
            raise

    def run(self, *command: str, user_input: str | None = None, check: bool = True) -> str:
        """Run a command in the guest as root, for at most two minutes, and return its output.

        It goes through the guest's agent, not through SSH.

        Raises:
            RuntimeError: it failed. The message has its output.
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
        """Stop the processors, and with them the clock."""
        self._monitor.ask("stop")

    def go_on(self) -> None:
        """Let the processors continue where they stopped."""
        self._monitor.ask("cont")

    def power_off(self) -> None:
        """Press the power button, wait for the shutdown (at most two minutes), and clean up."""
        with contextlib.suppress(OSError, RuntimeError):
            self._monitor.ask("cont")
            self._monitor.ask("system_powerdown")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_POWER_OFF_SECONDS)
        self._stack.close()

    def _serve(self, handler: type[BaseHTTPRequestHandler]) -> int:
        """Serve on a port of the host's 127.0.0.1; return the port."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return server.server_port

    def _channel(self, name: str) -> tuple[_Channel, list[str]]:
        """Return this end of a channel to QEMU, and the options that give QEMU its end."""
        ours, theirs = (self._stack.enter_context(end) for end in socket.socketpair())
        return _Channel(ours, theirs), ["-chardev", f"socket,id={name},fd={theirs.fileno()}"]

    def _network(self, metadata: int, ports: dict[int, int]) -> str:
        """Return the network's option.

        The network has only this machine, its metadata server and these ports of the host.
        """

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
            channel.theirs.close()  # so that this end reports QEMU's end
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
    """A channel of JSON lines to QEMU's monitor or to the agent in the guest.

    Args:
        ours: this end.
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
            RuntimeError: the command was refused. The message has the reason.
            OSError: there is no answer within 30 s (``TimeoutError``), or QEMU has ended.
        """
        deadline = time.monotonic() + _ANSWER_SECONDS
        number = next(self._numbers)
        asked = {"execute": command, "arguments": arguments or {}, "id": number}
        self._ours.settimeout(_ANSWER_SECONDS)
        self._ours.sendall(json.dumps(asked).encode() + b"\n")
        while (said := self._line(command, deadline)).get("id") != number:
            pass  # an event, or the late answer to an earlier command
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
    """Return the options of the disks.

    The boot disk is never written to, and the home disk is named as Google's disks are.
    """
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
    """Return a value for QEMU's options, in which a comma starts the next option."""
    return str(value).replace(",", ",,")
