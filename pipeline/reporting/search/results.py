"""Results of a search as tables, computed from its trials and the ablations that they trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline import switches
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation, Params
from pipeline.reporting.claims import Estimate, RowFilter, Statistic, TableReader
from pipeline.reporting.intervals import exact_share_interval, mean_with_interval
from pipeline.reporting.survival import restricted_steps
from pipeline.reporting.wording import format_count

SUBLAYERS = ("attention", "mlp")
BEST_COUNT = 3
"""Number of best configurations that are confirmed, and written as ablations for `params.yaml`."""


def all_converged(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of which all runs converged."""
    return trials[trials["converged"] == trials["runs"]]


@dataclass(frozen=True)
class SearchResults(TableReader):
    """Results of a search, from which its report is written.

    `evidence` are the complete trials, in order of their numbers. A configuration that two workers trained, or that was
    suggested again, counts once: the same seeds give the same runs, not more runs.
    """

    name: str
    params: Params
    trials: pd.DataFrame
    """A row per trial, as in `trials.csv`."""
    ablations: Mapping[int, Ablation]
    """Trial number -> the ablation that it trained."""
    required: int
    """Number of trials at which the search ends."""
    space_size: int | None = None
    """Number of configurations in the space; None if unknown."""
    importances: Mapping[str, Mapping[str, float]] | None = None
    """Parameter -> objective -> importance; None if not computed."""
    confirmed: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    """Trial number -> its runs with fresh seeds: a row each."""

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """Complete trials, each configuration once, in order of their numbers."""
        known = self.trials[(self.trials["state"] == "complete") & self.trials["repeats"].isna()].sort_values("trial")
        configurations = [
            str((self.ablations[trial].model, self.ablations[trial].training)) for trial in known["trial"]
        ]
        return known[~pd.Series(configurations, index=known.index, dtype=str).duplicated()]

    def ablation(self, trial: Any) -> Ablation:
        """The ablation that a trial, given by its row, trained."""
        return self.ablations[int(trial["trial"])]

    @property
    def exhausted(self) -> bool:
        """Whether all configurations of the space were tried."""
        return self.space_size is not None and len(self.evidence) >= self.space_size

    @property
    def score(self) -> str:
        """Name of the score in [0, 1], such as `exact match`."""
        return self.params.task(self.params.search.task).score.share_words

    @property
    def order_blind(self) -> pd.DataFrame:
        """Trials of `evidence` whose architecture cannot represent the order of its input."""
        blind = [is_order_blind(self.ablations[trial].model) for trial in self.evidence["trial"]]
        return self.evidence[np.array(blind, bool)]

    def ranked(self, trials: pd.DataFrame | None = None) -> pd.DataFrame:
        """Trials, best first: more runs converged, then fewer residual connections, then better score, then earlier."""
        order = ["converged_share", "residuals_kept", "score", "trial"]
        return (self.evidence if trials is None else trials).sort_values(order, ascending=[False, True, False, True])

    def best(self, positional: str) -> dict[str, pd.Series]:
        """The trials that the answer names for a positional encoding, by the name of their sentence.

        Among those of which all runs converged, the `shallowest` (of equals the sparsest) and the `sparsest`; if there
        are none, the best trial (`unsolved`).
        """
        tried = self.evidence[self.evidence["positional"] == positional]
        solved = all_converged(tried)
        if solved.empty:
            return {"unsolved": self.ranked(tried).iloc[0]}
        shallow = solved[solved["layers"] == solved["layers"].min()]
        return {"shallowest": self.ranked(shallow).iloc[0], "sparsest": self.ranked(solved).iloc[0]}

    @property
    def positional(self) -> list[str]:
        """The positional encodings tried, none first."""
        return sorted(set(self.evidence["positional"]), key=lambda name: (name != "none", name))

    @property
    def candidates(self) -> list[int]:
        """The trials to be confirmed: those that the answer names, and the best `BEST_COUNT`."""
        named = [trial for positional in self.positional for trial in self.best(positional).values()]
        best = [trial for _, trial in self.ranked().head(BEST_COUNT).iterrows()]
        return list(dict.fromkeys(int(trial["trial"]) for trial in [*named, *best]))

    @property
    def unconfirmed(self) -> list[int]:
        """The candidates that still have to be trained again with fresh seeds."""
        return [trial for trial in self.candidates if self.params.search.confirm and trial not in self.confirmed]

    def confirmation(self) -> pd.DataFrame:
        """A row per confirmed trial, from its runs with fresh seeds: `trial, runs, converged`; `converged_low,
        converged_high`, the exact 95% interval of the share; `restricted_steps`, the mean steps to converge up to the
        budget, with its t interval; the mean `score`."""
        rows = []
        for trial, runs in self.confirmed.items():
            steps = mean_with_interval(restricted_steps(runs, self.params.search.steps))
            k, n = int(runs["converged"].sum()), len(runs)
            rows.append([trial, n, k, *exact_share_interval(k, n), *steps, runs["score"].mean()])
        intervals = [f"{name}{end}" for name in ("converged", "restricted_steps") for end in ("", "_low", "_high")]
        return pd.DataFrame(rows, columns=["trial", "runs", *intervals, "score"])

    def pareto_front(self) -> pd.DataFrame:
        """The Pareto front: trials for which no other has a higher share of converged runs and as few connections, or
        fewer connections and as high a share; all of equal ones. Sorted by residual connections kept."""
        known = self.evidence
        share, size = (known[name].to_numpy(float) for name in ("converged_share", "residuals_kept"))
        as_good = (share[:, None] >= share) & (size[:, None] <= size)
        better = (share[:, None] > share) | (size[:, None] < size)
        return known[pd.Series(~(as_good & better).any(axis=0), known.index)].sort_values(["residuals_kept", "trial"])

    def depths(self) -> pd.DataFrame:
        """A row per positional encoding and depth: `positional, layers, tried, solved` (configurations of which all
        runs converged), `best_converged` (the most of `runs` that converged in one), `best_score`, and among the
        solved ones the `trial` that keeps the fewest residual connections (of equals, the one with the best score) and
        its `residuals_kept`."""
        rows = []
        for (positional, layers), tried in self.evidence.groupby(["positional", "layers"]):
            solved = all_converged(tried)
            best = self.ranked(solved).head(1).to_dict("records")
            rows.append(
                {
                    "positional": positional,
                    "layers": layers,
                    "tried": len(tried),
                    "solved": len(solved),
                    "best_converged": tried["converged"].max(),
                    "runs": tried["runs"].max(),
                    "best_score": tried["score"].max(),
                    **{name: best[0][name] if best else None for name in ("trial", "residuals_kept")},
                }
            )
        names = ["positional", "layers", "tried", "solved", "best_converged", "runs", "best_score"]
        table = pd.DataFrame(rows, columns=[*names, "trial", "residuals_kept"])
        return table.astype({"trial": "Int64", "residuals_kept": "Int64"})

    def residual_map(self) -> pd.DataFrame:
        """A row per residual connection, at each depth and at all depths together (no `layers`): `layers, layer,
        sublayer, lacking` (configurations without the connection), `solved` (those of which all runs converged), and
        `low, high`, the exact 95% interval of their share."""
        known = self.evidence
        depths: list[tuple[int | None, pd.DataFrame]] = [(None, known)]
        depths += [(int(str(layers)), tried) for layers, tried in known.groupby("layers")]
        rows = []
        for layers, tried in depths:
            for layer in range(int(tried["layers"].max()) if len(tried) else 0):
                for sublayer in SUBLAYERS:
                    free = (getattr(self.ablations[trial].model.residual_free, sublayer) for trial in tried["trial"])
                    without = tried[np.array([layer in layers_free for layers_free in free], bool)]
                    k, n = len(all_converged(without)), len(without)
                    rows.append([layers, layer, sublayer, n, k, *exact_share_interval(k, n)])
        columns = ["layers", "layer", "sublayer", "lacking", "solved", "low", "high"]
        return pd.DataFrame(rows, columns=columns).astype({"layers": "Int64"})

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:  # type: ignore[override]
        """File below `reports/search/` -> the table; the numbers in sentences are looked up in these."""
        return {"trials.csv": self.trials, "depths.csv": self.depths(), "confirmation.csv": self.confirmation()}

    def budget(self, where: RowFilter) -> int | None:
        """Budget of each run, the same in all rows."""
        return self.params.search.steps

    def converged(self, where: RowFilter, statistic: Statistic = "value") -> Estimate | None:
        """Number of converged runs of these trials, with the exact interval of their share."""
        estimate = self.read_estimate("trials.csv", "converged", "count", where, statistic=statistic, n="runs")
        if estimate is None:
            return None
        low, high = exact_share_interval(int(estimate.value), estimate.n or 0)
        return estimate.model_copy(update={"low": low, "high": high, "interval": "Clopper-Pearson 95%"})

    def converged_again(self, trial: int) -> Estimate | None:
        """Number of a trial's runs with fresh seeds that converged."""
        return self.read_estimate(
            "confirmation.csv", "converged", "count", {"trial": trial}, n="runs", interval="Clopper-Pearson 95%"
        )

    def steps_again(self, trial: int) -> Estimate | None:
        """Mean steps to converge of a trial's runs with fresh seeds; the budget for a run that did not converge."""
        where = {"trial": trial}
        return self.read_estimate("confirmation.csv", "restricted_steps", "steps", where, n="runs", interval="t 95%")

    def pattern(self, trial: Any) -> str:
        """A trial's architecture in words: `3 layers, no residual at layers 0, 1 (attention) and layer 2 (MLP)`."""
        ablation = self.ablation(trial)
        missing = switches.missing_residuals_in_words(ablation.model.residual_free)
        return f"{format_count(ablation.model.layers, 'layer')}, {missing or 'every residual connection'}"

    def settings(self, trial: Any) -> str:
        """Other settings of a trial that the search varies, in words: `, width 32, AdamW`; "" if there are none."""
        ablation, ablations = self.ablation(trial), [self.ablations[number] for number in self.evidence["trial"]]
        words = []
        for name in self.params.search.value_lists:
            if name == "layers":
                continue
            switch = next((switch for switch in switches.SWITCHES if switch.field == name), None)
            value_of = switch.value_of if switch else lambda ablation, name=name: getattr(
                ablation.model if name in type(ablation.model).model_fields else ablation.training, name
            )  # fmt: skip
            if len({str(value_of(other)) for other in ablations}) > 1:
                words.append(
                    switch.describe_value(value_of(ablation))
                    if switch
                    else f"{name.replace('_', ' ')} {value_of(ablation)}"
                )
        return "".join(f", {text}" for text in words if text)
