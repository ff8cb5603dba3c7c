"""The page that the Hub serves: `shared/page/`, read once, named by its content, and compressed.

The page needs no build step. Its modules import each other by bare specifiers (``page/app.js``, and
``lit`` for lit-html), and the import map in ``index.html`` leads each of them to a name that has
the hash of its content. So an asset never changes, and browsers keep it for ever. During a
deployment a page may ask a revision that has other assets: those are 404, and
``shared/page/inline/reload.js`` loads the page again.
"""

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path

import brotli
from flask import Request
from werkzeug.exceptions import NotFound

from shared.entry.conditional import is_known
from shared.entry.http import Answer

FOLDER = Path(__file__).resolve().parent.parent / "page"
SIGN_IN = "google-sign-in"  # the one asset without a hash: an address that Google's console names
# Google's library, and what it loads. Source: "Content Security Policy" in the setup guide of Sign
# in with Google for Web.
GOOGLE = "https://accounts.google.com/gsi"
# A window keeps its opener only if both have this policy, and the opener may then open Google's.
# Source: HTML, "cross-origin opener policies".
OPENER = {"Cross-Origin-Opener-Policy": "same-origin-allow-popups"}

_KEPT_FOR_EVER = "public, max-age=31536000, immutable"
_ASKED_EACH_TIME = "no-cache"
_HASH_DIGITS = 12
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_LIT = "lit-html.js"
# Comments that have their lines to themselves. They are a fifth of what would be sent. A licence's,
# which begins with ``/*!``, stays.
_COMMENTS = re.compile(r"^[ \t]*/\*(?!!).*?\*/[ \t]*\n|^[ \t]*//[^\n]*\n", re.MULTILINE | re.DOTALL)
# Compressed they are another fortieth.
_INDENTATION = re.compile(r"^[ \t]+|^\n", re.MULTILINE)


# How each encoding compresses, the smallest first. Browsers take Brotli at HTTPS and at localhost.
# Its best quality costs 5 ms a file, and makes the page a seventh smaller than gzip does.
ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "br": lambda content: bytes(brotli.compress(content, mode=brotli.MODE_TEXT, quality=11)),
    "gzip": lambda content: gzip.compress(content, mtime=0),
}


@dataclass(frozen=True, slots=True)
class Document:
    """A file as it is answered.

    Attributes:
        content: the file.
        headers: all that do not depend on the request.
    """

    content: bytes
    headers: Mapping[str, str]

    def packed(self, encoding: str) -> bytes:
        """Return the file in one of ``ENCODINGS``. It is compressed at the first call."""
        return _packed(self.content, encoding)

    def answer(self, request: Request, headers: Mapping[str, str]) -> Answer:
        """Answer with it, as small as the client takes it, or 304 if the client has it.

        ``headers`` are added to its own.
        """
        accepted = request.accept_encodings
        encoding = next((each for each in ENCODINGS if accepted.quality(each) > 0), None)
        # A strong ETag stands for the bytes, which differ by their encoding (RFC 9110, 8.8.3.3).
        tag = f'"{_digest(self.content)}{f"-{encoding}" if encoding else ""}"'
        all_headers = {**self.headers, **headers, "ETag": tag, "Vary": "Accept-Encoding"}
        if is_known(request.headers.get("If-None-Match"), tag):
            return Answer(304, None, all_headers)
        if encoding is None:
            return Answer(200, self.content, all_headers)
        return Answer(200, self.packed(encoding), {**all_headers, "Content-Encoding": encoding})


@dataclass(frozen=True, slots=True)
class Page:
    """All of it: ``GET /``, and what ``GET /assets/{name}`` answers by name."""

    index: Document
    assets: Mapping[str, Document]

    def answer(self, request: Request, name: str | None, *, opens_google: bool) -> Answer:
        """Answer with the page itself (``name`` is None), or with an asset.

        ``opens_google``: the page opens the sign-in document. Behind Identity-Aware Proxy it opens
        the proxy's window instead, and an opener policy would cut it off from that.

        Raises:
            NotFound: there is no such asset, or not any more.
        """
        if name is None:
            return self.index.answer(request, OPENER if opens_google else {})
        asset = self.assets.get(name)
        if asset is None:
            raise NotFound("There is no such asset, or no longer: load the page again.")
        return asset.answer(request, {})


@cache
def page() -> Page:
    """Return the page of the deployed files. It is read at the first call."""
    return read_page(FOLDER)


def read_page(folder: Path) -> Page:
    """Read a page from a folder of its shape.

    Raises:
        FileNotFoundError, KeyError: a part of it is missing.
    """
    files = {path.name: _content(path) for path in sorted(folder.iterdir()) if path.is_file()}
    index = files.pop("index.html").decode()
    hashed = {name: _hashed_name(name, content) for name, content in files.items()}
    assets = {
        hashed[name]: _document(name, content, {"Cache-Control": _KEPT_FOR_EVER})
        for name, content in files.items()
    }
    return Page(
        index=_index(index, _content(folder / "inline/reload.js").decode(), hashed),
        assets=assets | {SIGN_IN: _sign_in_document(folder / "google")},
    )


def as_sent(text: str) -> str:
    """Return JavaScript or CSS without indentation, empty lines, and lines that are comments.

    A template literal must have no line that looks like a comment, and none whose indentation
    matters: HTML's does not.
    """
    return _INDENTATION.sub("", _COMMENTS.sub("", text))


def _content(path: Path) -> bytes:
    if path.suffix in {".css", ".js"} and path.name != _LIT:
        return as_sent(path.read_text("utf-8")).encode()
    return path.read_bytes()


def _index(template: str, reload: str, hashed: Mapping[str, str]) -> Document:
    """Return the page's HTML with its assets where the template says ``<!-- assets -->``.

    The order matters: whoever is loaded first notices what is missing, and the import map must come
    before every module.
    """
    modules = {name: url for name, url in hashed.items() if name.endswith(".js")}
    specifiers = {"lit" if name == _LIT else f"page/{name}": name for name in modules}
    import_map = json.dumps(
        {"imports": {each: f"/assets/{hashed[name]}" for each, name in specifiers.items()}},
        separators=(",", ":"),
    )
    # The sheet with the tokens and the layout comes first; those of single views refine it.
    sheets = sorted((name for name in hashed if name.endswith(".css")), key=_after_styles)
    lines = [
        f"<script>{reload}</script>",
        f'<script type="importmap">{import_map}</script>',
        *(f'<link rel="stylesheet" href="/assets/{hashed[name]}">' for name in sheets),
        *(f'<link rel="modulepreload" href="/assets/{url}">' for url in modules.values()),
        f'<script type="module" src="/assets/{hashed["main.js"]}"></script>',
    ]
    before, marker, after = template.partition("<!-- assets -->")
    if not marker:
        raise KeyError("index.html has no <!-- assets -->")
    policy = _policy(
        script_src=["'self'", _source(reload), _source(import_map)],
        style_src=["'self'"],
        img_src=["'self'", "data:"],
        connect_src=["'self'"],
        require_trusted_types_for=["'script'"],
        trusted_types=["lit-html"],
    )
    headers = {"Cache-Control": _ASKED_EACH_TIME, "Content-Security-Policy": policy}
    return _document("index.html", (before + "\n".join(lines) + after).encode(), headers)


def _sign_in_document(folder: Path) -> Document:
    """Return the document that signs people in with Google: it alone may load Google's library."""
    script = (folder / "sign-in.js").read_text("utf-8")
    style = (folder / "sign-in.css").read_text("utf-8")
    content = (
        (folder / "sign-in.html")
        .read_text("utf-8")
        .replace("<!-- style -->", f"<style>{style}</style>")
        .replace("<!-- script -->", f"<script>{script}</script>")
        .replace("<!-- library -->", f'<script async src="{escape(GOOGLE)}/client"></script>')
    )
    policy = _policy(
        script_src=[f"{GOOGLE}/client", _source(script)],
        style_src=[f"{GOOGLE}/style", _source(style)],
        frame_src=[f"{GOOGLE}/"],
        connect_src=["'self'", f"{GOOGLE}/"],
    )
    headers = {
        "Cache-Control": _ASKED_EACH_TIME,
        "Content-Security-Policy": policy,
        # Google's library reads at which origin it runs.
        "Referrer-Policy": "strict-origin-when-cross-origin",
        **OPENER,
    }
    return _document("sign-in.html", content.encode(), headers)


def _policy(**sources: Iterable[str]) -> str:
    """Return a Content-Security-Policy that forbids all but what is named."""
    allowed = [f"{name.replace('_', '-')} {' '.join(each)}" for name, each in sources.items()]
    nowhere = ["form-action 'none'", "base-uri 'none'", "frame-ancestors 'none'"]
    return "; ".join(["default-src 'none'", *allowed, *nowhere])


def _source(inline: str) -> str:
    """Return the policy's source of exactly this inline script or style."""
    return f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"


def _document(name: str, content: bytes, headers: Mapping[str, str]) -> Document:
    content_type = _TYPES[Path(name).suffix]
    return Document(content, {"Content-Type": content_type, **headers})


@cache
def _packed(content: bytes, encoding: str) -> bytes:
    return ENCODINGS[encoding](content)


def _hashed_name(name: str, content: bytes) -> str:
    path = Path(name)
    return f"{path.stem}.{_digest(content)}{path.suffix}"


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:_HASH_DIGITS]


def _after_styles(name: str) -> tuple[bool, str]:
    return name != "styles.css", name
