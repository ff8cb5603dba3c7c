"""What every server of the local cloud has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack

LOOPBACK = "127.0.0.1"

# The options of a gRPC channel to a server on this machine: the environment may name a proxy.
WITHOUT_PROXY = (("grpc.enable_http_proxy", 0),)


class Server(ABC):
    """A server on one port of the loopback address.

    Args:
        port: 0 picks a free one.

    Attributes:
        port: the real port, once ``start`` has returned.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port

    @property
    def address(self) -> str:
        """Where clients connect: ``host:port``."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """The address as a URL, without a slash at the end."""
        return f"http://{self.address}"

    @abstractmethod
    async def start(self) -> None:
        """Serve; from now on ``port``, ``address`` and ``url`` are the real ones.

        Raises:
            OSError: the port is taken.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Stop serving."""

    async def start_within(self, stack: AsyncExitStack) -> None:
        """Serve until the stack ends.

        Raises:
            OSError: the port is taken.
        """
        await self.start()
        stack.push_async_callback(self.stop)
