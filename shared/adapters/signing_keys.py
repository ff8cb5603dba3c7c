"""The issuers' public keys, with which tokens are verified."""

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

FETCH_TIMEOUT_SECONDS = 5  # the longest that a request waits for a fetch
# The longest that one connection, or one piece of the answer, may take. This is more than a request
# waits: an answer that comes late is used.
STEP_TIMEOUT_SECONDS = 10
UNKNOWN_KEY_WAIT_SECONDS = 0.5  # a fetch usually takes a tenth of this
# An unknown key id causes a fetch. The limit keeps strangers from causing many.
REFRESH_AT_MOST_EVERY_SECONDS = 10
USUAL_MAX_AGE_SECONDS = 3600
LONGEST_ANSWER = 1 << 20  # bytes
THREAD_NAME = "signing-keys"
_KEY_TYPES = {"RS256": "RSA", "ES256": "EC"}


@dataclass(frozen=True, slots=True)
class _FetchedKeys:
    by_id: Mapping[str, Any] = field(default_factory=dict)
    asked_at: float = float("-inf")
    fresh_until: float = float("-inf")


class SigningKeys:
    """The issuers' public keys for one algorithm by key id, from a JWKS address.

    The keys are fetched when they are first needed. They are kept as long as the answer's
    ``Cache-Control`` says, and longer while their server is down. An unknown key id causes another
    fetch (rate-limited). This is safe to use from many threads.

    If the server hangs, each fetch delays only the request that began it, by at most
    ``FETCH_TIMEOUT_SECONDS``. Other requests use the present keys, even if they are out of date. A
    token with an unknown key waits for a fetch under way for at most ``UNKNOWN_KEY_WAIT_SECONDS``,
    because its key may be new. While there are no keys at all, every request waits as long as the
    first.
    """

    def __init__(self, url: str, algorithm: str) -> None:
        self._url = url
        self._algorithm = algorithm
        self._keys = _FetchedKeys()
        self._lock = threading.Lock()  # never held while a thread waits for a fetch
        self._asked_at = float("-inf")
        self._fetch_ended = threading.Event()

    def find(self, key_id: str) -> Any | None:
        """Return the key; None if the issuers have no key of this id, as far as is known.

        Raises:
            UnavailableError: there are no keys yet, and their server does not answer.
        """
        if not self._is_known(key_id):
            self._refresh(key_id)
        keys = self._keys.by_id
        if not keys:
            raise UnavailableError(
                "The keys that verify tokens cannot be fetched now. Try again in a moment.",
                timedelta(seconds=REFRESH_AT_MOST_EVERY_SECONDS),
            )
        return keys.get(key_id)

    def _is_known(self, key_id: str) -> bool:
        keys = self._keys
        return key_id in keys.by_id and time.monotonic() < keys.fresh_until

    def _refresh(self, key_id: str) -> None:
        """Fetch the keys unless a fetch began a moment ago, and wait for it within the limits."""
        with self._lock:
            now = time.monotonic()
            may_fetch = now - self._asked_at >= REFRESH_AT_MOST_EVERY_SECONDS
            begins = may_fetch and not self._is_known(key_id)
            if begins:
                self._asked_at, self._fetch_ended = now, threading.Event()
            ended = self._fetch_ended
        if begins:
            # In its own thread, because nothing else limits its time: the name may never resolve,
            # many addresses may fail one after the other, the answer may come one byte at a time.
            fetch = partial(copy_context().run, self._fetch, now, ended)
            threading.Thread(target=fetch, name=THREAD_NAME, daemon=True).start()
            if not ended.wait(FETCH_TIMEOUT_SECONDS):
                ended.set()  # nobody waits for the fetch any more; a late answer is still used
                self._log_failure(f"no answer within {FETCH_TIMEOUT_SECONDS} seconds")
        elif not self._keys.by_id:
            ended.wait(FETCH_TIMEOUT_SECONDS)
        elif key_id not in self._keys.by_id:
            ended.wait(UNKNOWN_KEY_WAIT_SECONDS)

    def _fetch(self, asked_at: float, ended: threading.Event) -> None:
        try:
            fetched = self._download(asked_at)
            with self._lock:
                if asked_at > self._keys.asked_at:  # a later fetch may have ended earlier
                    self._keys = fetched
        except Exception as error:  # noqa: BLE001 -- after any failure, the present keys stay
            if not ended.is_set():
                self._log_failure(repr(error))
        finally:
            ended.set()

    def _download(self, asked_at: float) -> _FetchedKeys:
        timeout = STEP_TIMEOUT_SECONDS
        with urllib.request.urlopen(self._url, timeout=timeout) as answer:  # noqa: S310 -- our URL
            listed = json.loads(answer.read(LONGEST_ANSWER))["keys"]
            age = re.search(r"max-age=([0-9]{1,9})", answer.headers.get("Cache-Control", ""))
        usable = [key for key in listed if key.get("kty") == _KEY_TYPES[self._algorithm]]
        keys = {key["kid"]: jwt.PyJWK(key, algorithm=self._algorithm).key for key in usable}
        if not keys:
            raise ValueError(f"the answer has no {_KEY_TYPES[self._algorithm]} keys")
        max_age = int(age[1]) if age else USUAL_MAX_AGE_SECONDS
        return _FetchedKeys(keys, asked_at, asked_at + max_age)

    def _log_failure(self, reason: str) -> None:
        logs.warning("SigningKeysNotFetched", url=self._url, reason=reason)
