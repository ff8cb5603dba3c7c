"""What an organisation's own account allows: the organisation's limits, and administration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.domain.access import Person
from tests.functions.conftest import Functions

LIMITS = {
    "HUB_ALLOWED_EMAILS": "*",
    "HUB_LIMITS_OF": "example.org=4:2",
    "HUB_RUNNING_PER_OWNER": "1",
}


def create_several(hub: Functions, count: int, token: str) -> list[int]:
    """Create workspaces, and return the status of each answer."""
    return [
        hub.create({"name": f"{token}-{number}"}, token=token).status_code
        for number in range(count)
    ]


def test_an_organisations_limits_are_for_its_own_accounts(hub: Functions) -> None:
    """Another account with an address of the domain has the default limits."""
    hub.configure(**LIMITS)
    hub.identity.people |= {
        "outsider": Person("outsider", "eve@example.org"),
        "elsewhere": Person("elsewhere", "eve@example.org", "example.net"),
    }
    assert create_several(hub, 3, "bob") == [201, 201, 403]
    assert create_several(hub, 2, "outsider") == [201, 403]
    assert create_several(hub, 2, "elsewhere") == [201, 403]


def started_by(hub: Functions, token: str) -> int:
    """Return the status when somebody starts Bob's second workspace while the first runs."""
    first = hub.create({"name": "first"}, token="bob").get_json()["id"]
    second = hub.create({"name": "second"}, token="bob").get_json()["id"]
    hub.world.run()
    assert hub.stop(second, token="bob").status_code == 202
    hub.world.run()
    assert hub.status(first, token="bob").get_json()["status"] == "READY"
    return hub.start(second, token=token).status_code


@pytest.mark.parametrize("token", ["bob", "grace"])
def test_an_administrators_start_has_the_limits_of_the_owners_organisation(
    hub: Functions, token: str
) -> None:
    """The owner proved it at their last change; the administrator's own limits do not count."""
    hub.configure(**LIMITS)
    assert started_by(hub, token) == 202


def test_an_owner_without_a_known_organisation_has_the_default_limits(
    hub: Functions,
) -> None:
    """An earlier version left such owners; their own next change records the organisation."""
    hub.configure(**LIMITS)
    second = hub.create({"name": "second"}, token="bob").get_json()["id"]
    hub.world.run()
    hub.stop(second, token="bob")
    hub.world.run()
    hub.create({"name": "first"}, token="bob")
    owner = hub.world.store.get_owner("bob").record
    assert owner.domain == "example.org"
    hub.world.store.put_owner(replace(owner, domain=None))

    assert hub.start(second, token="grace").status_code == 403
    assert hub.start(second, token="bob").status_code == 202
    assert hub.world.store.get_owner("bob").record.domain == "example.org"


def test_a_person_who_leaves_an_organisation_loses_its_limits(hub: Functions) -> None:
    """The first change without its account ends them."""
    hub.configure(**LIMITS)
    assert create_several(hub, 1, "bob") == [201]
    hub.identity.people["bob"] = Person("bob", "bob@example.org")
    assert hub.create({"name": "another"}, token="bob").status_code == 403


def test_an_administrator_needs_an_account_of_the_organisation(hub: Functions) -> None:
    """A person may also be named as an administrator from outside."""
    hub.identity.people |= {
        "eve": Person("eve", "grace@example.com"),
        "heidi": Person("heidi", "heidi@gmail.com"),
    }
    hub.configure(HUB_OUTSIDE_ADMIN_EMAILS="heidi@gmail.com")
    everybodys = {
        token: hub.list_workspaces("?all=true", token=token).status_code
        for token in ("grace", "eve", "heidi")
    }
    assert everybodys == {"grace": 200, "eve": 403, "heidi": 200}
