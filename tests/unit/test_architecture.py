"""The rules of the architecture, checked on the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT, Function, read_catalogue
from noxfile import LAST_SUITES, SLOW_SUITES, SUITES

SHIPPED = sorted([*(ROOT / "shared").rglob("*.py"), *(ROOT / "functions").rglob("*.py")])
FUNCTIONS = sorted((ROOT / "functions").rglob("*.py"))
TOUCH_MACHINES = {
    "advance_operation",
    "get_workspace_status",
    "provision_workspace",
    "reconcile_fleet",
}


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of all modules that a file imports, at any place."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path} has a relative import, but a function file belongs to no package"
            )
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def named(path: Path) -> str:
    """Return a file's path from the root, as a test's id."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sorted((ROOT / "shared" / "domain").rglob("*.py")), ids=named)
def test_the_domain_imports_only_itself_and_the_standard_library(path: Path) -> None:
    """Decisions need no cloud, no framework and no clock."""
    for module in imported(path):
        top = module.split(".")[0]
        assert (
            top in sys.stdlib_module_names
            or module.startswith("shared.domain")
            or module == "shared"
        ), module


@pytest.mark.parametrize("path", sorted((ROOT / "shared" / "usecases").glob("*.py")), ids=named)
def test_use_cases_import_domain_and_ports_only(path: Path) -> None:
    """They get adapters as arguments."""
    allowed = ("shared.domain", "shared.ports", "shared.logs", "shared.usecases")
    for module in imported(path):
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or module == "shared" or module.startswith(allowed), (
            module
        )


@pytest.mark.parametrize(
    "path",
    sorted({*(ROOT / "shared").glob("*.py"), *(ROOT / "shared" / "config").glob("*.py")}),
    ids=named,
)
def test_only_functions_import_the_edge(path: Path) -> None:
    """``entry`` may import ``bootstrap``, which composes the ports; not the other way round."""
    assert not [module for module in imported(path) if module.startswith("shared.entry")]


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_only_adapters_import_google(path: Path) -> None:
    """All other code uses ports."""
    if path.is_relative_to(ROOT / "shared" / "adapters"):
        return
    assert not [module for module in imported(path) if module.split(".")[0] in {"google", "grpc"}]


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_nothing_that_is_shipped_imports_the_local_cloud_or_tests(path: Path) -> None:
    """Production code has no branch for the local cloud or for tests."""
    assert not [
        module for module in imported(path) if module.split(".")[0] in {"localcloud", "tests"}
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_only_the_configuration_reads_the_environment(path: Path) -> None:
    """A setting that is read elsewhere would be neither checked nor deployed."""
    if path == ROOT / "shared" / "config" / "environment.py":
        return
    source = path.read_text()
    assert "os.environ" not in source
    assert "getenv" not in source


@pytest.mark.parametrize("path", sorted((ROOT / "cli").rglob("*.py")), ids=named)
def test_the_command_imports_nothing_of_the_hub(path: Path) -> None:
    """It is installed by itself, with the packages that it names, and speaks the API only."""
    project = tomllib.loads((ROOT / "cli/pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[^\w-]", each)[0] for each in project["dependencies"]}
    assert {"click", "requests"} <= names
    # urllib3 comes with requests, and google.auth with google-auth.
    tops = {name.replace("-", "_") for name in names} | {"workspace_cli", "urllib3", "google"}
    for module in imported(path):
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or top in tops, module


def test_the_catalogue_lists_every_function_and_nothing_else() -> None:
    """The catalogue's entries are deployed, so each must have its file, and each file its entry."""
    catalogue = read_catalogue().functions
    assert sorted(str(ROOT / function.source) for function in catalogue) == [
        str(path) for path in FUNCTIONS
    ]
    assert all(Path(function.source).stem == function.name for function in catalogue)


@pytest.mark.parametrize("function", read_catalogue().functions, ids=lambda each: each.name)
def test_the_catalogue_has_the_routes_of_the_function(function: Function) -> None:
    """The code serves the routes that are deployed; Pub/Sub's events need none."""
    tree = ast.parse((ROOT / function.source).read_text())
    [decorator] = [
        each
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        for each in node.decorator_list
    ]
    routes = [each.value for each in ast.walk(decorator) if isinstance(each, ast.Constant)]
    assert [each for each in routes if isinstance(each, str)] == [
        f"{route.method} {route.path}" for route in function.routes
    ]


@pytest.mark.parametrize("path", FUNCTIONS, ids=named)
def test_a_function_file_hides_no_module(path: Path) -> None:
    """It is loaded under its bare stem: ``queue.py`` would break the standard library."""
    assert path.stem not in sys.stdlib_module_names
    assert path.stem not in packages_distributions()


@pytest.mark.parametrize("path", FUNCTIONS, ids=named)
def test_a_function_file_is_one_short_function(path: Path) -> None:
    """It decodes, calls one use case and encodes, in at most 25 lines."""
    tree = ast.parse(path.read_text())
    [function] = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert function.name == path.stem
    assert ast.get_docstring(tree)
    assert function.end_lineno is not None
    assert function.end_lineno - function.lineno < 25


@pytest.mark.parametrize("function", read_catalogue().functions, ids=lambda each: each.name)
def test_only_functions_that_touch_machines_load_the_compute_library(function: Function) -> None:
    """It costs half a second and 50 MB. They load it at start, before the first request."""
    target = (function.name, str(ROOT / function.source), function.signature_type)
    load = f"""
import sys, functions_framework
functions_framework.create_app{target!r}
print('google.cloud.compute_v1.types' in sys.modules, file=sys.__stdout__, flush=True)
"""
    answer = subprocess.run(
        [sys.executable, "-c", load],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert answer.stdout.strip() == str(function.name in TOUCH_MACHINES)


def test_no_two_files_of_tests_that_run_together_have_one_name() -> None:
    """Pytest imports a file of tests by its bare name, and refuses the second one."""
    for suites in (SUITES, SLOW_SUITES, LAST_SUITES):
        files = [path for suite in suites for path in (ROOT / "tests" / suite).rglob("test_*.py")]
        names = Counter(path.name for path in files)
        assert [name for name, count in names.items() if count > 1] == []
