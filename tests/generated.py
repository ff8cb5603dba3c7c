"""The files and parts of pages that are generated; run as a program, it writes them."""

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from localcloud.catalogue import ROOT
from shared.config.declarations import SECTIONS, SETTINGS
from shared.config.kinds import Required, SetBy, Setting
from tests.documents import CONFIGURATION, text_of
from tests.terraform.module import MODULE, PAGE, SNAPSHOT, module_table, snapshot

COMMAND = "nox -s docs"


def generated() -> dict[Path, str]:
    """Return what each generated file, and each page with a generated part, must hold."""
    module_page = text_of(PAGE)
    for kind in ("variable", "output"):
        module_page = _filled(module_page, f"{kind}s", f"/{kind}s", module_table(kind))
    return {
        CONFIGURATION: _filled(
            text_of(CONFIGURATION), "settings: begin", "settings: end", settings_table()
        ),
        MODULE / "settings.json": settings_for_terraform(),
        PAGE: module_page,
        SNAPSHOT: snapshot(),
    }


def settings_table() -> str:
    """Return the Markdown table of all settings, by section."""
    lines = ["| variable | default | must be | set by | meaning |", "|---|---|---|---|---|"]
    for title, settings in SECTIONS.items():
        lines += [f"| **{title}** | | | | |", *map(_row, settings)]
    return "\n".join(lines)


def _row(setting: Setting[Any]) -> str:
    cells = (
        f"`{setting.name}`",
        shown_default(setting),
        setting.kind.form,
        setting.set_by,
        setting.meaning,
    )
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def shown_default(setting: Setting[Any]) -> str:
    """Return a setting's default as the table has it: in backticks, in words, or empty."""
    if setting.default is Required.REQUIRED:
        return "required"
    if setting.set_by is SetBy.LOCAL_CLOUD:
        return ""
    text = setting.shown_default or text_of_value(setting.default)
    return text if " " in text or not text else f"`{text}`"


def text_of_value(value: Any) -> str:
    """Return the text that a setting's value is read from."""
    match value:
        case None | timedelta():
            seconds = (value or timedelta()).total_seconds()  # 0 is off
            return str(int(seconds) if seconds.is_integer() else seconds)
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
        case Mapping():
            return ",".join(f"{name}={one}" for name, one in value.items())
    return str(value)


def settings_for_terraform() -> str:
    """Return what the module reads: the settings that its variable ``settings`` may set."""
    names = sorted(setting.name for setting in SETTINGS if setting.set_by is SetBy.OPERATOR)
    note = f"Written by `{COMMAND}` from shared/config/declarations.py."
    return json.dumps({"//": note, "tunable": names}, indent=2) + "\n"


def _filled(page: str, begin: str, end: str, content: str) -> str:
    """Return a page with other content between two comment lines."""
    before, after = f"<!-- {begin} -->\n", f"\n<!-- {end} -->"
    head, found, rest = page.partition(before)
    _, found_too, tail = rest.partition(after)
    if not found or not found_too:
        raise ValueError(f"the page has no part from {before!r} to {after!r}")
    return head + before + content + after + tail


def stale() -> Iterator[Path]:
    """Yield the files that are not as they would be generated now."""
    for path, text in generated().items():
        if not path.exists() or text_of(path) != text:
            yield path.relative_to(ROOT)


if __name__ == "__main__":
    for path in stale():
        (ROOT / path).write_text(generated()[ROOT / path], encoding="utf-8")
        sys.stdout.write(f"{path} is written\n")
