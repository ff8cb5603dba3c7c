"""The HTTP client of one Hub.

What it holds to, whatever the Hub answers: a token goes only to the Hub's own origin; no redirect
is followed; an answer has a bounded size and a bounded time; waits that the Hub asks for are
bounded. Reads, and changes that are the same when they are repeated, are tried again.
"""

from __future__ import annotations

import contextlib
import json
import queue
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3

from workspace_cli import VERSION
from workspace_cli.config import LOOPBACK, Hub
from workspace_cli.errors import (
    NoAnswerError,
    NotUnderstoodError,
    PathUnknownError,
    QueryUnknownError,
    RefusedError,
    SignInError,
    WorkspaceNotFoundError,
)
from workspace_cli.problems import NAME, error_of
from workspace_cli.text import duration, one_line

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 40.0  # without a byte; functions may start first
WHOLE_SECONDS = 90.0  # one answer, from the name's resolution to its last byte
MOST_BYTES = 8 * 1024**2  # of an answer, unpacked: a hundred workspaces are 0.2 MB
MOST_PAGES = 1000
_TRIES = 4
_PAUSE_SECONDS = 0.5  # before the second try; doubled each time
_MOST_WAITED_SECONDS = 120.0  # because the Hub asked for it, in one request
_TELL_SECONDS = 2.0  # a longer wait is told
_CHUNK = 64 * 1024
_WORKSPACE = re.compile(r"/workspaces/([0-9a-f-]{36})(?:/|$)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_DRY_RUN = {"dry_run": "true"}
# Besides the query, which a Hub before 0.2 ignores: it refuses a field that it does not know.
_ONLY_DRY_RUN = {"dry_run": True}
_PASSING = {429, 500, 502, 503, 504}


class TokenSource(Protocol):
    """Gives the proof of who the person is; ``sign_in`` has those that there are."""

    @property
    def hint(self) -> str:
        """What to do if the Hub does not take the proof."""

    def token(self) -> str:
        """Return a token that is valid for a while.

        Raises:
            SignInError: there is none without the person.
        """

    def fresh_token(self, refused: str) -> str | None:
        """Return another token than one that the Hub has refused; None if there is no other."""


@dataclass(frozen=True)
class Answer:
    """What a Hub answered: ``value`` is its JSON, or None without a body."""

    status: int
    headers: Mapping[str, str]
    value: Any
    request_id: str


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        method: as in HTTP.
        path: below the Hub's address, already quoted.
        query: parameters.
        body: is sent as JSON; None: nothing is.
        headers: further headers.
        repeatable: whether sending it twice is the same as once.
    """

    method: str
    path: str
    query: Mapping[str, str] | None = None
    body: Any = None
    headers: Mapping[str, str] | None = None
    repeatable: bool = False

    @property
    def verb(self) -> str:
        """What is asked for: the last part of the path, or ``fork``."""
        forks = isinstance(self.body, dict) and "from" in self.body
        return "fork" if forks else self.path.rpartition("/")[2]

    @property
    def workspace_id(self) -> str:
        """The workspace that it is about; empty if it is about no single one."""
        found = _WORKSPACE.match(self.path)
        return found[1] if found else ""


class HubClient:
    """Sends requests to one Hub.

    Args:
        hub: the Hub.
        tokens: proves who the person is; None: nothing is proved, for ``GET /sign-in``.
        tell: is called with a line when the Hub makes the person wait.

    Attributes:
        names: what names a workspace in a command, by its id, for the hints of errors.

    Every method raises ``NoAnswerError`` if the Hub cannot be reached or has a fault,
    ``SignInError`` if it does not believe the token, ``RefusedError``, ``WorkspaceNotFoundError``
    and ``WrongUsageError`` as it answers, and ``NotUnderstoodError`` if something else answers.
    """

    def __init__(
        self,
        hub: Hub,
        tokens: TokenSource | None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.hub = hub
        self.names: dict[str, str] = {}
        self._tokens = tokens
        self._tell = tell
        self._origin = urlsplit(hub.address)[:2]
        self._ahead = timedelta()  # of the Hub's clock, before ours
        self._session = self._new_session()

    # ---- the API ---------------------------------------------------------------------------------

    def sign_in(self) -> Any:
        """Return what ``GET /sign-in`` says.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        return self.send(Request("GET", "/sign-in", repeatable=True)).value

    def is_hub(self) -> bool:
        """Return whether a Hub answers here, of any version: anybody can read its contract."""
        value = self.send(Request("GET", "/openapi.json", repeatable=True)).value
        paths = value.get("paths") if isinstance(value, dict) else None
        return isinstance(paths, dict) and "/workspaces/{workspace_id}/status" in paths

    def check(self) -> None:
        """Have the Hub take the token. It raises as all methods do, if the Hub does not."""
        self.send(Request("GET", "/workspaces", query={"limit": "1"}, repeatable=True))

    def features(self) -> frozenset[str]:
        """Return what ``GET /sign-in`` says that this Hub can do; none if it is older than that."""
        try:
            told = self.sign_in()
        except (PathUnknownError, WorkspaceNotFoundError):  # a gateway's 404 has another code
            told = None
        features = told.get("features") if isinstance(told, dict) else None
        named = features if isinstance(features, list) else []
        return frozenset(each for each in named if isinstance(each, str))

    def me(self) -> Any:
        """Have the Hub take the token, and return who the person is to it; None if it is older."""
        if "me" in self.features():
            with contextlib.suppress(PathUnknownError):  # rolled back meanwhile
                return self.send(Request("GET", "/me", repeatable=True)).value
        self.check()
        return None

    def workspaces(self, **query: str) -> list[Any]:
        """Return the workspaces that a query asks for, from all pages, as the API has them.

        Raises:
            QueryUnknownError: the Hub is older than a parameter.
        """
        return self._pages("/workspaces", query)

    def create(self, fields: Mapping[str, Any], key: str, *, dry_run: bool = False) -> Any:
        """Ask for a workspace; the same key and fields are the same workspace.

        Here and below, with ``dry_run`` the Hub only says what it would do. One that has no dry
        runs refuses it.
        """
        request = Request(
            "POST",
            "/workspaces",
            query=_DRY_RUN if dry_run else None,
            body={**fields, **(_ONLY_DRY_RUN if dry_run else {})},
            headers={"Idempotency-Key": key},
            repeatable=True,
        )
        return self.send(request).value

    def workspace(self, workspace_id: str) -> Any:
        """Return a workspace; a Hub that lacks this path is asked for the status instead."""
        try:
            return self.send(_read(workspace_id)).value
        except PathUnknownError:
            return self.status(workspace_id)

    def status(self, workspace_id: str) -> Any:
        """Return a workspace with its machine, as it is now, and how to connect."""
        return self.send(_read(workspace_id, "/status")).value

    def events(self, workspace_id: str, most: int | None = None) -> list[Any]:
        """Return the latest events of a workspace, the latest first."""
        query = {"limit": str(min(most, 100))} if most else {}
        return self._pages(f"/workspaces/{quote(workspace_id, safe='')}/events", query, most)

    def start(
        self,
        workspace_id: str,
        fields: Mapping[str, Any] | None = None,
        *,
        dry_run: bool = False,
    ) -> Any:
        """Ask that a workspace be started. Another START with the same fields is the same."""
        request = _change(workspace_id, "/start", dict(fields or {}), dry_run=dry_run)
        return self.send(request).value

    def stop(self, workspace_id: str, *, dry_run: bool = False) -> Any:
        """Ask that a workspace be suspended."""
        return self.send(_change(workspace_id, "/stop", {}, dry_run=dry_run)).value

    def archive(self, workspace_id: str, *, dry_run: bool = False) -> Any:
        """Ask that a workspace's home be kept as a snapshot; the answer is the workspace.

        It is not repeated if the answer is lost: somebody may have started it since.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        request = _change(workspace_id, "/archive", {}, dry_run=dry_run)
        return self.send(replace(request, repeatable=dry_run)).value

    def keep_awake(self, workspace_id: str, until: datetime | None) -> Any:
        """Ask that a workspace be kept awake until a time; None takes it back.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        # In whole seconds: nobody means more, and each is shown as it was sent.
        text = until and until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self.send(_change(workspace_id, "/keep-awake", {"until": text})).value

    def connect(self, workspace_id: str, device_id: str, *, start: bool | None = None) -> Any:
        """Return a workspace with ``connection``.

        Args:
            workspace_id: the workspace.
            device_id: what the Hub remembers as ``last_device_id``.
            start: True: a person wants in, so start what is suspended. False: something reconnects
                by itself. None: a person asked, nothing is started.

        Raises:
            PathUnknownError: the Hub is older than this path: ``start`` and ``status`` do the same.
        """
        body: dict[str, Any] = {"device_id": device_id}
        if start is not None:
            body["start"] = start
        return self.send(_change(workspace_id, "/connect", body)).value

    def delete(self, workspace_id: str, *, purge: bool = False, dry_run: bool = False) -> Any:
        """Ask that a workspace be deleted; the answer is the workspace.

        With ``purge`` it cannot be taken back. A dry run has a path of its own, which an older Hub
        does not know: a DELETE has no body, so such a Hub could not tell.
        """
        purging = {"purge": "true"} if purge else {}
        if dry_run:
            request = _change(workspace_id, "/delete", {}, dry_run=True)
            return self.send(replace(request, query={**_DRY_RUN, **purging})).value
        path = f"/workspaces/{quote(workspace_id, safe='')}"
        return self.send(Request("DELETE", path, query=purging)).value

    def deleted(self, owner_id: str | None = None) -> Any:
        """Return the deleted workspaces that can be taken back.

        Args:
            owner_id: whose; None: the person's own.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        query = {} if owner_id is None else {"owner_id": owner_id}
        return self.send(Request("GET", "/deleted-workspaces", query=query, repeatable=True)).value

    def undelete(self, workspace_id: str, name: str | None) -> Any:
        """Ask that a deleted workspace be taken back; the answer is the workspace.

        Args:
            workspace_id: the workspace.
            name: its name from now on; None: the one that it had.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        body = {} if name is None else {"name": name}
        return self.send(_change(workspace_id, "/undelete", body)).value

    def take_snapshot(self, workspace_id: str, name: str | None) -> Any:
        """Ask for a snapshot of a workspace's home; the answer is the workspace.

        It is not repeated if the answer is lost: the snapshot may have been captured by then.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        body = {} if name is None else {"name": name}
        return self.send(Request("POST", _snapshots(workspace_id), body=body)).value

    def snapshots(self, workspace_id: str) -> Any:
        """Return the snapshots of a workspace's home, and when another may be taken.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        return self.send(Request("GET", _snapshots(workspace_id), repeatable=True)).value

    def delete_snapshot(self, workspace_id: str, snapshot_id: str) -> Any:
        """Ask that a snapshot be deleted; the answer is the snapshot.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        path = f"{_snapshots(workspace_id)}/{quote(snapshot_id, safe='')}"
        return self.send(Request("DELETE", path)).value

    def restore(self, workspace_id: str, snapshot_id: str, *, dry_run: bool = False) -> Any:
        """Ask that a workspace's home be again what a snapshot has; the answer is the workspace.

        It is not repeated if the answer is lost: the home may have been restored by then, and
        another request would end what has begun to run since.

        Raises:
            PathUnknownError: the Hub is older than this path.
        """
        body = {"snapshot_id": snapshot_id}
        request = _change(workspace_id, "/restore", body, dry_run=dry_run)
        return self.send(replace(request, repeatable=dry_run)).value

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def now(self) -> datetime:
        """Return the time by the Hub's clock, as its last answer had it."""
        return datetime.now(UTC) + self._ahead

    # ---- requests --------------------------------------------------------------------------------

    def send(self, request: Request, *, whole_seconds: float = WHOLE_SECONDS) -> Answer:
        """Send a request, again where that is allowed, and return an answer of 2xx.

        Args:
            request: the request.
            whole_seconds: how long one try may take.
        """
        token = self._tokens.token() if self._tokens else None
        waited, tries, was_refreshed = 0.0, 0, False
        while True:
            tries += 1
            try:
                answer = self._send_once(request, token, whole_seconds)
            except NoAnswerError:
                if not request.repeatable or tries >= _TRIES:
                    raise
                time.sleep(_pause(tries))
                continue
            if answer.status == 401 and token and self._tokens and not was_refreshed:
                was_refreshed = True
                token = self._tokens.fresh_token(token)
                if token:
                    continue
            if 200 <= answer.status < 300:
                return answer
            seconds = self._wait_of(request, answer, tries)
            if seconds is None or waited + seconds > _MOST_WAITED_SECONDS:
                raise self._error(request, answer)
            if seconds >= _TELL_SECONDS:
                self._tell(f"The Hub asks to wait {duration(seconds)} ({answer.status}).")
            waited += seconds
            time.sleep(seconds)

    def _pages(self, path: str, query: Mapping[str, str], most: int | None = None) -> list[Any]:
        found: list[Any] = []
        seen: set[str] = set()
        request = Request("GET", path, query=query, repeatable=True)
        while True:
            answer = self.send(request)
            if not isinstance(answer.value, list):
                raise NotUnderstoodError(
                    f"{self.hub.address} does not answer a list as a Hub does",
                    request_id=answer.request_id,
                )
            found += answer.value
            if most is not None and len(found) >= most:
                return found[:most]
            target = self._next(answer)
            if target is None:
                return found
            if target in seen or len(seen) >= MOST_PAGES:
                raise NotUnderstoodError(
                    f"the list of {self.hub.address} does not end", request_id=answer.request_id
                )
            seen.add(target)
            request = Request("GET", target, repeatable=True)

    def _next(self, answer: Answer) -> str | None:
        """Return path and query of the next page, below the Hub's address."""
        links = requests.utils.parse_header_links(answer.headers.get("Link", ""))
        target = next((link["url"] for link in links if link.get("rel") == "next"), None)
        if target is None:
            return None
        try:
            whole = urljoin(f"{self.hub.address}/", target)
            parts = urlsplit(whole)
        except ValueError:
            parts = None
        # A Hub behind a load balancer names its outer address, or only the path.
        if parts is None or parts[:2] != self._origin:
            raise NotUnderstoodError(
                f"the next page of the list is at another address ({one_line(target)}), where your"
                " token will not be sent",
                request_id=answer.request_id,
            )
        prefix = urlsplit(self.hub.address).path
        path = parts.path.removeprefix(prefix)
        return f"{path}?{parts.query}" if parts.query else path

    def _send_once(self, request: Request, token: str | None, seconds: float) -> Answer:
        session = self._session
        request_id = f"workspace-{secrets.token_hex(8)}"
        try:
            return _within(seconds, lambda: self._exchange(session, request, token, request_id))
        except _NotInTimeError:
            # The thread may go on for a while: it keeps the session.
            self._session = self._new_session()
            text = f"{self.hub.address} has not answered within {seconds:g} s"
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            HTTPException,
            OSError,
            ValueError,  # as from a header that no character set has
        ) as error:
            text = f"{self.hub.address} cannot be reached: {_why(error)}"
        except _TooLargeError as error:
            raise NotUnderstoodError(
                f"the answer of {self.hub.address} is larger than {MOST_BYTES // 1024**2} MiB",
                request_id=error.args[0],
            ) from None
        raise NoAnswerError(
            text, hint="is the address right, and are you connected?", request_id=request_id
        ) from None

    def _exchange(
        self, session: requests.Session, request: Request, token: str | None, request_id: str
    ) -> Answer:
        prepared = session.prepare_request(
            requests.Request(
                request.method,
                f"{self.hub.address}{request.path}",
                params=dict(request.query or {}),
                json=request.body,
                headers={"X-Request-Id": request_id, **(request.headers or {})},
                auth=_Bearer(token),
            )
        )
        # By the adapter, not by the session, which looks at redirections and keeps cookies.
        address = str(prepared.url)
        adapter = session.get_adapter(address)
        # Its arguments are: proxies, stream, verify, cert.
        settings = session.merge_environment_settings(address, {}, True, None, None)
        timeout = (CONNECT_SECONDS, SILENT_SECONDS)
        with adapter.send(
            prepared,
            stream=True,
            timeout=timeout,
            verify=settings["verify"] or True,
            cert=settings["cert"],
            proxies=settings["proxies"],
        ) as response:
            told = response.headers.get("X-Request-Id", "")
            request_id = told if _REQUEST_ID.fullmatch(told) else request_id
            content = _content(response, request_id)
            self._set_clock(response.headers.get("Date"))
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            value = _json(content) if kind.endswith("json") else None
            return Answer(response.status_code, response.headers, value, request_id)

    def _wait_of(self, request: Request, answer: Answer, tries: int) -> float | None:
        """Return how long to wait before the next try; None if there is to be none."""
        if answer.status not in _PASSING or tries >= _TRIES:
            return None
        told = answer.headers.get("Retry-After", "")
        # What was refused as too much, or as not possible now, was not done.
        was_not_done = answer.status == 429 or (answer.status == 503 and bool(told))
        if not (request.repeatable or was_not_done):
            return None
        asked = _seconds_of(told, self.now())
        return _pause(tries) if asked is None else max(asked, 0.1)

    def _error(self, request: Request, answer: Answer) -> Exception:
        if 300 <= answer.status < 400:
            target = one_line(answer.headers.get("Location", "nowhere"), 120)
            if _host_of(answer.headers.get("Location", "")) == "accounts.google.com":
                return SignInError(
                    f"Identity-Aware Proxy in front of {self.hub.address} does not know you",
                    hint=f"sign in again: workspace login {self.hub.address}",
                )
            return RefusedError(
                f"{self.hub.address} sends to another address, {target}, where your token will not"
                " be sent",
                hint="sign in with the address that it names, if you trust it",
                request_id=answer.request_id,
            )
        value = answer.value if isinstance(answer.value, dict) else {}
        has_no_workspace = value.get("code") not in ("NOT_FOUND", None)
        is_unknown = answer.status == 405 or (answer.status == 404 and not has_no_workspace)
        if is_unknown:
            return PathUnknownError(
                f"{self.hub.address} does not know {request.method} {one_line(request.path)}",
                hint="it is no Hub, or an older one",
                request_id=answer.request_id,
            )
        if answer.status == 400 and request.query and _is_about(value, request.query):
            return QueryUnknownError(
                f"{self.hub.address} is older than this command, and does not know all of it",
                request_id=answer.request_id,
            )
        error = error_of(answer.status, value, answer.request_id, self.hub, request.verb)
        if error.hint and request.workspace_id:
            called = self.names.get(request.workspace_id, request.workspace_id)
            error.hint = error.hint.replace(NAME, called)
        if isinstance(error, RefusedError) and answer.status == 429:
            error.hint = self._when(answer) or error.hint
        if isinstance(error, SignInError) and self._tokens is not None:
            error.hint = self._tokens.hint
        return error

    def _when(self, answer: Answer) -> str | None:
        """Return when what was too much may be asked for again, if the Hub says it."""
        seconds = _seconds_of(answer.headers.get("Retry-After", ""), self.now())
        return None if seconds is None else f"try again in {duration(seconds)}"

    def _set_clock(self, date: str | None) -> None:
        if not date:
            return
        try:
            told = parsedate_to_datetime(date[:40])
            self._ahead = told.astimezone(UTC) - datetime.now(UTC)
        except (ValueError, TypeError, OverflowError, IndexError):
            return

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        # A proxy of the environment's is not meant for this machine's own addresses.
        session.trust_env = urlsplit(self.hub.address).hostname not in LOOPBACK
        session.headers["User-Agent"] = f"workspace/{VERSION}"
        session.headers["Accept"] = "application/json, application/problem+json"
        return session


class _Bearer(requests.auth.AuthBase):
    """Sets the header itself, so that requests does not put a password of ``.netrc`` there."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _NotInTimeError(Exception):
    """An answer has not come whole in time."""


class _TooLargeError(Exception):
    """An answer is larger than anything that a Hub answers. Its argument is the request's id."""


def _within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """Return what a call returns.

    A thread does it: neither the resolution of a name nor an answer that comes byte by byte has a
    time limit of its own. It ends with the process.

    Raises:
        _NotInTimeError: it takes longer.
        Exception: what the call raises.
    """
    box: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            box.put(call())
        except BaseException as error:  # noqa: BLE001  # it is raised where it belongs
            box.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        done = box.get(timeout=seconds)
    except queue.Empty:
        raise _NotInTimeError from None
    if isinstance(done, BaseException):
        raise done
    return done


def _content(response: requests.Response, request_id: str) -> bytes:
    """Return an answer's body, unpacked.

    Raises:
        _TooLargeError: it is too large.
    """
    content = bytearray()
    for piece in response.iter_content(_CHUNK):
        content += piece
        if len(content) > MOST_BYTES:
            raise _TooLargeError(request_id)
    return bytes(content)


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # as of ``http://[``
        return None


def _json(content: bytes) -> Any:
    """Return the JSON of a body; None if it is none, which then is an answer without meaning."""
    if not content:
        return None
    try:
        return json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _is_about(problem: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Return whether a problem calls a parameter of a query unknown."""
    errors = problem.get("errors")
    return isinstance(errors, list) and any(
        isinstance(one, dict)
        and one.get("field") in query
        and "is not a field" in str(one.get("message"))
        for one in errors
    )


def _seconds_of(told: str, now: datetime) -> float | None:
    """Return the seconds of a ``Retry-After``, a number or a date; None if it is neither."""
    if re.fullmatch(r"[0-9]{1,9}", told):
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told[:40]) - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _pause(tries: int) -> float:
    """Return a pause that doubles, and differs for each client: they do not come back at once."""
    doubled: float = _PAUSE_SECONDS * 2 ** (tries - 1)
    return doubled * random.uniform(0.75, 1.25)  # noqa: S311  # no secret


def _why(error: Exception) -> str:
    """Return why a connection failed, without the library's own names."""
    text = str(error)
    for part, words in _REASONS.items():
        if part in text:
            return words
    return one_line(type(error).__name__)


_REASONS = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not valid for it",
    "Name or service not known": "there is no such host",
    "nodename nor servname": "there is no such host",
    "Temporary failure in name resolution": "the host's name cannot be resolved now",
    "NameResolutionError": "the host's name cannot be resolved",
    "Connection refused": "nothing answers at this port",
    "timed out": "it does not answer",
    "Connection reset": "it broke off the connection",
    "Remote end closed": "it broke off the connection",
    "IncompleteRead": "it broke off in its answer",
    "No route to host": "there is no way to this host",
    "Network is unreachable": "there is no network",
    "ProxyError": "the proxy does not let it through",
    "decode": "its answer cannot be unpacked",
}


def _read(workspace_id: str, below: str = "") -> Request:
    path = f"/workspaces/{quote(workspace_id, safe='')}{below}"
    return Request("GET", path, repeatable=True)


def _snapshots(workspace_id: str) -> str:
    return f"/workspaces/{quote(workspace_id, safe='')}/snapshots"


def _change(
    workspace_id: str, below: str, body: Mapping[str, Any], *, dry_run: bool = False
) -> Request:
    path = f"/workspaces/{quote(workspace_id, safe='')}{below}"
    query = _DRY_RUN if dry_run else None
    body = {**body, **(_ONLY_DRY_RUN if dry_run else {})}
    repeatable = dry_run or not body.get("rebuild")
    return Request("POST", path, query=query, body=body, repeatable=repeatable)
