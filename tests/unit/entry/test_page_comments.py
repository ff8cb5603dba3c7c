"""What of the page's files is not sent: comments. Code, strings and licences stay as they are."""

from shared.entry.page import FOLDER, without_comments

SOURCE = """/*! The licence stays. */
/**
 * Says what the module is for.
 */
import { html } from "lit"; // at the end of a line

const address = "https://example.com"; /* in a line */
  // before a line
const pattern = /\\/\\/[^/*]+/;
"""


def test_comments_with_lines_to_themselves_go_and_all_else_stays() -> None:
    """A comment that shares its line with code is left alone, and so is a licence."""
    assert without_comments(SOURCE) == (
        "/*! The licence stays. */\n"
        'import { html } from "lit"; // at the end of a line\n'
        "\n"
        'const address = "https://example.com"; /* in a line */\n'
        "const pattern = /\\/\\/[^/*]+/;\n"
    )


def test_the_page_loses_only_lines_that_are_comments() -> None:
    """A line that is lost begins as a comment does, and backticks are lost in pairs only."""
    for path in sorted({*FOLDER.glob("*.js"), *FOLDER.glob("*.css")}):
        source = path.read_text("utf-8")
        sent = without_comments(source)
        kept = {line.strip() for line in sent.splitlines()}
        lost = [line.strip() for line in source.splitlines() if line.strip() not in kept]
        odd = [line for line in lost if not line.startswith(("//", "/*", "*"))]
        assert path.suffix == ".css" or odd == [], path.name
        assert (source.count("`") - sent.count("`")) % 2 == 0, path.name


def test_the_library_is_sent_whole() -> None:
    """It is minified, and what it keeps is its licence."""
    library = (FOLDER / "lit-html.js").read_text("utf-8")
    assert without_comments(library) == library
