"""Generated files are as they would be generated now."""

from tests.generated import COMMAND, stale


def test_no_generated_file_is_stale() -> None:
    """A changed setting, variable or resource reaches the pages and Terraform in the same commit."""
    assert list(stale()) == [], f"`{COMMAND}` writes them"
