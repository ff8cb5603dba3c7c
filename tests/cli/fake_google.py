"""Google, as the command meets it on its way out: a proxy that answers in the place of its hosts.

The command is told of it by ``HTTPS_PROXY`` and ``REQUESTS_CA_BUNDLE``, as of a company's proxy. So
all that it would have sent to Google arrives here, and it has no branch for tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOSTS = ("oauth2.googleapis.com", "accounts.google.com", "iamcredentials.googleapis.com")

# Stands for the person's browser, and for Google's page in it: keeps the address that it is to
# open, and goes to the one that Google would send it back to.
BROWSER = """#!{python}
import json, sys, time, urllib.error, urllib.parse, urllib.request
from pathlib import Path
url = sys.argv[1]
Path({record!r}).write_text(url)
query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
for params in json.loads({answers!r}):
    if params.get("state") == "STATE":
        time.sleep(0.5)  # a person takes their time
        params["state"] = query["state"]
    back = query["redirect_uri"] + "?" + urllib.parse.urlencode(params)
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(back, timeout=10)
    except urllib.error.HTTPError:
        pass
"""


@dataclass
class Call:
    """A request to Google: host, path, form or JSON object, and authorization."""

    host: str
    path: str
    body: Mapping[str, Any]
    authorization: str | None


def id_token(audience: str, email: str = "alice@example.com", *, seconds: float = 3600) -> str:
    """Return an ID token as the command reads it; nobody has signed it."""
    now = int(time.time())
    claims = {"aud": audience, "email": email, "iat": now, "exp": now + seconds, "sub": "1"}
    parts = [{"alg": "RS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in parts]
    return f"{encoded[0].decode()}.{encoded[1].decode()}.c2lnbmF0dXJl"


def challenge_of(verifier: str) -> str:
    """Return PKCE's challenge of a verifier (RFC 7636, S256)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class FakeGoogle(ThreadingHTTPServer):
    """The proxy, on a free port; a context.

    Attributes:
        answers: returns status and JSON for a call.
        calls: all calls, oldest first.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Callable[[Call], tuple[int, Any]] = lambda _: (404, {})
        self.calls: list[Call] = []
        self.authority = folder / "authority.pem"
        self.tls = _context(folder, self.authority)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What leads the command here."""
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self.server_port}",
            "REQUESTS_CA_BUNDLE": str(self.authority),
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeGoogle
    timeout = 30

    def do_CONNECT(self) -> None:
        """Answer what comes through the tunnel, instead of the host that it is for."""
        host = self.path.partition(":")[0]
        if host not in HOSTS:
            self.send_error(403)
            return
        self.send_response_only(200)
        self.end_headers()
        self.wfile.flush()
        with self.server.tls.wrap_socket(self.connection, server_side=True) as tunnel:
            _Inside(tunnel, self.client_address, self.server, host)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Write nothing."""


class _Inside(BaseHTTPRequestHandler):
    def __init__(self, tunnel: socket.socket, address: Any, google: FakeGoogle, host: str) -> None:
        self._google = google
        self._host = host
        super().__init__(tunnel, address, google)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if "json" in self.headers.get("Content-Type", ""):
            body = json.loads(content)
        else:
            body = {name: values[0] for name, values in parse_qs(content).items()}
        path = urlsplit(self.path).path
        call = Call(self._host, path, body, self.headers.get("Authorization"))
        self._google.calls.append(call)
        status, value = self._google.answers(call)
        answer = json.dumps(value).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Write nothing."""


def _context(folder: Path, authority: Path) -> ssl.SSLContext:
    """Return TLS with a certificate for all hosts, and write that of its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's authority")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    own = folder / "key.pem"
    own.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, own)
    return context
