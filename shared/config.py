"""Every setting of the Hub, read once from the environment and checked together.

This is the one module that reads ``os.environ`` (a test holds that). README's configuration table
and the deployment list the same names; all functions get the same environment.
"""

import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from shared.domain.credentials import holds_credentials, holds_credentials_without_scheme
from shared.domain.machine_types import (
    DISK_TYPES,
    Architecture,
    MachineType,
    disk_type,
    fitting_disk_types,
    parse_machine_type,
)
from shared.domain.people import EVERYBODY, AccessRules, Mode, comparable
from shared.domain.policy import Deadlines, Limits, Policy

GOOGLE_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
GOOGLE_KEYS_URL = "https://www.googleapis.com/oauth2/v3/certs"
IAP_KEYS_URL = "https://www.gstatic.com/iap/verify/public_key-jwk"
BOOT_IMAGES = {
    Architecture.ARM: "projects/cos-cloud/global/images/family/cos-arm64-stable",
    Architecture.X86: "projects/cos-cloud/global/images/family/cos-stable",
}
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
EMULATORS = (
    "FIRESTORE_EMULATOR_HOST",
    "PUBSUB_EMULATOR_HOST",
    "CLOUD_TASKS_EMULATOR_HOST",
    "COMPUTE_EMULATOR_HOST",
)

# Accounts of these have no `hd`: consumers' (source: Google's "OpenID Connect") and service
# accounts (seen in their tokens).
_WITHOUT_ORGANISATION = re.compile(r"gmail\.com|googlemail\.com|(.+\.)?gserviceaccount\.com")

# Source: Compute's documentation of limits to a VM's run time.
_SHORTEST_RUN, _LONGEST_RUN = timedelta(seconds=30), timedelta(days=120)


class ConfigurationError(Exception):
    """Settings are missing or wrong; the message names every one of them. The deployment has to be corrected."""


@dataclass(frozen=True, slots=True)
class Emulators:
    """``host:port`` of each local server, or None for Google's own address."""

    firestore: str | None
    pubsub: str | None
    tasks: str | None
    compute: str | None


class IdentitySource(StrEnum):
    """How people prove who they are: by an ID token that they send, or by Identity-Aware Proxy's signed header."""

    ID_TOKEN = "id_token"  # noqa: S105 -- the name of a kind of token
    IAP = "iap"


@dataclass(frozen=True, slots=True)
class Identity:
    """ListScope tokens are believed: issuers, audiences, and where the issuers' public keys (JWKS) are.

    ``machine_service_account`` is nobody's: any program on a workspace's machine gets its tokens.
    """

    source: IdentitySource
    keys_url: str
    issuers: tuple[str, ...]
    iap_keys_url: str
    user_audiences: tuple[str, ...]
    machine_audience: str
    machine_service_account: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """What the HTTP edge does beside routing: which web pages may call (CORS; none by default), and how often one caller may.

    ``requests_per_minute`` is for each caller and function instance.
    """

    cors_origins: tuple[str, ...]
    requests_per_minute: int


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """What every workspace's machine is made of, beside what its record says.

    ``image_repository`` is the container image without its tag; sizes are in GB as Compute counts
    them. ``disk_types`` has the type of the disks by series of machine types, where it is not the
    series' default. ``most_run`` is how long a machine runs at a stretch before Compute itself
    stops it, None: as long as it likes. The machine is told the rest: the command that says in the
    container that it can be used, within which time, how often it reports that somebody is
    connected, for how long a keep-awake file counts at most, whether the container may reach the
    metadata server, how much shared memory (``/dev/shm``) it has at most, and how many processes
    and threads (0: as many as it likes).
    """

    installation: str
    image_repository: str
    boot_image: str
    boot_disk_gb: int
    home_disk_gb: int
    disk_types: Mapping[str, str]
    network: str
    subnetwork: str
    service_account: str
    external_address: bool
    spot: bool
    most_run: timedelta | None
    health_command: str
    health_within: timedelta
    heartbeat_interval: timedelta
    keep_awake_most: timedelta
    container_metadata: bool
    container_shared_memory_mb: int
    container_processes: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The Hub's configuration, complete and checked."""

    project_id: str
    region: str
    database: str
    provision_topic: str
    operations_queue: str
    operations_service_account: str
    advance_operation_url: str
    report_workspace_url: str
    identity: Identity
    access: AccessRules
    edge: Edge
    machine: MachineSettings
    policy: Policy
    log_level: str
    emulators: Emulators


class _Reader:
    """Reads variables and gathers what is missing or wrong instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(name, "").strip()
        if value:
            return value
        if default is None:
            self.problems.append(f"{name} is not set")
            return ""
        return default

    def url(self, name: str, default: str | None = None) -> str:
        """Read an address. One that holds credentials is refused, and is not repeated: this message is logged."""
        value = self.text(name, default)
        self._without_credentials(name, value)
        return value

    def urls(self, name: str, default: str | None = None) -> tuple[str, ...]:
        """Read several addresses, as ``url`` reads one."""
        values = self.listed(name, default)
        self._without_credentials(name, *values)
        return values

    def _without_credentials(self, name: str, *values: str) -> None:
        if any(
            holds_credentials(value) or holds_credentials_without_scheme(value) for value in values
        ):
            self.problems.append(f"{name} holds credentials; it must be an address without any")

    def listed(self, name: str, default: str | None = None) -> tuple[str, ...]:
        text = self.text(name, default)
        parts = tuple(part.strip() for part in text.split(",") if part.strip())
        if text and not parts:
            self.problems.append(f"{name} is {text!r}; it must list something")
        return parts

    def emails(self, name: str) -> tuple[str, ...]:
        """Read e-mail addresses, or ``*``, as they are compared."""
        return tuple(
            part if part == EVERYBODY else self._email(name, part) for part in self.listed(name, "")
        )

    def domains(self, name: str) -> tuple[str, ...]:
        """Read organisations' domains, as they are compared."""
        return tuple(
            part if part == EVERYBODY else self._domain(name, part)
            for part in self.listed(name, "")
        )

    def account(self, name: str) -> str:
        """Read a service account's address, as it is compared."""
        value = self.text(name)
        return self._email(name, value) if value else ""

    def _email(self, name: str, value: str) -> str:
        return self._compared(
            name, value, r"[!-~]+@[!-~]+", "an e-mail address in ASCII, like ada@example.com"
        )

    def _domain(self, name: str, value: str) -> str:
        what = "a domain in ASCII, like example.com, or xn--… for one with other letters"
        return self._compared(name, value, r"[a-z0-9-]+(\.[a-z0-9-]+)*", what)

    def _compared(self, name: str, value: str, form: str, what: str) -> str:
        """Return what an address or a domain is compared by. One that would never be equal to anybody's is a problem.

        It is told escaped: a letter that is not the one that it looks like is then seen.
        """
        compared = comparable(value)
        if compared is None or not re.fullmatch(form, compared):
            self.problems.append(f"{name} has {value!a}; it must be {what}")
        return compared or value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value in choices:
            return value
        self.problems.append(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
        return default

    def limits(self, name: str) -> dict[str, Limits]:
        """Read ``alice@example.com=10:4,example.org=20:10``: workspaces and running ones, by address or by domain."""
        read = {}
        for part in self.listed(name, ""):
            match = re.fullmatch(r"([^=\s]+)=([0-9]{1,4}):([0-9]{1,4})", part)
            if not match:
                self.problems.append(f"{name} has {part!a}; it must be WHO=WORKSPACES:RUNNING")
                continue
            who = self._email(name, match[1]) if "@" in match[1] else self._domain(name, match[1])
            read[who] = Limits(int(match[2]), int(match[3]))
        return read

    def disk_types(self, name: str) -> dict[str, str]:
        """Read ``n4=hyperdisk-balanced,e2=pd-ssd``: the type of the disks, by series of machine types."""
        read: dict[str, str] = {}
        for part in self.listed(name, ""):
            match = re.fullmatch(r"([a-z]+[0-9]+[a-z]*)=([a-z-]+)", part)
            if not match:
                self.problems.append(
                    f"{name} has {part!r}; it must be SERIES=DISK_TYPE, like n4=hyperdisk-balanced"
                )
                continue
            series, chosen = match[1], match[2]
            fitting = fitting_disk_types(series) or DISK_TYPES
            if chosen not in fitting:
                self.problems.append(
                    f"{name} has {part!r}; machines of series {series} take {_either(fitting)}"
                )
            elif read.setdefault(series, chosen) != chosen:
                self.problems.append(f"{name} has two disk types for {series}; it must have one")
        return read

    def whole(self, name: str, default: int, least: int = 0) -> int:
        value = self._environ.get(name, "").strip() or str(default)
        if not re.fullmatch(r"\d{1,9}", value) or int(value) < least:
            self.problems.append(
                f"{name} is {value!r}; it must be a whole number of at least {least}"
            )
            return default
        return int(value)

    def seconds(self, name: str, default: timedelta) -> timedelta:
        value = self._environ.get(name, "").strip()
        if not value:
            return default
        if not re.fullmatch(r"\d{1,9}(\.\d{1,3})?", value):
            self.problems.append(f"{name} is {value!r}; it must be a number of seconds")
            return default
        return timedelta(seconds=float(value))

    def seconds_or_off(self, name: str, default: timedelta) -> timedelta | None:
        """Read a time that 0 switches off."""
        return self.seconds(name, default) or None

    def flag(self, name: str) -> bool:
        value = self._environ.get(name, "").strip() or "false"
        if value not in {"true", "false"}:
            self.problems.append(f"{name} is {value!r}; it must be true or false")
        return value == "true"

    def emulators(self) -> Emulators:
        hosts = [self._environ.get(name, "").strip() or None for name in EMULATORS]
        if any(hosts) and self._environ.get("K_SERVICE"):
            given = ", ".join(name for name, host in zip(EMULATORS, hosts, strict=True) if host)
            self.problems.append(f"{given} must not be set on Cloud Run")
        return Emulators(*hosts)


def configure_libraries() -> None:
    """Set what libraries read from the environment once a function is imported.

    functions-framework wraps each log line in one of its own where this says ``true``, as Cloud Run
    functions set it by themselves. gRPC's C++ core writes plain text into the log by itself.
    gunicorn takes the headers ``SCRIPT_NAME`` and ``PATH_INFO`` from its own machine for a proxy's
    word on which path is asked for (its settings ``forwarder_headers`` and
    ``forwarded_allow_ips``), and is imported after the function.
    """
    os.environ["LOG_EXECUTION_ID"] = "false"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check all settings.

    Raises:
        ConfigurationError: with one line for everything that is missing or wrong.
    """
    read = _Reader(environ)
    usual = Policy()
    report_url = read.url("HUB_REPORT_WORKSPACE_URL")
    machine_account = read.account("HUB_MACHINE_SERVICE_ACCOUNT")
    idle_after = read.seconds_or_off("HUB_IDLE_SECONDS", timedelta(minutes=60))
    start_within = read.seconds("HUB_START_DEADLINE_SECONDS", usual.deadlines.start)
    # Whoever is connected must have said so, and it must have been written, well before the machine
    # counts as idle.
    soon_enough = idle_after / 3 if idle_after else timedelta.max
    machine_types = read.listed("HUB_MACHINE_TYPES", ",".join(usual.machine_types))
    disk_types = read.disk_types("HUB_DISK_TYPES")
    heartbeat_interval = min(
        read.seconds("HUB_HEARTBEAT_SECONDS", usual.machine_heartbeat_interval), soon_enough
    )
    keep_awake_most = read.seconds("HUB_KEEP_AWAKE_SECONDS", usual.keep_awake_most)
    settings = Settings(
        project_id=read.text("GOOGLE_CLOUD_PROJECT"),
        region=read.text("HUB_REGION"),
        database=read.text("HUB_FIRESTORE_DATABASE", "(default)"),
        provision_topic=read.text("HUB_PROVISION_TOPIC", "workspace-provision"),
        operations_queue=read.text("HUB_OPERATIONS_QUEUE", "workspace-operations"),
        operations_service_account=read.text("HUB_OPERATIONS_SERVICE_ACCOUNT"),
        advance_operation_url=read.url("HUB_ADVANCE_OPERATION_URL"),
        report_workspace_url=report_url,
        identity=Identity(
            source=IdentitySource(
                read.choice("HUB_IDENTITY_SOURCE", tuple(IdentitySource), IdentitySource.ID_TOKEN)
            ),
            keys_url=read.url("HUB_IDENTITY_KEYS_URL", GOOGLE_KEYS_URL),
            iap_keys_url=read.url("HUB_IAP_KEYS_URL", IAP_KEYS_URL),
            issuers=read.urls("HUB_IDENTITY_ISSUERS", ",".join(GOOGLE_ISSUERS)),
            user_audiences=read.urls("HUB_USER_AUDIENCES"),
            machine_audience=report_url,
            machine_service_account=machine_account,
        ),
        access=AccessRules(
            mode=Mode(read.choice("HUB_MODE", tuple(Mode), Mode.PERSONAL)),
            emails=read.emails("HUB_ALLOWED_EMAILS"),
            domains=read.domains("HUB_ALLOWED_DOMAINS"),
            admins=read.emails("HUB_ADMIN_EMAILS"),
            outside_admins=read.emails("HUB_OUTSIDE_ADMIN_EMAILS"),
        ),
        edge=Edge(
            cors_origins=read.urls("HUB_CORS_ORIGINS", ""),
            requests_per_minute=read.whole("HUB_REQUESTS_PER_MINUTE", 600, least=1),
        ),
        machine=MachineSettings(
            installation=read.text("HUB_INSTALLATION"),
            image_repository=read.url("HUB_IMAGE_REPOSITORY"),
            boot_image=read.text("HUB_BOOT_IMAGE", BOOT_IMAGES[_architecture(machine_types)]),
            boot_disk_gb=read.whole("HUB_BOOT_DISK_GB", 30, least=10),
            home_disk_gb=read.whole("HUB_HOME_DISK_GB", 50, least=10),
            disk_types=disk_types,
            network=read.text("HUB_NETWORK", "global/networks/default"),
            subnetwork=read.text("HUB_SUBNETWORK", ""),
            service_account=machine_account,
            external_address=read.flag("HUB_EXTERNAL_ADDRESS"),
            spot=read.flag("HUB_SPOT"),
            most_run=read.seconds_or_off("HUB_MAX_RUN_SECONDS", timedelta()),
            health_command=read.text("HUB_HEALTH_COMMAND", ""),
            health_within=min(
                read.seconds("HUB_HEALTH_SECONDS", timedelta(minutes=3)), start_within / 2
            ),
            heartbeat_interval=heartbeat_interval,
            keep_awake_most=keep_awake_most,
            container_metadata=read.flag("HUB_CONTAINER_METADATA"),
            container_shared_memory_mb=read.whole("HUB_CONTAINER_SHARED_MEMORY_MB", 1024, least=1),
            container_processes=read.whole("HUB_CONTAINER_PROCESSES", 16384),
        ),
        policy=Policy(
            zones=read.listed("HUB_ZONES", ",".join(usual.zones)),
            machine_types=machine_types,
            default_machine_type=read.text("HUB_DEFAULT_MACHINE_TYPE", usual.default_machine_type),
            default_image_tag=read.text("HUB_DEFAULT_IMAGE_TAG", usual.default_image_tag),
            image_tags=read.listed("HUB_IMAGE_TAGS", ",".join(usual.image_tags)),
            limits=Limits(
                workspaces=read.whole("HUB_WORKSPACES_PER_OWNER", usual.limits.workspaces),
                running=read.whole("HUB_RUNNING_PER_OWNER", usual.limits.running),
            ),
            limits_of=read.limits("HUB_LIMITS_OF"),
            changes_per_minute=read.whole(
                "HUB_CHANGES_PER_MINUTE", usual.changes_per_minute, least=1
            ),
            idle_after=idle_after,
            heartbeat_write_interval=min(usual.heartbeat_write_interval, soon_enough),
            retention=read.seconds_or_off("HUB_RETENTION_SECONDS", timedelta(days=30)),
            deadlines=Deadlines(
                create=read.seconds("HUB_CREATE_DEADLINE_SECONDS", usual.deadlines.create),
                start=start_within,
                stop=read.seconds("HUB_STOP_DEADLINE_SECONDS", usual.deadlines.stop),
                delete=read.seconds("HUB_DELETE_DEADLINE_SECONDS", usual.deadlines.delete),
            ),
            look_min=read.seconds("HUB_LOOK_MIN_SECONDS", usual.look_min),
            look_max=read.seconds("HUB_LOOK_MAX_SECONDS", usual.look_max),
            attend_after=read.seconds("HUB_ATTEND_SECONDS", usual.attend_after),
            worker_timeout=read.seconds("HUB_WORKER_TIMEOUT_SECONDS", usual.worker_timeout),
            orphan_grace=read.seconds("HUB_ORPHAN_GRACE_SECONDS", usual.orphan_grace),
            machine_heartbeat_interval=heartbeat_interval,
            keep_awake_most=keep_awake_most,
            max_machine_age=read.seconds_or_off("HUB_MAX_MACHINE_AGE", timedelta(days=30)),
        ),
        log_level=read.choice("HUB_LOG_LEVEL", LOG_LEVELS, "INFO"),
        emulators=read.emulators(),
    )
    read.problems += _wrong_access(settings.access, settings.policy.limits_of)
    read.problems += _wrong_times(settings)
    read.problems += _wrong_machines(settings)
    if settings.policy.default_machine_type not in settings.policy.machine_types:
        read.problems.append("HUB_DEFAULT_MACHINE_TYPE is not one of HUB_MACHINE_TYPES")
    if not settings.policy.allows_image_tag(settings.policy.default_image_tag):
        read.problems.append("HUB_DEFAULT_IMAGE_TAG is not one of HUB_IMAGE_TAGS")
    if read.problems:
        raise ConfigurationError("The Hub is not configured:\n  " + "\n  ".join(read.problems))
    return settings


def _wrong_times(settings: Settings) -> list[str]:
    most_run = settings.machine.most_run
    problems = []
    if most_run is not None and not _SHORTEST_RUN <= most_run <= _LONGEST_RUN:
        problems.append(
            "HUB_MAX_RUN_SECONDS must be 0, or from 30 (seconds) to 10368000 (120 days): Compute takes no others"
        )
    return problems


def _architecture(machine_types: tuple[str, ...]) -> Architecture:
    """Return the architecture of the machine types, which is one: ``_wrong_machines`` refuses a mixture."""
    parsed = (parse_machine_type(name) for name in machine_types)
    return next((one.architecture for one in parsed if one), Architecture.X86)


def _wrong_machines(settings: Settings) -> list[str]:
    """Return what is wrong with the allowed machine types, by themselves and together."""
    problems: list[str] = []
    usable: list[MachineType] = []
    for name in settings.policy.machine_types:
        parsed = parse_machine_type(name)
        if parsed is None:
            why = "it is not the name of a machine type"
        elif parsed.why_not_suspendable:
            why = f"Compute cannot suspend it, since {parsed.why_not_suspendable}: every stop would lose its memory"
        elif not parsed.fitting_disks and parsed.series not in settings.machine.disk_types:
            why = f"HUB_DISK_TYPES must say which disks its series takes, like {parsed.series}=hyperdisk-balanced"
        else:
            usable.append(parsed)
            continue
        problems.append(f"HUB_MACHINE_TYPES has {name!r}; {why}")
    return (
        problems
        + _wrong_architectures(usable, settings.machine.boot_image)
        + _wrong_disks(usable, settings)
    )


def _wrong_architectures(machine_types: list[MachineType], boot_image: str) -> list[str]:
    examples = {one.architecture: one.name for one in reversed(machine_types)}
    if len(examples) > 1:
        arm, x86 = examples[Architecture.ARM], examples[Architecture.X86]
        why = "a Hub must have one of the two: its images, and what people install in their homes, run on one only"
        return [f"HUB_MACHINE_TYPES has {arm!r}, which is Arm, and {x86!r}, which is x86; {why}"]
    cos = re.search(r"projects/cos-cloud/.*/(cos-[a-z0-9-]+)$", boot_image)
    built_for = Architecture.ARM if cos and cos[1].startswith("cos-arm64") else Architecture.X86
    if cos and examples and built_for not in examples:
        [name] = examples.values()
        return [
            f"HUB_BOOT_IMAGE is {boot_image!r}; it must be an image for {next(iter(examples))}, as {name!r} needs"
        ]
    return []


def _wrong_disks(machine_types: list[MachineType], settings: Settings) -> list[str]:
    """Return the first two machine types of which one cannot attach a home that was made for the other."""
    made = {one.name: disk_type(one.name, settings.machine.disk_types) for one in machine_types}
    fitting = {one.name: one.fitting_disks or (made[one.name],) for one in machine_types}
    for one, other in itertools.permutations(made, 2):
        if made[other] not in fitting[one]:
            problem = (
                f"HUB_MACHINE_TYPES has {one!r}, which takes {_either(fitting[one])}, and {other!r}, which gets"
                f" {made[other]}; every type must take the others' disks, since a home keeps its disk when the type changes"
            )
            for shared in DISK_TYPES:
                if all(shared in each for each in fitting.values()):
                    series = sorted(
                        {each.series for each in machine_types if made[each.name] != shared}
                    )
                    return [
                        f"{problem}; HUB_DISK_TYPES={','.join(f'{each}={shared}' for each in series)} makes them fit"
                    ]
            return [problem]
    return []


def _either(choices: tuple[str, ...]) -> str:
    return " or ".join(choices)


def _wrong_access(access: AccessRules, limits_of: Mapping[str, Limits]) -> list[str]:
    """Return what is wrong with whom the Hub serves. It serves nobody by default: a Google account is easily had."""
    wrong = []
    if not access.emails and not access.domains:
        wrong.append(
            "neither HUB_ALLOWED_EMAILS nor HUB_ALLOWED_DOMAINS is set; HUB_ALLOWED_EMAILS=* lets in everybody"
        )
    administrators = access.admins + access.outside_admins
    if access.mode is Mode.PERSONAL and (access.domains or administrators):
        wrong.append(
            "HUB_ALLOWED_DOMAINS, HUB_ADMIN_EMAILS and HUB_OUTSIDE_ADMIN_EMAILS need HUB_MODE=team"
        )
    if EVERYBODY in access.domains + administrators:
        wrong.append("* is for HUB_ALLOWED_EMAILS only")
    wrong += [
        f"HUB_ADMIN_EMAILS has {address!r}, an account of no organisation; name it in HUB_OUTSIDE_ADMIN_EMAILS"
        for address in access.admins
        if _WITHOUT_ORGANISATION.fullmatch(address.rpartition("@")[2])
    ]
    wrong += [
        f"{name} has {domain!r}, which is no organisation's; name people there by their addresses"
        for name, domains in (("HUB_ALLOWED_DOMAINS", access.domains), ("HUB_LIMITS_OF", limits_of))
        for domain in domains
        if _WITHOUT_ORGANISATION.fullmatch(domain)
    ]
    wrong += [
        f"{address!r} is in HUB_ADMIN_EMAILS and in HUB_OUTSIDE_ADMIN_EMAILS; name it in one of them"
        for address in access.admins
        if address in access.outside_admins and address != EVERYBODY
    ]
    return wrong
