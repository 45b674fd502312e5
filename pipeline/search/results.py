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
from pipeline.reporting.estimates import ESTIMATES, Estimates, complete_columns
from pipeline.reporting.intervals import exact_share_interval, summarise_mean, summarise_share
from pipeline.reporting.results import restricted_steps
from pipeline.reporting.wording import count_in_words

SUBLAYERS = ("attention", "mlp")
BEST_TRIAL_COUNT = 3
"""Number of best trials that are trained again with fresh seeds and listed as ablations for `params.yaml`."""


def select_converged(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the trials whose runs all converged."""
    return trials[trials["converged"] == trials["runs"]]


@dataclass(frozen=True)
class SearchResults:
    """Results of a search, from which the report is built.

    A configuration that was trained twice counts once: the same seeds give the same runs, not more runs.
    """

    name: str
    params: Params
    trials: pd.DataFrame
    """Table `trials.csv`: a row per trial."""
    ablations: Mapping[int, Ablation]
    """Trial number -> the ablation that the trial trained."""
    trials_required: int
    """Number of complete trials at which the search ends."""
    space_size: int | None = None
    """Number of configurations in the search space; None if unknown."""
    importances: Mapping[str, Mapping[str, float]] | None = None
    """Searched parameter -> objective -> importance of the parameter for the objective; None if not computed."""
    confirmation_runs: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    """Trial number -> table with a row per run of the trial's ablation with fresh seeds."""

    @cached_property
    def distinct_trials(self) -> pd.DataFrame:
        """Rows of the complete trials in the order of trial numbers, each configuration only once."""
        known = self.trials[(self.trials["state"] == "complete") & self.trials["repeats"].isna()].sort_values("trial")
        configurations = [
            str((self.ablations[trial].model, self.ablations[trial].training)) for trial in known["trial"]
        ]
        return known[~pd.Series(configurations, index=known.index, dtype=str).duplicated()]

    def find_ablation(self, trial: Any) -> Ablation:
        """Return the ablation that a trial trained, given the trial's row of `trials`."""
        return self.ablations[int(trial["trial"])]

    @property
    def is_space_exhausted(self) -> bool:
        """True if all configurations of the search space were tried."""
        return self.space_size is not None and len(self.distinct_trials) >= self.space_size

    @property
    def score_words(self) -> str:
        """Words for the score in [0, 1] of the searched task, such as `exact match`."""
        return self.params.task(self.params.search.task).score.share_label

    @property
    def order_blind_trials(self) -> pd.DataFrame:
        """Rows of `distinct_trials` whose architecture cannot represent the order of input tokens."""
        blind = [is_order_blind(self.ablations[trial].model) for trial in self.distinct_trials["trial"]]
        return self.distinct_trials[np.array(blind, bool)]

    def rank_trials(self, trials: pd.DataFrame | None = None) -> pd.DataFrame:
        """Sort `trials` (default: `distinct_trials`), best first: more runs converged, then fewer residual connections,
        then better score, then earlier."""
        order = ["converged_share", "residuals_kept", "score", "trial"]
        return (self.distinct_trials if trials is None else trials).sort_values(
            order, ascending=[False, True, False, True]
        )

    def best_trials(self, positional: str) -> dict[str, pd.Series]:
        """Return the rows of the best trials with a positional encoding, by the name of the sentence about them.

        Among trials whose runs all converged, `shallowest` has the fewest layers (and of these the fewest residual
        connections), and `sparsest` the fewest residual connections. If there are none, `unsolved` is the best trial.
        """
        tried = self.distinct_trials[self.distinct_trials["positional"] == positional]
        solved = select_converged(tried)
        if solved.empty:
            return {"unsolved": self.rank_trials(tried).iloc[0]}
        shallow = solved[solved["layers"] == solved["layers"].min()]
        return {"shallowest": self.rank_trials(shallow).iloc[0], "sparsest": self.rank_trials(solved).iloc[0]}

    @property
    def positional_encodings(self) -> list[str]:
        """Names of the positional encodings that were tried, `none` first."""
        return sorted(set(self.distinct_trials["positional"]), key=lambda name: (name != "none", name))

    @property
    def confirmation_candidates(self) -> list[int]:
        """Numbers of the trials to train again with fresh seeds: `best_trials`, and the first in `rank_trials`."""
        named = [trial for positional in self.positional_encodings for trial in self.best_trials(positional).values()]
        best = [trial for _, trial in self.rank_trials().head(BEST_TRIAL_COUNT).iterrows()]
        return list(dict.fromkeys(int(trial["trial"]) for trial in [*named, *best]))

    @property
    def unconfirmed_trials(self) -> list[int]:
        """Numbers of the trials that still have to be trained again with fresh seeds."""
        return [
            trial
            for trial in self.confirmation_candidates
            if self.params.search.confirm and trial not in self.confirmation_runs
        ]

    def confirmation_table(self) -> pd.DataFrame:
        """Return the table `confirmation.csv`, with a row per trial that was trained again with fresh seeds.

        Columns: `trial, runs, converged`; `converged_low, converged_high`: exact 95% interval of the share of converged
        runs; `restricted_steps` with its t interval: mean steps to converge, where the budget stands for a run that did
        not; `score`: mean over runs.
        """
        rows = []
        for trial, runs in self.confirmation_runs.items():
            steps = summarise_mean(restricted_steps(runs, self.params.search.steps))
            converged, count = int(runs["converged"].sum()), len(runs)
            interval = exact_share_interval(converged, count)
            steps_columns = steps["value"], steps["low"], steps["high"]
            rows.append([trial, count, converged, *interval, *steps_columns, runs["score"].mean()])
        intervals = [f"{name}{end}" for name in ("converged", "restricted_steps") for end in ("", "_low", "_high")]
        return pd.DataFrame(rows, columns=["trial", "runs", *intervals, "score"])

    def pareto_front(self) -> pd.DataFrame:
        """Return the rows of the trials on the Pareto front, sorted by residual connections kept.

        No trial beats these: none has a higher share of converged runs with as few residual connections, or fewer
        connections with as high a share. Trials with equal results are all included.
        """
        known = self.distinct_trials
        share, size = (known[name].to_numpy(float) for name in ("converged_share", "residuals_kept"))
        as_good = (share[:, None] >= share) & (size[:, None] <= size)
        better = (share[:, None] > share) | (size[:, None] < size)
        return known[pd.Series(~(as_good & better).any(axis=0), known.index)].sort_values(["residuals_kept", "trial"])

    def depth_table(self) -> pd.DataFrame:
        """Return the table `depths.csv`, with a row per positional encoding and number of layers.

        Columns: `tried` and `solved`: numbers of configurations, and of configurations whose runs all converged;
        `best_converged`: largest number of converged runs in a configuration, of `runs`; `best_score`; `trial`: number
        of the solved trial that keeps the fewest residual connections (among equals, of the best score), and its
        `residuals_kept`.
        """
        rows = []
        for (positional, layers), tried in self.distinct_trials.groupby(["positional", "layers"]):
            solved = select_converged(tried)
            best = self.rank_trials(solved).head(1).to_dict("records")
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

    def residual_map_table(self) -> pd.DataFrame:
        """Return a table with a row per residual connection and number of layers.

        Columns: `layers` (missing: all numbers of layers together), `layer, sublayer`; `lacking`: number of
        configurations without the connection; `solved`: number of these whose runs all converged; `low, high`: exact
        95% interval of the share.
        """
        known = self.distinct_trials
        depths: list[tuple[int | None, pd.DataFrame]] = [(None, known)]
        depths += [(int(str(layers)), tried) for layers, tried in known.groupby("layers")]
        rows = []
        for layers, tried in depths:
            for layer in range(int(tried["layers"].max()) if len(tried) else 0):
                for sublayer in SUBLAYERS:
                    free = (getattr(self.ablations[trial].model.residual_free, sublayer) for trial in tried["trial"])
                    without = tried[np.array([layer in layers_free for layers_free in free], bool)]
                    solved, lacking = len(select_converged(without)), len(without)
                    rows.append([layers, layer, sublayer, lacking, solved, *exact_share_interval(solved, lacking)])
        columns = ["layers", "layer", "sublayer", "lacking", "solved", "low", "high"]
        return pd.DataFrame(rows, columns=columns).astype({"layers": "Int64"})

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Name of each file in `reports/search/` -> its table."""
        return {
            "trials.csv": self.trials,
            "depths.csv": self.depth_table(),
            "confirmation.csv": self.confirmation_table(),
            ESTIMATES: self.estimates().table,
        }

    def estimates(self) -> Estimates:
        """Return the estimates of the best trials, in the search and with fresh seeds; `ablation` is `trial-NUMBER`."""
        rows = []
        task, budget = self.params.search.task, self.params.search.steps
        by_number = self.trials.set_index("trial")
        for number in self.confirmation_candidates:
            identity = {"ablation": f"trial-{number}"}
            counts = {"": (int(by_number["converged"][number]), int(by_number["runs"][number]))}
            if (runs := self.confirmation_runs.get(number)) is not None:
                counts["fresh_"] = int(runs["converged"].sum()), len(runs)
                steps = summarise_mean(restricted_steps(runs, budget))
                steps["method"] += "" if runs["converged"].all() else "; at least"
                rows.append({"quantity": "fresh_restricted_steps", **steps, "unit": "steps", **identity})
            for prefix, (converged, count) in counts.items():
                share = summarise_share(converged, count)
                rows.append({"quantity": f"{prefix}converged", **share, "unit": "runs", **identity})
        table = pd.DataFrame(rows).assign(task=task, budget=budget)
        return Estimates(complete_columns(table))

    def architecture_in_words(self, trial: Any) -> str:
        """Describe a trial's architecture: `3 layers, no residual at layers 0, 1 (attention) and layer 2 (MLP)`."""
        ablation = self.find_ablation(trial)
        missing = switches.missing_residuals_in_words(ablation.model.residual_free)
        return f"{count_in_words(ablation.model.layers, 'layer')}, {missing or 'every residual connection'}"

    def other_settings_in_words(self, trial: Any) -> str:
        """Describe the other settings of a trial that differ between trials: `, width 32, AdamW`; "" if none differ."""
        ablation = self.find_ablation(trial)
        ablations = [self.ablations[number] for number in self.distinct_trials["trial"]]
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
