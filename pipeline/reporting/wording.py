"""Numbers as text: a value by its unit, with a typographic minus sign."""

import math
from collections.abc import Callable
from typing import Literal

Unit = Literal["runs", "share", "points", "steps", "count", "number", "ratio", "p", "bits", "flops"]
"""Units of estimates. `runs`: a share of the runs, written as `k of n`; `points`: percentage points of a share."""


def percent(share: float, *, decimals: int = 1) -> str:
    """Return a share as percent, with more decimals if needed: only exactly 0 and 1 become `0%` and `100%`."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    for more_decimals in range(decimals, 4):
        text = f"{share:.{more_decimals}%}"
        if float(text[:-1]) not in (0.0, 100.0):
            return text
    return "<0.001%" if share < 0.5 else ">99.999%"


def share_interval(low: float, high: float) -> str:
    """Return the interval of a share in percent, with the more decimals the narrower it is; empty if both are equal."""
    decimals = 0 if high - low >= 0.1 else 1 if high - low >= 0.01 else 2
    return f"{percent(low, decimals=decimals)} to {percent(high, decimals=decimals)}" if low != high else ""


def _format_flops(flops: float) -> str:
    from matplotlib.ticker import EngFormatter  # slow to import

    return EngFormatter(unit="FLOP", places=1)(flops)


FORMATS: dict[Unit, Callable[[float], str]] = {
    "runs": percent,
    "share": percent,
    "points": lambda points: f"{100 * points:.1f}",
    "steps": lambda steps: f"{steps:,.0f}",
    "count": lambda count: f"{count:,.0f}",
    "number": lambda number: f"{number:.3g}",
    "ratio": lambda ratio: f"{ratio:.2f}",
    "p": lambda p: "< 0.0001" if p < 0.0001 else f"{p:.2g}",
    "bits": lambda bits: f"{bits:.3f}",
    "flops": _format_flops,
}
"""Unit -> function that writes a value. Differences are written in the unit of the values."""


def format_number(value: float, unit: Unit, *, signed: bool = False) -> str:
    """Return a value as text in the format of its unit; `–` for NaN. With `signed`, positive values get a plus sign."""
    if math.isnan(value):
        return "–"
    text = FORMATS[unit](value)
    is_zero = not any(digit in text for digit in "123456789")
    text = text.lstrip("-") if is_zero else text
    return ("+" if signed and value > 0 and not is_zero else "") + text.replace("-", "−").replace("e−", "e-")


def count_in_words(count: int, noun: str) -> str:
    """Format a count with its noun in singular or plural: `1 layer`, `2 layers`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
