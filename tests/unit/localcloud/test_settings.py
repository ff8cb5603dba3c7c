"""The environment that the local cloud gives to the functions."""

from dataclasses import fields

import pytest

from localcloud.services.compute.times import TIMES
from localcloud.settings import Addresses, LocalSettings, environment
from shared.config import ConfigurationError, read_settings

ADDRESSES = Addresses(
    gateway="http://127.0.0.1:1",
    firestore="127.0.0.1:2",
    pubsub="127.0.0.1:3",
    tasks="127.0.0.1:4",
    compute="127.0.0.1:5",
    keys="http://127.0.0.1:6/keys",
    advance_operation="http://127.0.0.1:7",
    report_workspace="http://127.0.0.1:8",
)


def test_the_environment_is_a_complete_configuration() -> None:
    """The Hub's own settings reader accepts it, and every service has its local address."""
    settings = read_settings(environment(LocalSettings(), ADDRESSES))
    assert settings.emulators.firestore == "127.0.0.1:2"
    assert settings.emulators.pubsub == "127.0.0.1:3"
    assert settings.emulators.tasks == "127.0.0.1:4"
    assert settings.emulators.compute == "127.0.0.1:5"
    assert settings.advance_operation_url == "http://127.0.0.1:7/operations"
    assert settings.report_workspace_url == "http://127.0.0.1:8"
    assert settings.identity.user_audiences == ("http://127.0.0.1:1",)
    assert settings.identity.keys_url == "http://127.0.0.1:6/keys"


def test_a_setting_can_be_overridden() -> None:
    """The override takes precedence over the local cloud's own value."""
    settings = read_settings(
        environment(LocalSettings(overrides={"HUB_LOOK_MAX_SECONDS": "7"}), ADDRESSES)
    )
    assert settings.policy.look_max.total_seconds() == 7


@pytest.mark.parametrize("times", TIMES)
def test_the_hub_lets_people_take_snapshots_as_often_as_the_local_compute(times: str) -> None:
    """Who is let by the Hub is not refused by Compute."""
    policy = read_settings(environment(LocalSettings(times=times), ADDRESSES)).policy
    assert policy.snapshot_pause.total_seconds() == TIMES[times].snapshot_pause


@pytest.mark.parametrize("times", TIMES)
def test_the_hub_first_looks_when_the_local_compute_is_done(times: str) -> None:
    """A person who watches waits no longer, and the Hub asks no more often, than it has to."""
    usual = read_settings(environment(LocalSettings(times=times), ADDRESSES)).policy.usual
    takes = TIMES[times]
    assert {work.name: getattr(usual, work.name).total_seconds() for work in fields(usual)} == {
        "insert": takes.insert,
        "set_metadata": takes.set_metadata,
        "start": takes.start,
        "resume": takes.resume,
        "suspend": takes.suspend,
        "stop": takes.stop,
        "delete": takes.delete,
        "delete_disk": takes.disk_delete,
        "resize_disk": takes.disk_insert,
        "snapshot": takes.snapshot_capture,
        "boot": 2 * takes.boot,
    }


@pytest.mark.parametrize(("chosen", "seconds"), [(None, 120), (7, 7)])
def test_the_heartbeat_interval_is_a_setting_of_the_hub(chosen: int | None, seconds: int) -> None:
    """Machines read it from their metadata; without a value it is the Hub's default."""
    settings = read_settings(environment(LocalSettings(heartbeat_seconds=chosen), ADDRESSES))
    assert settings.machine.heartbeat_interval.total_seconds() == seconds


def test_personal_mode_needs_only_one_setting() -> None:
    """That mode has no administrators, so the local cloud names none."""
    settings = read_settings(
        environment(LocalSettings(overrides={"HUB_MODE": "personal"}), ADDRESSES)
    )
    assert (settings.access.admins, settings.access.outside_admins) == ((), ())


@pytest.mark.parametrize(
    "override", [{"HUB_IDEL_SECONDS": "5"}, {"HUB_IDLE_SECONDS": "soon"}], ids=["unknown", "wrong"]
)
def test_an_override_with_an_unknown_name_or_invalid_value_is_refused(
    override: dict[str, str],
) -> None:
    """A misspelt name is not silently ignored."""
    with pytest.raises(ConfigurationError, match=next(iter(override))):
        environment(LocalSettings(overrides=override), ADDRESSES)
