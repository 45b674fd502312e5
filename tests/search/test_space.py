"""The search space, and the ablations in it."""

import itertools
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.params import Model, Params, Training
from pipeline.search import space
from tests.search.conftest import changed

CHOICES = st.lists(st.sampled_from(["searched", "kept", "free"]), min_size=3, max_size=3)
spaces = st.fixed_dictionaries(
    {
        "layers": st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
        "residual_free": st.fixed_dictionaries({"attention": CHOICES, "mlp": CHOICES}),
        "optimizer": st.sampled_from([["muon"], ["muon", "adamw"]]),
    }
)


def all_ablations(params: Params) -> list[str]:
    """The settings of all ablations of a space, enumerated independently of `pipeline.search.space`."""
    lists = {name: entry for name, entry in params.search.space.items() if isinstance(entry, list)}
    by_layer, settings = params.search.space.get("residual_free"), []
    for values in itertools.product(*lists.values()):
        fields = dict(zip(lists, values, strict=True))
        layers = range(fields.get("layers", params.model.layers))
        free = {
            sublayer: [
                [layer for layer in layers if removed[layer]]
                for removed in itertools.product([False, True], repeat=len(layers))
                if all(listed[layer] in ("searched", ("kept", "free")[removed[layer]]) for layer in layers)
            ]
            for sublayer, listed in (by_layer or ())
        }
        for attention, mlp in itertools.product(free.get("attention", [None]), free.get("mlp", [None])):
            removed = {} if by_layer is None else {"residual_free": {"attention": attention, "mlp": mlp}}
            settings.append(params.trial_ablation(fields | removed).model_dump_json())
    return settings


def enumerated(params: Params) -> list[tuple[int, dict[str, Any]]]:
    return [
        (layers, pattern) for layers in space.list_depths(params) for pattern in space.list_patterns(params, layers)
    ]


@settings(max_examples=20)
@given(fields=spaces)
def test_the_patterns_of_all_depths_are_the_space_each_once(smoke: Params, fields: dict) -> None:
    params = changed(smoke, space=fields)
    ablations = [space.build_ablation(params, *position).model_dump_json() for position in enumerated(params)]
    assert sorted(ablations) == sorted(all_ablations(params))
    assert len(set(ablations)) == len(ablations)


@settings(max_examples=10)
@given(fields=spaces)
def test_a_sampler_suggests_only_what_is_in_the_space(smoke: Params, fields: dict) -> None:
    params = changed(smoke, space=fields)
    study, patterns = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), enumerated(params)
    for layers in space.list_depths(params):
        assert (layers, space.suggest_choices(study.ask(), params, layers)) in patterns


def test_a_space_is_tried_in_full_up_to_the_stated_number_of_patterns(smoke: Params) -> None:
    for limit, is_full in ((15, False), (16, True)):
        params = changed(smoke, enumerate_up_to=limit)
        assert [space.is_enumerated(params, layers) for layers in (1, 2)] == [True, is_full]
    ranged = changed(smoke, space={"learning_rate": {"low": 0.002, "high": 0.03, "log": True}}, enumerate_up_to=10**9)
    assert not space.is_enumerated(ranged, 1)


@pytest.mark.parametrize(
    ("field", "limits", "kind"), [("learning_rate", {"low": 0.002, "high": 0.03, "log": True}, float),
                                  ("batch_size", {"low": 8, "high": 32}, int)]
)  # fmt: skip
def test_a_numeric_field_is_searched_within_its_range(smoke: Params, field: str, limits: dict, kind: type) -> None:
    params = changed(smoke, space={field: limits})
    params.check_all_sections()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [
        getattr(space.build_ablation(params, 1, space.suggest_choices(study.ask(), params, 1)).training, field)
        for _ in range(30)
    ]
    assert {type(value) for value in values} == {kind}
    assert limits["low"] <= min(values) < max(values) <= limits["high"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("dropout", [0.0, 0.1]),
        ("positional", ["none", "learned", "rotary"]),
        ("weight_decay", [0.0, 0.1]),
        ("gradient_clip", [None, 1.0]),
        ("stop_when_converged", [True, False]),
    ],
)
def test_any_field_can_be_searched(smoke: Params, field: str, values: list[Any]) -> None:
    params = changed(smoke, space={field: values})
    dumps = [space.build_ablation(params, *position).model_dump() for position in enumerated(params)]
    assert {(dump["model"] | dump["training"])[field] for dump in dumps} == {*values}
    assert len(dumps) == len(values) * len(enumerated(smoke))


def test_without_the_number_of_layers_in_the_space_it_is_the_models(smoke: Params) -> None:
    listed = {name: entry for name, entry in smoke.search.space.items() if name != "layers"}
    params = smoke.model_copy(update={"search": smoke.search.model_copy(update={"space": listed})})
    assert space.list_depths(params) == [smoke.model.layers]
    assert {space.build_ablation(params, *position).model.layers for position in enumerated(params)} == {
        smoke.model.layers
    }


def test_what_changes_a_trial_changes_the_study_and_nothing_else_does(smoke: Params) -> None:
    name = space.study_name(smoke)
    for update in ({"trials": 99}, {"storage": "sqlite:///x.db"}, {"heartbeat": 3}):
        assert space.study_name(changed(smoke, **update)) == name
    training = smoke.training.model_copy(update={"seeds": [9], "steps": 700, "snapshots": 5, "learning_rate": 7.0})
    model = smoke.model.model_copy(update={"positional": "rotary"})  # the space fixes it, as it does the learning rate
    assert space.study_name(smoke.model_copy(update={"training": training, "model": model})) == name
    for update in ({"steps": 100}, {"seeds": [7]}, {"seed": 5}, {"converges_share": 0.5}, {"space": {"width": [32]}}):
        assert space.study_name(changed(smoke, **update)) != name
    for section, other in (("model", {"heads": 1}), ("training", {"batch_size": 8})):
        update = {section: getattr(smoke, section).model_copy(update=other)}
        assert space.study_name(smoke.model_copy(update=update)) != name
    tasks = {**smoke.tasks, "addition": smoke.tasks["addition"].model_copy(update={"digits": 1})}
    assert space.study_name(smoke.model_copy(update={"tasks": tasks})) != name


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"trials": 0}, "search.trials: .*0"),
        ({"seeds": [1, 1]}, "search.seeds: number 1 "),
        ({"converges_share": 1.0}, "search.converges_share: .*1.0"),
        ({"storage": "mongodb://x"}, "search.storage: .*mongodb"),
        ({"confirm": [7]}, "search: unknown key 'confirm'"),
        ({"space": {"betas": [[0.8, 0.9], [0.9, 0.99]]}}, "search.space: betas: .*0.8, 0.9"),
        ({"space": {"layers": [1, 2, 3, 4]}}, "search.space: residual_free.attention: .*2 .*4"),
        ({"space": {"layers": {"low": 1, "high": 2}}}, "search.space: layers: .*list"),
        ({"space": {"learning_rate": {"low": 0.1, "high": 0.01}}}, "learning_rate: low: 0.1 .*0.01"),
        ({"space": {"learning_rate": {"low": -1.0, "high": 0.01}}}, "search.space.learning_rate: .*-1.0"),
        ({"space": {"weight_decay": {"low": 0, "high": 0.1, "log": True}}}, "weight_decay: low: 0 .*above 0"),
        ({"space": {"layers": [1, 99], "width": [*range(16, 200_000, 16)]}}, "search.space.layers: .*99"),
    ],
)
def test_an_impossible_search_is_refused_by_key_and_value(smoke: Params, settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        changed(smoke, **settings).check_all_sections()


def test_a_fields_name_says_which_section_it_is_of() -> None:
    assert not set(Model.model_fields) & set(Training.model_fields)
