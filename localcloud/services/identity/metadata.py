"""The metadata server of the local machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from localcloud.services.compute.resources import Instance
from localcloud.services.identity.tokens import TokenIssuer
from localcloud.services.project import Project

_HEADERS = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_IDENTITY_PATH = "instance/service-accounts/default/identity"


def answer_metadata(
    request: web.Request, instance: Instance | None, project: Project, issuer: TokenIssuer
) -> web.Response:
    """Answer a request of a machine at ``http://metadata.google.internal/computeMetadata/v1/…``.

    Args:
        request: its ``path`` is what follows ``v1/``.
        instance: the machine; None if it does not exist.
        project: its project.
        issuer: signs its identity tokens.
    """
    if request.headers.get("Metadata-Flavor") != "Google":
        return _error(403, 'Missing required header "Metadata-Flavor": "Google"')
    if not instance:
        return _error(404, "Not Found")
    path = request.match_info["path"]
    if path == _IDENTITY_PATH:
        return _answer_identity(instance, request.query, issuer)
    found: Any = _tree(instance, project)
    for part in filter(None, path.split("/")):
        found = found.get(part) if isinstance(found, dict) else None
    if found is None:
        return _error(404, "Not Found")
    if isinstance(found, str):
        return _answer(found)
    if request.query.get("recursive", "").lower() == "true":
        return _answer(json.dumps(found), content_type="application/json")
    names = (
        f"{name}/" if isinstance(below, dict) else name for name, below in sorted(found.items())
    )
    return _answer("".join(f"{name}\n" for name in names))


def _tree(instance: Instance, project: Project) -> dict[str, Any]:
    return {
        "instance": {
            "id": instance.id,
            "name": instance.name,
            "hostname": f"{instance.name}.{instance.zone}.c.{project.id}.internal",
            "zone": f"projects/{project.number}/zones/{instance.zone}",
            "attributes": instance.attributes(),
        },
        "project": {
            "project-id": project.id,
            "numeric-project-id": project.number,
            "attributes": {},
        },
    }


def _answer_identity(
    instance: Instance, query: Mapping[str, str], issuer: TokenIssuer
) -> web.Response:
    audience = query.get("audience", "")
    if not audience:
        return _error(400, "non-empty audience parameter required")
    full = query.get("format", "standard") == "full"
    try:
        token = issuer.instance_token(instance, audience, full=full)
    except LookupError:
        return _error(404, "Not Found")
    return _answer(token, content_type="text/html")


def _answer(text: str, *, content_type: str = "application/text") -> web.Response:
    return web.Response(text=text, content_type=content_type, headers=_HEADERS)


def _error(status: int, text: str) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)
