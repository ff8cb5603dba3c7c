"""What can be chosen about a local cloud, and the environment that its functions get."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from localcloud.services.compute.fleet import Times
from shared.config import SETTINGS, ConfigurationError, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADMIN_EMAIL: Final = "admin@localhost"

TIMES: Final[Mapping[str, Times]] = MappingProxyType(
    {
        "shown": Times(),
        "fast": Times(
            insert=0.3,
            start=0.3,
            stop=0.3,
            suspend=0.3,
            resume=0.2,
            delete=0.3,
            disk_insert=0.1,
            disk_delete=0.1,
            set_metadata=0.1,
            set_labels=0.1,
            set_machine_type=0.1,
            attach_disk=0.1,
            boot=0.3,
            pending_stop=0.1,
            repair=0.3,
        ),
        "real": Times(
            insert=10.0,
            start=10.0,
            stop=30.0,
            suspend=40.0,
            resume=15.0,
            delete=40.0,
            disk_insert=3.0,
            disk_delete=3.0,
            set_metadata=3.0,
            set_labels=3.0,
            set_machine_type=3.0,
            attach_disk=3.0,
            boot=45.0,
            pending_stop=30.0,
            repair=60.0,
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """The choices for one local cloud.

    Attributes:
        times: how long Compute's work takes: `shown` (a few seconds, for a person who watches),
            `fast` (tenths of a second, for tests) or `real` (about what Google's takes).
        overrides: settings of the Hub (`HUB_…`, see `docs/configuration.md`) that are to differ.
        schedule_seconds: the pause between two calls of each scheduled function; 0 for none at all.
        heartbeat_seconds: `HUB_HEARTBEAT_SECONDS`, so what a machine reads in its metadata when it
            boots; None leaves it to the Hub.
        write_requests: write down what is asked and answered at the public address, see
            `localcloud.services.requests_file`.
        python_path: a folder where the functions' Pythons look first, for what a test puts into
            their processes.
    """

    times: str = "shown"
    overrides: Mapping[str, str] = field(default_factory=dict)
    schedule_seconds: float = 5.0
    heartbeat_seconds: int | None = None
    write_requests: bool = False
    python_path: Path | None = None
    project_id: ClassVar[str] = "workspace-hub-local"
    project_number: ClassVar[str] = "123456789012"
    region: ClassVar[str] = "us-west1"
    zones: ClassVar[tuple[str, ...]] = ("us-west1-a", "us-west1-b", "us-west1-c")

    def service_account(self, name: str) -> str:
        """Return the address of a service account of the project."""
        return f"{name}@{self.project_id}.iam.gserviceaccount.com"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where things are. The emulators are `host:port`, everything else is a URL without a slash at its end."""

    gateway: str
    firestore: str
    pubsub: str
    tasks: str
    compute: str
    keys: str
    advance_operation: str
    report_workspace: str


def environment(settings: LocalSettings, addresses: Addresses) -> dict[str, str]:
    """Return the settings of the Hub that every function gets, as the deployment gives them.

    Raises:
        ConfigurationError: an override is wrong, or overrides a setting that the Hub does not have.
    """
    every = settings.heartbeat_seconds
    heartbeats = {} if every is None else {"HUB_HEARTBEAT_SECONDS": str(every)}
    variables = {
        "GOOGLE_CLOUD_PROJECT": settings.project_id,
        "FIRESTORE_EMULATOR_HOST": addresses.firestore,
        "PUBSUB_EMULATOR_HOST": addresses.pubsub,
        "CLOUD_TASKS_EMULATOR_HOST": addresses.tasks,
        "COMPUTE_EMULATOR_HOST": addresses.compute,
        "HUB_REGION": settings.region,
        "HUB_ZONES": ",".join(settings.zones),
        "HUB_INSTALLATION": "workspace-hub-local",
        "HUB_USER_AUDIENCES": addresses.gateway,
        "HUB_MODE": "team",
        "HUB_ALLOWED_EMAILS": "*",
        "HUB_OUTSIDE_ADMIN_EMAILS": ""
        if settings.overrides.get("HUB_MODE") == "personal"
        else ADMIN_EMAIL,
        "HUB_IDENTITY_KEYS_URL": addresses.keys,
        "HUB_ADVANCE_OPERATION_URL": f"{addresses.advance_operation}/operations",
        "HUB_REPORT_WORKSPACE_URL": addresses.report_workspace,
        "HUB_OPERATIONS_SERVICE_ACCOUNT": settings.service_account("operations-queue"),
        "HUB_MACHINE_SERVICE_ACCOUNT": settings.service_account("workspace-machine"),
        "HUB_IMAGE_REPOSITORY": f"{settings.region}-docker.pkg.dev/{settings.project_id}/workspaces/workspace",
        # A person who watches, and a test, want to see things sooner than a bill should.
        "HUB_LOOK_MIN_SECONDS": "0.2",
        "HUB_LOOK_MAX_SECONDS": "2",
        "HUB_ATTEND_SECONDS": "10",
        "HUB_WORKER_TIMEOUT_SECONDS": "8",
        **heartbeats,
        **settings.overrides,
    }
    _check(variables, settings.overrides)
    return variables


def _check(variables: Mapping[str, str], overrides: Mapping[str, str]) -> None:
    read_settings(variables)
    if unknown := sorted(overrides.keys() - {setting.name for setting in SETTINGS}):
        raise ConfigurationError(f"The Hub has no setting {', '.join(unknown)}.")
