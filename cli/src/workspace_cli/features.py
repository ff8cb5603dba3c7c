"""What a Hub says that it can do, in ``GET /sign-in``; an older one can do less."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workspace_cli.errors import PathUnknownError, RefusedError

if TYPE_CHECKING:
    from workspace_cli.app import App

SNAPSHOTS = "snapshots"
RESTORE = "restore"
UNDELETE = "undelete"
ARCHIVE = "archive"
UPGRADE_HUB = "ask whoever runs this Hub to upgrade it"
# What is said of a Hub without a feature.
_LACKS = {
    SNAPSHOTS: "has no snapshots",
    RESTORE: "cannot restore a home",
    ARCHIVE: "cannot archive workspaces",
    UNDELETE: "cannot take back what was deleted",
}


@contextlib.contextmanager
def needed(app: App, feature: str) -> Iterator[None]:
    """Do in here what needs a Hub with a feature. A Hub without it is asked for nothing else.

    Raises:
        RefusedError: the Hub does not have it, or was rolled back meanwhile.
    """
    address, lacks = app.client().hub.address, _LACKS[feature]
    if feature not in app.client().features():
        raise RefusedError(f"{address} {lacks}: so it was not asked", hint=UPGRADE_HUB)
    try:
        yield
    except PathUnknownError as error:
        raise RefusedError(
            f"{address} {lacks}: it refused, and did nothing",
            hint=UPGRADE_HUB,
            request_id=error.request_id,
        ) from None
