"""Google's Firestore and Pub/Sub emulators: where they are, and how to start them.

They come from the Google Cloud SDK, and Java starts them directly: the ``gcloud`` wrapper leaves
its Java child running when it is ended.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localcloud.processes.children import LocalCloudError

_LEAST_JAVA = 17
_JAVA_MISSING = (
    f"Java {_LEAST_JAVA} or newer is missing. Install it (sudo apt-get install "
    "openjdk-17-jre-headless; macOS: brew install openjdk) or point JAVA_HOME at it."
)
_SDK_MISSING = (
    "The Google Cloud SDK is missing: it has the emulators. Install it from "
    "https://cloud.google.com/sdk/docs/install or point CLOUDSDK_ROOT_DIR at it."
)

# Measured on two cores with Java 17: the processor time until Firestore and Pub/Sub are ready is
# 1.7 and 1.1 s by default, and 1.2 and 0.8 s with the first compiler only, which also uses a third
# less while it serves, and answers as fast. Without performance data, a JVM that is killed leaves
# no file in the folder for temporary files.
_JVM_OPTIONS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Xmx512m",
    "-Duser.language=en",
)


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """One of Google's emulators.

    Attributes:
        name: its name in the local cloud.
        title: its name for people.
        component: its name for ``gcloud components install``.
        jars: a glob below the SDK's folder that finds its program.
        start: Java's arguments, with ``{jar}`` for the program.
        arguments: the program's own arguments, besides host and port.
    """

    name: str
    title: str
    component: str
    jars: str
    start: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    def jar(self, sdk: Path) -> Path | None:
        """Return its program, or None if the SDK lacks it."""
        return max(sdk.glob(self.jars), default=None)


FIRESTORE = Emulator(
    name="firestore",
    title="Firestore emulator",
    component="cloud-firestore-emulator",
    jars="platform/cloud-firestore-emulator/cloud-firestore-emulator.jar",
    start=("-cp", "{jar}", "com.google.cloud.datastore.emulator.firestore.CloudFirestore"),
    arguments=("--database-mode=firestore-native",),
)
PUBSUB = Emulator(
    name="pubsub",
    title="Pub/Sub emulator",
    component="pubsub-emulator",
    jars="platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar",
    start=("-jar", "{jar}"),
)
EMULATORS = (FIRESTORE, PUBSUB)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where Java and the SDK are on this machine."""

    java: Path
    sdk: Path

    def command(self, emulator: Emulator, *, port: int, temp_folder: Path) -> list[str]:
        """Return the command line that serves an emulator on a port of the loopback address."""
        jar = str(emulator.jar(self.sdk))
        start = [part.format(jar=jar) for part in emulator.start]
        temp = f"-Djava.io.tmpdir={temp_folder}"
        address = ["--host=127.0.0.1", f"--port={port}"]
        return [str(self.java), *_JVM_OPTIONS, temp, *start, *address, *emulator.arguments]


def find_installation(*, installs: bool = True) -> Installation:
    """Find Java and the emulators.

    Args:
        installs: whether missing emulators are installed if the SDK can do so.

    Raises:
        LocalCloudError: something is missing; the message says in one line how to install it.
    """
    java = next((java for java in _javas() if _java_version(java) >= _LEAST_JAVA), None)
    if java is None:
        raise LocalCloudError(_JAVA_MISSING)
    likeliest: Path | None = None
    for sdk in _sdks():
        likeliest = likeliest or sdk
        if all(emulator.jar(sdk) for emulator in EMULATORS):
            return Installation(java=java, sdk=sdk)
    if likeliest is None:
        raise LocalCloudError(_SDK_MISSING)
    for emulator in EMULATORS:
        if not emulator.jar(likeliest):
            if not installs:
                raise LocalCloudError(f"Google's {emulator.title} is missing from {likeliest}.")
            _install(emulator, likeliest)
    return Installation(java=java, sdk=likeliest)


def _javas() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if on_path := shutil.which("java"):
        yield Path(on_path)
    if platform.system() == "Darwin":
        found = _output("/usr/libexec/java_home", "-v", f"{_LEAST_JAVA}+")
        if found:
            yield Path(found, "bin", "java")


def _java_version(java: Path) -> int:
    """Return the major version of a Java; 0 if it is none."""
    match = re.search(r'version "(\d+)', _output(str(java), "-version"))
    return int(match[1]) if match else 0


def _sdks() -> Iterator[Path]:
    """Yield folders where the SDK may be, the likeliest first; calling gcloud takes a second."""
    if root := os.environ.get("CLOUDSDK_ROOT_DIR"):
        yield Path(root)
    gcloud = shutil.which("gcloud")
    if not gcloud:
        return
    beside = Path(gcloud).resolve().parent.parent
    if (beside / "platform").is_dir():
        yield beside
    if told := _output(gcloud, "info", "--format=value(installation.sdk_root)"):
        yield Path(told.splitlines()[-1])


def _install(emulator: Emulator, sdk: Path) -> None:
    """Let the SDK install an emulator.

    Raises:
        LocalCloudError: it cannot. The message has a command for people; gcloud names it if a
            package manager owns the SDK.
    """
    gcloud = shutil.which("gcloud") or str(sdk / "bin" / "gcloud")
    command = [gcloud, "components", "install", emulator.component, "--quiet"]
    print(f"Installing Google's {emulator.title}: {' '.join(command)}", flush=True)
    said = _output(*command)
    if not emulator.jar(sdk):
        by_hand = re.search(r"^\s*(sudo .+)$", said, re.MULTILINE)
        advice = by_hand[1].strip() if by_hand else " ".join(command)
        raise LocalCloudError(
            f"Google's {emulator.title} is missing from {sdk}. Install it with: {advice}"
        )


def _output(*command: str) -> str:
    """Return what a program prints; nothing if it cannot be run."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()
