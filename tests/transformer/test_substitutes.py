"""Substitutes for residual connections: what each one carries, and that it carries nothing else."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from pipeline.params.model import DonorSubstitute
from pipeline.transformer.model import Transformer
from pipeline.transformer.substitutes import SUBSTITUTES, ResidualSubstitute
from tests.conftest import model
from tests.transformer.test_model import VOCABULARY, built, examples, reads

SAMPLES, LENGTH, WIDTH = 64, 5, 16
NAMES = [name for name in SUBSTITUTES if name != "none"]


def states() -> Tensor:
    return torch.randn(SAMPLES, LENGTH, WIDTH, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def substitute(name: str, x: Tensor, *, key: int = 1, faded: float = 0.0, samples_per_example: int = 1) -> Tensor:
    """The substitute of the states `x` in training."""
    module = ResidualSubstitute(SUBSTITUTES[name]).double().train()
    module.key += key
    module.faded += faded
    return module(x, None, samples_per_example).expand_as(x)


@pytest.mark.parametrize("name", ["forward", "other-row", "elsewhere", "slot-mean", "all-mean"])
def test_if_all_states_are_equal_the_substitute_is_the_state(name: str) -> None:
    x = states()[:1, :1].expand(SAMPLES, LENGTH, WIDTH)
    torch.testing.assert_close(substitute(name, x), x)


@pytest.mark.parametrize("name", ["forward", "other-row", "slot-mean"])
def test_if_all_examples_are_equal_substitutes_of_the_same_position_are_the_state(name: str) -> None:
    x = states()[:1].expand(SAMPLES, LENGTH, WIDTH)
    torch.testing.assert_close(substitute(name, x), x)


def test_the_donor_is_the_next_example() -> None:
    for count in (1, 3):
        assert torch.equal(substitute("other-row", states(), samples_per_example=count), states().roll(-count, 0))


def test_elsewhere_is_one_state_of_the_donor_from_a_random_position() -> None:
    x, result = states(), substitute("elsewhere", states())
    assert (result == result[:, :1]).all()
    is_source = (result[:, :1] == x.roll(-1, 0)).all(-1)
    assert (is_source.sum(1) == 1).all()
    assert is_source.any(0).all()


def test_means_are_over_examples_or_over_examples_and_positions() -> None:
    x = states()
    torch.testing.assert_close(substitute("slot-mean", x)[7], x.mean(0))
    torch.testing.assert_close(substitute("all-mean", x)[7, 3], x.mean((0, 1)))


def test_noise_is_gaussian_of_the_states_scale_and_independent_of_them() -> None:
    x = 3.0 + 2.0 * states()
    noise, same_key, other_key = (substitute("noise", x, key=key) for key in (1, 1, 2))
    assert torch.equal(noise, same_key)
    assert not torch.isclose(noise, other_key).any()
    torch.testing.assert_close(noise.square().mean().sqrt(), x.square().mean().sqrt(), rtol=0.03, atol=0)
    assert abs(noise.mean()) < 0.2
    assert abs(torch.corrcoef(torch.stack((noise.flatten(), x.flatten())))[0, 1]) < 0.05
    assert (noise / noise.std()).pow(4).mean() == pytest.approx(3.0, abs=0.3)  # kurtosis


@pytest.mark.parametrize("name", NAMES)
def test_gradients_pass_backward_and_fade_alone(name: str) -> None:
    x = states().requires_grad_()
    y = substitute(name, x, faded=0.25)
    gradient = torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)
    assert (gradient == {"backward": 1.0, "fade": 0.75}.get(name, 0.0)).all()


def test_backward_carries_no_content_forward_all_of_it_and_fade_less_and_less() -> None:
    x = states()
    assert (substitute("backward", x) == 0).all()
    assert torch.equal(substitute("forward", x), x)
    for faded in (0.0, 0.75, 1.0):
        torch.testing.assert_close(substitute("fade", x, faded=faded), (1 - faded) * x)


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_does_not_depend_on_its_batch(name: str, attention: str) -> None:
    transformer = built(model(layers=3, attention=attention, residual_free=[0, 2], residual_substitute=name))
    batched = transformer(examples(), reads(3, 8))
    for index in range(len(examples())):
        alone = transformer(examples()[[index]], reads(3, 8)[:1])
        torch.testing.assert_close(batched[[index]], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("name", ["other-row", "elsewhere"])
def test_in_training_no_sample_is_its_own_donor(name: str, attention: str) -> None:
    """With silent sublayers a prediction is made of the donor alone: it ignores the example's own tokens."""
    config = model(layers=1, attention=attention, residual_free=[0], residual_substitute=name)
    transformer = built(config).train()
    for block in transformer.blocks:
        block.attention.transformation.output.weight.data.zero_()
        block.mlp.transformation.output.weight.data.zero_()
    changed = examples().clone()
    changed[2] = (changed[2] + 1) % VOCABULARY
    before, after = (transformer(tokens, reads(3, 8)) for tokens in (examples(), changed))
    assert torch.equal(before[2], after[2])
    assert not torch.equal(before[:2], after[:2])


@pytest.mark.parametrize("name", get_args(DonorSubstitute))
def test_substitutes_that_use_donors_require_them(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Transformer(model(residual_free=[0], residual_substitute=name), vocabulary=3, length=4)
