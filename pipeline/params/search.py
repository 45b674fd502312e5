"""The search: an Optuna study, what it varies and how long it runs."""

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

SEARCHABLE = {
    name: field
    for section in (Model, Training)
    for name, field in section.model_fields.items()
    if name not in ("seeds", "steps", "snapshots")  # which `search` sets
}
"""Fields of `model` and `training` that a space may list."""
PER_LAYER = [name for name, field in SEARCHABLE.items() if field.annotation is Sublayers]
"""Fields that are chosen for each layer and sublayer."""


class LayerChoices(Config):
    """Choice for each sublayer, by layer from 0 on. Of `residual_free`: `searched`, `kept` (the connection always
    stays) or `free` (it is always removed)."""

    attention: list[Literal["searched", "kept", "free"]]
    mlp: list[Literal["searched", "kept", "free"]]


Entry = Annotated[
    Annotated[list[Any], Tag("[list]")] | Annotated[LayerChoices, Tag("[layers]")],
    Discriminator(lambda entry: "[layers]" if isinstance(entry, dict | LayerChoices) else "[list]"),
]
"""Entry of a space: the values of a field, or the choices by layer."""


class Search(Config):
    """An Optuna study: which architectures of `space` converge, and how few layers and residual connections suffice."""

    task: str
    space: dict[str, Entry]
    """Fields of `model` or `training`. A list of values is searched, a list of one is fixed; `residual_free` has
    choices by layer. Other fields are as in `model` and `training`."""
    trials: PositiveInt
    seeds: Annotated[list[Seed], Field(min_length=1)]
    """Seeds of the runs of each trial."""
    steps: PositiveInt
    """Budget of each run; other settings are as in `training`."""
    confirm: list[Seed] = Field(default_factory=list)
    """Fresh seeds with which the best configurations are trained again, because the best of many looks better than it
    is."""
    give_up_at: Fraction = 0.5
    """Share of the steps after which a trial is stopped as hopeless, unless ..."""
    give_up_below: Fraction = 0.02
    """... a run has reached this score on validation: exact match, or the probability of the next token."""
    enumerate_up_to: NonNegativeInt = 40
    """Size up to which a space is tried in full; a larger one is sampled."""
    seed: Seed = 1
    """Seed of the sampler."""
    heartbeat: PositiveInt = 20
    """Seconds between a worker's heartbeats. If one misses three, its trial is run again."""
    storage: Annotated[str, Field(pattern=r"^(sqlite|postgresql(\+\w+)?)://.+")] | None = None
    """Address of the database; None: an SQLite file in `reports/search/`. The environment variable `SEARCH_STORAGE` has
    precedence."""

    @field_validator("seeds", "confirm")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        return check_distinct_seeds(seeds)

    @model_validator(mode="after")
    def _fresh(self) -> Self:
        if shared := {*self.seeds} & {*self.confirm}:
            raise ValueError(
                f"confirm: {min(shared)} is also one of seeds, with which the best are chosen; take others"
            )
        return self

    @field_validator("space")
    @classmethod
    def _fields(cls, space: dict[str, list[Any] | LayerChoices]) -> dict[str, list[Any] | LayerChoices]:
        for name, entry in space.items():
            if name not in SEARCHABLE:
                raise ValueError(f"{shorten(name)} is no field to search{suggest(name, list(SEARCHABLE))}")
            if isinstance(entry, LayerChoices) != (name in PER_LAYER):
                allowed = "{attention: [...], mlp: [...]}" if name in PER_LAYER else "a list of values"
                raise ValueError(f"{name}: must be {allowed}, not {shorten(entry)}")
            if isinstance(entry, list):
                _check_values(name, entry)
        return space

    @property
    def value_lists(self) -> dict[str, list[Any]]:
        """Fields that list values, with their values; `layers` first, because it decides which layers have choices."""
        lists = {name: entry for name, entry in self.space.items() if isinstance(entry, list)}
        return {name: lists[name] for name in sorted(lists, key=lambda name: name != "layers")}

    @property
    def layer_choices(self) -> dict[str, LayerChoices]:
        """Fields that have choices by layer, with their choices."""
        return {name: entry for name, entry in self.space.items() if isinstance(entry, LayerChoices)}

    def missing_layers(self, layers: int) -> str:
        """Error message if an entry has choices for too few layers, else "".

        `layers`: number of layers of a model whose layers are not in the space.
        """
        deepest = max(self.value_lists.get("layers", [layers]))
        for name, by_sublayer in self.layer_choices.items():
            for sublayer, choices in by_sublayer:
                if len(choices) < deepest:
                    return (
                        f"{name}.{sublayer}: has {len(choices)} entries, one a layer, but layers goes up to {deepest}"
                    )
        return ""

    def combinations(self) -> Iterator[dict[str, Any]]:
        """All combinations of the listed values."""
        for values in product(*self.value_lists.values()):
            yield dict(zip(self.value_lists, values, strict=True))


def _check_values(name: str, values: list[Any]) -> None:
    if not values:
        raise ValueError(f"{name}: lists nothing")
    if len({repr(value) for value in values}) < len(values):
        raise ValueError(f"{name}: {shorten(values)} lists a value twice")
    if len(values) > 1 and any(isinstance(value, list | dict) for value in values):
        raise ValueError(f"{name}: only single values are searched, not {shorten(values[0])}")
    field = SEARCHABLE[name]
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    for value in values:
        try:
            adapter.validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
        except ValidationError as error:
            requirement = requirement_text(error.errors()[0]["msg"])
            raise ValueError(f"{name}: {requirement}, not {shorten(value)}") from None
