"""The cloud-init ``user-data`` of every workspace's machine."""

import json
from functools import cache
from pathlib import Path

SCRIPTS = ("settings.sh", "disk.sh", "container.sh", "report.sh")
UNITS = ("workspace-disk.service", "workspace-container.service", "workspace-ready.service")
FOLDER = "/etc/workspace-hub"


@cache
def user_data() -> str:
    """Return the user-data: the boot scripts and units as files, and what starts them at every boot.

    Nothing is rendered into it. JSON is YAML, so no content can break out of its string. On Container-Optimized OS ``/etc``
    is a tmpfs and cloud-init applies everything again at each boot (source: its documentation), so it may all run again.
    """
    here = Path(__file__).parent
    files = [
        {"path": f"{FOLDER}/{name}", "permissions": "0644", "owner": "root", "content": (here / name).read_text()}
        for name in SCRIPTS
    ]
    files += [
        {"path": f"/etc/systemd/system/{name}", "permissions": "0644", "content": (here / name).read_text()}
        for name in UNITS
    ]
    config = {
        "write_files": files,
        "runcmd": [["systemctl", "daemon-reload"], ["systemctl", "start", "--no-block", "workspace-ready.service"]],
    }
    return f"#cloud-config\n{json.dumps(config, indent=1)}\n"
