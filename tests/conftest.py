"""Shared by all tests: shapes are checked at run time, and two busy thread teams never meet."""

import gc
import os
import signal

gc.disable()  # until all is imported, which takes a fifth less time
signal.signal(signal.SIGINT, signal.default_int_handler)  # heard by what tests start, also if run in the background
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where a test wants two, none turns round and round for the other
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

from jaxtyping import install_import_hook

install_import_hook(["pipeline.transformer", "pipeline.training", "pipeline.measurement"], "beartype.beartype")

from pathlib import Path

import hypothesis
import pytest

from pipeline.params import Ablation, Model, Params, Task, Training, read
from pipeline.params import task as params_task

hypothesis.settings.register_profile("shared machine", deadline=None)  # times are noisy, and not what is tested
hypothesis.settings.load_profile("shared machine")

PRESETS = Path(__file__).parent.parent / "pipeline" / "presets"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that are given most time start first, so that no worker begins a long one when the others end."""
    given: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        given[item.path] = max(given.get(item.path, 0), marker.args[0] if marker else 0)
    items.sort(key=lambda item: -given[item.path])


def pytest_collection_finish() -> None:
    """What is imported stays; without this each of statsmodels' corrections would look through all of it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def smoke() -> Params:
    """The smoke preset."""
    return read(PRESETS / "smoke.yaml")


def model(**switches: object) -> Model:
    """A small transformer's configuration, without positional encoding."""
    small = {"layers": 2, "heads": 2, "width": 16, "positional": "none"}
    return Model.model_validate(small | switches)


def training(**settings: object) -> Training:
    """Short training."""
    short = {
        "seeds": [1, 2],
        "learning_rate": 0.02,
        "warmup_steps": 2,
        "steps": 8,
        "batch_size": 16,
        "evaluate_every": 4,
        "accelerator": "cpu",
    }
    return Training.model_validate(short | settings)


def task(**settings: object) -> Task:
    """Two-digit addition, few examples."""
    few = {"name": "addition", "digits": 2, "train_size": 200, "validation_size": 50, "test_size": 50}
    return params_task(few | settings, "task")


def ablation(name: str = "ablation", *, model_: dict[str, object] | None = None, **settings: object) -> Ablation:
    """An ablation of these switches and settings of its training, on `task()`."""
    return Ablation(
        name=name, dataset="addition", task=task(), model=model(**(model_ or {})), training=training(**settings)
    )


def easy(**settings: object) -> Ablation:
    """An ablation that is learned within 60 steps, by some seeds sooner than by others: three digits, answered backwards."""
    sizes = {"train_size": 300, "validation_size": 50, "test_size": 20}
    digits = params_task({"name": "reverse", "digits": 3, **sizes}, "task")
    schedule = {"seeds": [1, 2, 3], "schedule": "constant", "steps": 60, "evaluate_every": 20}
    learned = ablation("easy", model_={"positional": "learned"}, **(schedule | settings))
    return learned.model_copy(update={"task": digits})


def made(project: Path) -> dict[Path, bytes]:
    """What the stages of the grid made of a project, and what DVC says of it."""
    paths = [path for top in ("data", "models", "reports") for path in (project / top).rglob("*") if path.is_file()]
    kept = [path for path in [*paths, project / "dvc.lock"] if "search" not in path.relative_to(project).parts]
    return {path.relative_to(project): path.read_bytes() for path in kept}
