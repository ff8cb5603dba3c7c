"""What requests mean that are taken; what is refused is tried on the functions themselves."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from shared.domain.access import MachineIdentity
from shared.domain.errors import InvalidRequestError
from shared.domain.idleness import HeartbeatReason
from shared.domain.lifecycle import NewMachine
from shared.domain.policy import Policy
from shared.entry.bodies import read_new_machine, read_new_workspace, read_report

MACHINE = MachineIdentity(
    "example", "us-west1-a", "workspace-0b0e6c3c-6f0e-4c37-9d2b-1f7f8c3c9b52", "4711"
)


def request_with(body: Any) -> Request:
    """Return a request with a JSON body."""
    return Request(EnvironBuilder(method="POST", json=body).get_environ())


def heartbeat(**more: Any) -> Request:
    """Return a machine's heartbeat with these fields too."""
    return request_with({"event": "heartbeat", "generation": 3, **more})


@pytest.mark.parametrize(
    "repo",
    [
        "https://host:8443/r.git",
        "git@host:org/r.git",
        "ssh://git@host/r.git",
        "org/r",
        "https://host/r?ref=main",
        "/srv/r@1",
    ],
)
def test_where_a_repository_is_may_be_said_in_any_form(repo: str) -> None:
    """A URL, what git takes instead of one, or a name of one's own, and it arrives as it was sent."""
    new = read_new_workspace(request_with({"name": "api", "metadata": {"repo": repo}}), Policy())
    assert new.metadata.repo == repo


@pytest.mark.parametrize("field", ["branch", "device_id"])
def test_a_branch_and_a_device_are_no_addresses(field: str) -> None:
    """What would be a password in front of a host is only text there."""
    new = read_new_workspace(
        request_with({"name": "api", "metadata": {field: "mac:0a@home"}}), Policy()
    )
    assert getattr(new.metadata, field) == "mac:0a@home"


@pytest.mark.parametrize(
    ("body", "agreed"),
    [
        ({}, False),
        ({"empty_home": None}, False),
        ({"empty_home": True}, True),
        ({"emptyHome": True}, True),
    ],
)
def test_an_empty_home_is_agreed_to_only_outright(body: dict[str, Any], agreed: bool) -> None:
    """In either spelling; what is not said is no."""
    assert read_new_machine(request_with(body), Policy()) == NewMachine(empty_home=agreed)


@pytest.mark.parametrize(
    ("body", "asked"), [({}, False), ({"rebuild": None}, False), ({"rebuild": True}, True)]
)
def test_a_new_machine_is_made_only_if_it_is_asked_for_outright(
    body: dict[str, Any], asked: bool
) -> None:
    """What is not said is no: it costs memory."""
    assert read_new_machine(request_with(body), Policy()) == NewMachine(rebuild=asked)


@pytest.mark.parametrize(
    ("more", "because"),
    [
        ({}, None),
        ({"because": None}, None),
        ({"because": "session"}, HeartbeatReason.SESSION),
        ({"because": "keep_awake"}, HeartbeatReason.KEEP_AWAKE),
    ],
)
def test_a_heartbeat_may_say_why_it_is_sent(
    more: dict[str, Any], because: HeartbeatReason | None
) -> None:
    """Older boot scripts do not."""
    assert read_report(heartbeat(**more), MACHINE).because is because


@pytest.mark.parametrize("because", ["Session", "keep-awake", "", 1, True, ["session"]])
def test_another_reason_for_a_heartbeat_is_refused(because: Any) -> None:
    """On its field, with the reasons that there are."""
    with pytest.raises(InvalidRequestError) as refused:
        read_report(heartbeat(because=because), MACHINE)
    assert [(problem.field, problem.message) for problem in refused.value.problems] == [
        ("because", "must be one of session, keep_awake")
    ]


@pytest.mark.parametrize("event", ["ready", "failed"])
def test_a_reason_with_another_report_does_no_harm(event: str) -> None:
    """It says nothing there; what cannot be a reason is refused with any report."""
    report = {"event": event, "generation": 3, "because": "session"}
    assert read_report(request_with(report), MACHINE).event == event
    with pytest.raises(InvalidRequestError) as refused:
        read_report(request_with({**report, "because": "boredom"}), MACHINE)
    assert [problem.field for problem in refused.value.problems] == ["because"]
