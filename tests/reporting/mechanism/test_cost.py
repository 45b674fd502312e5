"""Laws of the section about the cost: a run that never converged is censored, never counted as converged."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting.mechanism.cost import median_steps, not_yet_converged, section
from pipeline.reporting.mechanism.finding import Measured
from tests.reporting.mechanism.synthetic_costs import grid, measured
from tests.reporting.synthetic import cell

PNG = b"\x89PNG\r\n\x1a\n"


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_the_share_left_is_that_of_the_censored_runs(converged: list[bool]) -> None:
    curve = not_yet_converged(cell("x", [1.0 if done else 0.5 for done in converged]), "x")
    assert sum(curve.status) == sum(converged)
    left = [1.0, *curve.surv_prob][-1]  # all that converge do so before the others end
    assert left == pytest.approx(1 - np.mean(converged))


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_no_median_unless_more_than_half_converge(converged: list[bool]) -> None:
    runs = cell("x", [1.0 if done else 0.5 for done in converged])
    median = median_steps(not_yet_converged(runs, "x"))
    assert (median is not None) == (2 * sum(converged) > len(converged))


def test_of_runs_that_all_converge_the_median_is_theirs() -> None:
    runs = cell("x", [1.0, 1.0, 1.0]).assign(steps_to_converge=[300.0, 100.0, 200.0])
    assert median_steps(not_yet_converged(runs, "x")) == 200


def test_a_diverged_run_does_not_leave_the_count() -> None:
    runs = cell("x", [0.0, 0.0, 1.0]).assign(diverged=[1, 1, 0], steps=[50, 60, 1000])
    curve = not_yet_converged(runs, "x")
    assert median_steps(curve) is None
    assert curve.surv_prob[-1] == pytest.approx(2 / 3)


def test_the_table_says_what_is_not_reached() -> None:
    rows = {row[0]: row for row in section(measured(grid())).section.tables[-1].rows}
    assert rows["`none-full`"][3:] == ["0/3", "not reached in 2,000", "not reached"]
    assert rows["`none-causal`"][3:] == ["3/3", "1,100 (1,000 to 1,200)", "3.3 TFLOP"]


def test_what_is_saved_and_risked_comes_from_the_numbers() -> None:
    runs = grid()
    finding = section(measured(runs))
    assert "1,000 of 151,000 parameters (0.7%) and no FLOPs" in (finding.short or "")
    assert "1.00 times the steps" in (finding.short or "")
    runs["steps_to_converge"] *= np.where(runs["ablation"] == "none-causal", 3.0, 1.0)
    assert "3.00 times the steps" in (section(measured(runs)).short or "")
    advice = finding.section.tables[0].rows
    assert [row[0] for row in advice] == [
        "learned PE, causal",
        "no PE, causal mask only",
        "learned PE, full",
        "no PE, full attention",
    ]
    assert advice[-1][5:] == ["–", "0", "–"]


def test_runs_that_do_not_converge_have_no_ratio() -> None:
    runs = pd.concat([cell("a", [1.0, 1.0], positional="rotary"), cell("b", [0.5, 0.5])], ignore_index=True)
    assert "no seed converged in both" in (section(measured(runs)).short or "")


@pytest.mark.parametrize("positional", ["none", "learned"])
def test_one_cell_with_one_seed(positional: str) -> None:
    finding = section(measured(cell("only", [0.5], positional=positional)))
    assert finding.short is None
    assert "This grid lacks a cell with" in " ".join(finding.section.paragraphs)
    assert finding.section.tables


def test_without_flops_the_steps_are_still_told() -> None:
    runs = grid()
    finding = section(Measured({}, runs, measured(runs).cells))
    assert "not measured here" in " ".join(finding.section.paragraphs)
    assert list(finding.images) == ["not_yet_converged.png"]
    assert finding.short is not None


def test_figures_are_png_and_the_same_twice() -> None:
    first, second = section(measured(grid())), section(measured(grid()))
    assert first.images == second.images
    assert set(first.images) == {"not_yet_converged.png", "training_flops.png"}
    assert all(image.startswith(PNG) for image in first.images.values())
