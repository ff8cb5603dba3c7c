"""Long, slow, broken and mislabelled bodies, sent by raw socket to the functions' own ports."""

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
    chunked,
    head,
    memory_growth,
    send,
    send_at_once,
    send_in_turn,
    send_incomplete,
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
    """Return the address of a function's own process, without the front and the gateway."""
    return str(cloud.state["functions"][name]["direct_url"])


def create(token: str, *lines: str) -> bytes:
    """Return the head of a request that creates a workspace."""
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
    """Sixteen of 30 MiB at once are refused without ever being in memory."""
    said = "Transfer-Encoding: chunked" if how == "chunked" else f"Content-Length: {LONG}"
    pieces = [PIECE] * (LONG // len(PIECE))
    first = head("POST", A_FUNCTION_OF_EACH_KIND[name], "Content-Type: application/json", said)
    body = [*chunked(pieces)] if how == "chunked" else pieces

    with memory_growth(attacked, name) as grown:
        answers = send_at_once(direct(attacked, name), [[first, *body]] * AT_ONCE)

    assert grown["MiB"] <= MOST_GROWTH_MIB
    # 0: the connection ended before the answer; 200: a scheduled function never reads a body
    assert {answer.status for answer in answers} <= {0, 400, 401, 405, 413} | (
        {200} if name == "reconcile" else set()
    )
    assert send(direct(attacked, name), [head("GET", "/favicon.ico")]).status in {404, 405}, (
        "the function has ended"
    )


def test_a_chunked_body_over_64_kib_is_refused_and_its_beginning_has_no_effect(
    attacked: RunningCloud, alice: ApiClient, token: str
) -> None:
    """It gets 413 and makes no workspace; a body of exactly 64 KiB is accepted."""
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
def test_a_malformed_or_incomplete_body_is_400(
    attacked: RunningCloud, alice: ApiClient, token: str, headers: list[str], body: bytes
) -> None:
    """The answer is a problem document, no ERROR is logged, and no workspace is made."""
    answer = send_incomplete(direct(attacked, "create_workspace"), create(token, *headers) + body)
    assert (answer.status, answer.code) == (400, "BAD_REQUEST")
    assert workspaces_of(alice) == []
    assert errors(attacked, "create_workspace") == []


@given(
    body=st.binary(max_size=60) | st.text("0123456789abcdef;\r\n{}", max_size=60).map(str.encode)
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_any_bytes_as_chunks_are_refused_with_a_problem_document(
    attacked: RunningCloud, body: bytes
) -> None:
    """No bytes make the function crash or hang."""
    token = attacked.token("chunks@example.com")
    request = create(token, "Transfer-Encoding: chunked") + body
    answer = send_incomplete(direct(attacked, "create_workspace"), request)
    assert (answer.status, answer.code) in {(400, "BAD_REQUEST"), (400, "INVALID_REQUEST")}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
def test_a_body_in_anything_but_utf_8_is_400(
    attacked: RunningCloud, alice: ApiClient, token: str, encoding: str
) -> None:
    """A parser that guesses the encoding may read other values than a proxy that checked them.

    JSON has no byte order mark.
    """
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
    """The last error says how many more there are."""
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
def test_slow_bodies_do_not_block_other_requests(
    attacked: RunningCloud, alice: ApiClient, token: str, known: bool
) -> None:
    """As many arrive as an instance takes at once.

    A refusal does not wait for the body; a person with a token has five seconds to send it.
    """
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
    time.sleep(0.5)  # until all are sending
    try:
        began = time.monotonic()
        assert alice.create("one")["name"] == "one"
        assert time.monotonic() - began < 40, "the create waited for the slow bodies to end"
    finally:
        done.set()
        for sender in senders:
            sender.join()
    assert {answer.status for answer in answers} == ({408} if known else {401})


def test_a_client_that_sends_a_long_body_before_it_reads_gets_a_reset(
    attacked: RunningCloud,
) -> None:
    """Without the reset it would wait for a server that no longer reads."""
    url = urlsplit(direct(attacked, "create_workspace"))
    with socket.create_connection((url.hostname, url.port), timeout=40) as connection:
        connection.sendall(head("POST", "/workspaces", f"Content-Length: {2 * MOST_DROPPED_BYTES}"))
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * (2 * MOST_DROPPED_BYTES))


def test_a_request_inside_a_refused_body_is_not_served(attacked: RunningCloud, token: str) -> None:
    """The rest of the body is dropped unparsed, as the server has lost its place in the chunks."""
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


def test_a_connection_serves_the_next_request_after_a_short_refused_body(
    attacked: RunningCloud, token: str
) -> None:
    """The unread body of the first request is not taken for the second one."""
    body = json.dumps({"name": "one"}).encode()
    refused = (
        head(
            "POST", "/workspaces", "Content-Type: application/json", f"Content-Length: {len(body)}"
        )
        + body
    )
    taken = create(token, f"Content-Length: {len(body)}") + body
    answers = send_in_turn(direct(attacked, "create_workspace"), [refused, taken])
    assert [answer.status for answer in answers] == [401, 201]


def errors(cloud: RunningCloud, name: str) -> list[str]:
    """Return the error lines of a function's log."""
    lines = [json.loads(line) for line in cloud.log(name).splitlines()]
    return [str(line) for line in lines if line["severity"] not in {"DEBUG", "INFO", "WARNING"}]


@pytest.mark.parametrize("mebibytes", [1, 4, 16])
def test_the_gateway_passes_on_the_refusal_of_a_long_body(
    attacked: RunningCloud, token: str, mebibytes: int
) -> None:
    """A proxy that still sends the body must pass on the answer, not a 502 because of the reset."""
    for who, expected in ((token, 413), ("nobody", 401)):
        headers = {"Authorization": f"Bearer {who}", "Content-Type": "application/json"}
        answer = requests.post(
            f"{attacked.address}/workspaces",
            data=b" " * (mebibytes << 20),
            headers=headers,
            timeout=60,
        )
        assert answer.status_code == expected
