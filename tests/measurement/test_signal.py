"""The size of the signal, of a norm's Jacobian and of updates, on models whose answer is known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.measurement.registry import ROWS_AT_ONCE, MeasurementInput
from pipeline.measurement.signal import jacobian_size, root_mean_square, signal
from pipeline.transformer.attention import Samples
from pipeline.transformer.substitutes import SUBSTITUTES
from tests.measurement.hand_set import numbers, silent, subject, uniform, untrained


@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3))
def test_the_size_of_a_jacobian_is_that_of_the_jacobian(seed: int, scale: float) -> None:
    drawn = torch.Generator().manual_seed(seed)
    norm = nn.LayerNorm(8, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.normal_(generator=drawn)
    states = scale * torch.randn(3, 8, dtype=torch.float64, generator=drawn)
    expected = [torch.autograd.functional.jacobian(norm, state).norm() / 8**0.5 for state in states]
    torch.testing.assert_close(jacobian_size(norm, states), torch.stack(expected))


def test_a_signal_as_many_times_larger_passes_a_gradient_as_many_times_smaller() -> None:
    norm, states = nn.LayerNorm(8, dtype=torch.float64, eps=0.0), torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(jacobian_size(norm, 4 * states) * 4, jacobian_size(norm, states))


def measured(made, **switches: object):
    return signal(subject(made, length=16, **switches))


def test_where_no_layer_adds_anything_every_norm_finds_the_embeddings() -> None:
    made = silent(layers=2)
    table = measured(made, layers=2)
    embedded = made.embedding(subject(made, length=16).tokens[:ROWS_AT_ONCE])
    assert table["entering"].tolist() == pytest.approx([root_mean_square(embedded)] * 5)
    assert table["update_share"].tolist()[:4] == [0.0] * 4
    places = [(layer, sublayer) for layer in (0, 1) for sublayer in ("attention", "mlp")]
    assert list(zip(table["layer"], table["sublayer"], strict=True)) == [*places, (2, "output")]


@pytest.mark.parametrize("substitute", SUBSTITUTES)
def test_all_that_leaves_is_the_update_where_nothing_stands_beside_it(substitute: str) -> None:
    """`backward` carries a path, `fade` nothing any more."""
    switches = {"layers": 2, "residual_free": [1], "residual_substitute": substitute}
    share = numbers(measured(untrained(**switches), **switches), "update_share", layer=1)
    nothing = substitute in ("none", "backward", "fade")
    assert (share == 1).all() if nothing else ((share > 0) & (share < 1)).all()


def test_what_enters_is_of_the_rows_themselves_not_of_those_that_lend() -> None:
    switches = {"layers": 2, "residual_free": [1], "residual_substitute": "other-row"}
    plain, lent = (measured(untrained(**kind), **kind) for kind in ({"layers": 2}, switches))
    assert lent["entering"].tolist()[:3] == plain["entering"].tolist()[:3]


def test_an_update_as_large_as_the_signal_is_half_of_what_leaves() -> None:
    """Attention that sees each position alone hands on its normalised state, here of the size of the embeddings."""
    made = uniform(layers=1)
    with torch.no_grad():
        normalised = nn.functional.layer_norm(made.embedding.weight, made.embedding.weight.shape[-1:], eps=0.0)
        made.embedding.weight.copy_(normalised)
    made.samples = only_themselves
    share = numbers(measured(made, layers=1), "update_share", sublayer="attention").item()
    assert share == pytest.approx(0.5, abs=1e-4)  # what a norm's epsilon leaves of one


def only_themselves(tokens, positions) -> Samples:
    """A pattern in which every token attends to itself alone."""
    return Samples(tokens, torch.eye(tokens.shape[-1], dtype=torch.bool)[None], positions)


def test_watching_leaves_no_trace() -> None:
    made = untrained(layers=2)
    seen: MeasurementInput = subject(made, length=16)
    assert signal(seen).equals(signal(seen))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.modules())
