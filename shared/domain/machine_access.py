"""Whether the owner of a workspace may log in to its machine, and when that is seen to again.

The worker gives the owner ``roles/compute.osLogin`` on the one machine. What came of it is recorded
with the machine's id (``Access``): of another machine it says nothing. So whatever gives a
workspace another machine (an insert, a rebuild, somebody's hands) has access be given anew, and so
does an old version of the Hub, which drops the field.

It never decides how an operation ends: people wait for access at most, not for their workspace.
"""

import re
from dataclasses import replace
from datetime import datetime, timedelta

from shared.domain.instance import Fault, FaultKind
from shared.domain.plain_text import one_line
from shared.domain.policy import Policy
from shared.domain.workspace import (
    Access,
    AccessState,
    OperationKind,
    Phase,
    Status,
    Workspace,
)

LOGIN_ROLE = "roles/compute.osLogin"
MOST_CHARACTERS = 500  # of ``Access.why``
# How long nothing is tried after a failure: as long as it has been failing, within these bounds. A
# refusal is left to the hourly sweep. So its least time is less than an hour, and its most, a day,
# keeps thousands of refused workspaces from filling the sweep.
_LEAST_REFUSED = timedelta(minutes=30)
_MOST_REFUSED = timedelta(hours=23)
_LEAST_PENDING, _MOST_PENDING = timedelta(seconds=10), timedelta(minutes=15)
# A machine that is being changed, an account that is not known everywhere: no longer than an hour.
_SOON_OVER = {FaultKind.NOT_READY, FaultKind.NOT_FOUND}
_MOST_SOON = timedelta(hours=1)
# Nothing in an address may seem to be another part of an IAM member, as ``?uid=`` is.
_ADDRESS = re.compile(r"[!#-'*+./0-9=A-Z^_`a-z{|}~-]+@[0-9A-Za-z.-]+")

_NO_MACHINE = "The workspace has no machine now. Start it to get one."
_NOT_TRIED = "The Hub has not let the owner in to this machine yet. It does so by itself."
_NO_ADDRESS = (
    "The Hub does not know an e-mail address of the owner that Google Cloud can take, so it cannot "
    "let them in. Whoever runs this Hub can grant roles/compute.osLogin on the machine."
)
_AGAIN = "It is tried again."
_ASK = "Whoever runs this Hub must change that; then it is tried again."
_REFUSALS = {
    FaultKind.PERMISSION: f"The Hub may not let people in to machines. {_ASK}",
    FaultKind.POLICY: f"A policy of the organisation forbids to let the owner in. {_ASK}",
}
_ANY_OTHER = f"Compute Engine refused to let the owner in. {_ASK}"


def member_of(address: str | None) -> str | None:
    """Return the IAM member of an owner's e-mail address. None if it cannot be one.

    A service account's address is known by its domain (source: IAM, "Principal identifiers").
    """
    if address is None or not _ADDRESS.fullmatch(address):
        return None
    is_program = address.lower().endswith(".gserviceaccount.com")
    return f"{'serviceAccount' if is_program else 'user'}:{address}"


def is_due(workspace: Workspace, now: datetime) -> bool:
    """Say whether access to the recorded machine is to be given, or to be tried again.

    False as long as the machine is being made or changed: the record says that it exists, or a boot
    waits for its report.
    """
    if not _has_machine(workspace):
        return False
    known = _known(workspace)
    return known is None or (known.retry_at is not None and known.retry_at <= now)


def attends_at(workspace: Workspace) -> datetime | None:
    """Return when ``reconcile`` must have a worker look because access is pending. None if not."""
    known = _known(workspace)
    if known is None or known.state is not AccessState.PENDING or not _has_machine(workspace):
        return None
    return known.retry_at


def attended(ended: Workspace, now: datetime) -> Workspace:
    """Return a workspace whose operation has ended, with when its access must be seen to.

    That is at once if nothing was tried yet, as when the machine is ready before the first look.
    """
    if not _has_machine(ended):
        return ended
    access = _known(ended)
    if access is None and ended.instance_id is not None:
        access = Access(AccessState.PENDING, _NOT_TRIED, ended.instance_id, now, retry_at=now)
    if access is None or access.state is not AccessState.PENDING:
        return ended
    return replace(ended, access=access, attend_at=access.retry_at)


def recorded(
    workspace: Workspace, instance_id: str, fault: Fault | None, now: datetime, policy: Policy
) -> Workspace | None:
    """Return the workspace with what came of giving access to a machine.

    ``fault`` is why it was not given; None if it was. None is returned if the workspace has another
    machine by now. A missing right may be one that was given just now, so for some minutes it
    counts as pending.
    """
    if workspace.instance_id != instance_id:
        return None
    known = _known(workspace)
    failing = known is not None and known.state is not AccessState.GRANTED
    since = known.since if known is not None and failing else now
    if member_of(workspace.owner_email) is None:
        access = _refused(instance_id, _NO_ADDRESS, since, now)
    elif fault is None:
        access = Access(AccessState.GRANTED, None, instance_id, since=now, retry_at=None)
    elif _may_pass(fault, now - since, policy):
        again_at = now + min(max(now - since, _LEAST_PENDING), _MOST_PENDING)
        why = _sentences(_AGAIN, fault)
        access = Access(AccessState.PENDING, why, instance_id, since=since, retry_at=again_at)
    else:
        why = _sentences(_REFUSALS.get(fault.kind, _ANY_OTHER), fault)
        access = _refused(instance_id, why, since, now)
    changed = replace(workspace, access=access, updated_at=now)
    waits = known is not None and known.retry_at == workspace.attend_at
    if workspace.operation is not None or (workspace.attend_at is not None and not waits):
        return changed  # a worker looks anyway, for another reason
    return replace(changed, attend_at=attends_at(changed))


def state_and_why(workspace: Workspace) -> tuple[AccessState, str | None]:
    """Return what a person is told: the state, and why it is not ``GRANTED``."""
    if workspace.instance_id is None:
        return AccessState.PENDING, _NO_MACHINE
    known = _known(workspace)
    return (known.state, known.why) if known else (AccessState.PENDING, _NOT_TRIED)


def _known(workspace: Workspace) -> Access | None:
    """Return what is recorded of the access to the present machine; None if nothing is."""
    access = workspace.access
    return access if access is not None and access.instance_id == workspace.instance_id else None


def _has_machine(workspace: Workspace) -> bool:
    """Say whether the record has a machine to which access can be given now."""
    operation = workspace.operation
    if workspace.instance_id is None:
        return False
    if operation is not None:
        boots = operation.phase is Phase.AWAIT_READY and operation.failure is None
        return boots and operation.kind is not OperationKind.DELETE
    return workspace.status is not Status.ERROR or workspace.machine_running


def _may_pass(fault: Fault, failing_for: timedelta, policy: Policy) -> bool:
    if fault.kind is FaultKind.PERMISSION:
        return failing_for < policy.rights_patience
    if fault.kind in _SOON_OVER:
        return failing_for < _MOST_SOON
    return fault.kind is FaultKind.TRANSIENT


def _refused(instance_id: str, why: str, since: datetime, now: datetime) -> Access:
    again_at = now + min(max(now - since, _LEAST_REFUSED), _MOST_REFUSED)
    return Access(AccessState.REFUSED, why, instance_id, since=since, retry_at=again_at)


def _sentences(what: str, fault: Fault) -> str:
    return one_line(f"{what} Compute Engine said: {fault.message}", MOST_CHARACTERS)
