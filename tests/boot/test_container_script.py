"""The boot script that runs the container, ``container.sh``."""

from __future__ import annotations

import pytest

from tests.boot.fake_machine import (
    ATTRIBUTES,
    DENIED,
    GUARDS,
    IMAGE,
    PULL_SAYS,
    RULES,
    Machine,
    rules,
)
from tests.boot.test_user_data import source

HOSTILE = {
    "quotes": "\"; touch x; ' -x",
    "a command": "$(touch x)`touch x`",
    "lines": "one\n--privileged\ntwo",
    "an option": "--privileged",
    "a pattern": "* ? [a] ~ {a,b}",
    "spaces": "  two  words  ",
    "a backslash": "\\n%s\\",
    "beyond ASCII": "größe \U0001f600",
    "10 KB": "x'\"$(" * 2000,
    "nothing": "",
}

MISSING = (
    "Error response from daemon: manifest for x:v2 not found: manifest unknown: Failed to fetch v2"
)

TIMED_OUT = (
    "Error response from daemon: Get https://x/v2/: net/http:"
    " request canceled while waiting for connection"
)


def create_arguments(machine: Machine, **changes: str) -> list[str]:
    """Return the arguments of ``docker create``."""
    told = {**ATTRIBUTES, **changes}
    return [
        *(
            "docker",
            "create",
            "--name",
            "workspace",
            "--init",
            "--user",
            "1000:1000",
            "--network",
            "host",
        ),
        *("--security-opt", "no-new-privileges", "--shm-size", "2048m", "--pids-limit", "4000"),
        *("--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=3"),
        *("--volume", f"{machine.mount}/home:/home/workspace"),
        *(
            "--volume",
            f"{machine.secrets}:/run/secrets",
            "--volume",
            f"{machine.secrets}:/dev/shm/secrets",
        ),
        *("--volume", f"{machine.folder}/run/agents:/run/ssh-agents:rslave"),
        *("--env", "HOME=/home/workspace"),
        *("--env", f"WORKSPACE_ID={told['hub-workspace-id']}"),
        *("--env", f"WORKSPACE_NAME={told['hub-workspace-name']}"),
        *("--env", f"WORKSPACE_REPO={told['hub-repo']}"),
        *("--env", f"WORKSPACE_BRANCH={told['hub-branch']}"),
        *("--env", "WORKSPACE_SECRETS=/run/secrets"),
        *("--workdir", "/home/workspace"),
        told["hub-image"],
    ]


def test_the_container_is_run_as_user_1000_without_privileges(machine: Machine) -> None:
    """The image is pulled, the last container removed, and the new one runs in the foreground."""
    machine.fake("docker", '[ "$1" != start ] || exit 42')

    assert machine.run("container.sh") == 42

    pull, remove, create, start = [
        call for call in machine.calls("docker") if call[1] not in {"inspect", "image", "version"}
    ]
    assert pull == ["docker", "pull", "--quiet", IMAGE]
    assert remove == ["docker", "rm", "--force", "workspace"]
    assert create == create_arguments(machine)
    assert start == ["docker", "start", "--attach", "workspace"]
    assert "--privileged" not in create
    assert machine.outside.reports == []


@pytest.mark.parametrize("what", HOSTILE)
def test_text_that_a_person_wrote_is_one_argument(machine: Machine, what: str) -> None:
    """None of it is executed, and none of it becomes an option."""
    changes = dict.fromkeys(
        ("hub-workspace-name", "hub-repo", "hub-branch", "hub-workspace-id"), HOSTILE[what]
    )
    machine.outside.attributes |= changes

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker", "create") == [create_arguments(machine, **changes)]
    assert not list(machine.folder.rglob("x"))


@pytest.mark.parametrize(
    "tools", [["iptables"], ["iptables", "ip6tables"]], ids=["IPv4", "IPv4 and IPv6"]
)
def test_the_metadata_server_is_closed_to_the_container(machine: Machine, tools: list[str]) -> None:
    """The rules exist before it runs, once each, for every address.

    The server gives out the machine's identity.
    """
    machine.fake("docker", '[ "$1" != create ] || cp "${FAKES}/iptables.rules" "${FAKES}/before"')
    if "ip6tables" in tools:
        machine.fake("ip6tables", RULES)
        (machine.folder / "if_inet6").touch()

    assert machine.run("container.sh") == machine.run("container.sh") == 0, machine.said()

    assert rules(machine) == {tool: [GUARDS[tool]] for tool in tools}
    assert (machine.fakes / "before").read_text().splitlines() == [GUARDS["iptables"]]


def test_an_allowed_container_reaches_the_metadata_server(machine: Machine) -> None:
    """The rules are removed at the next boot, or when the container is started again."""
    assert machine.run("container.sh") == 0, machine.said()
    machine.outside.attributes["hub-container-metadata"] = "true"

    assert machine.run("container.sh") == 0, machine.said()
    assert rules(machine) == {"iptables": []}


def test_a_container_that_cannot_be_guarded_is_not_run(
    machine: Machine,
) -> None:
    """Otherwise nobody would notice that the metadata server is open to it."""
    machine.fake("iptables", "echo No chain/target/match by that name. >&2; exit 1")

    assert machine.run("container.sh") == 1

    assert machine.outside.events() == ["METADATA_NOT_GUARDED"]
    assert machine.calls("docker") == []


def test_without_a_folder_for_agents_the_container_still_runs(machine: Machine) -> None:
    """Agents are a convenience, and their folder must not prevent the workspace."""
    machine.fake("mount", "exit 32")

    assert machine.run("container.sh") == 0, machine.said()

    assert not [
        argument for argument in machine.calls("docker", "create")[0] if "agents" in argument
    ]
    assert "<4>SSH agents" in machine.said()


def test_an_image_with_a_hostile_name_is_one_argument(machine: Machine) -> None:
    """This holds for the registry's credential helper, too."""
    image = "$(touch x).pkg.dev/`touch x`:v2; touch x"
    machine.outside.attributes["hub-image"] = image

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker", "pull") == [["docker", "pull", "--quiet", image]]
    assert machine.calls("docker", "create")[0][-1] == image
    assert machine.calls("docker-credential-gcr")[0][-1] == "--registries=$(touch x).pkg.dev"
    assert not list(machine.folder.rglob("x"))


@pytest.mark.parametrize("registry", ["us-west1-docker.pkg.dev", "gcr.io", "eu.gcr.io"])
def test_googles_registries_get_the_machines_credentials(machine: Machine, registry: str) -> None:
    """The credential helper's configuration is in a writable folder: root's home is read-only."""
    machine.outside.attributes["hub-image"] = f"{registry}/a-project/workspace:v2"

    assert machine.run("container.sh") == 0, machine.said()

    configure = ["docker-credential-gcr", "configure-docker", f"--registries={registry}"]
    assert machine.calls("docker-credential-gcr") == [configure]
    kept = {record[0] for record in machine.records() if record[1].startswith("docker")}
    assert kept == {f"{machine.state}/docker"}


@pytest.mark.parametrize(
    "image", ["docker.io/library/debian:12", "debian", "pkg.dev.example.com/a:v2", "gcr.io.x/a"]
)
def test_other_registries_never_see_the_machines_credentials(machine: Machine, image: str) -> None:
    """The credential helper is not configured for them."""
    machine.outside.attributes["hub-image"] = image

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("docker-credential-gcr") == []
    assert {record[0] for record in machine.records() if record[1] == "docker"} == {""}


NO_DAEMON = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    " Is the docker daemon running?"
)

NO_SPACE = "write /var/lib/docker/tmp/GetImageBlob1: no space left on device"

DEFINITE = {
    DENIED: "IMAGE_DENIED",
    "unauthorized: authentication required": "IMAGE_DENIED",
    "error pulling image: received unexpected HTTP status: 403 Forbidden": "IMAGE_DENIED",
    "denied: Unauthenticated request. Unauthenticated requests have no permission": "IMAGE_DENIED",
    "pull access denied for x, repository does not exist or may need docker login": "IMAGE_DENIED",
    "repository x not found: does not exist or no pull access": "IMAGE_DENIED",
    MISSING: "IMAGE_MISSING",
    "invalid reference format": "IMAGE_MISSING",
    "name unknown: Repository x not found": "IMAGE_MISSING",
    f"failed to register layer: {NO_SPACE}": "BOOT_DISK_FULL",
    "no matching manifest for linux/amd64 in the manifest list entries": "IMAGE_WRONG_PLATFORM",
    "no match for platform in manifest: not found": "IMAGE_WRONG_PLATFORM",
    "image operating system windows cannot be used on this platform": "IMAGE_WRONG_PLATFORM",
    "unsupported media type application/vnd.oci.empty.v1+json": "CONTAINER_REFUSED",
}

PASSING = {
    TIMED_OUT: ("IMAGE_PULL_FAILED", "reached"),
    "dial tcp 10.0.0.1:443: connect: connection refused": ("IMAGE_PULL_FAILED", "reached"),
    "net/http: TLS handshake timeout": ("IMAGE_PULL_FAILED", "reached"),
    "unexpected EOF": ("IMAGE_PULL_FAILED", "reached"),
    "toomanyrequests: You have reached your pull rate limit": (
        "IMAGE_PULL_FAILED",
        "too many requests",
    ),
    "error: 429 Too Many Requests, access denied": ("IMAGE_PULL_FAILED", "too many requests"),
    "dial tcp: lookup registry.example.com: no such host": ("IMAGE_PULL_FAILED", "DNS"),
    "lookup x on 169.254.169.254:53: server misbehaving": ("IMAGE_PULL_FAILED", "DNS"),
    "x509: certificate signed by unknown authority": ("IMAGE_PULL_FAILED", "certificate"),
    "x509: certificate has expired or is not yet valid": ("IMAGE_PULL_FAILED", "certificate"),
    "received unexpected HTTP status: 503 Service Unavailable": (
        "IMAGE_PULL_FAILED",
        "an error of its own",
    ),
    "received unexpected HTTP status: 504 Gateway Timeout": (
        "IMAGE_PULL_FAILED",
        "an error of its own",
    ),
    "filesystem layer verification failed for digest": ("IMAGE_PULL_FAILED", "layer verification"),
    NO_DAEMON: ("DOCKER_NOT_RUNNING", "Docker does not run"),
    "permission denied while trying to connect to the Docker daemon socket": (
        "DOCKER_NOT_RUNNING",
        "does not run",
    ),
    "failed to connect to the docker API at unix:///run/docker.sock": (
        "DOCKER_NOT_RUNNING",
        "does not run",
    ),
    "error getting credentials - err: exec: docker-credential-gcr: executable file not found": (
        "REGISTRY_LOGIN_FAILED",
        "credentials",
    ),
}


def ends(machine: Machine) -> list[str]:
    """Return the recorded reasons of the container's ends, without their times."""
    file = machine.state / "ends"
    return (
        [line.partition(" ")[2] for line in file.read_text().splitlines()] if file.exists() else []
    )


def check_not_pulled(machine: Machine, code: str, pulls: int) -> str:
    """Check that the pull failed after this many tries, for this reason; return the message."""
    assert machine.run("container.sh") == 1

    [report] = machine.outside.reports
    assert (report["event"], report["code"]) == ("failed", code)
    assert len(machine.calls("docker", "pull")) == pulls
    assert machine.calls("docker", "create") == []
    assert ends(machine) == [f"{code} {report['message']}"]
    return str(report["message"])


@pytest.mark.parametrize("said", DEFINITE)
def test_a_definite_pull_failure_is_reported_at_once(machine: Machine, said: str) -> None:
    """Each cause has its own code, whatever other words Docker prints."""
    machine.fake("docker", PULL_SAYS.format(said=said, local=1))

    check_not_pulled(machine, DEFINITE[said], 1)
    assert said in machine.said()


@pytest.mark.parametrize(
    "said", [said for said, code in DEFINITE.items() if code == "IMAGE_DENIED"]
)
def test_at_a_machines_first_boot_a_denied_pull_is_retried(machine: Machine, said: str) -> None:
    """The rights of a new account may take some minutes to take effect."""
    (machine.fakes / "first-boot").touch()
    late = '[ "$1" = pull ] && [ "$(($(cat "${FAKES}/pulls" || echo 0) + 1))" -gt 7 ] && exit'
    count = (
        '[ "$1" != pull ] || echo "$(($(cat "${FAKES}/pulls" || echo 0) + 1))" >"${FAKES}/pulls"'
    )
    machine.fake("docker", f"{late}; {count}; {PULL_SAYS.format(said=said, local=1)}")

    assert machine.run("container.sh") == 0, machine.said()

    assert machine.calls("sleep") == [["sleep", "10"]] * 7
    assert len(machine.calls("docker", "create")) == 1
    assert machine.outside.reports == []


def test_at_a_machines_first_boot_a_pull_that_stays_denied_is_reported(machine: Machine) -> None:
    """It is reported after two minutes."""
    (machine.fakes / "first-boot").touch()
    machine.environment["DENIED_SECONDS"] = "4"
    machine.fake("docker", PULL_SAYS.format(said=DENIED, local=1))

    assert machine.run("container.sh") == 1

    assert machine.outside.events() == ["IMAGE_DENIED"]
    assert len(machine.calls("docker", "pull")) > 2
    assert '"${DENIED_SECONDS:=120}"' in source("container.sh")


def test_unused_images_are_removed_before_and_after_a_pull(machine: Machine) -> None:
    """Before the pull, the last container still holds its image, in case the registry is away."""
    assert machine.run("container.sh") == 0, machine.said()

    done = [
        call[1] if call[1] != "image" else " ".join(call[1:3]) for call in machine.calls("docker")
    ]
    done = [each for each in done if each in {"image prune", "pull", "rm", "create", "start"}]
    assert done == ["image prune", "pull", "rm", "create", "image prune", "start"]
    assert machine.calls("docker", "image", "prune")[0][3:] == ["--all", "--force"]


def test_unused_images_that_cannot_be_removed_do_not_stop_the_boot(machine: Machine) -> None:
    """They only take space."""
    machine.fake("docker", '[ "$2" != prune ] || exit 1')

    assert machine.run("container.sh") == 0, machine.said()
    assert "<4>Old images" in machine.said()


def test_a_running_container_is_left_alone(machine: Machine) -> None:
    """Given a restart of Docker and of the script, the container runs on.

    Its later end is recorded.
    """
    machine.fake(
        "docker",
        'case "$1 $3" in "inspect {{.State.Running}}") [ -e "${FAKES}/ended" ] || echo true ;;'
        ' attach*) touch "${FAKES}/ended"; exit 3 ;; inspect*) echo false false ;; esac',
    )

    assert machine.run("container.sh") == 3

    assert machine.calls("docker", "attach") == [
        ["docker", "attach", "--no-stdin", "--sig-proxy=false", "workspace"]
    ]
    assert not [
        call
        for call in machine.calls("docker")
        if call[1] in {"pull", "rm", "create", "start", "stop"}
    ]
    assert [end.split()[0] for end in ends(machine)] == ["CONTAINER_ENDS"]


@pytest.mark.parametrize("said", PASSING)
def test_a_passing_pull_failure_is_reported_after_retries(machine: Machine, said: str) -> None:
    """The message names the cause, since the image is not at fault."""
    machine.fake("docker", PULL_SAYS.format(said=said.replace("$", "\\$"), local=1))
    code, words = PASSING[said]

    assert words in check_not_pulled(machine, code, 5)
    assert said in machine.said()


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        (
            "Pulling fs layer\\nerror one\\nError response from daemon: two\\n \\n",
            "Error response from daemon: two",
        ),
        ('a \\"quoted\\" \\\\\\\\ word\\t and \\033[31mred', "a 'quoted' ' word  and  [31mred"),
        ("x" * 500, "x" * 160),
    ],
)
def test_the_reason_quotes_dockers_last_line(machine: Machine, said: str, quoted: str) -> None:
    """The reader cannot look into the machine.

    The serial console and Cloud Logging have it as a warning.
    """
    machine.fake(
        "docker",
        PULL_SAYS.replace('echo "{said}"', "printf '%b\\n' \"{said}\"").format(said=said, local=1),
    )

    message = check_not_pulled(machine, "IMAGE_PULL_FAILED", 5)

    assert message == f"The container image could not be pulled. Docker said: {quoted}"
    assert f"<4>IMAGE_PULL_FAILED {message}\n" in machine.said()
    assert machine.said().count("<4>IMAGE_PULL_FAILED") == 1


def test_a_containers_output_goes_to_the_journal_only(machine: Machine) -> None:
    """The container cannot set the priority of its lines."""
    assert machine.run("container.sh") == 0, machine.said()
    assert machine.calls("systemd-cat") == [
        [
            "systemd-cat",
            "--identifier=workspace",
            "--level-prefix=false",
            "docker",
            "start",
            "--attach",
            "workspace",
        ]
    ]


@pytest.mark.parametrize(
    "name", ["denied", "not-found/x509", "too/toomanyrequests:forbidden", "no-such-host:timeout"]
)
def test_an_images_name_is_not_taken_for_the_reason(machine: Machine, name: str) -> None:
    """Docker repeats the name in its messages, alone and in addresses."""
    machine.outside.attributes["hub-image"] = name
    address = f"https://registry.example.com/v2/{name.replace(':', '/manifests/')}"
    said = f"manifest for {name} not found, Head {address}: manifest unknown"
    machine.fake("docker", PULL_SAYS.format(said=said, local=1))

    check_not_pulled(machine, "IMAGE_MISSING", 1)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Error response from daemon: no command specified", "CONTAINER_REFUSED"),
        (
            "invalid mount config for type bind: bind source path does not exist",
            "CONTAINER_REFUSED",
        ),
        (f"Error response from daemon: {NO_SPACE}", "BOOT_DISK_FULL"),
        (NO_DAEMON, "DOCKER_NOT_RUNNING"),
    ],
)
def test_why_docker_cannot_create_the_container_is_recorded(
    machine: Machine, said: str, code: str
) -> None:
    """ready.sh reports it to the Hub when it happens again and again."""
    machine.fake("docker", f'[ "$1" != create ] || {{ echo "{said}" >&2; exit 125; }}')

    assert machine.run("container.sh") == 125

    assert [end.split()[0] for end in ends(machine)] == [code]
    assert machine.calls("docker", "start") == []
    assert machine.outside.reports == []
    assert said in machine.said()


ENDED = """
case "$1 $2" in
  "start --attach") exit {status} ;;
  "inspect --format") echo '{state}' ;;
  "image inspect") echo linux/{its} ;;
  "version --format") echo linux/amd64 ;;
esac
"""


@pytest.mark.parametrize(
    ("status", "docker_state", "reason"),
    [
        (3, ("false false", "amd64"), ("CONTAINER_ENDS", "ends with status 3.")),
        (0, ("false false", "amd64"), ("CONTAINER_ENDS", "by itself")),
        (0, ("false false", "arm64"), ("CONTAINER_ENDS", "by itself")),
        (126, ("false false", "amd64"), ("CONTAINER_ENDS", "cannot execute its command")),
        (127, ("false false", "amd64"), ("CONTAINER_ENDS", "not in the image")),
        (137, ("false false", "amd64"), ("CONTAINER_ENDS", "killed by signal 9")),
        (137, ("false true", "amd64"), ("CONTAINER_OUT_OF_MEMORY", "ran out of memory")),
        (3, ("false true", "amd64"), ("CONTAINER_ENDS", "ends with status 3.")),
        (1, ("false false", "arm64"), ("IMAGE_WRONG_PLATFORM", "processor architecture")),
        (1, ("false false", ""), ("CONTAINER_ENDS", "ends with status 1.")),
        (
            1,
            ("false false OCI runtime create failed: exec format error", "amd64"),
            ("IMAGE_WRONG_PLATFORM", "architecture"),
        ),
        (
            1,
            ("false false OCI runtime create failed: mkdir: not a directory", "amd64"),
            ("CONTAINER_REFUSED", "mkdir: not a directory"),
        ),
        (1, (f"false false mkdir overlay2: {NO_SPACE}", "amd64"), ("BOOT_DISK_FULL", "boot disk")),
    ],
)
def test_why_a_container_ended_is_recorded(
    machine: Machine, status: int, docker_state: tuple[str, str], reason: tuple[str, str]
) -> None:
    """Docker knows more than the status, which does not tell who killed the container."""
    state, architecture = docker_state
    code, words = reason
    machine.fake("docker", ENDED.format(status=status, state=state, its=architecture))

    assert machine.run("container.sh") == status

    [end] = ends(machine)
    assert end.startswith(f"{code} ")
    assert words in end
    assert machine.outside.reports == []


@pytest.mark.parametrize(
    ("where", "statistics", "code"),
    [
        ("mnt", "0 500 1000", "DISK_FULL"),
        ("mnt", "500 0 1000", "DISK_FULL"),
        ("docker", "0 500 1000", "BOOT_DISK_FULL"),
        ("docker", "500 0 0", "CONTAINER_ENDS"),  # btrfs and the like count no inodes
    ],
)
def test_a_container_that_ends_on_a_full_disk_is_recorded_so(
    machine: Machine, where: str, statistics: str, code: str
) -> None:
    """Given either disk has no free blocks or no free inodes, the reason names that disk."""
    machine.environment["DOCKER_ROOT"] = str(machine.folder / "docker")
    machine.fake("docker", ENDED.format(status=1, state="false false", its="amd64"))
    machine.fake(
        "stat",
        f'[ "${{@: -1}}" = {machine.folder / where} ] && echo {statistics} || echo 500 500 1000',
    )

    assert machine.run("container.sh") == 1
    assert [end.split()[0] for end in ends(machine)] == [code]


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        ('[ "$1" != inspect ] || echo true false', []),
        ('case "$1" in inspect | version) exit 1 ;; start) exit 1 ;; esac', ["DOCKER_NOT_RUNNING"]),
        ('case "$1" in inspect) exit 1 ;; esac', []),
    ],
    ids=["the container runs on", "Docker is away", "somebody removed it"],
)
def test_an_end_of_docker_or_its_client_is_not_the_containers(
    machine: Machine, answer: str, ended: list[str]
) -> None:
    """The container may still run."""
    machine.fake("docker", answer)

    machine.run("container.sh")
    assert [end.split()[0] for end in ends(machine)] == ended


def test_only_the_last_ends_are_recorded(machine: Machine) -> None:
    """They are kept in memory, and a container may restart for days."""
    machine.state.mkdir(parents=True)
    (machine.state / "ends").write_text("1 CONTAINER_ENDS Long ago.\n" * 50)
    machine.fake("docker", ENDED.format(status=3, state="false false", its="amd64"))

    machine.run("container.sh")
    assert len(ends(machine)) == 20
    assert "status 3" in ends(machine)[-1]


def test_a_registry_that_comes_back_is_used(machine: Machine) -> None:
    """Given a pull that fails and then succeeds, nothing is reported."""
    machine.fake(
        "docker",
        f'[ "$1" != image ] || exit 1\n[ "$1" != pull ] || [ -e "${{FAKES}}/back" ] ||'
        f' {{ echo "{TIMED_OUT}"; exit 1; }}',
    )
    machine.fake("sleep", 'touch "${FAKES}/back"')

    assert machine.run("container.sh") == 0, machine.said()

    assert len(machine.calls("docker", "pull")) == 2
    assert len(machine.calls("docker", "create")) == 1
    assert machine.outside.reports == []


@pytest.mark.parametrize("said", [TIMED_OUT, DENIED, MISSING])
def test_a_local_image_is_used_without_its_registry(machine: Machine, said: str) -> None:
    """The registry may be away, or may have lost the image."""
    machine.fake("docker", PULL_SAYS.format(said=said, local=0))

    assert machine.run("container.sh") == 0, machine.said()

    assert len(machine.calls("docker", "pull")) == 1
    assert machine.calls("docker", "create") == [create_arguments(machine)]
    assert machine.outside.reports == []


def test_a_metadata_server_that_fails_briefly_is_asked_again(machine: Machine) -> None:
    """It does so early in a boot."""
    machine.outside.metadata_answers = [503]

    assert machine.run("container.sh") == 0, machine.said()
    assert machine.calls("docker", "create") == [create_arguments(machine)]


def test_without_metadata_no_container_is_run(machine: Machine) -> None:
    """Its settings would be missing.

    The script is started again, and ready.sh can report what is missing.
    """
    del machine.outside.attributes["hub-branch"]

    assert machine.run("container.sh") != 0
    assert machine.calls("docker") == []
    assert (machine.state / "doing").read_text().startswith("METADATA_AWAY ")
