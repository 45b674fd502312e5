"""An Optuna study: what it varies, and how far it goes."""

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.params.config import Config, Fraction, Seed, requirement_text, shorten, suggest
from pipeline.params.model import Model, Sublayers
from pipeline.params.training import Training, check_distinct_seeds

FIXED = ("seeds", "steps", "snapshots")
"""What of `training` a study says elsewhere."""
SEARCHABLE = {
    name: field for section in (Model, Training) for name, field in section.model_fields.items() if name not in FIXED
}
"""Every field of `model` and `training` that a space may list."""
PER_LAYER = [name for name, field in SEARCHABLE.items() if field.annotation is Sublayers]
"""Those of which each layer and sublayer has its own."""


class LayerChoices(Config):
    """For each layer from 0 on: whether its sublayer is searched, or always kept as it is (not among the field's) or
    free (among them)."""

    attention: list[Literal["searched", "kept", "free"]]
    mlp: list[Literal["searched", "kept", "free"]]


Entry = Annotated[
    Annotated[list[Any], Tag("[list]")] | Annotated[LayerChoices, Tag("[layers]")],
    Discriminator(lambda given: "[layers]" if isinstance(given, dict | LayerChoices) else "[list]"),
]
"""What a space says of one field."""


class Search(Config):
    """An Optuna study: which of the architectures in `space` still converge, and how sparse they can be."""

    task: str
    space: dict[str, Entry]
    """Any field of `model` or `training`: a list is searched, a list of one is fixed; of a field of sublayers, such as
    `residual_free`, what may be done by layer. What is not listed is as in `model` and `training`."""
    trials: PositiveInt
    seeds: Annotated[list[Seed], Field(min_length=1)]
    """The members of each trial."""
    steps: PositiveInt
    """The most a trial trains; the rest is as in `training`."""
    confirm: list[Seed] = Field(default_factory=list)
    """Fresh seeds with which the configurations that the answer names are trained again, since the best of many looks
    better than it is."""
    give_up_at: Fraction = 0.5
    """A trial is hopeless, and stopped, when after this share of its steps ..."""
    give_up_below: Fraction = 0.02
    """... no member has reached this score on validation: exact match, or the probability given to the next token."""
    enumerate_up_to: NonNegativeInt = 40
    """A space of no more configurations than this is enumerated instead of sampled."""
    seed: Seed = 1
    """Of the sampler."""
    heartbeat: PositiveInt = 20
    """Seconds between a worker's signs of life; one that misses three is taken for dead, and its trial run again."""
    storage: Annotated[str, Field(pattern=r"^(sqlite|postgresql(\+\w+)?)://.+")] | None = None
    """None: an SQLite file below `reports/search/`. The environment variable `SEARCH_STORAGE` comes first."""

    @field_validator("seeds", "confirm")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        return check_distinct_seeds(seeds)

    @model_validator(mode="after")
    def _fresh(self) -> Self:
        if used := {*self.seeds} & {*self.confirm}:
            raise ValueError(f"confirm: {min(used)} is one of seeds, by which the best are chosen; take others")
        return self

    @field_validator("space")
    @classmethod
    def _fields(cls, space: dict[str, list[Any] | LayerChoices]) -> dict[str, list[Any] | LayerChoices]:
        for name, choices in space.items():
            if name not in SEARCHABLE:
                raise ValueError(f"{shorten(name)} is no field to search{suggest(name, list(SEARCHABLE))}")
            if isinstance(choices, LayerChoices) != (name in PER_LAYER):
                wanted = "{attention: [...], mlp: [...]}" if name in PER_LAYER else "a list of values"
                raise ValueError(f"{name}: must be {wanted}, not {shorten(choices)}")
            if isinstance(choices, list):
                _check_values(name, choices)
        return space

    @property
    def plain(self) -> dict[str, list[Any]]:
        """The fields that have one value, and the values they may have; the number of layers, which decides what else
        there is to choose, comes first."""
        lists = {name: choices for name, choices in self.space.items() if isinstance(choices, list)}
        return {name: lists[name] for name in sorted(lists, key=lambda name: name != "layers")}

    @property
    def layered(self) -> dict[str, LayerChoices]:
        """The fields of which each layer has its own."""
        return {name: choices for name, choices in self.space.items() if isinstance(choices, LayerChoices)}

    def too_shallow(self, layers: int) -> str:
        """What is wrong with the lists of what each layer has, where a model may have `layers` layers or as many as the
        space says; nothing if there is nothing."""
        deepest = max(self.plain.get("layers", [layers]))
        for name, choices in self.layered.items():
            for sublayer, listed in choices:
                if len(listed) < deepest:
                    return f"{name}.{sublayer}: has {len(listed)} entries, one a layer, but layers goes up to {deepest}"
        return ""

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the plain fields' values."""
        for values in product(*self.plain.values()):
            yield dict(zip(self.plain, values, strict=True))


def _check_values(name: str, values: list[Any]) -> None:
    if not values:
        raise ValueError(f"{name}: lists nothing")
    if len({repr(value) for value in values}) < len(values):
        raise ValueError(f"{name}: {shorten(values)} lists a value twice")
    if len(values) > 1 and any(isinstance(value, list | dict) for value in values):
        raise ValueError(f"{name}: only single values are searched, not {shorten(values[0])}")
    field = SEARCHABLE[name]
    of_field: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    for value in values:
        try:
            of_field.validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
        except ValidationError as error:
            said = requirement_text(error.errors()[0]["msg"])
            raise ValueError(f"{name}: {said}, not {shorten(value)}") from None
