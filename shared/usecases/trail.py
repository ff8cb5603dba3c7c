"""The audit trail: what is noted beside the changes, which note themselves in their own commits; and who may read it."""

import threading
from collections import OrderedDict
from datetime import datetime, timedelta

from shared import logs
from shared.domain.errors import NotAllowedError, UnavailableError, WorkspaceNotFoundError
from shared.domain.events import SEVERAL, STRANGERS, Event, looked, refused
from shared.domain.people import Actor
from shared.domain.refusals import Budget, Refusals
from shared.domain.workspace import Workspace
from shared.ports import Clock, Page, Stored, WorkspaceStore

LONGEST_RECORDED_ID = 64
MOST_CALLERS = (
    1000  # people whom the Hub serves, and kinds of what they were refused, that are told apart
)
MOST_STRANGERS = 200
STRANGERS_PER_MINUTE = 10  # events that one instance writes of all strangers together
LOOK_NOTED_EVERY = timedelta(minutes=10)
MOST_LOOKS = 1000
MOST_IN_LAST_COMMIT = 200


class Trail:
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
        event = refused(actor, workspace_id[:LONGEST_RECORDED_ID], owner_id, what, self._clock())
        logs.info("RequestRefused", who=event.who, what=what, workspace_id=event.workspace_id)
        self._note(self._served, event)

    def record_stranger(self, actor: Actor, workspace_id: str, owner_id: str, what: str) -> None:
        """Note that somebody was refused who has proved who they are, and is nobody to the Hub. As above, within the budget."""
        self._note(
            self._strangers,
            refused(actor, workspace_id[:LONGEST_RECORDED_ID], owner_id, what, self._clock()),
        )

    def not_there(
        self, actor: Actor, workspace_id: str, found: Stored[Workspace] | None, what: str
    ) -> WorkspaceNotFoundError:
        """Note that somebody asked for what is not theirs, or not there: the answer and the work are the same for both."""
        self.record_refusal(actor, workspace_id, found.record.owner_id if found else "", what)
        return WorkspaceNotFoundError(workspace_id)

    def record_look(self, actor: Actor, workspace_id: str, owner_id: str, what: str) -> None:
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
        self._store.commit(events=[looked(actor, workspace_id, owner_id, what, now)])
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


def list_workspace_events(
    store: WorkspaceStore,
    trail: Trail,
    actor: Actor,
    workspace_id: str,
    limit: int,
    token: str | None,
) -> Page[Event]:
    """Return what happened to a workspace, the latest first. An administrator reads the trail of one that is gone too.

    One read and one query; an administrator's costs the query, and the note that they read
    another's.

    Raises:
        WorkspaceNotFoundError, UnavailableError
    """
    if not actor.admin:
        stored = store.get(workspace_id)
        if stored is None or not actor.may_touch(stored.record):
            raise trail.not_there(actor, workspace_id, stored, "EventsRequested")
        return store.list_events(workspace_id, limit, token)
    page = store.list_events(workspace_id, limit, token)
    if not page.records and token is None and store.get(workspace_id) is None:
        raise WorkspaceNotFoundError(workspace_id)
    owner_id = next((event.owner_id for event in page.records if event.owner_id), "")
    trail.record_look(actor, workspace_id, owner_id, "EventsRequested")
    return page


def list_all_events(
    store: WorkspaceStore, trail: Trail, actor: Actor, limit: int, token: str | None
) -> Page[Event]:
    """Return what happened at all, the latest first: also what concerns no workspace, such as who was turned away.

    Raises:
        NotAllowedError: only an administrator may.
        UnavailableError
    """
    if not actor.admin:
        trail.record_refusal(actor, "", "", "EventsRequested")
        raise NotAllowedError("Only an administrator may read everybody's events.")
    page = store.list_events(None, limit, token)
    trail.record_look(actor, "", "", "EventsRequested")
    return page
