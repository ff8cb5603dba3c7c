"""Composes the Hub: which adapter implements which port, built from the settings on first use."""

from datetime import UTC, datetime
from functools import cache, cached_property

from shared import logs
from shared.caller_limit import CallerLimit
from shared.config import ConnectKind, Settings, configure_libraries, read_settings
from shared.domain.policy import Policy
from shared.imports import import_for_good
from shared.ports import Identity, Jobs, Machines, WorkspaceStore
from shared.usecases.audit import AuditTrail
from shared.usecases.job_queues import JobQueues
from shared.usecases.records import Records
from shared.usecases.seen_machines import SeenMachines
from shared.worker_exit import at_worker_exit

_MODULES = {
    "store": "shared.adapters.firestore_store",
    "identity": "shared.adapters.google_identity",
    "provision_jobs": "shared.adapters.pubsub_jobs",
    "operation_jobs": "shared.adapters.cloud_tasks_jobs",
    "machines": "shared.adapters.compute_machines",
}


class Hub:
    """The ports of this process.

    A client is built when its port is first used, never at import, because gunicorn forks between
    the two.
    """

    @cached_property
    def settings(self) -> Settings:
        """The settings, read once.

        Raises:
            ConfigurationError: something is missing or wrong.
        """
        settings = read_settings()
        logs.write_json_lines(settings.log_level)
        return settings

    @property
    def policy(self) -> Policy:
        """What is allowed and what is the default."""
        return self.settings.policy

    @cached_property
    def store(self) -> WorkspaceStore:
        """The records, in Firestore."""
        from shared.adapters.firestore_store import FirestoreWorkspaceStore

        settings = self.settings
        return FirestoreWorkspaceStore.of(
            settings.project_id, settings.database, settings.emulators.firestore
        )

    @cached_property
    def identity(self) -> Identity:
        """Who calls, by Google's tokens."""
        from shared.adapters.google_identity import GoogleIdentity

        return GoogleIdentity(self.settings.identity)

    @cached_property
    def provision_jobs(self) -> Jobs:
        """The jobs that make new machines, by Pub/Sub."""
        from shared.adapters.pubsub_jobs import PubSubJobs

        settings = self.settings
        return PubSubJobs(settings.project_id, settings.provision_topic, settings.emulators.pubsub)

    @cached_property
    def operation_jobs(self) -> Jobs:
        """All other jobs, by two queues of Cloud Tasks."""
        from shared.adapters.cloud_tasks_jobs import CloudTasksJobs

        settings = self.settings

        @cache
        def queue(name: str) -> Jobs:
            return CloudTasksJobs(
                f"projects/{settings.project_id}/locations/{settings.region}/queues/{name}",
                settings.advance_operation_url,
                settings.operations_service_account,
                settings.emulators.tasks,
            )

        return JobQueues(
            lambda: queue(settings.operations_queue), lambda: queue(settings.sweeps_queue)
        )

    @cached_property
    def machines(self) -> Machines:
        """Compute Engine. Its library, the costliest import of all, is imported here."""
        from shared.adapters.compute_machines import ComputeMachines

        settings = self.settings
        return ComputeMachines(
            settings.project_id,
            settings.machine,
            settings.report_workspace_url,
            settings.emulators.compute,
        )

    @cached_property
    def seen_machines(self) -> SeenMachines:
        """What Compute has answered this instance about machines that are off."""
        return SeenMachines(lambda: self.machines, self.clock)

    @property
    def addressed_machines(self) -> SeenMachines | None:
        """The machines, if people connect to their addresses; None if IAP leads there by name."""
        direct = self.settings.connect.kind is ConnectKind.DIRECT
        return self.seen_machines if direct else None

    @cached_property
    def caller_limit(self) -> CallerLimit:
        """How often each caller may ask this instance."""
        return CallerLimit(self.settings.edge.requests_per_minute)

    @cached_property
    def audit(self) -> AuditTrail:
        """The audit trail beside the changes. Its counts are written when this process ends."""
        audit = AuditTrail(self.store, self.clock)
        at_worker_exit(audit.write_counted)
        return audit

    @property
    def records(self) -> Records:
        """The records, with jobs sent by Cloud Tasks."""
        return Records(self.store, lambda: self.operation_jobs, self.clock, self.audit, self.policy)

    @property
    def new_records(self) -> Records:
        """The records, with jobs sent by Pub/Sub: for new workspaces."""
        return Records(self.store, lambda: self.provision_jobs, self.clock, self.audit, self.policy)

    @staticmethod
    def clock() -> datetime:
        """Return the time now, in UTC."""
        return datetime.now(UTC)


_hub = Hub()


def hub(*ports: str) -> Hub:
    """Return this process's hub, with the libraries of the named ports imported.

    A function names the ports that every request needs, so that a new instance imports them before
    its first request. Ports that it needs rarely are imported when they are used.
    """
    logs.write_json_lines()
    configure_libraries()
    import_for_good(*(_MODULES[port] for port in ports))
    return _hub
