"""What a study found, as tables, from its trials and the typed ablations that they trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline import switches
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Ablation, Params
from pipeline.reporting.claims import Estimate, RowFilter, Statistic, TableReader
from pipeline.reporting.intervals import exact_interval, mean_with_interval
from pipeline.reporting.survival import restricted_steps
from pipeline.reporting.wording import plural

SUBLAYERS = ("attention", "mlp")
READY = 3
"""How many of the best configurations are confirmed, and written as ready-made ablations."""


def solved_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Those of which every member converged."""
    return trials[trials["converged"] == trials["members"]]


@dataclass(frozen=True)
class Study(TableReader):
    """A study, as its report is written from it.

    The evidence are the trials that were trained to their end, in the order of their numbers. What two workers trained
    at the same time counts once, as does what was repeated: the same seeds give the same members, not more of them.
    """

    name: str
    params: Params
    trials: pd.DataFrame
    """A row per trial, as in `trials.csv`."""
    ablations: Mapping[int, Ablation]
    """Trial -> what it trained."""
    wanted: int
    """How many trials there are to be."""
    space_size: int | None = None
    """How many configurations there are to try; None where nobody counted."""
    importances: Mapping[str, Mapping[str, float]] | None = None
    """Searched parameter -> objective -> importance; None where there are too few trials to say."""
    confirmed: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    """Trial -> what became of its members with fresh seeds, as in `training.history.outcomes`."""

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """The trials that count."""
        known = self.trials[(self.trials["state"] == "complete") & self.trials["repeats"].isna()].sort_values("trial")
        configurations = [
            str((self.ablations[trial].model, self.ablations[trial].training)) for trial in known["trial"]
        ]
        return known[~pd.Series(configurations, index=known.index, dtype=str).duplicated()]

    def ablation(self, trial: Any) -> Ablation:
        """What a row of the trials trained."""
        return self.ablations[int(trial["trial"])]

    @property
    def exhausted(self) -> bool:
        """Whether every configuration of the space was tried."""
        return self.space_size is not None and len(self.evidence) >= self.space_size

    @property
    def score(self) -> str:
        """What a score between 0 and 1 is, in words."""
        return self.params.task(self.params.search.task).score.share_words

    @property
    def order_blind(self) -> pd.DataFrame:
        """The evidence that cannot know the order of its input, whatever it learns."""
        blind = [is_order_blind(self.ablations[trial].model) for trial in self.evidence["trial"]]
        return self.evidence[np.array(blind, bool)]

    def ranked(self, trials: pd.DataFrame | None = None) -> pd.DataFrame:
        """Best first: more members converged, then fewer residual connections, then a better score, then earlier."""
        order = ["converged_share", "residuals_kept", "score", "trial"]
        return (self.evidence if trials is None else trials).sort_values(order, ascending=[False, True, False, True])

    def best(self, positional: str) -> dict[str, pd.Series]:
        """The trials that the answer names for a positional encoding, by the sentence that does: of those of which
        every member converged the `shallowest` (of equals the sparsest) and the `sparsest`; the best where there is
        none (`unsolved`)."""
        tried = self.evidence[self.evidence["positional"] == positional]
        solved = solved_of(tried)
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
        """The trials to be confirmed: those that the answer names, and the best `READY`."""
        named = [trial for positional in self.positional for trial in self.best(positional).values()]
        best = [trial for _, trial in self.ranked().head(READY).iterrows()]
        return list(dict.fromkeys(int(trial["trial"]) for trial in [*named, *best]))

    @property
    def unconfirmed(self) -> list[int]:
        """The candidates that are to be trained again with fresh seeds, and were not."""
        return [trial for trial in self.candidates if self.params.search.confirm and trial not in self.confirmed]

    def confirmation(self) -> pd.DataFrame:
        """A row per confirmed trial, of its members with fresh seeds: `trial, members, converged`, and `converged_low,
        converged_high`, the exact 95% interval of their share; `restricted_steps`, the mean steps to converge up to the
        budget, with its t interval; the mean `score`."""
        rows = []
        for trial, members in self.confirmed.items():
            taken = mean_with_interval(restricted_steps(members, self.params.search.steps))
            k, n = int(members["converged"].sum()), len(members)
            rows.append([trial, n, k, *exact_interval(k, n), *taken, members["score"].mean()])
        sure = [f"{name}{end}" for name in ("converged", "restricted_steps") for end in ("", "_low", "_high")]
        return pd.DataFrame(rows, columns=["trial", "members", *sure, "score"])

    def pareto_front(self) -> pd.DataFrame:
        """The trials that no other beats in one of share converged (more is better) and residual connections
        kept (fewer are better) without losing in the other; of equals, all. Sorted by connections."""
        known = self.evidence
        share, size = (known[name].to_numpy(float) for name in ("converged_share", "residuals_kept"))
        as_good = (share[:, None] >= share) & (size[:, None] <= size)
        better = (share[:, None] > share) | (size[:, None] < size)
        return known[pd.Series(~(as_good & better).any(axis=0), known.index)].sort_values(["residuals_kept", "trial"])

    def depths(self) -> pd.DataFrame:
        """A row per positional encoding and depth: `positional, layers, tried, solved` (configurations of which every
        member converged), `best_converged` (the most of `members` that did in one), `best_score`, and of the
        solved ones the `trial` that keeps the fewest residual connections (of equals, the best score) and its
        `residuals_kept`; empty without any."""
        rows = []
        for (positional, layers), tried in self.evidence.groupby(["positional", "layers"]):
            solved = solved_of(tried)
            best = self.ranked(solved).head(1).to_dict("records")
            rows.append(
                {
                    "positional": positional,
                    "layers": layers,
                    "tried": len(tried),
                    "solved": len(solved),
                    "best_converged": tried["converged"].max(),
                    "members": tried["members"].max(),
                    "best_score": tried["score"].max(),
                    **{name: best[0][name] if best else None for name in ("trial", "residuals_kept")},
                }
            )
        names = ["positional", "layers", "tried", "solved", "best_converged", "members", "best_score"]
        table = pd.DataFrame(rows, columns=[*names, "trial", "residuals_kept"])
        return table.astype({"trial": "Int64", "residuals_kept": "Int64"})

    def residual_map(self) -> pd.DataFrame:
        """How often the task was learned without a connection: `layers` (the depth; missing: all depths together),
        `layer, sublayer, lacking` (configurations without it), `solved` (of these, how many of which every member
        converged), and `low, high`, the exact 95% interval of their share."""
        known = self.evidence
        depths: list[tuple[int | None, pd.DataFrame]] = [(None, known)]
        depths += [(int(str(layers)), tried) for layers, tried in known.groupby("layers")]
        rows = []
        for layers, tried in depths:
            for layer in range(int(tried["layers"].max()) if len(tried) else 0):
                for sublayer in SUBLAYERS:
                    free = (getattr(self.ablations[trial].model.residual_free, sublayer) for trial in tried["trial"])
                    without = tried[np.array([layer in layers_free for layers_free in free], bool)]
                    k, n = len(solved_of(without)), len(without)
                    rows.append([layers, layer, sublayer, n, k, *exact_interval(k, n)])
        columns = ["layers", "layer", "sublayer", "lacking", "solved", "low", "high"]
        return pd.DataFrame(rows, columns=columns).astype({"layers": "Int64"})

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:  # type: ignore[override]
        """File below `reports/search/` -> its table: what the sentences are looked up in."""
        return {"trials.csv": self.trials, "depths.csv": self.depths(), "confirmation.csv": self.confirmation()}

    def budget(self, where: RowFilter) -> int | None:
        """That of every trial."""
        return self.params.search.steps

    def converged(self, where: RowFilter, statistic: Statistic = "value") -> Estimate | None:
        """How many of the members of these trials converged, with the exact interval of their share."""
        found = self.estimate("trials.csv", "converged", "count", where, statistic=statistic, n="members")
        if found is None:
            return None
        low, high = exact_interval(int(found.value), found.n or 0)
        return found.model_copy(update={"low": low, "high": high, "interval": "Clopper-Pearson 95%"})

    def again(self, trial: int) -> Estimate | None:
        """How many of its members with fresh seeds converged."""
        return self.estimate(
            "confirmation.csv", "converged", "count", {"trial": trial}, n="members", interval="Clopper-Pearson 95%"
        )

    def steps_again(self, trial: int) -> Estimate | None:
        """Their mean steps to converge; one that did not counts as the budget."""
        where = {"trial": trial}
        return self.estimate("confirmation.csv", "restricted_steps", "steps", where, n="members", interval="t 95%")

    def pattern(self, trial: Any) -> str:
        """What a trial trained, in words: `3 layers, no residual at layers 0, 1 (attention) and layer 2 (MLP)`."""
        ablation = self.ablation(trial)
        missing = switches.missing_residuals_in_words(ablation.model.residual_free)
        return f"{plural(ablation.model.layers, 'layer')}, {missing or 'every residual connection'}"

    def settings(self, trial: Any) -> str:
        """Of a trial's other settings, those that the study varies: `, width 32, AdamW`; empty without any."""
        ablation, every = self.ablation(trial), [self.ablations[number] for number in self.evidence["trial"]]
        words = []
        for name in self.params.search.plain:
            if name == "layers":
                continue
            switch = next((switch for switch in switches.SWITCHES if switch.field == name), None)
            of = switch.value_of if switch else lambda ablation, name=name: getattr(
                ablation.model if name in type(ablation.model).model_fields else ablation.training, name
            )  # fmt: skip
            if len({str(of(one)) for one in every}) > 1:
                words.append(switch.words(of(ablation)) if switch else f"{name.replace('_', ' ')} {of(ablation)}")
        return "".join(f", {text}" for text in words if text)
