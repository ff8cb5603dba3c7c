"""The audit trail beside the changes: refusals, and what administrators read.

A change writes its own events, in its own commit.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from shared import logs
from shared.domain.access import Actor
from shared.domain.errors import UnavailableError, WorkspaceNotFoundError
from shared.domain.events import SEVERAL, STRANGERS, Event, read_event, refusal_event
from shared.domain.refusals import Budget, Refusals
from shared.domain.workspace import Workspace
from shared.ports import Clock, WorkspaceStore

LONGEST_RECORDED_ID = 64
MOST_CALLERS = (
    1000  # people whom the Hub serves, and kinds of what they were refused, that are told apart
)
MOST_STRANGERS = 200
STRANGERS_PER_MINUTE = 10  # events that one instance writes of all strangers together
LOOK_NOTED_EVERY = timedelta(minutes=10)
MOST_LOOKS = 1000
MOST_IN_LAST_COMMIT = 200


class AuditTrail:
    """Notes who was refused and what administrators look at. One for each process; safe to use from many threads.

    The first refusal of a caller and kind is written at once, further ones are counted in memory
    for five minutes; strangers together have a budget. A process that is killed loses what it has
    counted, and nothing else. Nothing is lost while the database is away: what it does not take is
    counted too, and written later. After a commit whose answer was lost, a count may be too high.
    """

    def __init__(self, store: WorkspaceStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()  # never held during a call of the store
        self._served = Refusals(MOST_CALLERS, SEVERAL)
        self._strangers = Refusals(MOST_STRANGERS, STRANGERS, Budget(STRANGERS_PER_MINUTE))
        self._looks: OrderedDict[tuple[str, str, str, str], datetime] = OrderedDict()

    def record_refusal(self, actor: Actor, workspace_id: str, owner_id: str, what: str) -> None:
        """Note that somebody whom the Hub serves was refused for want of permission. The refusal stands whatever comes of it.

        At most one commit; none for what is only counted. The log has each of them.
        """
        event = refusal_event(
            actor, workspace_id[:LONGEST_RECORDED_ID], owner_id, what, self._clock()
        )
        logs.info("RequestRefused", who=event.who, what=what, workspace_id=event.workspace_id)
        self._note(self._served, event)

    def record_stranger(self, actor: Actor, workspace_id: str, owner_id: str, what: str) -> None:
        """Note that somebody was refused who has proved who they are, and is nobody to the Hub. As above, within the budget."""
        self._note(
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
        """Note an administrator's look at what is not theirs, before they are answered; of anybody else's nothing is noted.

        The same look again within ten minutes is not noted again. Two at the same time may both be.

        Raises:
            UnavailableError: it cannot be noted, so there is no look.
        """
        if not actor.acts_as_admin(owner_id):
            return
        now = self._clock()
        look = (actor.id, workspace_id, "" if workspace_id else owner_id, what)
        with self._lock:
            noted_at = self._looks.get(look)
        if noted_at is not None and timedelta() <= now - noted_at < LOOK_NOTED_EVERY:
            return
        self._store.commit(events=[read_event(actor, workspace_id, owner_id, what, now)])
        with self._lock:
            self._looks[look] = now
            self._looks.move_to_end(look)
            if len(self._looks) > MOST_LOOKS:
                self._looks.popitem(last=False)

    def write_counted(self) -> None:
        """Write all that is only counted so far: for the end of the process. Gives up at the first commit that fails."""
        with self._lock:
            waiting = [*self._served.take_all(), *self._strangers.take_all()]
        while waiting:
            try:
                self._store.commit(events=waiting[:MOST_IN_LAST_COMMIT])
            except UnavailableError as error:
                logs.warning(
                    "RefusalsLost", times=sum(event.times for event in waiting), reason=str(error)
                )
                return
            del waiting[:MOST_IN_LAST_COMMIT]

    def _note(self, refusals: Refusals, event: Event) -> None:
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
