"""The local cloud's command line: `python -m localcloud run|token|fault|logs|reset|status`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from localcloud.command_line.terminal import shown
from localcloud.command_line.trace import trace
from localcloud.processes.children import LocalCloudError
from localcloud.processes.state_file import DEFAULT_STATE_FILE, NoCloudError, log_files
from localcloud.running_cloud import RunningCloud
from localcloud.services.compute.faults import FAULTS
from shared.config import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.settings import LocalSettings

_DEFAULT_PORT: Final = 8080
_FOLLOW_POLL_SECONDS: Final = 0.2
_USAGE_ERROR: Final = 2
_STDIN: Final = 0
_HELP_WIDTH: Final = 76


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 for what failed, 2 for what cannot be asked."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (LocalCloudError, ConfigurationError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except NoCloudError as error:
        print(error, file=sys.stderr)
        return _USAGE_ERROR
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read, as `head` does, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud", description="The Workspace Hub on one machine."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--state",
        type=Path,
        default=DEFAULT_STATE_FILE,
        metavar="FILE",
        help="where the running cloud is written down",
    )

    run = commands.add_parser(
        "run", parents=[common], help="start everything and stay until Ctrl-C"
    )
    run.set_defaults(command=_run)
    run.add_argument(
        "--port", type=int, default=_DEFAULT_PORT, help="the public port; 0 picks a free one"
    )
    run.add_argument(
        "--times", choices=("shown", "fast", "real"), default="shown", help="how long Compute takes"
    )
    run.add_argument(
        "--set",
        dest="overrides",
        type=_override,
        action="append",
        default=[],
        metavar="HUB_NAME=VALUE",
        help="a setting of the Hub that is to differ; may be repeated",
    )
    run.add_argument(
        "--schedule-seconds",
        type=float,
        default=5.0,
        help="pause between two calls of a scheduled function; 0: never",
    )
    run.add_argument(
        "--heartbeat-seconds",
        type=int,
        help="how often a machine in use reports: HUB_HEARTBEAT_SECONDS",
    )
    run.add_argument(
        "--write-requests", action="store_true", help="write down what is asked and answered"
    )
    run.add_argument(
        "--python-path",
        type=Path,
        metavar="FOLDER",
        help="where the functions' Pythons look before anywhere else",
    )
    run.add_argument("--attached", action="store_true", help="end when standard input ends, too")

    token = commands.add_parser("token", parents=[common], help="print an ID token")
    token.set_defaults(command=_token)
    token.add_argument("--email", required=True, help="whose; anybody's")
    token.add_argument("--admin", action="store_true", help="make them an administrator first")

    fault = commands.add_parser(
        "fault",
        parents=[common],
        help="switch a fault on or off",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults of Compute Engine:\n"
        + "\n".join(_described(fault.name, fault.does) for fault in FAULTS.values()),
    )
    fault.set_defaults(command=_fault)
    fault.add_argument(
        "name",
        metavar="NAME",
        help="one of those below, or of delivery; a wrong name lists them all",
    )
    fault.add_argument("--count", type=int, help="how often it strikes; for ever by default")
    fault.add_argument("--zone", help="where it strikes; everywhere by default")
    fault.add_argument("--instance", help="which machine it strikes, by name; all by default")
    fault.add_argument(
        "--method",
        help="which call it strikes, for example instances.insert; all that it can by default",
    )
    fault.add_argument("--off", action="store_true", help="switch it off")

    logs = commands.add_parser("logs", parents=[common], help="print what was logged")
    logs.set_defaults(command=_logs)
    logs.add_argument(
        "name",
        nargs="?",
        metavar="FUNCTION",
        help="also firestore, pubsub or cloud; all by default",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")

    story = commands.add_parser(
        "trace", parents=[common], help="tell the story of a workspace, from all logs"
    )
    story.set_defaults(command=_trace)
    story.add_argument("workspace_id", metavar="WORKSPACE_ID", help="its id, also when it is gone")

    reset = commands.add_parser(
        "reset", parents=[common], help="no records, tasks, machines and faults any more"
    )
    reset.set_defaults(command=_reset)

    status = commands.add_parser("status", parents=[common], help="say what runs where")
    status.set_defaults(command=_status)
    return parser


def _described(name: str, does: str) -> str:
    first, *more = textwrap.wrap(does, _HELP_WIDTH)
    return "\n".join([f"  {name:20} {first}", *(f"{'':22} {line}" for line in more)])


def _override(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.startswith("HUB_"):
        raise argparse.ArgumentTypeError(f"{text!r} is not HUB_NAME=VALUE")
    return name, value


def _run(options: argparse.Namespace) -> int:
    from localcloud.settings import LocalSettings  # noqa: PLC0415  # what the other commands need not wait for

    settings = LocalSettings(
        times=options.times,
        overrides=dict(options.overrides),
        schedule_seconds=options.schedule_seconds,
        heartbeat_seconds=options.heartbeat_seconds,
        write_requests=options.write_requests,
        python_path=options.python_path,
    )
    asyncio.run(
        _serve(settings, port=options.port, state_file=options.state, attached=options.attached)
    )
    return 0


async def _serve(settings: LocalSettings, *, port: int, state_file: Path, attached: bool) -> None:
    """Run a local cloud until a signal, or the end of standard input, says that it is enough."""
    began = time.monotonic()
    from localcloud.processes.supervisor import Supervisor  # noqa: PLC0415  # see above

    loop = asyncio.get_running_loop()
    supervisor = Supervisor(settings, port=port, state_file=state_file, began=began)
    serving = asyncio.create_task(supervisor.run(_say_ready))
    enough = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, enough.set)
    if attached:
        loop.add_reader(_STDIN, _end_with_stdin, enough)
    waiting = asyncio.create_task(enough.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    if attached:
        loop.remove_reader(_STDIN)
    waiting.cancel()
    serving.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        print("The local cloud has ended.")


def _end_with_stdin(enough: asyncio.Event) -> None:
    if not os.read(_STDIN, 1024):
        enough.set()


def _say_ready(state: dict[str, Any]) -> None:
    url = f"{state['address']}/workspaces"
    newest = f"$(curl -sS {url} | grep -o 'workspace-[0-9a-f-]\\{{36\\}}' | head -n 1 | cut -c 11-)"
    print(
        f"The local cloud is ready after {state['ready_seconds']:.1f} s: {state['address']}\n\n"
        f"""  curl -sS {url} -H 'Content-Type: application/json' -d '{{"name": "first"}}'\n"""
        f"  curl -sS {url}\n"
        f"""  curl -sS "{url}/{newest}/status"\n\n"""
        "Ctrl-C ends it.",
        flush=True,
    )


def _token(options: argparse.Namespace) -> int:
    cloud = RunningCloud(options.state)
    if options.admin:
        cloud.make_admin(options.email)
    print(cloud.token(options.email))
    return 0


def _trace(options: argparse.Namespace) -> int:
    lines = trace(RunningCloud(options.state).state, options.workspace_id)
    print("\n".join(lines) if lines else f"Nothing was logged about {options.workspace_id}.")
    return 0 if lines else 1


def _fault(options: argparse.Namespace) -> int:
    cloud = RunningCloud(options.state)
    chosen = {name: getattr(options, name) for name in ("count", "zone", "instance", "method")}
    faults = cloud.fault(options.name, off=options.off, **chosen)
    _print_faults(faults)
    return 0


def _print_faults(faults: list[dict[str, Any]]) -> None:
    for fault in faults:
        where = ", ".join(
            f"{key} {fault[key]}"
            for key in ("count", "zone", "method", "instance")
            if fault.get(key)
        )
        print(shown(f"{fault['name']} is on{f' ({where})' if where else ''}: {fault['does']}"))
    if not faults:
        print("No fault is on.")


def _logs(options: argparse.Namespace) -> int:
    files = log_files(RunningCloud(options.state).state)
    if options.name is not None:
        if options.name not in files:
            raise ValueError(
                f"Nothing here is called {options.name}. There are: {', '.join(files)}."
            )
        files = {options.name: files[options.name]}
    width = max(map(len, files)) if len(files) > 1 else 0
    with contextlib.ExitStack() as stack:
        logs = [
            _Log(stack.enter_context(path.open("rb")), f"{name:{width}} | " if width else "")
            for name, path in files.items()
        ]
        while True:
            for log in logs:
                log.print_new_lines(unfinished=not options.follow)
            if not options.follow:
                return 0
            time.sleep(_FOLLOW_POLL_SECONDS)


class _Log:
    """A log that is printed while it is written. Only a line feed ends a line of it, whatever else a terminal takes for an end."""

    def __init__(self, file: IO[bytes], prefix: str) -> None:
        self._file = file
        self._prefix = prefix
        self._begun = b""

    def print_new_lines(self, *, unfinished: bool) -> None:
        """Print what was written since the last time; a line that has no end yet only if `unfinished`."""
        for piece in self._file:
            self._begun += piece
            if piece.endswith(b"\n"):
                self._print()
        if unfinished and self._begun:
            self._print()

    def _print(self) -> None:
        line = self._begun.decode("utf-8", errors="replace").removesuffix("\n").removesuffix("\r")
        self._begun = b""
        print(self._prefix + shown(line), flush=True)


def _reset(options: argparse.Namespace) -> int:
    RunningCloud(options.state).reset()
    return 0


def _status(options: argparse.Namespace) -> int:
    cloud = RunningCloud(options.state)
    state = cloud.state
    rows = [("address", state["address"], state["pid"])]
    rows += [(name, address, "") for name, address in state["services"].items()]
    rows += [
        (name, function["url"], function["pid"]) for name, function in state["functions"].items()
    ]
    for name, url, pid in rows:
        print(f"{name:22} {url:26} {pid}".rstrip())
    _print_faults(cloud.faults())
    return 0


if __name__ == "__main__":
    sys.exit(main())
