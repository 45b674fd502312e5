"""Laws of every transformer: no token affects earlier predictions, and each switch does what its name says."""

from collections.abc import Iterable
from itertools import product
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.params import Model
from pipeline.params.model import AttentionName
from pipeline.transformer.model import Sublayer, Transformer
from pipeline.transformer.positional import POSITIONAL_ENCODINGS
from pipeline.transformer.substitutes import SUBSTITUTES, FadingConnection
from tests.conftest import model

LENGTH, VOCABULARY, BATCH = 9, 7, 5


def built(config: Model, seed: int = 0) -> Transformer:
    """A transformer in float64 with weights so large that every path affects the prediction."""
    torch.manual_seed(seed)
    donors = torch.randint(VOCABULARY, (4, LENGTH), generator=torch.Generator().manual_seed(9))
    transformer = Transformer(config, vocabulary=VOCABULARY, length=LENGTH, donors=donors).double()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return transformer.eval()


def examples(seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))


def reads(*positions: int) -> Tensor:
    return torch.tensor(positions).expand(BATCH, len(positions))


@st.composite
def configurations(draw: st.DrawFn, substitutes: Iterable[str] = SUBSTITUTES) -> Model:
    layers = draw(st.integers(1, 3))
    some_layers = st.lists(st.integers(0, layers - 1), unique=True)
    return model(
        layers=layers,
        positional=draw(st.sampled_from(sorted(POSITIONAL_ENCODINGS))),
        attention=draw(st.lists(st.sampled_from(get_args(AttentionName)), min_size=layers, max_size=layers)),
        residual_free={"attention": draw(some_layers), "mlp": draw(some_layers)},
        residual_substitute=draw(st.sampled_from(list(substitutes))),
    )


@settings(max_examples=40)
@given(config=configurations(), position=st.integers(0, LENGTH - 2))
def test_later_tokens_do_not_affect_a_prediction(config: Model, position: int) -> None:
    transformer, original = built(config), examples(0)
    changed = torch.cat((original[:, : position + 1], examples(1)[:, position + 1 :]), dim=1)
    assert torch.equal(transformer(original, reads(position)), transformer(changed, reads(position)))


@settings(max_examples=25)
@given(config=configurations())
def test_predictions_do_not_depend_on_the_positions_read_with_them(config: Model) -> None:
    transformer = built(config)
    together = transformer(examples(), reads(2, 5, 8))
    for read, position in enumerate((2, 5, 8)):
        prefix = examples()[:, : position + 1]
        torch.testing.assert_close(together[:, read], transformer(prefix, reads(position))[:, 0])


def textbook(transformer: Transformer, config: Model, prefixes: Tensor) -> Tensor:
    """Naive reference implementation: logits after the last tokens of `prefixes`, without donors."""
    batch, length = prefixes.shape
    position, head = torch.arange(length).double(), torch.arange(1, config.heads + 1).double()
    later = torch.ones(length, length).triu(1).bool()
    bias = torch.zeros(length, length).double()
    if config.positional == "alibi":
        bias = -(2.0 ** (-8 * head / config.heads)[:, None, None]) * (position[:, None] - position).abs()

    def rotated(x: Tensor) -> Tensor:
        cosine, sine = transformer.positional.rotations[:length].unbind(-1)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(-2)

    def carried(x: Tensor, sublayer: Sublayer, free: bool) -> Tensor:
        if not free:
            return x
        return 0.0 * x if config.residual_substitute == "none" else sublayer.substitute.gate * x.detach()

    x = transformer.positional.add_positions(transformer.embedding(prefixes))
    for layer, block in enumerate(transformer.blocks):
        attention, mlp = block.attention.transformation, block.mlp.transformation
        heads = attention.query_key_value(block.attention.norm(x)).view(batch, length, 3, config.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if config.positional == "rotary":
            query, key = rotated(query), rotated(key)
        mask = bias.masked_fill(later, -torch.inf) if config.attention_by_layer[layer] == "causal" else bias
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        update = attention.output(mixed.transpose(1, 2).flatten(2))
        x = carried(x, block.attention, layer in config.residual_free.attention) + update
        update = mlp.output(F.gelu(mlp.input(block.mlp.norm(x))))
        x = carried(x, block.mlp, layer in config.residual_free.mlp) + update
    return transformer.norm(x)[:, -1] @ transformer.embedding.weight.T


@settings(max_examples=40)
@given(config=configurations(substitutes=("none", "detached")))
def test_predictions_and_gradients_are_those_of_a_textbook_decoder(config: Model) -> None:
    transformer, positions = built(config), (5, 8, 2)
    weights = list(transformer.parameters())
    logits = transformer(examples(), reads(*positions))
    prefixes = [examples()[:, : position + 1] for position in positions]
    expected = torch.stack([textbook(transformer, config, prefix) for prefix in prefixes], dim=1)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(output.sin().sum(), weights) for output in (logits, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("positional", sorted(POSITIONAL_ENCODINGS))
@pytest.mark.parametrize(
    "attention",
    [masks for layers in (1, 2, 3) for masks in product(get_args(AttentionName), repeat=layers)],
    ids="-".join,
)
def test_without_encoding_a_network_ignores_order_if_and_only_if_no_layer_but_the_last_has_a_mask(
    positional: str, attention: tuple[str, ...]
) -> None:
    transformer = built(model(positional=positional, attention=attention, layers=len(attention)))
    shuffled = examples()[:, [3, 0, 6, 1, 7, 2, 5, 4, 8]]
    change = (transformer(examples(), reads(8)) - transformer(shuffled, reads(8))).abs().max().item()
    blind = positional == "none" and "causal" not in attention[:-1]
    assert (change < 1e-12) if blind else (change > 1e-6)


@pytest.mark.parametrize("first", list(product(get_args(AttentionName), repeat=2)), ids="-".join)
def test_the_mask_of_the_last_layer_changes_no_prediction(first: tuple[str, ...]) -> None:
    causal, full = (built(model(layers=3, attention=[*first, last])) for last in get_args(AttentionName))
    torch.testing.assert_close(causal(examples(), reads(2, 5, 8)), full(examples(), reads(2, 5, 8)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("positional", ["rotary", "alibi"])
def test_scores_of_relative_encodings_depend_on_distances_alone(positional: str) -> None:
    """With equal queries and equal keys, scores are constant along diagonals and differ between them."""
    encoding = POSITIONAL_ENCODINGS[positional](LENGTH, 16, 2).double()
    query, key = torch.randn(2, 1, 2, 1, 8, dtype=torch.double).expand(-1, -1, -1, LENGTH, -1)
    everything = torch.ones(1, LENGTH, LENGTH, dtype=torch.bool)
    scores = encoding.rotate_by_position(key) @ encoding.rotate_by_position(query).mT + encoding.score_bias(everything)
    torch.testing.assert_close(scores[..., 1:, 1:], scores[..., :-1, :-1], rtol=0, atol=1e-5)
    assert not torch.allclose(scores[..., 0, 0], scores[..., 0, 1])


def test_the_residual_stream_is_the_embeddings_and_the_states_after_each_layer() -> None:
    transformer = built(model(layers=3))
    samples = transformer.samples(examples(), reads(8))
    stream = transformer.residual_stream(samples.tokens, samples.attention_mask)
    assert len(stream) == 4
    torch.testing.assert_close(stream[0], transformer.embedding(examples()))


@pytest.mark.parametrize("positional", sorted(set(POSITIONAL_ENCODINGS) - {"none"}))
def test_a_dropped_encoding_is_there_in_training_before_its_step_alone(positional: str) -> None:
    kept, without = (built(model(layers=2, positional=name)) for name in (positional, "none"))
    dropped = built(model(layers=2, positional=positional, positional_until=10))
    of_blocks = {name: weight for name, weight in kept.state_dict().items() if not name.startswith("positional")}
    of_encoding = {f"positional.encoding.{name}": weight for name, weight in kept.positional.state_dict().items()}
    without.load_state_dict(of_blocks)
    dropped.load_state_dict(of_blocks | of_encoding)
    usual, plain = kept(examples(), reads(4, 8)), without(examples(), reads(4, 8))
    assert torch.equal(dropped(examples(), reads(4, 8)), plain)
    for step, expected in ((0, usual), (9, usual), (10, plain), (11, plain)):
        dropped.train().positional.step.fill_(step)
        assert torch.equal(dropped(examples(), reads(4, 8)), expected)


def test_fading_connections_are_intact_at_first_and_gone_in_the_end_and_in_evaluation() -> None:
    free = {"attention": [1], "mlp": [0, 1]}
    intact, without = built(model(layers=2)), built(model(layers=2, residual_free=free))
    fading = built(model(layers=2, residual_free=free, residual_fade_steps=10))
    assert torch.equal(fading(examples(), reads(4, 8)), without(examples(), reads(4, 8)))
    for step, expected in ((0, intact), (10, without), (15, without)):
        for name, buffer in fading.train().named_buffers():
            if name.endswith("step"):
                buffer.fill_(step)
        assert torch.equal(fading(examples(), reads(4, 8)), expected(examples(), reads(4, 8)))


@given(steps=st.integers(1, 50), step=st.integers(0, 60))
def test_a_fading_connection_scales_states_and_their_gradients_linearly(steps: int, step: int) -> None:
    x, connection = torch.randn(2, 3, 4, dtype=torch.double).requires_grad_(), FadingConnection(steps)
    connection.step.fill_(step)
    share = max(0.0, 1 - step / steps)
    result = connection(x, None, 1)
    torch.testing.assert_close(result, share * x, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(result.sum(), x)[0], torch.full_like(x, share), atol=1e-6, rtol=1e-6)
