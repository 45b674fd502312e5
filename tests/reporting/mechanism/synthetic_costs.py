"""Measurements as the stage `analyze` writes them, made up: slices, correlation, effective rank, gradients and cost."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from pipeline.reporting import tables
from pipeline.reporting.cells import SUBLAYERS
from pipeline.reporting.mechanism.finding import Measured
from tests.reporting.synthetic import cell

POSITIONS = 6
CHANCE = 1 / 12
MOMENTS = ((0, 0), (2000, 1))
"""`step, trained` of the untrained and the trained member."""


def grid() -> pd.DataFrame:
    """Whole cells, residual-free ones, and a control for each of two."""
    identity = {"residual_free_initialisation": "identity"}
    return pd.concat(
        [
            cell("learned-causal", [0.9985, 0.999, 1.0], positional="learned", parameters=151_000),
            cell("none-causal", [0.994, 0.9965, 0.9925]),
            cell("learned-full", [1.0, 0.998, 0.9995], positional="learned", attention="full", parameters=151_000),
            cell("none-full", [0.0415, 0.052, 0.049], attention="full"),
            cell("none-causal-1-layer", [0.0385, 0.041, 0.0525], layers=1),
            cell("none-causal-no-residual-1", [0.93, 0.9915, 0.71], residual_free="1"),
            cell("none-causal-no-residual-0-1", [0.0005, 0.31, 0.0], residual_free="0 1"),
            cell("none-causal-no-residual-1-identity", [0.991, 0.9945, 0.998], residual_free="1", **identity),
            cell("none-causal-no-residual-0-1-identity", [0.2, 0.1, 0.05], residual_free="0 1", **identity),
        ],
        ignore_index=True,
    )


def measured(runs: pd.DataFrame) -> Measured:
    """The runs with everything that these sections read: what lacks a residual connection loses its own tokens."""
    return Measured(
        {
            "slices": slices(runs, lambda whole, depth: _matrix(depth < 2 or whole)),
            "correlation_ratio": per_depth(runs, ratio=lambda whole, depth: 4 - depth if whole else 2 - 0.5 * depth),
            "effective_rank": per_depth(
                runs, effective_rank=lambda whole, depth: 5.5 - depth * (0.4 if whole else 1.3)
            ),
            "gradient_norm": per_depth(runs, gradient_norm=lambda whole, depth: 1.0 if whole else 0.05).rename(
                columns={"depth": "layer"}
            ),
            "cost": cost(runs),
        },
        runs,
        tables.ablations(runs, None, ()),
    )


def _matrix(own: bool) -> np.ndarray:
    """Causal: a column reads its own token well, or every token it sees poorly."""
    readable = np.full((POSITIONS, POSITIONS), 0.3 if own else 0.2)
    readable[:, 0] += 0.0 if own else 0.2
    np.fill_diagonal(readable, 0.95 if own else 0.2)
    return np.tril(readable) + np.triu(np.full_like(readable, CHANCE), 1)


def slices(runs: pd.DataFrame, matrix: Callable[[bool, int], np.ndarray]) -> pd.DataFrame:
    """Accuracies by column (rows of `matrix(whole, depth)`) and token position (its columns)."""
    rows = []
    for member, whole, depth in _places(runs):
        for (position, token_position), accuracy in np.ndenumerate(matrix(whole, depth)):
            place = {"depth": depth, "position": position, "token_position": token_position}
            rows.append(member | place | {"accuracy": accuracy + 1e-3 * (member["seed"] % 7), "chance": CHANCE})
    return pd.DataFrame(rows)


def per_depth(runs: pd.DataFrame, **values: Callable[[bool, int], float]) -> pd.DataFrame:
    """A value by depth, a little different from seed to seed, with a `reference`."""
    return pd.DataFrame(
        [
            member
            | {"depth": depth, "reference": 1 / (POSITIONS - 1)}
            | {
                name: value(whole, depth) * (1 + 0.02 * (member["seed"] % 7)) * (0.7 + 0.3 * member["trained"])
                for name, value in values.items()
            }
            for member, whole, depth in _places(runs)
        ]
    )


def cost(runs: pd.DataFrame) -> pd.DataFrame:
    """FLOPs of the trained members, in proportion to their layers."""
    members = runs[["ablation", "seed"]].assign(step=runs["steps"], trained=1)
    return members.assign(flops_per_step=1e9 * runs["layers"])


def _places(runs: pd.DataFrame) -> list[tuple[dict, bool, int]]:
    """Every member at every moment and depth, and whether it has every residual connection."""
    return [
        (
            {"ablation": run["ablation"], "seed": run["seed"], "step": step, "trained": trained},
            _whole(run),
            depth,
        )
        for run in runs.to_dict("records")
        for step, trained in MOMENTS
        for depth in range(run["layers"] + 1)
    ]


def _whole(run: Mapping[str, object]) -> bool:
    return not any(run[sublayer] for sublayer in SUBLAYERS)
