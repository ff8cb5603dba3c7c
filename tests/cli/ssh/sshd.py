"""An SSH server for one test, run as a program: it prints its port, and ends with its input.

As OpenSSH's server it only closes a command's pipes when the connection is lost, and kills nothing:
what ends then has seen to it itself. Its only argument is a folder, in which are:

    host_key    its private key
    keys        the public keys that may log in, one in a line; read at each login
    denials     how many logins to refuse first, counted down; optional
    logins      is written: the user name of each login
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import asyncssh

FOLDER = Path(sys.argv[1])


class Login(asyncssh.SSHServer):
    """Lets in the keys of the folder, and forwards to loopback."""

    def begin_auth(self, username: str) -> bool:
        """Ask everybody for a key."""
        self._username = username
        denials = FOLDER / "denials"
        self._is_denied = denials.exists() and int(denials.read_text()) > 0
        if self._is_denied:
            denials.write_text(str(int(denials.read_text()) - 1))
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are the only proof."""
        return True

    def validate_public_key(self, _username: str, key: asyncssh.SSHKey) -> bool:
        """Accept the keys of the folder."""
        given = " ".join(key.export_public_key().decode().split()[:2])
        return not self._is_denied and given in (FOLDER / "keys").read_text().splitlines()

    def auth_completed(self) -> None:
        """Write down who it is."""
        with (FOLDER / "logins").open("a") as file:
            file.write(f"{self._username}\n")

    def connection_requested(self, *_: Any) -> bool:
        """Forward everything."""
        return True


class Files(asyncssh.SFTPServer):
    """Serves files, and says at its end that all went well, as OpenSSH's does: scp looks at it."""

    def exit(self) -> None:
        """Say so."""
        self.channel.exit(0)


async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run a command with pipes, or with a terminal."""
    command = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
    own = {"HOME": str(FOLDER), "TMPDIR": str(FOLDER), "SSH_AUTH_SOCK": ""}
    environment = {**os.environ, **own}
    if agent := process.channel.get_agent_path():
        environment["SSH_AUTH_SOCK"] = agent
    if process.term_type is None:
        await _with_pipes(process, command, environment)
        return
    outer, inner = os.openpty()
    child = await asyncio.create_subprocess_exec(
        "setsid", "--ctty", "--wait", *command,
        stdin=inner, stdout=inner, stderr=inner, env=environment, cwd=FOLDER,
    )  # fmt: skip
    os.close(inner)
    await process.redirect(stdin=os.dup(outer), stdout=outer, send_eof=False)
    process.exit(_code(await child.wait()))


async def _with_pipes(
    process: asyncssh.SSHServerProcess[bytes], command: list[str], environment: dict[str, str]
) -> None:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe,
        env=environment, cwd=FOLDER, start_new_session=True,
    )  # fmt: skip
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    closed = asyncio.ensure_future(process.channel.wait_closed())
    ended = asyncio.ensure_future(child.wait())
    await asyncio.wait([closed, ended], return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        await process.stdout.drain()
        process.exit(_code(ended.result()))
    elif child.stdin is not None:
        child.stdin.close()
        await ended


def _code(code: int) -> int:
    return 128 - code if code < 0 else code


async def main() -> None:
    """Serve until the input ends."""
    server = await asyncssh.create_server(
        Login,
        "127.0.0.1",
        0,
        server_host_keys=[str(FOLDER / "host_key")],
        process_factory=serve,
        sftp_factory=Files,
        encoding=None,
        line_editor=False,
    )
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  # what the test reads
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(0, over.set)
    await over.wait()
    os._exit(0)


if __name__ == "__main__":
    os.chdir(FOLDER)
    asyncio.run(main())
