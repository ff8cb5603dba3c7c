"""The owner may log in to each new machine, and nothing waits for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from shared.domain.errors import MachineFaultError, UnavailableError
from shared.domain.instance import FaultKind, InsertInstance
from shared.domain.lifecycle import NewMachine
from shared.domain.machine_access import state_and_why
from shared.domain.workspace import AccessState, Status, Workspace
from shared.usecases.give_access import give_access
from shared.usecases.reconcile_fleet import reconcile_fleet
from tests.bench.tasks import QUICK
from tests.fakes.interruptions import Interruptions, Moment, ProcessDiedError
from tests.fakes.machines import Durations, GuestMishap, Mishap, fault
from tests.fakes.world import World, place_of, shut_down_by_hand, suspended

ALICE = "user:alice@example.com"
G, P, R = AccessState.GRANTED, AccessState.PENDING, AccessState.REFUSED


def refused(kind: FaultKind) -> MachineFaultError:
    """Return Compute's refusal to let somebody in."""
    return MachineFaultError(fault(kind))


def away() -> UnavailableError:
    """Return an outage of Compute."""
    return UnavailableError("Compute Engine does not answer now.")


def logins(world: World, workspace: Workspace) -> list[str]:
    """Return who may log in to the workspace's machine."""
    machine = world.machine(world.workspace(workspace.id))
    assert machine is not None
    return machine.logins


def state_of(world: World, workspace: Workspace) -> AccessState:
    """Return what people are told."""
    return state_and_why(world.workspace(workspace.id))[0]


def sweep(world: World) -> None:
    """Run the hourly sweep, and what it began."""
    reconcile_fleet(world.records, world.machines_port, world.policy, pause=world.pauses.append)
    world.run()


# ---- each new machine ----


def _rebuild(world: World) -> Workspace:
    workspace = world.ready()
    world.start("alice", workspace.id, NewMachine(rebuild=True))
    return workspace


def _other_type(world: World) -> Workspace:
    workspace = suspended(world)
    world.start("alice", workspace.id, NewMachine(machine_type="e2-standard-8"))
    return workspace


def _gone(world: World) -> Workspace:
    workspace = world.ready()
    world.machines.delete_by_hand(place_of(workspace))
    world.start("alice", workspace.id)
    world.look(workspace)
    world.run()
    world.start("alice", workspace.id)
    return workspace


def _too_old(world: World) -> Workspace:
    workspace = shut_down_by_hand(world)
    world.machines.make_old_by_hand(place_of(workspace), timedelta(days=40))
    world.start("alice", workspace.id)
    return workspace


def _another_zone(world: World) -> Workspace:
    zone = world.policy.zones[0]
    world.machines.script(InsertInstance, Mishap.FAILS_LATER, FaultKind.STOCK_OUT, zone=zone)
    return world.create("alice", "one")


def _moved_by_hand(world: World) -> Workspace:
    workspace = suspended(world)
    world.machines.move_by_hand(place_of(workspace), world.policy.zones[1])
    world.pass_time(timedelta(minutes=1))
    world.look(workspace)
    return workspace


def _made_anew_by_hand(world: World) -> Workspace:
    workspace = world.ready()
    there = place_of(workspace)
    away_ = replace(there, zone=world.policy.zones[1])
    world.machines.move_by_hand(there, away_.zone)
    world.machines.move_by_hand(away_, there.zone)
    world.pass_time(timedelta(minutes=1))
    world.look(workspace)
    return workspace


WAYS: dict[str, Callable[[World], Workspace]] = {
    "a CREATE": lambda world: world.create("alice", "one"),
    "a CREATE in the second zone": _another_zone,
    "a rebuild": _rebuild,
    "a START with another type": _other_type,
    "a START without a machine": _gone,
    "a START of a machine that is too old": _too_old,
    "a machine moved by hand": _moved_by_hand,
    "a machine made anew by hand": _made_anew_by_hand,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_owner_may_log_in_to_each_new_machine(way: str) -> None:
    """Each has a policy of its own, and its workspace says so. Nothing is left to be done."""
    world = World()
    workspace = WAYS[way](world)
    world.run()

    assert logins(world, workspace) == [ALICE]
    record = world.workspace(workspace.id)
    assert (state_of(world, workspace), record.attend_at) == (G, None)
    assert record.access is not None
    assert record.access.instance_id == record.instance_id


@pytest.mark.parametrize("durations", [QUICK, Durations()], ids=["quick", "usual"])
def test_the_owner_may_log_in_before_the_machine_is_ready(durations: Durations) -> None:
    """It boots meanwhile, so that Google Cloud has time to heed the right."""
    world = World(durations=durations)
    workspace = world.create("alice", "one")
    world.run(until=lambda: world.workspace(workspace.id).status is Status.READY)
    assert logins(world, workspace) == [ALICE]


def test_a_machine_that_is_ready_before_the_first_look_is_seen_to_by_that_look() -> None:
    """The job that is on its way anyway does it, and no other one is sent."""
    world = World(durations=replace(QUICK, insert=timedelta(seconds=2), boot=timedelta(seconds=3)))
    workspace = world.create("alice", "one")
    world.run(until=lambda: world.workspace(workspace.id).status is Status.READY)
    assert (logins(world, workspace), state_of(world, workspace)) == ([], P)
    sent = len(world.operations.sent)

    world.run()

    assert (logins(world, workspace), state_of(world, workspace)) == ([ALICE], G)
    assert len(world.operations.sent) == sent


@pytest.mark.parametrize("failures", [0, 1])
def test_access_whose_job_was_lost_is_seen_to_by_reconcile(failures: int) -> None:
    """Whether nothing was tried yet when the machine reported ready, or it had failed."""
    quick = replace(QUICK, insert=timedelta(seconds=2), boot=timedelta(seconds=3))
    world = World(durations=quick if failures == 0 else QUICK)
    world.machines.login_errors += [away() for _ in range(failures)]
    workspace = world.create("alice", "one")
    world.run(until=lambda: world.workspace(workspace.id).status is Status.READY)
    world.operations.waiting.clear()
    assert state_of(world, workspace) is P

    world.run()

    assert (logins(world, workspace), state_of(world, workspace)) == ([ALICE], G)


def test_a_look_that_dies_before_it_lets_the_owner_in_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it has committed before leaves the workspace due."""
    world = World()
    world.machines.login_errors.append(away())
    workspace = world.create("alice", "one")
    world.run(until=lambda: world.workspace(workspace.id).status is Status.READY)
    world.operations.waiting.clear()
    granted = world.machines.grant_login

    def dies(*_: object) -> None:
        monkeypatch.setattr(world.machines, "grant_login", granted)
        world.operations.waiting.clear()
        raise ProcessDiedError

    monkeypatch.setattr(world.machines, "grant_login", dies)
    world.run(until=lambda: world.machines.grant_login == granted)
    world.operations.waiting.clear()
    world.run()

    assert (logins(world, workspace), state_of(world, workspace)) == ([ALICE], G)


def test_a_machine_that_nobody_gets_to_use_lets_nobody_in() -> None:
    """A CREATE that fails deletes it."""
    world = World()
    world.machines.script_boot(GuestMishap.FAILS_AT_BOOT)
    workspace = world.create("alice", "one")
    world.run()
    reads = world.machines.reads["grant_login"]
    sweep(world)
    assert world.workspace(workspace.id).status is Status.ERROR
    assert world.machines.reads["grant_login"] == reads


# ---- whose address it is ----


@pytest.mark.parametrize(
    ("address", "members", "state"),
    [
        ("p@a-project.iam.gserviceaccount.com", 1, G),
        (None, 0, R),
        ("älice@example.com", 0, R),
    ],
)
def test_an_owner_may_be_a_program_or_have_no_address(
    address: str | None, members: int, state: AccessState
) -> None:
    """Without an address nothing is asked of Compute, now or later."""
    world = World()
    workspace = world.create("alice", "one")
    world.store.put(replace(world.workspace(workspace.id), owner_email=address))
    world.run()

    assert world.workspace(workspace.id).status is Status.READY
    assert logins(world, workspace) == [f"serviceAccount:{address}"] * members
    assert state_of(world, workspace) is state
    sweep(world)
    assert world.machines.reads["grant_login"] == members


# ---- failures ----

FAILURES: dict[str, Callable[[], Exception]] = {
    "outage": away,
    "no right": lambda: refused(FaultKind.PERMISSION),
    "policy": lambda: refused(FaultKind.POLICY),
    "no such account": lambda: refused(FaultKind.INVALID),
    "not ready": lambda: refused(FaultKind.NOT_READY),
    "gone": lambda: refused(FaultKind.NOT_FOUND),
}


def _ready_at(world: World, workspace: Workspace) -> datetime:
    world.run(until=lambda: world.workspace(workspace.id).status is Status.READY)
    return world.clock()


@pytest.mark.parametrize("failure", FAILURES)
def test_a_grant_that_fails_neither_fails_nor_delays_the_operation(failure: str) -> None:
    """It is READY at the same moment, after as many tasks, however often the grant fails."""
    usual = World()
    expected = _ready_at(usual, usual.create("alice", "one"))
    world = World()
    world.machines.login_errors += [FAILURES[failure]() for _ in range(1_000)]

    workspace = world.create("alice", "one")

    assert _ready_at(world, workspace) == expected
    assert len(world.operations.delivered) == len(usual.operations.delivered)
    assert world.workspace(workspace.id).error is None
    assert state_of(world, workspace) in {P, R}


@pytest.mark.parametrize("failure", ["outage", "no right", "not ready"])
def test_pending_access_comes_by_itself(failure: str) -> None:
    """``reconcile`` has a worker look, which tries again. Nothing is told in the audit trail."""
    world = World()
    world.machines.login_errors += [FAILURES[failure]() for _ in range(3)]
    workspace = world.create("alice", "one")
    assert _ready_at(world, workspace)
    assert state_of(world, workspace) is P
    world.run()

    assert (logins(world, workspace), state_of(world, workspace)) == ([ALICE], G)
    assert world.workspace(workspace.id).attend_at is None
    assert "AccessRefused" not in [event.what for event in world.store.events]


@pytest.mark.parametrize("failure", ["policy", "no such account"])
def test_refused_access_is_tried_again_by_the_hourly_sweep(failure: str) -> None:
    """Nothing else asks Compute again. The audit trail says it once."""
    world = World()
    world.machines.login_errors += [FAILURES[failure]() for _ in range(3)]
    workspace = world.create("alice", "one")
    world.run()
    assert (state_of(world, workspace), world.machines.reads["grant_login"]) == (R, 1)
    assert world.at_rest

    for tried in (2, 3, 4):
        world.clock.advance(timedelta(days=1))
        sweep(world)
        assert world.machines.reads["grant_login"] == tried

    assert (logins(world, workspace), state_of(world, workspace)) == ([ALICE], G)
    assert [event.what for event in world.store.events].count("AccessRefused") == 1


def test_a_right_that_does_not_come_is_refused_and_given_when_it_comes() -> None:
    """The Hub waits for rights as long as for its other calls, and then leaves it to the sweep."""
    world = World()
    world.machines.login_errors += [refused(FaultKind.PERMISSION) for _ in range(100)]
    workspace = world.create("alice", "one")
    began = _ready_at(world, workspace)
    world.run()
    assert state_of(world, workspace) is R
    assert timedelta(minutes=6) < world.clock() - began < timedelta(minutes=25)

    world.machines.calm()
    world.clock.advance(timedelta(hours=2))
    sweep(world)

    assert state_of(world, workspace) is G


def test_a_workspace_that_is_refused_for_good_costs_a_try_a_day() -> None:
    """Otherwise thousands of them would fill the sweep."""
    world = World()
    workspace = world.ready()
    machine = world.machine(workspace)
    assert machine is not None
    world.store.put(replace(world.workspace(workspace.id), access=None))
    world.machines.login_errors += [refused(FaultKind.POLICY) for _ in range(1_000)]
    before = world.machines.reads["grant_login"]
    for _ in range(24 * 10):
        world.clock.advance(timedelta(hours=1))
        reconcile_fleet(world.records, world.machines, world.policy, pause=world.pauses.append)
    assert 10 <= world.machines.reads["grant_login"] - before <= 17


# ---- old versions, races ----


@pytest.mark.parametrize("notices", ["the hourly sweep", "whoever asks for the status"])
def test_a_machine_of_an_earlier_version_lets_its_owner_in(notices: str) -> None:
    """That version has never tried, or has dropped the field."""
    world = World()
    workspace = world.ready()
    machine = world.machine(workspace)
    assert machine is not None
    machine.logins.clear()
    world.store.put(replace(world.workspace(workspace.id), access=None))
    world.clock.advance(timedelta(minutes=1))

    if notices == "the hourly sweep":
        sweep(world)
    else:
        world.look(workspace)
        world.run()

    assert (logins(world, workspace), state_of(world, workspace)) == ([ALICE], G)


def test_what_is_granted_costs_the_sweep_and_the_status_nothing() -> None:
    """Neither asks for the policy, and no job is sent."""
    world = World()
    workspace = world.ready()
    tried, sent = world.machines.reads["grant_login"], len(world.operations.sent)
    sweep(world)
    world.look(workspace)
    assert (world.machines.reads["grant_login"], len(world.operations.sent)) == (tried, sent)


def test_a_worker_that_dies_at_any_call_leaves_nobody_out() -> None:
    """Its job comes again, or ``reconcile`` sees to it; the end is the same."""
    nth, calls = 0, 1
    while nth < calls:
        for moment in Moment:
            world, dying = World(), Interruptions()
            world.store_port = dying.around("store", world.store)
            world.machines_port = dying.around("machines", world.machines)
            world.operations_port = dying.around("operations", world.operations)
            workspace = world.create("alice", "one")
            dying.interrupt(nth, moment)
            world.run()
            calls = len(dying.calls)
            record = world.workspace(workspace.id)
            assert (record.status, record.attend_at) == (Status.READY, None), dying.calls[nth:]
            assert (logins(world, workspace), state_of(world, workspace)) == ([ALICE], G)
        nth += 1
    assert nth > 20


def test_two_workers_at_once_let_the_owner_in_once() -> None:
    """The second one finds the right, and records the same."""
    world = World()
    workspace = world.ready()
    record = replace(world.workspace(workspace.id), access=None)
    world.store.put(record)
    for _ in range(2):
        assert give_access(world.records, world.machines, world.policy, record) is not None
    assert (logins(world, workspace), state_of(world, workspace)) == ([ALICE], G)


def test_a_workspace_that_is_deleted_meanwhile_is_no_error() -> None:
    """The machine is deleted, and its policy with it."""
    world = World()
    workspace = world.ready()
    record = replace(world.workspace(workspace.id), access=None)
    world.delete("alice", workspace.id)
    world.run()
    assert give_access(world.records, world.machines, world.policy, record) is None


def test_what_was_granted_on_an_earlier_machine_is_not_taken_for_the_present_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The workspace gets another machine while Compute is asked."""
    world = World()
    workspace = world.ready()
    record = replace(world.workspace(workspace.id), access=None)
    world.store.put(record)
    granted = world.machines.grant_login

    def remade(*asked: object) -> None:
        granted(*asked)  # type: ignore[arg-type]
        world.store.put(replace(record, instance_id="another"))

    monkeypatch.setattr(world.machines, "grant_login", remade)
    assert give_access(world.records, world.machines, world.policy, record) is None
    assert state_of(world, workspace) is P


def test_a_store_that_does_not_answer_leaves_it_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delivery has done its work, and is not repeated for this."""
    world = World()
    workspace = world.ready()
    record = replace(world.workspace(workspace.id), access=None)
    world.store.put(record)

    def unanswered(*_: object) -> None:
        raise UnavailableError("The database does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "get", unanswered)
        assert give_access(world.records, world.machines, world.policy, record) is None
    sweep(world)
    assert state_of(world, workspace) is G
