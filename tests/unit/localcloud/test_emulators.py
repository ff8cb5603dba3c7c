"""How the emulators are found on machines that are set up differently."""

import os
from pathlib import Path

import pytest

from localcloud.processes.children import LocalCloudError
from localcloud.processes.emulators import FIRESTORE, PUBSUB, find_installation

FIRESTORE_JAR = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
PUBSUB_JAR = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-0.8.20-all.jar"


class Machine:
    """A machine with nothing on it but what a test puts there."""

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
        """Put a program somewhere."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def java(self, version: str, path: str = "bin/java") -> None:
        """Install a Java."""
        self.program(self.folder / path, f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")

    def emulators(self, *jars: str) -> None:
        """Put emulators into the SDK."""
        for jar in jars:
            (self.sdk / jar).parent.mkdir(parents=True)
            (self.sdk / jar).touch()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with nothing on it."""
    return Machine(tmp_path, monkeypatch)


def test_emulators_are_found_beside_gcloud(machine: Machine) -> None:
    """A link to the SDK's gcloud is followed; the SDK is not asked, which would take a second."""
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR, PUBSUB_JAR)
    machine.program(machine.sdk / "bin/gcloud", "exit 1")
    (machine.bin / "gcloud").symlink_to(machine.sdk / "bin/gcloud")
    installation = find_installation()
    assert installation.sdk == machine.sdk
    command = installation.command(FIRESTORE, port=7, temp_folder=machine.folder)
    assert command[0] == str(machine.bin / "java")
    assert str(machine.sdk / FIRESTORE_JAR) in command
    assert {"--host=127.0.0.1", "--port=7", "--database-mode=firestore-native"} <= set(command)
    assert str(machine.sdk / PUBSUB_JAR) in installation.command(
        PUBSUB, port=7, temp_folder=machine.folder
    )


def test_emulators_are_found_where_gcloud_says_they_are(machine: Machine) -> None:
    """A gcloud that is only a wrapper is asked."""
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR, PUBSUB_JAR)
    machine.program(machine.bin / "gcloud", f"echo {machine.sdk}")
    assert find_installation().sdk == machine.sdk


def test_the_environment_says_where_sdk_and_java_are(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLOUDSDK_ROOT_DIR and JAVA_HOME come before what is on the path."""
    machine.java("21", "jdk/bin/java")
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR, PUBSUB_JAR)
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(machine.sdk))
    monkeypatch.setenv("JAVA_HOME", str(machine.folder / "jdk"))
    installation = find_installation()
    assert (installation.sdk, installation.java) == (machine.sdk, machine.folder / "jdk/bin/java")


def test_a_java_that_is_too_old_is_passed_over(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is taken."""
    machine.java("11.0.2", "jdk/bin/java")
    machine.java("17.0.15")
    machine.emulators(FIRESTORE_JAR, PUBSUB_JAR)
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(machine.sdk))
    monkeypatch.setenv("JAVA_HOME", str(machine.folder / "jdk"))
    assert find_installation().java == machine.bin / "java"


def test_a_missing_java_is_one_line_that_says_what_to_do(machine: Machine) -> None:
    """The same where there is only an old one."""
    machine.java("1.8.0_292")
    with pytest.raises(
        LocalCloudError, match=r"^Java 17 or newer is missing\. .*apt-get install.*$"
    ):
        find_installation()


def test_a_missing_sdk_is_one_line_that_says_what_to_do(machine: Machine) -> None:
    """The line has the address of its installation page."""
    machine.java("17.0.15")
    with pytest.raises(
        LocalCloudError, match=r"^The Google Cloud SDK is missing.*sdk/docs/install.*$"
    ):
        find_installation()


def test_a_missing_emulator_is_installed_where_the_sdk_can_do_that(machine: Machine) -> None:
    """The component manager is asked for exactly that component."""
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


def test_an_emulator_that_cannot_be_installed_is_one_line_with_the_command(
    machine: Machine,
) -> None:
    """Where a package manager owns the SDK, gcloud names the command, and so do we."""
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
