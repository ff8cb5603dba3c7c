"""ID tokens: what they say, and where they are kept."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workspace_cli.config import Hub
from workspace_cli.errors import CommandError, SignInError
from workspace_cli.files import locked, read_object, replace_object
from workspace_cli.text import one_line

_MARGIN_SECONDS = 300.0  # before its end, a token is not used any more
_SHORTEST_SECONDS = 60.0  # what is assumed of a token that says no time
_LARGEST = 16 * 1024  # characters; a Hub takes 16 KiB of headers
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True)
class Minted:
    """A new ID token, and the refresh token that the next one is minted from."""

    token: str
    refresh_token: str | None = None


class GivenToken:
    """A token that somebody else mints, as ``WORKSPACE_TOKEN`` is.

    Args:
        token: as it was given.
        whence: where it is from, for messages.

    Raises:
        SignInError: it cannot be sent in a header.
    """

    def __init__(self, token: str, whence: str) -> None:
        self._token = checked(token.strip(), whence)
        self.hint = f"the token is from {whence}: it may have expired, or be for another Hub"

    def token(self) -> str:
        """Return the token."""
        return self._token

    def fresh_token(self, refused: str) -> str | None:
        """Return None: there is no other."""
        del refused
        return None


class StoredTokens:
    """The tokens of one Hub: read from their file, minted when they are about to expire.

    Of several processes, the first one mints under the file's lock, and the others take what it
    has minted.

    Args:
        path: the file. It belongs to ``hub`` as it is now: tokens for another address, audience or
            client are not used.
        hub: the Hub.
        mint: returns a new token; takes the refresh token, or None.
    """

    def __init__(self, path: Path, hub: Hub, mint: Callable[[str | None], Minted]) -> None:
        self._path = path
        self._mint = mint
        sign_in = {key: value for key, value in asdict(hub.sign_in).items() if value is not None}
        where = {} if hub.sign_in.kind == "local" else {"address": hub.address}
        self._whose = {**sign_in, **where}
        way = "--local" if hub.sign_in.kind == "local" else hub.name
        self.hint = f"sign in again: workspace login {way}"

    def token(self) -> str:
        """Return a token that is valid for some minutes.

        Raises:
            SignInError: a new one cannot be had without the person.
        """
        stored = self._read()
        if _is_valid(stored):
            return str(stored["token"])
        with locked(self._path):
            stored = self._read()
            if _is_valid(stored):
                return str(stored["token"])
            return self._renew(stored)

    def fresh_token(self, refused: str) -> str | None:
        """Return another token than a refused one; None if minting gives the same again."""
        with locked(self._path):
            stored = self._read()
            if _is_valid(stored) and stored["token"] != refused:
                return str(stored["token"])
            token = self._renew(stored)
        return token if token != refused else None

    def keep(self, minted: Minted) -> None:
        """Store what was minted at login."""
        with locked(self._path):
            self._write(minted)

    def _renew(self, stored: Mapping[str, Any]) -> str:
        refresh_token = stored.get("refresh_token")
        minted = self._mint(refresh_token)
        # Google answers a refresh with a new refresh token only if the old one ends.
        self._write(Minted(minted.token, minted.refresh_token or refresh_token))
        return minted.token

    def _write(self, minted: Minted) -> None:
        content = {
            "of": self._whose,
            "token": minted.token,
            "expires_at": time.time() + _lifetime(minted.token),
            "refresh_token": minted.refresh_token,
        }
        replace_object(self._path, content)

    def _read(self) -> dict[str, Any]:
        stored = read_object(self._path) or {}
        return stored if stored.get("of") == self._whose else {}


def refresh_token_of(path: Path) -> str | None:
    """Return the refresh token in a file of tokens, if there is one."""
    try:
        found = (read_object(path) or {}).get("refresh_token")
    except CommandError:
        return None
    return found if isinstance(found, str) else None


def claims(token: str) -> dict[str, Any]:
    """Return what a token says, unverified: enough to show and compare; {} if it is no JWT."""
    try:
        _, payload, _ = token.split(".")
        value = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def email_of(token: str) -> str | None:
    """Return whose token it is, as one safe line; None if it does not say so."""
    email = claims(token).get("email")
    return one_line(email, 254) if isinstance(email, str) and email else None


def checked(token: str, whence: str) -> str:
    """Return a token that can be sent in a header.

    Raises:
        SignInError: it is none.
    """
    if len(token) > _LARGEST or not _TOKEN.fullmatch(token):
        raise SignInError(f"what {whence} gives is no token")
    return token


def _is_valid(stored: Mapping[str, Any]) -> bool:
    expires_at, token = stored.get("expires_at"), stored.get("token")
    if not isinstance(expires_at, (int, float)) or not isinstance(token, str):
        return False
    return time.time() < expires_at - min(_MARGIN_SECONDS, _lifetime(token) / 4)


def _lifetime(token: str) -> float:
    """Return how many seconds a token is valid from its issue on, whatever this clock says."""
    said = claims(token)
    try:
        return max(0.0, float(said["exp"]) - float(said["iat"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return _SHORTEST_SECONDS
