"""The section `search` of `params.yaml`: the settings of a search with Optuna."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, NonNegativeInt, PositiveInt, Tag, field_validator, model_validator

from pipeline.params.config import Config, Distinct, Seed, shorten_value, suggest_names
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


class Range(Config):
    """Entry of a search space with the limits of a numeric field: whole numbers if both limits are, else any."""

    low: int | float
    high: int | float
    log: bool = False
    """True to draw numbers evenly on a logarithmic scale."""

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if not (0 if self.log else -math.inf) < self.low < self.high:
            raise ValueError(f"low: {self.low} must be {'above 0 and ' if self.log else ''}below high {self.high}")
        return self


def _kind_of_entry(entry: Any) -> str:
    if isinstance(entry, Range) or (isinstance(entry, dict) and {"low", "high"} & {*entry}):
        return "[range]"
    return "[layers]" if isinstance(entry, dict | LayerChoices) else "[list]"


SpaceEntry = Annotated[
    Annotated[list[Any], Field(min_length=1), Tag("[list]")]
    | Annotated[LayerChoices, Tag("[layers]")]
    | Annotated[Range, Tag("[range]")],
    Discriminator(_kind_of_entry),
]


class Search(Config):
    """The section `search`: settings of a search for the patterns with which training converges."""

    task: str
    space: dict[str, SpaceEntry]
    """The search space: values of fields of `model` and `training`. A list of values is searched, a list of one value
    is fixed; a range of numbers is searched; `residual_free` has a choice for each sublayer. Other fields are as in
    `model` and `training`."""
    enumerate_up_to: NonNegativeInt = 40
    """Largest number of patterns with the same number of layers that are all tried; of more, some are sampled."""
    trials: PositiveInt
    """Number of patterns that are sampled of each number of layers with more than `enumerate_up_to`."""
    generation: PositiveInt = 8
    """Number of patterns that are sampled at a time, all from the results of the generations before."""
    seeds: Annotated[list[Seed], Field(min_length=1), Distinct]
    """Seeds of the runs. Each pattern trains with the first two, and while it is undecided with twice as many."""
    converges_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.75
    """Least share of runs that must converge for a pattern to count as converging."""
    steps: PositiveInt
    """Budget of each run, in steps."""
    sampler: dict[str, Any] = Field(default={"name": "TPESampler"})
    """Sampler of Optuna for what is not tried in full: its `name` and arguments. A generation has one of its own."""
    pruner: dict[str, Any] = Field(default={"name": "NopPruner"})
    """Pruner of Optuna for runs without hope: its `name` and arguments. It sees scores in [0, 1] at training steps."""
    seed: Seed = 1
    """Seed of the sampler."""
    heartbeat: PositiveInt = 20
    """Seconds between the heartbeats of a worker; after three missed heartbeats, the worker's trial is run again."""
    storage: Annotated[str, Field(pattern=r"^(sqlite|postgresql(\+\w+)?)://.+")] | None = None
    """Address of the database of the search; None for an SQLite file in `reports/search/`. The environment variable
    `SEARCH_STORAGE` has precedence."""

    @field_validator("space")
    @classmethod
    def _check_space(cls, space: dict[str, SpaceEntry]) -> dict[str, SpaceEntry]:
        """Check names and lists; `Params.check_all_sections` checks the values, as parts of an ablation."""
        for name, entry in space.items():
            if name not in SEARCHABLE_FIELDS:
                raise ValueError(f"{shorten_value(name)} is no field to search{suggest_names(name, SEARCHABLE_FIELDS)}")
            is_per_sublayer = SEARCHABLE_FIELDS[name].annotation is Sublayers
            if isinstance(entry, LayerChoices) != is_per_sublayer or (name == "layers" and isinstance(entry, Range)):
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
    def ranges(self) -> dict[str, Range]:
        """Limits of the fields of the search space that are searched in a range of numbers."""
        return {name: entry for name, entry in self.space.items() if isinstance(entry, Range)}

    @property
    def layer_choices(self) -> dict[str, LayerChoices]:
        """Choices of the fields of the search space that have a choice for each sublayer."""
        return {name: entry for name, entry in self.space.items() if isinstance(entry, LayerChoices)}

    def explain_missing_layers(self, layers: int) -> str:
        """Return an error message if an entry of the space has choices for too few layers, else "". Models have so
        many `layers` if the space does not list their number."""
        deepest = max(self.value_lists.get("layers", [layers]))
        for name, entry in self.layer_choices.items():
            for sublayer, choices in entry:
                if (count := len(choices)) < deepest:
                    return f"{name}.{sublayer}: has {count} entries, one a layer, but layers goes up to {deepest}"
        return ""

    def value_combinations(self) -> Iterator[dict[str, Any]]:
        """Iterate over the combinations of the listed values, and of the limits of ranges, each as field -> value:
        first a few that have every value, then all."""
        ends: dict[str, list[Any]] = {name: [limits.low, limits.high] for name, limits in self.ranges.items()}
        lists = self.value_lists | ends
        first_values = {name: values[0] for name, values in lists.items()}
        for name, values in lists.items():
            yield from (first_values | {name: value} for value in values)
        for combination in product(*lists.values()):
            yield dict(zip(lists, combination, strict=True))
