"""Ablations differ in columns and words just where their switches differ, and are grouped and found by them."""

from itertools import chain
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import switches
from pipeline.params import Ablation, Sublayers
from pipeline.params.model import AttentionName, PositionalName, SubstituteName
from pipeline.params.training import OptimizerName
from pipeline.switches import SWITCH_GROUPS, SWITCHES
from tests.conftest import ablation as small_ablation


@st.composite
def any_ablation(draw: st.DrawFn) -> Ablation:
    layers = draw(st.integers(1, 3))
    some_layers = st.lists(st.integers(0, layers - 1), unique=True)
    model = {
        "layers": layers,
        "heads": draw(st.sampled_from([1, 2])),
        "width": draw(st.sampled_from([8, 16])),
        "positional": draw(st.sampled_from(get_args(PositionalName))),
        "attention": draw(st.lists(st.sampled_from(get_args(AttentionName)), min_size=layers, max_size=layers)),
        "residual_free": {"attention": draw(some_layers), "mlp": draw(some_layers)},
        "residual_substitute": draw(st.sampled_from(get_args(SubstituteName))),
    }
    if model["positional"] != "none":
        model["positional_until"] = draw(st.sampled_from([None, 4, 6]))
    if model["residual_substitute"] == "none":
        model["residual_fade_steps"] = draw(st.sampled_from([None, 4]))
    optimizer = draw(st.sampled_from(get_args(OptimizerName)))
    return small_ablation(draw(st.sampled_from("abcdefgh")), model_=model, optimizer=optimizer)


experiments = st.lists(any_ablation(), min_size=1, max_size=8)


def values_of(ablation: Ablation) -> tuple[Any, ...]:
    return tuple(switch.value_of(ablation) for switch in SWITCHES)


@given(any_ablation())
def test_columns_and_tags_are_the_same_except_for_no_value(ablation: Ablation) -> None:
    columns, tags = switches.switch_columns(ablation), switches.switch_tags(ablation)
    assert tuple(columns) == tuple(tags) == switches.SWITCH_COLUMNS
    assert {name: "none" if value in (None, "") else str(value) for name, value in columns.items()} == tags


@given(any_ablation(), any_ablation())
def test_columns_differ_where_a_switch_differs_and_only_there(first: Ablation, second: Ablation) -> None:
    for switch in SWITCHES:
        same_columns = switch.value_columns(first) == switch.value_columns(second)
        assert same_columns == (switch.value_of(first) == switch.value_of(second))


@given(experiments)
def test_different_ablations_of_an_experiment_have_different_words(ablations: list[Ablation]) -> None:
    unmentioned = switches.find_unmentioned_values(ablations)
    words = {values_of(ablation): switches.describe_ablation(ablation, unmentioned) for ablation in ablations}
    assert len(set(words.values())) == len(words)


@given(experiments)
def test_what_all_ablations_share_is_not_mentioned_unless_it_always_is(ablations: list[Ablation]) -> None:
    unmentioned = switches.find_unmentioned_values(ablations)
    words = [part for ablation in ablations for part in switches.describe_ablation(ablation, unmentioned).split(", ")]
    for switch in SWITCHES:
        values = {switch.value_of(ablation) for ablation in ablations}
        if switch.is_always_mentioned:
            assert all(switch.describe_value(value) in words for value in values)
        elif len(values) == 1 and switch.unmentioned_value is None:
            assert switch.describe_value(values.pop()) not in words


@given(experiments)
def test_every_ablation_is_in_one_group_in_the_order_of_the_experiment(ablations: list[Ablation]) -> None:
    grouped = switches.group_ablations(ablations)
    assert [name for name, _ in grouped] == [name for name in SWITCH_GROUPS if name in dict(grouped)]
    index = {id(ablation): number for number, ablation in enumerate(ablations)}
    indices = [[index[id(ablation)] for ablation in members] for _, members in grouped]
    assert all(members and members == sorted(members) for members in indices)
    assert sorted(chain(*indices)) == list(range(len(ablations)))


@given(experiments)
def test_an_ablation_is_found_by_its_switches(ablations: list[Ablation]) -> None:
    for ablation in ablations:
        results = switches.select_ablations(
            ablations, **{switch.field: switch.value_of(ablation) for switch in SWITCHES}
        )
        assert ablation in results
        assert {values_of(result) for result in results} == {values_of(ablation)}
        assert switches.find_variant(ablations, ablation) == results[0]
    assert switches.select_ablations(ablations) == ablations


@given(experiments)
def test_the_intact_counterpart_differs_in_residual_connections_only(ablations: list[Ablation]) -> None:
    for ablation in ablations:
        intact = {"residual_free": Sublayers(), "residual_substitute": "none", "residual_fade_steps": None}
        wanted = ablation.model.model_copy(update=intact)
        expected = [other for other in ablations if (other.model, other.training) == (wanted, ablation.training)]
        counterpart = switches.find_intact_counterpart(ablations, ablation)
        assert counterpart == next(iter(expected), None)
        assert counterpart is None or switches.is_intact(counterpart)


@pytest.mark.parametrize(
    ("dataset", "settings", "alike"),
    [
        ("other", {}, False),
        ("addition", {"learning_rate": 0.003}, False),
        ("addition", {"batch_size": 32}, False),
        ("addition", {"steps": 16, "seeds": [5]}, True),
    ],
)
def test_a_counterpart_has_the_same_task_and_settings_but_may_have_other_seeds_and_steps(
    dataset: str, settings: dict[str, Any], alike: bool
) -> None:
    ablation = small_ablation("free", model_={"residual_free": [0]})
    intact = small_ablation("intact", **settings).model_copy(update={"dataset": dataset})
    assert switches.find_intact_counterpart([intact], ablation) == (intact if alike else None)


@pytest.mark.parametrize(
    ("free", "words"),
    [
        ([], ""),
        ([0, 1], "no residual at layers 0, 1"),
        ({"mlp": [1]}, "no residual at layer 1 (MLP)"),
        ({"attention": [0, 1], "mlp": [1]}, "no residual at layers 0, 1 (attention) and layer 1 (MLP)"),
    ],
)
def test_missing_residual_connections_in_words(free: Any, words: str) -> None:
    assert switches.missing_residuals_in_words(Sublayers.model_validate(free)) == words
