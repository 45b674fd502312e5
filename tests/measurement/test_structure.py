"""Adjacency, correlation ratio, effective rank and gradient norms on models and arrays whose answer is known."""

import numpy as np
import pytest
import torch

from pipeline.measurement import adjacency, correlation_ratio, effective_rank
from pipeline.measurement.cost import cost
from pipeline.measurement.gradient_norm import gradient_norm
from tests.measurement.hand_set import LENGTH, counting, numbers, silent, subject, uniform, untrained


@pytest.mark.parametrize("made", [untrained(attention="full"), silent(attention="full")])
def test_adjacency_is_chance_without_encoding_and_mask(made) -> None:
    table = adjacency.adjacency(subject(made, count=3000, attention="full"))
    np.testing.assert_allclose(numbers(table, "adjacency", rows="random"), 0.5, atol=0.015)


def test_adjacency_is_chance_of_states_that_are_all_equal() -> None:
    assert adjacency.score(torch.ones(2, 5, LENGTH, 8)).tolist() == [0.5, 0.5]


def test_adjacency_is_one_where_states_turn_steadily() -> None:
    angle = torch.arange(LENGTH) / LENGTH
    stream = torch.stack((angle.cos(), angle.sin()), dim=-1)[None, None]
    assert adjacency.score(stream).item() == 1.0
    assert adjacency.score(stream.flip(-2)).item() == 1.0  # it is about nearness, not direction
    scattered = stream[:, :, [0, 6, 1, 5, 2, 4, 3]]
    assert adjacency.score(scattered).item() < 1.0


def test_adjacency_does_not_feel_the_size_of_states() -> None:
    stream = torch.randn(3, 50, LENGTH, 8)
    sizes = torch.rand(3, 50, LENGTH, 1) + 0.5
    torch.testing.assert_close(adjacency.score(stream), adjacency.score(stream * sizes))


def test_causal_averaging_makes_neighbours_alike() -> None:
    made = uniform(layers=1, residual_free={"attention": [0], "mlp": []})
    table = adjacency.adjacency(subject(made, layers=1))
    assert numbers(table, "adjacency", rows="random", depth=0).item() == pytest.approx(0.5, abs=0.03)
    assert numbers(table, "adjacency", rows="random", depth=1).item() > 0.7


def test_correlation_ratio_of_noise_is_one_over_the_other_positions() -> None:
    noise = torch.randn(4000, LENGTH, 8, generator=torch.Generator().manual_seed(0))
    assert correlation_ratio.ratio(noise).item() == pytest.approx(1 / (LENGTH - 1), rel=0.1)


def test_correlation_ratio_is_large_for_independent_slices_and_small_for_mixed_ones() -> None:
    own = numbers(correlation_ratio.correlation_ratio(subject(silent(), count=2000)), "ratio")
    assert own.min() > 1
    np.testing.assert_allclose(own, own[0])  # silent layers change nothing
    alike = torch.randn(500, 1, 8).expand(500, LENGTH, 8)
    assert correlation_ratio.ratio(alike).item() == pytest.approx(_of_equal_positions(alike), rel=1e-6)


def _of_equal_positions(states: torch.Tensor) -> float:
    """Across positions the same correlations as within, those of a unit with itself included."""
    width = states.shape[-1]
    r = np.abs(np.corrcoef(states[:, 0].numpy().T))
    others = r.sum() - width
    return others * width / (width - 1) / (r.sum() * (LENGTH - 1))


def test_units_that_never_vary_do_not_count() -> None:
    states = torch.randn(300, LENGTH, 8)
    states[..., 3] = 2.0
    assert correlation_ratio.ratio(states).isfinite()


@pytest.mark.parametrize("directions", [1, 2, 5])
def test_effective_rank_counts_equal_directions(directions: int) -> None:
    states = torch.eye(directions, 8, dtype=torch.float64).repeat(3, 1)
    assert effective_rank.rank(states).item() == pytest.approx(directions)
    assert effective_rank.rank(7 * states).item() == pytest.approx(directions)


def test_effective_rank_is_bounded_by_positions_and_one() -> None:
    ranks = effective_rank.rank(torch.randn(20, LENGTH, 32, dtype=torch.float64))
    assert ((ranks >= 1) & (ranks <= LENGTH)).all()


@torch.no_grad()
def test_gradient_norm_equals_that_of_finite_differences() -> None:
    """Of the mean of minus the log probability of each answer's characters, by every weight of a layer in turn."""
    made = untrained(layers=2, width=4)
    seen = subject(made, layers=2, width=4)
    positions, targets = (
        torch.from_numpy(each).long() for each in (seen.rows.answer_positions, seen.rows.answer_targets)
    )

    def loss() -> float:
        said = made(seen.tokens, positions).log_softmax(-1)
        return -said.gather(-1, targets[..., None]).mean().item()

    def slope(weights: torch.Tensor, place: int) -> float:
        kept, losses = weights[place].item(), []
        for step in (-1e-5, 1e-5):
            weights[place] = kept + step
            losses.append(loss())
        weights[place] = kept
        return (losses[1] - losses[0]) / 2e-5

    slopes = [
        [slope(weights.view(-1), place) for weights in block.parameters() for place in range(weights.numel())]
        for block in made.blocks
    ]
    with torch.enable_grad():
        found = numbers(gradient_norm(seen), "gradient_norm")
    np.testing.assert_allclose(found, np.linalg.norm(slopes, axis=1), rtol=1e-6)
    assert all(weights.grad is None for weights in made.parameters())


def test_no_gradient_reaches_what_a_silent_mlp_hides() -> None:
    made = silent(layers=1)
    with torch.no_grad():
        made.blocks[0].mlp.transformation.input.weight.zero_()
        made.blocks[0].attention.transformation.query_key_value.weight.zero_()
    assert numbers(gradient_norm(subject(made, layers=1)), "gradient_norm").item() == pytest.approx(0, abs=1e-12)


def test_flops_are_those_of_the_matrix_products() -> None:
    switches = {"layers": 2, "width": 16, "heads": 2}
    seen = subject(untrained(**switches), **switches)
    length, answer = seen.tokens.shape[1], seen.rows.answer_positions.shape[1]
    width, layers, vocabulary = 16, 2, 12
    everywhere, asked = 12 * width**2 + 2 * length * width, 10 * width**2 + 2 * length * width + vocabulary * width
    # The last layer's queries are those of the answer, its keys and values those of all positions.
    forward = 2 * (length * ((layers - 1) * everywhere + 2 * width**2) + answer * asked)
    found = cost(seen)["flops_per_step"].item() / seen.cell.training.batch_size
    # Backward costs twice forward, but for the first layer's input, which needs no gradient of its tokens.
    assert found == 3 * forward


def test_a_counted_position_leaves_tokens_alone() -> None:
    seen = subject(counting(layers=1), positional="learned", layers=1)
    embedded, after = seen.random_stream
    torch.testing.assert_close(embedded, after)
