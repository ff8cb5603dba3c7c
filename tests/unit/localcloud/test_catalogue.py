"""The catalogue as the local cloud reads it."""

from dataclasses import replace
from pathlib import Path

import pytest

from localcloud.catalogue import (
    EVERYONE,
    ROOT,
    Catalogue,
    Route,
    public_routes,
    read_catalogue,
    ship,
)
from localcloud.services.api_gateway import Routes


def test_every_function_of_the_catalogue_has_a_file_with_its_name() -> None:
    """The local cloud starts the file that the entry names."""
    for function in read_catalogue().functions:
        assert (ROOT / function.source).stem == function.name


def test_only_functions_for_people_have_a_public_path() -> None:
    """Machines' reports, and what Google's services call, have none."""
    for function in read_catalogue().functions:
        people = function.invoker == EVERYONE and function.name != "report_workspace"
        assert function.is_public is people


def test_a_function_can_be_looked_up_by_name() -> None:
    """An unknown name raises ``KeyError``."""
    catalogue = read_catalogue()
    assert catalogue["provision_workspace"].signature_type == "cloudevent"
    assert catalogue["cleanup"].signature_type == "http"
    with pytest.raises(KeyError):
        catalogue["nothing"]


def test_a_literal_segment_wins_over_a_parameter() -> None:
    """Whatever the order of the file, ``/workspaces/new`` would not be a workspace."""
    catalogue = read_catalogue()
    one = catalogue["get_workspace"]
    other = replace(
        catalogue["describe_api"],
        routes=(
            Route(method="GET", path="/workspaces/new"),
            Route(method="GET", path="/workspaces/{workspace_id}/events"),
            Route(method="POST", path="/workspaces/{workspace_id}"),
        ),
    )
    for functions in ((one, other), (other, one)):
        assert [f"{route.method} {route.path}" for route, _ in public_routes(functions)] == [
            "GET /workspaces/new",
            "GET /workspaces/{workspace_id}",
            "POST /workspaces/{workspace_id}",
            "GET /workspaces/{workspace_id}/events",
        ]
        assert Routes(functions).find("/workspaces/new") == {"GET": "describe_api"}


def test_only_files_that_match_the_ship_list_are_copied(tmp_path: Path) -> None:
    """They keep their folders; a folder that matches is not copied."""
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


def test_a_line_of_the_ship_list_that_matches_no_file_is_an_error(tmp_path: Path) -> None:
    """The file may have been renamed."""
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        ship(Catalogue(ship=("gone.txt",), invokers=(), functions=()), tmp_path / "copy", tmp_path)
