"""The switches of the local Compute Engine's faults."""

from __future__ import annotations

import pytest

from localcloud.services.compute.active_faults import ActiveFaults, Place
from localcloud.services.compute.faults import FAULTS
from localcloud.services.project import Project

PROJECT = Project(id="demo", number="1", zones=("us-west1-a", "us-west1-b"))
HERE = Place("us-west1-a", "one", "instances.insert")


def test_a_counted_fault_strikes_so_often_and_is_gone() -> None:
    """Each strike uses one up, and says the how manieth it is."""
    faults = ActiveFaults(PROJECT)
    faults.switch_on("stock_out", count=2)

    assert [faults.strike("stock_out", HERE) for _ in range(3)] == [1, 2, 0]
    assert faults.describe() == []


def test_a_fault_without_a_count_stays_until_it_is_switched_off() -> None:
    """For ever means until `switch_off`."""
    faults = ActiveFaults(PROJECT)
    faults.switch_on("stock_out")
    assert all(faults.strike("stock_out", HERE) for _ in range(50))

    faults.switch_off("stock_out")

    assert not faults.strike("stock_out", HERE)


@pytest.mark.parametrize(
    ("narrowed", "strikes"),
    [
        ({"zone": "us-west1-a"}, True),
        ({"zone": "us-west1-b"}, False),
        ({"instance": "one"}, True),
        ({"instance": "two"}, False),
        ({"method": "instances.insert"}, True),
        ({"method": "insert"}, True),
        ({"method": "disks.insert"}, False),
        ({"zone": "us-west1-a", "instance": "one", "method": "insert"}, True),
    ],
)
def test_a_fault_strikes_only_what_it_is_meant_for(narrowed: dict[str, str], strikes: bool) -> None:
    """Zone, instance and method all have to be the ones given."""
    faults = ActiveFaults(PROJECT)
    faults.switch_on("unavailable", **narrowed)  # type: ignore[arg-type]

    assert bool(faults.strike("unavailable", HERE)) is strikes


def test_switching_on_again_replaces_the_count_and_other_targets_stay() -> None:
    """The same target is one fault; another target is another one."""
    faults = ActiveFaults(PROJECT)
    faults.switch_on("vanished", count=5)
    faults.switch_on("vanished", count=1, zone="us-west1-b")
    faults.switch_on("vanished", count=2)

    assert {(fault["zone"], fault["count"]) for fault in faults.describe()} == {
        (None, 2),
        ("us-west1-b", 1),
    }

    faults.switch_off("vanished", zone="us-west1-b")

    assert [fault["zone"] for fault in faults.describe()] == [None]


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "gremlins"},
        {"name": "stock_out", "count": 0},
        {"name": "stock_out", "method": "instances.explode"},
        {"name": "vanished", "method": "instances.insert"},
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, object]) -> None:
    """An unknown name or method, a count below one, a method for a fault of machines."""
    with pytest.raises(ValueError, match=r"\w"):
        ActiveFaults(PROJECT).switch_on(**arguments)  # type: ignore[arg-type]


def test_an_unknown_name_is_answered_with_all_there_are() -> None:
    """Who mistypes a name reads the list."""
    with pytest.raises(ValueError, match="gremlins") as refusal:
        ActiveFaults(PROJECT).switch_off("gremlins")

    assert all(name in str(refusal.value) for name in FAULTS)
