"""A trial's ablation in `params.yaml` is the ablation that the trial trained."""

from typing import Any

import pytest
from hypothesis import given, settings
from ruamel.yaml import YAML

from pipeline.params import Ablation, Overrides, Params
from pipeline.search import space
from pipeline.search.promote import MAX_NAME_LENGTH, ablation_entry, format_yaml_line
from tests.search.conftest import changed
from tests.search.test_space import all_choices, spaces

WIDE = {"width": [8, 16, 32], "dropout": [0.0, 0.1], "learning_rate": [1e-05, 0.02], "gradient_clip": [None, 1.0]}


def read_entry(params: Params, name: str, overrides: dict[str, Any]) -> Ablation:
    return params.model_copy(update={"ablations": {name: Overrides(**overrides)}}).ablation(name)


@settings(max_examples=2)
@given(fields=spaces)
def test_an_entry_gives_the_trials_ablation_and_each_has_its_own_name(smoke: Params, fields: dict) -> None:
    params = changed(smoke, space=fields | WIDE)
    choices_by_name = {}
    for choices in all_choices(params)[::7]:
        ablation = space.build_ablation(params, choices)
        name, overrides = ablation_entry(ablation, params)
        again = read_entry(params, name, YAML(typ="safe").load(format_yaml_line(name, overrides))[name])
        assert again.model == ablation.model
        assert (again.dataset, again.task) == (ablation.dataset, ablation.task)
        searched = [name for name, _ in again.training if name in params.search.space]
        assert all(getattr(again.training, name) == getattr(ablation.training, name) for name in searched)
        choices_by_name[name] = choices
    assert len(choices_by_name) == len(all_choices(params)[::7])


@pytest.mark.parametrize(
    ("free", "name", "overrides"),
    [
        ({}, "search-2-layers-positional-none", {"positional": "none"}),
        (
            {"attention": [0], "mlp": [1]},
            "search-2-layers-no-residual-attention-0-mlp-1-positional-none",
            {"positional": "none", "residual_free": {"attention": [0], "mlp": [1]}},
        ),
        (
            {"attention": [1], "mlp": [1]},
            "search-2-layers-no-residual-attention-1-mlp-1-positional-none",
            {"positional": "none", "residual_free": [1]},
        ),
    ],
)
def test_names_and_overrides_are_readable(smoke: Params, free: dict, name: str, overrides: dict) -> None:
    params = changed(smoke, space={"width": [smoke.model.width]})
    ablation = params.trial_ablation({"positional": "none", "residual_free": free})
    assert ablation_entry(ablation, params) == (name, {"task": "addition", "model": overrides})


def test_a_long_name_is_cut_and_still_unique(smoke: Params) -> None:
    deep = {"layers": [32], "residual_free": {"attention": ["searched"] * 32, "mlp": ["searched"] * 32}}
    params = changed(smoke, space=deep)
    ablations = [
        params.trial_ablation({"layers": 32, "residual_free": {"attention": [*range(31)], "mlp": [last]}})
        for last in (0, 1)
    ]
    names = {ablation_entry(ablation, params)[0] for ablation in ablations}
    assert [len(name) for name in names] == [MAX_NAME_LENGTH] * 2
    for name in names:
        type(params).model_validate(params.model_dump() | {"ablations": {name: {"task": "addition"}}})
