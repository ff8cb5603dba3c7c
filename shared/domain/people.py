"""Who asks, and whether they may.

Google proves who a person is; these rules say whether the Hub serves them, and whether they are an
administrator. Only the owner of a workspace may touch it, or an administrator; for everybody else
it is not there.

An address alone does not prove that somebody belongs to an organisation: anybody can make a Google
account of an address that they can read once, and keep it when they leave. Only accounts that the
organisation itself runs carry Google's ``hd`` claim. Source: Google's "OpenID Connect", which says
for which accounts Google is authoritative.
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
    """Whom the Hub serves. ``emails`` of ``("*",)`` is everybody who proves who they are. All as ``comparable`` returns it.

    ``admins`` administer with the account that their organisation runs for this address;
    ``outside_admins`` with any account of this address, as one at gmail.com, which no organisation
    runs.
    """

    mode: Mode
    emails: tuple[str, ...]
    domains: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    outside_admins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for something: their ``owner_id`` (or ``cleanup``), and the id of the request that it came with.

    ``domain`` is that of the organisation that they have proven to belong to (``proven_domain``).
    """

    id: str
    request_id: str
    email: str | None = None
    admin: bool = False
    domain: str | None = None

    def acts_as_admin(self, owner_id: str) -> bool:
        """Say whether it is as an administrator that they touch something of this owner; empty: of everybody."""
        return self.admin and self.id != owner_id

    def may_touch(self, workspace: Workspace) -> bool:
        """Say whether this workspace is theirs to see and change."""
        return self.admin or workspace.owner_id == self.id


def comparable(address: str | None) -> str | None:
    """Return an address or a domain as it is compared: in ASCII, its letters in lower case. None if it is not ASCII.

    What is not ASCII equals nothing. Unicode's own rules of case make ``k`` of the Kelvin sign and
    ``i`` of letters that are other letters, and so one person's address of another's.
    """
    try:
        return address.encode("ascii").lower().decode("ascii") if address else None
    except UnicodeEncodeError:
        return None


def proven_domain(person: Person) -> str | None:
    """Return the domain of the organisation that a person belongs to, as it is compared, or None.

    It is proven twice: by Google's ``hd`` claim, which only an organisation's own accounts have,
    and by the address.
    """
    address, hosted = comparable(person.email), comparable(person.hosted_domain)
    return hosted if address and hosted and address.rpartition("@")[2] == hosted else None


def admit(person: Person, rules: AccessRules, request_id: str) -> Actor:
    """Return the person as somebody whom the Hub serves.

    An administrator is named by address, so it is enough that an organisation runs the account: at
    a secondary domain its address and ``hd`` differ. Their address is kept in lower case; one that
    is not ASCII is kept as it is, and is nobody's whom the rules name.

    Raises:
        NotAllowedError: it does not serve them. That the Hub exists is no secret.
    """
    address, domain = comparable(person.email), proven_domain(person)
    served, admin = EVERYBODY in rules.emails or address in rules.emails, False
    if rules.mode is Mode.TEAM:
        served = served or domain in rules.domains
        admin = address in rules.outside_admins or (
            bool(person.hosted_domain) and address in rules.admins
        )
    if not served and not admin:
        raise NotAllowedError(
            "This Hub does not serve your account. Ask whoever runs it to let you in."
        )
    return Actor(person.owner_id, request_id, address or person.email or None, admin, domain)
