"""Everything that is run by hand or by CI: `nox -l` lists it. All sessions share one virtual environment, made when first needed."""

import hashlib
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
ENVIRONMENT = ROOT / ".nox" / "workspace-hub"
PYTHON = str(ENVIRONMENT / "bin" / "python")
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")

# Not beside the others: each has a cloud of its own, and what it waits for has deadlines.
LATER_SUITES = ("demo", "faults")
SUITES = ("unit", "functions", "contract", "upgrade", "integration", "system", "deploy", "terraform", "boot", "guests")
WORKERS = ("-n", "4", "--dist", "loadgroup")  # on two cores, too: most of these tests wait for something
FEWER_WORKERS = ("-n", "3", "--dist", "loadgroup")

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "none"


@nox.session
def tests(session: nox.Session) -> None:
    """Check everything: lint, types, and all tests."""
    lint(session)
    types(session)
    _pytest(session, *WORKERS, *(f"tests/{suite}" for suite in SUITES))
    _pytest(session, *FEWER_WORKERS, "-rP", *(f"tests/{suite}" for suite in LATER_SUITES))


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
    """Break everything around the Hub; `nox -s faults -- -k chaos --seed 7 --seconds 600` has a longer, another chaos."""
    _pytest(session, *FEWER_WORKERS, "tests/faults", "-rP", *session.posargs)


@nox.session
def vm(session: nox.Session) -> None:
    """Boot the machine whole, kernel included, in QEMU: some minutes, and not part of `tests`."""
    session.log(
        "Not proven: Container-Optimized OS itself (read-only root, firewall, AppArmor), suspend and resume by ACPI."
    )
    session.log("Broken and replaced images and foreign disks are booted by `nox -s boot`.")
    _pytest(session, "tests/guests/test_vm.py", "--whole-machine", *session.posargs)


@nox.session(venv_backend="venv")
def checkov(session: nox.Session) -> None:
    """Scan the Terraform module for what is known to be unsafe; in an environment of its own, and not part of `tests`."""
    session.install("checkov==3.3.30")
    scan = ("--directory", "terraform/workspace-hub", "--framework", "terraform", "--skip-download")
    session.run("checkov", *scan, "--compact", "--quiet", *session.posargs)


@nox.session
def local(session: nox.Session) -> None:
    """Start the Hub on this machine and stay until Ctrl-C, e.g. `nox -s local -- --port 8080`."""
    _install(session)
    command = [PYTHON, "-m", "localcloud", "run", "--attached", *session.posargs]
    # The pipe ends with this process, and with the pipe the local cloud, even if this process is killed.
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)  # noqa: S603  # the arguments are the person's own
    try:
        process.wait()
    except KeyboardInterrupt:
        process.communicate()  # closes the pipe: the signal may have been for this process only
    if process.returncode:
        session.error(f"The local cloud ended with {process.returncode}.")


@nox.session
def demo(session: nox.Session) -> None:
    """Show the Hub at work: a local cloud, two people, every step with its time."""
    _python(session, "localcloud.demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the Hub: a table, and bench.json."""
    _python(session, "tests.bench", *session.posargs)


def _pytest(session: nox.Session, *arguments: str) -> None:
    _python(session, "pytest", *arguments)


def _python(session: nox.Session, module: str, *arguments: str) -> None:
    _install(session)
    session.run(PYTHON, "-m", module, *arguments, external=True)


def _install(session: nox.Session) -> None:
    """Make the environment, unless it has what the requirements say already."""
    said = b"".join((ROOT / name).read_bytes() for name in REQUIREMENTS)
    wanted = hashlib.sha256(said + sys.version.encode()).hexdigest()
    stamp = ENVIRONMENT / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    session.run(sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT), external=True)
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    session.run(*pip, "-r", REQUIREMENTS[-1], external=True)
    stamp.write_text(wanted)
