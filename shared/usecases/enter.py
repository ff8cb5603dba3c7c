"""Let a person in, or note that they were turned away."""

from shared import logs
from shared.domain.errors import NotAllowedError, UnavailableError
from shared.domain.events import Event, refused
from shared.domain.people import AccessRules, Asker, Person, admit
from shared.ports import Clock, WorkspaceStore


def enter(store: WorkspaceStore, clock: Clock, person: Person, rules: AccessRules, request_id: str) -> Asker:
    """Return the person as somebody whom the Hub serves.

    Raises:
        NotAllowedError: it does not serve them; that is in the audit trail.
    """
    try:
        return admit(person, rules, request_id)
    except NotAllowedError:
        turned_away = Asker(person.owner_id, request_id, person.email)
        record_refusal(store, refused(turned_away, "", "", "EntryRequested", clock()))
        raise


def record_refusal(store: WorkspaceStore, event: Event) -> None:
    """Write an event that belongs to no change. A refusal stands even when it cannot be noted."""
    try:
        store.commit(events=[event])
    except UnavailableError as error:
        logs.warning("EventNotRecorded", what=event.what, workspace_id=event.workspace_id, reason=str(error))
