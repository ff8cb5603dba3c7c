"""Builds and caches the guests' file system: Debian with the tools that the boot files use.

Container-Optimized OS has the same tools. There are two forms: a folder for systemd-nspawn, which
uses the host's kernel, and the disk of a whole machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from localcloud.catalogue import ROOT

CACHE = ROOT / ".cache" / "guests"
METADATA_ADDRESS = "169.254.169.254"
HOST_ADDRESS = "169.254.169.253"  # the host, as a whole machine sees it
_PACKAGES = (
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
_WITHOUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
# cloud-init does only what the Hub relies on with Container-Optimized OS, and not what it does in
# Debian by default.
_CLOUD_CONFIG = """\
datasource_list: [GCE]
ssh_genkeytypes: [ed25519]
cloud_init_modules: [write-files, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, final-message]
"""
# Debian's line for sftp in sshd_config, which names a program, and Container-Optimized OS's line.
_SFTP = ("Subsystem\tsftp\t/usr/lib/openssh/sftp-server", "Subsystem sftp internal-sftp")
_MASKED = (
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
_MACHINE_PACKAGES = (
    *("linux-image-cloud-amd64", "initramfs-tools", "zstd", "isc-dhcp-client", "qemu-guest-agent"),
)
_MACHINE_MASKED = (
    *(unit for unit in _MASKED if "networkd" not in unit),
    *("getty@tty1.service", "serial-getty@ttyS0.service"),
)
_MACHINE_ENABLED = ("systemd-networkd.service",)
# Before its kernel is installed: an initial RAM disk with only what it needs, for unpacking is slow
# under emulation.
_INITRAMFS = {
    "etc/initramfs-tools/conf.d/guest": "MODULES=list\nCOMPRESS=zstd\n",
    "usr/share/initramfs-tools/modules.d/guest": (
        "virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\next4\n"
    ),
}
_MACHINE_FILES = {
    # The rule of Google's guest-configs, and so of Container-Optimized OS, for a SCSI disk.
    "etc/udev/rules.d/65-gce-disk-naming.rules": (
        'ACTION!="remove", SUBSYSTEM=="block", KERNEL=="sd*", ENV{DEVTYPE}=="disk", '
        'ENV{ID_SERIAL}=="0Google_PersistentDisk_?*", '
        'SYMLINK+="disk/by-id/google-$env{ID_SERIAL_SHORT}"\n'
    ),
    # Forwards a port of 127.0.0.1 to the host. The kernel's command line names the ports
    # (`systemd.wants=host@5000.socket`).
    "etc/systemd/system/host@.socket": "[Socket]\nListenStream=127.0.0.1:%i\n",
    "etc/systemd/system/host@.service": (
        f"[Service]\nExecStart=/usr/lib/systemd/systemd-socket-proxyd {HOST_ADDRESS}:%i\n"
    ),
}
_MACHINE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class WholeMachine:
    """The files from which a whole machine is booted. None of them may be changed.

    Attributes:
        disk: the root file system, ext4.
        kernel: the kernel.
        initrd: the initial RAM disk.
        busybox: the static busybox of the root file system.
    """

    disk: Path
    kernel: Path
    initrd: Path
    busybox: Path


def root_file_system() -> Path:
    """Return the root file system's folder.

    The first call fetches Debian's packages and takes about a minute.

    Raises:
        RuntimeError: the tool failed. The message has its output.
    """

    def make(root: Path) -> None:
        _bootstrap(root, _PACKAGES)
        _settle(root, _MASKED)
        # nspawn makes its own devices. A copy of these would read /dev/full for ever.
        for device in (root / "dev").iterdir():
            shutil.rmtree(
                device
            ) if device.is_dir() and not device.is_symlink() else device.unlink()

    return kept("debian", (_PACKAGES, _WITHOUT, _CLOUD_CONFIG, _SFTP, _MASKED, "no devices"), make)


def programs(root: Path, *paths: str) -> dict[str, Path]:
    """Return programs of a root file system and the libraries that they need.

    The result is a map of each path in the image to a file.

    Raises:
        RuntimeError: the tool failed. The message has its output.
    """
    found: dict[str, Path] = {}
    for path in paths:
        needs = [
            word for word in run("chroot", str(root), "ldd", path).split() if word.startswith("/")
        ]
        found |= {each: (root / each.lstrip("/")).resolve() for each in (path, *needs)}
    return found


def whole_machine() -> WholeMachine:
    """Return the files of a whole machine.

    The first call fetches Debian's packages and takes some minutes.

    Raises:
        RuntimeError: the tool failed. The message has its output.
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
        run("systemctl", f"--root={root}", "enable", *_MACHINE_ENABLED)
        for name, found in (
            ("kernel", "boot/vmlinuz-*"),
            ("initrd", "boot/initrd.img-*"),
            ("busybox", "bin/busybox"),
        ):
            [file] = root.glob(found)
            shutil.copy(file, target / name)
        options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(root)]
        run("mke2fs", *options, str(target / "disk"), f"{_MACHINE_BYTES // 1024}k")
        shutil.rmtree(root)
        shutil.rmtree(before)

    made = kept("machine", (*recipe, _INITRAMFS, _MACHINE_FILES), make)
    return WholeMachine(**{name: made / name for name in ("disk", "kernel", "initrd", "busybox")})


def kept(kind: str, recipe: object, make: Callable[[Path], None]) -> Path:
    """Return the cached result of a recipe, or make it now and replace older results.

    Args:
        kind: what it is; of each kind, one result is kept.
        recipe: what decides on the result, and can be printed.
        make: makes the result at a path that does not exist yet. It may not call this function.
    """
    made = CACHE / f"{kind}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in CACHE.glob(f"{kind}-*"):
                shutil.rmtree(old)
            unfinished = CACHE / f"{kind}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(made)
    return made


def _bootstrap(target: Path, packages: Iterable[str], *, before: Path | None = None) -> None:
    """Install Debian. The files in ``before`` are copied before the packages are installed."""
    command = ["mmdebstrap", "--variant=apt", "--mode=root", "--format=directory"]
    command += ["--aptopt=Apt::Install-Recommends false", "--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude={path}" for path in _WITHOUT]
    command += (
        [f"--setup-hook=copy-in {folder} /" for folder in sorted(before.iterdir())]
        if before
        else []
    )
    run(*command, f"--include={','.join(packages)}", "bookworm", str(target))


def _settle(root: Path, masked: Iterable[str]) -> None:
    """Configure the system as Compute Engine and Container-Optimized OS do."""
    _write(
        root,
        {
            "etc/hosts": (
                f"127.0.0.1 localhost\n{METADATA_ADDRESS} metadata.google.internal metadata\n"
            ),
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


def run(*command: str) -> str:
    """Run a command of the host and return what it printed.

    Raises:
        RuntimeError: it failed. The message has its output.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout
