"""Activations of a forward pass, by name; the scale of states, Jacobians and updates on models with known results."""

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.hooks import copy_with_hooked_attention, hook_points, run_with_cache
from pipeline.measurement.activation_scale import activation_scale, relative_jacobian_norm, root_mean_square
from pipeline.measurement.registry import BATCH_SIZE
from pipeline.transformer.attention import Samples, last_position
from pipeline.transformer.substitutes import SUBSTITUTES
from tests import recorder
from tests.measurement.hand_set import LENGTH, VOCABULARY, inputs_of, silent, uniform, untrained, values

TOKENS = torch.randint(VOCABULARY, (5, LENGTH), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"attention": "full"},
        {"positional": "rotary"},
        {"positional": "learned"},
        {"residual_free": [1]},
        {"residual_free": [0], "residual_substitute": "donor"},
    ],
)
@torch.no_grad()
def test_logits_are_the_models_and_activations_fit_together(switches: dict) -> None:
    model = untrained(layers=2, length=LENGTH, **switches)
    logits, activations = run_with_cache(model, TOKENS)
    torch.testing.assert_close(logits, model(TOKENS, last_position(TOKENS))[:, 0])
    assert set(activations) == set(hook_points(copy_with_hooked_attention(model))) >= set(recorder.hook_points(model))
    stream = model.residual_stream(*model.samples(TOKENS, last_position(TOKENS))[:2])
    for layer in (0, 1):
        names = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "attn.hook_pattern")
        pre, mid, post, attention_out, weights = (activations[f"blocks.{layer}.{name}"] for name in names)
        torch.testing.assert_close(pre, stream[layer])
        torch.testing.assert_close(post, stream[layer + 1])
        if layer not in switches.get("residual_free", []):
            torch.testing.assert_close(mid - attention_out, pre, rtol=0, atol=1e-6)
        assert weights.shape == (len(TOKENS), 2, LENGTH, LENGTH)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        if switches.get("attention") != "full":
            assert (weights.triu(1) == 0).all()
    assert not any(module._forward_hooks for module in model.modules())


@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3))
def test_the_closed_form_equals_the_norm_of_the_jacobian(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    norm = nn.LayerNorm(8, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
    states = scale * torch.randn(3, 8, dtype=torch.float64, generator=generator)
    expected = [torch.autograd.functional.jacobian(norm, state).norm() / 8**0.5 for state in states]
    torch.testing.assert_close(relative_jacobian_norm(norm, states), torch.stack(expected))


def measured(**switches: object) -> pd.DataFrame:
    return activation_scale(inputs_of(untrained, **switches))


def test_if_no_layer_adds_anything_the_embeddings_enter_every_norm() -> None:
    inputs = inputs_of(silent, layers=2)
    table = activation_scale(inputs)
    embedded = inputs.model.embedding(inputs.task_tokens[:BATCH_SIZE])
    assert table["entering"].tolist() == pytest.approx([root_mean_square(embedded)] * 5)
    assert table["update_share"].tolist()[:4] == [0.0] * 4
    keys = [*((layer, sublayer) for layer in (0, 1) for sublayer in ("attention", "mlp")), (2, "output")]
    assert list(zip(table["layer"], table["sublayer"], strict=True)) == keys


@pytest.mark.parametrize("substitute", SUBSTITUTES)
def test_the_update_share_is_one_exactly_if_nothing_else_is_carried(substitute: str) -> None:
    share = values(measured(layers=2, residual_free=[1], residual_substitute=substitute), "update_share", layer=1)
    if substitute == "none":
        assert (share == 1).all()
    else:
        assert ((share > 0) & (share < 1)).all()


def test_the_scale_is_that_of_the_examples_and_not_of_the_donors() -> None:
    substituted = measured(layers=2, residual_free=[1], residual_substitute="donor")
    assert substituted["entering"].tolist()[:3] == measured(layers=2)["entering"].tolist()[:3]


def test_an_update_as_large_as_the_state_has_a_share_of_one_half() -> None:
    """If each position attends to itself alone, the update is the normalised state: here, as large as the embedding."""
    inputs = inputs_of(uniform, layers=1)
    with torch.no_grad():
        weight = inputs.model.embedding.weight
        weight.copy_(nn.functional.layer_norm(weight, weight.shape[-1:], eps=0.0))
    inputs.model.samples = lambda tokens, positions: Samples(
        tokens, torch.eye(tokens.shape[-1], dtype=torch.bool)[None], positions
    )
    share = values(activation_scale(inputs), "update_share", sublayer="attention").item()
    assert share == pytest.approx(0.5, abs=1e-4)  # the norm's epsilon


def test_the_gates_are_those_of_substituted_sublayers() -> None:
    free = {"attention": [1], "mlp": [0, 1]}
    inputs = inputs_of(untrained, layers=2, residual_free=free, residual_substitute="constant")
    inputs.model.blocks[1].attention.substitute.gate.data.fill_(-0.5)
    gates = activation_scale(inputs).set_index(["layer", "sublayer"])["gate"].dropna()
    assert gates.to_dict() == {(0, "mlp"): 1.0, (1, "attention"): -0.5, (1, "mlp"): 1.0}
    assert measured(residual_free=[0], residual_fade_steps=2)["gate"].isna().all()
