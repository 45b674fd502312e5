"""The promises of `Task`, kept by every task there is."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import dataset
from pipeline.errors import UserError
from pipeline.params import Params, Task
from pipeline.params.score import BITS
from pipeline.params.task import SPLITS
from pipeline.reporting.experiment.ceiling import ceiling
from pipeline.stages.evaluate import SCORE_FUNCTIONS
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
    "modp": [{}],
    "mod3": [{}],
    "paridy": [{"bits": 8}],
    "parity": [{"bits": 8}],
    "s3": [{"elements": 3}, {"elements": 4}],
    "z6": [{"elements": 3}, {"elements": 4}],
    "text": [{"window": 12}, {"window": 12, "shuffled": True}],
    "series": [{"window": 8}, {"window": 8, "shuffled": True}],
}
"""Task -> small options under which it is tried: of few enough problems to list them all, if that can be done."""
TRIED = [
    pytest.param(name, options, id=f"{name}-{number}")
    for name in TASKS
    for number, options in enumerate(OPTIONS.get(name, [{}]))
]


@pytest.fixture
def chosen(name: str, options: dict[str, object]) -> Task:
    assert name in OPTIONS, f"the task {name!r} is tried under no options: give it a line in OPTIONS"
    return asked(name, options, SIZES)


def asked(name: str, options: dict[str, object], sizes: dict[str, int]) -> Task:
    return section_of(name, options, sizes)


def section_of(name: str, options: dict[str, object], sizes: dict[str, int] = SIZES) -> Task:
    return parse_task({"name": name, **options, **{f"{split}_size": size for split, size in sizes.items()}})


def everything(chosen: Task) -> pd.DataFrame:
    return pd.concat(chosen.splits(), names=["split"]).reset_index("split")


pytestmark = pytest.mark.parametrize(("name", "options"), TRIED)


def test_it_is_a_task_of_its_name(name: str, chosen: Task) -> None:
    assert isinstance(chosen, Task)
    assert chosen.name == name
    assert chosen.words


def test_the_same_section_gives_the_same_splits_and_another_seed_others(
    chosen: Task, name: str, options: dict[str, object]
) -> None:
    again, other = (asked(name, options | {"seed": seed}, SIZES) for seed in (chosen.seed, chosen.seed + 1))
    pd.testing.assert_frame_equal(everything(chosen), everything(again))
    assert not everything(chosen).equals(everything(other))


def test_splits_are_of_the_sizes_asked_for_and_share_no_prompt(chosen: Task) -> None:
    splits = chosen.splits()
    assert list(splits) == list(SPLITS)
    assert {split: len(table) for split, table in splits.items()} == SIZES
    assert not everything(chosen)["prompt"].duplicated().any()


def test_the_vocabulary_is_sorted_and_holds_every_character(chosen: Task) -> None:
    assert all(len(character) == 1 for character in chosen.vocabulary)
    assert all(one < next_one for one, next_one in pairwise(chosen.vocabulary))
    table = everything(chosen)
    assert set("".join(table["prompt"] + table["answer"]) + chosen.end) <= set(chosen.vocabulary)


def test_there_is_a_place_for_every_character_of_the_longest_answer_and_its_end(chosen: Task) -> None:
    assert len(chosen.end) <= 1
    listed = everything(chosen) if chosen.score == BITS else _all(chosen)[0]
    longest = listed["answer"].str.len().max()
    assert len(chosen.answer_positions) == longest + len(chosen.end)
    assert len(set(chosen.answer_positions)) == len(chosen.answer_positions)


def test_answers_of_different_lengths_are_closed(chosen: Task) -> None:
    """Else a decoder could not know where an answer ends; and what closes one is in no answer."""
    answers = _all(chosen)[0]["answer"]
    if not chosen.end:
        assert answers.str.len().nunique() == 1
    else:
        assert not answers.str.contains(chosen.end, regex=False).any()


def test_strata_hold_the_values_they_declare(chosen: Task) -> None:
    for table in (everything(chosen), _all(chosen)[0]):
        for column, values in chosen.strata.items():
            assert set(table[column]) <= set(values)


def _all(chosen: Task) -> tuple[pd.DataFrame, np.ndarray]:
    found = chosen.enumerated()
    if chosen.score == BITS:
        assert found is None
        pytest.skip("nobody knows all that could be")
    assert found is not None, "too many problems to list under the options in OPTIONS"
    return found


def test_all_problems_are_listed_once_with_their_probability(chosen: Task) -> None:
    table, weight = _all(chosen)
    assert weight.min() >= 0
    assert weight.sum() == pytest.approx(1.0)
    assert not table["prompt"].duplicated().any()  # and so a prompt has one answer
    drawn = everything(chosen).drop(columns="split")
    listed = table.set_index("prompt").loc[drawn["prompt"]].reset_index()[drawn.columns]
    pd.testing.assert_frame_equal(listed, drawn.reset_index(drop=True))


def test_order_counts_where_the_best_without_it_is_not_enough(chosen: Task) -> None:
    """And in a twin the characters alone say it all."""
    _all(chosen)
    assert (ceiling(chosen) == 1.0) == (not chosen.order_matters)


def test_what_is_never_tested_has_no_probability(chosen: Task) -> None:
    table, weight = _all(chosen)
    impossible = set(table["prompt"][weight == 0])
    assert impossible.isdisjoint(chosen.splits()["test"]["prompt"])


def test_more_examples_than_exist_are_refused_in_one_line(name: str, options: dict[str, object], chosen: Task) -> None:
    existing = len(_all(chosen)[0])
    with pytest.raises(UserError) as refusal:
        asked(name, options, SIZES | {"train": existing}).splits()
    assert "more examples asked for than exist" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_written_is_what_is_read(chosen: Task, tmp_path: Path) -> None:
    dataset.write(tmp_path, chosen)
    data = dataset.read(tmp_path, chosen)
    assert (data.task, data.vocabulary, data.end) == (chosen, chosen.vocabulary, chosen.end)
    for split, table in chosen.splits().items():
        pd.testing.assert_frame_equal(data.tables[split], table.reset_index(drop=True), check_dtype=False)


def test_it_can_be_trained_and_scored(chosen: Task, tmp_path: Path, smoke: Params) -> None:
    dataset.write(tmp_path, chosen)
    data = dataset.read(tmp_path, chosen)
    short = training(seeds=[1], steps=2, evaluate_every=2)
    ablation = smoke.all_ablations()[0].model_copy(update={"task": chosen, "training": short})
    trained = fit(ablation, data)
    assert trained.history["diverged"].tolist() == [0]
    member = Transformer(ablation.model, vocabulary=len(data.vocabulary), length=data.length)
    member.load_state_dict(trained.weights[1])
    member.eval()
    columns = SCORE_FUNCTIONS[chosen.score](member, data)
    assert columns["test_examples"] == SIZES["test"]
    if chosen.score == BITS:
        assert 0 < columns["test_bits"] < 20
        return
    strata = [f"{name}_{value}" for name, values in chosen.strata.items() for value in values]
    assert sum(columns[f"{stratum}_examples"] for stratum in strata) == SIZES["test"] * len(chosen.strata)
    weighted = [columns[one] * columns[f"{one}_examples"] for one in strata if columns[f"{one}_examples"]]
    assert sum(weighted) == pytest.approx(columns["test_exact_match"] * SIZES["test"] * len(chosen.strata))
    by_place = [columns[f"{chosen.answer_unit}_{number}"] for number, _ in enumerate(chosen.answer_positions, start=1)]
    assert all(0 <= share <= 1 for share in by_place)
    assert columns["test_exact_match"] <= by_place[0]  # every answer has a first place
