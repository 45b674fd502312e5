"""The page of a search: the map of what converges, what each residual connection is worth, and every pattern."""

from functools import partial

import numpy as np
import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import BITS
from pipeline.reporting import figures
from pipeline.reporting.estimates import Estimate
from pipeline.reporting.page import Picture, render_template, show_picture
from pipeline.reporting.wording import count_in_words, percent
from pipeline.search.race import MIN_SURE_OF_MAP
from pipeline.search.results import FINISHED, SearchResults

TITLE = "Which layers and residual connections are enough?"


def build_page(results: SearchResults) -> tuple[str, list[Picture]]:
    """Return the page in Markdown, and its figures."""
    pictures = [residual_map(results)] if results.groups and results.params.search.layer_choices else []
    text = render_template(
        "search.md.j2",
        title=TITLE,
        results=results,
        search=results.params.search,
        target=target_in_words(results.ablations[0]) if results.ablations else "",
        trials=results.trials[results.trials["state"].isin(FINISHED)].to_dict("records"),
        rows=lambda quantity, name: map(Estimate, results.estimates.select(quantity, ablation=name).to_dict("records")),
        estimate=lambda quantity, name: results.estimates.find(quantity, ablation=name),
        min_sure=MIN_SURE_OF_MAP,
        group_in_words=group_in_words,
        describe_trial=partial(describe_trial, results),
        pictures=[show_picture(picture) for picture in pictures],
    )
    return text, pictures


def group_in_words(group: pd.DataFrame) -> str:
    """Describe a group of trials: `2 layers, no PE`."""
    first = group.iloc[0]
    return f"{count_in_words(first['layers'], 'layer')}, {switches.positional_encoding_in_words(first['positional'])}"


def target_in_words(ablation: Ablation) -> str:
    """Describe the score at which a run converges: `90% exact match`, `1.5 bits per token`."""
    score, threshold = ablation.task.score, ablation.convergence_threshold
    assert threshold is not None  # `search` refuses tasks without
    return f"{threshold} {score.label}" if score is BITS else f"{percent(threshold, decimals=0)} {score.label}"


def describe_trial(results: SearchResults, trial: int) -> str:
    """Describe the pattern of a trial in words: number of layers, missing connections, other searched fields."""
    model, pattern = results.ablations[trial].model, results.patterns[trial]
    missing = switches.missing_residuals_in_words(model.residual_free) or "every residual connection"
    others = [f"{name.replace('_', ' ')} {value}" for name, value in pattern.items() if "residual_free" not in name]
    return ", ".join([count_in_words(model.layers, "layer"), missing, *others])


def residual_map(results: SearchResults) -> Picture:
    """Return the figure of the share of runs that converged, by missing connections: a panel per group of trials."""
    panels = {group_in_words(group): _heat(group) for group in list(results.groups.values())[:6]}
    draw = partial(
        figures.draw_heat, panels, **figures.MAP_LABELS, color_label="Share of runs converged",
        legend_hatched="cannot converge: blind to order by proof",
    )  # fmt: skip
    caption = "Runs that converged, of those trained. Rows and columns name the layers that lack the connection."
    return Picture("residual_map", "Which patterns of residual connections converge", caption, draw)


def _heat(group: pd.DataFrame) -> figures.Heat:
    cells = {}
    for (attention, mlp), trials in group.groupby(["residual_free_attention", "residual_free_mlp"]):
        runs, converged = int(trials["runs"].sum()), int(trials["converged"].sum())
        is_proved = bool((trials["state"] == "proved").any())
        cell = (converged / runs, f"{converged}/{runs}", is_proved) if runs else (np.nan, "", is_proved)
        cells[figures.layer_names(str(attention).split()), figures.layer_names(str(mlp).split())] = cell
    return figures.residual_heat(cells, int(group["layers"].iloc[0]))
