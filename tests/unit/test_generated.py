"""Generated files are as they would be generated now."""

from tests.generated import COMMAND, stale


def test_no_generated_file_is_stale() -> None:
    """A change of a setting, variable or resource reaches pages and Terraform in its commit."""
    assert list(stale()) == [], f"`{COMMAND}` writes them"
