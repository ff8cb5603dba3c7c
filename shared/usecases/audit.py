"""The audit trail beside the changes: refusals, and what administrators read.

A change writes its own events, in its own commit.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared import logs
from shared.domain.access import Actor
from shared.domain.errors import UnavailableError, WorkspaceNotFoundError
from shared.domain.events import SEVERAL, STRANGERS, Event, read_event, refusal_event
from shared.domain.looks import Looks, with_counts
from shared.domain.refusals import Budget, Refusals
from shared.domain.workspace import Workspace
from shared.ports import Clock, WorkspaceStore

LONGEST_RECORDED_ID = 64
# Pairs of a caller whom the Hub serves and a kind of refusal that are counted apart.
MOST_CALLERS = 1000
MOST_STRANGERS = 200
STRANGERS_PER_MINUTE = 10  # events of all strangers together that one instance writes
MOST_READS = 1000
MOST_IN_LAST_COMMIT = 200


class AuditTrail:
    """Records refusals, and what administrators read. One per process; thread-safe.

    The first refusal of a caller and kind is written at once. Further ones are counted in memory
    for five minutes. Strangers together have a budget. The first look of an administrator at
    something is written before it is answered, and the same ones are counted for ten minutes. A
    process that is killed loses its counts, and nothing else. While the database is away, refusals
    are counted and written later. After a commit whose answer was lost, a count may be too high.
    """

    def __init__(self, store: WorkspaceStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()  # never held during a call of the store
        self._served = Refusals(MOST_CALLERS, SEVERAL)
        self._strangers = Refusals(MOST_STRANGERS, STRANGERS, Budget(STRANGERS_PER_MINUTE))
        self._looks = Looks(MOST_READS)

    def record_refusal(self, actor: Actor, workspace_id: str, owner_id: str, what: str) -> None:
        """Record that somebody whom the Hub serves may not do something. Never raises.

        At most one commit; none for a refusal that is only counted. The log has every refusal.
        """
        event = refusal_event(
            actor, workspace_id[:LONGEST_RECORDED_ID], owner_id, what, self._clock()
        )
        logs.info("RequestRefused", who=event.who, what=what, workspace_id=event.workspace_id)
        self._write(self._served, event)

    def record_stranger(self, actor: Actor, workspace_id: str, owner_id: str, what: str) -> None:
        """Record a refusal of somebody whom the Hub does not serve, within the budget."""
        self._write(
            self._strangers,
            refusal_event(actor, workspace_id[:LONGEST_RECORDED_ID], owner_id, what, self._clock()),
        )

    @contextmanager
    def refusals(
        self, actor: Actor, workspace_id: str, workspace: Workspace | None, what: str
    ) -> Iterator[None]:
        """Record a refusal if the block raises WorkspaceNotFoundError.

        ``workspace`` is the record that was found, or None. The work is the same for a workspace
        that does not exist and for one that belongs to somebody else.
        """
        try:
            yield
        except WorkspaceNotFoundError:
            owner_id = workspace.owner_id if workspace else ""
            self.record_refusal(actor, workspace_id, owner_id, what)
            raise

    def record_read(self, actor: Actor, workspace_id: str, owner_id: str, what: str) -> None:
        """Record that an administrator reads what belongs to somebody else, before the answer.

        The same read is counted for ten minutes; two first ones at the same time may both be
        recorded. Nothing is recorded of anybody else.

        Raises:
            UnavailableError: it cannot be recorded, so the read must be refused.
        """
        if not actor.acts_as_admin(owner_id):
            return
        now = self._clock()
        look = read_event(actor, workspace_id, owner_id, what, now)
        with self._lock:
            if self._looks.count(look, now):
                return
            counts = self._looks.take(look, now)
        try:
            self._store.commit(events=with_counts(look, counts))
        except Exception:
            with self._lock:
                self._looks.put_back(counts)
            raise
        with self._lock:
            self._looks.written(look, now)

    def write_counted(self) -> None:
        """Write all counts, at the end of the process. Stops at the first commit that fails."""
        with self._lock:
            waiting = [
                *self._served.take_all(),
                *self._strangers.take_all(),
                *self._looks.take_all(),
            ]
        while waiting:
            try:
                self._store.commit(events=waiting[:MOST_IN_LAST_COMMIT])
            except UnavailableError as error:
                logs.warning(
                    "RefusalsLost", times=sum(event.times for event in waiting), reason=str(error)
                )
                return
            del waiting[:MOST_IN_LAST_COMMIT]

    def _write(self, refusals: Refusals, event: Event) -> None:
        """Count a refusal, and write what is to be written now."""
        with self._lock:
            events = refusals.add(event, event.at)
        if not events:
            return
        try:
            self._store.commit(events=events)
        except UnavailableError as error:
            with self._lock:
                refusals.put_back(events, event.at)
            times = sum(each.times for each in events)
            logs.warning("EventNotRecorded", what=event.what, times=times, reason=str(error))
