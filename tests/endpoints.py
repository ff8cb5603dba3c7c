"""The catalogue's functions by the callers that they check, and a request's path to each."""

from collections.abc import Mapping

from localcloud.catalogue import EVERYONE, Function, read_catalogue

CATALOGUE = read_catalogue()
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
    """Return the path of the first route of each function that checks these callers."""
    return {
        function.name: function.routes[0].path.format(workspace_id=workspace_id)
        for function in CATALOGUE.functions
        if checks(function) == callers
    }
