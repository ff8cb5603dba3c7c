"""The files of `images/workspace/`: their form, what they pin, and whose packages they trust."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.boot.test_user_data import needed, told
from tests.guests.workspace_image import IMAGE, files, instructions

INSTALL = IMAGE / "install.sh"
SCRIPTS = [
    path for path in files() if path.suffix == ".sh" or path.read_bytes().startswith(b"#!/bin/")
]


def test_shellcheck_finds_nothing_in_the_image() -> None:
    """It checks the install script and all that runs in the container."""
    assert len(SCRIPTS) >= 6
    told(needed("shellcheck", "shellcheck"), *SCRIPTS)


def values(name: str) -> list[str]:
    """Return what stands behind each instruction of this name."""
    return [each.rest for each in instructions() if each.name == name]


def test_the_dockerfile_says_what_it_starts_from_and_who_it_runs_as() -> None:
    """One release of Debian, no moving "latest"; UID 1000 and not root; no shell around PID 1."""
    [image] = values("FROM")
    assert re.fullmatch(r"debian:[a-z]+-slim", image)
    assert values("USER") == ["1000:1000"]
    assert values("ADD") == []
    for name in ("ENTRYPOINT", "CMD"):
        [value] = values(name)
        assert all(isinstance(word, str) for word in json.loads(value))
    [check] = values("HEALTHCHECK")
    assert "CMD [" in check


def test_everything_is_installed_by_the_one_script() -> None:
    """The Dockerfile itself fetches nothing, and is given no secret."""
    install = "bash /opt/workspace-image/install.sh"
    assert values("RUN") == [install, f"{install} files"]
    assert {value.partition("=")[0] for value in values("ARG")} == {"GH_SOURCE", "NODE_SOURCE"}
    given = " ".join(values("ARG") + values("ENV"))
    assert not re.search(r"(?i)token|secret|password|api_?key", given)


def test_nothing_that_is_downloaded_is_run_unchecked() -> None:
    """No pipe into a shell, no plain http, no check of signatures or certificates switched off."""
    code = "".join(re.sub(r"(?m)^\s*#.*$", "", path.read_text()) for path in SCRIPTS)
    forbidden = (
        r"\|\s*(?:sudo\s+)?(?:ba)?sh\b",
        r"http://",
        r"--insecure|\bcurl\s.*\s-\w*k\b",
        r"allow-unauthenticated|AllowUnauthenticated|trusted=yes|apt-key",
        r"npm (?:install|i)\b|@latest",
        r"\bsudo\b",
    )
    assert [pattern for pattern in forbidden if re.search(pattern, code)] == []
    assert "--no-install-recommends" in code
    assert "npm ci" in code
    assert "--ignore-scripts" in code


def test_every_npm_package_is_pinned_with_its_hash() -> None:
    """The lock names one version of each, and what is asked for is that version."""
    folder = IMAGE / "gemini-cli"
    asked = json.loads((folder / "package.json").read_text())["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert locked.pop("")["dependencies"] == asked
    assert asked == {
        name: locked[f"node_modules/{name}"]["version"] for name in ("@google/gemini-cli",)
    }
    assert all(one["integrity"].startswith("sha512-") for one in locked.values())
    # No address: whoever builds may use a mirror.
    assert not any("resolved" in one for one in locked.values())


def test_the_known_hosts_are_those_that_the_services_publish() -> None:
    """The fingerprints are from the services' own pages."""
    known = IMAGE / "root/etc/ssh/ssh_known_hosts"
    said = told(needed("ssh-keygen", "openssh-client"), "-l", "-f", known)
    assert dict(re.findall(r"(SHA256:\S+) (\S+)", said)) == {
        "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU": "github.com",
        "SHA256:eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8": "gitlab.com",
        "SHA256:ybgmFkzwOSotHTHLJgHO0QN8L0xErw6vd0VhFA9m3SM": "bitbucket.org",
    }


def test_cloud_build_makes_and_pushes_the_one_image() -> None:
    """It does so as the account and to the address that Terraform's command gives it."""
    build = yaml.safe_load((IMAGE / "cloudbuild.yaml").read_text())
    [step] = build["steps"]
    assert step["args"] == ["build", "--pull", "--tag", "$_IMAGE", "."]
    assert build["images"] == ["$_IMAGE"]
    assert build["options"] == {"logging": "CLOUD_LOGGING_ONLY"}
    assert "serviceAccount" not in build


@pytest.fixture
def gpg_home() -> Iterator[str]:
    """An empty home for gpg, with a short path.

    Pytest's own folders have too long a path for gpg's socket when tests run in several workers.
    """
    with tempfile.TemporaryDirectory() as home:
        yield home
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


@pytest.fixture
def keyring(gpg_home: str, tmp_path: Path) -> tuple[Path, list[str]]:
    """A keyring as a repository offers it, and the fingerprints of the two keys in it."""
    gpg = needed("gpg", "gpg gpg-agent")
    run = (gpg, "--homedir", gpg_home, "--batch", "--quiet")
    for name in ("theirs", "another"):
        told(*run, "--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never")
    listed = told(*run, "--with-colons", "--list-keys")
    subprocess.run([*run, "--output", str(tmp_path / "offered"), "--export"], check=True)
    return tmp_path / "offered", re.findall(r"^fpr:+([0-9A-F]{40}):", listed, re.MULTILINE)


def trust(offered: Path, fingerprint: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Call the install script's ``add_repository``; its curl gets the keyring that is offered."""
    fakes = folder / "fakes"
    fakes.mkdir()
    (fakes / "curl").write_text(f'#!/bin/bash\ncp {offered} "${{@: -2:1}}"\n')
    (fakes / "curl").chmod(0o755)
    call = f"add_repository one https://example.com/packages stable https://x {fingerprint}"
    with tempfile.TemporaryDirectory() as temporary:
        done = subprocess.run(
            ["/bin/bash", "-c", f"set -euo pipefail; . {INSTALL}; {call}"],
            env={
                "PATH": f"{fakes}:/usr/bin:/bin",
                "TMPDIR": temporary,
                "KEYRINGS": str(folder / "keyrings"),
                "SOURCES": str(folder / "sources"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert list(Path(temporary).iterdir()) == []
        assert agents_below(temporary) == []
    return done


def agents_below(folder: str) -> list[str]:
    """Return the command lines of gpg's processes whose home is in a folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            lines.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if line.startswith("gpg") and folder in line]


def test_a_repository_is_trusted_by_one_key_only(
    keyring: tuple[Path, list[str]], gpg_home: str, tmp_path: Path
) -> None:
    """Other keys in the same file are not trusted, and the source names the file of that key."""
    offered, [theirs, another] = keyring
    done = trust(offered, theirs, tmp_path)
    assert done.returncode == 0, done.stderr
    home = ("--homedir", gpg_home, "--no-autostart")
    show = ("--batch", "--with-colons", "--show-keys")
    kept = told("gpg", *home, *show, tmp_path / "keyrings/one.gpg")
    assert theirs in kept
    assert another not in kept
    source = (tmp_path / "sources/one.sources").read_text()
    assert f"Signed-By: {tmp_path}/keyrings/one.gpg" in source
    assert "URIs: https://example.com/packages" in source


def test_a_repository_whose_key_is_another_one_is_refused(
    keyring: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Neither its key nor the repository is added."""
    offered, _ = keyring
    done = trust(offered, "0" * 40, tmp_path)
    assert done.returncode != 0
    assert "has no key 0000" in done.stderr
    assert [*tmp_path.glob("keyrings/*"), *tmp_path.glob("sources/*")] == []


def test_a_download_that_is_no_keyring_adds_nothing(tmp_path: Path) -> None:
    """What was downloaded is gone, and the repository is not added."""
    needed("gpg", "gpg gpg-agent")
    (tmp_path / "offered").write_text("<html>Sign in to this network</html>")
    done = trust(tmp_path / "offered", "0" * 40, tmp_path)
    assert done.returncode != 0
    assert [*tmp_path.glob("keyrings/*"), *tmp_path.glob("sources/*")] == []


@pytest.mark.parametrize("name", ["GH_SOURCE", "NODE_SOURCE"])
def test_an_unknown_source_is_refused(name: str) -> None:
    """A slip of the pen must not install something else."""
    call = {"GH_SOURCE": "install_gh", "NODE_SOURCE": "install_node"}[name]
    done = subprocess.run(
        ["/bin/bash", "-c", f". {INSTALL}; packages() {{ echo packages; }}; {call}"],
        env={"PATH": "/usr/bin:/bin", name: "elsewhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "elsewhere" in done.stderr
    assert done.stdout == ""
