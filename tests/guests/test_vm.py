"""Boots the boot configuration in QEMU: kernel, udev, network card, cloud-init's own data source.

The tests in systemd-nspawn (``test_nspawn.py``) are not repeated, except where a container needs
changes that a whole machine does not. These tests cannot cover Container-Optimized OS itself (its
read-only root, its firewall, its AppArmor, its ``docker-credential-gcr``). They cannot cover
suspend and resume by ACPI either, which the emulation does not survive. A pause of the processors
is used instead.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from localcloud.api_client import ApiClient, Workspace
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.guests import qemu
from tests.guests.fleet import IMAGE_REPOSITORY, Fleet, Kind
from tests.guests.image import whole_machine

LACKING = qemu.missing()
BOOT_SECONDS = 600  # a boot takes about two minutes on an idle host
STEP_SECONDS = 120  # for steps that take seconds on an idle host
PAUSE_SECONDS = 6
pytestmark = [
    pytest.mark.xdist_group("whole-machine"),
    pytest.mark.skipif("not config.getoption('--whole-machine')", reason="opt-in: nox -s vm"),
    pytest.mark.skipif(
        bool(LACKING),
        reason=f"a whole machine needs {', '.join(LACKING)}",
    ),
    pytest.mark.timeout(1500),  # the first run makes the machine's disk
]


@dataclass(frozen=True)
class Ssh:
    """An SSH client on this host, which connects through a forwarded port."""

    key: Path

    def let_in(self, guest: qemu.Guest) -> None:
        """Create a user whom sshd accepts, as OS Login does."""
        guest.run("useradd", "--create-home", "--shell", "/bin/bash", "dev")
        keys = "install -D -o dev -m 0600 /dev/stdin /home/dev/.ssh/authorized_keys"
        guest.run("sh", "-c", keys, user_input=self.key.with_suffix(".pub").read_text())

    def command(self, guest: qemu.Guest, *command: str) -> list[str]:
        """Return the command line that connects."""
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
        ]
        given = [argument for option in options for argument in ("-o", option)]
        return [
            "ssh",
            "-F",
            "none",
            "-T",
            "-i",
            str(self.key),
            "-p",
            str(guest.ssh_port),
            *given,
            "dev@127.0.0.1",
            *command,
        ]

    def run(self, guest: qemu.Guest, *command: str, said: str = "") -> str:
        """Connect, run a command and return its output."""
        done = subprocess.run(
            self.command(guest, *command),
            input=said,
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_SECONDS,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    """A cloud with silent simulated machines, without suspend. Its guests report often."""
    overrides = {
        "HUB_IMAGE_REPOSITORY": IMAGE_REPOSITORY,
        "HUB_HEARTBEAT_SECONDS": "3",
        "HUB_HEALTH_COMMAND": "test -w ~",
    }
    with start_cloud(LocalSettings(times="fast", schedule_seconds=1, overrides=overrides)) as cloud:
        cloud.fault("never_ready")
        cloud.fault("suspend_unsupported")
        yield cloud


@pytest.fixture(scope="module")
def fleet(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Whole machines as guests for the cloud's machines."""
    image = whole_machine()
    kind = Kind(partial(qemu.Guest, image=image), image.busybox)
    fleet = Fleet(cloud, tmp_path_factory.mktemp("machines"), kind)
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def alice(cloud: RunningCloud) -> ApiClient:
    """The owner of the workspace."""
    return ApiClient(cloud.address, cloud.token("alice@example.com"))


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Ssh:
    """An SSH client with its own key."""
    key = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=STEP_SECONDS
    )
    return Ssh(key)


@pytest.fixture(scope="module")
def booted(alice: ApiClient, fleet: Fleet, ssh: Ssh) -> Workspace:
    """A workspace that its real guest has made READY, which accepts the SSH key."""
    made = alice.create("api")
    ready = ready_by_itself(alice, fleet, made["id"])
    ssh.let_in(guest_of(fleet, ready))
    return ready


def ready_by_itself(alice: ApiClient, fleet: Fleet, workspace_id: str) -> Workspace:
    """Wait until a workspace is READY; on a failure show the end of its machine's console."""

    def over(workspace: Workspace) -> bool:
        return workspace["operation"] is None and workspace["status"] in {"READY", "ERROR"}

    try:
        ready = alice.wait(workspace_id, over, seconds=BOOT_SECONDS)
        assert ready["status"] == "READY", ready["error"]
    except (TimeoutError, AssertionError) as error:
        error.add_note(fleet.console(alice.status(workspace_id)["instance_name"])[-4000:])
        raise
    return ready


def guest_of(fleet: Fleet, workspace: Workspace) -> qemu.Guest:
    """Return the guest of a workspace's machine."""
    guest = fleet.guest(workspace["instance_name"])
    assert isinstance(guest, qemu.Guest)
    return guest


def reports(guest: qemu.Guest, event: str) -> int:
    """Return how many reports of this event the Hub has accepted."""
    log = guest.run("journalctl", "--unit=workspace-ready.service", "--output=cat", "--no-pager")
    return len(re.findall(rf"report {event}\b.* of generation \d+: the Hub answered 204", log))


def tokens(guest: qemu.Guest) -> int:
    """Return how many identity tokens a machine has requested."""
    return sum("/service-accounts/default/identity?" in path for path in guest.asked)


def lag(guest: qemu.Guest) -> float:
    """Return by how many seconds a machine's clock is late; negative if it is early."""
    return time.time() - float(guest.run("date", "+%s.%N"))


def wait_for(seen: Callable[[], bool], what: str) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + STEP_SECONDS
    while not seen():
        assert time.monotonic() < deadline, f"not within {STEP_SECONDS} s: {what}"
        time.sleep(0.5)


def test_cloud_init_finds_compute_engine_with_its_own_unpatched_source(
    booted: Workspace, fleet: Fleet
) -> None:
    """It recognises the machine's firmware.

    The machine has its own kernel, and nothing fails at boot.
    """
    guest = guest_of(fleet, booted)
    assert guest.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
    assert guest.run("uname", "--kernel-release").strip().endswith("-cloud-amd64")
    assert "DataSourceGCELocal" in guest.run("cat", "/run/cloud-init/result.json")
    assert '"errors": []' in guest.run("cat", "/run/cloud-init/result.json")
    assert "DataSourceGCE" not in guest.run("dpkg", "--verify", "cloud-init", check=False)


def test_udev_names_the_home_disk_and_it_is_mounted(booted: Workspace, fleet: Fleet) -> None:
    """The name is the one under which Compute attaches it."""
    guest = guest_of(fleet, booted)
    disk = guest.run("readlink", "--canonicalize", "/dev/disk/by-id/google-home").strip()
    assert re.fullmatch(r"/dev/sd[a-z]", disk)
    mounted = guest.run(
        "findmnt", "--noheadings", "--output", "SOURCE,FSTYPE,LABEL", "/mnt/disks/home"
    )
    assert mounted.split() == [disk, "ext4", "workspace-home"]


def test_the_container_runs_and_is_reported_once(booted: Workspace, fleet: Fleet) -> None:
    """It has written to its home.

    The Hub has accepted one report of the machine's first generation.
    """
    guest = guest_of(fleet, booted)
    form = "{{.State.Running}} {{.Config.User}} {{.HostConfig.Privileged}}"
    assert (
        guest.run("docker", "inspect", "--format", form, "workspace").strip()
        == "true 1000:1000 false"
    )
    assert (
        guest.run("stat", "--format", "%u:%g", "/mnt/disks/home/home/started").strip()
        == "1000:1000"
    )
    assert reports(guest, "ready") == 1


def test_a_person_who_connects_from_outside_lands_in_the_container(
    booted: Workspace, fleet: Fleet, ssh: Ssh
) -> None:
    """The connection is through a forwarded port, and never ends on the machine itself."""
    guest = guest_of(fleet, booted)
    assert ssh.run(guest, 'echo "$WORKSPACE_ID $(id -u)"').strip() == f"{booted['id']} 1000"
    assert ssh.run(guest, said="echo at home in $PWD\n").strip() == "at home in /home/workspace"


def test_after_a_pause_the_clock_is_late_and_heartbeats_are_accepted(
    booted: Workspace, fleet: Fleet, ssh: Ssh
) -> None:
    """They have a fresh token, and an open SSH connection continues."""
    guest = guest_of(fleet, booted)
    with subprocess.Popen(
        ssh.command(guest, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as connected:
        try:
            wait_for(
                lambda: reports(guest, "heartbeat") > 0, "heartbeats while somebody is connected"
            )
            before = lag(guest)
            guest.pause()
            time.sleep(1)  # what it had sent is answered
            asked, fetched = len(guest.asked), tokens(guest)
            time.sleep(PAUSE_SECONDS)
            assert len(guest.asked) == asked, "the machine does something while it is paused"
            guest.go_on()
            taken = reports(guest, "heartbeat")
            wait_for(lambda: reports(guest, "heartbeat") >= taken + 2, "heartbeats after the pause")
            assert tokens(guest) > fetched  # the second, at the latest, began after the pause
            assert lag(guest) - before > PAUSE_SECONDS / 2
            echoed, _ = connected.communicate("still here\n", timeout=STEP_SECONDS)
            assert echoed == "still here\n"
        finally:
            connected.kill()


def test_a_stop_and_a_start_keep_the_home_and_forget_the_secrets(
    booted: Workspace, fleet: Fleet, alice: ApiClient, ssh: Ssh
) -> None:
    """The power button shuts the machine down.

    It boots again, and is READY under the next generation.
    """
    guest = guest_of(fleet, booted)
    ssh.run(guest, "echo kept > ~/work; echo secret > /run/secrets/token")
    alice.stop(booted["id"])
    stopped = alice.wait_until_settled(booted["id"], "SUSPENDED", seconds=STEP_SECONDS)
    wait_for(
        lambda: "reboot: Power down" in fleet.console(booted["instance_name"]),
        "the machine shuts down",
    )
    alice.start(booted["id"])
    ready = ready_by_itself(alice, fleet, booted["id"])
    again = guest_of(fleet, booted)
    assert again is not guest
    assert ready["generation"] == stopped["generation"] + 1
    assert again.run("docker", "exec", "workspace", "cat", "/home/workspace/work") == "kept\n"
    assert again.run("docker", "exec", "workspace", "ls", "/run/secrets") == ""
    assert reports(again, "ready") == 1


def test_nothing_secret_is_on_the_console(booted: Workspace, fleet: Fleet) -> None:
    """Nor in the journal: no token appears, though each report had one."""
    said = fleet.console(booted["instance_name"]) + guest_of(fleet, booted).run(
        "journalctl", "--no-pager"
    )
    assert "the Hub answered 204" in said
    assert not re.search(r"eyJ[\w-]+\.", said)
