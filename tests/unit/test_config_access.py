"""Settings of who is served, who is an administrator, and what they may ask for and how much."""

from __future__ import annotations

import pytest

from shared.config import ConfigurationError, IdentitySource, Settings, read_settings
from shared.domain.access import AccessRules, Mode
from shared.domain.policy import Limits
from tests.fakes.settings import REQUIRED_SETTINGS


def settings(**variables: str) -> Settings:
    """Return the settings with these variables; Ada is served unless they say otherwise."""
    return read_settings(
        {**REQUIRED_SETTINGS, "HUB_ALLOWED_EMAILS": "ada@example.com", **variables}
    )


def told(**variables: str) -> list[str]:
    """Return each thing that is wrong with the settings."""
    with pytest.raises(ConfigurationError) as refused:
        settings(**variables)
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


def test_nobody_is_served_unless_somebody_is_named() -> None:
    """A Hub that does not say whom it serves does not start; the message says how to."""
    problem = (
        "neither HUB_ALLOWED_EMAILS nor HUB_ALLOWED_DOMAINS is set; "
        "HUB_ALLOWED_EMAILS=* lets in everybody"
    )
    assert told(HUB_ALLOWED_EMAILS="") == [problem]
    assert told(HUB_ALLOWED_EMAILS="", HUB_MODE="team", HUB_ADMIN_EMAILS="grace@example.com") == [
        problem
    ]


def test_a_hub_is_personal_by_default() -> None:
    """It serves who is named, and has no administrators."""
    assert settings().access == AccessRules(Mode.PERSONAL, ("ada@example.com",))


def test_a_team_has_domains_and_administrators() -> None:
    """Lists are separated by commas; addresses and domains are compared in lower case."""
    access = settings(
        HUB_MODE="team",
        HUB_ALLOWED_EMAILS=" Ada@Example.com , bob@example.net,",
        HUB_ALLOWED_DOMAINS="Example.ORG",
        HUB_ADMIN_EMAILS="GRACE@example.org",
        HUB_OUTSIDE_ADMIN_EMAILS="Heidi@Gmail.com, ci@a-project.iam.gserviceaccount.com",
    ).access
    assert access == AccessRules(
        Mode.TEAM,
        ("ada@example.com", "bob@example.net"),
        ("example.org",),
        ("grace@example.org",),
        ("heidi@gmail.com", "ci@a-project.iam.gserviceaccount.com"),
    )


def test_a_domain_alone_is_enough_for_a_team() -> None:
    """Nobody has to be named one by one."""
    assert (
        settings(
            HUB_MODE="team", HUB_ALLOWED_EMAILS="", HUB_ALLOWED_DOMAINS="example.org"
        ).access.emails
        == ()
    )


FOR_TEAMS = {
    "HUB_ALLOWED_DOMAINS": "example.org",
    "HUB_ADMIN_EMAILS": "grace@example.org",
    "HUB_OUTSIDE_ADMIN_EMAILS": "heidi@gmail.com",
}


@pytest.mark.parametrize("name", FOR_TEAMS)
def test_what_is_for_teams_is_refused_in_personal_mode(name: str) -> None:
    """A setting that has no effect would be taken for one that has."""
    assert told(**{name: FOR_TEAMS[name]}) == [
        "HUB_ALLOWED_DOMAINS, HUB_ADMIN_EMAILS and HUB_OUTSIDE_ADMIN_EMAILS need HUB_MODE=team"
    ]


@pytest.mark.parametrize("name", FOR_TEAMS)
def test_everybody_is_neither_a_domain_nor_an_administrator(name: str) -> None:
    """An asterisk in the wrong place is refused."""
    assert told(**{"HUB_MODE": "team", name: f"{FOR_TEAMS[name]},*"}) == [
        "* is for HUB_ALLOWED_EMAILS only"
    ]


AN_EMAIL = "it must be an e-mail address in ASCII, like ada@example.com"
A_DOMAIN = "it must be a domain in ASCII, like example.com, or xn--… for one with other letters"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "HUB_ALLOWED_EMAILS",
            "\N{KELVIN SIGN}ai@example.com",
            rf"has '\u212aai@example.com'; {AN_EMAIL}",
        ),
        ("HUB_ALLOWED_EMAILS", "ada@ex\u0430mple.com", rf"has 'ada@ex\u0430mple.com'; {AN_EMAIL}"),
        ("HUB_ALLOWED_EMAILS", "example.com", f"has 'example.com'; {AN_EMAIL}"),
        ("HUB_ALLOWED_EMAILS", "@example.com", f"has '@example.com'; {AN_EMAIL}"),
        ("HUB_ALLOWED_EMAILS", "*@example.com x", f"has '*@example.com x'; {AN_EMAIL}"),
        (
            "HUB_ADMIN_EMAILS",
            "a\N{LATIN SMALL LETTER DOTLESS I}@b.com",
            rf"has 'a\u0131@b.com'; {AN_EMAIL}",
        ),
        ("HUB_OUTSIDE_ADMIN_EMAILS", "\uff41da@b.com", rf"has '\uff41da@b.com'; {AN_EMAIL}"),
        ("HUB_ALLOWED_DOMAINS", "b\u00fccher.example", rf"has 'b\xfccher.example'; {A_DOMAIN}"),
        ("HUB_ALLOWED_DOMAINS", "@example.com", f"has '@example.com'; {A_DOMAIN}"),
        ("HUB_ALLOWED_DOMAINS", "*.example.com", f"has '*.example.com'; {A_DOMAIN}"),
        (
            "HUB_LIMITS_OF",
            "\N{KELVIN SIGN}ai@example.com=3:2",
            rf"has '\u212aai@example.com'; {AN_EMAIL}",
        ),
        ("HUB_LIMITS_OF", "b\u00fccher.example=3:2", rf"has 'b\xfccher.example'; {A_DOMAIN}"),
        ("HUB_LIMITS_OF", "*=3:2", f"has '*'; {A_DOMAIN}"),
        (
            "HUB_MACHINE_SERVICE_ACCOUNT",
            "m\u0430chine@example.com",
            rf"has 'm\u0430chine@example.com'; {AN_EMAIL}",
        ),
        ("HUB_MACHINE_SERVICE_ACCOUNT", "*", f"has '*'; {AN_EMAIL}"),
    ],
)
def test_an_address_or_domain_that_is_nobodys_is_refused(
    name: str, value: str, problem: str
) -> None:
    """It matches nobody. The message is in ASCII, which shows a letter that only looks right."""
    assert told(**{"HUB_MODE": "team", name: value}) == [f"{name} {problem}"]


@pytest.mark.parametrize(
    "address", ["heidi@gmail.com", "heidi@googlemail.com", "ci@a-project.iam.gserviceaccount.com"]
)
def test_an_administrator_whose_account_no_organisation_runs_has_to_be_named_as_such(
    address: str,
) -> None:
    """No organisation manages such an account, so it could never be an administrator's."""
    assert told(HUB_MODE="team", HUB_ADMIN_EMAILS=f"grace@example.org,{address}") == [
        (
            f"HUB_ADMIN_EMAILS has '{address}', an account of no organisation; "
            "name it in HUB_OUTSIDE_ADMIN_EMAILS"
        )
    ]


@pytest.mark.parametrize(
    "domain", ["gmail.com", "GoogleMail.com", "a-project.iam.gserviceaccount.com"]
)
@pytest.mark.parametrize(
    ("name", "form"), [("HUB_ALLOWED_DOMAINS", "{}"), ("HUB_LIMITS_OF", "{}=3:2")]
)
def test_a_domain_of_no_organisation_is_refused(name: str, form: str, domain: str) -> None:
    """Nobody could prove that they belong to it."""
    assert told(HUB_MODE="team", **{name: form.format(domain)}) == [
        (
            f"{name} has '{domain.lower()}', which is no organisation's; "
            "name people there by their addresses"
        )
    ]


def test_nobody_is_an_administrator_in_two_ways() -> None:
    """The stricter of the two would have no effect."""
    both = dict.fromkeys(("HUB_ADMIN_EMAILS", "HUB_OUTSIDE_ADMIN_EMAILS"), "grace@example.org")
    assert told(HUB_MODE="team", **both) == [
        (
            "'grace@example.org' is in HUB_ADMIN_EMAILS and in HUB_OUTSIDE_ADMIN_EMAILS; "
            "name it in one of them"
        )
    ]


def test_the_machines_account_is_compared_in_lower_case() -> None:
    """As addresses are."""
    assert settings(
        HUB_MACHINE_SERVICE_ACCOUNT="Machine@Example.com"
    ).identity.machine_service_account == ("machine@example.com")


WRONG = {
    "HUB_MODE": ("Team", "HUB_MODE is 'Team'; it must be one of personal, team"),
    "HUB_IDENTITY_SOURCE": (
        "header",
        "HUB_IDENTITY_SOURCE is 'header'; it must be one of id_token, iap",
    ),
    "HUB_REQUESTS_PER_MINUTE": (
        "0",
        "HUB_REQUESTS_PER_MINUTE is '0'; it must be a whole number of at least 1",
    ),
    "HUB_CHANGES_PER_MINUTE": (
        "0",
        "HUB_CHANGES_PER_MINUTE is '0'; it must be a whole number of at least 1",
    ),
    "HUB_RUNNING_PER_OWNER": (
        "few",
        "HUB_RUNNING_PER_OWNER is 'few'; it must be a whole number of at least 0",
    ),
    "HUB_IMAGE_TAGS": ("v1.*", "HUB_DEFAULT_IMAGE_TAG is not one of HUB_IMAGE_TAGS"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named_with_what_it_should_be(name: str) -> None:
    """Whoever deploys can correct it from the message."""
    value, problem = WRONG[name]
    assert told(**{name: value}) == [problem]


@pytest.mark.parametrize(
    "part",
    [
        "ada@example.com",
        "=3:2",
        "ada@example.com=3",
        "ada@example.com=3:x",
        "a b=3:2",
        "b=\u0663:2",
    ],
)
def test_limits_that_cannot_be_read_are_named(part: str) -> None:
    """Each wrong part is told, and the right ones beside it are not."""
    assert told(HUB_LIMITS_OF=f"example.org=20:10,{part}") == [
        f"HUB_LIMITS_OF has {part!a}; it must be WHO=WORKSPACES:RUNNING"
    ]


def test_limits_are_read_by_address_and_by_domain() -> None:
    """Workspaces first, then those that may run; what nobody overrides has the usual limits."""
    policy = settings(
        HUB_WORKSPACES_PER_OWNER="3",
        HUB_RUNNING_PER_OWNER="2",
        HUB_LIMITS_OF="Ada@Example.com=10:4, example.org=20:0",
    ).policy
    assert policy.limits_for("ada@example.com", None) == Limits(10, 4)
    assert policy.limits_for("bob@example.org", "example.org") == Limits(20, 0)
    assert (
        policy.limits_for("bob@example.com", None) == policy.limits_for(None, None) == Limits(3, 2)
    )


@pytest.mark.parametrize(
    ("tag", "allowed"),
    [("latest", True), ("v1.7", True), ("v1", False), ("V1.7", False), ("nightly", False)],
)
def test_image_tags_are_patterns(tag: str, allowed: bool) -> None:
    """An asterisk stands for anything, letters count as they are written."""
    assert settings(HUB_IMAGE_TAGS="latest, v1.*").policy.allows_image_tag(tag) is allowed


def test_every_image_tag_is_allowed_by_default() -> None:
    """A Hub that lists none leaves it to the registry."""
    assert settings().policy.allows_image_tag("whatever-1.2.3")


def test_the_edge_lets_no_web_page_in_by_default() -> None:
    """CORS is off, and one caller may ask ten times a second."""
    assert (settings().edge.cors_origins, settings().edge.requests_per_minute) == ((), 600)


def test_each_setting_of_the_edge_and_of_identity_arrives() -> None:
    """A changed setting changes its own value."""
    read = settings(
        HUB_CORS_ORIGINS="https://a.example.com, https://b.example.com",
        HUB_REQUESTS_PER_MINUTE="60",
        HUB_CHANGES_PER_MINUTE="7",
        HUB_IDENTITY_SOURCE="iap",
        HUB_IAP_KEYS_URL="https://keys.example.com",
    )
    assert read.edge.cors_origins == ("https://a.example.com", "https://b.example.com")
    assert (read.edge.requests_per_minute, read.policy.changes_per_minute) == (60, 7)
    assert (read.identity.source, read.identity.iap_keys_url) == (
        IdentitySource.IAP,
        "https://keys.example.com",
    )
