"""Boots the boot configuration with real systemd, cloud-init and Docker, against a local Hub."""

from __future__ import annotations

import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.api_client import ApiClient, Workspace
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.guests.fleet import IMAGE_REPOSITORY, Fleet, Guest, digest
from tests.guests.nspawn import missing
from tests.guests.people import KEY, let_in, running, ssh, titles, wait_for
from tests.system.records import in_compute

BRANCH = "$(touch /tmp/executed); `touch /tmp/executed` 'quoted\" &a *a: {}"
MEBIBYTE = 1024 * 1024
LACKING = missing()
pytestmark = [
    pytest.mark.xdist_group("guests"),
    pytest.mark.skipif(
        bool(LACKING),
        reason=f"booting needs {', '.join(LACKING)}:"
        " as root, apt-get install systemd-container mmdebstrap iproute2",
    ),
    pytest.mark.timeout(900),  # the first run makes the guests' file system
]


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    """A cloud with silent simulated machines, without suspend. Its guests report often."""
    overrides = {
        "HUB_IMAGE_REPOSITORY": IMAGE_REPOSITORY,
        "HUB_HEARTBEAT_SECONDS": "1",
        "HUB_HEALTH_COMMAND": "test -w ~",
    }
    with start_cloud(LocalSettings(times="fast", schedule_seconds=1, overrides=overrides)) as cloud:
        cloud.fault("never_ready")
        cloud.fault("suspend_unsupported")
        yield cloud


@pytest.fixture(scope="module")
def fleet(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Guests for the cloud's machines."""
    fleet = Fleet(cloud, tmp_path_factory.mktemp("guests"))
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def alice(cloud: RunningCloud) -> ApiClient:
    """The owner of the workspaces."""
    return ApiClient(cloud.address, cloud.token("alice@example.com"))


@pytest.fixture(scope="module")
def booted(alice: ApiClient, fleet: Fleet) -> Workspace:
    """A workspace that its real guest has made READY, with a key for SSH in the guest."""
    made = alice.create("api", metadata={"repo": "https://example.com/a b.git", "branch": BRANCH})
    ready = alice.wait_until_settled(made["id"], "READY", seconds=120)
    let_in(fleet.guest(ready["instance_name"]))
    return ready


def reports(guest: Guest, event: str) -> int:
    """Return how many reports of this event the Hub has accepted."""
    log = guest.run("journalctl", "--unit=workspace-ready.service", "--output=cat", "--no-pager")
    return len(re.findall(rf"report {event}\b.* of generation \d+: the Hub answered 204", log))


def home_bytes(guest: Guest) -> int:
    """Return the size of the home's file system."""
    blocks, size = guest.run(
        "stat", "--file-system", "--format", "%b %S", "/mnt/disks/home"
    ).split()
    return int(blocks) * int(size)


def test_the_container_runs_as_user_1000_without_privileges(
    booted: Workspace, fleet: Fleet
) -> None:
    """Its environment has the workspace's values as they were given.

    None was taken for shell code.
    """
    guest = fleet.guest(booted["instance_name"])
    environment = dict(
        line.split("=", 1) for line in guest.run("docker", "exec", "workspace", "env").splitlines()
    )
    assert environment["WORKSPACE_ID"] == booted["id"]
    assert environment["WORKSPACE_NAME"] == "api"
    assert environment["WORKSPACE_REPO"] == "https://example.com/a b.git"
    assert environment["WORKSPACE_BRANCH"] == BRANCH
    assert "absent" in guest.run("sh", "-c", "test -e /tmp/executed || echo absent")
    form = "{{.HostConfig.Privileged}} {{.Config.User}} {{.HostConfig.SecurityOpt}}"
    described = guest.run("docker", "inspect", "--format", form, "workspace")
    assert described.strip() == "false 1000:1000 [no-new-privileges]"
    shared = guest.run("docker", "inspect", "--format", "{{.HostConfig.ShmSize}}", "workspace")
    assert int(shared) == 1024 * MEBIBYTE


def test_the_home_is_the_persons_and_the_secrets_are_in_memory_only(
    booted: Workspace, fleet: Fleet
) -> None:
    """The container has written to the home disk at its start.

    The secrets' folder is a small noexec tmpfs.
    """
    guest = fleet.guest(booted["instance_name"])
    assert (
        guest.run("stat", "--format", "%u:%g %a", "/mnt/disks/home/home/started").strip()
        == "1000:1000 644"
    )
    home = guest.run("findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "/mnt/disks/home")
    assert {"ext4", "nosuid", "nodev"} <= set(re.split(r"[\s,]+", home))
    secrets = guest.run(
        "findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "/run/workspace-secrets"
    )
    assert {"tmpfs", "nosuid", "nodev", "noexec", "size=16384k", "mode=700", "uid=1000"} <= set(
        re.split(r"[\s,]+", secrets)
    )
    assert "noswap" in secrets or guest.run("cat", "/proc/swaps").count("\n") == 1


def test_a_person_who_connects_by_ssh_lands_in_the_container(
    booted: Workspace, fleet: Fleet
) -> None:
    """This holds for one command, for input, and for a shell; never on the machine."""
    guest = fleet.guest(booted["instance_name"])
    assert ssh(guest, 'echo "$WORKSPACE_ID $(id -u)"').strip() == f"{booted['id']} 1000"
    ssh(guest, "cat > /run/secrets/token", said="a secret")
    assert ssh(guest, "cat /dev/shm/secrets/token") == "a secret"
    shell = ssh(guest, said="echo at home in $PWD as $(id -u)\nexit\n", terminal=True)
    assert "at home in /home/workspace as 1000" in shell
    with pytest.raises(RuntimeError, match=r"not allowed|password is required"):
        guest.run("runuser", "--user", "dev", "--", "sudo", "--non-interactive", "docker", "ps")


def test_the_hub_tells_the_key_that_sshd_proves(
    booted: Workspace, fleet: Fleet, alice: ApiClient
) -> None:
    """So a person's first connection need not trust whoever answers."""
    guest, connection = fleet.guest(booted["instance_name"]), booted["connection"]
    shown = guest.run("ssh-keyscan", "-t", "ed25519", "127.0.0.1").split()

    assert connection["host_key"] == " ".join(shown[-2:])
    assert connection["instance_id"] == alice.status(booted["id"])["connection"]["instance_id"]


def test_the_container_does_not_reach_the_metadata_server(booted: Workspace, fleet: Fleet) -> None:
    """The machine does, and reports with it.

    The container could take the machine's identity there.
    """
    guest = fleet.guest(booted["instance_name"])
    token = (
        "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/identity"
        "?audience=x"
    )
    assert guest.run("curl", "--silent", "--header", "Metadata-Flavor: Google", token).startswith(
        "eyJ"
    )
    connect = ("nc", "-w", "5", "169.254.169.254", "80")
    with pytest.raises(RuntimeError, match="onnection refused"):
        guest.run("docker", "exec", "workspace", *connect)
    assert guest.run("docker", "exec", "--user=0", "workspace", *connect) == ""


COPIES = {
    "scp": ("scp", "-q", *KEY, "-r", "/root/files", "dev@127.0.0.1:copied"),
    "scp by its old protocol": (
        "scp",
        "-q",
        "-O",
        *KEY,
        "-r",
        "/root/files",
        "dev@127.0.0.1:copied",
    ),
    "rsync": ("rsync", "-a", "-e", f"ssh {' '.join(KEY)}", "/root/files/", "dev@127.0.0.1:copied"),
    "sftp": ("sftp", "-q", *KEY, "-b", "/root/batch", "dev@127.0.0.1"),
    "sftp with a server by its path": (
        *(
            "sftp",
            "-q",
            "-s",
            "/usr/lib/openssh/sftp-server",
            *KEY,
            "-b",
            "/root/batch",
            "dev@127.0.0.1",
        ),
    ),
}
FILES = """
rm -rf /root/files /root/back && mkdir -p /root/files/sub && cd /root/files
head -c 3000000 /dev/urandom >random && echo "ours" >"sub/a name 'with' \"quotes\"" && : >empty
printf 'mkdir copied\nput -r /root/files/. copied\n' >/root/batch
"""
SUMS = 'cd {} && find . -type f | sort | while read -r each; do md5sum "$each"; done'


@pytest.mark.parametrize("tool", COPIES)
def test_files_are_copied_into_the_container_and_back(
    booted: Workspace, fleet: Fleet, tool: str
) -> None:
    """The bytes and UID 1000 are kept, though sshd has an sftp server of its own.

    Container-Optimized OS's sshd has one, too.
    """
    guest = fleet.guest(booted["instance_name"])
    assert "subsystem sftp internal-sftp" in guest.run("sshd", "-T")
    guest.run("sh", "-c", FILES)
    ssh(guest, "rm -rf copied")

    guest.run(*COPIES[tool])

    sums = guest.run("sh", "-c", SUMS.format("/root/files"))
    assert sums.count("\n") == 3
    assert guest.run("sh", "-c", SUMS.format("/mnt/disks/home/home/copied")) == sums
    assert (
        guest.run("stat", "--format", "%u:%g", "/mnt/disks/home/home/copied/random").strip()
        == "1000:1000"
    )
    guest.run("scp", "-q", *KEY, "-r", "dev@127.0.0.1:/home/workspace/copied", "/root/back")
    assert guest.run("sh", "-c", SUMS.format("/root/back")) == sums


LACKS = {
    "scp by its old protocol": "The image of this workspace has no scp\\.",
    "rsync": "The image of this workspace has no rsync\\.",
}


@pytest.mark.parametrize("tool", COPIES)
def test_an_image_without_copy_tools_says_what_it_lacks(
    booted: Workspace, fleet: Fleet, tool: str
) -> None:
    """Otherwise people would only see a closed connection."""
    guest = fleet.guest(booted["instance_name"])
    guest.run("sh", "-c", FILES)
    moved = ("/usr/lib/openssh/sftp-server", "/usr/bin/rsync", "/usr/bin/scp")
    for each in moved:
        guest.run("docker", "exec", "--user=0", "workspace", "mv", each, f"{each}.away")
    try:
        with pytest.raises(
            RuntimeError, match=LACKS.get(tool, "The image of this workspace has no sftp-server,")
        ):
            guest.run(*COPIES[tool])
    finally:
        for each in moved:
            guest.run("docker", "exec", "--user=0", "workspace", "mv", f"{each}.away", each)


# What is written is read once: a file that is read while it is written may lack its end.
REWRITE = """
text=$(sed '/^# workspace-hub/,$d' /etc/ssh/sshd_config)
until [ -e /run/enough ]; do
  printf '%s\\n' "$text" >/etc/ssh/sshd_config
  sleep 0.05
done
"""


def test_the_block_in_sshds_configuration_cannot_be_lost(booted: Workspace, fleet: Fleet) -> None:
    """However often the file is rewritten without it, it is back at once, and sshd has read it.

    The loop that sends heartbeats, which would add it too, is stopped.
    """
    guest = fleet.guest(booted["instance_name"])
    before = guest.run("cat", "/etc/ssh/sshd_config")
    with running(guest, "rewrite", "/bin/bash", "-c", REWRITE):
        guest.run("systemctl", "kill", "--signal=STOP", "workspace-ready.service")
        time.sleep(5)
        guest.run("touch", "/run/enough")
        wait_for(
            lambda: guest.run("cat", "/etc/ssh/sshd_config").split() == before.split(),
            "it is back",
            seconds=10,
        )
        guest.run("systemctl", "kill", "--signal=CONT", "workspace-ready.service")
    wait_for(
        lambda: ssh(guest, "echo $WORKSPACE_ID").strip() == booted["id"],
        "sshd goes by it",
        seconds=10,
    )
    assert guest.run("systemctl", "is-active", "workspace-ssh.path").strip() == "active"


def test_a_restart_of_docker_ends_neither_the_container_nor_its_processes(
    booted: Workspace, fleet: Fleet
) -> None:
    """Docker leaves containers running (live-restore), and so do the units.

    New connections are accepted.
    """
    guest = fleet.guest(booted["instance_name"])
    form = "{{.Id}} {{.State.StartedAt}}"
    before = guest.run("docker", "inspect", "--format", form, "workspace")
    ssh(guest, "setsid sleep 7006 >/dev/null 2>&1 </dev/null & echo begun")
    guest.run("systemctl", "restart", "docker.service")
    wait_for(lambda: titles(guest, "^docker attach") != [], "the container is watched again")
    assert guest.run("docker", "inspect", "--format", form, "workspace") == before
    assert titles(guest, "^sleep 7006") == ["sleep 7006"]
    assert ssh(guest, "echo $WORKSPACE_ID").strip() == booted["id"]
    assert reports(guest, "failed") == 0
    guest.run("pkill", "--full", "^sleep 7006")


def test_the_terminal_and_the_language_are_passed_on(booted: Workspace, fleet: Fleet) -> None:
    """The container gets these variables of the person's machine, and no others."""
    guest = fleet.guest(booted["instance_name"])
    said = {
        "LANG": "de_DE.UTF-8",
        "LC_TIME": "en_GB.UTF-8",
        "COLORTERM": "truecolor",
        "EDITOR": "vi",
    }
    options = " ".join(f"-o SendEnv={name}" for name in said)
    given = " ".join(f"{name}={value}" for name, value in said.items())
    asked = (
        "ssh -tt {key} {options} dev@127.0.0.1 'echo \"$TERM $LANG $LC_TIME $COLORTERM $EDITOR.\"'"
    )
    answer = guest.run(
        "sh",
        "-c",
        f"TERM=xterm-256color {given} " + asked.format(key=" ".join(KEY), options=options),
    )
    assert answer.strip() == "xterm-256color de_DE.UTF-8 en_GB.UTF-8 truecolor ."


def test_an_agent_is_shared_with_the_container_during_its_session(
    booted: Workspace, fleet: Fleet
) -> None:
    """Only if it is requested. Two sessions have one agent each, and no socket remains."""
    guest = fleet.guest(booted["instance_name"])
    ours = guest.run("ssh-keygen", "-l", "-f", "/root/key").split()[1]
    agent = (
        "ssh-agent",
        "sh",
        "-c",
        f'ssh-add -q /root/key; ssh -A {" ".join(KEY)} dev@127.0.0.1 "$0"',
    )
    shared = ("find", "/run/workspace-agents", "-mindepth", "1")

    assert ours in guest.run(*agent, "ssh-add -l; sleep 1; ssh-add -l")
    with running(guest, "agent", *agent, "sleep 600"):
        wait_for(lambda: guest.run(*shared) != "", "the first agent is shared")
        assert ours in guest.run(*agent, 'ssh-add -l; [ "$(ls /run/ssh-agents | wc -l)" = 2 ]')
    wait_for(lambda: guest.run(*shared) == "", "no agent is shared any more")
    assert "workspace-agents/" not in guest.run("cat", "/proc/mounts")
    assert ssh(guest, "echo [$SSH_AUTH_SOCK]; ls /run/ssh-agents").strip() == "[]"


def test_forwarding_reaches_the_container_and_not_the_machine(
    booted: Workspace, fleet: Fleet
) -> None:
    """Loopback ports are forwarded both ways.

    The metadata server and the machine's sockets cannot be reached by any name.
    """
    guest = fleet.guest(booted["instance_name"])
    serve = "for each in 1 2 3 4 5; do echo from the container | nc -l -p 8123 -w 30; done"
    there = {
        9001: "localhost:8123",
        9002: "169.254.169.254:80",
        9003: "metadata.google.internal:80",
    }
    forwards = [word for port, to in there.items() for word in ("-L", f"{port}:{to}")]
    forwards += ["-L", "9004:/run/docker.sock", "-R", "9005:localhost:22"]

    def answer(port: int) -> str:
        return guest.run("sh", "-c", f"echo | busybox nc -w 3 127.0.0.1 {port}", check=False)

    with (
        running(guest, "server", "docker", "exec", "workspace", "sh", "-c", serve),
        running(guest, "forwards", "ssh", *KEY, "-N", *forwards, "dev@127.0.0.1"),
    ):
        wait_for(lambda: answer(9001) == "from the container\n", "the container's port is reached")
        assert [answer(port) for port in (9002, 9003, 9004)] == [""] * 3
        assert "SSH-2.0" in ssh(guest, "echo | nc -w 3 127.0.0.1 9005")
        with pytest.raises(RuntimeError, match="remote port forwarding failed"):
            guest.run(
                "ssh",
                *KEY,
                "-N",
                "-o",
                "ExitOnForwardFailure=yes",
                "-R",
                "0.0.0.0:9006:localhost:22",
                "dev@127.0.0.1",
            )
    assert "allowstreamlocalforwarding no" in guest.run(
        "sshd", "-T", "-C", "user=dev,host=there,addr=35.235.240.9"
    )


STAYS = (
    "setsid sleep 7001 & (trap '' HUP; exec sleep 7002) & sleep 7003 & trap 'echo no' HUP TERM; "
)
ENDINGS = {
    "Ctrl-C": ("-T", "INT"),
    "a network that is gone": ("-T", "KILL"),
    "a network that is gone, with a terminal": ("-tt", "KILL"),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_a_lost_connection_ends_its_command(booted: Workspace, fleet: Fleet, how: str) -> None:
    """All its processes end.

    Exceptions are those that have left the session (tmux) or ignore a hang-up (nohup).
    """
    guest = fleet.guest(booted["instance_name"])
    terminal, signal = ENDINGS[how]
    command = STAYS + "while :; do sleep 7004; done"
    with running(guest, "asks", "ssh", *KEY, terminal, "dev@127.0.0.1", command):
        wait_for(lambda: len(titles(guest, "^sleep 700")) == 4, "all of it runs")
        guest.run("systemctl", "kill", f"--signal={signal}", "asks.service")
        wait_for(lambda: titles(guest, "^sleep 700[34]") == [], "what was asked for has ended")
        wait_for(lambda: titles(guest, r"^/bin/sh -c \S*setsid") == [], "its shell has ended")
    assert titles(guest, "^sleep 700") == ["sleep 7001", "sleep 7002"]
    wait_for(lambda: titles(guest, "shell.sh|^tail --pid") == [], "nothing watches any more")
    guest.run("pkill", "--full", "^sleep 700")


def test_a_commands_background_processes_outlive_it(booted: Workspace, fleet: Fleet) -> None:
    """The normal end of a command is not a lost connection."""
    guest = fleet.guest(booted["instance_name"])
    ssh(guest, "sleep 7005 >/dev/null 2>&1 </dev/null & echo begun")
    time.sleep(2)
    assert titles(guest, "^sleep 7005") == ["sleep 7005"]
    guest.run("pkill", "--full", "^sleep 7005")


def nobody_is_reported(guest: Guest) -> bool:
    """Return whether no heartbeat comes in more than three intervals."""
    before = reports(guest, "heartbeat")
    time.sleep(3.5)
    return reports(guest, "heartbeat") == before


LOGIN = ("ssh", "-i", "/root/key", "-o", "StrictHostKeyChecking=no", "-T")
LOGINS: dict[str, tuple[tuple[str, ...], str]] = {
    "a command": ((*LOGIN, "dev@127.0.0.1", "sleep 60"), "sshd: dev@notty"),
    "no shell": ((*LOGIN, "-N", "dev@127.0.0.1"), "sshd: dev"),
    "a master connection": (
        (*LOGIN, "-N", "-M", "-S", "/run/master", "dev@127.0.0.1"),
        "sshd: dev",
    ),
    "a forwarded port": ((*LOGIN, "-N", "-L", "8022:127.0.0.1:22", "dev@127.0.0.1"), "sshd: dev"),
}


@pytest.mark.parametrize("what", LOGINS)
def test_heartbeats_come_while_somebody_is_logged_in(
    booted: Workspace, fleet: Fleet, what: str
) -> None:
    """After the logout they stop."""
    command, title = LOGINS[what]
    guest = fleet.guest(booted["instance_name"])
    wait_for(lambda: not titles(guest, "^sshd: dev"), "nobody is connected")
    wait_for(lambda: nobody_is_reported(guest), "the last heartbeat is over")
    with running(guest, "login", *command):
        wait_for(lambda: title in titles(guest, "^sshd: dev"), "somebody is logged in")
        before = reports(guest, "heartbeat")
        wait_for(lambda: reports(guest, "heartbeat") >= before + 2, "heartbeats")
    wait_for(lambda: nobody_is_reported(guest), "the last heartbeat is over")


def test_sshd_ends_connections_whose_peer_is_dead(booted: Workspace, fleet: Fleet) -> None:
    """It ends them after three minutes without an answer.

    Its configuration for everybody may differ.
    """
    guest = fleet.guest(booted["instance_name"])
    guest.run(
        "sh", "-c", "(echo ClientAliveInterval 420; cat /etc/ssh/sshd_config) > /run/sshd_config"
    )
    settings = guest.run(
        "sshd", "-T", "-f", "/run/sshd_config", "-C", "user=dev,host=there,addr=35.235.240.9"
    )
    assert {"clientaliveinterval 60", "clientalivecountmax 3"} <= set(settings.splitlines())


def test_processes_without_a_login_do_not_count(booted: Workspace, fleet: Fleet) -> None:
    """These are an unauthenticated connection and a command that outlives its connection.

    The connection may have named a user or not. A process in a container with the title of a
    login does not count either.
    """
    guest = fleet.guest(booted["instance_name"])
    guest.run(
        "sh",
        "-c",
        "printf '#!/bin/sh\\nsleep 600\\n' > /usr/local/bin/undecided;"
        " chmod +x /usr/local/bin/undecided",
    )
    asks = (
        "env",
        "DISPLAY=:1",
        "SSH_ASKPASS=/usr/local/bin/undecided",
        "SSH_ASKPASS_REQUIRE=force",
        "ssh",
    )
    without_a_key = ("-o", "StrictHostKeyChecking=no", "-o", "PubkeyAuthentication=no")
    # In a PID namespace of its own, as what runs in the container is.
    pretends = 'exec -a "sshd: dev@pts/0" cat < <(sleep 600)'
    with (
        running(guest, "silent", "/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/22; sleep 600"),
        running(guest, "undecided", *asks, *without_a_key, "dev@127.0.0.1"),
        running(guest, "orphan", "docker", "exec", "--interactive", "workspace", "sleep", "600"),
        running(guest, "pretender", "unshare", "--pid", "--fork", "/bin/bash", "-c", pretends),
    ):
        wait_for(lambda: "sshd: dev [priv]" in titles(guest, "^sshd"), "somebody has named a user")
        wait_for(
            lambda: bool({"sshd: [accepted]", "sshd: [net]"} & set(titles(guest, "^sshd"))),
            "somebody is silent",
        )
        wait_for(
            lambda: bool(titles(guest, "^sshd: dev@pts/0")), "somebody pretends to be logged in"
        )
        wait_for(lambda: nobody_is_reported(guest), "the last heartbeat is over")
        assert nobody_is_reported(guest)
        assert "sshd: dev [priv]" in titles(guest, "^sshd")


def test_a_container_that_ends_is_started_again(booted: Workspace, fleet: Fleet) -> None:
    """The machine runs on, and its reports continue."""
    guest = fleet.guest(booted["instance_name"])

    def started() -> str:
        return guest.run(
            "docker", "inspect", "--format", "{{.State.StartedAt}}", "workspace", check=False
        ).strip()

    first = started()
    guest.run("docker", "kill", "workspace")
    wait_for(lambda: started() not in {"", first}, "the container runs again")
    assert guest.run("systemctl", "is-active", "workspace-ready.service").strip() == "active"
    assert reports(guest, "failed") == 0


def test_a_container_that_keeps_ending_after_it_was_ready_is_an_error(
    booted: Workspace, fleet: Fleet, alice: ApiClient
) -> None:
    """It is reported once, with its reason. The machine runs on, and a START boots it again."""
    guest = fleet.guest(booted["instance_name"])
    with running(
        guest, "killer", "/bin/sh", "-c", "while :; do docker kill workspace; sleep 0.5; done"
    ):
        failed = alice.wait(booted["id"], lambda seen: seen["status"] == "ERROR", seconds=120)
    assert failed["error"]["code"] == "CONTAINER_ENDS"
    assert "signal 9" in failed["error"]["message"]
    wait_for(
        lambda: "true" in guest.run("docker", "inspect", "workspace", check=False),
        "the container runs again",
    )
    assert nobody_is_reported(guest)
    assert reports(guest, "failed") == 1
    alice.start(booted["id"])
    again = alice.wait_until_settled(booted["id"], "READY", seconds=120)
    assert again["generation"] == failed["generation"] + 1
    let_in(fleet.guest(booted["instance_name"]))


# Stands in for the kernel's suspend, which would suspend the host: it looks for a text on the home
# disk, past all that is in memory.
ASLEEP = """#!/bin/bash
found=$(dd if=/dev/disk/by-id/google-home bs=1M iflag=direct 2>/dev/null |
  grep --count --text --fixed-strings --file=/run/written)
echo "$found" >/run/found
"""
SLEEPS = "[Service]\nExecStart=\nExecStart=/bin/bash /run/asleep\n"


def test_what_is_written_is_on_the_disk_before_the_machine_sleeps(
    booted: Workspace, fleet: Fleet
) -> None:
    """So a snapshot of the disk of a suspended machine has it. This holds for each suspend."""
    guest = fleet.guest(booted["instance_name"])
    guest.run("tee", "/run/asleep", user_input=ASLEEP)
    folder = "/run/systemd/system/systemd-suspend.service.d"
    guest.run("mkdir", "-p", folder)
    guest.run("tee", f"{folder}/asleep.conf", user_input=SLEEPS)
    guest.run("systemctl", "daemon-reload")
    verified = ("systemd-analyze", "verify", "--man=no", "workspace-sync.service", "suspend.target")
    assert guest.run("sh", "-c", f"{' '.join(verified)} 2>&1") == ""
    for _ in range(2):
        written = f"written before it sleeps: {uuid.uuid4()}"
        guest.run("tee", "/run/written", "/mnt/disks/home/home/unsynced", user_input=written)
        guest.run("systemctl", "start", "suspend.target")
        assert guest.run("cat", "/run/found").strip() == "1"
        guest.run("rm", "/run/found")
    guest.run("rm", "--recursive", folder)


def test_a_stop_and_a_start_keep_the_home_and_forget_the_secrets(
    booted: Workspace, fleet: Fleet, alice: ApiClient
) -> None:
    """The machine was off: it boots again, and is READY under the next generation.

    Its disk was made larger meanwhile, and the file system has grown with it.
    """
    guest = fleet.guest(booted["instance_name"])
    ssh(guest, "echo kept > ~/work; echo secret > /run/secrets/token")
    assert home_bytes(guest) < 64 * MEBIBYTE
    alice.stop(booted["id"])
    stopped = alice.wait_until_settled(booted["id"], "SUSPENDED", seconds=60)
    fleet.off(booted["instance_name"])
    os.truncate(fleet.home(booted["id"]), 256 * MEBIBYTE)
    alice.start(booted["id"])
    ready = alice.wait_until_settled(booted["id"], "READY", seconds=120)
    again = fleet.guest(booted["instance_name"])
    assert again is not guest
    assert ready["generation"] == stopped["generation"] + 1
    assert again.run("docker", "exec", "workspace", "cat", "/home/workspace/work") == "kept\n"
    assert again.run("docker", "exec", "workspace", "ls", "/run/secrets") == ""
    assert reports(again, "ready") == 1
    assert 224 * MEBIBYTE < home_bytes(again) < 256 * MEBIBYTE


def test_a_home_grows_while_its_machine_runs_and_a_new_machine_uses_all_of_it(
    booted: Workspace, fleet: Fleet, alice: ApiClient
) -> None:
    """Its files stay. The same START again changes nothing, and a boot without a growth neither."""
    guest = fleet.guest(booted["instance_name"])
    before = alice.status(booted["id"])
    guest.run("sh", "-c", "echo all of it >/mnt/disks/home/home/before-it-grew")

    alice.start(booted["id"], home_disk_gb=8 * before["home_disk_gb"])
    grown = alice.wait_until_settled(booted["id"], "READY", seconds=120)

    again = fleet.guest(booted["instance_name"])
    assert again is not guest
    assert grown["home_disk_gb"] == 8 * before["home_disk_gb"]
    assert 7 * 64 * MEBIBYTE < home_bytes(again) < 8 * 64 * MEBIBYTE
    assert again.run("cat", "/mnt/disks/home/home/before-it-grew") == "all of it\n"

    same = alice.start(booted["id"], home_disk_gb=grown["home_disk_gb"])
    assert (same["status"], same["generation"]) == ("READY", grown["generation"])
    size = home_bytes(again)
    again.run("/bin/bash", "/etc/workspace-hub/disk.sh")
    assert home_bytes(again) == size
    log = again.run("journalctl", "--unit=workspace-disk.service", "--output=cat", "--no-pager")
    assert "does not grow" not in log


def test_another_image_is_run_by_a_new_machine_on_the_same_home(
    booted: Workspace, fleet: Fleet, alice: ApiClient
) -> None:
    """The image is given by its digest, which always names the same image."""
    alice.stop(booted["id"])
    alice.wait_until_settled(booted["id"], "SUSPENDED", seconds=60)
    alice.start(booted["id"], image_tag=fleet.digest_of("latest"))
    ready = alice.wait_until_settled(booted["id"], "READY", seconds=120)
    assert ready["image_tag"].startswith("sha256:")
    guest = fleet.guest(booted["instance_name"])
    assert guest.run("docker", "exec", "workspace", "cat", "/home/workspace/work") == "kept\n"


def test_nothing_secret_is_on_the_console(booted: Workspace, fleet: Fleet) -> None:
    """Nor in the journal: no token appears, though each report had one."""
    said = fleet.console(booted["instance_name"]) + fleet.guest(booted["instance_name"]).run(
        "journalctl", "--no-pager"
    )
    assert "the Hub answered 204" in said
    assert "the Hub answered 204" in fleet.console(booted["instance_name"])
    assert not re.search(r"eyJ[\w-]+\.", said)


UNUSABLE_IMAGES = {
    "missing": "IMAGE_MISSING",
    "denied": "IMAGE_DENIED",
    "restless": "CONTAINER_ENDS",
    "fickle": "CONTAINER_ENDS",
    "empty": "CONTAINER_ENDS",
    "foreign": "IMAGE_WRONG_PLATFORM",
}
WORDS = {
    "denied": "Docker said: ",
    "restless": "status 3",
    "fickle": "status 4",
    "empty": "not in the image",
}


@pytest.mark.parametrize(
    "tags", [("missing", "denied", "restless"), ("fickle", "empty", "foreign")]
)
def test_an_image_that_does_not_run_is_an_error_with_its_reason(
    alice: ApiClient, fleet: Fleet, tags: tuple[str, ...]
) -> None:
    """The console has the reason too.

    The workspace is never READY, no machine remains, and it can be deleted.
    """
    made = {tag: alice.create(tag, image_tag=tag)["id"] for tag in tags}
    for tag in tags:
        failed = alice.wait_until_settled(made[tag], "ERROR", seconds=240)
        assert (tag, failed["error"]["code"]) == (tag, UNUSABLE_IMAGES[tag])
        assert "image" in failed["error"]["message"]
        assert WORDS.get(tag, "") in failed["error"]["message"]
        assert f"{failed['error']['code']} The" in fleet.console(failed["instance_name"])
        assert "WorkspaceReady" not in {event["what"] for event in alice.events(made[tag])}
        alice.delete(made[tag])
        alice.wait_until_gone(made[tag])


def test_a_right_that_takes_effect_late_is_waited_for(alice: ApiClient, fleet: Fleet) -> None:
    """A new Hub's first workspace may be created directly after the machines' account."""
    made = alice.create("late", image_tag="late")
    ready = alice.wait_until_settled(made["id"], "READY", seconds=120)
    said = fleet.guest(ready["instance_name"]).run(
        "journalctl", "--unit=workspace-container.service", "--no-pager"
    )
    assert "denied" in said.lower()
    alice.delete(made["id"])
    alice.wait_until_gone(made["id"])


def test_a_boot_disk_that_is_too_small_is_an_error_that_says_so(
    alice: ApiClient, fleet: Fleet
) -> None:
    """The error has Docker's words."""
    fleet.boot_disk_bytes = 8 * MEBIBYTE
    try:
        made = alice.create("full")
        failed = alice.wait_until_settled(made["id"], "ERROR", seconds=120)
    finally:
        fleet.boot_disk_bytes = None
    assert failed["error"]["code"] == "BOOT_DISK_FULL"
    assert "Docker said: " in failed["error"]["message"]
    assert "no space left on device" in failed["error"]["message"]
    alice.delete(made["id"])
    alice.wait_until_gone(made["id"])


def test_foreign_contents_of_the_disk_are_an_error_and_stay(alice: ApiClient, fleet: Fleet) -> None:
    """The disk is not formatted."""

    def prepare(disk: Path) -> None:
        subprocess.run(["mke2fs", "-q", "-t", "ext2", disk], check=True)

    fleet.prepare_disk = prepare
    made = alice.create("foreign")
    disk = fleet.home(made["id"])
    wait_for(lambda: disk.exists() and disk.stat().st_blocks > 0, "the disk is there")
    before = digest(disk)
    failed = alice.wait_until_settled(made["id"], "ERROR", seconds=120)
    assert failed["error"]["code"] == "DISK_FOREIGN"
    assert digest(disk) == before


def test_a_home_that_became_foreign_is_an_error_and_stays(
    booted: Workspace, cloud: RunningCloud, fleet: Fleet, alice: ApiClient
) -> None:
    """A START fails with the reason, and the machine is off.

    The disk is unchanged: it is not formatted.
    """
    alice.stop(booted["id"])
    alice.wait_until_settled(booted["id"], "SUSPENDED", seconds=60)
    fleet.off(booted["instance_name"])
    home = fleet.home(booted["id"])
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", home], check=True)
    before = digest(home)
    alice.start(booted["id"])
    failed = alice.wait_until_settled(booted["id"], "ERROR", seconds=120)
    assert failed["error"]["code"] == "DISK_FOREIGN"
    assert digest(home) == before
    assert [
        disk["name"]
        for disk in in_compute(cloud, "disks", booted["id"])
        if disk["name"].startswith("home-")
    ]
