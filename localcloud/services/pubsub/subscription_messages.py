"""The messages that describe subscriptions: checked, and their defaults filled in.

The ranges and defaults are those of the reference of ``Subscription``, ``RetryPolicy``,
``DeadLetterPolicy`` and ``ExpirationPolicy``.
"""

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from google import pubsub_v1

from localcloud.services.call_errors import InvalidArgumentError, OutOfRangeError
from localcloud.services.pubsub import names
from localcloud.services.pubsub.backlog import DeliveryRules
from localcloud.services.pubsub.publishing import check_range
from localcloud.services.pubsub.retries import AT_ONCE, RetryPolicy
from localcloud.services.pubsub.settings_messages import (
    LEAST_RETENTION,
    MOST_RETENTION,
    merge,
    read_duration,
    refuse_fields,
)

LEAST_ACK_DEADLINE_SECONDS = 10
MOST_ACK_DEADLINE_SECONDS = 600
MOST_BACKOFF = timedelta(seconds=600)
LEAST_ATTEMPTS = 5
MOST_ATTEMPTS = 100
LEAST_EXPIRATION = timedelta(days=1)

_NO_TIME = timedelta(0)
_DEFAULT_RETENTION = timedelta(days=7)
_DEFAULT_EXPIRATION = timedelta(days=31)
_LONGEST = timedelta(days=36500)

_UNSUPPORTED = (
    "bigquery_config",
    "cloud_storage_config",
    "bigtable_config",
    "filter",
    "enable_exactly_once_delivery",
    "message_transforms",
)
_IMMUTABLE = frozenset({"name", "topic", "filter", "enable_message_ordering", "tags"})
_OUTPUT_ONLY = (
    "detached",
    "topic_message_retention_duration",
    "state",
    "analytics_hub_subscription_info",
)

_Subscription = pubsub_v1.Subscription.pb()


def read_subscription(message: Any) -> tuple[Any, DeliveryRules]:
    """Check a subscription's settings and fill in the defaults.

    Returns:
        The message with the settings, and what it says about delivery.

    Raises:
        InvalidArgumentError: a setting is wrong or out of its range.
        OutOfRangeError: the number of delivery attempts is.
        UnimplementedError: a setting would be ignored here.
    """
    refuse_fields(message, _UNSUPPORTED)
    settings = _Subscription()
    settings.CopyFrom(message)
    for field in _OUTPUT_ONLY:
        settings.ClearField(field)
    settings.ack_deadline_seconds = settings.ack_deadline_seconds or LEAST_ACK_DEADLINE_SECONDS
    check_ack_deadline(settings.ack_deadline_seconds, least=LEAST_ACK_DEADLINE_SECONDS)
    check_push_config(settings.push_config)
    settings.push_config.SetInParent()
    _read_expiration(settings)
    return settings, DeliveryRules(
        retry=_read_retry(settings),
        max_attempts=_read_attempts(settings),
        retention=_read_retention(settings),
        ordered=settings.enable_message_ordering,
    )


def merge_subscription(settings: Any, sent: Any, mask: Any) -> tuple[Any, DeliveryRules]:
    """Return what ``read_subscription`` does, after an update of the fields in the mask.

    Raises:
        InvalidArgumentError: the mask is wrong, or a setting is.
        OutOfRangeError: the number of delivery attempts is out of its range.
        UnimplementedError: a setting would be ignored here.
    """
    return read_subscription(merge(settings, sent, mask, _IMMUTABLE))


def check_ack_deadline(seconds: int, *, least: int) -> None:
    """Refuse an acknowledgement deadline that is out of its range.

    Raises:
        InvalidArgumentError: it is.
    """
    check_range("ack_deadline_seconds", seconds, least=least, most=MOST_ACK_DEADLINE_SECONDS)


def check_push_config(config: Any) -> None:
    """Refuse an endpoint that is no URL, a token of nobody, and what would be ignored here.

    Raises:
        InvalidArgumentError: the endpoint or the token is wrong.
        UnimplementedError: it has ``no_wrapper`` or asks for an old format.
    """
    refuse_fields(config, ("no_wrapper",))
    if config.attributes.get("x-goog-version", "v1") not in {"v1", "v1beta2"}:
        raise InvalidArgumentError("Only version v1 of the push format is supported here.")
    endpoint = config.push_endpoint
    if endpoint and not (
        urlsplit(endpoint).scheme in {"http", "https"} and urlsplit(endpoint).netloc
    ):
        raise InvalidArgumentError(f"Invalid push endpoint given (endpoint={endpoint}).")
    if config.HasField("oidc_token") and not config.oidc_token.service_account_email:
        raise InvalidArgumentError("PushConfig.oidc_token needs a service_account_email.")


def _read_retry(settings: Any) -> RetryPolicy:
    """Return the policy; without one a message comes again at once, but see ``PushPace``."""
    if not settings.HasField("retry_policy"):
        return AT_ONCE
    policy, default = settings.retry_policy, RetryPolicy()
    for field in ("minimum_backoff", "maximum_backoff"):
        if not policy.HasField(field):
            getattr(policy, field).FromTimedelta(getattr(default, field))
    minimum = read_duration(policy, "minimum_backoff", least=_NO_TIME, most=MOST_BACKOFF)
    maximum = read_duration(policy, "maximum_backoff", least=_NO_TIME, most=MOST_BACKOFF)
    if minimum > maximum:
        raise InvalidArgumentError(
            "RetryPolicy.minimum_backoff must not be longer than RetryPolicy.maximum_backoff."
        )
    return RetryPolicy(minimum, maximum)


def _read_attempts(settings: Any) -> int | None:
    if not settings.HasField("dead_letter_policy"):
        return None
    policy = settings.dead_letter_policy
    names.check_topic_name(policy.dead_letter_topic)
    policy.max_delivery_attempts = policy.max_delivery_attempts or LEAST_ATTEMPTS
    try:
        check_range(
            "max_delivery_attempts",
            policy.max_delivery_attempts,
            least=LEAST_ATTEMPTS,
            most=MOST_ATTEMPTS,
        )
    except InvalidArgumentError as error:
        raise OutOfRangeError(str(error)) from error
    return int(policy.max_delivery_attempts)


def _read_retention(settings: Any) -> timedelta:
    if not settings.HasField("message_retention_duration"):
        settings.message_retention_duration.FromTimedelta(_DEFAULT_RETENTION)
    return read_duration(
        settings, "message_retention_duration", least=LEAST_RETENTION, most=MOST_RETENTION
    )


def _read_expiration(settings: Any) -> None:
    """Fill in the default; a policy without ``ttl`` means never."""
    if not settings.HasField("expiration_policy"):
        settings.expiration_policy.ttl.FromTimedelta(_DEFAULT_EXPIRATION)
    elif settings.expiration_policy.HasField("ttl"):
        read_duration(settings.expiration_policy, "ttl", least=LEAST_EXPIRATION, most=_LONGEST)
