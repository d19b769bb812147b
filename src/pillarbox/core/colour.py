"""Colours that stay readable: the arithmetic of WCAG 2.2 on `#rrggbb`."""

import re

WHITE = "#ffffff"
BLACK = "#000000"
TEXT_RATIO = 4.5
"""The contrast that text needs (WCAG 2.2, success criterion 1.4.3, level AA)."""
GRAPHIC_RATIO = 3.0
"""The contrast that a border, an icon or a focus ring needs (WCAG 2.2, success criterion 1.4.11)."""

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def channels(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue (0 to 255) of `#rrggbb`; raises ValueError for anything else."""
    if not _HEX.fullmatch(colour):
        raise ValueError(f"not a colour as #rrggbb: {colour!r}")
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def luminance(colour: str) -> float:
    """Return the relative luminance, 0 (black) to 1 (white), as WCAG 2.2 defines it."""
    red, green, blue = (_linear(channel / 255) for channel in channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21, whichever comes first."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def mix(one: str, other: str, *, share: float) -> str:
    """Return `one` with this share (0 to 1) of `other` stirred in."""
    pairs = zip(channels(one), channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def ink_on(background: str) -> str:
    """Return white or black, whichever text reads on this background at 4.5 or more; white where both do.

    One of them always does: the worst grey still gives 4.58 with the better of the two.
    """
    return WHITE if contrast(WHITE, background) >= TEXT_RATIO else BLACK


def readable_on(colour: str, background: str, *, ratio: float = TEXT_RATIO) -> str:
    """Return the colour, moved towards black or white no further than it takes to reach the ratio.

    `ratio` is at most 4.5, which every background can give.
    """
    ends = (BLACK, WHITE) if luminance(background) > luminance(colour) else (WHITE, BLACK)
    end = next(end for end in ends if contrast(end, background) >= ratio)
    shades = (mix(colour, end, share=step / 50) for step in range(51))
    return next(shade for shade in shades if contrast(shade, background) >= ratio)
