"""``GET /sign-in``: how people sign in here, and which optional features this Hub has.

Anybody calls it, without a token, before they can have one. So Identity-Aware Proxy is not in front
of it. Reads and changes nothing: the answer has only settings that are no secret.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.http import Answer, endpoint
from shared.entry.sign_in import sign_in_json

HUB = hub()


@endpoint(HUB, "GET /sign-in")
def describe_sign_in(_: Request) -> Answer:
    """Answer 200 with the ways to sign in, and the way to connect."""
    return Answer(200, sign_in_json(HUB.settings))
