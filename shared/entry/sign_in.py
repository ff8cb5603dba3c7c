"""How people sign in to this Hub, and which optional features it has: constants of a deployment."""

from typing import Any

from shared.config import GOOGLE_KEYS_URL, IdentitySource, Settings
from shared.entry.description import description

# What clients must know to use a Hub at all. It goes up when older clients would go wrong.
API = 1
FEATURES = (
    "connect",
    "name_filter",
    "host_key",
    "access",
    "dry_run",
    "etag",
    "me",
    "outlook",
    "keep_awake",
    "snapshots",
    "restore",
    "undelete",
    "archive",
)
# The audience of `gcloud auth print-identity-token`, for all people and Hubs (seen in its tokens).
GCLOUD_AUDIENCE = "32555940559.apps.googleusercontent.com"

Method = dict[str, Any]


def sign_in_json(settings: Settings) -> dict[str, Any]:
    """Return what ``GET /sign-in`` answers. Nothing in it is secret, and nothing depends on whom.

    Clients ignore members, kinds and features that they do not know.
    """
    connect, info = settings.connect, description()["info"]
    return {
        "hub": {"name": info["title"], "version": info["version"], "api": API},
        "address": settings.address or None,
        "methods": _methods(settings),
        "connect": {
            "kind": connect.kind.value,
            "port": connect.port,
            "jump": connect.jump or None,
            "user": connect.user or None,
        },
        "features": list(FEATURES),
    }


def _methods(settings: Settings) -> list[Method]:
    """Return the ways to prove who one is, the best for a person's command first."""
    if settings.identity.source is IdentitySource.IAP:
        return _methods_of_iap(settings)
    if settings.identity.keys_url != GOOGLE_KEYS_URL:  # somebody else signs the tokens
        return [{"kind": "local"}]
    sign_in, audiences = settings.sign_in, settings.identity.user_audiences
    methods: list[Method] = []
    if sign_in.oauth_client_id:
        methods.append(
            {
                "kind": "oauth",
                "client_id": sign_in.oauth_client_id,
                "client_secret": sign_in.oauth_client_secret or None,
                "audience": sign_in.oauth_client_id,
            }
        )
    if sign_in.oauth_web_client_id:
        methods.append({"kind": "oauth_web", "client_id": sign_in.oauth_web_client_id})
    if GCLOUD_AUDIENCE in audiences:
        methods.append({"kind": "gcloud", "audience": None})
    if settings.address in audiences:
        methods.append({"kind": "service_account", "audience": settings.address})
    return methods


def _methods_of_iap(settings: Settings) -> list[Method]:
    """Return the one way through Identity-Aware Proxy, for people and for service accounts.

    ``audience`` is None if nobody has set up the proxy for programs; then only browsers get in.
    """
    sign_in = settings.sign_in
    audience = sign_in.iap_audience or sign_in.oauth_client_id or None
    through_the_proxy = {
        "kind": "iap",
        "audience": audience,
        "client_id": sign_in.oauth_client_id or None,
        "client_secret": sign_in.oauth_client_secret or None,
    }
    if audience is None:
        return [through_the_proxy]
    return [through_the_proxy, {"kind": "service_account", "audience": audience}]
