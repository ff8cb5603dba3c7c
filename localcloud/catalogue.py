"""The content of ``functions/catalogue.yaml``: the functions, their triggers, the shipped files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "functions" / "catalogue.yaml"

EVERYONE = "everyone"


@dataclass(frozen=True, kw_only=True)
class Route:
    """One ``METHOD /path`` of a function; ``{…}`` in the path is one segment."""

    method: str
    path: str

    @property
    def order(self) -> tuple[str, str]:
        """Where it stands among others: a literal segment comes before a parameter.

        ``~`` follows every character of a literal segment. The Terraform module sorts the same
        (``gateway.tf``), so one path leads to one function everywhere.
        """
        return re.sub(r"\{[^}]*\}", "~", self.path), self.method


@dataclass(frozen=True, kw_only=True)
class Function:
    """One entry of the catalogue, with the members that the file describes."""

    name: str
    source: str
    trigger: str
    invoker: str
    runs_as: str
    memory_mib: int
    timeout_seconds: float
    concurrency: int
    max_instances: int
    routes: tuple[Route, ...] = ()
    without_proxy: bool = False
    topic: str | None = None
    queue: str | None = None
    schedule: str | None = None
    ack_deadline_seconds: int | None = None
    dead_letter: dict[str, Any] | None = None
    dispatch: dict[str, Any] | None = None
    sweeps: dict[str, Any] | None = None
    retry: dict[str, Any] | None = None

    @property
    def service(self) -> str:
        """The name of its Cloud Run service."""
        return self.name.replace("_", "-")

    @property
    def signature_type(self) -> str:
        """Its kind, in the words of functions-framework."""
        return "cloudevent" if self.trigger == "event" else "http"

    @property
    def is_public(self) -> bool:
        """Whether the public address leads to it. Its folder says who calls it."""
        return self.source.startswith("functions/api/")

    def environment(self, root: str) -> dict[str, str]:
        """Return the variables that say which function to serve, and how, as in a deployment.

        Args:
            root: the folder of the deployed files.
        """
        return {
            "FUNCTION_SIGNATURE_TYPE": self.signature_type,
            "FUNCTION_SOURCE": f"{root}/{self.source}",
            "FUNCTION_TARGET": self.name,
            "PYTHONPATH": root,
            # With fewer threads than concurrent requests, requests wait. The framework's default is
            # 4 for each CPU (functions_framework/_http/gunicorn.py); Google's advice is to set the
            # concurrency.
            "THREADS": str(self.concurrency),
        }


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The whole file."""

    ship: tuple[str, ...]
    invokers: tuple[str, ...]
    functions: tuple[Function, ...]

    def __getitem__(self, name: str) -> Function:
        """Return the function of this name.

        Raises:
            KeyError: it does not exist.
        """
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(name)


def read_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """Read the catalogue.

    Raises:
        TypeError: an entry lacks a member or has an unknown one.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Catalogue(
        ship=tuple(content["ship"]),
        invokers=tuple(content["invokers"]),
        functions=tuple(_function(name, entry) for name, entry in content["functions"].items()),
    )


def public_routes(functions: Iterable[Function]) -> list[tuple[Route, Function]]:
    """Return the routes of the public address, each with its function, in the order of a search."""
    routes = [
        (route, function)
        for function in functions
        if function.is_public
        for route in function.routes
    ]
    return sorted(routes, key=lambda each: each[0].order)


def _function(name: str, entry: dict[str, Any]) -> Function:
    routes = tuple(
        Route(method=method, path=path)
        for method, path in (route.split(" ", 1) for route in entry.pop("routes", ()))
    )
    return Function(name=name, routes=routes, **entry)


def ship(catalogue: Catalogue, target: Path, root: Path = ROOT) -> None:
    """Copy exactly the deployed files into ``target``, a folder that does not exist yet.

    Raises:
        FileNotFoundError: a line of the ship list matches no file.
    """
    for pattern in catalogue.ship:
        files = [path for path in root.glob(pattern) if path.is_file()]
        if not files:
            raise FileNotFoundError(
                f"The ship list names {pattern}, and there is no such file in {root}."
            )
        for path in files:
            copy = target / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
