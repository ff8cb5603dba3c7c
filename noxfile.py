"""Everything that is run by hand or by CI: `nox -l` lists it.

The sessions share one virtual environment, made when it is first needed. A tool whose packages the
Hub does not use (`requirements/`) has its own. Every installation checks the hashes that
`nox -s lock` has written.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent
ENVIRONMENT = ROOT / ".nox" / "workspace-hub"
PYTHON = str(ENVIRONMENT / "bin" / "python")
REQUIREMENTS = "requirements-dev.txt"  # all of requirements.txt, too
# Compiled in this order: the second keeps to the versions of the first, and nox.txt to those of the
# second.
_TOOLS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("requirements/*.in"))
INPUTS = ("requirements.in", "requirements-dev.in", *_TOOLS)
# It has dozens of known vulnerabilities. A service that reports none of them reports nothing.
UNSAFE = "django==1.11"
BILL = ROOT / "sbom.json"

# What `tests` runs: people who change the code wait for it.
SUITES = (
    "unit",
    "functions",
    "contract",
    "upgrade",
    "integration",
    "system",
    "cli",
    "terraform",
    "boot",
)
# What CI runs as well. Not beside the others: each starts its own cloud, and has deadlines.
SLOW_SUITES = ("attacks", "demo", "faults")
# What CI runs last, one after the other: processes from what is shipped, and guests.
LAST_SUITES = ("deploy", "guests")
WORKERS = ("-n", "4", "--dist", "loadgroup")  # on two cores too: most tests wait for something
FEWER_WORKERS = ("-n", "3", "--dist", "loadgroup")
BROWSERS = ("-n", "2", "--dist", "loadfile")  # each worker has its own browser and its own cloud
# The Pythons that the Hub supports, and what is run on each of them.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
COMPAT_SUITES = ("unit", "functions", "demo")

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "none"


@nox.session
def tests(session: nox.Session) -> None:
    """Check lint and types, and run all tests but the slow suites."""
    lint(session)
    types(session)
    _pytest(session, *WORKERS, *(f"tests/{suite}" for suite in SUITES), *session.posargs)


@nox.session
def all(session: nox.Session) -> None:  # noqa: A001  # a session has its function's name
    """Run `tests`, and all else.

    The whole Hub is tested on Google's emulators, too, if they are there. Then come the slow
    suites; then a browser shows the page, what is deployed is started, and the guests are booted.

    `-- --no-skips`, as in CI, fails a test that is skipped for want of a package or of root.
    """
    tests(session)
    whole = ("tests/system", "tests/integration/test_local_cloud.py")
    _pytest(session, *WORKERS, *whole, "--emulators", "google", *session.posargs)
    slow = (f"tests/{suite}" for suite in SLOW_SUITES)
    _pytest(session, *FEWER_WORKERS, "-rP", *slow, *session.posargs)
    page(session)
    last = (f"tests/{suite}" for suite in LAST_SUITES)
    _pytest(session, *last, *session.posargs)


@nox.session
def compat(session: nox.Session) -> None:
    """Run quick tests and the demo on each Python that the Hub supports and this machine has.

    Each has an environment of its own, from the same locked requirements.
    """
    for version in PYTHONS:
        base = _interpreter(version)
        if base is None:
            session.log(f"Python {version} is skipped: it is not on this machine.")
            continue
        python = _install(session, ENVIRONMENT.with_name(f"compat-{version}"), base)
        suites = (f"tests/{suite}" for suite in COMPAT_SUITES)
        session.run(python, "-m", "pytest", *WORKERS, *suites, *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and form."""
    _python(session, "ruff", "check")
    _python(session, "ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    _python(session, "mypy")


@nox.session
def unit(session: nox.Session) -> None:
    """Test the pure parts."""
    _pytest(session, "tests/unit", *session.posargs)


@nox.session
def functions(session: nox.Session) -> None:
    """Test each function on fakes."""
    _pytest(session, "tests/functions", *session.posargs)


@nox.session
def contract(session: nox.Session) -> None:
    """Test that fakes and adapters keep the same contracts."""
    _pytest(session, "tests/contract", *session.posargs)


@nox.session
def upgrade(session: nox.Session) -> None:
    """Test that what earlier versions left goes on, and that they can read what is written now."""
    _pytest(session, "tests/upgrade", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """Test the local cloud and its parts."""
    _pytest(session, *WORKERS, "tests/integration", *session.posargs)


@nox.session
def system(session: nox.Session) -> None:
    """Test the Hub as a whole, on a local cloud."""
    _pytest(session, *WORKERS, "tests/system", *session.posargs)


@nox.session
def cli(session: nox.Session) -> None:
    """Test the command `workspace`, by its own process, on a local cloud and on hostile Hubs."""
    _pytest(session, *WORKERS, "tests/cli", *session.posargs)


@nox.session
def deploy(session: nox.Session) -> None:
    """Test that what is shipped starts."""
    _pytest(session, "tests/deploy", *session.posargs)


@nox.session
def terraform(session: nox.Session) -> None:
    """Test that the Terraform module agrees with the code, and what Terraform says of it."""
    _pytest(session, "tests/terraform", *session.posargs)


@nox.session
def boot(session: nox.Session) -> None:
    """Test the machine's boot files, and boot them in systemd-nspawn where that can be had."""
    _pytest(session, "tests/boot", "tests/guests", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Break everything around the Hub.

    `-- -k chaos --seed 7 --seconds 600` plays another, longer chaos.
    """
    _pytest(session, *FEWER_WORKERS, "tests/faults", "-rP", *session.posargs)


@nox.session
def attacks(session: nox.Session) -> None:
    """Attack a local cloud: long, slow and broken requests, forged log lines, hostile pages."""
    _pytest(session, *FEWER_WORKERS, "tests/attacks", *session.posargs)


@nox.session
def page(session: nox.Session) -> None:
    """Test the page in a real Chromium, on a local cloud of its own.

    `.cache/page-screenshots/` has a picture of each view afterwards.
    """
    _pytest(session, *BROWSERS, "tests/page", *session.posargs)


@nox.session
def vm(session: nox.Session) -> None:
    """Boot the machine whole, kernel included, in QEMU: some minutes, and not part of `tests`."""
    session.log(
        "Not proven: Container-Optimized OS itself (read-only root, firewall, AppArmor), "
        "suspend and resume by ACPI."
    )
    session.log("Broken and replaced images and foreign disks are booted by `nox -s boot`.")
    _pytest(session, "tests/guests/test_vm.py", "--whole-machine", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write what is generated: the table of settings, and what Terraform and its page need."""
    _python(session, "tests.generated")


@nox.session(venv_backend="venv")
def checkov(session: nox.Session) -> None:
    """Scan the Terraform module for unsafe settings, in an environment of its own."""
    _install_tool(session, "checkov")
    scan = ("--directory", "terraform/workspace-hub", "--framework", "terraform", "--skip-download")
    session.run("checkov", *scan, "--compact", "--quiet", *session.posargs)


@nox.session(venv_backend="venv")
def lock(session: nox.Session) -> None:
    """Pin each `requirements*.in` with hashes.

    Versions stay, unless you add `-- --upgrade-package grpcio` or `-- --upgrade`.
    """
    _install_tool(session, "lock")
    # No settings of the person's and no address of an index: the files are the same wherever they
    # are made.
    form = ("--quiet", "--no-config", "--no-emit-index-url", "--no-emit-find-links")
    # What the files say of themselves: how they are made again.
    said = ("--custom-compile-command", "nox -s lock", "--emit-build-options")
    # For all platforms and every Python from the oldest on, the hashes of all files of a version.
    scope = ("--universal", "--python-version", "3.11", "--generate-hashes")
    for name in INPUTS:
        output = name.replace(".in", ".txt")
        session.run(
            "uv",
            "pip",
            "compile",
            *form,
            *said,
            *scope,
            "--output-file",
            output,
            name,
            *session.posargs,
        )


@nox.session(venv_backend="venv")
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of all pinned packages; `-- --osv-url URL` asks a mirror.

    PyPI is asked, or else OSV. Where neither can tell, the session is skipped and says why: nothing
    is known then.
    """
    _install_tool(session, "audit")
    unsafe = Path(session.create_tmp()) / "unsafe.txt"
    unsafe.write_text(UNSAFE)
    reasons = []
    for service in ("pypi", "osv"):
        trial = _pip_audit(session, service, str(unsafe))
        if isinstance(trial, str):
            reasons.append(f"{service} could not be asked ({trial})")
        elif not findings(trial):
            reasons.append(f"{service} does not even know of the vulnerabilities of {UNSAFE}")
        else:
            break
    else:
        session.skip(f"Nothing was audited: {', and '.join(reasons)}")
    wrong = []
    for name in (
        INPUTS
    ):  # one by one: two of them may have two versions of a package, which pip-audit refuses
        report = _pip_audit(session, service, name.replace(".in", ".txt"))
        wrong += [report] if isinstance(report, str) else [*findings(report), *unaudited(report)]
    if wrong:
        session.error(
            "\n".join(
                [
                    f"Not all that is locked is known to be safe, says {service}:",
                    *sorted(set(wrong)),
                ]
            )
        )
    session.log(f"{service} knows of no vulnerability in what is locked.")


@nox.session(venv_backend="venv")
def sbom(session: nox.Session) -> None:
    """Write sbom.json: what is deployed, as a CycloneDX bill of materials with hashes."""
    _install(session)
    _install_tool(session, "sbom")
    locked = _cyclonedx(session, "requirements", "requirements.txt")
    installed = _cyclonedx(session, "environment", PYTHON)
    bill = bill_of_materials(locked, installed, (ROOT / "requirements.txt").read_text())
    BILL.write_text(json.dumps(bill, indent=2) + "\n")
    session.run("python", "-c", _VALIDATE, str(BILL))
    session.log(
        f"{BILL.name}: {len(bill['components'])} components, {BILL.stat().st_size} bytes, valid."
    )


@nox.session
def local(session: nox.Session) -> None:
    """Start the Hub on this machine and stay until Ctrl-C, e.g. `nox -s local -- --port 8080`."""
    _install(session)
    command = [PYTHON, "-m", "localcloud", "run", "--attached", *session.posargs]
    # The pipe ends with this process, and with the pipe the local cloud, even if this process is
    # killed.
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)  # noqa: S603  # from posargs
    try:
        process.wait()
    except KeyboardInterrupt:
        process.communicate()  # closes the pipe: the signal may have been for this process only
    if process.returncode:
        session.error(f"The local cloud ended with {process.returncode}.")


@nox.session
def demo(session: nox.Session) -> None:
    """Show the Hub at work: a local cloud, two people, every step with its time."""
    _python(session, "localcloud.command_line.demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the Hub: a table, and bench.json."""
    _python(session, "tests.bench", *session.posargs)


def findings(report: dict[str, Any]) -> list[str]:
    """Return a line for each vulnerability that pip-audit reports: package, ids, repair."""
    found = {
        f"{package['name']} {package['version']}: {' '.join([one['id'], *one.get('aliases', [])])},"
        f" repaired in {', '.join(one['fix_versions']) or 'no version'}"
        for package in report["dependencies"]
        for one in package.get("vulns", [])
    }
    return sorted(found)


def unaudited(report: dict[str, Any]) -> list[str]:
    """Return a line for each package that pip-audit skipped.

    Neither its exit code nor its summary counts these.
    """
    return sorted(
        {package["skip_reason"] for package in report["dependencies"] if "skip_reason" in package}
    )


def bill_of_materials(
    locked: dict[str, Any], installed: dict[str, Any], lock: str
) -> dict[str, Any]:
    """Return the bill of what is locked, with what it lacks: licences, and what pulls in what.

    Args:
        locked: cyclonedx-py's bill of a requirements file: it has the hashes, of every file of a
            version.
        installed: its bill of an environment that has these versions, and others. Its dependencies
            are not used: it counts those of all extras and all platforms. What is not installed, as
            on another platform, has no licence.
        lock: the requirements file itself, with its `# via`.
    """
    told = {component.get("purl"): component for component in installed["components"]}
    components = []
    for component in locked["components"]:
        purl = component["purl"]
        # Neither its name nor its description, which are the line of the file: that changes with
        # every other package.
        named = {
            key: value for key, value in component.items() if key not in {"bom-ref", "description"}
        }
        known = {
            key: value
            for key, value in told.get(purl, {}).items()
            if key in {"description", "licenses"}
        }
        components.append({"bom-ref": purl, **named, **known})
    root = locked["metadata"]["component"]["bom-ref"]
    purls = {component["name"]: component["purl"] for component in locked["components"]}
    pulls: dict[str, list[str]] = {ref: [] for ref in (root, *purls.values())}
    for name, causes in pulled_in_by(lock).items():
        for cause in causes:
            pulls[purls.get(cause, root)].append(purls[name])
    dependencies = [
        {"ref": ref, "dependsOn": sorted(others)} for ref, others in sorted(pulls.items())
    ]
    return {**locked, "components": components, "dependencies": dependencies}


def pulled_in_by(lock: str) -> dict[str, list[str]]:
    """Return what requires each package of a requirements file, by its `# via` comments.

    These are packages, or `-r` and an input file.
    """
    causes: dict[str, list[str]] = {}
    for block in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]:
        name, _, rest = block.partition("==")
        said = re.findall(r"^ +#(?: via)? *(.*)$", rest, re.MULTILINE)
        causes[name] = [cause for cause in said if cause and not cause.startswith("-c")]
    return causes


def _pytest(session: nox.Session, *arguments: str) -> None:
    _python(session, "pytest", *arguments)


def _python(session: nox.Session, module: str, *arguments: str) -> None:
    _install(session)
    session.run(PYTHON, "-m", module, *arguments, external=True)


def _interpreter(version: str) -> str | None:
    """Return the path of a Python of this version that can make environments; None: there is none.

    It is looked for in ``PATH``, and among pyenv's versions, whose names in ``PATH`` may not work.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    for path in (shutil.which(f"python{version}"), *map(str, found)):
        if path is None:
            continue
        tried = subprocess.run([path, "-c", "import ensurepip"], capture_output=True, check=False)  # noqa: S603  # found above
        if tried.returncode == 0:
            return path
    return None


def _install(
    session: nox.Session, environment: Path = ENVIRONMENT, base: str = sys.executable
) -> str:
    """Make an environment, unless it has what the requirements say already; return its Python."""
    python = str(environment / "bin" / "python")
    ask = [base, "-c", "import sys; print(sys.version, end='')"]
    version = subprocess.run(ask, capture_output=True, check=True).stdout  # noqa: S603  # found by us
    wanted = hashlib.sha256((ROOT / REQUIREMENTS).read_bytes() + version).hexdigest()
    stamp = environment / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    session.run(base, "-m", "venv", "--clear", str(environment), external=True)
    pip = (
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
    )
    session.run(*pip, "-r", REQUIREMENTS, external=True)
    stamp.write_text(wanted)
    return python


def _install_tool(session: nox.Session, name: str) -> None:
    """Install a tool of `requirements/` in the session's own environment."""
    session.install(
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
        f"requirements/{name}.txt",
    )


def _pip_audit(session: nox.Session, service: str, *files: str) -> dict[str, Any] | str:
    """Return pip-audit's report on pinned files, or its last line if the service did not answer."""
    report = Path(session.create_tmp()) / "report.json"
    report.unlink(missing_ok=True)
    form = (
        "--disable-pip",
        "--no-deps",
        "--progress-spinner",
        "off",
        "--format",
        "json",
        "--output",
        str(report),
    )
    named = [part for file in files for part in ("--requirement", file)]
    command = ("pip-audit", "--vulnerability-service", service, *form, *named, *session.posargs)
    said = session.run(
        *command, silent=True, success_codes=(0, 1)
    )  # 1 is: vulnerabilities, or no answer
    if not report.exists():
        return str(said).strip().rpartition("\n")[2]
    answer: dict[str, Any] = json.loads(report.read_text())
    return answer


def _cyclonedx(session: nox.Session, kind: str, source: str) -> dict[str, Any]:
    """Return the bill that cyclonedx-py writes, without times, serial numbers and paths."""
    output = Path(session.create_tmp()) / f"{kind}.json"
    form = (
        "--pyproject",
        "pyproject.toml",
        "--output-reproducible",
        "--sv",
        "1.6",
        "--of",
        "JSON",
        "-o",
        str(output),
    )
    session.run("cyclonedx-py", kind, *form, source, silent=True)
    bill: dict[str, Any] = json.loads(output.read_text())
    return bill


_VALIDATE = """
import sys
from pathlib import Path
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text()))
"""
