"""The windows in which the page is looked at: three sizes, light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Neither UTC nor this machine's: the page shows times in the reader's own zone.
ZONE = "America/New_York"


@dataclass(frozen=True, kw_only=True)
class Look:
    """A window: its name, its size in pixels, and whether the person likes it dark."""

    name: str
    width: int
    height: int
    dark: bool = False

    @property
    def is_between(self) -> bool:
        """Whether it is neither small nor large: it shows nothing that the others do not."""
        return self.name.startswith("tablet")

    def context(self) -> dict[str, Any]:
        """Return what Playwright's ``new_context`` takes."""
        return {
            "viewport": {"width": self.width, "height": self.height},
            "color_scheme": "dark" if self.dark else "light",
            "locale": "en-GB",
            "timezone_id": ZONE,
            # Pictures of something that moves are never the same.
            "reduced_motion": "reduce",
        }


SIZES = (("phone", 320, 640), ("tablet", 820, 1100), ("wide", 1280, 800))
LOOKS = tuple(
    Look(name=f"{name}-{'dark' if dark else 'light'}", width=width, height=height, dark=dark)
    for name, width, height in SIZES
    for dark in (False, True)
)
PHONE = next(look for look in LOOKS if look.name == "phone-light")
WIDE = next(look for look in LOOKS if look.name == "wide-light")
