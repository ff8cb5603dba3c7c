"""Asks Compute for the machines that people look at, rarely for those that are off."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.domain.drift import has_drifted
from shared.domain.instance import Instance, Place
from shared.domain.workspace import Status, Workspace
from shared.ports import Clock, Machines, Stored

# How long an answer counts. A machine that somebody starts by hand is noticed so much later.
SEEN_FOR = timedelta(seconds=10)
# How many answers are kept. The one that was asked for first is dropped first.
MOST_SEEN = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A question to Compute, and its answer as soon as there is one.

    It counts for the same version of the same workspace, with the same machine.
    """

    version: Any
    instance_id: str | None
    asked_at: datetime
    answer: "Future[Instance | None]" = field(default_factory=Future)

    def counts(self, stored: Stored[Workspace], now: datetime) -> bool:
        """Say whether it answers for this record at this time."""
        same = (stored.version, stored.record.instance_id) == (self.version, self.instance_id)
        return same and timedelta(0) <= now - self.asked_at < SEEN_FOR


class SeenMachines:
    """Compute's answers about machines.

    People's pages ask for the status of a suspended workspace again and again, and nothing happens
    to it. So Compute is asked for a SUSPENDED workspace without an operation at most once in
    ``SEEN_FOR``, in one function instance. Only an answer that agrees with the record is kept, and
    only as long as the record does not change. All others are asked for each time.

    This is safe to use from many threads: those that ask at the same time share one question.
    """

    def __init__(self, machines: Callable[[], Machines], clock: Clock) -> None:
        """Bind the ports. ``machines`` is called when Compute is asked."""
        self._machines = machines
        self._clock = clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, stored: Stored[Workspace]) -> Instance | None:
        """Return the workspace's machine, or None if it does not exist.

        Raises:
            UnavailableError: Compute does not answer, or has not answered whoever asked first.
        """
        workspace = stored.record
        if workspace.status is not Status.SUSPENDED or workspace.operation is not None:
            return self._ask(workspace)
        with self._lock:
            seen, now = self._seen.get(workspace.id), self._clock()
            asks = seen is None or not seen.counts(stored, now)
            if seen is None or asks:
                self._seen.pop(workspace.id, None)
                seen = _Seen(stored.version, workspace.instance_id, now)
                self._seen[workspace.id] = seen
            if len(self._seen) > MOST_SEEN:
                self._seen.popitem(last=False)
        if asks:
            self._answer(seen, workspace)
        return seen.answer.result()

    def _answer(self, seen: _Seen, workspace: Workspace) -> None:
        """Ask Compute, and answer all who wait. Keep the answer only if nothing is to be done."""
        keep = False
        try:
            instance = self._ask(workspace)
            keep = not has_drifted(workspace, instance, self._clock())
        except BaseException as error:
            seen.answer.set_exception(error)
            raise
        else:
            seen.answer.set_result(instance)
        finally:
            if not keep:
                with self._lock:
                    if self._seen.get(workspace.id) is seen:
                        del self._seen[workspace.id]

    def _ask(self, workspace: Workspace) -> Instance | None:
        return self._machines().get(Place(workspace.zone, workspace.instance_name))
