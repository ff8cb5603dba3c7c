"""What needs an organisation's own account: an organisation's limits, and administering."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from shared.domain.people import Person

if TYPE_CHECKING:
    from tests.functions.conftest import Functions

LIMITS = {
    "HUB_ALLOWED_EMAILS": "*",
    "HUB_LIMITS_OF": "example.org=4:2",
    "HUB_RUNNING_PER_OWNER": "1",
}


def names(hub: Functions, count: int, token: str) -> list[int]:
    """Have somebody ask for workspaces, and return what each time was answered."""
    return [
        hub.create({"name": f"{token}-{number}"}, token=token).status_code
        for number in range(count)
    ]


def test_an_organisations_limits_are_for_its_own_accounts(hub: Functions) -> None:
    """An account that somebody made of an address of its domain has the limits of everybody."""
    hub.configure(**LIMITS)
    hub.identity.people |= {
        "outsider": Person("outsider", "eve@example.org"),
        "elsewhere": Person("elsewhere", "eve@example.org", "example.net"),
    }
    assert names(hub, 3, "bob") == [201, 201, 403]
    assert names(hub, 2, "outsider") == [201, 403]
    assert names(hub, 2, "elsewhere") == [201, 403]


def started_by(hub: Functions, token: str) -> int:
    """Return what is answered when somebody starts Bob's second workspace, of which the first runs."""
    first = hub.create({"name": "first"}, token="bob").get_json()["id"]
    second = hub.create({"name": "second"}, token="bob").get_json()["id"]
    hub.world.run()
    assert hub.stop(second, token="bob").status_code == 202
    hub.world.run()
    assert hub.status(first, token="bob").get_json()["status"] == "READY"
    return hub.start(second, token=token).status_code


@pytest.mark.parametrize("token", ["bob", "grace"])
def test_an_administrator_starts_by_the_limits_of_the_owners_organisation(
    hub: Functions, token: str
) -> None:
    """Which the owner proved, when they last changed something; the administrator's own do not count."""
    hub.configure(**LIMITS)
    assert started_by(hub, token) == 202


def test_an_owner_of_whom_no_organisation_is_known_has_the_limits_of_everybody(
    hub: Functions,
) -> None:
    """As an earlier version left them, until they change something themselves."""
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


def test_who_leaves_an_organisation_leaves_its_limits(hub: Functions) -> None:
    """With the first thing that they change without its account."""
    hub.configure(**LIMITS)
    assert names(hub, 1, "bob") == [201]
    hub.identity.people["bob"] = Person("bob", "bob@example.org")
    assert hub.create({"name": "another"}, token="bob").status_code == 403


def test_an_administrator_needs_the_account_that_the_organisation_runs(hub: Functions) -> None:
    """Or has to be named as one from outside."""
    hub.identity.people |= {
        "eve": Person("eve", "grace@example.com"),
        "heidi": Person("heidi", "heidi@gmail.com"),
    }
    hub.configure(HUB_OUTSIDE_ADMIN_EMAILS="heidi@gmail.com")
    everybodys = {
        token: hub.listed("?all=true", token=token).status_code
        for token in ("grace", "eve", "heidi")
    }
    assert everybodys == {"grace": 200, "eve": 403, "heidi": 200}
