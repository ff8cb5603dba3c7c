"""Conditional requests through the public address, the front and the function's own server."""

from __future__ import annotations

import contextlib
import http.client
import time
from urllib.parse import urlsplit

from localcloud.api_client import ApiClient
from localcloud.running_cloud import RunningCloud


def test_answers_that_are_still_true_come_as_304_over_one_connection(
    cloud: RunningCloud, alice: ApiClient
) -> None:
    """Nothing on the way adds a body or drops a header, so the connection can go on."""
    workspace_id = alice.create("api")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    token = str(alice.request("GET", "/workspaces").request.headers["Authorization"])

    def ask(path: str, tag: str = "") -> tuple[int, bytes, http.client.HTTPMessage]:
        connection.request("GET", path, headers={"Authorization": token, "If-None-Match": tag})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers

    address = str(urlsplit(cloud.address).netloc)
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        for path in ("", f"/{workspace_id}", f"/{workspace_id}/status", f"/{workspace_id}/events"):
            give_up_at = time.monotonic() + 20
            while True:  # what follows READY, such as the right to log in, may still change it
                status, body, headers = ask(f"/workspaces{path}")
                assert (status, headers["Cache-Control"]) == (200, "private, no-cache")
                assert body
                short, nothing, again = ask(f"/workspaces{path}", f'"another", {headers["ETag"]}')
                if short == 304 or time.monotonic() > give_up_at:
                    break
            assert (short, nothing, again["ETag"]) == (304, b"", headers["ETag"]), path
            assert (again["Vary"], again["Content-Length"]) == ("Authorization", None)
        socket = connection.sock
        alice.stop(workspace_id)
        assert ask(f"/workspaces/{workspace_id}", headers["ETag"])[0] == 200
        assert connection.sock is socket
