"""Ports for the servers that a local cloud starts."""

from __future__ import annotations

import random
import socket

import pytest

from localcloud.processes import children
from localcloud.processes.children import LocalCloudError, free_ports


def test_free_ports_never_returns_a_port_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds before a server uses the port, so two clouds can start at the same time."""
    # Another run of this test on the machine holds ports of its own.
    first_port = random.randrange(10_000, 19_900)
    monkeypatch.setattr(children, "_PORTS", range(first_port, first_port + 30))
    first = free_ports(10)

    second = free_ports(10)

    assert len({*first, *second}) == 20
    with pytest.raises(LocalCloudError, match="no free ports"):
        free_ports(11)


def test_a_port_that_a_server_uses_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server need not belong to a local cloud."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(children, "_PORTS", range(port, port + 1))
        with pytest.raises(LocalCloudError, match="no free ports"):
            free_ports(1)
