"""What a cell is, said once: its switches in order, each with its columns, its words and what question it answers.

Tables, tags, figures and sentences ask here, and here alone a cell is told from another. Cells are typed everywhere; a
table names them, and what it says of their switches is for people.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.params import Cell, Model, Sublayers, Training

Columns = dict[str, int | str]

GROUPS = ("Positional encoding and mask", "Size", "Residual connections", "Optimizer")
"""What a cell may vary first of all, in the order in which cells are shown. A cell belongs to the last that applies."""
ENCODING, SIZE, RESIDUAL, OPTIMIZER = GROUPS


@dataclass(frozen=True)
class Switch:
    """A field of `model` or `training` in which cells differ."""

    section: Literal["model", "training"]
    field: str
    group: str
    words: Callable[[Any], str]
    """A value in words; nothing where there is nothing to say."""
    neutral: Any = None
    """What goes without saying; None: what most cells of the grid share."""
    spoken: bool = False
    """Whether it is said of every cell."""

    def of(self, cell: Cell) -> Any:
        """The cell's value."""
        return getattr(getattr(cell, self.section), self.field)

    def columns(self, cell: Cell) -> Columns:
        """The cell's value as columns of a table: yes and no as 1 and 0, a sublayer by its layers, such as `0 2`."""
        value = self.of(cell)
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


def missing(free: Sublayers) -> str:
    """`no residual at layer 1 (attention)`; nothing where nothing is missing."""
    return f"no residual at {sublayers_in_words(free)}" if free.layers else ""


def of_layer(layer: int) -> Sublayers:
    """Both sublayers of one layer."""
    return Sublayers(attention=(layer,), mlp=(layer,))


def ordinal(layer: int, layers: int) -> str:
    """`first`, `second`, ..., `last`; by number where there are many."""
    names = ["first", "second", "third", "fourth", "fifth"]
    if layer == layers - 1:
        return "last" if layers > 1 else "only"
    return names[layer] if layer < len(names) else f"{layer + 1}th"


def encoding(positional: str) -> str:
    """`no PE`, `learned PE`."""
    return {"none": "no PE", "alibi": "ALiBi"}.get(positional, f"{positional} PE")


def optimizer(name: str) -> str:
    """As its authors write it."""
    return {"adamw": "AdamW", "muon": "Muon"}.get(name, name)


SWITCHES = (
    Switch("model", "positional", ENCODING, encoding, spoken=True),
    Switch("model", "positional_every_layer", ENCODING, lambda on: "PE at every layer" * on, neutral=False),
    Switch("model", "attention", ENCODING, str, spoken=True),
    Switch("model", "layers", SIZE, lambda count: f"{count} layer{'s' * (count != 1)}"),
    Switch("model", "heads", SIZE, lambda count: f"{count} head{'s' * (count != 1)}"),
    Switch("model", "width", SIZE, lambda width: f"width {width}"),
    Switch("model", "residual_free", RESIDUAL, missing, neutral=Sublayers()),
    Switch(
        "model", "residual_free_initialisation", RESIDUAL, lambda start: f"{start} start" * (start != "normal"),
        neutral="normal",
    ),
    Switch(
        "model", "residual_substitute", RESIDUAL, lambda name: f"{name} instead" * (name != "none"), neutral="none"
    ),
    Switch("training", "optimizer", OPTIMIZER, optimizer),
)  # fmt: skip
"""In the order of the columns, and of the words in a sentence."""


def columns(cell: Cell) -> Columns:
    """What the cell is, as columns of a table."""
    return {name: value for switch in SWITCHES for name, value in switch.columns(cell).items()}


def tags(cell: Cell) -> dict[str, str]:
    """The same as tags of a run: text, `none` where a column is empty."""
    return {name: str(value) if value != "" else "none" for name, value in columns(cell).items()}


COLUMNS = tuple(
    columns(
        Cell.model_construct(
            model=Model(layers=1, heads=1, width=1), training=Training.model_construct(optimizer="muon")
        )
    )
)
"""The names of the columns."""


def shared(cells: Iterable[Cell]) -> dict[str, Any]:
    """Field -> what goes without saying among `cells`: neutral, or what most of them have together (of equals, what
    comes first)."""
    open_switches = [switch for switch in SWITCHES if switch.neutral is None and not switch.spoken]
    most = Counter(tuple(switch.of(cell) for switch in open_switches) for cell in cells).most_common(1)[0][0]
    common = {switch.field: value for switch, value in zip(open_switches, most, strict=True)}
    return {switch.field: switch.neutral for switch in SWITCHES if switch.neutral is not None} | common


def described(cell: Cell, unsaid: Mapping[str, Any]) -> str:
    """A cell in words, such as `no PE, causal, AdamW, no residual at layer 1 (attention)`, without what is as `unsaid`
    (of `shared`)."""
    said = (switch.words(switch.of(cell)) for switch in SWITCHES if switch.of(cell) != unsaid.get(switch.field))
    return ", ".join(filter(None, said))


def in_groups(cells: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    """The cells by what they vary, within a group in the order of the grid; empty groups are left out."""
    usual = shared(cells)

    def group(cell: Cell) -> str:
        varied = [s.group for s in SWITCHES if not s.spoken and s.of(cell) != usual[s.field]]
        return max(varied, key=GROUPS.index, default=GROUPS[0])

    by_group = {name: [cell for cell in cells if group(cell) == name] for name in GROUPS}
    return [(name, members) for name, members in by_group.items() if members]


def find(cells: Iterable[Cell], **values: object) -> list[Cell]:
    """The cells whose fields have these values, in the order of the grid."""
    wanted = {switch.field: switch for switch in SWITCHES}
    return [cell for cell in cells if all(wanted[field].of(cell) == value for field, value in values.items())]


def like(cells: Iterable[Cell], cell: Cell, **changes: object) -> list[Cell]:
    """The cells of the same task that are what `cell` is, but for `changes`: in their switches and, where the optimizer
    is the same, in all else but the seeds, and for how long and how closely watched they are trained."""
    values = {switch.field: switch.of(cell) for switch in SWITCHES} | changes

    def alike(one: Cell) -> bool:
        return "optimizer" in changes or _unswitched(one) == _unswitched(cell)

    return find((one for one in cells if one.dataset == cell.dataset and alike(one)), **values)


def _unswitched(cell: Cell) -> tuple[Any, ...]:
    counted = {"seeds", "steps", "evaluate_every", "snapshots"}
    switched = {switch.field for switch in SWITCHES}
    return cell.model.model_dump(exclude=switched), cell.training.model_dump(exclude=counted | switched)


WHOLE: dict[str, Any] = {
    "residual_free": Sublayers(),
    "residual_free_initialisation": "normal",
    "residual_substitute": "none",
}
"""The switches of a cell that lacks no residual connection."""


def is_whole(cell: Cell) -> bool:
    """Whether every residual connection is there."""
    return cell.model.residual_free == Sublayers()


def is_plain(cell: Cell) -> bool:
    """Whether the cell lacks residual connections, and has nothing that makes up for them."""
    return not is_whole(cell) and cell.model == cell.model.model_copy(
        update=WHOLE | {"residual_free": cell.model.residual_free}
    )


def is_control(cell: Cell) -> bool:
    """Whether the cell lacks residual connections and starts near the identity there."""
    return not is_whole(cell) and cell.model.residual_free_initialisation == "identity"


def whole(cells: Iterable[Cell], cell: Cell) -> Cell | None:
    """The same cell with every residual connection, where the grid has it."""
    return next(iter(like(cells, cell, **WHOLE)), None)


def control(cells: Iterable[Cell], cell: Cell) -> Cell | None:
    """The same residual-free cell, started near the identity, where the grid has it; a whole one has none."""
    return next(filter(is_control, like(cells, cell, residual_free_initialisation="identity")), None)
