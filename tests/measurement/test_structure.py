"""Adjacency, correlation, effective rank and cost, on models and arrays with known results."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.dataset import encode_table
from pipeline.measurement.adjacency import adjacency, adjacency_score
from pipeline.measurement.correlation import correlation, excess_correlation
from pipeline.measurement.cost import cost
from pipeline.measurement.effective_rank import matrix_effective_rank
from pipeline.training.population import build_initial_model
from pipeline.transformer.model import Transformer
from pipeline.transformer.positional import EMBEDDING_SCALE
from tests.conftest import model, task
from tests.measurement.hand_set import LENGTH, inputs_of, silent, uniform, untrained, values


@pytest.mark.parametrize("build", [untrained, silent])
def test_adjacency_is_chance_without_encoding_and_mask(build: Callable[..., Transformer]) -> None:
    table = adjacency(inputs_of(build, count=3000, attention="full"))
    np.testing.assert_allclose(values(table, "adjacency", inputs="random"), 0.5, atol=0.015)


def test_adjacency_of_states_that_rotate_steadily_is_one() -> None:
    angle = torch.arange(LENGTH) / LENGTH
    stream = torch.stack((angle.cos(), angle.sin()), dim=-1)[None, None]
    assert adjacency_score(stream).item() == 1.0
    assert adjacency_score(stream.flip(-2)).item() == 1.0
    scattered = stream[:, :, [0, 7, 1, 6, 2, 5, 3, 4]]
    assert adjacency_score(scattered).item() < 1.0


def test_adjacency_does_not_depend_on_the_size_of_states_and_is_chance_for_equal_ones() -> None:
    assert adjacency_score(torch.ones(2, 5, LENGTH, 8)).tolist() == [0.5, 0.5]
    stream = torch.randn(3, 50, LENGTH, 8)
    sizes = torch.rand(3, 50, LENGTH, 1) + 0.5
    torch.testing.assert_close(adjacency_score(stream), adjacency_score(stream * sizes))


def test_causal_averaging_raises_adjacency() -> None:
    table = adjacency(inputs_of(uniform, layers=1, residual_free={"attention": [0], "mlp": []}))
    assert values(table, "adjacency", inputs="random", depth=0).item() == pytest.approx(0.5, abs=0.03)
    assert values(table, "adjacency", inputs="random", depth=1).item() > 0.7


@pytest.mark.parametrize(
    ("linear", "embeddings", "small", "large"),
    [("gpt-2", 0.02, 0.51, 0.68), ("torch", 0.02, 0.80, 0.94), ("torch", 1.0, 0.51, 0.53)],
)
@torch.no_grad()
def test_adjacency_before_training_depends_on_the_initialisation(
    linear: str, embeddings: float, small: float, large: float
) -> None:
    """It depends on the size of what attention writes, beside that of the embeddings."""
    tokens = torch.randint(0, 13, (100, 12), generator=torch.Generator().manual_seed(0))
    for width, layers, expected in ((48, 3, small), (384, 6, large)):
        config = model(width=width, layers=layers, heads=width // 12)
        scores = []
        for seed in (1, 2):
            transformer = build_initial_model(config, vocabulary=13, length=12, seed=seed)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                for module in transformer.modules() if linear == "torch" else ():
                    if isinstance(module, torch.nn.Linear):
                        module.reset_parameters()
            transformer.embedding.weight *= embeddings / EMBEDDING_SCALE
            stream = transformer.residual_stream(tokens, torch.ones(12, 12).tril().bool()[None])
            scores.append(adjacency_score(torch.stack(stream))[-1].item())
        assert np.mean(scores) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("count", [250, 1000, 4000])
def test_correlation_does_not_depend_on_the_number_of_examples(count: int) -> None:
    """It is 0 for noise, and within positions the squared correlation of units that share a part."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, LENGTH, 8, generator=generator, dtype=torch.float64)
    np.testing.assert_allclose(excess_correlation(noise), 0.0, atol=4 / count / 8)
    shared = noise + torch.randn(count, LENGTH, 1, generator=generator, dtype=torch.float64)
    within, across = excess_correlation(shared).tolist()
    assert within == pytest.approx(0.25, abs=0.5 / count**0.5)
    assert across == pytest.approx(0.0, abs=1 / count)


def test_states_of_their_own_token_alone_correlate_within_positions_alone() -> None:
    table = correlation(inputs_of(silent, count=2000))
    within = values(table, "within")
    assert within.min() > 0.01
    np.testing.assert_allclose(within, within[0])  # silent layers change nothing
    np.testing.assert_allclose(values(table, "across"), 0.0, atol=1e-3)
    mixed = torch.randn(500, 1, 8, dtype=torch.float64).expand(500, LENGTH, 8)
    within, across = excess_correlation(mixed).tolist()
    assert across == pytest.approx((1 + 7 * (within + 1 / 499)) / 8 - 1 / 499)  # a unit and its copies among them


def test_units_that_never_vary_are_left_out() -> None:
    states = torch.randn(300, LENGTH, 8, dtype=torch.float64)
    without = states[..., [0, 1, 2, 4, 5, 6, 7]]
    states[..., 3] = 2.0
    torch.testing.assert_close(excess_correlation(states), excess_correlation(without))


def test_effective_rank_counts_equal_directions_and_is_bounded_by_the_number_of_positions() -> None:
    for directions in (1, 2, 5):
        states = torch.eye(directions, 8, dtype=torch.float64).repeat(3, 1)
        assert matrix_effective_rank(states).item() == pytest.approx(directions)
        assert matrix_effective_rank(7 * states).item() == pytest.approx(directions)
    ranks = matrix_effective_rank(torch.randn(20, LENGTH, 32, dtype=torch.float64))
    assert ((ranks >= 1) & (ranks <= LENGTH)).all()


def test_flops_are_those_of_the_matrix_products() -> None:
    width, layers, vocabulary = 16, 2, 12
    inputs = inputs_of(untrained, layers=layers, width=width, heads=2)
    length, answer = inputs.task_tokens.shape[1], inputs.examples.positions.shape[1]
    everywhere, at_answer = 12 * width**2 + 2 * length * width, 10 * width**2 + 2 * length * width + vocabulary * width
    # The last layer's queries are those of the answer, its keys and values those of all positions.
    forward = 2 * (length * ((layers - 1) * everywhere + 2 * width**2) + answer * at_answer)
    flops = cost(inputs)["flops_per_step"].item() / inputs.ablation.training.batch_size
    # Backward costs twice forward, but for the first layer's input, which needs no gradient of its tokens.
    assert flops == 3 * forward


def test_task_tokens_contain_no_padding() -> None:
    sums = task(zero_pad=False, validation_size=100)
    held_out = encode_table(sums.draw_splits()["validation"], sums.vocabulary, sums.end_token)
    inputs = inputs_of(untrained, examples=held_out)
    padded = torch.arange(held_out.tokens.shape[1]) >= held_out.lengths[:, None]
    assert padded.any()
    other = replace(inputs, examples=replace(held_out, tokens=held_out.tokens.masked_fill(padded, 5)))
    assert inputs.task_tokens.equal(other.task_tokens)
    assert len(inputs.task_tokens) > 30
