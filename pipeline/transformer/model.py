"""The transformer: a pre-norm decoder in the nanoGPT manner (Radford et al. 2019), with tied embeddings.

What varies is passed in: positional encoding, attention pattern, and for each layer and sublayer whether its
residual connection is there, and what stands in for it where it is not.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipeline.params import Model
from pipeline.transformer.attention import PATTERNS, Attention, select_positions
from pipeline.transformer.dropout import KeyedDropout
from pipeline.transformer.positional import EMBEDDING_SCALE, POSITIONAL
from pipeline.transformer.substitutes import SUBSTITUTES, Donors, Substituted

Edit = Callable[[int, Float[Tensor, "batch _ width"]], Float[Tensor, "batch _ width"]]
"""Depth (layers passed) and the states there -> the states with which it goes on."""


class MLP(nn.Module):
    """Two linear maps with a GELU between them, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, 4 * width, bias=False)
        self.activation = nn.GELU()
        self.output = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        return self.output(self.activation(self.input(x)))


class Sublayer(nn.Module):
    """Norm, transformation, dropout, and the residual connection around them, or what stands in for it."""

    transformation: Attention | MLP

    def __init__(self, config: Model, transformation: Attention | MLP, *, residual: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.transformation = transformation
        self.dropout = KeyedDropout(config.dropout)
        self.residual = residual
        instead = None if residual else SUBSTITUTES[config.residual_substitute]
        self.substitute = Substituted(instead) if instead else None

    def forward(
        self, x: Float[Tensor, "batch length width"], lenders: Donors, **context: Tensor | None
    ) -> Float[Tensor, "batch _ width"]:
        """`context`: what the transformation is told; if that is `at`, it answers for these places alone. `lenders`:
        for what stands in for the residual connection."""
        update, at = self.dropout(self.transformation(self.norm(x), **context)), context.get("at")
        if self.residual:
            return select_positions(x, at) + update
        return select_positions(self.substitute(x, lenders), at) + update if self.substitute else update


class Block(nn.Module):
    """One layer: attention, then MLP."""

    def __init__(self, attention: Sublayer, mlp: Sublayer) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        entering: Callable[[Tensor], Donors],
        bias: Float[Tensor, "#batch #heads length length"],
        at: Int[Tensor, "batch places"] | None = None,
    ) -> Float[Tensor, "batch _ width"]:
        """`entering`: told the states that enter a sublayer, it says who lends there."""
        x = self.attention(x, entering(x), bias=bias, at=at)
        return self.mlp(x, entering(x))


class Transformer(nn.Module):
    """Tokens in, logits for the next token out.

    Args:
        config: sizes and switches.
        vocabulary: number of different tokens.
        length: longest row, in tokens.
        reference: rows of the task, as long; in evaluation they lend their states to whatever stands in for a residual
            connection and needs some. They are read whole: with full attention, which in training lends states of
            prefixes to prefixes as long, that is not the same.
    """

    reference: Tensor | None

    def __init__(
        self,
        config: Model,
        *,
        vocabulary: int,
        length: int,
        reference: Int[Any, "rows {length}"] | None = None,
    ) -> None:
        super().__init__()
        free = config.residual_free
        self.lends = config.uses_donors
        if self.lends and reference is None:
            raise ValueError(f"residual_substitute {config.residual_substitute} needs reference rows")
        self.register_buffer("reference", torch.as_tensor(reference) if self.lends else None, persistent=False)
        self.pattern = PATTERNS[config.attention]
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.positional = POSITIONAL[config.positional](length, config.width, config.heads)
        self.dropout = KeyedDropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(
                Sublayer(
                    config,
                    Attention(config.width, config.heads, self.positional),
                    residual=layer not in free.attention,
                ),
                Sublayer(config, MLP(config.width), residual=layer not in free.mlp),
            )
            for layer in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self._initialise(config)

    def _initialise(self, config: Model) -> None:
        """GPT-2's: normal weights, those that write to the residual stream smaller the deeper the network."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith("output.weight")
                nn.init.normal_(parameter, std=EMBEDDING_SCALE / (math.sqrt(2 * config.layers) if writes else 1.0))

    def residual_stream(
        self,
        tokens: Int[Tensor, "batch length"],
        visible: Bool[Tensor, "*layers #batch length length"],
        read_at: Int[Tensor, "batch reads"] | None = None,
        *,
        apart: int = 1,
        edit: Edit = lambda depth, x: x,
    ) -> list[Float[Tensor, "batch _ width"]]:
        """The residual stream: the embeddings, then what each layer leaves; the last one only at `read_at`, if that is
        given. `visible`: the same in all layers, or one for each. `apart`: as many samples are of one row. `edit`: what
        the layers after a depth find there, instead of what the one before left."""
        stream, _ = self._through(tokens, visible, read_at, apart, edit, self._reference_states())
        return stream

    def _through(
        self,
        tokens: Int[Tensor, "batch length"],
        visible: Bool[Tensor, "*layers #batch length length"],
        read_at: Int[Tensor, "batch reads"] | None,
        apart: int,
        edit: Edit,
        reference: list[Tensor] | None = None,
    ) -> tuple[list[Float[Tensor, "batch _ width"]], list[Float[Tensor, "batch _ width"]]]:
        """The residual stream, and the states that enter every sublayer. `reference`: those of the reference rows."""
        x = edit(0, self.dropout(self.positional.add(self.embedding(tokens))))
        bias = self.positional.bias(visible).to(x.dtype)
        biases = bias.expand(len(self.blocks), *bias.shape[-4:])
        stream = [x]
        states: list[Tensor] = []  # not list[Tensor](), which torch.compile does not know

        def entering(x: Tensor) -> Donors:
            states.append(x.detach())
            return Donors(reference[len(states) - 1] if reference else None, apart)

        for layer, block in enumerate(self.blocks):
            at = read_at if layer == len(self.blocks) - 1 and not self.lends else None
            x = edit(layer + 1, block(x, entering, biases[layer], at))
            stream.append(x)
        if self.lends:
            stream[-1] = select_positions(stream[-1], read_at)
        return stream, states

    @torch.no_grad()
    def _reference_states(self) -> list[Tensor] | None:
        """What the reference rows lend at every sublayer; nothing in training."""
        if self.reference is None or self.training:
            return None
        rows = self.reference
        samples = self.pattern.samples(rows, torch.full_like(rows[:, :1], rows.shape[1] - 1))
        return self._through(samples.tokens, samples.visible, None, 1, lambda depth, x: x)[1]

    def forward(
        self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "batch reads"]
    ) -> Float[Tensor, "batch reads vocabulary"]:
        """Logits for the token after each of `positions`, which never look beyond that position."""
        samples = self.pattern.samples(tokens, positions)
        x = self.residual_stream(*samples, apart=len(samples.tokens) // len(tokens))[-1]
        return self.logits(x).view(*positions.shape, -1)

    def logits(self, x: Float[Tensor, "batch reads width"]) -> Float[Tensor, "batch reads vocabulary"]:
        """For the next token, from what the last layer leaves."""
        return self.norm(x) @ self.embedding.weight.T
