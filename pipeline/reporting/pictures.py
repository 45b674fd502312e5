"""Figures of the report: from results and estimates to the plain data that `figures` draws.

Each function returns a figure of one task, or None if there is nothing to show; `task_outcomes` compares tasks.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
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

MAX_LINES = 6
"""Largest number of ablations in a figure with a line or a panel for each."""
BY_DEPTH_SWITCHES = {"positional", "attention", "layers"}
"""Switches in which the ablations of the figure by number of layers differ."""
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


def encoding_color(positional: str) -> str:
    """Return the colour that stands for a positional encoding in all figures."""
    return style.PALETTE[get_args(PositionalName).index(positional) % len(style.PALETTE)]


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
    grouped = switches.group_ablations(ablations)
    groups = {group: [_strip(view, ablation) for ablation in members] for group, members in grouped}
    encodings = [ablation.model.positional for ablation in ablations]
    legend = {switches.positional_encoding_in_words(encoding): encoding_color(encoding) for encoding in encodings}
    return Picture(name, title, caption, partial(figures.draw_strip, groups, x_label=x_label, legend=legend))


def _strip(view: TaskView, ablation: Ablation) -> figures.Strip:
    runs, in_bits = view.results.runs_of(ablation), view.task.score == BITS
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
        encoding_color(ablation.model.positional),
    )


def draw_quantity(title: str, quantity: str, view: TaskView, **columns: Any) -> Picture | None:
    """Return the figure with a line per ablation: the mean of a measured quantity by depth.

    Other columns of `estimates.csv` must have the values `columns` (default: as trained).
    """
    rows = view.select_measured(quantity, **columns).sort_values("depth")
    name = quantity.partition(".")[0]
    return _lines(view, rows, name, title, x="depth", x_label="Layers passed", bands="95 % intervals")


def draw_learning_curves(view: TaskView) -> Picture | None:
    """Return the figure with a line per ablation: the mean validation score of its runs by training step."""
    scores = view.results.curves.groupby(["ablation", "step"])[view.task.score.column("validation")]
    rows = scores.agg(value="mean", low="min", high="max").reset_index()
    words = {"x_label": "Training step", "bands": "ranges of the runs"}
    return _lines(view, rows, "learning_curves", "Validation score", x="step", **words)


def _lines(
    view: TaskView, rows: pd.DataFrame, name: str, title: str, *, x: str, x_label: str, bands: str
) -> Picture | None:
    measured = set(rows["ablation"])
    chosen = choose_ablations(view, measured)
    lines: list[figures.Line] = []
    for ablation in chosen:
        intact_colors = [encoding_color(ablation.model.positional), *style.PALETTE]
        colors = intact_colors if switches.is_intact(ablation) else style.PALETTE[2:]
        color = next(color for color in colors if color not in [line.color for line in lines])
        points = rows.loc[rows["ablation"] == ablation.name, [x, "value", "low", "high"]].to_numpy(float)
        dashes = "-" if ablation.model.attention == "causal" else "--"
        lines.append(figures.Line(label(view, ablation), points, color, dashes))
    choice = f" {len(chosen)} of {len(measured)} ablations." if len(chosen) < len(measured) else ""
    draw = partial(figures.draw_lines, {"": lines}, x_label=x_label, y_label=title)
    return Picture(name, title, f"Means over runs, bands: {bands}.{choice}", draw) if lines else None


def draw_steps_by_depth(view: TaskView) -> Picture | None:
    """Return the figure with two panels by number of layers: steps to converge, and their ratio without and with PE."""
    models = {
        ablation.name: ablation.model
        for ablation in switches.select_ablations(view.results.ablations, attention="causal")
        if {switch.field for switch in switches.mentioned_switches(ablation, view.usual_values)} <= BY_DEPTH_SWITCHES
    }
    steps, ratios = view.estimates.select("restricted_steps", versus=""), view.estimates.select("steps_ratio")
    steps = steps[steps["ablation"].isin(models)]
    ratios = ratios[ratios["ablation"].isin(name for name, model in models.items() if model.positional == "none")]
    ratios = ratios[ratios["versus"].isin(models)]
    panels = {
        "Steps to converge, up to the budget": _lines_by_layers(steps, steps["ablation"].map(models), "{}"),
        "Ratio of the steps": _lines_by_layers(ratios, ratios["versus"].map(models), "no PE / {}"),
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    title = "Steps to converge by number of layers, and their ratio without and with positional encoding"
    caption = "Means; a run that did not converge counts as its budget."
    draw = partial(figures.draw_lines, panels, x_label="Layers")
    return Picture("by_layers", title, caption, draw) if panels else None


def _lines_by_layers(rows: pd.DataFrame, models: Iterable[Model], label: str) -> list[figures.Line]:
    """Return a line per positional encoding with more than one number of layers; `models` has the model of each row."""
    rows = rows.assign(layers=[model.layers for model in models], encoding=[model.positional for model in models])
    lines = []
    for encoding, members in rows.groupby("encoding", sort=False):
        points = members.sort_values("layers")[["layers", "value", "low", "high"]].to_numpy(float)
        words = label.format(switches.positional_encoding_in_words(str(encoding)))
        if len(points) > 1:
            lines.append(figures.Line(words, points, encoding_color(str(encoding))))
    return lines


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
            means = {name: view.find("restricted_steps", other) for name, other in lines.items()}
            references[title] = {name: estimate.value for name, estimate in means.items() if estimate}
    x_label = "Steps to converge, up to the budget"
    draw = partial(figures.draw_forest, panels, x_label=x_label, references=references)
    title = "Steps to converge with each substitute for missing residual connections"
    caption = "Mean with its 95 % interval; dashed lines: the intact network, and the one without the connections."
    return Picture("substitutes", title, caption, draw) if panels else None


def draw_steps_by_missing_connections(view: TaskView) -> Picture | None:
    """Return the figure of steps by the number of missing connections: a panel per number of layers with four numbers.

    A line per positional encoding is the mean over patterns; its band goes from the fastest to the slowest pattern.
    """
    panels: dict[str, list[figures.Line]] = {}
    for layers, encoding, patterns in _list_patterns(view):
        points = patterns.groupby("missing")["steps"].agg(["mean", "min", "max"]).reset_index().to_numpy(float)
        if len(points) >= 4:
            words = switches.positional_encoding_in_words(encoding)
            panels.setdefault(f"{layers} layers", []).append(figures.Line(words, points, encoding_color(encoding)))
    labels = {"x_label": "Missing residual connections", "y_label": "Steps to converge, up to the budget"}
    title = "Steps to converge by the number of missing residual connections"
    caption = "Mean over the patterns trained with so many missing; bands: the fastest to the slowest pattern."
    draw = partial(figures.draw_lines, panels, **labels)
    return Picture("missing_connections", title, caption, draw) if panels else None


def draw_residual_map(view: TaskView) -> Picture | None:
    """Return the figure of steps with each pattern of residual connections: a panel per model with all its patterns."""
    panels = {}
    for layers, encoding, patterns in _list_patterns(view):
        if len(patterns) == 4**layers:
            cells = dict(zip(patterns["pattern"], patterns["cell"], strict=True))
            title = f"{layers} layers, {switches.positional_encoding_in_words(encoding)}"
            panels[title] = figures.residual_heat(cells, layers)
    draw = partial(figures.draw_heat, panels, **figures.MAP_LABELS, color_label="Share of runs converged")
    title = "Steps to converge with each pattern of residual connections"
    caption = (
        "Mean steps up to the budget (none: no run converged). Rows and columns name the layers that lack the "
        "connection; the shade is the share of runs that converged."
    )
    return Picture("residual_map", title, caption, draw) if panels else None


def _list_patterns(view: TaskView) -> Iterator[tuple[int, str, pd.DataFrame]]:
    """Yield number of layers, positional encoding, and a table with a row per pattern of missing connections.

    Patterns of causal ablations of the usual width, without substitutes. Columns: `pattern` and `cell` (key and value
    of `figures.Cells`), `missing` (number of missing connections) and `steps`.
    """
    rows: dict[tuple[int, str], list[dict[str, Any]]] = {}
    chosen = {name: view.usual_values[name] for name in ("heads", "width", "optimizer")}
    chosen |= {"attention": "causal", "positional_until": None}
    for ablation in switches.select_ablations(view.results.ablations, **chosen):
        model, free = ablation.model, ablation.model.residual_free
        steps, converged = view.find("restricted_steps", ablation), view.find("converged", ablation)
        if steps and converged and (switches.is_intact(ablation) or switches.lacks_residuals(ablation)):
            rows.setdefault((model.layers, model.positional), []).append({
                "pattern": (figures.layer_names(free.attention), figures.layer_names(free.mlp)),
                "cell": (converged.value, steps.number() if converged.value else "none", False),
                "missing": len(free.attention) + len(free.mlp), "steps": steps.value,
            })  # fmt: skip
    for (layers, encoding), patterns in rows.items():
        yield layers, encoding, pd.DataFrame(patterns)


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
    cells: dict[tuple[str, str], tuple[float, str, bool]] = {}
    for view in views:
        same_data = [other for other in views if other.task.unshuffled == view.task.unshuffled]
        scores = [other.find("test_bits", ablation) for other in same_data for ablation in other.results.ablations]
        bits = [score.value for score in scores if score]
        task = view.dataset + ("" if view.task.order_matters else " (control)")
        for ablation in view.results.ablations:
            cell = (np.nan, "", False)
            if score := view.find("test_bits", ablation):
                shade = (max(bits) - score.value) / (max(bits) - min(bits) or 1.0)
                cell = (shade, f"{score.value:.2f}", False)
            elif converged := view.find("converged", ablation):
                cell = (converged.value, converged.number().replace(" of ", "/"), converged.is_impossible)
            cells.setdefault((task, view.describe(ablation)), cell)
    tasks, kinds = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    heat = figures.arrange_cells(cells, tasks, kinds)
    caption = (
        "A row is a task, below it its order-free control. k/n: runs that converged within their budget; a number "
        "with a point: test bits per token, the darker the fewer."
    )
    words = {"color_label": "Share of runs that converged", "legend_hatched": "impossible by proof"}
    draw = partial(figures.draw_heat, {"": heat}, x_label="", y_label="", **words)
    return Picture("tasks", "Outcome of each kind of ablation on each task", caption, draw)
