"""The command line of the local cloud: ``python -m localcloud COMMAND``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from localcloud.command_line.logs import print_logs
from localcloud.command_line.options import add_emulators_option
from localcloud.command_line.run import run
from localcloud.command_line.terminal import escape
from localcloud.command_line.trace import trace
from localcloud.processes.children import LocalCloudError
from localcloud.processes.state_file import DEFAULT_STATE_FILE, NoCloudError
from localcloud.running_cloud import RunningCloud
from localcloud.services.compute.faults import FAULTS
from shared.config import ConfigurationError

_DEFAULT_PORT = 8080
_USAGE_ERROR = 2
_HELP_WIDTH = 76


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 for a failure, 2 for a usage error."""
    options = _Parsers().parser.parse_args(arguments)
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
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


class _Parsers:
    """The parser of the command line, with one of its own for each command."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(
            prog="python -m localcloud", description="The Workspace Hub on one machine."
        )
        self._commands = self.parser.add_subparsers(required=True, metavar="COMMAND")
        self._common = argparse.ArgumentParser(add_help=False)
        self._common.add_argument(
            "--state",
            type=Path,
            default=DEFAULT_STATE_FILE,
            metavar="FILE",
            help="the state file of the running cloud",
        )
        self._add_run()
        self._add_token()
        self._add_fault()
        self._add_logs()
        self._add_trace()
        self._add("reset", _reset, "delete all records, tasks, machines and faults")
        self._add("status", _status, "say what runs where")

    def _add(
        self,
        name: str,
        command: Callable[[argparse.Namespace], int],
        description: str,
        **options: Any,
    ) -> argparse.ArgumentParser:
        parser = self._commands.add_parser(
            name, parents=[self._common], help=description, **options
        )
        parser.set_defaults(command=command)
        return parser

    def _add_run(self) -> None:
        parser = self._add("run", run, "start everything and stay until Ctrl-C")
        parser.add_argument(
            "--port", type=int, default=_DEFAULT_PORT, help="the public port; 0 picks a free one"
        )
        parser.add_argument(
            "--times",
            choices=("shown", "fast", "real"),
            default="shown",
            help="how long Compute takes",
        )
        add_emulators_option(parser)
        parser.add_argument(
            "--warm",
            action="store_true",
            help="start all functions at once, not each at its first request",
        )
        parser.add_argument(
            "--set",
            dest="overrides",
            type=_override,
            action="append",
            default=[],
            metavar="HUB_NAME=VALUE",
            help="a setting of the Hub to override; may be repeated",
        )
        parser.add_argument(
            "--schedule-seconds",
            type=float,
            default=5.0,
            help="pause between two calls of a scheduled function; 0: never",
        )
        parser.add_argument(
            "--heartbeat-seconds",
            type=int,
            help="how often a machine in use reports: HUB_HEARTBEAT_SECONDS",
        )
        parser.add_argument(
            "--write-requests", action="store_true", help="write requests and answers to a file"
        )
        parser.add_argument(
            "--python-path",
            type=Path,
            metavar="FOLDER",
            help="where the functions' Pythons look before anywhere else",
        )
        parser.add_argument(
            "--attached", action="store_true", help="also end when standard input ends"
        )

    def _add_token(self) -> None:
        parser = self._add("token", _token, "print an ID token")
        parser.add_argument("--email", required=True, help="of any person")
        parser.add_argument("--admin", action="store_true", help="make them an administrator first")

    def _add_fault(self) -> None:
        faults = "\n".join(_describe(fault.name, fault.does) for fault in FAULTS.values())
        parser = self._add(
            "fault",
            _fault,
            "switch a fault on or off",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=f"faults of Compute Engine:\n{faults}",
        )
        parser.add_argument(
            "name",
            metavar="NAME",
            help="one of those below, or of delivery; a wrong name lists them all",
        )
        parser.add_argument("--count", type=int, help="how often it strikes; always by default")
        parser.add_argument("--zone", help="where it strikes; everywhere by default")
        parser.add_argument("--instance", help="which machine it strikes, by name; all by default")
        parser.add_argument(
            "--method",
            help="which call it strikes, for example instances.insert; by default all it can",
        )
        parser.add_argument("--off", action="store_true", help="switch it off")

    def _add_logs(self) -> None:
        parser = self._add("logs", print_logs, "print what was logged")
        parser.add_argument(
            "name",
            nargs="?",
            metavar="FUNCTION",
            help="also firestore, pubsub or cloud; all by default",
        )
        parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")

    def _add_trace(self) -> None:
        parser = self._add("trace", _trace, "print the story of a workspace, from all logs")
        parser.add_argument(
            "workspace_id", metavar="WORKSPACE_ID", help="its id, even if it no longer exists"
        )


def _describe(name: str, does: str) -> str:
    first, *more = textwrap.wrap(does, _HELP_WIDTH)
    return "\n".join([f"  {name:20} {first}", *(f"{'':22} {line}" for line in more)])


def _override(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.startswith("HUB_"):
        raise argparse.ArgumentTypeError(f"{text!r} is not HUB_NAME=VALUE")
    return name, value


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
    _print_faults(cloud.fault(options.name, off=options.off, **chosen))
    return 0


def _print_faults(faults: list[dict[str, Any]]) -> None:
    for fault in faults:
        where = ", ".join(
            f"{key} {fault[key]}"
            for key in ("count", "zone", "method", "instance")
            if fault.get(key)
        )
        print(escape(f"{fault['name']} is on{f' ({where})' if where else ''}: {fault['does']}"))
    if not faults:
        print("No fault is on.")


def _reset(options: argparse.Namespace) -> int:
    RunningCloud(options.state).reset()
    return 0


def _status(options: argparse.Namespace) -> int:
    cloud = RunningCloud(options.state)
    state = cloud.state
    rows = [("address", state["address"], state["pid"])]
    rows += [(name, address, "") for name, address in state["services"].items()]
    rows += [
        (name, function["url"], function["pid"] or "not started")
        for name, function in state["functions"].items()
    ]
    for name, url, pid in rows:
        print(f"{name:22} {url:26} {pid}".rstrip())
    _print_faults(cloud.faults())
    return 0
