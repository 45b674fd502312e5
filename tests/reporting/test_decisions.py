"""What the statistics of the report promise, seen in simulation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.params import Comparison
from pipeline.reporting import survival
from pipeline.reporting.experiment import comparisons, tables
from pipeline.reporting.intervals import exact_share_interval, interval_of_mean

BUDGET = 1600


def runs(**steps: Sequence[float]) -> pd.DataFrame:
    """Ablations whose seeds converged after so many steps; what took more than the budget did not."""
    rows = [
        {
            "ablation": name,
            "seed": seed,
            "steps_to_converge": taken if taken <= BUDGET else None,
            "test_exact_match": 1.0,
        }
        for name, times in steps.items()
        for seed, taken in enumerate(times)
    ]
    return pd.DataFrame(rows).astype({"steps_to_converge": "Float64"})


def times(generator: np.random.Generator, n: int = 8) -> np.ndarray:
    """Steps to converge of an ablation some of whose runs do not within the budget, in evaluations of 25."""
    return 25 * np.ceil(generator.lognormal(np.log(1100), 0.35, n) / 25)


def test_two_ablations_of_equal_truth_give_p_uniform() -> None:
    """So that p below any bound is no likelier than the bound."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        made = runs(one=times(generator), other=times(generator))
        scored = comparisons.pivot_by_seed("restricted_steps", made, BUDGET)
        found.append(comparisons.sign_flip_p_value(comparisons.differences_by_seed(scored, "one", "other")))
    for bound in (0.05, 0.1, 0.2, 0.5):
        assert stats.binomtest(sum(p <= bound for p in found), 400, bound, alternative="greater").pvalue > 0.01
    assert stats.kstest(found, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("n", [3, 8])
def test_t_intervals_cover_the_restricted_mean_and_its_differences(n: int) -> None:
    generator = np.random.default_rng(1)
    truth = np.minimum(times(generator, 200_000), BUDGET).mean()
    restricted = np.minimum(times(generator, 2000 * n), BUDGET).reshape(-1, n)
    low, high = interval_of_mean(restricted.mean(1), restricted.std(1, ddof=1), np.full(2000, n))
    assert ((low <= truth) & (truth <= high)).mean() >= 0.9
    paired = restricted[::2] - restricted[1::2]
    low, high = interval_of_mean(paired.mean(1), paired.std(1, ddof=1), np.full(1000, n))
    assert ((low <= 0) & (high >= 0)).mean() >= 0.9


@pytest.mark.parametrize("n", [3, 8])
@pytest.mark.parametrize("truth", [0.05, 0.5, 0.9])
def test_intervals_of_shares_cover(n: int, truth: float) -> None:
    chances = stats.binom(n, truth).pmf(np.arange(n + 1))
    covered = [low <= truth <= high for low, high in (exact_share_interval(k, n) for k in range(n + 1))]
    assert chances[covered].sum() >= 0.95


def test_restricted_steps_leave_no_run_out() -> None:
    made = runs(one=[400, 900, 2000, 1600])
    assert survival.restricted_steps(made, 1600).tolist() == [400, 900, 1600, 1600]
    assert survival.restricted_steps(made, 600).tolist() == [400, 600, 600, 600]


def declared(count: int, measure: str = "restricted_steps") -> list[Comparison]:
    return [Comparison.model_validate({"first": f"a{i}", "second": "b", "quantity": measure}) for i in range(count)]


def decided(seeds: int, count: int, few: int = 0) -> pd.DataFrame:
    """`count` ablations that are slower than another in every seed, the first `few` of three seeds only."""
    own = [3 if i < few else seeds for i in range(count)]
    made = runs(
        b=[500 + 25 * k for k in range(seeds)],
        **{f"a{i}": [1000 + 25 * k for k in range(n)] for i, n in enumerate(own)},
    )
    rows = [
        {"measure": measure, "first": f"a{i}", "second": "b", "budget": BUDGET, "seeds": n}
        for measure in ("restricted_steps", "test_exact_match")
        for i, n in enumerate(own)
    ]
    return comparisons.add_p_values(pd.DataFrame(rows), declared(count), made)


@pytest.mark.parametrize(
    ("seeds", "count", "told"), [(8, 1, True), (8, 6, True), (8, 7, False), (5, 1, False), (6, 1, True), (3, 1, False)]
)
def test_no_p_value_where_it_could_not_decide(seeds: int, count: int, told: bool) -> None:
    steps = decided(seeds, count).query("measure == 'restricted_steps'")
    assert steps["p_holm"].notna().all() == told
    if told:
        assert (steps["p_holm"] < comparisons.SIGNIFICANCE_LEVEL).all()


def test_seeds_that_are_asked_for_are_enough_for_the_test_that_decides() -> None:
    """Not for another one, which could say more with few seeds."""
    alpha, effect = comparisons.SIGNIFICANCE_LEVEL / 6, 1.66
    drawn = np.random.default_rng(3)
    seen = np.mean([comparisons.sign_flip_p_value(drawn.normal(effect, 1, 8)) <= alpha for _ in range(400)])
    assert comparisons.sign_flip_power(effect, 8, alpha) == pytest.approx(seen, abs=0.08)
    assert seen < comparisons.TARGET_POWER
    for spread in (0.1, 0.5, 1.0):
        found = comparisons.seeds_needed(1.0 + spread * np.linspace(-1, 1, 8), alpha)
        assert comparisons.smallest_p_value(int(found)) <= alpha
    assert np.isnan(comparisons.seeds_needed(np.linspace(-1, 1, 8), alpha))


def test_only_what_is_declared_is_decided_and_holm_counts_all_of_it() -> None:
    table = decided(8, 4)
    described = table[table["measure"] == "test_exact_match"]
    assert described[["p", "p_holm", "p_least", "p_log_rank", "p_log_rank_holm"]].isna().all(axis=None)
    steps = table[table["measure"] == "restricted_steps"]
    assert steps["p_least"].tolist() == [pytest.approx(4 * 2**-7)] * 4
    assert (steps["p_log_rank_holm"] >= steps["p_log_rank"]).all()
    assert steps["p"].tolist() == [pytest.approx(2**-7)] * 4
    assert steps["p_holm"].tolist() == [pytest.approx(4 * 2**-7)] * 4
    assert (steps["p_log_rank"] < 0.01).all()


def test_holm_counts_what_too_few_seeds_cannot_decide() -> None:
    steps = decided(8, 4, few=3).query("measure == 'restricted_steps'")
    assert steps["p_holm"].isna().tolist() == [True, True, True, False]
    assert steps["p_holm"].iloc[3] == pytest.approx(4 * 2**-7)
    assert steps["p_log_rank_holm"].iloc[3] == pytest.approx(4 * steps["p_log_rank"].iloc[3])


@pytest.mark.parametrize(
    ("curve", "rising"),
    [
        (np.linspace(0, 0.8, 36), True),
        (0.4 + 0.005 * np.sin(np.arange(36) * 2.1), False),
        (np.zeros(36), False),
        (np.linspace(0.9, 0.5, 36), False),
        (np.concatenate((np.zeros(30), np.linspace(0.01, 0.4, 6))), True),
    ],
)
def test_a_run_that_still_rises_is_marked(curve: np.ndarray, rising: bool) -> None:
    assert tables.is_rising(pd.Series(curve)) == rising


def test_a_flat_run_is_seldom_called_rising() -> None:
    generator = np.random.default_rng(2)
    flat = generator.binomial(1000, 0.4, (500, 64)) / 1000
    assert np.mean([tables.is_rising(pd.Series(curve)) for curve in flat]) < 0.03
