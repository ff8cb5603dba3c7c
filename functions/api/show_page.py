"""``GET /`` and ``GET /assets/{name}``: the page, on which people see and do everything.

Anybody's browser calls it. Reads and changes nothing: the answers are constants of a deployment,
and the page then asks the API as its person. Behind Identity-Aware Proxy it is behind the proxy, as
the API is. An asset of another deployment is 404; the page then loads itself again.
"""

from flask import Request

from shared.bootstrap import hub
from shared.config import IdentitySource
from shared.entry.http import Answer, endpoint
from shared.entry.page import page

HUB = hub()
PAGE = page()


@endpoint(HUB, "GET /", "GET /assets/{name}", same_for_everybody=True)
def show_page(request: Request, name: str | None = None) -> Answer:
    """Answer with the page or an asset, compressed if the browser takes it."""
    opens_google = HUB.settings.identity.source is not IdentitySource.IAP
    return PAGE.answer(request, name, opens_google=opens_google)
