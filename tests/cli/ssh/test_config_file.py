from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace_cli.ssh import config_file
from workspace_cli.ssh.way import Files

FILE = Path("/home/ann/.ssh/workspace-hub.config")
BLOCK = config_file.block(
    Files(Path("/home/ann/.config/workspace-hub/ssh/team")),
    ["/home/ann/my programs/workspace", "connect", "--hub", "team", "--"],
    "ann_example_com",
    ["api", "web", "-bad;name"],
)
LINES = st.lists(
    st.sampled_from(
        [b"Host a\n", b"\n", b"# x\n", b"  User b\r\n", b"\xff\xfe\n", b"Match all\n",
         b"Include other\n", b'Include="' + bytes(FILE.parent) + b'/x"\n', b"last"]
    )
)  # fmt: skip
CONTENTS = st.one_of(LINES.map(b"".join), st.binary(max_size=200))


def effective(folder: Path, host: str, content: bytes = b"") -> dict[str, str]:
    """Return what OpenSSH makes of the block, included from a configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    main, included = folder / "config", folder / "workspace-hub.config"
    included.write_bytes(BLOCK)
    main.write_bytes(config_file.with_include(content, included))
    done = subprocess.run(
        ["ssh", "-G", "-F", main, host], capture_output=True, text=True, check=True
    )
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


@given(CONTENTS)
def test_what_was_put_in_is_taken_out_again(content: bytes) -> None:
    """After an installation and a removal, a configuration is what it was, byte by byte."""
    once = config_file.with_include(content, FILE)
    assert config_file.without_include(once, FILE) == content
    assert config_file.with_include(once, FILE) == once


@given(CONTENTS)
def test_the_block_is_replaced_and_nothing_else(content: bytes) -> None:
    """What a person writes before and after the block stays."""
    before = content if not content or content.endswith(b"\n") else content + b"\n"
    once = config_file.with_block(before, BLOCK) + b"# mine\n"
    again = config_file.with_block(once, BLOCK.replace(b"workspace.web ", b""))
    assert again == before + BLOCK.replace(b"workspace.web ", b"") + b"# mine\n"
    assert config_file.without_block(again) == before + b"# mine\n"


def test_an_include_behind_a_host_is_moved_to_the_top() -> None:
    """There it would hold for that host only."""
    behind = b"Host a\n  User b\nInclude ~/.ssh/workspace-hub.config\n"
    assert config_file.with_include(behind, FILE).endswith(b"\n\nHost a\n  User b\n")
    before = b"# mine\nInclude workspace-hub.config\nHost a\n"
    assert config_file.with_include(before, FILE) == before


def test_line_ends_stay_what_they_are() -> None:
    """A file of Windows's line ends gets no other ones."""
    assert b"\n" not in config_file.with_include(b"Host a\r\n", FILE).replace(b"\r\n", b"")


def test_openssh_takes_the_block(tmp_path: Path) -> None:
    """What a person says of all hosts does not change how workspaces are reached."""
    folder = tmp_path / "it's a home, 50% of it"
    content = (
        b"Host *\n  ControlMaster auto\n  ControlPath ~/.ssh/%r@%h:%p\n  User bob\n"
        b"  ProxyCommand none\n  IdentityFile ~/.ssh/other\n  StrictHostKeyChecking no\n"
        b"  Port 2222\n  HostName other\n  HashKnownHosts yes\n  VerifyHostKeyDNS yes\n"
        b"  CanonicalizeHostname always\n  ProxyUseFdpass yes\n  ProxyJump bastion\n"
    )
    said = effective(folder, "workspace.new", content)
    assert said["user"] == "ann_example_com"
    assert said["controlmaster"] == "false"
    assert "controlpath" not in said
    assert said["stricthostkeychecking"] == "accept-new"
    assert said["identitiesonly"] == "yes"
    assert (said["hostname"], said["port"]) == ("workspace.new", "22")
    assert "proxyjump" not in said
    for name in ("hashknownhosts", "verifyhostkeydns", "canonicalizehostname", "proxyusefdpass"):
        assert said[name] in {"no", "false"}, name
    assert said["proxycommand"] == (
        "\"/home/ann/my programs/workspace\" connect --hub team -- 'workspace.new'"
    ).replace("'workspace.new'", "'%n'")
    assert effective(folder, "elsewhere.example.com", content)["user"] == "bob"


def test_editors_find_the_names_that_a_hub_allows() -> None:
    """Each workspace is a host of its own in the list; what is no name does not get there."""
    [hosts] = [line for line in BLOCK.decode().splitlines() if line.startswith("Host ")]
    assert hosts.split()[1:4] == ["workspace.api", "workspace.web", "workspace.*"]
    assert "bad" not in hosts


def test_a_host_with_a_quote_is_none_of_ours(tmp_path: Path) -> None:
    """OpenSSH before 9.6 would give it to a shell, where it would end the quotes."""
    config = tmp_path / "config"
    config.write_bytes(BLOCK)
    done = subprocess.run(
        ["ssh", "-G", "-F", config, "-o", "HostName=x", "workspace.a'b"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "connect" not in done.stdout


@pytest.mark.parametrize("name", ["Include", "include", "INCLUDE ="])
def test_an_include_is_known_in_every_spelling(name: str) -> None:
    """Keywords have no case, and may have an equals sign."""
    content = f'{name} "{FILE}"\nHost a\n'.encode()
    assert config_file.with_include(content, FILE) == content
    assert config_file.without_include(content, FILE) == b"Host a\n"
