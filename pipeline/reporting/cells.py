"""Cells of the grid found, grouped and described by their properties, never by their names."""

import pandas as pd

PROPERTIES = (
    "positional",
    "positional_every_layer",
    "attention",
    "layers",
    "heads",
    "width",
    "residual_free_attention",
    "residual_free_mlp",
    "residual_free_initialisation",
    "optimizer",
)
"""The columns that say what a cell is. `residual_free_*` are layers such as `0 1`, counted from 0."""
SUBLAYERS = ("residual_free_attention", "residual_free_mlp")
GROUPS = ("Positional encoding and mask", "Size", "Residual connections", "Optimizer")
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon"}


def base(cells: pd.DataFrame) -> pd.Series:
    """What most cells of the grid share: `layers, heads, width, optimizer` (of equals, the first in the grid)."""
    settings = cells[["layers", "heads", "width", "optimizer"]]
    sizes = settings.value_counts(sort=False).reindex(pd.MultiIndex.from_frame(settings.drop_duplicates()))
    return settings.drop_duplicates().iloc[int(sizes.to_numpy().argmax())]


def find(cells: pd.DataFrame, **properties: object) -> pd.DataFrame:
    """The cells with these properties, in the order of the grid."""
    chosen = pd.Series(True, index=cells.index)
    for name, value in properties.items():
        chosen &= cells[name] == value
    return cells[chosen]


def residual_free(cells: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a cell lacks any residual connection."""
    return (cells[list(SUBLAYERS)] != "").any(axis=1)


def groups(cells: pd.DataFrame) -> pd.Series:
    """What each cell varies first of all: one of `GROUPS`."""
    shared = base(cells)
    other_size = (cells[["layers", "heads", "width"]] != shared[["layers", "heads", "width"]]).any(axis=1)
    group = pd.Series(GROUPS[0], index=cells.index)
    group[other_size] = GROUPS[1]
    group[residual_free(cells)] = GROUPS[2]
    group[cells["optimizer"] != shared["optimizer"]] = GROUPS[3]
    return group


def in_groups(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The cells by what they vary, within a group in the order of the grid; empty groups are left out."""
    group = groups(cells)
    return [(name, cells[group == name]) for name in GROUPS if (group == name).any()]


def described(cell: pd.Series, shared: pd.Series) -> str:
    """A cell in words, such as `no PE, causal, AdamW, no residual at layer 1 (attention)`; of size and optimizer, only
    what differs from what most cells share (`base`)."""
    positional = "no PE" if cell["positional"] == "none" else f"{cell['positional']} PE"
    if cell["positional_every_layer"]:
        positional += " at every layer"
    parts = {
        "layers": f"{cell['layers']} layer" + "s" * (cell["layers"] != 1),
        "heads": f"{cell['heads']} heads",
        "width": f"width {cell['width']}",
        "optimizer": OPTIMIZERS[cell["optimizer"]],
    }
    differing = [text for key, text in parts.items() if cell[key] != shared[key]]
    start = ["identity start"] if cell["residual_free_initialisation"] == "identity" else []
    return ", ".join([positional, cell["attention"], *differing, *_missing_residuals(cell), *start])


def _missing_residuals(cell: pd.Series) -> list[str]:
    attention, mlp = (cell[sublayer] for sublayer in SUBLAYERS)
    if attention == mlp:
        return [f"no residual at {layers_in_words(attention)}"] if attention else []
    return [
        f"no residual at {layers_in_words(layers)} ({sublayer})"
        for sublayer, layers in (("attention", attention), ("MLP", mlp))
        if layers
    ]


def layers_in_words(layers: str) -> str:
    """`0 1` as `layers 0, 1`."""
    return ("layers " if " " in layers else "layer ") + layers.replace(" ", ", ")
