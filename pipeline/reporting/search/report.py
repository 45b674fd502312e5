"""What a study found, in words."""

import io
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from pipeline.params import Model, Params, Training
from pipeline.reporting import figures
from pipeline.reporting.page import Figure, Page, Section
from pipeline.reporting.search import answer, tables
from pipeline.reporting.search import figures as drawn
from pipeline.reporting.search.words import alarms, findings, what_was_tried

TITLE = "How few layers, how few residual connections?"
FRONT = Figure(
    "pareto.png",
    "Share of members converged against what is minimised, by depth, with the Pareto front",
    "A mark per result and depth; the number in it, where there is room, says how many configurations had that "
    "result; marks that would lie on each other stand side by side. The line joins what nothing beats.",
)
MAP = Figure(
    "residual_map.png",
    "How often every member converged without a residual connection, by layer and sublayer",
    "Of the configurations that lack this connection (whatever else they lack), those of which every member converged: "
    "at all depths together, and at each.",
)
HISTORY = Figure("history.png", "The configurations in the order they were tried, and the best so far")
IMPORTANCES = Figure("importances.png", "How much each searched parameter has to do with each objective")
UNBEATEN = "What no configuration beats in one of members converged and {} without losing in the other."
NOT_AT_RANDOM = (
    "The search goes where it found something, so that these are counts of what it chose to try and no random sample "
    "of the space; a configuration mostly lacks more than the one connection."
)
READY = (
    "The best configurations, ready to be put below `ablations` in `params.yaml` (`python -m pipeline search --promote "
    "N` does so), where `dvc repro` trains them with the seeds and steps of every other cell:"
)
Importances = Mapping[str, Mapping[str, float]]
"""Searched parameter -> objective -> importance."""


def page(
    params: Params, trials: pd.DataFrame, *, study: str, space_size: int | None, importances: Importances
) -> tuple[Page, dict[str, bytes]]:
    """A study as a page, and its pictures by name.

    Args:
        trials: a row per trial, as in `trials.csv`.
        study: its name.
        space_size: how many configurations there are to try; None where nobody counted.
        importances: empty where there are too few trials to say.
    """
    minimized, model = params.search.minimize, params.model
    sections = [Section("What was tried", what_was_tried(params, trials, study, space_size))]
    if not answer.evidence(trials).empty:
        ready = stanzas(trials, model, params.training, minimized)
        sections += [
            Section("The front", [UNBEATEN.format(drawn.NAMES[minimized])], tables=[tables.front(trials, minimized)]),
            Section("By depth", tables=[tables.by_depth(trials)]),
            Section("Which residual connections can go", [NOT_AT_RANDOM], [MAP], [tables.residual_map(trials)]),
            Section("The course of the study", figures=[HISTORY, *([IMPORTANCES] if importances else [])]),
            Section("Ready-made cells", [READY, *(f"`{line}`" for line in ready.splitlines())]),
        ]
    lead = findings(trials, model, minimized)
    return Page(TITLE, alarms(trials, model), lead, FRONT, sections), _images(params, trials, importances)


def _images(params: Params, trials: pd.DataFrame, importances: Importances) -> dict[str, bytes]:
    minimized = params.search.minimize
    draw = {FRONT: partial(drawn.pareto, trials, minimized)}
    if len(answer.evidence(trials)):
        draw[MAP] = partial(drawn.residual_map, trials)
        draw[HISTORY] = partial(drawn.history, trials, minimized)
        if importances:
            draw[IMPORTANCES] = partial(drawn.importances, importances)
    return {figure.name: figures.png(make) for figure, make in draw.items()}


def stanzas(
    trials: pd.DataFrame, model: Model, training: Training, minimized: str = "residuals_kept", count: int = 3
) -> str:
    """The `count` best configurations as YAML to put below `ablations`, a line each; empty where there is none."""
    chosen = answer.ranked(trials, minimized).head(count)
    lines = (_line(*answer.stanza(trial, model, training)) for _, trial in chosen.iterrows())
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, overrides: dict[str, Any]) -> str:
    """`search-2-layers: {model: {layers: 2, positional: none}}`."""
    yaml, buffer = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 10_000
    yaml.dump(overrides, buffer)
    return f"{name}: {buffer.getvalue().strip()}"
