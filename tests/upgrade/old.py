"""Today's Hub on fakes, with the record, machine, disks and job that an earlier version left."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared.adapters.firestore_records import owner_record, workspace_record
from shared.domain.instance import (
    DeleteDisk,
    DeleteInstance,
    InsertInstance,
    InstanceState,
    Place,
    ResumeInstance,
    StartInstance,
    StopInstance,
    SuspendInstance,
)
from shared.domain.job_messages import read_job
from shared.domain.workspace import Phase, Workspace
from tests.fakes.machines import INSTALLATION, PROJECT, FakeInstance, FakeMachines
from tests.fakes.world import World
from tests.upgrade.versions import Document, Version

_BOOTING = {Phase.INSERTING, Phase.AWAIT_READY}


class OldMachines(FakeMachines):
    """Compute with machines and disks that an earlier version made."""

    def take(self, situation: Document, workspace: Workspace) -> Workspace:
        """Create a situation's machines and disks, and continue what was under way.

        Returns the record, with today's name for Compute's operation in it.
        """
        self._catch_up()
        for resource in situation["instances"]:
            workspace = self._take_machine(resource, workspace)
        for resource in situation["disks"]:
            workspace = self._take_disk(resource, workspace)
        self.calls.clear()
        return workspace

    def _take_machine(self, resource: Document, workspace: Workspace) -> Workspace:
        metadata = {item["key"]: item["value"] for item in resource["metadata"]["items"]}
        place = Place(_last(resource["zone"]), resource["name"])
        made = InsertInstance(
            place=place,
            workspace_id=metadata["hub-workspace-id"],
            workspace_name=metadata["hub-workspace-name"],
            owner_id=workspace.owner_id,
            machine_type=_last(resource["machineType"]),
            image_tag=metadata["hub-image"].rpartition(":")[2],
            generation=int(metadata["hub-generation"]),
            home_disk=workspace.disk_name,
            attach_home=True,
            repo=metadata["hub-repo"],
            branch=metadata["hub-branch"],
        )
        every = timedelta(seconds=int(metadata["hub-heartbeat-seconds"]))
        labels = {**resource["labels"], "hub": INSTALLATION}
        machine = FakeInstance(resource["id"], place, made, made.generation, labels, every)
        machine.created_at = datetime.fromisoformat(resource["creationTimestamp"])
        machine.reported = True
        self._instances[place] = machine
        for attached in resource["disks"]:
            at = Place(place.zone, _last(attached["source"]))
            self.make_disk_by_hand(at, labels)
            self._disks[at].boot, self._disks[at].user = attached.get("boot", False), machine
        return self._continue(resource["status"], machine, workspace)

    def _continue(self, status: str, machine: FakeInstance, workspace: Workspace) -> Workspace:
        operation, place = workspace.operation, machine.place
        phase = operation.phase if operation else None
        if phase is Phase.AWAIT_METADATA:
            machine.generation = workspace.generation  # the running call writes it
        before, call = {
            "PROVISIONING": (InstanceState.TERMINATED, StartInstance(place)),
            "STAGING": (InstanceState.TERMINATED, StartInstance(place)),
            "SUSPENDING": (InstanceState.RUNNING, SuspendInstance(place)),
            "STOPPING": (InstanceState.RUNNING, StopInstance(place)),
        }.get(status, (InstanceState(status), None))
        if phase is Phase.AWAIT_RUNNING:
            before, call = InstanceState.SUSPENDED, ResumeInstance(place)
        elif phase is Phase.AWAIT_ABSENT:
            call = DeleteInstance(place)
        machine.state = before
        if before is InstanceState.RUNNING and phase in _BOOTING:
            machine.reported = False
            self._boot(machine)
        return self._start_call(call, workspace)

    def _take_disk(self, resource: Document, workspace: Workspace) -> Workspace:
        place = Place(_last(resource["zone"]), resource["name"])
        if place not in self._disks:
            self.make_disk_by_hand(place, {**resource["labels"], "hub": INSTALLATION})
        return self._start_call(
            DeleteDisk(place) if resource["status"] == "DELETING" else None, workspace
        )

    def _start_call(self, call: Any, workspace: Workspace) -> Workspace:
        """Make the call that the earlier version's worker made, and make the record wait for it."""
        operation = workspace.operation
        if call is None:
            return workspace
        started = self.perform(call, f"of an earlier version: {call}")
        if operation is None or operation.gce_operation is None:
            return workspace
        return replace(workspace, operation=replace(operation, gce_operation=started.gce_operation))

    @property
    def all_disks(self) -> set[str]:
        """The names of all disks that exist, including boot disks."""
        self._catch_up()
        return {place.name for place in self._disks}


class OldWorld(World):
    """Today's Hub in the place of an earlier version's."""

    old_machines: OldMachines

    def __init__(self, version: Version, name: str, **changes: Any) -> None:
        """Start from a captured situation, at its time, with ``changes`` in the document."""
        super().__init__()
        situation = version.situations[name]
        document = {**situation["workspace"], **changes}
        self.clock.advance_to(document["updated_at"] + timedelta(seconds=1))
        self.old_machines = OldMachines(self.clock)
        self.machines = self.machines_port = self.old_machines
        record = replace(workspace_record(document), project_id=PROJECT)
        self.store.put(self.old_machines.take(situation, record))
        self.store.put_owner(owner_record(situation["owner"]))
        self.id, self.owner = record.id, record.owner_id
        if situation["job"] is not None:
            queue = (
                self.provisioning
                if situation["job"]["queue"] == "workspace-provision"
                else self.operations
            )
            queue.send(read_job(json.dumps(situation["job"]["body"]).encode()))

    @property
    def record(self) -> Workspace:
        """The current record of the workspace."""
        return self.workspace(self.id)

    @property
    def current_machine(self) -> FakeInstance:
        """The workspace's machine, which must exist."""
        machine = self.machine(self.record)
        assert machine is not None
        return machine


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]
