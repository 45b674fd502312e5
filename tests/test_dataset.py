"""Examples are the text in tokens, and a dataset on disk is complete, unaltered and the one asked for."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline import dataset, files
from pipeline.dataset import IGNORED_TARGET, encode_table
from pipeline.errors import UserError
from pipeline.tasks.registry import parse_task
from tests.conftest import task

VOCABULARY = list("$+=abc")
words = st.text(alphabet="abc+=", min_size=1, max_size=6)
tables = st.lists(st.tuples(words, words), min_size=1, max_size=8).map(
    lambda texts: pd.DataFrame(texts, columns=["prompt", "answer"])
)
ends = st.sampled_from(["", "$"])


def text(tokens: torch.Tensor) -> str:
    return "".join(VOCABULARY[token] for token in tokens[tokens != IGNORED_TARGET])


def test_an_example_by_hand() -> None:
    examples = encode_table(pd.DataFrame({"prompt": ["ab=", "b="], "answer": ["ca", "c"]}), VOCABULARY, "$")
    assert examples.tokens.tolist() == [[3, 4, 2, 5, 3], [4, 2, 5, 0, 0]]
    assert examples.positions.tolist() == [[2, 3, 4], [1, 2, 2]]
    assert examples.targets.tolist() == [[5, 3, 0], [5, 0, IGNORED_TARGET]]
    everywhere = examples.with_all_targets()
    assert everywhere.positions.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert everywhere.targets.tolist() == [[4, 2, 5, 3, 0], [2, 5, 0, IGNORED_TARGET, IGNORED_TARGET]]
    assert examples.prompt_lengths.tolist() == [3, 2]


@given(table=tables, end=ends)
def test_examples_are_the_text(table: pd.DataFrame, end: str) -> None:
    examples = encode_table(table, VOCABULARY, end)
    everywhere = examples.with_all_targets()
    for number, (prompt, answer) in enumerate(table.to_numpy().tolist()):
        whole = prompt + answer + end
        assert text(examples.tokens[number, : len(whole) - 1]) == whole[: examples.tokens.shape[1]][: len(whole) - 1]
        assert text(examples.targets[number]) == answer + end
        assert text(everywhere.targets[number]) == whole[1:]
        assert examples.positions[number, 0] == len(prompt) - 1
        assert examples.lengths[number] == len(whole)
        repeated = examples.positions[number, len(answer + end) - 1 :]  # a shorter answer repeats its last position
        assert (repeated == len(whole) - 2).all()


@given(table=tables, end=ends, more=st.integers(0, 5))
def test_padding_changes_neither_positions_nor_targets(table: pd.DataFrame, end: str, more: int) -> None:
    examples = encode_table(table, VOCABULARY, end)
    length = examples.tokens.shape[1]
    longer = encode_table(table, VOCABULARY, end, length=length + 1 + more)
    padding = torch.arange(length) >= examples.lengths[:, None]
    assert longer.tokens[:, :length][~padding].equal(examples.tokens[~padding])
    assert (longer.tokens[:, length + 1 :] == 0).all()
    assert longer.positions.equal(examples.positions)
    assert longer.targets.equal(examples.targets)
    assert longer.with_all_targets().targets[:, :length].equal(examples.with_all_targets().targets)
    assert (longer.with_all_targets().targets[:, length:] == IGNORED_TARGET).all()


def test_a_character_that_is_not_in_the_vocabulary_is_refused() -> None:
    with pytest.raises(UserError, match="'z'"):
        encode_table(pd.DataFrame({"prompt": ["a"], "answer": ["z"]}), VOCABULARY, "")


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        dataset.write(tmp_path / folder, task())
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_an_altered_a_missing_and_a_foreign_dataset_are_refused(tmp_path: Path) -> None:
    dataset.write(tmp_path, task())
    with pytest.raises(UserError, match=r"seed 1.*2"):
        dataset.read(tmp_path, task(seed=2))
    path = tmp_path / "train.csv"
    files.write_text(path, path.read_text().replace("1", "2", 1))
    with pytest.raises(UserError, match=r"train.csv"):
        dataset.read(tmp_path, task())
    path.unlink()
    with pytest.raises(UserError, match=r"train.csv.*python -m pipeline generate"):
        dataset.read(tmp_path, task())
    sizes = {"train_size": 9, "validation_size": 9, "test_size": 9}
    with pytest.raises(UserError, match=r"addition.*reverse"):
        dataset.read(tmp_path, parse_task({"name": "reverse", "digits": 3, **sizes}))
