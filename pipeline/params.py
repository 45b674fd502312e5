"""`params.yaml`, typed: the only configuration, and this its only reader.

An unknown key, a wrong type, a value out of range or an empty grid is refused before anything runs, in one line
that names the key, what was given and what is allowed.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.refusal import Refused

PARAMS_FILE = Path("params.yaml")
NAME = re.compile(r"[a-z0-9-]+")

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    """What every section shares: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


class Task(Section):
    """What is learned: addition of two numbers of up to `digits` digits, as characters."""

    name: Literal["addition"]
    digits: Annotated[int, Field(ge=1, le=9)]
    reverse: bool
    zero_pad: bool
    delimiters: bool
    sampling: Literal["uniform", "balanced"]
    train_size: PositiveInt
    validation_size: PositiveInt
    test_size: PositiveInt
    seed: Seed


class ResidualFree(Section):
    """The layers, counted from 0, whose attention or MLP sublayer has no residual connection."""

    attention: tuple[NonNegativeInt, ...] = ()
    mlp: tuple[NonNegativeInt, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        """`[1, 2]` means both sublayers of the layers 1 and 2; YAML and JSON know lists, not tuples."""
        if isinstance(value, list | tuple):
            value = {"attention": value, "mlp": value}
        if isinstance(value, dict):
            return {key: tuple(layers) if isinstance(layers, list) else layers for key, layers in value.items()}
        return value

    @field_validator("attention", "mlp")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if repeated := sorted({layer for layer in layers if layers.count(layer) > 1}):
            raise ValueError(f"layer {repeated[0]} is listed twice")
        return tuple(sorted(layers))


class Model(Section):
    """The transformer and its switches."""

    layers: Annotated[int, Field(ge=1, le=64)]
    heads: PositiveInt
    width: PositiveInt
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    positional: Literal["none", "learned", "sinusoidal", "rotary", "alibi"]
    positional_every_layer: bool
    attention: Literal["causal", "full"]
    residual_free: ResidualFree
    residual_free_initialisation: Literal["normal", "identity"]
    """How sublayers without residual connection start: like the others, or near the identity, so that signal still
    passes (the skipless control)."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width {self.width}")
        if self.positional == "rotary" and (self.width // self.heads) % 2:
            raise ValueError(
                f"positional: rotary turns pairs of units, but width {self.width} / heads {self.heads} "
                f"= {self.width // self.heads} is odd"
            )
        if self.positional == "sinusoidal" and self.width % 2:
            raise ValueError(f"positional: sinusoidal needs an even width, not {self.width}")
        if self.positional_every_layer and self.positional not in ("learned", "sinusoidal"):
            raise ValueError(
                f"positional_every_layer: only learned and sinusoidal encodings are added to the residual "
                f"stream; positional is {self.positional}"
            )
        for sublayer in ("attention", "mlp"):
            for layer in getattr(self.residual_free, sublayer):
                if layer >= self.layers:
                    raise ValueError(
                        f"residual_free: there is no layer {layer} ({sublayer}); the layers are 0 to {self.layers - 1}"
                    )
        return self


def _no_seed_twice(seeds: list[int]) -> list[int]:
    if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"seed {repeated[0]} is listed twice; every seed is one member")
    return seeds


class Training(Section):
    """How one cell is trained: all its seeds together, as one population."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    optimizer: Literal["adamw", "muon"]
    learning_rate: PositiveFloat
    adamw_learning_rate: PositiveFloat
    """With Muon: the rate of what Muon does not train (embeddings, norms). Unused with AdamW."""
    betas: tuple[Fraction, Fraction]
    weight_decay: NonNegativeFloat
    gradient_clip: PositiveFloat | None
    schedule: Literal["cosine", "constant"]
    warmup_steps: NonNegativeInt
    final_learning_rate: Fraction
    """With the cosine schedule: the rate at the last step, as a fraction of the highest."""
    steps: PositiveInt
    batch_size: PositiveInt
    evaluate_every: PositiveInt
    snapshots: Annotated[int, Field(ge=0, le=100)]
    """How many times, logarithmically spaced, the weights are kept along training (for `analyze`); 0 for never."""
    converged_at: Annotated[float, Field(gt=0.0, le=1.0)]
    stop_when_converged: bool
    loss_on: Literal["answer", "all"]
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
    precision: Literal["32-true", "bf16-mixed", "64-true"]
    deterministic: bool

    @field_validator("betas", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        return _no_seed_twice(seeds)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.steps % self.evaluate_every:
            raise ValueError(
                f"evaluate_every: {self.evaluate_every} does not divide steps {self.steps}; "
                f"the last step is always evaluated"
            )
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps: {self.warmup_steps} is more than steps {self.steps}")
        return self


class Space(Section):
    """What a study varies: a list is searched, a list of one is fixed."""

    layers: Annotated[list[Annotated[int, Field(ge=1, le=8)]], Field(min_length=1)]
    residual_attention: list[Literal["searched", "kept", "free"]]
    """For each layer from 0 on: whether its attention's residual connection is searched, or always (not) there."""
    residual_mlp: list[Literal["searched", "kept", "free"]]
    heads: Annotated[list[PositiveInt], Field(min_length=1)]
    width: Annotated[list[PositiveInt], Field(min_length=1)]
    learning_rate: Annotated[list[PositiveFloat], Field(min_length=1)]
    optimizer: Annotated[list[Literal["adamw", "muon"]], Field(min_length=1)]
    positional: Annotated[list[Literal["none", "learned", "sinusoidal", "rotary", "alibi"]], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        deepest = max(self.layers)
        for name, choices in self:
            if len(set(choices)) < len(choices) and not name.startswith("residual_"):
                raise ValueError(f"{name}: {choices} lists a value twice")
        for name in ("residual_attention", "residual_mlp"):
            if len(listed := getattr(self, name)) < deepest:
                raise ValueError(f"{name}: has {len(listed)} entries, one a layer, but layers goes up to {deepest}")
        if misfit := [(h, w) for h in self.heads for w in self.width if w % h]:
            raise ValueError("heads: {} does not divide width {}".format(*misfit[0]))
        return self


class Search(Section):
    """An Optuna study: which of the architectures in `space` still converge, and how sparse they can be."""

    space: Space
    trials: PositiveInt
    seeds: Annotated[list[Seed], Field(min_length=1)]
    """The members of each trial."""
    steps: PositiveInt
    """The most a trial trains; the rest is as in `training`."""
    minimize: Literal["residuals_kept", "parameters", "flops"]
    give_up_at: Fraction
    """A trial is hopeless, and stopped, when after this share of its steps ..."""
    give_up_below: Fraction
    """... no member has reached this validation exact match."""
    enumerate_up_to: NonNegativeInt
    """A space of no more configurations than this is enumerated instead of sampled."""
    seed: Seed
    """Of the sampler."""
    heartbeat: PositiveInt
    """Seconds between a worker's signs of life; one that misses three is taken for dead, and its trial run again."""
    storage: Annotated[str, Field(pattern=r"^(sqlite|postgresql(\+\w+)?)://.+")] | None
    """None: an SQLite file below `reports/search/`. The environment variable `SEARCH_STORAGE` comes first."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        return _no_seed_twice(seeds)


class Tracking(Section):
    """Where MLflow keeps its view of the results."""

    uri: Annotated[str, Field(pattern=r"^(sqlite|postgresql(\+\w+)?|mysql(\+\w+)?|https?)://?.+")]
    experiment: Annotated[str, Field(min_length=1)]


class Cell(Section):
    """One ablation, resolved: the shared sections with the cell's overrides applied."""

    name: str
    model: Model
    training: Training


class Params(Section):
    """The whole of `params.yaml`."""

    task: Task
    model: Model
    training: Training
    ablations: dict[str, dict[Literal["model", "training"], dict[str, Any]]]
    search: Search
    tracking: Tracking

    @field_validator("ablations", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value:
            raise ValueError("the grid is empty; name at least one ablation")
        for name in value:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ValueError(f"the name {name!r} is not allowed; use a-z, 0-9 and '-'")
        return {name: {} if overrides is None else overrides for name, overrides in value.items()}

    def cell(self, name: str) -> Cell:
        """The resolved cell `name`.

        Raises:
            Refused: there is no such ablation, or its overrides make no valid cell.
        """
        if name not in self.ablations:
            raise Refused(f"ablation {name!r}: not in params.yaml{_nearest(name, list(self.ablations))}")
        overrides = self.ablations[name]
        where = f"params.yaml: ablations.{name}"
        model = self.model.model_dump() | overrides.get("model", {})
        training = self.training.model_dump() | overrides.get("training", {})
        return Cell(
            name=name,
            model=checked(Model, model, f"{where}.model"),
            training=checked(Training, training, f"{where}.training"),
        )

    def cells(self) -> list[Cell]:
        """All cells, in the order of the file."""
        return [self.cell(name) for name in self.ablations]


def read(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file, every cell included.

    Raises:
        Refused: the file is missing or does not say a valid experiment; the message is one line.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_bytes())
    except FileNotFoundError:
        raise Refused(
            f"{path}: no such file here; run from the project's folder, or make one with "
            f"`python -m pipeline preset laptop`"
        ) from None
    except MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Refused(f"{path}: not valid YAML{where}: {error.problem or error.context}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise Refused(f"{path}: is no table of sections ({', '.join(Params.model_fields)})")
    params = checked(Params, content, str(path))
    params.cells()
    return params


def checked(kind: type[S], content: dict[str, Any], where: str) -> S:
    """`content` as a section.

    Raises:
        Refused: it is none; the message begins with `where`.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        unknown_first = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise Refused(_one_line(kind, unknown_first[0], where)) from None  # a typo also leaves a key missing


def _one_line(kind: type[Section], error: ErrorDetails, where: str) -> str:
    """Say one validation error as `file: key: problem`."""
    path = [str(part) for part in error["loc"] if part != "[key]"]
    separator = ": " if where.endswith(".yaml") else "."
    key = where + (separator + ".".join(path) if path else "")
    given = error["input"]
    match error["type"]:
        case "extra_forbidden":
            section = _section_at(kind, path[:-1])
            return f"{key}: unknown key{_nearest(path[-1], list(section.model_fields))}"
        case "missing":
            return f"{key}: missing"
        case "value_error":
            return f"{key}: {error['ctx']['error']!s}"
        case "literal_error" if error["loc"][-1] == "[key]":
            return f"{key}: unknown key{_nearest(path[-1], ['model', 'training'])}"
        case _:
            requirement = error["msg"][0].lower() + error["msg"][1:]
            return f"{key}: {requirement.replace('input should be', 'must be')}, not {given!r}"


def _section_at(kind: type[Section], path: list[str]) -> type[Section]:
    for part in path:
        field = kind.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)):
            return kind
        kind = field.annotation
    return kind


def _nearest(key: str, allowed: list[str]) -> str:
    nearest = difflib.get_close_matches(key, allowed, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{hint} (allowed: {', '.join(allowed)})"
