"""The task edge: what Cloud Tasks calls."""

from collections.abc import Callable

from flask import Request, Response
from werkzeug.exceptions import UnsupportedMediaType

from shared import logs
from shared.bootstrap import Hub
from shared.domain.job_messages import MalformedJobError, read_job
from shared.domain.jobs import Job
from shared.entry.http import Answer, endpoint


def job_task(
    hub: Hub, route: str
) -> Callable[[Callable[[Job], None]], Callable[[Request], Response]]:
    """Make an HTTP function of a handler that does a job.

    Returning ends the task; raising has Cloud Tasks send it again with backoff. A task that is not
    a job is dropped with an error in the log, because Cloud Tasks has no dead letters.
    """

    def decorate(handler: Callable[[Job], None]) -> Callable[[Request], Response]:
        def answered(request: Request) -> Answer:
            # A web page can send any other type without a preflight request.
            if request.mimetype != "application/json":
                raise UnsupportedMediaType("Send the job as application/json.")
            try:
                job = read_job(request.get_data())
            except MalformedJobError as error:
                logs.error("MalformedJobDropped", error)
                return Answer(204)
            logs.request_id.set(job.request_id)
            handler(job)
            return Answer(204)

        answered.__name__ = handler.__name__
        answered.__module__ = handler.__module__
        return endpoint(hub, route)(answered)

    return decorate
