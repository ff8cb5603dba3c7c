"""What Compute's errors mean, by its code first, then by the HTTP status."""

import pytest

from shared.domain.instance import FaultKind, classify

# HTTP status, Compute's reason or code: what it means
MEANINGS = [
    (503, "ZONE_RESOURCE_POOL_EXHAUSTED", FaultKind.STOCK_OUT),
    (400, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", FaultKind.STOCK_OUT),
    (400, "stockout", FaultKind.STOCK_OUT),
    (403, "QUOTA_EXCEEDED", FaultKind.QUOTA),
    (403, "quotaExceeded", FaultKind.QUOTA),
    (403, "rateLimitExceeded", FaultKind.TRANSIENT),
    (429, "rateLimitExceeded", FaultKind.TRANSIENT),
    (400, "resourceNotReady", FaultKind.NOT_READY),
    (400, "RESOURCE_NOT_READY", FaultKind.NOT_READY),
    (412, "conditionNotMet", FaultKind.NOT_READY),
    (400, "resourceInUseByAnotherResource", FaultKind.NOT_READY),
    (400, "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", FaultKind.NOT_READY),
    (409, "alreadyExists", FaultKind.ALREADY_EXISTS),
    (409, "RESOURCE_ALREADY_EXISTS", FaultKind.ALREADY_EXISTS),
    (404, "notFound", FaultKind.NOT_FOUND),
    (404, "RESOURCE_NOT_FOUND", FaultKind.NOT_FOUND),
    (400, "UNSUPPORTED_OPERATION", FaultKind.UNSUPPORTED),
    (403, "PERMISSIONS_ERROR", FaultKind.PERMISSION),
    (403, "forbidden", FaultKind.PERMISSION),
    (500, "INTERNAL_ERROR", FaultKind.TRANSIENT),
    (503, "SERVICE_UNAVAILABLE", FaultKind.TRANSIENT),
    (503, "backendError", FaultKind.TRANSIENT),
    (400, "", FaultKind.INVALID),
    (401, "", FaultKind.PERMISSION),
    (403, "", FaultKind.PERMISSION),
    (404, "", FaultKind.NOT_FOUND),
    (409, "", FaultKind.ALREADY_EXISTS),
    (412, "", FaultKind.NOT_READY),
    (429, "", FaultKind.TRANSIENT),
    (500, "", FaultKind.TRANSIENT),
    (503, "somethingNew", FaultKind.TRANSIENT),
    (413, "somethingNew", FaultKind.INVALID),
    (418, "", FaultKind.INVALID),
]


@pytest.mark.parametrize(("http_status", "code", "kind"), MEANINGS)
def test_what_an_error_of_compute_means(http_status: int, code: str, kind: FaultKind) -> None:
    """The code decides where it is known; an error that nobody understands is not retried for ever."""
    fault = classify(http_status, code, "Compute's own words.")

    assert (fault.kind, fault.code, fault.message) == (kind, code, "Compute's own words.")
