"""Whom the Hub serves, and who is an administrator."""

from __future__ import annotations

import dataclasses

import pytest

from shared.domain.errors import NotAllowedError
from shared.domain.people import AccessRules, Actor, Mode, Person, admit, comparable, proven_domain

ADA = Person("108234567890123456789", "ada@example.com", "example.com")
PERSONAL = AccessRules(Mode.PERSONAL, ("ada@example.com",))
TEAM = AccessRules(
    Mode.TEAM, (), ("example.com",), ("grace@example.com",), ("heidi@gmail.com", "ivan@example.net")
)


def is_served(person: Person, rules: AccessRules) -> bool:
    """Say whether the Hub serves a person."""
    try:
        admit(person, rules, "laptop-42")
    except NotAllowedError:
        return False
    return True


def test_who_is_served_asks_as_themselves_with_their_request() -> None:
    """Their id is Google's, and what they ask can be found by their request's id."""
    assert admit(ADA, PERSONAL, "laptop-42") == Actor(
        ADA.owner_id, "laptop-42", "ada@example.com", admin=False, domain="example.com"
    )


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


def is_administrator(person: Person, rules: AccessRules) -> bool:
    """Say whether the Hub serves a person as an administrator."""
    return is_served(person, rules) and admit(person, rules, "laptop-42").admin


@pytest.mark.parametrize("email", ["grace@example.com", "GRACE@example.com"])
def test_an_administrator_is_served_and_known_as_one(email: str) -> None:
    """Named as such they need not be named again, nor be of a domain that is served."""
    assert is_administrator(Person("2", email, "Example.Com"), TEAM)
    assert is_administrator(
        Person("2", email, "example.com"), dataclasses.replace(TEAM, domains=())
    )


@pytest.mark.parametrize("hosted", ["example.org", "mail.example.com"])
def test_an_administrator_may_be_at_a_secondary_domain(hosted: str) -> None:
    """Google stands for the addresses of all domains of an organisation, and `hd` is one of them; by domain they are not served."""
    assert is_administrator(Person("2", "grace@example.com", hosted), TEAM)
    assert not is_served(Person("3", "ann@example.com", hosted), TEAM)


@pytest.mark.parametrize("hosted", [None, ""])
def test_an_administrators_account_must_be_an_organisations(hosted: str | None) -> None:
    """Anybody can make a Google account of an address that they can read once, and keep it when they leave."""
    grace = Person("2", "grace@example.com", hosted)
    assert not is_served(grace, TEAM)
    assert not is_administrator(grace, dataclasses.replace(TEAM, emails=("*",)))
    assert not is_administrator(grace, dataclasses.replace(TEAM, emails=("grace@example.com",)))


@pytest.mark.parametrize(
    "person",
    [
        Person("3", "heidi@gmail.com"),
        Person("3", "Heidi@Gmail.com"),
        Person("4", "ivan@example.net"),
        Person("4", "ivan@example.net", "example.net"),
        Person("4", "ivan@example.net", "example.org"),
    ],
)
def test_an_outside_administrator_is_one_by_the_address_alone(person: Person) -> None:
    """Whoever names them does so on purpose, with an organisation or without."""
    assert is_administrator(person, TEAM)


def test_nobody_else_is_an_administrator() -> None:
    """To be served, even with everybody, is not to administer."""
    everybody = dataclasses.replace(TEAM, emails=("*",))
    assert not is_administrator(ADA, TEAM)
    for person in (
        ADA,
        Person("3"),
        Person("3", ""),
        Person("3", None, "example.com"),
        Person("3", "*", "*"),
    ):
        assert is_served(person, everybody)
        assert not is_administrator(person, everybody)


@pytest.mark.parametrize(
    "person",
    [Person("2", "grace@example.com", "example.com"), Person("3", "heidi@gmail.com")],
    ids=["organisation's", "outside"],
)
def test_there_are_no_administrators_in_personal_mode(person: Person) -> None:
    """One who is named as such is nobody there, or one of the people."""
    alone = dataclasses.replace(TEAM, mode=Mode.PERSONAL)
    assert not is_served(person, alone)
    assert not is_administrator(person, dataclasses.replace(alone, emails=(str(person.email),)))


# Other letters

# What str.lower and str.casefold make `kai` and `istanbul` of, or what looks the same.
LOOKING_ALIKE = {
    "kai@example.com": [
        "\N{KELVIN SIGN}ai@example.com",
        "k\N{CYRILLIC SMALL LETTER A}i@example.com",
        "kai@\uff45xample.com",
    ],
    "is@example.com": [
        "i\N{LATIN SMALL LETTER LONG S}@example.com",
        "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}s@example.com",
    ],
    "ivan@example.com": [
        "\N{LATIN SMALL LETTER DOTLESS I}van@example.com",
        "ivan\u200b@example.com",
    ],
    "strasse@example.com": ["stra\N{LATIN SMALL LETTER SHARP S}e@example.com"],
}
ALIKE = [(address, other) for address, others in LOOKING_ALIKE.items() for other in others]


@pytest.mark.parametrize(("address", "other"), ALIKE)
def test_an_address_with_other_letters_is_not_the_one_that_it_looks_like(
    address: str, other: str
) -> None:
    """Not for who is served, by name or by organisation, and not for who administers."""
    them = Person("5", other, "example.com")
    assert comparable(other) is None
    assert not is_served(them, AccessRules(Mode.PERSONAL, (address,)))
    assert not is_served(them, AccessRules(Mode.TEAM, (), ("example.com",)))
    for rules in (
        AccessRules(Mode.TEAM, ("*",), (), (address,)),
        AccessRules(Mode.TEAM, ("*",), (), (), (address,)),
    ):
        assert not is_administrator(them, rules)
        assert is_administrator(Person("5", address.upper(), "example.com"), rules)


@pytest.mark.parametrize(("_", "other"), ALIKE)
def test_whoever_has_an_address_with_other_letters_is_served_where_everybody_is(
    _: str, other: str
) -> None:
    """With the address as it is, which proves no organisation."""
    assert admit(
        Person("5", other, "example.com"), AccessRules(Mode.TEAM, ("*",)), "laptop-42"
    ) == Actor("5", "laptop-42", other)


def test_an_organisation_with_other_letters_is_not_the_one_that_it_looks_like() -> None:
    """Neither by the claim nor by the address."""
    kelvins = "\N{KELVIN SIGN}.example"
    for email, hosted in (
        ("ada@k.example", kelvins),
        (f"ada@{kelvins}", "k.example"),
        (f"ada@{kelvins}", kelvins),
    ):
        assert proven_domain(Person("1", email, hosted)) is None
    assert proven_domain(Person("1", "ada@K.example", "K.Example")) == "k.example"
