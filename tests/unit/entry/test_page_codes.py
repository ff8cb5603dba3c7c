"""The page knows the Hub's codes, its events and what a change can lose by their names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT
from shared.domain.boot_codes import BOOT_CODES, BOOT_FAILED
from shared.domain.course import Lost
from shared.domain.workspace import OperationKind
from shared.entry.page import FOLDER
from tests.unit.test_docs import workspace_codes


def keys(file: str, name: str) -> set[str]:
    """Return the keys of an object that is a constant of one of the page's modules."""
    source = (FOLDER / file).read_text(encoding="utf-8")
    [body] = re.findall(rf"^const {name} = {{(.*?)}};$", source, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"(?:^|[{,])\s*(\w+):", body, re.MULTILINE))


def test_the_page_advises_on_codes_that_there_are() -> None:
    """Each is one of the domain's or of the boot scripts'; all others have the same advice."""
    assert keys("ways.js", "CODES") <= workspace_codes() | BOOT_CODES | {BOOT_FAILED}


def test_everything_that_a_change_can_lose_has_words() -> None:
    """A dry run names nothing that the page would show as a bare name."""
    assert keys("forecast.js", "LOST") == {each.value for each in Lost}


@pytest.mark.parametrize("name", ["ASKED", "SWEPT", "ENDED", "FAILED"])
def test_the_page_knows_only_events_that_the_hub_writes(name: str) -> None:
    """Each event with words of its own is in the Hub's code: a renamed one is noticed."""
    forms = ("{}Confirmed", "{}Failed", "Automatic{}Abandoned")
    composed = {form.format(kind.title()) for kind in OperationKind for form in forms}
    code = "".join(Path(each).read_text("utf-8") for each in (ROOT / "shared").rglob("*.py"))
    unknown = {each for each in keys("history.js", name) if f'"{each}"' not in code}
    assert unknown - composed == set()
