"""What a study varies: from the space in `params.yaml` to the ablation that a trial trains. No field is named here but
`layers`, which decides what else there is to choose."""

import json
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
from optuna import Trial

from pipeline import files
from pipeline.params import Ablation, Params

KEPT, FREE = False, True
Choices = dict[str, Any]
"""Name of a searched parameter -> value: fields, and `residual_free_attention_0`, ... (`KEPT` or `FREE`)."""


def suggest(trial: Trial, params: Params) -> Choices:
    """Every parameter that is searched, as the sampler chooses it. What each layer has of its own is asked for only in
    layers that there are."""
    chosen = {name: trial.suggest_categorical(name, values) for name, values in _varied(params).items()}
    for name in _by_layer(params, _layers(params, chosen)):
        chosen[name] = trial.suggest_categorical(name, [KEPT, FREE])
    return chosen


def draw_new(params: Params, seen: Sequence[Choices], generator: np.random.Generator) -> Choices | None:
    """A random configuration that is none of `seen`; None if a thousand draws find none."""
    for _ in range(1000):
        drawn = {name: values[generator.integers(len(values))] for name, values in _varied(params).items()}
        drawn |= {name: KEPT if generator.integers(2) else FREE for name in _by_layer(params, _layers(params, drawn))}
        if drawn not in seen:
            return drawn
    return None


def size(params: Params) -> int:
    """How many configurations there are."""
    plain = prod(len(values) for name, values in _varied(params).items() if name != "layers")
    return plain * sum(2 ** len(_by_layer(params, layers)) for layers in _depths(params))


def extreme_choices(params: Params) -> list[Choices]:
    """At every depth, all searched residual connections kept and none: where a sampled study begins."""
    first = {name: values[0] for name, values in _varied(params).items()}
    found = []
    for layers, choice in product(_depths(params), (KEPT, FREE)):
        depth = {"layers": layers} if "layers" in first else {}
        by_layer = dict.fromkeys(_by_layer(params, layers), choice)
        if by_layer or choice == KEPT:
            found.append(first | depth | by_layer)
    return found


def ablation(params: Params, chosen: Choices) -> Ablation:
    """What a trial trains.

    Raises:
        KeyError: not everything that is searched is chosen.
    """
    plain = {name: chosen[name] if len(values) > 1 else values[0] for name, values in params.search.plain.items()}
    layered: dict[str, dict[str, list[int]]] = {
        name: {sublayer: [] for sublayer, _ in choices} for name, choices in params.search.layered.items()
    }
    for name, layer, sublayer, choice in _places(params, _layers(params, plain)):
        if (chosen[_parameter(name, layer, sublayer)] if choice == "searched" else choice == "free") == FREE:
            layered[name][sublayer].append(layer)
    return params.trial_ablation(plain | layered)


def study_name(params: Params) -> str:
    """Of everything that decides what a trial gives, so that a change starts a new study and the old one stays: what is
    searched, how it is judged, and one of its ablations for all else."""
    unrelated = {"task", "trials", "confirm", "storage", "seed", "enumerate_up_to", "heartbeat"}
    asked = params.search.model_dump(mode="json", exclude=unrelated)
    one = ablation(params, extreme_choices(params)[0]).model_dump(mode="json", exclude={"name", "dataset"})
    return f"search-{files.digest(json.dumps([asked, one], sort_keys=True).encode())[:10]}"


def _varied(params: Params) -> dict[str, list[Any]]:
    """The plain fields that are searched."""
    return {name: values for name, values in params.search.plain.items() if len(values) > 1}


def _depths(params: Params) -> list[int]:
    """The numbers of layers there may be."""
    return params.search.plain.get("layers", [params.model.layers])


def _layers(params: Params, chosen: Choices) -> int:
    """How many layers were chosen, or there are anyway."""
    return chosen.get("layers", _depths(params)[0])


def _places(params: Params, layers: int) -> Iterator[tuple[str, int, str, str]]:
    """Field, layer, sublayer, and whether it is searched, kept or free there: of what each layer has its own."""
    for name, choices in params.search.layered.items():
        for layer in range(layers):
            for sublayer, listed in choices:
                yield name, layer, sublayer, listed[layer]


def _by_layer(params: Params, layers: int) -> list[str]:
    """The parameters that are searched by layer, at this depth."""
    places = _places(params, layers)
    return [_parameter(name, layer, sublayer) for name, layer, sublayer, choice in places if choice == "searched"]


def _parameter(name: str, layer: int, sublayer: str) -> str:
    return f"{name}_{sublayer}_{layer}"
