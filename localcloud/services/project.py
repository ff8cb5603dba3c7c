"""The project of Google Cloud that a local cloud plays."""

from __future__ import annotations

from dataclasses import dataclass

# What stands for the zone of resources that belong to none, as in their paths.
GLOBAL = "global"


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project of Google Cloud, and the zones that it can use.

    ``network`` is how the addresses of its machines begin.
    """

    id: str
    number: str
    zones: tuple[str, ...]
    network: str = "10.128"

    @property
    def path(self) -> str:
        """The name in full: ``projects/p``."""
        return f"projects/{self.id}"

    def path_of(self, zone: str, kind: str, name: str) -> str:
        """Return the full name of a resource: ``projects/p/zones/z/instances/i``.

        Args:
            zone: the resource's zone; ``GLOBAL`` for ``projects/p/global/snapshots/s``.
            kind: the collection it belongs to, for example ``instances``.
            name: the resource's name.
        """
        return f"{self.path}/{scope_of(zone)}/{kind}/{name}"

    def subnetwork_path(self, region: str) -> str:
        """Return the full name of a region's default subnetwork."""
        return f"{self.path}/regions/{region}/subnetworks/default"


def scope_of(zone: str) -> str:
    """Return where a zone is in paths: ``zones/z``, or ``global`` for ``GLOBAL``."""
    return GLOBAL if zone == GLOBAL else f"zones/{zone}"
