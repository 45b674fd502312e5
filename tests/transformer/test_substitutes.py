"""What stands in for a residual connection: each value is a part of it, or has nothing of it but what its name says."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from pipeline.params.model import DonorSubstitute
from pipeline.transformer.substitutes import SUBSTITUTES, Donors, Substituted
from tests.conftest import model
from tests.transformer.test_model import VOCABULARY, after, built, rows

ROWS, POSITIONS, WIDTH = 64, 5, 16
NAMES = [name for name in SUBSTITUTES if name != "none"]


def states(seed: int = 0) -> Tensor:
    return torch.randn(ROWS, POSITIONS, WIDTH, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def made(name: str, x: Tensor, *, key: int = 1, faded: float = 0.0, apart: int = 1) -> Tensor:
    """The substitute of these states in training."""
    substitute = SUBSTITUTES[name]
    assert substitute
    module = Substituted(substitute).double().train()
    module.key += key
    module.faded += faded
    return module(x, Donors(None, apart)).expand_as(x)


@pytest.mark.parametrize("name", ["forward", "other-row", "elsewhere", "slot-mean", "all-mean"])
def test_where_all_states_are_alike_whatever_is_lent_is_the_state(name: str) -> None:
    x = states()[:1, :1].expand(ROWS, POSITIONS, WIDTH)
    torch.testing.assert_close(made(name, x), x)


@pytest.mark.parametrize("name", ["forward", "other-row", "slot-mean"])
def test_where_all_rows_are_alike_what_is_of_the_slot_is_the_state(name: str) -> None:
    x = states()[:1].expand(ROWS, POSITIONS, WIDTH)
    torch.testing.assert_close(made(name, x), x)


def test_another_row_is_as_far_as_is_said_and_never_the_same() -> None:
    x = states()
    for apart in (1, 3):
        torch.testing.assert_close(made("other-row", x, apart=apart), x.roll(-apart, 0), rtol=0, atol=0)


def test_elsewhere_is_a_state_of_another_row_the_same_at_every_position_from_any_position() -> None:
    x, lent = states(), made("elsewhere", states())
    assert (lent == lent[:, :1]).all()
    found = (lent[:, :1] == x.roll(-1, 0)).all(-1)
    assert (found.sum(1) == 1).all()
    assert found.any(0).all()


def test_means_are_those_of_their_name() -> None:
    x = states()
    torch.testing.assert_close(made("slot-mean", x)[7], x.mean(0))
    torch.testing.assert_close(made("all-mean", x)[7, 3], x.mean((0, 1)))


def test_noise_has_the_scale_alone() -> None:
    x = 3.0 + 2.0 * states()
    one, again, other = (made("noise", x, key=key) for key in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.isclose(one, other).any()
    torch.testing.assert_close(one.square().mean().sqrt(), x.square().mean().sqrt(), rtol=0.03, atol=0)
    assert abs(one.mean()) < 0.2
    assert abs(torch.corrcoef(torch.stack((one.flatten(), x.flatten())))[0, 1]) < 0.05
    kurtosis = (one / one.std()).pow(4).mean()
    assert kurtosis == pytest.approx(3.0, abs=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_has_a_path_for_the_gradient_passes_it_on(name: str) -> None:
    x = states().requires_grad_()
    y = made(name, x, faded=0.25)
    passed = torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)
    assert (passed == {"backward": 1.0, "fade": 0.75}.get(name, 0.0)).all()


def test_content_is_all_or_nothing_or_fades() -> None:
    x = states()
    assert (made("backward", x) == 0).all()
    assert torch.equal(made("forward", x), x)
    assert torch.equal(made("fade", x), x)
    torch.testing.assert_close(made("fade", x, faded=0.75), 0.25 * x)
    assert (made("fade", x, faded=1.0) == 0).all()


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_does_not_depend_on_how_it_is_batched(name: str, attention: str) -> None:
    transformer = built(model(layers=3, attention=attention, residual_free=[0, 2], residual_substitute=name))
    together = transformer(rows(), after(3, 8))
    for row in range(len(rows())):
        alone = transformer(rows()[[row]], after(3, 8)[:1])
        torch.testing.assert_close(together[[row]], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["none", "backward", "fade"])
def test_once_trained_what_carries_no_content_is_a_model_without_the_connection(name: str) -> None:
    plain, other = (built(model(residual_free=[0], residual_substitute=one)) for one in ("none", name))
    torch.testing.assert_close(plain(rows(), after(8)), other(rows(), after(8)))


def test_forward_predicts_what_the_whole_network_would() -> None:
    whole, other = (built(model(residual_free=free, residual_substitute="forward")) for free in ([], [0]))
    torch.testing.assert_close(whole(rows(), after(8)), other(rows(), after(8)))


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("name", get_args(DonorSubstitute))
def test_in_training_no_sample_is_lent_its_own_row(name: str, attention: str) -> None:
    """The gradient aside, a row's prediction does not change with its own states but through itself: with the attention
    and the MLP silent, nothing of a row is left in what it predicts."""
    config = model(layers=1, attention=attention, residual_free=[0], residual_substitute=name)
    transformer = built(config).train()
    for block in transformer.blocks:
        block.attention.transformation.output.weight.data.zero_()
        block.mlp.transformation.output.weight.data.zero_()
    changed = rows().clone()
    changed[2] = (changed[2] + 1) % VOCABULARY
    before, now = (transformer(tokens, after(3, 8)) for tokens in (rows(), changed))
    if name in ("other-row", "elsewhere"):
        assert torch.equal(before[2], now[2])
        assert not torch.equal(before[1], now[1]) or not torch.equal(before[0], now[0])


def test_what_lends_needs_reference_rows() -> None:
    from pipeline.transformer.model import Transformer

    with pytest.raises(ValueError, match="needs reference rows"):
        Transformer(model(residual_free=[0], residual_substitute="other-row"), vocabulary=3, length=4)
