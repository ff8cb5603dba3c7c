"""Compare the snapshots that are recorded with those that there are in Compute Engine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared import logs
from shared.domain import orphans
from shared.domain.errors import ConflictError, UnavailableError
from shared.domain.events import snapshot_event
from shared.domain.forks import waiting_for
from shared.domain.instance import DiskSnapshot, SnapshotStatus
from shared.domain.orphans import OrphanAction
from shared.domain.ownership import lacks_labels, workspace_of_snapshot
from shared.domain.policy import Policy
from shared.domain.snapshots import (
    SeenSnapshot,
    Snapshot,
    SnapshotState,
    SnapshotUpdated,
    delete,
    follow,
    is_of_disk,
)
from shared.ports import Machines, Stored, Unreadable
from shared.usecases.owned import owned_by
from shared.usecases.records import Records, log_snapshot
from shared.usecases.sweeping import SweepReport, id_of, log_failure, ring

SNAPSHOTS = "fleet-snapshots"  # the name under which the store keeps how far a run came
# In these states a snapshot must be in Compute. What becomes of it in the others, its jobs see to.
_KEPT = {SnapshotState.READY, SnapshotState.UPLOADING}


@dataclass(slots=True)
class SnapshotsInCompute:
    """One comparison. ``carry_out`` does an action for an owner and reports it.

    What is recorded as READY and is gone, or has failed, becomes FAILED. What is recorded of a
    workspace that neither exists nor can be taken back begins to be deleted: a version that does
    not know snapshots has forgotten it. Lost labels are restored. What the Hub has made and no
    record has is deleted after the grace time. Before anything is changed, it is read again by
    itself.
    """

    records: Records
    machines: Machines
    policy: Policy
    report: SweepReport
    carry_out: Callable[[OrphanAction, str], None]
    _listed: dict[str, DiskSnapshot] = field(default_factory=dict)
    _unknown: dict[str, DiskSnapshot] = field(default_factory=dict)  # that no record has, so far
    # The workspaces of the records read last that exist or can be taken back.
    _existing: set[str] = field(default_factory=set)

    def compare(self, batch: int, until: datetime) -> None:
        """Go round all records, ``batch`` at once, from where the last run stopped.

        Only a run that gets round knows what no record has.

        Raises:
            UnavailableError: the list or the store does not answer, or not by ``until``. Nothing
                was decided on a partial list.
        """
        store, listed_at = self.records.store, self.records.clock()
        self._list(until)
        reached = start = store.get_checkpoint(SNAPSHOTS)
        got_round = False
        try:
            for entry in self._entries(start, batch):
                self._look_at(entry, listed_at)
                reached = entry.id if isinstance(entry, Unreadable) else entry.record.id
                if self.records.clock() > until:
                    break
            else:
                reached, got_round = None, True
        finally:
            if reached != start:
                store.set_checkpoint(SNAPSHOTS, reached)
        if got_round:
            self._see_to_unknown(until)
        else:
            self.report.unfinished = True

    def _list(self, until: datetime) -> None:
        for each in self.machines.list_snapshots():
            if self.records.clock() > until:
                raise UnavailableError("Compute Engine's list took longer than a run may take.")
            self._listed[each.name] = each
        self._unknown = dict(self._listed)

    def _entries(self, start: str | None, batch: int) -> Iterator[Stored[Snapshot] | Unreadable]:
        store = self.records.store
        for stretch in ring(store.list_snapshots_by_id, start, batch):
            entries = [each for each in stretch.records if isinstance(each, Stored)]
            of = {each.record.workspace_id for each in entries}
            self._existing = {id_of(each) for each in store.get_many(sorted(of))} if of else set()
            deleted = sorted(of - self._existing)
            if deleted:
                self._existing |= {id_of(each) for each in store.get_many_deleted(deleted)}
            yield from stretch.records

    # ---- what is recorded ----

    def _look_at(self, entry: Stored[Snapshot] | Unreadable, listed_at: datetime) -> None:
        """Compare one record. What fails is reported, and stops nothing else."""
        if isinstance(entry, Unreadable):
            logs.warning("SweepFailed", snapshot_id=entry.id, reason=entry.reason)
            self.report.failed[entry.id] = entry.reason
            for name in [each for each in self._unknown if _has(entry, each)]:
                del self._unknown[name]
            return
        snapshot = entry.record
        self._unknown.pop(snapshot.place.name, None)
        try:
            if snapshot.workspace_id not in self._existing and self._abandon(snapshot.id):
                return
            if snapshot.state not in _KEPT:
                return
            self._compare(snapshot, listed_at)
        except ConflictError:
            return  # it changes right now: the next run looks again
        except Exception as error:  # noqa: BLE001 -- one snapshot must not stop the rest
            log_failure("SweepFailed", error, snapshot_id=snapshot.id)
            self.report.failed[snapshot.id] = str(error)

    def _compare(self, snapshot: Snapshot, listed_at: datetime) -> None:
        name = snapshot.place.name
        listed = self._listed.get(name)
        found = listed or self.machines.get_snapshot(name)
        if found is None or _is_useless(snapshot, found):
            self._lose(snapshot.id)
            return
        unlisted = listed is None and found.created_at < listed_at
        if unlisted or lacks_labels(snapshot.workspace_id, snapshot.owner_id, found.labels):
            self.carry_out(orphans.label_snapshot_again(snapshot), snapshot.owner_id)

    def _abandon(self, snapshot_id: str) -> bool:
        """Begin to delete a snapshot whose workspace does not exist, unless a fork waits for it.

        Returns whether it begins. A fork's commit writes the snapshot's record, too.
        """
        store, now = self.records.store, self.records.clock()
        stored = store.get_snapshot(snapshot_id)
        change = delete(stored.record, logs.request_id.get(), now, self.policy) if stored else None
        if stored is None or change is None:
            return False
        of = stored.record
        if self._may_come_back(of.workspace_id):
            return False
        if waiting_for(snapshot_id, owned_by(store, of.owner_id)):
            return False
        why = "Its workspace does not exist any more."
        event = snapshot_event(change.snapshot, change.event, why, now)
        store.commit(snapshots=[(stored, change.snapshot)], events=[event])
        log_snapshot(change.snapshot, change.event)
        self.records.send_later(change.job)
        self.report.done.setdefault("SnapshotAbandoned", []).append(snapshot_id)
        return True

    def _may_come_back(self, workspace_id: str) -> bool:
        """Say whether a workspace exists, or can be taken back.

        It is looked for before its entry and after: it may be deleted between two reads, or taken
        back, but not both.
        """
        store = self.records.store
        return (
            store.get(workspace_id) is not None
            or store.get_deleted(workspace_id) is not None
            or store.get(workspace_id) is not None
        )

    def _lose(self, snapshot_id: str) -> None:
        """Record that a READY snapshot is gone, or has failed, if it is still recorded as READY."""
        store, now = self.records.store, self.records.clock()
        stored = store.get_snapshot(snapshot_id)
        if stored is None or stored.record.state is not SnapshotState.READY:
            return
        found = self.machines.get_snapshot(stored.record.place.name)
        if found is not None and not _is_useless(stored.record, found):
            return
        change = follow(stored.record, SeenSnapshot(there=found), now, self.policy)
        if not isinstance(change, SnapshotUpdated):
            return
        failed, what = change.snapshot, change.event
        result = failed.error.code if failed.error else failed.state.value
        event = snapshot_event(failed, what, result, now)
        store.commit(snapshots=[(stored, failed)], events=[event])
        logs.warning(what, workspace_id=failed.workspace_id, snapshot_id=snapshot_id)
        self.report.done.setdefault(what, []).append(snapshot_id)

    # ---- what no record has ----

    def _see_to_unknown(self, until: datetime) -> None:
        """Decide about what no record has, and do it, as far as time allows."""
        now = self.records.clock()
        decided = [
            (snapshot, action)
            for _, snapshot in sorted(self._unknown.items())
            if (action := orphans.act_on_snapshot(snapshot, now, self.policy))
        ]
        if self._too_many(decided):
            # Many may have been deleted with their records since the list.
            decided = [each for each in decided if self._is_still_so(*each, until)]
        if self._too_many(decided):
            names = [action.place.name for _, action in decided][:50]
            logs.error("TooManyOrphans", found=len(decided), of=len(self._listed), names=names)
            self.report.failed["snapshots"] = (
                f"{len(decided)} snapshots without a record are too many to be true: nothing was "
                "done. See the log, TooManyOrphans."
            )
            return
        for number, (snapshot, action) in enumerate(decided):
            if number and self.records.clock() > until:
                self.report.unfinished = True
                return
            if self._is_still_so(snapshot, action, None):
                self.carry_out(action, "")

    def _too_many(self, decided: Sequence[tuple[DiskSnapshot, OrphanAction]]) -> bool:
        return orphans.too_many([action for _, action in decided], len(self._listed))

    def _is_still_so(
        self, snapshot: DiskSnapshot, action: OrphanAction, until: datetime | None
    ) -> bool:
        """Say whether a snapshot is there, and neither a record nor an operation has it.

        After ``until`` nothing is read any more: it is taken to be as it was.
        """
        if action.command is None or (until is not None and self.records.clock() > until):
            return True
        try:
            found = self.machines.get_snapshot(snapshot.name)
            return found is not None and not self._has_record(snapshot.name)
        except UnavailableError as error:
            log_failure("ResourceNotSeenTo", error, name=snapshot.name, what=action.event)
            self.report.failed[snapshot.name] = str(error)
            return False

    def _has_record(self, name: str) -> bool:
        workspace_id = workspace_of_snapshot(name)
        if workspace_id is None:
            return False
        store = self.records.store
        workspace = store.get(workspace_id)
        operation = workspace.record.operation if workspace else None
        if operation is not None and name.endswith(operation.id[-12:]):
            return True
        return any(
            _has(each, name) if isinstance(each, Unreadable) else each.record.place.name == name
            for each in store.list_snapshots(workspace_id)
        )


def _is_useless(snapshot: Snapshot, found: DiskSnapshot) -> bool:
    """Say whether what there is cannot be used: it has failed, or another disk's has the name."""
    return found.status is SnapshotStatus.FAILED or not is_of_disk(found, snapshot.disk_name)


def _has(unreadable: Unreadable, name: str) -> bool:
    """Say whether a record that cannot be read may be that of a snapshot of this name."""
    return name.endswith(unreadable.id[-12:])
