"""The published runs: all of them, found by what a cell is."""

import pytest

from pipeline.params import Cell
from pipeline.reporting.grid import published
from tests.reporting.synthetic import cell, cells


def six(**switches: object) -> Cell:
    """A cell of their depth."""
    return cells(cell("a", [0.5], **{"layers": 6, **switches}))[0]


def test_every_published_run_belongs_to_one_cell() -> None:
    runs = published.runs()
    total = 0
    for positional, layers in runs[["positional", "residual_free_layers"]].drop_duplicates().itertuples(index=False):
        found = published.for_cell(six(positional=positional, residual_free=[int(layer) for layer in layers.split()]))
        assert found is not None
        assert found.low <= found.median <= found.high <= 1
        total += found.runs
    assert total == len(runs) == 218


@pytest.mark.parametrize(
    "other",
    [
        {"attention": "full"},
        {"positional": "rotary"},
        {"residual_free": {"attention": [1]}},
        {"residual_free": {"mlp": [1]}},
        {"residual_free": [0, 2]},
        {"residual_free": [1], "residual_free_initialisation": "identity"},
        {"layers": 1},
        {"positional": "learned", "positional_every_layer": True},
    ],
)
def test_what_was_not_published_has_no_counterpart(other: dict[str, object]) -> None:
    assert published.for_cell(six(**other)) is None


def test_what_differs_is_said_switch_by_switch() -> None:
    assert published.differences(six(layers=3)) == (
        "3 layers, not 6 layers; 4 heads, not 6 heads; width 64, not width 384; Muon, not AdamW"
    )
    (same,) = cells(cell("a", [0.5], layers=6, heads=6, width=384, optimizer="adamw"))
    assert published.differences(same) == ""
