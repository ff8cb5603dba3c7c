"""What the gRPC servers on the event loop have in common."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from localcloud.services.call_errors import CallError
from localcloud.services.delivery_faults import DeliveryFaults
from localcloud.services.http_sender import HttpSender
from localcloud.services.server import Server

Calls = Mapping[str, tuple[Any, Callable[[Any], Any]]]
Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any

# Without it, a second server would share the port and get half of the calls.
OWN_PORT = ("grpc.so_reuseport", 0)


class GrpcServer(Server):
    """Serves one of Google's services over plain gRPC, and sends HTTP requests for it.

    All of it runs on the event loop on which ``start`` ran; only ``faults`` may be used from other
    threads.

    Args:
        port: 0 picks a free one.
        sender: what sends the requests.
        options: of gRPC.
    """

    def __init__(
        self, port: int, sender: HttpSender[Any, Any], options: tuple[tuple[str, int], ...] = ()
    ) -> None:
        super().__init__(port)
        self._sender = sender
        self._options = (OWN_PORT, *options)
        self._grpc: grpc.aio.Server | None = None

    @property
    def faults(self) -> DeliveryFaults:
        """The faults of delivery."""
        return self._sender.faults

    async def start(self) -> None:
        """Serve, and start to send.

        Raises:
            RuntimeError: the port is taken.
        """
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(service, dict(handlers))
                for service, handlers in self._services().items()
            )
        )
        self.port = server.add_insecure_port(self.address)
        await self._sender.start()
        await server.start()
        self._grpc = server

    async def stop(self) -> None:
        """Stop at once: calls and requests under way are cancelled."""
        server, self._grpc = self._grpc, None
        if server is not None:
            await server.stop(grace=None)
            await self._sender.stop()

    @abstractmethod
    def _services(self) -> Mapping[str, Mapping[str, Handler]]:
        """Return the handlers by service and method."""

    async def _until_answering(self) -> None:
        """Wait before a call is carried out, and before it is answered; by default not at all."""

    def _handlers(self, calls: Calls) -> dict[str, Handler]:
        """Return the handlers of calls, each with the class of its request."""
        return {
            name: grpc.unary_unary_rpc_method_handler(
                self._answering(call),
                request_deserializer=request_type.pb().FromString,
                response_serializer=serialized,
            )
            for name, (request_type, call) in calls.items()
        }

    def _answering(self, call: Callable[[Any], Any]) -> Callable[[Any, Context], Any]:
        async def answer(request: Any, context: Context) -> Any:
            await self._until_answering()
            try:
                answered = call(request)
                response = await answered if inspect.isawaitable(answered) else answered
            except CallError as error:
                await context.abort(grpc.StatusCode[error.code], str(error))
            await self._until_answering()
            return response

        return answer


def serialized(response: Any) -> bytes:
    """Return a message as it is sent."""
    return bytes(response.SerializeToString())
