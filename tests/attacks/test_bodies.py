"""Bodies that are long, slow, broken or not what they say, sent by raw socket to the functions' own ports."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.api_client import ApiClient
from localcloud.catalogue import read_catalogue
from localcloud.running_cloud import RunningCloud
from shared.entry.wsgi import MOST_DROPPED_BYTES
from tests.attacks.raw import (
    PIECE,
    Answer,
    at_once,
    chunked,
    growth,
    head,
    in_turn,
    send,
    send_and_break_off,
)

pytestmark = pytest.mark.xdist_group("attacks")

CATALOGUE = read_catalogue()
LONG = 30 * 1024 * 1024
AT_ONCE = 16
MOST_GROWTH_MIB = 40
A_FUNCTION_OF_EACH_KIND = {
    "create_workspace": "/workspaces",
    "describe_api": "/health",
    "report_workspace": f"/workspaces/{uuid.uuid4()}/reports",
    "advance_operation": "/operations",
    "provision_workspace": "/",
    "reconcile": "/reconcile",
}


def direct(cloud: RunningCloud, name: str) -> str:
    """Return the address of a function's process itself, behind all that stands before it."""
    return str(cloud.state["functions"][name]["direct_url"])


def create(token: str, *lines: str) -> bytes:
    """Return the head of a request for a workspace."""
    return head(
        "POST",
        "/workspaces",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        *lines,
    )


def workspaces_of(person: ApiClient) -> list[str]:
    """Return the names of a person's workspaces."""
    return [workspace["name"] for workspace in person.workspaces()]


@pytest.mark.parametrize("how", ["Content-Length", "chunked"])
@pytest.mark.parametrize("name", A_FUNCTION_OF_EACH_KIND)
def test_long_bodies_of_strangers_cost_no_memory(
    attacked: RunningCloud, name: str, how: str
) -> None:
    """Sixteen of 30 MB at once: each is refused, and none is ever in memory."""
    said = "Transfer-Encoding: chunked" if how == "chunked" else f"Content-Length: {LONG}"
    pieces = [PIECE] * (LONG // len(PIECE))
    first = head("POST", A_FUNCTION_OF_EACH_KIND[name], "Content-Type: application/json", said)
    body = [*chunked(pieces)] if how == "chunked" else pieces

    with growth(attacked, name) as grown:
        answers = at_once(direct(attacked, name), [[first, *body]] * AT_ONCE)

    assert grown["MiB"] <= MOST_GROWTH_MIB
    # 0: the end overtook the answer; 200: a function of the scheduler's never looks at a body
    assert {answer.status for answer in answers} <= {0, 400, 401, 405, 413} | (
        {200} if name == "reconcile" else set()
    )
    assert send(direct(attacked, name), [head("GET", "/favicon.ico")]).status in {404, 405}, (
        "it has not survived"
    )


def test_a_chunked_body_over_64_kib_is_refused_and_not_believed_in_part(
    attacked: RunningCloud, alice: ApiClient, token: str
) -> None:
    """What was cut off may have been what mattered."""
    whole = json.dumps({"name": "one"}).encode()
    padded = whole + b" " * (64 * 1024)
    for pieces in ([whole, b" " * 64 * 1024], [padded], [bytes([byte]) for byte in padded]):
        answer = send(
            direct(attacked, "create_workspace"),
            [create(token, "Transfer-Encoding: chunked"), *chunked(pieces)],
        )
        assert (answer.status, answer.code) == (413, "BODY_TOO_LARGE")
    fitting = [whole, b" " * (64 * 1024 - len(whole))]
    assert workspaces_of(alice) == []
    taken = send(
        direct(attacked, "create_workspace"),
        [create(token, "Transfer-Encoding: chunked"), *chunked(fitting)],
    )
    assert taken.status == 201


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (["Transfer-Encoding: chunked"], b'zz\r\n{"name": "one"}\r\n0\r\n\r\n'),
        (["Transfer-Encoding: chunked"], b'-1\r\n{"name": "one"}\r\n0\r\n\r\n'),
        (["Transfer-Encoding: chunked"], b'f\r\n{"name": "one"}XX0\r\n\r\n'),
        (["Transfer-Encoding: chunked"], b'ffffffffffffffffff\r\n{"name": "one"}'),
        (["Transfer-Encoding: chunked"], b'f\r\n{"name": "one"}\r\n'),
        (["Content-Length: 4000"], b'{"name": "one"}'),
    ],
)
def test_a_body_that_is_malformed_or_breaks_off_is_400(
    attacked: RunningCloud, alice: ApiClient, token: str, headers: list[str], body: bytes
) -> None:
    """In our form, without an ERROR in the log, and nothing is made."""
    answer = send_and_break_off(
        direct(attacked, "create_workspace"), create(token, *headers) + body
    )
    assert (answer.status, answer.code) == (400, "BAD_REQUEST")
    assert workspaces_of(alice) == []
    assert errors(attacked, "create_workspace") == []


@given(
    body=st.binary(max_size=60) | st.text("0123456789abcdef;\r\n{}", max_size=60).map(str.encode)
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_whatever_comes_as_chunks_is_refused_in_our_form(
    attacked: RunningCloud, body: bytes
) -> None:
    """No bytes make it fail, hang or log an error."""
    token = attacked.token("chunks@example.com")
    request = create(token, "Transfer-Encoding: chunked") + body
    answer = send_and_break_off(direct(attacked, "create_workspace"), request)
    assert (answer.status, answer.code) in {(400, "BAD_REQUEST"), (400, "INVALID_REQUEST")}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
def test_a_body_in_anything_but_utf_8_is_400(
    attacked: RunningCloud, alice: ApiClient, token: str, encoding: str
) -> None:
    """A parser that guesses believes something else than whoever has checked it on the way; a byte order mark is no JSON."""
    body = json.dumps({"name": "one", "metadata": {"branch": "größe"}}, ensure_ascii=False).encode(
        encoding
    )
    answer = send(
        direct(attacked, "create_workspace"), [create(token, f"Content-Length: {len(body)}"), body]
    )
    assert (answer.status, answer.code) == (400, "BAD_REQUEST")
    assert workspaces_of(alice) == []


def test_thousands_of_wrong_fields_are_answered_with_twenty(
    attacked: RunningCloud, token: str
) -> None:
    """And with how many more there are."""
    body = json.dumps({f"field{number}": 1 for number in range(4000)}).encode()
    answer = send(
        direct(attacked, "create_workspace"), [create(token, f"Content-Length: {len(body)}"), body]
    )
    told = json.loads(answer.content)["errors"]
    assert (answer.status, len(told)) == (400, 20)
    assert (
        told[-1]["message"] == "and 3982 more fields are wrong"
    )  # 4,000, and the name that is missing
    assert len(answer.content) < 8000


@pytest.mark.parametrize("known", [True, False])
def test_slow_bodies_stop_nobody_else(
    attacked: RunningCloud, alice: ApiClient, token: str, known: bool
) -> None:
    """As many as an instance takes at once: a refusal does not wait for the body, and who is known gets five seconds."""
    url, done = direct(attacked, "create_workspace"), threading.Event()
    who = f"Authorization: Bearer {token if known else 'nobody'}"

    def slowly() -> Iterator[bytes]:
        yield head(
            "POST", "/workspaces", who, "Content-Type: application/json", "Content-Length: 5000"
        )
        until = time.monotonic() + 50
        while not done.wait(0.2) and time.monotonic() < until:
            yield b" "

    answers: list[Answer] = []
    senders = [
        threading.Thread(target=lambda: answers.append(send(url, slowly())))
        for _ in range(CATALOGUE["create_workspace"].concurrency)
    ]
    for sender in senders:
        sender.start()
    time.sleep(0.5)  # they are at it
    try:
        began = time.monotonic()
        assert alice.create("one")["name"] == "one"
        assert time.monotonic() - began < 40, "it was their end that was waited for"
    finally:
        done.set()
        for sender in senders:
            sender.join()
    assert {answer.status for answer in answers} == ({408} if known else {401})


def test_who_sends_all_before_reading_is_not_left_waiting(attacked: RunningCloud) -> None:
    """The end of the connection is a reset, so that the sender does not wait for somebody to read on."""
    url = urlsplit(direct(attacked, "create_workspace"))
    with socket.create_connection((url.hostname, url.port), timeout=40) as connection:
        connection.sendall(head("POST", "/workspaces", f"Content-Length: {2 * MOST_DROPPED_BYTES}"))
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * (2 * MOST_DROPPED_BYTES))


def test_a_refused_body_hides_no_second_request(attacked: RunningCloud, token: str) -> None:
    """What is dropped after an answer is not parsed any more: the server lost its place in it, and would find a request there."""
    name = uuid.uuid4().hex
    body = json.dumps({"name": name}).encode()
    hidden = create(token, f"Content-Length: {len(body)}") + body
    inner = (b"a" * 7000 + b'"\r\n' + b"b" * 16 + b"\r\n0\r\n\r\n" + hidden) * 300
    url = direct(attacked, "create_workspace")

    def smuggled() -> Iterator[bytes]:
        yield head(
            "POST", "/workspaces", "Content-Type: application/json", "Transfer-Encoding: chunked"
        )
        yield b"fffa\r\n" + b"x" * 0xFFFA
        time.sleep(0.2)
        yield b"\r\n10\r\n" + b"x" * 16 + b'\r\n10;a="'
        time.sleep(0.1)
        yield b'"\r\n' + b"b" * 16 + b"\r\n%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"

    answer = send(url, smuggled())
    assert answer.status == 401
    sound = ApiClient(attacked.address, token)
    sound.create("sound")
    assert workspaces_of(sound) == ["sound"]


def test_a_short_body_that_was_refused_leaves_the_connection_in_order(
    attacked: RunningCloud, token: str
) -> None:
    """The next request on it is the next one, whatever the first one's body was like."""
    body = json.dumps({"name": "one"}).encode()
    refused = (
        head(
            "POST", "/workspaces", "Content-Type: application/json", f"Content-Length: {len(body)}"
        )
        + body
    )
    taken = create(token, f"Content-Length: {len(body)}") + body
    answers = in_turn(direct(attacked, "create_workspace"), [refused, taken])
    assert [answer.status for answer in answers] == [401, 201]


def errors(cloud: RunningCloud, name: str) -> list[str]:
    """Return the lines of a function's log that are errors."""
    lines = [json.loads(line) for line in cloud.log(name).splitlines()]
    return [str(line) for line in lines if line["severity"] not in {"DEBUG", "INFO", "WARNING"}]


@pytest.mark.parametrize("mebibytes", [1, 4, 16])
def test_a_refusal_of_a_long_body_comes_through_what_stands_before_the_function(
    attacked: RunningCloud, token: str, mebibytes: int
) -> None:
    """A proxy that is still sending when the answer is there must hand it on: elsewhere it was lost in a reset, and a 502 came."""
    for who, expected in ((token, 413), ("nobody", 401)):
        headers = {"Authorization": f"Bearer {who}", "Content-Type": "application/json"}
        answer = requests.post(
            f"{attacked.address}/workspaces",
            data=b" " * (mebibytes << 20),
            headers=headers,
            timeout=60,
        )
        assert answer.status_code == expected
