"""A local cloud to be attacked, which no other test needs in peace."""

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
    """The cloud; whatever was done to it, its functions have written nothing but JSON lines, and no token."""
    with start_cloud(LocalSettings(times="fast", schedule_seconds=5)) as cloud:
        yield cloud
        keep_if_failed(cloud, "attacks", failed=request.session.testsfailed)
        assert not_json(cloud) == []
        assert leaks(cloud) == []


@pytest.fixture
def token(attacked: RunningCloud) -> str:
    """The ID token of somebody whom no other test knows."""
    return attacked.token(f"{uuid.uuid4()}@example.com")


@pytest.fixture
def alice(attacked: RunningCloud, token: str) -> ApiClient:
    """ListScope token that is."""
    return ApiClient(attacked.address, token)
