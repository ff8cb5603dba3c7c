"""Admit a person to the Hub, or record that they were refused."""

from shared.domain.access import AccessRules, Actor, Person, admit
from shared.domain.errors import NotAllowedError
from shared.usecases.audit import AuditTrail


def admit_person(audit: AuditTrail, person: Person, rules: AccessRules, request_id: str) -> Actor:
    """Return the person as an actor if the Hub serves them.

    Raises:
        NotAllowedError: it does not. The refusal is recorded as a stranger's.
    """
    try:
        return admit(person, rules, request_id)
    except NotAllowedError:
        stranger = Actor(person.owner_id, request_id, person.email)
        audit.record_stranger(stranger, "", "", "EntryRequested")
        raise
