"""The section `search` of `params.yaml`: the settings of an Optuna study."""

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, NonNegativeInt, PositiveInt, Tag, field_validator, model_validator

from pipeline.params.config import Config, Fraction, Seed, check_distinct, shorten_value, suggest_names
from pipeline.params.model import Model, Sublayers
from pipeline.params.training import Training

SEARCHABLE_FIELDS = {
    name: field
    for section in (Model, Training)
    for name, field in section.model_fields.items()
    if name not in ("seeds", "steps", "snapshots")  # which `search` sets
}
"""Fields of `model` and `training` that a search space may contain, by name."""


class LayerChoices(Config):
    """Entry of a search space with a choice for each sublayer, in the order of layers.

    For `residual_free`: `searched`, `kept` (the residual connection stays) or `free` (it is removed).
    """

    attention: list[Literal["searched", "kept", "free"]]
    mlp: list[Literal["searched", "kept", "free"]]


SpaceEntry = Annotated[
    Annotated[list[Any], Field(min_length=1), Tag("[list]")] | Annotated[LayerChoices, Tag("[layers]")],
    Discriminator(lambda entry: "[layers]" if isinstance(entry, dict | LayerChoices) else "[list]"),
]


class Search(Config):
    """The section `search`: settings of an Optuna study that looks for the smallest architectures that converge."""

    task: str
    space: dict[str, SpaceEntry]
    """The search space: values of fields of `model` and `training`. A list of values is searched, a list of one value
    is fixed; `residual_free` has a choice for each sublayer. Other fields are as in `model` and `training`."""
    trials: PositiveInt
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

    @model_validator(mode="after")
    def _check_distinct_seeds(self) -> Self:
        check_distinct([*self.seeds, *self.confirm])  # runs that chose the best would not confirm them
        return self

    @field_validator("space")
    @classmethod
    def _check_space(cls, space: dict[str, SpaceEntry]) -> dict[str, SpaceEntry]:
        """Check names and lists; `Params.check_all_sections` checks the values, as parts of an ablation."""
        for name, entry in space.items():
            if name not in SEARCHABLE_FIELDS:
                raise ValueError(f"{shorten_value(name)} is no field to search{suggest_names(name, SEARCHABLE_FIELDS)}")
            is_per_sublayer = SEARCHABLE_FIELDS[name].annotation is Sublayers
            if isinstance(entry, LayerChoices) != is_per_sublayer:
                allowed = "{attention: [...], mlp: [...]}" if is_per_sublayer else "a list of values"
                raise ValueError(f"{name}: must be {allowed}, not {shorten_value(entry)}")
            if isinstance(entry, list) and len({repr(value) for value in entry}) < len(entry):
                raise ValueError(f"{name}: {shorten_value(entry)} lists a value twice")
            if isinstance(entry, list) and len(entry) > 1 and any(isinstance(value, list | dict) for value in entry):
                raise ValueError(f"{name}: only single values are searched, not {shorten_value(entry[0])}")
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
        """Return an error message if an entry of the space has choices for too few layers, else "". Models have so
        many `layers` if the space does not list their number."""
        deepest = max(self.value_lists.get("layers", [layers]))
        for name, by_sublayer in self.layer_choices.items():
            for sublayer, choices in by_sublayer:
                if len(choices) < deepest:
                    return (
                        f"{name}.{sublayer}: has {len(choices)} entries, one a layer, but layers goes up to {deepest}"
                    )
        return ""

    def value_combinations(self) -> Iterator[dict[str, Any]]:
        """Iterate over the combinations of the listed values, each as field -> value: first a few that have every
        value, then all."""
        first_values = {name: values[0] for name, values in self.value_lists.items()}
        for name, values in self.value_lists.items():
            yield from (first_values | {name: value} for value in values)
        for combination in product(*self.value_lists.values()):
            yield dict(zip(self.value_lists, combination, strict=True))
