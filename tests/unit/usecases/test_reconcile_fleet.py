"""The hourly reconciler, which compares records with machines and disks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.errors import ConflictError, MachineFaultError, UnavailableError
from shared.domain.instance import (
    DeleteInstance,
    FaultKind,
    InstanceState,
    LabelInstance,
    Place,
    StopInstance,
)
from shared.domain.ownership import labels_of
from shared.domain.workspace import OwnedWorkspace, Owner, Status, Workspace
from shared.usecases import reconcile_fleet as usecase
from shared.usecases.sweeping import PAUSE_SECONDS, SweepReport
from tests.fakes.machines import INSTALLATION, Mishap, fault
from tests.fakes.world import World, place_of, requested_as


def reconcile_once(world: World, budget: timedelta = usecase.TIME_BUDGET) -> SweepReport:
    """Run the reconciler once."""
    with requested_as("run-1"):
        return usecase.reconcile_fleet(
            world.records, world.machines_port, world.policy, budget, world.pauses.append
        )


def lose_record(world: World, workspace: Workspace) -> None:
    """Delete a workspace's record, which the Hub itself never does."""
    stored = world.store.get(workspace.id)
    assert stored is not None
    world.store.commit(workspaces=[(stored, None)])


@pytest.fixture(params=[usecase.BATCH, 1])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """A Hub with one workspace that agrees with its machine. Records are read in batches."""
    monkeypatch.setattr(usecase, "BATCH", request.param)
    world = World()
    world.ready("alice", "fine")
    return world


def test_a_fleet_that_agrees_is_left_alone(world: World) -> None:
    """The only commits record that the run is complete."""
    calls, before = len(world.machines.calls), world.store.workspaces
    commits = world.store.counts.commits
    report = reconcile_once(world)
    assert (report.looked_at, report.done, report.failed, report.unfinished) == (1, {}, {}, False)
    assert len(world.machines.calls) == calls
    assert world.store.workspaces == before
    assert world.store.counts.commits == commits + 2
    assert world.pauses == []


def test_machines_that_were_changed_by_hand_are_adopted(world: World) -> None:
    """Stopped, suspended and deleted machines are adopted without a status request."""
    stopped, suspended, deleted = (
        world.ready("alice", name) for name in ("stopped", "suspended", "deleted")
    )
    world.machines.stop_by_hand(place_of(stopped))
    world.machines.suspend_by_hand(place_of(suspended))
    world.machines.delete_by_hand(place_of(deleted))
    world.clock.advance(timedelta(minutes=5))

    report = reconcile_once(world)

    assert report.done == {
        "suspended": sorted([stopped.id, suspended.id]),
        "error": [deleted.id],
    }
    assert world.pauses == [PAUSE_SECONDS] * 3
    errors = {
        each.name: each.error.code if each.error else None
        for each in map(world.workspace, (stopped.id, suspended.id, deleted.id))
    }
    assert errors == {"stopped": "MACHINE_STOPPED", "suspended": None, "deleted": "MACHINE_GONE"}


def test_a_machine_that_compute_stopped_after_sixty_days_suspended_must_boot(
    world: World,
) -> None:
    """Its memory is lost, so the record must not promise a resume."""
    workspace = world.ready("alice", "old")
    world.policy = replace(world.policy, retention=None)
    world.stop("alice", workspace.id)
    world.run()
    world.clock.advance(timedelta(days=61))

    reconcile_once(world)

    assert world.workspace(workspace.id).status is Status.SUSPENDED
    assert not world.workspace(workspace.id).memory_is_ready


def test_an_orphan_is_stopped_reported_and_deleted_after_the_grace_time(world: World) -> None:
    """Its disk follows, and the trail has each action with its reason."""
    workspace = world.ready("alice", "lost")
    place = place_of(workspace)
    lose_record(world, workspace)
    # The machine is so new that its insert may not be recorded yet.
    assert reconcile_once(world).done == {"owner_repaired": ["alice"]}

    world.clock.advance(timedelta(hours=2))
    assert reconcile_once(world).done == {
        "OrphanStopped": [workspace.instance_name],
        "AccessEnded": [workspace.instance_name],
    }
    world.clock.advance(timedelta(minutes=5))
    assert world.machines.instances[place].state is InstanceState.TERMINATED
    assert reconcile_once(world).done == {"OrphanFound": [workspace.instance_name]}

    world.clock.advance(world.policy.orphan_grace)
    assert reconcile_once(world).done == {"OrphanDeleted": [workspace.instance_name]}
    world.clock.advance(timedelta(minutes=5))
    assert reconcile_once(world).done == {"OrphanDiskFound": [workspace.disk_name]}
    world.clock.advance(world.policy.orphan_grace)
    assert reconcile_once(world).done == {"OrphanDiskDeleted": [workspace.disk_name]}
    world.clock.advance(timedelta(minutes=5))

    assert [each.place for each in world.machines.instances.values()] == [
        place_of(w) for w in world.store.workspaces.values()
    ]
    assert len(world.machines.disks) == 1
    noted = [
        (event.what, event.who, event.request_id)
        for event in world.store.events
        if event.who == "reconcile"
    ]
    assert noted == [
        (what, "reconcile", "run-1")
        for what in ("OrphanStopped", "AccessEnded", "OrphanDeleted", "OrphanDiskDeleted")
    ]


def test_nobody_may_log_in_to_an_orphan_any_more(world: World) -> None:
    """Nor may they if it is off already, or if somebody starts it again. Others' machines stay."""
    workspace = world.ready("alice", "lost")
    place = place_of(workspace)
    lose_record(world, workspace)
    world.machines.stop_by_hand(place)
    world.clock.advance(timedelta(hours=2))
    assert len(world.machines.instances[place].logins) == 1

    first, second = reconcile_once(world), reconcile_once(world)

    assert first.done["AccessEnded"] == [workspace.instance_name]
    assert "AccessEnded" not in second.done
    for each in world.machines.instances.values():
        assert bool(each.logins) is (each.place != place)
    [event] = [event for event in world.store.events if event.what == "AccessEnded"]
    assert (event.workspace_id, event.result) == (workspace.id, "1 could log in")


@pytest.mark.parametrize(
    "error",
    [MachineFaultError(fault(FaultKind.PERMISSION)), UnavailableError("No answer.")],
    ids=["refused", "away"],
)
def test_access_to_an_orphan_that_cannot_be_ended_is_ended_by_the_next_run(
    world: World, error: Exception
) -> None:
    """The machine is stopped all the same."""
    workspace = world.ready("alice", "lost")
    lose_record(world, workspace)
    world.clock.advance(timedelta(hours=2))
    world.machines.login_errors.append(error)

    first, second = reconcile_once(world), reconcile_once(world)

    assert first.done["OrphanStopped"] == [workspace.instance_name]
    assert list(first.failed) == [workspace.instance_name]
    assert second.done["AccessEnded"] == [workspace.instance_name]


def test_a_machine_that_the_hub_did_not_make_keeps_its_rights(world: World) -> None:
    """Its name is not one of the Hub's, though it has its label."""
    workspace = world.ready("alice", "one")
    machine = world.machines.instances.get(place_of(workspace))
    assert machine is not None
    theirs = Place(workspace.zone, "somebodys-machine")
    copy = replace(machine, place=theirs, logins=["user:carol@example.com"])
    copy.labels = {"hub": INSTALLATION}
    world.machines._instances[theirs] = copy  # noqa: SLF001 -- made by hand, not by an insert
    world.clock.advance(timedelta(hours=2))

    assert reconcile_once(world).done["OrphanFound"] == ["somebodys-machine"]
    assert world.machines.instances[theirs].logins == ["user:carol@example.com"]


def test_too_many_orphans_are_not_touched(world: World) -> None:
    """The run reports a failure, since the records are probably wrong, and makes no call."""
    for number in range(6):
        lose_record(world, world.ready("bob" if number < 3 else "carol", f"lost-{number}"))
    world.clock.advance(timedelta(hours=2))
    calls = len(world.machines.calls)

    report = reconcile_once(world)

    assert "too many" in report.failed["orphans"]
    assert len(world.machines.calls) == calls


def test_the_only_machine_of_a_workspace_is_adopted_in_another_zone(world: World) -> None:
    """An abandoned insert may take effect late; the machine is the workspace's, not an orphan."""
    workspace = world.ready("alice", "moved")
    world.store.put(
        replace(
            workspace,
            zone="us-west1-c",
            home_disk=None,
            instance_id=None,
            status=Status.ERROR,
            machine_running=False,
        )
    )
    world.clock.advance(timedelta(hours=2))

    reconcile_once(world)

    after = world.workspace(workspace.id)
    assert (after.zone, after.instance_id, after.machine_running) == (workspace.zone, None, True)
    assert [event.what for event in world.store.events if event.what.startswith("Orphan")] == []


def test_a_machine_that_exists_twice_is_only_reported(world: World) -> None:
    """Only a person can tell which one is meant, so both stay for any time."""
    workspace = world.ready("alice", "twice")
    world.machines.copy_by_hand(place_of(workspace), "us-west1-b")
    world.store.put(replace(workspace, last_connected_at=world.clock() + timedelta(days=30)))

    for _ in range(3):
        world.clock.advance(world.policy.orphan_grace + timedelta(hours=2))
        assert workspace.instance_name in reconcile_once(world).done["ResourceElsewhere"]

    there = {
        each.place.zone: each.state
        for each in world.machines.instances.values()
        if each.place.name == workspace.instance_name
    }
    assert there == {workspace.zone: InstanceState.RUNNING, "us-west1-b": InstanceState.RUNNING}


def test_lost_labels_are_restored_and_make_no_orphan(world: World) -> None:
    """Any labels of machine or home disk may be lost; an event records that they are restored."""
    for number, lost in enumerate(
        (("workspace",), ("hub",), ("owner",), ("managed-by",), ("hub", "workspace"))
    ):
        workspace = world.ready(f"owner-{number}", "lost")
        home = Place(workspace.zone, workspace.disk_name)
        ours = {
            "hub": INSTALLATION,
            "theirs": "stays",
            **labels_of(workspace.id, workspace.owner_id),
        }
        left = {name: value for name, value in ours.items() if name not in lost}
        world.machines.set_labels_by_hand(place_of(workspace), left)
        world.machines.set_disk_labels_by_hand(home, left)
        world.clock.advance(world.policy.orphan_grace + timedelta(hours=2))

        assert set(reconcile_once(world).done["LabelsRestored"]) == {
            workspace.instance_name,
            workspace.disk_name,
        }

        world.clock.advance(timedelta(minutes=5))
        assert world.machines.disk_labels(home) == ours
        assert world.machines.instances[place_of(workspace)].labels == ours
        assert "LabelsRestored" not in reconcile_once(world).done
        assert world.workspace(workspace.id).status is Status.READY


def test_labels_that_are_lost_again_are_restored_by_the_next_run(
    world: World,
) -> None:
    """Each run has request ids of its own: Compute answers a known id with the earlier outcome."""
    workspace = world.ready("alice", "twice")
    world.machines.script(LabelInstance, Mishap.FAILS_LATER)
    for _ in range(2):
        world.machines.set_labels_by_hand(place_of(workspace), {"hub": INSTALLATION})
        for _ in range(2):
            reconcile_once(world)
            world.clock.advance(timedelta(seconds=20))
        assert world.machines.instances[place_of(workspace)].labels["workspace"] == workspace.id


def test_a_lost_home_disk_is_reported_by_each_run(world: World) -> None:
    """Each run logs an error, which alerts somebody before the disk is needed."""
    workspace = world.ready("alice", "homeless")
    world.stop("alice", workspace.id)
    world.run()
    world.machines.detach_disk_by_hand(Place(workspace.zone, workspace.disk_name))
    world.machines.delete_disk_by_hand(Place(workspace.zone, workspace.disk_name))

    assert reconcile_once(world).done["HomeDiskGone"] == [workspace.id]


def test_a_workspace_with_a_running_operation_is_left_alone(world: World) -> None:
    """This holds for any state of the machine."""
    workspace = world.create("alice", "new")
    world.clock.advance(timedelta(hours=2))
    calls = len(world.machines.calls)
    report = reconcile_once(world)
    assert report.done == {}
    assert len(world.machines.calls) == calls
    assert world.workspace(workspace.id).operation is not None


def test_an_owners_record_is_repaired(world: World) -> None:
    """Workspaces that do not exist are removed, missing ones are added, keys and rate stay."""
    workspace = world.ready("bob", "real")
    good = world.store.owners["bob"]
    wrong = replace(good, workspaces={"gone": OwnedWorkspace("ghost", running=True)})
    world.store.put_owner(wrong)
    world.store.put_owner(Owner("carol", workspaces={"gone-too": OwnedWorkspace("ghost")}))

    report = reconcile_once(world)

    assert report.done == {"owner_repaired": ["bob", "carol"]}
    assert world.store.owners["bob"] == good
    assert set(world.store.owners["bob"].workspaces) == {workspace.id}
    assert world.store.owners["carol"].workspaces == {}


def test_names_that_a_delete_has_freed_stay_free(world: World) -> None:
    """Neither a DELETE under way nor one that failed gets its name back, and nothing is written."""
    failing, leaving = world.ready("bob", "api"), world.ready("bob", "web")
    world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.PERMISSION, times=1000)
    world.delete("bob", failing.id)
    world.run()
    world.create("bob", "api")
    world.delete("bob", leaving.id)
    world.run(lambda: world.workspace(leaving.id).operation is not None)
    before = world.store.owners["bob"]

    report = reconcile_once(world)

    assert "owner_repaired" not in report.done
    assert world.store.owners["bob"] == before
    assert sorted(held.name for held in before.workspaces.values()) == ["", "", "api"]


def test_a_freed_name_that_came_back_into_the_record_is_freed_again(world: World) -> None:
    """Version 0.1 writes it back, as long as it serves too."""
    leaving = world.ready("bob", "api")
    world.machines.script(DeleteInstance, Mishap.REFUSED, FaultKind.PERMISSION, times=1000)
    world.delete("bob", leaving.id)
    good = world.store.owners["bob"]
    held = {leaving.id: replace(good.workspaces[leaving.id], name="api")}
    world.store.put_owner(replace(good, workspaces=held))

    report = reconcile_once(world)

    assert report.done == {"owner_repaired": ["bob"]}
    assert world.store.owners["bob"] == good


def test_an_owner_who_is_changing_is_left_to_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit in between wins."""
    world.store.put_owner(Owner("bob", workspaces={"gone": OwnedWorkspace("ghost")}))
    list_owned = world.store.list_owned

    def list_and_be_overtaken(owner_id: str, *rest: object) -> object:
        if owner_id == "bob":
            world.store.put_owner(Owner("bob", workspaces={"new": OwnedWorkspace("new")}))
        return list_owned(owner_id, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "list_owned", list_and_be_overtaken)
    report = reconcile_once(world)
    assert (report.done, report.failed) == ({}, {})
    assert set(world.store.owners["bob"].workspaces) == {"new"}


def test_a_failed_list_of_compute_changes_nothing(world: World) -> None:
    """A partial list would make orphans, or lost machines, of the rest."""
    world.machines.unanswered_reads = 1
    before = world.store.workspaces
    with pytest.raises(UnavailableError):
        reconcile_once(world)
    assert world.store.workspaces == before


def test_owners_are_repaired_while_compute_does_not_answer(world: World) -> None:
    """That needs no list, so an outage of Compute does not hold it up."""
    world.store.put_owner(Owner("bob", workspaces={"gone": OwnedWorkspace("ghost")}))
    world.machines.unanswered_reads = 1
    with pytest.raises(UnavailableError):
        reconcile_once(world)
    assert world.store.owners["bob"].workspaces == {}


@pytest.mark.parametrize("label", ["hub", "workspace"])
def test_what_was_made_after_the_lists_has_lost_no_label(
    world: World, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    """A run takes minutes, so workspaces that became ready meanwhile are not in its lists.

    What is older and not in the lists has lost its label.
    """
    lists = world.machines.list_instances, world.machines.list_disks
    made: list[Workspace] = []

    def list_and_be_overtaken() -> object:
        found = list(lists[1]())
        made.append(world.ready("bob", "new"))
        return iter(found)

    monkeypatch.setattr(world.machines, "list_disks", list_and_be_overtaken)
    report = reconcile_once(world)
    assert (report.done, report.failed) == ({}, {})

    monkeypatch.undo()
    home = Place(made[0].zone, made[0].disk_name)
    world.machines.set_labels_by_hand(place_of(made[0]), {label: INSTALLATION, "theirs": "x"})
    world.machines.set_disk_labels_by_hand(home, {"theirs": "x"})
    world.clock.advance(timedelta(minutes=1))
    assert set(reconcile_once(world).done["LabelsRestored"]) == {
        made[0].instance_name,
        made[0].disk_name,
    }


def test_a_machine_that_changed_after_the_list_has_not_drifted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that seems to have drifted is read again at the commit."""
    [workspace] = world.store.workspaces.values()
    lists = world.machines.list_instances()
    monkeypatch.setattr(
        world.machines,
        "list_instances",
        lambda: iter([replace(each, state=InstanceState.TERMINATED) for each in lists]),
    )
    assert reconcile_once(world).done == {}
    assert world.workspace(workspace.id).status is Status.READY


@pytest.mark.parametrize("command", [StopInstance, DeleteInstance])
def test_an_orphan_that_cannot_be_deleted_does_not_stop_the_run(
    world: World, command: type[StopInstance | DeleteInstance]
) -> None:
    """It is reported as failed, and tried again by the next run."""
    for name in ("one", "two"):
        workspace = world.ready("bob", name)
        lose_record(world, workspace)
        if command is DeleteInstance:
            world.machines.stop_by_hand(place_of(workspace))
    world.clock.advance(timedelta(days=8))
    world.machines.script(command, Mishap.REFUSED, FaultKind.PERMISSION)
    first = reconcile_once(world)
    assert (
        len(first.failed),
        [
            len(names)
            for what, names in first.done.items()
            if what not in {"owner_repaired", "AccessEnded"}
        ],
    ) == (
        1,
        [1],
    )
    second = reconcile_once(world)
    assert second.failed == {}


def after_the_lists(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]
) -> None:
    """Have something change when Compute has listed everything, before any record is read."""
    listed = world.store.list_workspaces_by_id
    changes = [change]

    def change_first(limit: int, token: str | None) -> object:
        if changes:
            changes.pop()()
        return listed(limit, token)

    monkeypatch.setattr(world.store, "list_workspaces_by_id", change_first)


def an_old_orphan(world: World, name: str) -> Workspace:
    """Make a machine that is off and has no record."""
    workspace = world.ready("bob", name)
    lose_record(world, workspace)
    world.machines.stop_by_hand(place_of(workspace))
    return workspace


def test_an_orphan_that_was_started_after_the_lists_is_not_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes may pass between the lists and the deletion. Somebody may want it after all."""
    orphan = an_old_orphan(world, "wanted")
    world.clock.advance(2 * world.policy.orphan_grace)
    after_the_lists(world, monkeypatch, lambda: world.machines.start_by_hand(place_of(orphan)))
    report = reconcile_once(world)
    assert not {"OrphanDeleted", "OrphanStopped"} & report.done.keys()
    assert report.failed == {}
    assert place_of(orphan) in world.machines.instances


def test_an_orphan_that_cannot_be_read_again_is_not_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported as failed, and the next run deletes it."""
    orphan = an_old_orphan(world, "unread")
    world.clock.advance(2 * world.policy.orphan_grace)

    def unanswered(_place: Place) -> None:
        raise UnavailableError("Compute does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(world.machines, "get", unanswered)
        report = reconcile_once(world)
    assert orphan.instance_name in report.failed
    assert place_of(orphan) in world.machines.instances
    assert reconcile_once(world).done["OrphanDeleted"] == [orphan.instance_name]


@pytest.mark.parametrize("number", [1, 12])
def test_workspaces_that_are_deleted_after_the_lists_leave_no_orphans(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """However many they are: the lists had their machines, and now neither they nor records exist.

    So a retention sweep that deletes many workspaces at that time does not look like lost records.
    """
    world.clock.advance(timedelta(hours=2))
    deleted = [world.ready(f"owner-{each % 3}", f"old-{each}") for each in range(number)]
    world.clock.advance(timedelta(hours=2))

    def delete_all() -> None:
        for workspace in deleted:
            lose_record(world, workspace)
            world.machines.delete_by_hand(place_of(workspace))
        world.clock.advance(timedelta(minutes=2))
        for workspace in deleted:
            world.machines.delete_disk_by_hand(Place(workspace.zone, workspace.disk_name))

    after_the_lists(world, monkeypatch, delete_all)
    calls = len(world.machines.calls)
    report = reconcile_once(world)
    assert report.failed == {}
    assert not [what for what in report.done if what.startswith("Orphan")]
    assert len(world.machines.calls) == calls


def test_an_unreadable_record_keeps_its_machine_and_does_not_stop_the_run(world: World) -> None:
    """A record of a newer schema makes no orphan, and other workspaces are still reconciled."""
    unreadable, stopped = world.ready("bob", "unreadable"), world.ready("carol", "stopped")
    world.machines.stop_by_hand(place_of(stopped))
    world.clock.advance(timedelta(days=8))
    world.store.unreadable.add(unreadable.id)
    calls = len(world.machines.calls)

    report = reconcile_once(world)

    assert report.done == {"suspended": [stopped.id]}
    assert set(report.failed) == {unreadable.id}
    assert len(world.machines.calls) == calls


def test_an_orphan_without_an_answer_of_compute_does_not_stop_the_run(world: World) -> None:
    """It is reported as failed, and the rest of the run continues."""
    lose_record(world, world.ready("bob", "lost"))
    stopped = world.ready("carol", "stopped")
    world.machines.stop_by_hand(place_of(stopped))
    world.clock.advance(timedelta(days=8))
    world.machines.script(StopInstance, Mishap.UNANSWERED)

    report = reconcile_once(world)

    assert len(report.failed) == 1
    assert report.done["suspended"] == [stopped.id]


def test_a_conflict_is_not_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change was faster, and the next run looks again."""
    world.store.put_owner(Owner("bob", workspaces={"gone": OwnedWorkspace("ghost")}))

    def conflict(**_: object) -> None:
        raise ConflictError("faster")

    monkeypatch.setattr(world.store, "commit", conflict)
    assert reconcile_once(world).failed == {}


def test_a_home_disk_that_moved_with_its_machine_is_not_lost(world: World) -> None:
    """There is no alert: the move is adopted first, and the disk is found by its name."""
    workspace = world.ready("alice", "moved")
    world.machines.move_by_hand(place_of(workspace), "us-west1-b")
    world.clock.advance(timedelta(hours=2))

    done = reconcile_once(world).done

    assert "HomeDiskGone" not in done
    after = world.workspace(workspace.id)
    assert after.home_disk is not None
    assert (after.zone, after.home_disk.zone) == ("us-west1-b", "us-west1-b")


def test_a_machine_that_only_uses_a_workspaces_disk_is_only_reported(world: World) -> None:
    """Somebody may have attached a workspace's home disk to the machine of a lost workspace."""
    gone = world.ready("bob", "gone")
    [kept] = [each for each in world.store.workspaces.values() if each.name == "fine"]
    home = Place(kept.zone, kept.disk_name)
    world.machines.detach_disk_by_hand(home)
    world.machines.attach_disk_by_hand(home, place_of(gone))
    lose_record(world, gone)

    for _ in range(2):
        world.clock.advance(world.policy.orphan_grace + timedelta(hours=2))
        done = reconcile_once(world).done
        assert gone.instance_name in done["ResourceTied"]

    assert world.machines.instances[place_of(gone)].state is InstanceState.RUNNING
