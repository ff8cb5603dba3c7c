"""The kinds of faults: what each affects, and what it makes of a call, an operation or a machine.

A fault itself is an object in ``faults.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from localcloud.services.compute.errors import ComputeError
from localcloud.services.compute.failures import Failure
from localcloud.services.compute.resources import Disk, Instance, Snapshot
from localcloud.services.project import Project

Source: TypeAlias = Disk | Snapshot
Target = TypeVar("Target", Instance, Disk, Snapshot, Source, None)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that can go wrong.

    Attributes:
        name: by which it is switched on.
        does: what it does, for people.
        methods: the methods of Compute that it affects; none if it affects machines.
    """

    name: str
    does: str
    methods: frozenset[str] = frozenset()

    @property
    def affects_machines(self) -> bool:
        """Whether it affects machines instead of calls."""
        return not self.methods


@dataclass(frozen=True, kw_only=True)
class Strike(Generic[Target]):
    """One occurrence of a fault.

    Attributes:
        target: the instance, disk or snapshot that it affects; None if it refuses a call unread.
        number: 1 for the fault's first occurrence since the faults were cleared.
    """

    project: Project
    target: Target
    number: int


@dataclass(frozen=True, kw_only=True)
class CallFault(Fault):
    """Refuses any call before it is read."""

    refusal: Callable[[Strike[None]], ComputeError]


@dataclass(frozen=True, kw_only=True)
class InstanceCallFault(Fault):
    """Refuses a call on an instance that exists."""

    refusal: Callable[[Strike[Instance]], ComputeError]


@dataclass(frozen=True, kw_only=True)
class PolicyRace(Fault):
    """Changes the policy of an instance right after somebody has read it."""


@dataclass(frozen=True, kw_only=True)
class DiskCallFault(Fault):
    """Refuses a call on a disk that exists. Its instance is the one that had the disk last."""

    refusal: Callable[[Strike[Disk]], ComputeError]


@dataclass(frozen=True, kw_only=True)
class InstanceOperationFault(Fault):
    """Lets an operation on an instance fail, or refuses the call that would have started it."""

    outcome: Callable[[Strike[Instance]], ComputeError | Failure]


@dataclass(frozen=True, kw_only=True)
class SourceFault(Fault):
    """Affects what is made from something else: a snapshot of a disk, or a disk from a snapshot.

    ``outcome`` is told the source. What was to be made does not exist afterwards.
    """

    outcome: Callable[[Strike[Source]], ComputeError | Failure]


@dataclass(frozen=True, kw_only=True)
class SnapshotFault(Fault):
    """Lets the operation that takes a snapshot fail, or refuses the call.

    Attributes:
        after_capture: whether that happens at the end of the upload.
        remains: whether the snapshot is FAILED then; otherwise it no longer exists.
    """

    outcome: Callable[[Strike[Snapshot]], ComputeError | Failure]
    after_capture: bool = False
    remains: bool = False


@dataclass(frozen=True, kw_only=True)
class OperationFault(Fault):
    """Changes how an operation proceeds.

    Attributes:
        time_factor: how many times longer than usual it takes.
        upload_factor: how many times longer than that the upload of a snapshot takes.
        loses_record: whether nobody can read the operation or find it by its requestId.
    """

    time_factor: float = 1.0
    upload_factor: float = 1.0
    loses_record: bool = False


@dataclass(frozen=True, kw_only=True)
class GuestFault(Fault):
    """Affects a guest when its machine boots.

    Attributes:
        becomes_ready: whether the guest reports ready first.
        failure: the code and the message of the failure that it reports; None if it reports none.
    """

    becomes_ready: bool
    failure: tuple[str, str] | None


class MachineEvents(Protocol):
    """What can happen to a running machine without a call to Compute."""

    def delete_by_hand(self, instance: Instance) -> None:
        """Delete it, as somebody outside the Hub would."""

    def preempt(self, instance: Instance) -> None:
        """Reclaim it: STOPPING, then TERMINATED."""


@dataclass(frozen=True, kw_only=True)
class MachineFault(Fault):
    """Affects a machine while it is RUNNING."""

    event: Callable[[MachineEvents, Instance], None]
