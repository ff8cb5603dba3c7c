"""Who a caller is, whether the Hub serves them, and what they may do. Every refusal is decided here.

Google proves who a person is. These rules decide whether the Hub serves them, and whether they are
an administrator. Only the owner of a workspace and administrators may see or change it; everybody
else gets the answer that it does not exist.

An address alone does not prove that somebody belongs to an organisation: anybody can create a
Google account for an address that they can read once, and keep it when they leave. Only accounts
that the organisation manages carry Google's ``hd`` claim. Source: Google's "OpenID Connect", which
says for which accounts Google is authoritative.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.domain.errors import (
    InstanceNotRecordedError,
    NotAllowedError,
    WorkspaceNotFoundError,
)
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
class MachineIdentity:
    """Which Compute Engine instance a token proves. ``instance_id`` is the numeric id."""

    project_id: str
    zone: str
    instance_name: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Whom the Hub serves. ``emails`` of ``("*",)`` is everybody who proves who they are. All as ``normalized`` returns it.

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


def normalized(address: str | None) -> str | None:
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
    address, hosted = normalized(person.email), normalized(person.hosted_domain)
    return hosted if address and hosted and address.rpartition("@")[2] == hosted else None


def admit(person: Person, rules: AccessRules, request_id: str) -> Actor:
    """Return the person as somebody whom the Hub serves.

    An administrator is named by address, so it is enough that an organisation runs the account: at
    a secondary domain its address and ``hd`` differ. Their address is kept in lower case; one that
    is not ASCII is kept as it is, and is nobody's whom the rules name.

    Raises:
        NotAllowedError: it does not serve them. That the Hub exists is no secret.
    """
    address, domain = normalized(person.email), proven_domain(person)
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


# ---- who may do what ------------------------------------------------------------------------------


def authorize(actor: Actor, workspace_id: str, workspace: Workspace | None) -> Workspace:
    """Return the workspace if it exists and the actor is its owner or an administrator.

    Raises:
        WorkspaceNotFoundError: it does not exist, or it belongs to somebody else. Both get the
            same answer, so nobody learns from it which ids exist.
    """
    if workspace is None or not (actor.admin or workspace.owner_id == actor.id):
        raise WorkspaceNotFoundError(workspace_id)
    return workspace


def authorize_list(actor: Actor, owner_id: str) -> None:
    """Check that the actor may list the workspaces of an owner; of everybody if ``owner_id`` is empty.

    Raises:
        NotAllowedError: only administrators may list other people's workspaces.
    """
    if owner_id != actor.id and not actor.admin:
        raise NotAllowedError("Only an administrator may list other people's workspaces.")


def authorize_all_events(actor: Actor) -> None:
    """Check that the actor may read the events of all workspaces.

    Raises:
        NotAllowedError: only administrators may.
    """
    if not actor.admin:
        raise NotAllowedError("Only an administrator may read everybody's events.")


def authorize_report(sender: MachineIdentity, workspace: Workspace | None) -> Workspace:
    """Return the workspace if the sender of a report is its current machine.

    Raises:
        NotAllowedError: there is no such workspace, or the sender is not its machine, or is an
            earlier machine of it. A machine does not learn which ids exist.
        InstanceNotRecordedError: the record does not have the machine's id yet, because the
            worker that inserted the machine has not committed yet. The machine reports again.
    """
    if workspace is None or (sender.instance_name, sender.zone, sender.project_id) != (
        workspace.instance_name,
        workspace.zone,
        workspace.project_id,
    ):
        raise NotAllowedError("This token is not that of the workspace's machine.")
    if workspace.instance_id is None:
        raise InstanceNotRecordedError("The machine is not recorded yet. Report again in a moment.")
    if sender.instance_id != workspace.instance_id:
        raise NotAllowedError("This token is that of an earlier machine of the workspace.")
    return workspace
