"""The reasons of the boot scripts are the ones that the Hub believes, and no others."""

import json
import re

import pytest

from localcloud.catalogue import ROOT
from shared.domain.boot_codes import BOOT_CODES, BOOT_FAILED, believed_code, is_of_a_machine
from shared.domain.drift import MACHINE_GONE, MACHINE_NOT_READY
from shared.domain.steps import HOME_DISK_GONE
from shared.domain.workspace import Status

_REASON = re.compile(
    r"(?:\b(?:doing|ended|fail|failed|give_up) |\bcode=|\becho ')([A-Z]{2,}(?:_[A-Z]+)+)\b"
)
_WORD = re.compile(r"(?<![$\w{])[A-Z]{2,}(?:_[A-Z]+)+\b(?!:?=)")
_VARIABLE = re.compile(r"\b([A-Z_]{2,}):?=")


def codes_in(scripts: str) -> set[str]:
    """Return the reasons that boot scripts give. Whatever else is written in capitals is a variable."""
    reasons = set(_REASON.findall(scripts))
    assert set(_WORD.findall(scripts)) - set(_VARIABLE.findall(scripts)) <= reasons
    return reasons


def scripts_of_version_0_1() -> str:
    """Return the boot scripts that machines of version 0.1 have: its user-data is a fixture of the upgrade tests."""
    _, _, document = (
        (ROOT / "tests/upgrade/v0_1/user_data.txt").read_text(encoding="utf-8").partition("\n")
    )
    return "\n".join(
        file["content"]
        for file in json.loads(document)["write_files"]
        if file["path"].endswith(".sh")
    )


def test_the_list_is_what_the_scripts_have() -> None:
    """A reason that a script begins to give is believed, and one that no script has given in any version is not."""
    today = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "shared/boot").glob("*.sh")
    )

    assert codes_in(today) | codes_in(scripts_of_version_0_1()) == BOOT_CODES
    assert len(codes_in(scripts_of_version_0_1())) == 14


def test_the_readme_tells_what_to_do_about_each() -> None:
    """Whoever reads a reason finds it there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert {code for code in BOOT_CODES if f"`{code}`" not in readme} == set()


@pytest.mark.parametrize(
    "code",
    [*Status, MACHINE_GONE, MACHINE_NOT_READY, HOME_DISK_GONE, "DELETED", "", "DISK_FULL\n", None],
)
def test_nothing_else_is_believed(code: str | None) -> None:
    """Least of all what the Hub itself says."""
    assert believed_code(code) == BOOT_FAILED
    assert not is_of_a_machine(code or "")
