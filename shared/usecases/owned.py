"""All workspaces of an owner."""

from collections.abc import Iterator

from shared.domain.workspace import Workspace
from shared.ports import EVERY_WORKSPACE, WorkspaceStore
from shared.usecases.sweeping import PAGE


def owned_by(store: WorkspaceStore, owner_id: str, batch: int = PAGE) -> Iterator[Workspace]:
    """Yield all workspaces of an owner. A query for each ``batch``.

    Raises:
        UnavailableError: the store does not answer.
    """
    token: str | None = None
    while True:
        page = store.list_owned(owner_id, EVERY_WORKSPACE, batch, token)
        yield from page.records
        token = page.next_token
        if token is None:
            return
