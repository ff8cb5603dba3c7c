"""Compare what is recorded with what there is: machines, disks, and what owners hold."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared import logs
from shared.domain import orphans
from shared.domain.drift import has_drifted
from shared.domain.errors import ConflictError, MachineFaultError, UnavailableError
from shared.domain.events import Event
from shared.domain.instance import Disk, Instance, Place
from shared.domain.orphans import OrphanAction
from shared.domain.ownership import owner_id_of, tied_to
from shared.domain.policy import Policy
from shared.domain.workspace import OwnedWorkspace, Workspace
from shared.ports import Clock, Jobs, Machines, WorkspaceStore
from shared.usecases.advance_operation import look
from shared.usecases.sweep import SweepReport, log_failure

PAGE = 100
TIME_BUDGET = timedelta(seconds=240)  # of the 300 that the catalogue gives the function
RECONCILER = "reconcile"
MARK = "fleet"  # the name under which the store keeps how far a run came
_RECORDS, _OWNERS = "records", "owners"


@dataclass(frozen=True, slots=True)
class _Fleet:
    """What Compute's two lists had: everything that carries this installation's label."""

    machines: dict[Place, Instance]
    disks: dict[Place, Disk]
    zones: dict[str, set[str]]  # of machines, by name
    disk_names: set[str]

    @classmethod
    def seen_by(cls, machines: Machines) -> "_Fleet":
        """Return what there is now."""
        instances = {
            Place(instance.zone, instance.name): instance for instance in machines.list_instances()
        }
        zones: dict[str, set[str]] = {}
        for place in instances:
            zones.setdefault(place.name, set()).add(place.zone)
        disks = {Place(disk.zone, disk.name): disk for disk in machines.list_disks()}
        return cls(instances, disks, zones, {place.name for place in disks})

    def has_moved(self, workspace: Workspace) -> bool:
        """Say whether a workspace's machine is in other zones, and not in the recorded one."""
        zones = self.zones.get(workspace.instance_name, set())
        return bool(zones) and workspace.zone not in zones and workspace.operation is None


def reconcile_fleet(
    store: WorkspaceStore,
    machines: Machines,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    request_id: str,
    budget: timedelta = TIME_BUDGET,
) -> SweepReport:
    """See to orphans and lost labels; make records follow their machines; repair what owners are noted to hold.

    Two lists of Compute's; a read of each record that anything in them is tied to; then a read of
    each record, and of each owner with a query of what is theirs. What differs is looked at again,
    by itself and at its commit, so what changes meanwhile is not taken for drift. One that fails
    does not stop the rest. When time runs out the next run goes on where this one ended.

    Raises:
        UnavailableError: Compute's lists, or the store, do not answer. Nothing was decided on a
            partial list.
    """
    ends_at, report = clock() + budget, SweepReport()
    fleet = _Fleet.seen_by(machines)
    hands = _Hands(store, machines, request_id, clock, report)
    _see_to_orphans(hands, policy, fleet)
    phase, _, token = (store.get_checkpoint(MARK) or _RECORDS).partition(":")
    if phase == _RECORDS:
        left_off = _follow_machines(hands, jobs, policy, fleet, token or None, ends_at)
        if left_off is not None:
            return _interrupted(store, report, f"{_RECORDS}:{left_off}")
        token = ""
    left_off = _repair_owners(store, clock, report, token or None, ends_at)
    if left_off is not None:
        return _interrupted(store, report, f"{_OWNERS}:{left_off}")
    store.set_checkpoint(MARK, None)
    logs.info("FleetReconciled", **report.counts())
    return report


def _interrupted(store: WorkspaceStore, report: SweepReport, mark: str) -> SweepReport:
    report.unfinished = True
    store.set_checkpoint(MARK, mark)
    logs.info("FleetReconciled", **report.counts())
    return report


@dataclass(frozen=True, slots=True)
class _Hands:
    """What one run acts with, and where it writes down what it did."""

    store: WorkspaceStore
    machines: Machines
    request_id: str
    clock: Clock
    report: SweepReport

    def carry_out(self, act: OrphanAction, owner_id: str = "") -> None:
        """Do what was decided about one resource, and write it down. One that cannot be done does not stop the rest."""
        name, now = act.place.name, self.clock()
        try:
            if act.command is not None:
                # A new request id each time: with an earlier run's, Compute would answer what came
                # of that one, and do nothing.
                self.machines.perform(act.command, str(uuid.uuid4()))
                event = Event(
                    now,
                    act.workspace_id,
                    owner_id,
                    RECONCILER,
                    act.event,
                    act.reason,
                    self.request_id,
                )
                self.store.commit(events=[event])
        except (MachineFaultError, UnavailableError) as error:
            log_failure("ResourceNotSeenTo", error, name=name, zone=act.place.zone, what=act.event)
            self.report.failed[name] = str(error)
            return
        logs.warning(
            act.event,
            name=name,
            zone=act.place.zone,
            workspace_id=act.workspace_id,
            reason=act.reason,
        )
        self.report.done.setdefault(act.event, []).append(name)


def _see_to_orphans(hands: _Hands, policy: Policy, fleet: _Fleet) -> None:
    """Stop and delete what nothing ties to a live record, put lost labels back, and report what is not where its record says."""
    now, report = hands.clock(), hands.report
    read: dict[str, Workspace | None] = {}
    decided: list[OrphanAction] = []
    resources: list[Instance | Disk] = [*fleet.machines.values(), *fleet.disks.values()]
    for resource in resources:
        try:
            records = [
                record for each in tied_to(resource) if (record := _record(hands.store, each, read))
            ]
        except UnavailableError as error:  # its record may be there: nothing is done about this one
            logs.warning("RecordNotRead", name=resource.name, reason=str(error))
            continue
        act = _act_on(resource, records, now, policy)
        if act is not None:
            decided.append(act)
    if orphans.too_many(decided, len(resources)):
        names = [act.place.name for act in decided][:50]
        logs.error("TooManyOrphans", found=len(decided), of=len(resources), names=names)
        report.failed["orphans"] = (
            f"{len(decided)} orphans are too many to be true: nothing was done. See the log, TooManyOrphans."
        )
        return
    for act in decided:
        record = read.get(act.workspace_id)
        hands.carry_out(act, record.owner_id if record else "")


def _act_on(
    resource: Instance | Disk, records: list[Workspace], now: datetime, policy: Policy
) -> OrphanAction | None:
    if not records:
        return (
            orphans.act_on_machine(resource, now, policy)
            if isinstance(resource, Instance)
            else orphans.act_on_disk(resource, now, policy)
        )
    owner = next((record for record in records if record.id == owner_id_of(resource)), None)
    return (
        orphans.act_on_owned(owner, resource)
        if owner
        else orphans.report_tied(records[0], resource)
    )


def _record(
    store: WorkspaceStore, workspace_id: str, read: dict[str, Workspace | None]
) -> Workspace | None:
    """Return the record of an id, read once a run. Read after the lists, so that a new workspace's is there."""
    if workspace_id not in read:
        stored = store.get(workspace_id)
        read[workspace_id] = stored.record if stored else None
    return read[workspace_id]


def _follow_machines(
    hands: _Hands, jobs: Jobs, policy: Policy, fleet: _Fleet, token: str | None, ends_at: datetime
) -> str | None:
    """Make each record follow its machine. Returns the token to go on with when time ran out."""
    store, report = hands.store, hands.report
    while True:
        page = store.list_ids(PAGE, token)
        for workspace_id in page.records:
            report.looked_at += 1
            try:
                _follow_machine(hands, jobs, policy, fleet, workspace_id)
            except Exception as error:  # noqa: BLE001 -- whatever is wrong with one workspace, the rest must not wait for it
                log_failure("SweepFailed", error, workspace_id=workspace_id)
                report.failed[workspace_id] = str(error)
        token = page.next_token
        if token is None or hands.clock() > ends_at:
            return token


def _follow_machine(
    hands: _Hands, jobs: Jobs, policy: Policy, fleet: _Fleet, workspace_id: str
) -> None:
    """Make one record follow its machine; look by itself for what the lists should have had, and put its labels back."""
    stored = hands.store.get(workspace_id)
    if stored is None:
        return
    record = stored.record
    place = Place(record.zone, record.instance_name)
    if not has_drifted(record, fleet.machines.get(place), hands.clock()) and not fleet.has_moved(
        record
    ):
        _see_to_home(hands, fleet, record)
        return
    instance = hands.machines.get(place)
    if instance is not None and place not in fleet.machines and record.instance_id is not None:
        hands.carry_out(orphans.label_again(record, instance), record.owner_id)
    now, changed = look(hands.store, hands.machines, jobs, hands.clock, policy, workspace_id)
    if changed:
        hands.report.done.setdefault(now.status.value.lower(), []).append(workspace_id)
    _see_to_home(hands, fleet, now)


def _see_to_home(hands: _Hands, fleet: _Fleet, record: Workspace) -> None:
    """Look for a home disk that the list did not have: it has lost its label, or it is gone, which somebody must know."""
    home = record.home_disk
    if home is None or record.operation is not None or home.name in fleet.disk_names:
        return
    disk = hands.machines.get_disk(Place(home.zone, home.name))
    if disk is not None:
        hands.carry_out(orphans.label_again(record, disk), record.owner_id)
        return
    stored = hands.store.get(record.id)
    if stored is not None and stored.record.home_disk == home and stored.record.operation is None:
        logs.error("HomeDiskGone", workspace_id=record.id, name=home.name, zone=home.zone)
        hands.report.done.setdefault("HomeDiskGone", []).append(record.id)


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
                log_failure("SweepFailed", error, owner_id=owner_id)
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
