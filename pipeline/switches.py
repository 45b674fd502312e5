"""What an ablation is, said once: its switches in order, each with its columns, its words and what question it answers.

Tables, tags, figures and sentences ask here, and here alone an ablation is told from another. Ablations are typed
everywhere; a table names them, and what it says of their switches is for people.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.params import Ablation, Model, Sublayers, Training

Columns = dict[str, int | str]

GROUPS = ("Positional encoding and mask", "Size", "Residual connections", "Optimizer")
"""The groups of switches, in the order in which ablations are shown. An ablation belongs to the last group in which it
varies."""
ENCODING, SIZE, RESIDUAL, OPTIMIZER = GROUPS


@dataclass(frozen=True)
class Switch:
    """A field of `model` or `training` in which ablations differ."""

    section: Literal["model", "training"]
    field: str
    group: str
    words: Callable[[Any], str]
    """A value in words; nothing where there is nothing to say."""
    default: Any = None
    """What goes without saying; None: what most ablations of the grid share."""
    always_shown: bool = False
    """Whether it is said of every ablation."""

    def value_of(self, ablation: Ablation) -> Any:
        """The ablation's value."""
        return getattr(getattr(ablation, self.section), self.field)

    def columns(self, ablation: Ablation) -> Columns:
        """The ablation's value as columns of a table: yes and no as 1 and 0, a sublayer by its layers: `0 2`."""
        value = self.value_of(ablation)
        if isinstance(value, Sublayers):
            return {f"{self.field}_{sublayer}": " ".join(map(str, layers)) for sublayer, layers in value}
        return {self.field: int(value) if isinstance(value, bool) else value}


def layers_in_words(layers: Sequence[int]) -> str:
    """`layer 1`, `layers 0, 1`."""
    return f"layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"


def sublayers_in_words(some: Sublayers) -> str:
    """`layer 1 (attention)`, `layers 0, 1` where both are meant; nothing where none is."""
    if some.attention == some.mlp:
        return layers_in_words(some.mlp) if some.mlp else ""
    by_sublayer = {"attention": some.attention, "MLP": some.mlp}
    return " and ".join(f"{layers_in_words(layers)} ({name})" for name, layers in by_sublayer.items() if layers)


def missing_residuals_in_words(free: Sublayers) -> str:
    """`no residual at layer 1 (attention)`; nothing where nothing is missing."""
    return f"no residual at {sublayers_in_words(free)}" if free.layers else ""


def both_sublayers(layer: int) -> Sublayers:
    """Both sublayers of one layer."""
    return Sublayers(attention=(layer,), mlp=(layer,))


def ordinal(layer: int, layers: int) -> str:
    """`first`, `second`, ..., `last`; by number where there are many."""
    names = ["first", "second", "third", "fourth", "fifth"]
    if layer == layers - 1:
        return "last" if layers > 1 else "only"
    return names[layer] if layer < len(names) else f"{layer + 1}th"


def positional_in_words(positional: str) -> str:
    """`no PE`, `learned PE`."""
    return {"none": "no PE", "alibi": "ALiBi"}.get(positional, f"{positional} PE")


def optimizer_in_words(name: str) -> str:
    """As its authors write it."""
    return {"adamw": "AdamW", "muon": "Muon"}.get(name, name)


SWITCHES = (
    Switch("model", "positional", ENCODING, positional_in_words, always_shown=True),
    Switch("model", "attention", ENCODING, str, always_shown=True),
    Switch("model", "layers", SIZE, lambda count: f"{count} layer{'s' * (count != 1)}"),
    Switch("model", "heads", SIZE, lambda count: f"{count} head{'s' * (count != 1)}"),
    Switch("model", "width", SIZE, lambda width: f"width {width}"),
    Switch("model", "residual_free", RESIDUAL, missing_residuals_in_words, default=Sublayers()),
    Switch(
        "model", "residual_substitute", RESIDUAL, lambda name: f"{name} instead" * (name != "none"), default="none"
    ),
    Switch("training", "optimizer", OPTIMIZER, optimizer_in_words),
)  # fmt: skip
"""In the order of the columns, and of the words in a sentence."""


def columns(ablation: Ablation) -> Columns:
    """What the ablation is, as columns of a table."""
    return {name: value for switch in SWITCHES for name, value in switch.columns(ablation).items()}


def tags(ablation: Ablation) -> dict[str, str]:
    """The same as tags of a run: text, `none` where a column is empty."""
    return {name: str(value) if value != "" else "none" for name, value in columns(ablation).items()}


COLUMNS = tuple(
    columns(
        Ablation.model_construct(
            model=Model(layers=1, heads=1, width=1), training=Training.model_construct(optimizer="muon")
        )
    )
)
"""The names of the columns."""


def common_values(ablations: Iterable[Ablation]) -> dict[str, Any]:
    """Field -> what goes without saying among `ablations`: neutral, or what most of them have together (of equals, what
    comes first)."""
    open_switches = [switch for switch in SWITCHES if switch.default is None and not switch.always_shown]
    most = Counter(tuple(switch.value_of(ablation) for switch in open_switches) for ablation in ablations).most_common(
        1
    )[0][0]
    common = {switch.field: value for switch, value in zip(open_switches, most, strict=True)}
    return {switch.field: switch.default for switch in SWITCHES if switch.default is not None} | common


def describe(ablation: Ablation, unsaid: Mapping[str, Any]) -> str:
    """An ablation in words, such as `no PE, causal, AdamW, no residual at layer 1 (attention)`, without what is as
    `unsaid` (of `shared`)."""
    said = (
        switch.words(switch.value_of(ablation))
        for switch in SWITCHES
        if switch.value_of(ablation) != unsaid.get(switch.field)
    )
    return ", ".join(filter(None, said))


def grouped(ablations: Sequence[Ablation]) -> list[tuple[str, list[Ablation]]]:
    """The ablations by what they vary, within a group in the order of the grid; empty groups are left out."""
    usual = common_values(ablations)

    def group(ablation: Ablation) -> str:
        varied = [s.group for s in SWITCHES if not s.always_shown and s.value_of(ablation) != usual[s.field]]
        return max(varied, key=GROUPS.index, default=GROUPS[0])

    by_group = {name: [ablation for ablation in ablations if group(ablation) == name] for name in GROUPS}
    return [(name, members) for name, members in by_group.items() if members]


def ablations_with(ablations: Iterable[Ablation], **values: object) -> list[Ablation]:
    """The ablations whose fields have these values, in the order of the grid."""
    wanted = {switch.field: switch for switch in SWITCHES}
    return [
        ablation
        for ablation in ablations
        if all(wanted[field].value_of(ablation) == value for field, value in values.items())
    ]


def ablations_like(ablations: Iterable[Ablation], ablation: Ablation, **changes: object) -> list[Ablation]:
    """The ablations of the same task that are what `ablation` is, but for `changes`: in their switches and, where the
    optimizer is the same, in all else but the seeds, and for how long and how closely watched they are trained."""
    values = {switch.field: switch.value_of(ablation) for switch in SWITCHES} | changes

    def alike(one: Ablation) -> bool:
        return "optimizer" in changes or _unswitched(one) == _unswitched(ablation)

    return ablations_with((one for one in ablations if one.dataset == ablation.dataset and alike(one)), **values)


def _unswitched(ablation: Ablation) -> tuple[Any, ...]:
    counted = {"seeds", "steps", "evaluate_every", "snapshots"}
    switched = {switch.field for switch in SWITCHES}
    return ablation.model.model_dump(exclude=switched), ablation.training.model_dump(exclude=counted | switched)


INTACT: dict[str, Any] = {"residual_free": Sublayers(), "residual_substitute": "none"}
"""The switches of an ablation that lacks no residual connection."""


def is_intact(ablation: Ablation) -> bool:
    """Whether every residual connection is there."""
    return ablation.model.residual_free == Sublayers()


def lacks_residuals(ablation: Ablation) -> bool:
    """Whether the ablation lacks residual connections, and has nothing that makes up for them."""
    return not is_intact(ablation) and ablation.model.residual_substitute == "none"


def intact_counterpart(ablations: Iterable[Ablation], ablation: Ablation) -> Ablation | None:
    """The same ablation with every residual connection, where the grid has it."""
    return next(iter(ablations_like(ablations, ablation, **INTACT)), None)
