"""The calls to Compute Engine that change something."""

import uuid

from shared.domain.errors import MachineFaultError
from shared.domain.instance import Command, DeleteDisk, Fault, StartedCall
from shared.ports import Machines


def perform_in_step(machines: Machines, command: Command, step: str) -> StartedCall | Fault:
    """Make the call, and return what Compute answers: that it has begun, or why not.

    ``step`` names what is done, and which step of it. The same command in the same step always has
    the same request id, so it is made once, however often the step is repeated. A step that deletes
    a disk may find that one gone when it is repeated, and delete another: that is another call.

    Raises:
        UnavailableError: Compute did not answer.
    """
    identity = f"workspace-hub/{step}/{type(command).__name__}"
    if isinstance(command, DeleteDisk):
        identity += f"/{command.place.zone}/{command.place.name}"
    try:
        return machines.perform(command, str(uuid.uuid5(uuid.NAMESPACE_URL, identity)))
    except MachineFaultError as error:
        return error.fault
