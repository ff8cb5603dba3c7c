"""The requests that make machines and snapshots: a reviewed copy, and what each setting does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.compute_instance import instance_resource, metadata_items, snapshot_resource
from shared.boot.user_data import user_data
from shared.config import MachineSettings
from shared.domain.instance import CreateSnapshot, InsertInstance, Place, RefreshMetadata
from shared.domain.snapshots import snapshot_place
from tests.fakes.settings import MACHINE_SETTINGS

pytestmark = pytest.mark.xdist_group("machines")  # one worker imports the Compute library

SNAPSHOT = Path(__file__).with_name("instance.json")
RENEW = f"PYTHONPATH=. python {Path(__file__).relative_to(Path(__file__).parents[3])}"
PROJECT = "a-project"
ZONE = "us-west1-a"
WORKSPACE = "0d7b1b3e-3c53-4cf9-8b0c-0f4b1c0a9f11"
OWNER = "108234567890123456789"
REPORTS = "https://report-workspace.example.com"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
INSERT = InsertInstance(
    place=Place(ZONE, f"workspace-{WORKSPACE}"),
    workspace_id=WORKSPACE,
    workspace_name="one",
    owner_id=OWNER,
    machine_type="e2-standard-4",
    image_tag="v2",
    generation=1,
    home_disk=f"home-{WORKSPACE}",
    attach_home=False,
    repo="https://example.com/repo.git",
    branch="main",
)
HOSTILE = {
    "double quotes": '"; touch x; "',
    "single quotes": "'; touch x; '",
    "lines": "one\n - [touch, x]\nruncmd:\n - touch x\n",
    "carriage returns": "one\r\ntwo",
    "a command": "$(touch x)",
    "backticks": "`touch x`",
    "a variable": "${DISK}",
    "a template": "{{ ds.meta_data }}{% raw %}",
    "anchors": "&a *a",
    "a merge": "<<: *a",
    "a mapping": ": {}",
    "a document": "---\n#cloud-config\n...",
    "a tag of YAML": "!!python/object/apply:os.system [touch x]",
    "an option": "--privileged",
    "a control character": "\x00\x1b[2J",
    "beyond ASCII": "größe \u2028 \U0001f600",
    "10 KB": "x'\"$(" * 2000,
}


def resource(settings: MachineSettings = MACHINE_SETTINGS, **changes: Any) -> dict[str, Any]:
    """Return the request as the JSON that is sent. ``changes`` are fields of the command."""
    instance = instance_resource(replace(INSERT, **changes), PROJECT, settings, REPORTS)
    sent: dict[str, Any] = json.loads(
        type(instance).to_json(instance, always_print_fields_with_no_presence=False)
    )
    return sent


def metadata(instance: dict[str, Any]) -> dict[str, str]:
    """Return the machine's metadata; each key occurs once."""
    items = instance["metadata"]["items"]
    told = {item["key"]: item["value"] for item in items}
    assert len(told) == len(items)
    return told


def reviewable(instance: dict[str, Any]) -> str:
    """Return a request as text, without the user-data. The user-data is in ``shared/boot``."""
    for item in instance["metadata"]["items"]:
        if item["key"] == "user-data":
            assert item["value"] == user_data()
            item["value"] = "(user-data)"
    return json.dumps(instance, indent=2, sort_keys=True) + "\n"


def changed(instance: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the members that differ from the usual request, with both values."""
    usual = resource()
    names = usual.keys() | instance.keys()
    return {
        name: (usual.get(name), instance.get(name))
        for name in names
        if usual.get(name) != instance.get(name)
    }


def test_the_request_is_the_reviewed_one() -> None:
    """The snapshot has every member that Compute gets, so that a review sees each change."""
    assert reviewable(resource()) == SNAPSHOT.read_text(), (
        f"If this is how it is to be, write it anew: {RENEW}"
    )


def test_a_machine_has_no_external_address_unless_it_is_configured() -> None:
    """An address costs money, and IAP's tunnel needs none."""
    with_address = resource(replace(MACHINE_SETTINGS, external_address=True))

    [was], [has] = changed(with_address).pop("networkInterfaces")
    assert "accessConfigs" not in was
    assert has == {**was, "accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]}


def test_without_a_subnetwork_compute_chooses() -> None:
    """The member is not sent: Compute refuses an empty string."""
    [interface] = resource(replace(MACHINE_SETTINGS, subnetwork=""))["networkInterfaces"]
    assert interface == {"network": MACHINE_SETTINGS.network}


def test_a_spot_machine_is_stopped_when_it_is_reclaimed() -> None:
    """By default Compute may delete it. A Spot VM can be neither restarted nor migrated."""
    assert changed(resource(replace(MACHINE_SETTINGS, spot=True))) == {
        "scheduling": (
            {"provisioningModel": "STANDARD", "automaticRestart": True},
            {
                "provisioningModel": "SPOT",
                "automaticRestart": False,
                "onHostMaintenance": "TERMINATE",
                "instanceTerminationAction": "STOP",
            },
        )
    }


@pytest.mark.parametrize("spot", [False, True])
def test_a_machine_is_stopped_after_its_configured_run_time(spot: bool) -> None:
    """Compute itself stops it, whatever the Hub does. The home disk and the record stay."""
    scheduling = resource(replace(MACHINE_SETTINGS, most_run=timedelta(hours=10), spot=spot))[
        "scheduling"
    ]

    assert scheduling["maxRunDuration"] == {"seconds": "36000"}
    assert scheduling["instanceTerminationAction"] == "STOP"
    assert scheduling["automaticRestart"] is not spot


def test_a_home_disk_that_exists_is_attached() -> None:
    """It has the same name, and there are no parameters to create it."""
    _, has = changed(resource(attach_home=True)).pop("disks")

    assert has[1] == {
        "autoDelete": False,
        "deviceName": "home",
        "source": f"projects/{PROJECT}/zones/{ZONE}/disks/home-{WORKSPACE}",
    }


@pytest.mark.parametrize(
    ("snapshot_gb", "size"),
    [(None, 50), (10, 50), (50, 50), (200, 200)],
    ids=["unknown", "smaller", "equal", "larger"],
)
def test_a_home_disk_from_a_snapshot_is_as_large_as_it_must_be(
    snapshot_gb: int | None, size: int
) -> None:
    """It has the configured size, or the snapshot's if that is larger. All else is as usual."""
    assert MACHINE_SETTINGS.home_disk_gb == 50
    was, has = changed(resource(home_snapshot="home-snapshot-1", home_gb=snapshot_gb)).pop("disks")

    source = f"projects/{PROJECT}/global/snapshots/home-snapshot-1"
    made = {**was[1]["initializeParams"], "sourceSnapshot": source, "diskSizeGb": str(size)}
    assert has == [was[0], {**was[1], "initializeParams": made}]


def test_a_home_disk_that_exists_is_not_made_from_a_snapshot() -> None:
    """It is attached as it is."""
    attached = resource(attach_home=True)
    assert resource(attach_home=True, home_snapshot="home-snapshot-1", home_gb=200) == attached


def test_a_snapshot_is_a_standard_one_in_its_disks_region_with_the_hubs_labels() -> None:
    """By default Compute takes a multi-region, which an organisation may have forbidden."""
    place = snapshot_place(WORKSPACE, "7f6b8c1e-55d1-4f7c-9a3e-3a1f0c2b4d5e")
    disk = Place("europe-west12-b", f"home-{WORKSPACE}")
    command = CreateSnapshot(place=place, disk=disk, workspace_id=WORKSPACE, owner_id=OWNER)
    snapshot = snapshot_resource(command, PROJECT, MACHINE_SETTINGS)
    assert json.loads(
        type(snapshot).to_json(snapshot, always_print_fields_with_no_presence=False)
    ) == {
        "name": f"home-snapshot-{WORKSPACE}-3a1f0c2b4d5e",
        "sourceDisk": f"projects/{PROJECT}/zones/europe-west12-b/disks/home-{WORKSPACE}",
        "snapshotType": "STANDARD",
        "storageLocations": ["europe-west12"],
        "labels": resource()["labels"],
    }
    assert len(place.name) <= 63


@pytest.mark.parametrize(
    ("machine_type", "chosen", "expected"),
    [
        ("e2-standard-4", {}, "pd-balanced"),
        ("n4-standard-4", {}, "hyperdisk-balanced"),
        ("c4a-custom-2-8192", {}, "hyperdisk-balanced"),
        ("e2-standard-4", {"e2": "pd-ssd"}, "pd-ssd"),
        ("c3-standard-4", {"c3": "hyperdisk-balanced", "e2": "pd-ssd"}, "hyperdisk-balanced"),
    ],
)
def test_both_disks_have_a_type_that_the_machine_supports(
    machine_type: str, chosen: dict[str, str], expected: str
) -> None:
    """It is the default of the machine's series, or the configured type."""
    disks = resource(replace(MACHINE_SETTINGS, disk_types=chosen), machine_type=machine_type)[
        "disks"
    ]
    assert [disk["initializeParams"]["diskType"] for disk in disks] == [
        f"zones/{ZONE}/diskTypes/{expected}"
    ] * 2


@pytest.mark.parametrize("attach_home", [False, True])
@pytest.mark.parametrize(
    "settings",
    [MACHINE_SETTINGS, replace(MACHINE_SETTINGS, spot=True, most_run=timedelta(hours=1))],
)
def test_the_home_disk_outlives_the_machine(settings: MachineSettings, attach_home: bool) -> None:
    """The request says so for a new and for an attached disk.

    The boot disk is deleted with the machine.
    """
    boot, home = resource(settings, attach_home=attach_home)["disks"]

    assert (boot["boot"], boot["autoDelete"]) == (True, True)
    assert home["autoDelete"] is False
    assert "boot" not in home


@pytest.mark.parametrize(("tag", "separator"), [("v2", ":"), ("sha-1234", ":"), (DIGEST, "@")])
def test_an_image_is_named_by_tag_or_by_digest(tag: str, separator: str) -> None:
    """A digest follows ``@``: after ``:`` it would not be found."""
    assert (
        metadata(resource(image_tag=tag))["hub-image"]
        == f"{MACHINE_SETTINGS.image_repository}{separator}{tag}"
    )


def test_times_are_whole_seconds_and_at_least_one() -> None:
    """Bash knows no fractions, and zero would mean for ever or at once."""
    quick = replace(
        MACHINE_SETTINGS, health_within=timedelta(), heartbeat_interval=timedelta(seconds=0.2)
    )
    told = metadata(resource(replace(quick, keep_awake_most=timedelta(seconds=90.7))))

    assert [told[f"hub-{name}-seconds"] for name in ("health", "heartbeat", "keep-awake")] == [
        "1",
        "1",
        "91",
    ]


def test_a_container_reaches_the_metadata_server_only_if_configured() -> None:
    """The boot scripts compare with these words."""
    lenient = replace(MACHINE_SETTINGS, container_metadata=True)
    assert [
        metadata(each)["hub-container-metadata"] for each in (resource(), resource(lenient))
    ] == ["false", "true"]


def test_a_container_has_the_configured_limits() -> None:
    """An unlimited number of processes is 0, to Docker too."""
    told = metadata(
        resource(replace(MACHINE_SETTINGS, container_shared_memory_mb=64, container_processes=0))
    )
    assert (told["hub-container-shared-memory-mb"], told["hub-container-processes"]) == ("64", "0")


def test_labels_have_no_personal_data() -> None:
    """A reader of the bill learns that two machines have the same owner, but not who it is."""
    mine, also_mine, theirs = (
        resource(owner_id=owner) for owner in (OWNER, OWNER, "bob@example.com")
    )

    assert mine["labels"]["owner"] == also_mine["labels"]["owner"] != theirs["labels"]["owner"]
    for instance, owner in ((mine, OWNER), (theirs, "bob")):
        assert owner not in json.dumps(instance)
        assert instance["labels"].keys() == {"managed-by", "hub", "workspace", "owner"}
        for disk in instance["disks"]:
            assert disk["initializeParams"]["labels"] == instance["labels"]


def test_a_boot_disk_never_has_the_name_of_an_earlier_one() -> None:
    """Each generation has its own name: a remaining boot disk would block the next machine."""
    names = {
        resource(generation=generation)["disks"][0]["initializeParams"]["diskName"]
        for generation in (1, 2, 30)
    }

    assert names == {f"workspace-{WORKSPACE}-{generation}" for generation in (1, 2, 30)}
    assert max(map(len, names)) <= 63


def test_a_refreshed_machine_gets_the_metadata_of_a_new_one() -> None:
    """All items are the same, so a machine of an older configuration boots with today's."""
    refresh = RefreshMetadata(
        place=INSERT.place,
        workspace_id=WORKSPACE,
        workspace_name="one",
        image_tag="v2",
        generation=1,
        repo=INSERT.repo,
        branch=INSERT.branch,
    )

    assert metadata_items(refresh, MACHINE_SETTINGS, REPORTS) == metadata(resource())


def test_a_missing_value_is_an_empty_attribute() -> None:
    """An attribute that does not exist would be an error for the scripts."""
    told = metadata(resource(repo=None, branch=None))
    assert (told["hub-repo"], told["hub-branch"]) == ("", "")


def test_the_metadata_has_no_secret() -> None:
    """Everybody who may view machines can read it, and so can any program on the machine."""
    told = metadata(resource())
    speaking = {
        key
        for key in told
        for word in ("token", "secret", "password", "key", "credential", "owner")
        if word in key
    }

    assert speaking == {"block-project-ssh-keys"}
    assert OWNER not in "".join(told.values())
    assert "PRIVATE KEY" not in "".join(told.values())


@pytest.mark.parametrize("what", HOSTILE)
def test_text_that_a_person_wrote_stays_data(what: str) -> None:
    """It is the unchanged value of its own attribute, and occurs nowhere else in the request."""
    text = HOSTILE[what]
    usual = metadata(resource())

    instance = resource(workspace_name=text, repo=text, branch=text, image_tag=text)

    assert changed(instance).keys() == {"metadata"}
    assert metadata(instance) == {
        **usual,
        "hub-workspace-name": text,
        "hub-repo": text,
        "hub-branch": text,
        "hub-image": f"{MACHINE_SETTINGS.image_repository}:{text}",
    }
    assert (
        metadata(instance)["user-data"].encode()
        == usual["user-data"].encode()
        == user_data().encode()
    )


if __name__ == "__main__":
    SNAPSHOT.write_text(reviewable(resource()))
