"""Keeps the logs of clouds on which tests have failed, in ``.localcloud/tests.logs``."""

from __future__ import annotations

import shutil
from pathlib import Path

from localcloud.catalogue import ROOT
from localcloud.running_cloud import RunningCloud

_KEPT = ROOT / ".localcloud" / "tests.logs"


def keep(logs: Path, name: str) -> None:
    """Keep a folder of logs under a cloud's name; it replaces that of an earlier run."""
    shutil.rmtree(_KEPT / name, ignore_errors=True)
    shutil.copytree(logs, _KEPT / name)


def keep_if_failed(cloud: RunningCloud, name: str, *, failed: int) -> None:
    """Keep a cloud's logs if any test has failed so far."""
    if failed:
        keep(cloud.state_file.with_suffix(".logs"), name)
