"""Requirements are pinned with hashes, and the output of the tools is read correctly."""

from __future__ import annotations

import ast
import itertools
import re
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from localcloud.catalogue import ROOT
from noxfile import INPUTS, bill_of_materials, findings, pulled_in_by, unaudited
from tests.documents import PAGES, text_of

LOCKS = [name.replace(".in", ".txt") for name in INPUTS]
# The test environment has the packages of these files, so it tells their dependencies.
INSTALLED = ("requirements.in", "requirements-dev.in", "requirements/nox.in")
PLATFORMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
)
PYTHONS = tuple(
    {"python_version": f"3.{n}", "python_full_version": f"3.{n}.9"} for n in (11, 12, 13, 14)
)


def read(name: str) -> str:
    """Return the text of a requirements file."""
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(lock: str) -> list[str]:
    """Return each requirement of a locked file on one line, with hashes, without comments."""
    bare = re.sub(r"^ *#.*\n|^--.*\n", "", read(lock), flags=re.MULTILINE)
    return [line for line in bare.replace("\\\n", " ").splitlines() if line.strip()]


def pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return version and hashes of each package of a locked file."""
    found = {}
    for line in requirements(lock):
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; .+)?", requirement)
        assert match, requirement
        name, version = match.groups()
        found[name] = (version, frozenset(hashes))
    return found


def requested_by(name: str) -> list[Requirement]:
    """Return the requirements of an input file and of the files that it includes."""
    lines = [line.partition(" #")[0].strip() for line in read(name).splitlines()]
    included = [line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    own = [Requirement(line) for line in lines if line and line[0] not in "#-"]
    return own + [requirement for other in included for requirement in requested_by(other)]


def closure(wanted: list[Requirement]) -> set[str]:
    """Return all packages that requirements need on any supported platform and Python."""
    environments = [
        {**platform, **python} for platform, python in itertools.product(PLATFORMS, PYTHONS)
    ]
    todo = [*wanted]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            try:
                pulled = map(Requirement, distribution(name).requires or [])
            except PackageNotFoundError:  # it is for another platform
                continue
            todo += [
                one
                for one in pulled
                if one.marker is None
                or any(one.marker.evaluate({**here, "extra": extra}) for here in environments)
            ]
    return {name for name, _ in seen}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_one_version_with_hashes(lock: str) -> None:
    """Each package has exactly one version, and a SHA-256 for each file that may be installed."""
    assert requirements(lock)
    for line in requirements(lock):
        assert re.fullmatch(
            r"[a-z0-9-]+==[\w.]+( ; [^\\#@]+?)?( +--hash=sha256:[0-9a-f]{64})+", line.strip()
        ), line


@pytest.mark.parametrize("lock", LOCKS)
def test_no_locked_file_names_a_source_of_packages(lock: str) -> None:
    """An index, host or path of the person who compiled it would not suit everybody else."""
    options = re.findall(r"^\s*(-.*)", read(lock), re.MULTILINE)
    assert {option for option in options if not option.startswith("--hash=")} == {
        "--only-binary :all:"
    }
    assert "://" not in read(lock)
    comments = re.findall(r"#(?: +via)? +(\S.*)", read(lock))
    assert all(re.fullmatch(r"(-[rc] )?[\w./-]+", one) for one in comments[2:]), comments
    assert not [one for one in comments if one.startswith(("/", "-r /", "-c /"))]


@pytest.mark.parametrize("name", INPUTS)
def test_every_requested_package_is_locked_in_an_allowed_version(name: str) -> None:
    """A test fails if an input file was edited but not compiled, or if a lock has more."""
    lock = name.replace(".in", ".txt")
    locked = pins(lock)
    for requirement in requested_by(name):
        version, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement} is locked as {version}"
        )
    named = {
        package
        for package, causes in pulled_in_by(read(lock)).items()
        if any("-r " in one for one in causes)
    }
    assert named == {canonicalize_name(requirement.name) for requirement in requested_by(name)}


@pytest.mark.parametrize("name", INSTALLED)
def test_a_locked_file_has_exactly_the_packages_that_are_needed(name: str) -> None:
    """A package that is missing on some platform would be refused; one more would be unused."""
    locked = pins(name.replace(".in", ".txt"))
    assert closure(requested_by(name)) == set(locked)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_reason(lock: str) -> None:
    """The comments of the file give the reason for each package."""
    causes = pulled_in_by(read(lock))
    assert causes.keys() == pins(lock).keys()
    for package, why in causes.items():
        assert why, package
        assert all(one.startswith("-r ") or one in causes for one in why), (package, why)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements/nox.txt"])
def test_the_tests_run_with_the_versions_that_are_deployed(lock: str) -> None:
    """Deployed packages and nox have the same versions and hashes in the test environment."""
    assert pins(lock).items() <= pins("requirements-dev.txt").items()


def test_googles_build_finds_the_framework() -> None:
    """Its pattern is ``packageRegex`` in pkg/python; otherwise it installs one without hashes."""
    assert re.search(r"(?m)^functions-framework\b([^-]|$)", read("requirements.txt"))


def test_everything_is_installed_with_hashes() -> None:
    """Neither a session, nor CI, nor the documentation installs a package without hashes."""
    calls = [
        node
        for node in ast.walk(ast.parse(read("noxfile.py")))
        if isinstance(node, (ast.Call, ast.Tuple))
    ]
    installing = [
        text
        for text in map(ast.unparse, calls)
        if re.match(r"session\.install\(", text) or "'pip', 'install'" in text
    ]
    assert len(installing) == 2
    assert all("'--require-hashes'" in text for text in installing)
    told = read(".ci/run") + "".join(text_of(page) for page in PAGES)
    commands = re.findall(r".*pip install.*", told)
    own = [command for command in commands if re.search(r"pip install [./]+/cli\b", command)]
    assert own  # a person's own installation of the command `workspace`
    for command in [command for command in commands if command not in own]:
        [file] = re.findall(r"pip install[\w -]* -r (requirements[\w./-]*\.txt)", command)
        assert (ROOT / file).exists()


def vulnerable(name: str, **more: Any) -> dict[str, Any]:
    """Return a package as pip-audit reports it if one vulnerability of it is known."""
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], **more}],
    }


def test_a_finding_names_package_ids_and_fixed_version() -> None:
    """A line says what to do about each vulnerability; a package without any gets no line."""
    sound = {"name": "sound", "version": "1.0", "vulns": []}
    report = {
        "dependencies": [
            sound,
            vulnerable("holed", aliases=["CVE-1"]),
            vulnerable("lost", fix_versions=[]),
        ]
    }
    assert findings(report) == [
        "holed 1.0: PYSEC-1 CVE-1, repaired in 1.1",
        "lost 1.0: PYSEC-1, repaired in no version",
    ]


def test_a_package_that_the_service_does_not_know_is_reported() -> None:
    """pip-audit reports ``No known vulnerabilities found`` about it, with exit status 0."""
    report = {"dependencies": [{"name": "unheard", "skip_reason": "unheard was not found"}]}
    assert findings(report) == []
    assert unaudited(report) == ["unheard was not found"]


LOCK = """\
--only-binary :all:

asked==1.0 \\
    --hash=sha256:00
    # via
    #   -c other.txt
    #   -r requirements.in
elsewhere==3.0 ; sys_platform == 'win32' \\
    --hash=sha256:22
    # via asked
pulled==2.0 \\
    --hash=sha256:11
    # via
    #   asked
    #   elsewhere
"""


def component(name: str, version: str, **more: Any) -> dict[str, Any]:
    """Return a component as cyclonedx-py writes it."""
    return {
        "name": name,
        "version": version,
        "type": "library",
        "purl": f"pkg:pypi/{name}@{version}",
        **more,
    }


def bill() -> dict[str, Any]:
    """Return the bill of ``LOCK``: two installed packages, and one for another platform."""
    files = {
        "externalReferences": [
            {"type": "distribution", "hashes": [{"alg": "SHA-256", "content": "00"}]}
        ]
    }
    versions = {"asked": "1.0", "elsewhere": "3.0", "pulled": "2.0"}
    lines = [
        component(
            name,
            version,
            description=f"requirements line {line}: {name}",
            **{"bom-ref": f"L{line}"},
            **files,
        )
        for line, (name, version) in enumerate(versions.items())
    ]
    locked = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": lines,
        "dependencies": [],
    }
    own = {
        "licenses": [{"license": {"id": "MIT"}}],
        "bom-ref": "x==1",
        "properties": [{"name": "seen", "value": "here"}],
    }
    here = [
        component(name, version, **own)
        for name, version in (("asked", "1.0"), ("pulled", "2.0"), ("tests", "9.0"))
    ]
    extra = [{"ref": "asked==1.0", "dependsOn": ["tests==9.0"]}]
    return bill_of_materials(locked, {"components": here, "dependencies": extra}, LOCK)


def test_the_bill_has_hashes_and_known_licences() -> None:
    """Packages that are not deployed are left out, and so are properties of this machine."""
    assert [one["name"] for one in bill()["components"]] == ["asked", "elsewhere", "pulled"]
    assert all(one["externalReferences"][0]["hashes"] for one in bill()["components"])
    assert [one.get("licenses", [{}])[0].get("license") for one in bill()["components"]] == [
        {"id": "MIT"},
        None,
        {"id": "MIT"},
    ]
    assert "properties" not in str(bill())


def test_the_bill_has_stable_references_and_dependencies() -> None:
    """A reference does not depend on the line; dependencies of unused extras are left out."""
    asked, elsewhere, pulled = "pkg:pypi/asked@1.0", "pkg:pypi/elsewhere@3.0", "pkg:pypi/pulled@2.0"
    assert [one["bom-ref"] for one in bill()["components"]] == [asked, elsewhere, pulled]
    assert {one["ref"]: one["dependsOn"] for one in bill()["dependencies"]} == {
        "root": [asked],
        asked: [elsewhere, pulled],
        elsewhere: [pulled],
        pulled: [],
    }


def test_the_bill_is_not_committed() -> None:
    """It is generated from the locked files, so that the repository has no outdated one."""
    assert "sbom.json" in read(".gitignore").splitlines()
