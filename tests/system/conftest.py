"""People at the local cloud, and a second cloud whose faults disturb nobody else."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.kept_logs import keep_if_failed
from tests.log_lines import not_json
from tests.system.secrets_kept import leaks


@pytest.fixture(scope="session", autouse=True)
def what_is_written_down(cloud: RunningCloud) -> Iterator[None]:
    """Whatever the tests did: the functions of the shared cloud have logged JSON lines, and no line and no event has a token."""
    yield
    assert not_json(cloud) == []
    assert leaks(cloud) == []


@pytest.fixture
def new_person(cloud: RunningCloud) -> Callable[[], ApiClient]:
    """Make up somebody whom no other test knows."""
    return lambda: ApiClient(cloud.address, cloud.token(f"{uuid.uuid4()}@example.com"))


@pytest.fixture
def alice(new_person: Callable[[], ApiClient]) -> ApiClient:
    """Somebody whom no other test knows."""
    return new_person()


@pytest.fixture(scope="session")
def troubled_cloud(request: pytest.FixtureRequest) -> Iterator[RunningCloud]:
    """A cloud for the tests that switch faults on."""
    settings = LocalSettings(
        times="fast",
        schedule_seconds=1,
        heartbeat_seconds=1,
        overrides={"HUB_ATTEND_SECONDS": "3", "HUB_WORKER_TIMEOUT_SECONDS": "4"},
    )
    with start_cloud(settings) as cloud:
        yield cloud
        keep_if_failed(cloud, "troubled", failed=request.session.testsfailed)
        assert not_json(cloud) == []
        assert leaks(cloud) == []


@pytest.fixture
def trouble(troubled_cloud: RunningCloud) -> Iterator[RunningCloud]:
    """The cloud for faults, empty and without any."""
    troubled_cloud.reset()
    yield troubled_cloud
    troubled_cloud.reset()


@pytest.fixture
def bob(trouble: RunningCloud) -> ApiClient:
    """Somebody at the cloud for faults."""
    return ApiClient(trouble.address, trouble.token(f"{uuid.uuid4()}@example.com"))
