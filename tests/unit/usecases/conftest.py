"""What the tests of the use cases share."""

import pytest


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nobody: a commit that met a conflict is tried again at once."""
    monkeypatch.setattr("shared.usecases.records.PAUSE_SECONDS", 0)
