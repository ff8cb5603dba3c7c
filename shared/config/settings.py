"""The configuration as the code reads it: frozen, complete and checked.

The defaults are in ``declarations``, many of them taken from ``shared/domain/policy.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from shared.domain.access import AccessRules
from shared.domain.policy import Policy


@dataclass(frozen=True, slots=True)
class Emulators:
    """``host:port`` of each local server, or None for Google's own address."""

    firestore: str | None
    pubsub: str | None
    tasks: str | None
    compute: str | None


class IdentitySource(StrEnum):
    """How people prove who they are: by their ID token, or by Identity-Aware Proxy's header."""

    ID_TOKEN = "id_token"  # noqa: S105 -- the name of a kind of token
    IAP = "iap"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which tokens are accepted: by issuer, by audience, and by the issuers' public keys (JWKS).

    A token of ``machine_service_account`` never identifies a person, since every program on a
    workspace's machine can get one.
    """

    source: IdentitySource
    keys_url: str
    issuers: tuple[str, ...]
    iap_keys_url: str
    user_audiences: tuple[str, ...]
    machine_audience: str
    machine_service_account: str = ""


@dataclass(frozen=True, slots=True)
class SignIn:
    """How people's programs sign in, as ``GET /sign-in`` says. Empty: there is no such client.

    ``oauth_client_id`` is a desktop client of the Hub's own, ``oauth_web_client_id`` one for web
    pages. Google does not treat a desktop client's "secret" as one: every installed program carries
    it (source: Google's "OAuth 2.0 for iOS and desktop apps"). A web client's is never here.
    ``iap_audience`` is the OAuth client for which Identity-Aware Proxy takes ID tokens.
    """

    oauth_client_id: str
    oauth_client_secret: str
    oauth_web_client_id: str
    iap_audience: str


class ConnectKind(StrEnum):
    """How people reach machines: through IAP's TCP forwarding, or at the machine's own address."""

    IAP = "iap"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Connect:
    """How people connect to their machines by SSH.

    ``jump`` is a host on the way, as OpenSSH's ``ProxyJump`` takes it. An empty ``user`` is the
    name in the person's OS Login profile.
    """

    kind: ConnectKind
    port: int
    jump: str
    user: str


@dataclass(frozen=True, slots=True)
class Edge:
    """Which web pages may call (CORS; none by default), and how often one caller may.

    ``requests_per_minute`` counts for each caller and each function instance.
    """

    cors_origins: tuple[str, ...]
    requests_per_minute: int


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """What every workspace's machine is made of, beside what its record says.

    ``image_repository`` is the container image without its tag. Sizes are in GB as Compute counts
    them. ``disk_types`` has the type of the disks by series of machine types, where it is not the
    series' default. ``most_run`` is how long a machine runs at a stretch before Compute itself
    stops it; None means without a limit.

    The machine is told the rest: the command that succeeds in the container once it can be used
    (``health_command``) and the time for it (``health_within``), how often it reports that somebody
    is connected, for how long a keep-awake file counts at most, whether the container may reach the
    metadata server, how much shared memory (``/dev/shm``) it has at most, and how many processes
    and threads (0: without a limit).
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
class Prices:
    """What people are told that machines cost.

    ``per_hour`` has the price of an hour of a running machine by machine type, as a decimal number.
    """

    per_hour: Mapping[str, str]
    currency: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The Hub's configuration, complete and checked."""

    project_id: str
    region: str
    address: str
    database: str
    provision_topic: str
    operations_queue: str
    sweeps_queue: str
    operations_service_account: str
    advance_operation_url: str
    report_workspace_url: str
    identity: Identity
    access: AccessRules
    sign_in: SignIn
    connect: Connect
    edge: Edge
    machine: MachineSettings
    prices: Prices
    policy: Policy
    log_level: str
    emulators: Emulators
