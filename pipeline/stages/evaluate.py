"""Stage `evaluate`: score the trained models of an ablation on the test split."""

import pandas as pd
import torch

from pipeline import dataset, files, switches
from pipeline.environment import limit_threads
from pipeline.measurement.common.scoring import score_on_test_split
from pipeline.params import Params
from pipeline.stages import DATA, EVALUATION, MODELS, TESTED
from pipeline.tracking.ablations import sync_runs_or_warn
from pipeline.training.artifact import read_artifact_trained_on
from pipeline.training.convergence import Convergence, compute_run_outcomes


def run(params: Params, ablation_name: str) -> None:
    """Score all seeds of an ablation and write `reports/evaluation/<ablation>/evaluation.csv`, one row per seed.

    Raises:
        UserError: there is no such ablation, or its dataset or artifact is missing, altered or of other settings.
    """
    ablation = params.ablation(ablation_name)
    data = dataset.read(DATA / ablation.dataset, ablation.task)
    artifact = read_artifact_trained_on(MODELS / ablation_name, ablation, data)
    trained = artifact.ablation
    outcomes = compute_run_outcomes(artifact.history, Convergence.for_ablation(trained)).set_index("seed")
    rows = []
    for seed in artifact.weights:
        model = artifact.load_model(seed, data.transformer_arguments)
        with torch.inference_mode(), limit_threads(trained.training.threads):
            scores = score_on_test_split(model, data)
        rows.append(
            {"ablation": ablation_name, "seed": seed, "task": trained.dataset, **switches.switch_columns(trained)}
            | {"parameters": artifact.parameter_count}
            | outcomes.loc[[seed]].to_dict("records")[0]
            | scores
        )
    folder = EVALUATION / ablation_name
    with files.replace_folder(folder, subject=artifact.digest) as new:
        files.write_csv(new / TESTED, pd.DataFrame(rows))
    sync_runs_or_warn(params.tracking, ablation, MODELS / ablation_name, folder / TESTED)
