"""One simulated guest, from power-on to power-off.

A guest knows only what the real machine knows. It reads its own metadata from the metadata server
over HTTP, gets a new identity token for each attempt to report, and posts its reports to the
address in its metadata. It shares only its serial console and the power switch with the local
Compute Engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from localcloud.services.compute.fault_kinds import GuestFault
from localcloud.services.compute.guest_clock import GuestClock
from localcloud.services.compute.resources import Instance, timestamp
from localcloud.services.compute.retries import may_try_again, retry_delays

_LOG = logging.getLogger(__name__)

_REPORTS_KEPT = 50
_SENDER = "workspace-report[733]"
_HUB_ATTRIBUTES = (
    "hub-reports-url",
    "hub-audience",
    "hub-workspace-id",
    "hub-generation",
    "hub-heartbeat-seconds",
)
_DISK_MISSING = (
    "DISK_MISSING",
    "The home disk is not attached to the machine. Start the workspace again.",
)

# What a booting machine prints, and after which share of its boot.
_BOOT_LOG = (
    (0.0, "kernel: Linux version 6.6.72+ (builder@localhost) #1 SMP PREEMPT_DYNAMIC"),
    (
        0.0,
        (
            "kernel: Command line: BOOT_IMAGE=/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd "
            "console=ttyS0"
        ),
    ),
    (0.1, "systemd[1]: Detected virtualization google."),
    (0.1, "systemd[1]: Hostname set to <{name}>."),
    (0.3, "systemd[1]: Reached target network-online.target - Network is Online."),
    (
        0.4,
        (
            "cloud-init[611]: Cloud-init v. 23.4.4 running 'modules:config'. "
            "Datasource DataSourceGCELocal."
        ),
    ),
    (0.6, "systemd[1]: Mounted mnt-disks-home.mount - Workspace home disk."),
    (0.7, "systemd[1]: Started docker.service - Docker Application Container Engine."),
    (0.8, "systemd[1]: Starting workspace.service - Workspace container..."),
)


@dataclass(frozen=True, kw_only=True)
class Boot:
    """How a guest boots: how long it takes, and what goes wrong, if something does."""

    seconds: float
    fault: GuestFault | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """One attempt to report to the Hub; ``status`` is None if nobody answered."""

    event: str
    generation: int
    status: int | None
    sent_at: str
    answered_at: str

    def summary(self) -> dict[str, Any]:
        """Return the report without its times."""
        return {"event": self.event, "generation": self.generation, "status": self.status}


@dataclass(frozen=True, kw_only=True)
class GuestEvents:
    """Whom a guest tells what.

    Attributes:
        came_up: is called when the machine has booted, before it says so to the Hub. It returns the
            machine's SSH host key, None if nobody can enter it.
        reported: is called after each attempt to report.
    """

    came_up: Callable[[Instance], str | None]
    reported: Callable[[Instance, Report], None]


class Guest:
    """One guest.

    Args:
        instance: the machine.
        boot: how it boots.
        metadata_url: its own metadata, a URL without a slash at the end.
        session: for its requests.
        events: whom it tells what.

    Attributes:
        phase: see ``SimulatedGuests.describe``.
        reports: the last ones, oldest first.
        life: the task in which it runs.
    """

    def __init__(
        self,
        instance: Instance,
        *,
        boot: Boot,
        metadata_url: str,
        session: aiohttp.ClientSession,
        events: GuestEvents,
    ) -> None:
        self.phase = "booting"
        self.reports: deque[Report] = deque(maxlen=_REPORTS_KEPT)
        self._instance = instance
        self._boot = boot
        self._metadata_url = metadata_url
        self._session = session
        self._events = events
        self._clock = GuestClock()
        self._use: str | None = None
        self._last_use: str | None = None
        self._in_use = asyncio.Event()
        self.life = asyncio.get_running_loop().create_task(self._live())
        self.life.add_done_callback(self._log_crash)

    @property
    def is_frozen(self) -> bool:
        """Whether the machine is frozen."""
        return self._clock.is_frozen

    def freeze(self) -> None:
        """Let everything stand still."""
        self._clock.freeze()

    def thaw(self) -> None:
        """Let everything go on."""
        self._clock.thaw()

    def set_use(self, use: str | None) -> None:
        """Set why the machine is in use, in the words of a heartbeat; None if it is not."""
        self._use = use
        self._last_use = use or self._last_use
        (self._in_use.set if use else self._in_use.clear)()

    def _log_crash(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.phase = "failed"
            _LOG.error("the guest of %s crashed", self._instance.name, exc_info=error)

    async def _live(self) -> None:
        fault = self._boot.fault
        await self._print_boot_log()
        if fault and not fault.becomes_ready and not fault.failure:
            self.phase = "silent"
            self._print("workspace[702]: waiting for the container to answer on port 8080")
            return
        await self._clock.sleep_until(self._boot.seconds)
        hub = await self._read_hub()
        if not hub:
            self.phase = "up"
            return
        if not self._instance.disk_called("home"):
            await self._fail(hub, *_DISK_MISSING)
            return
        if fault and not fault.becomes_ready and fault.failure:
            await self._fail(hub, *fault.failure)
            return
        self._print("systemd[1]: Started workspace.service - Workspace container.")
        self.phase = "reporting"
        if not await self._report_ready(hub, self._events.came_up(self._instance)):
            self.phase = "over"
            return
        self.phase = "up"
        if fault and fault.failure:
            await self._clock.sleep(self._boot.seconds)
            await self._fail(hub, *fault.failure)
            return
        await self._send_heartbeats(hub)

    async def _report_ready(self, hub: dict[str, str], host_key: str | None) -> bool:
        """Report that the machine is ready, and return whether the Hub accepted it.

        As the real script does, it leaves the host key out for a Hub that does not know the field.
        """
        if host_key is None:
            return await self._report(hub, "ready")
        if await self._report(hub, "ready", host_key=host_key):
            return True
        is_unknown = bool(self.reports) and self.reports[-1].status == 400
        return is_unknown and await self._report(hub, "ready")

    async def _print_boot_log(self) -> None:
        self._instance.serial.clear()
        for share, line in _BOOT_LOG:
            await self._clock.sleep_until(share * self._boot.seconds)
            self._print(line.format(name=self._instance.name))

    async def _send_heartbeats(self, hub: dict[str, str]) -> None:
        while True:
            await self._in_use.wait()
            # A use counts even if it is over by now.
            await self._report(hub, "heartbeat", because=self._use or self._last_use)
            await self._clock.sleep(float(hub["hub-heartbeat-seconds"]))

    async def _fail(self, hub: dict[str, str], code: str, message: str) -> None:
        self.phase = "failed"
        self._print(f"workspace[702]: {message}")
        self._print("systemd[1]: workspace.service: Failed with result 'exit-code'.")
        await self._report(hub, "failed", code=code, message=message)

    async def _read_hub(self) -> dict[str, str] | None:
        """Read where, as whom and how often to report; None if the metadata does not say so.

        The real scripts read this at the boot too: later changes apply from the next boot.
        """
        found = {
            name: await self._read_metadata(f"instance/attributes/{name}")
            for name in _HUB_ATTRIBUTES
        }
        if missing := [name for name, value in found.items() if value is None]:
            self._print(f"{_SENDER}: no {', '.join(missing)} in the metadata: nothing to report to")
            return None
        self._print(f"{_SENDER}: this is the machine of workspace {found['hub-workspace-id']}")
        return {name: value or "" for name, value in found.items()}

    async def _read_metadata(self, path: str, **query: str) -> str | None:
        """Return a metadata value, or None if there is none. Asks until the server answers."""
        for delay in retry_delays():
            status, text = await self._request("GET", f"{self._metadata_url}/{path}", params=query)
            if status == 200:
                return text
            if not may_try_again(status):
                return None
            await self._clock.sleep(delay)
        return None

    async def _report(self, hub: dict[str, str], event: str, **more: str | None) -> bool:
        """Report to the Hub until it gives a final answer, or until it is time to give up.

        Returns:
            Whether the Hub accepted the report.
        """
        title = f"the {event} report of generation {hub['hub-generation']}"
        for delay in retry_delays():
            token = await self._read_metadata(
                "instance/service-accounts/default/identity",
                audience=hub["hub-audience"],
                format="full",
            )
            if token is None:
                self._print(f"{_SENDER}: the metadata server gives no identity token")
                return False
            status = await self._send_report(hub, token, event, more)
            answer = f"was answered {status}" if status else "was not answered"
            if not may_try_again(status):
                self._print(f"{_SENDER}: {title} {answer}")
                return status is not None and 200 <= status < 300
            self._print(f"{_SENDER}: {title} {answer}; again in {delay:.1f} s")
            await self._clock.sleep(delay)
        self._print(f"{_SENDER}: giving up {title}")
        return False

    async def _send_report(
        self, hub: dict[str, str], token: str, event: str, more: dict[str, str | None]
    ) -> int | None:
        """Send a report once; return the status of the answer, or None without an answer."""
        generation = int(hub["hub-generation"])
        sent_at = timestamp(datetime.now(UTC))
        status, _ = await self._request(
            "POST",
            hub["hub-reports-url"],
            json={"event": event, "generation": generation, **more},
            headers={"Authorization": f"Bearer {token}"},
        )
        report = Report(
            event=event,
            generation=generation,
            status=status,
            sent_at=sent_at,
            answered_at=timestamp(datetime.now(UTC)),
        )
        self.reports.append(report)
        self._events.reported(self._instance, report)
        return status

    async def _request(self, method: str, url: str, **options: Any) -> tuple[int | None, str]:
        """Make one request. A frozen machine neither sends it nor sees its answer until it thaws.

        Returns:
            The status, None if nobody answered, and the body.
        """
        await self._clock.wait_until_thawed()
        headers = {"Metadata-Flavor": "Google"} if method == "GET" else {}
        headers |= options.pop("headers", {})
        try:
            async with self._session.request(
                method, url, headers=headers, allow_redirects=False, **options
            ) as answer:
                result: tuple[int | None, str] = answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            result = None, ""
        await self._clock.wait_until_thawed()
        return result

    def _print(self, line: str) -> None:
        self._instance.serial.write(f"[{self._clock.uptime:12.6f}] {line}\r\n")
