"""Trials of a study as ablations: entries for `ablations` in `params.yaml`, and writing them there."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE, Ablation, Overrides, Params, Sublayers, parse, round_trip_yaml
from pipeline.params.search import PER_LAYER

LONGEST_NAME = 80
"""Most characters in the name of an ablation."""


def ablation_entry(ablation: Ablation, params: Params) -> tuple[str, dict[str, Any]]:
    """A name for a trial's ablation, and its overrides as in `params.yaml`.

    The overrides are the task, and the fields of the search space that differ from `model` and `training`. Different
    configurations get different names.
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
    parts = [_in_name(name, values[name]) for name in sorted(values, key=lambda name: name not in PER_LAYER)]
    name = "-".join([f"search-{layers}-layer" if layers == 1 else f"search-{layers}-layers", *parts])
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 9]}-{files.digest(name.encode())[:8]}"
    changed = {
        section: {name: _as_yaml(value) for name, value in fields.items()}
        for section, fields in overrides.items()
        if fields
    }
    return name, {"task": ablation.dataset} | changed


def yaml_line(name: str, overrides: Mapping[str, Any]) -> str:
    """Format an entry for `params.yaml` as one line: `search-2-layers: {task: addition, model: {layers: 2}}`."""
    yaml, buffer = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 10_000
    yaml.dump(overrides, buffer)
    return f"{name}: {buffer.getvalue().strip()}"


def promote(params: Params, ablations: Iterable[Ablation]) -> list[str]:
    """Add trials' ablations to `ablations` in `params.yaml`, keep all else as it is, and return the added names.

    Raises:
        UserError: another ablation has the name of one of them.
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
    parse(type(params), YAML(typ="safe", pure=True).load(buffer.getvalue()), str(PARAMS_FILE)).check()
    files.write_text(PARAMS_FILE, buffer.getvalue())
    return list(new)


def _as_yaml(value: Any) -> Any:
    """A value in its shortest form: `[0]` for both sublayers of layer 0, `{mlp: [0]}` for one of them."""
    if not isinstance(value, Sublayers):
        return list(value) if isinstance(value, tuple) else value
    if value.attention == value.mlp:
        return list(value.mlp)
    return {sublayer: list(layers) for sublayer, layers in value if layers}


def _in_name(name: str, value: Any) -> str:
    """Part of an ablation's name for one override: `no-residual-attention-0-mlp-1`, `learning-rate-0-003`."""
    if not isinstance(value, Sublayers):
        return _dashed(name, value if isinstance(value, tuple) else [value])
    sublayers = [_dashed(sublayer, layers) for sublayer, layers in value if layers]
    if name == "residual_free":
        return "-".join(["no-residual", *sublayers]) if sublayers else "every-residual"
    return "-".join([name.replace("_", "-"), *sublayers])


def _dashed(name: str, values: Sequence[Any]) -> str:
    text = "-".join([name, *(str(value) for value in values)])
    return text.lower().replace("_", "-").replace(".", "-").replace("+", "")
