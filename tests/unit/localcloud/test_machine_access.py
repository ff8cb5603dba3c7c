"""Who may enter a local machine, by its instance's policy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from localcloud.machines.access import who_may_enter
from localcloud.services.compute.resources import Instance

LOGIN = "roles/compute.osLogin"


@pytest.mark.parametrize(
    ("bindings", "people"),
    [
        ([], set()),
        ([{"role": LOGIN, "members": ["user:Alice@example.com"]}], {"alice@example.com"}),
        (
            [
                {"role": LOGIN, "members": ["user:a@x.org", "serviceAccount:robot@x.org"]},
                {"role": "roles/compute.osAdminLogin", "members": ["user:b@x.org"]},
            ],
            {"a@x.org", "robot@x.org", "b@x.org"},
        ),
        ([{"role": "roles/compute.viewer", "members": ["user:a@x.org"]}], set()),
        ([{"role": LOGIN, "members": ["group:a@x.org", "domain:x.org"]}], set()),
        ([{"role": LOGIN, "members": ["deleted:user:a@x.org?uid=1"]}], set()),
        (
            [{"role": LOGIN, "members": ["user:a@x.org"], "condition": {"expression": "true"}}],
            set(),
        ),
    ],
)
def test_only_people_with_a_role_of_os_login_may_enter(
    bindings: list[dict[str, Any]], people: set[str]
) -> None:
    """What cannot be evaluated here, a condition, a group or a domain, lets in nobody."""
    instance = Instance(
        project_id="p",
        zone="z",
        resource={},
        created_at=datetime.now(UTC),
        policy={"bindings": bindings},
    )
    assert who_may_enter(instance) == people
