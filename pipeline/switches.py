"""Switches: the settings in which ablations differ, each with columns for tables, a description and a group.

Tables, tags, figures and sentences describe ablations by their switches.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mode
from typing import Any, Literal

from pipeline.params import Ablation, Model, Sublayers, Training

ENCODING, SIZE, RESIDUALS, OPTIMIZER = "Positional encoding and mask", "Size", "Residual connections", "Optimizer"
SWITCH_GROUPS = (ENCODING, SIZE, RESIDUALS, OPTIMIZER)
"""Groups of switches, in the order of the report. An ablation belongs to the last group that has a switch in which it
differs from most ablations."""


@dataclass(frozen=True)
class Switch:
    """Setting, under `model` or `training` in params.yaml, in which ablations differ."""

    settings_section: Literal["model", "training"]
    field: str
    group: str
    describe_value: Callable[[Any], str]
    """Function that describes a value of the setting in words, such as `2 layers`; empty if there is nothing to say."""
    unmentioned_value: Any = None
    """Value that descriptions of ablations leave out; None for the value that most ablations of the experiment have."""
    is_always_mentioned: bool = False
    """True if descriptions of ablations never leave out the value."""

    def value_of(self, ablation: Ablation) -> Any:
        """Return the ablation's value of the setting."""
        return getattr(getattr(ablation, self.settings_section), self.field)

    def value_columns(self, ablation: Ablation) -> dict[str, int | str | None]:
        """Return the ablation's value as a column of a table; sublayers as two columns with values such as `0 2`.

        A list with a value per layer becomes one value such as `causal full full`.
        """
        value = self.value_of(ablation)
        if isinstance(value, Sublayers):
            return {f"{self.field}_{sublayer}": " ".join(map(str, layers)) for sublayer, layers in value}
        return {self.field: " ".join(value) if isinstance(value, tuple) else value}


def sublayers_in_words(sublayers: Sublayers) -> str:
    """Format sublayers: `layer 1 (attention)`, or `layers 0, 1` if both sublayers of each layer are meant."""
    by_sublayer = {" (attention)": sublayers.attention, " (MLP)": sublayers.mlp}
    if sublayers.attention == sublayers.mlp:
        by_sublayer = {"": sublayers.mlp}
    return " and ".join(
        f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers))}{name}"
        for name, layers in by_sublayer.items()
        if layers
    )


def missing_residuals_in_words(residual_free: Sublayers) -> str:
    """Describe missing residual connections: `no residual at layer 1 (attention)`; empty if none is missing."""
    return f"no residual at {sublayers_in_words(residual_free)}" if residual_free.layers else ""


def layer_ordinal(layer_index: int, layer_count: int) -> str:
    """Return the ordinal number of a layer in words: `first`, `second`, ..., `last`, or `only`."""
    names = ["first", "second", "third", "fourth", "fifth"]
    if layer_index == layer_count - 1:
        return "last" if layer_count > 1 else "only"
    return names[layer_index] if layer_index < len(names) else f"{layer_index + 1}th"


def positional_encoding_in_words(positional: str) -> str:
    """Describe a positional encoding in words: `no PE`, `learned PE`."""
    return {"none": "no PE", "alibi": "ALiBi"}.get(positional, f"{positional} PE")


def attention_in_words(attention: str | Sequence[str]) -> str:
    """Describe the attention masks: `causal`, or `causal/full/full` if they differ between layers."""
    return attention if isinstance(attention, str) else "/".join(attention)


def positional_until_in_words(step: int | None) -> str:
    """Describe when the positional encoding is dropped: `dropped after 400 steps`; empty if it stays."""
    return f"dropped after {step} steps" if step else ""


SWITCHES = (
    Switch("model", "positional", ENCODING, positional_encoding_in_words, is_always_mentioned=True),
    Switch("model", "attention", ENCODING, attention_in_words, is_always_mentioned=True),
    Switch("model", "positional_until", ENCODING, positional_until_in_words),
    Switch("model", "layers", SIZE, lambda count: "1 layer" if count == 1 else f"{count} layers"),
    Switch("model", "heads", SIZE, lambda count: "1 head" if count == 1 else f"{count} heads"),
    Switch("model", "width", SIZE, lambda width: f"width {width}"),
    Switch("model", "residual_free", RESIDUALS, missing_residuals_in_words, Sublayers()),
    Switch("model", "residual_substitute", RESIDUALS, lambda name: "" if name == "none" else f"{name} instead", "none"),
    Switch("model", "residual_fade_steps", RESIDUALS, lambda steps: f"gone after {steps} steps" if steps else ""),
    Switch("training", "optimizer", OPTIMIZER, lambda name: {"adamw": "AdamW", "muon": "Muon"}.get(name, name)),
    Switch("training", "learning_rate", OPTIMIZER, lambda rate: f"learning rate {rate:g}"),
    Switch("training", "average", OPTIMIZER, lambda share: f"average {share:g}"),
)
"""All switches of an ablation, in the order of the columns in tables and of the words in descriptions."""


def switch_columns(ablation: Ablation) -> dict[str, int | str | None]:
    """Return the values of an ablation's switches as columns of a table."""
    return {name: value for switch in SWITCHES for name, value in switch.value_columns(ablation).items()}


def switch_tags(ablation: Ablation) -> dict[str, str]:
    """Return the values of an ablation's switches as MLflow tags: texts, with `none` for no value."""
    return {name: "none" if value in (None, "") else str(value) for name, value in switch_columns(ablation).items()}


_DEFAULTS: dict[str, Any] = {
    "model": Model(layers=1, heads=1, width=1),
    "training": Training.model_construct(learning_rate=1.0),
}
SWITCH_COLUMNS = tuple(switch_columns(Ablation.model_construct(**_DEFAULTS)))
"""Names of the columns that describe an ablation in tables."""


def find_unmentioned_values(ablations: Iterable[Ablation]) -> dict[str, Any]:
    """Return for each switch the value that descriptions of ablations leave out: a fixed value, or the commonest.

    The commonest combination of values that are not tuned is taken; among equally common ones, the first.
    """
    common = {switch.field: switch.unmentioned_value for switch in SWITCHES if switch.unmentioned_value is not None}
    varying = [switch for switch in SWITCHES if switch.unmentioned_value is None and not switch.is_always_mentioned]
    commonest = mode(
        tuple(None if switch.field in ablation.training.tuned else switch.value_of(ablation) for switch in varying)
        for ablation in ablations
    )
    return common | {switch.field: value for switch, value in zip(varying, commonest, strict=True)}


def describe_ablation(ablation: Ablation, unmentioned_values: Mapping[str, Any]) -> str:
    """Describe an ablation in words: `no PE, causal, AdamW, no residual at layer 1 (attention)`.

    Values that equal those in `unmentioned_values` (see `find_unmentioned_values`) are left out.
    """
    switches = mentioned_switches(ablation, unmentioned_values)
    return ", ".join(filter(None, (switch.describe_value(switch.value_of(ablation)) for switch in switches)))


def group_ablations(ablations: Sequence[Ablation]) -> list[tuple[str, list[Ablation]]]:
    """Group ablations by the last of `SWITCH_GROUPS` in which they differ from most; empty groups are left out."""
    common = find_unmentioned_values(ablations)
    groups: dict[str, list[Ablation]] = {group: [] for group in SWITCH_GROUPS}
    for ablation in ablations:
        mentioned = (switch.group for switch in mentioned_switches(ablation, common))
        groups[max(mentioned, key=SWITCH_GROUPS.index)].append(ablation)
    return [(group, members) for group, members in groups.items() if members]


def mentioned_switches(ablation: Ablation, unmentioned_values: Mapping[str, Any]) -> list[Switch]:
    """Return the switches that a description of an ablation mentions: not tuned ones, nor those of usual value."""
    return [
        switch
        for switch in SWITCHES
        if switch.field not in ablation.training.tuned
        and switch.value_of(ablation) != unmentioned_values.get(switch.field)
    ]


def select_ablations(ablations: Iterable[Ablation], **switch_values: object) -> list[Ablation]:
    """Return the ablations whose switches have the given values, in the given order."""
    by_field = {switch.field: switch for switch in SWITCHES}
    required = [(by_field[field], value) for field, value in switch_values.items()]
    return [ablation for ablation in ablations if all(switch.value_of(ablation) == value for switch, value in required)]


def has_same_settings(first: Ablation, second: Ablation, *, any_training: bool = False) -> bool:
    """Return True if settings other than switches, seeds, steps, evaluations and snapshots are equal.

    With `any_training`, all settings of the training may differ.
    """
    left_out = {"seeds", "steps", "evaluate_every", "snapshots", *(switch.field for switch in SWITCHES)}
    models, trainings = (
        [getattr(ablation, section).model_dump(exclude=left_out) for ablation in (first, second)]
        for section in ("model", "training")
    )
    return models[0] == models[1] and (any_training or trainings[0] == trainings[1])


def differing_switches(first: Ablation, second: Ablation) -> list[str]:
    """Return the fields of the switches in which two ablations differ, and `other settings` if those differ, too.

    Substitutes do not count if one of the two has nothing to substitute; nor do settings that were tuned for both, nor
    other settings of the training if the optimizers differ.
    """
    differing = [switch for switch in SWITCHES if switch.value_of(first) != switch.value_of(second)]
    ignored = set[str](first.training.tuned) & set[str](second.training.tuned)
    if is_intact(first) or is_intact(second):
        ignored |= {"residual_substitute", "residual_fade_steps"}
    any_training = any(switch.field == "optimizer" for switch in differing)
    if any_training:
        ignored |= {switch.field for switch in SWITCHES if switch.settings_section == "training"} - {"optimizer"}
    fields = [switch.field for switch in differing if switch.field not in ignored]
    return fields if has_same_settings(first, second, any_training=any_training) else [*fields, "other settings"]


def find_variant(ablations: Iterable[Ablation], ablation: Ablation, **switch_changes: object) -> Ablation | None:
    """Return the first ablation that differs from `ablation` only by these changes of switches; None without one.

    It has the same task and the same settings; seeds, steps, evaluations, snapshots and tuned settings may differ.
    """
    kept = {
        switch.field: switch.value_of(ablation) for switch in SWITCHES if switch.field not in ablation.training.tuned
    }
    for variant in select_ablations(ablations, **(kept | switch_changes)):
        if variant.dataset == ablation.dataset and has_same_settings(variant, ablation):
            return variant
    return None


def is_intact(ablation: Ablation) -> bool:
    """Return True if the ablation has all residual connections."""
    return ablation.model.residual_free == Sublayers()


def lacks_residuals(ablation: Ablation) -> bool:
    """Return True if the ablation has missing residual connections that are never there, and nothing replaces them."""
    model = ablation.model
    return not is_intact(ablation) and model.residual_substitute == "none" and model.residual_fade_steps is None


def find_intact_counterpart(ablations: Iterable[Ablation], ablation: Ablation) -> Ablation | None:
    """Return the ablation that differs from `ablation` only by having all residual connections; None without one."""
    return find_variant(
        ablations, ablation, residual_free=Sublayers(), residual_substitute="none", residual_fade_steps=None
    )
