"""Runs in every function's process before the function: reports its calls, and kills the process.

Python imports this module by its name. It reports each gRPC call and each HTTP request to the test:
before a byte of it is sent, and when its answer has arrived but the program has not seen it. If the
test's reply says so, it kills the process.
"""

from __future__ import annotations

import base64
import http.client
import io
import itertools
import json
import os
import signal
import threading
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import functions_framework
import grpc

_SOCKET = str(Path(__file__).with_name("test"))  # on which the test listens
_FUNCTION = os.environ.get("FUNCTION_TARGET", "")
_inbound = threading.local()
_requests = itertools.count(1)


def _report(moment: str, call: str, number: int = 0) -> int:
    """Report a call to the test, and kill the process if the test says so.

    Returns:
        The call's number, with which to report that its answer has arrived.
    """
    if moment == "after" and not number:
        return 0  # the test did not listen when the call began
    try:
        with Client(_SOCKET) as test:
            test.send((number, _FUNCTION, call, moment, *getattr(_inbound, "request", ("", ""))))
            number, crashes = test.recv()
    except (OSError, EOFError):  # the test is over
        return 0
    if crashes:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(number)


class _ReportingInterceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Reports the calls of a channel."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        number = _report("before", details.method)
        call = continuation(details, request)
        call.exception()  # waits
        _report("after", details.method, number)
        return call

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        number = _report("before", details.method)
        return _ReportingStream(continuation(details, request), details.method, number)


class _ReportingStream:
    """A stream of answers that reports its end."""

    def __init__(self, stream: Any, method: str, number: int) -> None:
        self._stream = stream
        self._method = method
        self._number = number

    def __iter__(self) -> _ReportingStream:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._stream)
        except StopIteration:
            _report("after", self._method, self._number)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _instrument_grpc() -> None:
    make = grpc.insecure_channel
    grpc.insecure_channel = lambda *args, **kwargs: grpc.intercept_channel(
        make(*args, **kwargs), _ReportingInterceptor()
    )


def _instrument_http() -> None:
    put, get = http.client.HTTPConnection.putrequest, http.client.HTTPConnection.getresponse

    def putrequest(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        call = f"{method} {url.partition('?')[0]}"
        self.reported_call = call, _report("before", call)
        put(self, method, url, *args, **kwargs)

    def getresponse(self: Any) -> Any:
        answer = get(self)
        call, number = self.reported_call
        _report("after", call, number)
        return answer

    http.client.HTTPConnection.putrequest = putrequest  # type: ignore[method-assign]
    http.client.HTTPConnection.getresponse = getresponse  # type: ignore[method-assign]


def _record_inbound_requests() -> None:
    """Record in each thread the request that it serves: its path, its id and its body."""
    make = functions_framework.create_app

    def create_app(*args: Any, **kwargs: Any) -> Any:
        app: Any = make(*args, **kwargs)  # type: ignore[no-untyped-call]
        serve = app.wsgi_app

        def served(environ: dict[str, Any], start_response: Any) -> Any:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            request_id = environ.get("HTTP_X_REQUEST_ID", "")
            text = body.decode(errors="replace")
            about = f"{environ['PATH_INFO']} {request_id} {text} {_pubsub_data(body)}"
            _inbound.request = f"{os.getpid()}/{next(_requests)}", about
            return serve(environ, start_response)

        app.wsgi_app = served
        return app

    functions_framework.create_app = create_app


def _pubsub_data(body: bytes) -> str:
    """Return the data of a message that Pub/Sub has pushed; empty for any other body."""
    try:
        return base64.b64decode(json.loads(body)["message"]["data"]).decode()
    except (ValueError, KeyError, TypeError):
        return ""


# functions-framework's number of processes: with several, one that is killed fails few requests.
os.environ["WORKERS"] = "4"
_instrument_grpc()
_instrument_http()
_record_inbound_requests()
