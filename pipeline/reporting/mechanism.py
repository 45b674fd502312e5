"""Statistics of what was measured inside the models: means over seeds, and differences from the intact ablation."""

from collections.abc import Iterator

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.reporting.estimates import Row, estimate, statistic
from pipeline.reporting.intervals import Summary, interval_of_mean, summarise_mean
from pipeline.reporting.results import KEYS, Results
from pipeline.reporting.wording import Unit

UNITS: dict[str, Unit] = {
    "position_probe.r2": "ratio",
    "own_token.dominance": "share",
    "own_token.margin": "points",
    "token_probe.accuracy": "share",
    "token_probe.chance": "share",
    "mask_permutation.exact_match_lost": "points",
    **{f"position_erasure.{model}": "share" for model in ("untouched", "mean_erased", "size_erased", "sham")},
    "interchange.recovery": "ratio",
    "cost.flops_per_step": "flops",
}
"""Measured quantity -> unit; other quantities are plain numbers."""
STATE_CONTRASTS = {
    "effective_rank": {"moment": "initial", "key": ""},
    "own_token.margin": {"moment": "trained", "key": ""},
    "position_probe.r2": {"moment": "trained", "key": "inputs=random;target=position"},
}
"""Measured quantities in which residual-free ablations are compared with the intact one -> which of their rows."""


@statistic()
def measured_means(results: Results) -> pd.DataFrame:
    """Return the mean over seeds of each measured number, with its t interval.

    Of the token probe, which has a number for each pair of positions, only those after the last layer as trained; the
    quantities `own_token` summarise the others.
    """
    measured, by = results.measured.dropna(subset=["value"]), ["ablation", "quantity", *KEYS, "key", "moment"]
    layers = measured["ablation"].map({ablation.name: ablation.model.layers for ablation in results.ablations})
    is_last = (measured["depth"] == layers).fillna(False) & (measured["moment"] == "trained")
    kept = measured[is_last | ~measured["quantity"].str.startswith("token_probe.")]
    groups = kept.groupby(by, sort=False, dropna=False)["value"]
    rows = groups.agg(value="mean", deviation="std", n="count").reset_index()
    low, high = interval_of_mean(*(rows[name].to_numpy() for name in ("value", "deviation", "n")))
    names = rows["ablation"]
    return rows.drop(columns="deviation").assign(
        low=low, high=high, method="mean, t 95%", unit=rows["quantity"].map(UNITS).fillna("number"),
        task=names.map({ablation.name: ablation.dataset for ablation in results.ablations}),
        budget=names.map({ablation.name: ablation.training.steps for ablation in results.ablations}),
    )  # fmt: skip


@statistic()
def added_dominance(results: Results) -> Iterator[Row]:
    """Yield what training adds to the share of positions whose own token is read best: trained - initial, by seed."""
    dominance = results.measured[results.measured["quantity"] == "own_token.dominance"]
    for ablation in results.ablations:
        for depth, rows in dominance[dominance["ablation"] == ablation.name].groupby("depth"):
            if added := _mean_difference(rows, "moment", "trained", "initial"):
                yield estimate(ablation, "own_token.added_dominance", added, "points", depth=depth, moment="trained")


@statistic()
def state_contrasts(results: Results) -> Iterator[Row]:
    """Yield differences in states between each ablation without residual connections and the intact one, by seed.

    The effective rank is compared after the last layer, the others after the last layer without the connections.
    """
    for ablation in results.ablations:
        intact = switches.find_intact_counterpart(results.ablations, ablation)
        if switches.is_intact(ablation) or intact is None:
            continue
        for quantity, where in STATE_CONTRASTS.items():
            depth = ablation.model.layers if quantity == "effective_rank" else comparison_depth(ablation)
            chosen = (results.measured[["quantity", "depth", *where]] == [quantity, depth, *where.values()]).all(axis=1)
            rows = results.measured[chosen.fillna(False)]
            if difference := _mean_difference(rows, "ablation", ablation.name, intact.name):
                columns = {"versus": intact.name, "depth": depth, **where}
                yield estimate(ablation, quantity, difference, UNITS.get(quantity, "number"), **columns)


def _mean_difference(measured: pd.DataFrame, column: str, first: str, second: str) -> Summary | None:
    """Summarise the difference by seed between the numbers with two values of a column; None if no seed has both."""
    values = measured.pivot(index="seed", columns=column, values="value").reindex(columns=[first, second]).dropna()
    return summarise_mean(values[first] - values[second]) if len(values) else None


def comparison_depth(ablation: Ablation) -> int:
    """Return the depth after the last layer that lacks a residual connection; of an intact ablation, the last depth."""
    return 1 + max(ablation.model.residual_free.layers, default=ablation.model.layers - 1)
