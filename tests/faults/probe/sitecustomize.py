"""Runs in every process of a function before the function does: tells a test of each call to the outside, and dies when told to.

Python imports it by its name. What it tells of: each call by gRPC and each request by HTTP, before
a byte of it is sent, and when its answer has come but nobody has seen it.
"""

from __future__ import annotations

import base64
import http.client
import importlib
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

_TEST = str(Path(__file__).with_name("test"))  # the socket where the test listens
_FUNCTION = os.environ.get("FUNCTION_TARGET", "")
_IMPORTS_LATE = "get_workspace_status"
_inbound = threading.local()
_requests = itertools.count(1)


def _tell(moment: str, call: str, number: int = 0) -> int:
    """Say what is about to happen, or has happened, and do as the test says.

    Returns:
        The call's number, by which to tell what comes after it.
    """
    if moment == "after" and not number:
        return 0  # nobody listened when it began
    try:
        with Client(_TEST) as test:
            test.send((number, _FUNCTION, call, moment, *getattr(_inbound, "request", ("", ""))))
            number, dies = test.recv()
    except (OSError, EOFError):  # the test is over
        return 0
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(number)


class _Told(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Tells of the calls of a channel."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        number = _tell("before", details.method)
        call = continuation(details, request)
        call.exception()  # waits
        _tell("after", details.method, number)
        return call

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        number = _tell("before", details.method)
        return _ToldToItsEnd(continuation(details, request), details.method, number)


class _ToldToItsEnd:
    """A stream of answers that tells when it has come to its end."""

    def __init__(self, stream: Any, method: str, number: int) -> None:
        self._stream = stream
        self._method = method
        self._number = number

    def __iter__(self) -> _ToldToItsEnd:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._stream)
        except StopIteration:
            _tell("after", self._method, self._number)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _tell_of_grpc() -> None:
    make = grpc.insecure_channel
    grpc.insecure_channel = lambda *args, **kwargs: grpc.intercept_channel(
        make(*args, **kwargs), _Told()
    )


def _tell_of_http() -> None:
    put, get = http.client.HTTPConnection.putrequest, http.client.HTTPConnection.getresponse

    def putrequest(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        call = f"{method} {url.partition('?')[0]}"
        self.told_of = call, _tell("before", call)
        put(self, method, url, *args, **kwargs)

    def getresponse(self: Any) -> Any:
        answer = get(self)
        call, number = self.told_of
        _tell("after", call, number)
        return answer

    http.client.HTTPConnection.putrequest = putrequest  # type: ignore[method-assign]
    http.client.HTTPConnection.getresponse = getresponse  # type: ignore[method-assign]


def _take_note_of_inbound() -> None:
    """Know in each thread what request it is at work on: its path, its id and its body."""
    make = functions_framework.create_app

    def create_app(*args: Any, **kwargs: Any) -> Any:
        app: Any = make(*args, **kwargs)  # type: ignore[no-untyped-call]
        if (
            _FUNCTION == _IMPORTS_LATE
        ):  # for seconds, in each of the processes that follow those which were killed
            importlib.import_module("shared.adapters.compute_machines")
        serve = app.wsgi_app

        def served(environ: dict[str, Any], start_response: Any) -> Any:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            request_id = environ.get("HTTP_X_REQUEST_ID", "")
            about = f"{environ['PATH_INFO']} {request_id} {body.decode(errors='replace')} {_pushed(body)}"
            _inbound.request = f"{os.getpid()}/{next(_requests)}", about
            return serve(environ, start_response)

        app.wsgi_app = served
        return app

    functions_framework.create_app = create_app


def _pushed(body: bytes) -> str:
    """Return what a message has in it that Pub/Sub has pushed; nothing for any other body."""
    try:
        return base64.b64decode(json.loads(body)["message"]["data"]).decode()
    except (ValueError, KeyError, TypeError):
        return ""


os.environ["WORKERS"] = (
    "4"  # functions-framework's: processes that serve, so that one's death takes few requests along
)
_tell_of_grpc()
_tell_of_http()
_take_note_of_inbound()
