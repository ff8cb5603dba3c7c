"""Take a machine's report."""

from shared import logs
from shared.domain import lifecycle
from shared.domain.lifecycle import Report
from shared.domain.policy import Policy
from shared.ports import Clock, Jobs, WorkspaceStore
from shared.usecases.change_workspace import change_workspace


def receive_report(
    store: WorkspaceStore, jobs: Jobs, clock: Clock, policy: Policy, workspace_id: str, report: Report
) -> None:
    """Do what a machine's report calls for; one of an older boot, or one that says nothing new, does nothing.

    Raises:
        WorkspaceNotFoundError: the workspace has been deleted.
        InstanceNotRecordedError: the machine's id is not recorded yet; it reports again.
        NotAllowedError: the token is not that of this workspace's machine.
        UnavailableError: the machine reports again.
    """
    _, changed = change_workspace(
        store, jobs, workspace_id, lambda workspace: lifecycle.receive(workspace, report, clock(), policy)
    )
    if not changed:
        logs.info("ReportIgnored", workspace_id=workspace_id, reported=report.event, generation=report.generation)
