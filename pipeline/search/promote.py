"""Format the trials of a search as entries for `ablations` in `params.yaml`, and add them to the file."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE, Ablation, Overrides, Params, Sublayers, parse, round_trip_yaml
from pipeline.params.search import PER_SUBLAYER_FIELDS

MAX_NAME_LENGTH = 80
"""Largest number of characters in the name of an ablation."""


def ablation_entry(ablation: Ablation, params: Params) -> tuple[str, dict[str, Any]]:
    """Return a name and the overrides with which `params.yaml` would define the ablation of a trial.

    The overrides are the task, and the fields of the search space that differ from `model` and `training`. Different
    ablations get different names.
    """
    sections = {"model": (ablation.model, params.model), "training": (ablation.training, params.training)}
    overrides = {
        section: {
            name: value for name, value in config if name in params.search.space and value != getattr(shared, name)
        }
        for section, (config, shared) in sections.items()
    }
    values = {name: value for section in overrides.values() for name, value in section.items() if name != "layers"}
    layers = ablation.model.layers
    parts = [
        _describe_override(name, values[name])
        for name in sorted(values, key=lambda name: name not in PER_SUBLAYER_FIELDS)
    ]
    name = "-".join([f"search-{layers}-layer" if layers == 1 else f"search-{layers}-layers", *parts])
    if len(name) > MAX_NAME_LENGTH:
        name = f"{name[: MAX_NAME_LENGTH - 9]}-{files.compute_digest(name.encode())[:8]}"
    changed = {
        section: {name: _shorten_yaml_value(value) for name, value in fields.items()}
        for section, fields in overrides.items()
        if fields
    }
    return name, {"task": ablation.dataset} | changed


def format_yaml_line(name: str, overrides: Mapping[str, Any]) -> str:
    """Format an ablation as a line of `params.yaml`: `search-2-layers: {task: addition, model: {layers: 2}}`."""
    yaml, buffer = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 10_000
    yaml.dump(overrides, buffer)
    return f"{name}: {buffer.getvalue().strip()}"


def add_to_params(params: Params, ablations: Iterable[Ablation]) -> list[str]:
    """Add the ablations of trials to `ablations` in `params.yaml`, and return the names of those that were not there.

    The rest of the file, comments included, stays unchanged.

    Raises:
        UserError: the file has a different ablation of the same name.
    """
    entries = dict(ablation_entry(ablation, params) for ablation in ablations)
    promoted = params.model_copy(update={"ablations": {name: Overrides(**entry) for name, entry in entries.items()}})
    for name in sorted(entries.keys() & params.ablations.keys()):
        if params.ablation(name) != promoted.ablation(name):
            raise UserError(
                f"{PARAMS_FILE}: ablations.{name}: differs from the study's ablation of that name; rename it"
            )
    new = {name: entry for name, entry in entries.items() if name not in params.ablations}
    yaml, buffer = round_trip_yaml(), io.StringIO()
    content = yaml.load(PARAMS_FILE.read_text())
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
    if not isinstance(value, Sublayers):
        return _join_with_dashes(name, value if isinstance(value, tuple) else [value])
    sublayers = [_join_with_dashes(sublayer, layers) for sublayer, layers in value if layers]
    if name == "residual_free":
        return "-".join(["no-residual", *sublayers]) if sublayers else "every-residual"
    return "-".join([name.replace("_", "-"), *sublayers])


def _join_with_dashes(name: str, values: Sequence[Any]) -> str:
    text = "-".join([name, *(str(value) for value in values)])
    return text.lower().replace("_", "-").replace(".", "-").replace("+", "")
