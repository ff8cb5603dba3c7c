"""The option with which CI fails a test that is skipped."""

import re
import subprocess
import sys
from pathlib import Path

from localcloud.catalogue import ROOT
from tests.conftest import ALLOWED_SKIPS

ONE_TEST = "import pytest\ndef test_it():\n    pytest.skip({reason!r})\n"
WHOLE_FILE = "import pytest\npytest.skip({reason!r}, allow_module_level=True)\n"


def test_a_skip_fails_unless_its_reason_is_allowed(tmp_path: Path) -> None:
    """A file that is skipped as a whole fails too."""
    for name, text in (("one", ONE_TEST), ("whole", WHOLE_FILE)):
        for reason in ("no such package", ALLOWED_SKIPS[0]):
            path = tmp_path / f"test_{name}_{reason == ALLOWED_SKIPS[0]}.py"
            path.write_text(text.format(reason=reason))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.conftest", "--no-skips"),
            *("--continue-on-collection-errors", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    forbidden = set(re.findall(r"test_\w+_(?:True|False)(?=\.py\S* is skipped)", done.stdout))
    assert forbidden == {"test_one_False", "test_whole_False"}, done.stdout
