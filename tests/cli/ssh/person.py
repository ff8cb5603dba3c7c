"""A person at their own machine: a home in a temporary folder, and the command installed in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from localcloud.catalogue import ROOT
from workspace_cli.config import ConfigStore, Connect, Hub, SignIn

SECONDS = 60.0
# An editor that writes down its arguments.
EDITOR = '#!/bin/sh\nfor each; do printf "%s\\n" "$each"; done >"$0.words"\n'


class Person:
    """Runs programs as a person who has nothing but this home.

    Args:
        folder: theirs alone. What is in it has spaces and odd characters in its path.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home of 50% Ann's"
        self.bin = folder / "my programs"
        for each in (self.home / ".ssh", self.bin):
            each.mkdir(parents=True)
        self.command = self.bin / "workspace"
        self.program(
            "workspace",
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT / 'cli/src')!r})\n"
            "from workspace_cli.main import main\nmain()\n",
        )
        kept = {name: os.environ[name] for name in ("LANG", "no_proxy") if name in os.environ}
        self.environment = {
            **kept,
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_STATE_HOME": str(self.home / ".state"),
            "TERM": "dumb",
            "WORKSPACE_DEVICE": "laptop",
        }
        self.config = self.home / ".config" / "workspace-hub"
        self.store = ConfigStore(self.config)
        self.ssh_config = self.home / ".ssh" / "config"

    def program(self, name: str, text: str) -> None:
        """Install a program."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def sign_in_locally(self, state_file: Path, email: str, connect: Connect) -> None:
        """Sign in to the local cloud of a state file."""
        sign_in = SignIn(kind="local", account=email, state_file=str(state_file))
        hub = Hub(name="local", address="http://127.0.0.1:1", sign_in=sign_in, connect=connect)
        self.store.put(hub, use=True)

    def sign_in_again(self, **connect: Any) -> None:
        """Agree to another way to connect."""
        hub = self.store.read().hubs["local"]
        agreed = replace(hub.connect or Connect(kind="direct"), **connect)
        self.store.put(replace(hub, connect=agreed), use=True)

    def use_another_hub(self) -> None:
        """Sign in to another Hub, which then is the one in use."""
        sign_in = SignIn(kind="gcloud")
        self.store.put(Hub(name="other", address="https://other", sign_in=sign_in), use=True)

    def workspace(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the command ``workspace`` to its end."""
        return self.run([str(self.command), *arguments], **more)

    def run(
        self,
        arguments: list[str],
        *,
        given: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, without a terminal."""
        return subprocess.run(
            arguments,
            input=given,
            capture_output=True,
            text=True,
            env={**self.environment, **(environment or {})},
            cwd=self.home,
            timeout=SECONDS,
            check=False,
            start_new_session=True,
        )

    def start(self, arguments: list[str], **more: Any) -> subprocess.Popen[bytes]:
        """Start a program, without a terminal."""
        return subprocess.Popen(
            arguments, env=self.environment, cwd=self.home, start_new_session=True, **more
        )

    def ssh(self, program: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a program of OpenSSH with the person's configuration.

        OpenSSH takes the home from the user database, so that the file must be named.
        """
        return self.run([program, "-F", str(self.ssh_config), *arguments], **more)


def wait_until(is_so: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := is_so():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")
