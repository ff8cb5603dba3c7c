"""What a Hub says that it knows, in ``GET /sign-in``; an older one knows less."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workspace_cli.errors import PathUnknownError, RefusedError

if TYPE_CHECKING:
    from workspace_cli.app import App
    from workspace_cli.client import HubClient

SNAPSHOTS = "snapshots"
UPGRADE = "ask whoever runs this Hub to upgrade it"


def has(client: HubClient, feature: str) -> bool:
    """Return whether a Hub names a feature; one that says nothing has none."""
    try:
        told = client.sign_in()
    except PathUnknownError:
        return False
    features = told.get("features") if isinstance(told, dict) else None
    return isinstance(features, list) and feature in features


@contextlib.contextmanager
def snapshots(app: App) -> Iterator[None]:
    """Do in here what needs a Hub with snapshots. Another is asked for nothing else before.

    Raises:
        RefusedError: it has none, or was rolled back meanwhile.
    """
    address = app.client().hub.address
    if not has(app.client(), SNAPSHOTS):
        raise RefusedError(f"{address} has no snapshots: so it was not asked", hint=UPGRADE)
    try:
        yield
    except PathUnknownError as error:
        raise RefusedError(
            f"{address} has no snapshots: it refused, and did nothing",
            hint=UPGRADE,
            request_id=error.request_id,
        ) from None
