"""To which workspace a machine or a disk belongs.

One label is not enough: people change labels, restore disks and move machines by hand. A resource
is tied to a workspace by its name, its label, the machine that uses it, and the disks that it uses.
The name counts more than the label: it cannot be changed. Only what nothing ties to a live record
is an orphan (``orphans``).
"""

import hashlib
import re
from collections.abc import Iterable
from itertools import chain

from shared.domain.instance import Disk, Instance
from shared.domain.workspace import Workspace

_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAME = re.compile(f"(?:home|workspace)-({_ID})(?:-.+)?")
_MADE_BY_US = re.compile(f"(?:home|workspace)-({_ID})(?:-[0-9]+)?")


def named_id(name: str) -> str | None:
    """Return the id that a machine's or a disk's name has in it; None if it is not one of our names.

    Our names are ``workspace-<id>`` and ``home-<id>``, with or without ``-`` and a generation
    behind it.
    """
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def may_be_deleted(name: str) -> bool:
    """Say whether a name is one that the Hub itself gives: with a number behind the id, or nothing.

    What ties a resource to a workspace protects it, so that is read broadly. What is deleted must
    be ours: somebody's ``home-<id>-backup``, or a disk of another name that carries our label, is
    reported and stays.
    """
    return _MADE_BY_US.fullmatch(name) is not None


def tied_to(resource: Instance | Disk) -> set[str]:
    """Return the ids of all workspaces that anything ties a machine or a disk to."""
    others = resource.disks if isinstance(resource, Instance) else resource.users
    ids = chain([resource.labels.get("workspace"), named_id(resource.name)], map(named_id, others))
    return {each for each in ids if each}


def owner_id_of(resource: Instance | Disk) -> str | None:
    """Return the id of the workspace that a machine or a disk is part of: by its name, else by its label."""
    return named_id(resource.name) or resource.labels.get("workspace")


def labels_of(workspace_id: str, owner_id: str) -> dict[str, str]:
    """Return what everything of a workspace is labelled with, in any installation; an adapter adds ``hub``.

    The owner is a hash: no personal data in labels.
    """
    owner = hashlib.sha256(owner_id.encode()).hexdigest()[:32]
    return {"managed-by": "workspace-hub", "workspace": workspace_id, "owner": owner}


def has_lost_labels(workspace: Workspace, resource: Instance | Disk) -> bool:
    """Say whether a machine or disk of a workspace lacks a label of ours, or says that it is another workspace's.

    ``owner`` and ``managed-by`` may say something else: companies label with such names, and
    nothing here goes by them.
    """
    ours = labels_of(workspace.id, workspace.owner_id)
    return (
        resource.labels.get("workspace") != workspace.id
        or not ours.keys() <= resource.labels.keys()
    )


def disks_of(workspace_id: str, disks: Iterable[Disk]) -> list[Disk]:
    """Return those of some disks that the Hub made for the workspace, by their names."""
    return [
        disk for disk in disks if named_id(disk.name) == workspace_id and may_be_deleted(disk.name)
    ]


def other_places(workspace: Workspace, instances: Iterable[Instance]) -> list[Instance]:
    """Return the workspace's machines that are in other zones than recorded, by their name."""
    return [
        instance
        for instance in instances
        if instance.name == workspace.instance_name and instance.zone != workspace.zone
    ]
