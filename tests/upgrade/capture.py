"""Creates a version's fixtures from its code: what it stores, sends, makes and reports.

    git worktree add --detach /tmp/old <commit of the version>
    .nox/workspace-hub/bin/python tests/upgrade/capture.py /tmp/old tests/upgrade/v0_2
    git worktree remove --force /tmp/old

It runs that version's local cloud twice. People do everything to workspaces while every message is
late, and a recorder reads the state all the time. It takes about three minutes. Only the first
situation of each name is kept.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
import threading
import time
import types
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TIME = "$time"  # marks a moment in the fixtures' JSON
USER_DATA = "user_data.txt"  # the metadata item that all machines share, kept once
LATE_SECONDS = 0.6  # the delay of every message, so that each phase is recorded
LATER_SECONDS = 4.0  # longer than the Hub waits before it resends a job
POLL_SECONDS = 0.03
AN_ACCOUNT = "a-machine@workspace-hub-local.iam.gserviceaccount.com"

Document = dict[str, Any]


class Recorder:
    """Reads the state of a running cloud, and keeps the first situation of each name."""

    def __init__(self, cloud: Any) -> None:
        import grpc
        import requests
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import firestore, tasks_v2
        from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
        from google.pubsub_v1.services.subscriber import SubscriberClient
        from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

        state = cloud.state
        os.environ["FIRESTORE_EMULATOR_HOST"] = state["services"]["firestore"]
        self._documents = firestore.Client(
            project=state["project_id"],
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        )
        transport = CloudTasksGrpcTransport(
            channel=grpc.insecure_channel(state["services"]["tasks"])
        )
        self._tasks = tasks_v2.CloudTasksClient(transport=transport)
        self._queue = (
            f"projects/{state['project_id']}/locations/{state['region']}"
            "/queues/workspace-operations"
        )
        pubsub = SubscriberGrpcTransport(channel=grpc.insecure_channel(state["services"]["pubsub"]))
        self._subscriber = SubscriberClient(transport=pubsub)
        self._subscription = f"projects/{state['project_id']}/subscriptions/capture"
        self._compute = f"{state['services']['compute']}/compute/v1/projects/{state['project_id']}"
        self._http = requests.Session()
        self._messages: list[Document] = []
        self.situations: dict[str, Document] = {}
        self.jobs: dict[str, Document] = {}
        topic = f"projects/{state['project_id']}/topics/workspace-provision"
        self._subscriber.create_subscription(name=self._subscription, topic=topic)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record until the context ends."""
        over = threading.Event()
        with ThreadPoolExecutor(1) as looker:
            looks = looker.submit(self._record_until, over)
            try:
                yield
            finally:
                over.set()
                looks.result()

    def _record_until(self, over: threading.Event) -> None:
        while not over.wait(POLL_SECONDS):
            self._record()

    def documents(self, collection: str) -> dict[str, Document]:
        """Return the documents of a collection by name."""
        found = self._documents.collection(collection).stream()
        return {each.id: each.to_dict() or {} for each in found}

    def _record(self) -> None:
        before = self.documents("workspaces")
        owners = self.documents("owners")
        machines, disks = self._resources("instances"), self._resources("disks")
        sent = [*self._pulled(), *self._waiting()]
        after = self.documents("workspaces")
        for workspace_id, workspace in before.items():
            if after.get(workspace_id) == workspace:
                owner = next(
                    (held for held in owners.values() if held["id"] == workspace["owner_id"]), None
                )
                self._keep(
                    workspace, owner, _of(workspace_id, machines), _of(workspace_id, disks), sent
                )

    def _keep(
        self,
        workspace: Document,
        owner: Document | None,
        machines: list[Document],
        disks: list[Document],
        sent: list[Document],
    ) -> None:
        operation = workspace["operation"]
        job = None
        if operation is not None:
            current = (operation["id"], operation["step"], operation["resends"])
            job = next((each for each in sent if _step(each["body"]) == current), None)
            if job is None:
                return  # not sent yet, or already done
        name = name_of(workspace, machines)
        situation = {
            "workspace": workspace,
            "owner": owner,
            "instances": machines,
            "disks": disks,
            "job": job,
        }
        self.situations.setdefault(name, situation)

    def _resources(self, kind: str) -> list[Document]:
        scopes = self._http.get(f"{self._compute}/aggregated/{kind}").json()["items"].values()
        return [each for scope in scopes for each in scope.get(kind, [])]

    def _pulled(self) -> list[Document]:
        got = self._subscriber.pull(
            request={
                "subscription": self._subscription,
                "max_messages": 100,
                "return_immediately": True,
            }
        )
        for received in got.received_messages:
            message = received.message
            self._note(
                {
                    "queue": "workspace-provision",
                    "attributes": dict(message.attributes),
                    "body": json.loads(message.data),
                }
            )
        return self._messages

    def _waiting(self) -> list[Document]:
        from google.cloud import tasks_v2

        listed = self._tasks.list_tasks(
            tasks_v2.ListTasksRequest(
                parent=self._queue, page_size=1000, response_view=tasks_v2.Task.View.FULL
            )
        )
        for task in listed:
            name, body = task.name.rsplit("/", 1)[-1], json.loads(task.http_request.body)
            self._note({"queue": "workspace-operations", "name": name, "body": body})
        return self._messages

    def _note(self, message: Document) -> None:
        if message in self._messages:
            return
        self._messages.append(message)
        body = message["body"]
        what = (
            "a look"
            if body["operation_id"] is None
            else "a step sent again"
            if body["resend"]
            else "a step"
        )
        self.jobs.setdefault(f"{what}, by {message['queue']}", message)

    # ---- Compute, without the Hub ----

    def insert(self, body: Document) -> None:
        """Create an instance in Compute without the Hub."""
        self._http.post(f"{self._compute}/zones/us-west1-a/instances", json=body).raise_for_status()


def name_of(workspace: Document, machines: list[Document]) -> str:
    """Return the name of a situation: what decisions depend on in it."""
    operation = workspace["operation"]
    if operation is None:
        code = f" {workspace['error']['code']}" if workspace["error"] else ""
        machine = machines[0]["status"] if machines else "absent"
        return f"{workspace['status']}{code}, machine {machine}"
    more = {
        "failed": operation["failure"],
        "automatic": operation["automatic"],
        "next zone": operation["zones_tried"],
        "supersedes": operation["forget_after"],
    }
    return ", ".join(
        [
            f"{operation['kind']} {operation['phase']}",
            *(word for word, holds in more.items() if holds),
        ]
    )


def _of(workspace_id: str, resources: list[Document]) -> list[Document]:
    return [each for each in resources if each["labels"].get("workspace") == workspace_id]


def _step(body: Document) -> tuple[Any, ...]:
    return (body["operation_id"], body["step"], body["resend"])


# ---- what people do ----


class Stories:
    """What people do to a workspace, one story each."""

    def __init__(self, cloud: Any, new_person: Callable[[], Any]) -> None:
        self._cloud = cloud
        self._new_person = new_person

    def _ready(self, **metadata: str) -> tuple[Any, str]:
        person = self._new_person()
        made = person.create("one", key=str(uuid.uuid4()), metadata=metadata)
        person.wait_until_settled(made["id"], "READY", seconds=60)
        return person, made["id"]

    def _settle(self, person: Any, workspace_id: str, status: str) -> None:
        person.wait_until_settled(workspace_id, status, seconds=60)
        time.sleep(1)  # so that it is recorded

    def suspend_and_resume(self) -> None:
        """A machine is used, suspended, resumed and deleted."""
        person, workspace_id = self._ready(
            repo="https://example.com/repo.git", branch="main", device_id="a-laptop"
        )
        self._cloud.connected(f"workspace-{workspace_id}")
        time.sleep(2)
        person.stop(workspace_id)
        self._settle(person, workspace_id, "SUSPENDED")
        person.start(workspace_id)
        self._settle(person, workspace_id, "READY")
        person.delete(workspace_id)
        person.wait_until_gone(workspace_id, seconds=60)

    def power_off_and_boot(self) -> None:
        """A machine that cannot be suspended is stopped and booted; the next boot fails."""
        person, workspace_id = self._ready()
        machine = f"workspace-{workspace_id}"
        self._cloud.fault("suspend_unsupported", count=1, instance=machine)
        person.stop(workspace_id)
        self._settle(person, workspace_id, "SUSPENDED")
        person.start(workspace_id)
        self._settle(person, workspace_id, "READY")
        self._cloud.fault("suspend_unsupported", count=1, instance=machine)
        person.stop(workspace_id)
        person.wait_until_settled(workspace_id, "SUSPENDED", seconds=60)
        self._cloud.fault("fails_at_boot", count=1, instance=machine)
        person.start(workspace_id)
        self._settle(person, workspace_id, "ERROR")

    def rebuild(self) -> None:
        """A machine gets another machine type."""
        person, workspace_id = self._ready()
        person.start(workspace_id, machine_type="e2-standard-8")
        self._settle(person, workspace_id, "READY")

    def fail_at_create(self) -> None:
        """A first boot fails."""
        person = self._new_person()
        made = person.create("one")
        self._cloud.fault("fails_at_boot", count=1, instance=made["instance_name"])
        self._settle(person, made["id"], "ERROR")

    def go_to_another_zone(self) -> None:
        """The first zone has no capacity."""
        person = self._new_person()
        made = person.create("one")
        self._cloud.fault(
            "stock_out", count=1, instance=made["instance_name"], method="instances.insert"
        )
        self._settle(person, made["id"], "READY")

    def find_no_capacity(self) -> None:
        """There is no capacity for a suspended machine."""
        person, workspace_id = self._ready()
        person.stop(workspace_id)
        person.wait_until_settled(workspace_id, "SUSPENDED", seconds=60)
        self._cloud.fault("stock_out", count=1, instance=f"workspace-{workspace_id}")
        person.start(workspace_id)
        time.sleep(1)
        self._settle(person, workspace_id, "SUSPENDED")

    def supersede(self) -> None:
        """A DELETE supersedes a CREATE."""
        person = self._new_person()
        made = person.create("one")
        person.wait(made["id"], lambda seen: seen["instance"] is not None, seconds=60)
        person.delete(made["id"])
        person.wait_until_gone(made["id"], seconds=60)

    def lose_the_machine(self) -> None:
        """One machine is stopped and another is deleted outside the Hub."""
        for fault, status in (("preempted", "SUSPENDED"), ("vanished", "ERROR")):
            person, workspace_id = self._ready()
            self._cloud.fault(fault, count=1, instance=f"workspace-{workspace_id}")
            self._settle(person, workspace_id, status)


def tell_stories(cloud: Any, person: Callable[[str], Any]) -> None:
    """Play all stories, three at a time: more would slow the recorder down too much."""
    stories = Stories(cloud, lambda: person(f"{uuid.uuid4()}@example.com"))
    stories_to_play = [
        story
        for name, story in inspect.getmembers(stories, inspect.ismethod)
        if not name.startswith("_")
    ]
    with ThreadPoolExecutor(3) as people:
        for ended in [people.submit(story) for story in stories_to_play]:
            ended.result()


def become_idle(person: Any) -> None:
    """Leave a workspace alone until it is suspended, and later deleted, as idle."""
    made = person.create("one")
    person.wait_until_settled(made["id"], "SUSPENDED", seconds=180)
    person.wait_until_gone(made["id"], seconds=180)


# ---- what machines report ----


def reports(cloud: Any, recorder: Recorder) -> dict[str, Document]:
    """Return the reports of this version's guests by event; its machines report to this process."""
    got: dict[str, Document] = {}

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.setdefault(body["event"], body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    cloud.fault("fails_at_boot", count=1, instance="broken")
    for name in ("sound", "broken"):
        items = {
            "hub-workspace-id": str(uuid.uuid4()),
            "hub-generation": "3",
            "hub-reports-url": address,
            "hub-audience": address,
        }
        recorder.insert(
            {
                "name": name,
                "machineType": "zones/us-west1-a/machineTypes/e2-standard-2",
                "disks": [
                    {
                        "boot": True,
                        "initializeParams": {"sourceImage": "projects/a/global/images/b"},
                    }
                ],
                "networkInterfaces": [{"network": "global/networks/default"}],
                "serviceAccounts": [{"email": AN_ACCOUNT, "scopes": []}],
                "metadata": {
                    "items": [{"key": key, "value": value} for key, value in items.items()]
                },
            }
        )
    cloud.connected("sound")
    deadline = time.monotonic() + 30
    while set(got) != {"ready", "heartbeat", "failed"}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {set(got)} were reported")
        time.sleep(POLL_SECONDS)
    server.shutdown()
    server.server_close()
    return got


# ---- what this version can read ----


def schema(situations: Mapping[str, Document]) -> Document:
    """Return what this version reads and writes: fields and types, enums, and strict records."""
    from shared.domain import events, jobs, workspace

    classes = [*vars(workspace).values(), events.Event, jobs.Job]
    mine = [
        each
        for each in classes
        if inspect.isclass(each) and each.__module__.startswith("shared.domain.")
    ]
    records = {each.__name__: _fields(each) for each in mine if dataclasses.is_dataclass(each)}
    enums = {
        each.__name__: [member.value for member in each] for each in mine if issubclass(each, Enum)
    }
    return {
        "schema_version": workspace.SCHEMA_VERSION,
        "records": records,
        "enums": enums,
        "strict": sorted(
            name for name, document in _samples(situations).items() if not _reads(*document)
        ),
    }


def _fields(record: Any) -> Document:
    hints = typing.get_type_hints(record)
    return {
        field.name: {
            "types": _types(hints[field.name]),
            "required": field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING,
        }
        for field in dataclasses.fields(record)
    }


def _types(hint: Any) -> list[str]:
    """Return the types of a stored value: ``str``, ``null``, an enum, ``[str]``, ``{UsedKey}``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        return [name for argument in arguments for name in _types(argument)]
    if origin is tuple:
        return [f"[{_types(arguments[0])[0]}]"]
    if origin is not None and issubclass(origin, Mapping):
        return [f"{{{_types(arguments[1])[0]}}}"]
    return ["null" if hint is type(None) else hint.__name__]


def _samples(situations: Mapping[str, Document]) -> dict[str, tuple[str, Document]]:
    """Return, for each record, its reader and a document with an unknown field in it."""
    unknown = {"of_a_later_version": 1}
    workspaces = [situation["workspace"] for situation in situations.values()]
    owner = next(
        situation["owner"] for situation in situations.values() if situation["owner"]["keys"]
    )

    def within(field: str) -> tuple[str, Document]:
        having = next(workspace for workspace in workspaces if workspace[field])
        return "workspace_record", {**having, field: {**having[field], **unknown}}

    def held(field: str) -> tuple[str, Document]:
        return "owner_record", {
            **owner,
            field: {name: {**each, **unknown} for name, each in owner[field].items()},
        }

    return {
        "Workspace": ("workspace_record", {**workspaces[0], **unknown}),
        "Problem": within("error"),
        "HomeDisk": within("home_disk"),
        "Metadata": within("metadata"),
        "Operation": within("operation"),
        "Owner": ("owner_record", {**owner, **unknown}),
        "OwnedWorkspace": held("workspaces"),
        "UsedKey": held("keys"),
    }


def _reads(reader: str, document: Document) -> bool:
    from shared.adapters import firestore_records

    try:
        getattr(firestore_records, reader)(document)
    except TypeError:
        return False
    return True


# ---- writing ----


def plain(value: Any) -> Any:
    """Return a value that JSON can hold, with moments marked."""
    if isinstance(value, datetime):
        return {TIME: value.isoformat()}
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def write(folder: Path, name: str, entries: Mapping[str, Any]) -> None:
    """Write a file of entries, one on each line."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(plain(entries[key]), sort_keys=True)}"
        for key in sorted(entries)
    ]
    (folder / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def take_user_data_out(situations: Mapping[str, Document]) -> str:
    """Remove the boot files from the machines' metadata, where all are alike, and return them."""
    found: set[str] = set()
    for situation in situations.values():
        for machine in situation["instances"]:
            for item in machine["metadata"]["items"]:
                if item["key"] == "user-data" and item["value"] != USER_DATA:
                    found.add(item["value"])
                    item["value"] = USER_DATA
    (user_data,) = found
    return user_data


def capture(folder: Path) -> None:
    """Create the fixtures of the version that is imported."""
    from localcloud.api_client import ApiClient
    from localcloud.running_cloud import start_cloud
    from localcloud.settings import LocalSettings

    situations: dict[str, Document] = {}
    jobs: dict[str, Document] = {}
    events: dict[str, Document] = {}
    guest_reports: dict[str, Document] = {}
    by_hand = LocalSettings(times="shown", schedule_seconds=0, heartbeat_seconds=1)
    short = {"HUB_IDLE_SECONDS": "6", "HUB_RETENTION_SECONDS": "6", "HUB_ATTEND_SECONDS": "3"}
    swept = LocalSettings(times="fast", schedule_seconds=1, heartbeat_seconds=1, overrides=short)
    for settings in (by_hand, swept):
        with start_cloud(settings) as cloud:
            recorder = Recorder(cloud)
            if settings is by_hand:
                guest_reports = reports(cloud, recorder)
            cloud.fault(
                "late_delivery", seconds=LATE_SECONDS if settings is by_hand else LATER_SECONDS
            )

            def person(email: str, cloud: Any = cloud) -> Any:
                return ApiClient(cloud.address, cloud.token(email))

            with recorder.recording():
                if settings is by_hand:
                    tell_stories(cloud, person)
                else:
                    become_idle(person(f"{uuid.uuid4()}@example.com"))
            situations = {**recorder.situations, **situations}
            jobs = {**recorder.jobs, **jobs}
            for event in recorder.documents("events").values():
                events.setdefault(f"{event['what']} {event['result']}", event)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / USER_DATA).write_text(take_user_data_out(situations), encoding="utf-8")
    write(folder, "situations.json", situations)
    write(folder, "jobs.json", jobs)
    write(folder, "events.json", events)
    write(folder, "reports.json", guest_reports)
    write(folder, "schema.json", schema(situations))


if __name__ == "__main__":
    old_checkout, new_folder = sys.argv[1:]
    sys.path.insert(0, str(Path(old_checkout).resolve()))
    capture(Path(new_folder).resolve())
