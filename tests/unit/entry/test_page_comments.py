"""What of the page's files is not sent: comments and indentation. All else stays as it is."""

from shared.entry.page import FOLDER, as_sent, page

LIBRARY = FOLDER / "lit-html.js"
SOURCE = """/*! The licence stays. */
/**
 * Says what the module is for.
 */
import { html } from "lit"; // at the end of a line

const address = "https://example.com"; /* in a line */
  // before a line
const pattern = /\\/\\/[^/*]+/;
if (pattern) {

  address.at( 0 );
}
"""


def test_comments_with_lines_to_themselves_and_indentation_go_and_all_else_stays() -> None:
    """A comment that shares its line with code is left alone, and so is a licence."""
    assert as_sent(SOURCE) == (
        "/*! The licence stays. */\n"
        'import { html } from "lit"; // at the end of a line\n'
        'const address = "https://example.com"; /* in a line */\n'
        "const pattern = /\\/\\/[^/*]+/;\n"
        "if (pattern) {\n"
        "address.at( 0 );\n"
        "}\n"
    )


def test_the_page_loses_only_lines_that_are_comments() -> None:
    """A line that is lost begins as a comment does, and backticks are lost in pairs only."""
    for path in sorted({*FOLDER.glob("*.js"), *FOLDER.glob("*.css")} - {LIBRARY}):
        source = path.read_text("utf-8")
        sent = as_sent(source)
        kept = {line.strip() for line in sent.splitlines()}
        lost = [line.strip() for line in source.splitlines() if line.strip() not in {*kept, ""}]
        odd = [line for line in lost if not line.startswith(("//", "/*", "*"))]
        assert path.suffix == ".css" or odd == [], path.name
        assert (source.count("`") - sent.count("`")) % 2 == 0, path.name


def test_the_library_is_sent_whole() -> None:
    """It is minified, and what it keeps is its licence."""
    [sent] = [each for name, each in page().assets.items() if name.startswith(LIBRARY.stem)]
    assert sent.content == LIBRARY.read_bytes()
