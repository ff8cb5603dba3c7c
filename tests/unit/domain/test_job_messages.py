"""Jobs in messages: each comes back as it was sent, and other messages are rejected."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.job_messages import MalformedJobError, read_job, write_job
from shared.domain.jobs import PROMPTLY, Job

workspace_ids = st.text(min_size=1)
jobs = st.one_of(
    st.builds(Job, workspace_id=workspace_ids, delay=st.timedeltas()),
    st.builds(
        Job,
        workspace_id=workspace_ids,
        operation_id=st.none(),
        delay=st.timedeltas(),
        snapshot_id=st.text(min_size=1),
    ),
)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(jobs)
def test_a_job_comes_back_as_it_was_sent(job: Job) -> None:
    """Only the delay is left out: it is for the queue."""
    read = read_job(write_job(job))

    assert read == replace(job, delay=PROMPTLY)
    assert read.name == job.name


def test_a_job_of_an_older_version_is_read() -> None:
    """A field that is missing has its default."""
    message = b'{"workspace_id": "w", "operation_id": null, "step": 5}'

    assert read_job(message) == Job("w", None, 5, delay=timedelta(0))


def test_a_job_without_a_snapshot_is_sent_as_before() -> None:
    """An older version reads it, and the same message is the same task."""
    assert set(json.loads(write_job(Job("w", "o", 5)))) == {
        *("workspace_id", "operation_id", "step", "resend", "request_id")
    }


MALFORMED = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"job"',
    b"\xff\xfe",
    b"[" * 100_000,
    b"{}",
    b'{"workspace_id": "w", "operation_id": null}',
    b'{"workspace_id": "w", "step": 1}',
    b'{"workspace_id": 7, "operation_id": null, "step": 1}',
    b'{"workspace_id": "", "operation_id": null, "step": 1}',
    b'{"workspace_id": "w", "operation_id": 7, "step": 1}',
    b'{"workspace_id": "w", "operation_id": null, "step": "1"}',
    b'{"workspace_id": "w", "operation_id": null, "step": null}',
    b'{"workspace_id": "w", "operation_id": null, "step": 1, "snapshot_id": 7}',
    b'{"workspace_id": "w", "operation_id": null, "step": 1, "snapshot_id": ""}',
    b'{"workspace_id": "w", "operation_id": "o", "step": 1, "snapshot_id": "s"}',
]


@pytest.mark.parametrize("message", MALFORMED)
def test_a_message_that_is_not_a_job_is_rejected(message: bytes) -> None:
    """The one error is ``MalformedJobError``; the caller decides what to do with the message."""
    with pytest.raises(MalformedJobError, match="not a job"):
        read_job(message)
