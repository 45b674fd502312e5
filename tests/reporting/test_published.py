"""The published runs: all of them, found by what an ablation is."""

from collections.abc import Callable

import pandas as pd
import pytest

from pipeline.params import Ablation
from pipeline.reporting.experiment import published
from tests.reporting.synthetic import ablation, ablations, listed, told


def six(**switches: object) -> Ablation:
    """An ablation of their depth."""
    return listed(ablation("a", [0.5], **{"layers": 6, **switches}))[0]


def theirs() -> list[tuple[str, list[int]]]:
    """Their ablations: positional encoding, layers without residual connections."""
    ablations = published.runs()[["positional", "residual_free_layers"]].drop_duplicates()
    return [(name, [int(layer) for layer in layers.split()]) for name, layers in ablations.itertuples(index=False)]


def test_every_published_run_belongs_to_one_ablation_of_their_depth_and_to_one_role() -> None:
    by_number, by_role = {}, {}
    for positional, free in theirs():
        found = published.for_ablation(six(positional=positional, residual_free=free))
        assert found is not None
        assert found.low <= found.median <= found.high <= 1
        by_number[positional, *free] = found.runs
    for free in ([], [0], [1], [2], [0, 1], [1, 2]):
        role = published.for_ablation(six(layers=3, residual_free=free))
        assert role is not None
        by_role[tuple(free)] = role.runs
    assert len(by_number) == 32
    assert sum(by_number.values()) == len(published.runs()) == 218
    assert by_role[(1,)] == sum(by_number["none", layer] for layer in (1, 2, 3, 4)) == 24
    assert by_role[(2,)] == by_number["none", 5] == by_role[(0,)] == 6


def agreement(score: Callable[[float], float], **switches: object) -> pd.DataFrame:
    """That of their 32 ablations, where ours answer a share of what theirs do."""
    made = {}
    for positional, free in theirs():
        name = f"{positional}-{'-'.join(map(str, free))}"
        found = published.for_ablation(six(positional=positional, residual_free=free))
        assert found is not None
        switches |= {"layers": 6, "positional": positional, "residual_free": free}
        made |= ablation(name, [score(found.median)] * 4, **switches)
    rows = ablations(made)
    return published.agreement(listed(made), rows.assign(restricted_steps=2000 * (1 - rows["test_exact_match_median"])))


def test_ablations_that_do_as_theirs_do_agree_and_ablations_that_do_the_contrary_do_not() -> None:
    same, contrary = (agreement(score).set_index("positional") for score in (lambda their: their, lambda their: -their))
    assert list(same.index) == ["all", "none", "learned"] or list(same.index) == ["all", "learned", "none"]
    assert same["ablations"].tolist() == [32, 16, 16]
    assert same["rank_correlation"].tolist() == pytest.approx([1.0] * 3)
    assert contrary["rank_correlation"].tolist() == pytest.approx([-1.0] * 3)
    assert (same[["both", "neither", "only_ours", "only_theirs"]].sum(axis=1) == same["ablations"]).all()
    assert contrary.loc["all", ["both", "only_ours"]].tolist() == [0, 0]


def test_few_ablations_or_ablations_of_another_depth_say_nothing_of_agreement() -> None:
    made = {**ablation("a", [1.0] * 4, layers=6), **ablation("b", [0.5] * 4, layers=6, residual_free=[1])}
    assert published.agreement(listed(made), ablations(made)).empty


@pytest.mark.parametrize("layers", [2, 3, 6])
def test_layers_are_paired_by_role(layers: int) -> None:
    """The last of three layers stands beside the last of six, not beside the third."""
    ours = published.for_ablation(six(layers=layers, residual_free=[layers - 1]))
    assert ours == published.for_ablation(six(residual_free=[5]))
    assert ours != published.for_ablation(six(residual_free=[2]))


@pytest.mark.parametrize(
    "other",
    [
        {"attention": "full"},
        {"positional": "rotary"},
        {"residual_free": {"attention": [1]}},
        {"residual_free": {"mlp": [1]}},
        {"residual_free": [0, 5]},
        {"layers": 1},
    ],
)
def test_what_was_not_published_has_no_counterpart(other: dict[str, object]) -> None:
    assert published.for_ablation(six(**other)) is None


def test_what_cost_least_there_and_here_is_said_whatever_it_is() -> None:
    def said(*last: float) -> str:
        made = {**ablation("whole", [1.0] * 8)}
        for layer, scores in enumerate(([1.0] * 6 + [0.5] * 2, [1.0] * 4 + [0.5] * 4, list(last))):
            made |= ablation(f"without-{layer}", scores, residual_free=[layer])
        (found,) = (one for one in told(made, measured=False) if one.name == "published")
        (claim,) = (claim for claim in found.finding.claims if claim.sentence == "by_layer")
        return found.sentence(claim)

    assert "those of the last layer cost least in the published runs and those of an inner layer most" in said(
        *[0.5] * 8
    )
    assert "no test), those of the first layer cost least and those of the last layer most" in said(*[0.5] * 8)
    assert "no test), those of the last layer cost least and those of an inner layer most" in said(*[1.0] * 8)


def test_what_differs_is_said_setting_by_setting() -> None:
    said = published.what_differs(six(layers=3))
    assert said[:3] == ["layers 3, not 6", "heads 4, not 6", "width 64, not 384"]
    assert "steps 2,000, not 5,000" in said
    assert "stop when converged yes, not no" in said
    assert "loss on `answer`, not `all`" in said
