"""Rescue: how much of the cost of a missing residual connection its substitute gives back."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.reporting.experiment.comparisons import differences_by_seed, intact_pairs, pivot_by_seed
from pipeline.reporting.intervals import ratio_of_means

RESCUE_COLUMNS = ("ablation", "plain", "whole", "budget", "seeds", "rescue", "rescue_low", "rescue_high")


class SubstituteTriple(NamedTuple):
    """Three ablations that differ only in what some residual connections are replaced with."""

    substituted: Ablation
    """Ablation whose residual connections are replaced by a substitute."""
    residual_free: Ablation
    """Ablation that lacks the residual connections."""
    intact: Ablation
    """Ablation that has all residual connections."""


def substitute_triples(ablations: Sequence[Ablation]) -> list[SubstituteTriple]:
    """Group every substituted ablation with its residual-free and its intact counterpart, if both exist."""
    return [
        SubstituteTriple(ablation, residual_free, intact)
        for residual_free, intact in intact_pairs(ablations)
        if switches.lacks_residuals(residual_free)
        for ablation in ablations
        if ablation != residual_free
        and ablation
        in switches.select_variants(ablations, residual_free, residual_substitute=ablation.model.residual_substitute)
    ]


def rescue_table(ablations: Sequence[Ablation], runs: pd.DataFrame) -> pd.DataFrame:
    """Return `rescue.csv`: for each substituted ablation, the share of the connection's benefit that it gives back.

    `rescue` is (steps that the substitute saves) / (steps that the residual connection saves), both compared with the
    residual-free ablation (column `plain`) and up to the smallest `budget` of the three. It is a ratio of means over
    the seeds that all three share, with Fieller's 95 % interval, which is NaN if the intact ablation (column `whole`)
    does not differ significantly from the residual-free one.
    """
    rows = []
    for triple in substitute_triples(ablations):
        budget = min(ablation.training.steps for ablation in triple)
        shared_seeds = set.intersection(*({*ablation.training.seeds} for ablation in triple))
        steps = pivot_by_seed("restricted_steps", runs[runs["seed"].isin(shared_seeds)], budget)
        saved_by_substitute, saved_by_connection = (
            differences_by_seed(steps, triple.residual_free.name, other.name)
            for other in (triple.substituted, triple.intact)
        )
        if len(saved_by_substitute):
            names = [ablation.name for ablation in triple]
            ratio = ratio_of_means(saved_by_substitute, saved_by_connection)
            rows.append([*names, budget, len(saved_by_substitute), *ratio])
    return pd.DataFrame(rows, columns=list(RESCUE_COLUMNS))
