"""The section `search` of `params.yaml`: the settings of an Optuna study."""

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

from pipeline.params.config import Config, Fraction, Seed, requirement_text, shorten_value, suggest_names
from pipeline.params.model import Model, Sublayers
from pipeline.params.training import Training, check_distinct_seeds

SEARCHABLE_FIELDS = {
    name: field
    for section in (Model, Training)
    for name, field in section.model_fields.items()
    if name not in ("seeds", "steps", "snapshots")  # which `search` sets
}
"""Fields of `model` and `training` that a search space may contain, by name."""
PER_SUBLAYER_FIELDS = [name for name, field in SEARCHABLE_FIELDS.items() if field.annotation is Sublayers]
"""Names of the searchable fields that have a value for each sublayer."""


class LayerChoices(Config):
    """Entry of a search space with a choice for each sublayer, in the order of layers.

    For `residual_free`: `searched`, `kept` (the residual connection stays) or `free` (it is removed).
    """

    attention: list[Literal["searched", "kept", "free"]]
    mlp: list[Literal["searched", "kept", "free"]]


SpaceEntry = Annotated[
    Annotated[list[Any], Tag("[list]")] | Annotated[LayerChoices, Tag("[layers]")],
    Discriminator(lambda entry: "[layers]" if isinstance(entry, dict | LayerChoices) else "[list]"),
]
"""Entry of a search space: the list of values of a field, or a choice for each sublayer."""


class Search(Config):
    """The section `search`: settings of an Optuna study that looks for the smallest architectures that converge."""

    task: str
    space: dict[str, SpaceEntry]
    """The search space: values of fields of `model` and `training`. A list of values is searched, a list of one value
    is fixed; `residual_free` has a choice for each sublayer. Other fields are as in `model` and `training`."""
    trials: PositiveInt
    """Number of trials of the search."""
    seeds: Annotated[list[Seed], Field(min_length=1)]
    """Seeds with which each trial trains, one run per seed."""
    steps: PositiveInt
    """Budget of each run of a trial, in steps."""
    confirm: list[Seed] = Field(default_factory=list)
    """Fresh seeds with which the best configurations are trained again: the best of many trials is partly lucky."""
    give_up_at: Fraction = 0.5
    """Share of `steps` after which a trial is stopped if no run has reached the score `give_up_below`."""
    give_up_below: Fraction = 0.02
    """Validation score in [0, 1] below which a trial is stopped: exact match, or the probability of the next token."""
    enumerate_up_to: NonNegativeInt = 40
    """Largest number of configurations of a search space that is tried in full; a larger space is sampled."""
    seed: Seed = 1
    """Seed of the sampler of configurations."""
    heartbeat: PositiveInt = 20
    """Seconds between the heartbeats of a worker; after three missed heartbeats, the worker's trial is run again."""
    storage: Annotated[str, Field(pattern=r"^(sqlite|postgresql(\+\w+)?)://.+")] | None = None
    """Address of the database of the search; None for an SQLite file in `reports/search/`. The environment variable
    `SEARCH_STORAGE` has precedence."""

    @field_validator("seeds", "confirm")
    @classmethod
    def _check_distinct_seeds(cls, seeds: list[int]) -> list[int]:
        return check_distinct_seeds(seeds)

    @model_validator(mode="after")
    def _check_fresh_seeds(self) -> Self:
        if shared := {*self.seeds} & {*self.confirm}:
            raise ValueError(
                f"confirm: {min(shared)} is also one of seeds, with which the best are chosen; take others"
            )
        return self

    @field_validator("space")
    @classmethod
    def _check_space(cls, space: dict[str, list[Any] | LayerChoices]) -> dict[str, list[Any] | LayerChoices]:
        for name, entry in space.items():
            if name not in SEARCHABLE_FIELDS:
                raise ValueError(
                    f"{shorten_value(name)} is no field to search{suggest_names(name, list(SEARCHABLE_FIELDS))}"
                )
            if isinstance(entry, LayerChoices) != (name in PER_SUBLAYER_FIELDS):
                allowed = "{attention: [...], mlp: [...]}" if name in PER_SUBLAYER_FIELDS else "a list of values"
                raise ValueError(f"{name}: must be {allowed}, not {shorten_value(entry)}")
            if isinstance(entry, list):
                _check_values(name, entry)
        return space

    @property
    def value_lists(self) -> dict[str, list[Any]]:
        """Values of the fields of the search space that list values; `layers` is first, because it limits the rest."""
        lists = {name: entry for name, entry in self.space.items() if isinstance(entry, list)}
        return {name: lists[name] for name in sorted(lists, key=lambda name: name != "layers")}

    @property
    def layer_choices(self) -> dict[str, LayerChoices]:
        """Choices of the fields of the search space that have a choice for each sublayer."""
        return {name: entry for name, entry in self.space.items() if isinstance(entry, LayerChoices)}

    def explain_missing_layers(self, layers: int) -> str:
        """Return an error message if an entry of the space has choices for too few layers, else "".

        `layers`: number of layers of the models if the space does not list `layers`.
        """
        deepest = max(self.value_lists.get("layers", [layers]))
        for name, by_sublayer in self.layer_choices.items():
            for sublayer, choices in by_sublayer:
                if len(choices) < deepest:
                    return (
                        f"{name}.{sublayer}: has {len(choices)} entries, one a layer, but layers goes up to {deepest}"
                    )
        return ""

    def value_combinations(self) -> Iterator[dict[str, Any]]:
        """Iterate over all combinations of the listed values, each as field -> value."""
        for values in product(*self.value_lists.values()):
            yield dict(zip(self.value_lists, values, strict=True))


def _check_values(name: str, values: list[Any]) -> None:
    if not values:
        raise ValueError(f"{name}: lists nothing")
    if len({repr(value) for value in values}) < len(values):
        raise ValueError(f"{name}: {shorten_value(values)} lists a value twice")
    if len(values) > 1 and any(isinstance(value, list | dict) for value in values):
        raise ValueError(f"{name}: only single values are searched, not {shorten_value(values[0])}")
    field = SEARCHABLE_FIELDS[name]
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    for value in values:
        try:
            adapter.validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
        except ValidationError as error:
            requirement = requirement_text(error.errors()[0]["msg"])
            raise ValueError(f"{name}: {requirement}, not {shorten_value(value)}") from None
