"""The tables of the report: pandas in, pandas out.

`runs` is everywhere the table of all evaluations, a row per (ablation, seed), in the order of the grid; shares are
in [0, 1].
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.multitest import multipletests

from pipeline import cells as grid
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Cell
from pipeline.reporting.intervals import bootstrap_intervals, exact_interval, exceeds

ALPHA = 0.01
"""How unlikely a run above the order-blind ceiling must be by chance, over all runs looked at, to be called a bug."""
REQUIRED = (
    *("ablation", "seed", "task", *grid.COLUMNS, "parameters", "steps", "converged", "steps_to_converge", "diverged"),
    *("validation_exact_match", "test_exact_match", "test_examples"),
)
"""The columns every table of runs has; beside them a column per place of the answer (`digit_<k>`), and per stratum
(`carries_<k>`) with how many examples it has (`carries_<k>_examples`)."""
STEPS = ("steps_median", "steps_median_low", "steps_median_high")
"""Kaplan-Meier median of the steps to converge, and the ends of its interval."""
MEMBER = ("ablation", "seed", "step", "trained")
"""The columns of a measured table that say whose a row is, and when."""


def ablations(
    cells: Sequence[Cell], runs: pd.DataFrame, ceilings: Mapping[str, float | None], flops: Mapping[str, float]
) -> pd.DataFrame:
    """A row per ablation: how many runs converged and when, their test exact match, what they cost, and the check of
    the instrument.

    Args:
        ceilings: task -> the best exact match of any order-blind predictor; None where it is not known.
        flops: ablation -> those of a training step, where they were measured.
    """
    above = pd.concat([above_ceiling(cells, runs, task, ceiling) for task, ceiling in ceilings.items()])
    rows = []
    for cell in cells:
        own = runs[runs["ablation"] == cell.name]
        scores, converged = answered(own), int(own["converged"].sum())
        checked = above[above["ablation"] == cell.name]
        steps = median_steps(not_yet_converged(own))
        per_step = flops.get(cell.name)
        low, high = exact_interval(converged, len(own))
        rows.append(
            {
                "ablation": cell.name,
                "runs": len(own),
                "converged": converged,
                "converged_low": low,
                "converged_high": high,
                "test_exact_match_mean": float(scores.mean()),
                "test_exact_match_median": float(scores.median()),
                "test_exact_match_min": float(scores.min()),
                "test_exact_match_max": float(scores.max()),
                "order_blind_ceiling": ceilings[cell.dataset] if len(checked) else None,
                "runs_above_ceiling": int(checked["above"].sum()) if len(checked) else None,
                "ceiling_p_value": float(checked["p_value"].min()) if len(checked) else None,
                "steps_to_converge_median": float(own["steps_to_converge"].astype(float).median()),
                **dict(zip(STEPS, steps, strict=True)),
                "diverged": int(own["diverged"].sum()),
                "test_examples": int(own["test_examples"].iloc[0]),
                "parameters": int(own["parameters"].iloc[0]),
                "flops_per_step": per_step,
                "flops_to_converge": per_step * steps[0] if per_step and steps[0] else None,
                "task": cell.dataset,
                **grid.columns(cell),
                "residual": "whole" if grid.is_whole(cell) else "control" if grid.is_control(cell) else "lacking",
                "converged_in": "every" if converged == len(own) else "some" if converged else "none",
            }
        )
    optional = ("order_blind_ceiling", "ceiling_p_value", *STEPS, "flops_per_step", "flops_to_converge")
    kinds = dict.fromkeys(optional, "float64")
    return pd.DataFrame(rows).astype(kinds | {"runs_above_ceiling": "Int64"})


def not_yet_converged(runs: pd.DataFrame) -> SurvfuncRight:
    """Kaplan-Meier estimate over the runs of a cell. A run that did not converge took more steps than it had; one that
    diverged stays among those that never converge until the longest run of its cell has ended."""
    converged = runs["converged"] == 1
    ended = runs["steps"].where(runs["diverged"] == 0, runs["steps"].max()).astype(float)
    times = runs["steps_to_converge"].astype(float).where(converged, ended)
    return SurvfuncRight(times, converged.astype(int))


def median_steps(curve: SurvfuncRight) -> tuple[float | None, float | None, float | None]:
    """Steps after which fewer than half of the runs have not converged, and the ends of its approximate 95% interval;
    None for each that is not reached."""
    median = float(curve.quantile(0.5 + 1e-9))  # the share left may be a rounding error below one half
    if not np.isfinite(median):
        return None, None, None
    with np.errstate(divide="ignore", invalid="ignore"):  # where every run has converged
        low, high = (float(end) if np.isfinite(end) else None for end in curve.quantile_ci(0.5))
    return median, low, high if low is not None else None


def answered(runs: pd.DataFrame) -> "pd.Series[float]":
    """Test exact match of each run; a run that diverged so that it could not be scored answered nothing."""
    return runs["test_exact_match"].astype(float).fillna(0.0)


def correct(runs: pd.DataFrame) -> "pd.Series[int]":
    """How many test examples each run answered right."""
    return (answered(runs) * runs["test_examples"]).round().astype(int)


def above_ceiling(cells: Sequence[Cell], runs: pd.DataFrame, task: str, ceiling: float | None) -> pd.DataFrame:
    """The runs of a task that no order of the input can have helped, against the best that is possible without order.

    Returns:
        `ablation, seed, correct, test_examples, p_value, above`: exact one-sided binomial p-values, Holm-corrected
        over these runs. A run that is `above` is a bug in the instrument.
    """
    blind = [cell.name for cell in cells if cell.dataset == task and is_order_blind(cell.model)]
    chosen = runs[runs["ablation"].isin(blind)] if ceiling is not None else runs.head(0)
    table = chosen[["ablation", "seed", "test_examples"]].assign(correct=correct(chosen))
    if ceiling is None or table.empty:
        return table.assign(p_value=0.0, above=False)
    p_values = [
        exceeds(int(right), int(trials), ceiling)
        for right, trials in zip(table["correct"], table["test_examples"], strict=True)
    ]
    rejected, corrected, _, _ = multipletests(p_values, alpha=ALPHA, method="holm")
    return table.assign(p_value=corrected, above=rejected)


def by_place(runs: pd.DataFrame, place: str) -> pd.DataFrame:
    """How often each character of the answer is right: `ablation, key, mean` over the runs of a cell, places counted
    from 1 in the order they are produced."""
    return _means(runs, {key: runs[f"{place}_{key}"] for key in _numbered(runs, place)})


def by_stratum(runs: pd.DataFrame, stratum: str) -> pd.DataFrame:
    """Exact match by the value of a stratum, where there are examples with it; the columns of `by_place`."""
    keys = _numbered(runs, stratum)
    return _means(runs, {k: runs[f"{stratum}_{k}"].where(runs[f"{stratum}_{k}_examples"] > 0) for k in keys})


def _numbered(runs: pd.DataFrame, name: str) -> list[int]:
    numbers = [str(column).removeprefix(f"{name}_") for column in runs]
    return sorted(int(number) for number in numbers if number.isdigit())


def _means(runs: pd.DataFrame, shares: dict[int, "pd.Series[float]"]) -> pd.DataFrame:
    means = pd.DataFrame(shares).groupby(runs["ablation"], sort=False).mean().reset_index()
    return means.melt("ablation", var_name="key", value_name="mean").dropna()


def own_token(slices: pd.DataFrame) -> pd.DataFrame:
    """How far the own token is the best readable one, by member and depth, from the measurement `slices`.

    Returns:
        `ablation, seed, step, trained, depth, dominance, margin`: the share of positions whose own token is read
        better than every other, and by how much on average (accuracy less that of the best other token).
    """
    place = [*MEMBER, "depth", "position"]
    diagonal = slices["position"] == slices["token_position"]
    own = slices[diagonal].set_index(place)["accuracy"]
    margin = own - slices[~diagonal].groupby(place)["accuracy"].max()
    table = pd.DataFrame({"dominance": (margin > 0).astype(float), "margin": margin})
    return table.groupby(level=[*MEMBER, "depth"], sort=False).mean().reset_index()


def summary(table: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """Means over seeds: `ablation, step, trained`, the table's keys, then `value, mean, low, high, n` for each of
    `values`, with the bootstrap 95% interval of the mean. Members that are trained count together whatever their step
    was, which is then left out."""
    if table.empty:
        return pd.DataFrame(columns=["ablation", "step", "trained", "value", "mean", "low", "high", "n"])
    keys = [str(column) for column in table if column not in (*MEMBER, *values)]
    table = table.assign(step=table["step"].where(table["trained"] == 0))
    by = ["ablation", "step", "trained", *keys]
    found = []
    for value in values:
        groups = table.dropna(subset=[value]).groupby(by, sort=False, dropna=False)[value]
        rows = groups.agg(["mean", "count"]).rename(columns={"count": "n"}).reset_index()
        rows[["low", "high"]] = bootstrap_intervals([group.tolist() for _, group in groups])
        found.append(rows.assign(value=value))
    return pd.concat(found)[[*by, "value", "mean", "low", "high", "n"]].astype({"step": "Int64"})
