"""The parts of the command line that need no running cloud."""

from pathlib import Path

import pytest

from localcloud.command_line.main import main
from localcloud.services.compute.faults import FAULTS


@pytest.mark.parametrize(
    "command",
    [
        ["token", "--email", "alice@example.com"],
        ["token", "--email", "alice@example.com", "--admin"],
        ["fault", "stock_out"],
        ["logs"],
        ["reset"],
        ["status"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_without_a_running_cloud_fails_with_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits with 2, and its message says how to start a cloud."""
    assert main([*command, "--state", str(tmp_path / "state.json")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (
        printed.err
        == f"No local cloud is running ({tmp_path}/state.json). Start one with: nox -s local\n"
    )


@pytest.mark.parametrize("override", ["HUB_IDLE_SECONDS", "GOOGLE_CLOUD_PROJECT=x"])
def test_set_accepts_only_settings_of_the_hub(
    override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their names begin with ``HUB_`` and have a value."""
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--set", override])
    assert "is not HUB_NAME=VALUE" in capsys.readouterr().err


def test_an_unknown_setting_is_refused_before_the_cloud_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints one line, exits with 1, and writes no file."""
    state_file = tmp_path / "state.json"
    assert (
        main(["run", "--port", "0", "--set", "HUB_IDEL_SECONDS=5", "--state", str(state_file)]) == 1
    )
    assert capsys.readouterr().err == "The Hub has no setting HUB_IDEL_SECONDS.\n"
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_the_fault_command_describes_each_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It lists the name of each fault with what that fault does."""
    with pytest.raises(SystemExit, match="0"):
        main(["fault", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for fault in FAULTS.values():
        assert f"{fault.name} {fault.does}" in printed
