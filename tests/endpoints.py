"""The catalogue's functions by the callers that they check, and a request's path to each."""

from collections.abc import Mapping

from localcloud.catalogue import EVERYONE, Function, read_catalogue

CATALOGUE = read_catalogue()
NO_SNAPSHOT = "8f0a4a51-9f6e-4f43-a0b7-54b1d1a7f3c2"
# Who may call a function. It checks people and machines itself; the platform checks its callers.
PEOPLE, MACHINES, PLATFORM, ANYBODY = "people", "machines", "the platform", "anybody"


def checks(function: Function) -> str:
    """Return whom a function checks, by its invoker and its folder.

    A public function that anybody may call runs as the group without rights.
    """
    if function.invoker != EVERYONE:
        return PLATFORM
    if function.runs_as == "none":
        return ANYBODY
    return PEOPLE if function.is_public else MACHINES


CHECKED_FOR: Mapping[str, str] = {each.name: checks(each) for each in CATALOGUE.functions}


def paths_for(callers: str, workspace_id: str) -> dict[str, str]:
    """Return the path of the first route of each function that checks these callers.

    Where a path also names a snapshot, it is one that does not exist.
    """
    return {
        function.name: function.routes[0].path.format(
            workspace_id=workspace_id, snapshot_id=NO_SNAPSHOT
        )
        for function in CATALOGUE.functions
        if checks(function) == callers
    }
