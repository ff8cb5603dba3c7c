"""The client of the demo and the tests."""

import io
from typing import Any

import pytest
import requests

from localcloud import api_client
from localcloud.api_client import ApiClient
from shared.caller_limit import CallerLimit
from shared.config.declarations import SETTINGS


class _Clock:
    """A clock that only pauses move, so that every answer takes no time at all."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


def test_a_long_wait_meets_no_limit_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where every answer comes at once: another one's waits have to fit in, too."""
    clock = _Clock()
    usual: Any = {one.name: one.default for one in SETTINGS}["HUB_REQUESTS_PER_MINUTE"]
    limit = CallerLimit(usual, clock.monotonic)

    def answer(*_: object, **__: object) -> requests.Response:
        limit.count("somebody")
        answer = requests.Response()
        answer.status_code = 200
        answer.raw = io.BytesIO(b'{"status": "CREATING"}')
        return answer

    monkeypatch.setattr(api_client, "time", clock)
    monkeypatch.setattr(requests.Session, "request", answer)
    hub = ApiClient("http://127.0.0.1", None)
    with pytest.raises(TimeoutError):
        hub.wait("some-id", lambda _: False, seconds=900)
    with pytest.raises(TimeoutError):
        hub.wait_until_gone("some-id", seconds=900)
