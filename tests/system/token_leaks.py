"""Finds tokens in a cloud's logs, events and recorded requests."""

from __future__ import annotations

import re
from collections.abc import Iterable

from localcloud.running_cloud import RunningCloud
from tests.system.records import Records

_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]*\.?[\w-]*")  # a JWT begins with {" in base64


def leaks(cloud: RunningCloud, secrets: Iterable[str] = ()) -> list[str]:
    """Return every log line, event and recorded request with a token or one of these secrets."""
    texts = [secret for secret in secrets if secret]
    lines = [
        f"{name}: {line}"
        for name in [*cloud.state["functions"], "cloud"]
        for line in cloud.log(name).splitlines()
    ]
    lines += [f"event: {event}" for event in Records(cloud).every_event()]
    if cloud.state["requests"]:
        lines += [f"request: {request}" for request in cloud.requests()]
    return [line for line in lines if _TOKEN.search(line) or any(text in line for text in texts)]
