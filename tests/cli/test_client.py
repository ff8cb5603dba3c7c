"""What the client sends, sends again, and does not send."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

import pytest

from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import Reply, ScriptedHub, Seen, problem, workspace
from workspace_cli.client import MOST_BYTES, HubClient, Request
from workspace_cli.config import Hub, SignIn
from workspace_cli.errors import (
    CommandError,
    NoAnswerError,
    NotUnderstoodError,
    RefusedError,
    SignInError,
)
from workspace_cli.sign_in.tokens import GivenToken

TOKEN = "a.secret.token"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited; it does not wait here."""
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found


@pytest.fixture
def client(hub: ScriptedHub) -> Iterator[HubClient]:
    """A client of the scripted Hub."""
    there = Hub(name="hub", address=hub.address, sign_in=SignIn(kind="token"))
    made = HubClient(there, GivenToken(TOKEN, "a test"))
    yield made
    made.close()


def once(*replies: Reply) -> Iterator[Reply | None]:
    """Answer these one after the other, then as the Hub does by default."""
    yield from replies
    while True:
        yield None


UNAVAILABLE = problem(503, "UNAVAILABLE", "Firestore does not answer.")


@pytest.mark.usefixtures("waits")
def test_a_read_is_tried_again_a_few_times(hub: ScriptedHub, client: HubClient) -> None:
    """What passes by itself is not told; what stays is, after four tries."""
    replies = once(UNAVAILABLE, Reply(502, b"<html>"))
    hub.answers = lambda _: next(replies)
    assert client.workspaces() == []
    assert len(hub.seen) == 3
    hub.answers = lambda _: UNAVAILABLE
    with pytest.raises(NoAnswerError) as raised:
        client.workspaces()
    assert len(hub.seen) == 7
    assert raised.value.request_id == hub.seen[-1].headers["X-Request-Id"]
    broken = once(Reply(0), Reply(0))
    hub.answers = lambda _: next(broken)
    assert client.workspaces() == []


def test_a_wait_that_the_hub_asks_for_is_kept(
    hub: ScriptedHub, client: HubClient, waits: list[float]
) -> None:
    """As seconds or as a date; for changes, too, since what was too much was not done."""
    too_many = {"code": "TOO_MANY_REQUESTS", "detail": "Wait."}
    replies = once(
        Reply(429, too_many, {"Retry-After": "7"}),
        Reply(429, too_many, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    )
    hub.answers = lambda _: next(replies)
    hub.workspaces = [workspace()]
    client.delete(hub.workspaces[0]["id"])
    assert waits == [7.0, 0.1]


@pytest.mark.parametrize("told", ["9" * 9, "121", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_hub_cannot_make_a_script_wait_for_ever(
    hub: ScriptedHub, client: HubClient, waits: list[float], told: str
) -> None:
    """A wait beyond two minutes is refused at once."""
    too_many = Reply(429, {"code": "TOO_MANY_REQUESTS", "detail": "x"}, {"Retry-After": told})
    hub.answers = lambda _: too_many
    with pytest.raises(RefusedError):
        client.workspaces()
    assert waits == []


def test_a_change_is_not_repeated_blindly(
    hub: ScriptedHub, client: HubClient, waits: list[float]
) -> None:
    """A DELETE, or a rebuild, whose answer was lost might have been done; nothing repeats it."""
    hub.answers = lambda _: problem(500, "INTERNAL", "A fault.")
    with pytest.raises(NoAnswerError):
        client.delete("0")
    with pytest.raises(NoAnswerError):
        client.start("0", {"rebuild": True})
    assert hub.paths() == ["DELETE /workspaces/0", "POST /workspaces/0/start"]
    hub.always(Reply(0))
    with pytest.raises(NoAnswerError, match="broke off"):
        client.delete("0")
    assert len(hub.seen) == 3
    assert waits == []


def test_a_repeated_create_makes_no_second_workspace(at_hub: Cli, hub: ScriptedHub) -> None:
    """All tries of one run have one key; another run has another."""
    replies = once(UNAVAILABLE, Reply(502, None))
    hub.answers = lambda _: next(replies)
    at_hub.succeed("create", "api", "--no-wait")
    keys = [each.headers["Idempotency-Key"] for each in hub.seen]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len({each.headers["X-Request-Id"] for each in hub.seen}) == 3
    at_hub.succeed("create", "other", "--no-wait")
    assert hub.seen[-1].headers["Idempotency-Key"] not in keys
    assert hub.seen[-1].body == {"name": "other", "metadata": {"device_id": "laptop"}}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirection_is_followed(hub: ScriptedHub, client: HubClient, status: int) -> None:
    """Not even to the same origin: a Hub has no reason to."""
    with ScriptedHub() as other:
        for target in (f"{other.address}/workspaces", "/workspaces", "//evil", "\\\\evil"):
            hub.always(Reply(status, headers={"Location": target}))
            with pytest.raises(RefusedError, match="your token will not"):
                client.workspaces()
        assert other.seen == []


@pytest.mark.parametrize(
    "link", ["{other}/workspaces?page=2", "//{host}/w", "https://x@{host}/w", "http://["]
)
def test_a_next_page_elsewhere_gets_no_token(
    hub: ScriptedHub, client: HubClient, link: str
) -> None:
    """Pages are read from the Hub's own origin only."""
    with ScriptedHub() as other:
        target = link.format(other=other.address, host=other.address.removeprefix("http://"))
        hub.answers = lambda _: Reply(body=[], headers={"Link": f'<{target}>; rel="next"'})
        with pytest.raises(NotUnderstoodError, match="is at another address"):
            client.workspaces()
        assert other.seen == []


def test_all_pages_are_read_and_no_loop_is_endless(hub: ScriptedHub, client: HubClient) -> None:
    """Relative and absolute addresses of the Hub lead to the next page; a circle is noticed."""
    pages = {
        None: Reply(body=[1], headers={"Link": '</workspaces?page_token=a>; rel="next"'}),
        "a": Reply(
            body=[2], headers={"Link": f'<{hub.address}/workspaces?page_token=b>; rel="next"'}
        ),
        "b": Reply(body=[3], headers={"Link": '</x>; rel="prev"'}),
    }
    hub.answers = lambda seen: pages[next(iter(seen.query.get("page_token", [])), None)]
    assert client.workspaces() == [1, 2, 3]
    hub.answers = lambda _: Reply(body=[], headers={"Link": '</workspaces?p=1>; rel="next"'})
    with pytest.raises(NotUnderstoodError, match="does not end"):
        client.workspaces()


def test_an_answer_has_a_largest_size(hub: ScriptedHub, client: HubClient) -> None:
    """As it comes and as it is unpacked."""
    large = b" " * (MOST_BYTES + 1)
    packed = {"Content-Encoding": "gzip"}
    for reply in (Reply(body=large), Reply(body=gzip.compress(large), headers=packed)):
        hub.always(reply)
        with pytest.raises(NotUnderstoodError, match="larger than 8 MiB"):
            client.workspaces()


def test_an_answer_that_does_not_end_is_given_up(hub: ScriptedHub, client: HubClient) -> None:
    """A Hub that sends nothing more, or a byte now and then, stops no script."""

    def trickle(_: Seen) -> Reply:
        time.sleep(0.5)
        return Reply(body=[])

    hub.answers = trickle
    with pytest.raises(NoAnswerError, match="has not answered within"):
        client.send(Request("GET", "/workspaces"), whole_seconds=0.05)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"a": NaN}', b"1" * 5000, b"null", b'"text"'],
)
def test_what_is_no_list_is_told(hub: ScriptedHub, client: HubClient, body: bytes) -> None:
    """Broken, deep and foreign JSON is an error of one line."""
    hub.answers = lambda _: Reply(body=body)
    with pytest.raises(NotUnderstoodError):
        client.workspaces()


def test_a_password_of_netrc_does_not_take_the_tokens_place(at_hub: Cli, hub: ScriptedHub) -> None:
    """The library would send it instead, for a host that has one."""
    home = at_hub.folder / "home" / ".netrc"
    home.write_text("machine 127.0.0.1 login somebody password something\n")
    home.chmod(0o600)
    at_hub.succeed("ls")
    assert hub.seen[0].headers["Authorization"] == "Bearer a.token.of-a-program"
    assert hub.seen[0].headers["User-Agent"].startswith("workspace/")


def test_no_cookie_is_kept(hub: ScriptedHub, client: HubClient) -> None:
    """What proves the person is the token alone."""
    hub.answers = lambda _: Reply(body=[], headers={"Set-Cookie": "a=b; Path=/"})
    client.workspaces()
    client.workspaces()
    assert "Cookie" not in hub.seen[-1].headers


class _Tokens:
    """Has a second token, once."""

    hint = "sign in again"

    def __init__(self) -> None:
        self.left = ["second"]

    def token(self) -> str:
        return "first"

    def fresh_token(self, refused: str) -> str | None:
        assert refused == "first"
        return self.left.pop() if self.left else None


def test_a_refused_token_is_exchanged_once(hub: ScriptedHub) -> None:
    """The Hub's keys may have changed, as a local cloud's do; a second refusal is told."""
    unproven = problem(401, "NOT_AUTHENTICATED", "Not so.")
    hub.answers = lambda seen: (
        None if seen.headers["Authorization"].endswith("second") else unproven
    )
    there = Hub(name="hub", address=hub.address, sign_in=SignIn(kind="token"))
    client = HubClient(there, _Tokens())
    try:
        assert client.workspaces() == []
        hub.answers = lambda _: unproven
        with pytest.raises(SignInError) as raised:
            client.workspaces()
    finally:
        client.close()
    assert raised.value.hint == "sign in again"
    assert [each.headers["Authorization"] for each in hub.seen] == [
        "Bearer first",
        "Bearer second",
        "Bearer first",
    ]


def test_an_older_hub_is_understood(at_hub: Cli, hub: ScriptedHub) -> None:
    """One that lacks the read of a workspace and the filter by name is asked in its own way."""
    hub.workspaces = [workspace("api"), workspace("other")]

    def older(seen: Seen) -> Reply | None:
        if "name" in seen.query:
            wrong = [{"field": "name", "message": "is not a field; there are: status"}]
            return problem(400, "INVALID_REQUEST", "name: is not a field", errors=wrong)
        if seen.method == "GET" and seen.path.count("/") == 2:
            return problem(405, "METHOD_NOT_ALLOWED", "Not this method.")
        return None

    hub.answers = older
    assert at_hub.succeed("show", "api", "-o", "json").json["name"] == "api"
    assert "is ready" in at_hub.succeed("wait", "api").err
    assert at_hub.run("show", "apx").code == 3


def test_a_clock_that_is_wrong_spoils_no_time(at_hub: Cli, hub: ScriptedHub) -> None:
    """What is ahead is counted by the Hub's clock."""
    hub.answers = lambda _: Reply(
        body=[workspace("api")], headers={"Date": "Mon, 23 Nov 2026 18:09:12 GMT"}
    )
    assert "sleeps in 38 min" in at_hub.succeed("ls").out
    hub.answers = lambda _: Reply(body=[workspace("api")], headers={"Date": "\x00, 99 Foo"})
    assert at_hub.run("ls").code in {0, 7}  # what breaks HTTP itself is no answer


def test_every_error_of_the_client_is_one_of_the_tree() -> None:
    """The group turns no other into an exit code."""
    assert issubclass(NotUnderstoodError, CommandError)
