"""Figures of the report: from results and estimates to the plain data that `figures` draws.

Each function returns a figure of one task, or None if there is nothing to show; `task_outcomes` compares tasks.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
import pandas as pd

from pipeline import switches
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation
from pipeline.params.model import PositionalName, SubstituteName
from pipeline.params.score import BITS
from pipeline.reporting import figures, style
from pipeline.reporting.contrasts import substitutions
from pipeline.reporting.page import Picture
from pipeline.reporting.survival import restricted_steps
from pipeline.reporting.tables import TaskView

AXIS_WORDS = {"depth": "Layers passed", "step": "Training step"}
MAX_LINES = 6
"""Largest number of ablations in a figure with a line or a panel for each."""
SUBSTITUTE_WORDS: dict[SubstituteName, str] = {
    "backward": "the gradient's path alone",
    "forward": "the example's own states",
    "other-row": "another example's, same position",
    "elsewhere": "one state of another example, all positions",
    "slot-mean": "mean over examples, by position",
    "all-mean": "mean over examples and positions",
    "noise": "noise of the same size",
    "fade": "the connection, fading away",
}
"""Substitute of a residual connection -> label of what the layer receives; others are labelled by their name."""


def label(view: TaskView, ablation: Ablation) -> str:
    """Describe an ablation for a figure: `no PE, without the second layer's connections`."""
    model, free = ablation.model, ablation.model.residual_free
    words = [switches.positional_encoding_in_words(model.positional)]
    if model.attention == "full":
        words.append("no mask")
    for switch in switches.SWITCHES:
        is_size = switch.field in ("layers", "heads", "width", "optimizer")
        if is_size and switch.value_of(ablation) != view.usual_values[switch.field]:
            words.append(switch.describe_value(switch.value_of(ablation)))
    if not switches.is_intact(ablation):
        site = f"connections of {switches.sublayers_in_words(free)}"
        if free.attention == free.mlp:
            site = f"the {' and '.join(switches.layer_ordinal(n, model.layers) for n in free.mlp)} layer's connections"
        is_plain = switches.lacks_residuals(ablation)
        words.append(f"without {site}" if is_plain else f"{site}: {substitute_in_words(ablation)}")
    return ", ".join(words)


def substitute_in_words(ablation: Ablation) -> str:
    """Return what replaces an ablation's missing residual connections: `noise of the same size`."""
    return SUBSTITUTE_WORDS.get(ablation.model.residual_substitute, ablation.model.residual_substitute)


def choose_ablations(view: TaskView, candidates: Sequence[Ablation]) -> list[Ablation]:
    """Choose `MAX_LINES` ablations: without substitutes, of the usual size, with a mask, compared by declaration."""
    declared = {name for comparison in view.results.comparisons for name in (comparison.first, comparison.second)}
    sizes = ("layers", "heads", "width", "optimizer")
    usual = switches.select_ablations(candidates, **{name: view.usual_values[name] for name in sizes})

    def priority(ablation: Ablation) -> tuple[bool, ...]:
        is_substituted = not switches.is_intact(ablation) and not switches.lacks_residuals(ablation)
        return is_substituted, ablation not in usual, ablation.model.attention == "full", ablation.name not in declared

    chosen = sorted(candidates, key=priority)[:MAX_LINES]
    return [ablation for ablation in candidates if ablation in chosen]


def encoding_color(ablation: Ablation) -> str:
    """Return the colour that stands for the ablation's positional encoding in all figures."""
    return style.PALETTE[get_args(PositionalName).index(ablation.model.positional) % len(style.PALETTE)]


def draw_runs(view: TaskView) -> Picture:
    """Return the figure with a row per ablation and a mark per run: steps to converge, or bits per token."""
    ablations = view.results.ablations
    in_bits = ablations[0].task.score == BITS
    strips = {
        group: [_strip(view, ablation, in_bits) for ablation in members]
        for group, members in switches.group_ablations(ablations)
    }
    encodings = {ablation.model.positional: encoding_color(ablation) for ablation in ablations}
    legend = {switches.positional_encoding_in_words(name): color for name, color in encodings.items()}
    if in_bits:
        draw = partial(figures.draw_strip, strips, x_label="Test bits per token", legend=legend)
        caption = "A mark is a run, at its best evaluation on validation data."
        return Picture("bits", "Test bits per token of every run", caption, draw)
    draw = partial(figures.draw_strip, strips, x_label="Steps to converge, up to the budget", legend=legend)
    caption = (
        "A mark is a run, at the end of its budget where it did not converge. Bar: mean up to the budget, with its "
        "interval. Right: how many runs converged."
    )
    return Picture("steps", "Steps to converge of every run", caption, draw)


def _strip(view: TaskView, ablation: Ablation, in_bits: bool) -> figures.Strip:
    runs = view.results.runs_of(ablation)
    values = runs["test_bits"].dropna() if in_bits else restricted_steps(runs, ablation.training.steps)
    mean = view.find("test_bits" if in_bits else "restricted_steps", ablation)
    note, converged = "", view.find("converged", ablation)
    if converged and converged.is_impossible:
        note = "blind by proof"
    elif converged and not in_bits:
        note = converged.number()
    return figures.Strip(
        label(view, ablation),
        values.tolist(),
        [in_bits or bool(done) for done in runs["converged"]][: len(values)],
        [bool(rising) and not is_order_blind(ablation.model) for rising in runs["still_rising"]][: len(values)],
        *(mean.numbers if mean and (in_bits or runs["converged"].any()) else (np.nan,) * 3),
        note,
        encoding_color(ablation),
        ablation.model.attention == "causal",
    )


def draw_quantity(y_label: str, quantity: str, axis: str, view: TaskView, **columns: Any) -> Picture | None:
    """Return the figure with a line per ablation: the mean of a measured quantity along an axis.

    Other columns of `estimates.csv` must have the values `columns` (default: as trained).
    """
    rows = view.select_measured(quantity, **columns).sort_values(axis)
    return _lines(view, rows, quantity.partition(".")[0], y_label, axis, "95 % intervals")


def draw_learning_curves(view: TaskView) -> Picture | None:
    """Return the figure with a line per ablation: the mean validation score of its runs by training step."""
    score = view.results.ablations[0].task.score.column("validation")
    means = {
        ablation: curves.groupby("step")[score].agg(value="mean", low="min", high="max")
        for ablation, curves in view.results.curves.groupby("ablation")
    }
    rows = pd.concat(means, names=["ablation", "step"]).reset_index()
    return _lines(view, rows, "learning_curves", "Validation score", "step", "ranges of the runs")


def _lines(view: TaskView, rows: pd.DataFrame, name: str, y_label: str, axis: str, bands: str) -> Picture | None:
    by_ablation = {str(ablation): table for ablation, table in rows.groupby("ablation")}
    measured = [ablation for ablation in view.results.ablations if ablation.name in by_ablation]
    chosen = choose_ablations(view, measured)
    lines = []
    for index, ablation in enumerate(chosen):
        other_color = style.PALETTE[2 + index % (len(style.PALETTE) - 2)]
        color = encoding_color(ablation) if switches.is_intact(ablation) else other_color
        numbers = by_ablation[ablation.name][[axis, "value", "low", "high"]].astype(float)
        x, y, low, high = numbers.to_numpy().T.tolist()
        dashes = "-" if ablation.model.attention == "causal" else "--"
        lines.append(figures.Line(label(view, ablation), x, y, low, high, color, dashes))
    if not lines:
        return None
    caption = f"Means over runs, bands: {bands}."
    if len(chosen) < len(measured):
        caption += f" {len(chosen)} of {len(measured)} ablations."
    draw = partial(
        figures.draw_lines, {"": lines}, x_label=AXIS_WORDS[axis], y_label=y_label, whole_x=axis != "step"
    )  # fmt: skip
    return Picture(name, y_label, caption, draw)


def draw_steps_by_depth(view: TaskView) -> Picture | None:
    """Return the figure with two panels by number of layers: steps to converge, and their ratio without and with PE."""
    usual = {name: value for name, value in view.usual_values.items() if name != "layers"}
    ablations = switches.select_ablations(view.results.ablations, attention="causal", **usual)
    by_encoding: dict[str, dict[int, Ablation]] = {}
    for ablation in sorted(ablations, key=lambda ablation: ablation.model.layers):
        by_encoding.setdefault(ablation.model.positional, {})[ablation.model.layers] = ablation
    all_steps: list[figures.Line] = []
    all_ratios: list[figures.Line] = []
    for name, by_layers in by_encoding.items():
        words = switches.positional_encoding_in_words(name)
        steps = {layers: view.find("restricted_steps", ablation) for layers, ablation in by_layers.items()}
        ratios = {
            layers: view.find("steps_ratio", without, versus=by_layers[layers].name)
            for layers, without in by_encoding.get("none", {}).items()
            if layers in by_layers
        }
        for lines, estimates, title in ((all_steps, steps, words), (all_ratios, ratios, f"no PE / {words}")):
            points = [(layers, *estimate.numbers) for layers, estimate in estimates.items() if estimate]
            if len(points) > 1:
                color = encoding_color(next(iter(by_layers.values())))
                x, y, low, high = np.array(points, float).T.tolist()
                lines.append(figures.Line(title, x, y, low, high, color))
    panels = {"Steps to converge, up to the budget": all_steps, "Ratio of the steps": all_ratios}
    panels = {title: lines for title, lines in panels.items() if lines}
    title = "Steps to converge by number of layers, and their ratio without and with positional encoding"
    caption = "Means; a run that did not converge counts as its budget."
    draw = partial(figures.draw_lines, panels, x_label="Layers", whole_x=True)
    return Picture("by_layers", title, caption, draw) if panels else None


def draw_substitutes(view: TaskView) -> Picture | None:
    """Return the figure of steps with each substitute, beside intact and without: a panel per missing connections."""
    panels: dict[str, list[figures.Mark]] = {}
    references: dict[str, dict[str, float]] = {}
    for ablation, without, intact in substitutions(view.results.ablations):
        steps, converged = view.find("restricted_steps", ablation), view.find("converged", ablation)
        if steps and converged:
            title, words = label(view, without), substitute_in_words(ablation)
            panels.setdefault(title, []).append(figures.Mark(words, *steps.numbers, is_bound=not converged.value))
            lines = {"intact": intact, "without the connections": without}
            reference_steps = {name: view.find("restricted_steps", other) for name, other in lines.items()}
            references[title] = {name: estimate.value for name, estimate in reference_steps.items() if estimate}
    draw = partial(
        figures.draw_forest, panels, x_label="Steps to converge, up to the budget", references=references,
        legend_bound="no run converged: at least the budget",
    )  # fmt: skip
    title = "Steps to converge with each substitute for missing residual connections"
    caption = "Mean with its 95 % interval; dashed lines: the intact network, and the one without the connections."
    return Picture("substitutes", title, caption, draw) if panels else None


def draw_token_maps(view: TaskView) -> Picture | None:
    """Return the figure of how well each position's token is read from the state above each: up to four panels."""
    rows = view.select_measured("token_probe.accuracy")
    measured = [ablation for ablation in view.results.ablations if (rows["ablation"] == ablation.name).any()]
    chosen = choose_ablations(view, measured)
    panels = {}
    for ablation in chosen if len(chosen) <= 4 else [*chosen[:2], *chosen[-2:]]:
        last = rows[(rows["ablation"] == ablation.name) & (rows["depth"] == ablation.model.layers)]
        tokens = last["key"].str.removeprefix("token_position=").astype(int)
        shades = last.assign(token=tokens).pivot(index="position", columns="token", values="value").to_numpy(float)
        positions = list(map(str, range(len(shades))))
        no_texts = [[""] * len(positions)] * len(positions)
        not_hatched = np.zeros_like(shades, bool)
        panels[label(view, ablation)] = figures.Heat(positions, positions, shades, no_texts, not_hatched)
    words = {"x_label": "Position of the token", "y_label": "Position of the state", "color_label": "Accuracy"}
    title = "Which tokens can be read from the state above each position"
    caption = "After the last layer, mean over runs. A dark diagonal: states are about their own tokens."
    return Picture("token_maps", title, caption, partial(figures.draw_heat, panels, **words)) if panels else None


def task_outcomes(views: Sequence[TaskView]) -> Picture:
    """Return the figure that compares tasks: the outcome of each kind of ablation on each task.

    The shade is the share of converged runs, or the position of the bits between the worst and the best on a task and
    its shuffled data. Cells in which success is impossible by proof are hatched.
    """
    kinds = list(dict.fromkeys(view.describe(ablation) for view in views for ablation in view.results.ablations))
    shape = len(views), len(kinds)
    shades, texts, hatched = np.full(shape, np.nan), [[""] * len(kinds) for _ in views], np.zeros(shape, bool)
    names = []
    for row, view in enumerate(views):
        task = view.results.ablations[0].task
        names.append(view.results.ablations[0].dataset + ("" if task.order_matters else " (control)"))
        same_data = [other for other in views if other.results.ablations[0].task.unshuffled == task.unshuffled]
        scores = [other.find("test_bits", ablation) for other in same_data for ablation in other.results.ablations]
        bits = [score.value for score in scores if score]
        for ablation in reversed(view.results.ablations):
            column = kinds.index(view.describe(ablation))
            converged = view.find("converged", ablation)
            hatched[row, column] = bool(converged and converged.is_impossible)
            if task.score == BITS and (estimate := view.find("test_bits", ablation)):
                shades[row, column] = (max(bits) - estimate.value) / (max(bits) - min(bits) or 1.0)
                texts[row][column] = f"{estimate.value:.2f}"
            elif converged:
                shades[row, column], texts[row][column] = converged.value, converged.number().replace(" of ", "/")
    words = {"color_label": "Share of runs that converged", "legend_hatched": "impossible by proof"}
    heat = figures.Heat(names, kinds, shades, texts, hatched)
    caption = (
        "A row is a task, below it its order-free control. k/n: runs that converged within their budget; a number "
        "with a point: test bits per token, the darker the fewer."
    )
    draw = partial(figures.draw_heat, {"": heat}, x_label="", y_label="", **words)
    return Picture("tasks", "Outcome of each kind of ablation on each task", caption, draw)
