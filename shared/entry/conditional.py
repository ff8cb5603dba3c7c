"""Conditional requests: the entity tag of an answer, and whether a client has that answer already.

Source: RFC 9110, sections 8.8.3 and 13.1.2.
"""

import hashlib
import re

# An entity tag, perhaps a weak one, and the comma or the end after it.
_TAG = re.compile(r'[ \t]*(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|\Z)')
_NO_TAG = re.compile(r"[ \t]*,")  # an empty element of the list, which counts for nothing


def entity_tag(body: bytes, *headers: str) -> str:
    """Return the entity tag of an answer: of its bytes, and of headers that clients follow.

    The same answer has the same tag from every instance and every revision of the Hub. The tag is
    weak, because proxies that compress an answer, Envoy among them, take a strong one away.
    """
    digest = hashlib.sha256(body)
    for header in headers:
        digest.update(b"\0" + header.encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Say whether a client's ``If-None-Match`` has this answer, which exists.

    Tags are compared weakly, as the standard demands here. A header that is malformed counts for
    nothing, so the client gets the whole answer.
    """
    if if_none_match is None:
        return False
    if if_none_match.strip(" \t") == "*":
        return True
    opaque = tag.removeprefix("W/")
    known, at = False, 0
    while at < len(if_none_match):
        found = _TAG.match(if_none_match, at)
        skipped = found or _NO_TAG.match(if_none_match, at)
        if skipped is None:
            return False
        known = known or (found is not None and found.group(1) == opaque)
        at = skipped.end()
    return known
