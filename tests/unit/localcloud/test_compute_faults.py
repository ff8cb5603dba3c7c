"""How the local Compute Engine's faults are switched on and off, and when they strike."""

from __future__ import annotations

import pytest

from localcloud.services.compute.active_faults import ActiveFaults, Place
from localcloud.services.compute.faults import FAULTS
from localcloud.services.project import Project

PROJECT = Project(id="demo", number="1", zones=("us-west1-a", "us-west1-b"))
HERE = Place("us-west1-a", "one", "instances.insert")


def test_a_fault_with_a_count_strikes_that_many_times() -> None:
    """Each strike returns its number, and the fault is off after the last one."""
    faults = ActiveFaults(PROJECT)
    faults.switch_on("stock_out", count=2)

    assert [faults.strike("stock_out", HERE) for _ in range(3)] == [1, 2, 0]
    assert faults.describe() == []


def test_a_fault_without_a_count_stays_on_until_it_is_switched_off() -> None:
    """It still strikes after 50 calls."""
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
def test_a_fault_strikes_only_its_own_zone_instance_and_method(
    narrowed: dict[str, str], strikes: bool
) -> None:
    """All that are given must match the call."""
    faults = ActiveFaults(PROJECT)
    faults.switch_on("unavailable", **narrowed)  # type: ignore[arg-type]

    assert bool(faults.strike("unavailable", HERE)) is strikes


def test_switching_a_fault_on_again_replaces_its_count() -> None:
    """A fault with another target is separate, and keeps its own count."""
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
def test_an_invalid_fault_is_refused(arguments: dict[str, object]) -> None:
    """A bad name, method or count is refused, and so is a method of a machine fault."""
    with pytest.raises(ValueError, match=r"\w"):
        ActiveFaults(PROJECT).switch_on(**arguments)  # type: ignore[arg-type]


def test_the_error_for_an_unknown_fault_lists_all_names() -> None:
    """Somebody who mistypes a name sees the valid ones."""
    with pytest.raises(ValueError, match="gremlins") as refusal:
        ActiveFaults(PROJECT).switch_off("gremlins")

    assert all(name in str(refusal.value) for name in FAULTS)
