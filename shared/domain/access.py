"""Who a caller is, whether the Hub serves them, and what they may do.

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
    DeletedWorkspaceNotFoundError,
    InstanceNotRecordedError,
    NotAllowedError,
    WorkspaceNotFoundError,
)
from shared.domain.workspace import Workspace

EVERYBODY = "*"


class Mode(StrEnum):
    """PERSONAL serves named people; TEAM also serves domains, and has administrators."""

    PERSONAL = "personal"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Person:
    """Who a person is, as their token proves.

    ``owner_id`` is Google's ``sub``, ``email`` is verified, and ``hosted_domain`` is the domain of
    the organisation that manages the account.
    """

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
    """Whom the Hub serves, with addresses and domains as ``normalized`` returns them.

    ``emails`` of ``("*",)`` means everybody who proves who they are. ``admins`` need the account
    that their organisation manages for the address. ``outside_admins`` may use any account of the
    address, such as one at gmail.com, which no organisation manages.
    """

    mode: Mode
    emails: tuple[str, ...]
    domains: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    outside_admins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for something: their ``owner_id`` (or ``cleanup``), and the id of the request.

    ``domain`` is that of the organisation that they prove to belong to (``proven_domain``).
    """

    id: str
    request_id: str
    email: str | None = None
    admin: bool = False
    domain: str | None = None

    def acts_as_admin(self, owner_id: str) -> bool:
        """Whether they need to be an administrator for what belongs to this owner.

        An empty ``owner_id`` means everybody.
        """
        return self.admin and self.id != owner_id


def normalized(address: str | None) -> str | None:
    """Return an address or a domain in lower case for comparison; None if it is not ASCII.

    Text that is not ASCII equals nothing. Unicode's rules of case turn the Kelvin sign into ``k``
    and other letters into ``i``, and so one person's address into another's.
    """
    try:
        return address.encode("ascii").lower().decode("ascii") if address else None
    except UnicodeEncodeError:
        return None


def proven_domain(person: Person) -> str | None:
    """Return the normalized domain of the organisation that a person belongs to, or None.

    Two proofs are needed: Google's ``hd`` claim, which only accounts that an organisation manages
    have, and the address.
    """
    address, hosted = normalized(person.email), normalized(person.hosted_domain)
    return hosted if address and hosted and address.rpartition("@")[2] == hosted else None


def admit(person: Person, rules: AccessRules, request_id: str) -> Actor:
    """Return the person as an actor if the Hub serves them.

    An administrator is named by address, so any ``hd`` is enough: at an organisation's secondary
    domain the address and the ``hd`` differ. The actor's address is in lower case. An address that
    is not ASCII is kept as it is, and matches no rule.

    Raises:
        NotAllowedError: it does not serve them. The error may say so, since the Hub's existence is
            no secret.
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


# ---- who may do what ----


def authorize(actor: Actor, workspace_id: str, workspace: Workspace | None) -> Workspace:
    """Return the workspace if it exists and the actor is its owner or an administrator.

    Raises:
        WorkspaceNotFoundError: it does not exist, or it belongs to somebody else. Both get the
            same answer, so nobody learns from it which ids exist.
    """
    if workspace is None or not (actor.admin or workspace.owner_id == actor.id):
        raise WorkspaceNotFoundError(workspace_id)
    return workspace


def authorize_owner(actor: Actor, workspace_id: str, workspace: Workspace | None) -> Workspace:
    """Return the workspace if the actor is its owner: what is in it is nobody else's.

    Raises:
        WorkspaceNotFoundError: it does not exist, or it belongs to somebody else. Administrators
            get this answer too.
    """
    if workspace is None or workspace.owner_id != actor.id:
        raise WorkspaceNotFoundError(workspace_id)
    return workspace


def authorize_undelete(actor: Actor, workspace_id: str, workspace: Workspace | None) -> Workspace:
    """Return a deleted workspace's last record if the actor may take it back; as ``authorize``.

    Raises:
        DeletedWorkspaceNotFoundError: there is none, or it belonged to somebody else.
    """
    if workspace is None or not (actor.admin or workspace.owner_id == actor.id):
        raise DeletedWorkspaceNotFoundError(workspace_id)
    return workspace


def authorize_list(actor: Actor, owner_id: str) -> None:
    """Check that the actor may list an owner's workspaces; everybody's if ``owner_id`` is empty.

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
