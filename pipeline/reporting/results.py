"""The results of an experiment: a few tidy tables, which the stage `collect` writes and the report reads.

`runs.csv` has a row per run, `learning_curves.csv` a row per evaluation during training, `symmetry.csv` a row per run
and moment, and `measurements.csv.bz2` a row per measured number.
"""

import bz2
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from pipeline import files, switches
from pipeline.errors import UserError
from pipeline.params import Ablation, Comparison, Params, Task

RUNS, CURVES, SYMMETRY, MEASUREMENTS = "runs.csv", "learning_curves.csv", "symmetry.csv", "measurements.csv.bz2"
KEYS = ("layer", "sublayer", "depth", "position")
"""Keys of measured numbers that have a column of their own; further keys stand in the column `key`."""
MEASURED_COLUMNS = ("ablation", "seed", "quantity", *KEYS, "key", "moment", "value")
TEXT_COLUMNS = ("ablation", "task", "versus", "quantity", "sublayer", "key", "moment", "unit", "method")
STEPS = {"steps_to_50": "steps_to_50", "steps_to_90": "steps_to_90", "restricted_steps": "steps_to_converge"}
"""Quantity of `estimates.csv` -> column of `runs.csv` with the steps to a threshold; the target is the last."""
PERCENT = dict(zip(STEPS, ("50", "90", "99"), strict=True))
"""Quantity in `STEPS` -> the threshold in percent, as pages name it."""
EARLIER_STEPS = tuple(STEPS)[:-1]
"""The quantities of `STEPS` but for the steps to the target."""
TREND_LEVEL = 0.01
"""p-value below which the last evaluations of a learning curve count as rising."""
MIN_TREND_EVALUATIONS = 5
"""Fewest evaluations in which a trend can be found: five in increasing order have p = 1/120, four p = 1/24."""


@dataclass(frozen=True)
class Results:
    """The results of an experiment, or of one of its tasks."""

    ablations: Sequence[Ablation]
    comparisons: Sequence[Comparison]
    """The comparisons that `params.yaml` declares."""
    runs: pd.DataFrame
    """A row per run: its evaluation, and the switches of its ablation."""
    curves: pd.DataFrame
    """A row per evaluation during training: `ablation, seed, step`, the scores and the losses."""
    measured: pd.DataFrame
    """A row per measured number, with the columns `MEASURED_COLUMNS`; empty if nothing was measured."""

    @classmethod
    def read(cls, params: Params, folder: Path) -> "Results":
        """Read the tables of an experiment from `folder`. Ablations that `params.yaml` does not have are ignored.

        A UserError is raised if a table is missing, or has other ablations or seeds than `params.yaml`.
        """
        names = (RUNS, CURVES, SYMMETRY, MEASUREMENTS)
        runs, curves, symmetry, measured = (read_table(folder / name) for name in names)
        ablations = params.all_ablations()
        if "kept" in runs:  # `repro NAME...` left out the other ablations
            ablations = [ablation for ablation in ablations if ablation.name in set(runs["ablation"])]
        if missing := {*STEPS.values(), "proved"} - {*runs}:
            raise UserError(
                f"{folder / RUNS}: has no column {min(missing)!r}; `python -m pipeline repro` makes it again"
            )
        for name, table in ((RUNS, runs), (CURVES, curves)):
            for ablation in ablations:
                seeds = sorted(table.loc[table["ablation"] == ablation.name, "seed"].unique())
                if seeds != sorted(ablation.training.seeds):
                    raise UserError(
                        f"{folder / name}: has the seeds {seeds} of {ablation.name}, but params.yaml has "
                        f"{sorted(ablation.training.seeds)}; `python -m pipeline repro` runs what is missing"
                    )
        measured = pd.concat([tidy("symmetry", symmetry), measured], ignore_index=True)
        return cls(ablations, params.comparisons, runs, curves, measured).select(ablations)

    def select(self, ablations: Sequence[Ablation]) -> "Results":
        """Return the results of some of the ablations."""
        names = {ablation.name for ablation in ablations}
        tables = (table[table["ablation"].isin(names)] for table in (self.runs, self.curves, self.measured))
        declared = [comparison for comparison in self.comparisons if {comparison.first, comparison.second} <= names]
        return Results(ablations, declared, *tables)

    @cached_property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks of the ablations, by name."""
        return {ablation.dataset: ablation.task for ablation in self.ablations}

    def of_task(self, task: str) -> "Results":
        """Return the results on one task, its ablations in the order of the report's pages."""
        groups = switches.group_ablations([ablation for ablation in self.ablations if ablation.dataset == task])
        return self.select([ablation for _, members in groups for ablation in members])

    def runs_of(self, ablation: Ablation) -> pd.DataFrame:
        """Return the rows of `runs` of one ablation."""
        return self.runs[self.runs["ablation"] == ablation.name]


def read_table(path: Path, *, creating_command: str = "python -m pipeline repro") -> pd.DataFrame:
    """Read one of the tables of an experiment; in `TEXT_COLUMNS` text stays text, even ``, `007` and `nan`.

    A UserError that names the command that creates the file is raised if it is missing or damaged.
    """
    content = files.read_bytes(path, creating_command=creating_command)
    try:
        content = bz2.decompress(content) if path.suffix == ".bz2" else content
        types = dict.fromkeys(TEXT_COLUMNS, str)
        table = pd.read_csv(io.BytesIO(content), dtype=types, keep_default_na=False, na_values=[""])
        return table.fillna(dict.fromkeys(TEXT_COLUMNS, ""))
    except (OSError, ValueError):
        raise UserError(f"{path}: damaged; make it again with `{creating_command}`") from None


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write tables as CSV files; a name that ends in `.bz2` is compressed, with the same bytes for the same table."""
    for name, table in tables.items():
        content = files.format_csv(table)
        files.write_bytes(folder / name, bz2.compress(content, 9) if name.endswith(".bz2") else content)


def tidy(measurement: str, table: pd.DataFrame, value_columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table of a measurement with a row per number, and the columns `MEASURED_COLUMNS`.

    `table` has the columns `ablation, seed, trained`, the measurement's keys, and `value_columns` (default: all after
    `trained`). What is not trained is as it was initialised.
    """
    run = ("ablation", "seed", "trained")
    values = list(value_columns or [str(name) for name in table if name not in run])
    other_keys = [str(name) for name in table if name not in (*run, *KEYS, *values)]
    moment = np.where(table["trained"] == 1, "trained", "initial")
    key = [";".join(f"{name}={value}" for name, value in row.items()) for row in table[other_keys].to_dict("records")]
    identity = [name for name in MEASURED_COLUMNS if name not in ("quantity", "value")]
    rows = table.assign(key=key, moment=moment).reindex(columns=[*identity, *values])
    rows = rows.melt(identity, values, "quantity", "value").dropna(subset="value")
    rows["quantity"] = [name if name == measurement else f"{measurement}.{name}" for name in rows["quantity"]]
    rows["sublayer"] = rows["sublayer"].astype(object).where(rows["sublayer"].notna(), "")
    return rows[list(MEASURED_COLUMNS)].astype(dict.fromkeys(("layer", "depth", "position"), "Int64"))


def summarise_token_probe(probe: pd.DataFrame) -> pd.DataFrame:
    """Return how well the token at a position is read from the state above it, compared with the other tokens.

    `probe` has the accuracy of reading the token at `token_position` from the state at `position`. The result has the
    columns `ablation, seed, trained, depth`; `dominance`: share of positions whose own token is read best;
    `margin`: mean of (accuracy of the own token) - (accuracy of the best other token).
    """
    by_depth = ["ablation", "seed", "trained", "depth"]
    is_own = probe["position"] == probe["token_position"]
    own_accuracy = probe[is_own].set_index([*by_depth, "position"])["accuracy"]
    margin = own_accuracy - probe[~is_own].groupby([*by_depth, "position"])["accuracy"].max()
    table = pd.DataFrame({"dominance": (margin > 0).astype(float), "margin": margin})
    return table.groupby(level=by_depth, sort=False).mean().reset_index()


def restricted_steps(runs: pd.DataFrame, budget: int, quantity: str = "restricted_steps") -> "pd.Series[float]":
    """Return the steps to a threshold of each run, or `budget` for a run that took more or did not get there.

    `quantity` is one of `STEPS`. The mean of these steps (the restricted mean survival time) includes the runs that
    failed.
    """
    return runs[STEPS[quantity]].astype(float).fillna(np.inf).clip(upper=budget)


def mark_still_rising(runs: pd.DataFrame, curves: pd.DataFrame) -> "pd.Series[int]":
    """Return 1 for each run that did not converge within its budget but was still improving, otherwise 0.

    A run improves if its validation score got better over the last third of its evaluations (see `is_rising`).
    """
    scores = curves.reindex(columns=["validation_exact_match", "validation_bits"])  # a run has one of the two
    quality = (scores * [1, -1]).max(axis=1)
    by_run = dict(list(quality.groupby([curves["ablation"], curves["seed"]])))
    censored = runs[(runs["converged"].astype(float) == 0) & (runs["diverged"] == 0)]
    rising = [is_rising(by_run[run]) for run in zip(censored["ablation"], censored["seed"], strict=True)]
    return pd.Series(rising, censored.index, dtype=int).reindex(runs.index, fill_value=0)


def is_rising(curve: "pd.Series[float]") -> bool:
    """Return True if the last third of a curve rises: Kendall's tau with time has a one-sided p below `TREND_LEVEL`."""
    last = curve.to_numpy(float)[-max(MIN_TREND_EVALUATIONS, len(curve) // 3) :]
    return bool(stats.kendalltau(np.arange(len(last)), last, alternative="greater").pvalue < TREND_LEVEL)
