"""``GET /openapi.json`` and ``GET /health``: the contract, and that the Hub is alive.

Anybody calls it, without a token. Reads and changes nothing.
"""

from flask import Request

from shared.bootstrap import hub
from shared.entry.description import description
from shared.entry.http import Answer, endpoint

HUB = hub()


@endpoint(HUB, "GET /openapi.json", "GET /health")
def describe_api(request: Request) -> Answer:
    """Answer with the document or the health, by the path."""
    return Answer(200, description() if request.path == "/openapi.json" else {"status": "ok"})
