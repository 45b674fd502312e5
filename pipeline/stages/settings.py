"""Stage `settings`: write every setting of each ablation, defaults included; trainings depend on these files."""

import json

from pipeline import files
from pipeline.errors import RunError
from pipeline.params import Ablation, Params
from pipeline.stages import SETTINGS


def run(params: Params) -> None:
    """Write `reports/settings/<ablation>.json` for each ablation."""
    for ablation in params.all_ablations():
        files.write_json(SETTINGS / f"{ablation.name}.json", ablation.model_dump(mode="json"))


def check_unchanged(ablation: Ablation) -> None:
    """Check that an ablation still has the settings that the stage wrote.

    Raises:
        RunError: params.yaml was edited since then.
    """
    path = SETTINGS / f"{ablation.name}.json"
    if not path.exists() or json.loads(path.read_bytes()) != ablation.model_dump(mode="json"):
        raise RunError(f"params.yaml: the settings of {ablation.name} changed while `repro` ran; start it again")
