"""The local cloud's own Firestore server for tests, and clients of any Firestore server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from unittest import mock

import pytest
from google.cloud import firestore

from localcloud.catalogue import ROOT


@contextlib.contextmanager
def embedded_server(*options: str) -> Iterator[tuple[str, int]]:
    """Run a server, and yield its ``host:port`` and its process id.

    It also ends if the test process is killed: its standard input ends then.
    """
    command = [sys.executable, "-m", "localcloud.services.firestore", "--port", "0"]
    with subprocess.Popen(
        [*command, "--end-with-input", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        word, _, address = process.stdout.readline().strip().partition(" ")
        assert word == "ready"
        yield address, process.pid
        process.kill()


@pytest.fixture(scope="session")
def embedded_firestore() -> Iterator[str]:
    """``host:port`` of a server of the local cloud's own. Tests share it: use your own project.

    It has the indexes of the repository. Documents do not expire, since tests make old ones.
    """
    with embedded_server("--sweep-seconds", "86400") as (address, _):
        yield address


@contextlib.contextmanager
def client_of(address: str, database: str = "(default)") -> Iterator[firestore.Client]:
    """Yield a client of a project that no other test uses."""
    with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": address}):
        client = firestore.Client(project=f"test-{uuid.uuid4().hex[:16]}", database=database)
    yield client
    client.close()  # type: ignore[no-untyped-call]
