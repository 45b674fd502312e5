"""Numbers as text: a value by its unit, an interval in one form, for sentences and for tables."""

import math
from collections.abc import Callable, Sequence

from pipeline.reporting.claims import Estimate, IntervalKind, Unit

MISSING_NUMBER = "–"
"""Text in place of a number that does not exist."""


def percent(share: float) -> str:
    """Return a share in [0, 1] as percent; only exactly 0 and 1 become `0%` and `100%`."""
    if math.isnan(share):
        return MISSING_NUMBER
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    for decimals in (1, 2, 3):
        text = f"{share:.{decimals}%}"
        if float(text[:-1]) not in (0.0, 100.0):
            return text
    return "<0.001%" if share < 0.5 else ">99.999%"


def _format_p_value(p_value: float) -> str:
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.2g}"


def _format_flops(flops: float) -> str:
    from matplotlib.ticker import EngFormatter  # slow to import

    return EngFormatter(unit="FLOP", places=1)(flops)


UNIT_FORMATTERS: dict[Unit, Callable[[float], str]] = {
    "share": percent,
    "points": lambda points: f"{100 * points:+.2f}" if points else "0",
    "steps": lambda steps: f"{steps:,.0f}",
    "more steps": lambda steps: f"{steps:+,.0f}" if round(steps) else "0",
    "more": lambda number: f"{number:+.2f}" if round(number, 2) else "0",
    "count": lambda count: f"{count:,.0f}",
    "number": lambda number: f"{number:.3g}",
    "ratio": lambda ratio: f"{ratio:.2f}",
    "p": _format_p_value,
    "logit": lambda change: f"{change:.2g}" if change >= 0.01 or not change else f"{change:.1e}",
    "flops": _format_flops,
    "bits": lambda bits: f"{bits:.3f}",
    "more bits": lambda bits: f"{bits:+.3f}" if round(bits, 3) else "0",
}
INTERVAL_NAMES: dict[IntervalKind, str] = {
    "Clopper-Pearson 95%": "95% interval ",
    "t 95%": "95% interval ",
    "Fieller 95%": "95% interval ",
    "minimum to maximum": "range ",
}


def format_number(value: float, unit: Unit) -> str:
    """Return a value as text in the format of its unit, with a typographic minus sign; `–` for NaN."""
    return MISSING_NUMBER if math.isnan(value) else UNIT_FORMATTERS[unit](value).replace("-", "−").replace("e−", "e-")


def format_value(estimate: Estimate | None) -> str:
    """Return the value of an estimate as text, without its interval; `–` for None."""
    return format_number(estimate.value, estimate.unit) if estimate else MISSING_NUMBER


def format_interval(estimate: Estimate) -> str:
    """Return the interval of an estimate as text, such as `29% to 100%`.

    The text is empty if the estimate has no interval, or if both limits are equal as text. For a count of runs it is
    the interval of the share of runs.
    """
    low, high = estimate.low, estimate.high
    if low is None or high is None or low == high:
        return ""
    if estimate.interval == "Clopper-Pearson 95%":
        return format_share_interval(low, high)
    ends = (format_number(low, estimate.unit), format_number(high, estimate.unit))
    return " to ".join(ends) if ends[0] != ends[1] else ""


def format_share_interval(low: float, high: float) -> str:
    """Return the interval of a share as text in percent; the narrower the interval, the more decimals it has.

    Only a limit of exactly 0 or 1 becomes `0%` or `100%`.
    """
    decimals = 0 if high - low >= 0.1 else 1 if high - low >= 0.01 else 2
    ends = (f"{end:.{decimals}%}" for end in (low, high))
    return " to ".join(
        text if end in (0.0, 1.0) or float(text[:-1]) not in (0.0, 100.0) else percent(end)
        for text, end in zip(ends, (low, high), strict=True)
    )


def format_with_interval(estimate: Estimate | None, noun: str = "") -> str:
    """Return an estimate with its interval for a sentence: `0.49 (95% interval 0.40 to 0.54, n = 3)`.

    `noun` is written after the value, as in `3 of 3 runs (95% interval 29% to 100%)`.
    """
    if estimate is None:
        return MISSING_NUMBER
    is_count = estimate.unit == "count" and estimate.n is not None
    text = f"{format_value(estimate)} of {estimate.n}" if is_count else format_value(estimate)
    if noun:
        text += f" {noun}"
    details = []
    if ends := format_interval(estimate):
        details.append(f"{INTERVAL_NAMES[estimate.interval]}{ends}")
    if estimate.n is not None and not is_count:
        details.append(f"n = {estimate.n}")
    return f"{text} ({', '.join(details)})" if details else text


def format_cell(estimate: Estimate | str | None) -> str:
    """Return an estimate for the cell of a table, such as `0.49 (0.40 to 0.54)` or `3/3`; text stays as it is."""
    if estimate is None or isinstance(estimate, str):
        return estimate or MISSING_NUMBER
    if estimate.unit == "count" and estimate.n is not None:
        return f"{format_value(estimate)}/{estimate.n}"
    ends = format_interval(estimate)
    return f"{format_value(estimate)} ({ends})" if ends else format_value(estimate)


def join_in_words(items: Sequence[str], conjunction: str = "and") -> str:
    """Return the items as an enumeration in words: `a`, `a and b` or `a, b and c`; `conjunction` replaces `and`."""
    return f" {conjunction} ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def format_count(count: float | Estimate, noun: str) -> str:
    """Return a count with its noun in singular or plural: `1 run`, `2 runs`."""
    count = count.value if isinstance(count, Estimate) else count
    return f"{count:,.0f} {noun}" if count == 1 else f"{count:,.0f} {noun}s"
