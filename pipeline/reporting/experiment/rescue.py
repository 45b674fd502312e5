"""How much of what a missing residual connection costs is given back by what stands in for it."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.reporting.experiment.comparisons import differences_by_seed, pivot_by_seed
from pipeline.reporting.intervals import ratio_of_means

COLUMNS = ("ablation", "plain", "whole", "budget", "seeds", "rescue", "rescue_low", "rescue_high")


class SubstituteTriple(NamedTuple):
    """Three ablations that are alike but for one residual connection or more."""

    substituted: Ablation
    """Has something in its stead."""
    residual_free: Ablation
    """Lacks it."""
    intact: Ablation
    """Has it."""


def substitute_triples(ablations: Sequence[Ablation]) -> list[SubstituteTriple]:
    """Every ablation with a substitute whose plain and whole twins the grid has, in the order of the plain ones."""
    plain = [
        (ablation, whole)
        for ablation in filter(switches.lacks_residuals, ablations)
        if (whole := switches.intact_counterpart(ablations, ablation))
    ]
    return [
        SubstituteTriple(ablation, lacking, whole)
        for lacking, whole in plain
        for ablation in ablations
        if ablation != lacking
        and ablation
        in switches.ablations_like(ablations, lacking, residual_substitute=ablation.model.residual_substitute)
    ]


def rescue_table(ablations: Sequence[Ablation], runs: pd.DataFrame) -> pd.DataFrame:
    """A row per trio: `rescue`, the steps that the substitute saves over the steps that the whole ablation saves, means
    over the seeds that all three have of the steps to converge up to the `budget`, with Fieller's 95% interval (none
    where the data do not tell the whole ablation from the plain one): 0 nothing is given back, 1 all."""
    rows = []
    for substituted, plain, whole in substitute_triples(ablations):
        budget = min(ablation.training.steps for ablation in (substituted, plain, whole))
        of = runs[runs["seed"].isin({*substituted.training.seeds} & {*plain.training.seeds} & {*whole.training.seeds})]
        scored = pivot_by_seed("restricted_steps", of, budget)
        saved, most = (differences_by_seed(scored, plain.name, one.name) for one in (substituted, whole))
        if len(saved):
            names = (substituted.name, plain.name, whole.name)
            rows.append([*names, budget, len(saved), *ratio_of_means(saved, most)])
    return pd.DataFrame(rows, columns=list(COLUMNS))
