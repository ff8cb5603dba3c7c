"""The HTTP server to which the local services send."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.http_target import Target, running_target


@pytest.fixture(scope="module")
def shared_target() -> Iterator[Target]:
    """The HTTP server to which all tests of a file have something sent."""
    with running_target() as target:
        yield target


@pytest.fixture
def target(shared_target: Target) -> Iterator[Target]:
    """The same server for one test; what the test holds is released after it."""
    yield shared_target
    shared_target.release_all()


@pytest.fixture
def path() -> str:
    """A path of the target that no other test uses."""
    return f"/{uuid.uuid4()}"
