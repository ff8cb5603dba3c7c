"""Each test of a boot script gets a machine of its own, and what is outside of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.fake_machine import (
    Machine,
    Outside,
)


@pytest.fixture
def outside() -> Iterator[Outside]:
    """The metadata server and the Hub."""
    outside = Outside()
    yield outside
    outside.close()


@pytest.fixture
def machine(tmp_path: Path, outside: Outside) -> Iterator[Machine]:
    """A machine at its boot, without a disk.

    No token may appear on it, and each token is used for one report.
    """
    machine = Machine(tmp_path, outside)
    yield machine
    machine.end()
    machine.disk.unlink(missing_ok=True)  # pytest keeps the folders of its last runs
    seen = json.dumps(machine.records()) + (machine.said() if machine.output.exists() else "")
    assert not [token for token in outside.tokens if token in seen]
    assert len(set(outside.bearers)) == len(outside.bearers)
    assert set(outside.bearers) <= {f"Bearer {token}" for token in outside.tokens}
