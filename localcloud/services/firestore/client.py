"""What the local cloud asks of its own Firestore server, besides what Firestore can do."""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty

from localcloud.services.server import WITHOUT_PROXY

_CLEAR = "/localcloud.Firestore/Clear"
_SECONDS = 10.0


async def clear(address: str) -> None:
    """Delete all documents of all databases of the server at ``host:port``.

    Raises:
        grpc.aio.AioRpcError: the server does not answer.
    """
    async with grpc.aio.insecure_channel(address, options=WITHOUT_PROXY) as channel:
        call = channel.unary_unary(
            _CLEAR,
            request_serializer=Empty.SerializeToString,
            response_deserializer=Empty.FromString,
        )
        await call(Empty(), timeout=_SECONDS, wait_for_ready=True)
