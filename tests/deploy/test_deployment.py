"""What is shipped, started as the platform starts it: the console script, the entry's file, another working directory."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud.catalogue import ROOT, Function, read_catalogue
from localcloud.processes.children import free_ports
from localcloud.processes.functions import console_script
from localcloud.running_cloud import RunningCloud
from tests.processes import eventually
from tests.terraform.module import local_values

FUNCTIONS = read_catalogue().functions
WORKSPACE_ID = str(uuid.uuid4())
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
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [console_script()],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            assert eventually(lambda: process.poll() is not None or answers(url), 60)
            assert process.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    """Return whether the framework answers; the function is not called by this."""
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{url}/favicon.ico", timeout=5).status_code in {404, 405}
    return False


def calls(function: Function, token: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and what else to call a function with: every route of it, on a workspace that does not exist."""
    if function.trigger == "event":
        return [("POST", "/", {"json": PUSH})]
    headers = {"Authorization": f"Bearer {token}"}
    body = {
        "create_workspace": {"name": "first"},
        "report_workspace": {"event": "ready", "generation": 1},
    }
    known = JOB if function.trigger == "task" else body.get(function.name)
    return [
        (
            route.method,
            re.sub(r"\{.*?\}", WORKSPACE_ID, route.path),
            {"headers": headers, "json": known},
        )
        for route in function.routes
    ]


ANSWERS = {
    "list_workspaces": 200,
    "create_workspace": 201,
    "delete_workspace": 404,
    "stop_workspace": 404,
    "start_workspace": 404,
    "get_workspace_status": 404,
    "list_events": 404,
    "describe_api": 200,
    "report_workspace": 401,  # a person's token is not a machine's
    "provision_workspace": 200,  # obsolete jobs are done
    "advance_operation": 204,
    "record_dead_letter": 200,
    "cleanup": 200,
    "reconcile": 200,
    "reconcile_fleet": 200,
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_function_starts_from_what_is_shipped_and_does_its_work(
    function: Function, shipped: Path, tmp_path: Path, cloud: RunningCloud
) -> None:
    """With the deployment's environment and nothing else, it imports, and every route of it answers as it should."""
    token = cloud.token(f"{uuid.uuid4()}@example.com")
    with started(function, shipped, tmp_path, cloud.state["environment"]) as url:
        for method, path, options in calls(function, token):
            answer = requests.request(method, url + path, timeout=30, **options)
            expected = (
                403 if path == "/events" else ANSWERS[function.name]
            )  # everybody's are the administrators' only
            assert answer.status_code == expected, answer.text + (tmp_path / "log").read_text()


@pytest.mark.parametrize("name", ["list_workspaces", "provision_workspace", "cleanup"])
def test_a_function_works_with_exactly_the_environment_that_terraform_gives_it(
    name: str, shipped: Path, tmp_path: Path, cloud: RunningCloud
) -> None:
    """Each variable of the module and no other, those that nobody has set as empty texts; and where the emulators are."""
    module, function, known = local_values(), read_catalogue()[name], cloud.state["environment"]
    settings = {*module["tunable"], *re.findall(r"\b([A-Z][A-Z_]+) = ", module["environment"])}
    process = set(re.findall(r"\b([A-Z][A-Z_]+) = ", module["process"]))
    assert function.environment(str(shipped)).keys() == process
    given = {setting: known.get(setting, "") for setting in settings}
    emulators = {
        setting: value for setting, value in known.items() if setting.endswith("_EMULATOR_HOST")
    }

    with started(function, shipped, tmp_path, given | emulators) as url:
        for method, path, options in calls(function, cloud.token(f"{uuid.uuid4()}@example.com")):
            answer = requests.request(method, url + path, timeout=30, **options)
            assert answer.status_code == ANSWERS[name], answer.text + (tmp_path / "log").read_text()


def test_the_function_that_is_there_for_its_build_starts_without_any_setting(
    shipped: Path, tmp_path: Path
) -> None:
    """The build's own service must come up, or the build counts as failed: with where the source is, and no settings."""
    with started(read_catalogue()["describe_api"], shipped, tmp_path, {}) as url:
        assert answers(url)


def test_a_function_starts_without_any_setting_and_says_what_is_missing(
    shipped: Path, tmp_path: Path
) -> None:
    """A deployment that forgot its settings gets an answer, and the log names every one of them."""
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
    """A setting of the local cloud that got into a deployment would send its records elsewhere: nothing works then."""
    settings = {**cloud.state["environment"], "K_SERVICE": "list-workspaces"}
    with started(read_catalogue()["list_workspaces"], shipped, tmp_path, settings) as url:
        assert requests.get(f"{url}/workspaces", timeout=10).status_code == 500
    assert "must not be set on Cloud Run" in (tmp_path / "log").read_text()


def test_everything_that_shipped_code_imports_is_shipped_or_required(shipped: Path) -> None:
    """An import that only the tests' environment has would fail in production."""
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


def test_no_shipped_function_file_hides_a_module() -> None:
    """The framework loads it under its bare stem: the name of another module would hide that one from everybody."""
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
