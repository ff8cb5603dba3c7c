from __future__ import annotations

from pathlib import Path

from workspace_cli.ssh.in_use import Connected


def test_who_has_started_it_stops_it(tmp_path: Path) -> None:
    """Alone, it is stopped by whoever has started it, once."""
    first = Connected(tmp_path / "x")
    first.mark_started()
    assert first.leave() == "stop"
    assert Connected(tmp_path / "x").leave() == "leave"


def test_the_last_one_stops_it(tmp_path: Path) -> None:
    """Whoever leaves while another one is there leaves it to them."""
    first, second = Connected(tmp_path / "x"), Connected(tmp_path / "x")
    first.mark_started()
    assert first.leave() == "others"
    assert second.leave() == "stop"


def test_what_somebody_has_left_running_is_not_stopped_later(tmp_path: Path) -> None:
    """Who started it and ended without a word has no say over those who come afterwards."""
    first = Connected(tmp_path / "x")
    first.mark_started()
    first.let_go()
    assert Connected(tmp_path / "x").leave() == "leave"
