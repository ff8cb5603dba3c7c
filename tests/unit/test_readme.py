"""What the pages at the root say is true."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from localcloud.catalogue import EVERYONE, ROOT, Route, read_catalogue
from localcloud.command_line.main import main
from shared.config import EMULATORS, ConfigurationError, Settings, read_settings
from shared.entry.description import description

PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
}
README = PAGES["README.md"]


class Recording(dict[str, str]):
    """An environment that remembers which variables were asked for."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """Return the variable, and remember that it was asked for."""
        self.asked.add(name)
        return super().get(name, default)


ONE_OF_THE_TWO = "one of the two"


def configuration_table() -> dict[str, str]:
    """Return each variable of the table with its default as the table has it: bare, ``required``, ``one of the two``, or empty."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| ?(.*?) ?\| .+ \|$", README, re.MULTILINE)
    return {name: default.strip("`") for name, default in rows}


def required() -> dict[str, str]:
    """Return a value for each variable that the table calls required, and for the first of the two of which one is."""
    named = [name for name, default in configuration_table().items() if default == "required"]
    addresses = {"HUB_ALLOWED_EMAILS", "HUB_MACHINE_SERVICE_ACCOUNT"}
    return {name: "x@example.com" if name in addresses else "x" for name in [*named, either()[0]]}


def either() -> list[str]:
    """Return the variables of which the table requires one."""
    return [name for name, default in configuration_table().items() if default == ONE_OF_THE_TWO]


def defaults() -> dict[str, str]:
    """Return the defaults that the table names."""
    without = {"required", ONE_OF_THE_TWO}
    return {
        name: default for name, default in configuration_table().items() if default not in without
    }


def test_the_configuration_table_has_every_variable_and_no_other() -> None:
    """What the code asks for is in the table, and the emulators are named below it."""
    environment = Recording(required())
    read_settings(environment)
    assert set(configuration_table()) == environment.asked - set(EMULATORS)
    assert all(f"`{name}`" in README for name in EMULATORS)


def test_the_defaults_in_the_table_are_the_codes() -> None:
    """Giving every default of the table changes nothing."""
    assert read_settings(required() | defaults()) == read_settings(required())


def outcome(variables: dict[str, str]) -> Settings | str:
    """Return the settings, or why they are refused."""
    try:
        return read_settings(variables)
    except ConfigurationError as error:
        return str(error)


@pytest.mark.parametrize("name", defaults())
def test_another_value_than_the_default_makes_a_difference(name: str) -> None:
    """Each default of the table is compared: another value of its variable is another configuration, or refused."""
    another = {"true": "false", "false": "true"}.get(defaults()[name], f"{defaults()[name]}9")
    became = outcome(required() | {name: another})
    assert became != outcome(required())
    assert isinstance(became, Settings) or name in became


@pytest.mark.parametrize("name", sorted(required().keys() - set(either())))
def test_what_the_table_calls_required_is_required(name: str) -> None:
    """Without such a variable the code says that it is not set."""
    with pytest.raises(ConfigurationError, match=f"{name} is not set"):
        read_settings({**required(), name: ""})


def test_one_of_the_two_is_required_and_enough() -> None:
    """Without either of them the code names both; in team mode each will do."""
    first, second = either()
    with pytest.raises(ConfigurationError, match=f"neither {first} nor {second} is set"):
        read_settings({**required(), first: ""})
    team = {**required(), "HUB_MODE": "team"}
    assert read_settings(team) != read_settings({**team, first: "", second: "x"})


def permissions() -> list[dict[str, str]]:
    """Return the rows of the permission matrix: each cell by the name of its column, bare."""
    [table] = re.findall(r"<!-- permissions -->\n(.*?)\n<!-- /permissions -->", README, re.DOTALL)
    header, _, *rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    ]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_permission_matrix_has_every_function_and_route() -> None:
    """A new function, or a new route of one, without a row is noticed."""
    shown = {
        (row["function"], row["request"].partition("?")[0].replace("{gone_id}", "{workspace_id}"))
        for row in permissions()
    }
    there = {
        (function.name, f"{route.method} {route.path}")
        for function in read_catalogue().functions
        for route in function.routes or (Route(method="POST", path="/"),)  # where Pub/Sub pushes to
    }
    assert shown == there


def test_the_permission_matrix_has_every_service_account_that_calls() -> None:
    """The columns are the people, the machine, and the catalogue's invokers, each allowed what the catalogue says."""
    catalogue = read_catalogue()
    people = ["nobody", "stranger", "another person", "owner", "administrator", "machine"]
    for row in permissions():
        assert list(row) == ["function", "request", *people, *sorted(catalogue.invokers)]
        assert all(re.fullmatch(r"20[0-4]|40[134]", cell) for cell in list(row.values())[2:])
        invoker = catalogue[row["function"]].invoker
        if invoker != EVERYONE:
            assert [name for name, cell in list(row.items())[2:] if cell < "300"] == [invoker]


def answers() -> Iterator[dict[str, Any]]:
    """Yield every answer that README shows."""
    for block in re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        yield json.loads(block)


@pytest.mark.parametrize(
    "answer", list(answers()), ids=lambda answer: answer.get("code", "workspace")
)
def test_the_answers_shown_are_those_of_the_contract(answer: dict[str, Any]) -> None:
    """An answer in README fits the schema that the OpenAPI document has for it."""
    name = "Problem" if "code" in answer else "Workspace"
    schema = {"$ref": f"#/components/schemas/{name}", "components": description()["components"]}
    OAS31Validator(schema, format_checker=OAS31Validator.FORMAT_CHECKER).validate(answer)


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
    named = {page: set(re.findall(r"nox -s ([a-z]+)", text)) for page, text in PAGES.items()}
    assert set.union(*named.values()) <= nox_sessions()
    assert named["CONTRIBUTING.md"] == nox_sessions()


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^localcloud ([a-z]+)", README, re.MULTILINE)))
)
def test_every_command_of_the_local_cloud_exists(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The local cloud's command line has the commands that README shows."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES)
def test_every_file_linked_or_named_exists(page: str) -> None:
    """A link leads to a file of the repository."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", PAGES[page]) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []
