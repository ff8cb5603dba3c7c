"""The contract of ``WorkspaceStore`` on the fake, the local cloud's Firestore and Google's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import grpc
import pytest
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.adapters import grpc_service
from shared.adapters.firestore_records import event_record
from shared.adapters.firestore_store import EVENTS_KEPT, FirestoreWorkspaceStore
from shared.domain.deleted import DeletedWorkspace
from shared.domain.errors import ConflictError, InvalidRequestError, UnavailableError
from shared.domain.events import Event
from shared.domain.snapshots import Consistency, Snapshot, SnapshotState
from shared.domain.workspace import (
    Access,
    AccessState,
    Activity,
    FormerMachine,
    HomeDisk,
    HomeSource,
    HostKey,
    Metadata,
    OldHome,
    Operation,
    OperationKind,
    OwnedWorkspace,
    Owner,
    Phase,
    PhaseDuration,
    Problem,
    Status,
    StopReason,
    UsedKey,
    Workspace,
)
from shared.ports import (
    EVERY_WORKSPACE,
    Page,
    Stored,
    Unreadable,
    WorkspaceFilter,
    WorkspaceStore,
)
from tests.contract.servers import assert_told_in_time, hurry, losing_answers, unanswering
from tests.fakes.records import a_deleted_workspace, a_snapshot, a_workspace, an_operation
from tests.fakes.store import MemoryWorkspaceStore
from tests.firestore_servers import client_of

R = TypeVar("R")
NOW = datetime(2026, 3, 2, 9, 0, 0, 123456, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
A_PROBLEM = Problem(
    "NO_CAPACITY",
    "Try again.",
    retryable=True,
    at=NOW - timedelta(1),
    operation_kind=OperationKind.START,
)
FULL = Workspace(
    id="3b1f8f1e-7d52-4f0c-9d6a-0c1b2a3d4e5f",
    name="api.v2_x-1",
    owner_id="108234567890123456789",
    owner_email="alice@example.com",
    project_id="a-project",
    instance_name="workspace-3b1f8f1e-7d52-4f0c-9d6a-0c1b2a3d4e5f",
    zone="us-west1-b",
    image_tag="v1.2",
    machine_type="e2-standard-8",
    status=Status.ERROR,
    created_at=NOW - timedelta(days=3),
    updated_at=NOW,
    last_connected_at=NOW - timedelta(hours=2),
    last_activity=Activity.HEARTBEAT,
    metadata=Metadata("https://example.com/repo.git", "feature/ünïcode", "laptop"),
    home_disk=HomeDisk("home-3b1f8f1e", "us-west1-b"),
    generation=7,
    ready_generation=6,
    instance_id="1234567890123456789",
    machine_running=True,
    suspended_at=NOW - timedelta(minutes=3),
    stopped_because=StopReason.IDLE,
    operation=Operation(
        id="4c2f8f1e-7d52-4f0c-9d6a-0c1b2a3d4e5f",
        kind=OperationKind.STOP,
        phase=Phase.AWAIT_SUSPENDED,
        step=12,
        requested_by="sweep",
        requested_at=NOW - timedelta(minutes=4),
        deadline_at=NOW + timedelta(minutes=6),
        phase_since=NOW - timedelta(minutes=1),
        request_id="r-1",
        attempt=2,
        resends=1,
        automatic=True,
        gce_operation="operation-1",
        zones_tried=("us-west1-a", "us-west1-b"),
        failure=replace(A_PROBLEM, operation_kind=None),
        last_fault="The zone does not have enough resources.",
        forget_after=NOW + timedelta(minutes=9),
        last_fault_kind="stock_out",
        empty_home=True,
        remade=True,
        cannot_go_on="It cannot be resumed.",
        renamed=True,
        right_missing_since=NOW - timedelta(minutes=2),
        suspends_undone=1,
        memory_lost_because="It came back.",
        renews=True,
        phases=(PhaseDuration("suspend", 61.5), PhaseDuration("await_suspended", 8.0)),
        snapshot_name="before-lunch",
        home_at_rest=True,
        restores=HomeSource("6d3f", "home-snapshot-2", 60, "home-1", "home-2"),
        former_home=HomeDisk("home-1", "us-west1-a"),
        last_copy=HomeSource("7d3f", "home-snapshot-3", 70, "home-1"),
        copied_at=NOW - timedelta(minutes=2),
        former_detached_at=NOW - timedelta(minutes=3),
        home_detached=True,
        purge=True,
        may_move=True,
        to_zone="us-west1-c",
        moves=True,
        former_machine=FormerMachine(
            "77", 6, 6, NOW - timedelta(days=2), "v1.1", "e2-standard-4", seen_id="78"
        ),
        home_gb=100,
        image_tag="v1.3",
        machine_type="e2-standard-4",
    ),
    attend_at=NOW + timedelta(minutes=2),
    sweep_at=NOW + timedelta(minutes=1),
    error=A_PROBLEM,
    memory_kept=False,
    memory_lost_because="It was shut down.",
    heartbeat_seconds=120,
    kept_awake_since=NOW - timedelta(hours=1),
    kept_awake_until=NOW + timedelta(hours=3),
    running_since=NOW - timedelta(hours=4),
    machine_made_at=NOW - timedelta(days=2),
    last_device_id="phone",
    host_key=HostKey("4711", "ssh-ed25519 AAAA", NOW),
    access=Access(
        AccessState.REFUSED,
        "A policy forbids it.",
        "1234567890123456789",
        since=NOW - timedelta(hours=5),
        retry_at=NOW + timedelta(hours=5),
    ),
    home_source=HomeSource(
        "5d3f8f1e-7d52-4f0c-9d6a-0c1b2a3d4e5f", "home-snapshot-1", 60, "home-1", "home-1-7"
    ),
    snapshot_asked_at=NOW - timedelta(hours=6),
    old_homes=(
        OldHome(
            "home-0",
            "us-west1-a",
            "8d3f",
            "77",
            NOW,
            outlived=True,
            deleting_since=NOW,
            copied_at=NOW,
            kept_until=NOW,
            absent=True,
        ),
    ),
    archived_at=NOW - timedelta(hours=7),
    archive_announced_at=NOW - timedelta(hours=8),
    home_gb=60,
)
FULL_SNAPSHOT = Snapshot(
    id="6e4f8f1e-7d52-4f0c-9d6a-0c1b2a3d4e5f",
    workspace_id=FULL.id,
    owner_id=FULL.owner_id,
    name="before-lunch",
    automatic=True,
    state=SnapshotState.DELETING,
    consistency=Consistency.CLEAN,
    requested_by="sweep",
    request_id="r-2",
    asked_at=NOW - timedelta(hours=2),
    captured_at=NOW - timedelta(hours=1),
    updated_at=NOW - timedelta(minutes=30),
    disk_name="home-3b1f8f1e",
    zone="us-west1-b",
    machine_type="e2-standard-8",
    image_tag="v1.2",
    metadata=FULL.metadata,
    ready_at=NOW - timedelta(minutes=40),
    disk_gb=60,
    stored_bytes=12_345_678_901,
    error=replace(A_PROBLEM, operation_kind=None),
    step=4,
    attend_at=NOW + timedelta(minutes=2),
    resends=1,
    gce_operation="operation-2",
    deleting_since=NOW - timedelta(minutes=30),
    kept_until=NOW + timedelta(minutes=3),
    of_generation=7,
)
FULL_ENTRY = DeletedWorkspace(
    id=FULL.id,
    owner_id=FULL.owner_id,
    workspace=FULL,
    snapshot_id=FULL_SNAPSHOT.id,
    deleted_at=NOW,
    deleted_by="cleanup",
    automatic=True,
    until=NOW + timedelta(days=7),
)
ODD_OWNERS = (
    *(
        "108234567890123456789",
        "dev-user-id",
        "__x__",
        "..",
        ".",
        "a/b",
        "a_b",
        "a%2Fb",
        "a//b",
        "/",
        "a b",
        "a.b.c",
    ),
    *("o-a", "a", "A", "*", "a`b", "a#b?c=d&e", "ü", "日本語", "👩‍💻", "~", "\\", "x" * 255),
)


@dataclass(frozen=True)
class Subject:
    """A store, and the events that were written to it."""

    store: WorkspaceStore
    events: Callable[[], list[Event]]


@pytest.fixture(params=["embedded_firestore", "google_firestore"])
def address(request: pytest.FixtureRequest) -> str:
    """``host:port`` of a Firestore server: the local cloud's own, and Google's emulator."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(params=["memory", "embedded_firestore", "google_firestore"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """An empty store."""
    if request.param == "memory":
        memory = MemoryWorkspaceStore()
        yield Subject(memory, lambda: memory.events)
        return
    address = request.getfixturevalue(request.param)
    with client_of(address) as client:
        yield Subject(store_of(client, address), lambda: events_in(client))


@pytest.fixture
def store(subject: Subject) -> WorkspaceStore:
    """An empty store, without its events."""
    return subject.store


def store_of(client: firestore.Client, address: str) -> FirestoreWorkspaceStore:
    """Return the store of that client's project."""
    return FirestoreWorkspaceStore.of(client.project, "(default)", address)


def events_in(client: firestore.Client) -> list[Event]:
    """Return the events of a project of the emulator, oldest first."""
    documents = [
        snapshot.to_dict() or {} for snapshot in client.collection("events").order_by("at").stream()
    ]
    names = {field.name for field in fields(Event)}
    assert [names - set(document) for document in documents] == [set()] * len(documents)
    return [event_record(document) for document in documents]


def assert_same(found: object, expected: object) -> None:
    """Assert a record's values and types: a string is not an enum, and times are in UTC."""
    if isinstance(expected, datetime):
        assert isinstance(found, datetime)
        assert found.utcoffset() == timedelta(0)
        assert found == expected
        return
    if isinstance(expected, Mapping):
        assert isinstance(found, Mapping)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
        return
    assert type(found) is type(expected)
    if is_dataclass(expected):
        for each in fields(expected):
            assert_same(getattr(found, each.name), getattr(expected, each.name))
    else:
        assert found == expected


Made = Workspace | Snapshot | DeletedWorkspace


def make(store: WorkspaceStore, *records: Made) -> None:
    """Create workspaces, snapshots and entries of deleted workspaces in a store."""
    store.commit(
        workspaces=[(None, each) for each in records if isinstance(each, Workspace)],
        snapshots=[(None, each) for each in records if isinstance(each, Snapshot)],
        deleted=[(None, each) for each in records if isinstance(each, DeletedWorkspace)],
    )


def read(store: WorkspaceStore, workspace_id: str) -> Stored[Workspace]:
    """Return a workspace that exists."""
    stored = store.get(workspace_id)
    assert stored is not None
    return stored


def read_snapshot(store: WorkspaceStore, snapshot_id: str) -> Stored[Snapshot]:
    """Return a snapshot that exists."""
    stored = store.get_snapshot(snapshot_id)
    assert stored is not None
    return stored


def read_deleted(store: WorkspaceStore, workspace_id: str) -> Stored[DeletedWorkspace]:
    """Return the entry of a deleted workspace, which exists."""
    stored = store.get_deleted(workspace_id)
    assert stored is not None
    return stored


def an_event(what: str, at: datetime = NOW) -> Event:
    """Return an event of the audit trail."""
    return Event(
        at,
        FULL.id,
        "alice",
        "grace",
        what,
        "ACCEPTED",
        "r-1",
        "grace@example.com",
        as_admin=True,
        times=3,
        operation_kind="STOP",
        seconds=70,
        phases=(PhaseDuration("suspend", 61.5), PhaseDuration("await_suspended", 8.0)),
    )


# Reads


UNKNOWN_IDS = [
    "5d3f8f1e-7d52-4f0c-9d6a-0c1b2a3d4e5f",
    "",
    ".",
    "..",
    "a",
    "a/b",
    "/",
    "__x__",
    "ü",
    "x" * 2000,
    f"{FULL.id}\n",
    f" {FULL.id}",
    f"{FULL.id}/a",
    f"{FULL.id}/a/b",
    FULL.id.upper(),
]


@pytest.mark.parametrize("workspace_id", UNKNOWN_IDS)
def test_a_workspace_that_was_never_created_is_absent(
    store: WorkspaceStore, workspace_id: str
) -> None:
    """Any text may be looked up. A text that is not exactly an id finds nothing."""
    make(store, FULL)
    assert store.get(workspace_id) is None


def test_the_full_record_has_no_field_at_its_default() -> None:
    """Otherwise a field that is never written could be read correctly."""
    for record in (FULL, FULL.operation, FULL.metadata, FULL_SNAPSHOT):
        assert is_dataclass(record)
        for each in fields(record):
            untouched = each.default is not MISSING and getattr(record, each.name) == each.default
            assert not untouched or each.name == "schema_version"


BARE = a_workspace(
    Status.PROVISIONING, owner_email=None, home_disk=None, instance_id=None, ready_generation=None
)


@pytest.mark.parametrize("workspace", [FULL, BARE], ids=["full", "bare"])
def test_every_field_of_a_workspace_comes_back(store: WorkspaceStore, workspace: Workspace) -> None:
    """Each has its type, and times are exact to the microsecond."""
    make(store, workspace)
    assert_same(read(store, workspace.id).record, workspace)
    [listed] = store.list_owned(workspace.owner_id, EVERY_WORKSPACE, 10, None).records
    assert_same(listed, workspace)


def test_every_enum_value_of_the_domain_comes_back(store: WorkspaceStore) -> None:
    """All statuses, kinds, phases and activities are each in a record."""
    made = [a_workspace(status) for status in Status]
    made += [a_workspace(operation=an_operation(kind)) for kind in OperationKind]
    made += [a_workspace(operation=an_operation(OperationKind.START, phase)) for phase in Phase]
    made += [a_workspace(last_activity=activity) for activity in Activity]
    make(store, *made)
    for workspace in made:
        assert_same(read(store, workspace.id).record, workspace)


def test_an_owner_that_was_never_written_is_empty(store: WorkspaceStore) -> None:
    """The version is None, which means that the record must be created."""
    stored = store.get_owner("nobody")
    assert stored.version is None
    assert_same(stored.record, Owner("nobody"))


def test_every_field_of_an_owner_comes_back(store: WorkspaceStore) -> None:
    """These are names, running workspaces, keys and the last minute's changes in order."""
    owner = Owner(
        "alice",
        workspaces={FULL.id: OwnedWorkspace("one", running=True), BARE.id: OwnedWorkspace("a.b")},
        keys={
            "5f" * 32: UsedKey(
                workspace_id=FULL.id, body_hash="0a" * 32, expires_at=NOW + timedelta(days=1)
            )
        },
        recent=(NOW - timedelta(seconds=30), NOW - INSTANT, NOW),
    )
    store.commit(owners=[(store.get_owner("alice"), owner)])
    stored = store.get_owner("alice")
    assert stored.version is not None
    assert_same(stored.record, owner)


def test_owners_with_odd_ids_are_kept_apart(store: WorkspaceStore) -> None:
    """Each id has its own record and its own list, whatever its characters."""
    held = {owner_id: a_workspace(owner_id=owner_id) for owner_id in ODD_OWNERS}
    owners = [
        Owner(owner_id, {held[owner_id].id: OwnedWorkspace("one")}) for owner_id in ODD_OWNERS
    ]
    make(store, *held.values())
    store.commit(owners=[(store.get_owner(owner.id), owner) for owner in owners])
    for owner in owners:
        assert_same(store.get_owner(owner.id).record, owner)
        [listed] = store.list_owned(owner.id, EVERY_WORKSPACE, 10, None).records
        assert_same(listed, held[owner.id])


# Commits


def test_a_workspace_is_created_changed_and_deleted(store: WorkspaceStore) -> None:
    """Each commit has the version that was read. After that it can be created again."""
    make(store, BARE)
    made = read(store, BARE.id)
    changed = replace(made.record, status=Status.READY, generation=2)
    store.commit(workspaces=[(made, changed)])
    stored = read(store, BARE.id)
    assert_same(stored.record, changed)
    store.commit(workspaces=[(stored, None)])
    assert store.get(BARE.id) is None
    make(store, BARE)
    assert_same(read(store, BARE.id).record, BARE)


def test_fields_that_a_change_removes_are_gone(store: WorkspaceStore) -> None:
    """A record is replaced, not merged: no former operation, name or key remains."""
    make(store, FULL)
    plain = replace(
        FULL,
        operation=None,
        error=None,
        home_disk=None,
        metadata=Metadata(),
        suspended_at=None,
        stopped_because=None,
    )
    store.commit(workspaces=[(read(store, FULL.id), plain)])
    assert_same(read(store, FULL.id).record, plain)

    both = Owner(
        "alice",
        {FULL.id: OwnedWorkspace("one"), BARE.id: OwnedWorkspace("two", running=True)},
        {"k": UsedKey(workspace_id="w", body_hash="b", expires_at=NOW)},
        recent=(NOW,),
    )
    store.commit(owners=[(store.get_owner("alice"), both)])
    one = Owner("alice", {BARE.id: OwnedWorkspace("two")})
    store.commit(owners=[(store.get_owner("alice"), one)])
    assert_same(store.get_owner("alice").record, one)


def test_a_workspace_that_exists_is_not_created_again(store: WorkspaceStore) -> None:
    """The second commit conflicts, and the first record stays."""
    make(store, FULL)
    with pytest.raises(ConflictError):
        make(store, replace(FULL, name="another"))
    assert_same(read(store, FULL.id).record, FULL)


def test_an_owner_that_exists_is_not_created_again(store: WorkspaceStore) -> None:
    """Of two first requests of a new owner, the second conflicts."""
    absent = store.get_owner("alice")
    first = Owner("alice", {FULL.id: OwnedWorkspace("one")})
    store.commit(owners=[(absent, first)])
    with pytest.raises(ConflictError):
        store.commit(owners=[(absent, Owner("alice"))])
    assert_same(store.get_owner("alice").record, first)


@pytest.mark.parametrize("to_be", [replace(FULL, name="mine"), None], ids=["change", "delete"])
@pytest.mark.parametrize(
    "meanwhile", [replace(FULL, name="theirs"), None], ids=["changed", "deleted"]
)
def test_a_stale_change_or_delete_conflicts(
    store: WorkspaceStore, to_be: Workspace | None, meanwhile: Workspace | None
) -> None:
    """Somebody may have changed or deleted the workspace in between."""
    make(store, FULL)
    stale = read(store, FULL.id)
    store.commit(workspaces=[(stale, meanwhile)])
    with pytest.raises(ConflictError):
        store.commit(workspaces=[(stale, to_be)])
    stored = store.get(FULL.id)
    assert_same(stored and stored.record, meanwhile)


def test_a_workspace_that_was_created_again_has_another_version(
    store: WorkspaceStore,
) -> None:
    """The versions differ even if all fields are the same."""
    make(store, FULL)
    stale = read(store, FULL.id)
    store.commit(workspaces=[(stale, None)])
    make(store, FULL)
    with pytest.raises(ConflictError):
        store.commit(workspaces=[(stale, replace(FULL, name="mine"))])
    assert_same(read(store, FULL.id).record, FULL)


def test_everything_of_a_commit_is_written(subject: Subject) -> None:
    """One commit creates, changes and deletes workspaces, and writes owners and events."""
    store = subject.store
    changed, deleted, made = (a_workspace() for _ in range(3))
    make(store, changed, deleted)
    alice, bob = Owner("alice", {made.id: OwnedWorkspace("one")}), Owner("bob")
    store.commit(
        workspaces=[
            (None, made),
            (read(store, changed.id), replace(changed, name="new")),
            (read(store, deleted.id), None),
        ],
        owners=[(store.get_owner("alice"), alice), (store.get_owner("bob"), bob)],
        events=[an_event("WorkspaceRequested"), an_event("WorkspaceDeleted", NOW + INSTANT)],
    )
    assert_same(read(store, made.id).record, made)
    assert read(store, changed.id).record.name == "new"
    assert store.get(deleted.id) is None
    assert_same(store.get_owner("alice").record, alice)
    assert store.get_owner("bob").version is not None
    events = subject.events()
    assert events == [an_event("WorkspaceRequested"), an_event("WorkspaceDeleted", NOW + INSTANT)]
    assert_same(events[0], an_event("WorkspaceRequested"))


@pytest.mark.parametrize("refused", ["made", "changed", "deleted", "owner"])
def test_of_a_commit_that_conflicts_nothing_is_written(subject: Subject, refused: str) -> None:
    """Whichever document is stale, the others are unchanged, and no event is written."""
    store = subject.store
    made, changed, deleted = (a_workspace() for _ in range(3))
    make(store, changed, deleted)
    absent = store.get_owner("alice")
    to_change, to_delete = read(store, changed.id), read(store, deleted.id)
    meanwhile: dict[str, Callable[[], None]] = {
        "made": lambda: make(store, replace(made, name="theirs")),
        "changed": lambda: store.commit(workspaces=[(to_change, replace(changed, name="theirs"))]),
        "deleted": lambda: store.commit(workspaces=[(to_delete, replace(deleted, name="theirs"))]),
        "owner": lambda: store.commit(
            owners=[(absent, Owner("alice", {"w": OwnedWorkspace("theirs")}))]
        ),
    }
    meanwhile[refused]()

    with pytest.raises(ConflictError):
        store.commit(
            workspaces=[
                (to_change, replace(changed, name="mine")),
                (to_delete, None),
                (None, replace(made, name="mine")),
            ],
            owners=[
                (absent, Owner("alice", {"w": OwnedWorkspace("mine")})),
                (store.get_owner("bob"), Owner("bob")),
            ],
            events=[an_event("WorkspaceRequested")],
        )

    there = store.get(made.id)
    assert (there and there.record.name) == ("theirs" if refused == "made" else None)
    assert read(store, changed.id).record.name == (
        "theirs" if refused == "changed" else changed.name
    )
    assert read(store, deleted.id).record.name == (
        "theirs" if refused == "deleted" else deleted.name
    )
    held = [holding.name for holding in store.get_owner("alice").record.workspaces.values()]
    assert held == (["theirs"] if refused == "owner" else [])
    assert store.get_owner("bob").version is None
    assert subject.events() == []


def test_no_concurrent_change_is_lost(store: WorkspaceStore) -> None:
    """Four threads count in the same record, and read again after each conflict."""
    make(store, replace(FULL, generation=0))

    def count() -> None:
        for _ in range(5):
            while True:
                stored = read(store, FULL.id)
                try:
                    store.commit(
                        workspaces=[
                            (
                                stored,
                                replace(stored.record, generation=stored.record.generation + 1),
                            )
                        ]
                    )
                except ConflictError:
                    continue
                break

    with ThreadPoolExecutor(4) as pool:
        for counting in [pool.submit(count) for _ in range(4)]:
            counting.result()
    assert read(store, FULL.id).record.generation == 20


def test_of_concurrent_creations_one_succeeds(store: WorkspaceStore) -> None:
    """Eight threads create the same workspace, and seven conflict."""

    def attempt(number: int) -> str | None:
        try:
            make(store, replace(FULL, name=f"by-{number}"))
        except ConflictError:
            return None
        return f"by-{number}"

    with ThreadPoolExecutor(8) as pool:
        [winner] = filter(None, pool.map(attempt, range(8)))
    assert read(store, FULL.id).record.name == winner


# The list of an owner's workspaces


def pages(ask: Callable[[str | None], Page[Any]]) -> list[list[Any]]:
    """Return all pages of a list."""
    page = ask(None)
    found = [list(page.records)]
    while page.next_token is not None:
        page = ask(page.next_token)
        found.append(list(page.records))
        assert len(found) < 50
    return found


def test_a_list_has_its_owners_workspaces_newest_first(store: WorkspaceStore) -> None:
    """At the same time, ids decide, in descending order. Nobody else's workspace is in it."""
    ages = (timedelta(0), INSTANT, INSTANT, timedelta(1), timedelta(days=400))
    mine = [a_workspace(owner_id="alice", created_at=NOW - age) for age in ages]
    make(
        store,
        *mine,
        a_workspace(owner_id="bob", created_at=NOW),
        a_workspace(owner_id="alice2", created_at=NOW),
    )
    page = store.list_owned("alice", EVERY_WORKSPACE, 100, None)
    expected = sorted(
        mine, key=lambda workspace: (workspace.created_at, workspace.id), reverse=True
    )
    assert [workspace.id for workspace in page.records] == [workspace.id for workspace in expected]
    assert page.next_token is None


def test_an_empty_list_is_one_page_without_a_next_token(store: WorkspaceStore) -> None:
    """The page has no records."""
    page = store.list_owned("nobody", EVERY_WORKSPACE, 10, None)
    assert (list(page.records), page.next_token) == ([], None)


@pytest.mark.parametrize("status", Status)
def test_a_list_can_be_limited_to_a_status(store: WorkspaceStore, status: Status) -> None:
    """It has only workspaces with the status, in pages too."""
    made = [
        a_workspace(each, created_at=NOW - number * INSTANT)
        for number in range(3)
        for each in Status
    ]
    make(store, *made)
    found = pages(lambda token: store.list_owned("alice", WorkspaceFilter(status), 2, token))
    assert [len(page) for page in found] == [2, 1]
    assert [workspace.id for page in found for workspace in page] == [
        ws.id for ws in made if ws.status is status
    ]


def test_a_list_can_be_limited_to_a_name(store: WorkspaceStore) -> None:
    """It has only workspaces of exactly this name, also together with a status, and in pages."""
    api, old, other, bobs = made = [
        a_workspace(name="api", created_at=NOW),
        a_workspace(Status.SUSPENDED, name="api", created_at=NOW - INSTANT),
        a_workspace(name="api-2", created_at=NOW),
        a_workspace(name="api", owner_id="bob", created_at=NOW - 2 * INSTANT),
    ]
    make(store, *made)

    def found(owner_id: str | None, **wanted: Any) -> list[str]:
        only = WorkspaceFilter(**wanted)
        listed = pages(
            lambda token: (
                store.list_all(only, 1, token)
                if owner_id is None
                else store.list_owned(owner_id, only, 1, token)
            )
        )
        return [workspace.id for page in listed for workspace in page]

    assert found("alice", name="api") == [api.id, old.id]
    assert found("alice", name="api", status=Status.SUSPENDED) == [old.id]
    assert found("alice", name="api-2") == [other.id]
    assert found("alice", name="ap") == found("alice", name="API") == []
    assert found(None, name="api") == [api.id, old.id, bobs.id]
    assert found(None, name="api", status=Status.READY) == [api.id, bobs.id]


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [1] * 6), (2, [2, 2, 2]), (4, [4, 2]), (6, [6]), (100, [6])]
)
def test_pages_of_a_list_have_each_workspace_once(
    store: WorkspaceStore, limit: int, sizes: list[int]
) -> None:
    """Several may have the same time. A full last page has no next token."""
    make(store, *(a_workspace(created_at=NOW - min(number, 3) * INSTANT) for number in range(6)))
    whole = [
        workspace.id for workspace in store.list_owned("alice", EVERY_WORKSPACE, 100, None).records
    ]
    found = pages(lambda token: store.list_owned("alice", EVERY_WORKSPACE, limit, token))
    assert [len(page) for page in found] == sizes
    assert [workspace.id for page in found for workspace in page] == whole


def test_a_page_continues_where_the_last_one_ended(
    store: WorkspaceStore,
) -> None:
    """Workspaces that are created or deleted between two pages do not move the others."""
    made = [a_workspace(created_at=NOW - number * INSTANT) for number in range(4)]
    make(store, *made)
    first = store.list_owned("alice", EVERY_WORKSPACE, 2, None)
    store.commit(workspaces=[(read(store, made[1].id), None)])
    make(store, a_workspace(created_at=NOW + INSTANT))
    second = store.list_owned("alice", EVERY_WORKSPACE, 2, first.next_token)
    assert [workspace.id for workspace in second.records] == [made[2].id, made[3].id]
    assert second.next_token is None


def encoded(value: object) -> str:
    """Return a value in the encoding of page tokens."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        *(
            "",
            "x",
            "!!!",
            "ü",
            "....",
            "A" * 5000,
            encoded("text")[:-3],
            encoded(None),
            encoded(5),
            encoded([]),
        ),
        *(encoded({"at": 1}), encoded([NOW.isoformat()]), encoded([NOW.isoformat(), FULL.id, 1])),
        *(encoded(["yesterday", FULL.id]), encoded([1, FULL.id]), encoded([None, FULL.id])),
        *(
            encoded([NOW.isoformat(), 1]),
            encoded([NOW.isoformat(), None]),
            encoded([NOW.isoformat(), ["x"]]),
        ),
        base64.urlsafe_b64encode(b"[" * 3000).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_an_invalid_page_token_is_an_invalid_request(store: WorkspaceStore, token: str) -> None:
    """The error names the query parameter."""
    lists: tuple[Callable[[], Page[Any]], ...] = (
        lambda: store.list_owned("alice", EVERY_WORKSPACE, 10, token),
        lambda: store.list_all(EVERY_WORKSPACE, 10, token),
        lambda: store.list_events(FULL.id, 10, token),
    )
    for ask in lists:
        with pytest.raises(InvalidRequestError) as refused:
            ask()
        assert [problem.field for problem in refused.value.problems] == ["page_token"]


# The list of everybody's workspaces


def test_a_list_of_all_has_everybodys_workspaces_newest_first(store: WorkspaceStore) -> None:
    """At the same time, ids decide, in descending order, whoever the owners are."""
    ages = (timedelta(0), INSTANT, INSTANT, timedelta(1), timedelta(days=400))
    made = [
        a_workspace(owner_id=f"owner-{number % 3}", created_at=NOW - age)
        for number, age in enumerate(ages)
    ]
    make(store, *reversed(made))
    page = store.list_all(EVERY_WORKSPACE, 100, None)
    expected = sorted(
        made, key=lambda workspace: (workspace.created_at, workspace.id), reverse=True
    )
    assert page.next_token is None
    for found, workspace in zip(page.records, expected, strict=True):
        assert_same(found, workspace)


@pytest.mark.parametrize("status", [None, Status.SUSPENDED])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_of_a_list_of_all_have_each_workspace_once(
    store: WorkspaceStore, status: Status | None, limit: int
) -> None:
    """This holds for all statuses and for one, and for workspaces with the same time."""
    made = [
        a_workspace(each, owner_id=f"owner-{number}", created_at=NOW - min(number, 1) * INSTANT)
        for number in range(3)
        for each in (Status.READY, Status.SUSPENDED)
    ]
    make(store, *made)
    wanted = [workspace for workspace in made if status in {None, workspace.status}]
    found = pages(lambda token: store.list_all(WorkspaceFilter(status), limit, token))
    assert all(len(page) == limit for page in found[:-1])
    expected = sorted(
        wanted, key=lambda workspace: (workspace.created_at, workspace.id), reverse=True
    )
    assert [workspace.id for page in found for workspace in page] == [
        workspace.id for workspace in expected
    ]


# The audit trail


def test_a_trail_has_one_workspaces_events_latest_first(store: WorkspaceStore) -> None:
    """Each field of an event comes back. Events of other workspaces, or of none, are not in it."""
    mine = [
        an_event("StopRequested", NOW - age) for age in (timedelta(0), INSTANT, timedelta(days=80))
    ]
    plain = Event(
        NOW - timedelta(days=81), FULL.id, "alice", "hub", "WorkspaceReady", "READY", "r-0"
    )
    others = [replace(mine[0], workspace_id=BARE.id), replace(mine[0], workspace_id="")]
    store.commit(events=[plain, mine[1], *others, mine[2], mine[0]])
    page = store.list_events(FULL.id, 100, None)
    assert page.next_token is None
    for found, event in zip(page.records, [*mine, plain], strict=True):
        assert_same(found, event)


def test_the_whole_trail_has_everybodys_events(store: WorkspaceStore) -> None:
    """It has all events, latest first, in pages."""
    events = [
        replace(an_event(f"what-{number}", NOW - number * INSTANT), workspace_id=workspace_id)
        for number, workspace_id in enumerate([FULL.id, "", BARE.id, FULL.id])
    ]
    store.commit(events=events)
    found = pages(lambda token: store.list_events(None, 3, token))
    assert [[event.what for event in page] for page in found] == [
        ["what-0", "what-1", "what-2"],
        ["what-3"],
    ]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_pages_of_a_trail_have_each_event_once(
    store: WorkspaceStore, limit: int, sizes: list[int]
) -> None:
    """Several may have the same time, as those of one commit do."""
    store.commit(
        events=[an_event(f"what-{number}", NOW - min(number, 2) * INSTANT) for number in range(5)]
    )
    found = pages(lambda token: store.list_events(FULL.id, limit, token))
    assert [len(page) for page in found] == sizes
    what = [event.what for page in found for event in page]
    assert what[:2] == ["what-0", "what-1"]
    assert sorted(what[2:]) == ["what-2", "what-3", "what-4"]


def test_a_page_of_a_trail_continues_where_the_last_one_ended(
    store: WorkspaceStore,
) -> None:
    """Events that happen between two pages are before the first page."""
    store.commit(events=[an_event(f"what-{number}", NOW - number * INSTANT) for number in range(3)])
    first = store.list_events(FULL.id, 2, None)
    store.commit(events=[an_event("later", NOW + INSTANT)])
    second = store.list_events(FULL.id, 2, first.next_token)
    assert [event.what for event in (*first.records, *second.records)] == [
        "what-0",
        "what-1",
        "what-2",
    ]


def test_a_trail_outlives_its_workspace(store: WorkspaceStore) -> None:
    """It has the event of the deletion."""
    make(store, FULL)
    store.commit(workspaces=[(read(store, FULL.id), None)], events=[an_event("WorkspaceDeleted")])
    assert [event.what for event in store.list_events(FULL.id, 10, None).records] == [
        "WorkspaceDeleted"
    ]


@pytest.mark.parametrize(
    "workspace_id", ["", "..", "a/b", "__x__", "ü", "x" * 2000, "ü" * 751, "a\x00b"]
)
def test_an_unknown_workspace_has_an_empty_trail(store: WorkspaceStore, workspace_id: str) -> None:
    """Any text may be looked up."""
    store.commit(events=[an_event("StopRequested")])
    page = store.list_events(workspace_id, 10, None)
    assert (list(page.records), page.next_token) == ([], None)


# The lists for sweeps


@dataclass(frozen=True)
class Sweep:
    """A list of ids that are due from a time on.

    It has functions that make records which are in it, and records which never are.
    """

    ask: Callable[[WorkspaceStore, datetime, int, str | None], Page[str]]
    due: Callable[[datetime], Made]
    never: Callable[[datetime], Sequence[Made]]


def to_sweep(at: datetime) -> Workspace:
    """Return a workspace whose ``sweep_at`` is this time."""
    return a_workspace(sweep_at=at)


def to_attend(at: datetime) -> Workspace:
    """Return a workspace whose ``attend_at`` is this time."""
    return a_workspace(operation=an_operation(OperationKind.STOP), attend_at=at)


SWEEPS = {
    "to sweep": Sweep(
        lambda store, at, limit, token: store.list_to_sweep(at, limit, token),
        to_sweep,
        lambda at: [replace(to_sweep(at), sweep_at=None), a_snapshot(attend_at=at)],
    ),
    "due": Sweep(
        lambda store, at, limit, token: store.list_due(at, limit, token),
        to_attend,
        lambda at: [replace(to_attend(at), attend_at=None), a_snapshot(attend_at=at)],
    ),
    "due snapshots": Sweep(
        lambda store, at, limit, token: store.list_due_snapshots(at, limit, token),
        lambda at: a_snapshot(attend_at=at),
        lambda at: [a_snapshot(asked_at=at), to_attend(at)],
    ),
    "deleted workspaces": Sweep(
        lambda store, at, limit, token: store.list_deleted_until(at, limit, token),
        lambda at: a_deleted_workspace(until=at),
        lambda at: [a_deleted_workspace(deleted_at=at, until=NOW + INSTANT), to_sweep(at)],
    ),
}
OF_EACH = pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)


@OF_EACH
def test_a_sweep_lists_due_ids_longest_overdue_first(store: WorkspaceStore, sweep: Sweep) -> None:
    """An id is due at the time itself, and not yet a moment earlier."""
    ages = (
        timedelta(days=400),
        timedelta(hours=1),
        INSTANT,
        timedelta(0),
        -INSTANT,
        -timedelta(days=1),
    )
    made = [sweep.due(NOW - age) for age in ages]
    make(store, *reversed(made))
    page = sweep.ask(store, NOW, 100, None)
    assert list(page.records) == [workspace.id for workspace in made[:4]]
    assert page.next_token is None


@OF_EACH
def test_a_sweep_lists_nothing_else(store: WorkspaceStore, sweep: Sweep) -> None:
    """Other records are never in it, however old they are."""
    make(store, *sweep.never(NOW - timedelta(days=400)))
    assert list(sweep.ask(store, NOW, 100, None).records) == []


@OF_EACH
@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 6), (2, [2, 2, 2]), (4, [4, 2]), (6, [6])])
def test_pages_of_a_sweep_have_each_id_once(
    store: WorkspaceStore, sweep: Sweep, limit: int, sizes: list[int]
) -> None:
    """Several may be due since the same time: those are ordered by id."""
    made = [sweep.due(NOW - timedelta(minutes=max(number, 2))) for number in range(6)]
    make(store, *made)
    found = pages(lambda token: sweep.ask(store, NOW, limit, token))
    assert [len(page) for page in found] == sizes
    moments = {
        workspace.id: NOW - timedelta(minutes=max(number, 2))
        for number, workspace in enumerate(made)
    }
    expected = sorted(moments, key=lambda workspace_id: (moments[workspace_id], workspace_id))
    assert [workspace_id for page in found for workspace_id in page] == expected


@OF_EACH
def test_a_sweep_misses_nothing_when_earlier_ids_are_no_longer_due(
    store: WorkspaceStore, sweep: Sweep
) -> None:
    """A sweep's work on a page removes its ids from the list."""
    made = [sweep.due(NOW - timedelta(hours=9 - number)) for number in range(4)]
    make(store, *made)
    first = sweep.ask(store, NOW, 2, None)
    for record in made[:2]:
        if isinstance(record, Workspace):
            store.commit(workspaces=[(read(store, record.id), None)])
        elif isinstance(record, Snapshot):
            store.commit(snapshots=[(read_snapshot(store, record.id), None)])
        else:
            store.commit(deleted=[(read_deleted(store, record.id), None)])
    second = sweep.ask(store, NOW, 2, first.next_token)
    assert [*first.records, *second.records] == [workspace.id for workspace in made]


# Many records at once


def records_of(entries: Sequence[Stored[R] | Unreadable]) -> list[R]:
    """Return the records of entries that can all be read."""
    found = [each for each in entries if isinstance(each, Stored)]
    assert len(found) == len(entries)
    return [each.record for each in found]


def test_many_workspaces_are_read_at_once_as_one_by_one(store: WorkspaceStore) -> None:
    """Those that do not exist, and ids that cannot be one, are left out. Each comes once."""
    made = [FULL, *(a_workspace(owner_id=f"owner-{number}") for number in range(3))]
    make(store, *made)
    absent = [a_workspace().id, "", ".", "a/b", "x" * 2000, FULL.id.upper()]

    found = store.get_many([*absent, *(each.id for each in made[:3]), FULL.id])

    assert_same({each.id: each for each in records_of(found)}, {each.id: each for each in made[:3]})
    assert len(found) == 3
    assert not store.get_many([])
    assert not store.get_many(absent)


def test_what_is_read_with_others_can_be_changed(store: WorkspaceStore) -> None:
    """Its version is the one that a single read has."""
    make(store, FULL)
    store.commit(owners=[(store.get_owner("alice"), Owner("alice"))])
    [read_with_others] = store.get_many([FULL.id])
    [listed] = store.list_workspaces_by_id(10, None).records
    [owner] = store.list_owners_by_id(10, None).records
    assert isinstance(listed, Stored)
    assert isinstance(owner, Stored)
    assert read_with_others == listed == store.get(FULL.id)

    changed = replace(listed.record, name="changed")
    store.commit(
        workspaces=[(listed, changed)], owners=[(owner, replace(owner.record, domain="d.example"))]
    )

    assert read(store, FULL.id).record.name == "changed"
    with pytest.raises(ConflictError):
        store.commit(workspaces=[(listed, changed)])


def test_the_list_by_id_has_every_workspace_in_the_order_of_ids(store: WorkspaceStore) -> None:
    """It has all workspaces, whatever their state, in pages of any size."""
    made = [
        a_workspace(owner_id=f"owner-{number % 3}", status=status)
        for number, status in enumerate([*Status, Status.READY])
    ]
    make(store, *made)
    ordered = sorted(made, key=lambda workspace: workspace.id)
    found = pages(lambda token: store.list_workspaces_by_id(2, token))
    assert_same([each for page in found for each in records_of(page)], ordered)
    assert [len(page) for page in found] == [2, 2, 1]


def test_the_list_of_owners_has_each_once(store: WorkspaceStore) -> None:
    """It has all owners with a record, in pages."""
    owners = [Owner(owner_id, workspaces={"a": OwnedWorkspace("b")}) for owner_id in ODD_OWNERS]
    for owner in owners:
        store.commit(owners=[(store.get_owner(owner.id), owner)])
    found = pages(lambda token: store.list_owners_by_id(3, token))
    assert [each for page in found for each in records_of(page)] == sorted(
        owners, key=lambda owner: owner.id.encode()
    )


@pytest.mark.parametrize("token", ["", "/", "..", "records:here", "ü", "~" * 1000, "0"])
def test_any_text_is_a_place_in_a_list_by_id(store: WorkspaceStore, token: str) -> None:
    """A checkpoint may be old, or of a record that is gone. The list goes on after it."""
    made = [a_workspace() for _ in range(3)]
    make(store, *made)
    store.commit(owners=[(store.get_owner("alice"), Owner("alice"))])
    after = sorted(each.id for each in made if each.id > token)
    listed = records_of(store.list_workspaces_by_id(10, token).records)
    assert [each.id for each in listed] == after
    owners = records_of(store.list_owners_by_id(10, token).records)
    assert [each.id for each in owners] == [each for each in ["alice"] if each > token]


def test_a_list_by_id_goes_on_after_a_record_that_is_gone(store: WorkspaceStore) -> None:
    """A token is a place, not a record."""
    made = sorted((a_workspace() for _ in range(3)), key=lambda workspace: workspace.id)
    make(store, *made)
    first = store.list_workspaces_by_id(1, None)
    store.commit(workspaces=[(read(store, made[0].id), None)])
    second = store.list_workspaces_by_id(2, first.next_token)
    assert records_of(second.records) == made[1:]
    assert second.next_token is None


def test_a_checkpoint_stays_until_another_is_set(store: WorkspaceStore) -> None:
    """Each name has its own. None removes it."""
    assert store.get_checkpoint("fleet") is None
    store.set_checkpoint("fleet", "records:here")
    store.set_checkpoint("other", "there")
    assert (store.get_checkpoint("fleet"), store.get_checkpoint("other")) == (
        "records:here",
        "there",
    )
    store.set_checkpoint("fleet", None)
    assert store.get_checkpoint("fleet") is None


# Snapshots


@pytest.mark.parametrize("snapshot_id", UNKNOWN_IDS)
def test_a_snapshot_that_was_never_made_is_absent(store: WorkspaceStore, snapshot_id: str) -> None:
    """Any text may be looked up, and a workspace's id finds no snapshot."""
    make(store, FULL, FULL_SNAPSHOT)
    assert store.get_snapshot(snapshot_id) is None
    assert store.get_snapshot(FULL.id) is None
    assert store.get(FULL_SNAPSHOT.id) is None


@pytest.mark.parametrize(
    "snapshot",
    [
        FULL_SNAPSHOT,
        a_snapshot(captured_at=None, ready_at=None, disk_gb=None, stored_bytes=None),
        *(a_snapshot(state=state) for state in SnapshotState),
        *(a_snapshot(consistency=each) for each in Consistency),
    ],
    ids=["full", "bare", *SnapshotState, *Consistency],
)
def test_every_field_of_a_snapshot_comes_back(store: WorkspaceStore, snapshot: Snapshot) -> None:
    """Each has its type, alone and in lists."""
    make(store, snapshot)
    stored = read_snapshot(store, snapshot.id)
    assert_same(stored.record, snapshot)
    assert store.list_snapshots(snapshot.workspace_id) == [stored]
    assert store.list_snapshots_by_id(10, None) == Page([stored], None)


def test_a_snapshot_is_created_changed_and_deleted(store: WorkspaceStore) -> None:
    """Each commit has the version that was read. What a change removes is gone."""
    make(store, FULL_SNAPSHOT)
    plain = replace(FULL_SNAPSHOT, error=None, gce_operation=None, attend_at=None, kept_until=None)
    store.commit(snapshots=[(read_snapshot(store, plain.id), plain)])
    stored = read_snapshot(store, plain.id)
    assert_same(stored.record, plain)
    store.commit(snapshots=[(stored, None)])
    assert store.get_snapshot(plain.id) is None
    assert store.list_snapshots(plain.workspace_id) == []


@pytest.mark.parametrize("to_be", [replace(FULL_SNAPSHOT, step=5), None], ids=["change", "delete"])
@pytest.mark.parametrize(
    "meanwhile", [replace(FULL_SNAPSHOT, step=6), None], ids=["changed", "deleted"]
)
def test_a_stale_change_of_a_snapshot_conflicts(
    store: WorkspaceStore, to_be: Snapshot | None, meanwhile: Snapshot | None
) -> None:
    """Somebody may have changed or deleted it in between, or made it already."""
    make(store, FULL_SNAPSHOT)
    with pytest.raises(ConflictError):
        make(store, FULL_SNAPSHOT)
    stale = read_snapshot(store, FULL_SNAPSHOT.id)
    store.commit(snapshots=[(stale, meanwhile)])
    with pytest.raises(ConflictError):
        store.commit(snapshots=[(stale, to_be)])
    stored = store.get_snapshot(FULL_SNAPSHOT.id)
    assert_same(stored and stored.record, meanwhile)


@pytest.mark.parametrize("stale", ["workspace", "snapshot", "none"])
def test_a_workspace_and_its_snapshots_are_written_together(subject: Subject, stale: str) -> None:
    """Either all of them are written, with the events, or nothing is."""
    store = subject.store
    gone, made = a_snapshot(FULL), a_snapshot(FULL)
    make(store, FULL, gone)
    workspace, to_delete = read(store, FULL.id), read_snapshot(store, gone.id)
    if stale == "workspace":
        store.commit(workspaces=[(workspace, replace(FULL, name="theirs"))])
    elif stale == "snapshot":
        store.commit(snapshots=[(to_delete, replace(gone, name="theirs"))])

    def commit() -> None:
        store.commit(
            workspaces=[(workspace, replace(FULL, operation=None))],
            snapshots=[(to_delete, None), (None, made)],
            events=[an_event("SnapshotTaken")],
        )

    if stale == "none":
        commit()
        assert (read(store, FULL.id).record.operation, store.get_snapshot(gone.id)) == (None, None)
        assert_same(read_snapshot(store, made.id).record, made)
        assert len(subject.events()) == 1
        return
    with pytest.raises(ConflictError):
        commit()
    assert read(store, FULL.id).record.operation == FULL.operation
    assert read_snapshot(store, gone.id).record.disk_name == gone.disk_name
    assert (store.get_snapshot(made.id), subject.events()) == (None, [])


def test_a_workspaces_snapshots_are_listed_from_the_last_one_on(store: WorkspaceStore) -> None:
    """All come at once. At the same time, ids decide. No other workspace's are among them."""
    ages = [timedelta(0), INSTANT, INSTANT, *(timedelta(days=number) for number in range(1, 120))]
    mine = [a_snapshot(FULL, asked_at=NOW - age) for age in ages]
    make(store, *reversed(mine), a_snapshot(asked_at=NOW))
    expected = sorted(mine, key=lambda each: (each.asked_at, each.id), reverse=True)
    assert records_of(store.list_snapshots(FULL.id)) == expected


@pytest.mark.parametrize("workspace_id", UNKNOWN_IDS)
def test_an_unknown_workspace_has_no_snapshots(store: WorkspaceStore, workspace_id: str) -> None:
    """Any text may be looked up."""
    make(store, FULL_SNAPSHOT)
    assert list(store.list_snapshots(workspace_id)) == []


def test_the_list_by_id_has_every_snapshot_in_the_order_of_ids(store: WorkspaceStore) -> None:
    """It goes on after a snapshot that is gone, and a token is any text."""
    made = sorted((a_snapshot() for _ in range(5)), key=lambda snapshot: snapshot.id)
    make(store, *made)
    found = pages(lambda token: store.list_snapshots_by_id(2, token))
    assert [records_of(page) for page in found] == [made[:2], made[2:4], made[4:]]
    store.commit(snapshots=[(read_snapshot(store, made[0].id), None)])
    assert records_of(store.list_snapshots_by_id(9, made[0].id).records) == made[1:]
    assert records_of(store.list_snapshots_by_id(9, "").records) == made[1:]


# Deleted workspaces


@pytest.mark.parametrize("workspace_id", UNKNOWN_IDS)
def test_a_workspace_that_was_never_deleted_has_no_entry(
    store: WorkspaceStore, workspace_id: str
) -> None:
    """Any text may be looked up. A workspace is no entry, and an entry is no workspace."""
    exists = a_workspace()
    make(store, exists, FULL_ENTRY)
    assert store.get_deleted(workspace_id) is None
    assert store.get_deleted(exists.id) is None
    assert store.get(FULL_ENTRY.id) is None
    found = store.get_many_deleted([workspace_id, exists.id, FULL_ENTRY.id, FULL_ENTRY.id])
    assert records_of(found) == [FULL_ENTRY]
    assert list(store.get_many_deleted([])) == []


@pytest.mark.parametrize("entry", [FULL_ENTRY, a_deleted_workspace()], ids=["full", "bare"])
def test_every_field_of_a_deleted_workspace_comes_back(
    store: WorkspaceStore, entry: DeletedWorkspace
) -> None:
    """Each has its type, alone and in lists, and so has each of the record in it."""
    make(store, entry)
    stored = read_deleted(store, entry.id)
    assert_same(stored.record, entry)
    assert store.list_deleted(entry.owner_id) == [stored]
    assert store.get_many_deleted([entry.id]) == [stored]


@pytest.mark.parametrize("to_be", [replace(FULL_ENTRY, deleted_by="me"), None])
@pytest.mark.parametrize("meanwhile", [replace(FULL_ENTRY, deleted_by="them"), None])
def test_a_stale_change_of_a_deleted_workspace_conflicts(
    store: WorkspaceStore, to_be: DeletedWorkspace | None, meanwhile: DeletedWorkspace | None
) -> None:
    """Somebody may have taken it back or purged it in between. It is not deleted twice either."""
    make(store, FULL_ENTRY)
    with pytest.raises(ConflictError):
        make(store, FULL_ENTRY)
    stale = read_deleted(store, FULL_ENTRY.id)
    store.commit(deleted=[(stale, meanwhile)])
    with pytest.raises(ConflictError):
        store.commit(deleted=[(stale, to_be)])
    stored = store.get_deleted(FULL_ENTRY.id)
    assert_same(stored and stored.record, meanwhile)


@pytest.mark.parametrize("stale", ["workspace", "entry", "snapshot", "none"])
def test_a_workspace_goes_and_its_entry_comes_in_one_commit(subject: Subject, stale: str) -> None:
    """Or neither. In the same commit another entry goes, and a snapshot is written."""
    store, another = subject.store, a_deleted_workspace()
    make(store, FULL, FULL_SNAPSHOT, another)
    workspace, snapshot = read(store, FULL.id), read_snapshot(store, FULL_SNAPSHOT.id)
    to_purge = read_deleted(store, another.id)
    if stale == "workspace":
        store.commit(workspaces=[(workspace, replace(FULL, name="theirs"))])
    elif stale == "entry":
        store.commit(deleted=[(to_purge, replace(another, deleted_by="them"))])
    elif stale == "snapshot":
        store.commit(snapshots=[(snapshot, replace(FULL_SNAPSHOT, name="theirs"))])

    def commit() -> None:
        store.commit(
            workspaces=[(workspace, None)],
            snapshots=[(snapshot, replace(FULL_SNAPSHOT, step=9))],
            deleted=[(None, FULL_ENTRY), (to_purge, None)],
            events=[an_event("WorkspaceDeleted")],
        )

    if stale == "none":
        commit()
        assert (store.get(FULL.id), store.get_deleted(another.id)) == (None, None)
        assert_same(read_deleted(store, FULL.id).record, FULL_ENTRY)
        assert read_snapshot(store, FULL_SNAPSHOT.id).record.step == 9
        assert len(subject.events()) == 1
        return
    with pytest.raises(ConflictError):
        commit()
    assert read(store, FULL.id).record.operation == FULL.operation
    assert read_snapshot(store, FULL_SNAPSHOT.id).record.step == FULL_SNAPSHOT.step
    assert read_deleted(store, another.id).record.workspace == another.workspace
    assert (store.get_deleted(FULL.id), subject.events()) == (None, [])


def test_an_owners_deleted_workspaces_are_listed_from_the_last_one_on(
    store: WorkspaceStore,
) -> None:
    """All come at once. At the same time, ids decide. Nobody else's are among them."""
    ages = [timedelta(0), INSTANT, INSTANT, *(timedelta(days=number) for number in range(1, 9))]
    mine = [a_deleted_workspace(deleted_at=NOW - age) for age in ages]
    make(store, *reversed(mine), a_deleted_workspace(owner_id="bob", deleted_at=NOW))
    expected = sorted(mine, key=lambda each: (each.deleted_at, each.id), reverse=True)
    assert records_of(store.list_deleted("alice")) == expected
    assert list(store.list_deleted("nobody")) == []


# Firestore only


def test_an_unreadable_record_hides_no_other_from_a_sweep(address: str) -> None:
    """Its id is listed too, and only reading it fails."""
    broken, whole = (to_attend(NOW - timedelta(minutes=minutes)) for minutes in (2, 1))
    with client_of(address) as client:
        store = store_of(client, address)
        make(store, broken, whole)
        client.collection("workspaces").document(broken.id).update({"schema_version": 99})
    assert list(store.list_due(NOW, 10, None).records) == [broken.id, whole.id]
    with pytest.raises(UnavailableError):
        store.get(broken.id)


@pytest.mark.parametrize(
    "damage", [{"schema_version": 99}, {"status": "NEW"}, {"metadata": {"new": 1}}, {"name": None}]
)
def test_an_unreadable_record_hides_no_other_that_is_read_with_it(
    address: str, damage: dict[str, object]
) -> None:
    """It is told apart from one that does not exist, with the reason."""
    broken, whole = a_workspace(), a_workspace()
    written = {
        field: firestore.DELETE_FIELD if value is None else value for field, value in damage.items()
    }
    with client_of(address) as client:
        store = store_of(client, address)
        make(store, broken, whole)
        client.collection("workspaces").document(broken.id).update(written)
    for entries in (
        store.get_many([broken.id, whole.id]),
        store.list_workspaces_by_id(10, None).records,
    ):
        assert [each.record.id for each in entries if isinstance(each, Stored)] == [whole.id]
        [unreadable] = [each for each in entries if isinstance(each, Unreadable)]
        assert unreadable.id == broken.id
        assert unreadable.reason


@pytest.mark.parametrize(
    "damage", [{"schema_version": 99}, {"state": "NEW"}, {"error": {"new": 1}}, {"zone": None}]
)
def test_an_unreadable_snapshot_keeps_its_place_and_hides_no_other(
    address: str, damage: dict[str, object]
) -> None:
    """It is counted in its workspace's list, and found by sweeps."""
    ages = [timedelta(minutes=number) for number in range(3)]
    made = [a_snapshot(FULL, asked_at=NOW - age, attend_at=NOW - age) for age in ages]
    written = {
        field: firestore.DELETE_FIELD if value is None else value for field, value in damage.items()
    }
    with client_of(address) as client:
        store = store_of(client, address)
        make(store, *made)
        client.collection("snapshots").document(made[1].id).update(written)
    listed = store.list_snapshots(FULL.id)
    by_id = store.list_snapshots_by_id(10, None).records
    assert len(by_id) == 3
    assert [each.id if isinstance(each, Unreadable) else each.record.id for each in listed] == [
        snapshot.id for snapshot in made
    ]
    for entries in (listed, by_id):
        [unreadable] = [each for each in entries if isinstance(each, Unreadable)]
        assert unreadable.id == made[1].id
        assert unreadable.reason
    assert set(store.list_due_snapshots(NOW, 10, None).records) == {each.id for each in made}


@pytest.mark.parametrize(
    "damage",
    [{"schema_version": 99}, {"workspace.schema_version": 99}, {"workspace": {}}, {"until": None}],
)
def test_an_unreadable_deleted_workspace_keeps_its_place_and_hides_no_other(
    address: str, damage: dict[str, object]
) -> None:
    """It is counted in its owner's list, though it or the record in it is of a newer version."""
    made = [a_deleted_workspace(deleted_at=NOW - timedelta(minutes=age)) for age in range(3)]
    written = {
        field: firestore.DELETE_FIELD if value is None else value for field, value in damage.items()
    }
    with client_of(address) as client:
        store = store_of(client, address)
        make(store, *made)
        client.collection("deleted_workspaces").document(made[1].id).update(written)
    listed = store.list_deleted("alice")
    assert [each.id if isinstance(each, Unreadable) else each.record.id for each in listed] == [
        entry.id for entry in made
    ]
    for entries in (listed, store.get_many_deleted([each.id for each in made])):
        [unreadable] = [each for each in entries if isinstance(each, Unreadable)]
        assert unreadable.id == made[1].id
        assert unreadable.reason
    if 99 in damage.values():
        with pytest.raises(UnavailableError, match="newer version"):
            store.get_deleted(made[1].id)


def test_a_snapshot_of_a_newer_schema_is_not_read(address: str) -> None:
    """Whoever asks is told that a newer version wrote it, and can try again."""
    with client_of(address) as client:
        store = store_of(client, address)
        make(store, FULL_SNAPSHOT)
        client.collection("snapshots").document(FULL_SNAPSHOT.id).update({"schema_version": 99})
    with pytest.raises(UnavailableError, match="newer version"):
        store.get_snapshot(FULL_SNAPSHOT.id)


def test_a_change_keeps_fields_that_only_a_newer_version_knows(address: str) -> None:
    """They are in documents of the same schema, and come back to that version."""
    with client_of(address) as client:
        store = store_of(client, address)
        make(store, FULL, FULL_SNAPSHOT)
        documents = [
            client.collection("workspaces").document(FULL.id),
            client.collection("snapshots").document(FULL_SNAPSHOT.id),
        ]
        for document in documents:
            document.update({"colour": "green"})
        store.commit(
            workspaces=[(read(store, FULL.id), replace(FULL, name="changed"))],
            snapshots=[
                (read_snapshot(store, FULL_SNAPSHOT.id), replace(FULL_SNAPSHOT, name="changed"))
            ],
        )
        for document in documents:
            found = document.get()
            assert (found.get("name"), found.get("colour")) == ("changed", "green")


def test_a_workspaces_document_has_the_form_that_its_record_needs(address: str) -> None:
    """Version 0.1 can use it again once nothing of it needs a snapshot any more."""
    with client_of(address) as client:
        store = store_of(client, address)
        document = client.collection("workspaces").document(FULL.id)
        make(store, FULL)
        assert document.get().get("schema_version") == FULL.schema_version == 2
        usable = replace(FULL, home_source=None, operation=None, old_homes=())
        store.commit(workspaces=[(read(store, FULL.id), usable)])
        assert document.get().get("schema_version") == 1


def test_events_have_the_time_at_which_they_expire(address: str) -> None:
    """Firestore's TTL deletes them at that time."""
    event = an_event("WorkspaceRequested", at=datetime.now(UTC))
    with client_of(address) as client:
        store_of(client, address).commit(events=[event])
        [document] = (
            client.collection("events")
            .where(filter=FieldFilter("what", "==", "WorkspaceRequested"))
            .stream()
        )
    assert document.get("expire_at") == event.at + EVENTS_KEPT


def test_events_whose_commits_answer_is_lost_are_written_once(address: str) -> None:
    """The call is repeated. Nobody else can have written these events, so that is no conflict."""
    event = an_event("RequestRefused")
    with (
        client_of(address) as client,
        losing_answers(address, grpc.StatusCode.UNAVAILABLE) as lossy,
    ):
        store_of(client, lossy).commit(events=[event])
        assert events_in(client) == [event]


def test_a_change_whose_commits_answer_is_lost_is_written_once(address: str) -> None:
    """Whoever asked for it cannot tell, so it is a conflict: they read again. So for its event."""
    with (
        client_of(address) as client,
        losing_answers(address, grpc.StatusCode.UNAVAILABLE) as lossy,
    ):
        event = an_event("WorkspaceRequested")
        with pytest.raises(ConflictError):
            store_of(client, lossy).commit(workspaces=[(None, FULL)], events=[event])
        assert read(store_of(client, address), FULL.id).record == FULL
        assert events_in(client) == [event]


def test_a_change_of_a_snapshot_alone_conflicts_with_its_own_lost_answer(address: str) -> None:
    """As a workspace's does."""
    with (
        client_of(address) as client,
        losing_answers(address, grpc.StatusCode.UNAVAILABLE) as lossy,
    ):
        with pytest.raises(ConflictError):
            make(store_of(client, lossy), FULL_SNAPSHOT)
        assert read_snapshot(store_of(client, address), FULL_SNAPSHOT.id).record == FULL_SNAPSHOT


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
    ],
)
def test_events_alone_conflict_with_nothing(address: str, code: grpc.StatusCode) -> None:
    """Their commit has no condition that a reader could meet by reading again."""
    with client_of(address) as client, losing_answers(address, code) as lossy:
        store = store_of(client, lossy)
        with pytest.raises(UnavailableError):
            store.commit(events=[an_event("RequestRefused")])


CALLS: dict[str, Callable[[WorkspaceStore], object]] = {
    "get": lambda store: store.get(FULL.id),
    "get_many": lambda store: store.get_many([FULL.id]),
    "get_owner": lambda store: store.get_owner("alice"),
    "commit": lambda store: store.commit(workspaces=[(None, FULL)]),
    "list_owned": lambda store: store.list_owned("alice", EVERY_WORKSPACE, 10, None),
    "list_all": lambda store: store.list_all(EVERY_WORKSPACE, 10, None),
    "list_events": lambda store: store.list_events(FULL.id, 10, None),
    "list_to_sweep": lambda store: store.list_to_sweep(NOW, 10, None),
    "list_due": lambda store: store.list_due(NOW, 10, None),
    "list_workspaces_by_id": lambda store: store.list_workspaces_by_id(10, None),
    "get_snapshot": lambda store: store.get_snapshot(FULL_SNAPSHOT.id),
    "list_snapshots": lambda store: store.list_snapshots(FULL.id),
    "list_due_snapshots": lambda store: store.list_due_snapshots(NOW, 10, None),
    "list_snapshots_by_id": lambda store: store.list_snapshots_by_id(10, None),
    "list_owners_by_id": lambda store: store.list_owners_by_id(10, None),
    "get_deleted": lambda store: store.get_deleted(FULL.id),
    "get_many_deleted": lambda store: store.get_many_deleted([FULL.id]),
    "list_deleted": lambda store: store.list_deleted("alice"),
    "list_deleted_until": lambda store: store.list_deleted_until(NOW, 10, None),
    "get_checkpoint": lambda store: store.get_checkpoint("fleet"),
    "set_checkpoint": lambda store: store.set_checkpoint("fleet", "here"),
}


def test_every_method_is_in_the_test_below() -> None:
    """A new method cannot be forgotten."""
    assert CALLS.keys() == {name for name in vars(WorkspaceStore) if not name.startswith("_")}


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_a_firestore_that_does_not_answer_is_an_error_in_time(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each method gives up after the adapter's own timeout, not after the library's minutes."""
    hurry(monkeypatch, grpc_service)

    with unanswering(how) as address:
        store = FirestoreWorkspaceStore.of("nowhere", "(default)", address)
        assert_told_in_time({name: partial(call, store) for name, call in CALLS.items()})
