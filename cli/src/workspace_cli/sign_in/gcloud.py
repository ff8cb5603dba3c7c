"""gcloud's own account. All Hubs get tokens with the same audience: gcloud's client.

Source: ``gcloud auth print-identity-token --help``; ``--audiences`` needs a service account.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from workspace_cli.config import SignIn
from workspace_cli.errors import SignInError
from workspace_cli.sign_in.tokens import Minted, checked
from workspace_cli.text import one_line

_SECONDS = 45.0  # it starts slowly


def mint(sign_in: SignIn) -> Minted:
    """Return a token of gcloud's account, or of a service account that it may impersonate.

    Raises:
        SignInError: gcloud is not there, or has no account.
    """
    more: list[str] = []
    if sign_in.account:
        more = [
            f"--impersonate-service-account={sign_in.account}",
            f"--audiences={sign_in.audience}",
            "--include-email",
        ]
    return Minted(checked(_run(["auth", "print-identity-token", *more]), "gcloud"))


def _run(arguments: Sequence[str]) -> str:
    program = shutil.which("gcloud")
    if program is None:
        raise SignInError(
            "gcloud is not on this machine",
            hint="install the Google Cloud SDK, or sign in another way: workspace login --help",
        )
    # It must not ask anything: there may be nobody, and stdout is not the terminal.
    environment = {**os.environ, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    try:
        done = subprocess.run(  # noqa: S603  # arguments of ours, no shell
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SignInError(f"gcloud has not answered within {_SECONDS:g} s") from None
    except OSError as error:
        raise SignInError(f"gcloud cannot be run: {error.strerror}") from None
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if line.strip()), "no reason")
        raise SignInError(
            f"gcloud gives no token: {one_line(said)}", hint="sign in with it: gcloud auth login"
        )
    return done.stdout.strip()
