"""Compare what is recorded with what there is: machines, disks, and what owners hold."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from shared import logs
from shared.domain import orphans
from shared.domain.changes import Change
from shared.domain.errors import ConflictError, MachineFaultError, UnavailableError
from shared.domain.events import Event
from shared.domain.instance import Disk, Instance, Place
from shared.domain.observe import differs, follow
from shared.domain.orphans import Act
from shared.domain.policy import Policy
from shared.domain.workspace import OwnedWorkspace, Workspace
from shared.ports import Clock, Jobs, Machines, WorkspaceStore
from shared.usecases.change_workspace import change_workspace
from shared.usecases.sweep import SweepReport

PAGE = 100
TIME_BUDGET = timedelta(seconds=240)  # of the 300 that the catalogue gives the function
RECONCILER = "reconcile"
MARK = "fleet"  # the name under which the store keeps how far a run came
_RECORDS, _OWNERS = "records", "owners"

R = TypeVar("R", Instance, Disk)


def reconcile_fleet(
    store: WorkspaceStore,
    machines: Machines,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    request_id: str,
    budget: timedelta = TIME_BUDGET,
) -> SweepReport:
    """See to orphans; make records follow their machines; repair what owners are noted to hold.

    Two lists of Compute's; a read of the record that each machine and each detached disk names; then a read of each record, and
    of each owner with a query of what is theirs. What differs is looked at again, by itself and at its
    commit, so what changes meanwhile is not taken for drift. One that fails does not stop the rest. When time runs out the
    next run goes on where this one ended.

    Raises:
        UnavailableError: Compute's lists, or the store, do not answer. Nothing was decided on half a list.
    """
    ends_at, report = clock() + budget, SweepReport()
    seen = {Place(instance.zone, instance.name): instance for instance in machines.list_instances()}
    _see_to_orphans(store, machines, clock, policy, request_id, seen, report)
    phase, _, token = (store.get_mark(MARK) or _RECORDS).partition(":")
    if phase == _RECORDS:
        left_off = _follow_machines(store, machines, jobs, clock, policy, seen, report, token or None, ends_at)
        if left_off is not None:
            return _interrupted(store, report, f"{_RECORDS}:{left_off}")
        token = ""
    left_off = _repair_owners(store, clock, report, token or None, ends_at)
    if left_off is not None:
        return _interrupted(store, report, f"{_OWNERS}:{left_off}")
    store.set_mark(MARK, None)
    logs.info("FleetReconciled", **report.counts())
    return report


def _interrupted(store: WorkspaceStore, report: SweepReport, mark: str) -> SweepReport:
    report.unfinished = True
    store.set_mark(MARK, mark)
    logs.info("FleetReconciled", **report.counts())
    return report


def _see_to_orphans(
    store: WorkspaceStore,
    machines: Machines,
    clock: Clock,
    policy: Policy,
    request_id: str,
    seen: dict[Place, Instance],
    report: SweepReport,
) -> None:
    disks, now = list(machines.list_disks()), clock()
    acts = [
        orphans.act_on_machine(instance, now, policy)
        for instance in seen.values()
        if not _accounted_for(store, instance, orphans.owns_machine)
    ] + [
        orphans.act_on_disk(disk, now, policy)
        for disk in disks
        if not disk.in_use and not _accounted_for(store, disk, orphans.owns_disk)
    ]
    decided = [act for act in acts if act is not None]
    if orphans.too_many(decided, len(seen) + len(disks)):
        logs.error(
            "TooManyOrphans", found=len(decided), of=len(seen) + len(disks), names=[a.place.name for a in decided][:50]
        )
        report.failed["orphans"] = (
            f"{len(decided)} orphans are too many to be true: nothing was done. See the log, TooManyOrphans."
        )
        return
    for act in decided:
        _carry_out(store, machines, now, request_id, act, report)


def _record(store: WorkspaceStore, workspace_id: str | None) -> Workspace | None:
    """Return the record that a resource's label names. Read now: after the list, so that a new workspace's is there."""
    stored = store.get(workspace_id) if workspace_id else None
    return stored.record if stored else None


def _accounted_for(store: WorkspaceStore, resource: R, owns: Callable[[Workspace | None, R], bool]) -> bool:
    """Say whether a record has a machine or disk. One that cannot be read may have it: that stops neither it nor the rest."""
    try:
        return owns(_record(store, resource.workspace_id), resource)
    except UnavailableError as error:
        logs.warning("RecordNotRead", workspace_id=resource.workspace_id, reason=str(error))
        return True


def _carry_out(
    store: WorkspaceStore, machines: Machines, now: datetime, request_id: str, act: Act, report: SweepReport
) -> None:
    name = act.place.name
    try:
        if act.command is not None:
            identity = f"workspace-hub/orphan/{act.place.zone}/{name}/{act.event}/{now:%Y-%m-%dT%H}"
            machines.perform(act.command, str(uuid.uuid5(uuid.NAMESPACE_URL, identity)))
            store.commit(events=[Event(now, act.workspace_id, "", RECONCILER, act.event, act.reason, request_id)])
    except (MachineFaultError, UnavailableError) as error:
        logs.error("OrphanNotSeenTo", error, name=name, zone=act.place.zone)
        report.failed[name] = str(error)
        return
    logs.warning(act.event, name=name, zone=act.place.zone, workspace_id=act.workspace_id, reason=act.reason)
    report.done.setdefault(act.event, []).append(name)


def _follow_machines(
    store: WorkspaceStore,
    machines: Machines,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    seen: dict[Place, Instance],
    report: SweepReport,
    token: str | None,
    ends_at: datetime,
) -> str | None:
    """Make each record follow its machine. Returns the token to go on with when time ran out."""

    def decide(workspace: Workspace) -> Change | None:
        instance = machines.get(Place(workspace.zone, workspace.instance_name))
        return follow(workspace, instance, clock(), policy)

    while True:
        page = store.list_ids(PAGE, token)
        for workspace_id in page.records:
            report.looked_at += 1
            try:
                record = _record(store, workspace_id)
                if record is None or not differs(record, seen.get(Place(record.zone, record.instance_name)), clock()):
                    continue
                now, changed = change_workspace(store, jobs, clock, workspace_id, decide)
            except Exception as error:  # noqa: BLE001 -- whatever is wrong with one workspace, the rest must not wait for it
                logs.error("SweepFailed", error, workspace_id=workspace_id)
                report.failed[workspace_id] = str(error)
                continue
            if changed:
                report.done.setdefault(now.status.value.lower(), []).append(workspace_id)
        token = page.next_token
        if token is None or clock() > ends_at:
            return token


def _repair_owners(
    store: WorkspaceStore, clock: Clock, report: SweepReport, token: str | None, ends_at: datetime
) -> str | None:
    """Make each owner's record hold exactly the workspaces that there are. Returns the token to go on with, as above."""
    while True:
        page = store.list_owner_ids(PAGE, token)
        for owner_id in page.records:
            try:
                if _repair(store, owner_id):
                    logs.warning("OwnerRepaired", owner_id=owner_id)
                    report.done.setdefault("owner_repaired", []).append(owner_id)
            except ConflictError:
                continue  # the owner is at it: the next run looks again
            except Exception as error:  # noqa: BLE001 -- as above
                logs.error("SweepFailed", error, owner_id=owner_id)
                report.failed[owner_id] = str(error)
        token = page.next_token
        if token is None or clock() > ends_at:
            return token


def _repair(store: WorkspaceStore, owner_id: str) -> bool:
    """Compare an owner's record, read first, with their workspaces: whoever adds or removes one writes the record too."""
    owner = store.get_owner(owner_id)
    held = {
        workspace.id: OwnedWorkspace(workspace.name, workspace.counts_as_running)
        for workspace in _owned(store, owner_id)
    }
    if held == dict(owner.record.workspaces):
        return False
    store.commit(owners=[(owner, replace(owner.record, workspaces=held))])
    return True


def _owned(store: WorkspaceStore, owner_id: str) -> Iterator[Workspace]:
    token: str | None = None
    while True:
        page = store.list_owned(owner_id, None, PAGE, token)
        yield from page.records
        token = page.next_token
        if token is None:
            return
