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

Choices = dict[str, Any]
"""Configuration of a trial: name of a searched parameter -> value, such as `layers` -> 2. A residual connection has a
parameter like `residual_free_attention_0`, which is True if the trial removes the connection."""


def suggest_choices(trial: Trial, params: Params) -> Choices:
    """Let Optuna's sampler choose the configuration of a trial; only layers that the model has get choices."""
    choices = {name: trial.suggest_categorical(name, values) for name, values in _searched_fields(params).items()}
    for name in _searched_sublayers(params, choices):
        choices[name] = trial.suggest_categorical(name, [False, True])
    return choices


def draw_unseen_choices(params: Params, existing: Sequence[Choices], generator: np.random.Generator) -> Choices | None:
    """Draw a random configuration that is not in `existing`; None if 1,000 draws are all in `existing`."""
    for _ in range(1000):
        choices = {name: values[generator.integers(len(values))] for name, values in _searched_fields(params).items()}
        choices |= {name: not generator.integers(2) for name in _searched_sublayers(params, choices)}
        if choices not in existing:
            return choices
    return None


def count_configurations(params: Params) -> int:
    """Return the number of configurations in the search space."""
    per_depth = prod(len(values) for name, values in _searched_fields(params).items() if name != "layers")
    return per_depth * sum(2 ** len(_searched_sublayers(params, {"layers": depth})) for depth in _depths(params))


def extreme_choices(params: Params) -> list[Choices]:
    """Return, for each number of layers, the configurations with all and with none of the residual connections.

    A search that samples its space begins with these configurations.
    """
    first_values = {name: values[0] for name, values in _searched_fields(params).items()}
    extremes = []
    for depth, is_removed in product(_depths(params), (False, True)):
        by_sublayer = dict.fromkeys(_searched_sublayers(params, {"layers": depth}), is_removed)
        if by_sublayer or not is_removed:
            searched_depth = {"layers": depth} if "layers" in first_values else {}
            extremes.append(first_values | searched_depth | by_sublayer)
    return extremes


def build_ablation(params: Params, choices: Choices) -> Ablation:
    """Build the ablation that a trial with the configuration `choices` trains.

    Raises:
        KeyError: `choices` lacks a searched parameter.
    """
    search = params.search
    fields = {name: choices[name] if len(values) > 1 else values[0] for name, values in search.value_lists.items()}
    layers_of: dict[str, dict[str, list[int]]] = {name: {"attention": [], "mlp": []} for name in search.layer_choices}
    for parameter, field, sublayer, layer, choice in _list_sublayers(params, fields):
        if choice == "free" or (choice == "searched" and choices[parameter]):
            layers_of[field][sublayer].append(layer)
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


def _depths(params: Params) -> list[int]:
    """Return each number of layers that the model of a trial may have."""
    return params.search.value_lists.get("layers", [params.model.layers])


def _list_sublayers(params: Params, choices: Choices) -> Iterator[tuple[str, str, str, int, str]]:
    """Yield `parameter, field, sublayer, layer, choice` for all sublayers of the model that `choices` gives.

    `parameter` is the name that Optuna's parameter has if `choice` is `searched`, and not `kept` or `free`.
    """
    for field, by_sublayer in params.search.layer_choices.items():
        for layer in range(choices.get("layers", _depths(params)[0])):
            for sublayer, by_layer in by_sublayer:
                yield f"{field}_{sublayer}_{layer}", field, sublayer, layer, by_layer[layer]


def _searched_sublayers(params: Params, choices: Choices) -> list[str]:
    """Return the names of Optuna's parameters for the sublayers of the model that `choices` gives."""
    return [parameter for parameter, *_, choice in _list_sublayers(params, choices) if choice == "searched"]
