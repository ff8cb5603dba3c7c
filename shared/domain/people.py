"""Who asks, and whether they may.

Google proves who a person is; these rules say whether the Hub serves them, and whether they are an administrator. Only the
owner of a workspace may touch it, or an administrator; for everybody else it is not there.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.domain.errors import NotAllowedError
from shared.domain.workspace import Workspace

EVERYBODY = "*"


class Mode(StrEnum):
    """PERSONAL serves the people it names and has no administrators; TEAM serves whole domains too, and has them."""

    PERSONAL = "personal"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Person:
    """Who a person is, proven. ``owner_id`` is Google's ``sub``; ``email`` is verified; ``hosted_domain`` is their organisation's."""

    owner_id: str
    email: str | None = None
    hosted_domain: str | None = None


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Whom the Hub serves. ``emails`` of ``("*",)`` is everybody who proves who they are. All in lower case."""

    mode: Mode
    emails: tuple[str, ...]
    domains: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for something: their ``owner_id`` (or ``cleanup``), and the id of the request that it came with."""

    id: str
    request_id: str
    email: str | None = None
    admin: bool = False

    def acts_as_admin(self, owner_id: str) -> bool:
        """Say whether it is as an administrator that they touch something of this owner; empty: of everybody."""
        return self.admin and self.id != owner_id

    def may_touch(self, workspace: Workspace) -> bool:
        """Say whether this workspace is theirs to see and change."""
        return self.admin or workspace.owner_id == self.id


def admit(person: Person, rules: AccessRules, request_id: str) -> Asker:
    """Return the person as somebody whom the Hub serves.

    A domain is proven twice: by Google's ``hd`` claim, which only an organisation's own accounts have, and by the address.

    Raises:
        NotAllowedError: it does not serve them. That the Hub exists is no secret.
    """
    email = person.email.lower() if person.email else None
    domain = email.rpartition("@")[2] if email else None
    hosted = person.hosted_domain.lower() if person.hosted_domain else None
    served = EVERYBODY in rules.emails or (email is not None and email in rules.emails)
    if rules.mode is Mode.TEAM:
        served = served or (domain is not None and domain == hosted and domain in rules.domains)
    admin = rules.mode is Mode.TEAM and email is not None and email in rules.admins
    if not served and not admin:
        raise NotAllowedError("This Hub does not serve your account. Ask whoever runs it to let you in.")
    return Asker(person.owner_id, request_id, email, admin=admin)
