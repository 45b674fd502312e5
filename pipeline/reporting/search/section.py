"""What a study found, in words."""

import io
from collections.abc import Mapping
from functools import partial

import pandas as pd
from ruamel.yaml import YAML

from pipeline.params import Model, Params, Training
from pipeline.reporting import figures
from pipeline.reporting.cells import layers_in_words
from pipeline.reporting.page import Figure, Page, Section, Table
from pipeline.reporting.search import answer
from pipeline.reporting.search import figures as drawn
from pipeline.reporting.wording import count, percent, plural

TITLE = "How few layers, how few residual connections?"
FRONT = Figure(
    "pareto.png",
    "Members converged against what is minimised, by depth, with the Pareto front",
    "A mark per configuration (larger: several with the same result); the line joins those that nothing beats.",
)
MAP = Figure(
    "residual_map.png",
    "How often every member converged without a residual connection, by layer and sublayer",
    "Of the configurations that lack this connection (whatever else they lack), those of which every member converged.",
)
HISTORY = Figure("history.png", "The configurations in the order they were tried, and the best so far")
IMPORTANCES = Figure("importances.png", "How much each searched parameter has to do with each objective")


def page(
    params: Params, trials: pd.DataFrame, *, study: str, space_size: int, importances: Mapping[str, Mapping[str, float]]
) -> tuple[Page, dict[str, bytes]]:
    """The report of a study, and its pictures."""
    minimized = params.search.minimize
    known = answer.evidence(trials)
    lead = findings(trials)
    draw = {
        FRONT: partial(drawn.pareto, trials, minimized),
        MAP: partial(drawn.converged_without, trials),
        HISTORY: partial(drawn.history, trials, minimized),
        IMPORTANCES: partial(drawn.importances, importances),
    }
    images = {figure.name: figures.png(make) for figure, make in draw.items()}
    sections = [
        Section("What was tried", [*_what(params, trials, study, space_size)]),
        Section("By depth", tables=[_by_depth(trials)]),
        Section(
            "The front",
            [f"What nothing beats in both: members converged, and {minimized.replace('_', ' ')}."],
            tables=[_front(trials, minimized)],
        ),
        Section("Which residual connections can go", figures=[MAP], tables=[_map(trials)]),
        Section("The study", figures=[HISTORY, IMPORTANCES] if importances else [HISTORY]),
        Section("Ready-made cells", _stanzas_in_words(stanzas(trials, params.model, params.training, minimized))),
    ]
    if known.empty:
        sections = sections[:1]
    return Page(TITLE, alarms(trials), lead, FRONT, sections), images


def findings(trials: pd.DataFrame) -> list[str]:
    """The answer, a sentence each."""
    known = answer.evidence(trials)
    if known.empty:
        return ["No trial is complete yet."]
    table = answer.by_depth(trials)
    texts = []
    reached = table[table["solved"] > 0]
    which = "without positional encoding" if set(known["positional"]) == {"none"} else "in this space"
    if reached.empty:
        texts.append(
            f"No configuration tried {which} converged in every member ({plural(len(known), 'configuration')})."
        )
    else:
        first = reached.iloc[0]
        texts.append(
            f"The shallowest transformer {which} of which every member converged has "
            f"**{plural(int(first['layers']), 'layer')}** ({first['solved']} of {first['tried']} configurations)."
        )
        best = answer.solved(trials).sort_values(["residuals_kept", "validation_exact_match"], ascending=[True, False])
        texts.append(
            f"The sparsest keeps **{plural(int(best.iloc[0]['residuals_kept']), 'residual connection')}**: "
            f"{pattern(best.iloc[0])}; {_members(best.iloc[0])} converged."
        )
    if len(one := known[(known["layers"] == 1) & (known["positional"] == "none")]):
        converged, members = int(one["converged"].sum()), int(one["members"].sum())
        texts.append(
            f"Of 1 layer {count(converged, members)} members converged, over {plural(len(one), 'configuration')}: it "
            f"is order-blind by construction, so that none can."
        )
    return texts


def alarms(trials: pd.DataFrame) -> list[str]:
    """A single layer without positional encoding that converges: something leaks."""
    known = answer.evidence(trials)
    blind = known[(known["positional"] == "none") & ((known["layers"] == 1) | (known["attention"] == "full"))]
    return [
        f"Trial {int(trial['trial'])} converged in {_members(trial)} although it is order-blind by construction: trust "
        f"no number of this study until the leak is found."
        for _, trial in blind[blind["converged"] > 0].iterrows()
    ]


def pattern(trial: pd.Series) -> str:
    """`3 layers, no residual at layer 0 (attention)`."""
    free = {"attention": trial["residual_free_attention"], "MLP": trial["residual_free_mlp"]}
    parts = [
        f"{layers_in_words(layers)} ({name})" for name, layers in free.items() if isinstance(layers, str) and layers
    ]
    missing = f", no residual at {' and '.join(parts)}" if parts else ", every residual connection"
    return plural(int(trial["layers"]), "layer") + missing


def _members(trial: pd.Series) -> str:
    return f"{int(trial['converged'])} of {int(trial['members'])} members"


def _what(params: Params, trials: pd.DataFrame, study: str, space_size: int) -> list[str]:
    known, search = answer.evidence(trials), params.search
    repeats = int(((trials["state"] == "complete") & trials["repeats"].notna()).sum())
    retried = int(trials["retries"].notna().sum())
    texts = [
        f"Study `{study}`: {plural(len(known), 'configuration')} of {space_size:,} were trained, each with "
        f"{plural(len(search.seeds), 'member')} for at most {search.steps:,} steps; {plural(repeats, 'suggestion')} "
        f"repeated one and were not trained again, {plural(retried, 'trial')} were run again after a worker was lost. "
        f"{int(known['given_up'].sum())} were given up as hopeless: after {percent(search.give_up_at)} of the steps no "
        f"member had reached a validation exact match of {percent(search.give_up_below)}. A member **converged** when "
        f"its validation exact match reached {percent(params.training.converged_at)}."
    ]
    if len(known) < space_size:
        texts.append(
            "The space was sampled, not tried in full: that a pattern was not found does not mean that there is none, "
            "and with so few members a configuration that converged may not always do so."
        )
    return texts


def _by_depth(trials: pd.DataFrame) -> Table:
    rows = [
        [
            str(row["layers"]),
            str(row["tried"]),
            str(row["solved"]),
            f"{row['best_converged']}/{row['members']}",
            percent(row["best_exact_match"]),
            pattern(pd.Series(row)) if row["solved"] else "–",
            str(int(row["residuals_kept"])) if row["solved"] else "–",
        ]
        for row in answer.by_depth(trials).to_dict("records")
    ]
    headers = ["Layers", "Tried", "All converged", "Best", "Best exact match", "Sparsest of these", "Residuals kept"]
    return Table(headers, rows, "Configurations by depth; **best** is the most members that converged in one")


def _front(trials: pd.DataFrame, minimized: str) -> Table:
    rows = [
        [str(int(t["trial"])), _members(t), percent(t["validation_exact_match"]), f"{t[minimized]:,.6g}", pattern(t)]
        for _, t in answer.pareto_front(trials, minimized).iterrows()
    ]
    return Table(
        ["Trial", "Converged", "Mean exact match", minimized.replace("_", " ").capitalize(), "What it is"], rows
    )


def _map(trials: pd.DataFrame) -> Table:
    rows = [
        [
            f"layer {row['layer']}",
            row["sublayer"],
            count(row["solved"], row["lacking"]) if row["lacking"] else "not tried",
        ]
        for row in answer.residual_map(trials).to_dict("records")
    ]
    return Table(["Without the connection of", "Sublayer", "Every member converged"], rows)


def stanzas(trials: pd.DataFrame, model: Model, training: Training, minimized: str, best: int = 3) -> str:
    """The best configurations as YAML to put below `ablations`."""
    chosen = answer.ranked(trials, minimized).head(best)
    content = dict(answer.stanza(trial, model, training) for _, trial in chosen.iterrows())
    yaml, buffer = YAML(), io.StringIO()
    yaml.default_flow_style = None
    yaml.width = 200
    yaml.dump(content, buffer)
    return buffer.getvalue() if content else ""


def _stanzas_in_words(text: str) -> list[str]:
    lines = [f"`{line.strip()}`" for line in text.splitlines() if line and not line.startswith(" ")]
    return [
        "The best configurations stand in [ablations.yaml](ablations.yaml), ready to be put below `ablations` in "
        "`params.yaml` (`python -m pipeline search --promote N` does so): " + ", ".join(lines) + "."
    ]
