"""The main job, end to end, before a person's eyes: two people use the Hub on a local cloud, and a third administers it.

Exit 0 only if all of it was seen.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

import requests

from localcloud.api_client import ApiClient, RefusedError, Workspace
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_SECONDS: Final = 6


class NotSeenError(Exception):
    """Something that the demo is to show did not happen."""


class Show:
    """Prints each step with the time that it took."""

    def __init__(self) -> None:
        self._began = self._step_began = time.monotonic()

    def step(self, said: str) -> None:
        """Print what was just seen."""
        now = time.monotonic()
        print(f"{now - self._began:6.1f} s  (+{now - self._step_began:4.1f})  {said}", flush=True)
        self._step_began = now


class Progress:
    """Prints a workspace's phases as they come."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, workspace: Workspace) -> None:
        """Print a line when it is another than the last."""
        operation = workspace["operation"]
        doing = f"{operation['kind']} {operation['phase']}" if operation else "-"
        machine = workspace["instance"]["status"] if workspace["instance"] else "none yet"
        line = f"{workspace['status']:<12} {doing:<24} machine: {machine}"
        if line != self._last:
            print(f"{'':18}{line}", flush=True)
            self._last = line


def seen(condition: bool, what: str) -> None:
    """Go on only if this was seen.

    Raises:
        NotSeenError: it was not.
    """
    if not condition:
        raise NotSeenError(what)


def use(cloud: RunningCloud, show: Show) -> None:
    """Do everything a person does with a workspace, and check that it came out right."""
    alice = ApiClient(cloud.address, cloud.token("alice@example.com"))
    bob = ApiClient(cloud.address, cloud.token("bob@example.com"))
    carol = ApiClient(cloud.address, cloud.token("carol@example.com"))

    refusal = carol.request("GET", "/workspaces", params={"all": "true"}).status_code
    seen(refusal == 403, f"Carol is no administrator yet; she got {refusal}")
    cloud.make_admin("carol@example.com")
    seen(carol.workspaces(all="true") == [], "Carol may list everybody's, and there are none yet")
    show.step(f"Carol tries to list everybody's: {refusal}; made an administrator, she may")

    made = alice.create("api", metadata={"repo": "github.com/example/api", "branch": "main"})
    workspace_id = made["id"]
    seen(made["status"] == "PROVISIONING", "a new workspace is PROVISIONING")
    show.step(f"Alice asks for a workspace: {workspace_id}")
    progress = Progress()
    alice.wait(workspace_id, lambda ws: ws["instance"] is not None, watch=progress)
    cloud.connected(
        made["instance_name"]
    )  # she logs in as soon as she can, and stays: nothing here is idle until she leaves
    ready = alice.wait(workspace_id, lambda ws: ws["status"] == "READY", watch=progress)
    show.step("it is READY")

    names = [workspace["name"] for workspace in alice.workspaces()]
    seen(names == ["api"], "Alice's list has it")
    show.step(f"Alice lists hers: {names}")
    seen(ready["instance"]["status"] == "RUNNING", "Compute says RUNNING")
    show.step(f"how she connects: {ready['connection']['command']}")

    seen(bob.workspaces() == [], "Bob's list is empty")
    refusals = [
        bob.request(method, f"/workspaces/{workspace_id}{path}").status_code
        for method, path in _ON_ANOTHERS
    ]
    seen(refusals == [404] * len(_ON_ANOTHERS), f"Bob may not touch it; he got {refusals}")
    show.step(f"Bob tries to see, stop, start and delete it: {refusals}")

    alice.stop(workspace_id)
    asleep = alice.wait(workspace_id, _settled("SUSPENDED"), watch=Progress())
    seen(asleep["instance"]["status"] == "SUSPENDED", "the machine is suspended")
    show.step("Alice stops it: SUSPENDED, its memory is kept")
    alice.start(workspace_id)
    awake = alice.wait(workspace_id, _settled("READY"), watch=Progress())
    seen(awake["generation"] == ready["generation"], "it was thawed, not booted")
    show.step(
        f"Alice starts it: READY again; if she left, it would be stopped at {awake['stops_at']}"
    )

    administer(show, carol, alice, workspace_id)

    cloud.connected(made["instance_name"], connected=False)
    idle = alice.wait(
        workspace_id, _settled("SUSPENDED"), seconds=IDLE_SECONDS + 15, watch=Progress()
    )
    seen(idle["instance"]["status"] == "SUSPENDED", "the idle machine is suspended")
    show.step(f"nobody connected for {IDLE_SECONDS} s: the cleanup has suspended it")

    alice.delete(workspace_id)
    alice.wait_until_gone(workspace_id)
    seen(alice.workspaces() == [], "the list is empty")
    left = _left_in_compute(cloud)
    seen(left == [], f"nothing is left in Compute, but there is {left}")
    show.step("Alice deletes it: its id answers 404, no machine and no disk is left")


def administer(show: Show, carol: ApiClient, alice: ApiClient, workspace_id: str) -> None:
    """Have an administrator act on Alice's workspace, and Alice see who did what."""
    everybodys = [workspace["name"] for workspace in carol.workspaces(all="true")]
    seen(everybodys == ["api"], "Carol's list of everybody's has Alice's")
    show.step(f"Carol, the administrator, lists everybody's: {everybodys}")
    carol.stop(workspace_id)
    alice.wait(
        workspace_id, _settled("SUSPENDED")
    )  # not Carol: each look of hers would be an event
    events = alice.events(workspace_id)
    by_carol = [event for event in events if event["who_email"] == "carol@example.com"]
    seen(
        [event["what"] for event in by_carol] == ["StopRequested"],
        "Alice reads that Carol stopped it",
    )
    seen(by_carol[0]["as_admin"], "and that she did so as an administrator")
    seen(carol.events(workspace_id) == events, "Carol reads the same")
    show.step("Carol stops Alice's workspace; both can read who did what to it:")
    for event in reversed(events):
        who = f"{event['who_email'] or event['who']}{', as an administrator' if event['as_admin'] else ''}"
        print(
            f"{'':18}{event['at'][11:19]}  {event['what']:<18} {event['result']:<10} {who}",
            flush=True,
        )
    alice.start(workspace_id)
    alice.wait(workspace_id, _settled("READY"))
    show.step("Alice starts it again")


_ON_ANOTHERS: Final = (("GET", "/status"), ("POST", "/stop"), ("POST", "/start"), ("DELETE", ""))


def _settled(status: str) -> Callable[[Workspace], bool]:
    return lambda workspace: workspace["operation"] is None and workspace["status"] == status


def _left_in_compute(cloud: RunningCloud) -> list[str]:
    left = []
    for kind in ("instances", "disks"):
        url = f"{cloud.state['services']['compute']}/compute/v1/projects/{cloud.state['project_id']}/aggregated/{kind}"
        scopes = requests.get(url, timeout=10).json()["items"].values()
        left += [item["name"] for scope in scopes for item in scope.get(kind, [])]
    return left


def main() -> int:
    """Run the demo. Returns the exit status."""
    show = Show()
    print("Starting the Hub and its local cloud …", flush=True)
    settings = LocalSettings(overrides={"HUB_IDLE_SECONDS": str(IDLE_SECONDS)}, schedule_seconds=1)
    try:
        with start_cloud(settings) as cloud:
            show.step(f"the Hub answers at {cloud.address}")
            use(cloud, show)
    except (NotSeenError, RefusedError, TimeoutError) as error:
        print(f"NOT SEEN: {error}", file=sys.stderr)
        return 1
    show.step("everything has been ended; all of it was seen")
    return 0


if __name__ == "__main__":
    sys.exit(main())
