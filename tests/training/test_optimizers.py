"""Stacked optimizers equal torch's own on every member; the learning rate follows its schedule."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.training import optimizers
from pipeline.training.optimizers import build_optimizer, compute_learning_rate_factor, orthogonalise_rows
from pipeline.training.population import Population
from tests.conftest import model, training

MEMBERS = 3


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 32), (32, 8)])
def test_muon_on_stacked_members_equals_torch_muon_on_each(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(optimizers.NEWTON_SCHULZ_PRECISION, "cpu", torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    stacked = nn.Parameter(torch.randn(MEMBERS, *shape, generator=generator))
    second = nn.Parameter(torch.randn(MEMBERS, *shape, generator=generator))  # a second layer of equal shape
    alone = [nn.Parameter(member.clone()) for member in stacked.detach()]
    optimizer = optimizers.MuonAdamW([{"muon": True, "params": [stacked, second], "lr": 0.02, "weight_decay": 0.1}])
    references = [torch.optim.Muon([parameter], lr=0.02, weight_decay=0.1) for parameter in alone]
    for _ in range(5):
        gradient = torch.randn(MEMBERS, *shape, generator=generator)
        stacked.grad, second.grad = gradient.clone(), torch.randn(MEMBERS, *shape, generator=generator)
        optimizer.step()
        for parameter, reference, member_gradient in zip(alone, references, gradient, strict=True):
            parameter.grad = member_gradient.clone()
            reference.step()
    # The iteration runs in bfloat16 (8 bits): an update of 0.02 a step is exact to about 0.02 / 2**8.
    for member, parameter in zip(stacked, alone, strict=True):
        torch.testing.assert_close(member, parameter, rtol=0, atol=5 * 0.02 * 2**-8)


def test_the_iteration_is_exact_to_float32() -> None:
    wide = torch.randn(6, 8, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalise_rows(wide), orthogonalise_rows(wide.double()).float(), rtol=0, atol=1e-5)


@given(seed=st.integers(0, 2**16))
def test_orthogonalised_matrices_have_singular_values_near_one(seed: int) -> None:
    """Between about 0.5 and 1.5, unless a singular value is so small that five iterations do not bring it there."""
    rows, _ = torch.linalg.qr(torch.randn(24, 8, generator=torch.Generator().manual_seed(seed)))
    spread = torch.linspace(0.05, 1.0, 8)[:, None] * rows.T
    values = torch.linalg.svdvals(orthogonalise_rows(spread[None])[0])
    assert 0.5 < values.min() <= values.max() < 1.5


def test_muon_trains_all_other_parameters_by_adamw() -> None:
    settings = training(learning_rate=0.02, weight_decay=0.3)
    population = Population(model(), [1, 2], vocabulary=5, length=6)
    optimizer = build_optimizer(population, settings)
    embedding = population.weights["embedding.weight"]
    reference = nn.Parameter(embedding.detach().clone())
    adamw = torch.optim.AdamW([reference], lr=0.3 * 0.02, betas=settings.betas, weight_decay=0.3)
    for step in range(4):
        for parameter in population.stacked:
            parameter.grad = torch.full_like(parameter, math.sin(step + 1.0))
        reference.grad = torch.full_like(reference, math.sin(step + 1.0))
        optimizer.step()
        adamw.step()
    torch.testing.assert_close(embedding.detach(), reference.detach())


@pytest.mark.parametrize("optimizer", list(optimizers.OPTIMIZER_BUILDERS))
def test_every_parameter_is_in_one_group_and_norms_do_not_decay(optimizer: str) -> None:
    population = Population(model(positional="learned"), [1], vocabulary=5, length=6)
    groups = build_optimizer(population, training(optimizer=optimizer)).param_groups
    trained = [parameter for group in groups for parameter in group["params"]]
    assert sorted(map(id, trained)) == sorted(map(id, population.stacked))
    for group in groups:
        for parameter in group["params"]:
            assert (parameter.ndim == 2) == (group["weight_decay"] == 0.0)


@given(max_norm=st.floats(0.01, 100.0))
def test_clipping_is_torchs_own_for_each_member(max_norm: float) -> None:
    population = Population(model(layers=1), [1, 2], vocabulary=5, length=6)
    generator = torch.Generator().manual_seed(1)
    for parameter in population.stacked:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        parameter.grad[1] *= 20
    alone = [[nn.Parameter(torch.zeros_like(weights[member])) for weights in population.stacked] for member in (0, 1)]
    for member, parameters in enumerate(alone):
        for parameter, stacked in zip(parameters, population.stacked, strict=True):
            parameter.grad = stacked.grad[member].clone()  # type: ignore[index]
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizers.clip_gradients(population, optimizers.compute_gradient_norms(population), max_norm)
    for stacked, *parameters in zip(population.stacked, *alone, strict=True):
        torch.testing.assert_close(stacked.grad, torch.stack([parameter.grad for parameter in parameters]))


@given(steps=st.integers(1, 400), warmup=st.integers(0, 400), schedule=st.sampled_from(["cosine", "constant"]))
def test_the_learning_rate_warms_up_and_never_rises_again(steps: int, warmup: int, schedule: str) -> None:
    warmup = min(warmup, steps)
    settings = training(steps=steps, warmup_steps=warmup, schedule=schedule, evaluate_every=steps)
    factors = [compute_learning_rate_factor(step, settings) for step in range(steps)]
    assert all(0.0 < factor <= 1.0 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    if schedule == "cosine" and steps - warmup > 1:
        assert factors[-1] == pytest.approx(settings.final_learning_rate)


@given(decay=st.integers(2, 40), steps=st.integers(40, 80))
def test_with_decay_steps_the_learning_rate_does_not_depend_on_the_budget(decay: int, steps: int) -> None:
    cosine = {"schedule": "cosine", "evaluate_every": 1}
    usual, longer = training(steps=decay, **cosine), training(steps=steps, decay_steps=decay, **cosine)
    factors = [compute_learning_rate_factor(step, longer) for step in range(steps)]
    assert factors[:decay] == [compute_learning_rate_factor(step, usual) for step in range(decay)]
    assert factors[max(decay - 1, 3) :] == pytest.approx([usual.final_learning_rate] * (steps - max(decay - 1, 3)))
