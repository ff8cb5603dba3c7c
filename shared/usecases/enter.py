"""Let a person in, or note that they were turned away."""

from shared.domain.errors import NotAllowedError
from shared.domain.people import AccessRules, Actor, Person, admit
from shared.usecases.trail import Trail


def enter(trail: Trail, person: Person, rules: AccessRules, request_id: str) -> Actor:
    """Return the person as somebody whom the Hub serves.

    Raises:
        NotAllowedError: it does not serve them; that is noted as a stranger's.
    """
    try:
        return admit(person, rules, request_id)
    except NotAllowedError:
        trail.record_stranger(
            Actor(person.owner_id, request_id, person.email), "", "", "EntryRequested"
        )
        raise
