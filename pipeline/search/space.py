"""The search space: which patterns `search.space` in `params.yaml` allows, and the ablation of each.

`layers` is the only field with code of its own: it decides for how many layers there are choices. The patterns with the
same number of layers are a stratum of the space.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

from optuna import Trial

from pipeline import files
from pipeline.params import Ablation, Params
from pipeline.params.search import Range

Choices = dict[str, Any]
"""A pattern: name of a searched parameter -> value, such as `heads` -> 2. A residual connection has a parameter like
`residual_free_attention_0`, which is True if the trial removes the connection."""


def list_depths(params: Params) -> list[int]:
    """Return the numbers of layers, ascending: one for each stratum of the space."""
    return sorted(params.search.value_lists.get("layers", [params.model.layers]))


def suggest_choices(trial: Trial, params: Params, layers: int) -> Choices:
    """Let Optuna choose a pattern with this number of layers, and return it."""
    choices: Choices = {}
    for name, options in _searched_parameters(params, layers).items():
        if isinstance(options, list):
            choices[name] = trial.suggest_categorical(name, options)
        elif isinstance(options.low, int) and isinstance(options.high, int):
            choices[name] = trial.suggest_int(name, options.low, options.high, log=options.log)
        else:
            choices[name] = trial.suggest_float(name, options.low, options.high, log=options.log)
    return choices


def is_enumerated(params: Params, layers: int) -> bool:
    """Return True if the patterns with this number of layers are so few that the search tries all of them."""
    parameters = _searched_parameters(params, layers).values()
    counts = [len(options) if isinstance(options, list) else math.inf for options in parameters]
    return math.prod(counts) <= params.search.enumerate_up_to


def list_patterns(params: Params, layers: int) -> list[Choices]:
    """Return all patterns of an enumerated stratum."""
    lists = {name: list(options) for name, options in _searched_parameters(params, layers).items()}
    return [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]


def list_connections(params: Params, layers: int) -> dict[str, tuple[str, int]]:
    """Return the sublayer and the layer of each residual connection that is searched, by the name of its parameter."""
    sublayers = _list_sublayers(params, layers)
    return {name: (sublayer, layer) for name, field, sublayer, layer, choice in sublayers
            if field == "residual_free" and choice == "searched"}  # fmt: skip


def build_ablation(params: Params, layers: int, choices: Choices) -> Ablation:
    """Build the ablation that the trial of a pattern trains."""
    fields = {name: values[0] for name, values in params.search.value_lists.items()}
    fields |= {name: value for name, value in choices.items() if name in params.search.space} | {"layers": layers}
    layers_of: dict[str, dict[str, list[int]]] = {}
    for parameter, field, sublayer, layer, choice in _list_sublayers(params, layers):
        removed = layers_of.setdefault(field, {}).setdefault(sublayer, [])
        if choice == "free" or (choice == "searched" and choices[parameter]):
            removed.append(layer)
    return params.trial_ablation(fields | layers_of)


def study_name(params: Params) -> str:
    """Return the name of Optuna's study, with a digest of all settings that influence the results."""
    search = params.search.model_dump(mode="json", exclude={"task", "trials", "storage", "heartbeat"})
    fixed = next(params.search.value_combinations())
    example = params.trial_ablation(fixed).model_dump(mode="json", exclude={"name", "dataset"})
    return f"search-{files.compute_digest_of_values([search, example])[:10]}"


def _searched_parameters(params: Params, layers: int) -> dict[str, list[Any] | Range]:
    """Return the values, or the range, of each searched parameter of a model with this number of layers."""
    lists = {name: values for name, values in params.search.value_lists.items() if len(values) > 1 and name != "layers"}
    sublayers = [parameter for parameter, *_, choice in _list_sublayers(params, layers) if choice == "searched"]
    return lists | params.search.ranges | {parameter: [False, True] for parameter in sublayers}


def _list_sublayers(params: Params, layers: int) -> Iterator[tuple[str, str, str, int, str]]:
    """Yield `parameter, field, sublayer, layer, choice` for all sublayers of a model.

    `parameter` is the name that Optuna's parameter has if `choice` is `searched`, and not `kept` or `free`.
    """
    for field, by_sublayer in params.search.layer_choices.items():
        for layer in range(layers):
            for sublayer, by_layer in by_sublayer:
                yield f"{field}_{sublayer}_{layer}", field, sublayer, layer, by_layer[layer]
