"""The names of queues and tasks, and the pages of lists."""

import re

from localcloud.services.call_errors import InvalidArgumentError

_LOCATION = re.compile(r"projects/[A-Za-z0-9:.-]+/locations/[A-Za-z0-9-]+")
_QUEUE = re.compile(_LOCATION.pattern + r"/queues/[A-Za-z0-9-]{1,100}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")


def check_location_name(name: str) -> None:
    """Refuse a name that is not ``projects/…/locations/…``.

    Raises:
        InvalidArgumentError: it is not.
    """
    if not _LOCATION.fullmatch(name):
        raise InvalidArgumentError(
            'Location name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>".'
        )


def check_queue_name(name: str) -> None:
    """Refuse a name that is not a legal full queue name.

    Raises:
        InvalidArgumentError: it is not.
    """
    if not _QUEUE.fullmatch(name):
        raise InvalidArgumentError(
            'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/'
            '<QUEUE_ID>".'
        )


def split_task_name(name: str) -> tuple[str, str]:
    """Return the queue's name and the task's id.

    Raises:
        InvalidArgumentError: it is not a legal full task name.
    """
    queue_name, separator, task_id = name.partition("/tasks/")
    if not separator or not _QUEUE.fullmatch(queue_name):
        raise InvalidArgumentError(
            'Task name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/'
            '<QUEUE_ID>/tasks/<TASK_ID>".'
        )
    if not _TASK_ID.fullmatch(task_id):
        raise InvalidArgumentError(
            f'Task ID "{task_id}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens '
            "(-), or underscores (_). Task ID must between 1 and 500 characters."
        )
    return queue_name, task_id


def page_size(requested: int, largest: int) -> int:
    """Return how many entries a page has: the requested number, at most ``largest``.

    Raises:
        InvalidArgumentError: it is negative.
    """
    if requested < 0:
        raise InvalidArgumentError("page_size must not be negative.")
    return min(requested or largest, largest)
