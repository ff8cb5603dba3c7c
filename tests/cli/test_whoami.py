"""``workspace whoami``: who one is to the Hub, as far as a Hub of its age says it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.cli_process import Cli
from tests.cli.scripted_hub import SIGN_IN, Reply, ScriptedHub, Seen, problem

WITH_ME = {**SIGN_IN, "features": ["me"]}
ME = {
    "owner_id": "470597583915671017846",
    "email": "ada@example.com",
    "is_admin": True,
    "quota": {"workspaces": {"used": 2, "most": 5}, "running": {"used": 1, "most": 3}},
}


def answer_me(hub: ScriptedHub, body: Any) -> None:
    """Have the Hub answer ``GET /me``."""
    reply = body if isinstance(body, Reply) else Reply(body=body)
    hub.sign_in = WITH_ME
    hub.answers = lambda seen: reply if seen.path == "/me" else None


def test_it_says_whether_one_is_an_administrator_and_what_one_uses(
    at_hub: Cli, hub: ScriptedHub
) -> None:
    """The Hub's own word on it; as JSON, too."""
    answer_me(hub, ME)
    told = at_hub.succeed("whoami")
    assert told.out == "ada@example.com\n"
    assert "an administrator: workspace ls --all shows everybody's" in told.err
    assert "in use: 2 of 5 workspaces, 1 of 3 running" in told.err
    assert at_hub.succeed("whoami", "-o", "json").json.items() >= ME.items()
    answer_me(hub, {**ME, "is_admin": False})
    assert "administrator" not in at_hub.succeed("whoami").err


@pytest.mark.parametrize("sign_in", [SIGN_IN, None], ids=["without-me", "without-sign-in"])
def test_an_older_hub_is_asked_as_before(
    at_hub: Cli, hub: ScriptedHub, sign_in: dict[str, Any] | None
) -> None:
    """It takes the token at a list, and is not asked for what it does not have."""
    hub.sign_in = sign_in
    told = at_hub.succeed("whoami")
    assert told.out == "somebody, whose token names no address\n"
    assert "in use" not in told.err
    assert hub.paths() == ["GET /sign-in", "GET /workspaces"]


def test_a_gateway_that_knows_no_such_path_is_an_older_hub(at_hub: Cli, hub: ScriptedHub) -> None:
    """API Gateway answers with a code of its own; a Hub may be rolled back after it was asked."""
    unknown = Reply(404, {"code": 404, "message": "The current request is not defined."})

    def answer(seen: Seen) -> Reply | None:
        return unknown if seen.path == "/sign-in" else None

    hub.answers = answer
    assert at_hub.succeed("whoami").out == "somebody, whose token names no address\n"
    answer_me(hub, problem(404, "NOT_FOUND", "The Hub has no such path."))
    assert at_hub.succeed("whoami").out == "somebody, whose token names no address\n"
    assert hub.paths()[-1] == "GET /workspaces"


@pytest.mark.parametrize("body", [[], "me", {"email": 7, "quota": {"running": [1]}}, None])
def test_what_is_no_person_is_shown_as_far_as_it_goes(
    at_hub: Cli, hub: ScriptedHub, body: Any
) -> None:
    """A Hub may answer anything."""
    answer_me(hub, body)
    told = at_hub.succeed("whoami")
    assert len(told.out.splitlines()) == 1
    assert "in use" not in told.err


def test_a_token_that_the_hub_does_not_take_is_told(at_hub: Cli, hub: ScriptedHub) -> None:
    """The exit code is that of a sign-in, whichever path was asked."""
    answer_me(hub, problem(401, "UNAUTHENTICATED", "Who you are is not proven."))
    assert at_hub.run("whoami").code == 4
