"""The section `model` of `params.yaml`: sizes and switches of the transformer."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from pipeline.params.config import Config

PositionalName = Literal["none", "learned", "sinusoidal", "rotary", "alibi"]
"""Names of the positional encodings."""
AttentionName = Literal["causal", "full"]
"""Names of the attention masks."""
DonorSubstitute = Literal["other-row", "elsewhere", "slot-mean", "all-mean", "noise"]
"""Names of the substitutes for residual connections that are computed from the states of donor examples."""
PositionSubstitute = Literal["other-row", "slot-mean", "noise"]
"""Names of the substitutes for residual connections that encode the position: they differ between positions for all
tokens."""
SubstituteName = Literal["none", "backward", "forward", DonorSubstitute, "fade"]
"""Names of all substitutes for residual connections."""


class Sublayers(Config):
    """A set of sublayers: indices of the layers whose attention is in the set, and of the layers whose MLP is."""

    attention: tuple[NonNegativeInt, ...] = ()
    mlp: tuple[NonNegativeInt, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _accept_lists(cls, value: Any) -> Any:
        """Convert lists to tuples, which YAML does not have; `[1, 2]` means both sublayers of layers 1 and 2."""
        if isinstance(value, list | tuple):
            value = {"attention": value, "mlp": value}
        if isinstance(value, dict):
            return {key: tuple(layers) if isinstance(layers, list) else layers for key, layers in value.items()}
        return value

    @field_validator("attention", "mlp")
    @classmethod
    def _sort_layers(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if repeated := sorted({layer for layer in layers if layers.count(layer) > 1}):
            raise ValueError(f"layer {repeated[0]} is listed twice")
        return tuple(sorted(layers))

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
    attention: AttentionName = "causal"
    residual_free: Sublayers = Sublayers()
    """The sublayers whose residual connection is removed."""
    residual_substitute: SubstituteName = "none"
    """The substitute for the removed residual connections, if any."""

    @property
    def uses_donors(self) -> bool:
        """True if removed residual connections are substituted by states of donors (other examples)."""
        return bool(self.residual_free.layers) and self.residual_substitute in get_args(DonorSubstitute)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width {self.width}")
        if self.positional == "rotary" and (self.width // self.heads) % 2:
            raise ValueError(
                f"positional: rotary rotates pairs of units, but width {self.width} / heads {self.heads} "
                f"= {self.width // self.heads} is odd"
            )
        if self.positional == "sinusoidal" and self.width % 2:
            raise ValueError(f"positional: sinusoidal needs an even width, not {self.width}")
        for name, value in self:
            for sublayer, layers in value if isinstance(value, Sublayers) else ():
                if beyond := [layer for layer in layers if layer >= self.layers]:
                    raise ValueError(
                        f"{name}: there is no layer {beyond[0]} ({sublayer}); the layers are 0 to {self.layers - 1}"
                    )
        return self
