"""The root file system of a guest: Debian with what Container-Optimized OS has and the boot files use, made once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

from localcloud.catalogue import ROOT

CACHE: Final = ROOT / ".cache" / "guests"
METADATA_ADDRESS: Final = "169.254.169.254"
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
    *("sudo", "docker.io", "iptables", "procps", "libnss-myhostname", "busybox-static"),
)
_WITHOUT: Final = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
# What cloud-init does on Container-Optimized OS for us, and nothing of what it would do to a Debian beside.
_CLOUD_CONFIG: Final = """\
datasource_list: [GCE]
ssh_genkeytypes: [ed25519]
cloud_init_modules: [write-files, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, final-message]
"""
_MASKED: Final = (
    *("systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service"),
    *(
        "systemd-timesyncd.service",
        "systemd-pstore.service",
        "e2scrub_reap.service",
        "e2scrub_all.timer",
        "fstrim.timer",
    ),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "console-getty.service"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
)


def root_file_system() -> Path:
    """Return the folder of the root file system; the first time, Debian's packages are fetched for it: about a minute.

    Raises:
        RuntimeError: it cannot be made; with what the tool said.
    """
    recipe = hashlib.sha256(repr((_PACKAGES, _WITHOUT, _CLOUD_CONFIG, _MASKED)).encode()).hexdigest()[:12]
    made = CACHE / f"debian-{recipe}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in CACHE.glob("debian-*"):
                shutil.rmtree(old)
            unfinished = CACHE / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            _bootstrap(unfinished)
            _settle(unfinished)
            unfinished.rename(made)
    return made


def _bootstrap(target: Path) -> None:
    command = ["mmdebstrap", "--variant=apt", "--mode=root", "--format=directory", "--quiet"]
    command += ["--aptopt=Apt::Install-Recommends false", "--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude={path}" for path in _WITHOUT]
    command += [f"--include={','.join(_PACKAGES)}", "bookworm", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap failed:\n{done.stderr}")


def _settle(root: Path) -> None:
    """Make what Compute Engine and Container-Optimized OS give a machine."""
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{METADATA_ADDRESS} metadata.google.internal metadata\n")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/machine-id").write_text("")
    (root / "etc/cloud/cloud.cfg.d/90_guest.cfg").write_text(_CLOUD_CONFIG)
    for unit in _MASKED:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
