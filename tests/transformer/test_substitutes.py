"""Substitutes for residual connections: what each one carries, and that it carries nothing else."""

import pytest
import torch
from torch import Tensor

from pipeline.transformer.model import Transformer
from pipeline.transformer.substitutes import SUBSTITUTES, ResidualSubstitute
from tests.conftest import model
from tests.transformer.test_model import VOCABULARY, built, examples, reads

SAMPLES, LENGTH, WIDTH = 64, 5, 16
NAMES = [name for name in SUBSTITUTES if name != "none"]
RESCALED = ("position-mean", "learned-vector", "constant", "noise")


def states() -> Tensor:
    return torch.randn(SAMPLES, LENGTH, WIDTH, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def module(name: str, seed: int = 0) -> ResidualSubstitute:
    torch.manual_seed(seed)
    return ResidualSubstitute(name, LENGTH, WIDTH).double().train()


def substitute(name: str, x: Tensor, *, key: int = 1, seed: int = 0, samples_per_example: int = 1) -> Tensor:
    """The substitute of the states `x` in training, of the network with this seed."""
    chosen = module(name, seed)
    chosen.key += key
    return chosen(x, None, samples_per_example).expand_as(x).detach()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("donor") or name == "detached"])
def test_if_all_states_are_equal_the_substitute_is_the_state(name: str) -> None:
    x = states()[:1, :1].expand(SAMPLES, LENGTH, WIDTH)
    torch.testing.assert_close(substitute(name, x), x)


@pytest.mark.parametrize("name", ["detached", "donor", "position-mean"])
def test_if_all_examples_are_equal_substitutes_of_the_same_position_are_the_state(name: str) -> None:
    x = states()[:1].expand(SAMPLES, LENGTH, WIDTH)
    torch.testing.assert_close(substitute(name, x), x)


def test_the_donor_is_the_next_example() -> None:
    for count in (1, 3):
        assert torch.equal(substitute("donor", states(), samples_per_example=count), states().roll(-count, 0))


def source_positions(name: str, **options: int) -> list[int]:
    """The donor's position from which each position takes its state; it is the same for all examples."""
    donor, result = states().roll(-1, 0), substitute(name, states(), **options)
    is_source = (result[:, :, None] == donor[:, None]).all(-1)
    assert (is_source == is_source[:1]).all()
    return is_source[0].int().argmax(-1).tolist()


def test_a_derangement_moves_every_position_and_depends_on_the_seed_alone() -> None:
    by_seed = [source_positions("donor-deranged", seed=seed) for seed in range(12)]
    for seed, sources in enumerate(by_seed):
        assert sorted(sources) == list(range(LENGTH))
        assert all(source != position for position, source in enumerate(sources))
        assert source_positions("donor-deranged", seed=seed, key=2) == sources
    assert len(set(map(tuple, by_seed))) > 3


def test_a_derangement_is_the_same_in_all_layers_in_evaluation_and_in_a_snapshot() -> None:
    config = model(layers=3, residual_free=[0, 2], residual_substitute="donor-deranged")
    torch.manual_seed(3)
    transformer = Transformer(config, vocabulary=VOCABULARY, length=LENGTH, donors=examples()[:, :LENGTH])
    stored = [weight for name, weight in transformer.state_dict().items() if name.endswith("stored")]
    assert len(stored) == 4
    assert all(torch.equal(weight.bfloat16().float(), stored[0]) for weight in stored)
    chosen = module("donor-deranged")
    training = chosen(states(), None, 1)
    evaluated = chosen.eval()(states(), states().roll(-1, 0), 1)  # with the donor of the first example
    assert torch.equal(training[0], evaluated[0])


def test_a_permutation_is_drawn_anew_at_each_step() -> None:
    by_key = [source_positions("donor-permuted", key=key) for key in range(20)]
    assert all(sorted(sources) == list(range(LENGTH)) for sources in by_key)
    assert len(set(map(tuple, by_key))) > 10
    assert by_key[3] == source_positions("donor-permuted", key=3)


def test_the_mean_is_over_examples_alone_and_the_constant_over_everything() -> None:
    x = states()
    mean = substitute("position-mean", x)[7]
    torch.testing.assert_close(mean / mean.norm(), x.mean(0) / x.mean(0).norm())
    constant = substitute("constant", x)
    assert (constant == constant[:1, :1]).all()
    torch.testing.assert_close(constant, substitute("constant", x.flip(0).roll(1, 1), key=5, seed=9))


@pytest.mark.parametrize("name", RESCALED)
@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_rescaled_substitutes_have_the_size_of_what_the_connection_would_carry(name: str, factor: float) -> None:
    x = factor * states()
    result = substitute(name, x)
    torch.testing.assert_close(result.square().mean(), x.square().mean())
    torch.testing.assert_close(result, factor * substitute(name, states()))


def test_noise_is_gaussian_and_independent_of_the_states() -> None:
    x = 3.0 + 2.0 * states()
    noise, same_key, other_key = (substitute("noise", x, key=key) for key in (1, 1, 2))
    assert torch.equal(noise, same_key)
    assert not torch.isclose(noise, other_key).any()
    assert abs(noise.mean()) < 0.2
    assert abs(torch.corrcoef(torch.stack((noise.flatten(), x.flatten())))[0, 1]) < 0.05
    assert (noise / noise.std()).pow(4).mean() == pytest.approx(3.0, abs=0.3)  # kurtosis


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_gate_and_learned_vectors_and_never_the_states(name: str) -> None:
    x, chosen = states().requires_grad_(), module(name)
    result = chosen(x, None, 1)
    result.sin().sum().backward()
    torch.testing.assert_close(chosen.gate.grad, (result * result.cos()).sum()[None])
    assert x.grad is None
    assert (chosen.stored is not None and chosen.stored.grad is not None) == (name == "learned-vector")


@pytest.mark.parametrize("name", NAMES)
def test_the_gate_scales_the_substitute_and_is_one_at_the_start(name: str) -> None:
    chosen = module(name)
    before = chosen(states(), None, 1)
    assert chosen.gate.item() == 1
    chosen.gate.data.fill_(0.25)
    torch.testing.assert_close(chosen(states(), None, 1), 0.25 * before)


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_does_not_depend_on_its_batch(name: str, attention: str) -> None:
    transformer = built(model(layers=3, attention=attention, residual_free=[0, 2], residual_substitute=name))
    batched = transformer(examples(), reads(3, 8))
    for index in range(len(examples())):
        alone = transformer(examples()[[index]], reads(3, 8)[:1])
        torch.testing.assert_close(batched[[index]], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("name", ["donor", "donor-deranged", "donor-permuted"])
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


@pytest.mark.parametrize("name", [name for name in NAMES if name != "detached"])
def test_substitutes_that_use_donors_require_them(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Transformer(model(residual_free=[0], residual_substitute=name), vocabulary=3, length=4)
