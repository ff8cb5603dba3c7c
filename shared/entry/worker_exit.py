"""The end of a function's process: what is to be done once its last request has been answered."""

import atexit
import signal
from collections.abc import Callable
from typing import Any


def at_worker_exit(do: Callable[[], None]) -> None:
    """Have ``do`` called once when this process ends in good order, as on SIGTERM, after its last request.

    Called in the process that serves, after gunicorn has forked it. Its worker is known by its own
    handler of SIGTERM, and asked by gunicorn's hook ``worker_exit``, which runs before Python
    begins to shut down. ``atexit`` is only for other servers: by then, since Python 3.12, no thread
    can be started (cpython's issue 113964), and gRPC starts one for the credentials of each call. A
    process that is killed does nothing any more.
    """
    worker: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    config: Any = getattr(worker, "cfg", None)
    if config is None:
        atexit.register(do)
        return
    others: Callable[[Any, Any], None] = config.worker_exit

    def worker_exit(server: Any, worker: Any) -> None:
        try:
            do()
        finally:
            others(server, worker)

    config.set("worker_exit", worker_exit)
