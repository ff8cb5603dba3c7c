"""Take a machine's report."""

from shared import logs
from shared.domain import reports
from shared.domain.access import Actor, authorize_report
from shared.domain.changes import Change
from shared.domain.errors import (
    InstanceNotRecordedError,
    NotAllowedError,
    WorkspaceNotFoundError,
)
from shared.domain.policy import Policy
from shared.domain.reports import Report
from shared.domain.workspace import Workspace
from shared.usecases.records import Records


def receive_report(records: Records, policy: Policy, workspace_id: str, report: Report) -> None:
    """Act on a machine's report. A report that says nothing new changes nothing.

    ``shared.domain.reports`` says how much a machine can cause.

    Raises:
        InstanceNotRecordedError: the record does not yet have the machine's id, or that the machine
            runs. The machine reports again.
        NotAllowedError: the token is not that of this workspace's machine, or there is no such
            workspace. The refusal is recorded as a stranger's.
        ReportNotTakenError: the report comes from another boot, or too late.
        TooManyRequestsError: the machine reports ready too soon after it reported a failure. It
            reports again.
        UnavailableError: the machine reports again.
    """
    name = f"machine/{report.project_id}/{report.instance_name}"
    machine = Actor(name, logs.request_id.get())
    owner_id = ""

    def decide(workspace: Workspace) -> Change | None:
        nonlocal owner_id
        owner_id = workspace.owner_id
        return reports.receive(workspace, report, records.clock(), policy)

    try:
        try:
            workspace, changed = records.change(workspace_id, decide)
        except WorkspaceNotFoundError:
            owner_id = ""
            authorize_report(report.sender, None)
            raise
    except NotAllowedError:
        records.audit.record_stranger(machine, workspace_id, owner_id, "ReportSent")
        raise
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
