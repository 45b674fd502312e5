"""Whether the position can be read from the residual stream."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Float

from pipeline.measurement.probes import regression
from pipeline.measurement.registry import Subject, measurement

PAIR_ROWS = 200
"""Rows whose pairs of positions are used: a row of 11 tokens has 55."""


@measurement(
    "Is position readable?",
    {"r2": "share of the variance that a linear probe explains", "error": "mean absolute error, in positions"},
    reference=0.0,
)
def position_probe(subject: Subject) -> pd.DataFrame:
    """A linear probe from the residual stream at each depth to the absolute position, and from the states of two
    positions to the distance between them; `control` has its labels shuffled."""
    by_rows = {"random": subject.random, "task": subject.tokens}
    records = [
        {"rows": name, "target": target, "depth": depth, "control": control, **regression(states, labels)}
        for name, rows in by_rows.items()
        for depth, layer in enumerate(subject.stream(rows).numpy())
        for target, states, truth in _questions(layer)
        for control, labels in ((0, truth), (1, _shuffled(truth)))
    ]
    return pd.DataFrame(records)


def _questions(
    layer: Float[np.ndarray, "rows length width"],
) -> Iterator[tuple[str, Float[np.ndarray, "rows samples width"], Float[np.ndarray, "rows samples"]]]:
    rows, length, _ = layer.shape
    yield "position", layer, np.tile(np.arange(length, dtype=float), (rows, 1))
    first, second = np.triu_indices(length, 1)
    pairs = layer[:PAIR_ROWS]
    distance = np.tile((second - first).astype(float), (len(pairs), 1))
    yield "distance", np.concatenate((pairs[:, first], pairs[:, second]), axis=-1), distance


def _shuffled(labels: Float[np.ndarray, "rows samples"]) -> Float[np.ndarray, "rows samples"]:
    return np.random.default_rng(0).permutation(labels.ravel()).reshape(labels.shape)
