"""Each setting is declared once, and its declaration is what the code does."""

import types
import typing
from dataclasses import is_dataclass
from typing import Any

import pytest

from shared.config import SETTINGS, ConfigurationError, Settings, read_settings
from shared.config.kinds import Required, Setting
from tests.fakes.settings import REQUIRED_SETTINGS
from tests.generated import shown_default

ENVIRONMENT = {**REQUIRED_SETTINGS, "HUB_ALLOWED_EMAILS": "*"}
ONE_OF_THE_TWO = ["HUB_ALLOWED_EMAILS", "HUB_ALLOWED_DOMAINS"]
REQUIRED = [one.name for one in SETTINGS if one.default is Required.REQUIRED]
DEFAULTS = {
    setting.name: shown_default(setting).strip("`")
    for setting in SETTINGS
    if setting.name not in {*REQUIRED, *ONE_OF_THE_TWO}
}


def outcome(variables: dict[str, str]) -> Settings | str:
    """Return the settings, or why they are refused."""
    try:
        return read_settings(variables)
    except ConfigurationError as error:
        return str(error)


def test_a_setting_is_declared_once() -> None:
    """No two settings have the same name, and none fills a field that another fills."""
    names = [setting.name for setting in SETTINGS]
    fields = [one for each in SETTINGS for one in (each.fills, each.also_fills) if one]
    assert len(set(names)) == len(names)
    assert len(set(fields)) == len(fields)


def test_no_variable_is_read_that_is_not_declared() -> None:
    """Only Cloud Run's own ``K_SERVICE`` is read besides."""
    read = set[str]()

    class Recording(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            read.add(name)
            return super().get(name, default)

    read_settings(Recording({**ENVIRONMENT, "COMPUTE_EMULATOR_HOST": "127.0.0.1:9"}))
    assert read - {"K_SERVICE"} == {setting.name for setting in SETTINGS}


def test_what_is_required_is_what_must_be_set() -> None:
    """The environment of the tests sets exactly the settings without a default."""
    assert sorted(REQUIRED) == sorted(REQUIRED_SETTINGS)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_setting_is_required(name: str) -> None:
    """Without it the code says that it is not set."""
    with pytest.raises(ConfigurationError, match=f"{name} is not set"):
        read_settings({**ENVIRONMENT, name: ""})


def test_one_of_the_two_is_required_and_enough() -> None:
    """Without either of them the code names both; in team mode each will do."""
    first, second = ONE_OF_THE_TWO
    shown = {each.name for each in SETTINGS if shown_default(each) == "one of the two"}
    assert shown == {first, second}
    with pytest.raises(ConfigurationError, match=f"neither {first} nor {second} is set"):
        read_settings({**ENVIRONMENT, first: ""})
    team = {**ENVIRONMENT, "HUB_MODE": "team"}
    assert read_settings(team) != read_settings({**team, first: "", second: "x"})


def test_the_defaults_that_the_table_shows_are_the_codes() -> None:
    """Giving every default of the table changes nothing."""
    assert read_settings(ENVIRONMENT | DEFAULTS) == read_settings(ENVIRONMENT)


@pytest.mark.parametrize("name", DEFAULTS)
def test_another_value_than_the_default_makes_a_difference(name: str) -> None:
    """Another value than the table's default makes another configuration, or is refused."""
    another = {"true": "false", "false": "true"}.get(DEFAULTS[name], f"{DEFAULTS[name]}9")
    became = outcome(ENVIRONMENT | {name: another})
    assert became != outcome(ENVIRONMENT)
    assert isinstance(became, Settings) or name in became


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value is of an annotated type, but not which items a collection has."""
    origin = typing.get_origin(hint)
    if origin in {types.UnionType, typing.Union}:
        return any(fits(value, one) for one in typing.get_args(hint))
    return type(value) is bool if hint is bool else isinstance(value, origin or hint)


def fields(value: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Return value and annotation of each field, by its path: ``policy.limits.running``."""
    found = {}
    for name, hint in typing.get_type_hints(type(value)).items():
        inner = getattr(value, name)
        found[f"{path}{name}"] = (inner, hint)
        if is_dataclass(inner):
            found |= fields(inner, f"{path}{name}.")
    return found


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_fills_a_field_of_its_type(setting: Setting[Any]) -> None:
    """The fields are filled by name, which no type checker sees."""
    there = fields(read_settings({**ENVIRONMENT, "PUBSUB_EMULATOR_HOST": "127.0.0.1:9"}))
    for path in filter(None, (setting.fills, setting.also_fills)):
        assert fits(*there[path]), path
