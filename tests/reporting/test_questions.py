"""Answers are written from the numbers, from cells found by what they are, and say when the grid has none."""

import re

import pandas as pd
import pytest

from pipeline.reporting import comparisons, questions, tables
from pipeline.reporting.evidence import Answer, Evidence
from pipeline.reporting.wording import percent
from tests.reporting.synthetic import CEILING, cell, grid, order_blind


def evidence(runs: pd.DataFrame) -> Evidence:
    return Evidence(runs, tables.ablations(runs, CEILING, order_blind(runs)), CEILING)


def text(answer: Answer) -> str:
    rows = [word for table in answer.tables for row in table.rows for word in row]
    return " ".join([answer.short or "", *answer.paragraphs, *rows])


def test_every_question_is_answered_by_a_grid_that_has_the_cells() -> None:
    assert len(answers := questions.answers(evidence(grid()))) == 5
    assert all(answer.short for answer in answers)


@pytest.mark.parametrize(
    ("lacking", "place", "named"),
    [
        (["none-causal"], 0, "`positional: none`, `attention: causal`"),
        (["none-full"], 1, "`positional: none`, `attention: full`"),
        (["none-causal-1-layer", "none-causal-2-layers"], 2, "`layers: 1`"),
        ([name for name in grid()["ablation"] if "no-residual" in name], 3, "`residual_free`"),
        (["none-causal-adamw"], 4, "`optimizer`"),
    ],
)
def test_a_grid_without_the_cells_says_which_would_do(lacking: list[str], place: int, named: str) -> None:
    runs = grid()
    answer = questions.QUESTIONS[place](evidence(runs[~runs["ablation"].isin(lacking)]))
    assert answer.short is None
    assert "lacks a cell" in text(answer)
    assert named in text(answer)


def test_names_mean_nothing() -> None:
    runs = grid()
    names = {name: f"cell-{place}" for place, name in enumerate(dict.fromkeys(runs["ablation"]))}
    renamed = runs.assign(ablation=runs["ablation"].map(names))
    for answer, other in zip(questions.answers(evidence(runs)), questions.answers(evidence(renamed)), strict=True):
        expected = re.sub(r"`([a-z0-9-]+)`", lambda name: f"`{names.get(name[1], name[1])}`", text(answer))
        assert text(other) == expected


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("none-causal", 0),
        ("learned-causal", 0),
        ("none-full", 1),
        ("learned-full", 1),
        ("none-causal-1-layer", 2),
        ("none-causal-no-residual-0-1", 3),
        ("none-causal-adamw", 4),
    ],
)
def test_other_results_make_another_answer(name: str, place: int) -> None:
    runs = grid()
    other = runs.copy()
    other.loc[other["ablation"] == name, ["converged", "test_exact_match"]] = [0, 0.0205]
    before, after = (text(questions.QUESTIONS[place](evidence(table))) for table in (runs, other))
    assert before != after
    assert percent(0.0205) in after
    assert percent(0.0205) not in before


def test_every_share_in_the_words_is_one_of_the_tables() -> None:
    known = evidence(grid())
    shares = known.cells.filter(regex="test_exact_match|converged_|blind_ceiling$").to_numpy(float).ravel()
    printed = {percent(share) for share in shares} | {f"{share:.0%}" for share in shares if share == share} | {"95%"}
    for answer in questions.answers(known):
        found = set(re.findall(r"[\d.]+%", " ".join([answer.short or "", *answer.paragraphs])))
        assert found <= printed


def test_a_run_above_the_ceiling_is_called_a_bug() -> None:
    runs = grid()
    runs.loc[runs["ablation"] == "none-full", "test_exact_match"] = 0.5
    answer = questions.without_mask(evidence(runs))
    assert "bug in the instrument" in (answer.short or "")
    assert "3 of 3 runs beat the order-blind ceiling" in text(answer)


def test_the_smallest_grid_is_described() -> None:
    answers = questions.answers(evidence(cell("only", [0.5])))
    assert "converged in 0 of 1 run" in (answers[0].short or "")
    assert [bool(answer.short) for answer in answers] == [True, False, False, False, False]


def test_differences_are_taken_seed_by_seed() -> None:
    runs = pd.concat([cell("a", [0.9, 0.8, 0.7]), cell("b", [0.8, 0.7])])
    found = comparisons.paired(runs, "a", "b")
    assert found is not None
    assert (found.seeds, round(found.low, 6), round(found.high, 6)) == (2, 0.1, 0.1)
    assert found.p == comparisons.smallest_p(2) == 0.5
    other = comparisons.paired(runs, "b", "a")
    assert other is not None
    assert (other.median, other.p) == (-found.median, found.p)


def test_cells_without_a_shared_seed_are_not_compared() -> None:
    runs = pd.concat([cell("a", [0.9]), cell("b", [0.8]).assign(seed=5)])
    assert comparisons.paired(runs, "a", "b") is None
    words, found = comparisons.compared(runs, [("a", "b")])
    assert "share no seed" in words[0]
    assert not found


def test_more_comparisons_make_each_less_sure() -> None:
    runs = pd.concat([cell("a", [0.9] * 8), cell("b", [0.8] * 8), cell("c", [0.7] * 8)])
    alone = comparisons.paired(runs, "a", "b")
    both = comparisons.corrected([alone, comparisons.paired(runs, "a", "c"), None])
    assert alone is not None
    assert both[0] is not None
    assert both[2] is None
    assert both[0].p == pytest.approx(2 * alone.p)
