"""Compare what is recorded with what there is: machines, disks, snapshots, what owners hold."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared import logs
from shared.domain import orphans
from shared.domain.drift import has_drifted
from shared.domain.errors import (
    ConflictError,
    MachineFaultError,
    UnavailableError,
    WorkspaceNotFoundError,
)
from shared.domain.events import Event
from shared.domain.instance import Instance, Place
from shared.domain.lifecycle import sweep_again
from shared.domain.machine_access import is_due
from shared.domain.old_homes import (
    OldHomeFate,
    SeenOldHome,
    fate_of,
    with_deleting,
    without_old_homes,
)
from shared.domain.orphans import OrphanAction
from shared.domain.owner_limits import holdings
from shared.domain.ownership import tied_to, workspace_id_of
from shared.domain.policy import Policy
from shared.domain.workspace import NO_NAME, OldHome, OwnedWorkspace, Owner, Workspace
from shared.ports import Machines, Stored, Unreadable, WorkspaceStore
from shared.usecases.advance_operation import look
from shared.usecases.fleet import Fleet, Resource
from shared.usecases.owned import owned_by
from shared.usecases.records import Records
from shared.usecases.snapshots_in_compute import SnapshotsInCompute
from shared.usecases.sweeping import (
    PAUSE_SECONDS,
    Pause,
    Stretch,
    SweepReport,
    id_of,
    log_failure,
    ring,
)

BATCH = 300  # records that are read at once: about a megabyte
TIME_BUDGET = timedelta(seconds=780)  # of the 900 that the catalogue gives the function
# The parts of the time by whose end each phase stops. What one leaves, the next may use.
LISTS_UNTIL, LOOKS_UNTIL, ORPHANS_UNTIL, SNAPSHOTS_UNTIL = 0.5, 0.7, 0.8, 0.9
RECONCILER = "reconcile"
# What is logged every hour of an old home that only a person can see to.
_LEFT_TO_A_PERSON = {OldHomeFate.LEFT: "OldHomeLeft", OldHomeFate.USED: "OldHomeUsed"}
# The names under which the store keeps how far a run came: the last id that was done.
WORKSPACES, OWNERS = "fleet-workspaces", "fleet-owners"

Held = dict[str, dict[str, OwnedWorkspace]]  # by owner and workspace


def reconcile_fleet(
    records: Records,
    machines: Machines,
    policy: Policy,
    budget: timedelta = TIME_BUDGET,
    pause: Pause = time.sleep,
) -> SweepReport:
    """Remove orphans, restore labels, have records adopt their machines, repair owners' records.

    The phases are Compute's two lists; the workspaces, in the order of their ids, each with what
    the lists have of it; what was decided about orphans and labels; the snapshots, with a list of
    their own (``SnapshotsInCompute``); and the owners. Each has a part of the time, and each but
    the lists goes on in the next run where it was cut off. So every phase advances in every run. A
    run goes round: from where the last one stopped to the end, and from the beginning to there. If
    it gets round, each record was read once, and only owners whose record differs from what was
    read are read again with their workspaces.

    What differs is read again by itself and at its commit, so a change meanwhile is not taken for
    drift, and two runs at once only do the same twice. One failure does not stop the rest. After
    each call that changes something there is a ``pause``: when a zone fails, thousands of machines
    differ at once, and people's operations need Compute too.

    Each record's ``sweep_at`` is put right, too: versions that do not know it drop it, and another
    configuration moves it. That does not depend on Compute.

    Raises:
        UnavailableError: Compute's lists or the store do not answer. Nothing was decided on a
            partial list. Owners' records were repaired, if the store answered.
    """
    began = records.clock()
    run = _Run(records, machines, policy, pause, SweepReport())
    away: UnavailableError | None = None
    try:
        fleet = Fleet.listed_by(machines, records.clock, began + budget * LISTS_UNTIL)
    except UnavailableError as error:
        away = error
        run.time_sweeps(began + budget * ORPHANS_UNTIL)
    else:
        try:
            run.see_to_workspaces(
                fleet, began + budget * LOOKS_UNTIL, began + budget * ORPHANS_UNTIL
            )
            del fleet  # the snapshots take as much memory
            run.see_to_snapshots(began + budget * SNAPSHOTS_UNTIL)
        except UnavailableError as error:
            away = error
    run.see_to_owners(began + budget)
    if away is not None:
        raise away
    logs.info("FleetReconciled", **run.report.counts())
    return run.report


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is to be done about a resource, and the records that it is tied to.

    ``after`` is the place from which it is found again.
    """

    action: OrphanAction
    resource: Resource
    records: Sequence[Workspace]
    after: str | None

    @property
    def owner_id(self) -> str:
        """The owner of the action's workspace; empty if it has no record."""
        owners = {each.id: each.owner_id for each in self.records}
        return owners.get(self.action.workspace_id, "")


@dataclass(slots=True)
class _Run:
    """One run, and what it has found and done."""

    records: Records
    machines: Machines
    policy: Policy
    pause: Pause
    report: SweepReport
    decided: list[_Decided] = field(default_factory=list)
    resources_seen: int = 0
    held: Held = field(default_factory=dict)
    got_round: bool = False

    # ---- workspaces ----

    def see_to_workspaces(self, fleet: Fleet, looks_until: datetime, until: datetime) -> None:
        """Look at each workspace and its resources; then do what was decided about these.

        Raises:
            UnavailableError: the store does not answer. What had been decided is done.
        """
        store = self.records.store
        reached = start = store.get_checkpoint(WORKSPACES)
        away: UnavailableError | None = None
        try:
            for each in self._looks(fleet, start):
                reached = each
                if self.records.clock() > looks_until:
                    break
            else:
                reached, self.got_round = None, True
        except UnavailableError as error:
            away = error
        begin_at = self._act(until)
        if begin_at is not None:
            reached = begin_at.after
        store.set_checkpoint(WORKSPACES, reached)
        self.report.unfinished |= not self.got_round or begin_at is not None
        if away is not None:
            raise away

    def time_sweeps(self, until: datetime) -> None:
        """Only put right when the clean-up must read each record: Compute's lists do not answer.

        If the store does not answer either, nothing more is done.
        """
        store = self.records.store
        try:
            for stretch in ring(
                store.list_workspaces_by_id, store.get_checkpoint(WORKSPACES), BATCH
            ):
                for entry in stretch.records:
                    if self.records.clock() > until:
                        return
                    if isinstance(entry, Stored):
                        self._for_record(entry.record, self._time_sweep)
        except UnavailableError as error:
            log_failure("SweepFailed", error)

    def _looks(self, fleet: Fleet, start: str | None) -> Iterator[str]:
        """Look at one id after the other, and yield each when it is done."""
        for stretch in ring(self.records.store.list_workspaces_by_id, start, BATCH):
            keys = fleet.keys_in(stretch.after, stretch.upto)
            known = {id_of(each): each for each in stretch.records}
            known |= self._tied_elsewhere(fleet, keys, stretch)
            ids = sorted({*keys, *(id_of(each) for each in stretch.records)})
            after = stretch.after
            for each in ids:
                self._look_at(fleet, each, known, after)
                after = each
                yield each

    def _tied_elsewhere(
        self, fleet: Fleet, keys: Sequence[str], stretch: Stretch[Workspace]
    ) -> dict[str, Stored[Workspace] | Unreadable]:
        """Return the records outside a stretch to which resources in it are tied. Usually none."""
        ids = sorted(
            each
            for key in keys
            for resource in fleet.resources[key]
            for each in tied_to(resource)
            if not _is_within(each, stretch)
        )
        found: dict[str, Stored[Workspace] | Unreadable] = {}
        for first in range(0, len(ids), BATCH):
            batch = self.records.store.get_many(ids[first : first + BATCH])
            found.update({id_of(each): each for each in batch})
        return found

    def _look_at(
        self,
        fleet: Fleet,
        workspace_id: str,
        known: Mapping[str, Stored[Workspace] | Unreadable],
        after: str | None,
    ) -> None:
        """Decide about what the lists have of a workspace; have its record adopt its machine."""
        now = self.records.clock()
        for resource in fleet.resources.get(workspace_id, ()):
            self.resources_seen += 1
            tied = [found for each in tied_to(resource) if (found := known.get(each))]
            records = [each.record for each in tied if isinstance(each, Stored)]
            if len(records) < len(tied):
                logs.warning("RecordNotRead", name=resource.name, workspace_id=workspace_id)
                continue
            action = _action_for(resource, records, now, self.policy)
            if action is not None:
                self.decided.append(_Decided(action, resource, records, after))
        entry = known.get(workspace_id)
        if entry is None:
            return
        self.report.looked_at += 1
        if isinstance(entry, Unreadable):
            logs.warning("SweepFailed", workspace_id=workspace_id, reason=entry.reason)
            self.report.failed[workspace_id] = entry.reason
            return
        record = entry.record
        name = NO_NAME if record.is_being_deleted else record.name
        held = OwnedWorkspace(name, record.counts_as_running)
        self.held.setdefault(record.owner_id, {})[record.id] = held
        self._for_record(record, lambda record: self._adopt_machine(fleet, record))
        self._for_record(record, self._see_to_old_homes)
        # Whatever Compute answers; and last, because a version that drops it may write meanwhile.
        self._for_record(record, self._time_sweep)

    def _for_record(self, record: Workspace, do: Callable[[Workspace], None]) -> None:
        """Do something about one record. What fails is reported, and stops nothing else."""
        try:
            do(record)
        except WorkspaceNotFoundError:
            return  # deleted since it was read
        except Exception as error:  # noqa: BLE001 -- one workspace must not stop the rest
            log_failure("SweepFailed", error, workspace_id=record.id)
            self.report.failed[record.id] = str(error)

    def _adopt_machine(self, fleet: Fleet, record: Workspace) -> None:
        """Have one record adopt its machine's state, and its owner let in to the machine.

        The labels of what the lists lack are restored.
        """
        place = Place(record.zone, record.instance_name)
        listed, at = fleet.machine_at(place), self.records.clock()
        drifted = has_drifted(record, listed, at) or fleet.has_moved(record)
        if not drifted and (record.operation is not None or not is_due(record, at)):
            self._check_home(fleet, record)
            return
        unlisted = self.machines.get(place) if listed is None else None
        if unlisted is not None and record.instance_id is not None:
            self._label_again(fleet, record, unlisted)
        now, changed = look(self.records, self.machines, self.policy, record.id)
        if changed:
            self.report.done.setdefault(now.status.value.lower(), []).append(record.id)
        self._check_home(fleet, now)
        self.pause(PAUSE_SECONDS)

    def _see_to_old_homes(self, record: Workspace) -> None:
        """Delete the disks that were a workspace's home, and forget those that are gone."""
        if not record.old_homes or record.operation is not None:
            return
        gone = [old for old in record.old_homes if self._see_to_old_home(record, old)]
        if gone:
            self.records.change(
                record.id, lambda now: without_old_homes(now, gone, self.records.clock())
            )

    def _see_to_old_home(self, record: Workspace, old: OldHome) -> bool:
        """Delete one disk if it may go. Returns whether it is gone already."""
        place = Place(old.zone, old.name)
        disk = self.machines.get_disk(place)
        stored = self.records.store.get_snapshot(old.snapshot_id) if old.snapshot_id else None
        snapshot = stored.record if stored else None
        there = self.machines.get_snapshot(snapshot.place.name) if disk and snapshot else None
        at = Place(old.zone, record.instance_name)
        machine = self.machines.get(at) if old.instance_id or (disk and disk.in_use) else None
        seen = SeenOldHome(disk=disk, machine=machine, snapshot=snapshot, there=there)
        fate = fate_of(record, old, seen, self.records.clock())
        if event := _LEFT_TO_A_PERSON.get(fate):
            logs.warning(event, workspace_id=record.id, name=old.name, zone=old.zone)
            self.report.done.setdefault(event, []).append(record.id)
        if fate is OldHomeFate.MACHINE_GOES:
            # First, so that a run that dies in between does not take its end for somebody's use.
            self.records.change(
                record.id, lambda now: with_deleting(now, old, self.records.clock())
            )
            self._carry_out(orphans.delete_old_machine(record, old), record.owner_id)
        if fate is OldHomeFate.GOES:
            self._carry_out(orphans.delete_old_home(record, old), record.owner_id)
        return fate is OldHomeFate.FORGOTTEN

    def _time_sweep(self, record: Workspace) -> None:
        """Put right when the clean-up must read a record. Compute is not asked, so no pause."""
        if sweep_again(record, self.policy) is None:
            return
        _, changed = self.records.change(record.id, lambda now: sweep_again(now, self.policy))
        if changed:
            self.report.done.setdefault("sweep_timed", []).append(record.id)

    def _check_home(self, fleet: Fleet, record: Workspace) -> None:
        """Read a home disk that the list lacks: restore its label, or log that it is gone."""
        home = record.home_disk
        if home is None or record.operation is not None or fleet.has_disk(home.name):
            return
        disk = self.machines.get_disk(Place(home.zone, home.name))
        if disk is not None:
            self._label_again(fleet, record, disk)
            return
        now = self.records.find(record.id)
        if now is not None and now.home_disk == home and now.operation is None:
            logs.error("HomeDiskGone", workspace_id=record.id, name=home.name, zone=home.zone)
            self.report.done.setdefault("HomeDiskGone", []).append(record.id)
        self.pause(PAUSE_SECONDS)

    def _label_again(self, fleet: Fleet, record: Workspace, resource: Resource) -> None:
        """Restore the labels of what the lists lack, unless it was made after them."""
        if not fleet.is_younger(resource):
            self._carry_out(orphans.label_again(record, resource), record.owner_id)

    # ---- what was decided ----

    def _act(self, until: datetime) -> _Decided | None:
        """Do what was decided. If time runs out, return the first that is not done."""
        decided: Sequence[_Decided] = self.decided
        if self._too_many(decided):
            decided = self._left_of(decided, until)
        if self._too_many(decided):
            names = [each.action.place.name for each in decided][:50]
            logs.error("TooManyOrphans", found=len(decided), of=self.resources_seen, names=names)
            self.report.failed["orphans"] = (
                f"{len(decided)} orphans are too many to be true: nothing was done. "
                "See the log, TooManyOrphans."
            )
            return None
        for number, each in enumerate(decided):
            if number and self.records.clock() > until:
                return each
            self._see_to(each)
        return None

    def _too_many(self, decided: Sequence[_Decided]) -> bool:
        return orphans.too_many([each.action for each in decided], self.resources_seen)

    def _left_of(self, decided: Sequence[_Decided], until: datetime) -> Sequence[_Decided]:
        """Leave out what need not be done any more, until time or the hope of enough runs out.

        Many workspaces may have been deleted with their machines since the lists.
        """
        left: list[_Decided] = []
        for number, each in enumerate(decided):
            if self.records.clock() > until or self._too_many(left):
                return [*left, *decided[number:]]
            try:
                if self._is_still_so(each):
                    left.append(each)
            except UnavailableError:
                left.append(each)
        return left

    def _is_still_so(self, decided: _Decided) -> bool:
        """Read a resource again that is to be changed; say whether the same would be decided on it.

        The lists may be minutes old: it may have been started or deleted meanwhile.
        """
        action, listed = decided.action, decided.resource
        if action.command is None and not action.ends_access:
            return True
        if isinstance(listed, Instance):
            found: Resource | None = self.machines.get(action.place)
        else:
            found = self.machines.get_disk(action.place)
        if found is None or tied_to(found) != tied_to(listed):
            return False
        now = _action_for(found, decided.records, self.records.clock(), self.policy)
        return now is not None and type(now.command) is type(action.command)

    def _see_to(self, decided: _Decided) -> None:
        """Do what was decided from the lists, if the same would be decided now."""
        try:
            is_still_so = self._is_still_so(decided)
        except UnavailableError as error:
            self._report_failure(decided.action, error)
            return
        if is_still_so:
            self._carry_out(decided.action, decided.owner_id)
        if is_still_so and decided.action.ends_access:
            self._end_access(decided.action)

    def _end_access(self, action: OrphanAction) -> None:
        """Let nobody log in to an orphan any more. If that fails, the next run does it."""
        place = action.place
        try:
            ended = self.machines.revoke_logins(place)
            if not ended:
                return
            event = self._event_of(action, "AccessEnded", "", f"{ended} could log in")
            self.records.store.commit(events=[event])
        except (MachineFaultError, UnavailableError) as error:
            self._report_failure(replace(action, event="AccessEnded"), error)
            return
        logs.warning("AccessEnded", name=place.name, zone=place.zone, members=ended)
        self.report.done.setdefault("AccessEnded", []).append(place.name)

    def _event_of(self, action: OrphanAction, what: str, owner_id: str, result: str) -> Event:
        return Event(
            at=self.records.clock(),
            workspace_id=action.workspace_id,
            owner_id=owner_id,
            who=RECONCILER,
            what=what,
            result=result,
            request_id=logs.request_id.get(),
        )

    def _carry_out(self, action: OrphanAction, owner_id: str) -> None:
        """Do what was decided about one resource, and record it. Failures do not stop the rest."""
        name = action.place.name
        try:
            if action.command is not None:
                # A new request id each time. With an earlier run's, Compute would answer with that
                # run's result and do nothing.
                self.pause(PAUSE_SECONDS)
                self.machines.perform(action.command, str(uuid.uuid4()))
                event = self._event_of(action, action.event, owner_id, action.reason)
                self.records.store.commit(events=[event])
        except (MachineFaultError, UnavailableError) as error:
            self._report_failure(action, error)
            return
        logs.warning(
            action.event,
            name=name,
            zone=action.place.zone,
            workspace_id=action.workspace_id,
            reason=action.reason,
        )
        self.report.done.setdefault(action.event, []).append(name)

    def _report_failure(self, action: OrphanAction, error: Exception) -> None:
        place = action.place
        log_failure("ResourceNotSeenTo", error, name=place.name, zone=place.zone, what=action.event)
        self.report.failed[place.name] = str(error)

    # ---- snapshots ----

    def see_to_snapshots(self, until: datetime) -> None:
        """Compare the recorded snapshots with those that there are.

        Raises:
            UnavailableError: Compute's list or the store does not answer, or not by ``until``.
        """
        snapshots = SnapshotsInCompute(
            self.records, self.machines, self.policy, self.report, self._carry_out
        )
        snapshots.compare(BATCH, until)

    # ---- owners ----

    def see_to_owners(self, until: datetime) -> None:
        """Have each owner's record hold exactly the workspaces that exist."""
        store = self.records.store
        reached = start = store.get_checkpoint(OWNERS)
        finished = False
        try:
            for each in self._owners(start):
                reached = each
                if self.records.clock() > until:
                    break
            else:
                reached, finished = None, True
        finally:
            store.set_checkpoint(OWNERS, reached)
            self.report.unfinished |= not finished

    def _owners(self, start: str | None) -> Iterator[str]:
        for stretch in ring(self.records.store.list_owners_by_id, start, BATCH):
            for entry in stretch.records:
                if not self._holds_what_was_read(entry):
                    self._repair(id_of(entry))
                yield id_of(entry)

    def _holds_what_was_read(self, entry: Stored[Owner] | Unreadable) -> bool:
        """Say whether an owner's record is as this run read the workspaces, all of them.

        One with a name less is looked at once more: ``holdings`` says whether that is right.
        """
        if isinstance(entry, Unreadable) or not self.got_round:
            return False
        return dict(entry.record.workspaces) == self.held.get(entry.record.id, {})

    def _repair(self, owner_id: str) -> None:
        try:
            if _repaired(self.records.store, owner_id):
                logs.warning("OwnerRepaired", owner_id=owner_id)
                self.report.done.setdefault("owner_repaired", []).append(owner_id)
        except ConflictError:
            return  # the owner changes it right now: the next run looks again
        except Exception as error:  # noqa: BLE001 -- one owner must not stop the rest
            log_failure("SweepFailed", error, owner_id=owner_id)
            self.report.failed[owner_id] = str(error)


def _is_within(workspace_id: str, stretch: Stretch[Workspace]) -> bool:
    above = stretch.after is None or workspace_id > stretch.after
    return above and (stretch.upto is None or workspace_id <= stretch.upto)


def _action_for(
    resource: Resource, records: Sequence[Workspace], now: datetime, policy: Policy
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


def _repaired(store: WorkspaceStore, owner_id: str) -> bool:
    """Compare an owner's record, read first, with their workspaces; say whether it was changed.

    Whoever adds or removes a workspace writes the owner's record too, so a change meanwhile is a
    conflict.
    """
    owner = store.get_owner(owner_id)
    held = holdings(owner.record, list(owned_by(store, owner_id, BATCH)))
    if held == dict(owner.record.workspaces):
        return False
    store.commit(owners=[(owner, replace(owner.record, workspaces=held))])
    return True
