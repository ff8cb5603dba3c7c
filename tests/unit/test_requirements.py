"""What is installed is pinned and held to hashes; what the tools say of it is read as it is meant."""

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

LOCKS = [name.replace(".in", ".txt") for name in INPUTS]
# The packages of these are in the tests' environment, which can therefore say what pulls in what.
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
    """Return each requirement of a locked file on one line, with its hashes and without its comments."""
    bare = re.sub(r"^ *#.*\n|^--.*\n", "", read(lock), flags=re.MULTILINE)
    return [line for line in bare.replace("\\\n", " ").splitlines() if line.strip()]


def pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return version and hashes of each package of a locked file."""
    found = {}
    for line in requirements(lock):
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        name, version = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; .+)?", requirement).groups()  # type: ignore[union-attr]
        found[name] = (version, frozenset(hashes))
    return found


def asked(name: str) -> list[Requirement]:
    """Return what an input file asks for, and the files that it includes."""
    lines = [line.partition(" #")[0].strip() for line in read(name).splitlines()]
    included = [line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    own = [Requirement(line) for line in lines if line and line[0] not in "#-"]
    return own + [requirement for other in included for requirement in asked(other)]


def closure(wanted: list[Requirement]) -> set[str]:
    """Return what requirements pull in on any platform and Python that the files are for, as the installed packages say."""
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
    """Whatever is locked names exactly one version, and a SHA-256 of each file that may be installed for it."""
    assert requirements(lock)
    for line in requirements(lock):
        assert re.fullmatch(
            r"[a-z0-9-]+==[\w.]+( ; [^\\#@]+?)?( +--hash=sha256:[0-9a-f]{64})+", line.strip()
        ), line


@pytest.mark.parametrize("lock", LOCKS)
def test_no_requirements_file_says_where_packages_come_from(lock: str) -> None:
    """An index, a host or a path of whoever compiled it would be used, or missed, by everybody else."""
    options = re.findall(r"^\s*(-.*)", read(lock), re.MULTILINE)
    assert {option for option in options if not option.startswith("--hash=")} == {
        "--only-binary :all:"
    }
    assert "://" not in read(lock)
    comments = re.findall(r"#(?: +via)? +(\S.*)", read(lock))
    assert all(re.fullmatch(r"(-[rc] )?[\w./-]+", one) for one in comments[2:]), comments
    assert not [one for one in comments if one.startswith(("/", "-r /", "-c /"))]


@pytest.mark.parametrize("name", INPUTS)
def test_what_an_input_file_asks_for_is_locked_in_a_version_that_it_allows(name: str) -> None:
    """An input file that was edited, and not compiled, is noticed; so is a lock with more of its own than was asked for."""
    lock = name.replace(".in", ".txt")
    locked = pins(lock)
    for requirement in asked(name):
        version, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement} is locked as {version}"
        )
    said = {
        package
        for package, causes in pulled_in_by(read(lock)).items()
        if any("-r " in one for one in causes)
    }
    assert said == {canonicalize_name(requirement.name) for requirement in asked(name)}


@pytest.mark.parametrize("name", INSTALLED)
def test_a_locked_file_has_all_that_is_pulled_in_and_nothing_else(name: str) -> None:
    """On every platform and Python nothing is missing, which hashes would refuse, and nothing stays that nobody needs."""
    locked = pins(name.replace(".in", ".txt"))
    assert closure(asked(name)) == set(locked)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_asked_for_or_pulled_in_by_another(lock: str) -> None:
    """For each package the file says why it is there, and that is true as far as the file goes."""
    causes = pulled_in_by(read(lock))
    assert causes.keys() == pins(lock).keys()
    for package, why in causes.items():
        assert why, package
        assert all(one.startswith("-r ") or one in causes for one in why), (package, why)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements/nox.txt"])
def test_the_tests_run_with_the_versions_that_are_deployed(lock: str) -> None:
    """What is deployed, and nox, are in the tests' environment with the same versions and the same hashes."""
    assert pins(lock).items() <= pins("requirements-dev.txt").items()


def test_the_platforms_build_finds_the_framework() -> None:
    """Google's buildpack looks for it by this pattern (`packageRegex` in its pkg/python); else it installs one that no hash holds."""
    assert re.search(r"(?m)^functions-framework\b([^-]|$)", read("requirements.txt"))


def test_everything_is_installed_with_hashes() -> None:
    """Neither the sessions nor CI nor a person is told to install what no hash holds."""
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
    commands = re.findall(
        r".*pip install.*", read(".ci/run") + read("CONTRIBUTING.md") + read("README.md")
    )
    assert commands
    for command in commands:
        [file] = re.findall(r"pip install[\w -]* -r (requirements[\w./-]*\.txt)", command)
        assert (ROOT / file).exists()


def vulnerable(name: str, **more: Any) -> dict[str, Any]:
    """Return a package as pip-audit reports it if one vulnerability of it is known."""
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], **more}],
    }


def test_a_report_of_vulnerabilities_names_package_ids_and_repair() -> None:
    """Each is a line that says what to do; a sound package is none."""
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


def test_a_package_that_a_service_does_not_know_is_not_called_safe() -> None:
    """pip-audit says `No known vulnerabilities found` of it, and ends with 0."""
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
    """Return the bill of LOCK: two packages are installed, with one of the tests', and one is for another platform."""
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


def test_the_bill_has_hashes_of_all_and_licences_of_what_is_installed() -> None:
    """What is not deployed is not in it, nor is anything of this machine."""
    assert [one["name"] for one in bill()["components"]] == ["asked", "elsewhere", "pulled"]
    assert all(one["externalReferences"][0]["hashes"] for one in bill()["components"])
    assert [one.get("licenses", [{}])[0].get("license") for one in bill()["components"]] == [
        {"id": "MIT"},
        None,
        {"id": "MIT"},
    ]
    assert "properties" not in str(bill())


def test_the_bill_calls_packages_by_what_they_are_and_says_what_pulls_in_what() -> None:
    """A package's reference does not change with the line that it is on; dependencies of unused extras are not in it."""
    asked, elsewhere, pulled = "pkg:pypi/asked@1.0", "pkg:pypi/elsewhere@3.0", "pkg:pypi/pulled@2.0"
    assert [one["bom-ref"] for one in bill()["components"]] == [asked, elsewhere, pulled]
    assert {one["ref"]: one["dependsOn"] for one in bill()["dependencies"]} == {
        "root": [asked],
        asked: [elsewhere, pulled],
        elsewhere: [pulled],
        pulled: [],
    }


def test_the_bill_is_not_committed() -> None:
    """It is made anew from what is locked, so that a stale one is never found in the repository."""
    assert "sbom.json" in read(".gitignore").splitlines()
