"""The program of the local Firestore: it serves until it is told to end.

    python -m localcloud.services.firestore --port 8080
        [--indexes firestore.indexes.json] [--sweep-seconds 5] [--end-with-input]

It writes ``ready host:port`` to standard output when it serves. SIGTERM and SIGINT end it at once,
with exit code 0: everything is in memory, so there is nothing to save. With ``--end-with-input`` it
also ends when its standard input does, so a parent that is killed leaves nothing behind.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from localcloud.services.firestore.indexes import Indexes
from localcloud.services.firestore.server import FirestoreServer

_INDEXES = Path(__file__).parents[3] / "firestore.indexes.json"
_SWEEP_SECONDS = 5.0
_ENDING = {signal.SIGTERM, signal.SIGINT}


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.services.firestore")
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one")
    parser.add_argument("--indexes", type=Path, default=_INDEXES, help="firestore.indexes.json")
    parser.add_argument(
        "--sweep-seconds", type=float, default=_SWEEP_SECONDS, help="between looks for expired ones"
    )
    parser.add_argument(
        "--end-with-input", action="store_true", help="end when standard input does"
    )
    arguments = parser.parse_args()
    # Before any thread is there: signals that every thread blocks wait for ``sigwait``.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        server = FirestoreServer(
            port=arguments.port,
            indexes=Indexes.load(arguments.indexes),
            sweep_seconds=arguments.sweep_seconds,
        )
        address = server.start()
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Firestore cannot be served: {error}")
    if arguments.end_with_input:
        threading.Thread(target=_end_with_input, daemon=True).start()
    print(f"ready {address}", flush=True)
    signal.sigwait(_ENDING)
    os._exit(0)


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
