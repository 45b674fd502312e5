"""A population computes and trains each member as if it were alone."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from pipeline.training.optimizers import OPTIMIZER_BUILDERS, build_optimizer, clip_gradients, compute_gradient_norms
from pipeline.training.population import Population, build_initial_model
from pipeline.transformer.substitutes import SUBSTITUTES
from tests.conftest import model, training

VOCABULARY, LENGTH, BATCH = 5, 6, 8
DONORS = torch.randint(VOCABULARY, (4, LENGTH), generator=torch.Generator().manual_seed(9))
SHAPE = {"vocabulary": VOCABULARY, "length": LENGTH, "donors": DONORS}


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Random tokens, and the positions to predict after."""
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))
    return tokens, torch.tensor([3, 4]).expand(BATCH, 2)


@pytest.mark.parametrize("substitute", SUBSTITUTES)
@pytest.mark.parametrize("attention", ["causal", "full"])
def test_stacked_members_compute_what_each_computes_alone(attention: str, substitute: str) -> None:
    """In training, except with substitutes that draw random numbers there; those in evaluation."""
    config = model(attention=attention, positional="rotary", residual_free=[0], residual_substitute=substitute)
    population = Population(config, [3, 1, 4], **SHAPE).train(substitute not in ("elsewhere", "noise"))
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


def one_step(population: Population, optimizer: torch.optim.Optimizer, seeds: list[int], step: int) -> None:
    tokens, positions = (torch.stack(kind) for kind in zip(*(batch(100 * seed + step) for seed in seeds), strict=True))
    optimizer.zero_grad()
    logits = population(tokens, positions, step, 8)
    logits.square().mean((1, 2, 3)).sum().backward()
    clip_gradients(population, compute_gradient_norms(population), 0.05)
    optimizer.step()


@pytest.mark.parametrize("optimizer", list(OPTIMIZER_BUILDERS))
@pytest.mark.parametrize(("dropout", "substitute"), [(0.0, "none"), (0.3, "none"), (0.3, "noise"), (0.0, "fade")])
def test_a_member_trains_as_if_it_were_alone(optimizer: str, dropout: float, substitute: str) -> None:
    config = model(dropout=dropout, residual_free=[] if substitute == "none" else [1], residual_substitute=substitute)
    settings = training(optimizer=optimizer, learning_rate=0.02)

    def trained(seeds: list[int]) -> Population:
        population = Population(config, seeds, **SHAPE).train()
        optimiser = build_optimizer(population, settings)
        for step in range(4):
            one_step(population, optimiser, seeds, step)
        return population

    # Muon's iteration runs in bfloat16, where another order of summation shows in the eighth bit of an update.
    tolerance = 6 * settings.learning_rate * 2**-4 if optimizer == "muon" else 2e-4
    population = trained([5, 6, 7])
    for index, seed in enumerate((5, 6, 7)):
        for name, weight in trained([seed]).copy_member_weights(0).items():
            torch.testing.assert_close(population.copy_member_weights(index)[name], weight, rtol=0, atol=tolerance)


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
    whole, reduced = (Population(model(), [1, 2, 3], **SHAPE) for _ in range(2))
    whole_optimizer, reduced_optimizer = build_optimizer(whole, settings), build_optimizer(reduced, settings)
    for step in range(2):
        one_step(whole, whole_optimizer, [1, 2, 3], step)
        one_step(reduced, reduced_optimizer, [1, 2, 3], step)
    reduced.keep_members(torch.tensor([0, 2]), reduced_optimizer)
    for step in range(2, 5):
        one_step(whole, whole_optimizer, [1, 2, 3], step)
        one_step(reduced, reduced_optimizer, [1, 3], step)
    assert len(reduced) == 2
    tolerance = 5 * settings.learning_rate * 2**-4 if optimizer == "muon" else 2e-4
    for index, member in enumerate((0, 2)):
        for name, weight in whole.copy_member_weights(member).items():
            torch.testing.assert_close(reduced.copy_member_weights(index)[name], weight, rtol=0, atol=tolerance)


@pytest.mark.parametrize("optimizer", list(OPTIMIZER_BUILDERS))
def test_a_member_that_diverges_changes_no_bit_of_another(optimizer: str) -> None:
    settings = training(optimizer=optimizer)
    diverging, healthy = (Population(model(), [1, 2], **SHAPE) for _ in range(2))
    with torch.no_grad():
        diverging.stacked[0][0] = torch.nan
    diverging_optimizer, healthy_optimizer = build_optimizer(diverging, settings), build_optimizer(healthy, settings)
    for step in range(3):
        one_step(diverging, diverging_optimizer, [1, 2], step)
        one_step(healthy, healthy_optimizer, [1, 2], step)
    for name, weight in healthy.copy_member_weights(1).items():
        assert torch.equal(diverging.copy_member_weights(1)[name], weight)
