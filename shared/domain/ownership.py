"""To which workspace a machine or a disk belongs.

A label alone is not enough: people change labels, restore disks and move machines by hand. A
resource is tied to a workspace by its name, its label, the machine that uses it, and the disks that
it uses. The name counts more than the label, since it cannot be changed. A resource that nothing
ties to a live record is an orphan (``orphans``).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import chain

from shared.domain.instance import Disk, Instance
from shared.domain.workspace import Workspace

_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAME = re.compile(f"(?:home|workspace)-({_ID})(?:-.+)?")
_MADE_BY_US = re.compile(f"(?:home|workspace)-({_ID})(?:-[0-9]+)?")
_SNAPSHOT = re.compile(f"home-snapshot-({_ID})-[0-9a-f]{{12}}")


def named_id(name: str) -> str | None:
    """Return the workspace's id in the name of a machine or disk. None if it has none.

    The Hub's names are ``workspace-<id>`` and ``home-<id>``. Anything may follow after a ``-``.
    """
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def may_be_deleted(name: str) -> bool:
    """Say whether a name is one that the Hub itself gives: the id, or the id and a number.

    A tie to a workspace protects a resource, so ``named_id`` accepts more names. Only the Hub's own
    resources are deleted: a person's ``home-<id>-backup``, or a disk with the Hub's label and
    another name, is reported and stays.
    """
    return _MADE_BY_US.fullmatch(name) is not None


def is_home_of(workspace_id: str, disk_name: str) -> bool:
    """Say whether a disk's name is one that the Hub gives to the homes of a workspace."""
    return re.fullmatch(f"home-{re.escape(workspace_id)}(?:-[0-9]+)?", disk_name) is not None


def workspace_of_snapshot(name: str) -> str | None:
    """Return the workspace's id in the name that the Hub gives to a snapshot; None for any other.

    No label counts: the Hub deletes only snapshots that it has made, and people make their own of a
    home, by hand or by a schedule, which may copy its labels.
    """
    match = _SNAPSHOT.fullmatch(name)
    return match[1] if match else None


def tied_to(resource: Instance | Disk) -> set[str]:
    """Return the ids of all workspaces to which a machine or a disk is tied in any way."""
    others = resource.disks if isinstance(resource, Instance) else resource.users
    ids = chain([resource.labels.get("workspace"), named_id(resource.name)], map(named_id, others))
    return {each for each in ids if each}


def workspace_id_of(resource: Instance | Disk) -> str | None:
    """Return the id of a machine's or a disk's workspace: by its name, else by its label."""
    return named_id(resource.name) or resource.labels.get("workspace")


def labels_of(workspace_id: str, owner_id: str) -> dict[str, str]:
    """Return the labels of each resource of a workspace. An adapter adds ``hub``.

    The owner is a hash: no personal data in labels.
    """
    owner = hashlib.sha256(owner_id.encode()).hexdigest()[:32]
    return {"managed-by": "workspace-hub", "workspace": workspace_id, "owner": owner}


def has_lost_labels(workspace: Workspace, resource: Instance | Disk) -> bool:
    """Say whether a workspace's resource lacks a label of the Hub, or names another workspace.

    ``owner`` and ``managed-by`` may have other values: companies use labels of these names, and the
    Hub does not decide by them.
    """
    return lacks_labels(workspace.id, workspace.owner_id, resource.labels)


def lacks_labels(workspace_id: str, owner_id: str, labels: Mapping[str, str]) -> bool:
    """Say whether labels lack one of the Hub's, or name another workspace."""
    ours = labels_of(workspace_id, owner_id)
    return labels.get("workspace") != workspace_id or not ours.keys() <= labels.keys()


def disks_of(workspace_id: str, disks: Iterable[Disk]) -> list[Disk]:
    """Return the disks that the Hub made for the workspace, by their names."""
    return [
        disk for disk in disks if named_id(disk.name) == workspace_id and may_be_deleted(disk.name)
    ]


def other_places(workspace: Workspace, instances: Iterable[Instance]) -> list[Instance]:
    """Return the workspace's machines in other zones than the recorded one, by their name.

    One that goes with an old home is not among them: it is about to be deleted.
    """
    old = {(each.zone, each.instance_id) for each in workspace.old_homes}
    return [
        instance
        for instance in instances
        if instance.name == workspace.instance_name
        and instance.zone != workspace.zone
        and (instance.zone, instance.id) not in old
    ]


def moved_machines(workspace: Workspace, instances: Iterable[Instance]) -> list[Instance]:
    """Return those of ``other_places`` that may be the workspace's machine, moved by hand.

    One that has another home of the workspace's is not: a RESTORE has made it, and has not proven
    it; or it was moved before a RESTORE has made the present home. If the home is a snapshot of the
    workspace, as that of an archived one, no machine is: that snapshot has the last state.
    """
    if workspace.own_source is not None:
        return []
    return [
        instance
        for instance in other_places(workspace, instances)
        if not has_another_home(workspace, instance)
    ]


def has_another_home(workspace: Workspace, instance: Instance) -> bool:
    """Say whether a machine has a home of the workspace's attached, and not the present one."""
    homes = {disk for disk in instance.disks if is_home_of(workspace.id, disk)}
    return bool(homes) and workspace.disk_name not in homes
