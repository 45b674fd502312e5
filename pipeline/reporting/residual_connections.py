"""The question of the residual connections: which cells converge without which of them, written from the numbers."""

import pandas as pd

from pipeline.reporting import cells as grid
from pipeline.reporting.comparisons import compared
from pipeline.reporting.evidence import Answer, Evidence, each, in_short, outcome, unanswered
from pipeline.reporting.wording import plural


def residuals(evidence: Evidence) -> Answer:
    """Which residual connections are needed?"""
    question = "What do residual connections have to do with it?"
    lacking = evidence.cells[grid.residual_free(evidence.cells)]
    if lacking.empty:
        return unanswered(question, "`residual_free`, such as `[0]` or `[0, 1]`")
    paragraphs = []
    kinds = lacking.assign(kind=[kind(cell) for cell in each(lacking)]).groupby(
        ["kind", "positional", "attention"], sort=False
    )
    for (name, positional, attention), cells in kinds:
        which = f"{name} ({'no' if positional == 'none' else positional} PE, {attention})"
        every = int((cells["converged"] == cells["runs"]).sum())
        paragraphs.append(
            f"**{which}**: {every} of {plural(len(cells), 'cell')} converged in every run: "
            + "; ".join(f"{without(cell)}: {in_short(cell)}" for cell in each(cells))
            + "."
        )
    paragraphs += filter(None, [_none_and_learned(lacking), _sublayers(lacking)])
    told, table = compared(evidence.runs, _whole_counterparts(evidence, lacking))
    return Answer(question, _residuals_in_short(lacking), paragraphs + told, table)


def without(cell: pd.Series) -> str:
    """Where the residual connections are missing, and the cell's name."""
    layers = sorted(set(f"{cell['residual_free_attention']} {cell['residual_free_mlp']}".split()), key=int)
    return f"{grid.layers_in_words(' '.join(layers))} (`{cell['ablation']}`)"


def kind(cell: pd.Series) -> str:
    """Where residual connections are missing: how many layers, next to each other or not, which sublayers."""
    attention, mlp = ([int(layer) for layer in cell[name].split()] for name in grid.SUBLAYERS)
    if attention and mlp and attention != mlp:
        return "Attention and MLP of different layers"
    sublayers = "" if attention and mlp else ", attention only" if attention else ", MLP only"
    layers = attention or mlp
    if len(layers) == 1:
        return f"One layer{sublayers}"
    together = layers[-1] - layers[0] == len(layers) - 1
    return f"{len(layers)} layers{' in a row' if together else ' apart'}{sublayers}"


def _residuals_in_short(lacking: pd.DataFrame) -> str:
    parts = []
    for positional, cells in lacking.groupby("positional", sort=False):
        every = int((cells["converged"] == cells["runs"]).sum())
        no = int((cells["converged"] == 0).sum())
        some = len(cells) - every - no
        encoding = "without" if positional == "none" else f"with {positional}"
        parts.append(
            f"of {plural(len(cells), 'residual-free cell')} {encoding} positional encoding, {every} converged in "
            f"every run, {some} in some and {no} in none"
        )
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _whole_counterparts(evidence: Evidence, lacking: pd.DataFrame) -> list[tuple[str, str]]:
    """Each residual-free cell with the cell that differs in nothing else."""
    pairs = []
    for cell in each(lacking):
        same = {key: cell[key] for key in grid.PROPERTIES if key not in grid.SUBLAYERS}
        whole = grid.find(evidence.cells, **same, residual_free_attention="", residual_free_mlp="")
        pairs += [(cell["ablation"], name) for name in whole["ablation"].head(1)]
    return pairs


def _none_and_learned(lacking: pd.DataFrame) -> str | None:
    """The same residual connections missing, without and with learned positional encoding."""
    return _contrast(
        lacking, "positional", "none", "learned", "The same connections missing without and with learned PE"
    )


def _sublayers(lacking: pd.DataFrame) -> str | None:
    """The residual connection of the attention missing, against that of the MLP of the same layers."""
    empty = (lacking["residual_free_attention"] == "") | (lacking["residual_free_mlp"] == "")
    one = lacking[empty]
    one = one.assign(
        sublayer=["attention" if cell["residual_free_attention"] else "mlp" for cell in each(one)],
        residual_free_attention=one["residual_free_attention"] + one["residual_free_mlp"],
        residual_free_mlp="",
    )
    return _contrast(one, "sublayer", "attention", "mlp", "Attention or MLP of the same layer without residual")


def _contrast(cells: pd.DataFrame, column: str, first: str, second: str, title: str) -> str | None:
    """Cells that differ in `column` alone, two by two."""
    same = [key for key in grid.PROPERTIES if key != column]
    parts = [
        f"`{one['ablation']}` {outcome(one)}, `{other['ablation']}` {outcome(other)}"
        for _, alike in cells.groupby(same, sort=False)
        for one in each(alike[alike[column] == first])
        for other in each(alike[alike[column] == second])
    ]
    return f"**{title}**: {'; '.join(parts)}." if parts else None
