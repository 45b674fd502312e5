"""Every task is as `Task` describes it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import dataset
from pipeline.errors import UserError
from pipeline.measurement.common.scoring import score_on_test_split
from pipeline.params import Params, Task
from pipeline.params.score import BITS
from pipeline.reporting.ceiling import order_blind_ceiling
from pipeline.tasks.registry import TASKS, parse_task
from pipeline.training.fit import fit
from pipeline.transformer.model import Transformer
from tests.conftest import training

SIZES = {"train": 60, "validation": 20, "test": 15}
OPTIONS: dict[str, list[dict[str, object]]] = {
    "addition": [
        {"digits": 2},
        {"digits": 2, "zero_pad": False, "reverse": False},
        {"digits": 2, "zero_pad": False, "delimiters": True, "sampling": "balanced"},
    ],
    "reverse": [{"digits": 3}],
    "sort": [{"digits": 3}],
    "index": [{"digits": 2}, {"digits": 3}],
    "paridy": [{"bits": 8}],
    "parity": [{"bits": 8}],
    "s3": [{"elements": 3}, {"elements": 4}],
    "z6": [{"elements": 3}, {"elements": 4}],
    "text": [{"window": 12}, {"window": 12, "shuffled": True}],
    "series": [{"window": 8}, {"window": 8, "shuffled": True}],
}
"""Task -> options with few enough examples to enumerate them all, where that is possible; without an entry, none."""

pytestmark = pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, id=f"{name}-{number}")
        for name in TASKS
        for number, options in enumerate(OPTIONS.get(name, [{}]))
    ],
)


def task_of(name: str, options: dict[str, object], sizes: dict[str, int] = SIZES) -> Task:
    return parse_task({"name": name, **options, **{f"{split}_size": size for split, size in sizes.items()}})


@pytest.fixture
def task(name: str, options: dict[str, object]) -> Task:
    return task_of(name, options)


def drawn(task: Task) -> pd.DataFrame:
    return pd.concat(task.draw_splits(), ignore_index=True)


def enumerated(task: Task) -> tuple[pd.DataFrame, np.ndarray]:
    """All examples and their probabilities; skips a test of a task scored in bits, which cannot enumerate them."""
    result = task.enumerate_examples()
    if task.score == BITS:
        assert result is None
        pytest.skip("the examples cannot be enumerated")
    assert result is not None, "too many examples to enumerate under the options in OPTIONS"
    return result


def test_equal_options_give_equal_splits_and_another_seed_gives_others(
    task: Task, name: str, options: dict[str, object]
) -> None:
    again, other = (task_of(name, options | {"seed": seed}) for seed in (task.seed, task.seed + 1))
    assert again == task
    assert task.name == name
    assert task.description
    pd.testing.assert_frame_equal(drawn(task), drawn(again))
    assert not drawn(task).equals(drawn(other))


def test_splits_have_their_sizes_and_share_no_prompt(task: Task) -> None:
    splits = task.draw_splits()
    assert [(split, len(table)) for split, table in splits.items()] == list(SIZES.items())
    assert not drawn(task)["prompt"].duplicated().any()


def test_the_vocabulary_is_sorted_and_has_every_character(task: Task) -> None:
    assert all(len(character) == 1 for character in task.vocabulary)
    assert all(character < following for character, following in pairwise(task.vocabulary))
    table = drawn(task)
    assert set("".join(table["prompt"] + table["answer"]) + task.end_token) <= set(task.vocabulary)


def test_every_character_of_the_longest_answer_has_a_name(task: Task) -> None:
    examples = drawn(task) if task.score == BITS else enumerated(task)[0]
    assert len(task.end_token) <= 1
    assert len(set(task.answer_position_names)) == len(task.answer_position_names)
    assert len(task.answer_position_names) == examples["answer"].str.len().max() + len(task.end_token)


def test_answers_of_different_lengths_are_closed_by_a_character_that_no_answer_has(task: Task) -> None:
    """Else decoding could not know where an answer ends."""
    answers = enumerated(task)[0]["answer"]
    if task.end_token:
        assert not answers.str.contains(task.end_token, regex=False).any()
    else:
        assert answers.str.len().nunique() == 1


def test_strata_have_the_declared_values(task: Task) -> None:
    for table in (drawn(task), enumerated(task)[0]):
        assert all(set(table[column]) <= set(values) for column, values in task.strata.items())


def test_all_examples_are_enumerated_once_with_their_probability(task: Task) -> None:
    table, probability = enumerated(task)
    assert probability.min() >= 0
    assert probability.sum() == pytest.approx(1.0)
    assert not table["prompt"].duplicated().any()  # so a prompt has one answer
    examples = drawn(task)
    same = table.set_index("prompt").loc[examples["prompt"]].reset_index()[examples.columns]
    pd.testing.assert_frame_equal(same, examples)
    impossible = set(table["prompt"][probability == 0])
    assert impossible.isdisjoint(task.draw_splits()["test"]["prompt"])


def test_order_matters_where_the_best_order_blind_predictor_is_not_perfect(task: Task) -> None:
    enumerated(task)
    assert (order_blind_ceiling(task) == 1.0) == (not task.order_matters)


def test_more_examples_than_exist_are_refused_in_one_line(name: str, options: dict[str, object], task: Task) -> None:
    existing = len(enumerated(task)[0])
    with pytest.raises(UserError, match="more examples") as error:
        task_of(name, options, SIZES | {"train": existing}).draw_splits()
    assert "\n" not in str(error.value)


def test_it_can_be_written_read_trained_and_scored(task: Task, tmp_path: Path, smoke: Params) -> None:
    dataset.write(tmp_path, task)
    data = dataset.read(tmp_path, task)
    assert (data.task, data.vocabulary) == (task, task.vocabulary)
    for split, table in task.draw_splits().items():
        pd.testing.assert_frame_equal(data.tables[split], table.reset_index(drop=True), check_dtype=False)
    short = training(seeds=[1], steps=2, evaluate_every=2)
    ablation = smoke.all_ablations()[0].model_copy(update={"task": task, "training": short})
    trained = fit(ablation, data)
    assert trained.history["diverged"].tolist() == [0]
    transformer = Transformer(ablation.model, vocabulary=len(data.vocabulary), length=data.input_length)
    transformer.load_state_dict(trained.weights[1])
    columns = score_on_test_split(transformer.eval(), data)
    assert columns["test_examples"] == SIZES["test"]
    if task.score == BITS:
        assert 0 < columns["test_bits"] < 20
        return
    for column, values in task.strata.items():
        counts = {f"{column}_{value}": columns[f"{column}_{value}_examples"] for value in values}
        right = sum(columns[stratum] * count for stratum, count in counts.items() if count)
        assert sum(counts.values()) == SIZES["test"]
        assert right == pytest.approx(columns["test_exact_match"] * SIZES["test"])
    numbers = range(1, len(task.answer_position_names) + 1)
    by_position = [columns[f"{task.answer_unit}_{number}"] for number in numbers]
    assert all(0 <= share <= 1 for share in by_position)
    assert columns["test_exact_match"] <= by_position[0]  # every answer has a first character
