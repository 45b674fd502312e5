"""The switches of an ablation: each with its columns, its words and its group, in one place.

Tables, tags, figures and sentences are made from them, and ablations are compared by them. Elsewhere ablations are
typed objects; the columns are for people.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.params import Ablation, Model, Sublayers, Training

Columns = dict[str, int | str]

SWITCH_GROUPS = ("Positional encoding and mask", "Size", "Residual connections", "Optimizer")
"""The groups of switches, in the order in which ablations are shown. An ablation belongs to the last group in which it
varies."""
ENCODING_GROUP, SIZE_GROUP, RESIDUAL_GROUP, OPTIMIZER_GROUP = SWITCH_GROUPS


@dataclass(frozen=True)
class Switch:
    """A field of `model` or `training` in which ablations differ."""

    section: Literal["model", "training"]
    field: str
    group: str
    describe_value: Callable[[Any], str]
    """A value in words; an empty text where there is nothing to say."""
    unmentioned_value: Any = None
    """The value that is not mentioned. None: the value that most ablations of the experiment have."""
    is_always_mentioned: bool = False
    """True if the value of every ablation is mentioned, also a common one."""

    def value_of(self, ablation: Ablation) -> Any:
        """The ablation's value of the field."""
        return getattr(getattr(ablation, self.section), self.field)

    def value_columns(self, ablation: Ablation) -> Columns:
        """The value as columns of a table: a flag as 1 or 0, sublayers as a column each of layers, such as `0 2`."""
        value = self.value_of(ablation)
        if isinstance(value, Sublayers):
            return {f"{self.field}_{sublayer}": " ".join(map(str, layers)) for sublayer, layers in value}
        return {self.field: int(value) if isinstance(value, bool) else value}


def count_in_words(count: int, noun: str) -> str:
    """The count with the noun in singular or plural: `1 layer`, `2 layers`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def layers_in_words(layers: Sequence[int]) -> str:
    """The numbers of layers in words: `layer 1`, `layers 0, 1`."""
    return f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers))}"


def sublayers_in_words(sublayers: Sublayers) -> str:
    """Sublayers in words: `layer 1 (attention)`, or `layers 0, 1` for both sublayers of each; empty for none."""
    if sublayers.attention == sublayers.mlp:
        return layers_in_words(sublayers.mlp) if sublayers.mlp else ""
    by_sublayer = {"attention": sublayers.attention, "MLP": sublayers.mlp}
    return " and ".join(f"{layers_in_words(layers)} ({name})" for name, layers in by_sublayer.items() if layers)


def missing_residuals_in_words(free: Sublayers) -> str:
    """Missing residual connections in words: `no residual at layer 1 (attention)`; empty if none is missing."""
    return f"no residual at {sublayers_in_words(free)}" if free.layers else ""


def both_sublayers(layer: int) -> Sublayers:
    """Both sublayers of one layer."""
    return Sublayers(attention=(layer,), mlp=(layer,))


def layer_ordinal(layer: int, layers: int) -> str:
    """The place of a layer among `layers` layers: `first`, `second`, ..., `last`."""
    names = ["first", "second", "third", "fourth", "fifth"]
    if layer == layers - 1:
        return "last" if layers > 1 else "only"
    return names[layer] if layer < len(names) else f"{layer + 1}th"


def positional_encoding_in_words(positional: str) -> str:
    """A positional encoding in words: `no PE`, `learned PE`."""
    return {"none": "no PE", "alibi": "ALiBi"}.get(positional, f"{positional} PE")


def optimizer_in_words(name: str) -> str:
    """The name of an optimizer as its authors write it."""
    return {"adamw": "AdamW", "muon": "Muon"}.get(name, name)


def residual_substitute_in_words(name: str) -> str:
    """A substitute for residual connections in words: `noise instead`; empty for none."""
    return "" if name == "none" else f"{name} instead"


SWITCHES = (
    Switch("model", "positional", ENCODING_GROUP, positional_encoding_in_words, is_always_mentioned=True),
    Switch("model", "attention", ENCODING_GROUP, str, is_always_mentioned=True),
    Switch("model", "layers", SIZE_GROUP, lambda count: count_in_words(count, "layer")),
    Switch("model", "heads", SIZE_GROUP, lambda count: count_in_words(count, "head")),
    Switch("model", "width", SIZE_GROUP, lambda width: f"width {width}"),
    Switch("model", "residual_free", RESIDUAL_GROUP, missing_residuals_in_words, unmentioned_value=Sublayers()),
    Switch("model", "residual_substitute", RESIDUAL_GROUP, residual_substitute_in_words, unmentioned_value="none"),
    Switch("training", "optimizer", OPTIMIZER_GROUP, optimizer_in_words),
)
"""All switches, in the order of the columns and of the words."""


def switch_columns(ablation: Ablation) -> Columns:
    """The ablation's switches as columns of a table."""
    return {name: value for switch in SWITCHES for name, value in switch.value_columns(ablation).items()}


def switch_tags(ablation: Ablation) -> dict[str, str]:
    """The ablation's switches as tags of a run: the columns as text, with `none` for an empty one."""
    return {name: str(value) if value != "" else "none" for name, value in switch_columns(ablation).items()}


SWITCH_COLUMNS = tuple(
    switch_columns(
        Ablation.model_construct(
            model=Model(layers=1, heads=1, width=1), training=Training.model_construct(optimizer="muon")
        )
    )
)
"""Names of the columns."""


def common_values(ablations: Iterable[Ablation]) -> dict[str, Any]:
    """Field -> the value that is not mentioned: the switch's default, or what most of the ablations have.

    The commonest combination of values is taken; among equally common ones, the first.
    """
    common = {switch.field: switch.unmentioned_value for switch in SWITCHES if switch.unmentioned_value is not None}
    varying = [switch for switch in SWITCHES if switch.unmentioned_value is None and not switch.is_always_mentioned]
    combinations = Counter(tuple(switch.value_of(ablation) for switch in varying) for ablation in ablations)
    ((commonest, _),) = combinations.most_common(1)
    return common | {switch.field: value for switch, value in zip(varying, commonest, strict=True)}


def describe_ablation(ablation: Ablation, unmentioned: Mapping[str, Any]) -> str:
    """The ablation in words: `no PE, causal, AdamW, no residual at layer 1 (attention)`.

    Values that are as in `unmentioned` (see `common_values`) are left out.
    """
    words = (
        switch.describe_value(switch.value_of(ablation))
        for switch in SWITCHES
        if switch.value_of(ablation) != unmentioned.get(switch.field)
    )
    return ", ".join(filter(None, words))


def group_ablations(ablations: Sequence[Ablation]) -> list[tuple[str, list[Ablation]]]:
    """The ablations by the group in which they vary, in their order within a group; without empty groups."""
    common = common_values(ablations)

    def group_of(ablation: Ablation) -> str:
        varied = [
            switch.group
            for switch in SWITCHES
            if not switch.is_always_mentioned and switch.value_of(ablation) != common[switch.field]
        ]
        return max(varied, key=SWITCH_GROUPS.index, default=SWITCH_GROUPS[0])

    by_group = {group: [ablation for ablation in ablations if group_of(ablation) == group] for group in SWITCH_GROUPS}
    return [(group, members) for group, members in by_group.items() if members]


def select_ablations(ablations: Iterable[Ablation], **values: object) -> list[Ablation]:
    """The ablations whose switches have these values, in their order."""
    switches = {switch.field: switch for switch in SWITCHES}
    return [
        ablation
        for ablation in ablations
        if all(switches[field].value_of(ablation) == value for field, value in values.items())
    ]


def select_variants(ablations: Iterable[Ablation], ablation: Ablation, **changes: object) -> list[Ablation]:
    """The ablations that differ from `ablation` in nothing but these `changes` of switches.

    They have the same task and the same settings; seeds, steps, evaluations and snapshots may differ. With another
    optimizer, all settings of the training may differ.
    """
    values = {switch.field: switch.value_of(ablation) for switch in SWITCHES} | changes
    candidates = [other for other in ablations if other.dataset == ablation.dataset]
    if "optimizer" not in changes:
        candidates = [
            other for other in candidates if _settings_besides_switches(other) == _settings_besides_switches(ablation)
        ]
    return select_ablations(candidates, **values)


def _settings_besides_switches(ablation: Ablation) -> tuple[Any, ...]:
    """All settings of model and training except switches, seeds, steps, evaluations and snapshots."""
    observed = {"seeds", "steps", "evaluate_every", "snapshots"}
    switches = {switch.field for switch in SWITCHES}
    return ablation.model.model_dump(exclude=switches), ablation.training.model_dump(exclude=observed | switches)


INTACT_SWITCHES: dict[str, Any] = {"residual_free": Sublayers(), "residual_substitute": "none"}
"""The switches of an ablation with all residual connections."""


def is_intact(ablation: Ablation) -> bool:
    """Return True if the ablation has all residual connections."""
    return ablation.model.residual_free == Sublayers()


def lacks_residuals(ablation: Ablation) -> bool:
    """Return True if residual connections are missing and nothing substitutes them."""
    return not is_intact(ablation) and ablation.model.residual_substitute == "none"


def find_intact_counterpart(ablations: Iterable[Ablation], ablation: Ablation) -> Ablation | None:
    """The same ablation with all residual connections, or None if it is not among `ablations`."""
    return next(iter(select_variants(ablations, ablation, **INTACT_SWITCHES)), None)
