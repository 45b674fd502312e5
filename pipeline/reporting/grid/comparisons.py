"""Cells compared seed by seed: runs that share a seed share their data order, so differences say more than means.

Every comparison of the report stands here: which cells, in what. A later table or sentence looks it up."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.grid import tables
from pipeline.reporting.grid.evidence import Evidence, initial, trained

COLUMNS = ("question", "measure", "first", "second", "seeds", "median", "min", "max", "p")
Pairs = Sequence[tuple[Cell, Cell]]


def table(evidence: Evidence) -> pd.DataFrame:
    """Every comparison on one task, a row each: of `first` less `second` (of a measure that ends in `ratio`: over it),
    the median, least and most over the `seeds` that both have, and the p-value of a two-sided sign-flip permutation
    test of the mean, Holm-corrected over the comparisons of a question and measure."""
    cells, runs = evidence.cells, evidence.runs
    scores = runs.assign(value=tables.answered(runs))
    steps = np.log(runs["steps_to_converge"].astype(float).where(runs["converged"] == 1))
    lacking = wholes(cells)
    ranks, gradients = (evidence.measured(name) for name in ("effective_rank", "gradient_norm"))
    found = [
        _compared("without_positional", "test_exact_match", encodings(evidence), scores),
        _compared("without_positional", "steps_ratio", choices(evidence), runs.assign(value=steps), ratio=True),
        _compared("residual_connections", "test_exact_match", lacking, scores),
        _compared("optimizers", "test_exact_match", optimizers(cells), scores),
        _compared("trainability", "test_exact_match", controls(cells), scores),
    ]
    if len(ranks):
        last = initial(_at(ranks, {cell.name: cell.model.layers for cell in cells}))
        found.append(_compared("trainability", "effective_rank", lacking, last.assign(value=last["effective_rank"])))
    if len(gradients):
        first = initial(gradients[gradients["layer"] == 0])
        size = np.log(first["gradient_norm"].where(first["gradient_norm"] > 0))
        found.append(_compared("trainability", "gradient_ratio", lacking, first.assign(value=size), ratio=True))
    if len(margins := evidence.measured("own_token")):
        # both at the depth at which the cell that lacks a connection is read
        margins = trained(margins).assign(value=lambda rows: rows["margin"])
        parts = [_differences(pair, margins[margins["depth"] == depth_to_read(pair[0])]) for pair in lacking]
        found.append(_rows("slices", "margin", lacking, parts))
    return pd.concat([rows for rows in found if len(rows)] or [pd.DataFrame(columns=list(COLUMNS))], ignore_index=True)


def encodings(evidence: Evidence) -> Pairs:
    """Causal cells without positional encoding, each with every one that has one and is otherwise the same."""
    causal = evidence.base(attention="causal")
    bare = grid.find(causal, positional="none")
    return [(cell, other) for cell in bare for other in causal if other not in bare]


def choices(evidence: Evidence) -> Pairs:
    """Every way to tell the positions, against positional encoding with a causal mask (learned, where there is)."""
    every = evidence.base()
    reference = sorted(
        (cell for cell in every if cell.model.attention == "causal" and cell.model.positional != "none"),
        key=lambda cell: cell.model.positional != "learned",
    )
    return [(cell, reference[0]) for cell in every if cell != reference[0]] if reference else []


def wholes(cells: Sequence[Cell]) -> Pairs:
    """Each cell that lacks residual connections with the same cell that has them all."""
    return [(cell, whole) for cell in cells if not grid.is_whole(cell) and (whole := grid.whole(cells, cell))]


def controls(cells: Sequence[Cell]) -> Pairs:
    """Each control (identity start) with the residual-free cell that starts normally."""
    plain = (cell for cell in cells if not grid.is_whole(cell) and not grid.is_control(cell))
    return [(control, cell) for cell in plain if (control := grid.control(cells, cell))]


def optimizers(cells: Sequence[Cell]) -> Pairs:
    """Cells with Muon, each with the same cell under another optimizer."""
    muon = grid.find(cells, optimizer="muon")
    others = sorted({cell.training.optimizer for cell in cells} - {"muon"})
    return [(cell, other) for cell in muon for name in others for other in grid.like(cells, cell, optimizer=name)]


def depth_to_read(cell: Cell) -> int:
    """After the last layer that lacks a residual connection; after the last of all where none does."""
    return 1 + max(cell.model.residual_free.layers, default=cell.model.layers - 1)


def _at(table: pd.DataFrame, depths: dict[str, int]) -> pd.DataFrame:
    return table[table["depth"] == table["ablation"].map(depths)]


def _compared(question: str, measure: str, pairs: Pairs, values: pd.DataFrame, *, ratio: bool = False) -> pd.DataFrame:
    """`values`: `ablation, seed, value`, a row per member; for a ratio, logarithms."""
    return _rows(question, measure, pairs, [_differences(pair, values) for pair in pairs], ratio=ratio)


def _differences(pair: tuple[Cell, Cell], values: pd.DataFrame) -> np.ndarray:
    """First less second, by seed; what is missing in either is left out."""
    first, second = (values[values["ablation"] == cell.name].set_index("seed")["value"] for cell in pair)
    return (first - second).dropna().sort_index().to_numpy(float)


def _rows(
    question: str, measure: str, pairs: Pairs, differences: Iterable[np.ndarray], *, ratio: bool = False
) -> pd.DataFrame:
    told = [(pair, values) for pair, values in zip(pairs, differences, strict=True) if len(values)]
    if not told:
        return pd.DataFrame(columns=list(COLUMNS))
    p_values = multipletests([sign_flip(values) for _, values in told], method="holm")[1]
    of = np.exp if ratio else np.asarray
    rows = [
        [question, measure, one.name, other.name, len(values), *of([np.median(values), values.min(), values.max()]), p]
        for ((one, other), values), p in zip(told, p_values, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sign_flip(differences: np.ndarray) -> float:
    """Exact up to 13 seeds, then from 9,999 random flips (always the same ones)."""
    if len(differences) == 1 or not differences.any():
        return 1.0
    result = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9_999, rng=np.random.default_rng(0)
    )
    return float(result.pvalue)
