"""A local cloud for attacks only, so that they disturb no other test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.kept_logs import keep_if_failed
from tests.log_lines import not_json
from tests.system.token_leaks import leaks


@pytest.fixture(scope="session")
def attacked(request: pytest.FixtureRequest) -> Iterator[RunningCloud]:
    """The cloud under attack; at the end every log line must be JSON, and none may have a token."""
    with start_cloud(LocalSettings(times="fast", schedule_seconds=5, warm=True)) as cloud:
        yield cloud
        keep_if_failed(cloud, "attacks", failed=request.session.testsfailed)
        assert not_json(cloud) == []
        assert leaks(cloud) == []


@pytest.fixture
def token(attacked: RunningCloud) -> str:
    """The ID token of a person whom no other test uses."""
    return attacked.token(f"{uuid.uuid4()}@example.com")


@pytest.fixture
def alice(attacked: RunningCloud, token: str) -> ApiClient:
    """The client of the person whose token ``token`` is."""
    return ApiClient(attacked.address, token)
