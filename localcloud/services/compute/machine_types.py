"""The machine types of the local Compute Engine; every zone has all of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Shape(NamedTuple):
    """The virtual processors of a machine type, and its memory in MiB."""

    cpus: int
    memory_mib: int


_SHARED_CORE = {
    "f1-micro": Shape(1, 614),
    "g1-small": Shape(1, 1740),
    "e2-micro": Shape(2, 1024),
    "e2-small": Shape(2, 2048),
    "e2-medium": Shape(2, 4096),
}

_FAMILIES = (  # family, MiB for each processor, processors
    ("e2-standard", 4096, (2, 4, 8, 16, 32)),
    ("e2-highmem", 8192, (2, 4, 8, 16)),
    ("e2-highcpu", 1024, (2, 4, 8, 16, 32)),
    ("n1-standard", 3840, (1, 2, 4, 8, 16, 32, 64, 96)),
    ("n2-standard", 4096, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128)),
    ("n2-highmem", 8192, (2, 4, 8, 16, 32, 48, 64, 80)),
    ("n2-highcpu", 1024, (2, 4, 8, 16, 32, 48, 64, 80)),
    ("n2d-standard", 4096, (2, 4, 8, 16, 32, 48, 64, 80, 96)),
    ("t2d-standard", 4096, (1, 2, 4, 8, 16, 32, 48, 60)),
    ("c2-standard", 4096, (4, 8, 16, 30, 60)),
    ("c3-standard", 4096, (4, 8, 22, 44, 88)),
    ("c4-standard", 3840, (2, 4, 8, 16, 32, 48)),
    ("c4a-standard", 4096, (1, 2, 4, 8, 16, 32, 48)),
    ("n4-standard", 4096, (2, 4, 8, 16, 32, 48, 64, 80)),
    ("n4a-standard", 4096, (1, 2, 4, 8, 16, 32, 48, 64)),
)

MACHINE_TYPES: Mapping[str, Shape] = MappingProxyType(
    _SHARED_CORE
    | {
        f"{family}-{cpus}": Shape(cpus, cpus * mib_per_cpu)
        for family, mib_per_cpu, processors in _FAMILIES
        for cpus in processors
    }
)
