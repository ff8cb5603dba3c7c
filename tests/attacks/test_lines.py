"""Requests that try to forge a line in the logs, on which metrics and alerts are based."""

from __future__ import annotations

import json
import uuid
from urllib.parse import quote

import pytest

from localcloud.api_client import ApiClient
from localcloud.catalogue import read_catalogue
from localcloud.running_cloud import RunningCloud
from tests.attacks.raw import head, send, send_incomplete
from tests.log_lines import not_json

pytestmark = pytest.mark.xdist_group("attacks")

FUNCTIONS = read_catalogue().functions
FORGED = '{"severity": "CRITICAL", "message": "OperationEnded", "result": "forged"}'


@pytest.mark.parametrize("name", [function.name for function in FUNCTIONS])
def test_no_request_can_forge_a_line_in_a_functions_log(attacked: RunningCloud, name: str) -> None:
    """Each line is one JSON object, though paths, queries, headers and bodies contain lines."""
    url = str(attacked.state["functions"][name]["direct_url"])
    line = quote(f"\n{FORGED}\n")
    targets = [
        f"/{line}",
        f"/workspaces/{line}/stop",
        f"/?{line}",
        "/%0a%0d",
        "/%ff%fe",
        "/%e2%80%ae",
        "/%00",
    ]
    for method in ("GET", "POST", "DELETE", "FORGED"):
        for target in targets:
            send(url, [head(method, target)])
            send_incomplete(url, head(method, target, "Content-Length: 99") + b"half")
            send_incomplete(
                url,
                head(method, target, "Transfer-Encoding: chunked") + b"zz\r\n" + FORGED.encode(),
            )
    send(
        url,
        [
            head(
                "POST",
                "/",
                f"X-Request-Id: {FORGED}",
                f"User-Agent: {FORGED}",
                "Content-Type: application/json",
            )
        ],
    )
    send(url, [f"GARBAGE\n{FORGED}\n\n".encode()])
    send(url, [head("POST", "/", f"Transfer-Encoding: {FORGED}")])

    assert not_json(attacked) == []
    lines = [json.loads(text) for text in attacked.log(name).splitlines()]
    assert [
        line for line in lines if line["severity"] == "CRITICAL" or line.get("result") == "forged"
    ] == []


def test_non_ascii_text_is_escaped_in_the_log(attacked: RunningCloud, alice: ApiClient) -> None:
    """A right-to-left override in a name would show the line in a misleading order."""
    alice.request(
        "POST", "/workspaces", json={"name": "one", "metadata": {"device_id": "\u202edevice"}}
    )
    for name in attacked.state["functions"]:
        assert attacked.log(name).isascii()


@pytest.mark.parametrize(
    "query",
    [
        "dry_run=1",
        "dry_run=true&dry_run=true",
        "dry-run=true",
        "limit=1",
        "a=1&a=2",
        "x",
        "=",
        "%ff=1",
        "%zz",
        "&",
        "dry_run=%00",
        ";",
        "limit=1;status=READY",
    ],
)
def test_a_request_with_an_unknown_query_parameter_is_refused(alice: ApiClient, query: str) -> None:
    """Otherwise a DELETE with ``dry-run=true`` would delete the workspace."""
    workspace_id = alice.create("one")["id"]
    for method, path in (
        ("DELETE", f"/workspaces/{workspace_id}"),
        ("POST", f"/workspaces/{workspace_id}/stop"),
        ("POST", f"/workspaces/{workspace_id}/start"),
        ("POST", "/workspaces"),
        ("GET", f"/workspaces/{workspace_id}/status"),
        ("GET", "/openapi.json"),
    ):
        answer = alice.request(
            method, f"{path}?{query}", json={"name": "two"} if method == "POST" else None
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST"), (
            method,
            path,
        )
    for path in ("/workspaces", f"/workspaces/{workspace_id}/events"):
        if query != "limit=1":
            assert alice.request("GET", f"{path}?{query}").status_code == 400, path
    assert [each["operation"]["kind"] for each in alice.workspaces() if each["operation"]] in (
        [],
        ["CREATE"],
    )
    assert len(alice.workspaces()) == 1


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script_Name", "PATH_INFO", "script_name"])
def test_a_header_with_an_underscore_does_not_change_the_path_of_a_request(
    attacked: RunningCloud, alice: ApiClient, token: str, name: str
) -> None:
    """A rule before the function applies to the path that was sent, so the function must use it."""
    workspace_id = alice.create("one")["id"]
    url = str(attacked.state["functions"]["delete_workspace"]["direct_url"])
    proof = f"Authorization: Bearer {token}"
    answer = send(
        url, [head("DELETE", f"/public/workspaces/{workspace_id}", proof, f"{name}: /public")]
    )
    assert answer.status == 404
    answer = send(url, [head("DELETE", "/public", proof, f"{name}: /workspaces/{workspace_id}")])
    assert (answer.status, answer.code) == (404, "NOT_FOUND")
    assert [each["id"] for each in alice.workspaces()] == [workspace_id]


def test_malformed_ids_are_answered_like_unknown_ones(alice: ApiClient) -> None:
    """Long, escaped and unprintable texts in place of an id get the same 404."""
    for odd in (uuid.uuid4(), "x" * 3000, quote("\n"), quote("\u202e"), "%ff", "..%2f..", "%00"):
        answer = alice.request("DELETE", f"/workspaces/{odd}")
        assert answer.status_code == 404, odd
        assert answer.headers["Content-Type"] == "application/problem+json", odd
