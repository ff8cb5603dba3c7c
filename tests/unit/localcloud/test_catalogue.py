"""The catalogue as the local cloud reads it."""

from pathlib import Path

import pytest

from localcloud.catalogue import EVERYONE, ROOT, Catalogue, read_catalogue, ship


def test_every_function_of_the_catalogue_has_its_file() -> None:
    """The entry's name is the file's, so what is started is what is meant."""
    for function in read_catalogue().functions:
        assert (ROOT / function.source).stem == function.name


def test_the_public_address_leads_to_people_only() -> None:
    """Reports of machines, and what the platform calls, have no public path."""
    for function in read_catalogue().functions:
        people = function.invoker == EVERYONE and function.name != "report_workspace"
        assert function.is_public is people


def test_a_function_is_found_by_its_name() -> None:
    """A name that is not there is an error, not nothing."""
    catalogue = read_catalogue()
    assert catalogue["provision_workspace"].signature_type == "cloudevent"
    assert catalogue["cleanup"].signature_type == "http"
    with pytest.raises(KeyError):
        catalogue["nothing"]


def test_exactly_what_is_listed_is_shipped(tmp_path: Path) -> None:
    """Files that match are copied with their folders; others, and folders themselves, are not."""
    root, copy = tmp_path / "root", tmp_path / "copy"
    for name in (
        "requirements.txt",
        "functions/api/a.py",
        "functions/a.yaml",
        "shared/boot/run.sh",
        "shared/boot/old/x.sh",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    catalogue = Catalogue(
        ship=("requirements.txt", "functions/**/*.py", "shared/boot/*"), invokers=(), functions=()
    )
    ship(catalogue, copy, root)
    shipped = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert shipped == {"requirements.txt", "functions/api/a.py", "shared/boot/run.sh"}
    assert (copy / "functions/api/a.py").read_text() == "functions/api/a.py"


def test_a_line_of_the_ship_list_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    """It is a file that somebody has renamed."""
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        ship(Catalogue(ship=("gone.txt",), invokers=(), functions=()), tmp_path / "copy", tmp_path)
