"""Which workspace a person means by what they write."""

from __future__ import annotations

from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import ScriptedHub, workspace

DELETE_FAILED = {
    "code": "DISK_IN_USE",
    "message": "Another machine uses the disk.",
    "retryable": True,
    "at": "2026-11-23T17:47:12.744823Z",
    "operation_kind": "DELETE",
}


def test_a_name_that_has_gone_deletes_nothing_whose_id_begins_so(
    at_hub: Cli, hub: ScriptedHub
) -> None:
    """A script that runs ``rm -y db`` twice; eight characters of an id are no accident."""
    other = workspace("precious", id="db3f0c1e-0000-4000-8000-000000000001")
    hub.workspaces = [other]
    assert at_hub.succeed("show", "db", "-o", "json").json["id"] == other["id"]
    gone = at_hub.run("rm", "-y", "db")
    assert gone.code == 3, gone
    assert changes(hub) == []
    at_hub.succeed("rm", "-y", "db3f0c1e", "--no-wait")
    assert changes(hub) == [f"DELETE /workspaces/{other['id']}"]


def test_of_two_with_one_name_none_is_deleted_until_its_id_is_named(
    at_hub: Cli, hub: ScriptedHub
) -> None:
    """One's DELETE failed, which gave its name up, and another was made. The other is the usual."""
    newer = workspace("api", id="bbbbbbbb-0000-4000-8000-000000000003")
    broken = workspace("api", id="aaaaaaaa-0000-4000-8000-000000000002", error=DELETE_FAILED)
    for order in ([newer, broken], [broken, newer]):
        hub.workspaces = order
        assert at_hub.succeed("show", "api", "-o", "json").json["id"] == newer["id"]
        ambiguous = at_hub.run("rm", "-y", "api")
        assert ambiguous.code == 2, ambiguous
        assert broken["id"] in ambiguous.err
        assert newer["id"] in ambiguous.err
    assert changes(hub) == []
    at_hub.succeed("rm", "-y", broken["id"], "--no-wait")
    assert changes(hub) == [f"DELETE /workspaces/{broken['id']}"]


def changes(hub: ScriptedHub) -> list[str]:
    """Return the requests that change something."""
    return [path for path in hub.paths() if not path.startswith("GET ")]
