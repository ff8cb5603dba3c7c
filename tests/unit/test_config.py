"""Settings: read once, checked together, and everything that is wrong told at once."""

from datetime import timedelta

import pytest

from shared.config import (
    EMULATORS,
    GOOGLE_ISSUERS,
    GOOGLE_KEYS_URL,
    ConfigurationError,
    read_settings,
)
from shared.domain.policy import Limits, Policy, UsualTimes
from tests.fakes.settings import REQUIRED_SETTINGS

SERVED = {"HUB_ALLOWED_EMAILS": "*"}


def problems(**changes: str) -> str:
    """Return what is wrong with the settings after these changes."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings(REQUIRED_SETTINGS | SERVED | changes)
    return str(refused.value)


def test_what_is_needed_is_enough() -> None:
    """Everything else has the default of the contract, and Google's own addresses."""
    audiences = {"HUB_USER_AUDIENCES": "https://hub.example.com, 1234.apps.googleusercontent.com"}
    settings = read_settings(REQUIRED_SETTINGS | SERVED | audiences)

    assert settings.policy == Policy(project_id=settings.project_id)
    assert (settings.database, settings.provision_topic) == ("(default)", "workspace-provision")
    assert settings.operations_queue == "workspace-operations"
    assert settings.sweeps_queue == "workspace-sweeps"
    assert (settings.identity.keys_url, settings.identity.issuers) == (
        GOOGLE_KEYS_URL,
        GOOGLE_ISSUERS,
    )
    assert settings.identity.user_audiences == (
        "https://hub.example.com",
        "1234.apps.googleusercontent.com",
    )
    assert (
        settings.identity.machine_audience
        == settings.report_workspace_url
        == "https://report.example.com"
    )
    assert (settings.machine.subnetwork, settings.machine.external_address) == ("", False)
    assert settings.emulators == type(settings.emulators)(None, None, None, None)


def test_all_that_is_missing_is_told_together() -> None:
    """One deployment finds all of it."""
    with pytest.raises(ConfigurationError) as refused:
        read_settings(SERVED)

    assert {line.strip() for line in str(refused.value).splitlines()[1:]} == {
        f"{name} is not set" for name in REQUIRED_SETTINGS
    }


@pytest.mark.parametrize("name", REQUIRED_SETTINGS)
def test_blank_is_missing(name: str) -> None:
    """A setting that is only spaces is not one."""
    assert f"{name} is not set" in problems(**{name: "  "})


WRONG = {
    "HUB_BOOT_DISK_GB": ("9", "at least 10"),
    "HUB_HOME_DISK_GB": ("many", "whole number"),
    "HUB_WORKSPACES_PER_OWNER": ("-1", "whole number"),
    "HUB_SNAPSHOTS_PER_WORKSPACE": ("-1", "whole number"),
    "HUB_SNAPSHOT_PAUSE_SECONDS": ("10m", "number of seconds"),
    "HUB_IDLE_SECONDS": ("1h", "number of seconds"),
    "HUB_RETENTION_SECONDS": ("-5", "number of seconds"),
    "HUB_MAX_MACHINE_AGE": ("30 days", "number of seconds"),
    "HUB_CREATE_DEADLINE_SECONDS": ("soon", "number of seconds"),
    "HUB_USUAL_SECONDS": ("insert=5,nap=3", "WORK=SECONDS"),
    "HUB_CONNECT": ("ssh", "one of iap, direct"),
    "HUB_CONNECT_PORT": ("65536", "from 1 to 65535"),
    "HUB_CONNECT_JUMP": ("-oProxyCommand=sh", "user@host:port"),
    "HUB_CONNECT_USER": ("-l", "a Linux user name"),
    "HUB_OAUTH_CLIENT_ID": ("a client", "an OAuth client's id"),
    "HUB_OAUTH_CLIENT_SECRET": ("a secret", "has another form"),
    "HUB_EXTERNAL_ADDRESS": ("yes", "true or false"),
    "HUB_CONTAINER_METADATA": ("on", "true or false"),
    "HUB_CONTAINER_SHARED_MEMORY_MB": ("0", "at least 1"),
    "HUB_CONTAINER_PROCESSES": ("many", "whole number"),
    "HUB_LOG_LEVEL": ("LOUD", "one of"),
    "HUB_ZONES": (" , ", "HUB_ZONES"),
    "HUB_DEFAULT_MACHINE_TYPE": ("m1-ultramem-160", "not one of HUB_MACHINE_TYPES"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named_with_what_it_should_be(name: str) -> None:
    """Whoever deploys can correct it from the message."""
    value, should_be = WRONG[name]
    told = problems(**{name: value})

    assert name in told
    assert should_be in told


def test_all_that_is_wrong_and_missing_is_told_together() -> None:
    """Wrong values do not hide each other."""
    told = problems(HUB_REGION="", **{name: value for name, (value, _) in WRONG.items()})

    assert all(name in told for name in [*WRONG, "HUB_REGION"])


@pytest.mark.parametrize("name", EMULATORS)
def test_an_emulator_is_refused_on_cloud_run(name: str) -> None:
    """No deployed function can be pointed at a fake cloud by mistake."""
    told = problems(**{name: "127.0.0.1:8080", "K_SERVICE": "create-workspace"})

    assert told.splitlines()[1:] == [f"  {name} must not be set on Cloud Run"]


def test_emulators_are_used_elsewhere() -> None:
    """Each setting is its own server."""
    hosts = {name: f"127.0.0.1:{port}" for port, name in enumerate(EMULATORS, 9000)}
    emulators = read_settings(REQUIRED_SETTINGS | SERVED | hosts).emulators

    assert (emulators.firestore, emulators.pubsub, emulators.tasks, emulators.compute) == tuple(
        hosts.values()
    )


def test_zero_switches_a_sweep_off() -> None:
    """A value of 0 turns the idle stop, the deletion, its last copies, or the renewal off."""
    off = {"HUB_IDLE_SECONDS": "0", "HUB_RETENTION_SECONDS": "0.0", "HUB_MAX_MACHINE_AGE": "0"}
    policy = read_settings(REQUIRED_SETTINGS | SERVED | off | {"HUB_UNDELETE_SECONDS": "0"}).policy

    assert (policy.idle_after, policy.retention, policy.max_machine_age) == (None, None, None)
    assert (policy.undelete_for, policy.archive_after) == (None, None)


DAY = 86400


@pytest.mark.parametrize(
    ("archive", "retention", "wrong"),
    [
        (14 * DAY, 30 * DAY, False),
        (14 * DAY, 0, False),
        (0, DAY, False),
        (30 * DAY, 30 * DAY, True),
        (60 * DAY, 30 * DAY, True),
        (DAY, 3 * DAY, True),
        (DAY, 3 * DAY + 1, False),
    ],
)
def test_what_would_be_deleted_before_it_is_archived_is_a_contradiction(
    archive: int, retention: int, wrong: bool
) -> None:
    """An archive is announced three days before, so it never comes sooner."""
    times = {"HUB_ARCHIVE_SECONDS": str(archive), "HUB_RETENTION_SECONDS": str(retention)}
    if not wrong:
        assert read_settings(REQUIRED_SETTINGS | SERVED | times).policy.archive_notice
        return
    with pytest.raises(ConfigurationError, match="must be below HUB_RETENTION_SECONDS"):
        read_settings(REQUIRED_SETTINGS | SERVED | times)


@pytest.mark.parametrize(
    ("sizes", "wrong"),
    [
        ({"HUB_HOME_DISK_GB": "100", "HUB_HOME_DISK_MAX_GB": "100"}, None),
        ({"HUB_HOME_DISK_GB": "101", "HUB_HOME_DISK_MAX_GB": "100"}, (101, 100)),
        ({"HUB_HOME_DISK_GB": "501"}, (501, 500)),
        ({"HUB_HOME_DISK_MAX_GB": "49"}, (50, 49)),
    ],
)
def test_a_new_home_is_not_larger_than_a_home_may_become(
    sizes: dict[str, str], wrong: tuple[int, int] | None
) -> None:
    """One of the two may have its default."""
    if wrong is None:
        assert read_settings(REQUIRED_SETTINGS | SERVED | sizes).machine.home_disk_gb == 100
        return
    said = "HUB_HOME_DISK_GB is {}, and must be at most HUB_HOME_DISK_MAX_GB, which is {}"
    with pytest.raises(ConfigurationError, match=said.format(*wrong)):
        read_settings(REQUIRED_SETTINGS | SERVED | sizes)


def test_every_setting_arrives_where_it_is_used() -> None:
    """A changed setting changes exactly its own value."""
    policy = read_settings(
        REQUIRED_SETTINGS
        | SERVED
        | {
            "HUB_ZONES": "europe-west1-b,europe-west1-c",
            "HUB_MACHINE_TYPES": "n2-standard-2",
            "HUB_DEFAULT_MACHINE_TYPE": "n2-standard-2",
            "HUB_DEFAULT_IMAGE_TAG": "v7",
            "HUB_WORKSPACES_PER_OWNER": "2",
            "HUB_RUNNING_PER_OWNER": "1",
            "HUB_SNAPSHOTS_PER_WORKSPACE": "0",
            "HUB_SNAPSHOT_PAUSE_SECONDS": "0",
            "HUB_DELETED_PER_OWNER": "3",
            "HUB_HOME_DISK_GB": "60",
            "HUB_HOME_DISK_MAX_GB": "70",
            "HUB_ARCHIVE_SECONDS": "604800",
            "HUB_ARCHIVES_PER_RUN": "4",
            "HUB_UNDELETE_SECONDS": "20",
            "HUB_IDLE_SECONDS": "1.5",
            "HUB_RETENTION_SECONDS": "604801",
            "HUB_MAX_MACHINE_AGE": "86400",
            "HUB_CREATE_DEADLINE_SECONDS": "11",
            "HUB_START_DEADLINE_SECONDS": "12",
            "HUB_STOP_DEADLINE_SECONDS": "13",
            "HUB_DELETE_DEADLINE_SECONDS": "14",
            "HUB_SNAPSHOT_DEADLINE_SECONDS": "15",
            "HUB_RESTORE_DEADLINE_SECONDS": "16",
            "HUB_ARCHIVE_DEADLINE_SECONDS": "17",
            "HUB_USUAL_SECONDS": "insert=5, boot=2.5",
            "HUB_LOOK_MIN_SECONDS": "0.1",
            "HUB_LOOK_MAX_SECONDS": "2",
            "HUB_ATTEND_SECONDS": "3",
            "HUB_WORKER_TIMEOUT_SECONDS": "4",
        }
    ).policy

    assert policy.zones == ("europe-west1-b", "europe-west1-c")
    assert (policy.machine_types, policy.default_machine_type) == (
        ("n2-standard-2",),
        "n2-standard-2",
    )
    assert (policy.default_image_tag, policy.limits) == ("v7", Limits(workspaces=2, running=1))
    assert (policy.idle_after, policy.retention) == (
        timedelta(seconds=1.5),
        timedelta(seconds=604801),
    )
    assert policy.max_machine_age == timedelta(days=1)
    deadlines = policy.deadlines
    times = [
        *(deadlines.create, deadlines.start, deadlines.stop, deadlines.delete),
        *(deadlines.snapshot, deadlines.restore, deadlines.archive),
    ]
    assert [time.total_seconds() for time in times] == [11, 12, 13, 14, 15, 16, 17]
    assert (policy.snapshots_per_workspace, policy.snapshot_pause) == (0, timedelta(0))
    assert (policy.home_disk_gb, policy.home_disk_max_gb) == (60, 70)
    assert (policy.archive_after, policy.archives_per_run) == (timedelta(days=7), 4)
    assert (policy.undelete_for, policy.deleted_per_owner) == (timedelta(seconds=20), 3)
    assert policy.usual == UsualTimes(insert=timedelta(seconds=5), boot=timedelta(seconds=2.5))
    assert (policy.look_min, policy.look_max) == (timedelta(milliseconds=100), timedelta(seconds=2))
    assert (policy.attend_after, policy.worker_timeout) == (
        timedelta(seconds=3),
        timedelta(seconds=4),
    )


def test_who_is_connected_is_known_well_before_the_machine_counts_as_idle() -> None:
    """Machines report, and reports are written, three times within the shortest idle time."""
    settings = read_settings(REQUIRED_SETTINGS | SERVED | {"HUB_IDLE_SECONDS": "90"})
    assert (
        settings.machine.heartbeat_interval
        == settings.policy.heartbeat_write_interval
        == timedelta(seconds=30)
    )
    never = read_settings(REQUIRED_SETTINGS | SERVED | {"HUB_IDLE_SECONDS": "0"})
    assert never.machine.heartbeat_interval == timedelta(minutes=2)


def test_a_containers_health_is_known_before_its_start_is_overdue() -> None:
    """Or nobody would be told that it was the health."""
    settings = read_settings(REQUIRED_SETTINGS | SERVED | {"HUB_HEALTH_SECONDS": "900"})
    assert settings.machine.health_within == timedelta(minutes=5)


@pytest.mark.parametrize("seconds", ["29", "10368001"])
def test_a_run_time_that_compute_refuses_is_refused_first(seconds: str) -> None:
    """Or no machine could be made, and only its owner would see why."""
    assert "HUB_MAX_RUN_SECONDS" in problems(HUB_MAX_RUN_SECONDS=seconds)
