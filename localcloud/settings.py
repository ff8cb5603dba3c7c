"""The choices for a local cloud, and the environment that its functions get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from localcloud.services.compute.times import TIMES, Times
from shared.config import SETTINGS, ConfigurationError, read_settings

ADMIN_EMAIL = "admin@localhost"
EMULATORS = ("embedded", "google")


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """The choices for one local cloud.

    Attributes:
        times: how long Compute's work takes, a name of ``services/compute/times.py``: ``shown`` (a
            few seconds, for a person who watches), ``fast`` (tenths of a second, for tests) or
            ``real`` (about what Google's takes).
        overrides: settings of the Hub (``HUB_…``, see ``docs/configuration.md``) that differ.
        emulators: what stands in for Firestore and Pub/Sub: ``embedded`` (the local cloud's own
            servers) or ``google`` (Google's emulators, which need Java and Google's SDK).
        warm: whether all functions are started at the beginning; otherwise the first request to a
            function starts it.
        schedule_seconds: the pause between two calls of each scheduled function; 0: no calls.
        heartbeat_seconds: ``HUB_HEARTBEAT_SECONDS``, which a machine reads in its metadata when it
            boots; None leaves it to the Hub.
        write_requests: whether requests at the public address and their answers are written down,
            see ``services/requests_file.py``.
        python_path: a folder where the functions' Pythons look first, for code that a test puts
            into their processes.
    """

    times: str = "shown"
    overrides: Mapping[str, str] = field(default_factory=dict)
    emulators: str = "embedded"
    warm: bool = False
    schedule_seconds: float = 5.0
    heartbeat_seconds: int | None = None
    write_requests: bool = False
    python_path: Path | None = None
    project_id: ClassVar[str] = "workspace-hub-local"
    project_number: ClassVar[str] = "123456789012"
    region: ClassVar[str] = "us-west1"
    zones: ClassVar[tuple[str, ...]] = ("us-west1-a", "us-west1-b", "us-west1-c")

    def service_account(self, name: str) -> str:
        """Return the e-mail address of a service account of the project."""
        return f"{name}@{self.project_id}.iam.gserviceaccount.com"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where things are.

    Firestore, Pub/Sub, Cloud Tasks and Compute are ``host:port``; the others are URLs without a
    slash at the end. ``machines_port`` is the port on which every machine listens; None if nobody
    can enter them.
    """

    gateway: str
    firestore: str
    pubsub: str
    tasks: str
    compute: str
    keys: str
    advance_operation: str
    report_workspace: str
    machines_port: int | None = None


def environment(settings: LocalSettings, addresses: Addresses) -> dict[str, str]:
    """Return the settings of the Hub that every function gets, as in a deployment.

    Raises:
        ConfigurationError: an override is wrong, or the Hub has no such setting.
    """
    seconds = settings.heartbeat_seconds
    heartbeats = {} if seconds is None else {"HUB_HEARTBEAT_SECONDS": str(seconds)}
    is_personal = settings.overrides.get("HUB_MODE") == "personal"
    registry = f"{settings.region}-docker.pkg.dev/{settings.project_id}"
    variables = {
        "GOOGLE_CLOUD_PROJECT": settings.project_id,
        "FIRESTORE_EMULATOR_HOST": addresses.firestore,
        "PUBSUB_EMULATOR_HOST": addresses.pubsub,
        "CLOUD_TASKS_EMULATOR_HOST": addresses.tasks,
        "COMPUTE_EMULATOR_HOST": addresses.compute,
        "HUB_REGION": settings.region,
        "HUB_ADDRESS": addresses.gateway,
        "HUB_ZONES": ",".join(settings.zones),
        "HUB_INSTALLATION": "workspace-hub-local",
        "HUB_USER_AUDIENCES": addresses.gateway,
        "HUB_MODE": "team",
        "HUB_ALLOWED_EMAILS": "*",
        "HUB_OUTSIDE_ADMIN_EMAILS": "" if is_personal else ADMIN_EMAIL,
        "HUB_IDENTITY_KEYS_URL": addresses.keys,
        "HUB_ADVANCE_OPERATION_URL": f"{addresses.advance_operation}/operations",
        "HUB_REPORT_WORKSPACE_URL": addresses.report_workspace,
        "HUB_OPERATIONS_SERVICE_ACCOUNT": settings.service_account("operations-queue"),
        "HUB_MACHINE_SERVICE_ACCOUNT": settings.service_account("workspace-machine"),
        "HUB_IMAGE_REPOSITORY": f"{registry}/workspaces/workspace",
        "HUB_USUAL_SECONDS": _usual_seconds(TIMES[settings.times]),
        "HUB_SNAPSHOT_PAUSE_SECONDS": f"{TIMES[settings.times].snapshot_pause:g}",
        # Shorter than in production, where they would cost money: for people who watch, and tests.
        "HUB_LOOK_MIN_SECONDS": "0.2",
        "HUB_LOOK_MAX_SECONDS": "2",
        "HUB_ATTEND_SECONDS": "10",
        "HUB_WORKER_TIMEOUT_SECONDS": "8",
        **_connections(addresses.machines_port),
        **heartbeats,
        **settings.overrides,
    }
    _check(variables, settings.overrides)
    return variables


def _connections(port: int | None) -> dict[str, str]:
    """Return how people connect: to the address of each machine, as whoever their key says."""
    if port is None:
        return {}
    return {
        "HUB_CONNECT": "direct",
        "HUB_CONNECT_PORT": str(port),
        "HUB_CONNECT_USER": "workspace",
    }


def _usual_seconds(times: Times) -> str:
    """Return when the Hub first looks at each kind of work: when the local Compute has done it.

    A boot ends by the machine's report, so a look before that would be one too many.
    """
    usual = {
        "insert": times.insert,
        "boot": 2 * times.boot,
        "set_metadata": times.set_metadata,
        "start": times.start,
        "resume": times.resume,
        "suspend": times.suspend,
        "stop": times.stop,
        "delete": times.delete,
        "delete_disk": times.disk_delete,
        "resize_disk": times.disk_insert,
        "snapshot": times.snapshot_capture,
    }
    return ",".join(f"{work}={seconds:g}" for work, seconds in usual.items())


def _check(variables: Mapping[str, str], overrides: Mapping[str, str]) -> None:
    read_settings(variables)
    if unknown := sorted(overrides.keys() - {setting.name for setting in SETTINGS}):
        raise ConfigurationError(f"The Hub has no setting {', '.join(unknown)}.")
