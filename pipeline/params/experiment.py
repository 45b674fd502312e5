"""The whole of `params.yaml`, the only configuration of an experiment, and the function that reads it.

An unknown key, a wrong type, a value out of range or an experiment without ablations is reported before anything runs,
in one line that names the key, the given value and the allowed values. Keys that are not in the file have defaults.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import UserError
from pipeline.params.ablation import Ablation
from pipeline.params.config import Config, Name, parse, shorten_value, shorten_words, suggest_names
from pipeline.params.model import Model
from pipeline.params.score import BITS
from pipeline.params.search import Search
from pipeline.params.task import Task
from pipeline.params.training import Training

PARAMS_FILE = Path("params.yaml")
MAX_CHECKED_COMBINATIONS = 10_000
"""Largest number of combinations of values of a search space that are checked when `params.yaml` is read."""
TRACKING_SCHEMES = ("sqlite", "postgresql", "mysql", "http", "https")
"""Schemes of the addresses of MLflow stores."""


class Tracking(Config):
    """The section `tracking`: the MLflow store that records runs, and the name of the MLflow experiment."""

    uri: Annotated[str, Field(pattern=r".:.+")] = "sqlite:///mlflow.db"
    experiment: Annotated[str, Field(min_length=1)] = "breaking-symmetry"

    @field_validator("uri")
    @classmethod
    def _check_scheme(cls, uri: str) -> str:
        scheme = re.split(r"[+:]", uri, maxsplit=1)[0]  # a driver may follow it, as in postgresql+psycopg
        if scheme not in TRACKING_SCHEMES:  # without the rest of the address, which may hold a password
            raise ValueError(f"MLflow has no scheme {shorten_value(scheme)}{suggest_names(scheme, TRACKING_SCHEMES)}")
        if scheme == "sqlite" and (not re.match("sqlite:///.", uri) or re.search(":memory:|mode=memory", uri)):
            raise ValueError(f"{shorten_value(uri)} is a database in memory, which no other process sees; name a file")
        return uri


class Overrides(Config):
    """An ablation as in `params.yaml`: the name of a task, and settings that override `model` and `training`."""

    task: str
    model: dict[str, Any] = Field({})
    training: dict[str, Any] = Field({})


ComparedQuantity = Literal["restricted_steps", "test_exact_match", "test_bits"]
"""Names of the quantities in which two ablations may be compared."""


class Comparison(Config):
    """A comparison of two ablations. Only comparisons in `params.yaml` get a p-value."""

    first: str
    second: str
    quantity: ComparedQuantity = "restricted_steps"
    """The compared quantity: steps to converge (at most the budget), or the score on the test split."""


class Params(Config):
    """The whole of `params.yaml`; `AllParams` in `pipeline/tasks/registry.py` restricts `tasks` to existing tasks."""

    tasks: Mapping[Name, SerializeAsAny[Task]]
    model: Model
    training: Training
    ablations: Annotated[dict[Name, Overrides], Field(min_length=1)]
    comparisons: list[Comparison]
    search: Search
    tracking: Tracking = Tracking()

    def task(self, name: str, location: str = "task") -> Task:
        """Return the task called `name`.

        Raises:
            UserError: no task has that name; the message begins with `location`.
        """
        self._check_name("tasks", name, location)
        return self.tasks[name]

    def ablation(self, name: str, location: str = "ablation") -> Ablation:
        """Return the ablation called `name`, with its overrides applied.

        Raises:
            UserError: no ablation has that name (the message begins with `location`), or its overrides are not valid.
        """
        self._check_name("ablations", name, location)
        overrides, location = self.ablations[name], f"params.yaml: ablations.{name}"
        ablation = Ablation(
            name=name,
            dataset=overrides.task,
            task=self.task(overrides.task, f"{location}.task"),
            model=parse(Model, self.model.model_dump() | overrides.model, f"{location}.model"),
            training=parse(Training, self.training.model_dump() | overrides.training, f"{location}.training"),
        )
        model, unused = ablation.model, {"residual_substitute": "none", "residual_fade_steps": None}
        for key, default in unused.items():
            if (value := getattr(model, key)) != default and not model.residual_free.layers:
                raise UserError(f"{location}.model.{key}: {value!r} has no effect; name the layers in residual_free")
        ablation.check_trainable(location)
        return ablation

    def _check_name(self, section: Literal["tasks", "ablations"], name: str, location: str) -> None:
        if name not in (names := getattr(self, section)):
            hint = suggest_names(name, names)
            raise UserError(f"{location} {shorten_value(name)}: not under `{section}` in params.yaml{hint}")

    def all_ablations(self) -> list[Ablation]:
        """Return all ablations with their overrides applied, in the order of `params.yaml`."""
        return [self.ablation(name) for name in self.ablations]

    def trial_ablation(self, overrides: Mapping[str, Any], name: str = "trial") -> Ablation:
        """Return the ablation that a trial of the search trains; `overrides` are fields of `model` or `training`.

        If `training.evaluate_every` gives too few evaluations to converge in `search.steps`, it is lowered.

        Raises:
            UserError: the overrides are not valid.
        """
        search, location = self.search, "params.yaml: search.space"
        longest_interval = max(1, min(self.training.evaluate_every, search.steps // self.training.converged_for))
        training = self.training.model_dump() | {
            "seeds": search.seeds,
            "steps": search.steps,
            "snapshots": 0,
            "evaluate_every": next(steps for steps in range(longest_interval, 0, -1) if search.steps % steps == 0),
            "warmup_steps": min(self.training.warmup_steps, search.steps),
        }
        model, training = (
            section | {key: value for key, value in overrides.items() if key in section}
            for section in (self.model.model_dump(), training)
        )
        ablation = Ablation(
            name=name,
            dataset=search.task,
            task=self.task(search.task, "params.yaml: search.task"),
            model=parse(Model, model, location),
            training=parse(Training, training, location),
        )
        ablation.check_trainable("params.yaml: search")
        return ablation

    def resolved_settings(self) -> dict[str, Any]:
        """Return the experiment as plain values, defaults included; ablations as in the file, without defaults."""
        ablations = {name: overrides.model_dump(exclude_unset=True) for name, overrides in self.ablations.items()}
        return self.model_dump(mode="json") | {"ablations": ablations}

    def check_all_sections(self) -> None:
        """Check the ablations, the comparisons and the search, which depend on several sections.

        Raises:
            UserError: an ablation, a comparison or a combination of values in the search space is not valid.
        """
        self.all_ablations()
        for index, comparison in enumerate(self.comparisons):
            self._check_comparison(comparison, f"params.yaml: comparisons.{index}")
        layered: dict[str, Any] = {name: {} for name in self.search.layer_choices}
        for _, combination in zip(range(MAX_CHECKED_COMBINATIONS), self.search.value_combinations(), strict=False):
            self.trial_ablation(layered | combination)
        if problem := self.search.explain_missing_layers(self.model.layers):
            raise UserError(f"params.yaml: search.space: {problem}")

    def _check_comparison(self, comparison: Comparison, location: str) -> None:
        first = self.ablation(comparison.first, f"{location}.first")
        second = self.ablation(comparison.second, f"{location}.second")
        if first.dataset != second.dataset:
            raise UserError(
                f"{location}: {first.name} learns {first.dataset}, but {second.name} learns {second.dataset}; "
                f"only ablations of one task are compared"
            )
        if comparison.quantity not in (allowed := comparable_quantities(first, second)):
            raise UserError(
                f"{location}.quantity: {comparison.quantity!r} is not defined for {first.dataset} "
                f"(allowed: {', '.join(allowed)})"
            )
        if self.comparisons.count(comparison) > 1 or first.name == second.name:
            raise UserError(f"{location}: {first.name} and {second.name} are compared already, or the same")


def comparable_quantities(first: Ablation, second: Ablation) -> list[ComparedQuantity]:
    """Return the names of the quantities in which two ablations of one task can be compared."""
    score: ComparedQuantity = "test_bits" if first.task.score == BITS else "test_exact_match"
    can_converge = None not in (first.convergence_threshold, second.convergence_threshold)
    return ["restricted_steps", score] if can_converge else [score]


def read(path: Path, params_type: type[Params]) -> Params:
    """Read an experiment from a YAML file, and check all its sections, ablations included.

    Raises:
        UserError: the file is missing, or does not describe a valid experiment; the message is one line.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        hint = f"`git checkout {path}` brings the default back"
        raise UserError(f"{path}: no such file here; run from the project's folder ({hint})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start}), which DVC needs; save it in UTF-8") from None
    except (YAMLError, ValueError, RecursionError) as error:  # also malformed numbers
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise UserError(f"{path}: not valid YAML{line}: {shorten_words(problem)}") from None
    params = parse(params_type, content, str(path))
    params.check_all_sections()
    return params


def round_trip_yaml() -> YAML:
    """Return a reader and writer of YAML that keeps comments and layout."""
    yaml = YAML()
    yaml.width = 1000  # no line is broken
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
