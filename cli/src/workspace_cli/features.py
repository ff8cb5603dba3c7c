"""What a Hub says that it can do, in ``GET /sign-in``; an older one can do less."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workspace_cli.errors import PathUnknownError, RefusedError

if TYPE_CHECKING:
    from workspace_cli.app import App

SNAPSHOTS = "snapshots"
UPGRADE_HUB = "ask whoever runs this Hub to upgrade it"


@contextlib.contextmanager
def snapshots(app: App) -> Iterator[None]:
    """Do in here what needs a Hub with snapshots. A Hub without them is asked for nothing else.

    Raises:
        RefusedError: the Hub has no snapshots, or was rolled back meanwhile.
    """
    address = app.client().hub.address
    if SNAPSHOTS not in app.client().features():
        raise RefusedError(f"{address} has no snapshots: so it was not asked", hint=UPGRADE_HUB)
    try:
        yield
    except PathUnknownError as error:
        raise RefusedError(
            f"{address} has no snapshots: it refused, and did nothing",
            hint=UPGRADE_HUB,
            request_id=error.request_id,
        ) from None
