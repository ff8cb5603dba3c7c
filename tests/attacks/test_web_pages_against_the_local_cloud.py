"""Requests from hostile web pages to the local cloud: a page can read and change nothing.

A page in the developer's browser can send to every port of this machine what a form or a script may
send without a preflight, and cannot read the answer. Once its own name resolves to 127.0.0.1 (DNS
rebinding), it can use any method and header, and read the answer. It can never choose ``Host``,
``Origin`` and ``Sec-Fetch-Site``, which the browser writes.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud
from localcloud.services.page_sign_in import page_secret
from tests.attacks.raw import Answer, head, send

pytestmark = pytest.mark.xdist_group("attacks")  # one worker starts the cloud

EVIL = "http://evil.example"
SERVERS = ("gateway", "people's front", "worker's front", "control", "identity", "compute")
FORM = "application/x-www-form-urlencoded"


def address(cloud: RunningCloud, server: str) -> str:
    """Return a server's address."""
    fronts = {"people's front": "list_workspaces", "worker's front": "cleanup"}
    if server in fronts:
        return cloud.function_url(fronts[server])
    return cloud.address if server == "gateway" else str(cloud.state["services"][server])


# A Host that is not the server's own

FOREIGN_HOSTS = (
    "evil.example:{port}",
    "evil.example",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example:{port}",
    "127.0.0.1:{port}.evil.example",
    "evil.example@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.example",
    "localhost:{port}#evil.example",
    "localhost:{port}/evil.example",
    "localhost:{port}, evil.example",
    "evil.localhost:{port}",
    "localhost.:{port}",
    "127.0.0.1.:{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "0177.0.0.1:{port}",
    "0.0.0.0:{port}",
    "127.0.0.2:{port}",
    "::1:{port}",
    "[::]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "[0:0:0:0:0:0:0:1]:{port}",
    "[::1%25lo]:{port}",
    "127.0.0.1",
    "localhost",
    "127.0.0.1:",
    "127.0.0.1:1",
    "127.0.0.1:0{port}",
    "127.0.0.1:+{port}",
    "127.0.0.1:\N{ARABIC-INDIC DIGIT ONE}",
    "127.0.0.1\N{FULLWIDTH COLON}{port}",
    "metadata.google.internal",
    "",
)
OWN_HOSTS = ("127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "[::1]:{port}")


def message(server: str, answer: Answer) -> str:
    """Return the message of a refusal, which has the form of the server's errors."""
    if server.endswith("front"):
        assert b"<h1>Error: 421 " in answer.content
        return answer.content.decode()
    content = json.loads(answer.content)
    if server == "gateway":
        assert (answer.code, content["status"]) == ("MISDIRECTED_REQUEST", 421)
        return str(content["detail"])
    return str(content["error"] if server == "identity" else content["error"]["message"])


@pytest.mark.parametrize("server", SERVERS)
def test_a_request_for_another_host_is_refused_with_what_to_do(
    attacked: RunningCloud, server: str
) -> None:
    """Any method gets 421 in the form of the server's errors, with the right address."""
    url = address(attacked, server)
    for host in FOREIGN_HOSTS:
        named = host.format(port=urlsplit(url).port)
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            answer = send(url, [head(method, "/health", "Connection: close", host=named)])
            assert answer.status == 421, (host, method)
            assert url in message(server, answer)


@pytest.mark.parametrize("server", SERVERS)
def test_a_request_without_one_definite_host_is_refused(
    attacked: RunningCloud, server: str
) -> None:
    """It has no Host, as from an old client, or two, or a target with another host."""
    url = address(attacked, server)
    own = urlsplit(url).netloc
    assert send(url, [b"GET /health HTTP/1.0\r\n\r\n"]).status == 421
    assert send(url, [b"GET /health HTTP/1.1\r\n\r\n"]).status == 400
    assert (
        send(
            url, [head("GET", "/health", f"Host: {own}", "Connection: close", host="evil.example")]
        ).status
        == 400
    )
    for target in (
        f"{EVIL}/health",
        f"{EVIL}:{urlsplit(url).port}/health",
        f"http://{own}@evil.example/health",
    ):
        assert send(url, [head("GET", target, "Connection: close", host=own)]).status in {
            400,
            421,
        }, target


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_accepts_its_own_hosts(attacked: RunningCloud, server: str) -> None:
    """The case does not matter, and IPv6 is accepted."""
    url = address(attacked, server)
    for host in OWN_HOSTS:
        named = host.format(port=urlsplit(url).port)
        answer = send(url, [head("GET", "/nowhere", "Connection: close", host=named)])
        # The worker's front wants a token, and the control API the secret.
        assert answer.status in {401, 403, 404}, host
        assert b"another Host" not in answer.content


# Requests that a page would like to send


@dataclass(frozen=True)
class Want:
    """A request that would help a hostile page."""

    server: str
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return method, server and path."""
        return f"{self.method} {self.server} {self.path}"


MACHINE = "/machines/{instance}/computeMetadata/v1/instance"
ZONE = "/compute/v1/projects/{project}/zones/{zone}/instances"
WANTED = (
    Want("identity", "POST", "/tokens", {"email": "admin@localhost", "audience": "{gateway}"}),
    Want("identity", "POST", "/v1/users/dev@localhost:importSshPublicKey", {"key": "mine"}),
    Want("identity", "GET", "/v1/users/dev@localhost/loginProfile"),
    Want("identity", "GET", f"{MACHINE}/service-accounts/default/identity?audience=x"),
    Want(
        "identity",
        "GET",
        f"{MACHINE}/attributes/?recursive=true",
        headers={"Metadata-Flavor": "Google"},
    ),
    Want("control", "POST", "/localcloud/admins", {"email": "evil@example.com"}),
    Want("control", "POST", "/localcloud/reset", {}),
    Want("control", "POST", "/localcloud/reset"),
    Want("control", "POST", "/localcloud/faults", {"name": "duplicate_delivery"}),
    Want("control", "GET", "/localcloud/faults"),
    Want("control", "DELETE", "/localcloud/faults"),
    Want("gateway", "GET", "/workspaces"),
    Want("gateway", "POST", "/workspaces", {"name": "evil"}),
    Want("gateway", "DELETE", "/workspaces/{workspace}"),
    Want("gateway", "POST", "/workspaces/{workspace}/stop", {}),
    Want("compute", "GET", ZONE),
    Want("compute", "POST", f"{ZONE}/{{name}}/stop"),
    Want("compute", "DELETE", f"{ZONE}/{{name}}"),
    Want("compute", "POST", "/localcloud/reset"),
    Want("compute", "POST", "/localcloud/machines/{name}/connected", {"connected": True}),
    Want("compute", "GET", "/localcloud/history"),
    Want("compute", "GET", "/localcloud/machines"),
    Want("compute", "DELETE", "/localcloud/faults"),
    Want("people's front", "GET", "/workspaces"),
    Want("worker's front", "POST", "/cleanup"),
)


class Target:
    """The developer's workspace and a fault that is on, which a page could read or change."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self.developer = ApiClient(cloud.address, None)
        workspace = self.developer.create("mine")
        self.developer.wait_until_settled(workspace["id"], "READY")
        cloud.fault("stock_out", zone="us-west1-c", count=1)
        [machine] = [
            each for each in cloud.machines() if each["name"] == workspace["instance_name"]
        ]
        self.names = {
            "workspace": workspace["id"],
            "name": workspace["instance_name"],
            "instance": machine["id"],
            "zone": workspace["zone"],
            "project": workspace["project_id"],
            "gateway": cloud.address,
        }
        self.before = self.state()

    def state(self) -> dict[str, Any]:
        """Return everything that a page could change, as it is now."""
        return {
            "workspaces": [
                (each["id"], each["status"], each["operation"])
                for each in self.developer.workspaces()
            ],
            "machines": self.cloud.machines(),
            "faults": self.cloud.faults(),
            "settings": self.cloud.state["environment"],
        }

    def send(self, want: Want, **headers: str) -> requests.Response:
        """Send a page's request, with the headers that its browser adds."""
        body = (
            None
            if want.body is None
            else json.dumps(want.body).replace("{gateway}", self.cloud.address)
        )
        url = address(self.cloud, want.server) + want.path.format(**self.names)
        answer = requests.request(
            want.method, url, data=body, headers={**want.headers, **headers}, timeout=30
        )
        assert "Access-Control-Allow-Origin" not in answer.headers
        return answer

    def close(self) -> None:
        """Leave the cloud as it was."""
        self.cloud.clear_faults()
        self.developer.delete(self.names["workspace"])
        self.developer.wait_until_gone(self.names["workspace"])


@pytest.fixture(scope="module")
def target(attacked: RunningCloud) -> Any:
    """The target of all tests, none of which may change it."""
    target = Target(attacked)
    yield target
    target.close()


def test_a_page_whose_name_resolves_to_this_machine_reads_and_changes_nothing(
    target: Target,
) -> None:
    """For its browser both are the same site, so only the ``Host`` tells its requests apart."""
    for want in WANTED:
        host = f"evil.example:{urlsplit(address(target.cloud, want.server)).port}"
        own_page = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        for headers in ({}, own_page):
            answer = target.send(want, Host=host, **{"Content-Type": "application/json"}, **headers)
            assert answer.status_code == 421, want
            assert "eyJ" not in answer.text
    assert target.state() == target.before


PAGES: tuple[dict[str, str], ...] = (
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {
        "Origin": "null",
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-User": "?1",
    },
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:3000"},
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: "-".join(page.values()))
def test_a_page_of_another_site_reads_and_changes_nothing(
    target: Target, page: dict[str, str]
) -> None:
    """The request is from a form, image, script, frame or another port, in a new or old browser."""
    for want in WANTED:
        for content_type in (
            "text/plain;charset=UTF-8",
            FORM,
            "multipart/form-data; boundary=x",
            "application/json",
            "",
        ):
            answer = target.send(
                want, **page, **({"Content-Type": content_type} if content_type else {})
            )
            refused = {401} if want.server in {"gateway", "people's front"} else {403}
            assert answer.status_code in refused, (want, content_type)
            assert "eyJ" not in answer.text
    assert target.state() == target.before


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        FORM,
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "text/json",
    ],
)
def test_a_body_whose_content_type_is_not_json_is_refused(
    target: Target, content_type: str | None
) -> None:
    """A page can send such a body without a preflight, so it is refused without an Origin, too."""
    for want in WANTED:
        if want.method == "POST" and want.server in {"identity", "control", "compute"}:
            if want.server == "compute" and want.body is None and content_type is None:
                continue  # Compute's clients send no content type without a body
            headers = {} if content_type is None else {"Content-Type": content_type}
            answer = target.send(want, **headers)
            assert answer.status_code == 415, want
            assert "Content-Type: application/json" in answer.text
    assert target.state() == target.before


def test_a_preflight_is_refused(target: Target) -> None:
    """No server allows any origin, method or header."""
    for want in WANTED:
        asking = {"Origin": EVIL, "Access-Control-Request-Headers": "content-type,metadata-flavor"}
        asking |= {"Sec-Fetch-Site": "cross-site", "Access-Control-Request-Method": want.method}
        answer = target.send(Want(want.server, "OPTIONS", want.path), **asking)
        assert not answer.ok or want.server in {"gateway", "people's front"}, want
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_machines_token_is_given_only_with_the_metadata_flavor_header(target: Target) -> None:
    """As with Google's metadata server, so that no image or link of a page can get it."""
    want = Want(
        "identity", "GET", f"{MACHINE}/service-accounts/default/identity?audience=x&format=full"
    )
    for flavor in (None, "", "google", "Google, x"):
        answer = target.send(want, **({} if flavor is None else {"Metadata-Flavor": flavor}))
        assert (answer.status_code, "eyJ" in answer.text) == (403, False)
    assert target.send(want, **{"Metadata-Flavor": "Google"}).status_code == 200


# Programs of other people on the same machine


@pytest.mark.parametrize("secret", [None, "", "wrong", "Bearer", "the page's"])
def test_whoever_does_not_know_the_secret_gets_no_token_and_controls_nothing(
    target: Target, secret: str | None
) -> None:
    """They can open a connection to the loopback address, and get 401 for each such call."""
    headers = {"Content-Type": "application/json"}
    if secret == "the page's":
        secret = page_secret(target.cloud.state["secret"])
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    wanted = [
        want
        for want in WANTED
        if want.server == "control"
        or (want.server == "compute" and want.path.startswith("/localcloud/"))
        or (want.server == "identity" and want.path.startswith(("/tokens", "/v1/")))
    ]
    assert len(wanted) == 14
    for want in wanted:
        answer = target.send(want, **headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), want
        assert "eyJ" not in answer.text
        assert target.cloud.state["secret"] not in answer.text
    assert target.state() == target.before


# Requests that are still served


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "{gateway}"},
        {"User-Agent": "curl/8.5.0", "Accept": "*/*"},
    ],
    ids=str,
)
def test_a_request_of_no_other_site_is_served_as_the_developers(
    target: Target, headers: dict[str, str]
) -> None:
    """It comes from a terminal, a machine, the same origin, or an address that a person typed."""
    sent = {name: value.format(**target.names) for name, value in headers.items()}
    answer = requests.get(f"{target.cloud.address}/workspaces", headers=sent, timeout=10)
    assert answer.status_code == 200
    assert target.names["workspace"] in answer.text


def test_a_page_with_a_token_of_its_own_is_served(target: Target, token: str) -> None:
    """``HUB_CORS_ORIGINS`` decides which pages may read the answer, as in production."""
    headers = {"Authorization": f"Bearer {token}", "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    answer = requests.get(f"{target.cloud.address}/workspaces", headers=headers, timeout=10)
    assert (answer.status_code, answer.json()) == (200, [])


def test_a_header_with_an_underscore_does_not_reach_a_function(target: Target) -> None:
    """So the other spelling cannot set the path, the request's id or the caller."""
    own: Callable[[str], str] = lambda server: urlsplit(address(target.cloud, server)).netloc  # noqa: E731
    for server, status in (("gateway", 200), ("people's front", 401)):
        for line in (
            "SCRIPT_NAME: /workspaces",
            "PATH_INFO: /health",
            "X_Request_Id: forged",
            "CONTENT_LENGTH: 7",
        ):
            request = head("GET", "/workspaces", line, "Connection: close", host=own(server))
            answer = send(address(target.cloud, server), [request])
            assert (answer.status, "forged" in answer.headers) == (status, False), line


GRPC_CALLS = {
    "firestore": "/google.firestore.v1.Firestore/ListDocuments",
    "pubsub": "/google.pubsub.v1.Publisher/ListTopics",
    "tasks": "/google.cloud.tasks.v2.CloudTasks/ListQueues",
}


@pytest.mark.parametrize("server", GRPC_CALLS)
def test_a_server_of_grpc_does_not_answer_a_browsers_request(target: Target, server: str) -> None:
    """It wants the preface of HTTP/2 first, which browsers send over TLS only."""
    host, _, port = target.cloud.state["services"][server].rpartition(":")
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(head(method, GRPC_CALLS[server], "Content-Length: 0"))
            received = b""
            while piece := connection.recv(4096):
                received += piece
        assert b"HTTP/1" not in received
        assert target.names["project"].encode() not in received
    assert target.state() == target.before
