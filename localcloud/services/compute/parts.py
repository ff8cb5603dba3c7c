"""What the parts of one fleet share."""

from __future__ import annotations

from dataclasses import dataclass

from localcloud.services.compute.active_faults import ActiveFaults
from localcloud.services.compute.clock import Timers
from localcloud.services.compute.guests import DiskContents
from localcloud.services.compute.inventory import Inventory
from localcloud.services.compute.operations import Operations
from localcloud.services.compute.times import Times
from localcloud.services.project import Project


@dataclass(frozen=True, kw_only=True)
class SharedParts:
    """The project, what is in it, the time, the durations, and the faults."""

    project: Project
    times: Times
    faults: ActiveFaults
    timers: Timers
    inventory: Inventory
    operations: Operations
    contents: DiskContents
