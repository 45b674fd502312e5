"""Activations that hook functions see are those of the model, and what they replace is what the model goes on with."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline import hooks
from pipeline.errors import UserError
from pipeline.transformer.attention import last_position
from pipeline.transformer.model import Transformer
from tests import recorder
from tests.measurement.hand_set import LENGTH, VOCABULARY, untrained

TOKENS = torch.randint(VOCABULARY, (5, LENGTH), generator=torch.Generator().manual_seed(0))
SWITCHES: list[dict[str, Any]] = [
    {},
    {"attention": "full"},
    {"positional": "rotary"},
    {"positional": "alibi"},
    {"positional": "learned"},
    {"residual_free": [1]},
    {"residual_free": [0], "residual_substitute": "donor"},
]


@pytest.fixture(params=SWITCHES, ids=str)
def model(request: pytest.FixtureRequest) -> Transformer:
    return untrained(layers=2, length=LENGTH, **request.param)


@torch.no_grad()
def test_activations_are_the_models_and_follow_from_one_another(model: Transformer) -> None:
    logits, cache = hooks.run_with_cache(model, TOKENS)
    torch.testing.assert_close(logits, model(TOKENS, last_position(TOKENS))[:, 0])
    for name, activation in recorder.run_with_cache(model, TOKENS)[1].items():
        torch.testing.assert_close(cache[name], activation)
    for layer in (0, 1):
        attention = {name: cache[f"blocks.{layer}.attn.hook_{name}"] for name in ("q", "k", "v", "z", "pattern")}
        scores = cache[f"blocks.{layer}.attn.hook_attn_scores"]
        assert {tuple(attention[name].shape) for name in "qkvz"} == {(5, LENGTH, 2, attention["q"].shape[-1])}
        torch.testing.assert_close(scores.softmax(-1), attention["pattern"])
        z = torch.einsum("bhqk,bkhu->bqhu", attention["pattern"], attention["v"])
        torch.testing.assert_close(z, attention["z"])
        hidden, pre = cache[f"blocks.{layer}.mlp.hook_post"], cache[f"blocks.{layer}.mlp.hook_pre"]
        torch.testing.assert_close(hidden, torch.nn.functional.gelu(pre))
    names = {f"blocks.1.{present}": f"blocks.1.{earlier}" for present, earlier, _ in hooks.LAYER_POINTS}
    names |= {"embed.hook_out": "hook_embed", "blocks.1.hook_in": "blocks.1.hook_resid_pre"}
    names["ln_final.hook_out"] = "ln_final.hook_normalized"
    for present, earlier in names.items():
        assert cache[present].equal(cache[earlier])


def test_functions_that_replace_nothing_change_nothing_and_leave_the_model_as_it_was(model: Transformer) -> None:
    logits, cache = hooks.run_with_cache(model, TOKENS)
    for function in (lambda activation, hook: None, lambda activation, hook: activation + 0.0):
        assert hooks.run_with_hooks(model, TOKENS, dict.fromkeys(cache, function)).equal(logits)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_replacement_of_everything_that_is_read_later_gives_the_prediction_of_the_other_examples(
    model: Transformer,
) -> None:
    others = TOKENS.flip(0)
    expected, cache = hooks.run_with_cache(model, others)
    before = hooks.run_with_hooks(model, TOKENS, {})
    assert not torch.allclose(before, expected)
    for name in ("embed.hook_out", "blocks.0.hook_resid_pre", "blocks.1.hook_in", "blocks.1.hook_resid_post"):
        after = hooks.run_with_hooks(model, TOKENS, {name: lambda activation, hook: cache[hook.name]})
        torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("point", ["q.hook_out", "k.hook_out", "v.hook_out", "hook_attn_scores", "hook_pattern"])
def test_edits_in_place_reach_what_is_computed_from_them(point: str) -> None:
    """Without queries, keys or scores a position attends alike to all that it sees; without values it adds nothing."""
    model, seen = untrained(layers=2, length=LENGTH), {}

    def silence(activation: Tensor, hook: hooks.HookPoint) -> None:
        activation[activation.isfinite()] = 0.0

    def record(activation: Tensor, hook: hooks.HookPoint) -> None:
        seen[hook.name] = activation

    names = ("blocks.0.attn.hook_pattern", "blocks.0.attn.hook_z")
    hooks.run_with_hooks(model, TOKENS, dict.fromkeys(names, record) | {f"blocks.0.attn.{point}": silence})
    pattern, z = (seen.get(name) for name in names)
    if point in ("v.hook_out", "hook_pattern"):
        assert z is not None
        assert not z.any()
    else:
        assert pattern is not None
        uniform = torch.ones(LENGTH, LENGTH).tril() / torch.arange(1, LENGTH + 1)[:, None]
        torch.testing.assert_close(pattern, uniform.to(pattern.dtype).expand_as(pattern))


def test_mistakes_are_refused_by_name() -> None:
    model = untrained(layers=2, length=LENGTH)
    with pytest.raises(UserError, match=r"'blocks\.0\.attn\.hook_qq'.*did you mean"):
        hooks.run_with_hooks(model, TOKENS, {"blocks.0.attn.hook_qq": lambda activation, hook: None})
    with pytest.raises(UserError, match=r"blocks\.1\.hook_out: .*\[5, .*\[5, "):
        hooks.run_with_hooks(model, TOKENS, {"blocks.1.hook_out": lambda activation, hook: activation[:, 1:]})
