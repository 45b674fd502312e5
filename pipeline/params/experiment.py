"""`params.yaml` as typed values: the only configuration, and this its only reader.

An unknown key, a wrong type, a value out of range or an experiment without ablations is refused before anything runs,
in one line that names the key, what was given, and what is allowed. A key that is not in the file has its default.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, SerializeAsAny, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.errors import UserError
from pipeline.params.config import Config, parse, shorten, shorten_words, suggest
from pipeline.params.model import Model
from pipeline.params.score import BITS
from pipeline.params.search import Search
from pipeline.params.task import Task
from pipeline.params.training import Training

PARAMS_FILE = Path("params.yaml")
NAME = re.compile(r"[a-z0-9-]{1,80}")
MOST_COMBINATIONS = 10_000
"""Combinations of a search space's plain values that are checked before a search begins."""
TRACKING_SCHEMES = ("sqlite", "postgresql", "mysql", "http", "https")


class Tracking(Config):
    """The MLflow store in which runs are shown, and the experiment there."""

    uri: Annotated[str, Field(pattern=r".:.+")] = "sqlite:///mlflow.db"
    experiment: Annotated[str, Field(min_length=1)] = "breaking-symmetry"

    @field_validator("uri")
    @classmethod
    def _has_a_scheme_of_mlflow(cls, uri: str) -> str:
        scheme = re.split(r"[+:]", uri, maxsplit=1)[0]  # a driver may follow it, as in postgresql+psycopg
        if scheme not in TRACKING_SCHEMES:  # without the rest of the address, which may hold a password
            raise ValueError(f"MLflow has no scheme {shorten(scheme)}{suggest(scheme, TRACKING_SCHEMES)}")
        return uri


class Overrides(Config):
    """An ablation as the file gives it: its task, and what differs from the shared `model` and `training`."""

    task: str
    model: dict[str, Any] = Field({})
    training: dict[str, Any] = Field({})


Quantity = Literal["restricted_steps", "test_exact_match", "test_bits"]


class Comparison(Config):
    """A comparison of two ablations that share seeds. Only comparisons declared here get a p-value."""

    first: str
    second: str
    quantity: Quantity = "restricted_steps"
    """Steps to converge (at most the budget), or exact match or bits per token on the test split."""


class Ablation(Config):
    """An ablation with its overrides applied."""

    name: str
    dataset: str
    """The name of the task in `tasks`, which is also the folder of its data."""
    task: SerializeAsAny[Task]
    model: Model
    training: Training

    @property
    def converged_at(self) -> float | None:
        """The score that an evaluation must reach to count towards convergence; None where no score is enough."""
        return self.task.score.threshold(self.training)

    def resolved(self) -> dict[str, Any]:
        """The ablation as plain values."""
        sections = {"task": self.task, "model": self.model, "training": self.training}
        return {"name": self.name} | {key: section.model_dump(mode="json") for key, section in sections.items()}

    def check_trainable(self, where: str) -> None:
        """Check what single values cannot show.

        Raises:
            UserError: no run could ever converge, or a batch has no second example that could be a donor.
        """
        training, model = self.training, self.model
        evaluations = training.steps // training.evaluate_every
        if self.converged_at is not None and evaluations < training.converged_for:
            raise UserError(
                f"{where}: no run can converge: converged_for {training.converged_for} evaluations in a row, but steps "
                f"{training.steps} evaluated every {training.evaluate_every} have {evaluations}"
            )
        if model.uses_donors and min(training.batch_size, self.task.train_size) < 2:
            raise UserError(
                f"{where}: residual_substitute {model.residual_substitute!r} takes the states of another example; "
                f"batch_size and train_size must be at least 2"
            )


class Params(Config):
    """The whole of `params.yaml`. Which tasks exist is decided above, in `pipeline/tasks/registry.py`."""

    tasks: Mapping[str, SerializeAsAny[Task]]
    model: Model
    training: Training
    ablations: dict[str, Overrides]
    comparisons: list[Comparison]
    search: Search
    tracking: Tracking = Tracking()

    @field_validator("tasks", "ablations", mode="before")
    @classmethod
    def _valid_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value:
            raise ValueError("is empty; name at least one")
        for name in value:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ValueError(f"the name {shorten(name)} is not allowed; use a-z, 0-9 and '-', at most 80 of them")
        return value

    def task(self, name: str, where: str = "task") -> Task:
        """The task called `name`.

        Raises:
            UserError: there is none; the message begins with `where`.
        """
        if name not in self.tasks:
            raise UserError(f"{where} {shorten(name)}: not under `tasks` in params.yaml{suggest(name, self.tasks)}")
        return self.tasks[name]

    def ablation(self, name: str) -> Ablation:
        """The ablation called `name`, with its overrides applied.

        Raises:
            UserError: there is none, or its overrides are not valid.
        """
        if name not in self.ablations:
            raise UserError(f"ablation {shorten(name)}: not in params.yaml{suggest(name, self.ablations)}")
        overrides, where = self.ablations[name], f"params.yaml: ablations.{name}"
        ablation = Ablation(
            name=name,
            dataset=overrides.task,
            task=self.task(overrides.task, f"{where}.task"),
            model=parse(Model, self.model.model_dump() | overrides.model, f"{where}.model"),
            training=parse(Training, self.training.model_dump() | overrides.training, f"{where}.training"),
        )
        substitute = ablation.model.residual_substitute
        if substitute != "none" and not ablation.model.residual_free.layers:
            where = f"{where}.model.residual_substitute"
            raise UserError(f"{where}: {substitute!r} replaces nothing; name the layers in residual_free")
        ablation.check_trainable(where)
        return ablation

    def all_ablations(self) -> list[Ablation]:
        """All ablations, in the order of the file."""
        return [self.ablation(name) for name in self.ablations]

    def trial_ablation(self, overrides: Mapping[str, Any], name: str = "trial") -> Ablation:
        """The ablation that a trial of the search trains: `overrides` of fields of `model` and `training`.

        It is evaluated more often than `training` says, where its steps would otherwise have too few evaluations.

        Raises:
            UserError: the overrides are not valid.
        """
        search, where = self.search, "params.yaml: search.space"
        training = self.training.model_dump() | {"seeds": search.seeds, "steps": search.steps, "snapshots": 0}
        training["evaluate_every"] = _evaluation_interval(
            search.steps, self.training.evaluate_every, self.training.converged_for
        )
        training["warmup_steps"] = min(self.training.warmup_steps, search.steps)
        model, training = (
            section | {key: value for key, value in overrides.items() if key in section}
            for section in (self.model.model_dump(), training)
        )
        ablation = Ablation(
            name=name,
            dataset=search.task,
            task=self.task(search.task, "params.yaml: search.task"),
            model=parse(Model, model, where),
            training=parse(Training, training, where),
        )
        ablation.check_trainable("params.yaml: search")
        return ablation

    def resolved(self) -> dict[str, Any]:
        """The experiment as plain values, with every default; ablations as they are given."""
        ablations = {
            name: overrides.model_dump(mode="json", exclude_unset=True) for name, overrides in self.ablations.items()
        }
        return self.model_dump(mode="json") | {"ablations": ablations}

    def check(self) -> None:
        """Check what depends on several sections.

        Raises:
            UserError: an ablation, a comparison or a combination of values in the search space is not valid.
        """
        self.all_ablations()
        for index, comparison in enumerate(self.comparisons):
            self._check_comparison(comparison, f"params.yaml: comparisons.{index}")
        if problem := self.search.missing_layers(self.model.layers):
            raise UserError(f"params.yaml: search.space: {problem}")
        layered: dict[str, Any] = {name: {} for name in self.search.layer_choices}
        for _, combination in zip(range(MOST_COMBINATIONS), self.search.combinations(), strict=False):
            self.trial_ablation(layered | combination)

    def _check_comparison(self, comparison: Comparison, where: str) -> None:
        for role, name in (("first", comparison.first), ("second", comparison.second)):
            if name not in self.ablations:
                raise UserError(f"{where}.{role}: {shorten(name)} is no ablation{suggest(name, self.ablations)}")
        first, second = self.ablation(comparison.first), self.ablation(comparison.second)
        if first.dataset != second.dataset:
            raise UserError(
                f"{where}: {first.name} learns {first.dataset}, but {second.name} learns {second.dataset}; "
                f"only ablations of one task are compared"
            )
        if not {*first.training.seeds} & {*second.training.seeds}:
            raise UserError(
                f"{where}: {first.name} and {second.name} share no seed; ablations are compared seed by seed"
            )
        if comparison.quantity not in (allowed := comparable_quantities(first, second)):
            raise UserError(
                f"{where}.quantity: {comparison.quantity!r} is not defined for {first.dataset} "
                f"(allowed: {', '.join(allowed)})"
            )
        if self.comparisons.count(comparison) > 1 or first.name == second.name:
            raise UserError(f"{where}: {first.name} and {second.name} are compared already, or the same")


def _evaluation_interval(steps: int, longest: int, evaluations: int) -> int:
    """The largest divisor of `steps`, at most `longest`, that gives at least so many evaluations, if any does."""
    longest = max(1, min(longest, steps // evaluations))
    return next(divisor for divisor in range(longest, 0, -1) if steps % divisor == 0)


def comparable_quantities(first: Ablation, second: Ablation) -> list[Quantity]:
    """The quantities in which two ablations of one task can be compared."""
    score: Quantity = "test_bits" if first.task.score == BITS else "test_exact_match"
    return [score] if None in (first.converged_at, second.converged_at) else ["restricted_steps", score]


P = TypeVar("P", bound=Params)


def read(path: Path, kind: type[P]) -> P:
    """Read and check an experiment, every ablation included. `kind`: `Params` with the tasks that exist.

    Raises:
        UserError: the file is missing, or does not describe a valid experiment; the message is one line.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file here; run from the project's folder (`git checkout {path}` brings the default "
            f"experiment back, `python -m pipeline preset smoke` a small one)"
        ) from None
    except MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}: not valid YAML{where}: {_first_line(error.problem or error.context)}") from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deeply") from None
    except (YAMLError, ValueError) as error:  # undecodable bytes, or a malformed number
        raise UserError(f"{path}: not valid YAML: {_first_line(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no table of sections ({', '.join(Params.model_fields)})")
    params = parse(kind, content, str(path))
    params.check()
    return params


def round_trip_yaml() -> YAML:
    """A reader and writer that keeps comments and layout."""
    yaml = YAML()
    yaml.width = 1000  # no line is broken
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _first_line(error: object) -> str:
    return shorten_words(str(error).splitlines()[0])
