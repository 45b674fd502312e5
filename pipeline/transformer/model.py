"""The transformer: a pre-norm decoder with tied embeddings, after GPT-2 (Radford et al. 2019) and nanoGPT.

The configuration chooses the positional encoding, the attention masks, which sublayers have a residual connection,
and what substitutes the missing ones.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipeline.params import Model
from pipeline.transformer.attention import Attention, Samples, build_samples, last_position, select_positions
from pipeline.transformer.dropout import KeyedDropout
from pipeline.transformer.positional import EMBEDDING_SCALE, POSITIONAL_ENCODINGS, TemporaryEncoding
from pipeline.transformer.substitutes import FadingConnection, ResidualSubstitute, States


class MLP(nn.Module):
    """Multi-layer perceptron: two linear maps with a GELU between them; the hidden layer is four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, 4 * width, bias=False)
        self.activation = nn.GELU()
        self.output = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: States) -> States:
        return self.output(self.activation(self.input(x)))


class Sublayer(nn.Module):
    """Half a layer: layer norm, attention or MLP, dropout, with a residual connection or its substitute around them."""

    def __init__(self, config: Model, transformation: Attention | MLP, *, has_residual: bool, length: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.transformation = transformation
        self.dropout = KeyedDropout(config.dropout)
        self.has_residual = has_residual
        self.substitute: ResidualSubstitute | FadingConnection | None = None
        if not has_residual and config.residual_fade_steps:
            self.substitute = FadingConnection(config.residual_fade_steps)
        elif not has_residual and config.residual_substitute != "none":
            self.substitute = ResidualSubstitute(config.residual_substitute, length, config.width)

    def forward(
        self, x: States, donor_states: States | None, samples_per_example: int, **attention_inputs: Any
    ) -> States:
        """Return the sublayer's output. `attention_inputs`: further arguments of `Attention`; none for an MLP."""
        update = self.dropout(self.transformation(self.norm(x), **attention_inputs))
        if self.has_residual:
            carried = x
        elif self.substitute:
            carried = self.substitute(x, donor_states, samples_per_example)
        else:
            return update
        return select_positions(carried, attention_inputs.get("output_positions")) + update


class Block(nn.Module):
    """One layer of the transformer: attention, then MLP."""

    def __init__(self, attention: Sublayer, mlp: Sublayer) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp

    def forward(
        self, x: States, donor_states: Sequence[States | None], samples_per_example: int, **attention_inputs: Any
    ) -> tuple[States, States]:
        """Return the states after attention and after the MLP. `donor_states`: donors' states at the input of both."""
        middle = self.attention(x, donor_states[0], samples_per_example, **attention_inputs)
        return middle, self.mlp(middle, donor_states[1], samples_per_example)


class Transformer(nn.Module):
    """A decoder that maps tokens to the logits of the next token.

    Args:
        vocabulary: number of different tokens.
        length: length of the longest token sequence.
        donors: token sequences of the donor examples, whose states a substitute uses in evaluation. With full
            attention each is read as one prefix of full length; training uses prefixes of all lengths.
    """

    donors: Tensor | None

    def __init__(
        self, config: Model, *, vocabulary: int, length: int, donors: Int[Tensor, "donors {length}"] | None = None
    ) -> None:
        super().__init__()
        if config.uses_donors and donors is None:
            raise ValueError(f"residual_substitute {config.residual_substitute} needs donor examples")
        self.register_buffer("donors", donors if config.uses_donors else None, persistent=False)
        self.attention_by_layer = config.attention_by_layer
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.positional = POSITIONAL_ENCODINGS[config.positional](length, config.width, config.heads)
        if config.positional_until:
            self.positional = TemporaryEncoding(self.positional, config.positional_until)
        self.dropout = KeyedDropout(config.dropout)
        free, width = config.residual_free, config.width
        self.blocks = nn.ModuleList(
            Block(
                Sublayer(config, Attention(width, config.heads), has_residual=n not in free.attention, length=length),
                Sublayer(config, MLP(width), has_residual=n not in free.mlp, length=length),
            )
            for n in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        for name, parameter in self.named_parameters():  # as GPT-2: the weights that write to the stream are smaller
            if parameter.ndim == 2:
                writes = name.endswith("output.weight")
                nn.init.normal_(parameter, std=EMBEDDING_SCALE / (math.sqrt(2 * config.layers) if writes else 1.0))

    def samples(self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "batch reads"]) -> Samples:
        """Return the samples that the transformer reads to predict the tokens after `positions`."""
        return build_samples(self.attention_by_layer, tokens, positions)

    def residual_stream(
        self,
        tokens: Int[Tensor, "batch length"],
        attention_mask: Bool[Tensor, "*layers #batch length length"],
        output_positions: Int[Tensor, "batch reads"] | None = None,
        *,
        samples_per_example: int = 1,
        start: tuple[int, States] | None = None,
    ) -> list[States]:
        """Return the embeddings and the states after each layer; the last layer's only at `output_positions`, if given.

        Args:
            attention_mask: True where a query attends to a key: one mask for all layers, or one per layer.
            samples_per_example: number of consecutive samples that are prefixes of one example.
            start: a depth (number of layers passed) and states to continue from there, instead of the embeddings of
                `tokens`; they are then the first of the list.
        """
        donor_states = None
        if self.donors is not None and not self.training:
            donors = self.samples(self.donors, last_position(self.donors))
            with torch.no_grad():
                donor_states = self._states_by_sublayer(donors.tokens, donors.attention_mask)
        states = self._states_by_sublayer(
            tokens, attention_mask, output_positions, donor_states, samples_per_example, start
        )
        return states[::2]

    def _states_by_sublayer(
        self,
        tokens: Tensor,
        attention_mask: Tensor,
        output_positions: Tensor | None = None,
        donor_states: list[Tensor] | None = None,
        samples_per_example: int = 1,
        start: tuple[int, Tensor] | None = None,
    ) -> list[Tensor]:
        """Return the states that enter each sublayer, and the states after the last sublayer."""
        bias = self.positional.score_bias(attention_mask)
        depth, x = start or (0, self.dropout(self.positional.add_positions(self.embedding(tokens))))
        biases = bias.to(x.dtype).expand(len(self.blocks), *bias.shape[-4:])
        states = [x]
        for layer in range(depth, len(self.blocks)):
            layer_donors = donor_states[2 * layer : 2 * layer + 2] if donor_states else (None, None)
            # Donors' states have all positions, so that a substitute cannot be computed at some positions alone.
            read_at = output_positions if layer == len(self.blocks) - 1 and self.donors is None else None
            attention_inputs = {"encoding": self.positional, "score_bias": biases[layer], "output_positions": read_at}
            middle, x = self.blocks[layer](x, layer_donors, samples_per_example, **attention_inputs)
            states += [middle, x]
        if self.donors is not None or depth == len(self.blocks):
            states[-1] = select_positions(states[-1], output_positions)
        return states

    def forward(
        self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "batch reads"]
    ) -> Float[Tensor, "batch reads vocabulary"]:
        """Return the logits for the token after each of `positions`; no later token has any effect on them."""
        samples = self.samples(tokens, positions)
        x = self.residual_stream(*samples, samples_per_example=len(samples.tokens) // len(tokens))[-1]
        return self.logits(x).view(*positions.shape, -1)

    def logits(self, x: Float[Tensor, "batch reads width"]) -> Float[Tensor, "batch reads vocabulary"]:
        """Return the logits for the next token, from the states after the last layer."""
        return self.norm(x) @ self.embedding.weight.T
