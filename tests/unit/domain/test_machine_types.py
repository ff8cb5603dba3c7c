"""What the name of a machine type tells."""

from __future__ import annotations

import pytest

from shared.domain.machine_types import (
    DISK_TYPES,
    Architecture,
    disk_type,
    fitting_disk_types,
    parse_machine_type,
)

SUSPENDABLE = (
    "e2-standard-4", "e2-micro", "e2-medium", "f1-micro", "g1-small", "n1-highmem-32",
    "n2-standard-48", "n2-highcpu-128", "n2d-highcpu-128", "c2-standard-30", "c3-standard-44",
    "c4-standard-48", "c4-highmem-24", "c4a-standard-48", "t2d-standard-48", "n4-highcpu-80",
    "custom-4-16384", "n2-custom-4-16384", "e2-custom-small-2048", "n2-custom-2-212992-ext",
)  # fmt: skip
NOT_SUSPENDABLE = {
    "it has accelerators (GPUs or TPUs)": (
        "a2-highgpu-1g", "a2-ultragpu-1g-nolssd", "a3-megagpu-8g", "a4x-maxgpu-4g-metal",
        "a5-highgpu-1g", "g2-standard-4", "g2-custom-4-16384", "g4-standard-48",
        "ct5lp-hightpu-1t", "tpu7x-standard-1t",
    ),
    "it is bare metal": (
        "c3-standard-192-metal", "c4-highmem-288-lssd-metal", "c4a-standard-96-metal",
        "x4-megamem-960-metal",
    ),
    "it has local SSDs": (
        "c3-standard-4-lssd", "c4-standard-4-lssd-v1", "c4d-standard-8-lssd", "c4a-highmem-8-lssd",
        "z3-highmem-8",
    ),
    "it has more than 208 GB of memory": (
        "n1-highmem-64", "n2-standard-64", "n2-highmem-32", "c2-standard-60", "c4-highmem-32",
        "h3-standard-88", "m1-ultramem-40", "m4-megamem-28", "n2-custom-2-212993-ext",
        "custom-64-425984",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUSPENDABLE)
def test_a_machine_type_that_can_be_suspended_gives_no_reason(name: str) -> None:
    """It has up to 208 GB of memory, and neither accelerators, nor local SSDs, nor bare metal."""
    parsed = parse_machine_type(name)
    assert parsed is not None
    assert parsed.why_not_suspendable == ""


@pytest.mark.parametrize(
    ("why", "name"), [(why, name) for why, names in NOT_SUSPENDABLE.items() for name in names]
)
def test_a_machine_type_that_cannot_be_suspended_says_why(why: str, name: str) -> None:
    """The first reason is given, worded to fit into a sentence."""
    parsed = parse_machine_type(name)
    assert parsed is not None
    assert parsed.why_not_suspendable == why


@pytest.mark.parametrize(
    ("name", "series", "processors", "memory_gb"),
    [
        ("n4-standard-4", "n4", 4, 16),
        ("n1-standard-4", "n1", 4, 15),
        ("a2-highgpu-1g", "a2", None, None),
        ("custom-4-16384", "n1", 4, 16),
        ("n4a-custom-2-5120-ext", "n4a", 2, 5),
        ("e2-custom-micro-1024", "e2", None, 1),
        ("e2-micro", "e2", None, None),
        ("m1-ultramem-40", "m1", 40, None),
    ],
)
def test_series_processors_and_memory_are_read_from_the_name(
    name: str, series: str, processors: int | None, memory_gb: float | None
) -> None:
    """A custom type without a series is N1's; what the name does not tell is None."""
    parsed = parse_machine_type(name)
    assert parsed is not None
    assert (parsed.name, parsed.series) == (name, series)
    assert (parsed.processors, parsed.memory_gb) == (processors, memory_gb)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "e2",
        "e2-",
        "E2-standard-4",
        "standard-4",
        "e2 standard 4",
        "e2-custom-4",
        "zones/a/e2-micro",
    ],
)
def test_other_text_is_not_read_as_a_machine_type(name: str) -> None:
    """Examples are a series alone, a URL, and a custom type without its memory."""
    assert parse_machine_type(name) is None


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        *(
            (name, Architecture.ARM)
            for name in (
                "t2a-standard-1",
                "c4a-standard-4",
                "n4a-custom-2-8192",
                "e4a-standard-2",
                "n9a-x-2",
            )
        ),
        *(
            (name, Architecture.X86)
            for name in (
                "e2-standard-4",
                "a2-highgpu-1g",
                "n2d-standard-2",
                "c4d-standard-8",
                "custom-2-8192",
            )
        ),
    ],
)
def test_the_letter_a_after_the_generation_means_arm(name: str, architecture: Architecture) -> None:
    """This is how Google names its series, so future series are recognised too."""
    parsed = parse_machine_type(name)
    assert parsed is not None
    assert parsed.architecture is architecture


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(
            (name, "pd-balanced") for name in (
                "e2-standard-4", "n2-custom-4-16384", "custom-2-8192", "c3-standard-4",
                "t2a-standard-1",
            )
        ),
        *(
            (name, "hyperdisk-balanced") for name in (
                "n4-standard-4", "c4-standard-4", "c4a-standard-4", "c4d-standard-8",
                "n4d-standard-2",
            )
        ),
        ("q9-standard-4", "hyperdisk-balanced"),
    ],
)  # fmt: skip
def test_a_series_has_a_disk_type(name: str, expected: str) -> None:
    """Series without Persistent Disk get Hyperdisk, and so do unknown series."""
    assert disk_type(name, {}) == expected


def test_a_configured_disk_type_applies_to_its_series_only() -> None:
    """Every other series keeps its default."""
    chosen = {"e2": "pd-ssd", "q9": "pd-standard"}
    names = ("e2-standard-4", "e2-micro", "n2-standard-2", "q9-standard-4")
    assert [disk_type(name, chosen) for name in names] == [
        "pd-ssd",
        "pd-ssd",
        "pd-balanced",
        "pd-standard",
    ]


def test_the_fitting_disk_types_are_the_configurable_ones() -> None:
    """The table names exactly the disk types that may be configured."""
    assert {one for series in ("e2", "c3", "n4") for one in fitting_disk_types(series)} == set(
        DISK_TYPES
    )
