"""An observer that judges a run by two histories only, and uses none of the Hub's code.

One history is that of the requests to the Hub and their answers, the other that of Compute: calls,
states and reports. The observer knows no records, events or logs.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

History = list[dict[str, Any]]

_WORKSPACE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NEEDS_CPU = {"PROVISIONING", "STAGING", "RUNNING", "REPAIRING"}
_WRITES = {"RUNNING", "REPAIRING"}  # one that gets no capacity has written nothing
_HOME = re.compile(r"home-")


@dataclass(frozen=True)
class Histories:
    """The two histories, and the limits that the Hub promises to keep.

    Attributes:
        requests: requests to the Hub and their answers, see ``localcloud.services.requests_file``.
        calls: calls to Compute that change something.
        states: the states of Compute's instances, see ``localcloud.services.compute.lifecycle``.
        contents: those of its disks and snapshots, see ``localcloud.services.compute.inventory``.
        reports: the guests' reports, and how they were answered.
        idle_after: the shortest time without a connection after which a machine may be stopped
            without a request.
        in_flight: the longest time from a worker's decision to its call. A report that arrives in
            between changes nothing.
        longest_operation: the longest time that an operation may take until a reader sees that it
            is over, its clean-up after a failure included.
        max_workspaces: the most workspaces that one person may have.
        max_running: the most of them that may run.
        undelete_for: how long what was deleted must be kept; none of it if 0.
        max_deleted: of how many deleted workspaces of one person.
        archives: the Hub archives by itself what has been suspended for long.
    """

    requests: History
    calls: History
    states: History
    contents: History
    reports: History
    idle_after: timedelta
    in_flight: timedelta
    longest_operation: timedelta
    max_workspaces: int
    max_running: int
    undelete_for: timedelta = timedelta(0)
    max_deleted: int = 0
    archives: bool = False

    def violations(self) -> list[str]:
        """Return a sentence for each rule that is broken."""
        return [
            *self.duplicate_machines(),
            *self.unowned_machines(),
            *self.over_quota(),
            *self.stopped_while_in_use(),
            *self.machines_deleted_without_request(),
            *self.homes_deleted_without_request(),
            *self.homes_without_a_copy(),
            *self.homes_with_another_content(),
            *self.overlong_operations(),
            *self.untrue_answers(),
            *self.names_given_twice(),
        ]

    def duplicate_machines(self) -> list[str]:
        """A workspace has one machine at a time, in all zones together.

        While somebody moves a machine by hand, there may be two for a moment. After a START that
        may move the workspace, there may be others in other zones, which are off: the one of before
        and what was not proven stay until the hourly sweep.
        """
        there: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
        moves = self._moves()
        wrong = []
        for state in self._workspace_states():
            name = _workspace_id(state["instance"])
            mine, machine = there[name], (state["zone"], state["id"])
            if state["status"] == "GONE":
                mine.pop(machine, None)
                continue
            new = machine not in mine
            mine[machine] = state["status"]
            others = [(each[0], status) for each, status in mine.items() if each != machine]
            may_have_moved = any(asked <= _time(state["time"]) for asked in moves[name])
            if may_have_moved:
                others = [
                    each for each in others if each[0] == state["zone"] or each[1] in _NEEDS_CPU
                ]
            if new and others and not self._made_by_hand(state):
                wrong.append(f"{state['instance']} existed {len(mine)} times at {state['time']}")
        return wrong

    def _moves(self) -> dict[str, list[datetime]]:
        """Return by workspace when a START was asked for that may have moved it."""
        found: dict[str, list[datetime]] = defaultdict(list)
        for name, starts in self._accepted(("POST", "/start")).items():
            found[name] += [
                _time(each["began"])
                for each in starts
                if {"zone", "may_move"} & {*(each["asked"] or {})}
            ]
        return found

    def unowned_machines(self) -> list[str]:
        """Each machine belongs to a workspace that somebody knows, or may still learn of.

        Somebody got its id in an answer, or the owner asked for a workspace and got no answer.
        """
        told = {
            _workspace_id(str(each["answer"])): each["who"]
            for each in self._creates()
            if each["status"] == 201
        }
        answered = {(each["who"], each["key"]) for each in self._creates() if each["status"] == 201}
        waiting = {
            each["who"]
            for each in self._creates()
            if _may_be_accepted(each) and (each["who"], each["key"]) not in answered
        }
        owners = self._owners()
        who = {owner: told[name] for name, owner in owners.items() if name in told}
        return [
            f"{name} has no owner who asked for it"
            for name, owner in owners.items()
            if name not in told and who.get(owner) not in waiting
        ]

    def over_quota(self) -> list[str]:
        """Nobody has more machines, or more running ones, than their quota.

        A machine that somebody moved by hand runs in its new zone, even if it was off before. The
        Hub did not start it, so it does not count as running. The machines that a workspace has in
        several zones during a move and after it count as one.
        """
        there: dict[str, dict[str, dict[tuple[str, str], str]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        owners = self._owners()
        wrong = []
        for state in self._workspace_states():
            owner = owners.get(_workspace_id(state["instance"]), "an unknown owner")
            mine = there[owner]
            by_hand = state["status"] in _NEEDS_CPU and self._made_by_hand(state)
            machine = (state["zone"], state["id"])
            if by_hand:
                mine[state["instance"]].clear()
            mine[state["instance"]][machine] = "BY_HAND" if by_hand else state["status"]
            kinds = Counter(_kind_of({*machines.values()}) for machines in mine.values())
            if (
                kinds["running"] > self.max_running
                or kinds["running"] + kinds["off"] > self.max_workspaces
            ):
                wrong.append(f"{owner} had {dict(kinds)} at {state['time']}")
        return wrong

    def stopped_while_in_use(self) -> list[str]:
        """A machine in use is suspended or stopped only if somebody asked for it.

        Labels do not count, so a machine that was mistaken for an orphan is found here, too.
        """
        wrong = []
        excused = self._allowed_periods(
            *(("POST", "/stop"), ("POST", "/start"), ("POST", "/restore"), ("DELETE", "")),
            ("POST", "/archive"),
        )
        heartbeats = self._heartbeats()
        for call in self._hub_calls("instances.suspend", "instances.stop"):
            name, at = call["instance"], _time(call["time"])
            fresh = [
                sent
                for sent, heard in heartbeats[name]
                if sent > at - self.idle_after and heard < at - self.in_flight
            ]
            if fresh and not any(
                since <= at <= until for since, until in excused[_workspace_id(name)]
            ):
                wrong.append(f"{name} was stopped at {at}, its last heartbeat was at {fresh[-1]}")
        return wrong

    def machines_deleted_without_request(self) -> list[str]:
        """A machine that was ever ready is deleted only for a DELETE, or replaced.

        A START makes a new machine if the request asks for another one, or if the old one cannot be
        used any more: it is off and does not boot, it has reported that it failed, or an earlier
        START had asked for another one. A RESTORE always makes a new one. An ARCHIVE
        deletes it; the Hub begins one by itself only if the machine is off. After a START that may
        have moved the workspace, a machine without the home that was ready last is not needed.
        """
        deletes, starts = self._accepted(("DELETE", "")), self._accepted(("POST", "/start"))
        excused = self._allowed_periods(("POST", "/start"))
        restoring = self._allowed_periods(("POST", "/restore"), ("POST", "/archive"))
        moves, homes = self._moves(), self._homes()
        wrong = []
        for call in self._hub_calls("instances.delete"):
            name, at = _workspace_id(call["instance"]), _time(call["time"])
            asked = any(_time(each["began"]) <= at for each in deletes[name])
            other = any(
                {"machine_type", "home_disk_gb"} & {*(each["asked"] or {})}
                and _time(each["began"]) <= at
                for each in starts[name]
            )
            before = self._status_before(name, at, call["zone"])
            useless = other or before != "RUNNING" or self._last_report_before(name, at) == "failed"
            allowed = [*(excused[name] if useless else ()), *restoring[name]]
            replaced = any(since <= at <= until for since, until in allowed)
            replaced |= self.archives and before not in _NEEDS_CPU
            last_home = [home for since, home in homes[name] if since < at][-1:]
            has_left = last_home and last_home[0] not in self._disks_before(name, at, call["zone"])
            replaced |= bool(has_left) and any(asked <= at for asked in moves[name])
            if self._was_ready(name, at) and not asked and not replaced:
                wrong.append(f"{name}'s machine was deleted at {at}, but nobody had asked for it")
        return wrong

    def homes_deleted_without_request(self) -> list[str]:
        """A home disk that may have been used is deleted only for a DELETE or an ARCHIVE.

        Labels do not count. The home is the disk of the machine that was ready last. What the Hub
        archives by itself has no machine by then. After a RESTORE or a move was asked for, the
        Hub may delete other ones: see ``homes_without_a_copy`` for what was the home before.
        """
        deletes, restores = self._accepted(("DELETE", "")), self._accepted(("POST", "/restore"))
        archives = self._allowed_periods(("POST", "/archive"))
        homes, moves = self._homes(), self._moves()
        wrong = []
        for call in self._hub_calls("disks.delete"):
            name, at = _workspace_id(call["disk"]), _time(call["time"])
            before = [home for since, home in homes[name] if since < at]
            if not _HOME.match(call["disk"]) or not before:
                continue
            asked = any(_time(each["began"]) <= at for each in deletes[name])
            taken_back = [since for since in self._undeletes()[name] if since <= at]
            asked = asked and not any(
                all(_time(each["began"]) < since for each in deletes[name]) for since in taken_back
            )
            restored = any(_time(each["began"]) <= at for each in restores[name])
            restored |= any(since <= at for since in moves[name])
            archived = any(since <= at <= until for since, until in archives[name])
            its_machine = self._status_before(name, at, call["zone"])
            archived |= self.archives and its_machine in {"GONE", ""}
            if not asked and not (archived if call["disk"] == before[-1] else restored):
                wrong.append(f"{name}'s home was deleted at {at}, but nobody had asked for it")
        return wrong

    def homes_without_a_copy(self) -> list[str]:
        """At no moment is the content of a home nowhere, unless its owner had asked to delete it.

        It is on its disk, or in a READY snapshot of its last state: no machine has run on that disk
        since then. That of a home that is to be made from a snapshot, and was never used, may also
        be there only. Who asked for an empty home instead has given it up.

        The same holds for a home that a RESTORE has replaced, until the Hub deletes its snapshot: a
        person has asked for that, or other snapshots need the room.
        """
        needed = self._contents_needed()
        copies = self._copies()
        forks: dict[str, list[str]] = defaultdict(list)
        for name, (_, _, source) in needed.items():
            forks[source].append(name)
        wrong = []
        for at, what, each in self._moments():
            of = each["source"] if each.get("kind") == "snapshots" else each.get("name")
            about = [_workspace_id(str(each.get("instance") or of))]
            if each.get("kind") == "snapshots":
                about += forks[each["name"][-12:]]
            for name in about:
                if (mine := copies.get(name)) is None:
                    continue
                had = mine.there
                mine.see(what, each)
                since, until, _ = needed[name]
                if had - mine.there - (mine.given_up - {mine.home}) and since <= _time(at) <= until:
                    wrong.append(f"{name}'s home was nowhere at {at}, without {each.get('name')}")
        return wrong

    def homes_with_another_content(self) -> list[str]:
        """A workspace that is ready on another home than before has what was on that one.

        The new disk is made from a snapshot of the former one, on which no machine has run since.
        Only a RESTORE takes an earlier state. Who asks for an empty home may get one.
        """
        restores = self._accepted(("POST", "/restore"))
        starts = self._accepted(("POST", "/start"))
        copies, was_ready = self._copies(), set[str]()
        wrong = []
        for at, what, each in self._moments():
            of = each["source"] if each.get("kind") == "snapshots" else each.get("name")
            name = _workspace_id(str(each.get("instance") or of))
            if (mine := copies.get(name)) is None:
                continue
            if what == "ready":
                asked = [
                    *(_time(other["began"]) for other in restores[name]),
                    *(
                        _time(other["began"])
                        for other in starts[name]
                        if (other["asked"] or {}).get("empty_home")
                    ),
                ]
                allowed = any(
                    since <= _time(at) <= since + 2 * self.longest_operation for since in asked
                )
                if name in was_ready and not allowed and not mine.has_all_on(each["home"]):
                    wrong.append(
                        f"{name} was ready on {each['home']} at {at}, which has not all that was "
                        f"on {mine.home}, but is made from {mine.made_from.get(each['home'])}"
                    )
                was_ready.add(name)
            mine.see(what, each)
        return wrong

    def _copies(self) -> dict[str, _Copies]:
        """Return by workspace where its home's content is, before anything has happened."""
        deleted = {call["snapshot"] for call in self._hub_calls("snapshots.delete")}
        needed = self._contents_needed()
        return {name: _Copies(name, source, deleted) for name, (_, _, source) in needed.items()}

    def _moments(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return what ``_Copies`` take note of, the oldest first."""
        moments = [(each["time"], "content", each) for each in self.contents]
        moments += [(each["time"], "machine", each) for each in self._workspace_states()]
        moments += [
            (since.isoformat(), "ready", {"instance": name, "home": home})
            for name, its_homes in self._homes().items()
            for since, home in its_homes
        ]
        return sorted(moments, key=lambda moment: _time(moment[0]))

    def _contents_needed(self) -> dict[str, tuple[datetime, datetime, str]]:
        """Return by workspace from when until when it has a content, and what it is made from.

        That is the end of the name of a snapshot, or empty. A home that begins empty has a content
        from its first ``ready`` report on, and one from a snapshot from its request on.
        """
        forever = datetime.max.replace(tzinfo=UTC)
        given_up = self._given_up()
        emptied = {
            name: [each for each in starts if (each["asked"] or {}).get("empty_home")]
            for name, starts in self._accepted(("POST", "/start")).items()
        }
        needed, homes = {}, self._homes()
        for each in self._creates():
            if each["status"] != 201:
                continue
            name = _workspace_id(str(each["answer"]))
            source = ((each["asked"] or {}).get("from") or {}).get("snapshot_id", "")
            ends = [*given_up[name], *(_time(end["began"]) for end in emptied.get(name, ()))]
            first_ready = min([forever, *(at for at, _ in homes[name])])
            since = _time(each["ended"]) if source else first_ready
            needed[name] = (since, min([forever, *ends]), source[-12:])
        return needed

    def _given_up(self) -> dict[str, list[datetime]]:
        """Return by workspace from when on its content need not be kept, as it was deleted.

        It is kept for a time after the request, unless that purges, or the person has deleted too
        many others since. If it was taken back, it was not given up.
        """
        taken_back = self._undeletes()
        by_person: dict[str, list[datetime]] = defaultdict(list)
        deletes = self._accepted(("DELETE", ""))
        for each in itertools.chain(*deletes.values()):
            by_person[each["who"]].append(_time(each["began"]))
        found: dict[str, list[datetime]] = defaultdict(list)
        for name, asked in deletes.items():
            for each in asked:
                since = _time(each["began"])
                later = sorted(at for at in by_person[each["who"]] if at > since)
                if "purge=true" in each["path"] or not self.undelete_for:
                    found[name].append(since)
                elif not any(at > since for at in taken_back[name]):
                    found[name] += [since + self.undelete_for, *later[self.max_deleted - 1 :][:1]]
        return found

    def _undeletes(self) -> dict[str, list[datetime]]:
        """Return by workspace when it was taken back, or may have been."""
        found: dict[str, list[datetime]] = defaultdict(list)
        for each in self.requests:
            asked = _matches(each, "POST", f"/workspaces/{_WORKSPACE.pattern}/undelete$")
            if asked and (each["status"] == 200 or _may_be_accepted(each)):
                found[_workspace_id(each["path"])].append(_time(each["began"]))
        return found

    def _homes(self) -> dict[str, list[tuple[datetime, str]]]:
        """Return by workspace when it was ready on which home disk, the first one first.

        That is the disk that the machine had when it began to run.
        """
        runs = [each for each in self._workspace_states() if each["status"] in _NEEDS_CPU]
        found: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for each in self.reports:
            if each["event"] != "ready" or each["status"] != 204:
                continue
            at, name = _time(each["time"]), _workspace_id(each["instance"])
            disks = [
                disk
                for state in runs
                if state["instance"] == each["instance"] and _time(state["time"]) <= at
                for disk in state["disks"]
                if _HOME.match(disk)
            ]
            found[name].append((at, disks[-1] if disks else f"home-{name}"))
        return found

    def overlong_operations(self) -> list[str]:
        """No answer has an operation that should have ended before."""
        wrong = []
        for each in self.requests:
            operation = isinstance(each["answer"], dict) and each["answer"].get("operation")
            if (
                operation
                and _time(each["began"]) > _time(operation["requested_at"]) + self.longest_operation
            ):
                wrong.append(
                    f"{each['path']} was still at {operation['kind']} {operation['phase']} "
                    f"at {each['began']}"
                )
        return wrong

    def untrue_answers(self) -> list[str]:
        """What was accepted has taken effect, or the last answer says why not.

        Compute agrees with the last answer. The reason may be missing after two SNAPSHOTs: that of
        one that fails comes in its place, and goes with one that succeeds.
        """
        states = self._last_states()
        deletes = self._accepted(("DELETE", ""))
        wishes = self._accepted(
            *(("POST", f"/{verb}") for verb in ("stop", "start", "restore", "archive"))
        )
        snapshots, undeletes = self._accepted(("POST", "/snapshots")), self._undeletes()
        last = {
            _workspace_id(each["path"]): each
            for each in self.requests
            if _matches(each, "GET", "/status$")
        }
        wrong = []
        for name in {
            _workspace_id(str(each["answer"])) for each in self._creates() if each["status"] == 201
        }:
            told, state = last.get(name, {"status": 0}), states.get(name, "GONE")
            answer = told.get("answer") or {}
            status, error = answer.get("status"), answer.get("error") or {}
            told_why = bool(error) or len(snapshots[name]) > 1
            is_archived = answer.get("archived_at") is not None
            asked_at = [_time(each["began"]) for each in deletes[name]]
            back = any(at > max(asked_at, default=at) for at in undeletes[name])
            wish = [
                each["path"].rsplit("/", 1)[-1] for each in wishes[name] if each["status"] == 202
            ][-1:]
            if told["status"] == 404:
                fits = state == "GONE" and bool(deletes[name])
            elif not back and any(each["status"] == 202 for each in deletes[name]):
                fits = error.get("operation_kind") == "DELETE"
            elif status == "READY":
                fits = state == "RUNNING" and (wish not in (["stop"], ["archive"]) or told_why)
            else:
                fits = (
                    status in {"SUSPENDED", "ERROR"}
                    and state not in _NEEDS_CPU
                    and (state != "GONE" or told_why or back or is_archived)
                )
            if not fits:
                asked = f"asked to {wish[0]}" if wish else "made"
                wrong.append(
                    f"{name} was {asked}, answers {told['status']} {status} {error or None}, "
                    f"and its machine is {state}"
                )
        return wrong

    def names_given_twice(self) -> list[str]:
        """Nobody gets two workspaces of one name, unless they had asked to delete the first one."""
        deletes = self._accepted(("DELETE", ""))
        given: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
        for each in self._creates():
            if each["status"] == 201:
                name = _workspace_id(str(each["answer"]))
                given[each["who"], (each["asked"] or {}).get("name", "")].setdefault(name, each)
        wrong = []
        for (who, asked), creates in given.items():
            for (first, _), (second, create) in itertools.pairwise(creates.items()):
                if asked and not any(each["began"] < create["ended"] for each in deletes[first]):
                    wrong.append(f"{who} got {asked} twice: {first} and {second}")
        return wrong

    def _workspace_states(self) -> History:
        """Return the states of the machines that are named after a workspace."""
        return [state for state in self.states if _workspace_id(state["instance"])]

    def _last_states(self) -> dict[str, str]:
        """Return by workspace the last state of its machine, in any zone.

        Of several, that is the one with the home that was ready last: another one may stay after a
        move.
        """
        machines: dict[str, dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
        for state in self._workspace_states():
            machines[_workspace_id(state["instance"])][state["zone"], state["id"]] = state
        homes = self._homes()
        found = {}
        for name, mine in machines.items():
            there = [state for state in mine.values() if state["status"] != "GONE"]
            last_home = [home for _, home in homes[name]][-1:]
            there.sort(key=lambda state: not {*last_home} & {*state["disks"]})
            found[name] = there[0]["status"] if there else "GONE"
        return found

    def _owners(self) -> dict[str, str]:
        """Return by workspace the owner in its machine's label; a removed label still counts."""
        states = self._workspace_states()
        return {
            _workspace_id(state["instance"]): state["labels"]["owner"]
            for state in states
            if "owner" in state["labels"]
        }

    def _made_by_hand(self, state: dict[str, Any]) -> bool:
        """Say whether somebody made a machine by hand: the Hub's calls have a request id."""
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
        return [each for each in self.requests if _matches(each, "POST", "/workspaces$")]

    def _accepted(self, *verbs: tuple[str, str]) -> dict[str, History]:
        """Return by workspace the requests of these verbs that were accepted, or may have been.

        A request that got no answer, or a 5xx, may have been accepted.
        """
        found: dict[str, History] = defaultdict(list)
        for each in self.requests:
            asked = any(
                _matches(each, method, f"/workspaces/{_WORKSPACE.pattern}{end}$")
                for method, end in verbs
            )
            if asked and (each["status"] == 202 or _may_be_accepted(each)):
                found[_workspace_id(each["path"])].append(each)
        return found

    def _allowed_periods(
        self, *verbs: tuple[str, str]
    ) -> dict[str, list[tuple[datetime, datetime]]]:
        """Return by workspace the periods for which requests of these verbs allow what they ask.

        A period ends when an answer says that the operation is over and the calls in flight have
        arrived, or after the longest time of an operation. That of a DELETE never ends.
        """
        told: dict[str, History] = defaultdict(list)
        for each in self.requests:
            if (
                each["status"] in {200, 202}
                and isinstance(each["answer"], dict)
                and "operation" in each["answer"]
            ):
                told[_workspace_id(each["path"])].append(each)
        found: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        for name, asked in self._accepted(*verbs).items():
            for each in asked:
                since = _time(each["began"])
                until = (
                    datetime.max.replace(tzinfo=UTC)
                    if each["method"] == "DELETE"
                    else since + self.longest_operation
                )
                mine = (
                    ((each["answer"] or {}).get("operation") or {}).get("id")
                    if each["status"] == 202
                    else None
                )
                over = [
                    _time(later["began"]) + self.in_flight
                    for later in told[name]
                    if mine
                    and later["began"] > each["ended"]
                    and (later["answer"]["operation"] or {}).get("id") != mine
                ]
                found[name].append((since, min([until, *over])))
        return found

    def _hub_calls(self, *methods: str) -> History:
        """Return the Hub's calls of these methods that were not refused; they have a request id."""
        return [
            call
            for call in self.calls
            if call["method"] in methods and call["status"] < 300 and call["requestId"]
        ]

    def _was_ready(self, name: str, at: datetime) -> bool:
        """Say whether the Hub had accepted a workspace's ``ready`` report by then."""
        ready = [
            each for each in self.reports if each["event"] == "ready" and each["status"] == 204
        ]
        return any(
            _workspace_id(each["instance"]) == name and _time(each["time"]) < at for each in ready
        )

    def _heartbeats(self) -> dict[str, list[tuple[datetime, datetime]]]:
        """Return by machine when it sent each ``ready`` or heartbeat, and when it was answered."""
        found: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        for report in self.reports:
            if report["event"] in {"ready", "heartbeat"} and report["status"] == 204:
                found[report["instance"]].append((_time(report["time"]), _time(report["answered"])))
        return found

    def _last_report_before(self, name: str, at: datetime) -> str:
        """Return the event of the last report of a workspace's machine before a moment."""
        mine = [
            each
            for each in self.reports
            if _workspace_id(each["instance"]) == name and _time(each["time"]) < at
        ]
        return mine[-1]["event"] if mine else ""

    def _status_before(self, name: str, at: datetime, zone: str = "") -> str:
        """Return the status of a workspace's machine just before a moment.

        ``zone``: of that in this zone; empty: of the one whose state has changed last.
        """
        return next((each["status"] for each in self._states_before(name, at, zone)), "")

    def _disks_before(self, name: str, at: datetime, zone: str) -> list[str]:
        """Return the disks of a workspace's machine in a zone just before a moment."""
        return next((each["disks"] for each in self._states_before(name, at, zone)), [])

    def _states_before(self, name: str, at: datetime, zone: str) -> Iterator[dict[str, Any]]:
        """Yield the states of a workspace's machines before a moment, the last one first."""
        for each in reversed(self._workspace_states()):
            its_own = _workspace_id(each["instance"]) == name and zone in {"", each["zone"]}
            if its_own and _time(each["time"]) < at:
                yield each


@dataclass
class _Copies:
    """Where the content of a workspace's home is, and of those that RESTOREs have replaced.

    ``source`` is the end of the name of the snapshot that it is made from, and counts until the
    workspace was ready. A snapshot of a disk counts from READY on, if no machine has run on the
    disk since its content was captured. ``deleted`` are the names of the snapshots that the Hub has
    deleted at some time. A home of which such a one had all is ``given_up``, unless it is the
    present one.
    """

    workspace: str
    source: str
    deleted: set[str]
    home: str = ""
    former: set[str] = field(default_factory=set)
    disks: set[tuple[str, str, str]] = field(default_factory=set)
    captured: dict[str, str] = field(default_factory=dict)  # of which disk a snapshot is
    ready: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    machines: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # on which each runs
    made_from: dict[str, str | None] = field(default_factory=dict)  # the snapshot of each disk

    def __post_init__(self) -> None:
        """Begin with the disk that a workspace's first home is on."""
        self.home = f"home-{self.workspace}"

    @property
    def there(self) -> set[str]:
        """Those of the present home and the former ones whose content is anywhere."""
        there = {name for name, _, _ in self.disks}
        there |= {disk for name, disk in self.captured.items() if name in self.ready}
        if self.sources:
            there.add(self.home)
        return there & {self.home, *self.former}

    def see(self, what: str, each: dict[str, Any]) -> None:
        """Take note of what happens to its machine, its disks, a snapshot of it or for it."""
        if what == "content":
            self._see_content(each)
        elif what == "ready":
            self.source = ""
            self.sources.clear()
            self.former = {*self.former, self.home} - {each["home"]}
            self.home = each["home"]
        else:
            runs = each["status"] in _WRITES
            self.machines[each["zone"], each["id"]] = {*each["disks"]} if runs else set()
            self.captured = {
                name: disk for name, disk in self.captured.items() if disk not in self.runs_on
            }
            self.given_up -= self.runs_on

    @property
    def runs_on(self) -> set[str]:
        """The disks on which a machine runs. A move has one in each of two zones."""
        return set().union(*self.machines.values())

    def has_all_on(self, home: str) -> bool:
        """Say whether a disk is the home, or made from a snapshot of all that is on the home."""
        return home == self.home or self.captured.get(self.made_from.get(home) or "") == self.home

    def _see_content(self, each: dict[str, Any]) -> None:
        name, status = each["name"], each["status"]
        if each["kind"] == "disks":
            if not _HOME.match(name):
                return
            disk = (name, each["zone"], each["id"])
            if status == "GONE":
                self.disks.discard(disk)
            else:
                self.disks.add(disk)
                self.made_from[name] = each["source"] or self.made_from.get(name)
            return
        ready = status == "READY"
        if self.source and name.endswith(self.source):
            (self.sources.add if ready else self.sources.discard)(name)
        if _workspace_id(each["source"] or "") != self.workspace:
            return
        of = self.captured.get(name)
        if name in self.ready and not ready and name in self.deleted and of is not None:
            self.given_up.add(of)
        (self.ready.add if ready else self.ready.discard)(name)
        if status == "CREATING" and each["source"] not in self.runs_on:
            self.captured[name] = each["source"]


def _kind_of(statuses: set[str]) -> str:
    """Say what a workspace counts as, by the states of its machines."""
    if statuses & _NEEDS_CPU:
        return "running"
    return "off" if statuses - {"GONE"} else "gone"


def _matches(request: dict[str, Any], method: str, path: str) -> bool:
    """Say whether a request has this method, and a path that matches this pattern."""
    return method == str(request["method"]) and bool(
        re.search(path, request["path"].partition("?")[0])
    )


def _may_be_accepted(request: dict[str, Any]) -> bool:
    """Say whether the answer leaves open if the request was accepted."""
    status: int = request["status"]
    return status == 0 or status >= 500


def _workspace_id(text: str) -> str:
    """Return the first workspace id in a text; empty if there is none."""
    found = _WORKSPACE.search(text)
    return found[0] if found else ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
