"""The local OS Login: whose key is whose, and for how long."""

from __future__ import annotations

import base64

import pytest

from localcloud.services.identity.os_login import OsLogin, user_name


class Time:
    """A time that only tests move."""

    seconds = 1_000.0

    def __call__(self) -> float:
        """Return it, in seconds."""
        return self.seconds


def key(number: int, comment: str = "") -> str:
    """Return a public key, of which only the form is right."""
    kind = b"ssh-ed25519"
    blob = len(kind).to_bytes(4, "big") + kind + (32).to_bytes(4, "big") + bytes([number] * 32)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}".strip()


def test_a_key_is_its_persons_until_it_expires() -> None:
    """An address is the same in capitals, and nobody else has the key."""
    time = Time()
    os_login = OsLogin(time)
    os_login.import_key("Alice@example.com", key(1, "laptop"), 2_000_000_000)
    os_login.import_key("alice@example.com", key(2), None)
    assert [each.line for each in os_login.keys_of("alice@EXAMPLE.com")] == [key(1), key(2)]
    assert os_login.keys_of("bob@example.com") == []
    time.seconds = 2_000.0
    assert [each.line for each in os_login.keys_of("alice@example.com")] == [key(2)]


def test_a_key_that_comes_again_gets_its_new_end() -> None:
    """It is still one key of the profile."""
    os_login = OsLogin(Time())
    for until in (2_000_000_000, 3_000_000_000):
        os_login.import_key("alice@example.com", key(1), until)
    [shown] = os_login.profile("alice@example.com")["sshPublicKeys"].values()
    assert shown["expirationTimeUsec"] == "3000000000"
    assert shown["key"] == key(1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 ***",
        "ssh-ed25519 AAAA",
        key(1).replace("ssh-ed25519", "ssh-rsa"),
        f"{key(1)}\n{key(2)}",
        f'command="id" {key(1)}',
        f"ssh-ed25519 {'A' * 20_000}",
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    """Neither options nor a second line get in with it."""
    with pytest.raises(ValueError, match="public SSH key"):
        OsLogin(Time()).import_key("alice@example.com", text, None)


def test_a_key_that_has_expired_is_refused_and_so_is_one_too_many() -> None:
    """A profile stays small."""
    os_login = OsLogin(Time())
    with pytest.raises(ValueError, match="future"):
        os_login.import_key("alice@example.com", key(1), 1_000_000_000)
    for number in range(100):
        os_login.import_key("alice@example.com", key(number), None)
    os_login.import_key("alice@example.com", key(0), None)
    with pytest.raises(ValueError, match="at most 100"):
        os_login.import_key("alice@example.com", key(100), None)


def test_everybody_has_a_user_name() -> None:
    """It is made of the address, as OS Login does for people of another organisation."""
    profile = OsLogin(Time()).profile("Alice.B@Example.com")
    [account] = profile["posixAccounts"]
    assert account["primary"]
    assert account["username"] == "alice_b_example_com"
    assert account["uid"] == account["gid"]
    assert profile["sshPublicKeys"] == {}
    assert len(user_name(f"{'a' * 60}@example.com")) == 32
