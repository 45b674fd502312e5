"""A trained ablation as MLflow loads it (its `loader_module`): prompts in, answers out.

mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.pyfunc.load_model("models:/nope-causal/1").predict(["123+456="])     # ["9750"]
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from pipeline.api import TrainedModel, load


class Served:
    """The first member of an ablation, behind the one method that MLflow calls."""

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    def predict(self, prompts: Iterable[str], params: dict[str, Any] | None = None) -> list[str]:
        """The answers to `prompts`: a list, or a table of one column."""
        return [answer.text for answer in self.model.predict([*np.asarray(prompts, dtype=str).ravel()])]


def _load_pyfunc(folder: str) -> Served:
    """Called by MLflow."""
    return Served(load(folder))
