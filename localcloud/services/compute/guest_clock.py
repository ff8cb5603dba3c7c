"""The time inside a machine, which stands still while the machine is frozen."""

from __future__ import annotations

import asyncio


class GuestClock:
    """The uptime of a guest, and waiting in guest time.

    Attributes:
        uptime: the seconds that the guest has waited since it was switched on.
    """

    def __init__(self) -> None:
        self.uptime = 0.0
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._frozen = asyncio.Event()

    @property
    def is_frozen(self) -> bool:
        """Whether the time stands still."""
        return self._frozen.is_set()

    def freeze(self) -> None:
        """Stop the time."""
        self._thawed.clear()
        self._frozen.set()

    def thaw(self) -> None:
        """Let the time go on."""
        self._frozen.clear()
        self._thawed.set()

    async def wait_until_thawed(self) -> None:
        """Wait until the machine is not frozen."""
        await self._thawed.wait()

    async def sleep(self, seconds: float) -> None:
        """Let guest time pass: time in which the machine is not frozen."""
        loop = asyncio.get_running_loop()
        while seconds > 0:
            await self._thawed.wait()
            began = loop.time()
            try:
                async with asyncio.timeout(seconds):
                    await self._frozen.wait()
            except TimeoutError:
                pass
            passed = loop.time() - began
            self.uptime += passed
            seconds -= passed
        await self._thawed.wait()

    async def sleep_until(self, uptime: float) -> None:
        """Let guest time pass until the guest has been up for this many seconds."""
        await self.sleep(uptime - self.uptime)
