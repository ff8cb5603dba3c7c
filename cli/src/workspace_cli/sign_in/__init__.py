"""How a person or a program proves who it is; one module for each way.

A way is chosen at login and fixed then (``config.SignIn``). Each way *mints* ID tokens. Minted
tokens are kept in ``credentials/NAME.json``, and minted again before they expire.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from workspace_cli.config import ConfigStore, Hub
from workspace_cli.errors import SignInError
from workspace_cli.sign_in.tokens import GivenToken, Minted, StoredTokens

ENVIRONMENT_TOKEN = "WORKSPACE_TOKEN"  # noqa: S105  # the variable's name
_WORDS = {
    "gcloud": "gcloud's account",
    "oauth": "Google, in the browser",
    "iap": "Identity-Aware Proxy, in the browser",
    "service_account": "a service account",
    "local": "the local cloud",
    "token": ENVIRONMENT_TOKEN,
}


def describe(hub: Hub) -> str:
    """Return in a few words how one signs in to a Hub."""
    words = _WORDS.get(hub.sign_in.kind, hub.sign_in.kind)
    if hub.sign_in.kind == "service_account" and hub.sign_in.account:
        return f"the service account {hub.sign_in.account}"
    return words


def present(hub: Hub) -> Hub:
    """Return a Hub with the address that it has now: a local cloud has another after a restart.

    Raises:
        NoAnswerError: the local cloud is not running.
    """
    if hub.sign_in.kind != "local":
        return hub
    from workspace_cli.sign_in.local import read_cloud  # noqa: PLC0415  # only for this kind

    return replace(hub, address=read_cloud(hub.sign_in).address)


def token_source(store: ConfigStore, hub: Hub) -> GivenToken | StoredTokens:
    """Return what gives the tokens for a Hub: ``WORKSPACE_TOKEN``, or the way fixed at login.

    Raises:
        SignInError: this version does not know the way.
    """
    given = os.environ.get(ENVIRONMENT_TOKEN)
    if given:
        return GivenToken(given, ENVIRONMENT_TOKEN)
    return StoredTokens(store.credentials(hub.name), hub, mint_for(hub))


def mint_for(hub: Hub) -> Callable[[str | None], Minted]:
    """Return what mints tokens for a Hub, from its refresh token if it has one.

    Raises:
        SignInError: this version does not know the way.
    """
    sign_in = hub.sign_in
    # Each imports what only it needs.
    if sign_in.kind == "gcloud":
        from workspace_cli.sign_in import gcloud  # noqa: PLC0415

        return lambda _: gcloud.mint(sign_in)
    if sign_in.kind in {"oauth", "iap"}:
        from workspace_cli.sign_in import oauth  # noqa: PLC0415

        return lambda refresh_token: oauth.refresh(hub, refresh_token)
    if sign_in.kind == "service_account":
        from workspace_cli.sign_in import service_account  # noqa: PLC0415

        return lambda _: service_account.mint(sign_in)
    if sign_in.kind == "local":
        from workspace_cli.sign_in import local  # noqa: PLC0415

        return lambda _: local.mint(sign_in)
    raise SignInError(
        f"you have not signed in to {hub.address}", hint=f"workspace login {hub.address}"
    )
