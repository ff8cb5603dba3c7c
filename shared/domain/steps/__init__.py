"""What the next step of an operation is, given its phase and what is seen of the machine.

- ``table``: the state table, ``plan`` and ``record_outcome``
- ``step``: what a step is decided on, and what has to be read for it
- ``moves``: moves that do the same in every phase, as values
- ``booting``, ``stopping``, ``deleting``, ``snapshotting``, ``growing``: moves that depend on the
  workspace
- ``faults``: what a refusal of Compute means
- ``failing``: failures, deadlines and what people are told
"""

from shared.domain.steps.booting import HOME_DISK_GONE, remake
from shared.domain.steps.failing import (
    CONSOLE_TAIL_BYTES,
    fail,
    may_still_be_saved,
    overdue_unseen,
    problem_of,
    recording,
    way_out,
)
from shared.domain.steps.moves import PlainMove
from shared.domain.steps.snapshotting import ObservedSnapshot
from shared.domain.steps.step import (
    ARCHIVED,
    CALLING_PHASE,
    GROWING_PHASES,
    SNAPSHOT_PHASES,
    TAKING_HOME,
    Call,
    Decision,
    Step,
    StepInput,
    reads_console,
    reads_disk,
    reads_users,
    seeks_copy,
    seeks_elsewhere,
    source_to_read,
)
from shared.domain.steps.table import (
    DISK_TABLE,
    SNAPSHOT_TABLE,
    TABLE,
    move_of,
    plan,
    record_outcome,
)

__all__ = [
    "ARCHIVED",
    "CALLING_PHASE",
    "CONSOLE_TAIL_BYTES",
    "DISK_TABLE",
    "GROWING_PHASES",
    "HOME_DISK_GONE",
    "SNAPSHOT_PHASES",
    "SNAPSHOT_TABLE",
    "TABLE",
    "TAKING_HOME",
    "Call",
    "Decision",
    "ObservedSnapshot",
    "PlainMove",
    "Step",
    "StepInput",
    "fail",
    "may_still_be_saved",
    "move_of",
    "overdue_unseen",
    "plan",
    "problem_of",
    "reads_console",
    "reads_disk",
    "reads_users",
    "record_outcome",
    "recording",
    "remake",
    "seeks_copy",
    "seeks_elsewhere",
    "source_to_read",
    "way_out",
]
