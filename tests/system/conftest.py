"""Clients of the shared local cloud, and a second cloud whose faults affect no other test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.kept_logs import keep_if_failed
from tests.log_lines import not_json
from tests.system.token_leaks import leaks


@pytest.fixture(scope="session", autouse=True)
def check_logs_and_events(cloud: RunningCloud) -> Iterator[None]:
    """Check after all tests: every log line is JSON, and no line and no event has a token."""
    yield
    assert not_json(cloud) == []
    assert leaks(cloud) == []


@pytest.fixture
def new_person(cloud: RunningCloud) -> Callable[[], ApiClient]:
    """Make the client of a person whom no other test uses."""
    return lambda: ApiClient(cloud.address, cloud.token(f"{uuid.uuid4()}@example.com"))


@pytest.fixture
def alice(new_person: Callable[[], ApiClient]) -> ApiClient:
    """The client of a person whom no other test uses."""
    return new_person()


@pytest.fixture(scope="session")
def session_fault_cloud(request: pytest.FixtureRequest, emulators: str) -> Iterator[RunningCloud]:
    """The cloud for all tests that switch faults on."""
    settings = LocalSettings(
        times="fast",
        emulators=emulators,
        schedule_seconds=1,
        heartbeat_seconds=1,
        overrides={"HUB_ATTEND_SECONDS": "3", "HUB_WORKER_TIMEOUT_SECONDS": "4"},
    )
    with start_cloud(settings) as cloud:
        yield cloud
        keep_if_failed(cloud, "fault_cloud", failed=request.session.testsfailed)
        assert not_json(cloud) == []
        assert leaks(cloud) == []


@pytest.fixture
def fault_cloud(session_fault_cloud: RunningCloud) -> Iterator[RunningCloud]:
    """The cloud for faults, with all its records and faults cleared."""
    session_fault_cloud.reset()
    yield session_fault_cloud
    session_fault_cloud.reset()


@pytest.fixture
def bob(fault_cloud: RunningCloud) -> ApiClient:
    """The client of a person at the cloud for faults."""
    return ApiClient(fault_cloud.address, fault_cloud.token(f"{uuid.uuid4()}@example.com"))
