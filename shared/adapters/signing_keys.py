"""The public keys that tokens are checked with."""

import json
import re
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import jwt

from shared import logs
from shared.domain.errors import UnavailableError

FETCH_TIMEOUT_SECONDS = 5  # as long as anybody waits
STEP_TIMEOUT_SECONDS = 10  # as long as one connection, or one piece of the answer, may take: an answer that comes late is used
UNKNOWN_KEY_WAIT_SECONDS = 0.5  # a fetch usually takes a tenth of it
REFRESH_AT_MOST_EVERY_SECONDS = (
    10  # an unknown key id makes us fetch again, but strangers may not make us do it often
)
USUAL_MAX_AGE_SECONDS = 3600
LONGEST_ANSWER = 1 << 20
THREAD_NAME = "signing-keys"
_KINDS = {"RS256": "RSA", "ES256": "EC"}


@dataclass(frozen=True, slots=True)
class _Keys:
    by_id: Mapping[str, Any] = field(default_factory=dict)
    asked_at: float = float("-inf")
    fresh_until: float = float("-inf")


class SigningKeys:
    """The issuers' public keys for one algorithm by key id, from a JWKS address.

    Fetched when first needed, kept as long as the answer's ``Cache-Control`` says, fetched again
    when an unknown key id appears (rate-limited), and kept beyond their time while their server is
    down. Safe to use from many threads.

    A server that hangs delays one request for each fetch, by ``FETCH_TIMEOUT_SECONDS`` at most: the
    one that began it. The others go on with the keys that there are, also beyond their time. Only a
    token of an unknown key waits for a fetch that is under way, ``UNKNOWN_KEY_WAIT_SECONDS`` at
    most: its key may be new. While there are no keys at all, all wait as long as the first.
    """

    def __init__(self, url: str, algorithm: str) -> None:
        self._url = url
        self._algorithm = algorithm
        self._keys = _Keys()
        self._lock = threading.Lock()  # never held while anybody waits
        self._asked_at = float("-inf")
        self._over = threading.Event()

    def find(self, key_id: str) -> Any | None:
        """Return the key, or None when the issuers have none of this id, as far as is known.

        Raises:
            UnavailableError: there are no keys at all yet and their server does not answer.
        """
        if not self._is_known(key_id):
            self._refresh(key_id)
        keys = self._keys.by_id
        if not keys:
            raise UnavailableError(
                "The keys that tokens are checked with cannot be had now. Try again in a moment.",
                timedelta(seconds=REFRESH_AT_MOST_EVERY_SECONDS),
            )
        return keys.get(key_id)

    def _is_known(self, key_id: str) -> bool:
        keys = self._keys
        return key_id in keys.by_id and time.monotonic() < keys.fresh_until

    def _refresh(self, key_id: str) -> None:
        """Fetch the keys, unless that was begun a moment ago; then wait for it as long as it is worth the while."""
        with self._lock:
            now = time.monotonic()
            ours = now - self._asked_at >= REFRESH_AT_MOST_EVERY_SECONDS and not self._is_known(
                key_id
            )
            if ours:
                self._asked_at, self._over = now, threading.Event()
            over = self._over
        if ours:
            # In a thread of its own, since nothing else bounds it: a name that is resolved for
            # ever, one address after the other that does not answer, an answer that comes a byte at
            # a time.
            fetch = partial(copy_context().run, self._fetch, now, over)
            threading.Thread(target=fetch, name=THREAD_NAME, daemon=True).start()
            if not over.wait(FETCH_TIMEOUT_SECONDS):
                over.set()  # nobody waits for it any more; what it still brings is taken
                self._note(f"no answer within {FETCH_TIMEOUT_SECONDS} seconds")
        elif not self._keys.by_id:
            over.wait(FETCH_TIMEOUT_SECONDS)
        elif key_id not in self._keys.by_id:
            over.wait(UNKNOWN_KEY_WAIT_SECONDS)

    def _fetch(self, asked_at: float, over: threading.Event) -> None:
        try:
            fetched = self._fetched(asked_at)
            with self._lock:
                if asked_at > self._keys.asked_at:  # a later fetch may have been the faster one
                    self._keys = fetched
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with an answer, the keys that there are stay
            if not over.is_set():
                self._note(repr(error))
        finally:
            over.set()

    def _fetched(self, asked_at: float) -> _Keys:
        with urllib.request.urlopen(self._url, timeout=STEP_TIMEOUT_SECONDS) as answer:  # noqa: S310 -- our own setting
            listed = json.loads(answer.read(LONGEST_ANSWER))["keys"]
            age = re.search(r"max-age=([0-9]{1,9})", answer.headers.get("Cache-Control", ""))
        ours = [key for key in listed if key.get("kty") == _KINDS[self._algorithm]]
        keys = {key["kid"]: jwt.PyJWK(key, algorithm=self._algorithm).key for key in ours}
        if not keys:
            raise ValueError("none of our kind in the answer")
        return _Keys(keys, asked_at, asked_at + (int(age[1]) if age else USUAL_MAX_AGE_SECONDS))

    def _note(self, reason: str) -> None:
        logs.warning("SigningKeysNotFetched", url=self._url, reason=reason)
