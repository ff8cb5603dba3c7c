"""Remembers which tokens' signatures were verified: a person sends the same token for an hour.

To verify a signature and decode its claims takes a tenth of a millisecond. Only that is saved.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 1000  # about 2 MB. The token that was not used for the longest time is dropped first


@dataclass(frozen=True, slots=True)
class Verified:
    """A token's claims, with the key that verified them. Whether they are valid now is not said."""

    key_id: str
    key: object
    claims: Mapping[str, Any]


class VerifiedTokens:
    """The verified tokens of one kind, by their SHA-256. No token itself is kept.

    The whole token is hashed: one with another payload or signature is another token. This is safe
    to use from many threads.
    """

    def __init__(self) -> None:
        self._tokens: OrderedDict[bytes, Verified] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, token: str) -> Verified | None:
        """Return what was verified of a token, if it is remembered."""
        digest = _digest(token)
        with self._lock:
            if found := self._tokens.get(digest):
                self._tokens.move_to_end(digest)
            return found

    def remember(self, token: str, verified: Verified) -> None:
        """Remember a token that is valid."""
        digest = _digest(token)
        with self._lock:
            self._tokens[digest] = verified
            self._tokens.move_to_end(digest)
            if len(self._tokens) > MOST_TOKENS:
                self._tokens.popitem(last=False)

    def forget(self, token: str) -> None:
        """Forget a token."""
        with self._lock:
            self._tokens.pop(_digest(token), None)

    def __len__(self) -> int:
        """Return how many tokens are remembered."""
        return len(self._tokens)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
