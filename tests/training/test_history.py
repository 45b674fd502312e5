"""What the history says of each member."""

import pandas as pd
import pytest

from pipeline.training.history import COLUMNS, outcomes


def history(*rows: tuple[int, int, float, int]) -> pd.DataFrame:
    """From (seed, step, validation exact match, diverged)."""
    records = [
        {"seed": seed, "step": step, "validation_exact_match": exact, "diverged": diverged}
        for seed, step, exact, diverged in rows
    ]
    return pd.DataFrame(records, columns=list(COLUMNS))


def test_a_row_per_seed_in_order_of_appearance() -> None:
    table = outcomes(history((7, 50, 0.1, 0), (3, 50, 0.2, 0), (7, 100, 0.3, 0), (3, 100, 0.4, 0)), 0.99)
    assert table["seed"].tolist() == [7, 3]
    assert table["steps"].tolist() == [100, 100]
    assert table["validation_exact_match"].tolist() == [0.3, 0.4]


def test_convergence_is_the_first_evaluation_that_reaches_the_threshold() -> None:
    """And is not undone by a later, worse one."""
    table = outcomes(history((1, 50, 0.98, 0), (1, 100, 0.99, 0), (1, 150, 1.0, 0), (1, 200, 0.5, 0)), 0.99)
    found = table[["converged", "steps_to_converge", "steps", "validation_exact_match"]]
    assert found.to_numpy(float).tolist() == [[1, 100, 200, 0.5]]


@pytest.mark.parametrize("diverged", [0, 1])
def test_a_member_that_never_converged_has_no_step(diverged: int) -> None:
    table = outcomes(history((1, 50, 0.5, 0), (1, 100, 0.0, diverged)), 0.99)
    assert table.loc[0, "converged"] == 0
    assert table["steps_to_converge"].isna().tolist() == [True]
    assert table.loc[0, "diverged"] == diverged


def test_steps_stay_whole_numbers_in_a_table_of_both_kinds() -> None:
    table = outcomes(history((1, 50, 1.0, 0), (2, 50, 0.0, 0)), 0.99)
    assert table["steps_to_converge"].astype("string").fillna("").tolist() == ["50", ""]


def test_members_do_not_feel_their_neighbours() -> None:
    first, second = history((1, 50, 0.5, 0), (1, 100, 1.0, 0)), history((2, 50, 0.0, 1))
    together = outcomes(pd.concat([first, second]), 0.99)
    alone = pd.concat([outcomes(one, 0.99) for one in (first, second)], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)
