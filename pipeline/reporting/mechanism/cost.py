"""What leaving positional encoding out saves and risks: parameters, FLOPs, steps, and how often a run converges."""

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter
from statsmodels.duration.survfunc import SurvfuncRight

from pipeline.reporting import cells as grid
from pipeline.reporting import figures
from pipeline.reporting.comparisons import Paired
from pipeline.reporting.evidence import Evidence, each, lacks
from pipeline.reporting.mechanism import drawings, pairs
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.page import Figure, Section, Table
from pipeline.reporting.wording import count, p_value, percent, plural

TITLE = "What does it cost to leave positional encoding out?"
SURVIVAL = Figure(
    "not_yet_converged.png",
    "Share of runs not yet converged by step, a panel per cell",
    "Kaplan-Meier estimate over the seeds of each cell.",
)
SPENT = Figure(
    "training_flops.png",
    "Training FLOPs of every run against its test exact match",
    "A mark per run at its last step, filled if it converged.",
)


def section(measured: Measured) -> Finding:
    """The section, from the runs and the table `cost`."""
    cells = pd.concat([members for _, members in grid.in_groups(measured.cells)])
    curves = {name: not_yet_converged(measured.runs, name) for name in cells["ablation"]}
    per_step = flops_per_step(measured)
    budget = int(measured.runs["steps"].max())
    images = {SURVIVAL.name: figures.png(lambda: drawings.survival(curves, cells, budget))}
    pictures = [SURVIVAL]
    spent = measured.runs.assign(flops=measured.runs["ablation"].map(per_step) * measured.runs["steps"])
    spent = spent[spent["flops"] > 0]
    if len(spent):
        pictures.append(SPENT)
        images[SPENT.name] = figures.png(lambda: drawings.spent(spent))
    paragraphs = [
        "A run that never converged is **censored**: it took more steps than it was given, nobody knows how many. The "
        "median number of steps is therefore the Kaplan-Meier estimate over all runs of a cell, and is not reached "
        "where too few converge. FLOPs are those of one member's matrix products, forward and backward. Wall-clock "
        "time depends on the machine and on how many members it trains at once; it is kept in MLflow.",
    ]
    if not per_step:
        paragraphs.append("The FLOPs of a training step were not measured here.")
    short, text, advice = _advice(measured, per_step)
    tables = [*advice, _table(measured, cells, curves, per_step)]
    return Finding(Section(TITLE, paragraphs + text, pictures, tables, level=3), short, images)


def not_yet_converged(runs: pd.DataFrame, name: str) -> SurvfuncRight:
    """Kaplan-Meier estimate over the runs of a cell. A run that diverged stays among those that never converge until
    the longest run of its cell has ended."""
    cell = runs[runs["ablation"] == name]
    converged = cell["converged"] == 1
    ended = cell["steps"].where(cell["diverged"] == 0, cell["steps"].max()).astype(float)
    return SurvfuncRight(cell["steps_to_converge"].astype(float).where(converged, ended), converged.astype(int))


def median_steps(curve: SurvfuncRight) -> float | None:
    """Steps after which fewer than half of the runs have not converged; None where that is not reached."""
    median = float(curve.quantile(0.5 + 1e-9))  # the share of runs left may be a rounding error below one half
    return median if np.isfinite(median) else None


def _steps(curve: SurvfuncRight) -> str:
    """The median with its interval, whose limits are steps at which runs converged; none where all are equal."""
    median = median_steps(curve)
    if median is None:
        return f"not reached in {curve.time.max():,.0f}"
    with np.errstate(divide="ignore", invalid="ignore"):  # where no run or every run has converged
        low, high = curve.quantile_ci(0.5)
    limits = f" ({low:,.0f} to {f'{high:,.0f}' if np.isfinite(high) else '∞'})" if np.isfinite(low) else ""
    return f"{median:,.0f}{limits}"


def flops_per_step(measured: Measured) -> dict[str, float]:
    """What a training step of each cell costs, the same for all its seeds."""
    cost = measured.tables.get("cost", pd.DataFrame())
    if cost.empty:
        return {}
    return {str(name): float(flops) for name, flops in cost.groupby("ablation")["flops_per_step"].median().items()}


def _table(
    measured: Measured, cells: pd.DataFrame, curves: dict[str, SurvfuncRight], per_step: dict[str, float]
) -> Table:
    parameters = measured.runs.groupby("ablation")["parameters"].first()
    rows = []
    for cell in each(cells):
        name = cell["ablation"]
        median, flops = median_steps(curves[name]), per_step.get(name)
        rows.append(
            [
                f"`{name}`",
                f"{parameters[name]:,}",
                in_units(flops) if flops else "–",
                f"{cell['converged']}/{cell['runs']}",
                _steps(curves[name]),
                "–" if not flops else in_units(flops * median) if median else "not reached",
            ]
        )
    headers = ["Cell", "Parameters", "FLOPs per step", "Converged", "Median steps", "FLOPs to converge"]
    return Table(headers, rows, caption="Median steps: Kaplan-Meier over all runs (approximate 95% interval)")


def in_units(flops: float) -> str:
    """`1.9 GFLOP`."""
    return EngFormatter(unit="FLOP", places=1)(flops)


def _advice(measured: Measured, per_step: dict[str, float]) -> tuple[str | None, list[str], list[Table]]:
    """What each way to tell the positions saves and risks, against positional encoding with a causal mask."""
    base = Evidence(measured.runs, measured.cells, None).base(positional_every_layer=0)
    base = base.assign(order=(base["positional"] != "learned").astype(int) + (base["positional"] == "none"))
    base = base.sort_values(["attention", "order"], kind="stable")  # causal before full, learned first, none last
    causal = base[base["attention"] == "causal"]
    encoded, bare = causal[causal["positional"] != "none"], causal[causal["positional"] == "none"]
    missing = [
        lacks(what)
        for cells, what in ((encoded, "positional encoding and a causal mask"), (bare, "no positional encoding"))
        if cells.empty
    ]
    if encoded.empty:
        return None, missing, []
    reference = encoded.iloc[0]
    names = [name for name in base["ablation"] if name != reference["ablation"]]
    ratios = dict(zip(names, _steps_ratios(measured.runs, names, reference["ablation"]), strict=True))
    rows = [
        [
            _choice(cell),
            f"`{cell['ablation']}`",
            _saved(measured.runs, per_step, cell["ablation"], reference["ablation"]),
            count(int(cell["converged"]), int(cell["runs"])),
            percent(cell["test_exact_match_median"]),
            *_ratio(ratios.get(cell["ablation"])),
        ]
        for cell in each(base)
    ]
    headers = ["Choice", "Cell", "You save", "Converged", "Test median", "Steps, times as many", "Pairs", "p"]
    caption = "Steps: median over the seeds where both converged (min to max), and how many those are"
    told = sum(result is not None for result in ratios.values())
    text = (
        f"**What to choose.** Everything is said against {_choice(reference)} (`{reference['ablation']}`), at the size "
        f"that most cells have. The steps are compared by seed, where both runs converged (sign-flip permutation test "
        f"of their logarithms, Holm-corrected over {plural(told, 'comparison')}); how often a run does not "
        f"converge at all is in the column before.{pairs.caution(list(ratios.values()))}"
    )
    short = _in_short(measured, per_step, bare.iloc[0], reference, ratios) if len(bare) else None
    return short, [*missing, text], [Table(headers, rows, caption=caption)]


def _choice(cell: pd.Series) -> str:
    if cell["positional"] == "none":
        return "no PE, causal mask only" if cell["attention"] == "causal" else "no PE, full attention"
    return f"{cell['positional']} PE, {cell['attention']}"


def _steps_ratios(runs: pd.DataFrame, names: list[str], reference: str) -> list[Paired | None]:
    """Logarithm of the steps of each over those of the reference, over the seeds where both converged."""
    steps = runs["steps_to_converge"].astype(float).where(runs["converged"] == 1)
    return pairs.compared(runs.assign(logarithm=np.log(steps)), "logarithm", [(name, reference) for name in names])


def _share(share: float) -> str:
    """A share saved in percent; less than nothing is spent, with a minus."""
    return percent(share) if share >= 0 else f"−{percent(-share)}"


def _ratio(result: Paired | None) -> list[str]:
    if result is None:
        return ["–", "0", "–"]
    median, low, high = (f"{np.exp(value):.2f}" for value in (result.median, result.low, result.high))
    return [f"{median} ({low} to {high})", str(result.seeds), p_value(result.p).removeprefix("p = ")]


def _saved(runs: pd.DataFrame, per_step: dict[str, float], name: str, reference: str) -> str:
    """The parameters and FLOPs per step that a cell has less than the reference."""
    if name == reference:
        return "–"
    parameters = runs.groupby("ablation")["parameters"].first()
    fewer = int(parameters[reference] - parameters[name])
    text = (
        f"{fewer:,} of {parameters[reference]:,} parameters ({_share(fewer / parameters[reference])})"
        if fewer
        else "no parameters"
    )
    if {name, reference} <= per_step.keys():
        share = 1 - per_step[name] / per_step[reference]
        times = per_step[name] / per_step[reference]
        text += (
            " and no FLOPs"
            if not share
            else f" and {_share(share)} of a step's FLOPs"
            if share > 0
            else f", but a step costs {times:.1f} times the FLOPs"
        )
    return text


def _in_short(
    measured: Measured,
    per_step: dict[str, float],
    bare: pd.Series,
    reference: pd.Series,
    ratios: dict[str, Paired | None],
) -> str:
    saved = _saved(measured.runs, per_step, bare["ablation"], reference["ablation"])
    both = [f"{cell['converged']} of {cell['runs']}" for cell in (bare, reference)]
    result = ratios[bare["ablation"]]
    steps = (
        f"where both did, it took {np.exp(result.median):.2f} times the steps ({np.exp(result.low):.2f} to "
        f"{np.exp(result.high):.2f}, n = {plural(result.seeds, 'pair')}, {p_value(result.p)})"
        if result
        else "no seed converged in both, so the steps cannot be compared"
    )
    return (
        f"Leaving out the positional encoding of a causal model saves {saved}; {both[0]} runs converged against "
        f"{both[1]}, and {steps}."
    )
