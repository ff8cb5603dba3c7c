"""What every command works with: ``@click.pass_obj`` hands a command its ``App``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workspace_cli.config import ConfigStore, Hub, chosen
from workspace_cli.console import Console

if TYPE_CHECKING:
    from workspace_cli.client import HubClient
    from workspace_cli.workspaces import Workspace


class App:
    """One run of the command.

    Attributes:
        console: what it says.
        store: the configuration.
        hub_name: what ``--hub`` says; None: ``WORKSPACE_HUB``, or the current Hub.
        goes_on: what is said if the person presses Ctrl-C now; None: nothing is under way.
    """

    def __init__(self) -> None:
        self.console = Console()
        self.store = ConfigStore()
        self.hub_name: str | None = None
        self.goes_on: str | None = None
        self._hub: Hub | None = None
        self._client: HubClient | None = None

    def hub(self) -> Hub:
        """Return the Hub that this run is for, with a local cloud's present address.

        Raises:
            WorkspaceNotFoundError, SignInError: see ``config.chosen``.
        """
        if self._hub is None:
            from workspace_cli.sign_in import present  # noqa: PLC0415  # lazily, as all below

            name = self.hub_name or os.environ.get("WORKSPACE_HUB") or None
            self._hub = present(chosen(self.store.read(), name))
        return self._hub

    def keep(self, hub: Hub) -> None:
        """Have ``hub()`` return this one from now on: the same Hub, with what was agreed to."""
        self._hub = hub

    def client(self) -> HubClient:
        """Return the client of ``hub()``, which signs in when it first needs a token."""
        if self._client is None:
            from workspace_cli.client import HubClient  # noqa: PLC0415  # it loads requests: 0.1 s
            from workspace_cli.sign_in import token_source  # noqa: PLC0415

            hub = self.hub()
            self._client = HubClient(hub, token_source(self.store, hub), self.console.note)
        return self._client

    def find(self, name: str, *, surely: bool = False) -> Workspace:
        """Return the person's workspace of a name, an id, or the unique beginning of an id.

        ``surely``: what follows cannot be undone, so nothing is guessed; see ``workspaces.find``.

        Raises:
            WorkspaceNotFoundError: there is none; the message has what the person may have meant.
            WrongUsageError: several are meant.
        """
        from workspace_cli.workspaces import find  # noqa: PLC0415

        return find(self.client(), name, surely=surely)

    def close(self) -> None:
        """Close the connections that this run has opened."""
        if self._client is not None:
            self._client.close()

    @contextlib.contextmanager
    def on_interrupt(self, text: str | None) -> Iterator[None]:
        """Say ``text`` if the person presses Ctrl-C in here: what goes on, how to come back."""
        before, self.goes_on = self.goes_on, text
        yield
        self.goes_on = before  # after an exception it stays, for whoever reports the interruption
