"""A trial's ablation, as an ablation, is the trial's ablation."""

from typing import Any

import pytest
from hypothesis import given, settings
from ruamel.yaml import YAML

from pipeline.params import Overrides, Params
from pipeline.search import space
from pipeline.search.stanza import line, stanza
from tests.search.conftest import changed
from tests.search.test_space import every_choice, spaces

WIDE = {"width": [8, 16, 32], "dropout": [0.0, 0.1], "learning_rate": [1e-05, 0.02], "gradient_clip": [None, 1.0]}


def as_ablation(params: Params, name: str, overrides: dict[str, Any]) -> Any:
    return params.model_copy(update={"ablations": {name: Overrides(**overrides)}}).ablation(name)


@settings(max_examples=4)
@given(chosen=spaces)
def test_it_says_the_trials_configuration_and_each_has_its_own_name(smoke: Params, chosen: dict) -> None:
    params = changed(smoke, space=chosen | WIDE)
    named = {}
    for choice in every_choice(params):
        ablation = space.ablation(params, choice)
        name, overrides = stanza(ablation, params)
        again = as_ablation(params, name, YAML(typ="safe").load(line(name, overrides))[name])
        searched = params.search.space
        assert again.model == ablation.model
        assert (again.dataset, again.task) == (ablation.dataset, ablation.task)
        assert all(value == getattr(ablation.training, key) for key, value in again.training if key in searched)
        named[name] = choice
    assert len(named) == len(every_choice(params))


@pytest.mark.parametrize(
    ("free", "name", "overrides"),
    [
        ({}, "search-2-layers-positional-none", {"model": {"positional": "none"}}),
        (
            {"attention": [0], "mlp": [1]},
            "search-2-layers-no-residual-attention-0-mlp-1-positional-none",
            {"model": {"positional": "none", "residual_free": {"attention": [0], "mlp": [1]}}},
        ),
        (
            {"attention": [1], "mlp": [1]},
            "search-2-layers-no-residual-attention-1-mlp-1-positional-none",
            {"model": {"positional": "none", "residual_free": [1]}},
        ),
    ],
)
def test_names_are_read_by_people(smoke: Params, free: dict, name: str, overrides: dict) -> None:
    params = changed(smoke, space={"width": [smoke.model.width]})
    ablation = params.trial_ablation({"positional": "none", "residual_free": free})
    assert stanza(ablation, params) == (name, {"task": "addition"} | overrides)


def test_a_name_that_would_be_too_long_is_cut_and_still_its_own(smoke: Params) -> None:
    deep = {"layers": [32], "residual_free": {"attention": ["searched"] * 32, "mlp": ["searched"] * 32}}
    params = changed(smoke, space=deep)
    ablations = [
        params.trial_ablation({"layers": 32, "residual_free": {"attention": [*range(31)], "mlp": [last]}})
        for last in (0, 1)
    ]
    names = {stanza(ablation, params)[0] for ablation in ablations}
    assert len(names) == 2
    for name in names:
        as_ablation(params, name, {"task": "addition"})
        Params.model_validate(params.model_dump() | {"ablations": {name: {"task": "addition"}}})
