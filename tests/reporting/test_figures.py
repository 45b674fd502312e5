"""Figures are drawn for any experiment, with no text on another."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import get_args

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.params.model import AttentionName, PositionalName
from pipeline.reporting import style
from pipeline.reporting.experiment import tables
from pipeline.reporting.experiment.figures import outcomes, rescue
from pipeline.reporting.experiment.rescue import substitute_triples
from tests.reporting.experiment import SCORES, ablation, history, made_up, report_of, runs

CEILING = 0.3
EXACT_MATCH = {"score_column": "validation_exact_match", "score_words": "exact match"}


def figures(scores: Mapping[str, Sequence[float]]) -> dict[str, partial[Figure]]:
    """Every figure of outcomes, of ablations with these scores."""
    ablations = made_up(scores).all_ablations()
    table = runs(scores, ablations)
    curves = history(table)
    table["still_rising"] = tables.mark_still_rising(table, curves)
    summaries = tables.ablation_table(ablations, table, {"addition": None}, {})
    positions, carries = tables.mean_by_position(table, "digit"), tables.mean_by_stratum(table, "carries")
    kinds = {ablation.name: [ablation] for ablation in ablations[:4]}
    return {
        "steps": partial(outcomes.draw_steps_to_converge, table, ablations),
        "exact_match": partial(outcomes.draw_exact_match, table, ablations, CEILING),
        "by_layers": partial(outcomes.draw_steps_by_layers, summaries, kinds),
        "learning_curves": partial(outcomes.draw_learning_curves, curves, ablations, **EXACT_MATCH),
        "bits": partial(outcomes.draw_bits, table.assign(test_bits=5 - 4 * table["test_exact_match"]), ablations),
        "by_digit": partial(outcomes.draw_heat_map, positions, ablations, ["ones", "tens", "hundreds"], "Digit"),
        "by_carries": partial(outcomes.draw_heat_map, carries, ablations, list("012"), "Carries"),
        "not_yet_converged": partial(outcomes.draw_unconverged_share, table, ablations),
    }


ONE = {"nope-causal": [0.5]}
LONG_NAMES = {f"nope-causal-no-residual-{'attention-' * (number % 2)}{number}": [number / 40] for number in range(40)}


@pytest.mark.parametrize(
    ("scores", "names"),
    [(ONE, None), (LONG_NAMES, ["steps", "exact_match"]), (SCORES, None)],
    ids=["one", "many", "all"],
)
def test_texts_are_large_lie_within_the_figure_and_not_on_each_other(
    scores: Mapping[str, Sequence[float]], names: list[str] | None
) -> None:
    draws = figures(scores)
    for name in names or draws:
        with mpl.rc_context(style.MATPLOTLIB_SETTINGS):
            figure = draws[name]()
            FigureCanvasAgg(figure).draw()
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) >= 11
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
        for text, box in boxes:
            assert min(box.x0, box.y0) >= -1, (name, text)
            assert box.x1 <= figure.bbox.x1 + 1, (name, text)
            assert box.y1 <= figure.bbox.y1 + 1, (name, text)
        for (first, box), (second, other) in combinations(boxes, 2):
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width <= 1 or height <= 1, (name, first, second)


def test_a_figure_of_many_panels_shows_the_declared_comparisons() -> None:
    declared = [("a-30", "a-31")]
    scores = {f"a-{number}": [number / 40] for number in range(40)}
    sections, _ = report_of(scores, declared=declared)
    (curves,) = (section for section in sections if section.name == "learning_curves")
    titles = [axes.get_title(loc="left") for axes in curves.content.figures[0].draw().axes]
    shown = {title for title in titles if title}
    assert {"a-30", "a-31"} <= shown
    assert len(shown) == 12
    assert "12 of 40" in curves.content.figures[0].caption


def test_every_run_has_its_mark_and_every_ablation_its_count() -> None:
    with mpl.rc_context(style.MATPLOTLIB_SETTINGS):
        figure = figures(SCORES)["steps"]()
    steps, shares = figure.axes
    marks = [collection for collection in steps.collections if type(collection).__name__ == "PathCollection"]
    assert sum(len(collection.get_offsets()) for collection in marks) == sum(map(len, SCORES.values()))
    all_converged = sum(min(scores) >= 0.99 for scores in SCORES.values())
    assert [text.get_text() for text in shares.texts].count("3/3") == all_converged


def test_a_run_that_was_never_scored_is_drawn() -> None:
    ablations = made_up({"nope-causal": [0.5, 0.2]}).all_ablations()
    table = runs({"nope-causal": [0.5, 0.2]}, ablations)
    curves = history(table)
    curves.loc[curves["seed"] == 1, "validation_exact_match"] = np.nan
    assert style.draw_png(partial(outcomes.draw_learning_curves, curves, ablations, **EXACT_MATCH)).startswith(
        b"\x89PNG"
    )


def test_every_encoding_and_pattern_has_its_own_look() -> None:
    for switch, names, look in (
        ("positional", get_args(PositionalName), style.encoding_color),
        ("attention", get_args(AttentionName), style.attention_marker),
    ):
        assert len({look(ablation(**{switch: name})) for name in names}) == len(names)


def test_a_substitute_without_words_is_drawn_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ablations = made_up({name: [0.5] for name in ("nope-causal", "no-residual-0", "forward-0")}).all_ablations()
    columns = ["ablation", "rescue", "rescue_low", "rescue_high"]
    table = pd.DataFrame([["forward-0", np.nan, np.nan, np.nan]], columns=columns)
    monkeypatch.setattr(rescue, "SUBSTITUTE_WORDS", {})
    figure = rescue.draw_rescue(table, substitute_triples(ablations))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["forward"]
