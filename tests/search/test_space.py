"""The search space, and the ablations in it."""

import itertools
from typing import Any

import numpy as np
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


def all_choices(params: Params) -> list[dict]:
    """All configurations, enumerated independently of `pipeline.search.space`."""
    configurations = []
    lists = {name: entry for name, entry in params.search.space.items() if isinstance(entry, list)}
    by_layer = params.search.space.get("residual_free")
    for values in itertools.product(*lists.values()):
        fields = dict(zip(lists, values, strict=True))
        names = [
            f"residual_free_{sublayer}_{layer}"
            for layer in range(fields.get("layers", params.model.layers))
            for sublayer in ("attention", "mlp")
            if by_layer and getattr(by_layer, sublayer)[layer] == "searched"
        ]
        searched = {name: value for name, value in fields.items() if len(lists[name]) > 1}
        for bits in itertools.product([False, True], repeat=len(names)):
            configurations.append(searched | dict(zip(names, bits, strict=True)))
    return configurations


@settings(max_examples=20)
@given(fields=spaces)
def test_all_choices_give_different_ablations_of_the_space(smoke: Params, fields: dict) -> None:
    params = changed(smoke, space=fields)
    ablations = [space.build_ablation(params, choices) for choices in all_choices(params)]
    distinct = {ablation.model_dump_json() for ablation in ablations}
    assert len(distinct) == len(ablations) == space.count_configurations(params)
    for model in (ablation.model for ablation in ablations):
        assert model.layers in fields["layers"]
        for sublayer, listed in fields["residual_free"].items():
            for layer, choice in enumerate(listed[: model.layers]):
                is_free = layer in getattr(model.residual_free, sublayer)
                assert choice == "searched" or is_free == (choice == "free")


@settings(max_examples=20)
@given(fields=spaces)
def test_the_extremes_are_in_the_space_and_cover_each_depth(smoke: Params, fields: dict) -> None:
    params = changed(smoke, space=fields)
    extremes, configurations = space.extreme_choices(params), all_choices(params)
    assert all(choices in configurations for choices in extremes)
    assert {space.build_ablation(params, choices).model.layers for choices in extremes} == set(fields["layers"])


@settings(max_examples=20)
@given(fields=spaces, number=st.integers(0, 100))
def test_a_new_draw_is_in_the_space_and_was_not_seen(smoke: Params, fields: dict, number: int) -> None:
    params = changed(smoke, space=fields)
    configurations, generator = all_choices(params), np.random.default_rng(number)
    split = number % len(configurations)
    assert space.draw_unseen_choices(params, configurations[:split], generator) in configurations[split:]
    assert space.draw_unseen_choices(params, configurations, generator) is None


def test_a_sampler_suggests_only_what_is_in_the_space(smoke: Params) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert all(space.suggest_choices(study.ask(), smoke) in all_choices(smoke) for _ in range(50))


def test_parameters_are_suggested_in_one_order_and_a_kept_connection_is_the_first_choice(smoke: Params) -> None:
    """With another order, or the other choice first, the same seed would draw other configurations."""
    params = changed(smoke, space={"heads": [1, 2], "layers": [2, 1]})
    study = optuna.create_study()
    study.enqueue_trial({"layers": 2})
    space.suggest_choices(study.ask(), params)
    choices = {name: distribution.choices for name, distribution in study.trials[0].distributions.items()}  # type: ignore[attr-defined]
    by_layer = [f"residual_free_{sublayer}_{layer}" for layer in (0, 1) for sublayer in ("attention", "mlp")]
    assert list(choices) == ["layers", "heads", *by_layer]
    assert all(choices[name] == (False, True) for name in by_layer)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("dropout", [0.0, 0.1]),
        ("attention", ["causal", "full"]),
        ("weight_decay", [0.0, 0.1]),
        ("gradient_clip", [None, 1.0]),
        ("stop_when_converged", [True, False]),
        ("batch_size", [8, 16]),
    ],
)
def test_any_field_can_be_searched(smoke: Params, field: str, values: list[Any]) -> None:
    params = changed(smoke, space={field: values})
    ablations = [space.build_ablation(params, choices) for choices in all_choices(params)]
    settings = [ablation.model_dump()["model"] | ablation.model_dump()["training"] for ablation in ablations]
    assert {setting[field] for setting in settings} == {*values}
    assert len(settings) == space.count_configurations(params) == 2 * space.count_configurations(smoke)


def test_without_the_number_of_layers_in_the_space_it_is_the_models(smoke: Params) -> None:
    listed = {name: entry for name, entry in smoke.search.space.items() if name != "layers"}
    params = smoke.model_copy(update={"search": smoke.search.model_copy(update={"space": listed})})
    configurations, layers = all_choices(params), smoke.model.layers
    assert len(configurations) == space.count_configurations(params) == 2 ** (2 * layers)
    assert {space.build_ablation(params, choices).model.layers for choices in configurations} == {layers}


def test_what_changes_a_trial_changes_the_study_and_nothing_else_does(smoke: Params) -> None:
    name = space.study_name(smoke)
    for update in ({"trials": 99}, {"storage": "sqlite:///x.db"}, {"seed": 5}, {"heartbeat": 3}):
        assert space.study_name(changed(smoke, **update)) == name
    training = smoke.training.model_copy(update={"seeds": [9], "steps": 700, "snapshots": 5, "learning_rate": 7.0})
    model = smoke.model.model_copy(update={"positional": "rotary"})  # the space fixes it, as it does the learning rate
    assert space.study_name(smoke.model_copy(update={"training": training, "model": model})) == name
    for update in ({"steps": 100}, {"seeds": [7]}, {"give_up_below": 0.5}, {"space": {"width": [32]}}):
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
        ({"seeds": [1, 1]}, "search: number 1 "),
        ({"confirm": [111]}, "search: number 111 "),
        ({"storage": "mongodb://x"}, "search.storage: .*mongodb"),
        ({"space": {"betas": [[0.8, 0.9], [0.9, 0.99]]}}, "search.space: betas: .*0.8, 0.9"),
        ({"space": {"layers": [1, 2, 3, 4]}}, "search.space: residual_free.attention: .*2 .*4"),
        ({"space": {"layers": [1, 99], "width": [*range(16, 200_000, 16)]}}, "search.space.layers: .*99"),
    ],
)
def test_an_impossible_search_is_refused_by_key_and_value(smoke: Params, settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        changed(smoke, **settings).check_all_sections()


def test_a_fields_name_says_which_section_it_is_of() -> None:
    assert not set(Model.model_fields) & set(Training.model_fields)
