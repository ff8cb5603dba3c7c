"""How the page signs people in to the local cloud: two paths of the gateway's own.

GET  /localcloud/people  200 {"people": [{"email", "is_admin"}]}: whom one may work as; the first is
                         the developer, who one is without a token
POST /localcloud/token   {"email"}; 200 {"token"}: an ID token of this person, for the Hub

Both need the page's secret (``page_secret``) in ``Authorization``, after ``Bearer``, and are closed
to pages of other sites. The page has it from the fragment of the address that the local cloud
prints. Browsers send a fragment nowhere, but keep it in their history.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from localcloud.services.http_server import Refuse, is_from_another_site

_PATHS: Mapping[str, str] = {"/localcloud/people": "GET", "/localcloud/token": "POST"}
_LONGEST_EMAIL = 254


def page_secret(secret: str) -> str:
    """Return the secret of the page, made from the local cloud's.

    It opens the two paths above and nothing else: not the control API, for one.
    """
    return hmac.new(secret.encode(), b"page", "sha256").hexdigest()


class PageSignIn:
    """Lets a page of this origin be any of the local cloud's people.

    Args:
        people: whom it offers, by e-mail address, and whether they are administrators; the
            developer first.
        token: returns a new token of a person for the Hub.
        secret: the local cloud's, from which the page's is made.
    """

    def __init__(
        self, people: Mapping[str, bool], *, token: Callable[[str], str], secret: str
    ) -> None:
        self._people = people
        self._token = token
        self._expected = f"Bearer {page_secret(secret)}".encode()

    def developer_token(self) -> str:
        """Return a new token of the developer."""
        return self._token(next(iter(self._people)))

    def serves(self, request: web.Request) -> bool:
        """Whether a request is for one of these paths."""
        return request.rel_url.raw_path in _PATHS

    async def answer(self, request: web.Request, port: int, refuse: Refuse) -> web.StreamResponse:
        """Answer a request for one of these paths, which arrived at ``port``."""
        method = _PATHS[request.rel_url.raw_path]
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if is_from_another_site(request, port):
            return refuse(request, 403, "A page of another site cannot sign in here.")
        if not hmac.compare_digest(given, self._expected):
            text = "Open the page by the address that the local cloud printed when it started."
            return refuse(request, 401, text)
        if request.method != method:
            return refuse(request, 405, f"{request.path} takes {method}.")
        if method == "GET":
            people = [{"email": email, "is_admin": admin} for email, admin in self._people.items()]
            return _json({"people": people})
        try:
            email = _email_of(await request.json())
        except ValueError as error:
            return refuse(request, 400, str(error))
        return _json({"token": self._token(email)})


def _email_of(body: object) -> str:
    """Return the address in a request's JSON.

    Raises:
        ValueError: it has none.
    """
    email = body.get("email") if isinstance(body, dict) and body.keys() == {"email"} else None
    if not isinstance(email, str) or "@" not in email or len(email) > _LONGEST_EMAIL:
        raise ValueError('Send the person\'s address: {"email": "alice@example.com"}.')
    return email


def _json(body: Mapping[str, Any]) -> web.Response:
    return web.json_response(body, headers={"Cache-Control": "no-store"})
