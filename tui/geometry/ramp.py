"""Colours of cells: one ramp for what only grows, one of two arms for what lies on both sides of a centre.

Steps are even in Oklab (Ottosson, 2020): neighbours differ by the same, and the
first ramp rises in lightness all along, so that it can be read in any kind of
colour blindness and in shades of grey. The digit in a cell says the same.
"""

from __future__ import annotations

import math
from functools import lru_cache

from rich.style import Style

RAMP = (
    "#1d1147", "#2d266b", "#344186", "#2f6094", "#2c7e94", "#349a8f", "#49b484", "#81ca74", "#badc6d", "#f3eb72",
)  # fmt: skip
BELOW = (
    "#30343b", "#2e435b", "#27517d", "#22609b", "#2b73b2", "#3587c9", "#409ce0", "#63aee8", "#83c1f0", "#a1d3f8",
    "#bfe6ff",
)  # fmt: skip
ABOVE = (
    "#30343b", "#513a35", "#713e2c", "#91401c", "#a85221", "#c06525", "#d87829", "#eb8e39", "#f3a958", "#fac474",
    "#ffdf8f",
)  # fmt: skip
_LIGHT, _DARK = "#ffffff", "#101010"


def ground_of(tone: float, *, diverging: bool) -> str:
    """The colour of a tone: 0 to 1 along the ramp, or −1 to 1 along the two arms."""
    if not diverging:
        return RAMP[round(tone * (len(RAMP) - 1))]
    arm = ABOVE if tone >= 0 else BELOW
    return arm[min(len(arm) - 1, math.ceil(abs(tone) * (len(arm) - 1)))]


@lru_cache(256)
def cell_style(tone: float, *, diverging: bool) -> Style:
    """Ground of a tone, and black or white ink, whichever is read better on it."""
    ground = ground_of(tone, diverging=diverging)
    return Style(color=ink_on(ground), bgcolor=ground)


def ink_on(ground: str) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2.1)."""
    light = luminance(ground)
    return _DARK if (light + 0.05) / (luminance(_DARK) + 0.05) > 1.05 / (light + 0.05) else _LIGHT


def luminance(colour: str) -> float:
    """Relative luminance of a colour written ``#rrggbb``, 0 to 1 (WCAG 2.1)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
