"""The public keys that tokens are checked with."""

import http.client
import json
import re
import threading
import time
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import jwt

from shared import logs
from shared.domain.errors import UnavailableError

FETCH_TIMEOUT_SECONDS = 5
REFRESH_AT_MOST_EVERY_SECONDS = 10  # an unknown key id makes us fetch again, but strangers may not make us do it often
USUAL_MAX_AGE_SECONDS = 3600
_KINDS = {"RS256": "RSA", "ES256": "EC"}


class SigningKeys:
    """The issuers' public keys for one algorithm by key id, from a JWKS address.

    Fetched when first needed, kept as long as the answer's ``Cache-Control`` says, fetched again when an unknown key id
    appears (rate-limited), and kept beyond their time while their server is down. Safe to use from many threads.
    """

    def __init__(self, url: str, algorithm: str) -> None:
        self._url = url
        self._algorithm = algorithm
        self._keys: Mapping[str, Any] = {}
        self._fresh_until = 0.0
        self._asked_at = float("-inf")
        self._lock = threading.Lock()

    def find(self, key_id: str) -> Any | None:
        """Return the key, or None when the issuers have none of this id.

        Raises:
            UnavailableError: there are no keys at all yet and their server does not answer.
        """
        if key_id in self._keys and time.monotonic() < self._fresh_until:
            return self._keys[key_id]
        with self._lock:
            now = time.monotonic()
            stale = now >= self._fresh_until
            if (stale or key_id not in self._keys) and now - self._asked_at >= REFRESH_AT_MOST_EVERY_SECONDS:
                self._asked_at = now
                self._fetch()
        if not self._keys:
            raise UnavailableError(
                "The keys that tokens are checked with cannot be had now. Try again in a moment.",
                timedelta(seconds=REFRESH_AT_MOST_EVERY_SECONDS),
            )
        return self._keys.get(key_id)

    def _fetch(self) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=FETCH_TIMEOUT_SECONDS) as answer:  # noqa: S310 -- our own setting
                listed = json.load(answer)["keys"]
                age = re.search(r"max-age=(\d+)", answer.headers.get("Cache-Control", ""))
            ours = [key for key in listed if key.get("kty") == _KINDS[self._algorithm]]
            keys = {key["kid"]: jwt.PyJWK(key, algorithm=self._algorithm).key for key in ours}
        except (
            OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError,
        ) as error:  # fmt: skip
            logs.warning("SigningKeysNotFetched", url=self._url, reason=repr(error))
            return
        if not keys:
            logs.warning("SigningKeysNotFetched", url=self._url, reason="none of our kind in the answer")
            return
        self._keys = keys
        self._fresh_until = time.monotonic() + (int(age[1]) if age else USUAL_MAX_AGE_SECONDS)
