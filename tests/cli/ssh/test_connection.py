from __future__ import annotations

import base64
from typing import Any

import pytest

from workspace_cli.config import Connect
from workspace_cli.connection import connect_of
from workspace_cli.errors import NotUnderstoodError
from workspace_cli.ssh.connection import Connection, Jump, check_user, read_connection

_ED25519 = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)
KEY = "ssh-ed25519 " + base64.b64encode(_ED25519).decode()
IAP = {
    "kind": "iap", "project_id": "a-project", "zone": "us-west1-a",
    "instance_name": "workspace-1", "instance_id": "123", "host": None, "port": 22, "jump": None,
    "user": None, "host_key": KEY, "access": {"state": "granted", "why": None},
    "command": "gcloud …; rm -rf /",
}  # fmt: skip
DIRECT = {**IAP, "kind": "direct", "host": "10.0.0.7", "jump": "ann@bastion.example.com:2222"}
HOSTILE: list[Any] = [
    "-oProxyCommand=touch /tmp/x", "-", "--help", "a b", "a;b", "$(touch x)", "`x`", "a\nb", "a\0b",
    "a'b", 'a"b', "a|b", "a&b", "%n", "\x1b[2J", "\u202ea", "a/../b", "../x", "", " a", "a ", "ä",
    "x" * 5000, 7, 1.5, True, ["a"], {"a": 1},
]  # fmt: skip


def read(value: Any, *, local: bool = False) -> Connection:
    """Read a connection, and agree to it."""
    return read_connection(value, connect_of(value), local=local)


def test_a_connection_through_googles_tunnel_is_read() -> None:
    """Every field of the contract has its value."""
    assert read(IAP) == Connection(
        kind="iap",
        project_id="a-project",
        zone="us-west1-a",
        instance_name="workspace-1",
        instance_id="123",
        host_key=KEY,
    )


def test_a_connection_through_a_bastion_is_read() -> None:
    """The bastion's parts are apart, so that each is an argument of its own."""
    connection = read(DIRECT)
    assert connection.jump == Jump(host="bastion.example.com", port=2222, user="ann")
    assert (connection.host, connection.port) == ("10.0.0.7", 22)


def test_a_hub_before_0_2_has_googles_tunnel() -> None:
    """Project, zone and instance are enough."""
    old = {name: IAP[name] for name in ("project_id", "zone", "instance_name", "command")}
    connection = read(old)
    assert (connection.kind, connection.access, connection.host_key) == ("iap", "granted", None)


def test_a_new_machine_has_another_name_for_its_host_key() -> None:
    """The name is the instance's id, not the workspace's name."""
    assert read(IAP).alias != read({**IAP, "instance_id": "124"}).alias


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
@pytest.mark.parametrize(
    "field", ["project_id", "zone", "instance_name", "instance_id", "host", "host_key", "user"]
)
def test_a_hostile_field_is_refused(field: str, value: Any) -> None:
    """Whatever a Hub sends, nothing that a program could take for something else gets through."""
    with pytest.raises(NotUnderstoodError):
        read({**DIRECT, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "telnet"), ("kind", ["iap"]), ("port", 0), ("port", 65536), ("port", "22"),
        ("port", True), ("port", 22.5), ("jump", "-oProxyCommand=x"), ("jump", "a@-b"),
        ("jump", "a@b:99999"), ("jump", "a b"), ("jump", "a@b,c@d"), ("jump", 7),
        ("access", {"state": "maybe"}), ("access", {"state": ["granted"]}),
    ],
)  # fmt: skip
def test_a_way_that_cannot_be_is_refused(field: str, value: Any) -> None:
    """Kind, port, bastion and access have few values, and no other is taken."""
    with pytest.raises(NotUnderstoodError):
        read({**DIRECT, field: value})


@pytest.mark.parametrize("value", [None, [], "x", 7])
def test_what_is_no_connection_is_refused(value: Any) -> None:
    """Without an object there is nothing to connect to."""
    with pytest.raises(NotUnderstoodError):
        read_connection(value, Connect(kind="iap"), local=False)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "fe80::1",
     "localhost", "x.localhost", "LOCALHOST", "224.0.0.1", "127.1", "2130706433", "0x7f000001"],
)  # fmt: skip
def test_a_hub_elsewhere_cannot_name_this_machine(host: str) -> None:
    """Loopback and link-local addresses are refused, in every spelling."""
    with pytest.raises(NotUnderstoodError):
        read({**DIRECT, "host": host})


@pytest.mark.parametrize("host", ["10.0.0.7", "2001:db8::7", "vm.example.com", "workspace-1"])
def test_a_machine_may_have_an_address_or_a_name(host: str) -> None:
    """Addresses of both kinds, and names."""
    assert read({**DIRECT, "host": host}).host == host


@pytest.mark.parametrize("host", ["10.0.0.7", "example.com", "8.8.8.8"])
def test_a_local_cloud_has_nothing_but_this_machine(host: str) -> None:
    """A state file from elsewhere must not lead away."""
    with pytest.raises(NotUnderstoodError):
        read({**DIRECT, "jump": None, "host": host}, local=True)
    assert read({**DIRECT, "jump": None, "host": "127.0.0.9"}, local=True).host == "127.0.0.9"


@pytest.mark.parametrize(
    "key",
    ["ssh-ed25519", KEY + " comment", f"ecdsa-sha2-nistp256 {KEY.split()[1]}", KEY + "\n" + KEY,
     "ssh-ed25519 AAAA", f"* {KEY}", f"@cert-authority {KEY}", KEY.replace("A", "!", 1)],
)  # fmt: skip
def test_a_host_key_is_one_key_of_its_type(key: str) -> None:
    """A key that would be two lines, a marker, or of another type never gets into known_hosts."""
    with pytest.raises(NotUnderstoodError):
        read({**IAP, "host_key": key})


def test_why_access_is_refused_is_safe_to_show() -> None:
    """The Hub's sentence has no control characters left."""
    connection = read({**IAP, "access": {"state": "refused", "why": "no\x1b[2J\u202e way"}})
    assert connection.access == "refused"
    assert connection.why == "no\\x1b[2J\\u202e way"


@pytest.mark.parametrize("value", [*HOSTILE, None, "root\n", "-l"], ids=repr)
def test_a_user_name_of_a_profile_is_checked_too(value: Any) -> None:
    """It comes from OS Login, and is an argument all the same."""
    with pytest.raises(NotUnderstoodError):
        check_user(value)
