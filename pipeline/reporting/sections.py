"""The sections of the report, as data: a title, an explanation, tables and figures, in the order of the page.

A task's sections are `RESULTS`, the switches', the measurements', and `DETAILS`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pandas as pd

from pipeline import switches
from pipeline.measurement.registry import Measurement
from pipeline.params import Ablation
from pipeline.reporting import pictures
from pipeline.reporting.estimates import Estimate
from pipeline.reporting.mechanism import comparison_depth
from pipeline.reporting.page import Picture
from pipeline.reporting.results import KEYS
from pipeline.reporting.tables import Column, TaskView, ablation_table, axis_table, contrast_table, verdict_table

Chapter = Literal["Results", "What each switch changes", "Where the order comes from", "Details"]
Tables = Mapping[str, Callable[[TaskView], pd.DataFrame]]
"""Sentence above each table -> function that builds the table."""
Figures = Sequence[Callable[[TaskView], Picture | None]]


@dataclass(frozen=True)
class Section:
    """A section of the report. It is left out if none of its tables and figures has anything to show."""

    chapter: Chapter
    title: str
    note: str = ""
    """Explanation, in Markdown."""
    tables: Tables = field(default_factory=dict)
    figures: Figures = ()


OUTCOMES = {
    "Converged": Column("converged", show=Estimate.number),
    "95% interval": Column("converged", show=Estimate.interval),
    "Steps": Column("restricted_steps"),
    "Budget": Column("parameters", show=Estimate.budget),
    "Still rising": Column("still_rising", show=Estimate.number),
    "Test exact match": Column("test_exact_match"),
    "Test bits per token": Column("test_bits"),
    "Worth of order, bits": Column("order_value"),
    "Ceiling": Column("order_blind_ceiling", show=Estimate.number),
    "Diverged": Column("diverged", show=Estimate.number),
}
"""Columns of the first table. (Every ablation has an estimate of its parameters, and so a budget.)"""
RESULTS = (
    Section(
        "Results",
        "Results by ablation",
        "**Converged**: runs whose validation score reached the target. **Steps**: mean over all runs; one that "
        "did not converge counts as its whole budget, so such a mean is a lower bound. **Still rising**: runs that"
        " did not converge but improved over the last third of their evaluations (Kendall's τ, one-sided p below "
        "0.01). **Test** exact match: median over runs and range, at the last step; a run stops when it has "
        "converged. **Ceiling**: best exact match of any predictor that knows which characters the prompt has, but"
        " not their order; given for architectures that are order-blind by construction. Intervals are 95 % "
        "(means: t; shares of runs: Clopper-Pearson).",
        {"": partial(ablation_table, OUTCOMES, described=True)},
        [pictures.draw_runs],
    ),
    Section(
        "Results",
        "What is decided",
        "Only comparisons that `params.yaml` declares get a p-value: a sign-flip test over the seeds that both "
        "share, corrected for their number (Holm). **Decided** means p below 0.05. The log-rank test beside it "
        "decides nothing.",
        {"": verdict_table},
    ),
)
SWITCH_TITLES = {
    "positional": "What does positional encoding change?",
    "attention": "What does the causal mask change?",
    "layers": "How many layers are needed?",
    "residual_free": "What do residual connections change?",
    "residual_substitute": "What does a substitute for missing connections change?",
}
SWITCH_FIGURES: dict[str, Figures] = {
    "layers": [pictures.draw_steps_by_depth],
    "residual_substitute": [pictures.draw_substitutes],
}
DIFFERENCE_HEADERS = {"restricted_steps": "Steps", "test_exact_match": "Points", "test_bits": "Bits"}
STATE_HEADERS = {"effective_rank": "Effective rank", "own_token.margin": "Margin", "position_probe.r2": "R²"}
SWITCH_TABLES: dict[str, Tables] = {
    "residual_free": {
        "Differences of the states from those of the intact ablation: effective rank before training, margin "
        "of the own token in points, and R² of the position.": partial(contrast_table, "residual_free", STATE_HEADERS),
    },
    "residual_substitute": {
        "Share of the steps lost without the connections that the substitute gives back (Fieller's interval).":
            partial(ablation_table, {"Given back": Column("rescue")}),
    },
}  # fmt: skip
"""Switch -> title, figures and tables of its section, beside its contrasts."""


def switch_sections() -> Iterator[Section]:
    """Yield a section for each switch, with all pairs of ablations that differ in that switch alone."""
    caption = "Mean difference over the seeds that both have, up to the smaller of the two budgets."
    for switch in switches.SWITCHES:
        title = SWITCH_TITLES.get(switch.field, f"What does `{switch.field}` change?")
        contrasts = {caption: partial(contrast_table, switch.field, DIFFERENCE_HEADERS)}
        tables, figures = SWITCH_TABLES.get(switch.field, {}), SWITCH_FIGURES.get(switch.field, ())
        yield Section("What each switch changes", title, tables={**contrasts, **tables}, figures=figures)


def at_comparison_depth(ablation: Ablation) -> Mapping[str, Any]:
    """Return the columns of the depth after the last layer that lacks a residual connection."""
    return {"depth": comparison_depth(ablation)}


def at_norm_after_missing_connection(ablation: Ablation) -> Mapping[str, Any]:
    """Return the columns of the norm after an ablation's last missing residual connection."""
    free = ablation.model.residual_free
    layer = max(free.layers, default=-1)
    if layer >= 0 and layer not in free.mlp:
        return {"layer": layer, "sublayer": "mlp"}
    is_last = layer + 1 == ablation.model.layers
    return {"layer": layer + 1, "sublayer": "output" if is_last else "attention"}


MEASUREMENT_TABLES: dict[str, Tables] = {
    "symmetry": {"": partial(ablation_table, {
        "Change of a logit": Column("symmetry.max_logit_change", "trained"),
        "before training": Column("symmetry.max_logit_change", "initial"),
        "Total variation": Column("symmetry.total_variation", "trained"),
        "Other answers": Column("symmetry.changed_argmax_share", "trained"),
    })},
    "mask_permutation": {
        "Exact match lost, in points:": partial(axis_table, "mask_permutation.exact_match_lost", "key"),
    },
    "permutation_sensitivity": {
        "Relative change of the last token's state:":
            partial(axis_table, "permutation_sensitivity.change_of_token", "depth", position="last"),
    },
    "interchange": {
        f"States at: {positions}.": partial(axis_table, "interchange.recovery", "depth", key=f"positions={positions}")
        for positions in ("swapped pair", "rest", "last")
    },
    "position_probe": {
        f"R² of the {target}, {inputs} tokens, {words}:":
            partial(axis_table, "position_probe.r2", "depth", key=f"inputs={inputs};target={target}", moment=moment)
        for inputs, target, moment, words in (
            ("random", "position", "trained", "trained"),
            ("random", "position", "initial", "before training"),
            ("task", "position", "trained", "trained"),
            ("random", "distance", "trained", "trained"),
        )
    },
    "position_erasure": {
        f"Exact match, {words}:": partial(axis_table, f"position_erasure.{value}", "depth")
        for value, words in (
            ("untouched", "unchanged model"),
            ("mean_erased", "same mean at all positions"),
            ("size_erased", "same mean and spread at all positions"),
            ("sham", "shifted as far in a random direction"),
        )
    },
    "token_probe": {
        "Dominance: share of positions whose own token is read best; margin: how many points better. After the"
        " last layer that lacks a residual connection, or the last layer. If a state held all visible tokens "
        "equally well, dominance would be (1 + 1/2 + ... + 1/n) / n with a causal mask, 1/n with full "
        "attention (n positions).": partial(ablation_table, {
            "Dominance": Column("own_token.dominance", "trained", at_comparison_depth),
            "before training": Column("own_token.dominance", "initial", at_comparison_depth),
            "added by training, points": Column("own_token.added_dominance", "trained", at_comparison_depth),
            "Margin, points": Column("own_token.margin", "trained", at_comparison_depth),
        })
    },
    "activation_scale": {
        "At the norm after the last missing connection (intact: at the first norm):": partial(ablation_table, {
            f"{words}, {when}": Column(f"activation_scale.{value}", moment, at_norm_after_missing_connection)
            for value, words in (("entering", "Size"), ("jacobian", "Jacobian"))
            for moment, when in (("initial", "before training"), ("trained", "trained"))
        }),
        **{
            f"Size at each layer's {name} norm, before training:":
                partial(axis_table, "activation_scale.entering", "layer", sublayer=name, moment="initial")
            for name in ("attention", "mlp", "output")
        },
    },
}  # fmt: skip
MEASUREMENT_FIGURES: dict[str, Figures] = {
    "permutation_sensitivity": [partial(
        pictures.draw_quantity, "Change of the last token's state when earlier tokens are permuted",
        "permutation_sensitivity.change_of_token", "depth", position="last",
    )],
    "interchange": [partial(
        pictures.draw_quantity, "Share of a swap of two tokens that the last position holds",
        "interchange.recovery", "depth", key="positions=last",
    )],
    "position_probe": [partial(
        pictures.draw_quantity, "R² of a probe that reads the position from a state",
        "position_probe.r2", "depth", key="inputs=random;target=position",
    )],
    "token_probe": [pictures.draw_token_maps],
}  # fmt: skip
"""Measurement -> tables and figures of its section; others get those of `measurement_section`."""


def measurement_section(measurement: Measurement, view: TaskView) -> Section:
    """Return the section of a measurement; by default a table of its first value, before and after training.

    The table has a column per depth or layer, if the measurement has any; other keys are as in the first row.
    """
    value, words = next(iter(measurement.value_descriptions.items()))
    quantity = value if value == measurement.name else f"{measurement.name}.{value}"
    rows = view.estimates.select(quantity, moment="trained", versus="")
    axis = next((name for name in ("depth", "layer") if rows[name].notna().any()), "")
    keys = {name: rows[name].iloc[0] for name in (*KEYS, "key") if name != axis and rows[name].nunique() > 1}
    heading = words[0].upper() + words[1:]
    moments = {"trained": "as trained", "initial": "before training"}
    default: Tables = {
        f"{heading}, {when}:": partial(axis_table, quantity, axis, **keys, moment=moment)
        for moment, when in moments.items()
    }
    if not axis:
        columns = {when.capitalize(): Column(quantity, moment, lambda _: keys) for moment, when in moments.items()}
        default = {f"{heading}:": partial(ablation_table, columns)}
    return Section(
        "Where the order comes from",
        measurement.title,
        measurement.explanation,
        MEASUREMENT_TABLES.get(measurement.name, default),
        MEASUREMENT_FIGURES.get(measurement.name, ()),
    )


DETAILS = (
    Section(
        "Details", "Learning curves", "Validation score: mean over the runs.", figures=[pictures.draw_learning_curves]
    ),
    Section(
        "Details",
        "Where the errors are",
        "Share of answers with each character right, and exact match for each value of a stratum of the examples.",
        {
            "Characters of the answer, in the order produced:": partial(
                axis_table, "right_characters", "key", moment=""
            ),
            "Strata of the test examples:": partial(axis_table, "exact_match_in_stratum", "key", moment=""),
        },
    ),
)
