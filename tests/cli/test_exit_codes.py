"""The exit code of each kind of failure, and what is said of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from localcloud.catalogue import ROOT
from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import Reply, ScriptedHub, Seen, operation, problem, workspace
from workspace_cli import errors

_FIELDS = [
    {"field": "name", "message": "must be short"},
    {"field": "metadata.repo", "message": "must not hold credentials"},
    {"field": "machine_type", "message": "must be one of a, b"},
]


def unless_read(reply: Reply) -> Callable[[Seen], Reply | None]:
    """Answer so to all but lists and reads of a single workspace."""
    return lambda seen: None if seen.method == "GET" else reply


def always(reply: Reply) -> Callable[[Seen], Reply | None]:
    """Answer so to everything."""
    return lambda _: reply


@dataclass
class Case:
    """A command, what the Hub answers, its exit code, and what it says."""

    arguments: str
    code: int
    says: str
    answers: Callable[[Seen], Reply | None] = field(default=lambda _: None)


REFUSED = problem(403, "NOT_ALLOWED", "This Hub does not serve your account.")
CASES = {
    "success": Case("ls", 0, ""),
    "no such option": Case("ls --colour", 2, "No such option"),
    "no name": Case("stop", 2, "Missing argument"),
    "a name that cannot be one": Case("stop a;b", 2, "neither a workspace's name nor an id"),
    "a status that is none": Case("ls --status GONE", 2, "is not one of"),
    "ssh and no wait": Case("create x --ssh --no-wait", 2, "--no-wait does not go with it"),
    "a question without a terminal": Case("rm api", 2, "give --yes"),
    "fields are the options that set them": Case(
        "create x --machine-type q",
        2,
        "NAME: must be short; --repo: must not hold credentials; --machine-type: must be one of",
        unless_read(problem(400, "INVALID_REQUEST", "wrong", errors=_FIELDS)),
    ),
    "a field is the option of this command": Case(
        "start api --name q",
        2,
        "--name: must be short; --repo",
        unless_read(problem(400, "INVALID_REQUEST", "wrong", errors=_FIELDS)),
    ),
    "no such workspace": Case("stop trian", 3, 'there is no workspace "trian"'),
    "no such hub": Case("--hub nowhere ls", 3, 'there is no Hub "nowhere"'),
    "one of several is not there": Case("rm -y api trian", 3, 'there is no workspace "trian"'),
    "a host that cannot be reached": Case(
        "--hub https://hub.example.com ls", 7, "cannot be reached"
    ),
    "not believed": Case(
        "ls",
        4,
        "the token is from WORKSPACE_TOKEN",
        always(problem(401, "NOT_AUTHENTICATED", "The token has expired.")),
    ),
    "the proxy asks to sign in": Case(
        "ls",
        4,
        "Identity-Aware Proxy",
        always(Reply(302, headers={"Location": "https://accounts.google.com/o/oauth2?x"})),
    ),
    "not served": Case("ls", 5, "does not serve your account", always(REFUSED)),
    "quota": Case(
        "create x",
        5,
        "You have 5 of at most 5",
        unless_read(problem(403, "QUOTA_EXCEEDED", "You have 5 of at most 5.")),
    ),
    "name taken": Case(
        "create x", 5, "called x", unless_read(problem(409, "NAME_TAKEN", "One is called x."))
    ),
    "operation under way": Case(
        "stop api",
        5,
        "workspace show api --watch",
        unless_read(problem(409, "OPERATION_UNDER_WAY", "A START.", operation=operation())),
    ),
    "too often": Case(
        "stop api",
        5,
        "try again in 3 h",
        unless_read(
            Reply(429, {"code": "TOO_MANY_REQUESTS", "detail": "Wait."}, {"Retry-After": "9999"})
        ),
    ),
    "a redirection": Case(
        "ls",
        5,
        "your token will not be sent",
        always(Reply(307, headers={"Location": "https://evil.example.com/"})),
    ),
    "not in time": Case("wait busy --timeout 0", 6, "is starting, not ready, after 0 s"),
    "not asleep in time": Case("wait api --for SUSPENDED --timeout 0", 6, "is ready, not asleep"),
    "a fault": Case(
        "stop api",
        7,
        "give whoever runs the Hub the request's id",
        unless_read(problem(500, "INTERNAL", "The Hub has a fault.")),
    ),
    "away": Case("--hub http://127.0.0.1:1 ls", 7, "nothing answers at this port"),
    "no such hub is no workspace that is gone": Case(
        "--hub nowhere wait api --for gone", 3, 'there is no Hub "nowhere"'
    ),
    "gone already": Case("wait lost trian --for gone", 0, "lost is gone.\ntrian is gone."),
    "one of several is gone already": Case(
        "wait lost api --for gone --timeout 0", 6, "api is ready, not gone, after 0 s"
    ),
    "seconds that are none": Case(
        "wait api --timeout nan", 2, "'--timeout': must be 0 to 86400 seconds."
    ),
    "too many events": Case("events api -n 10001", 2, "'--limit': must be 1 to 10000."),
    "none of this status": Case(
        "ls --status provisioning", 0, "No workspace has this status.", always(Reply(body=[]))
    ),
    "none at all": Case("ls", 0, "workspace create NAME", always(Reply(body=[]))),
    "it ended as an error": Case("wait broken", 1, "broken is error: NO_CAPACITY: none left"),
    "it never comes to it": Case("wait asleep", 1, "nothing changes that by itself"),
    "deleted meanwhile": Case("wait going", 1, "going is gone"),
    "no json": Case("ls", 1, "does not answer a list", always(Reply(body=b"<html>"))),
    "another thing": Case("show api -o json", 1, "does not answer a list", always(Reply(body={}))),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_failure_has_its_exit_code(at_hub: Cli, hub: ScriptedHub, case: Case) -> None:
    """A script can tell what happened by the code; a person by one line, without a traceback."""
    error = {"code": "NO_CAPACITY", "message": "none left.", "operation_kind": "START"}
    hub.workspaces = [
        workspace("api"),
        workspace("busy", status="PROVISIONING", operation=operation()),
        workspace("broken", status="ERROR", error=error),
        workspace("asleep", status="SUSPENDED"),
    ]
    going = workspace("going", operation=operation("DELETE", "forget"))

    def answer(seen: Seen) -> Reply | None:
        if seen.query.get("name") == ["going"]:
            return Reply(body=[going])
        return case.answers(seen)

    hub.answers = answer
    # Neither a wait of the Hub's nor a name that has no address may take long here.
    done = at_hub.run(*case.arguments.split(), more={"https_proxy": "http://127.0.0.1:1"})
    assert (done.code, "Traceback" in done.err) == (case.code, False), done
    assert case.says in done.err
    if case.code in {1, 5, 7} and hub.seen and "wait" not in case.arguments:
        assert re.search(r"^  request [a-z0-9-]+$", done.err, re.MULTILINE)
    if case.code:
        assert done.out == ""


def test_the_page_has_every_exit_code() -> None:
    """`docs/command.md` lists the codes that the errors have, and no other."""
    page = (ROOT / "docs/command.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| `(\d+)` \|", page, re.MULTILINE)}
    assert listed == {
        errors.OK,
        errors.FAILED,
        errors.USAGE,
        errors.NOT_FOUND,
        errors.SIGN_IN,
        errors.REFUSED,
        errors.NOT_IN_TIME,
        errors.NO_ANSWER,
        errors.INTERRUPTED,
    }
