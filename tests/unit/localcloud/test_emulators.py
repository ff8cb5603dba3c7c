"""How the emulators are found on machines that are set up differently."""

import os
from pathlib import Path

import pytest

from localcloud.processes.children import LocalCloudError
from localcloud.processes.emulators import FIRESTORE, PUBSUB, find_installation

FIRESTORE_JAR = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
PUBSUB_JAR = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-0.8.20-all.jar"


class Machine:
    """A machine that has only what a test installs on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.sdk = folder / "sdk"
        self.bin.mkdir()
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}/bin{os.pathsep}/usr/bin")
        monkeypatch.setattr(
            "shutil.which",
            lambda name: str(self.bin / name) if (self.bin / name).exists() else None,
        )
        monkeypatch.setattr("platform.system", lambda: "Linux")
        for name in ("JAVA_HOME", "CLOUDSDK_ROOT_DIR"):
            monkeypatch.delenv(name, raising=False)

    def program(self, path: Path, script: str) -> None:
        """Write an executable script."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def java(self, version: str, path: str = "bin/java") -> None:
        """Install a Java of this version."""
        self.program(self.folder / path, f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")

    def emulators(self, *jars: str) -> None:
        """Add emulators to the SDK."""
        for jar in jars:
            (self.sdk / jar).parent.mkdir(parents=True)
            (self.sdk / jar).touch()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that has nothing installed yet."""
    return Machine(tmp_path, monkeypatch)


def test_emulators_are_found_beside_gcloud(machine: Machine) -> None:
    """A link to the SDK's gcloud is followed; gcloud is not run, since it would take a second."""
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR, PUBSUB_JAR)
    machine.program(machine.sdk / "bin/gcloud", f"echo >{machine.folder}/ran")
    (machine.bin / "gcloud").symlink_to(machine.sdk / "bin/gcloud")
    installation = find_installation()
    assert installation.sdk == machine.sdk
    assert not (machine.folder / "ran").exists()
    command = installation.command(FIRESTORE, port=7, temp_folder=machine.folder)
    assert command[0] == str(machine.bin / "java")
    assert str(machine.sdk / FIRESTORE_JAR) in command
    assert {"--host=127.0.0.1", "--port=7", "--database-mode=firestore-native"} <= set(command)
    assert str(machine.sdk / PUBSUB_JAR) in installation.command(
        PUBSUB, port=7, temp_folder=machine.folder
    )


def test_emulators_are_found_in_the_folder_that_gcloud_prints(machine: Machine) -> None:
    """A gcloud outside the SDK is only a wrapper, so it is run."""
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR, PUBSUB_JAR)
    machine.program(machine.bin / "gcloud", f"echo {machine.sdk}")
    assert find_installation().sdk == machine.sdk


def test_the_environment_takes_precedence_over_the_path(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``CLOUDSDK_ROOT_DIR`` and ``JAVA_HOME`` name the SDK and Java."""
    machine.java("21", "jdk/bin/java")
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR, PUBSUB_JAR)
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(machine.sdk))
    monkeypatch.setenv("JAVA_HOME", str(machine.folder / "jdk"))
    installation = find_installation()
    assert (installation.sdk, installation.java) == (machine.sdk, machine.folder / "jdk/bin/java")


def test_a_java_that_is_too_old_is_skipped(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next Java that is found is used."""
    machine.java("11.0.2", "jdk/bin/java")
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR, PUBSUB_JAR)
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(machine.sdk))
    monkeypatch.setenv("JAVA_HOME", str(machine.folder / "jdk"))
    assert find_installation().java == machine.bin / "java"


def test_the_error_for_a_missing_java_says_how_to_install_it(machine: Machine) -> None:
    """It is one line, and the same if only an old Java is installed."""
    machine.java("1.8.0_292")
    with pytest.raises(
        LocalCloudError, match=r"^Java 17 or newer is missing\. .*apt-get install.*$"
    ):
        find_installation()


def test_the_error_for_a_missing_sdk_says_how_to_install_it(machine: Machine) -> None:
    """It is one line with the address of the installation page."""
    machine.java("17.0.15")
    with pytest.raises(
        LocalCloudError, match=r"^The Google Cloud SDK is missing.*sdk/docs/install.*$"
    ):
        find_installation()


def test_a_missing_emulator_is_installed_if_the_sdk_can(machine: Machine) -> None:
    """The component manager is asked for that component only."""
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR)
    jar = machine.sdk / PUBSUB_JAR
    installs = (
        '[ "$*" = "components install pubsub-emulator --quiet" ]'
        f" && mkdir -p {jar.parent} && touch {jar}"
    )
    machine.program(machine.sdk / "bin/gcloud", installs)
    (machine.bin / "gcloud").symlink_to(machine.sdk / "bin/gcloud")
    installation = find_installation()
    assert PUBSUB.jar(installation.sdk) == jar


def test_nothing_is_installed_for_a_caller_who_forbids_it(machine: Machine) -> None:
    """The error says what is missing, and gcloud is not asked to install it."""
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR)
    installs = f'[ "$2" = install ] && echo >{machine.folder}/ran'
    machine.program(machine.sdk / "bin/gcloud", installs)
    (machine.bin / "gcloud").symlink_to(machine.sdk / "bin/gcloud")
    with pytest.raises(LocalCloudError, match=r"^Google's Pub/Sub emulator is missing from "):
        find_installation(installs=False)
    assert not (machine.folder / "ran").exists()


def test_the_error_for_an_emulator_that_cannot_be_installed_has_the_command(
    machine: Machine,
) -> None:
    """If a package manager owns the SDK, gcloud names that manager's command."""
    machine.java("17.0.15")
    machine.emulators(PUBSUB_JAR)
    advice = "ERROR: the component manager is disabled\n\nsudo apt-get install the-emulator\n"
    refuses = f"echo '{advice}' >&2; exit 1"
    machine.program(machine.sdk / "bin/gcloud", refuses)
    (machine.bin / "gcloud").symlink_to(machine.sdk / "bin/gcloud")
    with pytest.raises(
        LocalCloudError,
        match=r"^Google's Firestore emulator is missing.*: sudo apt-get install the-emulator$",
    ):
        find_installation()
