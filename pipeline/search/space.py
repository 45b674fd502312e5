"""The search space: which configurations `search.space` in `params.yaml` allows, and the ablation of each.

`layers` is the only field with code of its own, because it decides for how many layers there are choices.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
from optuna import Trial

from pipeline import files
from pipeline.params import Ablation, Params

CONNECTION_KEPT, CONNECTION_REMOVED = False, True
"""Values of a searched parameter by which a trial keeps or removes one residual connection."""
Choices = dict[str, Any]
"""Configuration of a trial: name of a searched parameter -> value, such as `layers` -> 2. The value of a residual
connection (`residual_free_attention_0`) is `CONNECTION_KEPT` or `CONNECTION_REMOVED`."""


def suggest_choices(trial: Trial, params: Params) -> Choices:
    """Let Optuna's sampler choose the configuration of a trial; only layers that the model has get choices."""
    choices = {name: trial.suggest_categorical(name, values) for name, values in _searched_fields(params).items()}
    for name in _list_layer_parameters(params, _chosen_depth(params, choices)):
        choices[name] = trial.suggest_categorical(name, [CONNECTION_KEPT, CONNECTION_REMOVED])
    return choices


def draw_unseen_choices(params: Params, existing: Sequence[Choices], generator: np.random.Generator) -> Choices | None:
    """Draw a random configuration that is not in `existing`; None if 1,000 draws are all in `existing`."""
    for _ in range(1000):
        choices = {name: values[generator.integers(len(values))] for name, values in _searched_fields(params).items()}
        for name in _list_layer_parameters(params, _chosen_depth(params, choices)):
            choices[name] = CONNECTION_KEPT if generator.integers(2) else CONNECTION_REMOVED
        if choices not in existing:
            return choices
    return None


def count_configurations(params: Params) -> int:
    """Return the number of configurations in the search space."""
    per_depth = prod(len(values) for name, values in _searched_fields(params).items() if name != "layers")
    return per_depth * sum(2 ** len(_list_layer_parameters(params, layers)) for layers in _searched_depths(params))


def extreme_choices(params: Params) -> list[Choices]:
    """Return, for each number of layers, the configurations with all and with none of the residual connections.

    A search that samples its space begins with these configurations.
    """
    first_values = {name: values[0] for name, values in _searched_fields(params).items()}
    extremes = []
    for layers, choice in product(_searched_depths(params), (CONNECTION_KEPT, CONNECTION_REMOVED)):
        depth = {"layers": layers} if "layers" in first_values else {}
        by_layer = dict.fromkeys(_list_layer_parameters(params, layers), choice)
        if by_layer or choice == CONNECTION_KEPT:
            extremes.append(first_values | depth | by_layer)
    return extremes


def build_ablation(params: Params, choices: Choices) -> Ablation:
    """Build the ablation that a trial with the configuration `choices` trains.

    Raises:
        KeyError: `choices` lacks a searched parameter.
    """
    search = params.search
    fields = {name: choices[name] if len(values) > 1 else values[0] for name, values in search.value_lists.items()}
    layers_of: dict[str, dict[str, list[int]]] = {
        name: {sublayer: [] for sublayer, _ in by_sublayer} for name, by_sublayer in search.layer_choices.items()
    }
    for name, layer, sublayer, choice in _list_layer_choices(params, _chosen_depth(params, fields)):
        if choice == "free" or (
            choice == "searched" and choices[_format_layer_parameter(name, layer, sublayer)] == CONNECTION_REMOVED
        ):
            layers_of[name][sublayer].append(layer)
    return params.trial_ablation(fields | layers_of)


def study_name(params: Params) -> str:
    """Return the name of Optuna's study, which contains a digest of all settings that influence a trial's result.

    A change of such a setting therefore starts a new study, and the old study stays in the database.
    """
    without_influence = {"task", "trials", "confirm", "storage", "seed", "enumerate_up_to", "heartbeat"}
    search = params.search.model_dump(mode="json", exclude=without_influence)
    example = build_ablation(params, extreme_choices(params)[0]).model_dump(mode="json", exclude={"name", "dataset"})
    return f"search-{files.compute_digest_of_values([search, example])[:10]}"


def _searched_fields(params: Params) -> dict[str, list[Any]]:
    """Return the values of each field for which `search.space` lists more than one value."""
    return {name: values for name, values in params.search.value_lists.items() if len(values) > 1}


def _searched_depths(params: Params) -> list[int]:
    """Return each number of layers that the model of a trial may have."""
    return params.search.value_lists.get("layers", [params.model.layers])


def _chosen_depth(params: Params, choices: Choices) -> int:
    """Return the number of layers that `choices` contains, or the only one that the space allows."""
    return choices.get("layers", _searched_depths(params)[0])


def _list_layer_choices(params: Params, layers: int) -> Iterator[tuple[str, int, str, str]]:
    """Yield `field, layer, sublayer, choice` for all sublayers of a model with `layers` layers; the choice is
    `searched`, `kept` or `free`."""
    for name, by_sublayer in params.search.layer_choices.items():
        for layer in range(layers):
            for sublayer, choices in by_sublayer:
                yield name, layer, sublayer, choices[layer]


def _list_layer_parameters(params: Params, layers: int) -> list[str]:
    """Return the names of Optuna's parameters for the sublayers of a model with `layers` layers."""
    choices = _list_layer_choices(params, layers)
    return [
        _format_layer_parameter(name, layer, sublayer)
        for name, layer, sublayer, choice in choices
        if choice == "searched"
    ]


def _format_layer_parameter(name: str, layer: int, sublayer: str) -> str:
    return f"{name}_{sublayer}_{layer}"
