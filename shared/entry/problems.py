"""Errors as HTTP answers: problem+json (RFC 9457) with a stable code, and the status's headers."""

import json
import math
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from shared.domain import errors
from shared.entry.representation import operation_json

_STATUSES: dict[type[errors.HubError], tuple[int, str, str]] = {
    errors.InvalidRequestError: (400, "INVALID_REQUEST", "The request is not valid"),
    errors.NotAuthenticatedError: (401, "NOT_AUTHENTICATED", "Who you are is not proven"),
    errors.QuotaExceededError: (403, "QUOTA_EXCEEDED", "Your quota is used up"),
    errors.NotAllowedError: (403, "NOT_ALLOWED", "You may not do this"),
    errors.WorkspaceNotFoundError: (404, "WORKSPACE_NOT_FOUND", "There is no such workspace"),
    errors.SnapshotNotFoundError: (404, "SNAPSHOT_NOT_FOUND", "There is no such snapshot"),
    errors.LastCopyGoneError: (409, "LAST_COPY_GONE", "The last copy of its home is gone"),
    errors.NotDeletedError: (409, "NOT_DELETED", "The workspace is not deleted"),
    errors.OperationUnderWayError: (409, "OPERATION_UNDER_WAY", "Another operation is under way"),
    errors.NotAwakeError: (409, "NOT_AWAKE", "No machine runs"),
    errors.NameTakenError: (409, "NAME_TAKEN", "This name is taken"),
    errors.NoHomeError: (409, "NO_HOME", "There is no home disk"),
    errors.SnapshotNotReadyError: (409, "SNAPSHOT_NOT_READY", "This snapshot cannot be used"),
    errors.SnapshotInUseError: (409, "SNAPSHOT_IN_USE", "A workspace is made from this snapshot"),
    errors.ReportNotTakenError: (409, "REPORT_NOT_TAKEN", "This report does not count"),
    errors.WorkspaceGoneError: (410, "WORKSPACE_GONE", "That workspace has been deleted"),
    errors.IdempotencyKeyReusedError: (
        422,
        "IDEMPOTENCY_KEY_REUSED",
        "This key was used for another request",
    ),
    errors.TooManyRequestsError: (429, "TOO_MANY_REQUESTS", "You ask too often"),
    errors.InstanceNotRecordedError: (
        503,
        "INSTANCE_NOT_RECORDED",
        "The machine is not recorded yet",
    ),
    errors.UnavailableError: (503, "UNAVAILABLE", "Not now"),
}

_HTTP_CODES = {
    400: "BAD_REQUEST",
    403: "CROSS_SITE_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "BODY_TOO_SLOW",
    413: "BODY_TOO_LARGE",
    414: "URI_TOO_LONG",
    415: "UNSUPPORTED_MEDIA_TYPE",
    431: "HEADERS_TOO_LARGE",
}


def problem_of_hub_error(error: errors.HubError) -> Response:
    """Return the answer for one of the Hub's errors."""
    status, code, title = next(
        (entry for kind in type(error).__mro__ if (entry := _STATUSES.get(kind))),
        (500, "INTERNAL", "The Hub has a fault"),
    )
    more: dict[str, Any] = {}
    if isinstance(error, errors.InvalidRequestError):
        more["errors"] = [
            {"field": wrong.field, "message": wrong.message} for wrong in error.problems
        ]
    if isinstance(error, errors.OperationUnderWayError):
        more["operation"] = operation_json(error.operation)
    response = problem(status, code, title, str(error), **more)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="workspace-hub", error="invalid_token"'
    if status in {429, 503}:
        seconds = 1.0
        if isinstance(error, errors.UnavailableError | errors.TooManyRequestsError):
            seconds = error.retry_after.total_seconds()
        response.headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return response


def problem_of_http_error(error: HTTPException) -> Response:
    """Return the answer for an error of HTTP itself: path, method, size, content type."""
    status = error.code or 400
    response = problem(
        status, _HTTP_CODES.get(status, "BAD_REQUEST"), error.name, error.description or error.name
    )
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def problem_of_fault() -> Response:
    """Return the answer for a fault of the Hub, without details.

    The log has the details, with the request's id.
    """
    detail = (
        "The Hub has a fault. Try again; if it stays, tell whoever runs this Hub the request id."
    )
    return problem(500, "INTERNAL", "The Hub has a fault", detail)


def problem(status: int, code: str, title: str, detail: str, **more: Any) -> Response:
    """Return a problem+json response."""
    kind = f"urn:workspace-hub:problem:{code.lower().replace('_', '-')}"
    body = {"type": kind, "title": title, "status": status, "detail": detail, "code": code, **more}
    return Response(json.dumps(body), status=status, content_type="application/problem+json")
