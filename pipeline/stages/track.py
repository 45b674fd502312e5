"""Command `track`: make the runs in MLflow agree with the files."""

from pipeline.params import Params
from pipeline.stages import EVALUATION, MODELS, TESTED
from pipeline.tracking.ablations import mark_killed_runs, sync_runs
from pipeline.tracking.failures import raise_unreachable
from pipeline.tracking.store import STORE_ERRORS, open_store
from pipeline.training.artifact import CONFIG_FILE


def run(params: Params) -> None:
    """Bring the runs of every trained ablation in MLflow up to date, and print the result for each ablation.

    Runs whose process was killed are marked as killed.

    Raises:
        RunError: MLflow does not answer.
    """
    store = open_store(params.tracking)
    with raise_unreachable(store.uri, STORE_ERRORS):
        mark_killed_runs(store)
        for ablation in params.all_ablations():
            folder, result = MODELS / ablation.name, "not trained yet"
            if (folder / CONFIG_FILE).exists():
                result = sync_runs(store, ablation, folder, EVALUATION / ablation.name / TESTED)
            print(f"{ablation.name}: {result}")
