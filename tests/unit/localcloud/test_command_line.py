"""The command line, as far as it needs no cloud."""

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
def test_a_command_without_a_cloud_says_so_in_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2."""
    assert main([*command, "--state", str(tmp_path / "state.json")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (
        printed.err
        == f"No local cloud is running ({tmp_path}/state.json). Start one with: nox -s local\n"
    )


@pytest.mark.parametrize("override", ["HUB_IDLE_SECONDS", "GOOGLE_CLOUD_PROJECT=x"])
def test_only_settings_of_the_hub_can_be_set(
    override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anything else is a mistake of whoever types."""
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--set", override])
    assert "is not HUB_NAME=VALUE" in capsys.readouterr().err


def test_a_setting_that_the_hub_does_not_have_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 1."""
    state_file = tmp_path / "state.json"
    assert (
        main(["run", "--port", "0", "--set", "HUB_IDEL_SECONDS=5", "--state", str(state_file)]) == 1
    )
    assert capsys.readouterr().err == "The Hub has no setting HUB_IDEL_SECONDS.\n"
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_fault_says_what_each_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to know the names, or what they mean, from elsewhere."""
    with pytest.raises(SystemExit, match="0"):
        main(["fault", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for fault in FAULTS.values():
        assert f"{fault.name} {fault.does}" in printed
