"""Imports libraries that stay in memory as long as the process lives."""

import gc
import importlib
import os

# Whatever there is when the server forks stays in the memory that its processes share.
os.register_at_fork(before=gc.freeze)


def import_for_good(*modules: str) -> None:
    """Import modules, and tell the garbage collector that nothing of them will be garbage.

    Otherwise it would look at half a million objects again and again: while they are imported
    (measured: a fifth of the time), at requests, and in each process after a fork. A look writes
    into each object, so the processes of a function would share hardly any memory.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for module in modules:
            importlib.import_module(module)
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
