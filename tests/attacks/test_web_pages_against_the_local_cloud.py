"""What a web page in the browser of whoever runs the local cloud can send to it, and that it learns and changes nothing.

A page can send to every port of this machine what a form or a script may send without asking first,
and cannot read what comes back; once its own name resolves to 127.0.0.1 (DNS rebinding) it can do
both, and with any method and header. What it cannot do is to choose `Host`, `Origin` and
`Sec-Fetch-Site`, which its browser writes.
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


# Another Host than the server's own

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
    """Return what a refusal says, in the form that the server's errors have."""
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
    """421, whatever its method, in the form of the server's errors, and with the right address."""
    url = address(attacked, server)
    for host in FOREIGN_HOSTS:
        named = host.format(port=urlsplit(url).port)
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            answer = send(url, [head(method, "/health", "Connection: close", host=named)])
            assert answer.status == 421, (host, method)
            assert url in message(server, answer)


@pytest.mark.parametrize("server", SERVERS)
def test_a_request_that_names_no_host_or_two_is_refused(
    attacked: RunningCloud, server: str
) -> None:
    """An old client's too, and one whose target says something else than its header."""
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
def test_a_server_answers_to_its_own_names(attacked: RunningCloud, server: str) -> None:
    """However they are written."""
    url = address(attacked, server)
    for host in OWN_HOSTS:
        named = host.format(port=urlsplit(url).port)
        answer = send(url, [head("GET", "/nowhere", "Connection: close", host=named)])
        assert answer.status in {403, 404}, host  # the worker's front wants a token
        assert b"another Host" not in answer.content


# What a page could want


@dataclass(frozen=True)
class Want:
    """A request that a page would like to send."""

    server: str
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say which."""
        return f"{self.method} {self.server} {self.path}"


MACHINE = "/machines/{instance}/computeMetadata/v1/instance"
ZONE = "/compute/v1/projects/{project}/zones/{zone}/instances"
WANTED = (
    Want("identity", "POST", "/tokens", {"email": "admin@localhost", "audience": "{gateway}"}),
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


class Scene:
    """The developer's workspace and a fault that is on: what a page could steal or break."""

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
        self.before = self.seen()

    def seen(self) -> dict[str, Any]:
        """Return everything that a page could change."""
        return {
            "workspaces": [
                (each["id"], each["status"], each["operation"])
                for each in self.developer.workspaces()
            ],
            "machines": self.cloud.machines(),
            "faults": self.cloud.faults(),
            "settings": self.cloud.state["environment"],
        }

    def ask(self, want: Want, **headers: str) -> requests.Response:
        """Send what a page wants, with what its browser adds."""
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
def scene(attacked: RunningCloud) -> Any:
    """One for all; nothing here may change it."""
    scene = Scene(attacked)
    yield scene
    scene.close()


def test_a_page_whose_name_resolves_to_this_machine_learns_and_changes_nothing(
    scene: Scene,
) -> None:
    """Its browser takes both for one site, so its requests look like the server's own page's, but for the Host."""
    for want in WANTED:
        host = f"evil.example:{urlsplit(address(scene.cloud, want.server)).port}"
        own_page = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        for headers in ({}, own_page):
            answer = scene.ask(want, Host=host, **{"Content-Type": "application/json"}, **headers)
            assert answer.status_code == 421, want
            assert "eyJ" not in answer.text
    assert scene.seen() == scene.before


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
def test_a_page_of_another_site_learns_and_changes_nothing(
    scene: Scene, page: dict[str, str]
) -> None:
    """A form, an image, a script, a sandboxed frame, another port of this machine; by a new browser and by an old one."""
    for want in WANTED:
        for content_type in (
            "text/plain;charset=UTF-8",
            FORM,
            "multipart/form-data; boundary=x",
            "application/json",
            "",
        ):
            answer = scene.ask(
                want, **page, **({"Content-Type": content_type} if content_type else {})
            )
            refused = {401} if want.server in {"gateway", "people's front"} else {403}
            assert answer.status_code in refused, (want, content_type)
            assert "eyJ" not in answer.text
    assert scene.seen() == scene.before


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
def test_a_body_that_does_not_say_that_it_is_json_is_refused(
    scene: Scene, content_type: str | None
) -> None:
    """Even if a browser said nothing of where it comes from: what a page can send without asking first is never believed."""
    for want in WANTED:
        if want.method == "POST" and want.server in {"identity", "control", "compute"}:
            if want.server == "compute" and want.body is None and content_type is None:
                continue  # the clients of Compute say nothing of a body that they do not send
            headers = {} if content_type is None else {"Content-Type": content_type}
            answer = scene.ask(want, **headers)
            assert answer.status_code == 415, want
            assert "Content-Type: application/json" in answer.text
    assert scene.seen() == scene.before


def test_a_page_that_asks_first_is_told_no(scene: Scene) -> None:
    """A preflight allows no origin, method or header anywhere."""
    for want in WANTED:
        asking = {"Origin": EVIL, "Access-Control-Request-Headers": "content-type,metadata-flavor"}
        asking |= {"Sec-Fetch-Site": "cross-site", "Access-Control-Request-Method": want.method}
        answer = scene.ask(Want(want.server, "OPTIONS", want.path), **asking)
        assert not answer.ok or want.server in {"gateway", "people's front"}, want
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_machines_token_is_given_to_who_says_that_it_wants_metadata_only(scene: Scene) -> None:
    """As Google's metadata server has it: an image or a link, from whatever page, does not say so."""
    want = Want(
        "identity", "GET", f"{MACHINE}/service-accounts/default/identity?audience=x&format=full"
    )
    for flavor in (None, "", "google", "Google, x"):
        answer = scene.ask(want, **({} if flavor is None else {"Metadata-Flavor": flavor}))
        assert (answer.status_code, "eyJ" in answer.text) == (403, False)
    assert scene.ask(want, **{"Metadata-Flavor": "Google"}).status_code == 200


# What goes on


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
def test_who_is_no_page_of_another_site_is_the_developer_as_before(
    scene: Scene, headers: dict[str, str]
) -> None:
    """A terminal, a machine, an address that a person typed."""
    said = {name: value.format(**scene.names) for name, value in headers.items()}
    answer = requests.get(f"{scene.cloud.address}/workspaces", headers=said, timeout=10)
    assert answer.status_code == 200
    assert scene.names["workspace"] in answer.text


def test_a_page_with_a_token_of_its_own_is_served(scene: Scene, token: str) -> None:
    """Which pages a browser lets read the answer is `HUB_CORS_ORIGINS`' affair, as in production."""
    headers = {"Authorization": f"Bearer {token}", "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    answer = requests.get(f"{scene.cloud.address}/workspaces", headers=headers, timeout=10)
    assert (answer.status_code, answer.json()) == (200, [])


def test_a_header_with_an_underscore_does_not_reach_a_function(scene: Scene) -> None:
    """Neither the path nor the request's id nor who asks can be said by the other spelling."""
    own: Callable[[str], str] = lambda server: urlsplit(address(scene.cloud, server)).netloc  # noqa: E731
    for server, status in (("gateway", 200), ("people's front", 401)):
        for line in (
            "SCRIPT_NAME: /workspaces",
            "PATH_INFO: /health",
            "X_Request_Id: forged",
            "CONTENT_LENGTH: 7",
        ):
            request = head("GET", "/workspaces", line, "Connection: close", host=own(server))
            answer = send(address(scene.cloud, server), [request])
            assert (answer.status, "forged" in answer.headers) == (status, False), line


def test_cloud_tasks_speaks_with_no_browser(scene: Scene) -> None:
    """It is gRPC, which begins with HTTP/2's preface; a browser speaks that with TLS only."""
    host, _, port = scene.cloud.state["services"]["tasks"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            head("POST", "/google.cloud.tasks.v2.CloudTasks/ListQueues", "Content-Length: 0")
        )
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert b"HTTP/1" not in received
