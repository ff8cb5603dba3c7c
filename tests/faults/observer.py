"""Somebody who has only read two histories: who asked the Hub for what and was answered what, and what Compute was told and had.

It knows nothing of records, events or logs, and uses nothing of the Hub's code.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

History = list[dict[str, Any]]

_WORKSPACE: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NEEDS_CPU: Final = {"PROVISIONING", "STAGING", "RUNNING", "REPAIRING"}
_AT_ONCE: Final = timedelta(seconds=3)  # a call that was on its way when a heartbeat came
_HELD_UP: Final = timedelta(minutes=3)  # the longest that anything asked for is carried out after that


@dataclass(frozen=True)
class Observed:
    """The two histories, and what the Hub has promised to whom.

    Attributes:
        requests: what was asked and answered, see `localcloud.requests_file`.
        calls: calls to Compute that were to change something.
        states: what Compute's instances became, see `localcloud.compute.fleet`.
        reports: what the guests reported, and how they were answered.
        idle: how long nobody has been connected, at the least, to a machine that is stopped unasked.
        workspaces_each: the most workspaces that one person may have.
        running_each: the most of them that may run.
    """

    requests: History
    calls: History
    states: History
    reports: History
    idle: timedelta
    workspaces_each: int
    running_each: int

    def violations(self) -> list[str]:
        """Return, in words, what should not have happened."""
        return [
            *self.two_machines_for_one(),
            *self.machines_of_nobody(),
            *self.too_many(),
            *self.stopped_in_use(),
            *self.deleted_unasked(),
            *self.still_there(),
        ]

    def two_machines_for_one(self) -> list[str]:
        """A workspace has one machine at a time, in whatever zone."""
        there: dict[str, set[tuple[str, str]]] = defaultdict(set)
        wrong = []
        for state in self.states:
            mine = there[_named(state["instance"])]
            (mine.discard if state["status"] == "GONE" else mine.add)((state["zone"], state["id"]))
            if len(mine) > 1:
                wrong.append(f"{state['instance']} was there {len(mine)} times at {state['time']}")
        return wrong

    def machines_of_nobody(self) -> list[str]:
        """Machines are made only of workspaces that somebody was told of, or got no answer about."""
        told = {_named(str(each["answer"])) for each in self.requests if _is(each, "POST", r"/workspaces$", 201)}
        unanswered = sum(_is(each, "POST", r"/workspaces$") and each["status"] >= 500 for each in self.requests)
        unknown = {_named(state["instance"]) for state in self.states} - told
        return [f"{sorted(unknown)} are nobody's"] if len(unknown) > unanswered else []

    def too_many(self) -> list[str]:
        """Nobody has more machines, or more of them at work, than they may."""
        there: dict[str, dict[str, str]] = defaultdict(dict)
        wrong = []
        for state in self.states:
            mine = there[state["labels"]["owner"]]
            mine[state["instance"]] = state["status"]
            kinds = Counter("gone" if s == "GONE" else "running" if s in _NEEDS_CPU else "off" for s in mine.values())
            if kinds["running"] > self.running_each or kinds["running"] + kinds["off"] > self.workspaces_each:
                wrong.append(f"{state['labels']['owner']} had {dict(kinds)} at {state['time']}")
        return wrong

    def stopped_in_use(self) -> list[str]:
        """A machine is suspended or stopped because somebody asked for it, or because nobody was connected for long enough."""
        wrong = []
        asked = self._asked(("POST", "/stop"), ("POST", "/start"), ("DELETE", ""))
        beats = self._heartbeats()
        for call in self.calls:
            if (
                call["method"] not in {"instances.suspend", "instances.stop"}
                or call["status"] >= 300
                or not call["requestId"]
            ):
                continue  # refused, or not the Hub's: that always has a request id
            name, at = call["instance"], _time(call["time"])
            last = bisect_left(beats[name], at - _AT_ONCE)
            fresh = last > 0 and beats[name][last - 1] > at - self.idle
            if fresh and not any(at - _HELD_UP < each <= at for each in asked[_named(name)]):
                wrong.append(f"{name} was stopped at {at}, its last heartbeat was at {beats[name][last - 1]}")
        return wrong

    def deleted_unasked(self) -> list[str]:
        """A machine that was ever ready is deleted only for somebody who asked for that, or for another machine."""
        asked = self._asked(("POST", "/start"), ("DELETE", ""))
        ready = defaultdict(list)
        for report in self.reports:
            if report["event"] == "ready" and report["status"] == 204:
                ready[report["instance"]].append(_time(report["time"]))
        wrong = []
        for call in self.calls:
            if call["method"] != "instances.delete" or call["status"] >= 300 or not call["requestId"]:
                continue
            at = _time(call["time"])
            was_ready = any(each < at for each in ready[call["instance"]])
            if was_ready and not any(each <= at for each in asked[_named(call["instance"])]):
                wrong.append(f"{call['instance']} was deleted at {at}, and nobody had asked for it")
        return wrong

    def still_there(self) -> list[str]:
        """What the last answer called deleted has no machine any more, and what it called READY has one that runs."""
        last: dict[str, dict[str, Any]] = {}
        for each in self.requests:
            found = _WORKSPACE.search(each["path"])
            if found and (each["status"] == 404 or isinstance(each["answer"], dict)):
                last[found[0]] = each
        states = {_named(state["instance"]): state["status"] for state in self.states}
        gone = [name for name, each in last.items() if each["status"] == 404 and states.get(name, "GONE") != "GONE"]
        return [f"{name} answers 404, and has a machine that is {states[name]}" for name in gone]

    def _asked(self, *verbs: tuple[str, str]) -> dict[str, list[datetime]]:
        """Return by workspace when any of these was asked and not refused. What got no answer may have been accepted."""
        found: dict[str, list[datetime]] = defaultdict(list)
        for each in self.requests:
            asked = any(_is(each, method, f"/workspaces/{_WORKSPACE.pattern}{end}$") for method, end in verbs)
            if asked and not 400 <= each["status"] < 500:
                found[_named(each["path"])].append(_time(each["began"]))
        return found

    def _heartbeats(self) -> dict[str, list[datetime]]:
        """Return by machine when it said that it is ready or in use and was heard, in order."""
        found: dict[str, list[datetime]] = defaultdict(list)
        for report in self.reports:
            if report["event"] in {"ready", "heartbeat"} and report["status"] == 204:
                found[report["instance"]].append(_time(report["time"]))
        return {name: sorted(times) for name, times in found.items()} | defaultdict(list)


def _is(request: dict[str, Any], method: str, path: str, status: int | None = None) -> bool:
    """Say whether a request is of this kind."""
    right = request["method"] == method and re.search(path, request["path"].partition("?")[0])
    return bool(right) and status in {None, request["status"]}


def _named(text: str) -> str:
    """Return the first workspace's id in a text; empty where there is none."""
    found = _WORKSPACE.search(text)
    return found[0] if found else ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
