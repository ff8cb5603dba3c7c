"""Ports for what a local cloud starts."""

from __future__ import annotations

import socket

import pytest

from localcloud.processes import children
from localcloud.processes.children import LocalCloudError, free_ports


def test_nobody_gets_a_port_that_somebody_else_has_got(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even before anybody listens there: two clouds that start at once do not meet."""
    monkeypatch.setattr(children, "_PORTS", range(19_900, 19_930))
    first = free_ports(10)

    second = free_ports(10)

    assert len({*first, *second}) == 20
    with pytest.raises(LocalCloudError, match="no free ports"):
        free_ports(11)


def test_a_port_that_somebody_listens_on_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever it is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(children, "_PORTS", range(port, port + 1))
        with pytest.raises(LocalCloudError, match="no free ports"):
            free_ports(1)
