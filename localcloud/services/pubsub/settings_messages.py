"""What the settings of topics and subscriptions have in common: durations, updates, refusals.

Messages are the protocol buffers under the library's types (``pubsub_v1.Topic.pb()``). Unlike these
types, they tell an unset field from a zero, and they are cheap.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from localcloud.services.call_errors import InvalidArgumentError, UnimplementedError

# Reference of the field: "Cannot be more than 31 days or less than 10 minutes".
LEAST_RETENTION = timedelta(minutes=10)
MOST_RETENTION = timedelta(days=31)


def read_duration(message: Any, field: str, *, least: timedelta, most: timedelta) -> timedelta:
    """Return a field that is a duration.

    Raises:
        InvalidArgumentError: it is no duration, or out of its range.
    """
    try:
        duration: timedelta = getattr(message, field).ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"{field} is not a duration: {error}") from error
    if not least <= duration <= most:
        given, lowest, highest = (each.total_seconds() for each in (duration, least, most))
        raise InvalidArgumentError(
            f"The value for {field} is out of bounds. You passed {given:g}s in the request, but "
            f"the value must be between {lowest:g}s and {highest:g}s."
        )
    return duration


def refuse_fields(message: Any, fields: Iterable[str]) -> None:
    """Refuse settings that would be ignored here.

    Raises:
        UnimplementedError: one of them is set.
    """
    present = {field.name for field, _ in message.ListFields()}
    for field in fields:
        if field in present:
            kind = message.DESCRIPTOR.name
            raise UnimplementedError(f"{kind}.{field} is not supported here.")


def merge(settings: Any, sent: Any, mask: Any, immutable: frozenset[str]) -> Any:
    """Return settings after an update of the fields in its mask.

    Raises:
        InvalidArgumentError: the mask is empty, or names a field that does not exist or cannot
            change.
    """
    kind = settings.DESCRIPTOR.name
    if not mask.paths:
        raise InvalidArgumentError(
            f"The update_mask in the Update{kind}Request must be set, and must contain a non-empty "
            "paths list."
        )
    told = f"Invalid update_mask provided in the Update{kind}Request"
    for path in mask.paths:
        field = path.partition(".")[0]
        if field in immutable:
            raise InvalidArgumentError(f"{told}: the {field} field in the {kind} is not mutable.")
        if field not in settings.DESCRIPTOR.fields_by_name:
            raise InvalidArgumentError(f"{told}: {field} is not a known {kind} field.")
    if not mask.IsValidForDescriptor(settings.DESCRIPTOR):
        raise InvalidArgumentError(f"{told}: unknown field in {', '.join(mask.paths)}.")
    merged = type(settings)()
    merged.CopyFrom(settings)
    mask.MergeMessage(sent, merged, replace_message_field=True, replace_repeated_field=True)
    return merged
