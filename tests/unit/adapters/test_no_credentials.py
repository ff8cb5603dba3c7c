"""A platform that does not give its credentials now, as while its metadata server hangs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

from shared.adapters.cloud_tasks_jobs import CloudTasksJobs
from shared.adapters.compute_machines import ComputeMachines
from shared.adapters.firestore_store import FirestoreWorkspaceStore
from shared.adapters.pubsub_jobs import PubSubJobs
from shared.domain.errors import UnavailableError
from shared.domain.jobs import Job
from shared.domain.policy import Policy
from shared.usecases.audit import AuditTrail
from shared.usecases.records import Records
from tests.fakes.clock import SettableClock
from tests.fakes.settings import MACHINE_SETTINGS
from tests.fakes.store import MemoryWorkspaceStore

NO_CREDENTIALS = (
    DefaultCredentialsError("Your default credentials were not found."),  # type: ignore[no-untyped-call]
    TransportError("The metadata server does not answer."),  # type: ignore[no-untyped-call]
)


def tasks() -> CloudTasksJobs:
    """Return the jobs of a queue at Google."""
    return CloudTasksJobs("projects/p/locations/l/queues/q", "https://a.b/", "a@b", None)


def compute() -> ComputeMachines:
    """Return the machines of a project at Google."""
    return ComputeMachines("p", MACHINE_SETTINGS, "https://a.b/", None)


@pytest.fixture(params=NO_CREDENTIALS, ids=lambda error: type(error).__name__)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the platform gives: nothing while it is empty."""
    given: list[object] = []

    def default(*_args: object, **_options: object) -> tuple[object, str]:
        if not given:
            raise request.param
        return given[0], "p"

    monkeypatch.setattr(google.auth, "default", default)
    return given


@pytest.mark.parametrize(
    "make",
    [
        lambda: FirestoreWorkspaceStore.of("p", "(default)", None),
        tasks,
        lambda: PubSubJobs("p", "a-topic", None),
        compute,
    ],
    ids=["store", "tasks", "topic", "compute"],
)
def test_a_client_without_credentials_is_an_outage_that_passes(
    credentials: list[object], make: Callable[[], object]
) -> None:
    """Whoever needs it is told to come again, and then it is made."""
    with pytest.raises(UnavailableError) as caught:
        make()
    assert isinstance(caught.value.__cause__, GoogleAuthError)
    credentials.append(AnonymousCredentials())  # type: ignore[no-untyped-call]
    make()


@pytest.mark.parametrize("kind", ["list_instances", "list_disks"])
def test_a_list_without_credentials_is_an_outage(credentials: list[object], kind: str) -> None:
    """A list has a client of its own."""
    credentials.append(AnonymousCredentials())  # type: ignore[no-untyped-call]
    machines = compute()
    credentials.clear()
    with pytest.raises(UnavailableError):
        next(getattr(machines, kind)())


@pytest.mark.usefixtures("credentials")
def test_a_job_that_cannot_be_sent_without_credentials_is_sent_later() -> None:
    """Its change is committed. So the request is accepted, as when the queue does not answer."""
    clock, store = SettableClock(), MemoryWorkspaceStore()
    records = Records(store, tasks, clock, AuditTrail(store, clock), Policy())
    records.send_later(Job("a-workspace", "an-operation", 0, delay=timedelta(0)))
