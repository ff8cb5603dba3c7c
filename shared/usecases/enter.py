"""Let a person in, or note that they were turned away."""

from shared.domain.errors import NotAllowedError
from shared.domain.events import refused
from shared.domain.people import AccessRules, Asker, Person, admit
from shared.ports import Clock, WorkspaceStore
from shared.usecases.trail import record_refusal


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
