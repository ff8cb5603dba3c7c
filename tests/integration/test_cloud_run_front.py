"""A function's front and the API gateway, over HTTP, with a function that returns its input."""

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
from localcloud.processes.children import LocalCloudError, free_ports
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
from localcloud.services.page_sign_in import PageSignIn, page_secret
from localcloud.services.project import Project
from localcloud.services.proxy import catch_all_routes, new_session
from localcloud.services.requests_file import RequestsFile

SECRET = "the-secret-of-a-local-cloud"
PAGE_TOKEN = f"Bearer {page_secret('the secret')}"
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


class Bench:
    """A token issuer, a function that shows what it received, and the front before it."""

    def __init__(
        self, stack: AsyncExitStack, session: aiohttp.ClientSession, identity: IdentityServer
    ) -> None:
        self.stack = stack
        self.session = session
        self.identity = identity
        self.calls = 0

    async def start_function(self, port: int = 0) -> str:
        """Start the function and return its address."""
        app = web.Application()
        app.add_routes(catch_all_routes(self._answer))
        runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.5)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def start_front(
        self,
        target: str | LocalCloudError,
        *,
        invoker: str | None = None,
        function: Function = FUNCTION,
    ) -> CloudRunFront:
        """Start a front before an address, or before a function that does not start."""

        async def find_instance() -> str:
            if isinstance(target, LocalCloudError):
                raise target
            return target

        cloud_run = CloudRun(
            verifier=TokenVerifier(self.identity.keys_url, self.session),
            requests=ActiveRequests(),
            session=self.session,
        )
        front = CloudRunFront(
            function, find_instance=find_instance, invoker=invoker, cloud_run=cloud_run
        )
        await front.start_within(self.stack)
        return front

    async def start_gateway(
        self, front: CloudRunFront, requests_file: RequestsFile | None = None
    ) -> ApiGateway:
        """Start a gateway that forwards to a front."""
        backends = Backends(
            routes=Routes((PUBLIC,)), urls={PUBLIC.name: front.url}, session=self.session
        )
        sign_in = PageSignIn(
            {"developer": False, "admin@localhost": True},
            token=lambda email: f"the-{email}",
            secret="the secret",
        )
        gateway = ApiGateway(backends, sign_in=sign_in, requests_file=requests_file)
        await gateway.start_within(self.stack)
        gateway.open()
        return gateway

    def auth_header(self, audience: str, *, email: str = INVOKER, **more: Any) -> dict[str, str]:
        """Return the ``Authorization`` header with a token for an audience."""
        wanted = UserToken(email=email, audience=audience, **more)
        return {"Authorization": f"Bearer {self.identity.issuer.user_token(wanted)}"}

    async def call(self, url: str, method: str = "POST", **options: Any) -> tuple[int, Any, bytes]:
        """Return status, headers and body of the answer."""
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


def run_on_bench(steps: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a test's steps with a new bench."""

    async def perform() -> None:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(new_session(reuse_connections=False))
            identity = IdentityServer(PROJECT, secret=SECRET)
            await identity.start_within(stack)
            await steps(Bench(stack, session, identity))

    asyncio.run(perform())


def test_the_front_forwards_a_request_unchanged() -> None:
    """Path, query, body and headers stay the same; the client's address is added."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function())
        headers = {
            "X-Own": "one",
            "X-Forwarded-For": "10.1.2.3",
            "Connection": "X-Hop",
            "X-Hop": "1",
        }
        status, answered, body = await bench.call(
            f"{front.url}/a%2Fb//c?d=%20e&d=", data=b"x" * 70_000, headers=headers
        )
        seen = json.loads(body)
        assert (status, answered["X-Own"]) == (202, "one")
        assert (seen["path"], seen["size"]) == ("/a%2Fb//c?d=%20e&d=", 70_000)
        assert f"http://{seen['headers']['Host']}" == front.url
        assert seen["headers"]["X-Own"] == "one"
        assert seen["headers"]["X-Forwarded-For"] == "10.1.2.3, 127.0.0.1"
        assert "X-Hop" not in seen["headers"]

    run_on_bench(steps)


def test_headers_with_an_underscore_are_dropped() -> None:
    """WSGI would confuse them with headers that have a hyphen, or with the path."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function(), function=PUBLIC)
        gateway = await bench.start_gateway(front)
        odd = {
            "SCRIPT_NAME": "/x",
            "X_Forwarded_For": "10.0.0.1",
            "content_length": "3",
            "_": "1",
            "x-own_": "2",
        }
        for url in (front.url, gateway.url):
            status, _, body = await bench.call(
                f"{url}/workspaces/7", "DELETE", headers={**odd, "X-Own": "one"}
            )
            seen = json.loads(body)["headers"]
            assert (status, seen["X-Own"]) == (202, "one")
            assert not any("_" in name for name in seen)

    run_on_bench(steps)


def test_the_front_returns_an_answer_unchanged() -> None:
    """A compressed answer stays compressed, and the answer to HEAD has no body."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function())
        status, headers, body = await bench.call(f"{front.url}/compressed", "GET")
        assert (status, headers["Content-Encoding"], gzip.decompress(body)) == (
            200,
            "gzip",
            b"well",
        )
        status, headers, body = await bench.call(f"{front.url}/compressed", "HEAD")
        assert (status, headers["X-Own"], body) == (200, "one", b"")

    run_on_bench(steps)


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_a_body_over_32_mib_is_refused(announced: bool) -> None:
    """Cloud Run answers 413, whether the length is announced or the body is chunked."""

    async def chunks(size: int) -> Any:
        for _ in range(size // 65536):
            yield b"x" * 65536
        yield b"x" * (size % 65536)

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function())
        for size, expected in ((BODY_LIMIT_BYTES, 202), (BODY_LIMIT_BYTES + 1, 413)):
            headers = {"Content-Length": str(size)} if announced else {}
            status, _, _ = await bench.call(front.url, data=chunks(size), headers=headers)
            assert status == expected

    run_on_bench(steps)


def test_a_function_that_exceeds_its_timeout_is_answered_with_504() -> None:
    """The timeout is the one in the catalogue."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(
            await bench.start_function(), function=replace(FUNCTION, timeout_seconds=0.2)
        )
        status, _, _ = await bench.call(f"{front.url}/slow")
        assert status == 504

    run_on_bench(steps)


def test_a_function_that_dies_during_a_request_is_answered_with_503() -> None:
    """The function closes the connection before it answers."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function())
        status, _, _ = await bench.call(f"{front.url}/dies")
        assert status == 503

    run_on_bench(steps)


def test_a_request_waits_until_the_function_has_started() -> None:
    """The front holds it while nothing listens, and sends it as soon as the function does."""

    async def steps(bench: Bench) -> None:
        [port] = free_ports(1)
        front = await bench.start_front(f"http://127.0.0.1:{port}")
        calling = asyncio.create_task(bench.call(f"{front.url}/x", data=b"body"))
        done, _ = await asyncio.wait([calling], timeout=0.3)
        assert not done
        await bench.start_function(port)
        status, _, body = await calling
        assert (status, json.loads(body)["size"]) == (202, 4)

    run_on_bench(steps)


def test_a_function_that_does_not_start_is_answered_with_503() -> None:
    """The page does not show the function's log."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(LocalCloudError("a traceback"))
        status, _, body = await bench.call(front.url)
        assert (status, b"no instance" in body, b"traceback" in body) == (503, True, False)

    run_on_bench(steps)


@pytest.mark.parametrize("path", ["/health", "/workspaces/7", "/nowhere"])
def test_the_gateway_answers_503_to_everything_until_it_is_open_and_once_it_is_closed(
    path: str,
) -> None:
    """The answer says when to try again, and the function is not called."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function(), function=PUBLIC)
        gateway = await bench.start_gateway(front)
        gateway.close()
        for method in ("GET", "DELETE"):
            status, headers, body = await bench.call(gateway.url + path, method)
            assert (status, headers["Retry-After"]) == (503, "1")
            assert json.loads(body)["code"] == "UNAVAILABLE"
        assert bench.calls == 0
        gateway.open()
        status, _, _ = await bench.call(f"{gateway.url}/workspaces/7", "DELETE")
        assert (status, bench.calls) == (202, 1)

    run_on_bench(steps)


def test_each_request_uses_a_new_connection() -> None:
    """A server may close a connection after its answer, and a request sent on it would be lost."""
    connections: list[asyncio.StreamWriter] = []

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read(1)  # what arrives now is lost
        writer.close()

    async def steps(bench: Bench) -> None:
        async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
            front = await bench.start_front(
                f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            )
            statuses = [(await bench.call(front.url))[0] for _ in range(3)]
            assert statuses == [200, 200, 200]
            await asyncio.gather(*(connection.wait_closed() for connection in connections))

    run_on_bench(steps)


def test_the_front_answers_404_to_healthz_itself() -> None:
    """Cloud Run reserves that path."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function())
        status, _, _ = await bench.call(f"{front.url}/healthz", "GET")
        assert (status, bench.calls) == (404, 0)

    run_on_bench(steps)


def test_the_invokers_token_arrives_without_its_signature() -> None:
    """It must be for the function's URL or a path below it; the function cannot use it again."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function(), invoker=INVOKER)
        for audience in (front.url, f"{front.url}/operations"):
            header = bench.auth_header(audience)
            status, _, body = await bench.call(front.url, headers=header)
            claims = header["Authorization"].rpartition(".")[0]
            assert status == 202
            assert (
                json.loads(body)["headers"]["Authorization"]
                == f"{claims}.SIGNATURE_REMOVED_BY_GOOGLE"
            )

    run_on_bench(steps)


def test_the_front_refuses_every_other_caller() -> None:
    """No token or another account's is 403; a forged, expired or misdirected token is 401."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function(), invoker=INVOKER)
        stranger = IdentityServer(PROJECT, secret=SECRET)
        forged = stranger.issuer.user_token(UserToken(email=INVOKER, audience=front.url))
        good = bench.auth_header(front.url)["Authorization"]
        headers: list[tuple[dict[str, str], int]] = [
            ({}, 403),
            ({"Authorization": "Basic YTpi"}, 403),
            (
                bench.auth_header(
                    front.url, email="operations-queue@demo-project.iam.gserviceaccount.com"
                ),
                403,
            ),
            ({"Authorization": "Bearer nonsense"}, 401),
            ({"Authorization": "Bearer n\udcffnsense"}, 401),
            ({"Authorization": good.rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"}, 401),
            ({"Authorization": f"Bearer {forged}"}, 401),
            (bench.auth_header(front.url, lifetime=timedelta(seconds=-60)), 401),
            (bench.auth_header(front.url + "0"), 401),
            (bench.auth_header("https://somewhere.example.com"), 401),
        ]
        for header, expected in headers:
            status, answered, _ = await bench.call(front.url, headers=header)
            assert (status, "WWW-Authenticate" in answered) == (expected, expected == 401), header
        assert bench.calls == 0

    run_on_bench(steps)


def test_the_token_for_a_public_function_arrives_unchanged() -> None:
    """A public function checks the token in its code, so it needs the signature."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function(), function=PUBLIC)
        _, _, body = await bench.call(front.url, headers={"Authorization": "Bearer a.b.c"})
        assert json.loads(body)["headers"]["Authorization"] == "Bearer a.b.c"

    run_on_bench(steps)


def test_the_gateway_adds_the_developers_token_to_a_request_without_one() -> None:
    """It forwards the request to the front; a client with a token keeps its own."""

    async def steps(bench: Bench) -> None:
        gateway = await bench.start_gateway(
            await bench.start_front(await bench.start_function(), function=PUBLIC)
        )
        for given, arrives in (
            ({}, "Bearer the-developer"),
            ({"Authorization": "Bearer a.b.c"}, "Bearer a.b.c"),
        ):
            status, _, body = await bench.call(
                f"{gateway.url}/workspaces/7?x=1", "DELETE", headers=given
            )
            seen = json.loads(body)
            assert (status, seen["path"], seen["headers"]["Authorization"]) == (
                202,
                "/workspaces/7?x=1",
                arrives,
            )

    run_on_bench(steps)


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
def test_the_gateway_adds_no_token_to_a_request_from_another_site(
    page: dict[str, str], developer: bool
) -> None:
    """It forwards the request unchanged, so the function refuses it unless it has a token."""

    async def steps(bench: Bench) -> None:
        gateway = await bench.start_gateway(
            await bench.start_front(await bench.start_function(), function=PUBLIC)
        )
        _, _, body = await bench.call(f"{gateway.url}/workspaces/7", "DELETE", headers=page)
        assert json.loads(body)["headers"].get("Authorization") == (
            "Bearer the-developer" if developer else None
        )
        own = {**page, "Authorization": "Bearer a.b.c"}
        _, _, body = await bench.call(f"{gateway.url}/workspaces/7", "DELETE", headers=own)
        assert json.loads(body)["headers"]["Authorization"] == "Bearer a.b.c"

    run_on_bench(steps)


def test_the_page_can_sign_in_as_anybody_with_the_secret() -> None:
    """The gateway names the people, the developer first, and gives a token of whom one chooses."""
    secret = {"Authorization": PAGE_TOKEN}

    async def steps(bench: Bench) -> None:
        gateway = await bench.start_gateway(
            await bench.start_front(await bench.start_function(), function=PUBLIC)
        )
        status, headers, body = await bench.call(
            f"{gateway.url}/localcloud/people", "GET", headers=secret
        )
        assert (status, headers["Cache-Control"]) == (200, "no-store")
        assert json.loads(body)["people"] == [
            {"email": "developer", "is_admin": False},
            {"email": "admin@localhost", "is_admin": True},
        ]
        wanted = {"email": "carol@example.com"}
        status, _, body = await bench.call(
            f"{gateway.url}/localcloud/token", headers=secret, json=wanted
        )
        assert (status, json.loads(body)) == (200, {"token": "the-carol@example.com"})

    run_on_bench(steps)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, {"email": "a@b.c"}, 401),
        ({"Authorization": "Bearer another"}, {"email": "a@b.c"}, 401),
        ({"Authorization": PAGE_TOKEN, "Sec-Fetch-Site": "cross-site"}, {}, 403),
        ({"Authorization": PAGE_TOKEN, "Origin": "https://evil.example"}, {}, 403),
        ({"Authorization": PAGE_TOKEN}, {"email": 7}, 400),
        ({"Authorization": PAGE_TOKEN}, {"email": "a@b.c", "more": True}, 400),
        ({"Authorization": PAGE_TOKEN}, ["a@b.c"], 400),
    ],
    ids=str,
)
def test_the_gateway_gives_no_token_to_another_caller(
    headers: dict[str, str], body: object, status: int
) -> None:
    """It takes the page's secret, a page of its own or none, and one address."""

    async def steps(bench: Bench) -> None:
        gateway = await bench.start_gateway(
            await bench.start_front(await bench.start_function(), function=PUBLIC)
        )
        url = f"{gateway.url}/localcloud/token"
        answered, _, content = await bench.call(url, headers=headers, json=body)
        assert (answered, b"token" in content) == (status, False)

    run_on_bench(steps)


def test_the_gateway_sends_the_fronts_host_name_to_the_front() -> None:
    """Its own host is in ``X-Forwarded-Host``, even if the client sends that header."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function(), function=PUBLIC)
        gateway = await bench.start_gateway(front)
        host = gateway.url.replace("http://127.0.0.1", "LocalHost")
        given = {"Host": host, "X-Forwarded-Host": "evil.example", "Connection": "Host"}
        status, _, body = await bench.call(f"{gateway.url}/workspaces/7", "DELETE", headers=given)
        seen = json.loads(body)["headers"]
        assert (status, f"http://{seen['Host']}", seen["X-Forwarded-Host"]) == (
            202,
            front.url,
            host,
        )

    run_on_bench(steps)


def test_the_gateway_and_a_front_refuse_a_request_for_another_host() -> None:
    """Each answers 421 with its address, before it adds a token or calls the function."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function(), function=PUBLIC)
        gateway = await bench.start_gateway(front)
        for url in (gateway.url, front.url):
            headers = {"Host": "evil.example", "X-Request-Id": "my-id"}
            status, answered, body = await bench.call(
                f"{url}/workspaces/7", "DELETE", headers=headers
            )
            assert (status, url in body.decode()) == (421, True)
            if url == gateway.url:
                assert (answered["X-Request-Id"], json.loads(body)["code"]) == (
                    "my-id",
                    "MISDIRECTED_REQUEST",
                )
        assert bench.calls == 0

    run_on_bench(steps)


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
def test_the_gateway_refuses_a_path_or_method_that_is_not_in_the_catalogue(
    method: str, path: str, status: int, code: str
) -> None:
    """The answer has the Hub's form and the client's request id."""

    async def steps(bench: Bench) -> None:
        gateway = await bench.start_gateway(
            await bench.start_front(await bench.start_function(), function=PUBLIC)
        )
        answer = await bench.call(gateway.url + path, method, headers={"X-Request-Id": "my-id"})
        problem = json.loads(answer[2])
        assert (answer[0], problem["status"], problem["code"]) == (status, status, code)
        assert answer[1]["Content-Type"] == "application/problem+json"
        assert answer[1]["X-Request-Id"] == "my-id"
        assert answer[1].get("Allow") == ("DELETE" if status == 405 else None)
        assert bench.calls == 0

    run_on_bench(steps)


def test_the_gateway_makes_a_request_id_if_the_clients_is_missing_or_invalid() -> None:
    """It replaces an id that could forge a log line."""

    async def steps(bench: Bench) -> None:
        gateway = await bench.start_gateway(
            await bench.start_front(await bench.start_function(), function=PUBLIC)
        )
        for given in ({}, {"X-Request-Id": "not one"}):
            _, headers, _ = await bench.call(f"{gateway.url}/nowhere", headers=given)
            assert len(headers["X-Request-Id"]) == 36

    run_on_bench(steps)


def test_the_gateway_records_each_request_with_its_answer(tmp_path: Path) -> None:
    """The file has one line for each request, without its token."""

    async def steps(bench: Bench) -> None:
        front = await bench.start_front(await bench.start_function(), function=PUBLIC)
        file = RequestsFile(tmp_path / "requests.jsonl")
        gateway = await bench.start_gateway(front, file)
        token = bench.auth_header(gateway.url, email="alice@example.com")
        status, _, body = await bench.call(
            f"{gateway.url}/workspaces/7", "DELETE", headers=token, json={"a": 1}
        )
        await bench.call(f"{gateway.url}/workspaces/8?now=1", "DELETE")

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

    run_on_bench(steps)
