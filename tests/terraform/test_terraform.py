"""What Terraform itself says of the module, as far as it can be had."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT, read_catalogue, ship
from tests.terraform.module import MODULE

INIT_SECONDS = 60
FROM_ROOT = MODULE.relative_to(ROOT)
# What `init` says when it was the network's fault, and what it says then when it was ours.
NO_NETWORK = re.compile(
    r"could not connect|Failed to (install|query|request)|Error while installing|dial tcp|timeout",
    re.IGNORECASE,
)
OURS = re.compile(r"no available releases match|does not have a provider named")

pytestmark = pytest.mark.xdist_group("terraform")  # the providers are got once

needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not installed"
)


def terraform(
    folder: Path, *arguments: str, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run terraform in a folder."""
    command = ["terraform", *arguments, "-no-color"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the module and what it reads, with its providers; without them the test is skipped."""
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
    if done.returncode and NO_NETWORK.search(done.stderr) and not OURS.search(done.stderr):
        pytest.skip("terraform init could not get the providers: no way to registry.terraform.io")
    assert done.returncode == 0, done.stderr
    return module


@needs_terraform
def test_the_files_are_formatted() -> None:
    """As `terraform fmt` writes them."""
    done = terraform(MODULE, "fmt", "-check", "-recursive", "-diff")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_terraform
@pytest.mark.timeout(120 + INIT_SECONDS)
def test_the_module_is_valid(copy: Path) -> None:
    """The providers know every resource, argument and attribute that it names."""
    done = terraform(copy, "validate")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_terraform
@pytest.mark.timeout(420 + INIT_SECONDS)
def test_the_modules_own_tests_pass(copy: Path) -> None:
    """The plans of both examples, and what is refused, on mocked providers."""
    done = terraform(copy, "test")
    assert done.returncode == 0, done.stdout + done.stderr
