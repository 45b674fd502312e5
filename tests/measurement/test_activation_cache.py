"""The cache has every activation of the forward pass under its name, and leaves no hook behind."""

import pytest
import torch

from pipeline.measurement.common.activation_cache import hook_points, run_with_cache
from pipeline.transformer.attention import last_position
from tests.measurement.hand_set import VOCABULARY, untrained

LENGTH = 9
TOKENS = torch.randint(VOCABULARY, (5, LENGTH), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"attention": "full"},
        {"positional": "rotary"},
        {"positional": "learned"},
        {"residual_free": [1]},
        {"residual_free": [0], "residual_substitute": "other-row"},
    ],
)
@torch.no_grad()
def test_logits_are_the_models_and_activations_fit_together(switches: dict) -> None:
    model = untrained(layers=2, length=LENGTH, **switches)
    logits, activations = run_with_cache(model, TOKENS)
    torch.testing.assert_close(logits, model(TOKENS, last_position(TOKENS))[:, 0])
    assert set(activations) == set(hook_points(model))
    stream = model.residual_stream(*model.samples(TOKENS, last_position(TOKENS))[:2])
    for layer in (0, 1):
        pre, mid, post, attention_out, weights = (
            activations[f"blocks.{layer}.{name}"]
            for name in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "attn.hook_pattern")
        )
        torch.testing.assert_close(pre, stream[layer])
        torch.testing.assert_close(post, stream[layer + 1])
        if layer not in switches.get("residual_free", []):
            torch.testing.assert_close(mid - attention_out, pre, rtol=0, atol=1e-6)
        assert weights.shape == (len(TOKENS), 2, LENGTH, LENGTH)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        if switches.get("attention") != "full":
            assert (weights.triu(1) == 0).all()
    assert not any(module._forward_hooks for module in model.modules())
