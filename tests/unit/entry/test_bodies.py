"""The values of accepted requests; the functions' own tests have the refused ones."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Request
from werkzeug.test import EnvironBuilder

from shared.domain.access import MachineIdentity
from shared.domain.errors import InvalidRequestError
from shared.domain.idleness import HeartbeatReason
from shared.domain.lifecycle import NewMachine, NewWorkspace
from shared.domain.policy import Policy
from shared.domain.workspace import Metadata
from shared.entry.bodies import (
    read_new_machine,
    read_new_snapshot,
    read_new_workspace,
    read_report,
)

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
def test_a_repository_may_be_given_in_any_form(repo: str) -> None:
    """A URL, git's short form and the image's own names are stored as they were sent."""
    new = read_new_workspace(request_with({"name": "api", "metadata": {"repo": repo}}), Policy())
    assert new.metadata == Metadata(repo=repo)


@pytest.mark.parametrize("field", ["branch", "device_id"])
def test_a_branch_and_a_device_are_not_checked_as_addresses(field: str) -> None:
    """A text that would be a password before a host is plain text there."""
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
def test_an_empty_home_is_accepted_only_explicitly(body: dict[str, Any], agreed: bool) -> None:
    """Both spellings are accepted, and the default is no."""
    assert read_new_machine(request_with(body), Policy()) == NewMachine(empty_home=agreed)


@pytest.mark.parametrize(
    ("body", "asked"), [({}, False), ({"rebuild": None}, False), ({"rebuild": True}, True)]
)
def test_a_rebuild_is_made_only_if_it_is_requested(body: dict[str, Any], asked: bool) -> None:
    """The default is no, because a rebuild loses memory."""
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
def test_a_heartbeat_may_have_a_reason(
    more: dict[str, Any], because: HeartbeatReason | None
) -> None:
    """Older boot scripts send none."""
    assert read_report(heartbeat(**more), MACHINE).because is because


@pytest.mark.parametrize("because", ["Session", "keep-awake", "", 1, True, ["session"]])
def test_an_unknown_reason_for_a_heartbeat_is_refused(because: Any) -> None:
    """The problem is on its field and lists the known reasons."""
    with pytest.raises(InvalidRequestError) as refused:
        read_report(heartbeat(because=because), MACHINE)
    assert [(problem.field, problem.message) for problem in refused.value.problems] == [
        ("because", "must be one of session, keep_awake")
    ]


@pytest.mark.parametrize("event", ["ready", "failed"])
def test_a_reason_with_another_report_has_no_effect(event: str) -> None:
    """An unknown reason is refused with any report."""
    report = {"event": event, "generation": 3, "because": "session"}
    assert read_report(request_with(report), MACHINE).event == event
    with pytest.raises(InvalidRequestError) as refused:
        read_report(request_with({**report, "because": "boredom"}), MACHINE)
    assert [problem.field for problem in refused.value.problems] == ["because"]


# ---- host keys ----


def public(key: Any) -> str:
    """Return a public key as OpenSSH writes it, without a comment."""
    text: bytes = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return text.decode()


ED25519 = public(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key())
KEYS = {
    "ed25519": ED25519,
    "ecdsa": public(ec.derive_private_key(4711, ec.SECP256R1()).public_key()),
    **{
        f"rsa {bits}": public(rsa.RSAPublicNumbers(65537, 2 ** (bits - 1) + 1).public_key())
        for bits in (2048, 3072, 4096)
    },
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("comment", ["", " root@workspace-1", " a comment, with spaces"])
def test_a_host_key_is_read_without_its_comment(key: str, comment: str) -> None:
    """The types are those that sshd makes by itself."""
    report = {"event": "ready", "generation": 3, "host_key": key + comment}

    assert read_report(request_with(report), MACHINE).host_key == key


def test_a_report_needs_no_host_key() -> None:
    """Boot scripts of version 0.1 send none."""
    report = {"event": "ready", "generation": 3}

    assert read_report(request_with(report), MACHINE).host_key is None
    assert read_report(request_with({**report, "host_key": None}), MACHINE).host_key is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        ED25519[:-1],
        ED25519 + "=",
        ED25519.replace("ssh-ed25519", "ssh-rsa"),
        ED25519.replace("ssh-ed25519 ", "ssh-dss "),
        KEYS["rsa 2048"].replace("ssh-rsa", "ssh-ed25519"),
        "@cert-authority " + ED25519,
        "* " + ED25519,
        " " + ED25519,
        ED25519 + "\n* ssh-ed25519 AAAA",
        ED25519 + "\r",
        ED25519 + "\t",
        ED25519 + " \u2028",
        ED25519 + " " + "x" * 1024,
        7,
        [ED25519],
    ],
)
def test_what_is_no_host_key_is_refused(key: object) -> None:
    """People's clients write it into files of known hosts, so it must be one key and no more."""
    report = {"event": "ready", "generation": 3, "host_key": key}

    with pytest.raises(InvalidRequestError) as refused:
        read_report(request_with(report), MACHINE)

    assert [problem.field for problem in refused.value.problems] == ["host_key"]


SNAPSHOT_ID = "8f0a4a51-9f6e-4f43-a0b7-54b1d1a7f3c2"


@pytest.mark.parametrize("spelling", ["snapshot_id", "snapshotId"])
def test_a_workspace_may_be_made_from_a_snapshot(spelling: str) -> None:
    """What the body leaves out is left open, since the snapshot has it."""
    body = {"name": "api", "from": {spelling: SNAPSHOT_ID}}
    new = read_new_workspace(request_with(body), Policy())
    assert new == NewWorkspace(name="api", from_snapshot=SNAPSHOT_ID)


def test_a_source_that_is_null_is_none() -> None:
    """A client may always send all fields."""
    new = read_new_workspace(request_with({"name": "api", "from": None}), Policy())
    assert new.from_snapshot is None


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({}, "from.snapshot_id"),
        ({"snapshot_id": None}, "from.snapshot_id"),
        ({"snapshot_id": 7}, "from.snapshot_id"),
        ({"snapshotId": "x"}, "from.snapshotId"),
        ({"snapshot_id": SNAPSHOT_ID.upper()}, "from.snapshot_id"),
        ({"snapshot_id": f"{SNAPSHOT_ID}/.."}, "from.snapshot_id"),
        ({"snapshot_id": SNAPSHOT_ID, "snapshotId": SNAPSHOT_ID}, "from.snapshotId"),
        ({"snapshot_id": SNAPSHOT_ID, "zone": "us-west1-a"}, "from.zone"),
        (SNAPSHOT_ID, "from"),
        ([], "from"),
        (True, "from"),
    ],
    ids=str,
)
def test_a_wrong_source_is_named_by_its_path(source: object, field: str) -> None:
    """Each wrong field is named once, in the spelling in which it was sent."""
    with pytest.raises(InvalidRequestError) as refusal:
        read_new_workspace(request_with({"name": "api", "from": source}), Policy())
    assert [wrong.field for wrong in refusal.value.problems] == [field]


@pytest.mark.parametrize(
    ("body", "name"), [({}, None), ({"name": None}, None), ({"name": "v1.0"}, "v1.0")]
)
def test_a_snapshot_may_have_a_name(body: object, name: str | None) -> None:
    """No name, null and no body are the same."""
    assert read_new_snapshot(request_with(body)) == name
