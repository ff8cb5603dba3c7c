"""The page says what the command says: the same words, and the same spans of time."""

from __future__ import annotations

import uuid
from typing import Any

from shared.domain.workspace import Phase
from tests.page.person import Person
from workspace_cli import text, words
from workspace_cli.commands import open as editor
from workspace_cli.ssh import way
from workspace_cli.workspaces import workspace_of

PHASES = [*(phase.value for phase in Phase), "a_phase_of_a_newer_hub"]
STATUSES = ("PROVISIONING", "READY", "SUSPENDED", "ERROR", "NEWER")
KINDS = (None, "CREATE", "START", "STOP", "SNAPSHOT", "RESTORE", "ARCHIVE", "DELETE", "NEWER")
ARCHIVED = {"archived_at": "2026-03-02T10:34:20Z"}
SIZES = [0, 1, 812, 1023, 1024, 10_000, 812 * 1024**2, 5_368_709_120, 10**10, 3 * 10**13]
SPANS = [*range(-5, 400), *range(400, 400_000, 77), 0.4, 119.49, 119.5, 7169.9, 172_799.6, 1e7]
NAMES = ("api", "Api", "API-2", "_x.y", "-x", "-X", "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve")
CONNECT = """
async (workspaces) => {
  const { editorLink, sshHost } = await import("page/connect.js");
  return workspaces.map((each) => [sshHost(each), editorLink(each)]);
}
"""
ASK = """
async ([workspaces, phases, spans, sizes]) => {
  const words = await import("page/words.js");
  const times = await import("page/times.js");
  return {
    statuses: workspaces.map(words.status),
    doing: phases.map(words.doing),
    done: phases.map(words.done),
    spans: spans.map(times.duration),
    sizes: sizes.map(times.size),
  };
}
"""


def _workspace(status: str, kind: str | None, phase: str = "survey") -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "name": "api",
        "status": status,
        "operation": {"id": "1", "kind": kind, "phase": phase} if kind else None,
    }


def _doing(phase: str) -> str:
    operation = workspace_of(_workspace("READY", "START", phase)).operation
    assert operation is not None
    return words.doing(operation)


def test_the_page_has_the_words_of_the_command(alice: Person) -> None:
    """Statuses, what an operation does and has done, how long something takes, and sizes."""
    workspaces = [
        {**_workspace(status, kind), **more}
        for status in STATUSES
        for kind in KINDS
        for more in ({}, ARCHIVED)
    ]
    said = alice.open().evaluate(ASK, [workspaces, PHASES, SPANS, SIZES])
    doing = [_doing(phase) for phase in PHASES]
    assert said["statuses"] == [words.status(workspace_of(each)) for each in workspaces]
    assert said["doing"] == doing
    assert said["done"][:-1] == [words.done(each) for each in doing[:-1]]
    assert said["sizes"] == [text.size(each) for each in SIZES]
    assert said["spans"] == [text.duration(each) for each in SPANS]


def test_the_page_s_host_and_link_are_those_of_the_command(alice: Person) -> None:
    """For `ssh`, and for an editor, which must not make a name lower case."""
    workspaces = [{**_workspace("READY", None), "name": name} for name in NAMES]
    hosts = [way.host_of(workspace_of(each)) for each in workspaces]
    links = [
        f"vscode://vscode-remote/ssh-remote+{editor._authority(host)}/home/workspace"  # noqa: SLF001
        for host in hosts
    ]
    said = alice.open().evaluate(CONNECT, workspaces)
    assert said == [list(each) for each in zip(hosts, links, strict=True)]
