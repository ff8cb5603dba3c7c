"""Take a machine's report."""

from shared import logs
from shared.domain import lifecycle
from shared.domain.changes import Change
from shared.domain.errors import NotAllowedError
from shared.domain.events import refused
from shared.domain.lifecycle import Report
from shared.domain.people import Asker
from shared.domain.policy import Policy
from shared.domain.workspace import Workspace
from shared.ports import Clock, Jobs, WorkspaceStore
from shared.usecases.change_workspace import change_workspace
from shared.usecases.trail import record_refusal


def receive_report(
    store: WorkspaceStore, jobs: Jobs, clock: Clock, policy: Policy, workspace_id: str, report: Report
) -> None:
    """Do what a machine's report calls for; one of an older boot, or one that says nothing new, does nothing.

    Raises:
        WorkspaceNotFoundError: the workspace has been deleted.
        InstanceNotRecordedError: the machine's id is not recorded yet; it reports again.
        NotAllowedError: the token is not that of this workspace's machine; that is in the audit trail.
        UnavailableError: the machine reports again.
    """

    def decide(workspace: Workspace) -> Change | None:
        try:
            return lifecycle.receive(workspace, report, clock(), policy)
        except NotAllowedError:
            machine = Asker(report.instance_name, logs.request_id.get())
            record_refusal(store, refused(machine, workspace.id, workspace.owner_id, "ReportSent", clock()))
            raise

    _, changed = change_workspace(store, jobs, clock, workspace_id, decide)
    if not changed:
        logs.info("ReportIgnored", workspace_id=workspace_id, reported=report.event, generation=report.generation)
