"""Set-up of every test process, and small models, tasks and trainings for all tests.

Array shapes are checked at run time. Each process computes with one thread, so that workers do not compete.
"""

import gc
import os
import shutil
import signal

gc.disable()  # until everything is imported: a fifth faster
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore SIGINT in background jobs and their children
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # in tests with two threads, none spins while it waits
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
# Else tests would write to the store of who runs them, or see that make runs them.
for _name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "MAKELEVEL"):
    os.environ.pop(_name, None)

from jaxtyping import install_import_hook

install_import_hook(
    [f"pipeline.{part}" for part in ("transformer", "training", "measurement", "dataset", "tasks", "params.score")],
    "beartype.beartype",
)

from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock

from pipeline.params import Ablation, Model, Params, Task, Tracking, Training
from pipeline.tasks.registry import parse_task, read_params

hypothesis.settings.register_profile("no deadline", deadline=None)  # a shared machine: times are noisy
hypothesis.settings.load_profile("no deadline")

PRESETS = Path(__file__).parent.parent / "pipeline" / "presets"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with the longest timeout first, so that no worker begins a long one when the others end."""
    timeouts: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        timeouts[item.path] = max(timeouts.get(item.path, 0), marker.args[0] if marker else 0)
    items.sort(key=lambda item: -timeouts[item.path])


def pytest_collection_finish() -> None:
    """Exclude all imported objects from garbage collection, which would search them again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def smoke() -> Params:
    """The smoke preset."""
    return read_params(PRESETS / "smoke.yaml")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store of MLflow without runs, to be copied: creating one takes seconds. Parallel workers share it."""
    from pipeline.tracking.store import create_database

    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mlflow.db"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            create_database(path)
    return path


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Tracking:
    """Settings of an MLflow store without runs, in `tmp_path`."""
    return Tracking(uri=f"sqlite:///{shutil.copy(empty_store, tmp_path)}")


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
    return parse_task(few | settings)


def ablation(name: str = "ablation", *, model_: dict[str, object] | None = None, **settings: object) -> Ablation:
    """An ablation on `task()` with these model switches and training settings."""
    return Ablation(
        name=name, dataset="addition", task=task(), model=model(**(model_ or {})), training=training(**settings)
    )


def easy(**settings: object) -> Ablation:
    """An ablation that learns its task (reverse three digits) within 60 steps, some seeds sooner than others."""
    sizes = {"train_size": 300, "validation_size": 50, "test_size": 20}
    digits = parse_task({"name": "reverse", "digits": 3, **sizes})
    schedule = {"seeds": [1, 2, 3], "schedule": "constant", "steps": 60, "evaluate_every": 20}
    result = ablation("easy", model_={"positional": "learned"}, **(schedule | settings))
    return result.model_copy(update={"task": digits})
