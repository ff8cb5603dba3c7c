"""Sign in to a Hub."""

import contextlib
import os
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import click

from workspace_cli.app import App
from workspace_cli.config import NAME, Config, Hub, SignIn, checked_address
from workspace_cli.connection import agree, describe
from workspace_cli.errors import PathUnknownError, RefusedError
from workspace_cli.main import Command
from workspace_cli.sign_in import ENVIRONMENT_TOKEN, mint_for
from workspace_cli.sign_in import describe as describe_sign_in
from workspace_cli.sign_in.methods import OLDER, Facts, Wish, choose, facts_of, others_with, wish_of
from workspace_cli.sign_in.tokens import GivenToken, Minted, StoredTokens, email_of
from workspace_cli.text import one_line

_METHODS = ("oauth", "iap", "gcloud", "service_account")
_LOCAL = "local"
_LOCAL_EMAIL = "dev@localhost"  # whom the local cloud takes a caller without a token for


@dataclass(frozen=True, kw_only=True)
class _Options:
    name: str | None
    wish: Wish
    email: str
    browser: bool
    yes: bool


@click.command(cls=Command)
@click.argument("address", required=False)
@click.option("--local", "is_local", is_flag=True, help="The local cloud of this folder.")
@click.option("--name", metavar="N", help="What you call this Hub; by default its host's name.")
@click.option("--method", type=click.Choice(_METHODS), help="By default the best that it has.")
@click.option("--impersonate", metavar="ACCOUNT", help="A service account, for programs.")
@click.option(
    "--audience",
    metavar="A",
    help="Audience of a service account's tokens; default: the Hub's address.",
)
@click.option("--email", metavar="E", default=_LOCAL_EMAIL, help="Who you are, with --local.")
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening a browser.")
@click.option("--yes", "-y", is_flag=True, help="Accept what is asked, after it is shown.")
@click.pass_obj
def command(app: App, /, address: str | None, is_local: bool, **given: Any) -> None:
    """Sign in to the Hub at ADDRESS, and use it from now on.

    Without ADDRESS, sign in again to the Hub in use. Programs take a service account
    (--method service_account, --impersonate), or WORKSPACE_TOKEN instead of a login.
    """
    wish = Wish(kind=given["method"], account=given["impersonate"], audience=given["audience"])
    options = _Options(
        name=given["name"],
        wish=wish,
        email=given["email"],
        browser=not given["no_browser"],
        yes=given["yes"],
    )
    if options.name is not None and not NAME.fullmatch(options.name):
        raise click.UsageError("--name takes 1 to 64 letters, digits, '-', '_' and '.'.")
    if is_local and (address or wish != Wish()):
        raise click.UsageError("--local has its address and its method from the local cloud.")
    config = app.store.read()
    begun = _local(options) if is_local else _remote(app, config, address)
    facts = _facts(begun)
    if wish == Wish() and begun.name:  # again, as before
        wish = wish_of(begun.sign_in, facts.ways)
    way = begun.sign_in if is_local else choose(facts.ways, wish, begun.address)
    name = options.name or _name(config, begun, way)
    known = config.hubs.get(name)
    is_same = known is not None and known.address == begun.address
    hub = replace(
        begun,
        name=name,
        sign_in=way,
        connect=known.connect if known and (is_same or is_local) else None,
    )
    _check_audience(app, config, hub, options)
    hub = agree(app, hub, facts.connect, yes=options.yes)
    minted = _mint(app, hub, options)
    _store(app, hub, minted)


def _local(options: _Options) -> Hub:
    from workspace_cli.sign_in.local import find_state_file, read_cloud  # noqa: PLC0415

    path = str(find_state_file())
    sign_in = SignIn(kind="local", account=options.email, state_file=path)
    return Hub(name=_LOCAL, address=read_cloud(sign_in).address, sign_in=sign_in)


def _remote(app: App, config: Config, address: str | None) -> Hub:
    """Return the Hub that is meant: by address, by the name of one that is known, or in use."""
    name = address or app.hub_name or config.current
    if name is None:
        raise click.UsageError("To which Hub? workspace login ADDRESS, or --local.")
    known = config.hubs.get(name)
    if known is None:
        return Hub(name="", address=checked_address(name), sign_in=SignIn(kind="token"))
    if known.sign_in.kind == "local":
        raise click.UsageError(f"{name} is a local cloud: workspace login --local, in its folder.")
    return known


def _facts(hub: Hub) -> Facts:
    """Return what the Hub says of itself; it is asked without a token."""
    from workspace_cli.client import HubClient  # noqa: PLC0415  # it loads requests

    with contextlib.closing(HubClient(hub, None)) as client:
        try:
            return facts_of(client.sign_in(), hub.address)
        except PathUnknownError:
            # A Hub of version 0.1 lacks the path. Its contract says whether it is one.
            if client.is_hub():
                return OLDER
            raise


def _name(config: Config, begun: Hub, way: SignIn) -> str:
    """Return the name of a Hub: its own, or its host's, with a number if that is taken."""
    if begun.name:
        return begun.name
    known = [hub.name for hub in config.hubs.values() if hub.address == begun.address]
    if known and way.kind != "local":
        return known[0]
    host = (urlsplit(begun.address).hostname or "hub").replace(":", "-").lstrip("-._")[:60] or "hub"
    names = [host, *(f"{host}-{number}" for number in range(2, 1000))]
    return next(name for name in names if name not in config.hubs)


def _check_audience(app: App, config: Config, hub: Hub, options: _Options) -> None:
    """See whether another Hub could use this one's tokens, and have the person say yes to that.

    Raises:
        RefusedError: they do not.
    """
    way = hub.sign_in
    known = config.hubs.get(hub.name)
    if known is not None and (known.address, known.sign_in) == (hub.address, way):
        return  # it was agreed to
    others = ", ".join(
        f"{each.name} ({each.address})" for each in others_with(way, config.hubs, hub.address)
    )
    if way.kind == "gcloud":
        if others:
            app.console.warn(
                f"gcloud's tokens are the same for all Hubs: {hub.address} could act as you at"
                f" {others}, and the other way round. An OAuth client of a Hub's own avoids that"
                " (docs/command.md)."
            )
        return
    said = []
    if way.kind == "service_account" and way.audience != hub.address:
        said.append(f"The tokens for {hub.address} will be for {one_line(way.audience)}.")
    if others:
        said.append(f"{hub.address} will get tokens with which it could act as you at {others}.")
    for line in said:
        app.console.note(line)
    instead = "accept it in a terminal, or with --yes"
    if said and not options.yes and not app.console.confirm("Sign in there?", instead=instead):
        raise RefusedError("not accepted, so nothing was sent or stored")


def _mint(app: App, hub: Hub, options: _Options) -> Minted:
    if hub.sign_in.kind in {"oauth", "iap"}:
        from workspace_cli.sign_in import oauth  # noqa: PLC0415

        return oauth.sign_in(app.console, hub.sign_in, browser=options.browser)
    return mint_for(hub)(None)


def _forget_another(app: App, hub: Hub) -> None:
    """Forget the Hub that had this name, if it is another one: nothing of it is the new one's."""
    known = app.store.read().hubs.get(hub.name)
    if known is None or known.address == hub.address:
        return
    if known.sign_in.kind == hub.sign_in.kind == _LOCAL:
        return  # a local cloud has another address after each start
    from workspace_cli.commands.logout import forget  # noqa: PLC0415  # only here

    # To revoke a token of the same client would end what was just given.
    is_other_client = known.sign_in.client_id != hub.sign_in.client_id
    forget(app, known, revokes=is_other_client)


def _store(app: App, hub: Hub, minted: Minted) -> None:
    """Store the Hub and the tokens, once the Hub has taken the token."""
    from workspace_cli.client import HubClient  # noqa: PLC0415

    token = GivenToken(minted.token, "the sign-in")
    with contextlib.closing(HubClient(hub, token, app.console.note)) as client:
        client.check()
    hub = replace(hub, email=email_of(minted.token))
    _forget_another(app, hub)
    StoredTokens(app.store.credentials(hub.name), hub, mint_for(hub)).keep(minted)
    app.store.put(hub, use=True)
    who = f" as {hub.email}" if hub.email else ""
    app.console.note(f"You are signed in to {hub.address}{who}, through {describe_sign_in(hub)}.")
    if hub.connect is not None and hub.connect.kind != "iap":
        app.console.note(f"Its machines are reached {describe(hub.connect)}.")
    if os.environ.get(ENVIRONMENT_TOKEN):
        app.console.warn(f"{ENVIRONMENT_TOKEN} is set, and goes before this sign-in")
    app.console.note(f"Its name here is {hub.name}. Next:\n  workspace create NAME --ssh")
