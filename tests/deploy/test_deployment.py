"""The deployed files, started as the platform does: by its console script, in another folder."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud.catalogue import EVERYONE, ROOT, Function, read_catalogue
from localcloud.processes.children import free_ports
from localcloud.running_cloud import RunningCloud
from shared.config import SETTINGS
from shared.config.kinds import SetBy
from tests.documents import permissions
from tests.processes import eventually, running_function
from tests.terraform.module import local_values

FUNCTIONS = read_catalogue().functions
ASSET = "google-sign-in"  # it has the same name in every version
WORKSPACE_ID = str(uuid.uuid4())
SNAPSHOT_ID = "8f0a4a51-9f6e-4f43-a0b7-54b1d1a7f3c2"
JOB = {"workspace_id": WORKSPACE_ID, "operation_id": str(uuid.uuid4()), "step": 1}
PUSH = {
    "message": {
        "data": base64.b64encode(json.dumps(JOB).encode()).decode(),
        "messageId": "1",
        "publishTime": "2026-01-01T00:00:00Z",
    },
    "subscription": "projects/demo-project/subscriptions/demo",
}


@contextlib.contextmanager
def started(
    function: Function, shipped: Path, folder: Path, settings: dict[str, str]
) -> Iterator[str]:
    """Start a function, wait until it answers, and yield its URL."""
    [port] = free_ports(1)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        **function.environment(str(shipped)),
        **settings,
    }
    url = f"http://127.0.0.1:{port}"
    with running_function(environment, folder) as process:
        assert eventually(lambda: process.poll() is not None or answers(url), 60)
        assert process.poll() is None, (folder / "log").read_text()
        yield url


def answers(url: str) -> bool:
    """Say whether the framework answers; this does not call the function."""
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{url}/favicon.ico", timeout=5).status_code in {404, 405}
    return False


def calls(function: Function, token: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and options of a request to each route, on an unknown workspace."""
    if function.trigger == "event":
        return [("POST", "/", {"json": PUSH})]
    headers = {"Authorization": f"Bearer {token}"}
    body = {
        "create_workspace": {"name": "first"},
        "report_workspace": {"event": "ready", "generation": 1},
        "keep_workspace_awake": {"until": None},
        "restore_workspace": {"snapshot_id": SNAPSHOT_ID},
    }
    known = JOB if function.trigger == "task" else body.get(function.name)
    return [
        (
            route.method,
            route.path.format(workspace_id=WORKSPACE_ID, snapshot_id=SNAPSHOT_ID, name=ASSET)
            + ("?dry_run=true" if route.path.endswith("/delete") else ""),
            {"headers": headers, "json": known},
        )
        for route in function.routes
    ]


def expected_answer(function: Function, request: str) -> int:
    """Return the status that the permission matrix has for a caller who owns no workspace.

    A function that the platform guards is called as the platform lets its one caller through.
    """
    column = "another person" if function.invoker == EVERYONE else function.invoker
    [cell] = [
        row[column]
        for row in permissions()
        if (row["function"], row["request"]) == (function.name, request)
    ]
    return int(cell)


def check_answers(function: Function, url: str, cloud: RunningCloud, folder: Path) -> None:
    """Check that each route of a started function gives a new person the expected answer."""
    for method, path, options in calls(function, cloud.token(f"{uuid.uuid4()}@example.com")):
        answer = requests.request(method, url + path, timeout=30, **options)
        route = path.replace(WORKSPACE_ID, "{workspace_id}").replace(ASSET, "{name}")
        route = route.replace(SNAPSHOT_ID, "{snapshot_id}")
        expected = expected_answer(function, f"{method} {route}")
        assert answer.status_code == expected, answer.text + (folder / "log").read_text()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_function_starts_from_the_deployed_files_and_answers(
    function: Function, shipped: Path, tmp_path: Path, cloud: RunningCloud
) -> None:
    """With the deployment's environment only, every route gives the expected answer."""
    with started(function, shipped, tmp_path, cloud.state["environment"]) as url:
        check_answers(function, url, cloud, tmp_path)


@pytest.mark.parametrize("name", ["list_workspaces", "provision_workspace", "cleanup"])
def test_a_function_works_with_exactly_the_environment_that_terraform_gives_it(
    name: str, shipped: Path, tmp_path: Path, cloud: RunningCloud
) -> None:
    """It gets each variable of the module, empty if not set, and the emulators' addresses."""
    module, function, known = local_values(), read_catalogue()[name], cloud.state["environment"]
    settings = {each.name for each in SETTINGS if each.set_by is not SetBy.LOCAL_CLOUD}
    process = set(re.findall(r"\b([A-Z][A-Z_]+) = ", module["process"]))
    assert function.environment(str(shipped)).keys() == process
    given = {setting: known.get(setting, "") for setting in settings}
    emulators = {
        setting: value for setting, value in known.items() if setting.endswith("_EMULATOR_HOST")
    }

    with started(function, shipped, tmp_path, given | emulators) as url:
        check_answers(function, url, cloud, tmp_path)


def test_the_builds_own_function_starts_without_any_setting(shipped: Path, tmp_path: Path) -> None:
    """It gets only the place of its source; if it did not start, the build would fail."""
    with started(read_catalogue()["describe_api"], shipped, tmp_path, {}) as url:
        assert answers(url)


def test_a_function_without_settings_answers_500_and_logs_what_is_missing(
    shipped: Path, tmp_path: Path
) -> None:
    """The log names each missing setting; the answer names none."""
    with started(read_catalogue()["list_workspaces"], shipped, tmp_path, {}) as url:
        answer = requests.get(f"{url}/workspaces", timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    log = (tmp_path / "log").read_text()
    for name in ("GOOGLE_CLOUD_PROJECT", "HUB_REGION", "HUB_USER_AUDIENCES"):
        assert f"{name} is not set" in log
        assert name not in answer.text


def test_emulators_are_refused_on_cloud_run(
    shipped: Path, tmp_path: Path, cloud: RunningCloud
) -> None:
    """Such a setting would send the records elsewhere, so every request gets 500."""
    settings = {**cloud.state["environment"], "K_SERVICE": "list-workspaces"}
    with started(read_catalogue()["list_workspaces"], shipped, tmp_path, settings) as url:
        assert requests.get(f"{url}/workspaces", timeout=10).status_code == 500
    assert "must not be set on Cloud Run" in (tmp_path / "log").read_text()


def test_each_import_of_deployed_code_is_deployed_or_required(shipped: Path) -> None:
    """An import that only the tests' environment provides would fail in production."""
    locked = (shipped / "requirements.txt").read_text()
    required = {_normal(name) for name in re.findall(r"^([\w.-]+)==", locked, re.MULTILINE)}
    providers = packages_distributions()
    for file in shipped.rglob("*.py"):
        for module in _imports(file):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or (shipped / top).is_dir():
                continue
            assert {_normal(name) for name in providers.get(top, [])} & required, (
                f"{file.relative_to(shipped)}: {module}"
            )


def test_no_function_file_has_the_name_of_a_module() -> None:
    """The framework loads it under its stem, so it would hide a module of that name."""
    taken = sys.stdlib_module_names | packages_distributions().keys()
    assert not {Path(function.source).stem for function in FUNCTIONS} & taken
    assert all((ROOT / function.source).is_file() for function in FUNCTIONS)


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield node.module or ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
