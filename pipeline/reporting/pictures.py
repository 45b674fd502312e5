"""Figures of the report: from results and estimates to the plain data that `figures` draws.

Each function returns a figure of one task, or None if there is nothing to show; `task_outcomes` compares tasks.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
import pandas as pd

from pipeline import switches
from pipeline.params import Ablation, Model
from pipeline.params.model import PositionalName, SubstituteName
from pipeline.params.score import BITS
from pipeline.reporting import figures, style
from pipeline.reporting.contrasts import substitutions
from pipeline.reporting.page import Picture
from pipeline.reporting.results import restricted_steps
from pipeline.reporting.tables import TaskView

AXIS_WORDS = {"depth": "Layers passed", "step": "Training step"}
MAX_LINES = 6
"""Largest number of ablations in a figure with a line or a panel for each."""
SUBSTITUTE_WORDS: dict[SubstituteName, str] = {
    "detached": "the example's own states",
    "donor": "another example's, same position",
    "donor-deranged": "another example's, always the same other position",
    "donor-permuted": "another example's, positions permuted anew each step",
    "position-mean": "mean over examples, by position",
    "learned-vector": "a learned vector per position",
    "constant": "one vector for all positions",
    "noise": "noise of the same size",
}
"""Substitute of a residual connection -> label of what the layer receives; others are labelled by their name."""


def label(view: TaskView, ablation: Ablation) -> str:
    """Describe an ablation for a figure: `no PE, without the second layer's connections`."""
    model, free = ablation.model, ablation.model.residual_free
    words = [switches.positional_encoding_in_words(model.positional)]
    if model.positional_until:
        words.append(switches.positional_until_in_words(model.positional_until))
    if model.attention != "causal":
        words.append(masked_layers_in_words(model))
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


def masked_layers_in_words(model: Model) -> str:
    """Return which layers have a causal mask, if not all have: `mask in the first layer alone`, or `no mask`."""
    masked = [number for number, name in enumerate(model.attention_by_layer) if name == "causal"]
    layers = " and ".join(switches.layer_ordinal(number, model.layers) for number in masked)
    return f"mask in the {layers} layer alone" if masked else "no mask"


def substitute_in_words(ablation: Ablation) -> str:
    """Return what replaces an ablation's missing residual connections: `noise of the same size`."""
    if ablation.model.residual_fade_steps:
        return f"the connection, fading for {ablation.model.residual_fade_steps} steps"
    return SUBSTITUTE_WORDS.get(ablation.model.residual_substitute, ablation.model.residual_substitute)


def choose_ablations(view: TaskView, names: Collection[str]) -> list[Ablation]:
    """Choose `MAX_LINES` ablations: without substitutes, of the usual size and causal, compared by declaration."""
    candidates = [ablation for ablation in view.results.ablations if ablation.name in names]
    declared = {name for comparison in view.results.comparisons for name in (comparison.first, comparison.second)}
    sizes = ("layers", "heads", "width", "optimizer")
    usual = switches.select_ablations(candidates, **{name: view.usual_values[name] for name in sizes})

    def priority(ablation: Ablation) -> tuple[bool, ...]:
        is_substituted = not switches.is_intact(ablation) and not switches.lacks_residuals(ablation)
        is_usual = ablation in usual and ablation.model.attention == "causal"
        return is_substituted, not is_usual, ablation.name not in declared

    chosen = sorted(candidates, key=priority)[:MAX_LINES]
    return [ablation for ablation in candidates if ablation in chosen]


def encoding_color(ablation: Ablation) -> str:
    """Return the colour that stands for the ablation's positional encoding in all figures."""
    return style.PALETTE[get_args(PositionalName).index(ablation.model.positional) % len(style.PALETTE)]


def draw_runs(view: TaskView) -> Picture:
    """Return the figure with a row per ablation and a mark per run: steps to converge, or bits per token."""
    ablations = view.results.ablations
    if view.task.score == BITS:
        name, title, x_label = "bits", "Test bits per token of every run", "Test bits per token"
        caption = "A mark is a run, at its best evaluation on validation data."
    else:
        name, title, x_label = "steps", "Steps to converge of every run", "Steps to converge, up to the budget"
        caption = (
            "A mark is a run, at the end of its budget where it did not converge. Bar: mean up to the budget, with its "
            "interval. Right: how many runs converged."
        )
    groups = {
        group: [_strip(view, ablation, in_bits=name == "bits") for ablation in members]
        for group, members in switches.group_ablations(ablations)
    }
    legend = {switches.positional_encoding_in_words(one.model.positional): encoding_color(one) for one in ablations}
    return Picture(name, title, caption, partial(figures.draw_strip, groups, x_label=x_label, legend=legend))


def _strip(view: TaskView, ablation: Ablation, *, in_bits: bool) -> figures.Strip:
    runs = view.results.runs_of(ablation)
    values = runs["test_bits"].dropna() if in_bits else restricted_steps(runs, ablation.training.steps)
    mean = view.find("test_bits" if in_bits else "restricted_steps", ablation)
    converged = view.find("converged", ablation)
    is_impossible = converged and converged.is_impossible
    note = "blind by proof" if is_impossible else converged.number() if converged and not in_bits else ""
    return figures.Strip(
        label(view, ablation),
        values.to_numpy(float),
        np.full(len(values), True) if in_bits else runs["converged"].to_numpy(bool),
        mean.numbers if mean and (in_bits or runs["converged"].any()) else (np.nan,) * 3,
        note,
        encoding_color(ablation),
    )


def draw_quantity(y_label: str, quantity: str, axis: str, view: TaskView, **columns: Any) -> Picture | None:
    """Return the figure with a line per ablation: the mean of a measured quantity along an axis.

    Other columns of `estimates.csv` must have the values `columns` (default: as trained).
    """
    rows = view.select_measured(quantity, **columns).sort_values(axis)
    return _lines(view, rows, quantity.partition(".")[0], y_label, axis, "95 % intervals")


def draw_learning_curves(view: TaskView) -> Picture | None:
    """Return the figure with a line per ablation: the mean validation score of its runs by training step."""
    scores = view.results.curves.groupby(["ablation", "step"])[view.task.score.column("validation")]
    rows = scores.agg(value="mean", low="min", high="max").reset_index()
    return _lines(view, rows, "learning_curves", "Validation score", "step", "ranges of the runs")


def _lines(view: TaskView, rows: pd.DataFrame, name: str, y_label: str, axis: str, bands: str) -> Picture | None:
    measured = set(rows["ablation"])
    chosen = choose_ablations(view, measured)
    lines: list[figures.Line] = []
    for ablation in chosen:
        wanted = [encoding_color(ablation), *style.PALETTE] if switches.is_intact(ablation) else style.PALETTE[2:]
        color = next(color for color in wanted if color not in [line.color for line in lines])
        points = rows.loc[rows["ablation"] == ablation.name, [axis, "value", "low", "high"]].to_numpy(float)
        dashes = "-" if ablation.model.attention == "causal" else "--"
        lines.append(figures.Line(label(view, ablation), points, color, dashes))
    choice = f" {len(chosen)} of {len(measured)} ablations." if len(chosen) < len(measured) else ""
    draw = partial(figures.draw_lines, {"": lines}, x_label=AXIS_WORDS[axis], y_label=y_label)
    return Picture(name, y_label, f"Means over runs, bands: {bands}.{choice}", draw) if lines else None


def draw_steps_by_depth(view: TaskView) -> Picture | None:
    """Return the figure with two panels by number of layers: steps to converge, and their ratio without and with PE."""
    usual = {name: value for name, value in view.usual_values.items() if name != "layers"}
    ablations = switches.select_ablations(view.results.ablations, attention="causal", **usual)
    by_name = {ablation.name: ablation for ablation in ablations}
    without = [name for name, ablation in by_name.items() if ablation.model.positional == "none"]
    panels = {}
    for title, quantity, names, compared, words in (
        ("Steps to converge, up to the budget", "restricted_steps", list(by_name), [""], "{}"),
        ("Ratio of the steps", "steps_ratio", without, list(by_name), "no PE / {}"),
    ):
        rows = view.estimates.select(quantity)
        rows = rows[rows["ablation"].isin(names) & rows["versus"].isin(compared)]
        with_encoding = rows["versus"].where(rows["versus"] != "", rows["ablation"]).map(by_name)
        lines = []
        for encoding, members in with_encoding.groupby([one.model.positional for one in with_encoding], sort=False):
            points = rows.loc[members.index].assign(layers=[one.model.layers for one in members]).sort_values("layers")
            text = words.format(switches.positional_encoding_in_words(str(encoding)))
            numbers = points[["layers", "value", "low", "high"]].to_numpy(float)
            if len(points) > 1:
                lines.append(figures.Line(text, numbers, encoding_color(members.iloc[0])))
        if lines:
            panels[title] = lines
    title = "Steps to converge by number of layers, and their ratio without and with positional encoding"
    caption = "Means; a run that did not converge counts as its budget."
    draw = partial(figures.draw_lines, panels, x_label="Layers")
    return Picture("by_layers", title, caption, draw) if panels else None


def draw_substitutes(view: TaskView) -> Picture | None:
    """Return the figure of steps with each substitute, beside intact and without: a panel per missing connections."""
    panels: dict[str, list[figures.Mark]] = {}
    references: dict[str, dict[str, float]] = {}
    for ablation, without, intact in substitutions(view.results.ablations):
        steps, converged = view.find("restricted_steps", ablation), view.find("converged", ablation)
        if steps and converged:
            title, words = label(view, without), substitute_in_words(ablation)
            panels.setdefault(title, []).append(figures.Mark(words, steps.numbers, is_bound=not converged.value))
            lines = {"intact": intact, "without the connections": without}
            found = {name: view.find("restricted_steps", other) for name, other in lines.items()}
            references[title] = {name: estimate.value for name, estimate in found.items() if estimate}
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
    chosen = choose_ablations(view, set(rows["ablation"]))
    panels = {}
    for ablation in chosen if len(chosen) <= 4 else [*chosen[:2], *chosen[-2:]]:
        last = rows[(rows["ablation"] == ablation.name) & (rows["depth"] == ablation.model.layers)]
        tokens = last["key"].str.removeprefix("token_position=").astype(int)
        shades = last.assign(token=tokens).pivot(index="position", columns="token", values="value").to_numpy(float)
        positions = list(map(str, range(len(shades))))
        panels[label(view, ablation)] = figures.Heat(positions, positions, shades)
    words = {"x_label": "Position of the token", "y_label": "Position of the state", "color_label": "Accuracy"}
    title = "Which tokens can be read from the state above each position"
    caption = "After the last layer, mean over runs. A dark diagonal: states are about their own tokens."
    return Picture("token_maps", title, caption, partial(figures.draw_heat, panels, **words)) if panels else None


def task_outcomes(views: Sequence[TaskView]) -> Picture:
    """Return the figure that compares tasks: the outcome of each kind of ablation on each task.

    The shade is the share of converged runs, or the position of the bits between the worst and the best on a task and
    its shuffled data. Cells in which success is impossible by proof are hatched.
    """
    cells = []
    for view in views:
        same_data = [other for other in views if other.task.unshuffled == view.task.unshuffled]
        scores = [other.find("test_bits", ablation) for other in same_data for ablation in other.results.ablations]
        bits = [score.value for score in scores if score]
        for ablation in view.results.ablations:
            cell = {
                "task": view.dataset + ("" if view.task.order_matters else " (control)"),
                "shade": np.nan,
                "text": "",
            }
            converged, score = view.find("converged", ablation), view.find("test_bits", ablation)
            if score:
                cell |= {
                    "shade": (max(bits) - score.value) / (max(bits) - min(bits) or 1.0),
                    "text": f"{score.value:.2f}",
                }
            elif converged:
                cell |= {"shade": converged.value, "text": converged.number().replace(" of ", "/")}
            cells.append(
                cell | {"kind": view.describe(ablation), "hatched": bool(converged and converged.is_impossible)}
            )
    table = pd.DataFrame(cells).drop_duplicates(["task", "kind"])
    tasks, kinds = list(table["task"].unique()), list(table["kind"].unique())
    grid = table.set_index(["task", "kind"]).reindex(pd.MultiIndex.from_product([tasks, kinds]))
    shades, texts, hatched = (
        grid[name].where(grid["text"].notna(), empty).to_numpy(kind).reshape(len(tasks), len(kinds))
        for name, empty, kind in (("shade", np.nan, float), ("text", "", object), ("hatched", False, bool))
    )
    heat = figures.Heat(tasks, kinds, shades, texts.tolist(), hatched)
    caption = (
        "A row is a task, below it its order-free control. k/n: runs that converged within their budget; a number "
        "with a point: test bits per token, the darker the fewer."
    )
    words = {"color_label": "Share of runs that converged", "legend_hatched": "impossible by proof"}
    draw = partial(figures.draw_heat, {"": heat}, x_label="", y_label="", **words)
    return Picture("tasks", "Outcome of each kind of ablation on each task", caption, draw)
