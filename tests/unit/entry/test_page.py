"""The page as it is served: small, named by its content, with a policy of what is in it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import brotli
import pytest

from shared.entry.page import FOLDER, SIGN_IN, Document, Page, page, read_page

MOST_BYTES = 60_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the page's files."""
    return Path(shutil.copytree(FOLDER, tmp_path / "page"))


def directives(document: Document) -> dict[str, list[str]]:
    """Return a document's policy: each directive with its sources."""
    policy = document.headers["Content-Security-Policy"]
    return {name: sources for name, *sources in (each.split() for each in policy.split("; "))}


def import_map(one: Page) -> dict[str, str]:
    """Return where each bare specifier leads."""
    found = re.search(r'<script type="importmap">(.*?)</script>', one.index.content.decode())
    assert found
    imports: dict[str, str] = json.loads(found[1])["imports"]
    return imports


def hash_source(text: str) -> str:
    """Return the policy's source of an inline script or style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def test_the_page_is_small() -> None:
    """The bodies of all that it loads are under 60 KB, compressed, without the sign-in document."""
    loaded = [page().index, *(each for name, each in page().assets.items() if name != SIGN_IN)]
    assert sum(len(each.packed("br")) for each in loaded) < MOST_BYTES


def test_what_is_compressed_is_what_is_served() -> None:
    """Every document is the same either way."""
    for document in (page().index, *page().assets.values()):
        assert gzip.decompress(document.packed("gzip")) == document.content
        assert brotli.decompress(document.packed("br")) == document.content


def test_the_import_map_leads_to_every_module() -> None:
    """Whatever a module imports is in the map, and each address in the map is served."""
    imports = import_map(page())
    assert all(url.removeprefix("/assets/") in page().assets for url in imports.values())
    modules = [path for path in FOLDER.glob("*.js") if path.name != "lit-html.js"]
    for module in modules:
        source = module.read_text(encoding="utf-8")
        wanted = re.findall(r'^(?:import|export)\b[^"]* from "([^"]+)";', source, re.MULTILINE)
        assert set(wanted) <= imports.keys(), module.name


def test_the_html_names_nothing_that_is_not_served() -> None:
    """Each address in it is that of an asset, or data."""
    named = re.findall(r'(?:href|src)="([^"]+)"', page().index.content.decode())
    assert len(named) > 5
    for address in named:
        assert address.startswith("data:") or address.removeprefix("/assets/") in page().assets


def test_an_asset_that_changes_gets_another_name(folder: Path) -> None:
    """Only its own name, and the HTML's tag, change."""
    before = read_page(folder)
    with (folder / "times.js").open("a") as file:
        file.write("export const CHANGED = true;\n")
    after = read_page(folder)
    gone = before.assets.keys() - after.assets.keys()
    assert [name.split(".")[0] for name in gone] == ["times"]
    assert import_map(after)["page/times.js"] != import_map(before)["page/times.js"]
    assert after.index.content != before.index.content


@pytest.mark.parametrize("name", ["index", SIGN_IN])
def test_the_policy_names_exactly_the_inline_scripts_and_styles(name: str) -> None:
    """Each has its hash there, and none else; nothing is unsafe, and nothing may frame the page."""
    document = page().index if name == "index" else page().assets[name]
    html, policy = document.content.decode(), directives(document)
    scripts = re.findall(r"<script(?: type=\"importmap\")?>(.*?)</script>", html, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    for kind, inline in (("script-src", scripts), ("style-src", styles)):
        hashes = {source for source in policy[kind] if source.startswith("'sha256-")}
        assert hashes == {hash_source(text) for text in inline}
    assert "unsafe" not in document.headers["Content-Security-Policy"]
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
    assert not re.search(r"<[^>]*\s(?:style|on\w+)=", html)


def test_the_page_itself_may_ask_no_other_origin() -> None:
    """Only the sign-in document may, and only Google's sign-in."""
    others = [each for sources in directives(page().index).values() for each in sources]
    assert not any("//" in each for each in others)
    google = [each for sources in directives(page().assets[SIGN_IN]).values() for each in sources]
    assert {each for each in google if "//" in each} == {
        "https://accounts.google.com/gsi/",
        "https://accounts.google.com/gsi/client",
        "https://accounts.google.com/gsi/style",
    }


def test_the_vendored_library_says_what_it_is() -> None:
    """Its version, its licence and how it was made are in its head."""
    head = (FOLDER / "lit-html.js").read_text(encoding="utf-8").partition("*/")[0]
    assert all(text in head for text in ("lit-html 3.3.3", "BSD 3-Clause", "Google LLC", "esbuild"))
