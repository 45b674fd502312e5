"""Shared by all tests: shapes are checked at run time, and two busy thread teams never meet."""

import os
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # heard by what tests start, also if run in the background
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

from jaxtyping import install_import_hook

install_import_hook(["pipeline.transformer", "pipeline.training", "pipeline.measurement"], "beartype.beartype")

from pathlib import Path

import hypothesis
import pytest

from pipeline.params import Model, Params, ResidualFree, Task, Training, read

hypothesis.settings.register_profile("shared machine", deadline=None)  # times are noisy, and not what is tested
hypothesis.settings.load_profile("shared machine")

PRESETS = Path(__file__).parent.parent / "pipeline" / "presets"


@pytest.fixture(scope="session")
def smoke() -> Params:
    """The smoke preset."""
    return read(PRESETS / "smoke.yaml")


def model(**switches: object) -> Model:
    """A small transformer's configuration."""
    small = {
        "layers": 2,
        "heads": 2,
        "width": 16,
        "dropout": 0.0,
        "positional": "none",
        "positional_every_layer": False,
        "attention": "causal",
        "residual_free": ResidualFree(),
        "residual_free_initialisation": "normal",
    }
    return Model.model_validate(small | switches)


def training(**settings: object) -> Training:
    """Short training."""
    short = {
        "seeds": [1, 2],
        "optimizer": "muon",
        "learning_rate": 0.02,
        "adamw_learning_rate": 0.003,
        "betas": (0.9, 0.99),
        "weight_decay": 0.1,
        "gradient_clip": 1.0,
        "schedule": "cosine",
        "warmup_steps": 2,
        "final_learning_rate": 0.1,
        "steps": 8,
        "batch_size": 16,
        "evaluate_every": 4,
        "snapshots": 0,
        "converged_at": 0.99,
        "stop_when_converged": True,
        "loss_on": "answer",
        "accelerator": "cpu",
        "precision": "32-true",
        "deterministic": True,
    }
    return Training.model_validate(short | settings)


def task(**settings: object) -> Task:
    """Two-digit addition, few examples."""
    few = {
        "name": "addition",
        "digits": 2,
        "reverse": True,
        "zero_pad": True,
        "delimiters": False,
        "sampling": "uniform",
        "train_size": 200,
        "validation_size": 50,
        "test_size": 50,
        "seed": 1,
    }
    return Task.model_validate(few | settings)
