"""How numbers are said: shares in percent, counts with their interval, p-values."""

import math
from collections.abc import Sequence

from pipeline.measurement.intervals import exact_interval


def percent(share: float) -> str:
    """A share in [0, 1] as percent; only what is exactly all or nothing reads `100%` or `0%`."""
    if math.isnan(share):
        return "–"
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    for decimals in (1, 2, 3):
        text = f"{share:.{decimals}%}"
        if float(text[:-1]) not in (0.0, 100.0):
            return text
    return "<0.001%" if share < 0.5 else ">99.999%"


def points(difference: float) -> str:
    """A difference of two shares, in percentage points with its sign."""
    return f"{100 * difference:+.2f}".replace("-", "−") if difference else "0"


def p_value(p: float) -> str:
    """A p-value as `p = 0.031`."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def interval(low: float, high: float) -> str:
    """An interval of a share as percent, with as many decimals as its width deserves."""
    decimals = 0 if high - low >= 0.1 else 1 if high - low >= 0.01 else 2
    return f"{low:.{decimals}%} to {high:.{decimals}%}"


def count(successes: int, trials: int) -> str:
    """`2 of 3 (95% interval 9% to 99%)`, the interval exact (Clopper-Pearson)."""
    return f"{successes} of {trials} (95% interval {interval(*exact_interval(successes, trials))})"


def listed(items: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {last} ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def plural(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
