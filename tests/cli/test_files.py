"""The configuration is whole whatever happens: kills at any moment, and many processes at once."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localcloud.catalogue import ROOT
from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import ScriptedHub
from workspace_cli.config import ConfigStore, Hub, SignIn
from workspace_cli.errors import CommandError
from workspace_cli.files import locked, read_object, replace_object

# Writes as fast as it can, so that most kills meet it in the middle.
_WRITE = """
import sys
from pathlib import Path
from workspace_cli.config import ConfigStore, Hub, SignIn
store = ConfigStore(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    filler = " " * (number % 7 * 3000)
    store.put(Hub(name=sys.argv[2], address="https://a", sign_in=SignIn(kind="gcloud"),
        email=str(number) + filler), use=True)
    if number == 1:
        print("begun", flush=True)
"""


def writer(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a process that stores a Hub again and again, and return it once it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(folder), name],
        env={**os.environ, "PYTHONPATH": str(ROOT / "cli/src")},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def test_a_kill_at_any_moment_leaves_the_configuration_whole(tmp_path: Path) -> None:
    """Whoever reads afterwards finds the old or the new content, all Hubs, and no lock."""
    store = ConfigStore(tmp_path / "config")
    store.put(Hub(name="kept", address="https://k", sign_in=SignIn(kind="gcloud")), use=True)
    moments = random.Random(16)
    for number in range(12):
        with writer(store.folder, f"hub-{number}") as process:
            time.sleep(moments.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        config = store.read()
        assert {"kept", *(f"hub-{before}" for before in range(number + 1))} == set(config.hubs)
        assert config.current == f"hub-{number}"
    store.use("kept")  # what the killed ones held is free, and what they left is removed
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "config.json",
        "config.json.lock",
    ]


def test_many_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """Each adds its Hub to what the others have stored."""
    store = ConfigStore(tmp_path)
    writers = [writer(tmp_path, f"hub-{number}") for number in range(4)]
    deadline = time.monotonic() + 30
    while any(int(hub.email or 0) < 20 for hub in store.read().hubs.values()):
        assert time.monotonic() < deadline
    for each in writers:
        with each:
            each.kill()
    assert len(store.read().hubs) == 4


def test_a_file_is_replaced_for_the_person_only(tmp_path: Path) -> None:
    """Its mode is 0600 from the first moment on; a link stays, and what it leads to is replaced."""
    elsewhere = tmp_path / "dotfiles" / "config.json"
    elsewhere.parent.mkdir()
    link = tmp_path / "config.json"
    link.symlink_to(elsewhere)
    before = os.umask(0)
    try:
        replace_object(link, {"a": 1})
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600
    assert read_object(link) == {"a": 1}


def test_a_lock_that_somebody_keeps_is_told(tmp_path: Path) -> None:
    """Nobody waits for ever for a process that hangs."""
    path = tmp_path / "config.json"
    with locked(path), pytest.raises(CommandError, match=r"config\.json\.lock"), locked(path, 0.1):
        pass
    with locked(path, 0.1):
        pass


def test_two_processes_refresh_a_token_at_once(cli: Cli, hub: ScriptedHub) -> None:
    """One asks gcloud, whose own files suffer from parallel calls; the others take its token."""
    calls = cli.folder / "calls"
    cli.put(
        "gcloud",
        f"#!/bin/sh\necho call >> {calls}\nsleep 0.3\necho a.token.$(wc -l < {calls})\n",
    )
    cli.succeed("login", hub.address)
    [file] = (cli.config / "credentials").glob("*.json")
    assert calls.read_text() == "call\n"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "expires_at": 0}))
    running = [cli.start("ls", "-o", "json") for _ in range(4)]
    for process in running:
        assert process.communicate(timeout=60)[0] == b"[]\n"
        assert process.returncode == 0
    assert calls.read_text() == "call\n" * 2
    sent = {each.headers["Authorization"] for each in hub.seen if each.path == "/workspaces"}
    assert sent == {"Bearer a.token.1", "Bearer a.token.2"}


def test_a_kill_during_a_refresh_spoils_no_token(cli: Cli, hub: ScriptedHub) -> None:
    """The next command refreshes it; the old file stays whole until then."""
    cli.put("gcloud", "#!/bin/sh\necho a.token.x\n")
    cli.succeed("login", hub.address)
    [file] = (cli.config / "credentials").glob("*.json")
    expired = json.dumps({**json.loads(file.read_text()), "expires_at": 0})
    file.write_text(expired)
    waits = cli.folder / "waits"
    # It ends with the command.
    cli.put("gcloud", f"#!/bin/sh\ntouch {waits}\nwhile kill -0 $PPID; do sleep 0.05; done\n")
    process = cli.start("ls")
    deadline = time.monotonic() + 30
    while not waits.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert file.read_text() == expired
    cli.put("gcloud", "#!/bin/sh\necho a.token.y\n")
    cli.succeed("ls")
    assert hub.seen[-1].headers["Authorization"] == "Bearer a.token.y"


def test_tokens_of_another_address_are_never_sent(cli: Cli, hub: ScriptedHub) -> None:
    """A Hub that takes over a name gets a token of its own, not what was stored for another."""
    cli.put("gcloud", "#!/bin/sh\necho a.token.first\n")
    cli.succeed("login", hub.address, "--name", "work")
    [file] = (cli.config / "credentials").glob("*.json")
    config = cli.config / "config.json"
    with ScriptedHub() as other:
        config.write_text(config.read_text().replace(hub.address, other.address))
        cli.put("gcloud", "#!/bin/sh\necho a.token.second\n")
        cli.succeed("ls")
        assert [each.headers["Authorization"] for each in other.seen] == ["Bearer a.token.second"]
    assert "first" not in file.read_text()
