"""The transformer: a pre-norm decoder in the nanoGPT manner (Radford et al. 2019), with tied embeddings.

What varies is passed in: positional encoding, attention pattern, and for each layer and sublayer whether its
residual connection is there.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipeline.params import Model
from pipeline.transformer.attention import PATTERNS, Attention, taken
from pipeline.transformer.dropout import KeyedDropout
from pipeline.transformer.positional import EMBEDDING_SCALE, POSITIONAL


class MLP(nn.Module):
    """Two linear maps with a GELU between them, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, 4 * width, bias=False)
        self.activation = nn.GELU()
        self.output = nn.Linear(4 * width, width, bias=False)

    @torch.no_grad()
    def lean_to_identity(self, scale: float) -> None:
        """Let half of the units make up `scale` times the identity: gelu(x) - gelu(-x) = x."""
        width = self.output.out_features
        identity = torch.eye(width)
        self.input.weight[: 2 * width] = torch.cat((identity, -identity))
        self.output.weight[:, : 2 * width] = scale * torch.cat((identity, -identity), dim=1)

    def forward(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        return self.output(self.activation(self.input(x)))


class Sublayer(nn.Module):
    """Norm, transformation, dropout, and the residual connection around them, where there is one."""

    transformation: Attention | MLP

    def __init__(self, width: int, transformation: Attention | MLP, *, dropout: float, residual: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.transformation = transformation
        self.dropout = KeyedDropout(dropout)
        self.residual = residual

    def forward(
        self, x: Float[Tensor, "batch length width"], **context: Tensor | None
    ) -> Float[Tensor, "batch _ width"]:
        """`context`: what the transformation is told; if that is `at`, it answers for these places alone."""
        update = self.dropout(self.transformation(self.norm(x), **context))
        return taken(x, context.get("at")) + update if self.residual else update


class Block(nn.Module):
    """One layer: attention, then MLP."""

    def __init__(self, attention: Sublayer, mlp: Sublayer) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        bias: Float[Tensor, "#batch #heads length length"],
        at: Int[Tensor, "batch places"] | None = None,
    ) -> Float[Tensor, "batch _ width"]:
        x = self.attention(x, bias=bias, at=at)
        return self.mlp(x)


class Transformer(nn.Module):
    """Tokens in, logits for the next token out.

    Args:
        config: sizes and switches.
        vocabulary: number of different tokens.
        length: longest row, in tokens.
    """

    def __init__(self, config: Model, *, vocabulary: int, length: int) -> None:
        super().__init__()
        free = config.residual_free
        self.pattern = PATTERNS[config.attention]
        self.positional_every_layer = config.positional_every_layer
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.positional = POSITIONAL[config.positional](length, config.width, config.heads)
        self.dropout = KeyedDropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(
                attention=Sublayer(
                    config.width,
                    Attention(config.width, config.heads, self.positional),
                    dropout=config.dropout,
                    residual=layer not in free.attention,
                ),
                mlp=Sublayer(config.width, MLP(config.width), dropout=config.dropout, residual=layer not in free.mlp),
            )
            for layer in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self._initialise(config)

    def _initialise(self, config: Model) -> None:
        """GPT-2's: normal weights, those that write to the residual stream smaller the deeper the network. If so
        configured, what lets the signal pass where there is no residual connection, as large as it is: a
        sublayer sees it normalised, so that an identity would make it as many times larger as the embeddings are
        small."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith("output.weight")
                nn.init.normal_(parameter, std=EMBEDDING_SCALE / (math.sqrt(2 * config.layers) if writes else 1.0))
        if config.residual_free_initialisation == "identity":
            for sublayer in self.modules():
                if isinstance(sublayer, Sublayer) and not sublayer.residual:
                    sublayer.transformation.lean_to_identity(EMBEDDING_SCALE)

    def residual_stream(
        self,
        tokens: Int[Tensor, "batch length"],
        visible: Bool[Tensor, "*layers #batch length length"],
        read_at: Int[Tensor, "batch reads"] | None = None,
    ) -> list[Float[Tensor, "batch _ width"]]:
        """The residual stream: the embeddings, then what each layer leaves; the last one only at `read_at`, if that is
        given. `visible`: the same in all layers, or one for each."""
        x = self.dropout(self.positional.add(self.embedding(tokens)))
        bias = self.positional.bias(visible).to(x.dtype)
        biases = bias.expand(len(self.blocks), *bias.shape[-4:])
        stream = [x]
        for layer, block in enumerate(self.blocks):
            if layer and self.positional_every_layer:
                x = self.positional.add(x)
            x = block(x, biases[layer], read_at if layer == len(self.blocks) - 1 else None)
            stream.append(x)
        return stream

    def forward(
        self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "batch reads"]
    ) -> Float[Tensor, "batch reads vocabulary"]:
        """Logits for the token after each of `positions`, which never look beyond that position."""
        x = self.residual_stream(*self.pattern.samples(tokens, positions))[-1]
        return self.logits(x).view(*positions.shape, -1)

    def logits(self, x: Float[Tensor, "batch reads width"]) -> Float[Tensor, "batch reads vocabulary"]:
        """For the next token, from what the last layer leaves."""
        return self.norm(x) @ self.embedding.weight.T
