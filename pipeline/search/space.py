"""The search space: from `search.space` in `params.yaml` to the ablation that a trial trains.

Only `layers` is named here, because it decides how many layers have something to choose; all other fields are treated
alike.
"""

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
"""Searched parameter -> value: a field's value, or `KEPT` or `FREE` for one layer (`residual_free_attention_0`)."""


def suggest(trial: Trial, params: Params) -> Choices:
    """Let the sampler choose all searched parameters; those of a layer only if the trial has that layer."""
    choices = {name: trial.suggest_categorical(name, values) for name, values in _searched_fields(params).items()}
    for name in _layer_parameters(params, _depth(params, choices)):
        choices[name] = trial.suggest_categorical(name, [KEPT, FREE])
    return choices


def draw_new(params: Params, seen: Sequence[Choices], generator: np.random.Generator) -> Choices | None:
    """Draw a random configuration that is not in `seen`; None if 1,000 draws are all in it."""
    for _ in range(1000):
        choices = {name: values[generator.integers(len(values))] for name, values in _searched_fields(params).items()}
        for name in _layer_parameters(params, _depth(params, choices)):
            choices[name] = KEPT if generator.integers(2) else FREE
        if choices not in seen:
            return choices
    return None


def size(params: Params) -> int:
    """Number of configurations in the space."""
    per_depth = prod(len(values) for name, values in _searched_fields(params).items() if name != "layers")
    return per_depth * sum(2 ** len(_layer_parameters(params, layers)) for layers in _depths(params))


def extreme_choices(params: Params) -> list[Choices]:
    """For each depth: all searched residual connections kept, and none. A sampled study begins with these."""
    first_values = {name: values[0] for name, values in _searched_fields(params).items()}
    extremes = []
    for layers, choice in product(_depths(params), (KEPT, FREE)):
        depth = {"layers": layers} if "layers" in first_values else {}
        by_layer = dict.fromkeys(_layer_parameters(params, layers), choice)
        if by_layer or choice == KEPT:
            extremes.append(first_values | depth | by_layer)
    return extremes


def ablation(params: Params, choices: Choices) -> Ablation:
    """The ablation that a trial with these choices trains.

    Raises:
        KeyError: a searched parameter has no choice.
    """
    search = params.search
    fields = {name: choices[name] if len(values) > 1 else values[0] for name, values in search.value_lists.items()}
    layers_of: dict[str, dict[str, list[int]]] = {
        name: {sublayer: [] for sublayer, _ in by_sublayer} for name, by_sublayer in search.layer_choices.items()
    }
    for name, layer, sublayer, choice in _layer_choices(params, _depth(params, fields)):
        if choice == "free" or (choice == "searched" and choices[_parameter(name, layer, sublayer)] == FREE):
            layers_of[name][sublayer].append(layer)
    return params.trial_ablation(fields | layers_of)


def study_name(params: Params) -> str:
    """Name of the study, with a digest of all settings that influence a trial's result.

    A change of such a setting therefore starts a new study, and the old one stays in the storage.
    """
    without_influence = {"task", "trials", "confirm", "storage", "seed", "enumerate_up_to", "heartbeat"}
    search = params.search.model_dump(mode="json", exclude=without_influence)
    example = ablation(params, extreme_choices(params)[0]).model_dump(mode="json", exclude={"name", "dataset"})
    return f"search-{files.digest_values([search, example])[:10]}"


def _searched_fields(params: Params) -> dict[str, list[Any]]:
    """Fields that list more than one value, and the values."""
    return {name: values for name, values in params.search.value_lists.items() if len(values) > 1}


def _depths(params: Params) -> list[int]:
    """Numbers of layers that a trial may have."""
    return params.search.value_lists.get("layers", [params.model.layers])


def _depth(params: Params, choices: Choices) -> int:
    """Number of layers: the chosen one, or the only one there is."""
    return choices.get("layers", _depths(params)[0])


def _layer_choices(params: Params, layers: int) -> Iterator[tuple[str, int, str, str]]:
    """`field, layer, sublayer, choice` for all layers; the choice is `searched`, `kept` or `free`."""
    for name, by_sublayer in params.search.layer_choices.items():
        for layer in range(layers):
            for sublayer, choices in by_sublayer:
                yield name, layer, sublayer, choices[layer]


def _layer_parameters(params: Params, layers: int) -> list[str]:
    """Names of the parameters that are searched layer by layer in a model of so many layers."""
    choices = _layer_choices(params, layers)
    return [_parameter(name, layer, sublayer) for name, layer, sublayer, choice in choices if choice == "searched"]


def _parameter(name: str, layer: int, sublayer: str) -> str:
    return f"{name}_{sublayer}_{layer}"
