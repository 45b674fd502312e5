"""Ablations are told apart by their switches, in columns and in words, and every ablation has its place in the grid."""

from itertools import chain
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.model import SubstituteName
from pipeline.switches import GROUPS, SWITCHES
from tests.conftest import ablation as made

CONTRACT = (
    "positional",
    "attention",
    "layers",
    "heads",
    "width",
    "residual_free_attention",
    "residual_free_mlp",
    "residual_substitute",
    "optimizer",
)
"""The columns of `runs.csv` that say what an ablation is."""


@st.composite
def any_ablation(draw: st.DrawFn) -> Ablation:
    layers = draw(st.integers(1, 3))
    some_layers = st.lists(st.integers(0, layers - 1), unique=True)
    switches = {
        "layers": layers,
        "heads": draw(st.sampled_from([1, 2])),
        "width": draw(st.sampled_from([8, 16])),
        "positional": draw(st.sampled_from(["none", "learned", "sinusoidal", "rotary", "alibi"])),
        "attention": draw(st.sampled_from(["causal", "full"])),
        "residual_free": {"attention": draw(some_layers), "mlp": draw(some_layers)},
        "residual_substitute": draw(st.sampled_from(get_args(SubstituteName))),
    }
    optimizer = draw(st.sampled_from(["adamw", "muon"]))
    return made(draw(st.sampled_from("abcdefgh")), model_=switches, optimizer=optimizer)


grids = st.lists(any_ablation(), min_size=1, max_size=8)


def switch_values(ablation: Ablation) -> tuple[Any, ...]:
    return tuple(switch.value_of(ablation) for switch in SWITCHES)


def test_the_columns_are_those_that_others_rely_on() -> None:
    assert switches.COLUMNS == CONTRACT


@given(any_ablation())
def test_columns_and_tags_say_the_same(ablation: Ablation) -> None:
    """But for emptiness, which a tag calls `none`."""
    columns, tags = switches.columns(ablation), switches.tags(ablation)
    assert tuple(columns) == tuple(tags) == CONTRACT
    assert {name: str(value) or "none" for name, value in columns.items()} == tags


@given(any_ablation(), any_ablation())
def test_columns_differ_where_a_switch_differs_and_only_there(one: Ablation, other: Ablation) -> None:
    assert (switches.columns(one) == switches.columns(other)) == (switch_values(one) == switch_values(other))
    for switch in SWITCHES:
        assert (switch.columns(one) == switch.columns(other)) == (switch.value_of(one) == switch.value_of(other))


@given(grids)
def test_different_ablations_of_a_grid_have_different_words(grid: list[Ablation]) -> None:
    unsaid = switches.common_values(grid)
    words = {switch_values(ablation): switches.describe(ablation, unsaid) for ablation in grid}
    assert len(set(words.values())) == len(words)


@given(grids)
def test_what_goes_without_saying_is_not_said(grid: list[Ablation]) -> None:
    """Of what all ablations share, only what is said of every ablation and what is out of the ordinary is said."""
    unsaid = switches.common_values(grid)
    for switch in SWITCHES:
        values = {switch.value_of(ablation) for ablation in grid}
        if len(values) == 1 and switch.default is None and not switch.always_shown:
            said = [part for ablation in grid for part in switches.describe(ablation, unsaid).split(", ")]
            assert switch.words(values.pop()) not in said


@given(any_ablation())
def test_a_switch_that_is_spoken_is_said_even_of_a_single_ablation(ablation: Ablation) -> None:
    words = switches.describe(ablation, switches.common_values([ablation])).split(", ")
    assert all(switch.words(switch.value_of(ablation)) in words for switch in SWITCHES if switch.always_shown)


@given(grids)
def test_every_ablation_is_in_one_group_in_the_order_of_the_grid(grid: list[Ablation]) -> None:
    grouped = switches.grouped(grid)
    assert [name for name, _ in grouped] == [name for name in GROUPS if name in dict(grouped)]
    assert all(members for _, members in grouped)
    place = {id(ablation): number for number, ablation in enumerate(grid)}
    places = [[place[id(ablation)] for ablation in members] for _, members in grouped]
    assert all(each == sorted(each) for each in places)
    assert sorted(chain(*places)) == list(range(len(grid)))


@given(grids)
def test_a_ablation_is_found_by_its_own_switches(grid: list[Ablation]) -> None:
    for ablation in grid:
        values = {switch.field: switch.value_of(ablation) for switch in SWITCHES}
        found = switches.ablations_with(grid, **values)
        assert ablation in found
        assert {switch_values(one) for one in found} == {switch_values(ablation)}
        assert switches.ablations_like(grid, ablation) == found
    assert switches.ablations_with(grid) == grid


@given(grids)
def test_the_whole_twin_has_every_residual_connection_and_is_else_the_same(grid: list[Ablation]) -> None:
    for ablation in grid:
        twin = switches.intact_counterpart(grid, ablation)
        wanted = ablation.model.model_copy(update=switches.INTACT)
        expected = [one for one in grid if (one.model, one.training) == (wanted, ablation.training)]
        assert twin == next(iter(expected), None)
        assert twin is None or switches.is_intact(twin)


def test_another_task_is_another_ablation() -> None:
    """Tasks are no switch, but twins are of one task."""
    ablation, whole = made("free", model_={"residual_free": [0]}), made("whole")
    elsewhere = whole.model_copy(update={"dataset": "other"})
    assert switches.intact_counterpart([elsewhere, whole], ablation) == whole
    assert switches.intact_counterpart([elsewhere], ablation) is None


@pytest.mark.parametrize(
    ("settings", "alike"),
    [({"learning_rate": 0.003}, False), ({"batch_size": 32}, False), ({"steps": 16, "seeds": [5]}, True)],
)
def test_what_is_trained_otherwise_is_no_twin_unless_it_is_longer_or_of_other_seeds(
    settings: dict[str, Any], alike: bool
) -> None:
    ablation, whole = made("free", model_={"residual_free": [0]}), made("whole", **settings)
    assert switches.intact_counterpart([whole], ablation) == (whole if alike else None)


@pytest.mark.parametrize(
    ("free", "words"),
    [
        ([0, 1], "no residual at layers 0, 1"),
        ({"mlp": [1]}, "no residual at layer 1 (MLP)"),
        ({"attention": [0, 1], "mlp": [1]}, "no residual at layers 0, 1 (attention) and layer 1 (MLP)"),
    ],
)
def test_missing_residual_connections_in_words(free: Any, words: str) -> None:
    ablation = made(model_={"residual_free": free})
    assert switches.describe(ablation, switches.common_values([ablation])) == f"no PE, causal, {words}"
