"""The transformer: a pre-norm decoder with tied embeddings, after GPT-2 (Radford et al. 2019) and nanoGPT.

The configuration chooses the positional encoding, the attention pattern, which sublayers have a residual connection,
and what substitutes the missing ones.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipeline.params import Model
from pipeline.transformer.attention import PATTERNS, Attention, last_position, select_positions
from pipeline.transformer.dropout import KeyedDropout
from pipeline.transformer.positional import EMBEDDING_SCALE, POSITIONAL
from pipeline.transformer.substitutes import SUBSTITUTES, ResidualSubstitute

States = Float[Tensor, "batch length width"]
Edit = Callable[[int, States], States]
"""Function of a depth (number of layers passed) and the states there that returns the states to continue with."""


def unedited(depth: int, x: States) -> States:
    """Return the states as they are: the `Edit` that changes nothing."""
    return x


class MLP(nn.Module):
    """Two linear maps with a GELU between them; the hidden layer is four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, 4 * width, bias=False)
        self.activation = nn.GELU()
        self.output = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: States) -> States:
        return self.output(self.activation(self.input(x)))


class Sublayer(nn.Module):
    """Norm, attention or MLP, dropout, and the residual connection around them or its substitute."""

    def __init__(self, config: Model, transformation: Attention | MLP, *, residual: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.transformation = transformation
        self.dropout = KeyedDropout(config.dropout)
        self.residual = residual
        substitute = None if residual else SUBSTITUTES[config.residual_substitute]
        self.substitute = ResidualSubstitute(substitute) if substitute else None

    def forward(
        self, x: States, donor_states: Tensor | None, samples_per_example: int, **attention_inputs: Any
    ) -> Float[Tensor, "batch _ width"]:
        """Return the output. `attention_inputs`: further arguments of `Attention`, or none for an MLP."""
        update = self.dropout(self.transformation(self.norm(x), **attention_inputs))
        if self.residual:
            carried = x
        elif self.substitute:
            carried = self.substitute(x, donor_states, samples_per_example)
        else:
            return update
        return select_positions(carried, attention_inputs.get("read_at")) + update


class Block(nn.Module):
    """One layer: attention, then MLP."""

    def __init__(self, attention: Sublayer, mlp: Sublayer) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp

    def forward(
        self, x: States, donor_states: Sequence[Tensor | None], samples_per_example: int, **attention_inputs: Any
    ) -> tuple[Float[Tensor, "batch reads width"], Float[Tensor, "batch reads width"]]:
        """Return the states after attention and after the MLP. `donor_states`: those for attention and for the MLP."""
        middle = self.attention(x, donor_states[0], samples_per_example, **attention_inputs)
        return middle, self.mlp(middle, donor_states[1], samples_per_example)


class Transformer(nn.Module):
    """A decoder that maps tokens to the logits of the next token.

    Args:
        config: sizes and switches.
        vocabulary: number of different tokens.
        length: longest token sequence that the model reads.
        donors: token sequences of the donors in evaluation, for substitutes that use donors. With full attention,
            donors are read as one prefix of full length, while training takes prefixes of all lengths as donors.

    Raises:
        ValueError: the substitute uses donors, but none are given.
    """

    donors: Tensor | None

    def __init__(
        self,
        config: Model,
        *,
        vocabulary: int,
        length: int,
        donors: Int[Any, "donors {length}"] | None = None,
    ) -> None:
        super().__init__()
        self.uses_donors = config.uses_donors
        if self.uses_donors and donors is None:
            raise ValueError(f"residual_substitute {config.residual_substitute} needs donor examples")
        self.register_buffer("donors", torch.as_tensor(donors) if self.uses_donors else None, persistent=False)
        self.samples = PATTERNS[config.attention]
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.positional = POSITIONAL[config.positional](length, config.width, config.heads)
        self.dropout = KeyedDropout(config.dropout)
        free = config.residual_free
        self.blocks = nn.ModuleList(
            Block(
                Sublayer(config, Attention(config.width, config.heads), residual=layer not in free.attention),
                Sublayer(config, MLP(config.width), residual=layer not in free.mlp),
            )
            for layer in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self._initialise(config.layers)

    def _initialise(self, layers: int) -> None:
        """Draw the weights as GPT-2 does: normal, and smaller in deep networks where they write to the stream."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith("output.weight")
                nn.init.normal_(parameter, std=EMBEDDING_SCALE / (math.sqrt(2 * layers) if writes else 1.0))

    def residual_stream(
        self,
        tokens: Int[Tensor, "batch length"],
        visible: Bool[Tensor, "*layers #batch length length"],
        read_at: Int[Tensor, "batch reads"] | None = None,
        *,
        samples_per_example: int = 1,
        edit: Edit = unedited,
    ) -> list[Float[Tensor, "batch _ width"]]:
        """Return the embeddings and the states after each layer; those of the last layer only at `read_at`, if given.

        Args:
            visible: which keys each query attends to, in all layers or one mask per layer.
            samples_per_example: number of consecutive samples that are prefixes of one example.
            edit: changes the states at any depth before the next layer reads them.
        """
        return self._states(tokens, visible, read_at, self._donor_states(), samples_per_example, edit)[::2]

    def _states(
        self,
        tokens: Tensor,
        visible: Tensor,
        read_at: Tensor | None = None,
        donor_states: list[Tensor] | None = None,
        samples_per_example: int = 1,
        edit: Edit = unedited,
    ) -> list[Tensor]:
        """Return the states that enter each sublayer, and those after the last one."""
        bias = self.positional.bias(visible)
        x = edit(0, self.dropout(self.positional.add(self.embedding(tokens))))
        biases = bias.to(x.dtype).expand(len(self.blocks), *bias.shape[-4:])
        states = [x]
        for layer, block in enumerate(self.blocks):
            of_layer = donor_states[2 * layer : 2 * layer + 2] if donor_states else (None, None)
            # Donors' states have all positions, so that a substitute cannot be computed at `read_at` alone.
            only_at = read_at if layer == len(self.blocks) - 1 and not self.uses_donors else None
            attention_inputs = {"encoding": self.positional, "bias": biases[layer], "read_at": only_at}
            middle, x = block(x, of_layer, samples_per_example, **attention_inputs)
            x = edit(layer + 1, x)
            states += [middle, x]
        if self.uses_donors:
            states[-1] = select_positions(states[-1], read_at)
        return states

    @torch.no_grad()
    def _donor_states(self) -> list[Tensor] | None:
        """Return the states with which the fixed donors enter each sublayer; None in training or without donors."""
        if self.donors is None or self.training:
            return None
        samples = self.samples(self.donors, last_position(self.donors))
        return self._states(samples.tokens, samples.visible)

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
