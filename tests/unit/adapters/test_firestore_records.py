"""Records as documents: writing and reading loses nothing, and older documents can be read."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.adapters.firestore_records import (
    NewerSchemaError,
    owner_document,
    owner_record,
    snapshot_document,
    snapshot_record,
    workspace_document,
    workspace_record,
)
from shared.domain.snapshots import (
    SNAPSHOT_SCHEMA_VERSION,
    Consistency,
    Snapshot,
    SnapshotState,
)
from shared.domain.workspace import (
    SCHEMA_VERSION,
    Activity,
    Metadata,
    Operation,
    OperationKind,
    Owner,
    Phase,
    Status,
    Workspace,
)

PLAIN = (str, int, float, bool, datetime, type(None))
moments = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 -- bounds are naive by contract
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
texts = st.text(max_size=20)
st.register_type_strategy(datetime, moments)
st.register_type_strategy(str, texts)
workspaces = st.builds(Workspace)
snapshots = st.builds(Snapshot, schema_version=st.integers(0, SNAPSHOT_SCHEMA_VERSION))
reproducibly = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def check_plain(value: Any) -> None:
    """Check that Firestore can store a value as it is."""
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        for part in value.values():
            check_plain(part)
    elif isinstance(value, list):
        for part in value:
            check_plain(part)
    else:
        assert type(value) in PLAIN


@reproducibly
@given(workspaces)
def test_a_workspace_comes_back_as_it_was_written(workspace: Workspace) -> None:
    """The document has every field of the record, its operation and its errors, in plain types.

    It also has the version of its form.
    """
    document = workspace_document(workspace)

    check_plain(document)
    assert set(document) == {*Workspace.__dataclass_fields__, "schema_version"}
    assert document["schema_version"] == workspace.schema_version <= SCHEMA_VERSION
    assert workspace_record(document) == workspace


@reproducibly
@given(snapshots)
def test_a_snapshot_comes_back_as_it_was_written(snapshot: Snapshot) -> None:
    """The document has every field of the record, in plain types."""
    document = snapshot_document(snapshot)

    check_plain(document)
    assert set(document) == set(Snapshot.__dataclass_fields__)
    assert snapshot_record(document) == snapshot


@reproducibly
@given(st.builds(Owner))
def test_an_owner_comes_back_as_it_was_written(owner: Owner) -> None:
    """The document has all workspaces and keys, whatever their names."""
    document = owner_document(owner)

    check_plain(document)
    assert owner_record(document) == owner


OLDEST: dict[str, Any] = {
    "id": "5f0c9c0e-8a57-4a55-9f5e-6d4c8f2b1a00",
    "name": "one",
    "owner_id": "alice",
    "owner_email": None,
    "project_id": "a-project",
    "instance_name": "workspace-5f0c9c0e-8a57-4a55-9f5e-6d4c8f2b1a00",
    "zone": "us-west1-a",
    "image_tag": "latest",
    "machine_type": "e2-standard-4",
    "status": "READY",
    "created_at": datetime(2025, 1, 1, tzinfo=UTC),
    "updated_at": datetime(2025, 1, 2, tzinfo=UTC),
    "last_connected_at": datetime(2025, 1, 3, tzinfo=UTC),
}


def test_a_document_with_only_the_oldest_fields_can_be_read() -> None:
    """A missing field gets the record's default."""
    workspace = workspace_record(OLDEST)

    assert (workspace.status, workspace.last_activity) == (Status.READY, Activity.CREATED)
    assert (workspace.metadata, workspace.generation, workspace.operation) == (Metadata(), 1, None)
    assert (workspace.machine_running, workspace.attend_at, workspace.schema_version) == (
        False,
        None,
        1,
    )


def test_an_operation_of_an_older_version_can_be_read() -> None:
    """An operation under way continues after a deployment."""
    operation = {
        "id": "an-operation",
        "kind": "START",
        "phase": "starting",
        "step": 4,
        "requested_by": "alice",
        "requested_at": datetime(2025, 1, 3, tzinfo=UTC),
        "deadline_at": datetime(2025, 1, 4, tzinfo=UTC),
        "phase_since": datetime(2025, 1, 3, tzinfo=UTC),
        "request_id": "a-request",
    }

    read = workspace_record({**OLDEST, "operation": operation}).operation

    assert isinstance(read, Operation)
    assert (read.kind, read.phase, read.step) == (OperationKind.START, Phase.STARTING, 4)
    assert (read.attempt, read.zones_tried, read.failure, read.automatic) == (0, (), None, False)


def test_unknown_fields_of_the_same_schema_are_ignored() -> None:
    """A document may have fields that this version does not use."""
    assert workspace_record({**OLDEST, "colour": "green"}) == workspace_record(OLDEST)


def test_a_document_of_a_newer_schema_is_refused() -> None:
    """This version would lose unknown fields. Nothing is changed until the deployment is done."""
    with pytest.raises(NewerSchemaError):
        workspace_record({**OLDEST, "schema_version": SCHEMA_VERSION + 1})


OLDEST_SNAPSHOT: dict[str, Any] = {
    "id": "6a0c9c0e-8a57-4a55-9f5e-6d4c8f2b1a00",
    "workspace_id": OLDEST["id"],
    "owner_id": "alice",
    "name": None,
    "automatic": False,
    "state": "READY",
    "consistency": "clean",
    "requested_by": "alice",
    "request_id": "a-request",
    "asked_at": datetime(2025, 1, 1, tzinfo=UTC),
    "captured_at": None,
    "updated_at": datetime(2025, 1, 2, tzinfo=UTC),
    "disk_name": f"home-{OLDEST['id']}",
    "zone": "us-west1-a",
    "machine_type": "e2-standard-4",
    "image_tag": "latest",
    "metadata": {},
}


def test_a_snapshot_with_only_the_oldest_fields_can_be_read() -> None:
    """A missing field gets the record's default."""
    snapshot = snapshot_record(OLDEST_SNAPSHOT)

    assert (snapshot.state, snapshot.consistency) == (SnapshotState.READY, Consistency.CLEAN)
    assert (snapshot.metadata, snapshot.step, snapshot.error) == (Metadata(), 0, None)


def test_unknown_fields_of_a_snapshot_of_the_same_schema_are_ignored() -> None:
    """A document may have fields that this version does not use."""
    newer = {**OLDEST_SNAPSHOT, "colour": "green", "metadata": {"colour": "green"}}

    assert snapshot_record(newer) == snapshot_record(OLDEST_SNAPSHOT)


def test_a_snapshot_of_a_newer_schema_is_refused() -> None:
    """This version would lose unknown fields."""
    with pytest.raises(NewerSchemaError):
        snapshot_record({**OLDEST_SNAPSHOT, "schema_version": SNAPSHOT_SCHEMA_VERSION + 1})


def test_a_value_that_firestore_cannot_store_is_refused() -> None:
    """A wrong type in a record fails here, and not in the client library."""
    workspace = workspace_record({**OLDEST, "zone": {"a", "set"}})

    with pytest.raises(TypeError, match="type set cannot be stored"):
        workspace_document(workspace)
