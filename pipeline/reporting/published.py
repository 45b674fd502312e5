"""The runs found in the authors' public notebooks, to lie beside ours.

`residual_ablation_runs.csv` holds 218 runs of C. Zuo, M. Guerzhoy, "Breaking Symmetry When Training Transformers"
(arXiv 2402.05969): causal decoders of 6 layers whose layers, counted from 0, lack both residual connections.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd

LAYERS, HEADS, WIDTH = 6, 6, 384
OPTIMIZER = "adamw"
PROVENANCE = (
    "Published values: 218 runs found in the notebooks of the authors' public code (6 layers, 6 heads, width 384, "
    "reversed addition, AdamW). Each is the **maximum** test exact match over a run's 21 evaluations, where ours is "
    "the test exact match at the last step, never selected on the test set. They are notebook numbers, **not checked "
    "against the printed paper**.",
    "The set-up behind them: 10,000 training lines balanced over carries, unpadded operands between `$`, packed "
    "256-character windows, loss on every character, dropout 0.2, batch 256, 5,000 steps, learning rate 2.6441e-4 "
    "after 400 warm-up steps with cosine decay to a tenth (inferred), betas 0.9 / 0.99, weight decay 0.1, clip 1.0, "
    "bf16; 77 test pairs also occur in training; decoding sampled at temperature 0.8.",
)
"""What a reader must know of them, as paragraphs."""


@dataclass(frozen=True)
class Published:
    """The published runs of one cell; exact match as shares, each the maximum over a run's evaluations."""

    runs: int
    median: float
    low: float
    """The smallest of the runs' maxima."""
    high: float
    same_depth: bool
    """Whether our cell has their 6 layers too: layer 1 of 3 is not layer 1 of 6."""


@cache
def runs() -> pd.DataFrame:
    """All of them: `positional, residual_free_layers, run, max_test_exact_match_percent`."""
    content = files("pipeline.reporting").joinpath("residual_ablation_runs.csv")
    with content.open() as file:
        return pd.read_csv(file, dtype={"residual_free_layers": str}, keep_default_na=False)


def for_cell(
    *,
    positional: str,
    attention: str,
    residual_free_attention: str,
    residual_free_mlp: str,
    layers: int,
    positional_every_layer: int = 0,
    residual_free_initialisation: str = "normal",
) -> Published | None:
    """The published runs beside a cell, or None where there are none.

    A counterpart is causal, has the same positional encoding, and lacks both residual connections in layers of the
    same numbers. One layer has no counterpart: it is order-blind without positional encoding, six are not.
    """
    if attention != "causal" or residual_free_attention != residual_free_mlp or layers == 1:
        return None
    if positional_every_layer or residual_free_initialisation != "normal":
        return None
    table = runs()
    same = (table["positional"] == positional) & (table["residual_free_layers"] == residual_free_attention)
    shares = table.loc[same, "max_test_exact_match_percent"] / 100
    if shares.empty:
        return None
    return Published(
        runs=len(shares),
        median=float(shares.median()),
        low=float(shares.min()),
        high=float(shares.max()),
        same_depth=layers == LAYERS,
    )
