"""The connection to Firestore; the contract tests check its calls, with the emulator."""

from __future__ import annotations

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials

from shared.adapters.firestore_documents import Documents
from shared.domain.workspace import Status


def test_without_an_emulator_the_services_own_credentials_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client is created with Cloud Run's credentials, and connects when it is first used."""
    asked: list[object] = []

    def default(**options: object) -> tuple[AnonymousCredentials, str]:
        asked.append(options)
        return AnonymousCredentials(), "a-project"  # type: ignore[no-untyped-call]

    monkeypatch.setattr(google.auth, "default", default)
    documents = Documents.of("a-project", "hub-workspaces", None)

    assert len(asked) == 1
    written = documents.created("workspaces/one", {"status": Status.READY.value})
    assert (
        written.update.name
        == "projects/a-project/databases/hub-workspaces/documents/workspaces/one"
    )
