"""Format the trials of a search as entries for `ablations` in `params.yaml`, and add them to the file."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

from ruamel.yaml import YAML

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE, Ablation, Overrides, Params, Sublayers, parse, round_trip_yaml

MAX_NAME_LENGTH = 80
"""Largest number of characters in the name of an ablation."""


def ablation_entry(ablation: Ablation, params: Params) -> tuple[str, dict[str, Any]]:
    """Return a name and the overrides with which `params.yaml` would define the ablation of a trial.

    The overrides are the task, and the fields of the search space that differ from `model` and `training`. Different
    ablations get different names.
    """
    entry: dict[str, Any] = {"task": ablation.dataset}
    described = {}
    for section in ("model", "training"):
        shared = getattr(params, section)
        for name, value in getattr(ablation, section):
            if name in params.search.space and value != getattr(shared, name):
                entry.setdefault(section, {})[name] = _shorten_yaml_value(value)
                described[name] = value
    described.pop("layers", None)  # always the first part of the name; settings of sublayers are the next
    sublayers_first = sorted(described.items(), key=lambda item: not isinstance(item[1], Sublayers))
    layers = "1-layer" if ablation.model.layers == 1 else f"{ablation.model.layers}-layers"
    name = "-".join([f"search-{layers}", *(_describe_override(*override) for override in sublayers_first)])
    if len(name) > MAX_NAME_LENGTH:
        name = f"{name[: MAX_NAME_LENGTH - 9]}-{files.compute_digest(name.encode())[:8]}"
    return name, entry


def format_yaml_line(name: str, overrides: Mapping[str, Any]) -> str:
    """Format an ablation as a line of `params.yaml`: `search-2-layers: {task: addition, model: {layers: 2}}`."""
    yaml, buffer = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 10_000
    yaml.dump(overrides, buffer)
    return f"{name}: {buffer.getvalue().strip()}"


def add_to_params(params: Params, ablations: Iterable[Ablation]) -> list[str]:
    """Add the ablations of trials to `ablations` in `params.yaml`, and return the names of those that were not there.

    The rest of the file, comments included, stays unchanged.
    """
    entries = dict(ablation_entry(ablation, params) for ablation in ablations)
    promoted = params.model_copy(update={"ablations": {name: Overrides(**entry) for name, entry in entries.items()}})
    new = {name: entry for name, entry in entries.items() if name not in params.ablations}
    for name in sorted(entries.keys() - new.keys()):
        if params.ablation(name) != promoted.ablation(name):
            message = f"ablations.{name}: differs from the study's ablation of that name; rename it"
            raise UserError(f"{PARAMS_FILE}: {message}")
    yaml, buffer = round_trip_yaml(), io.StringIO()
    content = yaml.load(PARAMS_FILE)
    content["ablations"].update(new)
    yaml.dump(content, buffer)
    parse(type(params), YAML(typ="safe", pure=True).load(buffer.getvalue()), str(PARAMS_FILE)).check_all_sections()
    files.write_text(PARAMS_FILE, buffer.getvalue())
    return list(new)


def _shorten_yaml_value(value: Any) -> Any:
    """Return a value in its shortest YAML form: `[0]` for both sublayers of layer 0, `{mlp: [0]}` for its MLP."""
    if not isinstance(value, Sublayers):
        return list(value) if isinstance(value, tuple) else value
    if value.attention == value.mlp:
        return list(value.mlp)
    return {sublayer: list(layers) for sublayer, layers in value if layers}


def _describe_override(name: str, value: Any) -> str:
    """Format an override as part of an ablation's name: `no-residual-attention-0-mlp-1`, `learning-rate-0-003`."""
    parts = value if isinstance(value, tuple) else [value]
    if isinstance(value, Sublayers):
        parts = [part for sublayer, layers in value if layers for part in (sublayer, *layers)]
    if name == "residual_free":
        name = "no-residual" if parts else "every-residual"
    return "-".join(map(str, [name, *parts])).lower().replace("_", "-").replace(".", "-").replace("+", "")
