"""A registry of container images, read-only, with one image that runs and keeps running."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = "workspace"
_LATE_SECONDS = 3
_CHUNK_BYTES = 1024 * 1024
_DOCKER = "application/vnd.docker"
_APPLETS = (
    *(
        "sh",
        "cat",
        "echo",
        "env",
        "id",
        "ls",
        "mkdir",
        "mount",
        "mv",
        "nc",
        "rm",
        "setsid",
        "sleep",
        "stat",
    ),
    *("touch", "tty", "wc"),
)
# sftp-server and scp need a name for their user.
_PASSWD = b"root:x:0:0::/:/bin/sh\ndev:x:1000:1000::/home/workspace:/bin/sh\n"
# The beginning of a program for another processor: ELF, 64 bits, AArch64.
_FOREIGN_PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00\x01" + bytes(43)


@dataclass(frozen=True)
class BuiltImage:
    """An image of one layer that was built elsewhere.

    Attributes:
        layer: the file system, as an uncompressed tar.
        digest: of the layer.
        config: what the image says of its container: user, command and the like, as Docker's image
            configuration has it.
    """

    layer: Path
    digest: str
    config: Mapping[str, Any]


class Images:
    """The images of the registry: manifests by tag and blobs by digest."""

    def __init__(self, busybox: Path, programs: Mapping[str, Path] = MappingProxyType({})) -> None:
        """Make the images, each with a busybox and these programs, by their paths.

        The container of ``latest`` keeps running, that of ``restless`` ends at once, that of
        ``fickle`` after two seconds. ``foreign`` is for another processor, and ``empty`` lacks its
        command. ``denied`` is denied to everybody, and ``late`` until some seconds after the first
        request.
        """
        self.blobs: dict[str, bytes | Path] = {}
        self.manifests: dict[str, bytes] = {}
        layer = self._layer({"/bin/busybox": busybox, **programs})
        self._tag(
            "latest", layer, ["/bin/sh", "-c", "touch /home/workspace/started; exec sleep 86400"]
        )
        self._tag("late", layer, ["/bin/sh", "-c", "exec sleep 86400"])
        self._late_from: float | None = None
        self._tag("restless", layer, ["/bin/sh", "-c", "exit 3"])
        self._tag("fickle", layer, ["/bin/sh", "-c", "sleep 2; exit 4"])
        self._tag("empty", layer, ["/bin/nothing"])
        self._tag("foreign", layer, ["/bin/foreign"], architecture="arm64")

    def add(self, tag: str, image: BuiltImage) -> None:
        """Add an image. Its layer is read from its file whenever somebody pulls it."""
        self.blobs[image.digest] = image.layer
        layer = {
            "mediaType": f"{_DOCKER}.image.rootfs.diff.tar",
            "size": image.layer.stat().st_size,
            "digest": image.digest,
        }
        self._describe(tag, image.config, image.digest, layer)

    def denies(self, path: str) -> bool:
        """Return whether the registry's answer for a path is a denial now."""
        if path.endswith("/manifests/late"):
            self._late_from = self._late_from or time.monotonic() + _LATE_SECONDS
            return time.monotonic() < self._late_from
        return path.endswith("/manifests/denied")

    def find(self, path: str) -> tuple[bytes | Path, str] | None:
        """Return the content and the media type of a path of the registry's API, or None."""
        parts = path.strip("/").split("/")
        if parts == ["v2"]:
            return b"{}", "application/json"
        if parts[:2] != ["v2", REPOSITORY] or len(parts) != 4:
            return None
        kind, reference = parts[2:]
        if kind == "manifests" and (manifest := self.manifests.get(reference)):
            return manifest, f"{_DOCKER}.distribution.manifest.v2+json"
        if kind == "blobs" and (blob := self.blobs.get(reference)):
            return blob, "application/octet-stream"
        return None

    def digest(self, tag: str) -> str:
        """Return the digest of an image."""
        return _digest(self.manifests[tag])

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return the class that handles requests."""
        images = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Answer with the content."""
                self._answer(with_body=True)

            def do_HEAD(self) -> None:
                """Answer with the content's headers."""
                self._answer(with_body=False)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

            def _refuse(self) -> None:
                content = b'{"errors": [{"code": "DENIED", "message": "Permission denied"}]}'
                self.send_response(403)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def _answer(self, *, with_body: bool) -> None:
                found = images.find(self.path)
                if images.denies(self.path):
                    self._refuse()
                    return
                unknown = (
                    b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
                )
                content, media_type = found or (unknown, "application/json")
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", media_type)
                if isinstance(content, Path):
                    self.send_header("Content-Length", str(content.stat().st_size))
                    self.end_headers()
                    if with_body:
                        with content.open("rb") as file:
                            shutil.copyfileobj(file, self.wfile, _CHUNK_BYTES)
                    return
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Docker-Content-Digest", _digest(content))
                self.end_headers()
                if with_body:
                    self.wfile.write(content)

        return Handler

    def _layer(self, programs: Mapping[str, Path]) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            contents = {
                path.lstrip("/"): program.read_bytes() for path, program in programs.items()
            }
            above = {str(folder) for name in contents for folder in PurePosixPath(name).parents} - {
                "."
            }
            for folder in sorted({"bin", "tmp", "etc", "home", "home/workspace", "run"} | above):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            contents |= {"bin/foreign": _FOREIGN_PROGRAM, "etc/passwd": _PASSWD}
            for name, content in contents.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                tar.addfile(entry, io.BytesIO(content))
            for applet in _APPLETS:
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        return packed.getvalue()

    def _tag(
        self, tag: str, layer: bytes, command: list[str], *, architecture: str = "amd64"
    ) -> None:
        squeezed = gzip.compress(layer, compresslevel=1, mtime=0)
        blob = self._blob(squeezed, f"{_DOCKER}.image.rootfs.diff.tar.gzip")
        config = {"Cmd": command, "Env": ["PATH=/bin:/usr/bin"]}
        self._describe(tag, config, _digest(layer), blob, architecture=architecture)

    def _describe(
        self,
        tag: str,
        config: Mapping[str, Any],
        diff_id: str,
        layer: dict[str, object],
        *,
        architecture: str = "amd64",
    ) -> None:
        described = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": dict(config),
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_DOCKER}.distribution.manifest.v2+json",
            "config": self._blob(described, f"{_DOCKER}.container.image.v1+json"),
            "layers": [layer],
        }
        content = json.dumps(manifest).encode()
        self.manifests |= {tag: content, _digest(content): content}

    def _blob(self, content: bytes, media_type: str) -> dict[str, object]:
        self.blobs[_digest(content)] = content
        return {"mediaType": media_type, "size": len(content), "digest": _digest(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
