"""The front of a function and the API gateway, over HTTP, with a function that shows its input."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from localcloud.catalogue import Function, Route
from localcloud.processes.children import free_ports
from localcloud.services.api_gateway import ApiGateway, Backends, Routes
from localcloud.services.cloud_run_front import (
    BODY_LIMIT_BYTES,
    ActiveRequests,
    CloudRun,
    CloudRunFront,
    TokenVerifier,
)
from localcloud.services.identity.server import IdentityServer
from localcloud.services.identity.tokens import UserToken
from localcloud.services.project import Project
from localcloud.services.proxy import catch_all_routes, new_session
from localcloud.services.requests_file import RequestsFile

PROJECT = Project(id="demo-project", number="1", zones=())
INVOKER = "scheduler@demo-project.iam.gserviceaccount.com"
FUNCTION = Function(
    name="cleanup",
    source="functions/scheduled/cleanup.py",
    trigger="http",
    invoker="scheduler",
    runs_as="scheduled",
    memory_mib=256,
    timeout_seconds=5,
    concurrency=1,
    max_instances=1,
)
PUBLIC = replace(
    FUNCTION,
    name="delete_workspace",
    source="functions/api/delete_workspace.py",
    invoker="everyone",
    routes=(Route(method="DELETE", path="/workspaces/{workspace_id}"),),
)


class Stage:
    """An issuer, a function that says what it got, and the front before it."""

    def __init__(
        self, stack: AsyncExitStack, session: aiohttp.ClientSession, identity: IdentityServer
    ) -> None:
        self.stack = stack
        self.session = session
        self.identity = identity
        self.calls = 0

    async def function(self, port: int = 0) -> str:
        """Start the function and return its address."""
        app = web.Application()
        app.add_routes(catch_all_routes(self._answer))
        runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.5)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def front(
        self, target: str, *, invoker: str | None = None, function: Function = FUNCTION
    ) -> CloudRunFront:
        """Start a front before an address."""
        cloud_run = CloudRun(
            verifier=TokenVerifier(self.identity.keys_url, self.session),
            requests=ActiveRequests(),
            session=self.session,
        )
        front = CloudRunFront(function, target=target, invoker=invoker, cloud_run=cloud_run)
        await front.start_within(self.stack)
        return front

    async def gateway(
        self, front: CloudRunFront, requests_file: RequestsFile | None = None
    ) -> ApiGateway:
        """Start a gateway that leads to a front."""
        backends = Backends(
            routes=Routes((PUBLIC,)), urls={PUBLIC.name: front.url}, session=self.session
        )
        gateway = ApiGateway(
            backends, developer_token=lambda: "the-developer", requests_file=requests_file
        )
        await gateway.start_within(self.stack)
        return gateway

    def token(self, audience: str, *, email: str = INVOKER, **more: Any) -> dict[str, str]:
        """Return the header of a token."""
        wanted = UserToken(email=email, audience=audience, **more)
        return {"Authorization": f"Bearer {self.identity.issuer.user_token(wanted)}"}

    async def call(self, url: str, method: str = "POST", **options: Any) -> tuple[int, Any, bytes]:
        """Return status, headers and body of an answer."""
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(method, url, **options) as answer,
        ):
            return answer.status, answer.headers, await answer.read()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        if request.path == "/slow":
            await asyncio.sleep(60)
        if request.path == "/dies" and request.transport:
            request.transport.abort()
        if request.path == "/compressed":
            return web.Response(
                body=gzip.compress(b"well"), headers={"Content-Encoding": "gzip", "X-Own": "one"}
            )
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        seen = {"path": request.rel_url.raw_path_qs, "size": size, "headers": dict(request.headers)}
        return web.json_response(seen, status=202, headers={"X-Own": "one"})


def staged(play: Callable[[Stage], Awaitable[None]]) -> None:
    """Have a test's play on a stage."""

    async def perform() -> None:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(new_session(reuse_connections=False))
            identity = IdentityServer(PROJECT)
            await identity.start_within(stack)
            await play(Stage(stack, session, identity))

    asyncio.run(perform())


def test_a_request_reaches_the_function_as_it_was_sent() -> None:
    """Path, query, body and headers arrive unchanged, with the client's address beside them."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function())
        headers = {
            "X-Own": "one",
            "X-Forwarded-For": "10.1.2.3",
            "Connection": "X-Hop",
            "X-Hop": "1",
        }
        status, answered, body = await stage.call(
            f"{front.url}/a%2Fb//c?d=%20e&d=", data=b"x" * 70_000, headers=headers
        )
        seen = json.loads(body)
        assert (status, answered["X-Own"]) == (202, "one")
        assert (seen["path"], seen["size"]) == ("/a%2Fb//c?d=%20e&d=", 70_000)
        assert f"http://{seen['headers']['Host']}" == front.url
        assert seen["headers"]["X-Own"] == "one"
        assert seen["headers"]["X-Forwarded-For"] == "10.1.2.3, 127.0.0.1"
        assert "X-Hop" not in seen["headers"]

    staged(play)


def test_a_header_with_an_underscore_does_not_reach_the_function() -> None:
    """WSGI confuses it with the one with a hyphen, or with the path; nothing forwards it."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function(), function=PUBLIC)
        gateway = await stage.gateway(front)
        odd = {
            "SCRIPT_NAME": "/x",
            "X_Forwarded_For": "10.0.0.1",
            "content_length": "3",
            "_": "1",
            "x-own_": "2",
        }
        for url in (front.url, gateway.url):
            status, _, body = await stage.call(
                f"{url}/workspaces/7", "DELETE", headers={**odd, "X-Own": "one"}
            )
            seen = json.loads(body)["headers"]
            assert (status, seen["X-Own"]) == (202, "one")
            assert not any("_" in name for name in seen)

    staged(play)


def test_an_answer_comes_back_as_it_was_given() -> None:
    """A compressed answer stays compressed, and HEAD has no body."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function())
        status, headers, body = await stage.call(f"{front.url}/compressed", "GET")
        assert (status, headers["Content-Encoding"], gzip.decompress(body)) == (
            200,
            "gzip",
            b"well",
        )
        status, headers, body = await stage.call(f"{front.url}/compressed", "HEAD")
        assert (status, headers["X-Own"], body) == (200, "one", b"")

    staged(play)


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_a_body_over_32_mib_is_refused(announced: bool) -> None:
    """Cloud Run takes 32 MiB, whether the length is announced or not, and says 413 to more."""

    async def chunks(size: int) -> Any:
        for _ in range(size // 65536):
            yield b"x" * 65536
        yield b"x" * (size % 65536)

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function())
        for size, expected in ((BODY_LIMIT_BYTES, 202), (BODY_LIMIT_BYTES + 1, 413)):
            headers = {"Content-Length": str(size)} if announced else {}
            status, _, _ = await stage.call(front.url, data=chunks(size), headers=headers)
            assert status == expected

    staged(play)


def test_a_function_that_takes_too_long_is_given_up() -> None:
    """After the catalogue's timeout the caller gets 504."""

    async def play(stage: Stage) -> None:
        front = await stage.front(
            await stage.function(), function=replace(FUNCTION, timeout_seconds=0.2)
        )
        status, _, _ = await stage.call(f"{front.url}/slow")
        assert status == 504

    staged(play)


def test_a_function_that_dies_over_a_request_is_503() -> None:
    """The caller gets an answer even then."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function())
        status, _, _ = await stage.call(f"{front.url}/dies")
        assert status == 503

    staged(play)


def test_a_request_waits_for_a_function_that_is_being_started() -> None:
    """Nobody listens yet: the request is held, and goes to the function as soon as it does."""

    async def play(stage: Stage) -> None:
        [port] = free_ports(1)
        front = await stage.front(f"http://127.0.0.1:{port}")
        calling = asyncio.create_task(stage.call(f"{front.url}/x", data=b"body"))
        done, _ = await asyncio.wait([calling], timeout=0.3)
        assert not done
        await stage.function(port)
        status, _, body = await calling
        assert (status, json.loads(body)["size"]) == (202, 4)

    staged(play)


def test_a_request_does_not_suffer_from_the_one_before_it() -> None:
    """A server may close a connection after an answer; the next request uses another one."""
    connections: list[asyncio.StreamWriter] = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read(1)  # whatever comes now is lost
        writer.close()

    async def play(stage: Stage) -> None:
        async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
            front = await stage.front(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            statuses = [(await stage.call(front.url))[0] for _ in range(3)]
            assert statuses == [200, 200, 200]
            await asyncio.gather(*(connection.wait_closed() for connection in connections))

    staged(play)


def test_healthz_never_reaches_the_function() -> None:
    """Cloud Run keeps that path for itself."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function())
        status, _, _ = await stage.call(f"{front.url}/healthz", "GET")
        assert (status, stage.calls) == (404, 0)

    staged(play)


def test_the_invoker_gets_through_and_the_function_cannot_reuse_its_token() -> None:
    """The token is for the function's URL or a path below it; its signature is removed."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function(), invoker=INVOKER)
        for audience in (front.url, f"{front.url}/operations"):
            header = stage.token(audience)
            status, _, body = await stage.call(front.url, headers=header)
            claims = header["Authorization"].rpartition(".")[0]
            assert status == 202
            assert (
                json.loads(body)["headers"]["Authorization"]
                == f"{claims}.SIGNATURE_REMOVED_BY_GOOGLE"
            )

    staged(play)


def test_nobody_else_gets_through() -> None:
    """No token or another's is 403; a forged, late or misdirected one 401; none gets through."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function(), invoker=INVOKER)
        stranger = IdentityServer(PROJECT)
        forged = stranger.issuer.user_token(UserToken(email=INVOKER, audience=front.url))
        good = stage.token(front.url)["Authorization"]
        headers: list[tuple[dict[str, str], int]] = [
            ({}, 403),
            ({"Authorization": "Basic YTpi"}, 403),
            (
                stage.token(
                    front.url, email="operations-queue@demo-project.iam.gserviceaccount.com"
                ),
                403,
            ),
            ({"Authorization": "Bearer nonsense"}, 401),
            ({"Authorization": "Bearer n\udcffnsense"}, 401),
            ({"Authorization": good.rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"}, 401),
            ({"Authorization": f"Bearer {forged}"}, 401),
            (stage.token(front.url, lifetime=timedelta(seconds=-60)), 401),
            (stage.token(front.url + "0"), 401),
            (stage.token("https://somewhere.example.com"), 401),
        ]
        for header, expected in headers:
            status, answered, _ = await stage.call(front.url, headers=header)
            assert (status, "WWW-Authenticate" in answered) == (expected, expected == 401), header
        assert stage.calls == 0

    staged(play)


def test_the_token_of_a_person_is_left_alone() -> None:
    """Where everyone is let in, the code checks the token, so it comes whole."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function(), function=PUBLIC)
        _, _, body = await stage.call(front.url, headers={"Authorization": "Bearer a.b.c"})
        assert json.loads(body)["headers"]["Authorization"] == "Bearer a.b.c"

    staged(play)


def test_the_gateway_leads_to_the_front_and_gives_the_developers_token_to_who_has_none() -> None:
    """A client without a token is the developer; one with a token keeps it."""

    async def play(stage: Stage) -> None:
        gateway = await stage.gateway(await stage.front(await stage.function(), function=PUBLIC))
        for given, arrives in (
            ({}, "Bearer the-developer"),
            ({"Authorization": "Bearer a.b.c"}, "Bearer a.b.c"),
        ):
            status, _, body = await stage.call(
                f"{gateway.url}/workspaces/7?x=1", "DELETE", headers=given
            )
            seen = json.loads(body)
            assert (status, seen["path"], seen["headers"]["Authorization"]) == (
                202,
                "/workspaces/7?x=1",
                arrives,
            )

    staged(play)


@pytest.mark.parametrize(
    ("page", "developer"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Connection": "Sec-Fetch-Site"}, False),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
    ],
    ids=str,
)
def test_the_gateway_gives_no_token_to_a_page_of_another_site(
    page: dict[str, str], developer: bool
) -> None:
    """Its request is forwarded unchanged, so the function refuses it unless it has a token."""

    async def play(stage: Stage) -> None:
        gateway = await stage.gateway(await stage.front(await stage.function(), function=PUBLIC))
        _, _, body = await stage.call(f"{gateway.url}/workspaces/7", "DELETE", headers=page)
        assert json.loads(body)["headers"].get("Authorization") == (
            "Bearer the-developer" if developer else None
        )
        own = {**page, "Authorization": "Bearer a.b.c"}
        _, _, body = await stage.call(f"{gateway.url}/workspaces/7", "DELETE", headers=own)
        assert json.loads(body)["headers"]["Authorization"] == "Bearer a.b.c"

    staged(play)


def test_the_gateway_asks_the_front_by_the_fronts_own_name() -> None:
    """The name by which it was asked itself is in `X-Forwarded-Host`, whatever the client says."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function(), function=PUBLIC)
        gateway = await stage.gateway(front)
        host = gateway.url.replace("http://127.0.0.1", "LocalHost")
        given = {"Host": host, "X-Forwarded-Host": "evil.example", "Connection": "Host"}
        status, _, body = await stage.call(f"{gateway.url}/workspaces/7", "DELETE", headers=given)
        seen = json.loads(body)["headers"]
        assert (status, f"http://{seen['Host']}", seen["X-Forwarded-Host"]) == (
            202,
            front.url,
            host,
        )

    staged(play)


def test_the_gateway_and_a_front_refuse_a_request_for_another_host() -> None:
    """Each in its own form with its address, before function or developer's token is used."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function(), function=PUBLIC)
        gateway = await stage.gateway(front)
        for url in (gateway.url, front.url):
            headers = {"Host": "evil.example", "X-Request-Id": "my-id"}
            status, answered, body = await stage.call(
                f"{url}/workspaces/7", "DELETE", headers=headers
            )
            assert (status, url in body.decode()) == (421, True)
            if url == gateway.url:
                assert (answered["X-Request-Id"], json.loads(body)["code"]) == (
                    "my-id",
                    "MISDIRECTED_REQUEST",
                )
        assert stage.calls == 0

    staged(play)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/workspaces/7", 405, "METHOD_NOT_ALLOWED"),
        ("OPTIONS", "/workspaces/7", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/workspaces/7/", 404, "NOT_FOUND"),
        ("DELETE", "/workspaces/", 404, "NOT_FOUND"),
        ("POST", "/cleanup", 404, "NOT_FOUND"),
    ],
)
def test_the_gateway_refuses_what_the_catalogue_does_not_have(
    method: str, path: str, status: int, code: str
) -> None:
    """Wrong methods and paths are refused in the Hub's form, with the caller's request id."""

    async def play(stage: Stage) -> None:
        gateway = await stage.gateway(await stage.front(await stage.function(), function=PUBLIC))
        answer = await stage.call(gateway.url + path, method, headers={"X-Request-Id": "my-id"})
        problem = json.loads(answer[2])
        assert (answer[0], problem["status"], problem["code"]) == (status, status, code)
        assert answer[1]["Content-Type"] == "application/problem+json"
        assert answer[1]["X-Request-Id"] == "my-id"
        assert answer[1].get("Allow") == ("DELETE" if status == 405 else None)
        assert stage.calls == 0

    staged(play)


def test_the_gateway_makes_a_request_id_for_who_has_no_usable_one() -> None:
    """An id that could forge a log line is replaced."""

    async def play(stage: Stage) -> None:
        gateway = await stage.gateway(await stage.front(await stage.function(), function=PUBLIC))
        for given in ({}, {"X-Request-Id": "not one"}):
            _, headers, _ = await stage.call(f"{gateway.url}/nowhere", headers=given)
            assert len(headers["X-Request-Id"]) == 36

    staged(play)


def test_the_gateway_writes_down_who_asked_what_and_was_answered_what(tmp_path: Path) -> None:
    """A line for each request, without its token."""

    async def play(stage: Stage) -> None:
        front = await stage.front(await stage.function(), function=PUBLIC)
        file = RequestsFile(tmp_path / "requests.jsonl")
        gateway = await stage.gateway(front, file)
        token = stage.token(gateway.url, email="alice@example.com")
        status, _, body = await stage.call(
            f"{gateway.url}/workspaces/7", "DELETE", headers=token, json={"a": 1}
        )
        await stage.call(f"{gateway.url}/workspaces/8?now=1", "DELETE")

        first, second = [json.loads(line) for line in file.path.read_text().splitlines()]
        assert (first["who"], first["method"], first["path"]) == (
            "alice@example.com",
            "DELETE",
            "/workspaces/7",
        )
        assert (first["status"], first["answer"]) == (status, json.loads(body))
        assert first["began"] <= first["ended"] <= second["began"]
        assert (first["asked"], second["asked"]) == ({"a": 1}, None)
        assert (second["who"], second["path"]) == (None, "/workspaces/8?now=1")

    staged(play)
