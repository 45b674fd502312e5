"""What is seen on the way to a prediction: everything, under its name, without a trace."""

import pytest
import torch

from pipeline.measurement.cache import points, run_with_cache
from tests.measurement.hand_set import VOCABULARY, untrained

LENGTH = 9
SWITCHES = [
    {},
    {"attention": "full"},
    {"positional": "rotary"},
    {"positional": "learned"},
    {"residual_free": [1]},
    {"residual_free": [0], "residual_substitute": "other-row"},
]


def tokens(rows: int = 5) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("switches", SWITCHES)
def test_the_prediction_is_the_models_own(switches: dict[str, object]) -> None:
    model, rows = untrained(layers=2, length=LENGTH, **switches), tokens()
    logits, _ = run_with_cache(model, rows)
    with torch.no_grad():
        own = model(rows, torch.full((len(rows), 1), LENGTH - 1))[:, 0]
    torch.testing.assert_close(logits, own)


@pytest.mark.parametrize("switches", SWITCHES)
def test_every_point_is_seen_and_they_fit_together(switches: dict[str, object]) -> None:
    model, rows = untrained(layers=2, length=LENGTH, **switches), tokens()
    _, seen = run_with_cache(model, rows)
    assert set(seen) == set(points(model))
    stream = model.residual_stream(*model.samples(rows, last(rows))[:2])
    for layer in (0, 1):
        at = {name: seen[f"blocks.{layer}.hook_{name}"] for name in ("resid_mid", "resid_post", "attn_out", "mlp_out")}
        torch.testing.assert_close(at["resid_post"], stream[layer + 1])
        if layer not in switches.get("residual_free", []):  # type: ignore[operator]
            torch.testing.assert_close(
                at["resid_mid"] - at["attn_out"], seen[f"blocks.{layer}.hook_resid_pre"], rtol=0, atol=1e-6
            )
        pattern = seen[f"blocks.{layer}.attn.hook_pattern"]
        assert pattern.shape == (len(rows), 2, LENGTH, LENGTH)
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))
        if switches.get("attention") != "full":
            assert (pattern.triu(1) == 0).all()


def last(rows: torch.Tensor) -> torch.Tensor:
    return torch.full((len(rows), 1), rows.shape[1] - 1)


def test_watching_leaves_no_trace() -> None:
    model = untrained(layers=2, length=LENGTH)
    run_with_cache(model, tokens())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
