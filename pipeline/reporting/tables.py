"""The tables of the report: pandas in, pandas out.

`runs` is everywhere the table of all evaluations, a row per (ablation, seed), in the order of the grid; shares are
in [0, 1].
"""

from collections.abc import Collection

import pandas as pd
from statsmodels.stats.multitest import multipletests

from pipeline.measurement.intervals import exact_interval, exceeds
from pipeline.reporting import published
from pipeline.reporting.cells import OPTIMIZERS, PROPERTIES

ALPHA = 0.01
"""How unlikely a run above the order-blind ceiling must be by chance, over all runs looked at, to be called a bug."""
REQUIRED = (
    *("ablation", "seed", *PROPERTIES, "parameters", "steps", "converged", "steps_to_converge", "diverged"),
    *("validation_exact_match", "test_exact_match", "test_examples"),
)
"""The columns every table of runs has; beside them `digit_<k>`, `carries_<k>` and `carries_<k>_examples`."""


def ablations(runs: pd.DataFrame, ceiling: float | None, order_blind: Collection[str]) -> pd.DataFrame:
    """A row per ablation: how many runs converged, their test exact match, and the check of the instrument.

    Args:
        ceiling: the best exact match of any order-blind predictor; None where it is not known.
        order_blind: the names of the cells that are order-blind by construction.
    """
    above = above_ceiling(runs, ceiling, order_blind)
    rows = []
    for name, cell in runs.groupby("ablation", sort=False):
        scores = answered(cell)
        converged = int(cell["converged"].sum())
        interval = exact_interval(converged, len(cell))
        blind = name in order_blind and ceiling is not None
        checked = above[above["ablation"] == name]
        rows.append(
            {
                "ablation": name,
                "runs": len(cell),
                "converged": converged,
                "converged_low": interval.low,
                "converged_high": interval.high,
                "test_exact_match_mean": float(scores.mean()),
                "test_exact_match_median": float(scores.median()),
                "test_exact_match_min": float(scores.min()),
                "test_exact_match_max": float(scores.max()),
                "order_blind_ceiling": ceiling if blind else None,
                "runs_above_ceiling": int(checked["above"].sum()) if blind else None,
                "ceiling_p_value": float(checked["p_value"].min()) if blind else None,
                "steps_to_converge_median": float(cell["steps_to_converge"].astype(float).median()),
                "diverged": int(cell["diverged"].sum()),
                "test_examples": int(cell["test_examples"].iloc[0]),
                **{column: cell[column].iloc[0] for column in PROPERTIES},
            }
        )
    optional = {"order_blind_ceiling": "float64", "runs_above_ceiling": "Int64", "ceiling_p_value": "float64"}
    return pd.DataFrame(rows).astype(optional)


def answered(runs: pd.DataFrame) -> "pd.Series[float]":
    """Test exact match of each run; a run that diverged so that it could not be scored answered nothing."""
    return runs["test_exact_match"].astype(float).fillna(0.0)


def correct(runs: pd.DataFrame) -> "pd.Series[int]":
    """How many test examples each run answered right."""
    return (answered(runs) * runs["test_examples"]).round().astype(int)


def above_ceiling(runs: pd.DataFrame, ceiling: float | None, order_blind: Collection[str]) -> pd.DataFrame:
    """The runs that no order of the input can have helped, against the best that is possible without order.

    Returns:
        `ablation, seed, correct, test_examples, p_value, above`: exact one-sided binomial p-values, Holm-corrected
        over these runs. A run that is `above` is a bug in the instrument.
    """
    blind = runs[runs["ablation"].isin(list(order_blind))] if ceiling is not None else runs.head(0)
    table = blind[["ablation", "seed", "test_examples"]].assign(correct=correct(blind))
    if ceiling is None or blind.empty:
        return table.assign(p_value=0.0, above=False)
    p_values = [
        exceeds(int(right), int(trials), ceiling)
        for right, trials in zip(table["correct"], table["test_examples"], strict=True)
    ]
    rejected, corrected, _, _ = multipletests(p_values, alpha=ALPHA, method="holm")
    return table.assign(p_value=corrected, above=rejected)


def by_digit(runs: pd.DataFrame) -> pd.DataFrame:
    """How often each answer character is right, over all runs of a cell.

    Returns:
        `ablation, digit, mean, low, high, runs, examples`: digits counted from 1 in the order they are produced;
        `low` and `high` are the exact binomial interval of the answers of all seeds taken together. The seeds
        share one test set, so it tells the noise of counting, not what another seed would give.
    """
    columns = [name for name in map(str, runs) if name.removeprefix("digit_").isdigit()]
    return _pooled(runs, {int(name.removeprefix("digit_")): (name, "test_examples") for name in columns}, "digit")


def by_carries(runs: pd.DataFrame) -> pd.DataFrame:
    """Exact match by how many carries the sum has, over all runs of a cell.

    Returns:
        `ablation, carries, mean, low, high, runs, examples`, as in `by_digit`.
    """
    numbers = [name.removeprefix("carries_") for name in map(str, runs) if name.removeprefix("carries_").isdigit()]
    columns = {int(number): (f"carries_{number}", f"carries_{number}_examples") for number in numbers}
    return _pooled(runs, columns, "carries")


def _pooled(runs: pd.DataFrame, columns: dict[int, tuple[str, str]], key: str) -> pd.DataFrame:
    rows = []
    for name, cell in runs.groupby("ablation", sort=False):
        for number, (share, examples) in columns.items():
            scored = cell[(cell[examples] > 0) & cell[share].notna()]
            if scored.empty:
                continue
            trials = int(scored[examples].sum())
            right = int((scored[share] * scored[examples]).round().sum())
            low, high = exact_interval(right, trials)
            mean = float(scored[share].mean())
            rows.append([name, number, mean, low, high, len(scored), trials])
    return pd.DataFrame(rows, columns=["ablation", key, "mean", "low", "high", "runs", "examples"])


def beside_published(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells (of `ablations`) that have published runs, and those.

    Returns:
        `ablation, runs, median, min, max, published_runs, published_median, published_min, published_max, differs`:
        ours at the last step, theirs the maximum over each run's evaluations; `differs` says in words what else is
        not the same about the model and the optimizer.
    """
    rows = []
    for cell in cells.to_dict("records"):
        found = published.for_cell(
            **{key: cell[key] for key in PROPERTIES if key not in ("heads", "width", "optimizer")}
        )
        if found is None:
            continue
        ours = {key: cell[f"test_exact_match_{key}"] for key in ("median", "min", "max")}
        theirs = {
            "published_runs": found.runs,
            "published_median": found.median,
            "published_min": found.low,
            "published_max": found.high,
        }
        row = {"ablation": cell["ablation"], "runs": cell["runs"], **ours, **theirs}
        rows.append(row | {"differs": _differences(cell)})
    names = ["ablation", "runs", "median", "min", "max"]
    theirs_names = ["published_runs", "published_median", "published_min", "published_max", "differs"]
    return pd.DataFrame(rows, columns=names + theirs_names)


def _differences(cell: dict) -> str:
    wanted = {"layers": published.LAYERS, "heads": published.HEADS, "width": published.WIDTH}
    parts = [f"{key} {cell[key]}, not {value}" for key, value in wanted.items() if cell[key] != value]
    if cell["optimizer"] != published.OPTIMIZER:
        parts.append(f"{OPTIMIZERS[cell['optimizer']]}, not {OPTIMIZERS[published.OPTIMIZER]}")
    return "; ".join(parts)
