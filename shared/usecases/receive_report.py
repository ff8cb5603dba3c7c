"""Take a machine's report."""

from shared import logs
from shared.domain import reports
from shared.domain.changes import Change
from shared.domain.errors import InstanceNotRecordedError, NotAllowedError, WorkspaceNotFoundError
from shared.domain.people import Actor
from shared.domain.policy import Policy
from shared.domain.reports import Report
from shared.domain.workspace import Workspace
from shared.ports import Clock, Jobs, WorkspaceStore
from shared.usecases.change_workspace import change_workspace
from shared.usecases.trail import Trail


def receive_report(
    store: WorkspaceStore,
    jobs: Jobs,
    clock: Clock,
    policy: Policy,
    trail: Trail,
    workspace_id: str,
    report: Report,
) -> None:
    """Do what a machine's report calls for; one of an older boot, or one that says nothing new, does nothing.

    ``shared.domain.reports`` says how much a machine can cause.

    Raises:
        InstanceNotRecordedError: the machine's id is not recorded yet, or not that it runs; it
            reports again.
        NotAllowedError: the token is not that of this workspace's machine, or there is no such
            workspace (any more): a machine learns nothing of others' ids. That is noted as a
            stranger's.
        ReportNotTakenError: the report comes from another boot, or too late.
        TooManyRequestsError: it is ready too soon after it has failed; it reports again.
        UnavailableError: the machine reports again.
    """
    machine = Actor(f"machine/{report.project_id}/{report.instance_name}", logs.request_id.get())

    def decide(workspace: Workspace) -> Change | None:
        try:
            return reports.receive(workspace, report, clock(), policy)
        except NotAllowedError:
            trail.record_stranger(machine, workspace.id, workspace.owner_id, "ReportSent")
            raise

    try:
        workspace, changed = change_workspace(store, jobs, clock, workspace_id, decide)
    except WorkspaceNotFoundError:
        trail.record_stranger(machine, workspace_id, "", "ReportSent")
        raise NotAllowedError("This token is not that of the workspace's machine.") from None
    if not changed:
        logs.info(
            "ReportIgnored",
            workspace_id=workspace_id,
            reported=report.event,
            generation=report.generation,
        )
    if reports.comes_too_early(workspace, report):
        raise InstanceNotRecordedError(
            "The machine is not recorded to run yet. Report again in a moment."
        )
