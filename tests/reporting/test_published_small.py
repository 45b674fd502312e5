"""The comparison with the published runs pairs each ablation with its own runs and measures agreement."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

FOLDER = Path(__file__).parents[2] / "studies" / "published-small"
specification = importlib.util.spec_from_file_location("compare", FOLDER / "compare.py")
assert specification is not None
assert specification.loader is not None
compare = importlib.util.module_from_spec(specification)
specification.loader.exec_module(compare)


def test_every_published_run_is_beside_one_ablation_and_the_committed_tables_are_current(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    for name in ("comparison.csv", "agreement.csv", "comparison.md"):
        (tmp_path / name).unlink()
    compare.main(tmp_path)
    for name in ("comparison.csv", "agreement.csv", "comparison.md"):
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text(), name
    compared = pd.read_csv(tmp_path / "comparison.csv")
    usual = compared[compared["optimizer"] == compare.OPTIMIZER]
    assert (len(usual), usual["published_runs"].sum()) == (32, 218)
    assert (compared["published_min"] <= compared["published_median"]).all()
    assert (compared["published_median"] <= compared["published_max"]).all()


@pytest.mark.parametrize(("sign", "correlation"), [(1, 1.0), (-1, -1.0)])
def test_ablations_that_do_as_theirs_agree_and_ablations_that_do_the_contrary_do_not(
    sign: int, correlation: float
) -> None:
    table = pd.read_csv(FOLDER / "comparison.csv", keep_default_na=False).drop_duplicates("published_median")
    table["restricted_steps"] = -sign * table["published_median"]
    table["converged"] = table["runs"] * (table["published_median"] >= compare.LEARNED)
    found = compare.agreement(table)
    assert found["rank_correlation"].to_numpy() == pytest.approx(correlation)
    assert (found[["both", "neither"]].sum(axis=1) == found["ablations"]).all()
    assert (found[["only_ours", "only_theirs"]] == 0).all(axis=None)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_a_rank_correlation_is_covered_as_often_as_its_interval_says(rho: float) -> None:
    """For 32 ablations, half of which all but reach the best score, as theirs do."""
    random = np.random.default_rng(0)
    pairs = np.minimum(random.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=(1000, 32)), 0.5)
    many = np.minimum(random.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=100_000), 0.5)
    truth = stats.spearmanr(*many.T).statistic
    intervals = [compare.rank_correlation(*map(pd.Series, pair.T))[1:] for pair in pairs]
    assert 0.9 < np.mean([low <= truth <= high for low, high in intervals]) < 0.99


@given(seed=st.integers(0, 2**16))
def test_a_rank_correlation_depends_on_ranks_alone(seed: int) -> None:
    first, second = (pd.Series(values) for values in np.random.default_rng(seed).normal(size=(2, 12)))
    value, low, high = compare.rank_correlation(first, second)
    assert -1 <= low <= value <= high <= 1
    assert compare.rank_correlation(np.exp(first), second**3) == pytest.approx((value, low, high))
    assert compare.rank_correlation(first, -second) == pytest.approx((-value, -high, -low))
    assert np.isnan(compare.rank_correlation(first, pd.Series(np.ones(12)))).all()


@given(seed=st.integers(0, 2**16))
def test_what_two_sides_owe_to_a_third_alone_is_no_partial_correlation(seed: int) -> None:
    third, *noise = (pd.Series(values) for values in np.random.default_rng(seed).normal(size=(3, 200)))
    first, second = (10 * third + own for own in noise)
    assert compare.rank_correlation(first, second)[0] > 0.9
    partial, p = compare.partial_rank_correlation(first, second, [third])
    assert abs(partial) < 0.4
    assert 0 <= p <= 1
    assert compare.partial_rank_correlation(first, -second, [third]) == pytest.approx((-partial, p))
    constant = pd.Series(np.ones(200))
    ranks = [stats.rankdata(side) for side in noise]
    assert compare.partial_rank_correlation(*noise, [constant])[0] == pytest.approx(np.corrcoef(*ranks)[0, 1])
