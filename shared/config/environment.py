"""Reads all settings from the environment: the one module that reads ``os.environ``.

A test holds that no other module does. All functions get the same environment.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from shared.config.declarations import EMULATORS, SETTINGS
from shared.config.kinds import Required, Setting
from shared.config.rules import contradictions, fitted
from shared.config.settings import (
    Connect,
    Edge,
    Emulators,
    Identity,
    MachineSettings,
    Prices,
    Settings,
    SignIn,
)
from shared.domain.access import AccessRules
from shared.domain.policy import Deadlines, Limits, Policy


class ConfigurationError(Exception):
    """Settings are missing or wrong. The message names each; correct the deployment."""


def configure_libraries() -> None:
    """Set what libraries read from the environment once a function is imported.

    functions-framework wraps each log line in one of its own where this says ``true``, as Cloud Run
    functions set it by themselves. gRPC's C++ core writes plain text into the log by itself.
    gunicorn takes the headers ``SCRIPT_NAME`` and ``PATH_INFO`` from its own machine for a proxy's
    word on which path is asked for (its settings ``forwarder_headers`` and
    ``forwarded_allow_ips``), and is imported after the function.
    """
    os.environ["LOG_EXECUTION_ID"] = "false"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check all settings.

    Raises:
        ConfigurationError: with one line for everything that is missing or wrong.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        values[setting.fills] = _read(setting, environ, problems)
        if setting.also_fills:
            values[setting.also_fills] = values[setting.fills]
    settings = fitted(_settings(values))
    problems += [*_emulators_on_cloud_run(environ), *contradictions(settings)]
    if problems:
        raise ConfigurationError("The Hub is not configured:\n  " + "\n  ".join(problems))
    return settings


def _read(setting: Setting[Any], environ: Mapping[str, str], problems: list[str]) -> Any:
    """Return a setting's value, and add what is wrong with it to ``problems``.

    The value is None if a required setting is missing. No rule between settings looks at those.
    """
    default = None if setting.default is Required.REQUIRED else setting.default
    text = environ.get(setting.name, "").strip()
    if not text:
        if setting.default is Required.REQUIRED:
            problems.append(f"{setting.name} is not set")
        return default
    wrong: list[str] = []
    value = setting.kind.parse(text, wrong)
    problems += [f"{setting.name} {each}" for each in wrong]
    return default if wrong and value is None else value


def _settings(values: Mapping[str, Any]) -> Settings:
    """Return the settings of which each field has its value: ``machine.spot``, ``region``."""
    fields: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, value in values.items():
        owner, _, field = path.rpartition(".")
        fields[owner][field] = value
    return Settings(
        **fields[""],
        identity=Identity(**fields["identity"]),
        access=AccessRules(**fields["access"]),
        sign_in=SignIn(**fields["sign_in"]),
        connect=Connect(**fields["connect"]),
        edge=Edge(**fields["edge"]),
        machine=MachineSettings(**fields["machine"]),
        prices=Prices(**fields["prices"]),
        policy=Policy(
            project_id=fields[""]["project_id"],
            **fields["policy"],
            limits=Limits(**fields["policy.limits"]),
            deadlines=Deadlines(**fields["policy.deadlines"]),
        ),
        emulators=Emulators(**fields["emulators"]),
    )


def _emulators_on_cloud_run(environ: Mapping[str, str]) -> Iterator[str]:
    given = [name for name in EMULATORS if environ.get(name, "").strip()]
    if given and environ.get("K_SERVICE"):
        yield f"{', '.join(given)} must not be set on Cloud Run"
