"""Windows of real data, the same data shuffled, and files that a person brings along."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import dataset
from pipeline.errors import UserError
from pipeline.measurement.common.scoring import bits_per_token
from pipeline.params import Task
from pipeline.params.task import SPLITS
from pipeline.tasks.registry import parse_task
from pipeline.tasks.windows import MISSING_VALUE, SeriesWindows, WindowTask
from pipeline.training.population import build_initial_model
from tests.conftest import model

SIZES = {"train_size": 40, "validation_size": 10, "test_size": 10}


def task(name: str, **options: object) -> Task:
    return parse_task({"name": name, "window": 8, **SIZES, **options})


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], str]:
    """A file of this content; its path."""

    def write(content: bytes) -> str:
        (tmp_path / "mine").write_bytes(content)
        return str(tmp_path / "mine")

    return write


@pytest.mark.parametrize("name", ["text", "series"])
def test_shuffled_data_are_the_same_windows_with_all_tokens_but_the_last_in_another_order(name: str) -> None:
    ordered, shuffled = (task(name, shuffled=shuffled).draw_splits() for shuffled in (False, True))
    for split, table in ordered.items():
        other = shuffled[split]
        assert table["answer"].tolist() == other["answer"].tolist()
        assert table["prompt"].map(sorted).tolist() == other["prompt"].map(sorted).tolist()
        assert table["prompt"].str[-1].tolist() == other["prompt"].str[-1].tolist()
        assert (table["prompt"] != other["prompt"]).mean() > 0.9


@given(st.text("ab\x1f", max_size=60), st.integers(2, 5), st.integers(1, 9))
def test_windows_are_all_different_ones_without_a_gap_each_in_one_split(text: str, window: int, size: int) -> None:
    """As by a list of all windows. (In the text, the mark of a missing value stands for itself.)"""
    chosen = task("text", window=window, train_size=size)
    chosen.__dict__["sequence"] = text
    assert isinstance(chosen, WindowTask)
    seen, expected = set(), {}
    for split, part in zip(SPLITS, chosen.divide_into_splits(len(text)), strict=True):
        whole = {start: text[start : start + window + 1] for start in range(part.start, part.stop - window)}
        expected[split] = []
        for start, tokens in whole.items():
            if MISSING_VALUE not in tokens and tokens[:-1] not in seen:
                seen.add(tokens[:-1])
                expected[split].append(start)
    assert {split: list(starts) for split, starts in chosen.find_windows().items()} == expected


def test_long_windows_of_a_long_text_need_little_memory() -> None:
    """The text has as many windows as characters: 50,000 of 1,024 characters would take 50 MB."""
    chosen = task("text", window=1024)
    chosen.__dict__["sequence"] = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 50_000))
    tracemalloc.start()
    try:
        chosen.draw_splits()
        assert tracemalloc.get_traced_memory()[1] < 25e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["text", "series"])
@pytest.mark.parametrize(("switches", "blind"), [({"attention": "full"}, True), ({}, False)], ids=["full", "causal"])
def test_a_model_that_is_blind_to_order_predicts_shuffled_data_equally_well(
    name: str, switches: dict[str, object], blind: bool, tmp_path: Path
) -> None:
    """To rounding, example by example; another model does not."""
    scores = []
    for shuffled in (False, True):
        chosen, folder = task(name, shuffled=shuffled), tmp_path / str(shuffled)
        dataset.write(folder, chosen)
        data = dataset.read(folder, chosen)
        transformer = (
            build_initial_model(model(layers=3, **switches), seed=1, **data.transformer_arguments).double().eval()
        )
        with torch.inference_mode():
            scores.append(bits_per_token(transformer, data.examples["test"]))
    assert torch.allclose(*scores, rtol=0, atol=1e-12) == blind


def test_bits_are_those_of_the_distribution() -> None:
    """A model that says 1/4 for each of four tokens takes two bits a token, whatever they are."""
    rows = dataset.encode_table(pd.DataFrame({"prompt": ["ab", "cd"], "answer": ["c", "a"]}), list("abcd"), "")
    uniform = bits_per_token(lambda tokens, at: torch.zeros(*at.shape, 4), rows)
    assert uniform.tolist() == pytest.approx([2.0, 2.0])
    right = bits_per_token(
        lambda tokens, at: torch.log(torch.tensor([0.25, 0.125, 0.5, 0.125])).expand(*at.shape, 4), rows
    )
    assert right.tolist() == pytest.approx([1.0, 2.0])


@given(text=st.text(min_size=200, max_size=400))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_read_back_as_it_was_written(text: str, tmp_path: Path) -> None:
    """Quotes, commas, words such as `nan`: what a CSV file could take for something else."""
    path = tmp_path / "any.txt"
    path.write_text(f"nan, 'null' \"NA\" {text}", encoding="utf-8", errors="ignore")
    asked = parse_task(
        {"name": "text", "path": str(path), "window": 2, "train_size": 2, "validation_size": 1, "test_size": 1}
    )
    try:
        drawn = asked.draw_splits()
    except UserError:  # of too few different characters
        return
    dataset.write(tmp_path / "data", asked)
    read = dataset.read(tmp_path / "data", asked)
    for split, table in drawn.items():
        pd.testing.assert_frame_equal(read.tables[split], table, check_dtype=False)


def test_parts_follow_one_another_and_no_window_reaches_into_two(file: Callable[[bytes], str]) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 600)))  # no character twice
    order = {character: place for place, character in enumerate(text)}
    splits = task("text", path=file(text.encode())).draw_splits()
    last = {split: table["answer"].map(order).max() for split, table in splits.items()}
    first = {split: table["prompt"].str[0].map(order).min() for split, table in splits.items()}
    assert last["train"] < first["validation"]
    assert last["validation"] < first["test"]


def test_bins_are_equally_frequent_where_they_are_drawn_from(file: Callable[[bytes], str]) -> None:
    values = np.random.default_rng(1).standard_cauchy(2400)
    path = file(pd.DataFrame({"x": values, "name": "a"}).to_csv(index=False).encode())
    made = task("series", path=path, bins=8, differences=False)
    counts = pd.Series(list(made.sequence[:1600])).value_counts()  # type: ignore[attr-defined]
    assert counts.index.nunique() == 8
    assert counts.max() - counts.min() <= 1


def test_what_is_missing_in_a_series_is_in_no_window(file: Callable[[bytes], str]) -> None:
    drawn = np.random.default_rng(1).integers(100, size=900)
    values = ["" if place % 30 == 0 else str(value) for place, value in enumerate(drawn)]
    found = task("series", path=file("\n".join(["x,y", *(f"{v},1" for v in values)]).encode()), column="x")
    for table in found.draw_splits().values():
        assert set("".join(table["prompt"] + table["answer"])) <= set(found.vocabulary)


@pytest.mark.parametrize(
    ("name", "content", "options", "named"),
    [
        ("text", None, {}, ["task.path", "No such file"]),
        ("text", b"too short", {}, ["task.train_size", "40", "mine"]),
        ("text", b"", {}, ["task.train_size", "40", "mine"]),
        ("text", b"caf\xe9 " * 100, {}, ["task.path", "mine", "byte 3"]),
        ("series", None, {"column": "x"}, ["task.path", "No such file"]),
        ("series", b"\xff\xfe\x00", {}, ["task.path", "mine"]),
        ("series", b"x,y\n1,2\n3,4\n", {}, ["task.column", "x, y"]),
        ("series", b"x\na\nb\n", {}, ["task.path", "mine"]),
        ("series", b"x,y\n1,2\n3,4,5\n", {"column": "y"}, ["task.path", "mine", "line 3"]),
        ("series", b"price,y\n1,2\n", {"column": "prise"}, ["task.column", "'prise'", "'price'"]),
        ("series", b"x,y\n1,a\n", {"column": "y"}, ["task.column", "'y'"]),
        ("series", b"x,y\n1,inf\n2,3\n", {"column": "y"}, ["task.column", "'y'"]),
        ("series", b"x\n1\n2\n", {"column": "x"}, ["task.bins", "16", "mine"]),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(
    name: str,
    content: bytes | None,
    options: dict[str, object],
    named: list[str],
    file: Callable[[bytes], str],
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "missing") if content is None else file(content)
    with pytest.raises(UserError) as error:
        dataset.write(tmp_path / "data", task(name, path=path, **options))
    assert all(words in str(error.value) for words in named), error.value
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.encode(),
        lambda text: text.replace(",", ";").replace(".", ",").encode(),
        lambda text: text.replace("\n", ",\n").replace("volume,", "volume").encode(),
        lambda text: text.encode("utf-16"),
        lambda text: gzip.compress(text.encode()),
    ],
    ids=["plain", "semicolons and decimal commas", "a comma at the end of each row", "UTF-16", "gzip"],
)
def test_a_path_in_params_is_read_however_people_write_tables_and_texts(
    tmp_path: Path, write: Callable[[str], bytes]
) -> None:
    values = np.random.default_rng(0).normal(100, 9, 200).round(2)
    table = "day,close,volume\n" + "".join(f"Mon,{value},{day}\n" for day, value in enumerate(values))
    content = write(table)
    path = tmp_path / ("table.txt.gz" if content[:2] == b"\x1f\x8b" else "table.txt")
    path.write_bytes(content)
    series, text = task("series", path=str(path), column="close"), task("text", path=str(path))
    assert isinstance(series, SeriesWindows)
    assert isinstance(text, WindowTask)
    assert series.read_values().tolist() == values.tolist()
    assert text.sequence.startswith("day")


def test_a_column_of_no_file_is_refused() -> None:
    with pytest.raises(UserError, match="column: 'x'"):
        task("series", column="x")
