"""Adjacency, correlation, effective rank, masks and cost on models and arrays whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.dataset import encode
from pipeline.measurement import adjacency, correlation, effective_rank, masks
from pipeline.measurement.cost import cost
from pipeline.tasks.catalogue import problems
from pipeline.training.population import initial_model
from pipeline.transformer.positional import EMBEDDING_SCALE
from tests.conftest import model, task
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


@pytest.mark.parametrize(
    ("width", "layers", "linear", "embeddings", "expected"),
    [
        (48, 3, "gpt-2", 0.02, 0.51),
        (384, 6, "gpt-2", 0.02, 0.68),
        (48, 3, "torch", 0.02, 0.80),
        (384, 6, "torch", 0.02, 0.94),
        (48, 3, "torch", 1.0, 0.51),
        (384, 6, "torch", 1.0, 0.53),
    ],
)
def test_before_training_adjacency_tells_how_much_attention_writes_beside_the_embeddings(
    width: int, layers: int, linear: str, embeddings: float, expected: float
) -> None:
    """Why untrained networks differ so much in it, ours and the published ones."""
    config = model(width=width, layers=layers, heads=width // 12)
    rows = torch.randint(0, 13, (100, 12), generator=torch.Generator().manual_seed(0))
    found = []
    for seed in (1, 2, 3):
        made = initial_model(config, vocabulary=13, length=12, seed=seed)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            for part in made.modules() if linear == "torch" else ():
                if isinstance(part, torch.nn.Linear):
                    part.reset_parameters()
            made.embedding.weight *= embeddings / EMBEDDING_SCALE
            stream = made.residual_stream(rows, torch.ones(12, 12).tril().bool()[None])
        found.append(adjacency.score(torch.stack(stream))[-1])
    assert torch.stack(found).mean().item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("rows", [250, 1000, 4000])
def test_correlation_does_not_depend_on_the_number_of_rows(rows: int) -> None:
    """Of noise there is none; of units that share a part, as much as they share, within positions alone."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows, LENGTH, 8, generator=generator, dtype=torch.float64)
    np.testing.assert_allclose(correlation.excess(noise), 0.0, atol=4 / rows / 8)
    shared = noise + torch.randn(rows, LENGTH, 1, generator=generator, dtype=torch.float64)
    within, across = correlation.excess(shared).tolist()
    assert within == pytest.approx(0.25, abs=0.5 / rows**0.5)
    assert across == pytest.approx(0.0, abs=1 / rows)


def test_slices_that_keep_to_themselves_correlate_within_positions_alone() -> None:
    table = correlation.correlation(subject(silent(), count=2000))
    own = numbers(table, "within")
    assert own.min() > 0.01
    np.testing.assert_allclose(own, own[0])  # silent layers change nothing
    np.testing.assert_allclose(numbers(table, "across"), 0.0, atol=1e-3)
    mixed = torch.randn(500, 1, 8, dtype=torch.float64).expand(500, LENGTH, 8)
    within, across = correlation.excess(mixed).tolist()
    assert across == pytest.approx((1 + 7 * (within + 1 / 499)) / 8 - 1 / 499)  # a unit's own copies among them


def test_units_that_never_vary_do_not_count() -> None:
    states = torch.randn(300, LENGTH, 8, dtype=torch.float64)
    without = states[..., [0, 1, 2, 4, 5, 6, 7]]
    states[..., 3] = 2.0
    torch.testing.assert_close(correlation.excess(states), correlation.excess(without))


def test_the_last_layers_mask_has_no_effect_and_the_others_have() -> None:
    switches = {"layers": 3, "width": 32}
    table = masks.masks(subject(untrained(**switches), **switches))
    change = numbers(table, "max_logit_change")
    assert change[-1] == 0.0
    assert (change[:-1] > 1e-6).all()
    assert (numbers(table, "total_variation")[:-1] > 0).all()


def test_without_a_mask_there_is_none_to_take_away() -> None:
    switches = {"layers": 2, "attention": "full"}
    assert masks.masks(subject(untrained(**switches), **switches)).empty


@pytest.mark.parametrize("directions", [1, 2, 5])
def test_effective_rank_counts_equal_directions(directions: int) -> None:
    states = torch.eye(directions, 8, dtype=torch.float64).repeat(3, 1)
    assert effective_rank.rank(states).item() == pytest.approx(directions)
    assert effective_rank.rank(7 * states).item() == pytest.approx(directions)


def test_effective_rank_is_bounded_by_positions_and_one() -> None:
    ranks = effective_rank.rank(torch.randn(20, LENGTH, 32, dtype=torch.float64))
    assert ((ranks >= 1) & (ranks <= LENGTH)).all()


def test_flops_are_those_of_the_matrix_products() -> None:
    switches = {"layers": 2, "width": 16, "heads": 2}
    seen = subject(untrained(**switches), **switches)
    length, answer = seen.tokens.shape[1], seen.examples.positions.shape[1]
    width, layers, vocabulary = 16, 2, 12
    everywhere, asked = 12 * width**2 + 2 * length * width, 10 * width**2 + 2 * length * width + vocabulary * width
    # The last layer's queries are those of the answer, its keys and values those of all positions.
    forward = 2 * (length * ((layers - 1) * everywhere + 2 * width**2) + answer * asked)
    found = cost(seen)["flops_per_step"].item() / seen.ablation.training.batch_size
    # Backward costs twice forward, but for the first layer's input, which needs no gradient of its tokens.
    assert found == 3 * forward


def test_a_counted_position_leaves_tokens_alone() -> None:
    seen = subject(counting(layers=1), positional="learned", layers=1)
    embedded, after = seen.random_stream
    torch.testing.assert_close(embedded, after)


def test_what_is_measured_on_rows_of_the_task_sees_no_padding() -> None:
    """Of rows that are not alike long: whatever stands where nothing does."""
    sums = problems(task(zero_pad=False, validation_size=100))
    held_out = encode(sums.splits()["validation"], sums.vocabulary, sums.end)
    seen = subject(untrained(), of=held_out)
    padded = torch.arange(held_out.tokens.shape[1]) >= held_out.lengths[:, None]
    assert padded.any()
    other = subject(untrained(), of=replace(held_out, tokens=held_out.tokens.masked_fill(padded, 5)))
    assert seen.tokens.equal(other.tokens)
    assert len(seen.tokens) > 30
