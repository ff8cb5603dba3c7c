"""Creates the Cloud Tasks queues that the deployment creates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc.aio
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf.duration_pb2 import Duration

from localcloud.catalogue import Function
from localcloud.services.server import WITHOUT_PROXY


async def create_queues(server: str, location: str, functions: tuple[Function, ...]) -> None:
    """Create the queues of the functions that Cloud Tasks calls.

    Args:
        server: ``host:port`` of Cloud Tasks.
        location: ``projects/…/locations/…``.
        functions: the catalogue's entries.
    """
    async with grpc.aio.insecure_channel(server, options=WITHOUT_PROXY) as channel:
        client = tasks_v2.CloudTasksAsyncClient(
            transport=CloudTasksGrpcAsyncIOTransport(channel=channel)
        )
        for function in functions:
            for name, dispatch in _queues(function):
                queue = _queue(function, f"{location}/queues/{name}", dispatch)
                await client.create_queue(parent=location, queue=queue)


def _queues(function: Function) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the queues that call a function, each with how fast it does."""
    if function.queue and function.dispatch:
        yield function.queue, function.dispatch
    if function.sweeps:
        yield function.sweeps["queue"], function.sweeps


def _queue(function: Function, name: str, dispatch: dict[str, Any]) -> tasks_v2.Queue:
    retry = function.retry or {}
    return tasks_v2.Queue(
        name=name,
        rate_limits=tasks_v2.RateLimits(
            max_dispatches_per_second=dispatch["max_per_second"],
            max_concurrent_dispatches=dispatch["max_concurrent"],
        ),
        retry_config=tasks_v2.RetryConfig(
            max_attempts=retry["max_attempts"],
            min_backoff=Duration(seconds=retry["min_backoff_seconds"]),
            max_backoff=Duration(seconds=retry["max_backoff_seconds"]),
            max_doublings=retry["max_doublings"],
        ),
    )
