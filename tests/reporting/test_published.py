"""The published runs: all of them, found by what a cell is, and labelled as what they are."""

import pytest

from pipeline.reporting import published
from pipeline.reporting.tables import ablations, beside_published
from tests.reporting.synthetic import cell


def counterpart(**properties: object) -> published.Published | None:
    same = {
        "positional": "none",
        "attention": "causal",
        "residual_free_attention": "",
        "residual_free_mlp": "",
        "layers": 6,
    }
    return published.for_cell(**(same | properties))  # type: ignore[arg-type]


def test_every_published_run_belongs_to_one_cell() -> None:
    runs = published.runs()
    total = 0
    for positional, layers in runs[["positional", "residual_free_layers"]].drop_duplicates().itertuples(index=False):
        found = counterpart(positional=positional, residual_free_attention=layers, residual_free_mlp=layers)
        assert found is not None
        assert found.low <= found.median <= found.high <= 1
        total += found.runs
    assert total == len(runs) == 218


@pytest.mark.parametrize(
    "other",
    [
        {"attention": "full"},
        {"positional": "rotary"},
        {"residual_free_attention": "1"},
        {"residual_free_mlp": "1"},
        {"residual_free_attention": "0 2", "residual_free_mlp": "0 2"},
        {"layers": 1},
        {"positional": "learned", "positional_every_layer": 1},
    ],
)
def test_what_was_not_published_has_no_counterpart(other: dict[str, object]) -> None:
    assert counterpart(**other) is None


def test_another_depth_is_said_to_be_another() -> None:
    six, three = counterpart(), counterpart(layers=3)
    assert six is not None
    assert three is not None
    assert six.same_depth
    assert not three.same_depth
    ours = ablations(cell("a", [0.5]), None, set())
    assert beside_published(ours)["differs"].item() == (
        "layers 3, not 6; heads 4, not 6; width 64, not 384; Muon, not AdamW"
    )
    same = cell("a", [0.5], layers=6, heads=6, width=384, optimizer="adamw")
    assert beside_published(ablations(same, None, set()))["differs"].item() == ""


def test_the_provenance_says_what_the_values_are() -> None:
    text = " ".join(published.PROVENANCE)
    for words in ("**maximum** test exact match over a run's 21", "not checked against the printed paper", "0.8"):
        assert words in text
