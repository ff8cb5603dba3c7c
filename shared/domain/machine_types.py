"""What a machine type's name says: fitting disks, architecture, and whether it can be suspended.

Sources, read in November 2026: Compute Engine's documentation of the machine families, of
Hyperdisk, of Arm VMs and of the limits of suspending; the table of machine families in the source
of GKE's cluster autoscaler, which is Google's own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

# The disk types that can be boot disk and home.
DISK_TYPES = ("pd-balanced", "pd-ssd", "pd-standard", "hyperdisk-balanced")
SUSPENDABLE_GB = 208  # source: "Suspend or resume a Compute Engine instance", limitations

_PERSISTENT = ("pd-balanced", "pd-ssd", "pd-standard")
_EITHER = ("pd-balanced", "pd-ssd", "hyperdisk-balanced")
_HYPERDISK = ("hyperdisk-balanced",)

# The disk types that machines of a series boot from and can attach; the first is the default.
# Series of which no machine can be suspended are not here.
_FITTING: Mapping[str, tuple[str, ...]] = MappingProxyType(
    dict.fromkeys(("c2", "c2d", "e2", "f1", "g1", "n1", "n2", "n2d", "t2a", "t2d"), _PERSISTENT)
    | dict.fromkeys(("c3", "c3d"), _EITHER)
    | dict.fromkeys(("c4", "c4a", "c4d", "c4n", "e4", "e4a", "n4", "n4a", "n4d"), _HYPERDISK)
)

_GB_FOR_EACH_PROCESSOR: Mapping[str, float] = MappingProxyType({
    "standard": 4, "highmem": 8, "highcpu": 2,
    "n1-standard": 3.75, "n1-highmem": 6.5, "n1-highcpu": 0.9,
    "e2-highcpu": 1, "e4-highcpu": 1, "n2-highcpu": 1, "n2d-highcpu": 1,
})  # fmt: skip

# Google's rule for names: a letter for the family, a number for the generation, then "a" for Arm,
# "d" for AMD, or another letter.
_SERIES = r"[a-z]+[0-9]+[a-z]*"
_CUSTOM = re.compile(
    rf"(?:(?P<series>{_SERIES})-)?custom-(?:micro|small|medium|(?P<processors>[0-9]+))-(?P<memory>[0-9]+)(?:-ext)?"
)
_PREDEFINED = re.compile(
    rf"(?P<series>{_SERIES})-(?P<kind>(?!custom)[a-z]+)"
    r"(?:-(?P<processors>[0-9]+)(?P<others>[a-z]?))?(?P<more>(?:-[a-z0-9]+)*)"
)
_ARM = re.compile(r"[a-z][0-9]+a|a4x")
# GPUs (a2, a3, g2, …) and TPUs (ct5lp, tpu7x, …)
_ACCELERATED = re.compile(r"[ag][2-9].*|[a-z]{2,}[0-9].*")
_MEMORY_OPTIMISED = re.compile(r"[mx][0-9].*")
_LOCAL_SSD_SERIES = {"z3"}


class Architecture(StrEnum):
    """The processors for which boot and container images are built, as Compute spells them."""

    ARM = "ARM64"
    X86 = "X86_64"


@dataclass(frozen=True, slots=True)
class MachineType:
    """A machine type as its name describes it.

    ``processors`` (virtual CPUs) and ``memory_gb`` are None if the name does not say. ``more`` is
    what follows the number of processors: ``-lssd``, ``-metal``.
    """

    name: str
    series: str
    memory_gb: float | None
    more: str = ""
    processors: int | None = None

    @property
    def architecture(self) -> Architecture:
        """The architecture of its processors."""
        return Architecture.ARM if _ARM.fullmatch(self.series) else Architecture.X86

    @property
    def fitting_disks(self) -> tuple[str, ...]:
        """The disk types that fit it, as ``fitting_disk_types`` returns them."""
        return fitting_disk_types(self.series)

    @property
    def why_not_suspendable(self) -> str:
        """Why Compute cannot suspend it, as a clause. Empty if no reason is known.

        Compute also refuses to suspend Confidential VMs and disks with customer-supplied keys; the
        Hub makes neither.
        """
        if _ACCELERATED.fullmatch(self.series):
            return "it has accelerators (GPUs or TPUs)"
        if "metal" in self.more:
            return "it is bare metal"
        if self.series in _LOCAL_SSD_SERIES or "lssd" in self.more:
            return "it has local SSDs"
        if _MEMORY_OPTIMISED.fullmatch(self.series) or (self.memory_gb or 0) > SUSPENDABLE_GB:
            return f"it has more than {SUSPENDABLE_GB} GB of memory"
        return ""


def fitting_disk_types(series: str) -> tuple[str, ...]:
    """Return the disk types that fit a series, the default first. Empty if it is unknown."""
    return _FITTING.get(series, ())


def parse_machine_type(name: str) -> MachineType | None:
    """Return what the name of a machine type says. None if the text cannot be such a name.

    It may be predefined (``n4-standard-4``) or custom (``n2-custom-4-16384``). ``custom-4-16384``,
    without a series, is N1's. Only Compute knows whether there is such a type.
    """
    if custom := _CUSTOM.fullmatch(name):
        return MachineType(
            name,
            custom["series"] or "n1",
            int(custom["memory"]) / 1024,
            processors=int(custom["processors"]) if custom["processors"] else None,
        )
    match = _PREDEFINED.fullmatch(name)
    if not match:
        return None
    memory_gb: float | None = None
    processors: int | None = None
    if match["processors"]:
        number = int(match["processors"])
        series, kind = match["series"], match["kind"]
        each = _GB_FOR_EACH_PROCESSOR.get(f"{series}-{kind}") or _GB_FOR_EACH_PROCESSOR.get(kind)
        memory_gb = number * each if each else None
        processors = None if match["others"] else number  # 1g: one GPU
    return MachineType(name, match["series"], memory_gb, match["more"], processors)


def disk_type(machine_type: str, chosen: Mapping[str, str]) -> str:
    """Return the type of a machine's disks. ``chosen`` has a disk type for some series.

    A series in neither table gets Hyperdisk, which all series since 2024 accept: a workspace keeps
    its machine type even if the configuration no longer names it.
    """
    parsed = parse_machine_type(machine_type)
    if parsed is None:
        return _PERSISTENT[0]
    return chosen.get(parsed.series) or next(iter(parsed.fitting_disks), _HYPERDISK[0])
