"""Scale of activations, Jacobians and updates, on models with known results."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.measurement.activation_scale import activation_scale, relative_jacobian_norm, root_mean_square
from pipeline.measurement.registry import BATCH_SIZE
from pipeline.transformer.attention import Samples
from pipeline.transformer.substitutes import SUBSTITUTES
from tests.measurement.hand_set import measurement_input, silent, uniform, untrained, values


@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3))
def test_the_closed_form_equals_the_norm_of_the_jacobian(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    norm = nn.LayerNorm(8, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
    states = scale * torch.randn(3, 8, dtype=torch.float64, generator=generator)
    expected = [torch.autograd.functional.jacobian(norm, state).norm() / 8**0.5 for state in states]
    torch.testing.assert_close(relative_jacobian_norm(norm, states), torch.stack(expected))


def measured(transformer, **switches: object):
    return activation_scale(measurement_input(transformer, length=16, **switches))


def test_if_no_layer_adds_anything_the_embeddings_enter_every_norm() -> None:
    transformer = silent(layers=2)
    table = measured(transformer, layers=2)
    embedded = transformer.embedding(measurement_input(transformer, length=16).task_tokens[:BATCH_SIZE])
    assert table["entering"].tolist() == pytest.approx([root_mean_square(embedded)] * 5)
    assert table["update_share"].tolist()[:4] == [0.0] * 4
    keys = [*((layer, sublayer) for layer in (0, 1) for sublayer in ("attention", "mlp")), (2, "output")]
    assert list(zip(table["layer"], table["sublayer"], strict=True)) == keys


@pytest.mark.parametrize("substitute", SUBSTITUTES)
def test_the_update_share_is_one_exactly_if_nothing_else_is_carried(substitute: str) -> None:
    """`backward` carries a gradient alone, and in evaluation `fade` carries nothing."""
    switches = {"layers": 2, "residual_free": [1], "residual_substitute": substitute}
    share = values(measured(untrained(**switches), **switches), "update_share", layer=1)
    if substitute in ("none", "backward", "fade"):
        assert (share == 1).all()
    else:
        assert ((share > 0) & (share < 1)).all()


def test_the_scale_is_that_of_the_examples_and_not_of_the_donors() -> None:
    switches = {"layers": 2, "residual_free": [1], "residual_substitute": "other-row"}
    intact, substituted = (measured(untrained(**kind), **kind) for kind in ({"layers": 2}, switches))
    assert substituted["entering"].tolist()[:3] == intact["entering"].tolist()[:3]


def test_an_update_as_large_as_the_state_has_a_share_of_one_half() -> None:
    """If each position attends to itself alone, the update is the normalised state: here, as large as the embedding."""
    transformer = uniform(layers=1)
    with torch.no_grad():
        weight = transformer.embedding.weight
        weight.copy_(nn.functional.layer_norm(weight, weight.shape[-1:], eps=0.0))
    transformer.samples = lambda tokens, positions: Samples(
        tokens, torch.eye(tokens.shape[-1], dtype=torch.bool)[None], positions
    )
    share = values(measured(transformer, layers=1), "update_share", sublayer="attention").item()
    assert share == pytest.approx(0.5, abs=1e-4)  # the norm's epsilon
