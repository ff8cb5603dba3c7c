"""Somebody who has only read two histories: who asked the Hub for what and was answered what, and what Compute was told and had.

It knows nothing of records, events or logs, and uses nothing of the Hub's code.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

History = list[dict[str, Any]]

_WORKSPACE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NEEDS_CPU = {"PROVISIONING", "STAGING", "RUNNING", "REPAIRING"}
_HOME = re.compile(r"home-")


@dataclass(frozen=True)
class Observed:
    """The two histories, and what the Hub has promised to whom.

    Attributes:
        requests: what was asked and answered, see `localcloud.services.requests_file`.
        calls: calls to Compute that were to change something.
        states: what Compute's instances became, see `localcloud.services.compute.fleet`.
        reports: what the guests reported, and how they were answered.
        idle: how long nobody has been connected, at the least, to a machine that is stopped
            unasked.
        on_its_way: how long a worker may take from what it goes by to its call: what it hears
            meanwhile changes nothing.
        operation: how long an operation may take, its clean-up after a failure included, until
            somebody has seen that it is over.
        workspaces_each: the most workspaces that one person may have.
        running_each: the most of them that may run.
    """

    requests: History
    calls: History
    states: History
    reports: History
    idle: timedelta
    on_its_way: timedelta
    operation: timedelta
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
            *self.endless(),
            *self.not_as_answered(),
        ]

    def two_machines_for_one(self) -> list[str]:
        """A workspace has one machine at a time, in whatever zone. Somebody who moves one by hand may have two for a moment."""
        there: dict[str, set[tuple[str, str]]] = defaultdict(set)
        wrong = []
        for state in self._workspaces_states():
            mine, machine = there[_named(state["instance"])], (state["zone"], state["id"])
            if state["status"] == "GONE":
                mine.discard(machine)
                continue
            new = machine not in mine
            mine.add(machine)
            if new and len(mine) > 1 and not self._made_by_hand(state):
                wrong.append(f"{state['instance']} was there {len(mine)} times at {state['time']}")
        return wrong

    def machines_of_nobody(self) -> list[str]:
        """A machine is of a workspace that somebody was told of, or of somebody who asked for one and was never answered."""
        told = {
            _named(str(each["answer"])): each["who"]
            for each in self._creates()
            if each["status"] == 201
        }
        answered = {(each["who"], each["key"]) for each in self._creates() if each["status"] == 201}
        waiting = {
            each["who"]
            for each in self._creates()
            if _unclear(each) and (each["who"], each["key"]) not in answered
        }
        owners = self._owners()
        who = {owner: told[name] for name, owner in owners.items() if name in told}
        return [
            f"{name} is nobody's"
            for name, owner in owners.items()
            if name not in told and who.get(owner) not in waiting
        ]

    def too_many(self) -> list[str]:
        """Nobody has more machines, or more of them at work, than they may."""
        there: dict[str, dict[str, str]] = defaultdict(dict)
        owners = self._owners()
        wrong = []
        for state in self._workspaces_states():
            owner = owners.get(_named(state["instance"]), "somebody")
            mine = there[owner]
            mine[state["instance"]] = state["status"]
            kinds = Counter(
                "gone" if s == "GONE" else "running" if s in _NEEDS_CPU else "off"
                for s in mine.values()
            )
            if (
                kinds["running"] > self.running_each
                or kinds["running"] + kinds["off"] > self.workspaces_each
            ):
                wrong.append(f"{owner} had {dict(kinds)} at {state['time']}")
        return wrong

    def stopped_in_use(self) -> list[str]:
        """A machine is suspended or stopped because somebody asked for it, or because nobody was connected for long enough.

        Whatever its labels say: one that was taken for nobody's is found here, too.
        """
        wrong = []
        excused = self._excused(("POST", "/stop"), ("POST", "/start"), ("DELETE", ""))
        beats = self._heartbeats()
        for call in self._done("instances.suspend", "instances.stop"):
            name, at = call["instance"], _time(call["time"])
            fresh = [
                sent
                for sent, heard in beats[name]
                if sent > at - self.idle and heard < at - self.on_its_way
            ]
            if fresh and not any(since <= at <= until for since, until in excused[_named(name)]):
                wrong.append(f"{name} was stopped at {at}, its last heartbeat was at {fresh[-1]}")
        return wrong

    def deleted_unasked(self) -> list[str]:
        """A machine that was ever ready is deleted only for somebody who asked for that, or who just now wants one to use.

        A START makes a new machine if another one is asked for, or if the one that there is cannot
        be used any more: it is off and does not come up, has said that it failed, or should have
        been another one long ago.
        """
        deletes, starts = self._accepted(("DELETE", "")), self._accepted(("POST", "/start"))
        excused = self._excused(("POST", "/start"))
        wrong = []
        for call in self._done("instances.delete"):
            name, at = _named(call["instance"]), _time(call["time"])
            asked = any(_time(each["began"]) <= at for each in deletes[name])
            other = any(
                "machine_type" in (each["asked"] or {}) and _time(each["began"]) <= at
                for each in starts[name]
            )
            useless = (
                other
                or self._status(name, at) != "RUNNING"
                or self._last_report(name, at) == "failed"
            )
            replaced = useless and any(since <= at <= until for since, until in excused[name])
            if self._was_ready(name, at) and not asked and not replaced:
                wrong.append(f"{name}'s machine was deleted at {at}, and nobody had asked for it")
        return wrong

    def homes_deleted_unasked(self) -> list[str]:
        """A home disk that somebody may have used is deleted only for somebody who asked for that, whatever its labels say."""
        deletes = self._accepted(("DELETE", ""))
        wrong = []
        for call in self._done("disks.delete"):
            name, at = _named(call["disk"]), _time(call["time"])
            home = _HOME.match(call["disk"]) and self._was_ready(name, at)
            if home and not any(_time(each["began"]) <= at for each in deletes[name]):
                wrong.append(f"{name}'s home was deleted at {at}, and nobody had asked for it")
        return wrong

    def endless(self) -> list[str]:
        """No operation is still told of long after it should have been over."""
        wrong = []
        for each in self.requests:
            operation = isinstance(each["answer"], dict) and each["answer"].get("operation")
            if (
                operation
                and _time(each["began"]) > _time(operation["requested_at"]) + self.operation
            ):
                wrong.append(
                    f"{each['path']} was still at {operation['kind']} {operation['phase']} at {each['began']}"
                )
        return wrong

    def not_as_answered(self) -> list[str]:
        """What was accepted has come about, or the last answer says why not; and what that says is so in Compute."""
        states = self._last_states()
        deletes = self._accepted(("DELETE", ""))
        wishes = self._accepted(("POST", "/stop"), ("POST", "/start"))
        last = {
            _named(each["path"]): each for each in self.requests if _is(each, "GET", "/status$")
        }
        wrong = []
        for name in {
            _named(str(each["answer"])) for each in self._creates() if each["status"] == 201
        }:
            told, state = last.get(name, {"status": 0}), states.get(name, "GONE")
            answer = told.get("answer") or {}
            status, error = answer.get("status"), answer.get("error") or {}
            wish = [
                each["path"].rsplit("/", 1)[-1] for each in wishes[name] if each["status"] == 202
            ][-1:]
            if told["status"] == 404:
                fits = state == "GONE" and bool(deletes[name])
            elif any(each["status"] == 202 for each in deletes[name]):
                fits = error.get("operation_kind") == "DELETE"
            elif status == "READY":
                fits = state == "RUNNING" and (wish != ["stop"] or bool(error))
            else:
                fits = (
                    status in {"SUSPENDED", "ERROR"}
                    and state not in _NEEDS_CPU
                    and (state != "GONE" or bool(error))
                )
            if not fits:
                asked = f"asked to {wish[0]}" if wish else "made"
                wrong.append(
                    f"{name} was {asked}, answers {told['status']} {status} {error or None}, and its machine is {state}"
                )
        return wrong

    def _workspaces_states(self) -> History:
        """Return the states of the machines that are named after a workspace."""
        return [state for state in self.states if _named(state["instance"])]

    def _last_states(self) -> dict[str, str]:
        """Return by workspace what its machine was last, in whatever zone."""
        machines: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
        for state in self._workspaces_states():
            machines[_named(state["instance"])][state["zone"], state["id"]] = state["status"]
        return {
            name: next((status for status in mine.values() if status != "GONE"), "GONE")
            for name, mine in machines.items()
        }

    def _owners(self) -> dict[str, str]:
        """Return by workspace whose its machine is, as its label has ever said."""
        states = self._workspaces_states()
        return {
            _named(state["instance"]): state["labels"]["owner"]
            for state in states
            if "owner" in state["labels"]
        }

    def _made_by_hand(self, state: dict[str, Any]) -> bool:
        """Say whether it was not the Hub who made a machine: the Hub's calls have a request id."""
        made = [
            call
            for call in self.calls
            if (call["method"], call["instance"]) == ("instances.insert", state["instance"])
            and call["zone"] == state["zone"]
            and call["time"] <= state["time"]
        ]
        return bool(made) and not made[-1]["requestId"]

    def _creates(self) -> History:
        """Return the requests for a new workspace."""
        return [each for each in self.requests if _is(each, "POST", "/workspaces$")]

    def _accepted(self, *verbs: tuple[str, str]) -> dict[str, History]:
        """Return by workspace the requests of these verbs that were accepted; what got no answer may have been."""
        found: dict[str, History] = defaultdict(list)
        for each in self.requests:
            asked = any(
                _is(each, method, f"/workspaces/{_WORKSPACE.pattern}{end}$")
                for method, end in verbs
            )
            if asked and (each["status"] == 202 or _unclear(each)):
                found[_named(each["path"])].append(each)
        return found

    def _excused(self, *verbs: tuple[str, str]) -> dict[str, list[tuple[datetime, datetime]]]:
        """Return by workspace from when to when something may be done for somebody who asked by one of these verbs.

        That is until an answer says that it is over, and a call that was on its way then has come;
        at the latest when any operation has to be over. A DELETE is never over.
        """
        told: dict[str, History] = defaultdict(list)
        for each in self.requests:
            if (
                each["status"] in {200, 202}
                and isinstance(each["answer"], dict)
                and "operation" in each["answer"]
            ):
                told[_named(each["path"])].append(each)
        found: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        for name, asked in self._accepted(*verbs).items():
            for each in asked:
                since = _time(each["began"])
                until = (
                    datetime.max.replace(tzinfo=UTC)
                    if each["method"] == "DELETE"
                    else since + self.operation
                )
                mine = (
                    ((each["answer"] or {}).get("operation") or {}).get("id")
                    if each["status"] == 202
                    else None
                )
                over = [
                    _time(later["began"]) + self.on_its_way
                    for later in told[name]
                    if mine
                    and later["began"] > each["ended"]
                    and (later["answer"]["operation"] or {}).get("id") != mine
                ]
                found[name].append((since, min([until, *over])))
        return found

    def _done(self, *methods: str) -> History:
        """Return the Hub's own calls of these methods that were not refused: those always have a request id."""
        return [
            call
            for call in self.calls
            if call["method"] in methods and call["status"] < 300 and call["requestId"]
        ]

    def _was_ready(self, name: str, at: datetime) -> bool:
        """Say whether a workspace had reported ready by then, and was heard."""
        ready = [
            each for each in self.reports if each["event"] == "ready" and each["status"] == 204
        ]
        return any(_named(each["instance"]) == name and _time(each["time"]) < at for each in ready)

    def _heartbeats(self) -> dict[str, list[tuple[datetime, datetime]]]:
        """Return by machine when it said that it is ready or in use, in order, and when it had been heard."""
        found: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        for report in self.reports:
            if report["event"] in {"ready", "heartbeat"} and report["status"] == 204:
                found[report["instance"]].append((_time(report["time"]), _time(report["answered"])))
        return found

    def _last_report(self, name: str, at: datetime) -> str:
        """Return what a workspace's machine had said last by then."""
        mine = [
            each
            for each in self.reports
            if _named(each["instance"]) == name and _time(each["time"]) < at
        ]
        return mine[-1]["event"] if mine else ""

    def _status(self, name: str, at: datetime) -> str:
        """Return what a workspace's machine was just before a moment."""
        mine = [each for each in self._workspaces_states() if _named(each["instance"]) == name]
        before = [each["status"] for each in mine if _time(each["time"]) < at]
        return before[-1] if before else ""


def _is(request: dict[str, Any], method: str, path: str) -> bool:
    """Say whether a request is of this kind."""
    return method == str(request["method"]) and bool(
        re.search(path, request["path"].partition("?")[0])
    )


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
