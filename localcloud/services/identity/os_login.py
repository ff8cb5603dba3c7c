"""The local OS Login: which SSH keys are whose.

It is the part of Google's API (https://cloud.google.com/compute/docs/oslogin/rest, v1) that a
command needs to bring a person's key to their machines:

    POST /v1/users/{email}:importSshPublicKey   {key, expirationTimeUsec}: add a key, or give it
                                                another end
    GET  /v1/users/{email}/loginProfile         the person's names and keys

Everybody has a profile. An import answers ``{"loginProfile"}``, an error ``{"error": {"code",
"message", "status"}}``. Keys that have expired are no longer shown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from localcloud.services.identity.tokens import subject_of

_KEY_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
_KEY_LIMIT_BYTES = 16 * 1024
_MOST_KEYS = 100
_MICROSECONDS = 1_000_000
_FIRST_UID, _UIDS = 10_000, 50_000
_NAME_LENGTH = 32  # source: OS Login, "User names": at most 32 characters


@dataclass(frozen=True, kw_only=True)
class SshKey:
    """A person's public key.

    Attributes:
        text: ``<type> <base64>``, and a comment if it has one.
        until: when it expires, in microseconds since 1970; None if it does not.
    """

    text: str
    until: int | None

    @property
    def line(self) -> str:
        """``<type> <base64>``."""
        return " ".join(self.text.split()[:2])

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the key, in hexadecimal digits."""
        return hashlib.sha256(base64.b64decode(self.text.split()[1])).hexdigest()


class OsLogin:
    """The keys of all people, by their e-mail addresses.

    Args:
        now: returns the time in seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._keys: dict[str, dict[str, SshKey]] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the API."""
        return [
            web.post("/v1/users/{email}:importSshPublicKey", self._serve_import),
            web.get("/v1/users/{email}/loginProfile", self._serve_profile),
        ]

    def keys_of(self, email: str) -> list[SshKey]:
        """Return the keys of a person that have not expired."""
        now = int(self._now() * _MICROSECONDS)
        keys = self._keys.get(email.lower(), {}).values()
        return [key for key in keys if key.until is None or key.until > now]

    def import_key(self, email: str, text: str, until: int | None) -> None:
        """Add a key of a person.

        Args:
            email: their address.
            text: the key, as in a ``.pub`` file.
            until: when it expires, in microseconds since 1970; None if it does not.

        Raises:
            ValueError: it is not a public key, it has expired, or the person has too many.
        """
        check_key(text)
        if until is not None and until <= self._now() * _MICROSECONDS:
            raise ValueError("The expiration time must be in the future.")
        key = SshKey(text=text.strip(), until=until)
        known = {each.fingerprint: each for each in self.keys_of(email)}
        if len(known | {key.fingerprint: key}) > _MOST_KEYS:
            raise ValueError(f"A profile has at most {_MOST_KEYS} keys.")
        self._keys[email.lower()] = known | {key.fingerprint: key}

    def profile(self, email: str) -> dict[str, Any]:
        """Return a person's login profile."""
        account = subject_of(email)
        name = user_name(email)
        uid = str(_FIRST_UID + zlib.crc32(email.lower().encode()) % _UIDS)
        return {
            "name": account,
            "posixAccounts": [
                {
                    "primary": True,
                    "username": name,
                    "uid": uid,
                    "gid": uid,
                    "homeDirectory": f"/home/{name}",
                    "shell": "/bin/bash",
                    "operatingSystemType": "LINUX",
                }
            ],
            "sshPublicKeys": {key.fingerprint: _shown(key) for key in self.keys_of(email)},
        }

    def reset(self) -> None:
        """Forget all keys."""
        self._keys.clear()

    async def _serve_import(self, request: web.Request) -> web.Response:
        email = request.match_info["email"]
        try:
            text, until = _read_key(await request.text())
            self.import_key(email, text, until)
        except ValueError as error:
            body = {"code": 400, "message": str(error), "status": "INVALID_ARGUMENT"}
            return web.json_response({"error": body}, status=400)
        return web.json_response({"loginProfile": self.profile(email)})

    async def _serve_profile(self, request: web.Request) -> web.Response:
        return web.json_response(self.profile(request.match_info["email"]))


def user_name(email: str) -> str:
    """Return the user name of a person: their address, with ``_`` for what a name cannot have."""
    return re.sub(r"[^a-z0-9_-]", "_", email.lower())[:_NAME_LENGTH]


def check_key(text: str) -> None:
    """See that a text is a public key as in a ``.pub`` file.

    Raises:
        ValueError: it is not.
    """
    kind, _, rest = text.strip().partition(" ")
    problem = ValueError("The key is not a public SSH key: <type> <base64> <comment>.")
    if kind not in _KEY_TYPES or len(text) > _KEY_LIMIT_BYTES or "\n" in text.strip():
        raise problem
    try:
        blob = base64.b64decode(rest.split()[0], validate=True)
        (length,) = struct.unpack_from(">I", blob)
    except (IndexError, binascii.Error, struct.error):
        raise problem from None
    if blob[4 : 4 + length] != kind.encode():
        raise problem


def _shown(key: SshKey) -> dict[str, str]:
    shown = {"key": key.text, "fingerprint": key.fingerprint}
    return shown if key.until is None else {**shown, "expirationTimeUsec": str(key.until)}


def _read_key(text: str) -> tuple[str, int | None]:
    """Return the key of a request, and when it expires.

    Raises:
        ValueError: the body is something else.
    """
    body = json.loads(text)
    if not isinstance(body, dict) or not isinstance(body.get("key"), str):
        raise ValueError("The body is a JSON object with a key.")  # noqa: TRY004  # one kind for all
    until = body.get("expirationTimeUsec")
    # JSON writes a 64-bit number as a text.
    if until is not None and not re.fullmatch(r"[0-9]{1,18}", str(until)):
        raise ValueError("expirationTimeUsec is in microseconds since 1970.")
    return body["key"], None if until is None else int(until)
