"""Settings of machine types and their disks: what could never work is refused when it is read."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.config import ConfigurationError, Settings, read_settings
from tests.fakes.settings import REQUIRED_SETTINGS

COS = "projects/cos-cloud/global/images/family"


def settings(machine_types: str = "", **variables: str) -> Settings:
    """Return the settings with these machine types, the first being the default."""
    if machine_types:
        variables = {
            "HUB_MACHINE_TYPES": machine_types,
            "HUB_DEFAULT_MACHINE_TYPE": machine_types.partition(",")[0].strip(),
            **variables,
        }
    return read_settings(
        {**REQUIRED_SETTINGS, "HUB_ALLOWED_EMAILS": "ada@example.com", **variables}
    )


def told(machine_types: str = "", **variables: str) -> list[str]:
    """Return each thing that is wrong with the settings."""
    with pytest.raises(ConfigurationError) as refused:
        settings(machine_types, **variables)
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


def test_a_local_ssd_type_is_refused_in_a_sentence() -> None:
    """It could not be suspended, nor stopped without a decision on its data."""
    [problem] = told("e2-standard-4,c3-standard-4-lssd")
    assert problem == (
        "HUB_MACHINE_TYPES has 'c3-standard-4-lssd'; "
        "Compute cannot suspend it, since it has local SSDs: every stop would lose its memory"
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("g2-standard-4", "accelerators"),
        ("c3-standard-192-metal", "bare metal"),
        ("n2-standard-64", "208 GB"),
        ("z3-highmem-8", "local SSDs"),
    ],
)
def test_what_cannot_be_suspended_is_refused(name: str, why: str) -> None:
    """A stop promises to keep memory; such a machine would lose it each time."""
    [problem] = told(name)
    assert f"HUB_MACHINE_TYPES has {name!r}" in problem
    assert why in problem


@pytest.mark.parametrize(
    "name", ["n2-custom-4-16384", "custom-2-8192", "e2-custom-small-2048", "n4-custom-4-32768-ext"]
)
def test_custom_machine_types_are_taken(name: str) -> None:
    """In all their forms."""
    assert settings(name).policy.machine_types == (name,)


def test_what_is_no_machine_type_is_refused() -> None:
    """Before the first person is answered that Compute does not know it."""
    assert told("big") == ["HUB_MACHINE_TYPES has 'big'; it is not the name of a machine type"]


def test_an_unknown_series_is_refused_until_its_disks_are_named() -> None:
    """The message has the setting to make; with it a series that Google adds tomorrow is taken."""
    [problem] = told("q9-standard-4")
    assert problem == (
        "HUB_MACHINE_TYPES has 'q9-standard-4'; "
        "HUB_DISK_TYPES must say which disks its series takes, like q9=hyperdisk-balanced"
    )
    taken = settings("q9-standard-4", HUB_DISK_TYPES="q9=hyperdisk-balanced")
    assert taken.machine.disk_types == {"q9": "hyperdisk-balanced"}


@pytest.mark.parametrize(
    "part",
    ["n4", "n4=", "=pd-ssd", "n4-standard-4=hyperdisk-balanced", "n4=a=b", "N4=hyperdisk-balanced"],
)
def test_disk_types_that_cannot_be_read_are_named(part: str) -> None:
    """The right ones beside it are not told."""
    assert told(HUB_DISK_TYPES=f"e2=pd-ssd,{part}") == [
        f"HUB_DISK_TYPES has {part!r}; it must be SERIES=DISK_TYPE, like n4=hyperdisk-balanced"
    ]


@pytest.mark.parametrize(
    ("part", "fitting"),
    [
        ("n4=pd-balanced", "hyperdisk-balanced"),
        ("e2=hyperdisk-balanced", "pd-balanced or pd-ssd or pd-standard"),
        ("c3=pd-standard", "pd-balanced or pd-ssd or hyperdisk-balanced"),
        ("q9=pd-extreme", "pd-balanced or pd-ssd or pd-standard or hyperdisk-balanced"),
    ],
)
def test_a_disk_type_that_a_series_does_not_take_is_refused_with_those_that_it_does(
    part: str, fitting: str
) -> None:
    """Compute would refuse each machine of it."""
    series = part.partition("=")[0]
    assert told(HUB_DISK_TYPES=part) == [
        f"HUB_DISK_TYPES has {part!r}; machines of series {series} take {fitting}"
    ]


@pytest.mark.parametrize(
    "part",
    [
        *("e2-standard-4", "e2-standard-4=", "=0.1", "e2=0.1", "e2-standard-4=-1"),
        *("e2-standard-4=.5", "e2-standard-4=$1", "e2-standard-4=1e3", "e2-standard-4=1234567"),
        *("e2-standard-4=0.1234567", "e2-standard-4=\u0661"),
    ],
)
def test_a_price_is_a_number_for_a_machine_type(part: str) -> None:
    """People see it as it is written, so it has no other form."""
    assert told(HUB_MACHINE_PRICES=f"n4-standard-4=0.2,{part}") == [
        f"HUB_MACHINE_PRICES has {part!a}; it must be MACHINE_TYPE=PRICE, like e2-standard-4=0.134"
    ]


def test_prices_are_read_as_they_are_written() -> None:
    """Also those of types that only older workspaces have; a type has one price."""
    read = settings(HUB_MACHINE_PRICES="n4-standard-4=0.20, e2-micro=0", HUB_PRICE_CURRENCY="EUR")
    assert (read.prices.per_hour, read.prices.currency) == (
        {"n4-standard-4": "0.20", "e2-micro": "0"},
        "EUR",
    )
    assert settings().prices.currency == "USD"
    assert told(HUB_MACHINE_PRICES="e2-micro=1,e2-micro=2") == [
        "HUB_MACHINE_PRICES has two prices for e2-micro; it must have one"
    ]
    [wrong] = told(HUB_PRICE_CURRENCY="€")
    assert wrong.startswith("HUB_PRICE_CURRENCY is '\\u20ac'; it must be a currency's code")


def test_a_series_has_one_disk_type() -> None:
    """Twice the same is only said twice."""
    assert told(HUB_DISK_TYPES="e2=pd-ssd,e2=pd-standard") == [
        "HUB_DISK_TYPES has two disk types for e2; it must have one"
    ]
    assert settings(HUB_DISK_TYPES="e2=pd-ssd, e2=pd-ssd,").machine.disk_types == {"e2": "pd-ssd"}


@pytest.mark.parametrize(
    "types",
    ["e2-standard-4,n4-standard-4", "n4-standard-4,n2-standard-2", "t2a-standard-1,c4a-standard-1"],
)
def test_types_that_share_no_disk_are_not_mixed(types: str) -> None:
    """A home keeps its disk type, so a START with the other type could never attach it."""
    [problem] = told(types)
    assert all(repr(name) in problem for name in types.split(","))
    assert "a home keeps its disk" in problem
    assert "HUB_DISK_TYPES" not in problem


def test_types_that_could_share_a_disk_are_told_which() -> None:
    """C3 takes both types: the message has the setting with which C3 and N4 fit together."""
    [problem] = told("c3-standard-4,c3d-standard-4,n4-standard-4")
    assert problem.endswith(
        "HUB_DISK_TYPES=c3=hyperdisk-balanced,c3d=hyperdisk-balanced makes them fit"
    )
    assert settings(
        "c3-standard-4,c3d-standard-4,n4-standard-4",
        HUB_DISK_TYPES="c3=hyperdisk-balanced,c3d=hyperdisk-balanced",
    )


@pytest.mark.parametrize(
    ("types", "disks"),
    [
        ("n4-standard-4,c4-standard-4,n4d-standard-2", ""),
        ("e2-standard-4,c3-standard-4,n2-standard-2", ""),
        ("e2-standard-4,n2-standard-2", "e2=pd-ssd,n2=pd-standard"),
        ("c4a-standard-1,n4a-standard-1", ""),
    ],
)
def test_types_that_take_each_others_disks_are_mixed(types: str, disks: str) -> None:
    """Even where each has a disk type of its own."""
    assert settings(types, HUB_DISK_TYPES=disks).policy.machine_types == tuple(types.split(","))


def test_arm_and_x86_are_not_mixed() -> None:
    """One image repository has one of the two, and homes are full of programs."""
    [problem] = told("n4a-standard-4,n4-standard-4")
    assert problem.startswith(
        "HUB_MACHINE_TYPES has 'n4a-standard-4', which is Arm, and 'n4-standard-4', which is x86;"
    )


@pytest.mark.parametrize(
    ("types", "image"),
    [
        ("e2-standard-4", "cos-stable"),
        ("c4a-standard-4,n4a-standard-2", "cos-arm64-stable"),
        ("t2a-standard-1", "cos-arm64-stable"),
    ],
)
def test_the_default_boot_image_is_for_the_machine_types_processors(types: str, image: str) -> None:
    """Container-Optimized OS has a family for each."""
    assert settings(types).machine.boot_image == f"{COS}/{image}"


@pytest.mark.parametrize(
    ("types", "image", "needed"),
    [("e2-standard-4", "cos-arm64-stable", "X86_64"), ("c4a-standard-4", "cos-121-lts", "ARM64")],
)
def test_a_boot_image_for_other_processors_is_refused(types: str, image: str, needed: str) -> None:
    """As far as its name tells: Google's own."""
    assert told(types, HUB_BOOT_IMAGE=f"{COS}/{image}") == [
        f"HUB_BOOT_IMAGE is '{COS}/{image}'; it must be an image for {needed}, as {types!r} needs"
    ]
    assert settings(types, HUB_BOOT_IMAGE="projects/mine/global/images/family/cos-like")


def test_all_that_is_wrong_with_machine_types_is_told_together() -> None:
    """One deployment finds all of it."""
    problems = told(
        "big,g2-standard-4,q9-standard-4,e2-standard-4,n4a-standard-4", HUB_DISK_TYPES="n4=pd-ssd,x"
    )
    for what in (
        "'big'",
        "'g2-standard-4'",
        "'q9-standard-4'",
        "'n4=pd-ssd'",
        "'x'",
        "which is Arm",
        "a home keeps",
    ):
        assert len([problem for problem in problems if what in problem]) == 1, what
    assert len(problems) == 7


@pytest.mark.parametrize(
    "name",
    [
        *("HUB_ADVANCE_OPERATION_URL", "HUB_REPORT_WORKSPACE_URL", "HUB_IDENTITY_KEYS_URL"),
        *("HUB_IAP_KEYS_URL", "HUB_IMAGE_REPOSITORY", "HUB_CORS_ORIGINS", "HUB_IDENTITY_ISSUERS"),
        "HUB_USER_AUDIENCES",
    ],
)
@pytest.mark.parametrize(
    "value", ["https://user:s3cret@host/x", "user:s3cret@host/x", "https://host/x?token=s3cret"]
)
def test_an_address_with_credentials_is_refused_without_repeating_it(name: str, value: str) -> None:
    """The message is logged, and machines and web pages are told such addresses."""
    assert told(**{name: value}) == [f"{name} holds credentials; it must be an address without any"]


def test_decisions_know_what_machines_are_told() -> None:
    """How often they report, and for how long a keep-awake file counts."""
    read = settings(HUB_HEARTBEAT_SECONDS="30", HUB_KEEP_AWAKE_SECONDS="600")
    assert (
        read.policy.machine_heartbeat_interval
        == read.machine.heartbeat_interval
        == timedelta(seconds=30)
    )
    assert read.policy.keep_awake_most == read.machine.keep_awake_most == timedelta(seconds=600)
    hurried = settings(HUB_IDLE_SECONDS="90")
    assert hurried.policy.machine_heartbeat_interval == timedelta(seconds=30)
