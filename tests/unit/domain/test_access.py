"""Whom the Hub serves, and who is an administrator."""

from __future__ import annotations

import dataclasses

import pytest

from shared.domain.access import AccessRules, Actor, Mode, Person, admit, normalized, proven_domain
from shared.domain.errors import NotAllowedError

ADA = Person("108234567890123456789", "ada@example.com", "example.com")
PERSONAL = AccessRules(Mode.PERSONAL, ("ada@example.com",))
TEAM = AccessRules(
    Mode.TEAM, (), ("example.com",), ("grace@example.com",), ("heidi@gmail.com", "ivan@example.net")
)


def is_served(person: Person, rules: AccessRules) -> bool:
    """Return whether the Hub serves a person."""
    try:
        admit(person, rules, "laptop-42")
    except NotAllowedError:
        return False
    return True


def test_a_person_who_is_served_becomes_the_actor_of_their_request() -> None:
    """The id is Google's; the request id makes the request findable in the logs."""
    assert admit(ADA, PERSONAL, "laptop-42") == Actor(
        ADA.owner_id, "laptop-42", "ada@example.com", admin=False, domain="example.com"
    )


def test_a_person_who_is_not_served_is_refused() -> None:
    """The message says what to do, and does not reveal who is served."""
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
def test_an_address_is_served_if_it_is_listed(mode: Mode, email: str | None, served: bool) -> None:
    """This holds in both modes; case does not matter, and the whole address must match."""
    rules = AccessRules(mode, ("bob@example.com", "ada@example.com"))
    assert is_served(Person("1", email), rules) is served


@pytest.mark.parametrize("person", [ADA, Person("1", "bob@elsewhere.org"), Person("1")])
def test_everybody_is_served_if_the_list_has_an_asterisk(person: Person) -> None:
    """A proven identity is enough, with or without an address."""
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
def test_a_domain_needs_an_account_and_an_address_of_the_organisation(
    email: str | None, hosted: str | None, served: bool
) -> None:
    """Google's ``hd`` and the verified address must both have the domain, and no subdomain."""
    assert is_served(Person("1", email, hosted), TEAM) is served


def test_domains_count_in_team_mode_only() -> None:
    """A personal Hub does not serve a whole organisation."""
    assert not is_served(ADA, dataclasses.replace(TEAM, mode=Mode.PERSONAL))


def is_administrator(person: Person, rules: AccessRules) -> bool:
    """Return whether the Hub serves a person as an administrator."""
    return is_served(person, rules) and admit(person, rules, "laptop-42").admin


@pytest.mark.parametrize("email", ["grace@example.com", "GRACE@example.com"])
def test_an_administrator_is_served_as_one(email: str) -> None:
    """An administrator need not be named as a person, nor belong to a domain that is served."""
    assert is_administrator(Person("2", email, "Example.Com"), TEAM)
    assert is_administrator(
        Person("2", email, "example.com"), dataclasses.replace(TEAM, domains=())
    )


@pytest.mark.parametrize("hosted", ["example.org", "mail.example.com"])
def test_an_administrators_address_may_have_a_secondary_domain(hosted: str) -> None:
    """``hd`` may be another domain of the organisation; people are not served on that basis."""
    assert is_administrator(Person("2", "grace@example.com", hosted), TEAM)
    assert not is_served(Person("3", "ann@example.com", hosted), TEAM)


@pytest.mark.parametrize("hosted", [None, ""])
def test_an_administrators_account_must_belong_to_an_organisation(hosted: str | None) -> None:
    """Anybody who reads an address's mail once can make a Google account for it, and keep it."""
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
def test_an_outside_administrator_needs_only_the_address(person: Person) -> None:
    """The configuration names them on purpose, whether they have an organisation or not."""
    assert is_administrator(person, TEAM)


def test_nobody_else_is_an_administrator() -> None:
    """To be served, even together with everybody, does not make an administrator."""
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
    """Somebody named as administrator is not served there, or is served as a person."""
    alone = dataclasses.replace(TEAM, mode=Mode.PERSONAL)
    assert not is_served(person, alone)
    assert not is_administrator(person, dataclasses.replace(alone, emails=(str(person.email),)))


# ---- look-alike letters ----

# ``str.lower`` or ``str.casefold`` may turn these into the address, or they look the same.
LOOK_ALIKES = {
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
LOOK_ALIKE_PAIRS = [(address, other) for address, others in LOOK_ALIKES.items() for other in others]


@pytest.mark.parametrize(("address", "other"), LOOK_ALIKE_PAIRS)
def test_an_address_with_look_alike_letters_is_another_address(address: str, other: str) -> None:
    """Such an address neither gets its person served nor makes an administrator."""
    them = Person("5", other, "example.com")
    assert normalized(other) is None
    assert not is_served(them, AccessRules(Mode.PERSONAL, (address,)))
    assert not is_served(them, AccessRules(Mode.TEAM, (), ("example.com",)))
    for rules in (
        AccessRules(Mode.TEAM, ("*",), (), (address,)),
        AccessRules(Mode.TEAM, ("*",), (), (), (address,)),
    ):
        assert not is_administrator(them, rules)
        assert is_administrator(Person("5", address.upper(), "example.com"), rules)


@pytest.mark.parametrize(("_", "other"), LOOK_ALIKE_PAIRS)
def test_a_person_with_look_alike_letters_is_served_if_everybody_is(_: str, other: str) -> None:
    """Their address is kept as it is, and proves no organisation."""
    assert admit(
        Person("5", other, "example.com"), AccessRules(Mode.TEAM, ("*",)), "laptop-42"
    ) == Actor("5", "laptop-42", other)


def test_a_domain_with_look_alike_letters_proves_no_organisation() -> None:
    """Neither the claim nor the address may have other letters."""
    kelvins = "\N{KELVIN SIGN}.example"
    for email, hosted in (
        ("ada@k.example", kelvins),
        (f"ada@{kelvins}", "k.example"),
        (f"ada@{kelvins}", kelvins),
    ):
        assert proven_domain(Person("1", email, hosted)) is None
    assert proven_domain(Person("1", "ada@K.example", "K.Example")) == "k.example"
