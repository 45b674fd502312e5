"""A trial's ablation in `params.yaml` is the ablation that the trial trained."""

import pytest
from hypothesis import given, settings
from ruamel.yaml import YAML

from pipeline.params import Overrides, Params
from pipeline.search import space
from pipeline.search.promote import MAX_NAME_LENGTH, ablation_entry, format_yaml_line
from tests.search.conftest import changed
from tests.search.test_space import all_choices, spaces

WIDE = {"width": [8, 16, 32], "dropout": [0.0, 0.1], "learning_rate": [1e-05, 0.02], "gradient_clip": [None, 1.0]}


@settings(max_examples=2)
@given(fields=spaces)
def test_an_entry_gives_the_trials_ablation_and_each_has_its_own_name(smoke: Params, fields: dict) -> None:
    params = changed(smoke, space=fields | WIDE)
    names = set()
    for choices in all_choices(params)[::7]:
        ablation = space.build_ablation(params, choices)
        name, overrides = ablation_entry(ablation, params)
        entry = YAML(typ="safe").load(format_yaml_line(name, overrides))
        again = params.model_copy(update={"ablations": {name: Overrides(**entry[name])}}).ablation(name)
        assert (again.model, again.dataset, again.task) == (ablation.model, ablation.dataset, ablation.task)
        assert [value for name, value in again.training if name in params.search.space] == [
            value for name, value in ablation.training if name in params.search.space
        ]
        names.add(name)
    assert len(names) == len(all_choices(params)[::7])


@pytest.mark.parametrize(
    ("free", "name", "overrides"),
    [
        ({}, "", {}),
        ({"attention": [0], "mlp": [1]}, "-no-residual-attention-0-mlp-1", {"attention": [0], "mlp": [1]}),
        ({"attention": [1], "mlp": [1]}, "-no-residual-attention-1-mlp-1", [1]),
    ],
)
def test_names_and_overrides_are_readable(smoke: Params, free: dict, name: str, overrides: object) -> None:
    params = changed(smoke, space={"width": [smoke.model.width]})
    ablation = params.trial_ablation({"positional": "none", "residual_free": free})
    model = {"positional": "none"} | ({"residual_free": overrides} if free else {})
    entry = {"task": "addition", "model": model}
    assert ablation_entry(ablation, params) == (f"search-2-layers{name}-positional-none", entry)


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
