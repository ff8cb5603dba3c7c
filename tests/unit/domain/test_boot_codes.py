"""The Hub accepts exactly the error codes that the boot scripts report."""

import json
import re

import pytest

from localcloud.catalogue import ROOT
from shared.domain.boot_codes import BOOT_CODES, BOOT_FAILED, believed_code, is_of_a_machine
from shared.domain.drift import MACHINE_GONE, MACHINE_NOT_READY
from shared.domain.steps import HOME_DISK_GONE
from shared.domain.workspace import Status

_REASON = re.compile(
    r"(?:\b(?:doing|record_end|fail|failed|give_up|ended) |\bcode=|\becho ')"
    r"([A-Z]{2,}(?:_[A-Z]+)+)\b"
)
_WORD = re.compile(r"(?<![$\w{])[A-Z]{2,}(?:_[A-Z]+)+\b(?!:?=)")
_VARIABLE = re.compile(r"\b([A-Z_]{2,}):?=")


def codes_in(scripts: str) -> set[str]:
    """Return the codes that boot scripts report; other words in capitals must be variables."""
    reasons = set(_REASON.findall(scripts))
    assert set(_WORD.findall(scripts)) - set(_VARIABLE.findall(scripts)) <= reasons
    return reasons


def scripts_of_version_0_1() -> str:
    """Return the boot scripts of version 0.1, from the user data kept for the upgrade tests."""
    _, _, document = (
        (ROOT / "tests/upgrade/v0_1/user_data.txt").read_text(encoding="utf-8").partition("\n")
    )
    return "\n".join(
        file["content"]
        for file in json.loads(document)["write_files"]
        if file["path"].endswith(".sh")
    )


def test_the_list_has_the_codes_of_the_scripts() -> None:
    """The list has each code of today's scripts and of version 0.1's, and no other."""
    today = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "shared/boot").glob("*.sh")
    )

    assert codes_in(today) | codes_in(scripts_of_version_0_1()) == BOOT_CODES
    assert len(codes_in(scripts_of_version_0_1())) == 14


@pytest.mark.parametrize(
    "code",
    [*Status, MACHINE_GONE, MACHINE_NOT_READY, HOME_DISK_GONE, "DELETED", "", "DISK_FULL\n", None],
)
def test_other_codes_are_not_accepted(code: str | None) -> None:
    """Any other code counts as ``BOOT_FAILED``, also a status or code of the Hub's own."""
    assert believed_code(code) == BOOT_FAILED
    assert not is_of_a_machine(code or "")
