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
from shared.domain.ownership import tied_to, workspace_id_of
from shared.domain.policy import Policy
from shared.domain.workspace import OwnedWorkspace, Workspace
from shared.ports import Machines, WorkspaceStore
from shared.usecases.advance_operation import look
from shared.usecases.records import Records
from shared.usecases.sweeping import SweepReport, log_failure

PAGE = 100
TIME_BUDGET = timedelta(seconds=240)  # of the 300 that the catalogue gives the function
RECONCILER = "reconcile"
CHECKPOINT = "fleet"  # the name under which the store keeps how far a run came
_RECORDS, _OWNERS = "records", "owners"


@dataclass(frozen=True, slots=True)
class _Fleet:
    """What Compute's two lists had: everything that carries this installation's label."""

    machines: dict[Place, Instance]
    disks: dict[Place, Disk]
    zones: dict[str, set[str]]  # of machines, by name
    disk_names: set[str]

    @classmethod
    def listed_by(cls, machines: Machines) -> "_Fleet":
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
    records: Records, machines: Machines, policy: Policy, budget: timedelta = TIME_BUDGET
) -> SweepReport:
    """Remove orphans, restore labels, have records adopt their machines, repair owners' records.

    Costs two lists of Compute's; a read of each record that anything in them is tied to; then a
    read of each record, and of each owner with a query of their workspaces. What differs is read
    again by itself and at its commit, so a change meanwhile is not taken for drift. One failure
    does not stop the rest. If time runs out, the next run continues where this one ended.

    Raises:
        UnavailableError: Compute's lists or the store do not answer. Nothing was decided on a
            partial list.
    """
    run = _Run(records, machines, policy, records.clock() + budget, SweepReport())
    fleet = _Fleet.listed_by(machines)
    run.remove_orphans(fleet)
    phase, _, token = (records.store.get_checkpoint(CHECKPOINT) or _RECORDS).partition(":")
    checkpoint = None
    if phase == _RECORDS:
        left_off = run.adopt_machines(fleet, token or None)
        checkpoint, token = (f"{_RECORDS}:{left_off}" if left_off else None), ""
    if checkpoint is None:
        left_off = run.repair_owners(token or None)
        checkpoint = f"{_OWNERS}:{left_off}" if left_off else None
    run.report.unfinished = checkpoint is not None
    records.store.set_checkpoint(CHECKPOINT, checkpoint)
    logs.info("FleetReconciled", **run.report.counts())
    return run.report


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, and where it writes down what it did."""

    records: Records
    machines: Machines
    policy: Policy
    ends_at: datetime
    report: SweepReport

    def carry_out(self, action: OrphanAction, owner_id: str = "") -> None:
        """Do what was decided about one resource, and record it. Failures do not stop the rest."""
        name, now = action.place.name, self.records.clock()
        try:
            if action.command is not None:
                # A new request id each time. With an earlier run's, Compute would answer with that
                # run's result and do nothing.
                self.machines.perform(action.command, str(uuid.uuid4()))
                event = Event(
                    at=now,
                    workspace_id=action.workspace_id,
                    owner_id=owner_id,
                    who=RECONCILER,
                    what=action.event,
                    result=action.reason,
                    request_id=logs.request_id.get(),
                )
                self.records.store.commit(events=[event])
        except (MachineFaultError, UnavailableError) as error:
            log_failure(
                "ResourceNotSeenTo", error, name=name, zone=action.place.zone, what=action.event
            )
            self.report.failed[name] = str(error)
            return
        logs.warning(
            action.event,
            name=name,
            zone=action.place.zone,
            workspace_id=action.workspace_id,
            reason=action.reason,
        )
        self.report.done.setdefault(action.event, []).append(name)

    def remove_orphans(self, fleet: _Fleet) -> None:
        """Stop and delete what nothing ties to a record; restore labels; report misplaced ones."""
        now = self.records.clock()
        read: dict[str, Workspace | None] = {}
        decided: list[OrphanAction] = []
        resources: list[Instance | Disk] = [*fleet.machines.values(), *fleet.disks.values()]
        for resource in resources:
            try:
                tied = [found for each in tied_to(resource) if (found := self._read(each, read))]
            except UnavailableError as error:
                logs.warning("RecordNotRead", name=resource.name, reason=str(error))
                continue
            action = _action_for(resource, tied, now, self.policy)
            if action is not None:
                decided.append(action)
        if orphans.too_many(decided, len(resources)):
            names = [action.place.name for action in decided][:50]
            logs.error("TooManyOrphans", found=len(decided), of=len(resources), names=names)
            self.report.failed["orphans"] = (
                f"{len(decided)} orphans are too many to be true: nothing was done. "
                "See the log, TooManyOrphans."
            )
            return
        for action in decided:
            record = read.get(action.workspace_id)
            self.carry_out(action, record.owner_id if record else "")

    def _read(self, workspace_id: str, read: dict[str, Workspace | None]) -> Workspace | None:
        """Return a record, read once in a run; after the lists, so that a new one is found."""
        if workspace_id not in read:
            read[workspace_id] = self.records.find(workspace_id)
        return read[workspace_id]

    def adopt_machines(self, fleet: _Fleet, token: str | None) -> str | None:
        """Have each record adopt its machine's state. If time runs out, return the next token."""
        while True:
            page = self.records.store.list_ids(PAGE, token)
            for workspace_id in page.records:
                self.report.looked_at += 1
                try:
                    self._adopt_machine(fleet, workspace_id)
                except Exception as error:  # noqa: BLE001 -- one workspace must not stop the rest
                    log_failure("SweepFailed", error, workspace_id=workspace_id)
                    self.report.failed[workspace_id] = str(error)
            token = page.next_token
            if token is None or self.records.clock() > self.ends_at:
                return token

    def _adopt_machine(self, fleet: _Fleet, workspace_id: str) -> None:
        """Have one record adopt its machine's state; restore the labels of what the lists lack."""
        record = self.records.find(workspace_id)
        if record is None:
            return
        place = Place(record.zone, record.instance_name)
        drifted = has_drifted(record, fleet.machines.get(place), self.records.clock())
        if not drifted and not fleet.has_moved(record):
            self._check_home(fleet, record)
            return
        instance = self.machines.get(place)
        if instance is not None and place not in fleet.machines and record.instance_id is not None:
            self.carry_out(orphans.label_again(record, instance), record.owner_id)
        now, changed = look(self.records, self.machines, self.policy, workspace_id)
        if changed:
            self.report.done.setdefault(now.status.value.lower(), []).append(workspace_id)
        self._check_home(fleet, now)

    def _check_home(self, fleet: _Fleet, record: Workspace) -> None:
        """Read a home disk that the list lacks: restore its label, or log that it is gone."""
        home = record.home_disk
        if home is None or record.operation is not None or home.name in fleet.disk_names:
            return
        disk = self.machines.get_disk(Place(home.zone, home.name))
        if disk is not None:
            self.carry_out(orphans.label_again(record, disk), record.owner_id)
            return
        now = self.records.find(record.id)
        if now is not None and now.home_disk == home and now.operation is None:
            logs.error("HomeDiskGone", workspace_id=record.id, name=home.name, zone=home.zone)
            self.report.done.setdefault("HomeDiskGone", []).append(record.id)

    def repair_owners(self, token: str | None) -> str | None:
        """Have each owner's record hold exactly the workspaces that exist; returns as above."""
        store, report = self.records.store, self.report
        while True:
            page = store.list_owner_ids(PAGE, token)
            for owner_id in page.records:
                try:
                    if _repair(store, owner_id):
                        logs.warning("OwnerRepaired", owner_id=owner_id)
                        report.done.setdefault("owner_repaired", []).append(owner_id)
                except ConflictError:
                    continue  # the owner changes it right now: the next run looks again
                except Exception as error:  # noqa: BLE001 -- as above
                    log_failure("SweepFailed", error, owner_id=owner_id)
                    report.failed[owner_id] = str(error)
            token = page.next_token
            if token is None or self.records.clock() > self.ends_at:
                return token


def _action_for(
    resource: Instance | Disk, records: list[Workspace], now: datetime, policy: Policy
) -> OrphanAction | None:
    if not records:
        return (
            orphans.act_on_machine(resource, now, policy)
            if isinstance(resource, Instance)
            else orphans.act_on_disk(resource, now, policy)
        )
    owner = next((record for record in records if record.id == workspace_id_of(resource)), None)
    return (
        orphans.act_on_owned(owner, resource)
        if owner
        else orphans.report_tied(records[0], resource)
    )


def _repair(store: WorkspaceStore, owner_id: str) -> bool:
    """Compare an owner's record, read first, with their workspaces.

    Whoever adds or removes a workspace writes the owner's record too, so a change meanwhile is a
    conflict.
    """
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
