"""The pages say what is true: permissions, answers, error codes, commands, links and paths."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from localcloud.catalogue import EVERYONE, ROOT, Route, read_catalogue
from localcloud.command_line.main import main
from shared.domain.boot_codes import BOOT_CODES
from shared.domain.workspace import OperationKind
from shared.entry import problems
from shared.entry.description import description
from tests.documents import (
    PAGES,
    TROUBLESHOOTING,
    permissions,
    text_of,
)

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"


def name_of(page: Path) -> str:
    """Return a page's path from the root, for the name of a test."""
    return str(page.relative_to(ROOT))


# ---- docs/permissions.md: tests/system/test_permissions.py sends every request of the matrix ----


def test_the_permission_matrix_has_every_function_and_route() -> None:
    """A new function, or a new route of one, without a row is noticed."""
    shown = {
        (
            row["function"],
            re.sub(r"\?.*| from .*| with .*", "", row["request"])
            .replace("{gone_id}", "{workspace_id}")
            .replace("{purged_id}", "{workspace_id}")
            .replace("{other_snapshot_id}", "{snapshot_id}"),
        )
        for row in permissions()
    }
    there = {
        (function.name, f"{route.method} {route.path}")
        for function in read_catalogue().functions
        for route in function.routes or (Route(method="POST", path="/"),)  # where Pub/Sub pushes to
    }
    assert shown == there


def test_the_permission_matrix_has_every_service_account_that_calls() -> None:
    """The columns are people, the machine and the invokers; the catalogue says who may what."""
    catalogue = read_catalogue()
    people = ["nobody", "stranger", "another person", "owner", "administrator", "machine"]
    for row in permissions():
        assert list(row) == ["function", "request", *people, *sorted(catalogue.invokers)]
        assert all(re.fullmatch(r"20[0-4]|40[134]", cell) for cell in list(row.values())[2:])
        invoker = catalogue[row["function"]].invoker
        if invoker != EVERYONE:
            assert [name for name, cell in list(row.items())[2:] if cell < "300"] == [invoker]


# ---- docs/api.md ----


def answers() -> Iterator[dict[str, Any]]:
    """Yield every answer that a page shows."""
    for page in PAGES:
        for block in re.findall(r"^```json\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
            yield json.loads(block)


@pytest.mark.parametrize(
    "answer", list(answers()), ids=lambda answer: answer.get("code", "workspace")
)
def test_the_answers_shown_are_those_of_the_contract(answer: dict[str, Any]) -> None:
    """An answer on a page fits the schema that the OpenAPI document has for it."""
    name = "Problem" if "code" in answer else "Workspace"
    schema = {"$ref": f"#/components/schemas/{name}", "components": description()["components"]}
    OAS31Validator(schema, format_checker=OAS31Validator.FORMAT_CHECKER).validate(answer)


def requests_shown() -> set[tuple[str, str]]:
    """Return method and path of every request that a page sends by curl."""
    commands = [
        line
        for page in PAGES
        for block in re.findall(r"^```sh\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("curl")
    ]
    found = set()
    for command in commands:
        [path] = re.findall(r' "?(?:\$HUB|http://127\.0\.0\.1:8080)(/[^ "?]*)', command)
        method = "POST" if " -d " in command else "GET"
        named = re.findall(r" -X ([A-Z]+)", command)
        path = path.replace("$ID", "{workspace_id}").replace("$SNAPSHOT", "{snapshot_id}")
        found.add((named[0] if named else method, path))
    return found


def test_the_requests_shown_are_those_of_the_contract() -> None:
    """Every curl line calls a path of the OpenAPI document; all paths of a workspace are shown."""
    paths = description()["paths"]
    there = {(method.upper(), path) for path in paths for method in paths[path]}
    shown = requests_shown()
    assert shown <= there
    assert {path for _, path in shown} - {"/sign-in"} == {
        path
        for path in paths
        if path.startswith(("/workspaces", "/deleted-")) and not path.endswith("/reports")
    }


# ---- docs/troubleshooting.md ----


def codes_of(section: str) -> list[str]:
    """Return the codes in the first column of a section's table."""
    [body] = re.findall(
        rf"^## {section}\n(.*?)(?=^## |\Z)", text_of(TROUBLESHOOTING), re.MULTILINE | re.DOTALL
    )
    cells = re.findall(r"^\| (`.*?) \|", body, re.MULTILINE)
    return [code for cell in cells for code in re.findall(r"`([A-Z_]+)`", cell)]


def workspace_codes() -> set[str]:
    """Return the error codes of a workspace that the domain's modules have, without boot codes."""
    found = {f"{kind}_TIMED_OUT" for kind in OperationKind}
    for file in (ROOT / "shared/domain").rglob("[!_]*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        members = {
            constant
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for constant in ast.walk(node)
        }
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and node not in members
            and isinstance(node.value, str)
            and re.fullmatch(r"[A-Z]+(_[A-Z]+)+", node.value)
        }
    return found - BOOT_CODES - {"BOOT_FAILED"}


def test_each_answer_of_the_api_is_explained() -> None:
    """The page has every code that a request can be refused with, and its status."""
    hub = {(code, status) for status, code, _ in problems._STATUSES.values()}  # noqa: SLF001 -- the list that is held here
    http = {(code, status) for status, code in problems._HTTP_CODES.items()}  # noqa: SLF001
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", text_of(TROUBLESHOOTING), re.MULTILINE)
    assert {(code, int(status)) for code, status in rows} == hub | http | {("INTERNAL", 500)}
    assert [code for code, _ in rows] == codes_of("Answers of the API")


def test_each_error_of_a_workspace_is_explained() -> None:
    """The page has every code that the state table and the look at a machine can end in."""
    assert sorted(codes_of("Errors of a workspace")) == sorted(workspace_codes())


def test_each_boot_error_is_explained() -> None:
    """The page has every reason of the boot scripts."""
    assert sorted(codes_of("Boot errors")) == sorted(BOOT_CODES | {"BOOT_FAILED"})


# ---- commands ----


def nox_sessions() -> set[str]:
    """Return the names of all nox sessions."""
    module = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    return {
        node.name
        for node in functions
        if any("nox.session" in ast.unparse(one) for one in node.decorator_list)
    }


def test_every_nox_session_named_exists_and_is_described() -> None:
    """The pages name sessions that there are, and CONTRIBUTING leaves none out."""
    named = {page: set(re.findall(r"nox -s ([a-z]+)", text_of(page))) for page in PAGES}
    assert set.union(*named.values()) <= nox_sessions()
    assert named[CONTRIBUTING] == nox_sessions()


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            command
            for page in PAGES
            for command in re.findall(
                r"^(?:TOKEN=\$\()?localcloud ([a-z]+)", text_of(page), re.MULTILINE
            )
        }
    ),
)
def test_every_command_of_the_local_cloud_exists(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The local cloud's command line has the commands that the pages show."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0, capsys.readouterr().err


@cache
def the_code() -> str:
    """Return the text of everything that pages take names from."""
    return "".join(
        file.read_text(encoding="utf-8")
        for top in ("shared", "functions", "localcloud", "cli", "terraform", "tests")
        for file in sorted((ROOT / top).rglob("*.*"))
        if file.suffix in {".py", ".yaml", ".sh", ".tf", ".service", ".path"}
        and ".terraform" not in file.parts
    )


# ---- form, links, names and paths ----


def test_the_readme_is_for_somebody_with_five_minutes() -> None:
    """It has at most 180 lines, and links every page of docs/."""
    assert len(text_of(README).splitlines()) <= 180
    assert {f"docs/{page.name}" for page in (ROOT / "docs").iterdir()} <= set(links(README))


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links that lead to a file or a heading of the repository."""
    return [link for link in re.findall(r"\]\(([^)]+)\)", prose(page)) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: its headings as GitHub writes them into the address."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file that exists, and its anchor a heading of that page."""
    broken = []
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


# What the pages name that is made by a command, and is not in the repository.
MADE = re.compile(r"\.cache(/.*)?|\.nox/.*|\.localcloud/.*|bench\.json|sbom\.json|\.venv/.*")
ENDINGS = r"(?:py|md|json|yaml|toml|tf|hcl|txt|in|sh)"


def paths_named(page: Path) -> set[str]:
    """Return every path of the repository that a page names in backticks."""
    found = set()
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        path = re.sub(r"::?[\w.]+$", "", code)  # a name in the file
        inside = path.partition("/")[0] in TOP and "/" in path
        if re.fullmatch(r"[\w.*/{},-]+", path) and (
            inside or re.fullmatch(rf"[\w.*-]+\.{ENDINGS}", path)
        ):
            found.add(path)
    return found


TOP = {path.name for path in ROOT.iterdir()}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of
)
def test_every_path_named_exists(page: Path) -> None:
    """A path in backticks exists, from the repository's root or from the page's own folder."""
    missing = [
        path
        for path in sorted(paths_named(page))
        if not MADE.fullmatch(path)
        and not any(any(folder.glob(path.rstrip("/"))) for folder in {ROOT, page.parent})
    ]
    assert missing == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of
)
def test_every_name_of_the_code_exists(page: Path) -> None:
    """A setting, an event or a name with underscores in backticks is in the code."""
    name = r"HUB_[A-Z_]+|[A-Z][a-z]+(?:[A-Z][a-z]+)+|[a-z0-9]+(?:_[a-z0-9]+)+"
    named = {
        found
        for code in re.findall(r"`([^`\n]+)`", prose(page))
        if "/" not in code
        for found in re.findall(rf"(?<![\w.-])(?:{name})(?![\w.-])", code)
    }
    assert sorted(name for name in named if name not in the_code()) == []


def test_the_map_has_every_folder() -> None:
    """ARCHITECTURE's map has a row for each folder of code, or for the one that holds it."""
    rows = set(re.findall(r"^\| `(.+/)` \|", text_of(ROOT / "ARCHITECTURE.md"), re.MULTILINE))
    folders = {
        f"{file.parent.relative_to(ROOT)}/"
        for top in ("functions", "shared", "localcloud")
        for file in ROOT.glob(f"{top}/*/*.py")
    }
    assert folders <= rows


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_are_within_100_columns(page: Path) -> None:
    """Only a table, a link, or what is shown of a program may be longer."""
    text = re.sub(r"^ *```(?!sh).*?^ *```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    assert [
        line
        for line in text.splitlines()
        if len(line) > 100 and not line.startswith("|") and "](" not in line
    ] == []
