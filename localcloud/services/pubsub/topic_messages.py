"""The messages that describe topics, checked when they arrive."""

from typing import Any

from google import pubsub_v1

from localcloud.services.pubsub.settings_messages import (
    LEAST_RETENTION,
    MOST_RETENTION,
    merge,
    read_duration,
    refuse_fields,
)

_UNSUPPORTED = (
    "message_storage_policy",
    "kms_key_name",
    "schema_settings",
    "ingestion_data_source_settings",
    "message_transforms",
)
_IMMUTABLE = frozenset({"name", "tags"})
_OUTPUT_ONLY = ("satisfies_pzs", "state")

_Topic = pubsub_v1.Topic.pb()


def read_topic(message: Any) -> Any:
    """Check a topic's settings and return them as callers see them.

    Raises:
        InvalidArgumentError: a setting is out of its range.
        UnimplementedError: a setting would be ignored here.
    """
    refuse_fields(message, _UNSUPPORTED)
    settings = _Topic()
    settings.CopyFrom(message)
    for field in _OUTPUT_ONLY:
        settings.ClearField(field)
    if settings.HasField("message_retention_duration"):
        read_duration(
            settings, "message_retention_duration", least=LEAST_RETENTION, most=MOST_RETENTION
        )
    return settings


def merge_topic(settings: Any, sent: Any, mask: Any) -> Any:
    """Return a topic's settings after an update of the fields in its mask.

    Raises:
        InvalidArgumentError: the mask is wrong, or a setting is out of its range.
        UnimplementedError: a setting would be ignored here.
    """
    return read_topic(merge(settings, sent, mask, _IMMUTABLE))
