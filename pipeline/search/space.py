"""What a study varies: from the space in `params.yaml` to the cell that a trial trains."""

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from optuna import Trial

from pipeline import files
from pipeline.params import Cell, Params, Space, checked
from pipeline.params import Model as ModelSection
from pipeline.params import Training as TrainingSection

SUBLAYERS = ("attention", "mlp")
PLAIN = ("layers", "heads", "width", "learning_rate", "optimizer", "positional")
Choices = dict[str, Any]
"""Name of a searched parameter -> value: `layers`, ..., and `residual_attention_0`, ... (whether it is kept)."""


def suggest(trial: Trial, space: Space) -> Choices:
    """Every parameter that is searched, as the sampler chooses it. Residual connections are asked for only in layers
    that there are."""
    chosen: Choices = {}
    for name in PLAIN:
        if len(values := getattr(space, name)) > 1:
            chosen[name] = trial.suggest_categorical(name, values)
    for name in searched_residuals(space, chosen.get("layers", space.layers[0])):
        chosen[name] = trial.suggest_categorical(name, [True, False])
    return chosen


def searched_residuals(space: Space, layers: int) -> list[str]:
    """The residual connections whose presence is searched, at this depth."""
    return [
        f"residual_{sublayer}_{layer}"
        for layer in range(layers)
        for sublayer in SUBLAYERS
        if getattr(space, f"residual_{sublayer}")[layer] == "searched"
    ]


def size(space: Space) -> int:
    """How many configurations there are."""
    others = 1
    for name in PLAIN[1:]:
        others *= len(getattr(space, name))
    return others * sum(2 ** len(searched_residuals(space, layers)) for layers in space.layers)


def corners(space: Space) -> list[Choices]:
    """At every depth, all searched residual connections kept and none: where a sampled study begins."""
    first = {name: getattr(space, name)[0] for name in PLAIN[1:] if len(getattr(space, name)) > 1}
    found = []
    for layers, kept in product(space.layers, (True, False)):
        depth = {"layers": layers} if len(space.layers) > 1 else {}
        residuals = dict.fromkeys(searched_residuals(space, layers), kept)
        if residuals or kept:
            found.append(depth | first | residuals)
    return found


def unseen(space: Space, seen: Sequence[Choices], generator: np.random.Generator) -> Choices | None:
    """A random configuration that is none of `seen`; None if a thousand draws find none."""
    for _ in range(1000):
        drawn: Choices = {
            name: values[generator.integers(len(values))] for name in PLAIN if len(values := getattr(space, name)) > 1
        }
        for name in searched_residuals(space, drawn.get("layers", space.layers[0])):
            drawn[name] = bool(generator.integers(2))
        if drawn not in seen:
            return drawn
    return None


def cell(params: Params, chosen: Choices) -> Cell:
    """What a trial trains: `params.model` and `params.training` with the trial's choices."""
    space = params.search.space
    plain = {name: chosen.get(name, getattr(space, name)[0]) for name in PLAIN}
    free = {
        sublayer: [layer for layer in range(plain["layers"]) if not _kept(space, chosen, sublayer, layer)]
        for sublayer in SUBLAYERS
    }
    model = params.model.model_dump() | {name: plain[name] for name in ("layers", "heads", "width", "positional")}
    if plain["positional"] not in ("learned", "sinusoidal"):
        model["positional_every_layer"] = False
    model["residual_free"] = free
    steps = params.search.steps
    training = params.training.model_dump() | {
        "seeds": params.search.seeds,
        "steps": steps,
        "snapshots": 0,
        "optimizer": plain["optimizer"],
        "learning_rate": plain["learning_rate"],
    }
    if steps % training["evaluate_every"]:
        training["evaluate_every"] = steps
    training["warmup_steps"] = min(training["warmup_steps"], steps)
    return Cell(
        name="trial",
        model=checked(ModelSection, model, "search.space: model"),
        training=checked(TrainingSection, training, "search: training"),
    )


def _kept(space: Space, chosen: Choices, sublayer: str, layer: int) -> bool:
    fixed = getattr(space, f"residual_{sublayer}")[layer]
    return chosen[f"residual_{sublayer}_{layer}"] if fixed == "searched" else fixed == "kept"


def study_name(params: Params) -> str:
    """Of everything that decides what a trial gives, so that a change starts a new study and the old one stays."""
    asked = params.search.model_dump(mode="json", exclude={"trials", "storage", "seed", "enumerate_up_to", "heartbeat"})
    whole = [asked, *(section.model_dump(mode="json") for section in (params.task, params.model, params.training))]
    return f"search-{files.digest(json.dumps(whole, sort_keys=True).encode())[:10]}"
