"""The simulated guests: what a workspace's machine does once it is switched on, without a machine.

A guest knows nothing but what the real one knows: it reads its own metadata from the metadata
server over HTTP, fetches a fresh identity token for each attempt to report, and posts its reports
to the address that stands in its metadata. Only its serial console and the power switch are shared
with the local Compute Engine.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from localcloud.services.compute.resources import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localcloud.services.compute.resources import Instance

_LOG = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS: Final = 0.25
_LONGEST_RETRY_SECONDS: Final = 15.0
_GIVE_UP_AFTER_SECONDS: Final = 300.0
_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=10)
_REPORTS_KEPT: Final = 50
_ALL_REPORTS_KEPT: Final = 100_000

# What a booting machine prints, and how far it is then.
_BOOT_LOG: Final = (
    (0.0, "kernel: Linux version 6.6.72+ (builder@localhost) #1 SMP PREEMPT_DYNAMIC"),
    (
        0.0,
        "kernel: Command line: BOOT_IMAGE=/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd console=ttyS0",
    ),
    (0.1, "systemd[1]: Detected virtualization google."),
    (0.1, "systemd[1]: Hostname set to <{name}>."),
    (0.3, "systemd[1]: Reached target network-online.target - Network is Online."),
    (
        0.4,
        "cloud-init[611]: Cloud-init v. 23.4.4 running 'modules:config'. Datasource DataSourceGCELocal.",
    ),
    (0.6, "systemd[1]: Mounted mnt-disks-home.mount - Workspace home disk."),
    (0.7, "systemd[1]: Started docker.service - Docker Application Container Engine."),
    (0.8, "systemd[1]: Starting workspace.service - Workspace container..."),
)


class SimulatedGuests:
    """The guests of every machine of one local Compute Engine.

    It is told by the fleet when a machine is switched on, frozen, thawed and switched off (the
    `Guests` of `localcloud.services.compute.fleet`), and by a person or a test who is connected to which
    machine, and which one is kept awake.

    Attributes:
        reports: those of all guests, oldest first: `time` when it was sent, when it was `answered`
            (or given up), instance, event, generation, status.

    Args:
        metadata_url: where the metadata server is, e.g. `http://127.0.0.1:8000`; a guest finds
            itself there under `/machines/{numeric id}/computeMetadata/v1`.
    """

    def __init__(self, *, metadata_url: str) -> None:
        self._metadata_url = metadata_url
        self._session: aiohttp.ClientSession | None = None
        self._guests: dict[str, _Guest] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._connected: set[str] = set()
        self._kept_awake: set[str] = set()
        self.reports: deque[dict[str, Any]] = deque(maxlen=_ALL_REPORTS_KEPT)

    async def start(self) -> None:
        """Be ready for machines."""
        self._session = aiohttp.ClientSession(timeout=_HTTP_TIMEOUT)

    async def stop(self) -> None:
        """End every guest, whatever it is doing."""
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        self._guests.clear()
        self._connected.clear()
        self._kept_awake.clear()
        if self._session:
            await self._session.close()

    def booted(self, instance: Instance, *, boot_seconds: float, fault: str | None) -> None:
        """Begin a guest's life: it boots for `boot_seconds`, then reports.

        Args:
            instance: the machine underneath.
            boot_seconds: from the power switch to the first report.
            fault: one of `localcloud.services.compute.faults.GUEST_FAULTS`, or None.
        """
        if not self._session:
            raise RuntimeError("The machine runner is not started.")
        guest = _Guest(
            instance,
            metadata_url=f"{self._metadata_url}/machines/{instance.id}/computeMetadata/v1",
            session=self._session,
            boot_seconds=boot_seconds,
            fault=fault,
            all_reports=self.reports,
        )
        self._tell(instance, guest)
        self._guests[instance.id] = guest
        self._lives.add(guest.life)
        guest.life.add_done_callback(self._lives.discard)

    def frozen(self, instance: Instance) -> None:
        """Let the guest stand still, its timers too."""
        if guest := self._guests.get(instance.id):
            guest.freeze()

    def thawed(self, instance: Instance) -> None:
        """Let the guest go on where it stood still."""
        if guest := self._guests.get(instance.id):
            guest.thaw()

    def ended(self, instance: Instance) -> None:
        """End the guest; whoever was connected is not any more."""
        self._connected.discard(instance.id)
        if guest := self._guests.pop(instance.id, None):
            guest.life.cancel()

    def set_connected(self, instance: Instance, *, connected: bool) -> None:
        """Say whether someone is connected to the machine; before it has booted, this holds for its next boot."""
        (self._connected.add if connected else self._connected.discard)(instance.id)
        if guest := self._guests.get(instance.id):
            self._tell(instance, guest)

    def keep_awake(self, instance: Instance, *, awake: bool) -> None:
        """Say whether somebody keeps touching `~/.keep-awake` on the machine.

        As a file on the home disk it holds for later boots, too. The guest does not cap for how
        long.
        """
        (self._kept_awake.add if awake else self._kept_awake.discard)(instance.id)
        if guest := self._guests.get(instance.id):
            self._tell(instance, guest)

    def _tell(self, instance: Instance, guest: _Guest) -> None:
        connected, awake = instance.id in self._connected, instance.id in self._kept_awake
        guest.use("session" if connected else "keep_awake" if awake else None)

    def describe(self, instance: Instance) -> dict[str, Any]:
        """Return what the guest is doing.

        Returns:
            `guest`: `off`, `booting`, `silent` (its container never comes up), `reporting`, `up`,
            `over` (the Hub did not take its `ready`, so it says nothing more) or `failed`;
            `frozen`, `connected`, `keptAwake`; `reports`: the last 50 `{event, generation,
            status}`, `status` None where nobody answered.
        """
        guest = self._guests.get(instance.id)
        return {
            "guest": guest.phase if guest else "off",
            "frozen": bool(guest and guest.is_frozen),
            "connected": instance.id in self._connected,
            "keptAwake": instance.id in self._kept_awake,
            "reports": list(guest.reports) if guest else [],
        }


class _Guest:
    """One guest, from power-on to power-off: a task, and a clock that stands still while the machine is frozen."""

    def __init__(
        self,
        instance: Instance,
        *,
        metadata_url: str,
        session: aiohttp.ClientSession,
        boot_seconds: float,
        fault: str | None,
        all_reports: deque[dict[str, Any]],
    ) -> None:
        self.phase = "booting"
        self._all_reports = all_reports
        self.reports: deque[dict[str, Any]] = deque(maxlen=_REPORTS_KEPT)
        self._instance = instance
        self._metadata_url = metadata_url
        self._session = session
        self._boot_seconds = boot_seconds
        self._fault = fault
        self._uptime = 0.0
        self._awake = asyncio.Event()
        self._awake.set()
        self._asleep = asyncio.Event()
        self._because: str | None = None
        self._in_use = asyncio.Event()
        self.life = asyncio.get_running_loop().create_task(self._live())
        self.life.add_done_callback(self._died)

    @property
    def is_frozen(self) -> bool:
        return self._asleep.is_set()

    def freeze(self) -> None:
        self._awake.clear()
        self._asleep.set()

    def thaw(self) -> None:
        self._asleep.clear()
        self._awake.set()

    def use(self, because: str | None) -> None:
        """Say why the machine is in use, in the words of a heartbeat; None when it is not."""
        self._because = because
        (self._in_use.set if because else self._in_use.clear)()

    def _died(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.phase = "failed"
            _LOG.error("the guest of %s broke down", self._instance.name, exc_info=error)

    async def _live(self) -> None:
        self._instance.serial.clear()
        for share, line in _BOOT_LOG:
            await self._sleep(share * self._boot_seconds - self._uptime)
            self._print(line.format(name=self._instance.name))
        if self._fault == "never_ready":
            self.phase = "silent"
            self._print("workspace[702]: waiting for the container to answer on port 8080")
            return
        await self._sleep(self._boot_seconds - self._uptime)
        hub = await self._hub()
        if not hub:
            self.phase = "up"
            return
        if not any(disk["deviceName"] == "home" for disk in self._instance.resource["disks"]):
            await self._fail(
                hub,
                "DISK_MISSING",
                "The home disk is not attached to the machine. Start the workspace again.",
            )
            return
        if self._fault == "fails_at_boot":
            await self._fail(
                hub,
                "IMAGE_PULL_FAILED",
                "The image could not be pulled: manifest unknown. Start the workspace with an image that exists.",
            )
            return
        self._print("systemd[1]: Started workspace.service - Workspace container.")
        self.phase = "reporting"
        if not await self._report(hub, "ready"):
            self.phase = "over"
            return
        self.phase = "up"
        if self._fault == "fails_later":
            await self._sleep(self._boot_seconds)
            await self._fail(
                hub,
                "CONTAINER_ENDS",
                "The container keeps ending. Start the workspace with another image.",
            )
            return
        while True:
            await self._in_use.wait()
            await self._report(hub, "heartbeat", because=self._because)
            await self._sleep(float(hub["hub-heartbeat-seconds"]))

    async def _fail(self, hub: dict[str, str], code: str, message: str) -> None:
        self.phase = "failed"
        self._print(f"workspace[702]: {message}")
        self._print("systemd[1]: workspace.service: Failed with result 'exit-code'.")
        await self._report(hub, "failed", code=code, message=message)

    async def _hub(self) -> dict[str, str] | None:
        """Read where to report, as whom and how often from this machine's own metadata; None where nothing says so.

        As the real scripts do, it is read at the boot: what is changed later holds from the next
        boot on.
        """
        names = (
            "hub-reports-url",
            "hub-audience",
            "hub-workspace-id",
            "hub-generation",
            "hub-heartbeat-seconds",
        )
        found = {name: await self._read_metadata(f"instance/attributes/{name}") for name in names}
        if missing := [name for name, value in found.items() if value is None]:
            self._print(
                f"workspace-report[733]: no {', '.join(missing)} in the metadata: nothing to report to"
            )
            return None
        self._print(
            f"workspace-report[733]: this is the machine of workspace {found['hub-workspace-id']}"
        )
        return {name: value or "" for name, value in found.items()}

    async def _read_metadata(self, path: str, **query: str) -> str | None:
        """Return what the metadata server says, or None where it has no such thing; it is asked until it answers."""
        for delay in retry_delays():
            status, text = await self._exchange("GET", f"{self._metadata_url}/{path}", params=query)
            if status == 200:
                return text
            if not may_try_again(status):
                return None
            await self._sleep(delay)
        return None

    async def _report(self, hub: dict[str, str], event: str, **more: str | None) -> bool:
        """Tell the Hub, again and again until it answers with something definite or the patience is used up.

        Returns:
            Whether the Hub took it.
        """
        generation = int(hub["hub-generation"])
        sender = "workspace-report[733]"
        for delay in retry_delays():
            token = await self._read_metadata(
                "instance/service-accounts/default/identity",
                audience=hub["hub-audience"],
                format="full",
            )
            if token is None:
                self._print(f"{sender}: the metadata server gives no identity token")
                return False
            sent_at = timestamp(datetime.now(UTC))
            status, _ = await self._exchange(
                "POST",
                hub["hub-reports-url"],
                json={"event": event, "generation": generation, **more},
                headers={"Authorization": f"Bearer {token}"},
            )
            report = {"event": event, "generation": generation, "status": status}
            self.reports.append(report)
            answered_at = timestamp(datetime.now(UTC))
            self._all_reports.append(
                {
                    "time": sent_at,
                    "answered": answered_at,
                    "instance": self._instance.name,
                    **report,
                }
            )
            answer = f"was answered {status}" if status else "was not answered"
            if not may_try_again(status):
                self._print(f"{sender}: the {event} report of generation {generation} {answer}")
                return status is not None and 200 <= status < 300
            self._print(
                f"{sender}: the {event} report of generation {generation} {answer}; again in {delay:.1f} s"
            )
            await self._sleep(delay)
        self._print(f"{sender}: giving up the {event} report of generation {generation}")
        return False

    async def _exchange(self, method: str, url: str, **options: Any) -> tuple[int | None, str]:
        """Make one request; a frozen machine neither sends one nor sees its answer before it thaws.

        Returns:
            The status, None where nobody answered, and the body.
        """
        await self._awake.wait()
        headers = {"Metadata-Flavor": "Google"} if method == "GET" else {}
        headers |= options.pop("headers", {})
        try:
            async with self._session.request(
                method, url, headers=headers, allow_redirects=False, **options
            ) as answer:
                result: tuple[int | None, str] = answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            result = None, ""
        await self._awake.wait()
        return result

    async def _sleep(self, seconds: float) -> None:
        """Let guest time pass: time during which the machine is not frozen."""
        loop = asyncio.get_running_loop()
        while seconds > 0:
            await self._awake.wait()
            began = loop.time()
            try:
                async with asyncio.timeout(seconds):
                    await self._asleep.wait()
            except TimeoutError:
                pass
            passed = loop.time() - began
            self._uptime += passed
            seconds -= passed
        await self._awake.wait()

    def _print(self, line: str) -> None:
        self._instance.serial.write(f"[{self._uptime:12.6f}] {line}\r\n")


def may_try_again(status: int | None) -> bool:
    """Return whether a request that came to this may come to something else later: no answer, 429, 5xx."""
    return status is None or status == 429 or status >= 500


def retry_delays() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt: doubling, capped, with jitter, for five minutes in all."""
    delay, total = _FIRST_RETRY_SECONDS, 0.0
    while total < _GIVE_UP_AFTER_SECONDS:
        jittered = delay * random.uniform(0.5, 1.0)  # noqa: S311  # spreads the attempts; nothing secret depends on it
        total += jittered
        yield jittered
        delay = min(delay * 2, _LONGEST_RETRY_SECONDS)
