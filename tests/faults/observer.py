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
_HELD_UP: Final = timedelta(seconds=75)  # from a request to the last that is done for it: its deadline, and a resend


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
        """Return, in words, what should not have happened, and what should have."""
        return [
            *self.two_machines_for_one(),
            *self.machines_of_nobody(),
            *self.too_many(),
            *self.stopped_in_use(),
            *self.deleted_unasked(),
            *self.homes_deleted_unasked(),
            *self.not_as_answered(),
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
        """A machine is of a workspace that somebody was told of, or of somebody who asked for one and was never answered."""
        told = {_named(str(each["answer"])): each["who"] for each in self._creates() if each["status"] == 201}
        answered = {(each["who"], each["key"]) for each in self._creates() if each["status"] == 201}
        waiting = {
            each["who"] for each in self._creates() if _unclear(each) and (each["who"], each["key"]) not in answered
        }
        who = {
            state["labels"]["owner"]: told[_named(state["instance"])]
            for state in self.states
            if _named(state["instance"]) in told
        }
        unknown = {(_named(state["instance"]), state["labels"]["owner"]) for state in self.states}
        return [f"{name} is nobody's" for name, owner in unknown if name not in told and who.get(owner) not in waiting]

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
        asked = self._accepted(("POST", "/stop"), ("POST", "/start"), ("DELETE", ""))
        beats = self._heartbeats()
        for call in self._done("instances.suspend", "instances.stop"):
            name, at = call["instance"], _time(call["time"])
            last = bisect_left(beats[name], at - _AT_ONCE)
            fresh = last > 0 and beats[name][last - 1] > at - self.idle
            if fresh and not any(at - _HELD_UP < _time(each["began"]) <= at for each in asked[_named(name)]):
                wrong.append(f"{name} was stopped at {at}, its last heartbeat was at {beats[name][last - 1]}")
        return wrong

    def deleted_unasked(self) -> list[str]:
        """A machine that was ever ready is deleted only for somebody who asked for that, or just now for another machine."""
        deletes, starts = self._accepted(("DELETE", "")), self._accepted(("POST", "/start"))
        wrong = []
        for call in self._done("instances.delete"):
            name, at = _named(call["instance"]), _time(call["time"])
            other = [each for each in starts[name] if "machine_type" in (each["asked"] or {})]
            asked = [_time(each["began"]) for each in other if at - _HELD_UP < _time(each["began"])]
            asked += [_time(each["began"]) for each in deletes[name]]
            if self._was_ready(name, at) and not any(each <= at for each in asked):
                wrong.append(f"{name}'s machine was deleted at {at}, and nobody had asked for it")
        return wrong

    def homes_deleted_unasked(self) -> list[str]:
        """A home disk that somebody may have used is deleted only for somebody who asked for that."""
        deletes = self._accepted(("DELETE", ""))
        wrong = []
        for call in self._done("disks.delete"):
            name, at = _named(call["disk"]), _time(call["time"])
            if self._was_ready(name, at) and not any(_time(each["began"]) <= at for each in deletes[name]):
                wrong.append(f"{name}'s home was deleted at {at}, and nobody had asked for it")
        return wrong

    def not_as_answered(self) -> list[str]:
        """What was accepted has come about, or the last answer says why not; and what that says is so in Compute."""
        states = {_named(state["instance"]): state["status"] for state in self.states}
        deletes = self._accepted(("DELETE", ""))
        wishes = self._accepted(("POST", "/stop"), ("POST", "/start"))
        last = {_named(each["path"]): each for each in self.requests if _is(each, "GET", "/status$")}
        wrong = []
        for name in {_named(str(each["answer"])) for each in self._creates() if each["status"] == 201}:
            told, state = last.get(name, {"status": 0}), states.get(name, "GONE")
            answer = told.get("answer") or {}
            status, error = answer.get("status"), answer.get("error") or {}
            wish = [each["path"].rsplit("/", 1)[-1] for each in wishes[name] if each["status"] == 202][-1:]
            if told["status"] == 404:
                fits = state == "GONE" and bool(deletes[name])
            elif any(each["status"] == 202 for each in deletes[name]):
                fits = error.get("operation_kind") == "DELETE"
            elif status == "READY":
                fits = state == "RUNNING" and (wish != ["stop"] or bool(error))
            else:
                fits = status in {"SUSPENDED", "ERROR"} and state not in _NEEDS_CPU and (state != "GONE" or bool(error))
            if not fits:
                asked = f"asked to {wish[0]}" if wish else "made"
                wrong.append(
                    f"{name} was {asked}, answers {told['status']} {status} {error or None}, and its machine is {state}"
                )
        return wrong

    def _creates(self) -> History:
        """Return the requests for a new workspace."""
        return [each for each in self.requests if _is(each, "POST", "/workspaces$")]

    def _accepted(self, *verbs: tuple[str, str]) -> dict[str, History]:
        """Return by workspace the requests of these verbs that were accepted; what got no answer may have been."""
        found: dict[str, History] = defaultdict(list)
        for each in self.requests:
            asked = any(_is(each, method, f"/workspaces/{_WORKSPACE.pattern}{end}$") for method, end in verbs)
            if asked and (each["status"] == 202 or _unclear(each)):
                found[_named(each["path"])].append(each)
        return found

    def _done(self, *methods: str) -> History:
        """Return the Hub's own calls of these methods that were not refused: those always have a request id."""
        return [call for call in self.calls if call["method"] in methods and call["status"] < 300 and call["requestId"]]

    def _was_ready(self, name: str, at: datetime) -> bool:
        """Say whether a workspace had reported ready by then, and was heard."""
        ready = [each for each in self.reports if each["event"] == "ready" and each["status"] == 204]
        return any(_named(each["instance"]) == name and _time(each["time"]) < at for each in ready)

    def _heartbeats(self) -> dict[str, list[datetime]]:
        """Return by machine when it said that it is ready or in use and was heard, in order."""
        found: dict[str, list[datetime]] = defaultdict(list)
        for report in self.reports:
            if report["event"] in {"ready", "heartbeat"} and report["status"] == 204:
                found[report["instance"]].append(_time(report["time"]))
        return {name: sorted(times) for name, times in found.items()} | defaultdict(list)


def _is(request: dict[str, Any], method: str, path: str) -> bool:
    """Say whether a request is of this kind."""
    return method == str(request["method"]) and bool(re.search(path, request["path"].partition("?")[0]))


def _unclear(request: dict[str, Any]) -> bool:
    """Say whether a request may have been accepted without anybody knowing."""
    status: int = request["status"]
    return status == 0 or status >= 500


def _named(text: str) -> str:
    """Return the first workspace's id in a text; empty where there is none."""
    found = _WORKSPACE.search(text)
    return found[0] if found else ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
