"""Whether the position can be read from the residual stream."""

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.measurement.probes import regression
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.measurement.tables import tidy

PAIR_ROWS = 200
"""Rows whose pairs of positions are used: a row of 11 tokens has 55."""


@measurement(
    "Is position readable?",
    {"r2": "share of the variance that a linear probe explains", "error": "mean absolute error, in positions"},
    reference=0.0,
)
def position_probe(subject: MeasurementInput) -> pd.DataFrame:
    """A linear probe from the residual stream at each depth to the absolute position, and from the states of two
    positions to the distance between them. What training adds is the difference to the same member before training: a
    random network already tells positions apart."""
    keys = ["rows", "target", "depth"]
    by_rows = {"random": subject.random_stream, "task": subject.task_stream}
    tables = [
        tidy(("depth",), **_read(stream[:, :rows], sides, truth)).assign(rows=name, target=target)
        for name, stream in by_rows.items()
        for target, rows, sides, truth in _questions(stream.shape[2])
    ]
    return pd.concat(tables).sort_values(["rows", "depth"], kind="stable")[[*keys, "error", "r2"]]


def _questions(length: int) -> list[tuple[str, int | None, Int[Tensor, "sides samples"], Int[Tensor, " samples"]]]:
    """What is asked: its name, of how many rows, from the states at which positions, and the answers."""
    position, (first, second) = torch.arange(length), torch.triu_indices(length, length, offset=1)
    return [
        ("position", None, position[None], position),
        ("distance", PAIR_ROWS, torch.stack((first, second)), second - first),
    ]


def _read(
    stream: Float[Tensor, "layers rows length width"],
    sides: Int[Tensor, "sides samples"],
    truth: Int[Tensor, " samples"],
) -> dict[str, Float[Tensor, " layers"]]:
    """How well the truth is read."""
    labels = truth.double().expand(stream.shape[1], -1)[..., None]
    # Depth by depth: half again as fast as all at once, because what is computed of one stays in the cache.
    read = [regression(layer[None], sides, labels) for layer in stream]
    return {"error": torch.cat([one.error for one in read])[:, 0], "r2": torch.cat([one.r2 for one in read])[:, 0]}
