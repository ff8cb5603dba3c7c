"""The names of projects, topics and subscriptions, and the pages of lists."""

import re
from bisect import bisect_right
from collections.abc import Iterable

from localcloud.services.call_errors import InvalidArgumentError

DELETED_TOPIC = "_deleted-topic_"
LARGEST_PAGE = 1000

_PROJECT = re.compile(r"projects/[A-Za-z0-9:.-]+")
# Reference of ``Topic.name`` and ``Subscription.name``: it starts with a letter, has 3 to 255 of
# these characters, and does not start with "goog".
_ID = r"(?!goog)[A-Za-z][A-Za-z0-9_.~+%-]{2,254}"
_TOPIC = re.compile(f"{_PROJECT.pattern}/topics/{_ID}")
_SUBSCRIPTION = re.compile(f"{_PROJECT.pattern}/subscriptions/{_ID}")


def check_project_name(name: str) -> None:
    """Refuse a name that is not ``projects/…``.

    Raises:
        InvalidArgumentError: it is not.
    """
    _check(_PROJECT, "projects", name)


def check_topic_name(name: str) -> None:
    """Refuse a name that is not a legal full topic name.

    Raises:
        InvalidArgumentError: it is not.
    """
    _check(_TOPIC, "topics", name)


def check_subscription_name(name: str) -> None:
    """Refuse a name that is not a legal full subscription name.

    Raises:
        InvalidArgumentError: it is not.
    """
    _check(_SUBSCRIPTION, "subscriptions", name)


def project_of(name: str) -> str:
    """Return the project's id in the full name of a topic or subscription."""
    return name.split("/")[1]


def id_of(name: str) -> str:
    """Return the last part of the full name of a topic or subscription."""
    return name.rpartition("/")[2]


def page(names: Iterable[str], size: int, token: str) -> tuple[list[str], str]:
    """Return a page of names in their order, and the token of the next page, empty for none.

    The token is the last name of the page.

    Raises:
        InvalidArgumentError: the size is negative.
    """
    if size < 0:
        raise InvalidArgumentError("page_size must not be negative.")
    ordered = sorted(names)
    first = bisect_right(ordered, token)
    found = ordered[first : first + min(size or LARGEST_PAGE, LARGEST_PAGE)]
    more = first + len(found) < len(ordered)
    return found, found[-1] if more else ""


def _check(pattern: re.Pattern[str], collection: str, name: str) -> None:
    if not pattern.fullmatch(name):
        # The words of Google's emulator.
        raise InvalidArgumentError(f"Invalid [{collection}] name: (name={name})")
