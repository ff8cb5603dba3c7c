"""Calls a function when a server's process ends, after its last request."""

import atexit
import signal
from collections.abc import Callable
from typing import Any


def at_worker_exit(do: Callable[[], None]) -> None:
    """Have ``do`` called once when this process ends normally, after its last request.

    A SIGTERM is a normal end. Call this in the process that serves, after gunicorn has forked it.
    The handler of SIGTERM leads to gunicorn's worker, and the worker's hook ``worker_exit`` calls
    ``do``, before Python begins to shut down. Other servers get ``atexit``. During ``atexit``,
    since Python 3.12, no thread can be started (cpython's issue 113964), and gRPC starts one for
    the credentials of each call. In a process that is killed, ``do`` is not called.
    """
    worker: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    config: Any = getattr(worker, "cfg", None)
    if config is None:
        atexit.register(do)
        return
    previous: Callable[[Any, Any], None] = config.worker_exit

    def worker_exit(server: Any, worker: Any) -> None:
        try:
            do()
        finally:
            previous(server, worker)

    config.set("worker_exit", worker_exit)
