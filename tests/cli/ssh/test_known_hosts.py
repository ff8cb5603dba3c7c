from __future__ import annotations

from pathlib import Path

from workspace_cli.ssh import known_hosts

FIRST = "ssh-ed25519 AAAAfirst"
SECOND = "ssh-ed25519 AAAAsecond"


def lines(file: Path) -> set[str]:
    """Return the lines of a file; none if it is not there."""
    return set(file.read_text().splitlines()) if file.exists() else set()


def test_a_key_that_the_hub_knows_is_the_only_one(tmp_path: Path) -> None:
    """It stands under the machine and under the host, in place of what was learned before."""
    file = tmp_path / "known_hosts"
    file.write_text(f"instance-1 {SECOND}\nworkspace.api {SECOND}\nother {SECOND}\n")
    known_hosts.remember(file, "instance-1", FIRST, host="workspace.API")
    assert lines(file) == {f"instance-1 {FIRST}", f"workspace.api {FIRST}", f"other {SECOND}"}


def test_what_openssh_has_learned_holds_for_this_machine_only(tmp_path: Path) -> None:
    """A host learns its machine's key once, under both names, and forgets it with the machine."""
    file = tmp_path / "known_hosts"
    known_hosts.remember(file, "instance-1", None, host="workspace.api")
    assert lines(file) == set()
    with file.open("a") as opened:  # as OpenSSH does
        opened.write(f"workspace.api {FIRST}\n")
    known_hosts.remember(file, "instance-1", None, host="workspace.api")
    assert lines(file) == {f"instance-1 {FIRST}", f"workspace.api {FIRST}"}
    known_hosts.remember(file, "instance-2", None, host="workspace.api")
    assert lines(file) == {f"instance-1 {FIRST}"}


def test_a_host_that_was_never_seen_inherits_nothing(tmp_path: Path) -> None:
    """A line of unknown origin under a host's name is not taken for the machine's."""
    file = tmp_path / "known_hosts"
    file.write_text(f"workspace.api {FIRST}\n")
    known_hosts.remember(file, "instance-1", None, host="workspace.api")
    assert lines(file) == set()


def test_a_line_whose_host_is_hashed_goes(tmp_path: Path) -> None:
    """Whose it is cannot be read, and OpenSSH would hold it against a host's next machine."""
    file = tmp_path / "known_hosts"
    hashed = f"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {FIRST}"
    file.write_text(f"{hashed}\n")
    known_hosts.remember(file, "instance-2", None, host="workspace.api")
    assert lines(file) == set()


def test_nothing_is_written_when_nothing_changes(tmp_path: Path) -> None:
    """Connections that come often do not replace the file under each other."""
    file = tmp_path / "known_hosts"
    known_hosts.remember(file, "instance-1", FIRST, host="workspace.api")
    before = file.stat().st_ino
    known_hosts.remember(file, "instance-1", FIRST, host="workspace.api")
    assert file.stat().st_ino == before
