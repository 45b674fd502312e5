"""`params.yaml`, typed: the only configuration, and this its only reader.

An unknown key, a wrong type, a value out of range or an empty grid is refused before anything runs, in one line
that names the key, what was given and what is allowed. What a file does not say has its default.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.errors import UserError
from pipeline.params.comparison import Comparison, Quantity
from pipeline.params.config import Config, parse, shorten, suggest, truncate_words
from pipeline.params.model import Model, Sublayers
from pipeline.params.score import BITS
from pipeline.params.search import LayerChoices, Search
from pipeline.params.task import Task, task
from pipeline.params.training import Training

__all__ = [
    "PARAMS_FILE",
    "Ablation",
    "Comparison",
    "Config",
    "LayerChoices",
    "Model",
    "Overrides",
    "Params",
    "Search",
    "Sublayers",
    "Task",
    "Tracking",
    "Training",
    "checked",
    "comparable_quantities",
    "read",
    "task",
]  # fmt: skip

PARAMS_FILE = Path("params.yaml")
TRACKING_SCHEMES = ("sqlite", "postgresql", "mysql", "http", "https")
NAME = re.compile(r"[a-z0-9-]{1,80}")
MOST_COMBINATIONS = 10_000
"""Of a search space's plain values: so many are tried out before a study begins."""


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
    """An ablation as the file says it: the task, and what differs from the shared sections."""

    task: str
    model: dict[str, Any] = Field({})
    training: dict[str, Any] = Field({})


class Ablation(Config):
    """One ablation, resolved: the shared sections with the ablation's overrides applied."""

    name: str
    dataset: str
    """The task's name in `tasks`, and the folder of its data."""
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


class Params(Config):
    """The whole of `params.yaml`."""

    tasks: dict[str, dict[str, Any]]
    model: Model
    training: Training
    ablations: dict[str, Overrides]
    comparisons: list[Comparison]
    search: Search
    tracking: Tracking = Tracking()

    @field_validator("tasks", "ablations", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value:
            raise ValueError("is empty; name at least one")
        for name in value:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise ValueError(f"the name {shorten(name)} is not allowed; use a-z, 0-9 and '-', at most 80 of them")
        return value

    def task(self, name: str, where: str = "task") -> Task:
        """What is learned under that name.

        Raises:
            UserError: there is no such task, or it is none.
        """
        if name not in self.tasks:
            raise UserError(f"{where} {shorten(name)}: not under `tasks` in params.yaml{suggest(name, self.tasks)}")
        return task(self.tasks[name], f"params.yaml: tasks.{name}")

    def ablation(self, name: str) -> Ablation:
        """The resolved ablation `name`.

        Raises:
            UserError: there is no such ablation, or its overrides make no valid ablation.
        """
        if name not in self.ablations:
            raise UserError(f"ablation {shorten(name)}: not in params.yaml{suggest(name, self.ablations)}")
        own, where = self.ablations[name], f"params.yaml: ablations.{name}"
        made = Ablation(
            name=name,
            dataset=own.task,
            task=self.task(own.task, f"{where}.task"),
            model=parse(Model, self.model.model_dump() | own.model, f"{where}.model"),
            training=parse(Training, self.training.model_dump() | own.training, f"{where}.training"),
        )
        substitute = made.model.residual_substitute
        if substitute != "none" and not made.model.residual_free.layers:
            where = f"{where}.model.residual_substitute"
            raise UserError(f"{where}: {substitute!r} stands in for nothing; name the layers in residual_free")
        return _possible(made, where)

    def all_ablations(self) -> list[Ablation]:
        """All ablations, in the order of the file."""
        return [self.ablation(name) for name in self.ablations]

    def trial_ablation(self, overrides: Mapping[str, Any], name: str = "trial") -> Ablation:
        """The ablation that a trial of the search trains: the shared sections with `overrides`, fields of either;
        evaluated more often than `training` says where its steps ask for it.

        Raises:
            UserError: they make no valid ablation.
        """
        search, where = self.search, "params.yaml: search.space"
        training = self.training.model_dump() | {"seeds": search.seeds, "steps": search.steps, "snapshots": 0}
        training["evaluate_every"] = _often(search.steps, self.training.evaluate_every, self.training.converged_for)
        training["warmup_steps"] = min(self.training.warmup_steps, search.steps)
        model, training = (
            content | {key: value for key, value in overrides.items() if key in content}
            for content in (self.model.model_dump(), training)
        )
        made = Ablation(
            name=name,
            dataset=search.task,
            task=self.task(search.task, "params.yaml: search.task"),
            model=parse(Model, model, where),
            training=parse(Training, training, where),
        )
        return _possible(made, "params.yaml: search")

    def resolved(self) -> dict[str, Any]:
        """The same experiment as plain values, with every default said; ablations stay as they are given."""
        tasks = {name: self.task(name).model_dump(mode="json") for name in self.tasks}
        ablations = {name: own.model_dump(mode="json", exclude_unset=True) for name, own in self.ablations.items()}
        return self.model_dump(mode="json") | {"tasks": tasks, "ablations": ablations}

    def _comparable(self, pair: Comparison, where: str) -> None:
        for role, name in (("first", pair.first), ("second", pair.second)):
            if name not in self.ablations:
                raise UserError(f"{where}.{role}: {shorten(name)} is no ablation{suggest(name, self.ablations)}")
        one, other = self.ablation(pair.first), self.ablation(pair.second)
        if one.dataset != other.dataset:
            raise UserError(
                f"{where}: {one.name} learns {one.dataset}, {other.name} {other.dataset}; one task is meant"
            )
        if not {*one.training.seeds} & {*other.training.seeds}:
            raise UserError(f"{where}: {one.name} and {other.name} share no seed; ablations are compared seed by seed")
        if pair.of not in (allowed := comparable_quantities(one, other)):
            raise UserError(f"{where}.of: {pair.of!r} has no meaning for {one.dataset} (allowed: {', '.join(allowed)})")
        if self.comparisons.count(pair) > 1 or one.name == other.name:
            raise UserError(f"{where}: {one.name} and {other.name} are compared already, or the same")

    def check(self) -> None:
        """Resolve everything that can be.

        Raises:
            UserError: a task, an ablation or a combination of values in the search space is none.
        """
        for name in self.tasks:
            self.task(name)
        self.all_ablations()
        for place, pair in enumerate(self.comparisons):
            self._comparable(pair, f"params.yaml: comparisons.{place}")
        if wrong := self.search.missing_layers(self.model.layers):
            raise UserError(f"params.yaml: search.space: {wrong}")
        plain: dict[str, Any] = {name: {} for name in self.search.layer_choices}
        for _, chosen in zip(range(MOST_COMBINATIONS), self.search.combinations(), strict=False):
            self.trial_ablation(plain | chosen)


def _often(steps: int, every: int, least: int) -> int:
    """After how many steps to evaluate: a divisor of `steps`, at most `every`, that gives at least so many evaluations
    (if any can)."""
    most = max(1, min(every, steps // least))
    return next(divisor for divisor in range(most, 0, -1) if steps % divisor == 0)


def _possible(ablation: Ablation, where: str) -> Ablation:
    """The ablation.

    Raises:
        UserError: no run of it could ever converge, or no row is there that could lend its states.
    """
    training = ablation.training
    evaluations = training.steps // training.evaluate_every
    if ablation.converged_at is not None and evaluations < training.converged_for:
        raise UserError(
            f"{where}: no run can converge: converged_for {training.converged_for} evaluations in a row, but steps "
            f"{training.steps} evaluated every {training.evaluate_every} have {evaluations}"
        )
    if ablation.model.uses_donors and min(training.batch_size, ablation.task.train_size) < 2:
        raise UserError(
            f"{where}: residual_substitute {ablation.model.residual_substitute!r} takes the states of another row; "
            f"batch_size and train_size must be at least 2"
        )
    return ablation


def comparable_quantities(one: Ablation, other: Ablation) -> list[Quantity]:
    """What two ablations of a task can be compared in: how well they did and, where the runs of both converge, how
    soon."""
    score: Quantity = "test_bits" if one.task.score == BITS else "test_exact_match"
    return [score] if None in (one.converged_at, other.converged_at) else ["restricted_steps", score]


def read(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file, every ablation included.

    Raises:
        UserError: the file is missing or does not say a valid experiment; the message is one line.
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
    except (YAMLError, ValueError) as error:  # bytes that are no text, a number that is no number
        raise UserError(f"{path}: not valid YAML: {_first_line(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no table of sections ({', '.join(Params.model_fields)})")
    params = parse(Params, content, str(path))
    params.check()
    return params


def round_trip_yaml() -> YAML:
    """What is read with it is written as it was, comments and all."""
    yaml = YAML()
    yaml.width = 1000  # a line stays one
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _first_line(error: object) -> str:
    return truncate_words(str(error).splitlines()[0])
