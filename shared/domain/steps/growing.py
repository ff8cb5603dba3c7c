"""Moves that make the home disk of a workspace larger, before a new machine boots on it.

The machine stays until the disk has grown: if Compute refuses that, nothing has changed. The file
system follows at the new machine's boot.
"""

from dataclasses import replace

from shared.domain.changes import Note
from shared.domain.instance import Place, ResizeDisk
from shared.domain.steps.booting import follow_home, with_wanted
from shared.domain.steps.step import Call, Decision, Step
from shared.domain.workspace import Phase, Status


def grow(step: Step) -> Decision:
    """Make the disk larger. If it is as large, or is gone, make the new machine."""
    home, has, wanted = step.workspace.home_disk, step.inputs.home_gb, step.operation.home_gb
    if has is None and (followed := follow_home(step, Phase.RESIZE_DISK)) is not None:
        return followed
    if home is None or has is None or wanted is None:
        return _make_anew(step)  # that says that the home is gone
    if has >= wanted:
        return _make_anew(step)
    return Call(ResizeDisk(Place(home.zone, home.name), wanted), Phase.AWAIT_RESIZED)


def _make_anew(step: Step) -> Decision:
    """Go on to a new machine. The record does not name the present one any more."""
    had, has, wanted = step.workspace.home_gb, step.inputs.home_gb, step.operation.home_gb
    unmade = replace(
        with_wanted(step.workspace, step.operation),
        home_gb=has or had,
        status=Status.PROVISIONING,
        instance_id=None,
        machine_made_at=None,
        suspended_at=None,
        machine_running=False,
    )
    change = replace(step, workspace=unmade).enter(Phase.DELETE_INSTANCE, "HomeGrown")
    if has is None or has == had:
        return change
    if has != wanted:
        why = f"The home has {has} GB already, so it was not made smaller."
        return replace(change, notes=(Note("HomeNotGrown", why),))
    grown = f"The home has {has} GB now" + (f"; it had {had} GB." if had else ".")
    return replace(change, notes=(Note("HomeGrown", grown),))
