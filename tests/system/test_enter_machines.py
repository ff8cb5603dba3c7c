"""People who enter workspaces of the local cloud, with OpenSSH's client."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localcloud.api_client import ApiClient, Workspace
from localcloud.processes.process_tree import can_hold_machines
from localcloud.running_cloud import RunningCloud
from localcloud.settings import ADMIN_EMAIL
from tests.processes import eventually, is_gone
from tests.system.records import call_scheduled, in_compute, snapshots_in_compute

if not can_hold_machines():
    pytest.skip("machines that one can enter need Linux", allow_module_level=True)
if not shutil.which("ssh"):
    pytest.skip("ssh is not installed", allow_module_level=True)


class Person:
    """Somebody with an SSH key, which OS Login knows.

    Args:
        cloud: the local cloud.
        folder: an empty folder.
    """

    def __init__(self, cloud: RunningCloud, folder: Path) -> None:
        self.email = f"{uuid.uuid4()}@example.com"
        self.client = ApiClient(cloud.address, cloud.token(self.email))
        self._folder = folder
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")]
        subprocess.run(command, check=True)
        cloud.import_ssh_key(self.email, (folder / "key.pub").read_text())

    def ssh(self, workspace: Workspace, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a workspace."""
        return subprocess.run(
            ["ssh", *self.options(workspace), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def options(self, workspace: Workspace) -> list[str]:
        """Return how ssh enters a workspace: it believes only the host key that the Hub knows."""
        connection = workspace["connection"]
        known_hosts = self._folder / workspace["id"]
        host, port = connection["host"], connection["port"]
        known_hosts.write_text(f"[{host}]:{port} {connection['host_key']}\n")
        return [
            *("-F", "none", "-i", str(self._folder / "key"), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-p", str(port)),
            f"{connection['user']}@{host}",
        ]


@pytest.fixture
def person(cloud: RunningCloud, tmp_path: Path) -> Callable[[], Person]:
    """Make somebody new."""

    def make() -> Person:
        folder = tmp_path / str(uuid.uuid4())
        folder.mkdir()
        return Person(cloud, folder)

    return make


def ready(person: Person, **fields: Any) -> Workspace:
    """Create a workspace, and wait until its owner may enter it."""
    made = person.client.create("api", **fields)
    return person.client.wait(
        made["id"],
        lambda ws: ws["status"] == "READY" and ws["connection"]["access"]["state"] == "granted",
    )


def test_only_the_owner_enters_a_workspace(person: Callable[[], Person]) -> None:
    """The worker has given them the right on this one machine; nobody else has it."""
    alice, bob = person(), person()
    workspace = ready(alice, metadata={"repo": "example/api", "branch": "main"})
    done = alice.ssh(workspace, "echo $WORKSPACE_ID $WORKSPACE_REPO $WORKSPACE_BRANCH; exit 4")
    assert (done.stdout, done.returncode) == (f"{workspace['id']} example/api main\n", 4)
    refused = bob.ssh(workspace, "true")
    assert (refused.returncode, "Permission denied" in refused.stderr) == (255, True)
    his = ready(bob)
    assert bob.ssh(his, "true").returncode == 0
    assert alice.ssh(his, "true").returncode == 255


def test_what_runs_goes_on_after_a_stop_and_a_start(person: Callable[[], Person]) -> None:
    """SUSPENDED means that nothing runs, and READY that it runs again where it was."""
    alice = person()
    workspace = ready(alice)
    count = "i=0; while :; do i=$((i + 1)); echo $i >>count; sleep 0.05; done"
    alice.ssh(workspace, f"nohup sh -c '{count}' >/dev/null 2>&1 &")
    home = Path(alice.ssh(workspace, "pwd").stdout.strip())
    assert eventually((home / "count").exists)

    alice.client.stop(workspace["id"])
    alice.client.wait_until_settled(workspace["id"], "SUSPENDED")
    lines = (home / "count").read_text().splitlines()
    assert alice.ssh(workspace, "true").returncode == 255
    assert (home / "count").read_text().splitlines() == lines
    alice.client.start(workspace["id"])
    alice.client.wait_until_settled(workspace["id"], "READY")
    assert eventually(lambda: len((home / "count").read_text().splitlines()) > len(lines) + 5)
    counted = (home / "count").read_text().splitlines()
    assert counted == [str(number + 1) for number in range(len(counted))]


def test_a_home_outlives_its_machine_and_ends_with_its_workspace(
    person: Callable[[], Person],
) -> None:
    """A rebuild makes another machine, with another host key, on the same home."""
    alice = person()
    workspace = ready(alice)
    done = alice.ssh(workspace, "echo kept >file; nohup sleep 1000 >/dev/null 2>&1 & echo $!; pwd")
    pid, folder = done.stdout.splitlines()
    alice.client.start(workspace["id"], rebuild=True)
    rebuilt = alice.client.wait(
        workspace["id"],
        lambda ws: (
            ws["operation"] is None
            and ws["status"] == "READY"
            and ws["connection"]["access"]["state"] == "granted"
        ),
    )
    assert rebuilt["connection"]["instance_id"] != workspace["connection"]["instance_id"]
    assert rebuilt["connection"]["host_key"] != workspace["connection"]["host_key"]
    assert alice.ssh(rebuilt, "cat file").stdout == "kept\n"
    assert is_gone(int(pid))
    alice.client.delete(workspace["id"])
    alice.client.wait_until_gone(workspace["id"])
    assert eventually(lambda: not Path(folder).exists())


def test_a_restore_brings_files_back_and_keeps_what_was_there(
    cloud: RunningCloud, person: Callable[[], Person]
) -> None:
    """A second RESTORE, of what the first one has kept, brings that back.

    The new machine is on another disk. The old disk's folder goes with the hourly sweep. Another
    person's home stays theirs.
    """
    alice, bob = person(), person()
    workspace, his = ready(alice), ready(bob)
    bob.ssh(his, "echo his >note")
    alice.ssh(workspace, "echo first >note; mkdir -p deep/er; echo x >deep/er/file")
    first = snapshot_of(alice, workspace)
    seen = alice.ssh(workspace, "echo second >note; rm -r deep; echo new >more; pwd")
    old_folder = Path(seen.stdout.strip())

    restored = restore(alice, workspace, first)
    assert restored["connection"]["instance_id"] != workspace["connection"]["instance_id"]
    seen = alice.ssh(restored, "cat note deep/er/file; ls; pwd")
    assert seen.stdout.splitlines()[:-1] == ["first", "x", "deep", "note"]
    assert Path(seen.stdout.splitlines()[-1]) != old_folder
    assert (old_folder / "note").read_text() == "second\n"
    [kept] = [each["id"] for each in alice.client.snapshots(workspace["id"]) if each["automatic"]]
    assert bob.ssh(restored, "true").returncode == 255
    for stranger in (bob.client, ApiClient(cloud.address, cloud.token(ADMIN_EMAIL))):
        path = f"/workspaces/{workspace['id']}/restore"
        refused = stranger.request("POST", path, json={"snapshot_id": first})
        assert refused.status_code == 404
    refused = bob.client.request(
        "POST", f"/workspaces/{his['id']}/restore", json={"snapshot_id": first}
    )
    assert refused.status_code == 404

    back = restore(alice, restored, kept)
    assert alice.ssh(back, "cat note more; ls").stdout == "second\nnew\nmore\nnote\n"
    call_scheduled(cloud, "reconcile_fleet")
    assert eventually(lambda: not old_folder.exists())
    assert alice.ssh(back, "cat note").stdout == "second\n"
    assert bob.ssh(his, "cat note").stdout == "his\n"


def test_a_deleted_workspace_comes_back_with_its_files(
    cloud: RunningCloud, person: Callable[[], Person]
) -> None:
    """It has its id, and its name if nobody has that by now. Deleted for good, nothing is left.

    Another person can neither see it nor take it back, and keeps what is theirs.
    """
    alice, bob = person(), person()
    workspace, his = ready(alice), ready(bob)
    bob.ssh(his, "echo his >note")
    seen = alice.ssh(workspace, "echo hers >note; mkdir -p deep/er; echo x >deep/er/file; pwd")
    folder, path = Path(seen.stdout.strip()), f"/workspaces/{workspace['id']}"

    assert alice.client.delete(workspace["id"])["undelete_until"] is not None
    alice.client.wait_until_gone(workspace["id"])
    assert alice.client.request("GET", path).status_code == 404
    assert eventually(lambda: not folder.exists())
    [entry] = alice.client.deleted()
    assert (entry["id"], entry["name"]) == (workspace["id"], "api")
    assert bob.client.deleted() == []
    assert bob.client.request("POST", f"{path}/undelete", json={}).status_code == 404
    other = alice.client.create("api")
    assert alice.client.request("POST", f"{path}/undelete", json={}).status_code == 409

    back = alice.client.undelete(workspace["id"], name="api-2")
    assert (back["id"], back["name"], back["status"]) == (workspace["id"], "api-2", "SUSPENDED")
    assert alice.client.deleted() == []
    alice.client.start(workspace["id"])
    back = entered(alice, workspace["id"])
    assert alice.ssh(back, "cat note deep/er/file; ls").stdout == "hers\nx\ndeep\nnote\n"
    assert bob.ssh(back, "true").returncode == 255
    assert alice.ssh(entered(alice, other["id"]), "ls -A").stdout == ""

    assert alice.client.delete(workspace["id"], purge=True)["undelete_until"] is None
    alice.client.wait_until_gone(workspace["id"])
    assert alice.client.deleted() == []
    assert eventually(
        lambda: (
            not [each for each in snapshots_in_compute(cloud) if workspace["id"] in each["name"]]
        )
    )
    assert in_compute(cloud, "disks", workspace["id"]) == []
    assert bob.ssh(his, "cat note").stdout == "his\n"


def test_an_archived_workspace_comes_back_with_its_files(
    cloud: RunningCloud, person: Callable[[], Person]
) -> None:
    """By a start, and also if it was deleted and taken back meanwhile. Nothing runs until then.

    Another person can neither archive nor start it, and keeps what is theirs.
    """
    alice, bob = person(), person()
    workspace, his = ready(alice), ready(bob)
    bob.ssh(his, "echo his >note")
    seen = alice.ssh(workspace, "echo hers >note; mkdir -p deep/er; echo x >deep/er/file; pwd")
    folder, path = Path(seen.stdout.strip()), f"/workspaces/{workspace['id']}"
    assert bob.client.request("POST", f"{path}/archive").status_code == 404

    archived = archive(alice, workspace)
    assert archived["archived_at"] is not None
    assert (archived["memory_kept"], archived["instance"]) == (False, None)
    assert in_compute(cloud, "instances", workspace["id"]) == []
    assert in_compute(cloud, "disks", workspace["id"]) == []
    assert eventually(lambda: not folder.exists())
    assert alice.ssh(workspace, "true").returncode == 255
    assert bob.client.request("POST", f"{path}/start").status_code == 404

    alice.client.start(workspace["id"])
    back = entered(alice, workspace["id"])
    assert back["archived_at"] is None
    assert alice.ssh(back, "cat note deep/er/file; ls").stdout == "hers\nx\ndeep\nnote\n"
    assert bob.ssh(back, "true").returncode == 255
    alice.ssh(back, "echo more >>note")

    archive(alice, back)
    alice.client.delete(workspace["id"])
    alice.client.wait_until_gone(workspace["id"])
    assert alice.client.undelete(workspace["id"])["archived_at"] is not None
    alice.client.start(workspace["id"])
    again = entered(alice, workspace["id"])
    assert alice.ssh(again, "cat note deep/er/file").stdout == "hers\nmore\nx\n"
    assert bob.ssh(again, "true").returncode == 255
    assert alice.ssh(his, "true").returncode == 255
    assert bob.ssh(his, "cat note").stdout == "his\n"


def test_a_workspace_moves_with_its_files_to_a_zone_that_has_capacity(
    cloud: RunningCloud, person: Callable[[], Person]
) -> None:
    """Only if its owner says so. If no zone has capacity, memory and files are where they were.

    Machine and disk of before go with the hourly sweep. Another person cannot move it, and keeps
    what is theirs.
    """
    alice, bob = person(), person()
    workspace, his = ready(alice), ready(bob)
    workspace_id, machine, zone = workspace["id"], workspace["instance_name"], workspace["zone"]
    bob.ssh(his, "echo his >note")
    count = "i=0; while :; do i=$((i + 1)); echo $i >>count; sleep 0.05; done"
    seen = alice.ssh(workspace, f"echo hers >note; pwd; nohup sh -c '{count}' >/dev/null 2>&1 &")
    folder = Path(seen.stdout.strip())
    assert eventually((folder / "count").exists)
    alice.client.stop(workspace_id)
    alice.client.wait_until_settled(workspace_id, "SUSPENDED")
    for change in ({"may_move": True}, {"zone": "us-west1-c"}):
        refused = bob.client.request("POST", f"/workspaces/{workspace_id}/start", json=change)
        assert refused.status_code == 404

    cloud.fault("stock_out", instance=machine)
    for agreed in (False, True):
        alice.client.start(workspace_id, may_move=agreed)
        stays = alice.client.wait_until_settled(workspace_id, "SUSPENDED")
        assert (stays["zone"], stays["memory_kept"]) == (zone, True)
        assert stays["error"]["code"] == "NO_CAPACITY"
        assert agreed or "may_move" in stays["error"]["message"]
    lines = (folder / "count").read_text().splitlines()
    cloud.fault("stock_out", off=True)
    alice.client.start(workspace_id)
    entered(alice, workspace_id)
    assert eventually(lambda: len((folder / "count").read_text().splitlines()) > len(lines))

    cloud.fault("stock_out", instance=machine, zone=zone)
    alice.client.stop(workspace_id)
    alice.client.wait_until_settled(workspace_id, "SUSPENDED")
    alice.client.start(workspace_id, may_move=True)
    moved = entered(alice, workspace_id)
    assert moved["zone"] != zone
    counted = alice.ssh(moved, "cat note; cat count; pwd").stdout.splitlines()
    assert counted[0] == "hers"
    assert counted[1:-1] == [str(number + 1) for number in range(len(counted) - 2)]
    assert folder.exists()
    assert folder != Path(counted[-1])
    assert bob.ssh(moved, "true").returncode == 255
    assert alice.ssh(his, "true").returncode == 255

    def nothing_is_left_there() -> bool:
        call_scheduled(cloud, "reconcile_fleet")
        found = [
            *in_compute(cloud, "instances", machine),
            *in_compute(cloud, "disks", workspace_id),
        ]
        return not folder.exists() and not [one for one in found if zone in one["selfLink"]]

    assert eventually(nothing_is_left_there)
    cloud.fault("stock_out", off=True)
    assert alice.ssh(moved, "cat note").stdout == "hers\n"
    assert bob.ssh(his, "cat note").stdout == "his\n"


def test_a_home_that_grows_has_the_same_files(
    cloud: RunningCloud, person: Callable[[], Person]
) -> None:
    """On the same disk, which is larger then, and which cannot be made smaller."""
    alice, bob = person(), person()
    workspace = ready(alice)
    folder = alice.ssh(workspace, "echo hers >note; pwd").stdout
    larger = {"home_disk_gb": 100}
    path = f"/workspaces/{workspace['id']}/start"
    assert bob.client.request("POST", path, json=larger).status_code == 404

    alice.client.start(workspace["id"], **larger)
    grown = entered(alice, workspace["id"])
    assert (grown["zone"], grown["home_disk_gb"]) == (workspace["zone"], 100)
    [home] = in_compute(cloud, "disks", f"home-{workspace['id']}")
    assert home["sizeGb"] == "100"
    assert alice.ssh(grown, "cat note; pwd").stdout == f"hers\n{folder}"
    assert bob.ssh(grown, "true").returncode == 255
    refused = alice.client.request("POST", path, json={"home_disk_gb": 60})
    assert (refused.status_code, "can only grow" in refused.text) == (400, True)


def archive(person: Person, workspace: Workspace) -> Workspace:
    """Archive a workspace, and wait until it is."""
    person.client.archive(workspace["id"])
    return person.client.wait_until_settled(workspace["id"], "SUSPENDED")


def snapshot_of(person: Person, workspace: Workspace) -> str:
    """Take a snapshot of a workspace, wait until it is READY, and return its id."""
    operation = person.client.take_snapshot(workspace["id"])["operation"]

    def is_stored() -> bool:
        listed = person.client.snapshots(workspace["id"])
        return any((each["id"], each["state"]) == (operation["id"], "READY") for each in listed)

    assert eventually(is_stored)
    return str(operation["id"])


def restore(person: Person, workspace: Workspace, snapshot_id: str) -> Workspace:
    """Restore a home, and wait until its owner may enter the new machine."""
    person.client.restore(workspace["id"], snapshot_id)
    return entered(person, workspace["id"])


def entered(person: Person, workspace_id: str) -> Workspace:
    """Wait until a workspace is READY and its owner may enter it."""
    return person.client.wait(
        workspace_id,
        lambda ws: (
            ws["operation"] is None
            and ws["status"] == "READY"
            and ws["connection"]["access"]["state"] == "granted"
        ),
    )


def test_whoever_is_logged_in_keeps_a_workspace_from_being_idle(
    cloud: RunningCloud, person: Callable[[], Person]
) -> None:
    """The machine says so by its heartbeats, as long as the connection lasts."""
    alice = person()
    workspace = ready(alice)

    def heartbeats() -> int:
        reports = cloud.compute_history()["reports"]
        mine = [each for each in reports if each["instance"] == workspace["instance_name"]]
        return sum(each["event"] == "heartbeat" for each in mine)

    assert heartbeats() == 0
    command = ["ssh", "-N", *alice.options(workspace)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as connection:
        assert eventually(lambda: heartbeats() >= 2)
        [machine] = [
            each for each in cloud.machines() if each["name"] == workspace["instance_name"]
        ]
        assert machine["connected"]
        connection.terminate()
    assert alice.client.status(workspace["id"])["last_connected_at"] > workspace["created_at"]
