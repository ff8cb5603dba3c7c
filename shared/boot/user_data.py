"""The cloud-init ``user-data`` of every workspace's machine."""

import json
from functools import cache
from pathlib import Path

FOLDER = "/etc/workspace-hub"
SCRIPTS = ("settings.sh", "disk.sh", "container.sh", "ready.sh", "ssh.sh", "shell.sh")
UNITS = (
    "workspace-disk.service",
    "workspace-container.service",
    "workspace-ready.service",
    "workspace-ssh.service",
    "workspace-ssh.path",
    "workspace-sync.service",
)
# What is added to units of the system's, by the file's name here.
DROP_INS = {"workspace-sleep.conf": "/etc/systemd/system/sleep.target.d/workspace-hub.conf"}
# The units that are started at a boot. They start the others, but for what a drop-in starts.
STARTED = ("workspace-ssh.path", "workspace-ssh.service", "workspace-ready.service")


@cache
def user_data() -> str:
    """Return the user-data: the boot scripts and units as files, and the commands that start them.

    No value is rendered into it. JSON is YAML, so no content can break out of its string. On
    Container-Optimized OS, ``/etc`` is a tmpfs, and cloud-init applies everything again at each
    boot (source: its documentation). So everything in it is safe to run again.

    Compute Engine asks a guest to suspend by the ACPI sleep button (S3), and systemd then reaches
    ``sleep.target`` before the kernel suspends (sources: Compute Engine, "Suspend or resume a VM";
    nanovms/nanos, pull request 1714; ``systemd.special(7)``). The kernel syncs all file systems
    then, unless it was built or told not to (``/sys/power/sync_on_suspend``). A snapshot of a
    suspended machine's disk depends on that, so a unit of the Hub's syncs, too.
    """
    paths_and_modes = {
        **{name: (f"{FOLDER}/{name}", "0644") for name in SCRIPTS},
        **{name: (f"/etc/systemd/system/{name}", "0644") for name in UNITS},
        **{name: (path, "0644") for name, path in DROP_INS.items()},
        "sudoers": ("/etc/sudoers.d/workspace-hub", "0440"),
    }
    folder = Path(__file__).parent
    config = {
        "write_files": [
            {
                "path": path,
                "permissions": mode,
                "owner": "root:root",
                "content": (folder / name).read_text(),
            }
            for name, (path, mode) in paths_and_modes.items()
        ],
        "runcmd": [["systemctl", "daemon-reload"], ["systemctl", "start", "--no-block", *STARTED]],
    }
    return f"#cloud-config\n{json.dumps(config, indent=1)}\n"
