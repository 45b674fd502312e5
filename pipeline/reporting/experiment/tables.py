"""The tables of the report: pandas in, pandas out.

`runs` is everywhere the table of all evaluations, a row per (ablation, seed), in the order of the grid; shares are
in [0, 1].
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline import switches
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Ablation
from pipeline.params.score import BITS
from pipeline.reporting.intervals import binomial_p_value, exact_interval, mean_interval, mean_with_interval
from pipeline.reporting.survival import restricted_steps

ALARM = 0.01
"""How unlikely a run above the order-blind ceiling must be by chance, over all runs looked at, to be called a bug."""
TREND = 0.01
"""How unlikely its last evaluations must be by chance for a curve to be called rising."""
EVALUATIONS = 5
"""So many it takes at least to see a trend: five in order have p = 1/120."""
REQUIRED = (
    *(
        "ablation",
        "seed",
        "task",
        *switches.COLUMNS,
        "parameters",
        "steps",
        "converged",
        "steps_to_converge",
        "diverged",
    ),
    "test_examples",
)
"""The columns every table of runs has; beside them how good a run was on validation and test (`test_exact_match` or
`test_bits`, as the task is scored), and where there are answers a column per place of theirs (`digit_<k>`), and per
stratum (`carries_<k>`) with how many examples it has (`carries_<k>_examples`)."""
RUN_KEYS = ("ablation", "seed", "step", "trained")
"""The columns of a measured table that say whose a row is, and when."""


def ablation_table(
    ablations: Sequence[Ablation], runs: pd.DataFrame, ceilings: Mapping[str, float | None], flops: Mapping[str, float]
) -> pd.DataFrame:
    """A row per ablation: how many runs converged and when, where that has a meaning, their test exact match or the
    mean of their test bits per token (with its t interval), what they cost, and the check of the instrument.
    `restricted_steps`: the mean steps to converge up to the `budget`, with its t interval.

    Args:
        runs: with the column `still_rising`.
        ceilings: task -> the best exact match of any order-blind predictor; None where it is not known.
        flops: ablation -> those of a training step, where they were measured.
    """
    above = pd.concat([above_ceiling(ablations, runs, task, ceiling) for task, ceiling in ceilings.items()])
    rows = []
    for ablation in ablations:
        own = runs[runs["ablation"] == ablation.name]
        checked = above[above["ablation"] == ablation.name]
        per_step = flops.get(ablation.name)
        converges = ablation.converged_at is not None
        rows.append(
            {
                "ablation": ablation.name,
                "runs": len(own),
                **(_converged(own) if converges else {}),
                **(_bits(own) if ablation.task.score == BITS else _exact_match(own)),
                "order_blind_ceiling": ceilings[ablation.dataset] if len(checked) else None,
                "runs_above_ceiling": int(checked["above"].sum()) if len(checked) else None,
                "ceiling_p_value": float(checked["p_value"].min()) if len(checked) else None,
                "budget": ablation.training.steps,
                **(_steps(own, ablation.training.steps) if converges else {}),
                "diverged": int(own["diverged"].sum()),
                "test_examples": int(own["test_examples"].iloc[0]),
                "parameters": int(own["parameters"].iloc[0]),
                "flops_per_step": per_step,
                "flops_spent": per_step * float(own["steps"].mean()) if per_step else None,
                "task": ablation.dataset,
                **switches.columns(ablation),
            }
        )
    table = pd.DataFrame(rows)
    shares = ("order_blind_ceiling", "ceiling_p_value", "flops_per_step", "flops_spent")
    counts = ("converged", "still_rising", "runs_above_ceiling")
    types = dict.fromkeys(shares, "float64") | dict.fromkeys(counts, "Int64")
    return table.astype({name: dtype for name, dtype in types.items() if name in table})


def _converged(runs: pd.DataFrame) -> dict[str, float]:
    low, high = exact_interval(converged := int(runs["converged"].sum()), len(runs))
    return {"converged": converged, "converged_low": low, "converged_high": high}


def _steps(runs: pd.DataFrame, budget: int) -> dict[str, float]:
    mean, low, high = mean_with_interval(restricted_steps(runs, budget))
    limits = {"restricted_steps_low": low, "restricted_steps_high": high}
    return {"restricted_steps": mean, **limits, "still_rising": int(runs["still_rising"].sum())}


def _exact_match(runs: pd.DataFrame) -> dict[str, float]:
    scores = test_exact_match(runs)
    return {f"test_exact_match_{kind}": float(scores.agg(kind)) for kind in ("mean", "median", "min", "max")}


def _bits(runs: pd.DataFrame) -> dict[str, float]:
    """A run that diverged so that it could not be scored is left out."""
    mean, low, high = mean_with_interval(runs["test_bits"].dropna())
    return {"test_bits": mean, "test_bits_low": low, "test_bits_high": high}


def still_rising(runs: pd.DataFrame, history: pd.DataFrame) -> "pd.Series[int]":
    """Which runs had not converged when their budget ended, but still got better: their validation exact match rose
    over the last third of their evaluations (`rises`), or the bits that a token takes fell."""
    better = pd.Series(np.nan, history.index)
    for score, sign in (("validation_exact_match", 1.0), ("validation_bits", -1.0)):
        better = better.fillna(sign * history[score]) if score in history else better
    curves = dict(list(better.groupby([history["ablation"], history["seed"]])))
    censored = (runs["converged"].astype(float) == 0) & (runs["diverged"] == 0)
    ended = zip(runs["ablation"], runs["seed"], censored, strict=True)
    return pd.Series(
        [int(censored and rises(curves[name, seed])) for name, seed, censored in ended], runs.index, dtype=int
    )


def rises(curve: "pd.Series[float]") -> bool:
    """Whether the last third of a curve goes up: Kendall's tau with time, one-sided p below `TREND`."""
    last = curve.to_numpy(float)[-max(EVALUATIONS, len(curve) // 3) :]
    if len(last) < EVALUATIONS or np.ptp(last) == 0:
        return False
    return bool(stats.kendalltau(np.arange(len(last)), last, alternative="greater").pvalue < TREND)


def test_exact_match(runs: pd.DataFrame) -> "pd.Series[float]":
    """Test exact match of each run; a run that diverged so that it could not be scored answered nothing."""
    return runs["test_exact_match"].astype(float).fillna(0.0)


def correct_counts(runs: pd.DataFrame) -> "pd.Series[int]":
    """How many test examples each run answered right."""
    return (test_exact_match(runs) * runs["test_examples"]).round().astype(int)


def above_ceiling(ablations: Sequence[Ablation], runs: pd.DataFrame, task: str, ceiling: float | None) -> pd.DataFrame:
    """The runs of a task that no order of the input can have helped, against the best that is possible without order.

    Returns:
        `ablation, seed, correct, test_examples, p_value, above`: exact one-sided binomial p-values, Holm-corrected
        over these runs. A run that is `above` is a bug in the instrument.
    """
    blind = [ablation.name for ablation in ablations if ablation.dataset == task and is_order_blind(ablation.model)]
    chosen = runs[runs["ablation"].isin(blind)]
    table = chosen[["ablation", "seed", "test_examples"]]
    if ceiling is None or table.empty:
        return table.head(0).assign(correct=0, p_value=0.0, above=False)
    table = table.assign(correct=correct_counts(chosen))
    p_values = [
        binomial_p_value(int(right), int(trials), ceiling)
        for right, trials in zip(table["correct"], table["test_examples"], strict=True)
    ]
    rejected, corrected, _, _ = multipletests(p_values, alpha=ALARM, method="holm")
    return table.assign(p_value=corrected, above=rejected)


def mean_by_position(runs: pd.DataFrame, place: str) -> pd.DataFrame:
    """Return how often each character of the answer is right: `ablation, key, mean` over an ablation's runs.

    `key` counts the characters from 1, in the order in which the model produces them.
    """
    return _means(runs, {key: runs[f"{place}_{key}"] for key in _numbered(runs, place)})


def mean_by_stratum(runs: pd.DataFrame, stratum: str) -> pd.DataFrame:
    """Exact match by the value of a stratum, where there are examples with it; the columns of `by_place`."""
    keys = _numbered(runs, stratum)
    return _means(runs, {k: runs[f"{stratum}_{k}"].where(runs[f"{stratum}_{k}_examples"] > 0) for k in keys})


def _numbered(runs: pd.DataFrame, name: str) -> list[int]:
    numbers = [str(column).removeprefix(f"{name}_") for column in runs]
    return sorted(int(number) for number in numbers if number.isdigit())


def _means(runs: pd.DataFrame, shares: dict[int, "pd.Series[float]"]) -> pd.DataFrame:
    means = pd.DataFrame(shares).groupby(runs["ablation"], sort=False).mean().reset_index()
    return means.melt("ablation", var_name="key", value_name="mean").dropna()


def own_token_table(slices: pd.DataFrame) -> pd.DataFrame:
    """How far the own token is the best readable one, by member and depth, from the measurement `slices`.

    Returns:
        `ablation, seed, step, trained, depth, dominance, margin`: the share of positions whose own token is read
        better than every other, and by how much on average (accuracy less that of the best other token).
    """
    place = [*RUN_KEYS, "depth", "position"]
    diagonal = slices["position"] == slices["token_position"]
    own = slices[diagonal].set_index(place)["accuracy"]
    margin = own - slices[~diagonal].groupby(place)["accuracy"].max()
    table = pd.DataFrame({"dominance": (margin > 0).astype(float), "margin": margin})
    return table.groupby(level=[*RUN_KEYS, "depth"], sort=False).mean().reset_index()


def added_by_training(table: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """What training added to each member: the trained rows, `values` less what they were at initialisation."""
    keys = [str(column) for column in table if column not in ("step", "trained", *values)]
    trained, before = table[table["trained"] == 1], table[(table["trained"] == 0) & (table["step"] == 0)]
    both = trained.merge(before[[*keys, *values]], on=keys, suffixes=("", "_before"))
    return both.assign(**{value: both[value] - both[f"{value}_before"] for value in values})[list(table)]


def summarise(table: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """Means over seeds: `ablation, step, trained`, the table's keys, then `value, mean, low, high, n` for each of
    `values`, with the t interval of the mean. Members that are trained count together whatever their step
    was, which is then left out."""
    if table.empty:
        return pd.DataFrame(columns=["ablation", "step", "trained", "value", "mean", "low", "high", "n"])
    keys = [str(column) for column in table if column not in (*RUN_KEYS, *values)]
    table = table.assign(step=table["step"].where(table["trained"] == 0))
    by = ["ablation", "step", "trained", *keys]
    found = []
    for value in values:
        groups = table.dropna(subset=[value]).groupby(by, sort=False, dropna=False)[value]
        rows = groups.agg(["mean", "std", "count"]).rename(columns={"count": "n"}).reset_index()
        low, high = mean_interval(*(rows[name].to_numpy() for name in ("mean", "std", "n")))
        found.append(rows.assign(value=value, low=low, high=high))
    return pd.concat(found)[[*by, "value", "mean", "low", "high", "n"]].astype({"step": "Int64"})
