"""The answers of Compute's list methods: filtered, and a page at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TypeVar

from localcloud.services.compute import errors
from localcloud.services.compute.calls import Call
from localcloud.services.compute.filters import compile_filter
from localcloud.services.compute.resources import (
    Disk,
    Instance,
    Json,
    Operation,
    Snapshot,
    link,
)
from localcloud.services.project import Project, scope_of

_Resource = TypeVar("_Resource", bound="Instance | Disk | Snapshot | Operation")

_LARGEST_PAGE = 500


def list_zone(
    project: Project,
    call: Call,
    kind: str,
    resources: Sequence[Instance | Disk | Snapshot | Operation],
) -> Json:
    """Return a page of the resources in the zone of a call, or of those that belong to none."""
    rows, token = _page(call, [each for each in resources if each.zone == call.zone])
    return _document(project, call, kind, [row.resource for row in rows], token)


def list_all_zones(
    project: Project, call: Call, kind: str, resources: Sequence[Instance | Disk]
) -> Json:
    """Return a page of the resources of every zone, each zone by itself."""
    rows, token = _page(call, resources)
    member = call.kind
    scopes: Json = {}
    for zone in project.zones:
        scope = f"zones/{zone}"
        found = [row.resource for row in rows if row.zone == zone]
        scopes[scope] = {member: found} if found else {"warning": _no_results(scope)}
    return _document(project, call, kind, scopes, token)


def _document(
    project: Project, call: Call, kind: str, items: list[Json] | Json, token: str | None
) -> Json:
    collection = call.kind.removeprefix("zone").removeprefix("global").lower()
    scope = scope_of(call.zone) if call.zone else "aggregated"
    path = f"{project.path}/{scope}/{collection}"
    document: Json = {"kind": kind, "id": path, "items": items, "selfLink": link(path)}
    if token:
        document["nextPageToken"] = token
    return document


def _page(call: Call, resources: Sequence[_Resource]) -> tuple[list[_Resource], str | None]:
    """Return the resources that match the filter and are on the page, and the next page's token.

    A token names the last resource of its page, so what is created or deleted between two pages
    moves nothing.
    """
    matches = compile_filter(call.query.get("filter", ""))
    limit = call.number("maxResults", default=_LARGEST_PAGE, low=0, high=_LARGEST_PAGE)
    limit = limit or _LARGEST_PAGE
    after = _read_token(call.query.get("pageToken", ""))
    rest = [row for row in resources if [row.zone, row.name] > after and matches(row.resource)]
    page = rest[:limit]
    if len(rest) <= limit:
        return page, None
    return page, _token([page[-1].zone, page[-1].name])


def _token(last: list[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(last).encode()).decode()


def _read_token(token: str) -> list[str]:
    try:
        last = json.loads(base64.urlsafe_b64decode(token)) if token else []
    except ValueError:
        last = None
    if not isinstance(last, list) or not all(isinstance(part, str) for part in last):
        raise errors.invalid_value("pageToken", token, "The page token is not one of this list.")
    return last


def _no_results(scope: str) -> Json:
    return {
        "code": "NO_RESULTS_ON_PAGE",
        "message": f"There are no results for scope '{scope}' on this page.",
        "data": [{"key": "scope", "value": scope}],
    }
