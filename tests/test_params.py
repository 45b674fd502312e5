"""Every mistake in `params.yaml` is refused in one line that names the key and what was given."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.params import Params, Sublayers
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS

LONG = "x" * 10_000
HUGE = 10**4000 + 1
NOPE = "ablations.nope-causal"
FADED = {"residual_free": [0], "residual_fade_steps": 500}
NOISE = {"residual_free": [0], "residual_substitute": "noise"}


def smoke_with(folder: Path, key: str, value: Any) -> Path:
    """A file with the smoke preset and one value changed. `key`: keys with points between them."""
    content = YAML(typ="safe", pure=True).load((PRESETS / "smoke.yaml").read_text())
    section, (*path, last) = content, key.split(".")
    for name in path:
        section = section.setdefault(name, {})
    section[last] = value
    YAML().dump(content, folder / "params.yaml")
    return folder / "params.yaml"


def refusal(path: Path) -> str:
    """The message with which the file is refused: one line, which repeats no given value at length."""
    with pytest.raises(UserError) as error:
        read_params(path)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 700
    assert max(len(run[0]) for run in re.finditer(r"(.)\1*", message)) <= 80
    return message


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_is_a_valid_experiment(preset: str) -> None:
    params = read_params(PRESETS / f"{preset}.yaml")
    assert [ablation.name for ablation in params.all_ablations()] == list(params.ablations)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("modle", {}, ["'modle'", "'model'"]),
        ("model.layrs", 3, ["model", "'layrs'", "'layers'"]),
        ("model.layers", "three", ["model.layers", "'three'"]),
        ("model.layers", 2.0, ["model.layers", "2.0"]),
        ("model.heads", 3, ["heads", "3", "width"]),
        ("model.heads", HUGE, ["heads", "width"]),
        ("model.positional", "lerned", ["model.positional", "'learned'", "'lerned'"]),
        ("model.residual_free", [7], ["residual_free", "7"]),
        ("model.residual_free", ["a"], ["model.residual_free.0", "'a'"]),
        ("model.residual_free", [0, 0], ["model.residual_free", "0 is listed twice"]),
        ("training.seeds", [1, 1], ["training.seeds", "1 is listed twice"]),
        ("training.seeds", [], ["training.seeds", "1"]),
        ("training.learning_rate", float("nan"), ["training.learning_rate", "nan"]),
        ("training.evaluate_every", 7, ["evaluate_every", "7", "100"]),
        ("training.betas", [0.9, 1.0], ["training.betas.1", "1.0"]),
        ("training.converged_for", 3, ["converged_for 3", "100", "50", "2"]),
        ("tasks", {}, ["tasks"]),
        (f"tasks.{LONG}", {"name": "addition"}, ["tasks"]),
        ("tasks.addition.digits", 0, ["tasks.addition.digits", "1", "0"]),
        ("tasks.addition.digts", 3, ["tasks.addition", "'digts'", "'digits'"]),
        ("tasks.addition.name", "adition", ["tasks.addition.name", "'adition'", "'addition'"]),
        ("tasks.addition.name", LONG, ["tasks.addition.name"]),
        ("tasks.addition", {"digits": 3}, ["tasks.addition.name"]),
        ("ablations", {}, ["ablations"]),
        ("ablations", {"No PE": {}}, ["ablations", "'No PE'"]),
        ("ablations", {5: {"task": "addition"}}, ["ablations", "5", "quotes"]),
        ("ablations", {1e5: {"task": "addition"}}, ["ablations", "100000.0", "quotes"]),
        ("ablations", {"-x": {"task": "addition"}}, ["ablations", "'-x'", "start"]),
        ("tasks", {"--help": {"name": "addition"}}, ["tasks", "'--help'", "start"]),
        ("ablations", {"a": {}}, ["ablations.a.task"]),
        ("ablations", {"a": {"task": "sorting"}}, ["ablations.a.task", "'sorting'"]),
        ("ablations", {"a": {"task": "addition", "modle": {}}}, ["ablations.a", "'modle'", "'model'"]),
        (f"{NOPE}.model", {"residual_substitute": "fade"}, [f"{NOPE}.model.residual_substitute", "'fade'"]),
        (f"{NOPE}.model", {"positional": "none", "positional_until": 4}, [NOPE, "positional_until", "4", "none"]),
        (f"{NOPE}.model", {"residual_fade_steps": 4}, [f"{NOPE}.model.residual_fade_steps", "4", "residual_free"]),
        (
            f"{NOPE}.model",
            FADED | {"residual_substitute": "noise"},
            [NOPE, "residual_fade_steps", "'noise'"],
        ),
        (NOPE, {"task": "addition", "model": FADED}, [NOPE, "residual_fade_steps 500", "steps 100"]),
        (f"{NOPE}.model", {"attention": ["causal"]}, [f"{NOPE}.model", "attention", "1", "2"]),
        (f"{NOPE}.model", {"attention": ["causal", "half"]}, [f"{NOPE}.model.attention", "'half'", "'full'"]),
        (NOPE, {"task": "addition", "model": NOISE, "training": {"batch_size": 1}}, [NOPE, "'noise'", "batch_size"]),
        ("comparisons", [{"first": "nope-casual", "second": "nope-full"}], ["0.first", "'nope-casual'", "nope-causal"]),
        ("comparisons", [{"first": "nope-causal", "second": "nope-causal"}], ["comparisons.0", "nope-causal"]),
        ("comparisons", [{"first": "reverse-nope-causal", "second": "nope-causal"}], ["comparisons.0", "reverse"]),
        ("comparisons", [{"first": "a", "second": "b", "quantity": "speed"}], ["comparisons.0.quantity", "'speed'"]),
        ("search.task", "sorting", ["search.task", "'sorting'"]),
        ("search.steps", 1, ["search", "converged_for"]),
        (f"search.space.{LONG}", [1], ["search.space"]),
        ("search.space.steps", [1], ["search.space", "'steps'"]),
        ("search.space.width", {"attention": [], "mlp": []}, ["search.space", "width"]),
        ("search.space.width", [], ["search.space", "width"]),
        ("search.space.width", [16, 16], ["search.space", "width", "[16, 16]"]),
        ("search.space.width", [16, "wide"], ["search.space", "width", "'wide'"]),
        ("search.space.heads", [2, 3], ["search.space", "heads", "3", "width"]),
        ("search.space.residual_free", [0], ["search.space", "residual_free", "[0]"]),
        (
            "search.space.residual_free",
            {"attention": ["serched"], "mlp": []},
            ["residual_free.attention.0", "'serched'"],
        ),
        ("search.space.residual_free", {"attention": [], "mpl": []}, ["search.space.residual_free", "'mpl'", "mlp"]),
        ("search.space.residual_free.attention", ["searched"], ["search.space", "residual_free.attention", "1", "2"]),
        ("tracking.uri", "mlruns", ["tracking.uri"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_is_refused_by_key_and_value(tmp_path: Path, key: str, value: Any, named: list[str]) -> None:
    message = refusal(smoke_with(tmp_path, key, value))
    assert "params.yaml: " in message
    assert [words for words in named if words not in message] == []


def test_a_file_that_dvc_cannot_read_is_refused_and_a_mark_of_utf_8_is_not(tmp_path: Path) -> None:
    path, text = tmp_path / "params.yaml", (PRESETS / "smoke.yaml").read_text()
    path.write_text(text, encoding="utf-16")
    assert "UTF-8" in refusal(path)
    path.write_text(text, encoding="utf-8-sig")
    assert read_params(path) == read_params(PRESETS / "smoke.yaml")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: [1,", "line 1"),
        ("just text", "dictionary"),
        ("", "dictionary"),
        (f"{LONG}: 1\n{LONG}: 2\n", "not valid YAML"),
        (f"a: *{LONG}\n", "not valid YAML"),
        (f"a: !{LONG} 1\n", "not valid YAML"),
        (f"a: {'9' * 10_000}\n", "not valid YAML"),
        ("[" * 2000, "not valid YAML"),
        (None, "git checkout"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_is_missing_or_no_table_is_refused(tmp_path: Path, text: str | None, named: str) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    assert named in refusal(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", [LONG, "x" * 81, "none-casual"])
def test_an_unknown_name_is_refused_shortened(smoke: Params, name: str) -> None:
    for look_up in (smoke.ablation, smoke.task):
        with pytest.raises(UserError, match=name[:10]) as error:
            look_up(name)
        assert "x" * 81 not in str(error.value)


def test_an_override_changes_its_own_ablation_only(smoke: Params) -> None:
    assert smoke.ablation("nope-causal").model == smoke.model.model_copy(update={"positional": "none"})
    assert smoke.ablation("learned-causal").model == smoke.model


def test_numbers_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    text = (PRESETS / "smoke.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("  warmup_steps: 20", "  warmup_steps: 20\n  weight_decay: 1e-3"))
    assert "1e-3" in path.read_text()
    assert read_params(path).training.weight_decay == 0.001


def test_what_is_written_as_plain_values_is_the_same_experiment(smoke: Params) -> None:
    assert type(smoke).model_validate(smoke.resolved_settings()) == smoke


def test_a_list_of_layers_means_both_sublayers() -> None:
    assert Sublayers.model_validate([2, 1]) == Sublayers(attention=(1, 2), mlp=(1, 2))
    assert Sublayers.model_validate({"mlp": [0]}) == Sublayers(attention=(), mlp=(0,))


@given(st.integers(2, 3000), st.integers(1, 3000), st.integers(1, 5))
def test_a_trial_can_converge_and_is_evaluated_as_seldom_as_training_says(
    smoke: Params, steps: int, every: int, in_a_row: int
) -> None:
    training = smoke.training.model_copy(update={"evaluate_every": every, "converged_for": min(in_a_row, steps)})
    search = smoke.search.model_copy(update={"steps": steps})
    trial = smoke.model_copy(update={"training": training, "search": search}).trial_ablation({}).training
    assert trial.steps % trial.evaluate_every == 0
    assert trial.evaluate_every <= every
    assert trial.steps // trial.evaluate_every >= trial.converged_for
    if steps % every == 0 and steps // every >= trial.converged_for:
        assert trial.evaluate_every == every
