"""What Terraform itself says about the module, if Terraform is available."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT, read_catalogue, ship
from tests.terraform.module import MODULE

INIT_SECONDS = 60
FROM_ROOT = MODULE.relative_to(ROOT)
# The errors of ``init`` that the network may cause, and those of them that the module causes.
NO_NETWORK = re.compile(
    r"could not connect|Failed to (install|query|request)|Error while installing|dial tcp|timeout",
    re.IGNORECASE,
)
NOT_THE_NETWORK = re.compile(r"no available releases match|does not have a provider named")

pytestmark = pytest.mark.xdist_group("terraform")  # the providers are downloaded once

needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not installed"
)


def terraform(
    folder: Path, *arguments: str, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run terraform in a folder, without its look for a newer version, which writes to the home."""
    command = ["terraform", *arguments, "-no-color"]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the module and the files it reads, and get its providers; otherwise skip the test."""
    root = tmp_path_factory.mktemp("terraform") / "root"
    ship(read_catalogue(), root)
    for name in ("functions/catalogue.yaml", "firestore.indexes.json"):
        shutil.copyfile(ROOT / name, root / name)
    shutil.copytree(MODULE, root / FROM_ROOT, ignore=shutil.ignore_patterns(".terraform*"))
    module = root / FROM_ROOT
    try:
        done = terraform(module, "init", "-backend=false", "-input=false", seconds=INIT_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"terraform init did not get the providers within {INIT_SECONDS} s")
    if (
        done.returncode
        and NO_NETWORK.search(done.stderr)
        and not NOT_THE_NETWORK.search(done.stderr)
    ):
        pytest.skip(
            "terraform init could not get the providers: registry.terraform.io is unreachable"
        )
    assert done.returncode == 0, done.stderr
    return module


@needs_terraform
def test_the_files_are_formatted() -> None:
    """They are formatted as ``terraform fmt`` does it."""
    done = terraform(MODULE, "fmt", "-check", "-recursive", "-diff")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_terraform
@pytest.mark.timeout(120 + INIT_SECONDS)
def test_the_module_is_valid(copy: Path) -> None:
    """The providers accept every resource, argument and attribute in it."""
    done = terraform(copy, "validate")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_terraform
@pytest.mark.timeout(420 + INIT_SECONDS)
def test_the_modules_own_tests_pass(copy: Path) -> None:
    """They check the plans of both examples, and refusals, with mocked providers."""
    done = terraform(copy, "test")
    assert done.returncode == 0, done.stdout + done.stderr
