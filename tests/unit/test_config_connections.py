"""Settings of signing in and of connecting: what fits together, and what is refused."""

import pytest

from shared.config import Connect, ConnectKind, SignIn, read_settings
from tests.fakes.settings import REQUIRED_SETTINGS
from tests.unit.test_config import SERVED, problems

DIRECT = {"HUB_CONNECT": "direct"}
CLIENT = "123-desktop.apps.googleusercontent.com"


def test_people_connect_through_iap_by_default() -> None:
    """The port is SSH's own, and the user name is the one in their OS Login profile."""
    settings = read_settings(REQUIRED_SETTINGS | SERVED)

    assert settings.connect == Connect(ConnectKind.IAP, 22, "", "")
    assert settings.sign_in == SignIn("", "", "", "")
    assert settings.address == ""


@pytest.mark.parametrize(
    "jump", ["bastion", "bastion.example.com:2222", "ops@10.0.0.2", "Ops_1@b-1.example.com:65535"]
)
def test_a_direct_connection_may_have_port_bastion_and_user(jump: str) -> None:
    """The bastion is written as OpenSSH's ProxyJump takes it."""
    given = {"HUB_CONNECT_PORT": "2222", "HUB_CONNECT_JUMP": jump, "HUB_CONNECT_USER": "dev"}

    settings = read_settings(REQUIRED_SETTINGS | SERVED | DIRECT | given)

    assert settings.connect == Connect(ConnectKind.DIRECT, 2222, jump, "dev")


@pytest.mark.parametrize(
    "jump",
    [
        *("-J", "a b", "a;b", "a,b", "$(id)", "a@-b", "-a@b", "a@b@c", "host:", "host:ssh"),
        *("ssh://a", "1user@b", "b:0", "b:65536", "b:99999"),
    ],
)
def test_a_bastion_that_could_be_more_than_a_host_is_refused(jump: str) -> None:
    """People's commands hand it to ssh."""
    assert "HUB_CONNECT_JUMP is" in problems(**DIRECT, HUB_CONNECT_JUMP=jump)


@pytest.mark.parametrize("given", [{"HUB_CONNECT_JUMP": "bastion"}, {"HUB_CONNECT_PORT": "2222"}])
def test_what_iap_does_not_use_is_refused(given: dict[str, str]) -> None:
    """Its forwarding leads to port 22, and nothing is on the way."""
    told = problems(**given)

    assert told.splitlines()[1:] == [
        "  HUB_CONNECT_JUMP, and another HUB_CONNECT_PORT than 22, need HUB_CONNECT=direct"
    ]


@pytest.mark.parametrize("name", ["HUB_OAUTH_CLIENT_ID", "HUB_OAUTH_WEB_CLIENT_ID"])
def test_a_client_whose_tokens_would_be_refused_is_refused(name: str) -> None:
    """The Hub must take the tokens that it tells people to get; behind IAP the proxy decides."""
    assert f"{name} is not one of HUB_USER_AUDIENCES" in problems(**{name: CLIENT})
    read_settings(REQUIRED_SETTINGS | SERVED | {name: CLIENT, "HUB_USER_AUDIENCES": CLIENT})
    read_settings(REQUIRED_SETTINGS | SERVED | {name: CLIENT, "HUB_IDENTITY_SOURCE": "iap"})


def test_a_secret_needs_its_client() -> None:
    """Alone it is of no use, and perhaps another client's."""
    assert "HUB_OAUTH_CLIENT_SECRET needs" in problems(HUB_OAUTH_CLIENT_SECRET="GOCSPX-none")


def test_a_proxys_audience_needs_the_proxy() -> None:
    """Without it nobody takes such tokens."""
    assert "HUB_IAP_AUDIENCE needs HUB_IDENTITY_SOURCE=iap" in problems(HUB_IAP_AUDIENCE=CLIENT)


def test_a_wrong_secret_is_not_repeated() -> None:
    """The message is logged, and the text may be a web client's secret with a typing error."""
    assert "s3cr3t" not in problems(HUB_OAUTH_CLIENT_SECRET="s3cr3t s3cr3t")
