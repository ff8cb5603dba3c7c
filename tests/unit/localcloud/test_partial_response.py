"""Which parts of an answer of Compute a parameter ``fields`` selects."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.services.compute.errors import ComputeError
from localcloud.services.compute.partial_response import read_fields, select

ANSWER: dict[str, Any] = {
    "kind": "compute#instanceAggregatedList",
    "nextPageToken": "next",
    "items": {
        "zones/a": {
            "instances": [
                {"id": "1", "name": "one", "disks": [{"source": "x", "boot": True}, {"boot": 1}]},
                {"id": "2", "metadata": {"items": [{"key": "user-data", "value": "large"}]}},
            ]
        },
        "zones/b": {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "none"}},
    },
}


@pytest.mark.parametrize(
    ("fields", "selected"),
    [
        ("*", ANSWER),
        ("nextPageToken", {"nextPageToken": "next"}),
        ("kind,nextPageToken", {"kind": ANSWER["kind"], "nextPageToken": "next"}),
        ("nobody", {}),
        (
            "items/*/warning/code",
            {
                "items": {
                    "zones/a": {},
                    "zones/b": {"warning": {"code": ANSWER["items"]["zones/b"]["warning"]["code"]}},
                }
            },
        ),
        (
            "items/*/instances(id,disks/source)",
            {
                "items": {
                    "zones/a": {
                        "instances": [{"id": "1", "disks": [{"source": "x"}, {}]}, {"id": "2"}]
                    },
                    "zones/b": {},
                }
            },
        ),
        (
            "items/*(instances/name,warning)",
            {
                "items": {
                    "zones/a": {"instances": [{"name": "one"}, {}]},
                    "zones/b": ANSWER["items"]["zones/b"],
                }
            },
        ),
        (
            "items/*/instances/id,items/*/instances/name",
            {
                "items": {
                    "zones/a": {"instances": [{"id": "1", "name": "one"}, {"id": "2"}]},
                    "zones/b": {},
                }
            },
        ),
    ],
)
def test_only_what_is_named_is_answered(fields: str, selected: dict[str, Any]) -> None:
    """A name leads through arrays, and ``*`` stands for every member."""
    assert select(ANSWER, read_fields(fields)) == selected


@pytest.mark.parametrize(
    "fields", [",", "a,", "a/", "/a", "(a)", "a(", "a(b", "a(b))", "a()", "a b", "a(b)c", "a;b"]
)
def test_a_malformed_selection_is_refused(fields: str) -> None:
    """Compute answers 400 too."""
    with pytest.raises(ComputeError) as refused:
        read_fields(fields)
    assert (refused.value.code, refused.value.reason) == (400, "invalidParameter")
