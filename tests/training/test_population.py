"""A population computes and trains each member as if it were alone."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.training.optimizers import OPTIMIZER_BUILDERS, build_optimizer, clip_gradients, compute_gradient_norms
from pipeline.training.population import Population, build_initial_model
from pipeline.transformer.substitutes import SUBSTITUTES
from tests.conftest import model, training

VOCABULARY, LENGTH, BATCH = 5, 6, 8
DONORS = torch.randint(VOCABULARY, (4, LENGTH), generator=torch.Generator().manual_seed(9))
SHAPE = {"vocabulary": VOCABULARY, "length": LENGTH, "donors": DONORS}
TOLERANCE = {"adamw": 2e-4, "muon": 5 * 0.02 * 2**-4}
"""Optimizer -> tolerance of weights. Another order of summation shows more in Muon's iteration."""


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Random tokens, and the positions to predict after."""
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))
    return tokens, torch.tensor([3, 4]).expand(BATCH, 2)


@pytest.mark.parametrize("substitute", SUBSTITUTES)
@pytest.mark.parametrize("attention", ["causal", "full"])
def test_stacked_members_compute_what_each_computes_alone(attention: str, substitute: str) -> None:
    """In training, except with substitutes that draw random numbers there; those in evaluation."""
    config = model(attention=attention, positional="rotary", residual_free=[0], residual_substitute=substitute)
    population = Population(config, [3, 1, 4], **SHAPE).train(substitute not in ("donor-permuted", "noise"))
    tokens, positions = (torch.stack(kind) for kind in zip(*(batch(seed) for seed in range(3)), strict=True))
    stacked, shared = population(tokens, positions), population(tokens[0], positions[0])
    for index, seed in enumerate((3, 1, 4)):
        alone = build_initial_model(config, seed=seed, **SHAPE).train(population.training)
        torch.testing.assert_close(stacked[index], alone(tokens[index], positions[index]))
        torch.testing.assert_close(shared[index], alone(tokens[0], positions[0]))


def test_a_compiled_population_computes_the_same() -> None:
    """In one graph, and after a member was dropped."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.training.compiled"], capture_output=True, text=True
    )
    assert process.stdout == "the same\n", process.stderr


def train(population: Population, optimizer: torch.optim.Optimizer, seeds: list[int], steps: range) -> None:
    for step in steps:
        batches = zip(*(batch(100 * seed + step) for seed in seeds), strict=True)
        tokens, positions = (torch.stack(kind) for kind in batches)
        optimizer.zero_grad()
        population(tokens, positions, step).square().mean((1, 2, 3)).sum().backward()
        clip_gradients(population, compute_gradient_norms(population), 0.05)
        optimizer.step()
        population.update_average(step)


def assert_same_weights(one: Population, index: int, other: Population, other_index: int, tolerance: float) -> None:
    """Trained weights and running averages."""
    lists = zip([*one.stacked, *one.averaged], [*other.stacked, *other.averaged], strict=True)
    for weights, expected in lists:
        torch.testing.assert_close(weights[index], expected[other_index], rtol=0, atol=tolerance)


@pytest.mark.parametrize("optimizer", list(OPTIMIZER_BUILDERS))
@pytest.mark.parametrize(
    ("dropout", "substitute"),
    [(0.0, "none"), (0.3, "none"), (0.3, "noise"), (0.0, "donor-deranged"), (0.0, "learned-vector")],
)
def test_a_member_trains_as_if_it_were_alone(optimizer: str, dropout: float, substitute: str) -> None:
    config = model(dropout=dropout, residual_free=[] if substitute == "none" else [1], residual_substitute=substitute)
    settings, together = training(optimizer=optimizer), Population(config, [5, 6, 7], average=0.9, **SHAPE).train()
    train(together, build_optimizer(together, settings), [5, 6, 7], range(4))
    for index, seed in enumerate((5, 6, 7)):
        alone = Population(config, [seed], average=0.9, **SHAPE).train()
        train(alone, build_optimizer(alone, settings), [seed], range(4))
        assert_same_weights(together, index, alone, 0, TOLERANCE[optimizer])


def test_gates_and_learned_vectors_are_trained_by_adamw_and_derangements_by_nothing() -> None:
    """Without gradient AdamW leaves a vector alone, while its weight decay would shrink a matrix."""
    for substitute in ("donor-deranged", "learned-vector"):
        config = model(residual_free=[1], residual_substitute=substitute)
        population = Population(config, [1, 2], **SHAPE).train()
        optimizer = build_optimizer(population, training(optimizer="muon"))
        before = {name: weight.detach().clone() for name, weight in population.weights.items()}
        train(population, optimizer, [1, 2], range(3))
        decay = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
        muon = {id(weight) for group in optimizer.param_groups if group.get("muon") for weight in group["params"]}
        for name, weight in population.weights.items():
            assert (id(weight) in muon) == (".transformation." in name)
            if "substitute" in name:
                assert torch.equal(weight, before[name]) == ("stored" in name and substitute == "donor-deranged")
                assert (decay[id(weight)] == 0) == (weight.ndim < 3)


def test_dropout_depends_on_the_seed() -> None:
    """Two members with the same weights and examples but different seeds drop different units."""
    population = Population(model(dropout=0.5), [1, 2], **SHAPE).train()
    for parameter in population.stacked:
        parameter.data[1] = parameter.data[0]
    tokens, positions = batch(0)
    first, second = population(tokens, positions, 0)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(population(tokens, positions, 0)[0], first)
    assert not torch.allclose(population(tokens, positions, 1)[0], first)


@pytest.mark.parametrize("optimizer", list(OPTIMIZER_BUILDERS))
def test_dropping_members_changes_nothing_for_the_others(optimizer: str) -> None:
    settings = training(optimizer=optimizer)
    whole, reduced = (Population(model(), [1, 2, 3], average=0.9, **SHAPE) for _ in range(2))
    train(whole, build_optimizer(whole, settings), [1, 2, 3], range(5))
    reduced_optimizer = build_optimizer(reduced, settings)
    train(reduced, reduced_optimizer, [1, 2, 3], range(2))
    reduced.keep_members([0, 2], reduced_optimizer)
    train(reduced, reduced_optimizer, [1, 3], range(2, 5))
    assert len(reduced) == 2
    for index, member in enumerate((0, 2)):
        assert_same_weights(reduced, index, whole, member, TOLERANCE[optimizer])


@pytest.mark.parametrize("optimizer", list(OPTIMIZER_BUILDERS))
def test_a_member_that_diverges_changes_no_bit_of_another(optimizer: str) -> None:
    settings = training(optimizer=optimizer)
    diverging, healthy = (Population(model(), [1, 2], average=0.9, **SHAPE) for _ in range(2))
    with torch.no_grad():
        diverging.stacked[0][0] = torch.nan
    for population in (diverging, healthy):
        train(population, build_optimizer(population, settings), [1, 2], range(3))
    assert_same_weights(diverging, 1, healthy, 1, tolerance=0.0)


@given(average=st.floats(0.0, 0.999), steps=st.integers(1, 60), seed=st.integers(0, 99))
def test_the_running_average_is_a_weighted_mean_of_all_weights_so_far(average: float, steps: int, seed: int) -> None:
    population = Population(model(layers=1), [1], average=average, vocabulary=2, length=2).double()
    parameter, generator = population.stacked[0], torch.Generator().manual_seed(seed)
    visited, shares = [parameter.detach().clone()], torch.ones(1, dtype=torch.double)
    for step in range(steps):
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        population.update_average(step)
        kept = min(average, (step + 1) / (step + 10))
        visited, shares = [*visited, parameter.detach().clone()], torch.cat([shares * kept, torch.tensor([1 - kept])])
    mean = torch.tensordot(shares, torch.stack(visited), 1)
    evaluated = population.evaluated_weights[population.parameter_names[0]]
    torch.testing.assert_close(evaluated, mean if average else parameter, check_dtype=False)
    assert shares.sum() == pytest.approx(1.0)


@given(average=st.floats(0.0, 0.999), value=st.floats(-3, 3, width=32), step=st.integers(0, 99))
def test_the_average_of_a_constant_is_the_constant(average: float, value: float, step: int) -> None:
    population = Population(model(layers=1), [1, 2], average=average, vocabulary=2, length=2)
    for parameter in [*population.stacked, *population.averaged]:
        parameter.data.fill_(value)
    population.update_average(step)
    assert all((weight == value).all() for weight in population.evaluated_weights.values())


@given(final_from=st.integers(1, 20), extra=st.integers(0, 30))
def test_the_average_starts_anew_where_the_network_becomes_the_final_one(final_from: int, extra: int) -> None:
    shape = {"average": 0.95, "vocabulary": 2, "length": 2}
    population = Population(model(layers=1, positional="rotary", positional_until=final_from), [1], **shape)
    fresh = Population(model(layers=1, positional="rotary"), [1], **shape)
    for each in (population, fresh):
        each.stacked[0].data.fill_(1.0)
        each.averaged[0].data.fill_(0.0)
    population.update_average(final_from + extra)
    fresh.update_average(extra)
    assert torch.equal(population.averaged[0], fresh.averaged[0])


def test_evaluation_uses_the_average_and_training_does_not() -> None:
    population = Population(model(), [1, 2], average=0.9, **SHAPE)
    train(population, build_optimizer(population, training()), [1, 2], range(3))
    tokens, positions = batch(0)
    for weights, is_training in ((population.weights, True), (population.evaluated_weights, False)):
        alone = build_initial_model(model(), seed=1, **SHAPE)
        alone.load_state_dict({name: stacked[0] for name, stacked in weights.items()})
        logits = population.train(is_training)(tokens, positions)[0]
        torch.testing.assert_close(logits, alone.train(is_training)(tokens, positions))
    assert not torch.equal(logits, population.train()(tokens, positions)[0])


@pytest.mark.parametrize("switches", [{"attention": "full"}, {"layers": 1}])
def test_averaged_weights_of_an_order_blind_architecture_are_blind_to_order(switches: dict[str, object]) -> None:
    population = Population(model(**switches), [1, 2], average=0.9, vocabulary=VOCABULARY, length=LENGTH).double()
    train(population, build_optimizer(population, training()), [1, 2], range(4))
    tokens, positions = batch(0)
    shuffled = tokens.clone()
    shuffled[:, :3] = tokens[:, :3].flip(1)  # the prediction is read after the fourth token
    positions = positions[:, :1]
    change = population.eval()(tokens, positions) - population(shuffled, positions)
    assert change.abs().max() < 1e-9
