"""The published runs: all of them, found by what a cell is."""

import pytest

from pipeline.params import Cell
from pipeline.reporting.grid import published
from tests.reporting.synthetic import cell, cells, told


def six(**switches: object) -> Cell:
    """A cell of their depth."""
    return cells(cell("a", [0.5], **{"layers": 6, **switches}))[0]


def test_every_published_run_belongs_to_one_cell() -> None:
    runs = published.runs()
    by_role = {}
    for positional, layers in runs[["positional", "residual_free_layers"]].drop_duplicates().itertuples(index=False):
        free = [int(layer) for layer in layers.split()]
        found = published.for_cell(six(positional=positional, residual_free=free))
        assert found is not None
        assert found.low <= found.median <= found.high <= 1
        by_role[positional, published.roles(free, 6)] = found.runs
    assert sum(by_role.values()) == len(runs) == 218
    assert by_role["none", "inner"] == 24
    assert by_role["none", "last"] == by_role["none", "first"] == 6


@pytest.mark.parametrize("layers", [2, 3, 6])
def test_layers_are_paired_by_role(layers: int) -> None:
    """The last of three layers stands beside the last of six, not beside the third."""
    ours = published.for_cell(six(layers=layers, residual_free=[layers - 1]))
    assert ours == published.for_cell(six(residual_free=[5]))
    assert ours != published.for_cell(six(residual_free=[2]))


@pytest.mark.parametrize(
    "other",
    [
        {"attention": "full"},
        {"positional": "rotary"},
        {"residual_free": {"attention": [1]}},
        {"residual_free": {"mlp": [1]}},
        {"residual_free": [0, 5]},
        {"residual_free": [1], "residual_free_initialisation": "identity"},
        {"layers": 1},
        {"positional": "learned", "positional_every_layer": True},
    ],
)
def test_what_was_not_published_has_no_counterpart(other: dict[str, object]) -> None:
    assert published.for_cell(six(**other)) is None


def test_what_cost_least_there_and_here_is_said_whatever_it_is() -> None:
    def said(*last: float) -> str:
        made = {**cell("whole", [1.0] * 8)}
        for layer, scores in enumerate(([1.0] * 6 + [0.5] * 2, [1.0] * 4 + [0.5] * 4, list(last))):
            made |= cell(f"without-{layer}", scores, residual_free=[layer])
        (found,) = (one for one in told(made, measured=False) if one.name == "published")
        (claim,) = (claim for claim in found.finding.claims if claim.sentence == "by_role")
        return found.sentence(claim)

    assert "those of the last layer cost least in the published runs and those of an inner layer most" in said(
        *[0.5] * 8
    )
    assert "no test), those of the first layer cost least and those of the last layer most" in said(*[0.5] * 8)
    assert "no test), those of the last layer cost least and those of an inner layer most" in said(*[1.0] * 8)


def test_what_differs_is_said_setting_by_setting() -> None:
    said = published.differences(six(layers=3))
    assert said[:3] == ["layers 3, not 6", "heads 4, not 6", "width 64, not 384"]
    assert "steps 2,000, not 5,000" in said
    assert "loss on `answer`, not `all`" in said
