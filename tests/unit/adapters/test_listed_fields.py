"""What the lists of machines, disks and snapshots ask Compute for."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud import compute_v1

from localcloud.services.compute.partial_response import ALL, Selection, read_fields
from shared.adapters.compute_machines import LISTED_DISKS, LISTED_INSTANCES, LISTED_SNAPSHOTS

LISTS = [
    (LISTED_INSTANCES, compute_v1.InstanceAggregatedList),
    (LISTED_DISKS, compute_v1.DiskAggregatedList),
    (LISTED_SNAPSHOTS, compute_v1.SnapshotList),
]


def unknown_names(selection: Selection, message: Any) -> set[str]:
    """Return the names of a selection that a protobuf message does not have."""
    if message is None:
        return set(selection)
    if message.GetOptions().map_entry:
        assert set(selection) == {ALL}
        return unknown_names(selection[ALL], message.fields_by_name["value"].message_type)
    fields = {field.json_name: field for field in message.fields}
    return {name for name in selection if name not in fields}.union(
        *(
            unknown_names(part, fields[name].message_type)
            for name, part in selection.items()
            if part and name in fields
        )
    )


@pytest.mark.parametrize(("fields", "answer"), LISTS)
def test_a_list_asks_only_for_what_compute_has(fields: str, answer: Any) -> None:
    """Compute refuses a whole list for one name that it does not know."""
    assert not unknown_names(read_fields(fields), answer.pb().DESCRIPTOR)
    assert unknown_names(read_fields(f"{fields},nobody"), answer.pb().DESCRIPTOR) == {"nobody"}


@pytest.mark.parametrize(("fields", "answer"), LISTS)
def test_a_list_asks_for_all_that_says_whether_it_is_complete(fields: str, answer: Any) -> None:
    """Without the token it would end after a page, and without the warnings a zone could miss."""
    selection = read_fields(fields)
    has = {field.json_name for field in answer.pb().DESCRIPTOR.fields}
    assert {"nextPageToken", "warning"} <= has
    assert selection.keys() >= {"nextPageToken", "unreachables", "warning"} & has
    if "unreachables" in has:  # only an aggregated list has zones
        assert "warning" in selection["items"][ALL]


def test_a_list_does_not_ask_for_metadata() -> None:
    """Every machine's metadata has the boot files."""
    assert "metadata" not in read_fields(LISTED_INSTANCES)["items"][ALL]["instances"]
