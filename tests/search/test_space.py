"""The space of a study, and the ablations in it."""

import itertools
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.params import Model, Params, Search, Training, parse
from pipeline.search import space
from tests.search.conftest import changed

SEARCHED = st.lists(st.sampled_from(["searched", "kept", "free"]), min_size=3, max_size=3)
spaces = st.fixed_dictionaries(
    {
        "layers": st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
        "residual_free": st.fixed_dictionaries({"attention": SEARCHED, "mlp": SEARCHED}),
        "optimizer": st.sampled_from([["muon"], ["muon", "adamw"]]),
    }
)


def every_choice(params: Params) -> list[dict]:
    """All configurations, by an enumeration of its own."""
    found = []
    lists = {name: values for name, values in params.search.space.items() if isinstance(values, list)}
    by_layer = params.search.space.get("residual_free")
    for values in itertools.product(*lists.values()):
        plain = dict(zip(lists, values, strict=True))
        names = [
            f"residual_free_{sublayer}_{layer}"
            for layer in range(plain.get("layers", params.model.layers))
            for sublayer in ("attention", "mlp")
            if by_layer and getattr(by_layer, sublayer)[layer] == "searched"
        ]
        searched = {name: value for name, value in plain.items() if len(lists[name]) > 1}
        for bits in itertools.product([False, True], repeat=len(names)):
            found.append(searched | dict(zip(names, bits, strict=True)))
    return found


@given(chosen=spaces)
def test_the_size_is_the_number_of_different_ablations(smoke: Params, chosen: dict) -> None:
    params = changed(smoke, space=chosen)
    ablations = {space.ablation(params, choice).model_dump_json() for choice in every_choice(params)}
    assert len(ablations) == len(every_choice(params)) == space.size(params)


@given(chosen=spaces)
def test_what_is_fixed_is_in_every_ablation(smoke: Params, chosen: dict) -> None:
    params = changed(smoke, space=chosen)
    for choice in every_choice(params):
        model = space.ablation(params, choice).model
        assert model.layers in chosen["layers"]
        for sublayer, listed in chosen["residual_free"].items():
            for layer, fixed in enumerate(listed[: model.layers]):
                free = layer in getattr(model.residual_free, sublayer)
                assert fixed == "searched" or free == (fixed == "free")


@given(chosen=spaces)
def test_the_corners_are_in_the_space_and_hold_the_whole_transformer_of_each_depth(smoke: Params, chosen: dict) -> None:
    params = changed(smoke, space=chosen)
    corners, everything = space.extreme_choices(params), every_choice(params)
    assert all(corner in everything for corner in corners)
    assert {space.ablation(params, corner).model.layers for corner in corners} == set(chosen["layers"])


def test_a_sampler_only_ever_suggests_what_is_in_the_space(smoke: Params) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    everything = every_choice(smoke)
    for _ in range(50):
        assert space.suggest(study.ask(), smoke) in everything


def test_a_sampler_is_asked_in_one_order_and_a_kept_connection_is_the_first_choice(smoke: Params) -> None:
    """Another order, or the other choice first, and the same seed would draw other configurations."""
    params = changed(smoke, space={"heads": [1, 2], "layers": [2, 1]})
    study = optuna.create_study()
    study.enqueue_trial({"layers": 2})
    space.suggest(study.ask(), params)
    asked = {name: one.choices for name, one in study.trials[0].distributions.items()}  # type: ignore[attr-defined]
    by_layer = [f"residual_free_{sublayer}_{layer}" for layer in (0, 1) for sublayer in ("attention", "mlp")]
    assert list(asked) == ["layers", "heads", *by_layer]
    assert all(asked[name] == (False, True) for name in by_layer)


@given(chosen=spaces, number=st.integers(0, 100))
def test_what_is_drawn_anew_is_in_the_space_and_was_not_seen(smoke: Params, chosen: dict, number: int) -> None:
    params = changed(smoke, space=chosen)
    everything = every_choice(params)
    seen = everything[: number % len(everything)]
    drawn = space.draw_new(params, seen, np.random.default_rng(number))
    assert drawn in everything
    assert drawn not in seen
    assert space.draw_new(params, everything, np.random.default_rng(number)) is None


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
    ablations = [space.ablation(params, choice) for choice in every_choice(params)]
    found = [getattr(ablation.model, field, getattr(ablation.training, field, None)) for ablation in ablations]
    assert set(found) == set(values)
    assert len({ablation.model_dump_json() for ablation in ablations}) == space.size(params) == 2 * space.size(smoke)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert space.suggest(study.ask(), params)[field] in values


def test_without_the_number_of_layers_in_the_space_it_is_the_models(smoke: Params) -> None:
    content = smoke.search.model_dump()
    del content["space"]["layers"]
    params = smoke.model_copy(update={"search": parse(Search, content, "params.yaml: search")})
    assert space.size(params) == 2 ** (2 * smoke.model.layers)
    assert {space.ablation(params, choice).model.layers for choice in every_choice(params)} == {smoke.model.layers}


def test_what_changes_a_trial_changes_the_study_and_nothing_else_does(smoke: Params) -> None:
    name = space.study_name(smoke)
    for update in ({"trials": 99}, {"storage": "sqlite:///x.db"}, {"seed": 5}, {"heartbeat": 3}):
        assert space.study_name(changed(smoke, **update)) == name
    training = smoke.training.model_copy(update={"seeds": [9], "steps": 700, "snapshots": 5, "learning_rate": 7.0})
    model = smoke.model.model_copy(update={"positional": "rotary"})  # said in the space, as is the rate
    assert space.study_name(smoke.model_copy(update={"training": training, "model": model})) == name
    for update in ({"steps": 100}, {"seeds": [7]}, {"give_up_below": 0.5}):
        assert space.study_name(changed(smoke, **update)) != name
    assert space.study_name(changed(smoke, space={"width": [32]})) != name
    for section, other in (("model", {"heads": 1}), ("training", {"batch_size": 8})):
        update = {section: getattr(smoke, section).model_copy(update=other)}
        assert space.study_name(smoke.model_copy(update=update)) != name
    tasks = {**smoke.tasks, "addition": {**smoke.tasks["addition"], "digits": 1}}
    assert space.study_name(smoke.model_copy(update={"tasks": tasks})) != name


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("trials", -1, "search.trials"),
        ("trials", 0, "search.trials"),
        ("space.layers", [], "layers: lists nothing"),
        ("space.layers", [1, 2, 3, 4], "residual_free.attention: has 2 entries, one a layer, but layers goes up to 4"),
        ("space.layers", [0], "search.space: layers: "),
        ("space.layers", ["many"], "search.space: layers: "),
        ("space.lairs", [1], "'lairs' is no field to search; did you mean 'layers'"),
        ("space.seeds", [[1], [2]], "'seeds' is no field to search"),
        ("space.positional", ["none", "magic"], "search.space: positional: "),
        ("space.residual_free", [[0], [1]], "residual_free: must be {attention: "),
        ("space.dropout", {"attention": ["kept"] * 2, "mlp": ["kept"] * 2}, "dropout: must be a list of values"),
        ("space.heads", [3], "heads: 3 does not divide width 16"),
        ("space.batch_size", [8, 8], "lists a value twice"),
        ("space.optimizer", ["muon", "muon"], "lists a value twice"),
        ("seeds", [1, 1], "listed twice"),
        ("storage", "mongodb://x", "search.storage"),
        ("task", "additoin", "search.task 'additoin': not under `tasks`"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line(smoke: Params, key: str, given: object, said: str) -> None:
    content = smoke.search.model_dump(mode="json")
    place = content
    *sections, last = key.split(".")
    for section in sections:
        place = place[section]
    place[last] = given
    with pytest.raises(UserError) as refused:
        smoke.model_copy(update={"search": parse(Search, content, "params.yaml: search")}).check()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_fields_name_says_which_section_it_is_of() -> None:
    assert not set(Model.model_fields) & set(Training.model_fields)
