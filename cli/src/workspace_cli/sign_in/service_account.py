"""Service accounts, for programs: of this machine, of a key file, or by impersonation.

The credentials are Google's "Application Default Credentials". On a machine of Google Cloud these
are the metadata server's. The audience was fixed at login.
"""

from __future__ import annotations

from typing import Any

from workspace_cli.config import SignIn
from workspace_cli.errors import SignInError
from workspace_cli.sign_in import gcloud
from workspace_cli.sign_in.tokens import Minted, checked
from workspace_cli.text import one_line

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def mint(sign_in: SignIn) -> Minted:
    """Return a token of the service account for the audience.

    With ``sign_in.account`` that account is impersonated, by the default credentials, or by gcloud
    if there are none.

    Raises:
        SignInError: there are no credentials, or they do not suffice.
    """
    import google.auth.exceptions  # noqa: PLC0415  # 0.2 s
    from google.auth.transport.requests import Request  # noqa: PLC0415

    try:
        credentials = _credentials(sign_in)
        if credentials is None:
            return gcloud.mint(sign_in)
        credentials.refresh(Request())
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        raise SignInError(
            f"the service account gives no token: {one_line(error)}",
            hint="see docs/command.md, and `gcloud auth application-default login --help`",
        ) from None
    return Minted(checked(str(credentials.token), "the service account"))


def _credentials(sign_in: SignIn) -> Any:
    import google.auth  # noqa: PLC0415
    from google.auth import impersonated_credentials  # noqa: PLC0415
    from google.auth.transport.requests import Request  # noqa: PLC0415
    from google.oauth2 import id_token  # noqa: PLC0415

    if not sign_in.account:
        return id_token.fetch_id_token_credentials(  # type: ignore[no-untyped-call]
            sign_in.audience, request=Request()
        )
    try:
        source, _ = google.auth.default(scopes=[_SCOPE])
    except google.auth.exceptions.DefaultCredentialsError:
        return None
    target = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
        source_credentials=source, target_principal=sign_in.account, target_scopes=[_SCOPE]
    )
    return impersonated_credentials.IDTokenCredentials(  # type: ignore[no-untyped-call]
        target, target_audience=sign_in.audience, include_email=True
    )
