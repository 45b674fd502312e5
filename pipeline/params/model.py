"""The section `model` of `params.yaml`: sizes and switches of the transformer."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.params.config import Config, Distinct

PositionalName = Literal["none", "learned", "sinusoidal", "rotary", "alibi"]
"""Names of the positional encodings."""
AttentionName = Literal["causal", "full"]
"""Names of the attention masks."""
Attention = AttentionName | Annotated[tuple[AttentionName, ...], Field(strict=False)]
"""The attention mask of all layers, or a list with one mask per layer."""
PositionSubstitute = Literal["donor", "donor-deranged", "donor-permuted", "position-mean", "learned-vector", "noise"]
"""Names of the substitutes for residual connections that encode the position: they differ between positions for all
tokens."""
SubstituteName = Literal["none", "detached", PositionSubstitute, "constant"]
"""Names of all substitutes for residual connections."""


Layers = Annotated[
    tuple[NonNegativeInt, ...], Field(strict=False), Distinct, AfterValidator(lambda layers: tuple(sorted(layers)))
]
"""Indices of layers, ascending. (`strict=False` accepts a list, because YAML has no tuples.)"""


class Sublayers(Config):
    """A set of sublayers: indices of the layers whose attention is in the set, and of the layers whose MLP is."""

    attention: Layers = ()
    mlp: Layers = ()

    @model_validator(mode="before")
    @classmethod
    def _accept_list(cls, value: Any) -> Any:
        """Convert a list such as `[1, 2]`, which means both sublayers of layers 1 and 2."""
        return {"attention": value, "mlp": value} if isinstance(value, list | tuple) else value

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the layers with at least one sublayer in the set, ascending."""
        return tuple(sorted({*self.attention, *self.mlp}))


class Model(Config):
    """The section `model` of `params.yaml`: sizes, which must be given, and switches, which have defaults."""

    layers: Annotated[int, Field(ge=1, le=64)]
    heads: PositiveInt
    width: PositiveInt
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    positional: PositionalName = "learned"
    attention: Attention = "causal"
    residual_free: Sublayers = Sublayers()
    """The sublayers whose residual connection is removed."""
    residual_substitute: SubstituteName = "none"
    """The substitute for the removed residual connections, if any."""
    residual_fade_steps: PositiveInt | None = None
    """Number of training steps in which the removed residual connections fade from intact to gone. None: they are never
    there. Evaluation always sees the network without them."""
    positional_until: PositiveInt | None = None
    """Number of training steps after which the positional encoding is dropped. None: it stays. Evaluation always sees
    the network without it."""

    @property
    def attention_by_layer(self) -> tuple[AttentionName, ...]:
        """Name of each layer's attention mask."""
        return (self.attention,) * self.layers if isinstance(self.attention, str) else self.attention

    @property
    def final_positional(self) -> PositionalName:
        """Name of the positional encoding of the network that is evaluated: none if it is dropped during training."""
        return self.positional if self.positional_until is None else "none"

    @property
    def final_from(self) -> int:
        """Number of training steps after which the trained network is the one that is evaluated: nothing more fades or
        is dropped."""
        return max(self.residual_fade_steps or 0, self.positional_until or 0)

    @property
    def uses_donors(self) -> bool:
        """True if removed residual connections are substituted by states of donors (other examples), or scaled as they
        are."""
        return bool(self.residual_free.layers) and self.residual_substitute not in ("none", "detached")

    @model_validator(mode="before")
    @classmethod
    def _accept_equal_masks(cls, values: Any) -> Any:
        """Replace a list that names one mask for all layers by that name, so that equal networks compare equal."""
        masks = values.get("attention") if isinstance(values, dict) else None
        if isinstance(masks, list | tuple) and masks and list(masks) == [masks[0]] * values.get("layers", 0):
            return values | {"attention": masks[0]}
        return values

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if len(self.attention_by_layer) != self.layers:
            raise ValueError(f"attention: a list needs one mask per layer: {self.layers}, not {len(self.attention)}")
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width {self.width}")
        if self.positional == "rotary" and (self.width // self.heads) % 2:
            raise ValueError(f"positional: rotary needs an even width / heads, not {self.width} / {self.heads}")
        if self.positional == "sinusoidal" and self.width % 2:
            raise ValueError(f"positional: sinusoidal needs an even width, not {self.width}")
        if self.positional_until and self.positional == "none":
            raise ValueError(f"positional_until: {self.positional_until} drops nothing; positional is none")
        if self.residual_fade_steps and self.residual_substitute != "none":
            raise ValueError(
                f"residual_fade_steps: {self.residual_fade_steps} needs residual_substitute none, "
                f"not {self.residual_substitute!r}"
            )
        if beyond := [layer for layer in self.residual_free.layers if layer >= self.layers]:
            raise ValueError(f"residual_free: there is no layer {beyond[0]}; the layers are 0 to {self.layers - 1}")
        return self
