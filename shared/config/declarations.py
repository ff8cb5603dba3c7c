"""Every setting of the Hub, declared once: name, kind, default, where the code finds it, meaning.

To add a setting, declare it here and add the field that it fills. ``nox -s docs`` then writes the
table of settings and what Terraform reads.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from shared.config.kinds import (
    ACCOUNT,
    CURRENCY,
    DOMAINS,
    EMAILS,
    FLAG,
    HOST,
    JUMP_HOST,
    LIMITS,
    LIST,
    LOGIN_NAME,
    MACHINE_PRICES,
    OAUTH_CLIENT,
    OAUTH_SECRET,
    SECONDS,
    SERIES_DISK_TYPES,
    TEXT,
    URL,
    URLS,
    USUAL_TIMES,
    SetBy,
    Setting,
    choice_of,
    seconds_or_off,
    whole_number,
)
from shared.config.settings import ConnectKind, IdentitySource
from shared.domain.access import Mode
from shared.domain.machine_types import Architecture
from shared.domain.policy import Policy

GOOGLE_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
GOOGLE_KEYS_URL = "https://www.googleapis.com/oauth2/v3/certs"
IAP_KEYS_URL = "https://www.gstatic.com/iap/verify/public_key-jwk"
BOOT_IMAGES = {
    Architecture.ARM: "projects/cos-cloud/global/images/family/cos-arm64-stable",
    Architecture.X86: "projects/cos-cloud/global/images/family/cos-stable",
}
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


_USUAL = Policy()
_ONE_OF_THE_TWO = "one of the two"

SECTIONS: Mapping[str, tuple[Setting[Any], ...]] = {
    "the installation": (
        Setting(
            "GOOGLE_CLOUD_PROJECT",
            TEXT,
            "project_id",
            "The project that everything is in.",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_REGION",
            TEXT,
            "region",
            "The region of the queues.",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_INSTALLATION",
            TEXT,
            "machine.installation",
            "Marks the machines, disks and snapshots of this installation (label `hub`).",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_LOG_LEVEL",
            choice_of(LOG_LEVELS),
            "log_level",
            "The least severity that is logged.",
            default="INFO",
        ),
    ),
    "where things are": (
        Setting(
            "HUB_ADDRESS",
            URL,
            "address",
            "The Hub's public address, without a path. `GET /sign-in` tells it to people's"
            " programs.",
            default="",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_FIRESTORE_DATABASE",
            TEXT,
            "database",
            "The Firestore database.",
            default="(default)",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_PROVISION_TOPIC",
            TEXT,
            "provision_topic",
            "The Pub/Sub topic for the jobs that make machines.",
            default="workspace-provision",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_OPERATIONS_QUEUE",
            TEXT,
            "operations_queue",
            "The Cloud Tasks queue for all other steps of what people ask for.",
            default="workspace-operations",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_SWEEPS_QUEUE",
            TEXT,
            "sweeps_queue",
            "The Cloud Tasks queue for what sweeps begin, looks and resent jobs. It calls the same"
            " function.",
            default="workspace-sweeps",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_OPERATIONS_SERVICE_ACCOUNT",
            TEXT,
            "operations_service_account",
            "The service account as which Cloud Tasks calls `advance_operation`.",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_ADVANCE_OPERATION_URL",
            URL,
            "advance_operation_url",
            "What Cloud Tasks calls: the function's own URL with its path, `/operations`.",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_REPORT_WORKSPACE_URL",
            URL,
            "report_workspace_url",
            "Where machines report: the function's own URL without a path. It is the audience of"
            " their tokens too.",
            also_fills="identity.machine_audience",
            set_by=SetBy.MODULE,
        ),
    ),
    "who is believed": (
        Setting(
            "HUB_IDENTITY_SOURCE",
            choice_of(IdentitySource),
            "identity.source",
            "How people prove who they are: `id_token`, by the ID token that they send; `iap`, by"
            " the header that Identity-Aware Proxy signs.",
            default=IdentitySource.ID_TOKEN,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_USER_AUDIENCES",
            URLS,
            "identity.user_audiences",
            "The audiences of people's tokens.",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_IDENTITY_ISSUERS",
            URLS,
            "identity.issuers",
            "Who may have issued a token.",
            default=GOOGLE_ISSUERS,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_IDENTITY_KEYS_URL",
            URL,
            "identity.keys_url",
            "Where the issuers' public keys (JWKS) are.",
            default=GOOGLE_KEYS_URL,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_IAP_KEYS_URL",
            URL,
            "identity.iap_keys_url",
            "Where Identity-Aware Proxy's public keys (JWKS) are.",
            default=IAP_KEYS_URL,
            set_by=SetBy.MODULE,
        ),
    ),
    "how people sign in": (
        Setting(
            "HUB_OAUTH_CLIENT_ID",
            OAUTH_CLIENT,
            "sign_in.oauth_client_id",
            "An OAuth client of the Hub's own, of the type desktop, with which people's commands"
            " get ID tokens; one of `HUB_USER_AUDIENCES`.",
            default="",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_OAUTH_CLIENT_SECRET",
            OAUTH_SECRET,
            "sign_in.oauth_client_secret",
            "The so-called secret of that desktop client. `GET /sign-in` tells it to everybody:"
            " Google does not treat it as a secret. Never a web client's.",
            default="",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_OAUTH_WEB_CLIENT_ID",
            OAUTH_CLIENT,
            "sign_in.oauth_web_client_id",
            "An OAuth client of the Hub's own for web pages; one of `HUB_USER_AUDIENCES`.",
            default="",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_IAP_AUDIENCE",
            OAUTH_CLIENT,
            "sign_in.iap_audience",
            "Behind Identity-Aware Proxy, the OAuth client for which the proxy takes ID tokens of"
            " commands. Empty: `HUB_OAUTH_CLIENT_ID`.",
            default="",
            set_by=SetBy.MODULE,
        ),
    ),
    "how people connect": (
        Setting(
            "HUB_CONNECT",
            choice_of(ConnectKind),
            "connect.kind",
            "`iap`: through Identity-Aware Proxy's TCP forwarding; `direct`: by SSH to the"
            " machine's internal address, from inside the network or by a bastion.",
            default=ConnectKind.IAP,
        ),
        Setting(
            "HUB_CONNECT_PORT",
            whole_number(at_least=1, at_most=65535),
            "connect.port",
            "The port of the machines' SSH servers; another than 22 needs `HUB_CONNECT=direct`.",
            default=22,
        ),
        Setting(
            "HUB_CONNECT_JUMP",
            JUMP_HOST,
            "connect.jump",
            "The bastion on the way to the machines, as OpenSSH's `ProxyJump` takes it; needs"
            " `HUB_CONNECT=direct`.",
            default="",
        ),
        Setting(
            "HUB_CONNECT_USER",
            LOGIN_NAME,
            "connect.user",
            "The user name to log in with. Empty: the one in the person's OS Login profile.",
            default="",
        ),
    ),
    "who is served": (
        Setting(
            "HUB_MODE",
            choice_of(Mode),
            "access.mode",
            "`personal`: the Hub serves the people named. `team`: it serves whole domains too, and"
            " there are administrators.",
            default=Mode.PERSONAL,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_ALLOWED_EMAILS",
            EMAILS,
            "access.emails",
            "The verified e-mail addresses of the people whom the Hub serves. `*` serves everybody"
            " who proves who they are.",
            default=(),
            shown_default=_ONE_OF_THE_TWO,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_ALLOWED_DOMAINS",
            DOMAINS,
            "access.domains",
            "In team mode, the organisations that the Hub serves: their own accounts (Google's"
            " `hd`) and addresses.",
            default=(),
            shown_default=_ONE_OF_THE_TWO,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_ADMIN_EMAILS",
            EMAILS,
            "access.admins",
            "In team mode, the administrators, each with an account that an organisation runs"
            " (Google's `hd`). They are served too.",
            default=(),
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_OUTSIDE_ADMIN_EMAILS",
            EMAILS,
            "access.outside_admins",
            "In team mode, the administrators whose account no organisation runs, such as a"
            " gmail.com account or a service account. Their verified address alone counts.",
            default=(),
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_CORS_ORIGINS",
            URLS,
            "edge.cors_origins",
            "The origins of web pages that may call, like `https://hub.example.com`. Empty: none.",
            default=(),
        ),
        Setting(
            "HUB_REQUESTS_PER_MINUTE",
            whole_number(at_least=1),
            "edge.requests_per_minute",
            "How many requests one caller may send to one function instance in a minute.",
            default=600,
        ),
    ),
    "what a machine is made of": (
        Setting(
            "HUB_IMAGE_REPOSITORY",
            URL,
            "machine.image_repository",
            "The container image without its tag.",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_MACHINE_SERVICE_ACCOUNT",
            ACCOUNT,
            "machine.service_account",
            "The service account that machines run as.",
            also_fills="identity.machine_service_account",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_BOOT_IMAGE",
            TEXT,
            "machine.boot_image",
            "The system that runs the container. With Arm machine types the default is the family"
            " `cos-arm64-stable`.",
            default="",
            shown_default=BOOT_IMAGES[Architecture.X86],
        ),
        Setting(
            "HUB_BOOT_DISK_GB",
            whole_number(at_least=10),
            "machine.boot_disk_gb",
            "The size of the boot disk. It holds the system, the container's image, and, while a"
            " newer image is pulled, both images.",
            default=30,
        ),
        Setting(
            "HUB_HOME_DISK_GB",
            whole_number(at_least=10),
            "machine.home_disk_gb",
            "The size of the home disk.",
            default=50,
            also_fills="policy.home_disk_gb",
        ),
        Setting(
            "HUB_HOME_DISK_MAX_GB",
            whole_number(at_least=10),
            "policy.home_disk_max_gb",
            "The largest size to which a person may grow a home disk. It is at least"
            " `HUB_HOME_DISK_GB`.",
            default=_USUAL.home_disk_max_gb,
        ),
        Setting(
            "HUB_DISK_TYPES",
            SERIES_DISK_TYPES,
            "machine.disk_types",
            "The type of boot disk and home by series of machine types:"
            " `e2=pd-ssd,c3=hyperdisk-balanced`. Other series get `pd-balanced`, or"
            " `hyperdisk-balanced` if they take nothing else (C4, E4, N4 and their variants). A"
            " series that the Hub does not know yet must be named here. A home keeps the disk that"
            " it was made with.",
            default={},
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_NETWORK",
            TEXT,
            "machine.network",
            "The network of the machines.",
            default="global/networks/default",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_SUBNETWORK",
            TEXT,
            "machine.subnetwork",
            "The subnetwork of the machines. Empty: the network's own choice.",
            default="",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_EXTERNAL_ADDRESS",
            FLAG,
            "machine.external_address",
            "Whether machines have an external address.",
            default=False,
        ),
        Setting(
            "HUB_SPOT",
            FLAG,
            "machine.spot",
            "Whether machines are Spot VMs: cheaper, and stopped by Compute whenever it needs the"
            " capacity.",
            default=_USUAL.spot,
            also_fills="policy.spot",
        ),
        Setting(
            "HUB_MAX_RUN_SECONDS",
            # Source: Compute's documentation of limits to a VM's run time.
            seconds_or_off(at_least=timedelta(seconds=30), at_most=timedelta(days=120)),
            "machine.most_run",
            "Compute itself stops a machine that has run this long at a stretch, even while"
            " somebody is connected; at most 120 days.",
            default=_USUAL.most_run,
            also_fills="policy.most_run",
        ),
        Setting(
            "HUB_MAX_MACHINE_AGE",
            seconds_or_off(),
            "policy.max_machine_age",
            "A START that has to boot a machine older than this makes a new one on the same home"
            " instead.",
            default=_USUAL.max_machine_age,
        ),
        Setting(
            "HUB_HEALTH_COMMAND",
            TEXT,
            "machine.health_command",
            "A shell command in the container that succeeds once the workspace can be used. Empty:"
            " the workspace can be used as soon as the container runs.",
            default="",
        ),
        Setting(
            "HUB_HEALTH_SECONDS",
            SECONDS,
            "machine.health_within",
            "How long after its start the container may take until the health command succeeds; at"
            " most half of `HUB_START_DEADLINE_SECONDS`.",
            default=timedelta(minutes=3),
        ),
        Setting(
            "HUB_HEARTBEAT_SECONDS",
            SECONDS,
            "machine.heartbeat_interval",
            "How often a machine reports that somebody is connected; at most a third of"
            " `HUB_IDLE_SECONDS`.",
            default=_USUAL.machine_heartbeat_interval,
            also_fills="policy.machine_heartbeat_interval",
        ),
        Setting(
            "HUB_KEEP_AWAKE_SECONDS",
            SECONDS,
            "machine.keep_awake_most",
            "For how long at most `~/.keep-awake` keeps a machine running after the file was last"
            " touched, and after somebody was last logged in; and how far ahead a person may ask"
            " that their workspace be kept awake.",
            default=_USUAL.keep_awake_most,
            also_fills="policy.keep_awake_most",
        ),
        Setting(
            "HUB_CONTAINER_METADATA",
            FLAG,
            "machine.container_metadata",
            "Whether the container may reach the metadata server, and be the machine's service"
            " account there (application default credentials).",
            default=False,
        ),
        Setting(
            "HUB_CONTAINER_SHARED_MEMORY_MB",
            whole_number(at_least=1),
            "machine.container_shared_memory_mb",
            "How much shared memory (`/dev/shm`) the container has at most: browsers and databases"
            " want more than Docker's 64 MB. It counts only as far as it is used.",
            default=1024,
        ),
        Setting(
            "HUB_CONTAINER_PROCESSES",
            whole_number(),
            "machine.container_processes",
            "How many processes and threads the container has at most, so that the machine itself"
            " stays able to act. 0: without a limit.",
            default=16384,
        ),
    ),
    "what people may ask for": (
        Setting(
            "HUB_ZONES",
            LIST,
            "policy.zones",
            "The allowed zones. The first is the default; the others are tried when it has no"
            " capacity.",
            default=_USUAL.zones,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_MACHINE_TYPES",
            LIST,
            "policy.machine_types",
            "The allowed machine types: all Arm or all x86, all taking the same disks, each one"
            " that Compute can suspend (no accelerators, local SSDs or bare metal, at most 208 GB"
            " of memory). Custom ones are allowed too, like `n2-custom-4-16384`.",
            default=_USUAL.machine_types,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_DEFAULT_MACHINE_TYPE",
            TEXT,
            "policy.default_machine_type",
            "The machine type when a request names none; one of `HUB_MACHINE_TYPES`.",
            default=_USUAL.default_machine_type,
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_MACHINE_PRICES",
            MACHINE_PRICES,
            "prices.per_hour",
            "What an hour of a running machine costs, by machine type: `e2-standard-4=0.134`."
            " People see it before they create or start a workspace. No decision depends on it.",
            default={},
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_PRICE_CURRENCY",
            CURRENCY,
            "prices.currency",
            "The currency of `HUB_MACHINE_PRICES`.",
            default="USD",
            set_by=SetBy.MODULE,
        ),
        Setting(
            "HUB_IMAGE_TAGS",
            LIST,
            "policy.image_tags",
            "The allowed image tags, as patterns: `latest,v1.*`.",
            default=_USUAL.image_tags,
        ),
        Setting(
            "HUB_DEFAULT_IMAGE_TAG",
            TEXT,
            "policy.default_image_tag",
            "The image tag when a request names none; one that `HUB_IMAGE_TAGS` allows.",
            default=_USUAL.default_image_tag,
        ),
        Setting(
            "HUB_WORKSPACES_PER_OWNER",
            whole_number(),
            "policy.limits.workspaces",
            "How many workspaces a person may have.",
            default=_USUAL.limits.workspaces,
        ),
        Setting(
            "HUB_RUNNING_PER_OWNER",
            whole_number(),
            "policy.limits.running",
            "How many of them may have a running machine.",
            default=_USUAL.limits.running,
        ),
        Setting(
            "HUB_SNAPSHOTS_PER_WORKSPACE",
            whole_number(),
            "policy.snapshots_per_workspace",
            "How many snapshots of its home a workspace may have. 0: nobody may make any.",
            default=_USUAL.snapshots_per_workspace,
        ),
        Setting(
            "HUB_SNAPSHOT_PAUSE_SECONDS",
            SECONDS,
            "policy.snapshot_pause",
            "The shortest time between two requests for a snapshot of the same workspace. 0: there"
            " is no limit here, but Compute itself takes at most one of a disk in ten minutes.",
            default=_USUAL.snapshot_pause,
        ),
        Setting(
            "HUB_DELETED_PER_OWNER",
            whole_number(at_least=1),
            "policy.deleted_per_owner",
            "How many deleted workspaces a person can take back. With one more, the oldest is"
            " deleted for good.",
            default=_USUAL.deleted_per_owner,
        ),
        Setting(
            "HUB_LIMITS_OF",
            LIMITS,
            "policy.limits_of",
            "Other limits for some people, by address, or by domain for an organisation's own"
            " accounts (`hd`), as workspaces and running ones:"
            " `alice@example.com=10:4,example.org=20:10`.",
            default={},
        ),
        Setting(
            "HUB_CHANGES_PER_MINUTE",
            whole_number(at_least=1),
            "policy.changes_per_minute",
            "How many changes a person may ask for in a minute.",
            default=_USUAL.changes_per_minute,
        ),
    ),
    "times": (
        Setting(
            "HUB_IDLE_SECONDS",
            seconds_or_off(),
            "policy.idle_after",
            "A machine that nobody has been connected to for this long is stopped.",
            default=_USUAL.idle_after,
        ),
        Setting(
            "HUB_RETENTION_SECONDS",
            seconds_or_off(),
            "policy.retention",
            "A workspace that has been suspended for this long is deleted.",
            default=_USUAL.retention,
        ),
        Setting(
            "HUB_ARCHIVE_SECONDS",
            seconds_or_off(),
            "policy.archive_after",
            "A workspace that has been suspended for this long is archived: its home is kept as a"
            " snapshot, its machine and its disk are deleted. That is announced three days before,"
            " so no workspace is archived sooner than after three days. It must be below"
            " `HUB_RETENTION_SECONDS`.",
            default=_USUAL.archive_after,
        ),
        Setting(
            "HUB_ARCHIVES_PER_RUN",
            whole_number(at_least=1),
            "policy.archives_per_run",
            "How many workspaces a run of the clean-up archives at most. It runs every five"
            " minutes.",
            default=_USUAL.archives_per_run,
        ),
        Setting(
            "HUB_UNDELETE_SECONDS",
            seconds_or_off(),
            "policy.undelete_for",
            "How long a deleted workspace can be taken back, from the request on: a last snapshot"
            " of its home, and its other snapshots, are kept until then.",
            default=_USUAL.undelete_for,
        ),
        Setting(
            "HUB_ORPHAN_GRACE_SECONDS",
            SECONDS,
            "policy.orphan_grace",
            "A machine or disk of this installation that no workspace has is stopped, and deleted"
            " when it has been off for this long.",
            default=_USUAL.orphan_grace,
        ),
        Setting(
            "HUB_CREATE_DEADLINE_SECONDS",
            SECONDS,
            "policy.deadlines.create",
            "How long a CREATE may take.",
            default=_USUAL.deadlines.create,
        ),
        Setting(
            "HUB_START_DEADLINE_SECONDS",
            SECONDS,
            "policy.deadlines.start",
            "How long a START may take.",
            default=_USUAL.deadlines.start,
        ),
        Setting(
            "HUB_STOP_DEADLINE_SECONDS",
            SECONDS,
            "policy.deadlines.stop",
            "How long a STOP may take.",
            default=_USUAL.deadlines.stop,
        ),
        Setting(
            "HUB_SNAPSHOT_DEADLINE_SECONDS",
            SECONDS,
            "policy.deadlines.snapshot",
            "How long a SNAPSHOT may take: until the content of the home is captured. Its upload,"
            " which comes after that, may take any time.",
            default=_USUAL.deadlines.snapshot,
        ),
        Setting(
            "HUB_RESTORE_DEADLINE_SECONDS",
            SECONDS,
            "policy.deadlines.restore",
            "How long a RESTORE may take: with the upload of the snapshot that keeps what is in the"
            " home, which may take many minutes, and with the boot of the new machine. A move"
            " to another zone may wait as long for its snapshot.",
            default=_USUAL.deadlines.restore,
        ),
        Setting(
            "HUB_ARCHIVE_DEADLINE_SECONDS",
            SECONDS,
            "policy.deadlines.archive",
            "How long an ARCHIVE may take, without the upload of its snapshot, which may take"
            " hours.",
            default=_USUAL.deadlines.archive,
        ),
        Setting(
            "HUB_DELETE_DEADLINE_SECONDS",
            SECONDS,
            "policy.deadlines.delete",
            "How long a DELETE, or the clean-up after a failure, may take.",
            default=_USUAL.deadlines.delete,
        ),
        Setting(
            "HUB_USUAL_SECONDS",
            USUAL_TIMES,
            "policy.usual",
            "How long after a call of Compute Engine the first look at its work comes; `boot`"
            " counts from when the machine runs. What is not named keeps its default.",
            default=_USUAL.usual,
            shown_default=",".join(
                f"{work.name}={getattr(_USUAL.usual, work.name).total_seconds():g}"
                for work in fields(_USUAL.usual)
            ),
        ),
        Setting(
            "HUB_LOOK_MIN_SECONDS",
            SECONDS,
            "policy.look_min",
            "The shortest pause between two looks at an operation.",
            default=_USUAL.look_min,
        ),
        Setting(
            "HUB_LOOK_MAX_SECONDS",
            SECONDS,
            "policy.look_max",
            "The longest pause between two looks at an operation after the first.",
            default=_USUAL.look_max,
        ),
        Setting(
            "HUB_ATTEND_SECONDS",
            SECONDS,
            "policy.attend_after",
            "How long after a look was due `reconcile` sends its job again. The same job waits"
            " twice as long each further time, up to eight times this long, but not beyond the"
            " operation's deadline.",
            default=_USUAL.attend_after,
        ),
        Setting(
            "HUB_WORKER_TIMEOUT_SECONDS",
            SECONDS,
            "policy.worker_timeout",
            "How long a worker can run at most: its `timeout_seconds` in the catalogue.",
            default=_USUAL.worker_timeout,
            set_by=SetBy.MODULE,
        ),
    ),
    "local servers, refused on Cloud Run": (
        Setting(
            "FIRESTORE_EMULATOR_HOST",
            HOST,
            "emulators.firestore",
            "Firestore's emulator.",
            default=None,
            set_by=SetBy.LOCAL_CLOUD,
        ),
        Setting(
            "PUBSUB_EMULATOR_HOST",
            HOST,
            "emulators.pubsub",
            "Pub/Sub's emulator.",
            default=None,
            set_by=SetBy.LOCAL_CLOUD,
        ),
        Setting(
            "CLOUD_TASKS_EMULATOR_HOST",
            HOST,
            "emulators.tasks",
            "The local cloud's server of Cloud Tasks.",
            default=None,
            set_by=SetBy.LOCAL_CLOUD,
        ),
        Setting(
            "COMPUTE_EMULATOR_HOST",
            HOST,
            "emulators.compute",
            "The local cloud's server of Compute Engine.",
            default=None,
            set_by=SetBy.LOCAL_CLOUD,
        ),
    ),
}

SETTINGS = tuple(setting for section in SECTIONS.values() for setting in section)
EMULATORS = tuple(one.name for one in SETTINGS if one.set_by is SetBy.LOCAL_CLOUD)
