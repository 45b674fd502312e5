"""The tables of the report: pure functions from data frames to data frames.

`runs` is everywhere the table of all evaluations: a row per (ablation, seed), in the order of `params.yaml`. Shares are
in [0, 1].
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline import switches
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation
from pipeline.params.score import BITS
from pipeline.reporting.intervals import binomial_p_value, exact_share_interval, interval_of_mean, mean_with_interval
from pipeline.reporting.survival import restricted_steps

ALARM_LEVEL = 0.01
"""p-value below which a run with more right answers than the order-blind ceiling allows raises an alarm."""
TREND_LEVEL = 0.01
"""p-value below which the last evaluations of a learning curve count as rising."""
MIN_TREND_EVALUATIONS = 5
"""Smallest number of evaluations in which a trend can be found: five in increasing order have p = 1/120."""
REQUIRED_RUN_COLUMNS = (
    *("ablation", "seed", "task", *switches.SWITCH_COLUMNS, "parameters", "steps", "converged", "steps_to_converge"),
    *("diverged", "test_examples"),
)
"""Columns that every table of evaluated runs has, whatever the task.

The table also has the validation and test score (such as `test_exact_match`), and for tasks with an answer a column per
position of the answer (`digit_<k>`) and per stratum (`carries_<k>`) with its number of examples
(`carries_<k>_examples`).
"""
RUN_KEYS = ("ablation", "seed", "step", "trained")
"""Columns of a measurement's table that identify the run and the time of the measurement."""


def ablation_table(
    ablations: Sequence[Ablation], runs: pd.DataFrame, ceilings: Mapping[str, float | None], flops: Mapping[str, float]
) -> pd.DataFrame:
    """Return `ablations.csv`: outcome and cost of each ablation's runs, and the check against the order-blind ceiling.

    `restricted_steps` is the mean of the steps to converge, where a run that did not converge counts as its `budget`.

    Args:
        runs: a row per (ablation, seed), with the column `still_rising`.
        ceilings: name of a task -> best exact match of any order-blind predictor; None if unknown.
        flops: name of an ablation -> floating point operations of one run's training step, where measured.
    """
    above = pd.concat([check_against_ceiling(ablations, runs, task, ceiling) for task, ceiling in ceilings.items()])
    rows = []
    for ablation in ablations:
        ablation_runs = runs[runs["ablation"] == ablation.name]
        checked = above[above["ablation"] == ablation.name]
        per_step = flops.get(ablation.name)
        has_target = ablation.convergence_threshold is not None
        rows.append(
            {
                "ablation": ablation.name,
                "runs": len(ablation_runs),
                **(_summarise_convergence(ablation_runs) if has_target else {}),
                **(
                    _summarise_bits(ablation_runs)
                    if ablation.task.score == BITS
                    else _summarise_exact_match(ablation_runs)
                ),
                "order_blind_ceiling": ceilings[ablation.dataset] if len(checked) else None,
                "runs_above_ceiling": int(checked["above"].sum()) if len(checked) else None,
                "ceiling_p_value": float(checked["p_value"].min()) if len(checked) else None,
                "budget": ablation.training.steps,
                **(_summarise_steps(ablation_runs, ablation.training.steps) if has_target else {}),
                "diverged": int(ablation_runs["diverged"].sum()),
                "test_examples": int(ablation_runs["test_examples"].iloc[0]),
                "parameters": int(ablation_runs["parameters"].iloc[0]),
                "flops_per_step": per_step,
                "flops_spent": per_step * float(ablation_runs["steps"].mean()) if per_step else None,
                "task": ablation.dataset,
                **switches.switch_columns(ablation),
            }
        )
    table = pd.DataFrame(rows)
    shares = ("order_blind_ceiling", "ceiling_p_value", "flops_per_step", "flops_spent")
    counts = ("converged", "still_rising", "runs_above_ceiling")
    types = dict.fromkeys(shares, "float64") | dict.fromkeys(counts, "Int64")
    return table.astype({name: dtype for name, dtype in types.items() if name in table})


def _summarise_convergence(runs: pd.DataFrame) -> dict[str, float]:
    low, high = exact_share_interval(converged := int(runs["converged"].sum()), len(runs))
    return {"converged": converged, "converged_low": low, "converged_high": high}


def _summarise_steps(runs: pd.DataFrame, budget: int) -> dict[str, float]:
    mean, low, high = mean_with_interval(restricted_steps(runs, budget))
    limits = {"restricted_steps_low": low, "restricted_steps_high": high}
    return {"restricted_steps": mean, **limits, "still_rising": int(runs["still_rising"].sum())}


def _summarise_exact_match(runs: pd.DataFrame) -> dict[str, float]:
    scores = exact_match_scores(runs)
    return {f"test_exact_match_{kind}": float(scores.agg(kind)) for kind in ("mean", "median", "min", "max")}


def _summarise_bits(runs: pd.DataFrame) -> dict[str, float]:
    """Return the mean test bits per token with its interval; runs that diverged and have no score are left out."""
    mean, low, high = mean_with_interval(runs["test_bits"].dropna())
    return {"test_bits": mean, "test_bits_low": low, "test_bits_high": high}


def mark_still_rising(runs: pd.DataFrame, history: pd.DataFrame) -> "pd.Series[int]":
    """Return 1 for each run that did not converge within its budget but was still improving, otherwise 0.

    A run improves if its validation score got better over the last third of its evaluations (see `is_rising`).
    """
    quality = pd.Series(np.nan, history.index)
    for score, sign in (("validation_exact_match", 1.0), ("validation_bits", -1.0)):
        if score in history:
            quality = quality.fillna(sign * history[score])
    curves = dict(list(quality.groupby([history["ablation"], history["seed"]])))
    censored = (runs["converged"].astype(float) == 0) & (runs["diverged"] == 0)
    keys = zip(runs["ablation"], runs["seed"], censored, strict=True)
    return pd.Series(
        [int(is_censored and is_rising(curves[name, seed])) for name, seed, is_censored in keys], runs.index, dtype=int
    )


def is_rising(curve: "pd.Series[float]") -> bool:
    """Return True if the last third of a curve rises: Kendall's tau with time has a one-sided p below `TREND_LEVEL`."""
    last = curve.to_numpy(float)[-max(MIN_TREND_EVALUATIONS, len(curve) // 3) :]
    if len(last) < MIN_TREND_EVALUATIONS or np.ptp(last) == 0:
        return False
    return bool(stats.kendalltau(np.arange(len(last)), last, alternative="greater").pvalue < TREND_LEVEL)


def exact_match_scores(runs: pd.DataFrame) -> "pd.Series[float]":
    """Return the test exact match of each run; 0 for a run that diverged and has no score."""
    return runs["test_exact_match"].astype(float).fillna(0.0)


def count_correct_examples(runs: pd.DataFrame) -> "pd.Series[int]":
    """Return the number of test examples that each run answered right."""
    return (exact_match_scores(runs) * runs["test_examples"]).round().astype(int)


def check_against_ceiling(
    ablations: Sequence[Ablation], runs: pd.DataFrame, task: str, ceiling: float | None
) -> pd.DataFrame:
    """Test whether order-blind runs of a task answer more examples right than the order-blind ceiling allows.

    Returns:
        `ablation, seed, correct, test_examples, p_value, above`: exact one-sided binomial p-values, Holm-corrected
        over these runs. `above` is True if `p_value` is below `ALARM_LEVEL`, which means a bug in the code.
    """
    blind = [ablation.name for ablation in ablations if ablation.dataset == task and is_order_blind(ablation.model)]
    chosen = runs[runs["ablation"].isin(blind)]
    table = chosen[["ablation", "seed", "test_examples"]]
    if ceiling is None or table.empty:
        return table.head(0).assign(correct=0, p_value=0.0, above=False)
    table = table.assign(correct=count_correct_examples(chosen))
    p_values = [
        binomial_p_value(int(right), int(trials), ceiling)
        for right, trials in zip(table["correct"], table["test_examples"], strict=True)
    ]
    rejected, corrected, _, _ = multipletests(p_values, alpha=ALARM_LEVEL, method="holm")
    return table.assign(p_value=corrected, above=rejected)


def mean_by_position(runs: pd.DataFrame, position_unit: str) -> pd.DataFrame:
    """Return the share of examples with a right character at each position of the answer, as mean over runs.

    Args:
        runs: a row per (ablation, seed), with that share in the columns `<position_unit>_<position>`.
        position_unit: word for a character of the answer, such as `digit`.

    Returns:
        `ablation, key, mean`; `key` is the position, from 1, in the order in which characters are produced.
    """
    return _mean_shares(runs, {key: runs[f"{position_unit}_{key}"] for key in _numbered_columns(runs, position_unit)})


def mean_by_stratum(runs: pd.DataFrame, stratum: str) -> pd.DataFrame:
    """Return the exact match for each value of a stratum (`key`) that occurs in the test set, as mean over runs."""
    keys = _numbered_columns(runs, stratum)
    return _mean_shares(runs, {k: runs[f"{stratum}_{k}"].where(runs[f"{stratum}_{k}_examples"] > 0) for k in keys})


def _numbered_columns(runs: pd.DataFrame, name: str) -> list[int]:
    numbers = [str(column).removeprefix(f"{name}_") for column in runs]
    return sorted(int(number) for number in numbers if number.isdigit())


def _mean_shares(runs: pd.DataFrame, shares: dict[int, "pd.Series[float]"]) -> pd.DataFrame:
    means = pd.DataFrame(shares).groupby(runs["ablation"], sort=False).mean().reset_index()
    return means.melt("ablation", var_name="key", value_name="mean").dropna()


def own_token_table(token_probe: pd.DataFrame) -> pd.DataFrame:
    """Summarise the token probe: is the token at a position read better from its state than other tokens are?

    Args:
        token_probe: accuracy of reading the token at `token_position` from the state at `position`.

    Returns:
        `ablation, seed, step, trained, depth, dominance, margin`: the share of positions whose own token is read best,
        and the mean of (accuracy of the own token) - (accuracy of the best other token).
    """
    keys = [*RUN_KEYS, "depth", "position"]
    is_own = token_probe["position"] == token_probe["token_position"]
    own_accuracy = token_probe[is_own].set_index(keys)["accuracy"]
    margin = own_accuracy - token_probe[~is_own].groupby(keys)["accuracy"].max()
    table = pd.DataFrame({"dominance": (margin > 0).astype(float), "margin": margin})
    return table.groupby(level=[*RUN_KEYS, "depth"], sort=False).mean().reset_index()


def subtract_initial_values(table: pd.DataFrame, value_columns: Sequence[str]) -> pd.DataFrame:
    """Return a measurement's rows after training, with the values at initialisation subtracted in these columns."""
    keys = [str(column) for column in table if column not in ("step", "trained", *value_columns)]
    after, before = table[table["trained"] == 1], table[(table["trained"] == 0) & (table["step"] == 0)]
    both = after.merge(before[[*keys, *value_columns]], on=keys, suffixes=("", "_before"))
    return both.assign(**{value: both[value] - both[f"{value}_before"] for value in value_columns})[list(table)]


def summarise_over_seeds(table: pd.DataFrame, value_columns: Sequence[str]) -> pd.DataFrame:
    """Return the mean over seeds of each measured value, with its t interval.

    Returns:
        `ablation, step, trained`, the keys of the measurement, then `value, mean, low, high, n`: a row for each of
        `value_columns`. Runs after training are averaged whatever their last step was; their `step` is missing.
    """
    if table.empty:
        return pd.DataFrame(columns=["ablation", "step", "trained", "value", "mean", "low", "high", "n"])
    keys = [str(column) for column in table if column not in (*RUN_KEYS, *value_columns)]
    table = table.assign(step=table["step"].where(table["trained"] == 0))
    by = ["ablation", "step", "trained", *keys]
    summaries = []
    for value in value_columns:
        groups = table.dropna(subset=[value]).groupby(by, sort=False, dropna=False)[value]
        rows = groups.agg(["mean", "std", "count"]).rename(columns={"count": "n"}).reset_index()
        low, high = interval_of_mean(*(rows[name].to_numpy() for name in ("mean", "std", "n")))
        summaries.append(rows.assign(value=value, low=low, high=high))
    return pd.concat(summaries)[[*by, "value", "mean", "low", "high", "n"]].astype({"step": "Int64"})
