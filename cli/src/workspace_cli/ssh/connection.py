"""How a machine is reached: the Hub's ``connection``, checked field by field.

A Hub is not trusted more than it must be. Every field has a strict pattern, and nothing that passes
can begin with ``-`` or mean something to a shell, to ``ssh_config`` or to gcloud. What decides whom
a person talks to (kind, port, bastion, user) is what they have agreed to, see
``workspace_cli.connection``.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workspace_cli.config import Connect
from workspace_cli.connection import USER
from workspace_cli.errors import NotUnderstoodError
from workspace_cli.text import one_line

# https://cloud.google.com/resource-manager/docs/creating-managing-projects: 6 to 30 characters; an
# old one may have its domain in front.
_PROJECT = re.compile(r"(?:[a-z][a-z0-9.-]{0,100}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_ZONE = re.compile(r"[a-z]{1,20}(?:-[a-z0-9]{1,20}){1,4}")
# RFC 1035, https://cloud.google.com/compute/docs/naming-resources
_INSTANCE = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_INSTANCE_ID = re.compile(r"[0-9]{1,20}")  # 64 bits
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_JUMP = re.compile(rf"(?:({USER.pattern})@)?({_LABEL}(?:\.{_LABEL})*)(?::([0-9]{{1,5}}))?")
_HOST_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]{16,1000}={0,2})"
)
_PROFILE_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # made of an e-mail address
_ACCESS = ("granted", "pending", "refused")


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A bastion that connections go through; None: as the person's own configuration has it."""

    host: str
    port: int | None = None
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A machine, and the way to it. Every text has passed its pattern.

    Attributes:
        kind: ``iap`` (through Identity-Aware Proxy) or ``direct``.
        project_id, zone, instance_name: the instance.
        instance_id: its number; None if the Hub does not know it (yet).
        host: its address, of ``direct``; None while the machine has none.
        port: of ``direct``.
        jump: the bastion, of ``direct``.
        user: the user name there; None: the name in the person's OS Login profile.
        host_key: ``ssh-ed25519 AAAA…``, as the machine has reported it; None: not known.
        access: ``granted``, ``pending`` or ``refused``: whether the owner may enter the instance.
        why: why they may not, safe to show.
    """

    kind: str
    project_id: str
    zone: str
    instance_name: str
    instance_id: str | None = None
    host: str | None = None
    port: int = 22
    jump: Jump | None = None
    user: str | None = None
    host_key: str | None = None
    access: str = "granted"
    why: str | None = None

    @property
    def alias(self) -> str:
        """The name under which the machine's host key is kept: a new machine has another one."""
        return f"instance-{self.instance_id or self.instance_name}"


def read_connection(value: object, agreed: Connect, *, local: bool) -> Connection:
    """Return the ``connection`` that a Hub has answered.

    Args:
        value: what the Hub has sent. Unknown members are ignored. A Hub before 0.2 sends only
            project, zone and instance, which means ``iap``.
        agreed: the way in it, which the person has agreed to.
        local: whether it is a local cloud: only its machines are on this computer.

    Raises:
        NotUnderstoodError: a field is not of its form.
    """
    if not isinstance(value, Mapping):
        raise _wrong("connection", value)
    access = value.get("access")
    if not isinstance(access, Mapping):
        access = {}
    is_direct = agreed.kind == "direct"
    return Connection(
        kind=agreed.kind,
        project_id=_text(value, "project_id", _PROJECT),
        zone=_text(value, "zone", _ZONE),
        instance_name=_text(value, "instance_name", _INSTANCE),
        instance_id=_text_or_none(value, "instance_id", _INSTANCE_ID),
        host=_host(value.get("host"), local=local) if is_direct else None,
        port=agreed.port if is_direct else 22,
        jump=_jump(agreed.jump) if is_direct and agreed.jump else None,
        user=agreed.user,
        host_key=_host_key(value.get("host_key")),
        access=_one_of(access.get("state", "granted"), _ACCESS),
        why=one_line(access["why"]) if isinstance(access.get("why"), str) else None,
    )


def check_user(value: object) -> str:
    """Return a user name of an OS Login profile.

    Raises:
        NotUnderstoodError: it is none.
    """
    return _text({"user": value}, "user", _PROFILE_USER)


def check_project(value: object) -> str:
    """Return the id of a project.

    Raises:
        NotUnderstoodError: it is none.
    """
    return _text({"project_id": value}, "project_id", _PROJECT)


def _text(value: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    given = value.get(name)
    if not isinstance(given, str) or not pattern.fullmatch(given):
        raise _wrong(name, given)
    return given


def _text_or_none(value: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str | None:
    return None if value.get(name) is None else _text(value, name, pattern)


def _one_of(given: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(given, str) or given not in allowed:
        raise _wrong("access", given)
    return given


def _host(given: object, *, local: bool) -> str | None:
    """Check the address of a machine.

    Loopback, link-local and the like are refused, except for a local cloud, which has nothing but
    loopback: a Hub must not make this command talk to the person's own computer.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        raise _wrong("host", given)
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        last = given.lower().rpartition(".")[2]
        # What ends in a number may be an address in another spelling, as 127.1 and 0x7f000001 are.
        is_name = _HOST_NAME.fullmatch(given) and last[0].isalpha() and last != "localhost"
        if local or not is_name:
            raise _wrong("host", given) from None
        return given
    mapped = getattr(address, "ipv4_mapped", None) or address
    is_odd = mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified
    if is_odd or mapped.is_loopback != local or "%" in given:
        raise _wrong("host", given)
    return str(address)


def _jump(given: str) -> Jump:
    found = _JUMP.fullmatch(given)
    port = int(found[3]) if found and found[3] else None
    if found is None or not 1 <= (port or 22) <= 65535:
        raise _wrong("jump", given)
    return Jump(host=found[2], port=port, user=found[1])


def _host_key(given: object) -> str | None:
    """Check a host key: its type stands in front, and again inside (RFC 4253, 6.6)."""
    if given is None:
        return None
    found = _HOST_KEY.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise _wrong("host_key", given)
    kind = found[1].encode()
    try:
        content = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        raise _wrong("host_key", given) from None
    if not content.startswith(len(kind).to_bytes(4, "big") + kind):
        raise _wrong("host_key", given)
    return found[0]


def _wrong(name: str, given: object) -> NotUnderstoodError:
    return NotUnderstoodError(
        f"the Hub says something of its machine that cannot be: {name} is {one_line(given, 80)!r}",
        hint="nothing was done with it; tell whoever runs the Hub",
    )
