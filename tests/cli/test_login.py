"""Each way to sign in: gcloud, the browser, Identity-Aware Proxy, service accounts, variables."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from localcloud.catalogue import ROOT
from tests.cli.cli_process import Cli, ended
from tests.cli.fake_google import BROWSER, Call, FakeGoogle, challenge_of, id_token
from tests.cli.scripted_hub import SIGN_IN, Reply, ScriptedHub, Seen, problem
from workspace_cli.sign_in.tokens import claims

CLIENT = "123-desktop.apps.googleusercontent.com"
PROXY = "456-proxy.apps.googleusercontent.com"
OAUTH = {"kind": "oauth", "client_id": CLIENT, "client_secret": "GOCSPX-no", "audience": CLIENT}
IAP = {"kind": "iap", "client_id": CLIENT, "client_secret": None, "audience": PROXY}
GCLOUD = {"kind": "gcloud", "audience": None}
ACCOUNT = "robot@project.iam.gserviceaccount.com"


@pytest.fixture
def google(cli: Cli, tmp_path: Path) -> Iterator[FakeGoogle]:
    """Google, on the way of the command."""
    with FakeGoogle(tmp_path) as google:
        cli.environment |= google.environment
        yield google


def gcloud(cli: Cli, token: str) -> Path:
    """Put a gcloud there that gives a token, and return the file with its arguments."""
    told = cli.folder / "gcloud.txt"
    cli.put(
        "gcloud", f'#!/bin/sh\necho "$@" "$CLOUDSDK_CORE_DISABLE_PROMPTS" >> {told}\necho {token}\n'
    )
    return told


def browser(cli: Cli, *answers: dict[str, str]) -> Path:
    """Put a browser there that goes back with these parameters; return the file of its address."""
    record = cli.folder / "browser.txt"
    script = BROWSER.format(python=sys.executable, record=str(record), answers=json.dumps(answers))
    cli.environment["BROWSER"] = f"{cli.put('browser', script)} %s"
    return record


def offers(hub: ScriptedHub, *methods: dict[str, Any]) -> None:
    """Have the Hub offer these ways to sign in."""
    hub.sign_in = {**SIGN_IN, "methods": [*methods, {"kind": "from_the_future", "x": 1}]}


def sent(hub: ScriptedHub) -> list[str]:
    """Return the proofs of all requests but those that need none."""
    return [each.headers["Authorization"] for each in hub.seen if each.path != "/sign-in"]


# ---- gcloud --------------------------------------------------------------------------------------


def test_gcloud_gives_the_token(cli: Cli, hub: ScriptedHub) -> None:
    """It is run once, asks nothing, and its token is kept as long as it is valid."""
    told = gcloud(cli, id_token("gcloud's"))
    done = cli.succeed("login", hub.address, "--name", "work")
    assert "signed in" in done.err
    assert "alice@example.com" in done.err
    assert cli.succeed("whoami").out == "alice@example.com\n"
    cli.succeed("ls")
    assert told.read_text() == "auth print-identity-token 1\n"
    assert len(set(sent(hub))) == 1
    assert hub.seen[0].headers["Authorization"] is None


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'ERROR: (gcloud.auth) no account' >&2; exit 1", "no account"),
        ("printf '\\033[31mERROR\\033]0;x\\007' >&2; exit 1", "\\x1b[31mERROR"),
        ("echo 'not a token'", "is no token"),
        ("echo", "is no token"),
        ("kill -9 $$", "no reason"),
    ],
)
def test_gcloud_that_gives_none_is_told(cli: Cli, hub: ScriptedHub, script: str, says: str) -> None:
    """Its own reason is shown, harmlessly, with what to do; nothing is stored."""
    cli.put("gcloud", f"#!/bin/sh\n{script}\n")
    done = cli.run("login", hub.address)
    assert done.code == 4
    assert says in done.err
    assert "\x1b" not in done.err
    assert cli.succeed("hubs").out == ""


def test_gcloud_may_be_absent(cli: Cli, hub: ScriptedHub) -> None:
    """Then the message says what there is instead."""
    cli.environment["PATH"] = str(cli.folder / "bin")
    done = cli.run("login", hub.address)
    assert (done.code, "gcloud is not on this machine" in done.err) == (4, True)


def test_a_second_hub_with_gclouds_tokens_is_warned_of(cli: Cli, hub: ScriptedHub) -> None:
    """Each could act as the person at the other."""
    gcloud(cli, id_token("gcloud's"))
    assert "warning" not in cli.succeed("login", hub.address, "--name", "first").err
    with ScriptedHub() as other:
        done = cli.succeed("login", other.address, "--name", "second")
        assert f"{other.address} could act as you at first ({hub.address})" in done.err


def test_a_name_that_goes_to_another_address_takes_nothing_along(cli: Cli) -> None:
    """What the first Hub's machines let in, and their host keys, are no matter of the second's."""
    gcloud(cli, id_token("gcloud's"))
    with ScriptedHub() as first, ScriptedHub() as second:
        cli.succeed("login", first.address, "--name", "work")
        kept = cli.config / "ssh" / "work"
        kept.mkdir(parents=True)
        (kept / "registered.json").write_text("{}")
        cli.succeed("login", first.address, "--name", "work")
        assert (kept / "registered.json").exists()
        second.answers = lambda seen: (
            None if seen.path == "/sign-in" else problem(403, "NOT_ALLOWED", "No.")
        )
        assert cli.run("login", second.address, "--name", "work").code == 5
        assert (kept / "registered.json").exists()
        second.answers = lambda _: None
        done = cli.succeed("login", second.address, "--name", "work")
        assert f"work ({first.address}) is forgotten" in done.err
        assert not kept.exists()
        hubs = cli.succeed("hubs", "-o", "json").json
        assert [each["address"] for each in hubs] == [second.address]


# ---- the browser ---------------------------------------------------------------------------------


def google_signs(google: FakeGoogle, record: Path) -> None:
    """Have Google give tokens, if the proof of the client's is right."""

    def answer(call: Call) -> tuple[int, Any]:
        if call.path == "/revoke":
            return 200, {}
        if call.body["grant_type"] == "refresh_token":
            assert call.body["refresh_token"] == "1//refresh"
            return 200, {"id_token": id_token(call.body.get("audience", CLIENT))}
        asked = dict(parse_qsl(urlsplit(record.read_text()).query))
        assert call.body["code"] == "4/code"
        assert call.body["redirect_uri"] == asked["redirect_uri"]
        assert asked["code_challenge_method"] == "S256"
        assert challenge_of(call.body["code_verifier"]) == asked["code_challenge"]
        return 200, {"id_token": id_token(CLIENT), "refresh_token": "1//refresh"}

    google.answers = answer


def test_a_person_signs_in_in_the_browser(cli: Cli, hub: ScriptedHub, google: FakeGoogle) -> None:
    """With the Hub's own client, PKCE and a loopback address; requests of others are ignored."""
    offers(hub, GCLOUD, OAUTH)
    record = browser(
        cli,
        {"code": "forged", "state": "guessed"},
        {},
        {"code": "4/code", "state": "STATE"},
    )
    google_signs(google, record)
    terminal = cli.terminal("login", hub.address, "--name", "work")
    terminal.expect("Sign in in your browser")
    terminal.expect("signed in to")
    assert ended(terminal) == 0
    asked = urlsplit(record.read_text())
    query = parse_qs(asked.query)
    assert (asked.scheme, asked.hostname) == ("https", "accounts.google.com")
    assert query["client_id"] == [CLIENT]
    assert query["access_type"] == ["offline"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", query["redirect_uri"][0])
    [token] = {each.removeprefix("Bearer ") for each in sent(hub)}
    stored = (cli.config / "credentials" / "work.json").read_text()
    assert token in stored
    assert "1//refresh" not in (cli.config / "config.json").read_text()

    # It is renewed without the person, and a logout ends it at Google.
    file = cli.config / "credentials" / "work.json"
    file.write_text(json.dumps({**json.loads(stored), "expires_at": 0}))
    cli.succeed("ls")
    assert google.calls[-1].body["grant_type"] == "refresh_token"
    cli.succeed("logout")
    assert (google.calls[-1].path, google.calls[-1].body["token"]) == ("/revoke", "1//refresh")
    assert not file.exists()


def test_the_proxy_in_front_gets_tokens_of_its_own(
    cli: Cli, hub: ScriptedHub, google: FakeGoogle
) -> None:
    """Behind Identity-Aware Proxy the audience is the proxy's client, from the first token on."""
    offers(hub, GCLOUD, IAP)
    record = browser(cli, {"code": "4/code", "state": "STATE"})
    google_signs(google, record)
    terminal = cli.terminal("login", hub.address)
    assert ended(terminal) == 0
    assert [call.body.get("audience") for call in google.calls] == [None, PROXY]
    assert {claims(token)["aud"] for token in sent(hub)} == {PROXY}
    assert google.calls[0].body.get("client_secret") is None


def test_a_token_for_somebody_else_is_not_sent(
    cli: Cli, hub: ScriptedHub, google: FakeGoogle
) -> None:
    """What Google answers is compared with what was asked for."""
    offers(hub, OAUTH)
    browser(cli, {"code": "4/code", "state": "STATE"})
    google.answers = lambda _: (200, {"id_token": id_token("other"), "refresh_token": "r"})
    terminal = cli.terminal("login", hub.address)
    terminal.expect("so it is not sent")
    assert ended(terminal) == 4
    assert sent(hub) == []


def test_a_person_who_does_not_consent_has_not_signed_in(
    cli: Cli, hub: ScriptedHub, google: FakeGoogle
) -> None:
    """Google's reason is shown, and nothing is stored."""
    offers(hub, OAUTH)
    browser(cli, {"error": "access_denied", "state": "STATE"})
    terminal = cli.terminal("login", hub.address)
    terminal.expect("you have not signed in: access_denied")
    assert ended(terminal) == 4
    assert google.calls == []
    assert cli.succeed("hubs").out == ""


def test_a_person_without_a_browser_here_pastes_an_address(
    cli: Cli, hub: ScriptedHub, google: FakeGoogle
) -> None:
    """On a machine that is reached by SSH; an address of another sign-in is refused."""
    offers(hub, OAUTH)
    record = cli.folder / "browser.txt"
    google_signs(google, record)
    for state, code in (("wrong", 4), (None, 0)):
        terminal = cli.terminal("login", hub.address, "--no-browser")
        terminal.expect(r"(https://accounts\.google\.com\S+)\r")
        assert isinstance(terminal.match, re.Match)
        url = str(terminal.match.group(1))
        record.write_text(url)
        query = dict(parse_qsl(urlsplit(url).query))
        terminal.expect("Paste the address")
        terminal.sendline(f"{query['redirect_uri']}?state={state or query['state']}&code=4/code")
        assert ended(terminal) == code


def test_what_is_pasted_may_be_no_address(cli: Cli, hub: ScriptedHub) -> None:
    """It is told in a sentence."""
    offers(hub, OAUTH)
    terminal = cli.terminal("login", hub.address, "--no-browser")
    terminal.expect("Paste the address")
    terminal.sendline("http://[")
    assert ended(terminal) == 4
    assert "Traceback" not in str(terminal.before)


def test_nobody_is_waited_for_without_a_terminal(cli: Cli, hub: ScriptedHub) -> None:
    """A script gets an error that names what programs take, and no browser opens."""
    offers(hub, OAUTH)
    record = browser(cli, {"code": "4/code", "state": "STATE"})
    done = cli.run("login", hub.address)
    assert done.code == 2
    assert "WORKSPACE_TOKEN" in done.err
    assert not record.exists()


def test_a_sign_in_that_has_ended_says_so(cli: Cli, hub: ScriptedHub, google: FakeGoogle) -> None:
    """A refresh token that Google no longer takes is exit code 4; Google's outage is 7."""
    offers(hub, OAUTH)
    google_signs(google, browser(cli, {"code": "4/code", "state": "STATE"}))
    assert ended(cli.terminal("login", hub.address, "--name", "work")) == 0
    file = cli.config / "credentials" / "work.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "expires_at": 0}))
    google.answers = lambda _: (400, {"error": "invalid_grant", "error_description": "Expired\x1b"})
    done = cli.run("ls")
    assert (done.code, "Expired\\x1b" in done.err, "workspace login" in done.err) == (4, True, True)
    google.answers = lambda _: (503, {})
    assert cli.run("ls").code == 7
    google.answers = lambda _: (200, {"id_token": id_token(CLIENT)})
    cli.succeed("ls")


@pytest.mark.parametrize("method", [OAUTH, IAP], ids=["oauth", "iap"])
def test_a_hub_that_names_another_hubs_client_is_asked_about(
    cli: Cli, hub: ScriptedHub, google: FakeGoogle, method: dict[str, Any]
) -> None:
    """It would get tokens that are good at the other one."""
    offers(hub, method)
    google_signs(google, browser(cli, {"code": "4/code", "state": "STATE"}))
    assert ended(cli.terminal("login", hub.address, "--name", "honest")) == 0
    before = len(google.calls)
    with ScriptedHub() as thief:
        offers(thief, method)
        terminal = cli.terminal("login", thief.address)
        terminal.expect(f"{thief.address} will get tokens with which it could act as you at honest")
        terminal.expect(r"Sign in there\? \[y/N\]")
        terminal.sendline("")
        assert ended(terminal) == 5
        assert sent(thief) == []
    assert len(google.calls) == before


# ---- programs ------------------------------------------------------------------------------------


class _Metadata(BaseHTTPRequestHandler):
    """The metadata server of a machine of Google Cloud."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        text = ""
        if parts.path.endswith("/identity"):
            text = id_token(parse_qs(parts.query)["audience"][0], ACCOUNT)
        elif parts.path.endswith("/"):
            text = json.dumps({"email": ACCOUNT, "aliases": ["default"], "scopes": []})
        self.send_response_only(200 if self.headers["Metadata-Flavor"] == "Google" else 403)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if text[:1] == "{" else "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Write nothing."""


@pytest.fixture
def metadata(cli: Cli) -> Iterator[ThreadingHTTPServer]:
    """A metadata server, where google-auth looks for it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        server.paths = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        cli.environment |= {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address}
        del cli.environment["NO_GCE_CHECK"]
        yield server
        server.shutdown()
        thread.join()


def test_a_machine_of_google_cloud_signs_in_as_its_account(
    cli: Cli, hub: ScriptedHub, metadata: ThreadingHTTPServer
) -> None:
    """Without a terminal; the audience is the Hub's own address."""
    offers(hub, GCLOUD, {"kind": "service_account", "audience": hub.address})
    cli.succeed("login", hub.address, "--method", "service_account")
    assert cli.succeed("whoami").out == f"{ACCOUNT}\n"
    [token] = set(sent(hub))
    assert claims(token)["aud"] == hub.address
    assert "service account" in cli.succeed("hubs").out
    assert metadata.paths  # type: ignore[attr-defined]


@pytest.mark.usefixtures("metadata")
def test_an_audience_that_is_not_the_hubs_address_is_asked_about(
    cli: Cli, hub: ScriptedHub
) -> None:
    """A Hub could have itself a token for another service; --yes in a script is an agreement."""
    offers(hub, {"kind": "service_account", "audience": "https://bank.example.com"})
    done = cli.run("login", hub.address, "--method", "service_account")
    assert done.code == 2
    assert f"The tokens for {hub.address} will be for https://bank.example.com" in done.err
    assert sent(hub) == []
    cli.succeed("login", hub.address, "--method", "service_account", "--yes")
    offers(hub, {"kind": "service_account", "audience": "https://other.example.com"})
    cli.succeed("ls")  # it was fixed at login
    assert len(set(sent(hub))) == 1
    assert cli.run("login").code == 0  # again, as before: nothing is asked that was agreed to
    assert {claims(token)["aud"] for token in sent(hub)} == {"https://bank.example.com"}
    own = cli.run("login", hub.address, "--audience", hub.address)
    assert own.code == 0


def test_an_account_is_impersonated_by_gcloud_without_other_credentials(
    cli: Cli, hub: ScriptedHub
) -> None:
    """The audience and the account are arguments of their own."""
    offers(hub, GCLOUD, {"kind": "service_account", "audience": hub.address})
    told = gcloud(cli, id_token(hub.address, ACCOUNT))
    cli.succeed("login", hub.address, "--impersonate", ACCOUNT)
    assert told.read_text() == (
        f"auth print-identity-token --impersonate-service-account={ACCOUNT}"
        f" --audiences={hub.address} --include-email 1\n"
    )
    assert f"service account {ACCOUNT}" in cli.succeed("hubs").out


def test_an_account_is_impersonated_by_default_credentials(
    cli: Cli, hub: ScriptedHub, google: FakeGoogle
) -> None:
    """As workload identity and `gcloud auth application-default login` give them."""
    offers(hub, {"kind": "service_account", "audience": hub.address})
    file = cli.folder / "adc.json"
    adc = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    file.write_text(json.dumps(adc))
    cli.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(file)

    def answer(call: Call) -> tuple[int, Any]:
        if call.host == "oauth2.googleapis.com":
            return 200, {"access_token": "source", "expires_in": 3600}
        if call.path.endswith(":generateAccessToken"):
            return 200, {"accessToken": "target", "expireTime": "2099-01-01T00:00:00Z"}
        assert call.path == f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateIdToken"
        assert call.body["includeEmail"] is True
        return 200, {"token": id_token(call.body["audience"], ACCOUNT)}

    google.answers = answer
    cli.succeed("login", hub.address, "--impersonate", ACCOUNT)
    assert cli.succeed("whoami").out == f"{ACCOUNT}\n"


def test_a_program_without_credentials_is_told(cli: Cli, hub: ScriptedHub) -> None:
    """What is missing, and where it is explained."""
    done = cli.run("login", hub.address, "--method", "service_account")
    assert (done.code, "docs/command.md" in done.err) == (4, True)


@pytest.mark.parametrize("token", ["", "a b", "a\nX-Evil: 1", "x" * 20_000, "\x1b[2J"])
def test_a_variable_that_holds_no_token_is_not_sent(
    at_hub: Cli, hub: ScriptedHub, token: str
) -> None:
    """It could end the header, and is not shown."""
    at_hub.environment["WORKSPACE_TOKEN"] = token
    done = at_hub.run("ls")
    assert done.code == 4
    assert "\x1b" not in done.err
    assert hub.seen == []


def test_a_token_of_the_environment_needs_no_login(at_hub: Cli, hub: ScriptedHub) -> None:
    """It goes before what is stored, to the Hub that is named, and nothing is written."""
    at_hub.succeed("ls")
    at_hub.succeed("--hub", hub.address + "/", "ls")
    assert set(sent(hub)) == {"Bearer a.token.of-a-program"}
    assert not at_hub.config.exists()
    gcloud(at_hub, "a.token.of-gcloud")
    assert "goes before this sign-in" in at_hub.succeed("login", hub.address).err
    hub.answers = lambda _: problem(401, "NOT_AUTHENTICATED", "It has expired.")
    done = at_hub.run("ls")
    assert (done.code, "WORKSPACE_TOKEN" in done.err) == (4, True)


# ---- the Hub itself ------------------------------------------------------------------------------


def test_an_older_hub_is_signed_in_to(cli: Cli, hub: ScriptedHub) -> None:
    """One without /sign-in takes gcloud's tokens, and is known by its contract."""
    contract = json.loads((ROOT / "shared/entry/openapi.json").read_text())
    hub.sign_in = None
    hub.answers = lambda seen: Reply(body=contract) if seen.path == "/openapi.json" else None
    gcloud(cli, id_token("gcloud's"))
    cli.succeed("login", hub.address)
    cli.succeed("ls")


@pytest.mark.parametrize(("api", "says"), [(2, "upgrade the command"), (0, "upgrade the Hub")])
def test_another_version_of_the_contract_is_refused(
    cli: Cli, hub: ScriptedHub, api: int, says: str
) -> None:
    """In a sentence that says which side is older."""
    hub.sign_in = {**SIGN_IN, "hub": {"name": "x", "version": "9", "api": api}}
    done = cli.run("login", hub.address)
    assert (done.code, says in done.err) == (1, True)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://hub.example.com", "not https"),
        ("http://127.0.0.1.evil.example.com", "not https"),
        ("http://localhost@evil.example.com", "more than"),
        ("https://a:b@hub.example.com", "more than"),
        ("https://hub.example.com/?x=1", "more than"),
        ("https://", "is not an address"),
        ("ftp://hub.example.com", "not https"),
        ("https://hub.example.com:99999", "is not an address"),
        ("https://hub\x1b.example.com", "\\x1b"),
        ("-x", "No such option"),
    ],
)
def test_a_token_goes_to_no_address_that_is_none(cli: Cli, address: str, says: str) -> None:
    """Wrong and unsafe addresses are refused before anything is sent."""
    done = cli.run("login", address)
    assert (done.code, says in done.err, "\x1b" in done.err) == (2, True, False)


def test_a_state_file_of_somebody_else_is_not_believed(cli: Cli, hub: ScriptedHub) -> None:
    """A folder that came from elsewhere may have one."""
    state = cli.folder / ".localcloud" / "state.json"
    state.parent.mkdir()
    there = {"pid": os.getpid(), "address": hub.address, "services": {"identity": hub.address}}

    def login(**changed: Any) -> str:
        state.write_text(json.dumps({**there, **changed}))
        done = cli.run("login", "--local")
        assert done.code == 1
        return done.err

    assert "another machine" in login(address="https://evil.example.com")
    assert "another machine" in login(services={"identity": "https://evil.example.com"})
    assert "is not what a local cloud writes" in login(services=None)
    state.chmod(0o666)
    assert "written by others" in login()
    assert hub.seen == []
    state.write_text(json.dumps({**there, "pid": 2**22 + 1}))
    assert cli.run("login", "--local").code == 7
    state.unlink()
    assert cli.run("login", "--local").code == 7


def test_the_local_clouds_secret_is_sent_to_its_issuer_only(cli: Cli, hub: ScriptedHub) -> None:
    """The Hub does not get it, and it is read again at each use, as the address is."""
    state = cli.folder / ".localcloud" / "state.json"
    state.parent.mkdir()
    offers(hub, {"kind": "local"})
    with ScriptedHub() as issuer:
        issuer.answers = lambda _: Reply(body={"token": id_token("x", "dev@localhost")})
        there = {"pid": os.getpid(), "address": hub.address, "secret": "s3cret"}
        state.write_text(json.dumps({**there, "services": {"identity": issuer.address}}))
        below = cli.folder / "deep" / "below"
        below.mkdir(parents=True)
        cli.environment["PWD"] = str(below)
        cli.succeed("login", "--local")
        [seen] = issuer.seen
        assert seen.headers["Authorization"] == "Bearer s3cret"
        assert seen.body == {"email": "dev@localhost", "audience": hub.address}
        assert "s3cret" not in str([dict(each.headers) for each in hub.seen])
        assert "s3cret" not in "".join(
            path.read_text() for path in cli.config.rglob("*") if path.is_file()
        )
        with ScriptedHub() as restarted:  # at another address, with other keys
            state.write_text(
                json.dumps(
                    {
                        **there,
                        "address": restarted.address,
                        "services": {"identity": issuer.address},
                    }
                )
            )
            tokens = iter([id_token("x", "dev@localhost", seconds=1800)])
            issuer.answers = lambda _: Reply(body={"token": next(tokens)})

            def first_refused(_: Seen) -> Reply | None:
                is_old = len(restarted.seen) == 1
                return problem(401, "NOT_AUTHENTICATED", "Keys.") if is_old else None

            restarted.answers = first_refused
            cli.succeed("ls")
            assert len(restarted.seen) == 2


def test_a_local_clouds_machines_need_no_agreement(cli: Cli, hub: ScriptedHub) -> None:
    """They are on this machine, at another port after each start. A bastion is asked about."""
    state = cli.folder / ".localcloud" / "state.json"
    state.parent.mkdir()
    with ScriptedHub() as issuer:
        issuer.answers = lambda _: Reply(body={"token": id_token("x", "dev@localhost")})
        there = {"pid": os.getpid(), "address": hub.address}
        state.write_text(json.dumps({**there, "services": {"identity": issuer.address}}))
        direct = {"kind": "direct", "port": 2200, "jump": None, "user": "workspace"}
        for port in (2200, 2201):
            hub.sign_in = {**SIGN_IN, "connect": {**direct, "port": port}}
            said = cli.succeed("login", "--local").err
            assert "signed in to " in said
            assert " as dev@localhost, through the local cloud." in said
            assert f"reached directly, on port {port}, as the user workspace." in said
            assert "Its name here is local. Next:\n  workspace create" in said
        assert "2201" in (cli.config / "config.json").read_text()
        hub.sign_in = {**SIGN_IN, "connect": {**direct, "jump": "eve@evil.example.com"}}
        done = cli.run("login", "--local")
        assert (done.code, "eve@evil.example.com" in done.err) == (2, True)
