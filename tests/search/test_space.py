"""The space of a study, and the cells in it."""

import itertools

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import Params, Search, Space, checked
from pipeline.refusal import Refused
from pipeline.search import space

SEARCHED = st.sampled_from(["searched", "kept", "free"])
spaces = st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True).flatmap(
    lambda layers: st.builds(
        lambda attention, mlp, optimizer: Space(
            layers=layers,
            residual_attention=attention,
            residual_mlp=mlp,
            heads=[2],
            width=[16],
            learning_rate=[0.01],
            optimizer=optimizer,
            positional=["none"],
        ),
        st.lists(SEARCHED, min_size=3, max_size=3),
        st.lists(SEARCHED, min_size=3, max_size=3),
        st.sampled_from([["muon"], ["muon", "adamw"]]),
    )
)


def with_space(params: Params, chosen: Space, **settings: object) -> Params:
    return params.model_copy(update={"search": params.search.model_copy(update={"space": chosen, **settings})})


def every_choice(chosen: Space) -> list[dict]:
    """All configurations, by an enumeration of its own."""
    found = []
    for layers in chosen.layers:
        names = [
            f"residual_{sublayer}_{layer}"
            for layer in range(layers)
            for sublayer in ("attention", "mlp")
            if getattr(chosen, f"residual_{sublayer}")[layer] == "searched"
        ]
        for bits in itertools.product([True, False], repeat=len(names)):
            for optimizer in chosen.optimizer:
                choice = dict(zip(names, bits, strict=True))
                if len(chosen.layers) > 1:
                    choice["layers"] = layers
                if len(chosen.optimizer) > 1:
                    choice["optimizer"] = optimizer
                found.append(choice)
    return found


@given(chosen=spaces)
def test_the_size_is_the_number_of_different_cells(smoke: Params, chosen: Space) -> None:
    params = with_space(smoke, chosen)
    cells = {space.cell(params, choice).model_dump_json() for choice in every_choice(chosen)}
    assert len(cells) == len(every_choice(chosen)) == space.size(chosen)


@given(chosen=spaces)
def test_what_is_fixed_is_in_every_cell(smoke: Params, chosen: Space) -> None:
    for choice in every_choice(chosen):
        model = space.cell(with_space(smoke, chosen), choice).model
        assert model.layers in chosen.layers
        for sublayer in ("attention", "mlp"):
            for layer, fixed in enumerate(getattr(chosen, f"residual_{sublayer}")[: model.layers]):
                free = layer in getattr(model.residual_free, sublayer)
                assert fixed == "searched" or free == (fixed == "free")


@given(chosen=spaces)
def test_the_corners_are_in_the_space_and_hold_the_whole_transformer_of_each_depth(
    smoke: Params, chosen: Space
) -> None:
    corners = space.corners(chosen)
    everything = every_choice(chosen)
    assert all(corner in everything for corner in corners)
    assert {space.cell(with_space(smoke, chosen), corner).model.layers for corner in corners} == set(chosen.layers)


def test_a_sampler_only_ever_suggests_what_is_in_the_space(smoke: Params) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    everything = every_choice(smoke.search.space)
    for _ in range(50):
        assert space.suggest(study.ask(), smoke.search.space) in everything


@given(chosen=spaces, number=st.integers(0, 100))
def test_what_is_drawn_anew_is_in_the_space_and_was_not_seen(chosen: Space, number: int) -> None:
    everything = every_choice(chosen)
    seen = everything[: number % len(everything)]
    drawn = space.unseen(chosen, seen, np.random.default_rng(number))
    assert drawn in everything
    assert drawn not in seen
    assert space.unseen(chosen, everything, np.random.default_rng(number)) is None


def test_what_changes_a_trial_changes_the_study_and_nothing_else_does(smoke: Params) -> None:
    name = space.study_name(smoke)
    search = smoke.search
    for update in ({"trials": 99}, {"storage": "sqlite:///x.db"}, {"seed": 5}, {"heartbeat": 3}):
        assert space.study_name(smoke.model_copy(update={"search": search.model_copy(update=update)})) == name
    for update in ({"steps": 100}, {"seeds": [7]}, {"minimize": "flops"}, {"give_up_below": 0.5}):
        assert space.study_name(smoke.model_copy(update={"search": search.model_copy(update=update)})) != name


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("trials", -1, "search.trials"),
        ("trials", 0, "search.trials"),
        ("space.layers", [], "search.space.layers"),
        ("space.layers", [1, 2, 3, 4], "residual_attention: has 2 entries, one a layer, but layers goes up to 4"),
        ("space.layers", [9], "search.space.layers"),
        ("space.heads", [3], "heads: 3 does not divide width 16"),
        ("space.optimizer", ["muon", "muon"], "lists a value twice"),
        ("seeds", [1, 1], "listed twice"),
        ("storage", "mongodb://x", "search.storage"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line(smoke: Params, key: str, given: object, said: str) -> None:
    content = smoke.search.model_dump(mode="json")
    place = content
    *sections, last = key.split(".")
    for section in sections:
        place = place[section]
    place[last] = given
    with pytest.raises(Refused, match=said.replace("(", r"\(")) as refused:
        checked(Search, content, "params.yaml: search")
    assert "\n" not in str(refused.value)
