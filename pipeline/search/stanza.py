"""A trial's ablation as an ablation: what to put below `ablations` in `params.yaml` to train it in the grid."""

import io
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML

from pipeline import files
from pipeline.params import Ablation, Params, Sublayers
from pipeline.params.search import PER_LAYER

LONGEST = 80
"""Characters that the name of an ablation may have."""


def stanza(ablation: Ablation, params: Params) -> tuple[str, dict[str, Any]]:
    """The ablation's name, and its overrides: the task, and what of the fields in the space differs from `model` and
    `training`. Two trials have the same name only if they are the same configuration."""
    pairs = {"model": (ablation.model, params.model), "training": (ablation.training, params.training)}
    differing = {
        section: {name: value for name, value in own if name in params.search.space and value != getattr(shared, name)}
        for section, (own, shared) in pairs.items()
    }
    changed = {name: value for own in differing.values() for name, value in own.items() if name != "layers"}
    parts = [_named(name, changed[name]) for name in sorted(changed, key=lambda name: name not in PER_LAYER)]
    name = "-".join([f"search-{ablation.model.layers}-layer{'s' * (ablation.model.layers > 1)}", *parts])
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 9]}-{files.digest(name.encode())[:8]}"
    sections = {section: {name: _plain(value) for name, value in own.items()} for section, own in differing.items()}
    return name, {"task": ablation.dataset} | {section: own for section, own in sections.items() if own}


def line(name: str, overrides: dict[str, Any]) -> str:
    """`search-2-layers: {task: addition, model: {layers: 2}}`."""
    yaml, buffer = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 10_000
    yaml.dump(overrides, buffer)
    return f"{name}: {buffer.getvalue().strip()}"


def _plain(value: Any) -> Any:
    """As a person writes it: `[0]` for both sublayers of a layer, `{mlp: [0]}` for one."""
    if not isinstance(value, Sublayers):
        return list(value) if isinstance(value, tuple) else value
    if value.attention == value.mlp:
        return list(value.mlp)
    return {sublayer: list(layers) for sublayer, layers in value if layers}


def _named(name: str, value: Any) -> str:
    """`no-residual-attention-0-mlp-1`, `learning-rate-0-003`, `positional-none`."""
    if isinstance(value, Sublayers):
        some = [_dashed(sublayer, layers) for sublayer, layers in value if layers]
        if name == "residual_free":
            return "-".join(["no-residual", *some]) if some else "every-residual"
        return "-".join([name.replace("_", "-"), *some])
    return _dashed(name, value if isinstance(value, tuple) else [value])


def _dashed(name: str, values: Sequence[Any]) -> str:
    text = "-".join([name, *(str(value) for value in values)])
    return text.lower().replace("_", "-").replace(".", "-").replace("+", "")
