"""Google in the browser, with the Hub's own OAuth client: loopback address and PKCE.

The endpoints are Google's, fixed here: a Hub names a client and an audience, never a page at which
the person signs in. Sources: RFC 8252; "OAuth 2.0 for iOS & Desktop Apps"; for Identity-Aware
Proxy, "Programmatic authentication", where a refresh names the proxy's client as the audience.
"""

from __future__ import annotations

import html
import secrets
import threading
import time
import webbrowser
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from workspace_cli.config import Hub, SignIn
from workspace_cli.console import Console
from workspace_cli.errors import NeedsTerminalError, NoAnswerError, SignInError
from workspace_cli.sign_in.tokens import Minted, checked, claims
from workspace_cli.text import one_line

_AUTHORIZE = "https://accounts.google.com/o/oauth2/v2/auth"
_TOKENS = "https://oauth2.googleapis.com/token"  # an address
_REVOKE = "https://oauth2.googleapis.com/revoke"
_SCOPES = ["openid", "https://www.googleapis.com/auth/userinfo.email"]
_HOST = "127.0.0.1"
_SECONDS = 30.0  # a call of Google's
_PERSON_SECONDS = 600.0  # for the person to sign in
_PASTE_PORT = 8085  # what stands in the address if no browser is opened here; nothing listens there


def sign_in(console: Console, sign_in: SignIn, *, browser: bool) -> Minted:
    """Have the person sign in, and return a token and a refresh token.

    Args:
        console: says what to do.
        sign_in: with the client and the audience.
        browser: opens one on this machine; otherwise the person opens the address anywhere, and
            pastes the one that they are sent to.

    Raises:
        NeedsTerminalError: nobody is there to sign in.
        SignInError: they did not, or Google refuses.
        NoAnswerError: Google does not answer.
    """
    if not console.is_interactive:
        raise NeedsTerminalError(
            "signing in takes a person with a browser, and there is no terminal",
            hint="programs use a service account (workspace login --help), or WORKSPACE_TOKEN",
        )
    server = _Loopback() if browser else None
    port = server.server_port if server else _PASTE_PORT
    from google_auth_oauthlib.flow import Flow  # noqa: PLC0415  # 0.3 s

    flow = Flow.from_client_config(
        {
            "installed": {
                "client_id": sign_in.client_id,
                "client_secret": sign_in.client_secret or "",
                "auth_uri": _AUTHORIZE,
                "token_uri": _TOKENS,
            }
        },
        scopes=_SCOPES,
        redirect_uri=f"http://{_HOST}:{port}/",
        autogenerate_code_verifier=True,
    )
    state = secrets.token_urlsafe(32)
    url, _ = flow.authorization_url(access_type="offline", prompt="consent", state=state)
    code = _from_browser(console, server, url, state) if server else _pasted(console, url, state)
    answer = _ask_google(
        {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": flow.code_verifier,
            "redirect_uri": flow.redirect_uri,
            **_client(sign_in),
        }
    )
    refresh_token = answer.get("refresh_token")
    if not isinstance(refresh_token, str):
        raise SignInError("Google gave no refresh token", hint="sign in again: workspace login")
    if sign_in.audience and sign_in.audience != sign_in.client_id:
        return Minted(_refresh(sign_in, refresh_token), refresh_token)
    return Minted(_id_token(answer, sign_in), refresh_token)


def refresh(hub: Hub, refresh_token: str | None) -> Minted:
    """Return a new token from a refresh token.

    Raises:
        SignInError: there is none, or it has ended: the person must sign in again.
        NoAnswerError: Google does not answer.
    """
    if not refresh_token:
        raise SignInError(
            f"you have not signed in to {hub.address}", hint=f"workspace login {hub.address}"
        )
    return Minted(_refresh(hub.sign_in, refresh_token))


def revoke(refresh_token: str) -> bool:
    """Have Google end a refresh token; return whether it has."""
    import requests  # noqa: PLC0415

    try:
        answer = requests.post(
            _REVOKE, data={"token": refresh_token}, timeout=_SECONDS, allow_redirects=False
        )
    except requests.RequestException:
        return False
    return answer.ok


def _refresh(sign_in: SignIn, refresh_token: str) -> str:
    audience = {}
    if sign_in.audience and sign_in.audience != sign_in.client_id:
        audience = {"audience": sign_in.audience}
    answer = _ask_google(
        {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            **_client(sign_in),
            **audience,
        }
    )
    return _id_token(answer, sign_in)


def _client(sign_in: SignIn) -> dict[str, str]:
    secret = {"client_secret": sign_in.client_secret} if sign_in.client_secret else {}
    return {"client_id": sign_in.client_id or "", **secret}


def _id_token(answer: Mapping[str, Any], sign_in: SignIn) -> str:
    token = checked(str(answer.get("id_token", "")), "Google")
    wanted = sign_in.audience or sign_in.client_id
    if claims(token).get("aud") != wanted:
        raise SignInError(f"Google's token is not for {one_line(wanted)}, so it is not sent")
    return token


def _ask_google(form: Mapping[str, Any]) -> dict[str, Any]:
    import requests  # noqa: PLC0415

    try:
        # `auth` keeps a password of `.netrc` out of the request.
        answer = requests.post(
            _TOKENS, data=form, timeout=_SECONDS, allow_redirects=False, auth=lambda each: each
        )
        value = answer.json()
    except requests.RequestException as error:
        raise NoAnswerError(
            f"Google does not answer: {one_line(type(error).__name__)}", hint="are you connected?"
        ) from None
    except ValueError:
        raise NoAnswerError("what answers at Google's address is not Google") from None
    if answer.status_code >= 500:
        raise NoAnswerError(f"Google answers {answer.status_code}", hint="try again")
    if not answer.ok or not isinstance(value, dict):
        given = value if isinstance(value, dict) else {}
        said = one_line(given.get("error_description") or given.get("error") or "no reason")
        raise SignInError(f"Google refuses: {said}", hint="sign in again: workspace login")
    return value


# ---- the browser ---------------------------------------------------------------------------------


def _from_browser(console: Console, server: _Loopback, url: str, state: str) -> str:
    """Open a browser, and return the code that Google sends it back with."""
    server.state = state
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        console.note(f"Sign in in your browser. If none opens, open this address:\n  {url}")
        webbrowser.open(url)
        deadline = time.monotonic() + _PERSON_SECONDS
        while not server.answered.wait(0.2):  # in pieces, so that Ctrl-C is heard everywhere
            if time.monotonic() > deadline:
                raise SignInError(f"nobody has signed in within {_PERSON_SECONDS / 60:g} min")
    finally:
        server.shutdown()
        server.server_close()
    return _code_of(server.query, state)


def _pasted(console: Console, url: str, state: str) -> str:
    """Return the code of the address that the person pastes."""
    console.note(
        f"Open this address in a browser, on any machine:\n  {url}\n"
        "When you have signed in, the browser cannot show the last page. That is as it should be."
    )
    given = console.ask("Paste the address of that page:", instead="open a browser here")
    return _code_of(_query_of(given), state)


def _query_of(address: str) -> dict[str, list[str]]:
    try:
        return parse_qs(urlsplit(address).query)
    except ValueError:  # as of ``http://[``, or of too many parameters
        return {}


def _code_of(query: Mapping[str, list[str]], state: str) -> str:
    given = query.get("state", [""])[0]
    if not secrets.compare_digest(given.encode(), state.encode()):
        raise SignInError("this is not the answer to this sign-in", hint="workspace login")
    if "code" not in query:
        raise SignInError(
            f"you have not signed in: {one_line(query.get('error', ['no reason'])[0])}"
        )
    return query["code"][0]


class _Loopback(HTTPServer):
    """Takes the one request that Google sends the browser back with; all others are answered 404.

    Attributes:
        state: what the request must have.
        query: what it had.
        answered: is set then.
    """

    def __init__(self) -> None:
        super().__init__((_HOST, 0), _Page)
        self.state = ""
        self.query: dict[str, list[str]] = {}
        self.answered = threading.Event()


class _Page(BaseHTTPRequestHandler):
    server: _Loopback
    timeout = 10

    def do_GET(self) -> None:
        query = _query_of(self.path)
        given = query.get("state", [""])[0]
        is_ours = secrets.compare_digest(given.encode(), self.server.state.encode())
        if is_ours:
            self.server.query = query
        text = "You can close this page, and go on in the terminal." if is_ours else "Not found."
        page = f"<!doctype html><title>workspace</title><p>{html.escape(text)}".encode()
        self.send_response(200 if is_ours else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Referrer-Policy", "no-referrer")  # the address has the code
        self.end_headers()
        self.wfile.write(page)
        if is_ours:
            self.server.answered.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Write nothing: the path has the code."""
