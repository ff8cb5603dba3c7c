"""The filter language of the local Compute Engine."""

from __future__ import annotations

import pytest

from localcloud.services.compute.errors import ComputeError
from localcloud.services.compute.filters import compile_filter

MACHINE = {
    "name": "workspace-1",
    "id": "42",
    "status": "RUNNING",
    "labels": {"managed-by": "workspace-hub", "hub": "team-a1"},
    "scheduling": {"automaticRestart": False},
    "disks": [{"deviceName": "boot"}, "home"],
}

TRUE = [
    "",
    "name = workspace-1",
    'name="workspace-1"',
    "name = 'workspace-1'",
    "id = 42",
    "status != TERMINATED",
    "labels.managed-by = workspace-hub",
    "labels.absent != anything",
    "labels.hub:*",
    "labels:hub",
    "name:space",
    "disks:home",
    "scheduling.automaticRestart = false",
    '(labels.managed-by = "workspace-hub") (labels.hub = "team-a1")',
    "labels.hub = team-a1 AND status = RUNNING",
    "((status = RUNNING) AND (name = workspace-1))",
    "status = TERMINATED OR status = RUNNING",
    "(status = RUNNING) OR (status = RUNNING) AND (id = 42)",
    "name eq workspace-.*",
    'name eq "workspace-\\d"',
    "(name ne other) (status eq 'RUN.*')",
]
FALSE = [
    "name = workspace",
    "status != RUNNING",
    "labels.absent = anything",
    "labels.absent:*",
    "labels:absent",
    "(status = RUNNING) (name = other)",
    "status = RUNNING AND name = other",
    "(status = RUNNING) OR (status = RUNNING) AND (id = 43)",
    "name eq workspace",
    "name ne workspace-1",
    "status.deeper = RUNNING",
]
REFUSED = [
    "name",
    "name =",
    "= name",
    "name = a b",
    "name = a status = b",
    "name = a (status = b)",
    "(name = a",
    "name = a)",
    "()",
    "name = a AND",
    "AND name = a",
    "name = (a)",
    'name = "a',
    "name = work*",
    "name like a",
    "name > a",
    "NOT name = a",
    "-name = a",
    "nmae = a",
    "label.hub = a",
    "metadata.items = a",
    "name eq '('",
    "(name eq a) (status = b)",
]


@pytest.mark.parametrize("text", TRUE)
def test_a_filter_matches_a_resource_that_it_describes(text: str) -> None:
    """Each of these filters describes the machine."""
    assert compile_filter(text)(MACHINE)


@pytest.mark.parametrize("text", FALSE)
def test_a_filter_does_not_match_a_resource_that_it_does_not_describe(text: str) -> None:
    """Each of these filters describes another machine."""
    assert not compile_filter(text)(MACHINE)


@pytest.mark.parametrize("text", REFUSED)
def test_an_unsupported_filter_is_refused(text: str) -> None:
    """It never matches by default: the error is 400 with Compute Engine's message."""
    with pytest.raises(ComputeError) as refusal:
        compile_filter(text)

    assert (refusal.value.code, refusal.value.reason) == (400, "invalid")
    assert (
        refusal.value.message
        == f"Invalid value for field 'filter': '{text}'. Invalid list filter expression."
    )
