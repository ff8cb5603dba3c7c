"""Calls of Google's services over gRPC, with plain protobuf messages.

The libraries' generated clients wrap every message in an object of its own, and every call in an
interceptor, a thread for answers in pieces, and several layers of options. Measured
(``nox -s bench``): without them, a query of five documents takes half of the processor time.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import grpc
from google.api_core import exceptions, grpc_helpers, retry
from google.auth.exceptions import GoogleAuthError
from grpc.experimental import ChannelOptions

from shared.domain.errors import UnavailableError

# Half of the time that a function instance has between SIGTERM and SIGKILL.
TIMEOUT_SECONDS = 5.0
_RETRY = retry.Retry(
    predicate=retry.if_exception_type(exceptions.ServiceUnavailable),
    initial=0.1,
    maximum=1.0,
    timeout=TIMEOUT_SECONDS,
)
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_OPTIONS = (
    # A connection that broke is noticed while a call waits. The library's hand-written client of
    # Firestore sets this too.
    ("grpc.keepalive_time_ms", 30_000),
    # After an outage of the service, the next connection is tried within seconds. By default the
    # pause between two tries grows to two minutes (measured: 16 s after an outage of 100 s).
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Messages of any length, as the generated clients have it.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Without it, a thread is started for each answer in pieces.
    (ChannelOptions.SingleThreadedUnaryStream, 1),
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service, with the plain protobuf classes of its messages.

    ``routed_by``: the field of a request by which Google routes it. ``in_pieces``: the answer is a
    stream of messages.
    """

    name: str
    request: Any
    answer: Any
    routed_by: str
    in_pieces: bool = False


class GrpcService:
    """One of Google's services, or its emulator at ``host:port``.

    Every call gives up after ``TIMEOUT_SECONDS``, with its repetitions while the service is
    unavailable, and raises the errors of ``google.api_core``. It is safe to use from many threads.
    """

    def __init__(
        self,
        name: str,
        host: str,
        emulator: str | None,
        methods: Sequence[Method],
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Connect at the first call.

        Args:
            name: the service's full name, such as ``google.firestore.v1.Firestore``.
            host: its host name at Google.
            emulator: where to find it instead, without credentials.
            methods: those that are called.
            headers: what every call sends.
        """
        channel = _channel(host, emulator)
        self._headers = tuple(headers)
        self._stubs = {method.name: _stub(channel, name, method) for method in methods}

    def call(self, method: Method, request: Any) -> Any:
        """Return the answer to a request."""
        stub, metadata = self._stubs[method.name], self._metadata(method, request)
        return self._retried(lambda seconds: stub(request, timeout=seconds, metadata=metadata))

    def pieces(self, method: Method, request: Any) -> list[Any]:
        """Return the messages of an answer in pieces: all, or none and an error."""
        stub, metadata = self._stubs[method.name], self._metadata(method, request)
        return self._retried(
            lambda seconds: list(stub(request, timeout=seconds, metadata=metadata))
        )

    def _metadata(self, method: Method, request: Any) -> tuple[tuple[str, str], ...]:
        """Return the headers of a request. Google routes by the first (source: AIP-4222)."""
        routed_by = {method.routed_by: getattr(request, method.routed_by)}
        return (("x-goog-request-params", urlencode(routed_by, safe="/")), *self._headers)

    @staticmethod
    def _retried(call: Callable[[float], T]) -> T:
        ends_at = time.monotonic() + TIMEOUT_SECONDS

        def attempt() -> T:
            try:
                return call(ends_at - time.monotonic())
            except grpc.RpcError as error:
                raise exceptions.from_grpc_error(error) from error  # type: ignore[no-untyped-call]

        return _RETRY(attempt)()


def _channel(host: str, emulator: str | None) -> grpc.Channel:
    if emulator is not None:
        return grpc.insecure_channel(emulator, _OPTIONS)
    try:
        channel: grpc.Channel = grpc_helpers.create_channel(
            f"{host}:443", default_scopes=_SCOPES, default_host=host, options=_OPTIONS
        )
    except GoogleAuthError as error:
        raise UnavailableError(
            "Google Cloud does not give the Hub its credentials now. Try again in a moment."
        ) from error
    return channel


def _stub(channel: grpc.Channel, service: str, method: Method) -> Callable[..., Any]:
    kind = channel.unary_stream if method.in_pieces else channel.unary_unary
    stub: Callable[..., Any] = kind(
        f"/{service}/{method.name}",
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.answer.FromString,
    )
    return stub
