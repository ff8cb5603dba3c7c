"""Whom the Hub serves, and who is an administrator."""

from __future__ import annotations

import dataclasses

import pytest

from shared.domain.errors import NotAllowedError
from shared.domain.people import AccessRules, Asker, Mode, Person, admit

ADA = Person("108234567890123456789", "ada@example.com", "example.com")
PERSONAL = AccessRules(Mode.PERSONAL, ("ada@example.com",))
TEAM = AccessRules(Mode.TEAM, (), ("example.com",), ("grace@example.com",))


def is_served(person: Person, rules: AccessRules) -> bool:
    """Say whether the Hub serves a person."""
    try:
        admit(person, rules, "laptop-42")
    except NotAllowedError:
        return False
    return True


def test_who_is_served_asks_as_themselves_with_their_request() -> None:
    """Their id is Google's, and what they ask can be found by their request's id."""
    assert admit(ADA, PERSONAL, "laptop-42") == Asker(ADA.owner_id, "laptop-42", "ada@example.com", admin=False)


def test_who_is_not_served_is_told_so() -> None:
    """The refusal says what to do, and nothing of who is served."""
    with pytest.raises(NotAllowedError, match="Ask whoever runs it") as refused:
        admit(Person("1", "bob@example.com"), PERSONAL, "laptop-42")
    assert "ada" not in str(refused.value)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(
    ("email", "served"),
    [
        ("ada@example.com", True),
        ("Ada@Example.COM", True),
        ("ada@example.org", False),
        ("ada@example.com.evil.org", False),
        ("xada@example.com", False),
        ("", False),
        (None, False),
    ],
)
def test_an_address_is_served_when_it_is_named(mode: Mode, email: str | None, served: bool) -> None:
    """In either mode, in any case, and as a whole."""
    rules = AccessRules(mode, ("bob@example.com", "ada@example.com"))
    assert is_served(Person("1", email), rules) is served


@pytest.mark.parametrize("person", [ADA, Person("1", "bob@elsewhere.org"), Person("1")])
def test_everybody_is_served_where_everybody_is_named(person: Person) -> None:
    """Whoever proves who they are is enough, with an address or without."""
    assert is_served(person, AccessRules(Mode.PERSONAL, ("*",)))
    assert is_served(person, AccessRules(Mode.TEAM, ("*",)))


@pytest.mark.parametrize(
    ("email", "hosted", "served"),
    [
        ("ada@example.com", "example.com", True),
        ("ADA@EXAMPLE.COM", "Example.Com", True),
        ("ada@example.com", None, False),  # anybody can make a Google account of an address
        ("ada@example.com", "example.org", False),
        ("ada@example.org", "example.com", False),
        ("ada@mail.example.com", "mail.example.com", False),
        ("ada@mail.example.com", "example.com", False),
        ("ada@notexample.com", "notexample.com", False),
        ("ada@example.com@evil.org", "evil.org", False),
        ("example.com", None, False),
        (None, "example.com", False),
        (None, None, False),
        ("", "", False),
    ],
)
def test_a_domain_needs_the_organisations_account_and_its_address(
    email: str | None, hosted: str | None, served: bool
) -> None:
    """Google's ``hd`` and the verified address both have to be the domain's, and nothing below it."""
    assert is_served(Person("1", email, hosted), TEAM) is served


def test_domains_count_in_team_mode_only() -> None:
    """A Hub of one person does not take in an organisation."""
    assert not is_served(ADA, dataclasses.replace(TEAM, mode=Mode.PERSONAL))


@pytest.mark.parametrize("email", ["grace@example.com", "GRACE@example.com"])
def test_an_administrator_is_served_and_known_as_one(email: str) -> None:
    """Named as such they need not be named again, nor be of a domain."""
    assert admit(Person("2", email), TEAM, "laptop-42").admin


def test_nobody_else_is_an_administrator() -> None:
    """To be served, even with everybody, is not to administer."""
    everybody = AccessRules(Mode.TEAM, ("*",), (), ("grace@example.com",))
    assert not admit(ADA, TEAM, "laptop-42").admin
    assert not admit(ADA, everybody, "laptop-42").admin
    assert not admit(Person("3"), everybody, "laptop-42").admin


def test_there_are_no_administrators_in_personal_mode() -> None:
    """One who is named as such is nobody there, or one of the people."""
    alone = dataclasses.replace(TEAM, mode=Mode.PERSONAL)
    grace = Person("2", "grace@example.com", "example.com")
    assert not is_served(grace, alone)
    assert not admit(grace, dataclasses.replace(alone, emails=("grace@example.com",)), "laptop-42").admin
