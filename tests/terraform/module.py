"""The Terraform module as python-hcl2 reads it, and what is generated from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2

from localcloud.catalogue import ROOT

MODULE = ROOT / "terraform" / "workspace-hub"
SNAPSHOT = Path(__file__).with_name("resources.txt")
PAGE = MODULE / "README.md"

Block = dict[str, Any]


def blocks(kind: str) -> Iterator[Block]:
    """Yield the blocks of a kind such as ``resource`` or ``locals``, in the order of the files."""
    for path in sorted(MODULE.glob("*.tf")):
        with path.open(encoding="utf-8") as file:
            for block in hcl2.load(file).get(kind, []):
                yield _plain(block)


def resources() -> dict[str, Block]:
    """Return each resource by its address, such as ``google_service_account.group``."""
    return {
        f"{kind}.{name}": body
        for block in blocks("resource")
        for kind, named in block.items()
        for name, body in named.items()
    }


def named(kind: str) -> dict[str, Block]:
    """Return the blocks of a kind with one label by name, in the order of the files."""
    return {name: body for block in blocks(kind) for name, body in block.items()}


def local_values() -> Block:
    """Return all local values by name, with their expressions as written."""
    return {name: value for block in blocks("locals") for name, value in block.items()}


def said(block: Block) -> str:
    """Return a description in one line, without the marks of a heredoc."""
    return " ".join(re.sub(r"^<<-END\n|\n *END$", "", block.get("description", "")).split())


def module_table(kind: str) -> str:
    """Return the Markdown table of the module's variables or outputs."""
    if kind == "output":
        rows = [f"| `{name}` | {said(body)} |" for name, body in named(kind).items()]
        return "\n".join(["| output | what it is |", "|---|---|", *rows])
    rows = [f"| `{name}` | {_default(body)} | {said(body)} |" for name, body in named(kind).items()]
    return "\n".join(["| input | default | what it is |", "|---|---|---|", *rows])


def _default(variable: Block) -> str:
    return f"`{json.dumps(variable['default'])}`" if "default" in variable else "required"


def snapshot() -> str:
    """Return a line for each resource: its count, and a binding's role, member and condition."""
    lines = [_line(address, body) for address, body in sorted(resources().items())]
    return "".join(f"{line}\n" for line in (*lines, "", *_counting()))


def _counting() -> Iterator[str]:
    """Yield the local values that decide how many resources exist."""
    values, wanted = local_values(), set[str]()
    found = set(
        re.findall(
            r"local\.(\w+)",
            " ".join(
                str(body.get(k)) for body in resources().values() for k in ("for_each", "count")
            ),
        )
    )
    while found - wanted:
        wanted |= found
        found = set(re.findall(r"local\.(\w+)", " ".join(str(values.get(name)) for name in wanted)))
    for name in sorted(wanted & values.keys()):
        yield f"local.{name} = {' '.join(str(values[name]).split())}"


def _line(address: str, body: Block) -> str:
    shown = ["for_each", "count", *(["role", "member"] if "_iam_" in address else [])]
    said = [f"{name} = {' '.join(str(body[name]).split())}" for name in shown if name in body]
    conditions = [
        *body.get("condition", []),
        *(each["condition"] for each in body.get("dynamic", []) if "condition" in each),
    ]
    said += [
        f"condition = {' '.join(str(condition).split())}"
        for condition in conditions
        if "_iam_" in address
    ]
    return "  |  ".join([address, *said])


def _plain(value: Any) -> Any:
    """Remove what python-hcl2 adds: quotes of strings, braces of expressions, and comments."""
    if isinstance(value, dict):
        noted = {"__comments__", "__is_block__"}
        return {_plain(name): _plain(each) for name, each in value.items() if name not in noted}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str) and value.startswith('"'):
        return value[1:-1].replace('\\"', '"')
    if isinstance(value, str) and value.startswith("${"):
        return value[2:-1]
    return value
