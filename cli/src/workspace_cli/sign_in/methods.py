"""What a Hub says of itself at ``GET /sign-in``, and which way to sign in is taken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workspace_cli import API
from workspace_cli.config import Connect, Hub, SignIn
from workspace_cli.connection import TUNNEL, connect_of
from workspace_cli.errors import CommandError, NotUnderstoodError, SignInError
from workspace_cli.text import one_line

_CLIENT = re.compile(r"[A-Za-z0-9._-]{1,255}")
_SECRET = re.compile(r"[A-Za-z0-9._~-]{1,255}")
_AUDIENCE = re.compile(r"[A-Za-z0-9._~:/-]{1,1024}")
_KINDS = ("gcloud", "oauth", "iap", "service_account", "local")
# A person's ways, best first: an own client's tokens are good for no other Hub.
_PREFERRED = ("iap", "oauth", "gcloud")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a Hub says of itself: it is of the right form, and not believed beyond that.

    ``ways`` are those that this command knows.
    """

    version: str
    ways: tuple[SignIn, ...]
    connect: Connect


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the person asks for at login.

    Attributes:
        kind: a way to sign in; None: the best that there is.
        account: the service account to impersonate.
        audience: of the service account's tokens; None: the Hub's own address.
    """

    kind: str | None = None
    account: str | None = None
    audience: str | None = None


OLDER = Facts(
    version="0.1", ways=(SignIn(kind="gcloud"),), connect=TUNNEL
)  # a Hub without /sign-in


def facts_of(value: Any, address: str) -> Facts:
    """Return what a Hub says of itself. What this command does not know is left out.

    Raises:
        NotUnderstoodError: it is no Hub.
        CommandError: it speaks another version of the contract.
    """
    given = value if isinstance(value, dict) else {}
    hub = given.get("hub")
    api = hub.get("api") if isinstance(hub, dict) else None
    if not isinstance(hub, dict) or not isinstance(api, int) or isinstance(api, bool):
        raise NotUnderstoodError(f"what answers at {address} is no Workspace Hub")
    if api != API:
        older, newer = ("command", "Hub") if api > API else ("Hub", "command")
        raise CommandError(
            f"{address} speaks version {one_line(api, 20)} of the Hub's contract, and this command"
            f" version {API}",
            hint=f"the {older} is older than the {newer}: upgrade the {older}",
        )
    methods = given.get("methods")
    found = [_way(each, address) for each in (methods if isinstance(methods, list) else [])[:50]]
    return Facts(
        version=one_line(hub.get("version") or "", 40),
        ways=tuple(way for way in found if way is not None),
        connect=connect_of(given.get("connect")),
    )


def choose(ways: Sequence[SignIn], wish: Wish, address: str) -> SignIn:
    """Return the way to sign in.

    Args:
        ways: those that the Hub has.
        wish: what the person asks for. A service account is taken only if it is asked for.
        address: the Hub's.

    Raises:
        SignInError: the Hub has no such way.
    """
    wanted = wish.kind or ("service_account" if wish.account or wish.audience else None)
    by_kind = {way.kind: way for way in reversed(ways)}
    if wanted == "service_account":
        # Behind Identity-Aware Proxy a service account's token is for the proxy.
        through = by_kind.get("service_account") or by_kind.get("iap")
        told = through.audience if through else None
        return SignIn(kind=wanted, audience=wish.audience or told or address, account=wish.account)
    kinds = [wanted] if wanted else _PREFERRED
    for kind in kinds:
        if kind in by_kind and not (kind == "iap" and by_kind[kind].client_id is None):
            return by_kind[kind]
    there = ", ".join(kind for kind in _KINDS if kind in by_kind) or "none that this command knows"
    hint = "programs: --method service_account"
    if "iap" in by_kind and by_kind["iap"].client_id is None:
        hint = "people cannot sign in from here: this Hub names no OAuth client for the proxy"
    raise SignInError(f"{address} has no such way to sign in; it has: {there}", hint=hint)


def wish_of(before: SignIn, ways: Sequence[SignIn]) -> Wish:
    """Return the wish to sign in as before, if the Hub still has that way."""
    if before.kind == "service_account":
        return Wish(kind=before.kind, account=before.account, audience=before.audience)
    return Wish(kind=before.kind) if before.kind in {way.kind for way in ways} else Wish()


def others_with(sign_in: SignIn, hubs: Mapping[str, Hub], address: str) -> list[Hub]:
    """Return the Hubs at other addresses that take the same tokens.

    Each of them could use the token that another one gets, to act as the person there.
    """
    audience = sign_in.audience or sign_in.client_id
    return [
        hub
        for hub in hubs.values()
        if hub.address != address
        and hub.sign_in.kind not in {"local", "token"}
        and (hub.sign_in.audience or hub.sign_in.client_id) == audience
    ]


def _way(value: Any, address: str) -> SignIn | None:
    """Return a way to sign in, or None if it is unknown or not well formed."""
    given = value if isinstance(value, dict) else {}
    kind = given.get("kind")
    if kind not in _KINDS:
        return None
    audience = _matching(_AUDIENCE, given.get("audience"))
    client_id = _matching(_CLIENT, given.get("client_id"))
    secret = _matching(_SECRET, given.get("client_secret"))
    if kind == "gcloud":
        return SignIn(kind=kind)  # it has one audience, whatever the Hub says
    if kind == "oauth":
        found = SignIn(kind=kind, audience=audience, client_id=client_id, client_secret=secret)
        return found if client_id else None
    if kind == "iap":
        found = SignIn(kind=kind, audience=audience, client_id=client_id, client_secret=secret)
        return found if audience else None
    return SignIn(kind=kind, audience=(audience or address) if kind != "local" else None)


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None
