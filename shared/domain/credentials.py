"""Whether a text holds credentials, as people paste them with the URL of a repository.

A text that does must never be logged, and never be repeated to anybody.
"""

import re
from urllib.parse import parse_qsl, unquote

# Over SSH a bare user name is not a secret: keys are. Over everything else it may be a token
# (https://<token>@host).
_SSH = {"ssh", "git+ssh", "ssh+git", "svn+ssh", "bzr+ssh", "sftp", "rsync"}
_URL = re.compile(r"(?:([a-z][a-z0-9+.-]*):|(?<![^\s=])(?=//))[/\\]+([^/\\?#\s]*)", re.IGNORECASE)
_WITHOUT_SCHEME = re.compile(r"\s*[^/\\@:\s]*:[^/\\@\s]+@[^@\s]")
_PARAMETERS = re.compile(r"[?#&;]([^?#\s]*)")
_PARAMETER_ENDS = (
    "token", "secret", "password", "passwd", "passphrase", "pwd", "apikey", "accesskey",
    "privatekey", "signature", "credential", "credentials", "authorization",
)  # fmt: skip
_PARAMETER_NAMES = {"auth", "bearer", "jwt", "key", "pass", "sig", "userpass"}
# source: GitHub's and GitLab's documentation of the formats of their tokens
_KNOWN_TOKEN = re.compile(
    r"\b(?:gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|gl[a-z]{2,5}-[\w-]{16,})"
)


def holds_credentials(text: str) -> bool:
    """Say whether a URL in the text has a password, a token, or a user name that may be one.

    ``ssh://git@host/path`` and ``git@host:path`` have none. ``https://name@host`` may have one,
    since the name may be a token, and counts. So does a parameter whose name says that its value is
    a secret (``?access_token=…``), and a token of GitHub or GitLab anywhere in the text.
    Percent-encoding is undone first, twice.
    """
    once = unquote(text)
    return any(_in_plain(plain) for plain in {text, once, unquote(once)})


def holds_credentials_without_scheme(text: str) -> bool:
    """Say whether a text that should be a URL begins with ``name:password@host`` and no scheme."""
    return any(_WITHOUT_SCHEME.match(plain) for plain in (text, unquote(text)))


def _in_plain(text: str) -> bool:
    return (
        any(
            _in_authority(scheme.lower(), authority, text)
            for scheme, authority in _URL.findall(text)
        )
        or any(_in_parameters(found) for found in _PARAMETERS.findall(text))
        or _KNOWN_TOKEN.search(text) is not None
    )


def _in_authority(scheme: str, authority: str, text: str) -> bool:
    userinfo, at, _ = authority.rpartition("@")
    if not at:
        # A password with a slash in it: the authority ends within the password, where a port would
        # be.
        _, colon, port = re.sub(r"\[.*\]", "", authority).partition(":")
        return bool(colon and port and not port.isdigit()) and "@" in text
    name, _, password = userinfo.partition(":")
    return bool(password) if scheme in _SSH else bool(name or password)


def _in_parameters(text: str) -> bool:
    return any(
        _names_a_secret(name) for part in re.split("[&;]", text) for name, _ in parse_qsl(part)
    )


def _names_a_secret(name: str) -> bool:
    letters = re.sub(r"[^a-z]", "", name.lower())
    return letters in _PARAMETER_NAMES or letters.endswith(_PARAMETER_ENDS)
