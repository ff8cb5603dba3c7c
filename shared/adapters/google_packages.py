"""Imports only those parts of Google's packages that are used.

The packages' ``__init__`` modules import every service and every hand-written client. For Compute
Engine this is half a second of processor time and 40 MB more than what the Hub needs (measured:
``nox -s bench``). So the packages are put in place without being run, and only the modules that
somebody imports by their full names are loaded. Whoever asks such a package for a name of its own,
such as ``compute_v1.InstancesClient``, causes the ordinary import.
"""

import importlib
import sys
import threading
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_running = threading.RLock()


class _Package(ModuleType):
    """A package whose ``__init__`` has not been run."""

    def __getattr__(self, name: str) -> Any:
        full_name = f"{self.__name__}.{name}"
        with _running:
            if name not in vars(self) and find_spec(full_name):
                importlib.import_module(full_name)
            if name not in vars(self) and isinstance(self, _Package):
                _run(self)
        return getattr(self, name)


def defer(name: str) -> None:
    """Put a package in place without running it.

    Nothing happens if it has been imported already, or if it is not a package with an ``__init__``
    of its own.
    """
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None or spec.loader is None or spec.submodule_search_locations is None:
        return
    package = module_from_spec(spec)
    package.__class__ = _Package
    sys.modules[name] = package
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, package)


def _run(package: ModuleType) -> None:
    """Run a package's ``__init__``, as its import would have done."""
    spec = package.__spec__
    assert isinstance(spec, ModuleSpec)  # noqa: S101 -- ``defer`` made it from one
    assert spec.loader is not None  # noqa: S101 -- ``defer`` has checked it
    package.__class__ = ModuleType
    spec.loader.exec_module(package)
