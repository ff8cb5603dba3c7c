from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workspace_cli import files
from workspace_cli.config import Hub, SignIn
from workspace_cli.errors import CommandError, NotUnderstoodError, RefusedError, SignInError
from workspace_cli.ssh import os_login
from workspace_cli.ssh.keys import ensure_key

GCLOUD = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
words = sys.argv[1:]
with (folder / "calls").open("a") as file:
    file.write(json.dumps(words) + "\\n")
if (folder / "error").exists():
    sys.exit((folder / "error").read_text())
for word in words:
    if word.startswith("--key-file="):
        (folder / "key").write_text(pathlib.Path(word.partition("=")[2]).read_text())
if "describe-profile" in words:
    print((folder / "profile").read_text())
"""
PROFILE = {"posixAccounts": [{"username": "old"}, {"username": "ann_example_com", "primary": True}]}


class Gcloud:
    """A gcloud that writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.say(PROFILE)
        program = folder / "gcloud"
        program.write_text(GCLOUD.format(python=sys.executable, folder=str(folder)))
        program.chmod(0o755)

    def say(self, profile: Any) -> None:
        """Have it answer this profile."""
        text = profile if isinstance(profile, str) else json.dumps(profile)
        (self.folder / "profile").write_text(text)

    def fail(self, text: str) -> None:
        """Have it fail with this on stderr."""
        (self.folder / "error").write_text(text)

    @property
    def calls(self) -> list[list[str]]:
        """What it was asked, without the names of temporary files."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            [word.partition("=")[0] if "--key-file=" in word else word for word in json.loads(line)]
            for line in lines
        ]


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gcloud:
    """A gcloud that is found first."""
    folder = tmp_path / "google's sdk"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Gcloud(folder)


def hub(kind: str = "gcloud", **more: str) -> Hub:
    """Return a Hub that is signed in to in this way."""
    email = more.pop("email", None)
    return Hub(name="team", address="https://hub", email=email, sign_in=SignIn(kind=kind, **more))


def register(folder: Path, of: Hub | None = None) -> str:
    """Register a key, and return the user name."""
    return os_login.ensure_registered(
        of or hub(), folder, "ssh-ed25519 AAAA", "a-project", lambda _: None
    )


def test_the_key_is_registered_for_a_day(gcloud: Gcloud, tmp_path: Path) -> None:
    """Gcloud gets the public key in a file and a lifetime; the primary account is the user."""
    assert register(tmp_path) == "ann_example_com"
    common = ["--project=a-project", "--quiet"]
    assert gcloud.calls == [
        ["compute", "os-login", "ssh-keys", "add", "--key-file", "--ttl=86400s", *common,
         "--format=none"],
        ["compute", "os-login", "describe-profile", *common, "--format=json"],
    ]  # fmt: skip
    assert (gcloud.folder / "key").read_text() == "ssh-ed25519 AAAA\n"
    assert not list(tmp_path.glob("public-key-*"))


@pytest.mark.usefixtures("gcloud")
def test_a_registration_by_another_process_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of its calls may take as long as a call may, on a clock that runs ahead."""
    longest = 2 * os_login.GCLOUD_SECONDS
    holder = os.open(tmp_path / "registered.json.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(holder, fcntl.LOCK_EX)
    clock = SimpleNamespace(now=0.0)

    def sleep(_: float) -> None:
        clock.now += 1.0
        if clock.now == longest:
            fcntl.flock(holder, fcntl.LOCK_UN)

    monkeypatch.setattr(files, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock.now))
    assert register(tmp_path) == "ann_example_com"
    os.close(holder)
    assert clock.now == longest


def test_a_registered_key_asks_nobody(gcloud: Gcloud, tmp_path: Path) -> None:
    """As long as it is valid for half a day, no gcloud is started."""
    register(tmp_path)
    before = len(gcloud.calls)
    assert register(tmp_path) == "ann_example_com"
    assert len(gcloud.calls) == before


@pytest.mark.parametrize("hours", [11, -1, 25])
def test_a_key_is_registered_again_in_time(gcloud: Gcloud, tmp_path: Path, hours: float) -> None:
    """Also when it has expired, and when the clock was set back."""
    register(tmp_path)
    path = tmp_path / "registered.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "expires_at": time.time() + hours * 3600}))
    before = len(gcloud.calls)
    register(tmp_path)
    assert len(gcloud.calls) == before + 2


def test_another_key_or_person_is_registered_for_itself(gcloud: Gcloud, tmp_path: Path) -> None:
    """What is known of one account is not believed of another one."""
    register(tmp_path)
    before = len(gcloud.calls)
    register(tmp_path, hub("oauth", email="bob@example.com"))
    assert len(gcloud.calls) == before + 2
    assert "--account=bob@example.com" in gcloud.calls[-1]


def test_a_service_account_is_impersonated(gcloud: Gcloud, tmp_path: Path) -> None:
    """The key goes into the profile of whom the Hub's token names."""
    account = "ci@a-project.iam.gserviceaccount.com"
    register(tmp_path, hub("service_account", account=account, audience="https://hub"))
    assert all(f"--impersonate-service-account={account}" in call for call in gcloud.calls)


@pytest.mark.parametrize("email", ["-x@example.com", "a b@c", "$(x)@c", "a@b;c", "", "a@"])
def test_an_odd_address_is_no_option(email: str) -> None:
    """What a token says of an address is checked before it is an argument."""
    assert os_login.account_flags(hub("oauth", email=email)) == []


@pytest.mark.parametrize(
    "profile",
    [{}, {"posixAccounts": []}, {"posixAccounts": "x"}, {"posixAccounts": [{"username": "-l"}]},
     {"posixAccounts": [{"username": None}]}, [], "no json", '{"posixAccounts": [7]}'],
    ids=str,
)  # fmt: skip
def test_a_profile_without_a_user_name_is_an_error(
    gcloud: Gcloud, tmp_path: Path, profile: Any
) -> None:
    """Nothing is guessed."""
    gcloud.say(profile)
    with pytest.raises(NotUnderstoodError):
        register(tmp_path)


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        ("ERROR: (gcloud.x) Login profile size exceeds 32 KiB.", RefusedError, "remove keys"),
        ("ERROR: (gcloud.x) PERMISSION_DENIED: no\x1b[2J", RefusedError, "allows OS Login"),
        ("ERROR: (gcloud.auth) You do not have an active account", SignInError, "auth login"),
    ],
)
def test_what_gcloud_refuses_is_told(
    gcloud: Gcloud, tmp_path: Path, said: str, kind: type[CommandError], hint: str
) -> None:
    """With its own words, safe to show, and with what to do."""
    gcloud.fail(said)
    with pytest.raises(kind) as caught:
        register(tmp_path)
    assert hint in (caught.value.hint or "")
    assert "roles/" not in (caught.value.hint or "")  # on a project it would let in everywhere
    assert "\x1b" not in caught.value.message
    assert not (tmp_path / "registered.json").exists()


def test_without_gcloud_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else can carry the connection."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SignInError, match="gcloud is not on this machine"):
        register(tmp_path)


def test_a_key_pair_is_made_once_for_the_person_only(tmp_path: Path) -> None:
    """The second time it is the same; a private key that others could read is closed."""
    path = tmp_path / "ssh" / "id_ed25519"
    public = ensure_key(path)
    assert public.startswith("ssh-ed25519 AAAA")
    assert len(public.split()) == 2
    path.chmod(0o644)
    assert ensure_key(path) == public
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_damaged_key_is_told(tmp_path: Path) -> None:
    """The message names the file; nothing is thrown away without the person."""
    path = tmp_path / "id_ed25519"
    path.write_text("no key")
    with pytest.raises(CommandError) as caught:
        ensure_key(path)
    assert str(path) in str(caught.value.hint)
    assert path.read_text() == "no key"
