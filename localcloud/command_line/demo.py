"""The demo of the main job: two people use the Hub on a local cloud, and a third administers it.

One of them works in her workspace, by the command ``workspace``. That needs Linux and OpenSSH's
client; elsewhere the local cloud is told that she is connected. The demo exits with 0 only if
everything happened as expected.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from localcloud.api_client import ApiClient, RefusedError, Workspace
from localcloud.command_line.options import add_emulators_option
from localcloud.command_line.workspace_command import (
    CommandFailedError,
    RunningCommand,
    WorkspaceCommand,
)
from localcloud.processes.children import LocalCloudError
from localcloud.processes.process_tree import can_hold_machines
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings

IDLE_SECONDS = 6
SETTINGS = LocalSettings(overrides={"HUB_IDLE_SECONDS": str(IDLE_SECONDS)}, schedule_seconds=1)

_STRANGERS_REQUESTS = (("GET", "/status"), ("POST", "/stop"), ("POST", "/start"), ("DELETE", ""))


_COUNT_SECONDS = 0.2
_COUNT = f"i=0; while :; do i=$((i + 1)); echo $i; sleep {_COUNT_SECONDS}; done"


class UnexpectedError(Exception):
    """Something that the demo shows did not happen."""


class Steps:
    """Prints each step with the time that it took."""

    def __init__(self) -> None:
        self._began = self._step_began = time.monotonic()

    def done(self, text: str) -> None:
        """Print a step that is done."""
        now = time.monotonic()
        print(f"{now - self._began:6.1f} s  (+{now - self._step_began:4.1f})  {text}", flush=True)
        self._step_began = now


class ProgressPrinter:
    """Prints the phases of a workspace."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, workspace: Workspace) -> None:
        """Print a line if it differs from the last one."""
        operation = workspace["operation"]
        doing = f"{operation['kind']} {operation['phase']}" if operation else "-"
        machine = workspace["instance"]["status"] if workspace["instance"] else "none yet"
        line = f"{workspace['status']:<12} {doing:<24} machine: {machine}"
        if line != self._last:
            print(f"{'':18}{line}", flush=True)
            self._last = line


def expect(condition: bool, what: str) -> None:
    """Go on only if a condition holds.

    Raises:
        UnexpectedError: it does not.
    """
    if not condition:
        raise UnexpectedError(what)


def use(cloud: RunningCloud, steps: Steps) -> None:
    """Do everything that a person does with a workspace, and check the results."""
    alice = ApiClient(cloud.address, cloud.token("alice@example.com"))
    bob = ApiClient(cloud.address, cloud.token("bob@example.com"))
    carol = ApiClient(cloud.address, cloud.token("carol@example.com"))

    refusal = carol.request("GET", "/workspaces", params={"all": "true"}).status_code
    expect(refusal == 403, f"Carol is no administrator yet; she got {refusal}")
    cloud.make_admin("carol@example.com")
    expect(carol.workspaces(all="true") == [], "Carol may list everybody's, and there are none yet")
    steps.done(f"Carol tries to list everybody's: {refusal}; made an administrator, she may")

    made = alice.create("api", metadata={"repo": "github.com/example/api", "branch": "main"})
    workspace_id = made["id"]
    expect(made["status"] == "PROVISIONING", "a new workspace is PROVISIONING")
    steps.done(f"Alice asks for a workspace: {workspace_id}")
    with _visit(cloud, made) as visit:
        progress = ProgressPrinter()
        ready = alice.wait(workspace_id, lambda ws: ws["status"] == "READY", watch=progress)
        steps.done("it is READY")
        visit.arrive(steps)
        share(steps, alice, bob, ready)
        sleep_and_wake(steps, alice, ready, visit)
        visit.stay(steps, alice, workspace_id)
        administer(steps, carol, alice, workspace_id)

    idle = alice.wait(
        workspace_id, _settled("SUSPENDED"), seconds=IDLE_SECONDS + 15, watch=ProgressPrinter()
    )
    expect(idle["instance"]["status"] == "SUSPENDED", "the idle machine is suspended")
    steps.done(f"she leaves; nobody connected for {IDLE_SECONDS} s: the cleanup has suspended it")

    alice.delete(workspace_id)
    alice.wait_until_gone(workspace_id)
    expect(alice.workspaces() == [], "the list is empty")
    left = _left_in_compute(cloud)
    expect(left == [], f"nothing is left in Compute, but there is {left}")
    steps.done("Alice deletes it: its id answers 404, no machine and no disk is left")


def share(steps: Steps, alice: ApiClient, bob: ApiClient, ready: Workspace) -> None:
    """Let Alice see her workspace, and Bob not."""
    names = [workspace["name"] for workspace in alice.workspaces()]
    expect(names == ["api"], "Alice's list has it")
    steps.done(f"Alice lists hers: {names}")
    expect(ready["instance"]["status"] == "RUNNING", "Compute says RUNNING")
    steps.done(f"how she connects: {ready['connection']['command']}")

    expect(bob.workspaces() == [], "Bob's list is empty")
    refusals = [
        bob.request(method, f"/workspaces/{ready['id']}{path}").status_code
        for method, path in _STRANGERS_REQUESTS
    ]
    expect(refusals == [404] * len(_STRANGERS_REQUESTS), f"Bob may not touch it; he got {refusals}")
    steps.done(f"Bob tries to see, stop, start and delete it: {refusals}")


def sleep_and_wake(steps: Steps, alice: ApiClient, ready: Workspace, visit: Visit) -> None:
    """Stop Alice's workspace, and start it again."""
    alice.stop(ready["id"])
    asleep = alice.wait(ready["id"], _settled("SUSPENDED"), watch=ProgressPrinter())
    expect(asleep["instance"]["status"] == "SUSPENDED", "the machine is suspended")
    steps.done("Alice stops it: SUSPENDED, its memory is kept")
    visit.sleep()
    alice.start(ready["id"])
    awake = alice.wait(ready["id"], _settled("READY"), watch=ProgressPrinter())
    expect(awake["generation"] == ready["generation"], "it was thawed, not booted")
    steps.done(
        f"Alice starts it: READY again; if she left, it would be stopped at {awake['stops_at']}"
    )
    visit.wake(steps)


class Visit(Protocol):
    """Alice's stay in her workspace."""

    def arrive(self, steps: Steps) -> None:
        """See that she is in, once it is READY."""

    def sleep(self) -> None:
        """See how her workspace is while it is suspended."""

    def wake(self, steps: Steps) -> None:
        """See that it has gone on."""

    def stay(self, steps: Steps, alice: ApiClient, workspace_id: str) -> None:
        """See that it stays READY while she is there."""


class RealVisit:
    """She has entered it by the command ``workspace``, and runs a program there that counts.

    Args:
        command: her command.
        counter: the program.
        arrived: is called when she is in.
    """

    def __init__(
        self, command: WorkspaceCommand, counter: RunningCommand, arrived: Callable[[], None]
    ) -> None:
        self._command = command
        self._counter = counter
        self._arrived = arrived
        self._counted = 0
        self._awake_since = 0.0

    def arrive(self, steps: Steps) -> None:
        """See that the program counts, and write a file."""
        self._counter.wait_for_lines(3)
        self._arrived()
        self._command.run("exec", "api", "--", "sh", "-c", "echo from before >notes")
        counted = " ".join(self._counter.lines[:3])
        steps.done(f"she is in, by the command `workspace`; her program counts: {counted} …")

    def sleep(self) -> None:
        """See that the program stands still: two looks after the suspend have the same number."""
        self._counted = len(self._counter.lines)
        time.sleep(4 * _COUNT_SECONDS)
        expect(len(self._counter.lines) == self._counted, "a suspended program does not go on")

    def wake(self, steps: Steps) -> None:
        """See that the program goes on where it was, and that the file is there."""
        self._awake_since = time.monotonic()
        self._counter.wait_for_lines(self._counted + 3)
        numbers = [str(number) for number in range(1, len(self._counter.lines) + 1)]
        expect(self._counter.lines[: len(numbers)] == numbers, "no number is left out or repeated")
        notes = self._command.run("exec", "api", "--", "cat", "notes").strip()
        expect(notes == "from before", f"her file is there, but it has {notes!r}")
        last = " ".join(numbers[self._counted - 1 : self._counted + 2])
        steps.done(f"her program goes on where it was: … {last} …; her file says: {notes}")

    def stay(self, steps: Steps, alice: ApiClient, workspace_id: str) -> None:
        """See that nothing puts it to sleep for longer than an idle machine may run."""
        deadline = self._awake_since + IDLE_SECONDS + SETTINGS.schedule_seconds + 1
        while time.monotonic() < deadline:
            status = alice.status(workspace_id)["status"]
            expect(status == "READY", f"it stays READY while she is there, but is {status}")
            time.sleep(0.5)
        steps.done(f"she is there for more than {IDLE_SECONDS} s: it is not put to sleep")


class ToldVisit:
    """Nobody can enter it here, so the local cloud is told that she is connected."""

    def arrive(self, steps: Steps) -> None:
        """Say why there is nothing to see."""
        steps.done("entering it needs Linux and OpenSSH's client: the rest is as if she were in")

    def sleep(self) -> None:
        """See nothing."""

    def wake(self, steps: Steps) -> None:
        """See nothing."""

    def stay(self, steps: Steps, alice: ApiClient, workspace_id: str) -> None:
        """See nothing."""


@contextlib.contextmanager
def _visit(cloud: RunningCloud, made: Workspace) -> Iterator[Visit]:
    """Let Alice be in her workspace as soon as she can, until the context ends.

    Until she has arrived, the local cloud is told that she is connected: on a busy machine that may
    take longer than an idle one may run.
    """
    alice = ApiClient(cloud.address, cloud.token("alice@example.com"))
    alice.wait(made["id"], lambda ws: ws["instance"] is not None)
    say_connected = partial(cloud.connected, made["instance_name"])
    say_connected(connected=True)
    if not (can_hold_machines() and shutil.which("ssh")):
        yield ToldVisit()
        say_connected(connected=False)
        return
    with tempfile.TemporaryDirectory(prefix="workspace-hub-") as home:
        command = WorkspaceCommand(cloud, Path(home))
        command.run("login", "--local", "--email", "alice@example.com")
        with command.running("exec", "api", "--", "sh", "-c", _COUNT) as counter:
            yield RealVisit(command, counter, arrived=partial(say_connected, connected=False))


def administer(steps: Steps, carol: ApiClient, alice: ApiClient, workspace_id: str) -> None:
    """Let an administrator act on Alice's workspace, and Alice see who did what."""
    everybodys = [workspace["name"] for workspace in carol.workspaces(all="true")]
    expect(everybodys == ["api"], "Carol's list of everybody's has Alice's")
    steps.done(f"Carol, the administrator, lists everybody's: {everybodys}")
    carol.stop(workspace_id)
    # Alice waits, since each request of an administrator would be an event.
    alice.wait(workspace_id, _settled("SUSPENDED"))
    events = alice.events(workspace_id)
    by_carol = [event for event in events if event["who_email"] == "carol@example.com"]
    expect(
        [event["what"] for event in by_carol] == ["StopRequested"],
        "Alice reads that Carol stopped it",
    )
    expect(by_carol[0]["as_admin"], "and that she did so as an administrator")
    expect(carol.events(workspace_id) == events, "Carol reads the same")
    steps.done("Carol stops Alice's workspace; both can read who did what to it:")
    for event in reversed(events):
        role = ", as an administrator" if event["as_admin"] else ""
        who = f"{event['who_email'] or event['who']}{role}"
        print(
            f"{'':18}{event['at'][11:19]}  {event['what']:<18} {event['result']:<10} {who}",
            flush=True,
        )
    alice.start(workspace_id)
    alice.wait(workspace_id, _settled("READY"))
    steps.done("Alice starts it again")


def _settled(status: str) -> Callable[[Workspace], bool]:
    return lambda workspace: workspace["operation"] is None and workspace["status"] == status


def _left_in_compute(cloud: RunningCloud) -> list[str]:
    left = []
    compute = ApiClient(cloud.state["services"]["compute"], None)
    for kind in ("instances", "disks"):
        path = f"/compute/v1/projects/{cloud.state['project_id']}/aggregated/{kind}"
        scopes = compute.request("GET", path).json()["items"].values()
        left += [item["name"] for scope in scopes for item in scope.get(kind, [])]
    return left


def main() -> int:
    """Run the demo, and return the exit code."""
    parser = argparse.ArgumentParser(prog="nox -s demo --", description="Show the Hub at work.")
    add_emulators_option(parser)
    settings = replace(SETTINGS, emulators=parser.parse_args().emulators)
    steps = Steps()
    print("Starting the Hub and its local cloud …", flush=True)
    try:
        with start_cloud(settings) as cloud:
            steps.done(f"the Hub answers at {cloud.address}")
            use(cloud, steps)
    except (UnexpectedError, RefusedError, TimeoutError, CommandFailedError) as error:
        print(f"NOT SEEN: {error}", file=sys.stderr)
        return 1
    except LocalCloudError as error:
        print(error, file=sys.stderr)
        return 1
    steps.done("everything has been ended; all of it was seen")
    return 0


if __name__ == "__main__":
    sys.exit(main())
