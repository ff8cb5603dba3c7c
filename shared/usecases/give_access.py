"""Lets the owner of a workspace log in to its machine."""

from shared import logs
from shared.domain import machine_access
from shared.domain.changes import Change, Note, Updated
from shared.domain.errors import HubError, MachineFaultError, UnavailableError
from shared.domain.instance import Fault, FaultKind, Place
from shared.domain.policy import Policy
from shared.domain.workspace import AccessState, Workspace
from shared.ports import Machines
from shared.usecases.records import Records


def give_access(
    records: Records, machines: Machines, policy: Policy, workspace: Workspace
) -> Workspace | None:
    """Let the owner in to the recorded machine if that is due; return the record if it changed.

    It comes after everything else that a delivery does, when the next job is sent. So it delays and
    fails nothing: this never raises, and what is not done is due again. Safe to run twice or at the
    same time as itself: whoever may log in already is not added again. It decides on the record as
    it is after the call, which may have another machine by then.
    """
    instance_id = workspace.instance_id
    if instance_id is None or not machine_access.is_due(workspace, records.clock()):
        return None
    fault = _granted(machines, workspace)

    def decide(now: Workspace) -> Change | None:
        changed = machine_access.recorded(now, instance_id, fault, records.clock(), policy)
        return None if changed is None else _change(now, changed)

    try:
        changed, by_this = records.change(workspace.id, decide)
    except HubError as error:  # deleted meanwhile, or the store does not answer
        logs.warning("AccessNotRecorded", workspace_id=workspace.id, reason=str(error))
        return None
    return changed if by_this else None


def _granted(machines: Machines, workspace: Workspace) -> Fault | None:
    """Let the owner in, and return why that failed. Without an address there is no call."""
    member = machine_access.member_of(workspace.owner_email)
    if member is None:
        return None
    try:
        machines.grant_login(Place(workspace.zone, workspace.instance_name), member)
    except MachineFaultError as error:
        fault = error.fault
    except UnavailableError as error:
        fault = Fault(FaultKind.TRANSIENT, "", str(error))
    else:
        return None
    # Compute's message may name people, so it is in the record only.
    logs.warning("AccessNotGiven", workspace_id=workspace.id, kind=fault.kind, code=fault.code)
    return fault


def _change(before: Workspace, after: Workspace) -> Updated:
    """Return the change. That somebody was refused is told in the audit trail, once."""
    state, _ = machine_access.state_and_why(after)
    notes: tuple[Note, ...] = ()
    if state is AccessState.REFUSED and machine_access.state_and_why(before)[0] is not state:
        notes = (Note("AccessRefused", "The owner cannot be let in to the machine."),)
    return Updated(after, f"Access{state.capitalize()}", notes=notes)
