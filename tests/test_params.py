"""Every mistake in `params.yaml` is refused in one line that names the key, what was given and what is allowed."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.params import Params, Sublayers, read
from tests.conftest import PRESETS


def written(folder: Path, *path: str, value: Any) -> Path:
    """The smoke preset with one value changed."""
    content = YAML(typ="safe", pure=True).load((PRESETS / "smoke.yaml").read_text())
    section = content
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = value
    YAML().dump(content, folder / "params.yaml")
    return folder / "params.yaml"


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_is_a_valid_experiment(preset: str) -> None:
    params = read(PRESETS / f"{preset}.yaml")
    assert [ablation.name for ablation in params.all_ablations()] == list(params.ablations)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("model", "layrs"), 3, "model.layrs: unknown key; did you mean 'layers'?"),
        (("modle",), {}, "modle: unknown key; did you mean 'model'?"),
        (("model", "layers"), "three", "model.layers: must be a valid integer, not 'three'"),
        (("model", "layers"), 2.0, "model.layers: must be a valid integer, not 2.0"),
        (("model", "layers"), 0, "model.layers: must be greater than or equal to 1, not 0"),
        (("model", "heads"), 3, "heads: 3 does not divide width"),
        (("model", "positional"), "lerned", "model.positional: must be 'none', 'learned'"),
        (("model", "residual_free"), [7], "there is no layer 7 (attention); the layers are 0 to"),
        (
            ("model", "residual_free"),
            {"mpl": [0]},
            "model.residual_free.mpl: unknown key; did you mean 'mlp'?",
        ),
        (("model", "residual_free"), [0, 0], "layer 0 is listed twice"),
        (("training", "seeds"), [1, 1], "seed 1 is listed twice"),
        (("training", "seeds"), [], "training.seeds: list should have at least 1 item"),
        (("training", "learning_rate"), "fast", "training.learning_rate: must be a valid number, not 'fast'"),
        (("training", "learning_rate"), float("nan"), "training.learning_rate: must be a finite number"),
        (("training", "evaluate_every"), 7, "evaluate_every: 7 does not divide steps"),
        (("training", "betas"), [0.9, 1.0], "training.betas.1: must be less than 1, not 1.0"),
        (
            ("training", "converged_for"),
            3,
            "no run can converge: converged_for 3 evaluations in a row, but steps 100 evaluated every 50 have 2",
        ),
        (("search", "steps"), 1, "params.yaml: search: no run can converge"),
        (
            ("ablations",),
            {
                "a": {
                    "task": "addition",
                    "model": {"residual_free": [0], "residual_substitute": "noise"},
                    "training": {"batch_size": 1},
                }
            },
            "ablations.a: residual_substitute 'noise' takes the states of another row",
        ),
        (("training", "optimizer"), "sgd", "training.optimizer: must be 'adamw' or 'muon', not 'sgd'"),
        (("tasks", "addition", "digits"), 0, "tasks.addition.digits: must be greater than or equal to 1, not 0"),
        (
            ("tasks", "addition", "name"),
            "adition",
            "tasks.addition.name: 'adition' is no task; did you mean 'addition'",
        ),
        (("tasks",), {}, "tasks: is empty"),
        (("ablations",), {"a": {"task": "sorting"}}, "ablations.a.task 'sorting': not under `tasks`"),
        (("ablations",), {"a": {}}, "ablations.a.task: missing"),
        (("ablations",), {}, "ablations: is empty"),
        (("ablations",), {"No PE": {}}, "the name 'No PE' is not allowed"),
        (
            ("ablations",),
            {"a": {"task": "addition", "modle": {}}},
            "ablations.a.modle: unknown key; did you mean 'model'?",
        ),
        (
            ("ablations",),
            {"a": {"task": "addition", "model": {"layrs": 2}}},
            "ablations.a.model.layrs: unknown key; did you mean 'layers'",
        ),
        (
            ("ablations",),
            {"a": {"task": "addition", "model": {"residual_free": [9]}}},
            "ablations.a.model: residual_free: there is no layer 9",
        ),
        (
            ("ablations",),
            {"a": {"task": "addition", "model": {"residual_substitute": "forward"}}},
            "ablations.a.model.residual_substitute: 'forward' stands in for nothing; name the layers in residual_free",
        ),
        (("tracking", "uri"), "mlruns", "tracking.uri"),
        (("search", "task"), "sorting", "search.task 'sorting': not under `tasks`"),
        (("search", "space", "layrs"), [1], "search.space: 'layrs' is no field to search; did you mean 'layers'?"),
        (("search", "space", "steps"), [1], "search.space: 'steps' is no field to search"),
        (("search", "space", "width"), 16, "search.space.width: must be a valid list, not 16"),
        (("search", "space", "width"), {"attention": [], "mlp": []}, "search.space: width: must be a list of values"),
        (
            ("search", "space", "residual_free"),
            {"attention": ["serched"], "mlp": []},
            "search.space.residual_free.attention.0: must be 'searched', 'kept' or 'free', not 'serched'",
        ),
        (
            ("search", "space", "residual_free"),
            {"attention": [], "mpl": []},
            "search.space.residual_free.mpl: unknown key; did you mean 'mlp'?",
        ),
        (("search", "space", "width"), [], "search.space: width: lists nothing"),
        (("search", "space", "width"), [16, 16], "search.space: width: [16, 16] lists a value twice"),
        (("search", "space", "width"), [16, "wide"], "search.space: width: must be a valid integer, not 'wide'"),
        (("search", "space", "positional"), ["lerned"], "search.space: positional: must be 'none', 'learned'"),
        (("search", "space", "residual_free"), [0], "must be {attention: [...], mlp: [...]}, not [0]"),
        (
            ("search", "space", "residual_free", "attention"),
            ["searched"],
            "search.space: residual_free.attention: has 1 entries, one a layer, but layers goes up to 2",
        ),
        (("search", "space", "heads"), [2, 3], "search.space: heads: 3 does not divide width 16"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, path: tuple[str, ...], value: Any, said: str) -> None:
    with pytest.raises(UserError) as refusal:
        read(written(tmp_path, *path, value=value))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 700


LONG = "x" * 10_000


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((LONG,), {}),
        (("model", LONG), 1),
        (("model", "positional"), LONG),
        (("model", "layers"), [LONG]),
        (("model", "residual_free"), [10**4000]),
        (("model", "residual_free"), {LONG: [0]}),
        (("model", "heads"), 10**4000 + 1),
        (("training", "seeds"), [LONG]),
        (("training", "steps"), 10**4000 + 1),
        (("training", "evaluate_every"), 10**4000),
        (("tasks", LONG), {"name": "addition"}),
        (("tasks", "addition"), LONG),
        (("tasks", "addition", LONG), 1),
        (("tasks", "addition", "name"), LONG),
        (("ablations", LONG), {"task": "addition"}),
        (("ablations", LONG.upper()), {"task": "addition"}),
        (("ablations", "a"), {"task": LONG}),
        (("ablations", "a"), {"task": "addition", LONG: {}}),
        (("ablations", "a"), {"task": "addition", "model": {LONG: 1}}),
        (("ablations", "a"), {"task": "addition", "model": {"positional": LONG}}),
        (("search", "task"), LONG),
        (("search", "space", LONG), [1]),
        (("search", "space", "width"), LONG),
        (("search", "space", "width"), [LONG]),
        (("search", "storage"), LONG),
        (("tracking", "uri"), LONG),
    ],
)
def test_a_message_stays_short_whatever_was_given(tmp_path: Path, path: tuple[str, ...], value: Any) -> None:
    with pytest.raises(UserError) as refusal:
        read(written(tmp_path, *path, value=value))
    assert shown(str(refusal.value)) <= 80
    assert len(str(refusal.value)) < 700
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [LONG, "x" * 81])
def test_an_asked_for_name_is_shortened_too(smoke: Params, name: str) -> None:
    for ask in (smoke.ablation, smoke.task):
        with pytest.raises(UserError) as refusal:
            ask(name)
        assert shown(str(refusal.value)) <= 80


@pytest.mark.parametrize(
    "text", [f"{LONG}: 1\n{LONG}: 2\n", f"a: *{LONG}\n", f"a: !{LONG} 1\n", f"a: {'9' * 10_000}\n", f"a: [{LONG}\n"]
)
def test_neither_does_broken_yaml_make_it_long(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"params.yaml: not valid YAML") as refusal:
        read(tmp_path / "params.yaml")
    assert shown(str(refusal.value)) <= 80
    assert "\n" not in str(refusal.value)


def shown(message: str) -> int:
    """How much of a value that is one character again and again."""
    return max(len(run[0]) for run in re.finditer(r"(.)\1*", message))


@pytest.mark.parametrize(
    ("section", "switch", "default"),
    [
        ("model", "positional", "learned"),
        ("model", "attention", "causal"),
        ("model", "residual_free", Sublayers()),
        ("training", "optimizer", "muon"),
        ("training", "converged_at", 0.99),
    ],
)
def test_a_switch_that_is_not_named_has_its_default(smoke: Params, section: str, switch: str, default: Any) -> None:
    assert switch not in YAML(typ="safe", pure=True).load((PRESETS / "smoke.yaml").read_text())[section]
    assert getattr(getattr(smoke, section), switch) == default


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (
            {"first": "nope-casual", "second": "nope-full"},
            "comparisons.0.first: 'nope-casual' is no ablation.*nope-causal",
        ),
        ({"first": "nope-causal", "second": "nope-causal"}, "comparisons.0: .*or the same"),
        ({"first": "reverse-nope-causal", "second": "nope-causal"}, "learns reverse, nope-causal addition; one task"),
        ({"first": "nope-causal", "second": "nope-full", "of": "speed"}, "comparisons.0.of"),
    ],
)
def test_a_comparison_is_of_two_ablations_of_one_task(tmp_path: Path, pair: dict[str, str], said: str) -> None:
    content = YAML(typ="safe", pure=True).load((PRESETS / "smoke.yaml").read_text()) | {"comparisons": [pair]}
    YAML().dump(content, tmp_path / "params.yaml")
    with pytest.raises(UserError, match=said) as refusal:
        read(tmp_path / "params.yaml")
    assert "\n" not in str(refusal.value)


def test_ablations_that_share_no_seed_are_not_compared(tmp_path: Path) -> None:
    content = YAML(typ="safe", pure=True).load((PRESETS / "smoke.yaml").read_text())
    content["ablations"]["nope-causal"]["training"] = {"seeds": [9]}
    YAML().dump(content, tmp_path / "params.yaml")
    with pytest.raises(UserError, match="share no seed"):
        read(tmp_path / "params.yaml")


def test_an_override_touches_its_own_ablation_only(smoke: Params) -> None:
    changed = smoke.ablation("nope-causal").model
    assert changed == smoke.model.model_copy(update={"positional": "none"})
    assert smoke.ablation("learned-causal").model == smoke.model


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [1,", "not valid YAML, line"),
        ("a: 1\na: 2\n", "not valid YAML"),
        ("just text", "no table of sections"),
        ("", "no table of sections"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        read(tmp_path / "params.yaml")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"git checkout .*params.yaml"):
        read(tmp_path / "params.yaml")


def test_numbers_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    text = (PRESETS / "smoke.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("  warmup_steps: 20", "  warmup_steps: 20\n  weight_decay: 1e-3"))
    assert "1e-3" in path.read_text()
    assert read(path).training.weight_decay == 0.001


def test_a_list_of_layers_means_both_sublayers() -> None:
    both = Sublayers.model_validate([2, 1])
    assert both == Sublayers(attention=(1, 2), mlp=(1, 2))
    assert Sublayers.model_validate({"mlp": [0]}) == Sublayers(attention=(), mlp=(0,))


def test_an_unknown_ablation_is_refused_with_the_nearest_name(smoke: Params) -> None:
    with pytest.raises(UserError, match="did you mean 'nope-causal'"):
        smoke.ablation("none-casual")


@given(st.integers(2, 3000), st.integers(1, 3000), st.integers(1, 5))
def test_a_trial_can_converge_and_is_evaluated_as_seldom_as_training_says(
    smoke: Params, steps: int, every: int, in_a_row: int
) -> None:
    training = smoke.training.model_copy(update={"evaluate_every": every, "converged_for": min(in_a_row, steps)})
    search = smoke.search.model_copy(update={"steps": steps})
    asked = smoke.model_copy(update={"training": training, "search": search})
    trial = asked.trial_ablation({}).training
    assert trial.steps % trial.evaluate_every == 0
    assert trial.evaluate_every <= every
    assert trial.steps // trial.evaluate_every >= trial.converged_for
    if steps % every == 0 and steps // every >= trial.converged_for:
        assert trial.evaluate_every == every
