"""Every mistake in `params.yaml` is refused in one line that names the key, what was given and what is allowed."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.params import ResidualFree, read
from pipeline.refusal import Refused
from tests.conftest import PRESETS


def written(folder: Path, *path: str, value: Any) -> Path:
    """The smoke preset with one value changed."""
    content = YAML(typ="safe", pure=True).load((PRESETS / "smoke.yaml").read_text())
    section = content
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    YAML().dump(content, folder / "params.yaml")
    return folder / "params.yaml"


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_is_a_valid_experiment(preset: str) -> None:
    params = read(PRESETS / f"{preset}.yaml")
    assert [cell.name for cell in params.cells()] == list(params.ablations)


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
        (("model", "positional_every_layer"), True, "only learned and sinusoidal"),
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
        (("training", "optimizer"), "sgd", "training.optimizer: must be 'adamw' or 'muon', not 'sgd'"),
        (("task", "digits"), 0, "task.digits: must be greater than or equal to 1, not 0"),
        (("ablations",), {}, "ablations: the grid is empty"),
        (("ablations",), {"No PE": {}}, "the name 'No PE' is not allowed"),
        (("ablations",), {"a": {"modle": {}}}, "ablations.a.modle: unknown key; did you mean 'model'?"),
        (
            ("ablations",),
            {"a": {"model": {"layrs": 2}}},
            "ablations.a.model.layrs: unknown key; did you mean 'layers'",
        ),
        (
            ("ablations",),
            {"a": {"model": {"residual_free": [9]}}},
            "ablations.a.model: residual_free: there is no layer 9",
        ),
        (("tracking", "uri"), "mlruns", "tracking.uri"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, path: tuple[str, ...], value: Any, said: str) -> None:
    with pytest.raises(Refused) as refusal:
        read(written(tmp_path, *path, value=value))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


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
    with pytest.raises(Refused, match=said):
        read(tmp_path / "params.yaml")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="pipeline preset laptop"):
        read(tmp_path / "params.yaml")


def test_numbers_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    text = (PRESETS / "smoke.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("weight_decay: 0.1", "weight_decay: 1e-3"))
    assert "1e-3" in path.read_text()
    assert read(path).training.weight_decay == 0.001


def test_a_list_of_layers_means_both_sublayers() -> None:
    both = ResidualFree.model_validate([2, 1])
    assert both == ResidualFree(attention=(1, 2), mlp=(1, 2))
    assert ResidualFree.model_validate({"mlp": [0]}) == ResidualFree(attention=(), mlp=(0,))


def test_an_unknown_ablation_is_refused_with_the_nearest_name(smoke: Any) -> None:
    with pytest.raises(Refused, match="did you mean 'none-causal'"):
        smoke.cell("none-casual")
