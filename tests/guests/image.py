"""What a guest is made of: Debian with what Container-Optimized OS has and the boot files use, made once and kept.

One recipe, twice: a folder for systemd-nspawn, which brings its own kernel and network, and the
disk of a whole machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from localcloud.catalogue import ROOT

CACHE: Final = ROOT / ".cache" / "guests"
METADATA_ADDRESS: Final = "169.254.169.254"
HOST_ADDRESS: Final = "169.254.169.253"  # where a whole machine finds the ports of its host
_PACKAGES: Final = (
    *(
        "systemd-sysv",
        "udev",
        "dbus",
        "cloud-init",
        "openssh-server",
        "iproute2",
        "e2fsprogs",
        "curl",
        "ca-certificates",
    ),
    *("sudo", "docker.io", "iptables", "procps", "libnss-myhostname", "busybox-static", "rsync"),
)
_WITHOUT: Final = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
# What cloud-init does on Container-Optimized OS for us, and nothing of what it would do to a Debian
# beside.
_CLOUD_CONFIG: Final = """\
datasource_list: [GCE]
ssh_genkeytypes: [ed25519]
cloud_init_modules: [write-files, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, final-message]
"""
# The line for sftp that Container-Optimized OS has in its sshd_config, where Debian names a
# program.
_SFTP: Final = ("Subsystem\tsftp\t/usr/lib/openssh/sftp-server", "Subsystem sftp internal-sftp")
_MASKED: Final = (
    *(
        "systemd-networkd.service",
        "systemd-networkd.socket",
        "systemd-networkd-wait-online.service",
    ),
    *(
        "systemd-timesyncd.service",
        "systemd-pstore.service",
        "e2scrub_reap.service",
        "e2scrub_all.timer",
        "fstrim.timer",
    ),
    *(
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "console-getty.service",
    ),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
)

# What a whole machine has beside: a kernel, a network card with an address by DHCP, and a way in
# for the tests.
_MACHINE_PACKAGES: Final = (
    *("linux-image-cloud-amd64", "initramfs-tools", "zstd", "isc-dhcp-client", "qemu-guest-agent"),
)
_MACHINE_MASKED: Final = (
    *(unit for unit in _MASKED if "networkd" not in unit),
    *("getty@tty1.service", "serial-getty@ttyS0.service"),
)
_MACHINE_ENABLED: Final = ("systemd-networkd.service",)
# Before its kernel is installed: an initial RAM disk with only what it needs, for unpacking is slow
# under emulation.
_INITRAMFS: Final = {
    "etc/initramfs-tools/conf.d/guest": "MODULES=list\nCOMPRESS=zstd\n",
    "usr/share/initramfs-tools/modules.d/guest": "virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\next4\n",
}
_MACHINE_FILES: Final = {
    # What Google's guest-configs, and so Container-Optimized OS, do for a persistent disk on SCSI.
    "etc/udev/rules.d/65-gce-disk-naming.rules": (
        'ACTION!="remove", SUBSYSTEM=="block", KERNEL=="sd*", ENV{DEVTYPE}=="disk", '
        'ENV{ID_SERIAL}=="0Google_PersistentDisk_?*", SYMLINK+="disk/by-id/google-$env{ID_SERIAL_SHORT}"\n'
    ),
    # A port of 127.0.0.1 that is the host's: the kernel's command line says which
    # (`systemd.wants=host@5000.socket`).
    "etc/systemd/system/host@.socket": "[Socket]\nListenStream=127.0.0.1:%i\n",
    "etc/systemd/system/host@.service": (
        f"[Service]\nExecStart=/usr/lib/systemd/systemd-socket-proxyd {HOST_ADDRESS}:%i\n"
    ),
}
_MACHINE_BYTES: Final = 2 * 1024**3


@dataclass(frozen=True)
class WholeMachine:
    """What a whole machine is booted from. Nothing of it may be written to.

    Attributes:
        disk: its root file system, ext4.
        kernel: its kernel.
        initrd: what the kernel loads first.
        busybox: a static one, as it has it.
    """

    disk: Path
    kernel: Path
    initrd: Path
    busybox: Path


def root_file_system() -> Path:
    """Return the folder of the root file system; the first time, Debian's packages are fetched for it: about a minute.

    Raises:
        RuntimeError: it cannot be made; with what the tool said.
    """

    def make(root: Path) -> None:
        _bootstrap(root, _PACKAGES)
        _settle(root, _MASKED)
        for device in (
            root / "dev"
        ).iterdir():  # nspawn makes its own; whoever copied these would read /dev/full for ever
            shutil.rmtree(
                device
            ) if device.is_dir() and not device.is_symlink() else device.unlink()

    return _kept("debian", (_PACKAGES, _WITHOUT, _CLOUD_CONFIG, _SFTP, _MASKED, "no devices"), make)


def programs(root: Path, *paths: str) -> dict[str, Path]:
    """Return programs of a root file system with the libraries that they need: where each is there, by where it is to be.

    Raises:
        RuntimeError: one is not there; with what the tool said.
    """
    found: dict[str, Path] = {}
    for path in paths:
        needs = [
            word for word in _run("chroot", str(root), "ldd", path).split() if word.startswith("/")
        ]
        found |= {each: (root / each.lstrip("/")).resolve() for each in (path, *needs)}
    return found


def whole_machine() -> WholeMachine:
    """Return what a whole machine is booted from; the first time, Debian's packages are fetched for it: some minutes.

    Raises:
        RuntimeError: it cannot be made; with what the tool said.
    """
    packages = (*_PACKAGES, *_MACHINE_PACKAGES)
    recipe = (
        packages,
        _WITHOUT,
        _CLOUD_CONFIG,
        _SFTP,
        _MACHINE_MASKED,
        _MACHINE_ENABLED,
        _MACHINE_BYTES,
    )

    def make(target: Path) -> None:
        before, root = target / "before", target / "root"
        _write(before, _INITRAMFS)
        _bootstrap(root, packages, before=before)
        _settle(root, _MACHINE_MASKED)
        _write(root, _MACHINE_FILES)
        _run("systemctl", f"--root={root}", "enable", *_MACHINE_ENABLED)
        for name, found in (
            ("kernel", "boot/vmlinuz-*"),
            ("initrd", "boot/initrd.img-*"),
            ("busybox", "bin/busybox"),
        ):
            [file] = root.glob(found)
            shutil.copy(file, target / name)
        options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(root)]
        _run("mke2fs", *options, str(target / "disk"), f"{_MACHINE_BYTES // 1024}k")
        shutil.rmtree(root)
        shutil.rmtree(before)

    made = _kept("machine", (*recipe, _INITRAMFS, _MACHINE_FILES), make)
    return WholeMachine(**{name: made / name for name in ("disk", "kernel", "initrd", "busybox")})


def _kept(kind: str, recipe: object, make: Callable[[Path], None]) -> Path:
    """Return what was made by this recipe, or make it now in place of what an older recipe made."""
    made = CACHE / f"{kind}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in CACHE.glob(f"{kind}-*"):
                shutil.rmtree(old)
            unfinished = CACHE / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(made)
    return made


def _bootstrap(target: Path, packages: Iterable[str], *, before: Path | None = None) -> None:
    """Install Debian; `before` holds files that are to be there before its packages are."""
    command = ["mmdebstrap", "--variant=apt", "--mode=root", "--format=directory"]
    command += ["--aptopt=Apt::Install-Recommends false", "--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude={path}" for path in _WITHOUT]
    command += (
        [f"--setup-hook=copy-in {folder} /" for folder in sorted(before.iterdir())]
        if before
        else []
    )
    _run(*command, f"--include={','.join(packages)}", "bookworm", str(target))


def _settle(root: Path, masked: Iterable[str]) -> None:
    """Make what Compute Engine and Container-Optimized OS give a machine."""
    _write(
        root,
        {
            "etc/hosts": f"127.0.0.1 localhost\n{METADATA_ADDRESS} metadata.google.internal metadata\n",
            "etc/hostname": "guest\n",
            "etc/machine-id": "",
            "etc/cloud/cloud.cfg.d/90_guest.cfg": _CLOUD_CONFIG,
        },
    )
    sshd_config = root / "etc/ssh/sshd_config"
    before, after = _SFTP
    if before not in sshd_config.read_text():
        raise RuntimeError(f"Debian's sshd_config has no line {before!r} any more")
    sshd_config.write_text(sshd_config.read_text().replace(before, after))
    for unit in masked:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")


def _write(root: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout
