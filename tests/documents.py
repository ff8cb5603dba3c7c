"""The Markdown pages of the repository, and the tables in them that tests execute."""

import re
from pathlib import Path

from localcloud.catalogue import ROOT

PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("cli/*.md")),
    *sorted(ROOT.glob("terraform/*/*.md")),
]
CONFIGURATION = ROOT / "docs/configuration.md"
OPERATIONS = ROOT / "docs/operations.md"
PERMISSIONS = ROOT / "docs/permissions.md"
TROUBLESHOOTING = ROOT / "docs/troubleshooting.md"


def text_of(page: Path) -> str:
    """Return what a page says."""
    return page.read_text(encoding="utf-8")


def between(page: Path, begin: str, end: str) -> str:
    """Return the one part of a page that is between two comment lines."""
    pattern = rf"<!-- {re.escape(begin)} -->\n(.*?)\n<!-- {re.escape(end)} -->"
    [part] = re.findall(pattern, text_of(page), re.DOTALL)
    return str(part)


def rows_of(table: str) -> list[dict[str, str]]:
    """Return a Markdown table's rows: each cell by its column's name, without backticks."""
    header, _, *rows = [
        [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        for line in table.splitlines()
    ]
    return [dict(zip(header, row, strict=True)) for row in rows]


def permissions() -> list[dict[str, str]]:
    """Return the rows of the permission matrix."""
    return rows_of(between(PERMISSIONS, "permissions", "/permissions"))
